"""`[[experiments]]` of `journey.toml`: a randomised test and its metrics, declared before the result is read."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from journeykit.config_base import Duration, Name, Names, Part
from journeykit.config_steps import AnyStep


class Metric(Part):
    """A metric of an experiment: what is counted for each unit within the window after exposure."""

    name: Name
    """Name in tables; each metric of an experiment has its own."""
    event: Names = []
    """Events that are counted. For `ratio` the numerator, for `time` the event that is waited for."""
    kind: Literal["conversion", "count", "value", "satisfaction", "funnel", "ratio", "time"] = "conversion"
    """Share of units with the event, events per unit, their summed `value`, their mean `satisfaction`, the share that
    goes through `steps` in order, `event` per `per` (both summed over units), or the time until the event."""
    steps: list[AnyStep] = []
    """Steps of a `funnel`, as in `[funnels.<name>]`; they are events."""
    per: Names = []
    """Denominator of a `ratio`: events, or `"session"` for visits."""
    cap: float | None = None
    """A unit's `value` or `count` above it counts as this much. Declared in advance, it keeps a few from deciding."""
    quantile: float | None = Field(default=None, gt=0, lt=1)
    """Compares this quantile of the units in place of the mean, such as 0.9. For `count`, `value`, `satisfaction`."""
    within: Duration = ""
    """The metric's own window after exposure. `""` is that of the experiment."""
    role: Literal["primary", "secondary", "guardrail"] = "primary"
    """The test is decided on the primary metrics; a guardrail must not get worse; a secondary one only explains."""
    better: Literal["up", "down"] = "up"
    """The direction that is good."""
    margin: float = Field(default=0.0, ge=0)
    """Harm that a guardrail tolerates (non-inferiority), absolute, in the unit of the metric."""
    worth: float = 0.0
    """Money that one unit of the metric is worth (an order, one point of share, a day); 0 is unknown. For `value`,
    the share of it that is left as contribution."""

    @model_validator(mode="after")
    def _has_what_it_counts(self) -> Metric:
        if self.kind == "funnel":
            if len(self.steps) < 2 or self.event:
                raise ValueError('kind = "funnel" needs steps (two or more) and no event')
        elif not self.event:
            raise ValueError(f"kind = {self.kind!r} needs event")
        if (self.kind == "ratio") != bool(self.per):
            raise ValueError('per belongs to kind = "ratio", which needs it')
        if self.steps and self.kind != "funnel":
            raise ValueError('steps belong to kind = "funnel"')
        if self.cap is not None and self.kind not in ("value", "count"):
            raise ValueError('cap is for kind = "value" or "count"')
        if self.quantile is not None and self.kind not in ("value", "count", "satisfaction"):
            raise ValueError('quantile is for kind = "value", "count" or "satisfaction"')
        return self


class Decision(Part):
    """A row of the decision table of an experiment; the first one that fits is taken."""

    primary: Literal["better", "worse", "unclear", "any"] = "any"
    """What the primary metrics say: one is better and none worse, one is worse, neither."""
    guardrails: Literal["harmed", "held", "unclear", "any"] = "any"
    """What the guardrails say: one is harmed beyond its margin, all are shown to hold, neither."""
    then: str
    """What is done, such as `"ship"` or `"do not ship"`."""


class Amendment(Part):
    """A change of an experiment after its start; all of them are shown."""

    on: str
    """Date of the change (UTC)."""
    what: str
    """What was changed, and why."""


class Experiment(Part):
    """`[[experiments]]`: a randomised test, declared before it is read."""

    name: Name
    """Name of the test, as `identifier_column` holds it."""
    title: str = ""
    """Name in the report. `""` is `name`."""
    hypothesis: str
    """What is expected and why, written before the result is read."""
    exposure: str
    """Event by which a unit meets the test; it counts from the first one on."""
    assignment: Names = []
    """Event by which a unit is given its arm, where there is one: exposures before it are counted as a fault."""
    identifier_column: str = "segment_experiment"
    """Column of touches with the name of the test. `""`: every event of `exposure` belongs to this test."""
    arm_column: str = "segment_variant"
    """Column of touches with the unit's arm."""
    cluster: str = ""
    """Column of touches by which arms were drawn, where that is not the person: a shop, a household. Intervals then
    take clusters as independent, not people."""
    arms: dict[str, float]
    """Arm = planned share; they sum to 1. A split too far from the plan stops the reading."""
    control: str
    """Arm that the others are compared with."""
    starts: str = ""
    """First day of the test (UTC). Exposures before it are a fault. `""` is the first exposure."""
    within: Duration = "14d"
    """What happens later than this after exposure does not count; whose time is not over is left out."""
    before: Duration = "28d"
    """Behaviour so long before the exposure sharpens the estimate (CUPED) and shows whether the arms were alike."""
    several_arms: Literal["exclude", "first"] = "exclude"
    """Units seen in several arms are left out, or count for the first one. Above 10 % there is a warning, above 60 % no
    verdict."""
    minimum_effect: float = 0.0
    """Relative change worth acting on, such as 0.1; says how many people it takes. 0 is none declared."""
    horizon: Duration = ""
    """How long exposures are collected before the test is read, from `starts` on. `""` is not declared."""
    planned_n: int = Field(default=0, ge=0)
    """Units planned, all arms together; always-valid intervals are narrowest then. 0: narrowest at 5,000, a number that
    does not depend on the data, because tuning to what there is would spoil the guarantee."""
    stopping: Literal["fixed", "always_valid", "group_sequential"] = "fixed"
    """`fixed`: decided once, at the end of `horizon`. `always_valid`: may be read every night, with wider intervals.
    `group_sequential`: read at `looks` planned moments."""
    looks: int = Field(default=5, ge=2, le=50)
    """Planned looks of `group_sequential`."""
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"
    """Bounds of `group_sequential`: strict at first, or the same at every look."""
    correction: Literal["holm", "fdr", "preferential"] = "holm"
    """For several comparisons: Holm, Benjamini–Hochberg, or a weighting that gives `primary_share` of the error to the
    primary metrics and widens the intervals too."""
    primary_share: float = Field(default=0.8, gt=0, lt=1)
    """Share of the error that `preferential` gives to the primary metrics."""
    bayesian: bool = False
    """`true` adds the probability that an arm is better, for shares. It does not license early looks."""
    by: list[str] = []
    """Columns of touches by which the effect is looked at, as they are at the exposure, after one joint test each."""
    metrics: list[Metric] = Field(min_length=1)
    """What is counted for each unit."""
    decisions: list[Decision] = []
    """The decision table, fixed in advance. `[]`: do not ship what harms or worsens, ship what is better."""
    yearly_units: int = Field(default=0, ge=0)
    """Units a year that the decision is for, to tell it in money; 0 is the pace of the test."""
    amendments: list[Amendment] = []
    """Changes after the start."""
    owner: str = ""
    """Team that findings are addressed to."""

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
