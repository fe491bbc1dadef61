"""The command `leuko`: one module per noun, each parses, calls one function and prints."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge import __version__
from edge.cli import (
    analyze,
    bench,
    calibrate,
    camera,
    classify,
    control,
    demo,
    device,
    doctor,
    export,
    hub,
    model,
    output,
    quantize,
    report,
    review,
    serve,
    session,
    store,
    sync,
    train,
)
from edge.core.errors import LeukoError

if TYPE_CHECKING:
    from types import FrameType

app = typer.Typer(
    name="leuko",
    help="Offline white-blood-cell differential counter. For research use only: decision support, not a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: the other kind takes as long to import as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(analyze.analyze)
app.command()(classify.classify)
app.command()(report.report)
app.add_typer(review.app, name="review")
app.command()(export.export)
app.command()(serve.serve)
app.add_typer(control.app, name="control")
app.command()(doctor.doctor)
app.command()(bench.bench)
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(session.app, name="session")
app.add_typer(model.app, name="model")
app.add_typer(device.app, name="device")
app.add_typer(camera.app, name="camera")
app.add_typer(train.app, name="train")
app.add_typer(quantize.app, name="quantize")
app.add_typer(sync.app, name="sync")
app.add_typer(store.app, name="store")
app.add_typer(hub.app, name="hub")


def _show_version(wanted: bool) -> None:
    if wanted:
        output.answer(f"leuko {__version__}")
        raise typer.Exit


@app.callback()
def settings(
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).", metavar="FILE")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if config is not None:
        # By way of the environment, so that a child process reads the same configuration.
        os.environ["LEUKO_CONFIG"] = str(config)


class _InterruptedError(BaseException):
    """Ctrl-C. An exception of our own: what the command line library makes of KeyboardInterrupt differs by version."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise _InterruptedError


def main() -> None:
    """Run the command line. Errors of ours become one message with its cure, and the exit code of their kind."""
    # A background job of a shell ignores Ctrl-C, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except LeukoError as problem:
        output.error(problem)
        sys.exit(problem.exit_code)
    except _InterruptedError:
        output.progress_end()
        output.note("Interrupted. What was reported as saved is kept; run the command again for the rest.")
        sys.exit(130)
