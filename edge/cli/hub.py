"""`leuko hub`: the receiving server. Needs the `hub` extra."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edge.cli import output

if TYPE_CHECKING:
    from edge.hub.core import Hub
    from edge.hub.settings import Settings

app = typer.Typer(help="The receiving server: results of many devices, review, sign-off.", no_args_is_help=True)

_PACKAGES: Final = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "jinja2", "argon2", "prometheus_client")
BY: Final = "command line"

Database = Annotated[
    str,
    typer.Option(
        help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME (default: SQLite in the data folder).",
        envvar="LEUKO_HUB_DATABASE",
        metavar="URL",
    ),
]
Objects = Annotated[
    str,
    typer.Option(
        help="Folder of the pictures, or s3://HOST/BUCKET (default: in the data folder).",
        envvar="LEUKO_HUB_OBJECTS",
        metavar="PLACE",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def serve(  # noqa: PLR0917  # options, given by name
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8070,
    database: Database = "",
    objects: Objects = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate chain (PEM).", metavar="FILE")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).", metavar="FILE")] = None,
    behind_proxy: Annotated[
        str, typer.Option(help="Address of the proxy that ends TLS before the hub.", metavar="IP")
    ] = "",
    releases: Annotated[Path | None, typer.Option(help="Folder of the signed releases.", metavar="DIR")] = None,
    metrics_token_file: Annotated[
        Path | None, typer.Option(help="Who reads /metrics sends this token; without, loopback only.", metavar="FILE")
    ] = None,
    oidc_issuer: Annotated[str, typer.Option(help="OpenID Connect provider.", metavar="URL")] = "",
    oidc_client: Annotated[str, typer.Option(help="The hub's client id there.", metavar="ID")] = "",
    oidc_secret_file: Annotated[str, typer.Option(help="File of the client's secret.", metavar="FILE")] = "",
    address: Annotated[str, typer.Option(help="The hub's own public address, for --oidc-issuer.", metavar="URL")] = "",
) -> None:
    """Bring the tables up to date and serve, until interrupted."""
    _require_extra()
    import msgspec

    from edge.core.errors import UsageError
    from edge.hub import serve as running
    from edge.hub.settings import SingleSignOn

    if (oidc_issuer or oidc_client) and not (oidc_issuer and oidc_client and oidc_secret_file and address):
        raise UsageError(
            "sign-on-incomplete",
            "A single sign-on needs an issuer, a client, its secret, and the hub's address.",
            "Give --oidc-issuer, --oidc-client, --oidc-secret-file and --address.",
        )
    sign_on = SingleSignOn(oidc_issuer, oidc_client, oidc_secret_file, address) if oidc_issuer else None
    where = running.Address(host, port, certificate, key, behind_proxy)
    token = "" if metrics_token_file is None else _first_line(metrics_token_file)
    settings = msgspec.structs.replace(
        _settings(database, objects),
        releases="" if releases is None else str(releases),
        secure=where.encrypted,
        metrics_token=token,
        single_sign_on=sign_on,
    )
    running.prepare(settings, where)
    with _open(settings) as hub:
        from edge.hub import people

        if not people.accounts(hub):
            output.note("Nobody can sign in yet. Make an account: leuko hub person NAME --role reviewer --role admin")
    output.note(f"http{'s' if certificate else ''}://{host}:{port}")
    running.serve(settings, where, workers)


@app.command()
def migrate(database: Database = "") -> None:
    """Bring the tables up to date. `serve` does so, too."""
    _require_extra()
    from edge.hub.database import Database as Tables

    tables = Tables(_settings(database, "").database)
    try:
        tables.migrate()
    finally:
        tables.close()
    output.answer("The tables are up to date.")


@app.command()
def enrol(  # noqa: PLR0917  # options, given by name
    name: Annotated[str, typer.Argument(help="Name of the device; a known one gets a new credential.")],
    database: Database = "",
    objects: Objects = "",
    site: Annotated[str, typer.Option(help="Site whose people see its results.")] = "",
    cohort: Annotated[str, typer.Option(help="Group for roll-outs.")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="What it may do (default: all).")] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=720, help="How long the code is good.")] = 24.0,
    json: Json = False,
) -> None:
    """Make a one-time code, to be typed into the device: leuko sync enrol."""
    with _hub(database, objects) as hub:
        from edge.hub import enrolment
        from edge.hub.core import SCOPES

        code = enrolment.make_code(
            hub, name, made_by=BY, site=site, cohort=cohort, scopes=tuple(scope or SCOPES), hours=hours
        )
    if json:
        output.answer_json(dataclasses.asdict(code))
    else:
        output.answer(code.code)
        output.note(f"Good once, until {code.expires}.")


app.command("enroll", hidden=True)(enrol)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the device.")],
    database: Database = "",
    objects: Objects = "",
) -> None:
    """Take a device's credential away. Its results stay."""
    with _hub(database, objects) as hub:
        from edge.hub import enrolment

        enrolment.revoke(hub, name, by=BY)
    output.answer(f"{name} is revoked.")


