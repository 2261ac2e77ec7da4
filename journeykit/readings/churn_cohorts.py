"""What cohorts, the lifecycle and staying after each stage say, in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from journeykit import differences, present
from journeykit.churn.lifecycle import quick_ratio
from journeykit.findings import Finding
from journeykit.readings.funnel_words import chance, share_of

CHAPTER = "07_churn"
NEWNESS = "The first periods of the data are no guide: customers from before look new in them."


def cohorts(table: pd.DataFrame, period: str = "month") -> str:
    """Say how many come back at first, how many later, and whether newer cohorts do better than older ones."""
    mean = _mean(table)
    if mean.empty:
        return "" if table.empty else f"No {period} after the start is over for any cohort yet."
    first, last = mean.iloc[0], mean.iloc[-1]
    text = f"In the {_nth(first['period'])} {period} after the start {share_of(first, 'retained_share')} came back"
    text += f" (n = {present.count(first['n'])})"
    if last["period"] > first["period"]:
        text += (
            f", in the {_nth(last['period'])} {share_of(last, 'retained_share')} (n = {present.count(last['n'])}; "
            f"{_cohorts(last['cohorts_n'])} old enough)"
        )
    return f"{text}. {_newer(table, period)} {note(table)}".strip().replace("  ", " ")


def lifecycle(table: pd.DataFrame) -> str:
    """Say who was active in the last whole period, who was lost, and whether more are gained than lost."""
    rows = _last_whole(table)
    if rows is None:
        return ""
    states = {str(row["state"]): row for row in rows.to_dict("records")}
    if "new" not in states:
        return ""
    name = str(rows["period"].iloc[0])
    parts = [f"{share_of(states[state], 'state_share')} {state}" for state in ("new", "returning", "resurrected")]
    text = f"In {name} {present.count(states['new']['n'])} people were active: {', '.join(parts)}."
    if "dormant" not in states:
        return text
    lost = states["dormant"]
    text += (
        f" Of the {present.count(lost['n'])} active in the period before, {present.count(lost['people_n'])} fell "
        f"silent, or {share_of(lost, 'state_share')}."
    )
    ratios = quick_ratio(table)
    one = ratios[ratios["period"] == name]
    if one.empty or present.missing(float(one["quick_ratio"].iloc[0])):
        return text
    whole = ratios[ratios["complete"]]
    up, down = int((whole["quick_ratio_low"] > 1).sum()), int((whole["quick_ratio_high"] < 1).sum())
    return (
        f"{text} For each one lost {_ratio(one.iloc[0])} were gained. Of {len(whole)} whole periods {up} clearly grew "
        f"and {down} clearly shrank. {NEWNESS}"
    )


def by_stage(table: pd.DataFrame) -> str:
    """Say after which stage people stay least, and whether that stands out."""
    if table.empty:
        return ""
    days = present.days(float(table["horizon_days"].iloc[0]), 0)
    low = table.iloc[int(np.argmin(table["retained_share"].to_numpy(float)))]
    text = (
        f"Of customers who entered {low['stage']}, {share_of(low, 'retained_share')} are customers still {days} later "
        f"(n = {present.count(low['n'])})"
    )
    if len(table) == 1:
        return f"{text}. {note(table)}".strip()
    high = table.iloc[int(np.argmax(table["retained_share"].to_numpy(float)))]
    apart = low["retained_share_high"] < high["retained_share_low"]
    verdict = "and its interval lies below that of" if apart else "but its interval overlaps with that of"
    return (
        f"{text}: the lowest of {len(table)} stages, {verdict} the highest, {high['stage']} with "
        f"{share_of(high, 'retained_share')}. {note(table)}"
    ).strip()


def stickiness(table: pd.DataFrame) -> str:
    """Say how many came once only, and how many in at least half of the periods."""
    if table.empty:
        return ""
    period, last = str(table.attrs.get("period", "period")), int(table["active_periods_n"].max())
    n, often = int(table["n"].iloc[0]), table[table["active_periods_n"] >= last / 2]
    once = share_of(table.iloc[0], "people_share")
    return (
        f"Of {present.count(n)} people active in the last {last} whole {period}s, {once} were so in one {period} only, "
        f"and {present.share(often['people_n'].sum() / n)} in half of them or more."
    )


def definition(table: pd.DataFrame) -> str:
    """Return what a table's figures count."""
    return str(table.attrs.get("definition", ""))


