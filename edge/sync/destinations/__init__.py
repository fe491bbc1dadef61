"""Where results go: one file a kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.sync.settings import FhirDestination, FolderDestination, HubDestination

if TYPE_CHECKING:
    from edge.sync.destinations.base import Sender, Site
    from edge.sync.settings import Destination


def open_sender(destination: Destination, site: Site) -> Sender:
    """Make the sender for a destination; nothing is touched until it is entered. Raises `BlockedError`."""
    if isinstance(destination, HubDestination):
        from edge.sync.destinations.hub import HubSender

        return HubSender(destination, site)
    if isinstance(destination, FhirDestination):
        from edge.sync.destinations.fhir import FhirSender

        return FhirSender(destination, site)
    if isinstance(destination, FolderDestination):
        from edge.sync.destinations.folder import FolderSender

        return FolderSender(destination, site)
    from edge.sync.destinations.hl7 import Hl7Sender

    return Hl7Sender(destination, site)
