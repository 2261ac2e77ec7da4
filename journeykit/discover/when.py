"""Which of a table's time columns say when something happened, when it arrived, or what is only planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from journeykit.discover import words
from journeykit.discover.columns import LOCAL_PHONE, Column
from journeykit.discover.guesses import Guess, percent
from journeykit.discover.moments import Moment

SOON_DAYS = 2.0  # median time after an event in which its row arrives
IN_ORDER = 0.8  # share of rows in which a later stage is not before an earlier one


@dataclass
class When:
    """The time columns of a table: the one to use, the one of arrival, those of stages, and those left out."""

    main: Column | None = None
    received: Column | None = None
    stages: list[Column] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)  # column = why it is not used


def choose(columns: Mapping[str, Column], has_event: bool, has_answer: bool) -> When:
    """Sort the time columns of a table.

    `has_event`: a column names the event, so that a row is one event; `has_answer`: a row is an answer to a survey.
    """
    when = When()
    found: list[Column] = []
    for column in columns.values():
        if not _is_time(column):
            continue
        reason = _left_out(column)
        if reason:
            when.left[column.name] = reason
        else:
            found.append(column)
    if not found:
        found = [column for column in columns.values() if column.name in when.left and _last_resort(column)]
        for column in found:
            when.left.pop(column.name)
    if not found:
        return when
    found.sort(key=_rank)
    if has_event or len(found) == 1:
        when.main = found[0]
        when.received = next((other for other in found[1:] if _arrives(when.main, other)), None)
        others = [other for other in found[1:] if other is not when.received]
        when.left |= {other.name: "another time of the same row" for other in others}
        return when
    return _stages(when, found, has_answer)


def _is_time(column: Column) -> bool:
    moment = column.moment
    if moment is None:
        return False
    if moment.unit == "text" and moment.format not in ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"):
        return True
    named = column.has(words.TIME) or any(word in words.ENDINGS | words.BARE for word in column.words)
    identified = column.has(words.ID, words.PHONE) or column.share(LOCAL_PHONE) == 0
    return named or (moment.unit != "text" and not identified)


def _left_out(column: Column) -> str:
    if column.has(words.BIRTH):
        return "a date of birth says nothing about the journey"
    if column.has(words.PLANNED):
        return "it reads like a plan, a deadline or the time of another event"
    if column.has(words.UPDATED):
        return "it moves whenever the row is changed"
    moment = column.moment
    if moment and column.distinct == 1 and len(column.values) > 20:
        return "it is the same in every row"
    return ""


def _last_resort(column: Column) -> bool:
    return not column.has(words.BIRTH) and not column.has(words.PLANNED)


def _rank(column: Column) -> tuple[bool, int, bool, bool, float]:
    """Sort the best first: not an arrival, by name, with a time of day, filled."""
    place = words.place(column.words, words.MAIN_TIME)
    moment = column.moment or Moment()
    return (
        column.has(words.RECEIVED),
        place if place >= 0 else len(words.MAIN_TIME),
        moment.dates_only,
        column.filled < 0.9,
        -column.filled,
    )


def _arrives(main: Column, other: Column) -> bool:
    """Whether a time is that of the row's arrival: named so, and shortly after the event."""
    if not other.has(words.RECEIVED):
        return False
    gaps = _gaps(main, other)
    return bool(gaps) and sorted(gaps)[len(gaps) // 2] <= SOON_DAYS and _share(gap >= -0.01 for gap in gaps) > 0.5


def _gaps(one: Column, other: Column) -> list[float]:
    """Days from one time to another; only where both columns are filled in every row are rows compared exactly."""
    if len(one.values) != len(other.values) or not one.moment or not other.moment:
        return []
    pairs = zip(one.moment.times, other.moment.times, strict=True)
    return [(later - earlier).total_seconds() / 86400 for earlier, later in pairs if earlier and later]


def _share(flags: object) -> float:
    listed = list(flags)  # type: ignore[call-overload]
    return sum(listed) / len(listed) if listed else 0.0


def _stages(when: When, found: list[Column], has_answer: bool) -> When:
    """Several times and no event column: each time is an event of its own, unless they are the ends of one answer."""
    ends = {"start", "end", "started", "ended", "submitted", "recorded", "landed", "begin"}
    if has_answer and all(column.has(ends) for column in found):
        best = next((column for column in found if column.has({"recorded", "submitted", "end", "ended"})), found[0])
        when.main = best
        when.left |= {other.name: "the answer counts when it is given" for other in found if other is not best}
        return when
    like = [column for column in found if _same_way(column, found[0])]
    when.left |= {other.name: "its times are written in another way" for other in found if other not in like}
    like.sort(key=lambda column: (_middle(column), column.name))
    when.stages = like
    when.main = like[0]
    return when


def _same_way(one: Column, other: Column) -> bool:
    first, second = one.moment or Moment(), other.moment or Moment()
    return (first.unit, first.format) == (second.unit, second.format)


def _middle(column: Column) -> datetime:
    times = sorted(time for time in (column.moment or Moment()).times if time)
    return times[len(times) // 2]


def event_of(column: Column, entity: str) -> str:
    """Return the name of the event that a stage's time stands for.

    >>> from datetime import UTC
    >>> event_of(Column("shipped_at", ("shipped", "at"), [], 0, datetime.now(UTC)), "order")
    'shipped'
    >>> event_of(Column("created_at", ("created", "at"), [], 0, datetime.now(UTC)), "ticket")
    'ticket_created'
    """
    parts = list(column.words)
    while len(parts) > 1 and parts[-1] in words.ENDINGS:
        parts.pop()
    while len(parts) > 1 and parts[0] in ("date", "time", "datum"):
        parts.pop(0)
    if len(parts) == 1 and parts[0] in words.BARE and entity and entity not in parts:
        parts.insert(0, entity)
    return "_".join(parts)


def time_guess(when: When, header_zone: str, zone: str) -> Guess | None:
    """Return the guess of a source's `time`."""
    if not when.main or not when.main.moment:
        return None
    moment = when.main.moment
    value: dict[str, str] = {"column": when.main.name}
    why, sure = moment.why, moment.sure
    if moment.unit != "text":
        value["unit"] = moment.unit
    if moment.format:
        value["format"] = moment.format
    if header_zone:
        value["zone"] = "header"
        why += f"; a header row names the zone {header_zone}"
    elif not moment.zoned and not when.main.has({"utc", "gmt"}):
        value |= {"zone": zone} if zone else {}
        why += f"; they carry no zone, {zone or 'UTC'} is taken"
        sure = sure and bool(zone)
    if moment.dates_only:
        why += "; dates without a time of day say nothing about the order within a day"
    if when.main.filled < 0.9 and not when.stages:
        why += f"; filled in {percent(when.main.filled)} of the rows"
    return Guess("time", value, why, "sure" if sure and moment.share > 0.98 else "likely" if sure else "check")


def received_guess(when: When) -> Guess | None:
    """Return the guess of a source's `received`."""
    if not when.received or not when.received.moment:
        return None
    moment = when.received.moment
    value = {"column": when.received.name}
    value |= {"unit": moment.unit} if moment.unit != "text" else {}
    value |= {"format": moment.format} if moment.format else {}
    return Guess("received", value, "named as an arrival, and shortly after the event", "likely")
