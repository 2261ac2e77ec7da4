"""Retention cohorts: of those who started in a period, how many came back in each period after it.

The switches have the names that analysts know from product analytics; each changes what the same log says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, stats
from journeykit.churn import clock
from journeykit.journey_map import microseconds

COHORT_COLUMNS = (
    *("cohort", "cohort_at", "period", "n", "returned_n"),
    *("retained_share", "retained_share_low", "retained_share_high", "complete", "cohorts_n"),
)
MEANS = {"weighted": "Weighted mean", "simple": "Simple mean"}
_UNIT = ["person_id", "_cohort"]
_SUMS = ["n", "returned_n", "_kk", "_kn", "_nn", "_clusters"]
_SWITCHES = {
    "occurrence": ("first-time", "recurring"),
    "counted": ("on", "on or after"),
    "relative_to": ("start", "previous"),
    "mean": tuple(MEANS),
    "incomplete": ("marked", "averaged"),
    "windows": ("calendar", "rolling"),
}


def cohorts(
    touches: Any,
    *,
    start: Sequence[str] = (),
    returning: Sequence[str] = (),
    as_of: Any,
    timezone: str = "UTC",
    period: Literal["day", "week", "month"] = "month",
    periods: int = 12,
    occurrence: Literal["first-time", "recurring"] = "first-time",
    counted: Literal["on", "on or after"] = "on",
    relative_to: Literal["start", "previous"] = "start",
    mean: Literal["weighted", "simple"] = "weighted",
    incomplete: Literal["marked", "averaged"] = "marked",
    windows: Literal["calendar", "rolling"] = "calendar",
    min_n: int = 20,
) -> pd.DataFrame:
    """Return, for each cohort, the share that comes back in each period after its start, and the mean over cohorts.

    A cohort is everybody whose start event lies in one day, week (from Monday) or month on the study's clock. Period 0
    is the cohort itself, 1 by definition; it says nothing about coming back in the period of the start (rival: the
    share with a return event after the start in that same period).

    A period is complete when it is over for everybody of the cohort. The others are marked, and their share can only
    rise; a period of which less than a tenth is over says nothing yet and has no cell. Counted "on or after", every
    share rises with the time that a cohort has been observed, also in complete periods: compare cohorts at equal age
    only. Cohorts of fewer than `min_n` people are left out, of the mean too (`.attrs["note"]`), and cells that are a
    share of fewer are not shown.

    Intervals: Wilson's. The weighted mean is one share of all people of its cohorts; with recurring starts a person
    is in several of them, and is one cluster (`stats.clustered`). The simple mean's is Student's t over cohorts,
    which takes in how they differ, and is empty where people recur, because then cohorts are not independent. It is of
    the cells shown.

    Args:
        touches: `person_id`, `event` and `timestamp` (or `time_us`).
        start: events that put a person into a cohort; () is any event.
        returning: events that count as coming back; () is any event.
        as_of: end of observation; what is later is not used.
        timezone: where days begin, such as "Europe/Berlin".
        period: length of a period and of a cohort.
        periods: how many periods after the start are counted.
        occurrence: "first-time": a person's first start event ever (in the data) decides, each is in one cohort;
            "recurring": in the cohort of every period with a start event, from its first one on.
        counted: "on": came back in exactly this period (also: n-day, exact); "on or after": in this one or any later
            (also: unbounded, rolling retention; not to be mixed up with the rolling windows below).
        relative_to: "start": of all who started; "previous": of those counted in the period before, those counted
            in this one too. Rival: the count divided by the count before, as PostHog does; it is the same for "on or
            after", and for "on" it can exceed 1, because others come back in each.
        mean: "weighted": everybody counts alike, the row that is not led by small cohorts; "simple": every cohort
            counts alike.
        incomplete: "marked": never in the mean; "averaged": in the mean, which is then too low.
        windows: "calendar": period 1 is the next calendar period, be the start on its first or last day; "rolling":
            it begins a whole period (1, 7 or 30 days of 24 hours) after the person's own start.
        min_n: people of the smallest cohort shown.

    Returns:
        One row per cohort and period, then one row per period with the mean: cohort (a name), cohort_at
        (its first day; none for the mean), period (0 = the start), n (what the share is of), returned_n,
        retained_share (+low, high), complete, cohorts_n (1; how many a mean is of). `.attrs["definition"]` says the
        choices in a sentence.

    Raises:
        JourneyError: a switch, the period or the time zone is not known, or a column is missing.

    >>> days = pd.to_datetime(["2025-01-05", "2025-02-03", "2025-01-20", "2025-03-01"])
    >>> log = pd.DataFrame({"person_id": [1, 1, 2, 2], "event": "order", "timestamp": days})
    >>> table = cohorts(log, as_of="2025-03-20", min_n=1)
    >>> table[["cohort", "period", "n", "returned_n", "complete"]].head(3).values.tolist()
    [['Jan 2025', 0, 2, 2, True], ['Jan 2025', 1, 2, 1, True], ['Jan 2025', 2, 2, 1, False]]
    """
    chosen: dict[str, str] = {"occurrence": occurrence, "counted": counted, "relative_to": relative_to}
    for name, value in {**chosen, "mean": mean, "incomplete": incomplete, "windows": windows}.items():
        clock.one_of(value, _SWITCHES[name], name, "cohorts")
    clock.one_of(period, clock.PERIODS, "period", "cohorts")
    until = microseconds(as_of)
    begins = clock.events(touches, start, until, "cohorts")
    span = clock.spanned(begins)
    if span is None:
        what = " or ".join(start) if start else "of any kind"
        return stats.not_enough(COHORT_COLUMNS, f"not enough data (n = 0 people with an event {what})")
    calendar = clock.calendar(period, timezone, span[0], until, "cohorts")
    width = clock.DAYS[period] * clock.DAY_US if windows == "rolling" else 0
    units = _units(calendar.on(begins, "_cohort"), occurrence)
    with engine.scratch():
        units = engine.keep(units, "cohort_units")
        sizes = _sizes(units)
        small = sizes["n"] < max(min_n, 1)
        if small.all():
            most = int(sizes["n"].max())
            reason = f"not enough data (n = {most} people in the largest cohort, at least {min_n} are needed)"
            return stats.not_enough(COHORT_COLUMNS, reason)
        cells = _cells(sizes[~small], calendar, periods, until, width)
        back = clock.events(touches, returning, until, "cohorts")
        after = _returns(units, back, calendar, width)
        told = _told(units, cells, after, counted, relative_to)
        people = engine.keep(told.filter(nw.col("_base") == 1), "cohort_cells")
        rows = _rows(people, cells, min_n)
        averaged = people if incomplete == "averaged" else people.filter(nw.col("_complete") == 1)
        means = _weighted(averaged, min_n)
    if mean == "simple":
        means = _simple(rows, means, incomplete, occurrence)
    means = means.assign(cohort=MEANS[mean], _cohort=-1)
    whole = cells.groupby("period")["_complete"].min() == 1
    means["complete"] = True if incomplete == "marked" else means["period"].map(whole)
    rows = rows.assign(cohort=[calendar.name(int(number)) for number in rows["_cohort"]])
    rows["cohort_at"] = [calendar.at(int(number)) for number in rows["_cohort"]]
    table = pd.concat([rows, means], ignore_index=True).reindex(columns=list(COHORT_COLUMNS))
    table["cohort_at"] = pd.to_datetime(table["cohort_at"])
    table = table.astype(dict.fromkeys(("period", "n", "returned_n", "cohorts_n"), "int64") | {"complete": bool})
    left_out = int(small.sum())
    which = "1 cohort" if left_out == 1 else f"{left_out} cohorts"
    table.attrs["note"] = f"{which} of fewer than {min_n} people left out." if left_out else ""
    table.attrs["occurrence"] = occurrence
    table.attrs["definition"] = _definition(start, returning, calendar, windows, chosen)
    return table


def _units(begins: nw.LazyFrame[Any], occurrence: str) -> nw.LazyFrame[Any]:
    """One row per person and cohort, with the first start event in it."""
    if occurrence == "recurring":
        return begins.group_by(*_UNIT).agg(_start=nw.col("time_us").min())
    return begins.group_by("person_id").agg(nw.col("_cohort").min(), _start=nw.col("time_us").min())


def _sizes(units: nw.LazyFrame[Any]) -> pd.DataFrame:
    found = units.group_by("_cohort").agg(n=nw.len(), a=nw.col("_start").min(), b=nw.col("_start").max())
    return engine.fetch(found).astype("int64").sort_values("_cohort", ignore_index=True)


def _cells(sizes: pd.DataFrame, calendar: clock.Calendar, periods: int, until: int, width: int) -> pd.DataFrame:
    """Which periods of each cohort have begun for somebody, and which are over for everybody."""
    rows = []
    for cohort, _, first, last in sizes.itertuples(index=False):
        for period in range(max(periods, 0) + 1):
            if width:
                begin, close = first + period * width, last + (period + 1) * width
            elif cohort + period > calendar.last:
                break
            else:
                begin, close = (calendar.starts(cohort + period + more) for more in (0, 1))
            if period and clock.tenth(begin, close) > until:
                break
            rows.append((cohort, period, int(close - 1 <= until)))
    return pd.DataFrame(rows, columns=["_cohort", "period", "_complete"], dtype="int64")


def _returns(
    units: nw.LazyFrame[Any], back: nw.LazyFrame[Any], calendar: clock.Calendar, width: int
) -> nw.LazyFrame[Any]:
    """One row per unit and period after its start with a return event in it."""
    if width:
        pairs = units.join(back, on="person_id")
        period = (nw.col("time_us") - nw.col("_start")) // width
    else:
        # A return before the first cohort is no period of the calendar, and no return.
        pairs = units.join(calendar.on(back, "_in").select("person_id", "_in").unique(), on="person_id")
        period = nw.col("_in") - nw.col("_cohort")
    return pairs.with_columns(period=period).filter(nw.col("period") >= 1).select(*_UNIT, "period").unique()


def _told(
    units: nw.LazyFrame[Any], cells: pd.DataFrame, after: nw.LazyFrame[Any], counted: str, relative_to: str
) -> nw.LazyFrame[Any]:
    """One row per unit and period: does it belong to what the share is of (_base), and was it counted (_hit)?"""
    grid = units.select(*_UNIT).join(engine.beside(cells, units), on="_cohort")
    if counted == "on or after":
        last = after.group_by(*_UNIT).agg(_last=nw.col("period").max())
        grid = grid.join(last, on=_UNIT, how="left").with_columns(nw.col("_last").fill_null(0))
        hit, before = nw.col("_last") >= nw.col("period"), nw.col("_last") >= nw.col("period") - 1
    else:
        hits = after.with_columns(_here=nw.lit(1))
        grid = grid.join(hits, on=[*_UNIT, "period"], how="left")
        previous = after.with_columns(nw.col("period") + 1, _before=nw.lit(1))
        grid = grid.join(previous, on=[*_UNIT, "period"], how="left")
        hit, before = ~nw.col("_here").is_null(), ~nw.col("_before").is_null()
    base = before | (nw.col("period") <= 1) if relative_to == "previous" else nw.col("period") >= 0
    return grid.with_columns(_hit=_flag(hit | (nw.col("period") == 0)), _base=_flag(base))


def _rows(people: nw.LazyFrame[Any], cells: pd.DataFrame, min_n: int) -> pd.DataFrame:
    """Count the cells, with Wilson's intervals; where nobody was left to be counted there is no cell."""
    counts = engine.fetch(people.group_by("_cohort", "period").agg(n=nw.len(), returned_n=nw.col("_hit").sum()))
    rows = cells.merge(counts.astype("int64"), on=["_cohort", "period"])
    rows = rows[rows["n"] >= max(min_n, 1)].sort_values(["_cohort", "period"], ignore_index=True)
    rows = stats.add_share(rows, "retained", "returned_n", "n").assign(cohorts_n=1, complete=rows["_complete"] == 1)
    return _start_is_certain(rows)


