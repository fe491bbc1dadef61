"""Where pictures lie, by the SHA-256 of their bytes: a folder, or a bucket of any S3-compatible store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from edge.core import durable
from edge.core.errors import UsageError
from edge.hub.problems import HubError

KEY_ENVIRONMENT: Final = ("LEUKO_HUB_S3_KEY", "LEUKO_HUB_S3_SECRET")
"""The credentials of a bucket come from the environment: a command line is seen by everyone on the machine."""


class ObjectStore(Protocol):
    """Keeps immutable bytes under their hash."""

    def put(self, sha256: str, data: bytes) -> None:
        """Keep the bytes; returns once they are safe. What is there already stays."""

    def get(self, sha256: str) -> bytes:
        """Read the bytes. Raises KeyError when there are none."""

    def names(self) -> Iterator[str]:
        """List the hashes of all that is kept."""

    def check(self) -> None:
        """Raise an error of ours unless the store can be used."""


class FolderStore:
    """Pictures in `FOLDER/ab/abcd...`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, sha256: str, data: bytes) -> None:
        """Keep the bytes; see `ObjectStore`."""
        path = self._path(sha256)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync(path.parent.parent)
        if path.exists():
            # Another worker may have renamed it a moment ago: the name must be on the disk before we say so.
            _sync(path.parent)
        else:
            durable.write_bytes(path, data)

    def get(self, sha256: str) -> bytes:
        """Read the bytes; see `ObjectStore`."""
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise KeyError(sha256) from None

    def names(self) -> Iterator[str]:
        """List the hashes; see `ObjectStore`."""
        for path in sorted(self._folder.glob("??/*")):
            if len(path.name) == 64:
                yield path.name

    def check(self) -> None:
        """See `ObjectStore`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._folder, os.W_OK)
        except OSError:
            writable = False
        if not writable:
            raise HubError(
                "objects-not-writable",
                f"The folder {self._folder} cannot be written.",
                "Give the user that runs the hub the right to write there, or choose another with --objects.",
            )

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


class BucketStore:
    """Pictures in a bucket, by the client `minio`, which speaks to any store with the S3 interface."""

    def __init__(self, host: str, bucket: str, key: str, secret: str, *, secure: bool) -> None:
        try:
            from minio import Minio
        except ImportError:
            raise HubError(
                "extra-missing", "minio is not installed.", "Run: pip install 'leukoscope[hub,s3]'"
            ) from None
        self._client = Minio(host, access_key=key, secret_key=secret, secure=secure)
        self._bucket = bucket

    def put(self, sha256: str, data: bytes) -> None:
        """Keep the bytes; see `ObjectStore`."""
        import io

        self._client.put_object(self._bucket, sha256, io.BytesIO(data), len(data), content_type="image/jpeg")

    def get(self, sha256: str) -> bytes:
        """Read the bytes; see `ObjectStore`."""
        from minio.error import S3Error

        try:
            answer = self._client.get_object(self._bucket, sha256)
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise KeyError(sha256) from None
            raise
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    def names(self) -> Iterator[str]:
        """List the hashes; see `ObjectStore`."""
        for found in self._client.list_objects(self._bucket):
            yield str(found.object_name)

    def check(self) -> None:
        """See `ObjectStore`."""
        try:
            there = self._client.bucket_exists(self._bucket)
        except Exception as error:  # whatever it answers, it cannot be used
            raise HubError(
                "objects-not-writable", f"The bucket cannot be reached: {error}.", "Check --objects and the store."
            ) from error
        if not there:
            raise HubError("objects-not-writable", f"There is no bucket {self._bucket}.", "Make it.")


def open_objects(place: str) -> ObjectStore:
    """Open a folder, or `s3://HOST/BUCKET` with credentials from the environment (`s3+http://`: without TLS).

    Raises UsageError or HubError.
    """
    scheme, separator, rest = place.partition("://")
    if not separator:
        return FolderStore(Path(place).expanduser())
    host, _, bucket = rest.partition("/")
    key, secret = (os.environ.get(name, "") for name in KEY_ENVIRONMENT)
    if scheme not in {"s3", "s3+http"} or not host or not bucket or not key or not secret:
        raise UsageError(
            "objects-unknown",
            f"{place} is not a place for pictures, or its credentials are missing.",
            f"Give a folder, or s3://HOST/BUCKET with {' and '.join(KEY_ENVIRONMENT)} in the environment.",
        )
    return BucketStore(host, bucket, key, secret, secure=scheme == "s3")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
