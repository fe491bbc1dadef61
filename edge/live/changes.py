"""What may be replaced while a session runs or rests: one count never mixes two, and no change passes unnoticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from edge.bundle.manifest import Manifest
from edge.core.errors import UsageError
from edge.live.parts import InForce
from edge.store.journal import JournalSession

BUNDLE: Final = "bundle-changed"
CALIBRATION: Final = "calibration-changed"

CHANGES: Final = (BUNDLE, CALIBRATION)
"""Events of a session's journal that become flags of its result."""


def require_same(session: JournalSession, manifest: Manifest, calibration: str | None) -> None:
    """Raise UsageError `bundle-changed` or `calibration-changed` where a session cannot go on as it was begun."""
    if session.bundle_sha256 != manifest.sha256:
        raise UsageError(
            BUNDLE,
            f"The session was counted with {session.bundle}; the bundle in use is {manifest.identity}.",
            "Put the former bundle back, or abort the session: one count must not mix two models.",
        )
    if session.calibration != calibration:
        raise UsageError(
            CALIBRATION,
            f"The session was begun with calibration {session.calibration or 'none'}.",
            "Abort the session and count anew: its fields were corrected in another way.",
        )


def since(begun: InForce | None, now: InForce | None) -> Iterator[tuple[str, str]]:
    """Give code and sentence of each thing that is no longer what the session began with."""
    if begun is None or now is None:
        return
    if now.bundle_sha256 != begun.bundle_sha256:
        yield BUNDLE, "The model was replaced during this session; it is counted to its end with the former one."
    if now.calibration != begun.calibration:
        yield (
            CALIBRATION,
            "The microscope was calibrated anew during this session; its fields are corrected by the former record"
            " to its end. If the light or the optics were changed, abort it and count anew.",
        )


class Changes:
    """Tells each change once."""

    def __init__(self, in_force: Callable[[], InForce | None]) -> None:
        self._in_force = in_force
        self._told: set[str] = set()
        self._begun: InForce | None = None

    def begin(self, calibration: str | None) -> None:
        """Note what is in force as the session begins, or goes on in a new process, with this calibration record.

        The bundle is the one that is installed then: where it failed its trial the session runs with the one before.
        """
        now = self._in_force()
        self._begun = None if now is None else InForce(now.bundle_sha256, calibration)

    def news(self) -> list[tuple[str, str]]:
        """Code and sentence of what has changed and was not told yet. Reads files: not for every field."""
        found = [each for each in since(self._begun, self._in_force()) if each[0] not in self._told]
        self._told.update(code for code, _ in found)
        return found
