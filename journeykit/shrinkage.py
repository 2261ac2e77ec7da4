"""How alike groups are, and each group's rate drawn towards the others by as much as chance explains its distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, gammaln

Floats = npt.NDArray[np.float64]

_GOLDEN = (np.sqrt(5) - 1) / 2
_ALIKE = 100  # a strength of so many times the largest group moves no group by 1 % of its distance: no spread at all


@dataclass(frozen=True)
class Prior:
    """How rates of groups are spread: a beta distribution.

    mean: between 0 and 1. strength: how many people of its own a group needs to count half; infinite where the groups
    differ by no more than chance. Both have the leading dimensions of what they were fitted to.
    """

    mean: Floats
    strength: Floats


def fit(successes: npt.ArrayLike, trials: npt.ArrayLike, tolerance: float = 1e-6) -> Prior:
    """Fit the spread of rates over groups by maximum likelihood of the beta-binomial distribution.

    The last dimension holds the groups; others are fitted apart and at once, as a bootstrap wants it. For a given
    strength the likelihood has one maximum in the mean, found by Newton's steps; over the strength a golden section is
    searched. Rival: moments, which are simpler and give negative spreads with few groups.

    Args:
        successes: of each group.
        trials: of each group; a group without any says nothing.
        tolerance: of the logarithm of the strength.

    >>> alike = fit([50, 51, 49], [100, 100, 100])
    >>> float(alike.mean), float(alike.strength)
    (0.5, inf)
    >>> apart = fit([20, 50, 80], [100, 100, 100])
    >>> round(float(apart.mean), 2), round(float(apart.strength), 1)
    (0.5, 3.9)
    """
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(trials, dtype=float))
    total, hits = n.sum(axis=-1), k.sum(axis=-1)
    mean = np.divide(hits, total, out=np.full(total.shape, np.nan), where=total > 0)
    largest = np.maximum(n.max(axis=-1, initial=0), 1)
    low, high = np.zeros(total.shape), np.log(1e3 * largest)
    c, d = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_c, at_d = _profile(k, n, mean, c), _profile(k, n, mean, d)
    for _ in range(int(np.ceil(np.log(tolerance / np.max(high, initial=1)) / np.log(_GOLDEN)))):
        left = at_c[0] > at_d[0]
        low, high = np.where(left, low, c), np.where(left, d, high)
        probe = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        found = _profile(k, n, np.where(left, at_c[1], at_d[1]), probe)
        c, d = np.where(left, probe, d), np.where(left, c, probe)
        at_c, at_d = (
            (np.where(left, found[0], at_d[0]), np.where(left, found[1], at_d[1])),
            (np.where(left, at_c[0], found[0]), np.where(left, at_c[1], found[1])),
        )
    strength, fitted = np.exp((low + high) / 2), np.where(at_c[0] > at_d[0], at_c[1], at_d[1])
    # Nobody or everybody goes on everywhere; or what is left of the spread would move nobody.
    alike = ~((mean > 0) & (mean < 1)) | (strength > _ALIKE * largest)
    return Prior(np.where(alike, mean, fitted), np.where(alike, np.inf, strength))


def shrunk(successes: npt.ArrayLike, trials: npt.ArrayLike, prior: Prior) -> Floats:
    """Return the rate of each group as expected from its own people and the prior (its posterior mean).

    >>> prior = Prior(np.array(0.5), np.array(100.0))
    >>> shrunk([30, 3], [100, 10], prior).round(3).tolist()  # the same raw rate, of more and of fewer people
    [0.4, 0.482]
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    mean, own = np.asarray(prior.mean)[..., None], weight(n, prior)
    raw = np.divide(k, n, out=np.broadcast_to(mean, np.broadcast_shapes(k.shape, mean.shape)).copy(), where=n > 0)
    result: Floats = mean + own * (raw - mean)
    return result


def weight(trials: npt.ArrayLike, prior: Prior) -> Floats:
    """Return how much of a group's distance from the mean is believed: n / (n + strength)."""
    n, strength = np.asarray(trials, dtype=float), np.asarray(prior.strength)[..., None]
    result: Floats = np.where(np.isfinite(strength), n / (n + np.where(np.isfinite(strength), strength, 1.0)), 0.0)
    return result


def percentile(rates: npt.ArrayLike, people: npt.ArrayLike, share: float) -> Floats:
    """Return the rate that a share of the people lie below, between groups by straight lines.

    People count, not groups, so that a few people in many small groups do not make it. Each group stands at the middle
    of its people; beyond the middle of the outermost groups it is their rate.

    >>> float(percentile([0.2, 0.6], [100, 100], 0.75)), float(percentile([0.2, 0.6], [100, 100], 0.5))
    (0.6, 0.4)
    """
    values, weights = np.broadcast_arrays(np.asarray(rates, dtype=float), np.asarray(people, dtype=float))
    order = np.argsort(values, axis=-1, kind="stable")
    values, weights = np.take_along_axis(values, order, -1), np.take_along_axis(weights, order, -1)
    total = weights.sum(axis=-1, keepdims=True)
    middle = (weights.cumsum(axis=-1) - weights / 2) / np.where(total > 0, total, 1)
    above = np.minimum((middle < share).sum(axis=-1, keepdims=True), values.shape[-1] - 1)
    below = np.maximum(above - 1, 0)
    left, right = np.take_along_axis(middle, below, -1), np.take_along_axis(middle, above, -1)
    step = np.where(right > left, (share - left) / np.where(right > left, right - left, 1), 1)
    step = np.clip(step, 0, 1)
    result: Floats = np.take_along_axis(values, below, -1) * (1 - step) + np.take_along_axis(values, above, -1) * step
    return result[..., 0]


def _profile(k: Floats, n: Floats, start: Floats, log_strength: Floats) -> tuple[Floats, Floats]:
    """The largest likelihood (up to a constant) at a strength, and the mean where it lies."""
    strength = np.exp(log_strength)[..., None]
    mean = np.clip(start, 1e-9, 1 - 1e-9)[..., None]
    for _ in range(4):
        a, b = mean * strength, (1 - mean) * strength
        score = digamma(k + a) - digamma(a) - digamma(n - k + b) + digamma(b)
        slope = _trigamma(k + a) - _trigamma(a) + _trigamma(n - k + b) - _trigamma(b)
        s, c = score.sum(axis=-1, keepdims=True), slope.sum(axis=-1, keepdims=True) * strength
        step = np.divide(s, c, out=np.zeros_like(s), where=c < 0)
        # A step may at most halve the way to 0 or 1.
        mean = np.clip(mean - step, mean / 2, (1 + mean) / 2)
    a, b = mean * strength, (1 - mean) * strength
    likelihood = (gammaln(k + a) - gammaln(a)) + (gammaln(n - k + b) - gammaln(b))
    likelihood = likelihood - (gammaln(n + strength) - gammaln(strength))
    return likelihood.sum(axis=-1), mean[..., 0]


def _trigamma(x: Floats) -> Floats:
    """The derivative of the digamma function to four digits, enough for a step; scipy's is twenty times slower."""
    y = 1 / (x + 2)
    near = 1 / (x * x) + 1 / ((x + 1) * (x + 1))
    result: Floats = near + y * (1 + y * (0.5 + y * (1 / 6 - y * y * (1 / 30 - y * y / 42))))
    return result
