"""How small an effect an experiment can see, how many people the declared one needs, and how many days that takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.proportion import proportion_effectsize

from journeykit.config import Experiment, Metric, seconds
from journeykit.errors import JourneyError, require_columns
from journeykit.experiments.effects import MINIMUM, labels, why_not
from journeykit.experiments.measures import EVENT, PER
from journeykit.experiments.money import pace
from journeykit.experiments.units import ready_for
from journeykit.stats import not_enough

# Two-sided 5 %, power 80 %: the distance, in standard errors, that a test detects four times out of five. Closed form,
# because the solver of statsmodels, which differs by less than one person in 100,000, fails for large effects.
DETECTED = float(_stats.norm.ppf(0.975) + _stats.norm.ppf(0.8))
Z = float(_stats.norm.ppf(0.975))

POWER = (
    *("experiment", "metric", "role", "arm", "unit", "n_control", "n_treatment", "control"),
    *("detectable", "detectable_share", "minimum_effect_share", "needed_control_n", "needed_treatment_n"),
    *("needed_days", "days_left", "cuped_detectable", "cuped_needed_n", "cuped_days_left", "basis"),
)


def power(
    units: pd.DataFrame,
    *,
    experiment: Experiment,
    minimum_effect: float | None = None,
    currency: str = "",
    min_n: int = MINIMUM,
    effects: pd.DataFrame | None = None,
    as_of: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Return how small an effect the experiment could see, and how many people the declared one needs.

    Two-sided 5 %, power 80 %, normal approximation: shares on the arcsine scale; counts, values and satisfaction with
    the standard deviation of the control arm in both arms; ratios with the variance of the linearised ratio (delta
    method); a time by its events (Schoenfeld 1981: the relative change is one of the rate); quantiles, and arms drawn
    by cluster, by the standard error that `effects` found. The needed numbers count exposed people, non-responders
    included. Effects are counted in the direction called better. This is the plan for the rest of the test or for the
    next one: the power for the effect *that was seen* says nothing beyond its p-value and is not shown.

    Args:
        units: as for `effects`; exposed_at gives the pace of exposure.
        experiment: the declared experiment.
        minimum_effect: relative change worth acting on (0.05 = 5 %); None = the experiment's own, 0 = none declared.
        currency: unit of value metrics.
        min_n: people (or answers) that each arm needs.
        effects: the table of `effects`: CUPED's variance cut, and standard errors.
        as_of: end of observation (UTC), for the days still needed.

    Returns:
        One row per metric × treatment arm: control (mean; of a time the share with the event), detectable (absolute
        change; empty for a time) and detectable_share (relative) at the current n, needed_control_n and
        needed_treatment_n for the minimum effect, needed_days (days of exposure at the observed pace, plus the window),
        days_left (of those, still to come at `as_of`; 0 when enough are compared), and the same sharpened by CUPED:
        cuped_detectable, cuped_needed_n (both arms), cuped_days_left; basis (how it was computed). Empty cells: not
        reachable, or no minimum effect declared.
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
    rows: list[dict[str, Any]] = []
    for metric in experiment.metrics:
        people = ready_for(units, metric)
        shown = people.loc[people[metric.name].notna()]
        base = shown.loc[shown["arm"] == experiment.control]
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            other = shown.loc[shown["arm"] == arm]
            effect = _effect_of(effects, metric, arm)
            if min(len(base), len(other)) < min_n:
                continue
            sizes = _sizes(base, other, metric, wanted, effect, bool(experiment.cluster))
            if sizes is None:
                continue
            answered = len(shown) / len(people)
            needed = [n / answered for n in sizes.pop("needed")]
            cut = _cut(effect)
            pair = (experiment.control, arm)
            sharper = [n * (1 - cut) for n in needed]
            rows.append(
                {
                    **labels(experiment, metric, arm, currency),
                    "n_control": len(base),
                    "n_treatment": len(other),
                    **sizes,
                    "minimum_effect_share": wanted if wanted else math.nan,
                    "needed_control_n": _up(needed[0]),
                    "needed_treatment_n": _up(needed[1]),
                    "needed_days": _days(units, experiment, pair, needed),
                    "days_left": _left(units, people, experiment, pair, needed, as_of),
                    "cuped_detectable": sizes["detectable"] * math.sqrt(1 - cut),
                    "cuped_needed_n": _up(sum(sharper)),
                    "cuped_days_left": _left(units, people, experiment, pair, sharper, as_of),
                }
            )
    if not rows:
        return not_enough(POWER, f"{experiment.name}: not enough data: each arm needs {min_n} people that differ")
    whole = {"needed_days": "Int64", "days_left": "Int64", "cuped_days_left": "Int64"}
    return pd.DataFrame(rows).astype(whole)[list(POWER)]


def _sizes(
    base: pd.DataFrame,
    other: pd.DataFrame,
    metric: Metric,
    wanted: float,
    effect: dict[Any, Any] | None,
    clustered: bool,
) -> dict[str, Any] | None:
    """Detectable change at these sizes, and the sizes (control, treatment) for a relative change of `wanted`.

    None where the control arm does not vary.
    """
    n, ratio = len(base), len(other) / len(base)
    distance = DETECTED * math.sqrt(1 / n + 1 / len(other))
    if metric.kind == "time":
        return _by_events(base, other, metric, wanted)
    if metric.quantile is not None or clustered:
        return _by_error(effect, n, ratio, wanted)
    if metric.kind == "ratio":
        per = base[metric.name + PER].astype(float)
        mean = float(base[metric.name].sum() / per.sum()) if per.sum() > 0 else 0.0
        deviation = float((base[metric.name] - mean * per).std(ddof=1) / per.mean()) if per.sum() > 0 else 0.0
    else:
        mean, deviation = float(base[metric.name].mean()), float(base[metric.name].std(ddof=1))
    if not deviation > 0:
        return None
    sign = 1.0 if metric.better == "up" else -1.0
    target, step = mean + sign * wanted * abs(mean), wanted * abs(mean) / deviation
    detectable, basis = distance * deviation, "delta method" if metric.kind == "ratio" else "means"
    if metric.kind in ("conversion", "funnel"):
        basis, angle = "shares", math.asin(math.sqrt(mean)) + sign * distance / 2
        detectable = abs(math.sin(angle) ** 2 - mean) if 0 <= angle <= math.pi / 2 else math.nan
        step = abs(float(proportion_effectsize(target, mean))) if 0 <= target <= 1 else math.nan
    control = DETECTED**2 * (1 + 1 / ratio) / step**2 if wanted > 0 and step > 0 else math.nan
    return {
        "control": mean,
        "detectable": detectable,
        "basis": basis,
        "needed": (control, control * ratio),
        "detectable_share": detectable / abs(mean) if mean else math.nan,
    }


def _by_events(base: pd.DataFrame, other: pd.DataFrame, metric: Metric, wanted: float) -> dict[str, Any] | None:
    """Schoenfeld (1981): what a comparison of rates can see depends on the events alone."""
    events = float(base[metric.name + EVENT].sum() + other[metric.name + EVENT].sum())
    n = len(base) + len(other)
    parts = len(base) * len(other) / n**2
    if not events:
        return None
    sign = 1.0 if metric.better == "down" else -1.0  # fewer days until the event are a higher rate
    rate = math.exp(sign * DETECTED / math.sqrt(events * parts))
    target = 1 + sign * wanted
    people = DETECTED**2 / (parts * math.log(target) ** 2) / (events / n) if wanted > 0 and target > 0 else math.nan
    share = len(base) / n
    return {
        "control": float(base[metric.name + EVENT].mean()),
        "detectable": math.nan,
        "detectable_share": abs(rate - 1),
        "basis": "events",
        "needed": (people * share, people * (1 - share)),
    }


def _by_error(effect: dict[Any, Any] | None, n: int, ratio: float, wanted: float) -> dict[str, Any] | None:
    """By the standard error that was found; sizes grow with its square."""
    if effect is None or not effect["effect_high"] > effect["effect_low"]:
        return None
    mean = float(effect["control"])
    detectable = DETECTED * (effect["effect_high"] - effect["effect_low"]) / (2 * Z)
    step = wanted * abs(mean)
    control = n * (detectable / step) ** 2 if step > 0 else math.nan
    return {
        "control": mean,
        "detectable": detectable,
        "needed": (control, control * ratio),
        "detectable_share": detectable / abs(mean) if mean else math.nan,
        "basis": "interval found",
    }


def _effect_of(effects: pd.DataFrame | None, metric: Metric, arm: str) -> dict[Any, Any] | None:
    if effects is None or effects.empty:
        return None
    found = effects.loc[(effects["metric"] == metric.name) & (effects["arm"] == arm)]
    return found.iloc[0].to_dict() if len(found) else None


def _cut(effect: dict[Any, Any] | None) -> float:
    """The share of the variance that CUPED removes; nan where it was not computed."""
    cut = float(effect.get("cuped_variance_cut_share", math.nan)) if effect is not None else math.nan
    return min(max(cut, 0.0), 0.999) if math.isfinite(cut) else math.nan


def _days(units: pd.DataFrame, experiment: Experiment, pair: tuple[str, str], needed: list[float]) -> float:
    """Days until both arms have the people they need, at the pace from the first exposure to the last."""
    if "exposed_at" not in units.columns or not all(math.isfinite(n) for n in needed):
        return math.nan
    waits = [n / pace(units.loc[units["arm"] == arm], of=units) for n, arm in zip(needed, pair, strict=True)]
    return float(math.ceil(max(waits) + seconds(experiment.within) / 86400))


def _left(
    units: pd.DataFrame,
    people: pd.DataFrame,
    experiment: Experiment,
    pair: tuple[str, str],
    needed: list[float],
    as_of: pd.Timestamp | None,
) -> float:
    """Days still to come until both arms have the people they need; 0 when enough are compared already."""
    if as_of is None or "exposed_at" not in units.columns or not all(math.isfinite(n) for n in needed):
        return math.nan
    compared, exposed = people["arm"].value_counts(), units["arm"].value_counts()
    if all(int(compared.get(arm, 0)) >= n for n, arm in zip(needed, pair, strict=True)):
        return 0.0
    missing = [max(n - int(exposed.get(arm, 0)), 0.0) for n, arm in zip(needed, pair, strict=True)]
    return _days(units, experiment, pair, missing)


def _up(n: float) -> float:
    return float(np.ceil(n)) if math.isfinite(n) else math.nan
