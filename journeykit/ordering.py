"""Order once: what depends on the order of a person's events, from one pass over events that are sorted already.

Everything here is computed on whole columns; the engine sorts, and hands over as many whole people as fit in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from journeykit.config import Journeys, Sessions, seconds
from journeykit.errors import JourneyError, require_columns

MICRO = 1_000_000
DAY = 86_400 * MICRO
NEEDS = ("person_id", "time_us", "event", "stage", "marketing_channel")

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def order_touches(
    table: pa.Table, first: int = 1, *, sessions: Sessions, journeys: Journeys, timezone: str = "UTC"
) -> pa.Table:
    """Turn sorted events into touches: with their session, their journey, their place and their neighbours.

    **Session**: touches of one person without more than `gap` of silence between two. `cut_at_midnight`: and of one
    day in `timezone`. `cut_at_campaign`: and of one marketing channel; a touch without a channel stays in its session,
    and a session without a channel ends where a touch brings one, since that is another visit (Google Analytics before
    2023). Rival: GA4 keeps the session in both cases; or the first channel that a session meets becomes its own. With
    `identifier`, a session is one value of it for one person, also where others lie between; touches without one follow
    the rules above among themselves.

    **Journey**: a person's touches form stretches, one after another. A stretch starts with the first touch; after more
    than `gap` of silence; and, once the stretch has a conversion, with the next touch of `restart_stages` or event of
    `start` (without both, with the next touch). So what follows a conversion, such as delivery and support, is in the
    stretch of the conversion. Then with

    - `scope` wide, a journey is a whole stretch: what led to the start event belongs to the journey it led to;
    - `scope` narrow, a journey is the stretch from its first start event to its first conversion after that. Without
      `start` it begins with the stretch; without a conversion it ends with it.

    With `start`, a stretch without a start event is no journey. Touches outside journeys have no `journey_id`. A start
    event within an unconverted journey opens no other. `window` moves no touch: it decides the outcome (see
    `journeys.journeys`). Rivals: journeys that overlap, one from each start event (one touch would be in several, and
    numbers of journeys would depend on repeated clicks); a cut when the window is over (what then follows would be a
    journey without any entry).

    Args:
        table: whole people, sorted by person_id and the total order; needs person_id, time_us (microseconds since 1970,
            UTC), event, stage, marketing_channel, and the column of `sessions.identifier` where one is named.
        first: number of the first row in the whole order.
        sessions: `[sessions]` of journey.toml.
        journeys: `[journeys]` of journey.toml.
        timezone: zone in which midnight is.

    Returns:
        One row per row of `table`, in its order, without time_us and with session_id and journey_id (the number of
        their first touch in the whole order, from 1: unique, and known when that touch is), position (1, 2, 3 … within
        the person), previous_event, next_event, seconds_since_previous.

    Raises:
        JourneyError: a column is missing, or the rows are not sorted.

    >>> events = {"person_id": [1, 1, 1, 2], "time_us": [0, 60_000_000, 86_400_000_000, 0]}
    >>> events |= {"event": ["ad", "buy", "ad", "ad"], "stage": [None] * 4, "marketing_channel": [None] * 4}
    >>> touches = order_touches(pa.table(events), sessions=Sessions(), journeys=Journeys(conversion="buy"))
    >>> touches["session_id"].to_pylist(), touches["journey_id"].to_pylist(), touches["position"].to_pylist()
    ([1, 1, 3, 4], [1, 1, 3, 4], [1, 2, 3, 1])
    """
    identifier = f"id_{sessions.identifier}" if sessions.identifier else ""
    require_columns(table.column_names, [*NEEDS, *([identifier] if identifier else [])], "order_touches")
    people = _people(table)
    event = _text(table, "event")
    at_session = _sessions(table, people, sessions, timezone, identifier)
    at_journey, inside = _journeys(table, people, journeys, event)
    none = pa.nulls(min(1, len(event)), pa.string())
    last = np.ones(len(event), dtype=bool)
    last[:-1] = people.new[1:]
    added = {
        "session_id": pa.array(first + at_session),
        "journey_id": pa.array(first + at_journey, mask=~inside),
        "position": pa.array(people.row - people.began + 1),
        "previous_event": pc.if_else(people.new, None, pa.concat_arrays([none, event[:-1]])),
        "next_event": pc.if_else(last, None, pa.concat_arrays([event[1:], none])),
        "seconds_since_previous": pa.array(people.since / MICRO, mask=people.new),
    }
    table = table.drop_columns(["time_us"])
    for name, column in added.items():
        table = table.append_column(name, column)
    return table


@dataclass(frozen=True)
class _People:
    """Where each person's rows begin in a sorted table; one value a row."""

    row: Integers  # 0, 1, 2 …
    new: Flags  # the first row of a person
    began: Integers  # the row of the person's first touch
    since: Integers  # microseconds since the person's previous touch; 0 for the first


def _people(table: pa.Table) -> _People:
    person, time = (_integers(table, name) for name in ("person_id", "time_us"))
    row = np.arange(len(person), dtype=np.int64)
    new = np.ones(len(person), dtype=bool)
    new[1:] = person[1:] != person[:-1]
    since = np.zeros(len(person), dtype=np.int64)
    since[1:] = np.where(new[1:], 0, time[1:] - time[:-1])
    if (since < 0).any() or (person[1:] < person[:-1]).any():
        raise JourneyError("order_touches: the rows are not in order. Sort them by person_id and the total order.")
    return _People(row, new, _latest(new, row), since)


