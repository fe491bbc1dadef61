"""A reference set on disk: a folder with `control.toml`, and pictures of which it is known what they show.

    name = "Control slide 12"

    [expected]                   # for pictures of whole fields: percent of each class, lowest and highest
    neutrophil = [55, 65]
    lymphocyte = [25, 35]

or, when the pictures show one cell each and lie in folders that are named by their class:

    name = "Reference cells"
    minimum_agreement = 0.9
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from edge.control.judge import MINIMUM_AGREEMENT
from edge.core.errors import UsageError
from edge.core.labels import LABELS, OTHER

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "control.toml"

_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class _Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    expected: dict[str, tuple[_Percent, _Percent]] = {}
    minimum_agreement: Annotated[float, msgspec.Meta(gt=0, le=1)] = MINIMUM_AGREEMENT


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """What is in the folder. With `expected` the pictures are whole fields, else `cells` holds (class, picture)."""

    name: str
    folder: Path
    expected: dict[str, tuple[float, float]]
    minimum_agreement: float
    cells: tuple[tuple[str, Path], ...]


def load(folder: Path) -> ReferenceSet:
    """Read a reference set. Raises `UsageError` `control-set` that says what is wrong with it."""
    path = folder / FILE
    try:
        described = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Description)
    except FileNotFoundError:
        raise _refused(f"There is no {path}", "Write one: see docs/page.md, or leave [control] folder empty") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise _refused(f"{path}: {error}", "Correct it: see docs/page.md") from None
    for label, (low, high) in described.expected.items():
        if label not in LABELS or low > high:
            raise _refused(
                f"{path}: {label} = [{low:g}, {high:g}] is no expected range",
                f"Use {', '.join(LABELS)}, the lower value first",
            )
    cells: list[tuple[str, Path]] = []
    if not described.expected:
        for label in (*LABELS, OTHER):
            if (folder / label).is_dir():
                cells += [(label, found) for found in sorted((folder / label).iterdir()) if found.is_file()]
        if not cells:
            raise _refused(
                f"{folder} has neither expected ranges nor folders of cells",
                f"Add [expected] to {FILE}, or folders named {', '.join(LABELS)}",
            )
    return ReferenceSet(described.name, folder, dict(described.expected), described.minimum_agreement, tuple(cells))


def _refused(message: str, cure: str) -> UsageError:
    return UsageError("control-set", f"{message}.", f"{cure}.")
