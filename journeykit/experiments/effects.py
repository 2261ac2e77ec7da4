"""How large the effect of an experiment is, with its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.config import Experiment, Metric
from journeykit.errors import JourneyError, require_columns
from journeykit.experiments import corrections, sequential
from journeykit.experiments.estimates import Estimate, compare, problem, skew_caution, widened, widened_change
from journeykit.experiments.measures import BEFORE, EVENT, MATURE, PER, PER_BEFORE, SESSION
from journeykit.experiments.trust import RESPONSE_LIMIT, response_check, split_check
from journeykit.experiments.units import CLUSTER, COVARIATE, check_arms, ready, ready_for
from journeykit.stats import not_enough

MINIMUM = 30  # people per arm; below it, Student's t on skewed counts keeps no error rate
ANSWERS_DIFFER = "not compared: answer rates differ"  # the caution that keeps an effect out of the decision

EFFECTS = (
    *("experiment", "metric", "role", "arm", "control", "treatment", "effect", "effect_low", "effect_high"),
    *("relative_share", "relative_share_low", "relative_share_high", "p_value", "p_adjusted"),
    *("n_control", "n_treatment", "better", "unit", "margin", "caution"),
    *("cuped_effect", "cuped_effect_low", "cuped_effect_high", "cuped_variance_cut_share", "method"),
    *("cuped_covariate", "kind", "cap", "quantile", "clusters_n", "log_rank_p_value"),
    *("sequential_low", "sequential_high", "sequential_p_value"),
    *("sequential_relative_low", "sequential_relative_high"),
    *("adjusted_low", "adjusted_high", "look", "decides_low", "decides_high", "decides_p_value"),
)


def effects(units: pd.DataFrame, *, experiment: Experiment, currency: str = "", min_n: int = MINIMUM) -> pd.DataFrame:
    """Return the effect of each treatment arm on each metric of an experiment.

    **Estimate**: difference of means with Welch's interval; shares with fewer than 10 events in an arm: Newcombe's
    interval and Fisher's p-value; ratios: delta method; quantiles: bootstrap; time: difference of restricted means;
    with a `cluster`, clusters and not people are taken as independent. See `estimates.compare`. The relative change is
    left empty when a mean is too near 0 to divide by. CUPED takes out what the same quantity before the exposure
    explains (or `touches_before`, where that is constant); it is shown beside the plain effect, which alone decides:
    one rule, chosen before. **Always valid**: `sequential_*` hold however often the page was read, see
    `sequential.limit`; the smallest p-value of all looks (`looks`) may be kept. **Correction**: p-values of primary and
    secondary metrics, all arms together, as `experiment.correction` says; guardrails are not corrected, because that
    would hide harm. Only `preferential` has intervals that agree with it.

    **Which decides** (`decides_*`): the fixed interval with stopping "fixed", the always-valid one with "always_valid",
    the repeated interval of the last planned look with "group_sequential" (before the first look: none). With
    "preferential" it is widened to the level of the comparison. `decides_p_value` is the matching p-value, corrected
    within the family; for guardrails uncorrected. No effect is computed when the split is broken.

    Args:
        units: arm, the columns of each metric, and optionally mature, exposed_at, touches_before, `<metric>__before`
            and cluster; see `units.units`.
        experiment: the declared experiment.
        currency: unit of value metrics.
        min_n: people (or answers) that each arm needs.

    Returns:
        One row per metric × treatment arm: metric, kind, role, better, arm, unit, cap, quantile, n_control,
        n_treatment, clusters_n (0: none), control and treatment (means, ratios, quantiles or restricted means), effect,
        relative_share, p_value, p_adjusted, log_rank_p_value (time), sequential_*, adjusted_* (preferential), look
        (group_sequential), decides_*, cuped_effect, cuped_variance_cut_share (what CUPED removes), cuped_covariate,
        margin (guardrails), method, caution. `attrs["left_out"]` says which metrics cannot be compared and why.

    Raises:
        JourneyError: a metric other than satisfaction has nulls, an arm is not declared, or a column is missing.
    """
    require_columns(units.columns, ["arm", *_columns(experiment)], f"effects of {experiment.name}")
    check_arms(units, experiment.arms, f"effects of {experiment.name}")
    reason = why_not(units, experiment, min_n)
    if reason:
        return not_enough(EFFECTS, f"{experiment.name}: {reason}")
    asked = [metric for metric in experiment.metrics if metric.kind == "satisfaction"]
    answers = response_check(_only(units, asked), experiment=experiment)
    in_arm = pd.Categorical(units["arm"], categories=list(experiment.arms))  # quicker to compare than texts
    uneven_answers = set(answers.loc[answers["p_value"] < RESPONSE_LIMIT, "metric"]) if len(answers) else set()
    in_clusters = _cluster_caution(units, experiment)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for metric in experiment.metrics:
        mine = _only(units, [metric]).assign(arm=in_arm)
        shown = compared(ready_for(mine, metric), metric, experiment.name)
        arms = {arm: shown.loc[shown["arm"] == arm] for arm in experiment.arms}
        control = arms.pop(experiment.control)
        for arm, treatment in arms.items():
            why = problem(control, treatment, metric, min_n)
            if why:
                left_out.append(f"{metric.name} ({arm}): {why}")
                continue
            cautions = [skew_caution(control, treatment, metric), in_clusters]
            cautions += [ANSWERS_DIFFER] if metric.name in uneven_answers else []
            found = compare(control, treatment, metric)
            caution = {"caution": "; ".join(text for text in cautions if text)}
            rows.append(labels(experiment, metric, arm, currency) | _row(found, metric, experiment) | caution)
    if not rows:
        return not_enough(EFFECTS, f"{experiment.name}: no metric can be compared: {'; '.join(left_out)}")
    table = _with_decision(pd.DataFrame(rows), units, experiment)[list(EFFECTS)]
    table.attrs["left_out"] = left_out
    return table


def unit_of(metric: Metric, currency: str) -> str:
    """Return the unit of a metric: share, events or the currency (per person), score (0–1), days, or "per …"."""
    if metric.kind == "ratio":
        return "per session" if SESSION in metric.per else f"per {' or '.join(metric.per)}"
    unit = {"count": "events", "value": currency or "value", "satisfaction": "score", "time": "days"}.get(
        metric.kind, "share"
    )
    return unit if metric.quantile is None else f"{unit} at the {100 * metric.quantile:g} % quantile"


def labels(experiment: Experiment, metric: Metric, arm: str, currency: str) -> dict[str, Any]:
    return {
        "experiment": experiment.label,
        "metric": metric.name,
        "kind": metric.kind,
        "role": metric.role,
        "better": metric.better,
        "arm": arm,
        "unit": unit_of(metric, currency),
        "margin": metric.margin if metric.role == "guardrail" else math.nan,
    }


def why_not(units: pd.DataFrame, experiment: Experiment, min_n: int) -> str:
    """Why no effect may be computed at all, or ""."""
    split = split_check(units, planned=experiment.arms)
    if split.empty:
        return str(split.attrs["reason"])
    if (split["verdict"] == "broken").any():
        return "the split is broken (p < 0.001), so no effect is shown: who is missing may differ from who is there"
    # The metric that is over first says whether anything is known yet.
    known = {"time" if metric.kind == "time" else metric.within: metric for metric in experiment.metrics}
    people = [ready(_only(units, [])), *(ready_for(_only(units, [metric]), metric) for metric in known.values())]
    sizes = max(people, key=len)["arm"].value_counts()
    arm = min(experiment.arms, key=lambda name: int(sizes.get(name, 0)))
    n = int(sizes.get(arm, 0))
    return f"not enough data (n = {n} in {arm}, at least {min_n} in each arm are needed)" if n < max(min_n, 2) else ""


def compared(people: pd.DataFrame, metric: Metric, name: str) -> pd.DataFrame:
    """The people that a metric compares: all of them, those who answered, or those with a cluster."""
    values = pd.to_numeric(people[metric.name], errors="coerce").astype(float)
    clean = people if people[metric.name].dtype == float else people.assign(**{metric.name: values})
    lost = ~np.isfinite(values.to_numpy())
    if metric.kind == "satisfaction":
        clean, lost = clean.loc[~lost] if lost.any() else clean, lost[~lost]
    if lost.any():
        raise JourneyError(
            f"experiments.{name}.metrics.{metric.name}: {int(lost.sum()):,} of {len(people):,} people have no value. "
            "A missing value is not 0 and would be counted as a person. Fill it in the source if it is 0, correct the "
            "metric's events, or use kind = 'count' or 'conversion'."
        )
    if metric.kind in ("conversion", "funnel") and not clean[metric.name].isin([0.0, 1.0]).all():
        raise JourneyError(f"experiments.{name}.metrics.{metric.name}: a conversion is 0 or 1. Use kind = 'count'.")
    return clean.dropna(subset=[CLUSTER]) if CLUSTER in clean.columns else clean


def _only(units: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """The columns that some metrics need, of those that there are: a copy of the whole table costs more than a test."""
    names = ["arm", "mature", COVARIATE, CLUSTER]
    names += [metric.name + end for metric in metrics for end in ("", PER, EVENT, MATURE, BEFORE, PER_BEFORE)]
    return units[[name for name in names if name in units.columns]]


def _columns(experiment: Experiment) -> list[str]:
    """The columns without which no effect can be computed."""
    found = [metric.name for metric in experiment.metrics]
    found += [metric.name + PER for metric in experiment.metrics if metric.kind == "ratio"]
    found += [metric.name + EVENT for metric in experiment.metrics if metric.kind == "time"]
    return [*found, *([CLUSTER] if experiment.cluster else [])]


def _cluster_caution(units: pd.DataFrame, experiment: Experiment) -> str:
    if not experiment.cluster:
        return ""
    without = int(units[CLUSTER].isna().sum())
    several = int(units[[CLUSTER, "arm"]].dropna().drop_duplicates()[CLUSTER].duplicated().sum())
    found = [f"{without:,} people without a {experiment.cluster} are left out"] if without else []
    found += [f"{several:,} of {experiment.cluster} are in several arms"] if several else []
    return "; ".join(found)


def _row(found: Estimate, metric: Metric, experiment: Experiment) -> dict[str, Any]:
    """The columns of one estimate, with the interval that holds at every look."""
    low, high = found.interval
    cut = 1 - ((found.cuped[2] - found.cuped[1]) / (high - low)) ** 2 if high > low else math.nan
    n, planned = sum(found.n), sequential.planned_units(experiment)
    wider = sequential.limit(n, planned=planned) / sequential.Z95
    z = standard_errors(found.p_value)
    sequential_low, sequential_high = widened(found.effect, low, high, wider)
    relative_low, relative_high = widened_change(*found.relative, wider)
    return {
        "n_control": found.n[0],
        "n_treatment": found.n[1],
        "control": found.means[0],
        "treatment": found.means[1],
        "effect": found.effect,
        "effect_low": low,
        "effect_high": high,
        "relative_share": found.relative[0],
        "relative_share_low": found.relative[1],
        "relative_share_high": found.relative[2],
        "p_value": found.p_value,
        "log_rank_p_value": found.log_rank_p_value,
        "cuped_effect": found.cuped[0],
        "cuped_effect_low": found.cuped[1],
        "cuped_effect_high": found.cuped[2],
        "cuped_variance_cut_share": cut,
        "cuped_covariate": found.covariate,
        "method": found.method,
        "cap": math.nan if metric.cap is None else metric.cap,
        "quantile": math.nan if metric.quantile is None else metric.quantile,
        "clusters_n": found.clusters_n,
        "sequential_low": sequential_low,
        "sequential_high": sequential_high,
        "sequential_p_value": sequential.p_value(z, n, planned=planned),
        "sequential_relative_low": relative_low,
        "sequential_relative_high": relative_high,
        "_df": found.df,
    }


def standard_errors(p_value: float) -> float:
    """Return by how many standard errors an effect with this two-sided p-value differs from 0."""
    return float(_stats.norm.isf(p_value / 2))


def _with_decision(table: pd.DataFrame, units: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """The table with corrected p-values and the interval that decides, by what the experiment declares."""
    role = table["role"]
    preferential = experiment.correction == "preferential"
    level = corrections.levels(role, experiment) if preferential else pd.Series(corrections.ALPHA, index=table.index)
    look = _look(units, experiment)
    sides = []
    for row, alpha in zip(table.to_dict("records"), level, strict=True):
        fixed = float(_stats.t.isf(alpha / 2, row["_df"]) / _stats.t.isf(corrections.ALPHA / 2, row["_df"]))
        base = (row["effect"], row["effect_low"], row["effect_high"])
        in_family = preferential and row["role"] in corrections.FAMILY
        adjusted = widened(*base, fixed) if in_family else (math.nan, math.nan)
        decides, p_value = _decides(row, alpha, fixed, look, experiment)
        sides.append((*adjusted, *widened(*base, decides), p_value))
    columns = ["adjusted_low", "adjusted_high", "decides_low", "decides_high", "decides_p_value"]
    table = table.assign(**pd.DataFrame(sides, columns=columns, index=table.index))
    table["p_adjusted"] = corrections.adjusted(table["p_value"], role, experiment)
    corrected = corrections.adjusted(table["decides_p_value"], role, experiment)
    table["decides_p_value"] = corrected.where(corrections.in_family(role), table["decides_p_value"])
    table["look"] = pd.Series([look] * len(table), index=table.index, dtype="Int64")
    text = _reading_caution(table, look, experiment)
    table["caution"] = ["; ".join(part for part in (old, text) if part) for old in table["caution"]]
    return table


def _decides(
    row: dict[Any, Any], alpha: float, fixed: float, look: int | None, experiment: Experiment
) -> tuple[float, float]:
    """How many times as wide as the fixed interval the one that decides is, and its p-value before correction."""
    if experiment.stopping == "fixed":
        return fixed, row["p_value"]
    n = row["n_control"] + row["n_treatment"]
    if experiment.stopping == "always_valid":
        limit = sequential.limit(n, planned=sequential.planned_units(experiment), alpha=alpha)
        return limit / sequential.Z95, row["sequential_p_value"]
    if not look:
        return math.nan, 1.0
    z, looks, spending = standard_errors(row["p_value"]), experiment.looks, experiment.spending
    bound = sequential.group_bounds(looks, spending, alpha)[look - 1]
    return bound / sequential.Z95, sequential.repeated_p_value(z, look, looks=looks, spending=spending)


def _look(units: pd.DataFrame, experiment: Experiment) -> int | None:
    if experiment.stopping != "group_sequential":
        return None
    people = ready(units)
    return sequential.look_of(experiment, len(people), days_so_far(people, experiment))


def days_so_far(people: pd.DataFrame, experiment: Experiment) -> float:
    """Return the days from the start of an experiment to the last exposure among `people`; NaN when not known."""
    if "exposed_at" not in people.columns or people.empty:
        return math.nan
    start = pd.Timestamp(experiment.starts) if experiment.starts else people["exposed_at"].min()
    return float((people["exposed_at"].max() - start) / pd.Timedelta("1d"))


def _reading_caution(table: pd.DataFrame, look: int | None, experiment: Experiment) -> str:
    n = int((table["n_control"] + table["n_treatment"]).min())
    if experiment.stopping == "always_valid" and n < sequential.FIRST_LOOK:
        return f"too early to read: always-valid intervals hold from about {sequential.FIRST_LOOK} people on"
    if experiment.stopping == "group_sequential" and look is None:
        return "no look yet: declare planned_n or horizon, so that looks can be told"
    if experiment.stopping == "group_sequential" and look == 0:
        return f"before the first of {experiment.looks} planned looks"
    return ""
