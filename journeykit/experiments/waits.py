"""Time until an event in two arms: restricted means and the log-rank test, with censoring."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from lifelines.statistics import logrank_test
from scipy import stats as _stats

from journeykit.config import Metric
from journeykit.experiments.arms import Array
from journeykit.experiments.estimates import FEW_EVENTS, Estimate
from journeykit.experiments.measures import EVENT
from journeykit.experiments.units import CLUSTER

Z95 = float(_stats.norm.ppf(0.975))


class Mean(NamedTuple):
    """A restricted mean, the standard error of it, and each unit's part in it (they sum to 0)."""

    days: float
    error: float
    parts: Array


def compare(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric) -> Estimate:
    """Return the difference of the mean days until the event within the horizon, over everybody exposed.

    The restricted mean is the area under the Kaplan–Meier curve: who has no event yet counts for as long as observed,
    and who never has one for the whole horizon. The horizon is the window, or less where an arm was observed for less.
    It needs no proportional hazards; the log-rank test, which is most sensitive to them, is given beside it, but the
    p-value is the restricted mean's, so that it agrees with the interval. With a `cluster` the error is taken from the
    sums of the units' parts over clusters. Royston & Parmar (2013); Tian, Zhao & Wei (2014).

    Args:
        control: units of the control arm: the metric in days, `<metric>__event`, and optionally cluster.
        treatment: those of the other arm.
        metric: of kind "time".
    """
    sides = [observed(side, metric) for side in (control, treatment)]
    horizon = min(float(days.max()) for days, _ in sides)
    base, other = (restricted_mean(days, came, horizon) for days, came in sides)
    clustered, clusters_n, df = CLUSTER in control.columns, 0, math.inf
    errors = [base.error, other.error]
    if clustered:
        sizes = [side[CLUSTER].nunique() for side in (control, treatment)]
        errors = [_by_cluster(mean, side) for mean, side in zip((base, other), (control, treatment), strict=True)]
        clusters_n, df = sum(sizes), float(min(sizes) - 1)
    error = math.hypot(*errors)
    effect = other.days - base.days
    reach = error * float(_stats.t.ppf(0.975, df))
    log_error = math.hypot(errors[0] / base.days, errors[1] / other.days) * float(_stats.t.ppf(0.975, df))
    change = other.days / base.days
    test = logrank_test(sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    return Estimate(
        n=(len(control), len(treatment)),
        means=(base.days, other.days),
        interval=(effect - reach, effect + reach),
        p_value=float(2 * _stats.t.sf(abs(effect) / error, df)),
        method=f"restricted mean, {horizon:g} days" + (f", over {clusters_n} clusters" if clustered else ""),
        df=df,
        relative=(change - 1, change * math.exp(-log_error) - 1, change * math.exp(log_error) - 1),
        clusters_n=clusters_n,
        log_rank_p_value=math.nan if clustered else float(test.p_value),
    )


def observed(rows: pd.DataFrame, metric: Metric) -> tuple[Array, Array]:
    """Return the days that units were observed for, and 1 where the event ended them."""
    return rows[metric.name].to_numpy(float), rows[metric.name + EVENT].to_numpy(float)


def problem(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric) -> str:
    """Say why two arms cannot be compared, or return ""."""
    sides = [observed(side, metric) for side in (control, treatment)]
    ends = min(int(came.sum()) for _, came in sides)
    if ends < FEW_EVENTS:
        return f"not enough data ({ends} people of an arm had the event, at least {FEW_EVENTS} are needed)"
    horizon = min(float(days.max()) for days, _ in sides)
    if horizon <= 0 or not any(restricted_mean(days, came, horizon).error for days, came in sides):
        return "all events come at the same time within an arm, so there is nothing to estimate an interval from"
    return ""


def restricted_mean(days: Array, came: Array, horizon: float) -> Mean:
    """Return the area under the Kaplan–Meier curve up to the horizon.

    >>> mean = restricted_mean(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 0, 1, 0]), 4.0)
    >>> round(mean.days, 3)  # 1 + 2 · 0.75 + 1 · 0.375
    2.875
    """
    times, ends = np.unique(days[(came == 1) & (days <= horizon)], return_counts=True)
    at_risk = len(days) - np.searchsorted(np.sort(days), times, side="left")
    share = np.concatenate([[1.0], np.cumprod(1 - ends / at_risk)])
    pieces = share * np.diff(np.concatenate([[0.0], times, [horizon]]))
    after = np.cumsum(pieces[::-1])[::-1][1:]
    # Where the last one at risk leaves, nothing is left under the curve: that term is 0, not 0/0.
    left = np.maximum(at_risk - ends, 1)
    error = math.sqrt(float(np.where(at_risk > ends, after**2 * ends / (at_risk * left), 0.0).sum()))
    # A unit's part: −∫ (area left) dM / (share at risk), M its events less those that were expected of it.
    hazard = np.concatenate([[0.0], np.cumsum(after * ends / at_risk * len(days) / at_risk)])
    known = np.searchsorted(times, np.minimum(days, horizon), side="right")
    expected = hazard[known]
    hit = np.zeros(len(days))
    ended = (came == 1) & (days <= horizon)
    place = np.searchsorted(times, days[ended])
    hit[ended] = after[place] * len(days) / at_risk[place]
    return Mean(float(pieces.sum()), error, (expected - hit) / len(days))


def _by_cluster(mean: Mean, rows: pd.DataFrame) -> float:
    codes, names = pd.factorize(rows[CLUSTER], sort=True)
    sums, n = np.bincount(codes, weights=mean.parts), len(names)
    return math.sqrt(n / (n - 1) * float((sums**2).sum()))
