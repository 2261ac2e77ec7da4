"""Journeys summed from touches, and the tables of a study, on logs that can be checked by eye."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine, funnels, journeys, ordering, paths, plans
from journeykit.config import Journeys, Sessions
from tests.conftest import make_log

Log = Callable[..., pd.DataFrame]
PLAN = Journeys(conversion="buy", gap="30d", restart_stages=["ad", "visit"])
MADE = ["session_id", "journey_id", "position", "previous_event", "next_event", "seconds_since_previous"]


def summed(touches: Any, plan: Journeys = PLAN, as_of: str = "2025-04-20") -> pd.DataFrame:
    found = engine.fetch(journeys.journeys(touches, plan=plan, as_of=pd.Timestamp(as_of)))
    return found.sort_values("journey_id", ignore_index=True)


def ordered(frame: pd.DataFrame, plan: Journeys, path: Path) -> Any:
    """Write the touches of a log, as `build` does, and open them."""
    work = partial(ordering.order_touches, sessions=Sessions(), journeys=plan, timezone="UTC")
    frame = frame.drop(columns=MADE)
    engine.write_in_order(frame, path, {}, by="person_id", order=engine.ORDER, work=work)
    return engine.read_parquet(path)


def test_outcomes(log: Log) -> None:
    touches = log("u1: ad buy@3d/store | u2: ad@0d | u3: ad@100d | u4: ad@0d buy@50d")
    touches["value"] = [None, 9.0, None, None, None, 1.0]
    found = summed(touches, PLAN.model_copy(update={"window": "10d"}))
    assert found["outcome"].tolist() == ["converted", "abandoned", "open", "abandoned"]
    first = found.iloc[0]
    assert (first["touches_n"], first["channels_n"], first["entry_channel"], first["value"]) == (2, 2, "web", 9.0)
    assert found["value"].tolist() == [9.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("bought", "outcome"), [("7d", "converted"), ("7d1s", "abandoned")])
def test_the_window_counts_from_the_first_touch(log: Log, bought: str, outcome: str) -> None:
    found = summed(log(f"u1: ad@0d buy@{bought}"), PLAN.model_copy(update={"window": "7d"}))
    assert found["outcome"].tolist() == [outcome]


def test_the_window_counts_from_the_start_event(log: Log, tmp_path: Path) -> None:
    plan = Journeys(start="quote", conversion="buy", gap="30d", window="7d")
    frame = log("u1: ad@0d quote@5d quote@9d buy@12d | u2: ad@0d quote@5d quote@9d buy@13d | u3: ad@90d quote@103d")
    found = summed(ordered(frame, plan, tmp_path / "touches.parquet"), plan)
    assert found["outcome"].tolist() == ["converted", "abandoned", "open"]
    assert found["duration_days"].tolist() == [12, 13, 13]


@pytest.mark.parametrize(("end", "outcome"), [("2025-01-31", "open"), ("2025-01-31 00:00:01", "abandoned")])
def test_a_journey_is_open_until_it_was_quiet_for_longer_than_the_gap(log: Log, end: str, outcome: str) -> None:
    assert summed(log("u1: ad@0d"), as_of=end)["outcome"].tolist() == [outcome]


def test_a_journey_past_its_window_is_over(log: Log) -> None:
    plan = PLAN.model_copy(update={"window": "7d"})
    assert summed(log("u1: ad"), plan, "2025-01-15")["outcome"].tolist() == ["abandoned"]


def test_no_channel_is_no_channel(log: Log) -> None:
    touches = log("u1: a b c | u2: a").assign(channel=[None, "web", None, None])
    found = summed(touches)
    assert found["channels_n"].tolist() == [1, 0]
    assert found["entry_channel"].tolist() == ["unknown", "unknown"]


def test_the_entry_is_that_of_the_first_touch_also_in_a_tie(log: Log, tmp_path: Path) -> None:
    frame = log("u1: a@1h b@1h c@1h").assign(source_row=[3, 1, 2], marketing_channel=["zoo", None, "ads"])
    frame["channel"] = ["web", "store", "web"]
    assert summed(ordered(frame, PLAN, tmp_path / "touches.parquet"))["entry_channel"].tolist() == ["store"]


def test_touches_outside_journeys_are_in_no_journey(log: Log, tmp_path: Path) -> None:
    plan = Journeys(start="quote", conversion="buy", scope="narrow")
    frame = log("u1: ad quote@1h/app buy@2h help | u2: ad").assign(value=[1.0, 2.0, 4.0, 8.0, 16.0])
    touches = ordered(frame, plan, tmp_path / "touches.parquet")
    found = summed(touches, plan)
    assert found[["journey_id", "person_id", "touches_n", "value"]].values.tolist() == [[2, 1, 2, 6.0]]
    assert found[["outcome", "entry_channel"]].values.tolist() == [["converted", "app"]]
    assert found["started_at"].tolist() == [pd.Timestamp("2025-01-01 01:00")]


def test_questions_about_journeys_leave_the_touches_outside_them_out(log: Log, tmp_path: Path) -> None:
    plan = Journeys(start="quote", conversion="buy", scope="narrow")
    frame = log("u1: ad quote ad buy help quote | u2: ad buy help | u3: quote buy ad")
    touches = ordered(frame, plan, tmp_path / "touches.parquet")
    inside = engine.fetch(touches).dropna(subset="journey_id")
    assert len(inside) == 6
    made = journeys.journeys(touches, plan=plan, as_of=pd.Timestamp("2025-01-02"))
    steps = ["quote", "buy"]
    for ask in (
        partial(funnels.funnel, steps=steps, per="journey"),
        partial(paths.transitions, within="journey"),
        partial(paths.step_matrix, within="journey"),
        partial(paths.variants, on="event"),
        partial(paths.variants, on="event", journeys=made),
        lambda table: plans.plan_share(plans.judge(table, steps=steps, on="event")),
        lambda table: plans.plan_share(plans.judge(table, steps=steps, on="event", journeys=made)),
    ):
        pd.testing.assert_frame_equal(ask(touches), ask(inside))


def test_sums_of_values_are_exact(log: Log) -> None:
    touches = log("u1: " + "a " * 10 + "| u2: a a a | u3: a a | u4: a").assign(
        value=[0.1] * 10 + [1e-6, 0.3, -0.1] + [4e12, 2.5] + [None]
    )
    assert summed(touches)["value"].tolist() == [1.0, 0.200001, 4_000_000_000_002.5, 0.0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=40), st.integers(0, 1000))
def test_sums_do_not_depend_on_the_order_of_the_rows(cents: list[int], seed: int) -> None:
    touches = make_log("u1: " + "a " * len(cents)).assign(value=[n / 100 for n in cents])
    exact = float(Fraction(sum(cents), 100))
    assert summed(touches)["value"].tolist() == [exact]
    larger = touches.assign(value=touches["value"] * 1e4)  # some of them are summed in whole units
    for table in (touches, larger):
        assert summed(table)["value"].tolist() == summed(table.sample(frac=1, random_state=seed))["value"].tolist()


def test_no_events_at_all(log: Log) -> None:
    assert summed(log("u1: a").head(0)).empty
