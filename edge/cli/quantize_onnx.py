"""`leuko quantize onnx` and `pack-onnx`: a network for ONNX Runtime and TensorRT. Needs the `quantize` extra."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output
from edge.cli.quantize_tensorrt import Precision
from edge.cli.train.common import Cache, Data, require_extra, show_progress

Run = Annotated[Path, typer.Argument(help="Folder of a run of `leuko train fit`.", metavar="RUN")]


class Calibration(str, Enum):
    """How a histogram of activations becomes a range."""

    percentile = "percentile"
    entropy = "entropy"


def onnx(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder of the files (default: RUN/onnx).", metavar="DIR")] = None,
    precision: Annotated[
        list[Precision] | None, typer.Option(help="A precision to make; may be repeated (default: all three).")
    ] = None,
    calibration: Annotated[Calibration, typer.Option(help="What sets the ranges of INT8.")] = Calibration.percentile,
    cache: Cache = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Export a run's network to ONNX in FP32, FP16 and INT8 (Q/DQ), judge each, and print what it costs.

    The exported file is loaded and run: its logits must lie within 1e-4 of Keras'. A variant that loses more than 0.5
    points of accuracy is not written, and the command fails.
    """
    require_extra("quantize", "onnx", "onnxruntime", "tf2onnx")
    import dataclasses

    from quantization import onnx_variants
    from training.checkpoint import finished_config
    from training.make_student import load_cells

    show_progress()
    cells = load_cells(data, finished_config(run), run, cache)
    wanted = [item.full for item in precision] if precision else list(onnx_variants.PRECISIONS)
    record = onnx_variants.make(run, cells, wanted, out or run / "onnx", calibration.value)
    if json:
        output.answer_json(dataclasses.asdict(record))
    else:
        output.answer(record.text())
    onnx_variants.require_all(record)


def pack_onnx(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the bundle.", metavar="DIR")],
    files: Annotated[
        Path | None, typer.Option(help="Folder that `leuko quantize onnx` wrote (default: RUN/onnx).", metavar="DIR")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "wbc-full",
    version: Annotated[str, typer.Option(help="Version of the bundle, as 1.2.3.")] = "0.1.0",
    commit: Annotated[str | None, typer.Option(help="Commit of the code that trained it.")] = None,
    cache: Cache = None,
) -> None:
    """Calibrate, evaluate and pack a run's ONNX files as one bundle, and print its figures."""
    require_extra("quantize", "onnx", "onnxruntime")
    from quantization import pack_onnx as packing
    from training.checkpoint import finished_config
    from training.make_student import load_cells
    from training.metrics import table

    show_progress()
    cells = load_cells(data, finished_config(run), run, cache)
    manifest, rows = packing.pack(run, files or run / "onnx", data, cells, out, packing.named(name, version, commit))
    output.answer(table(rows))
    output.note(f"{manifest.identity} is in {out}: {', '.join(variant.precision for variant in manifest.variants)}")
