"""What the reconciliation says: that the counts balance, or which do not."""

from __future__ import annotations

import pandas as pd

from journeykit import present, reconcile
from journeykit.findings import Finding

CHAPTER = "05_paths"


def reconciliation(table: pd.DataFrame) -> str:
    """Say whether all counts balance, which differ by a known number, and which do not hold."""
    if table.empty:
        return ""
    broken, n = reconcile.broken(table), len(table)
    equal = int((table["expected"] == reconcile.EQUAL).sum())
    text = (
        f"All {present.count(n)} counts balance: {present.count(equal)} are equal, and "
        + ("1 differs as it should." if n - equal == 1 else f"{present.count(n - equal)} differ as they should.")
        if broken.empty
        else f"{present.count(len(broken))} of {present.count(n)} counts do not balance: {_listed(broken)}. Do not use "
        "the figures of these chapters before that is explained."
    )
    apart = table[(table["expected"] != reconcile.EQUAL) & (table["difference_n"] > 0) & table["holds"].astype(bool)]
    if len(apart):
        row = apart.sort_values(["difference_n", "what"], ascending=[False, True]).iloc[0]
        text += (
            f" The largest difference that should be: {row['what']}, {present.count(row['n_a'])} "
            f"({row['counted_by_a']}) against {present.count(row['n_b'])} ({row['counted_by_b']})."
        )
    return text


def findings(table: pd.DataFrame) -> list[Finding]:
    """Return a warning when counts do not balance."""
    broken = reconcile.broken(table)
    if broken.empty:
        return []
    return [
        Finding(
            id="reconciliation",
            chapter=CHAPTER,
            statement=f"{present.count(len(broken))} of {present.count(len(table))} counts of map, funnel, paths and "
            f"journeys do not balance: {_listed(broken)}.",
            value=len(broken),
            n=len(table),
            unit="counts",
            better="down",
            caveat="It is a count, not an estimate, so it has no interval.",
            action="Build the study anew (01_ingest, 02_stitch); if it stays, report it with this table.",
            table=f"{CHAPTER}__reconciliation",
            headline=True,
            label="Counts that do not balance",
        )
    ]


def _listed(broken: pd.DataFrame, most: int = 3) -> str:
    rows = broken.head(most).to_dict("records")
    parts = [
        f"{row['what']} ({row['counted_by_a']}: {present.count(row['n_a'])}, {row['counted_by_b']}: "
        f"{present.count(row['n_b'])})"
        for row in rows
    ]
    return "; ".join(parts) + ("; …" if len(broken) > most else "")
