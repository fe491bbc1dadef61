"""Who may use the page: browser sessions, the PIN with its lock-out, one-time pairing, and rates. No input or output.

Every class takes the time as a number of seconds that only counts up, and may be used by one thread at a time: the
page's event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from edge.core.errors import UsageError

IDLE_SECONDS: Final = 60 * 60.0
"""After this long without a request a browser has to show the PIN again."""

LONGEST_SECONDS: Final = 12 * 60 * 60.0
"""After this long it has to in any case: a working day."""

MOST_SESSIONS: Final = 64
"""Browsers at a time; the one idle for longest has to make room."""

SHORTEST_PIN: Final = 6
FREE_TRIES: Final = 5
FIRST_LOCK_SECONDS: Final = 30.0
LONGEST_LOCK_SECONDS: Final = 15 * 60.0
PAIRING_SECONDS: Final = 10 * 60.0


@dataclass(slots=True)
class BrowserSession:
    """One browser. `csrf` goes with every change it asks for; `trusted` once it has shown PIN or pairing token."""

    token: str
    csrf: str
    started: float
    seen: float
    trusted: bool = False
    operator: str = ""
    language: str = ""
    notice: str = ""


class SessionBook:
    """The browser sessions, in memory alone: when the page restarts, every browser shows its PIN again."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, BrowserSession] = OrderedDict()

    def get(self, token: str, now: float) -> BrowserSession | None:
        """Return the session of a cookie, unless it has expired."""
        session = self._sessions.get(token)
        if session is None:
            return None
        if now - session.seen > IDLE_SECONDS or now - session.started > LONGEST_SECONDS:
            del self._sessions[token]
            return None
        session.seen = now
        self._sessions.move_to_end(token)
        return session

    def start(self, now: float, *, trusted: bool, like: BrowserSession | None = None) -> BrowserSession:
        """Begin a session under a new token: also when a browser gains trust, so that no earlier token is worth it."""
        session = BrowserSession(secrets.token_urlsafe(32), secrets.token_urlsafe(32), now, now, trusted)
        if like is not None:
            session.operator, session.language = like.operator, like.language
            self._sessions.pop(like.token, None)
        self._sessions[session.token] = session
        while len(self._sessions) > MOST_SESSIONS:
            # A stranger who opens many must not put out those who have shown the PIN.
            strangers = (token for token, each in self._sessions.items() if not each.trusted)
            del self._sessions[next(strangers, next(iter(self._sessions)))]
        return session

    def end(self, session: BrowserSession) -> None:
        """Forget a session."""
        self._sessions.pop(session.token, None)

    def keep_only(self, session: BrowserSession) -> None:
        """Forget all other sessions."""
        self._sessions = OrderedDict({session.token: session})

    def __len__(self) -> int:
        return len(self._sessions)


class Pin:
    """A PIN, kept as its scrypt hash, and how often it was guessed wrongly.

    After `FREE_TRIES` wrong ones nobody is let in for 30 s, twice as long after each further one, 15 minutes at most:
    a six-digit PIN is then worth years. The lock is for all, since an address is cheap to change.
    """

    def __init__(self, pin: str) -> None:
        pin = pin.strip()
        if len(pin) < SHORTEST_PIN or len(set(pin)) < 3:
            raise UsageError(
                "pin-too-simple",
                f"The PIN has fewer than {SHORTEST_PIN} characters, or fewer than three different ones.",
                "Choose at least six digits that are not easily guessed.",
            )
        self._salt = secrets.token_bytes(16)
        self._hash = self._hashed(pin)
        self._wrong = 0
        self._locked_until = 0.0

    @classmethod
    def kept(cls, text: str) -> Pin:
        """The PIN whose `text` was kept. Raises ValueError for what is no such text."""
        salt, _, hashed = text.partition(":")
        found = cls.__new__(cls)
        found._salt, found._hash = bytes.fromhex(salt), bytes.fromhex(hashed)
        found._wrong, found._locked_until = 0, 0.0
        return found

    @property
    def text(self) -> str:
        """Salt and hash, to be kept: the PIN itself cannot be read from it."""
        return f"{self._salt.hex()}:{self._hash.hex()}"

    def locked_for(self, now: float) -> float:
        """Seconds until the PIN may be tried again, 0 when it may."""
        return max(0.0, self._locked_until - now)

    def try_(self, pin: str, now: float) -> bool:
        """Whether this is the PIN; always False while locked."""
        if self.locked_for(now) > 0:
            return False
        if hmac.compare_digest(self._hash, self._hashed(pin.strip()[:256])):
            self._wrong = 0
            return True
        self._wrong += 1
        if self._wrong >= FREE_TRIES:
            seconds = FIRST_LOCK_SECONDS * 2 ** min(self._wrong - FREE_TRIES, 16)
            self._locked_until = now + min(seconds, LONGEST_LOCK_SECONDS)
        return False

    def _hashed(self, pin: str) -> bytes:
        return hashlib.scrypt(pin.encode("utf-8", "surrogatepass"), salt=self._salt, n=2**14, r=8, p=1)


class Pairing:
    """A token of 256 bits that lets one browser in once, within ten minutes."""

    def __init__(self, now: float) -> None:
        self.token = secrets.token_urlsafe(32)
        self._until = now + PAIRING_SECONDS
        self._used = False

    def try_(self, token: str, now: float) -> bool:
        """Whether this is the token, unused and in time; it is used up by that."""
        if self._used or now > self._until:
            return False
        self._used = hmac.compare_digest(self.token.encode(), token.encode("utf-8", "surrogatepass"))
        return self._used


@dataclass(slots=True)
class _Level:
    tokens: float
    filled: float


@dataclass(slots=True)
class Rate:
    """A token bucket for each client: `burst` at once, `per_second` in the long run."""

    per_second: float
    burst: float
    most_clients: int = 256
    _levels: OrderedDict[str, _Level] = field(default_factory=OrderedDict)

    def allows(self, client: str, now: float) -> bool:
        """Take a token of this client, if it has one."""
        level = self._levels.get(client)
        if level is None:
            level = self._levels[client] = _Level(self.burst, now)
            while len(self._levels) > self.most_clients:
                self._levels.popitem(last=False)
        self._levels.move_to_end(client)
        level.tokens = min(self.burst, level.tokens + (now - level.filled) * self.per_second)
        level.filled = now
        if level.tokens < 1:
            return False
        level.tokens -= 1
        return True
