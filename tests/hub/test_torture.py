"""A small version of tests/bench/sync_torture.py: a real hub, a network on which everything goes wrong, and kills."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from postgresql import PostgreSQL, programs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

pytest.importorskip("cryptography", reason="cryptography is not installed")

from sync_torture import torture


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_doubled_or_altered_while_devices_and_hub_are_killed(kind: str, tmp_path: Path) -> None:
    asked = {"results": 12, "devices": 2, "kills": 3, "seed": 3, "seconds": 0.5}
    if kind == "sqlite":
        found = torture(tmp_path, f"sqlite:///{tmp_path / 'hub.sqlite3'}", **asked)
    else:
        if programs() is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        (tmp_path / "postgresql").mkdir()
        with PostgreSQL(tmp_path / "postgresql") as server:
            server.execute("CREATE DATABASE hub")
            found = torture(tmp_path, f"{server.url}/hub", server=server, **asked)
    assert found["results"] == 12 and found["versions"] == 14
    assert (found["lost"], found["doubled"], found["altered"], found["conflicts"]) == (0, 0, 0, 0)
    assert found["killed"]["hub"] >= 1
