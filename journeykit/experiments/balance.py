"""Whether the arms were alike before anybody was exposed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit.config import Experiment
from journeykit.experiments.measures import BEFORE, PER_BEFORE
from journeykit.experiments.trust import BROKEN, WARNING
from journeykit.experiments.units import CLUSTER, COVARIATE
from journeykit.stats import not_enough

BALANCE = (
    *("experiment", "arm", "measure", "n_control", "n_treatment", "control", "treatment"),
    *("standard_difference", "standard_difference_low", "standard_difference_high"),
    *("p_value", "p_adjusted", "joint_p_value", "verdict"),
)
Z = float(_stats.norm.ppf(0.975))


def balance(units: pd.DataFrame, *, experiment: Experiment, min_n: int = 30) -> pd.DataFrame:
    """Return how far the arms were apart before the exposure, in each metric and in all of them together.

    Before the exposure there is nothing to cause a difference but chance, so that a difference is a fault of the
    assignment or of the counting. The standardised difference is that of the means over the pooled standard deviation;
    the joint test is Hotelling's T² over all measures that everybody has, against the rival of one test each, one of
    which is soon below 0.05. Its limits are those of the split: "warning" below p = 0.01, "unlike" below 0.001.

    Args:
        units: arm, touches_before, and `<metric>__before` (and `__per_before` for a ratio); open windows count.
        experiment: the declared experiment.
        min_n: people that each arm needs.

    Returns:
        One row per treatment arm × measure, the largest difference of an arm first: experiment, arm, measure,
        n_control, n_treatment, control and treatment (means before), standard_difference with its 95 % interval,
        p_value (Welch), p_adjusted (Holm, within the arm), joint_p_value, verdict ("alike", "warning", "unlike").
    """
    measures = _measures(units, experiment)
    if not measures:
        return not_enough(BALANCE, f"{experiment.name}: nothing is known from before the exposure")
    people = units
    if CLUSTER in units.columns:
        people = units.groupby([CLUSTER, "arm"], as_index=False)[list(measures)].mean()
    base = people.loc[people["arm"] == experiment.control]
    tables = []
    for arm in (arm for arm in experiment.arms if arm != experiment.control):
        other = people.loc[people["arm"] == arm]
        rows = [
            {"arm": arm, "measure": label, **_compared(base[column], other[column])}
            for column, label in measures.items()
            if min(base[column].notna().sum(), other[column].notna().sum()) >= min_n
            and float(pd.concat([base[column], other[column]]).std()) > 0
        ]
        if rows:
            joint = _joint(base, other, list(measures))
            verdict = "unlike" if joint < BROKEN else "warning" if joint < WARNING else "alike"
            table = pd.DataFrame(rows).assign(experiment=experiment.label, joint_p_value=joint, verdict=verdict)
            table["p_adjusted"] = multipletests(table["p_value"], method="holm")[1]
            tables.append(table.sort_values("standard_difference", key=np.abs, ascending=False, kind="stable"))
    if not tables:
        reason = f"{experiment.name}: not enough data: each arm needs {min_n} people who did something before"
        return not_enough(BALANCE, reason)
    return pd.concat(tables, ignore_index=True)[list(BALANCE)]


def _measures(units: pd.DataFrame, experiment: Experiment) -> dict[str, str]:
    """The columns that are known from before, and what they are called."""
    found = {COVARIATE: "all events"} if COVARIATE in units.columns else {}
    for metric in experiment.metrics:
        found |= {metric.name + BEFORE: metric.name} if metric.name + BEFORE in units.columns else {}
        per = metric.name + PER_BEFORE
        found |= {per: f"{metric.name}: {' or '.join(metric.per)}"} if per in units.columns else {}
    return found


def _compared(base: pd.Series, other: pd.Series) -> dict[str, Any]:
    x, y = base.dropna().to_numpy(dtype=float), other.dropna().to_numpy(dtype=float)
    n = len(x) + len(y)
    spread = math.sqrt(((len(x) - 1) * x.var(ddof=1) + (len(y) - 1) * y.var(ddof=1)) / (n - 2))
    distance = float((y.mean() - x.mean()) / spread) if spread > 0 else math.copysign(math.inf, y.mean() - x.mean())
    half = Z * math.sqrt(1 / len(x) + 1 / len(y) + min(distance, 1e6) ** 2 / (2 * n))
    p_value = float(_stats.ttest_ind(y, x, equal_var=False).pvalue) if spread > 0 else 0.0
    return {
        "n_control": len(x),
        "n_treatment": len(y),
        "control": float(x.mean()),
        "treatment": float(y.mean()),
        "standard_difference": distance,
        "standard_difference_low": distance - half,
        "standard_difference_high": distance + half,
        "p_value": p_value,
    }


def _joint(base: pd.DataFrame, other: pd.DataFrame, columns: list[str]) -> float:
    """The p-value of Hotelling's T² over the measures that everybody has and that differ between people."""
    both = pd.concat([base, other])[columns].astype(float)
    kept = [name for name in columns if both[name].notna().all() and both[name].std() > 0]
    if not kept:
        return 1.0
    scaled = (both[kept] - both[kept].mean()) / both[kept].std()
    x, y = scaled.iloc[: len(base)].to_numpy(), scaled.iloc[len(base) :].to_numpy()
    inner = ((len(x) - 1) * np.atleast_2d(np.cov(x.T)) + (len(y) - 1) * np.atleast_2d(np.cov(y.T))) / (len(both) - 2)
    rank = int(np.linalg.matrix_rank(inner, tol=1e-8))  # one metric may be the sum of others
    gap = y.mean(axis=0) - x.mean(axis=0)
    if rank == 0:
        return 0.0
    squared = float(gap @ np.linalg.pinv(inner, rcond=1e-8, hermitian=True) @ gap) / (1 / len(x) + 1 / len(y))
    freedom = len(both) - rank - 1
    return float(_stats.f.sf(squared * freedom / ((len(both) - 2) * rank), rank, freedom)) if freedom > 0 else 1.0
