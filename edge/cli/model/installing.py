"""`leuko model trust|install|activate|rollback`: signed bundles on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output


def trust(
    root: Annotated[Path, typer.Argument(help="The file N.root.json of those who release.", metavar="ROOT")],
    sha256: Annotated[str, typer.Option(help="Refuse a file with another SHA-256.", metavar="HEX")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Trust this root instead of the present one.")] = False,
) -> None:
    """Trust the releases that this root leads to. Done once, when the device is set up."""
    from edge import app, config

    slots = app.model_slots(config.load())
    with slots.locked():
        pinned = slots.trust.pin(root, sha256, replace=replace)
    output.answer(f"root {pinned.version}  sha256 {pinned.sha256}")
    output.note(
        f"This device trusts it from now on. {pinned.threshold} of {len(pinned.keys)} keys must sign its successor; "
        f"it expires on {pinned.expires:%Y-%m-%d}."
    )
    if not sha256:
        output.note("Compare the SHA-256 above with the one that you were told on another way than the file.")


def install(  # options, given by name
    source: Annotated[
        str, typer.Argument(help="Folder of a repository of releases, or its http(s) URL.", metavar="PATH|URL")
    ],
    bundle: Annotated[
        str, typer.Option(help="NAME or NAME@VERSION; left out: the newest of the bundle in use.", metavar="NAME")
    ] = "",
    deadline: Annotated[float, typer.Option(min=1, help="Seconds that a download may take.")] = 900.0,
    then_activate: Annotated[bool, typer.Option("--activate", help="Activate it as well.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Install a signed bundle: verified, and proven on this device. It is used after `leuko model activate`."""
    from edge import app, config
    from edge.bundle import install as installation
    from edge.bundle import manifest, update
    from edge.inference import trial

    settings = config.load()
    slots = app.model_slots(settings)
    name, _, version = bundle.partition("@")
    if not name:
        name = manifest.load(slots.in_use().folder).name
    wanted = update.Wanted(name, version, app.device_class(settings))
    with slots.locked():
        record = installation.install(slots, source, wanted, trial.prove, deadline=deadline)
        state = slots.load()
        if then_activate and state.staged is not None:
            state = slots.activate(trial.prove)
    staged, active = state.record(state.staged), state.record(state.active)
    if json:
        output.answer_json(
            {
                "installed": None if record is None else record.bundle,
                "sha256": None if record is None else record.manifest_sha256,
                "staged": None if staged is None else staged.bundle,
                "active": None if active is None else active.bundle,
            }
        )
        return
    if record is None:
        output.note("Nothing newer is released for this device.")
    else:
        output.answer(f"{record.bundle}  sha256 {record.manifest_sha256}")
    if staged is not None:
        output.note(f"{staged.bundle} is installed; `leuko model activate` takes it into use.")
    elif record is not None and active is not None:
        output.note(f"{active.bundle} is active, on probation for {state.probation} analyses.")


def activate(
    probation: Annotated[
        int, typer.Option(min=1, max=1000, help="Analyses without a failure after which the new bundle is believed.")
    ] = 10,
    insist: Annotated[bool, typer.Option("--insist", help="Go on after three failures in a row.")] = False,
    beyond: Annotated[
        str,
        typer.Option(
            "--beyond-envelope",
            help="Why a change is right that the bundle in use does not allow; it is kept.",
            metavar="REASON",
        ),
    ] = "",
) -> None:
    """Prove the installed bundle once more, then use it from now on."""
    from edge import app, config
    from edge.inference import trial

    settings = config.load()
    slots = app.model_slots(settings)
    with slots.locked():
        state = slots.activate(trial.prove, probation=probation, insist=insist, beyond=beyond)
    output.answer(state.name(state.active))
    if settings.bundle:
        output.note(f"The configuration names {settings.bundle}, which is used instead as long as it does.")
    output.note(
        f"It is on probation for {state.probation} analyses; {state.name(state.previous)} is kept for that time."
    )


def rollback(
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "by hand",
    to_package: Annotated[
        bool, typer.Option("--to-package", help="Back to the bundle that comes with the package.")
    ] = False,
) -> None:
    """Use the previous bundle again. The one that is left stays installed and can be activated again."""
    from edge import app, config

    slots = app.model_slots(config.load())
    with slots.locked():
        state = slots.rollback(reason, to_package=to_package)
    output.answer(state.name(state.active))
