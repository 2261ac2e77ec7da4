"""What the tables of `funnels` say, in sentences and findings."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from journeykit import config, present
from journeykit.findings import Finding
from journeykit.funnels import NOTHING_MORE, OTHER, alternatives

CHAPTER = "04_funnel"
ENOUGH = 30  # fewer than this at a step, and its loss is not called a leak
_UNITS = {"person": "people", "session": "sessions", "journey": "journeys"}
_WHO = {"person": "people who", "session": "sessions that", "journey": "journeys that"}
_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


def leak(table: pd.DataFrame) -> dict[str, Any] | None:
    """Return the step where the largest share is lost: from, to, share lost with its interval, n; None if unclear.

    The share of those who stood at the step before, not the number lost: numbers are always largest at the top,
    where the most people are. Steps at which fewer than 30 stood are left out.
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
    """Say how many reach the last step, and where the largest share is lost."""
    if not len(table):
        return ""
    units, first, last = _UNITS[per], table.iloc[0], table.iloc[-1]
    if not first["n"]:
        return (
            f"Nobody took the first step ({first['step']}). Check the spelling of the steps in journey.toml against "
            "the events of this study."
        )
    text = (
        f"Of {present.count(first['n'])} {units} with {first['step']}, {_share(last, 'share_of_start')} went through "
        f"all steps to {last['step']}{window(within)}, in this order."
    )
    losses = _losses(table)
    if losses:
        top = losses[0]
        text += (
            f" The largest leak is from {top['start']} to {top['end']}: {_lost(top)} of {present.count(top['n'])} "
            f"{units} did not go on."
        )
    if len(losses) > 1:
        text += f" The next is from {losses[1]['start']} to {losses[1]['end']}, with {_lost(losses[1])}."
    return text


def segments(table: pd.DataFrame, per: str = "person") -> str:
    """Say which segments convert best and worst, and whether their intervals overlap."""
    ends = _ends(table)
    if len(ends) < 2:
        return ""
    best, worst = ends.iloc[0], ends.iloc[-1]
    text = (
        f"“{best['segment']}” converts best, with {_share(best, 'share_of_start')} of {present.count(best['start_n'])} "
        f"{_UNITS[per]}, and “{worst['segment']}” least, with {_share(worst, 'share_of_start')} of "
        f"{present.count(worst['start_n'])}."
    )
    if best["share_of_start_low"] <= worst["share_of_start_high"]:
        text += " Their intervals overlap: this may be chance."
    left_out = int(table.attrs.get("left_out_n", 0))
    return text + (f" {present.count(left_out)} {_UNITS[per]} of smaller segments are not shown." if left_out else "")


def known(table: pd.DataFrame, per: str = "person") -> str:
    """Say how far the conversion of people with a verified identity is from that of everybody."""
    every, sure = _known(table)
    if not every or not sure:
        return ""
    if every["start_n"] == sure["start_n"]:
        return f"Everybody in this funnel has a verified identity, so {_share(every, 'share_of_start')} stands."
    between = (
        f" All who reach {sure['step']} are known, so the truth lies between the two, as far as stitching is right."
    )
    return (
        f"Of {present.count(sure['start_n'])} {_UNITS[per]} with a verified identity, {_share(sure, 'share_of_start')} "
        f"reach {sure['step']}; of all {present.count(every['start_n'])}, {_share(every, 'share_of_start')}. The first "
        "figure leaves out real people who never say who they are, the second counts a person's unknown devices as "
        "people of their own." + (between if every["n"] == sure["n"] else "")
    )


def drop_offs(table: pd.DataFrame) -> str:
    """Say what came next for those who stopped, at the step where most of them stopped."""
    named = table[table["next_step"] != OTHER] if len(table) else table
    if not len(named):
        return ""
    row = named.sort_values(["stopped_n", "step_number", "n"], ascending=[False, True, False], kind="stable").iloc[0]
    what = "nothing more happened" if row["next_step"] == NOTHING_MORE else f"{row['next_step']} came next"
    return (
        f"Of {present.count(row['stopped_n'])} who got no further than {row['step']}, for {_share(row, 'share')} "
        f"{what}, more often than anything else."
    )


