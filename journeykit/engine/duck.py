"""DuckDB: one connection a thread, in memory, which spills to disk under a memory limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pandas as pd

from journeykit.engine import chunks, files
from journeykit.sql import identifier, literal

_local = threading.local()

Error = duckdb.Error
Relation = duckdb.DuckDBPyRelation


def connection() -> duckdb.DuckDBPyConnection:
    """Return this thread's DuckDB connection: in memory, UTC, spilling to disk under a memory limit.

    `JOURNEYKIT_MEMORY_LIMIT` (such as "2GB"), `JOURNEYKIT_SPILL` (a folder) and `JOURNEYKIT_THREADS` set its limits.
    """
    if not hasattr(_local, "connection"):
        config: dict[str, Any] = {}
        for key, variable in (
            ("memory_limit", "JOURNEYKIT_MEMORY_LIMIT"),
            ("temp_directory", "JOURNEYKIT_SPILL"),
            ("threads", "JOURNEYKIT_THREADS"),
        ):
            if os.environ.get(variable):
                config[key] = os.environ[variable]
        _local.connection = duckdb.connect(config=config)
        _local.connection.execute("SET TimeZone = 'UTC'")
    connection: duckdb.DuckDBPyConnection = _local.connection
    return connection


def describe() -> str:
    """Return the name and the version."""
    return f"duckdb {duckdb.__version__}"


def read_parquet(path: Path) -> Relation:
    """Open a table on disk, a file or a folder of parts."""
    return connection().read_parquet(files.pattern(path))


def with_clock(relation: Relation) -> Relation:
    """Add `time_us` to a relation with a `timestamp`."""
    return relation.project("*, epoch_us(timestamp) AS time_us")


def materialise(relation: Relation, name: str) -> Relation:
    """Compute a relation into a temporary table."""
    connection().execute(f"DROP TABLE IF EXISTS {name}")
    relation.create_view("materialised", replace=True)
    connection().execute(f"CREATE TEMP TABLE {name} AS FROM materialised")
    return connection().table(name)


def own_name(name: str) -> str:
    """Return a name for a temporary table that no other one of this connection has, and note it for `scratch`."""
    _local.turn = getattr(_local, "turn", 0) + 1
    _local.__dict__.setdefault("kept", []).append(f"{name}_{_local.turn}")
    return str(_local.kept[-1])


@contextmanager
def scratch() -> Iterator[None]:
    """Drop the tables whose names were given out meanwhile."""
    kept: list[str] = _local.__dict__.setdefault("kept", [])
    before = len(kept)
    try:
        yield
    finally:
        for name in kept[before:]:
            connection().execute(f"DROP TABLE IF EXISTS {name}")
            _kept_file(name).unlink(missing_ok=True)
        del kept[before:]


def write_parquet(relation: Relation, path: Path, metadata: dict[str, str]) -> None:
    """Write a relation as one Parquet file."""
    pairs = ", ".join(f"{key}: '{value}'" for key, value in metadata.items())
    options = "FORMAT parquet, COMPRESSION zstd" + (f", KV_METADATA {{{pairs}}}" if pairs else "")
    with files.replacing(path) as part:
        relation.create_view("written", replace=True)
        connection().execute(f"COPY written TO '{files.quoted(part)}' ({options})")


def write_in_order(
    relation: Relation, path: Path, metadata: dict[str, str], *, by: str, order: Sequence[str], work: chunks.Work
) -> None:
    """Sort a relation, which spills, and stream it through `work` into one Parquet file."""
    names = ", ".join('"' + name.replace('"', '""') + '" ASC NULLS LAST' for name in (by, *order))
    reader = relation.order(names).to_arrow_reader(100_000)
    made = work(reader.schema.empty_table(), 1).schema.with_metadata(metadata)
    with files.replacing(path) as part, reader:  # one left open would keep the connection from saying what went wrong
        chunks.write(reader, part, by=by, first=1, work=work, made=made)


def in_order(relation: Relation, *, by: str, order: Sequence[str], work: chunks.Work) -> Relation:
    """As `write_in_order`, into a file that `scratch` drops, or the end of the process."""
    path = _kept_file(own_name("in_order"))
    write_in_order(relation, path, {}, by=by, order=order, work=lambda table, _: work(table, 1))
    return connection().read_parquet(files.pattern(path))


def _kept_file(name: str) -> Path:
    """Return the file of what is kept under a name in this thread."""
    if not hasattr(_local, "folder"):
        spill = os.environ.get("JOURNEYKIT_SPILL") or None
        if spill:
            os.makedirs(spill, exist_ok=True)  # the engine makes it too, but not before it spills
        _local.folder = TemporaryDirectory(prefix="journeykit-", dir=spill, ignore_cleanup_errors=True)
    return Path(_local.folder.name) / f"{name}.parquet"


def with_member(relation: Relation, column: str, key: str, name: str) -> Relation:
    """Add a member of the JSON object that a column holds as text."""
    text = identifier(column)
    value = f"CASE WHEN json_valid({text}) THEN json_extract_string({text}, {literal(_path(key))}) END"
    return relation.project(f"*, {value} AS {identifier(name)}")


def _path(key: str) -> str:
    quoted = key.replace('"', '\\"')
    return f'$."{quoted}"'


def read_metadata(path: Path) -> dict[str, str]:
    """Return what was noted in a Parquet file."""
    try:
        found = connection().execute(
            f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{files.quoted(path)}')"
        )
        return {key: value for key, value in found.fetchall() if not key.startswith(("ARROW", "pandas"))}
    except duckdb.Error:  # a file that was cut off notes nothing, and is made anew
        return {}


def run(statement: str) -> None:
    """Execute a statement for its effect."""
    connection().execute(statement)


def rows(query: str) -> list[tuple[Any, ...]]:
    """Return the few rows of a query."""
    return connection().execute(query).fetchall()


def register(table: pd.DataFrame, name: str) -> None:
    """Make a small pandas table known to queries under a name."""
    connection().register(name, table)


def function(name: str, python_function: Callable[[str], str]) -> None:
    """Make a Python function known to queries under a name."""
    known: set[str] = _local.__dict__.setdefault("functions", set())
    if name not in known:
        # Wrapped, because the engine asks for a plain function of one parameter.
        connection().create_function(name, lambda text: python_function(text), ["VARCHAR"], "VARCHAR")
        known.add(name)


def insert(table: pd.DataFrame, name: str) -> None:
    """Add the rows of a small pandas table to a table, column by column in order."""
    if len(table):
        connection().register("inserted", table)
        connection().execute(f"INSERT INTO {name} SELECT * FROM inserted")
        connection().unregister("inserted")
