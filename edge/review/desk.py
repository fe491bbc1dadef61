"""Reviewing stored results: find one, correct it, sign it, tell its history. The store keeps every version."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.core.errors import NothingToDoError, StoreError, UsageError
from edge.core.types import ClockReading, ResultRecord
from edge.review.places import Change
from edge.review.relabel import relabelled
from edge.review.worklist import worklist
from edge.store.search import Query

if TYPE_CHECKING:
    from edge.store.results import ResultStore

SHORTEST_START: Final = 8
"""Characters of an id that may stand for it: the first eight alone are a time of some minutes."""

_START: Final = re.compile(r"[0-9a-f]{8}[0-9a-f-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Step:
    """One version in a result's history: who did what, when and why, and what the count then was."""

    version: int
    event: str
    operator: str
    reason: str
    recorded: ClockReading
    status: str
    counted: int
    other: int
    changed: tuple[str, ...]
    link: str


def find(store: ResultStore, name: str) -> ResultRecord:
    """Read the result that `name` names, in its latest version: an id, the start of one, or a sample's newest.

    Raises `NothingToDoError` `no-result`, `UsageError` `result-ambiguous`, `StoreError`.
    """
    wanted = name.strip()
    found = store.get(wanted.lower()) if _is_id(wanted) else store.latest(wanted)
    if found is not None:
        return found
    if _START.fullmatch(wanted.lower()):
        # The sample could hold the same text, so ids are compared once more.
        starting = [
            each.id for each in store.search(Query(text=wanted, limit=500)) if each.id.startswith(wanted.lower())
        ]
        if len(starting) > 1:
            raise UsageError(
                "result-ambiguous",
                f"{len(starting)} results begin with {wanted}.",
                f"Write more of the id: {', '.join(starting[:3])}.",
            )
        if starting and (one := store.get(starting[0])) is not None:
            return one
    raise NothingToDoError(
        "no-result",
        f"There is no result {name!r}.",
        "List them: leuko review list --all. A result is named by its id, the start of it, or its sample.",
    )


def correct(
    store: ResultStore,
    identifier: str,
    changes: Sequence[Change],
    *,
    version: int | None,
    operator: str,
    reason: str,
    ranges: Mapping[str, tuple[float, float]],
) -> ResultRecord:
    """Save a person's calls as the next version of a result, and return it once the disk has it.

    `version` is the one the person has seen: when a newer one has been saved meanwhile, nothing is changed.

    Raises as `relabelled` does, and `StoreError`.
    """
    seen = store.get(identifier)
    if seen is None:
        raise StoreError("no-result", f"There is no result {identifier}.", "Look up the id of the result.")
    if version is not None and version != seen.version:
        raise StoreError(
            "version-conflict",
            f"Result {identifier} now stands at version {seen.version}; version {version} was reviewed.",
            "Look at the latest version and make the change there.",
        )
    signed = any(entry.event == "signed" for entry in store.trail(identifier))
    following = relabelled(seen, changes, operator=operator, reason=reason, ranges=ranges, signed=signed)
    store.save(following, reason.strip())
    return following


def sign(store: ResultStore, identifier: str, *, version: int | None, operator: str, reason: str) -> ResultRecord:
    """Sign a result as final. A reason is asked for, as of every change.

    Raises `UsageError` `reason-missing`, and `StoreError` as `ResultStore.sign` does.
    """
    if not reason.strip():
        raise UsageError("reason-missing", "No reason is given.", "Say what the signature rests on, in a few words.")
    return store.sign(identifier, operator.strip(), reason.strip(), version=version)


def history(store: ResultStore, identifier: str) -> tuple[Step, ...]:
    """Tell the versions of a result, oldest first. Raises `StoreError`, also when one is not what was saved."""
    versions = {record.version: record for record in store.history(identifier)}
    steps = []
    for entry in store.trail(identifier):
        record = versions[entry.version]
        differential = record.document["differential"]
        steps.append(
            Step(
                version=entry.version,
                event=entry.event,
                operator=entry.operator,
                reason=entry.reason,
                recorded=entry.recorded,
                status=record.status,
                counted=int(differential["counted"]),
                other=int(differential["other"]),
                changed=_changed(versions.get(entry.version - 1), record),
                link=entry.link,
            )
        )
    return tuple(steps)


def _changed(before: ResultRecord | None, after: ResultRecord) -> tuple[str, ...]:
    """Name the cells that a version calls otherwise than the one before, as "3.2 lymphocyte → monocyte"."""
    if before is None:
        return ()
    called = {cell.place: cell.group for cell in worklist(before)}
    return tuple(
        f"{cell.place} {called[cell.place]} → {cell.group}"
        for cell in sorted(worklist(after), key=lambda cell: cell.place)
        if cell.place in called and called[cell.place] != cell.group
    )


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