def _sessions(table: pa.Table, people: _People, plan: Sessions, timezone: str, identifier: str) -> Integers:
    """Return the row of the first touch of each row's session."""
    if not identifier:
        return _latest(_session_starts(table, people, plan, timezone), people.row)
    codes = _codes(table, identifier)
    began = np.empty(len(codes), dtype=np.int64)
    has = codes >= 0
    # One number for each person and value, so that one grouping finds the first row of each.
    key = people.began[has] * (codes.max(initial=0) + 1) + codes[has]
    _, earliest, member = np.unique(key, return_index=True, return_inverse=True)
    began[has] = people.row[has][earliest][member]
    without = table.select(["person_id", "time_us", "marketing_channel"]).filter(pa.array(~has))
    others = _people(without)
    began[~has] = people.row[~has][_latest(_session_starts(without, others, plan, timezone), others.row)]
    return began


def _session_starts(table: pa.Table, people: _People, plan: Sessions, timezone: str) -> Flags:
    starts = people.new | (people.since > seconds(plan.gap) * MICRO)
    if plan.cut_at_midnight:
        day = _days(_integers(table, "time_us"), timezone)
        starts[1:] |= day[1:] != day[:-1]
    if plan.cut_at_campaign:
        channel = _codes(table, "marketing_channel")
        given = channel >= 0
        before = np.full(len(channel), -1, dtype=np.int64)  # the row before with a channel, of whomever
        before[1:] = _latest(given, people.row)[:-1]
        same = (before >= _latest(starts, people.row)) & (channel[before] == channel)
        starts = starts | (given & ~same)
    return starts


def _journeys(table: pa.Table, people: _People, plan: Journeys, event: pa.Array) -> tuple[Integers, Flags]:
    """Return the row of the first touch of each row's journey, and whether the row is in a journey at all."""
    row = people.row
    converts = _among(event, plan.conversion)
    opens = _among(event, plan.start)
    restarts = opens | _among(_text(table, "stage"), plan.restart_stages)
    if not plan.start and not plan.restart_stages:
        restarts = np.ones(len(row), dtype=bool)
    began = _latest(_stretch_starts(people, converts, restarts, seconds(plan.gap) * MICRO), row)
    start, inside = began, np.ones(len(row), dtype=bool)
    if plan.start:
        start = _first_of(opens, began, row)
        inside = start >= 0
    if plan.scope == "wide":
        return began, inside
    # No conversion of a stretch is before its start event: after a conversion, such an event opens the next stretch.
    won = _first_of(converts, began, row)
    return start, inside & (row >= start) & ((won < 0) | (row <= won))


def _stretch_starts(people: _People, converts: Flags, restarts: Flags, gap: int) -> Flags:
    """Return where a stretch starts (see `order_touches`).

    A person's touches up to a conversion, and from there to the next, are runs. Silence always starts a stretch; any
    other touch does if it may and is the first of its run that may: in the first run that is the person's first touch,
    later the first restart after the conversion, unless silence came before it.
    """
    row = people.row
    quiet = people.new | (people.since > gap)
    run = people.new.copy()
    run[1:] |= converts[:-1]
    may = quiet | restarts
    before = np.full(len(row), -1, dtype=np.int64)  # the last one before that may
    before[1:] = _latest(may, row)[:-1]
    return quiet | (may & (before < _latest(run, row)))


def _latest(flags: Flags, row: Integers) -> Integers:
    """Return the last row up to each one where the flag is set, or -1."""
    return np.maximum.accumulate(np.where(flags, row, -1))


def _first_of(flags: Flags, began: Integers, row: Integers) -> Integers:
    """Return for each row the first row of its stretch where the flag is set, or -1.

    `began` is the row on which each row's stretch begins.
    """
    found = np.full(len(row), -1, dtype=np.int64)
    set_ = row[flags][::-1]
    found[began[set_]] = set_  # the last assignment stays, which is that of the earliest row
    return found[began]


def _days(time_us: Integers, timezone: str) -> Integers:
    """Return the day of each time in a zone, as a number."""
    local = pd.DatetimeIndex(time_us.view("datetime64[us]"), tz="UTC").tz_convert(timezone).tz_localize(None)
    return local.to_numpy().astype("datetime64[us]").astype(np.int64) // DAY


def _integers(table: pa.Table, name: str) -> Integers:
    return table[name].to_numpy().astype(np.int64, copy=False)


def _text(table: pa.Table, name: str) -> pa.Array:
    """Return a column as one array of text (a column of nulls has no type of its own)."""
    column = table[name].cast(pa.string())
    return column.combine_chunks() if column.num_chunks else pa.array([], pa.string())


def _among(values: pa.Array, names: list[str]) -> Flags:
    return pc.is_in(values, value_set=pa.array(names, pa.string())).to_numpy(zero_copy_only=False)


def _codes(table: pa.Table, name: str) -> Integers:
    """Return a number for each different text of a column, -1 for none (null or empty)."""
    values = _text(table, name)
    values = pc.if_else(pc.equal(values, ""), None, values)
    return pc.fill_null(values.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
