"""Cox's partial likelihood: its maximum, and the test of its assumption, for rows that may enter late.

lifelines fits the same model, and the tests hold this one to it. It is not used, because with late entry its time
grows with rows × different times (a minute and a half for 20,000 start–stop rows of exact times), and its test of
proportional hazards grows with the square of the rows and knows no late entry. Here sums over those at risk are
differences of cumulative sums, so that a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats as _stats

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

STEPS = 50
SETTLED = 1e-10  # of the log-likelihood: what another step of Newton's could still add
UNSETTLED = "the model did not settle on one answer (too few people, or covariates that nearly repeat each other)"
_WIDE = 5.0  # standard error of a column of spread 1, beyond which a ratio has no finite estimate


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Attributes:
        names: of the columns, in the order of all else.
        coefficients: logarithms of the hazard ratios for one unit.
        variance: their covariance matrix (inverse of the observed information).
        log_likelihood: the partial one, with Efron's correction for ties.
        log_likelihood_null: the same with all ratios 1.
        changing_p_value: of each column's test of proportional hazards.
    """

    names: tuple[str, ...]
    coefficients: Numbers
    variance: Numbers
    log_likelihood: float
    log_likelihood_null: float
    changing_p_value: Numbers

    @property
    def errors(self) -> Numbers:
        return np.sqrt(np.diag(self.variance))


@dataclass(frozen=True)
class _Stratum:
    """Rows that are compared with each other, sorted by the end of their time."""

    x: Numbers
    ended: Whole  # rows of the events, those of one time together
    tied: Whole  # the first of the events of each time
    time_of: Whole  # the number of each event's time
    ties: Numbers  # l/d: how many of the events of the same time come before each event, of all of them
    times: Numbers
    at_risk: Whole  # for each time, rows from here on end at it or later
    late: Whole | None  # rows by the start of their time, where any is late
    entering: Whole  # for each time, rows of `late` from here on start at it or later
    until: Whole  # for each row, how many times lie before or at its end
    since: Whole  # and before or at its start


def fit(
    data: pd.DataFrame, names: Sequence[str], *, start: str = "entered_days", stop: str = "duration_days",
    strata: str = "",
) -> Fitted | None:  # fmt: skip
    """Fit a Cox model of some columns; None where it has no answer (`UNSETTLED` says so in words).

    Rows count as at risk after `start` up to and including `stop` (0 where the table has no `start`), and are compared
    within the groups of `strata` only. Ties are Efron's (1977). Newton's method on standardised columns, with steps
    halved where they lead downwards. `changing_p_value` is Grambsch and Therneau's test (1994): scaled Schoenfeld
    residuals against the rank of time, with mean ranks for ties.

    Requires `stop`, `ended` (0 or 1) and the columns, without missing values.
    """
    x = data[list(names)].to_numpy(float)
    spread = x.std(axis=0)
    if not len(x) or not len(names) or (spread == 0).any():
        return None
    x = (x - x.mean(axis=0)) / spread
    groups = _groups(data, x, start, stop, strata)
    if not groups:
        return None
    beta = np.zeros(x.shape[1])
    likelihood, gradient, information = _sums(groups, beta)
    null = likelihood
    for _ in range(STEPS):
        step = _solve(information, gradient)
        if step is None:
            return None
        gain = float(gradient @ step)
        if not np.isfinite(gain):
            return None
        if gain < SETTLED * max(1.0, abs(likelihood)):
            break
        for _ in range(20):
            found = _sums(groups, beta + step)
            if np.isfinite(found[0]) and found[0] >= likelihood - 1e-9 * abs(likelihood):
                break
            step = step / 2
        else:
            return None
        beta = beta + step
        likelihood, gradient, information = found
    else:
        return None
    inverse = _solve(information, np.eye(len(beta)))
    if inverse is None or not (np.diag(inverse) > 0).all() or float(np.diag(inverse).max()) > _WIDE**2:
        return None
    p_values = _changing(groups, beta, inverse)
    variance = inverse / np.outer(spread, spread)
    return Fitted(tuple(names), beta / spread, variance, likelihood, null, p_values)


def _groups(data: pd.DataFrame, x: Numbers, start: str, stop: str, strata: str) -> list[_Stratum]:
    begins = data[start].to_numpy(float) if start in data else np.zeros(len(data))
    ends, ended = data[stop].to_numpy(float), data["ended"].to_numpy(int)
    number = pd.factorize(data[strata], sort=True)[0] if strata else np.zeros(len(data), dtype=np.int64)
    parts = [np.flatnonzero(number == n) for n in range(int(number.max()) + 1)]
    return [_stratum(x[rows], begins[rows], ends[rows], ended[rows]) for rows in parts if ended[rows].any()]


