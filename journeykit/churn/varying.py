"""Who leaves sooner after what: a Cox model of covariates as they change while people are there."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from journeykit import config
from journeykit.churn import cox, partial
from journeykit.errors import require_columns
from journeykit.stats import not_enough

VARYING_COLUMNS = (
    *("covariate", "label", "level", "reference", "per", *cox.RATIO),
    *("n", "rows_n", "people_with_n", "events_n", "proportionality_p_value"),
)
_NEEDED = ("person_id", "from_days", "to_days", "ended")


def over_time(
    rows: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    minimum_events_per_parameter: int = 10,
    min_n: int = 5,
) -> pd.DataFrame:
    """Return how much faster people leave after something happened, counted as it happens (start–stop Cox model).

    Each row is a stretch of a person's tenure with the covariates as they were known at its start; at each moment of
    leaving, who leaves is compared with everybody else who is there at the same tenure. So nobody has to wait for a
    landmark, what happens in the second month counts, and no time is immortal: before the first poor moment a person
    is without one. What a ratio says is nearer to "soon after" than the landmark's; it still is an association, and
    what foretells leaving may be its first sign. Such a model cannot predict, because nobody knows the covariates of
    next month (see `models`).

    A person has several rows and at most one end, so the likelihood is that of independent rows and needs no robust
    or clustered errors; those would guard against people who differ in ways that no covariate tells, for which there
    is no cure here. Columns, ties, what is left out, and the events that each ratio takes are as in `cox.cox`.

    Needs the rows of `periods.person_periods` (person_id, from_days, to_days, ended) and one column a covariate.

    One row per column of the design: covariate, label, level, reference, per, hazard_ratio (+low, high), p_value, n
    (people), rows_n, people_with_n (in any of their rows), events_n, proportionality_p_value. Andersen & Gill (1982).
    """
    names = [covariate.name for covariate in covariates]
    require_columns(rows.columns, [*_NEEDED, *names], "churn over time")
    if not names:
        return not_enough(VARYING_COLUMNS, cox.NO_COVARIATES)
    # The model's rows come in an order of their own, so that sums do not depend on the order of an engine.
    ordered = rows.sort_values(["person_id", "from_days"], ignore_index=True)
    ordered = ordered[ordered["to_days"] > ordered["from_days"]]
    ordered = ordered.rename(columns={"from_days": "entered_days", "to_days": "duration_days"})
    data, columns, notes = cox.model_rows(ordered, covariates, minimum_events_per_parameter, min_n)
    if not columns:
        return not_enough(VARYING_COLUMNS, " ".join(notes))
    found = partial.fit(data, [column.name for column in columns])
    if found is None:
        return not_enough(VARYING_COLUMNS, partial.UNSETTLED)
    result = cox.ratios(found, columns, covariates, data, notes)
    made = result.assign(rows_n=len(data))[list(VARYING_COLUMNS)]
    made.attrs.update(result.attrs)
    return made
