"""Nested records as flat tables of text, with the paths that journey.toml uses for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DEEPEST = 6  # levels
MOST_FIELDS = 2000  # of one record
KINDS = ("string_value", "int_value", "double_value", "float_value")


def flat(record: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a record by their paths; empty ones are "".

    A list of `{key, value}` gives a field for each key, as GA4 writes parameters; any other list stays one text.

    >>> flat({"a": {"b": 1, "c": None}, "p": [{"key": "k", "value": {"int_value": 7}}], "x": [1, 2]})
    {'a.b': '1', 'a.c': '', 'p[k]': '7', 'x': '[1, 2]'}
    """
    found: dict[str, str] = {}
    for path, value in _leaves(record, "", 0):
        found[path] = value
        if len(found) >= MOST_FIELDS:
            break
    return found


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and depth < DEEPEST and (value or not path):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list) and value and all(_is_pair(item) for item in value):
        for item in value:
            inner = item["value"]
            if isinstance(inner, dict):
                inner = next((inner[kind] for kind in KINDS if inner.get(kind) is not None), None)
            yield f"{path}[{item['key']}]", _text(inner)
    else:
        yield path, _text(value)


def _is_pair(item: Any) -> bool:
    return isinstance(item, dict) and "value" in item and isinstance(item.get("key"), str)


def _text(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip().encode("utf-8", "replace").decode("utf-8")  # half of a pair of surrogates is no text
    try:
        return json.dumps(value, ensure_ascii=False)
    except (RecursionError, ValueError):
        return ""
