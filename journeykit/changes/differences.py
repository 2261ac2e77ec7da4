"""Difference in differences: those who met a change against those who did not, before and after it."""

from __future__ import annotations

from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats as _stats

from journeykit import engine
from journeykit.changes.around import LEAST_AFTER, LEAST_BEFORE, Moment, first_days
from journeykit.changes.counterfactual import EFFECT, REPETITIONS, continued
from journeykit.changes.series import RATIOS, Clock, blocks, filled, label, rows, totals, unit
from journeykit.config_changes import Change, Series
from journeykit.errors import require_columns
from journeykit.stats import not_enough

METHOD = "difference in differences"
TRENDS = ("at", "is_after", "treated", "comparison", "difference")
UNITS = 5  # of either side, from which on they are what is independent; below, weeks are
WEEKS = LEAST_BEFORE[7]
DRIFT = 0.01  # p-value of the slope before; robust errors of few weeks are too small, so 0.05 would warn too often
MET, NOT_MET = "met it", "did not"


class Differences(NamedTuple):
    """The effect (one row), and both sides week by week."""

    effect: pd.DataFrame
    trends: pd.DataFrame


def differences(
    touches: Any, change: Change, *, timezone: str = "UTC", until: pd.Timestamp, currency: str = ""
) -> Differences:
    """Return how much more the treated changed than the others did (quasi-experimental).

    Units are the values of the column `groups`; those in `treated` met the change. What can be added up (counts,
    people, value) is compared as logarithms, because groups of unlike size do not move in parallel otherwise: the
    effect is a percentage, told in the unit of the series as well; shares and mean answers are compared as they are.

    The interval takes units as independent where either side has 5 or more: each is reduced to its change from before
    to after, and the two sides are compared by Welch's t-test (Bertrand, Duflo & Mullainathan 2004 show that days of a
    unit must not count one by one). With fewer units, weeks are the blocks: the weekly difference between the sides is
    carried on from before the change by the model of `counterfactual`, and what came is compared with that. Rival for
    few units: means of the weekly difference with an error robust to weeks being alike (Newey & West), whose 95 %
    interval covers 65 to 89 % with so few weeks; this one covers 94 to 98 % where neighbouring weeks correlate
    by up to 0.3, and 90 % at 0.6.

    It rests on parallel trends, which cannot be proven. `note` carries their check: the slope of the weekly difference
    before the change, with a p-value that is rather too small; below 0.01 the sides were drifting apart already.

    Args:
        touches: as for `series.daily`, and the column `groups`.
        change: with `groups` and `treated`.
        timezone: where days begin.
        until: end of observation (UTC).
        currency: for the unit of values.

    Returns:
        effect: one row as `counterfactual`'s; observed is the treated side after, expected what it would have been.
        trends: one row per week: at, is_after, treated, comparison, difference (of logarithms or of values).
        `effect.attrs`: trend_p_value, trend (slope a week), units_treated_n, units_other_n.
    """
    series, name = change.metric, label(change.metric)
    clock = Clock.of(touches, timezone, until)
    if clock is None:
        return _none(f"{name}: there is no event up to the end of observation")
    require_columns(engine.lazy(touches).collect_schema().names(), [change.groups], f"touches, for {change.name}")
    counted = _parted(rows(touches, series, clock), change)
    moment = Moment(at=pd.Timestamp(change.at), settle=change.settle, timezone=timezone)
    end, start = first_days(moment)
    sides = totals(counted, series, ["_side", "_day"])
    weeks = [_weeks(sides.loc[sides["_side"] == side], series, clock, end, start) for side in (MET, NOT_MET)]
    for side, part in zip((f"of the treated ({', '.join(change.treated)})", "of the others"), weeks, strict=True):
        if part.empty:
            return _none(f"{name}: no complete week {side}")
    trends = _trends(weeks, series)
    before, after = (int((trends["is_after"] == flag).sum()) for flag in (False, True))
    if before < WEEKS or after < LEAST_AFTER[7]:
        return _none(
            f"{name}: {before} weeks before and {after} after the change in which both sides have a value; at least "
            f"{WEEKS} and {LEAST_AFTER[7]} are needed"
        )
    units = _units(counted, series, clock, (end, start), trends)
    few = min((units["_side"] == side).sum() for side in (MET, NOT_MET)) < UNITS
    gap, low, high, p_value = _by_weeks(trends) if few else _by_units(units)
    if not np.isfinite([gap, low, high]).all():
        return _none(f"{name}: the two sides never differ by chance, so nothing tells how sure the difference is")
    slope, trend_p = _slope(trends)
    row = _told(weeks[0], series, (gap, low, high), currency)
    days = {flag: 7 * int((trends["is_after"] == flag).sum()) for flag in (False, True)}
    row |= {"p_value": p_value, "days_before_n": days[False], "days_after_n": days[True]}
    row["note"] = _note(trend_p, few, units)
    effect = pd.DataFrame([row])[list(EFFECT)]
    effect.attrs.update(trend=slope, trend_p_value=trend_p, few_units=few)
    return Differences(effect, trends)