@app.command()
def devices(database: Database = "", objects: Objects = "", json: Json = False) -> None:
    """List the devices and how they are."""
    with _hub(database, objects) as hub:
        from edge.hub import fleet
        from edge.hub.core import Person

        found = fleet.devices(hub, Person("", BY, frozenset(), ""))
    if json:
        output.answer_json([dataclasses.asdict(device) for device in found])
        return
    rows = [["name", "state", "health", "last seen", "bundle", "waiting"]]
    for device in found:
        state = "revoked" if device.revoked else "silent" if device.silent else "in touch"
        waiting = "-" if device.backlog_results is None else str(device.backlog_results)
        rows.append([device.name, state, device.health, device.last_seen or "-", device.bundle or "-", waiting])
    output.answer(output.table(rows, right=(5,)))


@app.command()
def person(  # noqa: PLR0917  # options, given by name
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    role: Annotated[list[str] | None, typer.Option(help="operator, reviewer or admin; may be repeated.")] = None,
    database: Database = "",
    objects: Objects = "",
    site: Annotated[str, typer.Option(help="The one site that the person sees (default: all).")] = "",
    password_file: Annotated[Path | None, typer.Option(help="File with the password.", metavar="FILE")] = None,
    subject: Annotated[str, typer.Option(help="Who the person is for the single sign-on.")] = "",
    close: Annotated[bool, typer.Option("--close", help="Close the account.")] = False,
    new_password: Annotated[bool, typer.Option("--new-password", help="Give a new password.")] = False,
) -> None:
    """Make an account, close it, or give it a new password. Without a password, one is made and shown once."""
    import secrets

    with _hub(database, objects) as hub:
        from edge.hub import people

        if close:
            people.disable(hub, name, by=BY)
            output.answer(f"{name} is closed.")
            return
        given = "" if password_file is None else _first_line(password_file)
        password = given or ("" if subject else secrets.token_urlsafe(15))
        if new_password:
            people.set_password(hub, name, password, by=BY)
        else:
            people.add(hub, name, tuple(role or ()), by=BY, site=site, password=password, subject=subject)
    if given or not password:
        output.answer(f"{name} can sign in.")
    else:
        output.answer(password)
        output.note(f"The password of {name}; it is not shown again.")


@app.command("people")
def list_people(database: Database = "", objects: Objects = "", json: Json = False) -> None:
    """List the accounts."""
    with _hub(database, objects) as hub:
        from edge.hub import people

        found = people.accounts(hub)
    if json:
        output.answer_json([dataclasses.asdict(account) for account in found])
        return
    rows = [["name", "roles", "site", "state"]]
    rows += [
        [each.name, " ".join(each.roles), each.site or "all", "closed" if each.disabled else "open"] for each in found
    ]
    output.answer(output.table(rows))


@app.command()
def release(  # noqa: PLR0917  # options, given by name
    bundle: Annotated[str, typer.Argument(help="NAME@VERSION; without, list the roll-outs.")] = "",
    percentage: Annotated[int, typer.Option(min=0, max=100, help="Share of the devices.")] = 100,
    cohort: Annotated[str, typer.Option(help="Only devices of this cohort.")] = "",
    device_class: Annotated[str, typer.Option(help="Only devices of this class.")] = "",
    halt: Annotated[str, typer.Option(help="Halt the roll-out with this id.", metavar="ID")] = "",
    database: Database = "",
    objects: Objects = "",
    json: Json = False,
) -> None:
    """Roll a released bundle out, halt a roll-out, or list them."""
    with _hub(database, objects) as hub:
        from edge.hub import releases
        from edge.hub.problems import HubError, RefusedError

        if halt:
            try:
                releases.halt(hub, halt, reason="halted by hand", by=BY)
            except RefusedError:
                raise HubError("rollout-unknown", "There is no such running roll-out.", "List them.") from None
        elif bundle:
            releases.add(hub, bundle, percentage=percentage, cohort=cohort, device_class=device_class, by=BY)
        found = releases.rollouts(hub)
    if json:
        output.answer_json([dataclasses.asdict(rule) for rule in found])
        return
    rows = [["id", "bundle", "share", "cohort", "class", "state"]]
    for rule in found:
        state = f"halted: {rule.reason}" if rule.halted else "running"
        rows.append(
            [rule.id, rule.bundle, f"{rule.percentage} %", rule.cohort or "all", rule.device_class or "all", state]
        )
    output.answer(output.table(rows))


