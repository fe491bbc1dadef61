"""Every form that a network exists in, behind the one door that all runtimes have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge.bundle import manifest as manifests
from edge.core.errors import UsageError
from edge.core.protocols import Runtime
from edge.core.types import Outputs, RuntimeInfo
from edge.inference import negotiate
from quantization.elsewhere import ElsewhereRuntime
from training.predictions import SECOND_LOOK, SecondLook

if TYPE_CHECKING:
    import keras

_SUFFIXES = {".tflite": "litert", ".onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of the network: its name, the file it is in (None for a trained Keras network), and its runtime.

    `quick` is False where each call starts a process, so that a time would be that process's.
    """

    name: str
    file: Path | None
    open: Callable[[], Runtime]
    quick: bool = True


class KerasRuntime:
    """A trained Keras network as a runtime: what all others are compared with."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    @property
    def info(self) -> RuntimeInfo:
        """What runs the network."""
        import keras

        return RuntimeInfo("keras", keras.__version__, "float32", "cpu", 1)

    def __enter__(self) -> KerasRuntime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        """Run float32[N, H, W, 3]."""
        outputs: dict[str, Any] = self._model.predict(batch, batch_size=64, verbose=0)
        return Outputs(np.asarray(outputs["logits"]), np.asarray(outputs["class_activation"]))


def of_keras(model: keras.Model, name: str = "Keras float32") -> Variant:
    """Give a trained network as a variant."""
    return Variant(name, None, lambda: KerasRuntime(model))


def of_file(runtime: str, path: Path, name: str = "") -> Variant:
    """Give a file on one of the device's runtimes as a variant. Raises UsageError `unknown-runtime`."""
    if runtime not in negotiate.FACTORIES:
        raise UsageError(
            "unknown-runtime", f"There is no runtime {runtime!r}.", f"Choose one of: {', '.join(negotiate.FACTORIES)}."
        )
    factory = negotiate.FACTORIES[runtime]
    return Variant(name or f"{path.stem} on {runtime}", path, lambda: negotiate.resolve(factory)(path, 1))


def elsewhere(path: Path, python: Path) -> Variant:
    """Give a .tflite file on the runtime of another interpreter as a variant."""
    return Variant(f"{path.stem} elsewhere", path, lambda: ElsewhereRuntime(path, python), False)


def in_folder(folder: Path) -> list[Variant]:
    """Give the variants that lie in a folder: those of a bundle's manifest, else all files of a run by their suffix."""
    if (folder / manifests.MANIFEST_FILE).is_file():
        loaded = manifests.load(folder)
        return [
            of_file(item.runtime, folder / item.file, f"{item.precision} on {item.runtime}") for item in loaded.variants
        ]
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES]
    return [of_file(_SUFFIXES[path.suffix], path) for path in files]


def second_look(folder: Path) -> SecondLook:
    """At which cells the device looks again, and how: as the bundle's manifest says, or as a run would be packed."""
    if (folder / manifests.MANIFEST_FILE).is_file():
        calibration = manifests.load(folder).calibration
        return SecondLook(calibration.second_look, calibration.second_look_widths)
    return SECOND_LOOK


def all_of(folder: Path, further: Sequence[str] = (), python: Path | None = None) -> list[Variant]:
    """Give the variants of a run's or bundle's folder, `further` ones as "RUNTIME:FILE", and with `python` elsewhere.

    Each .tflite file is also run by that interpreter. Raises UsageError `unknown-runtime` or `variant-missing`.
    """
    found = in_folder(folder)
    for text in further:
        runtime, _, file = text.partition(":")
        if not Path(file).is_file():
            raise UsageError("variant-missing", f"There is no file {file!r}.", "Name a variant as RUNTIME:FILE.")
        found.append(of_file(runtime, Path(file)))
    if python is not None:
        lite = [item.file for item in found if item.file is not None and item.file.suffix == ".tflite"]
        found += [elsewhere(file, python) for file in lite]
    return found
