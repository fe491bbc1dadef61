"""People: local accounts, sessions, and how often something may be tried."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Final, cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from edge.core.identifiers import uuid7
from edge.hub import audit, tables, times
from edge.hub.core import ROLES, Hub, Person, Role
from edge.hub.problems import HubError, RefusedError

SHORTEST_PASSWORD: Final = 12
_people = tables.people
_sessions = tables.sessions
_attempts = tables.attempts

# What a wrong name is checked against, so that it takes as long as a wrong password.
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$KHz7XHLMXGuxDcTF2Bm7sT0sN1jQnpWOIhCZ+SdV7GQ"


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account, without the password."""

    id: str
    name: str
    roles: tuple[Role, ...]
    site: str
    single_sign_on: bool
    made: str
    disabled: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """A new session: the cookie's value, and the token that every form must carry."""

    token: str
    form_token: str


def add(
    hub: Hub, name: str, roles: tuple[str, ...], *, by: str, site: str = "", password: str = "", subject: str = ""
) -> Account:
    """Make an account with a password, or with the `subject` that a single sign-on knows the person by.

    Raises HubError `name-invalid`, `role-unknown`, `password-weak` or `name-taken`.
    """
    name = name.strip()
    if not name or len(name) > 100 or audit.clean(name) != name or len(site) > 100:
        raise HubError("name-invalid", "A person needs a name of at most 100 characters.", "Give another name.")
    unknown = set(roles) - set(ROLES)
    if unknown or not roles:
        raise HubError("role-unknown", "A person needs at least one role.", f"Choose from {', '.join(ROLES)}.")
    if not subject or password:
        _require_strong(password)
    identifier = uuid7()
    try:
        with hub.database.write() as connection:
            connection.execute(
                _people.insert().values(
                    id=identifier,
                    name=name,
                    roles=" ".join(role for role in ROLES if role in roles),
                    site=audit.clean(site),
                    password=_hash(password) if password else None,
                    subject=audit.clean(subject) or None,
                    made=times.now(),
                )
            )
            audit.record(connection, by, "account-made", detail=f"{name}: {', '.join(roles)}")
    except IntegrityError:
        raise HubError("name-taken", f"There is an account {name!r} already.", "Give another name.") from None
    return next(account for account in accounts(hub) if account.id == identifier)


def accounts(hub: Hub, site: str = "") -> tuple[Account, ...]:
    """List the accounts, by name; with a site, those that see it alone."""
    query = sa.select(_people).order_by(_people.c.name)
    if site:
        query = query.where(_people.c.site == site)
    with hub.database.read() as connection:
        return tuple(
            Account(
                row.id,
                row.name,
                cast("tuple[Role, ...]", tuple(row.roles.split())),
                row.site,
                row.subject is not None,
                row.made,
                row.disabled,
            )
            for row in connection.execute(query)
        )


def disable(hub: Hub, identifier: str, *, by: str, site: str = "") -> None:
    """Close an account and its sessions. Raises HubError `account-unknown`."""
    identifier = audit.clean(identifier)
    with hub.database.write() as connection:
        query = sa.select(_people).where(sa.or_(_people.c.id == identifier, _people.c.name == identifier))
        if site:
            query = query.where(_people.c.site == site)
        row = connection.execute(query).first()
        if row is None:
            raise HubError("account-unknown", "There is no such account.", "List them: leuko hub people.")
        connection.execute(_people.update().where(_people.c.id == row.id).values(disabled=times.now()))
        connection.execute(_sessions.delete().where(_sessions.c.person_id == row.id))
        audit.record(connection, by, "account-closed", detail=row.name)


def set_password(hub: Hub, identifier: str, password: str, *, by: str) -> None:
    """Give an account a new password; its sessions end. Raises HubError."""
    _require_strong(password)
    with hub.database.write() as connection:
        row = connection.execute(
            sa.select(_people).where(sa.or_(_people.c.id == identifier, _people.c.name == identifier))
        ).first()
        if row is None:
            raise HubError("account-unknown", "There is no such account.", "List them: leuko hub people.")
        connection.execute(_people.update().where(_people.c.id == row.id).values(password=_hash(password)))
        connection.execute(_sessions.delete().where(_sessions.c.person_id == row.id))
        audit.record(connection, by, "password-set", detail=row.name)


