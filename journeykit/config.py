"""What a study is: the model of `journey.toml`, and its reading with all problems reported at once."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from journeykit.config_attribution import Attribution
from journeykit.config_base import Duration, Limit, Name, Names, Part, Zone, fits
from journeykit.config_changes import Action, Change, Series, Watch
from journeykit.config_churn import Churn, Covariate
from journeykit.config_experiments import Amendment, Decision, Experiment, Metric
from journeykit.config_funnels import Funnel
from journeykit.config_plans import Plan
from journeykit.config_sources import Emit, Rule, Scale, Source, Stops, Time
from journeykit.config_steps import Step
from journeykit.durations import seconds
from journeykit.errors import JourneyError, nearest
from journeykit.problems import say

__all__ = [
    "Action",
    "Amendment",
    "Attribution",
    "Change",
    "Churn",
    "Covariate",
    "Decision",
    "Emit",
    "Experiment",
    "Funnel",
    "Identity",
    "Journeys",
    "Metric",
    "Part",
    "Plan",
    "Privacy",
    "Rule",
    "Scale",
    "Series",
    "Sessions",
    "Source",
    "Stage",
    "Step",
    "Stops",
    "Study",
    "StudyPart",
    "Time",
    "Watch",
    "load",
    "parse",
    "presets",
    "seconds",
]


class StudyPart(Part):
    """`[study]`: what is asked."""

    title: str
    """Heading of the report."""
    question: str = ""
    """What the study is to answer; printed on the index."""
    scope: str = ""
    """Whom and what the data covers; printed on the index."""
    timezone: Zone = "UTC"
    """Zone that the study lives in, of its midnight too. Times are kept in UTC, and each source names its own zone."""
    currency: str = "EUR"
    """Unit of every value; nothing is converted."""
    earliest: str = "2005-01-01"
    """No event is older (ISO 8601 date); an earlier time is taken for a wrong one and quarantined."""
    as_of: str = ""
    """End of observation (ISO 8601): what is not over then is open, later rows are quarantined. `""`: last event."""

    @field_validator("as_of", "earliest")
    @classmethod
    def _readable(cls, moment: str) -> str:
        if moment:
            try:
                datetime.fromisoformat(moment)
            except ValueError:
                raise ValueError(f"{moment!r} is not a time. Write ISO 8601, such as '2025-12-31T00:00:00Z'") from None
        return moment


class Identity(Part):
    """`[identity]`: who is who."""

    identifiers: list[Name]
    """Names of the identifiers in order of trust: an event belongs to the person of the first that it carries."""
    devices: list[Name] = []
    """Those of them that several people may share, such as a browser; a shared one joins nobody."""
    blocked: list[str] = [
        "",
        "null",
        "none",
        "undefined",
        "anonymous",
        "unknown",
        "test",
        "-1",
        "(not set)",
        "n/a",
        "nan",
    ]
    """Values that mark nobody (upper or lower case); they are counted and ignored."""
    blocked_patterns: list[str] = ["^[0-]+$"]
    """Regular expressions of such values; one that fits any part of the value is enough."""
    phones: list[Name] = []
    """Those of the identifiers that are telephone numbers: each way to write a number becomes one (E.164)."""
    phone_region: str = ""
    """Country (ISO 3166, such as `"DE"`) of the numbers without + or 00. `""`: they stay as they are written."""
    merge_email_dots: bool = False
    """At gmail.com and googlemail.com, addresses that differ in dots or after a + are one, as they are to Google."""
    caps: dict[Name, Limit] = {}
    """Identifier = how many values one person may have: `"1"`, or `"5 per 365d"`. What would join more joins nobody."""
    shared_gap: Duration = "30m"
    """On a shared device a longer silence ends a visit; anonymous events go to a sign-in of the same visit."""
    policy: Literal["none", "last_login", "device_split", "graph", "graph_strict"] = "graph_strict"
    """How identifiers become people; 02_stitch shows how much every figure depends on it."""
    overrides: str = "identity.csv"
    """CSV (action, identifier, value, other_identifier, other_value): merges and splits by hand, which win."""
    labels: str = ""
    """CSV (identifier, value, person) of people whom you know; 02_stitch measures each policy against it."""

    @model_validator(mode="after")
    def _names_agree(self) -> Identity:
        said = {"identifiers": self.identifiers, "devices": self.devices, "phones": self.phones}
        problems = [
            f"{key} holds {name!r} more than once; name each identifier once"
            for key, names in said.items()
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        known = list(dict.fromkeys(self.identifiers))
        for kind, names in (("device", self.devices), ("capped", self.caps), ("phone", self.phones)):
            problems += [
                f"{kind} {name!r} is not in identifiers ({', '.join(known)}).{nearest(name, known)}"
                for name in dict.fromkeys(names)
                if name not in known
            ]
        problems += [
            f"capped {name!r} is a device; a device of several people is shared in any case"
            for name in self.caps
            if name in self.devices
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @field_validator("blocked_patterns")
    @classmethod
    def _can_be_matched(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            fits([""], pattern)
        return patterns

    @field_validator("phone_region")
    @classmethod
    def _known_region(cls, region: str) -> str:
        from phonenumbers import SUPPORTED_REGIONS  # here, because it takes a moment

        if region and region not in SUPPORTED_REGIONS:
            raise ValueError(f"{region!r} is not a country. Write its two capital letters (ISO 3166), such as 'DE'")
        return region


class Sessions(Part):
    """`[sessions]`: when a visit ends."""

    gap: Duration = "30m"
    """A longer silence starts a new session; a shorter gap makes more sessions."""
    identifier: str = ""
    """Identifier with the source's own session id, used instead of the other rules, which cut events without one."""
    cut_at_midnight: bool = False
    """Midnight in the study's zone ends a session too, which makes more of them; so did Google Analytics before GA4."""
    cut_at_campaign: bool = False
    """An event with a marketing channel that its session does not have starts a new one; so did Google before GA4."""


