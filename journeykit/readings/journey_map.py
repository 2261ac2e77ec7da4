"""Sentences and findings of the journey map and the Customer Journey Score."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.journey_score import MOVED, RETAINED

CHAPTER = "03_map"
ENOUGH_WEIGHT = 0.6  # a score that covers less of the declared weight is no headline


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
    lowest, order = _lowest(table, min_answers)
    if lowest is None:
        return f"{text} No touchpoint has {min_answers} answers, so satisfaction is not compared."
    bounds = present.interval(lowest["satisfaction_low"], lowest["satisfaction_high"], digits=2)
    where = f"after {lowest['touchpoint']} ({lowest['stage']})"
    figure = (
        f"{present.number(lowest['satisfaction'], 2)} on a scale of 0–1 "
        f"({bounds}, n = {present.count(lowest['answers_n'])} answers)"
    )
    if order == "alone":
        return f"{text} Only {lowest['touchpoint']} has {min_answers} answers: satisfaction {where} is {figure}."
    text += f" Satisfaction is lowest {where}: {figure}."
    return text if order == "clear" else text + " Its interval overlaps with that of others: the order is not certain."


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
        f"{present.count(row['people_n'])} ({_share(row, 'reached_share')}) "
        f"have reached a later stage so far; {median}."
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
        f"{present.number(weak['satisfaction'], 2)} and {_third(weak)}."
    )


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of the score that a page has room for: a column of notes only where a stage has one."""
    third = MOVED if MOVED in table else RETAINED
    columns = ["stage", "weight", "satisfaction", "answers_n", "n", third, "points"]
    if len(table) and (table.loc[table["stage"] != "Total", "note"].fillna("") != "").any():
        columns.append("note")
    return columns


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
    if len(score):
        total, weak = _total(score), _weakest(score)
        third = MOVED if MOVED in score else RETAINED
        bias = (
            f"Satisfaction rests on {present.count(total['answers_n'])} answers, "
            f"{'moving on is counted over all people' if MOVED in score else 'staying over all customers'}."
        )
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
                headline=bool(total["coverage_share"] >= ENOUGH_WEIGHT),
                label="Customer Journey Score",
            )
        )
        best = 100 * weak["weight_used"]
        missing = best - weak["points"]
        found.append(
            Finding(
                id="weakest_stage",
                chapter=CHAPTER,
                statement=f"{weak['stage']} loses most points of the score: {present.number(missing)} of its "
                f"{present.number(best)} (satisfaction {present.number(weak['satisfaction'], 2)}, "
                f"{present.share(weak[third])} {'move on' if third == MOVED else 'stay'}).",
                value=missing,
                low=best - weak["points_high"],
                high=best - weak["points_low"],
                n=weak["n"],
                unit="points",
                better="down",
                caveat="A stage with a larger weight has more points to lose; the weights are a choice.",
                action=f"Work on {_lever(weak)} in {weak['stage']} first.",
                owner=owner(str(weak["stage"])),
                table=f"{CHAPTER}__score",
            )
        )
    lowest, order = _lowest(touchpoints, min_answers)
    if lowest is not None:
        where = f"after {lowest['touchpoint']} ({lowest['stage']})"
        figure = f"{present.number(lowest['satisfaction'], 2)} on a scale of 0–1"
        alone = f"Satisfaction {where} is {figure}; no other touchpoint has {min_answers} answers."
        doubt = "." if order == "clear" else ", though not clearly below the next."
        found.append(
            Finding(
                id="lowest_satisfaction",
                chapter=CHAPTER,
                statement=alone if order == "alone" else f"Satisfaction is lowest {where}: {figure}{doubt}",
                value=lowest["satisfaction"],
                low=lowest["satisfaction_low"],
                high=lowest["satisfaction_high"],
                n=lowest["answers_n"],
                unit="score",
                better="up",
                evidence="associated",
                caveat="An answer is credited to the last touch before it, not to its cause. Only people who answered "
                "are in it; see the bounds in the chapter.",
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
    name = MOVED if MOVED in row else RETAINED
    other = "helping people to move on" if name == MOVED else "keeping customers"
    return "satisfaction" if row["satisfaction"] < row[name] else other


def _third(row: pd.Series) -> str:
    """The third factor of the score in words: who moves on, or who stays."""
    if MOVED in row:
        return f"{present.share(row[MOVED])} moving on in time"
    return f"{present.share(row[RETAINED])} still customers"


def _lowest(table: pd.DataFrame, min_answers: int) -> tuple[pd.Series | None, str]:
    """Return the touchpoint with the lowest satisfaction, and how it stands to the next.

    "clear": its interval lies below those of all others; "unclear": it does not; "alone": no other has enough answers.
    """
    known = table[(table["answers_n"] >= min_answers) & table["satisfaction"].notna()] if len(table) else table
    if known.empty:
        return None, ""
    ordered = known.sort_values(["satisfaction", "touchpoint"])
    if len(ordered) == 1:
        return ordered.iloc[0], "alone"
    sure = bool(ordered.iloc[0]["satisfaction_high"] < ordered.iloc[1:]["satisfaction_low"].min())
    return ordered.iloc[0], "clear" if sure else "unclear"
