"""Detours: how many steps people take from one place to another where few should do, and who never arrives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.stats import binom

from journeykit import config, engine, errors, stats, steps
from journeykit.friction import clustered_shares
from journeykit.sequences import in_units, starts

DAY = 86_400  # seconds
MIN_TIMES = 6  # values that an interval of a median takes
NO_PLAN = "no steps are planned; name some in [plans.<name>] or [funnels.<name>] of journey.toml"

_BOUNDS = ("", "_low", "_high")
COLUMNS = ["from", "to", "planned_n", "n", "people_n", "arrived_n", "never_arrived_n"]
COLUMNS += [*(f"never_arrived_share{end}" for end in _BOUNDS), "open_n", *(f"median_ratio{end}" for end in _BOUNDS)]
COLUMNS += ["twice_n", *(f"twice_share{end}" for end in _BOUNDS), "direct_n", "extra_steps_n"]
EXTRA = [*(f"extra_days{end}" for end in _BOUNDS), "extra_p90_days"]
COLUMNS += EXTRA


PAIRS = [*COLUMNS, "within_it"]


def detour(
    touches: Any,
    *,
    start: str,
    end: str,
    plan: Sequence[str | config.Step] = (),
    on: str = "touchpoint",
    within: str = "journey",
    journeys: Any = None,
    min_n: int = 1,
) -> pd.DataFrame:
    """Compare the steps that people take from one value to another with the number that is planned.

    A unit starts at its first `start` and arrives at the next `end` after it. Its steps are the events with a value of
    `on` from there up to the arrival, that included: 1 when `end` follows directly. The **detour ratio** is these steps
    divided by the planned ones: those of `plan` from `start` to `end` that are not optional, or 1 without a plan. It
    speaks of those who arrive only, so those who never did are beside it. Rivals: the last `start` before the arrival,
    which hides everybody who began again; different values instead of events, which hides going round in circles; the
    quickest tenth instead of a plan.

    With `journeys` (see `sequences.running`; used where `within` is "journey"), those who have not arrived in a journey
    that may still go on are `open_n`, apart from `n`. That flatters the share a little, because an arrival is known
    sooner than that nobody will arrive any more.

    Requires `person_id`, the unit of `within`, `on`, `time_us` or `timestamp` (UTC), and `position` or the columns of
    the total order. One row:

    - `planned_n` steps; `n` units that started and arrived or are over; `people_n` who started; `arrived_n`;
      `never_arrived_n` and its share of n; `open_n`;
    - of those who arrived: `median_ratio` with its order-statistic interval; `twice_n` and the share that took at least
      twice the planned steps; `direct_n` who took no more than planned; `extra_steps_n`, all steps beyond the plan;
    - `extra_days`: by how much the median time of those who took more steps is longer than that of those who did not
      (interval: both order-statistic intervals combined, Zou & Donner 2008), `extra_p90_days`: the same of the time
      that one in ten of them exceeds. Empty with fewer than six on either side.

    Intervals of shares (95 %) draw people (`stats.clustered`).

    Raises:
        JourneyError: a column is missing, or `plan` does not lead from `start` to `end`.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: cart x x buy | u2: cart buy | u3: cart x")
    >>> table = detour(log, start="cart", end="buy", on="event")
    >>> table[["n", "arrived_n", "never_arrived_n", "median_ratio", "twice_n"]].values.tolist()
    [[3.0, 2.0, 1.0, 2.0, 1.0]]
    """
    if not plan:
        parsed = steps.parse([start, end], "detour")
        return _table(touches, parsed, [(1, 2, 1)], on, within, journeys, min_n)[COLUMNS]
    parsed = steps.parse(plan, "detour")
    places = [_place(parsed, value) for value in (start, end)]
    if places[0] >= places[1]:
        raise errors.JourneyError(f"detour: the plan has {end!r} before {start!r}. Turn them round.")
    pairs = [(places[0], places[1], _planned(parsed, *places))]
    return _table(touches, parsed, pairs, on, within, journeys, min_n)[COLUMNS]


def detours(
    touches: Any,
    *,
    plan: Sequence[str | config.Step],
    on: str = "touchpoint",
    within: str = "journey",
    journeys: Any = None,
    min_n: int = 1,
) -> pd.DataFrame:
    """Compare the steps taken with those planned between every two steps of a plan, the worst detours first.

    The worst are those with most people × extra steps (`extra_steps_n`) for each planned step: between the ends of a
    plan there is the sum of what lies between its steps, and would always be first. Everything else is as in `detour`,
    one row per pair of steps; a value that stands for several steps of the plan is looked for as each of them.
    `within_it` names the worst pair that lies within a pair and is worse: mend that first.

    >>> from tests.conftest import make_log
    >>> table = detours(make_log("u1: ad x x cart buy | u2: ad cart buy"), plan=["ad", "cart", "buy"], on="event")
    >>> table[["from", "to", "planned_n", "extra_steps_n"]].values.tolist()
    [['ad', 'cart', 1, 2], ['ad', 'buy', 2, 2], ['cart', 'buy', 1, 0]]
    """
    if len(plan) < 2:
        return stats.not_enough(PAIRS, NO_PLAN)
    parsed = steps.parse(plan, "detours")
    places = [(a, b) for a in range(1, len(parsed)) for b in range(a + 1, len(parsed) + 1)]
    pairs = [(a, b, _planned(parsed, a, b)) for a, b in places]
    table = _table(touches, parsed, pairs, on, within, journeys, min_n)
    if table.empty:
        return stats.not_enough(PAIRS, stats.reason_of(table))
    worst = (table["extra_steps_n"] / table["planned_n"]).sort_values(ascending=False, kind="stable").index
    table = table.loc[worst].reset_index(drop=True)
    ends = list(zip(table["start"], table["end"], strict=True))
    inside = [
        [n for n, (a, b) in enumerate(ends[:k]) if start <= a and b <= end] for k, (start, end) in enumerate(ends)
    ]
    named = [f"{row['from']} → {row['to']}" for row in table.to_dict("records")]
    return table.assign(within_it=[named[worse[0]] if worse else "" for worse in inside])[PAIRS]


def _place(plan: list[config.Step], value: str) -> int:
    """Return the number of the step that is a value, from 1."""
    found = [k for k, step in enumerate(plan, start=1) if value in (step.label, *step.values)]
    if not found:
        known = [step.label for step in plan]
        raise errors.JourneyError(
            f"detour: the plan has no step {value!r}.{errors.nearest(value, known)} It has: {', '.join(known)}."
        )
    return found[0]


def _planned(plan: list[config.Step], start: int, end: int) -> int:
    """Return the fewest steps that a plan takes from one of its steps to a later one."""
    return 1 + sum(not step.optional for step in plan[start : end - 1])


def _table(
    touches: Any, plan: list[config.Step], pairs: list[tuple[int, int, int]], on: str, within: str, journeys: Any,
    min_n: int,
) -> pd.DataFrame:  # fmt: skip
    """Return one row per pair of steps (number of the one, of the other, planned steps) with `start` and `end`."""
    marked = steps.marked(touches, plan, on, "step_", "detour")
    flags = [f"step_{k}" for k in range(1, len(plan) + 1)]
    rows, order = in_units(marked, on, within, "detour", ["time_us", *flags])
    with engine.scratch():
        ways = engine.in_order(rows, by="unit", order=order, work=partial(_ways, pairs=pairs))
        ways = ways.with_columns(one=nw.lit(1), here=nw.when(nw.col("steps") > 0).then(1).otherwise(0))
        if journeys is not None and within == "journey":
            outcomes = engine.beside(journeys, ways).select(
                unit="journey_id", outcome=nw.col("outcome").cast(nw.String)
            )
            ways = ways.join(outcomes, on="unit", how="left")
        else:
            ways = ways.with_columns(outcome=nw.lit(""))
        waits = (nw.col("outcome") == "open") & (nw.col("here") == 0)
        ways = ways.with_columns(open=nw.when(waits).then(1).otherwise(0))
        started = ways.with_columns(counted=1 - nw.col("open"), never=1 - nw.col("open") - nw.col("here"))
        there = ways.filter(nw.col("here") == 1).with_columns(
            twice=nw.when(nw.col("steps") >= 2 * nw.col("planned")).then(1).otherwise(0),
            direct=nw.when(nw.col("steps") <= nw.col("planned")).then(1).otherwise(0),
        )
        table = clustered_shares(started, ["pair"], "counted", ["never"], ["open"])
        arrived = clustered_shares(there, ["pair"], "one", ["twice", "direct"])
        taken = engine.fetch(there.group_by("pair", "planned", "steps").agg(n=nw.len()))
        times = engine.fetch(there.group_by("pair", "direct", "seconds").agg(n=nw.len()), limit=20_000_000)
    names = {"never_n": "never_arrived_n"} | {f"never_share{end}": f"never_arrived_share{end}" for end in _BOUNDS}
    table = table[(table["n"] > 0) & (table["people_n"] >= max(min_n, 1))].rename(columns=names)
    if table.empty:
        at = plan[pairs[0][0] - 1].label if len(pairs) == 1 else "any planned step"
        return stats.not_enough(COLUMNS, f"not enough data (fewer than {max(min_n, 1)} people start at {at})")
    arrived = arrived.drop(columns="people_n").rename(columns={"n": "arrived_n"})
    table = table.merge(arrived, on="pair", how="left").sort_values("pair", ignore_index=True)
    counts = ["arrived_n", "twice_n", "direct_n"]
    table[counts] = table[counts].fillna(0).astype("int64")
    both = [_ratios(taken[taken["pair"] == k]) | _times(times[times["pair"] == k]) for k in table["pair"]]
    found = [pairs[k] for k in table["pair"]]
    ends = pd.DataFrame(found, columns=["start", "end", "planned_n"])
    named = {"from": [plan[a - 1].label for a in ends["start"]], "to": [plan[b - 1].label for b in ends["end"]]}
    return table.join(ends).join(pd.DataFrame(both)).assign(**named)


def _ways(table: pa.Table, _first: int, *, pairs: Sequence[tuple[int, int, int]]) -> pa.Table:
    """Return, for each unit and pair of which it has the first step, the steps and seconds to the second, or null."""
    new = starts(table)
    unit, units = np.cumsum(new) - 1, int(new.sum())
    time = table["time_us"].to_numpy()
    began = np.flatnonzero(new)
    flags = {k: np.flatnonzero(table[f"step_{k}"].to_numpy() == 1) for pair in pairs for k in pair[:2]}
    first = {k: _first_rows(rows, unit, units) for k, rows in flags.items()}
    parts = []
    for number, (start, end, planned) in enumerate(pairs):
        later = flags[end][(first[start][unit[flags[end]]] >= 0) & (flags[end] > first[start][unit[flags[end]]])]
        begins = np.flatnonzero(first[start] >= 0)
        at, to = first[start][begins], _first_rows(later, unit, units)[begins]
        missing = to < 0
        parts.append(
            pa.table(
                {
                    "person_id": table["person_id"].to_numpy()[began[begins]],
                    "unit": table["unit"].to_numpy()[began[begins]],
                    "pair": np.full(len(begins), number, dtype=np.int64),
                    "planned": np.full(len(begins), planned, dtype=np.int64),
                    "steps": pa.array(to - at, pa.int64(), mask=missing),
                    "seconds": pa.array(
                        (time[to] - time[at]) // 1_000_000 if len(to) else to, pa.int64(), mask=missing
                    ),
                }
            )
        )
    return pa.concat_tables(parts).combine_chunks()


def _first_rows(rows: Any, unit: Any, units: int) -> Any:
    """Return the first of some rows in each unit, or −1."""
    found = np.full(units, -1, dtype=np.int64)
    found[unit[rows][::-1]] = rows[::-1]  # the last assignment stays, which is that of the earliest row
    return found


def _ratios(taken: pd.DataFrame) -> dict[str, float]:
    taken = taken.sort_values("steps")
    more = (taken["steps"] - taken["planned"]).clip(lower=0)
    middle = median(taken["steps"] / taken["planned"], taken["n"])
    return dict(zip([f"median_ratio{end}" for end in _BOUNDS], middle, strict=True)) | {
        "extra_steps_n": int((more * taken["n"]).sum())
    }


def _times(times: pd.DataFrame) -> dict[str, float]:
    """Return by how much those who took more steps were slower."""
    direct, other = (times[times["direct"] == flag].sort_values("seconds") for flag in (1, 0))
    if min(direct["n"].sum(), other["n"].sum()) < MIN_TIMES:
        return dict.fromkeys(EXTRA, float("nan"))
    (base, base_low, base_high), (slow, slow_low, slow_high) = (median(t["seconds"], t["n"]) for t in (direct, other))
    gap = slow - base
    low = gap - np.hypot(slow - slow_low, base_high - base)
    high = gap + np.hypot(slow_high - slow, base - base_low)
    found = [gap, low, high, quantile(other["seconds"], other["n"], 0.9) - base]
    return dict(zip(EXTRA, [seconds / DAY for seconds in found], strict=True))


def quantile(values: Any, counts: Any, share: float) -> float:
    """Return a quantile of sorted values that each occur some times, between two of them in proportion.

    >>> quantile([1, 5], [3, 1], 0.5), quantile([1, 5], [1, 1], 0.5)
    (1.0, 3.0)
    """
    ends, values = np.cumsum(np.asarray(counts)), np.asarray(values, dtype=float)
    if not len(values):
        return float("nan")
    place = (int(ends[-1]) - 1) * share
    below, above = (values[np.searchsorted(ends, k, side="right")] for k in (int(place), int(np.ceil(place))))
    return float(below + (above - below) * (place - int(place)))


def median(values: Any, counts: Any) -> tuple[float, float, float]:
    """Return the median of sorted values that each occur some times, with its 95 % interval between order statistics.

    It needs no shape of the distribution, but at least six values; with fewer it is (median, nan, nan).

    >>> median([1, 2, 3, 9], [3, 4, 3, 1])
    (2.0, 1.0, 3.0)
    """
    ends, values = np.cumsum(np.asarray(counts)), np.asarray(values, dtype=float)
    n = int(ends[-1]) if len(ends) else 0
    rank = int(binom.ppf(0.025, n, 0.5)) if n else 0
    bounds = [values[np.searchsorted(ends, k, side="right")] for k in ((rank - 1, n - rank) if rank else ())]
    low, high = (float(bound) for bound in bounds) if bounds else (float("nan"), float("nan"))
    return quantile(values, counts, 0.5), low, high
