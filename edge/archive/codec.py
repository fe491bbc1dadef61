"""What was found in a field as bytes: for the way between processes and for the work file. Nothing is rounded.

Pictures are PNG, so that a report made from here is the same, byte for byte, as one made without the detour.
"""

from __future__ import annotations

from typing import Any

import cv2
import msgspec
import numpy as np

from edge.core.types import Box, CellCall, CellResult, FieldFailure, FieldResult, Image, Quality

_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


class _Cell(msgspec.Struct, array_like=True):
    box: tuple[int, int, int, int]
    label: str
    probabilities: tuple[float, ...]
    abstained: bool
    reason: str | None
    crop: bytes
    activation: bytes
    shape: tuple[int, ...]


class _Field(msgspec.Struct, tag="field", array_like=True):
    source: str
    width: int
    height: int
    quality: Quality
    cells: list[_Cell]
    preview: bytes
    scale: float


class _Failure(msgspec.Struct, tag="failure", array_like=True):
    source: str
    code: str
    message: str


_decoder = msgspec.msgpack.Decoder(_Field | _Failure)


def encode(found: FieldResult | FieldFailure, *, pictures: bool) -> bytes:
    """Encode a field; without `pictures` its crops, maps and preview are left out."""
    if isinstance(found, FieldFailure):
        return msgspec.msgpack.encode(_Failure(found.source, found.code, found.message))
    scale = float(found.preview_scale) if pictures and found.preview is not None else 1.0
    return msgspec.msgpack.encode(
        _Field(
            found.source,
            int(found.width),
            int(found.height),
            _plain(found.quality),
            [_cell(each, pictures) for each in found.cells],
            _png(found.preview) if pictures and found.preview is not None else b"",
            scale,
        )
    )


def decode(data: bytes, *, pictures: bool = True, preview: bool = True) -> FieldResult | FieldFailure:
    """Decode what `encode` gave; without `pictures` every crop is one black pixel. Raises ValueError for other."""
    found = _decoder.decode(data)
    if isinstance(found, _Failure):
        return FieldFailure(found.source, found.code, found.message)
    shown = _image(found.preview) if pictures and preview and found.preview else None
    cells = tuple(
        CellResult(
            CellCall(
                label=each.label,
                probabilities=each.probabilities,
                abstained=each.abstained,
                reason=each.reason,
                box=Box(*each.box),
                activation=np.frombuffer(each.activation, np.float32).reshape(each.shape)
                if pictures and each.activation
                else None,
            ),
            _image(each.crop) if pictures and each.crop else _NO_PICTURE,
        )
        for each in found.cells
    )
    return FieldResult(
        found.source, found.width, found.height, found.quality, cells, shown, found.scale if shown is not None else 1.0
    )


def _cell(cell: CellResult, pictures: bool) -> _Cell:
    call = cell.call
    activation = call.activation if pictures else None
    return _Cell(
        (int(call.box.x), int(call.box.y), int(call.box.width), int(call.box.height)),
        call.label,
        tuple(float(each) for each in call.probabilities),
        bool(call.abstained),
        call.reason,
        _png(cell.crop) if pictures else b"",
        b"" if activation is None else np.ascontiguousarray(activation, np.float32).tobytes(),
        () if activation is None else activation.shape,
    )


def _plain(quality: Quality) -> Quality:
    """Give the same with Python's own numbers, which alone can be encoded."""
    values: dict[str, Any] = {name: getattr(quality, name) for name in Quality.__dataclass_fields__}
    for name, value in values.items():
        if name not in {"accepted", "reasons", "background"} and value is not None:
            values[name] = float(value)
    background = quality.background
    values["background"] = None if background is None else tuple(float(each) for each in background)
    return Quality(**{**values, "accepted": bool(quality.accepted), "reasons": tuple(quality.reasons)})


def _png(image: Image) -> bytes:
    done, buffer = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {image.shape}.")
    return buffer.tobytes()


def _image(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("A picture in the work file is damaged.")
    return np.asarray(image, dtype=np.uint8)
