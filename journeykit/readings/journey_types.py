"""What the types of journey say, in sentences and a finding."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.journey_types import Types

CHAPTER = "05_paths"
ENOUGH = 30  # journeys of fewer no conversion is compared
_TOLD = 2  # values that describe a type


def types(found: Types, table: pd.DataFrame, apart: pd.DataFrame) -> str:
    """Say how many types there are, what sets each apart, and how sure that is; or what it means to have none."""
    if found.reason or table.empty:
        tried = len(found.choices) > 0
        return (
            "Journeys differ by degrees here: types cut out of them would be kinds that are not there." if tried else ""
        )
    parts = []
    for row in table.to_dict("records"):
        own = apart[apart["type"] == row["type"]].head(_TOLD)
        told = " and ".join(_against(value) for value in own.to_dict("records"))
        parts.append(f"“{row['type']}”, {_share(row, 'share')} of journeys, set apart by {told}")
    chosen = found.choices[found.choices["chosen"]].iloc[0]
    note = f" {found.note}" if found.note else ""
    return (
        f"There are {present.count(len(table))} types of journey: {'; '.join(parts)}. On other samples of the same "
        f"journeys they come out alike again (agreement {present.number(chosen['agreement'], 2)} of 1).{note}"
    )


def findings(found: Types, table: pd.DataFrame) -> list[Finding]:
    """Return the types that convert most and least, where their intervals are apart."""
    enough = table[table["n"] >= ENOUGH] if len(table) else table
    if found.reason or len(enough) < 2:
        return []
    ordered = enough.sort_values(["converted_share", "type"])
    low, high = ordered.iloc[0], ordered.iloc[-1]
    if low["converted_share_high"] >= high["converted_share_low"]:
        return []
    return [
        Finding(
            id="journey_types",
            chapter=CHAPTER,
            statement=f"Of {present.count(len(table))} types of journey, “{high['type']}” converts most, "
            f"{_share(high, 'converted_share')}, and “{low['type']}” least, {_share(low, 'converted_share')}.",
            value=high["converted_share"],
            low=high["converted_share_low"],
            high=high["converted_share_high"],
            n=int(high["n"]),
            unit="share",
            better="up",
            evidence="associated",
            caveat="The outcome was not used to find the types, but a longer journey has more in it and had more time "
            "to convert. That a type converts more does not mean that leading people into it would.",
            action=f"Look at what journeys of “{low['type']}” lack, and test whether offering it helps.",
            table=f"{CHAPTER}__journey_types",
        )
    ]


def _against(row: Any) -> str:
    return f"{row['value']} ({present.share(row['inside_share'], 0)} against {present.share(row['outside_share'], 0)})"


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
