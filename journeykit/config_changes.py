"""`[[changes]]`, `[[actions]]` and `[watch]` of `journey.toml`: what was changed without a test, what was done, what is
watched."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from journeykit.config_base import Duration, Name, Names, Part


class Series(Part):
    """A series of daily numbers: events, people, a share, a sum of value or a mean satisfaction."""

    name: Name
    """Name in tables and configuration."""
    event: Names = []
    """Events that are counted. `[]` is every event."""
    kind: Literal["count", "people", "share", "value", "satisfaction"] = "count"
    """Events a day, people with one, events of `event` per event of `per`, their summed `value`, their mean answer."""
    per: Names = []
    """Denominator of a `share`: events."""
    where: dict[str, Names] = {}
    """Column = values: only these rows count."""
    better: Literal["up", "down"] = "up"
    """The direction that is good."""
    label: str = ""
    """Name in the report. `""` is `name`."""

    @model_validator(mode="after")
    def _has_a_denominator(self) -> Series:
        if (self.kind == "share") != bool(self.per):
            raise ValueError('per belongs to kind = "share", which needs it')
        return self


class Change(Part):
    """`[[changes]]`: a release or a campaign that everybody met at once, so that there is no control group."""

    name: Name
    """Name in tables and configuration."""
    title: str = ""
    """Name in the report. `""` is `name`."""
    at: str
    """When it took effect (UTC), such as `"2025-09-14T22:00:00Z"`."""
    hypothesis: str = ""
    """What was expected of it."""
    metric: Series
    """What it was to change, day by day."""
    control: Series | None = None
    """A series that moves alike for other reasons (season, traffic) and that the change cannot touch."""
    groups: str = ""
    """Column of touches whose values part those who met the change from those who did not (difference in
    differences)."""
    treated: Names = []
    """Values of `groups` that met the change; the others are the comparison."""
    settle: Duration = ""
    """Time after the change that is left out."""
    owner: str = ""
    """Team that findings are addressed to."""

    @property
    def label(self) -> str:
        return self.title or self.name

    @model_validator(mode="after")
    def _says_who_met_it(self) -> Change:
        if bool(self.groups) != bool(self.treated):
            raise ValueError("groups and treated belong together; give both or neither")
        return self


class Action(Part):
    """`[[actions]]`: what was done about a finding, and what it was expected to bring."""

    name: Name
    """Name in tables and configuration."""
    title: str = ""
    """What was done, in words."""
    on: str
    """Date from which on it works (UTC)."""
    team: str = ""
    """Who did it."""
    finding: str = ""
    """The `id` of the finding that it answers, as in findings.json."""
    metric: Series
    """What it was to change."""
    predicted: float
    """Expected change, relative (0.1 is 10 % more) or, for a `share`, in its own unit (0.02 is 2 points)."""
    predicted_low: float | None = None
    """Lower end of what was expected, 90 times out of 100."""
    predicted_high: float | None = None
    """Upper end of it."""
    control: Series | None = None
    """A series that the action cannot touch; see `[[changes]]`."""

    @property
    def label(self) -> str:
        return self.title or self.name


class Watch(Part):
    """`[watch]`: the numbers that are watched from run to run."""

    series: list[Series] = []
    """What is watched, day by day and week by week. `[]`: events of each source, and conversions."""
    minimum_change: float = Field(default=0.05, ge=0)
    """A relative change smaller than this raises no alert, however certain."""
    stale_after: Duration = "48h"
    """A source without a row for so long before the end of observation is stale, unless it was as silent before."""
    error_rate: float = Field(default=0.05, gt=0, lt=1)
    """Share of false alerts among alerts that is accepted (Benjamini–Hochberg over all series of a run)."""
    back: Duration = "180d"
    """How far back the rules are tried out, to show how often each would have fired."""
