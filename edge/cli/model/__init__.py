"""`leuko model`: the bundles of this device, and on a workstation the releases that devices install."""

from __future__ import annotations

import typer

from edge.cli.model import bundles, installing, release

app = typer.Typer(
    help="Model bundles: list, show, verify; trust, install, activate, rollback; release.", no_args_is_help=True
)
app.command("list")(bundles.list_bundles)
app.command()(bundles.show)
app.command()(bundles.verify)
app.command()(bundles.schema)
app.command()(installing.trust)
app.command()(installing.install)
app.command()(installing.activate)
app.command()(installing.rollback)
app.add_typer(release.app, name="release")
