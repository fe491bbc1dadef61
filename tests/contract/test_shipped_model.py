"""The model that comes with the package, through the device's whole path, on slides whose truth is known."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import pytest

from devices.cameras.simulated import SimulatedCamera
from edge import app, config
from edge.core.labels import LABELS
from edge.inference.classifier import Classifier
from edge.session import Pipeline, analyse_field

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    with app.open_classifier(config.load(environment={})) as opened:
        yield opened


@pytest.mark.parametrize("stain", ["may-gruenwald-giemsa", "wright"])
def test_calls_rendered_cells_as_drawn(classifier: Classifier, stain: str) -> None:
    specification = f"simulated:seed=2026,fields=20,cells=5,composition=1/1/1/1/1,stain={stain}"
    calls: collections.Counter[tuple[str, str]] = collections.Counter()
    drawn = 0
    with SimulatedCamera.from_spec(specification) as camera:
        for frame in camera.frames():
            truth = [cell for cell in camera.truth(frame.source) if cell.whole]
            drawn += len(truth)
            for cell in analyse_field(frame, Pipeline(classifier)).cells:
                box = cell.call.box
                for true in truth:
                    inside = (
                        box.x <= true.centre[0] < box.x + box.width and box.y <= true.centre[1] < box.y + box.height
                    )
                    if inside:
                        calls[true.label, cell.call.label] += 1
    right = sum(count for (true, called), count in calls.items() if true == called)
    assert sum(calls.values()) >= 0.9 * drawn >= 60
    assert right >= 0.85 * sum(calls.values()), calls
    for label in LABELS:
        assert calls[label, label] >= 0.5 * sum(count for (true, _), count in calls.items() if true == label), calls


def test_is_small_enough_for_the_device(classifier: Classifier) -> None:
    assert sum(variant.size for variant in classifier.manifest.variants) <= 1_000_000


def test_names_its_sources_and_trained_on_none_that_forbids_it(classifier: Classifier) -> None:
    licences = {source.source: source.licence for source in classifier.manifest.data}
    assert set(licences) <= {"pbc", "bccd", "embedded", "draaslan", "rendered"}
    assert not any("GPL" in licence for licence in licences.values())
    assert {"pbc", "jtsc", "embedded"} <= {figures.source for figures in classifier.manifest.figures}
