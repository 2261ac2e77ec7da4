"""Experiments that run at the same time on the same people: whether their arms and their effects meet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit.config import Experiment, Metric
from journeykit.experiments import cells
from journeykit.experiments.trust import alike, graded, split_check
from journeykit.experiments.units import ready_for
from journeykit.stats import not_enough

OVERLAP = ("experiment", "other", "n", "both_share", "p_value", "verdict")
INTERACTIONS = (
    *("experiment", "other", "metric", "arm", "other_arm", "unit", "n", "effect_alone", "effect_together"),
    *("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "verdict"),
)
TOGETHER = 0.05


def overlap(people: Mapping[str, pd.DataFrame], experiments: list[Experiment], *, min_n: int = 30) -> pd.DataFrame:
    """Return, for each two experiments, whether their arms were drawn independently among people who are in both.

    Arms that go together (one experiment's treatment mostly gets the other's) mix their effects. Chi-square of the arms
    of the one by the arms of the other; "broken" below p = 0.001, "warning" below 0.01, as for the split.

    Args:
        people: the units of each experiment by its name: person_id, arm.
        experiments: the declared experiments.
        min_n: people in both, below which nothing is said.

    Returns:
        One row per two experiments with people in both: experiment, other, n (people in both), both_share (of the
        smaller one), p_value, verdict ("ok", "warning" or "broken").
    """
    rows = []
    for one, other in itertools.combinations(experiments, 2):
        both = _both(people[one.name], people[other.name])
        if len(both) < min_n:
            continue
        p_value = _independent(both)
        smaller = min(len(people[one.name]), len(people[other.name]))
        row = {"experiment": one.label, "other": other.label, "n": len(both), "both_share": len(both) / smaller}
        rows.append({**row, "p_value": p_value, "verdict": graded(p_value)})
    if not rows:
        return not_enough(OVERLAP, f"no two tests share {min_n} people, so none can disturb another")
    return pd.DataFrame(rows)[list(OVERLAP)]


def interactions(
    people: Mapping[str, pd.DataFrame], experiments: list[Experiment], *, currency: str = "", min_n: int = 30
) -> pd.DataFrame:
    """Return whether the effect of one experiment depends on the arm that people have in another one.

    The difference of differences: the effect on a primary metric among people in a treatment arm of the other
    experiment, minus the effect among people in its control; Welch's interval over the four groups. p-values of all
    experiments together are adjusted by Holm; "interact" below 0.05. Experiments with a broken split are left out, as
    no effect of theirs is shown. It takes about sixteen times as many people to
    see an interaction half as large as an effect as it takes to see the effect, so that finding none proves little.

    Args:
        people: the units of each experiment by its name: person_id, arm and the primary metrics.
        experiments: the declared experiments.
        currency: unit of value metrics.
        min_n: people that each of the four groups needs.

    Returns:
        One row per experiment × other × primary metric × arms: experiment, other, metric, arm, other_arm, unit, n (in
        the four groups), effect_alone (among people in the other's control), effect_together (in its treatment),
        difference with its 95 % interval, p_value, p_adjusted, verdict ("interact" or "no interaction shown").
    """
    from journeykit.experiments.effects import unit_of  # which reads trust, as this module does

    rows: list[dict[str, Any]] = []
    sound = [plan for plan in experiments if not _is_broken(people[plan.name], plan)]
    for one, other in itertools.permutations(sound, 2):
        for metric in (m for m in one.metrics if m.role == "primary" and cells.usable(m)):
            known = ready_for(people[one.name], metric)
            both = _both(known, people[other.name])
            for arm, other_arm in itertools.product(_treatments(one), _treatments(other)):
                found = _difference(both, metric, (one.control, arm), (other.control, other_arm), min_n)
                if found is not None:
                    named = {"experiment": one.label, "other": other.label, "metric": metric.name, "arm": arm}
                    rows.append({**named, "other_arm": other_arm, "unit": unit_of(metric, currency), **found})
    if not rows:
        return not_enough(INTERACTIONS, f"no two tests share {min_n} people in each combination of their arms")
    table = pd.DataFrame(rows)
    table["p_adjusted"] = multipletests(table["p_value"], method="holm")[1]
    table["verdict"] = ["interact" if p < TOGETHER else "no interaction shown" for p in table["p_adjusted"]]
    return table[list(INTERACTIONS)]


def _is_broken(people: pd.DataFrame, experiment: Experiment) -> bool:
    return bool((split_check(people, planned=experiment.arms)["verdict"] == "broken").any())


def _both(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    return one.merge(other[["person_id", "arm"]].rename(columns={"arm": "other_arm"}), on="person_id", how="inner")


def _independent(both: pd.DataFrame) -> float:
    table = pd.crosstab(both["arm"], both["other_arm"])
    if min(table.shape) < 2:
        return 1.0
    if table.shape[1] == 2:
        return alike(table.iloc[:, 0], table.sum(axis=1))
    return float(_stats.chi2_contingency(table, correction=False).pvalue)


def _difference(
    both: pd.DataFrame, metric: Metric, arms: tuple[str, str], others: tuple[str, str], min_n: int
) -> dict[str, Any] | None:
    found = {}
    for arm, other in itertools.product(arms, others):
        cell = cells.of(both.loc[(both["arm"] == arm) & (both["other_arm"] == other)], metric, min_n)
        if cell is None:
            return None
        found[arm, other] = cell
    alone, together = (found[arms[1], other].mean - found[arms[0], other].mean for other in others)
    parts = list(found.values())
    spread, df = math.sqrt(sum(cell.variance for cell in parts)), cells.freedom(parts)
    half = float(_stats.t.ppf(0.975, df)) * spread
    gap = together - alone
    return {
        "n": sum(cell.n for cell in parts),
        "effect_alone": alone,
        "effect_together": together,
        "difference": gap,
        "difference_low": gap - half,
        "difference_high": gap + half,
        "p_value": float(2 * _stats.t.sf(abs(gap) / spread, df)),
    }


def _treatments(experiment: Experiment) -> list[str]:
    return [arm for arm in experiment.arms if arm != experiment.control]
