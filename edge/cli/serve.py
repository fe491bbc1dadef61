"""`leuko serve`: the device's own page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output


def serve(  # noqa: PLR0917  # options, given by name
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8765,
    pin_file: Annotated[
        Path | None, typer.Option(help="File that holds the PIN; else the environment's LEUKO_PIN.", metavar="FILE")
    ] = None,
    pair: Annotated[bool, typer.Option("--pair", help="Let one browser in by an address that works once.")] = False,
    name: Annotated[list[str] | None, typer.Option(help="A further host name the page answers to.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate (PEM).", metavar="FILE")] = None,
    key: Annotated[Path | None, typer.Option(help="Key of the certificate (PEM).", metavar="FILE")] = None,
) -> None:
    """Open the device's page: live counts, review, signature, reports, health, settings.

    It opens for this machine alone. For the network it asks for a PIN (LEUKO_PIN or --pin-file) or for --pair.
    """
    from edge import config
    from edge.core.errors import MissingExtraError, UsageError

    settings = config.load()
    pin = os.environ.get("LEUKO_PIN") or None
    if pin_file is not None:
        try:
            pin = pin_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("pin-file", f"{pin_file} cannot be read: {error}.", "Name a text file.") from None
    try:
        from edge.web import serve as page
    except ImportError as error:
        raise MissingExtraError(
            "page-packages",
            f"The page needs a package that is missing: {error.name}.",
            "Install it: pip install starlette uvicorn jinja2",
        ) from None
    opening = page.Opening(host, port, pin, pair, tuple(name or ()), certificate, key)
    page.run(settings, opening, _told)


def _told(addresses: Sequence[str]) -> None:
    output.note("The page is open. Ctrl-C closes it; what is saved stays saved.")
    for address in addresses:
        output.answer(address)