def _weighted(people: nw.LazyFrame[Any], min_n: int) -> pd.DataFrame:
    """The share of all people of the cohorts of each period; a person in several cohorts is one cluster."""
    one = people.group_by("person_id", "period").agg(_c=nw.len(), _r=nw.col("_hit").sum())
    alike = engine.fetch(one.group_by("period", "_c", "_r").agg(_people=nw.len())).astype("int64")
    c, r, m = alike["_c"], alike["_r"], alike["_people"]
    parts = alike.assign(n=c * m, returned_n=r * m, _kk=r * r * m, _kn=r * c * m, _nn=c * c * m, _clusters=m)
    sums = parts.groupby("period")[_SUMS].sum().reset_index()
    of = engine.fetch(people.select("period", "_cohort").unique()).groupby("period").size()
    table = stats.add_clustered_share(sums, "retained", "returned_n", "n").assign(cohorts_n=sums["period"].map(of))
    return _start_is_certain(table[table["n"] >= max(min_n, 1)])


def _simple(rows: pd.DataFrame, weighted: pd.DataFrame, incomplete: str, occurrence: str) -> pd.DataFrame:
    """The mean of the shares of cohorts, each of which counts alike."""
    used = rows if incomplete == "averaged" else rows[rows["complete"]]
    means = weighted[weighted["period"].isin(used["period"])].copy()
    for place, row in means.iterrows():
        shares = used.loc[used["period"] == row["period"], "retained_share"]
        mean, low, high = stats.mean_interval(shares)
        if occurrence == "recurring" or len(shares) < 2:
            low = high = math.nan
        bounds = np.clip([low, high], 0, 1)
        means.loc[place, ["retained_share", "retained_share_low", "retained_share_high"]] = [mean, *bounds]
        means.loc[place, "cohorts_n"] = len(shares)
    return _start_is_certain(means)


