"""The part of `journey.toml` that says how the columns of an export become events: `[[sources]]`."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field as Checked
from pydantic import model_validator

from journeykit.config_base import Duration, Name, Names, Part, ZoneOrHeader
from journeykit.config_fields import Field, Mapped, NamedFields


class Time(Part):
    """How a source writes a time: its column, its unit or format, and its zone when the text carries none."""

    column: Mapped = Field()
    """Where the time stands. With `emits`, each event names its own column, which is read in the same way."""
    unit: Literal["text", "s", "ms", "us", "ns"] = "text"
    """`"text"` is read by `format`; the others are numbers that count from 1970-01-01 UTC, whatever `zone` says."""
    format: str = ""
    """strptime pattern such as `"%d.%m.%Y %H:%M"`; a time that does not fit is quarantined. `""` is ISO 8601."""
    zone: ZoneOrHeader = "UTC"
    """Zone of times without an offset; an hour that occurs twice is the first. `"header"`: a header row names it."""
    clock: Annotated[str, Checked(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    """Time of day of a date that has none; a date alone says nothing about the order within the day."""


class Scale(Part):
    """A satisfaction answer and the scale that maps it to 0–1."""

    column: Mapped
    """Where the answer stands, a number."""
    low: float
    """The worst answer of the scale, which becomes 0."""
    high: float
    """The best answer, which becomes 1; it may be the smaller number. An answer outside the scale is quarantined."""


class Rule(Part):
    """One rule that cleans event names: a name that it fits is replaced by `to`."""

    match: str = ""
    """Wildcards `*` and `?` that the whole name must fit."""
    regex: str = ""
    """Instead of `match`: a regular expression that the whole name must fit; groups are `\\1` … in `to`."""
    to: str
    """The name that the event gets."""

    @model_validator(mode="after")
    def _one_pattern(self) -> Rule:
        if bool(self.match) == bool(self.regex):
            raise ValueError("a rule needs either match (wildcards) or regex, and only one of them")
        try:
            re.compile(self.regex)
        except re.error as error:
            raise ValueError(f"regex {self.regex!r} is not a regular expression: {error}") from None
        return self


class Emit(Part):
    """One event that a row of a wide table stands for: it happens when `time` is filled (and `when` holds)."""

    event: str
    """Name of the event."""
    time: Mapped
    """Where its time stands; where that is empty, the event did not happen."""
    when: dict[str, Names] = {}
    """Column = allowed values (upper or lower case, `*` allowed): it happens only in rows that hold one of them."""
    measures: bool = False
    """It carries the row's value, answer and comment; where no event says so, the first in the list does."""


class Stops(Part):
    """When a run must not go on, because the data cannot be trusted. What is not given stops nothing."""

    max_quarantine_share: Annotated[float, Checked(ge=0, le=1)] | None = None
    """Largest share of rows (0–1) that may be quarantined."""
    min_rows: Annotated[int, Checked(ge=1)] | None = None
    """Fewest rows that must be kept."""
    max_age: Duration = ""
    """Longest time that the last event may lie before `study.as_of`, or before now where that is not given."""
    max_gap: Duration = ""
    """Longest silence of a source between its first and last event."""
    max_unmapped_share: Annotated[float, Checked(ge=0, le=1)] | None = None
    """Largest share of events (0–1) whose name no touchpoint of `[[stages]]` has."""
    same_columns: bool = False
    """A file whose columns differ from those of the file before it stops the run."""


