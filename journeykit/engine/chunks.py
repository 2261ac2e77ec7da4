"""Rows that come in order, worked on a few hundred thousand at a time without cutting a person in two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 250_000  # of a chunk at least: enough for vectors to pay, little enough to hold
Work = Callable[[pa.Table, int], pa.Table]


def chunks(batches: Iterable[pa.RecordBatch], by: str) -> Iterator[pa.Table]:
    """Yield tables of at least `ROWS` rows (the last may have fewer) that hold all rows of each value of `by`.

    >>> rows = pa.table({"who": [1, 1, 2], "n": [1, 2, 3]})
    >>> [len(table) for table in chunks(rows.to_batches(), "who")]
    [3]
    """
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if not len(batch):
            continue
        held.append(batch)
        rows += len(batch)
        if rows < ROWS:
            continue
        cut = _start_of_last(batch, by)
        if cut == 0:  # all of this batch may belong to one that goes on
            if len(held) > 1 and held[-2].column(by)[-1] != batch.column(by)[0]:
                yield pa.Table.from_batches(held[:-1]).combine_chunks()
                held, rows = [batch], len(batch)
            continue
        yield pa.Table.from_batches([*held[:-1], batch.slice(0, cut)]).combine_chunks()
        held = [batch.slice(cut)]
        rows = len(held[0])
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _start_of_last(batch: pa.RecordBatch, by: str) -> int:
    """The first row of the last value of `by` in a sorted batch."""
    column = batch.column(by)
    last = column[len(column) - 1]
    return int(pc.index(column, last).as_py()) if last.is_valid else int(len(column) - column.null_count)


def write(batches: Iterable[pa.RecordBatch], path: Path, *, by: str, first: int, work: Work, made: pa.Schema) -> int:
    """Hand ordered rows to `work` chunk by chunk and write what it returns as one Parquet file; return how many rows.

    Args:
        batches: the rows, in order.
        path: the file.
        by: the column whose values are not cut.
        first: the number of the first row.
        work: see `engine.write_in_order`.
        made: the schema of what `work` returns, with the metadata of the file.
    """
    written = 0
    with ThreadPoolExecutor(1) as behind:  # a chunk is packed behind the back of the engine, which sorts on meanwhile
        writer: pq.ParquetWriter | None = None
        pending: Future[Any] = behind.submit(int)
        for table in chunks(batches, by):
            result = work(table, first).cast(made)
            writer = writer or _writer(path, made, result)
            pending.result()
            pending = behind.submit(writer.write_table, result, row_group_size=max(1, len(result)))
            first += len(table)
            written += len(result)
        pending.result()
        (writer or _writer(path, made, made.empty_table())).close()
    return written


def _writer(path: Path, made: pa.Schema, sample: pa.Table) -> pq.ParquetWriter:
    """Open a file; a dictionary of values pays for texts that repeat, and costs time and space for all others."""
    texts = [field.name for field in made if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    repeating = [name for name in texts if pc.count_distinct(sample[name]).as_py() * 10 <= len(sample)]
    return pq.ParquetWriter(path, made, compression="zstd", compression_level=1, use_dictionary=repeating)
