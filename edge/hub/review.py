"""Readings: what people call the cells of a case, the second reader, and the signature that goes back to the device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge import config
from edge.core import clock
from edge.core.errors import UsageError
from edge.core.types import ResultRecord
from edge.hub import audit, cases, ingest, tables, times, wayback
from edge.hub.audit import clean
from edge.hub.cases import CaseRow
from edge.hub.core import Hub, Person
from edge.hub.problems import RefusedError, not_found
from edge.review.places import Change, change
from edge.review.relabel import relabelled
from edge.review.worklist import ReviewCell, worklist
from edge.sync import messages
from edge.sync.messages import AuditLink, Moment, ResultVersion

_readings = tables.readings
_people = tables.people
_results = tables.results


@dataclass(frozen=True, slots=True)
class Reading:
    """What one person calls the cells: `labels` by place ("3.2"), where it differs from the document."""

    reader: str
    version: int
    labels: Mapping[str, str]
    note: str
    finished: bool
    changed: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A cell that two readers call differently."""

    place: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two finished readings agree: shares of cells, and Cohen's kappa (None when it is not defined)."""

    readers: tuple[str, ...]
    cells: int
    agreed: int
    kappa: float | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Desk:
    """What lies before a reviewer. Until their own reading is finished, other people's are not shown (`blinded`)."""

    own: Reading | None
    others: tuple[Reading, ...]
    blinded: int
    agreement: Agreement | None
    second_reader: str | None
    second_reading: bool
    may_sign: bool
    why_not: str


def desk(hub: Hub, person: Person, identifier: str) -> Desk:
    """Lay out the readings of the newest version for a person. Raises RefusedError 404."""
    with hub.database.read() as connection:
        row = cases.row_for(connection, person, identifier)
        found = _load(connection, row)
        own = next((each for each in found if each.reader == person.name), None)
        others = tuple(each for each in found if each.reader != person.name)
        blind = own is None or not own.finished
        record = cases.to_record(cases.read_version(connection, row.id, row.version))
        why = _why_not(connection, person, row, found)
    finished = [each for each in found if each.finished]
    agreed = _agreement(record, finished[0], finished[1]) if len(finished) > 1 and not (blind and others) else None
    return Desk(
        own=own,
        others=() if blind else tuple(each for each in others if each.finished),
        blinded=len(others) if blind else 0,
        agreement=agreed,
        second_reader=row.second_reader,
        second_reading=row.second_reading,
        may_sign=not why,
        why_not=why,
    )


def save_reading(
    hub: Hub,
    person: Person,
    identifier: str,
    *,
    version: int,
    labels: Mapping[str, str],
    note: str,
    finished: bool,
    address: str,
) -> None:
    """Keep a person's reading. Raises RefusedError 404, 409 `not-the-newest` or `reading-finished`, 422."""
    with hub.database.write() as connection:
        row = cases.row_for(connection, person, identifier)
        _require_newest(row, version)
        record = cases.to_record(cases.read_version(connection, row.id, version))
        if labels:
            _relabel(record, labels, person.name, "reading", signed=True)
        key = {"id": row.id, "version": version, "person_id": person.id}
        before = connection.execute(sa.select(_readings.c.finished).where(*_this(key))).first()
        if before is not None and before.finished:
            raise RefusedError(409, "reading-finished", "Your reading of this version is finished.")
        values = {"labels": json.dumps(dict(labels)), "note": clean(note)[:4000], "finished": finished}
        values["changed"] = times.now()
        hub.database.insert_missing(connection, _readings, {**key, **values})
        connection.execute(_readings.update().where(*_this(key)).values(**values))
        audit.record(
            connection,
            f"person {person.name}",
            "reading-finished" if finished else "reading-saved",
            result=row.id,
            detail=f"version {version}, {len(labels)} cells",
            address=address,
        )


