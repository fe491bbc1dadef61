"""From the journal of a session to the analysis that is saved as its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge.core.differential import differential
from edge.core.types import Analysis, FieldResult
from edge.imaging.quality import QualityReference, judge
from edge.inference.classifier import Classifier
from edge.live.tally import Tally
from edge.session import PREVIEWS, stamped
from edge.store.journal import JournalSession, SessionJournal


def analysis(
    journal: SessionJournal,
    session: JournalSession,
    classifier: Classifier,
    ranges: Mapping[str, tuple[float, float]],
    reference: QualityReference | None,
) -> Analysis:
    """Read a session and count it again, as it was counted live: fields that were withdrawn have no cells."""
    tally = Tally(ranges, reference)
    fields: list[FieldResult] = []
    for entry in journal.fields(session.id, PREVIEWS):
        tally.add(entry.field.quality, [cell.call for cell in entry.field.cells])
        fields.append(entry.field)
    if tally.learned and tally.reference is not None:
        for index, field in enumerate(fields[: tally.learned]):
            quality = judge(field.quality, tally.reference)
            fields[index] = replace(field, quality=quality, cells=field.cells if quality.accepted else ())
    calls = [cell.call for field in fields for cell in field.cells]
    return Analysis(
        sample=session.sample,
        fields=tuple(fields),
        differential=stamped(differential(calls, ranges), classifier.origin),
        bundle=session.bundle,
        bundle_sha256=session.bundle_sha256,
        bundle_origin=classifier.origin,
        runtime=classifier.runtime.info,
        elapsed_seconds=session.running_seconds,
    )


def described(session: JournalSession, journal: SessionJournal) -> dict[str, Any]:
    """What the result's document says of the session, beside the analysis: how it was taken, what was left out."""
    tallies = dict(session.tallies)
    return {
        "id": session.id,
        "camera": session.camera,
        "target": session.target,
        "precision": session.precision,
        "stack": session.stack,
        "started": session.started.wall,
        "running_seconds": round(session.running_seconds, 3),
        "fields": {name: int(tallies.get(name, 0)) for name in ("refused", "unreadable", "dropped", "unchanged")},
        "refusals": dict(tallies.get("refusals", {})),
        "drops": dict(tallies.get("drops", {})),
        "repeated_cells": int(tallies.get("repeated", 0)),
        "calibration": session.calibration,
        "events": [
            {"event": each.event, "detail": each.detail, "wall": each.recorded.wall, "tier": each.recorded.tier}
            for each in journal.events(session.id)
        ],
    }
