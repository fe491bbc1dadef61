"""Runs and bundles as systems: their predictions are made from labelled pictures, kept, and made again when needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.bundle.find import shipped_folder
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from training.config import RunConfig
from training.data import rendered
from training.evaluation import systems
from training.evaluation.evaluate import Request, evaluate

pytest.importorskip("sklearn.metrics")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of drawn cells that pass for those of `pbc`, eight of each class."""
    data = tmp_path_factory.mktemp("data")
    lines = ["source,label,file,group,slide,subtype,width,height,sha1"]
    for number, (image, label) in enumerate(zip(*rendered.pictures(8, 5), strict=True)):
        cv2.imwrite(str(data / f"{number}.png"), image)
        lines.append(f"pbc,{label},{number}.png,pbc/{number},,,300,300,{number:040x}")
    (data / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return data


def shipped(at: Path) -> Path:
    source = next(path for path in sorted(shipped_folder().iterdir()) if path.is_dir())
    return Path(shutil.copytree(source, at))


def test_a_bundle_is_judged_through_its_runtime_without_a_framework(folder: Path, tmp_path: Path) -> None:
    bundle = shipped(tmp_path / "bundle")
    system = systems.find(bundle)
    assert system.kind == "bundle" and system.config is not None
    found = systems.predictions(system, folder)
    assert set(found.split.tolist()) == {"validation", "test"}
    assert np.bincount(found.labels[found.split == "test"], minlength=5).min() >= 1
    # The shipped network knows drawn cells: a wrong input would show.
    assert (found.logits.argmax(axis=1) == found.labels).mean() > 0.6
    before = sorted(path.name for path in shipped_folder().glob("*/*"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["bundle", *before])


def test_a_bundle_in_the_folder_of_its_run_takes_the_split_of_the_run(tmp_path: Path) -> None:
    RunConfig(seed=7, leave_out=("bccd",)).save(tmp_path / "config.json")
    system = systems.find(shipped(tmp_path / "bundle"))
    assert system.seed == 7


def test_a_bundle_needs_labelled_cells(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        systems.predictions(systems.find(shipped(tmp_path / "bundle")), None)
    assert caught.value.code == "no-data"


def test_corruptions_of_a_source_that_has_no_cells_are_refused(folder: Path, tmp_path: Path) -> None:
    request = Request((shipped(tmp_path / "bundle"),), folder, tmp_path / "out", corrupted=("jtsc",))
    with pytest.raises(UsageError) as caught:
        evaluate(request)
    assert caught.value.code == "no-such-cells" and "pbc" in caught.value.cure


@pytest.mark.train
def test_a_run_is_judged_once_and_again_when_its_weights_change(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="the train extra is not installed")
    from training.models import registry

    config = RunConfig(size=64, last=32, rendered_share=0.0)
    run = tmp_path / "run"
    run.mkdir()
    config.save(run / "config.json")
    registry.build_untrained(config).save_weights(run / "model.weights.h5")
    request = Request((run,), folder, tmp_path / "out", corrupted=("pbc",), per_class=1)
    text = evaluate(request)
    assert "## Corruptions" in text
    kept = json.loads((run / "predictions.json").read_text())
    first = systems.load(run / "predictions.npz")
    assert first.logits.shape[1] == len(LABELS) + 1
    # Without a data folder the kept predictions are enough.
    again = systems.predictions(systems.find(run), None)
    assert (again.logits == first.logits).all()
    registry.build_untrained(config).save_weights(run / "model.weights.h5")
    changed = systems.predictions(systems.find(run), folder)
    assert (changed.logits != first.logits).any()
    assert json.loads((run / "predictions.json").read_text())["weights_sha256"] != kept["weights_sha256"]
