"""Spark: one session a process, on this machine or on the cluster whose master `JOURNEYKIT_ENGINE` names.

Imported only where Spark is asked for: it is the extra `spark` of this package, and needs Java.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from journeykit.engine import chunks, duck, files, types
from journeykit.errors import JourneyError

ROOT = Path(__file__).resolve().parent.parent.parent
BROADCAST = 32_000_000  # bytes of a small table that is sent to every task instead of shuffled
INSTALL = (
    "Install it: .venv/bin/python -m pip install -r .ci/requirements-spark.txt "
    "(or, where uv made .venv: uv pip install --python .venv/bin/python -r .ci/requirements-spark.txt)."
)
JAVA = "Install Java 17 or newer (Debian and Ubuntu: apt install default-jre-headless), or set JAVA_HOME."
# What the results depend on; these cannot be set otherwise.
FIXED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",  # a time without zone stays one, as in DuckDB
    "spark.sql.ansi.enabled": "true",  # an overflow is an error, not another number
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",  # SQL is read as DuckDB reads it
    "spark.sql.parser.escapedStringLiterals": "true",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
}


def session() -> Any:
    """Return this process's Spark session.

    Any Spark setting may stand in `JOURNEYKIT_SPARK` ("spark.executor.memory=8g;spark.executor.cores=4"), or in the
    cluster's spark-defaults.conf. `JOURNEYKIT_SPARK_MEMORY` (such as "4g") is the memory of the driver, which on this
    machine does all the work.

    Raises:
        JourneyError: Spark or Java is missing, or the session cannot be started; the message says what to do.
    """
    require()
    from pyspark.sql import SparkSession

    found = SparkSession.getActiveSession()
    return found if found is not None else _start(SparkSession)


def require() -> None:
    """Raise JourneyError when Spark or Java is not installed."""
    if find_spec("pyspark") is None:
        raise JourneyError(f"engine spark: pyspark is not installed. {INSTALL}")
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") or (home and Path(home, "bin", "java").exists())):
        raise JourneyError(f"engine spark: no Java was found. {JAVA}")


def _start(maker: Any) -> Any:
    from journeykit.engine import master

    where = master() or master("spark")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of the tasks: the one with this package's environment
    builder = maker.builder.appName("journeykit").master(where)
    for key, value in _settings(where).items():
        builder = builder.config(key, value)
    with tempfile.TemporaryFile() as log:
        try:
            with _quiet(log):
                made = builder.getOrCreate()
        except Exception as error:  # of the launcher, of Java, of the cluster: whatever it is, there is no session
            log.seek(0)
            said = log.read().decode(errors="replace").strip().splitlines()
            why = next((line for line in said if "rror" in line or "xception" in line), str(error).split("\n")[0])
            raise JourneyError(
                f"engine spark: no session could be started on {where!r}: {why.strip()}. {JAVA} "
                "For a cluster: is the master's address right, and can it be reached from here?"
            ) from error
    made.sparkContext.setLogLevel("ERROR")
    return made


def _settings(where: str) -> dict[str, str]:
    """The settings of a session on a master: defaults, then what the environment says, then what is fixed."""
    found = {
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.executorEnv.PYTHONHASHSEED": "0",
    }
    memory = os.environ.get("JOURNEYKIT_SPARK_MEMORY", "")
    if where.startswith("local"):
        threads = os.environ.get("JOURNEYKIT_THREADS") or str(os.cpu_count() or 1)
        found |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": memory or "2g",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": threads,
            "spark.default.parallelism": threads,
        }
        if os.environ.get("JOURNEYKIT_SPILL"):
            found["spark.local.dir"] = os.environ["JOURNEYKIT_SPILL"]
    elif memory:
        found["spark.driver.memory"] = memory
    for item in filter(None, (item.strip() for item in os.environ.get("JOURNEYKIT_SPARK", "").split(";"))):
        key, equals, value = item.partition("=")
        if not (equals and key.startswith("spark.")):
            raise JourneyError(
                f"JOURNEYKIT_SPARK: {item!r} is no setting. Write spark.name=value, several with ; between them."
            )
        found[key.strip()] = value.strip()
    return found | FIXED


@contextmanager
def _quiet(log: IO[bytes]) -> Iterator[None]:
    """Let what Java says at its start and later go into a file, not among the outputs of a notebook."""
    before = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def describe(where: str) -> str:
    """Return the name and the version, and the master that is given."""
    return f"spark {version('pyspark')} ({where})"


def url(path: Path) -> str:
    """Return a path of this machine, or of a disk that the cluster shares, as Spark reads it: no wildcards in it."""
    text = str(path.absolute())
    for letter in "\\{}[]*?":
        text = text.replace(letter, f"\\{letter}")
    return f"file://{text}"


def read_parquet(path: Path) -> Any:
    """Open a table on disk, a file or a folder of parts."""
    return session().read.parquet(url(path))


def with_clock(frame: Any) -> Any:
    """Add `time_us` to a frame with a `timestamp`."""
    return frame.selectExpr("*", "unix_micros(cast(timestamp as timestamp)) AS time_us")


def from_arrow(table: pa.Table) -> Any:
    """Return a small Arrow table as a frame that is sent to every task."""
    from pyspark.sql import functions

    found = session().createDataFrame(types.plain(table))
    return functions.broadcast(found) if table.nbytes <= BROADCAST else found


def write_parquet(frame: Any, path: Path, metadata: dict[str, str]) -> None:
    """Write a frame as a folder of part files, in its order, with the metadata beside them."""
    with files.replacing(path) as part:
        _write_parts(frame, part)
        files.note(part, metadata)


def _write_parts(frame: Any, folder: Path) -> list[Path]:
    """Write a frame's partitions as files named in their order, and nothing else."""
    frame.write.parquet(f"file://{folder.absolute()}")
    for path in folder.iterdir():
        if path.suffix != ".parquet" or path.name.startswith((".", "_")):
            files.remove(path)
    found = []
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        found.append(path.rename(folder / f"part-{number:05}.parquet"))
    return found


