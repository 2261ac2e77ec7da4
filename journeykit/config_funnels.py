"""`[funnels.<name>]` of `journey.toml`."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from journeykit.config_base import Duration, Names, Part
from journeykit.config_steps import ON, AnyStep

# What the tools of these names do when nothing is set in them; `within` holds where a funnel has none of its own.
# GA4: https://developers.google.com/analytics/devguides/reporting/data/v1/funnels (closed, no time limit).
# Mixpanel: https://docs.mixpanel.com/docs/reports/funnels/funnels-advanced (7 days from the first entry, which later
# ones do not restart; "optimized re-entry" is off). Amplitude: https://amplitude.com/docs/faq/funnel-analysis (a day,
# the earliest and longest way of a user). PostHog: https://posthog.com/docs/product-analytics/funnels (14 days; who
# does what is excluded leaves the funnel altogether).
MODES: dict[str, dict[str, Any]] = {
    "ga4": {"order": "sequential", "entry": "closed", "clock": "any", "excluded": "attempt"},
    "mixpanel": {"order": "sequential", "entry": "closed", "clock": "first", "excluded": "attempt", "within": "7d"},
    "amplitude": {"order": "sequential", "entry": "closed", "clock": "any", "excluded": "attempt", "within": "1d"},
    "posthog": {"order": "sequential", "entry": "closed", "clock": "any", "excluded": "unit", "within": "14d"},
    "strict": {"order": "strict", "entry": "closed"},
}


EXIT = "(exit)"  # the value of a last step that is the end of the person, session or journey


class Funnel(Part):
    """`[funnels.<name>]`: steps and the time allowed for them."""

    steps: list[AnyStep] = Field(min_length=2)
    """Values of `on` in this order, or tables; `"a | b"` are alternatives, `"a?"` may be left out.
    A text instead of the list is a pattern, as 05_paths knows them: `"cart -> [^order]* -> exit"`."""
    within: Duration = ""
    """Time allowed from the first step to the last: a longer one counts more people. `""` is any time."""
    on: ON = "event"
    """What the steps are."""
    per: Literal["person", "session", "journey", "attempt"] = "person"
    """Who is counted; all steps must lie in the same person, session or journey. `"attempt"` counts a person again
    when the last attempt has converted, has run out of time or was excluded: more are counted, fewer convert."""
    by: str = ""
    """Column of touches to compare, such as `"segment_device"`, as it is at the first step. `""`: `"channel"`."""
    order: Literal["sequential", "strict", "any"] = "sequential"
    """`"strict"`: no other event may lie between two steps, so fewer convert. `"any"`: the steps may come in any order,
    so more do, and the table says how many took one, two, three … of them."""
    entry: Literal["closed", "open"] = "closed"
    """`"open"`: people may come in at any step, so later steps count people who skipped the first ones."""
    clock: Literal["first", "last", "any"] = "any"
    """Which taking of the first step counts. `"any"`: each is tried and the deepest result counts, from the earliest
    that leads there. `"first"`: only the first, so a later success with a new start is not seen. `"last"`: as `"any"`,
    but the clock starts at the latest that leads there, so looking around before is no part of the time it takes."""
    exclude: Names = []
    """Values of `on` that end an attempt when they come between its steps, such as a cancellation."""
    excluded: Literal["attempt", "unit"] = "attempt"
    """`"attempt"`: what comes after an excluded event needs a new first step. `"unit"`: a person (session, journey)
    with such an event between the first step and the last is left out altogether, also of the first step."""
    same: Names = []
    """Columns that must hold one value through all steps, such as `"session_id"` or `"properties.order"`: fewer
    convert. Events without a value do not count."""
    mode: Literal["", "ga4", "mixpanel", "amplitude", "posthog", "strict"] = ""
    """Count as this tool does when nothing is set in it; it then decides order, entry, clock, excluded, and, where
    none is given, within."""

    @field_validator("steps", mode="before")
    @classmethod
    def _of_pattern(cls, written: Any) -> Any:
        """Read a pattern, such as "cart -> [^order]* -> exit", as the steps that it says."""
        if not isinstance(written, str):
            return written
        from journeykit import patterns  # it takes the engine, which a funnel without a pattern does not need

        return patterns.steps(written)

    @model_validator(mode="after")
    def _fits_together(self) -> Funnel:
        problems = [*self._of_mode(), *self._of_steps(), *self._of_units()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def resolved(self) -> Funnel:
        """Return the funnel with what its mode decides written out."""
        decided = dict(MODES.get(self.mode, {}))
        if self.within:
            decided.pop("within", None)
        return self.model_copy(update=decided)

    def _of_mode(self) -> Iterator[str]:
        for key, value in MODES.get(self.mode, {}).items():
            own = getattr(self, key)
            if key != "within" and key in self.model_fields_set and own != value:
                yield f'mode = "{self.mode}" means {key} = "{value}", not "{own}"; leave out one of the two'

    def _of_steps(self) -> Iterator[str]:
        ends = {"first": self.steps[0], "last": self.steps[-1]}
        yield from (
            f"the {name} step, {step.label!r}, may not be left out; take its ? away or end the funnel before it"
            for name, step in ends.items()
            if step.optional
        )
        first = self.steps[0]
        if first.within or first.directly or first.without:
            yield f"the first step, {first.label!r}, has no step before it; within, directly, without say nothing there"
        asked, exits = self.resolved(), [EXIT in step.values for step in self.steps]
        if any(exits[:-1]) or (exits[-1] and len(self.steps[-1].values) > 1):
            yield f"{EXIT} is the end of a person, session or journey: a last step of its own"
        if exits[-1] and (asked.order == "any" or asked.entry == "open"):
            yield f'{EXIT} needs the steps before it: with it, order is "sequential" or "strict" and entry "closed"'
        if asked.order != "any":
            return
        for step in self.steps:
            for key in ("optional", "within", "directly", "without"):
                if getattr(step, key):
                    yield f'{key} of step {step.label!r} says nothing with order = "any"; leave out one of the two'
        if asked.entry == "open":
            yield 'entry = "open" says nothing with order = "any", where each step may be the first'

    def _of_units(self) -> Iterator[str]:
        if self.per != "attempt":
            return
        asked = self.resolved()
        if asked.entry == "open":
            yield 'entry = "open" counts each person once; with it, per is person, session or journey'
        if asked.excluded == "unit":
            yield 'excluded = "unit" leaves out whole people; with it, per is person, session or journey'
