"""What a .tflite file consists of: every operation with the types it reads and writes. Nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

FLOATS = frozenset({"FLOAT32", "FLOAT16", "FLOAT64", "BFLOAT16"})
"""The names of the format's floating types."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its name in the format's schema, and the type of each tensor that it reads and writes."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def floating(self) -> bool:
        """Whether any of its tensors is a floating one."""
        return not FLOATS.isdisjoint((*self.reads, *self.writes))


@cache
def _names(kind: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, kind)).items() if isinstance(value, int)}


def operations(content: bytes) -> tuple[Operation, ...]:
    """List the operations of all subgraphs of a .tflite file, in the order in which they run."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    # Codes above 127 are in the newer field; the older one holds the others in files of old converters.
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    found = []
    for part in model.subgraphs:
        kinds = [_names("TensorType")[tensor.type] for tensor in part.tensors]
        found += [
            Operation(
                _names("BuiltinOperator")[codes[item.opcodeIndex]],
                tuple(kinds[index] for index in item.inputs if index >= 0),
                tuple(kinds[index] for index in item.outputs),
            )
            for item in part.operators
        ]
    return tuple(found)


def counts(found: Sequence[Operation]) -> Counter[str]:
    """How often each operation occurs, with the type it writes: "CONV_2D INT8"."""
    return Counter(f"{item.name} {'/'.join(item.writes)}" for item in found)
