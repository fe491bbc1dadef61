"""Makes whole, valid bundles around the small networks, for tests to use and to damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import small_networks as small

from edge.bundle import golden, manifest
from edge.core.labels import LABELS, OTHER

SCALE, OFFSET = 1 / 128, -1.0
TOLERANCE = 0.1

NETWORKS: dict[tuple[str, str], tuple[str, Callable[[], bytes]]] = {
    ("litert", "int8"): ("network-int8.tflite", lambda: small.tflite_network(quantized=True)),
    ("litert", "float32"): ("network-float32.tflite", lambda: small.tflite_network(quantized=False)),
    ("onnxruntime", "float32"): ("network-float32.onnx", small.onnx_network),
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def crops(count: int = 24, seed: int = 3) -> np.ndarray:
    """Pictures the small network takes, uint8[count, 16, 16, 3] BGR."""
    return np.random.default_rng(seed).integers(0, 256, (count, small.SIDE, small.SIDE, 3), dtype=np.uint8)


def network_input(pictures: np.ndarray) -> np.ndarray:
    """The preprocessing that `build` states: RGB, value / 128 - 1."""
    return (pictures[..., ::-1].astype(np.float32) * np.float32(SCALE)) + np.float32(OFFSET)


def build(folder: Path, kinds: tuple[tuple[str, str], ...] = (("litert", "int8"),)) -> Path:
    """Write a valid bundle into `folder` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    variants = []
    for runtime, precision in kinds:
        name, make = NETWORKS[runtime, precision]
        data = make()
        (folder / name).write_bytes(data)
        variants.append(
            manifest.Variant(runtime=runtime, precision=precision, file=name, sha256=sha256(data), size=len(data))
        )
    pictures = crops()
    logits = small.expected(network_input(pictures))[0].astype(np.float32)
    vectors = golden.pack(pictures, logits, TOLERANCE)
    (folder / "golden.npz").write_bytes(vectors)
    card = b"# A model card\n"
    (folder / "model_card.md").write_bytes(card)
    stated = manifest.Manifest(
        schema_version=1,
        name="small",
        version="1.2.3",
        labels=(*LABELS, OTHER),
        preprocessing=manifest.PreprocessingSpec(
            size=small.SIDE, margin=3.0, colour_order="RGB", interpolation="area", scale=SCALE, offset=OFFSET
        ),
        variants=tuple(variants),
        calibration=manifest.Calibration(temperature=1.5, abstention_threshold=0.4),
        class_activation=manifest.ClassActivation(output="maps"),
        golden=manifest.Golden(file="golden.npz", sha256=sha256(vectors), tolerance=TOLERANCE),
        figures=(
            manifest.SiteFigures(
                source="made up",
                n=100,
                balanced_accuracy=0.5,
                macro_f1=0.5,
                recall={"neutrophil": manifest.Recall(n=100, value=0.5, low=0.4, high=0.6)},
            ),
        ),
        data=(manifest.DataSource(source="made up", licence="CC0-1.0", citation="none", images=100),),
        weights_origin="random",
        intended_use="tests",
        limits="knows nothing of cells",
        created="2026-11-23",
        model_card=manifest.CardFile(file="model_card.md", sha256=sha256(card)),
    )
    (folder / "manifest.json").write_bytes(manifest.dump(stated))
    return folder


def document(folder: Path) -> dict[str, Any]:
    """The manifest as plain JSON values."""
    return json.loads((folder / "manifest.json").read_bytes())


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's JSON in place."""
    values = document(folder)
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


def replace_golden(folder: Path, data: bytes) -> None:
    """Put other golden vectors in, with the manifest stating their hash: the attacker may write the whole folder."""
    (folder / "golden.npz").write_bytes(data)
    rewrite(folder, lambda values: values["golden"].update(sha256=sha256(data)))
