"""`leuko quantize`: turn a trained network into a bundle for devices. Needs the `quantize` extra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output, quantize_onnx, quantize_tensorrt
from edge.cli.train.common import Data, require_extra, show_progress

app = typer.Typer(help="Quantize and pack models (needs the extra `quantize`).", no_args_is_help=True)
app.command()(quantize_onnx.onnx)
app.command("pack-onnx")(quantize_onnx.pack_onnx)
app.command()(quantize_tensorrt.tensorrt)

Run = Annotated[Path, typer.Argument(help="Folder of a run of `leuko train fit`.", metavar="RUN")]


@app.command()
def tflite(run: Run, data: Data) -> None:
    """Quantize a run's student to full-integer INT8 TFLite, and print the file."""
    require_extra("quantize")
    from training.make_student import quantize

    show_progress()
    output.answer(str(quantize(data, run)))


@app.command()
def pack(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the bundle.", metavar="DIR")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "wbc-student",
    version: Annotated[str, typer.Option(help="Version of the bundle, as 1.2.3.")] = "0.1.0",
    commit: Annotated[str | None, typer.Option(help="Commit of the code that trained it.")] = None,
) -> None:
    """Calibrate, evaluate and pack a run's quantized student as a bundle, and print its figures."""
    require_extra("quantize")
    from training.make_student import FIGURES_FILE, pack_bundle

    show_progress()
    manifest = pack_bundle(data, run, out, name, version, commit)
    output.answer((run / FIGURES_FILE).read_text(encoding="utf-8"))
    output.note(f"{manifest.identity} is in {out}")
