"""From predictions to rows, groups, tables and files: which cells are judged, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from edge.core.errors import InputError, LeukoError, UsageError
from training.config import RunConfig
from training.evaluation import aggregate, rows, systems, tables
from training.evaluation.aggregate import Judged
from training.evaluation.evaluate import Request, evaluate
from training.evaluation.judge import abstention, judge
from training.evaluation.systems import System
from training.predictions import Predictions

pytest.importorskip("sklearn.metrics")


def predictions(n: int = 900, seed: int = 0) -> Predictions:
    """Cells of three sources: good logits at home, poor ones at a site for evaluation only."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(6, n)
    source = rng.choice(["pbc", "bccd", "jtsc"], n, p=[0.6, 0.25, 0.15])
    logits = rng.normal(0, 1.2, (n, 6))
    logits[np.arange(n), labels] += np.where(source == "jtsc", 1.5, 4.0)
    split = np.where(source == "jtsc", "evaluation", rng.choice(["train", "validation", "test"], n))
    kind = np.where((source == "bccd") & (rng.random(n) < 0.4), "field", "cell").astype("<U10")
    kind[(source == "bccd") & (labels == 5)] = "background"
    subtype = np.where(labels < 5, "cell", np.where(source == "bccd", "RBC", "erythroblast"))
    names = np.arange(n).astype(str)
    return Predictions(logits.astype(np.float32), labels, source, split, kind, names, names, subtype)


FOUND = predictions()


def test_trained_sources_are_judged_on_their_test_split_and_others_on_all_cells() -> None:
    chosen = {item.name: item for item in rows.rows(FOUND)}
    assert set(chosen) == {"pbc", "bccd", "bccd, in fields", "jtsc"}
    assert set(FOUND.split[chosen["pbc"].mask]) == {"test"}
    assert chosen["jtsc"].mask.sum() == (FOUND.source == "jtsc").sum()
    assert set(FOUND.kind[chosen["bccd, in fields"].mask]) == {"field"}
    assert not any((FOUND.kind[item.mask] == "background").any() for item in chosen.values())
    assert "evaluation only" in chosen["jtsc"].note
    assert "test split" in chosen["pbc"].note


def test_a_source_that_was_left_out_gives_all_its_cells_and_fits_nothing() -> None:
    chosen = {item.name: item for item in rows.rows(FOUND, ["pbc"])}
    assert chosen["pbc"].mask.sum() == (FOUND.source == "pbc").sum()
    assert "left out" in chosen["pbc"].note
    used = FOUND.select(rows.validation(FOUND, ["pbc"]))
    assert set(used.source) == {"bccd"} and set(used.split) == {"validation"}


@pytest.mark.parametrize("leave_out", [(), ("pbc",), ("bccd", "pbc")])
def test_no_cell_is_both_fitted_on_and_judged(leave_out: tuple[str, ...]) -> None:
    judged, fitted = rows.held_out(FOUND, leave_out), rows.validation(FOUND, leave_out)
    assert not (judged & fitted).any()
    assert not (judged & (FOUND.split == "train") & ~np.isin(FOUND.source, leave_out)).any()


def test_rendered_cells_are_never_judged() -> None:
    drawn = replace(FOUND, source=np.full(len(FOUND), "rendered"))
    assert rows.rows(drawn) == []
    assert not rows.validation(drawn, ()).any()


def test_test_cells_decide_neither_temperature_nor_threshold_nor_score() -> None:
    free = rows.held_out(FOUND, ())
    spoilt = replace(FOUND, logits=np.where(free[:, None], -FOUND.logits, FOUND.logits))
    one, two = judge(FOUND, alpha=0.1), judge(spoilt, alpha=0.1)
    assert one.calibration == two.calibration
    assert one.score == two.score == "other softmax" or one.score == two.score
    assert one.rows[0].five.figures != two.rows[0].five.figures


def test_the_two_views_of_a_row() -> None:
    found = {row.name: row for row in judge(FOUND, alpha=0.1).rows}
    home, away = found["pbc"], found["jtsc"]
    assert "other" in home.six.figures.recall and "other" not in home.five.figures.recall
    assert home.six.figures.n > home.five.figures.n
    assert home.five.figures.accuracy > away.five.figures.accuracy
    assert home.selective.risks[-1] == pytest.approx(1 - home.five.figures.accuracy)
    assert {each.method for each in home.conformal} == {"lac", "class-conditional", "raps"}
    assert all(each.coverage > 0.8 for each in home.conformal)
    assert away.conformal[0].coverage < home.conformal[0].coverage


