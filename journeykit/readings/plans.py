"""What the tables of planned against actual say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.alignment import EXTRA, OUT_OF_ORDER, REPEATED, SKIPPED
from journeykit.findings import Finding
from journeykit.plan_times import WHOLE_PLAN
from journeykit.plan_ways import REST
from journeykit.plans import LATE

CHAPTER = "05_paths"
CERTAIN = 0.05  # of the adjusted p-values; above it a gap is not spoken of
_KINDS = {
    "stopped_early_n": "stop before the last required step",
    "skipped_n": "skip a required step",
    "out_of_order_n": "take a step out of order",
    "repeated_n": "repeat a step",
    "extra_n": "do something outside the plan",
    "late_n": "come late to a step",
    "no_step_n": "touch none of the planned steps",
}
_REMEDIES = {
    "stopped_early_n": "See in the funnel chapter where journeys stop, and work on that step first.",
    "skipped_n": "Check whether the skipped step is needed, or is taken where nothing records it.",
    "out_of_order_n": "Ask what people look for at the step that they take too early; the plan may be too straight.",
    "repeated_n": "Find the step that people return to and what they look for there; allow what does no harm.",
    "extra_n": "Look at what they do outside the plan: it may belong into it, or among what is allowed.",
    "late_n": "Find out what holds people up before the late step.",
    "no_step_n": "Check which touchpoints these journeys have; the plan or the mapping may miss them.",
}
_WINDOWS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


def plan_share(table: pd.DataFrame) -> str:
    """Say how many journeys keep to the plan, how many as far as they went, and what the others mostly do."""
    if not len(table):
        return ""
    whole = table.iloc[0]
    if whole["group"] == "open":
        return f"No journey is over yet; {_share(whole, 'on_plan_share')} of the open ones are on the plan so far."
    text = (
        f"{_share(whole, 'on_plan_share')} of {present.count(whole['n'])} {_name(whole)} kept to the plan to its end, "
        f"and {_share(whole, 'so_far_share')} had no deviation as far as they went."
    )
    groups = table.set_index("group")
    if "converted" in groups.index:
        row = groups.loc["converted"]
        text += f" Of those that converted, {_share(row, 'on_plan_share')} kept to it."
        text += _others(row)
    else:
        text += _others(whole)
    if "open" in groups.index:
        text += f" {present.count(groups['n'].loc['open'])} open journeys are counted apart."
    capped = int(table.attrs.get("capped_n", 0))
    if capped:
        text += f" Of {present.count(capped)} very long journeys some events were not looked at."
    return text


def deviations(table: pd.DataFrame, currency: str = "") -> str:
    """Say which deviation is the most frequent, with which fewer or more convert, and what may be at stake."""
    if not len(table):
        return ""
    top = table.iloc[0]
    text = (
        f"The most frequent deviation: {_share(top, 'share')} of {present.count(top['n'])} finished journeys with a "
        f"planned step {_does(top)} ({present.count(top['people_n'])} people)."
    )
    gap = _largest_gap(table)
    if gap is not None:
        text += f" {_gap_sentence(gap)} That is an association: people who deviate differ in more than that."
        if gap["kind"] not in (SKIPPED, LATE) and gap["gap_points"] < 0:
            text += (
                f" Had they not done so they might have left; then their {present.share(gap['converted_with_share'])} "
                "is no loss but a rescue."
            )
    elif "gap_points" in table and table["gap_points"].notna().any():
        text += " With no deviation do clearly fewer or more convert than of those that had come as far without it."
    elif "gap_points" in table:
        text += " None could be compared before the conversion."
    stake = _stake(table)
    if stake is not None and currency:
        told = present.amount_interval(stake["at_stake_value_low"], stake["at_stake_value_high"], currency)
        points = present.number(abs(stake["gap_points"]))
        text += (
            f" Of skipped and late steps, {_named(stake)} has the most at stake: if that were the cause of its gap of "
            f"{points} points, {present.money(stake['at_stake_value'], currency)} ({told}) over the time of this study."
        )
    return text


def off_plan(table: pd.DataFrame) -> str:
    """Say which way off the plan is the most frequent, and how much the listed ones cover."""
    named = table[table["way"] != REST] if len(table) else table
    if not len(named):
        return ""
    top, total = named.iloc[0], int(table["n"].sum())
    return (
        f"The most frequent way off the plan is {top['way']}, taken by {present.count(top['n'])} journeys. The "
        f"{len(named)} listed cover {present.share(named['n'].sum() / total)} of {present.count(total)} journeys off "
        "the plan."
    )


def kept(table: pd.DataFrame) -> str:
    """Say how many journeys took each step in time."""
    told = []
    for row in table.to_dict("records"):
        what = f"the whole way from {row['after']}" if row["step"] == WHOLE_PLAN else str(row["step"])
        start = f"{what} within {_window(row['within'])}"
        start += "" if row["step"] == WHOLE_PLAN else f" after {row['after']}"
        if present.missing(row["kept_share"]):
            told.append(f"Nobody was watched long enough to say how many come to {start}.")
            continue
        half = f"; half need up to {present.amount(row['median_days'], 'days')}"
        told.append(
            f"{_share(row, 'kept_share')} of {present.count(row['n'])} journeys come to {start}"
            + ("" if present.missing(row["median_days"]) else half)
            + "."
        )
    return " ".join(told)


def step(table: pd.DataFrame) -> str:
    """Return the value of the step of the deviation that `findings` tells, to look up its owner, or ""."""
    row = _told(table)
    return "" if row is None else str(row["step"]).split(" | ")[0].split(" (step ")[0]


def findings(
    share: pd.DataFrame, found: pd.DataFrame | None = None, *, owner: str = "", currency: str = ""
) -> list[Finding]:
    """Return the findings: the share on plan, and the deviation that most is at stake with, or that differs most."""
    told = _share_finding(share) if len(share) and share["group"].iloc[0] != "open" else []
    if found is None or not len(found):
        return told
    row = _told(found)
    if row is None:
        return told
    common: dict[str, Any] = {"id": "plan_deviation", "chapter": CHAPTER, "table": f"{CHAPTER}__deviations"}
    common |= {"action": _action(row), "owner": owner}
    if "gap_points" not in row or not _is_certain(row):
        statement = (
            f"{_share(row, 'share')} of {present.count(row['n'])} finished journeys with a planned step {_does(row)}."
        )
        numbers = {"value": row["share"], "low": row["share_low"], "high": row["share_high"], "n": row["n"]}
        caveat = "A deviation is no harm in itself: it may help people, and a plan may be wrong."
        return [*told, Finding(statement=statement, unit="share", caveat=caveat, **numbers, **common)]
    caveat = "An association: people who deviate differ in more than that, and journeys count as independent."
    statement = _gap_sentence(row)
    if currency and row.get("at_stake_value_low", 0) > 0:
        name = "at_stake_value"
        caveat += " The amount is at stake only if the deviation is the cause; amounts of several deviations overlap."
        statement += (
            f" If that is the cause, {present.money(row[name], currency)} is at stake over the time of this study."
        )
        unit = currency
    else:
        name, unit = "gap_points", "points"
        if row["kind"] not in (SKIPPED, LATE):
            caveat += " Had they not done so they might have left: then it is a rescue and no loss."
    numbers = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "n": row["with_n"]}
    better: Any = "" if unit == currency else "up"
    return [
        *told,
        Finding(
            statement=statement, unit=unit, better=better, evidence="associated", caveat=caveat, **numbers, **common
        ),
    ]


def _share_finding(table: pd.DataFrame) -> list[Finding]:
    whole = table.iloc[0]
    converted = table[table["group"] == "converted"]
    row = converted.iloc[0] if len(converted) else whole
    kind = _main_kind(row)
    so_far = _share(whole, "so_far_share")
    all_kept = f" Of all {present.count(whole['n'])} finished ones, {so_far} had no deviation as far as they went."
    return [
        Finding(
            id="plan_share",
            chapter=CHAPTER,
            statement=f"{_share(row, 'on_plan_share')} of {_name(row)} keep to the planned path."
            + _others(row)
            + (all_kept if len(converted) else ""),
            value=row["on_plan_share"],
            low=row["on_plan_share_low"],
            high=row["on_plan_share_high"],
            n=row["n"],
            unit="share",
            better="up",
            caveat="Keeping to the plan is no goal in itself: a detour may help people, and a plan may be wrong.",
            action=_REMEDIES[kind] if kind else "",
            table=f"{CHAPTER}__plan_share",
            headline=True,
            label=f"{_name(row).capitalize()} on the planned path",
        )
    ]


def _others(row: Any) -> str:
    kind = _main_kind(row)
    return f" The others mostly {_KINDS[kind]} ({present.count(row[kind])})." if kind else ""


def _main_kind(row: Any) -> str:
    kind = max(_KINDS, key=lambda name: int(row[name]))
    return kind if row[kind] else ""


def _told(table: pd.DataFrame) -> Any:
    """The deviation that is told: most at stake for certain, else the largest certain gap, else the most frequent."""
    if not len(table):
        return None
    stake = _stake(table)
    if stake is not None and stake["at_stake_value_low"] > 0:
        return stake
    gap = _largest_gap(table)
    return table.iloc[0] if gap is None else gap


def _largest_gap(table: pd.DataFrame) -> Any:
    """The row with the largest gap times journeys of those that are not chance, or None."""
    if "gap_points" not in table:
        return None
    certain = table[table["p_adjusted"] < CERTAIN]
    if certain.empty:
        return None
    size = (certain["gap_points"].abs() * certain["with_n"]).sort_values(ascending=False, kind="stable")
    return certain.loc[size.index[0]]


def _stake(table: pd.DataFrame) -> Any:
    """The row with the most at stake of those whose gap is not chance, or None."""
    if "at_stake_value" not in table:
        return None
    certain = table[(table["p_adjusted"] < CERTAIN) & (table["at_stake_value"] > 0)]
    if certain.empty:
        return None
    return certain.loc[certain["at_stake_value"].sort_values(ascending=False, kind="stable").index[0]]


def _is_certain(row: Any) -> bool:
    return bool(row["p_adjusted"] < CERTAIN)


def _gap_sentence(row: Any) -> str:
    more = "more" if row["gap_points"] > 0 else "less"
    gap = f"{present.number(abs(row['gap_points']))} points"
    low, high = row["gap_points_low"], row["gap_points_high"]
    bounds = present.interval(low, high) if more == "more" else present.interval(-high, -low)
    return (
        f"Journeys that {_does(row)} convert {more} often than those that had come as far without it: "
        f"{_share(row, 'converted_with_share')} of {present.count(row['with_n'])} against "
        f"{_share(row, 'converted_without_share')}, {gap} {more} ({bounds})."
    )


def _does(row: Any) -> str:
    name = row["step"]
    if row["kind"] == LATE:
        return "take longer than planned" if name == WHOLE_PLAN else f"come to {name} later than planned"
    return {
        SKIPPED: f"skip {name}",
        OUT_OF_ORDER: f"take {name} out of order",
        REPEATED: f"repeat {name}",
        EXTRA: f"have {name}, which is outside the plan",
    }[row["kind"]]


def _named(row: Any) -> str:
    return f"{row['step']} ({row['kind']})"


def _action(row: Any) -> str:
    name = row["step"]
    if "gap_points" in row and row["gap_points"] > 0 and _is_certain(row):
        return f"Look at journeys that {_does(row)}: if they do well because of it, change the plan."
    return {
        SKIPPED: f"Find out why {name} is skipped, make it easier to take, and prove by a test that it helps.",
        OUT_OF_ORDER: f"Find out what people look for at {name} before its time, and offer it there.",
        REPEATED: f"Find out what people come back to {name} for, and answer it the first time.",
        EXTRA: f"Look at what {name} is for: answer it within the plan, or allow it.",
        LATE: "Find out what holds people up before it, and prove by a test that faster helps.",
    }[row["kind"]]


def _window(text: str) -> str:
    number, unit = text[:-1], _WINDOWS[text[-1]]
    return f"{number} {unit}{'' if number == '1' else 's'}"


def _name(row: Any) -> str:
    return {"all": "journeys", "converted": "converted journeys"}.get(str(row["group"]), "finished journeys")


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"