def _stratum(x: Numbers, begins: Numbers, ends: Numbers, ended: npt.NDArray[np.int64]) -> _Stratum:
    order = np.argsort(ends, kind="stable")
    x, begins, ends = x[order], begins[order], ends[order]
    events = np.flatnonzero(ended[order] == 1)
    times, tied, which, counts = np.unique(ends[events], return_index=True, return_inverse=True, return_counts=True)
    late = np.argsort(begins, kind="stable") if (begins > 0).any() else None
    sorted_begins = begins[late] if late is not None else begins
    return _Stratum(
        x=x,
        ended=events,
        tied=tied,
        time_of=which,
        ties=(np.arange(len(events)) - tied[which]) / counts[which],
        times=times,
        at_risk=np.searchsorted(ends, times, side="left"),
        late=late,
        entering=np.searchsorted(sorted_begins, times, side="left"),
        until=np.searchsorted(times, ends, side="right"),
        since=np.searchsorted(times, begins, side="right"),
    )


def _at_risk(group: _Stratum, values: Numbers) -> Numbers:
    """Return the sum of values over the rows at risk at each time."""
    found = _from(values)[group.at_risk]
    return found if group.late is None else found - _from(values[group.late])[group.entering]


def _from(values: Numbers) -> Numbers:
    """Return the sum of values from each row to the last one, and 0 beyond."""
    ends = np.zeros((1, *values.shape[1:]))
    return np.concatenate([np.cumsum(values[::-1], axis=0)[::-1], ends])


def _means(group: _Stratum, beta: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return each row's risk and its logarithm, and for each event Efron's sum and mean of those at risk."""
    log_risk = group.x @ beta
    risk = np.exp(log_risk - log_risk.max())
    weighted = group.x * risk[:, None]
    total, total_x = _at_risk(group, risk), _at_risk(group, weighted)
    tie, tie_x = (np.add.reduceat(values[group.ended], group.tied, axis=0) for values in (risk, weighted))
    which, ties = group.time_of, group.ties
    below = total[which] - ties * tie[which]
    mean = (total_x[which] - ties[:, None] * tie_x[which]) / below[:, None]
    return risk, log_risk, below, mean


def _sums(groups: Sequence[_Stratum], beta: Numbers) -> tuple[float, Numbers, Numbers]:
    """Return the log-likelihood, its gradient and the information."""
    likelihood, gradient = 0.0, np.zeros(len(beta))
    information = np.zeros((len(beta), len(beta)))
    for group in groups:
        with np.errstate(all="ignore"):
            risk, log_risk, below, mean = _means(group, beta)
            likelihood += float(log_risk[group.ended].sum() - np.log(below).sum() - len(below) * log_risk.max())
            gradient += group.x[group.ended].sum(axis=0) - mean.sum(axis=0)
            # Second moments of those at risk, summed over events: each row counts at the times that it is at risk,
            # and as one of those who leave at a time a little less.
            hazard = np.append(0.0, np.cumsum(np.add.reduceat(1 / below, group.tied)))
            weight = hazard[group.until] - hazard[group.since]
            weight[group.ended] -= np.add.reduceat(group.ties / below, group.tied)[group.time_of]
            information += (group.x * (risk * weight)[:, None]).T @ group.x - mean.T @ mean
    return likelihood, gradient, information


def _changing(groups: Sequence[_Stratum], beta: Numbers, variance: Numbers) -> Numbers:
    """Return the p-value of each column's test that its ratio does not change with time."""
    left, when = [], []
    for group in groups:
        counts = np.diff(np.append(group.tied, len(group.ended)))
        mean = np.add.reduceat(_means(group, beta)[3], group.tied, axis=0) / counts[:, None]
        left.append(group.x[group.ended] - mean[group.time_of])
        when.append(group.times[group.time_of])
    residuals, rank = np.concatenate(left), _stats.rankdata(np.concatenate(when))
    rank = rank - rank.mean()
    spread = float((rank**2).sum())
    if spread == 0:
        return np.ones(len(beta))
    score = len(rank) * (rank @ residuals) @ variance
    return np.asarray(_stats.chi2.sf(score**2 / (len(rank) * np.diag(variance) * spread), 1))


def _solve(matrix: Numbers, right: Numbers) -> Numbers | None:
    if not np.isfinite(matrix).all():
        return None
    try:
        return np.asarray(np.linalg.solve(matrix, right))
    except np.linalg.LinAlgError:
        return None
