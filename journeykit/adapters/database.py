"""The rows of a query as Parquet, every column as the text that the database itself writes; NULL stays NULL.

Text, because that is what every source is read as, and because it is exact for each type that a database has: amounts
keep their decimals, times their offset (UTC), nested values are JSON.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from journeykit.credentials import scrub
from journeykit.errors import JourneyError
from journeykit.raw_files import QueryResult, refuse_leaving

Batches = Iterator[pa.RecordBatch]

BATCH_ROWS = 10_000
BATCH_BYTES = 16 << 20
GROUP_BYTES = 32 << 20  # of a row group in the Parquet file
CONNECT_SECONDS = 20
COMMENTS = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)


def extract(file: QueryResult, target: Path) -> str:
    """Write the rows of a query to the Parquet file `target` in bounded memory; return their hash.

    Raises:
        JourneyError: no such database, a failing connection or query, or a query that is not a SELECT.
    """
    digest = _Digest()
    writer: pq.ParquetWriter | None = None
    group: list[pa.RecordBatch] = []
    try:
        for batch in digest.of(_batches(file)):
            writer = writer or pq.ParquetWriter(target, batch.schema, compression="zstd")
            group.append(batch)
            if sum(part.nbytes for part in group) > GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group))
                group.clear()
        if writer and group:
            writer.write_table(pa.Table.from_batches(group))
    finally:
        if writer:
            writer.close()
    return digest.hexdigest()


def fingerprint(file: QueryResult) -> str:
    """Return the hash of the rows of a query, in the order in which they come."""
    digest = _Digest()
    for _ in digest.of(_batches(file)):
        pass
    return digest.hexdigest()


class _Digest:
    """A hash of rows of text that does not depend on how they are cut into batches."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[Any, Any]] = {}

    def of(self, batches: Batches) -> Batches:
        """Pass batches on and hash them."""
        for batch in batches:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                sizes, content = self.parts.setdefault(name, (hashlib.sha256(), hashlib.sha256()))
                sizes.update(pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False).tobytes())
                content.update(_content(pc.fill_null(column, "")))
            yield batch

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for name, hashes in self.parts.items():
            whole.update(f"{name!r} {' '.join(part.hexdigest() for part in hashes)}\n".encode())
        return whole.hexdigest()


def _content(column: pa.StringArray) -> bytes:
    """Return the texts of a column without nulls, one after the other."""
    _, places, content = column.buffers()
    if not len(column) or content is None:
        return b""
    first, last = (memoryview(places).cast("i")[column.offset + place] for place in (0, len(column)))
    return bytes(memoryview(content)[first:last])


def _batches(file: QueryResult) -> Batches:
    """Yield the rows of a query; the first batch may be empty, but there is one."""
    query = file.query.strip().rstrip(";").rstrip()
    if not re.match(r"(?i)(select|with)\b", query[COMMENTS.match(query).end() :]):  # type: ignore[union-attr]
        raise JourneyError(f"{file.name}: the query must be one SELECT (or WITH … SELECT); nothing is changed in it.")
    scheme, mark, rest = file.database.partition("://")
    if not mark:
        raise JourneyError(f"{file.name}: database is not a URL. Allowed are {ALLOWED}.")
    read: Callable[[QueryResult, str, Any], Batches]
    place: Any = file.database
    if scheme in ("postgresql", "postgres"):
        read = _postgresql
    elif scheme in ("sqlite", "duckdb"):
        read, place = _sqlite if scheme == "sqlite" else _duckdb, _local(file, rest)
    else:
        read = _sqlalchemy
    try:
        yield from read(file, query, place)
    except JourneyError:
        raise
    except Exception as error:  # each driver raises errors of its own
        said = str(error).replace(str(place), Path(place).name) if isinstance(place, Path) else str(error)
        raise JourneyError(f"{file.name}: {_reason(said, file.database)}") from None


ALLOWED = (
    "postgresql://user:password@host/database, sqlite:///path, duckdb:///path, what SQLAlchemy knows, "
    'or "$NAME" for an environment variable that holds one'
)


def _reason(said: str, url: str) -> str:
    """The server's own words, without its copy of the query and without secrets."""
    lines = [line.strip() for line in said.split("\nQuery was:")[0].splitlines()]
    kept = [line for line in lines[:1] + [line for line in lines[1:] if line.startswith(("HINT", "DETAIL"))] if line]
    return (
        f"the database says: {scrub(' '.join(kept), url)[:500]}. "
        "Check database (address, user, password) and query in journey.toml."
    )


def _local(file: QueryResult, path: str) -> Path:
    """Return the path of a database file: sqlite:///relative, sqlite:////absolute."""
    relative = path.removeprefix("/")
    refuse_leaving(relative, f"{file.name}: database")
    found = file.folder / relative
    if not relative or not found.is_file():
        shown = relative if not Path(relative).is_absolute() else found.name
        raise JourneyError(
            f"{file.name}: there is no database file {shown!r}. Three slashes and a path count from the study's folder "
            "(sqlite:///raw/shop.db), four begin an absolute path."
        )
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _named(names: list[str], file: QueryResult) -> list[str]:
    """Return the names of columns, once each.

    Raises:
        JourneyError: two have the same name, or one has none.
    """
    seen: set[str] = set()
    for name in names:
        if not name or name.lower() in seen:
            raise JourneyError(f"{file.name}: column {name!r} comes twice or has no name. Name it: SELECT x AS name.")
        seen.add(name.lower())
    return names


