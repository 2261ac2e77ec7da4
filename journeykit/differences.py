"""Differences between two shares, or more: intervals, tests, and differences within strata."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit import stats

SMALL = 5  # expected units in a cell, below which the chi-square distribution is a poor guide (Cochran 1954)
TABLES = 9_999  # tables drawn at random, where it is


def difference(k: float, n: float, others_k: float, others_n: float) -> tuple[float, float, float]:
    """Return the difference of two shares with Newcombe's 95 % interval (1998, method 10).

    >>> [round(x, 4) for x in difference(56, 70, 48, 80)]
    [0.2, 0.0524, 0.3339]
    """
    share, others = k / n, others_k / others_n
    (low, high), (others_low, others_high) = stats.wilson(k, n), stats.wilson(others_k, others_n)
    gap = share - others
    return gap, gap - math.hypot(share - low, others_high - others), gap + math.hypot(high - share, others - others_low)


def two_shares(k: float, n: float, others_k: float, others_n: float) -> tuple[float, str]:
    """Return the p-value of two shares being the same, and the name of the test.

    >>> two_shares(56, 70, 48, 80)[1], two_shares(3, 10, 0, 12)[1]
    ('chi-square', 'Fisher')
    """
    table = np.array([[k, n - k], [others_k, others_n - others_k]])
    columns = table.sum(axis=0)
    if columns.min() <= 0:
        return 1.0, "all alike"
    if min(n, others_n) * columns.min() / columns.sum() >= SMALL:
        return float(_stats.chi2_contingency(table, correction=False)[1]), "chi-square"
    return min(1.0, float(_stats.fisher_exact(np.rint(table).astype(int))[1])), "Fisher"


def stratified(k: Any, n: Any, others_k: Any, others_n: Any) -> tuple[float, float, float, float]:
    """Return the difference of shares within strata by Mantel and Haenszel, its 95 % interval, and the p-value.

    Each stratum counts by n·m/(n+m). The variance is Sato's (1989), which holds for few large strata and for many small
    ones; the p-value is that of Cochran, Mantel and Haenszel. Takes the difference to be alike in all strata; where it
    is not, the result is its average over them. Arrays, one number a stratum; strata without one side count for
    nothing.

    >>> [round(x, 4) for x in stratified([10, 40], [100, 50], [4, 150], [40, 200])]
    [0.0292, -0.0576, 0.1159, 0.5253]
    """
    x, n, y, m = (np.asarray(part, dtype=float) for part in (k, n, others_k, others_n))
    both = (n > 0) & (m > 0)
    x, n, y, m = x[both], n[both], y[both], m[both]
    total, weight = n + m, n * m / (n + m)
    if not both.any():
        return math.nan, math.nan, math.nan, math.nan
    gap = float((weight * (x / n - y / m)).sum() / weight.sum())
    p = ((n**2 * y - m**2 * x + n * m * (m - n) / 2) / total**2).sum()
    q = ((x * (m - y) + y * (n - x)) / (2 * total)).sum()
    error = math.sqrt(max(0.0, float(gap * p + q))) / float(weight.sum())
    hits = x + y
    expected = float((n * hits / total).sum())
    spread = float((n * m * hits * (total - hits) / (total**2 * np.maximum(total - 1, 1))).sum())
    p_value = float(_stats.chi2.sf((x.sum() - expected) ** 2 / spread, 1)) if spread > 0 else 1.0
    z = float(_stats.norm.ppf(0.975))
    return gap, max(-1.0, gap - z * error), min(1.0, gap + z * error), p_value


def design_effect(sums: pd.Series) -> float:
    """Return by how much the units of a segment are fewer than their number, because those of a person are alike.

    Units divided by it are the effective sample size of `stats.clustered`, whose interval is Wilson's of them.

    Args:
        sums: n, k, kk, kn, nn and clusters, as of `quality.over_people` (without the underscores).

    >>> round(design_effect(pd.Series({"n": 100, "k": 15, "kk": 75, "kn": 75, "nn": 500, "clusters": 20})), 2)
    5.8
    """
    return stats.design_effect(*(int(sums[name]) for name in ("k", "n", "kk", "kn", "nn", "clusters")))


def joint_p_value(sums: pd.DataFrame) -> float:
    """Return the p-value of the shares of all segments being the same.

    Pearson's chi-square test of units divided by their design effect; where many cells are small (Cochran 1954), 9,999
    tables drawn at random with the same margins (seeded) in place of the chi-square distribution.

    Args:
        sums: one row per segment, with the columns that `design_effect` needs.
    """
    designs = np.array([design_effect(row) for _, row in sums.iterrows()])
    table = np.column_stack([sums["k"], sums["n"] - sums["k"]]) / designs[:, None]
    columns = table.sum(axis=0)
    if columns.min() <= 0 or len(table) < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), columns) / table.sum()
    if expected.min() >= 1 and (expected < SMALL).mean() <= 0.2:
        return float(_stats.chi2_contingency(table, correction=False)[1])
    table = np.rint(table).astype(int)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    drawn = _stats.random_table(table.sum(axis=1), table.sum(axis=0)).rvs(TABLES, random_state=np.random.default_rng(7))
    far = ((drawn - expected) ** 2 / expected).sum(axis=(1, 2))
    return float((1 + (far >= ((table - expected) ** 2 / expected).sum() * (1 - 1e-9)).sum()) / (1 + TABLES))
