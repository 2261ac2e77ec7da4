"""Read the files that vendors export: each row as text, in order, the broken ones set aside with their line."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from journeykit import engine, headers, lines, rejects
from journeykit.adapters import Readable
from journeykit.config import Source
from journeykit.documents import Document
from journeykit.errors import JourneyError, nearest
from journeykit.headers import Header
from journeykit.raw_files import LocalFile
from journeykit.rejects import Broken
from journeykit.sql import NULL, identifier, literal, path_literal

MAX_COLUMNS = 10_000
LONGEST_NAME = 60  # characters of a column's name that a message shows
MENDS = 50  # lines with an unclosed quote that are set aside one by one, before the file is refused
INNER = re.compile(r"json\((.+)\)([.\[].+)", re.DOTALL)


@dataclass(frozen=True)
class Loaded:
    """How a file was read: its broken rows, and the line of each row that somebody may want to look at."""

    broken: list[Broken]
    headers: int = 0
    lines: dict[int, int] = field(default_factory=dict)


@dataclass
class Rows:
    """A file as a query that yields its rows as text, in order, and how to say a column of it as SQL text."""

    relation: str  # SQL after FROM
    columns: tuple[str, ...]  # of the file; () in JSON, whose rows differ
    line: str = ""  # SQL of the whole line, in JSON
    header: Header = field(default_factory=Header)  # of a CSV
    mended: Path | None = None  # the copy that is read where the file itself stops the reader
    optional: frozenset[str] = frozenset()
    documents: dict[str, Document] = field(default_factory=dict)
    name: str = ""  # of the file, in messages

    def text(self, column: str, where: str) -> str:
        """Return the SQL of a column as text on the parsed rows (alias `r`), as it stands in the file.

        Raises:
            JourneyError: the file has no such column.
        """
        if column in self.columns:
            return f"CAST(r.{identifier(column)} AS VARCHAR)"
        inner = INNER.fullmatch(column)
        if inner:  # a member, or a column, that is a text of JSON
            cell = f"r.{identifier(inner[1])}" if inner[1] in self.columns else self.text(inner[1], where)
            text = f"CASE WHEN typeof({cell}) = 'VARCHAR' THEN {cell} ELSE CAST(to_json({cell}) AS VARCHAR) END"
            return self._document(cell if self.line else text).take(inner[2].lstrip("."))
        if self.line:
            return self._document(self.line).take(column)
        outer = max((name for name in self.columns if column.startswith((f"{name}.", f"{name}["))), key=len, default="")
        if outer:  # nested data, or JSON in a column of text
            cell = f"r.{identifier(outer)}"
            text = f"CASE WHEN typeof({cell}) = 'VARCHAR' THEN CAST({cell} AS VARCHAR) ELSE to_json({cell}) END"
            return self._document(f"('{{\"inner\":' || {text} || '}}')").take("inner" + column[len(outer) :])
        if column in self.optional:
            return NULL
        hint = nearest(column, self.columns)
        mark = next((mark for mark in (";", "\t", "|") if len(self.columns) == 1 and mark in self.columns[0]), "")
        if mark:
            hint = f" The file seems to be separated by {mark!r}: set delimiter = {mark!r}."
        shown = ", ".join(map(_legible, self.columns[:40]))
        more = f" and {len(self.columns) - 40} more" if len(self.columns) > 40 else ""
        file = f"{self.name}: " if self.name and self.name not in where else ""
        raise JourneyError(
            f"{where}: {file}column {column!r} is not in the file.{hint} It has: {shown}{more}. "
            "Mend the mapping or the file; if only some files lack it, list it in optional."
        )

    def _document(self, text: str) -> Document:
        if text not in self.documents:
            self.documents[text] = Document(text, f"doc_{len(self.documents)}")
        return self.documents[text]

    def parsed(self) -> str:
        """Return the query of the rows with nested data parsed; to be asked for after the last `text`."""
        query = f"SELECT r.* FROM {self.relation} r"
        for document in self.documents.values():  # one after the other: a text of JSON may lie in another
            query = f"SELECT r.*, {document.parsed()} FROM ({query}) r" if document.structures else query
        return query

    def broken(self) -> str:
        """Return the SQL condition that a row of JSON is no object."""
        if not self.line:
            return "false"
        first = self._document(self.line)
        if not first.structures:
            first.take("-")
        opens = f"starts_with({self.line}, '{{') OR starts_with(ltrim({self.line}), '{{')"
        return f"({first.name}_0 IS NULL OR NOT ({opens}))"

    def whole(self) -> str:
        """Return the SQL of the whole row as text."""
        if self.line:
            return self.line
        parts = [f"coalesce(CAST(r.{identifier(name)} AS VARCHAR), '')" for name in self.columns]
        return f"concat_ws(chr(31), {', '.join(parts)})" if parts else "''"


def bare(cell: str) -> str:
    """Return the SQL of a text without blanks around it, empty text as null.

    To look at both ends is much cheaper than to trim, which few cells need.
    """
    tidy = f"{cell} <> '' AND NOT starts_with({cell}, ' ') AND NOT ends_with({cell}, ' ')"
    return f"CASE WHEN {tidy} THEN {cell} ELSE nullif(trim({cell}), '') END"


def _legible(name: str) -> str:
    """A column's name in a message: on one line, and cut where it is no name."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"


