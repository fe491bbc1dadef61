"""A new bundle is believed after some analyses; when it fails before, the device goes back by itself.

While a bundle is on probation every analysis leaves a file in `models/attempts` that it holds locked. A file that
nobody holds is from a process that died: within the same run of the machine that is a crash, and the bundle is rolled
back. After a restart of the machine it says nothing, for then the power may have failed; nor does a process that was
asked to end (SIGTERM, SIGHUP).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import msgspec

from edge.bundle import files
from edge.bundle.slots import InUse, Slots
from edge.core import clock, identifiers
from edge.core.errors import BundleError, LeukoError, RuntimeUnavailableError, StoreError

_log = logging.getLogger(__name__)
_PATIENCE = 0.5

BUNDLE_FAILURES = (BundleError, RuntimeUnavailableError)
"""Errors that speak against the bundle, or against this bundle on this device."""


class Watch:
    """One analysis with the bundles of a device: which is tried, and what came of it."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._tried: list[tuple[InUse, LeukoError]] = []

    def candidates(self) -> Iterator[InUse]:
        """The bundles to try, best first, after a bundle on probation that made a process crash was rolled back."""
        with contextlib.suppress(StoreError):
            self._judge_the_dead()
        yield from self._slots.candidates()

    def refused(self, candidate: InUse, error: LeukoError) -> None:
        """Remember that a candidate could not be used."""
        self._tried.append((candidate, error))

    @contextlib.contextmanager
    def running(self, candidate: InUse) -> Iterator[None]:
        """Hold the analysis: what was refused before is now known to be at fault, for this candidate could be opened.

        An error of the bundle inside counts as its failure. Other errors count neither for nor against it.
        """
        for refused, error in self._tried[:1]:
            self._fell_back(refused, candidate, error)
        if stop := self._slots.describe_stop():
            _log.warning("%s", stop)
        with ExitStack() as stack:
            counting = candidate.slot is not None and self._on_probation(candidate)
            if counting:
                with contextlib.suppress(LeukoError, OSError):
                    stack.enter_context(self._attempt(candidate))
            try:
                yield
            except BUNDLE_FAILURES as error:
                if candidate.slot is not None:
                    self._fail(candidate, str(error))
                raise
            if counting:
                self._passed(candidate)

    def _on_probation(self, candidate: InUse) -> bool:
        try:
            found = self._slots.load()
        except BundleError:
            return False
        return found.active == candidate.slot and found.probation > 0

    @contextlib.contextmanager
    def _attempt(self, candidate: InUse) -> Iterator[None]:
        folder = self._slots.folder / "attempts"
        path = folder / f"{identifiers.uuid7()}.json"
        record = self._slots.load().record(candidate.slot)
        text = json.dumps(
            {"boot": clock.read().boot_id, "manifest_sha256": record.manifest_sha256 if record else ""}
        ).encode()
        with self._slots.locked(_PATIENCE):
            folder.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.write(descriptor, text)
        try:
            with _ended_politely(path):
                yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)

    def _judge_the_dead(self) -> None:
        folder = self._slots.folder / "attempts"
        if not any(folder.glob("*.json")):
            return
        with self._quietly_locked() as held:
            dead = [path for path in sorted(folder.glob("*.json")) if held and _abandoned(path)]
            for path in dead:
                if self._crashed(path):
                    self._roll_back("a process that used it died")
                with contextlib.suppress(OSError):
                    path.unlink()

    def _crashed(self, path: Path) -> bool:
        try:
            found = json.loads(files.read(path, 4096))
            state = self._slots.load()
        except (BundleError, ValueError):
            return False
        record = state.record(state.active)
        return (
            state.probation > 0
            and record is not None
            and isinstance(found, dict)
            and found.get("manifest_sha256") == record.manifest_sha256
            and found.get("boot") == clock.read().boot_id
        )

    def _fell_back(self, refused: InUse, used: InUse, error: LeukoError) -> None:
        _log.warning("The active bundle in %s cannot be used, %s is: %s", refused.folder, used.folder, error)
        with contextlib.suppress(StoreError), self._quietly_locked() as held, contextlib.suppress(BundleError):
            if held and self._slots.load().active == refused.slot:
                self._roll_back(str(error), to_package=used.slot is None)

    def _fail(self, candidate: InUse, why: str) -> None:
        with contextlib.suppress(StoreError), self._quietly_locked() as held, contextlib.suppress(BundleError):
            found = self._slots.load()
            if held and found.active == candidate.slot and found.probation:
                self._roll_back(why)

    def _roll_back(self, why: str, *, to_package: bool = False) -> None:
        before = self._slots.load()
        after = self._slots.rollback(why, by_device=True, to_package=to_package)
        _log.warning("Rolled back from %s to %s: %s", before.name(before.active), after.name(after.active), why)

    def _passed(self, candidate: InUse) -> None:
        with contextlib.suppress(StoreError), self._quietly_locked() as held, contextlib.suppress(BundleError):
            found = self._slots.load()
            if not held or found.active != candidate.slot or not found.probation:
                return
            after = msgspec.structs.replace(found, probation=found.probation - 1)
            if after.probation == 0:
                after = msgspec.structs.replace(after, failures=0).having("passed", found.name(found.active))
            self._slots.save(after)

    @contextlib.contextmanager
    def _quietly_locked(self) -> Iterator[bool]:
        """Hold the slots if nobody else does; a count that is missed only makes the probation longer."""
        with ExitStack() as stack:
            held = True
            try:
                stack.enter_context(self._slots.locked(_PATIENCE))
            except BundleError:
                held = False
            yield held


@contextlib.contextmanager
def _ended_politely(path: Path) -> Iterator[None]:
    """Remove an attempt's file when the process is asked to end: a service that is stopped has not crashed."""
    asked = (signal.SIGTERM, signal.SIGHUP)
    usual = [number for number in asked if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        usual = []

    def end(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for number in usual:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in usual:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)


def _abandoned(path: Path) -> bool:
    """Whether no process holds an attempt's file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
