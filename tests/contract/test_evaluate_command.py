"""`leuko train evaluate` as a user runs it: an answer, or one error with its cure."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from commands import leuko

from training.predictions import Predictions

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("tensorflow", "keras", "sklearn", "matplotlib")),
        reason="the train extra is not installed",
    ),
]


def save(path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 6
    logits = rng.normal(0, 1, (120, 6)).astype(np.float32)
    logits[np.arange(120), labels] += 3
    split = np.where(np.arange(120) < 60, "validation", "test")
    names = np.arange(120).astype(str)
    source, kind, subtype = (np.full(120, text) for text in ("pbc", "cell", "erythroblast"))
    Predictions(logits, labels, source, split, kind, names, names, subtype).save(path)
    return path


def test_the_answer_is_one_json_document_or_the_tables(tmp_path: Path) -> None:
    done = leuko(tmp_path, "train", "evaluate", save(tmp_path / "p.npz"), "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert done.document["groups"][0]["systems"][0]["rows"][0]["five"]["n"] == 50
    assert done.document["command"].startswith("leuko train evaluate ")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"table.md", "evaluation.html", "evaluation.json"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nowhere"], "no-such-system"),
        (["p.npz", "--conformal", "2"], "bad-alpha"),
    ],
)
def test_what_cannot_be_done_is_one_error_with_its_cure(words: list[str], code: str, tmp_path: Path) -> None:
    save(tmp_path / "p.npz")
    given = [str(tmp_path / word) if word in {"nowhere", "p.npz"} else word for word in words]
    done = leuko(tmp_path, "train", "evaluate", *given, "--out", tmp_path / "out")
    assert done.code == 2
    assert f"[{code}]" in done.err and "Traceback" not in done.err
    assert not done.out and not (tmp_path / "out").exists()