def time_to_convert(table: pd.DataFrame, per: str = "person") -> str:
    """Say how long those take who go through."""
    if not len(table):
        return ""
    row = table.iloc[0]
    return (
        f"Half of the {present.count(row['n'])} {_WHO[per]} went through took {_span(row['median_days'])} or "
        f"less ({_bounds(row)}); one in four took more than {_span(row['p75_days'])}, one in ten more than "
        f"{_span(row['p90_days'])}."
    )


def curve(table: pd.DataFrame, per: str = "person") -> str:
    """Say how many have converted by the end of the curve, and when half of those had."""
    if not len(table):
        return ""
    last = table.iloc[-1]
    if last["converted_share"] <= 0:
        return f"None of {present.count(last['n'])} {_UNITS[per]} converted within {_span(last['after_days'])}."
    half = table[table["converted_share"] >= last["converted_share"] / 2].iloc[0]
    return (
        f"{_span(last['after_days'])} after the first entry, an estimated {_share(last, 'converted_share')} "
        f"of {present.count(last['n'])} {_UNITS[per]} have converted; half of these did so in the first "
        f"{_span(half['after_days'])}."
    )


def findings(
    table: pd.DataFrame,
    time: pd.DataFrame | None = None,
    by_segment: pd.DataFrame | None = None,
    by_identity: pd.DataFrame | None = None,
    *,
    owner: str = "",
    per: str = "person",
    within: str = "",
) -> list[Finding]:
    """Return the chapter's findings: the largest leak, the conversion, the time it takes, the gap between segments.

    `by_identity` is the table of `quality.funnel_of_known`; the caveat of the conversion quotes it.
    """
    found: list[Finding] = []
    units, who = _UNITS[per], _WHO[per]
    top = leak(table)
    if top:
        found.append(
            Finding(
                id="funnel_leak",
                chapter=CHAPTER,
                statement=f"{_lost(top)} of the {who} reach {top['start']} do not go on to {top['end']}"
                f"{window(within)}: the largest leak of the funnel.",
                value=top["value"],
                low=top["low"],
                high=top["high"],
                n=top["n"],
                unit="share",
                better="down",
                evidence="observed",
                caveat="Says where they stop, not why. Those who entered shortly before the end may still go on.",
                action=f"Find out what stops them after {top['start']} (ask, watch, read comments), then test one "
                "remedy in an experiment.",
                owner=owner,
                table=f"{CHAPTER}__funnel",
                headline=True,
                label=f"Lost after {top['start']}",
            )
        )
    if len(table) and table["n"].iloc[0]:
        last = table.iloc[-1]
        found.append(
            Finding(
                id="funnel_conversion",
                chapter=CHAPTER,
                statement=f"{_share(last, 'share_of_start')} of the {units} with {table['step'].iloc[0]} go through to "
                f"{last['step']}{window(within)}.",
                value=last["share_of_start"],
                low=last["share_of_start_low"],
                high=last["share_of_start_high"],
                n=int(table["n"].iloc[0]),
                unit="share",
                better="up",
                caveat=f"Counts only those that take every step, in order.{_identity_caveat(by_identity, units)}",
                table=f"{CHAPTER}__funnel",
                label=f"From {table['step'].iloc[0]} to {last['step']}",
            )
        )
    if time is not None and len(time):
        row = time.iloc[0]
        found.append(
            Finding(
                id="funnel_time",
                chapter=CHAPTER,
                statement=f"Half of the {who} go through take {_span(row['median_days'])} or less ({_bounds(row)}).",
                value=row["median_days"],
                low=row["median_days_low"],
                high=row["median_days_high"],
                n=row["n"],
                unit="days",
                better="down",
                caveat="Only those who went through within the window; slower ones are missing.",
                table=f"{CHAPTER}__time_to_convert",
            )
        )
    return found + _gap(by_segment, units)


def window(within: str) -> str:
    """Return a duration as words after a verb.

    >>> window("30d"), window("1h"), window("")
    (' within 30 days', ' within 1 hour', '')
    """
    if not within:
        return ""
    config.seconds(within)
    number = int(within[:-1])
    return f" within {number} {_WORDS[within[-1]]}{'' if number == 1 else 's'}"


