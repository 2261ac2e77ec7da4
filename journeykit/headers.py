"""What stands above the data of a CSV: the names of its columns, and rows that explain them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from journeykit import lines
from journeykit.adapters import Readable
from journeykit.errors import JourneyError

LONGEST = 4 << 20  # characters of a row
MOST_BLANK = 1000  # lines above the names
ZONE = re.compile(r'"timeZone"\s*:\s*"([^"]+)"')


@dataclass
class Header:
    """The rows above the data, and how much of the file they are."""

    rows: list[list[str]] = field(default_factory=list)
    skip: int = 0  # rows of the file above the data, blank ones too
    lines: int = 0  # lines of the file above the data
    filled: int = 0  # those of them that hold anything


def read_header(readable: Readable, where: str) -> Header:
    """Return the header of a CSV; blank lines above the names mean nothing.

    Raises:
        JourneyError: a quote is opened in the header and not closed, so that it takes rows of data along.
    """
    found = Header()
    held: list[str] = []  # the lines of a row
    csv.field_size_limit(lines.LONGEST)
    with (
        lines.open_raw(readable.path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text,
    ):
        reader = lines.cells(_kept(lines.bounded(text), held), readable.quote, readable.delimiter)
        try:
            while len(found.rows) < readable.header_rows:
                held.clear()
                cells = next(reader, None)
                if cells is None:
                    break
                if len(held) > 1:
                    list(lines.cells(held, readable.quote, readable.delimiter, strict=True))
                    if found.rows and len(cells) != len(found.rows[0]):
                        raise csv.Error("a quote is opened and not closed")
                found.skip += 1
                found.lines += len(held)
                found.filled += sum(bool(line.strip()) for line in held)
                if cells or found.rows:
                    found.rows.append(cells)
                elif found.skip > MOST_BLANK:
                    raise csv.Error(f"{MOST_BLANK:,} lines above it are blank")
        except csv.Error as error:
            raise JourneyError(
                f"{where}: line {found.lines + 1:,}, which is header, cannot be read: {error}. "
                "Mend that line, or set delimiter, quote and header_rows."
            ) from None
    return found


def _kept(text: Iterable[str], held: list[str]) -> Iterator[str]:
    for line in text:
        held.append(line)
        if sum(map(len, held)) > LONGEST:
            raise csv.Error(f"it is longer than {LONGEST:,} characters")
        yield line


def column_names(given: Sequence[str]) -> list[str]:
    """Return the names of columns as they are mapped, each unique whatever its case; one without a name gets its place.

    >>> column_names(["at", " At", ""])
    ['at', 'At_2', 'column_3']
    """
    names: list[str] = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for position, cell in enumerate(given, start=1):
        name = wanted = cell.strip() or f"column_{position}"
        number = numbers.get(wanted.lower(), 1)
        while name.lower() in taken:
            number += 1
            name = f"{wanted}_{number}"
        numbers[wanted.lower()] = number
        taken.add(name.lower())
        names.append(name)
    return names


def zone_in_header(header: Header, names: Sequence[str], columns: Iterable[str]) -> str:
    """Return the time zone that a header row names under one of some columns, as Qualtrics writes it, or ""."""
    for column in columns:
        place = names.index(column) if column in names else -1
        for row in header.rows[1:]:
            found = ZONE.search(row[place]) if 0 <= place < len(row) else None
            if found:
                return "UTC" if found[1] == "Z" else found[1]
    return ""
