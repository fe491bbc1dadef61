"""The cell cut out by the watershed transform, then a convolutional network (the row `Zhang`).

The row is named by its author and its two steps; the published network is not known to us. The watershed finds the
cell's border (`training.peers.regions.by_watershed`), everything outside becomes blank slide, and the plain network of
`training.models.plain_cnn` learns the cut-out cells by the loop and the augmentation that all networks share. What is
not one of the five is learnt as `other`, as by them.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge.core.types import Image
from edge.imaging.flatfield import BLANK
from training.config import RunConfig
from training.data.cells import Cells
from training.peers.learning import Outcome
from training.peers.regions import by_watershed

_LOG = logging.getLogger(__name__)

_PIECE: Final = 1024


def cut_out(crop: Image, size: int) -> Image:
    """Blank whatever is not the cell in the middle, `size` pixels wide, of a crop with context: uint8[S, S, 3]."""
    start = (crop.shape[0] - size) // 2
    middle = np.s_[start : start + size, start : start + size]
    alone = np.full_like(crop, np.uint8(BLANK))
    cell = by_watershed(crop[middle]).cell
    alone[middle][cell] = crop[middle][cell]
    return alone


def cut_out_all(cells: Cells, size: int) -> Cells:
    """Give the same cells, each alone on blank slide."""
    crops = np.empty_like(cells.crops)
    for index, crop in enumerate(cells.crops):
        crops[index] = cut_out(crop, size)
        if (index + 1) % 1000 == 0:
            _LOG.info("cut out %d of %d cells", index + 1, len(cells))
    return replace(cells, crops=crops)


def classify(cells: Cells, config: RunConfig, folder: Path) -> Outcome:
    """Cut out, train in `folder`, and judge every cell. An unfinished training goes on where it stopped."""
    from training import fit
    from training.predictions import predict

    alone = cut_out_all(cells, config.size)
    fit.fit(alone, config, None, folder)
    model, _ = fit.load(folder)
    # In pieces: the inputs of all cells at once would take gigabytes.
    pieces = [
        predict(model, alone.select(np.arange(start, min(start + _PIECE, len(alone)))), config).logits
        for start in range(0, len(alone), _PIECE)
    ]
    return Outcome(np.concatenate(pieces), {"network": asdict(config)})
