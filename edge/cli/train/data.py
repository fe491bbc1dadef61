"""`leuko train data`: labelled images in any layout become one data folder for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.cli import output
from edge.cli.train.common import Seed

_SHOWN = 20
"""So many problems are told one by one; the summary file has them all."""


def data(  # noqa: PLR0917  # options, given by name
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders or files to read; none with --download.", metavar="PATH...")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(help="folders, csv, voc, yolo, coco, pbc, bloodmnist, bccd, raabin, lisc or manifest."),
    ] = "folders",
    out: Annotated[Path, typer.Option(help="Folder that is made: pictures and manifest.csv.", metavar="DIR")] = Path(
        "data"
    ),
    source: Annotated[str, typer.Option(help="Name of these images; public sets have theirs.", metavar="NAME")] = "",
    licence: Annotated[str, typer.Option(help="Their licence (SPDX). Without: evaluation only.", metavar="SPDX")] = "",
    citation: Annotated[str, typer.Option(help="How their makers want to be named.", metavar="TEXT")] = "",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", help="Their label = our label, or leave-out.", metavar="THEIRS=OURS")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="csv: our name of a column = theirs.", metavar="OURS=THEIRS")
    ] = None,
    class_name: Annotated[
        list[str] | None, typer.Option("--class", help="yolo: names of the classes, in order.", metavar="NAME")
    ] = None,
    background: Annotated[
        int, typer.Option(min=0, help="So many red cells, and other non-cells, of each field are kept.")
    ] = 3,
    published_splits: Annotated[
        bool, typer.Option("--published-splits", help="Keep the splits that the set itself names.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy/--link", help="Copy the pictures, or link to where they are.")] = False,
    download: Annotated[
        str, typer.Option(help="Download first: bloodmnist-28, -64, -128, -224, or an address.", metavar="NAME|URL")
    ] = "",
    checksum: Annotated[str, typer.Option(help="Of an address: sha256:... or md5:...", metavar="SUM")] = "",
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read pictures.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Read labelled images, check them, drop duplicates, split them and write a manifest with licences.

    Exit code 1: some pictures were left out, and are listed. 3: a leak across splits, or nothing could be used.
    """
    from edge.core.errors import InputError, NothingToDoError, UsageError
    from training.data import collect, place
    from training.data.labels import parse_mapping
    from training.data.readers import LAYOUTS, Options
    from training.data.storage import writing

    given = list(paths or [])
    place.require_apart(out, given)
    if download:
        given, layout = [*given, _downloaded(download, checksum, out)], _layout_of(download, layout)
    if layout not in LAYOUTS:
        raise UsageError("unknown-layout", f"There is no layout {layout!r}.", f"Choose of: {', '.join(LAYOUTS)}.")
    if not given:
        raise UsageError("nothing-named", "No folder is named.", "Name the folder of labelled images.")
    choices = collect.Choices(parse_mapping(mapping or []), seed, published_splits, background, workers)
    columns = _pairs(column or [])
    given_source = _source(layout, source, licence, citation)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    try:
        readings = []
        for number, path in enumerate(given):
            unpacked = out / "images" / given_source.name / (str(number) if len(given) > 1 else "")
            readings.append(LAYOUTS[layout](path, Options(columns, class_name or (), unpacked)))
        found = collect.collect(readings, given_source, choices, lambda done: output.progress(done, "pictures read"))
    except InputError as error:
        # Of one picture it would be a line of the summary; this one is about a whole folder, and nothing is written.
        raise NothingToDoError(error.code, error.message, error.cure) from error
    output.progress_end()
    place.place(found.rows, out, copy)
    collect.write(found, out)
    summary = found.summary()
    if json:
        output.answer_json(summary)
    else:
        output.answer(_text(summary, out))
    for problem in summary["problems"][:_SHOWN]:
        output.note(f"left out [{problem['code']}] {problem['file']}: {problem['message']}")
    if len(summary["problems"]) > _SHOWN:
        output.note(f"and {len(summary['problems']) - _SHOWN} more: {out / collect.SUMMARY_FILE}")
    if summary["problems"]:
        raise typer.Exit(1)