def sign_in(hub: Hub, name: str, password: str, address: str) -> Session:
    """Open a session by name and password. Raises RefusedError 401, or 429 after too many attempts."""
    limit(hub, f"address {address}", 100, 900)
    limit(hub, f"name {_digest(name.strip().lower())}", 10, 900)
    with hub.database.read() as connection:
        row = connection.execute(sa.select(_people).where(_people.c.name == audit.clean(name.strip()))).first()
    right = _verify(row.password if row is not None and row.password else _NOBODY, password)
    if row is None or row.disabled is not None or not right:
        with hub.database.write() as connection:
            audit.record(connection, f"person {name[:100]}", "sign-in-refused", address=address)
        raise RefusedError(401, "sign-in-refused", "The name or the password is wrong.", "Try again.")
    return open_session(hub, row.id, row.name, address)


def sign_in_by_subject(hub: Hub, subject: str, address: str) -> Session:
    """Open a session for whom a single sign-on has vouched. Raises RefusedError 403 for a stranger."""
    with hub.database.read() as connection:
        row = connection.execute(sa.select(_people).where(_people.c.subject == audit.clean(subject))).first()
    if row is None or row.disabled is not None:
        raise RefusedError(403, "stranger", "You have no account here.", "Ask an administrator of the hub.")
    return open_session(hub, row.id, row.name, address)


def open_session(hub: Hub, person: str, name: str, address: str) -> Session:
    """Open a session; only the hash of its token is kept."""
    session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(24))
    with hub.database.write() as connection:
        connection.execute(_sessions.delete().where(_sessions.c.expires < times.now()))
        connection.execute(
            _sessions.insert().values(
                token_sha256=_digest(session.token),
                person_id=person,
                form_token=session.form_token,
                made=times.now(),
                expires=times.ahead(hours=hub.settings.session_hours),
            )
        )
        audit.record(connection, f"person {name}", "signed-in", address=address)
    return session


def who(hub: Hub, token: str) -> Person | None:
    """Tell whose session a cookie is; None for none, and for one that is over."""
    if not token or len(token) > 200:
        return None
    query = (
        sa.select(_people.c.id, _people.c.name, _people.c.roles, _people.c.site, _sessions.c.form_token)
        .join(_sessions, _sessions.c.person_id == _people.c.id)
        .where(
            _sessions.c.token_sha256 == _digest(token),
            _sessions.c.expires > times.now(),
            _people.c.disabled.is_(None),
        )
    )
    with hub.database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Person(row.id, row.name, frozenset(row.roles.split()), row.site, row.form_token)


def sign_out(hub: Hub, token: str) -> None:
    """End a session."""
    with hub.database.write() as connection:
        connection.execute(_sessions.delete().where(_sessions.c.token_sha256 == _digest(token)))


def limit(hub: Hub, key: str, most: int, seconds: int) -> None:
    """Count an attempt. Raises RefusedError 429 when there were more than `most` within so many seconds."""
    window = int(time.time()) // seconds
    with hub.database.write() as connection:
        values = {"key": key[:300], "window": window, "count": 0}
        if hub.database.insert_missing(connection, _attempts, values):
            connection.execute(_attempts.delete().where(_attempts.c.key == key[:300], _attempts.c.window < window))
        this = (_attempts.c.key == key[:300], _attempts.c.window == window)
        connection.execute(_attempts.update().where(*this).values(count=_attempts.c.count + 1))
        count = connection.scalar(sa.select(_attempts.c.count).where(*this))
    if count is not None and count > most:
        wait = seconds - int(time.time()) % seconds
        raise RefusedError(429, "too-many-attempts", "That was tried too often.", "Wait a while.", retry_after=wait)


def _require_strong(password: str) -> None:
    if not SHORTEST_PASSWORD <= len(password) <= 200:
        raise HubError(
            "password-weak", f"The password has fewer than {SHORTEST_PASSWORD} characters.", "Use a few words."
        )


def _hash(password: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password.encode("utf-8", "replace"))


def _verify(hashed: str, password: str) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return PasswordHasher().verify(hashed, password[:200].encode("utf-8", "replace"))
    except (VerificationError, InvalidHashError):
        return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
