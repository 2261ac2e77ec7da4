"""Sentences and findings of the journey map and the Customer Journey Score."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from journeykit import present
from journeykit.findings import Finding

CHAPTER = "03_map"


def definition(table: pd.DataFrame) -> str:
    """Return the definition of the score in words."""
    return str(table.attrs.get("definition", ""))


def touchpoint_map(table: pd.DataFrame, *, min_answers: int = 30) -> str:
    """Say which touchpoint reaches most people, after which fewest move on, and where satisfaction is lowest."""
    if table.empty:
        return ""
    widest = table.sort_values(["people_n", "touchpoint"], ascending=[False, True]).iloc[0]
    text = (
        f"{widest['touchpoint']} ({widest['stage']}) reaches most people: {present.count(widest['people_n'])} of "
        f"{present.count(widest['n'])} ({_share(widest, 'reach_share')})."
    )
    lowest, sure = _lowest(table, min_answers)
    if lowest is None:
        return f"{text} No touchpoint has {min_answers} answers, so satisfaction is not compared."
    bounds = present.interval(lowest["satisfaction_low"], lowest["satisfaction_high"], digits=2)
    text += (
        f" Satisfaction is lowest after {lowest['touchpoint']} ({lowest['stage']}): "
        f"{present.number(lowest['satisfaction'], 2)} on a scale of 0–1 "
        f"({bounds}, n = {present.count(lowest['answers_n'])} answers)."
    )
    return text if sure else text + " Its interval overlaps with that of others, so the order is not certain."


def stage_flow(table: pd.DataFrame) -> str:
    """Say after which stage fewest people moved on so far."""
    onward = table[table["next"] == "a later stage"] if len(table) else table
    if onward.empty:
        return ""
    row = onward.sort_values(["reached_share", "stage"]).iloc[0]
    median = (
        "fewer than half do so while observed, so there is no median time"
        if present.missing(row["median_days"])
        else f"the median time to it is {present.days(row['median_days'])}, counting those who have not moved yet"
    )
    return (
        f"Fewest people move on from {row['stage']}: {present.count(row['reached_people_n'])} of "
        f"{present.count(row['people_n'])} ({_share(row, 'reached_share')}) reach a later stage; {median}."
    )


def journey_score(table: pd.DataFrame) -> str:
    """State the score, its coverage and what the weakest stage costs."""
    if table.empty:
        return ""
    total, weak = _total(table), _weakest(table)
    text = (
        f"The Customer Journey Score is {present.number(total['points'])} of 100 points "
        f"({present.interval(total['points_low'], total['points_high'])}; {present.count(total['n'])} people, "
        f"{present.count(total['answers_n'])} answers; {total['note']})."
    )
    left = list(table.loc[table["points"].isna(), "stage"])
    if left:
        text += (
            f" It covers {present.share(total['coverage_share'], 0)} of the weight: {', '.join(left)} had too little "
            "data and the weights of the other stages were scaled up."
        )
    return text + (
        f" Most points are lost in {weak['stage']}: {present.number(weak['points'])} of "
        f"{present.number(100 * weak['weight_used'])} are reached, with satisfaction "
        f"{present.number(weak['satisfaction'], 2)} and {present.share(weak['retention_share'])} moving on."
    )


def response_bounds(table: pd.DataFrame) -> str:
    """Say how few answered and what that leaves open."""
    if table.empty:
        return ""
    row = table.sort_values(["answered_share", "stage"]).iloc[0]
    bounds = present.interval(row["satisfaction_if_silent_unhappy"], row["satisfaction_if_silent_happy"], digits=2)
    return (
        f"In {row['stage']} {present.count(row['answered_people_n'])} of {present.count(row['n'])} people answered "
        f"({_share(row, 'answered_share')}); depending on "
        f"what the others think, mean satisfaction is anywhere in {bounds}, and "
        f"{present.number(row['satisfaction'], 2)} is the view of those who answered."
    )


def findings(
    score: pd.DataFrame,
    touchpoints: pd.DataFrame,
    *,
    owner: Callable[[str], str] = lambda name: "",
    min_answers: int = 30,
) -> list[Finding]:
    """Return the score, the stage where most points are lost, and the touchpoint with the lowest satisfaction."""
    found = []
    bias = "Only people who answered a survey are in it; see the bounds in the chapter."
    if len(score):
        total, weak = _total(score), _weakest(score)
        found.append(
            Finding(
                id="journey_score",
                chapter=CHAPTER,
                statement=f"The Customer Journey Score is {present.number(total['points'])} of 100 points, on "
                f"{present.share(total['coverage_share'], 0)} of the weight.",
                value=total["points"],
                low=total["points_low"],
                high=total["points_high"],
                n=total["n"],
                unit="points",
                better="up",
                caveat=f"{bias} Compare it only with scores of the same {total['note']}.",
                table=f"{CHAPTER}__score",
                headline=True,
                label="Customer Journey Score",
            )
        )
        missing = 100 * weak["weight_used"] - weak["points"]
        found.append(
            Finding(
                id="weakest_stage",
                chapter=CHAPTER,
                statement=f"{weak['stage']} loses most points of the score: {present.number(missing)} of its "
                f"{present.number(100 * weak['weight_used'])} (satisfaction {present.number(weak['satisfaction'], 2)}, "
                f"{present.share(weak['retention_share'])} move on).",
                value=weak["points"],
                low=weak["points_low"],
                high=weak["points_high"],
                n=weak["n"],
                unit="points",
                better="up",
                caveat="A stage with a larger weight has more points to lose; the weights are a choice.",
                action=f"Work on {_lever(weak)} in {weak['stage']} first.",
                owner=owner(str(weak["stage"])),
                table=f"{CHAPTER}__score",
            )
        )
    lowest, sure = _lowest(touchpoints, min_answers)
    if lowest is not None:
        found.append(
            Finding(
                id="lowest_satisfaction",
                chapter=CHAPTER,
                statement=f"Satisfaction is lowest after {lowest['touchpoint']} ({lowest['stage']}): "
                f"{present.number(lowest['satisfaction'], 2)} on a scale of 0–1"
                + ("." if sure else ", though not clearly below the next."),
                value=lowest["satisfaction"],
                low=lowest["satisfaction_low"],
                high=lowest["satisfaction_high"],
                n=lowest["answers_n"],
                unit="",
                better="up",
                evidence="associated",
                caveat=f"An answer is credited to the last touch before it, not to its cause. {bias}",
                action=f"Read the comments given after {lowest['touchpoint']}.",
                owner=owner(str(lowest["touchpoint"])),
                table=f"{CHAPTER}__touchpoints",
            )
        )
    return found


def _share(row: pd.Series, name: str) -> str:
    return f"{present.share(row[name])}, {present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')}"


def _total(score: pd.DataFrame) -> pd.Series:
    return score[score["stage"] == "Total"].iloc[0]


def _weakest(score: pd.DataFrame) -> pd.Series:
    scored = score[(score["stage"] != "Total") & score["points"].notna()]
    lost = 100 * scored["weight_used"] - scored["points"]
    return scored.iloc[int(lost.to_numpy().argmax())]


def _lever(row: pd.Series) -> str:
    return "satisfaction" if row["satisfaction"] < row["retention_share"] else "helping people to move on"


def _lowest(table: pd.DataFrame, min_answers: int) -> tuple[pd.Series | None, bool]:
    """Return the touchpoint with the lowest satisfaction, and whether its interval is clear of the next one's mean."""
    known = table[(table["answers_n"] >= min_answers) & table["satisfaction"].notna()] if len(table) else table
    if known.empty:
        return None, False
    ordered = known.sort_values(["satisfaction", "touchpoint"])
    sure = len(ordered) > 1 and bool(ordered.iloc[0]["satisfaction_high"] < ordered.iloc[1:]["satisfaction_low"].min())
    return ordered.iloc[0], sure
