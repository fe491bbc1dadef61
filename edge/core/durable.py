"""Files that survive a power cut: a reader sees the previous copy or the new one, complete, and never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge.core.errors import StoreError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8; otherwise as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` by one that holds `data`, and return once the disk has it.

    The data go to a temporary file in the same folder, which is synced and renamed over `path`; then the folder is
    synced. Until the rename any failure leaves the previous copy as it was. Permissions of a previous copy are kept;
    a symbolic link is followed.

    Raises `StoreError` with the code `disk-full`, `read-only`, `missing-folder`, `is-a-folder` or `write-failed`.
    """
    write_chunks(path, (data,))


def write_chunks(path: str | os.PathLike[str], chunks: Iterable[bytes]) -> None:
    """Write what `chunks` yield, for files that are better not held in memory; otherwise as `write_bytes`.

    An error that `chunks` raise passes through, and leaves the previous copy as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        _replace(target, chunks)
    except OSError as error:
        raise as_store_error(target, error) from error


def sync_folder(folder: Path) -> None:
    """Return once the disk has the names in `folder`: those of files made, renamed or removed. Raises `StoreError`."""
    try:
        _sync_folder(folder)
    except OSError as error:
        raise as_store_error(folder, error) from error


def _replace(target: Path, chunks: Iterable[bytes]) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    # The name is not derived from the target's, which may already be as long as a name can be.
    temporary = target.parent / f".leuko-{secrets.token_hex(8)}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.exists():
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync a folder and need not.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def as_store_error(target: Path, error: OSError) -> StoreError:
    """Say what an error of the operating system about `target` means, and its cure."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreError("disk-full", f"No space to write {target}.", "Free space on that disk and run it again.")
    if error.errno in _FORBIDDEN:
        return StoreError(
            "read-only",
            f"{target} may not be written ({reason}).",
            "Give the user that runs this the right to write there, or choose another folder.",
        )
    if error.errno in _MISSING:
        return StoreError(
            "missing-folder", f"The folder {target.parent} does not exist.", "Make it, or choose another folder."
        )
    if error.errno == errno.EISDIR:
        return StoreError("is-a-folder", f"{target} is a folder.", "Choose another name for the file.")
    return StoreError("write-failed", f"{target} could not be written ({reason}).", "Check the disk and its cable.")
