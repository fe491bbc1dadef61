"""A FHIR R4 or R4B server: one transaction for each version."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Final

from edge.store.incoming import Exchange
from edge.sync import fhir, messages, secrets
from edge.sync.destinations.base import Site, Work
from edge.sync.http import Client, Response
from edge.sync.settings import FhirDestination
from edge.sync.trouble import BlockedError, ConflictError, RefusedError, SyncError, UnreachableError

_TYPE: Final = "application/fhir+json"


class FhirSender:
    """Sends transactions, with a token where the server wants one."""

    ordered = False
    replaces = True

    def __init__(self, destination: FhirDestination, site: Site) -> None:
        self._destination = destination
        self._site = site
        self._client = Client(destination.url, ca_file=destination.ca_file, bandwidth=site.bandwidth)
        self._token = ""

    def __enter__(self) -> FhirSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def begin(self, exchange: Exchange) -> None:
        """Get a token, and see that a FHIR server of the right version answers."""
        del exchange
        self._token = self._new_token()
        answer = self._ask("GET", "/metadata")
        found = _json(answer)
        version = str(found.get("fhirVersion", ""))
        if answer.status == 200 and found.get("resourceType") == "CapabilityStatement":
            if not version.startswith(("4.0", "4.1", "4.3")):
                raise BlockedError(
                    "fhir-version", f"{self._client.host} speaks FHIR {version or '?'}.", "R4 (4.0) or R4B is needed."
                )
            return
        # A server may keep its capabilities to itself; but a web page is not a FHIR server.
        if answer.status not in {401, 403, 404}:
            raise _nonsense(self._client.host, f"it answered {answer.status} to /metadata")

    def send(self, work: Work) -> bool:
        """Post a version as one transaction: all of it or nothing."""
        sent = fhir.bundle(work, self._site, self._destination.write)
        body = messages.canonical(sent)
        answer = self._ask("POST", "", body)
        if answer.status == 401 and self._token:
            self._token = self._new_token()
            answer = self._ask("POST", "", body)
        if answer.status not in {200, 201}:
            raise _refusal(self._client.host, answer)
        entries = _json(answer).get("entry")
        statuses = [_status(entry) for entry in entries] if isinstance(entries, list) else []
        bad = [status for status in statuses if not status.startswith("2")]
        if bad:
            raise RefusedError(
                "fhir-entry",
                f"{self._client.host} did not take a part of the transaction: {bad[0][:80]}.",
                "Ask the server's administrator; then: leuko sync retry.",
            )
        if len(statuses) != len(sent["entry"]):
            raise _nonsense(self._client.host, "it did not answer for every resource")
        return True

    def complete(self, work: Work) -> None:
        """Do nothing: `send` is all there is."""

    def end(self, exchange: Exchange) -> None:
        """Do nothing: nothing comes back."""

    def _ask(self, method: str, path: str, body: bytes = b"") -> Response:
        headers = {"Accept": _TYPE}
        if body:
            headers["Content-Type"] = _TYPE
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return self._client.request(method, path or "/", body, headers)

    def _new_token(self) -> str:
        if self._destination.client_id:
            from edge.sync import smart

            return smart.token(self._destination)
        if self._destination.token_file:
            from pathlib import Path

            return secrets.read(Path(self._destination.token_file).expanduser()).strip()
        return ""


def _json(answer: Response) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _status(entry: object) -> str:
    response = entry.get("response") if isinstance(entry, dict) else None
    return str(response.get("status", "")) if isinstance(response, dict) else ""


def _refusal(host: str, answer: Response) -> SyncError:
    message = f"{host} answered {answer.status}: {answer.complaint() or 'no reason given'}"
    if answer.status in {401, 403}:
        return BlockedError(
            f"http-{answer.status}", message, "Check client_id, key, scope and token of this destination."
        )
    if answer.status == 412:
        return ConflictError(
            "fhir-duplicates", message, "The server holds two resources with one identifier: have one removed there."
        )
    if answer.status == 409:
        return UnreachableError("http-409", message, "It is tried again.")
    if answer.status == 404:
        return BlockedError("http-404", message, "Check the address: it is the base of the FHIR server.")
    return RefusedError(f"http-{answer.status}", message, "Ask the server's administrator; then: leuko sync retry.")


def _nonsense(host: str, why: str) -> UnreachableError:
    return UnreachableError(
        "answer-not-understood",
        f"The answer of {host} is not understood: {why}.",
        "Is that a FHIR server's base address?",
    )