def _none(reason: str) -> Differences:
    return Differences(not_enough(EFFECT, reason), not_enough(TRENDS, reason))


def _parted(counted: nw.LazyFrame[Any], change: Change) -> nw.LazyFrame[Any]:
    group = nw.col(change.groups).cast(nw.String())
    side = nw.when(group.is_in(list(change.treated))).then(nw.lit(MET)).otherwise(nw.lit(NOT_MET))
    return counted.filter(~group.is_null()).with_columns(_group=group, _side=side)


def _weeks(found: pd.DataFrame, series: Series, clock: Clock, end: pd.Timestamp, start: pd.Timestamp) -> pd.DataFrame:
    days = filled(found, series, clock)
    if days.empty:
        return days
    before = blocks(days.loc[days["day"] < end], series, origin=end).assign(is_after=False)
    after = blocks(days.loc[days["day"] >= start], series, origin=start).assign(is_after=True)
    parts = [part for part in (before, after) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else before


def _trends(weeks: list[pd.DataFrame], series: Series) -> pd.DataFrame:
    treated, other = (part.set_index(["at", "is_after"])["value"] for part in weeks)
    both = (
        pd.concat([treated.rename("treated"), other.rename("comparison")], axis=1).dropna().sort_index().reset_index()
    )
    if series.kind in RATIOS:
        both["difference"] = both["treated"] - both["comparison"]
    else:
        both["difference"] = _log(both["treated"]) - _log(both["comparison"])
    return both[list(TRENDS)]


def _log(per_day: pd.Series[Any]) -> pd.Series[Any]:
    """The logarithm; half an event a week stands for none."""
    return np.log(per_day.clip(lower=0.5 / 7))


def _by_weeks(trends: pd.DataFrame) -> tuple[float, float, float, float]:
    split = int((~trends["is_after"].astype(bool)).sum())
    difference = trends["difference"].to_numpy(dtype=float)
    if np.ptp(difference[:split]) < 1e-12:
        return (float("nan"),) * 4
    table = trends.assign(value=difference, control=np.nan)
    simulated, _ = continued(table, split, 7, REPETITIONS, 0, False)
    if simulated is None:
        return (float("nan"),) * 4
    gaps = difference[split:].mean() - simulated.mean(axis=0)
    low, high = np.quantile(gaps, [0.025, 0.975])
    tail = min(float((gaps <= 0).mean()), float((gaps >= 0).mean()))
    return float(gaps.mean()), float(low), float(high), min(1.0, max(2 * tail, 1 / len(gaps)))


def _by_units(units: pd.DataFrame) -> tuple[float, float, float, float]:
    treated, other = (units.loc[units["_side"] == side, "change"].to_numpy(dtype=float) for side in (MET, NOT_MET))
    if max(np.ptp(treated), np.ptp(other)) < 1e-12:
        return (float("nan"),) * 4
    tested = _stats.ttest_ind(treated, other, equal_var=False)
    interval = tested.confidence_interval()
    return float(treated.mean() - other.mean()), float(interval.low), float(interval.high), float(tested.pvalue)


def _units(
    counted: nw.LazyFrame[Any],
    series: Series,
    clock: Clock,
    edges: tuple[pd.Timestamp, pd.Timestamp],
    trends: pd.DataFrame,
) -> pd.DataFrame:
    """One row per unit with a value before and after: _side, _group, change (of logarithms or of values)."""
    end, start = ((edge - pd.Timestamp("1970-01-01")).days for edge in edges)
    span = {flag: 7 * int((trends["is_after"] == flag).sum()) for flag in (False, True)}
    day = nw.col("_day")
    inside = ((day < end) & (day >= end - span[False])) | ((day >= start) & (day < start + span[True]))
    is_after = nw.when(day >= start).then(nw.lit(1)).otherwise(nw.lit(0))
    keys = ["_side", "_group", "_is_after"]
    # People are counted once a day, as in the series by day.
    part = counted.filter(inside & (day > clock.first_day) & (day < clock.end_day)).with_columns(_is_after=is_after)
    if series.kind == "people":
        part = part.select(*keys, "_day", "person_id").unique().with_columns(_top=nw.lit(1), _per=nw.lit(0))
        series = series.model_copy(update={"kind": "count"})
    found = totals(part, series, keys)
    if series.kind in RATIOS:
        found["value"] = found["top"] / found["per"].where(found["per"] > 0)
    else:
        days = found["_is_after"].map({0: span[False], 1: span[True]})
        found["value"] = _log(found["top"].astype(float) / days)
    wide = found.pivot_table(index=["_side", "_group"], columns="_is_after", values="value").reindex(columns=[0, 1])
    if series.kind not in RATIOS:
        wide = wide.fillna(np.log(0.5 / 7))
    return (wide[1] - wide[0]).rename("change").dropna().reset_index()


def _slope(trends: pd.DataFrame) -> tuple[float, float]:
    """How fast the sides drifted apart before the change, a week, and its p-value."""
    before = trends.loc[~trends["is_after"].astype(bool), "difference"].to_numpy(dtype=float)
    if len(before) < WEEKS or np.ptp(before) < 1e-12:
        return 0.0, 1.0
    fit = sm.OLS(before, sm.add_constant(np.arange(len(before), dtype=float))).fit(
        cov_type="HAC", cov_kwds={"maxlags": min(4, len(before) // 4), "use_correction": True}, use_t=True
    )
    return float(fit.params[1]), float(fit.pvalues[1])


def _told(treated: pd.DataFrame, series: Series, found: tuple[float, float, float], currency: str) -> dict[str, object]:
    """The effect in the unit of the series and relative to what the treated would have done."""
    after = treated.loc[treated["is_after"]]
    row: dict[str, object] = {"metric": label(series), "method": METHOD, "unit": unit(series, currency)}
    if series.kind in RATIOS:
        seen = float(after["top"].sum() / after["per"].sum())
        expected = seen - found[0]
        effects = list(found)
        relative = [value / expected if expected > 0 else float("nan") for value in found]
    else:
        seen = float(after["value"].mean())
        expected = seen / float(np.exp(found[0]))
        relative = [float(np.exp(value) - 1) for value in found]
        effects = [expected * value for value in relative]
    row |= {"observed": seen, "expected": expected}
    row |= dict(zip(("effect", "effect_low", "effect_high"), effects, strict=True))
    row |= dict(zip(("relative_share", "relative_share_low", "relative_share_high"), relative, strict=True))
    days = 7 * len(after)
    added = series.kind not in RATIOS
    totals_ = [days * value if added else float("nan") for value in effects]
    return row | dict(zip(("total", "total_low", "total_high"), totals_, strict=True))


def _note(trend_p: float, few: bool, units: pd.DataFrame) -> str:
    counts = [int((units["_side"] == side).sum()) for side in (MET, NOT_MET)]
    what = "Blocks are weeks, as there are few groups" if few else "Blocks are groups"
    note = f"{what} ({counts[0]} treated, {counts[1]} others)."
    if trend_p < DRIFT:
        drift = f"The two sides were drifting apart before the change (p = {trend_p:.3f})"
        return f"{note} {drift}: do not take this as its effect."
    return f"{note} No drift between the two sides before the change (p = {trend_p:.2f})."
