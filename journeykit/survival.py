"""How long people stay: spells from events, Kaplan–Meier curves, restricted means, leaving by tenure.

A spell runs from a person's first start event to the first end event after it. People who have not ended when
observation stops are *censored*: they count as present for as long as they were seen, never as stayers for good.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import median_survival_times
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import engine
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import flat_ends, not_enough

DAY_US, UNKNOWN = 86_400_000_000, "unknown"  # the segment of people of whom none was recorded
Z95 = float(_stats.norm.ppf(0.975))
MIN_ENDS = 10  # with fewer, the error of a restricted mean is too uncertain for an interval
SPELL_COLUMNS = ("person_id", "started_at", "duration_days", "ended", "segment")
CURVE_COLUMNS = ("segment", "day", "at_risk_n", "survival_share", "survival_share_low", "survival_share_high")
MEDIAN_COLUMNS = ("segment", "n", "ended_n", "median_days", "median_days_low", "median_days_high")
MEAN_COLUMNS = (
    *("segment", "n", "ended_n", "horizon_days"),
    *("restricted_mean_days", "restricted_mean_days_low", "restricted_mean_days_high", "standard_error_days"),
)
COMPARE_COLUMNS = (
    *("segment", "reference", "n", "reference_people_n", "horizon_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)
HAZARD_COLUMNS = (
    *("from_day", "to_day", "at_risk_n", "ended_n"),
    *("leaving_share", "leaving_share_low", "leaving_share_high"),
)


def spells(touches: Any, *, start: Sequence[str], end: Sequence[str], as_of: Any, by: str = "") -> pd.DataFrame:
    """Return how long each person stayed, from the first start event to the first end event after it.

    Only the first start counts (a person who comes back is not a second customer); an end before it is ignored.
    Without an end by `as_of` the spell is censored there. `start=[]` starts at the person's first event of any kind,
    which turns the same table into time to first purchase; an end event may then be that first event (0 days).
    Events after `as_of` are ignored.

    Needs `person_id`, `event`, `timestamp` and the columns of the total order; `by` names a column (the prefix
    `segment_` may be left out) whose last value known by the start event becomes `segment`, "unknown" when there is
    none. What becomes known later is not used: it would depend on how long the person stayed.

    One row per person with a start: person_id, started_at, duration_days (fractional), ended (0 or 1), segment;
    sorted by person_id.

    Raises:
        JourneyError: a column is missing, no end event is named, or an event both starts and ends.
    """
    both = sorted(set(start) & set(end))
    if not end or both:
        problem = f"{both[0]!r} both starts and ends a spell" if both else "no end event is named"
        raise JourneyError(f"churn: {problem}. Start and end must be different events; name at least one end event.")
    t = engine.lazy(touches)
    columns = t.collect_schema().names()
    by = f"segment_{by}" if by and by not in columns and f"segment_{by}" in columns else by
    require_columns(columns, ["person_id", "event", *engine.ORDER, *([by] if by else [])], "churn")
    until = microseconds(as_of)
    t = t.filter(nw.col("time_us") <= until, ~nw.col("person_id").is_null())
    if by:
        known = nw.col(by).fill_null(strategy="forward").over("person_id", order_by=list(engine.ORDER))
        t = t.with_columns(_known=known)
    if start:
        t = t.filter(nw.col("event").is_in([*start, *end]))
    t = t.with_columns(_starts=nw.col("event").is_in(list(start)).cast(nw.Int64) if start else nw.lit(1, nw.Int64))
    t = t.with_columns(_started=nw.col("_starts").cum_sum().over("person_id", order_by=list(engine.ORDER)))
    first = (nw.col("_starts") == 1) & (nw.col("_started") == 1)
    ends = nw.col("event").is_in(list(end)) & (nw.col("_started") >= 1)
    found = t.with_columns(
        _start_us=nw.when(first).then(nw.col("time_us")),
        _end_us=nw.when(ends).then(nw.col("time_us")),
        _segment=nw.when(first).then(nw.col("_known")) if by else nw.lit(None, nw.String),
    )
    table = engine.fetch(
        found.group_by("person_id")
        .agg(nw.col("_start_us").min(), nw.col("_end_us").min(), nw.col("_segment").max())
        .filter(~nw.col("_start_us").is_null()),
        limit=20_000_000,
    )
    if table.empty:
        what = " or ".join(start) if start else "of any kind"
        return not_enough(SPELL_COLUMNS, f"not enough data (n = 0 people with an event {what})")
    began = table["_start_us"].astype("int64")
    ended = table["_end_us"].notna()
    over = table["_end_us"].where(ended, until).astype("int64")
    result = pd.DataFrame(
        {
            "person_id": table["person_id"],
            "started_at": pd.to_datetime(began, unit="us"),
            "duration_days": (over - began) / DAY_US,
            "ended": ended.astype("int64"),
            "segment": table["_segment"].astype("object").where(table["_segment"].notna(), UNKNOWN) if by else "all",
        }
    )
    return result.sort_values("person_id", ignore_index=True)


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
    groups, note = _groups(spells, by, min_n)
    if not groups:
        return not_enough(CURVE_COLUMNS, note)
    longest = max(float(group["duration_days"].max()) for _, group in groups)
    step = max(1, math.ceil(longest / 366))
    days = _whole(np.asarray(times if times is not None else range(0, math.floor(longest) + 1, step), dtype=float))
    parts = []
    for name, group in groups:
        fit = _kaplan_meier(group)
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
    groups, note = _groups(spells, by, min_n)
    rows = []
    for name, group in groups:
        fit = _kaplan_meier(group)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            low, high = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy(float))
        numbers = [fit.median_survival_time_, low, high]
        finite = [float(x) if math.isfinite(x) else float("nan") for x in numbers]
        rows.append((name, len(group), int(group["ended"].sum()), *finite))
    return _result(rows, MEDIAN_COLUMNS, note)


def restricted_mean(spells: pd.DataFrame, horizon: float, *, by: bool = False, min_n: int = 20) -> pd.DataFrame:
    """Return the mean days stayed within the first `horizon` days, with its 95 % interval.

    It is the area under the Kaplan–Meier curve up to the horizon: it exists even when half never leave, and two of
    them compare without assuming proportional hazards. The variance is that of the estimator,
    Var = Σ_{tᵢ≤τ} [∫_{tᵢ}^τ Ŝ]² dᵢ/(nᵢ(nᵢ−dᵢ)), not that of min(T, τ). A horizon beyond what every segment was observed
    for is cut back to it, and `horizon_days` says so. With fewer than 10 ends within the horizon there is no interval
    (`.attrs["note"]` says so); bounds stay within 0 and the horizon. Royston & Parmar (2013); survRM2.

    One row per segment: segment, n, ended_n, horizon_days, restricted_mean_days (+low, high), standard_error_days.
    """
    groups, note = _groups(spells, by, min_n)
    horizon = min([float(horizon), *[_reach(group) for _, group in groups]])
    rows = []
    for name, group in groups:
        (mean, error), ends = _area(group, horizon), _ends(group, horizon)
        error = error if ends >= MIN_ENDS else math.nan
        bounds = np.clip([mean - Z95 * error, mean + Z95 * error], 0, horizon)
        rows.append((name, len(group), ends, horizon, mean, *bounds, error))
    if any(row[2] < MIN_ENDS for row in rows):
        note = f"{note} No interval where {_few(horizon)}.".strip()
    return _result(rows, MEAN_COLUMNS, note)


def compare_segments(spells: pd.DataFrame, horizon: float, *, min_n: int = 20) -> pd.DataFrame:
    """Return how many days more or fewer each segment stays than the largest one, and the log-rank test.

    The difference is one of restricted means up to `horizon` (see `restricted_mean`). `p_value` is the log-rank
    test's, by Holm's method over the comparisons. `.attrs` holds the test of all segments at once ("logrank_chi2",
    "logrank_p_value"). Segments may differ in other ways too. People of unknown segment, and segments with fewer than
    10 ends within the horizon, are not compared, but noted.

    One row per segment other than the reference, sorted by segment.
    """
    groups, note = _groups(spells, True, min_n)
    unknown = sum(len(group) for name, group in groups if name == UNKNOWN)
    groups = [(name, group) for name, group in groups if name != UNKNOWN]
    if len(groups) < 2:
        return not_enough(COMPARE_COLUMNS, note or f"not enough data (n = {len(groups)}, at least 2 are needed)")
    note = f"{note} {unknown:,} people of unknown segment are not compared.".strip() if unknown else note
    horizon = min([float(horizon), *[_reach(group) for _, group in groups]])
    kept = [(name, group) for name, group in groups if _ends(group, horizon) >= MIN_ENDS]
    if left_out := len(groups) - len(kept):
        note = f"{note} {left_out} segment{'s' * (left_out > 1)} left out: {_few(horizon)}.".strip()
    if len(kept) < 2:
        return not_enough(COMPARE_COLUMNS, f"not enough data ({note.rstrip('.')})")
    reference, base = max(kept, key=lambda item: len(item[1]))
    base_mean, base_error = _area(base, horizon)
    rows, p_values = [], []
    for name, group in kept:
        if name == reference:
            continue
        mean, error = _area(group, horizon)
        gap, half = mean - base_mean, Z95 * math.hypot(error, base_error)
        p_values.append(_log_rank(pd.concat([group, base]))[1])
        bounds = np.clip([gap - half, gap + half], -horizon, horizon)
        rows.append([name, reference, len(group), len(base), horizon, gap, *bounds])
    adjusted = multipletests(p_values, method="holm")[1]
    result = _result([(*row, p) for row, p in zip(rows, adjusted, strict=True)], COMPARE_COLUMNS, note)
    result.attrs["logrank_chi2"], result.attrs["logrank_p_value"] = _log_rank(pd.concat([group for _, group in kept]))
    return result


def leaving_by_tenure(
    spells: pd.DataFrame, *, width: float = 30.0, horizon: float = math.inf, min_n: int = 20
) -> pd.DataFrame:
    """Return the chance of leaving in each period of tenure, for those who are there at its start.

    Ends divided by person-days give a constant rate in the period; the chance of leaving over the whole period is
    1 − exp(−rate × width), with an exact Poisson interval (Garwood 1936) carried through. Periods with fewer than
    `min_n` people at their start are left out.

    One row per period: from_day, to_day, at_risk_n, ended_n, leaving_share, leaving_share_low, leaving_share_high.
    """
    groups, note = _groups(spells, False, min_n)
    if not groups:
        return not_enough(HAZARD_COLUMNS, note)
    duration = groups[0][1]["duration_days"].to_numpy(float)
    ended = groups[0][1]["ended"].to_numpy() == 1
    rows = []
    for begin in np.arange(0.0, min(float(duration.max()), horizon), width):
        close = float(begin) + width
        # A period owns the moments after its start up to its end, so that an end on its last day counts in it.
        there = duration > begin if begin > 0 else duration >= 0
        exposure = float(np.clip(duration[there] - begin, 0, width).sum())
        ends = int((ended & there & (duration <= close)).sum())
        if there.sum() < min_n or exposure <= 0:
            continue
        low = float(_stats.chi2.ppf(0.025, 2 * ends)) / 2 if ends else 0.0
        high = float(_stats.chi2.ppf(0.975, 2 * ends + 2)) / 2
        shares = [1 - math.exp(-k / exposure * width) for k in (ends, low, high)]
        rows.append((float(begin), close, int(there.sum()), ends, *shares))
    nothing = "not enough data (nobody was observed for any length of time)"
    result = _result(rows, HAZARD_COLUMNS, note if rows else nothing)
    return result.assign(from_day=_whole(result["from_day"]), to_day=_whole(result["to_day"]))


def _groups(spells: pd.DataFrame, by: bool, min_n: int) -> tuple[list[tuple[str, pd.DataFrame]], str]:
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


def _kaplan_meier(group: pd.DataFrame) -> KaplanMeierFitter:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KaplanMeierFitter().fit(group["duration_days"].to_numpy(float), group["ended"].to_numpy(int))


def _reach(group: pd.DataFrame) -> float:
    """The last day that the curve is known for: without limit when it ends at zero."""
    longest = group["duration_days"].max()
    last = group[group["duration_days"] == longest]
    return math.inf if (last["ended"] == 1).all() else float(longest)


def _ends(group: pd.DataFrame, horizon: float) -> int:
    return int(((group["ended"] == 1) & (group["duration_days"] <= horizon)).sum())


def _few(horizon: float) -> str:
    return f"fewer than {MIN_ENDS} people had an end event within {horizon:g} days"


def _area(group: pd.DataFrame, horizon: float) -> tuple[float, float]:
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


def _log_rank(table: pd.DataFrame) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = multivariate_logrank_test(table["duration_days"], table["segment"], table["ended"])
    return float(test.test_statistic), float(test.p_value)


def _result(rows: Sequence[Sequence[Any]], columns: Sequence[str], note: str) -> pd.DataFrame:
    if not rows:
        return not_enough(columns, note)
    result = pd.DataFrame(rows, columns=list(columns))
    result.attrs["note"] = note
    return result


def _whole(days: Any) -> Any:
    return days.astype("int64") if np.all(days == np.floor(days)) else days
