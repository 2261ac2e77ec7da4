"""How long people stay: Kaplan–Meier curves, medians and restricted means, with their intervals.

Late entry (left truncation): a person with `entered_days` counts from then on only, at every time after it. A table
without that column is one of people who were all seen from their start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
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


@dataclass(frozen=True)
class Steps:
    """Where a Kaplan–Meier curve falls: the days of ends, how many ended, and how many were at risk just before."""

    day: np.ndarray
    ended: np.ndarray
    at_risk: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """The share still there after each day."""
        return np.cumprod(1 - self.ended / self.at_risk)

    @property
    def spread(self) -> np.ndarray:
        """Greenwood's sum Σ d/(n(n−d)), the variance of log Ŝ; infinite where the last one at risk left."""
        left = self.at_risk - self.ended
        terms = np.divide(self.ended, self.at_risk * left, out=np.full(len(left), math.inf), where=left > 0)
        return np.cumsum(terms)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The 95 % interval of the share after each day, on the scale log(−log)."""
        share = self.share
        inside = (share > 0) & (share < 1)
        logs = np.log(np.where(inside, share, 0.5))
        reach = Z95 * np.sqrt(np.where(inside, self.spread, 0.0)) / -logs
        low, high = (np.where(inside, np.exp(logs * np.exp(side * reach)), share) for side in (1, -1))
        return low, high


def survival_curve(
    spells: pd.DataFrame, *, by: bool = False, times: Sequence[float] | None = None, min_n: int = 20
) -> pd.DataFrame:
    """Return the share still there after each day (Kaplan–Meier), with pointwise 95 % intervals (log-log).

    Censored people count in the denominator while they are observed, people who came under observation late from then
    on. A point is shown only while at least `min_n` people are at risk, because the tail of such a curve moves by
    leaps; segments of fewer people are left out (said in `.attrs["note"]`). Where fewer were seen from their start,
    the curve is that of people who are still there on the first day with so many (`.attrs["from_day"]`, else 0): from
    a handful at risk it would fall to nothing by a single leaver. Where the log-log interval is undefined, before the
    first end and after the last, the bound is Wilson's (`stats.flat_ends`). `times` are days; by default every day (at
    most about 366 points).

    One row per segment and day: segment, day, at_risk_n (under observation just before it), survival_share, low, high;
    `.attrs["n"]` is the number of people. Kaplan & Meier (1958), with late entry Tsai, Jewell & Wang (1987); interval
    as in lifelines and Kalbfleisch & Prentice (1980).

    >>> people = pd.DataFrame({"duration_days": [1.0, 2.0, 3.0, 4.0], "ended": [1, 0, 1, 0]})
    >>> survival_curve(people, times=[1, 3], min_n=1)["survival_share"].round(3).tolist()
    [0.75, 0.375]
    """
    groups, note = groups_of(spells, by, min_n)
    if not groups:
        return not_enough(CURVE_COLUMNS, note)
    first = from_day(groups)
    longest = max(float(group["duration_days"].max()) for _, group in groups)
    step = max(1, math.ceil(longest / 366))
    days = np.asarray(times if times is not None else range(0, math.floor(longest) + 1, step), dtype=float)
    days = whole(days[days >= first])
    parts = []
    for name, group in groups:
        fit = steps(group)
        at_risk = under_observation(group, days)
        place = np.searchsorted(fit.day, days, side="right")
        share, low, high = (np.concatenate([[1.0], values])[place] for values in (fit.share, *fit.bounds()))
        low, high = flat_ends(days - first, share, low, high, at_risk, int(group["ended"].sum()))
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
    result.attrs |= {"note": note, "from_day": first, "n": sum(len(group) for _, group in groups)}
    return result


def median_table(spells: pd.DataFrame, *, by: bool = False, min_n: int = 20) -> pd.DataFrame:
    """Return the day by which half have left, with its 95 % interval; empty (NaN) where half never left in sight.

    One row per segment: segment, n, ended_n, median_days, median_days_low, median_days_high. The interval inverts the
    curve's log-log band (Brookmeyer & Crowley 1982). With late entry, as `survival_curve` says: of those still there on
    `.attrs["from_day"]`; the days count from the start all the same.

    >>> people = pd.DataFrame({"duration_days": [1.0, 2.0, 3.0, 4.0], "ended": [1, 1, 1, 0]})
    >>> median_table(people, min_n=1)["median_days"].tolist()
    [2.0]
    """
    groups, note = groups_of(spells, by, min_n)
    rows = []
    for name, group in groups:
        fit = steps(group)
        finite = [first_below(fit.day, values) for values in (fit.share, *fit.bounds())]
        rows.append((name, len(group), int(group["ended"].sum()), *finite))
    return result_of(rows, MEDIAN_COLUMNS, note, from_day(groups))


def restricted_mean(spells: pd.DataFrame, horizon: float, *, by: bool = False, min_n: int = 20) -> pd.DataFrame:
    """Return the mean days stayed within the first `horizon` days, with its 95 % interval.

    It is the area under the Kaplan–Meier curve up to the horizon: it exists even when half never leave, and two of
    them compare without assuming proportional hazards. The variance is that of the estimator,
    Var = Σ_{tᵢ≤τ} [∫_{tᵢ}^τ Ŝ]² dᵢ/(nᵢ(nᵢ−dᵢ)), not that of min(T, τ). A horizon beyond what every segment was observed
    for is cut back to it, and `horizon_days` says so. With late entry it counts the days from `.attrs["from_day"]` on,
    of those still there then. With fewer than 10 ends within the horizon there is no interval (`.attrs["note"]` says
    so); bounds stay within 0 and the horizon. Royston & Parmar (2013); survRM2.

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
    return result_of(rows, MEAN_COLUMNS, note, from_day(groups))


