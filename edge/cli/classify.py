"""`leuko classify`: pictures of single cells, one line each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.cli import output

if TYPE_CHECKING:
    from pathlib import Path

    from edge.inference.classifier import Classifier


def classify(
    # Text, since an empty name would be the current folder as a Path.
    paths: Annotated[
        list[str],
        typer.Argument(help="Pictures of single cells, or folders.", show_default=False, metavar="PATH..."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line a picture.")] = False,
) -> None:
    """Call the one cell that each picture shows."""
    from edge import app, config, files
    from edge.core.errors import NothingToDoError

    settings = config.load()
    failed = done = 0
    with app.open_classifier(settings) as classifier:
        for path in files.expand(paths):
            line, name = _line(path, classifier), files.display_name(path)
            done += 1
            failed += "error" in line
            if json:
                output.answer_json(line)
            elif "error" in line:
                output.note(f"{name}: [{line['error']['code']}] {line['error']['message']}")
            else:
                doubt = "  unsigned bundle" if line["bundle_origin"] == "unsigned" else ""
                doubt += f"  abstained: {line['reason']}" if line["abstained"] else ""
                output.answer(f"{name}  {line['label']}  {max(line['probabilities'].values()):.3f}{doubt}")
    if failed == done:
        raise NothingToDoError(
            "no-picture", "Not one picture could be read.", "Give pictures of single cells, or a folder."
        )
    raise typer.Exit(1 if failed else 0)


def _line(path: Path, classifier: Classifier) -> dict[str, Any]:
    """The answer for one picture, as the public JSON has it."""
    from edge import files, session
    from edge.core.errors import InputError

    try:
        image = files.read_image(path)
    except InputError as problem:
        return {"file": str(path), "error": {"code": problem.code, "message": str(problem)}}
    started = time.perf_counter()
    call = session.classify_picture(image, classifier)
    elapsed = time.perf_counter() - started
    return {
        "file": str(path),
        "label": call.label,
        "probabilities": {label: round(p, 6) for label, p in call.probability_by_label().items()},
        "abstained": call.abstained,
        "reason": call.reason,
        "bundle": classifier.manifest.identity,
        "bundle_origin": classifier.origin,
        "runtime": str(classifier.runtime.info),
        "milliseconds": round(1000 * elapsed, 3),
    }
