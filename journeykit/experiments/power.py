"""How small an effect an experiment can see, and how many people the declared one needs."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.proportion import proportion_effectsize

from journeykit.config import Experiment, Metric, seconds
from journeykit.errors import JourneyError, require_columns
from journeykit.experiments.effects import MINIMUM, compared, labels, why_not
from journeykit.experiments.units import ready
from journeykit.stats import not_enough

# Two-sided 5 %, power 80 %: the distance, in standard errors, that a test detects four times out of five. Closed form,
# because the solver of statsmodels, which differs by less than one person in 100,000, fails for large effects.
DETECTED = float(_stats.norm.ppf(0.975) + _stats.norm.ppf(0.8))

POWER = (
    *(
        "experiment",
        "metric",
        "role",
        "arm",
        "unit",
        "n_control",
        "n_treatment",
        "control",
        "detectable",
        "detectable_share",
    ),
    *("minimum_effect_share", "needed_control_n", "needed_treatment_n", "needed_days"),
)


def power(
    units: pd.DataFrame,
    *,
    experiment: Experiment,
    minimum_effect: float | None = None,
    currency: str = "",
    min_n: int = MINIMUM,
) -> pd.DataFrame:
    """Return how small an effect the experiment could see, and how many people the declared one needs.

    Two-sided 5 %, power 80 %, normal approximation: shares on the arcsine scale, other metrics with the standard
    deviation of the control arm in both arms, without CUPED (which only makes the test sharper). The needed numbers
    count exposed people, non-responders included. Effects are counted in the direction called better. This is the
    plan for a next test: the power for the effect *that was seen* says nothing beyond its p-value and is not shown.

    Args:
        units: as for `effects`; exposed_at gives the pace of exposure.
        experiment: the declared experiment.
        minimum_effect: relative change worth acting on (0.05 = 5 %); None = the experiment's own, 0 = none declared.
        currency: unit of value metrics.
        min_n: people (or answers) that each arm needs.

    Returns:
        One row per metric × treatment arm: control (mean), detectable (absolute change) and detectable_share
        (relative) at the current n, needed_control_n and needed_treatment_n for the minimum effect, needed_days (days
        of exposure at the observed pace, plus the window). Empty cells: not reachable, or no minimum effect declared.
    """
    names = [metric.name for metric in experiment.metrics]
    require_columns(units.columns, ["arm", *names], f"power of {experiment.name}")
    wanted = experiment.minimum_effect if minimum_effect is None else minimum_effect
    if wanted < 0:
        raise JourneyError(
            f"power of {experiment.name}: minimum_effect is {wanted}. Give a relative size of 0 or more."
        )
    reason = why_not(units, experiment, min_n)
    if reason:
        return not_enough(POWER, f"{experiment.name}: {reason}")
    people = ready(units)
    rows: list[dict[str, Any]] = []
    for metric in experiment.metrics:
        shown = compared(people, metric, experiment.name)
        base = shown.loc[shown["arm"] == experiment.control, metric.name]
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            other = shown.loc[shown["arm"] == arm, metric.name]
            if min(len(base), len(other)) < min_n or float(base.std(ddof=1)) == 0:
                continue
            sizes = _sizes(base, len(other), metric, wanted)
            answered = len(shown) / len(people)
            needed = [math.ceil(n / answered) if math.isfinite(n) else math.nan for n in sizes.pop("needed")]
            rows.append(
                {
                    **labels(experiment, metric, arm, currency),
                    "n_control": len(base),
                    "n_treatment": len(other),
                    "control": float(base.mean()),
                    **sizes,
                    "minimum_effect_share": wanted if wanted else math.nan,
                    "needed_control_n": needed[0],
                    "needed_treatment_n": needed[1],
                    "needed_days": _days(units, experiment, arm, needed),
                }
            )
    if not rows:
        return not_enough(POWER, f"{experiment.name}: not enough data: each arm needs {min_n} people that differ")
    return pd.DataFrame(rows).astype({"needed_days": "Int64"})[list(POWER)]


def _sizes(base: pd.Series, n_other: int, metric: Metric, wanted: float) -> dict[str, Any]:
    """Detectable change at these sizes, and the sizes (control, treatment) for a relative change of `wanted`."""
    mean, sign = float(base.mean()), 1.0 if metric.better == "up" else -1.0
    ratio = n_other / len(base)
    distance = DETECTED * math.sqrt(1 / len(base) + 1 / n_other)
    target, step = mean + sign * wanted * abs(mean), math.nan
    if metric.kind == "conversion":
        angle = math.asin(math.sqrt(mean)) + sign * distance / 2
        detectable = abs(math.sin(angle) ** 2 - mean) if 0 <= angle <= math.pi / 2 else math.nan
        if 0 <= target <= 1:
            step = abs(float(proportion_effectsize(target, mean)))
    else:
        deviation = float(base.std(ddof=1))
        detectable, step = distance * deviation, wanted * abs(mean) / deviation
    control = DETECTED**2 * (1 + 1 / ratio) / step**2 if wanted > 0 and step > 0 else math.nan
    return {
        "detectable": detectable,
        "detectable_share": detectable / abs(mean) if mean else math.nan,
        "needed": (control, control * ratio),
    }


def _days(units: pd.DataFrame, experiment: Experiment, arm: str, needed: list[float]) -> float:
    """Days until both arms have the people they need, at the pace from the first exposure to the last."""
    if "exposed_at" not in units.columns or not all(math.isfinite(n) for n in needed):
        return math.nan
    span = max((units["exposed_at"].max() - units["exposed_at"].min()) / pd.Timedelta("1D"), 1.0)
    sizes = units["arm"].value_counts()
    waits = [n / (int(sizes.get(name, 0)) / span) for n, name in zip(needed, (experiment.control, arm), strict=True)]
    return float(math.ceil(max(waits) + seconds(experiment.within) / 86400))