def note(table: pd.DataFrame) -> str:
    """Return what a table says about what it left out."""
    return str(table.attrs.get("note", ""))


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns that a page has room for; the file has all of them."""
    columns = ["cohort", "period", "state", "stage", "active_periods_n", "n", "returned_n", "people_n", "gained_n"]
    columns += ["lost_n", "ended_n", "retained_share", "state_share", "people_share", "quick_ratio", "complete"]
    return [name for name in columns if name in table]


def findings(
    table: pd.DataFrame,
    life: pd.DataFrame,
    stages: pd.DataFrame,
    *,
    period: str = "month",
    owner: Callable[[str], str] = lambda name: "",
) -> list[Finding]:
    """Return how many come back, whether more are gained than lost, and the stage after which people stay least.

    Needs the tables of `cohorts.cohorts`, `lifecycle.lifecycle` and `stages.retention_by_stage`; empty ones give none.
    """
    return [*_return_finding(table, period), *_growth_finding(life), *_stage_finding(stages, owner)]


def _return_finding(table: pd.DataFrame, period: str) -> list[Finding]:
    mean = _mean(table)
    if mean.empty:
        return []
    row = mean.iloc[0]
    return [
        Finding(
            id="churn.cohorts",
            chapter=CHAPTER,
            statement=f"{share_of(row, 'retained_share')} of those who start come back in the {_nth(row['period'])} "
            f"{period} after it ({_cohorts(row['cohorts_n'])}, n = {present.count(row['n'])}).",
            value=row["retained_share"],
            low=row["retained_share_low"],
            high=row["retained_share_high"],
            n=row["n"],
            unit="share",
            better="up",
            caveat=f"{definition(table)} Periods that are not over are left out.",
            table=f"{CHAPTER}__cohorts",
            label=f"Back in the {_nth(row['period'])} {period}",
        )
    ]


def _growth_finding(table: pd.DataFrame) -> list[Finding]:
    ratios = quick_ratio(table)
    whole = ratios[ratios["complete"] & ratios["quick_ratio"].notna()] if len(ratios) else ratios
    if whole.empty:
        return []
    row = whole.iloc[-1]
    shrinks = row["quick_ratio_high"] < 1
    return [
        Finding(
            id="churn.quick_ratio",
            chapter=CHAPTER,
            statement=f"In {row['period']}, {_ratio(row)} people were gained for each one lost "
            f"({present.count(row['gained_n'])} new or resurrected, {present.count(row['lost_n'])} dormant).",
            value=row["quick_ratio"],
            low=row["quick_ratio_low"],
            high=row["quick_ratio_high"],
            n=row["n"],
            unit="ratio",
            better="up",
            caveat=f"Dormant is not lost for good: some come back. {NEWNESS}",
            action="Find out what those who fell silent did last before you pay for more new ones." if shrinks else "",
            table=f"{CHAPTER}__lifecycle",
            label="Gained for each one lost",
        )
    ]


def _stage_finding(table: pd.DataFrame, owner: Callable[[str], str]) -> list[Finding]:
    if len(table) < 2:
        return []
    low = table.iloc[int(np.argmin(table["retained_share"].to_numpy(float)))]
    high = table.iloc[int(np.argmax(table["retained_share"].to_numpy(float)))]
    apart = low["retained_share_high"] < high["retained_share_low"]
    days = present.days(float(low["horizon_days"]), 0)
    doubt = "" if apart else " The intervals overlap: the order of the stages may be chance."
    return [
        Finding(
            id="churn.stage",
            chapter=CHAPTER,
            statement=f"Customers stay least after {low['stage']}: {share_of(low, 'retained_share')} are there {days} "
            f"later, {share_of(high, 'retained_share')} after {high['stage']}.",
            value=low["retained_share"],
            low=low["retained_share_low"],
            high=low["retained_share_high"],
            n=low["n"],
            unit="share",
            better="up",
            evidence="associated",
            caveat=f"Who enters a stage differs from who does not; the stages share people.{doubt}",
            action=f"Ask customers in {low['stage']} why they leave, and test what could keep them." if apart else "",
            owner=owner(str(low["stage"])),
            table=f"{CHAPTER}__retention_by_stage",
            label=f"Still there {days} after {low['stage']}",
        )
    ]


def _mean(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["cohort_at"].isna() & (table["period"] > 0)] if len(table) else table


def _last_whole(table: pd.DataFrame) -> pd.DataFrame | None:
    whole = table[table["complete"]] if len(table) else table
    return None if whole.empty else whole[whole["period_at"] == whole["period_at"].max()]


def _newer(table: pd.DataFrame, period: str) -> str:
    """Compare the newer half of cohorts with the older one in their first period."""
    rows = table[table["cohort_at"].notna() & (table["period"] == 1) & table["complete"]]
    if len(rows) < 4 or table.attrs.get("occurrence") == "recurring":  # then the same people are in both halves
        return ""
    older, newer = rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :]
    counts = [float(part[name].sum()) for part in (newer, older) for name in ("returned_n", "n")]
    gap, low, high = differences.difference(*counts)
    p, _ = differences.two_shares(*counts)
    since = f"The {len(newer)} newer cohorts (from {newer['cohort'].iloc[0]} on)"
    if p >= 0.05:
        return f"{since} do not differ from the older ones by more than chance explains in that {period} ({chance(p)})."
    nearer, farther = sorted(abs(100 * bound) for bound in (low, high))
    better = f"{present.number(abs(100 * gap))} points {'more' if gap > 0 else 'fewer'}"
    return f"{since} have {better} ({present.interval(nearer, farther)}) than the older ones ({chance(p)})."


def _ratio(row: Any) -> str:
    bounds = present.interval(row["quick_ratio_low"], row["quick_ratio_high"], digits=2)
    return f"{present.number(row['quick_ratio'], 2)} ({bounds})"


def _cohorts(n: Any) -> str:
    return "1 cohort" if n == 1 else f"{present.count(n)} cohorts"


def _nth(number: Any) -> str:
    """Return an ordinal.

    >>> [_nth(k) for k in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    k = int(number)
    ending = "th" if 10 <= k % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return f"{k}{ending}"
