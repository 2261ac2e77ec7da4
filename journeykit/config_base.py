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


def fits(values: list[str], pattern: str) -> list[bool]:
    """Say which values a regular expression fits somewhere, in the dialect of the engine (RE2), or raise ValueError.

    >>> fits(["000", "c0"], "^[0-]+$")
    [True, False]
    """
    import pyarrow as pa  # here, because a configuration without a pattern of its own needs none of it
    import pyarrow.compute as pc

    try:
        found = pc.match_substring_regex(pa.array(values, pa.string()), pattern)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{pattern!r} is not a regular expression: {str(error).partition('expression: ')[2]}"
        ) from None
    return [bool(fitting) for fitting in found.to_pylist()]


Zone = Annotated[str, BeforeValidator(_zone)]
ZoneOrHeader = Annotated[str, BeforeValidator(lambda value: value if value == "header" else _zone(value))]
Duration = Annotated[str, BeforeValidator(duration)]
Limit = Annotated[str, BeforeValidator(limited)]
Names = Annotated[list[str], BeforeValidator(_one_or_more)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Part(BaseModel):
    """A part of journey.toml; unknown keys are errors. The text under a key describes it (see `reference`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
