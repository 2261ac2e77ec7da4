"""How one raw row becomes an event: the query of a file's rows, each with its columns or with what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from journeykit import engine, privacy, redaction
from journeykit.config import Source, Study
from journeykit.config_fields import Field
from journeykit.fields import field_sql, joined, mapped_columns, origin_sql
from journeykit.sources import Rows, bare
from journeykit.sql import NULL, identifier, literal
from journeykit.times import clock_change, utc
from journeykit.verdict import SAME, USABLE, fate, is_blocked, latest, one_of, placeholder, reason, times, values

BASE = (
    "event_id", "timestamp", "source", "source_row", "event", "channel", "marketing_channel", "touchpoint", "stage",
    "team", "value", "satisfaction", "comment", "properties",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns of `events`: the fixed ones, a token for each identifier, and the study's segments."""

    identifiers: tuple[str, ...]
    segments: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        ids = tuple(f"id_{name}" for name in self.identifiers)
        return BASE + ids + tuple(f"segment_{name}" for name in self.segments)


def columns_of(plan: Study) -> Columns:
    """Return the columns of a study's `events`, in the order in which journey.toml first names them."""
    segments = dict.fromkeys(name for source in plan.sources for name in source.segments)
    return Columns(tuple(plan.identity.identifiers), tuple(segments))


