"""The JSON of every command, key by key as docs/architecture.md promises it, and how commands are asked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import pytest
from commands import keys, leuko

from edge.core.labels import LABELS, OTHER

COMMANDS = [
    [],
    ["demo"],
    ["analyze"],
    ["classify"],
    ["report"],
    ["doctor"],
    ["bench"],
    ["model"],
    ["model", "list"],
    ["model", "show"],
    ["model", "verify"],
    ["model", "schema"],
    ["model", "trust"],
    ["model", "install"],
    ["model", "activate"],
    ["model", "rollback"],
    ["model", "release"],
    ["session"],
    ["calibrate"],
    ["review"],
    ["export"],
    ["control"],
    ["serve"],
    ["store"],
    ["sync"],
    ["hub"],
    ["device"],
    ["camera"],
    ["train"],
    ["quantize"],
]
TIERS = {"insufficient": (0, 99), "screening": (100, 199), "differential": (200, 399), "reference": (400, 10**9)}


@dataclass(frozen=True)
class Site:
    """A user's home, with pictures, and one analysis of them in the store."""

    home: Path
    fields: list[Path]
    cells: list[Path]
    analysed: commands.Done


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    home = tmp_path_factory.mktemp("home")
    fields = commands.draw_files(home / "my fields", 2)
    cells = commands.draw_cells(home / "cells", LABELS)
    bad = home / "torn.png"
    bad.write_bytes(fields[0].read_bytes()[:20_000])
    done = leuko(home, "analyze", "my fields", bad, "--sample", "S-1", "--out", "out", "--json")
    return Site(home, fields, cells, done)


