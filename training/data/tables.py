"""CSV tables as people send them: with a byte order mark, semicolons, Windows line ends, or another encoding."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge.core.errors import InputError
from edge.files import display_name

MAX_TEXT_BYTES: Final = 256 * 1024 * 1024
"""No annotation or table of ours is larger; what is larger would only fill the memory."""

_DELIMITERS: Final = ",;\t|"


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Read a text file, UTF-8 with or without byte order mark, else Latin-1.

    Raises InputError `not-found`, `not-a-file`, `too-large`, `read-failed` or `not-text`.
    """
    name = display_name(path)
    try:
        if not path.is_file():
            code = "not-a-file" if path.exists() else "not-found"
            raise InputError(code, f"There is no file {name}.", "Check the name of the folder and its layout.")
        if path.stat().st_size > limit:
            raise InputError("too-large", f"{name} is larger than {limit} bytes.", "Name the right file.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError("read-failed", f"{name} cannot be read ({error}).", "Check the disk.") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    if "\0" in text:
        raise InputError("not-text", f"{name} is no text file.", "Export it again as UTF-8 text.")
    return text


def read_table(path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read a table with a header line: one dictionary a row, by column; a missing cell is the empty string.

    Raises InputError `columns-missing` when a column is not there, `broken-table` for what is no table, and as
    `read_text`.
    """
    text = read_text(path)
    name = display_name(path)
    header = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="", skipinitialspace=True)
        columns = [(column or "").strip() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = [{key: (value or "").strip() for key, value in row.items() if key is not None} for row in reader]
    except csv.Error as error:
        raise InputError("broken-table", f"{name} is no table ({error}).", "Export it again as CSV.") from error
    absent = [column for column in required if column not in columns]
    if absent:
        raise InputError(
            "columns-missing",
            f"{name} has no column {', '.join(absent)}; it has: {', '.join(filter(None, columns)) or 'none'}.",
            "Name the columns with --column, as --column file=Image.",
        )
    return rows
