"""The one module that knows an engine by name: DuckDB by default, Spark where a Spark frame comes in.

Analysis functions take a dataframe of any engine, call `lazy` on it, say what they want in Narwhals,
and call `fetch` on the small result. Tables on disk are read and written here too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import narwhals as nw
import pandas as pd

from journeykit.errors import JourneyError

# The total order of events. Every ordered window in the package names it, so that ties never decide by chance.
ORDER = ("time_us", "source", "source_row", "event_id")

_local = threading.local()


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
    """Return the default engine's name and version."""
    return f"duckdb {duckdb.__version__}"


def read_parquet(path: Path) -> nw.LazyFrame[Any]:
    """Open a Parquet file as a lazy table; nothing is read before `fetch`."""
    return lazy(connection().read_parquet(str(path)))


def lazy(frame: Any) -> nw.LazyFrame[Any]:
    """Return any engine's table as a Narwhals lazy frame, with `time_us` beside a `timestamp`.

    A DuckDB relation, a Spark frame and a lazy Polars frame stay where they are; an eager frame (pandas, Polars,
    Arrow) is handed to DuckDB without a copy. `time_us` (integer, microseconds since 1970 UTC) is what windows and
    differences are computed on, because engines disagree about differences of timestamps and agree about integers.

    >>> import pandas as pd
    >>> events = pd.DataFrame({"timestamp": pd.to_datetime(["1970-01-01 00:00:01"])})
    >>> fetch(lazy(events))["time_us"].tolist()
    [1000000]
    """
    native = nw.to_native(frame, pass_through=True)
    if isinstance(native, pd.DataFrame):
        native = native.reset_index(drop=True)
    wrapped: Any = nw.from_native(native, pass_through=True)
    if isinstance(wrapped, nw.DataFrame):
        native = connection().from_arrow(wrapped.to_arrow())
        wrapped = nw.from_native(native)
    if not isinstance(wrapped, nw.LazyFrame):
        raise JourneyError(f"expected a table (DuckDB, Spark, pandas, Polars or Arrow), got {type(frame).__name__}.")
    columns = wrapped.collect_schema().names()
    if "timestamp" not in columns or "time_us" in columns:
        return wrapped
    if wrapped.implementation.is_duckdb():
        return nw.from_native(native.project("*, epoch_us(timestamp) AS time_us"))
    if wrapped.implementation.is_pyspark():
        return nw.from_native(native.selectExpr("*", "unix_micros(cast(timestamp as timestamp)) AS time_us"))
    return wrapped.with_columns(time_us=nw.col("timestamp").dt.timestamp("us"))


def fetch(frame: Any, limit: int = 2_000_000) -> pd.DataFrame:
    """Run a lazy query and return its result as a pandas frame; refuse a result of more than `limit` rows.

    Integer sums that an engine returns as decimals come back as integers.
    """
    wrapped = nw.from_native(nw.to_native(frame, pass_through=True))
    if isinstance(wrapped, nw.LazyFrame):
        table = wrapped.head(limit + 1).collect("pyarrow").to_pandas()
    else:
        table = wrapped.to_pandas()
    if len(table) > limit:
        raise JourneyError(f"the result has more than {limit:,} rows. Aggregate it in the engine before fetching it.")
    for name in table.columns:
        column = table[name]
        if column.dtype == object and len(column) and isinstance(column.dropna().head(1).squeeze(), Decimal):
            whole = column.notna().all() and all(value % 1 == 0 and abs(value) < 2**63 for value in column)
            table[name] = column.astype("int64") if whole else column.astype(float)
    return table


def materialise(frame: Any, name: str) -> nw.LazyFrame[Any]:
    """Compute a lazy table once, so that what is asked of it next does not compute it again; spills like any query."""
    native = nw.to_native(lazy(frame))
    if isinstance(native, duckdb.DuckDBPyRelation):
        connection().execute(f"DROP TABLE IF EXISTS {name}")
        native.create_view("materialised", replace=True)
        connection().execute(f"CREATE TEMP TABLE {name} AS FROM materialised")
        return lazy(connection().table(name))
    return lazy(native.localCheckpoint() if hasattr(native, "localCheckpoint") else native)


def write_parquet(frame: Any, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a lazy table as one Parquet file: beside its name first, moved into place when whole."""
    native = nw.to_native(frame, pass_through=True)
    relation = native if isinstance(native, duckdb.DuckDBPyRelation) else nw.to_native(lazy(frame))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    pairs = ", ".join(f"{key}: '{value}'" for key, value in (metadata or {}).items())
    options = "FORMAT parquet, COMPRESSION zstd" + (f", KV_METADATA {{{pairs}}}" if pairs else "")
    relation.create_view("written", replace=True)
    connection().execute(f"COPY written TO '{_quoted(part)}' ({options})")
    os.replace(part, path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what `write_parquet` noted in a file, or {} when the file is missing."""
    if not path.exists():
        return {}
    try:
        rows = connection().execute(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{_quoted(path)}')")
        return {key: value for key, value in rows.fetchall() if not key.startswith(("ARROW", "pandas"))}
    except duckdb.Error:  # a file that was cut off notes nothing, and is made anew
        return {}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def run(statement: str) -> None:
    """Execute a statement of the default engine for its effect (ingestion reads files with its readers)."""
    connection().execute(statement)


def rows(query: str) -> list[tuple[Any, ...]]:
    """Return the few rows of a query of the default engine."""
    return connection().execute(query).fetchall()


def query(statement: str) -> nw.LazyFrame[Any]:
    """Return a query of the default engine as a lazy table."""
    return lazy(connection().sql(statement))


def register(table: pd.DataFrame, name: str) -> None:
    """Make a small pandas table known to `query` under a name."""
    connection().register(name, table)


def function(name: str, python_function: Callable[[str], str]) -> None:
    """Make a Python function from text to text known to `query` under a name, on this thread's connection.

    Null stays null. It must give the same text for the same text: the engine may call it once for many rows.
    """
    known: set[str] = _local.__dict__.setdefault("functions", set())
    if name not in known:
        # Wrapped, because the engine asks for a plain function of one parameter.
        connection().create_function(name, lambda text: python_function(text), ["VARCHAR"], "VARCHAR")
        known.add(name)


def insert(table: pd.DataFrame, name: str) -> None:
    """Add the rows of a small pandas table to a table of the default engine, column by column in order."""
    if len(table):
        connection().register("inserted", table)
        connection().execute(f"INSERT INTO {name} SELECT * FROM inserted")
        connection().unregister("inserted")


EngineError = duckdb.Error  # what `run`, `rows` and `fetch` raise when the engine refuses
