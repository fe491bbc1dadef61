"""Staged roll-outs on the device's side: what a hub asks for, what came of it, and when not to do it now.

The hub says which bundle this device shall have. What that is, and that it is ours, the signatures of the repository
say (`edge.bundle.update`); whether it works here, the golden vectors. This module decides when, and remembers what came
of it, so that the hub is told and can halt the roll-out.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from edge.core import clock, durable
from edge.core.errors import BundleError, LeukoError, StoreError
from edge.sync import content, messages

if TYPE_CHECKING:
    from edge.bundle.slots import Slots, Trial
    from edge.bundle.state import Event, State

Mode = Literal["off", "install", "activate"]

DEADLINE_SECONDS: Final = 300.0
"""How long a download may take: other destinations wait for it."""

FAILED: Final = frozenset(
    {
        *("trial-failed", "trial-crashed", "trial-too-slow", "bundle-damaged", "manifest-invalid", "archive-invalid"),
        *("golden-not-reproduced", "golden-damaged", "golden-not-tried", "model-mismatch"),
    }
)
"""The bundle itself was at fault, or does not work here: the hub halts its roll-out."""

PASSING: Final = frozenset(
    {
        *("release-unreachable", "release-incomplete", "release-too-slow", "release-expired", "clock-behind"),
        *("models-busy", "probation-running", "session-unfinished", "network-metered", "no-trust", "not-released"),
    }
)
"""May be over by itself, or when a person has acted: it is tried again, ever more seldom."""

_LONGEST_SKIP: Final = 256
_MAX_BYTES: Final = 64 << 10
_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is remembered of the newest roll-out.

    `skip` contacts pass before it is tried again; `since` is when the newest event of the slots was at that time.
    """

    schema: Literal[1] = 1
    rollout: str
    bundle: str
    manifest_sha256: str = ""
    state: Literal["postponed", "installed", "active", "passed", "refused", "failed", "rolled-back", "replaced"]
    code: str = ""
    message: str = ""
    attempts: int = 0
    skip: int = 0
    since: str = ""
    moment: messages.Moment


