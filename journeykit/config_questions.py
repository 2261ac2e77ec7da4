"""The parts of `journey.toml` that ask, funnels and plans aside: attribution and experiments."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from journeykit.config_base import Duration, Name, Names, Part


class Attribution(Part):
    """`[attribution]`: which conversions get credit, looking back how far."""

    conversion: Names = []
    """Events that give credit. `[]` is `journeys.conversion`."""
    lookback: Duration = "30d"
    """Visits longer than this before the conversion get no credit."""
    exclude: list[str] = []
    """Marketing channels that get no credit, such as `"direct"`; their share goes to the others."""


class Metric(Part):
    """A metric of an experiment: what is counted for each person within the window after exposure."""

    name: Name
    """Name in tables; each metric of an experiment has its own."""
    event: Names
    """Events that are counted."""
    kind: Literal["conversion", "count", "value", "satisfaction"] = "conversion"
    """Share of people with the event, events per person, their summed `value`, or their mean `satisfaction`."""
    role: Literal["primary", "secondary", "guardrail"] = "primary"
    """The test is decided on the primary metrics; a guardrail must not get worse; a secondary one only explains."""
    better: Literal["up", "down"] = "up"
    """The direction that is good."""
    margin: float = 0.0
    """Harm that a guardrail tolerates, absolute, in the unit of the metric."""


class Experiment(Part):
    """`[[experiments]]`: a randomised test, declared before it is read."""

    name: Name
    """Name of the test, as `identifier_column` holds it."""
    title: str = ""
    """Name in the report. `""` is `name`."""
    hypothesis: str
    """What is expected and why, written before the result is read."""
    exposure: str
    """Event by which a person meets the test; the person counts from the first one on."""
    identifier_column: str = "segment_experiment"
    """Column of touches with the name of the test. `""`: every event of `exposure` belongs to this test."""
    arm_column: str = "segment_variant"
    """Column of touches with the person's arm."""
    arms: dict[str, float]
    """Arm = planned share; they sum to 1. A split too far from the plan stops the reading."""
    control: str
    """Arm that the others are compared with."""
    within: Duration = "14d"
    """What happens later than this after exposure does not count; whose time is not over is left out."""
    before: Duration = "28d"
    """Behaviour so long before the exposure sharpens the estimate (CUPED)."""
    minimum_effect: float = 0.0
    """Relative change worth acting on, such as 0.1; says how many people it takes. 0 is none declared."""
    metrics: list[Metric] = Field(min_length=1)
    """What is counted for each person."""
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
