"""`leuko bench`: how fast is this device, against a reference file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.health.bench import Speed


def bench(
    fields: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated fields of 1440x900 to time.")] = 20,
    cells: Annotated[float, typer.Option(min=0.5, max=50, help="White cells in a field, on average.")] = 3.0,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Threads of the network.")] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help='JSON file of limits, for example {"milliseconds_per_field": 60}; else the profile\'s.'),
    ] = None,
    *,
    judge: Annotated[bool, typer.Option("--judge/--no-judge", help="Hold the figures against the reference.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Time the way of a cell, stage by stage, on simulated fields.

    Exit code 3 when the device falls short of the reference file of its profile, or was throttled.
    """
    import msgspec

    from edge import app, config
    from edge.health import bench as measurement
    from edge.health import device

    settings = config.load()
    profile = device.chosen(settings).profile
    path = reference if reference is not None else device.reference(profile)
    limits = measurement.read_reference(path) if judge else None
    if threads is not None:
        settings = msgspec.structs.replace(settings, threads=threads)
    camera = app.open_camera("simulated", f"simulated:seed=7,fields={fields + 1},cells={cells:g}")
    with app.open_classifier(settings) as classifier, camera:
        watch = measurement.Watch(lambda: device.sensors(profile))
        speed = measurement.measure(camera.frames(), classifier, lambda done: output.progress(done, "fields"), watch)
    output.progress_end()
    if json:
        output.answer_json(_document(speed, measurement.shortfalls(speed, limits) if limits is not None else None))
    else:
        output.answer(_text(speed))
        if limits is not None:
            output.answer(f"held against {path.name}: {limits.basis or 'limits of your own'}")
    if limits is not None:
        measurement.require(speed, limits)


def _document(speed: Speed, shortfalls: tuple[str, ...] | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(speed), "shortfalls": None if shortfalls is None else list(shortfalls)}


def _text(speed: Speed) -> str:
    machine = speed.machine
    rows = [["", "elapsed", "processor"]]
    rows.append(["field", f"{speed.milliseconds_per_field:.2f} ms", f"{sum(speed.stages_processor.values()):.2f} ms"])
    rows += [
        [f"  {stage}", f"{milliseconds:.2f} ms", f"{speed.stages_processor[stage]:.2f} ms"]
        for stage, milliseconds in speed.stages.items()
    ]
    if speed.milliseconds_per_cell is not None:
        rows.append(["cell (crop, classify)", f"{speed.milliseconds_per_cell:.2f} ms", ""])
    if speed.milliseconds_per_field_p95 is not None:
        rows.append(["field, 95 of 100 below", f"{speed.milliseconds_per_field_p95:.2f} ms", ""])
    rows.append(["fields per second", f"{speed.fields_per_second:.1f}", ""])
    if speed.cells_per_second is not None:
        rows.append(["cells per second", f"{speed.cells_per_second:.1f}", ""])
    if speed.resident_megabytes is not None and speed.peak_megabytes is not None:
        rows.append(["resident memory", f"{speed.resident_megabytes:.0f} MB", ""])
        rows.append(["  at its highest", f"{speed.peak_megabytes:.0f} MB", ""])
    if speed.celsius_highest is not None:
        rows.append(["hottest", f"{speed.celsius_highest:.0f} °C", ""])
    said = {None: "not reported", False: "no", True: f"yes ({speed.throttle_bits or 0:#x})"}[speed.throttled]
    rows.append(["throttled during the run", said, ""])
    if speed.power_mode is not None:
        rows.append(["power mode", speed.power_mode, ""])
    lines = [
        f"{machine.model}, {machine.processor}, {machine.cores} cores, {machine.architecture}",
        f"{machine.system}, Python {machine.python}",
        f"{speed.bundle} on {speed.runtime} {speed.runtime.version}, threads: {speed.runtime.threads}",
        f"medians of {speed.fields} simulated fields with {speed.cells} cells",
        "",
        output.table(rows, right=(1, 2)),
    ]
    return "\n".join(lines)
