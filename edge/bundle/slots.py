"""Two slots for installed bundles, beside the one that comes with the package.

    models/state.json    which slot is active; replaced whole, so that every switch is one rename
    models/slots/a, b    two installed bundles
    models/staging/      what is being installed; swept when the next installation begins
    models/trust/        see `edge.bundle.trust`
    models/attempts/     analyses under way with a bundle on probation; see `edge.bundle.probation`

A slot is only filled while nothing refers to it, and only referred to once it is filled: whenever the power fails, the
state names a bundle that is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edge.bundle import envelope, find, manifest, state, verify
from edge.bundle.manifest import Manifest
from edge.bundle.state import SLOTS, Slot, SlotRecord, State
from edge.bundle.trust import Trust
from edge.core import durable
from edge.core.errors import BundleError, StoreError
from edge.core.types import BundleOrigin

Trial = Callable[[Path], None]
"""Proves the bundle in a folder on this device, with this runtime; raises BundleError when it fails."""

PROBATION: Final = 10
"""Analyses that a new bundle has to do without a failure before it is believed."""


@dataclass(frozen=True, slots=True)
class InUse:
    """A bundle's folder and where its trust is from. `slot` is None for the bundle of the package."""

    folder: Path
    origin: BundleOrigin
    slot: Slot | None = None


