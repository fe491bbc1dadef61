"""What every engine must do with pieces of work, whatever happens to its workers."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_jobs import Troubled

from edge.archive.engine import ENGINES, Ended, Engine, GivenUp, Part, Piece, open_engine
from edge.core.errors import LeukoError, UsageError

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """One Ray cluster for all: starting it takes longer than the tests. LEUKO_TEST_RAY names one that runs already,
    of two nodes that find `tests` on their path."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    if os.environ.get("LEUKO_TEST_RAY"):
        yield os.environ["LEUKO_TEST_RAY"]
        return
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), str(TESTS.parent), before]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # A busy machine needs longer than half a minute; Ray from 2.50 or so on gives its agents 15 seconds, unchangeably.
    os.environ["RAY_agent_register_timeout_ms"] = "120000"  # noqa: SIM112  (so it is called)
    node = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    yield made.address
    made.shutdown()
    os.environ["PYTHONPATH"] = before


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "ray":
        return open_engine("ray", 2, request.getfixturevalue("cluster"))
    return open_engine(request.param, 1 if request.param == "serial" else 2)


def pieces(*paths: str) -> list[Piece]:
    return [Piece(number, path) for number, path in enumerate(paths)]


def done(engine: Engine, folder: Path | str, *paths: str) -> tuple[dict[int, list[bytes]], list[int], dict[int, str]]:
    """What a run gave: the parts of each piece, which ended, which were given up."""
    parts: dict[int, dict[int, bytes]] = {}
    ended, given_up = [], {}
    for outcome in engine.run(Troubled(str(folder)), pieces(*paths)):
        if isinstance(outcome, Part):
            parts.setdefault(outcome.number, {})[outcome.frame] = outcome.data
        elif isinstance(outcome, Ended):
            ended.append(outcome.number)
        else:
            given_up[outcome.number] = outcome.reason
    found = {number: [frames[frame] for frame in sorted(frames)] for number, frames in parts.items()}
    assert len(ended) + len(given_up) == len(paths), "each piece ends once"
    return found, sorted(ended), given_up


def test_every_piece_is_done_once_whatever_it_gives(engine: Engine, tmp_path: Path) -> None:
    paths = ["a", "video-0", "b", "video-16", "video-17", *(f"c{n}" for n in range(20))]
    found, ended, given_up = done(engine, tmp_path, *paths)
    assert given_up == {} and ended == list(range(len(paths)))
    assert found[0] == [b"a#0"] and 1 not in found
    assert [len(found[each]) for each in (3, 4)] == [16, 17]
    assert all(found[number] == [f"{paths[number]}#0".encode()] for number in range(5, 25))


def test_no_pieces_are_no_work(engine: Engine, tmp_path: Path) -> None:
    assert done(engine, tmp_path) == ({}, [], {})


def test_work_that_raises_is_tried_again_and_then_given_up_by_name(engine: Engine, tmp_path: Path) -> None:
    found, ended, given_up = done(engine, tmp_path, "a", "raise-1", "video-25", "b")
    assert ended == [0, 2, 3] and "nothing to divide" in given_up[1]
    assert found[2] == [f"video-25#{frame}".encode() for frame in range(25)]


@pytest.mark.parametrize("engine", ["processes", "ray"], indirect=True)
def test_a_worker_that_dies_costs_a_retry_and_then_one_piece(engine: Engine, tmp_path: Path) -> None:
    assert engine.isolates
    paths = ["a", "once-1", "kill-1", "b", "crash-1", "once-2", "c", "d"]
    found, ended, given_up = done(engine, tmp_path, *paths)
    assert ended == [0, 1, 3, 5, 6, 7]
    assert found[1] == [b"once-1#0"] and found[7] == [b"d#0"]
    assert given_up.keys() == {2, 4}
    if engine.name == "processes":
        assert "SIGKILL" in given_up[2] and "SIGSEGV" in given_up[4]


def test_a_worker_that_cannot_do_the_work_ends_it_with_its_own_error(engine: Engine) -> None:
    with pytest.raises(LeukoError) as caught:
        done(engine, "refuse", "a", "b")
    assert caught.value.code == "bundle-missing" and caught.value.cure == "Install one."


@pytest.mark.parametrize("engine", ["processes", "ray"], indirect=True)
def test_workers_that_die_before_they_begin_are_not_started_for_ever(engine: Engine) -> None:
    with pytest.raises(LeukoError) as caught:
        done(engine, "die", "a", "b")
    assert caught.value.code == "workers-die"


def test_pieces_are_taken_as_they_are_needed(engine: Engine, tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[Piece]:
        nonlocal taken
        for taken in range(10_000):
            yield Piece(taken, f"n{taken}")

    outcomes = engine.run(Troubled(str(tmp_path)), endless())
    with contextlib.closing(outcomes):  # type: ignore[type-var]
        ended = 0
        for outcome in outcomes:
            ended += isinstance(outcome, Ended)
            assert not isinstance(outcome, GivenUp)
            assert taken - ended <= 6
            if ended == 60:
                break
    assert taken < 100


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    engine = open_engine("processes", 2)
    outcomes = engine.run(Troubled(str(tmp_path)), pieces("a", "b", "slow-1500", "slow-1500"))
    next(outcomes)
    mine = _children()
    assert mine
    outcomes.close()  # type: ignore[attr-defined]
    assert not mine & _children()


def _children() -> set[str]:
    found = set()
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (each / "stat").read_text().rpartition(")")[2].split()
            if int(text[1]) == os.getpid() and b"spawn_main" in (each / "cmdline").read_bytes():
                found.add(each.name)
    return found


def test_workers_end_when_whoever_gave_the_work_is_killed(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from archive_jobs import Troubled\n"
        "from edge.archive.engine import Piece, open_engine\n"
        "if __name__ == '__main__':\n"
        "    pieces = (Piece(number, 'slow-5') for number in range(10**6))\n"
        "    for _ in open_engine('processes', 2).run(Troubled(sys.argv[3]), pieces):\n"
        "        print('one', flush=True)\n"
    )
    script = tmp_path / "giver.py"
    script.write_text(code)
    with subprocess.Popen(
        [sys.executable, script, TESTS, TESTS.parent, tmp_path], stdout=subprocess.PIPE, start_new_session=True
    ) as giver:
        assert giver.stdout is not None
        giver.stdout.readline()
        giver.send_signal(signal.SIGKILL)
        giver.wait()
    end = time.monotonic() + 60
    while _of_group(giver.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _of_group(giver.pid)


def _of_group(group: int) -> list[str]:
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (each / "stat").read_text().rpartition(")")[2].split()
            if int(text[2]) == group and text[0] != "Z" and b"spawn_main" in (each / "cmdline").read_bytes():
                found.append(each.name)
    return found


@pytest.mark.parametrize(
    ("words", "code"),
    [(("boat", 1), "unknown-engine"), (("serial", 2), "engine-options"), (("processes", 2, "auto"), "engine-options")],
)
def test_an_engine_that_cannot_be_is_refused(words: tuple[str, int], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_engine(*words)
    assert caught.value.code == code
