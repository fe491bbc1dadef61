"""Laws 6 to 8 of docs/architecture.md, and what every file of the repository keeps to."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import syntax

RESIZERS = {"resize", "Resizing", "smart_resize", "resize_bilinear", "crop_and_resize", "thumbnail"}
# None makes an input for the network: two fake a coarser camera and give the size back, one hashes.
MAY_RESIZE = {
    ("training.data.augment", "low_resolution"),
    ("training.evaluation.corruptions", "pixelate"),
    ("training.data.splits", "difference_hash"),
}
OPENERS = {
    *(
        "open",
        "VideoCapture",
        "Picamera2",
        "CameraManager",
        "Interpreter",
        "InferenceSession",
        "Runtime",
        "parse_launch",
    ),
    *("connect", "start", "configure", "allocate_tensors"),
}
MACHINE_PATH = re.compile(r"(?<![\w.~$}/:-])/(?:home|root|Users|work|mnt|scratch)/(?!pi\b)[\w.-]+")
LOCK_LINE = re.compile(r"^(?:[a-z0-9][a-z0-9.-]*==[\w.+!]+(?: ; [^/:@]+)? \\|    --hash=sha256:[0-9a-f]{64}(?: \\)?)$")


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(syntax.tree(path)) if isinstance(node, ast.Call)]


def repository_files() -> list[Path]:
    """The files that git tracks or would track; without git, all but hidden and generated folders."""
    if shutil.which("git") and (syntax.ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=syntax.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [path for name in listed.split("\0") if name and (path := syntax.ROOT / name).is_file()]
    generated = {"build", "dist", "__pycache__", "runs"}
    return [
        path
        for path in syntax.ROOT.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(".venv") or part in generated or part.endswith(("_cache", ".egg-info"))
            for part in path.relative_to(syntax.ROOT).parts
        )
    ]


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in repository_files():
        raw = path.read_bytes()
        if b"\0" not in raw[:8192]:
            found.append((path.relative_to(syntax.ROOT), raw.decode("utf-8", errors="replace")))
    return found


def test_law_6_training_never_resizes_by_other_means() -> None:
    found = []
    for path in syntax.files("training", "quantization"):
        module = syntax.name_of(path)
        excused = {
            id(node)
            for made in ast.walk(syntax.tree(path))
            if isinstance(made, ast.FunctionDef) and (module, made.name) in MAY_RESIZE
            for node in ast.walk(made)
        }
        found += [
            f"{module}:{node.lineno} calls {syntax.called_name(node)}"
            for node in calls(path)
            if syntax.called_name(node) in RESIZERS and id(node) not in excused
        ]
    assert found == []


def test_law_7_no_constructor_touches_hardware() -> None:
    found = []
    for path in syntax.files("devices"):
        for made in ast.walk(syntax.tree(path)):
            if not isinstance(made, ast.ClassDef):
                continue
            methods = {node.name: node for node in made.body if isinstance(node, ast.FunctionDef)}
            if "__enter__" not in methods or "__init__" not in methods:
                continue
            for node in ast.walk(methods["__init__"]):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    found.append(f"{made.name}.__init__:{node.lineno} imports")
                if isinstance(node, ast.Call) and syntax.called_name(node) in OPENERS:
                    found.append(f"{made.name}.__init__:{node.lineno} calls {syntax.called_name(node)}")
    assert found == []


def test_law_8_only_the_command_line_prints() -> None:
    found = []
    for path in syntax.files():
        module = syntax.name_of(path)
        if syntax.within(module, "edge.cli"):
            continue
        for node in ast.walk(syntax.tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"print", "input"}:
                found.append(f"{module}:{node.lineno} calls {node.func.id}")
            if (
                isinstance(node, ast.Attribute)
                and node.attr in {"stdout", "stderr"}
                and isinstance(node.value, ast.Name)
                and node.value.id == "sys"
            ):
                found.append(f"{module}:{node.lineno} uses sys.{node.attr}")
    assert found == []


def test_no_file_is_longer_than_400_lines() -> None:
    paths = [path for path in repository_files() if path.suffix == ".py"]
    assert paths
    lengths = {str(path.relative_to(syntax.ROOT)): path.read_bytes().count(b"\n") for path in paths}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    # The scripts of devices/verify make systems of their own, and name places inside these.
    found = [
        f"{path}: {match[0]}"
        for path, text in texts()
        if not str(path).startswith("devices/verify/")
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("text", ["cd /" + "home/ann/leuko", '"/' + 'work/data/x.png"', "(/" + "root/.cache)"])
def test_a_machine_path_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


def test_locks_hold_versions_and_hashes_and_nothing_else() -> None:
    locks = sorted((syntax.ROOT / "locks").glob("*.txt"))
    assert [path.name for path in locks] == ["dev.txt", "device.txt", "train.txt"]
    for path in locks:
        odd = [line for line in path.read_text().splitlines() if not LOCK_LINE.match(line)]
        assert odd == [], path.name


def test_the_device_is_locked_to_what_the_tests_ran_on() -> None:
    def pins(name: str) -> set[str]:
        lines = (syntax.ROOT / "locks" / name).read_text().splitlines()
        # Without the marker: a package that the device needs on one Python only, the tests may need on all.
        return {line.removesuffix(" \\").partition(" ;")[0] for line in lines if "==" in line}

    assert pins("device.txt") <= pins("dev.txt") <= pins("train.txt")
    assert not [pin for pin in pins("dev.txt") if pin.startswith(("tensorflow", "keras", "torch"))]


def test_unwritten_work_is_an_issue_not_a_comment() -> None:
    words = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [f"{path}: {match[0]}" for path, text in texts() for match in words.finditer(text)]
    assert found == []


def test_every_public_module_says_what_it_is_for() -> None:
    spoken = [path for path in syntax.files() if path.stat().st_size]
    silent = [str(path.relative_to(syntax.ROOT)) for path in spoken if not ast.get_docstring(syntax.tree(path))]
    assert silent == []
