"""Intervals for experiments that are read more than once: always valid, or at a few planned looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize
from scipy import stats as _stats

from journeykit.config import Experiment, seconds
from journeykit.stats import not_enough

ALPHA = 0.05
Z95 = float(_stats.norm.isf(ALPHA / 2))
FIRST_LOOK = 200  # units, both arms: before, the approximation by a normal distribution does not hold
PLANNED = 5_000  # units for which intervals are narrowest where planned_n is not declared; fixed, not tuned to the data
NODES = 200
BOUNDS = ("look", "looks", "information_share", "n", "bound_z", "nominal_p_value", "status")


def limit(n: float, *, planned: float, alpha: float = ALPHA) -> float:
    """Return the multiple of the standard error that holds at every look: c(n), in place of 1.96.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), whose boundary is that
    of the normal mixture (Robbins 1970; Johari et al. 2017). It is valid for any number of looks and any rule of
    stopping, once some hundred units are in; the price is an interval half as wide again, narrowest at `planned`.

    Args:
        n: units so far, both arms.
        planned: units for which it is to be narrowest, fixed before the data are seen.
        alpha: chance of ever missing the truth.

    >>> [round(limit(n, planned=1000), 4) for n in (1000, 100, 10_000)]
    [3.0352, 3.8551, 3.2417]
    """
    mixed = n * _mixture(planned, alpha)
    return math.sqrt((mixed + 1) / mixed * math.log((mixed + 1) / alpha**2))


def p_value(z: float, n: float, *, planned: float) -> float:
    """Return the always-valid p-value of z standard errors after n units; the smallest of all looks is valid, too.

    >>> round(p_value(limit(500, planned=1000), 500, planned=1000), 9), round(p_value(2.5, 500, planned=1000), 2)
    (0.05, 0.18)
    """
    mixed = n * _mixture(planned, ALPHA)
    power = -z * z * mixed / (2 * (mixed + 1))
    return 0.0 if math.isinf(z) else min(1.0, math.exp(0.5 * math.log(mixed + 1) + power))


def planned_units(experiment: Experiment) -> int:
    """Return the units for which always-valid intervals are narrowest."""
    return experiment.planned_n or PLANNED


@lru_cache(maxsize=512)
def group_bounds(looks: int, spending: str, alpha: float = ALPHA) -> tuple[float, ...]:
    """Return by how many standard errors the effect must differ from 0 at each of several evenly spaced looks.

    Pocock: the same at every look. O'Brien–Fleming: proportional to √(looks/look), so strict at first and nearly 1.96
    at the end. The chance that any look crosses is `alpha`. Jennison & Turnbull (2000), tables 2.1 and 2.3.

    >>> [round(bound, 3) for bound in group_bounds(5, "pocock")]
    [2.413, 2.413, 2.413, 2.413, 2.413]
    >>> [round(bound, 3) for bound in group_bounds(5, "obrien_fleming")]
    [4.562, 3.226, 2.634, 2.281, 2.04]
    """
    shape = _shape(looks, spending)
    constant = optimize.brentq(lambda c: crossing(c * shape) - alpha, 1.0, 6.0, xtol=1e-9)
    return tuple(float(constant * part) for part in shape)


def crossing(bounds: np.ndarray | Sequence[float]) -> float:
    """Return the chance that z leaves its bounds at any of several evenly spaced looks when there is no effect.

    It is a probability of a multivariate normal distribution with correlations √(j/k), computed look by look
    (Armitage, McPherson & Rowe 1969): exact, the same on every call, and quick for many looks, where
    `scipy.stats.multivariate_normal.cdf` is random and slow.

    >>> round(crossing([1.959964]), 4), round(crossing([1.959964] * 5), 3)
    (0.05, 0.142)
    """
    limits = np.asarray(bounds, dtype=float) * np.sqrt(np.arange(1, len(bounds) + 1))
    at, weight = _nodes()
    place, mass = np.zeros(1), np.ones(1)
    for edge in np.minimum(limits, 12 * math.sqrt(len(limits))):
        here = edge * at
        density = np.exp(-0.5 * (here[:, None] - place[None, :]) ** 2) / math.sqrt(2 * math.pi)
        place, mass = here, (density @ mass) * weight * edge
    return float(min(1.0, max(0.0, 1 - mass.sum())))


def repeated_p_value(z: float, look: int, *, looks: int, spending: str) -> float:
    """Return the p-value of a planned look: the smallest error rate for which its bound is crossed.

    Below 0.05 exactly when the repeated interval excludes 0. Jennison & Turnbull (1989).

    >>> bound = group_bounds(5, "pocock")[0]
    >>> round(repeated_p_value(bound, 3, looks=5, spending="pocock"), 3)
    0.05
    """
    shape = _shape(looks, spending)
    return crossing(abs(z) / shape[look - 1] * shape)


def look_of(experiment: Experiment, n: int, days: float = math.nan) -> int | None:
    """Return the last planned look that has been reached: 0 before the first one, None when it cannot be told.

    Information is the share of `planned_n` units whose window is over; without `planned_n` the share of `horizon`.
    """
    share = information(experiment, n, days)
    return None if math.isnan(share) else min(int(share * experiment.looks + 1e-9), experiment.looks)


def information(experiment: Experiment, n: int, days: float = math.nan) -> float:
    """Return how much of what was planned is known, as a share; NaN when neither planned_n nor horizon is declared."""
    if experiment.planned_n:
        return n / experiment.planned_n
    horizon = seconds(experiment.horizon) / 86_400 if experiment.horizon else 0.0
    return days / horizon if horizon else math.nan


def looks_planned(experiment: Experiment, *, n: int, days: float = math.nan) -> pd.DataFrame:
    """Return the planned looks of a group-sequential test with their bounds, and which of them have been reached.

    Args:
        experiment: with stopping = "group_sequential".
        n: units whose window is over, all arms.
        days: from the start to the last exposure whose window is over.

    Returns:
        One row per look: look, looks, information_share (of what was planned), n (units then, null without planned_n),
        bound_z (standard errors that the effect must differ by), nominal_p_value, status ("passed", "now", "ahead").

    >>> plan = Experiment(name="t", hypothesis="h", exposure="x", arms={"a": 1.0}, control="a", planned_n=1000, looks=2,
    ...     stopping="group_sequential", metrics=[{"name": "m", "event": "e"}])
    >>> looks_planned(plan, n=600)[["look", "n", "bound_z", "status"]].round(3).values.tolist()
    [[1, 500, 2.797, 'now'], [2, 1000, 1.977, 'ahead']]
    """
    if experiment.stopping != "group_sequential":
        return not_enough(BOUNDS, f"{experiment.name}: the test is not read at planned looks")
    now = look_of(experiment, n, days)
    if now is None:
        reason = "planned looks need planned_n or horizon, to tell which of them has been reached"
        return not_enough(BOUNDS, f"{experiment.name}: {reason}")
    looks = experiment.looks
    numbers = np.arange(1, looks + 1)
    bounds = np.array(group_bounds(looks, experiment.spending))
    units = [math.ceil(experiment.planned_n * k / looks) for k in numbers] if experiment.planned_n else [None] * looks
    return pd.DataFrame(
        {
            "look": numbers,
            "looks": looks,
            "information_share": numbers / looks,
            "n": pd.Series(units, dtype="Int64"),
            "bound_z": bounds,
            "nominal_p_value": 2 * _stats.norm.sf(bounds),
            "status": np.where(numbers < now, "passed", np.where(numbers == now, "now", "ahead")),
        }
    )


@lru_cache(maxsize=1)
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    at, weight = np.polynomial.legendre.leggauss(NODES)
    return at, weight


def _mixture(planned: float, alpha: float) -> float:
    return (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / planned


def _shape(looks: int, spending: str) -> np.ndarray:
    return np.ones(looks) if spending == "pocock" else np.sqrt(looks / np.arange(1, looks + 1))
