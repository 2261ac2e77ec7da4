"""The summary's sentences: how many findings there are, and how many of them rest on an experiment."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.stats import not_enough

SHOWN = ["chapter", "label", "estimate", "interval", "n", "evidence"]


def headlines(found: Sequence[Finding]) -> pd.DataFrame:
    """Return the headline figures as text: one row per figure, with its interval, its n and what it rests on."""
    rows = [
        {
            "chapter": finding.chapter,
            "label": finding.label or finding.statement,
            "estimate": present.amount(finding.value, finding.unit),
            "interval": present.amount_interval(finding.low, finding.high, finding.unit),
            "n": finding.n,
            "evidence": finding.evidence,
        }
        for finding in found
        if finding.headline
    ]
    if not rows:
        return not_enough(SHOWN, "no chapter has a headline figure on this study")
    return pd.DataFrame(rows, columns=SHOWN).sort_values(["chapter", "label"], ignore_index=True)


def actions(found: Sequence[Finding]) -> pd.DataFrame:
    """Return what to do, in the order of rank: one row per finding that names an action."""
    rows = [
        {
            "rank": rank,
            "action": f.action,
            "owner": f.owner or "to be named",
            "because": f.statement,
            "evidence": f.evidence,
        }
        for rank, f in enumerate((f for f in found if f.action), start=1)
    ]
    columns = ["rank", "action", "owner", "because", "evidence"]
    return pd.DataFrame(rows, columns=columns) if rows else not_enough(columns, "no finding names an action")


def evidence(found: Sequence[Finding]) -> str:
    """Say how much of the report rests on experiments."""
    if not found:
        return "No chapter has written a finding yet. Run the chapters before the summary."
    tested = sum(finding.evidence == "experimental" for finding in found)
    return (
        f"{len(found)} findings from {len({finding.chapter for finding in found})} chapters; {tested} of them rest "
        "on a randomised experiment, the others describe or associate and do not prove a cause."
    )
