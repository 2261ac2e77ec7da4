"""What the tables of `paths` say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.findings import Finding
from journeykit.paths import ENDED, OTHER, REST

CHAPTER = "05_paths"
TYPICAL = 0.05  # a path that fewer take is not called typical
ENOUGH = 30  # of fewer journeys that are over, no conversion is told
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys"}
_KINDS = {
    "stopped_early_n": "stop before the last required step",
    "skipped_n": "skip a required step",
    "out_of_order_n": "go back to an earlier step",
    "no_step_n": "touch none of the planned steps",
}
_REMEDIES = {
    "stopped_early_n": "See in the funnel chapter where journeys stop, and work on that step first.",
    "skipped_n": "Check whether the skipped step is needed, or is taken where nothing records it.",
    "out_of_order_n": "Find the step that people return to and what they look for there; the plan may be too straight.",
    "no_step_n": "Check which touchpoints these journeys have; the plan or the mapping may miss them.",
}


def transitions(table: pd.DataFrame, within: str = "session") -> str:
    """Say which transition is the most frequent, and the surest one between different values."""
    if not len(table):
        return ""
    top = table.iloc[0]
    text = (
        f"The most frequent transition is {top['from']} → {top['to']} ({present.count(top['n'])} times, by "
        f"{present.count(top['people_n'])} people): {_share(top, 'share')} of what follows {top['from']} in the same "
        f"{within}."
    )
    again = table[table["from"] == table["to"]]
    leaving = table["n"].sum() + int(table.attrs.get("left_out_n", 0))
    return text + f" In {present.share(again['n'].sum() / leaving)} of all transitions the same value comes again."


def step_matrix(table: pd.DataFrame, within: str = "session") -> str:
    """Say how units begin, and how many have ended by the last position shown."""
    if not len(table):
        return ""
    first = table[(table["position"] == 1) & ~table["value"].isin([OTHER, ENDED])]
    last_position = table["position"].max()
    ended = table[(table["position"] == last_position) & (table["value"] == ENDED)].iloc[0]
    total = int(table.loc[table["position"] == 1, "n"].sum())
    text = ""
    if len(first):
        start = first.sort_values(["n", "value"], ascending=[False, True]).iloc[0]
        text = (
            f"{present.share(start['share'])} of {present.count(total)} {_UNITS[within]} begin with {start['value']}. "
        )
    return text + f"{present.share(ended['share'])} have no event number {last_position}."


def variants(table: pd.DataFrame, within: str = "journey") -> str:
    """Say which path is the most frequent, and how much the listed ones cover."""
    named = table[table["variant"] != REST] if len(table) else table
    if not len(named):
        return ""
    top, total = named.iloc[0], int(table["n"].sum())
    different = int(table["paths_n"].sum())
    none = "No path is typical. " if top["share_high"] < TYPICAL else ""
    text = (
        f"{none}The most frequent path is {top['variant']}, taken by {_share(top, 'share')} of {present.count(total)} "
        f"{_UNITS[within]}. The {len(named)} paths listed cover {present.share(named['n'].sum() / total)}; there are "
        f"{present.count(different)} different ones."
    )
    if "converted_share" in table and top["finished_n"] >= ENOUGH:
        text += f" Of its {present.count(top['finished_n'])} that are over, {_share(top, 'converted_share')} converted."
    return text


def plan_share(table: pd.DataFrame) -> str:
    """Say how many journeys keep to the plan, and what the others mostly do."""
    if not len(table):
        return ""
    whole = table.iloc[0]
    if whole["group"] == "open":
        return f"No journey is over yet; {_share(whole, 'on_plan_share')} of the open ones are on the plan so far."
    text = f"{_share(whole, 'on_plan_share')} of {present.count(whole['n'])} {_name(whole)} kept to the plan."
    kind = _main_kind(whole)
    if whole[kind]:
        text += f" The others mostly {_KINDS[kind]} ({present.count(whole[kind])})."
    groups = table.set_index("group")
    if "converted" in groups.index:
        text += f" Of those that converted, {_share(groups.loc['converted'], 'on_plan_share')} kept to it."
    if "open" in groups.index:
        text += f" {present.count(table.loc[table['group'] == 'open', 'n'].iloc[0])} open journeys are counted apart."
    return text


def findings(ways: pd.DataFrame, plan: pd.DataFrame | None = None, *, within: str = "journey") -> list[Finding]:
    """Return the chapter's findings: the share on plan and the most frequent path."""
    found: list[Finding] = []
    if plan is not None and len(plan) and plan["group"].iloc[0] != "open":
        whole = plan.iloc[0]
        converted = plan[(plan["group"] == "converted") & (plan["n"] > 0)]
        row = converted.iloc[0] if len(converted) else whole
        kind = _main_kind(row)
        all_kept = f" Of all {present.count(whole['n'])} finished ones, {_share(whole, 'on_plan_share')} do."
        found.append(
            Finding(
                id="plan_share",
                chapter=CHAPTER,
                statement=f"{_share(row, 'on_plan_share')} of {_name(row)} keep to the planned path."
                + (f" The others mostly {_KINDS[kind]}." if row[kind] else "")
                + (all_kept if len(converted) else ""),
                value=row["on_plan_share"],
                low=row["on_plan_share_low"],
                high=row["on_plan_share_high"],
                n=row["n"],
                unit="share",
                better="up",
                caveat="Keeping to the plan is no goal in itself: a detour may help people, and a plan may be wrong.",
                action=_REMEDIES[kind] if row[kind] else "",
                table=f"{CHAPTER}__plan_share",
                headline=True,
                label=f"{_name(row).capitalize()} on the planned path",
            )
        )
    named = ways[ways["variant"] != REST] if len(ways) else ways
    if len(named):
        top = named.iloc[0]
        found.append(
            Finding(
                id="top_path",
                chapter=CHAPTER,
                statement=f"The most frequent path, {top['variant']}, is taken by {_share(top, 'share')} of "
                f"{present.count(ways['n'].sum())} {_UNITS[within]}.",
                value=top["share"],
                low=top["share_low"],
                high=top["share_high"],
                n=int(ways["n"].sum()),
                unit="share",
                caveat="A value that follows itself counts once, and only the first values of long paths are compared.",
                table=f"{CHAPTER}__variants",
            )
        )
    return found


def _main_kind(row: Any) -> str:
    return max(_KINDS, key=lambda kind: int(row[kind]))


def _name(row: Any) -> str:
    return {"all": "journeys", "converted": "converted journeys"}.get(str(row["group"]), "finished journeys")


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
