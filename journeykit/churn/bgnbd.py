"""Customers who buy when they like and leave without a word: the BG/NBD model of their purchases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import gammaln, hyp2f1, psi

from journeykit.churn.curves import Z95
from journeykit.errors import JourneyError, require_columns
from journeykit.stats import not_enough

NAMES = ("r", "alpha", "a", "b")
MIN_REPEAT = 30  # customers with a repeat purchase; with fewer, four parameters are guesses
FAR = 9.0  # of the logarithm of a parameter: beyond it the likelihood is flat, and its top lies at no finite place
FLAT = 1e-4  # of the mean log-likelihood, the steepest slope that counts as a top
PARAMETER_COLUMNS = ("parameter", "value", "value_low", "value_high", "meaning")
MEANING = {
    "r": "how alike customers are in their pace of buying (large: alike)",
    "alpha": "with r: purchases come at r / alpha a time unit on average while a customer is active",
    "a": "with b: the chance of leaving after a purchase is a / (a + b) on average",
    "b": "with a: how alike customers are in their chance of leaving (large: alike)",
}


@dataclass(frozen=True)
class Model:
    """A fitted BG/NBD model; `reason` says why there is none. Time is in units of `unit_days`."""

    r: float = math.nan
    alpha: float = math.nan
    a: float = math.nan
    b: float = math.nan
    unit_days: float = 7.0
    log_likelihood: float = math.nan
    n: int = 0
    repeat_n: int = 0
    covariance: np.ndarray | None = field(default=None, compare=False)
    """Of the logarithms of r, alpha, a and b."""
    reason: str = ""

    def alive(self, repeat_n: Any, recency_days: Any, age_days: Any) -> np.ndarray:
        """Return the probability that each customer is still active (P(alive)); 1 without a repeat purchase.

        In this model a customer leaves after a purchase, so one who bought once cannot have left yet.

        >>> published = Model(r=0.243, alpha=4.414, a=0.793, b=2.426)
        >>> float(published.alive(2, 7 * 30.43, 7 * 38.86).round(4))
        0.7266
        """
        x, recency, age = self._units(repeat_n, recency_days, age_days)
        odds = math.log(self.a) - np.log(self.b + np.maximum(x, 1) - 1)
        odds = odds + (self.r + x) * (np.log(self.alpha + age) - np.log(self.alpha + recency))
        return np.asarray(np.where(x > 0, 1 / (1 + np.exp(np.minimum(odds, 700))), 1.0))

    def if_alive(self, repeat_n: Any, age_days: Any, days: Any) -> np.ndarray:
        """Return the purchases expected in the next `days` of a customer who is still active.

        The closed form of Fader, Hardie & Lee (2005, eq. 10) after Euler's transformation, whose parameters stay
        small for customers with many purchases, where the original overflows.
        """
        x, age, ahead = self._units(repeat_n, age_days, days)
        # At a = 1 the form is 0/0; its two sides meet there.
        sides = (self.a - 1e-5, self.a + 1e-5) if abs(self.a - 1) < 1e-5 else (self.a,)
        return np.asarray(np.mean([self._closed(a, x, age, ahead) for a in sides], axis=0))

    def purchases(self, repeat_n: Any, recency_days: Any, age_days: Any, days: Any) -> np.ndarray:
        """Return the purchases (days with one) expected of each customer in the next `days`.

        >>> published = Model(r=0.243, alpha=4.414, a=0.793, b=2.426)
        >>> float(published.purchases(2, 7 * 30.43, 7 * 38.86, 7 * 39).round(3))
        1.226
        """
        return self.alive(repeat_n, recency_days, age_days) * self.if_alive(repeat_n, age_days, days)

    def _closed(self, a: float, x: np.ndarray, age: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        last = a + self.b + x - 1
        z = ahead / (self.alpha + age + ahead)
        power = (1 - z) ** (a - 1)
        # At the edge of the model this is 0 times infinity: the result is not finite, which callers look at.
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(last / (a - 1) * (1 - power * hyp2f1(a + self.b - 1 - self.r, a - 1, last, z)))

    def _units(self, x: Any, *days: Any) -> list[np.ndarray]:
        if self.reason:
            raise JourneyError(f"BG/NBD: there is no model to predict with: {self.reason}. Look at `reason` first.")
        return [np.asarray(x, dtype=float), *(np.asarray(one, dtype=float) / self.unit_days for one in days)]


class Rows:
    """Customers laid out for the likelihood: equal ones counted once, which makes a million of them cheap."""

    def __init__(self, customers: pd.DataFrame, unit_days: float) -> None:
        require_columns(customers.columns, ["repeat_n", "recency_days", "age_days"], "BG/NBD")
        columns = customers[["repeat_n", "recency_days", "age_days"]].to_numpy(float)
        wrong = (columns < 0).any(axis=1) | (columns[:, 1] > columns[:, 2]) | ~np.isfinite(columns).all(axis=1)
        if wrong.any():
            raise JourneyError(
                f"BG/NBD: {int(wrong.sum()):,} customers have a negative number, or bought after the end of "
                "observation. Make the table with purchases.customers."
            )
        grouped = customers.groupby(["repeat_n", "recency_days", "age_days"], sort=True)
        self.group = grouped.ngroup().to_numpy(int)
        distinct = grouped.size().reset_index(name="_n")
        self.x = distinct["repeat_n"].to_numpy(float)
        self.recency, self.age = (distinct[name].to_numpy(float) / unit_days for name in ("recency_days", "age_days"))
        self.count, self.unit_days = distinct["_n"].to_numpy(float), unit_days
        self._values, self._value = np.unique(self.x, return_inverse=True)

    def weights(self, drawn: np.ndarray | None = None) -> np.ndarray:
        """How often each distinct customer counts when people are drawn."""
        return self.count if drawn is None else np.bincount(self.group, weights=drawn, minlength=len(self.count))

    def likelihood(self, logs: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-likelihood at the logarithms of the parameters, and its gradient."""
        r, alpha, a, b = np.exp(logs)
        x, values = self.x, self._values
        many = np.bincount(self._value, weights=weights, minlength=len(values))
        fixed = gammaln(r + values) - gammaln(r) + r * math.log(alpha)
        fixed = fixed + gammaln(a + b) + gammaln(b + values) - gammaln(b) - gammaln(a + b + values)
        stayed = -(r + x) * np.log(alpha + self.age)
        repeat = x > 0
        left = np.where(
            repeat, math.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + self.recency), -np.inf
        )
        both = np.logaddexp(stayed, left)
        gone = np.exp(left - both)
        here = 1 - gone
        slope = np.array(
            [
                dot(many, psi(r + values) - psi(r) + math.log(alpha))
                - dot(weights, here * np.log(alpha + self.age) + gone * np.log(alpha + self.recency)),
                weights.sum() * r / alpha
                - dot(weights, (r + x) * (here / (alpha + self.age) + gone / (alpha + self.recency))),
                dot(many, psi(a + b) - psi(a + b + values)) + dot(weights, gone) / a,
                dot(many, psi(a + b) + psi(b + values) - psi(b) - psi(a + b + values))
                - dot(weights, gone / (b + np.maximum(x, 1) - 1)),
            ]
        )
        return dot(many, fixed) + dot(weights, both), slope * np.exp(logs)


