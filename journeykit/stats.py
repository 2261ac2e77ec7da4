"""Intervals and corrections that every chapter shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as _stats
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
    return (float(low), float(high))


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
