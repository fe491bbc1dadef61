"""A bundle is what its manifest says, or it is refused."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path

import bundles
import numpy as np
import numpy.typing as npt
import pytest
import small_networks as small
from typer.testing import CliRunner, Result

from edge.bundle import find, golden, manifest, verify
from edge.core.errors import BundleError, RuntimeUnavailableError
from edge.core.types import Outputs, RuntimeInfo
from edge.inference import negotiate

pytest.importorskip("ai_edge_litert")

ALL_KINDS = tuple(bundles.NETWORKS)


class FixedRuntime:
    """Answers each batch with what `answer` makes of the true logits."""

    info = RuntimeInfo("fixed", "1", "float32", "cpu", 1)

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __enter__(self) -> FixedRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, batch: npt.NDArray[np.float32]) -> Outputs:
        return Outputs(self._answer(small.expected(batch)[0].astype(np.float32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.build(tmp_path / "bundle")


def test_a_manifest_written_and_read_is_the_same(folder: Path) -> None:
    loaded = manifest.load(folder)
    assert manifest.parse(manifest.dump(loaded)) == loaded
    assert loaded.identity == "small@1.2.3"


def test_the_identity_of_the_content_is_the_hash_of_the_manifest_s_file(folder: Path) -> None:
    written = (folder / "manifest.json").read_bytes()
    loaded = manifest.load(folder)
    assert loaded.sha256 == hashlib.sha256(written).hexdigest()
    compact = b"".join(line.strip() for line in written.splitlines())
    assert manifest.parse(compact).sha256 == hashlib.sha256(compact).hexdigest()


def test_the_preprocessing_is_the_one_that_the_manifest_states(folder: Path) -> None:
    stated = manifest.load(folder).preprocessing
    used = stated.to_preprocessing()
    for name in stated.__struct_fields__:
        assert getattr(used, name) == getattr(stated, name)


def test_a_manifest_that_could_not_be_read_is_not_written(folder: Path) -> None:
    import msgspec

    wrong = msgspec.structs.replace(manifest.load(folder), name="../up")
    with pytest.raises(BundleError):
        manifest.dump(wrong)


@pytest.mark.parametrize("place", ["nothing", "a file"])
def test_a_missing_bundle_is_named(tmp_path: Path, place: str) -> None:
    path = tmp_path / "absent"
    if place == "a file":
        path.write_text("")
    with pytest.raises(BundleError) as caught:
        manifest.load(path)
    assert caught.value.code == "bundle-missing"
    assert str(path) in caught.value.message
    assert caught.value.cure


@pytest.mark.parametrize("kinds", [ALL_KINDS[:1], ALL_KINDS])
def test_a_sound_bundle_passes_on_the_real_runtimes(tmp_path: Path, kinds: tuple[tuple[str, str], ...]) -> None:
    if ("onnxruntime", "float32") in kinds:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    folder = bundles.build(tmp_path / "bundle", kinds)
    for choice in negotiate.every(manifest.load(folder)):
        with choice.open(folder) as runtime:
            report = verify.verify(folder, runtime)
        assert report.ok
        verify.require(report)
        assert report.golden[0].vectors > 5
        assert 0 < report.golden[0].difference <= bundles.TOLERANCE


@pytest.mark.parametrize("name", ["network-int8.tflite", "golden.npz", "model_card.md"])
@pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "gone", "folder"])
def test_any_damage_to_any_file_is_found_and_the_network_is_not_run(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "shorter":
        path.write_bytes(data[:-1])
    elif damage == "longer":
        path.write_bytes(data + b"\0")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()

    def never(_: object) -> None:
        raise AssertionError("the network was run")

    report = verify.verify(folder, FixedRuntime(never))
    assert not report.ok
    assert [check.file for check in report.files if not check.ok] == [name]
    for call in (partial(verify.require, report), partial(verify.require_files, manifest.load(folder), folder)):
        with pytest.raises(BundleError) as caught:
            call()
        assert caught.value.code == "bundle-damaged"
        assert name in caught.value.message
        assert caught.value.cure


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (lambda logits: logits, True),
        (lambda logits: logits + 0.9 * bundles.TOLERANCE, True),
        (lambda logits: logits + 1.1 * bundles.TOLERANCE, False),
        (lambda logits: logits[:, ::-1], False),
        (np.zeros_like, False),
        (lambda logits: logits * np.float32("nan"), False),
        (lambda logits: np.where(np.arange(len(logits))[:, None] == 3, logits + 1, logits), False),
    ],
    ids=["exact", "within", "beyond", "mirrored", "zero", "nan", "one-vector"],
)
def test_golden_vectors_must_reproduce(folder: Path, answer: object, passes: bool) -> None:
    report = verify.verify(folder, FixedRuntime(answer))
    assert report.files_ok
    assert report.ok is passes
    if not passes:
        with pytest.raises(BundleError) as caught:
            verify.require(report)
        assert caught.value.code == "golden-not-reproduced"


def test_a_network_with_another_number_of_classes_is_a_mismatch(folder: Path) -> None:
    with pytest.raises(BundleError) as caught:
        verify.verify(folder, FixedRuntime(lambda logits: logits[:, :5]))
    assert caught.value.code == "model-mismatch"


def test_a_bundle_that_no_runtime_tried_is_not_fit(folder: Path) -> None:
    report = verify.verify(folder)
    assert report.files_ok
    assert not report.ok
    with pytest.raises(BundleError):
        verify.require(report)


def test_a_variant_is_held_against_the_reference_of_its_own_precision(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle")
    pictures = bundles.crops()
    logits = small.expected(bundles.network_input(pictures))[0].astype(np.float32)
    bundles.replace_golden(folder, golden.pack(pictures, logits, 0.1, {"float32": logits + 5}))
    assert verify.verify(folder, FixedRuntime(lambda logits: logits + 5)).ok
    assert not verify.verify(folder, FixedRuntime(lambda logits: logits)).ok


def test_only_decisive_vectors_become_golden() -> None:
    logits = np.array([[1.0, 0, 0, 0, 0, 0], [1.0, 0.9, 0, 0, 0, 0], [0, 0, 0, 0, 0, 2.0]], np.float32)
    assert golden.decisive(logits, 0.1).tolist() == [True, False, True]
    with pytest.raises(BundleError):
        golden.pack(bundles.crops(3), logits, 1.5)


def test_shipped_bundles_are_sound() -> None:
    folders = find.available()
    if not folders:
        pytest.skip("this checkout has no shipped bundle yet: run the training")
    assert find.default() in folders
    for folder in folders:
        loaded = manifest.load(folder)
        assert loaded.name == folder.name
        with negotiate.choose(loaded, folder).open(folder) as runtime:
            verify.require(verify.verify(folder, runtime))


# Which variant runs, and why the others do not.


def test_the_integer_network_is_preferred(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle", (("litert", "float32"), ("litert", "int8")))
    choice = negotiate.choose(manifest.load(folder), folder)
    assert (choice.variant.runtime, choice.variant.precision) == ("litert", "int8")
    assert choice.refused == ()


def test_falling_back_says_why(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle", (("litert", "int8"), ("litert", "float32")))
    choice = negotiate.choose(
        manifest.load(folder), folder, trial=lambda _, model: "was killed by SIGILL" if "int8" in model.name else None
    )
    assert choice.variant.precision == "float32"
    assert [str(refusal) for refusal in choice.refused] == ["litert-int8: was killed by SIGILL"]


def test_when_nothing_runs_every_variant_has_its_reason(tmp_path: Path) -> None:
    folder = bundles.build(tmp_path / "bundle", (("litert", "int8"), ("litert", "float32")))
    (folder / "network-int8.tflite").unlink()
    with pytest.raises(RuntimeUnavailableError) as caught:
        negotiate.choose(manifest.load(folder), folder, preferred=(("litert", "int8"),))
    assert "network-int8.tflite is missing" in caught.value.message
    assert "not among the runtimes that are allowed" in caught.value.message
    assert caught.value.exit_code == 3
    assert "pip install" in caught.value.cure


def test_a_runtime_that_is_not_installed_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundles.build(tmp_path / "bundle")
    monkeypatch.setattr(negotiate, "PACKAGES", {"litert": ("no_such_package",)})
    with pytest.raises(RuntimeUnavailableError) as caught:
        negotiate.choose(manifest.load(folder), folder)
    assert "no-such-package is not installed" in caught.value.message


# The commands.


def leuko(*arguments: str) -> Result:
    from edge.cli import model

    return CliRunner().invoke(model.app, list(arguments))


@pytest.fixture
def in_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEUKO_BUNDLE", str(folder))
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_show_gives_the_manifest_as_it_is(in_use: Path, named: bool) -> None:
    done = leuko("show", *([str(in_use)] if named else []), "--json")
    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert shown["manifest"] == bundles.document(in_use)
    assert shown["sha256"] == manifest.load(in_use).sha256
    text = leuko("show").stdout
    for fact in ("small@1.2.3", "temperature 1.5", "knows nothing of cells", "CC0-1.0", "recall of neutrophil 0.500"):
        assert fact in text


def test_verify_gives_its_findings_and_fails_when_one_is_bad(in_use: Path) -> None:
    done = leuko("verify", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["ok"] is True
    assert [check["file"] for check in found["files"]] == ["network-int8.tflite", "golden.npz", "model_card.md"]
    assert found["golden"][0]["runtime"] == "litert-int8"
    (in_use / "golden.npz").write_bytes(b"")
    done = leuko("verify", "--json")
    assert isinstance(done.exception, BundleError)
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert [check["fault"] is None for check in found["files"]] == [True, False, True]
    assert found["golden"] == []
    assert "FAIL  golden.npz" in leuko("verify").stdout


def test_list_marks_the_one_in_use_and_names_a_damaged_one(in_use: Path) -> None:
    rows = json.loads(leuko("list", "--json").stdout)
    (marked,) = (row for row in rows if row["in_use"])
    assert marked["folder"] == str(in_use)
    assert marked["bundle"] == "small@1.2.3"
    (in_use / "manifest.json").write_text("{}")
    (marked,) = (row for row in json.loads(leuko("list", "--json").stdout) if row["in_use"])
    assert marked["error"]["code"] == "manifest-invalid"
    assert "damaged" in leuko("list").stdout
