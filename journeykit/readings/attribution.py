"""Sentences and findings of attribution."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from journeykit import present
from journeykit.config import seconds
from journeykit.findings import Finding

CHAPTER = "06_attribution"
CREDIT = "This is credit, not incrementality: no model knows what would have happened without the channel."


def paths(table: pd.DataFrame, lookback: str) -> str:
    """Account for conversions and paths: with a touch, without one, not converted, still open."""
    if table.empty:
        return ""
    credited = table[table["path"] != ""]
    won, lost, still = (int(credited[name].sum()) for name in ("conversions_n", "nulls_n", "open_n"))
    without = int(table.loc[table["path"] == "", "conversions_n"].sum())
    return (
        f"{present.count(won)} of {present.count(won + without)} conversions had a touch of a marketing channel in the "
        f"{_period(lookback)} before them; the other {present.count(without)} get no credit. "
        f"Paths that ended without a conversion: {present.count(lost)}, {present.count(still)} of them so recently "
        f"that they may still convert. Distinct paths: {present.count(len(credited))}."
    )


def credit(table: pd.DataFrame) -> str:
    """Say how much the leading channels' credit depends on the model."""
    if table.empty:
        return ""
    parts = []
    for row in _range(table).head(3).to_dict("records"):
        text = f"{row['channel']} gets {present.interval(row['least'], row['most'], 'share')} of the credit"
        alone = row["least_model"] == row["most_model"]
        parts.append(text if alone else f"{text} (least by {row['least_model']}, most by {row['most_model']})")
    refused = table.attrs.get("markov", "")
    return f"Depending on the model, {'; '.join(parts)}. {CREDIT}" + (f" Not computed: {refused}." if refused else "")


def removal(table: pd.DataFrame) -> str:
    """Say which channel the chain of the Markov model depends on most."""
    known = table[table["removal_effect"].notna()] if len(table) else table
    if known.empty:
        return ""
    row = known.sort_values(["removal_effect", "channel"], ascending=[False, True]).iloc[0]
    bounds = present.interval(row["removal_effect_low"], row["removal_effect_high"], "share")
    return (
        f"If everybody who arrives by {row['channel']} left instead, the chain would lose "
        f"{present.share(row['removal_effect'])} ({bounds}) of its conversions."
    )


def cost(table: pd.DataFrame, currency: str) -> str:
    """Say what a credited conversion costs in the dearest and the cheapest channel."""
    known = table[table["cost_per_conversion"].notna()] if len(table) else table
    if known.empty:
        return ""
    parts = []
    for channel, rows in known.groupby("channel"):
        low, high = rows["cost_per_conversion"].min(), rows["cost_per_conversion"].max()
        parts.append((float(high), f"{currency} {present.interval(low, high, digits=0)} in {channel}"))
    listed = ", ".join(text for _, text in sorted(parts, reverse=True)[:6])
    return f"Depending on the model, a credited conversion costs {listed}."


def findings(
    table: pd.DataFrame,
    costs: pd.DataFrame,
    *,
    currency: str = "",
    owner: Callable[[str], str] = lambda name: "",
    top: int = 3,
) -> list[Finding]:
    """Return the range of credit of the leading channels, and the dearest channel."""
    found = []
    if len(table):
        model = "markov" if (table["model"] == "markov").any() else str(table["model"].iloc[-1])
        for row in _range(table).head(top).to_dict("records"):
            chosen = table[(table["model"] == model) & (table["channel"] == row["channel"])].iloc[0]
            spread = present.interval(row["least"], row["most"], "share")
            found.append(
                Finding(
                    id=f"credit_{row['channel']}",
                    chapter=CHAPTER,
                    statement=f"{row['channel']} gets {spread} of the credit for conversions, depending on the model "
                    f"({present.share(chosen['credit_share'])} by {model}).",
                    value=chosen["credit_share"],
                    low=chosen["credit_share_low"],
                    high=chosen["credit_share_high"],
                    n=chosen["n"],
                    unit="share",
                    evidence="associated",
                    caveat=f"{CREDIT} Test it.",
                    action="",
                    table=f"{CHAPTER}__credit",
                )
            )
    known = costs[costs["cost_per_conversion"].notna()] if len(costs) else costs
    if len(known):
        model = "markov" if (known["model"] == "markov").any() else str(known["model"].iloc[-1])
        rows = known[known["model"] == model].sort_values(["cost_per_conversion", "channel"], ascending=[False, True])
        dear, all_models = rows.iloc[0], known[known["channel"] == rows.iloc[0]["channel"]]["cost_per_conversion"]
        found.append(
            Finding(
                id="dearest_channel",
                chapter=CHAPTER,
                statement=f"A credited conversion costs most in {dear['channel']}: {currency} "
                f"{present.interval(all_models.min(), all_models.max(), digits=0)}, depending on the model.",
                value=dear["cost_per_conversion"],
                low=dear["cost_per_conversion_low"],
                high=dear["cost_per_conversion_high"],
                n=dear["n"],
                unit=currency,
                better="down",
                evidence="associated",
                caveat=f"{CREDIT} The interval is that of {model}; spend is taken as known.",
                action=f"Before moving budget, switch {dear['channel']} off in some regions or weeks and compare.",
                owner=owner(str(dear["channel"])) or owner("Ad"),
                table=f"{CHAPTER}__cost",
            )
        )
    return found


def _period(duration: str) -> str:
    days = seconds(duration) / 86400
    return f"{days:g} days" if days >= 2 else present.seconds(seconds(duration))


def _range(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each channel, the least and the most credit and the models that give it; largest mean share first."""
    rows = []
    for channel, part in table.groupby("channel"):
        ordered = part.sort_values(["credit_share", "model"])
        least, most = ordered.iloc[0], ordered.iloc[-1]
        rows.append(
            {
                "channel": channel,
                "mean": part["credit_share"].mean(),
                "least": least["credit_share"],
                "least_model": least["model"],
                "most": most["credit_share"],
                "most_model": most["model"],
            }
        )
    return pd.DataFrame(rows).sort_values(["mean", "channel"], ascending=[False, True])
