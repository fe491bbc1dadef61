"""What `leuko sync` does: one function for each of its verbs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from edge import __version__
from edge.core import clock, durable
from edge.core.errors import UsageError
from edge.store import retention
from edge.store.deliveries import Contact, Delivery, Incoming
from edge.store.incoming import Exchange
from edge.sync import dating, network
from edge.sync.destinations.base import Site
from edge.sync.rollout import Follower
from edge.sync.settings import Destination, HubDestination, Local, local_file
from edge.sync.trouble import BlockedError, SyncError
from edge.sync.worker import Tally, Worker

if TYPE_CHECKING:
    from edge.config import Config
    from edge.sync.messages import Enrolment


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one destination stands."""

    destination: Destination
    counts: dict[str, int]
    contact: Contact
    incoming: int
    oldest: str | None

    @property
    def waiting(self) -> int:
        """Versions that are not delivered yet."""
        return self.counts.get("pending", 0) + self.counts.get("accepted", 0)

    @property
    def in_trouble(self) -> int:
        """Versions that wait for a person."""
        return self.counts.get("conflict", 0) + self.counts.get("refused", 0) + self.incoming


def destinations(config: Config) -> tuple[Destination, ...]:
    """Give the destinations of the configuration, and those that `enrol` added."""
    path = local_file(config.data_path)
    local = msgspec.json.decode(path.read_bytes(), type=Local) if path.exists() else Local()
    named = {each.name for each in config.destinations}
    return (*config.destinations, *(each for each in local.destinations if each.name not in named))


def chosen(config: Config, names: Sequence[str]) -> tuple[Destination, ...]:
    """Give the named destinations, or all. Raises `UsageError` `destination-unknown` or `no-destination`."""
    known = destinations(config)
    if not known:
        raise UsageError(
            "no-destination",
            "No destination is configured.",
            "Enrol at a hub (leuko sync enrol URL CODE), or add [[destinations]] to the configuration (docs/sync.md).",
        )
    for name in names:
        if name not in {each.name for each in known}:
            raise UsageError(
                "destination-unknown",
                f"There is no destination {name!r}.",
                f"Known: {', '.join(each.name for each in known)}.",
            )
    return tuple(each for each in known if not names or each.name in names)


def site(config: Config, bundle: Callable[[], str] = str, follower: Follower | None = None) -> Site:
    """Tell the destinations about this device."""
    return Site(
        data_folder=config.data_path,
        database=config.database_path,
        device=config.device_name,
        bundle=bundle,
        ranges=config.ranges.by_label(),
        settings=config.sync,
        refuse_below=config.storage.refuse_below_megabytes * 1_000_000,
        metered=network.is_metered(config.sync.metered),
        follower=follower,
    )


def run(
    config: Config,
    names: Sequence[str] = (),
    *,
    bundle: Callable[[], str] = str,
    follower: Follower | None = None,
    patience: float = 120.0,
    watch: bool = False,
) -> list[Tally]:
    """Send what waits; then let pictures go where the disk needs it, and follow the roll-outs of the first hub.

    Raises as `Worker.run` and `chosen` do.
    """
    wanted = chosen(config, names)
    device = site(config, bundle, follower)
    hub = next((each for each in destinations(config) if isinstance(each, HubDestination)), None)

    def after_round() -> None:
        release(config, only_as_needed=True)
        if hub in wanted and isinstance(hub, HubDestination):
            follow(hub, device)

    return Worker(wanted, device, everyone=[each.name for each in destinations(config)]).run(
        patience=patience, watch=watch, after_round=after_round
    )


def follow(hub: HubDestination, device: Site) -> None:
    """Ask a hub that has just been in touch which bundle this device shall have, see to it, and tell the outcome.

    What goes wrong on the way to the hub is logged: the next contact asks again.
    """
    from edge.sync.destinations.hub import HubSender

    if device.follower is None:
        return
    try:
        with Exchange(device.database) as exchange:
            if exchange.contact(hub.name).code:
                return
            with HubSender(hub, device) as sender:
                sender.begin(exchange)
                asked = sender.wanted_release()
                if asked is not None and device.follower.follow(asked, hub.url.rstrip("/") + "/releases", hub.ca_file):
                    sender.report(exchange)
    except SyncError as error:
        _log.warning("%s: %s", hub.name, error)


