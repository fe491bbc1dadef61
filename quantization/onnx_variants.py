"""From a run folder to ONNX files in several precisions, judged before they are written: `leuko quantize onnx`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.core.durable import write_bytes
from edge.core.errors import InputError
from quantization import onnx_export, onnx_graph, onnx_int8, onnx_judge
from quantization.errors import QuantizationError
from quantization.onnx_int8 import Method
from quantization.onnx_judge import Score, Timing
from quantization.tflite import representative_set
from training import fit
from training.data.cells import Cells

if TYPE_CHECKING:
    import onnx

_LOG = logging.getLogger(__name__)

PRECISIONS: Final = ("float32", "float16", "int8")
RECORD_FILE: Final = "onnx.json"
TABLE_FILE: Final = "onnx.md"
CALIBRATION_PER_STRATUM: Final = 12


@dataclass(frozen=True, slots=True)
class Made:
    """One file: its size in bytes, and how far its logits lie from Keras' at most, on the calibration set."""

    precision: str
    file: str
    sha256: str
    size: int
    difference: float


@dataclass(frozen=True, slots=True)
class Record:
    """All that was found of the variants of one run; `refused` says why one was not written."""

    files: tuple[Made, ...]
    refused: dict[str, str]
    calibration: str
    scores: tuple[Score, ...]
    timings: tuple[Timing, ...]

    def text(self) -> str:
        """Give the record as Markdown."""
        lines = ["| precision | file | bytes | largest difference to Keras |", "|---|---|---|---|"]
        lines += [f"| {made.precision} | {made.file} | {made.size} | {made.difference:.3g} |" for made in self.files]
        lines += [f"| {precision} | refused | | {reason} |" for precision, reason in self.refused.items()]
        splits = [
            f"{precision}: {100 * onnx_judge.drop(self.scores, precision, 'validation'):+.2f} points of accuracy lost "
            f"on validation cells, {100 * onnx_judge.drop(self.scores, precision, 'test'):+.2f} on test cells"
            for precision in PRECISIONS[1:]
            if any(score.precision == precision for score in self.scores)
        ]
        return "\n".join(
            [*lines, "", *splits, "", onnx_judge.table(self.scores), "", onnx_judge.timing_table(self.timings)]
        )


def file_name(precision: str) -> str:
    """Name of the file of a precision in the folder of a run's ONNX files."""
    return f"network-{precision}.onnx"


def make(  # noqa: PLR0917  # each is another thing
    run: Path,
    cells: Cells,
    precisions: Sequence[str],
    out: Path,
    method: Method = "percentile",
    rounds: int = onnx_judge.ROUNDS,
) -> Record:
    """Export a run's network, convert it into the other precisions that are asked for, judge all, and write them.

    float32 is always written: it is what the others are measured against. A variant that loses more accuracy than
    `onnx_judge.ALLOWED_DROP` is not written; the record says which class paid. Raises QuantizationError when the export
    itself is not faithful, or not readable for TensorRT.
    """
    model, config = fit.load(run)
    calibration = representative_set(cells, config, CALIBRATION_PER_STRATUM)
    networks: dict[str, onnx.ModelProto] = {"float32": onnx_export.export(model)}
    onnx_export.require_same(model, networks["float32"], calibration)
    if "float16" in precisions:
        networks["float16"] = onnx_export.to_float16(networks["float32"])
    if "int8" in precisions:
        networks["int8"] = onnx_int8.quantize(networks["float32"], calibration, method)
        placed = onnx_graph.require_explicit(networks["int8"])
        _LOG.info("int8: %d convolutions quantized, %d in float", placed.quantized, placed.floating)
    for network in networks.values():
        onnx_graph.require_readable(network)
    sets = onnx_judge.judged_sets(cells, config)
    scores = onnx_judge.judge(networks, sets)
    refused = {
        precision: reason
        for precision in networks
        if precision != "float32" and (reason := onnx_judge.fault(scores, precision)) is not None
    }
    timings = onnx_judge.timings(networks, calibration, rounds)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for precision, network in networks.items():
        if precision in refused:
            (out / file_name(precision)).unlink(missing_ok=True)
            continue
        content = network.SerializeToString(deterministic=True)
        write_bytes(out / file_name(precision), content)
        difference = onnx_export.difference(model, network, calibration)
        files.append(
            Made(precision, file_name(precision), hashlib.sha256(content).hexdigest(), len(content), difference)
        )
    note = f"{len(calibration)} training cells, as many of each class of each source; {method}"
    record = Record(tuple(files), refused, note, tuple(scores), tuple(timings))
    write_bytes(out / RECORD_FILE, (json.dumps(asdict(record), indent=1) + "\n").encode())
    write_bytes(out / TABLE_FILE, (record.text() + "\n").encode())
    return record


def require_all(record: Record) -> None:
    """Raise QuantizationError `costs-too-much` when a variant was refused."""
    if record.refused:
        raise QuantizationError(
            "costs-too-much",
            "; ".join(record.refused.values()) + ".",
            "Try the other --calibration, or ship float16; the figures are in onnx.md.",
        )


def read(folder: Path) -> list[Made]:
    """Read which files `make` has written into a folder. Raises InputError `not-exported`."""
    try:
        values = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return [Made(**item) for item in values["files"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            "not-exported", f"{folder} holds no exported networks ({error}).", "Run `leuko quantize onnx` first."
        ) from error