def test_predictions_without_validation_cells_are_judged_uncalibrated() -> None:
    found = judge(FOUND.select(FOUND.split == "evaluation"))
    assert found.calibration is None and found.temperature == 1 and found.score is None
    assert found.rows[0].five.ece.before == found.rows[0].five.ece.after
    assert found.rows[0].abstention.abstained == 0


def test_a_device_abstains_and_refuses_as_it_decides() -> None:
    logits = np.array([[9, 0, 0, 0, 0, 0], [0.1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 9], [0, 9, 0, 0, 0, 0]], np.float32)
    found = abstention(logits, np.array([0, 0, 5, 0]), 1.0, 0.5)
    assert (found.coverage, found.risk, found.other, found.abstained) == (0.5, 0.5, 0.25, 0.25)
    assert abstention(logits[2:3], np.array([5]), 1.0, 0.5).risk is None


# --- groups and tables --------------------------------------------------------------------------------------------


def system(name: str, seed: int | None = 0, leave_out: tuple[str, ...] = (), **settings: object) -> System:
    said = {"model": "student", "leave_out": list(leave_out), **settings}
    return System(name, Path("runs") / name, "run", seed, leave_out, said, RunConfig())


JUDGED = [
    Judged(system("a0", 0), judge(FOUND)),
    Judged(system("a1", 1), judge(predictions(seed=1))),
    Judged(system("b0", 0, ("bccd",)), judge(FOUND, ["bccd"])),
]


def test_runs_that_differ_in_the_seed_alone_are_one_group_with_mean_and_range() -> None:
    groups = aggregate.group(JUDGED)
    assert [members.name for members in groups] == ["student", "b0"]
    assert groups[0].seeds == (0, 1)
    found = aggregate.summary(groups[0])["pbc"]["macro_f1"]
    values = [item.judgement.rows[-1].five.figures.macro_f1 for item in JUDGED[:2]]
    assert JUDGED[0].judgement.rows[-1].name == "pbc"
    assert found == aggregate.Spread(pytest.approx(np.mean(values)), min(values), max(values), 2)


