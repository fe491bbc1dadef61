"""Image files on a disk: which ones a user means, and the picture in each.

Names come from people and memory cards: they hold spaces, other scripts, and bytes that are no text at all. Any name
that the system accepts works here, and `display_name` writes it as text that JSON and a terminal can carry.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from edge.core.types import Image

MAX_FILE_BYTES: Final = 512 * 1024 * 1024

PICTURE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif"}
    | {".pnm", ".pbm", ".pgm", ".ppm"}
    | {
        ".heic",
        ".heif",
        ".avif",
        ".jp2",
        ".j2k",
        ".jxl",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
        ".psd",
        ".svs",
        ".ndpi",
        ".dcm",
    }
)
"""Endings by which a folder's pictures are found. The last line cannot be read, and is listed so that such a file is
reported instead of passed over in silence."""

_DIGITS: Final = re.compile(r"(\d+)", re.ASCII)
_UNPRINTABLE: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def display_name(path: Path | str) -> str:
    r"""Write a path as plain text: bytes that are not UTF-8, or that steer a terminal, become `\xff`, `\u202e`."""
    return _UNPRINTABLE.sub(_escaped, os.fspath(path))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def expand(paths: Sequence[Path | str]) -> list[Path]:
    """List the image files that are meant, each once.

    A file stands as given. A folder becomes its pictures, by the ending of their names, in natural order (2 before 10);
    its subfolders and hidden files are left out. A name with `*`, `?` or `[` that is no file is a pattern; `**` is the
    same as `*`. What cannot be expanded (a missing name, an unreadable or empty folder) stays in the list, so that
    `read_image` says what is wrong with it in its turn.

    Raises:
        UsageError: "empty-path" for an empty name, which is what an unset shell variable gives.
    """
    found: dict[str, Path] = {}
    for given in paths:
        if not os.fspath(given):
            raise UsageError("empty-path", "One of the paths is empty.", "Name a picture, a folder or a pattern.")
        for path in _meant(Path(given)):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100  (resolve() would follow links and may loop)
    return list(found.values())


def _meant(path: Path) -> Iterator[Path]:
    text = os.fspath(path)
    if os.path.lexists(text) or not glob.has_magic(text):
        yield from _contents(path)
        return
    matches = sorted((Path(match) for match in glob.iglob(text)), key=natural_order)  # noqa: PTH207  (takes absolute patterns)
    for match in matches:
        yield from _contents(match)
    if not matches:
        yield path


def _contents(path: Path) -> list[Path]:
    if not _is_folder(path):
        return [path]
    try:
        return _pictures(path) or [path]
    except OSError:
        return [path]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _pictures(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES  # noqa: PTH122
            and not _is_folder(folder / entry.name)
        ]
    return sorted((folder / name for name in names), key=natural_order)


def natural_order(path: Path) -> tuple[list[tuple[str, int, str]], str]:
    """Sort key: digits by value, the rest without regard to case, equal names by their exact text."""
    pieces = _DIGITS.split(os.fspath(path))
    key = [("", int(piece), "") if index % 2 else (piece.casefold(), 0, "") for index, piece in enumerate(pieces)]
    return key, os.fspath(path)


def read_image(path: Path | str) -> Image:
    """Read one picture. Never waits for a pipe or a device.

    Returns:
        uint8[H, W, 3], BGR, 0-255, upright.

    Raises:
        InputError: with code "not-found", "broken-link", "is-a-folder", "empty-folder", "permission-denied",
            "not-a-file", "read-failed" or "too-large", or one of `edge.imaging.decode.decode`.
    """
    from edge.imaging.decode import decode

    return decode(read_file(Path(path)))


def read_file(path: Path) -> bytes:
    """Read the bytes of an image file, at most `MAX_FILE_BYTES`; what does not start as an image is not read further.

    Raises `InputError` as `read_image` does.
    """
    from edge.imaging.formats.inspection import HEAD_LENGTH, recognise

    name = display_name(path)
    try:
        _check_regular(path, name, path.stat())
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _check_regular(path, name, os.fstat(descriptor))
            head = _read(file.fileno(), HEAD_LENGTH)
            recognise(head)
            data = head + _read(file.fileno(), MAX_FILE_BYTES + 1 - len(head)) if len(head) == HEAD_LENGTH else head
    except (OSError, ValueError) as error:
        raise _unreadable(path, name, error) from error
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(name)
    return data


def _read(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(descriptor, min(limit, 1 << 24))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _check_regular(path: Path, name: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _folder_error(path, name)
    if not stat.S_ISREG(status.st_mode):
        raise InputError("not-a-file", f"{name} is a device or a pipe, not a file.", "Name a picture file.")
    if status.st_size > MAX_FILE_BYTES:
        raise _too_large(name)


def _too_large(name: str) -> InputError:
    limit = MAX_FILE_BYTES // (1024 * 1024)
    return InputError(
        "too-large",
        f"{name} is larger than {limit} MiB.",
        "Export single fields of view, not the whole slide.",
    )


def _folder_error(path: Path, name: str) -> InputError:
    try:
        empty = not _pictures(path)
    except PermissionError:
        return _denied(name, "folder")
    except OSError as error:
        return InputError("read-failed", f"{name} cannot be read: {error.strerror}.", "Check the memory card or disk.")
    if empty:
        return InputError(
            "empty-folder", f"The folder {name} holds no pictures.", "Name the folder that the pictures lie in."
        )
    return InputError("is-a-folder", f"{name} is a folder, not a picture.", "Name the pictures in it.")


def _denied(name: str, kind: str) -> InputError:
    return InputError(
        "permission-denied",
        f"The {kind} {name} may not be read by this user.",
        f"Ask its owner for the right to read it, or give it with: chmod a+rX {shlex.quote(name)}",
    )


def _unreadable(path: Path, name: str, error: OSError | ValueError) -> InputError:
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code == errno.ELOOP or (code == errno.ENOENT and os.path.lexists(path)):
        return InputError(
            "broken-link",
            f"{name} is a link to something that does not exist.",
            "Copy the picture itself, not the link to it.",
        )
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return InputError("not-found", f"There is no file {name}.", "Check the name, and that the card is plugged in.")
    if code in (errno.EACCES, errno.EPERM):
        return _denied(name, "file")
    if code in (errno.ENXIO, errno.EAGAIN):
        return InputError("not-a-file", f"{name} is a device or a pipe, not a file.", "Name a picture file.")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InputError(
        "read-failed",
        f"{name} cannot be read: {reason}.",
        "The memory card or disk may be failing: copy its files to another one now.",
    )
