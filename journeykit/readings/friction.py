"""What the tables of friction, detours, hand-offs and time in a state say, in sentences and findings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import present
from journeykit.findings import Finding
from journeykit.friction import ALL, ARROW

CHAPTER = "05_paths"
ENOUGH = 30  # units of fewer no sentence is made
MANY = 2.0  # times the planned steps that make a detour worth a finding
SHORT = 0.9  # of the median: a median of completed stays below it is too short to be passed over
FREQUENT = 10  # values whose next steps are compared
ANSWERED = 10  # people with answers before and after, of fewer no change is told
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys"}
_REPEATS = {"loop": "the same again", "ping_pong": "to and fro with one other", "return": "after two others or more"}


def detours(table: pd.DataFrame, within: str = "journey") -> str:
    """Say where most steps are taken beyond the plan, and how many never arrive there."""
    row = _worst(table)
    if row is None:
        return "" if table.empty else "Too few arrive anywhere on the plan to speak of detours."
    text = (
        f"From {row['from']} to {row['to']} {_UNITS[within]} take a median of {_steps(row)} where "
        f"{present.count(row['planned_n'])} would do. Of {present.count(row['arrived_n'])} that arrive, "
        f"{_share(row, 'twice_share')} take at least twice as many as planned."
    )
    if not present.missing(row["extra_days"]):
        bounds = present.amount_interval(row["extra_days_low"], row["extra_days_high"], "days")
        text += (
            f" Those who take more than planned need {present.amount(row['extra_days'], 'days')} longer than those who "
            f"do not (median; {bounds})."
        )
    text += (
        f" {_share(row, 'never_arrived_share')} of {present.count(row['n'])} never arrive, and are in none of these "
        "figures."
    )
    if row["open_n"]:
        text += f" {present.count(row['open_n'])} more are still on their way."
    return text


def rework(table: pd.DataFrame, within: str = "journey") -> str:
    """Say how much repeats, of which kind it mostly is, and which value is repeated most."""
    if table.empty:
        return ""
    whole = table[table["value"] == ALL].iloc[0]
    kind = max(_REPEATS, key=lambda name: int(whole[f"{name}_n"]))
    text = (
        f"{_share(whole, 'rework_share')} of {present.count(whole['n'])} events repeat what the same {within} has had "
        f"before, most of them {_REPEATS[kind]}: {_share(whole, f'{kind}_share')} of all events. "
        f"{_share(whole, 'units_again_share')} of {present.count(whole['units_n'])} {_UNITS[within]} repeat anything."
    )
    named = table[table["value"] != ALL]
    if len(named) and named["rework_n"].iloc[0]:
        top = named.iloc[0]
        text += f" Most often repeated is {top['value']}: {_share(top, 'rework_share')} of its events."
    return text


def ping_pong(table: pd.DataFrame) -> str:
    """Say between which two values people go to and fro most."""
    if table.empty:
        return ""
    row = table.iloc[0]
    return (
        f"Most go to and fro between {_both(row)}: {present.count(row['n'])} times by "
        f"{present.count(row['people_n'])} people, {_share(row, 'share')} of all events."
    )


def next_steps(table: pd.DataFrame) -> str:
    """Say from where most ways lead on, and from where hardly any other than one."""
    if table.empty:
        return ""
    frequent = table.sort_values(["n", "value"], ascending=[False, True]).head(FREQUENT)
    frequent = frequent.sort_values(["effective_next", "value"], ascending=[False, True])
    most, least = frequent.iloc[0], frequent.iloc[-1]
    text = (
        f"Of the {len(frequent)} most frequent values, {most['value']} leads on in most ways: {_effective(most)} next "
        f"steps count, of {present.count(most['different_n'])} different ones seen."
    )
    if len(frequent) > 1:
        text += f" The surest is {least['value']} with {_effective(least)}, mostly {least['top_next']}."
    return text


def handoffs(table: pd.DataFrame) -> str:
    """Say which hand-off is the most frequent, which takes longest, and after which people are less satisfied."""
    if table.empty:
        return ""
    top = table.iloc[0]
    text = (
        f"The most frequent hand-off is {_pair(top)} ({present.count(top['n'])} times, median "
        f"{present.amount(top['median_wait_days'], 'days')} between the two)."
    )
    many = table[table["n"] >= ENOUGH]
    if len(many) > 1:
        slow = many.sort_values(["median_wait_days", "from_team", "to_team"], ascending=[False, True, True]).iloc[0]
        text += (
            f" Of those that came at least {ENOUGH} times, {_pair(slow)} takes longest: a median of "
            f"{present.amount(slow['median_wait_days'], 'days')}, and one in ten more than "
            f"{present.amount(slow['p90_wait_days'], 'days')}."
        )
    answered = table[table["answered_both_n"] >= ANSWERED]
    if answered.empty:
        return f"{text} After none are there {ANSWERED} people with answers before and after it."
    worse = _worse(table)
    if worse is None:
        return f"{text} Satisfaction is not surely lower after any of the {len(answered)} with enough answers."
    return f"{text} Satisfaction is lower after {_pair(worse)}: {_mood(worse)}."


def time_in_state(table: pd.DataFrame, within: str = "journey") -> str:
    """Say where units stay longest, and by how much the median of completed stays is too short."""
    known = table[table["median_days"].notna() & (table["n"] >= ENOUGH)] if len(table) else table
    if known.empty:
        return ""
    row = known.sort_values(["median_days", "value"], ascending=[False, True]).iloc[0]
    left = table["median_days"].isna() & (table["n"] >= ENOUGH)
    text = (
        f"The longest stay is in {row['value']}: half of {present.count(row['n'])} {_UNITS[within]} have moved on "
        f"after {present.amount(row['median_days'], 'days')} ({_days(row)})."
    )
    if not present.missing(row["completed_median_days"]) and row["completed_median_days"] < SHORT * row["median_days"]:
        text += (
            f" Those who have moved on already say {present.amount(row['completed_median_days'], 'days')}, because "
            "long stays are not over yet."
        )
    if left.any():
        names = ", ".join(table.loc[left, "value"])
        text += f" Fewer than half move on from {names}, so there is no median."
    return text


def findings(
    ways: pd.DataFrame,
    again: pd.DataFrame,
    pairs: pd.DataFrame,
    passed: pd.DataFrame,
    *,
    within: str = "journey",
    owner: Callable[[str], str] = lambda name: "",
) -> list[Finding]:
    """Return what is worth acting on: the worst detour, going to and fro, and a hand-off after which mood is lower."""
    found = []
    row = _worst(ways)
    if row is not None and row["median_ratio"] >= MANY:
        found.append(
            Finding(
                id="detour",
                chapter=CHAPTER,
                statement=f"From {row['from']} to {row['to']} {_UNITS[within]} take a median of {_steps(row)} where "
                f"{present.count(row['planned_n'])} would do; {_share(row, 'never_arrived_share')} never arrive.",
                value=row["median_ratio"],
                low=row["median_ratio_low"],
                high=row["median_ratio_high"],
                n=row["arrived_n"],
                unit="ratio",
                better="down",
                caveat="Looking around is not always a detour: what people compare on the way may be what they came "
                "for. The ratio speaks of those who arrive only.",
                action=f"See what lies between {row['from']} and {row['to']}, and offer there what people look for.",
                owner=owner(str(row["from"])),
                table=f"{CHAPTER}__detours",
                label=f"Steps from {row['from']} to {row['to']} against the plan",
            )
        )
    if len(again) and len(pairs) and pairs["people_n"].iloc[0] >= ENOUGH:
        whole, top = again[again["value"] == ALL].iloc[0], pairs.iloc[0]
        found.append(
            Finding(
                id="rework",
                chapter=CHAPTER,
                statement=f"{_share(whole, 'rework_share')} of events repeat what came before; most go to and fro "
                f"between {_both(top)} ({present.count(top['people_n'])} people).",
                value=whole["rework_share"],
                low=whole["rework_share_low"],
                high=whole["rework_share_high"],
                n=whole["n"],
                unit="share",
                better="down",
                caveat="Repeating is not always waste: ten products looked at are ten views of one touchpoint.",
                action=f"Find out what people who go between {_both(top)} look for, and show it on the first of them.",
                owner=owner(str(top["pair"]).split(ARROW)[0]),
                table=f"{CHAPTER}__ping_pong",
            )
        )
    worse = _worse(passed)
    if worse is not None:
        found.append(
            Finding(
                id="handoff",
                chapter=CHAPTER,
                statement=f"People are less satisfied after the hand-off {_pair(worse)}: {_mood(worse)}.",
                value=worse["satisfaction_difference"],
                low=worse["satisfaction_difference_low"],
                high=worse["satisfaction_difference_high"],
                n=worse["answered_both_n"],
                unit="score",
                better="up",
                evidence="associated",
                caveat="Only people who answered before and after it are counted, and who is handed over may have had "
                "a problem already. Tested against all other hand-offs with enough answers (Holm).",
                action=f"Read the comments given after the hand-off {_pair(worse)}.",
                owner=str(worse["to_team"]),
                table=f"{CHAPTER}__handoffs",
            )
        )
    return found


def _worst(table: pd.DataFrame) -> pd.Series | None:
    """Return the worst detour of which enough arrive."""
    enough = table[table["arrived_n"] >= ENOUGH] if len(table) else table
    return enough.iloc[0] if len(enough) else None


def _worse(table: pd.DataFrame) -> pd.Series | None:
    """Return the hand-off with the lowest change of satisfaction that is surely below 0 among all compared (Holm)."""
    enough = table[table["answered_both_n"] >= ANSWERED] if len(table) else table
    enough = enough[enough["satisfaction_difference"].notna()] if len(enough) else enough
    if enough.empty:
        return None
    degrees = enough["answered_both_n"].to_numpy(float) - 1
    half = (enough["satisfaction_difference_high"] - enough["satisfaction_difference_low"]).to_numpy(float) / 2
    t = enough["satisfaction_difference"].to_numpy(float) / np.maximum(half / _stats.t.ppf(0.975, degrees), 1e-12)
    sure = multipletests(2 * _stats.t.sf(np.abs(t), degrees), method="holm")[0] & (t < 0)
    lowest = enough[sure].sort_values(["satisfaction_difference", "from_team", "to_team"])
    return lowest.iloc[0] if len(lowest) else None


def _steps(row: Any) -> str:
    return f"{present.number(row['median_ratio'] * row['planned_n'], 0)} steps"


def _both(row: Any) -> str:
    return str(row["pair"]).replace(ARROW, " and ")


def _pair(row: Any) -> str:
    return f"{row['from_team']} → {row['to_team']}"


def _mood(row: Any) -> str:
    low, high = (row[f"satisfaction_difference_{end}"] for end in ("low", "high"))
    change = present.amount(row["satisfaction_difference"], "score")
    return (
        f"{change} ({present.interval(low, high, digits=2)}) on a scale of 0–1, "
        f"{present.count(row['answered_both_n'])} people"
    )


def _effective(row: Any) -> str:
    bounds = present.interval(row["effective_next_low"], row["effective_next_high"])
    return f"{present.number(row['effective_next'])} ({bounds})"


def _days(row: Any) -> str:
    if present.missing(row["median_days_high"]):
        return f"at least {present.amount(row['median_days_low'], 'days')}"
    return present.amount_interval(row["median_days_low"], row["median_days_high"], "days")


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
