"""A model bundle from a quantized network: calibration, golden vectors, figures, card and manifest, in one folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import structs

from devices.runtimes.litert import LiteRTRuntime
from edge.bundle import golden
from edge.bundle.manifest import (
    MANIFEST_FILE,
    Calibration,
    CardFile,
    ClassActivation,
    DataSource,
    Golden,
    Manifest,
    PreprocessingSpec,
    Recall,
    SiteFigures,
    Variant,
    dump,
)
from edge.core.durable import write_bytes
from edge.core.types import FloatArray, Image
from quantization import calibration, card
from training.config import CLASSES, RunConfig
from training.data import rendered
from training.data.cells import Cells
from training.data.sources import SOURCES
from training.fit import network_inputs
from training.metrics import Figures
from training.predictions import SECOND_LOOK, logits_of_crops

NETWORK_FILE = "student-int8.tflite"
GOLDEN_FILE = "golden.npz"
CARD_FILE = "model_card.md"

GOLDEN_COUNTS = 16
"""How many counts of the output's scale another CPU family may differ: kernels round differently.

`devices/verify/aarch64.sh` finds 7 counts between x86-64 and emulated aarch64, `tests/bench/kernels.py` 9 between two
sets of kernels on one x86-64. Four counts, as it once was, refused a good device. A wrong computation is caught all
the same: a golden vector's class leads by twice this.
"""

INTENDED_USE = (
    "Research use only. Five-part differential of nucleated cells in stained peripheral blood smears, as decision "
    "support for a person who reviews each cell. Not for use in diagnostic procedures."
)
LIMITS = (
    "Trained on few sites: figures fall at a site, stain or camera that was not among them, and the figures per site "
    "in this manifest say by how much. Blasts, immature granulocytes, erythroblasts and platelet clumps are `other` at "
    "best; a sample that may hold abnormal cells needs a person. Rare classes (basophils) were seen from few sources."
)
WEIGHTS_ORIGIN = (
    "Backbone initialised from MobileNetV2 (alpha 0.35) ImageNet weights of keras.applications, Apache-2.0, Google; "
    "then trained as a whole on the listed sources."
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Name, version and date (YYYY-MM-DD) of a bundle, and the commit of the code that made it, where known."""

    name: str
    version: str
    created: str
    commit: str | None = None


def run_inputs(network: Path, inputs: FloatArray) -> FloatArray:
    """Logits float32[N, 6] of inputs float32[N, size, size, 3] on the device's runtime."""
    with LiteRTRuntime(network) as runtime:
        return runtime.run(inputs).logits


def run(network: Path, crops: Image, config: RunConfig) -> FloatArray:
    """Logits float32[N, 6] of crops uint8[N, size, size, 3] on the device's runtime."""
    return run_inputs(network, network_inputs(crops, config))


