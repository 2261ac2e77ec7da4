"""`[plans.<name>]` of `journey.toml`."""

from __future__ import annotations

from pydantic import Field

from journeykit.config_base import Part
from journeykit.config_steps import ON, AnyStep


class Plan(Part):
    """`[plans.<name>]`: the journey we believe in; a step ending in "?" is optional."""

    steps: list[AnyStep] = Field(min_length=2)
    """Values of `on` in this order, or tables; `"a | b"` are alternatives, and `"a?"` may be left out."""
    on: ON = "stage"
    """What the steps are."""
