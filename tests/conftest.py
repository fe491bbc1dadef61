"""What all tests share: where the real images are, and which tests need a training framework."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _data_folder() -> Path:
    named = os.environ.get("LEUKO_DATA")
    return Path(named) if named else ROOT.parent / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "train: needs the train extra (TensorFlow, Keras)")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("train") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("the train extra is not installed: make test-train")
    if item.get_closest_marker("data") and not (_data_folder() / "manifest.csv").is_file():
        pytest.skip(f"no real images in {_data_folder()}: set LEUKO_DATA")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real smear images; the test skips where there is none."""
    folder = _data_folder()
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no real images in {folder}: set LEUKO_DATA")
    return folder
