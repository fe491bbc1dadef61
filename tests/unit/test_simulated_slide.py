"""The rendered smear: it is fixed by its seed, known to the last cell, and behaves as optics does."""

from __future__ import annotations

from itertools import islice, pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.cameras.simulated import SPEC_KEYS, Faults, SimulatedCamera
from devices.cameras.slide import REFERENCE_AREA, CellTruth, Slide, Window, render_cell
from devices.cameras.slide_optics import Optics
from devices.cameras.slide_placement import NORMAL_COMPOSITION
from devices.cameras.slide_stain import STAINS
from edge.core.errors import UsageError
from edge.core.labels import LABELS
from edge.core.types import Box, Frame, Image

EVEN = dict.fromkeys(LABELS, 1.0)


def green_density(image: Image, box: Box) -> np.ndarray:
    """Optical density in green of a box of a picture, against the brightest of the picture."""
    part = image[max(0, box.y) : box.y + box.height, max(0, box.x) : box.x + box.width, 1]
    return -np.log((part + 1.0) / np.quantile(image[..., 1], 0.98))


def sharpness(image: Image) -> float:
    return float(cv2.Laplacian(image[..., 1].astype(np.float32), cv2.CV_32F).var())


def test_the_same_seed_gives_the_same_slide_and_another_seed_another() -> None:
    window = Window(30.0, -20.0, 320, 240)
    first = Slide(4).render(window)
    np.testing.assert_array_equal(first, Slide(4).render(window))
    assert (first != Slide(5).render(window)).mean() > 0.2


def test_what_was_rendered_before_does_not_matter() -> None:
    fresh, used = Slide(4, cells_per_field=12), Slide(4, cells_per_field=12)
    used.render(Window(-400.0, 90.0, 300, 200, 0.3))
    window = Window(0.0, 0.0, 300, 200, 0.2)
    np.testing.assert_array_equal(fresh.render(window), used.render(window))
    assert fresh.truth(window) == used.truth(window)


@settings(max_examples=15, deadline=None)
@given(
    x=st.integers(-2000, 2000),
    y=st.integers(-2000, 2000),
    right=st.integers(0, 150),
    down=st.integers(0, 110),
    scale=st.sampled_from((0.1, 0.173, 0.22, 0.5)),
)
def test_overlapping_windows_agree_pixel_for_pixel(x: int, y: int, right: int, down: int, scale: float) -> None:
    slide = Slide(9, cells_per_field=20, composition=EVEN, crowding=0.8)
    first = slide.render(Window(x * scale, y * scale, 160, 120, scale))
    second = slide.render(Window((x + right) * scale, (y + down) * scale, 190, 140, scale))
    np.testing.assert_array_equal(first[down:, right:], second[: 120 - down, : 160 - right])


def test_truth_follows_the_window() -> None:
    slide = Slide(2, cells_per_field=15)
    here = {cell.label: cell for cell in slide.truth(Window(0.0, 0.0, 900, 700, 0.2)) if cell.whole}
    moved = {cell.label: cell for cell in slide.truth(Window(20.0, 10.0, 900, 700, 0.2)) if cell.whole}
    shared = here.keys() & moved.keys()
    assert shared
    offsets = {
        (here[label].box.x - moved[label].box.x, here[label].box.y - moved[label].box.y)
        for label in shared
        if here[label].box.width == moved[label].box.width
    }
    assert (100, 50) in offsets