def test_an_unknown_figure_has_no_spread() -> None:
    assert aggregate.spread([None, float("nan")]) is None
    assert aggregate.spread([None, 0.5]) == aggregate.Spread(0.5, 0.5, 0.5, 1)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([("g", ("nowhere",))], "unknown-run"),
        ([("g", ("a0",)), ("h", ("a0",))], "run-twice"),
        ([("g", ("a0", "b0"))], "same-seed-twice"),
        ([("g", ("a1", "b0"))], "other-cells"),
    ],
)
def test_groups_that_make_no_sense_are_refused(names: list[tuple[str, tuple[str, ...]]], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        aggregate.group(JUDGED, names)
    assert caught.value.code == code and caught.value.cure


def test_a_group_by_name() -> None:
    assert aggregate.named("my runs=a0, a1") == ("my runs", ("a0", "a1"))
    groups = aggregate.group(JUDGED, [("mine", ("a0",)), ("theirs", (str(Path("runs/a1")),))])
    assert [members.name for members in groups] == ["mine", "theirs", "b0"]
    for text in ("mine", "=a", "mine="):
        with pytest.raises(UsageError):
            aggregate.named(text)


def test_the_tables_name_cells_seeds_and_what_was_left_out() -> None:
    made = {table.title: table for table in tables.everything(aggregate.group(JUDGED))}
    assert {"Five classes", "Per class", "Leave one source out", "None of the five: AUROC per kind"} <= set(made)
    assert "Corruptions" not in made and "Conformal sets" not in made
    left = {row[0]: row[1:] for row in made["Leave one source out"].rows}
    assert left["bccd"][1].startswith("**") and not left["bccd"][0].startswith("**")
    assert "(" in left["pbc"][0] and "(" not in left["pbc"][1]
    first = made["Five classes"]
    assert all(len(row) == len(first.header) for table in made.values() for row in table.rows for first in [table])
    text = first.markdown()
    assert text.splitlines()[0] == "## Five classes"
    assert "| student | pbc |" in text
    assert not any("left out" in row[2] for row in made["Which cells"].rows if row[0] == "student")


# --- files in, files out ------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.headings += tag == "h2"
        self.links += [value for name, value in attrs if name in {"src", "href"} and value]


def test_an_evaluation_writes_tables_plots_a_page_and_json(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    FOUND.save(tmp_path / "one.npz")
    peer = tmp_path / "peer <b>"
    peer.mkdir()
    predictions(seed=4).save(peer / "predictions.npz")
    (peer / "peer.json").write_text(json.dumps({"settings": {"peer": "svm", "seed": 3, "leave_out": ["bccd"]}}))
    request = Request((tmp_path / "one.npz", peer), None, tmp_path / "out", alpha=0.1, command="leuko train evaluate x")
    text = evaluate(request)
    assert text == (tmp_path / "out" / "table.md").read_text()
    for part in ("leuko train evaluate x", "Machine: ", "peer <b>: 3", "## Conformal sets", "## Leave one source out"):
        assert part in text
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [members["name"] for members in found["groups"]] == ["one", "peer <b>"]
    assert found["groups"][1]["leave_out"] == ["bccd"] and found["seeds"] == [3]
    row = next(row for row in found["groups"][0]["systems"][0]["rows"] if row["name"] == "pbc")
    assert sum(map(sum, row["five"]["confusion"])) == row["five"]["n"]
    assert row["selective"]["risk"][-1] == pytest.approx(1 - row["five"]["accuracy"])
    page = Page()
    html = (tmp_path / "out" / "evaluation.html").read_text()
    page.feed(html)
    assert page.headings >= 8
    assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in page.links)
    assert "peer <b>" not in html and "peer &lt;b&gt;" in html
    drawn = {path.name for path in (tmp_path / "out" / "plots").iterdir()}
    for name in ("confusion", "reliability", "risk-coverage", "roc"):
        assert {f"one-{name}.png", f"one-{name}.svg", f"peer-b-{name}.svg"} <= drawn


@pytest.mark.parametrize("what", ["text", "logits", "labels", "lengths", "nan", "empty"])
def test_damaged_predictions_are_one_clear_error(what: str, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    if what == "text":
        path.write_text("no archive")
    else:
        found = {
            "logits": replace(FOUND, logits=FOUND.logits[:, :5]),
            "labels": replace(FOUND, labels=FOUND.labels + 3),
            "lengths": replace(FOUND, labels=FOUND.labels[1:]),
            "nan": replace(FOUND, logits=FOUND.logits * np.float32("nan")),
            "empty": FOUND.select(FOUND.source == "nothing"),
        }[what]
        found.save(path)
    with pytest.raises(InputError) as caught:
        evaluate(Request((path,), None, tmp_path / "out"))
    assert caught.value.code == "predictions-damaged" and caught.value.cure
    assert not (tmp_path / "out").exists()


def test_what_is_no_system_is_refused_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    RunConfig().save(tmp_path / "run" / "config.json")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text('{"no": 1}')
    (tmp_path / "bad" / "model.weights.h5").touch()
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "peer.json").write_text("{}")
    FOUND.save(tmp_path / "peer" / "predictions.npz")
    for name, code in (
        ("nowhere", "no-such-system"),
        ("run", "run-unfinished"),
        ("bad", "config-damaged"),
        ("peer", "settings-damaged"),
    ):
        with pytest.raises(LeukoError) as caught:
            systems.find(tmp_path / name)
        assert caught.value.code == code and caught.value.cure


def test_training_cells_alone_are_nothing_to_judge(tmp_path: Path) -> None:
    FOUND.select(FOUND.split == "train").save(tmp_path / "p.npz")
    with pytest.raises(UsageError) as caught:
        evaluate(Request((tmp_path / "p.npz",), None, tmp_path / "out"))
    assert caught.value.code == "nothing-to-judge"


def test_the_same_system_twice_is_refused(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "p.npz")
    with pytest.raises(UsageError) as caught:
        evaluate(Request((tmp_path / "p.npz", tmp_path / "." / "p.npz"), None, tmp_path / "out"))
    assert caught.value.code == "run-twice"
