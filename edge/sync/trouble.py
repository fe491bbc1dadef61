"""What can go wrong on the way to a destination, by what is to be done about it."""

from __future__ import annotations

from edge.core.errors import LeukoError


class SyncError(LeukoError):
    """Something on the way to a destination."""


class UnreachableError(SyncError):
    """No answer, or one that says to try again, at the earliest after `retry_after` seconds."""

    def __init__(self, code: str, message: str, cure: str = "", retry_after: float | None = None) -> None:
        super().__init__(code, message, cure)
        self.retry_after = retry_after


class BlockedError(SyncError):
    """Nothing can be sent to this destination until a person acts: credentials, certificate, missing package."""


class RefusedError(SyncError):
    """The destination will never take this version as it is; the others it may."""


class ConflictError(RefusedError):
    """The destination holds other contents, of the hash `held`, under this number."""

    def __init__(self, code: str, message: str, cure: str = "", held: str | None = None) -> None:
        super().__init__(code, message, cure)
        self.held = held


class GapError(SyncError):
    """The destination lacks the versions after `newest`."""

    def __init__(self, newest: int) -> None:
        super().__init__("version-gap", f"The destination holds versions up to {newest} only.", "They are sent again.")
        self.newest = newest
