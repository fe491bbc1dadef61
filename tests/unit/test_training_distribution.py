"""One batch over several devices gives the run of one device: two processes on this machine, and two in one process."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the train extra is not installed")

import tiny_training
from tiny_training import TINY, tiny_cells

from edge.core.errors import UsageError
from training import distribution, fit
from training.checkpoint import Checkpoint
from training.distribution import Devices

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True, scope="module")
def _tiny() -> Iterator[None]:
    with tiny_training.registered():
        yield


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def loaded(folder: Path) -> Checkpoint:
    stored = Checkpoint.load(folder)
    assert stored is not None
    return stored


@pytest.mark.slow
def test_two_processes_train_together_and_go_on_after_a_break(tmp_path: Path) -> None:
    """Both see the same losses; the losses are those of one process with the same batches."""
    for epochs in ("2", "3"):
        workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
        children = [
            tiny_training.child(
                "distributed",
                str(tmp_path / "both"),
                epochs,
                TF_CONFIG=json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}),
            )
            for index in range(2)
        ]
        ends = [child.communicate(timeout=500)[1] for child in children]
        assert [child.returncode for child in children] == [0, 0], ends
    first, second = (json.loads((tmp_path / f"both.{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert [epoch["epoch"] for epoch in first] == [2]
    fit.fit(tiny_cells(), replace(TINY, epochs=3, dropout=0.0), None, tmp_path / "alone")
    one, other = loaded(tmp_path / "alone"), loaded(tmp_path / "both")
    # Each worker normalises its own part of the batch, so that the two are close and not equal.
    assert [epoch["loss"] for epoch in other.epochs] == pytest.approx([e["loss"] for e in one.epochs], rel=0.1)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "tf-config-invalid"),
        ('{"cluster": {"worker": ["a", "b"]}}', "tf-config-invalid"),
        ("3", "tf-config-invalid"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch, text: str, code: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError) as caught:
        distribution._cluster()
    assert caught.value.code == code


class Strategy:
    num_replicas_in_sync = 4


def test_each_machine_makes_its_part_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for kind, index in (("chief", 0), ("worker", 0)):
        cluster = {"chief": ["a:1"], "worker": ["b:1"]}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
        devices = Devices.of(Strategy(), 32)
        assert devices.local == 2
        assert devices.first is (kind == "chief")
        parts.append(devices.positions)
    assert [*parts[0], *parts[1]] == list(range(32))
    with pytest.raises(UsageError) as caught:
        Devices.of(Strategy(), 30)
    assert caught.value.code == "batch-not-divisible"


def test_one_device_needs_no_strategy() -> None:
    devices = Devices.of(None, 8)
    assert devices.positions == range(8)
    assert devices.agree(0.25) == 0.25
    assert np.isclose(devices.agree(np.pi), np.pi)
