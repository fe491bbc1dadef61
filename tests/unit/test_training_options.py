"""The options of a run: every setting has one, in its group, and what is not given is left to the network."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from edge.cli.main import app
from edge.cli.train import options
from training.config import RunConfig

SET_BY_THE_COMMAND = {"distillation_share", "distillation_temperature", "view_size"}


def help_of(*command: str) -> str:
    done = CliRunner().invoke(app, ["train", *command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("command", ["fit", "distill", "search", "crossval"])
def test_every_setting_of_a_run_has_an_option(command: str) -> None:
    text = help_of(command)
    missing = [
        field.name
        for field in fields(RunConfig)
        if field.name not in SET_BY_THE_COMMAND and f"--{field.name.replace('_', '-')}" not in text
    ]
    assert missing == []


def test_the_options_stand_in_their_groups() -> None:
    text = help_of("fit")
    headings = [line.strip() for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Network:", "Loss:", "Optimizer:", "Length:", "Cells:"]
    assert text.index("Loss:") < text.index("--label-smoothing") < text.index("Optimizer:")


def given(*arguments: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    @options.run_options("batch")
    def command(out: Path, settings: dict[str, Any], batch: int = 7, config: Path | None = None) -> None:
        seen.update(settings, out=out, batch=batch, config=config)

    own = typer.Typer()
    own.command(cls=options.GroupedCommand)(command)
    done = CliRunner().invoke(own, ["run", *arguments])
    assert done.exit_code == 0, done.output
    return seen


def test_what_is_given_reaches_the_command_and_the_rest_is_none() -> None:
    arguments = ["--no-attention", "--leave-out", "bccd", "--leave-out", "pbc", "--batch", "9", "--config", "a.json"]
    seen = given(*arguments, "--learning-rate", "0.002")
    told = {name: value for name, value in seen.items() if value is not None}
    assert told == {
        "attention": False,
        "leave_out": ["bccd", "pbc"],
        "learning_rate": 0.002,
        "batch": 9,
        "config": Path("a.json"),
        "out": Path("run"),
    }
    assert given()["leave_out"] is None
    assert given()["batch"] == 7
