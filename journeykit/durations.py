"""Durations in configuration, such as "30m" or "7d", and limits per duration, such as "5 per 365d"."""

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


def limit(text: str) -> tuple[int, int | None]:
    """Return a limit such as "1", "1 ever" or "5 per 365d" as a number and the seconds that it is for (None: ever).

    >>> limit("1"), limit("5 per 365d")
    ((1, None), (5, 31536000))
    """
    match = re.fullmatch(r"([1-9]\d*)(?: ever| per (\d+[smhdw]))?", text)
    if not match:
        raise JourneyError(f"{text!r} is not a limit. Write '1' for one ever, or '5 per 365d'.")
    return int(match[1]), seconds(match[2]) if match[2] else None


def limited(value: Any) -> str:
    """Return a limit of a configuration as text, or raise ValueError."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise ValueError(f"{value!r} is not a limit. Write '1' for one ever, or '5 per 365d'")
    limit(text)
    return text