def write_in_order(
    frame: Any, path: Path, metadata: dict[str, str], *, by: str, order: Sequence[str], work: chunks.Work
) -> None:
    """Sort a frame by ranges of `by` into files, then let tasks hand each file to `work` and write what it returns.

    The sorted files are read again, instead of the sorted frame: their numbers of rows tell each task the number of
    its first row, and a task that is run again finds the same rows.
    """
    from pyspark.sql import functions

    keys = [functions.col(f"`{name}`").asc_nulls_last() for name in (by, *order)]
    names = frame.columns
    with files.replacing(path) as part:
        sorted_rows = part / "_sorted"
        part.mkdir()
        ordered = frame.repartitionByRange(keys[0]).sortWithinPartitions(*keys)
        found = [file for file in _write_parts(ordered, sorted_rows) if pq.read_metadata(file).num_rows]
        counts = [pq.read_metadata(file).num_rows for file in found]
        empty = pq.read_schema(next(iter(sorted(sorted_rows.glob("*.parquet"))))).remove_metadata().empty_table()
        made = work(empty.select(names), 1).schema.with_metadata(metadata)
        if not found:
            pq.write_table(made.empty_table(), part / "part-00000.parquet")
        starts = list(accumulate(counts, initial=1))
        tasks = [(str(file), str(part / f"part-{n:05}.parquet"), starts[n]) for n, file in enumerate(found)]
        each(tasks, "source string, target string, first bigint", _write_one(names, by, work, made))
        files.remove(sorted_rows)
        files.note(part, metadata)


def in_order(frame: Any, *, by: str, order: Sequence[str], work: chunks.Work) -> Any:
    """Sort a frame within tasks that hold all rows of a value of `by`, and hand them to `work`, which runs there."""
    from pyspark.sql import functions
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    keys = [functions.col(f"`{name}`").asc_nulls_last() for name in (by, *order)]
    empty = to_arrow_schema(frame.schema).empty_table()
    made = work(empty, 1).schema

    def in_tasks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for table in chunks.chunks(batches, by):
            yield from work(table, 1).cast(made).combine_chunks().to_batches()

    ordered = frame.repartition(functions.col(f"`{by}`")).sortWithinPartitions(*keys)
    return ordered.mapInArrow(in_tasks, from_arrow_schema(made)).localCheckpoint()


def with_member(frame: Any, column: str, key: str, name: str) -> Any:
    """Add a member of the JSON object that a column holds as text."""
    from pyspark.sql import functions

    return frame.withColumn(name, functions.get_json_object(functions.col(f"`{column}`"), f"$['{key}']"))


def _write_one(names: Sequence[str], by: str, work: chunks.Work, made: pa.Schema) -> Any:
    def write_one(source: str, target: str, first: int) -> None:
        half = Path(f"{target}.{os.getpid()}.part")
        with pq.ParquetFile(source) as file:
            batches = file.iter_batches(100_000, columns=list(names))
            chunks.write(batches, half, by=by, first=first, work=work, made=made)
        os.replace(half, target)  # a task that ran twice leaves one file

    return write_one


def each(tasks: Sequence[tuple[Any, ...]], schema: str, work: Callable[..., None]) -> None:
    """Call a function for its effect, once for each row of arguments, in tasks of their own.

    Args:
        tasks: the rows of arguments.
        schema: the names and types of the arguments.
        work: the function, which may use DuckDB.

    Raises:
        JourneyError, duckdb.Error: a task raised it; of several the first task's.
    """
    if not tasks:
        return
    found = session()
    together = found.sparkContext.defaultParallelism if found.sparkContext.master.startswith("local") else 1
    limit = _share(os.environ.get("JOURNEYKIT_MEMORY_LIMIT", ""), together)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        os.environ |= {"JOURNEYKIT_ENGINE": "duckdb", "JOURNEYKIT_THREADS": "1"}
        if limit:
            os.environ["JOURNEYKIT_MEMORY_LIMIT"] = limit
        errors = []
        for batch in batches:
            for number, *row in (line.values() for line in batch.to_pylist()):
                try:
                    work(*row)
                except (JourneyError, duck.Error) as error:
                    kind = JourneyError if isinstance(error, JourneyError) else duck.Error
                    errors.append({"task": number, "kind": kind.__name__, "error": str(error)})
        schema = pa.schema({"task": pa.int64(), "kind": pa.string(), "error": pa.string()})
        yield pa.RecordBatch.from_pylist(errors, schema)

    rows = found.sparkContext.parallelize([(n, *task) for n, task in enumerate(tasks)], len(tasks))
    said = found.createDataFrame(rows, f"task bigint, {schema}").mapInArrow(
        run, "task bigint, kind string, error string"
    )
    for row in sorted(said.collect(), key=lambda row: int(row["task"])):
        raise (JourneyError if row["kind"] == JourneyError.__name__ else duck.Error)(row["error"])


def _share(limit: str, n: int) -> str:
    """The part of a memory limit that falls to each of n tasks; "" where that cannot be said.

    >>> _share("2GB", 2)
    '1.0GB'
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", limit)
    return f"{float(found[1]) / n}{found[2]}" if found else ""
