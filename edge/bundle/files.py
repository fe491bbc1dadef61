"""Reading the files of a bundle without trusting them: plain names, regular files, capped sizes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge.core.errors import BundleError

REINSTALL = "Install the bundle again, or name another one: `bundle` in the configuration, or LEUKO_BUNDLE."
_CHUNK = 1 << 20


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading.

    Opened without blocking and judged by its descriptor, so that a pipe or a device put in a file's place neither hangs
    nor feeds the reader. Raises BundleError when the file is missing, not readable, not regular, or too large.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError("bundle-file-missing", f"{path} does not exist.", REINSTALL) from None
    except (OSError, ValueError) as error:
        raise BundleError("bundle-file-unreadable", f"{path} cannot be read: {error}.", REINSTALL) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise BundleError("bundle-file-unreadable", f"{path} is not a regular file.", REINSTALL)
    if found.st_size > limit:
        os.close(descriptor)
        raise BundleError(
            "bundle-file-too-large", f"{path} has {found.st_size} bytes, at most {limit} are allowed.", REINSTALL
        )
    return os.fdopen(descriptor, "rb")


def read(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises BundleError as `open_regular` does."""
    with open_regular(path, limit) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise BundleError("bundle-file-too-large", f"{path} grew beyond {limit} bytes while it was read.", REINSTALL)
    return data


def digest(path: Path, limit: int) -> tuple[str, int]:
    """SHA-256 in hexadecimal and size in bytes of a regular file. Raises BundleError as `open_regular` does."""
    total = hashlib.sha256()
    size = 0
    with open_regular(path, limit) as stream:
        while chunk := stream.read(_CHUNK):
            total.update(chunk)
            size += len(chunk)
    return total.hexdigest(), size


def chunks(path: Path, limit: int) -> Iterator[bytes]:
    """Yield a regular file of at most `limit` bytes in pieces. Raises BundleError as `open_regular` does."""
    size = 0
    with open_regular(path, limit) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise BundleError("bundle-file-too-large", f"{path} grew beyond {limit} bytes.", REINSTALL)
            yield chunk
