"""The device's side of The Update Framework: which bundle is released for this device, fetched and verified."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge.bundle import archive, device
from edge.bundle.framework import CUSTOM_SCHEMA, METADATA, ROLES, TARGETS, present
from edge.bundle.manifest import DeviceClass, Name, Sha256, Version
from edge.bundle.trust import MAX_ROOT_BYTES, Trust
from edge.core import clock
from edge.core.errors import BundleError
from edge.core.types import ClockReading

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface

DEADLINE_SECONDS: Final = 900.0
"""How long an update over a network may take: a megabyte at a kilobyte a second still fits."""

_LIMITS: Final = {
    "max_root_rotations": 64,
    "root_max_length": MAX_ROOT_BYTES,
    "timestamp_max_length": 16 << 10,
    "snapshot_max_length": 64 << 10,
    "targets_max_length": 1 << 20,
}


class _Custom(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the signed list of targets says of an archive."""

    schema: int
    name: Name
    version: Version
    manifest_sha256: Sha256
    device_classes: tuple[DeviceClass, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: a bundle's name, a version, and the class of this device.

    Without a version it is the highest that is released for this device and follows `newer_than`, if that is given.
    """

    name: str
    version: str
    device_class: str
    newer_than: str = ""

    def follows(self, version: str) -> bool:
        """Whether a version is worth fetching: the one that is named, or one later than `newer_than`."""
        return bool(self.version) or not self.newer_than or precedence(version) > precedence(self.newer_than)


@dataclass(frozen=True, slots=True)
class Release:
    """A released bundle, as the signed metadata describe it. `file` holds its archive, already compared with them.

    `file` is None when the bundle was known already.
    """

    name: str
    version: str
    manifest_sha256: str
    archive_sha256: str
    file: Path | None
    metadata: Mapping[str, bytes]

    @property
    def identity(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def fetch(
    source: str,
    wanted: Wanted,
    trust: Trust,
    staging: Path,
    *,
    deadline: float = DEADLINE_SECONDS,
    now: ClockReading | None = None,
    known: frozenset[str] = frozenset(),
    ca_file: str = "",
) -> Release:
    """Fetch the wanted bundle from a repository, a folder or an http(s) URL, into the folder `staging`.

    It is not downloaded when its manifest's SHA-256 is one of `known`, or it is no later than asked for. Every byte is
    verified against the trusted root before it counts. A newer root that is properly signed is kept at once; the other
    metadata are for the caller to keep (`Trust.keep`) when the bundle itself has turned out to be sound, so that a
    release that is refused changes nothing. `ca_file` is a PEM file with a web server's own certificate authority.

    Raises BundleError with a code that says why, among them `signature-invalid`, `release-expired`,
    `release-rollback`, `release-altered`, `release-too-large`, `release-too-slow`, `wrong-device-class`.
    """
    now = clock.read() if now is None else now
    trust.check_clock(now)
    root = trust.root()
    with (
        present(),
        tempfile.TemporaryDirectory(dir=staging, prefix="metadata-") as made,
        _translated(source, now),
    ):
        from tuf.ngclient import Updater, UpdaterConfig

        folder = Path(made)
        for role, data in trust.metadata().items():
            (folder / f"{role}.json").write_bytes(data)
        fetcher, base = _source(source, deadline, ca_file)
        updater = Updater(
            str(folder),
            f"{base}/{METADATA}/",
            target_base_url=f"{base}/{TARGETS}/",
            fetcher=fetcher,
            config=UpdaterConfig(**_LIMITS),  # type: ignore[arg-type]
            bootstrap=root,
        )
        try:
            updater.refresh()
        finally:
            trust.keep_root((folder / "root.json").read_bytes())
        target, custom = _choose(folder, wanted)
        file = None
        if custom.manifest_sha256 not in known and wanted.follows(custom.version):
            file = staging / "download.tar"
            updater.download_target(target, str(file))
        metadata = {role: (folder / f"{role}.json").read_bytes() for role in ROLES[1:]}
    return Release(
        custom.name, custom.version, custom.manifest_sha256, target.hashes["sha256"], file, MappingProxyType(metadata)
    )


def _source(source: str, deadline: float, ca_file: str) -> tuple[FetcherInterface, str]:
    from edge.bundle.fetch import SCHEME, FolderFetcher, WebFetcher

    if re.match(r"https?://", source):
        return WebFetcher(deadline, ca_file), source.rstrip("/")
    folder = Path(source).expanduser()
    if not (folder / METADATA).is_dir():
        raise BundleError(
            "no-release-repository",
            f"{source} is not a repository of releases: it has no folder {METADATA}.",
            "Name the folder that `leuko model release` made, or its http(s) address.",
        )
    return FolderFetcher(folder), SCHEME.rstrip("/") + "/"


def _choose(folder: Path, wanted: Wanted) -> tuple[TargetFile, _Custom]:
    """Find the wanted bundle in the list that was just verified."""
    from tuf.api.metadata import Metadata, Targets

    listed: Metadata[Targets] = Metadata.from_file(str(folder / "targets.json"))
    named = []
    for target in listed.signed.targets.values():
        custom = _custom(target)
        if custom is not None and custom.name == wanted.name and wanted.version in {"", custom.version}:
            named.append((target, custom))
    identity = f"{wanted.name}@{wanted.version}" if wanted.version else wanted.name
    if not named:
        raise BundleError("not-released", f"{identity} is not released there.", "Ask those who release.")
    fitting = [found for found in named if device.suits(found[1].device_classes, wanted.device_class)]
    if not fitting:
        classes = sorted({name for _, custom in named for name in custom.device_classes})
        raise BundleError(
            "wrong-device-class",
            f"{identity} is for {', '.join(classes)}; this device is {wanted.device_class}.",
            "Install a bundle for this device, or correct its profile (`leuko device show`).",
        )
    target, custom = max(fitting, key=lambda found: precedence(found[1].version))
    if target.length > archive.MAX_ARCHIVE_BYTES:
        raise BundleError("release-too-large", f"{identity} has {target.length} bytes.", "Ask those who release.")
    return target, custom


def _custom(target: TargetFile) -> _Custom | None:
    """Read what is said of a target; one that is of another kind, or of a later schema, is passed over."""
    try:
        found = msgspec.convert(target.custom, _Custom)
    except msgspec.ValidationError:
        return None
    return found if found.schema == CUSTOM_SCHEMA and "sha256" in target.hashes else None


def precedence(version: str) -> tuple[Any, ...]:
    """Order of versions as in Semantic Versioning 2.0.0, section 11; build metadata decide where all else is equal."""
    core, plus, build = version.partition("+")
    numbers, minus, label = core.partition("-")
    parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in label.split("."))
    return (*map(int, numbers.split(".")), not minus, parts if minus else (), bool(plus), build)


@contextlib.contextmanager
def _translated(source: str, now: ClockReading) -> Iterator[None]:
    """Put what The Update Framework refuses into errors of ours."""
    from tuf.api import exceptions

    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise _expired(source, str(error), now) from error
    except exceptions.UnsignedMetadataError as error:
        raise _refused("signature-invalid", source, f"too few valid signatures ({error})") from error
    except exceptions.BadVersionNumberError as error:
        why = f"it is older than what this device has accepted, or mixed from several releases ({error})"
        raise _refused("release-rollback", source, why) from error
    except exceptions.LengthOrHashMismatchError as error:
        raise _refused("release-altered", source, f"a file is not the one that was signed ({error})") from error
    except exceptions.DownloadLengthMismatchError as error:
        raise _refused("release-too-large", source, f"a file does not end where it should ({error})") from error
    except exceptions.SlowRetrievalError as error:
        raise _unreachable("release-too-slow", source, str(error) or "no data came") from error
    except exceptions.DownloadHTTPError as error:
        raise _unreachable("release-incomplete", source, str(error)) from error
    except exceptions.DownloadError as error:
        raise _unreachable("release-unreachable", source, f"{error} {error.__cause__ or ''}".strip()) from error
    except exceptions.RepositoryError as error:
        raise _refused("release-damaged", source, str(error)) from error


def _refused(code: str, source: str, why: str) -> BundleError:
    return BundleError(
        code,
        f"The release in {source} is refused: {why}. Nothing was changed.",
        "Get a fresh copy from those who release; if it stays so, tell them.",
    )


def _unreachable(code: str, source: str, why: str) -> BundleError:
    return BundleError(code, f"{source}: {why}. Nothing was changed.", "Check the network or the stick, and try again.")


def _expired(source: str, why: str, now: ClockReading) -> BundleError:
    doubt = {
        "unknown": "which nothing vouches for: a wrong clock may be the cause",
        "rtc": "as its hardware clock does; if that is wrong, it may be the cause",
        "network": "which a time server or a satellite confirms",
    }[now.tier]
    return BundleError(
        "release-expired",
        f"The release in {source} is refused: {why}. This device's clock shows {now.wall}, {doubt}. "
        "Nothing was changed.",
        "Check the date of this device; if it is right, get a newer copy of the release.",
    )
