"""Writing outside the durable core: many pictures and large downloads, with the same errors when a disk fails."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from edge.core.errors import StoreError
from edge.files import display_name


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the disk into StoreError `disk-full`, `read-only` or `write-failed`."""
    try:
        yield
    except OSError as error:
        name, reason = display_name(path), error.strerror or str(error)
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StoreError(
                "disk-full", f"No space to write {name}.", "Free space on that disk and run it again: it goes on."
            ) from error
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise StoreError(
                "read-only", f"{name} may not be written ({reason}).", "Choose another folder with --out."
            ) from error
        raise StoreError("write-failed", f"{name} could not be written ({reason}).", "Check the disk.") from error