def _pairs(items: Sequence[str]) -> Mapping[str, str]:
    from edge.core.errors import UsageError

    pairs = {}
    for item in items:
        ours, sign, theirs = item.partition("=")
        if not sign or not theirs:
            raise UsageError("bad-column", f"--column {item!r} is not `ours=theirs`.", "As in --column file=Image.")
        pairs[ours.strip()] = theirs.strip()
    return pairs


def _layout_of(download: str, layout: str) -> str:
    from training.data.public import DOWNLOADS

    return DOWNLOADS[download].layout if download in DOWNLOADS else layout


def _downloaded(download: str, checksum: str, out: Path) -> Path:
    from urllib.parse import unquote, urlsplit

    from edge.core.errors import UsageError
    from training.data.download import MAX_BYTES, Checksum, fetch
    from training.data.public import DOWNLOADS, PublicFile

    if download in DOWNLOADS:
        wanted = DOWNLOADS[download]
    else:
        if "://" not in download:
            raise UsageError(
                "unknown-download", f"There is no download {download!r}.", f"Choose of: {', '.join(DOWNLOADS)}."
            )
        if not checksum:
            raise UsageError(
                "checksum-missing", "An address needs a checksum.", "Give the publisher's with --checksum sha256:..."
            )
        name = Path(unquote(urlsplit(download).path)).name
        if name in {"", ".", ".."} or "\0" in name:
            raise UsageError("unsafe-address", f"{download!r} names no file.", "Give the address of a file.")
        wanted = PublicFile(download, Checksum.parse(checksum), name, "", MAX_BYTES)

    def report(done: int, total: int | None) -> None:
        output.progress(done >> 20, f"of {total >> 20} MiB" if total else "MiB")

    path = fetch(wanted.url, out / "downloads" / wanted.file, wanted.checksum, wanted.limit, report)
    output.progress_end()
    return path


def _source(layout: str, name: str, licence: str, citation: str) -> Any:
    """Give the source of the images; a public set is known, one of the user's must be named."""
    from edge.core.errors import UsageError
    from training.data.collect import require_name
    from training.data.readers import PUBLIC
    from training.data.sources import SOURCES, UNKNOWN_LICENCE, Source, spdx

    if not name:
        if layout == "manifest":
            name = "manifest"  # never used: every row names its own
        elif layout not in PUBLIC:
            raise UsageError("source-missing", "These images have no name.", "Give one with --source, as ward-7.")
        else:
            name = layout
    require_name(name)
    if not licence and name in SOURCES:
        return SOURCES[name]
    if not licence and layout != "manifest":
        output.note(f"No --licence: {name} is for evaluation only, nothing will be trained on it.")
    if spdx(licence) == "CC-BY-4.0" and not citation:
        raise UsageError(
            "citation-missing", f"{name} is under CC BY: its makers must be named.", "Name them with --citation."
        )
    return Source(name, spdx(licence) if licence else UNKNOWN_LICENCE, citation)


def _text(summary: Mapping[str, Any], out: Path) -> str:
    splits = ("train", "validation", "test", "evaluation")
    rows = [["source", "label", *splits]]
    for name, source in summary["sources"].items():
        for label, by_split in source["counts"].items():
            rows.append([name, label, *(str(by_split.get(split, "") or "-") for split in splits)])
    lines = [output.table(rows, right=(2, 3, 4, 5)), ""]
    for name, source in summary["sources"].items():
        use = "may be trained on" if source["trainable"] else "evaluation only"
        lines.append(f"{name}: {source['licence']}, {use}")
    dropped, merged, failed = (
        summary["duplicates_dropped"],
        summary["groups_merged"],
        len(summary["problems"]),
    )
    lines += [
        f"{summary['cells']} cells in {summary['pictures']} pictures",
        f"{dropped} duplicates dropped, {merged} groups merged, {failed} problems",
        str(out / "manifest.csv"),
    ]
    return "\n".join(lines)
