"""Reconciliation: it holds on random logs, catches what is planted, and says what differs and why."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import config, engine, journeys, paths, reconcile, stats
from journeykit.errors import JourneyError
from journeykit.readings import reconcile as readings
from tests import slow_friction
from tests.conftest import make_log

PLAN = config.Journeys(conversion=["buy"], gap="60d")
FUNNEL: dict[str, Any] = {"steps": ["ad", "visit", "buy"], "on": "touchpoint", "within": "7d"}
STAGES = ["ad", "visit", "buy"]


def made(log: pd.DataFrame) -> pd.DataFrame:
    found = journeys.journeys(log, plan=PLAN, as_of=pd.Timestamp("2025-02-01"))
    return engine.fetch(found).sort_values("journey_id", ignore_index=True)


@pytest.fixture
def log() -> pd.DataFrame:
    return make_log("u1: ad visit buy ; ad | u2: buy ad x visit | u3: ad@0d visit@1d buy@20d | u4: visit | u5: x")


def row_of(table: pd.DataFrame, what: str, by: str) -> pd.Series:
    found = table[(table["what"] == what) & (table["counted_by_b"] == by)]
    assert len(found) == 1
    return found.iloc[0]


def test_everything_balances(log: pd.DataFrame) -> None:
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    assert table["holds"].all()
    assert reconcile.broken(table).empty
    assert set(table["topic"]) == {"Journeys", "Map", "Funnel", "Paths", "Funnel and paths"}
    assert (table["difference_n"] == table["n_a"] - table["n_b"]).all()
    assert table["why"].str.endswith(".").all()


def test_the_numbers_by_hand(log: pd.DataFrame) -> None:
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    assert row_of(table, "people", "map: people with any event")[["n_a", "n_b"]].tolist() == [5, 5]
    assert row_of(table, "people at buy", "map: people at buy")[["n_a", "n_b"]].tolist() == [3, 3]
    assert row_of(table, "people with buy", "funnel with open entry, any time")[["n_a", "n_b"]].tolist() == [3, 3]
    in_order = row_of(table, "people at step 3, buy", "funnel in this order, any time")
    assert in_order[["n_a", "n_b", "difference_n", "expected"]].tolist() == [3, 2, 1, "a is 1 more"]  # u2 bought first
    late = row_of(table, "people at the last step, buy", "funnel of 04_funnel, within 7d")
    assert late[["n_a", "n_b", "expected"]].tolist() == [2, 1, "b at most a"]  # u3 took 20 days
    direct = row_of(table, "people who go from ad directly to visit", "strict funnel of the two")
    assert direct[["n_a", "n_b"]].tolist() == [2, 2]
    assert row_of(table, "journeys from ad to visit", "detours: arrived")[["n_a", "n_b"]].tolist() == [3, 3]
    events = row_of(table, "events", "transitions + first events")
    assert events[["n_a", "n_b"]].tolist() == [13, 13]


def test_what_is_in_no_journey_and_what_has_no_value_are_known_differences(log: pd.DataFrame) -> None:
    log.loc[log["person_id"] == 5, "journey_id"] = None
    log.loc[log["person_id"] == 4, ["touchpoint", "stage"]] = None
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    assert table["holds"].all()
    people = table[(table["topic"] == "Journeys") & (table["counted_by_a"] == "all touches")].iloc[0]
    assert people[["n_a", "n_b", "expected"]].tolist() == [5, 4, "a is 1 more"]
    bare = table[(table["topic"] == "Paths") & (table["counted_by_a"] == "table of journeys")].iloc[0]
    assert bare[["n_a", "n_b", "expected"]].tolist() == [5, 4, "a is 1 more"]


def test_it_does_without_stages_funnels_and_plans(log: pd.DataFrame) -> None:
    table = reconcile.reconcile(log, made(log))
    assert set(table["topic"]) == {"Journeys", "Paths"}
    assert table["holds"].all()
    one = reconcile.reconcile(log, made(log), funnel={"steps": ["ad"], "on": "touchpoint"}, stages=["nowhere"])
    assert one["holds"].all()
    other = reconcile.reconcile(log, made(log), funnel={"steps": ["nothing", "none"], "on": "event"}, stages=STAGES)
    assert other["holds"].all()
    for within in ("session", "person"):
        assert reconcile.reconcile(log, made(log), funnel=FUNNEL, within=within)["holds"].all()


def test_a_touchpoint_in_two_stages_and_steps_with_filters(log: pd.DataFrame) -> None:
    log.loc[log.index[:2], "stage"] = "visit"
    steps = ["ad | x", config.Step(touchpoint=["visit"], where={"channel": "web"}), "visit?", "buy"]
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL | {"steps": steps}, stages=STAGES)
    assert table["holds"].all()
    assert reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)["holds"].all()


@settings(max_examples=8, deadline=None)
@given(slow_friction.logs(), st.sampled_from(["journey", "session", "person"]))
def test_random_logs_balance(log: pd.DataFrame, within: str) -> None:
    log = log.assign(channel="web", marketing_channel=None, value=1.0, touchpoint=log["value_of"])
    ordered = log.sort_values(["person_id", *slow_friction.ORDER], ignore_index=True)
    ordered["position"] = ordered.groupby("person_id").cumcount() + 1
    funnel = {"steps": ["a", "b", "c"], "on": "touchpoint", "within": "1h"}
    table = reconcile.reconcile(ordered, made(ordered), funnel=funnel, stages=["S", "T"], within=within)
    assert reconcile.broken(table).empty, reconcile.broken(table).to_string()


def lost_journey(log: pd.DataFrame, ends: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return log, ends.iloc[1:]


def lost_touch(log: pd.DataFrame, ends: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return log.iloc[:-2], ends


def other_person(log: pd.DataFrame, ends: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return log, ends.assign(person_id=1)


def other_outcome(log: pd.DataFrame, ends: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return log, ends.assign(outcome=["lost", *ends["outcome"][1:]])


@pytest.mark.parametrize("spoil", [lost_journey, lost_touch, other_person, other_outcome])
def test_what_is_planted_is_caught(log: pd.DataFrame, spoil: Any) -> None:
    table = reconcile.reconcile(*spoil(log, made(log)), funnel=FUNNEL, stages=STAGES)
    broken = reconcile.broken(table)
    assert not broken.empty
    assert set(broken["topic"]) <= {"Journeys", "Paths"}


@pytest.mark.parametrize("name", ["transitions", "step_matrix", "variants"])
def test_a_chapter_that_counts_wrong_is_caught(log: pd.DataFrame, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(paths, name)
    monkeypatch.setattr(paths, name, lambda *a, **k: right(*a, **k).assign(n=lambda table: table["n"] + 1))
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    assert "Paths" in set(reconcile.broken(table)["topic"])


def test_small_numbers_are_not_shown(log: pd.DataFrame) -> None:
    whole = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES, min_n=4)
    assert 0 < len(table) < len(whole)
    assert (table[["n_a", "n_b"]].max(axis=1) >= 4).all()


def test_engines_agree(log: pd.DataFrame) -> None:
    log = log.drop(columns="team").assign(marketing_channel="ad")
    ends, before = made(log), log.copy()
    expected = reconcile.reconcile(log, ends, funnel=FUNNEL, stages=STAGES)
    for frame in (pl.from_pandas(log), engine.lazy(log), log.sample(frac=1, random_state=0)):
        found = reconcile.reconcile(frame, pl.from_pandas(ends), funnel=FUNNEL, stages=STAGES)
        pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(log, before)


def test_hostile_input(log: pd.DataFrame) -> None:
    ends = made(log)
    assert "n = 0" in stats.reason_of(reconcile.reconcile(log.head(0), ends.head(0)))
    assert reconcile.broken(reconcile.reconcile(log.head(0), ends.head(0))).empty
    assert reconcile.reconcile(log.head(1), ends.head(1).assign(touches_n=1), funnel=FUNNEL, stages=STAGES)[
        "holds"
    ].all()
    nothing = log.assign(touchpoint=None, stage=None)
    assert reconcile.reconcile(nothing, made(nothing), funnel=FUNNEL, stages=STAGES)["holds"].all()
    with pytest.raises(JourneyError, match="'journey_id'"):
        reconcile.reconcile(log.drop(columns="journey_id"), ends)
    with pytest.raises(JourneyError, match="'touches_n'"):
        reconcile.reconcile(log, ends.drop(columns="touches_n"))


def test_the_sentence_and_the_warning(log: pd.DataFrame) -> None:
    table = reconcile.reconcile(log, made(log), funnel=FUNNEL, stages=STAGES)
    text = readings.reconciliation(table)
    assert text.startswith(f"All {len(table)} counts balance")
    assert "4 (touches with visit) against 3 (funnel in this order, any time)" in text  # u4 never saw the ad
    assert readings.findings(table) == []
    spoilt = reconcile.reconcile(log, made(log).iloc[1:], funnel=FUNNEL, stages=STAGES)
    broken = reconcile.broken(spoilt)
    assert f"{len(broken)} of {len(spoilt)} counts do not balance: journeys (" in readings.reconciliation(spoilt)
    warning = readings.findings(spoilt)[0]
    assert (warning.value, warning.n) == (len(broken), len(spoilt))
    assert warning.headline
    assert readings.reconciliation(stats.not_enough(reconcile.COLUMNS, "none")) == ""
    assert readings.findings(stats.not_enough(reconcile.COLUMNS, "none")) == []
