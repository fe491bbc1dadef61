"""Staged roll-outs end to end: a lab releases by `leuko model release`, a hub decides, a device installs."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import bundles
import numpy as np
import pytest
from commands import draw_files, leuko
from serving import Serving, serving_hub

from edge.bundle import find, golden, manifest

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")

FOLLOWS = '[sync]\nmodel_updates = "{mode}"\n{more}'


def version_of(folder: Path, version: str) -> Path:
    shutil.copytree(find.default(), folder)
    stated = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(re.sub(r'"version": "[^"]+"', f'"version": "{version}"', stated, count=1))
    return folder


def wrong_version_of(folder: Path, version: str) -> Path:
    """Signed like any other, whole, and wrong: its network does not compute what its golden vectors say."""
    version_of(folder, version)
    found = golden.load(manifest.load(folder), folder)
    bundles.replace_golden(folder, golden.pack(found.inputs, np.asarray(found.logits)[:, ::-1].copy(), 0.05))
    bundles.rewrite(folder, lambda values: values["golden"].update(tolerance=0.05))
    return folder


class Lab:
    """A repository with its keys, by the commands alone."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.run("init", "repo", "--keys", "keys")

    def run(self, *words: str | Path) -> None:
        done = leuko(self.home, "model", "release", *words)
        assert done.code == 0, done.err

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
        code = leuko(hub.home, "hub", "enrol", home.name, "--json").document["code"]
        assert self.run("sync", "enrol", hub.url, code).code == 0
        assert self.run("model", "trust", lab.repo / "metadata" / "1.root.json").code == 0

    def configured(self, mode: str, more: str = "") -> None:
        (self.home / "site.toml").write_text(FOLLOWS.format(mode=mode, more=more))

    def run(self, *words: str | Path, **more: str):
        return leuko(self.home, *words, LEUKO_CONFIG=str(self.home / "site.toml"), **more)

    def contact(self) -> dict[str, str] | None:
        done = self.run("sync", "run", "--json")
        assert done.code == 0, done.err
        return done.document["release"]

    @property
    def bundle(self) -> str:
        return self.run("model", "show", "--json").document["bundle"]

    @property
    def models(self) -> Path:
        return self.home / ".local" / "share" / "leukoscope" / "models"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab") / "lab")
    made.release(version_of(made.home / "9.1.0", "9.1.0"))
    made.release(wrong_version_of(made.home / "9.2.0", "9.2.0"))
    return made


@pytest.fixture
def hub(lab, tmp_path):
    with serving_hub(tmp_path / "hub", "--releases", str(lab.repo)) as found:
        yield found


def roll_out(hub: Serving, bundle: str) -> None:
    assert leuko(hub.home, "hub", "release", bundle, "--percentage", "100").code == 0


def rule(hub: Serving, bundle: str) -> dict[str, str]:
    found = leuko(hub.home, "hub", "release", "--json").document
    return next(each for each in found if each["bundle"] == bundle)


def test_a_release_reaches_the_device_and_a_bad_one_halts_its_roll_out(lab, hub, tmp_path):
    clinic = Clinic(tmp_path / "clinic", hub, lab)
    before = clinic.bundle
    assert clinic.contact() is None and clinic.bundle == before  # nothing is rolled out
    roll_out(hub, "wbc-student@9.1.0")
    assert clinic.contact()["state"] == "active" and clinic.bundle == "wbc-student@9.1.0"
    (listed,) = leuko(hub.home, "hub", "devices", "--json").document
    assert listed["bundle"] == "wbc-student@9.1.0" and "active" in listed["release"]  # told at once, not next time
    draw_files(clinic.home / "fields", 1)
    analysed = clinic.run("analyze", "fields", "--sample", "S-1", "--json").document
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
    analysed = clinic.run("analyze", "fields", "--sample", "S-1", "--json").document
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
    assert clinic.run("model", "activate").code == 0
    assert clinic.contact()["state"] == "active" and clinic.bundle == "wbc-student@9.1.0"
    assert clinic.run("model", "rollback", "--reason", "monocytes look wrong").code == 0
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
    assert clinic.run("session", "abort", session).code == 0
    states = [clinic.contact()["state"] for _ in range(4)]  # tried again, ever more seldom
    assert states[-1] == "active" and set(states[:-1]) <= {"postponed", "active"}


def interrupted_session(clinic: Clinic) -> str:
    """Start a live session and kill it, as a power cut does: it can be resumed."""
    import subprocess

    from commands import LEUKO, environment

    command = [*LEUKO, "session", "start", "--camera", "simulated", "--sample", "S-9", "--target", "400"]
    running = subprocess.Popen(
        command,
        cwd=clinic.home,
        env=environment(clinic.home, LEUKO_CONFIG=str(clinic.home / "site.toml")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            found = clinic.run("session", "list", "--json").document
            if found:
                return found[0]["session"]
            assert running.poll() is None
            time.sleep(0.05)
        raise AssertionError("no session began")
    finally:
        running.kill()
        running.wait()


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


def test_an_altered_repository_changes_nothing(lab, tmp_path):
    altered = shutil.copytree(lab.repo, tmp_path / "altered")
    for path in (altered / "targets").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with serving_hub(tmp_path / "hub", "--releases", str(altered)) as hub:
        clinic = Clinic(tmp_path / "clinic", hub, lab)
        before = clinic.bundle
        roll_out(hub, "wbc-student@9.1.0")
        told = clinic.contact()
        assert (told["state"], told["code"]) == ("refused", "release-altered") and clinic.bundle == before
        # A hub, or who sits on the way, must not be able to halt a sound release for everyone.
        assert rule(hub, "wbc-student@9.1.0")["halted"] is None
        assert json.loads((clinic.models / "rollout.json").read_text())["state"] == "refused"
