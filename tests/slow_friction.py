"""Friction, detours, hand-offs and time in a state again, in plain Python: one unit at a time, event by event."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

ORDER = ["timestamp", "source", "source_row", "event_id"]
START = pd.Timestamp("2025-01-01")
Events = list[dict[str, Any]]


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """Touches of up to four people, with ties, repeats, several journeys, and values, teams and answers that lack."""
    rows: list[dict[str, Any]] = []
    journey = 0
    for person in range(1, draw(st.integers(1, 4)) + 1):
        hour = 0
        for _ in range(draw(st.integers(1, 3))):
            journey += 1
            for _ in range(draw(st.integers(1, 7))):
                hour += draw(st.integers(0, 2))
                value = draw(st.sampled_from(["a", "b", "c", None]))
                rows.append(
                    {
                        "event_id": f"e{len(rows):03}",
                        "timestamp": START + pd.Timedelta(hours=hour),
                        "source": "log",
                        "source_row": draw(st.integers(1, 2)),
                        "event": draw(st.sampled_from(["x", "buy"])),
                        "touchpoint": draw(st.sampled_from(["T", "Survey", None])),
                        "value_of": value,
                        "stage": draw(st.sampled_from(["S", "T", None])),
                        "team": draw(st.sampled_from(["A", "B", None])),
                        "satisfaction": draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
                        "person_id": person,
                        "session_id": journey,
                        "journey_id": journey,
                    }
                )
            hour += 1
    table = pd.DataFrame(rows).astype({"satisfaction": float})
    text = ["value_of", "touchpoint", "stage", "team"]
    return table.astype(dict.fromkeys(text, object)).sample(frac=1, random_state=0).reset_index(drop=True)


def units(log: pd.DataFrame, unit: str) -> list[Events]:
    """The events of each unit in their total order."""
    ordered = log.sort_values(ORDER)
    return [part.to_dict("records") for _, part in ordered.groupby(unit, sort=True)]


def with_value(events: Events, on: str) -> Events:
    return [event for event in events if isinstance(event[on], str)]


def repeats(log: pd.DataFrame, on: str, unit: str) -> Counter[tuple[int, str, str, str]]:
    """Count the events by person, value, kind (first, loop, ping_pong, return) and what lay between."""
    found: Counter[tuple[int, str, str, str]] = Counter()
    for events in units(log, unit):
        seen: list[str] = []
        for event in with_value(events, on):
            value = event[on]
            kind, other = "first", ""
            if value in seen:
                since = seen[len(seen) - seen[::-1].index(value) :]
                between = [one for k, one in enumerate(since) if k == 0 or one != since[k - 1]]
                kind = "loop" if not between else "ping_pong" if len(between) == 1 else "return"
                other = between[0] if kind == "ping_pong" else ""
            found[event["person_id"], value, kind, other] += 1
            seen.append(value)
    return found


def clustered(k: dict[int, int], n: dict[int, int]) -> tuple[float, ...]:
    """The sums over people that an interval is made of: Σk, Σn, Σk², Σkn, Σn², people."""
    people = sorted(n)
    pairs = [(k.get(who, 0), n[who]) for who in people]
    return (
        sum(a for a, _ in pairs), sum(b for _, b in pairs), sum(a * a for a, _ in pairs), sum(a * b for a, b in pairs),
        sum(b * b for _, b in pairs), len(people),
    )  # fmt: skip


def ways(
    log: pd.DataFrame, on: str, unit: str, start: set[str], end: set[str]
) -> list[tuple[int, int, int | None, int | None]]:
    """For each unit with a start: person, unit, steps and whole seconds to the next end after its first start."""
    found: list[tuple[int, int, int | None, int | None]] = []
    for events in units(log, unit):
        events = with_value(events, on)
        first = next((k for k, event in enumerate(events) if event[on] in start), None)
        if first is None:
            continue
        there = next((k for k in range(first + 1, len(events)) if events[k][on] in end), None)
        who, name = events[0]["person_id"], events[0][unit]
        if there is None:
            found.append((who, name, None, None))
        else:
            since = events[there]["timestamp"] - events[first]["timestamp"]
            found.append((who, name, there - first, int(since.total_seconds())))
    return found


def handed(log: pd.DataFrame, unit: str, surveys: set[str]) -> Events:
    """Every hand-off between teams, with its wait and what came after in the unit."""
    found: Events = []
    for events in units(log, unit):
        events = [event for event in events if event["touchpoint"] not in surveys]
        teams = [(k, event) for k, event in enumerate(events) if isinstance(event["team"], str)]
        own: Events = []
        for (_, before), (place, after) in pairwise(teams):
            if before["team"] == after["team"]:
                continue
            won = [k for k, event in enumerate(events) if event["event"] == "buy"]
            own.append(
                {
                    "person_id": after["person_id"],
                    "unit": after[unit],
                    "pair": (before["team"], after["team"]),
                    "at": after["timestamp"],
                    "wait": int((after["timestamp"] - before["timestamp"]).total_seconds()),
                    "ends": place == len(events) - 1,
                    "won": "never" if not won else "after" if won[0] > place else "before",
                }
            )
        for k, one in enumerate(own):
            one["sent_back"] = k + 1 < len(own) and own[k + 1]["pair"][1] == one["pair"][0]
            one["first"] = one["pair"] not in [earlier["pair"] for earlier in own[:k]]
        found += own
    return found


def moods(log: pd.DataFrame, found: Events, window: pd.Timedelta) -> dict[tuple[str, str], dict[int, float]]:
    """By pair of teams and person: the mean change of answers after hand-offs against before."""
    answers = defaultdict(list)
    for event in log.to_dict("records"):
        if not np.isnan(event["satisfaction"]):
            answers[event["person_id"]].append((event["timestamp"], event["satisfaction"]))
    moments = sorted({(one["pair"], one["person_id"], one["at"]) for one in found})
    changes: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair, who, at in moments:
        before = [answer for when, answer in answers[who] if at - window <= when < at]
        after = [answer for when, answer in answers[who] if at <= when <= at + window]
        if before and after:
            changes[pair][who].append(float(np.mean(after) - np.mean(before)))
    return {pair: {who: float(np.mean(all_)) for who, all_ in people.items()} for pair, people in changes.items()}


def stays(log: pd.DataFrame, on: str, unit: str, until: pd.Timestamp, gap: pd.Timedelta | None) -> Events:
    """The first stay of each unit in each value: how long, and how it ended or has not."""
    found: Events = []
    for events in units(log[(log["timestamp"] <= until) & (log["touchpoint"] != "Survey")], unit):
        last = events[-1]["timestamp"]
        known = with_value(events, on)
        for value in sorted({event[on] for event in known}):
            first = next(k for k, event in enumerate(known) if event[on] == value)
            left = next((event for event in known[first:] if event[on] != value), None)
            over = until if gap is None else min(until, last + gap)
            end = left["timestamp"] if left else over
            found.append(
                {
                    "person_id": events[0]["person_id"],
                    "value": value,
                    "seconds": int((end - known[first]["timestamp"]).total_seconds()),
                    "kind": "left" if left else "open" if over == until else "ended",
                }
            )
    return found


def kaplan_meier(seconds: list[int], left: list[bool], share: float) -> float:
    """The first time at which the share still there is no more than `share`, in days."""
    there = 1.0
    for time in sorted({one for one, gone in zip(seconds, left, strict=True) if gone}):
        at_risk = sum(one >= time for one in seconds)
        gone = sum(one == time and is_left for one, is_left in zip(seconds, left, strict=True))
        there *= 1 - gone / at_risk
        if there <= share + 1e-12:
            return time / 86_400
    return float("nan")