def part_sql(
    source: Source, rows: Rows, plan: Study, secret: bytes, erased: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return the query of a file's rows, one row per row of the file, in its order.

    `fate`: null, "blank", "left_out", "erased", or "silent" (no time of any event is filled). `reason`: what is wrong
    with the row, or null; `record`: then, the row without what could name a person. `row_key`: what makes two rows
    the same. Then the columns of `events` that the file gives; a source that emits has its events in `happenings`.
    """
    where = f"sources.{source.name}"
    texts = {column: rows.text(column, where) for column in mapped_columns(source)}
    cells = ", ".join(f"{sql} AS {_column(column)}" for column, sql in texts.items())
    blank = f"coalesce(strlen({rows.line}) < 1000 AND trim({rows.line}) = '', true)" if rows.line else "false"
    size = f"len({rows.line})" if rows.line else "0"
    broken, key = rows.broken(), _row_key(source, texts, rows)
    taken = f"SELECT {cells + ', ' if cells else ''}{blank} AS is_blank, {broken} AS is_broken, {size} AS size, "
    taken += f"{key} AS row_key FROM ({rows.parsed()}) r"
    tidy = ", ".join(f"{bare(_column(column))} AS {_column(column)}" for column in texts)
    taken = f"SELECT * {f'REPLACE ({tidy})' if tidy else ''} FROM ({taken})"
    steps = (_fields(source, plan), _usable(source, plan), _read(source, plan, secret))
    query = looked = joined(source, taken, _column)
    for step in filter(None, steps):  # one after the other, so that what is named several times is computed once
        query = f"SELECT *, {', '.join(f'{sql} AS {identifier(name)}' for name, sql in step.items())} FROM ({query})"
    weighed = f"SELECT *, {fate(source, plan, erased or {})} AS fate, {reason(source, plan)} AS wrong FROM ({query})"
    listed = _listed(source, plan, secret)
    if any((erased or {}).values()):  # nothing is left of a row of somebody who is to be forgotten
        listed = {
            name: sql if name == "fate" else f"CASE WHEN fate IS DISTINCT FROM 'erased' THEN {sql} END"
            for name, sql in listed.items()
        }
    ordered = " ORDER BY place" if looked != taken else ""
    return (
        f"SELECT {', '.join(f'{sql} AS {identifier(name)}' for name, sql in listed.items())} FROM ({weighed}){ordered}"
    )


def _row_key(source: Source, texts: Mapping[str, str], rows: Rows) -> str:
    """The SQL of what makes two rows the same: the natural key, the id, or the whole row where it has none."""
    if source.natural_key:
        parts = ", ".join(f"coalesce(trim({texts[name]}), '')" for name in source.natural_key)
        return _key(f"concat_ws(chr(31), {parts})")
    if not source.event_id:
        return _key(rows.whole())
    given = origin_sql(source.event_id, lambda name: f"nullif(trim({texts[name]}), '')")
    return _key(f"coalesce({given}, {rows.whole()})")


def _key(text: str) -> str:
    """The SQL of a text's hash of 128 bits, as a UUID: the engine would write so large an integer as a fraction."""
    return f"CAST(md5({text}) AS UUID)"


def _column(name: str) -> str:
    return identifier("c " + name)


def _fields(source: Source, plan: Study) -> dict[str, str]:
    """The fields of a row as text, and whether the row is meant at all."""

    def said(field: Field) -> str:
        return field_sql(field, _column)

    meant = [f"coalesce({one_of(_column(name), values)}, false)" for name, values in source.where.items() if values]
    meant += [f"NOT coalesce({one_of(_column(name), values)}, false)" for name, values in source.where_not.items()]
    made = {
        "is_meant": " AND ".join(meant) or "true",
        "t event": _event(source, said(source.event)),
        "t value": said(source.spend or source.value),
        "t received": said(source.received.column) if source.received else NULL,
        "t answer": said(source.satisfaction.column) if source.satisfaction else NULL,
    }
    for number, emit in enumerate(source.emits):
        when = [f"coalesce({one_of(_column(name), allowed)}, false)" for name, allowed in emit.when.items()]
        time = said(emit.time)
        made[f"t time {number}"] = f"CASE WHEN {' AND '.join(when)} THEN {time} END" if when else time
    if not source.emits:
        made["t time"] = said(source.time.column)
    made |= {f"i {key}": _trimmed(said(field)) for key, (_, field) in values(source, plan).items()}
    return made


def _trimmed(text: str) -> str:
    """The SQL of an identifier's value without blanks of any kind around it; few hold other than plain ones."""
    odd = f"strlen({text}) <> len({text}) OR contains({text}, chr(9)) OR contains({text}, chr(10))"
    blanks = " || ".join(f"chr({ord(blank)})" for blank in privacy.BLANKS)
    return f"CASE WHEN {odd} THEN nullif(trim({text}, {blanks}), '') ELSE {text} END" if text != NULL else text


def _event(source: Source, text: str) -> str:
    if source.kind != "events":
        return literal(source.kind)
    if not source.rules:
        return text
    cases = []
    for rule in source.rules:
        if rule.regex:
            to = f"regexp_replace({text}, {literal(f'^(?:{rule.regex})$')}, {literal(rule.to)})"
            cases.append(f"WHEN regexp_full_match({text}, {literal(rule.regex)}) THEN {to}")
        else:
            cases.append(f"WHEN {text} GLOB {literal(rule.match.replace('[', '[[]'))} THEN {literal(rule.to)}")
    return f"CASE {' '.join(cases)} ELSE {text} END"


def _read(source: Source, plan: Study, secret: bytes) -> dict[str, str]:
    """The fields as times, numbers and usable identifiers."""
    made = {name: utc(source.time, identifier(text)) for name, text in times(source).items()}
    scale = f" * {source.value_scale!r}" if source.value_scale != 1 else ""
    made["number"] = f"TRY_CAST({identifier('t value')} AS DOUBLE){scale}"
    made["answer"] = f"TRY_CAST({identifier('t answer')} AS DOUBLE)"
    made["received_at"] = utc(source.received, identifier("t received")) if source.received else "NULL"
    for key, (name, _) in values(source, plan).items():
        made[f"id {key}"] = privacy.token_sql(name, identifier(USABLE + key), secret, _rule(plan, name))
    return made


def _usable(source: Source, plan: Study) -> dict[str, str]:
    """Each identifier's value, null where it marks nobody."""
    made = {}
    for key in values(source, plan):
        text = identifier(f"i {key}")
        made[f"{USABLE}{key}"] = f"CASE WHEN NOT {is_blocked(text, plan)} THEN {text} END"
    return made


def _rule(plan: Study, name: str) -> str:
    return privacy.rule(plan.identity, name)


def _listed(source: Source, plan: Study, secret: bytes) -> dict[str, str]:
    """The columns of a part."""
    names = columns_of(plan)
    future = " OR ".join(f"{identifier(at)} > {latest(plan)}" for at in times(source))
    kept = "fate IS NULL OR fate = 'silent'"

    def said(field: Field) -> str:
        return field_sql(field, _column)

    made = {
        "fate": "fate",
        "reason": f"CASE WHEN {kept} THEN wrong END",
        "record": f"CASE WHEN is_broken THEN '(' || size || ' characters, not shown)' "
        f"WHEN ({kept}) AND (wrong IS NOT NULL OR fate = 'silent' OR {future}) "
        f"THEN {_record(source, plan, secret)} END",
        "row_key": "row_key",
        "sequence": f"TRY_CAST({_column(source.sequence)} AS BIGINT)" if source.sequence else "CAST(NULL AS BIGINT)",
        "once_key": _key(_column(source.once_per)) if source.once_per else "CAST(NULL AS UUID)",
        "lag_us": f"epoch_us(received_at) - epoch_us({identifier(next(iter(times(source))))})"
        if source.received and source.kind != "profiles"  # to be known is no event that could come late
        else "CAST(NULL AS BIGINT)",
        "channel": name_text(said(source.channel)),
        "marketing_channel": name_text(said(source.marketing_channel)),
        "team": name_text(said(source.team)),
        "value": "number",
        "satisfaction": _satisfaction(source),
        "comment": redaction.redact_sql(said(source.comment)) if source.comment else NULL,
        "properties": _properties(source),
        **{
            f"id_{name}": identifier("id " + name) if name in source.identifiers else NULL for name in names.identifiers
        },
        **{f"same_{name}": identifier(f"id {SAME}{name}") for name in source.same_as},
        **{
            f"segment_{name}": name_text(said(source.segments[name])) if name in source.segments else NULL
            for name in names.segments
        },
        "blocked": _blocked(source, plan),
    }
    if source.emits:
        return made | {"happenings": _happenings(source)}
    return made | {
        "event": name_text(identifier("t event")),
        "timestamp": '"at"',
        "clock": clock_change(source.time, identifier("t time")),
    }


def name_text(text: str) -> str:
    """Return the SQL of a name rather than free text: an address has no place in it, a number has."""
    return text if text == NULL else redaction.name_sql(text)


def _satisfaction(source: Source) -> str:
    if source.satisfaction is None:
        return "CAST(NULL AS DOUBLE)"
    scale = source.satisfaction
    return f"(answer - {scale.low!r}) / ({scale.high!r} - {scale.low!r})"


def _properties(source: Source) -> str:
    if not source.properties:
        return NULL
    texts = {name: field_sql(field, _column) for name, field in source.properties.items()}
    packed = (f"{literal(name)}, {text if text == NULL else redaction.link_sql(text)}" for name, text in texts.items())
    return f"CAST(json_object({', '.join(packed)}) AS VARCHAR)"


def _blocked(source: Source, plan: Study) -> str:
    """The identifiers of a row that mark nobody, as a list of pairs, null where there are none."""
    found = []
    for key, (name, _) in values(source, plan).items():
        text = identifier(f"i {key}")
        pair = f"{{'id_name': {literal(name)}, 'value': {placeholder(text, plan)}}}"
        found.append((f"{text} IS NOT NULL AND {identifier(USABLE + key)} IS NULL", pair))
    if not found:
        return "CAST(NULL AS STRUCT(id_name VARCHAR, value VARCHAR)[])"
    pairs = ", ".join(f"CASE WHEN {test} THEN {pair} END" for test, pair in found)
    any_of = " OR ".join(f"({test})" for test, _ in found)
    return f"CASE WHEN {any_of} THEN list_filter([{pairs}], lambda p: p IS NOT NULL) END"


def _happenings(source: Source) -> str:
    """The events of a row, as a list: place in journey.toml, event, time, clock change, and who carries the measures.

    A row that gives several events has one value and one answer: they stand on one of them, or sums count twice.
    """
    order = sorted(range(len(source.emits)), key=lambda place: (not source.emits[place].measures, place))
    items = []
    for place, emit in enumerate(source.emits):
        before = [f"{identifier(f't time {other}')} IS NULL" for other in order[: order.index(place)]]
        text, at = identifier(f"t time {place}"), identifier(f"at {place}")
        items.append(
            f"CASE WHEN {text} IS NOT NULL THEN {{'place': {place}, 'event': {literal(emit.event)}, "
            f"'timestamp': {at}, 'clock': {clock_change(source.time, text)}, "
            f"'carries': {' AND '.join(before) or 'true'}}} END"
        )
    return f"list_filter([{', '.join(items)}], lambda h: h IS NOT NULL)"


def _record(source: Source, plan: Study, secret: bytes) -> str:
    """The SQL of a quarantined row: the columns that are mapped, identifiers as tokens, other text redacted.

    Few rows are quarantined, so a function in Python may do it.
    """
    tokens = {column: name for name, field in values(source, plan).values() for column in field.columns()}
    times = {column for emit in source.emits for column in emit.time.columns()} | set(source.time.column.columns())

    def conceal(packed: str) -> str:
        row = json.loads(packed)
        for column, text in row.items():
            if text and column in tokens:
                row[column] = privacy.token(tokens[column], text, secret, _rule(plan, tokens[column]))
            elif text:
                row[column] = redaction.mask(text, time=column in times)
        return json.dumps(row, ensure_ascii=False)

    # A function of this name is made once: the name says what it depends on.
    said = repr((sorted(tokens.items()), sorted(times), plan.identity.model_dump(), secret))
    name = f"conceal_{hashlib.sha256(said.encode()).hexdigest()[:16]}"
    engine.function(name, conceal)
    packed = ", ".join(f"{literal(column)}, {_column(column)}" for column in mapped_columns(source))
    return f"{name}(CAST(json_object({packed}) AS VARCHAR))"


def local_date(source: Source) -> str:
    """Return the SQL of the day of a time, where the source lives."""
    zone = literal("UTC" if source.time.zone == "header" else source.time.zone)
    return f"CAST(timezone({zone}, timezone('UTC', timestamp)) AS DATE)"
