"""How much customers spend on a purchase: the Gamma–Gamma model, and the check of what it assumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize
from scipy.special import gammaln, psi

from journeykit.churn.bgnbd import FAR, FLAT, MIN_REPEAT, PARAMETER_COLUMNS, climb, dot, information
from journeykit.churn.curves import Z95
from journeykit.errors import JourneyError, require_columns
from journeykit.stats import not_enough

NAMES = ("p", "q", "gamma")
LIMIT = 0.2  # of the correlation of frequency and spend; see `assumption`
ASSUMPTION_COLUMNS = ("n", "correlation", "correlation_low", "correlation_high", "limit", "holds")
MEANING = {
    "p": "how alike the purchases of one customer are (large: alike)",
    "q": "how alike customers are in their mean spend (large: alike; above 1 for a mean over customers)",
    "gamma": "the scale of spend: the mean over customers is p · gamma / (q − 1)",
}


@dataclass(frozen=True)
class Model:
    """A fitted Gamma–Gamma model; `reason` says why there is none."""

    p: float = math.nan
    q: float = math.nan
    gamma: float = math.nan
    log_likelihood: float = math.nan
    n: int = 0
    covariance: np.ndarray | None = field(default=None, compare=False)
    reason: str = ""

    def expected(self, repeat_n: Any, mean_spend: Any) -> np.ndarray:
        """Return what each customer is expected to spend on a purchase: the own mean, drawn towards that of all.

        The fewer repeat purchases, the nearer to the mean of all; without one (or without spend) it is that mean.

        >>> published = Model(p=6.25, q=3.74, gamma=15.44)
        >>> float(published.expected(2, 22.35).round(2))
        24.66
        """
        if self.reason:
            raise JourneyError(
                f"Gamma–Gamma: there is no model to predict with: {self.reason}. Look at `reason` first."
            )
        x, mean = np.asarray(repeat_n, dtype=float), np.asarray(mean_spend, dtype=float)
        x = np.where(mean > 0, x, 0.0)
        return np.asarray(self.p * (self.gamma + x * np.where(x > 0, mean, 0.0)) / (self.p * x + self.q - 1))


class Rows:
    """Repeat buyers laid out for the likelihood; `used` are their places among the customers."""

    def __init__(self, customers: pd.DataFrame) -> None:
        require_columns(customers.columns, ["repeat_n", "mean_spend"], "Gamma–Gamma")
        self.used = np.flatnonzero((customers["repeat_n"] > 0) & (customers["mean_spend"] > 0))
        part = customers.iloc[self.used]
        self.x, mean = part["repeat_n"].to_numpy(float), part["mean_spend"].to_numpy(float)
        self.scale = float(np.median(mean)) if len(mean) else 1.0
        self.mean = mean / self.scale  # so that the start is near whatever the currency
        self._logs = np.log(self.mean)
        self._values, self._value = np.unique(self.x, return_inverse=True)

    def likelihood(self, logs: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log-likelihood at the logarithms of p, q and gamma (in units of `scale`), and its gradient."""
        p, q, gamma = np.exp(logs)
        x, values = self.x, self._values
        many = np.bincount(self._value, weights=weights, minlength=len(values))
        total, sum_logs = weights.sum(), dot(weights, x * self._logs)
        above = gamma + x * self.mean
        log_above, over = np.log(above), 1 / above
        fixed = gammaln(p * values + q) - gammaln(p * values) - gammaln(q) + q * math.log(gamma)
        fixed = fixed + p * values * np.log(values)
        value = dot(many, fixed) + p * sum_logs - dot(weights, self._logs) - dot(weights, (p * x + q) * log_above)
        slope = np.array(
            [
                dot(many, values * (psi(p * values + q) - psi(p * values) + np.log(values)))
                + sum_logs
                - dot(weights, x * log_above),
                dot(many, psi(p * values + q) - psi(q) + math.log(gamma)) - dot(weights, log_above),
                total * q / gamma - dot(weights, (p * x + q) * over),
            ]
        )
        return float(value), slope * np.exp(logs)


def fit(customers: pd.DataFrame) -> Model:
    """Fit the Gamma–Gamma model of spend by maximum likelihood, to customers with a repeat purchase and spend above 0.

    Assumes that the purchases of a customer vary around an own mean (gamma, shape p), that the means vary over
    customers (gamma: q and gamma), and that neither has to do with how often a customer buys (see `assumption`).
    Rivals: each customer's plain mean, which is chance alone after one purchase; the mean of all for everybody, which
    forgets who spends more.

    Args:
        customers: of `purchases.customers`: `repeat_n`, `mean_spend` in the study's currency.

    Returns:
        The model; where fewer than 30 customers can be used, spends do not vary, or the mean over customers is not
        finite (q ≤ 1), there is only `reason`.

    Source: Fader & Hardie (2013), The Gamma-Gamma Model of Monetary Value.
    """
    rows = Rows(customers)
    return refit(rows, np.ones(len(rows.used)))


