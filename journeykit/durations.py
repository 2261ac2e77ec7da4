"""Durations in configuration: a whole number and a unit, such as "30m" or "7d"."""

from __future__ import annotations

import re
from typing import Any

from journeykit.errors import JourneyError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as "30m", "12h", "7d" or "2w".

    >>> seconds("30m"), seconds("7d")
    (1800, 604800)
    """
    match = re.fullmatch(r"(\d+)([smhdw])", duration)
    if not match:
        raise JourneyError(f"{duration!r} is not a duration. Write a whole number and s, m, h, d or w, such as '30m'.")
    return int(match[1]) * UNITS[match[2]]


def duration(value: Any) -> str:
    """Return a duration of a configuration as it is, or raise ValueError; "" stands for none."""
    if value == "":
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit. Write a duration such as '30m' or '7d'")
    seconds(value)
    return value
