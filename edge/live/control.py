"""The contract between a live session and whoever shows or steers it.

`edge.app.start_session(order, config)` and `edge.app.resume_session(identifier, config)` give a running
`SessionControl`; `edge.app.session_state(identifier, config)` reads the state of a session of another process.

    session = app.start_session(SessionOrder("S-1", "simulated:seed=7,fields=endless"), config.load())
    while not (state := session.state()).ended:
        show(state)
    session.wait()
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from edge.live.state import LiveState


@runtime_checkable
class SessionControl(Protocol):
    """A session that runs in threads of this process. Every method may be called from any thread, at any time."""

    def state(self) -> LiveState:
        """Give the present state. Never waits for camera, disk or network; takes microseconds."""
        ...

    def pause(self) -> None:
        """Take no more fields until `resume`; without effect in a session that has ended. Returns at once."""
        ...

    def resume(self) -> None:
        """Go on after `pause`, or try again after a trouble with the disk or the camera. Returns at once."""
        ...

    def finish(self) -> None:
        """End now and save what was counted as a result. Returns at once; the phase turns to "finished"."""
        ...

    def abort(self) -> None:
        """End now without a result. The journal stays. Returns at once; the phase turns to "aborted"."""
        ...

    def wait(self, seconds: float | None = None) -> LiveState:
        """Wait until the session has ended, or for so many seconds, and give its state."""
        ...
