"""Cases: the results as people see them. Every look at one is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.core.types import ClockReading, Picture, ResultRecord
from edge.hub import audit, tables, times
from edge.hub.core import Hub, Person
from edge.hub.problems import RefusedError, not_found
from edge.sync import messages
from edge.sync.messages import ResultVersion

PAGE: Final = 50
_results = tables.results
_versions = tables.versions
_devices = tables.devices
_pictures = tables.version_pictures


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One case in a list. `taken` is the best known date of the sample; None when the device did not know the time."""

    id: str
    sample: str
    patient: str | None
    device: str
    site: str
    status: str
    version: int
    received: str
    taken: str | None
    bundle: str
    counted: int | None
    other: int | None
    fields: int | None
    refused: int | None
    second_reader: str | None
    second_reading: bool
    consent: bool


@dataclass(frozen=True, slots=True)
class CasePage:
    """A page of a list; `after` is where the next begins, None at the end."""

    cases: tuple[CaseRow, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a case."""

    version: int
    content_sha256: str
    origin: str
    author: str
    received: str


@dataclass(frozen=True, slots=True)
class PicturePlace:
    """A picture of a version, and whether its bytes are here."""

    kind: str
    field: int
    cell: int | None
    sha256: str
    here: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A case in one version, with all that a review needs. `document` is the public JSON of `leuko analyze`."""

    row: CaseRow
    version: int
    newest: int
    content_sha256: str
    operator: str
    document: Mapping[str, Any]
    pictures: tuple[PicturePlace, ...]
    versions: tuple[VersionRow, ...]
    conflicts: int
    missing_pictures: int


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for: `text` begins a sample or is the patient's hash; moments are ISO 8601; empty means any."""

    text: str = ""
    status: str = ""
    device: str = ""
    second_reading: bool | None = None
    since: str = ""
    until: str = ""
    after: str = ""


def search(hub: Hub, person: Person, wanted: Search, address: str) -> CasePage:
    """List the cases that a person may see, newest first. Raises RefusedError 400 for a place that is none."""
    query = _rows(person).order_by(_results.c.received.desc(), _results.c.id.desc()).limit(PAGE + 1)
    if wanted.text:
        text = audit.clean(wanted.text)
        starts = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        query = query.where(
            sa.or_(_results.c.sample.like(starts, escape="\\"), _results.c.patient == text, _results.c.id == text)
        )
    if wanted.status:
        query = query.where(_results.c.status == wanted.status)
    if wanted.device:
        query = query.where(_devices.c.name == audit.clean(wanted.device))
    if wanted.second_reading is not None:
        query = query.where(_results.c.second_reading.is_(wanted.second_reading))
    for bound, since in ((wanted.since, True), (wanted.until, False)):
        if bound:
            moment = times.parse(bound)
            if moment is None:
                raise RefusedError(400, "moment-invalid", f"{bound[:40]} is no date.", "Write it as 2026-11-24.")
            edge = times.text(moment if since else moment + timedelta(days=1 if len(bound) == 10 else 0))
            query = query.where(_results.c.received >= edge if since else _results.c.received < edge)
    if wanted.after:
        received, _, identifier = wanted.after.partition("~")
        if "\0" in wanted.after or not identifier:
            raise RefusedError(400, "place-invalid", "The list has no such place.", "Begin without `after`.")
        query = query.where(sa.tuple_(_results.c.received, _results.c.id) < sa.tuple_(received, identifier))
    with hub.database.write() as connection:
        rows = connection.execute(query).all()
        audit.record(connection, f"person {person.name}", "search", detail=wanted.text, address=address)
    found = tuple(_case_row(row) for row in rows[:PAGE])
    return CasePage(found, f"{found[-1].received}~{found[-1].id}" if len(rows) > PAGE else None)


def load(hub: Hub, person: Person, identifier: str, address: str, *, version: int | None = None) -> Case:
    """Read a case, and write down who did. Raises RefusedError 404 for what is not there or not the person's."""
    with hub.database.write() as connection:
        found = _load(connection, person, identifier, version)
        audit.record(
            connection, f"person {person.name}", "read", result=found.row.id, detail=str(found.version), address=address
        )
        return found


def read_version(connection: Connection, identifier: str, version: int) -> ResultVersion:
    """Read a version as it was sent."""
    query = sa.select(_versions.c.body).where(_versions.c.id == identifier, _versions.c.version == version)
    return messages.decode(bytes(connection.execute(query).scalar_one()), ResultVersion)


def row_for(connection: Connection, person: Person, identifier: str) -> CaseRow:
    """Read a case's row. Raises RefusedError 404."""
    row = connection.execute(_rows(person).where(_results.c.id == audit.clean(identifier))).first()
    if row is None:
        raise not_found()
    return _case_row(row)


def picture(hub: Hub, person: Person, identifier: str, sha256: str, address: str) -> bytes:
    """Read a picture of a case. Raises RefusedError 404."""
    with hub.database.read() as connection:
        row = row_for(connection, person, identifier)
        part = sa.select(_pictures.c.position).where(_pictures.c.id == row.id, _pictures.c.sha256 == sha256)
        if connection.execute(part.limit(1)).first() is None or not _here(connection, row.id, {sha256}):
            raise not_found("There is no such picture.")
        known = audit.seen_lately(connection, f"person {person.name}", "pictures", row.id, "")
    if not known:
        with hub.database.write() as connection:
            audit.record(connection, f"person {person.name}", "pictures", result=row.id, address=address)
    try:
        return hub.objects.get(sha256)
    except KeyError:
        raise not_found("The picture is lost.") from None


def record_of(hub: Hub, case: Case, kinds: Iterable[str] = ("field", "cell", "activation")) -> ResultRecord:
    """Give a case as the record that `edge.report` draws, with those of its pictures that are here."""
    with hub.database.read() as connection:
        sent = read_version(connection, case.row.id, case.version)
    wanted = set(kinds)
    return to_record(
        sent,
        tuple(
            Picture(place.kind, place.field, place.cell, hub.objects.get(place.sha256))  # type: ignore[arg-type]
            for place in case.pictures
            if place.here and place.kind in wanted
        ),
    )


def to_record(sent: ResultVersion, pictures: tuple[Picture, ...] = ()) -> ResultRecord:
    """Give a version as a record."""
    created = ClockReading(sent.created.wall, sent.created.monotonic, sent.created.boot_id, sent.created.tier)
    return ResultRecord(
        id=sent.id,
        version=sent.version,
        sample=sent.sample,
        operator=sent.operator,
        device=sent.device,
        created=created,
        status=sent.status,
        bundle=sent.bundle,
        bundle_sha256=sent.bundle_sha256,
        runtime=sent.runtime,
        calibration=sent.calibration,
        throttle_bits=sent.throttle_bits,
        document=sent.document,
        pictures=pictures,
    )


def _load(connection: Connection, person: Person, identifier: str, version: int | None) -> Case:
    row = row_for(connection, person, identifier)
    wanted = row.version if version is None else version
    if not 1 <= wanted <= row.version:
        raise not_found("There is no such version.")
    sent = read_version(connection, row.id, wanted)
    hashes = {each.sha256 for each in sent.pictures}
    here = _here(connection, row.id, hashes)
    versions = connection.execute(
        sa.select(*(_versions.c[name] for name in VersionRow.__slots__))
        .where(_versions.c.id == row.id)
        .order_by(_versions.c.version.desc())
    ).all()
    conflicts = connection.scalar(
        sa.select(sa.func.count()).select_from(tables.conflicts).where(tables.conflicts.c.id == row.id)
    )
    return Case(
        row=row,
        version=wanted,
        newest=row.version,
        content_sha256=next(each.content_sha256 for each in versions if each.version == wanted),
        operator=sent.operator,
        document=sent.document,
        pictures=tuple(
            PicturePlace(each.kind, each.field, each.cell, each.sha256, each.sha256 in here) for each in sent.pictures
        ),
        versions=tuple(VersionRow(*each) for each in versions),
        conflicts=int(conflicts or 0),
        missing_pictures=len(hashes - here),
    )


def _here(connection: Connection, identifier: str, hashes: set[str]) -> set[str]:
    pictures = tables.pictures.c
    found: set[str] = set()
    listed = sorted(hashes)
    for start in range(0, len(listed), 500):
        found.update(
            connection.scalars(
                sa.select(pictures.sha256)
                .join(_results, _results.c.device_id == pictures.device_id)
                .where(_results.c.id == identifier, pictures.sha256.in_(listed[start : start + 500]))
            )
        )
    return found


def _rows(person: Person) -> Any:
    anchors = tables.clock_anchors.c
    query = (
        sa.select(
            _results,
            _devices.c.name.label("device"),
            anchors.trusted,
            anchors.monotonic.label("anchor_monotonic"),
        )
        .join(_devices, _devices.c.id == _results.c.device_id)
        .outerjoin(
            tables.clock_anchors,
            sa.and_(anchors.device_id == _results.c.device_id, anchors.boot_id == _results.c.boot_id),
        )
    )
    return query.where(_results.c.site == person.site) if person.site else query


def _case_row(row: Any) -> CaseRow:
    values = {name: getattr(row, name) for name in CaseRow.__slots__ if name not in {"version", "taken"}}
    return CaseRow(**values, version=row.newest, taken=_taken(row))


def _taken(row: Any) -> str | None:
    """Date a result: by its boot's anchor when there is one, else by the wall clock unless nothing vouched for it."""
    if row.trusted is not None:
        anchor = times.parse(row.trusted)
        if anchor is not None:
            try:
                return times.text(anchor + timedelta(seconds=row.monotonic - row.anchor_monotonic))
            except OverflowError:
                return None
    moment = times.parse(row.wall)
    return None if row.tier == "unknown" or moment is None else times.text(moment)