@pytest.mark.parametrize("stain", sorted(STAINS))
def test_truth_boxes_hold_their_nuclei_and_the_rest_of_the_field_holds_none(stain: str) -> None:
    slide = Slide(6, cells_per_field=14, composition=EVEN, stain=stain)
    window = Window(0.0, 0.0, 1440, 900)
    image, truth = slide.render(window), slide.truth(window)
    elsewhere = image[..., 1].copy()
    for cell in truth:
        box, nucleus = cell.box, cell.nucleus
        assert box.x <= nucleus.x
        assert box.y <= nucleus.y
        assert nucleus.x + nucleus.width <= box.x + box.width
        assert nucleus.y + nucleus.height <= box.y + box.height
        if cell.whole:
            assert np.quantile(green_density(image, nucleus), 0.6) > 0.5, cell.label
            assert box.x < cell.centre[0] < box.x + box.width
            assert box.y < cell.centre[1] < box.y + box.height
        elsewhere[max(0, box.y) : max(0, box.y + box.height), max(0, box.x) : max(0, box.x + box.width)] = 255
    assert {cell.label for cell in truth} == set(LABELS)
    dark = (elsewhere < 0.5 * np.quantile(image[..., 1], 0.98)).astype(np.uint8)
    _, _, blobs, _ = cv2.connectedComponentsWithStats(dark)
    smallest = min(np.pi * (cell.nucleus_diameter / 2) ** 2 for cell in truth)
    assert blobs[1:, cv2.CC_STAT_AREA].max(initial=0) < 0.5 * smallest


def whole_cells(slide: Slide) -> list[CellTruth]:
    cells = [cell for row in range(3) for cell in slide.truth(Window(0.0, 260.0 * row, 6000, 1000))]
    return [cell for cell in cells if cell.whole]


def test_composition_and_number_are_honoured() -> None:
    composition = {"neutrophil": 0.4, "lymphocyte": 0.3, "monocyte": 0.2, "eosinophil": 0.1, "basophil": 0.0}
    slide = Slide(1, composition=composition, cells_per_field=12)
    window = Window(0.0, 0.0, 12000, 9000)
    cells = slide.white_cells(window)
    expected = 12 * window.width * window.height * window.micrometres_per_pixel**2 / REFERENCE_AREA
    assert abs(len(cells) - expected) < 4 * np.sqrt(expected)
    for label, share in composition.items():
        found = sum(cell.label == label for cell in cells)
        # Four standard deviations of the binomial count.
        assert abs(found - share * len(cells)) <= 4 * np.sqrt(len(cells) * share * (1 - share)) + 1e-9, label


def test_sizes_are_those_of_a_dried_smear() -> None:
    ranges = {
        "neutrophil": (11.0, 17.0),
        "lymphocyte": (7.5, 14.0),
        "monocyte": (14.0, 22.0),
        "eosinophil": (11.5, 18.0),
        "basophil": (9.5, 16.0),
    }
    seen: dict[str, list[float]] = {label: [] for label in LABELS}
    for cell in whole_cells(Slide(8, composition=EVEN, cells_per_field=25)):
        seen[cell.label].append(0.22 * np.sqrt(cell.box.width * cell.box.height))
    for label, (low, high) in ranges.items():
        assert len(seen[label]) > 12
        assert low < np.quantile(seen[label], 0.05), label
        assert np.quantile(seen[label], 0.95) < high, label
    assert np.mean(seen["monocyte"]) == max(np.mean(sizes) for sizes in seen.values())
    assert np.mean(seen["lymphocyte"]) == min(np.mean(sizes) for sizes in seen.values())


def test_the_cells_listed_are_those_of_the_truth() -> None:
    slide, window = Slide(5, cells_per_field=15), Window(7.0, 3.0, 900, 700, 0.2)
    listed = slide.white_cells(window)
    inside = [c for c in slide.truth(window) if 0 <= c.centre[0] < 900 and 0 <= c.centre[1] < 700]
    assert listed
    assert sorted(cell.label for cell in listed) == sorted(cell.label for cell in inside)


def test_a_slide_without_cells_is_blank() -> None:
    slide = Slide(3, cells_per_field=0, crowding=0.0)
    assert slide.truth(Window(0.0, 0.0, 2000, 2000)) == []
    image = slide.render(Window(0.0, 0.0, 600, 400))
    assert image[..., 1].min() > 0.9 * image[..., 1].max()


