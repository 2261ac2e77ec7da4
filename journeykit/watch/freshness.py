"""Whether every source has delivered lately: checked first, because a source that stopped looks like a fall."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, volume
from journeykit.changes.series import micros
from journeykit.durations import seconds
from journeykit.stats import not_enough

COLUMNS = ("source", "last_at", "silent_seconds", "longest_silence_seconds", "verdict", "reason")
STALE, FRESH = "stale", "fresh"
VOLUME = ("source", "day", "events_n", "expected_n", "expected_n_low", "expected_n_high", "unusual")


def freshness(events: Any, files: Any = None, *, as_of: pd.Timestamp, stale_after: str = "48h") -> pd.DataFrame:
    """Return for each source when its last event was, and whether it has been silent for too long since.

    A source is stale when its silence up to the end of observation is longer than `stale_after` and longer than any
    silence that it had before: a weekly export is not stale on the sixth day. Where the end of observation is the last
    event of all, the source of that event is fresh by definition; `study.as_of` or a second source tells more.

    Args:
        events: source, timestamp or time_us.
        files: the table of raw files (source, last_at), for sources that give no events, such as spend, and for those
            of which no row was kept; they have no silences to compare with.
        as_of: end of observation (UTC).
        stale_after: the least silence that counts.

    Returns:
        One row per source, stale ones first: source, last_at (missing: no row), silent_seconds, longest_silence_seconds
        (missing: unknown), verdict ("stale" or "fresh"), reason.
    """
    until = micros(as_of)
    table = engine.lazy(events).filter(nw.col("time_us") <= until)
    last = engine.fetch(table.group_by("source").agg(last_us=nw.col("time_us").max()))
    known: dict[str, int | None] = dict(zip(last["source"], last["last_us"].astype("int64"), strict=True))
    gaps = volume.silences(table) if known else pd.DataFrame(columns=["source", "longest_silence_seconds"])
    longest = dict(zip(gaps["source"], gaps["longest_silence_seconds"].astype(float), strict=True))
    known |= _of_files(files, set(known))
    rows = [_row(source, moment, until, longest.get(source, np.nan), stale_after) for source, moment in known.items()]
    if not rows:
        return not_enough(COLUMNS, "no source has an event")
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    order = found.assign(_fresh=found["verdict"] == FRESH).sort_values(["_fresh", "source"], kind="stable").index
    return found.loc[order].reset_index(drop=True)


def _of_files(files: Any, known: set[str]) -> dict[str, int | None]:
    """The last moment in the files of each source that has no event, None where none was kept."""
    if files is None:
        return {}
    listed = engine.fetch(engine.lazy(files).select("source", "last_at"))
    latest = pd.to_datetime(listed["last_at"]).groupby(listed["source"]).max()
    return {
        str(source): None if pd.isna(moment) else micros(moment)
        for source, moment in latest.items()
        if source not in known
    }


def _row(source: str, moment: int | None, until: int, longest: float, stale_after: str) -> tuple[object, ...]:
    if moment is None:
        return source, pd.NaT, np.nan, np.nan, STALE, "no row of it was kept"
    silent = max(0.0, (until - moment) / 1e6)
    limit = max(seconds(stale_after or "48h"), longest if longest == longest else 0.0)
    stale = silent > limit
    reason = (
        f"silent for longer than {'ever before' if longest > seconds(stale_after or '48h') else stale_after}"
        if stale
        else ""
    )
    return source, pd.to_datetime(moment, unit="us"), silent, longest, STALE if stale else FRESH, reason


def volumes(events: Any, *, as_of: pd.Timestamp, timezone: str = "UTC") -> pd.DataFrame:
    """Return how many events each source gave on its last complete day, and whether that is unusual.

    The rule is that of `journeykit.volume`: against the same weekday of the eight weeks before, silent, low or high.
    Days after the last event of a source count as empty ones.

    Returns:
        One row per source: source, day (the last complete one), events_n, expected_n (low, high; missing when it was
        not judged), unusual ("silent", "low", "high" or "").
    """
    until = micros(as_of)
    days = volume.daily(engine.lazy(events).filter(nw.col("time_us") <= until), timezone)
    if days.empty:
        return not_enough(VOLUME, "no event was read")
    zone = pd.Timestamp(until, unit="us", tz="UTC").tz_convert(timezone).tz_localize(None)
    today = zone.floor("D")  # not over, or just begun: the rule judges no last day, and this is it
    parts = []
    for source, part in days.groupby("source", sort=True):
        counts = part.set_index("day")["events_n"]
        span = pd.date_range(counts.index.min(), today, freq="D")
        filled = counts.reindex(span, fill_value=0)
        parts.append(pd.DataFrame({"source": source, "day": span, "events_n": filled.to_numpy()}))
    judged = volume.judge(pd.concat(parts, ignore_index=True))
    found = judged.loc[judged["day"] == today - pd.Timedelta(days=1)]
    if found.empty:
        return not_enough(VOLUME, "no source has a complete day")
    return found[list(VOLUME)].reset_index(drop=True)
