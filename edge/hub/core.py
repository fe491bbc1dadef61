"""What every part of the hub is given: the database, the pictures, the settings; and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa

from edge.hub import objects, tables
from edge.hub.database import Database
from edge.hub.objects import ObjectStore
from edge.hub.settings import Settings

Role = Literal["operator", "reviewer", "admin"]
ROLES: Final[tuple[Role, ...]] = ("operator", "reviewer", "admin")
SCOPES: Final = ("results", "pictures", "health", "changes", "releases")
"""What a device's credential may be good for."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has proved who it is."""

    id: str
    name: str
    site: str
    cohort: str
    device_class: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Person:
    """A person who has signed in. `site` is the one they see; empty: all."""

    id: str
    name: str
    roles: frozenset[str]
    site: str
    form_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Hub:
    """An open hub. `epoch` tells devices whether it was restored from a backup."""

    database: Database
    objects: ObjectStore
    settings: Settings
    epoch: str
    parts: Path

    def close(self) -> None:
        """Close the connections."""
        self.database.close()


def open_hub(settings: Settings) -> Hub:
    """Open a hub whose tables are those of this version. Raises HubError."""
    database = Database(settings.database)
    database.require_current()
    store = objects.open_objects(settings.objects)
    store.check()
    with database.read() as connection:
        epoch = str(connection.scalar(sa.select(tables.state.c.value).where(tables.state.c.key == "epoch")))
    return Hub(database, store, settings, epoch, parts_folder(settings))


def parts_folder(settings: Settings) -> Path:
    """Give the folder of unfinished pictures. Workers on several machines must share it, as they share the objects."""
    if "://" not in settings.objects:
        return Path(settings.objects).expanduser() / "parts"
    import tempfile

    return Path(tempfile.gettempdir()) / "leuko-hub-parts"
