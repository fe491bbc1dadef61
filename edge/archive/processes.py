"""One process for each core of this machine. A process that dies costs one retry of the piece it was at.

Each has a pipe of its own: a process that is killed while it holds a shared queue would stop all the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from edge.archive.engine import ATTEMPTS, Ended, GivenUp, Job, Outcome, Part, Piece, worker_lost
from edge.core.errors import LeukoError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_MAX_FALSE_STARTS: Final = 3
_PATIENCE_SECONDS: Final = 5.0


class ProcessEngine:
    """See `edge.archive.engine.Engine`."""

    name = "processes"
    isolates = True

    def __init__(self, workers: int) -> None:
        self._count = workers

    def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        """See `Engine`."""
        waiting = iter(pieces)
        again: list[tuple[Piece, int]] = []
        workers: list[_Worker] = []
        false_starts = 0
        with contextlib.ExitStack() as stack:
            # However it ends, and also when some could not be started.
            stack.callback(_stop, workers)
            following = _next(waiting, again)
            while following is not None or any(each.busy for each in workers):
                while following is not None and (free := _free(workers, self._count, job)) is not None:
                    free.give(*following)
                    following = _next(waiting, again)
                for worker in _ready(workers):
                    try:
                        outcome = worker.receive()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        how = worker.stop()
                        if not worker.began:
                            false_starts += 1
                            if false_starts >= _MAX_FALSE_STARTS:
                                raise worker_lost(self.name) from None
                            again.extend(worker.lose())
                        else:
                            yield from _lost(worker, again, f"the process that worked on it {how}")
                        following = following or _next(waiting, again)
                        continue
                    if isinstance(outcome, _Failed):
                        yield from _lost(worker, again, outcome.reason)
                        following = following or _next(waiting, again)
                    elif outcome is not None:
                        yield outcome


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()  # of all, before waiting for the first
    for worker in workers:
        worker.stop()


def _next(waiting: Iterator[Piece], again: list[tuple[Piece, int]]) -> tuple[Piece, int] | None:
    """Give the next piece, with how often it was begun already."""
    if again:
        return again.pop(0)
    found = next(waiting, None)
    return None if found is None else (found, 0)


def _free(workers: list[_Worker], most: int, job: Job) -> _Worker | None:
    for worker in workers:
        if not worker.busy:
            return worker
    if len(workers) < most:
        workers.append(_Worker(job))
        return workers[-1]
    return None


def _ready(workers: list[_Worker]) -> list[_Worker]:
    ready = set(connection.wait([each.pipe for each in workers if each.busy], timeout=1.0))
    return [each for each in workers if each.pipe in ready]


def _lost(worker: _Worker, again: list[tuple[Piece, int]], reason: str) -> Iterator[GivenUp]:
    for piece, begun in worker.lose():
        if begun + 1 >= ATTEMPTS:
            yield GivenUp(piece.number, reason)
        else:
            again.append((piece, begun + 1))


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: a process that is begun meanwhile never hears of it, not even while it still starts.

    It is for the one that gives the pieces; a worker that it meets among its imports would end in a traceback.
    """
    resource_tracker.ensure_running()  # it would let Ctrl-C through again when the first worker begins it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Failed:
    """A piece on which the work raised an error."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Worker:
    """A process with the piece that it is at."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(other, job), daemon=True)
        with _interrupts_held():
            self._process.start()
        other.close()
        self.began = False
        self._piece: tuple[Piece, int] | None = None

    @property
    def busy(self) -> bool:
        return self._piece is not None

    def give(self, piece: Piece, begun: int) -> None:
        self._piece = (piece, begun)
        with contextlib.suppress(OSError):  # it died meanwhile: receiving says so
            self.pipe.send(piece)

    def receive(self) -> Outcome | _Failed | None:
        """Take one message. Raises EOFError or OSError when the process is gone, and the LeukoError that ended it."""
        said: tuple[Any, ...] = self.pipe.recv()
        kind, *rest = said
        if kind == "refused":
            raise LeukoError(*rest)
        if kind == "began":
            self.began = True
            return None
        if kind == "failed":
            return _Failed(rest[0])
        if kind == "ended":
            self._piece = None
            return Ended(rest[0])
        return Part(*rest)

    def lose(self) -> list[tuple[Piece, int]]:
        """Take the piece away; none when it was idle."""
        piece, self._piece = self._piece, None
        return [] if piece is None else [piece]

    def stop(self) -> str:
        """End the process, and say how it ended."""
        self.pipe.close()
        self._process.join(_PATIENCE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def _serve(pipe: Connection, job: Job) -> None:
    """Do pieces until the other side closes the pipe, or is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(EOFError, OSError):
        try:
            with job.open() as work:
                pipe.send(("began",))
                while True:
                    piece: Piece = pipe.recv()
                    try:
                        for frame, data in enumerate(work(piece)):
                            pipe.send(("part", piece.number, frame, data))
                    except (LeukoError, EOFError, BrokenPipeError, ConnectionError):
                        raise
                    except Exception as error:  # noqa: BLE001  (not swallowed: it is the reason that the field is given)
                        pipe.send(("failed", f"{type(error).__name__}: {error}"))
                    else:
                        pipe.send(("ended", piece.number))
        except LeukoError as error:
            pipe.send(("refused", error.code, error.message, error.cure))
