"""`leuko device`: what this device is, how it fares, and which runtime it will use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.config import Config
    from edge.core.device import Profile, SensorReading

app = typer.Typer(help="This device: its profile, its sensors, its runtime, its well-being.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Name of a profile; the one in use when left out.")] = None,
    json: Json = False,
) -> None:
    """Show a profile; for the one in use also the sensors, and which runtime is used and why not the others."""
    from edge import config
    from edge.health import device

    settings = config.load()
    chosen = device.Chosen(device.load(name), "") if name else device.chosen(settings)
    document: dict[str, Any] = {"profile": _profile(chosen.profile), "reason": chosen.reason or None}
    if name is None:
        document["sensors"] = _sensors(device.sensors(chosen.profile))
        document["runtime"] = _runtime(settings)
    document["profiles"] = list(device.profiles())
    if json:
        output.answer_json(document)
    else:
        output.answer(_text(document))


@app.command()
def detect(json: Json = False) -> None:
    """Say which profile fits this machine, and how that was found out. Changes nothing."""
    from edge.health import device

    found = device.detect()
    if json:
        output.answer_json({"profile": found.profile.name, "title": found.profile.title, "reason": found.reason})
    else:
        output.answer(f"{found.profile.name}  ({found.profile.title})\n{found.reason}")


@app.command()
def select(
    name: Annotated[str, typer.Argument(help="Name of a profile, see `leuko device show`; or: detected.")],
) -> None:
    """Use a profile from now on; "detected" chooses the one that fits this machine."""
    from edge import config
    from edge.health import device

    settings = config.load()
    path = device.select(settings, device.detect().profile.name if name == "detected" else name)
    output.answer(f"{device.chosen(settings).profile.name} is selected ({path}).")
    if settings.profile:
        output.note(f"The configuration names {settings.profile}, which stands over the selection.")


@app.command()
def watch(
    seconds: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two looks.")] = 10.0,
    rounds: Annotated[int | None, typer.Option(min=1, help="Number of looks; without it, until it is stopped.")] = None,
    *,
    json: Json = False,
) -> None:
    """Look after this device: temperature, supply, disk. Prints what changes, and keeps systemd's watchdog told."""
    from edge import app as composition
    from edge import config
    from edge.core import clock
    from edge.health.vigil import keep
    from edge.health.watchdog import Watchdog

    settings = config.load()
    guard = composition.thermal_guard(settings)
    for found in keep(guard, settings.data_path, Watchdog(), seconds=seconds, rounds=rounds):
        if json:
            told = {"action": found.advice.action, "trouble": list(found.trouble), "sensors": _sensors(found.reading)}
            output.answer_json({"at": clock.read().wall, **told, "free_bytes": found.free})
        else:
            output.answer(str(found))


def _profile(profile: Profile) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(profile), "runtimes": ["-".join(each) for each in profile.runtimes]}


def _sensors(reading: SensorReading) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(reading), "now": list(reading.now), "since_boot": list(reading.since_boot)}


def _runtime(settings: Config) -> dict[str, Any]:
    from edge import app as composition
    from edge.bundle import manifest
    from edge.core.errors import LeukoError
    from edge.health import device

    try:
        folder = composition.bundle_folder(settings)
        bundle = manifest.load(folder)
        choice = device.negotiate(settings, bundle, folder, warn=False)
    except LeukoError as error:
        return {"error": {"code": error.code, "message": error.message, "cure": error.cure}}
    return {
        "bundle": bundle.identity,
        "used": f"{choice.variant.runtime}-{choice.variant.precision}",
        "threads": device.threads(settings),
        "refused": [str(refusal) for refusal in choice.refused],
    }


def _text(document: dict[str, Any]) -> str:
    profile = document["profile"]
    thermal = profile["thermal"]
    rows = [
        ["profile", f"{profile['name']} ({profile['title']})"],
        ["camera", profile["camera"]],
        ["runtimes", ", ".join(profile["runtimes"])],
        ["threads, batch", f"{profile['threads']}, {profile['batch']}"],
        ["slow, stop", f"{thermal['slow']:g} °C, {thermal['stop']:g} °C"],
    ]
    if document["reason"]:
        rows.insert(1, ["chosen", document["reason"]])
    if profile["notes"]:
        rows.append(["note", profile["notes"]])
    if (sensors := document.get("sensors")) is not None:
        hot = "no sensor" if sensors["celsius"] is None else f"{sensors['celsius']:.1f} °C ({sensors['sensor']})"
        bits = sensors["throttle_bits"]
        rows.append(["temperature", hot])
        rows.append(["throttling", "not reported" if bits is None else f"{_throttling(sensors)} ({bits:#x})"])
        rows.append(["power mode", sensors["power_mode"] or "not reported"])
        if sensors["watts"] is not None:
            rows.append(["power", f"{sensors['watts']:.1f} W"])
    if (runtime := document.get("runtime")) is not None:
        if "error" in runtime:
            rows.append(["runtime", f"none: {runtime['error']['message']}"])
        else:
            rows.append(["runtime", f"{runtime['used']} for {runtime['bundle']}, threads: {runtime['threads']}"])
            rows += [["  refused", refusal] for refusal in runtime["refused"]]
    rows.append(["profiles", ", ".join(document["profiles"])])
    return output.table(rows)


def _throttling(sensors: dict[str, Any]) -> str:
    if sensors["now"]:
        return "now: " + ", ".join(sensors["now"])
    if sensors["since_boot"]:
        return "since boot: " + ", ".join(sensors["since_boot"])
    return "none since boot"
