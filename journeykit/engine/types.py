"""Types that every engine and every file has, for tables that come from somewhere else."""

from __future__ import annotations

import pyarrow as pa


def in_microseconds(table: pa.Table) -> pa.Table:
    """Return a table with its times in microseconds; pandas counts nanoseconds, which Spark does not read."""
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz)) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table if fields == list(table.schema) else table.cast(pa.schema(fields), safe=False)


def plain(table: pa.Table) -> pa.Table:
    """Return a table without the types that Spark has not: unsigned, dictionaries, nanoseconds, columns of nothing.

    >>> plain(pa.table({"n": pa.array([1], pa.uint8()), "none": [None]})).schema.types
    [DataType(int64), DataType(string)]
    """
    table = in_microseconds(table)
    return table.cast(pa.schema([field.with_type(_plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return pa.int64() if pa.types.is_unsigned_integer(kind) else kind
