"""`leuko calibrate`: commissioning records of a microscope, and how far it has drifted from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.calibration.commission import Made
    from edge.calibration.drift import Judged
    from edge.calibration.records import Calibration

app = typer.Typer(help="Commission a microscope; see how it drifts.", no_args_is_help=True)

_Camera = Annotated[str, typer.Option(help="Camera: simulated:cells=0,crowding=0, replay:FOLDER, ...")]
_Fields = Annotated[int, typer.Option(help="Fields to take.", min=1, max=200)]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("flat-field")
def flat_field(camera: _Camera, fields: _Fields = 8, json: _Json = False) -> None:
    """The light over the field, and its colour, from blank fields."""
    from edge.calibration import wiring

    _answer(wiring.light(camera, fields, surface=True), json)


@app.command("white-balance")
def white_balance(camera: _Camera, fields: _Fields = 4, json: _Json = False) -> None:
    """The colour of the blank slide alone, from blank fields."""
    from edge.calibration import wiring

    _answer(wiring.light(camera, fields, surface=False), json)


@app.command()
def focus(camera: _Camera, fields: _Fields = 20, json: _Json = False) -> None:
    """The sharpness of best focus: turn the focus slowly through the cells while the fields are taken."""
    from edge.calibration import wiring

    _answer(wiring.focus(camera, fields), json)


@app.command()
def scale(
    camera: _Camera,
    division: Annotated[float | None, typer.Option(help="Micrometres between two lines of a stage micrometer.")] = None,
    red_cells: Annotated[bool, typer.Option("--red-cells", help="From red cells, for want of one.")] = False,
    fields: _Fields = 4,
    json: _Json = False,
) -> None:
    """Micrometres per pixel, from a stage micrometer or from red cells."""
    from edge.calibration import wiring
    from edge.core.errors import UsageError

    if (division is None) == (not red_cells) or (division is not None and division <= 0):
        raise UsageError(
            "bad-scale", "Say what the scale is taken from.", "Give --division MICROMETRES or --red-cells."
        )
    _answer(wiring.scale(camera, fields, division), json)


@app.command()
def show(camera: Annotated[str, typer.Option(help="Of this camera alone.")] = "", json: _Json = False) -> None:
    """The records, oldest first; the last one of a camera is in force."""
    from edge.calibration import wiring

    found = wiring.records(camera)
    if json:
        output.answer_json([_document(each) for each in found])
    elif found:
        for each in found:
            output.answer(_text(each))
    else:
        output.note("Nothing was calibrated here.")


@app.command()
def drift(camera: Annotated[str, typer.Option(help="Of this camera alone.")] = "", json: _Json = False) -> None:
    """Light, colour, focus, stain, abstention and class mix of every result against the record; exit 1 if flagged."""
    from edge.calibration import wiring

    judged = wiring.drift(camera)
    if json:
        output.answer_json(
            [
                {
                    "result": each.point.result,
                    "wall": each.point.wall,
                    "off": {name: round(value, 4) for name, value in each.off.items()},
                    "flags": list(each.flags),
                }
                for each in judged
            ]
        )
    elif judged:
        output.answer(_chart(judged))
    else:
        output.note("There are no results yet.")
    if judged and judged[-1].flags:
        raise typer.Exit(1)


def _chart(judged: tuple[Judged, ...]) -> str:
    """One line a result, one column a figure: how far it is off, in units of its limit; "!" beyond it."""
    from edge.calibration.drift import LIMITS

    rows = [["result", "when", *LIMITS]]
    for each in judged:
        cells = []
        for name, limit in LIMITS.items():
            value = each.off.get(name)
            cells.append("" if value is None else f"{_mark(value / limit)} {100 * value:+.0f} %")
        rows.append([each.point.result[-8:], each.point.wall[:16], *cells])
    flags = sorted({flag for each in judged[-1:] for flag in each.flags})
    verdict = "flagged: " + ", ".join(flags) if flags else "within limits"
    return output.table(rows) + f"\n\nthe latest result is {verdict}"


def _mark(share: float) -> str:
    """Nine places, the middle one for no drift, the outermost for the limit, "!" beyond."""
    if abs(share) > 1:
        return "!...|...." if share < 0 else "....|...!"
    place = 4 + round(4 * share)
    return "".join("o" if index == place else ("|" if index == 4 else ".") for index in range(9))


def _answer(made: Made, json: bool) -> None:
    for source, reason in made.refused:
        output.note(f"{source}: {reason}")
    record = made.record
    if json:
        document = _document(record)
        if made.sharpness:
            document["sharpness"] = [{"file": source, "focus": value} for source, value in made.sharpness]
        output.answer_json(document)
    else:
        for source, value in made.sharpness:
            output.answer(f"{source}: {'-' if value is None else f'{value:.3f}'}")
        output.answer(_text(record))
    raise typer.Exit(1 if made.refused else 0)


def _document(record: Calibration) -> dict[str, Any]:
    surface = record.surface
    return {
        "id": record.id,
        "parent": record.parent,
        "camera": record.camera,
        "kind": record.kind,
        "operator": record.operator,
        "made": record.made.wall,
        "fields": record.fields,
        "surface": None if surface is None else [surface.width, surface.height],
        "background": record.background,
        "exposure": record.exposure,
        "falloff": record.falloff,
        "gains": record.gains,
        "focus": record.focus,
        "stain": record.stain,
        "micrometres_per_pixel": record.micrometres_per_pixel,
    }


def _text(record: Calibration) -> str:
    parts = [f"{record.id} {record.kind} of {record.camera}, {record.made.wall[:16]}, {record.fields} fields"]
    if record.background is not None:
        blue, green, red = record.background
        parts.append(f"  blank slide: red {red:.0f}, green {green:.0f}, blue {blue:.0f}")
    if record.gains is not None:
        parts.append(f"  white balance: red x {record.gains[2]:.3f}, blue x {record.gains[0]:.3f}")
    if record.falloff is not None:
        parts.append(f"  light lost at the darkest place: {100 * record.falloff:.1f} %")
    if record.focus is not None:
        parts.append(f"  best focus: {record.focus:.3f}")
    if record.micrometres_per_pixel is not None:
        parts.append(f"  scale: {record.micrometres_per_pixel:.4f} micrometres a pixel")
    return "\n".join(parts)