@app.command()
def export(  # noqa: PLR0917  # options, given by name
    out: Annotated[Path, typer.Option(help="New folder for cells and manifest.csv.", metavar="DIR")],
    source: Annotated[str, typer.Option(help="Name of these images in the manifest.", metavar="NAME")],
    licence: Annotated[str, typer.Option(help="Their licence (SPDX). Without: evaluation only.", metavar="SPDX")] = "",
    citation: Annotated[str, typer.Option(help="How their makers want to be named.", metavar="TEXT")] = "",
    database: Database = "",
    objects: Objects = "",
    json: Json = False,
) -> None:
    """Write the cells that people have called, of patients who consented, as data for leuko train data."""
    with _hub(database, objects) as hub:
        from edge.hub import export as exporting
        from edge.hub.core import Person

        found = exporting.to_folder(
            hub, Person("", BY, frozenset(), ""), out, source=source, licence=licence, citation=citation
        )
    if json:
        output.answer_json(dataclasses.asdict(found))
    else:
        output.answer(f"{found.cells} cells of {found.cases} cases are in {out}.")
        if found.without_picture:
            output.note(f"{found.without_picture} cells have no picture here, and were left out.")


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Folder; one that is there is brought up to date.", metavar="DIR")],
    database: Database = "",
    objects: Objects = "",
) -> None:
    """Copy the database and the pictures, while the hub runs."""
    _require_extra()
    from edge.hub import backup as copying

    found = copying.save(_settings(database, objects), folder)
    output.answer(f"{found['rows']} rows and {found['pictures']} pictures are in {folder}.")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of a backup.", metavar="DIR")],
    database: Database = "",
    objects: Objects = "",
) -> None:
    """Read a backup into an empty database. Devices then send again what it lacks."""
    _require_extra()
    from edge.hub import backup as copying

    found = copying.restore(_settings(database, objects), folder)
    output.answer(f"{found['rows']} rows and {found['pictures']} pictures are restored.")


@app.command()
def openapi() -> None:
    """Print the OpenAPI document of the API."""
    _require_extra()
    from edge.hub.web import application

    output.answer(application.openapi_text().rstrip("\n"))


@contextmanager
def _hub(database: str, objects: str) -> Iterator[Hub]:
    """Open the hub; an empty database gets its tables, an old one is refused."""
    _require_extra()
    with _open(_settings(database, objects)) as hub:
        yield hub


@contextmanager
def _open(settings: Settings) -> Iterator[Hub]:
    from edge.hub import core
    from edge.hub.database import Database as Tables

    tables = Tables(settings.database)
    try:
        if tables.is_empty():
            tables.migrate()
    finally:
        tables.close()
    hub = core.open_hub(settings)
    try:
        yield hub
    finally:
        hub.close()


def _settings(database: str, objects: str) -> Settings:
    from edge import config
    from edge.hub.settings import Settings, default_database

    folder = config.load().data_path / "hub"
    return Settings(database or default_database(folder), objects or str(folder / "objects"))


def _first_line(path: Path) -> str:
    from edge.core.errors import UsageError

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("file-unreadable", f"{path} cannot be read: {error}.", "Check the file.") from None
    if not lines or not lines[0].strip():
        raise UsageError("file-empty", f"{path} is empty.", "Put the secret on its first line.")
    return lines[0].strip()


def _require_extra() -> None:
    from edge.core.errors import MissingExtraError

    missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtraError(
            "extra-missing", f"{', '.join(missing)} is not installed.", "Run: pip install 'leukoscope[hub]'"
        )
