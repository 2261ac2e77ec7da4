"""How large the effect of an experiment is, with its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import tea_tasting as tt
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from journeykit.config import Experiment, Metric
from journeykit.errors import JourneyError, require_columns
from journeykit.experiments.trust import RESPONSE_LIMIT, response_check, split_check
from journeykit.experiments.units import COVARIATE, check_arms, ready
from journeykit.stats import not_enough

MINIMUM = 30  # people per arm; below it, Student's t on skewed counts keeps no error rate
FEW_EVENTS = 10  # conversions, or people without one, in an arm: below it the interval of shares is Newcombe's
NEAR_ZERO = 4.0  # a mean closer to 0 than so many standard errors has no relative change worth stating
ANSWERS_DIFFER = "not compared: answer rates differ"  # the caution that keeps an effect out of the decision
UNEVEN = 1.25  # the larger arm over the smaller one, from where skewed metrics need the rule of 355

EFFECTS = (
    *("experiment", "metric", "role", "arm", "control", "treatment", "effect", "effect_low", "effect_high"),
    *("relative_share", "relative_share_low", "relative_share_high", "p_value", "p_adjusted"),
    *("n_control", "n_treatment", "better", "unit", "margin", "caution"),
    *("cuped_effect", "cuped_effect_low", "cuped_effect_high", "cuped_variance_cut_share", "method"),
)


def effects(units: pd.DataFrame, *, experiment: Experiment, currency: str = "", min_n: int = MINIMUM) -> pd.DataFrame:
    """Return the effect of each treatment arm on each metric of an experiment.

    Difference of means with Welch's interval (tea-tasting); shares with fewer than 10 conversions in an arm use
    Newcombe's interval and Fisher's exact p-value, which hold in small samples. The relative change is left empty
    when a mean is too near 0 to divide by. CUPED takes out what `touches_before` explains; it is shown beside the
    plain effect, which alone decides. p-values of primary and secondary metrics, all arms together, are adjusted by
    Holm; guardrails are not, because correcting them would hide harm. No effect is computed when the split is broken.

    Args:
        units: arm, one column per metric, and optionally mature and touches_before; see `exposure.units`.
        experiment: the declared experiment.
        currency: unit of value metrics.
        min_n: people (or answers) that each arm needs.

    Returns:
        One row per metric × treatment arm: metric, role, better, arm, unit, n_control, n_treatment, control and
        treatment (means), effect, relative_share, p_value, p_adjusted, cuped_effect, cuped_variance_cut_share (what
        CUPED removes), margin (guardrails), method, caution. `attrs["left_out"]` says which metrics cannot be compared
        and why.

    Raises:
        JourneyError: a metric other than satisfaction has nulls, an arm is not declared, or a column is missing.
    """
    names = [metric.name for metric in experiment.metrics]
    require_columns(units.columns, ["arm", *names], f"effects of {experiment.name}")
    check_arms(units, experiment.arms, f"effects of {experiment.name}")
    reason = why_not(units, experiment, min_n)
    if reason:
        return not_enough(EFFECTS, f"{experiment.name}: {reason}")
    people = ready(units)
    answers = response_check(people, experiment=experiment)
    uneven_answers = set(answers.loc[answers["p_value"] < RESPONSE_LIMIT, "metric"]) if len(answers) else set()
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for metric in experiment.metrics:
        shown = compared(people, metric, experiment.name)
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            control, treatment = (shown.loc[shown["arm"] == name] for name in (experiment.control, arm))
            problem = _problem(control[metric.name], treatment[metric.name], metric, min_n)
            if problem:
                left_out.append(f"{metric.name} ({arm}): {problem}")
                continue
            cautions = [_skew_caution(control[metric.name], treatment[metric.name], metric)]
            if metric.name in uneven_answers:
                cautions.append(ANSWERS_DIFFER)
            rows.append(
                {
                    **labels(experiment, metric, arm, currency),
                    **_compare(control, treatment, metric),
                    "caution": "; ".join(caution for caution in cautions if caution),
                }
            )
    if not rows:
        return not_enough(EFFECTS, f"{experiment.name}: no metric can be compared: {'; '.join(left_out)}")
    table = pd.DataFrame(rows)
    family = table["role"].isin(["primary", "secondary"])
    table["p_adjusted"] = np.nan
    if family.any():
        table.loc[family, "p_adjusted"] = multipletests(table.loc[family, "p_value"], method="holm")[1]
    table = table[list(EFFECTS)]
    table.attrs["left_out"] = left_out
    return table


def unit_of(metric: Metric, currency: str) -> str:
    """Return the unit of a metric's mean: share, events (per person), the currency (per person) or points of 0–1."""
    return {"conversion": "share", "count": "events", "value": currency or "value", "satisfaction": "score"}[
        metric.kind
    ]


