"""Whether an experiment can be believed: the sizes of its arms, where people are lost, and who answered."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.config import Experiment
from journeykit.errors import require_columns
from journeykit.experiments.units import CLUSTER, check_arms, ready
from journeykit.stats import add_share, not_enough

BROKEN = 0.001  # a stricter limit than 5 %: every test is checked, and a false alarm throws away a whole test
WARNING = 0.01  # from here on the page warns, but shows effects
RESPONSE_LIMIT = 0.01
EXACT_BELOW = 1000
SPLIT = ("arm", "planned_share", "n", "share", "share_low", "share_high", "p_value", "verdict")
SEGMENTS = (
    *("experiment", "segment", "value", "arm", "planned_share", "n", "share", "share_low", "share_high"),
    *("missing_n", "p_value", "p_adjusted", "verdict"),
)


def split_check(units: pd.DataFrame, *, planned: dict[str, float]) -> pd.DataFrame:
    """Return whether the arms have the sizes that were planned (sample-ratio check).

    Everyone exposed counts, open windows included, because the assignment was over by then. Chi-square against the
    planned shares; for two arms with fewer than 1,000 people together the exact binomial test. "broken" below
    p = 0.001: then people are missing from one arm for a reason, and no effect can be read. "warning" below 0.01:
    effects are shown, but look for the reason. Where arms were drawn by cluster, clusters are counted, not people.

    Args:
        units: arm, and cluster where arms were drawn by one.
        planned: planned share of each arm, adding up to 1.

    Returns:
        One row per arm, in the planned order: arm, planned_share, n (people in the arm), share with share_low and
        share_high (Wilson), p_value, verdict ("ok", "warning" or "broken").

    Raises:
        JourneyError: an arm of `units` is not planned.

    >>> split_check(pd.DataFrame({"arm": ["a"] * 60 + ["b"] * 40}), planned={"a": 0.5, "b": 0.5}).verdict.tolist()
    ['ok', 'ok']
    """
    require_columns(units.columns, ["arm"], "split_check")
    check_arms(units, planned, "split_check")
    counted = drawn_units(units)["arm"].value_counts()
    counts = np.array([int(counted.get(arm, 0)) for arm in planned])
    shares, total = np.array(list(planned.values())), int(counts.sum())
    if total == 0:
        return not_enough(SPLIT, "not enough data (n = 0): nobody was exposed to a declared arm")
    p_value = _p_of_split(counts, shares)
    table = add_share(pd.DataFrame({"arm_n": counts, "n": total}), "observed", "arm_n", "n")
    return pd.DataFrame(
        {
            "arm": list(planned),
            "planned_share": shares,
            "n": counts,
            "share": table["observed_share"],
            "share_low": table["observed_share_low"],
            "share_high": table["observed_share_high"],
            "p_value": p_value,
            "verdict": graded(p_value),
        }
    )


def split_by_segment(units: pd.DataFrame, *, experiment: Experiment, min_n: int = 30) -> pd.DataFrame:
    """Return the sample-ratio check within each value of the columns of `by`, to say where people are lost.

    Each value is held against the planned shares; p-values are multiplied by the number of values looked at
    (Bonferroni), so that one of many small groups does not raise a false alarm. A value is known of those who are
    there: of people lost before the exposure only the gap is seen.

    Args:
        units: arm and the columns of `experiment.by`, each as it was at the exposure.
        experiment: the declared experiment.
        min_n: people below which a value is not shown.

    Returns:
        One row per value × arm, the most suspicious value first: experiment, segment (the column), value, arm,
        planned_share, n, share with its Wilson interval, missing_n (people that the arm lacks against the arm that is
        fullest by plan), p_value, p_adjusted, verdict ("ok", "warning" or "broken").
    """
    if not experiment.by:
        return not_enough(SEGMENTS, f"{experiment.name}: no segment is declared (by)")
    require_columns(units.columns, ["arm", *experiment.by], f"split_by_segment of {experiment.name}")
    parts = []
    for column in experiment.by:
        for value, group in drawn_units(units).groupby(column, sort=True):
            if len(group) >= min_n:
                found = split_check(group, planned=experiment.arms)
                parts.append(found.assign(segment=column, value=str(value), missing_n=_missing(found)))
    if not parts:
        return not_enough(SEGMENTS, f"{experiment.name}: not enough data: no segment has {min_n} people")
    table = pd.concat(parts, ignore_index=True).assign(experiment=experiment.label)
    table["p_adjusted"] = (table["p_value"] * len(parts)).clip(upper=1.0)
    table["verdict"] = [graded(p) for p in table["p_adjusted"]]
    order = table.sort_values(["p_adjusted", "segment", "value"], kind="stable").index
    return table.loc[order].reset_index(drop=True)[list(SEGMENTS)]


def response_check(units: pd.DataFrame, *, experiment: Experiment) -> pd.DataFrame:
    """Return how many people answered, per arm, for the satisfaction metrics of one experiment.

    Satisfaction compares only those who answered. When the arms answer at different rates, the answers come from
    different kinds of people and their difference is no longer the effect of the change. Chi-square over all arms;
    "differs" below p = 0.01.

    Returns:
        One row per satisfaction metric × arm: experiment, metric, arm, n (people with a closed window), answered_n,
        answered_share with its Wilson interval, p_value, verdict ("alike" or "differs").
    """
    columns = ["experiment", "metric", "arm", "n", "answered_n", "answered_share", "answered_share_low"]
    columns += ["answered_share_high", "p_value", "verdict"]
    asked = [metric.name for metric in experiment.metrics if metric.kind == "satisfaction"]
    if not asked:
        return not_enough(columns, f"{experiment.name}: no metric is a satisfaction, so there are no answers to count")
    people = ready(units)
    if people.empty:
        return not_enough(columns, f"{experiment.name}: not enough data (n = 0 people whose window is closed)")
    require_columns(people.columns, ["arm", *asked], f"response_check of {experiment.name}")
    parts = []
    for name in asked:
        arms = [people.loc[people["arm"] == arm, name] for arm in experiment.arms]
        counts = pd.DataFrame({"n": [len(a) for a in arms], "answered_n": [int(a.notna().sum()) for a in arms]})
        p_value = alike(counts["answered_n"], counts["n"])
        part = add_share(counts, "answered", "answered_n", "n").assign(
            experiment=experiment.label,
            metric=name,
            arm=list(experiment.arms),
            p_value=p_value,
            verdict="differs" if p_value < RESPONSE_LIMIT else "alike",
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[columns]


def graded(p_value: float) -> str:
    """Return "broken" below p = 0.001, "warning" below 0.01, else "ok".

    >>> [graded(p) for p in (0.0005, 0.0086, 0.3)]
    ['broken', 'warning', 'ok']
    """
    return "broken" if p_value < BROKEN else "warning" if p_value < WARNING else "ok"


def alike(successes: pd.Series, n: pd.Series) -> float:
    """Return the p-value that groups have one share (chi-square); 1 where there is nothing to compare.

    >>> round(alike(pd.Series([10, 20]), pd.Series([100, 100])), 4)
    0.0477
    """
    grid = np.array([successes, n - successes], dtype=float)
    grid = grid[:, grid.sum(axis=0) > 0]
    mixed = grid.shape[1] > 1 and bool((grid.sum(axis=1) > 0).all())
    return float(_stats.chi2_contingency(grid, correction=False).pvalue) if mixed else 1.0


def drawn_units(units: pd.DataFrame) -> pd.DataFrame:
    """Return what the arms were drawn for: people, or one row per cluster and arm where a cluster is declared."""
    if CLUSTER not in units.columns:
        return units
    if "exposed_at" in units.columns:
        units = units.sort_values(["exposed_at", "person_id"] if "person_id" in units else "exposed_at", kind="stable")
    return units.loc[units[CLUSTER].notna()].drop_duplicates([CLUSTER, "arm"])


def _p_of_split(counts: np.ndarray, shares: np.ndarray) -> float:
    drawn, total = shares > 0, counts.sum()
    if counts[~drawn].sum():
        return 0.0  # somebody is in an arm that was planned to be empty
    if drawn.sum() < 2:
        return 1.0
    if drawn.sum() == 2 and total < EXACT_BELOW:
        return float(_stats.binomtest(int(counts[drawn][0]), int(total), shares[drawn][0]).pvalue)
    return float(_stats.chisquare(counts[drawn], shares[drawn] / shares[drawn].sum() * total).pvalue)


def _missing(split: pd.DataFrame) -> pd.Series:
    planned = split["planned_share"].where(split["planned_share"] > 0)
    return ((split["n"] / planned).max() * split["planned_share"] - split["n"]).round().clip(lower=0)
