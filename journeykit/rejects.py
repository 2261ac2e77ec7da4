"""The rows that the engine's reader of CSV and JSON Lines rejects: where they are, why, and what they take along."""

from __future__ import annotations

from dataclasses import dataclass

from journeykit import engine
from journeykit.lines import LONGEST
from journeykit.sql import literal

BARE = "trim(csv_line, chr(10) || chr(13))"  # SQL of a rejected row without the line ends around it


@dataclass(frozen=True)
class Broken:
    """A row that could not be read: where, why, and how long it is."""

    line: int
    reason: str
    size: int
    position: int = 0  # byte at which it begins
    lines: int = 1  # that hold anything; more than one where a field holds line ends


def forget() -> None:
    """Drop what was rejected before."""
    engine.run("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")


def _any() -> bool:
    return bool(engine.rows("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'"))


def unclosed(delimiter: str, width: int) -> list[int]:
    """Return the bytes where lines begin whose quote is not closed before other rows, so that it takes these along."""
    if not _any():
        return []
    # A line inside of a rejected row that has the columns of a row is one.
    columns = f"len(line) - len(replace(line, {literal(delimiter)}, ''))"
    taken = f"list_filter({lines_of(BARE)}[2:], lambda line: {columns} = {width - 1})"
    found = engine.rows(
        f"SELECT DISTINCT line_byte_position FROM reject_errors WHERE regexp_matches({BARE}, '[\\r\\n]') AND "
        f"(CAST(error_type AS VARCHAR) = 'UNQUOTED VALUE' OR {width > 1} AND len({taken}) > 0) ORDER BY 1"
    )
    return [int(row[0]) for row in found]


def broken() -> list[Broken]:
    """Return the rows that the reader rejected, once each."""
    if not _any():
        return []
    found = engine.rows(
        "SELECT line, min(lower(CAST(error_type AS VARCHAR))), "
        f"max(CASE WHEN CAST(error_type AS VARCHAR) = 'LINE SIZE OVER MAXIMUM' THEN {LONGEST} ELSE len(csv_line) END), "
        "min(line_byte_position + len(csv_line) - len(ltrim(csv_line, chr(10) || chr(13)))), "
        f"coalesce(max({filled(f'{lines_of(BARE)}[2:]')}), 0) FROM reject_errors GROUP BY line ORDER BY 4, line"
    )
    return [
        Broken(int(line), f"row is broken: {kind}", int(size or 0), int(at or 0), 1 + int(more))
        for line, kind, size, at, more in found
    ]


def lines_of(text: str) -> str:
    """Return the SQL of the lines of a text."""
    return f"string_split(replace(replace({text}, chr(13) || chr(10), chr(10)), chr(13), chr(10)), chr(10))"


def filled(listed: str) -> str:
    """Return the SQL of how many texts of a list hold anything."""
    return f"len(list_filter({listed}, lambda line: trim(line, ' ' || chr(9) || chr(11) || chr(12)) <> ''))"