def ask_second_reader(hub: Hub, person: Person, identifier: str, reader: str, address: str) -> None:
    """Ask somebody, or with no name anybody else, to read the case too. Raises RefusedError 404 or 422."""
    with hub.database.write() as connection:
        row = cases.row_for(connection, person, identifier)
        if reader:
            found = connection.execute(sa.select(_people).where(_people.c.name == clean(reader))).first()
            fits = found is not None and "reviewer" in found.roles.split() and found.site in {"", row.site}
            if not fits or reader == person.name:
                raise RefusedError(422, "reader-unknown", "That is no other reviewer who may see this case.")
        connection.execute(
            _results.update().where(_results.c.id == row.id).values(second_reading=True, second_reader=reader or None)
        )
        audit.record(
            connection, f"person {person.name}", "second-reader", result=row.id, detail=reader, address=address
        )


def withdraw_second_reader(hub: Hub, person: Person, identifier: str, address: str) -> None:
    """Take the request for a second reading back, so that one person can sign. Raises RefusedError 404."""
    with hub.database.write() as connection:
        row = cases.row_for(connection, person, identifier)
        connection.execute(
            _results.update().where(_results.c.id == row.id).values(second_reading=False, second_reader=None)
        )
        audit.record(connection, f"person {person.name}", "second-reader-withdrawn", result=row.id, address=address)


def sign(
    hub: Hub,
    person: Person,
    identifier: str,
    *,
    version: int,
    labels: Mapping[str, str],
    reason: str,
    address: str,
) -> int:
    """Sign the newest version as it is, or with these cells called anew; returns the number of the version it makes.

    Raises RefusedError 404, 409 `not-the-newest` or `not-ready`, 422.
    """

    def work(connection: Connection) -> int:
        # The lock: of two who sign at once, one finds that the version is no longer the newest.
        connection.execute(_results.update().where(_results.c.id == clean(identifier)).values(newest=_results.c.newest))
        row = cases.row_for(connection, person, identifier)
        _require_newest(row, version)
        if why := _why_not(connection, person, row, _load(connection, row)):
            raise RefusedError(409, "not-ready", why)
        sent = cases.read_version(connection, row.id, version)
        made, body = _signed(connection, sent, labels, person.name, clean(reason).strip(), row.consent)
        content = messages.sha256(body)
        device, site = connection.execute(
            sa.select(_results.c.device_id, _results.c.site).where(_results.c.id == row.id)
        ).one()
        ingest.store(connection, made, body, content, device_id=device, site=site, origin="hub", at=times.now())
        connection.execute(
            _results.update().where(_results.c.id == row.id).values(second_reading=False, second_reader=None)
        )
        wayback.add(connection, device, made.id, made.version)
        audit.record(
            connection,
            f"person {person.name}",
            made.audit.event,
            result=row.id,
            detail=f"version {made.version}: {reason}",
            address=address,
        )
        return made.version

    return hub.database.repeat(work)


def set_consent(hub: Hub, person: Person, identifier: str, consent: bool, address: str) -> None:
    """Take back, at the hub, the consent to train on a case. It is given where patients are asked: at the device."""
    with hub.database.write() as connection:
        row = cases.row_for(connection, person, identifier)
        if consent and not row.consent:
            raise RefusedError(422, "consent-not-ours", "Consent is given at the device.", "Ask the clinic.")
        connection.execute(_results.update().where(_results.c.id == row.id).values(consent=consent))
        audit.record(
            connection, f"person {person.name}", "consent", result=row.id, detail=str(consent), address=address
        )


def cells(case: cases.Case) -> tuple[ReviewCell, ...]:
    """Give the cells of a case in the order they should be looked at; none when the document is not understood."""
    record = ResultRecord(
        id=case.row.id,
        version=case.version,
        sample=case.row.sample,
        operator=case.operator,
        device=case.row.device,
        created=clock.read(),
        status="preliminary",
        bundle=case.row.bundle,
        bundle_sha256="",
        runtime="",
        calibration=None,
        throttle_bits=None,
        document=case.document,
    )
    try:
        return worklist(record)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ()


