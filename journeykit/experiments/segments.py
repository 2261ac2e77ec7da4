"""Whether an effect differs between segments; only where it does, the effect in each of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit.config import Experiment, Metric
from journeykit.errors import require_columns
from journeykit.experiments import cells
from journeykit.experiments.effects import unit_of, why_not
from journeykit.experiments.units import ready_for
from journeykit.stats import not_enough

JOINT = (
    *("experiment", "segment", "metric", "role", "arm", "segments_n", "n", "left_out_n"),
    *("p_value", "p_adjusted", "verdict"),
)
SEGMENTS = (
    *("experiment", "segment", "value", "metric", "role", "arm", "better", "unit", "n_control", "n_treatment"),
    *("control", "treatment", "effect", "effect_low", "effect_high", "p_value", "p_adjusted"),
)
LIMIT = 0.05
DIFFERS, ALIKE = "differs", "no difference shown"


def joint(units: pd.DataFrame, *, experiment: Experiment, min_n: int = 30) -> pd.DataFrame:
    """Return whether the effect on each metric differs between the values of a segment: one test for all values.

    Looking at each value by itself finds something in a third of all tests without any effect (eight values, 5 %). The
    joint test is that of the interaction in one regression of the metric on arm × value with variances of their own
    (HC2), as Welch's F, which is right for small groups too. p-values of an experiment are adjusted by Holm over its
    segments and metrics. Quantiles and times are not tested, nor are arms that were drawn by cluster.

    Args:
        units: arm, the metrics, and the columns of `experiment.by` as they were at the exposure.
        experiment: the declared experiment.
        min_n: people that each arm of a value needs (a share: also five with the event and five without).

    Returns:
        One row per segment × metric × treatment arm: experiment, segment (the column), metric, role, arm, segments_n
        (values compared), n (people in them), left_out_n (people in values that are too small), p_value, p_adjusted,
        verdict ("differs" below 0.05, else "no difference shown").
    """
    reason = _reason(units, experiment, min_n)
    if reason:
        return not_enough(JOINT, reason)
    rows = []
    for column, metric, arm in _comparisons(experiment):
        found, n = _by_value(units, column, metric, arm, experiment, min_n)
        if len(found) > 1:
            inside = sum(cell.n for pair in found.values() for cell in pair)
            named = {"experiment": experiment.label, "segment": column, "metric": metric.name, "role": metric.role}
            sizes = {"arm": arm, "segments_n": len(found), "n": inside, "left_out_n": n - inside}
            rows.append({**named, **sizes, "p_value": heterogeneity(list(found.values()))})
    if not rows:
        small = f"{experiment.name}: not enough data: no two segments have {min_n} people in each arm"
        return not_enough(JOINT, small)
    table = pd.DataFrame(rows)
    table["p_adjusted"] = multipletests(table["p_value"], method="holm")[1]
    table["verdict"] = [DIFFERS if p < LIMIT else ALIKE for p in table["p_adjusted"]]
    return table[list(JOINT)]


def by_segment(
    units: pd.DataFrame, joint: pd.DataFrame, *, experiment: Experiment, currency: str = "", min_n: int = 30
) -> pd.DataFrame:
    """Return the effect in each segment, for those metrics of which the joint test says that it differs.

    p-values are adjusted by Holm over the values of a segment; intervals are simultaneous (Bonferroni over the values),
    so that all of them hold together.

    Args:
        units: as for `joint`.
        joint: the table of `joint`.
        experiment: the declared experiment.
        currency: unit of value metrics.
        min_n: as for `joint`.

    Returns:
        One row per segment × value × metric × treatment arm, in the order of the values: experiment, segment, value,
        metric, role, arm, better, unit, n_control, n_treatment, control, treatment, effect with its interval, p_value,
        p_adjusted.
    """
    if joint.empty:
        return not_enough(SEGMENTS, str(joint.attrs.get("reason", f"{experiment.name}: no segment was tested")))
    differs = joint.loc[joint["verdict"] == DIFFERS]
    tables = []
    for column, metric, arm in _comparisons(experiment):
        chosen = (differs["segment"] == column) & (differs["metric"] == metric.name) & (differs["arm"] == arm)
        if not chosen.any():
            continue
        found, _ = _by_value(units, column, metric, arm, experiment, min_n)
        rows = [{"value": value, **_effect(*pair, len(found))} for value, pair in found.items()]
        named = {"segment": column, "metric": metric.name, "role": metric.role, "arm": arm, "better": metric.better}
        table = pd.DataFrame(rows).assign(experiment=experiment.label, unit=unit_of(metric, currency), **named)
        table["p_adjusted"] = multipletests(table["p_value"], method="holm")[1]
        tables.append(table)
    if not tables:
        what = "no joint test shows that an effect differs by segment, so none is shown by segment"
        return not_enough(SEGMENTS, what)
    return pd.concat(tables, ignore_index=True)[list(SEGMENTS)]


def heterogeneity(pairs: list[tuple[cells.Cell, cells.Cell]]) -> float:
    """Return the p-value that the difference of two means is the same in all groups (Welch's F for differences).

    >>> same = cells.Cell(1.0, 0.01, 100), cells.Cell(2.0, 0.01, 100)
    >>> heterogeneity([same, same])
    1.0
    """
    k = len(pairs)
    gaps = np.array([treated.mean - control.mean for control, treated in pairs])
    weights = 1 / np.array([control.variance + treated.variance for control, treated in pairs])
    freedoms = np.array([cells.freedom(list(pair)) for pair in pairs])
    middle = float((weights * gaps).sum() / weights.sum())
    spread = float((weights * (gaps - middle) ** 2).sum()) / (k - 1)
    small = float(((1 - weights / weights.sum()) ** 2 / freedoms).sum())
    statistic = spread / (1 + 2 * (k - 2) / (k**2 - 1) * small)
    return float(_stats.f.sf(statistic, k - 1, (k**2 - 1) / (3 * small)))


def _reason(units: pd.DataFrame, experiment: Experiment, min_n: int) -> str:
    if not experiment.by:
        return f"{experiment.name}: no segment is declared (by)"
    if experiment.cluster:
        return f"{experiment.name}: effects by segment are not computed for arms that are drawn by cluster"
    require_columns(units.columns, ["arm", *experiment.by], f"segments of {experiment.name}")
    reason = why_not(units, experiment, min_n)
    return f"{experiment.name}: {reason}" if reason else ""


def _comparisons(experiment: Experiment) -> list[tuple[str, Metric, str]]:
    arms = [arm for arm in experiment.arms if arm != experiment.control]
    metrics = [metric for metric in experiment.metrics if cells.usable(metric)]
    return [(column, metric, arm) for column in experiment.by for metric in metrics for arm in arms]


def _by_value(
    units: pd.DataFrame, column: str, metric: Metric, arm: str, experiment: Experiment, min_n: int
) -> tuple[dict[str, tuple[cells.Cell, cells.Cell]], int]:
    """Control and treatment of each value that has enough people, and all people with the metric in the two arms."""
    people = ready_for(units, metric)
    people = people.loc[people["arm"].isin([experiment.control, arm]) & people[metric.name].notna()]
    found = {}
    for value, group in people.groupby(column, sort=True):
        pair = [cells.of(group.loc[group["arm"] == name], metric, min_n) for name in (experiment.control, arm)]
        if pair[0] is not None and pair[1] is not None:
            found[str(value)] = (pair[0], pair[1])
    return found, len(people)


def _effect(control: cells.Cell, treated: cells.Cell, values: int) -> dict[str, Any]:
    effect, spread = treated.mean - control.mean, math.sqrt(control.variance + treated.variance)
    df = cells.freedom([control, treated])
    half = float(_stats.t.ppf(1 - 0.025 / values, df)) * spread
    return {
        "n_control": control.n,
        "n_treatment": treated.n,
        "control": control.mean,
        "treatment": treated.mean,
        "effect": effect,
        "effect_low": effect - half,
        "effect_high": effect + half,
        "p_value": float(2 * _stats.t.sf(abs(effect) / spread, df)),
    }
