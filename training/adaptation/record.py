"""What a commissioning leaves: a run folder of its own, and a bundle whose card says for which site, from what."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec import structs

from edge.bundle.manifest import MANIFEST_FILE, Calibration, DataSource, Manifest, dump
from edge.core.durable import write_bytes
from edge.core.errors import UsageError
from edge.core.types import FloatArray
from quantization import calibration, pack, parity, tflite
from quantization.pack import Identity
from training.adaptation import gate, replay
from training.adaptation.commission import Adapted
from training.data import rendered
from training.data.augment import centre
from training.data.cells import Cells
from training.fit import network_inputs
from training.metrics import Figures, figures, table

QUANTIZED_FILE: Final = "student-int8.tflite"
SITE_FILE: Final = "site.json"
ADAPTATION_FILE: Final = "adaptation.json"

ENOUGH_FOR_CALIBRATION: Final = 30
"""From this many labelled cells on, temperature and threshold are the site's own."""


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a folder that becomes `target` when the block ends well, and vanishes when it does not.

    Raises UsageError `folder-in-use` when `target` exists and is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("folder-in-use", f"{target} is not empty.", "Name a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    # Made for its owner alone by mkdtemp; a run folder is as readable as any other.
    partial.chmod(0o755)
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _row(row: Figures) -> dict[str, Any]:
    return {
        "cells": row.n,
        "balanced_accuracy": row.balanced_accuracy,
        "macro_f1": row.macro_f1,
        "recall": {
            name: {"n": recall.n, "value": recall.value, "wilson": [recall.interval.low, recall.interval.high]}
            for name, recall in row.recall.items()
        },
    }


def summary(adapted: Adapted) -> dict[str, Any]:
    """Everything measured, as JSON values; `seconds` are those since the start."""
    held = adapted.held
    site = None
    if held is not None:
        site = {
            "way": held.way,
            "balanced_log_loss": held.losses,
            "before": _row(held.before),
            "after": _row(held.after),
            "groups": held.comparison.groups,
            "p": held.comparison.p,
            "calibration_error": held.calibration_error,
        }
    return {
        "site": adapted.options.site,
        "seed": adapted.options.seed,
        "fields": adapted.statistics.fields if adapted.statistics else 0,
        "fields_accepted": adapted.statistics.accepted if adapted.statistics else 0,
        "cells_unlabelled": len(adapted.unlabelled),
        "cells_labelled": len(adapted.site) if adapted.site is not None else 0,
        "held_out": site,
        "source": {"before": _row(adapted.source_before), "after": _row(adapted.source_after)},
        "calls_changed": adapted.changed,
        "limits": asdict(adapted.options.limits),
        "unreadable": [asdict(item) for item in adapted.unreadable],
        "seconds": round(adapted.seconds, 1),
    }


def _together(adapted: Adapted) -> Cells:
    return adapted.replay if adapted.site is None else rendered.join(adapted.replay, adapted.site)


def quantized(adapted: Adapted) -> bytes:
    """Quantize the adapted network; source and site set its ranges."""
    config = adapted.config
    inputs = tflite.representative_set(_together(adapted), config)
    if len(adapted.unlabelled):
        crops = [centre(crop, config.size) for crop in adapted.unlabelled[:40]]
        inputs = np.concatenate([inputs, network_inputs(crops, config)])
    return tflite.convert(adapted.model, inputs)


def _parity(adapted: Adapted, network: Path) -> list[parity.Parity]:
    config = adapted.config
    sets = {"source validation": adapted.replay.crops[adapted.replay.split == "validation"]}
    seen = adapted.unlabelled if adapted.site is None else np.concatenate([adapted.unlabelled, adapted.site.crops])
    sets[adapted.options.site] = seen
    rows = []
    for name, crops in sets.items():
        if len(crops):
            inputs = network_inputs([centre(crop, config.size) for crop in crops], config)
            reference = np.asarray(adapted.model.predict(inputs, batch_size=128, verbose=0)["logits"])
            rows.append(parity.compare(name, reference, pack.run_inputs(network, inputs)))
    return rows


def write_run(adapted: Adapted, folder: Path) -> list[parity.Parity]:
    """Write the adapted run into an empty folder; raises AdaptationRefusedError when INT8 changes too many calls."""
    network = folder / QUANTIZED_FILE
    write_bytes(network, quantized(adapted))
    rows = _parity(adapted, network)
    gate.require([item for row in rows for item in gate.judge_quantized(row.agreement, adapted.options.limits)])
    write_bytes(folder / "parity.md", (parity.table(rows) + "\n").encode())
    adapted.config.save(folder / "config.json")
    adapted.model.save_weights(folder / "model.weights.h5")
    if adapted.statistics is not None:
        write_bytes(folder / SITE_FILE, adapted.statistics.to_json().encode())
    replay.write(adapted.replay, (*adapted.origin, _own(adapted)), folder)
    return rows


def _own(adapted: Adapted) -> DataSource:
    """What the site gave, as a line of the bundle's bill of materials."""
    cells = len(adapted.site) if adapted.site is not None else 0
    fields = adapted.statistics.fields if adapted.statistics else 0
    return DataSource(
        source=adapted.options.site,
        licence="the site's own",
        citation=f"{cells} labelled cells and {fields} unlabelled fields of the site that commissioned this bundle",
        images=cells,
    )


def fit_calibration(held: FloatArray, labels: Any, name: str) -> calibration.Fit:
    """Fit temperature and threshold on the logits that held-out networks gave for the site's labelled cells."""
    return calibration.fit(held, labels, np.full(len(labels), name))


def write_bundle(adapted: Adapted, run: Path, folder: Path, identity: Identity) -> Manifest:
    """Pack the network of an adapted run, which `write_run` wrote, as a bundle in an empty folder."""
    config, held, site = adapted.config, adapted.held, adapted.options.site
    trained = adapted.replay.select(adapted.replay.split == "train")
    content = (run / QUANTIZED_FILE).read_bytes()
    manifest = pack.pack(content, adapted.replay, trained, config, folder, identity)
    if held is not None and adapted.site is not None and len(adapted.site) >= ENOUGH_FOR_CALIBRATION:
        fitted = fit_calibration(held.logits, adapted.site.labels, site)
        manifest = structs.replace(
            manifest,
            calibration=Calibration(
                temperature=round(fitted.temperature, 4),
                abstention_threshold=fitted.threshold,
                fitted_on=(
                    f"{len(adapted.site)} labelled cells of {site}, each called by a network that saw no label of its "
                    f"group; wrong among counted {fitted.risk:.3f} (target {calibration.RISK_TARGET}), counted "
                    f"{fitted.coverage:.3f}"
                ),
            ),
        )
    cells = len(adapted.site) if adapted.site is not None else 0
    fields = adapted.statistics.fields if adapted.statistics else 0
    unlabelled = len(adapted.unlabelled)
    text = f"Adapted for {site} from {cells} labelled cells and {unlabelled} unlabelled ones of {fields} fields."
    manifest = structs.replace(
        manifest,
        data=(*adapted.origin, _own(adapted)),
        limits=f"{text} Not for another site. {manifest.limits}",
        weights_origin=f"{manifest.weights_origin} {text}",
    )
    rows, notes = _bundle_figures(adapted, run)
    done = pack.complete(manifest, folder, rows, notes, [_section(adapted, run)])
    # The site's figures come from the float networks of the folds, and say so.
    marked = tuple(structs.replace(row, precision="float32") if row.source == site else row for row in done.figures)
    done = structs.replace(done, figures=marked)
    write_bytes(folder / MANIFEST_FILE, dump(done))
    return done


def _bundle_figures(adapted: Adapted, run: Path) -> tuple[list[Figures], dict[str, str]]:
    rows: list[Figures] = []
    notes: dict[str, str] = {}
    if adapted.held is not None:
        rows.append(adapted.held.after)
        notes[adapted.options.site] = (
            f"labelled cells, cross-validated over {adapted.held.comparison.groups} groups, float networks; "
            "the way was chosen on the same cells, and views may share slides, so this is optimistic"
        )
    watched = adapted.replay.select(adapted.replay.split == "validation")
    crops = np.stack([centre(crop, adapted.config.size) for crop in watched.crops])
    called = pack.run(run / QUANTIZED_FILE, crops, adapted.config).argmax(axis=1).astype(np.int64)
    for name in np.unique(watched.source):
        chosen = watched.source == name
        rows.append(figures(str(name), watched.labels[chosen], called[chosen]))
        notes[str(name)] = "a sample of the validation cells of the original training, after the adaptation"
    return rows, notes


def _section(adapted: Adapted, run: Path) -> str:
    lines = [f"## Commissioning of {adapted.options.site}", ""]
    held = adapted.held
    if held is None:
        lines += [
            "From unlabelled cells alone: what the model reaches at this site has not been measured. "
            f"{adapted.changed:.0%} of the calls changed.",
            "",
        ]
    else:
        named = [
            ("before", held.before),
            ("after, held out", held.after),
        ]
        lines += [
            f"Way: {held.way}. Balanced accuracy {held.comparison.old:.3f} before, {held.comparison.new:.3f} after, "
            f"on {held.comparison.cells} cells of {held.comparison.groups} groups, each called by a network that saw "
            f"none of its group (p = {held.comparison.p:.4f}).",
            "",
            table([replace_name(row, name) for name, row in named]),
            "",
        ]
    lines += [
        f"Source validation cells: balanced accuracy {adapted.source_before.balanced_accuracy:.3f} before, "
        f"{adapted.source_after.balanced_accuracy:.3f} after.",
        "",
        "### INT8 against float",
        "",
        (run / "parity.md").read_text(encoding="utf-8"),
    ]
    return "\n".join(lines)


def replace_name(row: Figures, name: str) -> Figures:
    """Give the same figures under another name."""
    return Figures(name, row.n, row.balanced_accuracy, row.macro_f1, row.recall, row.confusion)


def today() -> str:
    """Date of today, as a manifest has it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def write_summary(adapted: Adapted, folder: Path) -> dict[str, Any]:
    """Write `adaptation.json` into the run folder and give its content."""
    values = summary(adapted)
    write_bytes(folder / ADAPTATION_FILE, (json.dumps(values, indent=1) + "\n").encode())
    return values
