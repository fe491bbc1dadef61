"""Which bundle is active, as one small file that is only ever replaced whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from edge.bundle import files
from edge.bundle.manifest import Sha256
from edge.core import clock, durable
from edge.core.errors import BundleError

Slot = Literal["a", "b"]
SLOTS: Final[tuple[Slot, ...]] = ("a", "b")
FAILURES_THAT_STOP: Final = 3
"""After so many failed activations in a row nothing is activated any more unless a person insists."""

MAX_PROBATION: Final = 1000
_MAX_BYTES: Final = 256 << 10
_EVENTS: Final = 50

_Text = Annotated[str, Meta(max_length=1000)]


class SlotRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was installed in a slot, and from where: name@version, the hashes of its manifest and of its archive."""

    bundle: _Text
    manifest_sha256: Sha256
    archive_sha256: Sha256
    source: _Text
    installed: _Text


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that happened to the bundles of this device."""

    when: _Text
    what: Literal["installed", "activated", "rolled-back", "passed", "fallen-back", "envelope-exceeded"]
    bundle: _Text
    why: _Text = ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The slots of a device.

    `active` and `previous` are None for the bundle that comes with the package. `staged` is installed and not active.
    `probation` counts the analyses that the active bundle still has to do before it is believed; 0 when it is.
    `failures` counts activations in a row that ended in a rollback by the device itself.
    """

    schema: Literal[1] = 1
    a: SlotRecord | None = None
    b: SlotRecord | None = None
    active: Slot | None = None
    previous: Slot | None = None
    staged: Slot | None = None
    probation: Annotated[int, Meta(ge=0, le=MAX_PROBATION)] = 0
    failures: Annotated[int, Meta(ge=0, le=1000)] = 0
    events: Annotated[tuple[Event, ...], Meta(max_length=_EVENTS)] = ()

    def record(self, slot: Slot | None) -> SlotRecord | None:
        """What is in a slot."""
        return None if slot is None else (self.a if slot == "a" else self.b)

    def name(self, slot: Slot | None) -> str:
        """The bundle in a slot, in words."""
        record = self.record(slot)
        return "the bundle that comes with the package" if record is None else record.bundle

    @property
    def stopped(self) -> bool:
        """Whether too many activations in a row have failed."""
        return self.failures >= FAILURES_THAT_STOP

    def having(
        self,
        what: Literal["installed", "activated", "rolled-back", "passed", "fallen-back", "envelope-exceeded"],
        bundle: str,
        why: str = "",
    ) -> State:
        """The same state with one more event, the newest last."""
        event = Event(when=clock.read().wall, what=what, bundle=bundle, why=plain(why))
        return msgspec.structs.replace(self, events=(*self.events, event)[-_EVENTS:])


def plain(text: str) -> str:
    """Text that can be kept: a name of a file may hold what no text has."""
    return text.encode("utf-8", "replace").decode("utf-8")[:1000]


def load(path: Path) -> State:
    """Read the state; a device without one has only what comes with the package.

    Raises BundleError `slots-damaged` when the file cannot be understood.
    """
    try:
        state = msgspec.json.decode(files.read(path, _MAX_BYTES), type=State)
    except BundleError as error:
        if error.code == "bundle-file-missing":
            return State()
        raise _damaged(path, error.message) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    for slot in (state.active, state.previous, state.staged):
        if slot is not None and state.record(slot) is None:
            raise _damaged(path, "it names an empty slot")
    return state


def _damaged(path: Path, why: str) -> BundleError:
    return BundleError(
        "slots-damaged",
        f"{path} cannot be understood ({why}); the bundle that comes with the package is used.",
        "Remove this file and install the bundle again.",
    )


def save(path: Path, state: State) -> None:
    """Replace the state, and return once the disk has it. Raises StoreError."""
    durable.write_bytes(path, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
