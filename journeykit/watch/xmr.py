"""Individuals charts (XmR): what a week may be, by the usual step from week to week."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PER_RANGE = 1.128  # mean range of two draws from a normal distribution, in standard deviations (d2)
REACH = 3 / PER_RANGE
BASELINE = 30  # weeks
FEWEST = 15


def limits(values: Floats) -> tuple[float, float, float, float]:
    """Return mean, mean moving range, and the lower and upper limit of an individuals chart.

    The moving range measures only what comes and goes from one value to the next; the rival, the standard deviation of
    all values, grows with every shift among them and then hides the next one. Needs two values. Source: Shewhart;
    Wheeler, Understanding Variation (1993); NIST e-Handbook 6.3.2.2, whose example this is.

    >>> nist = np.array([49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1])
    >>> [round(x, 4) for x in limits(nist)]
    [50.81, 1.8778, 45.8159, 55.8041]
    """
    mean, step = float(np.mean(values)), float(np.mean(np.abs(np.diff(values))))
    return mean, step, mean - REACH * step, mean + REACH * step


def expected(values: Floats) -> tuple[float, float]:
    """Return what the next value is expected to be on the straight line through `values`, and its standard deviation.

    The standard deviation is the mean step between neighbouring residuals over 1.128, widened for the line being
    estimated and carried on by one.

    >>> expected(np.array([1.0, 2.0, 3.0, 4.0]))
    (5.0, 0.0)
    """
    n = len(values)
    place = np.arange(n, dtype=float)
    slope, start = np.polyfit(place, values, 1)
    residuals = values - (start + slope * place)
    spread = float(np.mean(np.abs(np.diff(residuals)))) / PER_RANGE
    beyond = 1 + 1 / n + (n - place.mean()) ** 2 / float(((place - place.mean()) ** 2).sum())
    noise = 1e-9 * max(1.0, float(np.abs(values).max()))
    return round(float(start + slope * n), 9), 0.0 if spread < noise else spread * float(np.sqrt(beyond))
