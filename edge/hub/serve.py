"""Runs the hub: looks at the address, brings the tables up to date, and starts the workers."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge.core.errors import UsageError
from edge.hub import objects
from edge.hub.database import Database
from edge.hub.settings import Settings, require_safe_address


@dataclass(frozen=True, slots=True)
class Address:
    """Where the hub listens, and how the way there is protected: its own certificate, or a proxy at `proxy`."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    proxy: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether people and devices come by HTTPS."""
        return self.certificate is not None or bool(self.proxy)


def prepare(settings: Settings, address: Address) -> None:
    """Check what can be checked before anything listens, and bring the tables up to date. Raises LeukoError."""
    require_safe_address(address.host, encrypted=address.encrypted)
    if (address.certificate is None) != (address.key is None):
        raise UsageError("certificate-incomplete", "A certificate needs its key.", "Give --certificate and --key.")
    for path in (address.certificate, address.key):
        if path is not None and not path.is_file():
            raise UsageError("certificate-missing", f"There is no file {path}.", "Check --certificate and --key.")
    objects.open_objects(settings.objects).check()
    database = Database(settings.database)
    try:
        database.migrate()
    finally:
        database.close()


def serve(settings: Settings, address: Address, workers: int) -> None:
    """Serve until interrupted. `prepare` comes first."""
    import uvicorn

    settings.to_environment()
    if workers > 1:
        # Where the workers keep the figures that /metrics adds up.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="leuko-hub-metrics-")
    uvicorn.run(
        "edge.hub.web.application:from_environment",
        factory=True,
        host=address.host,
        port=address.port,
        workers=workers,
        ssl_certfile=None if address.certificate is None else str(address.certificate),
        ssl_keyfile=None if address.key is None else str(address.key),
        proxy_headers=bool(address.proxy),
        forwarded_allow_ips=address.proxy or None,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=20,
    )
