"""Versions that come back from a hub: saved when they follow, kept for a person when they contradict."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import msgspec

from edge.core.errors import UsageError
from edge.core.types import ResultRecord
from edge.store.incoming import Exchange
from edge.store.results import ResultStore
from edge.sync import content, messages
from edge.sync.trouble import UnreachableError

_log = logging.getLogger(__name__)


def take(change: messages.Change, destination: str, database: Path, exchange: Exchange) -> None:
    """Save a version made at the hub, or keep it for a person's decision. Taking it again changes nothing.

    Raises `UnreachableError` for a change that is damaged: it is asked for again.
    """
    body = bytes(change.result)
    if messages.sha256(body) != change.content_sha256:
        raise UnreachableError("answer-damaged", "A version from the hub does not have its hash.", "It is asked again.")
    try:
        received = messages.decode(body, messages.ResultVersion)
    except msgspec.MsgspecError as error:
        raise UnreachableError(
            "answer-not-understood", f"A version from the hub is not understood: {error}.", "Update the older side."
        ) from None
    with ResultStore(database) as store:
        local = store.get(received.id)
        if local is None:
            # Nothing is lost: the hub has it. This store was replaced, and the hub still knows the device.
            _log.warning("version %d of result %s is not of this store", received.version, received.id)
            return
        waiting = bool(exchange.incoming(destination, received.id))
        before = store.get(received.id, received.version - 1) or local
        if waiting or not store.receive(
            content.record(received, before),
            received.audit.event,
            received.audit.reason,
            destination=destination,
            content_sha256=change.content_sha256,
        ):
            exchange.keep_incoming(destination, received.id, received.version, change.content_sha256, body)


def resolve(identifier: str, destination: str, keep: str, operator: str, database: Path) -> ResultRecord:
    """End a conflict by a person's decision: the version after the greatest of both sides holds what is kept.

    `keep` is "device" or "hub". Versions of the hub whose numbers are free here are saved first: none is missing.

    Raises `UsageError`: `operator-missing`, `no-conflict`, `nothing-from-hub`; `StoreError` as the store does.
    """
    if not operator.strip():
        raise UsageError("operator-missing", "Nobody is named who decides.", "Give --operator, or set `operator`.")
    with Exchange(database) as exchange, ResultStore(database) as store:
        waiting = exchange.incoming(destination, identifier)
        stuck = [each for each in exchange.find(destination, ("conflict",)) if each.id == identifier]
        mine = store.get(identifier)
        if mine is None or not (waiting or stuck):
            raise UsageError(
                "no-conflict", f"Result {identifier} is in no conflict with {destination}.", "See: leuko sync conflicts"
            )
        if keep == "hub" and not waiting:
            raise UsageError(
                "nothing-from-hub",
                f"What {destination} holds of result {identifier} has not come here.",
                "Run `leuko sync run`, or keep the device's version.",
            )
        received = [messages.decode(each.body, messages.ResultVersion) for each in waiting]
        for kept_body, each in zip(waiting, received, strict=True):
            if each.version == mine.version + 1 and store.receive(
                content.record(each, mine),
                each.audit.event,
                each.audit.reason,
                destination=destination,
                content_sha256=kept_body.content_sha256,
            ):
                found = store.get(identifier)
                mine = found if found is not None else mine
        signed = any(entry.event == "signed" for entry in store.trail(identifier))
        kept = store.get(identifier, stuck[-1].version) if stuck else mine
        chosen = content.record(received[-1], mine) if keep == "hub" else (kept or mine)
        decided = dataclasses.replace(
            chosen,
            version=mine.version + 1,
            operator=operator.strip(),
            status="corrected" if signed else "preliminary",
            pictures=mine.pictures,
        )
        store.save(decided, f"conflict with {destination} decided: what the {keep} holds is kept")
        for delivery in stuck:
            exchange.move(delivery, "settled", message=f"decided by {operator.strip()}", tried=False)
        exchange.settle_incoming(destination, identifier)
    return decided
