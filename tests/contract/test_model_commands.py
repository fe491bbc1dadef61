"""`leuko model release`, `trust`, `install`, `activate`, `rollback`, as a lab and a clinic run them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import bundles
import commands
import pytest
from commands import assert_refused, leuko
from releases import tree

from edge.bundle import find
from edge.core.errors import LeukoError
from edge.health import doctor

pytest.importorskip("tuf")
pytest.importorskip("ai_edge_litert")


def next_version(folder: Path, version: str) -> Path:
    shutil.copytree(find.default(), folder)
    stated = (folder / "manifest.json").read_text()
    changed = re.sub(r'"version": "[^"]+"', f'"version": "{version}"', stated, count=1)
    (folder / "manifest.json").write_text(changed)
    return folder


class Inside:
    """Runs `leuko` in this process, in the present folder: many commands for the price of few."""

    def __call__(self, *words: str | Path) -> str:
        from typer.testing import CliRunner

        from edge.cli.main import app

        done = CliRunner().invoke(app, list(map(str, words)))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    def refused(self, code: str, *words: str | Path) -> LeukoError:
        with pytest.raises(LeukoError) as caught:
            self(*words)
        assert caught.value.code == code and caught.value.cure, caught.value
        return caught.value


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEUKO_DATA_FOLDER", str(tmp_path / "data"))
    return Inside()


def test_from_the_lab_to_the_clinic_and_back(run: Inside, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    release, secret = ("model", "release"), ("--passphrase-file", "secret.txt")
    (tmp_path / "secret.txt").write_text("a long passphrase\n")
    run(*release, "init", "repo", "--keys", "keys", *secret)
    assert "wbc-student@9.1.0" in run(*release, "add", "repo", next_version(tmp_path / "bundle", "9.1.0"))
    run.refused("below-threshold", *release, "publish", "repo", "--key", "keys/timestamp.pem", *secret)
    run.refused("key-passphrase", *release, "sign", "repo", "--key", "keys/root-1.pem")
    run(*release, "sign", "repo", "--key", "keys/root-1.pem", *secret)
    run(*release, "sign", "repo", "--key", "keys/root-3.pem", "--key", "keys/targets.pem", *secret)
    run(*release, "publish", "repo", "--key", "keys/snapshot.pem", "--key", "keys/timestamp.pem", *secret)
    shown = json.loads(run(*release, "show", "repo", "--json"))
    assert shown["missing"] == [] and shown["drafts"] == []
    assert shown["bundles"]["wbc-student-9.1.0.tar"]["version"] == "9.1.0"
    assert shown["roles"]["root"]["threshold"] == 2 and len(shown["roles"]["root"]["keys"]) == 3
    for path in (tmp_path / "keys").glob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600 and b"ENCRYPTED" in path.read_bytes()

    # A stick carries it to the clinic. The first command that needs a root says how to get one.
    stick = shutil.copytree(tmp_path / "repo", tmp_path / "stick")
    assert_refused(leuko(tmp_path, "model", "install", stick), 3, "no-trust", "leuko model trust")
    root = stick / "metadata" / "1.root.json"
    fingerprint = bundles.sha256(root.read_bytes())
    run.refused("root-invalid", "model", "trust", root, "--sha256", "0" * 64)
    assert fingerprint in run("model", "trust", root, "--sha256", fingerprint)
    before = tree(tmp_path / "data")
    run.refused("nothing-staged", "model", "activate")
    run.refused("no-release-repository", "model", "install", "elsewhere")
    run.refused("not-released", "model", "install", stick, "--bundle", "wbc-student@1.0.0")
    assert tree(tmp_path / "data") == before
    installed = json.loads(run("model", "install", stick, "--json"))
    assert installed["installed"] == installed["staged"] == "wbc-student@9.1.0"
    assert installed["active"] is None
    assert run("model", "activate", "--probation", "1").strip() == "wbc-student@9.1.0"
    (active,) = [row for row in json.loads(run("model", "list", "--json")) if row["in_use"]]
    assert (active["bundle"], active["state"], active["probation"]) == ("wbc-student@9.1.0", "active", 1)

    # It is what analyses use, and it passes its probation.
    cell = commands.draw_cells(tmp_path / "cells", ["neutrophil"])[0]
    line = json.loads(run("classify", cell, "--json"))
    assert (line["bundle"], line["bundle_origin"]) == ("wbc-student@9.1.0", "signed")
    (active,) = [row for row in json.loads(run("model", "list", "--json")) if row["in_use"]]
    assert "probation" not in active
    assert json.loads(run("model", "verify", "--json"))["bundle"] == "wbc-student@9.1.0"
    checks = doctor.installed_bundles(tmp_path / "data" / "models")
    assert checks.verdict == "ok" and "9.1.0" in checks.evidence

    # A network that rots is left for the bundle of the package, and every result says which was used.
    network = next((tmp_path / "data" / "models" / "slots" / "a").glob("*.tflite"))
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    line = json.loads(run("classify", cell, "--json"))
    assert line["bundle_origin"] == "shipped" and "cannot be used" in caplog.text
    assert json.loads(run("model", "list", "--json"))[0]["in_use"]
    run.refused("nothing-to-roll-back", "model", "rollback")


def test_keys_rotate_and_a_release_is_taken_back(run: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEUKO_PROFILE", "jetson_nano")
    release = ("model", "release")
    for name in ("r1", "r2", "r3", "t1", "t2", "online"):
        run(*release, "key", f"{name}.pem")
    run.refused("key-exists", *release, "key", "r1.pem")
    publics = ["--root-key", "r1.pem.pub", "--root-key", "r2.pem.pub", "--targets-key", "t1.pem.pub"]
    publics += ["--snapshot-key", "online.pem.pub"]
    run.refused("key-missing", *release, "init", "repo", *publics)
    run.refused("key-in-repository", *release, "init", "repo", *publics, "--keys", "repo/keys")
    run.refused("root-key-shared", *release, "init", "repo", *publics, "--timestamp-key", "r1.pem.pub")
    three = ("--timestamp-key", "r3.pem.pub", "--root-threshold", "3")
    run.refused("threshold-impossible", *release, "init", "repo", *publics, *three)
    run.refused("no-release-repository", *release, "show", "repo")
    run(*release, "init", "repo", *publics, "--timestamp-key", "online.pem.pub")
    run.refused("release-exists", *release, "init", "repo", *publics, "--timestamp-key", "online.pem.pub")
    bundle = next_version(tmp_path / "bundle", "9.1.0")
    run(*release, "add", "repo", bundle, "--device-class", "raspberry-pi-5")
    run(*release, "sign", "repo", "--key", "r1.pem", "--key", "r2.pem", "--key", "t1.pem")
    run(*release, "publish", "repo", "--key", "online.pem")
    (bundle / "manifest.json").write_text((bundle / "manifest.json").read_text() + "\n")
    run.refused("release-differs", *release, "add", "repo", bundle)
    run("model", "trust", "repo/metadata/1.root.json")
    run.refused("wrong-device-class", "model", "install", "repo")
    monkeypatch.setenv("LEUKO_PROFILE", "raspberry_pi_5")
    assert "wbc-student@9.1.0" in run("model", "install", "repo", "--activate")

    old = json.loads(run(*release, "show", "repo", "--json"))["roles"]["targets"]["keys"][0]
    run.refused("key-unknown", *release, "rotate", "repo", "targets", "--remove", "0" * 12)
    run(*release, "rotate", "repo", "targets", "--add", "t2.pem.pub", "--remove", old[:12])
    run.refused("key-without-role", *release, "sign", "repo", "--key", "t1.pem")
    run.refused("below-threshold", *release, "publish", "repo", "--key", "online.pem")
    run(*release, "sign", "repo", "--key", "r1.pem", "--key", "r2.pem", "--key", "t2.pem")
    run(*release, "publish", "repo", "--key", "online.pem")
    run.refused("nothing-to-sign", *release, "sign", "repo", "--key", "t2.pem")
    run.refused("not-released", *release, "remove", "repo", "wbc-student@9.9.9")
    run(*release, "remove", "repo", "wbc-student@9.1.0")
    run(*release, "sign", "repo", "--key", "t2.pem")
    run(*release, "publish", "repo", "--key", "online.pem")
    run.refused("not-released", "model", "install", "repo")
    run(*release, "renew", "repo", "root")
    run(*release, "sign", "repo", "--key", "r1.pem", "--key", "r2.pem")
    run(*release, "publish", "repo", "--key", "online.pem")
    shown = json.loads(run(*release, "show", "repo", "--json"))
    assert shown["bundles"] == {} and shown["roles"]["root"]["version"] == 3
    assert run("model", "rollback").startswith("the bundle that comes with the package")


def test_an_unsigned_bundle_needs_the_switch_and_stamps_every_result(tmp_path: Path) -> None:
    folder = next_version(tmp_path / "mine", "9.9.9")
    (field,) = commands.draw_files(tmp_path / "fields", 1)
    refused = leuko(tmp_path, "analyze", field, "--sample", "S", LEUKO_BUNDLE=str(folder))
    assert_refused(refused, 3, "bundle-unsigned", "allow_unsigned_bundle")
    site = tmp_path / "site.toml"
    site.write_text(f'bundle = "{folder}"\nallow_unsigned_bundle = true\n')
    done = leuko(tmp_path, "--config", site, "analyze", field, "--sample", "S", "--out", "out", "--json")
    assert done.code == 0, done.err
    assert done.document["bundle_origin"] == "unsigned" and "unsigned-bundle" in done.document["differential"]["flags"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("(unsigned)") >= 2 and "Unsigned model" in page
    stored = leuko(tmp_path, "report", "S", "--json").document
    assert stored["bundle_origin"] == "unsigned" and "unsigned-bundle" in stored["differential"]["flags"]
    text = leuko(tmp_path, "--config", site, "analyze", field)
    assert "unsigned-bundle" in text.out
    cell = commands.draw_cells(tmp_path / "cells", ["monocyte"])[0]
    line = leuko(tmp_path, "--config", site, "classify", cell, "--json").document
    assert line["bundle_origin"] == "unsigned"
    # A copy of the shipped bundle is as good as the shipped one.
    same = shutil.copytree(find.default(), tmp_path / "same")
    assert leuko(tmp_path, "classify", cell, "--json", LEUKO_BUNDLE=str(same)).document["bundle_origin"] == "shipped"
