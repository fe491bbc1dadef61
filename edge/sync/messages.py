"""What a device and a hub say to each other: the bodies of docs/sync-protocol.md, as frozen structures.

Both sides use this module. A receiver ignores keys that it does not know, so that either side may be the newer one;
it refuses a body in which a known key is missing or of another kind. The standard library and msgspec only.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

PREFIX: Final = "/api/v1"
"""The path that everything of this version of the protocol begins with."""

CONTENT_HASH: Final = "Leuko-Content-SHA256"
"""Request header of a result version: SHA-256 of the body before compression, in lower-case hexadecimal."""

UPLOAD_OFFSET: Final = "Upload-Offset"
"""Response header of a picture: how many of its first bytes the hub holds."""

UPLOAD_COMPLETE: Final = "Upload-Complete"
"""Response header of a picture: "?1" when the hub holds it whole and its hash is right, else "?0"."""

PICTURES_TYPE: Final = "application/vnd.leukoscope.pictures"
"""Media type of a body that holds several pictures, see `pack`."""

MAX_RESULT_BYTES: Final = 16 * 1024 * 1024
"""A result version, before compression."""

MAX_PICTURE_BYTES: Final = 32 * 1024 * 1024
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""A body of several pictures. A larger picture goes alone, in parts."""

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Identifier = Annotated[
    str, msgspec.Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]
Version = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Message = TypeVar("Message")


class Moment(msgspec.Struct, frozen=True):
    """A moment by the device's clocks: `edge.core.types.ClockReading`. `wall` is UTC in ISO 8601."""

    wall: Text
    monotonic: float
    boot_id: Text
    tier: Literal["network", "rtc", "unknown"]


class PictureReference(msgspec.Struct, frozen=True):
    """A picture of a result, by content. `field` and `cell` count from 0, as in the document; no `cell`: the field."""

    kind: Literal["field", "cell", "activation"]
    field: Count
    cell: Count | None
    sha256: Sha256
    bytes: Count


class AuditLink(msgspec.Struct, frozen=True):
    """Where the version stands in the audit chain of the side that made it, and who did what, when and why."""

    event: Literal["saved", "signed", "corrected"]
    operator: Text
    reason: Text
    recorded: Moment
    sequence: Count
    previous: Sha256
    link: Sha256


class ResultVersion(msgspec.Struct, frozen=True):
    """One version of one result. (`id`, `version`) is fixed at creation, for ever, and so is its content.

    `document` is the JSON of `leuko analyze --json`, in which `file` is "field-1", "field-2", ... and an unreadable
    field has its code without the message: names of files and folders do not leave the device. `patient` is a salted
    hash of the patient's identifier, made on the device; nothing else tells who the patient is.
    """

    id: Identifier
    version: Version
    sample: Text
    patient: Text | None
    operator: Text
    device: Text
    created: Moment
    status: Literal["preliminary", "final", "corrected"]
    bundle: Text
    bundle_sha256: Text
    runtime: Text
    calibration: Text | None
    throttle_bits: int | None
    training_consent: bool
    document: dict[str, Any]
    pictures: tuple[PictureReference, ...]
    audit: AuditLink


class EnrolmentRequest(msgspec.Struct, frozen=True):
    """Asks to become a device of the hub. The device made the secret itself and tells only its SHA-256."""

    code: Text
    credential_sha256: Sha256
    name: Text
    device_class: Text
    software: Text


class Enrolment(msgspec.Struct, frozen=True):
    """The hub's answer: the id that the device has there."""

    device_id: Identifier
    name: Text
    server_time: Text


class RotationRequest(msgspec.Struct, frozen=True):
    """Replaces the device's secret; the old one stays valid until the new one was used once."""

    credential_sha256: Sha256


class DeviceState(msgspec.Struct, frozen=True):
    """What the hub knows about the device that asks. `epoch` changes when the hub was restored from a backup."""

    device_id: Identifier
    name: Text
    epoch: Text
    server_time: Text
    scopes: tuple[str, ...] = ()
    cohort: Text = ""


class ClockAnchor(msgspec.Struct, frozen=True):
    """The true time of one moment of a boot: what re-dates all moments of that boot, by the offset.

    True time of a reading of the same boot = `trusted` + (reading's monotonic - `device`'s monotonic).
    """

    device: Moment
    trusted: Text
    source: Literal["time-server", "hub"]


class MissingPicture(msgspec.Struct, frozen=True):
    """A picture that the hub lacks, and how many of its first bytes it already holds."""

    sha256: Sha256
    offset: Count = 0


class Acknowledgement(msgspec.Struct, frozen=True):
    """The hub holds this version on its disk; `missing` are the pictures it still lacks."""

    id: Identifier
    version: Version
    content_sha256: Sha256
    received: Text
    epoch: Text
    missing: tuple[MissingPicture, ...]


class PictureQuestion(msgspec.Struct, frozen=True):
    """Asks which of these pictures the hub still lacks; at most 10 000."""

    pictures: Annotated[tuple[Sha256, ...], msgspec.Meta(max_length=10_000)]


