"""What was known about people at some moment, and nothing that came later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config, engine
from journeykit.churn.spells import SPELL_COLUMNS
from journeykit.errors import JourneyError, require_columns
from journeykit.stats import not_enough

COVARIATE_COLUMNS = ("person_id", "started_at", "landmark_at", "segment", "duration_days", "ended")


def at_landmark(
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
    require_columns(spells.columns, SPELL_COLUMNS, "churn")
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
        table[covariate.name] = left if covariate.kind == "count" else (left > 0).astype(float)
    return table[[*COVARIATE_COLUMNS, *names]].sort_values("person_id", ignore_index=True)


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
