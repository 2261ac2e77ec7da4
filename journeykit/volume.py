"""How many events a source gives a day, and which days are silent, low or high against the weeks before them.

The rule, in words. A day is compared with the same weekday of the eight weeks before it, on the scale of square
roots, where the scatter of counts by chance is the same at every level. Expected is the median of those days. A day is
*low* or *high* when it lies further from it than `REACH` times the usual scatter of those weeks, which is never taken
as smaller than chance alone; a low day without any event is *silent*. Silences are judged beside that, because one
empty day of a small source says nothing: all days of a silence are *silent* when at the rate of the eight weeks before
it, allowing for how bunched its events come, `SILENCE` events or more would have come. Such days are no measure for the
days after them.
"""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd

from journeykit import engine
from journeykit.stats import not_enough

WEEKS = 8  # that a day is compared with
LEAST = 4  # same weekdays among them that there must be; a day with fewer is not judged
REACH = 4.5  # times the usual scatter; by simulation a source has a false alarm in two years or more rarely
WITHIN, NORMAL = (
    0.8,
    1.2816,
)  # the usual scatter: four days of five lie within 1.2816 of it, as in a normal distribution
FEWEST = 5.0  # events; a lower bound below them bounds nothing, because visits bring several events at a time
SILENCE = 10.0  # events missed: by chance that happens once in exp(10) = 22,000 times
KINDS = ("silent", "low", "high")
EMPTY = 2 * np.sqrt(0.375) + 1e-9  # no event, on the scale of square roots
DAY_US = 86_400_000_000
Floats = npt.NDArray[np.float64]


