"""`leuko model release`: sign bundles and publish them as static files. On a workstation, never in a clinic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edge.cli import output

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

    from edge.bundle.release.repository import Repository, RoleKeys

app = typer.Typer(
    help="Release bundles: key, init, add, sign, publish, rotate, renew, remove, show.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(help="Folder of the repository.", metavar="REPO")]
Keys = Annotated[list[Path], typer.Option("--key", help="File of a private key; may be repeated.", metavar="FILE")]
Passphrase = Annotated[Path | None, typer.Option(help="File whose first line opens the private keys.", metavar="FILE")]
Publics = Annotated[list[Path], typer.Option(help="File of a public key; may be repeated.", metavar="PUB")]
Role = Annotated[Literal["root", "targets", "snapshot", "timestamp"], typer.Argument(metavar="ROLE")]


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="File of the private key; must be new.", metavar="FILE")],
    passphrase_file: Passphrase = None,
) -> None:
    """Make a key pair: FILE, to be kept secret, and FILE.pub."""
    from edge.bundle.framework import present
    from edge.bundle.release import keys

    with present():
        output.answer(str(keys.generate(file, _passphrase(passphrase_file))))


@app.command()
def init(  # noqa: PLR0917  # options, given by name
    repo: Folder,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="Make the key pairs that are not given, in this folder outside the repository.", metavar="DIR"
        ),
    ] = None,
    root_key: Publics = [],  # noqa: B006
    targets_key: Publics = [],  # noqa: B006
    snapshot_key: Publics = [],  # noqa: B006
    timestamp_key: Publics = [],  # noqa: B006
    root_keys: Annotated[int, typer.Option(min=1, max=20, help="Root keys to make.")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, max=20, help="Root keys that must sign.")] = 2,
    targets_threshold: Annotated[int, typer.Option(min=1, max=20, help="Targets keys that must sign.")] = 1,
    root_days: Annotated[int, typer.Option(min=1, max=7300, help="Days until the root expires.")] = 730,
    targets_days: Annotated[int, typer.Option(min=1, max=7300, help="Days until the list of bundles expires.")] = 365,
    publish_days: Annotated[int, typer.Option(min=1, max=7300, help="Days until a publication expires.")] = 180,
    passphrase_file: Passphrase = None,
) -> None:
    """Start a repository. Its first root is a draft: sign it with as many root keys as the threshold says."""
    from edge.bundle.framework import present
    from edge.bundle.release import repository

    with present():
        given = {"root": root_key, "targets": targets_key, "snapshot": snapshot_key, "timestamp": timestamp_key}
        thresholds = {"root": root_threshold, "targets": targets_threshold, "snapshot": 1, "timestamp": 1}
        signers = {
            role: _role_keys(role, given[role], thresholds[role], root_keys, keys, repo, _passphrase(passphrase_file))
            for role in given
        }
        days = {"root": root_days, "targets": targets_days, "snapshot": publish_days, "timestamp": publish_days}
        made = repository.init(repo, signers, days)
    output.answer(str(made.folder))
    if keys is not None:
        output.note(f"Take the root keys in {keys} away, each to a person and place of its own.")
    output.note("Next: leuko model release add, sign, publish.")


def _role_keys(  # noqa: PLR0917
    role: str, given: list[Path], threshold: int, root_keys: int, folder: Path | None, repo: Path, secret: bytes | None
) -> RoleKeys:
    from edge.bundle.release import keys
    from edge.bundle.release.repository import RoleKeys
    from edge.core.errors import UsageError

    if given:
        return RoleKeys(tuple(map(keys.load_public, given)), threshold)
    if folder is None:
        raise UsageError(
            "key-missing", f"No key is given for {role}.", f"Give --{role}-key, or --keys DIR to have key pairs made."
        )
    if folder.absolute().is_relative_to(repo.absolute()):
        raise UsageError("key-in-repository", f"{folder} is inside the repository.", "Keep keys outside of it.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    count = root_keys if role == "root" else threshold
    names = [f"{role}-{number}.pem" for number in range(1, count + 1)] if count > 1 else [f"{role}.pem"]
    made = [keys.generate(folder / name, secret) for name in names]
    return RoleKeys(tuple(map(keys.load_public, made)), threshold)


@app.command()
def add(
    repo: Folder,
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or its archive.", metavar="BUNDLE")],
    device_class: Annotated[
        list[str], typer.Option(help="Only for devices of this class; may be repeated.", metavar="CLASS")
    ] = [],  # noqa: B006
) -> None:
    """Archive a bundle and draft a list of bundles with it; print the archive's SHA-256."""
    from edge.bundle.release import repository

    with _open(repo) as opened:
        found = repository.add(opened, bundle, device_class)
    output.answer(f"{found.manifest.identity}  sha256 {found.sha256}  {found.size} bytes")
    _next(repo)


@app.command()
def remove(
    repo: Folder, bundle: Annotated[str, typer.Argument(help="The bundle, as NAME@VERSION.", metavar="BUNDLE")]
) -> None:
    """Draft a list of bundles without this one: no device will install it any more."""
    from edge.bundle.release import repository

    with _open(repo) as opened:
        repository.remove(opened, bundle)
    _next(repo)


