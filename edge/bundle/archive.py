"""A bundle as one file for transport: the same bundle gives the same bytes, and nothing else is taken for one.

The file is a plain tar (POSIX ustar) without compression: `manifest.json` first, then the files that the manifest names
in the order of their names, each with fixed owner, mode and time. Any tar program can open it. Reading is stricter than
tar: a header is accepted only when it is, byte for byte, the one that `write` makes for the expected name, so that
paths, links, devices, sparse files, extended headers and compressed members cannot even be expressed.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from edge.bundle import files, manifest, verify
from edge.bundle.manifest import MANIFEST_FILE, MAX_CARD_BYTES, MAX_GOLDEN_BYTES, MAX_MANIFEST_BYTES, Manifest
from edge.core import durable
from edge.core.errors import BundleError

SUFFIX: Final = ".tar"
MAX_ARCHIVE_BYTES: Final = 1 << 30
"""An archive may be this large; a device asks for no more, whatever the release says."""

_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_END: Final = bytes(2 * _BLOCK)
_AGAIN: Final = "Fetch the bundle again; if it stays so, ask who released it."


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive's SHA-256 in hexadecimal, its size in bytes, and what its manifest states."""

    sha256: str
    size: int
    manifest: Manifest


def file_name(stated: Manifest) -> str:
    """The usual name of a bundle's archive."""
    return f"{stated.name}-{stated.version}{SUFFIX}"


def write(folder: Path, file: Path) -> Archive:
    """Write the bundle in `folder` as the archive `file`, whose bytes depend on the bundle alone.

    Every file is compared with the manifest while it is read; files that the manifest does not name stay behind. Raises
    BundleError for a bundle that is not whole, StoreError when the archive cannot be written (nothing is left then).
    """
    folder, file = Path(folder), Path(file)
    stated = manifest.load(folder)
    verify.require_files(stated, folder)
    sizes = {name: (folder / name).stat().st_size for name in members(stated)}
    total = sum(_BLOCK + _padded(size) for size in sizes.values()) + len(_END)
    if total > MAX_ARCHIVE_BYTES:
        raise _refused(file, f"has {total} bytes, at most {MAX_ARCHIVE_BYTES} are allowed")
    digest = hashlib.sha256()

    def content() -> Iterator[bytes]:
        for chunk in _content(folder, stated, sizes):
            digest.update(chunk)
            yield chunk

    durable.write_chunks(file, content())
    return Archive(digest.hexdigest(), total, stated)


def members(stated: Manifest) -> tuple[str, ...]:
    """The files of a bundle in the order of its archive."""
    named = [variant.file for variant in stated.variants] + [stated.golden.file]
    if stated.model_card is not None:
        named.append(stated.model_card.file)
    return (MANIFEST_FILE, *sorted(named))


def read(file: Path) -> Archive:
    """Look through an archive without unpacking it. Raises BundleError as `unpack` does."""
    return _walk(Path(file), None)


def unpack(file: Path, folder: Path) -> Archive:
    """Unpack the archive `file` into `folder`, which must not exist; every file is on disk when this returns.

    Raises BundleError `archive-invalid` for anything but an archive that `write` makes of a bundle whose files have the
    sizes and hashes that its manifest states; StoreError when `folder` cannot be written. What was written stays for
    the caller to remove.
    """
    try:
        Path(folder).mkdir()
    except OSError as error:
        raise durable.as_store_error(Path(folder), error) from error
    return _walk(Path(file), Path(folder))


def _walk(file: Path, folder: Path | None) -> Archive:
    with files.open_regular(file, MAX_ARCHIVE_BYTES) as stream:
        reader = _Reader(stream, file)
        data = reader.member(MANIFEST_FILE, MAX_MANIFEST_BYTES, keep=True)
        stated = manifest.parse(data, f"{file}: {MANIFEST_FILE}")
        limits, hashes = _expected(stated)
        if folder is not None:
            durable.write_bytes(folder / MANIFEST_FILE, data)
        for name in members(stated)[1:]:
            limit, exact = limits[name]
            target = None if folder is None else folder / name
            reader.check(name, reader.copy(name, limit, exact, target), hashes[name])
        reader.end()
    return Archive(reader.digest.hexdigest(), reader.size, stated)


