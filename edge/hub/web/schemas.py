"""Describes the structures of `edge.sync.messages` for the OpenAPI document."""

from __future__ import annotations

from typing import Any

import msgspec


def described(kind: type[msgspec.Struct], media: str = "application/json", required: bool = True) -> dict[str, Any]:
    """Describe a body for the OpenAPI document."""
    return {"requestBody": {"required": required, "content": {media: {"schema": schema(kind)}}}}


def schema(kind: Any) -> dict[str, Any]:
    """Give the schema of a structure, its parts in place."""
    (found,), parts = msgspec.json.schema_components((kind,), ref_template="#/components/schemas/{name}")
    made: dict[str, Any] = _in_place(found, parts)
    return made


def answers(*statuses: int, kind: type[msgspec.Struct] | None = None, ok: tuple[int, ...] = (200,)) -> dict[Any, Any]:
    """Describe answers for the OpenAPI document."""
    content = {} if kind is None else {"content": {"application/json": {"schema": schema(kind)}}}
    problem = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    found: dict[Any, Any] = {status: {"description": "Done", **content} for status in ok}
    found.update({status: {"description": "Refused", **problem} for status in statuses})
    return found


def _in_place(value: Any, parts: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            return _in_place(parts[value["$ref"].rpartition("/")[2]], parts)
        return {key: _in_place(each, parts) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_place(each, parts) for each in value]
    return value
