"""What the tables of `funnels` say, in sentences and findings."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit import present
from journeykit.differences import difference
from journeykit.findings import Finding
from journeykit.funnels import alternatives
from journeykit.readings.funnel_words import (
    SURE,
    UNITS,
    WHO,
    alike,
    bounds,
    chance,
    halves,
    points,
    share_of,
    span,
    window,
)

CHAPTER = "04_funnel"
ENOUGH = 30  # fewer than this at a step, and its loss is not called a leak


def leak(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the step where the largest share is lost: from, to, its number, share lost with its interval, n.

    The share of those who stood at the last required step before, not the number lost: numbers are always largest at
    the top, where the most people are. Optional steps lose nobody, and steps at which fewer than 30 stood are left
    out; None where nothing is left.
    """
    losses = _losses(table)
    return losses[0] if losses else None


def leak_step(table: pd.DataFrame) -> str:
    """Return the step on which those stand whom the largest leak loses, or ""."""
    found = leak(table)
    return str(found["start"]) if found else ""


def leak_value(table: pd.DataFrame) -> str:
    """Return the value of the step of the largest leak, to look up its owner (of alternatives, the first)."""
    return next(iter(alternatives(leak_step(table))), "")


def funnel(table: pd.DataFrame, per: str = "person", within: str = "") -> str:
    """Say how many reach the last step, where the largest share is lost, and who is not in it yet."""
    if not len(table):
        return ""
    units, first, last = UNITS[per], table.iloc[0], table.iloc[-1]
    if not table["n"].any():
        waiting = _open_n(table)
        return (
            f"All {present.count(waiting)} {units} with {first['step']} still have time to go on; nothing can be said."
            if waiting
            else f"Nobody took the first step ({first['step']}). Check the spelling of the steps in journey.toml "
            "against the events of this study."
        )
    start, reached = _start(table, per), f"went through all steps to {last['step']}{window(within)}"
    if "entered_n" in table:
        reached = f"reached {last['step']}, wherever they came in"
    elif first["step"] == f"any 1 of {len(table)}":
        reached = f"took all of them{window(within)}"
    text = f"Of {start}, {share_of(last, 'share_of_start')} {reached}."
    losses = _losses(table)
    if losses:
        top = losses[0]
        text += (
            f" The largest leak is from {top['start']} to {top['end']}: {_lost(top)} of {present.count(top['n'])} "
            f"{units} did not go on."
        )
    if len(losses) > 1:
        text += f" The next is from {losses[1]['start']} to {losses[1]['end']}, with {_lost(losses[1])}."
    if _open_n(table):
        text += (
            f" {present.count(_open_n(table))} more {units} came in so late that their time is not over; they are in "
            "no share."
        )
    return text


def known(table: pd.DataFrame, per: str = "person") -> str:
    """Say how far the conversion of people with a verified identity is from that of everybody."""
    every, sure = _known(table)
    if not every or not sure:
        return ""
    if every["start_n"] == sure["start_n"]:
        return f"Everybody in this funnel has a verified identity, so {share_of(every, 'share_of_start')} stands."
    between = (
        f" All who reach {sure['step']} are known, so the truth lies between the two, as far as stitching is right."
    )
    return (
        f"Of {present.count(sure['start_n'])} {UNITS[per]} with a verified identity, "
        f"{share_of(sure, 'share_of_start')} reach {sure['step']}; of all {present.count(every['start_n'])}, "
        f"{share_of(every, 'share_of_start')}. The first figure leaves out real people who never say who they are, the "
        "second counts a person's unknown devices as people of their own."
        + (between if every["n"] == sure["n"] else "")
    )


def findings(
    table: pd.DataFrame,
    times: pd.DataFrame | None = None,
    compared: pd.DataFrame | None = None,
    by_identity: pd.DataFrame | None = None,
    *,
    behind: pd.DataFrame | None = None,
    trend: pd.DataFrame | None = None,
    owner: str = "",
    per: str = "person",
    within: str = "",
) -> list[Finding]:
    """Return the chapter's findings: the largest leak, the conversion, the time it takes, a segment's gap, a change.

    Args:
        table: the funnel, by `funnels.count`.
        times: by `funnel_times.times`.
        compared: by `funnel_segments.compare`.
        by_identity: by `quality.funnel_of_known`; the caveat of the conversion quotes it.
        behind: by `funnel_segments.compare_steps`; the action of the segment's gap names its step.
        trend: by `funnel_trend.trend`.
        owner: the team of the step of the largest leak.
        per: who is counted.
        within: the funnel's window.
    """
    found = [_leak(table, owner, per, within), _conversion(table, by_identity, per, within)]
    found += [_time(times, per, within), _segment(compared, behind, per), _change(trend, per)]
    return [finding for finding in found if finding is not None]


