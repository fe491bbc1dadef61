"""`leuko camera`: which cameras are here, and whether one is fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.health.camera import CameraTrial

app = typer.Typer(help="Cameras: list them, test one.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_cameras(json: Json = False) -> None:
    """List the cameras of this machine, and what hinders those kinds that cannot be used."""
    from dataclasses import asdict

    from edge import app as composition

    found = list(composition.cameras())
    if json:
        output.answer_json([asdict(each) for each in found])
        return
    rows = []
    for each in found:
        rows.append([each.specification, "yes" if each.usable else "no", each.evidence])
        if each.cure:
            rows.append(["", "", each.cure])
    output.answer(output.table(rows))


@app.command()
def test(
    name: Annotated[
        str, typer.Argument(help="A camera as `leuko camera list` names it; that of the profile if none.")
    ] = "",
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="Frames to take.")] = 30,
    out: Annotated[Path | None, typer.Option(help="Write the last frame to this file (PNG).")] = None,
    json: Json = False,
) -> None:
    """Open a camera, take frames, and say what it delivers and what went wrong.

    Exit code 0 when every frame was good, 1 when some were not, 3 when the camera cannot be used.
    """
    from edge import app as composition
    from edge import config
    from edge.health import camera as examination

    settings = config.load()
    trial = examination.examine(composition.camera(name, settings), frames)
    if out is not None:
        _write(out, trial)
    if json:
        output.answer_json(_document(trial))
    else:
        output.answer(_text(trial))
    if trial.faults:
        raise typer.Exit(1)


def _write(path: Path, trial: CameraTrial) -> None:
    import cv2

    from edge.core import durable

    _, data = cv2.imencode(".png", trial.last.image)
    durable.write_bytes(path, data.tobytes())
    output.note(f"wrote {path}")


def _document(trial: CameraTrial) -> dict[str, Any]:
    from dataclasses import asdict, fields

    document = {each.name: getattr(trial, each.name) for each in fields(trial) if each.name != "last"}
    return {
        **document,
        "frozen": dict(trial.frozen),
        "quality": asdict(trial.quality),
        "faults": [asdict(fault) for fault in trial.faults],
    }


def _text(trial: CameraTrial) -> str:
    rate, exposure, quality = trial.frames_per_second, trial.exposure_milliseconds, trial.quality
    rows = [
        ["picture", f"{trial.width}x{trial.height}{', with a preview' if trial.preview else ''}"],
        ["frames", f"{trial.frames} good, {len(trial.faults)} bad, {trial.dropped} dropped"],
        ["opened", f"in {trial.opening_seconds:.1f} s, {trial.reopened} times again"],
        ["frames per second", "-" if rate is None else f"{rate:.1f}{_slow(rate)}"],
        ["exposure", "-" if exposure is None else f"{exposure:.1f} ms"],
        ["frozen", ", ".join(f"{key} {value}" for key, value in trial.frozen.items()) or "nothing"],
        ["quality", "accepted" if quality.accepted else ", ".join(quality.reasons)],
        ["focus", "-" if quality.focus is None else f"{quality.focus:.2f}"],
    ]
    rows += [["fault", f"{fault.source}: {fault.code}: {fault.message}"] for fault in trial.faults[:10]]
    return output.table(rows)


def _slow(rate: float) -> str:
    from edge.health.camera import SLOW_FRAMES_PER_SECOND

    return ", too slow to focus by" if rate < SLOW_FRAMES_PER_SECOND else ""