def open_rows(source: Source, readable: Readable) -> Rows:
    """Return a file's rows as a query; only the header of the file is read."""
    optional = frozenset(source.optional)
    where = f"sources.{source.name}: {readable.name}"
    if readable.format == "parquet":
        relation = f"read_parquet({path_literal(readable.path)})"
        try:
            columns = _described(relation)
        except engine.EngineError as error:
            raise _unreadable(where, error, readable.path) from None
        return Rows(relation, columns, optional=optional, name=readable.name)
    if readable.format == "jsonl":
        relation = (
            f"read_csv({path_literal(readable.path)}, columns = {{'line': 'VARCHAR'}}, header = false, "
            "auto_detect = false, delim = '\x1f', quote = '', escape = '', null_padding = true, "
            f"store_rejects = true, max_line_size = {lines.LONGEST})"
        )
        return Rows(relation, (), line="r.line", name=readable.name)
    with _whole(where):
        header = headers.read_header(readable, where)
    names = headers.column_names(source.columns or (header.rows[0] if header.rows else []))
    if not names:
        return Rows("(SELECT 1 WHERE false)", (), header=header, name=readable.name)
    if len(names) > MAX_COLUMNS:
        raise JourneyError(
            f"{where}: has {len(names):,} columns; at most {MAX_COLUMNS:,} are read. "
            "Export only the columns that are used, or look at delimiter."
        )
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    quote = literal(readable.quote)
    relation = (
        f"read_csv({path_literal(readable.path)}, columns = {{{types}}}, header = false, skip = {header.skip}, "
        f"auto_detect = false, delim = {literal(readable.delimiter)}, quote = {quote}, escape = {quote}, "
        f"store_rejects = true, max_line_size = {lines.LONGEST})"
    )
    return Rows(relation, tuple(names), header=header, optional=optional, name=readable.name)


def _described(relation: str) -> tuple[str, ...]:
    return tuple(row[0] for row in engine.rows(f"SELECT column_name FROM (DESCRIBE SELECT * FROM {relation})"))


def zone_in_header(source: Source, rows: Rows) -> str:
    """Return the time zone that stands in a header row under the time's column, as Qualtrics writes it.

    Raises:
        JourneyError: no header row names one.
    """
    found = headers.zone_in_header(rows.header, rows.columns, source.time.column.columns())
    if not found:
        raise JourneyError(
            f'sources.{source.name}.time.zone: {rows.name}: no header row names the zone ("timeZone": "…" under the '
            "time). Set zone to the one that the export was made in."
        )
    return found


def load(
    readable: Readable, rows: Rows, work: Callable[[Rows], int], bad: Callable[[], list[int]], scratch: Path, where: str
) -> Loaded:
    """Run `work`, which reads a file's rows and returns how many it saw; say which rows are broken, and their lines.

    Every line of the file is in a row or among the broken ones: a count of the lines that does not go through the
    engine's reader makes sure of it. A quote that is opened and never closed costs its own line only. `bad` returns
    the rows whose line somebody may want to look at.

    Raises:
        JourneyError: lines are lost, or the file is not what journey.toml says it is.
    """
    with _whole(where):
        loaded = _counted(readable, rows, work, bad, scratch, where)
    if isinstance(readable.file, LocalFile):
        readable.file.refuse_changed(where)
    return loaded


