"""What devices and people send in the tests of the hub."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge.core.differential import differential
from edge.core.identifiers import uuid7
from edge.core.types import Box, CellCall
from edge.hub import enrolment, people
from edge.report.document import differential_document
from edge.sync import messages as m

MOMENT = m.Moment("2026-11-20T10:00:00.000+00:00", 100.0, "boot-1", "rtc")
PASSWORD = "a few plain words"


def jpeg(seed, side=24):
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def document(labels, sample="S-1", abstained=()):
    """The public JSON of one field with these cells."""
    cells, calls = [], []
    for place, label in enumerate(labels):
        names = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")
        probabilities = {name: 0.9 if name == label else 0.025 for name in names}
        out = place in abstained
        box = [10 * place % 500, 20, 40, 40]
        cells.append(
            {
                "box": box,
                "label": label,
                "probabilities": probabilities,
                "abstained": out,
                "reason": "low-confidence" if out else None,
            }
        )
        calls.append(CellCall(label, tuple(probabilities.values()), out, None, Box(*box)))
    quality = {"accepted": True, "reasons": [], "focus": 1.7}
    return {
        "sample": sample,
        "fields": [{"file": "field-1", "width": 640, "height": 400, "quality": quality, "cells": cells}],
        "differential": differential_document(differential(calls)),
        "bundle": "student@1.2.3",
        "runtime": "litert-int8",
        "elapsed_seconds": 1.5,
    }


def version(number=1, identifier=None, pictures=(), labels=("neutrophil", "monocyte"), consent=True, **changes):
    references = tuple(m.PictureReference(kind, 0, cell, m.sha256(data), len(data)) for kind, cell, data in pictures)
    sample = changes.pop("sample", "S-1")
    values = {
        "id": identifier or uuid7(),
        "version": number,
        "sample": sample,
        "patient": "ab" * 32,
        "operator": "A. Okafor",
        "device": "scope-03",
        "created": MOMENT,
        "status": "preliminary",
        "bundle": "student@1.2.3",
        "bundle_sha256": "cd" * 32,
        "runtime": "litert-int8",
        "calibration": None,
        "throttle_bits": None,
        "training_consent": consent,
        "document": document(labels, sample),
        "pictures": references,
        "audit": m.AuditLink("saved", "A. Okafor", "", MOMENT, number, "0" * 64, "1" * 64),
    }
    return m.ResultVersion(**{**values, **changes})


def report(sequence=1, checks=(), bundle="student@1.2.3", other=0, release=None, **counts):
    recent = m.Recent(3, 12, 1, sum(counts.values()) + other, other, counts)
    backlog = m.Backlog(2, 5, 0, None)
    return m.HealthReport(
        sequence,
        MOMENT,
        "0.2.0",
        "3.11",
        "Raspberry Pi 5",
        bundle,
        backlog,
        recent,
        10**9,
        2 * 10**9,
        51.0,
        checks,
        release,
    )


@dataclass
class DeviceClient:
    """A device as the hub sees it, over a test client of the application."""

    http: object
    id: str
    secret: str
    headers: dict = field(default_factory=dict)

    @property
    def signed(self):
        return {"Authorization": m.authorization(self.id, self.secret), **self.headers}

    def put(self, sent, body=None, **headers):
        body = m.encode(sent) if body is None else body
        return self.http.put(
            f"{m.PREFIX}/results/{sent.id}/versions/{sent.version}",
            content=body,
            headers={**self.signed, m.CONTENT_HASH: m.sha256(body), **headers},
        )

    def get(self, path, **params):
        return self.http.get(m.PREFIX + path, params=params, headers=self.signed)

    def post(self, path, message):
        return self.http.post(m.PREFIX + path, content=m.encode(message), headers=self.signed)

    def send_pictures(self, *pictures):
        headers = {**self.signed, "Content-Type": m.PICTURES_TYPE}
        return self.http.post(f"{m.PREFIX}/pictures", content=m.pack(list(pictures)), headers=headers)

    def part(self, data, first, last, sha256=None, total=None):
        return self.http.put(
            f"{m.PREFIX}/pictures/{sha256 or m.sha256(data)}",
            content=data[first : last + 1],
            headers={**self.signed, "Content-Range": f"bytes {first}-{last}/{total or len(data)}"},
        )


def enrolled(hub, client, name="scope-03", **options):
    """A device that has enrolled."""
    code = enrolment.make_code(hub, name, made_by="test", **options).code
    secret = secrets.token_hex(32)
    request = m.EnrolmentRequest(code, m.credential_sha256(secret), "x", "raspberry-pi-5", "0.2.0")
    answer = client.post(f"{m.PREFIX}/enrolments", content=m.encode(request))
    assert answer.status_code == 201, answer.text
    return DeviceClient(client, answer.json()["device_id"], secret)


class PersonClient:
    """A person who has signed in."""

    def __init__(self, hub, client, name):
        self.http = client
        self.name = name
        identifier = next(account.id for account in people.accounts(hub) if account.name == name)
        session = people.open_session(hub, identifier, name, "127.0.0.1")
        self.token, self.cookie = session.form_token, session.token

    def request(self, method, path, **options):
        headers = {"X-Form-Token": self.token, "Cookie": f"leuko_session={self.cookie}", **options.pop("headers", {})}
        return self.http.request(method, path, headers=headers, **options)

    def api(self, method, path, **options):
        return self.request(method, m.PREFIX + path, **options)

    def form(self, path, **values):
        return self.request("POST", path, data={"form_token": self.token, **values})


def person(hub, client, name="ada", *roles, site=""):
    # Known by a single sign-on: a password takes the time that it must take.
    people.add(hub, name, roles or ("reviewer",), by="test", site=site, subject=f"issuer#{name}")
    return PersonClient(hub, client, name)
