"""Numbers by day: events, people, shares, sums of value and mean answers, as `[[changes]]` and `[watch]` name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, errors, steps, sums
from journeykit.config_changes import Series
from journeykit.config_steps import Step
from journeykit.stats import not_enough
from journeykit.volume import DAY_US, offsets

COLUMNS = ("day", "value", "top", "per", "n", "is_complete")
BLOCKS = ("at", "value", "top", "per", "n", "days_n")
RATIOS = ("share", "satisfaction")
ANY = "any"


def daily(touches: Any, series: Series, *, timezone: str = "UTC", until: pd.Timestamp) -> pd.DataFrame:
    """Return a series of numbers day by day of a time zone, from its first event to the end of observation.

    Kinds: *count* events of `event` (all events when none is named) · *people* with one that day (added up over days
    they are person-days) · *share* events of `event` per event of `per`, by the day of each (an order counts on its own
    day, not on that of its checkout; so the share of a day can exceed 1) · *value* summed, events without one adding
    nothing · *satisfaction* mean of the answers. `where` narrows numerator and denominator alike, by the conditions of
    funnel steps. A day without events is 0; a share without denominator and a mean without answers are missing.

    Rival for shares: units followed from the denominator on (a funnel). That needs a window, so the last days would
    always be unfinished, and what is watched every morning must not wait.

    Args:
        touches: person_id, event, timestamp or time_us; value, satisfaction and columns of `where` where needed.
        series: what is counted.
        timezone: where days begin, such as "Europe/Berlin".
        until: end of observation (UTC); nothing after it counts.

    Returns:
        One row per day without gaps: day (local), value, top (events, people, amount or sum of answers), per
        (denominator; missing for what has none), n (what it rests on: events, people, those of a share's
        denominator, events with a value, answers), is_complete: the whole day was observed. The first day of all
        touches and the day in which observation ends are not. `attrs["unknown_n"]`: events whose value is not known.

    Raises:
        JourneyError: a column is missing, the time zone is not known, or `where` compares a text by size.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: visit cart buy@30h | u2: cart@26h buy cart@80h")
    >>> made = Series(name="orders", kind="share", event="buy", per="cart")
    >>> daily(log, made, until=pd.Timestamp("2025-01-04 12:00"))[["value", "top", "n", "is_complete"]].values.tolist()
    [[0.0, 0.0, 1.0, False], [2.0, 2.0, 1.0, True], [nan, 0.0, 0.0, True], [0.0, 0.0, 1.0, False]]
    """
    clock = Clock.of(touches, timezone, until)
    if clock is None:
        return not_enough(COLUMNS, f"{label(series)}: there is no event up to the end of observation")
    return by_clock(touches, series, clock)


def by_clock(touches: Any, series: Series, clock: Clock) -> pd.DataFrame:
    """Return what `daily` does, where the days are known already."""
    return filled(totals(rows(touches, series, clock), series, ["_day"]), series, clock)


class Clock:
    """Local days of a stretch of time: which day an instant belongs to, and which days are whole."""

    def __init__(self, timezone: str, first_us: int, until_us: int) -> None:
        self.until_us = until_us
        try:
            self.offsets = offsets(timezone, first_us, max(until_us, first_us))
        except Exception as error:  # whatever the zone's own library raises
            raise errors.JourneyError(f"{timezone!r} is not a time zone. An example: Europe/Berlin.") from error
        self.first_day = self.day(first_us)
        self.end_day = self.day(until_us)  # this day is not over

    @classmethod
    def of(cls, touches: Any, timezone: str, until: pd.Timestamp) -> Clock | None:
        """Return the clock from the first touch to the end of observation, or None when nothing lies between."""
        until_us = micros(until)
        table = engine.lazy(touches)
        errors.require_columns(table.collect_schema().names(), ["time_us", "event"], "touches, for series by day")
        first = engine.fetch(table.select(first=nw.col("time_us").min()))["first"].iloc[0]
        return None if pd.isna(first) or int(first) > until_us else cls(timezone, int(first), until_us)

    def day(self, moment_us: int) -> int:
        """Return the local day (since 1970) of an instant."""
        ahead = [offset for start, offset in self.offsets if moment_us >= start]
        return (moment_us + (ahead[-1] if ahead else self.offsets[0][1])) // DAY_US

    def of_row(self) -> nw.Expr:
        """Return the local day of the column `time_us`."""
        shift: Any = nw.lit(0)
        for start, offset in self.offsets:
            shift = nw.when(nw.col("time_us") >= start).then(nw.lit(offset)).otherwise(shift)
        return (nw.col("time_us") + shift) // DAY_US


def rows(touches: Any, series: Series, clock: Clock) -> nw.LazyFrame[Any]:
    """Return the touches that a series counts, with `_day`, `_top` and `_per` (1 where a row counts there)."""
    table = engine.lazy(touches).filter(nw.col("time_us") <= clock.until_us)
    have = table.collect_schema().names()
    need = [name for name in ("value", "satisfaction") if name == series.kind]
    where = f"series {series.name!r}"
    errors.require_columns(have, [*need, *(["person_id"] if series.kind == "people" else [])], f"touches, for {where}")
    table = table.with_columns(_any=nw.lit(ANY), _day=clock.of_row())
    found = steps.marked(table, [_step(series.event, series)], "_any", "_top_", where)
    if series.kind != "share":
        found = found.with_columns(_per=nw.lit(0)).rename({"_top_1": "_top"})
        return found.filter(nw.col("_top") == 1)
    found = steps.marked(found, [_step(series.per, series)], "_any", "_per_", where)
    found = found.rename({"_top_1": "_top", "_per_1": "_per"})
    return found.filter((nw.col("_top") == 1) | (nw.col("_per") == 1))


def _step(events: Sequence[str], series: Series) -> Step:
    """Which rows count, as a step; without events it is all of them, told by the column `_any`."""
    return Step(event=list(events), where=series.where) if events else Step(match=[ANY], where=series.where)


def totals(counted: nw.LazyFrame[Any], series: Series, keys: list[str]) -> pd.DataFrame:
    """Add up what `rows` returns by some of its columns: keys, top, per, unknown_n; in the order of the keys."""
    if series.kind == "people":
        found = engine.fetch(counted.select(*keys, "person_id").unique().group_by(*keys).agg(top=nw.len()))
    elif series.kind in ("count", "share"):
        found = engine.fetch(counted.group_by(*keys).agg(top=nw.col("_top").sum(), per=nw.col("_per").sum()))
    else:
        amount = nw.col(series.kind).cast(nw.Float64)
        parts = (sums.money("m", amount) if series.kind == "value" else {"m_whole": sums.whole(amount, sums.SHARE)}) | {
            "_known": nw.when(~amount.is_null()).then(nw.lit(1)).otherwise(nw.lit(0))
        }
        found = engine.fetch(
            counted.with_columns(**parts)
            .group_by(*keys)
            .agg(nw.len().alias("_all"), *[nw.col(name).sum() for name in parts])
        )
        is_value = series.kind == "value"
        found["top"] = sums.total(found, "m") if is_value else found["m_whole"].astype(float) / sums.SHARE
        found["per"] = found["_known"]
        found["unknown_n"] = found["_all"].astype(int) - found["_known"].astype(int)
    for name in ("per", "unknown_n"):
        found[name] = found.get(name, 0)
    return found[[*keys, "top", "per", "unknown_n"]].sort_values(keys, ignore_index=True)


def filled(found: pd.DataFrame, series: Series, clock: Clock) -> pd.DataFrame:
    """Return totals by `_day` as `daily` does: every day there, 0 where nothing was counted."""
    if found.empty:
        return not_enough(COLUMNS, f"{label(series)}: no event of it up to the end of observation")
    by_day = found.set_index(found["_day"].astype("int64"))[["top", "per"]].astype(float)
    days = range(int(by_day.index.min()), clock.end_day + 1)
    by_day = by_day.reindex(days, fill_value=0.0)
    index = by_day.index.to_numpy()
    table = pd.DataFrame({"day": pd.to_datetime(index, unit="D"), "top": by_day["top"].to_numpy()})
    table["per"] = by_day["per"].to_numpy() if series.kind in RATIOS else np.nan
    table["n"] = by_day["top" if series.kind in ("count", "people") else "per"].to_numpy()
    table["value"] = _value(table, series)
    table["is_complete"] = (index > clock.first_day) & (index < clock.end_day)
    table = table[list(COLUMNS)]
    table.attrs["unknown_n"] = int(found["unknown_n"].sum()) if series.kind == "value" else 0
    return table


def blocks(days: pd.DataFrame, series: Series, *, origin: pd.Timestamp, width: int = 7) -> pd.DataFrame:
    """Return complete days put together into stretches of `width` days, one of which begins at `origin`.

    A stretch with a day that is missing or not complete is left out. What is added up (counts, people, value) is told
    per day: `value` is `top` / `width`, so that days and weeks are in one unit.

    Returns:
        One row per stretch, in order: at (its first day), value, top, per, n, days_n.
    """
    whole = days.loc[days["is_complete"]] if len(days) else days
    if whole.empty:
        return not_enough(BLOCKS, str(days.attrs.get("reason", f"{label(series)}: no day is complete")))
    number = (whole["day"] - origin).dt.days // width
    found = whole.groupby(number)[["top", "per", "n"]].sum().assign(days_n=whole.groupby(number).size())
    found = found.loc[found["days_n"] == width]
    if found.empty:
        return not_enough(BLOCKS, f"{label(series)}: no stretch of {width} complete days")
    table = found.reset_index(drop=True)
    table.insert(0, "at", origin + pd.to_timedelta(found.index.to_numpy() * width, unit="D"))
    if series.kind not in RATIOS:
        table["per"] = np.nan
    table["value"] = _value(table, series) / (1 if series.kind in RATIOS else width)
    return table[list(BLOCKS)]


def _value(table: pd.DataFrame, series: Series) -> pd.Series[Any]:
    return table["top"] / table["per"].where(table["per"] > 0) if series.kind in RATIOS else table["top"]


def label(series: Series) -> str:
    """Return the name of a series in the report."""
    return series.label or series.name


def unit(series: Series, currency: str = "") -> str:
    """Return the unit of a series' values; what is added up is told per day.

    >>> unit(Series(name="x")), unit(Series(name="x", kind="value"), "EUR")
    ('events a day', 'EUR a day')
    """
    named = {"share": "share", "satisfaction": "score", "value": f"{currency or 'value'} a day"}
    return named.get(series.kind, "people a day" if series.kind == "people" else "events a day")


def micros(moment: pd.Timestamp) -> int:
    """Return an instant as microseconds since 1970 (UTC)."""
    stamp = pd.Timestamp(moment)
    stamp = stamp.tz_convert("UTC").tz_localize(None) if stamp.tz is not None else stamp
    return int((stamp - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us"))