def fit(customers: pd.DataFrame, *, unit_days: float = 7.0) -> Model:
    """Fit the BG/NBD model by maximum likelihood.

    Assumes that an active customer buys at random times at an own pace (gamma-distributed over customers, shape r,
    rate alpha), and after each purchase leaves for good with an own probability (beta(a, b)), unseen. Rivals:
    Pareto/NBD, which lets customers leave between purchases too, gives nearly the same forecasts and is harder to
    fit; a fixed silence after which everybody counts as gone, which takes frequent and rare buyers alike.

    Args:
        customers: of `purchases.customers`: `repeat_n`, `recency_days`, `age_days`.
        unit_days: days of the time unit that alpha is in; 7 is weeks. It changes no prediction.

    Returns:
        The model, with the covariance of the logarithms of its parameters (inverse of the observed information). Where
        fewer than 30 customers bought again, or the likelihood has no top, there is only `reason`.

    Raises:
        JourneyError: a column is missing, or a customer bought after the end of observation.

    Source: Fader, Hardie & Lee (2005), "Counting Your Customers" the Easy Way, Marketing Science 24.
    """
    reason = few(customers)
    if reason:
        require_columns(customers.columns, ["repeat_n", "recency_days", "age_days"], "BG/NBD")
        return Model(unit_days=unit_days, n=len(customers), reason=reason)
    rows = Rows(customers, unit_days)
    return refit(rows, rows.weights())


def few(customers: pd.DataFrame) -> str:
    """Return why there are too few customers to fit, or ""."""
    again = int((customers["repeat_n"] > 0).sum()) if "repeat_n" in customers else 0
    if again >= MIN_REPEAT:
        return ""
    return f"not enough data (n = {again} customers bought again, at least {MIN_REPEAT} are needed)"


