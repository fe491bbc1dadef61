"""What is chosen on the page: kept durably, only ever stricter than the laboratory's configuration, damage is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge import choices, config
from edge.core.errors import StoreError, UsageError
from edge.web.access import Pin
from edge.web.serve import Opening, door


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    return config.load(environment={"LEUKO_DATA_FOLDER": str(tmp_path)})


def every(settings: config.Config, hours: float) -> config.Config:
    return msgspec.structs.replace(settings, control=msgspec.structs.replace(settings.control, interval_hours=hours))


def test_what_is_chosen_is_kept_and_the_rest_stays(settings: config.Config) -> None:
    assert choices.load(settings) == choices.Choices()
    choices.change(settings, camera="uvc:/dev/video0", target=100)
    choices.change(settings, language="fr")
    found = choices.load(settings)
    assert (found.camera, found.target, found.language) == ("uvc:/dev/video0", 100, "fr")


def test_the_control_can_be_made_stricter_and_not_laxer(settings: config.Config) -> None:
    daily = every(settings, 24)
    assert choices.control_hours(daily) == 24
    choices.change(daily, control_hours=8.0)
    assert choices.control_hours(daily) == 8
    for hours in (25.0, 0.5):
        with pytest.raises(UsageError) as refused:
            choices.change(daily, control_hours=hours)
        assert refused.value.code == "control-interval" and refused.value.cure
    assert choices.control_hours(daily) == 8
    # The laboratory has made it stricter since: that counts.
    assert choices.control_hours(every(settings, 4)) == 4
    # Where none is scheduled one can be asked for.
    assert choices.control_hours(every(settings, 0)) == 8
    choices.change(daily, control_hours=0.0)
    assert choices.control_hours(daily) == 24


def test_a_damaged_file_is_told_and_never_taken_for_no_choice(settings: config.Config) -> None:
    (settings.data_path / choices.FILE).write_text('{"schema": 1, "control_hours": "often"}')
    with pytest.raises(StoreError) as damaged:
        choices.control_hours(settings)
    assert damaged.value.code == "choices-damaged" and damaged.value.cure


def test_a_pin_set_on_the_page_counts_until_the_page_is_started_with_another(settings: config.Config) -> None:
    first, second = Pin("480213"), Pin("975311")
    chosen = choices.change(settings, pin=second.text, replaced_pin=first.text)
    assert "975311" not in (settings.data_path / choices.FILE).read_text()
    again = door(Opening(pin="480213"), chosen).pin
    assert again is not None and again.try_("975311", 0.0) and not again.try_("480213", 0.0)
    forgotten = door(Opening(pin="112358"), chosen).pin
    assert forgotten is not None and forgotten.try_("112358", 0.0) and not forgotten.try_("975311", 0.0)
    damaged = door(Opening(pin="480213"), msgspec.structs.replace(chosen, replaced_pin="x")).pin
    assert damaged is not None and damaged.try_("480213", 0.0)
