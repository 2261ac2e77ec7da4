"""Who leaves sooner: a Cox model of what was known at a landmark, and the days that go with each covariate.

What is known about a person is counted up to the landmark only, and leaving is counted from the landmark only, among
those still there. A covariate such as "ever had a ticket" over the whole time would make leavers look better than
they are, because those who stay longer have more time to collect events (see `immortal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit import config, present
from journeykit.churn import compare, curves, partial
from journeykit.churn.covariates import label
from journeykit.churn.design import NO_ANSWER, Column, Design, learn, per
from journeykit.errors import require_columns
from journeykit.stats import not_enough

RATIO = ("hazard_ratio", "hazard_ratio_low", "hazard_ratio_high", "p_value")
COX_COLUMNS = (
    *("covariate", "label", "level", "reference", "per", *RATIO),
    *("n", "people_with_n", "events_n", "proportionality_p_value"),
)
KEPT_COLUMNS = (
    *("covariate", "label", "people_with_n", "people_without_n", "horizon_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)
NO_COVARIATES = "no covariates are declared; add [[churn.covariates]] to journey.toml"
CHANCE = 0.05  # over all columns of a model together, that a test of proportional hazards fails by chance


def cox(
    table: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    minimum_events_per_parameter: int = 10,
    min_n: int = 5,
) -> pd.DataFrame:
    """Return how much faster people with each covariate leave, other covariates equal (Cox regression, Efron ties).

    A hazard ratio of 1.8 means: at any time, 1.8 times the chance of leaving next. It is an association in
    observed data; people with and without a covariate may differ in what was not measured. Covariates become columns
    by `design.learn`. Left out, and said in `.attrs["note"]`: columns that are the same for everyone, that fewer than
    `min_n` people have or lack, that repeat others, or that nobody or everybody who left had (their ratio has no finite
    estimate); and whole covariates that the data cannot carry: each column takes `minimum_events_per_parameter` people
    who left, and they are taken in the order given, as long as they fit. Rivals: picking those with the smallest
    p-values, which makes every interval too narrow; a penalty, which needs no such rule but has no honest intervals.

    `proportionality_p_value` tests proportional hazards (scaled Schoenfeld residuals against the rank of time): a small
    one says that the ratio changes with tenure, so that the figure is an average (see `changing`).

    Needs `duration_days`, `ended` and one column a covariate; who is observed only from `entered_days` on is at risk
    from then on (late entry). Rows with a missing number are left out and noted.

    One row per column of the design, in the order given: covariate, label, level (of a category), reference, per (what
    the ratio compares), hazard_ratio (+low, high), p_value, n, people_with_n (a value above 0, or of this level, or who
    answered), events_n, proportionality_p_value. `.attrs["log_likelihood"]` is the model's. Cox (1972); Grambsch &
    Therneau (1994). At least ten events a parameter: Peduzzi et al. (1995).
    """
    names = [covariate.name for covariate in covariates]
    require_columns(table.columns, ["duration_days", "ended", *names], "churn model")
    if not names:
        return not_enough(COX_COLUMNS, NO_COVARIATES)
    data, columns, notes = model_rows(table, covariates, minimum_events_per_parameter, min_n)
    if not columns:
        return not_enough(COX_COLUMNS, str(table.attrs.get("reason", "")) or " ".join(notes))
    found = partial.fit(data, [column.name for column in columns])
    if found is None:
        return not_enough(COX_COLUMNS, partial.UNSETTLED)
    return ratios(found, columns, covariates, data, notes)


def model_rows(
    table: pd.DataFrame, covariates: Sequence[config.Covariate], events_per_parameter: int, min_n: int
) -> tuple[pd.DataFrame, list[Column], list[str]]:
    """Return the rows of a model with its columns beside times, those of its columns that can be estimated, and notes.

    Without a column, the notes are the reason.
    """
    table = table.reset_index(drop=True)
    names = [covariate.name for covariate in covariates]
    entered = table["entered_days"].astype(float) if "entered_days" in table else pd.Series(0.0, index=table.index)
    whole = [c.name for c in covariates if c.kind not in ("category", "satisfaction")]
    usable = table["duration_days"].notna() & table["ended"].notna() & table[whole].notna().all(axis=1)
    missing = int((~usable).sum())
    notes = [f"{missing} people with a missing value are left out."] if missing else []
    # Whoever left at the very landmark counts there; whoever entered late must have been seen for some time.
    usable &= (table["duration_days"] >= 0) & ((table["duration_days"] > entered) | (entered == 0))
    rows = table[usable]
    events = int(rows["ended"].sum())
    carried = events // max(1, events_per_parameter)
    if not carried:
        people = "person" if events == 1 else "people"
        reason = f"{events} {people} left, at least {events_per_parameter} are needed for one covariate"
        return table.head(0), [], [f"not enough data ({reason})"]
    design = learn(rows, covariates, min_n=min_n)
    data = design.apply(rows).assign(
        entered_days=entered[usable], duration_days=rows["duration_days"].astype(float), ended=rows["ended"].astype(int)
    )
    data = data.assign(person_id=rows["person_id"]) if "person_id" in rows else data
    columns, more = _estimable(design, data)
    columns, cut = _fitting(columns, covariates, carried, events)
    notes += [*design.notes, *more, *cut]
    if not columns:
        return data, [], [" ".join(["No covariate can be estimated.", *notes])]
    # What those with and without have in common is their number of people, of the values as they were counted.
    having = {f"_with_{name}": rows[name].notna() if _is_answer(covariates, name) else rows[name] for name in names}
    return data.assign(**having), columns, notes


def ratios(
    found: partial.Fitted,
    columns: Sequence[Column],
    covariates: Sequence[config.Covariate],
    data: pd.DataFrame,
    notes: Sequence[str],
) -> pd.DataFrame:
    """Return the table of `cox` for a fitted model of the rows of `model_rows`."""
    declared = {covariate.name: covariate for covariate in covariates}
    people = data["person_id"].nunique() if "person_id" in data else len(data)
    events = int(data["ended"].sum())
    rows = []
    for column, p_value in zip(columns, found.changing_p_value, strict=True):
        place = found.names.index(column.name)
        ratio = ratio_of(found.coefficients[place], found.errors[place], column.step)
        named = (column.covariate, column.label, column.level, column.reference)
        counts = (people, people_with(data, column), events)
        rows.append((*named, per(column, declared[column.covariate]), *ratio, *counts, float(p_value)))
    result = pd.DataFrame(rows, columns=list(COX_COLUMNS))
    result.attrs.update(note=" ".join(notes), log_likelihood=found.log_likelihood)
    return result


def ratio_of(coefficient: float, error: float, step: float = 1.0) -> tuple[float, float, float, float]:
    """Return a hazard ratio for some step with its 95 % interval, and the p-value of Wald's test that it is 1.

    >>> [round(x, 3) for x in ratio_of(0.693147, 0.2)]
    [2.0, 1.351, 2.96, 0.001]
    """
    middle, half = step * coefficient, abs(step) * curves.Z95 * error
    p_value = float(2 * _stats.norm.sf(abs(coefficient / error)))
    return float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half)), p_value


def changing(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `cox` whose ratio changes with tenure (Bonferroni: one small p-value of many is chance)."""
    return table[table["proportionality_p_value"] < CHANCE / max(1, len(table))] if len(table) else table


