"""How one raw row becomes an event: the SQL of each column of `events`, and the reason where something is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from journeykit import privacy
from journeykit.config import Emit, Source, Study, seconds
from journeykit.sources import RawFile, Rows, identifier, literal
from journeykit.times import clock_change, utc

EARLIEST = "2005-01-01"
NULL = "CAST(NULL AS VARCHAR)"
USABLE = "usable identifier "  # before an identifier's name, in the inner step
TYPED = {"timestamp": "TIMESTAMP", "source_row": "BIGINT", "value": "DOUBLE", "satisfaction": "DOUBLE"}
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


def meant(source: Source, rows: Rows) -> str:
    """Return the SQL condition of the rows that a source's `where` means."""
    conditions = [one_of(rows.field(name, _where(source)), allowed) for name, allowed in source.where.items()]
    return f"coalesce({' AND '.join(conditions)}, false)" if conditions else "true"


def one_of(text: str, allowed: list[str]) -> str:
    """Return the SQL condition that a text is one of a list, whatever its case."""
    return f"lower({text}) IN ({', '.join(literal(value.lower()) for value in allowed)})"


def is_blocked(text: str, plan: Study) -> str:
    """Return the SQL condition that an identifier's value is a placeholder and marks nobody."""
    patterns = [f"regexp_matches({text}, {literal(pattern)})" for pattern in plan.identity.blocked_patterns]
    return f"({' OR '.join([one_of(text, plan.identity.blocked or ['']), *patterns])})"


def mapped_sql(source: Source, file: RawFile, rows: Rows, emit: Emit | None, plan: Study, secret: bytes) -> str:
    """Return the query of one kind of event of a file.

    One row per raw row that is meant and happens: the columns of `events`, `row_number`, `row_key` (what makes two
    rows the same), `file`, `late`, `clock` (a daylight-saving change) and `reason` (null when the row is sound).
    """

    def field(column: str) -> str:
        return rows.field(column, _where(source)) if column else NULL

    time_text = field(emit.time if emit else source.time.column)
    time = utc(source.time, time_text)
    happens = [meant(source, rows)]
    if emit:
        happens += [f"{time_text} IS NOT NULL"]
        happens += [f"coalesce({one_of(field(name), allowed)}, false)" for name, allowed in emit.when.items()]
    names = columns_of(plan)
    raw_ids = {name: field(source.identifiers.get(name, "")) for name in names.identifiers}
    # Computed in a step of its own: a token names its value several times, and each would be judged again.
    judged = ", ".join(
        f"CASE WHEN NOT {is_blocked(text, plan)} THEN {text} END AS {identifier(USABLE + name)}"
        for name, text in raw_ids.items()
        if text != NULL
    )
    usable = {name: NULL if text == NULL else f"r.{identifier(USABLE + name)}" for name, text in raw_ids.items()}
    row_key = f"md5(coalesce({field(source.event_id)}, {rows.record()}))"
    # Events of one row happen in the order in which journey.toml lists them, also when their times are equal.
    place = f"{source.emits.index(emit)}-" if emit else ""
    event = _event(source, emit, field(source.event))
    selected = {
        "row_number": "r.source_row",
        "emit_rank": str(_rank(source, emit)),
        "file": literal(file.name),
        "row_key": row_key,
        "has_time": f"{time_text} IS NOT NULL",
        "has_identifier": _any_of(list(raw_ids.values())),
        "has_usable": _any_of(list(usable.values())),
        "has_value": f"{field(source.spend or source.value)} IS NOT NULL",
        "has_answer": f"{field(source.satisfaction.column)} IS NOT NULL" if source.satisfaction else "false",
        "late": _late(source, rows, time),
        "clock": clock_change(source.time, time_text),
        "event_id": f"{literal(place)} || substr(md5({literal(source.name)} || {row_key} || {event}), 1, 16)",
        "timestamp": time,
        "source": literal(source.name),
        "source_row": f"TRY_CAST({field(source.sequence)} AS BIGINT)" if source.sequence else "r.source_row",
        "event": event,
        "channel": literal(source.channel_constant) if source.channel_constant else _text(field(source.channel)),
        "marketing_channel": _text(field(source.marketing_channel)),
        "touchpoint": NULL,
        "stage": NULL,
        "team": _text(field(source.team)),
        "value": _amount(source, field(source.spend or source.value)),
        "satisfaction": _satisfaction(source, field),
        "comment": NULL if not source.comment else privacy.redact_sql(field(source.comment)),
        "properties": _properties(source, field),
        **{f"id_{name}": privacy.token_sql(name, text, secret) for name, text in usable.items()},
        **{f"segment_{name}": _text(field(source.segments.get(name, ""))) for name in names.segments},
    }
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in selected.items())
    once = ""
    if source.once_per:
        key = f"coalesce({field(source.once_per)}, 'row ' || r.source_row)"
        once = f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY r.source_row) = 1"
    step = f"(SELECT r.*, {judged} FROM {rows.name} r)" if judged else rows.name
    query = f"SELECT {listed} FROM {step} r WHERE {' AND '.join(happens)}{once}"
    return f"SELECT *, {_reason(source, plan)} AS reason FROM ({query})"


