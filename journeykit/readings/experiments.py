"""What the tables of chapter 08 say: computed sentences, and the findings of each experiment."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.experiments.decision import NO_VERDICT, SHIP, STOP, UNCLEAR
from journeykit.experiments.words import change, difference
from journeykit.findings import Finding

CHAPTER = "08_experiment"


def exposure(table: pd.DataFrame) -> str:
    """Say how many people are compared and why the others are not."""
    if table.empty:
        return ""
    counts = table.groupby("status", sort=False)["people_n"].sum()
    total, tests = int(counts.sum()), table["experiment"].nunique()
    others = ", ".join(f"{present.count(n)} ({status})" for status, n in counts.items() if status != "compared" and n)
    text = (
        f"In {_tests(tests)}, {present.count(counts['compared'])} of {present.count(total)} exposed people are compared"
    )
    repeat = " (a person counts once in each test)" if tests > 1 else ""
    return f"{text}{repeat}; not compared: {others}." if others else f"{text}{repeat}."


def split(table: pd.DataFrame) -> str:
    """Say which splits can be trusted."""
    if table.empty:
        return ""
    tests = table["experiment"].nunique()
    broken = table.loc[table["verdict"] == "broken"]
    sound = tests - broken["experiment"].nunique()
    text = f"The observed split is compatible with the plan in {sound} of {_tests(tests)}."
    for name, arms in broken.groupby("experiment", sort=False):
        text += f" {name}: {_off_plan(arms)}; no effect of it is shown."
    return text


def response(table: pd.DataFrame) -> str:
    """Say whether the arms answered at the same rate."""
    if table.empty:
        return ""
    told = []
    for (experiment, metric, verdict), arms in table.groupby(["experiment", "metric", "verdict"], sort=False):
        if verdict == "differs":
            rates = ", ".join(f"{row['arm']} {present.share(row['answered_share'])}" for row in arms.to_dict("records"))
            told.append(f"{metric} in {experiment} ({rates})")
    if told:
        return f"The arms answered at different rates for {'; '.join(told)}: do not read this difference as an effect."
    return "No satisfaction metric shows a difference in how many people of each arm answered."


def effects(table: pd.DataFrame) -> str:
    """State the primary comparison of each experiment."""
    told = []
    for row in table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []:
        relative = present.share(row["relative_share"]).replace("-", "−")
        versus = f", {relative} relative to control" if not present.missing(row["relative_share"]) else ""
        told.append(
            f"{row['experiment']}: {row['metric']} {_level(row['control'], row['unit'])} in control and "
            f"{_level(row['treatment'], row['unit'])} in {row['arm']}, {change(row)}{_holm(row)}{versus}."
        )
    return " ".join(told)


def cuped(table: pd.DataFrame) -> str:
    """Say how much variance the period before exposure explains, and what that is worth in people."""
    if table.empty:
        return ""
    best = table.loc[table["cuped_variance_cut_share"].idxmax()]
    cut = float(best["cuped_variance_cut_share"])
    if cut <= 0 or cut >= 1:
        return "CUPED removed no variance: what people did before their exposure does not predict these metrics."
    worth = present.share(1 / (1 - cut) - 1)
    return (
        f"CUPED removed between {present.share(max(float(table['cuped_variance_cut_share'].min()), 0.0))} and "
        f"{present.share(cut)} of the variance. The largest cut, {best['metric']} in {best['experiment']}, is worth "
        f"as much as {worth} more people."
    )


def power(table: pd.DataFrame, split: pd.DataFrame | None = None) -> str:
    """Say what each test could see in its primary metric, what the declared effect would need, and who is left out."""
    told = []
    for row in table.loc[table["role"] == "primary"].to_dict("records") if len(table) else []:
        sizes = f"{present.count(row['n_control'])} and {present.count(row['n_treatment'])}"
        text = f"{row['experiment']}: with {sizes} people"
        if present.missing(row["detectable"]):
            text += f" no change in {row['metric']} would be seen reliably."
        else:
            text += f" a change in {row['metric']} of {difference(row['detectable'], row['unit'], sign=False)}"
            text += f" ({present.share(row['detectable_share'])} relative) or more is seen four times out of five."
        needed = row["needed_control_n"]
        if not present.missing(needed):
            enough = needed <= row["n_control"] and row["needed_treatment_n"] <= row["n_treatment"]
            size = present.share(row["minimum_effect_share"], 0)
            told_days = (
                "" if present.missing(row["needed_days"]) else f", {present.count(row['needed_days'])} days in all"
            )
            people = f"{present.count(needed)} and {present.count(row['needed_treatment_n'])} people"
            text += (
                f" The declared {size} {'needed only' if enough else 'needs'} {people}{'' if enough else told_days}."
            )
        told.append(text)
    known = split if split is not None and len(split) else pd.DataFrame(columns=["verdict", "experiment"])
    for name in dict.fromkeys(known.loc[known["verdict"] == "broken", "experiment"]):
        told.append(f"{name}: the split is broken, so neither the power of the test nor the size it needs is given.")
    return " ".join(told)


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of the chapter that a page has room for; the file has all of them.

    The arm is shown where an experiment has several treatments, a caution where a comparison has one.
    """
    kinds = {
        "decision": ["sentence", "owner"],
        "cuped_effect": ["metric", "effect", "cuped_effect", "cuped_variance_cut_share"],
        "relative_share": ["metric", "role", "control", "treatment", "effect", "relative_share", "p_adjusted"],
        "detectable": ["metric", "n_control", "n_treatment", "detectable", "needed_control_n", "needed_treatment_n"],
    }
    kind = next((name for name in kinds if name in table), "")
    columns = ["experiment", *(["decision"] if kind == "decision" else []), *kinds.get(kind, [])]
    columns += ["needed_days"] if kind == "detectable" else []
    if (
        kind != "decision"
        and "arm" in table
        and len(table[["experiment", "arm"]].drop_duplicates()) > len(set(table["experiment"]))
    ):
        columns.insert(2, "arm")
    if kind == "relative_share" and (table["caution"] != "").any():
        columns.append("caution")
    return columns


