"""Growth taken apart: who is new, who came again, who came back after a pause, who fell silent; who comes how often.

The definitions are PostHog's, on days, weeks or months of the study's clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import narwhals as nw
import pandas as pd

from journeykit import engine, stats
from journeykit.churn import clock
from journeykit.journey_map import microseconds

STATES = ("new", "returning", "resurrected", "dormant")
LIFECYCLE_COLUMNS = (
    *("period_at", "period", "state", "n", "people_n", "state_share", "state_share_low", "state_share_high"),
    "complete",
)
QUICK_COLUMNS = (
    *("period_at", "period", "n", "gained_n", "lost_n", "quick_ratio", "quick_ratio_low", "quick_ratio_high"),
    "complete",
)
STICKY_COLUMNS = ("active_periods_n", "n", "people_n", "people_share", "people_share_low", "people_share_high")


def lifecycle(
    touches: Any,
    *,
    activity: Sequence[str] = (),
    as_of: Any,
    timezone: str = "UTC",
    period: Literal["day", "week", "month"] = "month",
    min_n: int = 5,
) -> pd.DataFrame:
    """Return, for each period, how many people were new, returning, resurrected and dormant.

    Who is active in a period is new (first active period in the data), returning (active in the period before too) or
    resurrected (active before, but not in the period before): the three add up to the active. Who was active in the
    period before and is not in this one is dormant in this one, and in no later one: dormant counts those who have
    just fallen silent, not all who are silent. Rivals: new by the date of the account; dormant as a stock; a spell of
    silence longer than one period (`quiet.py`), which a monthly rhythm of buying calls for.

    The data have a beginning: in the first periods people who were customers before it look new, and nobody can be
    resurrected in the first two. A period that is not over yet has fewer active and more dormant people than it will
    have; a last one of which less than a tenth is over is left out.

    Args:
        touches: `person_id`, `event` and `timestamp` (or `time_us`).
        activity: events that make a person active; () is any event.
        as_of: end of observation; what is later is not used.
        timezone: where days begin, such as "Europe/Berlin".
        period: "day", "week" (from Monday) or "month".
        min_n: people; of a period whose states would be shares of fewer, nothing is shown.

    Returns:
        One row per period and state, in the order of time and of `STATES`, from the first to the last period with
        anything to say: period_at (its first day), period, state, n (what the share is of: the active of the period;
        for dormant the active of the period before), people_n, state_share (+low, high; Wilson), complete.
        `.attrs["definition"]` is the definition in a sentence.

    Raises:
        JourneyError: the period or the time zone is not known, or a column is missing.

    >>> days = pd.to_datetime(["2025-01-05", "2025-02-03", "2025-01-20", "2025-03-01"])
    >>> log = pd.DataFrame({"person_id": [1, 1, 2, 2], "event": "order", "timestamp": days})
    >>> table = lifecycle(log, as_of="2025-03-31", min_n=1)
    >>> table[table["people_n"] > 0][["period", "state", "people_n"]].values.tolist()[2:]
    [['Feb 2025', 'dormant', 1], ['Mar 2025', 'resurrected', 1], ['Mar 2025', 'dormant', 1]]
    """
    clock.one_of(period, clock.PERIODS, "period", "lifecycle")
    until = microseconds(as_of)
    done = clock.events(touches, activity, until, "lifecycle")
    span = clock.spanned(done)
    if span is None:
        return stats.not_enough(LIFECYCLE_COLUMNS, _nobody(activity))
    calendar = clock.calendar(period, timezone, span[0], until, "lifecycle")
    active = calendar.on(done, "_at").select("person_id", "_at").unique()
    before = nw.col("_at").shift(1).over("person_id", order_by="_at")
    after = nw.col("_at").shift(-1).over("person_id", order_by="_at")
    marked = active.with_columns(_before=before, _after=after)
    again = nw.when(nw.col("_before") == nw.col("_at") - 1).then(nw.lit(1)).otherwise(nw.lit(2))
    state = nw.when(nw.col("_before").is_null()).then(nw.lit(0)).otherwise(again)
    silent = nw.col("_after").is_null() | (nw.col("_after") > nw.col("_at") + 1)
    marked = marked.with_columns(_state=state, _silent=nw.when(silent).then(nw.lit(1)).otherwise(nw.lit(0)))
    counts = engine.fetch(marked.group_by("_at", "_state").agg(people_n=nw.len(), silent_n=nw.col("_silent").sum()))
    return _table(counts.astype("int64"), calendar, until, activity, min_n)


def quick_ratio(table: pd.DataFrame) -> pd.DataFrame:
    """Return the people gained for each one lost, in each period: (new + resurrected) / dormant.

    Above 1 the number of active people grows. The interval is that of the odds of being one gained rather than one
    lost (Wilson's, turned into a ratio); where nobody was lost there is no ratio. In the first period all are gained
    and nobody can be lost: it has no row.

    Needs the table of `lifecycle`. One row per period: period_at, period, n (gained and lost), gained_n, lost_n,
    quick_ratio (+low, high), complete.
    """
    if table.empty:
        return stats.not_enough(QUICK_COLUMNS, stats.reason_of(table))
    rows = []
    for at, part in table.groupby("period_at", sort=True):
        people = part.set_index("state")["people_n"]
        if "dormant" not in people:
            continue
        gained, lost = int(people.get("new", 0) + people.get("resurrected", 0)), int(people["dormant"])
        ratio = [gained / lost if lost else math.nan, *(_odds(x) for x in stats.wilson(gained, gained + lost))]
        ratio = ratio if lost else [math.nan] * 3
        line = part.iloc[0]
        rows.append((at, line["period"], gained + lost, gained, lost, *ratio, bool(line["complete"])))
    if not rows:
        return stats.not_enough(QUICK_COLUMNS, "not enough data (one period; a ratio needs the one before it)")
    return pd.DataFrame(rows, columns=list(QUICK_COLUMNS))


def stickiness(
    touches: Any,
    *,
    activity: Sequence[str] = (),
    as_of: Any,
    timezone: str = "UTC",
    period: Literal["day", "week", "month"] = "week",
    periods: int = 12,
    min_n: int = 20,
) -> pd.DataFrame:
    """Return in how many of the last periods people were active: exactly so many, not at least so many.

    Only whole periods count, and only people active in one of them. Who came late had fewer periods to be active in;
    rivals: people who were there for all of them; a ratio such as daily by monthly active people.

    One row per number of periods, from 1 to `periods` (or as many as the data have): active_periods_n, n (people
    active in any), people_n, people_share (+low, high; Wilson).
    """
    clock.one_of(period, clock.PERIODS, "period", "stickiness")
    until = microseconds(as_of)
    done = clock.events(touches, activity, until, "stickiness")
    span = clock.spanned(done)
    if span is None:
        return stats.not_enough(STICKY_COLUMNS, _nobody(activity))
    calendar = clock.calendar(period, timezone, span[0], until, "stickiness")
    over = [k for k in range(calendar.first, calendar.last + 1) if calendar.is_over(k, until)]
    if not over or periods < 1:
        return stats.not_enough(STICKY_COLUMNS, f"not enough data (no {period} is over)")
    kept = over[-periods:]
    active = calendar.on(done, "_at").filter(nw.col("_at") >= kept[0], nw.col("_at") <= kept[-1])
    each = active.select("person_id", "_at").unique().group_by("person_id").agg(active_periods_n=nw.len())
    counts = engine.fetch(each.group_by("active_periods_n").agg(people_n=nw.len())).astype("int64")
    n = int(counts["people_n"].sum())
    if n < max(min_n, 1):
        return stats.not_enough(STICKY_COLUMNS, f"not enough data (n = {n}, at least {min_n} are needed)")
    people = counts.set_index("active_periods_n")["people_n"].reindex(range(1, len(kept) + 1), fill_value=0)
    table = stats.add_share(people.rename_axis("active_periods_n").reset_index().assign(n=n), "people", "people_n", "n")
    table.attrs["period"] = period
    return table[list(STICKY_COLUMNS)]


def _table(
    counts: pd.DataFrame, calendar: clock.Calendar, until: int, activity: Sequence[str], min_n: int
) -> pd.DataFrame:
    """Put the states of each period together; dormant people are those whose silence began in the period before."""
    of = counts.pivot_table(index="_at", columns="_state", values="people_n", aggfunc="sum", fill_value=0)
    of = of.reindex(index=range(calendar.first, calendar.last + 1), columns=range(3), fill_value=0)
    silent = counts.groupby("_at")["silent_n"].sum().reindex(of.index, fill_value=0)
    rows: list[tuple[Any, ...]] = []
    previous = 0
    for number in of.index:
        if number == calendar.last and not calendar.has_begun(number, until):
            break
        active, over = int(of.loc[number].sum()), calendar.is_over(number, until)
        who = (calendar.at(number), calendar.name(number))
        if active >= max(min_n, 1):
            rows += [(*who, STATES[k], active, int(of.loc[number, k]), over) for k in range(3)]
        if previous >= max(min_n, 1):
            rows.append((*who, "dormant", previous, int(silent.loc[number - 1]), over))
        previous = active
    if not rows:
        most = int(of.sum(axis=1).max())
        reason = f"not enough data (n = {most} people in the busiest {calendar.period}, at least {min_n} are needed)"
        return stats.not_enough(LIFECYCLE_COLUMNS, reason)
    table = pd.DataFrame(rows, columns=["period_at", "period", "state", "n", "people_n", "complete"])
    table = stats.add_share(table, "state", "people_n", "n")[list(LIFECYCLE_COLUMNS)]
    done = " or ".join(f"“{name.replace('_', ' ')}”" for name in activity) if activity else "an event of any kind"
    table.attrs["definition"] = (
        f"Active in a {calendar.period} is who has {done} in it, on the clock of {calendar.zone}. New: never before in "
        f"the data; returning: active in the {calendar.period} before too; resurrected: active earlier, but not in the "
        f"{calendar.period} before; dormant: active in the {calendar.period} before, and not in this one."
    )
    return table


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.nan


def _nobody(activity: Sequence[str]) -> str:
    return f"not enough data (n = 0 people with an event {' or '.join(activity) if activity else 'of any kind'})"
