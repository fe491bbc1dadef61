"""Standard output carries the answer alone; progress and errors go to standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edge.core.errors import LeukoError
from edge.core.labels import LABELS

if TYPE_CHECKING:
    from edge.core.types import ResultRecord


def answer(text: str) -> None:
    """Print a part of the answer."""
    with _reader():
        print(text, flush=True)


def answer_json(value: Any, *, indent: int | None = None) -> None:
    """Print a JSON value as one document. Names that are not valid Unicode are escaped, all others stay readable."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, indent=indent, allow_nan=False)
    if sys.stdout is None:  # closed by whoever started the command
        return
    with _reader():
        sys.stdout.buffer.write(text.encode("utf-8") + b"\n")
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    """End quietly when the reader of a pipe has left, and with an error of ours when the answer cannot be written."""
    try:
        yield
    except OSError as problem:
        _discard(sys.stdout)
        if isinstance(problem, BrokenPipeError):
            raise SystemExit(0) from None
        raise LeukoError(
            "answer-not-written",
            f"The answer could not be written: {problem.strerror}.",
            "Free space where standard output goes. A result that was reported as saved is in the store: leuko report.",
        ) from problem


def _discard(stream: TextIO) -> None:
    """Write to nowhere from now on: what is still in the buffer would fail once more at the end of the program."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def note(text: str) -> None:
    """Tell the user something that is not part of the answer. No result is lost because nobody reads this."""
    _tell(text + "\n")


def progress(done: int, text: str) -> None:
    """Show progress on one line, on a terminal only."""
    if _on_terminal():
        _tell(f"\r\x1b[K{done} {text}")


def progress_end() -> None:
    """Remove the progress line."""
    if _on_terminal():
        _tell("\r\x1b[K")


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _tell(text: str) -> None:
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def error(problem: LeukoError) -> None:
    """Print an error with its cure."""
    note(f"error [{problem.code}] {problem.message}")
    if problem.cure:
        note(f"  {problem.cure}")


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Lay out rows in columns two spaces apart; the columns in `right` are aligned to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def field_errors(document: Mapping[str, Any]) -> int:
    """How many fields of an analysis document could not be read."""
    return sum("error" in field for field in document["fields"])


def summary(record: ResultRecord, ranges: Mapping[str, tuple[float, float]]) -> str:
    """A result as text: the differential with its 95 % Wilson intervals, and what it rests on."""
    counts = record.document["differential"]
    rows = [["class", "count", "percent", "95 % interval", "reference"]]
    for label in LABELS:
        share = counts["classes"][label]
        low, high = ranges[label]
        claimed = share["percent"] is not None
        rows.append(
            [
                label,
                str(share["count"]),
                f"{share['percent']:.1f}" if claimed else "-",
                f"{share['wilson'][0]:.1f} - {share['wilson'][1]:.1f}" if claimed else "-",
                f"{low:g} - {high:g}",
            ]
        )
    rows.append(["other", str(counts["other"]), "", "", ""])
    fields = record.document["fields"]
    refused = sum("quality" in field and not field["quality"]["accepted"] for field in fields)
    lines = [
        f"sample {record.sample}",
        "",
        table(rows, right=(1, 2)),
        "",
        f"{counts['counted']} cells counted: {counts['tier']}",
        f"{len(fields)} fields: {refused} refused by the quality gate, {field_errors(record.document)} unreadable",
    ]
    if counts["flags"]:
        lines.append("flags: " + ", ".join(counts["flags"]))
    standing = {
        "preliminary": "Preliminary until a person has signed it.",
        "final": f"Final: signed by {record.operator} as version {record.version}.",
        "corrected": f"Corrected by {record.operator} after it was signed; not signed again.",
    }
    lines.append(f"For Research Use Only. Not for use in diagnostic procedures. {standing[record.status]}")
    return "\n".join(lines)
