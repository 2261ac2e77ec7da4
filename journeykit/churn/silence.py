"""Silences: how long people were quiet between two signs of life, and the silence that is read as leaving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.config import Churn, seconds
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import not_enough

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
HOURS = 24  # silences are counted in hours, so that 100 million of them are a table of a few thousand rows
GAP_COLUMNS = ("gap_days", "returned_n", "open_n")


def segment_column(columns: Sequence[str], by: str) -> str:
    """Return the column that `by` names; the prefix `segment_` may be left out.

    >>> segment_column(["person_id", "segment_device"], "device")
    'segment_device'
    """
    return f"segment_{by}" if by and by not in columns and f"segment_{by}" in columns else by


def observed_from_us(plan: Churn) -> int | None:
    """Return the moment from which leaving is recorded, in microseconds, or None when everybody is seen from the start.

    Raises:
        JourneyError: `observed_from` is no date.
    """
    if not plan.observed_from:
        return None
    try:
        return microseconds(plan.observed_from)
    except ValueError:
        raise JourneyError(
            f'churn.observed_from: {plan.observed_from!r} is not a date. Write one such as "2025-01-31".'
        ) from None


def signs(touches: Any, plan: Churn, until_us: int, by: str = "") -> nw.LazyFrame[Any]:
    """Return the signs of life of people without a contract, from their start on.

    A sign of life is an event of `activity`, and the start itself: who signed up and never ordered was there for that
    moment. The start is the first event of `start`; without one, the first of `activity`. What came before it is not
    counted.

    One row per sign: person_id, time_us, `_first` (1 on the start), `_segment` (the last value of `by` that was known
    at the start; on that row only), and the columns of the total order. Lazy, on the engine of `touches`.

    Raises:
        JourneyError: a column is missing.
    """
    t = engine.lazy(touches)
    columns = t.collect_schema().names()
    by = segment_column(columns, by)
    require_columns(columns, ["person_id", "event", *engine.ORDER, *([by] if by else [])], "churn")
    t = t.filter(nw.col("time_us") <= until_us, ~nw.col("person_id").is_null())
    if by:
        t = t.with_columns(_known=nw.col(by).fill_null(strategy="forward").over("person_id", order_by=engine.ORDER))
    t = t.filter(nw.col("event").is_in([*plan.start, *plan.activity]))
    starts = nw.col("event").is_in(list(plan.start or plan.activity)).cast(nw.Int64)
    t = t.with_columns(_starts=starts)
    t = t.with_columns(_started=nw.col("_starts").cum_sum().over("person_id", order_by=engine.ORDER))
    first = (nw.col("_starts") == 1) & (nw.col("_started") == 1)
    t = t.filter(nw.col("_started") >= 1, nw.col("event").is_in(list(plan.activity)) | first)
    segment = nw.when(first).then(nw.col("_known")) if by else nw.lit(None, nw.String)
    return t.select("person_id", *engine.ORDER, _first=nw.when(first).then(1).otherwise(0), _segment=segment)


def with_next(found: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Return signs of life with `_next_us`, the time of the person's next one; null after the last."""
    return found.with_columns(_next_us=nw.col("time_us").shift(-1).over("person_id", order_by=engine.ORDER))