def daily(events: Any, zone: str = "UTC") -> pd.DataFrame:
    """Return the events of each source by day of a time zone, from its first to its last day; days without any are 0.

    Returns:
        One row per source and day: source, day, events_n.
    """
    table = engine.lazy(events)
    span = engine.fetch(table.select(first=nw.col("time_us").min(), last=nw.col("time_us").max()))
    if pd.isna(span["first"].iloc[0]):
        return not_enough(["source", "day", "events_n"], "no event was read")
    shift: Any = nw.lit(0)
    for start, offset in offsets(zone, int(span["first"].iloc[0]), int(span["last"].iloc[0])):
        shift = nw.when(nw.col("time_us") >= start).then(nw.lit(offset)).otherwise(shift)
    found = engine.fetch(
        table.with_columns(_day=(nw.col("time_us") + shift) // DAY_US).group_by("source", "_day").agg(events_n=nw.len())
    )
    parts = []
    for source, part in found.groupby("source", sort=True):
        days = part.set_index(part["_day"].astype("int64"))["events_n"].astype("int64")
        days = days.reindex(range(int(days.index.min()), int(days.index.max()) + 1), fill_value=0)
        day = pd.to_datetime(days.index, unit="D")
        parts.append(pd.DataFrame({"source": source, "day": day, "events_n": days.to_numpy()}))
    return pd.concat(parts, ignore_index=True)


def offsets(zone: str, first_us: int, last_us: int) -> list[tuple[int, int]]:
    """Return from which instant on clocks of a zone are ahead of UTC by how much: (µs since 1970, µs), in order.

    >>> [hours // 3_600_000_000 for _, hours in offsets("Europe/Berlin", 1_735_700_000_000_000, 1_750_000_000_000_000)]
    [1, 2]
    """
    first, last = (pd.Timestamp(moment, unit="us").floor("D") for moment in (first_us, last_us))
    moments = pd.date_range(first, last + pd.Timedelta(days=1), freq="15min", tz="UTC", unit="us")  # no zone is finer
    ahead = moments.tz_convert(zone).tz_localize(None) - moments.tz_localize(None)
    microseconds = (ahead // pd.Timedelta(microseconds=1)).to_numpy()
    steps = np.flatnonzero(np.diff(microseconds, prepend=microseconds[0] - 1))
    starts = moments.tz_localize(None).to_numpy().astype("datetime64[us]").astype("int64")
    return [(int(starts[step]), int(microseconds[step])) for step in steps]


def judge(days: pd.DataFrame) -> pd.DataFrame:
    """Return `daily` with what each day was expected to hold and what is unusual about it; the rule stands above.

    The first and the last day of a source are not judged: an export seldom begins or ends at midnight.

    Returns:
        The same rows, with expected_n, expected_n_low, expected_n_high (empty where a day was not judged) and
        unusual: "silent", "low", "high" or "".
    """
    if days.empty:
        return days
    parts = [_judged(part) for _, part in days.groupby("source", sort=False)]
    return pd.concat(parts, ignore_index=True)


def episodes(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the unusual days of `judge`, consecutive ones of a kind together, the longest silences first.

    Returns:
        One row per source and run of days: source, unusual, first_day, last_day, days_n, events_n, expected_n.
    """
    columns = ["source", "unusual", "first_day", "last_day", "days_n", "events_n", "expected_n"]
    if judged.empty:
        return not_enough(columns, "no event was read")
    if judged["expected_n"].isna().all() and not (judged["unusual"] != "").any():
        return not_enough(columns, f"no source has days enough: a day is judged by {LEAST} or more weeks before it")
    new = (judged["unusual"] != judged["unusual"].shift()) | (judged["source"] != judged["source"].shift())
    found = judged.assign(_run=new.cumsum())[judged["unusual"] != ""]
    if found.empty:
        return not_enough(columns, "no day of any source is unusual against the weeks before it")
    runs = found.groupby(["source", "_run", "unusual"], as_index=False).agg(
        first_day=("day", "min"),
        last_day=("day", "max"),
        days_n=("day", "size"),
        events_n=("events_n", "sum"),
        expected_n=("expected_n", lambda expected: expected.sum(min_count=len(expected))),
    )
    runs["expected_n"] = runs["expected_n"].round()
    kind = runs["unusual"].map(KINDS.index)
    runs = runs.assign(_kind=kind).sort_values(
        ["_kind", "days_n", "source", "first_day"], ascending=[True, False, True, True]
    )
    return runs[columns].reset_index(drop=True)


def silences(events: Any, finest_seconds: int = 60) -> pd.DataFrame:
    """Return the longest silence of each source between its first and its last event.

    Events are first put together by `finest_seconds`, which bounds the work; a shorter silence inside such a stretch
    does not count.

    Returns:
        One row per source: source, longest_silence_seconds (0 for a single event), silence_from_at, silence_to_at.
    """
    columns = ["source", "longest_silence_seconds", "silence_from_at", "silence_to_at"]
    stretches = (
        engine.lazy(events)
        .with_columns(_stretch=nw.col("time_us") // (finest_seconds * 1_000_000))
        .group_by("source", "_stretch")
        .agg(_first=nw.col("time_us").min(), _last=nw.col("time_us").max())
    )
    pairs = stretches.with_columns(_before=nw.col("_last").shift(1).over("source", order_by="_stretch"))
    pairs = pairs.with_columns(_gap=nw.col("_first") - nw.coalesce("_before", "_first"))
    longest = pairs.with_columns(_most=nw.col("_gap").max().over("source")).filter(nw.col("_gap") == nw.col("_most"))
    # Of equally long silences the first; a source with one event has none.
    found = engine.fetch(
        longest.group_by("source").agg(_gap=nw.col("_gap").min(), _to=nw.col("_first").min()).sort("source")
    )
    if found.empty:
        return not_enough(columns, "no event was read")
    gap, end = found["_gap"].astype("int64"), found["_to"].astype("int64")
    at = {"silence_from_at": pd.to_datetime(end - gap, unit="us"), "silence_to_at": pd.to_datetime(end, unit="us")}
    out = pd.DataFrame({"source": found["source"], "longest_silence_seconds": gap / 1e6, **at})
    out.loc[gap == 0, ["silence_from_at", "silence_to_at"]] = pd.NaT
    return out


def _judged(part: pd.DataFrame) -> pd.DataFrame:
    counts = part["events_n"].to_numpy(dtype=float)
    known = counts.copy()
    known[[0, -1]] = np.nan
    silent, rate = _silences(counts, known)
    expected, low, high = _band(known)
    seen = counts.copy()
    seen[[0, -1]] = np.nan
    kind = np.select([silent | ((seen == 0) & (low > 0)), seen < low, seen > high], KINDS, "")
    expected = np.where(silent & np.isnan(expected), rate, expected)
    return part.assign(expected_n=expected, expected_n_low=low, expected_n_high=high, unusual=kind)


def _silences(counts: Floats, known: Floats) -> tuple[npt.NDArray[np.bool_], Floats]:
    """Tell which empty days belong to a silence that is too long, with the rate before it; take them out of `known`."""
    silent, rate = np.zeros(len(counts), dtype=bool), np.full(len(counts), np.nan)
    edges = np.flatnonzero(np.diff((counts == 0).astype(int), prepend=0, append=0))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        past = known[max(0, start - 7 * WEEKS) : start]
        past = past[~np.isnan(past)]
        if len(past) < 7 * LEAST or past.mean() == 0:
            continue
        bunched = max(1.0, past.var(ddof=1) / past.mean())  # 1: events come one by one, as by chance
        if (end - start) * past.mean() / bunched >= SILENCE:
            silent[start:end], rate[start:end], known[start:end] = True, past.mean(), np.nan
    return silent, rate


def _band(known: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the expected count of each day and the bounds of what is usual."""
    before = np.concatenate([np.full(7 * WEEKS, np.nan), 2 * np.sqrt(known + 0.375)])  # Anscombe: a scatter of 1
    weeks = np.lib.stride_tricks.sliding_window_view(before, 7 * WEEKS)[: len(known)].reshape(-1, WEEKS, 7)
    with np.errstate(all="ignore"):
        middle = np.stack([_quantile(weeks[:, :, day], 0.5) for day in range(7)], axis=1)
        far = np.abs(weeks - middle[:, None, :])
        # On weekdays that are mostly empty nothing scatters: the scatter of a weekly mailing is that of its own day.
        far[np.broadcast_to((middle <= EMPTY)[:, None, :], far.shape)] = np.nan
        scatter = np.fmax(1.0, _quantile(far.reshape(-1, WEEKS * 7), WITHIN) / NORMAL)
    expected = np.where((~np.isnan(weeks[:, :, 0])).sum(axis=1) >= LEAST, middle[:, 0], np.nan)
    low, high = (np.maximum(expected + side * REACH * scatter, 0) for side in (-1, 1))
    low = _count(low)
    return _count(expected), np.where(low < FEWEST, 0.0, low), _count(high)


def _count(root: Floats) -> Floats:
    return np.maximum((root / 2) ** 2 - 0.375, 0)


def _quantile(values: Floats, at: float) -> Floats:
    """The quantile of each row without what is missing; missing where nothing is there."""
    ordered = np.sort(values, axis=1)  # missing ones last
    place = np.maximum((~np.isnan(values)).sum(axis=1, keepdims=True) - 1, 0) * at
    low, high = (np.take_along_axis(ordered, edge(place).astype(int), 1) for edge in (np.floor, np.ceil))
    found: Floats = (low + (high - low) * (place - np.floor(place)))[:, 0]
    return found
