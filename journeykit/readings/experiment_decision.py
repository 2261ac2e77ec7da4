"""What chapter 08 decides: guardrails, money, verdicts and the findings of each experiment."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.experiments.decision import BEST_FIRST, NO_VERDICT, SHIP, STOP, UNCLEAR, WAIT
from journeykit.experiments.guardrails import GREEN, GREY, RED, YELLOW
from journeykit.experiments.results import Results
from journeykit.experiments.words import difference
from journeykit.findings import Finding
from journeykit.readings import experiment_trust as trust
from journeykit.readings.funnel_words import chance

CHAPTER = "08_experiment"
ACTIONS = {
    SHIP: "Give {arm} to everyone and keep watching {metric} and the guardrails.",
    STOP: "Keep control, and find out why {metric} got worse before another try.",
    UNCLEAR: "Keep control, unless a gain too small for this test to see is worth its cost; see the power table.",
    WAIT: "Let the test run to its end, and do not act on what it shows so far.",
    NO_VERDICT: "Let the test run on, or correct its metrics, before deciding.",
}
PAGE = {
    "decision": ("sentence", "owner"),
    "colour": ("metric", "effect", "margin", "verdict"),
    "yearly_money": ("metric", "yearly_units"),
    "standard_difference": ("measure", "control", "treatment", "standard_difference"),
    "silent_share": ("segment", "value", "arm", "n", "silent_share", "verdict"),
    "effect_together": ("other", "metric", "n", "difference", "verdict"),
    "both_share": ("other", "n", "both_share", "p_value", "verdict"),
    "segments_n": ("segment", "metric", "segments_n", "n", "p_adjusted"),
    "later_days": ("metric", "early_effect", "late_effect", "later_days", "verdict"),
    "missing_n": ("segment", "value", "arm", "n", "share", "missing_n"),
    "several_arms_n": ("status", "people_n", "people_share", "several_arms_n"),
    "check": ("check", "arm", "people_n", "people_share", "verdict"),
    "better_probability_share": ("metric", "better_probability_share", "effect"),
    "value": ("segment", "value", "metric", "effect", "p_adjusted"),
    "cuped_effect": ("metric", "cuped_effect", "cuped_variance_cut_share"),
    "relative_share": ("metric", "effect", "p_adjusted"),
    "detectable": ("metric", "n_control", "n_treatment", "detectable", "needed_control_n", "days_left"),
    "fingerprint": ("item", "declared"),
    "early": ("starts_at", "ends_at", "n", "open_n", "state"),
}


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of the chapter that a page has room for; the file has all of them.

    The arm is shown where an experiment has several treatments, a caution where a comparison has one.
    """
    kind = next((name for name in PAGE if name in table), "")
    columns = ["experiment", *(["decision"] if kind == "decision" else [])]
    columns += [name for name in PAGE.get(kind, ()) if name in table or kind in ("decision", "relative_share")]
    several = "arm" in table and len(table[["experiment", "arm"]].drop_duplicates()) > len(set(table["experiment"]))
    if kind != "decision" and several and "arm" not in columns:
        columns.insert(2, "arm")
    if kind == "relative_share" and (table["caution"] != "").any():
        columns.append("caution")
    return columns


def guardrails(table: pd.DataFrame) -> str:
    """Say which guardrails held, which are open and which are harmed."""
    if table.empty:
        return ""
    told = []
    for colour, words in (
        (RED, "harmed beyond the margin"),
        (YELLOW, "not excluded to be harmed"),
        (GREEN, "shown to hold"),
        (GREY, "not compared"),
    ):
        rows = table.loc[table["colour"] == colour]
        if len(rows):
            named = ", ".join(f"{row['metric']} in {row['experiment']}" for row in rows.to_dict("records"))
            told.append(f"{words}: {named}")
    return f"Guardrails – {'; '.join(told)}."


def money(table: pd.DataFrame, currency: str) -> str:
    """Say what the effects on primary metrics are worth in a year."""
    told = []
    for row in table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []:
        ends = [_signed(row[f"yearly_money_{side}"], currency) for side in ("low", "high")]
        people = f"{present.count(row['yearly_units'])} people a year ({row['units_from']})"
        told.append(
            f"{row['experiment']}: the change in {row['metric']} is worth {_signed(row['yearly_money'], currency)} "
            f"a year (95 % interval {ends[0]} to {ends[1]}) for {people}, if the effect lasts."
        )
    return " ".join(told)


