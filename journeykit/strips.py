"""Strips: a few journeys one by one, drawn by lot, without anything that says whose they are."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, stats
from journeykit.sequences import in_units

RARE = "(rare)"
OUTCOMES = ("converted", "abandoned", "open")
ALL = "all"

_COLUMNS = ["strip", "outcome", "number", "value", "hours", "touches_n"]
_DRAW, _PRIME = 48_271, 2_147_483_647  # a multiplicative generator (Park & Miller): the lot of each unit's number


def strips(
    touches: Any,
    journeys: Any = None,
    *,
    on: str = "touchpoint",
    within: str = "journey",
    strips_n: int = 30,
    longest: int = 40,
    goal: str = "",
    seed: int = 1,
    min_n: int = 1,
) -> pd.DataFrame:
    """Draw a few units by lot and show all that was in them, one row per touch.

    Drawn in equal numbers from each outcome, and within an outcome from the shortest to the longest in equal steps, so
    that long and short ones are there as often as they are: an example, not an estimate. The same seed draws the same
    units. There is no id and no date in it, only the time since the unit's first touch, to the minute within the first
    day and to the hour later. Values that fewer than `min_n` people have are "(rare)"; outcomes of fewer than `min_n`
    units are left out.

    Args:
        touches: `person_id`, the unit's column (whole numbers), `on`, `time_us` or `timestamp`, and `position` or the
            columns of the total order.
        journeys: `journey_id`, `outcome` (converted, abandoned, open); used within journeys only.
        on: event, touchpoint or stage.
        within: person, session or journey.
        strips_n: how many to draw at most.
        longest: touches of a unit to show at most; the first ones.
        goal: values that come first among those told apart, however rare; see `path_compare.goal`.
        seed: of the lot.
        min_n: people that must have a value for it to be shown.

    Returns:
        One row per touch: `strip` 1, 2, 3 … by outcome and length, `outcome` ("all" without journeys), `number` within
        the strip, `value`, `hours` since the first touch, `touches_n` of the whole unit. `attrs`: `values`, the goal
        and then the most frequent first; `units_n`, of which they were drawn; `within`.

    >>> from tests.conftest import make_log
    >>> table = strips(make_log("u1: ad buy@30h"), within="person")
    >>> table[["strip", "number", "value", "hours"]].values.tolist()
    [[1, 1, 'ad', 0.0], [1, 2, 'buy', 30.0]]
    """
    rows, order = in_units(touches, on, within, "strips", ["time_us"])
    with engine.scratch():
        rows = engine.keep(rows, "strips")
        units = rows.group_by("unit").agg(touches_n=nw.len())
        if journeys is not None and within == "journey":
            known = engine.beside(journeys, units).select("journey_id", outcome=nw.col("outcome").cast(nw.String()))
            units = units.join(known.rename({"journey_id": "unit"}), on="unit", how="inner")
        else:
            units = units.with_columns(outcome=nw.lit(ALL))
        units = engine.keep(units, "strips_units")
        sizes = engine.fetch(units.group_by("outcome").agg(n=nw.len())).set_index("outcome")["n"].astype("int64")
        groups = [name for name in (*OUTCOMES, ALL) if sizes.get(name, 0) >= max(min_n, 1)]
        if not groups:
            return stats.not_enough(_COLUMNS, f"not enough data (n = {int(sizes.sum())})")
        drawn = _drawn(units, {name: int(sizes[name]) for name in groups}, -(-strips_n // len(groups)), seed)
        shown = rows.join(engine.beside(drawn[["unit"]], rows), on="unit", how="semi")
        found = engine.fetch(shown.select("unit", "value", "time_us", *[name for name in order if name != "time_us"]))
        people = rows.group_by("value").agg(n=nw.col("person_id").n_unique())
        rare = set(engine.fetch(people.filter(nw.col("n") < min_n))["value"]) if min_n > 1 else set()
    found = found.sort_values(["unit", *order]).merge(drawn, on="unit").sort_values("strip", kind="stable")
    by_strip = found.groupby("strip")
    hours = (found["time_us"] - by_strip["time_us"].transform("min")) / 3.6e9
    found = found.assign(number=by_strip.cumcount() + 1, hours=hours.where(hours >= 24, (hours * 60).round() / 60))
    found["hours"] = found["hours"].where(found["hours"] < 24, found["hours"].round())
    found["value"] = found["value"].where(~found["value"].isin(rare), RARE)
    table = found[found["number"] <= longest].reset_index(drop=True)[_COLUMNS]
    often = table["value"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    goals = {part.strip() for part in goal.split("|")}
    values = sorted((value for value in often.index if value != RARE), key=lambda value: value not in goals)
    values += [RARE] * (RARE in often.index)
    table.attrs |= {"values": values, "units_n": int(sizes[groups].sum()), "within": within}
    return table


def _drawn(units: nw.LazyFrame[Any], sizes: dict[str, int], each_n: int, seed: int) -> pd.DataFrame:
    """Return the units drawn: unit, outcome, touches_n, strip."""
    # Sorted by length, and within one length by lot, every so many-th one is drawn.
    lot = (nw.col("unit").cast(nw.Int64) % _PRIME + seed) * _DRAW % _PRIME * _DRAW % _PRIME
    order = ["touches_n", "lot", "unit"]
    ranked = units.with_columns(lot=lot, one=nw.lit(1))
    ranked = ranked.with_columns(rank=nw.col("one").cum_sum().over("outcome", order_by=order))
    parts = []
    for outcome, n in sizes.items():
        ranks = np.unique(((np.arange(min(each_n, n)) + 0.5) * n / min(each_n, n)).astype(int) + 1)
        chosen = ranked.filter(nw.col("outcome") == outcome, nw.col("rank").is_in(ranks.tolist()))
        parts.append(engine.fetch(chosen.select("unit", "outcome", *order[:2])).sort_values(order))
    drawn = pd.concat(parts, ignore_index=True).drop(columns="lot")
    return drawn.assign(strip=range(1, len(drawn) + 1), touches_n=drawn["touches_n"].astype("int64"))
