"""`leuko train`: make models. Needs the `train` extra; a device does not have it. One module per command."""

from __future__ import annotations

import typer

from edge.cli.train import fit, gan

app = typer.Typer(help="Train models (needs the extra `train`).", no_args_is_help=True)
app.command()(fit.fit)
app.add_typer(gan.app, name="gan")
