"""Try a source's mapping on small files cut out of its raw files, with the very steps that ingestion takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from journeykit import engine
from journeykit.adapters import readable
from journeykit.config import Source, Study
from journeykit.discover.cut import Cut, cut
from journeykit.errors import JourneyError
from journeykit.fields import mapped_columns
from journeykit.mapping import columns_of
from journeykit.parts import Inputs, Part, ensure
from journeykit.raw_files import RawFile
from journeykit.sources import open_rows
from journeykit.sql import identifier, path_literal

SECRET = b"nothing that is tried is kept"
FILES = 3  # of a source that are tried: the first, one in the middle, the last


@dataclass(frozen=True)
class Trial:
    """One file as it was tried; `path` holds its rows as `journeykit.mapping.part_sql` gives them."""

    source: Source
    file: RawFile
    path: Path
    columns: tuple[str, ...]
    missing: tuple[str, ...]  # mapped columns that the file lacks
    broken_n: int
    whole: bool
    cut: Cut
    empty: bool = False  # it holds nothing at all

    def rows(self, select: str, rest: str = "") -> list[tuple[object, ...]]:
        """Return the result of a query over the rows of the file."""
        return engine.rows(f"SELECT {select} FROM read_parquet({path_literal(self.path)}) {rest}")


@dataclass
class Event:
    """One event of a sample; `who` holds its identifiers as pairs of name and token."""

    name: str
    seconds: float  # since 1970
    source: str
    who: tuple[tuple[str, str], ...]
    marketing_channel: str = ""
    value: float | None = None
    row: tuple[str, int] = field(default=("", 0))


def some_of(files: list[RawFile]) -> list[RawFile]:
    """Return up to three of a source's files that are not drafts: the first, one in the middle, the last."""
    files = [file for file in files if not file.superseded_by] or files
    places = sorted({0, len(files) // 2, len(files) - 1})[:FILES]
    return [files[place] for place in places]


def attempt(source: Source, file: RawFile, plan: Study, folder: Path, scratch: Path) -> Trial:
    """Read a small part of a file as ingestion would; columns that are not there count as empty and are noted.

    Raises:
        JourneyError: the file cannot be read as the source says.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    small = cut(source, file, scratch / "cut")
    columns, missing, empty = _columns(small, scratch / "columns")
    lenient = small.source.model_copy(update={"optional": [*source.optional, *missing]})
    inputs = Inputs(plan, folder, SECRET, {}, scratch)
    part = ensure(Part(lenient, small.file, "trial", scratch / "trial.parquet"), inputs)
    return Trial(source, file, part.path, columns, missing, len(part.broken), small.whole, small, empty)


def _columns(small: Cut, scratch: Path) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the columns of a file (none for JSON, whose rows differ), the mapped ones it lacks, and if it is empty."""
    scratch.mkdir(parents=True, exist_ok=True)
    rows = open_rows(small.source, readable(small.source, small.file, scratch))
    if rows.line or not rows.columns:
        return rows.columns, (), not rows.line
    lacking = []
    similar = small.source.similar.columns() if small.source.similar else ()
    for column in dict.fromkeys([*mapped_columns(small.source), *similar]):
        try:
            rows.text(column, "")
        except JourneyError:
            lacking.append(column)
    return rows.columns, tuple(lacking), False


def events_of(trial: Trial, plan: Study) -> Iterator[Event]:
    """Yield the events of a file that was tried."""
    names = [name for name in columns_of(plan).identifiers if name in trial.source.identifiers]
    tokens = ", ".join(identifier(f"id_{name}") for name in names) or "NULL"
    shared = f"marketing_channel, value, line, {tokens}"
    sound = "fate IS NULL AND reason IS NULL"
    numbered = f"(SELECT *, row_number() OVER () AS line FROM read_parquet({path_literal(trial.path)}))"
    if trial.source.kind != "events" or not trial.rows("1", f"WHERE {sound} LIMIT 1"):
        return
    if trial.source.emits:
        unnested = f"(SELECT *, unnest(happenings) AS h FROM {numbered} WHERE {sound})"
        query = f"SELECT h.event, epoch(h.timestamp), {shared} FROM {unnested}"
    else:
        query = f"SELECT event, epoch(timestamp), {shared} FROM {numbered} WHERE {sound}"
    for name, seconds, channel, value, line, *found in engine.rows(query):
        who = tuple((one, token) for one, token in zip(names, found, strict=False) if token)
        yield Event(name, seconds, trial.source.name, who, channel or "", value, (trial.source.name, line))
