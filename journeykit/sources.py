"""Read the files that vendors export: each row as text, in order, the broken ones set aside with their line."""

from __future__ import annotations

import csv
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from journeykit import engine
from journeykit.config import Source, Time
from journeykit.errors import JourneyError, nearest

OFFSET = r":\d.*\d\s*(Z|UTC|[+-]\d{2}(:?\d{2})?)$"  # a zone after a time of day, so that no date ends in one


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
            raise JourneyError(
                f"{where}: column {column!r} is not in the file.{nearest(column, self.columns)} "
                f"It has: {', '.join(self.columns)}."
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

    `raw_broken` has one row per broken row: line, reason, record. Every physical row is in one of the two.
    """
    engine.run("DROP TABLE IF EXISTS raw_rows; DROP TABLE IF EXISTS raw_broken")
    if source.format == "jsonl":
        return _read_json_lines(source, file), "raw_broken"
    if source.format == "parquet":
        engine.run(
            "CREATE TEMP TABLE raw_rows AS SELECT row_number() OVER () AS source_row, * "
            f"FROM read_parquet({literal(str(file.path))})"
        )
        engine.run("CREATE TEMP TABLE raw_broken (line BIGINT, reason VARCHAR, record VARCHAR)")
        return Rows("raw_rows", _columns(), json=False), "raw_broken"
    return _read_csv(source, file), "raw_broken"


def _columns() -> tuple[str, ...]:
    names = [row[0] for row in engine.rows("SELECT column_name FROM (DESCRIBE raw_rows)")]
    return tuple(name for name in names if name != "source_row")


def _read_json_lines(source: Source, file: RawFile) -> Rows:
    engine.run(
        "CREATE TEMP TABLE lines AS SELECT row_number() OVER () AS source_row, line FROM read_csv("
        f"{literal(str(file.path))}, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false, "
        "delim = '\x1f', quote = '', escape = '', null_padding = true, strict_mode = false, "
        "max_line_size = 33554432)"
    )
    good = "CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' ELSE false END"
    columns = _mapped_columns(source)
    engine.run(f"CREATE TEMP TABLE raw_rows AS {_json_fields(columns, f'SELECT * FROM lines WHERE {good}')}")
    engine.run(
        "CREATE TEMP TABLE raw_broken AS SELECT source_row AS line, 'row is not a JSON object' AS reason, "
        f"line AS record FROM lines WHERE line IS NOT NULL AND trim(line) <> '' AND NOT coalesce({good}, false)"
    )
    engine.run("DROP TABLE lines")
    return Rows("raw_rows", columns, json=True)


def _mapped_columns(source: Source) -> tuple[str, ...]:
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


def _read_csv(source: Source, file: RawFile) -> Rows:
    header = _header(source, file)
    engine.run("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    if not header:
        engine.run("CREATE TEMP TABLE raw_rows (source_row BIGINT)")
        engine.run("CREATE TEMP TABLE raw_broken (line BIGINT, reason VARCHAR, record VARCHAR)")
        return Rows("raw_rows", (), json=False)
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    engine.run(
        "CREATE TEMP TABLE raw_rows AS SELECT * FROM (SELECT row_number() OVER () AS source_row, * FROM read_csv("
        f"{literal(str(file.path))}, columns = {{{types}}}, header = true, auto_detect = false, "
        f"delim = {literal(source.delimiter)}, quote = '\"', escape = '\"', new_line = '\\n', "
        "store_rejects = true, max_line_size = 33554432)) "
        f"WHERE source_row >= {source.header_rows}"
    )
    engine.run(
        "CREATE TEMP TABLE raw_broken AS SELECT line, "
        "'row is broken: ' || lower(any_value(CAST(error_type AS VARCHAR))) AS reason, any_value(csv_line) AS record "
        "FROM reject_errors GROUP BY line"
    )
    return Rows("raw_rows", _columns(), json=False)


def _header(source: Source, file: RawFile) -> list[str]:
    """Return the names in a CSV file's first row; names that occur twice get a number."""
    opener = gzip.open if file.path.suffix == ".gz" else open
    with opener(file.path, "rt", encoding="utf-8-sig", errors="replace", newline="") as lines:
        first = next(csv.reader(lines, delimiter=source.delimiter), [])
    seen: dict[str, int] = {}
    names = []
    for position, name in enumerate(first, start=1):
        name = name.strip() or f"column_{position}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def utc(time: Time, text: str) -> str:
    """Return the SQL that reads a time as UTC (a timestamp without zone); null where it cannot be read.

    A time with an offset is converted; one without is read in `zone`. At a daylight-saving change an ambiguous local
    time is the first of the two, a local time that does not exist moves forward by the hour that was skipped.
    """
    if time.unit != "text":
        factor = {"s": 1_000_000, "ms": 1000, "us": 1}[time.unit]
        return f"make_timestamp(CAST(TRY_CAST({text} AS DECIMAL(30, 6)) * {factor} AS BIGINT))"
    if time.format:
        parsed = f"try_strptime({text}, {literal(time.format)})"
        return f"timezone('UTC', {parsed})" if "%z" in time.format else from_local(parsed, time.zone)
    spaced = f"regexp_replace({text}, '\\s*([+-]\\d{{2}}):?(\\d{{2}})?$', '\\1:\\2')"
    offset = f"timezone('UTC', TRY_CAST({spaced} AS TIMESTAMPTZ))"
    local = from_local(f"TRY_CAST({text} AS TIMESTAMP)", time.zone)
    return f"CASE WHEN regexp_matches({text}, '{OFFSET}') THEN {offset} ELSE {local} END"


def from_local(local: str, zone: str) -> str:
    """Return the SQL of a local time in UTC; of two possible instants it is the first."""
    if zone == "UTC":
        return local
    instant = f"timezone({literal(zone)}, {local})"
    earlier = f"({instant} - INTERVAL 1 HOUR)"
    first = f"CASE WHEN timezone({literal(zone)}, {earlier}) = {local} THEN {earlier} ELSE {instant} END"
    return f"timezone('UTC', {first})"


def clock_change(time: Time, text: str) -> str:
    """Return the SQL that names a local time 'ambiguous' or 'skipped' at a daylight-saving change, or null."""
    if time.unit != "text" or time.zone == "UTC" or "%z" in time.format:
        return "NULL"
    local = f"try_strptime({text}, {literal(time.format)})" if time.format else f"TRY_CAST({text} AS TIMESTAMP)"
    zone = literal(time.zone)
    instant = f"timezone({zone}, {local})"
    twice = " OR ".join(f"timezone({zone}, {instant} {sign} INTERVAL 1 HOUR) = {local}" for sign in "+-")
    kind = f"CASE WHEN timezone({zone}, {instant}) <> {local} THEN 'skipped' WHEN {twice} THEN 'ambiguous' END"
    return kind if time.format else f"CASE WHEN NOT regexp_matches({text}, '{OFFSET}') THEN {kind} END"
