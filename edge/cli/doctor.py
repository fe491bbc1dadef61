"""`leuko doctor`: is this device fit."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli import output


def doctor(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Check what a result rests on: system, packages, model, clock, disk, database, sync, camera, supply.

    Exit code 0 when all is well, 1 when there are warnings, 3 when something failed.
    """
    from dataclasses import asdict
    from pathlib import Path

    from edge import app as composition
    from edge import config
    from edge.health import device
    from edge.health import doctor as examination
    from edge.health.check import EXIT_CODES, worst

    settings = config.load()
    bundle = Path(settings.bundle).expanduser() if settings.bundle else None
    slots = composition.model_slots(settings)
    if bundle is None and (slot := slots.active_slot()) is not None:
        bundle = slots.place(slot).folder
    checks = []
    profile = device.chosen(settings).profile
    for check in examination.examine(
        bundle, settings.data_path, settings.database_path, profile=profile, models=settings.models_path
    ):
        checks.append(check)
        if not json:
            output.answer(f"{check.verdict:4}  {check.id:18}  {check.evidence}")
            if check.verdict != "ok":
                output.answer(f"{'':26}{check.cure}")
                if check.command:
                    output.answer(f"{'':26}$ {check.command}")
    verdict = worst(checks)
    if json:
        output.answer_json({"verdict": verdict, "checks": [asdict(check) for check in checks]})
    else:
        words = {
            "ok": "This device is fit.",
            "warn": "This device is fit, with warnings.",
            "fail": "This device is not fit.",
        }
        output.answer(f"\n{words[verdict]}")
    if code := EXIT_CODES[verdict]:
        raise typer.Exit(code)