def _rank(source: Source, emit: Emit | None) -> int:
    """The place of an event among those that a row may give: those that carry its measures first, then as listed."""
    if emit is None:
        return 0
    return source.emits.index(emit) + (0 if emit.measures else len(source.emits))


def _where(source: Source) -> str:
    return f"sources.{source.name}"


def _any_of(texts: list[str]) -> str:
    return f"coalesce({', '.join(texts)}) IS NOT NULL"


def _text(text: str) -> str:
    """A name rather than free text: an address has no place in it, a number has (a date, a campaign's id)."""
    return text if text == NULL else privacy.redact_email_sql(text)


def _amount(source: Source, text: str) -> str:
    """An amount; what is no finite number is null, which the reasons tell from an empty one."""
    number = f"TRY_CAST({text} AS DOUBLE)"
    return f"CASE WHEN isfinite({number}) THEN {number} * {source.value_scale} END"


def _event(source: Source, emit: Emit | None, text: str) -> str:
    if emit or source.event_constant:
        return literal(emit.event if emit else source.event_constant)
    if source.kind == "spend":
        return literal("spend")
    return _text(f"{literal(source.event_prefix)} || {text}" if source.event_prefix else text)


def _late(source: Source, rows: Rows, time: str) -> str:
    if source.received is None:
        return "false"
    received = utc(source.received, rows.field(source.received.column, _where(source)))
    return f"coalesce({received} - ({time}) > INTERVAL {seconds(source.late_after or '24h')} SECOND, false)"


def local_date(source: Source) -> str:
    """Return the SQL of the day of a time, where the source lives."""
    zone = literal(source.time.zone)
    return f"CAST(timezone({zone}, timezone('UTC', timestamp)) AS DATE)"


def _satisfaction(source: Source, field: object) -> str:
    if source.satisfaction is None:
        return "CAST(NULL AS DOUBLE)"
    assert callable(field)
    scale = source.satisfaction
    return f"(TRY_CAST({field(scale.column)} AS DOUBLE) - {scale.low}) / ({scale.high} - {scale.low})"


def _properties(source: Source, field: object) -> str:
    if not source.properties:
        return NULL
    assert callable(field)
    packed = ", ".join(f"{literal(name)}, {_text(field(name))}" for name in source.properties)
    return f"CAST(json_object({packed}) AS VARCHAR)"


def _reason(source: Source, plan: Study) -> str:
    """Return the SQL that says what is wrong with a row, the first reason that applies, or null."""
    latest = f"TIMESTAMPTZ {literal(plan.study.as_of)}" if plan.study.as_of else "(now() + INTERVAL 1 DAY)"
    person = (
        ""
        if source.kind == "spend"
        else ("WHEN NOT has_identifier THEN 'no identifier' WHEN NOT has_usable THEN 'identifier is blocked' ")
    )
    return (
        "CASE WHEN NOT has_time THEN 'no time' WHEN timestamp IS NULL THEN 'time cannot be read' "
        "WHEN NOT isfinite(timestamp) THEN 'time is not plausible' "
        f"WHEN timestamp < TIMESTAMP '{EARLIEST}' OR timestamp > timezone('UTC', {latest}) "
        "THEN 'time is not plausible' "
        f"WHEN event IS NULL THEN 'no event' {person}"
        "WHEN has_value AND value IS NULL THEN 'value is not a number' WHEN value < 0 THEN 'value is negative' "
        "WHEN has_answer AND satisfaction IS NULL THEN 'answer is not a number' "
        "WHEN satisfaction NOT BETWEEN 0 AND 1 THEN 'answer is outside its scale' END"
    )
