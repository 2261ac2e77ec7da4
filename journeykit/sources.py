"""Read the files that vendors export: each row as text, in order, the broken ones set aside with their line."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from journeykit import engine
from journeykit.config import Source
from journeykit.errors import JourneyError, nearest


@dataclass(frozen=True)
class RawFile:
    """One raw file: where it lies, and how it is called in reports."""

    path: Path
    name: str

    def fingerprint(self) -> str:
        """Return a hash of the file's bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_files(source: Source, folder: Path) -> list[RawFile]:
    """Return the files of a source, in the order of their names.

    Raises:
        JourneyError: no file matches the source's path.
    """
    anchor = Path(source.path)
    base, pattern = (folder, source.path) if not anchor.is_absolute() else (Path(anchor.anchor), source.path[1:])
    paths = sorted(path for path in base.glob(pattern) if path.is_file())
    if not paths:
        raise JourneyError(
            f"sources.{source.name}.path: {source.path!r} matches no file in {folder.name}/. "
            "Put the export there, or mend the path (wildcards * and ** are allowed)."
        )
    return [RawFile(path, _name(path, folder)) for path in paths]


def _name(path: Path, folder: Path) -> str:
    """A file's name in reports: relative to the study, never a path of this machine."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


@dataclass(frozen=True)
class Rows:
    """A file's rows as a temporary table `name` with `source_row`, and how to say a field of it (as `r`) in SQL."""

    name: str
    columns: tuple[str, ...]
    json: bool

    def field(self, column: str, where: str) -> str:
        """Return the SQL of a column as text, empty text as null.

        In JSON, `a.b` is a path, and where `a` is a list of `{key, value: {…}}` it is the value of key `b`.
        """
        if column not in self.columns:
            hint = nearest(column, self.columns)
            found = next((mark for mark in (";", "\t", "|") if len(self.columns) == 1 and mark in self.columns[0]), "")
            if found:
                hint = f" The file seems to be separated by {found!r}: set delimiter = {found!r}."
            raise JourneyError(
                f"{where}: column {column!r} is not in the file.{hint} It has: {', '.join(self.columns)}."
            )
        return f"nullif(trim(CAST(r.{identifier(column)} AS VARCHAR)), '')"

    def record(self) -> str:
        """Return the SQL of the whole row as text."""
        if self.json:
            return "r.line"
        packed = ", ".join(f"{literal(name)}, CAST(r.{identifier(name)} AS VARCHAR)" for name in self.columns)
        return f"CAST(json_object({packed}) AS VARCHAR)"