def _start_is_certain(table: pd.DataFrame) -> pd.DataFrame:
    """Give period 0, which is 1 by definition, no uncertainty."""
    bounds = ["retained_share_low", "retained_share_high"]
    return table.assign(**{name: table[name].where(table["period"] > 0, 1.0) for name in bounds})


def _flag(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0))


def _definition(
    start: Sequence[str], returning: Sequence[str], calendar: clock.Calendar, windows: str, chosen: dict[str, str]
) -> str:
    unit = calendar.period
    starts = f"with {_quoted(start)} in the {unit}"
    if chosen["occurrence"] == "first-time":
        starts = f"whose first {_quoted(start).removeprefix('an ')} ever lies in the {unit}"
    length = f"{clock.DAYS[unit] * 24} hours" if unit == "day" else f"{clock.DAYS[unit]} days"
    when = f"{unit}s on the clock of {calendar.zone}" if windows == "calendar" else f"{length} from each one's start on"
    late = "in it or any later one" if chosen["counted"] == "on or after" else "in it"
    of = "all who started" if chosen["relative_to"] == "start" else "those counted in the period before"
    return (
        f"A cohort is everybody {starts}; periods are {when}; who comes back in a period has {_quoted(returning)} "
        f"{late}; shares are of {of}."
    )


def _quoted(names: Sequence[str]) -> str:
    return " or ".join(f"“{name.replace('_', ' ')}”" for name in names) if names else "an event of any kind"
