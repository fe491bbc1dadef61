"""Public sets that can be downloaded, as data: address, published checksum, layout. Licences are in `sources`.

Only addresses that their publisher lists together with a checksum are here: those of BloodMNIST, from the table of the
`medmnist` package, version 3.0.2. All others are downloaded by hand, see docs/data.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from training.data.download import Checksum

_RECORD: Final = "https://zenodo.org/records/10519652/files"


@dataclass(frozen=True, slots=True)
class PublicFile:
    """One file of a public set, the `layout` that reads it, and the most bytes it may have."""

    url: str
    checksum: Checksum
    file: str
    layout: str
    limit: int


def _bloodmnist(file: str, md5: str) -> PublicFile:
    return PublicFile(f"{_RECORD}/{file}?download=1", Checksum("md5", md5), file, "bloodmnist", 4 * 1024**3)


DOWNLOADS: Final = {
    "bloodmnist-28": _bloodmnist("bloodmnist.npz", "7053d0359d879ad8a5505303e11de1dc"),
    "bloodmnist-64": _bloodmnist("bloodmnist_64.npz", "2b94928a2ae4916078ca51e05b6b800b"),
    "bloodmnist-128": _bloodmnist("bloodmnist_128.npz", "adace1e0ed228fccda1f39692059dd4c"),
    "bloodmnist-224": _bloodmnist("bloodmnist_224.npz", "b718ff6835fcbdb22ba9eacccd7b2601"),
}
"""By the name that --download takes; the number is the side of the pictures in pixels."""
