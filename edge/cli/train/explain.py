"""`leuko train explain`: what the calls of a trained network rest on, by several methods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import output
from edge.cli.train.common import Run, require_extra


def explain(  # noqa: PLR0917  # options, given by name
    run: Run,
    out: Annotated[Path, typer.Option(help="Folder for the pictures and explain.json.", metavar="DIR")],
    # Text, since an empty name would be the current folder as a Path.
    pictures: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures of single cells, or folders.", show_default=False, metavar="PICTURE..."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Explain validation cells of this folder of labelled images instead.", metavar="DIR"),
    ] = None,
    per_class: Annotated[int, typer.Option(min=1, help="With --data: cells of each class.")] = 10,
    fields: Annotated[bool, typer.Option("--fields", help="The pictures are whole fields.")] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(help="grad-cam, gradients, smoothgrad, occlusion or lime; all without.", metavar="NAME"),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--class", help="Class to explain; the called one without.", metavar="NAME")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of Grad-CAM; the last one before the average without.", metavar="NAME")
    ] = None,
    lime_samples: Annotated[int, typer.Option(min=20, help="Pictures that LIME asks for each cell.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise, LIME's samples and the choice of cells.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print explain.json instead of the table.")] = False,
) -> None:
    """Show where a network looked, one picture per cell, and measure how far the methods agree with the device."""
    require_extra("train", "matplotlib", "skimage", "sklearn")
    from edge.core.durable import write_bytes
    from edge.core.errors import NothingToDoError, UsageError
    from training.explain import sheet, study, summary

    if bool(pictures) == (data is not None):
        raise UsageError("what-to-explain", "Give either pictures or --data.", "For example: --data DIR --per-class 10")
    settings = study.Settings(
        methods=tuple(dict.fromkeys(method or study.METHODS)),
        target=target,
        layer=layer,
        lime_samples=lime_samples,
        seed=seed,
    )
    _make_folder(out)
    errors: list[dict[str, Any]] = []
    explained: list[study.Explanation] = []
    with study.open_run(run) as opened:
        subjects = (
            _of_data(data, run, opened.config, per_class, seed)
            if data is not None
            else _of_pictures(pictures or [], opened.config, fields, errors)
        )
        for number, subject in enumerate(subjects, start=1):
            output.progress(number, "cells")
            explanation = study.explain(opened, subject, settings)
            write_bytes(out / _file_name(number, explanation), sheet.draw(explanation))
            explained.append(explanation)
    output.progress_end()
    document = summary.document(explained, settings, errors)
    write_bytes(out / "explain.json", _as_json(document))
    if not explained:
        raise NothingToDoError(
            "nothing-explained", "Not one cell could be explained.", "Give pictures of stained cells, or a folder."
        )
    if data is not None:
        tables = summary.markdown(explained, settings, f"validation cells, up to {per_class} of each class")
        write_bytes(out / "agreement.md", tables.encode())
    if json:
        output.answer_json(document)
    elif data is not None:
        output.answer(tables)
    else:
        rows = summary.table(explained)
        output.answer(output.table(rows, right=range(1, len(rows[0]))))
        output.note(f"{len(explained)} cells are in {out}")
    raise typer.Exit(1 if errors else 0)


def _of_data(data: Path, run: Path, config: Any, per_class: int, seed: int) -> list[Any]:
    from training.data.cells import load_or_build
    from training.explain.subjects import from_cells

    return from_cells(load_or_build(data, config, run / "cache"), config, per_class, seed)


def _of_pictures(pictures: list[str], config: Any, fields: bool, errors: list[dict[str, Any]]) -> Iterator[Any]:
    """The cells of all pictures; a picture that cannot be used is told and listed in `errors`, and the rest goes on."""
    from edge import files
    from edge.core.errors import InputError
    from training.explain.subjects import from_picture

    for path in files.expand(pictures):
        try:
            found = from_picture(path, config, fields)
        except InputError as problem:
            errors.append({"picture": str(path), "code": problem.code, "message": str(problem)})
            output.progress_end()
            output.note(f"{files.display_name(path)}: [{problem.code}] {problem}")
            continue
        yield from found


def _file_name(number: int, explanation: Any) -> str:
    stem = re.sub(r"[^\w.-]", "_", Path(explanation.subject.picture).stem, flags=re.ASCII)[:80]
    return f"{number:04d}-{stem or 'cell'}-{explanation.target}.png"


def _make_folder(folder: Path) -> None:
    from edge.core.errors import StoreError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(
            "folder-not-made", f"{folder} could not be made: {problem.strerror}.", "Choose another --out."
        ) from problem


def _as_json(document: dict[str, Any]) -> bytes:
    import json

    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
