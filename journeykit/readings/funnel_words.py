"""Words that sentences about funnels share: units, durations, shares, times and differences with their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import config, present, stats

SURE = 0.05  # an adjusted p-value below it is called a difference
UNITS = {"person": "people", "session": "sessions", "journey": "journeys", "attempt": "attempts"}
WHO = {name: f"{units} {'who' if name == 'person' else 'that'}" for name, units in UNITS.items()}
_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


def window(within: str) -> str:
    """Return a duration as words after a verb.

    >>> window("30d"), window("1h"), window("")
    (' within 30 days', ' within 1 hour', '')
    """
    if not within:
        return ""
    config.seconds(within)
    number = int(within[:-1])
    return f" within {number} {_WORDS[within[-1]]}{'' if number == 1 else 's'}"


def share_of(row: Any, name: str) -> str:
    """Return a share with its interval."""
    bounds = present.interval(row[f"{name}_low"], row[f"{name}_high"], "share")
    return present.share(row[name]) + (f" ({bounds})" if bounds != present.NONE else "")


def span(days: float) -> str:
    """Return a number of days in the unit that reads best."""
    return present.seconds(86_400 * days)


def bounds(row: Any, name: str) -> str:
    """Return the interval of a time, as words in brackets."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if present.missing(low):
        return "too few for an interval"
    if present.missing(high):
        return f"95 % interval from {span(low)}, without an upper end"
    return f"95 % interval {span(low)} to {span(high)}"


def chance(p_value: float) -> str:
    """Return a p-value.

    >>> chance(0.0004), chance(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def points(row: Any, name: str = "difference_points") -> str:
    """Return how far a segment is from the others, in words, with its interval turned the same way."""
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value < 0:
        value, low, high = -value, -high, -low
        word = "less"
    else:
        word = "more"
    return f"{present.number(value)} percentage points {word} (95 % interval {present.interval(low, high)})"


def alike(per: str) -> str:
    """Return the caveat of units of which one person may have several."""
    if per == "person":
        return ""
    return f" {UNITS[per].capitalize()} of one person are alike, so that intervals are somewhat too narrow."


def halves(trend: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the earlier and the later half of the periods that are over, each as one period."""
    mature = trend[trend["is_mature"] & (trend["n"] > 0)]
    middle = len(mature) - len(mature) // 2
    return _together(mature.iloc[:middle]), _together(mature.iloc[middle:])


def _together(part: pd.DataFrame) -> dict[str, Any]:
    n, k = int(part["n"].sum()), int(part["converted_n"].sum())
    low, high = stats.wilson(k, n)
    names = [str(part["period"].iloc[at]) for at in ((0, -1) if len(part) > 1 else (0,))]
    made: dict[str, Any] = {"period": " to ".join(names), "n": n, "converted_n": k, "converted_share": k / n}
    return made | {"converted_share_low": low, "converted_share_high": high}
