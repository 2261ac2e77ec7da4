"""How a delimited text is written: delimiter, quote, rows above the data, the names of its columns."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

DELIMITERS = (",", ";", "\t", "|", "\x1f")
TRIED_ROWS = 200
MOST_HEADERS = 30  # rows above the data
NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*%?")
DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([ T].*)?")
LONGEST = 10_000_000  # characters of one field
HEADER_ZONE = re.compile(r'"timeZone"\s*:\s*"([^"]+)"')


@dataclass(frozen=True)
class Dialect:
    """How a delimited file is written; `columns` are names to be given because its header has none."""

    delimiter: str = ","
    quote: str = '"'
    header_rows: int = 1
    columns: tuple[str, ...] = ()


def describe(text: str) -> tuple[Dialect, list[str], str, list[str]]:
    """Return how a text is written, its column names, the zone that its header rows name, and what was noticed."""
    dialect = _dialect(text)
    found = list(islice(_read(text, dialect), TRIED_ROWS + MOST_HEADERS))
    if not found:
        return dialect, [], "", []
    width = statistics.mode(len(row) for row in found)
    above = next((number for number, row in enumerate(found[:MOST_HEADERS]) if len(row) == width), 0)
    notes = []
    body = found[above:]
    if above == 0 and _is_data(body[0], body[1:]):
        names = _unique([""] * width)
        notes.append(f"has no header; the columns were named column_1 to column_{width}")
        return replace(dialect, header_rows=0, columns=tuple(names)), names, "", notes
    names = _unique(body[0])
    headers = 1 + _more_headers(body)
    zone = next((match[1] for row in body[1:headers] for cell in row if (match := HEADER_ZONE.search(cell))), "")
    if above:
        notes.append(f"has {above} row{'s' if above > 1 else ''} above the names of the columns")
        dialect = replace(dialect, columns=tuple(names))
    return replace(dialect, header_rows=above + headers), names, zone, notes


def rows(text: str, dialect: Dialect, width: int) -> Iterator[list[str]]:
    """Yield the rows below the header that have as many fields as there are columns."""
    below = islice(_read(text, dialect), dialect.header_rows, None)
    yield from ([cell.strip() for cell in row] for row in below if len(row) == width)


def _read(text: str, dialect: Dialect) -> Iterator[list[str]]:
    if dialect.delimiter == "blanks":
        yield from (line.split() for line in text.splitlines() if line.strip())
        return
    csv.field_size_limit(LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, quotechar=dialect.quote)
    try:
        yield from (row for row in reader if row)
    except csv.Error:
        return


def _dialect(text: str) -> Dialect:
    """Choose the delimiter that gives the most rows of one width, the wider one where two do equally."""
    beginning = text[:200_000]
    best, best_score = Dialect(), (0.0, 0)
    for delimiter in (*DELIMITERS, "blanks"):
        dialect = Dialect(delimiter)
        found = list(islice(_read(beginning, dialect), TRIED_ROWS))
        if not found:
            continue
        widths = [len(row) for row in found]
        width = statistics.mode(widths)
        share = widths.count(width) / len(widths)
        # Blanks also stand between words: they are taken only where nothing else separates columns.
        needed = 0.98 if delimiter == "blanks" else 0.7
        if width == 1 or share < needed or (delimiter == "blanks" and best_score[1] > 1):
            continue
        score = (round(share, 1), width)
        if score > best_score:
            best, best_score = dialect, score
    single = replace(best, quote="'")
    sample = list(islice(_read(beginning, best), TRIED_ROWS))
    cells = [cell for row in sample[1:] for cell in row if cell]
    wrapped = sum(cell.startswith("'") and cell.endswith("'") and len(cell) > 1 for cell in cells)
    return single if cells and wrapped > len(cells) / 2 and '"' not in beginning else best


def _is_data(first: list[str], below: list[list[str]]) -> bool:
    """Whether the first row is data: numbers, dates or addresses stand in it where they stand below."""
    if not below:
        return False
    like = 0
    for place, cell in enumerate(first):
        shape = _shape(cell)
        if shape:
            others = [row[place].strip() for row in below if len(row) > place and row[place].strip()]
            like += bool(others) and sum(_shape(other) == shape for other in others) > 0.9 * len(others)
    named = sum(not _shape(cell) and bool(cell.strip()) for cell in first)
    repeats = len({cell.strip().lower() for cell in first if cell.strip()}) < sum(bool(cell.strip()) for cell in first)
    return like >= 1 and (like >= 2 or named <= 2 or repeats)


def _shape(cell: str) -> str:
    cell = cell.strip()
    if NUMBER.fullmatch(cell):
        return "number"
    if DATE.fullmatch(cell):
        return "date"
    return "address" if "@" in cell and "." in cell else ""


def _more_headers(body: list[list[str]]) -> int:
    """Count the rows below the names that are header too: import ids, questions, units."""
    marked = [number for number, row in enumerate(body[1:4], start=1) if any('"ImportId"' in cell for cell in row)]
    if marked:
        return marked[-1]
    count = 0
    for number in (1, 2):
        rest = body[number + 1 :]
        if len(rest) < 5:
            break
        odd = typed = 0
        for place, cell in enumerate(body[number]):
            shapes = [_shape(row[place]) for row in rest if len(row) > place and row[place].strip()]
            if len(shapes) > 0.5 * len(rest) and all(shapes):
                typed += 1
                odd += bool(cell.strip()) and not _shape(cell)
        if not typed or odd < typed:
            break
        count = number
    return count


def _unique(given: list[str]) -> list[str]:
    """Return the names of a header as ingestion makes them: none empty, each unique whatever its case."""
    names: list[str] = []
    taken: set[str] = set()
    for position, cell in enumerate(given, start=1):
        name = wanted = cell.strip() or f"column_{position}"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name.lower())
        names.append(name)
    return names
