"""What a day may be, by the same weekdays of eight weeks and their trend (a prediction interval)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats as _stats

Floats = npt.NDArray[np.float64]
BASELINE = 56  # days
FEWEST = 42  # of them with a value
CONFIDENCE = 0.9973  # three standard deviations to either side


def predictions(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return for each day what the 56 days before it predict, the standard error of that, and its degrees of freedom.

    Ordinary least squares of the value on the day of the week and a straight line over time; missing days are left out.
    The dummies are told by how many days ago modulo 7, which spans the same as weekdays, so one matrix serves every
    window. Where fewer than 42 of the 56 days have a value, the result is missing. The rival, comparing with the mean
    of the last days, takes a Sunday for a fall.

    >>> week = np.array([5.0, 6.0, 7.0, 6.0, 5.0, 2.0, 1.0])
    >>> values = np.tile(week, 9) + 0.1 * np.arange(63)
    >>> middle, error, freedom = predictions(values)
    >>> round(float(middle[62]), 6), round(float(values[62]), 6), int(freedom[62])
    (7.2, 7.2, 48)
    """
    n = len(values)
    middle, error, freedom = (np.full(n, np.nan) for _ in range(3))
    design, new = _design()
    for day in range(BASELINE, n):
        window = values[day - BASELINE : day]
        known = ~np.isnan(window)
        if known.sum() < FEWEST:
            continue
        rows, y = design[known], window[known]
        inverse: Any = _INVERSE if known.all() else np.linalg.pinv(rows.T @ rows)
        coefficients = inverse @ rows.T @ y
        free = len(y) - np.linalg.matrix_rank(rows) if not known.all() else len(y) - rows.shape[1]
        rest = y - rows @ coefficients
        variance = float(rest @ rest) / free
        middle[day] = float(new @ coefficients)
        error[day] = float(np.sqrt(variance * (1 + float(new @ inverse @ new))))
        freedom[day] = free
    return middle, error, freedom


def _design() -> tuple[Floats, Floats]:
    """The rows of the 56 days before a day, and the row of that day."""
    place = np.arange(BASELINE + 1)
    rows = np.column_stack([np.eye(7)[place % 7], (place - BASELINE) / BASELINE])
    return rows[:-1], rows[-1]


_INVERSE: Any = np.linalg.inv(_design()[0].T @ _design()[0])


def reach(freedom: Floats) -> Floats:
    """Return how many standard errors the interval reaches to either side."""
    return np.asarray(_stats.t.ppf((1 + CONFIDENCE) / 2, freedom), dtype=float)


def p_values(values: Floats, middle: Floats, error: Floats, freedom: Floats) -> Floats:
    """Return the two-sided p-value of each value against its prediction."""
    with np.errstate(all="ignore"):
        far = np.abs(values - middle) / error
    return np.asarray(2 * _stats.t.sf(far, freedom), dtype=float)
