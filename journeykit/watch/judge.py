"""The rules over one series: what each complete day and week was expected to be from what came before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats as _stats

from journeykit.changes.series import RATIOS, blocks, label, unit
from journeykit.config_changes import Series
from journeykit.stats import not_enough
from journeykit.watch import rates, weekday, xmr

COLUMNS = (
    *("kpi", "rule", "period_at", "ends_at", "unit", "observed", "expected", "low", "high", "change_share", "p_value"),
    *("better", "reason"),
)
DAY, WEEK = "day", "week"
ENOUGH = 20.0  # events on a usual day (week): the logarithm of fewer is skewed, so that empty days would be alarms
ANSWERS = 5  # of a week, for its mean to count
REACH = 3.0
Floats = npt.NDArray[np.float64]


def judged(days: pd.DataFrame, series: Series, *, currency: str = "", last: int = 1) -> pd.DataFrame:
    """Return what each of the last complete days and weeks of a series was expected to be, each from its past only.

    Rules, each with limits that chance crosses about 3 times in 1,000:
    *day* of what is added up: the 56 days before, ordinary least squares of the logarithm on weekday and trend, 99.73 %
    prediction interval. *week* of it: individuals chart (XmR) of the logarithm of weekly totals around a straight line
    through the 30 weeks before (15 at least). *day* and *week* of a share: a p-chart with the new denominator, of the
    same weekday or of the 30 weeks before, widened where shares scatter more than chance (Laney). *week* of answers:
    individuals chart of weekly means. Weeks begin on Monday. Only complete days and weeks are judged.

    Args:
        days: from `series.daily`.
        series: what it is.
        currency: for the unit of values.
        last: how many of the last complete days are judged, and of the last complete weeks that ended in them.

    Returns:
        One row per rule and day or week, oldest first: kpi, rule, period_at (its first day), ends_at (the first moment,
        in local time, at which it could be judged), unit, observed, expected, low, high, change_share (observed
        relative to expected), p_value, better, reason (why it could not be judged; then numbers are missing).
        Empty with a reason when there is no complete day.
    """
    whole = days.loc[days["is_complete"].astype(bool)] if len(days) else days
    if whole.empty:
        return not_enough(COLUMNS, str(days.attrs.get("reason", f"{label(series)}: no day is complete")))
    monday = pd.Timestamp("1970-01-05")
    weeks = blocks(days, series, origin=monday)
    since = whole["day"].max() + pd.Timedelta(days=1 - last)
    by_day = _ratio_days(whole, series, last) if series.kind == "share" else _days(whole, series, last)
    parts = [by_day.assign(rule=DAY, ends_at=by_day["period_at"] + pd.Timedelta(days=1))]
    if len(weeks):
        by_week = _weeks(weeks, series).assign(rule=WEEK)
        by_week["ends_at"] = by_week["period_at"] + pd.Timedelta(days=7)
        recent = by_week.loc[by_week["ends_at"] > since]
        parts.append(recent if last > 1 else by_week.tail(1))
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    found = found.assign(kpi=label(series), unit=unit(series, currency), better=series.better)
    with np.errstate(all="ignore"):
        found["change_share"] = found["observed"] / found["expected"].where(found["expected"] != 0) - 1
    return found[list(COLUMNS)]


def _table(at: Any, observed: Floats) -> pd.DataFrame:
    empty = dict.fromkeys(("expected", "low", "high", "p_value"), np.nan)
    return pd.DataFrame({"period_at": np.asarray(at), "observed": observed, **empty, "reason": ""})


def _days(whole: pd.DataFrame, series: Series, last: int) -> pd.DataFrame:
    """Days of what is added up; a mean of answers is not judged by the day."""
    recent = whole.tail(weekday.BASELINE + last)
    values = recent["top"].to_numpy(dtype=float)
    table = _table(recent["day"], recent["value"].to_numpy(dtype=float))
    if series.kind == "satisfaction":
        return table.tail(last).assign(reason="a mean of answers is judged by the week")
    usual = recent["n"].rolling(weekday.BASELINE, min_periods=1).median().shift(1).to_numpy(dtype=float)
    if (values < 0).any():
        return table.tail(last).assign(reason="values below 0 have no logarithm")
    # An empty day among full ones is a gap in the data: no measure for other days, but judged itself.
    logs = np.log(np.maximum(values, 0.5))
    known = np.where((values == 0) & (usual >= ENOUGH), np.nan, logs)
    middle, error, freedom = weekday.predictions(known)
    reach = weekday.reach(freedom) * error
    table["expected"], table["low"], table["high"] = np.exp(middle), np.exp(middle - reach), np.exp(middle + reach)
    table["p_value"] = weekday.p_values(logs, middle, error, freedom)
    few = usual < ENOUGH
    short = np.isnan(middle)
    flat = ~short & (error <= 1e-9)
    reasons = np.select(
        [few, short, flat],
        [
            f"fewer than {ENOUGH:.0f} on a usual day: judged by the week",
            f"fewer than {weekday.FEWEST} days with a value in the {weekday.BASELINE} before it",
            "it never varied, so nothing tells what chance does",
        ],
        "",
    )
    return _unjudged(table, reasons).tail(last)


def _unjudged(table: pd.DataFrame, reasons: Any) -> pd.DataFrame:
    table["reason"] = reasons
    table.loc[table["reason"] != "", ["expected", "low", "high", "p_value"]] = np.nan
    return table


def _ratio_days(whole: pd.DataFrame, series: Series, last: int) -> pd.DataFrame:
    recent = whole.tail(weekday.BASELINE + last)
    top, per = (recent[name].to_numpy(dtype=float) for name in ("top", "per"))
    table = _table(recent["day"], recent["value"].to_numpy(dtype=float))
    found = []
    for place in range(len(recent)):
        past = slice(max(0, place - weekday.BASELINE), place)
        enough = place >= weekday.BASELINE
        found.append(rates.by_weekday(top[past], per[past], per[place]) if enough else (np.nan, np.nan))
    short = np.arange(len(recent)) < weekday.BASELINE
    reason = np.where(short, f"fewer than {weekday.BASELINE} days before it", "")
    return _bounded(table, np.array(found), top, per, reason).tail(last)


def _bounded(table: pd.DataFrame, found: Floats, top: Floats, per: Floats, reason: Any) -> pd.DataFrame:
    """Limits of shares from their expected values and errors."""
    middle, error = found[:, 0], found[:, 1]
    table["expected"] = middle
    table["low"] = np.maximum(middle - REACH * error, 0)
    high = middle + REACH * error
    table["high"] = np.minimum(high, 1) if (top <= per).all() else high
    with np.errstate(all="ignore"):
        table["p_value"] = 2 * _stats.norm.sf(np.abs(table["observed"].to_numpy(dtype=float) - middle) / error)
    few = np.isnan(error) | (error <= 0) | table["observed"].isna().to_numpy()
    return _unjudged(
        table, np.where(reason != "", reason, np.where(few, "too few events for a share to be judged", ""))
    )


def _weeks(weeks: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Every week with what the weeks before it expect of it; a gap among weeks starts anew."""
    table = _table(weeks["at"], weeks["value"].to_numpy(dtype=float))
    top, per, n = (weeks[name].to_numpy(dtype=float) for name in ("top", "per", "n"))
    if series.kind not in RATIOS and (top < 0).any():
        return table.assign(reason="values below 0 have no logarithm")
    is_log = series.kind not in RATIOS
    values = np.log(np.maximum(top, 0.5)) if is_log else table["observed"].to_numpy(dtype=float)
    reasons = np.full(len(weeks), "", dtype=object)
    found = np.full((len(weeks), 2), np.nan)
    for week in range(len(weeks)):
        past = slice(max(0, week - xmr.BASELINE), week)
        if week - past.start < xmr.FEWEST:
            reasons[week] = f"fewer than {xmr.FEWEST} weeks before it"
        elif series.kind == "share":
            found[week] = rates.expected(top[past], per[past], per[week])
        elif is_log and float(np.median(n[past])) < ENOUGH:
            reasons[week] = f"fewer than {ENOUGH:.0f} in a usual week"
        elif not is_log and (per[past].min() < ANSWERS or per[week] < ANSWERS):
            reasons[week] = f"fewer than {ANSWERS} answers in a week"
        else:
            usual = values[past]
            if is_log:  # a week without anything is a gap in the data, no measure for others
                usual = usual[top[past] > 0]
            found[week] = xmr.expected(usual) if len(usual) >= xmr.FEWEST else (np.nan, np.nan)
            if np.isnan(found[week, 0]):
                reasons[week] = f"fewer than {xmr.FEWEST} weeks with a value before it"
            elif found[week, 1] <= 0:
                reasons[week] = "it never varied, so nothing tells what chance does"
    if series.kind == "share":
        return _bounded(table, found, top, per, reasons)
    middle, error = found[:, 0], found[:, 1]
    turn = (lambda x: np.exp(x) / 7) if is_log else (lambda x: x)
    table["expected"] = turn(middle)
    table["low"], table["high"] = turn(middle - REACH * error), turn(middle + REACH * error)
    with np.errstate(all="ignore"):
        table["p_value"] = 2 * _stats.norm.sf(np.abs(values - middle) / error)
    return _unjudged(table, reasons)
