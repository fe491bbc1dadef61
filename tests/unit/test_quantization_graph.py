"""What a .tflite file consists of: the shipped one has no floating operation left."""

from __future__ import annotations

from pathlib import Path

import small_networks

from quantization import graph

ALLOWED = {
    "ADD",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "LOGISTIC",
    "MEAN",
    "MUL",
    "PAD",
    "QUANTIZE",
    "REDUCE_MAX",
    "RESHAPE",
}
"""Operations with an int8 kernel in LiteRT and in tflite-runtime 2.14."""


def shipped(root: Path) -> bytes:
    return (root / "edge" / "shipped" / "wbc-student" / "student-int8.tflite").read_bytes()


def test_every_operation_of_the_shipped_network_is_int8(root: Path) -> None:
    found = graph.operations(shipped(root))
    assert len(found) > 60
    assert {item.name for item in found} <= ALLOWED
    for item in found:
        assert set(item.writes) == {"INT8"}, item
        # The biases and the axes and shapes of an operation are 32 bits wide.
        assert set(item.reads) <= {"INT8", "INT32"}, item
        assert item.reads[0] == "INT8", item
        assert not item.floating


def test_the_attention_is_in_the_shipped_network(root: Path) -> None:
    counted = graph.counts(graph.operations(shipped(root)))
    assert counted["LOGISTIC INT8"] == 2
    assert counted["REDUCE_MAX INT8"] == 2
    assert counted["MUL INT8"] == 2


def test_the_reader_agrees_with_the_interpreter(root: Path, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=shipped(root), experimental_op_resolver_type=plain)
    names = [item["op_name"] for item in interpreter._get_ops_details()]
    assert [item.name for item in graph.operations(shipped(root))] == names


def test_a_float_network_is_seen_as_one() -> None:
    floating = graph.operations(small_networks.tflite_network(quantized=False))
    assert [(item.name, item.floating) for item in floating] == [("CONV_2D", True), ("MEAN", True)]
    assert floating[0].reads == ("FLOAT32", "FLOAT32", "FLOAT32")
    assert not any(item.floating for item in graph.operations(small_networks.tflite_network(quantized=True)))
