"""`leuko quantize`: turn a trained network into a bundle for devices. Needs the `quantize` extra."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.cli import output, quantize_onnx, quantize_tensorrt
from edge.cli.train.common import Cache, Data, require_extra, show_progress

app = typer.Typer(help="Quantize and pack models (needs the extra `quantize`).", no_args_is_help=True)
app.command()(quantize_onnx.onnx)
app.command("pack-onnx")(quantize_onnx.pack_onnx)
app.command()(quantize_tensorrt.tensorrt)

Run = Annotated[Path, typer.Argument(help="Folder of a run of `leuko train fit`.", metavar="RUN")]
Method = Literal["ptq", "rounded", "qat", "mixed", "ai-edge", "float"]
Split = Literal["validation", "held-out"]
FileOut = Annotated[Path | None, typer.Option(help="The file (default: in RUN, named after the method).")]


@app.command()
def tflite(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    method: Annotated[
        Method,
        typer.Option(
            help="ptq: int8 after the training; rounded: the same, its weights rounded anew by what the layers answer; "
            "qat: int8, trained a little longer with the rounding; mixed: int16 "
            "activations, int8 weights; ai-edge: ai-edge-quantizer; float: float32, to compare with."
        ),
    ] = "ptq",
    out: FileOut = None,
    cache: Cache = None,
    calibration: Annotated[
        int, typer.Option(min=1, help="Training cells of each class of each source that set the ranges.")
    ] = 12,
    pictures: Annotated[int, typer.Option(min=1, help="rounded: how many of those cells the rounding looks at.")] = 256,
    equalise: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Bring channels to one width first: 0 not at all, 1 wholly.")
    ] = 0.0,
    steps: Annotated[int, typer.Option(min=1, help="qat: batches.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="qat: crops per batch.")] = 32,
    rate: Annotated[float, typer.Option(min=0.0, help="qat: peak of the learning rate.")] = 1e-4,
    python: Annotated[
        Path | None,
        typer.Option(help="qat: interpreter that has tf-keras and tensorflow-model-optimization.", metavar="FILE"),
    ] = None,
) -> None:
    """Quantize a run's network to TFLite, and print the file."""
    require_extra("quantize")
    from quantization.aware import Schedule
    from quantization.methods import Options, quantize
    from training.checkpoint import finished_config
    from training.make_student import load_cells

    show_progress()
    cells = load_cells(data, finished_config(run), run, cache)
    options = Options(calibration, pictures, equalise, Schedule(steps, batch, rate), python)
    output.answer(str(quantize(cells, run, method, out, options)))


@app.command()
def errors(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    network: Annotated[
        Path | None, typer.Option(help="The quantized file (default: RUN/student-int8.tflite).", metavar="FILE")
    ] = None,
    cache: Cache = None,
    cells: Annotated[int, typer.Option(min=1, help="Validation cells to compare on.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="How many layers to print.")] = 10,
    every: Annotated[bool, typer.Option("--all", help="Print every layer, in the order of the run.")] = False,
) -> None:
    """Name the layers at which a quantized network loses most against float32, the worst first."""
    require_extra("quantize")
    import numpy as np

    from quantization import layers as reports
    from quantization.methods import QUANTIZED_FILE, float_file
    from training.checkpoint import finished_config
    from training.make_student import load_cells
    from training.validation import validation_sets

    show_progress()
    config = finished_config(run)
    path = network or run / QUANTIZED_FILE
    require_network(path)
    sets = validation_sets(load_cells(data, config, run, cache), config)
    inputs = np.concatenate([item.inputs[: -(-cells // len(sets))] for item in sets])[:cells]
    rows = reports.compare(float_file(run).read_bytes(), path.read_bytes(), inputs)
    output.answer(reports.table(rows if every else reports.worst(rows, layers)))


@app.command()
def parity(  # noqa: PLR0917  # options, given by name
    folder: Annotated[Path, typer.Argument(help="Folder of a run, or of a bundle.", metavar="RUN|BUNDLE")],
    data: Data,
    reference: Annotated[
        Path | None,
        typer.Option(help="Run whose Keras network is the reference; a bundle needs it.", metavar="RUN"),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="A further file, on a runtime of the device.", metavar="RUNTIME:FILE")
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(help="Run each .tflite also by this interpreter, which has tflite-runtime.", metavar="FILE"),
    ] = None,
    split: Annotated[
        Split, typer.Option(help="validation, or held-out: what neither trained nor chose anything.")
    ] = "validation",
    second_look: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Look again at cells whose best class is less probable; 0: never (default: as the device does).",
        ),
    ] = None,
    cache: Cache = None,
    time: Annotated[bool, typer.Option(help="Also size and time of one crop, by turns in this process.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Compare every variant of a network with the network itself, per source; status 3 when one breaks a rule."""
    require_extra("quantize")
    from dataclasses import asdict, replace

    from quantization import gate, latency, variants
    from training import fit
    from training.make_student import load_cells
    from training.validation import held_out_sets, validation_sets

    show_progress()
    run = reference or folder
    model, config = fit.load(run)
    found = variants.all_of(folder, variant or (), python)
    cells = load_cells(data, config, run, cache)
    sets = (validation_sets if split == "validation" else held_out_sets)(cells, config)
    again = variants.second_look(folder)
    if second_look is not None:
        again = replace(again, below=second_look)
    compared = gate.measure(variants.of_keras(model), found, sets, again)
    times = latency.measure(found, sets[0].inputs[:16]) if time else []
    faulty = bool(gate.faults(compared.rows))
    if as_json:
        answer = {"split": split, **asdict(compared), "times": [asdict(row) for row in times], "kept": not faulty}
        output.answer_json(answer)
    else:
        output.answer("\n\n".join([compared.table(), *([latency.table(times)] if times else []), gate.RULES]))
    if faulty:
        raise typer.Exit(3)


@app.command()
def pack(  # noqa: PLR0917  # options, given by name
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the bundle.", metavar="DIR")],
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "wbc-student",
    version: Annotated[str, typer.Option(help="Version of the bundle, as 1.2.3.")] = "0.1.0",
    commit: Annotated[
        str | None, typer.Option(help="Commit of the code that trained it (default: this checkout's).")
    ] = None,
    network: Annotated[
        Path | None, typer.Option(help="The quantized file (default: RUN/student-int8.tflite).", metavar="FILE")
    ] = None,
    cache: Cache = None,
    despite_parity: Annotated[
        bool, typer.Option("--despite-parity", help="Pack what breaks a rule, and state it in the bundle's limits.")
    ] = False,
) -> None:
    """Calibrate, evaluate and pack a run's quantized student as a bundle, and print its figures.

    Refused when the quantized network breaks a rule of `leuko quantize parity` on the validation cells.
    """
    require_extra("quantize")
    from training.make_student import FIGURES_FILE, pack_bundle

    show_progress()
    manifest = pack_bundle(data, run, out, name, version, commit, cache, network, despite_parity)
    output.answer((run / FIGURES_FILE).read_text(encoding="utf-8"))
    output.note(f"{manifest.identity} is in {out}")


def require_network(path: Path) -> None:
    """Raise InputError `not-quantized` when there is no such file."""
    from edge.core.errors import InputError

    if not path.is_file():
        raise InputError("not-quantized", f"There is no {path}.", "Run `leuko quantize tflite` first.")
