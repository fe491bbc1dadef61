"""The same network with other numbers inside: the channels between two blocks brought to one width before rounding.

A linear projection has no bound, so in an int8 file its widest channel sets the scale for all of them, and the narrow
ones are left with a few counts. Dividing such a channel by a factor and multiplying the next convolution's weights by
it changes nothing in floating point: what lies between is linear. (Nagel et al., "Data-free quantization through weight
equalization and bias correction", ICCV 2019, do this across activations without a bound; ReLU6 has one, so that here
only the linear ends of the blocks are treated, all maps that meet in a sum with one factor per channel.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.core.types import FloatArray
from quantization.description import Node, describe

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Group:
    """Maps of the same channels that meet in sums: the normalisations that write them, all names, and who reads."""

    writers: tuple[str, ...]
    maps: tuple[str, ...]
    readers: tuple[str, ...]


def groups(nodes: Sequence[Node]) -> tuple[Group, ...]:
    """Find the linear maps: written by normalised convolutions or sums, read by convolutions or sums alone."""
    kinds = {node.name: node.kind for node in nodes}
    readers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for node in nodes:
        for name in node.inputs:
            readers[name].append(node.name)
    group_of = {node.name: {node.name} for node in nodes}
    for node in nodes:
        if node.kind == "Add":
            merged = set().union(group_of[node.name], *(group_of[name] for name in node.inputs))
            for name in merged:
                group_of[name] = merged
    found = []
    for number, node in enumerate(nodes):
        members = group_of[node.name]
        if any(earlier.name in members for earlier in nodes[:number]):
            continue
        writers = [other.name for other in nodes if other.name in members and other.kind == "BatchNormalization"]
        sources = [other.inputs[0] for other in nodes if other.name in writers]
        read_by = [reader for name in sorted(members) for reader in readers[name]]
        linear = (
            all(kinds[name] in {"BatchNormalization", "Add"} for name in members)
            and all(kinds[name] == "Conv2D" and len(readers[name]) == 1 for name in sources)
            and all(kinds[name] in {"Conv2D", "Add"} for name in read_by)
        )
        consumers = tuple(name for name in read_by if kinds[name] == "Conv2D")
        if linear and writers and consumers:
            found.append(Group(tuple(writers), tuple(sorted(members)), consumers))
    return tuple(found)


def equalise(model: keras.Model, inputs: FloatArray, strength: float = 1.0) -> keras.Model:
    """Give a copy that says the same in floating point, with the linear channels brought to one width.

    `inputs` float32[N, S, S, 3] show how wide each channel is: the largest absolute value of it in all maps of a group.
    `strength` 1 brings all to the same width, 0 changes nothing. Raises QuantizationError `layer-not-supported` for a
    network that cannot be described.
    """
    import keras

    found = groups(describe(model).nodes)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    if not found:
        return copy
    maps = keras.Model(model.input, {name: model.get_layer(name).output for group in found for name in group.maps})
    widths: dict[str, npt.NDArray[np.float64]] = {}
    for start in range(0, len(inputs), 32):
        for name, values in maps.predict_on_batch(inputs[start : start + 32]).items():
            widest = np.abs(np.asarray(values, np.float64)).max(axis=(0, 1, 2))
            widths[name] = np.maximum(widths.get(name, 0.0), widest)
    for group in found:
        width = np.max([widths[name] for name in group.maps], axis=0)
        _rescale(copy, group, factors(width, strength))
    return copy


def factors(width: npt.NDArray[np.float64], strength: float) -> FloatArray:
    """Give what each channel is divided by, float32[C], geometric mean 1; a channel that is always zero keeps 1."""
    used = width > 0
    logarithm = np.zeros(len(width))
    logarithm[used] = np.log(width[used])
    logarithm[used] -= logarithm[used].mean() if used.any() else 0.0
    return np.exp(strength * logarithm).astype(np.float32)


def _rescale(model: keras.Model, group: Group, factor: FloatArray) -> None:
    for name in group.writers:
        layer = model.get_layer(name)
        gamma, beta, *statistics = layer.get_weights()
        layer.set_weights([gamma / factor, beta / factor, *statistics])
    for name in group.readers:
        layer = model.get_layer(name)
        kernel, *bias = layer.get_weights()
        layer.set_weights([kernel * factor[:, None], *bias])
