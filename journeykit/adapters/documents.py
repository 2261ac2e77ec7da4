"""JSON documents as JSON Lines: arrays, objects one after the other, and a list inside one large object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import ijson

from journeykit.errors import JourneyError

MAX_ROW = 32 << 20  # characters of one row, which is what the engine's reader takes
MAX_TOKEN = 64 << 20  # bytes of one text or number
MAX_DEPTH = 200  # levels inside a row
MAX_SHOWN = 60  # characters of a path in a message
MAX_LISTS = 1000  # paths of lists that are remembered for a message
PIECE = 1 << 14  # bytes handed to the parser at a time; the precision of the byte in a message


def is_lines(head: str) -> bool:
    """Say whether a JSON text is JSON Lines, by its beginning: its first line is a whole object and another follows.

    >>> is_lines('{"a": 1}\\n{"a": 2}\\n'), is_lines('[{"a": 1}]'), is_lines('{\\n"a": 1}')
    (True, False, False)
    """
    first, _, rest = head.lstrip("\ufeff \t\r\n").partition("\n")
    if not first.startswith("{") or not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


class _Fed:
    """The bytes that the parser has taken, counted; `idle` of them since it last gave anything back."""

    def __init__(self, pieces: Iterable[bytes], where: str) -> None:
        self.taken = self.lines = self.idle = 0
        self._pieces = pieces
        self._where = where

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            for start in range(0, len(piece), PIECE):
                part = piece[start : start + PIECE]
                self.taken += len(part)
                self.lines += part.count(b"\n")
                self.idle += len(part)
                if self.idle > MAX_TOKEN:
                    raise JourneyError(
                        f"{self._where}: near byte {self.taken:,} one value is longer than {MAX_TOKEN >> 20} MB. "
                        "Leave that field out of the export."
                    )
                yield part


def write_lines(text: Iterable[bytes], target: Path, records: str, where: str) -> list[tuple[int, str]]:
    """Write the rows of a JSON document (UTF-8) to `target`, one a line, numbers as they are written.

    A row is an item of the array, or one of the objects that follow each other, or with `records` an item of the list
    at that path. A row that cannot be written leaves an empty line and is returned with its number and the reason.

    Raises:
        JourneyError: the document is broken or cut off, has no such list, or a row is too large.
    """
    fed = _Fed(text, where)
    pieces = iter(fed)
    first = b""
    for piece in pieces:
        first += piece
        if first.strip():
            break
    start = first.lstrip()[:1]
    outer = "item." if start == b"[" else ""
    rows = _Rows(fed, f"{outer}{records}.item" if records else outer.removesuffix("."), where)
    with target.open("w", encoding="utf-8", errors="replace", newline="\n") as out:
        if start:
            for line in rows.lines(_chain(first, pieces)):
                out.write(line)
                out.write("\n")
    if records and start and f"{outer}{records}" not in rows.lists:
        paths = sorted(path.removeprefix(outer) for path in rows.lists if path)[:8]
        lists = ", ".join(path if len(path) <= MAX_SHOWN else f"{path[:MAX_SHOWN]}…" for path in paths) or "none"
        raise JourneyError(
            f"{where}: there is no list at records = {records!r}. Lists in the file: {lists}. Name one of them."
        )
    return rows.broken


def missing_records(lines: Path, column: str) -> str:
    """Return the path of the list that seems to hold the rows, when a document gave one row without `column`, or "".

    Such a document is one object with the rows inside, which `records` must name.
    """
    with lines.open(encoding="utf-8") as file:
        first, second = file.readline(), file.readline()
    if second or not first.startswith("{"):
        return ""
    row = json.loads(first)
    if not column or re.split(r"[.\[]", column)[0] in row:
        return ""
    inner = {
        f"{key}.{name}": value for key, part in row.items() if isinstance(part, dict) for name, value in part.items()
    }
    lists = {path: value for path, value in {**row, **inner}.items() if isinstance(value, list) and value}
    found = {path: len(value) for path, value in lists.items() if all(isinstance(item, dict) for item in value)}
    return max(found, key=lambda path: found[path], default="")


def _said(error: Exception) -> str:
    """What the parser says, without what follows it: a piece of the file, which may hold personal data."""
    said = error.args[0] if error.args else ""
    # It is bytes where that piece is no text.
    text = said.decode("ascii", errors="replace") if isinstance(said, bytes) else str(said)
    return text.split("\n", 1)[0].strip(" .")


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _Rows:
    """Rows taken out of the parser's events, one by one, without nesting in this program."""

    def __init__(self, fed: _Fed, path: str, where: str) -> None:
        self.fed = fed
        self.path = path
        self.keys: list[str] = []  # of what is open outside of rows; "item" in a list
        self.where = where
        self.number = 0
        self.broken: list[tuple[int, str]] = []
        self.lists: set[str] = set()  # paths of lists outside of rows

    def lines(self, pieces: Iterator[bytes]) -> Iterator[str]:
        """Yield each row as one line of JSON."""
        try:
            yield from self._lines(pieces)
        except (ijson.JSONError, ValueError, ArithmeticError) as error:
            if isinstance(error, JourneyError):
                raise
            said = _said(error) if isinstance(error, ijson.JSONError) else "a number too long"
            raise JourneyError(
                f"{self.where}: broken after row {self.number:,}, near line {self.fed.lines + 1:,} "
                f"(byte {self.fed.taken:,}): {said}. Export it again, or mend that place."
            ) from None

    def _lines(self, pieces: Iterator[bytes]) -> Iterator[str]:
        parts: list[str] = []
        depth = deepest = size = 0
        follows = False  # whether a value ended just before, so that a comma must come
        fed, add = self.fed, parts.append
        for event, value in ijson.basic_parse(ijson.from_iter(pieces), multiple_values=True):
            fed.idle = 0
            if depth == 0:
                if not self._starts_a_row(event, value):
                    continue
                follows, size, deepest = False, 0, 0
            elif follows and event != "end_map" and event != "end_array":
                add(",")
            if event == "map_key":
                token, follows = encode_basestring(value) + ":", False
            elif event == "string":
                token, follows = encode_basestring(value), True
            elif event == "number":
                token, follows = str(value), True
            elif event in ("start_map", "start_array"):
                token, follows = "{" if event == "start_map" else "[", False
                depth += 1
                deepest = max(deepest, depth)
            elif event in ("end_map", "end_array"):
                token, follows = "}" if event == "end_map" else "]", True
                depth -= 1
            else:
                token, follows = "null" if value is None else "true" if value else "false", True
            size += len(token)
            if size > MAX_ROW:
                raise self._too_large()
            if deepest <= MAX_DEPTH:
                add(token)
            else:
                parts.clear()
            if depth == 0:
                self.number += 1
                if deepest > MAX_DEPTH:
                    self.broken.append((self.number, f"row is nested more than {MAX_DEPTH} levels deep"))
                yield "".join(parts)
                parts.clear()

    def _starts_a_row(self, event: str, value: Any) -> bool:
        """Follow the path outside of rows, and say whether what begins here is a row."""
        if event == "map_key":
            self.keys[-1] = value
        elif event in ("end_map", "end_array"):
            self.keys.pop()
        else:
            here = ".".join(self.keys)
            if here == self.path:
                return True
            if event in ("start_map", "start_array"):
                if event == "start_array" and len(self.lists) < MAX_LISTS:
                    self.lists.add(here)
                if len(self.keys) >= MAX_DEPTH:
                    raise JourneyError(
                        f"{self.where}: near line {self.fed.lines + 1:,} (byte {self.fed.taken:,}) nested more than "
                        f'{MAX_DEPTH} levels deep. Export it flatter, or name the list of rows: records = "orders".'
                    )
                self.keys.append("item" if event == "start_array" else "")
        return False

    def _too_large(self) -> JourneyError:
        return JourneyError(
            f"{self.where}: row {self.number + 1:,} is larger than {MAX_ROW >> 20} MB. If the file is one object with "
            'the list of rows inside, name that list: records = "orders", or a path such as "data.items".'
        )
