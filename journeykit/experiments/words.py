"""Effects of experiments in words, with their units."""

from __future__ import annotations

from typing import Any

from journeykit import present

SPAN = " to "


def difference(value: float, unit: str, sign: bool = True) -> str:
    """Return a difference of means with its unit: shares in percentage points.

    >>> difference(0.0184, "share"), difference(-2.5, "EUR"), difference(0.05, "events", sign=False)
    ('+1.8 percentage points', '−EUR 2.50 per person', '0.050 events per person')
    >>> difference(1.25, "days"), difference(-0.02, "per session"), difference(12, "EUR at the 90 % quantile")
    ('+1.2 days', '−0.020 per session', '+12.000 EUR at the 90 % quantile')
    """
    if present.missing(value):
        return present.NONE
    mark = "−" if value < 0 else "+" if sign else ""
    size = abs(value)
    if is_money(unit):
        return f"{mark}{unit} {present.number(size, 2)} per person"
    return f"{mark}{_plain(size, unit)}"


def change(row: dict[Any, Any]) -> str:
    """Return an effect with its interval and p-value as text, from one row of the table of `effects`."""
    return f"{difference(row['effect'], row['unit'])} ({interval(row)}; p {chance(row['p_value'])})"


def interval(row: dict[Any, Any], low: str = "effect_low", high: str = "effect_high") -> str:
    """Return an interval of an effect as text.

    >>> interval({"effect_low": 0.01, "effect_high": 0.02, "unit": "share"})
    '95 % interval +1.0 to +2.0'
    """
    unit = row["unit"]
    ends = [difference(row[side], unit) for side in (low, high)]
    if not is_money(unit):
        ends = [end.split(" ")[0] for end in ends]
    return f"95 % interval {SPAN.join(ends)}"


def is_money(unit: str) -> bool:
    """Say whether a unit is a currency (or the value of a study that has none)."""
    return unit == "value" or (len(unit) == 3 and unit.isupper())


def chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def _plain(size: float, unit: str) -> str:
    if unit == "share":
        return f"{present.number(100 * size, 1)} percentage points"
    if unit == "days":
        return f"{present.number(size, 1)} days"
    told = {"events": "events per person", "score": "on the scale 0–1"}.get(unit, unit)
    return f"{present.number(size, 3)} {told}".rstrip()
