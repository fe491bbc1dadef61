"""The page's words in other languages: one JSON file each, from the English text to its translation.

English needs none. A text that a file lacks is shown in English, so that a translation may grow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

ENGLISH: Final = "en"

Translator = Callable[..., str]

_NAME: Final = "@language"
"""The key of a catalogue that holds what the language calls itself."""


def languages() -> dict[str, str]:
    """The languages there are, by code, with the names they call themselves."""
    found = {ENGLISH: "English"}
    for entry in sorted(files("edge.web").joinpath("words").iterdir(), key=lambda entry: entry.name):
        code, dot, kind = entry.name.rpartition(".")
        if dot and kind == "json":
            found[code] = _catalogue(code).get(_NAME, code)
    return found


def chosen(wanted: str, accepted: str) -> str:
    """The language to use: the one a person chose, else the first that the browser accepts, else English."""
    known = languages()
    if wanted in known:
        return wanted
    weighted = []
    for position, part in enumerate(accepted.split(",")[:20]):
        code, _, weight = part.strip().partition(";q=")
        value = float(weight) if re.fullmatch(r"[01](\.\d{1,3})?", weight) else 1.0
        weighted.append((-value, position, code.partition("-")[0].lower()))
    return next((code for _, _, code in sorted(weighted) if code in known), ENGLISH)


def translator(language: str) -> Translator:
    """The function that gives a text in a language; it fills in what is named, as `_("{n} cells", n=3)`."""
    catalogue = _catalogue(language) if language != ENGLISH and language in languages() else {}

    def translate(text: str, **values: Any) -> str:
        found = catalogue.get(text) or text
        return found.format(**values) if values else found

    return translate


@cache
def _catalogue(code: str) -> Mapping[str, str]:
    text = files("edge.web").joinpath("words").joinpath(f"{code}.json").read_text(encoding="utf-8")
    return {str(key): str(value) for key, value in json.loads(text).items()}