def _as_text(batches: Iterable[pa.RecordBatch], names: list[str]) -> Batches:
    """Yield batches of text columns, an empty one first, so that an empty result has its columns too."""
    schema = pa.schema([(name, pa.string()) for name in names])
    yield pa.RecordBatch.from_pylist([], schema=schema)
    for batch in batches:
        yield pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in batch.columns], schema=schema)


def _postgresql(file: QueryResult, query: str, url: str) -> Batches:
    """Read over ADBC, whose driver copies the result in binary batches; the server turns each column into text."""
    import adbc_driver_postgresql.dbapi as driver

    if "connect_timeout" not in url:
        url += f"{'&' if '?' in url else '?'}connect_timeout={CONNECT_SECONDS}"
    with driver.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        for setting in ("TimeZone = 'UTC'", "DateStyle = 'ISO, YMD'", "IntervalStyle = 'iso_8601'"):
            cursor.execute(f"SET LOCAL {setting}")
        cursor.execute(f"SELECT * FROM (\n{query}\n) AS result LIMIT 0")
        schema = cursor.fetch_record_batch().schema
        names = _named(schema.names, file)
        fields = ", ".join(f"{_postgresql_text(found)} AS {_quoted(found.name)}" for found in schema)
        cursor.execute(f"SELECT {fields or 'NULL'} FROM (\n{query}\n) AS result")
        yield from _as_text(cursor.fetch_record_batch(), names)


def _postgresql_text(found: pa.Field) -> str:
    """The SQL of a column as text: arrays and rows as JSON, bytes in hexadecimal."""
    column = f"result.{_quoted(found.name)}"
    if pa.types.is_list(found.type) or pa.types.is_struct(found.type):
        return f"CAST(to_json({column}) AS text)"
    return f"encode({column}, 'hex')" if pa.types.is_binary(found.type) else f"CAST({column} AS text)"


def open_duckdb(path: Path) -> Any:
    """Open a DuckDB file for reading; its queries reach no other file and no network."""
    import duckdb

    connection = duckdb.connect(str(path), read_only=True, config={"enable_external_access": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _duckdb(file: QueryResult, query: str, path: Path) -> Batches:
    with open_duckdb(path) as connection:
        found = connection.execute(f"DESCRIBE SELECT * FROM (\n{query}\n) AS result").fetchall()
        names = _named([name for name, *_ in found], file)
        fields = ", ".join(f"{_duckdb_text(name, kind)} AS {_quoted(name)}" for name, kind, *_ in found)
        # A relation streams its rows; what execute() returns is held in memory as a whole.
        result = connection.sql(f"SELECT {fields} FROM (\n{query}\n) AS result")
        yield from _as_text(result.to_arrow_reader(BATCH_ROWS), names)


def _duckdb_text(name: str, kind: str) -> str:
    column = f"result.{_quoted(name)}"
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({column}) AS VARCHAR)"
    return f"lower(hex({column}))" if kind == "BLOB" else f"CAST({column} AS VARCHAR)"


def _sqlite(file: QueryResult, query: str, path: Path) -> Batches:
    """Read with Python's own driver: ADBC's gives a column the type of its first rows and fails on others."""
    # Without a log of pending changes nothing needs to be written beside the file to read it.
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)) as connection:
        connection.text_factory = lambda content: content.decode("utf-8", errors="replace")
        cursor = connection.execute(query)
        names = _named([column[0] for column in cursor.description], file)
        yield from _as_text(_packed(cursor, len(names)), names)


def _sqlalchemy(file: QueryResult, query: str, url: str) -> Batches:
    scheme = url.split("://", 1)[0]
    try:
        import sqlalchemy
    except ImportError:
        raise JourneyError(
            f"{file.name}: databases of kind {scheme!r} are read through SQLAlchemy. "
            f"Install sqlalchemy and its driver for {scheme!r} in .venv. Without it, allowed are {ALLOWED}."
        ) from None
    try:
        made = sqlalchemy.create_engine(url)
    except (ImportError, sqlalchemy.exc.NoSuchModuleError, sqlalchemy.exc.ArgumentError) as error:
        raise JourneyError(
            f"{file.name}: {scheme!r} cannot be opened: {scrub(str(error), url)}. Install SQLAlchemy's driver for it "
            f"in .venv, or mend the URL. Allowed are {ALLOWED}."
        ) from None
    try:
        with made.connect().execution_options(stream_results=True, yield_per=1000) as connection:
            result = connection.exec_driver_sql(query)
            names = _named(list(result.keys()), file)
            yield from _as_text(_packed(result, len(names)), names)
            connection.rollback()
    finally:
        made.dispose()


def _packed(rows: Iterable[Any], width: int) -> Iterator[pa.RecordBatch]:
    """Yield rows of Python values as batches of text that are small in rows and in bytes."""
    columns: list[list[str | None]] = [[] for _ in range(width)]
    size = 0
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            text = text_of(value)
            size += len(text or "")
            column.append(text)
        if len(columns[0]) >= BATCH_ROWS or size > BATCH_BYTES:
            yield _batch(columns)
            columns, size = [[] for _ in range(width)], 0
    if columns[0]:
        yield _batch(columns)


def _batch(columns: list[list[str | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array(column, pa.string()) for column in columns], names=[str(number) for number in range(len(columns))]
    )


def text_of(value: Any) -> str | None:
    """Return a value of a database driver as text.

    >>> [text_of(value) for value in (12, 0.1, True, b"\\x01", [1, None], None)]
    ['12', '0.1', 'true', '01', '[1, null]', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dt.datetime):
        return (value.astimezone(dt.UTC) if value.tzinfo else value).isoformat(sep=" ")
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    return json.dumps(value, ensure_ascii=False, default=text_of) if isinstance(value, (dict, list)) else str(value)
