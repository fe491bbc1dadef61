"""Installing, activating and rolling back, stopped at every single change of the disk: a whole bundle is active after.

Each case runs in a forked process in which the n-th operation that would change the disk kills it, or from the n-th on
the disk is full, or read-only. The operations are counted by Python's own audit events. LEUKO_EVERY_FAULT=1 tries
every place of the long ones, too.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from releases import Device, Lab, copy

pytest.importorskip("tuf")

from edge.bundle import probation
from edge.bundle.slots import Slots
from edge.core.errors import BundleError, LeukoError

CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"})
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FAULTS = {"killed": 0, "disk full": errno.ENOSPC, "read-only": errno.EROFS}
SHIPPED = "wbc-student"
EVERY = bool(os.environ.get("LEUKO_EVERY_FAULT"))

Action = Callable[[Device, Lab], Any]


def _install(device: Device, lab: Lab) -> None:
    device.install(lab.repo)


def _activate(device: Device, _: Lab) -> None:
    device.activate(probation=2)


def _rollback(device: Device, _: Lab) -> None:
    device.rollback()


def _pass(device: Device, _: Lab) -> None:
    watch = probation.Watch(device.slots)
    candidate = next(watch.candidates())
    with watch.running(candidate):
        pass


def _fail(device: Device, _: Lab) -> None:
    watch = probation.Watch(device.slots)
    first, *others = watch.candidates()
    watch.refused(first, BundleError("golden-not-reproduced", "wrong", "none"))
    with watch.running(others[0]):
        pass


def _sequence(*actions: Action) -> Action:
    def run(device: Device, lab: Lab) -> None:
        for action in actions:
            action(device, lab)

    return run


_two = _sequence(
    lambda device, lab: device.install(lab.repo, "1.0.0"),
    _activate,
    _pass,
    _pass,
    lambda device, lab: device.install(lab.repo, "1.1.0"),
)

STATES: dict[str, tuple[Action, Action, set[str]]] = {
    # How the state is reached; what is done in it; what may be active afterwards.
    "first installation": (lambda *_: None, _install, {SHIPPED}),
    "installation beside an active bundle": (
        _sequence(lambda device, lab: device.install(lab.repo, "1.0.0"), _activate),
        _install,
        {"small@1.0.0"},
    ),
    "installation over the previous bundle": (
        _sequence(_two, _activate, _pass, _pass),
        lambda device, lab: device.install(lab.repo, "1.2.0"),
        {"small@1.1.0"},
    ),
    "installation over one that is staged": (
        _sequence(_two, _activate, _pass, _pass, _rollback),
        lambda device, lab: device.install(lab.repo, "1.2.0"),
        {"small@1.0.0"},
    ),
    "first activation": (_install, _activate, {SHIPPED, "small@1.2.0"}),
    "activation after another": (_two, _activate, {"small@1.0.0", "small@1.1.0"}),
    "rollback to the previous bundle": (_sequence(_two, _activate), _rollback, {"small@1.0.0", "small@1.1.0"}),
    "rollback to the package": (_sequence(_install, _activate), _rollback, {SHIPPED, "small@1.2.0"}),
    "an analysis on probation": (_sequence(_two, _activate), _pass, {"small@1.1.0"}),
    "the last analysis on probation": (_sequence(_two, _activate, _pass), _pass, {"small@1.1.0"}),
    "a failure on probation": (_sequence(_two, _activate), _fail, {"small@1.0.0", "small@1.1.0"}),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.start(tmp_path_factory.mktemp("lab") / "lab")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        made.release(version)
    return made


def attempt(action: Action, device: Device, lab: Lab, fault: str, place: int) -> tuple[str, int]:
    """Do it in a child whose disk fails at this place; returns how the child ended, and how many changes it counted."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        counted, armed, status = 0, True, 70

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal counted
            if not armed or (event not in CHANGES and not (event == "open" and (arguments[2] or 0) & WRITES)):
                return
            counted += 1
            if counted == place and fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if counted >= place > 0 and FAULTS[fault]:
                raise OSError(FAULTS[fault], os.strerror(FAULTS[fault]), str(arguments[0]))

        try:
            sys.addaudithook(hook)
            action(device, lab)
            status = 0
        except LeukoError:
            status = 3
        except BaseException:  # noqa: BLE001  # the child must not go on as a second pytest
            import traceback

            armed = False
            traceback.print_exc()
        finally:
            armed = False
            os.write(writing, str(counted).encode())
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        counted = int(stream.read() or 0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, counted
    return {0: "done", 3: "refused"}.get(os.WEXITSTATUS(status), "broken"), counted


@pytest.mark.parametrize("state", STATES, ids=list(STATES))
def test_a_whole_bundle_is_active_whatever_stops_it(state: str, lab: Lab, tmp_path: Path) -> None:
    reach, action, allowed = STATES[state]
    origin = Device.provisioned(tmp_path / "origin", lab.root_file())
    reach(origin, lab)
    ended, changes = attempt(action, Device(Slots(copy(origin.slots.folder, tmp_path / "count"))), lab, "killed", 0)
    assert ended == "done" and changes >= 2
    finished = Device(Slots(tmp_path / "count")).active
    cases = 0
    step = 1 if EVERY or changes < 30 else 10
    for fault in FAULTS:
        for place in range(1 + len(fault) % step, changes + 1, step):
            device = Device(Slots(copy(origin.slots.folder, tmp_path / f"{fault} {place}")))
            ended, _ = attempt(action, device, lab, fault, place)
            assert ended == "SIGKILL" if fault == "killed" else ended in {"done", "refused"}, (fault, place, ended)
            active = device.active
            assert active.partition("@")[0] == SHIPPED or active in allowed, (fault, place, active)
            assert SHIPPED in allowed or active.partition("@")[0] != SHIPPED, (fault, place, active)
            complete(action, device, lab, finished, "installation" in state)
            cases += 1
    assert cases >= 3 * 2
    print(f"{state}: {cases} cases")


def complete(action: Action, device: Device, lab: Lab, finished: str, installing: bool) -> None:
    """Doing it again leads to where it would have led; some of it may be done already."""
    try:
        action(device, lab)
    except BundleError as error:
        assert error.code in {"nothing-staged", "nothing-to-roll-back"}, error
    assert device.active.partition("@")[0] in {finished.partition("@")[0], SHIPPED}
    if installing:
        state = device.slots.load()
        assert state.staged is not None
        device.slots.check(state.staged)
        assert not device.slots.staging.exists()
        assert device.active == finished