def in_hours(touches: Any, plan: Churn, until_us: int) -> nw.LazyFrame[Any]:
    """Return every silence of an hour or more: person_id, _hours (rounded), _returned (0 for the last, open one).

    Shorter ones are left out: they say nothing about who is quiet for longer. Nothing before `observed_from` counts,
    because a silence there may be one of the record.
    """
    found, since = with_next(signs(touches, plan, until_us)), observed_from_us(plan)
    if since is not None:
        found = found.filter(nw.col("time_us") >= since)
    open_us = nw.when(nw.col("_next_us").is_null()).then(until_us - nw.col("time_us"))
    length = open_us.otherwise(nw.col("_next_us") - nw.col("time_us"))
    returned = nw.when(nw.col("_next_us").is_null()).then(0).otherwise(1)
    rounded = found.select("person_id", _hours=(length + HOUR_US // 2) // HOUR_US, _returned=returned)
    return rounded.filter(nw.col("_hours") >= 1)


def gaps(touches: Any, plan: Churn, *, as_of: Any) -> pd.DataFrame:
    """Return how long people were silent between two signs of life, with the silences that are still open.

    A silence runs from a sign of life (an event of `activity`, or the start) to the person's next one, or, open, to
    `as_of`. The open ones are counted: without them the longest silences, of those who never came back, are missing,
    and any quantile of the rest is too short. Rounded to hours; those below half an hour are left out.

    Needs `person_id`, `event`, `timestamp` and the columns of the total order. Counted in the engine.

    One row per length, sorted: gap_days, returned_n (silences of that length that ended in a return), open_n.

    Raises:
        JourneyError: a column is missing.

    >>> from tests.conftest import make_log
    >>> plan = Churn(kind="inactivity", activity="buy")
    >>> gaps(make_log("u1: buy@0d buy@2d | u2: buy@1d buy@3d"), plan, as_of="2025-01-11").values.tolist()
    [[2.0, 2.0, 0.0], [7.0, 0.0, 1.0], [8.0, 0.0, 1.0]]
    """
    return counted(in_hours(touches, plan, microseconds(as_of)))


def counted(rows: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Return the table of `gaps` from the silences of `in_hours`."""
    table = engine.fetch(rows.group_by("_hours").agg(n=nw.len(), returned_n=nw.col("_returned").sum()))
    if table.empty:
        return not_enough(GAP_COLUMNS, "not enough data (n = 0 silences between events of activity)")
    table = table.sort_values("_hours", ignore_index=True)
    returned = table["returned_n"].astype("int64")
    found = {"gap_days": table["_hours"] / HOURS, "returned_n": returned, "open_n": table["n"] - returned}
    return pd.DataFrame(found).astype({"open_n": "int64"})


def step_days(plan: Churn) -> float:
    """Return the step in which silences are tried: a day, or an hour where coming back is a matter of hours."""
    return 1.0 if seconds(plan.returns_within) >= 10 * 86_400 else 1 / HOURS


def still_quiet(table: pd.DataFrame, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of silences that last longer than each number of days (Kaplan–Meier), and how many reach it."""
    length = table["gap_days"].to_numpy(float)
    n = (table["returned_n"] + table["open_n"]).to_numpy(float)
    reaching = np.cumsum(n[::-1])[::-1]
    share = np.concatenate([[1.0], np.cumprod(1 - table["returned_n"].to_numpy(float) / reaching)])
    # Hours as fractions of a day are not exact: half a minute decides what is equal.
    lasted = np.searchsorted(length, days - 1 / 2880, side="left")
    return share[np.searchsorted(length, days + 1 / 2880, side="right")], np.append(reaching, 0.0)[lasted]


def quiet_days(table: pd.DataFrame, plan: Churn, min_n: int = 20) -> float:
    """Return the shortest silence after which at most `returns` come back within `returns_within`; nan if none is seen.

    Needs the table of `gaps`. Only silences count of which at least `min_n` were followed for so long.
    """
    if table.empty:
        return math.nan
    step, within = step_days(plan), seconds(plan.returns_within) / 86_400
    tried = np.arange(1, math.floor(table["gap_days"].iloc[-1] / step) + 1) * step
    before, _ = still_quiet(table, tried)
    after, followed = still_quiet(table, tried + within)
    known = followed >= max(min_n, 1)
    back = 1 - np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    enough = np.flatnonzero(known & (back <= plan.returns + 1e-12))
    return float(tried[enough[0]]) if len(enough) else math.nan


def threshold(touches: Any, plan: Churn, *, as_of: Any, min_n: int = 20) -> float:
    """Return the days of silence that count as leaving: `quiet`, or what the reactivation curve says.

    Definition: the shortest silence τ after which at most the share `returns` comes back within `returns_within` (H):
    1 − Ŝ(τ+H)/Ŝ(τ), Ŝ the Kaplan–Meier curve of all silences, the open ones censored at `as_of`. Rival: a quantile of
    the completed silences, such as 95 %: it leaves out those who have not come back yet, is far too short, and says
    nothing about how many of those called gone will return.

    nan where no silence is followed for long enough by `min_n` people, or too many always come back.
    """
    if plan.quiet:
        return seconds(plan.quiet) / 86_400
    return quiet_days(gaps(touches, plan, as_of=as_of), plan, min_n)
