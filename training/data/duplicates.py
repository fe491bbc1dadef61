"""The same picture twice, and the same picture under two labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edge.files import display_name
from training.data.boxes import Rectangle
from training.data.readers.entries import Problem
from training.data.rows import Row
from training.data.sources import SOURCES
from training.data.splits import merge_groups

Answer = frozenset[tuple[str, Rectangle | None]]
"""What is said of one picture: labels and boxes."""


def _two_labels(file: str, labels: Sequence[str], others: Sequence[str] = ()) -> Problem:
    beside = f" (also {', '.join(map(display_name, others[:3]))})" if others else ""
    return Problem(
        display_name(file), "two-labels", f"The same picture is labelled {' and '.join(labels)}{beside}: left out."
    )


def _one_answer_each(rows: Sequence[Row]) -> tuple[list[Row], int, list[Problem]]:
    """Drop repeated rows of one file; leave out what has two labels."""
    labels: dict[tuple[str, Rectangle | None], list[Row]] = defaultdict(list)
    for row in rows:
        labels[row.file, row.box].append(row)
    kept, problems = [], []
    for (file, _), same in labels.items():
        names = sorted({row.label for row in same})
        if len(names) > 1:
            problems.append(_two_labels(file, names))
        else:
            kept.append(same[0])
    repeated = sum(len(same) - 1 for same in labels.values() if len({row.label for row in same}) == 1)
    return kept, repeated, problems


def drop_duplicates(rows: Sequence[Row]) -> tuple[list[Row], int, list[Problem]]:
    """Keep each picture once: the rows kept, the number of rows dropped as repetitions, and what contradicts itself.

    Of files with the same bytes (sha1) and the same labels the first stays, of a source for evaluation only when one is
    among them: a copy elsewhere does not change a licence. When they differ in their labels all are left out.
    """
    kept, dropped, problems = _one_answer_each(rows)
    of_file: dict[str, list[Row]] = defaultdict(list)
    for row in kept:
        of_file[row.file].append(row)
    files: dict[str, list[str]] = defaultdict(list)
    for file, members in of_file.items():
        files[members[0].sha1].append(file)
    out: set[str] = set()
    for same in files.values():
        if len(same) == 1:
            continue
        answers: list[Answer] = [frozenset((row.label, row.box) for row in of_file[file]) for file in same]
        if len(set(answers)) > 1:
            names = sorted({label for answer in answers for label, _ in answer})
            problems += [_two_labels(file, names, [other for other in same if other != file]) for file in same]
            out.update(same)
            continue
        first = min(same, key=lambda file: SOURCES[of_file[file][0].source].trainable)
        out.update(file for file in same if file != first)
        dropped += sum(len(of_file[file]) for file in same if file != first)
    return [row for row in kept if row.file not in out], dropped, problems


def one_group_for_what_looks_alike(rows: Sequence[Row]) -> list[str]:
    """Give the group of each row, after groups with near-identical pictures (difference hash) became one."""
    return merge_groups([row.group for row in rows], [row.digest for row in rows])
