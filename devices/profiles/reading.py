"""Reads profiles strictly, and finds the one that fits this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from edge.core.device import Profile, ThermalLimits
from edge.core.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER: Final = Path(__file__).parent
FALLBACK: Final = "generic"

_Celsius = Annotated[float, msgspec.Meta(gt=20, le=120)]
_Runtime = Annotated[str, msgspec.Meta(pattern="^(litert|onnxruntime|tensorrt)-(int8|float16|float32)$")]


class _Thermal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    slow: _Celsius
    stop: _Celsius
    hysteresis: Annotated[float, msgspec.Meta(gt=0, le=30)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(min_length=1)]
    matches: tuple[Annotated[str, msgspec.Meta(min_length=4)], ...]
    camera: Literal["picamera2", "uvc", "gstreamer", "simulated"]
    runtimes: Annotated[tuple[_Runtime, ...], msgspec.Meta(min_length=1)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)]
    batch: Annotated[int, msgspec.Meta(ge=1, le=256)]
    sensors: Literal["raspberry-pi", "jetson", "kernel"]
    thermal: _Thermal
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Detection:
    """The profile that fits this machine, and the evidence: what was read, and what was recognised in it."""

    profile: Profile
    evidence: str


def available() -> tuple[str, ...]:
    """The names of all profiles, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name: str) -> Profile:
    """Read the profile of that name. Raises UsageError when there is none."""
    if name not in available():
        raise UsageError(
            "unknown-profile",
            f"There is no device profile {name!r}.",
            f"Choose one of {', '.join(available())}: leuko device select NAME",
        )
    return parse((FOLDER / f"{name}.toml").read_text(encoding="utf-8"), name)


def parse(text: str, name: str) -> Profile:
    """Read a profile's text. Raises UsageError for what is no TOML, an unknown key or a value out of range."""
    try:
        found = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            "profile-invalid", f"The device profile {name} is not valid: {error}.", "Install the package again."
        ) from None
    if found.thermal.slow >= found.thermal.stop:
        raise UsageError(
            "profile-invalid",
            f"The device profile {name} stops at {found.thermal.stop:g} °C, before it slows at {found.thermal.slow:g}.",
            "Write the lower temperature under slow.",
        )
    order = tuple((runtime, precision) for runtime, _, precision in (each.partition("-") for each in found.runtimes))
    return Profile(
        name=name,
        title=found.title,
        camera=found.camera,
        runtimes=order,
        threads=found.threads,
        batch=found.batch,
        sensors=found.sensors,
        thermal=ThermalLimits(found.thermal.slow, found.thermal.stop, found.thermal.hysteresis),
        matches=found.matches,
        notes=found.notes,
    )


def detect(root: Path = Path("/")) -> Detection:
    """Find the profile of this machine by the model that its firmware states; `root` holds the /proc and /sys.

    The longest match wins, so that "Raspberry Pi 500" is not taken for a "Raspberry Pi 5".
    """
    for place in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        try:
            model = (root / place).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except OSError:
            continue
        if not model:
            continue
        fitting = [
            (len(match), profile)
            for profile in map(load, available())
            for match in profile.matches
            if model.startswith(match)
        ]
        if fitting:
            profile = max(fitting, key=lambda each: each[0])[1]
            return Detection(profile, f"/{place} says {model!r}")
        return Detection(load(FALLBACK), f"/{place} says {model!r}, which no profile names")
    return Detection(load(FALLBACK), "this machine has no device tree: it is neither a Raspberry Pi nor a Jetson")