def verdict(table: pd.DataFrame) -> str:
    """Count the decisions and name the tests behind each."""
    if table.empty:
        return ""
    parts = []
    others = [decision for decision in dict.fromkeys(table["decision"]) if decision not in BEST_FIRST]
    for decision in (SHIP, *others, STOP, UNCLEAR, WAIT, NO_VERDICT):
        names = table.loc[table["decision"] == decision, "experiment"].tolist()
        if names:
            parts.append(f"{decision}: {', '.join(names)}")
    return f"Of {trust.in_words(len(table))} – {'; '.join(parts)}."


def findings(
    verdict: pd.DataFrame,
    split: pd.DataFrame,
    *,
    results: Results | None = None,
    changes: pd.DataFrame | None = None,
) -> list[Finding]:
    """Return one finding per experiment, and one for each thing that should make a reader pause.

    The clearest winner is the headline. With `results`, where people are lost is said with a broken split, and effects
    that differ by segment, fade, or depend on another test have findings of their own; with `changes`, declarations
    that were changed after the start.
    """
    winners = verdict.loc[verdict["decision"] == SHIP] if len(verdict) else verdict
    headline = winners.loc[winners["p_value"].astype(float).idxmin(), "experiment"] if len(winners) else ""
    lost = results.split_segments if results is not None else pd.DataFrame()
    found = [
        _broken_split(row, split.loc[split["experiment"] == row["experiment"]], lost)
        if row["reason"] == "split"
        else _finding(row, str(headline))
        for row in verdict.to_dict("records")
    ]
    owners = dict(zip(verdict["experiment"], verdict["owner"], strict=True)) if len(verdict) else {}
    if results is not None:
        found += [*_segments(results, owners), *_novelty(results, owners), *_interactions(results, owners)]
    return found + (_changed(changes, owners) if changes is not None else [])


def _finding(row: dict[Any, Any], headline: str) -> Finding:
    decided = row["decision"] != NO_VERDICT
    scale = 100 if row["unit"] == "share" else 1  # a difference of shares is a number of percentage points
    action = ACTIONS.get(row["decision"], "Do as declared: {decision} ({arm}).").format(**row)
    caveat = "Holds for people like those exposed, within the declared window."
    if row.get("early"):
        caveat = "An early look: the interval is the anytime-valid one, and the test is not over."
    return Finding(
        id=f"experiment_{row['experiment']}",
        chapter=CHAPTER,
        statement=f"{row['experiment']}: {row['sentence']}",
        value=row["effect"] * scale if decided else None,
        low=row["effect_low"] * scale if decided else None,
        high=row["effect_high"] * scale if decided else None,
        n=row["n"] if decided else None,
        unit=_unit(row["unit"]) if decided else "",
        better=row["better"] if decided else "",
        evidence="experimental" if decided else "observed",
        caveat=caveat if decided else "",
        action=action,
        owner=row["owner"],
        table=f"{CHAPTER}__verdict",
        headline=row["experiment"] == headline,
        label=f"{row['experiment']}: change in {row['metric']}" if decided else "",
    )


def _broken_split(row: dict[Any, Any], arms: pd.DataFrame, lost: pd.DataFrame) -> Finding:
    worst = trust.furthest(arms)
    where = ""
    if len(lost):
        mine = lost.loc[lost["experiment"] == row["experiment"]]
        where = f" Start here: {trust.split_segments(mine)}" if (mine["verdict"] != "ok").any() else ""
    return Finding(
        id=f"experiment_{row['experiment']}_split",
        chapter=CHAPTER,
        statement=f"{row['experiment']}: {row['sentence']}",
        value=worst["share"],
        low=worst["share_low"],
        high=worst["share_high"],
        n=int(arms["n"].sum()),
        unit="share",
        evidence="observed",
        caveat=f"The value is the share of people in {worst['arm']}; it was planned as "
        f"{present.share(worst['planned_share'])}.",
        action=f"Find out where assignments are lost, repair it, and run the test again.{where}",
        owner=row["owner"],
        table=f"{CHAPTER}__split",
        label=f"{row['experiment']}: share in {worst['arm']}",
    )


