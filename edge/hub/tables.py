"""The hub's tables. What the migrations make is these, no more and no less; a test compares them.

Moments are text (`edge.hub.times`), identifiers are text, bodies are the bytes that were hashed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

state = Table(
    "state",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: `epoch`, and `chain_sequence` and `chain_link`, the end of the hub's audit chain."""

devices = Table(
    "devices",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("site", String(100), nullable=False, index=True),
    Column("cohort", String(100), nullable=False),
    Column("device_class", String(500), nullable=False),
    Column("software", String(500), nullable=False),
    Column("credential", String(64), nullable=False),
    Column("next_credential", String(64)),
    Column("scopes", Text, nullable=False),
    Column("enrolled", String(32), nullable=False),
    Column("revoked", String(32)),
    Column("seen", String(32)),
    Column("acknowledged", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),
    UniqueConstraint("name"),
)
"""`credential` are SHA-256 of 256 random bits. `changes` counts the versions made here for the device."""

enrolment_codes = Table(
    "enrolment_codes",
    metadata,
    Column("code_sha256", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("site", String(100), nullable=False),
    Column("cohort", String(100), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("bound_device", String(36), ForeignKey("devices.id")),
    Column("made_by", String(200), nullable=False),
    Column("made", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
    Column("used_credential", String(64)),
    Column("used_device", String(36), ForeignKey("devices.id")),
)

clock_anchors = Table(
    "clock_anchors",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("boot_id", String(500), primary_key=True),
    Column("monotonic", Float, nullable=False),
    Column("wall", String(500), nullable=False),
    Column("tier", String(10), nullable=False),
    Column("trusted", String(500), nullable=False),
    Column("source", String(20), nullable=False),
)

health_reports = Table(
    "health_reports",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("received", String(32), nullable=False),
    Column("drift", Float),
    Column("body", LargeBinary, nullable=False),
)
"""`drift` is the population stability index of the device's recent results against its earlier ones."""

results = Table(
    "results",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("device_id", String(36), ForeignKey("devices.id"), nullable=False),
    Column("site", String(100), nullable=False),
    Column("newest", Integer, nullable=False),
    Column("status", String(12), nullable=False),
    Column("sample", String(500), nullable=False),
    Column("patient", String(500)),
    Column("received", String(32), nullable=False),
    Column("changed", String(32), nullable=False),
    Column("boot_id", String(500), nullable=False),
    Column("monotonic", Float, nullable=False),
    Column("wall", String(500), nullable=False),
    Column("tier", String(10), nullable=False),
    Column("bundle", String(500), nullable=False),
    Column("consent", Boolean, nullable=False),
    Column("counted", Integer),
    Column("other", Integer),
    Column("fields", Integer),
    Column("refused", Integer),
    Column("classes", Text, nullable=False),
    Column("second_reader", String(200)),
    Column("second_reading", Boolean, nullable=False),
    Index(None, "received", "id"),
    Index(None, "device_id", "received"),
    Index(None, "site", "received"),
    Index(None, "sample"),
    Index(None, "patient"),
    Index(None, "status", "received"),
    Index(None, "bundle", "received"),
)
"""One row a result: the newest version's facts, to search by. `counted` and so on are null when it has none."""

versions = Table(
    "versions",
    metadata,
    Column("id", String(36), ForeignKey("results.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("content_sha256", String(64), nullable=False),
    Column("origin", String(6), nullable=False),
    Column("author", String(500), nullable=False),
    Column("received", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""`origin` is "device" or "hub". The primary key and the hash make ingest idempotent."""

version_pictures = Table(
    "version_pictures",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(12), nullable=False),
    Column("field", Integer, nullable=False),
    Column("cell", Integer),
    Column("sha256", String(64), nullable=False),
    ForeignKeyConstraint(["id", "version"], ["versions.id", "versions.version"]),
)

pictures = Table(
    "pictures",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("received", String(32), nullable=False),
)
"""Which pictures each device has sent; the bytes are in the object store, once for all."""

picture_parts = Table(
    "picture_parts",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("total", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
    Column("touched", String(32), nullable=False),
)
"""How many bytes of an unfinished picture are on disk for certain."""

changes = Table(
    "changes",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(["id", "version"], ["versions.id", "versions.version"]),
)
"""The way back. `sequence` is counted for each device under its row's lock: no number appears after a greater one."""

conflicts = Table(
    "conflicts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("content_sha256", String(64), primary_key=True),
    Column("device_id", String(36), ForeignKey("devices.id"), nullable=False),
    Column("received", String(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What a device sent under a number that holds other contents: refused, and kept for a person to compare."""

people = Table(
    "people",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("roles", String(60), nullable=False),
    Column("site", String(100), nullable=False),
    Column("password", Text),
    Column("subject", String(500)),
    Column("made", String(32), nullable=False),
    Column("disabled", String(32)),
    UniqueConstraint("name"),
    UniqueConstraint("subject"),
)
"""`site` is the one the person sees; empty: all. `password` is an Argon2 hash, `subject` who they are elsewhere."""

sessions = Table(
    "sessions",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("person_id", String(36), ForeignKey("people.id"), nullable=False, index=True),
    Column("form_token", String(64), nullable=False),
    Column("made", String(32), nullable=False),
    Column("expires", String(32), nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("key", String(300), primary_key=True),
    Column("window", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
)
"""How often something was tried within a stretch of time: the limits hold over all workers."""

readings = Table(
    "readings",
    metadata,
    Column("id", String(36), ForeignKey("results.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("person_id", String(36), ForeignKey("people.id"), primary_key=True),
    Column("labels", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("changed", String(32), nullable=False),
)
"""What one person calls the cells of a version: only where it differs from the document."""

accesses = Table(
    "accesses",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", String(32), nullable=False, index=True),
    Column("actor", String(300), nullable=False),
    Column("action", String(40), nullable=False),
    Column("result_id", String(36), index=True),
    Column("detail", Text, nullable=False),
    Column("address", String(100), nullable=False),
)
"""Who looked at what and did what. Rows are only ever added."""

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("bundle", String(200), nullable=False),
    Column("cohort", String(100), nullable=False),
    Column("device_class", String(200), nullable=False),
    Column("percentage", Integer, nullable=False),
    Column("made", String(32), nullable=False),
    Column("made_by", String(200), nullable=False),
    Column("halted", String(32)),
    Column("reason", Text, nullable=False),
)
"""Which bundle which devices shall have: the newest rule that fits and is not halted."""


def row_of(table: Table, values: Any) -> dict[str, Any]:
    """Keep of a mapping what the table has columns for."""
    return {column.name: values[column.name] for column in table.columns if column.name in values}