class Follower:
    """Follows the roll-outs of one hub with the slots of this device.

    `unfinished` says which live session is not finished, empty for none: a bundle never changes under one. `metered`
    says whether downloads must wait, `configured` names a bundle that the configuration insists on.
    """

    def __init__(
        self,
        slots: Slots,
        mode: Mode,
        device_class: Callable[[], str],
        trial: Trial,
        *,
        unfinished: Callable[[], str],
        metered: Callable[[], bool],
        configured: str = "",
    ) -> None:
        self._slots = slots
        self._mode = mode
        self._device_class = device_class
        self._trial = trial
        self._unfinished = unfinished
        self._metered = metered
        self._configured = configured
        self._file = slots.folder / "rollout.json"

    def outcome(self) -> messages.ReleaseOutcome | None:
        """What came of the newest roll-out, by what the slots say now; None when there was none."""
        kept = self._load()
        if kept is None:
            return None
        with contextlib.suppress(BundleError):
            kept = self._by_now(kept, self._slots.load())
        return messages.ReleaseOutcome(
            kept.rollout[:500], kept.bundle[:500], kept.state, kept.code, kept.message[:500], kept.moment
        )

    def follow(self, asked: messages.WantedRelease, source: str, ca_file: str = "") -> bool:
        """Do what the hub asks for, if that is to be done now. Returns whether there is something new to tell.

        Raises nothing for what the bundle, the hub or the network do: it becomes the outcome.
        """
        before = self.outcome()
        if asked.bundle is None or asked.rollout is None or self._mode == "off":
            return False
        kept = self._load()
        attempts = 0
        if kept is not None and (kept.rollout, kept.bundle) == (asked.rollout, asked.bundle):
            kept = self._settled(kept)
            if kept.state != "postponed" and not (kept.state == "installed" and self._mode == "activate"):
                return self.outcome() != before
            if kept.skip:
                self._save(msgspec.structs.replace(kept, skip=kept.skip - 1))
                return False
            attempts = kept.attempts
        self._try(asked.rollout, asked.bundle, source, ca_file, attempts)
        return self.outcome() != before

    def _settled(self, kept: _Kept) -> _Kept:
        """Write down what the slots say of an outcome that was open: their list of events does not go back for ever."""
        now = kept
        with contextlib.suppress(LeukoError):
            now = self._by_now(kept, self._slots.load())
            if now != kept:
                self._save(now)
        return now

    def _try(self, rollout: str, bundle: str, source: str, ca_file: str, attempts: int) -> None:
        code = message = sha256 = ""
        state: str
        try:
            sha256, active = self._carry_out(bundle, source, ca_file)
            state = "active" if active else "installed"
        except LeukoError as error:
            code, message = error.code, f"{error.message} {error.cure}".strip()
            if code in FAILED:
                state = "failed"
            elif code in PASSING or isinstance(error, StoreError):
                state = "postponed"
            elif code in {"outside-envelope", "activation-stopped"}:
                state = "installed"
            else:
                state = "refused"
            _log.warning("The roll-out of %s: %s: %s", bundle, state, message)
        attempts += 1
        events: tuple[Event, ...] = ()
        with contextlib.suppress(BundleError):
            events = self._slots.load().events
        waits = code in {"outside-envelope", "activation-stopped"}
        self._save(
            _Kept(
                rollout=rollout,
                bundle=bundle,
                manifest_sha256=sha256,
                state=state,  # type: ignore[arg-type]
                code=code,
                message=message[:500],
                attempts=attempts,
                skip=min(2**attempts - 2, _LONGEST_SKIP) if state == "postponed" or waits else 0,
                since=events[-1].when if events else "",
                moment=content.moment(clock.read()),
            )
        )

    def _carry_out(self, bundle: str, source: str, ca_file: str) -> tuple[str, bool]:
        """Install, and activate where that is wanted; the hash of the manifest, and whether it is active."""
        from edge.bundle import install, update

        name, _, version = bundle.partition("@")
        with self._slots.locked():
            state = self._slots.load()
            in_use = self._manifest_in_use()
            if in_use[0] == bundle:
                return in_use[1], True
            staged = state.record(state.staged)
            self._permit(name, version, in_use[0])
            if staged is None or staged.bundle != bundle:
                wanted = update.Wanted(name, version, self._device_class())
                install.install(self._slots, source, wanted, self._trial, deadline=DEADLINE_SECONDS, ca_file=ca_file)
                state = self._slots.load()
                staged = state.record(state.staged)
            if staged is None or staged.bundle != bundle:
                raise BundleError("not-released", f"{bundle} is not in the repository.", "Ask those who release.")
            if self._mode != "activate":
                return staged.manifest_sha256, False
            self._slots.activate(self._prove)
            return staged.manifest_sha256, True

    def _prove(self, folder: Path) -> None:
        """Prove a bundle, and look once more, right before it is taken into use, that no session needs the old one."""
        self._trial(folder)
        self._require_no_session()

    def _require_no_session(self) -> None:
        session = self._unfinished()
        if session:
            raise BundleError(
                "session-unfinished",
                f"Live session {session} is not finished; it needs the bundle that it began with.",
                f"Finish it, or: leuko session abort {session}",
            )

    def _permit(self, name: str, version: str, in_use: str) -> None:
        """Raise BundleError for what a hub may not decide, or must not now."""
        from edge.bundle.update import precedence

        if self._configured:
            raise BundleError(
                "bundle-configured",
                f"The configuration names {self._configured}, which stays in use.",
                "Take `bundle` out of the configuration to follow roll-outs.",
            )
        used, _, used_version = in_use.partition("@")
        if name != used:
            raise BundleError(
                "other-bundle",
                f"A roll-out may change the version of {used}, not put {name} in its place.",
                f"If that is wanted: leuko model install URL --bundle {name}",
            )
        try:
            later = precedence(version) > precedence(used_version)
        except ValueError:
            later = False
        if not later:
            raise BundleError(
                "not-later",
                f"{version} is not later than {used_version}, which is in use.",
                "To go back by hand: leuko model rollback, or leuko model install URL --bundle NAME@VERSION.",
            )
        if self._metered():
            raise BundleError(
                "network-metered",
                "The network costs by the byte: the bundle is fetched on another one.",
                'Connect another network, or set metered_sends = "everything".',
            )
        self._require_no_session()

    def _manifest_in_use(self) -> tuple[str, str]:
        from edge.bundle import manifest

        found = manifest.load(self._slots.in_use().folder)
        return found.identity, found.sha256

    def _by_now(self, kept: _Kept, state: State) -> _Kept:
        """What became of a bundle that was installed, or taken into use on probation, by this or by a person."""
        if kept.state not in {"installed", "active"}:
            return kept
        active, staged = state.record(state.active), state.record(state.staged)
        if active is not None and active.bundle == kept.bundle:
            return msgspec.structs.replace(
                kept, state="active" if state.probation else "passed", code="", message="", skip=0
            )
        for event in reversed(state.events):
            if event.when == kept.since:
                break
            if event.bundle == kept.bundle and event.what == "rolled-back":
                return msgspec.structs.replace(kept, state="rolled-back", code="rolled-back", message=event.why[:500])
        if kept.state == "installed" and staged is not None and staged.bundle == kept.bundle:
            return kept
        return msgspec.structs.replace(kept, state="replaced")

    def _load(self) -> _Kept | None:
        from edge.bundle import files

        try:
            return msgspec.json.decode(files.read(self._file, _MAX_BYTES), type=_Kept)
        except (BundleError, msgspec.MsgspecError, UnicodeDecodeError):
            return None  # what the hub asks for is then tried again, which changes nothing that is in place

    def _save(self, kept: _Kept) -> None:
        try:
            self._slots.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise durable.as_store_error(self._slots.folder, error) from error
        durable.write_bytes(self._file, msgspec.json.encode(kept) + b"\n")
