"""A model bundle from exported ONNX files: one network in several precisions, for ONNX Runtime and TensorRT."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import numpy as np

from devices.runtimes.onnxruntime import OnnxRuntime
from edge.bundle import golden
from edge.bundle.manifest import (
    MANIFEST_FILE,
    Calibration,
    ClassActivation,
    Golden,
    Manifest,
    PreprocessingSpec,
    Variant,
    dump,
)
from edge.core.durable import write_bytes
from edge.core.types import FloatArray
from quantization import calibration, onnx_export, onnx_variants
from quantization.pack import GOLDEN_FILE, INTENDED_USE, LIMITS, Identity, complete, data_sources
from training import fit
from training.config import CLASSES, RunConfig
from training.data import rendered
from training.data.cells import Cells
from training.data.views import network_inputs
from training.evaluation import device_path
from training.metrics import Figures
from training.predictions import SECOND_LOOK, logits_of_crops

SMALLEST_TOLERANCE: Final = 0.02
GOLDEN_COUNT: Final = 20

WEIGHTS_ORIGIN: Final = (
    "{model}, on the backbone {backbone}; a base that was not trained from scratch began with ImageNet weights "
    "(Apache-2.0), see NOTICE. Then trained as a whole on the listed sources."
)


def named(name: str, version: str, commit: str | None = None) -> Identity:
    """Give a bundle its name, version and commit, and today's date."""
    return Identity(name, version, datetime.now(timezone.utc).strftime("%Y-%m-%d"), commit)


def pack(  # noqa: PLR0917  # each is another thing
    run: Path, files: Path, data: Path, cells: Cells, folder: Path, identity: Identity
) -> tuple[Manifest, list[Figures]]:
    """Pack the files that `onnx_variants.make` wrote, with calibration, golden vectors, figures and card.

    Calibration and figures are of the most precise of the small ones (float16, else int8, else float32): it is what a
    GPU runs. Raises InputError `not-exported` when there are no files.
    """
    config = RunConfig.load(run / "config.json")
    made = {item.precision: item for item in onnx_variants.read(files)}
    contents = {precision: (files / item.file).read_bytes() for precision, item in made.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for precision, item in made.items():
        write_bytes(folder / item.file, contents[precision])
    leading = next(precision for precision in ("float16", "int8", "float32") if precision in made)
    fitted = _calibrate(folder / made[leading].file, cells, config)
    tolerance, vectors = golden_vectors({name: folder / item.file for name, item in made.items()}, config)
    write_bytes(folder / GOLDEN_FILE, vectors)
    manifest = Manifest(
        schema_version=1,
        name=identity.name,
        version=identity.version,
        labels=CLASSES,
        preprocessing=PreprocessingSpec.of(config.preprocessing),
        variants=tuple(
            Variant(
                runtime="onnxruntime",
                precision=precision,  # type: ignore[arg-type]  # one of the three
                file=item.file,
                sha256=hashlib.sha256(contents[precision]).hexdigest(),
                size=len(contents[precision]),
            )
            for precision, item in made.items()
        ),
        calibration=Calibration(
            temperature=round(fitted.temperature, 4),
            abstention_threshold=fitted.threshold,
            second_look=SECOND_LOOK.below,
            second_look_widths=SECOND_LOOK.widths,
            fitted_on=(
                f"{leading}, validation cells, sources weighted by the root of their number; wrong among counted "
                f"{fitted.risk:.3f} (target {calibration.RISK_TARGET}), counted {fitted.coverage:.3f}"
            ),
        ),
        class_activation=ClassActivation(output=onnx_export.OUTPUTS[1]),
        golden=Golden(file=GOLDEN_FILE, sha256=hashlib.sha256(vectors).hexdigest(), tolerance=tolerance),
        figures=(),
        data=data_sources(fit.training_cells(cells, config)),
        weights_origin=WEIGHTS_ORIGIN.format(model=config.model, backbone=config.backbone or "of its own"),
        intended_use=INTENDED_USE,
        limits=LIMITS,
        created=identity.created,
        training_commit=identity.commit,
    )
    write_bytes(folder / MANIFEST_FILE, dump(manifest))
    with OnnxRuntime(folder / made[leading].file) as runtime:
        rows = list(device_path.evaluate(manifest, folder, data, cells, runtime=runtime).values())
    sections = [f"## The variants\n\n{(files / onnx_variants.TABLE_FILE).read_text(encoding='utf-8')}"]
    return complete(manifest, folder, rows, device_path.NOTES, sections), rows


def golden_vectors(networks: Mapping[str, Path], config: RunConfig) -> tuple[float, bytes]:
    """Give the tolerance, and the content of golden.npz with a reference for each precision.

    The tolerance is the largest difference between two of the precisions: another processor's rounding must not change
    more than a conversion did. Rendered cells, so that no third party's picture travels with the bundle.
    """
    images, _ = rendered.pictures(GOLDEN_COUNT // 5 + 2, rendered.GOLDEN_SEED)
    crops = rendered.crops(images, config.size, config.margin)
    inputs = network_inputs(crops, config)
    logits: dict[str, FloatArray] = {}
    for precision, path in networks.items():
        with OnnxRuntime(path) as runtime:
            logits[precision] = runtime.run(inputs).logits
    values = list(logits.values())
    spread = max((float(np.abs(one - other).max()) for one in values for other in values), default=0.0)
    tolerance = round(max(SMALLEST_TOLERANCE, spread), 4)
    decisive = np.logical_and.reduce([golden.decisive(value, tolerance) for value in values])
    chosen = np.flatnonzero(decisive)[:GOLDEN_COUNT]
    return tolerance, golden.pack(
        crops[chosen],
        logits["float32"][chosen],
        tolerance,
        {precision: value[chosen] for precision, value in logits.items() if precision != "float32"},
    )


def _calibrate(network: Path, cells: Cells, config: RunConfig) -> calibration.Fit:
    chosen = cells.select((cells.split == "validation") & (cells.kind != "background"))
    with OnnxRuntime(network) as runtime:
        logits = logits_of_crops(runtime.run, chosen.crops, config.preprocessing, SECOND_LOOK)
    return calibration.fit(logits, chosen.labels, chosen.source)
