"""Pictures as they arrive: several in one body, or one in parts that go on after a cut."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import sqlalchemy as sa

from edge.hub import ingest, tables, times
from edge.hub.core import Device, Hub
from edge.hub.problems import RefusedError
from edge.sync import messages
from edge.sync.messages import MAX_PICTURE_BYTES, PictureAnswer, PicturesReceived

PARTS_KEPT_DAYS: Final = 7
_JPEG: Final = b"\xff\xd8\xff"

_parts = tables.picture_parts
_pictures = tables.pictures


def which_missing(hub: Hub, device: Device, hashes: tuple[str, ...]) -> PictureAnswer:
    """Name those that the device has not sent."""
    with hub.database.read() as connection:
        return PictureAnswer(ingest.missing(connection, device.id, hashes))


def receive_several(hub: Hub, device: Device, body: bytes) -> PicturesReceived:
    """Keep every picture of a body that arrived whole and is what it says."""
    held: list[str] = []
    refused: list[str] = []
    for stated, data in messages.unpack(body):
        if data.startswith(_JPEG) and messages.sha256(data) == stated:
            hub.objects.put(stated, data)
            held.append(stated)
            sizes = {"device_id": device.id, "sha256": stated, "bytes": len(data), "received": times.now()}
            with hub.database.write() as connection:
                hub.database.insert_missing(connection, _pictures, sizes)
        else:
            refused.append(stated)
    return PicturesReceived(tuple(dict.fromkeys(held)), tuple(dict.fromkeys(refused)))


def offset(hub: Hub, device: Device, sha256: str) -> tuple[int, bool]:
    """Tell how many bytes of a picture are here, and whether it is whole. Raises RefusedError 404 for none."""
    with hub.database.read() as connection:
        size = connection.scalar(
            sa.select(_pictures.c.bytes).where(_pictures.c.device_id == device.id, _pictures.c.sha256 == sha256)
        )
        if size is not None:
            return int(size), True
        begun = connection.scalar(
            sa.select(_parts.c.offset).where(_parts.c.device_id == device.id, _parts.c.sha256 == sha256)
        )
    if begun is None:
        raise RefusedError(404, "not-found", "Nothing of this picture is here.")
    return int(begun), False


class Upload:
    """One part of a picture, being received: `write` each chunk, then `keep` what is on disk and `finish` the whole.

    Holds a lock on the picture, so that two requests for it do not write into each other.
    """

    def __init__(  # noqa: PLR0917  # in the order of the request
        self, hub: Hub, device: Device, sha256: str, first: int, last: int, total: int
    ) -> None:
        if not 0 <= first <= last < total or total > MAX_PICTURE_BYTES:
            raise RefusedError(400, "range-invalid", "The Content-Range is not one.", "See docs/sync-protocol.md.")
        self._hub, self._device, self._sha256 = hub, device, sha256
        self._first, self._last, self._total = first, last, total
        self._at = first
        self._file: BinaryIO | None = None

    def open(self) -> bool:
        """Get ready to write; False when the picture is whole already. Raises RefusedError `other-offset` or `busy`."""
        with contextlib.suppress(RefusedError):
            if offset(self._hub, self._device, self._sha256)[1]:
                return False
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError(
                    503, "busy", "Another request is sending this picture.", "Try again.", retry_after=1
                ) from None
            try:
                held, whole = offset(self._hub, self._device, self._sha256)
            except RefusedError:
                held, whole = 0, False
            if whole:
                self.close()
                return False
            if held != self._first:
                raise RefusedError(409, "other-offset", f"Go on from byte {held}.", offset=held)
            # What lies behind the offset was never promised to anyone.
            self._file.truncate(held)
            self._file.seek(held)
        except BaseException:
            self.close()
            raise
        return True

    def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises RefusedError when more come than the range says."""
        file = self._opened
        if self._at + len(chunk) > self._last + 1:
            raise RefusedError(400, "range-invalid", "The body is longer than its Content-Range.")
        file.write(chunk)
        self._at += len(chunk)

    def keep(self) -> int:
        """Put what was written on the disk, and only then count it; returns the offset."""
        file = self._opened
        file.flush()
        os.fsync(file.fileno())
        key = {"device_id": self._device.id, "sha256": self._sha256}
        values = {"total": self._total, "offset": self._at, "touched": times.now()}
        with self._hub.database.write() as connection:
            self._hub.database.insert_missing(connection, _parts, {**key, **values})
            connection.execute(
                _parts.update().where(_parts.c.device_id == self._device.id, _parts.c.sha256 == self._sha256), values
            )
        return self._at

    def finish(self) -> bool:
        """Check and keep the whole picture once its last byte is here; False while it is not.

        Raises RefusedError `other-hash`, having dropped what there was.
        """
        file = self._opened
        if self._at < self._total:
            return False
        file.seek(0)
        data = file.read()
        right = data.startswith(_JPEG) and messages.sha256(data) == self._sha256
        if right:
            self._hub.objects.put(self._sha256, data)
        with self._hub.database.write() as connection:
            if right:
                sizes = {"device_id": self._device.id, "sha256": self._sha256, "bytes": len(data)}
                self._hub.database.insert_missing(connection, _pictures, {**sizes, "received": times.now()})
            connection.execute(
                _parts.delete().where(_parts.c.device_id == self._device.id, _parts.c.sha256 == self._sha256)
            )
        self._path.unlink(missing_ok=True)
        if not right:
            raise RefusedError(422, "other-hash", "The bytes are no JPEG, or have another hash.", offset=0)
        return True

    def close(self) -> None:
        """Let the picture go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("The upload is not open.")
        return self._file

    @property
    def _path(self) -> Path:
        return self._hub.parts / self._device.id / self._sha256


def drop_old_parts(hub: Hub) -> int:
    """Drop the parts that nobody went on with for a week; returns how many."""
    dropped = 0
    for device, sha256 in _old_parts(hub):
        with hub.database.write() as connection:
            connection.execute(_parts.delete().where(_parts.c.device_id == device, _parts.c.sha256 == sha256))
        (hub.parts / device / sha256).unlink(missing_ok=True)
        dropped += 1
    return dropped


def _old_parts(hub: Hub) -> Iterator[tuple[str, str]]:
    with hub.database.read() as connection:
        query = sa.select(_parts.c.device_id, _parts.c.sha256).where(_parts.c.touched < times.ago(days=PARTS_KEPT_DAYS))
        yield from [(row.device_id, row.sha256) for row in connection.execute(query)]
