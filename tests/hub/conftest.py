"""A hub on either database, for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the hub extra is not installed")
pytest.importorskip("sqlalchemy", reason="the hub extra is not installed")


def _programs():
    """The folder of PostgreSQL's programs, None where there are none."""
    found = [Path(path).resolve().parent for name in ("initdb",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory):
    """The URL of a PostgreSQL server of our own, without the database's name."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    home = tmp_path_factory.mktemp("postgresql")
    user = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        user = {"user": "nobody", "group": "nogroup"}
        shutil.chown(home, "nobody", "nogroup")
        for parent in home.parents:
            if parent == Path("/tmp") or parent == Path("/"):
                break
            parent.chmod(parent.stat().st_mode | 0o011)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = home / "data"
    run = {"capture_output": True, "cwd": home, **user}
    subprocess.run(
        [programs / "initdb", "-D", folder, "-U", "hub", "-A", "trust", "-E", "UTF8", "--no-sync"], check=True, **run
    )
    server = subprocess.Popen(
        [
            programs / "postgres",
            "-D",
            folder,
            "-p",
            str(port),
            "-k",
            "",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
        **user,
    )
    try:
        _await(port)
        yield f"postgresql+psycopg://hub@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


def _await(port):
    import time

    import psycopg

    for _ in range(200):
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=hub dbname=postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("PostgreSQL did not start")


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
    _execute(postgresql, "CREATE DATABASE template_hub")
    _migrated(f"{postgresql}/template_hub")
    return "template_hub"


def _execute(base, statement):
    import psycopg

    with psycopg.connect(f"{base.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """A database of each kind, with its tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "hub.sqlite3")
        return f"sqlite:///{tmp_path / 'hub.sqlite3'}"
    base, template = request.getfixturevalue("postgresql"), request.getfixturevalue("postgresql_template")
    name = f"t{uuid.uuid4().hex}"
    _execute(base, f"CREATE DATABASE {name} TEMPLATE {template}")
    return f"{base}/{name}"


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
