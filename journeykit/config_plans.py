"""`[plans.<name>]` of `journey.toml`."""

# ruff: noqa: RUF012 (pydantic copies the default of a key)

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from journeykit.config_base import Duration, Names, Part
from journeykit.config_steps import ON, AnyStep, Step


class Plan(Part):
    """`[plans.<name>]`: the journey we believe in; 05_paths compares what happens with it."""

    steps: list[AnyStep] = Field(min_length=2)
    """Values of `on` in this order, or tables; `"a | b"` are alternatives, `"a?"` may be left out, `"a+"` may come
    several times in a row, `"a*"` both. A value may stand in several steps. `within` is the time allowed since the
    first event of the step before."""
    on: ON = "stage"
    """What the steps are."""
    within: Duration = ""
    """Time allowed from the first required step to the last. `""` is any time."""
    others: Literal["ignore", "extra"] = "ignore"
    """What else happens: `"ignore"` looks at the plan's values only, `"extra"` counts each other one as a deviation."""
    allowed: Names = []
    """Values of `on` that may come anywhere: never a deviation, not even those of a step that comes again."""

    @field_validator("steps")
    @classmethod
    def _for_plans(cls, steps: list[Step]) -> list[Step]:
        for number, step in enumerate(steps, start=1):
            wrong = [key for key in ("directly", "without") if getattr(step, key)]
            if wrong:
                raise ValueError(
                    f"step {number} ({step.label}) has {wrong[0]}, which is for funnels. "
                    'A plan says with others = "extra" and allowed what may lie between its steps'
                )
        if steps and steps[0].within:
            raise ValueError(
                f"step 1 ({steps[0].label}) has within, but no step before it. Leave it out, or set within of the plan"
            )
        return steps