def _gap(by_segment: pd.DataFrame | None, units: str) -> list[Finding]:
    """The difference between the best and the worst segment, when it is larger than chance makes likely."""
    ends = _ends(by_segment) if by_segment is not None else pd.DataFrame()
    if len(ends) < 2:
        return []
    best, worst = ends.iloc[0], ends.iloc[-1]
    x, x_low, x_high = best[["share_of_start", "share_of_start_low", "share_of_start_high"]]
    y, y_low, y_high = worst[["share_of_start", "share_of_start_low", "share_of_start_high"]]
    low = x - y - math.hypot(x - x_low, y_high - y)  # Newcombe's interval, from the two Wilson intervals
    high = x - y + math.hypot(x_high - x, y - y_low)
    if low <= 0:
        return []
    return [
        Finding(
            id="funnel_segments",
            chapter=CHAPTER,
            statement=f"“{best['segment']}” converts {present.number(100 * (x - y))} percentage points better than "
            f"“{worst['segment']}” ({present.share(x)} against {present.share(y)} of {units}).",
            value=100 * (x - y),
            low=100 * low,
            high=100 * high,
            n=int(best["start_n"] + worst["start_n"]),
            unit="points",
            evidence="associated",
            caveat=f"The best and the worst of {len(ends)} segments, chosen after looking: expect a smaller gap next "
            "time. The segments differ in other ways too.",
            action=f"Compare step by step where {worst['segment']} falls behind {best['segment']}, before spending on "
            "either.",
            table=f"{CHAPTER}__by_segment",
        )
    ]


def _known(table: pd.DataFrame) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return the last step of all and of those with a verified identity, from `quality.funnel_of_known`."""
    rows = {row["segment"]: row for row in _ends(table).to_dict("records")}
    return rows.get("all people", {}), rows.get("verified identity", {})


def _identity_caveat(by_identity: pd.DataFrame | None, units: str) -> str:
    """Quote the conversion of those who are known, where it differs from that of all."""
    every, sure = _known(by_identity) if by_identity is not None else ({}, {})
    if not every or not sure or every["start_n"] == sure["start_n"]:
        return ""
    return (
        f" A device that nobody signed in on counts as one of the {units}, which makes this share too low; of "
        f"{present.count(sure['start_n'])} {units} with a verified identity it is {_share(sure, 'share_of_start')}, "
        "which is too high, because buyers say who they are."
    )


def _losses(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the losses between steps, the largest share first."""
    if not len(table):
        return []
    start = table.assign(before=table["step"].shift(1), before_n=table["n"].shift(1))
    rows = start[(start["step_number"] > 1) & (start["before_n"] >= ENOUGH) & (start["lost_n"] > 0)]
    rows = rows.sort_values(["share_of_previous", "step_number"])
    return [
        {
            "start": row["before"],
            "end": row["step"],
            "value": 1 - row["share_of_previous"],
            "low": 1 - row["share_of_previous_high"],
            "high": 1 - row["share_of_previous_low"],
            "n": int(row["before_n"]),
        }
        for row in rows.to_dict("records")
    ]


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last step of each segment of at least 30, best first, with the number at its start."""
    if not len(table) or "segment" not in table:
        return pd.DataFrame()
    start_n = table.groupby("segment")["n"].transform("max")
    ends = table.assign(start_n=start_n)[table["step_number"] == table["step_number"].max()]
    ends = ends[ends["start_n"] >= ENOUGH]
    return ends.sort_values(["share_of_start", "segment"], ascending=[False, True])


def _share(row: Any, name: str) -> str:
    return f"{present.share(row[name])} ({present.interval(row[f'{name}_low'], row[f'{name}_high'], 'share')})"


def _lost(loss: dict[str, Any]) -> str:
    return f"{present.share(loss['value'])} ({present.interval(loss['low'], loss['high'], 'share')})"


def _span(days: float) -> str:
    return present.seconds(86_400 * days)


def _bounds(row: Any) -> str:
    if present.missing(row["median_days_low"]):
        return "too few for an interval"
    return f"95 % interval {_span(row['median_days_low'])} to {_span(row['median_days_high'])}"
