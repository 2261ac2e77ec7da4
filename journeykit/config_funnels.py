"""`[funnels.<name>]` of `journey.toml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from journeykit.config_base import Duration, Part
from journeykit.config_steps import ON, AnyStep


class Funnel(Part):
    """`[funnels.<name>]`: steps and the time allowed for them."""

    steps: list[AnyStep] = Field(min_length=2)
    """Values of `on` in this order, or tables; `"a | b"` are alternatives, `"a?"` may be left out."""
    within: Duration = ""
    """Time allowed from the first step to the last: a longer one counts more people. `""` is any time."""
    on: ON = "event"
    """What the steps are."""
    per: Literal["person", "session", "journey"] = "person"
    """Who is counted; all steps must lie in the same person, session or journey."""
    by: str = ""
    """Column of touches to compare, such as `"segment_device"`, as it is at the first step. `""`: `"channel"`."""
