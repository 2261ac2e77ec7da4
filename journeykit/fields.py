"""From a field of journey.toml to SQL: a column, constant, template or expression, and what a lookup makes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from journeykit import engine
from journeykit.adapters import readable
from journeykit.config import Source
from journeykit.config_fields import Field, Lookup, template_parts
from journeykit.errors import JourneyError
from journeykit.expressions import compile_sql, parse
from journeykit.raw_files import find_files
from journeykit.sources import bare, open_rows
from journeykit.sql import NULL, identifier, literal


def field_sql(field: Field, column: Callable[[str], str]) -> str:
    """Return the SQL of a field as text, empty as null; `column` says a column of the file as SQL text.

    What a lookup in a file gives stands in a column of its own; see `joined`.

    >>> field_sql(Field(template="{a}-{b}"), lambda name: f"r.{name}")
    "(r.a || '-' || r.b)"
    """
    if not field:
        return NULL
    text = origin_sql(field, column)
    if field.lookup is None:
        return text
    if isinstance(field.lookup, Lookup):
        found = identifier(_found(field))
    else:
        keys, values = ([literal(item) for item in items] for items in (field.lookup, field.lookup.values()))
        found = f"MAP {{{', '.join(f'{key}: {value}' for key, value in zip(keys, values, strict=True))}}}[{text}]"
    return f"coalesce({found}, {text})" if field.keep_unknown else found


def origin_sql(field: Field, column: Callable[[str], str]) -> str:
    """Return the SQL of a field before anything is looked up."""
    if field.constant:
        text = literal(field.constant)
    elif field.column:
        text = column(field.column)
    elif field.template:
        pieces = [
            piece for text, name in template_parts(field.template) for piece in (literal(text), name and column(name))
        ]
        text = f"({' || '.join(piece for piece in pieces if piece and piece != literal(''))})"
    else:
        text = f"nullif({compile_sql(parse(field.expression), column).string()}, '')"
    return text


def joined(source: Source, query: str, column: Callable[[str], str]) -> str:
    """Return a query with a column for each lookup in a file that the fields of a source make.

    A join keeps no order: where there is one, `place` is the number of the row.
    """
    fields = {_found(field): field for field in fields_of(source) if isinstance(field.lookup, Lookup)}
    if not fields:
        return query
    made, joins = [], []
    for number, (name, field) in enumerate(fields.items()):
        assert isinstance(field.lookup, Lookup)
        made.append(f"l{number}.value AS {identifier(name)}")
        joins.append(f"LEFT JOIN {_table(field.lookup)} l{number} ON l{number}.key = {origin_sql(field, column)}")
    numbered = f"SELECT *, row_number() OVER () AS place FROM ({query})"
    return f"SELECT c.*, {', '.join(made)} FROM ({numbered}) c {' '.join(joins)}"


def _found(field: Field) -> str:
    return "l " + hashlib.md5(repr(field.model_dump()).encode(), usedforsecurity=False).hexdigest()[:12]


def fields_of(source: Source) -> Iterator[Field]:
    """Yield every field that the mapping of a source uses."""
    yield from (emit.time for emit in source.emits)
    yield from (source.event_id, source.event, source.channel, source.marketing_channel, source.team)
    yield from (source.value, source.comment, source.spend)
    if not source.emits:
        yield source.time.column
    if source.received:
        yield source.received.column
    if source.satisfaction:
        yield source.satisfaction.column
    for group in (source.identifiers, source.same_as, source.segments, source.properties):
        yield from group.values()


def mapped_columns(source: Source) -> tuple[str, ...]:
    """Return every column of the files that the mapping of a source names, once."""
    named = [column for field in fields_of(source) for column in field.columns()]
    rules = [*source.where, *source.where_not, *(column for emit in source.emits for column in emit.when)]
    singles = [source.sequence, source.once_per, *source.natural_key]
    return tuple(name for name in dict.fromkeys([*named, *rules, *singles]) if name)


def _lookups(source: Source) -> dict[str, Lookup]:
    return {_table(field.lookup): field.lookup for field in fields_of(source) if isinstance(field.lookup, Lookup)}


def _table(lookup: Lookup) -> str:
    return "lookup_" + hashlib.md5(repr(lookup.model_dump()).encode(), usedforsecurity=False).hexdigest()[:12]


def _as_source(lookup: Lookup, source: Source) -> Source:
    return Source.model_validate(
        {
            "name": source.name,
            "path": lookup.path,
            "delimiter": lookup.delimiter,
            "time": {"column": lookup.key},
            "event": lookup.value,
        }
    )


def lookup_marks(source: Source, folder: Path) -> list[str]:
    """Return a fingerprint of each file that the lookups of a source read."""
    return [
        file.fingerprint()
        for lookup in _lookups(source).values()
        for file in find_files(_as_source(lookup, source), folder)
    ]


def prepare_lookups(source: Source, folder: Path) -> None:
    """Make the temporary tables of the lookups of a source.

    Raises:
        JourneyError: the file of a lookup is not there or lacks a column.
    """
    for name, lookup in _lookups(source).items():
        engine.run(f"CREATE OR REPLACE TEMP TABLE {name} (key VARCHAR, value VARCHAR, place BIGINT)")
        where = f"sources.{source.name}: lookup in {lookup.path}"
        for file in find_files(_as_source(lookup, source), folder):
            with TemporaryDirectory() as scratch:
                made = readable(_as_source(lookup, source), file, Path(scratch))
                rows = open_rows(_as_source(lookup, source), made)
                key, value = rows.text(lookup.key, where), rows.text(lookup.value, where)
                try:
                    engine.run(
                        f"INSERT INTO {name} SELECT {bare('k')}, {bare('v')}, row_number() OVER () FROM "
                        f"(SELECT {key} AS k, {value} AS v FROM ({rows.parsed()}) r)"
                    )
                except engine.EngineError as error:
                    raise JourneyError(f"{where} cannot be read: {str(error).splitlines()[0]}.") from None
        engine.run(
            f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT key, arg_min(value, place) AS value FROM {name} "
            "WHERE key IS NOT NULL AND value IS NOT NULL GROUP BY key"
        )
