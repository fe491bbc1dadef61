"""From a release to a staged bundle: fetched, verified, unpacked, proven on this device, and only then in a slot."""

from __future__ import annotations

import dataclasses

from edge.bundle import archive, device, manifest, update
from edge.bundle.slots import Slots, Trial
from edge.bundle.state import SlotRecord, plain
from edge.core import clock
from edge.core.errors import BundleError
from edge.core.types import ClockReading


def install(
    slots: Slots,
    source: str,
    wanted: update.Wanted,
    trial: Trial,
    *,
    deadline: float = update.DEADLINE_SECONDS,
    now: ClockReading | None = None,
    ca_file: str = "",
) -> SlotRecord | None:
    """Install the wanted bundle from a folder or URL into the free slot; None when there is nothing newer.

    The slots must be held (`Slots.locked`). Raises BundleError or StoreError; what was active, and what was staged, is
    then as it was, unless the disk failed while the slot itself was being filled: the slot is empty then.
    """
    now = clock.read() if now is None else now
    slots.free_slot()
    wanted = dataclasses.replace(wanted, newer_than=_version_in_use(slots, wanted.name))
    with slots.swept_staging() as staging:
        release = update.fetch(
            source, wanted, slots.trust, staging, deadline=deadline, now=now, known=_installed(slots), ca_file=ca_file
        )
        if release.file is None:
            slots.trust.keep(release.metadata, now)
            return None
        unpacked = staging / "unpacked"
        found = archive.unpack(release.file, unpacked)
        stated = found.manifest
        if (stated.name, stated.version, stated.sha256) != (release.name, release.version, release.manifest_sha256):
            raise BundleError(
                "release-altered",
                f"The archive holds {stated.identity}, not the {release.identity} that was signed.",
                "Tell those who release.",
            )
        if not device.suits(stated.device_classes, wanted.device_class):
            raise BundleError(
                "wrong-device-class",
                f"{stated.identity} is for {', '.join(stated.device_classes)}; this device is {wanted.device_class}.",
                "Install a bundle for this device, or correct its profile (`leuko device show`).",
            )
        trial(unpacked)
        record = SlotRecord(
            bundle=stated.identity,
            manifest_sha256=stated.sha256,
            archive_sha256=found.sha256,
            source=plain(source),
            installed=now.wall,
        )
        slots.trust.keep(release.metadata, now)
        slots.fill(unpacked, record)
        return record


def _version_in_use(slots: Slots, name: str) -> str:
    """The version of the active bundle, if it is one of this name: an older one is installed only by its version."""
    try:
        found = manifest.load(slots.in_use().folder)
    except BundleError:
        return ""
    return found.version if found.name == name else ""


def _installed(slots: Slots) -> frozenset[str]:
    """The hashes of the manifests that need not be fetched again: of the active bundle, and of the staged one."""
    state = slots.load()
    records = (state.record(state.staged), state.record(state.active))
    found = {record.manifest_sha256 for record in records if record is not None}
    if state.active is None:
        found.add(manifest.load(slots.place(None).folder).sha256)
    return frozenset(found)
