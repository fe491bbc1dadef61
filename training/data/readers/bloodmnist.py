"""BloodMNIST: one npz file with {train,val,test}_images uint8[N, S, S, 3] RGB and _labels [N, 1].

The file is that of the `medmnist` package, read without it: the package needs PyTorch. Its pictures are unpacked as
PNG, so that they are read, located and cropped as all others. They are centres of PBC pictures: use one or the other.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.core.errors import InputError, UsageError
from training.data.readers.entries import Entry, Options, Problem, Reading, nothing_found
from training.data.storage import writing

CLASSES: Final = (
    *("basophil", "eosinophil", "erythroblast", "immature_granulocyte"),
    *("lymphocyte", "monocyte", "neutrophil", "platelet"),
)
"""The classes by number, as the set's own table gives them."""

SIDES: Final = (28, 64, 128, 224)
_SPLITS: Final = {"train": "train", "val": "validation", "test": "test"}
_MOST: Final = 100_000
"""No split of the set has as many pictures; a header that says more lies."""


def find_archive(path: Path) -> Path:
    """Give the file itself, or the largest of a folder's `bloodmnist*.npz`. Raises InputError `layout-not-found`."""
    if path.is_dir():
        found = sorted(path.glob("bloodmnist*.npz"), key=lambda file: (file.stat().st_size, file.name))
        if not found:
            raise nothing_found(path, "a file bloodmnist*.npz")
        return found[-1]
    return path


def _broken(path: Path, what: str) -> InputError:
    return InputError("broken-archive", f"{path}: {what}.", "Download the set again.")


def _stream(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[npt.NDArray[np.generic]]:
    """Give the rows of one array, one by one: the largest version would fill the memory of a small machine."""
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, transposed, dtype = header(stream)
        images = name.endswith("_images")
        fits = (
            len(shape) == 4 and shape[1] == shape[2] in SIDES and shape[3] == 3 if images else shape[1:] in {(1,), ()}
        )
        kind = dtype == np.uint8 if images else dtype.kind in "iu"
        if not fits or not kind or transposed or shape[0] > _MOST:
            raise _broken(path, f"{name} is {dtype}{list(shape)}")
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        for _ in range(shape[0]):
            data = stream.read(size)
            if len(data) < size:
                raise _broken(path, f"{name} ends early")
            yield np.frombuffer(data, dtype).reshape(shape[1:])


def read(path: Path, options: Options) -> Reading:
    """Unpack the pictures into `options.unpacked` and give them with their published splits.

    Raises InputError `layout-not-found`, `not-found` or `broken-archive`.
    """
    if options.unpacked is None:
        raise UsageError("no-folder", "BloodMNIST must be unpacked somewhere.", "Name a folder with --out.")
    file = find_archive(path)
    if not file.is_file():
        raise InputError("not-found", f"There is no file {file}.", "Download it with --download bloodmnist-224.")
    entries: list[Entry] = []
    problems: list[Problem] = []
    try:
        with zipfile.ZipFile(file) as archive:
            for short, split in _SPLITS.items():
                labels = _stream(archive, f"{short}_labels", file)
                images = _stream(archive, f"{short}_images", file)
                for index, (image, number) in enumerate(zip(images, labels, strict=True)):
                    name = f"{short}/{index:05d}.png"
                    label = int(number.reshape(-1)[0])
                    if not 0 <= label < len(CLASSES):
                        problems.append(Problem(name, "unknown-class", f"{name}: class {label} has no name."))
                        continue
                    _unpack(image, options.unpacked / name)
                    entries.append(Entry(name, CLASSES[label], split=split))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise _broken(file, f"it is no BloodMNIST archive ({error})") from error
    return Reading(options.unpacked, entries, problems)


def _unpack(image: npt.NDArray[np.generic], target: Path) -> None:
    if target.is_file():
        return
    _, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1], dtype=np.uint8))
    partial = target.with_suffix(".partial")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data.tobytes())
        partial.replace(target)
