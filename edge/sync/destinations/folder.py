"""A folder or a memory stick: for each version a folder with JSON, FHIR, CSV and pictures, and one table of all."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from edge.core import durable
from edge.core.errors import StoreError
from edge.core.labels import LABELS
from edge.store.incoming import Exchange
from edge.sync import content, fhir, messages, privacy
from edge.sync.destinations.base import Site, Work
from edge.sync.settings import FolderDestination
from edge.sync.trouble import BlockedError, ConflictError, UnreachableError

SUMS: Final = "SHA256SUMS"
"""The last file of a version's folder, in the format of sha256sum: `sha256sum -c SHA256SUMS` checks the copy."""

_SAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class FolderSender:
    """Exports to a folder. A version is there whole or not at all; a part of a copy is gone on with."""

    ordered = False
    replaces = False

    def __init__(self, destination: FolderDestination, site: Site) -> None:
        self._destination = destination
        self._site = site
        self._root = Path(destination.folder).expanduser()
        self._changed = False

    def __enter__(self) -> FolderSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, exchange: Exchange) -> None:
        """See that the folder is there, and that it is the memory stick and not the place it is mounted on."""
        del exchange
        if not self._root.is_dir():
            raise UnreachableError(
                "folder-missing", f"{self._root} is not there.", "Plug in and mount the disk, or make the folder."
            )
        if self._destination.removable and not _is_mounted(self._root):
            raise UnreachableError(
                "not-mounted", f"No disk is mounted at {self._root}.", "Plug in and mount the disk; nothing is lost."
            )

    def send(self, work: Work) -> bool:
        """Copy a version: into a hidden folder first, which gets its name when all is on the disk."""
        record = work.parcel.record
        name = f"{_SAFE.sub('-', record.sample)[:60].strip('.-') or 'sample'}_{record.id}_v{record.version}"
        target = self._root / "results" / name
        with _named(self._root):
            if target.is_dir():
                self._compare(target, work)
                return True
            part = self._root / "results" / f".part_{record.id}_v{record.version}"
            part.mkdir(parents=True, exist_ok=True)
            sums = []
            for file, data in self._files(work):
                path = part / file
                path.parent.mkdir(exist_ok=True)
                digest = messages.sha256(data)
                if not (path.is_file() and messages.sha256(path.read_bytes()) == digest):
                    durable.write_bytes(path, data)
                sums.append(f"{digest}  {file}\n")
            durable.write_text(part / SUMS, "".join(sums))
            part.rename(target)
            _sync(target.parent)
        self._changed = True
        return True

    def complete(self, work: Work) -> None:
        """Do nothing: `send` copies the pictures."""

    def end(self, exchange: Exchange) -> None:
        """Write the table of all results anew when one was added."""
        del exchange
        table = self._root / "results.csv"
        if not self._changed and table.exists():
            return
        with _named(self._root):
            rows = [
                path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
                for path in sorted((self._root / "results").glob("[!.]*/result.csv"))
            ]
            if rows:
                durable.write_text(table, _line(COLUMNS) + "".join(line for each in rows for line in each))
        self._changed = False

    def _compare(self, target: Path, work: Work) -> None:
        """See that a copy that is there is of the same version: its audit link binds all of it."""
        stated = (target / "result.json").read_bytes()
        try:
            link = json.loads(stated)["audit"]["link"]
        except (ValueError, KeyError, TypeError):
            link = None
        if link != work.parcel.entry.link:
            raise ConflictError(
                "other-content",
                f"{target} holds other contents.",
                "Look at both; move that folder away and run `leuko sync retry` to export it again.",
                messages.sha256(stated),
            )

    def _message(self, work: Work) -> bytes:
        return messages.encode(content.version(work.parcel, work.exchange.picture)) + b"\n"

    def _files(self, work: Work) -> Iterator[tuple[str, bytes]]:
        yield "result.json", self._message(work)
        yield "fhir.json", messages.canonical(fhir.bundle(work, self._site)) + b"\n"
        yield "result.csv", (_line(COLUMNS) + _line(row(work))).encode()
        for position, picture in enumerate(work.parcel.pictures):
            jpeg = work.exchange.picture(picture.sha256)
            if jpeg is not None:
                cell = "" if picture.cell is None else f"_cell{picture.cell + 1}"
                name = f"pictures/{position + 1:04}_field{picture.field + 1}{cell}_{picture.kind}.jpg"
                yield name, privacy.without_metadata(jpeg)


COLUMNS: Final = (
    *("sample", "id", "version", "status", "created", "created_by", "clock", "device", "operator", "patient"),
    *("bundle", "runtime", "counted", "tier", "other", "flags"),
    *(f"{label}_{what}" for label in LABELS for what in ("count", "percent", "low", "high")),
)
"""Of the table: `low` and `high` are the 95 % Wilson interval; `created_by` says what the date rests on."""


def row(work: Work) -> list[str]:
    """Give a version as a line of the table."""
    record, dated = work.parcel.record, work.dated()
    document = record.document
    counts = document.get("differential", {})
    patient = document.get("patient")
    cells = [
        *(record.sample, record.id, str(record.version), record.status, dated.wall or "", dated.by),
        *(record.created.tier, record.device, record.operator, patient if isinstance(patient, str) else ""),
        *(record.bundle, record.runtime, str(counts.get("counted", "")), str(counts.get("tier", ""))),
        *(str(counts.get("other", "")), " ".join(counts.get("flags", []))),
    ]
    for label in LABELS:
        share = counts.get("classes", {}).get(label, {})
        low, high = share.get("wilson") or ("", "")
        percent = share.get("percent")
        cells += [str(share.get("count", "")), "" if percent is None else str(percent), str(low), str(high)]
    return [_plain(cell) for cell in cells]


def _plain(cell: str) -> str:
    """Keep a spreadsheet from taking a name for a formula."""
    return f"'{cell}" if cell[:1] in {"=", "+", "@", "\t", "\r"} or (cell[:1] == "-" and not _number(cell)) else cell


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _line(cells: tuple[str, ...] | list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([cell.replace("\n", " ").replace("\r", " ") for cell in cells])
    return buffer.getvalue()


def _is_mounted(path: Path) -> bool:
    """Whether the path lies on a disk of its own, and not on the one that the system runs from."""
    path = path.resolve()
    return path.stat().st_dev != Path("/").stat().st_dev


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some file systems of memory sticks cannot sync a folder and need not.
        return
    finally:
        os.close(descriptor)


class _named:  # noqa: N801 - a context manager, used like a function
    """Turn the errors of a disk into those of a destination: it may be plugged in again."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StoreError):
            if error.code == "result-altered":
                return
            if error.code in {"disk-full", "read-only"}:
                raise BlockedError(error.code, error.message, error.cure) from error
            raise UnreachableError(error.code, error.message, error.cure) from error
        if isinstance(error, OSError):
            raise UnreachableError(
                "folder-failed", f"{self._root}: {error.strerror or error}.", "Check the disk and its cable."
            ) from error
