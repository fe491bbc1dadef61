"""What the hub answers when it does not do what was asked: an HTTP status and a `Problem`."""

from __future__ import annotations

from edge.core.errors import LeukoError
from edge.sync.messages import Problem


class HubError(LeukoError):
    """The hub could not be started, or a command of `leuko hub` not be done."""


class RefusedError(Exception):
    """A request is refused: `status` is the HTTP status, `problem` the body, `retry_after` seconds when it may help."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        cure: str = "",
        *,
        content_sha256: str | None = None,
        newest: int | None = None,
        offset: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem = Problem(code, message, cure, content_sha256, newest, offset)
        self.retry_after = retry_after


def not_found(what: str = "There is nothing here, or it is not yours.") -> RefusedError:
    """Give the one answer for what does not exist and for what belongs to somebody else."""
    return RefusedError(404, "not-found", what)


def forbidden(need: str) -> RefusedError:
    """Give the answer for somebody who is known and may not do this."""
    return RefusedError(403, "not-allowed", f"This needs {need}.", "Ask an administrator of the hub.")
