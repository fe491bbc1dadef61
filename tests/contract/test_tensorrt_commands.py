"""`leuko quantize tensorrt`, the choice of TensorRT and the scripts, as far as they go without a GPU."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import bundles
import fake_tensorrt
import pytest
import small_networks as small
from commands import ROOT, assert_refused, environment, leuko
from typer.testing import CliRunner

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge.bundle import manifest
from edge.cli.main import app
from edge.core.errors import BundleError, LeukoError
from edge.health import engines
from edge.inference import negotiate

ONNX = (("onnxruntime", "float32"),)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundles.build(tmp_path / "bundle", (*ONNX, ("litert", "int8")))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fake_tensorrt.Gpu:
    """A device with TensorRT: its modules, and the file by which its driver is known."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(negotiate, "GPU_FILES", (str(tmp_path / "nvidia0"),))
    monkeypatch.setattr(negotiate, "_installed", lambda package: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake_tensorrt.install(monkeypatch, fake_tensorrt.Gpu())


def answer(*words: str | Path) -> dict[str, object]:
    found = CliRunner().invoke(app, ["quantize", "tensorrt", *map(str, words), "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_the_command_builds_keeps_and_proves(gpu: fake_tensorrt.Gpu, bundle: Path, tmp_path: Path) -> None:
    first = answer(bundle, "--precision", "fp32")
    assert first["key"] == {
        "onnx_sha256": bundles.sha256((bundle / "network-float32.onnx").read_bytes()),
        "tensorrt": "10.3.0",
        "cuda": "12.6",
        "compute_capability": "8.7",
        "precision": "float32",
        "batches": [1, 8, 16],
    }
    assert Path(str(first["engine"])).parent == tmp_path / "cache" / "leukoscope" / "engines"
    assert first["golden"]["ok"] is True
    assert first["golden"]["agreeing"] == first["golden"]["vectors"] > 0
    assert first["seconds"] >= 0
    assert answer(bundle, "--precision", "fp32")["seconds"] == 0
    assert gpu.builds == 1
    answer(bundle, "--precision", "fp32", "--fresh")
    assert gpu.builds == 2


def test_a_bare_file_is_built_in_what_it_is_in(gpu: fake_tensorrt.Gpu, bundle: Path, tmp_path: Path) -> None:
    found = answer(bundle / "network-float32.onnx", "--out", tmp_path / "engines")
    assert found["key"]["precision"] == "float32"
    assert found["golden"] is None
    assert list((tmp_path / "engines").glob("*.engine"))


def test_the_answer_for_people_names_engine_and_golden_vectors(gpu: fake_tensorrt.Gpu, bundle: Path) -> None:
    found = CliRunner().invoke(app, ["quantize", "tensorrt", str(bundle), "--precision", "fp32"])
    assert found.exit_code == 0
    assert "TensorRT 10.3.0, CUDA 12.6" in found.stdout
    assert "keep their class" in found.stdout


def test_measuring_compares_with_the_cpu(gpu: fake_tensorrt.Gpu, bundle: Path) -> None:
    from edge.health import engine_measure

    found = engine_measure.measure(bundle, "float32", rounds=3, cells_per_class=1)
    assert found.cells == found.agreeing == 5
    assert found.largest_difference == pytest.approx(0, abs=1e-5)
    assert set(found.recall_change.values()) == {0.0}
    assert [times.batch for times in found.times] == [1, 8, 16]
    assert all(times.cpu_median > 0 for times in found.times)
    assert gpu.nothing_held


def test_an_engine_that_computes_wrongly_is_not_approved(
    gpu: fake_tensorrt.Gpu, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from devices.runtimes import tensorrt
    from edge.core.types import Outputs

    honest = tensorrt.TensorRTRuntime.run
    monkeypatch.setattr(
        tensorrt.TensorRTRuntime, "run", lambda self, batch: Outputs(honest(self, batch).logits + np.float32(0.2))
    )
    with pytest.raises(BundleError) as caught:
        CliRunner().invoke(app, ["quantize", "tensorrt", str(bundle), "--precision", "fp32"], catch_exceptions=False)
    assert caught.value.code == "golden-not-reproduced"


def refusal(source: Path, precision: str | None = None) -> LeukoError:
    with pytest.raises(LeukoError) as caught:
        engines.build(source, precision)
    return caught.value


def test_half_floats_are_the_default_and_their_absence_is_said(gpu: fake_tensorrt.Gpu, bundle: Path) -> None:
    error = refusal(bundle)
    assert error.code == "no-such-variant"
    assert "float16" in error.message and "it has float32" in error.message
    assert refusal(bundle, "int8").code == "no-such-variant"


def test_a_file_is_never_converted(gpu: fake_tensorrt.Gpu, bundle: Path) -> None:
    error = refusal(bundle / "network-float32.onnx", "float16")
    assert error.code == "another-precision"
    assert gpu.builds == 0


def test_a_damaged_bundle_is_not_built_from(gpu: fake_tensorrt.Gpu, bundle: Path) -> None:
    network = bundle / "network-float32.onnx"
    network.write_bytes(network.read_bytes()[:-1] + b"\x00")
    assert refusal(bundle, "float32").code == "bundle-damaged"
    assert gpu.builds == 0


# The choice among runtimes.


def test_without_a_gpu_tensorrt_is_refused_with_the_reason(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiate, "GPU_FILES", ("/nowhere/nvidia0",))
    choice = negotiate.choose(manifest.load(bundle), bundle, preferred=(("tensorrt", "float32"), *negotiate.PREFERRED))
    assert choice.factory == negotiate.FACTORIES["litert"]
    (refused,) = choice.refused
    assert str(refused) == "tensorrt-float32: this device has no NVIDIA GPU"
    assert refused.expected


@pytest.mark.parametrize(
    ("missing", "words"), [("tensorrt", "tensorrt is not"), ("cuda.bindings", "cuda-python is not")]
)
def test_with_a_gpu_the_missing_package_is_the_reason(
    gpu: fake_tensorrt.Gpu, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    monkeypatch.setattr(negotiate, "_installed", lambda package: package != missing)
    reason, expected = negotiate.tensorrt_obstacle()
    assert words in reason
    assert not expected


@pytest.mark.parametrize(("version", "reason"), [("8.6.1", "older than 10"), ("10.3.0", ""), ("11.4.0.106", "")])
def test_an_old_version_is_a_reason(
    gpu: fake_tensorrt.Gpu, monkeypatch: pytest.MonkeyPatch, version: str, reason: str
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    found, _ = negotiate.tensorrt_obstacle()
    assert reason in found
    assert bool(found) == bool(reason)


def test_with_a_gpu_the_bundle_runs_on_it(gpu: fake_tensorrt.Gpu, tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "large", ONNX)
    choice = negotiate.choose(manifest.load(folder), folder)
    with choice.open(folder) as runtime:
        assert str(runtime.info) == "tensorrt-float32"
        logits = runtime.run(bundles.network_input(bundles.crops(3))).logits
    assert abs(logits - small.expected(bundles.network_input(bundles.crops(3)))[0]).max() < 1e-5


def test_every_variant_includes_tensorrt_where_that_is(
    gpu: fake_tensorrt.Gpu, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = manifest.load(bundle)
    assert [choice.factory.rpartition(":")[2] for choice in negotiate.every(loaded)] == [
        "OnnxRuntime",
        "LiteRTRuntime",
        "TensorRTRuntime",
    ]
    monkeypatch.setattr(negotiate, "GPU_FILES", ())
    assert len(negotiate.every(loaded)) == 2


def test_a_runtime_for_another_device_is_not_warned_of(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(negotiate, "GPU_FILES", ())
    monkeypatch.setenv("LEUKO_DATA_FOLDER", str(tmp_path / "data"))
    from edge import config
    from edge.health import device

    folder = bundles.build(tmp_path / "large", ONNX)
    bundles.rewrite(folder, lambda values: values["variants"][0].update(precision="float16"))
    with caplog.at_level(logging.INFO):
        choice = device.negotiate(config.load(), manifest.load(folder), folder)
    assert choice.factory == negotiate.FACTORIES["onnxruntime"]
    (record,) = [record for record in caplog.records if "tensorrt" in record.getMessage()]
    assert "no NVIDIA GPU" in record.getMessage()
    assert record.levelno == logging.INFO


# As a user meets it here.


def test_the_command_says_what_is_missing(bundle: Path, tmp_path: Path) -> None:
    done = leuko(tmp_path, "quantize", "tensorrt", bundle, "--precision", "fp32")
    assert_refused(done, 3, "[tensorrt-missing]", "python3-libnvinfer")


def test_the_command_needs_a_source(tmp_path: Path) -> None:
    done = leuko(tmp_path, "quantize", "tensorrt", tmp_path / "absent")
    assert done.code == 2
    assert "[file-missing]" in done.err


def script(name: str, home: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "devices" / "verify" / name), *map(os.fspath, words)],
        cwd=home,
        env={**environment(home, **more), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", ["jetson.sh", "aarch64.sh"])
def test_the_scripts_explain_themselves_and_refuse_what_they_do_not_know(name: str, tmp_path: Path) -> None:
    assert "usage:" in script(name, tmp_path, "--help").stdout
    for words in (("--frobnicate",), ("--bundle",)):
        done = script(name, tmp_path, *words)
        assert done.returncode == 2
        assert "usage:" in done.stderr


@pytest.mark.parametrize("name", ["jetson.sh", "aarch64.sh"])
def test_the_scripts_need_a_bundle(name: str, tmp_path: Path) -> None:
    done = script(name, tmp_path, "--bundle", tmp_path / "absent")
    assert done.returncode == 3
    assert "manifest.json" in done.stderr or "not x86-64" in done.stderr


def test_the_jetson_proof_ends_with_the_reason_where_there_is_no_gpu(bundle: Path, tmp_path: Path) -> None:
    if not negotiate.tensorrt_obstacle()[0]:
        pytest.skip("this machine has TensorRT: run devices/verify/jetson.sh")
    done = script("jetson.sh", tmp_path, "--bundle", bundle, "--out", tmp_path / "proof")
    assert done.returncode == 3
    assert "TensorRT cannot be proven here" in done.stderr
    assert not (tmp_path / "proof").exists()
