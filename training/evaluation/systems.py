"""What can be judged: the folder of a run, a bundle, or the predictions of any other system."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from edge.bundle import manifest as bundle_manifest
from edge.bundle.manifest import MANIFEST_FILE
from edge.core.durable import write_text
from edge.core.errors import InputError, UsageError
from edge.imaging.preprocess import Preprocessing
from training.config import CLASSES, RunConfig
from training.data import cells as cell_cache
from training.data import sources
from training.data.cells import Cells
from training.evaluation import rows
from training.predictions import (
    SECOND_LOOK,
    Predictions,
    Run,
    SecondLook,
    keras_run,
    logits_of_crops,
)

_LOG = logging.getLogger(__name__)

PREDICTIONS_FILE: Final = "predictions.npz"
_CONFIG_FILE, _WEIGHTS_FILE, _PEER_FILE = "config.json", "model.weights.h5", "peer.json"
_CHUNK: Final = 512


@dataclass(frozen=True, slots=True)
class System:
    """One system to judge, as it lies on the disk.

    `settings` are all that decides its result but the seed: systems with equal settings differ by chance alone.
    `config` is the configuration that cuts its cells, None for foreign predictions.
    """

    name: str
    path: Path
    kind: Literal["run", "bundle", "predictions"]
    seed: int | None
    leave_out: tuple[str, ...]
    settings: dict[str, Any]
    config: RunConfig | None


def find(path: Path) -> System:
    """Recognise a run's folder, a bundle's folder, or a file or folder with `predictions.npz`.

    Raises UsageError `no-such-system` when it is none of these, `run-unfinished` for a run without weights, InputError
    when a file in it cannot be understood.
    """
    if (path / MANIFEST_FILE).is_file():
        return _bundle(path)
    if (path / _CONFIG_FILE).is_file() and not (path / _PEER_FILE).is_file():
        if not (path / _WEIGHTS_FILE).is_file():
            raise UsageError("run-unfinished", f"{path} holds no {_WEIGHTS_FILE}.", "Train it first: leuko train fit.")
        try:
            config = RunConfig.load(path / _CONFIG_FILE)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                "config-damaged", f"{path / _CONFIG_FILE} is no configuration: {error}.", "Train the run again."
            ) from error
        settings = asdict(config)
        seed = settings.pop("seed")
        return System(path.name, path, "run", seed, config.leave_out, settings, config)
    file = path / PREDICTIONS_FILE if path.is_dir() else path
    if file.is_file() and file.suffix == ".npz":
        return _foreign(path, file)
    raise UsageError(
        "no-such-system",
        f"{path} is no run, no bundle and no {PREDICTIONS_FILE}.",
        "Name the folder of `leuko train fit` or `leuko quantize pack`, or a file of predictions.",
    )


def _foreign(path: Path, file: Path) -> System:
    said: dict[str, Any] = {}
    if (file.parent / _PEER_FILE).is_file():
        try:
            said = dict(json.loads((file.parent / _PEER_FILE).read_text(encoding="utf-8"))["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "settings-damaged", f"{file.parent / _PEER_FILE} cannot be read: {error}.", "Run the peer again."
            ) from error
    seed = said.pop("seed", None)
    name = file.parent.name if file.name == PREDICTIONS_FILE else file.stem
    settings = said or {"predictions": str(path)}
    return System(name, file, "predictions", seed, tuple(said.get("leave_out", ())), settings, None)


def _bundle(path: Path) -> System:
    found = bundle_manifest.load(path)
    beside = path.parent / _CONFIG_FILE
    config = RunConfig.load(beside) if beside.is_file() else RunConfig()
    config = replace(config, size=found.preprocessing.size, margin=found.preprocessing.margin)
    taught = {item.source for item in found.data}
    unseen = tuple(name for name, source in sources.SOURCES.items() if source.trainable and name not in taught)
    settings = {"bundle": found.name, "version": found.version}
    return System(found.identity, path, "bundle", config.seed, unseen, settings, config)


def config_of(system: System) -> RunConfig:
    """Give the configuration of a run or a bundle. Raises UsageError `no-network` for foreign predictions."""
    if system.config is None:
        raise UsageError(
            "no-network", f"{system.name} is a file of predictions.", "Only a run or a bundle can judge other pictures."
        )
    return system.config


def crops_of(system: System, data: Path | None, cache: Path | None) -> Cells:
    """Give the cells that a run or a bundle is judged on, with their pictures. Raises UsageError `no-data`.

    They are kept in `cache`, without one in the folder of the run; a bundle that lies alone is not added to.
    """
    if data is None:
        raise UsageError("no-data", f"{system.name} must look at labelled cells.", "Name their folder with --data.")
    run = system.path if system.kind == "run" else system.path.parent
    if cache is None and not (run / _CONFIG_FILE).is_file():
        return cell_cache.build(data, config_of(system))
    return cell_cache.load_or_build(data, config_of(system), cache or run / "cache")


def second_look_of(system: System, asked: SecondLook | None) -> SecondLook:
    """Which cells are looked at again, and how: as asked, else the bundle's own, else the kit's."""
    if asked is not None:
        return asked
    if system.kind == "bundle":
        calibration = bundle_manifest.load(system.path).calibration
        return SecondLook(calibration.second_look, calibration.second_look_widths)
    return SECOND_LOOK


@contextmanager
def network(system: System) -> Iterator[tuple[Run, Preprocessing]]:
    """Open the network of a run or a bundle, with how its inputs are made.

    Raises UsageError `no-network` for foreign predictions, `no-litert-variant` for a bundle without one.
    """
    config = config_of(system)
    if system.kind == "bundle":
        from devices.runtimes.litert import LiteRTRuntime

        manifest = bundle_manifest.load(system.path)
        variant = next((item for item in manifest.variants if item.runtime == "litert"), None)
        if variant is None:
            raise UsageError(
                "no-litert-variant", f"{manifest.identity} has no variant for LiteRT.", "Evaluate the run it came from."
            )
        with LiteRTRuntime(system.path / variant.file) as runtime:
            yield runtime.run, manifest.preprocessing.to_preprocessing()
        return
    from training import fit

    yield keras_run(fit.load(system.path)[0]), config.preprocessing


def predictions(
    system: System, data: Path | None, cache: Path | None = None, second_look: SecondLook | None = None
) -> Predictions:
    """Give what a system said of each cell that may be judged or fitted on.

    A run or a bundle is not asked of the cells that it was trained on: they say nothing, and are most. The predictions
    of a run are kept as `predictions.npz` in its folder, those of a bundle in the folder of its run, and made again
    when the weights, the cells or the code that cuts them have changed. Raises UsageError `no-data` when they are
    needed without a data folder, InputError `predictions-damaged` for a file that is none.
    """
    if system.kind == "predictions":
        return load(system.path)
    weights = system.path / (_WEIGHTS_FILE if system.kind == "run" else MANIFEST_FILE)  # a manifest hashes its files
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    second_look = second_look_of(system, second_look)
    key = {
        "weights_sha256": digest,
        "cells": cell_cache.fingerprint(data, config_of(system)) if data else None,
        "second_look": {"below": second_look.below, "widths": list(second_look.widths)},
    }
    folder, stem = (system.path, "predictions") if system.kind == "run" else (system.path.parent, system.path.name)
    file, key_file = folder / f"{stem}.npz", folder / f"{stem}.json"
    if file.is_file() and key_file.is_file():
        # Beside the predictions lies what they are of: the hash of the weights and the fingerprint of the cells.
        known = json.loads(key_file.read_text(encoding="utf-8"))
        same = known["weights_sha256"] == digest and known.get("second_look") == key["second_look"]
        if same and key["cells"] in {None, known["cells"]}:
            return load(file)
    cells = crops_of(system, data, cache)
    cells = cells.select(rows.held_out(cells, system.leave_out) | rows.validation(cells, system.leave_out))
    if not len(cells):
        raise UsageError(
            "nothing-to-judge", f"{data} has no cell that was kept from {system.name}.", "Check --data and --cache."
        )
    _LOG.info("%s: judging %d cells", system.name, len(cells))
    made = _predict(system, cells, second_look)
    if (folder / _CONFIG_FILE).is_file():
        key_file.unlink(missing_ok=True)
        made.save(file)
        write_text(key_file, json.dumps(key, indent=2) + "\n")
    return made


def _predict(system: System, cells: Cells, second_look: SecondLook) -> Predictions:
    with network(system) as (run, preprocessing):
        # In pieces: the inputs of all cells at once would take gigabytes.
        found = [
            logits_of_crops(run, cells.crops[at : at + _CHUNK], preprocessing, second_look)
            for at in range(0, len(cells), _CHUNK)
        ]
    kept = {name: getattr(cells, name) for name in Predictions.__slots__ if name != "logits"}
    return Predictions(logits=np.concatenate(found), **kept)


def load(file: Path) -> Predictions:
    """Read predictions and check that they fit together. Raises InputError `predictions-damaged`."""
    try:
        found = Predictions.load(file)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise _damaged(file, str(error)) from error
    lengths = {name: len(getattr(found, name)) for name in Predictions.__slots__}
    if len(set(lengths.values())) != 1 or len(found) == 0:
        raise _damaged(file, f"its arrays have {lengths} rows")
    if found.logits.shape != (len(found), len(CLASSES)) or not np.isfinite(found.logits).all():
        raise _damaged(file, f"logits of shape {found.logits.shape} must be finite, one column for each of {CLASSES}")
    if found.labels.min() < 0 or found.labels.max() >= len(CLASSES):
        raise _damaged(file, f"labels must lie in 0..{len(CLASSES) - 1}")
    return found


def _damaged(file: Path, fault: str) -> InputError:
    return InputError(
        "predictions-damaged",
        f"{file} holds no predictions: {fault}.",
        "Delete it and make it again, see evaluation.md.",
    )
