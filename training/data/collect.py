"""From labelled images in any layout to one data folder: validated, without duplicates, split, with licences."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from edge.core.durable import write_text
from edge.core.errors import InputError, NothingToDoError, UsageError
from edge.files import display_name
from training.data import splits
from training.data.duplicates import drop_duplicates, one_group_for_what_looks_alike
from training.data.inspection import Picture, box_inside, look_at_all
from training.data.labels import BACKGROUND, LEAVE_OUT, our_label
from training.data.readers.entries import Entry, Problem, Reading
from training.data.rows import Row, manifest
from training.data.sources import SOURCES, UNKNOWN_LICENCE, Source, record

EVALUATION: Final = "evaluation"
SUMMARY_FILE: Final = "summary.json"
_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user decides: the `mapping` of labels, the `seed`, whether the `published` splits stand, how many
    `background` boxes of a field and label are taken, and how many processes (`workers`) read pictures.
    """

    mapping: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    published: bool = False
    background: int = 3
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Collection:
    """Rows that can be used, split; and what happened to the others.

    `dropped` rows repeat another, `unwanted` were mapped to leave-out or are background beyond the number asked for,
    `merged` groups joined another because their pictures look alike.
    """

    rows: list[Row]
    problems: list[Problem]
    dropped: int
    unwanted: int
    merged: int
    seed: int

    def summary(self) -> dict[str, Any]:
        """Give the counts as plain values for JSON."""
        counts: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        for (source, label, split), number in sorted(Counter((r.source, r.label, r.split) for r in self.rows).items()):
            counts[source][label][split] = number
        return {
            "cells": len(self.rows),
            "pictures": len({row.file for row in self.rows}),
            "seed": self.seed,
            "sources": {
                name: {
                    "licence": SOURCES[name].licence,
                    "citation": SOURCES[name].citation,
                    "trainable": SOURCES[name].trainable,
                    "counts": {label: dict(by_split) for label, by_split in labels.items()},
                }
                for name, labels in counts.items()
            },
            "splits": dict(sorted(Counter(row.split for row in self.rows).items())),
            "duplicates_dropped": self.dropped,
            "left_out_as_wished": self.unwanted,
            "groups_merged": self.merged,
            "problems": [asdict(problem) for problem in self.problems],
        }


def require_name(name: str) -> str:
    """Give back a source's name. Raises UsageError `bad-source` for one that could not name a folder."""
    if not _NAME.match(name):
        raise UsageError(
            "bad-source", f"{name!r} is no name for a source.", "Use letters, digits, `-` and `_`, as in ward-7."
        )
    return name


def _source_of(entry: Entry, given: Source) -> str:
    if entry.source:
        return record(Source(require_name(entry.source), entry.licence or UNKNOWN_LICENCE, entry.citation)).name
    return given.name


def _labelled(readings: Sequence[Reading], mapping: Mapping[str, str]) -> list[list[tuple[Entry, str]]]:
    """Give each entry with our label. Raises UsageError `unknown-label` that lists all names nobody knows, at once."""
    unknown: Counter[str] = Counter()
    labelled: list[list[tuple[Entry, str]]] = []
    for reading in readings:
        found = [(entry, our_label(entry.label, mapping)) for entry in reading.entries]
        unknown.update(entry.label for entry, label in found if label is None)
        labelled.append([(entry, label) for entry, label in found if label is not None])
    if unknown:
        names = ", ".join(f"{display_name(name)[:60]!r} ({count})" for name, count in unknown.most_common(20))
        raise UsageError(
            "unknown-label",
            f"{len(unknown)} labels are not known: {names}.",
            "Say what each is with --map 'their label=our label', or --map 'their label=leave-out'.",
        )
    return labelled


def _rows_of(
    reading: Reading,
    entries: Sequence[tuple[Entry, str]],
    given: Source,
    prefix: str,
    pictures: Mapping[Path, Picture | Problem],
) -> tuple[list[Row], list[Problem]]:
    rows: list[Row] = []
    problems: dict[Problem, None] = {}  # in order, each once
    for entry, label in entries:
        path = reading.root / entry.file
        picture = pictures[path]
        if isinstance(picture, Problem):
            problems[picture] = None
            continue
        source = _source_of(entry, given)
        kind, box = "cell", None
        if entry.box is not None:
            try:
                box = box_inside(entry.box, entry.shares, picture, entry.file)
            except InputError as error:
                problems[Problem.of(entry.file, error)] = None
                continue
            kind = "background" if label in BACKGROUND else "field"
        # A data folder's groups are made; elsewhere whatever is of one slide stays together.
        own = f"slide/{entry.slide}" if entry.slide else entry.group or entry.file
        group = entry.group if entry.source else f"{source}/{prefix}{own}"
        rows.append(
            Row(
                source=source,
                label=label,
                path=path,
                file=f"images/{source}/{prefix}{entry.file}",
                group=group,
                slide=entry.slide,
                # A box's own name is kept where it says more than our label.
                subtype=entry.subtype or (entry.label if entry.label != label else ""),
                width=picture.width,
                height=picture.height,
                sha1=picture.sha1,
                digest=picture.digest,
                kind=kind,
                box=box,
                split=entry.split,
            )
        )
    return rows, list(problems)


