"""The same work on a Ray cluster: one actor for each processor of its nodes, each at one piece.

An actor gives a few frames of a piece at a time, so that a long video is nowhere in memory as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from edge.archive.engine import ATTEMPTS, Ended, GivenUp, Job, Outcome, Part, Piece, Work, worker_lost
from edge.core.errors import LeukoError

_FRAMES: Final = 16
_MAX_FALSE_STARTS: Final = 3
_START_SECONDS: Final = 180.0


class RayEngine:
    """See `edge.archive.engine.Engine`. With no `address` Ray starts here; `workers` 0 takes the cluster's processors.

    `nodes` tells how many workers began on each node, by its id.
    """

    name = "ray"
    isolates = True

    def __init__(self, workers: int, address: str = "") -> None:
        self._count, self._address = workers, address
        self.nodes: Counter[str] = Counter()

    def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        """See `Engine`. Raises LeukoError `no-cluster`, `cluster-full` besides."""
        import ray

        with _connected(self._address, self._count):
            room = int(ray.cluster_resources().get("CPU", 0))
            crew = _Crew(job, max(1, min(self._count or room, room)), self.nodes)
            try:
                yield from crew.work(iter(pieces))
            finally:
                crew.stop()


@contextlib.contextmanager
def _connected(address: str, workers: int) -> Iterator[None]:
    """Join the cluster at `address`, or start one of this machine alone."""
    # Nothing about this machine goes to the makers of Ray.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    options: dict[str, Any] = {"address": address}
    if not address:
        # The fields go to the workers by their names, so that the shared memory of Ray stays all but empty.
        options = {"num_cpus": workers or None, "include_dashboard": False, "object_store_memory": 100_000_000}
    try:
        ray.init(log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise LeukoError(
            "no-cluster",
            f"There is no Ray cluster at {address or 'this machine'}: {str(error).splitlines()[0]}",
            "Start one: ray start --head; then add nodes: ray start --address HOST:6379.",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


class _Crew:
    """The actors, what each is at, and the pieces that wait for a second attempt."""

    def __init__(self, job: Job, count: int, nodes: Counter[str]) -> None:
        import ray

        self._ray: Any = ray
        make: Any = ray.remote(num_cpus=1, max_restarts=0, max_concurrency=1)
        self._kind: Any = make(_Actor)
        self._job, self._count, self._nodes = job, count, nodes
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Piece, int, int]] = {}
        self._again: list[tuple[Piece, int]] = []
        self._false_starts = 0
        self._deadline = time.monotonic() + _START_SECONDS

    def work(self, waiting: Iterator[Piece]) -> Iterator[Outcome]:
        first = next(waiting, None)
        if first is None:
            return
        waiting = itertools.chain([first], waiting)
        while True:
            more = self._hand_out(waiting)
            if not self._busy and not self._again and not more:
                return
            known = [*self._starting, *self._busy]
            ready, _ = self._ray.wait(known, num_returns=1, timeout=1.0)
            for found in ready:
                self._deadline = time.monotonic() + _START_SECONDS
                if found in self._starting:
                    self._started(found)
                else:
                    yield from self._take(found)
            if not self._busy and not self._idle and time.monotonic() > self._deadline:
                raise LeukoError(
                    "cluster-full",
                    f"The cluster has started no worker in {_START_SECONDS:.0f} seconds.",
                    "See `ray status`: other work may hold its processors, or a node lacks leukoscope.",
                )

    def stop(self) -> None:
        for actor in [*self._starting.values(), *self._idle, *(each[0] for each in self._busy.values())]:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def _hand_out(self, waiting: Iterator[Piece]) -> bool:
        """Give every idle actor a piece, and start actors that are lacking; returns whether pieces may be left."""
        while len(self._starting) + len(self._idle) + len(self._busy) < self._count:
            actor = self._kind.options(scheduling_strategy="SPREAD").remote(self._job)
            self._starting[actor.begin.remote()] = actor
        while self._idle:
            if self._again:
                piece, begun = self._again.pop(0)
            else:
                found = next(waiting, None)
                if found is None:
                    return False
                piece, begun = found, 0
            actor = self._idle.pop()
            self._busy[actor.step.remote(piece)] = (actor, piece, begun, 0)
        return True

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            node, refusal = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._false_starts += 1
            if self._false_starts >= _MAX_FALSE_STARTS:
                raise worker_lost("ray") from error
            return
        if refusal is not None:
            self._idle.append(actor)
            raise LeukoError(*refusal)
        self._nodes[node] += 1
        self._idle.append(actor)

    def _take(self, reference: Any) -> Iterator[Outcome]:
        actor, piece, begun, frames = self._busy.pop(reference)
        try:
            parts, state, said = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # The actor is gone; another takes its place.
            yield from self._lost(piece, begun, f"the worker died: {type(error).__name__}")
            return
        for frame, data in enumerate(parts, frames):
            yield Part(piece.number, frame, data)
        if state == "refused":
            self._idle.append(actor)
            raise LeukoError(*said)
        if state == "more":
            self._busy[actor.step.remote(None)] = (actor, piece, begun, frames + len(parts))
            return
        self._idle.append(actor)
        if state == "failed":
            yield from self._lost(piece, begun, said)
        else:
            yield Ended(piece.number)

    def _lost(self, piece: Piece, begun: int, reason: str) -> Iterator[GivenUp]:
        if begun + 1 >= ATTEMPTS:
            yield GivenUp(piece.number, reason)
        else:
            self._again.append((piece, begun + 1))


class _Actor:
    """A worker of the cluster."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._open = contextlib.ExitStack()
        self._work: Work | None = None
        self._parts: Iterator[bytes] = iter(())

    def begin(self) -> tuple[str, tuple[str, str, str] | None]:
        """Open the job; returns this node's id, and what is wrong."""
        import ray

        try:
            self._work = self._open.enter_context(self._job.open())
        except LeukoError as error:
            return "", (error.code, error.message, error.cure)
        return str(ray.get_runtime_context().get_node_id()), None

    def step(self, piece: Piece | None) -> tuple[list[bytes], str, Any]:
        """Begin a piece, or go on with it: some parts, and "more", "ended", "failed" or "refused" with the reason."""
        if piece is not None and self._work is not None:
            self._parts = self._work(piece)
        found: list[bytes] = []
        try:
            found.extend(itertools.islice(self._parts, _FRAMES))
        except LeukoError as error:
            return found, "refused", (error.code, error.message, error.cure)
        except Exception as error:  # noqa: BLE001  (not swallowed: it is the reason that the field is given)
            return found, "failed", f"{type(error).__name__}: {error}"
        return found, "more" if len(found) == _FRAMES else "ended", None
