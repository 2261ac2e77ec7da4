"""Ordered funnels: who takes the steps, in order and in time; where they stop; how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from scipy.stats import binom

from journeykit import config as _config
from journeykit import engine, errors, stats

UNITS = {"person": "person_id", "session": "session_id", "journey": "journey_id"}
NOTHING_MORE = "(nothing more)"
NO_VALUE = "(none)"
OTHER = "(other)"
DEFAULT_BY = "channel"
NO_FUNNEL = "journey.toml declares no funnel; add a [funnels.<name>] table with its steps"

_NEVER = -(2**62)  # a start that is earlier than any time: cum_max stays null on null rows, so null cannot mark "none"
_DAY_US = 86_400_000_000
_START = ["share_of_start", "share_of_start_low", "share_of_start_high"]
_PREVIOUS = ["share_of_previous", "share_of_previous_low", "share_of_previous_high"]
_COLUMNS = ["step_number", "step", "n", *_START, *_PREVIOUS, "lost_n"]
_TIME_COLUMNS = ["n", "median_days", "median_days_low", "median_days_high", "p25_days", "p75_days", "p90_days"]
_CURVE_COLUMNS = ["after_days", "n", "at_risk_n", "converted_share", "converted_share_low", "converted_share_high"]
_DROP_COLUMNS = ["step_number", "step", "stopped_n", "next_step", "n", "share", "share_low", "share_high"]


def choose(study: _config.Study, name: str = "", within: str = "", by: str = "") -> _config.Funnel:
    """Return one of the study's funnels, with its window or segment replaced where a value is given.

    "" stands for the first funnel, its own window and its own segment ("channel" when it names none). A study
    without funnels gets a funnel without steps, for which every function here returns an empty table that says so.

    Raises:
        JourneyError: the study has funnels, but none of this name; or `within` is not a duration.
    """
    if not study.funnels and not name:
        return _config.Funnel.model_construct(steps=[], within="", on="event", per="person", by=DEFAULT_BY)
    if name and name not in study.funnels:
        raise errors.JourneyError(
            f"funnels: there is no funnel {name!r}.{errors.nearest(name, study.funnels)} "
            f"journey.toml declares: {', '.join(study.funnels) or 'none'}."
        )
    funnel = study.funnels[name] if name else next(iter(study.funnels.values()))
    if within:
        _config.seconds(within)
    return funnel.model_copy(update={"within": within or funnel.within, "by": by or funnel.by or DEFAULT_BY})


def alternatives(step: str) -> list[str]:
    """Return the values that a step stands for.

    >>> alternatives("visit | showroom")
    ['visit', 'showroom']
    """
    return [part.strip() for part in step.split("|") if part.strip()]


def unit_column(unit: str, where: str) -> str:
    """Return the column of touches that marks a person, session or journey."""
    if unit not in UNITS:
        raise errors.JourneyError(
            f"{where}: {unit!r} is not a unit.{errors.nearest(unit, UNITS)} Allowed: {', '.join(UNITS)}."
        )
    return UNITS[unit]


def funnel(
    touches: Any,
    *,
    steps: Sequence[str],
    within: str = "",
    on: str = "event",
    per: str = "person",
    by: str = "",
    min_n: int = 1,
) -> pd.DataFrame:
    """Count who reaches each step of an ordered funnel.

    Steps are taken loosely (anything may happen between), each strictly later than the one before in the total order
    of events, the whole chain no longer than `within` after its start (inclusive). Any entry may be the start, so a
    later, successful attempt counts. Rivals: only the first entry counts (lower shares), steps in any order (higher).

    Requires the columns `time_us` or `timestamp` (UTC), `source`, `source_row`, `event_id`, the unit of `per`
    (person, session or journey), `on` and `by`. "a | b" in a step are alternatives. With `by`, the segment of a unit
    is its value of that column at its first event of step 1; segments with fewer than `min_n` units are left out and
    their units counted in `attrs["left_out_n"]`.

    One row per step (and segment, largest first): n, shares of the start and of the previous step with 95 % Wilson
    intervals, and `lost_n` since the previous step. Steps that never occur have n = 0.

    >>> from tests.conftest import make_log
    >>> funnel(make_log("u1: ad visit buy | u2: ad buy visit"), steps=["ad", "visit", "buy"])["n"].tolist()
    [2, 2, 1]
    """
    columns = ["segment", *_COLUMNS] if by else _COLUMNS
    if not steps:
        return stats.not_enough(columns, NO_FUNNEL)
    unit = unit_column(per, "funnel")
    rows = _chains(touches, steps, within, on, unit, "funnel", [by] if by else [])
    reached = {f"reached_{k}": (nw.col(f"start_{k}") > _NEVER).cast(nw.Int64()) for k in range(1, len(steps) + 1)}
    if by:
        entry = (nw.col("start_1") > _NEVER).cast(nw.Int64())
        rows = rows.with_columns(entry=entry, segment=nw.col(by).cast(nw.String()).fill_null(NO_VALUE))
        rows = rows.with_columns(entries=nw.col("entry").cum_sum().over(unit, order_by=list(engine.ORDER)))
        first = (nw.col("entry") == 1) & (nw.col("entries") == 1)
        rows = rows.with_columns(segment=nw.when(first).then(nw.col("segment")))
    segment = [nw.col("segment").max()] if by else []
    units = rows.with_columns(**reached).group_by(unit).agg(*[nw.col(name).max() for name in reached], *segment)
    units = units.with_columns(depth=nw.sum_horizontal(*[nw.col(name) for name in reached]))
    keys = ["segment", "depth"] if by else ["depth"]
    counts = engine.fetch(units.filter(nw.col("depth") > 0).group_by(*keys).agg(n=nw.len()))
    if not by:
        table = _steps(counts, steps)
        start = int(table["n"].iloc[0])
        if 0 < start < min_n:
            return stats.not_enough(columns, f"not enough data (n = {start}, at least {min_n} are needed)")
        return table
    starters = counts.groupby("segment")["n"].sum().sort_index().sort_values(ascending=False, kind="stable")
    shown = starters[starters >= min_n]
    parts = [_steps(counts[counts["segment"] == name], steps).assign(segment=name) for name in shown.index]
    if not parts:
        largest = int(starters.max()) if len(starters) else 0
        return stats.not_enough(columns, f"not enough data (largest group n = {largest}, at least {min_n} are needed)")
    table = pd.concat(parts, ignore_index=True)[columns]
    table.attrs["left_out_n"] = int(starters.sum() - shown.sum())
    return table


def time_to_convert(
    touches: Any,
    *,
    steps: Sequence[str],
    within: str = "",
    on: str = "event",
    per: str = "person",
    min_n: int = 6,
) -> pd.DataFrame:
    """Summarise the days from the first to the last step, among those who took them all.

    Counted to the first completion, from the earliest entry whose window still holds it, so never longer than
    `within`. Rival: from the latest entry, which hides the days of looking around before. People who have not
    converted (yet) are absent, which flatters: read it together with `conversion_curve`.

    Columns as for `funnel`. One row: n converters, median with its 95 % order-statistic interval (needs no shape of
    the distribution, but six values, hence `min_n`), quartiles and the 90th percentile, in days.
    """
    if not steps:
        return stats.not_enough(_TIME_COLUMNS, NO_FUNNEL)
    unit = unit_column(per, "time_to_convert")
    rows = _completions(_chains(touches, steps, within, on, unit, "time_to_convert"), unit, len(steps))
    is_entry = (nw.col("start_1") > _NEVER) & (nw.col("start_1") <= nw.col("completed_us"))
    if within:
        is_entry = is_entry & (nw.col("completed_us") - nw.col("start_1") <= _config.seconds(within) * 1_000_000)
    units = rows.filter(is_entry).group_by(unit).agg(nw.col("start_1").min(), nw.col("completed_us").min())
    found = engine.fetch(units)
    days = np.sort((found["completed_us"] - found["start_1"]).to_numpy(dtype=float) / _DAY_US)
    n = len(days)
    if n < max(min_n, 1):
        return stats.not_enough(_TIME_COLUMNS, f"not enough data (n = {n}, at least {min_n} are needed)")
    rank = int(binom.ppf(0.025, n, 0.5))
    low, high = (days[rank - 1], days[n - rank]) if rank > 0 else (np.nan, np.nan)
    p25, median, p75, p90 = np.quantile(days, [0.25, 0.5, 0.75, 0.9])
    return pd.DataFrame([[n, median, low, high, p25, p75, p90]], columns=_TIME_COLUMNS)


def conversion_curve(
    touches: Any,
    *,
    steps: Sequence[str],
    until: pd.Timestamp | None = None,
    within: str = "",
    on: str = "event",
    per: str = "person",
    horizon: str = "",
    points: int = 90,
    min_n: int = 30,
) -> pd.DataFrame:
    """Estimate the share that has completed the funnel by each time after the first entry (Kaplan–Meier).

    Those who have not completed it are censored at `until`, the end of observation (naive UTC; None = the last event),
    so people who entered yesterday do not count as lost. The clock starts at a unit's first event of step 1 and is
    not restarted; a completion from a later entry counts at its own time. The curve at day t may therefore differ
    from the funnel's share within t.

    Columns as for `funnel`. One row per point of time up to `horizon`: n units, `at_risk_n`, converted share with its
    95 % interval (log-log; Wilson's before the first and after the last completion). `horizon` "" is one and a half
    times the time by which 95 % of the completions came, but no longer than ten units, and one in twenty, are observed.
    """
    if not steps:
        return stats.not_enough(_CURVE_COLUMNS, NO_FUNNEL)
    unit = unit_column(per, "conversion_curve")
    rows = _completions(_chains(touches, steps, within, on, unit, "conversion_curve"), unit, len(steps))
    entries = rows.filter(nw.col("start_1") > _NEVER)
    found = engine.fetch(entries.group_by(unit).agg(nw.col("start_1").min(), nw.col("completed_us").min()))
    if until is None:
        last = engine.fetch(engine.lazy(touches).select(nw.col("time_us").max()))["time_us"].iloc[0]
        end = 0 if pd.isna(last) else int(last)
    else:
        end = (pd.Timestamp(until) - pd.Timestamp(0)) // pd.Timedelta("1us")
    found = found[found["start_1"] <= end].sort_values(unit)
    if len(found) < min_n:
        return stats.not_enough(_CURVE_COLUMNS, f"not enough data (n = {len(found)}, at least {min_n} are needed)")
    done = (found["completed_us"] <= end).to_numpy()
    stop = found["completed_us"].where(done, end).astype(float)
    days = ((stop - found["start_1"]) / _DAY_US).to_numpy()
    still = min(max(10, len(days) // 20), len(days))
    flat = 1.5 * np.quantile(days[done], 0.95) if done.any() else np.inf  # from then on little happens
    longest = _config.seconds(horizon) / 86_400 if horizon else min(float(np.sort(days)[-still]), flat)
    grid = np.linspace(0, min(longest, float(days.max())), points + 1)
    fitter = KaplanMeierFitter().fit(days, done)
    bounds = fitter.confidence_interval_survival_function_
    at = np.searchsorted(bounds.index.to_numpy(), grid, side="right") - 1
    there, at_risk = fitter.survival_function_.iloc[at, 0].to_numpy(), np.array([(days >= day).sum() for day in grid])
    low, high = (bounds.iloc[at, side].to_numpy() for side in (0, 1))
    low, high = stats.flat_ends(grid, there, low, high, at_risk, int(done.sum()))
    curve = {
        "after_days": grid,
        "n": len(days),
        "at_risk_n": at_risk,
        "converted_share": 1 - there,
        "converted_share_low": 1 - high,
        "converted_share_high": 1 - low,
    }
    return pd.DataFrame(curve).fillna({"converted_share_low": 0.0, "converted_share_high": 0.0})


def drop_offs(
    touches: Any,
    *,
    steps: Sequence[str],
    within: str = "",
    on: str = "event",
    per: str = "person",
    at: str = "",
    top: int = 5,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count what came directly after the last funnel step of those who did not finish (`at`: those of one step).

    A unit stops at the deepest step that it ever reached; what follows is the next value of `on` in the same unit
    after the last time it stood there ("(nothing more)" when that was its last event).

    Columns as for `funnel`. One row per step and next value: the `top` values, the rest as "(other)", with the share of
    all who stopped there (`stopped_n`) and its 95 % Wilson interval. Values with n below `min_n` are in "(other)".
    """
    if not steps:
        return stats.not_enough(_DROP_COLUMNS, NO_FUNNEL)
    unit = unit_column(per, "drop_offs")
    rows = _chains(touches, steps, within, on, unit, "drop_offs", look_ahead=True)
    depth = nw.lit(0)
    for k in range(1, len(steps) + 1):
        depth = nw.when(nw.col(f"start_{k}") > _NEVER).then(nw.lit(k)).otherwise(depth)
    rows = rows.with_columns(depth=depth, one=nw.col("time_us") * 0 + 1)
    rows = rows.with_columns(
        deepest=nw.col("depth").max().over(unit), number=nw.col("one").cum_sum().over(unit, order_by=list(engine.ORDER))
    )
    rows = rows.filter((nw.col("depth") == nw.col("deepest")) & (nw.col("depth") > 0) & (nw.col("depth") < len(steps)))
    rows = rows.with_columns(last=nw.col("number").max().over(unit)).filter(nw.col("number") == nw.col("last"))
    found = engine.fetch(rows.group_by("depth", "next_value").agg(n=nw.len()))
    if found.empty:
        return stats.not_enough(_DROP_COLUMNS, "nobody stopped on the way (n = 0)")
    found = found.assign(next_step=found["next_value"].fillna(NOTHING_MORE))
    found = found.sort_values(["depth", "n", "next_step"], ascending=[True, False, True])
    found = found.assign(stopped_n=found.groupby("depth")["n"].transform("sum"))
    kept = (found.groupby("depth").cumcount() < top) & (found["n"] >= min_n)
    rest = found[~kept].groupby(["depth", "stopped_n"], as_index=False)["n"].sum().assign(next_step=OTHER)
    table = pd.concat([found[kept], rest]).sort_values("depth", kind="stable")
    table = table[table["stopped_n"] >= min_n]
    table = table.assign(step_number=table["depth"], step=[steps[k - 1] for k in table["depth"]])
    table = table[table["step"] == at] if at else table
    if table.empty:
        return stats.not_enough(_DROP_COLUMNS, f"not enough data (fewer than {min_n} stopped{' at ' * bool(at)}{at})")
    table = table.assign(**shares("share", table["n"], table["stopped_n"]))
    return table[_DROP_COLUMNS].reset_index(drop=True)


def _chains(
    touches: Any,
    steps: Sequence[str],
    within: str,
    on: str,
    unit: str,
    where: str,
    extra: Sequence[str] = (),
    look_ahead: bool = False,
) -> nw.LazyFrame[Any]:
    """Give each event of a step, for each step k that it completes, the start of its chain as `start_k`.

    The start is the latest one possible: it has the most of the window left, so if any chain goes on, that one does.
    One running maximum per step decides this exactly, where a self-join would compare all pairs.
    """
    order = list(engine.ORDER)
    lazy = engine.lazy(touches)
    columns = list(dict.fromkeys([unit, on, *order, *extra]))
    errors.require_columns(lazy.collect_schema().names(), columns, where)
    values = [alternatives(step) for step in steps]
    rows = lazy.select(*columns).with_columns(nw.col(on).cast(nw.String()))  # a column of nulls has no type of its own
    rows = rows.filter(~nw.col(unit).is_null(), ~nw.col(on).is_null())
    if look_ahead:
        rows = rows.with_columns(next_value=nw.col(on).shift(-1).over(unit, order_by=order))
    rows = rows.filter(nw.col(on).is_in(sorted({value for step in values for value in step})))
    start = nw.when(nw.col(on).is_in(values[0])).then(nw.col("time_us")).otherwise(nw.lit(_NEVER))
    rows = rows.with_columns(start_1=start)
    for k in range(2, len(steps) + 1):
        rows = rows.with_columns(latest=nw.col(f"start_{k - 1}").cum_max().over(unit, order_by=order))
        if set(values[k - 1]) & set(values[k - 2]):  # only then can an event be both steps, and follow itself
            rows = rows.with_columns(latest=nw.col("latest").shift(1).over(unit, order_by=order))
            rows = rows.with_columns(latest=nw.col("latest").fill_null(_NEVER))
        goes_on = nw.col(on).is_in(values[k - 1]) & (nw.col("latest") > _NEVER)
        if within:
            goes_on = goes_on & (nw.col("time_us") - nw.col("latest") <= _config.seconds(within) * 1_000_000)
        chain = nw.when(goes_on).then(nw.col("latest")).otherwise(nw.lit(_NEVER))
        rows = rows.with_columns(**{f"start_{k}": chain})
    return rows


def _completions(rows: nw.LazyFrame[Any], unit: str, steps_n: int) -> nw.LazyFrame[Any]:
    """Add `completed_us`, the time of the unit's first completion (null when there is none)."""
    completed = nw.when(nw.col(f"start_{steps_n}") > _NEVER).then(nw.col("time_us"))
    return rows.with_columns(completed_us=completed).with_columns(completed_us=nw.col("completed_us").min().over(unit))


def _steps(counts: pd.DataFrame, steps: Sequence[str]) -> pd.DataFrame:
    """Turn numbers of units by depth into the funnel table."""
    n = pd.Series([int(counts.loc[counts["depth"] >= k, "n"].sum()) for k in range(1, len(steps) + 1)], dtype="int64")
    before = n.shift(1, fill_value=n.iloc[0])
    start = pd.Series(n.iloc[0], index=n.index)
    table = pd.DataFrame({"step_number": range(1, len(steps) + 1), "step": list(steps), "n": n})
    table = table.assign(**shares("share_of_start", n, start), **shares("share_of_previous", n, before))
    whole = 1.0 if n.iloc[0] else np.nan  # all who start, start: a share without uncertainty
    table.loc[0, _START] = whole
    table.loc[0, _PREVIOUS] = np.nan
    return table.assign(lost_n=before - n)[_COLUMNS]


def shares(name: str, successes: pd.Series, n: pd.Series) -> dict[str, Any]:
    """Return a share and its Wilson interval as columns `<name>`, `<name>_low`, `<name>_high`."""
    bounds = [stats.wilson(k, total) for k, total in zip(successes, n, strict=True)]
    return {
        name: successes / n.where(n > 0),
        f"{name}_low": [low for low, _ in bounds],
        f"{name}_high": [high for _, high in bounds],
    }