def _signed(  # noqa: PLR0917  # of this module alone
    connection: Connection,
    sent: ResultVersion,
    labels: Mapping[str, str],
    operator: str,
    reason: str,
    consent: bool,
) -> tuple[ResultVersion, bytes]:
    now = clock.read()
    recorded = Moment(now.wall, now.monotonic, now.boot_id, now.tier)
    status, event, document = "final", "signed", sent.document
    if labels:
        document = dict(_relabel(cases.to_record(sent), labels, operator, reason, signed=True).document)
        if sent.status != "preliminary":
            status, event = "corrected", "corrected"
    blank = AuditLink(event, operator, reason, recorded, 0, "0" * 64, "0" * 64)  # type: ignore[arg-type]
    made = ResultVersion(
        **{
            **{name: getattr(sent, name) for name in sent.__struct_fields__},
            "version": sent.version + 1,
            "operator": operator,
            "status": status,
            "training_consent": sent.training_consent and consent,
            "document": document,
            "audit": blank,
        }
    )
    bound = messages.encode(made)
    link = audit.next_link(connection, event, operator, reason, recorded, bound)
    made = ResultVersion(**{**{name: getattr(made, name) for name in made.__struct_fields__}, "audit": link})
    return made, messages.encode(made)


def _relabel(
    record: ResultRecord, labels: Mapping[str, str], operator: str, reason: str, *, signed: bool
) -> ResultRecord:
    try:
        changes: list[Change] = [change(f"{place}={label}") for place, label in labels.items()]
        return relabelled(
            record, changes, operator=operator, reason=reason, ranges=config.load().ranges.by_label(), signed=signed
        )
    except UsageError as error:
        raise RefusedError(422, error.code, error.message, error.cure) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise RefusedError(422, "not-understood", "The document of this case is not understood.") from None


def _why_not(connection: Connection, person: Person, row: CaseRow, found: tuple[Reading, ...]) -> str:
    """Say why a person may not sign yet; empty when they may."""
    if "reviewer" not in person.roles:
        return "Only a reviewer signs."
    wanted = connection.scalar(sa.select(_results.c.second_reading).where(_results.c.id == row.id))
    finished = {each.reader for each in found if each.finished}
    if wanted and (len(finished) < 2 or (row.second_reader and row.second_reader not in finished)):
        return "A second reading was asked for: two people must have finished theirs."
    return ""


def _load(connection: Connection, row: CaseRow) -> tuple[Reading, ...]:
    found = connection.execute(
        sa.select(_readings, _people.c.name)
        .join(_people, _people.c.id == _readings.c.person_id)
        .where(_readings.c.id == row.id, _readings.c.version == row.version)
        .order_by(_readings.c.changed)
    )
    return tuple(
        Reading(each.name, each.version, json.loads(each.labels), each.note, each.finished, each.changed)
        for each in found
    )


def _agreement(record: ResultRecord, first: Reading, second: Reading) -> Agreement:
    """Compare two readings cell by cell (Cohen, Educational and Psychological Measurement 20:37-46, 1960)."""
    found = [(str(cell.place), cell.group) for cell in worklist(record)]
    pairs = [(place, first.labels.get(place, group), second.labels.get(place, group)) for place, group in found]
    agreed = sum(a == b for _, a, b in pairs)
    names = {label for _, a, b in pairs for label in (a, b)}
    kappa = None
    if pairs:
        chance = (
            sum(sum(a == name for _, a, _ in pairs) * sum(b == name for _, _, b in pairs) for name in names)
            / len(pairs) ** 2
        )
        kappa = None if chance >= 1 else round((agreed / len(pairs) - chance) / (1 - chance), 3)
    differences = tuple(
        Difference(place, {first.reader: a, second.reader: b}) for place, a, b in sorted(pairs) if a != b
    )
    return Agreement((first.reader, second.reader), len(pairs), agreed, kappa, differences)


def _require_newest(row: CaseRow, version: int) -> None:
    if version > row.version or version < 1:
        raise not_found("There is no such version.")
    if row.version != version:
        raise RefusedError(
            409,
            "not-the-newest",
            f"Version {row.version} came in the meantime.",
            "Look at it first.",
            newest=row.version,
        )


def _this(key: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    return [_readings.c[name] == value for name, value in key.items()]
