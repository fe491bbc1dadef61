"""Every runtime keeps the same promises: the network's own answer, in float32, whatever the file's precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_networks as small

from devices.runtimes.litert import LiteRTRuntime
from devices.runtimes.onnxruntime import OnnxRuntime
from devices.runtimes.probe import probe, probe_import
from edge.core.errors import BundleError, MissingExtraError
from edge.core.protocols import Runtime

# An int8 network answers within the rounding of its input (1/256 a pixel, 192 of them), its weights and its output.
KINDS = {
    "litert-float32": (LiteRTRuntime, lambda **k: small.tflite_network(quantized=False, **k), ".tflite", 1e-5),
    "litert-int8": (LiteRTRuntime, lambda **k: small.tflite_network(quantized=True, **k), ".tflite", 0.08),
    "onnxruntime-float32": (OnnxRuntime, small.onnx_network, ".onnx", 1e-5),
}


class Kind:
    """One runtime with one kind of file."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.make, self.network, self.suffix, self.tolerance = KINDS[name]
        self._folder = folder

    def open(self, **options: bool) -> Runtime:
        path = self._folder / f"network{self.suffix}"
        path.write_bytes(self.network(**options))
        return self.make(path)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    pytest.importorskip("onnx" if "onnx" in request.param else "ai_edge_litert")
    return Kind(request.param, tmp_path)


def batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 0.99, (count, small.SIDE, small.SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_the_answer_is_the_network_s(kind: Kind, count: int) -> None:
    images = batch(count)
    logits, maps = small.expected(images)
    with kind.open() as runtime:
        outputs = runtime.run(images)
    assert outputs.logits.dtype == outputs.features.dtype == np.float32
    np.testing.assert_allclose(outputs.logits, logits, atol=kind.tolerance)
    np.testing.assert_allclose(outputs.features, maps, atol=kind.tolerance)


def test_a_picture_s_answer_does_not_depend_on_its_batch(kind: Kind) -> None:
    images = batch(7)
    with kind.open() as runtime:
        together = runtime.run(images).logits
        alone = np.concatenate([runtime.run(images[i : i + 1]).logits for i in range(7)])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_memory_layout_of_the_batch_does_not_matter(kind: Kind) -> None:
    images = batch(3)
    mirrored = np.ascontiguousarray(images[:, ::-1, :, ::-1])
    with kind.open() as runtime:
        straight = runtime.run(mirrored).logits
        strided = runtime.run(images[:, ::-1, :, ::-1]).logits
    np.testing.assert_array_equal(straight, strided)


def test_no_pictures_give_no_answers(kind: Kind) -> None:
    with kind.open() as runtime:
        outputs = runtime.run(batch(0))
    assert outputs.logits.shape == (0, small.CLASSES)
    assert outputs.features.shape == (0, 2, 2, small.CLASSES)


def test_a_network_without_activation_maps_has_no_features(kind: Kind) -> None:
    with kind.open(with_maps=False) as runtime:
        assert runtime.run(batch(2)).features is None


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 15, 16, 3), (1, 16, 16, 1), (16, 16, 3)])
def test_another_shape_is_refused(kind: Kind, shape: tuple[int, ...]) -> None:
    with kind.open() as runtime, pytest.raises(ValueError, match="batch"):
        runtime.run(np.zeros(shape, np.float32))


def test_values_beyond_the_range_saturate_and_do_not_wrap(kind: Kind) -> None:
    bright = np.full((1, small.SIDE, small.SIDE, 3), 127 / 128, np.float32)
    with kind.open() as runtime:
        at_the_end = runtime.run(bright).logits
        beyond = runtime.run(bright * 50).logits
    if runtime.info.precision == "int8":
        np.testing.assert_array_equal(beyond, at_the_end)
    else:
        assert np.abs(beyond).max() > np.abs(at_the_end).max()


def test_the_stamp_says_what_ran(kind: Kind) -> None:
    with kind.open() as runtime:
        assert str(runtime.info) == kind.name
        assert runtime.info.device == "cpu"
        assert runtime.info.threads == 1
        assert runtime.info.version[0].isdigit()


def test_it_is_a_runtime_and_works_only_inside_its_block(kind: Kind) -> None:
    runtime = kind.open()
    assert isinstance(type(runtime), type)
    with pytest.raises(RuntimeError):
        runtime.run(batch(1))
    with runtime:
        assert isinstance(runtime, Runtime)
    with pytest.raises(RuntimeError):
        runtime.run(batch(1))


def test_making_one_touches_nothing(kind: Kind, tmp_path: Path) -> None:
    kind.make(tmp_path / "not there")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\0" * 4096, b"\x18\0\0\0TFL3", b"\xa5" * 65536], ids=lambda data: str(len(data))
)
def test_a_file_that_is_no_network_is_refused_with_a_cure(kind: Kind, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"bad{kind.suffix}"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught, kind.make(path):
        pass
    assert caught.value.code == "model-unreadable"
    assert caught.value.cure


def test_a_missing_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(BundleError), kind.make(tmp_path / "absent"):
        pass


def test_loading_and_running_writes_nothing(kind: Kind, capfd: pytest.CaptureFixture[str]) -> None:
    with kind.open() as runtime:
        runtime.run(batch(1))
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@pytest.mark.parametrize(
    ("make", "packages"), [(LiteRTRuntime, ("ai_edge_litert", "tflite_runtime")), (OnnxRuntime, ("onnxruntime",))]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    make: Callable[[Path], Runtime], packages: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught, make(tmp_path / "any"):
        pass
    assert "pip install" in caught.value.cure


def test_onnx_with_a_fixed_batch_of_one_runs_any_number(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "fixed.onnx"
    path.write_bytes(small.onnx_network(fixed_batch=True))
    images = batch(5)
    with OnnxRuntime(path) as runtime:
        np.testing.assert_allclose(runtime.run(images).logits, small.expected(images)[0], atol=1e-5)


# The probe: whatever a child does, the parent hears of it and lives.

FACTORIES = {
    "litert": "devices.runtimes.litert:LiteRTRuntime",
    "onnxruntime": "devices.runtimes.onnxruntime:OnnxRuntime",
}


def test_a_probe_of_a_good_network_says_what_ran(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"network{kind.suffix}"
    path.write_bytes(kind.network())
    name, _, precision = kind.name.partition("-")
    found = probe(FACTORIES[name], path)
    assert found.ok
    assert name in found.evidence
    assert precision in found.evidence


def test_a_probe_of_a_bad_network_says_why(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"no network")
    found = probe(FACTORIES[kind.name.partition("-")[0]], path)
    assert not found.ok
    assert "not a network" in found.evidence


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kills_itself.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.stderr.write('farewell')\nsys.exit(7)\n")
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(600)\n")
    (tmp_path / "chatters.py").write_text("import os\n__version__ = '1.2'\nos.write(1, b'noise on standard output')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("misbehaving")
@pytest.mark.parametrize(
    ("module", "timeout", "evidence"),
    [
        ("kills_itself", 60, "was killed by SIGILL"),
        ("exits", 60, "status 7"),
        ("hangs", 0.5, "no answer within 0.5 seconds"),
        ("no_such_module_anywhere", 60, "No module named"),
    ],
)
def test_a_child_that_dies_is_evidence(module: str, timeout: float, evidence: str) -> None:
    found = probe_import(module, timeout)
    assert not found.ok
    assert evidence in found.evidence


@pytest.mark.usefixtures("misbehaving")
def test_noise_on_standard_output_does_not_spoil_the_answer() -> None:
    found = probe_import("chatters")
    assert found.ok
    assert found.evidence == "chatters 1.2 imports"
