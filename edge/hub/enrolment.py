"""Devices: one-time codes, enrolment, credentials, revocation."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from edge.core.identifiers import uuid7
from edge.hub import audit, tables, times
from edge.hub.core import SCOPES, Device, Hub
from edge.hub.problems import HubError, RefusedError
from edge.sync.messages import Enrolment, EnrolmentRequest, credential_sha256

CODE_HOURS: Final = 24.0
_ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without 0, 1, I and O, which are mixed up when a code is read from paper."""

_devices = tables.devices
_codes = tables.enrolment_codes
_BY_ID = sa.select(_devices).where(_devices.c.id == sa.bindparam("id"))  # made once: every request runs it


@dataclass(frozen=True, slots=True)
class NewCode:
    """A one-time code, told once."""

    code: str
    name: str
    expires: str


def make_code(
    hub: Hub,
    name: str,
    *,
    made_by: str,
    site: str = "",
    cohort: str = "",
    scopes: tuple[str, ...] = SCOPES,
    hours: float = CODE_HOURS,
    bound_site: str = "",
) -> NewCode:
    """Make a code of 80 random bits for a device. A name that is known gives that device a new secret.

    With `bound_site`, a device of another site is refused.

    Raises HubError `scope-unknown`, `name-invalid` or `name-taken`.
    """
    name = name.strip()
    if not name or len(name) > 200 or audit.clean(name) != name:
        raise HubError("name-invalid", "A device needs a name of at most 200 characters.", "Give another name.")
    if unknown := set(scopes) - set(SCOPES):
        raise HubError(
            "scope-unknown", f"There is no scope {', '.join(sorted(unknown))}.", f"Choose from {', '.join(SCOPES)}."
        )
    plain = "".join(secrets.choice(_ALPHABET) for _ in range(16))
    expires = times.ahead(hours=hours)
    with hub.database.write() as connection:
        there = connection.execute(sa.select(_devices.c.id, _devices.c.site).where(_devices.c.name == name)).first()
        if there is not None and bound_site not in {"", there.site}:
            raise HubError("name-taken", "Another device has this name.", "Give another name.")
        bound = None if there is None else there.id
        connection.execute(
            _codes.insert().values(
                code_sha256=_code_hash(plain),
                name=name,
                site=audit.clean(site),
                cohort=audit.clean(cohort),
                scopes=" ".join(scopes),
                bound_device=bound,
                made_by=made_by,
                made=times.now(),
                expires=expires,
            )
        )
        audit.record(connection, made_by, "code-made", detail=name)
    return NewCode("-".join(plain[place : place + 4] for place in range(0, 16, 4)), name, expires)


def enrol(hub: Hub, request: EnrolmentRequest, address: str) -> tuple[Enrolment, bool]:
    """Make a device of the hub; returns whether it is new. Raises RefusedError as the protocol says."""

    def work(connection: Connection) -> tuple[Enrolment, bool]:
        digest = _code_hash(request.code)
        # An update that changes nothing locks the row: of two that come at once, one waits.
        connection.execute(_codes.update().where(_codes.c.code_sha256 == digest).values(name=_codes.c.name))
        code = connection.execute(sa.select(_codes).where(_codes.c.code_sha256 == digest)).first()
        if code is None:
            raise RefusedError(403, "code-unknown", "There is no such code.", "Ask for a new code: leuko hub enrol.")
        if code.used_credential is not None:
            if not hmac.compare_digest(code.used_credential, request.credential_sha256):
                raise RefusedError(409, "code-used", "The code was used before.", "Ask for a new code.")
            return _enrolment(code.used_device, code.name), False
        if code.expires < times.now():
            raise RefusedError(410, "code-expired", "The code is too old.", "Ask for a new code.")
        device = code.bound_device or uuid7()
        facts: dict[str, Any] = {
            "device_class": audit.clean(request.device_class),
            "software": audit.clean(request.software),
            "credential": request.credential_sha256,
            "next_credential": None,
            "scopes": code.scopes,
            "revoked": None,
        }
        if code.bound_device:
            connection.execute(_devices.update().where(_devices.c.id == device).values(**facts))
        else:
            connection.execute(
                _devices.insert().values(
                    id=device,
                    name=code.name,
                    site=code.site,
                    cohort=code.cohort,
                    enrolled=times.now(),
                    acknowledged=0,
                    changes=0,
                    **facts,
                )
            )
        connection.execute(
            _codes.update()
            .where(_codes.c.code_sha256 == digest)
            .values(used_credential=request.credential_sha256, used_device=device)
        )
        audit.record(connection, f"device {device}", "enrolled", detail=code.name, address=address)
        return _enrolment(device, code.name), True

    return hub.database.repeat(work)


