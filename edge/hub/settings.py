"""What a hub is told when it starts. Worker processes read it from the environment of the one that started them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Final

import msgspec

from edge.core.errors import UsageError

VARIABLE: Final = "LEUKO_HUB_SETTINGS"
"""Environment variable by which `serve` hands its settings to its workers."""


class SingleSignOn(msgspec.Struct, frozen=True):
    """An OpenID Connect provider: its issuer, and the hub's client there. `address` is the hub's own public address."""

    issuer: str
    client: str
    secret_file: str
    address: str


class Settings(msgspec.Struct, frozen=True):
    """Where the hub keeps things and how it is reached.

    `database` is a URL of SQLAlchemy, `objects` a folder or `s3://HOST/BUCKET`, `releases` the folder of the signed
    release repository (none: no releases are served). `secure` says that people and devices reach the hub by HTTPS.
    """

    database: str
    objects: str
    releases: str = ""
    secure: bool = False
    session_hours: float = 12.0
    metrics_token: str = ""
    single_sign_on: SingleSignOn | None = None

    def to_environment(self) -> None:
        """Leave the settings for worker processes."""
        os.environ[VARIABLE] = msgspec.json.encode(self).decode()

    @classmethod
    def from_environment(cls) -> Settings:
        """Read what `to_environment` left."""
        return msgspec.json.decode(os.environ[VARIABLE].encode(), type=cls)


def default_database(folder: Path) -> str:
    """Give the URL of the SQLite database in a folder."""
    return f"sqlite:///{folder / 'hub.sqlite3'}"


def require_safe_address(host: str, *, encrypted: bool) -> None:
    """Raise UsageError `tls-required` for an address that others can reach, unless the way there is encrypted."""
    if encrypted or is_loopback(host):
        return
    raise UsageError(
        "tls-required",
        f"{host} can be reached from outside, and the connection would not be encrypted.",
        "Give --certificate and --key, or put a proxy that ends TLS before the hub and say --behind-proxy.",
    )


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
