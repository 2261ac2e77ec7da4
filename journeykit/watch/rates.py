"""What a share may be, given how many it is of: p-charts, widened where shares scatter more than chance (Laney)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from journeykit.watch.xmr import PER_RANGE

Floats = npt.NDArray[np.float64]
LEAST = 5.0  # expected events, and expected others, below which a share is far from normal


def expected(top: Floats, per: Floats, new_per: float) -> tuple[float, float]:
    """Return the share that the baseline expects of a new day or week, and its standard error.

    Chance alone gives √(p(1−p)/n) for the new n, and the same for the baseline's own uncertainty. Where shares scatter
    more than that, the usual step between neighbouring standardised shares widens it (Laney 2002); it never narrows.
    A "share" above 1 (several events per one) has the variance of counts, p/n. Missing when the baseline has no
    denominator or too little is expected: 5 events and 5 others.

    >>> middle, error = expected(np.array([50.0, 52, 48, 50]), np.full(4, 100.0), 100.0)
    >>> round(middle, 3), round(error, 4)
    (0.5, 0.0559)
    """
    used = per > 0
    top, per = top[used], per[used]
    total = float(per.sum())
    if total <= 0 or new_per <= 0 or len(per) < 2:
        return float("nan"), float("nan")
    middle = float(top.sum()) / total
    binomial = bool((top <= per).all())
    variance = middle * (1 - middle) if binomial else middle
    others = (1 - middle) if binomial else 1.0
    if new_per * middle < LEAST or new_per * others < LEAST:
        return middle, float("nan")
    z = (top / per - middle) / np.sqrt(variance / per)
    wider = max(1.0, float(np.mean(np.abs(np.diff(z)))) / PER_RANGE)
    return middle, wider * float(np.sqrt(variance * (1 / new_per + 1 / total)))


def by_weekday(top: Floats, per: Floats, new_per: float) -> tuple[float, float]:
    """Return the same for a day, from the days before it: expected of its own weekday, scatter from all.

    `top` and `per` hold whole weeks before the day, the last value being the day before it.
    """
    weeks = len(per) // 7
    tops, pers = top[-7 * weeks :].reshape(weeks, 7), per[-7 * weeks :].reshape(weeks, 7)
    totals = pers.sum(axis=0)
    if weeks < 2 or totals[0] <= 0 or new_per <= 0:
        return float("nan"), float("nan")
    with np.errstate(all="ignore"):
        means = tops.sum(axis=0) / totals
    middle = float(means[0])  # the first of a week of days before it is its own weekday
    binomial = bool((tops <= pers).all())
    variance = means * (1 - means) if binomial else means
    others = (1 - middle) if binomial else 1.0
    if new_per * middle < LEAST or new_per * others < LEAST:
        return middle, float("nan")
    with np.errstate(all="ignore"):
        # A day is part of its weekday's mean, so it lies nearer to it than chance says.
        z = (tops / pers - means) / np.sqrt(variance * (1 / pers - 1 / totals))
    z = z.reshape(-1)
    z = z[np.isfinite(z)]
    wider = max(1.0, float(np.mean(np.abs(np.diff(z)))) / PER_RANGE) if len(z) > 1 else 1.0
    return middle, wider * float(np.sqrt(variance[0] * (1 / new_per + 1 / totals[0])))
