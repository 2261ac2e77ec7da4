"""What leavers did, one unit and one event after the other: the plain way, to check the engine's answers by."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pandas as pd

from journeykit.funnels import NOTHING_MORE
from journeykit.leavers import AT_ONCE


def stood(reached: pd.DataFrame, k: int, later: list[int]) -> list[dict[str, Any]]:
    """Those who stood at step k of a closed funnel; they went on when they took any of the later steps."""
    found = []
    for row in reached.to_dict("records"):
        if row["is_open"] or pd.isna(row[f"at_{k}"]):
            continue
        ons = [row[f"at_{j}"] for j in later if not pd.isna(row[f"at_{j}"])]
        who = {"unit": row["unit"], "start": row["at_1"], "at": row[f"at_{k}"], "next": min(ons) if ons else None}
        found.append({**who, "left": not ons})
    return found


def _events(log: pd.DataFrame, unit: str, who: dict[str, Any], on: str) -> list[dict[str, Any]]:
    part = log[(log[unit] == who["unit"]) & log[on].notna()].sort_values("position")
    times = (part["timestamp"] - pd.Timestamp(0)) // pd.Timedelta("1us")
    return part.assign(us=times).to_dict("records")


def next_events(
    log: pd.DataFrame, who: list[dict[str, Any]], unit: str, values: list[list[str]], k: int, on: str = "event"
) -> dict[bool, Counter[str]]:
    """What came directly after step k: left -> value -> number of units."""
    found: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for one in who:
        events = _events(log, unit, one, on)
        here = max(i for i, e in enumerate(events) if e["us"] == one["at"] and e[on] in values[k - 1])
        if here + 1 == len(events):
            found[one["left"]][NOTHING_MORE] += 1
            continue
        after = events[here + 1]
        later = {value for step in values[k:] for value in step}
        at_once = not one["left"] and after["us"] == one["next"] and after[on] in later
        found[one["left"]][AT_ONCE if at_once else after[on]] += 1
    return found


def last_seen(
    log: pd.DataFrame, who: list[dict[str, Any]], unit: str, values: list[str], within_us: int, on: str = "event"
) -> Counter[str]:
    """Where those who stopped were seen last within a time after the step."""
    found: Counter[str] = Counter()
    for one in who:
        if not one["left"]:
            continue
        events = _events(log, unit, one, on)
        here = max(i for i, e in enumerate(events) if e["us"] == one["at"] and e[on] in values)
        rest = [e for e in events[here + 1 :] if e["us"] - one["at"] <= within_us]
        found[rest[-1][on] if rest else NOTHING_MORE] += 1
    return found


def before(
    log: pd.DataFrame,
    who: list[dict[str, Any]],
    unit: str,
    column: str,
    steps: list[list[str]],
    k: int,
    since_us: int = -1,
) -> dict[str, tuple[int, int]]:
    """In how many units a value was there before the step: value -> (stopped, went on)."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    every = {value for step in steps for value in step}
    for one in who:
        start = one["start"] if since_us < 0 else one["at"] - since_us
        seen = set()
        for e in _events(log, unit, one, "event_id"):
            is_here = e["us"] == one["at"] and e["event"] in steps[k - 1]
            in_time = start <= e["us"] < one["at"] or (is_here and e["us"] >= start)
            if in_time and not pd.isna(e[column]) and (column != "event" or e["event"] not in every):
                seen.add(e[column])
        for value in seen:
            found[value][0 if one["left"] else 1] += 1
    return {value: (a, b) for value, (a, b) in found.items()}


def after(
    log: pd.DataFrame, who: list[dict[str, Any]], unit: str, column: str, within_us: int
) -> dict[str, tuple[int, int]]:
    """In how many units a value was there after the step, before the next one: value -> (stopped, went on)."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in who:
        seen = set()
        for e in _events(log, unit, one, "event_id"):
            in_time = one["at"] < e["us"] <= one["at"] + within_us and (one["next"] is None or e["us"] < one["next"])
            if in_time and not pd.isna(e[column]):
                seen.add(e[column])
        for value in seen:
            found[value][0 if one["left"] else 1] += 1
    return {value: (a, b) for value, (a, b) in found.items()}


def counted_clicks(stopped: list[Counter[str]], went_on: list[Counter[str]]) -> dict[str, float]:
    """The rival that looks right: z of log-odds over *events*, with a Dirichlet prior (Monroe et al. 2008)."""
    sums = [sum(side, Counter()) for side in (stopped, went_on)]
    every = sums[0] + sums[1]
    total = [sum(side.values()) for side in sums]
    prior, mass = {value: 0.01 * every[value] for value in every}, 0.01 * sum(every.values())
    found = {}
    for value in every:
        odds, variance = [], 0.0
        for side, n in zip(sums, total, strict=True):
            y, a = side[value] + prior[value], n + mass
            odds.append(y / (a - y))
            variance += 1 / y
        found[value] = float((pd.Series(odds).apply("log").diff().iloc[1]) / variance**0.5)
    return found
