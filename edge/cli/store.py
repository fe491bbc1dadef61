"""`leuko store`: how the results are kept on this device, encrypted or not, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli import output

app = typer.Typer(no_args_is_help=True, help="How results are kept here: encryption, and copies.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def status(json: Json = False) -> None:
    """Tell whether the store is encrypted, and prove that its key opens it."""
    from edge import config
    from edge.store import encrypting

    found = encrypting.standing(config.load().database_path)
    if json:
        output.answer_json(
            {"store": str(found.path), "encrypted": found.encrypted, "key": found.key, "cipher": found.cipher}
        )
    elif found.encrypted:
        output.answer(f"{found.path}: encrypted (SQLCipher {found.cipher}), key at {found.key}")
    else:
        output.answer(f"{found.path}: not encrypted")


@app.command()
def key(file: Annotated[Path, typer.Argument(help="New file, on a disk that does not stay with the device.")]) -> None:
    """Make a key for the store, in a file of mode 0600."""
    from edge.store import encrypting

    encrypting.make_key(file)
    output.answer(str(file))
    output.note("Keep a copy somewhere else: without this key nobody can read the results, and nobody can restore it.")


@app.command()
def encrypt(
    key: Annotated[str, typer.Option(help="File of the key, or credential:NAME.", metavar="KEY")],
) -> None:
    """Encrypt the store, or say where the key of an encrypted one is now. Stop the services first."""
    from edge import app as application
    from edge import config
    from edge.store import encrypting

    settings = config.load()
    if not settings.database_path.exists():
        with application.open_store(settings):
            pass  # makes the folder as it must be; the empty store is then encrypted
    encrypting.encrypt(settings.database_path, key)
    found = encrypting.standing(settings.database_path)
    output.answer(f"{found.path}: encrypted (SQLCipher {found.cipher}), key at {found.key}")
    output.note("What was there before may still be readable in free blocks of the disk: see docs/encryption.md.")


@app.command()
def copy(
    file: Annotated[Path, typer.Argument(help="New file for the copy.")],
    plain: Annotated[bool, typer.Option("--plain", help="Readable by anybody, without the key.")] = False,
) -> None:
    """Copy the store, while it is in use: a backup. An encrypted one stays so, with the same key, unless --plain."""
    from edge import config
    from edge.store import encrypting

    encrypting.copy(config.load().database_path, file, plain=plain)
    output.answer(str(file))
