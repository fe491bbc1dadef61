"""Statistics of the normalisation layers, estimated again at a new site from cells without labels."""

from __future__ import annotations

from typing import Any, Final

import keras

from edge.core.types import FloatArray

SOURCE_CELLS: Final = 256
"""The source's statistics weigh as much as this many cells of the site (N of Schneider et al.; 70 cells then have a
weight of about a fifth). Chosen on the two sites that docs/adapt.md names."""


MOST_CELLS: Final = 300
"""All cells go through the network at once; more would take memory and change nothing."""


def source_share(cells: int, source_cells: float = SOURCE_CELLS) -> float:
    """Weight of the source's statistics, 0..1, beside those of `cells` cells: N / (N + n).

    Schneider et al., Improving robustness against common corruptions by covariate shift adaptation, NeurIPS 2020.
    """
    return source_cells / (source_cells + cells)


class _Reestimating(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras has no types
    """A normalisation that first blends its statistics with those of the batch, then uses and keeps the blend."""

    def __init__(self, source_share: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source_share = source_share

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Apply the layer to all cells of the site at once."""
        axes = [axis for axis in range(len(inputs.shape)) if axis != self.axis % len(inputs.shape)]
        share = self.source_share
        for own, seen in zip(
            (self.moving_mean, self.moving_variance), keras.ops.moments(inputs, axes=axes), strict=True
        ):
            own.assign(share * keras.ops.convert_to_tensor(own) + (1 - share) * seen)
        return super().call(inputs, training=False)


def reestimate(model: keras.Model, inputs: FloatArray, share: float) -> None:
    """Blend the mean and variance of every batch normalisation of `model` with those of `inputs`, in place.

    `inputs` float32[N, S, S, 3] are cells of the site. New statistic: `share` * old + (1 - `share`) * that of the
    cells, each layer seeing what the layers before it, already blended, make of the cells. Raises ValueError when there
    is no cell or the share lies outside 0..1.
    """
    if len(inputs) == 0 or not 0 <= share <= 1:
        raise ValueError(f"cannot blend with {len(inputs)} cells at a share of {share}")

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.BatchNormalization):
            return _Reestimating(share, **layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    blending = keras.models.clone_model(model, clone_function=replaced)
    blending.set_weights(model.get_weights())
    blending(inputs, training=False)
    model.set_weights(blending.get_weights())
