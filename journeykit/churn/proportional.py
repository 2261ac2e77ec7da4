"""Where a hazard ratio changes with tenure: the other ratios without it, and its own ratio early and late."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit import config, present
from journeykit.churn import cox, partial
from journeykit.churn.covariates import label
from journeykit.churn.design import Column, per
from journeykit.churn.spells import UNKNOWN
from journeykit.errors import require_columns
from journeykit.stats import not_enough

MOST = 2  # a number is cut into strata 0, 1 and this or more
EARLY, LATE = "early", "late"
CHANGE_COLUMNS = (
    *("covariate", "label", "level", "reference", "per", "part", "from_day", "to_day", *cox.RATIO),
    *("n", "people_with_n", "events_n", "change_p_value"),
)
CONSTANT = "no ratio changes with tenure by more than chance explains"


def stratified(
    table: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    changing: Sequence[str],
    *,
    minimum_events_per_parameter: int = 10,
    min_n: int = 5,
) -> pd.DataFrame:
    """Return the ratios of the other covariates where some have a curve of their own instead of a ratio.

    People are compared only with those who have the same values of the covariates in `changing` (a stratified Cox
    model), so that these may matter in any way at any tenure; they have no ratio here. A number is cut into 0, 1 and
    2 or more; satisfaction into below and above its middle answer, and no answer.

    Needs the columns of `cox.cox`. One row per column of the others, as in `cox.cox`; `.attrs["strata"]` names the
    covariates that have curves of their own.
    """
    require_columns(table.columns, ["duration_days", "ended", *[c.name for c in covariates]], "churn model")
    others = [covariate for covariate in covariates if covariate.name not in changing]
    strata = [covariate for covariate in covariates if covariate.name in changing]
    if not strata:
        return not_enough(cox.COX_COLUMNS, CONSTANT)
    if not others:
        return not_enough(cox.COX_COLUMNS, "the ratio of every covariate changes with tenure, so that none is left")
    table = table.reset_index(drop=True)
    table = table[~table[[c.name for c in strata if c.kind not in ("category", "satisfaction")]].isna().any(axis=1)]
    table = table.reset_index(drop=True)
    parts = [_strata(table[covariate.name], covariate) for covariate in strata]
    data, columns, notes = cox.model_rows(table, others, minimum_events_per_parameter, min_n)
    if not columns:
        return not_enough(cox.COX_COLUMNS, " ".join(notes))
    whole = pd.concat(parts, axis=1).astype(str).agg(" | ".join, axis=1)
    data = data.assign(_strata=whole.loc[data.index])
    found = partial.fit(data, [column.name for column in columns], strata="_strata")
    if found is None:
        return not_enough(cox.COX_COLUMNS, partial.UNSETTLED)
    result = cox.ratios(found, columns, others, data, notes)
    result.attrs["strata"] = [label(covariate) for covariate in strata]
    return result


def early_late(
    table: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    changing: Sequence[str],
    *,
    minimum_events_per_parameter: int = 10,
    min_n: int = 5,
) -> pd.DataFrame:
    """Return the ratios of some covariates before and after the median time of leaving, other ratios constant.

    Each person's time is split there, and the covariate has a ratio of its own in either part: the simplest effect
    that changes with time. `change_p_value` is Wald's test that the two are equal; where the covariate was chosen
    because its test failed, it is small by choice. Rivals: an interaction with the logarithm of tenure, which needs
    fewer figures and more explanation; smoothed residuals, a picture without numbers.

    Needs the columns of `cox.cox`. Two rows per column of the covariates named in `changing`, early first: covariate,
    label, level, reference, per, part ("early" or "late"), from_day, to_day (after the landmark), hazard_ratio (+low,
    high), p_value, n (at risk at some time of the part), people_with_n (of them), events_n (in the part),
    change_p_value.
    """
    require_columns(table.columns, ["duration_days", "ended", *[c.name for c in covariates]], "churn model")
    if not changing:
        return not_enough(CHANGE_COLUMNS, CONSTANT)
    data, columns, notes = cox.model_rows(table, covariates, minimum_events_per_parameter, min_n)
    if not columns:
        return not_enough(CHANGE_COLUMNS, " ".join(notes))
    middle = float(data.loc[data["ended"] == 1, "duration_days"].median())
    first = data.assign(
        duration_days=data["duration_days"].clip(upper=middle),
        ended=data["ended"].where(data["duration_days"] <= middle, 0),
        _part=EARLY,
    )
    second = data.assign(entered_days=data["entered_days"].clip(lower=middle), _part=LATE)
    rows = pd.concat([first, second], ignore_index=True)
    rows = rows[(rows["duration_days"] > rows["entered_days"]) | ((rows["ended"] == 1) & (rows["_part"] == EARLY))]
    split = [column for column in columns if column.covariate in changing and _both(rows, column)]
    left_out = [c.label for c in columns if c.covariate in changing and c not in split]
    notes += [f"“{name}” is left out: too few of those who left, early or late, had it or not." for name in left_out]
    if not split:
        return not_enough(CHANGE_COLUMNS, " ".join(["not enough data.", *notes]))
    names = [column.name for column in columns if column not in split]
    for column in split:
        for part in (EARLY, LATE):
            rows[f"{column.name} {part}"] = rows[column.name] * (rows["_part"] == part)
            names.append(f"{column.name} {part}")
    needed = minimum_events_per_parameter * len(names)
    if int(rows["ended"].sum()) < needed:
        reason = f"not enough data ({rows['ended'].sum()} people left, at least {needed} are needed to split ratios)"
        return not_enough(CHANGE_COLUMNS, reason)
    found = partial.fit(rows, names)
    if found is None:
        return not_enough(CHANGE_COLUMNS, partial.UNSETTLED)
    declared = {covariate.name: covariate for covariate in covariates}
    made = [line for column in split for line in _lines(found, column, declared[column.covariate], rows, middle)]
    result = pd.DataFrame(made, columns=list(CHANGE_COLUMNS))
    result.attrs["note"] = " ".join(notes)
    return result


def _strata(values: pd.Series, covariate: config.Covariate) -> pd.Series:
    if covariate.kind == "category":
        return values.astype(object).where(values.notna(), UNKNOWN)
    number = values.astype(float)
    if covariate.kind == "satisfaction":
        return number.gt(number.median()).astype(float).where(number.notna(), -1.0)
    return number.clip(upper=MOST) if covariate.kind != "any" else number


def _both(rows: pd.DataFrame, column: Column) -> bool:
    """Tell whether in each part, those who left were of different values of a column."""
    left = rows[rows["ended"] == 1]
    return bool((left.groupby("_part")[column.name].nunique().reindex([EARLY, LATE]).fillna(0) > 1).all())


def _lines(
    found: partial.Fitted, column: Column, covariate: config.Covariate, rows: pd.DataFrame, middle: float
) -> list[tuple[object, ...]]:
    places = [found.names.index(f"{column.name} {part}") for part in (EARLY, LATE)]
    gap = found.coefficients[places[1]] - found.coefficients[places[0]]
    corner = found.variance[np.ix_(places, places)]
    error = float(np.sqrt(corner[0, 0] + corner[1, 1] - 2 * corner[0, 1]))
    change = float(2 * _stats.norm.sf(abs(gap) / error))
    named = (column.covariate, column.label, column.level, column.reference, per(column, covariate))
    last = float(rows["duration_days"].max())
    lines: list[tuple[object, ...]] = []
    for part, place, begins, ends in zip((EARLY, LATE), places, (0.0, middle), (middle, last), strict=True):
        of_part = rows[rows["_part"] == part]
        ratio = cox.ratio_of(found.coefficients[place], found.errors[place], column.step)
        counts = (len(of_part), cox.people_with(of_part, column), int(of_part["ended"].sum()))
        lines.append((*named, part, begins, ends, *ratio, *counts, change))
    return lines


def changed(table: pd.DataFrame) -> list[str]:
    """Return the names of the covariates of a table of `cox.cox` whose ratio changes with tenure."""
    return list(dict.fromkeys(cox.changing(table)["covariate"])) if len(table) else []


def of_strata(table: pd.DataFrame) -> str:
    """Return the names of the covariates that have curves of their own in a table of `stratified`."""
    return present.NONE if table.empty else " and ".join(f"“{name}”" for name in table.attrs.get("strata", []))
