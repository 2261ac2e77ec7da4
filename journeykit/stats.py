"""Intervals and corrections that every chapter shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as _stats
from scipy.special import stdtrit
from statsmodels.stats.proportion import proportion_confint


def wilson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share; (nan, nan) when n is 0.

    Chosen over Wald, which is empty at 0 of n and too narrow in small samples.

    >>> low, high = wilson(15, 100)
    >>> round(low, 5), round(high, 5)
    (0.09306, 0.23284)
    """
    if n <= 0:
        return (float("nan"), float("nan"))
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # At none or all of n a bound is 0 or 1, which the arithmetic misses by a rounding.
    return (0.0 if successes <= 0 else max(0.0, float(low)), 1.0 if successes >= n else min(1.0, float(high)))


def add_share(table: pd.DataFrame, name: str, successes: str, n: str) -> pd.DataFrame:
    """Return the table with `<name>_share`, `<name>_share_low` and `<name>_share_high` (Wilson, 95 %) added.

    >>> add_share(pd.DataFrame({"won_n": [15], "n": [100]}), "won", "won_n", "n").round(3).iloc[0].tolist()
    [15.0, 100.0, 0.15, 0.093, 0.233]
    """
    intervals = [wilson(k, total) for k, total in zip(table[successes], table[n], strict=True)]
    out = table.copy()
    out[f"{name}_share"] = table[successes] / table[n].where(table[n] > 0)
    out[f"{name}_share_low"] = [low for low, _ in intervals]
    out[f"{name}_share_high"] = [high for _, high in intervals]
    return out


