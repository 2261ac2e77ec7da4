"""Time as a customer, cut into periods, with what was known about each person at the start of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import config, engine
from journeykit.churn.covariates import in_microseconds
from journeykit.churn.moments import at_moments, free_names
from journeykit.errors import JourneyError, require_columns

DAY_US = 86_400_000_000
PERIOD_COLUMNS = ("person_id", "period", "from_days", "to_days", "ended", "started_us")
_NEEDED = ("person_id", "started_at", "duration_days", "ended")


def person_periods(
    touches: Any, spells: pd.DataFrame, *, covariates: Sequence[config.Covariate], width_days: float = 30.0
) -> nw.LazyFrame[Any]:
    """Return one row per person and period of tenure in which they were there and observed, built in the engine.

    Period k reaches from k to k + 1 times `width_days` of tenure, its end included: who leaves on day 30.0 leaves in
    period 0. A row is cut to the time from which the person was observed (late entry) and to the end of the spell;
    rows of no length are left out, so who left at once has none. Covariates are `covariates.known` at `from_days`, that
    instant included; later events never change a row. Rivals: covariates of the whole period, which know of a leaver's
    period more than of a stayer's; cutting at every event, exact but with as many rows as events.

    Requires the columns of `covariates.known` in touches, and the table of `spells.of`. The result is kept until the
    end of `engine.scratch`; fetch it with `engine.fetch(rows, limit=…)`. Rows come in no order.

    One row per person and period: person_id, period (0, 1, …), from_days and to_days of tenure, ended (1: left in this
    period), started_us (microseconds since 1970 UTC) and one column a covariate.

    Raises:
        JourneyError: `width_days` is not positive, or a covariate has the name of a column of the table.

    >>> from tests.conftest import make_log
    >>> people = pd.DataFrame({"person_id": [1], "started_at": [pd.Timestamp("2025-01-01")]})
    >>> people = people.assign(duration_days=15.0, ended=1)
    >>> helped = config.Covariate(name="helped", kind="count", events="help")
    >>> rows = person_periods(make_log("u1: a help@10d help@12d"), people, covariates=[helped], width_days=10)
    >>> engine.fetch(rows)[["period", "from_days", "to_days", "ended", "helped"]].sort_values("period").values.tolist()
    [[0.0, 0.0, 10.0, 0.0, 0.0], [1.0, 10.0, 15.0, 1.0, 1.0]]
    """
    names = free_names(covariates, (*PERIOD_COLUMNS, "until_us", "from_us", "to_us"))
    require_columns(spells.columns, _NEEDED, "churn periods")
    width = round(width_days * DAY_US)
    if width < 1:
        raise JourneyError(f"churn periods: width_days is {width_days:g}; it must be above 0.")
    people = _people(spells, width)
    moments = _moments(people, engine.lazy(touches), width)
    made = at_moments(touches, moments, covariates)
    days = {f"{side}_days": nw.col(f"{side}_us").cast(nw.Float64()) / float(DAY_US) for side in ("from", "to")}
    return made.with_columns(**days).select(*PERIOD_COLUMNS, *names)


def _people(spells: pd.DataFrame, width: int) -> pd.DataFrame:
    """Return people with their times in microseconds and their first and last period."""
    entered = spells["entered_days"] if "entered_days" in spells else pd.Series(0.0, index=spells.index)
    people = pd.DataFrame(
        {
            "person_id": spells["person_id"].astype(np.int64),
            "started_us": in_microseconds(pd.to_datetime(spells["started_at"])),
            "entered_us": np.rint(entered.astype(float) * DAY_US).astype(np.int64),
            "over_us": np.rint(spells["duration_days"].astype(float) * DAY_US).astype(np.int64),
            "left": spells["ended"].astype(np.int64),
        }
    )
    people = people[people["over_us"] > people["entered_us"]]
    first, last = people["entered_us"] // width, (people["over_us"] - 1) // width
    return people.assign(first=first, periods_n=last - first + 1)


def _moments(people: pd.DataFrame, table: nw.LazyFrame[Any], width: int) -> nw.LazyFrame[Any]:
    """Return the start of each person's periods; made in the engine, where there may be a hundred for each person."""
    # One row for each number of periods and each of them: with it, an equal join counts up to a person's number.
    most = int(people["periods_n"].max()) if len(people) else 0
    sizes = np.arange(1, most + 1)
    steps = pd.DataFrame({"periods_n": np.repeat(sizes, sizes), "step": [k for n in sizes for k in range(n)]})
    rows = engine.beside(people, table).join(engine.beside(steps.astype(np.int64), table), on="periods_n")
    rows = rows.with_columns(period=nw.col("first") + nw.col("step"))
    begins, ends = nw.col("period") * width, (nw.col("period") + 1) * width
    rows = rows.with_columns(
        from_us=nw.when(begins < nw.col("entered_us")).then(nw.col("entered_us")).otherwise(begins),
        to_us=nw.when(ends > nw.col("over_us")).then(nw.col("over_us")).otherwise(ends),
    )
    rows = rows.with_columns(
        until_us=nw.col("started_us") + nw.col("from_us"),
        ended=nw.when(nw.col("to_us") == nw.col("over_us")).then(nw.col("left")).otherwise(0),
    )
    numbers = ["person_id", "until_us", "period", "from_us", "to_us", "ended", "started_us"]
    return rows.select(*[nw.col(name).cast(nw.Int64) for name in numbers])
