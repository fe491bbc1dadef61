"""TensorRT keeps the promises of every runtime. NVIDIA's modules are made up here (fake_tensorrt): no GPU took part."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import fake_tensorrt
import numpy as np
import pytest
import small_networks as small

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from devices.runtimes import tensorrt_engine as engines
from devices.runtimes.cuda import Cuda
from devices.runtimes.tensorrt import TensorRTRuntime
from edge.core.errors import BundleError, LeukoError, MissingExtraError, RuntimeUnavailableError
from edge.core.protocols import Runtime


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> fake_tensorrt.Gpu:
    return fake_tensorrt.install(monkeypatch, fake_tensorrt.Gpu())


@pytest.fixture(params=["10.3.0", "11.4.0.106"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> fake_tensorrt.Gpu:
    """TensorRT as in JetPack 6, and the version that knows strongly typed networks only."""
    return fake_tensorrt.install(monkeypatch, fake_tensorrt.Gpu(tensorrt=request.param))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.onnx"
    path.write_bytes(small.onnx_network())
    return path


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "engines"


def batch(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 0.99, (count, small.SIDE, small.SIDE, 3)).astype(np.float32)


def agrees(runtime: Runtime, images: np.ndarray) -> None:
    logits, maps = small.expected(images)
    outputs = runtime.run(images)
    assert outputs.logits.dtype == outputs.features.dtype == np.float32
    np.testing.assert_allclose(outputs.logits, logits, atol=1e-5)
    np.testing.assert_allclose(outputs.features, maps, atol=1e-5)


def engine_file(kept: Path) -> Path:
    (found,) = kept.glob("*.engine")
    return found


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40])
def test_the_answer_is_the_network_s(either: fake_tensorrt.Gpu, network: Path, kept: Path, count: int) -> None:
    with TensorRTRuntime(network, cache=kept) as runtime:
        for seed in range(3):  # the later ones from recorded graphs
            agrees(runtime, batch(count, seed))


def test_full_and_single_batches_are_recorded_and_others_are_not(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path
) -> None:
    with TensorRTRuntime(network, cache=kept) as runtime:
        for seed, count in enumerate((1, 16, 5, 1, 16, 5, 21)):
            agrees(runtime, batch(count, seed))
        # The second run of 1 and of 16, and the 16 of 21; never the 5.
        assert gpu.graph_launches == 3


def test_what_cannot_be_recorded_is_run_in_the_ordinary_way(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    gpu.records = False
    with TensorRTRuntime(network, cache=kept) as runtime:
        for seed in range(3):
            agrees(runtime, batch(16, seed))
    assert gpu.graph_launches == 0
    assert gpu.nothing_held


def test_no_pictures_give_no_answers(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept) as runtime:
        outputs = runtime.run(batch(0))
    assert outputs.logits.shape == (0, 6)
    assert outputs.features.shape == (0, 2, 2, 6)


def test_another_shape_is_refused(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept) as runtime:
        assert runtime.input_shape == (small.SIDE, small.SIDE, 3)
        with pytest.raises(ValueError, match="the batch is"):
            runtime.run(np.zeros((1, 8, 8, 3), np.float32))


def test_the_stamp_says_what_ran(either: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept) as runtime:
        assert isinstance(runtime, Runtime)
        assert str(runtime.info) == "tensorrt-float32"
        assert runtime.info.version == either.tensorrt
        assert runtime.info.device == "Orin (made up)"


def test_everything_is_given_back(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    runtime = TensorRTRuntime(network, cache=kept)
    assert gpu.nothing_held
    for _ in range(2):
        with runtime:
            agrees(runtime, batch(16))
            agrees(runtime, batch(16))
            assert not gpu.nothing_held
        assert gpu.nothing_held
    with pytest.raises(RuntimeError):
        runtime.run(batch(1))


def test_no_memory_on_the_gpu_is_one_error_and_nothing_stays(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    gpu.memory = 16 * 16 * 3 * 4 * 16 - 1
    with pytest.raises(RuntimeUnavailableError) as caught, TensorRTRuntime(network, cache=kept):
        pass
    assert caught.value.code == "cuda-failed"
    assert gpu.nothing_held


# Engines are kept, and built again when anything they depend on differs.


def test_an_engine_is_built_once(either: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    for _ in range(3):
        with TensorRTRuntime(network, cache=kept) as runtime:
            agrees(runtime, batch(2))
    assert either.builds == 1


@pytest.mark.parametrize(
    "change", [{"tensorrt": "10.16.2"}, {"cuda": 13020}, {"capability": (11, 0)}], ids=lambda item: next(iter(item))
)
def test_another_version_or_chip_builds_another(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    with TensorRTRuntime(network, cache=kept):
        pass
    other = fake_tensorrt.install(monkeypatch, replace(gpu, builds=0, **change))
    with TensorRTRuntime(network, cache=kept) as runtime:
        agrees(runtime, batch(2))
    assert other.builds == 1
    assert len(list(kept.glob("*.engine"))) == 2


def test_another_network_builds_another(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept):
        pass
    network.write_bytes(small.onnx_network(with_maps=False))
    with TensorRTRuntime(network, cache=kept) as runtime:
        assert runtime.run(batch(1)).features is None
    assert gpu.builds == 2


def test_every_part_of_the_key_counts() -> None:
    key = engines.EngineKey("0" * 64, "10.3.0", "12.6", "8.7", "float16", (1, 8, 16))
    others = [
        replace(key, onnx_sha256="1" * 64),
        replace(key, tensorrt="10.3.1"),
        replace(key, cuda="12.7"),
        replace(key, compute_capability="8.9"),
        replace(key, precision="int8"),
        replace(key, batches=(1, 8, 32)),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 7
    assert replace(key).digest == key.digest


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def _header(file: Path) -> None:
    head, _, plan = file.read_bytes().partition(b"\n")
    values = json.loads(head)
    values["key"]["tensorrt"] = "9.9"
    file.write_bytes(json.dumps(values).encode() + b"\n" + plan)


DAMAGES = {
    "empty": lambda file: file.write_bytes(b""),
    "noise": lambda file: file.write_bytes(bytes(range(256)) * 40),
    "a number": lambda file: file.write_bytes(b"17\n"),
    "truncated": _truncate,
    "one bit": _flip,
    "another key": _header,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_engine_is_built_again(gpu: fake_tensorrt.Gpu, network: Path, kept: Path, damage: str) -> None:
    with TensorRTRuntime(network, cache=kept):
        pass
    DAMAGES[damage](engine_file(kept))
    with TensorRTRuntime(network, cache=kept) as runtime:
        agrees(runtime, batch(3))
    assert gpu.builds == 2


def test_an_engine_that_does_not_load_is_built_again_once(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept):
        pass
    gpu.unloadable = {engine_file(kept).read_bytes().partition(b"\n")[2]}
    with pytest.raises(RuntimeUnavailableError) as caught, TensorRTRuntime(network, cache=kept):
        pass
    assert caught.value.code == "engine-unloadable"
    assert "not compatible" in caught.value.message
    assert gpu.builds == 2
    assert gpu.nothing_held


def test_a_folder_that_cannot_be_written_costs_the_keeping_alone(
    gpu: fake_tensorrt.Gpu, network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a file"
    file.write_text("in the way")
    with caplog.at_level(logging.WARNING), TensorRTRuntime(network, cache=file) as runtime:
        agrees(runtime, batch(1))
    assert "cannot be kept" in caplog.text


def test_timings_are_kept_and_damaged_ones_are_not_taken(either: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    with TensorRTRuntime(network, cache=kept):
        pass
    (timings,) = kept.glob("timings-*.cache")
    assert either.tensorrt in timings.name and "8.7" in timings.name
    engine_file(kept).unlink()
    with TensorRTRuntime(network, cache=kept):
        pass
    assert either.timings_taken == [b"", b"timings"]
    timings.write_bytes(b"noise")
    engine_file(kept).unlink()
    with TensorRTRuntime(network, cache=kept):
        pass
    assert either.timings_taken[2:] == [b""]


def test_the_default_folder_is_the_user_s_cache(
    gpu: fake_tensorrt.Gpu, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with TensorRTRuntime(network):
        pass
    assert list((tmp_path / "cache" / "leukoscope" / "engines").glob("*.engine"))


# What cannot run says why, and what to do.


def cause(path: Path, kept: Path) -> LeukoError:
    with pytest.raises(LeukoError) as caught, TensorRTRuntime(path, cache=kept):
        pass
    assert caught.value.cure
    return caught.value


@pytest.mark.parametrize("content", [b"", b"hello", b"\xa5" * 65536], ids=lambda data: str(len(data)))
def test_a_file_that_is_no_network_is_refused(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path, content: bytes
) -> None:
    network.write_bytes(content)
    error = cause(network, kept)
    assert isinstance(error, BundleError)
    assert error.code == "model-unreadable"
    assert not kept.exists() or not list(kept.glob("*.engine"))


def test_a_missing_file_is_refused(gpu: fake_tensorrt.Gpu, tmp_path: Path, kept: Path) -> None:
    assert cause(tmp_path / "absent.onnx", kept).code == "model-unreadable"


def test_a_fixed_batch_is_refused(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    network.write_bytes(small.onnx_network(fixed_batch=True))
    assert "its batch is fixed" in cause(network, kept).message


def _stated(precision: str, content: bytes) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    model.metadata_props.add(key="leukoscope_precision", value=precision)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("precision", "words"), [("int8", "lacks Q/DQ nodes"), ("float16", "nothing in it is float16")]
)
def test_a_file_that_is_not_of_its_precision_is_refused(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path, precision: str, words: str
) -> None:
    network.write_bytes(_stated(precision, small.onnx_network()))
    assert words in cause(network, kept).message


@pytest.mark.parametrize(
    ("capability", "fit"), [((5, 3), False), ((6, 0), False), ((6, 2), False), ((6, 1), True), ((8, 7), True)]
)
def test_int8_needs_a_chip_that_has_it(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path, capability: tuple[int, int], fit: bool
) -> None:
    gpu.capability = capability
    network.write_bytes(_stated("int8", small.onnx_network()))
    assert (cause(network, kept).code == "no-int8") is not fit


def test_no_driver_and_no_gpu_are_said(gpu: fake_tensorrt.Gpu, network: Path, kept: Path) -> None:
    gpu.count = 0
    assert cause(network, kept).code == "no-gpu"
    gpu.driver = False
    assert "libcuda" in cause(network, kept).message


@pytest.mark.parametrize("version", ["8.6.2", "9.0", "unknown"])
def test_an_old_tensorrt_is_refused(network: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_tensorrt.install(monkeypatch, fake_tensorrt.Gpu(tensorrt=version))
    assert cause(network, kept).code == "tensorrt-too-old"


@pytest.mark.parametrize("module", ["tensorrt", "cuda.bindings.runtime"])
def test_a_missing_package_is_named_with_its_cure(
    gpu: fake_tensorrt.Gpu, network: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = cause(network, kept)
    assert isinstance(error, MissingExtraError)
    assert "install" in error.cure


def test_a_failed_call_is_told_in_the_vendor_s_words(gpu: fake_tensorrt.Gpu) -> None:
    cuda = Cuda.load()
    with pytest.raises(RuntimeUnavailableError, match="error 2"):
        cuda.buffer((1 << 30,))
    assert gpu.nothing_held
