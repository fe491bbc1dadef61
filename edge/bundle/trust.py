"""What this device trusts: a root pinned when it was provisioned, and the newest release that it has accepted.

trust/root.json                               the newest root that the pinned one leads to
trust/timestamp.json, snapshot, targets       the newest release accepted, which no older one may follow
trust/clock.json                              the latest time that a trustworthy clock showed at an update
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from edge.bundle import files
from edge.bundle.framework import ROLES, present
from edge.core import clock, durable
from edge.core.errors import BundleError, UsageError
from edge.core.types import ClockReading

MAX_ROOT_BYTES: Final = 64 << 10
_MAX_METADATA: Final = 1 << 20
_CLOCK_FILE: Final = "clock.json"
_SLACK: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A root: its version, SHA-256, key identifiers, and how many of them must sign the next. `expires` is UTC."""

    version: int
    sha256: str
    keys: tuple[str, ...]
    threshold: int
    expires: datetime


class Trust:
    """The trust kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def pin(self, root: Path, sha256: str = "", *, replace: bool = False) -> Pinned:
        """Trust the root in a file from now on; with `sha256` only if the file has that hash.

        Raises UsageError `already-trusted` when another root is pinned and `replace` is not set; BundleError
        `root-invalid` when the file is no root or is not signed by as many of its own keys as it asks for.
        """
        data = files.read(root, MAX_ROOT_BYTES)
        found = describe(data, str(root))
        if sha256 and found.sha256 != sha256.lower():
            raise BundleError(
                "root-invalid",
                f"{root} has the SHA-256 {found.sha256}, not the one that was given.",
                "Ask those who release for their root and its SHA-256, by two different ways.",
            )
        path = self.folder / "root.json"
        if path.exists() and not replace:
            if files.read(path, MAX_ROOT_BYTES) == data:
                return found
            raise UsageError(
                "already-trusted",
                "This device trusts a root already.",
                "A newer root of the same release is taken over by `leuko model install`; to trust another, --replace.",
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            durable.write_bytes(path, data)
            # What another root's keys have signed is no measure for this one's.
            for role in ROLES[1:]:
                (self.folder / f"{role}.json").unlink(missing_ok=True)
        except OSError as error:
            raise durable.as_store_error(self.folder, error) from error
        return found

    def root(self) -> bytes:
        """The newest trusted root. Raises BundleError `no-trust` when this device has none."""
        path = self.folder / "root.json"
        if not path.exists():
            raise BundleError(
                "no-trust",
                "This device trusts nobody's releases yet.",
                "Get the root of those who release, compare its SHA-256, and run `leuko model trust ROOT`.",
            )
        return files.read(path, MAX_ROOT_BYTES)

    def metadata(self) -> dict[str, bytes]:
        """The newest accepted metadata by role, without the root; what cannot be read is as good as absent."""
        found = {}
        for role in ROLES[1:]:
            try:
                found[role] = files.read(self.folder / f"{role}.json", _MAX_METADATA)
            except BundleError:
                continue
        return found

    def keep_root(self, data: bytes) -> None:
        """Keep a root that the trusted one leads to."""
        if data != self.root():
            durable.write_bytes(self.folder / "root.json", data)

    def keep(self, metadata: Mapping[str, bytes], now: ClockReading) -> None:
        """Keep a release's metadata, in an order in which an interruption leaves nothing that would refuse it."""
        known = self.metadata()
        for role in ROLES[1:]:
            if metadata[role] != known.get(role):
                durable.write_bytes(self.folder / f"{role}.json", metadata[role])
        if now.tier != "unknown" and datetime.fromisoformat(now.wall) > self.latest() + _SLACK:
            durable.write_text(self.folder / _CLOCK_FILE, json.dumps({"schema": 1, "latest": now.wall}) + "\n")

    def latest(self) -> datetime:
        """The latest time that a trustworthy clock showed here at an update."""
        try:
            found = json.loads(files.read(self.folder / _CLOCK_FILE, 4096))
            return max(datetime.fromisoformat(found["latest"]).astimezone(timezone.utc), clock.EARLIEST_PLAUSIBLE)
        except (BundleError, ValueError, KeyError, TypeError):
            return clock.EARLIEST_PLAUSIBLE

    def check_clock(self, now: ClockReading) -> None:
        """Raise BundleError `clock-behind` when the clock cannot be right: nothing would ever seem to have expired."""
        if datetime.fromisoformat(now.wall) < self.latest() - _SLACK:
            raise BundleError(
                "clock-behind",
                f"The clock shows {now.wall}, which is before {self.latest():%Y-%m-%d}: it cannot be told whether a "
                "release has expired.",
                "Set the clock (date -s, or connect to a network), then try again.",
            )


def describe(data: bytes, origin: str) -> Pinned:
    """Read a root that is signed by its own keys. Raises BundleError `root-invalid`."""
    with present():
        from securesystemslib.exceptions import Error as SecuresystemslibError
        from tuf.api.exceptions import RepositoryError
        from tuf.api.metadata import Metadata, Root

    try:
        metadata: Metadata[Root] = Metadata.from_bytes(data)
        root = metadata.signed
        if not isinstance(root, Root):
            raise TypeError("it describes something else")
        root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, SecuresystemslibError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise BundleError(
            "root-invalid", f"{origin} is no root of releases: {error}.", "Get the file N.root.json from who releases."
        ) from None
    signers = root.roles["root"]
    return Pinned(
        root.version, hashlib.sha256(data).hexdigest(), tuple(sorted(signers.keyids)), signers.threshold, root.expires
    )
