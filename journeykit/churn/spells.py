"""How long people stay: spells from events.

A spell runs from a person's first start event to the first end event after it. People who have not ended when
observation stops are *censored*: they count as present for as long as they were seen, never as stayers for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import not_enough

DAY_US, UNKNOWN = 86_400_000_000, "unknown"  # the segment of people of whom none was recorded
SPELL_COLUMNS = ("person_id", "started_at", "duration_days", "ended", "segment")


def spells(touches: Any, *, start: Sequence[str], end: Sequence[str], as_of: Any, by: str = "") -> pd.DataFrame:
    """Return how long each person stayed, from the first start event to the first end event after it.

    Only the first start counts (a person who comes back is not a second customer); an end before it is ignored.
    Without an end by `as_of` the spell is censored there. `start=[]` starts at the person's first event of any kind,
    which turns the same table into time to first purchase; an end event may then be that first event (0 days).
    Events after `as_of` are ignored.

    Needs `person_id`, `event`, `timestamp` and the columns of the total order; `by` names a column (the prefix
    `segment_` may be left out) whose last value known by the start event becomes `segment`, "unknown" when there is
    none. What becomes known later is not used: it would depend on how long the person stayed.

    One row per person with a start: person_id, started_at, duration_days (fractional), ended (0 or 1), segment;
    sorted by person_id.

    Raises:
        JourneyError: a column is missing, no end event is named, or an event both starts and ends.
    """
    both = sorted(set(start) & set(end))
    if not end or both:
        problem = f"{both[0]!r} both starts and ends a spell" if both else "no end event is named"
        raise JourneyError(f"churn: {problem}. Start and end must be different events; name at least one end event.")
    t = engine.lazy(touches)
    columns = t.collect_schema().names()
    by = f"segment_{by}" if by and by not in columns and f"segment_{by}" in columns else by
    require_columns(columns, ["person_id", "event", *engine.ORDER, *([by] if by else [])], "churn")
    until = microseconds(as_of)
    t = t.filter(nw.col("time_us") <= until, ~nw.col("person_id").is_null())
    if by:
        known = nw.col(by).fill_null(strategy="forward").over("person_id", order_by=list(engine.ORDER))
        t = t.with_columns(_known=known)
    if start:
        t = t.filter(nw.col("event").is_in([*start, *end]))
    t = t.with_columns(_starts=nw.col("event").is_in(list(start)).cast(nw.Int64) if start else nw.lit(1, nw.Int64))
    t = t.with_columns(_started=nw.col("_starts").cum_sum().over("person_id", order_by=list(engine.ORDER)))
    first = (nw.col("_starts") == 1) & (nw.col("_started") == 1)
    ends = nw.col("event").is_in(list(end)) & (nw.col("_started") >= 1)
    found = t.with_columns(
        _start_us=nw.when(first).then(nw.col("time_us")),
        _end_us=nw.when(ends).then(nw.col("time_us")),
        _segment=nw.when(first).then(nw.col("_known")) if by else nw.lit(None, nw.String),
    )
    table = engine.fetch(
        found.group_by("person_id")
        .agg(nw.col("_start_us").min(), nw.col("_end_us").min(), nw.col("_segment").max())
        .filter(~nw.col("_start_us").is_null()),
        limit=20_000_000,
    )
    if table.empty:
        what = " or ".join(start) if start else "of any kind"
        return not_enough(SPELL_COLUMNS, f"not enough data (n = 0 people with an event {what})")
    began = table["_start_us"].astype("int64")
    ended = table["_end_us"].notna()
    over = table["_end_us"].where(ended, until).astype("int64")
    result = pd.DataFrame(
        {
            "person_id": table["person_id"],
            "started_at": pd.to_datetime(began, unit="us"),
            "duration_days": (over - began) / DAY_US,
            "ended": ended.astype("int64"),
            "segment": table["_segment"].astype("object").where(table["_segment"].notna(), UNKNOWN) if by else "all",
        }
    )
    return result.sort_values("person_id", ignore_index=True)
