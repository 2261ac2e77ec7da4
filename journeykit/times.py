"""Read times of every unit, format and zone as UTC, in the engine."""

from __future__ import annotations

from journeykit.config import Time
from journeykit.sql import NULL, literal

OFFSET = r":\d.*\d\s*(Z|UTC|[+-](0\d|1[0-4])(:?\d{2})?)$"  # a zone after a time of day, so that no date ends in one
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
        per_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[time.unit]
        number = f"TRY_CAST({text} AS DECIMAL(32, 6))"
        instant = f"make_timestamp(CAST(floor({number} * 1000000 / {per_second}) AS BIGINT))"
        slow = f"CASE WHEN abs({number}) < {MAX_SECONDS * per_second} THEN {instant} END"
        if time.unit == "ns":
            return slow
        whole = f"TRY_CAST({text} AS BIGINT)"  # the common case, and much cheaper
        return (
            f"CASE WHEN abs({whole}) < {MAX_SECONDS * per_second} "
            f"THEN make_timestamp({whole} * {1_000_000 // per_second}) ELSE {slow} END"
        )
    if time.format:
        parsed = f"try_strptime({text}, {literal(time.format)})"
        if not any(mark in time.format for mark in ("%H", "%I", "%c", "%X", "%T", "%R")):
            parsed = f"({parsed} + {_clock(time)})"
        return f"timezone('UTC', {parsed})" if "%z" in time.format else from_local(parsed, time.zone)
    # The engine wants "+01:00": no space before the sign, a colon between four digits; two digits may stand alone.
    tight = f"regexp_replace(regexp_replace({text}, '\\s*([+-]\\d{{2}})$', '\\1:00'), '\\s*UTC$', 'Z')"
    spaced = f"regexp_replace({tight}, '\\s*([+-]\\d{{2}}):?(\\d{{2}})$', '\\1:\\2')"
    offset = f"timezone('UTC', TRY_CAST({spaced} AS TIMESTAMPTZ))"
    local = f"CASE WHEN regexp_matches({text}, '{ISO}') THEN TRY_CAST({text} AS TIMESTAMP) END"
    if time.clock != "00:00":
        noon = f"TRY_CAST({text} AS TIMESTAMP) + {_clock(time)}"
        local = f"CASE WHEN regexp_matches({text}, '^\\d{{4}}-\\d{{2}}-\\d{{2}}$') THEN {noon} ELSE {local} END"
    local = from_local(local, time.zone)
    return f"CASE WHEN regexp_matches({text}, '{OFFSET}') THEN {offset} ELSE {local} END"


def _clock(time: Time) -> str:
    hours, minutes = time.clock.split(":")
    return f"INTERVAL {int(hours) * 60 + int(minutes)} MINUTE"


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
        return NULL
    local = f"try_strptime({text}, {literal(time.format)})" if time.format else f"TRY_CAST({text} AS TIMESTAMP)"
    zone = literal(time.zone)
    instant = f"timezone({zone}, {local})"
    others = [f"{instant} {sign} INTERVAL {minutes} MINUTE" for sign in "+-" for minutes in SHIFTS]
    twice = " OR ".join(f"timezone({zone}, {other}) = {local}" for other in others)
    kind = f"CASE WHEN timezone({zone}, {instant}) <> {local} THEN 'skipped' WHEN {twice} THEN 'ambiguous' END"
    return kind if time.format else f"CASE WHEN NOT regexp_matches({text}, '{OFFSET}') THEN {kind} END"
