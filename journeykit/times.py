"""Read times of every unit, format and zone as UTC, in the engine."""

from __future__ import annotations

from journeykit.config import Time
from journeykit.sources import literal

OFFSET = r":\d.*\d\s*(Z|UTC|[+-]\d{2}(:?\d{2})?)$"  # a zone after a time of day, so that no date ends in one


# Without an offset only ISO 8601 is read: the engine would take "1:00 pm" for one at night and forget "PST".
SHIFTS = (120, 60, 30)  # minutes by which clocks are changed, somewhere
ISO = r"^\d{4}-\d{2}-\d{2}([ T]\d{1,2}:\d{2}(:\d{2}([.]\d+)?)?)?$"
MAX_SECONDS = 4_000_000_000  # the year 2096; a time in a smaller unit than stated lies beyond it


def utc(time: Time, text: str) -> str:
    """Return the SQL that reads a time as UTC (a timestamp without zone); null where it cannot be read.

    A time with an offset is converted; one without is read in `zone`. At a daylight-saving change an ambiguous local
    time is the first of the two, a local time that does not exist moves forward by the hour that was skipped.
    """
    if time.unit != "text":
        factor = {"s": 1_000_000, "ms": 1000, "us": 1}[time.unit]
        number = f"TRY_CAST({text} AS DECIMAL(30, 6))"
        return f"CASE WHEN abs({number}) < {MAX_SECONDS * 1_000_000 // factor} THEN {_instant(number, factor)} END"
    if time.format:
        parsed = f"try_strptime({text}, {literal(time.format)})"
        return f"timezone('UTC', {parsed})" if "%z" in time.format else from_local(parsed, time.zone)
    # The engine wants "+01:00": no space before the sign, a colon between four digits; two digits may stand alone.
    tight = f"regexp_replace(regexp_replace({text}, '\\s*([+-]\\d{{2}})$', '\\1:00'), '\\s*UTC$', 'Z')"
    spaced = f"regexp_replace({tight}, '\\s*([+-]\\d{{2}}):?(\\d{{2}})$', '\\1:\\2')"
    offset = f"timezone('UTC', TRY_CAST({spaced} AS TIMESTAMPTZ))"
    local = from_local(f"CASE WHEN regexp_matches({text}, '{ISO}') THEN TRY_CAST({text} AS TIMESTAMP) END", time.zone)
    return f"CASE WHEN regexp_matches({text}, '{OFFSET}') THEN {offset} ELSE {local} END"


def _instant(number: str, factor: int) -> str:
    return f"make_timestamp(CAST({number} * {factor} AS BIGINT))"


def from_local(local: str, zone: str) -> str:
    """Return the SQL of a local time in UTC; of two possible instants it is the first."""
    if zone == "UTC":
        return local
    instant = f"timezone({literal(zone)}, {local})"
    before = [f"({instant} - INTERVAL {minutes} MINUTE)" for minutes in SHIFTS]
    same = " ".join(f"WHEN timezone({literal(zone)}, {earlier}) = {local} THEN {earlier}" for earlier in before)
    return f"timezone('UTC', CASE {same} ELSE {instant} END)"


def clock_change(time: Time, text: str) -> str:
    """Return the SQL that names a local time 'ambiguous' or 'skipped' at a daylight-saving change, or null."""
    if time.unit != "text" or time.zone == "UTC" or "%z" in time.format:
        return "NULL"
    local = f"try_strptime({text}, {literal(time.format)})" if time.format else f"TRY_CAST({text} AS TIMESTAMP)"
    zone = literal(time.zone)
    instant = f"timezone({zone}, {local})"
    others = [f"{instant} {sign} INTERVAL {minutes} MINUTE" for sign in "+-" for minutes in SHIFTS]
    twice = " OR ".join(f"timezone({zone}, {other}) = {local}" for other in others)
    kind = f"CASE WHEN timezone({zone}, {instant}) <> {local} THEN 'skipped' WHEN {twice} THEN 'ambiguous' END"
    return kind if time.format else f"CASE WHEN NOT regexp_matches({text}, '{OFFSET}') THEN {kind} END"
