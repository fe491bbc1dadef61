"""One database behind all workers: SQLite or PostgreSQL, told apart here and nowhere else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError

from edge.hub.problems import HubError

_IMMEDIATE: Final = "hub_immediate"
_TRIES: Final = 5
Value = TypeVar("Value")


class Database:
    """Opens transactions. `read()` and `write()` commit at the end of their block, or undo everything.

    SQLite has one writer: those of this process queue here instead of polling its lock file.
    """

    def __init__(self, url: str, *, pool: int = 40) -> None:
        self.url = url
        self.engine = _engine(url, pool)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._one_writer = threading.Lock()

    @contextlib.contextmanager
    def read(self, *, still: bool = False) -> Iterator[Connection]:
        """Open a transaction that only reads; a `still` one sees one moment, however long it takes."""
        level: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if still and not self.is_sqlite else {}
        with self.engine.connect().execution_options(**level) as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes."""
        queue: contextlib.AbstractContextManager[Any] = self._one_writer if self.is_sqlite else contextlib.nullcontext()
        with queue, self.engine.connect().execution_options(**{_IMMEDIATE: True}) as connection, connection.begin():
            yield connection

    def repeat(self, work: Callable[[Connection], Value]) -> Value:
        """Do `work` in a writing transaction, and again when another one came between.

        What lost a race for a unique key, or was chosen as victim of a deadlock, finds the other's rows the next time.
        """
        for remaining in reversed(range(_TRIES)):
            try:
                with self.write() as connection:
                    return work(connection)
            except (IntegrityError, OperationalError):
                if not remaining:
                    raise
        raise AssertionError("unreachable")

    def insert_missing(self, connection: Connection, table: sa.Table, values: Any) -> int:
        """Insert rows that are not there yet, by primary key; returns how many were new."""
        dialect = sqlite if self.is_sqlite else postgresql
        statement = dialect.insert(table).values(values).on_conflict_do_nothing()
        # Drivers do not all count the rows of such a statement.
        return len(connection.execute(statement.returning(*table.primary_key)).all())

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def migrate(self) -> None:
        """Bring the tables to the present schema; several processes may do so at once."""
        from alembic import command

        with translated(self.url), self.write() as connection:
            if not self.is_sqlite:
                # An arbitrary number of ours: the others wait until the first is done.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7264517003)"))
            configuration = _alembic()
            configuration.attributes["connection"] = connection
            command.upgrade(configuration, "head")
            _first_values(connection)

    def is_empty(self) -> bool:
        """Whether the database has no tables yet."""
        with translated(self.url), self.read() as connection:
            return not sa.inspect(connection).has_table("devices")

    def require_current(self) -> None:
        """Raise HubError `database-not-migrated` unless the tables are those of this version."""
        from alembic.migration import MigrationContext
        from alembic.script import ScriptDirectory

        with translated(self.url), self.read() as connection:
            present = MigrationContext.configure(connection).get_current_revision()
        wanted = ScriptDirectory.from_config(_alembic()).get_current_head()
        if present != wanted:
            raise HubError(
                "database-not-migrated",
                f"The tables are at {present or 'nothing'}, this version needs {wanted}.",
                "Run: leuko hub migrate (with a backup made before: leuko hub backup).",
            )


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what a database's driver raises into one error of ours, without the password in the URL."""
    try:
        yield
    except DBAPIError as error:
        shown = sa.engine.make_url(url).render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        raise HubError(
            "database-unusable", f"{shown}: {reason}.", "Check --database, that it runs, and the rights of its user."
        ) from error


def _alembic() -> Any:
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return configuration


def _first_values(connection: Connection) -> None:
    from edge.core.identifiers import uuid7
    from edge.hub import tables

    have = {row.key for row in connection.execute(sa.select(tables.state.c.key))}
    for key, value in (("epoch", uuid7()), ("chain_sequence", "0"), ("chain_link", "0" * 64)):
        if key not in have:
            connection.execute(tables.state.insert().values(key=key, value=value))


def _engine(url: str, pool: int) -> Engine:
    try:
        parsed = sa.engine.make_url(url)
        if parsed.drivername in {"postgresql", "postgres"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite":
            return _sqlite(parsed)
        if parsed.get_backend_name() != "postgresql":
            raise ArgumentError
        return sa.create_engine(parsed, pool_size=pool, max_overflow=0, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError):
        raise HubError(
            "database-unknown",
            "This is not the URL of a database that the hub can use.",
            "Give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME.",
        ) from None


def _sqlite(url: sa.URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ArgumentError
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 60}, pool_size=40, max_overflow=0)

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # else the driver would begin transactions when it likes
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_IMMEDIATE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine
