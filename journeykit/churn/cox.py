"""Who leaves sooner: covariates known by a landmark, a Cox model of them, and its test on later customers.

What is known about a person is counted up to the landmark only, and leaving is counted from the landmark only, among
those still there. A covariate such as "ever had a ticket" over the whole time would make leavers look better than
they are, because those who stay longer have more time to collect events (immortal time).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning, StatisticalWarning
from lifelines.statistics import proportional_hazard_test

from journeykit import config
from journeykit.churn import compare, curves
from journeykit.churn.covariates import label
from journeykit.errors import require_columns
from journeykit.stats import not_enough

COX_COLUMNS = (
    *("covariate", "label", "hazard_ratio", "hazard_ratio_low", "hazard_ratio_high", "p_value"),
    *("n", "people_with_n", "events_n", "proportionality_p_value"),
)
KEPT_COLUMNS = (
    *("covariate", "label", "people_with_n", "people_without_n", "horizon_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)


def cox(
    table: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    minimum_events_per_parameter: int = 10,
    min_n: int = 5,
) -> pd.DataFrame:
    """Return how much faster people with each covariate leave, other covariates equal (Cox regression, Efron ties).

    A hazard ratio of 1.8 means: at any time, 1.8 times the chance of leaving next. It is an association in
    observed data; people with and without a covariate may differ in what was not measured. Left out, and said in
    `.attrs["note"]`: covariates that are the same for everyone, that fewer than `min_n` people have or lack, that
    repeat others, or that nobody or everybody who left had (their ratio has no finite estimate).
    `proportionality_p_value` tests proportional hazards (scaled Schoenfeld residuals against the rank of time): a small
    one says that the ratio changes with tenure, so that the figure is an average.

    Needs `duration_days`, `ended` and a numeric column a covariate. Rows with nulls are left out and noted.

    One row per covariate, in the order given: covariate, label, hazard_ratio (+low, high), p_value, n, people_with_n
    (a value above 0), events_n, proportionality_p_value. `.attrs["log_likelihood"]` is the model's. Cox (1972);
    Grambsch & Therneau (1994). At least ten events a parameter: Peduzzi et al. (1995).
    """
    names = [covariate.name for covariate in covariates]
    require_columns(table.columns, ["duration_days", "ended", *names], "churn model")
    if not names:
        return not_enough(COX_COLUMNS, "no covariates are declared; add [[churn.covariates]] to journey.toml")
    data, kept, notes = _usable(table, covariates, min_n)
    events = int(data["ended"].sum())
    reason = _too_few(events, kept, notes, minimum_events_per_parameter) or str(table.attrs.get("reason", ""))
    if reason:
        return not_enough(COX_COLUMNS, reason)
    fit, reason = _fit(data, [covariate.name for covariate in kept])
    if fit is None:
        return not_enough(COX_COLUMNS, reason)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checked = proportional_hazard_test(fit, data, time_transform="rank")
    ph = dict(zip(checked.name, np.ravel(checked.p_value), strict=True))
    rows = []
    for covariate in kept:
        line = fit.summary.loc[covariate.name]
        ratio = [float(line[key]) for key in ("exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "p")]
        having = int((data[covariate.name] > 0).sum())
        rows.append((covariate.name, label(covariate), *ratio, len(data), having, events, float(ph[covariate.name])))
    result = pd.DataFrame(rows, columns=list(COX_COLUMNS))
    result.attrs.update(note=" ".join(notes), log_likelihood=float(fit.log_likelihood_))
    return result


def days_kept(
    table: pd.DataFrame, covariates: Sequence[config.Covariate], horizon: float, *, min_n: int = 20
) -> pd.DataFrame:
    """Return how many days more or fewer people with a covariate stay within `horizon` days after the landmark.

    The difference of two restricted means (`curves.restricted_mean`): it needs no proportional hazards, so it stands
    where the Cox model's assumption fails, but it compares the two groups as they are. `p_value` is the log-rank's.

    One row per covariate: covariate, label, people_with_n, people_without_n, horizon_days, difference_days (+low,
    high), p_value.
    """
    require_columns(table.columns, ["duration_days", "ended", *[c.name for c in covariates]], "churn")
    rows = []
    for covariate in covariates:
        having = table[covariate.name] > 0
        groups = table.assign(segment=np.where(having, "with", "without"))
        found = compare.compare_segments(groups, horizon, min_n=min_n)
        if found.empty:
            continue
        line = found.iloc[0]
        # The larger group is the reference there; here it is always those without, so the sign may turn.
        sign = 1 if line["segment"] == "with" else -1
        low, high = sorted(sign * line[key] for key in ("difference_days_low", "difference_days_high"))
        gap = (sign * line["difference_days"], low, high, line["p_value"])
        sizes = (int(having.sum()), int((~having).sum()), line["horizon_days"])
        rows.append((covariate.name, label(covariate), *sizes, *gap))
    if not rows:
        reason = f"at least {min_n} people, and {curves.MIN_ENDS} with an end event, both with and without it"
        reason = f"not enough data (no covariate with {reason})"
        return not_enough(KEPT_COLUMNS, reason)
    return pd.DataFrame(rows, columns=list(KEPT_COLUMNS))


def _usable(
    table: pd.DataFrame, covariates: Sequence[config.Covariate], min_n: int
) -> tuple[pd.DataFrame, list[config.Covariate], list[str]]:
    """Return the model's data, the covariates that can be estimated, and a sentence for each one left out."""
    names = [covariate.name for covariate in covariates]
    data = table[["duration_days", "ended", *names]].dropna().astype(float)
    data = data[data["duration_days"] >= 0]
    missing = len(table) - len(data)
    notes = [f"{missing} people with a missing value are left out."] if missing else []
    kept: list[config.Covariate] = []
    for covariate in covariates:
        column = data[covariate.name]
        of_leavers = column[data["ended"] == 1]
        values = len(set(column))
        if values < 2:
            notes.append(f"“{label(covariate)}” is left out: it is the same for everyone.")
        elif values == 2 and column.value_counts().min() < min_n:
            notes.append(f"“{label(covariate)}” is left out: fewer than {min_n} people have it, or do not have it.")
        elif values == 2 and len(set(of_leavers)) == 1:
            who = "everybody" if of_leavers.iloc[0] == column.max() else "nobody"
            notes.append(f"“{label(covariate)}” is left out: {who} who left had it, so that no ratio can be estimated.")
        else:
            tried = data[[c.name for c in (*kept, covariate)]].to_numpy()
            if np.linalg.matrix_rank(tried - tried.mean(axis=0)) <= len(kept):
                notes.append(f"“{label(covariate)}” is left out: it repeats the covariates before it.")
            else:
                kept.append(covariate)
    return data[["duration_days", "ended", *[c.name for c in kept]]], kept, notes


def _too_few(events: int, kept: Sequence[config.Covariate], notes: Sequence[str], per_parameter: int) -> str:
    needed = per_parameter * max(1, len(kept))
    if events < needed:
        plural = f"{len(kept)} covariates" if len(kept) > 1 else "one covariate"
        people = "person" if events == 1 else "people"
        return f"not enough data ({events} {people} left, at least {needed} are needed for {plural})"
    return "" if kept else " ".join(["No covariate can be estimated.", *notes])


def _fit(data: pd.DataFrame, names: Sequence[str]) -> tuple[CoxPHFitter | None, str]:
    """Fit a Cox model; what lifelines warns about or fails at becomes a sentence."""
    failed = "the model did not settle on one answer (too few people, or covariates that nearly repeat each other)"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = CoxPHFitter().fit(data, "duration_days", "ended")
        except (ConvergenceError, np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return None, failed
    doubtful = [w for w in caught if issubclass(w.category, (ConvergenceWarning, StatisticalWarning, RuntimeWarning))]
    errors = fit.standard_errors_.reindex(list(names)).to_numpy(float)
    if doubtful or not np.isfinite(errors).all() or float(errors.max()) > 50:
        return None, failed
    return fit, ""
