"""The configuration: what applies over what, and that a mistake is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import config
from edge.core.errors import UsageError
from edge.core.labels import LABELS


def written(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | None, environment: dict[str, str] | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        config.load(path, environment or {})
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return caught.value


def test_the_defaults_are_whole() -> None:
    settings = config.load(environment={})
    assert settings.threads == 0
    assert tuple(settings.ranges.by_label()) == LABELS
    assert settings.device_name
    assert settings.data_path.is_absolute()
    assert settings.database_path.parent == settings.data_path


def test_the_environment_stands_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, 'operator = "file"\ndevice = "file"\n[ranges]\nbasophil = [0.0, 2.5]\n')
    settings = config.load(path, {"LEUKO_OPERATOR": "environment"})
    assert (settings.operator, settings.device_name, settings.threads) == ("environment", "file", 0)
    assert settings.ranges.basophil == (0.0, 2.5)
    assert settings.ranges.neutrophil == config.load(environment={}).ranges.neutrophil
    assert settings.ranges.profile == config.load(environment={}).ranges.profile


def test_the_environment_names_the_file_and_an_argument_stands_over_it(tmp_path: Path) -> None:
    path = written(tmp_path, "threads = 3")
    assert config.load(environment={"LEUKO_CONFIG": str(path)}).threads == 3
    other = tmp_path / "other.toml"
    other.write_text("threads = 4")
    assert config.load(other, {"LEUKO_CONFIG": str(path)}).threads == 4


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("LEUKO_OPERATOR", "operator"),
        ("LEUKO_DEVICE", "device"),
        ("LEUKO_DATA_FOLDER", "data_folder"),
        ("LEUKO_BUNDLE", "bundle"),
    ],
)
def test_each_variable_sets_its_key(variable: str, key: str) -> None:
    assert getattr(config.load(environment={variable: "a value"}), key) == "a value"


def test_a_folder_of_the_user_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.load(environment={"LEUKO_DATA_FOLDER": "~/results"}).data_path == tmp_path / "results"


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ('operator = "x"\n\nthread = 2\n', 3, "thread"),
        ("# a remark\n[ranges]\nneutrophils = [1.0, 2.0]\n", 3, "neutrophils"),
        ("[range]\nneutrophil = [1.0, 2.0]\n", 1, "range"),
        ('operator = "x"\nthreads = "two"\n', 2, "threads"),
        ("threads = -1\n", 1, "threads"),
        ("\n\n\nthreads = 65\n", 4, "threads"),
        ("threads = 1.5\n", 1, "threads"),
        ("operator = 7\n", 1, "operator"),
        ("threads = 2\nranges = 1\n", 2, "ranges"),
        ("[ranges]\nprofile = 1\n", 2, "profile"),
        ("[ranges]\nmonocyte = [2.0]\n", 2, "monocyte"),
        ("[ranges]\nmonocyte = [2.0, 108.0]\n", 2, "monocyte"),
        ("[ranges]\nmonocyte = [-1.0, 8.0]\n", 2, "monocyte"),
        ('[ranges]\nmonocyte = ["2", "8"]\n', 2, "monocyte"),
        ("threads = 2\nthreads = 3\n", 2, ""),
        ("threads = 2\noperator = unquoted\n", 2, ""),
    ],
)
def test_a_mistake_is_refused_with_its_line(tmp_path: Path, text: str, line: int, named: str) -> None:
    path = written(tmp_path, text)
    problem = refusal(path)
    assert problem.code == "configuration-invalid"
    assert str(path) in problem.message
    assert f"line {line}" in problem.message
    assert named in problem.message


def test_a_range_that_runs_backwards_is_refused(tmp_path: Path) -> None:
    problem = refusal(written(tmp_path, "[ranges]\neosinophil = [4.0, 1.0]\n"))
    assert "eosinophil" in problem.message


def test_a_range_of_not_a_number_is_refused(tmp_path: Path) -> None:
    # Every comparison with it is false: a range of it would flag nothing, ever.
    assert "eosinophil" in refusal(written(tmp_path, "[ranges]\neosinophil = [nan, nan]\n")).message


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.toml").code == "configuration-missing"
    assert refusal(tmp_path).code == "configuration-unreadable"
    (tmp_path / "latin.toml").write_bytes('operator = "Müller"'.encode("latin-1"))
    assert refusal(tmp_path / "latin.toml").code == "configuration-unreadable"
    assert refusal(None, {"LEUKO_CONFIG": str(tmp_path / "absent.toml")}).code == "configuration-missing"
