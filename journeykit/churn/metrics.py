"""How good a prediction of leaving is: what was known on a date, Harrell's C, the Brier score, their bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter


def known_by(table: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of `covariates` as they looked on a date: later starters gone, later endings not yet seen."""
    early = table[(table["started_at"] < date) & (table["landmark_at"] < date)]
    seen = (date - early["landmark_at"]).dt.total_seconds() / 86400
    over = early["duration_days"] <= seen
    return early.assign(duration_days=early["duration_days"].where(over, seen), ended=early["ended"].where(over, 0))


def concordance(
    duration: np.ndarray, ended: np.ndarray, risk: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return Harrell's C for each row of weights: the share of comparable pairs in which the higher risk left first.

    Pairs are comparable when the earlier one left; equal risks count half. All weightings are computed together,
    as matrix products over blocks of leavers, which makes a bootstrap cheap.

    >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([3.0, 1.0, 2.0])).tolist()
    [0.6666666666666666]
    """
    rows = np.ones((1, len(duration))) if weights is None else weights
    right, pairs = np.zeros(len(rows)), np.zeros(len(rows))
    for block in np.array_split(np.flatnonzero(ended == 1), max(1, int(ended.sum()) * len(duration) // 2_000_000)):
        mine, first = duration[block, None], risk[block, None]
        later = (duration > mine) | ((duration == mine) & (ended == 0))
        ordered = later * ((first > risk) + 0.5 * (first == risk))
        right += ((ordered @ rows.T) * rows.T[block]).sum(axis=0)
        pairs += ((later.astype(float) @ rows.T) * rows.T[block]).sum(axis=0)
    return right / np.where(pairs > 0, pairs, np.nan)


def brier_terms(duration: np.ndarray, ended: np.ndarray, predicted: np.ndarray, at: float) -> np.ndarray:
    """Return each person's squared error of the predicted share still there at `at`, weighted for censoring.

    Inverse probability of censoring weights (Graf et al. 1999): those who left by `at` count 1/G(T−), those still
    there 1/G(at), those censored before it 0; G is the Kaplan–Meier curve of being censored.
    """
    curve = KaplanMeierFitter().fit(duration, 1 - ended).survival_function_.iloc[:, 0]
    times, still = curve.index.to_numpy(float), curve.to_numpy(float)
    before = still[np.maximum(np.searchsorted(times, duration, side="left") - 1, 0)]
    then = still[np.searchsorted(times, at, side="right") - 1]
    left, stayed = (duration <= at) & (ended == 1), duration > at
    error = np.where(left, predicted**2 / np.where(before > 0, before, 1), 0.0)
    return np.asarray(error + np.where(stayed, (1 - predicted) ** 2 / max(then, 1e-12), 0.0))


def resamples(n: int, repeats: int, seed: int) -> np.ndarray:
    """Return how often each of n people is drawn, with replacement, in each of `repeats` resamples (rows)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=repeats).astype(float)


def with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the first value with the 95 % percentile interval of the others, which are its bootstrap."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return float(values[0]), float(low), float(high)