def _leak(table: pd.DataFrame, owner: str, per: str, within: str) -> Finding | None:
    top = leak(table)
    if top is None:
        return None
    waiting = _open_n(table)
    late = f" {present.count(waiting)} whose time is not over are left out." if waiting else ""
    return Finding(
        id="funnel_leak",
        chapter=CHAPTER,
        statement=f"{_lost(top)} of the {WHO[per]} reach {top['start']} do not go on to {top['end']}"
        f"{window(within)}: the largest leak of the funnel.",
        value=top["value"],
        low=top["low"],
        high=top["high"],
        n=top["n"],
        unit="share",
        better="down",
        evidence="observed",
        caveat=f"Says where they stop, not why.{late}{alike(per)}",
        action=f"Find out what stops them after {top['start']} (ask, watch, read comments), then test one "
        "remedy in an experiment.",
        owner=owner,
        table=f"{CHAPTER}__funnel",
        headline=True,
        label=f"Lost after {top['start']}",
    )


def _conversion(table: pd.DataFrame, by_identity: pd.DataFrame | None, per: str, within: str) -> Finding | None:
    if not len(table) or not table["n"].any():
        return None
    first, last = table.iloc[0], table.iloc[-1]
    return Finding(
        id="funnel_conversion",
        chapter=CHAPTER,
        statement=f"{share_of(last, 'share_of_start')} of the {_start(table, per)} go through to {last['step']}"
        f"{window(within)}.",
        value=last["share_of_start"],
        low=last["share_of_start_low"],
        high=last["share_of_start_high"],
        n=int(first["n"]),
        unit="share",
        better="up",
        caveat=f"Counts only those that take every required step.{_identity_caveat(by_identity, UNITS[per])}"
        f"{alike(per)}",
        table=f"{CHAPTER}__funnel",
        label=f"From {first['step']} to {last['step']}",
    )


def _time(times: pd.DataFrame | None, per: str, within: str) -> Finding | None:
    if times is None or not len(times) or present.missing(times["median_days"].iloc[-1]):
        return None
    row = times.iloc[-1]
    caveat = "Only those who went through within the window; slower ones are missing."
    if not within:
        caveat = "Only those who have gone through so far; slower ones are missing, which makes it too short."
    if not present.missing(row["half_days"]):
        caveat += f" Half of all {UNITS[per]}, with those not through yet, took {span(row['half_days'])}."
    return Finding(
        id="funnel_time",
        chapter=CHAPTER,
        statement=f"Half of the {WHO[per]} go through take {span(row['median_days'])} or less "
        f"({bounds(row, 'median_days')}).",
        value=row["median_days"],
        low=row["median_days_low"],
        high=row["median_days_high"],
        n=row["converted_n"],
        unit="days",
        better="down",
        caveat=caveat + alike(per),
        table=f"{CHAPTER}__times",
    )


def _segment(compared: pd.DataFrame | None, behind: pd.DataFrame | None, per: str) -> Finding | None:
    """The segment that falls behind all others most, among those that differ when all are tested together."""
    sure = compared[compared["p_adjusted"] < SURE] if compared is not None and len(compared) else pd.DataFrame()
    if not len(sure):
        return None
    row = sure.sort_values(["difference_points", "segment"]).iloc[0]
    value, low, high = (row[f"difference_points{end}"] for end in ("", "_low", "_high"))
    mix = "The segments differ in other ways too."
    if "adjusted_points" in row and not present.missing(row["adjusted_points"]):
        mix = f"Adjusted for a different mix it is {points(row, 'adjusted_points')}; segments differ in other ways too."
    where = ""
    if behind is not None and len(behind) and behind["segment"].iloc[0] == row["segment"]:
        where = str(behind.sort_values("difference_points")["step"].iloc[0])
    return Finding(
        id="funnel_segments",
        chapter=CHAPTER,
        statement=f"“{row['segment']}” converts {points(row)} than all others ({present.share(row['share'])} against "
        f"{present.share(row['others_share'])} of {UNITS[per]}).",
        value=value,
        low=low,
        high=high,
        n=int(row["n"] + row["others_n"]),
        unit="points",
        better="up",
        evidence="associated",
        caveat=f"One of {len(compared) if compared is not None else 0} segments compared, chosen after looking: expect "
        f"a smaller gap next time. {mix}{alike(per)}",
        action=f"See what {row['segment']} meets before {where}, where it falls behind most, and test a remedy there."
        if where
        else f"See at which step {row['segment']} parts from the others, before spending on either.",
        table=f"{CHAPTER}__differences",
    )


