"""The options of a run, in groups, for every command that trains: one table in place of one signature each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand


class _Option(NamedTuple):
    name: str
    kind: Any
    group: str
    help: str
    metavar: str | None = None


_OPTIONS = (
    _Option("model", str, "Network", "Name of the network: student, full, baseline, transfer, ...", "NAME"),
    _Option("backbone", str, "Network", "Pretrained base; the network's own without.", "NAME"),
    _Option("attention", bool, "Network", "With CBAM, where the network has it."),
    _Option("pretrained", bool, "Network", "Start from ImageNet weights."),
    _Option("size", int, "Network", "Side of the input in pixels."),
    _Option("margin", float, "Network", "Side of the crop in nucleus diameters."),
    _Option("alpha", float, "Network", "Width of a MobileNetV2."),
    _Option("last", int, "Network", "Channels of the student's last convolution."),
    _Option("dropout", float, "Network", "Share of the features that the head does not see."),
    _Option("loss", str, "Loss", "cross-entropy, weighted, class-balanced or focal.", "NAME"),
    _Option("label_smoothing", float, "Loss", "Share of each target that is spread over all classes."),
    _Option("optimizer", str, "Optimizer", "adam or adamw.", "NAME"),
    _Option("learning_rate", float, "Optimizer", "Peak of the learning rate."),
    _Option("fine_tuning_rate", float, "Optimizer", "Peak after the frozen epochs; 0: the same."),
    _Option("warmup_epochs", float, "Optimizer", "Epochs until the peak is reached."),
    _Option("weight_decay", float, "Optimizer", "Decay of the weights, adamw only."),
    _Option("averaging", float, "Optimizer", "Decay of the moving average of the weights, per step."),
    _Option("mixed_precision", bool, "Optimizer", "Half precision; by itself where there is a GPU."),
    _Option("epochs", int, "Length", "Epochs, the frozen ones among them."),
    _Option("steps", int, "Length", "Batches per epoch."),
    _Option("batch", int, "Length", "Crops per batch, over all devices."),
    _Option("frozen_epochs", int, "Length", "First epochs in which the pretrained base is frozen."),
    _Option("patience", int, "Length", "End after so many epochs without a better score; 0: never."),
    _Option("other_share", float, "Cells", "Share of `other` in each batch."),
    _Option("rendered_share", float, "Cells", "Share of rendered cells in each class."),
    _Option("generated_share", float, "Cells", "Share of generated cells in the classes that have some."),
    _Option("noise_reduction", str, "Cells", "Filter before the network: none or median.", "NAME"),
    _Option("stain", str, "Cells", "Stain normalisation before the network: none or nucleus.", "NAME"),
    _Option("augmentation", float, "Cells", "Scales the chance of every step of the random microscope, 0 to 1."),
    _Option("leave_out", list[str], "Cells", "Source that is neither trained on nor used to choose.", "SOURCE"),
    _Option("split_seed", int, "Cells", "Decides which cells are for training, validation and test."),
    _Option("seed", int, "Cells", "Decides the batches and the first weights."),
)
"""Fields of `training.config.RunConfig`. What is not given keeps the value that suits the network."""

_CONFIG = typer.Option(
    help="Start values, JSON such as a run's config.json.", metavar="FILE", rich_help_panel="Network"
)


class GroupedCommand(TyperCommand):
    """A command whose help shows the options of a run under the name of their group."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own options first, then each group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                group = getattr(parameter, "rich_help_panel", None) or "Options"
                groups.setdefault(group, []).append(record)
        for name, records in sorted(groups.items(), key=lambda item: item[0] != "Options"):
            with formatter.section(name):
                formatter.write_dl(records)


def _parameters(left_out: frozenset[str]) -> list[inspect.Parameter]:
    made = [
        inspect.Parameter(
            "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, _CONFIG]
        )
    ]
    for option in _OPTIONS:
        if option.name in left_out:
            continue
        told = typer.Option(help=option.help, metavar=option.metavar, rich_help_panel=option.group)
        made.append(
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[option.kind | None, told],
            )
        )
    return made


def run_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a run in place of its parameter `settings`, a dict of what was given.

    Its parameter `config` is the file of `--config`. `left_out` are fields that the command sets itself.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        names = {option.name for option in _OPTIONS} - set(left_out)
        signature = inspect.signature(command, eval_str=True)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in signature.parameters.items()
            if name not in {"settings", "config"}
        ]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            settings = {name: given.pop(name) for name in list(given) if name in names}
            # A list that was not given is empty, which is a value.
            if not settings.get("leave_out"):
                settings["leave_out"] = None
            command(settings=settings, **given)

        parameters = [*own, *_parameters(frozenset(left_out))]
        wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapped

    return decorate


def configuration(settings: dict[str, Any], config: Path | None) -> Any:
    """Make the RunConfig that the options ask for. Half precision is used where there is a GPU, unless it is said."""
    from training.distribution import default_mixed_precision
    from training.settings import read, resolve

    if settings.get("mixed_precision") is None and "mixed_precision" not in (read(config) if config else {}):
        settings = {**settings, "mixed_precision": default_mixed_precision()}
    return resolve(settings, config)
