"""The table of who reached what, made of rows of events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from journeykit.funnel_rows import Flags, Integers, Rows, Rules


@dataclass(frozen=True)
class Outcome:
    """The counted attempts, one a position."""

    unit: Integers  # 0, 1, 2 … as in `Rows.unit`
    attempt: Integers  # 1, 2, 3 … within the unit
    depth: Integers
    is_open: Flags
    first: Integers  # the row of the unit's first entry
    taken: Integers  # a line for each step: the row on which it was taken, or -1
    came: Flags | None = None  # a line for each step: whether it was reached from the step before


def table_of(rows: Rows, rules: Rules, found: Outcome) -> pa.Table:
    """Return the columns of `funnels.Reached.table`."""
    whose = rows.origin[found.first]
    columns: dict[str, pa.Array] = {
        "unit": rows.table["unit"].take(whose),
        "attempt": pa.array(found.attempt),
        "person_id": rows.table["person_id"].take(whose),
        "depth": pa.array(found.depth),
        "is_open": pa.array(found.is_open.astype(np.int64)),
        "first_us": pa.array(rows.time[found.first]),
    }
    for k, at in enumerate(found.taken, start=1):
        columns[f"at_{k}"] = pa.array(rows.time[at] if len(rows.time) else at, mask=at < 0)
    if found.came is not None:
        for k, came in enumerate(found.came[1:], start=2):
            columns[f"came_{k}"] = pa.array(came.astype(np.int64))
    if rules.value:
        columns[f"value_{len(rules.links)}"] = _values(rows, "value", found.taken[-1])
    for n, name in enumerate(rules.by):
        for k, at in enumerate([found.first, *found.taken]):
            columns[f"{name}_{k}"] = _values(rows, f"by_{n}", at)
    return pa.table(columns)


def _values(rows: Rows, name: str, at: Integers) -> pa.ChunkedArray:
    """Return a column's values on some rows; null where there is none."""
    origin = np.where(at >= 0, rows.origin[at] if len(rows.origin) else at, -1)
    return rows.table[name].take(pa.array(origin, mask=origin < 0))