class Slots:
    """The slots in a folder; they are read anew each time, since several processes use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.trust = Trust(self.folder / "trust")
        self.staging = self.folder / "staging"
        self._state_file = self.folder / "state.json"

    def load(self) -> State:
        """The present state. Raises BundleError `slots-damaged`."""
        return state.load(self._state_file)

    def save(self, changed: State) -> None:
        """Replace the state: the one step by which anything becomes active. Raises StoreError."""
        state.save(self._state_file, changed)

    def place(self, slot: Slot | None) -> InUse:
        """Where the bundle of a slot lies."""
        if slot is None:
            return InUse(find.default(), "shipped")
        return InUse(self.folder / "slots" / slot, "signed", slot)

    def in_use(self) -> InUse:
        """The active bundle: that of the package when nothing else is active, or when the state is damaged."""
        return self.place(self.active_slot())

    def active_slot(self) -> Slot | None:
        """The active slot; None when there is none, or the state is damaged."""
        with contextlib.suppress(BundleError):
            return self.load().active
        return None

    def candidates(self) -> Iterator[InUse]:
        """What may be used, best first: the active bundle, the previous one, that of the package."""
        order: tuple[Slot | None, ...] = (None,)
        with contextlib.suppress(BundleError):
            found = self.load()
            order = (found.active, found.previous, None)
        for slot in dict.fromkeys(order):
            yield self.place(slot)

    def check(self, slot: Slot) -> Manifest:
        """Read the manifest of a slot, whose files must be those that were installed. Raises BundleError."""
        folder, record = self.place(slot).folder, self.load().record(slot)
        found = manifest.load(folder)
        if record is None or found.sha256 != record.manifest_sha256:
            raise BundleError(
                "bundle-damaged", f"{folder} does not hold what was installed there.", "Install the bundle again."
            )
        verify.require_files(found, folder)
        return found

    @contextlib.contextmanager
    def locked(self, patience: float = 0) -> Iterator[None]:
        """Hold the slots for one change.

        Raises BundleError `models-busy` when another process still does after `patience` seconds, StoreError.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise durable.as_store_error(self.folder / "lock", error) from error
        try:
            end = time.monotonic() + patience
            while not _hold(descriptor):
                if time.monotonic() >= end:
                    raise BundleError(
                        "models-busy", "Another process is changing the bundles of this device.", "Try again soon."
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def swept_staging(self) -> Iterator[Path]:
        """An empty folder to work in, removed at the end; what an interrupted change left is removed first."""
        try:
            shutil.rmtree(self.staging, ignore_errors=True)
            for left in (*self.folder.glob(".leuko-*.part"), *self.trust.folder.glob(".leuko-*.part")):
                left.unlink()
            self.staging.mkdir(parents=True)
            yield self.staging
        except OSError as error:
            raise durable.as_store_error(self.staging, error) from error
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)

    def free_slot(self) -> Slot:
        """The slot that the next bundle may take. Raises BundleError while both are needed."""
        found = self.load()
        free = [slot for slot in SLOTS if slot not in {found.active, found.previous if found.probation else None}]
        if not free:
            raise BundleError(
                "probation-running",
                f"{found.name(found.active)} is on probation for {found.probation} more analyses, and "
                f"{found.name(found.previous)} is kept in case it fails.",
                "Wait for the end of the probation, or run `leuko model rollback` first.",
            )
        return min(free, key=lambda slot: (found.record(slot) is not None, slot == found.staged))

    def fill(self, unpacked: Path, record: SlotRecord) -> Slot:
        """Move a proven bundle into the free slot and stage it. Raises BundleError or StoreError."""
        slot = self.free_slot()
        target = self.place(slot).folder
        before = self.load()
        emptied = msgspec.structs.replace(
            before,
            **{slot: None},
            previous=None if before.previous == slot else before.previous,
            staged=None if before.staged == slot else before.staged,
        )
        if emptied != before:
            self.save(emptied)
        try:
            target.parent.mkdir(exist_ok=True)
            if target.exists():
                target.rename(self.staging / "replaced")
            unpacked.rename(target)
        except OSError as error:
            raise durable.as_store_error(target, error) from error
        durable.sync_folder(target.parent)
        filled = msgspec.structs.replace(emptied, **{slot: record}, staged=slot)
        self.save(filled.having("installed", record.bundle, f"from {record.source}"))
        return slot

    def activate(self, trial: Trial, *, probation: int = PROBATION, insist: bool = False, beyond: str = "") -> State:
        """Prove the staged bundle once more, then make it the active one, on probation.

        `insist` goes on after too many failures in a row; `beyond` is the reason for a change that the active bundle's
        envelope does not allow. Raises BundleError: `nothing-staged`, `activation-stopped`, `outside-envelope`, or what
        the trial raises. What was active stays active then.
        """
        before = self.load()
        if before.staged is None:
            raise BundleError("nothing-staged", "No installed bundle waits.", "Run `leuko model install` first.")
        name = before.name(before.staged)
        if before.stopped and not insist:
            raise BundleError(
                "activation-stopped",
                f"{before.failures} activations in a row have failed; {before.name(before.active)} stays active.",
                "Find out why (`leuko model list`); then `leuko model activate --insist`.",
            )
        successor = self.check(before.staged)
        excess = self._beyond_envelope(before, successor)
        if excess and not beyond:
            raise BundleError(
                "outside-envelope",
                f"{name} changes more than {before.name(before.active)} allows: {excess}.",
                "Have it judged anew; `leuko model activate --beyond-envelope REASON` records who decided what.",
            )
        trial(self.place(before.staged).folder)
        after = msgspec.structs.replace(
            before,
            active=before.staged,
            previous=before.active,
            staged=None,
            probation=probation,
            failures=0 if insist else before.failures,
        )
        if excess:
            after = after.having("envelope-exceeded", name, f"{beyond} ({excess})")
        after = after.having("activated", name)
        self.save(after)
        return after

    def _beyond_envelope(self, before: State, successor: Manifest) -> str:
        """Why the active bundle's envelope does not allow its successor; empty when it does or cannot be read."""
        try:
            active = manifest.load(self.place(before.active).folder)
        except BundleError:
            return ""
        return "; ".join(envelope.excess(active, successor))

    def rollback(self, why: str, *, by_device: bool = False, to_package: bool = False) -> State:
        """Make the previous bundle the active one, or that of the package; the one that was stays, staged.

        Raises BundleError `nothing-to-roll-back` when the bundle of the package is active.
        """
        before = self.load()
        if before.active is None:
            raise BundleError(
                "nothing-to-roll-back", "The bundle that comes with the package is active.", "Install another one."
            )
        previous = None if to_package else before.previous
        if previous is not None:
            try:
                self.check(previous)
            except BundleError:
                previous = None
        after = msgspec.structs.replace(
            before,
            active=previous,
            previous=None,
            staged=before.active,
            probation=0,
            failures=min(before.failures + 1, 1000) if by_device else before.failures,
        )
        after = after.having("rolled-back", before.name(before.active), why)
        self.save(after)
        return after

    def describe_stop(self) -> str:
        """What to tell a person when activations have failed too often in a row; empty otherwise."""
        with contextlib.suppress(BundleError, StoreError):
            found = self.load()
            if found.stopped:
                return (
                    f"{found.failures} activations in a row have failed: no other bundle is activated, "
                    f"{found.name(found.active)} stays in use."
                )
        return ""


def _hold(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
