"""The sample ratio day by day, by a test that may be looked at every day."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import gammaln, logsumexp

from journeykit.config import Experiment
from journeykit.errors import require_columns
from journeykit.experiments.trust import BROKEN, check_arms, drawn_units, graded
from journeykit.stats import not_enough

# Beliefs about how far from the plan a broken split is: a hair's breadth, which takes very many people to see, or so
# far that a test of some hundred shows it. The mean of their Bayes factors is as valid as each.
CONCENTRATIONS = (10_000.0, 100.0)
DAYS = (
    *("experiment", "day", "arm", "planned_share", "n", "total_n", "share", "allowed_low", "allowed_high"),
    *("p_value", "verdict"),
)


def split_by_day(
    units: pd.DataFrame, *, experiment: Experiment, concentrations: tuple[float, ...] = CONCENTRATIONS
) -> pd.DataFrame:
    """Return how the split developed, with a p-value that holds although it is looked at every day.

    Sequential multinomial–Dirichlet test (Lindon & Malek 2022): the Bayes factor of shares drawn from a Dirichlet
    distribution around the plan against the planned shares; one over its running maximum is a p-value at all times at
    once. With the usual concentration of 10,000 alone, which expects small departures, tests of a few thousand people
    could never be found broken; so it is averaged with one of 100. The rival, chi-square every day, raises a false
    alarm for almost every test that runs long enough. The check of all people together, done once, is the sharper one.

    Args:
        units: arm, exposed_at (UTC); cluster where arms were drawn by one.
        experiment: the declared experiment.
        concentrations: of the Dirichlet distributions; a smaller one expects larger departures.

    Returns:
        One row per day × arm: experiment, day, arm, planned_share, n (exposed first on that day), total_n (all arms, up
        to then), share (of total_n), allowed_low and allowed_high (shares that would not yet be broken, each arm
        against the others together), p_value (running minimum, all arms), verdict.

    Source: Lindon & Malek (2022), Anytime-valid inference for multinomial count data.
    """
    require_columns(units.columns, ["arm", "exposed_at"], f"split_by_day of {experiment.name}")
    check_arms(units, experiment.arms, f"split_by_day of {experiment.name}")
    if units.empty:
        return not_enough(DAYS, f"{experiment.name}: not enough data (n = 0): nobody was exposed to a declared arm")
    people = drawn_units(units)
    arms, shares = list(experiment.arms), np.array(list(experiment.arms.values()))
    day = people["exposed_at"].dt.normalize()
    daily = pd.crosstab(day, people["arm"]).reindex(columns=arms, fill_value=0).sort_index()
    counts = daily.to_numpy().cumsum(axis=0)
    total = counts.sum(axis=1)
    p_values = np.minimum.accumulate(np.exp(-np.clip(_log_factor(counts, shares, concentrations), 0, 700)))
    rows = []
    for i, arm in enumerate(arms):
        low, high = _allowed(total, shares[i], concentrations)
        part = {"day": daily.index, "n": daily[arm].to_numpy(), "total_n": total, "share": counts[:, i] / total}
        part |= {"planned_share": shares[i], "allowed_low": low, "allowed_high": high, "p_value": p_values}
        rows.append(pd.DataFrame(part).assign(arm=arm, order=i))
    table = pd.concat(rows, ignore_index=True).sort_values(["day", "order"], ignore_index=True)
    verdicts = [graded(p) for p in table["p_value"]]
    return table.assign(experiment=experiment.label, verdict=verdicts)[list(DAYS)]


def _log_factor(counts: np.ndarray, shares: np.ndarray, concentrations: tuple[float, ...]) -> np.ndarray:
    """The logarithm of the mean Bayes factor after each row of cumulative counts."""
    drawn = shares > 0
    seen, total, parts = counts[:, drawn], counts[:, drawn].sum(axis=1), []
    for concentration in concentrations:
        prior = concentration * shares[drawn] / shares[drawn].sum()
        found = gammaln(concentration) - gammaln(concentration + total)
        found = found + (gammaln(prior + seen) - gammaln(prior)).sum(axis=1)
        parts.append(found - (seen * np.log(shares[drawn])).sum(axis=1))
    mean = logsumexp(parts, axis=0) - np.log(len(concentrations))
    return np.asarray(np.where(counts[:, ~drawn].sum(axis=1) > 0, np.inf, mean))


def _allowed(total: np.ndarray, planned: float, concentrations: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest share of one arm at which the test is not broken, by bisection at each total."""
    if not 0 < planned < 1:
        return np.full(len(total), planned), np.full(len(total), planned)
    limit, shares = -np.log(BROKEN), np.array([planned, 1 - planned])

    def inside(share: np.ndarray) -> np.ndarray:
        one = share * total
        return np.asarray(_log_factor(np.column_stack([one, total - one]), shares, concentrations) < limit)

    ends = []
    for edge in (0.0, 1.0):
        good, bad = np.full(len(total), planned), np.full(len(total), edge)
        good = np.where(inside(bad), bad, good)
        for _ in range(50):
            middle = (good + bad) / 2
            fits = inside(middle)
            good, bad = np.where(fits, middle, good), np.where(fits, bad, middle)
        ends.append(good)
    return ends[0], ends[1]
