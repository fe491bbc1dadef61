"""A version of a result as an HL7 v2.5.1 message ORU^R01, and the reading of its acknowledgement. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from edge.core.labels import LABELS, OTHER
from edge.sync import codes, dating
from edge.sync.destinations.base import Site, Work
from edge.sync.settings import Hl7Destination

START: Final = b"\x0b"
END: Final = b"\x1c\r"
"""The frame of the Minimal Lower Layer Protocol."""

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"}
_PERCENT: Final = "%^percent^UCUM"
_STATUS: Final = {"preliminary": "P", "final": "F", "corrected": "C"}


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to a message: its code (AA, AE, AR, CA, CE, CR), whose message it is about, and what it says."""

    code: str
    control_id: str
    text: str


def escaped(text: str) -> str:
    """Write text so that it ends no field; what is no printable character becomes a space (HL7 v2.5.1, 2.7)."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(_ESCAPES.get(letter, letter) for letter in printable)


def control_id(identifier: str, version: int) -> str:
    """Give the message's id: the same at every attempt, 20 characters (MSH-10)."""
    return codes.identifier("message", identifier, version).replace("-", "")[:20].upper()


def message(work: Work, site: Site, destination: Hl7Destination) -> bytes:
    """Make the message, in UTF-8, segments ended by a carriage return, without the frame."""
    parcel = work.parcel
    record, entry = parcel.record, parcel.entry
    status = _STATUS[codes.report_status(record.status, parcel.signed)]
    made = _time(work.dated().wall)
    recorded = dating.dated(entry.recorded, work.exchange.anchor(entry.recorded.boot_id))
    patient = record.document.get("patient")
    panel = f"{codes.PANEL}^Leukocyte differential panel^LN"
    segments = [
        _segment(
            *("MSH", "^~\\&", "LEUKOSCOPE", escaped(destination.sending_facility)),
            *(escaped(destination.receiving_application), escaped(destination.receiving_facility)),
            *(_time(recorded.wall) or _time(entry.recorded.wall), "", "ORU^R01^ORU_R01"),
            *(control_id(record.id, record.version), "P", "2.5.1", "", "", "AL", "NE", "", "UNICODE UTF-8"),
        ),
        _segment("PID", "1", "", escaped(patient) if isinstance(patient, str) else '""', "", "^^^^^^S"),
        _segment(
            *("OBR", "1", "", f"{record.id}^LEUKOSCOPE", panel, "", "", made or '""', "", "", "", "", "", "", "", ""),
            *("", "", "", "", "", "", _time(recorded.wall), "", "HM", status),
            *(("", "", "", "", "", "", escaped(entry.operator)) if parcel.signed else ()),
        ),
        _segment("NTE", "1", "L", escaped(codes.NOTICE)),
    ]
    if not made:
        segments.append(
            _segment("NTE", "2", "L", "The device's clock was not set: the time of the analysis is unknown.")
        )
    counts = record.document["differential"]
    number = 0
    frame = _Frame(status, made)
    for label in LABELS:
        number += 1
        segments.append(_observation(frame, number, label, counts["classes"][label], site))
    percent = codes.other_percent(counts)
    value = "" if percent is None else f"{percent:.1f}"
    other = f"{codes.LOINC[site.settings.codes][OTHER]}^{codes.NAMES[OTHER]}^LN"
    segments.append(frame.observation(number + 1, other, value, _PERCENT))
    segments.append(frame.observation(number + 2, "cells-counted^Leukocytes counted^L", str(counts["counted"])))
    segments += [_segment("NTE", str(i), "L", escaped(str(flag))) for i, flag in enumerate(counts["flags"], start=1)]
    segments.append(
        _segment(
            *(
                "SPM",
                "1",
                f"{escaped(record.sample)}&LEUKOSCOPE",
                "",
                f"{codes.SNOMED_BLOOD[0]}^{codes.SNOMED_BLOOD[1]}^SCT",
            )
        )
    )
    return "".join(segments).encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all observations of a message share: their status and the time of the analysis."""

    status: str
    made: str

    def observation(
        self, number: int, code: str, value: str, unit: str = "", *, limits: str = "", flag: str = ""
    ) -> str:
        """Write an OBX segment; without a value the result could not be obtained (X)."""
        status = self.status if value else "X"
        return _segment(
            *("OBX", str(number), "NM", code, "", value, unit, limits, flag, "", "", status, "", "", self.made),
            *("", "", "104157003^Light microscopy^SCT"),
        )


def _observation(frame: _Frame, number: int, label: str, share: dict[str, object], site: Site) -> str:
    percent, wilson = share["percent"], share["wilson"]
    limits = site.ranges.get(label)
    judged = codes.interpretation(wilson if isinstance(wilson, list) else None, limits)
    found = frame.observation(
        number,
        f"{codes.LOINC[site.settings.codes][label]}^{codes.NAMES[label]}^LN",
        f"{percent:.1f}" if isinstance(percent, (int, float)) else "",
        _PERCENT,
        limits=f"{limits[0]:g}-{limits[1]:g}" if limits else "",
        flag=judged or "",
    )
    note = f"{share['count']} cells"
    if isinstance(wilson, list):
        note += f", 95 % interval {wilson[0]:.1f}-{wilson[1]:.1f} %"
    return found + _segment("NTE", "1", "L", escaped(note))


def _segment(*fields: str) -> str:
    return "|".join(fields).rstrip("|") + "\r"


def _time(wall: str | None) -> str:
    """Write a moment as HL7 does, with milliseconds and zone; empty for none."""
    if wall is None:
        return ""
    moment = dating.parse(wall)
    return moment.strftime("%Y%m%d%H%M%S") + f".{moment.microsecond // 1000:03}+0000"


def read_acknowledgement(data: bytes) -> Acknowledgement | None:
    """Read the MSA segment of an answer; None when there is none."""
    text = data.decode("utf-8", errors="replace")
    for segment in re.split(r"[\r\n]+", text):
        fields = segment.split("|")
        if fields[0] == "MSA" and len(fields) >= 3:
            return Acknowledgement(fields[1].strip(), fields[2].strip(), fields[3].strip() if len(fields) > 3 else "")
    return None
