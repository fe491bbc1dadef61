"""The Update Framework (https://theupdateframework.io), by python-tuf: present, or one clear error."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from edge.core.errors import MissingExtraError

METADATA: Final = "metadata"
TARGETS: Final = "targets"
"""The two folders of a repository of releases."""

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
CUSTOM_SCHEMA: Final = 1
"""Version of what the signed metadata say of each archive."""


@contextmanager
def present() -> Iterator[None]:
    """Raise MissingExtraError unless python-tuf and its cryptography are installed."""
    missing = [name for name in ("tuf", "securesystemslib", "cryptography") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            "extra-missing",
            f"{', '.join(missing)} is not installed: without it no signature can be made or verified.",
            "Run: pip install 'tuf>=7,<8' 'securesystemslib[crypto]>=1.3,<2'",
        )
    yield
