"""Whether an experiment can be believed: the sizes of its arms, and who answered."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.config import Experiment
from journeykit.errors import require_columns
from journeykit.experiments.units import check_arms, ready
from journeykit.stats import add_share, not_enough

BROKEN = 0.001  # a stricter limit than 5 %: every test is checked, and a false alarm throws away a whole test
RESPONSE_LIMIT = 0.01
EXACT_BELOW = 1000


def split_check(units: pd.DataFrame, *, planned: dict[str, float]) -> pd.DataFrame:
    """Return whether the arms have the sizes that were planned (sample-ratio check).

    Everyone exposed counts, open windows included, because the assignment was over by then. Chi-square against the
    planned shares; for two arms with fewer than 1,000 people together the exact binomial test. "broken" below
    p = 0.001: then people are missing from one arm for a reason, and no effect can be read.

    Args:
        units: arm.
        planned: planned share of each arm, adding up to 1.

    Returns:
        One row per arm, in the planned order: arm, planned_share, n (people in the arm), share with share_low and
        share_high (Wilson), p_value, verdict ("ok" or "broken").

    Raises:
        JourneyError: an arm of `units` is not planned.

    >>> split_check(pd.DataFrame({"arm": ["a"] * 60 + ["b"] * 40}), planned={"a": 0.5, "b": 0.5}).verdict.tolist()
    ['ok', 'ok']
    """
    columns = ["arm", "planned_share", "n", "share", "share_low", "share_high", "p_value", "verdict"]
    require_columns(units.columns, ["arm"], "split_check")
    check_arms(units, planned, "split_check")
    counted = units["arm"].value_counts()
    counts = np.array([int(counted.get(arm, 0)) for arm in planned])
    shares, total = np.array(list(planned.values())), int(counts.sum())
    if total == 0:
        return not_enough(columns, "not enough data (n = 0): nobody was exposed to a declared arm")
    drawn = shares > 0
    if counts[~drawn].sum():
        p_value = 0.0  # somebody is in an arm that was planned to be empty
    elif drawn.sum() < 2:
        p_value = 1.0
    elif drawn.sum() == 2 and total < EXACT_BELOW:
        p_value = float(_stats.binomtest(int(counts[drawn][0]), total, shares[drawn][0]).pvalue)
    else:
        p_value = float(_stats.chisquare(counts[drawn], shares[drawn] / shares[drawn].sum() * total).pvalue)
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
            "verdict": "broken" if p_value < BROKEN else "ok",
        }
    )


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
        grid = np.array([counts["answered_n"], counts["n"] - counts["answered_n"]])
        grid = grid[:, grid.sum(axis=0) > 0]
        mixed = grid.shape[1] > 1 and bool((grid.sum(axis=1) > 0).all())
        p_value = float(_stats.chi2_contingency(grid, correction=False).pvalue) if mixed else 1.0
        part = add_share(counts, "answered", "answered_n", "n").assign(
            experiment=experiment.label,
            metric=name,
            arm=list(experiment.arms),
            p_value=p_value,
            verdict="differs" if p_value < RESPONSE_LIMIT else "alike",
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)[columns]