class PictureAnswer(msgspec.Struct, frozen=True):
    """The pictures of the question that the hub lacks."""

    missing: tuple[MissingPicture, ...]


class PicturesReceived(msgspec.Struct, frozen=True):
    """Which pictures of a batch the hub now holds; `refused` did not have the hash that stood before them."""

    held: tuple[Sha256, ...]
    refused: tuple[Sha256, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """A version that was made at the hub. `result` is a `ResultVersion` in exactly the bytes that were hashed."""

    cursor: Text
    content_sha256: Sha256
    result: msgspec.Raw


class Changes(msgspec.Struct, frozen=True):
    """Versions for this device, in order; `more` when there are others after the last of them."""

    changes: tuple[Change, ...]
    cursor: Text
    more: bool


class Backlog(msgspec.Struct, frozen=True):
    """What still waits on the device for this hub. `oldest` is when the oldest was queued, by the device's clock."""

    results: Count
    pictures: Count
    conflicts: Count
    oldest: Text | None


class WantedRelease(msgspec.Struct, frozen=True):
    """What a device shall have: `bundle` as name@version, None to stay as it is; and the roll-out that says so."""

    bundle: Text | None
    rollout: Text | None


class ReleaseOutcome(msgspec.Struct, frozen=True):
    """What came of a roll-out on a device.

    `state` is one of: postponed (tried again), installed (a person activates it), active (on probation), passed (the
    probation), refused (not by a fault of the bundle), failed (it is damaged, or does not work there), rolled-back
    (during the probation), replaced (by another bundle). A receiver takes others as they are.
    """

    rollout: Text
    bundle: Text
    state: Text
    code: Text
    message: Text
    moment: Moment


class Check(msgspec.Struct, frozen=True):
    """One check of `leuko doctor`."""

    id: Text
    verdict: Literal["ok", "warn", "fail"]
    evidence: Text


class Recent(msgspec.Struct, frozen=True):
    """Sums over the results of the last seven days, by which drift shows. `cells` counts located cells."""

    results: Count
    fields: Count
    fields_refused: Count
    cells: Count
    other: Count
    classes: dict[str, int]


class HealthReport(msgspec.Struct, frozen=True):
    """How the device is. `sequence` counts up for ever on one device: an older report never replaces a newer one."""

    sequence: Count
    reported: Moment
    software: Text
    python: Text
    machine: Text
    bundle: Text
    backlog: Backlog
    recent: Recent
    disk_free_bytes: Count
    disk_total_bytes: Count
    temperature_celsius: float | None
    checks: tuple[Check, ...]
    release: ReleaseOutcome | None = None


class Problem(msgspec.Struct, frozen=True):
    """The body of every 4xx and 5xx answer: a code that never changes, a sentence, and the cure.

    `content_sha256` comes with `other-content` (what the hub holds), `newest` with `version-gap` (the newest version
    the hub holds, 0 for none), `offset` with `other-offset`.
    """

    code: Text
    message: Text
    cure: Text = ""
    content_sha256: Sha256 | None = None
    newest: int | None = None
    offset: int | None = None


def encode(message: msgspec.Struct) -> bytes:
    """Write a message as the one JSON text that means it: sorted keys, no spaces, ASCII, no NaN or infinity.

    Raises `ValueError` for NaN and infinity.
    """
    return canonical(msgspec.to_builtins(message))


def canonical(value: object) -> bytes:
    """Write plain JSON values canonically; otherwise as `encode`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def decode(body: bytes, kind: type[Message]) -> Message:
    """Read a message. Raises `msgspec.ValidationError` or `msgspec.DecodeError` for a body that is not one."""
    return msgspec.json.decode(body, type=kind)


def sha256(data: bytes) -> str:
    """Hash of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def credential_sha256(secret: str) -> str:
    """Hash of a device's secret, as the hub keeps it. The secret holds 256 random bits: it needs no slow hash."""
    return sha256(secret.encode("ascii"))


def authorization(device_id: str, secret: str) -> str:
    """Give the value of the header `Authorization` of a device."""
    return f"Bearer {device_id}.{secret}"


def pack(pictures: list[bytes]) -> bytes:
    """Join pictures for one request: for each 32 bytes of SHA-256, 4 bytes of length (big-endian), and its bytes."""
    return b"".join(hashlib.sha256(each).digest() + len(each).to_bytes(4, "big") + each for each in pictures)


def unpack(body: bytes) -> list[tuple[str, bytes]]:
    """Take a body of `pack` apart into (hash as stated, bytes), up to where it was cut off.

    Whether the bytes have that hash is for the caller to check.
    """
    found, place = [], 0
    while place + 36 <= len(body):
        length = int.from_bytes(body[place + 32 : place + 36], "big")
        if place + 36 + length > len(body):
            break
        found.append((body[place : place + 32].hex(), body[place + 36 : place + 36 + length]))
        place += 36 + length
    return found
