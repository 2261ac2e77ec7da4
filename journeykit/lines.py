"""Where a row stands in its file: the line that an editor shows, also with blank lines and fields of several lines."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from journeykit.sources import Broken, Rows

LONGEST = 33_554_432  # characters of a line or a field
LINE_END = re.compile(rb"[\r\n]")
FILLED = re.compile(rb"[^\s][^\r\n]*")


@dataclass(frozen=True)
class Numbers:
    """The lines of rows: `known` for some of them, for any other row its number plus `headers`."""

    headers: int
    known: dict[int, int]


def of_plain(rows: Rows, broken: Sequence[Broken], wanted: Iterable[int]) -> Numbers:
    """Number rows of a file in which every line is one row, from the lines of the broken ones, which have no row."""
    if not broken:
        return Numbers(rows.header.lines, {})
    lines = sorted(row.line for row in broken)
    before = [line - rows.header.lines - place for place, line in enumerate(lines, start=1)]  # sound rows above each
    return Numbers(rows.header.lines, {row: rows.header.lines + row + bisect_left(before, row) for row in wanted})


def of_wrapped(
    path: Path, rows: Rows, quote: str, delimiter: str, broken: Sequence[Broken], wanted: Iterable[int]
) -> Numbers:
    """Number rows of a file with blank lines or fields of several lines, by reading it once more."""
    lost, asked = {row.line for row in broken}, set(wanted)
    known: dict[int, int] = {}
    row = 0
    if not asked:
        return Numbers(rows.header.lines, known)
    for start in _starts(path, rows, quote, delimiter):
        if start <= rows.header.lines or start in lost:
            continue
        row += 1
        if row in asked:
            known[row] = start
            if len(known) == len(asked):
                break
    return Numbers(rows.header.lines, known)


def _starts(path: Path, rows: Rows, quote: str, delimiter: str) -> Iterator[int]:
    """Yield the line at which each row begins that holds anything."""
    with open_raw(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
        if rows.line:
            yield from (number for number, line in enumerate(bounded(text), start=1) if line.strip())
            return
        reader = cells(bounded(text), quote, delimiter)
        before = 0
        try:
            for row in reader:
                if row:
                    yield before + 1
                before = reader.line_num
        except csv.Error:  # a field beyond the limit: the rows after it keep the number of their place
            return


def cells(text: Iterable[str], quote: str, delimiter: str, strict: bool = False) -> Any:
    """Return the rows of a CSV as lists of cells, by a reader that knows its line (`line_num`)."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return csv.reader(text, delimiter=delimiter, quotechar=quote or None, quoting=quoting, strict=strict)


def first_odd(path: Path, quote: str, delimiter: str) -> int:
    """Return the line at which the first row of a CSV begins whose quotes are not as they should be, or 0."""
    with open_raw(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as text:
        reader = cells(bounded(text), quote, delimiter, strict=True)
        before = 0
        try:
            for _ in reader:
                before = reader.line_num
        except csv.Error:
            return before + 1
    return 0


def of_bytes(path: Path, positions: Sequence[int]) -> list[int]:
    """Return the line in which each byte of a file lies; positions ascend."""
    found: list[int] = []
    line, read = 1, 0
    with open_raw(path) as file:
        while len(found) < len(positions) and (chunk := file.read(1 << 20)):
            at = 0
            while len(found) < len(positions) and positions[len(found)] < read + len(chunk):
                to = positions[len(found)] - read
                line += chunk.count(b"\n", at, to)
                at = max(at, to)
                found.append(line)
            line += chunk.count(b"\n", at)
            read += len(chunk)
    return found + [line] * (len(positions) - len(found))


def open_raw(path: Path) -> IO[bytes]:
    """Open a file to read its bytes, unpacked where it is gzipped."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _chunks(path: Path) -> Iterable[bytes]:
    with open_raw(path) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def count(path: Path) -> int:
    """Count the lines of a file, blank ones too, whatever ends them; fast."""
    total, last = 0, b"\n"
    for chunk in _chunks(path):
        returns = chunk.count(b"\r")
        total += chunk.count(b"\n") + returns - (chunk.count(b"\r\n") if returns else 0)
        if last == b"\r" and chunk.startswith(b"\n"):
            total -= 1
        last = chunk[-1:]
    return total + (last not in b"\r\n")


def count_filled(path: Path) -> int:
    """Count the lines of a file that hold anything."""
    total, inside = 0, False  # whether the line that is open holds anything
    for number, chunk in enumerate(_chunks(path)):
        chunk = chunk if number else chunk.removeprefix(codecs.BOM_UTF8)
        ends = LINE_END.search(chunk) if inside else None
        if inside and not ends:
            continue
        total += len(FILLED.findall(chunk, ends.start() if ends else 0))
        inside = bool(chunk[max(chunk.rfind(b"\n"), chunk.rfind(b"\r")) + 1 :].strip())
    return total


def bounded(text: IO[str]) -> Iterator[str]:
    """Yield the lines of a text, of one that no reader takes only the beginning."""
    while line := text.readline(LONGEST):
        if len(line) == LONGEST and not line.endswith(("\n", "\r")):
            while (rest := text.readline(LONGEST)) and not rest.endswith(("\n", "\r")):
                pass
            line += "\n"
        yield line


def with_one_end(path: Path, folder: Path) -> Path:
    """Copy a file with every line ended by a newline alone, which the reader asks of a file of mixed line ends."""
    target = folder / "lines.txt"
    with target.open("wb") as out:
        held = b""
        for chunk in _chunks(path):
            chunk = held + chunk
            held = chunk[-1:] if chunk.endswith(b"\r") else b""
            out.write(chunk[: len(chunk) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        out.write(held.replace(b"\r", b"\n"))
    return target


def blank(path: Path, start: int) -> None:
    """Overwrite the line that starts at a byte with question marks, which make it a row of too few columns."""
    with path.open("r+b") as file:
        file.seek(start)
        line = file.readline().rstrip(b"\n")
        file.seek(start)
        file.write(b"?" * len(line))
