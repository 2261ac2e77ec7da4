"""The events of a person, session or journey in their order, as whole columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from journeykit import engine, errors
from journeykit.config import Journeys, seconds
from journeykit.funnels import unit_column

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def in_units(
    touches: Any, on: str, within: str, where: str, extra: Sequence[str] = ()
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Return the events that have a value of `on`, as text in `value` beside `unit`, and the columns that order them.

    Needs `person_id`, the unit's column (person, session or journey), `on`, the columns of `extra`, and `position` or
    the columns of the total order. Made for `engine.in_order(rows, by="unit", order=order, work=…)`.

    Raises:
        JourneyError: a column is missing, or `within` is not a unit.
    """
    unit, lazy = unit_column(within, where), engine.lazy(touches)
    have = lazy.collect_schema().names()
    order = engine.order_of(have)
    errors.require_columns(have, [unit, "person_id", *order, on, *extra], where)
    columns = list(dict.fromkeys(["person_id", *order, *extra]))
    rows = lazy.select(*columns, unit=nw.col(unit), value=nw.col(on).cast(nw.String()))
    return rows.filter(~nw.col("value").is_null(), ~nw.col("unit").is_null()), order


def running(journeys: Any, *, plan: Journeys, until: Any) -> nw.LazyFrame[Any]:
    """Return journeys with `running`: 1 while more of a journey may still come, else 0.

    That is every open journey, and with `scope = "wide"` a converted one that has not been quiet for `gap` yet: its
    delivery may be under way.

    >>> days = pd.to_datetime(["2025-01-01", "2025-03-01"])
    >>> made = pd.DataFrame({"journey_id": [1, 2], "outcome": "converted", "ended_at": days})
    >>> found = running(made, plan=Journeys(conversion="buy", gap="30d"), until="2025-03-09")
    >>> engine.fetch(found)["running"].tolist()
    [0, 1]
    """
    table = engine.lazy(journeys)
    errors.require_columns(table.collect_schema().names(), ["journey_id", "outcome", "ended_at"], "running")
    since = (pd.Timestamp(until) - pd.Timedelta(seconds=seconds(plan.gap))).to_pydatetime()
    lasts = nw.col("outcome").cast(nw.String()) == "open"
    if plan.scope == "wide":
        lasts = lasts | ((nw.col("outcome").cast(nw.String()) == "converted") & (nw.col("ended_at") >= since))
    return table.with_columns(running=nw.when(lasts).then(nw.lit(1)).otherwise(nw.lit(0)))


def with_ends(units: nw.LazyFrame[Any], journeys: Any = None) -> nw.LazyFrame[Any]:
    """Add to units that are journeys their `outcome` and whether they are `running` (without `journeys`: "" and 0)."""
    if journeys is None:
        return units.with_columns(outcome=nw.lit(""), running=nw.lit(0))
    table = engine.beside(journeys, units)
    have = table.collect_schema().names()
    errors.require_columns(have, ["journey_id", "outcome"], "journeys")
    outcome = nw.col("outcome").cast(nw.String())
    lasts = nw.col("running") if "running" in have else nw.when(outcome == "open").then(nw.lit(1)).otherwise(nw.lit(0))
    ends = table.select(unit=nw.col("journey_id"), outcome=outcome, running=lasts)
    units = units.join(ends, on="unit", how="left")
    return units.with_columns(nw.col("outcome").fill_null(""), nw.col("running").fill_null(0))


def starts(table: pa.Table) -> Flags:
    """Return which rows of an ordered table are the first of their unit.

    >>> starts(pa.table({"unit": [1, 1, 4]})).tolist()
    [True, False, True]
    """
    unit = table["unit"].to_numpy()
    new = np.ones(len(unit), dtype=bool)
    new[1:] = unit[1:] != unit[:-1]
    return new


def codes(table: pa.Table, column: str = "value") -> tuple[Integers, list[str]]:
    """Return a number for each text of a column (−1 for null), and the texts in alphabetical order.

    >>> codes(pa.table({"value": ["b", "a", None, "b"]}))
    (array([ 1,  0, -1,  1]), ['a', 'b'])
    """
    text = table[column].cast(pa.string())
    whole = text.combine_chunks() if text.num_chunks else pa.array([], pa.string())
    encoded = whole.dictionary_encode()
    met = encoded.dictionary.to_pylist()
    place = np.empty(len(met) + 1, dtype=np.int64)
    place[-1] = -1
    place[np.argsort(np.array(met, dtype=object), kind="stable")] = np.arange(len(met))
    found = encoded.indices.fill_null(len(met)).to_numpy(zero_copy_only=False).astype(np.int64)
    return place[found], sorted(met)


def texts(found: Integers, names: Sequence[str]) -> pa.Array:
    """Return the texts of numbers as `codes` gave them; null for −1.

    >>> texts(np.array([1, -1]), ["a", "b"]).to_pylist()
    ['b', None]
    """
    return pa.array(names, pa.string()).take(pa.array(found, mask=found < 0))


def counted(columns: dict[str, Integers]) -> tuple[dict[str, Integers], Integers]:
    """Return the different rows of some columns, in the order in which they came first, and how often each came.

    >>> counted({"a": np.array([2, 1, 2])})
    ({'a': array([2, 1])}, array([2, 1]))
    """
    grouped = pa.table(columns).group_by(list(columns), use_threads=False).aggregate([([], "count_all")])
    different = {name: grouped[name].to_numpy().astype(np.int64) for name in columns}
    return different, grouped["count_all"].to_numpy().astype(np.int64)