def output_scale(network: Path) -> float:
    """Read the value of one count of the int8 logits."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_path=str(network)).get_output_details()
    return float(next(item["quantization"][0] for item in details if len(item["shape"]) == 2))


def data_sources(trained: Cells) -> tuple[DataSource, ...]:
    """List the bill of materials: every source the weights saw, its licence, and the number of training crops."""
    return tuple(
        DataSource(
            source=str(name),
            licence=SOURCES[str(name)].licence,
            citation=SOURCES[str(name)].citation,
            images=int(count),
        )
        for name, count in zip(*np.unique(trained.source, return_counts=True), strict=True)
    )


def _site(row: Figures, note: str) -> SiteFigures:
    recalls = {
        # A share of 0 or 1 can lie outside its rounded interval by the last bit.
        name: Recall(
            n=recall.n,
            value=round(recall.value, 6),
            low=min(round(recall.interval.low, 6), round(recall.value, 6)),
            high=max(round(recall.interval.high, 6), round(recall.value, 6)),
        )
        for name, recall in row.recall.items()
    }
    return SiteFigures(
        source=row.source,
        n=row.n,
        balanced_accuracy=round(row.balanced_accuracy, 6),
        macro_f1=round(row.macro_f1, 6),
        recall=recalls,
        note=note,
    )


def calibrate(network: Path, cells: Cells, config: RunConfig) -> calibration.Fit:
    """Fit temperature and threshold of the int8 network, with its second looks, on the validation cells."""
    chosen = cells.select((cells.split == "validation") & (cells.kind != "background"))
    with LiteRTRuntime(network) as runtime:
        logits = logits_of_crops(runtime.run, chosen.crops, config.preprocessing, SECOND_LOOK)
    return calibration.fit(logits, chosen.labels, chosen.source)


def golden_vectors(network: Path, config: RunConfig, tolerance: float, count: int = 20) -> bytes:
    """Content of golden.npz: rendered cells, so that no third party's picture travels with the bundle."""
    images, _ = rendered.pictures(count // 5 + 2, rendered.GOLDEN_SEED)
    crops = rendered.crops(images, config.size, config.margin)
    logits = run(network, crops, config)
    decisive = np.flatnonzero(golden.decisive(logits, tolerance))[:count]
    return golden.pack(crops[decisive], logits[decisive], tolerance)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def pack(  # noqa: PLR0917  # each is another thing
    content: bytes, cells: Cells, trained: Cells, config: RunConfig, folder: Path, identity: Identity
) -> Manifest:
    """Write the bundle of a quantized network, without figures yet, and return its manifest.

    `cells` hold the validation cells that the calibration is fitted on, `trained` are those that the weights saw. The
    same network, cells and identity give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = folder / NETWORK_FILE
    write_bytes(network, content)
    fitted = calibrate(network, cells, config)
    tolerance = round(GOLDEN_COUNTS * output_scale(network), 4)
    vectors = golden_vectors(network, config, tolerance)
    write_bytes(folder / GOLDEN_FILE, vectors)
    manifest = Manifest(
        schema_version=1,
        name=identity.name,
        version=identity.version,
        labels=CLASSES,
        preprocessing=PreprocessingSpec.of(config.preprocessing),
        variants=(
            Variant(runtime="litert", precision="int8", file=NETWORK_FILE, sha256=_digest(content), size=len(content)),
        ),
        calibration=Calibration(
            temperature=round(fitted.temperature, 4),
            abstention_threshold=fitted.threshold,
            second_look=SECOND_LOOK.below,
            second_look_widths=SECOND_LOOK.widths,
            fitted_on=(
                f"validation cells, sources weighted by the root of their number; wrong among counted "
                f"{fitted.risk:.3f} (target {calibration.RISK_TARGET}), counted {fitted.coverage:.3f}"
            ),
        ),
        class_activation=ClassActivation(output=activation_index(network)),
        golden=Golden(file=GOLDEN_FILE, sha256=_digest(vectors), tolerance=tolerance),
        figures=(),
        data=data_sources(trained),
        weights_origin=WEIGHTS_ORIGIN,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        created=identity.created,
        training_commit=identity.commit,
    )
    write_bytes(folder / MANIFEST_FILE, dump(manifest))
    return manifest


def activation_index(network: Path) -> int:
    """Index of the output that holds the class-activation maps."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_path=str(network)).get_output_details()
    return next(index for index, item in enumerate(details) if len(item["shape"]) == 4)


def complete(
    manifest: Manifest, folder: Path, rows: Sequence[Figures], notes: Mapping[str, str], sections: Sequence[str] = ()
) -> Manifest:
    """Add figures and model card to a packed bundle and write it. `notes` are keyed by the row's source name.

    `sections` are Markdown that the card carries besides what the manifest says, for example the parity table.
    """
    sites = tuple(_site(row, notes.get(row.source.split(",")[0], "")) for row in rows)
    manifest = structs.replace(manifest, figures=sites)
    text = card.render(manifest, rows, sections).encode("utf-8")
    write_bytes(folder / CARD_FILE, text)
    manifest = structs.replace(manifest, model_card=CardFile(file=CARD_FILE, sha256=_digest(text)))
    write_bytes(folder / MANIFEST_FILE, dump(manifest))
    return manifest
