"""Staged roll-outs end to end: a lab releases by `leuko model release`, a hub decides, a device installs.

The commands run in this process, and the hub listens in a thread of it: there are many of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
from commands import draw_files

from edge.bundle import find, golden, manifest

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

FOLLOWS = '[sync]\nmodel_updates = "{mode}"\n{more}'


def leuko(home: Path, *words: str | Path, expected: int = 0, **settings: str) -> Any:
    """Run a command in the folder `home`, whose data folder is `data`; its JSON, or its text."""
    from typer.testing import CliRunner

    from edge.cli.main import app

    environment = {"LEUKO_DATA_FOLDER": str(home / "data"), "HOME": str(home), "OMP_NUM_THREADS": "1", **settings}
    with contextlib.chdir(home) if hasattr(contextlib, "chdir") else _inside(home):
        done = CliRunner().invoke(app, list(map(str, words)), env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == expected, done.output
    return json.loads(done.stdout) if "--json" in words else done.stdout


@contextlib.contextmanager
def _inside(home: Path) -> Iterator[None]:
    import os

    before = Path.cwd()
    os.chdir(home)
    try:
        yield
    finally:
        os.chdir(before)


@dataclass(frozen=True)
class Serving:
    """A hub that listens: its home and its address."""

    home: Path
    url: str


@contextlib.contextmanager
def serving_hub(home: Path, template: Path, repository: Path) -> Iterator[Serving]:
    import uvicorn

    from edge.hub import core
    from edge.hub.settings import Settings
    from edge.hub.web.application import application

    (home / "data" / "hub" / "objects").mkdir(parents=True)
    shutil.copy(template, home / "data" / "hub" / "hub.sqlite3")
    settings = Settings(
        f"sqlite:///{home}/data/hub/hub.sqlite3", str(home / "data" / "hub" / "objects"), releases=str(repository)
    )
    opened = core.open_hub(settings)
    server = uvicorn.Server(
        uvicorn.Config(application(opened), port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Serving(home, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        thread.join(30)
        opened.close()


def version_of(folder: Path, version: str) -> Path:
    shutil.copytree(find.default(), folder)
    stated = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(re.sub(r'"version": "[^"]+"', f'"version": "{version}"', stated, count=1))
    return folder


def wrong_version_of(folder: Path, version: str) -> Path:
    """Signed like any other, whole, and wrong: its network does not compute what its golden vectors say."""
    version_of(folder, version)
    found = golden.load(manifest.load(folder), folder)
    tolerance = manifest.load(folder).golden.tolerance
    bundles.replace_golden(folder, golden.pack(found.inputs, np.asarray(found.logits)[:, ::-1].copy(), tolerance))
    return folder


class Lab:
    """A repository with its keys, by the commands alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.run("init", "repo", "--keys", "keys")

    def run(self, *words: str | Path) -> None:
        leuko(self.home, "model", "release", *words)

    def release(self, bundle: Path) -> None:
        self.run("add", "repo", bundle)
        self.run(
            *("sign", "repo", "--key", "keys/targets.pem"),
            *(("--key", "keys/root-1.pem", "--key", "keys/root-2.pem") if self.first else ()),
        )
        self.run("publish", "repo", "--key", "keys/snapshot.pem", "--key", "keys/timestamp.pem")

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    @property
    def first(self) -> bool:
        return not (self.repo / "metadata" / "timestamp.json").exists()


class Clinic:
    """A device that is enrolled at the hub and trusts the lab."""

    def __init__(self, home: Path, hub: Serving, lab: Lab, mode: str = "activate", more: str = "") -> None:
        self.home, self.hub = home, hub
        home.mkdir()
        self.configured(mode, more)
        code = leuko(hub.home, "hub", "enrol", home.name, "--json")["code"]
        self.run("sync", "enrol", hub.url, code)
        self.run("model", "trust", lab.repo / "metadata" / "1.root.json")

    def configured(self, mode: str, more: str = "") -> None:
        (self.home / "site.toml").write_text(FOLLOWS.format(mode=mode, more=more))

    def run(self, *words: str | Path) -> Any:
        return leuko(self.home, *words, LEUKO_CONFIG=str(self.home / "site.toml"))

    def contact(self) -> dict[str, str] | None:
        return self.run("sync", "run", "--json")["release"]

    @property
    def bundle(self) -> str:
        shown = self.run("model", "show", "--json")["manifest"]
        return f"{shown['name']}@{shown['version']}"

    @property
    def models(self) -> Path:
        return self.home / "data" / "models"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab") / "lab")
    made.release(version_of(made.home / "9.1.0", "9.1.0"))
    made.release(wrong_version_of(made.home / "9.2.0", "9.2.0"))
    return made


@pytest.fixture
def hub(lab, tmp_path, sqlite_template):
    with serving_hub(tmp_path / "hub", sqlite_template, lab.repo) as found:
        yield found


def roll_out(hub: Serving, bundle: str) -> None:
    leuko(hub.home, "hub", "release", bundle, "--percentage", "100")


def rule(hub: Serving, bundle: str) -> dict[str, str]:
    found = leuko(hub.home, "hub", "release", "--json")
    return next(each for each in found if each["bundle"] == bundle)


