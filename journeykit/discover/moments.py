"""Recognise how a column writes times: unit, format, offset, and which number is the day."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

EARLIEST = datetime(2005, 1, 1, tzinfo=UTC)
OLDEST = datetime(1970, 1, 2, tzinfo=UTC)  # of times written as dates: they may be wrong, but they are times
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds", "text": "text"}
ENOUGH = 0.8  # share of a column's values that must fit
ORDERED = 0.97  # share of neighbours in order of time that makes a file one that is sorted by it

ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:[.]\d+)?)?(?P<offset>\s*(?:Z|UTC|[+-]\d{2}(?::?\d{2})?))?)?"
)
ZONED = r"(?P<zone>\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}|\([A-Z]{3,4}\)|[A-Z]{3,4}))?"
CLOCK = (
    r"(?:(?P<between>T|,? |:)(?P<clock>\d{1,2}:\d{2}(?P<seconds>:\d{2})?(?P<fraction>[.,]\d+)?)"
    rf"(?P<half> ?[AaPp][Mm])?{ZONED})?"
)
WEEKDAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:[a-z]{3,6})?"
DAY = re.compile(rf"(?P<weekday>{WEEKDAY},? )?(?P<day>[^T:]*?[^T:, ]){CLOCK}")
NUMBERS = re.compile(r"(\d{1,4})([-./])(\d{1,2})\2(\d{1,4})")
PLAIN = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


@dataclass(frozen=True)
class Moment:
    """How a column writes times, and what speaks for it."""

    unit: str = "text"
    format: str = ""
    share: float = 0.0  # of the filled values that are read so
    zoned: bool = False  # each time carries its offset, or counts from 1970 UTC
    sure: bool = True
    why: str = ""
    times: tuple[datetime | None, ...] = ()  # of the values, UTC where they carry an offset

    @property
    def dates_only(self) -> bool:
        """Whether no time carries a time of day."""
        return self.unit == "text" and all(
            time is None or (time.hour, time.minute, time.second) == (0, 0, 0) for time in self.times
        )


def recognise(values: Sequence[str], today: datetime) -> Moment | None:
    """Return how a column writes times, or None when it does not hold times.

    >>> recognise(["31/12/2024", "01/02/2025"], datetime(2025, 6, 1, tzinfo=UTC)).format
    '%d/%m/%Y'
    >>> recognise(["1741000000123"], datetime(2025, 6, 1, tzinfo=UTC)).unit
    'ms'
    """
    if not values:
        return None
    numbers = [_number(value) for value in values]
    if sum(number is not None for number in numbers) >= ENOUGH * len(values):
        return _counted(numbers, today) or _plain(values, today)
    return _iso(values) or _written(values, today)


def _number(value: str) -> float | None:
    try:
        return float(value) if re.fullmatch(r"\d{8,20}([.]\d+)?", value) else None
    except ValueError:
        return None


def _counted(numbers: Sequence[float | None], today: datetime) -> Moment | None:
    """Numbers that count from 1970: the unit is the one in which they lie between 2005 and tomorrow."""
    low, high = EARLIEST.timestamp(), (today + timedelta(days=1)).timestamp()
    for unit, factor in UNITS.items():
        times = tuple(
            datetime.fromtimestamp(number / factor, UTC)
            if number is not None and low <= number / factor <= high
            else None
            for number in numbers
        )
        fitting = sum(time is not None for time in times)
        if fitting >= ENOUGH * len(numbers):
            share = fitting / len(numbers)
            why = f"{_percent(share)} of the numbers lie between 2005 and tomorrow when read as {WORDS[unit]}"
            return Moment(unit, share=share, zoned=True, why=why, times=times)
    return None


def _plain(values: Sequence[str], today: datetime) -> Moment | None:
    """Digits alone, such as 20250331."""
    form = PLAIN.get(Counter(map(len, values)).most_common(1)[0][0])
    return _fits(values, form, today) if form else None


def _iso(values: Sequence[str]) -> Moment | None:
    matches = [ISO.fullmatch(value) for value in values]
    fitting = sum(match is not None for match in matches)
    if fitting < ENOUGH * len(values):
        return None
    times = tuple(_read_iso(value) if match else None for value, match in zip(values, matches, strict=True))
    offsets = sum(match is not None and match["offset"] is not None for match in matches)
    share = sum(time is not None for time in times) / len(values)
    zoned = offsets == fitting
    said = "with an offset" if zoned else "without an offset" if not offsets else "some without an offset"
    return Moment(share=share, zoned=zoned, why=f"{_percent(share)} of the values are ISO 8601, {said}", times=times)


def _read_iso(value: str) -> datetime | None:
    text = re.sub(r"\s*UTC$", "Z", value)
    text = re.sub(r"\s*([+-]\d{2}):?(\d{2})$", r"\1:\2", text) if ":" in text else text
    text = re.sub(r"\s+([+-]\d{2})$", r"\1", text)
    text = re.sub(r"([ T])(\d):", r"\g<1>0\2:", text)
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _aware(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _written(values: Sequence[str], today: datetime) -> Moment | None:
    """Dates in any order of day, month and year, with a time of day or without one."""
    shapes = Counter(form for value in values[:300] for form in candidates(value))
    if not shapes:
        return None
    fits = [found for form, _ in shapes.most_common(6) if (found := _fits(values, form, today))]
    if not fits:
        return None
    best = max(fits, key=lambda found: found.share)
    rivals = [found for found in fits if found.share > best.share - 0.02 and _day_and_month(found, best)]
    return _decide(values, best, rivals[0], today) if rivals else _with_evidence(best, values)


def _day_and_month(one: Moment, other: Moment) -> bool:
    """Whether two formats differ in which number is the day and which the month."""
    swapped = one.format.replace("%d", "?").replace("%m", "%d").replace("?", "%m")
    return one.format != other.format and swapped == other.format


def _with_evidence(found: Moment, values: Sequence[str]) -> Moment:
    match = NUMBERS.match(values[0])
    if not match or len(match[1]) == 4:
        return found
    first = "day" if found.format.startswith("%d") else "month"
    why = f"{found.why}; the {'second' if first == 'month' else 'first'} number goes beyond 12, so it is the day"
    return Moment(found.unit, found.format, found.share, found.zoned, found.sure, why, found.times)


def _decide(values: Sequence[str], one: Moment, other: Moment, today: datetime) -> Moment:
    """Decide between day first and month first where no number is beyond 12: by order and by the way it is written."""
    day, month = sorted((one, other), key=lambda found: not found.format.startswith("%d"))
    ordered = {found.format: _ordered(found.times) for found in (day, month)}
    if (ordered[day.format] >= ORDERED) != (ordered[month.format] >= ORDERED):
        chosen = max(day, month, key=lambda found: ordered[found.format])
        word = "day" if chosen is day else "month"
        why = f"no number is beyond 12, but the rows are in order of time only when the {word} comes first"
        return Moment(format=chosen.format, share=chosen.share, zoned=chosen.zoned, why=why, times=chosen.times)
    dots = "." in day.format.split(" ")[0]
    halves = "%p" in day.format
    chosen = month if halves else day
    word = "day" if chosen is day else "month"
    reason = "dates with dots begin with it" if dots else "there is no evidence; look at the export's settings"
    if halves:
        reason = "times with AM and PM are mostly American"
    why = f"no number is beyond 12, so day and month may be the other way round; {word} first because {reason}"
    return Moment(format=chosen.format, share=chosen.share, zoned=chosen.zoned, sure=dots, why=why, times=chosen.times)


def _ordered(times: Sequence[datetime | None]) -> float:
    there = [time for time in times if time]
    pairs = list(pairwise(there))
    if len(set(there)) < 3:
        return 0.0
    up = sum(one <= other for one, other in pairs)
    down = sum(one >= other for one, other in pairs)
    return max(up, down) / max(1, len(pairs))


def _fits(values: Sequence[str], form: str, today: datetime) -> Moment | None:
    latest = today + timedelta(days=3660)  # deadlines lie ahead
    read = partial(_strptime, form=form, latest=latest)
    times = tuple(map(read, values))
    share = sum(time is not None for time in times) / len(values)
    if share < ENOUGH:
        return None
    zoned = "%z" in form or form.endswith(("UTC", "GMT"))
    return Moment(format=form, share=share, zoned=zoned, why=f"{_percent(share)} of the values fit {form}", times=times)


def _strptime(value: str, form: str, latest: datetime) -> datetime | None:
    try:
        time = _aware(datetime.strptime(value, form))
    except (ValueError, OverflowError):
        return None
    return time if OLDEST <= time <= latest else None


def candidates(value: str) -> list[str]:
    """Return the strptime patterns that a written time may have, day first before month first.

    >>> candidates("3/4/2025 1:05 PM")
    ['%d/%m/%Y %I:%M %p', '%m/%d/%Y %I:%M %p']
    >>> candidates("Mar 3, 2025")
    ['%b %d, %Y']
    """
    match = DAY.fullmatch(value.strip())
    if not match:
        return []
    days = _days(match["day"])
    weekday = ""
    if match["weekday"]:
        name = match["weekday"].strip(" ,")
        weekday = ("%a" if len(name) == 3 else "%A") + match["weekday"][len(name) :]
    return [f"{weekday}{day}{_clock(match)}" for day in days]


def _clock(match: re.Match[str]) -> str:
    if not match["clock"]:
        return ""
    half = match["half"] or ""
    text = match["between"] + ("%I:%M" if half else "%H:%M") + (":%S" if match["seconds"] else "")
    if match["fraction"]:
        text += match["fraction"][0] + "%f"
    text += f"{' ' if half.startswith(' ') else ''}%p" if half else ""
    zone = match["zone"] or ""
    bare = zone.strip()
    if re.fullmatch(r"Z|[+-]\d{2}:?\d{2}", bare):
        return text + zone[: len(zone) - len(bare)] + ("%z" if bare != "Z" else "Z")
    return text + zone


def _days(day: str) -> list[str]:
    match = NUMBERS.fullmatch(day)
    if match:
        first, mark, _, last = match.groups()
        if len(first) == 4:
            return [f"%Y{mark}%m{mark}%d"]
        if len(first) > 2 or len(last) not in (2, 4):
            return []
        year = "%Y" if len(last) == 4 else "%y"
        return [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]
    name: Callable[[str], str] = lambda word: "%b" if len(word) == 3 else "%B"  # noqa: E731
    if match := re.fullmatch(r"(\d{1,2})([-/ .]+)([A-Za-z]{3,9})([-/ .]+)(\d{4}|\d{2})", day):
        return [f"%d{match[2]}{name(match[3])}{match[4]}{'%Y' if len(match[5]) == 4 else '%y'}"]
    if match := re.fullmatch(r"([A-Za-z]{3,9})([-/ .]+)(\d{1,2})(,? )(\d{4})", day):
        return [f"{name(match[1])}{match[2]}%d{match[4]}%Y"]
    return []


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.005 <= share <= 0.995 else f"{100 * share:.1f} %"
