"""The probability that an arm is better, for shares: a Bayesian reading beside the interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.config import Experiment
from journeykit.experiments.effects import compared, why_not
from journeykit.experiments.estimates import SHARES, problem
from journeykit.experiments.units import ready_for
from journeykit.stats import not_enough

PRIOR = (1.0, 1.0)  # every share is as likely as any other, before anything is known
NODES = 5_000
DRAWS = 200_000
SEED = 17
WARNING = (
    "This probability does not license early looks: stopping as soon as it is above 95 % ships arms without an effect "
    "more often than one in twenty times."
)
BAYES = (
    *("experiment", "metric", "role", "better", "arm", "n_control", "n_treatment", "better_probability_share"),
    *("effect", "effect_low", "effect_high", "loss_if_shipped", "loss_if_kept"),
)


def posterior(units: pd.DataFrame, *, experiment: Experiment, min_n: int = 30) -> pd.DataFrame:
    """Return how probable it is that each treatment arm is better than control, for the metrics that are shares.

    Each arm's share has a Beta(1, 1) prior, so its posterior is Beta(1 + events, 1 + units without); arms are
    independent. The rival, a p-value, answers another question: how often so large a difference is seen when there is
    none. The probability is as sensitive to early looks as a p-value is (`attrs["warning"]` says so): a flat prior
    takes large effects for as likely as small ones. Beta-Binomial model as in Miller (2015), "Formulas for Bayesian
    A/B testing".

    Args:
        units: arm, the metrics, and optionally mature; see `units.units`.
        experiment: the declared experiment.
        min_n: people that each arm needs.

    Returns:
        One row per metric of kind conversion or funnel × treatment arm: experiment, metric, role, better, arm,
        n_control, n_treatment, better_probability_share (of the arm being better, in the direction that is good),
        effect (median difference of shares) with the central 95 % of its posterior, loss_if_shipped and loss_if_kept
        (expected loss in share if that choice is the wrong one).

    >>> plan = Experiment(name="t", hypothesis="h", exposure="x", arms={"a": 0.5, "b": 0.5}, control="a",
    ...     metrics=[{"name": "buys", "event": "buy"}])
    >>> units = pd.DataFrame({"arm": ["a"] * 1000 + ["b"] * 1000, "buys": [1.0] * 100 + [0.0] * 900 + [1.0] * 120
    ...     + [0.0] * 880})
    >>> posterior(units, experiment=plan)["better_probability_share"].round(5).tolist()
    [0.92318]
    """
    rows, left_out = [], []
    reason = why_not(units, experiment, min_n)
    if reason:
        return not_enough(BAYES, f"{experiment.name}: {reason}")
    if experiment.cluster:
        reason = f"arms were drawn by {experiment.cluster}, and the model takes people as independent"
        return not_enough(BAYES, f"{experiment.name}: {reason}")
    metrics = [metric for metric in experiment.metrics if metric.kind in SHARES]
    if not metrics:
        return not_enough(BAYES, f"{experiment.name}: no metric is a share (conversion or funnel)")
    for metric in metrics:
        known = compared(ready_for(units, metric), metric, experiment.name)
        control = known.loc[known["arm"] == experiment.control]
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            treatment = known.loc[known["arm"] == arm]
            why = problem(control, treatment, metric, min_n)
            if why:
                left_out.append(f"{metric.name} ({arm}): {why}")
                continue
            (a0, b0), (a1, b1) = (_beta(side[metric.name]) for side in (control, treatment))
            higher = probability_higher(a1, b1, a0, b0)
            rng = np.random.default_rng(SEED)
            difference = rng.beta(a1, b1, DRAWS) - rng.beta(a0, b0, DRAWS)
            gain = difference if metric.better == "up" else -difference
            low, median, high = (float(x) for x in np.quantile(difference, [0.025, 0.5, 0.975]))
            chance = higher if metric.better == "up" else 1 - higher
            losses = (float(np.maximum(-gain, 0).mean()), float(np.maximum(gain, 0).mean()))
            labels = (experiment.label, metric.name, metric.role, metric.better, arm)
            rows.append((*labels, len(control), len(treatment), chance, median, low, high, *losses))
    if not rows:
        return not_enough(BAYES, f"{experiment.name}: no metric can be compared: {'; '.join(left_out)}")
    table = pd.DataFrame(rows, columns=list(BAYES))
    table.attrs["warning"] = WARNING
    return table


def probability_higher(a1: float, b1: float, a0: float, b0: float) -> float:
    """Return the probability that a share with a Beta(a1, b1) posterior exceeds one with Beta(a0, b0).

    By quadrature over the first one's quantiles; equal to Miller's closed form, which is a sum of a1 terms.

    >>> round(probability_higher(121, 881, 101, 901), 5)
    0.92318
    """
    share = _stats.beta.ppf((np.arange(NODES) + 0.5) / NODES, a1, b1)
    return float(_stats.beta.cdf(share, a0, b0).mean())


def _beta(values: pd.Series) -> tuple[float, float]:
    events = float(values.sum())
    return PRIOR[0] + events, PRIOR[1] + len(values) - events
