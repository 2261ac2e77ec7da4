"""The one package that knows an engine by name: DuckDB by default, Spark where that is asked for.

Analysis functions take a dataframe of any engine, call `lazy` on it, say what they want in Narwhals,
and call `fetch` on the small result. Tables on disk are read and written here too. Raw files are always read by
DuckDB (`run`, `rows`, `query`), on Spark inside its tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import pandas as pd
import pyarrow as pa

from journeykit.engine import duck, files, types
from journeykit.engine.chunks import Work
from journeykit.engine.duck import connection, function, insert, register, rows, run
from journeykit.errors import JourneyError, nearest

__all__ = [
    "ORDER", "EngineError", "beside", "connection", "describe", "each", "fetch", "function", "in_order", "insert",
    "is_empty", "keep", "kind", "lazy", "master", "materialise", "order_of", "query", "read_metadata", "read_parquet",
    "register", "relation", "require", "rows", "run", "scratch", "view", "with_member", "write_in_order",
    "write_parquet",
]  # fmt: skip

# The total order of events. Every ordered window in the package names it, so that ties never decide by chance.
ORDER = ("time_us", "source", "source_row", "event_id")
EngineError = duck.Error  # what `run`, `rows` and `fetch` raise when the engine refuses
NAMES = ("duckdb", "spark")
MASTERS = ("local", "spark://", "yarn", "k8s://")


def kind() -> Literal["duckdb", "spark"]:
    """Return the engine that tables are opened with: what `JOURNEYKIT_ENGINE` names, or DuckDB.

    Raises:
        JourneyError: it names no engine.
    """
    return "spark" if master() else "duckdb"


def master(named: str | None = None) -> str:
    """Return the Spark master that an engine's name stands for, "" for DuckDB.

    Args:
        named: "duckdb", "spark" (this machine), or a master URL; without it, what `JOURNEYKIT_ENGINE` says.

    Raises:
        JourneyError: it is none of them.

    >>> master("duckdb"), master("spark://host:7077")
    ('', 'spark://host:7077')
    """
    said = (os.environ.get("JOURNEYKIT_ENGINE", "") if named is None else named).strip()
    if said in ("", "duckdb"):
        return ""
    if said == "spark":
        return f"local[{os.environ.get('JOURNEYKIT_THREADS') or '*'}]"
    if said.startswith(MASTERS):
        return said
    raise JourneyError(
        f"engine {said!r}: not known.{nearest(said, NAMES)} Allowed: duckdb, spark (this machine), or the master of a "
        'Spark cluster: spark://host:7077, yarn, k8s://…, "local[2]".'
    )


def describe(named: str = "duckdb") -> str:
    """Return the name and the version of an engine, and where it runs; nothing is started."""
    where = master(named)
    if where:
        from journeykit.engine import spark

        return spark.describe(where)
    return duck.describe()


def require(named: str) -> None:
    """Raise JourneyError when an engine is not known or cannot be started here; nothing is started."""
    if master(named):
        from journeykit.engine import spark

        spark.require()


def read_parquet(path: Path) -> nw.LazyFrame[Any]:
    """Open a table on disk as a lazy table of the engine of `kind()`; nothing is read before `fetch`.

    It is a file, or a folder of parts as Spark writes it; either engine reads what the other wrote.
    """
    if kind() == "spark":
        from journeykit.engine import spark

        return lazy(spark.read_parquet(path))
    return lazy(duck.read_parquet(path))


def relation(path: Path) -> str:
    """Return the SQL that reads a table on disk in a `query`."""
    return f"read_parquet('{files.pattern(path).replace(chr(39), chr(39) * 2)}')"


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
        native = connection().from_arrow(types.in_microseconds(wrapped.to_arrow()))
        wrapped = nw.from_native(native)
    if not isinstance(wrapped, nw.LazyFrame):
        raise JourneyError(f"expected a table (DuckDB, Spark, pandas, Polars or Arrow), got {type(frame).__name__}.")
    columns = wrapped.collect_schema().names()
    if "timestamp" not in columns or "time_us" in columns:
        return wrapped
    if wrapped.implementation.is_duckdb():
        return nw.from_native(duck.with_clock(native))
    if wrapped.implementation.is_pyspark():
        from journeykit.engine import spark

        return nw.from_native(spark.with_clock(native))
    return wrapped.with_columns(time_us=nw.col("timestamp").dt.timestamp("us"))


def beside(small: Any, table: Any) -> nw.LazyFrame[Any]:
    """Return a small table on the engine of another table, to join it with that.

    Nulls stay null and integers stay integers. A table that lives there already stays as it is.

    Args:
        small: a table of any engine that fits into memory.
        table: the table it will be joined with, of any engine.

    >>> events = lazy(pd.DataFrame({"event": ["buy"], "n": [1]}))
    >>> fetch(events.join(beside(pd.DataFrame({"event": ["buy"], "stage": ["Purchase"]}), events), on="event"))
      event  n     stage
    0   buy  1  Purchase
    """
    where = lazy(table).implementation
    found: Any = nw.from_native(nw.to_native(small, pass_through=True))
    if isinstance(found, nw.LazyFrame):
        if found.implementation is where:
            return lazy(found)
        found = found.collect("pyarrow")
    if where.is_duckdb():
        return lazy(found)
    native = found.to_native()
    arrow = pa.Table.from_pandas(native, preserve_index=False) if isinstance(native, pd.DataFrame) else found.to_arrow()
    if where.is_pyspark():
        from journeykit.engine import spark

        return lazy(spark.from_arrow(arrow))
    return lazy(nw.from_arrow(arrow, backend=where).lazy())


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
    if isinstance(native, duck.Relation):
        return lazy(duck.materialise(native, name))
    if hasattr(native, "localCheckpoint"):
        return lazy(native.localCheckpoint())
    return lazy(native)


def keep(frame: Any, name: str) -> nw.LazyFrame[Any]:
    """Compute a lazy table once, as `materialise` does, beside others that are kept under the same name."""
    return materialise(frame, duck.own_name(name))


@contextmanager
def scratch() -> Iterator[None]:
    """Drop what is kept meanwhile at the end: lazy tables that were made of it are of no use afterwards."""
    with duck.scratch():
        yield


def is_empty(table: Any) -> bool:
    """Return whether a table has no row."""
    return fetch(lazy(table).head(1)).empty


def write_parquet(frame: Any, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a table as Parquet: beside its name first, moved into place when whole.

    DuckDB writes one file with the metadata in it, Spark a folder of parts with the metadata beside them.
    """
    native: Any = nw.to_native(frame, pass_through=True)
    if not isinstance(native, duck.Relation):
        table = lazy(frame)
        native = nw.to_native(lazy(table.collect("pyarrow")) if table.implementation.is_polars() else table)
    if isinstance(native, duck.Relation):
        duck.write_parquet(native, path, metadata or {})
    else:
        from journeykit.engine import spark

        spark.write_parquet(native, path, metadata or {})


