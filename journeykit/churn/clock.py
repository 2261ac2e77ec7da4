"""Days, weeks and months on the study's clock: in which of them an event lies, and when each is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.volume import offsets

DAY_US = 86_400_000_000
PERIODS = {"day": "D", "week": "W-SUN", "month": "M"}  # a week begins on Monday
DAYS = {"day": 1, "week": 7, "month": 30}  # of a rolling period, which is not bound to the calendar


@dataclass(frozen=True)
class Calendar:
    """Periods of a calendar by their numbers, which follow each other without a gap.

    `edges` are the instants (µs UTC) at which periods begin on the clock of the zone, from number `first` on; the last
    one ends the last period.
    """

    period: str
    zone: str
    first: int
    edges: tuple[int, ...]
    shifts: tuple[tuple[int, int], ...]

    @property
    def last(self) -> int:
        return self.first + len(self.edges) - 2

    def starts(self, number: int) -> int:
        """The instant at which a period begins, or the end of the last one."""
        return self.edges[number - self.first]

    def is_over(self, number: int, until: int) -> bool:
        """Whether all of a period has been observed; `until` itself has been."""
        return self.starts(number + 1) - 1 <= until

    def has_begun(self, number: int, until: int) -> bool:
        """Whether a tenth of a period or more has been observed: of less, nothing can be said yet."""
        return tenth(self.starts(number), self.starts(number + 1)) <= until

    def at(self, number: int) -> pd.Timestamp:
        """The first day of a period, as the calendar says it."""
        return pd.Period(ordinal=number, freq=PERIODS[self.period]).start_time

    def name(self, number: int) -> str:
        """A period as a reader calls it: "Jan 2025", "week of 30 Dec 2024", "5 Jan 2025"."""
        at = self.at(number)
        if self.period == "month":
            return f"{at:%b %Y}"
        return f"{'week of ' if self.period == 'week' else ''}{at.day} {at:%b %Y}"

    def on(self, table: Any, column: str) -> nw.LazyFrame[Any]:
        """Return a table of events with the number of the period in which each lies."""
        shift: Any = nw.lit(0)
        for start, offset in self.shifts:
            shift = nw.when(nw.col("time_us") >= start).then(nw.lit(offset)).otherwise(shift)
        days = pd.period_range(self.at(self.first), self.at(self.last + 1), freq="D")[:-1]
        of = days.asfreq(PERIODS[self.period])
        numbers = pd.DataFrame({"_day": days.astype("int64"), column: of.astype("int64")})
        dated = table.with_columns(_day=(nw.col("time_us") + shift) // DAY_US)
        return dated.join(engine.beside(numbers, dated), on="_day").drop("_day")


def calendar(period: str, zone: str, first_us: int, last_us: int, where: str) -> Calendar:
    """Return the calendar of a stretch of time.

    Raises:
        JourneyError: the period or the time zone is not known.

    >>> months = calendar("month", "Europe/Berlin", 1_735_700_000_000_000, 1_740_000_000_000_000, "cohorts")
    >>> [months.name(number) for number in range(months.first, months.last + 1)]
    ['Jan 2025', 'Feb 2025']
    >>> pd.Timestamp(months.starts(months.first), unit="us")
    Timestamp('2024-12-31 23:00:00')
    """
    one_of(period, PERIODS, "period", where)
    try:
        pd.Timestamp(0, tz=zone)
    except Exception as error:  # pandas raises whatever the zone's own library does
        raise JourneyError(f"{where}: {zone!r} is not a time zone. An example: Europe/Berlin.") from error
    local = [pd.Timestamp(at, unit="us", tz="UTC").tz_convert(zone).tz_localize(None) for at in (first_us, last_us)]
    first, last = (at.to_period(PERIODS[period]).ordinal for at in local)
    frequency = PERIODS[period]
    begins = pd.period_range(pd.Period(ordinal=first, freq=frequency), periods=last - first + 2).to_timestamp()
    # Where clocks change at midnight, a day begins with the first instant that exists in it.
    known = begins.tz_localize(zone, ambiguous=np.ones(len(begins), dtype=bool), nonexistent="shift_forward")
    edges = known.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype("int64")
    shifts = offsets(zone, int(edges[0]), int(edges[-1]))
    return Calendar(period, zone, first, tuple(edges.tolist()), tuple(shifts))


def tenth(begin: int, close: int) -> int:
    """Return the instant at which a tenth of a stretch of time is over."""
    return begin + (close - begin) // 10


def events(touches: Any, names: Sequence[str], until: int, where: str) -> nw.LazyFrame[Any]:
    """Return person_id and time_us of the events of known people up to an instant; no names are all events."""
    table = engine.lazy(touches)
    require_columns(table.collect_schema().names(), ["person_id", "event", "time_us"], where)
    table = table.filter(nw.col("time_us") <= until, ~nw.col("person_id").is_null())
    if names:
        table = table.filter(nw.col("event").is_in(list(names)))
    return table.select("person_id", "time_us")


def spanned(table: Any) -> tuple[int, int] | None:
    """Return the first and the last instant of a table of events, or None when it has none."""
    found = engine.fetch(table.select(a=nw.col("time_us").min(), b=nw.col("time_us").max()))
    if found.empty or pd.isna(found["a"].iloc[0]):
        return None
    return int(found["a"].iloc[0]), int(found["b"].iloc[0])


def one_of(value: str, allowed: Iterable[str], name: str, where: str) -> None:
    """Raise JourneyError when a value is none of those allowed.

    >>> one_of("week", PERIODS, "period", "cohorts")
    """
    if value not in allowed:
        raise JourneyError(
            f"{where}: {name} {value!r} is not known.{nearest(str(value), allowed)} Allowed: {', '.join(allowed)}."
        )
