"""`leuko quantize tensorrt`: builds the engine on the device. Needs no training framework, but TensorRT and a GPU."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output


class Precision(str, Enum):
    """What a network computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"

    @property
    def full(self) -> str:
        """The name in manifests."""
        return {"fp32": "float32", "fp16": "float16", "int8": "int8"}[self.value]


def tensorrt(
    source: Annotated[Path, typer.Argument(help="Folder of a bundle, or an ONNX file.", metavar="BUNDLE|ONNX")],
    precision: Annotated[
        Precision | None,
        typer.Option(help="Which of the bundle's networks (default: fp16); a file is built in what it is in."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of kept engines (default: the user's cache).", metavar="DIR")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build again, also when a fitting engine is kept.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Build a TensorRT engine on this device (a Jetson, or a machine with an NVIDIA GPU), keep it and prove it."""
    import dataclasses

    from edge.core.errors import BundleError
    from edge.health import engines

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    built = engines.build(source, precision.full if precision else None, out, fresh=fresh)
    golden = built.golden
    if json:
        document = {
            "network": str(built.network),
            "engine": None if built.engine is None else str(built.engine),
            "key": built.key,
            "device": built.device,
            "bytes": built.bytes,
            "seconds": round(built.seconds, 1),
            "golden": None
            if golden is None
            else {
                **{key: value for key, value in dataclasses.asdict(golden).items() if key != "runtime"},
                "difference": golden.difference if golden.difference < float("inf") else None,
                "ok": golden.ok,
            },
        }
        output.answer_json(document)
    else:
        rows = [
            ["network", f"{built.network.name}, {built.key['precision']}"],
            ["engine", str(built.engine) if built.engine else "not kept: the folder cannot be written"],
            ["made by", f"TensorRT {built.key['tensorrt']}, CUDA {built.key['cuda']}"],
            ["for", f"{built.device} (compute capability {built.key['compute_capability']}), batches of 1 to 16"],
            ["building", f"{built.seconds:.1f} s" if built.seconds else "not needed: it was kept"],
            ["size", f"{built.bytes} bytes"],
        ]
        if golden is not None:
            rows.append(
                [
                    "golden vectors",
                    f"{golden.agreeing} of {golden.vectors} keep their class, largest difference "
                    f"{golden.difference:.3g} (tolerance {golden.tolerance:.3g})",
                ]
            )
        output.answer(output.table(rows))
    if golden is not None and not golden.ok:
        raise BundleError(
            "golden-not-reproduced",
            f"The engine does not reproduce the golden vectors: {golden.agreeing} of {golden.vectors} keep their "
            f"class, largest difference {golden.difference:.3g} (tolerance {golden.tolerance:.3g}).",
            "Use another --precision or the bundle's onnxruntime variant, and take no results from this engine.",
        )
