"""What the tables of silences say: after how long a customer without a contract counts as gone."""

from __future__ import annotations

import math

import pandas as pd

from journeykit import present
from journeykit.config import Churn
from journeykit.readings.churn import days
from journeykit.readings.funnel_words import share_of


def reactivation(table: pd.DataFrame, choice: Churn) -> str:
    """Say which silence counts as leaving, who still comes back after it, and what the usual rule would do."""
    if table.empty:
        return ""
    within = days(table["within_days"].iloc[0])
    read, quantile = (float(table.attrs[name]) for name in ("read_days", "quantile_days"))
    chosen = table[table["chosen"]]
    text = ""
    if len(chosen):
        line = chosen.iloc[0]
        why = (
            "as journey.toml says"
            if choice.quiet
            else f"the shortest silence after which at most {present.share(choice.returns, 0)} come back"
        )
        text = (
            f"Whoever has been silent for more than {days(line['quiet_days'])} counts as gone, {why}: of those silent "
            f"for so long, {share_of(line, 'return_share')} still come back within {within} "
            f"(n = {present.count(line['people_n'])} people)."
        )
    if choice.quiet and math.isfinite(read) and f"{read:g}" != f"{float(table.attrs['quiet_days']):g}":
        at_most = f"at most {present.share(choice.returns, 0)} come back"
        text += f" The curve says {days(read)}: the shortest after which {at_most}."
    if not math.isfinite(read):
        text += (
            f" No silence was followed for long enough to say that at most {present.share(choice.returns, 0)} come "
            f"back within {within}."
        )
    back = float(table.attrs["quantile_return_share"])
    if math.isfinite(back):
        text += (
            f" The usual rule, the silence that 95 % of the completed ones do not exceed, would say {days(quantile)}, "
            f"after which {present.share(back)} still come back: it leaves out those who have not come back yet."
        )
    return text.strip()


def sensitivity(table: pd.DataFrame) -> str:
    """Say how far the figures move with the silence that counts as leaving."""
    if len(table) < 2:
        return ""
    known = table.dropna(subset="survival_share")
    if len(known) < 2:
        return ""
    short, long = known.iloc[0], known.iloc[-1]
    points = 100 * (float(long["survival_share"]) - float(short["survival_share"]))
    sides = [
        f"{present.share(line['survival_share'])} are still there after {days(line['horizon_days'])}, and "
        f"{present.share(line['came_back_share'])} of those called gone were active again later"
        for line in (short, long)
    ]
    silences = [days(line["quiet_days"]) for line in (short, long)]
    return (
        f"With {silences[0]} of silence as leaving, {sides[0]}; with {silences[1]}, {sides[1]}. The choice moves the "
        f"share by {present.number(abs(points))} percentage points: compare only figures that were made with the same "
        "silence."
    )
