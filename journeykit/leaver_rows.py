"""The events of those who stood at a step of a funnel: before it, after it, and which values are among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, errors, steps
from journeykit.funnels import UNITS, Reached

SECOND = 1_000_000
CLOSE = 10 * SECOND  # what nearly always comes so shortly before the next step is part of it
_STANDING = ("unit", "attempt", "start_us", "at_us", "next_us", "left", "stratum")


def rows(touches: Any, reached: Reached, columns: Sequence[str], where: str) -> nw.LazyFrame[Any]:
    """Return the events of units: unit, time_us, the order, `_value` of `on`, marks of the steps, columns as c_0 …"""
    plan = reached.rules
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    unit = UNITS["person" if plan.per == "attempt" else plan.per]
    order = engine.order_of(have)
    plain = ["properties" if name.startswith(steps.MEMBER) and name not in have else name for name in columns]
    errors.require_columns(have, list(dict.fromkeys([unit, "time_us", *order, plan.on, *plain])), where)
    table = steps.marked(table, plan.steps, plan.on, "_is_", where)
    chosen = {"unit": nw.col(unit), "time_us": nw.col("time_us").cast(nw.Int64())}
    for n, (name, own) in enumerate(zip(columns, plain, strict=True)):
        if own != name:
            table = engine.with_member(table, own, name.removeprefix(steps.MEMBER), f"_member_{n}")
            own = f"_member_{n}"
        chosen[f"c_{n}"] = nw.col(own).cast(nw.String())
    marks = [f"_is_{k}" for k in range(1, len(plan.steps) + 1)]
    value: Any = nw.col(plan.on).cast(nw.String())
    for step, mark in zip(plan.steps, marks, strict=True):  # a step of another kind than `on` may have no value of it
        value = nw.coalesce(value, nw.when(nw.col(mark) == 1).then(nw.lit(step.label)))
    kept = {name: nw.col(name) for name in (*order, *marks)} | chosen
    return table.filter(~nw.col(unit).is_null()).select(**kept, _value=value)


def joined(rows: nw.LazyFrame[Any], stood: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    known = stood.collect_schema().names()
    return rows.join(stood.select(*[name for name in _STANDING if name in known]), on="unit", how="inner")


def here(reached: Reached, k: int) -> nw.Expr:
    """Return whether an event is the taking of step k; with order "any" the k-th step may be any of them."""
    numbers = range(1, len(reached.rules.steps) + 1) if reached.rules.order == "any" else [k]
    marked = nw.any_horizontal(*[nw.col(f"_is_{j}") == 1 for j in numbers], ignore_nulls=True)
    return marked & (nw.col("time_us") == nw.col("at_us"))


def after(rows: nw.LazyFrame[Any], stood: nw.LazyFrame[Any], reached: Reached, k: int) -> nw.LazyFrame[Any]:
    """Return the named events of units from step k on, numbered (`_row`); `_here` is the number of the step.

    Of several takings of the step at one time, the last is meant.
    """
    order = [name for name in rows.collect_schema().names() if name in ("position", *engine.ORDER)]
    order = engine.order_of(order)
    after = joined(rows, stood).filter(nw.col("time_us") >= nw.col("at_us"), ~nw.col("_value").is_null())
    one = nw.col("time_us") * 0 + 1
    after = after.with_columns(_one=one)
    after = after.with_columns(_row=nw.col("_one").cum_sum().over("unit", "attempt", order_by=order))
    here_row = nw.when(here(reached, k)).then(nw.col("_row")).otherwise(nw.lit(0))
    return after.with_columns(_here=here_row).with_columns(_here=nw.col("_here").max().over("unit", "attempt"))


def narrow(rows: nw.LazyFrame[Any], reached: Reached, columns: Sequence[str]) -> nw.LazyFrame[Any]:
    """Keep what `presence` asks for, computed once for all columns."""
    marks = [nw.col(f"_is_{k}") == 1 for k in range(1, len(reached.rules.steps) + 1)]
    is_step = nw.when(nw.any_horizontal(*marks, ignore_nulls=True)).then(nw.lit(1)).otherwise(nw.lit(0))
    values = [f"c_{n}" for n in range(len(columns))]
    names = ["unit", "attempt", "left", "stratum", "next_us", "is_step", "time_us", *values]
    return engine.keep(rows.with_columns(is_step=is_step).select(*names), "leavers")


def presence(rows: nw.LazyFrame[Any], columns: Sequence[str], *, steps_too: bool) -> pd.DataFrame:
    """Count the units with each value of each column, by stratum: stopped_n, went_on_n, close_n, and whose they are."""
    parts = []
    for n, name in enumerate(columns):
        these = rows if steps_too or name not in steps.KINDS else rows.filter(nw.col("is_step") == 0)
        these = these.with_columns(feature=nw.col(f"c_{n}")).filter(~nw.col("feature").is_null())
        each = these.group_by("unit", "attempt", "left", "stratum", "next_us", "feature").agg(
            last=nw.col("time_us").max()
        )
        close = nw.col("next_us") - nw.col("last") <= CLOSE
        each = each.with_columns(close=nw.when(close).then(nw.lit(1)).otherwise(nw.lit(0)), one=nw.col("left") * 0 + 1)
        # Which units these are, as one number: features of the same ones are one feature under two names.
        each = each.with_columns(whose=nw.col("unit") % 1_000_003 * 31 + nw.col("attempt"))
        names = {"all_n": "one", "stopped_n": "left", "close_n": "close", "whose": "whose"}
        sums = each.group_by("feature", "stratum").agg(**{name: nw.col(column).sum() for name, column in names.items()})
        parts.append(engine.fetch(sums).sort_values(["feature", "stratum"]).assign(kind=name))
    counts = pd.concat(parts, ignore_index=True)
    counts = counts.astype(dict.fromkeys(("stratum", "all_n", "stopped_n", "close_n", "whose"), "int64"))
    return counts.assign(went_on_n=counts["all_n"] - counts["stopped_n"]).drop(columns="all_n")
