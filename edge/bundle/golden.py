"""Golden vectors: inputs with the logits that the network must give for them, on whatever device it runs.

`golden.npz` holds `inputs`, uint8[N, S, S, 3] BGR crops, and `logits`, float32[N, 6]. A variant whose arithmetic
differs by more than the tolerance may bring its own reference as `logits_int8`, `logits_float16` or `logits_float32`.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.bundle import files
from edge.bundle.manifest import MAX_GOLDEN_BYTES, Manifest
from edge.core.errors import BundleError
from edge.core.types import FloatArray

_MAX_UNPACKED = 256 << 20
_INPUTS, _LOGITS = "inputs", "logits"
# Format version 1.0 (numpy.lib.format): magic, length of the header, a Python literal, padding, line break.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>\|u1|<f4)', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:[0-9]{1,9}, ?){0,8}[0-9]{0,9})\), \} {0,256}\n",
    re.DOTALL,
)
_KNOWN = frozenset({_INPUTS, _LOGITS, "logits_int8", "logits_float16", "logits_float32"})


@dataclass(frozen=True, slots=True)
class GoldenVectors:
    """`inputs` uint8[N, S, S, 3] BGR crops, `logits` float32[N, 6] for every precision that has none of its own."""

    inputs: npt.NDArray[np.uint8]
    logits: FloatArray
    by_precision: Mapping[str, FloatArray]

    def reference(self, precision: str) -> FloatArray:
        """Return the logits that a variant of this precision must reproduce."""
        return self.by_precision.get(precision, self.logits)


def decisive(logits: FloatArray, tolerance: float) -> npt.NDArray[np.bool_]:
    """Which rows of float32[N, C] keep their largest class when every logit moves by `tolerance`: bool[N].

    Only such rows are fit to be golden: in the others another CPU's rounding may rightly change the class.
    """
    ranked = np.sort(logits, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2] > 2 * tolerance)


def pack(
    inputs: npt.NDArray[np.uint8],
    logits: FloatArray,
    tolerance: float,
    by_precision: Mapping[str, FloatArray] | None = None,
) -> bytes:
    """Make the content of a `golden.npz` with the decisive rows. Raises BundleError when none is decisive."""
    references = {f"logits_{name}": value for name, value in (by_precision or {}).items()}
    if unknown := sorted(set(references) - _KNOWN):
        raise _damaged("the golden vectors to be written", f"{unknown[0]} is not a known array")
    keep = decisive(logits, tolerance)
    for value in references.values():
        keep &= decisive(value, tolerance) & (value.argmax(axis=1) == logits.argmax(axis=1))
    if not keep.any():
        raise BundleError(
            "golden-undecided", "No golden vector is decisive at this tolerance.", "Lower the tolerance or add inputs."
        )
    buffer = io.BytesIO()
    arrays = {name: value[keep].astype(np.float32) for name, value in references.items()}
    np.savez_compressed(buffer, inputs=inputs[keep], logits=logits[keep].astype(np.float32), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load(manifest: Manifest, folder: Path) -> GoldenVectors:
    """Read a bundle's golden vectors. Raises BundleError when they are missing, damaged or do not fit the manifest."""
    path = Path(folder) / manifest.golden.file
    data = files.read(path, MAX_GOLDEN_BYTES)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = _arrays(archive, str(path))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(str(path), str(error)) from error
    side, classes = manifest.preprocessing.size, len(manifest.labels)
    inputs: npt.NDArray[Any] = arrays.pop(_INPUTS)
    if inputs.dtype != np.uint8 or inputs.ndim != 4 or inputs.shape[1:] != (side, side, 3) or len(inputs) == 0:
        raise _damaged(str(path), f"inputs are {inputs.dtype}{list(inputs.shape)}, not uint8[N, {side}, {side}, 3]")
    for name, value in arrays.items():
        if value.dtype != np.float32 or value.shape != (len(inputs), classes) or not np.isfinite(value).all():
            raise _damaged(str(path), f"{name} is not a finite float32[{len(inputs)}, {classes}]")
    logits = arrays.pop(_LOGITS)
    return GoldenVectors(inputs, logits, {name.removeprefix("logits_"): value for name, value in arrays.items()})


def _arrays(archive: zipfile.ZipFile, origin: str) -> dict[str, npt.NDArray[Any]]:
    """Unpack the members after looking at what they claim, so that a small file cannot fill the memory."""
    names = [entry.filename.removesuffix(".npy") for entry in archive.infolist()]
    if len(set(names)) != len(names) or not {_INPUTS, _LOGITS} <= set(names) <= _KNOWN:
        raise _damaged(origin, f"holds {', '.join(sorted(names)) or 'nothing'}")
    if sum(entry.file_size for entry in archive.infolist()) > _MAX_UNPACKED:
        raise _damaged(origin, "unpacks to too many bytes")
    return {entry.filename.removesuffix(".npy"): _array(archive.read(entry), origin) for entry in archive.infolist()}


def _array(data: bytes, origin: str) -> npt.NDArray[Any]:
    """Read one .npy of the two kinds that are used.

    NumPy's own reader evaluates the header and allocates what that claims; this one knows what it may say.
    """
    found = _NPY.match(data)
    if found is None:
        raise _damaged(origin, "an array is not in the format that is used")
    dtype = np.dtype(found["dtype"].decode())
    shape = tuple(int(side) for side in found["shape"].split(b",") if side.strip())
    if math.prod(shape) * dtype.itemsize != len(data) - found.end():
        raise _damaged(origin, "an array's header does not fit its content")
    return np.frombuffer(data, dtype, offset=found.end()).reshape(shape)


def _damaged(origin: str, fault: str) -> BundleError:
    return BundleError("golden-damaged", f"{origin} cannot be used: {fault}.", files.REINSTALL)
