"""What the tables of `opportunity` say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.leaver_sides import words
from journeykit.opportunity import HALF

CHAPTER = "04_funnel"
LONG_DAYS = 365  # a test that lasts longer is no plan
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys", "attempt": "attempts"}


def leaks(table: pd.DataFrame, currency: str = "", per: str = "person") -> str:
    """Say which leak costs most at most, and that it is a bound."""
    if not len(table) or not table["lost_n"].any():
        return ""
    row = table.sort_values(["orders_n", "step_number"], ascending=[False, True]).iloc[0]
    orders = f"{present.count(row['orders_n'])} ({_span(row, 'orders_n')}) conversions"
    money = "" if present.missing(row["value"]) else f", worth {_money(row, 'value', currency)}"
    earned = (
        "" if table.attrs.get("margin", 1.0) == 1 else f", of which {present.share(table.attrs['margin'])} is earned"
    )
    return (
        f"The leak that costs most is at {row['step']}: {present.count(row['lost_n'])} {_UNITS[per]} did not go on to "
        f"{row['next_step']}. Had all of them gone on like the others, they would have brought {orders}{money}{earned}."
        " That is the most it can be, not a forecast: nobody keeps all, and those who leave are less interested."
    )


def size(table: pd.DataFrame, currency: str = "", per: str = "person") -> str:
    """Say what the surest opportunity could bring, on which assumption, and which test would prove it."""
    top = _top(table)
    if top is None:
        return (
            "No column shows a gap between its segments that is larger than chance, so there is nothing to size."
            if len(table)
            else ""
        )
    rank = (
        f" It is among the three largest in {present.share(top['top_three_share'], 0)} of the draws of people."
        if not present.missing(top["top_three_share"])
        else ""
    )
    others = int((_sure(table)).sum()) - 1
    more = (
        f" {present.count(others)} more of {present.count(len(table))} looked at show a gap beyond chance."
        if others
        else f" None of the {present.count(len(table) - 1)} others looked at shows a gap beyond chance."
        if len(table) > 1
        else ""
    )
    days = float(table.attrs.get("days", 0.0))
    return (
        f"The surest opportunity is the gap by {words(str(top['by']))} at {top['step']}: "
        f"{present.share(top['went_on_share'])} of {present.count(top['n'])} {_UNITS[per]} go on to "
        f"{top['next_step']}, in the better segments {_share(top, 'target_share')}. If those behind came up to that, "
        f"and {_kept(table)} of those kept went on like others do, it would be {_gain(top, currency)} in "
        f"{present.count(days)} days."
        f"{_range(top, currency)}{rank}{more} {_test(top, per)} {table.attrs.get('assumption', '')}"
    )


def findings(table: pd.DataFrame, currency: str = "", *, owner: str = "", per: str = "person") -> list[Finding]:
    """Return the surest opportunity as a finding; none when no gap is larger than chance.

    Args:
        table: of `opportunity.size`.
        currency: of the study.
        owner: the team of the step.
        per: what is counted.
    """
    top = _top(table)
    if top is None:
        return []
    money = not present.missing(top["value"])
    name = "value" if money else "extra_n"
    return [
        Finding(
            id="funnel_opportunity",
            chapter=CHAPTER,
            statement=f"Closing the gap by {words(str(top['by']))} at {top['step']} could bring {_gain(top, currency)}"
            f" in {present.count(table.attrs.get('days'))} days, if {_kept(table)} of those kept go on like others do.",
            value=top[name],
            low=top[f"{name}_low"],
            high=top[f"{name}_high"],
            n=int(top["n"]),
            unit=currency if money else "conversions",
            better="up",
            evidence="associated",
            caveat=str(table.attrs.get("assumption", "")) + _range(top, currency),
            action=_test(top, per),
            owner=owner,
            table=f"{CHAPTER}__opportunity",
            label=f"Opportunity at {top['step']}",
        )
    ]


def _sure(table: pd.DataFrame) -> pd.Series:
    return table["extra_n_low"] > 0


def _top(table: pd.DataFrame) -> dict[Any, Any] | None:
    """The first row whose gain is more than nothing at its lower bound."""
    rows = table[_sure(table)] if len(table) else table
    return rows.iloc[0].to_dict() if len(rows) else None


def _kept(table: pd.DataFrame) -> str:
    kept = float(table.attrs.get("kept", HALF))
    return {0.25: "a quarter", 0.5: "half", 1.0: "all"}.get(kept, present.share(kept, 0))


def _gain(row: dict[Any, Any], currency: str) -> str:
    extra = f"{present.count(row['extra_n'])} ({_span(row, 'extra_n')}) more conversions"
    return extra if present.missing(row["value"]) else f"{extra}, worth {_money(row, 'value', currency)}"


def _range(row: dict[Any, Any], currency: str) -> str:
    if present.missing(row["value"]):
        return ""
    return (
        f" If a quarter of those kept go on, it is {_money(row, 'value_if_quarter', currency)}; if all do, "
        f"{_money(row, 'value_if_all', currency)}."
    )


def _test(row: dict[Any, Any], per: str) -> str:
    n, days = row["test_n"], row["test_days"]
    if present.missing(n):
        return "No A/B test could show a gain of this size."
    where = f"{words(str(row['by']))} {row['test_on']}"
    text = f"Prove it by an A/B test on {_UNITS[per]} at {row['step']} with {where}: {present.count(n)} in each arm"
    if present.missing(days):
        return f"{text}."
    text += f", about {present.count(days)} days at the present pace"
    long = ", which is too long: look for a bolder change, or take a nearer step as the metric" * (days > LONG_DAYS)
    return f"{text}{long}."


def _money(row: Any, name: str, currency: str) -> str:
    amount = present.money(row[name], currency).strip()
    return f"{amount} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], digits=0)})"


def _span(row: Any, name: str) -> str:
    return present.interval(row[f"{name}_low"], row[f"{name}_high"], digits=0)


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
