"""The sentences that a decision is made of: why there is none, what decided, what stays open, and what it is worth."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.config import Metric
from journeykit.experiments.assignment import BEFORE_START, NEVER
from journeykit.experiments.guardrails import good_side
from journeykit.experiments.money import interval_that_decides
from journeykit.experiments.words import chance, change, difference


def decided(row: dict[Any, Any]) -> str:
    """Return an effect with the interval that decides and its p-value, from a row of `effects`."""
    low, high = interval_that_decides(row)
    if present.missing(low):
        return f"{difference(row['effect'], row['unit'])}, without an interval that may be read yet"
    return change({**row, "effect_low": low, "effect_high": high})


def margin(row: dict[Any, Any]) -> str:
    """Return the harm that a guardrail tolerates, as words."""
    return difference(row["margin"], row["unit"], sign=False)


def broken(split: pd.DataFrame) -> str:
    """Say that a split is broken, and by how much."""
    worst: Any = split.loc[(split["share"] - split["planned_share"]).abs().idxmax()]
    return (
        f"No verdict: the split is broken. {present.share(worst['share'])} of {present.count(split['n'].sum())} people "
        f"are in {worst['arm']} instead of {present.share(worst['planned_share'])} (p {chance(worst['p_value'])}), so "
        "any difference may come from who is missing."
    )


def fault(assignment: pd.DataFrame | None) -> str:
    """Say why the arms are not groups drawn by lot, or ""; exposures before the start do not undo the lot."""
    if assignment is None or assignment.empty:
        return ""
    failed = assignment.loc[assignment["verdict"].isin(["failed", "broken"]) & (assignment["check"] != BEFORE_START)]
    if failed.empty:
        return ""
    row = failed.iloc[0].to_dict()
    told = f"{present.share(row['people_share'])} of {present.count(row['n'])} people"
    if row["check"] == NEVER:
        unlike = f"and the arms differ in that (p {chance(row['p_value'])})"
        return f"{told} assigned to {row['arm']} were never exposed, {unlike}"
    return f"{told} were {row['check']}, so the arms are not groups drawn by lot"


def early_look(timing: pd.DataFrame) -> str:
    """Say that a test was read before it was over, and when that will be."""
    row = timing.iloc[0].to_dict()
    read = f"{pd.Timestamp(row['read_at']):%Y-%m-%d}"
    if not present.missing(row["ends_at"]):
        return f"This is an early look: read on {read}, and the declared horizon ends on {row['ends_at']:%Y-%m-%d}."
    still = f"the windows of {present.count(row['open_n'])} people are still open on {read}"
    return f"This is an early look: {still}, and no horizon is declared."


def left_open(guards: list[Metric], found: dict[str, dict[Any, Any]]) -> str:
    """Say what the guardrails leave open although none is shown to be harmed."""
    unjudged = [metric.name for metric in guards if metric.name not in found]
    text = f" The guardrail {', '.join(unjudged)} could not be compared." if unjudged else ""
    for metric in guards:
        if metric.name not in found:
            continue
        row, (low, high) = found[metric.name], good_side(found[metric.name])
        # A margin of 0 can never be shown to hold, so an interval that merely reaches the harmful side says nothing.
        if low < -metric.margin and (metric.margin > 0 or high < 0):
            limit = difference(metric.margin, row["unit"], sign=False)
            text += f" Guardrail {metric.name}: {decided(row)}; harm beyond the margin of {limit} is not excluded."
    return text


def yearly(worth: dict[Any, Any], currency: str) -> str:
    """Say what an effect is worth in a year, from a row of `money`."""
    ends = [_signed(worth[f"yearly_money_{side}"], currency) for side in ("low", "high")]
    people = present.count(worth["yearly_units"])
    return (
        f"That is {_signed(worth['yearly_money'], currency)} a year (95 % interval {ends[0]} to {ends[1]}) "
        f"for {people} people a year, if the effect lasts."
    )


def _signed(value: float, currency: str) -> str:
    mark = "−" if value < 0 else "+"
    return f"{mark}{present.money(abs(value), currency)}"
