"""One finding of the doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Verdict = Literal["ok", "warn", "fail"]

WORST_FIRST: Final[tuple[Verdict, ...]] = ("fail", "warn", "ok")

EXIT_CODES: Final[dict[Verdict, int]] = {"ok": 0, "warn": 1, "fail": 3}
"""What `leuko doctor` ends with, by the worst verdict."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `id` never changes, `evidence` says what was seen, `cure` what to do when the verdict is not ok.

    `command` is one line for a shell that does it, where a command can; else it is empty.
    """

    id: str
    verdict: Verdict
    evidence: str
    cure: str = ""
    command: str = ""


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the worst verdict among the checks; ok when there are none."""
    found = {check.verdict for check in checks}
    return next((verdict for verdict in WORST_FIRST if verdict in found), "ok")