def _few_backgrounds(rows: Sequence[Row], most: int) -> list[Row]:
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        if row.kind == "background":
            seen[row.file, row.label] += 1
            if seen[row.file, row.label] > most:
                continue
        kept.append(row)
    return kept


def _split(rows: Sequence[Row], choices: Choices) -> list[Row]:
    """Split by group; raises SplitLeakError when a picture or group stands on both sides of a border."""
    published = {row.group: row.split for row in rows if choices.published and row.split}
    learnt = [row for row in rows if SOURCES[row.source].trainable and row.group not in published]
    # The white cells of a field decide where it goes: its many red cells would drown the only basophil.
    cells = [row for row in learnt if row.kind != "background"]
    with_cells = {row.group for row in cells}
    assigned: dict[str, str] = {}
    for part in (cells, [row for row in learnt if row.group not in with_cells]):
        groups, strata = [row.group for row in part], [(row.source, row.label) for row in part]
        assigned |= zip(groups, splits.assign(groups, strata, choices.seed), strict=True)

    def split_of(row: Row) -> str:
        if not SOURCES[row.source].trainable:
            return EVALUATION
        return (row.split if choices.published else "") or published.get(row.group) or assigned[row.group]

    done = [replace(row, split=split_of(row)) for row in rows]
    splits.require_no_leak(
        [row.split for row in done],
        [row.group for row in done],
        [row.sha1 for row in done],
        [row.digest for row in done],
    )
    return done


def collect(
    readings: Sequence[Reading], given: Source, choices: Choices, report: Callable[[int], None] | None = None
) -> Collection:
    """Turn what the readers found into rows that are ready for training.

    `given` is the source of all entries that name none themselves. `report` is told the number of pictures read.

    Raises:
        UsageError: `unknown-label`.
        InputError: `licence-conflict` when a source is known under another licence.
        SplitLeakError: `split-leak`.
        NothingToDoError: `no-usable-image`.
    """
    given = record(given) if not all(entry.source for reading in readings for entry in reading.entries) else given
    labelled = _labelled(readings, choices.mapping)
    wanted = [[item for item in items if item[1] != LEAVE_OUT] for items in labelled]
    paths = list(
        dict.fromkeys(
            reading.root / entry.file for reading, items in zip(readings, wanted, strict=True) for entry, _ in items
        )
    )
    pictures = dict(zip(paths, look_at_all(paths, choices.workers, report), strict=True))
    rows: list[Row] = []
    problems = [problem for reading in readings for problem in reading.problems]
    for number, (reading, items) in enumerate(zip(readings, wanted, strict=True)):
        prefix = f"{number}/" if len(readings) > 1 else ""
        found, failed = _rows_of(reading, items, given, prefix, pictures)
        rows += found
        problems += failed
    few = _few_backgrounds(rows, choices.background)
    kept, dropped, contradictions = drop_duplicates(few)
    problems += contradictions
    if not kept:
        raise NothingToDoError(
            "no-usable-image",
            f"No labelled picture can be used; {len(problems)} were refused"
            + (f", the first: {problems[0].message}" if problems else "."),
            "Check --layout and the folder.",
        )
    if {"pbc", "bloodmnist"} <= {row.source for row in kept}:
        raise splits.SplitLeakError(
            "split-leak",
            "BloodMNIST shows the centres of PBC's pictures: the same cells would stand on both sides.",
            "Use one of the two.",
        )
    before = len({row.group for row in kept})
    groups = one_group_for_what_looks_alike(kept)
    grouped = [replace(row, group=group) for row, group in zip(kept, groups, strict=True)]
    unwanted = sum(len(a) - len(b) for a, b in zip(labelled, wanted, strict=True)) + len(rows) - len(few)
    return Collection(_split(grouped, choices), problems, dropped, unwanted, before - len(set(groups)), choices.seed)


def write(collection: Collection, out: Path) -> None:
    """Write `manifest.csv` and `summary.json`, the manifest last; raises StoreError as `edge.core.durable`."""
    summary = json.dumps(collection.summary(), ensure_ascii=True, indent=1)
    write_text(out / SUMMARY_FILE, summary + "\n")
    write_text(out / "manifest.csv", manifest(collection.rows))