def literal(text: str) -> str:
    """Return text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def read_rows(source: Source, file: RawFile) -> tuple[Rows, str]:
    """Read a file into the temporary table `raw_rows`; return it and the name of the table of broken rows.

    `raw_broken` has one row per broken row: line, reason, size (characters). Every physical row is in one of the two;
    a count of the file's lines that does not go through the engine's reader makes sure of it.

    Raises:
        JourneyError: the file cannot be read as what journey.toml says it is.
    """
    engine.run("DROP TABLE IF EXISTS raw_rows; DROP TABLE IF EXISTS raw_broken")
    engine.run("CREATE TEMP TABLE raw_broken (line BIGINT, reason VARCHAR, size BIGINT)")
    if source.format == "parquet":
        engine.run(
            "CREATE TEMP TABLE raw_rows AS SELECT row_number() OVER () AS source_row, * "
            f"FROM read_parquet({path_literal(file.path)})"
        )
        return Rows("raw_rows", _columns(), json=False), "raw_broken"
    if source.format == "jsonl":
        rows, headers = _read_json_lines(source, file), 0
        spanned = "0"
    else:
        rows, headers = _read_csv(source, file)
        spanned = " + ".join(f"count_newlines({identifier(name)})" for name in rows.columns) or "0"
    one = "replace(replace(t, chr(13) || chr(10), chr(10)), chr(13), chr(10))"
    newlines = f"coalesce(len({one}) - len(replace({one}, chr(10), '')), 0)"
    engine.run(f"CREATE OR REPLACE TEMP MACRO count_newlines(t) AS {newlines}")
    found = engine.rows(
        f"SELECT (SELECT count(*) + coalesce(sum({spanned}), 0) FROM raw_rows) + (SELECT count(*) FROM raw_broken)"
    )[0][0]
    lost = _count_lines(file.path) - headers - int(found)
    if lost > 0:
        raise JourneyError(
            f"sources.{source.name}: {file.name}: {lost:,} lines are in no row. A quote that is opened and not closed "
            "does this; mend the file, or set delimiter and header_rows."
        )
    return rows, "raw_broken"


def path_literal(path: Path) -> str:
    """Return a path as an SQL string in which nothing is a wildcard."""
    return literal("".join(f"[{mark}]" if mark in "[*?" else mark for mark in str(path)))


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _count_lines(path: Path) -> int:
    """Count the lines of a file that hold anything, in bounded memory."""
    with _open(path) as lines:
        return sum(1 for line in lines for part in line.split(b"\r") if part.strip())


def _columns() -> tuple[str, ...]:
    names = [row[0] for row in engine.rows("SELECT column_name FROM (DESCRIBE raw_rows)")]
    return tuple(name for name in names if name != "source_row")


def _forget_rejects() -> None:
    engine.run("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")


def _read_json_lines(source: Source, file: RawFile) -> Rows:
    _forget_rejects()
    engine.run(
        "CREATE OR REPLACE TEMP TABLE lines AS SELECT row_number() OVER () AS source_row, line FROM read_csv("
        f"{path_literal(file.path)}, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, "
        "delim = '\x1f', quote = '', escape = '', null_padding = true, store_rejects = true, "
        "max_line_size = 33554432)"
    )
    good = "CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END"
    columns = mapped_columns(source)
    engine.run(f"CREATE TEMP TABLE raw_rows AS {_json_fields(columns, f'SELECT * FROM lines WHERE {good}')}")
    engine.run(
        "INSERT INTO raw_broken SELECT source_row, 'row is not a JSON object', len(line) FROM lines "
        f"WHERE trim(line) <> '' AND NOT coalesce({good}, false)"
    )
    _keep_rejects()
    return Rows("raw_rows", columns, json=True)


def _keep_rejects() -> None:
    """Note the rows that the reader rejected, once each."""
    engine.run(
        "INSERT INTO raw_broken SELECT line, 'row is broken: ' || lower(any_value(CAST(error_type AS VARCHAR))), "
        "len(any_value(csv_line)) FROM reject_errors GROUP BY line"
    )


def mapped_columns(source: Source) -> tuple[str, ...]:
    """Return every column that the mapping of a source names, once."""
    emits = [name for emit in source.emits for name in (emit.time, *emit.when)]
    singles = [
        *(source.time.column, source.event, source.event_id, source.sequence, source.channel, source.spend),
        *(source.marketing_channel, source.team, source.value, source.comment, source.once_per),
        source.received.column if source.received else "",
        source.satisfaction.column if source.satisfaction else "",
    ]
    many = [*source.identifiers.values(), *source.segments.values(), *source.properties, *source.where, *emits]
    return tuple(dict.fromkeys(name for name in [*singles, *many] if name))


def _json_fields(columns: tuple[str, ...], lines: str) -> str:
    """Return the query that takes fields out of JSON lines, each line parsed once for its paths and once a list."""
    paths = ", ".join(literal("$." + ".".join(f'"{part}"' for part in column.split("."))) for column in columns)
    parents = list(dict.fromkeys(column.rsplit(".", 1)[0] for column in columns if "." in column))
    kinds = ("string_value", "int_value", "double_value", "float_value")
    shape = '[{"key":"VARCHAR","value":{' + ",".join(f'"{kind}":"VARCHAR"' for kind in kinds) + "}}]"
    lists = "".join(
        f", json_transform(json_extract(line, {literal('$.' + parent)}), {literal(shape)}) AS list_{number}"
        for number, parent in enumerate(parents)
    )
    fields = []
    for number, column in enumerate(columns, start=1):
        parts = [f"fields[{number}]"]
        if "." in column:
            parent, key = column.rsplit(".", 1)
            found = f"list_filter(list_{parents.index(parent)}, lambda item: item.key = {literal(key)})[1]"
            parts += [f"{found}.value.{kind}" for kind in kinds]
        fields.append(
            f"coalesce({', '.join(parts)}) AS {identifier(column)}"
            if len(parts) > 1
            else f"{parts[0]} AS {identifier(column)}"
        )
    parsed = f"SELECT *, json_extract_string(line, [{paths}]) AS fields{lists} FROM ({lines})"
    return f"SELECT source_row, line, {', '.join(fields)} FROM ({parsed})"


def _read_csv(source: Source, file: RawFile) -> tuple[Rows, int]:
    """Read a CSV file; return its rows and the number of its lines that are header."""
    names, headers = _header(source, file)
    _forget_rejects()
    if not names:
        engine.run("CREATE TEMP TABLE raw_rows (source_row BIGINT)")
        return Rows("raw_rows", (), json=False), headers
    with tempfile.TemporaryDirectory() as folder:
        path = file.path
        for attempt in range(MENDS):
            try:
                _load_csv(path, names, source)
            except engine.EngineError:
                if attempt:
                    raise
                path = _one_kind_of_line_end(file.path, Path(folder))
                continue
            opened = engine.rows(
                "SELECT DISTINCT line_byte_position FROM reject_errors "
                "WHERE CAST(error_type AS VARCHAR) = 'UNQUOTED VALUE' AND csv_line LIKE '%' || chr(10) || '%_'"
            )
            if not opened:
                break
            # A quote that is never closed takes the lines after it with it: only its own line is broken.
            if path == file.path:
                path = _one_kind_of_line_end(file.path, Path(folder))
                continue
            _blank(path, int(opened[0][0]))
    _keep_rejects()
    return Rows("raw_rows", _columns(), json=False), headers


MENDS = 50  # lines with an unclosed quote that are set aside one by one, before the file is refused


def _load_csv(path: Path, names: list[str], source: Source) -> None:
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    _forget_rejects()
    engine.run(
        "CREATE OR REPLACE TEMP TABLE raw_rows AS SELECT row_number() OVER () AS source_row, * FROM read_csv("
        f"{path_literal(path)}, columns = {{{types}}}, header = false, skip = {source.header_rows}, "
        f"auto_detect = false, delim = {literal(source.delimiter)}, quote = '\"', escape = '\"', store_rejects = true, "
        "max_line_size = 33554432)"
    )


def _one_kind_of_line_end(path: Path, folder: Path) -> Path:
    """Copy a file with every line ended by a newline alone, which the reader asks of a file of mixed line ends."""
    target = folder / "lines.csv"
    with _open(path) as lines, target.open("wb") as out:
        for line in lines:
            out.write(line.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
    return target


def _blank(path: Path, start: int) -> None:
    """Overwrite the line that starts at a byte with question marks, which make it a row of too few columns."""
    with path.open("r+b") as file:
        file.seek(start)
        line = file.readline().rstrip(b"\n")
        file.seek(start)
        file.write(b"?" * len(line))


def _header(source: Source, file: RawFile) -> tuple[list[str], int]:
    """Return the names in a CSV file's first row, each unique whatever its case, and how many lines are header."""
    with _open(file.path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as lines:
        reader = csv.reader(lines, delimiter=source.delimiter)
        first = next(reader, [])
        for _ in range(source.header_rows - 1):
            next(reader, None)
        headers = reader.line_num
    names: list[str] = []
    for position, given in enumerate(first, start=1):
        name = wanted = given.strip() or f"column_{position}"
        number = 1
        while name.lower() in (other.lower() for other in names):
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return names, headers