def refit(rows: Rows, weights: np.ndarray, start: Model | None = None) -> Model:
    """Fit the model to weighted rows; near another model, from its parameters and with its curvature."""
    total = float(weights.sum())
    logs = None
    if start is not None and start.covariance is not None:
        first = np.log([start.r, start.alpha, start.a, start.b])
        logs = climb(lambda at: rows.likelihood(at, weights)[1], first, start.covariance, total)
    reason = ""
    if logs is None:
        logs, reason = _search(rows, weights, total)
    r, alpha, a, b = (float(value) for value in np.exp(logs))
    model = Model(
        *(r, alpha, a, b),
        unit_days=rows.unit_days,
        log_likelihood=rows.likelihood(logs, weights)[0],
        n=round(total),
        repeat_n=round(dot(weights, rows.x > 0)),
        reason=reason,
    )
    if reason or start is not None:
        return model
    covariance = information(lambda at: rows.likelihood(at, weights)[1], logs)
    if covariance is None:
        return replace(model, reason="the fit did not settle on one answer: the purchases fit many alike")
    return replace(model, covariance=covariance)


def climb(slope: Any, logs: np.ndarray, covariance: np.ndarray, total: float) -> np.ndarray | None:
    """Return the top near a point, by steps with a curvature known from nearby; None where they do not arrive.

    A resample moves the top by little, so that a few steps do in place of a search.
    """
    for _ in range(12):
        gradient = slope(logs)
        if not np.isfinite(gradient).all():
            return None
        if np.abs(gradient).max() < 1e-6 * total:
            return logs
        step = (covariance * gradient).sum(axis=1)
        logs = logs + step * min(1.0, 1.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(logs).max() > FAR - 1e-3:
            return None
    return None


def _search(rows: Rows, weights: np.ndarray, total: float) -> tuple[np.ndarray, str]:
    """The top of the likelihood from two starts, and why it is none."""
    pace = max(dot(weights, rows.x) / max(dot(weights, rows.age), 1e-12), 1e-9)
    best: Any = None
    for point in ([0.5, 0.5 / pace, 1.0, 2.5], [2.0, 2.0 / pace, 0.3, 2.0]):
        found = optimize.minimize(
            lambda logs: tuple(-part / total for part in rows.likelihood(logs, weights)),
            np.clip(np.log(point), -FAR, FAR),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-FAR, FAR)] * 4,
            options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8},
        )
        best = found if best is None or found.fun < best.fun - 1e-12 else best
    at_edge = [name for name, value in zip(NAMES, best.x, strict=True) if abs(value) > FAR - 1e-3]
    if at_edge:
        return best.x, _edge(at_edge, best.x)
    if not np.isfinite(best.fun) or np.abs(best.jac).max() > FLAT:
        return best.x, "the model of purchases did not settle"
    return best.x, ""


def parameters(model: Model) -> pd.DataFrame:
    """Return the parameters with their intervals (Wald, on the logarithm), and what they mean.

    One row per parameter: parameter, value, value_low, value_high, meaning. `.attrs`: log_likelihood, n.
    """
    if model.reason or model.covariance is None:
        return not_enough(PARAMETER_COLUMNS, model.reason or "a refit has no intervals of its own")
    values = np.array([getattr(model, name) for name in NAMES])
    half = Z95 * np.sqrt(np.diag(model.covariance))
    table = pd.DataFrame(
        {
            "parameter": NAMES,
            "value": values,
            "value_low": values * np.exp(-half),
            "value_high": values * np.exp(half),
            "meaning": [MEANING[name] for name in NAMES],
        }
    )
    table.attrs.update(log_likelihood=model.log_likelihood, n=model.n)
    return table


def dot(weights: np.ndarray, values: np.ndarray) -> float:
    """Return the weighted sum; without a library of matrices, whose threads give other last digits on other machines.

    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    11.0
    """
    return float((weights * values).sum())


def information(slope: Any, logs: np.ndarray) -> np.ndarray | None:
    """Return the inverse of the curvature of a log-likelihood, from its gradient; None where it has no top."""
    step = 1e-5
    columns = [(slope(logs + step * unit) - slope(logs - step * unit)) / (2 * step) for unit in np.eye(len(logs))]
    curvature = -(np.array(columns) + np.array(columns).T) / 2
    roots = np.linalg.eigvalsh(curvature) if np.isfinite(curvature).all() else np.zeros(1)
    return np.linalg.inv(curvature) if roots.min() > 1e-7 * max(roots.max(), 1e-300) else None


def _edge(names: list[str], logs: np.ndarray) -> str:
    place = dict(zip(NAMES, logs, strict=True))
    leaving = math.exp(place["a"]) / (math.exp(place["a"]) + math.exp(place["b"]))
    if "a" in names and place["a"] < 0:
        what = "nobody seems to leave"
    elif {"a", "b"} & set(names) and max(place["a"], place["b"]) > 0:
        what = f"after a repeat purchase everybody seems to leave with the same chance, {100 * leaving:.0f} %"
    elif "r" in names and place["r"] > 0:
        what = "customers do not seem to differ in their pace of buying"
    else:
        what = "paces of buying, or chances of leaving, seem to differ without bound"
    edge = "That is at the edge of what it can describe: nothing is foretold"
    return f"the model of purchases did not settle: {what}. {edge}"