def test_a_release_reaches_the_device_and_a_bad_one_halts_its_roll_out(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab)
    before = clinic.bundle
    assert clinic.contact() is None and clinic.bundle == before  # nothing is rolled out
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact()["state"] == "active" and clinic.bundle == "wbc-student@9.1.0"
    (listed,) = leuko(hub.home, "hub", "devices", "--json")
    assert listed["bundle"] == "wbc-student@9.1.0" and "active" in listed["release"]  # told at once, not next time
    draw_files(clinic.home / "fields", 1)
    analysed = clinic.run("analyze", "fields", "--sample", "S-1", "--json")
    assert (analysed["bundle"], analysed["bundle_origin"]) == ("wbc-student@9.1.0", "signed")

    # Signed by the same lab, whole, and wrong: the golden vectors find it, nothing changes, the hub halts.
    roll_out(hub, "wbc-student@9.2.0")
    failed = clinic.contact()
    assert (failed["state"], failed["code"]) == ("failed", "trial-failed") and "golden" in failed["message"]
    assert clinic.bundle == "wbc-student@9.1.0"
    halted = rule(hub, "wbc-student@9.2.0")
    assert halted["halted"] and "golden" in halted["reason"] and rule(hub, "wbc-student@9.1.0")["halted"] is None
    # The rule before it holds again, which the device has already.
    assert clinic.contact()["bundle"] == "wbc-student@9.1.0"


def test_a_bundle_that_is_left_again_halts_its_roll_out(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab)
    before = clinic.bundle
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact()["state"] == "active"
    (network,) = (clinic.models / "slots" / "a").glob("*.tflite")
    damaged = bytearray(network.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    network.write_bytes(damaged)
    draw_files(clinic.home / "fields", 1)
    analysed = clinic.run("analyze", "fields", "--sample", "S-1", "--json")
    assert analysed["bundle"] == before
    told = clinic.contact()
    assert told["state"] == "rolled-back" and "SHA-256" in told["message"]
    assert "rolled-back" in rule(hub, "wbc-student@9.1.0")["reason"]
    assert clinic.contact()["state"] == "rolled-back"
    # Rolled out again on purpose: what was told before does not halt the new rule, and the device tries again.
    roll_out(hub, "wbc-student@9.1.0")
    assert rule(hub, "wbc-student@9.1.0")["halted"] is None


def test_a_person_decides_where_the_device_only_installs(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab, "install")
    before = clinic.bundle
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact()["state"] == "installed" and clinic.bundle == before
    clinic.run("model", "activate")
    assert clinic.contact()["state"] == "active" and clinic.bundle == "wbc-student@9.1.0"
    clinic.run("model", "rollback", "--reason", "monocytes look wrong")
    assert clinic.contact()["state"] == "rolled-back"
    assert "monocytes look wrong" in rule(hub, "wbc-student@9.1.0")["reason"]


def test_never_under_a_live_session_nor_over_a_network_that_costs(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab, more='metered = "yes"\nmetered_sends = "numbers"')
    before = clinic.bundle
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact()["code"] == "network-metered" and clinic.bundle == before
    clinic.configured("activate")
    session = interrupted_session(clinic)
    told = clinic.contact()
    assert (told["state"], told["code"]) == ("postponed", "session-unfinished") and session in told["message"]
    assert clinic.bundle == before
    clinic.run("session", "abort", session)
    states = [clinic.contact()["state"] for _ in range(4)]  # tried again, ever more seldom
    assert states[-1] == "active" and set(states[:-1]) <= {"postponed", "active"}


def interrupted_session(clinic: Clinic) -> str:
    """A live session as a power cut leaves it: begun, not finished, nobody at work on it."""
    from edge.core import clock, identifiers
    from edge.store.journal import JournalSession, SessionJournal

    identifier = identifiers.uuid7()
    with SessionJournal(clinic.home / "data" / "results.sqlite3") as journal:
        journal.begin(
            JournalSession(
                id=identifier,
                sample="S-9",
                operator="amina",
                camera="simulated",
                target=400,
                precision=None,
                stack=1,
                started=clock.read(),
                bundle="wbc-student@0.3.0",
                bundle_sha256="0" * 64,
                runtime="litert-int8",
                calibration=None,
                throttle_bits=None,
                phase="running",
                running_seconds=0.0,
                tallies={},
            )
        )
    return identifier


def test_off_unless_it_is_configured_and_a_hub_cannot_turn_the_clock_back(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab, "off")
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact() is None and not (clinic.models / "state.json").exists()
    clinic.configured("activate")
    roll_out(hub, "wbc-student@0.0.1")  # older than what is in use
    assert (clinic.contact()["state"], clinic.contact()["code"]) == ("refused", "not-later")
    roll_out(hub, "another@1.0.0")
    assert clinic.contact()["code"] == "other-bundle"
    roll_out(hub, "wbc-student@9.9.9")  # nobody released it
    assert (clinic.contact()["state"], rule(hub, "wbc-student@9.9.9")["halted"]) == ("postponed", None)


def test_an_altered_repository_changes_nothing(lab, tmp_path, sqlite_template):
    altered = shutil.copytree(lab.repo, tmp_path / "altered")
    for path in (altered / "targets").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with serving_hub(tmp_path / "hub", sqlite_template, altered) as hub:
        clinic = Clinic(tmp_path / "clinic", hub, lab)
        before = clinic.bundle
        roll_out(hub, "wbc-student@9.1.0")
        told = clinic.contact()
        assert (told["state"], told["code"]) == ("refused", "release-altered") and clinic.bundle == before
        # A hub, or who sits on the way, must not be able to halt a sound release for everyone.
        assert rule(hub, "wbc-student@9.1.0")["halted"] is None
        assert json.loads((clinic.models / "rollout.json").read_text())["state"] == "refused"
