"""What all parts of `journey.toml` share: unknown keys are errors, and the kinds of value that keys take."""

from __future__ import annotations

from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from journeykit.durations import duration, limited
from journeykit.errors import nearest


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _zone(value: Any) -> str:
    if value not in available_timezones():
        raise ValueError(f"{value!r} is not a time zone.{nearest(str(value), available_timezones())}")
    return str(value)


Zone = Annotated[str, BeforeValidator(_zone)]
ZoneOrHeader = Annotated[str, BeforeValidator(lambda value: value if value == "header" else _zone(value))]
Duration = Annotated[str, BeforeValidator(duration)]
Limit = Annotated[str, BeforeValidator(limited)]
Names = Annotated[list[str], BeforeValidator(_one_or_more)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Part(BaseModel):
    """A part of journey.toml; unknown keys are errors. The text under a key describes it (see `reference`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
