"""The configuration of sending: where to, how fast, and how long things are kept. See `edge/default.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Union

import msgspec

Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$")]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class HubDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hub"):
    """A Leukoscope hub. The credential is made by `leuko sync enrol` and kept in the data folder."""

    name: Name
    url: str
    ca_file: str = ""
    device_class: str = ""


class FhirDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fhir"):
    """A FHIR R4 or R4B server, with SMART Backend Services when `client_id` is given."""

    name: Name
    url: str
    ca_file: str = ""
    write: Literal["put-id", "conditional"] = "put-id"
    client_id: str = ""
    private_key_file: str = ""
    key_id: str = ""
    token_url: str = ""
    scope: str = "system/*.write system/*.read"
    token_file: str = ""


class Hl7Destination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="hl7"):
    """A receiver of HL7 v2 ORU^R01 over MLLP, with TLS unless it is this machine."""

    name: Name
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    ca_file: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    sending_facility: str = ""


class FolderDestination(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder"):
    """A folder or a memory stick. `removable`: it must be a mounted disk, lest the mount point itself fills."""

    name: Name
    folder: str
    removable: bool = False


Destination = Union[HubDestination, FhirDestination, Hl7Destination, FolderDestination]  # noqa: UP007  (msgspec reads it)


class Sync(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How anything is sent."""

    kilobytes_per_second: Amount
    metered: Literal["auto", "yes", "no"]
    metered_sends: Literal["everything", "numbers", "nothing"]
    first_retry_seconds: Seconds
    longest_retry_seconds: Seconds
    interval_seconds: Seconds
    codes: Literal["methodless", "automated", "manual"]
    sample_system: str
    patient_system: str
    model_updates: Literal["off", "install", "activate"]


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When pictures are let go and new samples refused."""

    refuse_below_megabytes: Amount
    release_below_megabytes: Amount
    keep_pictures_days: Amount


class Local(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Destinations that `leuko sync enrol` added; kept in the data folder."""

    destinations: tuple[HubDestination, ...] = ()


def local_file(data_folder: Path) -> Path:
    """Where `Local` is kept."""
    return data_folder / "destinations.json"
