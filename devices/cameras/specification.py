"""Reads what a camera is asked to be: "uvc:/dev/video0,width=1280,height=720"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge.core.errors import UsageError

Reader = Callable[[str], Any]


def parse(
    text: str, kind: str, readers: Mapping[str, Reader], *, first: str = "", rest: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Read "kind:value,key=value,..." into settings by key.

    `readers` turn each key's text into its value and raise ValueError for what cannot be; `first` is the key of a first
    part without "=", `rest` are keys whose value is all that follows, commas included. The kind may be left out.
    Raises UsageError for another kind, a key that does not exist or a value that cannot be used.
    """
    named, _, body = text.partition(":") if text.startswith(kind) else (kind, "", text)
    if named != kind:
        raise UsageError("bad-camera", f"{text!r} is not a camera of the kind {kind}.", f"Write {kind}:...")
    settings: dict[str, Any] = {}
    for position, (key, value) in enumerate(_parts(body, rest)):
        name = first if not key and not position and first else key
        if name not in readers:
            raise UsageError(
                "unknown-camera-setting",
                f"The camera {kind} has no setting {key or value!r}.",
                f"Write key=value; the keys are {', '.join(readers)}.",
            )
        try:
            settings[name] = readers[name](value)
        except ValueError as error:
            raise UsageError(
                "bad-camera-setting",
                f"{value!r} is no value for {name} of the camera {kind}: {error}.",
                f"Give {name} another value, or leave it out: see the table of cameras in docs/device.md.",
            ) from error
    return settings


def _parts(body: str, rest: frozenset[str]) -> list[tuple[str, str]]:
    found = []
    while body:
        key, equals, _ = body.partition("=")
        if equals and key.strip() in rest:
            found.append((key.strip(), body[len(key) + 1 :]))
            break
        part, _, body = body.partition(",")
        if part.strip():
            key, equals, value = part.strip().partition("=")
            found.append((key, value) if equals else ("", key))
    return found


def whole(low: int, high: int) -> Reader:
    """A reader of whole numbers within limits."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"it must be {low} to {high}")
        return value

    return read


def real(low: float, high: float) -> Reader:
    """A reader of numbers within limits."""

    def read(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"it must be {low:g} to {high:g}")
        return value

    return read
