"""The way of a cell as a whole: what is counted, what is refused, and what is kept of a long run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bundles
import commands
import numpy as np
import pytest

from devices.cameras.simulated import Faults
from devices.cameras.slide_optics import Optics
from devices.runtimes.litert import LiteRTRuntime
from edge import session
from edge.bundle import manifest
from edge.core.labels import LABELS, OTHER
from edge.core.types import FieldFailure, FieldResult, Frame
from edge.inference.classifier import Classifier

SHARP, BLURRED = 20, (3, 11, 17)
RANGES = dict.fromkeys(LABELS, (0.0, 100.0))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classifier]:
    """A small network that knows nothing of cells: what is counted must not rest on what it says."""
    pytest.importorskip("ai_edge_litert")
    folder = bundles.build(tmp_path_factory.mktemp("bundle"))
    loaded = manifest.load(folder)
    with LiteRTRuntime(folder / loaded.variants[0].file, 1) as runtime:
        yield Classifier(loaded, runtime)


@pytest.fixture(scope="module")
def sharp() -> list[Frame]:
    return commands.draw(SHARP)


@pytest.fixture(scope="module")
def some_blurred() -> list[Frame]:
    return commands.draw(SHARP, Faults(blurred=frozenset(BLURRED)))


@pytest.fixture(scope="module")
def soft() -> Frame:
    """A field that is far less sharp than the others, and yet no picture that one could refuse without knowing them."""
    return replace(commands.draw(1, optics=Optics(defocus_micrometres=0.9))[0], source="soft")


def cells(fields: tuple[FieldResult | FieldFailure, ...]) -> list[int]:
    return [len(field.cells) if isinstance(field, FieldResult) else 0 for field in fields]


def test_blurred_fields_are_refused_and_their_cells_not_counted(
    classifier: Classifier, sharp: list[Frame], some_blurred: list[Frame]
) -> None:
    pipeline = session.Pipeline(classifier)
    whole = session.analyse(sharp, pipeline, "sharp", ranges=RANGES)
    found = session.analyse(some_blurred, pipeline, "some blurred", ranges=RANGES)
    for number, field in enumerate(found.fields):
        assert isinstance(field, FieldResult)
        assert field.quality.accepted == (number not in BLURRED)
        assert ("blurred" in field.quality.reasons) == (number in BLURRED)
    expected = [0 if number in BLURRED else count for number, count in enumerate(cells(whole.fields))]
    assert cells(found.fields) == expected
    assert found.differential.counted + found.differential.other == sum(expected) < sum(cells(whole.fields))


def test_a_blur_that_only_its_batch_gives_away_is_refused_at_the_end(
    classifier: Classifier, sharp: list[Frame], soft: Frame
) -> None:
    pipeline = session.Pipeline(classifier)
    alone = session.analyse([soft], pipeline, "alone", ranges=RANGES).fields[0]
    heard = []
    among = session.analyse([*sharp, soft], pipeline, "among", ranges=RANGES, on_field=heard.append)
    assert isinstance(alone, FieldResult) and isinstance(among.fields[-1], FieldResult)
    # Without a reference there is nothing to hold its sharpness against.
    assert alone.quality.accepted
    assert heard[-1].quality.accepted
    assert among.fields[-1].quality.reasons == ("blurred",)
    assert among.fields[-1].cells == ()


def test_a_few_fields_are_no_reference_of_themselves(classifier: Classifier, sharp: list[Frame], soft: Frame) -> None:
    few = [*sharp[: session.REFERENCE_FIELDS - 2], soft]
    found = session.analyse(few, session.Pipeline(classifier), "few", ranges=RANGES)
    assert all(isinstance(field, FieldResult) and field.quality.accepted for field in found.fields)


def test_a_commissioning_record_judges_each_field_at_once(
    classifier: Classifier, sharp: list[Frame], soft: Frame
) -> None:
    qualities = [session.analyse_field(frame, session.Pipeline(classifier)).quality for frame in sharp[:3]]
    reference = session.reference_from(qualities)
    field = session.analyse_field(soft, session.Pipeline(classifier, reference=reference))
    assert field.quality.reasons == ("blurred",)
    assert field.cells == ()


def test_counts_add_up_and_boxes_lie_inside(classifier: Classifier, sharp: list[Frame]) -> None:
    found = session.analyse(sharp, session.Pipeline(classifier), "S", ranges=RANGES)
    calls = [(field, cell.call) for field in found.fields if isinstance(field, FieldResult) for cell in field.cells]
    assert len(calls) > SHARP
    counted = [call.label for _, call in calls if not call.abstained and call.label != OTHER]
    assert {label: share.count for label, share in found.differential.classes.items()} == {
        label: counted.count(label) for label in LABELS
    }
    assert found.differential.other == len(calls) - len(counted)
    for field, call in calls:
        box = call.box
        assert box.x >= 0 and box.y >= 0 and box.width > 0 and box.height > 0
        assert box.x + box.width <= field.width and box.y + box.height <= field.height
    assert found.bundle == "small@1.2.3"
    assert found.bundle_sha256 == classifier.manifest.sha256


def test_a_frame_that_could_not_be_read_keeps_its_place(classifier: Classifier, sharp: list[Frame]) -> None:
    failure = FieldFailure("card/7.png", "truncated", "It breaks off.")
    heard: list[FieldResult | FieldFailure] = []
    found = session.analyse(
        [sharp[0], failure, sharp[1]], session.Pipeline(classifier), "S", ranges=RANGES, on_field=heard.append
    )
    assert found.fields[1] == failure
    assert [field.source for field in found.fields] == [sharp[0].source, "card/7.png", sharp[1].source]
    assert [field.source for field in heard] == [field.source for field in found.fields]


def test_nothing_but_failures_is_an_empty_count(classifier: Classifier) -> None:
    found = session.analyse([FieldFailure("a", "c", "m")] * 9, session.Pipeline(classifier), "S", ranges=RANGES)
    assert (found.differential.counted, found.differential.other) == (0, 0)
    assert all(share.percent is None for share in found.differential.classes.values())


def test_a_field_without_white_cells_is_a_field_without_cells(classifier: Classifier) -> None:
    frames = commands.draw(1, Faults(blank=frozenset({0})))
    found = session.analyse(frames, session.Pipeline(classifier), "S", ranges=RANGES)
    assert isinstance(found.fields[0], FieldResult)
    assert found.fields[0].cells == ()
    assert found.differential.counted == 0


@pytest.mark.parametrize("value", [0, 255, 128])
def test_a_field_of_one_colour_is_refused(classifier: Classifier, value: int, sharp: list[Frame]) -> None:
    frame = replace(sharp[0], image=np.full((300, 400, 3), value, np.uint8))
    field = session.analyse_field(frame, session.Pipeline(classifier))
    assert not field.quality.accepted
    assert field.cells == ()
    assert (field.width, field.height) == (400, 300)


def test_doubts_are_flagged(classifier: Classifier, sharp: list[Frame]) -> None:
    pipeline = session.Pipeline(without_abstentions(classifier))
    few = session.analyse(sharp[:2], pipeline, "few", ranges=RANGES).differential
    assert "low-count" in few.flags
    assert all(share.percent is None for share in few.classes.values())
    found = session.analyse(sharp * 2, pipeline, "many", ranges=RANGES).differential
    assert found.counted >= 100, "too few to claim percentages: the test shows nothing"
    label, share = max(found.classes.items(), key=lambda row: row[1].count)
    assert share.percent is not None
    limit = min(share.percent, 99.0)
    at_its_limit = {**RANGES, label: (limit, 100.0)}
    flagged = session.analyse(sharp * 2, pipeline, "many", ranges=at_its_limit).differential
    assert set(flagged.flags) - set(found.flags) == {f"interval-crosses-limit:{label}"}


def without_abstentions(classifier: Classifier) -> Classifier:
    """The same classifier without abstentions."""
    import msgspec

    stated = classifier.manifest
    calibration = msgspec.structs.replace(stated.calibration, abstention_threshold=0.0)
    return Classifier(msgspec.structs.replace(stated, calibration=calibration), classifier.runtime)


def test_a_long_session_keeps_no_more_previews(classifier: Classifier, sharp: list[Frame]) -> None:
    small = [
        replace(sharp[number % SHARP], image=np.ascontiguousarray(sharp[number % SHARP].image[:300, :400]))
        for number in range(session.PREVIEWS + 15)
    ]
    found = session.analyse(small, session.Pipeline(classifier), "S", ranges=RANGES)
    kept = [isinstance(field, FieldResult) and field.preview is not None for field in found.fields]
    assert kept == [True] * session.PREVIEWS + [False] * 15


def test_a_preview_is_small_and_says_its_scale(classifier: Classifier, sharp: list[Frame]) -> None:
    field = session.analyse_field(sharp[0], session.Pipeline(classifier))
    assert field.preview is not None
    assert max(field.preview.shape) == session.PREVIEW_SIDE
    assert field.preview_scale == pytest.approx(session.PREVIEW_SIDE / 1440)
    tiny = replace(sharp[0], image=np.ascontiguousarray(sharp[0].image[:200, :300]))
    assert session.analyse_field(tiny, session.Pipeline(classifier)).preview_scale == 1.0


def test_a_picture_of_one_cell_gives_one_call(classifier: Classifier, tmp_path: Path) -> None:
    import cv2

    image = cv2.imread(str(commands.draw_cells(tmp_path, ["lymphocyte"])[0]))
    call = session.classify_picture(np.asarray(image, np.uint8), classifier)
    assert call.label in (*LABELS, OTHER)
    assert sum(call.probabilities) == pytest.approx(1, abs=1e-5)
