"""How long people stay: spells from events.

A spell runs from a person's first start event to the moment at which they left. People who have not left when
observation stops are *censored*: they count as present for as long as they were seen, never as stayers for good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, present, steps
from journeykit.churn import silence
from journeykit.churn.silence import DAY_US
from journeykit.config import Churn
from journeykit.config_steps import Step
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import not_enough

UNKNOWN = "unknown"  # the segment of people of whom none was recorded
LEFT, OTHER = "left", "other"  # the reason where none is declared, and where none of those declared fits
SPELL_COLUMNS = ("person_id", "started_at", "entered_days", "duration_days", "ended", "reason", "segment")


def of(touches: Any, plan: Churn, *, as_of: Any, by: str = "", quiet_days: float | None = None) -> pd.DataFrame:
    """Return how long each person stayed, by what `[churn]` calls leaving.

    `kind = "contract"`: leaving is the first event of `end` after the start. `kind = "inactivity"`: it is the first
    silence longer than `quiet_days` (given, or `quiet`, or read off the reactivation curve: `silence.threshold`), and
    its moment is the last sign of life before it. That is known only so many days later, so that labels end at `as_of`
    less the silence: people who started after it are left out, everybody else is observed to it. Rivals: observing to
    `as_of`, which makes all recent customers immortal; dating the leaving at the end of the silence, which only moves
    every curve by the same days; asking who is silent at `as_of`, which forgets those who left and came back.

    Only the first spell counts: who comes back is not a second customer. `observed_from` (late entry): who started
    before it comes under observation on that day, and who had left by then is left out; without it, such people would
    be taken for survivors of a time in which leaving was not seen.

    Needs `person_id`, `event`, `timestamp`, the columns of the total order, and the columns that reasons look at;
    `by` names a column (the prefix `segment_` may be left out) whose last value known at the start becomes `segment`.

    One row per person, sorted by person_id: person_id, started_at (UTC), entered_days (tenure at which the person came
    under observation; 0 unless late), duration_days (tenure at leaving, or when observation ended), ended (0 or 1),
    reason ("" while there; the first of `reasons` whose filters hold on the end event, else "other"; "left" where none
    is declared), segment ("all" without `by`, "unknown" where none was recorded). `.attrs`: "until" (the moment to
    which leaving is known), "note" (who is left out, and why), and for inactivity "quiet_days" and "came_back_n" (of
    those who left, how many were active again later).

    Raises:
        JourneyError: a column is missing, or an event both starts and ends.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: buy@0d buy@5d | u2: buy@1d buy@29d | u3: buy@25d")
    >>> found = of(log, Churn(kind="inactivity", activity="buy", quiet="10d"), as_of="2025-01-31")
    >>> found[["person_id", "duration_days", "ended"]].values.tolist()  # labels end on day 20
    [[1.0, 5.0, 1.0], [2.0, 0.0, 1.0]]
    """
    if plan.kind == "inactivity":
        return _inactivity(touches, plan, as_of, by, quiet_days)
    since = silence.observed_from_us(plan)
    return _contract(touches, plan.start, plan.end, as_of, by, reasons=plan.reasons, since=since)


def spells(touches: Any, *, start: Sequence[str], end: Sequence[str], as_of: Any, by: str = "") -> pd.DataFrame:
    """Return how long each person stayed, from the first start event to the first end event after it.

    Only the first start counts (a person who comes back is not a second customer); an end before it is ignored.
    Without an end by `as_of` the spell is censored there. `start=[]` starts at the person's first event of any kind,
    which turns the same table into time to first purchase; an end event may then be that first event (0 days).
    Events after `as_of` are ignored.

    Needs and returns what `of` does, without reasons and late entry. What becomes known of a segment after the start
    is not used: it would depend on how long the person stayed.

    Raises:
        JourneyError: a column is missing, no end event is named, or an event both starts and ends.
    """
    return _contract(touches, start, end, as_of, by, reasons={}, since=None)


def _contract(
    touches: Any,
    start: Sequence[str],
    end: Sequence[str],
    as_of: Any,
    by: str,
    *,
    reasons: Mapping[str, Mapping[str, Sequence[str]]],
    since: int | None,
) -> pd.DataFrame:
    both = sorted(set(start) & set(end))
    if not end or both:
        problem = f"{both[0]!r} both starts and ends a spell" if both else "no end event is named"
        raise JourneyError(f"churn: {problem}. Start and end must be different events; name at least one end event.")
    t = engine.lazy(touches)
    columns = t.collect_schema().names()
    by = silence.segment_column(columns, by)
    ways = [Step(event=list(end), where={name: list(v) for name, v in w.items()}) for w in reasons.values()]
    require_columns(columns, ["person_id", "event", *engine.ORDER, *([by] if by else [])], "churn")
    require_columns(columns, steps.columns(ways, "event"), "churn.reasons")
    until = microseconds(as_of)
    t = t.filter(nw.col("time_us") <= until, ~nw.col("person_id").is_null())
    if by:
        t = t.with_columns(_known=nw.col(by).fill_null(strategy="forward").over("person_id", order_by=engine.ORDER))
    if start:
        t = t.filter(nw.col("event").is_in([*start, *end]))
    t = t.with_columns(
        _starts=nw.col("event").is_in(list(start)).cast(nw.Int64) if start else nw.lit(1, nw.Int64),
        _is_end=nw.col("event").is_in(list(end)).cast(nw.Int64),
    )
    t = t.with_columns(_started=nw.col("_starts").cum_sum().over("person_id", order_by=engine.ORDER))
    t = t.with_columns(_ends=nw.when(nw.col("_started") >= 1).then(nw.col("_is_end")).otherwise(0))
    t = t.with_columns(_ended=nw.col("_ends").cum_sum().over("person_id", order_by=engine.ORDER))
    first = (nw.col("_starts") == 1) & (nw.col("_started") == 1)
    last = (nw.col("_ends") == 1) & (nw.col("_ended") == 1)  # of several ends at one moment, the first in order
    t = t.filter(first | last)
    t = steps.marked(t, ways, "event", "_reason_", "churn.reasons") if ways else t
    number: Any = nw.lit(0, nw.Int64)
    for k in range(len(ways), 0, -1):
        number = nw.when(nw.col(f"_reason_{k}") == 1).then(nw.lit(k, nw.Int64)).otherwise(number)
    found = t.with_columns(
        _start_us=nw.when(first).then(nw.col("time_us")),
        _end_us=nw.when(last).then(nw.col("time_us")),
        _reason=nw.when(last).then(number),
        _segment=nw.when(first).then(nw.col("_known")) if by else nw.lit(None, nw.String),
    )
    sides = [nw.col("_start_us").min(), nw.col("_end_us").min(), nw.col("_reason").max(), nw.col("_segment").max()]
    rows = found.group_by("person_id").agg(*sides).filter(~nw.col("_start_us").is_null())
    table = engine.fetch(rows, limit=20_000_000)
    if table.empty:
        what = " or ".join(start) if start else "of any kind"
        return _nobody(f"not enough data (n = 0 people with an event {what})", until)
    names = np.array([OTHER, *reasons] if reasons else [LEFT], dtype=object)
    reason = names[table["_reason"].fillna(0).astype("int64").to_numpy()]
    gone = pd.Series(False, index=table.index)
    return _table(table, until, since, by, reason, gone, {})


def _inactivity(touches: Any, plan: Churn, as_of: Any, by: str, quiet_days: float | None) -> pd.DataFrame:
    seen, since = microseconds(as_of), silence.observed_from_us(plan)
    quiet = silence.threshold(touches, plan, as_of=as_of) if quiet_days is None else float(quiet_days)
    if not math.isfinite(quiet) or quiet <= 0:
        return _nobody(
            f"not enough data (no silence was followed for long enough to say that at most {plan.returns:.0%} come "
            f"back within {plan.returns_within}; name the silence as quiet of [churn])",
            seen,
        )
    quiet_us = round(quiet * DAY_US)
    t = silence.with_next(silence.signs(touches, plan, seen, by))
    counted = nw.col("time_us") >= (since if since is not None else -(2**62))
    open_us = nw.when(nw.col("_next_us").is_null()).then(seen - nw.col("time_us"))
    silent = open_us.otherwise(nw.col("_next_us") - nw.col("time_us")) > quiet_us
    found = t.with_columns(
        _start_us=nw.when(nw.col("_first") == 1).then(nw.col("time_us")),
        _seen_us=nw.when(counted).then(nw.col("time_us")),
        _end_us=nw.when(counted & silent).then(nw.col("time_us")),
    )
    sides = [nw.col("_start_us").min(), nw.col("_end_us").min(), nw.col("_segment").max()]
    first_seen = nw.col("_seen_us").min().alias("_first_us")
    rows = found.group_by("person_id").agg(*sides, first_seen, nw.col("time_us").max().alias("_last_us"))
    table = engine.fetch(rows, limit=20_000_000)
    until, attrs = seen - quiet_us, {"quiet_days": quiet}
    if table.empty:
        what = " or ".join(plan.start or plan.activity)
        return _nobody(f"not enough data (n = 0 people with an event {what})", until, attrs)
    gone = pd.Series(False, index=table.index)
    if since is not None:  # of late people: silent for so long from the first recorded day on means gone before it
        silent_since = table["_first_us"].isna() | (table["_first_us"].astype(float) - since > quiet_us)
        gone = (table["_start_us"] < since) & silent_since
    reason = np.full(len(table), LEFT, dtype=object)
    return _table(table, until, since, by, reason, gone, attrs)


def _table(
    table: pd.DataFrame, until: int, since: int | None, by: str, reason: Any, gone: pd.Series, attrs: dict[str, Any]
) -> pd.DataFrame:
    """Return the spells of people, without those who started too late and those who left (`gone`) before observation.

    Needs _start_us, _end_us (null while there) and _segment; for inactivity _last_us, the last sign of life.
    """
    began = table["_start_us"].astype("int64")
    ended = table["_end_us"].notna()
    over = table["_end_us"].where(ended, until).astype("int64")
    late = began < since if since is not None else pd.Series(False, index=table.index)
    entered = (since - began).where(late, 0) if since is not None else pd.Series(0, index=table.index)
    gone = late & (gone | (over - began <= entered))
    recent = (began > until) & ~gone
    segment = table["_segment"].astype("object").where(table["_segment"].notna(), UNKNOWN) if by else "all"
    result = pd.DataFrame(
        {
            "person_id": table["person_id"],
            "started_at": pd.to_datetime(began, unit="us"),
            "entered_days": entered / DAY_US,
            "duration_days": (over - began) / DAY_US,
            "ended": ended.astype("int64"),
            "reason": pd.Series(reason, index=table.index, dtype="object").where(ended, ""),
            "segment": segment,
        }
    )
    kept = ~(gone | recent)
    notes = []
    if recent.any():
        last = present.number(attrs["quiet_days"], 0)
        notes.append(f"Left out: {_people(recent)} who started in the last {last} days; leaving cannot be known yet.")
    if gone.any():
        notes.append(f"Left out: {_people(gone)} who had left before {_day(since)}, when leaving was not recorded.")
    if (late & kept).any():
        notes.append(f"Counted from {_day(since)} on only: {_people(late & kept)} who started before it.")
    if "_last_us" in table:
        attrs = attrs | {"came_back_n": int((kept & ended & (table["_last_us"] > over)).sum())}
    result = result[kept].sort_values("person_id", ignore_index=True)
    if result.empty:
        return _nobody(f"not enough data (n = 0 people; {' '.join(notes).rstrip('.')})", until, attrs)
    result.attrs.update(attrs | {"until": _moment(until), "note": " ".join(notes)})
    return result


def _people(which: pd.Series) -> str:
    n = int(which.sum())
    return f"{present.count(n)} {'person' if n == 1 else 'people'}"


def _day(since: int | None) -> str:
    return f"{_moment(since or 0):%Y-%m-%d}"


def _moment(us: int) -> pd.Timestamp:
    return pd.Timestamp(us, unit="us")


def _nobody(reason: str, until: int, attrs: Mapping[str, Any] | None = None) -> pd.DataFrame:
    table = not_enough(SPELL_COLUMNS, reason)
    table.attrs |= {"until": _moment(until), "note": "", **(attrs or {})}
    return table
