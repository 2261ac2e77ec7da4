"""What is counted for each unit of an experiment, by kind of metric: its sums in the engine, and its value from them.

A metric is measured twice by the same rule: after the exposure, and in the period before it (`<metric>__before`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, funnel_reach, steps, sums
from journeykit.config import Experiment, Metric, seconds
from journeykit.errors import JourneyError

SESSION = "session"  # as `per` of a ratio: visits
BEFORE, PER, PER_BEFORE, EVENT, MATURE = "__before", "__per", "__per_before", "__event", "__mature"
MICROS, DAY = 1_000_000, 86_400_000_000


class Sum(NamedTuple):
    """A value per event, and how those of a unit are put together, in as narrow a type as holds the result."""

    value: nw.Expr
    how: str  # "sum", "max", "min", "n_unique"
    kind: Any = None

    def over(self) -> nw.Expr:
        found: nw.Expr = getattr(self.value, self.how)()
        return found if self.kind is None else found.cast(self.kind)


def window_us(metric: Metric, experiment: Experiment) -> int:
    """Return how long after the exposure a metric counts, in microseconds: its own `within` or the experiment's."""
    return seconds(metric.within or experiment.within) * MICROS


def own_window(metric: Metric, experiment: Experiment) -> bool:
    """Whether a metric is over at another time than the experiment's window."""
    return metric.kind != "time" and window_us(metric, experiment) != seconds(experiment.within) * MICROS


def columns_of(metric: Metric, experiment: Experiment) -> list[str]:
    """Return the columns of `units` that a metric makes.

    >>> from journeykit.config import Experiment
    >>> plan = Experiment(name="t", hypothesis="h", exposure="x", arms={"a": 1.0}, control="a", within="7d",
    ...     metrics=[{"name": "orders", "event": "buy", "kind": "ratio", "per": "session"}])
    >>> columns_of(plan.metrics[0], plan)
    ['orders', 'orders__per', 'orders__before', 'orders__per_before']
    """
    if metric.kind == "time":
        return [metric.name, metric.name + EVENT]
    ratio = metric.kind == "ratio"
    found = [metric.name, *([metric.name + PER] if ratio else []), metric.name + BEFORE]
    return [
        *found,
        *([metric.name + PER_BEFORE] if ratio else []),
        *([metric.name + MATURE] * own_window(metric, experiment)),
    ]


def columns_needed(metrics: Iterable[Metric]) -> list[str]:
    """Return the columns of touches that metrics look at, beyond those that every experiment needs."""
    found: list[str] = []
    for metric in metrics:
        if metric.kind in ("value", "satisfaction"):
            found.append(metric.kind)
        if SESSION in metric.per:
            found.append("session_id")
        found += steps.columns(metric.steps, "event")
    return list(dict.fromkeys(found))


def parts(key: str, metric: Metric, inside: nw.Expr) -> dict[str, Sum]:
    """Return what is added up for a metric over the events of a unit that lie `inside` its window."""
    if metric.kind == "funnel":
        return {}
    hit = inside & nw.col("event").is_in(metric.event)
    if metric.kind == "conversion":
        return {f"{key}_n": Sum(one(hit), "max", nw.Int8())}
    if metric.kind == "count":
        return {f"{key}_n": Sum(one(hit), "sum", nw.Int32())}
    if metric.kind == "time":
        return {f"{key}_us": Sum(nw.when(hit).then(nw.col("offset")), "min")}
    if metric.kind == "ratio":
        return {f"{key}_n": Sum(one(hit), "sum", nw.Int32()), f"{key}_per": _denominator(metric, inside)}
    amount = nw.col(metric.kind).cast(nw.Float64)
    known = hit & ~amount.is_null()
    if metric.kind == "satisfaction":
        whole = sums.whole(nw.when(known).then(amount), sums.SHARE)
        return {f"{key}_n": Sum(one(known), "sum", nw.Int32()), f"{key}_sum": Sum(whole, "sum", nw.Int64())}
    kinds = {f"{key}_whole": nw.Int64(), f"{key}_large": nw.Float64()}  # an integer, where engines would take decimals
    amounts = sums.money(key, nw.when(known).then(amount))
    money = {name: Sum(value, "sum", kinds[name]) for name, value in amounts.items()}
    return {f"{key}_unknown": Sum(one(hit & amount.is_null()), "max", nw.Int8()), **money}


def measured(found: pd.DataFrame, key: str, metric: Metric) -> pd.Series:
    """Return the value of each unit from the sums of `parts`; null for no answer, and for an amount not known."""
    if metric.kind == "value":
        known = found[f"{key}_unknown"].to_numpy() == 0
        return _capped(sums.total(found, key), metric).where(known)
    n = found[f"{key}_n"].astype(float)
    if metric.kind == "satisfaction":
        return (found[f"{key}_sum"].astype(float) / sums.SHARE / n.where(n > 0)).round(9)
    return _capped(n, metric)


def denominators(found: pd.DataFrame, key: str, metric: Metric) -> pd.Series:
    """Return the denominator of a ratio for each unit."""
    # Rows outside the window, the exposure among them, are nulls, which count as one more value.
    return found[f"{key}_per"].astype(float) - (1.0 if SESSION in metric.per else 0.0)


def days_until(found: pd.DataFrame, key: str, until_us: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the days until the event or until the end of observation, and 1 where it was the event."""
    at = found[f"{key}_us"].astype(float)
    came = at.notna() & (at <= until_us)
    return at.where(came, until_us.astype(float)) / DAY, came.astype(float)


def went_through(rows: nw.LazyFrame[Any], metric: Metric, low: int, high: int) -> set[Any]:
    """Return the people who take all steps of a funnel in order, each between `low` and `high` µs from exposure.

    Args:
        rows: touches of the exposed with `offset`, microseconds since the exposure, and the columns of the order.
        metric: of kind "funnel".
        low: smallest offset.
        high: largest offset.
    """
    inside = rows.filter((nw.col("offset") >= low) & (nw.col("offset") <= high))
    reached = funnel_reach.reach(inside, steps=metric.steps, on="event")
    done = reached.table.filter(nw.col("depth") == len(metric.steps)).select("person_id")
    return set(engine.fetch(done, limit=1_000_000_000)["person_id"])


def check_names(experiment: Experiment, reserved: Iterable[str]) -> None:
    """Raise JourneyError when two columns of `units` would have one name."""
    taken = [*reserved, *experiment.by]
    for metric in experiment.metrics:
        mine = columns_of(metric, experiment)
        if set(mine) & set(taken):
            raise JourneyError(
                f"experiments.{experiment.name}.metrics: the name {metric.name!r} is taken. Give each metric a name "
                f"of its own, and none of: {', '.join([*reserved, *experiment.by])}."
            )
        taken += mine
    double = [name for name in experiment.by if experiment.by.count(name) > 1 or name in reserved]
    if double:
        raise JourneyError(
            f"experiments.{experiment.name}.by: {double[0]!r} is named twice or is a column of its own. Name columns "
            f"of touches, each once, and none of: {', '.join(reserved)}."
        )


def one(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0))


def _denominator(metric: Metric, inside: nw.Expr) -> Sum:
    if SESSION in metric.per:
        return Sum(nw.when(inside).then(nw.col("session_id")), "n_unique", nw.Int32())
    return Sum(one(inside & nw.col("event").is_in(metric.per)), "sum", nw.Int32())


def _capped(values: pd.Series, metric: Metric) -> pd.Series:
    return values if metric.cap is None else pd.Series(np.minimum(values, metric.cap), index=values.index)
