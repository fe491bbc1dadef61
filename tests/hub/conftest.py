"""A hub on either database, for the tests of this folder."""

from __future__ import annotations

import shutil
import uuid

import pytest
from postgresql import PostgreSQL, programs

pytest.importorskip("fastapi", reason="the hub extra is not installed")
pytest.importorskip("sqlalchemy", reason="the hub extra is not installed")


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """A PostgreSQL server of our own."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with PostgreSQL(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


def _migrated(url):
    from edge.hub.database import Database

    database = Database(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A SQLite database with its tables, to copy."""
    path = tmp_path_factory.mktemp("template") / "hub.sqlite3"
    _migrated(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql_template(postgresql):
    """The name of a PostgreSQL database with its tables, to copy."""
    postgresql.execute("CREATE DATABASE template_hub")
    _migrated(f"{postgresql.url}/template_hub")
    return "template_hub"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """A database of each kind, with its tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "hub.sqlite3")
        return f"sqlite:///{tmp_path / 'hub.sqlite3'}"
    server, template = request.getfixturevalue("postgresql"), request.getfixturevalue("postgresql_template")
    name = f"t{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{server.url}/{name}"


@pytest.fixture
def hub(database_url, tmp_path):
    """An open hub."""
    from edge.hub import core
    from edge.hub.settings import Settings

    opened = core.open_hub(Settings(database_url, str(tmp_path / "objects"), releases=str(tmp_path / "releases")))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def applications():
    """The application, which takes longer to make than most tests: each test puts its own hub in."""
    return []


@pytest.fixture
def client(hub, applications):
    """A browser without a session, in front of the hub."""
    from fastapi.testclient import TestClient

    from edge.hub.web.application import application

    if not applications:
        applications.append(application(hub))
    (app,) = applications
    app.state.hub = hub
    with TestClient(app, client=("127.0.0.1", 5000), follow_redirects=False) as opened:
        yield opened
