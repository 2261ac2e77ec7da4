"""What a study is: the model of `journey.toml`, and its reading with all problems reported at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from journeykit.durations import duration, seconds
from journeykit.errors import JourneyError, nearest
from journeykit.problems import say

__all__ = ["Study", "load", "parse", "presets", "seconds"]


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Duration = Annotated[str, BeforeValidator(duration)]
Names = Annotated[list[str], BeforeValidator(_one_or_more)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A part of journey.toml; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyPart(Part):
    """`[study]`: what is asked."""

    title: str
    question: str = ""
    scope: str = ""
    timezone: str = "UTC"
    currency: str = "EUR"
    as_of: str = ""  # end of observation, ISO 8601; "" = the last event

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f"{zone!r} is not a time zone.{nearest(zone, available_timezones())}")
        return zone


class Time(Part):
    """How a source writes a time: its column, its unit or format, and its zone when the text carries none."""

    column: str
    unit: Literal["text", "s", "ms", "us"] = "text"
    format: str = ""  # strptime format; "" = ISO 8601
    zone: str = "UTC"  # zone of times that carry no offset

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        ZoneInfo(zone)
        return zone


class Scale(Part):
    """A satisfaction answer and the scale that maps it to 0–1."""

    column: str
    low: float
    high: float


class Emit(Part):
    """One event that a row of a wide table stands for: it happens when `time` is filled (and `when` holds)."""

    event: str
    time: str  # column
    when: dict[str, Names] = {}  # column = allowed values


class Source(Part):
    """`[[sources]]`: files of one shape and how their columns become events (or daily spend)."""

    name: Name
    path: str
    preset: str = ""
    kind: Literal["events", "spend"] = "events"
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    delimiter: str = ","
    header_rows: int = 1  # rows before the data; names are in the first
    once_per: str = ""  # column whose first row carries the record (line items repeat an order)
    time: Time
    received: Time | None = None  # when the row arrived, to count late rows
    late_after: Duration = "24h"
    event: str = ""  # column
    event_constant: str = ""
    event_prefix: str = ""
    emits: list[Emit] = []  # a wide row that becomes several events
    where: dict[str, Names] = {}  # column = values of the rows that are meant (test rows are left out and counted)
    event_id: str = ""  # column; "" = the row's content
    duplicates: Literal["drop", "keep"] = "drop"
    sequence: str = ""  # column that orders events of the same time; "" = the row's number
    identifiers: dict[Name, str] = {}  # identifier = column
    channel: str = ""  # column
    channel_constant: str = ""
    marketing_channel: str = ""
    team: str = ""
    value: str = ""
    value_scale: float = 1.0  # 0.01 for amounts in cents
    satisfaction: Scale | None = None
    comment: str = ""
    segments: dict[Name, str] = {}  # becomes the column segment_<name>
    properties: list[str] = []  # allow-list of columns kept in `properties`
    spend: str = ""  # column with the amount, for kind = "spend"


class Identity(Part):
    """`[identity]`: who is who."""

    identifiers: list[Name]  # in order of trust
    devices: list[Name] = []  # those of them that mark a device, which several people may share
    blocked: list[str] = ["", "null", "none", "undefined", "anonymous", "unknown", "test", "-1", "(not set)"]
    blocked_patterns: list[str] = ["^[0-]+$"]
    max_people_per_device: int = 1
    shared_gap: Duration = "30m"
    policy: Literal["none", "graph", "graph_strict"] = "graph_strict"

    @model_validator(mode="after")
    def _devices_are_identifiers(self) -> Identity:
        for name in self.devices:
            if name not in self.identifiers:
                raise ValueError(f"device {name!r} is not in identifiers ({', '.join(self.identifiers)})")
        return self


class Sessions(Part):
    """`[sessions]`: when a visit ends."""

    gap: Duration = "30m"
    identifier: str = ""  # use the source's own session identifier instead of the gap


class Journeys(Part):
    """`[journeys]`: where a journey starts, what counts as conversion, when it is over."""

    conversion: Names = []  # events
    gap: Duration = "60d"  # a journey with no event for so long is over
    window: Duration = ""  # a conversion later than this after the start does not count; "" = any
    restart_stages: list[str] = []  # after a conversion, an event of these stages opens the next journey


class Stage(Part):
    """`[[stages]]`: a stage of the journey, with its touchpoints and the team that owns it."""

    name: str
    owner: str = ""
    weight: Annotated[float, Field(ge=0)] = 1.0
    touchpoints: dict[str, Names]  # touchpoint = event names, wildcards allowed


class Funnel(Part):
    """`[funnels.<name>]`: ordered steps and the time allowed for them."""

    steps: list[str] = Field(min_length=2)  # "a | b" are alternatives
    within: Duration = ""
    on: Literal["event", "touchpoint", "stage"] = "event"
    per: Literal["person", "session", "journey"] = "person"
    by: str = ""


class Plan(Part):
    """`[plans.<name>]`: the journey we believe in; a step ending in "?" is optional."""

    steps: list[str] = Field(min_length=2)
    on: Literal["event", "touchpoint", "stage"] = "stage"


class Attribution(Part):
    """`[attribution]`: which conversions get credit, looking back how far."""

    conversion: Names = []  # "" = journeys.conversion
    lookback: Duration = "30d"
    exclude: list[str] = []


class Covariate(Part):
    """A count of events (or whether there were any) before the landmark, as a covariate of churn."""

    name: Name
    events: Names
    without: Names = []  # an event of `events` followed by one of these before the landmark does not count
    count: bool = False
    label: str = ""


class Churn(Part):
    """`[churn]`: what it means to leave."""

    start: Names
    end: Names
    landmark: Duration = "30d"  # covariates are known by then, and only people still there are compared
    horizon: Duration = "180d"
    by: str = ""  # segment of the survival curves
    covariates: list[Covariate] = []


class Metric(Part):
    """A metric of an experiment: what is counted for each person within the window after exposure."""

    name: Name
    event: Names
    kind: Literal["conversion", "count", "value", "satisfaction"] = "conversion"
    role: Literal["primary", "secondary", "guardrail"] = "primary"
    better: Literal["up", "down"] = "up"
    margin: float = 0.0  # harm (absolute) that a guardrail tolerates


class Experiment(Part):
    """`[[experiments]]`: a randomised test, declared before it is read."""

    name: Name
    title: str = ""  # how reports call it; "" = the name
    hypothesis: str
    exposure: str  # event
    identifier_column: str = "segment_experiment"  # column of touches that holds the experiment's name
    arm_column: str = "segment_variant"
    arms: dict[str, float]  # planned split, sums to 1
    control: str
    within: Duration = "14d"
    before: Duration = "28d"  # period before exposure that CUPED uses
    minimum_effect: float = 0.0  # relative effect worth acting on
    metrics: list[Metric] = Field(min_length=1)
    owner: str = ""

    @property
    def label(self) -> str:
        return self.title or self.name

    @model_validator(mode="after")
    def _split_sums_to_one(self) -> Experiment:
        if abs(sum(self.arms.values()) - 1) > 1e-6:
            raise ValueError(f"the planned split sums to {sum(self.arms.values()):g}, not to 1")
        if self.control not in self.arms:
            raise ValueError(f"control {self.control!r} is not one of the arms ({', '.join(self.arms)})")
        return self


class Privacy(Part):
    """`[privacy]`: what must not be seen in a report."""

    minimum_cell: Annotated[int, Field(ge=1)] = 5  # smaller groups are not shown


class Study(Part):
    """A whole `journey.toml`."""

    study: StudyPart
    sources: list[Source] = Field(min_length=1)
    identity: Identity
    sessions: Sessions = Sessions()
    journeys: Journeys = Journeys()
    stages: list[Stage] = []
    funnels: dict[Name, Funnel] = {}
    plans: dict[Name, Plan] = {}
    attribution: Attribution | None = None
    churn: Churn | None = None
    experiments: list[Experiment] = []
    privacy: Privacy = Privacy()
    chapters: dict[str, dict[str, str | int | float | bool]] = {}  # overrides of a notebook's parameters

    @model_validator(mode="after")
    def _names_agree(self) -> Study:
        problems = []
        for source in self.sources:
            for name in source.identifiers:
                if name not in self.identity.identifiers:
                    problems.append(
                        f"sources.{source.name}.identifiers: {name!r} is not declared in identity.identifiers "
                        f"({', '.join(self.identity.identifiers)}).{nearest(name, self.identity.identifiers)}"
                    )
        names = [source.name for source in self.sources]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"sources: two sources are called {name!r}; give each its own name")
        stages = [stage.name for stage in self.stages]
        for name in self.journeys.restart_stages:
            if name not in stages:
                problems.append(f"journeys.restart_stages: {name!r} is not a stage.{nearest(name, stages)}")
        if self.sessions.identifier and self.sessions.identifier not in self.identity.identifiers:
            problems.append(f"sessions.identifier: {self.sessions.identifier!r} is not in identity.identifiers")
        if problems:
            raise ValueError("\n".join(problems))
        return self


def load(path: Path) -> Study:
    """Read a `journey.toml`, fill in the presets and check it; every problem is in the one error raised.

    Raises:
        JourneyError: the file is missing, is not TOML, or does not describe a study.
    """
    if not path.exists():
        raise JourneyError(
            f"{path.name}: not found in {path.parent.name}/. A study is a folder that holds journey.toml."
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JourneyError(f"{path.name}: not valid TOML: {error}. Mend the line that it names.") from None
    return parse(raw, path.name)


def parse(raw: dict[str, Any], where: str = "journey.toml") -> Study:
    """Check the content of a `journey.toml`; see `load`."""
    problems: list[str] = []
    if isinstance(raw.get("sources"), list):
        raw = {**raw, "sources": [_with_preset(source, problems) for source in raw["sources"]]}
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems += [line for item in error.errors() for line in say(item, raw, Study)]
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise JourneyError(f"{where}: {count}.\n" + "\n".join(f"  · {line}" for line in problems))
    return study


def presets() -> dict[str, Path]:
    """Return the presets by name: TOML files in `journeykit/presets/`."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}


def _with_preset(source: Any, problems: list[str]) -> Any:
    if not isinstance(source, dict) or not source.get("preset"):
        return source
    known = presets()
    name = source["preset"]
    if name not in known:
        problems.append(
            f"sources.{source.get('name', '?')}.preset: {name!r} is not a preset.{nearest(str(name), known)} "
            f"There are: {', '.join(known)}."
        )
        return source
    return _merge(tomllib.loads(known[name].read_text(encoding="utf-8")), source)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