def _expected(stated: Manifest) -> tuple[dict[str, tuple[int, int | None]], dict[str, str]]:
    """For each file: the most bytes it may have, with its exact size where that is stated; and its hash."""
    limits: dict[str, tuple[int, int | None]] = {
        variant.file: (variant.size, variant.size) for variant in stated.variants
    }
    hashes = {variant.file: variant.sha256 for variant in stated.variants}
    limits[stated.golden.file] = (MAX_GOLDEN_BYTES, None)
    hashes[stated.golden.file] = stated.golden.sha256
    if stated.model_card is not None:
        limits[stated.model_card.file] = (MAX_CARD_BYTES, None)
        hashes[stated.model_card.file] = stated.model_card.sha256
    return limits, hashes


class _Reader:
    """Reads an archive from front to end, and hashes all that it reads."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self._stream = stream
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def _take(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except OSError as error:
            raise _refused(self._file, f"cannot be read ({error.strerror})") from error
        if len(data) != count:
            raise _refused(self._file, f"ends after {self.size + len(data)} bytes, before it is complete")
        self.digest.update(data)
        self.size += count
        return data

    def _header(self, name: str, limit: int, exact: int | None) -> int:
        block = self._take(_BLOCK)
        try:
            size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
        except (tarfile.TarError, ValueError) as error:
            raise _refused(self._file, f"has no file {name} where it should be ({error})") from None
        if not 0 <= size <= limit or (exact is not None and size != exact):
            raise _refused(self._file, f"{name} claims {size} bytes, {exact or f'at most {limit}'} are right")
        if block != _header(name, size):
            raise _refused(self._file, f"the entry for {name} is not as a bundle's archive has it")
        return size

    def _padding(self, size: int) -> None:
        if any(self._take(_padded(size) - size)):
            raise _refused(self._file, "there is something between its files")

    def member(self, name: str, limit: int, *, keep: bool) -> bytes:
        """Read a small member whole."""
        size = self._header(name, limit, None)
        data = self._take(size)
        self._padding(size)
        return data if keep else b""

    def copy(self, name: str, limit: int, exact: int | None, target: Path | None) -> str:
        """Read a member in pieces, into `target` when there is one, and give its SHA-256."""
        size = self._header(name, limit, exact)
        digest = hashlib.sha256()

        def content() -> Iterator[bytes]:
            left = size
            while left:
                chunk = self._take(min(left, _CHUNK))
                left -= len(chunk)
                digest.update(chunk)
                yield chunk

        if target is None:
            for _ in content():
                pass
        else:
            durable.write_chunks(target, content())
        self._padding(size)
        return digest.hexdigest()

    def check(self, name: str, found: str, stated: str) -> None:
        """Refuse a member whose hash is another one."""
        if found != stated:
            raise _refused(self._file, f"SHA-256 of {name} is {found}, the manifest says {stated}")

    def end(self) -> None:
        """Refuse whatever follows the last member."""
        if self._take(len(_END)) != _END:
            raise _refused(self._file, "it holds a file that its manifest does not name")
        if self._stream.read(1):
            raise _refused(self._file, "something follows its end")


def _content(folder: Path, stated: Manifest, sizes: dict[str, int]) -> Iterator[bytes]:
    for name in members(stated):
        yield _header(name, sizes[name])
        with files.open_regular(folder / name, MAX_ARCHIVE_BYTES) as stream:
            yield from _exactly(stream, sizes[name], folder / name)
        yield bytes(_padded(sizes[name]) - sizes[name])
    yield _END


def _exactly(stream: IO[bytes], size: int, path: Path) -> Iterator[bytes]:
    left = size
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise BundleError("bundle-damaged", f"{path} became shorter while it was read.", files.REINSTALL)
        left -= len(chunk)
        yield chunk


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _refused(file: Path | str | os.PathLike[str], fault: str) -> BundleError:
    return BundleError("archive-invalid", f"{file} is not the archive of a bundle: {fault}.", _AGAIN)