def sign_in(hub: Hub, authorization: str | None) -> Device:
    """Tell which device asks, by its `Authorization` header. Raises RefusedError 401."""
    unknown = RefusedError(401, "not-signed-in", "The device's credential is missing or wrong.", "Enrol the device.")
    scheme, _, token = (authorization or "").partition(" ")
    identifier, _, secret = token.partition(".")
    if scheme.lower() != "bearer" or not secret.isascii() or len(token) > 500 or "\0" in identifier:
        raise unknown
    digest = credential_sha256(secret)
    with hub.database.read() as connection:
        row = connection.execute(_BY_ID, {"id": identifier}).first()
    if row is None:
        raise unknown
    current = hmac.compare_digest(row.credential, digest)
    coming = row.next_credential is not None and hmac.compare_digest(row.next_credential, digest)
    if not current and not coming:
        raise unknown
    if row.revoked is not None:
        raise RefusedError(401, "revoked", "This device was revoked.", "Ask an administrator of the hub.")
    if coming or row.seen is None or row.seen < times.ago(minutes=1):
        _note_seen(hub, row.id, digest if coming else None)
    return Device(row.id, row.name, row.site, row.cohort, row.device_class, frozenset(row.scopes.split()))


def rotate(hub: Hub, device: Device, digest: str) -> None:
    """Accept a second secret, until it is used for the first time and replaces the other."""
    with hub.database.write() as connection:
        row = connection.execute(sa.select(_devices.c.credential).where(_devices.c.id == device.id)).one()
        if row.credential != digest:
            connection.execute(_devices.update().where(_devices.c.id == device.id).values(next_credential=digest))
        audit.record(connection, f"device {device.id}", "credential-rotated")


def revoke(hub: Hub, name: str, *, by: str, site: str = "") -> None:
    """Take a device's credential away. Its results stay. Raises HubError `device-unknown`."""
    name = audit.clean(name)
    with hub.database.write() as connection:
        query = sa.select(_devices.c.id).where(sa.or_(_devices.c.name == name, _devices.c.id == name))
        if site:
            query = query.where(_devices.c.site == site)
        found = connection.scalar(query)
        if found is None:
            raise HubError("device-unknown", f"There is no device {name!r}.", "List them: leuko hub devices.")
        connection.execute(
            _devices.update().where(_devices.c.id == found, _devices.c.revoked.is_(None)).values(revoked=times.now())
        )
        audit.record(connection, by, "revoked", detail=name)


def _note_seen(hub: Hub, device: str, promoted: str | None) -> None:
    values: dict[str, Any] = {"seen": times.now()}
    if promoted is not None:
        values |= {"credential": promoted, "next_credential": None}
    with hub.database.write() as connection:
        statement = _devices.update().where(_devices.c.id == device)
        if promoted is not None:
            statement = statement.where(_devices.c.next_credential == promoted)
        connection.execute(statement.values(**values))


def _enrolment(device: str, name: str) -> Enrolment:
    return Enrolment(device, name, times.now())


def _code_hash(code: str) -> str:
    """Codes are typed by hand: case, blanks and hyphens do not count."""
    plain = "".join(character for character in code.upper() if character.isalnum())
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()