def release(config: Config, *, only_as_needed: bool) -> retention.Released:
    """Let acknowledged pictures go: those past their days, and as many more as bring the disk above its mark.

    Unless `only_as_needed`, all that are acknowledged everywhere.
    """
    now = dating.parse(clock.read().wall)
    database = config.database_path
    ever = (now + timedelta(days=36_500)).isoformat()
    if not only_as_needed:
        return retention.release(database, older_than=ever)
    done = retention.Released(0, 0)
    if config.storage.keep_pictures_days > 0:
        old = (now - timedelta(days=config.storage.keep_pictures_days)).isoformat()
        done = retention.release(database, older_than=old)
    lacking = int(config.storage.release_below_megabytes * 1_000_000) - retention.space(database).usable
    if lacking > 0:
        more = retention.release(database, older_than=ever, enough=lacking)
        done = retention.Released(done.pictures + more.pictures, done.bytes + more.bytes)
    return done


def status(config: Config) -> tuple[Standing, ...]:
    """Tell where each destination stands; changes nothing."""
    with Exchange(config.database_path, read_only=True) as exchange:
        return tuple(
            Standing(
                destination=each,
                counts=exchange.counts(each.name),
                contact=exchange.contact(each.name),
                incoming=len(exchange.incoming(each.name)),
                oldest=exchange.oldest_waiting(each.name),
            )
            for each in destinations(config)
        )


def conflicts(config: Config) -> tuple[tuple[Delivery, ...], tuple[Incoming, ...]]:
    """List what waits for a person: versions that a destination would not take, and versions of a hub."""
    with Exchange(config.database_path, read_only=True) as exchange:
        known = destinations(config)
        stuck = [row for each in known for row in exchange.find(each.name, ("conflict", "refused"))]
        return tuple(stuck), exchange.incoming()


def retry(config: Config, names: Sequence[str] = ()) -> int:
    """Make refused and conflicting versions wait again, and forget every back-off; returns how many versions."""
    count = 0
    with Exchange(config.database_path) as exchange:
        for each in chosen(config, names):
            count += exchange.again(each.name, ("refused", "conflict"))
            remembered = exchange.contact(each.name)
            exchange.remember(each.name, replace(remembered, failures=0, wait_until=0.0))
    return count


def enrol(config: Config, url: str, code: str, *, name: str, ca_file: str, device_class: str) -> Enrolment:
    """Become a device of a hub, and keep it as a destination. Raises `SyncError`."""
    from edge.sync.destinations.hub import enrol as ask

    known = {each.name: each for each in destinations(config)}
    before = known.get(name)
    if before is not None and not isinstance(before, HubDestination):
        raise UsageError("destination-taken", f"{name!r} is another kind of destination.", "Choose another --name.")
    wanted = {"name": name, "url": url, "ca_file": ca_file, "device_class": device_class}
    try:
        destination = msgspec.convert({"kind": "hub", **wanted}, HubDestination)
    except msgspec.ValidationError as error:
        raise UsageError("name-invalid", f"{error}.", "Use lower-case letters, digits and hyphens.") from None
    config.data_path.mkdir(parents=True, exist_ok=True)
    answer = ask(destination, site(config), code, __version__)
    path = local_file(config.data_path)
    local = msgspec.json.decode(path.read_bytes(), type=Local) if path.exists() else Local()
    kept = tuple(each for each in local.destinations if each.name != name)
    durable.write_bytes(path, msgspec.json.encode(Local((*kept, destination))) + b"\n")
    return answer


def rotate(config: Config, name: str) -> None:
    """Replace the secret at a hub. Raises `SyncError`, `UsageError`."""
    from edge.sync.destinations.hub import HubSender

    (destination,) = chosen(config, (name,))
    if not isinstance(destination, HubDestination):
        raise UsageError("not-a-hub", f"{name} is no hub.", "Only a hub's credential can be replaced here.")
    with Exchange(config.database_path) as exchange, HubSender(destination, site(config)) as sender:
        sender.rotate(exchange)


def check(config: Config, names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Make contact with each destination without sending; (name, "" or what is wrong)."""
    from edge.sync.destinations import open_sender
    from edge.sync.trouble import SyncError

    found = []
    with Exchange(config.database_path) as exchange:
        for each in chosen(config, names):
            try:
                with open_sender(each, site(config)) as sender:
                    sender.begin(exchange)
            except (SyncError, BlockedError) as error:
                found.append((each.name, str(error)))
            else:
                found.append((each.name, ""))
    return found
