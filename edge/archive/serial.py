"""One piece after the other, in this process: what the other engines are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edge.archive.engine import ATTEMPTS, Ended, GivenUp, Job, Outcome, Part, Piece, Work
from edge.core.errors import LeukoError


class SerialEngine:
    """See `edge.archive.engine.Engine`."""

    name = "serial"
    isolates = False

    def run(self, job: Job, pieces: Iterable[Piece]) -> Iterator[Outcome]:
        """See `Engine`."""
        with job.open() as work:
            for piece in pieces:
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        yield from _parts(work, piece)
                    except LeukoError:
                        raise
                    except Exception as error:  # noqa: BLE001  (not swallowed: it is the reason that the field is given)
                        if attempt == ATTEMPTS:
                            yield GivenUp(piece.number, f"{type(error).__name__}: {error}")
                    else:
                        yield Ended(piece.number)
                        break


def _parts(work: Work, piece: Piece) -> Iterator[Outcome]:
    for frame, data in enumerate(work(piece)):
        yield Part(piece.number, frame, data)
