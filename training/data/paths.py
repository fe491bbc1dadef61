"""Names of files that come out of manifests and annotations: they must stay in the folder they were given for."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from edge.core.errors import InputError
from edge.files import display_name

_DRIVE: Final = re.compile(r"^[A-Za-z]:")


def inside(name: str, where: Path) -> str:
    """Give a relative name with forward slashes, as it came from the file `where`.

    Judged by the name alone: a link that the owner of the folder made may point where he likes.
    Raises InputError `outside-folder` for an empty or absolute name and for one that climbs out with `..`.
    """
    # Annotations made on Windows separate folders by backslashes.
    plain = PurePosixPath(*PureWindowsPath(name).parts) if "\\" in name else PurePosixPath(name)
    text = plain.as_posix()
    if text in {"", "."} or "\0" in text or plain.is_absolute() or ".." in plain.parts or _DRIVE.match(text):
        raise InputError(
            "outside-folder",
            f"{display_name(where)} names {display_name(name)!r}, which is no file inside its folder.",
            "Write names relative to the folder, without `..`.",
        )
    return text