@pytest.mark.parametrize("label", LABELS)
def test_a_single_cell_is_drawn_in_the_middle(label: str) -> None:
    image = render_cell(label, np.random.default_rng(12), 200)
    assert image.shape == (200, 200, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, render_cell(label, np.random.default_rng(12), 200))
    centre = green_density(image, Box(60, 60, 80, 80))
    assert np.quantile(centre, 0.8) > 0.9


def test_eosinophils_are_the_red_ones_and_basophils_the_dark_ones() -> None:
    def redness(label: str) -> float:
        image = render_cell(label, np.random.default_rng(3), 200, crowding=0.0).astype(float)
        cell = image[image[..., 1] < 180]
        return float((cell[:, 2] - cell[:, 0]).mean())

    def darkness(label: str) -> float:
        image = render_cell(label, np.random.default_rng(3), 200, crowding=0.0)
        cell = image[..., 1][image[..., 1] < 180]
        return float((cell < 80).mean())

    assert max(LABELS, key=redness) == "eosinophil"
    assert darkness("basophil") > max(darkness("neutrophil"), darkness("monocyte"), darkness("eosinophil"))


def test_an_unknown_label_or_stain_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="blast"):
        render_cell("blast", np.random.default_rng(0))
    with pytest.raises(UsageError, match="pink"):
        render_cell("neutrophil", np.random.default_rng(0), stain="pink")


def camera(**settings: object) -> SimulatedCamera:
    return SimulatedCamera(21, width=480, height=320, fields=4, **settings)  # type: ignore[arg-type]


def test_defocus_lowers_sharpness_steadily_on_either_side_of_focus() -> None:
    for sign in (1, -1):
        figures = [
            sharpness(camera(optics=Optics(defocus_micrometres=sign * depth, noise=0.0)).grab(0))
            for depth in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
        ]
        assert figures == sorted(figures, reverse=True)
        assert figures[-1] < 0.02 * figures[0]


def test_light_follows_lamp_exposure_and_vignetting() -> None:
    usual = camera().grab(0).astype(float)
    assert camera(optics=Optics(exposure=0.5)).grab(0).mean() < 0.6 * usual.mean()
    assert (camera(optics=Optics(exposure=3.0)).grab(0) == 255).mean() > 0.5
    shaded = camera(optics=Optics(vignetting=0.6)).grab(0).astype(float) / usual
    assert shaded[:30, :30].mean() < 0.7 * shaded[145:175, 225:255].mean()
    blue = camera(optics=Optics(colour_cast=(1.2, 1.0, 0.7))).grab(0).astype(float).mean(axis=(0, 1))
    assert blue[2] / blue[0] < 0.7 * usual.mean(axis=(0, 1))[2] / usual.mean(axis=(0, 1))[0]


def test_noise_has_the_stated_size() -> None:
    quiet = camera(optics=Optics(noise=0.0)).grab(0).astype(float)
    noisy = camera(optics=Optics(noise=5.0)).grab(0).astype(float)
    bright = quiet[..., 1] > 200
    assert 3.5 < (noisy - quiet)[bright].std() < 5.5


def test_faults_spoil_the_frames_they_name() -> None:
    faults = Faults(blurred=frozenset({0}), dark=frozenset({1}), bright=frozenset({2}), blank=frozenset({3}))
    quiet = Optics(noise=0.0)
    sound = camera(cells_per_field=20, optics=quiet)
    spoilt = camera(cells_per_field=20, optics=quiet, faults=faults)
    assert sharpness(spoilt.grab(0)) < 0.2 * sharpness(sound.grab(0))
    assert spoilt.grab(1).mean() < 0.3 * sound.grab(1).mean()
    assert (spoilt.grab(2) == 255).mean() > 0.5
    assert spoilt.truth(3) == []
    assert spoilt.grab(3)[..., 1].min() > 0.75 * np.median(spoilt.grab(3)[..., 1])