def verdict(table: pd.DataFrame) -> str:
    """Count the decisions and name the tests behind each."""
    if table.empty:
        return ""
    parts = []
    for decision in (SHIP, STOP, UNCLEAR, NO_VERDICT):
        names = table.loc[table["decision"] == decision, "experiment"].tolist()
        if names:
            parts.append(f"{decision}: {', '.join(names)}")
    return f"Of {_tests(len(table))} – {'; '.join(parts)}."


def findings(verdict: pd.DataFrame, split: pd.DataFrame) -> list[Finding]:
    """Return one finding per experiment; the clearest winner is the headline."""
    winners = verdict.loc[verdict["decision"] == SHIP] if len(verdict) else verdict
    headline = winners.loc[winners["p_value"].astype(float).idxmin(), "experiment"] if len(winners) else ""
    return [
        _broken_split(row, split.loc[split["experiment"] == row["experiment"]])
        if row["reason"] == "split"
        else _finding(row, str(headline))
        for row in verdict.to_dict("records")
    ]


def _finding(row: dict[Any, Any], headline: str) -> Finding:
    decided = row["decision"] != NO_VERDICT
    actions = {
        SHIP: f"Give {row['arm']} to everyone and keep watching {row['metric']} and the guardrails.",
        STOP: f"Keep control, and find out why {row['metric']} got worse before another try.",
        UNCLEAR: "Keep control, unless a gain too small for this test to see is worth its cost; see the power table.",
        NO_VERDICT: "Let the test run on, or correct its metrics, before deciding.",
    }
    scale = 100 if row["unit"] == "share" else 1  # a difference of shares is a number of percentage points
    return Finding(
        id=f"experiment_{row['experiment']}",
        chapter=CHAPTER,
        statement=f"{row['experiment']}: {row['sentence']}",
        value=row["effect"] * scale if decided else None,
        low=row["effect_low"] * scale if decided else None,
        high=row["effect_high"] * scale if decided else None,
        n=row["n"] if decided else None,
        unit=("points" if row["unit"] == "share" else row["unit"]) if decided else "",
        better=row["better"] if decided else "",
        evidence="experimental" if decided else "observed",
        caveat="Holds for people like those exposed, within the declared window." if decided else "",
        action=actions[row["decision"]],
        owner=row["owner"],
        table=f"{CHAPTER}__verdict",
        headline=row["experiment"] == headline,
        label=f"{row['experiment']}: change in {row['metric']}" if decided else "",
    )


def _broken_split(row: dict[Any, Any], arms: pd.DataFrame) -> Finding:
    worst = _worst(arms)
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
        action="Find out where assignments are lost, repair it, and run the test again.",
        owner=row["owner"],
        table=f"{CHAPTER}__split",
        label=f"{row['experiment']}: share in {worst['arm']}",
    )


def _worst(arms: pd.DataFrame) -> Any:
    return arms.loc[(arms["share"] - arms["planned_share"]).abs().idxmax()]


def _off_plan(arms: pd.DataFrame) -> str:
    worst = _worst(arms)
    p_value = "p < 0.001" if worst["p_value"] < 0.001 else f"p = {worst['p_value']:.3f}"
    interval = present.interval(worst["share_low"], worst["share_high"], "share")
    return (
        f"{worst['arm']} has {present.share(worst['share'])} ({interval}) of {present.count(arms['n'].sum())} people, "
        f"planned {present.share(worst['planned_share'])} ({p_value})"
    )


def _level(value: float, unit: str) -> str:
    return present.share(value) if unit == "share" else difference(value, unit, sign=False)


def _holm(row: dict[Any, Any]) -> str:
    adjusted = row["p_adjusted"]
    if present.missing(adjusted) or adjusted <= row["p_value"]:
        return ""
    return f", p {'< 0.001' if adjusted < 0.001 else f'= {adjusted:.3f}'} after Holm's correction"


def _tests(n: int) -> str:
    return f"{n} test" if n == 1 else f"{n} tests"