@contextmanager
def _whole(where: str) -> Iterator[None]:
    """Turn what a damaged or vanished file raises while its bytes are read into a JourneyError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise JourneyError(f"{where}: cannot be read to its end: {said}. Export it again, or check the disk.") from None


def _counted(
    readable: Readable, rows: Rows, work: Callable[[Rows], int], bad: Callable[[], list[int]], scratch: Path, where: str
) -> Loaded:
    if readable.format == "parquet":
        try:
            work(rows)
        except engine.EngineError as error:
            raise _unreadable(where, error, readable.path) from None
        return Loaded([])
    with ThreadPoolExecutor(1) as beside:
        counted = beside.submit(lines.count, readable.path)
        seen, broken = _tolerant(readable, rows, work, scratch, where)
        ends = counted.result()
    if seen + len(broken) + rows.header.lines == ends:
        numbers = lines.of_plain(rows, broken, bad())
        return Loaded(broken, numbers.headers, numbers.known)
    # There are blank lines, or fields of several lines: only then is it worth to count what holds anything.
    found = rows.header.filled + seen + _spanned(rows) + sum(row.lines for row in broken)
    lost = lines.count_filled(readable.path) - found
    if lost > 0 and not rows.mended:  # several kinds of line end are one more reason
        _mend(readable, rows, scratch)
        return _counted(readable, rows, work, bad, scratch, where)
    if lost > 0:
        odd = lines.first_odd(readable.path, readable.quote, readable.delimiter) if rows.columns else 0
        quotes = " A quote that is opened and not closed does this." if rows.columns else ""
        raise JourneyError(
            f"{where}: {lost:,} lines are in no row.{quotes}{f' Look at line {odd:,}.' if odd else ''} "
            "Mend the file, or set delimiter, quote and header_rows."
        )
    path = rows.mended or readable.path
    at = lines.of_bytes(path, [row.position for row in broken])
    broken = [replace(row, line=line) for row, line in zip(broken, at, strict=True)]
    numbers = lines.of_wrapped(path, rows, readable.quote, readable.delimiter, broken, bad())
    return Loaded(broken, numbers.headers, numbers.known)


def _unreadable(where: str, error: Exception, *paths: Path) -> JourneyError:
    """Return the error for a file that the engine cannot read, in one line and without the machine's paths."""
    said = re.sub(r"^[A-Z][\w ]* Error: ", "", str(error).split("\n", 1)[0])
    for path in paths:
        said = said.replace(str(path), "the file")
    said = re.sub(r"/(?:[^/\s\"']+/)+", "", said)
    said = said if said.isprintable() else ascii(said)[1:-1]
    return JourneyError(
        f"{where}: cannot be read: {said[:300].rstrip('. ')}. "
        "Export it again if it is damaged, or mend what journey.toml says about it."
    )


def _tolerant(
    readable: Readable, rows: Rows, work: Callable[[Rows], int], scratch: Path, where: str
) -> tuple[int, list[Broken]]:
    """Run `work` again on a mended copy of the file where its line ends or quotes stop the reader."""
    for _ in range(MENDS):
        rejects.forget()
        try:
            seen = work(rows)
        except engine.EngineError as error:
            if rows.mended:
                raise _unreadable(where, error, rows.mended, readable.path) from None
            _mend(readable, rows, scratch)
            continue
        opened = rejects.unclosed(readable.delimiter, len(rows.columns)) if rows.columns else []
        if not opened:
            return seen, rejects.broken()
        if not rows.mended:
            _mend(readable, rows, scratch)
            continue
        lines.blank(rows.mended, opened[0])
    assert rows.mended
    (line,) = lines.of_bytes(rows.mended, opened[:1])
    raise JourneyError(
        f"{where}: line {line:,}: a quote is opened and not closed, and the same in {MENDS - 2} lines before it. "
        'Mend the file, or set quote = "" if quotes mean nothing in it.'
    )


def _mend(readable: Readable, rows: Rows, scratch: Path) -> None:
    """Let a copy of the file be read, with one kind of line end, in which lines may be overwritten."""
    rows.mended = lines.with_one_end(readable.path, scratch)
    rows.relation = rows.relation.replace(path_literal(readable.path), path_literal(rows.mended))


def _spanned(rows: Rows) -> int:
    """Count the lines that hold anything after the first of each row of a CSV."""
    counts = []
    for name in rows.columns:
        text = f"r.{identifier(name)}"
        # The last line of a field holds at least its closing quote.
        more = f"{rejects.filled(f'{rejects.lines_of(text)}[2:-2]')} + 1"
        counts.append(f"CASE WHEN contains({text}, chr(10)) OR contains({text}, chr(13)) THEN {more} ELSE 0 END")
    return int(engine.rows(f"SELECT coalesce(sum({' + '.join(counts) or '0'}), 0) FROM {rows.relation} r")[0][0])