@app.command()
def rotate(  # options, given by name
    repo: Folder,
    role: Role,
    new: Annotated[list[Path], typer.Option("--add", help="File of a public key to trust.", metavar="PUB")] = [],  # noqa: B006
    revoked: Annotated[
        list[str], typer.Option("--remove", help="Identifier of a key to revoke, 8 letters or more.", metavar="KEYID")
    ] = [],  # noqa: B006
    threshold: Annotated[int, typer.Option(min=0, max=20, help="Keys that must sign; 0: as before.")] = 0,
) -> None:
    """Draft a root with other keys for a role. It is signed by keys of the old root and of the new one."""
    from edge.bundle.release import keys, repository

    with _open(repo) as opened:
        repository.rotate(opened, role, [keys.load_public(path) for path in new], revoked, threshold)
    _next(repo)


@app.command()
def renew(repo: Folder, role: Annotated[Literal["root", "targets"], typer.Argument(metavar="ROLE")]) -> None:
    """Draft root or targets again, to expire later."""
    from edge.bundle.release import repository

    with _open(repo) as opened:
        repository.renew(opened, role)
    _next(repo)


@app.command()
def sign(repo: Folder, key: Keys, passphrase_file: Passphrase = None) -> None:
    """Sign the drafts with a key; each holder of a key does so in turn."""
    from edge.bundle.release import repository

    with _open(repo) as opened:
        for role, keyid in repository.sign(opened, _signers(key, passphrase_file)):
            output.answer(f"{role} signed by {keyid[:16]}")
    _next(repo)


@app.command()
def publish(repo: Folder, key: Keys, passphrase_file: Passphrase = None) -> None:
    """Publish the drafts, with the keys of snapshot and timestamp; without drafts, let the release expire later."""
    from edge.bundle.release import publishing

    with _open(repo) as opened:
        publishing.publish(opened, _signers(key, passphrase_file))
        for role in publishing.status(opened):
            output.answer(f"{role.role} {role.version}, expires {role.expires:%Y-%m-%d}")
    output.note(f"Carry {repo} to the devices as it is: on a web server, or on a stick.")


@app.command()
def show(repo: Folder, json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Show what is released, who signs, when it expires, and which signatures a draft still lacks."""
    from edge.bundle.release import publishing

    with _open(repo) as opened:
        roles = publishing.status(opened)
        missing = publishing.missing(opened)
        drafts = sorted(opened.drafts())
        listed = opened.newest("targets").signed.targets
    document = {
        "roles": {
            role.role: {
                "version": role.version,
                "expires": None if role.expires is None else role.expires.isoformat(),
                "threshold": role.threshold,
                "keys": list(role.keys),
            }
            for role in roles
        },
        "bundles": {
            name: {"sha256": target.hashes["sha256"], "size": target.length, **(target.custom or {})}
            for name, target in sorted(listed.items())
        },
        "drafts": drafts,
        "missing": [
            {"role": each.role, "signed": each.signed, "threshold": each.threshold, "keys": list(each.keys)}
            for each in missing
        ],
    }
    if json:
        output.answer_json(document)
        return
    rows = [["role", "version", "expires", "signs", "keys"]]
    rows += [
        [
            role.role,
            str(role.version) if role.version else "draft",
            f"{role.expires:%Y-%m-%d}" if role.expires else "-",
            f"{role.threshold} of {len(role.keys)}",
            " ".join(keyid[:16] for keyid in role.keys),
        ]
        for role in roles
    ]
    output.answer(output.table(rows))
    for name, target in sorted(listed.items()):
        classes = ", ".join((target.custom or {}).get("device_classes", ())) or "every device"
        output.answer(f"{name}  {target.length} bytes  sha256 {target.hashes['sha256']}  {classes}")
    for each in missing:
        output.note(f"{each.role} lacks signatures: {each.signed} of {each.threshold}")


@contextmanager
def _open(folder: Path) -> Iterator[Repository]:
    from edge.bundle.framework import present
    from edge.bundle.release.repository import Repository

    with present():
        opened = Repository(folder)
        opened.require()
        yield opened


def _next(repo: Path) -> None:
    """Say what a draft still needs."""
    from edge.bundle.release import publishing
    from edge.bundle.release.repository import Repository

    lacking = publishing.missing(Repository(repo))
    for each in lacking:
        output.note(f"{each.role} has {each.signed} of {each.threshold} signatures: leuko model release sign {repo}")
    if not lacking:
        output.note(f"Nothing is missing: leuko model release publish {repo}")


def _signers(files: list[Path], passphrase_file: Path | None) -> list[CryptoSigner]:
    from edge.bundle.release import keys

    secret = _passphrase(passphrase_file)
    return [keys.load_private(path, secret) for path in files]


def _passphrase(file: Path | None) -> bytes | None:
    from edge.bundle import files

    if file is None:
        return None
    return files.read(file, 4096).split(b"\n")[0]
