"""Those with something and those without, compared where both had come equally far.

Whoever buys has been through more steps than whoever left, and so had more occasions to do anything at all. A share of
buyers "with" against one "without" therefore differs even where nothing matters. Here both are taken at the same place:
what had been done by then is known, and what they do afterwards is compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as _stats

from journeykit.stats import wilson

FEW = 20  # journeys with and without; of fewer no difference is told
SHARES = ("with_share", "with_share_low", "with_share_high", "without_share", "without_share_low", "without_share_high")
GAP = ("gap_points", "gap_points_low", "gap_points_high", "p_value")
VALUES = ("with_value", "without_value", "value_gap", "value_gap_low", "value_gap_high")

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Groups:
    """Journeys that are alike up to their outcome, summed: one element per group.

    Attributes:
        n: journeys.
        converted: those that converted.
        value: the sum of their values, or None.
        squares: the sum of the squares of their values, or None.
    """

    n: Numbers
    converted: Numbers
    value: Numbers | None = None
    squares: Numbers | None = None


def compare(groups: Groups, case: npt.NDArray[np.int64], control: Flags) -> dict[str, Any]:
    """Compare what became of journeys with something and of journeys that had come as far without it.

    Each journey *with* stands at one place, where it is first known. Journeys *without* stand at every place that they
    came to without it; one that has it later is without it until then. The share *without* is that of each place,
    weighted as the journeys with are spread over places, so both would be equal if what is compared changed nothing
    about where those who stand at a place go on to (sequential landmarks, van Houwelingen 2007; direct standardisation
    to those with). Rivals: all with against all without, which compares those who came far with those who left at once;
    a regression, which needs a row per journey and says no more.

    Intervals: each share's is Wilson's, of the journeys with, and of the effective number of journeys without, from the
    linearised variance of the weighted share (one journey stands at several places); the difference's is Newcombe's of
    those two (square-and-add; Zou & Donner 2008). With one place that is Newcombe's interval. The test is
    Mantel & Haenszel's over places. The difference in value has Welch's interval of the same weights. Journeys count as
    independent. Places where nobody is without it are left out.

    Args:
        groups: sums of journeys that are alike.
        case: the place where each group has it, −1 where it does not.
        control: for each group and place, whether it stood there without it.

    Returns:
        with_n and without_n (journeys compared); where both are at least 20, also the columns of `SHARES`, `GAP`
        (percentage points, with minus without) and, with values, `VALUES`.

    >>> groups = Groups(np.array([40.0, 60.0]), np.array([10.0, 30.0]))
    >>> found = compare(groups, np.array([0, -1]), np.array([[False], [True]]))
    >>> round(found["gap_points"], 1), round(found["gap_points_low"], 1), round(found["gap_points_high"], 1)
    (-25.0, -41.4, -5.5)
    """
    places = control.shape[1]
    stands = case[:, None] == np.arange(places)
    with_n, with_x = stands.T @ groups.n, stands.T @ groups.converted
    without_n, without_x = control.T @ groups.n, control.T @ groups.converted
    both = (with_n > 0) & (without_n > 0)
    stands, control = stands & both, control & both
    n1 = float(with_n[both].sum())
    n0 = float(groups.n[control.any(axis=1)].sum())
    found: dict[str, Any] = {"with_n": int(n1), "without_n": int(n0)}
    if min(n1, n0) < FEW:
        return found
    weight = np.where(both, with_n / n1, 0.0) / np.where(without_n > 0, without_n, 1.0)
    slope = control @ weight
    share1 = float(with_x[both].sum()) / n1
    means = without_x / np.where(without_n > 0, without_n, 1.0)
    share0 = float((weight * without_n * means).sum())
    middle = control @ (weight * means)
    spread = float((slope**2 * groups.converted - 2 * slope * middle * groups.converted + middle**2 * groups.n).sum())
    alone = 1 / float((np.where(both, with_n / n1, 0.0) ** 2 / np.where(without_n > 0, without_n, 1.0)).sum())
    effective = min(share0 * (1 - share0) / spread if spread > 1e-15 else alone, n0)
    low1, high1 = wilson(share1 * n1, n1)
    low0, high0 = wilson(share0 * effective, effective)
    gap = share1 - share0
    found |= dict(zip(SHARES, (share1, low1, high1, share0, low0, high0), strict=True))
    low = gap - math.hypot(share1 - low1, high0 - share0)
    high = gap + math.hypot(high1 - share1, share0 - low0)
    p_value = _mantel_haenszel(with_n[both], with_x[both], without_n[both], without_x[both])
    found |= dict(zip(GAP, (100 * gap, 100 * low, 100 * high, p_value), strict=True))
    if groups.value is not None and groups.squares is not None:
        found |= _values(groups.n, groups.value, groups.squares, stands, control, weight, min(alone, n0))
    return found


def _mantel_haenszel(n1: Numbers, x1: Numbers, n0: Numbers, x0: Numbers) -> float:
    """The p-value of the test that the odds are the same at every place (Mantel & Haenszel 1959, no correction)."""
    n, x = n1 + n0, x1 + x0
    variance = float((n1 * n0 * x * (n - x) / (n**2 * np.maximum(n - 1, 1))).sum())
    if variance <= 0:
        return math.nan
    return float(_stats.chi2.sf(float((x1 - n1 * x / n).sum()) ** 2 / variance, 1))


def _values(
    n: Numbers, value: Numbers, squares: Numbers, stands: Flags, control: Flags, weight: Numbers, size: float
) -> dict[str, float]:
    """The value of a journey with and without, and the difference with Welch's interval."""
    cases = stands.any(axis=1)
    n1, total, square = float(n[cases].sum()), float(value[cases].sum()), float(squares[cases].sum())
    mean1 = total / n1
    error1 = max(square - total * mean1, 0.0) / (n1 - 1) / n1
    without_n = control.T @ n
    means = (control.T @ value) / np.where(without_n > 0, without_n, 1.0)
    mean0 = float((weight * without_n * means).sum())
    slope, middle = control @ weight, control @ (weight * means)
    error0 = max(float((slope**2 * squares - 2 * slope * middle * value + middle**2 * n).sum()), 0.0)
    error0 *= size / max(size - 1, 1)
    gap, error = mean1 - mean0, error1 + error0
    if error <= 1e-12 * max(mean1**2, mean0**2):  # everybody's value is the same; what is left is rounding
        return dict(zip(VALUES, (mean1, mean0, gap, math.nan, math.nan), strict=True))
    freedom = error**2 / (error1**2 / (n1 - 1) + error0**2 / max(size - 1, 1))
    half = float(_stats.t.ppf(0.975, freedom)) * math.sqrt(error)
    return dict(zip(VALUES, (mean1, mean0, gap, gap - half, gap + half), strict=True))
