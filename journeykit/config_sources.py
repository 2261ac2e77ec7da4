"""The part of `journey.toml` that says how the columns of an export become events: `[[sources]]`."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from journeykit.config_base import Duration, Name, Names, Part, Zone


class Time(Part):
    """How a source writes a time: its column, its unit or format, and its zone when the text carries none."""

    column: str
    """Column with the time. With `emits`, each event names its own column, which is read in the same way."""
    unit: Literal["text", "s", "ms", "us"] = "text"
    """`"text"` is read by `format`; the others are numbers that count from 1970-01-01 UTC, whatever `zone` says."""
    format: str = ""
    """strptime pattern such as `"%d.%m.%Y %H:%M"`; a time that does not fit is quarantined. `""` is ISO 8601."""
    zone: Zone = "UTC"
    """Zone of times without an offset; a wrong one moves every event. Of an hour that occurs twice, the first."""


class Scale(Part):
    """A satisfaction answer and the scale that maps it to 0–1."""

    column: str
    """Column with the answer, a number."""
    low: float
    """The worst answer of the scale, which becomes 0."""
    high: float
    """The best answer, which becomes 1; it may be the smaller number. An answer outside the scale is quarantined."""


class Emit(Part):
    """One event that a row of a wide table stands for: it happens when `time` is filled (and `when` holds)."""

    event: str
    """Name of the event."""
    time: str
    """Column with its time; where that is empty, the event did not happen."""
    when: dict[str, Names] = {}
    """Column = allowed values (upper or lower case): it happens only in rows that hold one of them."""
    measures: bool = False
    """It carries the row's value, answer and comment; where no event says so, the first in the list does."""


class Source(Part):
    """`[[sources]]`: files of one shape and how their columns become events (or daily spend)."""

    name: Name
    """Name in every table, and part of the order of simultaneous events."""
    path: str
    """The files, relative to journey.toml; `*` and `**` are wildcards. CSV and JSON Lines may be gzipped."""
    preset: str = ""
    """Fills in a vendor's columns (journeykit/presets/). What is given here wins; a list replaces the whole list."""
    kind: Literal["events", "spend"] = "events"
    """`"spend"` is money by day and marketing channel: it makes no events and gives 06_attribution its cost."""
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    """How the files are written. In JSON Lines `"a.b"` names field b of field a."""
    delimiter: str = ","
    """Character between the columns of a CSV, such as `";"`."""
    header_rows: int = 1
    """Rows of a CSV above the data; the names are in the first, the others are skipped."""
    once_per: str = ""
    """Of rows with the same value in this column, such as an order's line items, only the first is used."""
    time: Time
    """When it happened."""
    received: Time | None = None
    """When the row arrived; used only to count late rows."""
    late_after: Duration = "24h"
    """A row that arrives longer than this after its time is kept and counted as late."""
    event: str = ""
    """Column with the name of the event. A source of events needs this, `event_constant` or `emits`."""
    event_constant: str = ""
    """Every row is this event; wins over `event`."""
    event_prefix: str = ""
    """Put before the names in `event`, so that the `open` of two sources stays apart."""
    emits: list[Emit] = []
    """Events that one row stands for, each with its own time; wins over `event` and `event_constant`."""
    where: dict[str, Names] = {}
    """Column = allowed values (upper or lower case); other rows, such as test orders, are left out and counted."""
    event_id: str = ""
    """Column with the id of the row; rows with one id are duplicates. `""`: rows that are equal in every column are."""
    duplicates: Literal["drop", "keep"] = "drop"
    """`"drop"` keeps the first in time and counts the others; `"keep"` makes each an event of its own."""
    sequence: str = ""
    """Column of whole numbers that orders events of the same time. `""` is the place of the row in its file."""
    identifiers: dict[Name, str] = {}
    """Identifier = column. Only keyed tokens of the values are kept; an event without any usable one is quarantined."""
    channel: str = ""
    """Column with where it took place: web, app, store …"""
    channel_constant: str = ""
    """Where every row took place; wins over `channel`."""
    marketing_channel: str = ""
    """Column with what brought it: paid_search, email …; empty when nothing did. Spend must use the same names."""
    team: str = ""
    """Column with the team that owns the event; where it is empty, the owner of the stage does."""
    value: str = ""
    """Column with an amount, written with a decimal point; what is no number or below 0 is quarantined."""
    value_scale: float = 1.0
    """Multiplies every value: 0.01 for amounts in cents."""
    satisfaction: Scale | None = None
    """An answer and its scale, which maps it to 0–1."""
    comment: str = ""
    """Column with free text; e-mail addresses and telephone numbers are removed on reading."""
    segments: dict[Name, str] = {}
    """Name = column: becomes `segment_<name>` in touches, by which groups are compared and experiments are read."""
    properties: list[str] = []
    """Columns kept beside the event as they are; a column that no key names is dropped."""
    spend: str = ""
    """Column with the amount; required for `kind = "spend"`."""

    @model_validator(mode="after")
    def _has_an_event(self) -> Source:
        if self.kind == "events" and not (self.event or self.event_constant or self.emits):
            raise ValueError("no event is named. Give event (a column), event_constant (a name) or emits (a list)")
        if self.kind == "spend" and not (self.spend and self.marketing_channel):
            raise ValueError("a source of spend needs spend (the column of the amount) and marketing_channel")
        return self
