"""`[churn]` of `journey.toml`: what leaving is, what may go with it, and what a customer is worth."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

from pydantic import Field, field_validator, model_validator

from journeykit.config_base import Duration, Name, Names, Part
from journeykit.durations import seconds
from journeykit.errors import nearest


class Covariate(Part):
    """What was known about a person at some moment, as a covariate of churn."""

    name: Name
    """Name in tables and configuration."""
    kind: Literal["any", "count", "category", "satisfaction", "poor", "detours"] = "any"
    """`any`: whether there was one of `events`; `count`: how many; `category`: the last known value of `column`;
    `satisfaction`: the mean answer so far, missing where nobody asked or answered; `poor`: how many answers were below
    `poor_below`, and how many of `events`; `detours`: how often the person came back to a touchpoint left before."""
    events: Names = []
    """Events that are counted (`any`, `count`), or poor in themselves (`poor`). For `satisfaction`, answers of these
    events only; `[]` is all."""
    without: Names = []
    """Each of these takes one away: a ticket that was solved is not unresolved. For `any` and `count`."""
    column: str = ""
    """The column of touches of a `category`, such as `"segment_device"`."""
    last: Duration = ""
    """Only what happened so long before the moment counts. `""` is all history."""
    poor_below: float = Field(default=0.5, ge=0, le=1)
    """Answers below it are poor (`poor`)."""
    label: str = ""
    """Name in the report. `""` is `name`."""

    @model_validator(mode="after")
    def _has_what_it_counts(self) -> Covariate:
        if self.kind in ("any", "count") and not self.events:
            raise ValueError(f"kind {self.kind!r} needs events; name what is counted")
        if (self.kind == "category") != bool(self.column):
            raise ValueError('column belongs to kind = "category", which needs one')
        if self.without and self.kind not in ("any", "count"):
            raise ValueError(f"without has no meaning for kind {self.kind!r}")
        return self


class Value(Part):
    """`[churn.value]`: what a customer is worth."""

    margin: float = 0.0
    """Contribution, in the study's currency, of a person who is there, in each `per`. 0: nothing is valued so."""
    per: Duration = "30d"
    """The time that `margin` is for."""
    discount: float = Field(default=0.1, ge=0, lt=1)
    """What money a year later is worth less, as a share: 0.1 is 10 %."""
    horizon: Duration = "365d"
    """How far ahead value is counted; nothing is claimed beyond it."""
    orders: Names = []
    """Purchases of customers without a contract; their `value` is spend. `[]`: no such value is estimated."""
    margin_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the spend of `orders` that is left as contribution."""


class Churn(Part):
    """`[churn]`: what it means to leave."""

    kind: Literal["contract", "inactivity"] = "contract"
    """`contract`: leaving is an event of `end`. `inactivity`: leaving is a silence longer than `quiet`."""
    start: Names = []
    """Events from which on a person is there. `[]` is the first event of any kind, or the first of `activity`."""
    end: Names = []
    """Events that mean leaving; whoever has none by the end of observation is still there. For `contract`: the day the
    contract is over, not the day of the request."""
    activity: Names = []
    """Events that show that a person is still there, for `inactivity`, such as orders or sign-ins."""
    quiet: Duration = ""
    """Silence after which a person counts as gone. `""`: the shortest after which at most `returns` come back within
    `returns_within`, read off the reactivation curve."""
    returns: float = Field(default=0.1, gt=0, lt=1)
    """Share of the quiet who may still come back, when `quiet` is `""`."""
    returns_within: Duration = "180d"
    """Time in which coming back counts."""
    observed_from: str = ""
    """Date (UTC) from which leaving is recorded: who started earlier is known only because they were still there, and
    counts from then on (late entry). `""`: everybody is seen from the start."""
    reasons: dict[str, dict[str, Names]] = {}
    """Name = { column = values } of the end event: `"Payment failed" = { "properties.reason" = "payment_failed" }`.
    Ends that are none of them are "other"; each is a competing way to leave."""
    landmark: Duration = "30d"
    """Covariates are what is known so long after the start, and only people still there then are compared."""
    horizon: Duration = "180d"
    """How long after the start the curves are read off."""
    ahead: Duration = "90d"
    """How far ahead leaving is predicted, for the score list and its test."""
    by: str = ""
    """Column of touches with one curve for each value, the last one known at the start. `""` is a single curve."""
    in_score: bool = False
    """`true`: the Journey Score multiplies by who stays a customer after a stage, in place of who moves on from it."""
    covariates: list[Covariate] = []
    """What may go with leaving; each becomes a line of the Cox model, a `category` one line a value."""
    predict: Names = []
    """Names of the covariates that the forecast learns from; each one that says nothing makes it worse. `[]` is all."""
    value: Value = Value()
    """What a customer is worth."""

    def forecast(self) -> Churn:
        """Return the same with the covariates of `predict` only."""
        chosen = [covariate for covariate in self.covariates if covariate.name in self.predict]
        return self.model_copy(update={"covariates": chosen}) if self.predict else self

    @field_validator("observed_from")
    @classmethod
    def _is_a_date(cls, text: str) -> str:
        if text:
            try:
                datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(f'{text!r} is not a date. Write it as "2025-01-31".') from None
        return text

    @property
    def landmark_days(self) -> float:
        return seconds(self.landmark) / 86_400

    @property
    def horizon_days(self) -> float:
        return seconds(self.horizon) / 86_400

    @property
    def ahead_days(self) -> float:
        return seconds(self.ahead) / 86_400

    @property
    def times(self) -> list[float]:
        """The days that tables show: about a dozen up to the horizon, in whole months where it is long enough."""
        last = self.horizon_days
        step = 30 * math.ceil(last / 360) if last > 60 else max(1, int(last // 10))
        return [*(float(day) for day in range(0, math.ceil(last), step)), last]

    @model_validator(mode="after")
    def _says_what_leaving_is(self) -> Churn:
        if self.kind == "contract" and not self.end:
            raise ValueError('kind = "contract" needs end; name the events that end a contract')
        if self.kind == "inactivity" and not self.activity:
            raise ValueError('kind = "inactivity" needs activity; name the events that show that a person is there')
        if self.kind == "inactivity" and self.end:
            raise ValueError('end belongs to kind = "contract"; with inactivity, leaving is a silence')
        named = [covariate.name for covariate in self.covariates]
        for name in self.predict:
            if name not in named:
                raise ValueError(f"predict: {name!r} is no covariate.{nearest(name, named)}")
        if self.kind == "inactivity" and self.reasons:
            raise ValueError('reasons belong to kind = "contract"; a silence has none')
        if self.kind == "contract" and (self.activity or self.quiet):
            raise ValueError('activity and quiet belong to kind = "inactivity"')
        return self
