"""Whether predicted chances come true: bands of predicted risk against what happened, and two summary figures."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from scipy import stats as _stats

from journeykit.churn import metrics
from journeykit.stats import flat_ends, not_enough

BAND_COLUMNS = (
    *("band", "from_share", "to_share", "n", "left_n", "expected_share"),
    *("observed_share", "observed_share_low", "observed_share_high"),
)


def bands(
    duration: np.ndarray, ended: np.ndarray, leaves: np.ndarray, at: float, *, groups: int = 10, min_n: int = 20
) -> pd.DataFrame:
    """Return predicted against observed leaving within `at` days, in bands of predicted risk.

    About `groups` bands of equally many people; people of one predicted risk are never parted, and no band has fewer
    than `min_n`, so that there may be fewer bands. What happened is 1 − Kaplan–Meier at `at` with its 95 % interval
    (log-log; Wilson's where nobody or everybody left). Rival: a smoothed curve, which hides how few people it rests on.

    Args:
        duration: days from the prediction to leaving or to the end of observation.
        ended: 1 for those who left.
        leaves: predicted probability to leave within `at`.
        at: days ahead.
        groups: bands wanted.
        min_n: smallest band.

    Returns:
        One row per band, the lowest risk first: band (1, 2, …), from_share and to_share (the predicted risks in it), n,
        left_n (seen to leave), expected_share (mean predicted), observed_share (+low, high).

    >>> risk = np.repeat([0.1, 0.5], 50)
    >>> ended = np.r_[np.repeat([1, 0], [5, 45]), np.repeat([1, 0], [25, 25])]
    >>> bands(np.where(ended == 1, 3.0, 9.0), ended, risk, 9.0)[["n", "expected_share", "observed_share"]].round(2)
        n  expected_share  observed_share
    0  50             0.1             0.1
    1  50             0.5             0.5
    """
    n = len(leaves)
    if n < max(min_n, 1):
        return not_enough(BAND_COLUMNS, f"not enough data (n = {n}, at least {min_n} are needed)")
    values, place, sizes = np.unique(leaves, return_inverse=True, return_counts=True)
    band_of, band, filled = np.zeros(len(values), dtype=int), 0, 0
    least = max(min_n, n / groups)
    for number, size in enumerate(sizes):
        # By half a person: rounding must not give a band one person more than the next.
        if filled + 0.5 >= least and sizes[number:].sum() >= min(least / 2, n) and sizes[number:].sum() >= min_n:
            band, filled = band + 1, 0
        band_of[number] = band
        filled += size
    of = band_of[place]
    rows = []
    for number in range(band + 1):
        mine = of == number
        left = int((mine & (ended == 1) & (duration <= at)).sum())
        observed = left_by(duration[mine], ended[mine], at)
        predicted = (leaves[mine].min(), leaves[mine].max(), int(mine.sum()), left, leaves[mine].mean())
        rows.append((number + 1, *predicted, *observed))
    return pd.DataFrame(rows, columns=list(BAND_COLUMNS))


def left_by(duration: np.ndarray, ended: np.ndarray, at: float) -> tuple[float, float, float]:
    """Return the share who left by a day, 1 − Kaplan–Meier, with its 95 % interval."""
    fit = KaplanMeierFitter().fit(duration, ended)
    bounds = fit.confidence_interval_survival_function_
    place = int(np.searchsorted(bounds.index.to_numpy(float), at, side="right")) - 1
    share = fit.survival_function_.iloc[[place], 0].to_numpy(float)
    low, high = (bounds.iloc[[place], side].to_numpy(float) for side in (0, 1))
    observed = np.array([max(1, int((duration >= at).sum()))])
    low, high = flat_ends(np.array([at]), share, low, high, observed, int(ended.sum()))
    return float(1 - share[0]), float(1 - high[0]), float(1 - low[0])


def expected_to_observed(
    duration: np.ndarray, ended: np.ndarray, leaves: np.ndarray, at: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return expected over observed leavers within `at` for each row of weights: 1 is right, above 1 is too gloomy.

    Who left counts 1/G(T−), so that those censored earlier are made up for; NaN when nobody left.

    >>> expected_to_observed(np.array([1.0, 5.0]), np.array([1, 0]), np.array([0.6, 0.6]), 5.0).tolist()
    [1.2]
    """
    rows = np.ones((1, len(duration))) if weights is None else weights
    left = rows @ metrics.left_terms(duration, ended, at)
    return np.asarray(rows @ leaves / np.where(left > 0, left, np.nan))


def slope(
    duration: np.ndarray, ended: np.ndarray, leaves: np.ndarray, at: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the calibration slope for each row of weights: 1 is right, below 1 predictions are too far apart.

    The slope of a logistic regression of leaving by `at` on the log-odds predicted, weighted for censoring (Cox 1958;
    below 1 is the mark of a model that learned noise). NaN where all predictions are the same, or nobody or everybody
    left.
    """
    rows = np.ones((1, len(duration))) if weights is None else weights
    x = np.log(np.clip(leaves, 1e-6, 1 - 1e-6))
    x = x - np.log1p(-np.clip(leaves, 1e-6, 1 - 1e-6))
    left, stayed = metrics.left_terms(duration, ended, at), metrics.stayed_terms(duration, ended, at)
    if np.ptp(x) < 1e-9 or not left.any() or not stayed.any():
        return np.full(len(rows), np.nan)
    x = x - x.mean()
    w, y = rows * (left + stayed), (left > 0).astype(float)
    intercept, gain = np.zeros(len(rows)), np.zeros(len(rows))
    with np.errstate(all="ignore"):
        for _ in range(25):
            p = 1 / (1 + np.exp(-np.clip(intercept[:, None] + gain[:, None] * x, -30, 30)))
            error, info = w * (y - p), w * p * (1 - p)
            g0, g1 = error.sum(axis=1), error @ x
            h00, h01, h11 = info.sum(axis=1), info @ x, info @ (x * x)
            det = h00 * h11 - h01 * h01
            intercept += np.clip((h11 * g0 - h01 * g1) / det, -5, 5)
            gain += np.clip((h00 * g1 - h01 * g0) / det, -5, 5)
    return np.where(np.isfinite(gain) & (np.abs(gain) < 50), gain, np.nan)


def poisson_ratio(observed: int, expected: float) -> tuple[float, float, float]:
    """Return observed over expected with its exact 95 % interval (Garwood 1936).

    >>> [round(x, 2) for x in poisson_ratio(10, 10.0)]
    [1.0, 0.48, 1.84]
    """
    if expected <= 0 or not math.isfinite(expected):
        return float("nan"), float("nan"), float("nan")
    low = float(_stats.chi2.ppf(0.025, 2 * observed)) / 2 if observed else 0.0
    high = float(_stats.chi2.ppf(0.975, 2 * observed + 2)) / 2
    return observed / expected, low / expected, high / expected