def refit(rows: Rows, weights: np.ndarray, start: Model | None = None) -> Model:
    """Fit the model to weighted rows; near another model, from its parameters and with its curvature."""
    total = float(weights.sum())
    if total < MIN_REPEAT:
        why = f"n = {total:.0f} customers with a repeat purchase and spend above 0, at least {MIN_REPEAT} are needed"
        return Model(n=int(total), reason=f"not enough data ({why})")
    if np.ptp(rows.mean[weights > 0]) < 1e-9:
        return Model(n=int(total), reason="everybody spends the same on a purchase, so that nothing is to be estimated")
    logs = None
    if start is not None and start.covariance is not None:
        first = np.log([start.p, start.q, start.gamma / rows.scale])
        logs = climb(lambda at: rows.likelihood(at, weights)[1], first, start.covariance, total)
    reason = ""
    if logs is None:
        logs, reason = _search(rows, weights, total)
    p, q, gamma = (float(value) for value in np.exp(logs))
    value = rows.likelihood(logs, weights)[0] - total * math.log(rows.scale)
    model = Model(p=p, q=q, gamma=gamma * rows.scale, log_likelihood=value, n=round(total), reason=reason)
    if not reason and q <= 1:
        reason = f"spends are so uneven that their mean over customers is not finite (q = {q:.2f})"
        return replace(model, reason=reason)
    if reason or start is not None:
        return model
    covariance = information(lambda at: rows.likelihood(at, weights)[1], logs)
    if covariance is None:
        return replace(model, reason="the model of spend did not settle on one answer")
    return replace(model, covariance=covariance)


def _search(rows: Rows, weights: np.ndarray, total: float) -> tuple[np.ndarray, str]:
    """The top of the likelihood, and why it is none."""
    found = optimize.minimize(
        lambda logs: tuple(-part / total for part in rows.likelihood(logs, weights)),
        np.log([4.0, 4.0, 0.75]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-FAR, FAR)] * 3,
        options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-8},
    )
    if np.abs(found.x).max() > FAR - 1e-3:
        return found.x, "the model of spend did not settle: the purchases of one customer are all but alike"
    if not np.isfinite(found.fun) or np.abs(found.jac).max() > FLAT:
        return found.x, "the model of spend did not settle"
    return found.x, ""


def parameters(model: Model) -> pd.DataFrame:
    """Return the parameters with their intervals (Wald, on the logarithm); the columns of `bgnbd.parameters`."""
    if model.reason or model.covariance is None:
        return not_enough(PARAMETER_COLUMNS, model.reason or "a refit has no intervals of its own")
    values = np.array([getattr(model, name) for name in NAMES])
    half = Z95 * np.sqrt(np.diag(model.covariance))
    meaning = [MEANING[name] for name in NAMES]
    columns = [NAMES, values, values * np.exp(-half), values * np.exp(half), meaning]
    table = pd.DataFrame(dict(zip(PARAMETER_COLUMNS, columns, strict=True)))
    table.attrs.update(log_likelihood=model.log_likelihood, n=model.n)
    return table


def assumption(customers: pd.DataFrame, *, limit: float = LIMIT) -> pd.DataFrame:
    """Return whether mean spend goes with frequency, which the model of spend assumes it does not.

    Definition: Pearson's correlation of the number of repeat purchases and their mean spend, among customers with
    spend above 0. Its interval is that of Fisher's z with the variance that the customers show (of the correlation's
    influence function), because Fisher's own holds for normal numbers only, which these are not. The assumption
    **fails** when the whole interval is beyond ±`limit`. Why 0.2: in simulated worlds in which spend rises with the
    pace of buying, a correlation of 0.1 made the value of all 3 % too high and that of customers who bought once 30 %;
    at 0.2 it was 6 % and 100 %, at 0.3 12 % and 350 % (tests/test_churn_spend.py), because who bought once is given
    the mean of all.
    Rivals: a test that the correlation is 0, which with many customers fails on a harmless 0.03; Spearman's, which is
    not 0 where the assumption holds, because the mean of few purchases is more skewed than that of many.

    Returns:
        One row: n, correlation (with low, high), limit, holds (1 or 0). Empty, with a reason, for fewer than 30 such
        customers or where one of the two does not vary.
    """
    require_columns(customers.columns, ["repeat_n", "mean_spend"], "Gamma–Gamma")
    part = customers[(customers["repeat_n"] > 0) & (customers["mean_spend"] > 0)]
    if len(part) < MIN_REPEAT:
        why = f"n = {len(part)} customers with a repeat purchase and spend above 0, at least {MIN_REPEAT} are needed"
        return not_enough(ASSUMPTION_COLUMNS, f"not enough data ({why})")
    columns = part[["repeat_n", "mean_spend"]]
    if (columns.max() - columns.min() < 1e-9).any():
        which = "everybody bought equally often" if np.ptp(part["repeat_n"]) == 0 else "everybody spends the same"
        return not_enough(ASSUMPTION_COLUMNS, f"{which}, so that spend cannot go with frequency")
    x, y = ((columns - columns.mean()) / columns.std(ddof=0)).to_numpy(float).T
    r = min(max(float((x * y).mean()), -0.999999), 0.999999)
    influence = x * y - r * (x**2 + y**2) / 2
    half = Z95 * float(influence.std(ddof=1)) / math.sqrt(len(x)) / (1 - r**2)
    low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
    row = [len(part), r, low, high, limit, int(-limit <= high and low <= limit)]
    return pd.DataFrame([row], columns=list(ASSUMPTION_COLUMNS))