def _segments(results: Results, owners: dict[str, str]) -> list[Finding]:
    found = []
    for row in results.segments.to_dict("records"):
        joint = results.segments_joint
        same = (joint["experiment"] == row["experiment"]) & (joint["segment"] == row["segment"])
        same &= (joint["metric"] == row["metric"]) & (joint["arm"] == row["arm"])
        p_value, scale = joint.loc[same, "p_adjusted"].iloc[0], 100 if row["unit"] == "share" else 1
        name = row["segment"].removeprefix("segment_").replace("_", " ")
        found.append(
            Finding(
                id=f"experiment_{row['experiment']}_{row['metric']}_{row['arm']}_{row['segment']}_{row['value']}",
                chapter=CHAPTER,
                statement=f"{row['experiment']}: with {name} {row['value']} the effect on {row['metric']} is "
                f"{difference(row['effect'], row['unit'])}; it differs by {name} ({chance(p_value)}).",
                value=row["effect"] * scale,
                low=row["effect_low"] * scale,
                high=row["effect_high"] * scale,
                n=row["n_control"] + row["n_treatment"],
                unit=_unit(row["unit"]),
                better=row["better"],
                evidence="experimental",
                caveat="One of several segments; the intervals of all of them hold together.",
                owner=owners.get(row["experiment"], ""),
                table=f"{CHAPTER}__segments",
            )
        )
    return found


def _novelty(results: Results, owners: dict[str, str]) -> list[Finding]:
    rows = results.trends.loc[results.trends["verdict"] == "fades"] if len(results.trends) else results.trends
    return [
        Finding(
            id=f"experiment_{row['experiment']}_{row['metric']}_{row['arm']}_fades",
            chapter=CHAPTER,
            statement=trust_sentence,
            value=row["later_days"],
            low=row["later_days_low"],
            high=row["later_days_high"],
            n=row["n"],
            unit="days",
            evidence="experimental",
            caveat="The value is how much later events come than in control. An offer made at the moment of exposure "
            "looks like this too.",
            action=f"Count on the effect of the later days, not on that of the whole window, when {row['metric']} is "
            "planned.",
            owner=owners.get(row["experiment"], ""),
            table=f"{CHAPTER}__trends",
        )
        for row, trust_sentence in ((row, _fading(row)) for row in rows.to_dict("records"))
    ]


def _fading(row: dict[Any, Any]) -> str:
    early, late = (difference(row[f"{half}_effect"], row["unit"]) for half in ("early", "late"))
    return (
        f"{row['experiment']}: the daily effect on {row['metric']} fades from {early} in the first half of "
        f"{row['days']} days to {late} in the second ({chance(row['p_adjusted'])})."
    )


def _interactions(results: Results, owners: dict[str, str]) -> list[Finding]:
    table = results.interactions
    rows = table.loc[table["verdict"] == "interact"] if len(table) else table
    found = []
    for row in rows.to_dict("records"):
        scale = 100 if row["unit"] == "share" else 1
        alone, together = (difference(row[f"effect_{which}"], row["unit"]) for which in ("alone", "together"))
        found.append(
            Finding(
                id=f"experiment_{row['experiment']}_{row['metric']}_{row['arm']}_{row['other']}_{row['other_arm']}",
                chapter=CHAPTER,
                statement=f"The effect of {row['experiment']} on {row['metric']} is {alone} in the control of "
                f"{row['other']} and {together} in its {row['other_arm']} ({chance(row['p_adjusted'])}).",
                value=row["difference"] * scale,
                low=row["difference_low"] * scale,
                high=row["difference_high"] * scale,
                n=row["n"],
                unit=_unit(row["unit"]),
                evidence="experimental",
                caveat="The value is the difference of the two effects.",
                action="Decide the two tests together, and test the combination that is to stay.",
                owner=owners.get(row["experiment"], ""),
                table=f"{CHAPTER}__interactions",
            )
        )
    return found


def _changed(changes: pd.DataFrame, owners: dict[str, str]) -> list[Finding]:
    return [
        Finding(
            id=f"experiment_{name}_changed",
            chapter=CHAPTER,
            statement=trust.changes(rows),
            n=len(rows),
            evidence="observed",
            caveat="Held against the first run that read the test after its start.",
            action="Read the result as exploratory, or run the test again as it is declared now.",
            owner=owners.get(str(name), ""),
            table=f"{CHAPTER}__changes",
        )
        for name, rows in (changes.groupby("experiment", sort=False) if len(changes) else [])
    ]


def _unit(unit: str) -> str:
    return "points" if unit == "share" else unit


def _signed(value: float, currency: str) -> str:
    return f"{'−' if value < 0 else '+'}{present.money(abs(value), currency)}"
