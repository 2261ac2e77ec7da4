"""Quoting for the SQL of ingestion: nothing that stands in a file or in journey.toml is ever read as SQL."""

from __future__ import annotations

from pathlib import Path

NULL = "CAST(NULL AS VARCHAR)"


def literal(text: str) -> str:
    """Return text as an SQL string.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier.

    >>> identifier('a "b"')
    '"a ""b\"""'
    """
    return '"' + name.replace('"', '""') + '"'


def path_literal(path: Path) -> str:
    """Return a path as an SQL string in which nothing is a wildcard."""
    return literal("".join(f"[{mark}]" if mark in "[*?" else mark for mark in str(path)))