def days_kept(
    table: pd.DataFrame, covariates: Sequence[config.Covariate], horizon: float, *, min_n: int = 20
) -> pd.DataFrame:
    """Return how many days more or fewer people with a covariate stay within `horizon` days after the landmark.

    The difference of two restricted means (`curves.restricted_mean`): it needs no proportional hazards, so it stands
    where the Cox model's assumption fails, but it compares the two groups as they are. `p_value` is the log-rank's.
    Categories are compared by `compare.compare_segments`, and satisfaction has no "without": both are left out.

    One row per covariate: covariate, label, people_with_n, people_without_n, horizon_days, difference_days (+low,
    high), p_value.
    """
    require_columns(table.columns, ["duration_days", "ended", *[c.name for c in covariates]], "churn")
    rows = []
    for covariate in covariates:
        if covariate.kind in ("category", "satisfaction"):
            continue
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


def _is_answer(covariates: Sequence[config.Covariate], name: str) -> bool:
    return any(covariate.name == name and covariate.kind == "satisfaction" for covariate in covariates)


def people_with(data: pd.DataFrame, column: Column) -> int:
    """Return how many people have what a column stands for; with several rows of one, in any of them."""
    having: Any = data[column.name] > 0
    if not column.level:
        having = data[f"_with_{column.covariate}"].astype(float) > 0
    return int(data.loc[having, "person_id"].nunique()) if "person_id" in data else int(having.sum())


def _estimable(design: Design, data: pd.DataFrame) -> tuple[list[Column], list[str]]:
    """Return the columns whose ratio has a finite estimate, and a sentence for each other 0/1 column."""
    kept, notes = [], []
    for column in design.columns:
        values = data[column.name].to_numpy()
        of_leavers = values[data["ended"].to_numpy() == 1]
        if len(np.unique(values)) == 2 and len(np.unique(of_leavers)) == 1:
            who = "everybody" if of_leavers[0] == values.max() else "nobody"
            had = "gave no answer" if column.level == NO_ANSWER else "had it"
            notes.append(f"“{column.label}” is left out: {who} who left {had}, so that no ratio can be estimated.")
        else:
            kept.append(column)
    return kept, notes


def _fitting(
    columns: Sequence[Column], covariates: Sequence[config.Covariate], carried: int, events: int
) -> tuple[list[Column], list[str]]:
    """Return the columns of the covariates that so many people who left can carry, in the order declared."""
    kept: list[Column] = []
    dropped: list[str] = []
    for covariate in covariates:
        of_it = [column for column in columns if column.covariate == covariate.name]
        if len(kept) + len(of_it) <= carried:
            kept += of_it
        elif of_it:
            dropped.append(f"“{label(covariate)}”")
    if not dropped:
        return kept, []
    said = "is" if len(dropped) == 1 else "are"
    return kept, [
        f"{' and '.join(dropped)} {said} left out: {present.count(events)} people left, which carries {carried} "
        f"figure{'s' * (carried > 1)} of a model. What comes first in [[churn.covariates]] is kept."
    ]
