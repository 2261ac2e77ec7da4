"""Findings of who stays and who leaves: the share still there, when people leave, which segments stay, and why."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from journeykit import present
from journeykit.config import Churn
from journeykit.findings import Finding
from journeykit.readings.churn import (
    CHAPTER,
    SURE,
    at_horizon,
    days,
    gap,
    gap_bounds,
    is_leaving,
    largest,
    losses,
    survival_sentence,
)
from journeykit.readings.funnel_words import share_of


def findings(
    curve: pd.DataFrame,
    loss: pd.DataFrame,
    compared: pd.DataFrame,
    why: pd.DataFrame,
    choice: Churn,
    owner: Callable[[str], str] = lambda event: "",
) -> list[Finding]:
    """Return the findings of who stays: the share still there, when people leave, which segments stay, and why.

    `loss` is of `hazard.losses`, `compared` of `adjust.adjusted_segments` (or `compare.compare_segments`), `why` of
    `reasons.by_reason`. `owner` gives the team that owns an event.
    """
    team = owner(choice.end[0] if choice.end else choice.activity[0])
    found = [_survival_finding(curve, choice, team), _loss_finding(loss, choice, team)]
    return [finding for finding in [*found, _segment_finding(compared, team), _reason_finding(why, team)] if finding]


def _survival_finding(curve: pd.DataFrame, choice: Churn, team: str) -> Finding | None:
    point = at_horizon(curve, choice.horizon_days)
    if point is None:
        return None
    caveat = "Assumes that people who joined late in the period leave as those before them did."
    if choice.kind == "inactivity":
        caveat += " A shorter silence would call more people gone, a longer one fewer."
    good = is_leaving(choice)
    return Finding(
        id="churn.survival",
        chapter=CHAPTER,
        statement=survival_sentence(point, choice),
        value=point["survival_share"],
        low=point["survival_share_low"],
        high=point["survival_share_high"],
        n=point["n"],
        unit="share",
        better="up" if good else "down",
        evidence="observed",
        caveat=caveat,
        owner=team,
        table=f"{CHAPTER}__survival",
        headline=True,
        label=f"{'Still there' if good else 'Not yet'} after {point['day']:.0f} days",
    )


def _loss_finding(table: pd.DataFrame, choice: Churn, team: str) -> Finding | None:
    if table.empty or not float(table["p_value"].iloc[0]) < SURE:
        return None
    line = table.iloc[0]
    period = f"days {line['from_day']:.0f}–{line['to_day']:.0f}"
    return Finding(
        id="churn.when",
        chapter=CHAPTER,
        statement=losses(table, choice),
        value=line["half_days"],
        low=line["half_days_low"],
        high=line["half_days_high"],
        n=line["ended_n"],
        unit="days",
        evidence="observed",
        caveat="A mixture of loyal and fickle people makes the chance change with tenure even if nobody changes.",
        action=f"Reach people before {period} of their tenure, when leaving is likeliest."
        if is_leaving(choice)
        else "",
        owner=team,
        table=f"{CHAPTER}__losses",
        label="Half of those who leave have left by day",
    )


def _segment_finding(table: pd.DataFrame, team: str) -> Finding | None:
    clear = table[table["p_value"] < SURE] if len(table) else table
    if clear.empty:
        return None
    line = largest(clear, "difference_days")
    made = "made alike in the covariates" if "unadjusted_days" in table else "as they are"
    who = f"those of “{line['reference']}”, their people {made}"
    shorter = line["segment"] if line["difference_days"] < 0 else line["reference"]
    return Finding(
        id="churn.segment",
        chapter=CHAPTER,
        statement=(
            f"Within {days(line['horizon_days'])}, people of “{line['segment']}” stay {gap(line)} than {who} "
            f"(difference {gap_bounds(line)} days)."
        ),
        value=line["difference_days"],
        low=line["difference_days_low"],
        high=line["difference_days_high"],
        n=line["n"],
        unit="days",
        better="up",
        evidence="associated",
        caveat="Segments may differ in what was not measured.",
        action=f"Look at what differs in the first weeks of “{shorter}”, and test a remedy there.",
        owner=team,
        table=f"{CHAPTER}__{'adjusted' if 'unadjusted_days' in table else 'segments'}",
    )


def _reason_finding(table: pd.DataFrame, team: str) -> Finding | None:
    if table.empty:
        return None
    line = table.iloc[0]
    return Finding(
        id="churn.reason",
        chapter=CHAPTER,
        statement=(
            f"Within {days(line['horizon_days'])}, {share_of(line, 'left_share')} leave for “{line['reason']}”, more "
            f"than for any other reason ({present.count(line['ended_n'])} of n = {present.count(line['n'])})."
        ),
        value=line["left_share"],
        low=line["left_share_low"],
        high=line["left_share_high"],
        n=line["n"],
        unit="share",
        better="down",
        evidence="observed",
        caveat="The reason is the one recorded; without it, some of these people would have left for another.",
        owner=team,
        table=f"{CHAPTER}__reasons",
    )
