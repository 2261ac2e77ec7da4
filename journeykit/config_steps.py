"""The steps of funnels and plans in `journey.toml`, written as texts or tables."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from journeykit.config_base import Duration, Names, Part

ON = Literal["event", "touchpoint", "stage"]


class Step(Part):
    """A step of a funnel or a plan: a text such as `"cart | quick_buy"`, or a table where that does not say enough."""

    match: Names = []
    """Values of `on` that are this step, any of them; in a text, `|` stands between them."""
    event: Names = []
    """The same, of events, whatever `on` says."""
    touchpoint: Names = []
    """The same, of touchpoints."""
    stage: Names = []
    """The same, of stages."""
    where: dict[str, Names] = {}
    """Column = values, all must hold: `{ channel = "web", value = ">= 500", "properties.plan" = ["pro", "team"] }`."""
    optional: bool = False
    """`true`: may be left out. In a text, `?` at the end says so."""
    repeat: bool = False
    """In a plan, `true`: coming several times in a row is on plan. In a text, `+` at the end says so, `*` says both."""
    within: Duration = ""
    """Time allowed since the step before it. `""` is any."""
    directly: bool = False
    """`true`: no other event may lie between it and the step before it."""
    without: Names = []
    """Values of `on` that must not lie between it and the step before it."""
    name: str = ""
    """Name in the report. `""` is its values."""

    @property
    def values(self) -> list[str]:
        given = [*self.match, *self.event, *self.touchpoint, *self.stage]
        return [part.strip() for text in given for part in text.split("|") if part.strip()]

    @property
    def label(self) -> str:
        return self.name or " | ".join(self.values)

    @model_validator(mode="after")
    def _of_one_kind(self) -> Step:
        kinds = [kind for kind in ("match", "event", "touchpoint", "stage") if getattr(self, kind)]
        if len(kinds) > 1:
            raise ValueError(f"it has {' and '.join(kinds)}; give one of them")
        if not self.values:
            raise ValueError("it has no value; give match, event, touchpoint or stage")
        return self


def _step(written: Any) -> Any:
    """Turn a text into the table that it stands for."""
    if not isinstance(written, str):
        return written
    text = written.strip()
    mark = text[-1:] if text[-1:] in ("?", "+", "*") else ""
    return {
        "match": [text.removesuffix(mark).strip()],
        "optional": mark in ("?", "*") and bool(mark),
        "repeat": mark in ("+", "*") and bool(mark),
    }


AnyStep = Annotated[Step, BeforeValidator(_step)]
