"""Customers without a contract: how often, how lately and for how much each of them bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, sums
from journeykit.churn.spells import DAY_US
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import add_share, not_enough

MOST = 20_000_000  # customers that are fetched, one row each
CUSTOMER_COLUMNS = ("person_id", "started_at", "repeat_n", "recency_days", "age_days", "mean_spend")
GROUPS = ((1, 1, "1 purchase"), (2, 2, "2 purchases"), (3, 3, "3 purchases"), (4, 6, "4–6 purchases"))
MOST_GROUP = (7, math.inf, "7 or more")
COUNT_COLUMNS = ("group", "n", "customers_n", "customers_share", "customers_share_low", "customers_share_high")
LATER_COLUMNS = ("later_n", "later_days", "later_spend")
NO_ORDERS = "no purchases are declared: name them as orders of [churn.value] in journey.toml"


def days(touches: Any, *, orders: Sequence[str], as_of: Any) -> nw.LazyFrame[Any]:
    """Return one row per person and day (UTC) with a purchase, or with money given back, on the engine of `touches`.

    Several purchases of a day are one. An order of no value (0 or null) is a purchase of 0; a negative amount is a
    refund, which is taken off and is no purchase. Rows: person_id, day (since 1970), bought (1, or 0 for a refund
    alone), first_us (of the first purchase of the day), spend_whole and spend_large (see `sums.money`).
    """
    if not orders:
        raise JourneyError(f"churn value: {NO_ORDERS}.")
    table = engine.lazy(touches)
    require_columns(table.collect_schema().names(), ["person_id", "event", "time_us", "value"], "churn value")
    named = nw.col("event").is_in(list(orders)) & (nw.col("time_us") <= microseconds(as_of))
    value = nw.col("value").cast(nw.Float64)
    bought = nw.when(value.fill_null(0.0) >= 0).then(1).otherwise(0).cast(nw.Int64)
    rows = table.filter(named, ~nw.col("person_id").is_null()).select(
        "person_id",
        "time_us",
        day=nw.col("time_us") // DAY_US,
        bought=bought,
        **sums.money("spend", value.fill_null(0.0)),
    )
    rows = rows.with_columns(first_us=nw.when(nw.col("bought") == 1).then(nw.col("time_us")))
    return rows.group_by("person_id", "day").agg(
        nw.col("bought").max(), nw.col("first_us").min(), nw.col("spend_whole", "spend_large").sum()
    )


def split_of(customers: pd.DataFrame, as_of: Any) -> pd.Timestamp | None:
    """Return the day after which purchases are held out: two thirds of the way from the first customer to `as_of`.

    None where there is nobody, or nothing in between. (A day by the calendar, never customers by chance: what is
    foretold lies in the future.)
    """
    if customers.empty:
        return None
    first, last = (
        pd.Timestamp(customers["started_at"].min()).normalize(),
        pd.Timestamp(microseconds(as_of), unit="us").normalize(),
    )
    split = (first + (last - first) * 2 / 3).normalize()
    return split if first < split < last else None


def customers(touches: Any, *, orders: Sequence[str], as_of: Any, split: Any = None) -> pd.DataFrame:
    """Return how often, how lately and for how much each customer bought.

    Definitions (Fader, Hardie & Lee 2005): frequency is the number of days with a purchase after the first one,
    recency the days from the first to the last of them, age (T) the days from the first to `as_of`. Spend is per day
    with a purchase; the first one is left out of the mean, because it is often unlike the others (a laptop, then
    accessories). Days are of UTC. With `split`, all of this is what was known by the end of that day, of those who had
    bought by then, and `later_` is what came after it: the model is fitted on the one and tested on the other.

    Args:
        touches: `person_id`, `event`, `timestamp` (or `time_us`), `value` in the study's currency.
        orders: events that are purchases; negative values are refunds (see `days`).
        as_of: end of observation; the age counts to its day.
        split: last day of the calibration period, before `as_of`.

    Returns:
        One row per customer, sorted by person_id: person_id, started_at (first purchase), repeat_n (frequency),
        recency_days, age_days, mean_spend of repeat purchases (NaN without one); with `split` also later_n days with a
        purchase after it, later_days (its length) and later_spend.

    Raises:
        JourneyError: a column is missing, or the split is not before `as_of`.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: buy@1d buy@3d buy@3d buy@9d | u2: buy@2d", value=10.0)
    >>> customers(log, orders=["buy"], as_of="2025-01-15").drop(columns="started_at")
       person_id  repeat_n  recency_days  age_days  mean_spend
    0          1         2           8.0      13.0        15.0
    1          2         0           0.0      12.0         NaN
    """
    last = microseconds(as_of) // DAY_US
    end = last if split is None else microseconds(split) // DAY_US
    if end > last or (split is not None and end == last):
        raise JourneyError(f"churn value: split = {split} is not before the end of observation, {as_of}. Give a date.")
    columns = [*CUSTOMER_COLUMNS, *(LATER_COLUMNS if split is not None else ())]
    if not orders:
        return not_enough(columns, NO_ORDERS)
    table = days(touches, orders=orders, as_of=as_of)
    known, bought = nw.col("day") <= end, nw.col("bought") == 1
    first = nw.when(bought).then(nw.col("day")).min().over("person_id")
    table = table.with_columns(_first=first).filter(nw.col("_first") <= end, nw.col("day") >= nw.col("_first"))
    later = nw.col("day") > nw.col("_first")
    parts: dict[str, nw.Expr] = {}
    for name, chosen in (("mean", known & later), ("later", ~known)):
        parts |= {f"{name}_{kind}": nw.when(chosen).then(nw.col(f"spend_{kind}")) for kind in ("whole", "large")}
    table = table.with_columns(
        _last=nw.when(known & bought).then(nw.col("day")),
        _n=nw.when(known & later).then(nw.col("bought")),
        _later=nw.when(~known).then(nw.col("bought")),
        **parts,
    )
    found = engine.fetch(
        table.group_by("person_id").agg(
            nw.col("_first").min(),
            nw.col("first_us").min(),
            nw.col("_last").max(),
            nw.col("_n", "_later", *parts).sum(),
        ),
        limit=MOST,
    )
    if found.empty:
        return not_enough(columns, f"not enough data (n = 0 people with {' or '.join(orders)})")
    found = found.fillna(0).sort_values("person_id", ignore_index=True)
    start, repeats = found["_first"].astype("int64"), found["_n"].astype("int64")
    result = pd.DataFrame(
        {
            "person_id": found["person_id"],
            "started_at": pd.to_datetime(found["first_us"].astype("int64"), unit="us"),
            "repeat_n": repeats,
            "recency_days": (found["_last"].astype("int64") - start).astype(float),
            "age_days": (end - start).astype(float),
            "mean_spend": sums.total(found, "mean") / repeats.where(repeats > 0, np.nan),
        }
    )
    if split is not None:
        later_n, spend = found["_later"].astype("int64"), sums.total(found, "later")
        result = result.assign(later_n=later_n, later_days=float(last - end), later_spend=spend)
    return result


def groups(customers: pd.DataFrame, min_n: int) -> list[tuple[str, np.ndarray]]:
    """Return the customers of each number of purchases so far, as masks, where they are at least `min_n`."""
    bought = customers["repeat_n"].to_numpy(float) + 1
    parts = [(name, (bought >= low) & (bought <= high)) for low, high, name in (*GROUPS, MOST_GROUP)]
    return [part for part in parts if part[1].sum() >= max(min_n, 1)]


def counts(customers: pd.DataFrame, *, min_n: int = 5) -> pd.DataFrame:
    """Return how many customers bought how often so far; nothing is modelled, and the late have had less time.

    One row per number of purchases with at least `min_n` customers: group, n (all customers), customers_n,
    customers_share with its interval (Wilson), mean_spend of repeat purchases (of customers, NaN without one).
    """
    parts, n = groups(customers, min_n) if len(customers) else [], len(customers)
    if not parts:
        reason = str(customers.attrs.get("reason", "")) or f"not enough data (n = {n} customers)"
        return not_enough([*COUNT_COLUMNS, "mean_spend"], reason)
    rows = [(name, n, int(members.sum()), customers.loc[members, "mean_spend"].mean()) for name, members in parts]
    table = pd.DataFrame(rows, columns=["group", "n", "customers_n", "mean_spend"])
    return add_share(table, "customers", "customers_n", "n")[[*COUNT_COLUMNS, "mean_spend"]]
