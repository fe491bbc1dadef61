"""What the pages share: the configuration, the store, the live session, and the last records that were looked at."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from starlette.requests import Request

from edge import app
from edge.choices import Choices
from edge.core.errors import NothingToDoError

if TYPE_CHECKING:
    from edge.config import Config
    from edge.core.types import ResultRecord
    from edge.health.check import Check
    from edge.store.results import ResultStore
    from edge.web.live_desk import LiveDesk

KEPT_RECORDS: Final = 3
"""Records kept in memory, at some 5 MB each: a gallery asks for hundreds of their pictures one by one."""


@dataclass(slots=True)
class Site:
    """Made once for the page; its methods may be called from any thread."""

    config: Config
    desk: LiveDesk
    checks: tuple[str, tuple[Check, ...]] | None = None
    chosen: Choices = field(default_factory=Choices)
    _records: OrderedDict[tuple[str, int], ResultRecord] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, *, read_only: bool = True) -> ResultStore:
        """The store of results, to be entered."""
        return app.open_store(self.config, read_only=read_only)

    def record(self, identifier: str, version: int | None = None) -> ResultRecord:
        """A result by its id, in a version or the latest. Raises `NothingToDoError` `no-result`, `StoreError`."""
        if version is not None and (kept := self._kept(identifier, version)) is not None:
            return kept
        with self.store() as store:
            found = store.get(identifier, version)
        if found is None:
            raise NothingToDoError("no-result", "There is no such result.", "Look it up in the list of results.")
        with self._lock:
            # A version never changes once it is saved, so what was read may be kept.
            self._records[found.id, found.version] = found
            while len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)
        return found

    def _kept(self, identifier: str, version: int) -> ResultRecord | None:
        with self._lock:
            found = self._records.get((identifier, version))
            if found is not None:
                self._records.move_to_end((identifier, version))
            return found


def site_of(request: Request) -> Site:
    """The site of a request."""
    found: Site = request.app.state.site
    return found
