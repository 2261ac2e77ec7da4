"""The mean of a metric in a group of units, with the variance of that mean; what segments and interactions rest on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from journeykit.config import Metric
from journeykit.experiments.measures import PER

FEW = 5  # conversions, or people without one, in a cell: below it the variance of a share is not known well


class Cell(NamedTuple):
    """The mean of a metric in a group, the variance of that mean, and the units that it rests on."""

    mean: float
    variance: float
    n: int


def usable(metric: Metric) -> bool:
    """Say whether a metric is a mean or a ratio of sums; quantiles and times have no variance that adds up so."""
    return metric.quantile is None and metric.kind != "time"


def of(group: pd.DataFrame, metric: Metric, min_n: int) -> Cell | None:
    """Return the cell of a group, or None where it is too small or does not vary.

    A ratio is linearised (delta method: Deng, Knoblich & Lu 2018): the variance of numerator − ratio · denominator over
    the squared mean denominator. A share needs five units with the event and five without.

    >>> group = pd.DataFrame({"orders": [0.0, 1.0] * 20})
    >>> cell = of(group, Metric(name="orders", event="buy"), min_n=30)
    >>> cell.mean, round(cell.variance, 5), cell.n
    (0.5, 0.00641, 40)
    """
    values = pd.to_numeric(group[metric.name], errors="coerce").to_numpy(dtype=float)
    known = np.isfinite(values)
    values, n = values[known], int(known.sum())
    if n < max(min_n, 2):
        return None
    if metric.kind in ("conversion", "funnel") and min(values.sum(), n - values.sum()) < FEW:
        return None
    if metric.kind == "ratio":
        per = group[metric.name + PER].to_numpy(dtype=float)[known]
        if per.sum() <= 0:
            return None
        mean = float(values.sum() / per.sum())
        variance = float(np.var(values - mean * per, ddof=1) / n / per.mean() ** 2)
    else:
        mean, variance = float(values.mean()), float(np.var(values, ddof=1) / n)
    return Cell(mean, variance, n) if variance > 0 else None


def freedom(cells: list[Cell]) -> float:
    """Return the degrees of freedom of a sum of independent means (Welch and Satterthwaite)."""
    parts = np.array([cell.variance for cell in cells])
    return float(parts.sum() ** 2 / (parts**2 / np.array([cell.n - 1 for cell in cells])).sum())
