"""`leuko train`: make models. Needs the `train` extra; a device does not have it. One module per command."""

from __future__ import annotations

import typer

from edge.cli.train import adapt, data, evaluate, explain, fit, gan, peer, search
from edge.cli.train.options import GroupedCommand

app = typer.Typer(help="Train models (needs the extra `train`).", no_args_is_help=True)
app.command()(data.data)
app.command(cls=GroupedCommand)(fit.fit)
app.command(cls=GroupedCommand)(fit.distill)
app.command(cls=GroupedCommand)(search.search)
app.command(cls=GroupedCommand)(search.crossval)
app.command()(peer.peer)
app.command()(evaluate.evaluate)
app.command()(explain.explain)
app.command()(adapt.adapt)
app.add_typer(gan.app, name="gan")