def test_fields_do_not_overlap_unless_asked_and_neighbours_touch() -> None:
    plain = SimulatedCamera(1, width=400, height=300)
    windows = [plain.window(number) for number in range(40)]
    places = {(window.left, window.top) for window in windows}
    assert len(places) == len(windows)
    for first, second in pairwise(windows):
        step = (abs(first.left - second.left), abs(first.top - second.top))
        assert step in {(400, 0), (0, 300)}
    overlapping = SimulatedCamera(1, width=400, height=300, overlap=0.25)
    assert overlapping.window(1).left - overlapping.window(0).left == 300


def test_truth_of_a_frame_is_found_by_its_source() -> None:
    with SimulatedCamera(21, width=900, height=700, fields=2, cells_per_field=20) as source:
        frames = list(source.frames())
    for number, frame in enumerate(frames):
        assert isinstance(frame, Frame)
        assert source.truth(frame.source) == source.truth(number)
        for cell in source.truth(number):
            if cell.whole:
                assert np.quantile(green_density(frame.image, cell.nucleus), 0.6) > 0.5
    assert any(source.truth(frame.source) for frame in frames)
    with pytest.raises(UsageError):
        source.truth("another.jpg")


def test_an_endless_camera_goes_on() -> None:
    with SimulatedCamera.from_spec("simulated:fields=endless,width=32,height=32") as source:
        assert len(list(islice(source.frames(), 50))) == 50


def test_a_spec_says_the_same_as_the_arguments() -> None:
    spec = "simulated:seed=7,fields=2,cells=9,width=320,height=200,stain=wright,defocus=1.5,composition=1/1/1/1/1"
    described = SimulatedCamera.from_spec(spec)
    built = SimulatedCamera(
        7,
        fields=2,
        cells_per_field=9,
        width=320,
        height=200,
        stain="wright",
        composition=EVEN,
        optics=Optics(defocus_micrometres=1.5, blank=STAINS["wright"].blank),
    )
    np.testing.assert_array_equal(described.grab(1), built.grab(1))
    assert described.truth(1) == built.truth(1)


def test_a_bare_spec_is_the_default_camera() -> None:
    bare = SimulatedCamera.from_spec("simulated")
    assert bare.window(0) == SimulatedCamera().window(0)
    assert bare.slide.composition == pytest.approx(dict(NORMAL_COMPOSITION))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("simulated:colour=blue", "colour"),
        ("simulated:seed", "seed"),
        ("simulated:seed=seven", "seven"),
        ("simulated:seed=-1", "-1"),
        ("simulated:cells=900", "900"),
        ("simulated:cells=nan", "nan"),
        ("simulated:stain=pink", "pink"),
        ("simulated:composition=1/2/3", "1/2/3"),
        ("simulated:composition=0/0/0/0/0", "composition"),
        ("simulated:composition=1/1/1/1/-1", "composition"),
        ("simulated:cast=1/1", "1/1"),
        ("simulated:width=0", "width"),
        ("simulated:scale=inf", "inf"),
        ("simulated:overlap=1", "overlap"),
        ("simulated:defocus=1e9", "defocus"),
        ("simulated:aperture=0", "numerical_aperture"),
        ("webcam:seed=1", "webcam"),
    ],
)
def test_a_bad_spec_says_what_is_wrong_and_the_cure(spec: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        SimulatedCamera.from_spec(spec)
    assert told in refused.value.message
    assert refused.value.cure
    assert refused.value.exit_code == 2


def test_every_key_of_the_spec_is_named_when_one_is_unknown() -> None:
    with pytest.raises(UsageError) as refused:
        SimulatedCamera.from_spec("simulated:x=1")
    assert all(key in refused.value.cure for key in SPEC_KEYS)


def test_a_lamp_colour_that_is_no_colour_is_refused() -> None:
    with pytest.raises(UsageError, match="blank"):
        Optics(blank=(200.0, -1.0, 200.0))
