"""Key files: an Ed25519 private key as PEM (PKCS 8), and beside it the public half as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.bundle import files
from edge.core import durable
from edge.core.errors import BundleError, UsageError

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, Key

PUBLIC_SUFFIX: Final = ".pub"
_MAX_BYTES: Final = 16 << 10


def generate(path: Path, passphrase: bytes | None = None) -> Path:
    """Make a key pair: the private key in `path`, readable by its owner alone, the public one beside it.

    With a passphrase the private key is encrypted. Returns the public key's path. Raises UsageError `key-exists` when
    either file is there already, StoreError when one cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for existing in (path, public_path):
        if os.path.lexists(existing):
            raise UsageError("key-exists", f"{existing} exists already.", "Choose another name: no key is overwritten.")
    private = Ed25519PrivateKey.generate()
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = SSlibKey.from_crypto(private.public_key())
    previous = os.umask(0o077)
    try:
        durable.write_bytes(path, pem)
    finally:
        os.umask(previous)
    durable.write_text(public_path, json.dumps({"keyid": public.keyid, **public.to_dict()}, indent=2) + "\n")
    return public_path


def load_private(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """Read a private key. Raises UsageError when it is not one, or the passphrase is missing or wrong."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read(path)
    try:
        return CryptoSigner(load_pem_private_key(data, passphrase))
    except TypeError:
        cure = "Give it with --passphrase-file." if passphrase is None else "Leave --passphrase-file out."
        said = "is encrypted" if passphrase is None else "is not encrypted"
        raise UsageError("key-passphrase", f"The key {path} {said}.", cure) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        said = "cannot be opened with this passphrase" if passphrase else "is not a private key"
        raise UsageError("key-unreadable", f"{path} {said}: {error}.", "Name a key file, and its passphrase.") from None


def load_public(path: Path) -> Key:
    """Read a public key that `generate` wrote. Raises UsageError when it is not one."""
    from securesystemslib.signer import Key, SSlibKey

    try:
        document = json.loads(_read(path))
        key = Key.from_dict(document.pop("keyid"), document)
        if not isinstance(key, SSlibKey) or SSlibKey.from_crypto(key._crypto_key()).keyid != key.keyid:
            raise ValueError("its identifier belongs to another key")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "key-unreadable", f"{path} is not a public key: {error}.", f"Name the file that ends in {PUBLIC_SUFFIX}."
        ) from None
    return key


def _read(path: Path) -> bytes:
    try:
        return files.read(path, _MAX_BYTES)
    except BundleError as error:
        raise UsageError("key-unreadable", error.message, "Name a key file.") from None
