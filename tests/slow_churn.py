"""What was known about people at a moment, and their periods of tenure, in plain Python: event by event."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from journeykit.config import Covariate, seconds

ORDER = ["timestamp", "source", "source_row", "event_id"]
START = pd.Timestamp("2025-01-01")
DAY = pd.Timedelta("1D")

COVARIATES = [
    Covariate(name="late", events="late"),
    Covariate(name="open_tickets", kind="count", events="ticket", without="solved"),
    Covariate(name="unresolved", events="ticket", without="solved", last="2d"),
    Covariate(name="asked", kind="count", events=["ticket", "late"], last="1d"),
    Covariate(name="plan", kind="category", column="plan"),
    Covariate(name="new_plan", kind="category", column="segment_plan", last="1d"),
    Covariate(name="answer", kind="satisfaction"),
    Covariate(name="ticket_answer", kind="satisfaction", events="ticket", last="2d"),
    Covariate(name="poor", kind="poor"),
    Covariate(name="poor_or_late", kind="poor", events="late", poor_below=0.3, last="3d"),
    Covariate(name="back", kind="detours"),
    Covariate(name="back_lately", kind="detours", last="2d"),
]


@st.composite
def logs(draw: st.DrawFn) -> pd.DataFrame:
    """Touches of up to five people, with ties, events at whole days, journeys that take turns, and much that lacks."""
    rows: list[dict[str, Any]] = []
    for person in range(1, draw(st.integers(1, 5)) + 1):
        hour = 0
        for _ in range(draw(st.integers(1, 14))):
            hour += draw(st.sampled_from([0, 0, 5, 12, 24]))
            rows.append(
                {
                    "event_id": f"e{len(rows):03}",
                    "timestamp": START + pd.Timedelta(hours=hour),
                    "source": draw(st.sampled_from(["log", "other"])),
                    "source_row": draw(st.integers(1, 3)),
                    "event": draw(st.sampled_from(["join", "left", "late", "ticket", "solved", "x"])),
                    "touchpoint": draw(st.sampled_from(["A", "B", None])),
                    "segment_plan": draw(st.sampled_from(["pro", "free", None])),
                    "satisfaction": draw(st.sampled_from([None, 0.0, 0.3, 0.5, 0.7])),
                    "person_id": person,
                    "journey_id": draw(st.sampled_from([person * 2, person * 2 + 1, None])),
                }
            )
    table = pd.DataFrame(rows).astype({"satisfaction": float, "journey_id": "Int64"})
    table = table.astype({"touchpoint": object, "segment_plan": object})
    return table.sample(frac=1, random_state=0).reset_index(drop=True)


def stays(log: pd.DataFrame, entered: list[float]) -> pd.DataFrame:
    """From each person's first "join" to the first "left" after it, or to day 9; observed from some day of it on."""
    rows = []
    for n, (person, events) in enumerate(log.sort_values(ORDER).groupby("person_id")):
        began = events.loc[events["event"] == "join", "timestamp"].min()
        if pd.isna(began):
            continue
        later = events.loc[(events["event"] == "left") & (events["timestamp"] > began), "timestamp"]
        over = later.min() if len(later) else began + 9 * DAY
        rows.append((person, began, entered[n % len(entered)], (over - began) / DAY, int(len(later) > 0), "all"))
    columns = ["person_id", "started_at", "entered_days", "duration_days", "ended", "segment"]
    return pd.DataFrame(rows, columns=columns).astype({"person_id": "int64", "ended": "int64", "entered_days": float})


def known(log: pd.DataFrame, person: int, at: pd.Timestamp, covariate: Covariate) -> Any:
    """A covariate of a person at a moment."""
    events = log[(log["person_id"] == person) & (log["timestamp"] <= at)].sort_values(ORDER).to_dict("records")
    began = at - pd.Timedelta(seconds=seconds(covariate.last)) if covariate.last else pd.Timestamp("1900-01-01")
    recent = [event for event in events if event["timestamp"] > began]
    if covariate.kind == "category":
        name = covariate.column if covariate.column.startswith("segment_") else f"segment_{covariate.column}"
        given = [event[name] for event in recent if isinstance(event[name], str)]
        return given[-1] if given else None
    if covariate.kind == "satisfaction":
        asked = [event for event in recent if not covariate.events or event["event"] in covariate.events]
        answers = [event["satisfaction"] for event in asked if event["satisfaction"] == event["satisfaction"]]
        return sum(answers) / len(answers) if answers else float("nan")
    if covariate.kind == "poor":
        low = [e["satisfaction"] < covariate.poor_below or e["event"] in covariate.events for e in recent]
        return float(sum(low))
    if covariate.kind == "detours":
        return float(sum(event["timestamp"] > began for event in _comes_back(events)))
    found = sum((e["event"] in covariate.events) - (e["event"] in covariate.without) for e in recent)
    return float(max(found, 0)) if covariate.kind == "count" else float(found > 0)


def _comes_back(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for journey in {event["journey_id"] for event in events if not pd.isna(event["journey_id"])}:
        own = [e for e in events if e["journey_id"] is not pd.NA and e["journey_id"] == journey]
        own = [event for event in own if isinstance(event["touchpoint"], str)]
        seen: set[str] = set()
        for before, event in pairwise([None, *own]):
            here = event["touchpoint"]
            if here in seen and before["touchpoint"] != here:
                found.append(event)
            seen.add(here)
    return found


def periods(log: pd.DataFrame, spells: pd.DataFrame, width: float) -> list[dict[str, Any]]:
    """One row per person and period, with all of `COVARIATES`."""
    rows = []
    for spell in spells.to_dict("records"):
        for period in range(1000):
            begins = max(period * width, spell["entered_days"])
            ends = min((period + 1) * width, spell["duration_days"])
            if period * width >= spell["duration_days"]:
                break
            if begins >= ends:
                continue
            at = spell["started_at"] + pd.Timedelta(days=begins)
            row = {"person_id": spell["person_id"], "period": period, "from_days": begins, "to_days": ends}
            row["ended"] = int(spell["ended"] and ends == spell["duration_days"])
            rows.append(row | {c.name: known(log, spell["person_id"], at, c) for c in COVARIATES})
    return rows
