"""`leuko train gan`: cells of a class that has few, drawn by a network; what they are worth; and whether they help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output
from edge.cli.train.common import Data, Out, Seed, require_extra, show_progress

app = typer.Typer(help="Generate cells of rare classes, and measure whether they help.", no_args_is_help=True)


@app.command()
def fit(  # noqa: PLR0917  # options, given by name
    data: Data,
    out: Out,
    source: Annotated[
        list[str] | None, typer.Option(help="Learn from this source alone; may be repeated.", metavar="SOURCE")
    ] = None,
    scarce: Annotated[str, typer.Option(help="A class to make rare on purpose, with --keep.", metavar="CLASS")] = "",
    keep: Annotated[int, typer.Option(min=0, help="How many cells of the --scarce class are learnt from.")] = 0,
    size: Annotated[int, typer.Option(min=32, help="Network size whose cached crops are learnt from.")] = 64,
    resolution: Annotated[int, typer.Option(help="Pixels a side of the generated pictures.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Batches in all.")] = 4000,
    batch: Annotated[int, typer.Option(min=2)] = 32,
    seed: Seed = 0,
) -> None:
    """Train a class-conditional generator on the training fold, and print the file of its weights."""
    require_extra("train")
    from training.gan import data as gan_data
    from training.gan import fit as gan_fit
    from training.gan.config import GanConfig
    from training.make_student import load_cells

    show_progress()
    config = GanConfig(
        size=size,
        resolution=resolution,
        sources=tuple(source or ()),
        scarce=scarce,
        kept=keep,
        steps=steps,
        batch=batch,
        seed=seed,
    )
    cells = gan_data.parents(load_cells(data, config.crops, out), config)
    output.answer(str(gan_fit.fit(cells, config, out)))


Weights = Annotated[
    Path | None,
    typer.Option(help="ImageNet weights of MobileNetV2 0.35 (.npz); Keras downloads its own without.", metavar="FILE"),
]
GenerativeRun = Annotated[Path, typer.Argument(help="Folder of a finished `leuko train gan fit`.", metavar="RUN")]


@app.command()
def sample(  # noqa: PLR0917  # options, given by name
    run: GenerativeRun,
    out: Annotated[Path, typer.Option(help="File of the generated cells (.npz).", metavar="FILE")],
    label: Annotated[list[str], typer.Option("--class", help="Class to draw; may be repeated.", metavar="CLASS")],
    count: Annotated[int, typer.Option(min=1, help="How many cells of each class.")] = 500,
    size: Annotated[int, typer.Option(min=32, help="Network size that the crops are for.")] = 64,
    seed: Seed = 0,
) -> None:
    """Draw cells for `leuko train fit --generated FILE`, and print the file."""
    require_extra("train")
    from training.gan import generated

    output.answer(str(generated.sample(run, label, count, size, seed, out)))


@app.command()
def report(  # noqa: PLR0917  # options, given by name
    run: GenerativeRun,
    data: Data,
    weights: Weights = None,
    count: Annotated[int, typer.Option(min=4, help="How many cells of each class are judged.")] = 150,
    seed: Seed = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Measure a generator: distances to real cells, copies of training cells; writes a report and contact sheets."""
    require_extra("train")
    from training.gan import report as gan_report
    from training.gan.config import GanConfig
    from training.gan.fit import CONFIG
    from training.make_student import load_cells

    show_progress()
    config = GanConfig.load(run / CONFIG)
    document = gan_report.report(load_cells(data, config.crops, run), run, weights, count, seed)
    if json:
        output.answer_json(document)
    else:
        output.answer(gan_report.markdown(document))


@app.command()
def ablation(  # noqa: PLR0917  # options, given by name
    run: GenerativeRun,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the results; trained students are not trained again.")],
    generated: Annotated[
        Path | None,
        typer.Option(
            help="Cells that `leuko train gan sample` wrote; without, the arms that need none.", metavar="FILE"
        ),
    ] = None,
    weights: Weights = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many students of each kind.")] = 3,
    steps: Annotated[int, typer.Option(min=6, help="Batches per student.")] = 300,
    batch: Annotated[int, typer.Option(min=2)] = 32,
    generated_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="Of the rare class's cells.")] = 0.5,
) -> None:
    """Train the same student with and without generated cells of the class that RUN made rare, and compare."""
    require_extra("train")
    from training.config import RunConfig
    from training.gan import ablation as gan_ablation
    from training.gan.config import GanConfig
    from training.gan.fit import CONFIG
    from training.make_student import load_cells

    show_progress()
    made = GanConfig.load(run / CONFIG)
    # Six epochs, of which the first warms up.
    config = RunConfig(
        size=made.size,
        last=128,
        epochs=6,
        steps=max(1, steps // 6),
        batch=batch,
        rendered_share=0.0,
        generated_share=generated_share,
    )
    cells = load_cells(data, made.crops, run)
    outcomes = gan_ablation.run(cells, run, generated, weights, out, range(seeds), config)
    output.answer(gan_ablation.table(outcomes, made))
