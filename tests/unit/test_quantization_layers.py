"""The error report by layer: against errors computed by hand, and it finds the layer that was spoilt."""

from __future__ import annotations

import numpy as np
import pytest
import small_networks

from edge.core.errors import InputError
from quantization import layers


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.9, 0.9, (n, 16, 16, 3)).astype(np.float32)


FLOAT = small_networks.tflite_network(quantized=False)


def test_the_error_of_each_layer_is_that_of_its_definition() -> None:
    batch = pictures(30)
    rows = layers.compare(FLOAT, small_networks.tflite_network(quantized=True), batch)
    assert [(row.operation, row.name) for row in rows] == [("CONV_2D", "maps"), ("MEAN", "logits")]
    assert rows[0].shape == (1, 2, 2, 6)
    assert rows[0].scale == pytest.approx(small_networks.OUTPUT_SCALE)
    # Rounding to counts of the output alone leaves an error of scale^2 / 12; input and weights add to it.
    maps = small_networks.expected(batch)[1]
    bound = 10 * np.log10(np.mean(maps**2) / (small_networks.OUTPUT_SCALE**2 / 12))
    assert bound - 6 < rows[0].signal_to_noise <= bound + 0.2
    assert rows[0].fall == 0
    assert rows[1].fall == pytest.approx(rows[0].signal_to_noise - rows[1].signal_to_noise)


def test_a_range_that_is_too_narrow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = layers.compare(FLOAT, small_networks.tflite_network(quantized=True), pictures(20))
    monkeypatch.setattr(small_networks, "OUTPUT_SCALE", 0.002)
    bad = layers.compare(FLOAT, small_networks.tflite_network(quantized=True), pictures(20))
    assert bad[0].signal_to_noise < good[0].signal_to_noise - 10
    assert bad[0].range_used == 1.0
    assert layers.worst(bad, 1)[0].operation in {"CONV_2D", "MEAN"}
    assert "maps" in layers.table(bad)


def test_two_networks_that_differ_are_refused() -> None:
    quantized = small_networks.tflite_network(quantized=True)
    assert len(layers.compare(quantized, quantized, pictures(1))) == 2
    with pytest.raises(InputError) as caught:
        layers.compare(_without_mean(FLOAT), quantized, pictures(1))
    assert caught.value.code == "networks-differ"
    with pytest.raises(ValueError, match="no inputs"):
        layers.compare(FLOAT, quantized, pictures(0))


def _without_mean(content: bytes) -> bytes:
    """The network cut behind its convolution."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    graph.operators, graph.outputs = graph.operators[:1], [3]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
