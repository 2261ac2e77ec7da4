"""What earlier looks at an experiment would have said, day by day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeykit.config import Experiment, Metric, seconds
from journeykit.experiments import sequential
from journeykit.experiments.effects import MINIMUM, compared, labels, standard_errors, why_not
from journeykit.experiments.estimates import compare, problem, widened
from journeykit.experiments.units import ready, ready_for
from journeykit.stats import not_enough

MOST = 60  # looks shown; of more days, evenly spaced ones
LOOKS = (
    *("experiment", "metric", "kind", "role", "better", "arm", "unit", "margin", "look", "day", "read_at"),
    *("n_control", "n_treatment", "effect", "effect_low", "effect_high", "p_value"),
    *("sequential_low", "sequential_high", "sequential_p_value", "lowest_sequential_p_value"),
    *("fixed_says", "always_valid_says"),
)


def looks(
    units: pd.DataFrame,
    *,
    experiment: Experiment,
    metrics: Sequence[str] = (),
    currency: str = "",
    min_n: int = MINIMUM,
) -> pd.DataFrame:
    """Return the effect as it would have been read each day, with the fixed and the always-valid interval.

    A look on a day knows the units whose window was over by then. The first one is when 200 units are known; the last
    one is now. The fixed interval is right on one day only, chosen in advance: read daily, it leaves out the truth far
    more often than once in twenty (with a hundred looks about one time in three). The always-valid one may be read on
    all days: the chance that it ever leaves out the truth is 5 %, and the smallest p-value so far may be kept.

    Args:
        units: as `units.units` returns them; needs exposed_at.
        experiment: the declared experiment.
        metrics: names; by default those that are primary.
        currency: unit of value metrics.
        min_n: people that each arm needs.

    Returns:
        One row per metric × treatment arm × look (at most 60 of them): labels as in `effects`, look (1, 2 …), day
        (whole days since the first exposure), read_at (date of the look), n_control, n_treatment, effect, p_value,
        sequential_low, sequential_high, sequential_p_value, lowest_sequential_p_value (the smallest so far), fixed_says
        and always_valid_says ("higher", "lower" or "" where the interval holds 0).
    """
    if "exposed_at" not in units.columns:
        return not_enough(LOOKS, f"{experiment.name}: the times of exposure are not known")
    reason = why_not(units, experiment, min_n)
    if reason:
        return not_enough(LOOKS, f"{experiment.name}: {reason}")
    parts, left_out = [], []
    for metric in experiment.metrics:
        if metric.name not in metrics and (metrics or metric.role != "primary"):
            continue
        # A wait is known for all, but those still waiting now were not yet exposed at earlier looks.
        known = ready(units) if metric.kind == "time" else ready_for(units, metric)
        shown = compared(known, metric, experiment.name).sort_values("exposed_at", kind="stable")
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            found = _of_metric(shown.loc[shown["arm"].isin([experiment.control, arm])], metric, arm, experiment, min_n)
            if found.empty:
                left_out.append(f"{metric.name} ({arm}): not enough data for a look")
            else:
                parts.append(found.assign(**labels(experiment, metric, arm, currency)))
    if not parts:
        return not_enough(LOOKS, f"{experiment.name}: no look to show: {'; '.join(left_out) or 'no metric is primary'}")
    return pd.concat(parts, ignore_index=True)[list(LOOKS)]


def _of_metric(rows: pd.DataFrame, metric: Metric, arm: str, experiment: Experiment, min_n: int) -> pd.DataFrame:
    """The looks of one comparison; `rows` are its units by the time of exposure."""
    if rows.empty:
        return pd.DataFrame()
    day = (rows["exposed_at"] - rows["exposed_at"].iloc[0].normalize()) // pd.Timedelta("1d")
    sizes = day.value_counts().sort_index().cumsum()
    days = sizes.index[sizes.to_numpy() >= sequential.FIRST_LOOK].to_numpy()
    if len(days) > MOST:
        days = days[np.unique(np.linspace(0, len(days) - 1, MOST).round().astype(int))]
    window = pd.Timedelta(seconds=seconds(metric.within or experiment.within))
    planned = sequential.planned_units(experiment)
    found: list[dict[str, Any]] = []
    lowest = 1.0
    for until in days:
        known = rows.iloc[: int(sizes[until])]
        control, treatment = (known.loc[known["arm"] == name] for name in (experiment.control, arm))
        if problem(control, treatment, metric, min_n):
            continue
        estimate = compare(control, treatment, metric)
        n = sum(estimate.n)
        wider = sequential.limit(n, planned=planned) / sequential.Z95
        ever = widened(estimate.effect, *estimate.interval, wider)
        p_value = sequential.p_value(standard_errors(estimate.p_value), n, planned=planned)
        lowest = min(lowest, p_value)
        found.append(
            {
                "look": len(found) + 1,
                "day": int(until),
                "read_at": (rows["exposed_at"].iloc[0].normalize() + pd.Timedelta(days=int(until) + 1) + window),
                "n_control": estimate.n[0],
                "n_treatment": estimate.n[1],
                "effect": estimate.effect,
                "effect_low": estimate.interval[0],
                "effect_high": estimate.interval[1],
                "p_value": estimate.p_value,
                "sequential_low": ever[0],
                "sequential_high": ever[1],
                "sequential_p_value": p_value,
                "lowest_sequential_p_value": lowest,
                "fixed_says": _says(*estimate.interval),
                "always_valid_says": _says(*ever),
            }
        )
    return pd.DataFrame(found)


def _says(low: float, high: float) -> str:
    if math.isnan(low) or low <= 0 <= high:
        return ""
    return "higher" if low > 0 else "lower"
