"""Who leaves sooner: covariates known by a landmark, a Cox model of them, and its test on later customers.

What is known about a person is counted up to the landmark only, and leaving is counted from the landmark only, among
those still there. A covariate such as "ever had a ticket" over the whole time would make leavers look better than
they are, because those who stay longer have more time to collect events (immortal time).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.exceptions import ConvergenceError, ConvergenceWarning, StatisticalWarning
from lifelines.statistics import proportional_hazard_test

from journeykit import config, engine, survival
from journeykit.errors import JourneyError, require_columns
from journeykit.stats import not_enough
from journeykit.validation import brier_terms, concordance, known_by, resamples, with_interval

COVARIATE_COLUMNS = ("person_id", "started_at", "landmark_at", "segment", "duration_days", "ended")
COX_COLUMNS = (
    *("covariate", "label", "hazard_ratio", "hazard_ratio_low", "hazard_ratio_high", "p_value"),
    *("n", "people_with_n", "events_n", "proportionality_p_value"),
)
KEPT_COLUMNS = (
    *("covariate", "label", "people_with_n", "people_without_n", "horizon_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)
TEST_COLUMNS = (
    *(
        "split_at",
        "train_people_n",
        "train_events_n",
        "n",
        "events_n",
        "concordance",
        "concordance_low",
        "concordance_high",
    ),
    *("horizon_days", "brier", "brier_null", "skill_share", "skill_share_low", "skill_share_high"),
)


@dataclass(frozen=True)
class Choice:
    """What the chapter looks at: `[churn]` of journey.toml with the notebook's parameters laid over it."""

    start: list[str]
    end: list[str]
    landmark: str
    landmark_days: float
    horizon_days: float
    by: str
    covariates: list[config.Covariate]

    @property
    def times(self) -> list[float]:
        """The days that tables show: about a dozen up to the horizon, in whole months where it is long enough."""
        step = max(1, 30 * math.ceil(self.horizon_days / 360) if self.horizon_days > 60 else self.horizon_days // 10)
        return sorted({*[float(day) for day in np.arange(0, self.horizon_days, step)], float(self.horizon_days)})


def choose(plan: config.Churn | None, *, horizon: str = "", landmark: str = "", by: str = "") -> Choice:
    """Return the settings of the chapter: a parameter that is not "" wins over journey.toml.

    Raises:
        JourneyError: there is no `[churn]`, or a duration cannot be read.

    >>> choose(config.Churn(start="joined", end="left"), horizon="90d").horizon_days
    90.0
    """
    if plan is None:
        raise JourneyError("journey.toml: [churn] is missing. Say which event starts and which ends being a customer.")
    mark = landmark or plan.landmark
    days = {name: config.seconds(text) / 86400 for name, text in (("h", horizon or plan.horizon), ("l", mark))}
    return Choice(plan.start, plan.end, mark, days["l"], days["h"], by or plan.by, list(plan.covariates))


def covariates(
    touches: Any, spells: pd.DataFrame, *, covariates: Sequence[config.Covariate], landmark: str = "30d"
) -> pd.DataFrame:
    """Return what was known about each person at the landmark, and what happened to them after it.

    Only people still there (and observed) at start + `landmark` have a row; `duration_days` and `ended` count from the
    landmark. A covariate counts events at or before the landmark, from all history, also before the start. It is
    1 when there was any and 0 when not, or the number of them with `count`. With `without`, the events of
    `without` up to the landmark are subtracted first (never below 0): two tickets and one solution leave one ticket
    unresolved. Nothing after the landmark can change a row's covariates.

    Needs `person_id`, `event`, `timestamp` in touches and the table of `survival.spells`.

    One row per person: person_id, started_at, landmark_at, segment, duration_days, ended and one column a covariate;
    sorted by person_id.

    Raises:
        JourneyError: a covariate has the name of a column of the table.
    """
    names = [covariate.name for covariate in covariates]
    taken = [name for name in names if name in COVARIATE_COLUMNS or names.count(name) > 1]
    if taken:
        raise JourneyError(f"churn.covariates: {taken[0]!r} is a column of the table or named twice. Rename it.")
    require_columns(spells.columns, survival.SPELL_COLUMNS, "churn")
    days = config.seconds(landmark) / 86400
    there = spells[spells["duration_days"] > days]
    if there.empty:
        reason = str(spells.attrs.get("reason", "")) or f"not enough data (n = 0 people still there after {landmark})"
        return not_enough([*COVARIATE_COLUMNS, *names], reason)
    landmark_at = there["started_at"] + pd.Timedelta(days=days)
    base = there.assign(landmark_at=landmark_at, duration_days=there["duration_days"] - days)[list(COVARIATE_COLUMNS)]
    if not names:
        return base.sort_values("person_id", ignore_index=True)
    counts = _counts(touches, base, covariates)
    table = base.merge(counts, on="person_id", how="left", validate="one_to_one")
    for covariate in covariates:
        left = table[covariate.name].fillna(0.0).clip(lower=0).astype(float)
        table[covariate.name] = left if covariate.count else (left > 0).astype(float)
    return table[[*COVARIATE_COLUMNS, *names]].sort_values("person_id", ignore_index=True)


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

    The difference of two restricted means (`survival.restricted_mean`): it needs no proportional hazards, so it stands
    where the Cox model's assumption fails, but it compares the two groups as they are. `p_value` is the log-rank's.

    One row per covariate: covariate, label, people_with_n, people_without_n, horizon_days, difference_days (+low,
    high), p_value.
    """
    require_columns(table.columns, ["duration_days", "ended", *[c.name for c in covariates]], "churn")
    rows = []
    for covariate in covariates:
        having = table[covariate.name] > 0
        groups = table.assign(segment=np.where(having, "with", "without"))
        found = survival.compare_segments(groups, horizon, min_n=min_n)
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
        reason = f"at least {min_n} people, and {survival.MIN_ENDS} with an end event, both with and without it"
        reason = f"not enough data (no covariate with {reason})"
        return not_enough(KEPT_COLUMNS, reason)
    return pd.DataFrame(rows, columns=list(KEPT_COLUMNS))


def out_of_time(
    table: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    split: float = 0.7,
    repeats: int = 300,
    seed: int = 0,
    min_events: int = 10,
) -> pd.DataFrame:
    """Return how well a model of earlier customers ranks later ones.

    The split is the calendar date by which the share `split` of people had started. The model learns from those who
    started before it, and only from what was known on that date: their spells are censored there. It is tested on those
    who started on or after it. `concordance` is Harrell's C (0.5 = a coin, 1 = the order of leaving is known);
    `skill_share` is 1 − Brier / Brier of the training Kaplan–Meier curve at `horizon_days` (the testers' median time),
    weighted for censoring; 0 = no better than one curve for all. Intervals: bootstrap over people (percentile),
    with the model held fixed. Of more than 20,000 people to test on, a random 20,000 are used.

    Needs the table of `covariates`. One row.
    """
    names = [covariate.name for covariate in covariates]
    require_columns(table.columns, [*COVARIATE_COLUMNS, *names], "churn test")
    if table.empty or not names:
        reason = str(table.attrs.get("reason", "")) or "no covariates are declared or nobody is still there"
        return not_enough(TEST_COLUMNS, reason)
    started = table["started_at"].sort_values(ignore_index=True)
    date = started.iloc[min(len(started) - 1, math.ceil(split * len(started)))]
    train = known_by(table, date)
    test = table[table["started_at"] >= date]
    if len(test) > 20_000:
        test = test.sample(20_000, random_state=seed)
    data, kept, notes = _usable(train, covariates, 5)
    reason = _too_few(int(data["ended"].sum()), kept, notes, min_events)
    if reason or test["ended"].sum() < min_events:
        reason = reason or f"not enough data ({int(test['ended'].sum())} later starters left, {min_events} are needed)"
        return not_enough(TEST_COLUMNS, f"{reason}; earlier and later starters were parted on {date:%Y-%m-%d}")
    fit, reason = _fit(data, [covariate.name for covariate in kept])
    if fit is None:
        return not_enough(TEST_COLUMNS, reason)
    duration, ended = test["duration_days"].to_numpy(float), test["ended"].to_numpy(int)
    scores = test[[covariate.name for covariate in kept]]
    weights = np.vstack([np.ones(len(test)), resamples(len(test), repeats, seed)])
    ranked = concordance(duration, ended, fit.predict_log_partial_hazard(scores).to_numpy(float), weights)
    at = min(float(np.median(duration)), float(data["duration_days"].max()))
    predicted = fit.predict_survival_function(scores, times=[at]).to_numpy(float)[0]
    null = KaplanMeierFitter().fit(data["duration_days"], data["ended"]).predict(at)
    loss = weights @ brier_terms(duration, ended, predicted, at) / weights.sum(axis=1)
    loss_null = weights @ brier_terms(duration, ended, np.full(len(test), float(null)), at) / weights.sum(axis=1)
    skill = 1 - loss / np.where(loss_null > 0, loss_null, np.nan)
    facts = (date, len(data), int(data["ended"].sum()), len(test), int(ended.sum()))
    rows = [(*facts, *with_interval(ranked), at, loss[0], loss_null[0], *with_interval(skill))]
    result = pd.DataFrame(rows, columns=list(TEST_COLUMNS))
    result.attrs["note"] = " ".join(notes)
    return result


def label(covariate: config.Covariate) -> str:
    """Return how a covariate is called in text: its label, or its name in words.

    >>> label(config.Covariate(name="late_delivery", events="delivery_late"))
    'late delivery'
    """
    return covariate.label or covariate.name.replace("_", " ")


def _counts(touches: Any, people: pd.DataFrame, covariates: Sequence[config.Covariate]) -> pd.DataFrame:
    """Count, in the engine, each person's events of each covariate up to the landmark, less those of `without`."""
    t = engine.lazy(touches)
    require_columns(t.collect_schema().names(), ["person_id", "event", "time_us"], "churn covariates")
    epoch = pd.Timestamp("1970-01-01")
    until = (people["landmark_at"] - epoch) // pd.Timedelta("1us")
    marks = engine.beside(pd.DataFrame({"person_id": people["person_id"], "_until_us": until}), t)
    wanted = sorted({event for c in covariates for event in [*c.events, *c.without]})
    known = (
        t.filter(nw.col("event").is_in(wanted))
        .join(marks, on="person_id")
        .filter(nw.col("time_us") <= nw.col("_until_us"))
    )
    counted = []
    for c in covariates:
        one = nw.col("event").is_in(c.events).cast(nw.Int64)
        if c.without:
            one = one - nw.col("event").is_in(c.without).cast(nw.Int64)
        counted.append(one.sum().alias(c.name))
    return engine.fetch(known.group_by("person_id").agg(*counted), limit=20_000_000)


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