def clustered(
    k: float, n: float, kk: float, kn: float, nn: float, clusters: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of a share of events where those of one person are alike; (nan, nan) when n is 0.

    Definition: people are drawn, each with all of their events. The share Σk/Σn is a ratio of two sums; its variance is
    linearised, m/(m−1) · Σ(k − share·n)²/(Σn)² over m people. What n events of their own would have, divided by it, is
    the effective sample size n*; with the t quantiles of few people (Korn & Graubard 1998), and never more than n. The
    interval is Wilson's at n* (compared with its rivals by Franco, Little, Louis & Slud 2019). One event a person gives
    Wilson's interval of n. Where the variance is 0 or there is one person, n* is m.

    Rivals: Wilson over events, which takes 100 clicks of one person for 100 people and is far too narrow; the mean of
    the people's own shares, which answers another question; a bootstrap over people, which needs every person's row and
    gives nothing at shares of 0 and 1; a beta-binomial model, which needs the sizes to say nothing about the shares.

    Args:
        k: successes, Σk; or what each event adds between 0 and 1, such as its precision.
        n: events, Σn.
        kk: Σk², where k are one person's successes.
        kn: Σkn, where n are that person's events.
        nn: Σn².
        clusters: people with an event, m.
        confidence: of the interval.

    >>> low, high = clustered(15, 100, 15, 15, 100, 100)  # 100 people with an event each
    >>> round(low, 5), round(high, 5)
    (0.09306, 0.23284)
    >>> low, high = clustered(15, 100, 15 * 5, 15 * 5, 100 * 5, 20)  # 20 people with 5 events each, which are alike
    >>> round(low, 3), round(high, 3)
    (0.049, 0.379)
    """
    if n <= 0:
        return (float("nan"), float("nan"))
    effective = n / design_effect(k, n, kk, kn, nn, clusters, confidence)
    return wilson(k / n * effective, effective, confidence)


def design_effect(
    k: float, n: float, kk: float, kn: float, nn: float, clusters: int, confidence: float = 0.95
) -> float:
    """Return n over the effective sample size of `clustered`, which says what the sums are; at least 1.

    >>> design_effect(15, 100, 15, 15, 100, 100), round(design_effect(15, 100, 75, 75, 500, 20), 1)
    (1.0, 5.8)
    """
    if n <= 0:
        return 1.0
    share = k / n
    # Small differences of large sums: of integers Python loses no digit, and of fractions the noise is left out.
    residuals = (kk * n * n - 2 * k * n * kn + k * k * nn) / (n * n)
    noise = 1e-12 * nn if isinstance(kk, float) else 0
    if clusters < 2 or residuals <= noise or not 0 < share < 1:
        return n / clusters
    variance = clusters / (clusters - 1) * residuals / (n * n)
    effective = n * (share * (1 - share) / (n - 1)) / variance
    quantile = (1 + confidence) / 2
    effective *= float(stdtrit(n - 1, quantile) / stdtrit(clusters - 1, quantile)) ** 2
    return float(n / min(effective, float(n)))


def add_clustered_share(table: pd.DataFrame, name: str, successes: str, n: str) -> pd.DataFrame:
    """Return the table with `<name>_share` and its bounds added as by `add_share`, but by `clustered`.

    Needs the sums over people `_kk`, `_kn`, `_nn` and `_clusters` (see `clustered`), which are left out.

    >>> table = pd.DataFrame({"won_n": [15], "n": [100], "_kk": [75], "_kn": [75], "_nn": [500], "_clusters": [20]})
    >>> add_clustered_share(table, "won", "won_n", "n").round(3).iloc[0].tolist()
    [15.0, 100.0, 0.15, 0.049, 0.379]
    """
    columns = [successes, n, "_kk", "_kn", "_nn", "_clusters"]
    intervals = [clustered(*map(int, row)) for row in table[columns].to_numpy(dtype=object)]
    out = table.drop(columns=columns[2:])
    out[f"{name}_share"] = table[successes] / table[n].where(table[n] > 0)
    out[f"{name}_share_low"] = [low for low, _ in intervals]
    out[f"{name}_share_high"] = [high for _, high in intervals]
    return out


def flat_ends(
    days: np.ndarray, share: np.ndarray, low: np.ndarray, high: np.ndarray, at_risk: np.ndarray, ended_n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of a Kaplan–Meier curve, with Wilson's where its own have no width.

    Before the first end (share 1) the lower bound is Wilson's for no end among those at risk; after the last one
    (share 0) the upper bound is Wilson's for all of `ended_n` ended. At day 0 the share is 1 by definition.

    >>> day, one = np.array([0.0, 5.0]), np.ones(2)
    >>> low, high = flat_ends(day, one, one, one, np.array([40, 40]), 0)
    >>> low.round(3).tolist(), high.tolist()
    ([1.0, 0.912], [1.0, 1.0])
    """
    unmoved, gone = (days > 0) & (share >= 1), share <= 0
    lowest = np.array([wilson(float(n), float(n))[0] for n in at_risk])
    low = np.where(unmoved, lowest, np.where(gone, 0.0, low))
    return low, np.where(gone, wilson(0, ended_n)[1], np.where(unmoved, 1.0, high))


def mean_interval(values: Sequence[float] | pd.Series, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return mean, low and high (Student's t); the interval is nan for fewer than two values.

    >>> [round(x, 3) for x in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    array = np.asarray(values, dtype=float)
    array = array[~np.isnan(array)]
    if len(array) == 0:
        return (float("nan"), float("nan"), float("nan"))
    mean = float(array.mean())
    if len(array) < 2:
        return (mean, float("nan"), float("nan"))
    half = float(_stats.t.ppf((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return (mean, mean - half, mean + half)


def not_enough(columns: Sequence[str], reason: str) -> pd.DataFrame:
    """Return an empty table that says why it is empty; the page prints the reason in place of a chart.

    >>> not_enough(["n"], "not enough data (n = 3, at least 30 are needed)").attrs["reason"]
    'not enough data (n = 3, at least 30 are needed)'
    """
    table = pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
    table.attrs["reason"] = reason
    return table


def reason_of(table: pd.DataFrame) -> str:
    """Return why a table is empty, or "" when it holds rows."""
    return "" if len(table) else str(table.attrs.get("reason", "not enough data (n = 0)"))