class Journeys(Part):
    """`[journeys]`: where a journey starts, what counts as conversion, when it is over."""

    start: Names = []
    """Events that open a journey; what leads to none of them belongs to no journey. `[]`: the first touch opens one."""
    conversion: Names = []
    """Events that a journey is for; one that has such an event is converted."""
    gap: Duration = "60d"
    """A longer silence ends a journey; if it did not convert, it is abandoned."""
    window: Duration = ""
    """A conversion later than this after the start of the journey does not count. `""` is any time."""
    restart_stages: list[str] = []
    """After a conversion an event of these stages, or of `start`, opens the next journey; without both, any does."""
    scope: Literal["wide", "narrow"] = "wide"
    """`"narrow"`: from the start to the conversion only; `"wide"`: with what led to it and what follows, as support."""


class Stage(Part):
    """`[[stages]]`: a stage of the journey, with its touchpoints and the team that owns it."""

    name: str
    """Name of the stage; stages are shown in the order of the file."""
    owner: str = ""
    """Team that findings about the stage are addressed to, and that owns events which name no team."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Share in the Customer Journey Score, scaled so that all sum to 1; fix it before you look at the results."""
    touchpoints: dict[str, Names]
    """Touchpoint = its events, wildcards allowed; the first that fits has the event. Others have no stage."""


class Privacy(Part):
    """`[privacy]`: what must not be seen in a report."""

    minimum_cell: Annotated[int, Field(ge=1)] = 5
    """Groups of fewer people are not shown."""
    erase: str = "erase.csv"
    """CSV (columns identifier and value) of people to forget: their rows are left out, kept reports with them go."""


class Study(Part):
    """A whole `journey.toml`."""

    study: StudyPart
    """What is asked."""
    sources: list[Source] = Field(min_length=1)
    """The exports and what their columns mean."""
    stops: Stops = Stops()
    """When the data cannot be trusted, for every source that does not say otherwise."""
    identity: Identity
    """Who is who."""
    sessions: Sessions = Sessions()
    """When a visit ends."""
    journeys: Journeys = Journeys()
    """Where a journey starts, what it is for, when it is over."""
    stages: list[Stage] = []
    """The map: stages in order, their touchpoints and owners. Without any, 03_map is skipped."""
    funnels: dict[Name, Funnel] = {}
    """Ordered steps, by name; 04_funnel reads the first. Without any, it is skipped."""
    plans: dict[Name, Plan] = {}
    """The journeys we believe in, by name; 05_paths reads the first."""
    attribution: Attribution | None = None
    """Which conversions get credit. Without it, 06_attribution is skipped."""
    churn: Churn | None = None
    """What it means to leave. Without it, 07_churn is skipped."""
    experiments: list[Experiment] = []
    """Tests, declared before they are read. Without any, and without `[[changes]]`, 08_experiment is skipped."""
    changes: list[Change] = []
    """Releases and campaigns that everybody met at once; 08_experiment estimates what they did."""
    actions: list[Action] = []
    """What was done about findings, with what it was expected to bring; each later run shows what came of it."""
    watch: Watch = Watch()
    """The numbers that are watched from run to run."""
    privacy: Privacy = Privacy()
    """What must not be seen in a report."""
    chapters: dict[str, dict[str, str | int | float | bool]] = {}
    """Parameters of a chapter: `[chapters.04_funnel]` and below it `within = "14d"`; `--set` wins over it."""

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
        declared = raw["identity"].get("identifiers", []) if isinstance(raw.get("identity"), dict) else []
        raw = {**raw, "sources": [_with_preset(source, declared, problems) for source in raw["sources"]]}
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        problems += [line for item in error.errors() for line in say(item, raw, Study)]
    else:
        from journeykit.vocabulary import unknown_steps  # it needs this module

        problems += unknown_steps(study)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise JourneyError(f"{where}: {count}.\n" + "\n".join(f"  · {line}" for line in problems))
    return study


def presets() -> dict[str, Path]:
    """Return the presets by name: TOML files in `journeykit/presets/`."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.toml"))}


def _with_preset(source: Any, declared: Any, problems: list[str]) -> Any:
    """Fill in a preset; of its identifiers only those that the study declares, since each study has its own."""
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
    below = tomllib.loads(known[name].read_text(encoding="utf-8"))
    if isinstance(declared, list):
        offered = below.get("identifiers", {})
        below["identifiers"] = {key: value for key, value in offered.items() if key in declared}
    return _merge(below, source)


MERGED = ("time", "received", "identifiers", "segments", "where", "where_not")  # key by key; anything else is replaced


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = key in MERGED and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged
