"""A version of a result as a FHIR R4 transaction: Devices, Specimen, Observations, DiagnosticReport, Provenance.

Also valid as R4B. Every resource has the same identifier at every attempt and in every version, so that a second post
finds the first one, and a correction or a sign-off lands on it:

* `conditional`: Devices, Specimen and Provenance are created unless they exist (`ifNoneExist`); Observations and the
  DiagnosticReport are put by their identifier (conditional update);
* `put-id`: everything is put to an id of our own (the server must allow update as create).

Marked by the conventions of "AI Transparency on FHIR" (HL7): `meta.security` AIAST, the model as a Device, Provenance.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from edge.core.labels import LABELS, OTHER
from edge.core.types import ClockReading
from edge.sync import codes, dating
from edge.sync.destinations.base import Site, Work

Resource = dict[str, Any]

_LOINC: Final = "http://loinc.org"
_UCUM: Final = "http://unitsofmeasure.org"
_SNOMED: Final = "http://snomed.info/sct"
_V3: Final = "http://terminology.hl7.org/CodeSystem/v3-"
_ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_AI: Final = {"system": f"{_V3}ObservationValue", "code": "AIAST", "display": "Artificial Intelligence asserted"}


def bundle(work: Work, site: Site, write: str = "put-id") -> Resource:
    """Make the transaction. `write` is "conditional" or "put-id"."""
    made = _Transaction(work, site, write)
    record = work.parcel.record
    scope = made.add(_scope(record.device), "if-none")
    model = made.add(_model(record.bundle, record.bundle_sha256, record.runtime), "if-none")
    specimen = made.add(made.specimen(), "if-none", key=made.sample_identifier)
    observations = [made.add(each, "replace") for each in made.observations(model, specimen)]
    report = made.add(made.report(specimen, observations), "replace")
    made.add(made.provenance([report, *observations], model, scope), "if-none", by_tag=True)
    return {"resourceType": "Bundle", "type": "transaction", "entry": made.entries}


class _Transaction:
    """The entries of one bundle, and what they share."""

    def __init__(self, work: Work, site: Site, write: str) -> None:
        self._work = work
        self._parcel = work.parcel
        self._record = work.parcel.record
        self._site = site
        self._write = write
        self._status = codes.report_status(self._record.status, self._parcel.signed)
        self.entries: list[Resource] = []

    def add(self, resource: Resource, how: str, *, key: Resource | None = None, by_tag: bool = False) -> Resource:
        """Add a resource whose `id` is its identifier; returns a reference to it. `how` is "if-none" or "replace"."""
        identity = str(resource.pop("id"))
        kind = resource["resourceType"]
        full = f"urn:uuid:{identity}"
        if by_tag:
            resource["meta"] = {"tag": [{"system": codes.LOCAL, "code": identity}]}
            query = f"_tag={_query(codes.LOCAL, identity)}"
        else:
            # Not the UUID as a URN: a server may take that for a reference within the bundle and rewrite it.
            key = key or {"system": codes.LOCAL, "value": identity}
            resource["identifier"] = [key]
            query = f"identifier={_query(key['system'], key['value'])}"
        if self._write == "put-id":
            resource["id"] = identity
            request = {"method": "PUT", "url": f"{kind}/{identity}"}
        elif how == "if-none":
            request = {"method": "POST", "url": kind, "ifNoneExist": query}
        else:
            request = {"method": "PUT", "url": f"{kind}?{query}"}
        self.entries.append({"fullUrl": full, "resource": resource, "request": request})
        return {"reference": f"{kind}/{identity}" if self._write == "put-id" else full}

    @property
    def sample_identifier(self) -> Resource:
        """Identify the sample: by the laboratory's system where one is configured, else within this device."""
        if self._site.settings.sample_system:
            return {"system": self._site.settings.sample_system, "value": self._record.sample}
        return {"system": codes.LOCAL, "value": self._specimen_id()}

    def _specimen_id(self) -> str:
        where = self._site.settings.sample_system or self._record.device
        return codes.identifier("specimen", where, self._record.sample)

    def specimen(self) -> Resource:
        """Describe the sample."""
        accession: Resource = {"value": self._record.sample}
        if self._site.settings.sample_system:
            accession["system"] = self._site.settings.sample_system
        return {
            "resourceType": "Specimen",
            "id": self._specimen_id(),
            "accessionIdentifier": accession,
            "type": _coded(_SNOMED, *codes.SNOMED_BLOOD),
            **self._subject(),
        }

    def _subject(self) -> Resource:
        patient = self._record.document.get("patient")
        if not isinstance(patient, str) or not patient:
            return {}
        identity: Resource = {"value": patient}
        if self._site.settings.patient_system:
            identity["system"] = self._site.settings.patient_system
        return {"subject": {"type": "Patient", "identifier": identity}}

    def observations(self, model: Resource, specimen: Resource) -> list[Resource]:
        """Give one observation a class, one for the other cells, and one for the number of cells counted."""
        counts = self._record.document["differential"]
        made = [self._share(label, counts) for label in LABELS]
        located = counts["counted"] + counts["other"]
        other = self._observation(OTHER, _coded(_LOINC, self._codes()[OTHER], codes.NAMES[OTHER]))
        percent = codes.other_percent(counts)
        other |= _absent("Too few cells were located.") if percent is None else _percent(round(percent, 1))
        other["note"] = [{"text": f"{counts['other']} of {located} located cells; of all located, not of the counted."}]
        total = self._observation("counted", _coded(codes.LOCAL, "cells-counted", "Leukocytes counted"))
        total["valueQuantity"] = _quantity(counts["counted"], "cells", "{cells}")
        total["note"] = [{"text": "; ".join([f"tier: {counts['tier']}", *map(str, counts["flags"])])}]
        made += [other, total]
        return [{**each, "device": model, "specimen": specimen} for each in made]

    def _share(self, label: str, counts: Resource) -> Resource:
        share = counts["classes"][label]
        found = self._observation(label, _coded(_LOINC, self._codes()[label], codes.NAMES[label]))
        limits = self._site.ranges.get(label)
        if share["percent"] is None:
            found |= _absent("Too few cells were counted, or too many were not recognised, to claim a percentage.")
        else:
            found |= _percent(round(share["percent"], 1))
            judged = codes.interpretation(share["wilson"], limits)
            if judged:
                found["interpretation"] = [_coded(f"{_V3}ObservationInterpretation", judged)]
        if limits is not None:
            found["referenceRange"] = [{"low": _quantity(limits[0], "%", "%"), "high": _quantity(limits[1], "%", "%")}]
        parts = [_component("count", "Cells of the class", _quantity(share["count"], "cells", "{cells}"))]
        if share["wilson"] is not None:
            low, high = share["wilson"]
            parts.append(_component("ci-low", "95 % Wilson interval, low", _quantity(round(low, 1), "%", "%")))
            parts.append(_component("ci-high", "95 % Wilson interval, high", _quantity(round(high, 1), "%", "%")))
        return {**found, "component": parts}

    def _observation(self, what: str, code: Resource) -> Resource:
        return {
            "resourceType": "Observation",
            "id": codes.identifier("observation", self._record.id, what),
            "meta": {"security": [_AI]},
            "status": self._status,
            "category": [_coded("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")],
            "code": code,
            "method": _coded(_SNOMED, *codes.SNOMED_MICROSCOPY),
            **self._subject(),
            **self._effective(),
            **self._issued(),
        }

    def _codes(self) -> dict[str, str]:
        return dict(codes.LOINC[self._site.settings.codes])

    def _effective(self) -> Resource:
        dated = self._work.dated()
        if dated.wall is None:
            # The device's clock was not set: no date is better than a wrong one.
            return {"_effectiveDateTime": _unknown()}
        return {"effectiveDateTime": dated.wall}

    def _issued(self) -> Resource:
        wall = self._date(self._parcel.entry.recorded)
        return {"issued": wall} if wall else {}

    def _date(self, reading: ClockReading) -> str | None:
        return dating.dated(reading, self._work.exchange.anchor(reading.boot_id)).wall

    def report(self, specimen: Resource, observations: list[Resource]) -> Resource:
        """Bind the observations together."""
        entry = self._parcel.entry
        signer = {"resultsInterpreter": [{"display": entry.operator}]} if self._parcel.signed and entry.operator else {}
        return {
            "resourceType": "DiagnosticReport",
            "id": codes.identifier("report", self._record.id),
            "meta": {"security": [_AI]},
            "status": self._status,
            "category": [_coded("http://terminology.hl7.org/CodeSystem/v2-0074", "HM", "Hematology")],
            "code": _coded(_LOINC, codes.PANEL, "Leukocyte differential panel"),
            **self._subject(),
            **self._effective(),
            **self._issued(),
            "specimen": [specimen],
            "result": observations,
            **signer,
            "conclusion": codes.NOTICE,
        }

    def provenance(self, targets: list[Resource], model: Resource, scope: Resource) -> Resource:
        """Tell who made this version: the model on the device, and the person who changed or signed it."""
        entry, role = self._parcel.entry, "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
        recorded = self._date(entry.recorded)
        agents: list[Resource] = [{"type": _coded(role, "assembler"), "who": model, "onBehalfOf": scope}]
        if entry.operator:
            part = {"signed": "verifier", "corrected": "author"}.get(entry.event, "performer")
            agents.append({"type": _coded(role, part), "who": {"display": entry.operator}})
        return {
            "resourceType": "Provenance",
            "id": codes.identifier("provenance", self._record.id, self._record.version),
            "target": targets,
            **({"recorded": recorded} if recorded else {"_recorded": _unknown()}),
            "activity": {"text": f"version {self._record.version}: {entry.event}"},
            "agent": agents,
        }


def _scope(name: str) -> Resource:
    return {
        "resourceType": "Device",
        "id": codes.identifier("device", name),
        "deviceName": [{"name": name, "type": "user-friendly-name"}],
        "type": {"text": "Digital microscope with an on-board cell classifier"},
    }


def _model(name: str, digest: str, runtime: str) -> Resource:
    title, _, version = name.partition("@")
    return {
        "resourceType": "Device",
        "id": codes.identifier("model", name, digest, runtime),
        "deviceName": [{"name": title, "type": "model-name"}],
        "type": {"text": "Artificial intelligence: white blood cell classifier"},
        "version": [{"value": version or "unknown"}, {"value": f"sha256:{digest}"}, {"value": runtime or "unknown"}],
    }


def _coded(system: str, code: str, display: str = "") -> Resource:
    coding = {"system": system, "code": code}
    return {"coding": [coding], "text": display} if display else {"coding": [coding]}


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": _UCUM, "code": code}


def _percent(value: float) -> Resource:
    return {"valueQuantity": _quantity(value, "%", "%")}


def _absent(why: str) -> Resource:
    reason = _coded("http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-performed", why)
    return {"dataAbsentReason": reason}


def _unknown() -> Resource:
    return {"extension": [{"url": _ABSENT, "valueCode": "unknown"}]}


def _component(code: str, text: str, quantity: Resource) -> Resource:
    return {"code": _coded(codes.LOCAL, code, text), "valueQuantity": quantity}


def _query(system: str, value: str) -> str:
    return quote(f"{system}|{value}", safe="")
