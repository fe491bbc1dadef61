"""The configuration of one generative run, saved in its folder beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.core.errors import UsageError
from edge.core.labels import LABELS
from training.config import RunConfig

_SHRINKS = 8
"""Three layers of stride 2: the resolution is a multiple of this."""


@dataclass(frozen=True, slots=True)
class GanConfig:
    """Everything that decides the result of a run, apart from the images themselves.

    `size` is the network size for which crops are cut, as in `RunConfig`; the generator draws the network's field of
    view, without the context, with `resolution` pixels a side. `sources` names the sources whose training cells are
    learnt from; empty: all that may be trained on. Of the class `scarce` only `kept` cells are learnt from, drawn by
    the seed: a class made rare on purpose, for the ablation.

    `latent` is the length of the noise, `widths` the channels from the finest to the coarsest layer. `averaging` is
    the decay of the moving average of the generator's weights. `augmentation` names the differentiable ones.
    """

    size: int = 64
    resolution: int = 32
    sources: tuple[str, ...] = ()
    scarce: str = ""
    kept: int = 0
    latent: int = 64
    widths: tuple[int, ...] = (32, 64, 128)
    steps: int = 4000
    batch: int = 32
    generator_rate: float = 4e-4
    discriminator_rate: float = 6e-4
    averaging: float = 0.998
    augmentation: tuple[str, ...] = ("colour", "translation", "cutout")
    save_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resolution % _SHRINKS or self.resolution < 2 * _SHRINKS or len(self.widths) != 3:
            raise UsageError(
                "gan-resolution",
                f"A generator of {len(self.widths)} layers cannot draw {self.resolution} pixels.",
                f"Give a multiple of {_SHRINKS} from {2 * _SHRINKS} on, and three widths.",
            )
        if self.scarce and (self.scarce not in LABELS or self.kept < 1):
            raise UsageError(
                "scarce-class",
                f"The class {self.scarce!r} cannot be cut to {self.kept} cells.",
                f"Name one of {', '.join(LABELS)}, and keep at least one cell.",
            )

    @property
    def crops(self) -> RunConfig:
        """The configuration whose cached crops are learnt from."""
        return RunConfig(size=self.size, rendered_share=0.0)

    def save(self, path: Path) -> None:
        """Write the configuration as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> GanConfig:
        """Read what `save` wrote; UsageError `no-generative-run` when there is none."""
        if not path.is_file():
            raise UsageError(
                "no-generative-run",
                f"{path.parent} holds no generative run.",
                "Name the folder that `leuko train gan fit` wrote.",
            )
        values = json.loads(path.read_text(encoding="utf-8"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})
