"""`leuko sync`: results to a hub, a FHIR server, an HL7 receiver, a folder; and back what was signed at a hub."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.config import Config
    from edge.sync.messages import ReleaseOutcome

app = typer.Typer(no_args_is_help=True, help="Send results to where they are needed, and fetch what was signed there.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Names = Annotated[list[str] | None, typer.Argument(help="Destinations; without one, all.", show_default=False)]


class Side(str, Enum):
    """Whose contents are kept."""

    device = "device"
    hub = "hub"


def _settings() -> Config:
    from edge import app as application
    from edge import config

    settings = config.load()
    with application.open_store(settings):
        pass  # makes the store, or brings it to the present schema
    return settings


@app.command()
def run(
    destinations: Names = None,
    patience: Annotated[float, typer.Option(help="Seconds to go on after failures.", min=0)] = 120.0,
    watch: Annotated[bool, typer.Option(help="Go on for ever, as a service does.")] = False,
    json: Json = False,
) -> None:
    """Send what waits. Exit code 1 when something still waits or is in trouble, 3 when no destination was reached."""
    from edge import app as application
    from edge.sync import service, wiring

    settings = _settings()
    follower = wiring.follower(settings)
    tallies = service.run(
        settings,
        destinations or (),
        bundle=lambda: application.bundle_name(settings),
        follower=follower,
        patience=patience,
        watch=watch,
    )
    standings = {each.destination.name: each for each in service.status(settings)}
    rows = []
    for tally in tallies:
        standing = standings[tally.name]
        rows.append(
            {
                "destination": tally.name,
                "delivered": tally.delivered,
                "waiting": standing.waiting,
                "in_trouble": standing.in_trouble,
                "error": None
                if tally.trouble is None
                else {"code": tally.trouble.code, "message": tally.trouble.message, "cure": tally.trouble.cure},
            }
        )
    rolled = None if follower is None else follower.outcome()
    if json:
        output.answer_json({"destinations": rows, "release": _rolled_out(rolled)})
    else:
        for tally, row in zip(tallies, rows, strict=True):
            output.answer(
                f"{tally.name}: {row['delivered']} sent, {row['waiting']} waiting, {row['in_trouble']} in trouble"
            )
            if tally.trouble is not None:
                output.error(tally.trouble)
            if row["in_trouble"]:
                output.note("  See: leuko sync conflicts")
        if rolled is not None:
            output.answer(f"roll-out of {rolled.bundle}: {rolled.state}")
            if rolled.message:
                output.note(f"  {rolled.message} [{rolled.code}]")
    if all(tally.trouble is not None for tally in tallies):
        raise typer.Exit(3)
    if any(row["waiting"] or row["in_trouble"] or row["error"] for row in rows):
        raise typer.Exit(1)


@app.command()
def status(json: Json = False) -> None:
    """Tell what waits for each destination, and what went wrong last."""
    from edge.sync import service

    found = service.status(_settings())
    if json:
        output.answer_json(
            {
                "destinations": [
                    {
                        "name": each.destination.name,
                        "kind": _kind(each.destination),
                        "waiting": each.waiting,
                        "oldest": each.oldest,
                        "counts": each.counts,
                        "from_hub_in_conflict": each.incoming,
                        "last_contact": each.contact.contact or None,
                        "failures": each.contact.failures,
                        "error": {"code": each.contact.code, "message": each.contact.message}
                        if each.contact.code
                        else None,
                    }
                    for each in found
                ]
            }
        )
        return
    if not found:
        output.answer("No destination is configured. See docs/sync.md, or: leuko sync enrol URL CODE")
        return
    rows = [["destination", "kind", "delivered", "waiting", "in trouble", "last contact"]]
    for each in found:
        rows.append(
            [
                *(each.destination.name, _kind(each.destination), str(each.counts.get("delivered", 0))),
                *(str(each.waiting), str(each.in_trouble), each.contact.contact or "never"),
            ]
        )
    output.answer(output.table(rows, right=(2, 3, 4)))
    for each in found:
        if each.contact.code:
            output.answer(f"{each.destination.name}: {each.contact.message} [{each.contact.code}]")


@app.command()
def conflicts(json: Json = False) -> None:
    """List what waits for a person: versions that were refused, or that contradict what a hub holds."""
    from edge.sync import service

    stuck, incoming = service.conflicts(_settings())
    if json:
        output.answer_json(
            {
                "versions": [
                    {
                        **{"destination": each.destination, "id": each.id, "version": each.version},
                        **{"state": each.state, "attempts": each.attempts, "code": each.code, "message": each.message},
                    }
                    for each in stuck
                ],
                "from_hub": [
                    {
                        **{"destination": each.destination, "id": each.id, "version": each.version},
                        **{"content_sha256": each.content_sha256, "received": each.received},
                    }
                    for each in incoming
                ],
            }
        )
        return
    if not stuck and not incoming:
        output.answer("Nothing waits for a person.")
    for each in stuck:
        output.answer(f"{each.destination}: {each.state}: result {each.id} version {each.version} [{each.code}]")
        output.answer(f"  {each.message}")
    for one in incoming:
        output.answer(f"{one.destination}: made at the hub: result {one.id} version {one.version}, {one.received}")
        output.answer(f"  Decide with: leuko sync resolve {one.id} --destination {one.destination} --keep device|hub")


@app.command()
def resolve(
    identifier: Annotated[str, typer.Argument(help="Id of the result.", metavar="ID")],
    keep: Annotated[Side, typer.Option(help="Whose contents hold from now on.")],
    destination: Annotated[str, typer.Option(help="The hub.")] = "hub",
    operator: Annotated[str, typer.Option(help="Who decides; else the configured operator.")] = "",
    json: Json = False,
) -> None:
    """Decide a conflict with a hub: what is kept becomes the next version on both sides."""
    from edge.sync import returning

    settings = _settings()
    decided = returning.resolve(
        identifier, destination, keep.value, operator or settings.operator, settings.database_path
    )
    if json:
        output.answer_json({"id": decided.id, "version": decided.version, "status": decided.status})
    else:
        output.answer(f"Result {decided.id} stands at version {decided.version}; it is sent by: leuko sync run")


@app.command()
def retry(destinations: Names = None, json: Json = False) -> None:
    """Let refused and conflicting versions wait again, and forget back-offs. Then: leuko sync run."""
    from edge.sync import service

    count = service.retry(_settings(), destinations or ())
    if json:
        output.answer_json({"versions": count})
    else:
        output.answer(f"{count} versions wait again.")


@app.command(name="destinations")
def list_destinations(
    check: Annotated[bool, typer.Option(help="Make contact with each; nothing is sent.")] = False, json: Json = False
) -> None:
    """List where results go. Exit code 1 when one that was checked cannot be reached."""
    from edge.sync import service

    settings = _settings()
    found = service.destinations(settings)
    checked: dict[str, str] = dict(service.check(settings)) if check and found else {}
    rows: list[dict[str, Any]] = []
    for each in found:
        row: dict[str, Any] = {"name": each.name, "kind": _kind(each), "address": _address(each)}
        if check:
            row["problem"] = checked[each.name] or None
        rows.append(row)
    if json:
        output.answer_json({"destinations": rows})
    elif not rows:
        output.answer("No destination is configured. See docs/sync.md, or: leuko sync enrol URL CODE")
    else:
        for row in rows:
            said = f"  {row['problem'] or 'ok'}" if check else ""
            output.answer(f"{row['name']}  {row['kind']}  {row['address']}{said}")
    if any(checked.values()):
        raise typer.Exit(1)


@app.command()
def enrol(
    url: Annotated[str, typer.Argument(help="Address of the hub, https://...")],
    code: Annotated[str, typer.Argument(help="One-time code from the hub's administrator.")],
    *,
    name: Annotated[str, typer.Option(help="What this device calls the hub.")] = "hub",
    ca: Annotated[str, typer.Option(help="PEM file of the hub's own certificate authority.", metavar="FILE")] = "",
    device_class: Annotated[
        str, typer.Option(help="Kind of this device, for staged releases (default: from its profile).")
    ] = "",
    json: Json = False,
) -> None:
    """Become a device of a hub: the secret is made here, kept here (mode 0600), and never shown."""
    from edge import app as application
    from edge.sync import service

    settings = _settings()
    kind = device_class or application.device_class(settings)
    answer = service.enrol(settings, url, code, name=name, ca_file=ca, device_class=kind)
    if json:
        output.answer_json({"destination": name, "device_id": answer.device_id, "name": answer.name})
    else:
        output.answer(f"Enrolled at {url} as {answer.name} ({answer.device_id}). Send with: leuko sync run")


@app.command()
def rotate(name: Annotated[str, typer.Argument(help="The hub.")] = "hub", json: Json = False) -> None:
    """Replace this device's secret at a hub."""
    from edge.sync import service

    service.rotate(_settings(), name)
    if json:
        output.answer_json({"destination": name, "rotated": True})
    else:
        output.answer(f"The secret for {name} was replaced.")


@app.command()
def release(json: Json = False) -> None:
    """Let the pictures go that every destination has acknowledged; numbers stay for ever."""
    from edge.sync import service

    done = service.release(_settings(), only_as_needed=False)
    if json:
        output.answer_json({"pictures": done.pictures, "bytes": done.bytes})
    else:
        output.answer(f"{done.pictures} pictures let go, {done.bytes / 1_000_000:.1f} MB.")


def _rolled_out(found: ReleaseOutcome | None) -> dict[str, str] | None:
    if found is None:
        return None
    return {
        **{"bundle": found.bundle, "rollout": found.rollout, "state": found.state},
        **{"code": found.code, "message": found.message, "when": found.moment.wall},
    }


def _kind(destination: object) -> str:
    return type(destination).__name__.removesuffix("Destination").lower()


def _address(destination: object) -> str:
    for name in ("url", "folder"):
        if hasattr(destination, name):
            return str(getattr(destination, name))
    return f"{getattr(destination, 'host', '')}:{getattr(destination, 'port', '')}"
