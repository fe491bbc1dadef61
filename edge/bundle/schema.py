"""The manifest's JSON Schema (draft 2020-12), made from the types that read it, for tools that are not ours."""

from __future__ import annotations

import json
from typing import Any, Final

IDENTIFIER: Final = "manifest.schema.json"


def text() -> str:
    """Give the schema as indented JSON.

    What the types alone cannot say stands in `edge.bundle.manifest`: the labels and their order, that no file and no
    kind of variant is named twice, and that a recall lies inside its interval.
    """
    import msgspec

    from edge.bundle.manifest import MAX_MANIFEST_BYTES, Manifest

    schema = msgspec.json.schema(Manifest)
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": IDENTIFIER,
        "title": "Manifest of a Leukoscope model bundle",
        "description": f"The file manifest.json of a bundle: UTF-8, at most {MAX_MANIFEST_BYTES} bytes.",
        **_portable(schema),
    }
    return json.dumps(document, indent=2) + "\n"


def _portable(value: Any) -> Any:
    """Write patterns as ECMA 262 has them: there ^ and $ mean the ends of the text, and Python's letters nothing."""
    if isinstance(value, dict):
        return {
            key: found.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(found, str)
            else _portable(found)
            for key, found in value.items()
        }
    if isinstance(value, list):
        return [_portable(entry) for entry in value]
    return value
