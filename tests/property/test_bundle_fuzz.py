"""What is read from a release or a slot, damaged in every way: read right, or refused with an error of ours."""

from __future__ import annotations

from collections.abc import Iterator

import fuzzing
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("tuf")


@pytest.fixture(scope="module", autouse=True)
def _clean() -> Iterator[None]:
    yield
    fuzzing.clean()


@pytest.mark.parametrize("target", fuzzing.TARGETS)
def test_damaged_input_is_read_right_or_refused(target: str) -> None:
    made, read = fuzzing.TARGETS[target]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def tried(data: st.DataObject) -> None:
        read(data.draw(made()))

    tried()
