"""Drains the outbox to every destination, one version at a time, for as long as it takes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.core import clock
from edge.core.errors import LeukoError, StoreError
from edge.store.deliveries import Anchor, Delivery
from edge.store.incoming import Exchange
from edge.sync.destinations import open_sender
from edge.sync.destinations.base import Sender, Site, Work
from edge.sync.policy import Backoff
from edge.sync.settings import Destination
from edge.sync.trouble import BlockedError, ConflictError, GapError, RefusedError, UnreachableError

_log = logging.getLogger(__name__)
_POLL_SECONDS = 5.0


@dataclass
class Tally:
    """What a run did for one destination."""

    name: str
    delivered: int = 0
    trouble: LeukoError | None = None
    until: float = 0.0
    blocked: bool = False
    steps: Iterator[None] | None = field(default=None, repr=False)


@contextlib.contextmanager
def alone(data_folder: Path) -> Iterator[None]:
    """Be the only worker on this store. Raises `StoreError` `sync-running`."""
    with (data_folder / "sync.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            raise StoreError(
                "sync-running", "Another `leuko sync run` is at work on this store.", "Wait for it, or stop it."
            ) from None
        yield


class Worker:
    """Sends from one store to its destinations.

    `everyone` names all destinations of the device, also those that are not sent to now: only what all of them have
    may be let go. `sleep` and `chance` can be given for tests.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        site: Site,
        *,
        everyone: Sequence[str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._destinations = {each.name: each for each in destinations}
        self._everyone = list(everyone if everyone is not None else self._destinations)
        self._site = site
        self._watching = False
        self._sleep = sleep
        self._chance = chance
        settings = site.settings
        self._backoff = Backoff(settings.first_retry_seconds, settings.longest_retry_seconds)

    def run(
        self, *, patience: float, watch: bool = False, after_round: Callable[[], object] = lambda: None
    ) -> list[Tally]:
        """Send until nothing waits that can be sent; go on after a failure while `patience` seconds are not over.

        `watch` goes on for ever, and looks again every `interval_seconds`. Raises `StoreError`.
        """
        end = time.monotonic() + patience
        self._watching = watch
        with alone(self._site.data_folder), Exchange(self._site.database) as exchange:
            keep_own_anchor(exchange)
            tallies = [Tally(name) for name in self._destinations]
            for tally in tallies:
                tally.until = self._remembered_wait(exchange, tally.name)
                left = tally.until - time.monotonic()
                if left > 0:
                    remembered = exchange.contact(tally.name)
                    tally.trouble = UnreachableError(
                        remembered.code,
                        f"{remembered.message} It is left alone for {left:.0f} seconds more.",
                        "To try at once: leuko sync retry, then leuko sync run.",
                    )
            while True:
                self._round(exchange, tallies)
                exchange.close_outbox(self._everyone)
                after_round()
                now = time.monotonic()
                waits = [
                    tally.until
                    for tally in tallies
                    if not tally.blocked and (tally.trouble is not None or tally.until > now)
                ]
                if watch:
                    self._idle(exchange, min([*waits, now + self._site.settings.interval_seconds]))
                    for tally in tallies:
                        tally.blocked = False
                    continue
                if self._anything_new(exchange, tallies):
                    continue
                if not waits or min(waits) > end:
                    return tallies
                self._sleep(max(0.0, min(waits) - now))

    def _anything_new(self, exchange: Exchange, tallies: Sequence[Tally]) -> bool:
        """Whether a version came in by one destination that another has not seen yet."""
        now = time.monotonic()
        return any(exchange.unseen(tally.name) for tally in tallies if not tally.blocked and tally.until <= now)

    def _idle(self, exchange: Exchange, until: float) -> None:
        """Wait, but not when a new result is saved meanwhile."""
        while (left := until - time.monotonic()) > 0:
            self._sleep(min(left, _POLL_SECONDS))
            if any(
                exchange.unseen(name) and self._remembered_wait(exchange, name) <= time.monotonic()
                for name in self._destinations
            ):
                return

    def _round(self, exchange: Exchange, tallies: Sequence[Tally]) -> None:
        """Take turns, a step each, so that a slow destination does not hold up the others."""
        now = time.monotonic()
        open_ones = [tally for tally in tallies if not tally.blocked and tally.until <= now]
        for tally in open_ones:
            tally.trouble = None
            tally.steps = self._steps(exchange, tally)
        while open_ones:
            open_ones = [tally for tally in open_ones if self._step(exchange, tally)]

    def _step(self, exchange: Exchange, tally: Tally) -> bool:
        assert tally.steps is not None  # noqa: S101 - set by `_round`
        try:
            next(tally.steps)
        except StopIteration:
            self._note(exchange, tally, None)
            return False
        except (UnreachableError, BlockedError) as error:
            self._note(exchange, tally, error)
            return False
        return True

    def _note(self, exchange: Exchange, tally: Tally, error: LeukoError | None) -> None:
        """Remember how the contact ended, and until when to leave the destination alone."""
        now = clock.read()
        remembered = exchange.contact(tally.name)
        tally.trouble = error
        if error is None:
            tally.until = 0.0
            kept = replace(remembered, failures=0, wait_until=0.0, code="", message="", contact=now.wall)
        else:
            failures = remembered.failures + 1
            after = error.retry_after if isinstance(error, UnreachableError) else None
            wait = self._backoff.delay(failures, self._chance(), after)
            tally.until = time.monotonic() + wait
            tally.blocked = isinstance(error, BlockedError)
            kept = replace(
                remembered,
                failures=failures,
                wait_boot_id=now.boot_id,
                wait_until=now.monotonic + wait if isinstance(error, UnreachableError) else 0.0,
                code=error.code,
                message=error.message,
            )
            # Said once, not at every attempt.
            if (error.code, error.message) != (remembered.code, remembered.message):
                # A service has nobody to hand its result to.
                _log.log(logging.WARNING if self._watching else logging.INFO, "%s: %s", tally.name, error)
        exchange.remember(tally.name, kept)

    def _remembered_wait(self, exchange: Exchange, name: str) -> float:
        """Until when, on this process's clock, an earlier run was asked to leave the destination alone."""
        remembered, now = exchange.contact(name), clock.read()
        if remembered.wait_boot_id != now.boot_id:
            return 0.0
        return time.monotonic() + max(0.0, remembered.wait_until - now.monotonic)

    def _steps(self, exchange: Exchange, tally: Tally) -> Iterator[None]:
        """One contact with a destination, in steps: numbers first, then pictures, then what comes back."""
        name = tally.name
        exchange.enlist(name)
        if self._site.metered and self._site.settings.metered_sends == "nothing":
            return
        with open_sender(self._destinations[name], self._site) as sender:
            sender.begin(exchange)
            yield
            while delivery := exchange.next(name, "pending", blocking=sender.ordered):
                self._deliver(exchange, sender, delivery, tally)
                exchange.enlist(name)
                yield
            if not (self._site.metered and self._site.settings.metered_sends == "numbers"):
                after = 0
                while delivery := exchange.next(name, "accepted", blocking=False, after=after):
                    after = delivery.sequence
                    self._complete(exchange, sender, delivery, tally)
                    yield
            sender.end(exchange)

    def _deliver(self, exchange: Exchange, sender: Sender, delivery: Delivery, tally: Tally) -> None:
        if sender.replaces and exchange.is_overtaken(delivery):
            exchange.move(delivery, "settled", code="overtaken", message="a later version is there", tried=False)
            return
        try:
            whole = sender.send(Work(delivery, exchange.parcel(delivery.id, delivery.version), exchange))
        except GapError as gap:
            if not exchange.reopen(delivery, gap.newest):
                exchange.move(delivery, "refused", code=gap.code, message=gap.message)
        except ConflictError as error:
            exchange.move(delivery, "conflict", code=error.code, message=str(error))
        except (RefusedError, StoreError) as error:
            if isinstance(error, StoreError) and error.code != "result-altered":
                raise
            exchange.move(delivery, "refused", code=error.code, message=str(error))
        except UnreachableError as error:
            exchange.move(delivery, delivery.state, code=error.code, message=error.message)
            raise
        else:
            exchange.move(delivery, "delivered" if whole else "accepted")
            tally.delivered += int(whole)

    def _complete(self, exchange: Exchange, sender: Sender, delivery: Delivery, tally: Tally) -> None:
        try:
            sender.complete(Work(delivery, exchange.parcel(delivery.id, delivery.version), exchange))
        except (RefusedError, StoreError) as error:
            if isinstance(error, StoreError) and error.code != "result-altered":
                raise
            exchange.move(delivery, "refused", code=error.code, message=str(error))
        except UnreachableError as error:
            exchange.move(delivery, delivery.state, code=error.code, message=error.message)
            raise
        else:
            exchange.move(delivery, "delivered")
            tally.delivered += 1


def keep_own_anchor(exchange: Exchange) -> None:
    """When this device's own clock follows a time server, let it date what was read in this boot before it did."""
    now = clock.read()
    if now.tier == "network":
        exchange.keep_anchor(Anchor(now, now.wall, "time-server"))
