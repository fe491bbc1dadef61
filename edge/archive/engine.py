"""The contract of the engines: pieces of work go in as a stream, outcomes come out as they are ready, in any order.

An engine never holds more than a few pieces for each of its workers. The work on one piece depends on nothing but the
piece, so that every engine gives the same bytes, and a piece may be done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from edge.core.errors import LeukoError, MissingExtraError, UsageError

ATTEMPTS: Final = 2
"""How often a piece is begun before it is given up: what kills its worker twice would kill it again."""

ENGINES: Final = ("serial", "processes", "ray")


@dataclass(frozen=True, slots=True)
class Piece:
    """One picture or video to analyse. `number` is its place among all, from 0; `path` the file."""

    number: int
    path: str


@dataclass(frozen=True, slots=True)
class Part:
    """What was found in one frame of a piece, encoded. A picture has the one frame 0."""

    number: int
    frame: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """Every part of a piece has been given."""

    number: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A piece that could not be done: its worker died on it, or the work failed, each time. `reason` says how."""

    number: int
    reason: str


Outcome: TypeAlias = "Part | Ended | GivenUp"
Work: TypeAlias = Callable[[Piece], Iterator[bytes]]
"""Does one piece, and yields what each of its frames gave, in order."""


@runtime_checkable
class Job(Protocol):
    """What every worker does. It is pickled to it, and opened there once."""

    def open(self) -> AbstractContextManager[Work]:
        """Make ready, for example load the network. Raises LeukoError when this worker cannot do the work."""


@runtime_checkable
class Engine(Protocol):
    """A way to do the pieces of a job.

    `isolates` says whether a piece that kills its worker, or exhausts its memory, leaves the others unharmed.
    """

    @property
    def name(self) -> str:
        """One of `ENGINES`."""

    @property
    def isolates(self) -> bool:
        """See the class."""

    def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        """Do the pieces, taking them as workers become free; closing the generator ends the workers.

        Each piece ends with `Ended` or `GivenUp`, once; one that is begun again gives its parts again. Raises the
        LeukoError of a worker that cannot do the work at all.
        """


def open_engine(name: str, workers: int, address: str = "") -> Engine:
    """Make an engine. `address` is that of a Ray cluster; without one, Ray starts on this machine alone.

    Raises UsageError `unknown-engine`, `engine-options`, or MissingExtraError `extra-missing`.
    """
    if name not in ENGINES:
        raise UsageError("unknown-engine", f"There is no engine {name!r}.", f"Name one of {', '.join(ENGINES)}.")
    if address and name != "ray":
        raise UsageError("engine-options", "Only Ray has an address.", "Add --engine ray, or leave --ray-address out.")
    if name == "serial":
        if workers > 1:
            raise UsageError("engine-options", "The engine serial has one worker.", "Add --engine processes or ray.")
        from edge.archive.serial import SerialEngine

        return SerialEngine()
    if name == "processes":
        from edge.archive.processes import ProcessEngine

        return ProcessEngine(workers)
    try:
        import ray  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "extra-missing", "Ray is not installed.", "Run: pip install 'leukoscope[ray]'"
        ) from None
    from edge.archive.cluster import RayEngine

    return RayEngine(workers, address)


def worker_lost(name: str) -> LeukoError:
    """Say that workers die before they have begun: the fault is not in a field."""
    return LeukoError(
        "workers-die",
        f"The workers of the engine {name} end before they begin.",
        "Run `leuko doctor`; too little memory is the usual cause: use fewer workers.",
    )