def check_cell(cell: dict[str, Any]) -> None:
    assert cell["label"] in (*LABELS, OTHER)
    assert keys(cell["probabilities"]) == list(LABELS)
    assert sum(cell["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert cell["abstained"] in (True, False)
    assert (cell["reason"] is None) == (not cell["abstained"])


def check_analysis(document: dict[str, Any]) -> None:
    """What holds for every document of an analysis: its keys, its sums, and nothing claimed of too few cells."""
    analysis = [
        "sample",
        "fields",
        "differential",
        "bundle",
        "bundle_origin",
        "runtime",
        "elapsed_seconds",
        "calibration",
    ]
    assert keys(document) == analysis
    assert document["bundle_origin"] == "shipped"
    assert document["calibration"] is None
    found = []
    for field in document["fields"]:
        if "error" in field:
            assert keys(field) == ["file", "error"]
            assert keys(field["error"]) == ["code", "message"]
            continue
        assert keys(field) == ["file", "width", "height", "quality", "cells"]
        assert keys(field["quality"])[:3] == ["accepted", "reasons", "focus"]
        assert field["quality"]["accepted"] == (not field["quality"]["reasons"])
        assert field["quality"]["accepted"] or not field["cells"]
        for cell in field["cells"]:
            assert keys(cell) == ["box", "label", "probabilities", "abstained", "reason"]
            check_cell(cell)
            x, y, width, height = cell["box"]
            assert 0 <= x < x + width <= field["width"]
            assert 0 <= y < y + height <= field["height"]
        found += field["cells"]
    differential = document["differential"]
    assert keys(differential) == ["counted", "tier", "classes", "other", "flags"]
    assert keys(differential["classes"]) == list(LABELS)
    counted = [cell["label"] for cell in found if not cell["abstained"] and cell["label"] != OTHER]
    assert {label: share["count"] for label, share in differential["classes"].items()} == {
        label: counted.count(label) for label in LABELS
    }
    assert differential["counted"] == len(counted)
    assert differential["other"] == len(found) - len(counted)
    low, high = TIERS[differential["tier"]]
    assert low <= len(counted) <= high
    for share in differential["classes"].values():
        assert keys(share) == ["count", "percent", "wilson", "clopper_pearson"]
        if len(counted) < 100:
            assert share["percent"] is share["wilson"] is share["clopper_pearson"] is None
        else:
            assert share["percent"] == pytest.approx(100 * share["count"] / len(counted), abs=1e-3)
            for limits in (share["wilson"], share["clopper_pearson"]):
                assert 0 <= limits[0] <= share["percent"] <= limits[1] <= 100
    assert re.fullmatch(r"[\w.-]+@[\w.+-]+", document["bundle"])
    assert re.fullmatch(r"(litert|onnxruntime)-(int8|float32)", document["runtime"])
    assert document["elapsed_seconds"] >= 0


def test_analyze(site: Site) -> None:
    assert site.analysed.code == 1
    document = site.analysed.document
    check_analysis(document)
    assert document["sample"] == "S-1"
    assert [Path(field["file"]).name for field in document["fields"]] == ["field 0.png", "field 1.png", "torn.png"]
    assert document["fields"][2]["error"]["code"] == "truncated"
    assert sum(len(field.get("cells", ())) for field in document["fields"]) > 4
    assert re.search(r"^saved [0-9a-f-]{36} \(sample S-1\)$", site.analysed.err, re.M)
    assert json.loads((site.home / "out" / "result.json").read_text()) == document
    assert (site.home / "out" / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")


def test_analyze_as_text_says_that_it_claims_nothing_of_few_cells(site: Site) -> None:
    done = leuko(site.home, "analyze", "my fields")
    assert done.code == 0
    assert "insufficient" in done.out
    assert "Research Use Only" in done.out
    for label in LABELS:
        assert re.search(rf"^{label} +\d+ +- +-  ", done.out, re.M)


def test_classify(site: Site) -> None:
    done = leuko(site.home, "classify", *site.cells, "absent.png", "--json")
    assert done.code == 1
    lines = done.lines
    assert [line["file"] for line in lines] == [*map(str, site.cells), "absent.png"]
    for line in lines[:-1]:
        call = ["file", "label", "probabilities", "abstained", "reason"]
        assert keys(line) == [*call, "bundle", "bundle_origin", "runtime", "milliseconds"]
        check_cell(line)
        assert line["milliseconds"] > 0
    assert keys(lines[-1]) == ["file", "error"]
    assert keys(lines[-1]["error"]) == ["code", "message"]
    assert lines[-1]["error"]["code"] == "not-found"
    text = leuko(site.home, "classify", *site.cells)
    assert [line.split("  ")[:2] for line in text.out.splitlines()] == [
        [line["file"], line["label"]] for line in lines[:-1]
    ]


def test_report_reads_the_store(site: Site) -> None:
    assert leuko(site.home, "report", "S-1", "--json").document == site.analysed.document
    assert "S-1" in leuko(site.home, "report").out.splitlines()
    assert "S-1" in leuko(site.home, "report", "--json").document
    done = leuko(site.home, "report", "S-1", "--out", "again")
    assert done.code == 0
    assert Path(done.out.strip()) == Path("again/report.html")
    page = (site.home / "again" / "report.html").read_text()
    assert "S-1" in page and "torn.png" in page
    commands.assert_refused(leuko(site.home, "report", "S-2"), 3, "no-result", "S-2")


def test_demo_counts_a_slide_and_keeps_it_apart_from_patients(tmp_path: Path) -> None:
    done = leuko(tmp_path, "demo", "--fields", "30", "--json")
    assert done.code == 0, done.err
    check_analysis(done.document)
    assert done.document["differential"]["counted"] >= 100
    assert json.loads((tmp_path / "demo-report" / "result.json").read_text()) == done.document
    assert (tmp_path / "demo-report" / "report.html").is_file()
    assert not commands.store_of(tmp_path).exists()
    assert leuko(tmp_path, "demo", "--fields", "2").out.splitlines()[-1].startswith("report: ")


def test_demo_draws_the_same_slide_every_time(tmp_path: Path) -> None:
    first, second, other = (
        leuko(tmp_path, "demo", "--fields", "2", "--seed", seed, "--json").document["fields"] for seed in "778"
    )
    assert first == second != other


def test_model_show_list_and_verify(site: Site) -> None:
    document = json.loads(leuko(site.home, "model", "show", "--json").out)
    assert keys(document) == ["folder", "sha256", "manifest"]
    stated = document["manifest"]
    assert stated["labels"] == [*LABELS, OTHER]
    assert f"{stated['name']}@{stated['version']}" == site.analysed.document["bundle"]
    listed = leuko(site.home, "model", "list", "--json").document
    assert [row["bundle"] for row in listed if row["in_use"]] == [site.analysed.document["bundle"]]
    assert {"folder", "in_use", "origin", "bundle", "sha256"} == set(listed[0])
    verified = leuko(site.home, "model", "verify", "--json")
    assert verified.code == 0, verified.err
    report = verified.document
    assert keys(report) == ["bundle", "sha256", "ok", "files", "golden"]
    assert report["ok"] is True and report["sha256"] == document["sha256"]
    assert report["files"] and all(check["ok"] for check in report["files"])
    assert report["golden"] and report["golden"][0]["vectors"] > 0


def test_doctor(site: Site) -> None:
    done = leuko(site.home, "doctor", "--json")
    document = done.document
    assert keys(document) == ["verdict", "checks"]
    assert done.code == {"ok": 0, "warn": 1, "fail": 3}[document["verdict"]]
    ranks = ["ok", "warn", "fail"]
    for check in document["checks"]:
        assert keys(check) == ["id", "verdict", "evidence", "cure", "command"]
        assert check["verdict"] in ranks
        assert bool(check["cure"]) == (check["verdict"] != "ok")
    assert document["verdict"] == max((check["verdict"] for check in document["checks"]), key=ranks.index)
    assert {"bundle", "bundle-files", "golden-vectors"} <= {check["id"] for check in document["checks"]}


def test_bench(site: Site) -> None:
    document = leuko(site.home, "bench", "--fields", "2", "--no-judge", "--json").document
    assert {"machine", "bundle", "runtime", "fields", "stages", "milliseconds_per_field", "shortfalls"} <= set(document)
    assert document["fields"] == 2
    assert document["shortfalls"] is None
    limits = site.home / "limits.json"
    limits.write_text('{"milliseconds_per_field": 0.001}')
    short = leuko(site.home, "bench", "--fields", "2", "--reference", limits, "--json")
    assert short.code == 3
    assert len(short.document["shortfalls"]) == 1
    assert "error [" in short.err


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "leuko")
def test_every_command_explains_itself_and_refuses_what_it_does_not_know(words: list[str], tmp_path: Path) -> None:
    helped = leuko(tmp_path, *words, "--help")
    assert helped.code == 0
    assert "Usage:" in helped.out and helped.err == ""
    assert leuko(tmp_path, *words, "-h").out == helped.out
    refused = leuko(tmp_path, *words, "--no-such-option")
    commands.assert_refused(refused, 2, "--no-such-option")
    assert list(tmp_path.iterdir()) == []


def test_every_command_is_tried_here(tmp_path: Path) -> None:
    for group in ("", "model"):
        listed = leuko(tmp_path, *filter(None, [group]), "--help").out.partition("Commands:")[2]
        names = re.findall(r"^  ([a-z]+)", listed, re.M)
        assert names
        assert {tuple(filter(None, [group, name])) for name in names} <= {tuple(words) for words in COMMANDS}


def test_version_and_unknown_commands(tmp_path: Path) -> None:
    assert re.fullmatch(r"leuko \d+\.\d+\.\d+\S*\n", leuko(tmp_path, "--version").out)
    commands.assert_refused(leuko(tmp_path, "analyse"), 2, "analyse")
    commands.assert_refused(leuko(tmp_path, "demo", "--fields", "0"), 2, "--fields")
    commands.assert_refused(leuko(tmp_path, "demo", "--fields", "many"), 2, "--fields", "integer")


def test_a_mistake_in_the_configuration_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('operator = "x"\nthread = 2\n')
    done = leuko(tmp_path, "--config", "site.toml", "report")
    commands.assert_refused(done, 2, "site.toml, line 2", "thread", "error [configuration-invalid]")
    commands.assert_refused(leuko(tmp_path, "report", LEUKO_CONFIG="site.toml"), 2, "line 2")
    commands.assert_refused(leuko(tmp_path, "--config", "absent.toml", "report"), 2, "absent.toml")


def test_the_configuration_is_what_the_result_says(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('data_folder = "results"\noperator = "A. Nurse"\ndevice = "cart 7"\n')
    done = leuko(tmp_path, "--config", "site.toml", "analyze", site.fields[0], "--sample", "S", "--out", "out")
    assert done.code == 0, done.err
    assert (tmp_path / "results" / "results.sqlite3").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A. Nurse" in page and "cart 7" in page


def test_samples_without_a_name_are_never_mixed_up(site: Site, tmp_path: Path) -> None:
    names = {leuko(tmp_path, "analyze", site.fields[0], "--json").document["sample"] for _ in range(2)}
    assert len(names) == 2
    assert set(leuko(tmp_path, "report", "--json").document) == names


def test_the_newest_result_of_a_sample_is_the_one_reported(site: Site, tmp_path: Path) -> None:
    for field in site.fields:
        leuko(tmp_path, "analyze", field, "--sample", "S")
    found = leuko(tmp_path, "report", "S", "--json").document
    assert [field["file"] for field in found["fields"]] == [str(site.fields[-1])]
