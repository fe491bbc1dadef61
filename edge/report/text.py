"""Text that is safe to place in a page: everything a person, a file name or a device supplied passes through here."""

from __future__ import annotations

import html
import math
import unicodedata
from datetime import datetime, timezone

NOT_RECORDED = "not recorded"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def visible(value: object) -> str:
    """Give `value` as text in which nothing is hidden, not yet escaped for HTML.

    Control characters, unpaired surrogates (undecodable bytes of a file name) and direction overrides are written out
    as their code point: an identifier must not be able to show itself as another one. Line breaks become spaces.
    """
    shown = []
    for character in str(value):
        if character in "\t\n\r":
            shown.append(" ")
        elif unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in "\u200c\u200d":
            shown.append(f"⟨U+{ord(character):04X}⟩")
        else:
            shown.append(character)
    return "".join(shown)


def escape(value: object) -> str:
    """Give `value` made visible and escaped for HTML text and quoted attributes."""
    return html.escape(visible(value), quote=True)


def isolated(value: object) -> str:
    """Give `value` escaped inside `<bdi>`, so that right-to-left text does not reorder what stands beside it."""
    text = escape(value)
    return f"<bdi>{text}</bdi>" if text.strip() else f'<span class="absent">{NOT_RECORDED}</span>'


def style_string(value: object, longest: int = 60) -> str:
    """Give `value` as the inside of a quoted CSS string; whatever is not a plain letter or digit becomes an escape."""
    text = visible(value)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in text)


def number(value: float | None, digits: int = 1) -> str:
    """Write a figure with a fixed number of decimals, or an en dash when there is none."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    return f"{value:.{digits}f}"


def probability(value: float | None) -> str:
    """Write a probability with two decimals; never as certainty, which no classifier has."""
    return ">0.99" if value is not None and value >= 0.995 else number(value, 2)


def plain(value: float) -> str:
    """Write a limit as short as it can be written: 40, 0.5."""
    return f"{value:g}"


def span(low: float, high: float, digits: int = 1) -> str:
    """Write two figures as a range."""
    return f"{number(low, digits)}\u2013{number(high, digits)}"


def moment(wall: str) -> str:
    """Write an ISO 8601 moment as "23 Nov 2026, 11:12 UTC"; what cannot be read as one is returned as it is."""
    try:
        when = datetime.fromisoformat(wall.replace("Z", "+00:00"))
    except ValueError:
        return wall
    if when.tzinfo is not None:
        when = when.astimezone(timezone.utc)
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}, {when:%H:%M} UTC"


def many(count: int, one: str, more: str | None = None) -> str:
    """Write a count with its noun: "1 cell", "12 cells"."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def humanised(code: str) -> str:
    """Turn a kebab-case code into words: "low-confidence" becomes "Low confidence"."""
    words = code.replace("-", " ").replace("_", " ").strip()
    return words[:1].upper() + words[1:]
