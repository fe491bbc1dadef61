"""`leuko quantize tensorrt`: builds the engine on the device. Needs no training framework, but TensorRT and a GPU."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.health.engine_measure import Measured


class Precision(str, Enum):
    """What a network computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"

    @property
    def full(self) -> str:
        """The name in manifests."""
        return {"fp32": "float32", "fp16": "float16", "int8": "int8"}[self.value]


def tensorrt(  # noqa: PLR0917  # options, given by name
    source: Annotated[Path, typer.Argument(help="Folder of a bundle, or an ONNX file.", metavar="BUNDLE|ONNX")],
    precision: Annotated[
        Precision | None,
        typer.Option(help="Which of the bundle's networks (default: fp16); a file is built in what it is in."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of kept engines (default: the user's cache).", metavar="DIR")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Then measure a bundle's engine: parity with the CPU, latency, memory.")
    ] = False,
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
    measured = _measured(source, built.key["precision"], out) if measure else None
    if json:
        document = {
            "network": str(built.network),
            "engine": None if built.engine is None else str(built.engine),
            "key": built.key,
            "device": built.device,
            "bytes": built.bytes,
            "seconds": round(built.seconds, 1),
            "measured": None if measured is None else dataclasses.asdict(measured),
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
        output.answer(output.table([*rows, *([] if measured is None else _rows(measured))]))
    if golden is not None and not golden.ok:
        raise BundleError(
            "golden-not-reproduced",
            f"The engine does not reproduce the golden vectors: {golden.agreeing} of {golden.vectors} keep their "
            f"class, largest difference {golden.difference:.3g} (tolerance {golden.tolerance:.3g}).",
            "Use another --precision or the bundle's onnxruntime variant, and take no results from this engine.",
        )


def _measured(source: Path, precision: str, out: Path | None) -> Measured:
    from edge.core.errors import UsageError
    from edge.health import engine_measure

    if not source.is_dir():
        raise UsageError(
            "nothing-to-measure-with",
            f"{source} is a bare ONNX file: nothing says how cells are prepared for it.",
            "Name the folder of a bundle, or leave out --measure.",
        )
    return engine_measure.measure(source, precision, out)


def _rows(measured: Measured) -> list[list[str]]:
    if measured.agreeing is None or measured.largest_difference is None:
        parity = "the bundle's float32 network cannot run here on the CPU"
    else:
        parity = (
            f"{measured.agreeing} of {measured.cells} drawn cells called as by float32 on the CPU, logits differ by "
            f"{measured.mean_difference:.3g} in the mean and {measured.largest_difference:.3g} at most"
        )
    rows = [["parity", parity]]
    for times in measured.times:
        cpu = "" if times.cpu_median is None else f"; float32 on one thread of the CPU {times.cpu_median:.2f} ms"
        rows.append(
            [
                f"batch of {times.batch}",
                f"{times.median:.2f} ms (95th percentile {times.slowest_twentieth:.2f}){cpu}",
            ]
        )
    resident = "" if measured.resident_bytes is None else f", {measured.resident_bytes / 1e6:.0f} MB resident"
    rows.append(["memory", f"{measured.gpu_bytes / 1e6:.0f} MB of the GPU{resident}"])
    return rows