def labels(experiment: Experiment, metric: Metric, arm: str, currency: str) -> dict[str, Any]:
    return {
        "experiment": experiment.label,
        "metric": metric.name,
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
    sizes = ready(units)["arm"].value_counts()
    arm = min(experiment.arms, key=lambda name: int(sizes.get(name, 0)))
    n = int(sizes.get(arm, 0))
    return f"not enough data (n = {n} in {arm}, at least {min_n} in each arm are needed)" if n < max(min_n, 2) else ""


def compared(people: pd.DataFrame, metric: Metric, name: str) -> pd.DataFrame:
    """The people that a metric compares: all of them, or those who answered."""
    values = pd.to_numeric(people[metric.name], errors="coerce").astype(float)
    clean = people.assign(**{metric.name: values})
    lost = ~np.isfinite(values.to_numpy())
    if metric.kind == "satisfaction":
        return clean.loc[~lost]
    if lost.any():
        raise JourneyError(
            f"experiments.{name}.metrics.{metric.name}: {int(lost.sum()):,} of {len(people):,} people have no value. "
            "A missing value is not 0 and would be counted as a person. Fill it in the source if it is 0, correct the "
            "metric's events, or use kind = 'count' or 'conversion'."
        )
    if metric.kind == "conversion" and not values.isin([0.0, 1.0]).all():
        raise JourneyError(f"experiments.{name}.metrics.{metric.name}: a conversion is 0 or 1. Use kind = 'count'.")
    return clean


def _problem(control: pd.Series, treatment: pd.Series, metric: Metric, min_n: int) -> str:
    n = min(len(control), len(treatment))
    if n < min_n:
        what = "answers" if metric.kind == "satisfaction" else "people"
        return f"not enough data ({n} {what} in an arm, at least {min_n} are needed)"
    if metric.kind != "conversion" and np.ptp(control) == 0 and np.ptp(treatment) == 0:
        return "everybody within an arm has the same value, so there is nothing to estimate an interval from"
    return ""


def _compare(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric) -> dict[str, Any]:
    """One comparison by the method that its data allow."""
    base, other = control[metric.name].to_numpy(), treatment[metric.name].to_numpy()
    row: dict[str, Any] = {
        "n_control": len(base),
        "n_treatment": len(other),
        "control": float(base.mean()),
        "treatment": float(other.mean()),
        "effect": float(other.mean() - base.mean()),
    }
    none = dict.fromkeys([name for name in EFFECTS if name.startswith(("relative", "cuped"))], math.nan)
    if metric.kind == "conversion" and min(_rarer(base), _rarer(other)) < FEW_EVENTS:
        return {**row, **none, **_small_shares(base, other), "method": "Newcombe, Fisher"}
    relative = all(
        values.mean() > NEAR_ZERO * values.std(ddof=1) / math.sqrt(len(values)) and values.mean() > 0
        for values in (base, other)
    )
    with_covariate = COVARIATE in control.columns and _explains_not_all(base, other, control, treatment)
    if relative:
        row.update(_tea_tasting(control, treatment, metric.name, with_covariate))
        return {**none, **row, "method": "Welch"}
    row.update({f"effect_{key}": value for key, value in _welch(base, other).items() if key in ("low", "high")})
    row["p_value"] = _welch(base, other)["p_value"]
    if with_covariate:
        adjusted = _welch(*_adjusted(base, other, control[COVARIATE], treatment[COVARIATE]))
        row.update(_cuped_columns(row, adjusted["effect"], adjusted["low"], adjusted["high"]))
    return {**none, **row, "method": "Welch, no relative change (a mean is near 0)"}


def _tea_tasting(control: pd.DataFrame, treatment: pd.DataFrame, name: str, with_covariate: bool) -> dict[str, Any]:
    # Positional columns: the keyword has another name in tea-tasting 2. Settings are stated, so that a session's
    # global configuration cannot change a result.
    settings: dict[str, Any] = {"confidence_level": 0.95, "equal_var": False, "use_t": True, "alternative": "two-sided"}
    frame = pd.concat([control.assign(variant=0), treatment.assign(variant=1)], ignore_index=True)
    columns = [name, COVARIATE] if with_covariate else [name]
    frame = pd.DataFrame(
        {"variant": frame["variant"], **{f"x{i}": frame[c].astype(float) for i, c in enumerate(columns)}}
    )
    metrics: dict[str, Any] = {"plain": tt.Mean("x0", **settings)}
    if with_covariate:
        metrics["cuped"] = tt.Mean("x0", "x1", **settings)
    result = tt.Experiment(metrics).analyze(frame, control=0)
    plain: Any = result["plain"]
    row = {
        "effect_low": plain.effect_size_ci_lower,
        "effect_high": plain.effect_size_ci_upper,
        "relative_share": plain.rel_effect_size,
        "relative_share_low": plain.rel_effect_size_ci_lower,
        "relative_share_high": plain.rel_effect_size_ci_upper,
        "p_value": plain.pvalue,
    }
    if with_covariate:
        cuped: Any = result["cuped"]
        row.update(_cuped_columns(row, cuped.effect_size, cuped.effect_size_ci_lower, cuped.effect_size_ci_upper))
    return row


def _cuped_columns(row: dict[str, Any], effect: float, low: float, high: float) -> dict[str, float]:
    """CUPED's effect, and the share of the variance that it removes: 1 − (its width / plain width)²."""
    cut = 1 - ((high - low) / (row["effect_high"] - row["effect_low"])) ** 2
    return {"cuped_effect": effect, "cuped_effect_low": low, "cuped_effect_high": high, "cuped_variance_cut_share": cut}


def _welch(base: np.ndarray, other: np.ndarray) -> dict[str, float]:
    result: Any = _stats.ttest_ind(other, base, equal_var=False)
    interval = result.confidence_interval(0.95)
    effect = float(other.mean() - base.mean())
    return {"effect": effect, "low": float(interval.low), "high": float(interval.high), "p_value": float(result.pvalue)}


def _adjusted(base: np.ndarray, other: np.ndarray, x0: pd.Series, x1: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """CUPED (Deng et al. 2013) with one slope over both arms, as tea-tasting does it."""
    x, y = np.concatenate([x0, x1]).astype(float), np.concatenate([base, other])
    slope = np.cov(x, y)[0, 1] / np.var(x, ddof=1) if np.ptp(x) > 0 else 0.0
    return base - slope * (x0.to_numpy(dtype=float) - x.mean()), other - slope * (x1.to_numpy(dtype=float) - x.mean())


def _explains_not_all(base: np.ndarray, other: np.ndarray, control: pd.DataFrame, treatment: pd.DataFrame) -> bool:
    """Whether something is left of the metric when the covariate is taken out; else CUPED has no interval."""
    rest = _adjusted(base, other, control[COVARIATE], treatment[COVARIATE])
    return any(float(part.std()) > 1e-9 * float(np.std(np.concatenate([base, other]))) for part in rest)


def _rarer(values: np.ndarray) -> float:
    return float(min(values.sum(), len(values) - values.sum()))


def _small_shares(base: np.ndarray, other: np.ndarray) -> dict[str, float]:
    hits, misses = [int(v.sum()) for v in (other, base)], [int(len(v) - v.sum()) for v in (other, base)]
    low, high = confint_proportions_2indep(hits[0], len(other), hits[1], len(base), method="newcomb", compare="diff")
    p_value = float(_stats.fisher_exact([hits, misses])[1])
    return {"effect_low": float(low), "effect_high": float(high), "p_value": min(p_value, 1.0)}


def _skew_caution(control: pd.Series, treatment: pd.Series, metric: Metric) -> str:
    """Kohavi et al. (2014): an arm needs 355 · skewness² people. With equal arms the skewness cancels."""
    sizes = sorted([len(control), len(treatment)])
    if metric.kind == "conversion" or sizes[1] < UNEVEN * sizes[0]:
        return ""
    skew = float(_stats.skew(pd.concat([control, treatment])))
    needed = 355 * skew**2
    return f"skewed with uneven arms: about {needed:,.0f} people per arm are needed" if needed > sizes[0] else ""