def groups_of(spells: pd.DataFrame, by: bool, min_n: int) -> tuple[list[tuple[str, pd.DataFrame]], str]:
    """Split spells into segments of at least `min_n` people; say why nothing (or less) is left.

    With late entry all segments begin on the first day on which each of them has `min_n` people at risk (`from_day`).
    """
    require_columns(spells.columns, ["duration_days", "ended", *(["segment"] if by else [])], "survival")
    entered = entries(spells)
    duration = spells["duration_days"].to_numpy(float)
    clean = spells[(duration >= 0) & ((duration > entered) | (entered <= 0))]
    groups = [(str(name), part) for name, part in clean.groupby("segment", sort=True)] if by else [("all", clean)]
    if by and [name for name, _ in groups] == ["all"]:
        return [], "no segment is chosen; name one as “by” of [churn] in journey.toml to compare segments"
    kept = [(name, part) for name, part in groups if len(part) >= max(min_n, 1)]
    first = max([_enough_from(part, max(min_n, 1)) for _, part in kept], default=0.0)
    if first > 0:
        kept = [(name, _still_there(part, first)) for name, part in kept]
        kept = [(name, part) for name, part in kept if len(part) >= max(min_n, 1)]
    left_out = len(groups) - len(kept)
    if not kept:
        most = max([len(part) for _, part in groups], default=0)
        return [], str(spells.attrs.get("reason", "")) or f"not enough data (n = {most}, at least {min_n} are needed)"
    note = f"{left_out} segment{'s' * (left_out > 1)} of fewer than {min_n} people left out." if left_out else ""
    if first > 0:
        since = f"Too few people were seen from their start: the figures are of those still there on day {first:g}."
        note = f"{note} {since}".strip()
    return kept, note


def from_day(groups: Sequence[tuple[str, pd.DataFrame]]) -> float:
    """The tenure from which the figures of groups count: 0 unless too few people were seen from their start."""
    return max([float(group.attrs.get("from_day", 0.0)) for _, group in groups], default=0.0)


def entries(group: pd.DataFrame) -> np.ndarray:
    """The tenure at which each person came under observation; 0 where a table does not say."""
    if "entered_days" not in group.columns:
        return np.zeros(len(group))
    return np.maximum(np.nan_to_num(group["entered_days"].to_numpy(float)), 0.0)


def under_observation(group: pd.DataFrame, days: np.ndarray) -> np.ndarray:
    """How many people are at risk just before each day: there, and under observation, entered before it."""
    entered, first = entries(group), float(group.attrs.get("from_day", 0.0))
    entered = np.sort(np.where(entered <= first, -1.0, entered))  # from the start on means at every time
    gone = np.searchsorted(np.sort(group["duration_days"].to_numpy(float)), days, side="left")
    return np.asarray(np.searchsorted(entered, days, side="left") - gone)


def steps(group: pd.DataFrame, until: float = math.inf) -> Steps:
    """Return where the Kaplan–Meier curve of a group falls, up to a day."""
    duration, ended = group["duration_days"].to_numpy(float), group["ended"].to_numpy(int)
    day, ends = np.unique(duration[(ended == 1) & (duration <= until)], return_counts=True)
    return Steps(day, ends, under_observation(group, day))


def first_below(day: np.ndarray, values: np.ndarray, level: float = 0.5) -> float:
    """The first day on which a falling curve is at or below a level; nan where it never is."""
    below = np.flatnonzero(values <= level + 1e-12)
    return float(day[below[0]]) if len(below) else math.nan


def _enough_from(group: pd.DataFrame, min_n: int) -> float:
    """The first day from which at least `min_n` people are at risk until most are; 0 without late entry."""
    entered, duration = entries(group), group["duration_days"].to_numpy(float)
    if not (entered > 0).any():
        return 0.0
    days = np.unique(np.concatenate([[0.0], entered, duration]))
    there = np.searchsorted(np.sort(entered), days, side="right") - np.searchsorted(np.sort(duration), days, "right")
    peak = int(np.argmax(there))
    few = np.flatnonzero(there[:peak] < min_n)
    first = float(days[few[-1] + 1]) if len(few) else 0.0
    return float(math.ceil(first)) if days[-1] >= 10 else first


def _still_there(group: pd.DataFrame, first: float) -> pd.DataFrame:
    part = group[group["duration_days"] > first]
    part = part.assign(entered_days=np.maximum(entries(part), first))
    part.attrs = {**group.attrs, "from_day": first}
    return part


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
    fit, first = steps(group, horizon), float(group.attrs.get("from_day", 0.0))
    share = np.concatenate([[1.0], fit.share])
    pieces = share * np.diff(np.concatenate([[first], fit.day, [max(horizon, first)]]))
    after = np.cumsum(pieces[::-1])[::-1][1:]
    # Where the last one at risk leaves, nothing is left under the curve: that term is 0, not 0/0.
    left = fit.at_risk - fit.ended
    terms = np.where(left > 0, after**2 * fit.ended / (fit.at_risk * np.maximum(left, 1)), 0.0)
    return float(pieces.sum()), float(math.sqrt(terms.sum()))


def result_of(rows: Sequence[Sequence[Any]], columns: Sequence[str], note: str, first: float = 0.0) -> pd.DataFrame:
    if not rows:
        return not_enough(columns, note)
    result = pd.DataFrame(rows, columns=list(columns))
    result.attrs |= {"note": note, "from_day": first}
    return result


def whole(days: Any) -> Any:
    return days.astype("int64") if np.all(days == np.floor(days)) else days
