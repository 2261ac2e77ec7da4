"""Effects of experiments in words, with their units."""

from __future__ import annotations

from typing import Any

from journeykit import present


def difference(value: float, unit: str, sign: bool = True) -> str:
    """Return a difference of means with its unit: shares in percentage points.

    >>> difference(0.0184, "share"), difference(-2.5, "EUR"), difference(0.05, "events", sign=False)
    ('+1.8 percentage points', '−EUR 2.50 per person', '0.050 events per person')
    """
    if present.missing(value):
        return present.NONE
    mark = "−" if value < 0 else "+" if sign else ""
    size = abs(value)
    if unit == "share":
        return f"{mark}{present.number(100 * size, 1)} percentage points"
    if unit in ("score", "events"):
        return f"{mark}{present.number(size, 3)} {'events per person' if unit == 'events' else 'on the scale 0–1'}"
    return f"{mark}{unit} {present.number(size, 2)} per person"


def change(row: dict[Any, Any]) -> str:
    """Return an effect with its interval and p-value as text, from one row of the table of `effects`."""
    interval = " to ".join(difference(row[f"effect_{side}"], row["unit"]).split(" ")[0] for side in ("low", "high"))
    if row["unit"] not in ("share", "score", "events"):
        interval = f"{difference(row['effect_low'], row['unit'])} to {difference(row['effect_high'], row['unit'])}"
    return f"{difference(row['effect'], row['unit'])} (95 % interval {interval}; p {chance(row['p_value'])})"


def chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"
