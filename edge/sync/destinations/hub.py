"""A Leukoscope hub, by docs/sync-protocol.md."""

from __future__ import annotations

import gzip
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from edge.core import clock
from edge.store.incoming import Exchange
from edge.sync import content, dating, messages, privacy, secrets
from edge.sync.destinations.base import Site, Work
from edge.sync.http import Client, Response
from edge.sync.settings import HubDestination
from edge.sync.trouble import BlockedError, ConflictError, GapError, RefusedError, SyncError, UnreachableError

PART_BYTES: Final = 256 * 1024
"""A picture larger than this goes alone, in parts of this size."""

_QUESTION: Final = 5_000
_Message = TypeVar("_Message")


class HubSender:
    """Sends to a hub. `send` sends the numbers, `complete` the pictures."""

    ordered = True
    replaces = False

    def __init__(self, destination: HubDestination, site: Site) -> None:
        self._destination = destination
        self._site = site
        self._client = Client(destination.url, ca_file=destination.ca_file, bandwidth=site.bandwidth)
        self._credential = secrets.Credential()

    def __enter__(self) -> HubSender:
        self._client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def begin(self, exchange: Exchange) -> None:
        """Sign in, meet the hub's clock, and see whether it was restored from a backup."""
        name = self._destination.name
        self._credential = secrets.load_credential(self._site.data_folder, name)
        before = clock.read()
        state = self._state()
        after = clock.read()
        anchor = dating.anchor_from_hub(before, after, state.server_time)
        if anchor is not None and after.tier != "network":
            exchange.keep_anchor(anchor)
        remembered = exchange.contact(name)
        if remembered.epoch and remembered.epoch != state.epoch:
            exchange.again(name, ("delivered", "accepted"))
            exchange.forget_anchors_sent(name)
        exchange.remember(name, replace(remembered, epoch=state.epoch))
        for each in exchange.unsent_anchors(name):
            source = "hub" if each.source == "hub" else "time-server"
            sent = messages.ClockAnchor(content.moment(each.device), each.trusted, source)  # type: ignore[arg-type]
            boot = urllib.parse.quote(each.device.boot_id, safe="")
            self._expect(self._ask("PUT", f"/device/clock-anchors/{boot}", messages.encode(sent)), 200, 201)
            exchange.mark_anchor_sent(name, each.device.boot_id)

    def _state(self) -> messages.DeviceState:
        """Ask who this device is at the hub; with a secret that was being replaced, the new one is tried first."""
        waiting = self._credential
        if waiting.pending:
            self._credential = secrets.Credential(waiting.device_id, waiting.pending)
            answer = self._ask("GET", "/device", check=False)
            if answer.status == 200:
                secrets.save_credential(self._site.data_folder, self._destination.name, self._credential)
                return self._read(answer, messages.DeviceState)
            self._credential = waiting
        return self._read(self._expect(self._ask("GET", "/device"), 200), messages.DeviceState)

    def send(self, work: Work) -> bool:
        """Send the numbers of a version."""
        delivery, exchange = work.delivery, work.exchange
        body = exchange.frozen(delivery)
        if body is None:
            body = messages.encode(content.version(work.parcel, exchange.picture))
            exchange.freeze(delivery, messages.sha256(body), body)
        digest = messages.sha256(body)
        answer = self._ask(
            "PUT",
            f"/results/{delivery.id}/versions/{delivery.version}",
            body,
            headers={messages.CONTENT_HASH: digest},
            refusals=(409, 412),
        )
        problem = answer.problem()
        if answer.status == 412:
            newest = problem.get("newest")
            raise GapError(newest if isinstance(newest, int) and newest >= 0 else 0)
        if answer.status == 409:
            held = problem.get("content_sha256")
            if problem.get("code") == "other-content" and held in {digest, delivery.content_sha256}:
                return False
            raise ConflictError(
                str(problem.get("code") or "conflict")[:80],
                f"{self._client.host} holds other contents as version {delivery.version} of result {delivery.id}.",
                "Look at both and decide: leuko sync conflicts, leuko sync resolve.",
                held if isinstance(held, str) else None,
            )
        said = self._read(self._expect(answer, 200, 201), messages.Acknowledgement)
        if (said.id, said.version, said.content_sha256) != (delivery.id, delivery.version, digest):
            raise _nonsense(self._client.host, "it acknowledged something else")
        return not said.missing

    def complete(self, work: Work) -> None:
        """Send those pictures of a version that the hub lacks."""
        for _ in range(4):
            missing = self._missing([row.sha256 for row in self._references(work)])
            if not missing:
                return
            self._send_pictures(work, missing)
        raise _nonsense(self._client.host, "it still lacks pictures that it acknowledged")

    def _references(self, work: Work) -> tuple[messages.PictureReference, ...]:
        return tuple(content.reference(row, work.exchange.picture) for row in work.parcel.pictures)

    def _missing(self, digests: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        wanted = list(dict.fromkeys(digests))
        for place in range(0, len(wanted), _QUESTION):
            question = messages.PictureQuestion(tuple(wanted[place : place + _QUESTION]))
            answer = self._expect(self._ask("POST", "/pictures/missing", messages.encode(question)), 200)
            found |= {each.sha256: each.offset for each in self._read(answer, messages.PictureAnswer).missing}
        return {digest: offset for digest, offset in found.items() if digest in set(wanted)}

    def _send_pictures(self, work: Work, missing: Mapping[str, int]) -> None:
        batch: list[bytes] = []
        for digest, jpeg in self._wanted(work, missing):
            if len(jpeg) > PART_BYTES:
                self._send_parts(digest, jpeg, missing[digest])
                continue
            if sum(len(each) + 36 for each in batch) + len(jpeg) + 36 > self._batch_bytes():
                self._send_batch(batch)
                batch = []
            batch.append(jpeg)
        if batch:
            self._send_batch(batch)

    def _wanted(self, work: Work, missing: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
        done = set()
        for row in work.parcel.pictures:
            jpeg = work.exchange.picture(row.sha256)
            if jpeg is None:
                if row.sha256 in missing:
                    raise RefusedError(
                        "pictures-released",
                        f"A picture that {self._client.host} lacks is no longer on this device.",
                        "The numbers are there; put back a backup of the pictures if they are needed.",
                    )
                continue
            cleaned = privacy.without_metadata(jpeg)
            digest = messages.sha256(cleaned)
            if digest in missing and digest not in done:
                done.add(digest)
                yield digest, cleaned

    def _batch_bytes(self) -> int:
        """Bytes of pictures in one request: what goes out in about 20 seconds, so that a cut costs little."""
        rate = self._site.bandwidth.rate
        return messages.MAX_BATCH_BYTES // 4 if rate <= 0 else int(min(max(rate * 20, 65_536), 1_048_576))

    def _send_batch(self, batch: list[bytes]) -> None:
        body = messages.pack(batch)
        answer = self._expect(self._ask("POST", "/pictures", body, kind=messages.PICTURES_TYPE), 200)
        if self._read(answer, messages.PicturesReceived).refused:
            raise RefusedError(
                "picture-refused",
                f"{self._client.host} refused a picture.",
                "It is sent again by `leuko sync retry`; tell the hub's administrator if it is refused again.",
            )

    def _send_parts(self, digest: str, jpeg: bytes, offset: int) -> None:
        stumbled = 0
        while True:
            last = min(offset + PART_BYTES, len(jpeg)) - 1
            answer = self._ask(
                "PUT",
                f"/pictures/{digest}",
                jpeg[offset : last + 1],
                headers={"Content-Range": f"bytes {offset}-{last}/{len(jpeg)}"},
                kind="image/jpeg",
                refusals=(409, 422),
            )
            if answer.status in {200, 201}:
                return
            held = answer.headers.get(messages.UPLOAD_OFFSET.lower(), "")
            if answer.status == 202 and held.isdigit() and offset < int(held) <= len(jpeg):
                offset = int(held)
                continue
            stumbled += 1
            if stumbled > 3:
                raise _nonsense(self._client.host, f"it does not take picture {digest}")
            offset = self._held(digest)

    def _held(self, digest: str) -> int:
        answer = self._ask("HEAD", f"/pictures/{digest}", refusals=(404,))
        held = answer.headers.get(messages.UPLOAD_OFFSET.lower(), "")
        return int(held) if answer.status == 200 and held.isdigit() else 0

    def end(self, exchange: Exchange) -> None:
        """Fetch what was signed or changed at the hub, and tell how the device is."""
        from edge.sync import returning

        name = self._destination.name
        more = True
        while more:
            remembered = exchange.contact(name)
            query = urllib.parse.urlencode({"after": remembered.cursor, "limit": 20})
            answer = self._expect(self._ask("GET", f"/device/changes?{query}"), 200)
            found = self._read(answer, messages.Changes)
            for change in found.changes:
                returning.take(change, name, self._site.database, exchange)
            exchange.remember(name, replace(remembered, cursor=found.cursor))
            more = found.more and found.cursor != remembered.cursor
        self.report(exchange)

    def wanted_release(self) -> messages.WantedRelease | None:
        """Ask which bundle this device shall have; None when the hub does not say, or not to this device."""
        answer = self._ask("GET", "/device/release", refusals=(403, 404))
        return self._read(answer, messages.WantedRelease) if answer.status == 200 else None

    def report(self, exchange: Exchange) -> None:
        """Tell how the device is, and what came of the newest roll-out."""
        from edge.sync.health import report

        name = self._destination.name
        remembered = exchange.contact(name)
        sequence = remembered.reports + 1
        exchange.remember(name, replace(remembered, reports=sequence))
        health = report(self._site, exchange, name, sequence)
        self._expect(self._ask("PUT", "/device/health", messages.encode(health)), 200, 204)

    def rotate(self, exchange: Exchange) -> None:
        """Replace the secret: kept before it is told, used once the hub knows it."""
        self.begin(exchange)
        known = self._credential
        fresh = known.pending or secrets.new_secret()
        secrets.save_credential(
            self._site.data_folder, self._destination.name, secrets.Credential(known.device_id, known.secret, fresh)
        )
        asked = messages.RotationRequest(messages.credential_sha256(fresh))
        self._expect(self._ask("POST", "/device/credential", messages.encode(asked)), 200, 204)
        self.begin(exchange)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        kind: str = "application/json",
        refusals: Sequence[int] = (),
        check: bool = True,
    ) -> Response:
        sent = dict(headers or {})
        sent["Authorization"] = messages.authorization(self._credential.device_id, self._credential.secret)
        sent["Accept"] = "application/json"
        if body:
            sent["Content-Type"] = kind
            if kind == "application/json" and len(body) > 512:
                body = gzip.compress(body, 6, mtime=0)
                sent["Content-Encoding"] = "gzip"
        answer = self._client.request(method, messages.PREFIX + path, body, sent)
        if check and answer.status >= 400 and answer.status not in refusals:
            raise _refusal(self._client.host, answer)
        return answer

    def _expect(self, answer: Response, *statuses: int) -> Response:
        if answer.status not in statuses:
            raise _nonsense(self._client.host, f"it answered {answer.status}")
        return answer

    def _read(self, answer: Response, kind: type[_Message]) -> _Message:
        try:
            return messages.decode(answer.body, kind)
        except msgspec.MsgspecError as error:
            raise _nonsense(self._client.host, str(error)) from None


def _refusal(host: str, answer: Response) -> SyncError:
    problem = answer.problem()
    code = str(problem.get("code") or f"http-{answer.status}")[:80]
    message = f"{host} answered {answer.status}: {str(problem.get('message') or 'no reason given')[:300]}"
    cure = str(problem.get("cure") or "")[:300]
    if answer.status in {401, 403, 426}:
        return BlockedError(
            code, message, cure or "Ask the hub's administrator; enrol again with a new code if needed."
        )
    return RefusedError(code, message, cure or "See `leuko sync conflicts`; after the cause is gone: leuko sync retry.")


def _nonsense(host: str, why: str) -> UnreachableError:
    return UnreachableError(
        "answer-not-understood",
        f"The answer of {host} is not understood: {why[:300]}.",
        "Check the address: is that the hub, and is it up to date?",
    )


def enrol(destination: HubDestination, site: Site, code: str, software: str) -> messages.Enrolment:
    """Become a device of the hub. May be repeated with the same code when the answer was lost.

    Raises `SyncError`: what the hub said against it, or why it could not be asked.
    """
    known = secrets.load_credential(site.data_folder, destination.name, enrolled=False)
    fresh = known.pending or secrets.new_secret()
    secrets.save_credential(
        site.data_folder, destination.name, secrets.Credential(known.device_id, known.secret, fresh)
    )
    request = messages.EnrolmentRequest(
        code.strip(), messages.credential_sha256(fresh), site.device, destination.device_class, software
    )
    with Client(destination.url, ca_file=destination.ca_file) as client:
        answer = client.request(
            "POST",
            messages.PREFIX + "/enrolments",
            messages.encode(request),
            {"Content-Type": "application/json", "Accept": "application/json"},
        )
        if answer.status not in {200, 201}:
            raise _refusal(client.host, answer)
        try:
            enrolment = messages.decode(answer.body, messages.Enrolment)
        except msgspec.MsgspecError as error:
            raise _nonsense(client.host, str(error)) from None
    secrets.save_credential(site.data_folder, destination.name, secrets.Credential(enrolment.device_id, fresh))
    return enrolment
