"""Which site an administrator acts for: one who sees one site alone does nothing elsewhere."""

from __future__ import annotations

from edge.hub.core import Person
from edge.hub.problems import forbidden


def site(person: Person, wanted: str) -> str:
    """Give the site that something is made for. Raises RefusedError 403 for one that is not the person's."""
    if not person.site:
        return wanted.replace("\0", "")
    if wanted not in {"", person.site}:
        raise forbidden("an administrator of that site")
    return person.site


def require_all_sites(person: Person) -> None:
    """Raise RefusedError 403 for an administrator of one site: the roll-outs are everyone's."""
    if person.site:
        raise forbidden("an administrator of all sites")
