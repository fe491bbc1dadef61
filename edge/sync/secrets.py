"""Secrets on the device's disk: readable by their owner alone, and never part of a log, an error or an answer."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets as randomness
import stat
from pathlib import Path

import msgspec

from edge.core import durable
from edge.core.errors import StoreError
from edge.sync.trouble import BlockedError


class Credential(msgspec.Struct, frozen=True):
    """What a device proves itself to a hub with. `pending` is a secret that the hub may or may not know yet."""

    device_id: str = ""
    secret: str = ""
    pending: str = ""

    def __repr__(self) -> str:
        return f"Credential(device_id={self.device_id!r})"


def new_secret() -> str:
    """Make a secret of 256 random bits, as text that is safe in a header."""
    return randomness.token_urlsafe(32)


def folder(data_folder: Path) -> Path:
    """Make the folder of secrets, for its owner alone, and return it. Raises `StoreError`."""
    path = data_folder / "secrets"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise StoreError(
            "folder-not-writable",
            f"The folder {path} cannot be made: {error.strerror}.",
            "Give the user that runs this the right to write the data folder.",
        ) from None
    return path


def write(path: Path, text: str) -> None:
    """Write a secret so that at no moment anyone else may read it. Raises `StoreError`."""
    if not path.exists():
        # The file is there with its permissions before the secret is; the durable write keeps them.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    durable.write_text(path, text)


def read(path: Path) -> str:
    """Read a secret of ours or of an administrator.

    Raises `BlockedError` `secret-missing`, `secret-exposed` (others than the owner may read it) or `secret-unreadable`.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BlockedError(
            "secret-missing", f"There is no file {path}.", "Enrol the device, or put it there."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BlockedError("secret-unreadable", f"{path} cannot be read ({error}).", "Check its permissions.") from None
    if mode & 0o077:
        raise BlockedError(
            "secret-exposed",
            f"{path} may be read by others on this machine (mode {mode:03o}).",
            f"Run: chmod 600 {path}; if others could read it, replace the secret.",
        )
    return text


def credential_path(data_folder: Path, name: str) -> Path:
    """Where the credential for the hub `name` is kept."""
    return data_folder / "secrets" / f"{name}.json"


def load_credential(data_folder: Path, name: str, *, enrolled: bool = True) -> Credential:
    """Read the credential for a hub; unless `enrolled`, one may be missing.

    Raises `BlockedError`: `not-enrolled`, `secret-damaged`, or as `read` does.
    """
    path = credential_path(data_folder, name)
    try:
        found = msgspec.json.decode(read(path), type=Credential) if path.exists() else Credential()
    except msgspec.MsgspecError:
        raise BlockedError(
            "secret-damaged", f"{path} is not a credential.", "Enrol the device again with a new code."
        ) from None
    if enrolled and not found.secret:
        raise BlockedError(
            "not-enrolled",
            f"This device is not enrolled at {name}.",
            f"Ask the hub's administrator for a code, then: leuko sync enrol URL CODE --name {name}",
        )
    return found


def save_credential(data_folder: Path, name: str, credential: Credential) -> None:
    """Keep the credential for a hub."""
    write(folder(data_folder) / f"{name}.json", msgspec.json.encode(credential).decode())


def patient_reference(data_folder: Path, identifier: str) -> str:
    """Give the salted reference that stands for a patient outside this device: HMAC-SHA-256, 40 hexadecimal digits.

    The salt is made once on this device and never leaves it: the same patient has the same reference here, and nobody
    can find the identifier by trying all there are.
    """
    path = folder(data_folder) / "patient-salt"
    if not path.exists():
        write(path, new_secret())
    return hmac.new(read(path).encode(), identifier.strip().encode(), hashlib.sha256).hexdigest()[:40]
