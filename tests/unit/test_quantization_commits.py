"""Which commit a bundle states: exactly the code that made it, or none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from quantization import commits


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("edge", "devices", "training", "quantization"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "commits.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_of_the_code_is_found(checkout: Path) -> None:
    assert commits.current(checkout) == git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("not code")
    assert commits.current(checkout) is not None


def test_changed_code_has_no_commit(checkout: Path) -> None:
    (checkout / "training" / "commits.py").write_text("changed = True")
    assert commits.current(checkout) is None


def test_a_package_inside_another_repository_has_no_commit(checkout: Path) -> None:
    inside = checkout / "venv" / "packages"
    (inside / "quantization").mkdir(parents=True)
    (inside / "quantization" / "commits.py").write_text("")
    assert commits.current(inside) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert commits.current(checkout) is None
