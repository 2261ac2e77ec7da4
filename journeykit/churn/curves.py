"""How long people stay: Kaplan–Meier curves, medians and restricted means, with their intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times
from scipy import stats as _stats

from journeykit.errors import require_columns
from journeykit.stats import flat_ends, not_enough

Z95 = float(_stats.norm.ppf(0.975))
MIN_ENDS = 10  # with fewer, the error of a restricted mean is too uncertain for an interval
CURVE_COLUMNS = ("segment", "day", "at_risk_n", "survival_share", "survival_share_low", "survival_share_high")
MEDIAN_COLUMNS = ("segment", "n", "ended_n", "median_days", "median_days_low", "median_days_high")
MEAN_COLUMNS = (
    *("segment", "n", "ended_n", "horizon_days"),
    *("restricted_mean_days", "restricted_mean_days_low", "restricted_mean_days_high", "standard_error_days"),
)


def survival_curve(
    spells: pd.DataFrame, *, by: bool = False, times: Sequence[float] | None = None, min_n: int = 20
) -> pd.DataFrame:
    """Return the share still there after each day (Kaplan–Meier), with pointwise 95 % intervals (log-log).

    Censored people count in the denominator while they are observed. A point is shown only while at least `min_n`
    people are at risk, because the tail of such a curve moves by leaps; segments of fewer people are left out (said
    in `.attrs["note"]`). Where the log-log interval is undefined, before the first end and after the last, the bound
    is Wilson's (`stats.flat_ends`). `times` are days; by default every day (at most about 366 points).

    One row per segment and day: segment, day, at_risk_n (observed for at least so long), survival_share, low, high.
    Kaplan & Meier (1958); interval as in lifelines and Kalbfleisch & Prentice (1980).

    >>> people = pd.DataFrame({"duration_days": [1.0, 2.0, 3.0, 4.0], "ended": [1, 0, 1, 0]})
    >>> survival_curve(people, times=[1, 3], min_n=1)["survival_share"].round(3).tolist()
    [0.75, 0.375]
    """
    groups, note = groups_of(spells, by, min_n)
    if not groups:
        return not_enough(CURVE_COLUMNS, note)
    longest = max(float(group["duration_days"].max()) for _, group in groups)
    step = max(1, math.ceil(longest / 366))
    days = whole(np.asarray(times if times is not None else range(0, math.floor(longest) + 1, step), dtype=float))
    parts = []
    for name, group in groups:
        fit = kaplan_meier(group)
        duration = np.sort(group["duration_days"].to_numpy(float))
        at_risk = len(duration) - np.searchsorted(duration, days, side="left")
        bounds = fit.confidence_interval_survival_function_
        place = np.searchsorted(bounds.index.to_numpy(float), days, side="right") - 1
        share = fit.survival_function_.iloc[:, 0].to_numpy(float)[place]
        low, high = (bounds.iloc[:, side].to_numpy(float)[place] for side in (0, 1))
        low, high = flat_ends(days, share, low, high, at_risk, int(group["ended"].sum()))
        part = pd.DataFrame(
            {
                "segment": name,
                "day": days,
                "at_risk_n": at_risk,
                "survival_share": share,
                "survival_share_low": low,
                "survival_share_high": high,
            }
        )
        parts.append(part[part["at_risk_n"] >= max(min_n, 1)])
    result = pd.concat(parts, ignore_index=True)
    if result.empty:
        return not_enough(CURVE_COLUMNS, f"not enough data (fewer than {min_n} people were observed for so long)")
    result.attrs["note"] = note
    return result


def median_table(spells: pd.DataFrame, *, by: bool = False, min_n: int = 20) -> pd.DataFrame:
    """Return the day by which half have left, with its 95 % interval; empty (NaN) where half never left in sight.

    One row per segment: segment, n, ended_n, median_days, median_days_low, median_days_high. The interval inverts the
    curve's log-log band (Brookmeyer & Crowley 1982).

    >>> people = pd.DataFrame({"duration_days": [1.0, 2.0, 3.0, 4.0], "ended": [1, 1, 1, 0]})
    >>> median_table(people, min_n=1)["median_days"].tolist()
    [2.0]
    """
    groups, note = groups_of(spells, by, min_n)
    rows = []
    for name, group in groups:
        fit = kaplan_meier(group)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            low, high = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy(float))
        numbers = [fit.median_survival_time_, low, high]
        finite = [float(x) if math.isfinite(x) else float("nan") for x in numbers]
        rows.append((name, len(group), int(group["ended"].sum()), *finite))
    return result_of(rows, MEDIAN_COLUMNS, note)


def restricted_mean(spells: pd.DataFrame, horizon: float, *, by: bool = False, min_n: int = 20) -> pd.DataFrame:
    """Return the mean days stayed within the first `horizon` days, with its 95 % interval.

    It is the area under the Kaplan–Meier curve up to the horizon: it exists even when half never leave, and two of
    them compare without assuming proportional hazards. The variance is that of the estimator,
    Var = Σ_{tᵢ≤τ} [∫_{tᵢ}^τ Ŝ]² dᵢ/(nᵢ(nᵢ−dᵢ)), not that of min(T, τ). A horizon beyond what every segment was observed
    for is cut back to it, and `horizon_days` says so. With fewer than 10 ends within the horizon there is no interval
    (`.attrs["note"]` says so); bounds stay within 0 and the horizon. Royston & Parmar (2013); survRM2.

    One row per segment: segment, n, ended_n, horizon_days, restricted_mean_days (+low, high), standard_error_days.
    """
    groups, note = groups_of(spells, by, min_n)
    horizon = min([float(horizon), *[reach(group) for _, group in groups]])
    rows = []
    for name, group in groups:
        (mean, error), ends = area(group, horizon), ends_by(group, horizon)
        error = error if ends >= MIN_ENDS else math.nan
        bounds = np.clip([mean - Z95 * error, mean + Z95 * error], 0, horizon)
        rows.append((name, len(group), ends, horizon, mean, *bounds, error))
    if any(row[2] < MIN_ENDS for row in rows):
        note = f"{note} No interval where {few_ends(horizon)}.".strip()
    return result_of(rows, MEAN_COLUMNS, note)


def groups_of(spells: pd.DataFrame, by: bool, min_n: int) -> tuple[list[tuple[str, pd.DataFrame]], str]:
    """Split spells into segments of at least `min_n` people; say why nothing (or less) is left."""
    require_columns(spells.columns, ["duration_days", "ended", *(["segment"] if by else [])], "survival")
    clean = spells[spells["duration_days"].notna() & (spells["duration_days"] >= 0)]
    groups = [(str(name), part) for name, part in clean.groupby("segment", sort=True)] if by else [("all", clean)]
    if by and [name for name, _ in groups] == ["all"]:
        return [], "no segment is chosen; name one as “by” of [churn] in journey.toml to compare segments"
    kept = [(name, part) for name, part in groups if len(part) >= max(min_n, 1)]
    left_out = len(groups) - len(kept)
    if not kept:
        most = max([len(part) for _, part in groups], default=0)
        return [], str(spells.attrs.get("reason", "")) or f"not enough data (n = {most}, at least {min_n} are needed)"
    return kept, f"{left_out} segment{'s' * (left_out > 1)} of fewer than {min_n} people left out." if left_out else ""


def kaplan_meier(group: pd.DataFrame) -> KaplanMeierFitter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KaplanMeierFitter().fit(group["duration_days"].to_numpy(float), group["ended"].to_numpy(int))


def reach(group: pd.DataFrame) -> float:
    """The last day that the curve is known for: without limit when it ends at zero."""
    longest = group["duration_days"].max()
    last = group[group["duration_days"] == longest]
    return math.inf if (last["ended"] == 1).all() else float(longest)


def ends_by(group: pd.DataFrame, horizon: float) -> int:
    return int(((group["ended"] == 1) & (group["duration_days"] <= horizon)).sum())


def few_ends(horizon: float) -> str:
    return f"fewer than {MIN_ENDS} people had an end event within {horizon:g} days"


def area(group: pd.DataFrame, horizon: float) -> tuple[float, float]:
    """Return the area under the Kaplan–Meier curve up to the horizon, and the standard error of that area."""
    duration, ended = group["duration_days"].to_numpy(float), group["ended"].to_numpy(int)
    times, ends = np.unique(duration[(ended == 1) & (duration <= horizon)], return_counts=True)
    at_risk = len(duration) - np.searchsorted(np.sort(duration), times, side="left")
    share = np.concatenate([[1.0], np.cumprod(1 - ends / at_risk)])
    pieces = share * np.diff(np.concatenate([[0.0], times, [horizon]]))
    after = np.cumsum(pieces[::-1])[::-1][1:]
    # Where the last one at risk leaves, nothing is left under the curve: that term is 0, not 0/0.
    terms = np.where(at_risk > ends, after**2 * ends / (at_risk * np.maximum(at_risk - ends, 1)), 0.0)
    return float(pieces.sum()), float(math.sqrt(terms.sum()))


def result_of(rows: Sequence[Sequence[Any]], columns: Sequence[str], note: str) -> pd.DataFrame:
    if not rows:
        return not_enough(columns, note)
    result = pd.DataFrame(rows, columns=list(columns))
    result.attrs["note"] = note
    return result


def whole(days: Any) -> Any:
    return days.astype("int64") if np.all(days == np.floor(days)) else days
