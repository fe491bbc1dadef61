"""A lab and a device for each attack: copies of one pair, so that every test may damage its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import Device, Lab, copy


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lab that has released 1.0.0, a device that uses it, and then 1.1.0 in the repository, unknown to the device."""
    folder = tmp_path_factory.mktemp("origin")
    lab = Lab.start(folder / "lab")
    lab.release("1.0.0")
    device = Device.provisioned(folder / "models", lab.root_file())
    device.install(lab.repo)
    device.activate()
    lab.release("1.1.0")
    _LABS[folder / "lab"] = lab
    return folder / "lab", folder / "models"


_LABS: dict[Path, Lab] = {}


@pytest.fixture
def lab(origin: tuple[Path, Path], tmp_path: Path) -> Lab:
    return Lab(copy(origin[0], tmp_path / "lab"), dict(_LABS[origin[0]].keys))


@pytest.fixture
def device(origin: tuple[Path, Path], tmp_path: Path) -> Device:
    from edge.bundle.slots import Slots

    return Device(Slots(copy(origin[1], tmp_path / "models")))