def write_in_order(
    frame: Any, path: Path, metadata: dict[str, str] | None = None, *, by: str, order: Sequence[str], work: Work
) -> None:
    """Sort rows, work on them in order, and write the result as Parquet, without holding it all.

    What depends on the order of a person's events is computed so in one pass: `work` gets all rows of some persons.

    Args:
        frame: a table of any engine.
        path: where to write, as `write_parquet` does.
        metadata: what to note, as `write_parquet` does.
        by: the column whose values are not cut: each is whole in one call. Not null.
        order: the columns that order the rows of one value of `by`; nulls come last.
        work: called with an Arrow table of rows in order and with the number (from 1) of its first row in the order of
            all; returns the table to write, which may have other columns and rows. An empty table tells the columns
            of the result. It must ask nothing of an engine; on Spark it runs in other processes.
    """
    native = nw.to_native(lazy(frame))
    if isinstance(native, duck.Relation):
        duck.write_in_order(native, path, metadata or {}, by=by, order=order, work=work)
    else:
        from journeykit.engine import spark

        spark.write_in_order(native, path, metadata or {}, by=by, order=order, work=work)


def in_order(frame: Any, *, by: str, order: Sequence[str], work: Work) -> nw.LazyFrame[Any]:
    """Sort rows, work on them in order, and return the result as a lazy table; as `write_in_order`, without a file.

    The result is computed at once, kept on disk (on Spark, on the machines of the cluster), and dropped by `scratch`.
    `work` is not told the number of a row: it is 1 in every call.
    """
    table = lazy(frame)
    native: Any = nw.to_native(table)
    if table.implementation.is_pyspark():
        from journeykit.engine import spark

        return lazy(spark.in_order(native, by=by, order=order, work=work))
    if not isinstance(native, duck.Relation):
        native = nw.to_native(lazy(table.collect("pyarrow")))
    return lazy(duck.in_order(native, by=by, order=order, work=work))


def order_of(columns: Sequence[str]) -> list[str]:
    """Return the columns that order the events of a person: `position` of touches, or else the total order.

    >>> order_of(["person_id", "position"]), order_of(["person_id"])
    (['position'], ['time_us', 'source', 'source_row', 'event_id'])
    """
    return ["position"] if "position" in columns else list(ORDER)


def with_member(frame: Any, column: str, key: str, name: str) -> nw.LazyFrame[Any]:
    """Return a table with one member of the JSON object that a column holds as text; null where there is none.

    >>> table = lazy(pd.DataFrame({"properties": ['{"plan": "pro", "seats": 3}', None, "no JSON"]}))
    >>> fetch(with_member(table, "properties", "seats", "seats"))["seats"].tolist()
    ['3', None, None]
    """
    table = lazy(frame)
    native: Any = nw.to_native(table)
    if table.implementation.is_pyspark():
        from journeykit.engine import spark

        return lazy(spark.with_member(native, column, key, name))
    if not isinstance(native, duck.Relation):
        native = nw.to_native(lazy(table.collect("pyarrow")))
    return lazy(duck.with_member(native, column, key, name))


def read_metadata(path: Path) -> dict[str, str]:
    """Return what `write_parquet` noted with a table, or {} when the table is missing."""
    if not path.exists():
        return {}
    return files.notes(path) if path.is_dir() else duck.read_metadata(path)


def query(statement: str, on: Literal["duckdb", "spark"] = "duckdb") -> nw.LazyFrame[Any]:
    """Return a query of an engine as a lazy table; tables of Spark are known to it by `view`."""
    if on == "spark":
        from journeykit.engine import spark

        return lazy(spark.session().sql(statement))
    return lazy(connection().sql(statement))


def view(frame: Any, name: str) -> None:
    """Make a lazy table known to `query`, on its engine, under a name."""
    native = nw.to_native(frame)
    if isinstance(native, duck.Relation):
        native.create_view(name, replace=True)
    else:
        native.createOrReplaceTempView(name)


def each(n: int, work: Callable[[int], None]) -> None:
    """Call a function with each number below n, on Spark in n tasks, which may run on other machines.

    A task's tables are read and written by DuckDB; what it is to leave it writes to a disk that all machines share.

    Raises:
        JourneyError, EngineError: the function raised it, for the lowest number that it did so for.
    """
    if kind() == "spark":
        from journeykit.engine import spark

        spark.each([(number,) for number in range(n)], "number bigint", work)
        return
    for number in range(n):
        work(number)
