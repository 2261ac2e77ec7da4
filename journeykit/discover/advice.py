"""What to do about rows that would be quarantined: each reason with an example of what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from journeykit.config import Source
from journeykit.discover.moments import WORDS, Moment, recognise
from journeykit.discover.trial import Trial
from journeykit.sql import literal


def _texts(trials: Sequence[Trial], columns: Iterable[str], reason: str) -> list[str]:
    """Return what stands in the columns of rows that have something wrong; identifiers are tokens there."""
    found = []
    for trial in trials:
        for column in columns:
            path = literal('$."' + column.replace('"', '""') + '"')
            rest = f"WHERE reason = {literal(reason)} LIMIT 300"
            found += [str(text) for (text,) in trial.rows(f"json_extract_string(record, {path})", rest) if text]
    return found


def _time_columns(source: Source) -> list[str]:
    fields = [emit.time for emit in source.emits] or [source.time.column]
    return list(dict.fromkeys(column for one in fields for column in one.columns()))


def advice_on(source: Source, trials: Sequence[Trial], reason: str) -> str:
    """Return what to do about a reason, with an example of what was found."""
    if "time" in reason:
        return _time_advice(source, _texts(trials, _time_columns(source), reason), reason)
    if reason.startswith("value"):
        columns = (source.spend or source.value).columns()
        texts = _texts(trials, columns, reason)
        example = f" The first is {texts[0]!r}." if texts else ""
        if reason == "value is negative":
            return f"{example} Leave refunds out with where_not, or give them as an event of their own."
        comma = texts and "," in texts[0] and columns
        formula = f"number(replace(replace(col({columns[0]!r}), '.', ''), ',', '.'))" if comma else ""
        return example + (f' Set value = {{ expression = "{formula}" }}.' if comma else " Mend value.")
    if reason.startswith("answer") and source.satisfaction:
        texts = _texts(trials, source.satisfaction.column.columns(), reason)
        numbers = sorted({float(text) for text in texts if text.replace(".", "", 1).isdigit()})
        shown = f" Found: {', '.join(f'{number:g}' for number in numbers[:5])}." if numbers else ""
        return f"{shown} The scale is {source.satisfaction.low:g} to {source.satisfaction.high:g}; mend low and high."
    if reason == "no event":
        return " Mend event: its column is empty in these rows."
    if reason == "identifier is blocked":
        return " Its values are in identity.blocked or fit blocked_patterns; mend those, or map another column."
    if reason == "no identifier":
        columns_said = ", ".join(column for one in source.identifiers.values() for column in one.columns())
        return f" All of {columns_said or 'its identifiers'} are empty there; map a column that says who it was."
    return " Mend the mapping in journey.toml."


def _time_advice(source: Source, texts: list[str], reason: str) -> str:
    if reason == "no time" or not texts:
        return " Mend time: its column is empty in these rows."
    example = f" The time of the first row is {texts[0]!r}."
    moment = recognise(texts, datetime.now(UTC))
    time = source.time
    if moment is None:
        return f"{example} It is no time that is known; mend time.column, unit or format."
    if moment.unit != time.unit:
        return f'{example} These look like {WORDS[moment.unit]}: set unit = "{moment.unit}".' + _form(moment)
    if moment.unit == "text" and moment.format != time.format:
        return example + (_form(moment) or ' They are ISO 8601: set format = "".')
    first = next((one for one in moment.times if one), None)
    if "plausible" in reason and first and f"{first:%Y-%m-%d}" < "2005-01-01":
        return f'{example} If these old times are right, set study.earliest = "{first:%Y}-01-01".'
    return f"{example} Mend time, or study.as_of."


def _form(moment: Moment) -> str:
    return f' They are written as "{moment.format}": set format = "{moment.format}".' if moment.format else ""
