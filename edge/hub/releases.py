"""Model releases: the signed repository as static files, and which devices shall have which bundle.

The rules decide who gets a bundle when; what a bundle is, and that it is ours, the device checks by the signatures of
the repository. A hub that lies can hold back a release, and nothing more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.core.differential import OTHER_RATE_LIMIT, wilson
from edge.core.identifiers import uuid7
from edge.hub import audit, tables, times
from edge.hub.core import Device, Hub
from edge.hub.problems import HubError, RefusedError, not_found
from edge.sync.messages import HealthReport, WantedRelease

GOLDEN_CHECK: Final = "golden-vectors"
"""The check of the device's doctor that a bundle computes there what it computed where it was made."""

FAILED_STATES: Final = frozenset({"failed", "rolled-back"})
"""Outcomes of a roll-out on one device that halt it: the bundle is damaged, does not work there, or was left again."""

ABSTENTION_CELLS: Final = 200
"""Located cells under a bundle before its abstentions say anything."""

_COMPARED_RESULTS: Final = 500
_rollouts = tables.rollouts
_results = tables.results


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rule: `percentage` of the devices of a cohort and class (empty: any) shall have `bundle`, unless halted."""

    id: str
    bundle: str
    cohort: str
    device_class: str
    percentage: int
    made: str
    made_by: str
    halted: str | None
    reason: str


def rollouts(hub: Hub) -> tuple[Rollout, ...]:
    """List the rules, newest first."""
    with hub.database.read() as connection:
        return _all(connection)


def add(hub: Hub, bundle: str, *, percentage: int, cohort: str, device_class: str, by: str) -> Rollout:
    """Add a rule. Raises HubError `rollout-invalid`."""
    name, separator, version = bundle.partition("@")
    if not (name and separator and version and len(bundle) <= 200 and 0 <= percentage <= 100):
        raise HubError(
            "rollout-invalid", "A roll-out names a bundle and a percentage.", "Give NAME@VERSION and 0 to 100."
        )
    rule = Rollout(
        id=uuid7(),
        bundle=audit.clean(bundle),
        cohort=audit.clean(cohort),
        device_class=audit.clean(device_class),
        percentage=percentage,
        made=times.now(),
        made_by=by,
        halted=None,
        reason="",
    )
    with hub.database.write() as connection:
        values = {name: getattr(rule, name) for name in Rollout.__slots__}
        connection.execute(_rollouts.insert().values(**values))
        audit.record(connection, by, "rollout-made", detail=f"{bundle} {percentage}% {cohort} {device_class}")
    return rule


def halt(hub: Hub, identifier: str, *, reason: str, by: str) -> None:
    """Halt a rule by hand; devices that have the bundle already keep it. Raises RefusedError 404."""
    with hub.database.write() as connection:
        if not _halt(connection, audit.clean(identifier), audit.clean(reason), by):
            raise not_found()


def wanted(hub: Hub, device: Device) -> WantedRelease:
    """Tell which bundle a device shall have: by the newest rule that fits it and is not halted."""
    with hub.database.read() as connection:
        for rule in _all(connection):
            if rule.halted is None and fits(rule, device):
                return WantedRelease(rule.bundle, rule.id)
    return WantedRelease(None, None)


def fits(rule: Rollout, device: Device) -> bool:
    """Whether a rule is for a device. A device that is within 10 % of a bundle's devices is within 20 %, too."""
    if rule.cohort and rule.cohort != device.cohort:
        return False
    if rule.device_class and rule.device_class != device.device_class:
        return False
    drawn = hashlib.sha256(f"{rule.bundle} {device.id}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") * 100 < rule.percentage << 64


def halt_where_needed(
    connection: Connection, device: Device, report: HealthReport, before: HealthReport | None
) -> None:
    """Halt the roll-outs of a bundle that failed on the reporter, miscomputes there, or abstains too often.

    `before` is the report before: a failure that it told of already halts no roll-out that was made since.
    """
    running = [rule for rule in _all(connection) if rule.halted is None]
    told = report.release
    if told is not None and told.state in FAILED_STATES and (before is None or before.release != told):
        _halt_all(connection, running, told.bundle, f"{told.state} on {device.name}: {told.message}")
    if not any(rule.bundle == report.bundle for rule in running):
        return
    failed = any(check.id == GOLDEN_CHECK and check.verdict == "fail" for check in report.checks)
    reason = f"golden vectors fail on {device.name}" if failed else _abstains(connection, report.bundle)
    if reason:
        _halt_all(connection, running, report.bundle, reason)


def _halt_all(connection: Connection, rules: Sequence[Rollout], bundle: str, reason: str) -> None:
    for rule in rules:
        if rule.bundle == bundle:
            _halt(connection, rule.id, audit.clean(reason)[:500], "the hub")


def release_file(hub: Hub, path: str) -> Path:
    """Find a file of the repository. Raises RefusedError 404 for anything else."""
    if not hub.settings.releases:
        raise RefusedError(404, "no-releases", "This hub serves no releases.", "Start it with --releases DIR.")
    folder = Path(hub.settings.releases).resolve()
    parts = path.split("/")
    if any(part.startswith(".") or not part or "\0" in part or "\\" in part for part in parts):
        raise not_found()
    found = folder.joinpath(*parts)
    try:
        if found.resolve() != found or not found.is_file():  # no link leads out, or anywhere
            raise not_found()
    except OSError:
        raise not_found() from None
    return found


def _abstains(connection: Connection, bundle: str) -> str:
    """Say why a bundle abstains too often; empty when it does not, or too few cells were seen."""
    other, located = _sums(connection, _results.c.bundle == bundle)
    before_other, before = _sums(connection, _results.c.bundle != bundle)
    if located < ABSTENTION_CELLS:
        return ""
    limit = max(OTHER_RATE_LIMIT, 2 * before_other / before if before >= ABSTENTION_CELLS else 0.0)
    if wilson(other, located).low <= limit:
        return ""
    return f"{other} of {located} cells are other or abstained; the limit is {100 * limit:.1f} %"


def _sums(connection: Connection, condition: sa.ColumnElement[bool]) -> tuple[int, int]:
    """Sum the newest results that fit: cells under `other`, and all located cells."""
    newest = (
        sa.select(_results.c.other, _results.c.counted)
        .where(condition, _results.c.counted.is_not(None))
        .order_by(_results.c.received.desc())
        .limit(_COMPARED_RESULTS)
        .subquery()
    )
    row = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(newest.c.other), 0), sa.func.coalesce(sa.func.sum(newest.c.counted), 0))
    ).one()
    other, counted = int(row[0]), int(row[1])
    return other, other + counted


def _all(connection: Connection) -> tuple[Rollout, ...]:
    rows = connection.execute(sa.select(_rollouts).order_by(_rollouts.c.made.desc(), _rollouts.c.id.desc()))
    return tuple(Rollout(**row._mapping) for row in rows)


def _halt(connection: Connection, identifier: str, reason: str, by: str) -> bool:
    done = connection.execute(
        _rollouts.update()
        .where(_rollouts.c.id == identifier, _rollouts.c.halted.is_(None))
        .values(halted=times.now(), reason=reason)
    )
    if done.rowcount:
        audit.record(connection, by, "rollout-halted", detail=f"{identifier}: {reason}")
    return bool(done.rowcount)
