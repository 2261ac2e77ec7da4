"""The kernel of funnels against a version that tries everything, on random logs and random rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine, funnels
from journeykit.config import Funnel
from journeykit.engine import chunks
from tests import slow_funnel

BASE = pd.Timestamp("2025-01-01")


def log_of(people: list[list[tuple[int, str, int, int]]]) -> pd.DataFrame:
    """Events as (hour, name, order id or 0, session 0–1); "_" is an event without a touchpoint."""
    rows = []
    for person, events in enumerate(people, start=1):
        for hour, name, held, visit in sorted(events, key=lambda event: event[0]):
            rows.append(
                {
                    "event_id": f"e{len(rows):04}",
                    "timestamp": BASE + pd.Timedelta(hours=hour),
                    "source": "log",
                    "source_row": len(rows) + 1,
                    "touchpoint": None if name == "_" else name,
                    "event": name,
                    "held": f"o{held}" if held else None,
                    "value": float(len(rows)),
                    "person_id": person,
                    "session_id": person * 10 + visit,
                    "journey_id": person * 10 + visit,
                }
            )
    return pd.DataFrame(rows)


def found_by(log: pd.DataFrame, funnel: Funnel, until: pd.Timestamp | None) -> list[dict[str, Any]]:
    with engine.scratch():
        reached = funnels.reach(log, until=until, **funnels.rules(funnel))
        table = engine.fetch(reached.table).sort_values(["unit", "attempt"])
    size = len(funnel.steps)

    def whole(row: dict[str, Any], name: str) -> int | None:
        return None if pd.isna(row[name]) else int(row[name])

    lines = []
    for row in table.to_dict("records"):
        line = {name: whole(row, name) for name in ("unit", "attempt", "depth", "is_open")}
        line |= {"first": whole(row, "first_us"), "at": [whole(row, f"at_{k}") for k in range(1, size + 1)]}
        if funnel.entry == "open":
            line["came"] = [whole(row, f"came_{k}") for k in range(2, size + 1)]
        lines.append(line)
    return lines


STEPS = ["a", "b", "c", "a | b", "c | d", "d"]
HOURS = ["", "", "0h", "1h", "3h"]
events = st.tuples(st.integers(0, 6), st.sampled_from("aabbccd_x"), st.integers(0, 2), st.integers(0, 1))
logs = st.lists(st.lists(events, min_size=1, max_size=8), min_size=3, max_size=8)


@st.composite
def rules(draw: st.DrawFn) -> Funnel:
    order = draw(st.sampled_from(["sequential", "sequential", "sequential", "strict", "any"]))
    size = draw(st.integers(2, 4))
    steps: list[dict[str, Any]] = []
    for k in range(size):
        step: dict[str, Any] = {"match": draw(st.sampled_from(STEPS))}
        if k and order != "any":
            step["within"] = draw(st.sampled_from(HOURS))
            step["directly"] = draw(st.sampled_from([False, False, False, True]))
            step["without"] = draw(st.sampled_from([[], [], ["x"], ["d"], ["a"]]))
            step["optional"] = k < size - 1 and draw(st.booleans())
        steps.append(step)
    per = draw(st.sampled_from(["person", "person", "session", "attempt"]))
    entry = draw(st.sampled_from(["closed", "closed", "open"])) if order != "any" and per != "attempt" else "closed"
    if order != "any" and entry != "open" and draw(st.sampled_from([False, False, False, True])):
        steps[-1]["match"] = "(exit)"
    return Funnel(
        steps=steps,
        on="touchpoint",
        per=per,
        order=order,
        entry=entry,
        within=draw(st.sampled_from(["", "0h", "1h", "2h", "4h"])),
        clock=draw(st.sampled_from(["any", "first", "last"])),
        exclude=draw(st.sampled_from([[], [], ["x"], ["b"]])),
        excluded=draw(st.sampled_from(["attempt", "unit"])) if per != "attempt" else "attempt",
        same=draw(st.sampled_from([[], [], ["held"]])),
    )


@settings(max_examples=60, deadline=None)
@given(people=logs, funnel=rules(), until=st.sampled_from([None, None, 3, 5]))
def test_every_rule_equals_trying_everything(
    people: list[list[tuple[int, str, int, int]]], funnel: Funnel, until: int | None
) -> None:
    log = log_of(people)
    end = None if until is None else BASE + pd.Timedelta(hours=until)
    us = None if end is None else (end - pd.Timestamp(0)) // pd.Timedelta("1us")
    assert found_by(log, funnel, end) == slow_funnel.outcomes(log, funnel, us)


RULES: list[dict[str, Any]] = [
    {"steps": ["a", {"match": "b", "optional": True, "within": "2h"}, {"match": "c", "without": "x"}], "within": "4h"},
    {"steps": ["a", "b", "c"], "per": "attempt", "within": "2h", "same": "held"},
    {"steps": ["a", "b", "c"], "order": "any", "clock": "last", "within": "3h", "exclude": "x", "excluded": "unit"},
    {"steps": ["a | b", "b | c", "b"], "order": "any", "per": "attempt"},
    {"steps": ["a", "(exit)"], "order": "strict", "clock": "last"},
    {"steps": ["a", "b", "c"], "entry": "open", "within": "2h"},
]


@pytest.mark.parametrize("said", RULES)
def test_many_people_at_once_and_a_few_at_a_time(said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(4)
    people = [
        [
            (int(hour), str(name), int(held), 0)
            for hour, name, held in zip(
                random.integers(0, 9, 9), random.choice(list("aabbccx_"), 9), random.integers(0, 3, 9), strict=True
            )
        ]
        for _ in range(60)
    ]
    log, funnel = log_of(people), Funnel(on="touchpoint", **said)
    whole = found_by(log, funnel, None)
    assert whole == slow_funnel.outcomes(log, funnel)
    assert any(line["depth"] == len(funnel.steps) for line in whole)
    monkeypatch.setattr(chunks, "ROWS", 20)
    monkeypatch.setattr(chunks, "chunks", in_pieces)
    assert found_by(log, funnel, None) == whole


def in_pieces(batches: Iterable[pa.RecordBatch], by: str, cut: Any = chunks.chunks) -> Iterator[pa.Table]:
    """Hand over ten rows at a time, so that most people lie in two batches."""
    tens = [batch.slice(n, 10) for batch in batches for n in range(0, len(batch), 10)]
    found = list(cut(tens, by))
    assert len(found) > 5
    yield from found
