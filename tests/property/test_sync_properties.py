"""The pure parts of sending: back-off, limits, dates, what leaves the device, frames."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from edge.core.types import ClockReading
from edge.store.deliveries import Anchor
from edge.sync import dating, messages, network, policy, privacy
from edge.sync.trouble import RefusedError


def given(*strategies: Any) -> Callable[[Any], Any]:
    """Draw examples without a deadline: no test here is about time."""
    return lambda test: settings(deadline=None)(drawn(*strategies)(test))


CHANCE = st.floats(0, 1)
SECONDS = st.floats(0, 1e6)


@given(st.integers(1, 10_000), CHANCE, st.none() | SECONDS)
def test_a_wait_is_bounded_and_never_shorter_than_asked(failures: int, chance: float, asked: float | None) -> None:
    wait = policy.Backoff(2.0, 900.0).delay(failures, chance, asked)
    limit = 900.0 if asked is None else max(900.0, 1.1 * min(asked, policy.RETRY_AFTER_LIMIT))
    assert 1.0 <= wait <= limit
    if asked is not None:
        assert wait >= min(asked, policy.RETRY_AFTER_LIMIT)


@given(st.integers(1, 60), CHANCE)
def test_waits_grow_until_the_cap(failures: int, chance: float) -> None:
    backoff = policy.Backoff(2.0, 900.0)
    assert backoff.delay(failures, chance) <= backoff.delay(failures + 1, chance)
    assert backoff.delay(0, chance) == 0


def test_devices_that_failed_together_do_not_come_back_together() -> None:
    waits = {policy.Backoff().delay(8, chance / 100) for chance in range(100)}
    assert len(waits) == 100


@given(st.integers(0, 10**6))
def test_retry_after_in_seconds_and_as_a_date_say_the_same(seconds: int) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    date = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
    assert policy.retry_after(str(seconds), now.timestamp()) == seconds
    assert policy.retry_after(date, now.timestamp()) == seconds
    assert policy.retry_after(date, now.timestamp() + 2e6) == 0


@given(st.text())
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    found = policy.retry_after(text, 0.0)
    assert found is None or found >= 0


@given(st.floats(1, 1e9), st.lists(st.integers(1, 65_536), min_size=1, max_size=200))
def test_the_bandwidth_limit_holds(rate: float, chunks: list[int]) -> None:
    limit = policy.Bandwidth(rate)
    elapsed, sent = 0.0, 0
    for chunk in chunks:
        sent += chunk
        elapsed += limit.pause(sent, elapsed)
    assert sent <= limit.burst + rate * elapsed * 1.0001 + 1
    assert policy.Bandwidth(0).pause(sent, 0) == 0


@given(st.integers(0, 10**8), st.floats(0, 1e7))
def test_a_deadline_leaves_the_time_that_the_limit_needs(size: int, rate: float) -> None:
    found = policy.deadline(size, rate)
    assert found >= 60
    if rate > 0:
        assert found >= size / rate


@given(st.floats(0, 1e7), st.floats(0, 1e7), st.sampled_from(["rtc", "unknown"]))
def test_a_moment_is_moved_by_the_offset_of_its_own_boot(at: float, met: float, tier: str) -> None:
    trusted = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    reading = ClockReading("1999-01-01T00:00:00.000+00:00", at, "boot-1", tier)
    anchor = Anchor(ClockReading("1999-01-01T00:00:00+00:00", met, "boot-1", tier), trusted.isoformat(), "hub")
    found = dating.dated(reading, anchor)
    assert found.by == "anchor" and found.wall is not None
    assert abs((dating.parse(found.wall) - trusted).total_seconds() - (at - met)) < 0.002
    elsewhere = Anchor(ClockReading("", met, "boot-2", tier), trusted.isoformat(), "hub")
    without = dating.dated(reading, elsewhere)
    assert without == dating.dated(reading, None)
    assert without.wall == (reading.wall if tier == "rtc" else None)


def test_a_clock_that_followed_a_time_server_is_not_moved() -> None:
    reading = ClockReading("2026-11-24T10:00:00.000+00:00", 5, "boot", "network")
    anchor = Anchor(reading, "2030-01-01T00:00:00+00:00", "hub")
    assert dating.dated(reading, anchor) == dating.Dated(reading.wall, "clock")


def test_a_hub_that_took_long_or_says_nothing_is_no_clock() -> None:
    before, after = ClockReading("", 5, "boot", "unknown"), ClockReading("", 7, "boot", "unknown")
    found = dating.anchor_from_hub(before, after, "2026-11-24T10:00:00Z")
    assert found is not None and found.trusted == "2026-11-24T10:00:01.000+00:00" and found.device == after
    assert dating.anchor_from_hub(before, ClockReading("", 30, "boot", "unknown"), "2026-11-24T10:00:00Z") is None
    assert dating.anchor_from_hub(before, ClockReading("", 7, "other", "unknown"), "2026-11-24T10:00:00Z") is None
    assert dating.anchor_from_hub(before, after, "noon") is None


@given(st.lists(st.binary(max_size=400), max_size=12), st.integers(0, 6000))
def test_pictures_of_a_batch_that_was_cut_are_whole_or_not_there(pictures: list[bytes], cut: int) -> None:
    whole = messages.pack(pictures)
    assert messages.unpack(whole) == [(messages.sha256(each), each) for each in pictures]
    found = messages.unpack(whole[:cut])
    assert found == messages.unpack(whole)[: len(found)]


@given(st.text(), st.text())
def test_no_name_leaves_with_a_document_and_all_come_back(name: str, message: str) -> None:
    local = {
        "sample": "S",
        "fields": [{"file": f"Okafor{name}", "cells": []}, {"file": "b", "error": {"code": "c", "message": message}}],
        "notes": f"Okafor{name}",
    }
    sent = privacy.outgoing(local)
    assert "Okafor" not in repr(sent) and sent["fields"][1]["error"] == {"code": "c", "message": ""}
    assert privacy.restored(sent, local) == local
    changed = {**sent, "sample": "T"}
    assert privacy.restored(changed, local) == {**local, "sample": "T"}


def test_a_jpeg_loses_its_metadata_and_not_a_pixel() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    exif = Image.Exif()
    exif[0x9286] = "Okafor Ann"
    exif[0x8825] = {1: "N"}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif, comment=b"Okafor", quality=80)
    plain = io.BytesIO()
    Image.fromarray(pixels).save(plain, "JPEG", quality=80)
    dirty = buffer.getvalue() + b"Okafor after the end"
    assert dirty.count(b"Okafor") == 3
    cleaned = privacy.without_metadata(dirty)
    assert cleaned == plain.getvalue() == privacy.without_metadata(cleaned)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(cleaned))), np.asarray(Image.open(buffer)))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_jpeg_do_not_leave(data: bytes) -> None:
    with pytest.raises(RefusedError):
        privacy.without_metadata(b"\x89PNG" + data)


def test_the_network_manager_says_whether_the_network_is_metered() -> None:
    wifi = "GENERAL.METERED:no\nGENERAL.STATE:100 (connected)\n"
    modem = "GENERAL.METERED:yes (guessed)\nGENERAL.STATE:100 (connected)\n"
    idle = "GENERAL.METERED:yes\nGENERAL.STATE:30 (disconnected)\n"
    assert [network.parse(text) for text in (wifi, modem, idle, idle + modem, "")] == [False, True, False, True, False]
    assert network.is_metered("yes") and not network.is_metered("no")
