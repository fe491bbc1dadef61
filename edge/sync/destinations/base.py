"""What every destination does, and what it is given to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edge.store.deliveries import Delivery, Parcel
from edge.store.incoming import Exchange
from edge.sync import dating
from edge.sync.policy import Bandwidth
from edge.sync.rollout import Follower
from edge.sync.settings import Sync


@dataclass(frozen=True, slots=True)
class Site:
    """What the destinations need to know of this device.

    `bundle` tells the bundle in use now; `follower` follows the roll-outs of a hub, where that is wanted.
    """

    data_folder: Path
    database: Path
    device: str
    bundle: Callable[[], str]
    ranges: Mapping[str, tuple[float, float]]
    settings: Sync
    refuse_below: float = 0.0
    metered: bool = False
    follower: Follower | None = None

    @property
    def bandwidth(self) -> Bandwidth:
        """The limit on sending."""
        return Bandwidth(self.settings.kilobytes_per_second * 1000)


@dataclass(frozen=True, slots=True)
class Work:
    """One version to be sent."""

    delivery: Delivery
    parcel: Parcel
    exchange: Exchange

    def dated(self) -> dating.Dated:
        """When the analysis was made, as well as is known by now."""
        created = self.parcel.record.created
        return dating.dated(created, self.exchange.anchor(created.boot_id))


class Sender(Protocol):
    """A destination, held open by a `with` block for one contact.

    Every method raises `edge.sync.trouble.SyncError` by what is to be done about it. `send` and `complete` may be
    called again for a version that was sent already, and then change nothing at the destination.
    """

    ordered: bool
    """A version waits while one before it is in conflict or refused."""

    replaces: bool
    """The destination has one place for all versions of a result: an older one must not follow a newer one."""

    def __enter__(self) -> Sender: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, exchange: Exchange) -> None:
        """Make contact, before anything is sent."""
        ...

    def send(self, work: Work) -> bool:
        """Send a version. True when nothing is left to do for it, False when its pictures are still to be sent."""
        ...

    def complete(self, work: Work) -> None:
        """Send what `send` left."""
        ...

    def end(self, exchange: Exchange) -> None:
        """Do what is left when nothing waits any more: fetch what comes back, report."""
        ...