def _change(trend: pd.DataFrame | None, per: str) -> Finding | None:
    """A steady rise or fall over the periods whose time is over."""
    mature = trend[trend["is_mature"] & (trend["n"] > 0)] if trend is not None and len(trend) else pd.DataFrame()
    if trend is None or len(mature) < 3 or not trend.attrs.get("change_p_value", 1.0) < SURE:
        return None
    first, last = halves(trend)
    value, low, high = (100 * x for x in _gap(last, first))
    if low <= 0 <= high:
        return None
    return Finding(
        id="funnel_trend",
        chapter=CHAPTER,
        statement=f"Conversion has {'risen' if value > 0 else 'fallen'}, from "
        f"{present.share(first['converted_share'])} ({first['period']}) to {present.share(last['converted_share'])} "
        f"({last['period']}) of {UNITS[per]} ({chance(trend.attrs['change_p_value'])}).",
        value=value,
        low=low,
        high=high,
        n=int(mature["n"].sum()),
        unit="points",
        better="up",
        evidence="associated",
        caveat="Who comes in may have changed too: read the trend within the largest segments before looking for a "
        f"cause.{alike(per)}",
        action="List what was changed in this time (pages, prices, campaigns, tracking), and when.",
        table=f"{CHAPTER}__trend",
    )


def _start(table: pd.DataFrame, per: str) -> str:
    """Name those whom shares of the start are of."""
    first, who = table.iloc[0], WHO[per]
    if "entered_n" in table:  # an open funnel starts with all who took any step
        row = table[table["n"] > 0].iloc[0]
        return f"{present.count(round(row['n'] / row['share_of_start']))} {who} took any of the {len(table)} steps"
    if first["step"] == f"any 1 of {len(table)}":
        return f"{present.count(first['n'])} {who} took any of the {len(table)} steps"
    return f"{present.count(first['n'])} {UNITS[per]} with {first['step']}"


def _gap(row: Any, other: Any) -> tuple[float, float, float]:
    return difference(int(row["converted_n"]), int(row["n"]), int(other["converted_n"]), int(other["n"]))


def _open_n(table: pd.DataFrame) -> int:
    return int(table["open_n"].iloc[0]) if "open_n" in table and len(table) else 0


def _known(table: pd.DataFrame) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the last step of all and of those with a verified identity, from `quality.funnel_of_known`."""
    rows = {row["segment"]: row for row in ends(table).to_dict("records")}
    return rows.get("all people", {}), rows.get("verified identity", {})


def _identity_caveat(by_identity: pd.DataFrame | None, units: str) -> str:
    """Quote the conversion of those who are known, where it differs from that of all."""
    every, sure = _known(by_identity) if by_identity is not None else ({}, {})
    if not every or not sure or every["start_n"] == sure["start_n"]:
        return ""
    return (
        f" A device that nobody signed in on counts as one of the {units}, which makes this share too low; of "
        f"{present.count(sure['start_n'])} {units} with a verified identity it is {share_of(sure, 'share_of_start')}, "
        "which is too high, because buyers say who they are."
    )


def _losses(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the losses between required steps, the largest share first."""
    if not len(table):
        return []
    required = table[~table["optional"].astype(bool)] if "optional" in table else table
    start = required.assign(before=required["step"].shift(1), before_n=required["n"].shift(1))
    rows = start[(start["step_number"] > 1) & (start["before_n"] >= ENOUGH) & (start["lost_n"] > 0)]
    rows = rows.sort_values(["share_of_previous", "step_number"])
    return [
        {
            "start": row["before"],
            "end": row["step"],
            "step_number": int(row["step_number"]),
            "value": 1 - row["share_of_previous"],
            "low": 1 - row["share_of_previous_high"],
            "high": 1 - row["share_of_previous_low"],
            "n": int(row["before_n"]),
        }
        for row in rows.to_dict("records")
    ]


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last step of each segment of at least 30, best first, with the number at its start."""
    if not len(table) or "segment" not in table:
        return pd.DataFrame()
    start_n = table.groupby("segment")["n"].transform("max")
    last = table.assign(start_n=start_n)[table["step_number"] == table["step_number"].max()]
    last = last[(last["start_n"] >= ENOUGH) & last["share_of_start"].notna()]
    return last.sort_values(["share_of_start", "segment"], ascending=[False, True])


def _lost(loss: dict[str, Any]) -> str:
    return f"{present.share(loss['value'])} ({present.interval(loss['low'], loss['high'], 'share')})"