class Similar(Part):
    """Profiles without a common identifier that are one person all the same, found by Splink (extra `link`)."""

    compare: Annotated[dict[str, Literal["name", "date", "email", "postcode", "text", "exact"]], Checked(min_length=1)]
    """Column = how values are compared: by likeness, or `"exact"`. A date is ISO 8601, a `"postcode"` is British."""
    block_on: Annotated[list[Names], Checked(min_length=1)]
    """Lists of columns: only profiles that agree in all columns of one of them (not case) are compared."""
    threshold: Annotated[float, Checked(gt=0, lt=1)] = 0.95
    """Probability from which on two profiles are one person; a lower one joins more, and more strangers."""

    @model_validator(mode="after")
    def _can_be_learnt(self) -> Similar:
        for column in self.compare:
            if all(column in rule for rule in self.block_on):
                raise ValueError(
                    f"every rule of block_on holds {column!r}, so nothing is learnt of how it differs. "
                    "Add a rule without it, or do not compare it"
                )
        return self

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the file that are looked at, once."""
        return tuple(dict.fromkeys([*self.compare, *(column for rule in self.block_on for column in rule)]))


class Source(Part):
    """`[[sources]]`: files of one shape and how their columns become events (or daily spend, or profiles)."""

    name: Name
    """Name in every table, and part of the order of simultaneous events."""
    path: str = ""
    """The files, relative to journey.toml, or an fsspec URL (`s3://…`); `*` and `**` are wildcards. May be gzipped."""
    preset: str = ""
    """Fills in a vendor's columns (journeykit/presets/). What is given here wins; a list replaces the whole list."""
    kind: Literal["events", "spend", "profiles"] = "events"
    """`"spend"` (money by day and marketing channel) and `"profiles"` (identifiers of one person) give no event."""
    format: Literal["", "csv", "jsonl", "json", "parquet", "xes", "excel"] = ""
    """How the files are written; `""` goes by their ending, others are CSV. In JSON `"a.b"` is field b of field a."""
    encoding: str = "utf-8"
    """Encoding of text files, such as `"cp1252"` or `"utf-16"`."""
    delimiter: str = ","
    """Character between the columns of a CSV, such as `";"` or `"\\t"`; `"blanks"` is any number of blanks."""
    quote: str = '"'
    """Character around fields of a CSV that hold the delimiter or a line end; `""` for none."""
    header_rows: Annotated[int, Checked(ge=0)] = 1
    """Rows of a CSV above the data; the names are in the first, the others are skipped. With 0, give `columns`."""
    columns: list[str] = []
    """Names of the columns of a CSV, instead of those in its header."""
    sheet: str = ""
    """Sheet of an Excel file; `""` is the first."""
    records: str = ""
    """In a JSON document that is one object: the path of its list of records, such as `"orders"`."""
    database: str = ""
    """Instead of `path`: URL of a database (`postgresql://`, `sqlite:///`, `duckdb:///`), or `$NAME` of a variable."""
    query: str = ""
    """The SELECT whose rows are read from `database`."""
    drafts: dict[str, str] = {}
    """Part of a file's name = its final form: `{ "intraday_" = "" }` skips a file when the one so named is there."""
    optional: list[str] = []
    """Columns that a file may lack; they are empty then. Any other mapped column that a file lacks is an error."""
    once_per: str = ""
    """Of rows with the same value in this column, such as an order's line items, only the first with a time is used."""
    time: Time = Time()
    """When it happened; only profiles may do without. Of profiles: when it was known; what has no time always was."""
    received: Time | None = None
    """When the row arrived; used only to count late rows."""
    late_after: Duration = "24h"
    """A row that arrives longer than this after its time is kept and counted as late."""
    event: Mapped = Field()
    """The name of the event. A source of events needs this or `emits`."""
    rules: list[Rule] = []
    """Rules that clean the names of `event`, in order; the first that fits a name replaces it."""
    emits: list[Emit] = []
    """Events that one row stands for, each with its own time; wins over `event`."""
    where: dict[str, Names] = {}
    """Column = allowed values (upper or lower case, `*` allowed); other rows are left out and counted."""
    where_not: dict[str, Names] = {}
    """Column = values (upper or lower case, `*` allowed) of rows that are left out and counted, such as bots."""
    event_id: Mapped = Field()
    """The id of the row; rows with one id are duplicates."""
    natural_key: list[str] = []
    """Columns that together make a row the same row where it has no id; `[]` is all columns of the file."""
    duplicates: Literal["drop", "keep"] = "drop"
    """`"drop"` keeps the first in time and counts the others; `"keep"` makes each an event of its own."""
    sequence: str = ""
    """Column of whole numbers that orders events of the same time. `""` is the place of the row in its file."""
    identifiers: dict[Name, Mapped] = {}
    """Identifier = field. Only keyed tokens of the values are kept; an event without any usable one is quarantined."""
    same_as: dict[Name, Mapped] = {}
    """Of profiles: identifier = field of a second value that is the same person, such as `"merged_from_id"`."""
    similar: Similar | None = None
    """Of profiles: how to find those that are one person without a common identifier."""
    channel: Mapped = Field()
    """Where it took place: web, app, store …"""
    marketing_channel: Mapped = Field()
    """What brought it: paid_search, email …; empty when nothing did. Spend must use the same names."""
    team: Mapped = Field()
    """The team that owns the event; where it is empty, the owner of the stage does."""
    value: Mapped = Field()
    """An amount, written with a decimal point; what is no number or below 0 is quarantined."""
    value_scale: float = 1.0
    """Multiplies every value: 0.01 for amounts in cents."""
    satisfaction: Scale | None = None
    """An answer and its scale, which maps it to 0–1."""
    comment: Mapped = Field()
    """Free text; addresses, telephone numbers, cards and the like are removed on reading."""
    segments: dict[Name, Mapped] = {}
    """Name = field: becomes `segment_<name>` in touches, by which groups are compared and experiments are read."""
    properties: NamedFields = {}
    """Columns kept beside the event, as a list, or name = field; a column that no key names is dropped."""
    spend: Mapped = Field()
    """The amount; required for `kind = "spend"`."""
    stops: Stops = Stops()
    """When the data of this source cannot be trusted; wins over `[stops]`."""

    @model_validator(mode="after")
    def _has_an_event(self) -> Source:
        if self.kind == "events" and not (self.event or self.emits):
            raise ValueError('no event is named. Give event (a column, or { constant = "name" }) or emits (a list)')
        if not self.time.column and not self.emits and self.kind != "profiles":
            raise ValueError("time.column is missing. Name the column with the time")
        self._check_profiles()
        if self.kind == "spend" and not (self.spend and self.marketing_channel):
            raise ValueError("a source of spend needs spend (the column of the amount) and marketing_channel")
        if bool(self.path) == bool(self.database):
            raise ValueError("a source needs either path (files) or database and query, and only one of them")
        if self.database and not self.query:
            raise ValueError("query is missing. Give the SELECT whose rows are read from database")
        if self.delimiter != "blanks" and len(self.delimiter) != 1:
            raise ValueError(f'delimiter is {self.delimiter!r}. Give one character ("\\t" is a tab), or "blanks"')
        if len(self.quote) > 1:
            raise ValueError(f'quote is {self.quote!r}. Give one character, or "" for none')
        if self.header_rows == 0 and not self.columns and self.format in ("", "csv") and self.path:
            raise ValueError("header_rows is 0 and columns is missing. Name the columns in their order")
        return self

    def _check_profiles(self) -> None:
        for key in ("same_as", "similar"):
            if getattr(self, key) and self.kind != "profiles":
                raise ValueError(f'{key} is for a source of profiles. Set kind = "profiles", or remove it')
        for name in self.same_as:
            if name not in self.identifiers:
                raise ValueError(f"same_as.{name}: identifiers has no {name!r}. Add it; same_as is its second value")
        if self.kind == "profiles" and self.emits:
            raise ValueError("a source of profiles has no events. Remove emits, or give these rows a source of events")
        if self.kind == "profiles" and not self.identifiers:
            raise ValueError("a source of profiles needs identifiers. Name the columns that say who it is")
