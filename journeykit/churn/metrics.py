"""How good a prediction of leaving is: Brier scores, Harrell's and Uno's C, the AUC over time, and their bootstrap.

What is predicted is a probability for people who are there at one moment; what is known is how long after it they left
(`ended` 1) or were last observed (`ended` 0). Who was observed for less than asked is made up for by those observed
longer: inverse probability of censoring weights (IPCW), with G the Kaplan–Meier curve of being censored, held fixed in
a bootstrap. Every function takes `weights`, one row a resample and one column a person, and works on all at once.
"""

from __future__ import annotations

import numpy as np

LEAST = 1e-12  # of the share not yet censored: what nobody was observed for has no weight


def concordance(
    duration: np.ndarray, ended: np.ndarray, risk: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return Harrell's C for each row of weights: the share of comparable pairs in which the higher risk left first.

    Pairs are comparable when the earlier one left; equal risks count half. All weightings are computed together,
    as matrix products over blocks of leavers, which makes a bootstrap cheap.

    >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([3.0, 1.0, 2.0])).tolist()
    [0.6666666666666666]
    """
    return _ordered(duration, ended, risk, (ended == 1).astype(float), weights)


def uno(
    duration: np.ndarray, ended: np.ndarray, risk: np.ndarray, at: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return Uno's C up to `at` for each row of weights: Harrell's C that does not depend on who was censored.

    Pairs whose earlier one left before `at` count 1/G(T−)². Rival: Harrell's C, which late censoring moves. Uno et al.
    (2011).

    >>> uno(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([3.0, 1.0, 2.0]), 3.0).tolist()
    [0.6666666666666666]
    """
    before = _not_censored(duration, ended, duration)
    counts = np.where((ended == 1) & (duration < at), 1 / np.maximum(before, LEAST) ** 2, 0.0)
    return _ordered(duration, ended, risk, counts, weights)


def auc(
    duration: np.ndarray, ended: np.ndarray, risk: np.ndarray, at: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the AUC at `at` for each row of weights: how often one who left by then had a higher risk than a stayer.

    The cumulative/dynamic AUC: those who left by `at` (each counts 1/G(T−)) against those still there then. Equal risks
    count half. Rival: Uno's C, which also asks who of two leavers went first. Uno et al. (2007); Hung & Chiang (2010).

    >>> auc(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0]), np.array([3.0, 1.0, 2.0]), 2.5).tolist()
    [0.5]
    """
    rows = _rows(weights, len(duration))
    case = left_terms(duration, ended, at)
    order = np.argsort(risk, kind="stable")
    starts = np.flatnonzero(np.diff(risk[order], prepend=-np.inf))
    if not len(starts):
        return np.full(len(rows), np.nan)
    cases, controls = (
        np.add.reduceat((rows * part)[:, order], starts, axis=1) for part in (case, _stayed(duration, ended, at))
    )
    below = np.cumsum(controls, axis=1) - controls / 2
    pairs = cases.sum(axis=1) * controls.sum(axis=1)
    return np.asarray((cases * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan))


def brier_terms(duration: np.ndarray, ended: np.ndarray, still_there: np.ndarray, at: float) -> np.ndarray:
    """Return each person's squared error of the predicted share still there at `at`, weighted for censoring.

    Those who left by `at` count 1/G(T−), those observed until then and still there 1/G(at−), those censored before it
    0. Their mean is the Brier score: 0 is clairvoyance, and a share of one half for everybody scores 0.25. Graf et al.
    (1999).

    >>> brier_terms(np.array([1.0, 3.0]), np.array([1, 0]), np.array([0.2, 0.9]), 2.0).round(3).tolist()
    [0.04, 0.01]
    """
    left, stayed = left_terms(duration, ended, at), stayed_terms(duration, ended, at)
    return np.asarray(left * still_there**2 + stayed * (1 - still_there) ** 2)


def left_terms(duration: np.ndarray, ended: np.ndarray, at: float) -> np.ndarray:
    """Return what each person counts among those who left by `at`: 1/G(T−), or 0."""
    before = np.maximum(_not_censored(duration, ended, duration), LEAST)
    return np.where((duration <= at) & (ended == 1), 1 / before, 0.0)


def stayed_terms(duration: np.ndarray, ended: np.ndarray, at: float) -> np.ndarray:
    """Return what each person counts among those still there at `at`: 1/G(at−), or 0."""
    then = max(float(_not_censored(duration, ended, np.array([at]))[0]), LEAST)
    return np.where(_stayed(duration, ended, at), 1 / then, 0.0)


def integrated_terms(duration: np.ndarray, ended: np.ndarray, still_there: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return each person's share of the integrated Brier score: the mean of `brier_terms` over `times` (trapezoids).

    Args:
        duration: days to leaving or to the end of observation.
        ended: 1 for those who left.
        still_there: a row a person, a column a time.
        times: increasing, at least one.
    """
    terms = np.column_stack([brier_terms(duration, ended, still_there[:, k], at) for k, at in enumerate(times)])
    if len(times) == 1:
        return terms[:, 0]
    return np.asarray(np.trapezoid(terms, times, axis=1) / (times[-1] - times[0]))


def resamples(n: int, repeats: int, seed: int) -> np.ndarray:
    """Return how often each of n people is drawn, with replacement, in each of `repeats` resamples (rows)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=repeats).astype(float)


def means(terms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of people's terms for each row of weights."""
    return np.asarray(weights @ terms / weights.sum(axis=1))


def with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the first value with the 95 % percentile interval of the others, which are its bootstrap."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn) or not np.isfinite(values[0]):
        return float("nan"), float("nan"), float("nan")
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(values[0]), float(low), float(high)


def _rows(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones((1, n)) if weights is None else weights


def _stayed(duration: np.ndarray, ended: np.ndarray, at: float) -> np.ndarray:
    """Who is known to be still there at a moment: observation that stops exactly then has seen it."""
    return np.asarray((duration > at) | ((duration == at) & (ended == 0)))


def _not_censored(duration: np.ndarray, ended: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """The share not yet censored just before each moment, G(t−)."""
    times, censored = np.unique(duration[ended == 0], return_counts=True)
    at_risk = len(duration) - np.searchsorted(np.sort(duration), times, side="left")
    still = np.append(1.0, np.cumprod(1 - censored / at_risk))
    # Leaving and the end of observation at one moment: leaving came first.
    return np.asarray(still[np.searchsorted(times, moments, side="left")])


def _ordered(
    duration: np.ndarray, ended: np.ndarray, risk: np.ndarray, counts: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """The share of comparable pairs in the right order, where a pair counts `counts` of the one who left first."""
    rows = _rows(weights, len(duration))
    right, pairs = np.zeros(len(rows)), np.zeros(len(rows))
    leavers = np.flatnonzero(counts > 0)
    for block in np.array_split(leavers, max(1, len(leavers) * len(duration) // 2_000_000)):
        mine, first = duration[block, None], risk[block, None]
        later = (duration > mine) | ((duration == mine) & (ended == 0))
        ordered = later * ((first > risk) + 0.5 * (first == risk))
        own = rows.T[block] * counts[block, None]
        right += ((ordered @ rows.T) * own).sum(axis=0)
        pairs += ((later.astype(float) @ rows.T) * own).sum(axis=0)
    return np.asarray(right / np.where(pairs > 0, pairs, np.nan))
