"""What the table of `funnel_modes` says, in sentences and a finding."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.funnel_modes import NAMES, YOURS, digits

CHAPTER = "04_funnel"
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys", "attempt": "attempts"}


def modes(table: pd.DataFrame, per: str = "person") -> str:
    """Say what the same funnel reads in each tool, which is furthest from yours, and why."""
    mine, theirs = _rows(table)
    if not mine or not theirs:
        return ""
    decimals, top = _digits(mine, *theirs), _furthest(theirs)
    said = (
        f"By your rules, {_share(mine, decimals)} of {present.count(mine['n'])} {_UNITS[per]} go through. The same "
        f"events read {_listed(theirs, decimals)}, as these tools count when nothing is set in them."
    )
    if abs(top["difference"]) < 0.5 * 10 ** -(decimals + 2):
        return said + " Here the choice of rules makes no difference."
    return said + f" {NAMES[top['mode']]} is furthest from yours, by {_points(top, decimals)}. {top['why']}"


def findings(table: pd.DataFrame, per: str = "person") -> list[Finding]:
    """Return the largest difference that is a matter of definition, when it is larger than chance makes likely."""
    mine, theirs = _rows(table)
    if not mine or not theirs:
        return []
    top = _furthest(theirs)
    if top["difference_low"] <= 0 <= top["difference_high"]:
        return []
    name, decimals = NAMES[top["mode"]], _digits(mine, top)
    shares = [present.share(row["converted_share"], decimals) for row in (top, mine)]
    return [
        Finding(
            id="funnel_modes",
            chapter=CHAPTER,
            statement=f"The same funnel reads {shares[0]} by the rules of {name} and {shares[1]} by yours: another way "
            f"of counting, not other {_UNITS[per]}.",
            value=100 * top["difference"],
            low=100 * top["difference_low"],
            high=100 * top["difference_high"],
            n=int(mine["n"]),
            unit="points",
            caveat=f"{top['why']} The tools also see other events and other people, which is not imitated here.",
            action="Write the window and the rule of entry beside each conversion rate that you quote, and compare "
            "rates under the same rules only.",
            table=f"{CHAPTER}__modes",
            label=f"{name} against your rules",
        )
    ]


def _rows(table: pd.DataFrame) -> tuple[dict[Any, Any], list[dict[Any, Any]]]:
    """Return your row, and those of the tools."""
    rows = table.to_dict("records")
    mine = next((row for row in rows if row["mode"] == YOURS), {})
    return mine, [row for row in rows if row["mode"] not in (YOURS, "strict")]


def _furthest(rows: list[dict[Any, Any]]) -> dict[Any, Any]:
    return max(rows, key=lambda row: abs(row["difference"]))


def _digits(*rows: dict[Any, Any]) -> int:
    return digits(max(row["converted_share"] for row in rows))


def _listed(rows: list[dict[Any, Any]], decimals: int) -> str:
    ranked = sorted(rows, key=lambda row: (-row["converted_share"], row["mode"]))
    parts = [f"{present.share(row['converted_share'], decimals)} in {NAMES[row['mode']]}" for row in ranked]
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]


def _share(row: dict[Any, Any], decimals: int) -> str:
    bounds = present.interval(row["converted_share_low"], row["converted_share_high"], "share", decimals)
    return f"{present.share(row['converted_share'], decimals)} ({bounds})"


def _points(row: dict[Any, Any], decimals: int) -> str:
    value, low, high = (
        present.number(100 * row[f"difference{side}"], decimals).replace("-", "−") for side in ("", "_low", "_high")
    )
    return f"{value} points (95 % interval {low} to {high})"
