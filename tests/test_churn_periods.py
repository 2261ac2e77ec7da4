"""Periods of tenure: by hand, against plain Python, with late entry, and with the future altered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine
from journeykit.churn import periods, spells
from journeykit.config import Covariate
from journeykit.errors import JourneyError
from tests import slow_churn
from tests.conftest import make_log

DERIVED = Path(__file__).parents[1] / "data" / "laptop_store" / "derived" / "touches.parquet"


def built(touches: object, stays: pd.DataFrame, wanted: list[Covariate], width: float) -> pd.DataFrame:
    with engine.scratch():
        rows = engine.fetch(periods.person_periods(touches, stays, covariates=wanted, width_days=width))
    return rows.sort_values(["person_id", "period"], ignore_index=True)


@settings(max_examples=7, deadline=None)
@given(
    slow_churn.logs(), st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=3),
    st.sampled_from([1.0, 2.5, 30.0]),
)  # fmt: skip
def test_rows_are_those_of_plain_python(log: pd.DataFrame, entered: list[float], width: float) -> None:
    stays = slow_churn.stays(log, entered)
    found = built(log, stays, slow_churn.COVARIATES, width)
    expected = slow_churn.periods(log, stays, width)
    assert len(found) == len(expected)
    for row, other in zip(found.to_dict("records"), expected, strict=True):
        for name, value in other.items():
            assert row[name] == value or row[name] == pytest.approx(value, abs=2e-9, nan_ok=True), name


@settings(max_examples=5, deadline=None)
@given(slow_churn.logs(), st.randoms(use_true_random=False))
def test_nothing_after_the_start_of_a_period_matters(log: pd.DataFrame, random: object) -> None:
    stays = slow_churn.stays(log, [0.0])
    before = built(log, stays, slow_churn.COVARIATES, 1.0)
    if before.empty:
        return
    row = before.iloc[random.randrange(len(before))]
    at = pd.to_datetime(row["started_us"], unit="us") + pd.Timedelta(days=row["from_days"])
    later = log["timestamp"] > at
    columns = ["event", "touchpoint", "segment_plan", "satisfaction", "journey_id"]
    altered = log.copy()
    altered.loc[later, columns] = log.loc[later, columns].sample(frac=1, random_state=random.randrange(999)).to_numpy()
    altered = altered.astype(log.dtypes.to_dict())
    for other in (altered, log[~later]):
        after = built(other, stays, slow_churn.COVARIATES, 1.0)
        same = (after["person_id"] == row["person_id"]) & (after["period"] == row["period"])
        pd.testing.assert_series_equal(row, after[same].iloc[0], check_names=False, check_exact=True)


def test_ends_belong_to_the_period_before_them() -> None:
    log = make_log("u1: join@0d left@20d | u2: join@0d left@21d | u3: join@0d | u4: join@0d left@4d")
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-01-26")
    stays = stays.assign(entered_days=[0.0, 12.0, 20.0, 0.0])
    rows = built(log, stays, [], 10.0)
    found = rows[["person_id", "period", "from_days", "to_days", "ended"]].values.tolist()
    assert found == [
        [1, 0, 0, 10, 0],
        [1, 1, 10, 20, 1],
        [2, 1, 12, 20, 0],
        [2, 2, 20, 21, 1],
        [3, 2, 20, 25, 0],
        [4, 0, 0, 4, 1],
    ]
    assert list(rows) == list(periods.PERIOD_COLUMNS)


def test_an_event_at_the_start_of_a_period_is_known_in_it() -> None:
    log = make_log("u1: help@0d join@0d help@10d left@15d")
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-02-01")
    helped = [Covariate(name="helped", kind="count", events="help")]
    assert built(log, stays, helped, 10.0)["helped"].tolist() == [1, 2]


def test_nobody_no_covariate_and_no_time_end_in_empty_tables() -> None:
    log = make_log("u1: join@0d left@0d | u2: x")
    none = spells.spells(log, start=["nothing"], end=["left"], as_of="2025-02-01")
    assert built(log, none, slow_churn.COVARIATES[:2], 30.0).empty
    at_once = pd.DataFrame(
        {"person_id": [1], "started_at": [pd.Timestamp("2025-01-01")], "duration_days": [0.0], "ended": [1]}
    )
    assert built(log, at_once, slow_churn.COVARIATES[:2], 30.0).empty
    with pytest.raises(JourneyError, match="width_days"):
        built(log, at_once, [], 0)
    with pytest.raises(JourneyError, match="'period' is a column"):
        built(log, at_once, [Covariate(name="period", events="x")], 30)


@pytest.mark.skipif(not DERIVED.exists(), reason="the bundled study is not built")
def test_no_period_of_the_bundled_study_knows_what_comes_after_it() -> None:
    touches = engine.fetch(engine.read_parquet(DERIVED))
    stays = spells.spells(touches, start=["care_plan_started"], end=["care_plan_cancelled"], as_of="2026-01-01")
    wanted = [
        Covariate(name="late", events="delivery_late"),
        Covariate(name="tickets", kind="count", events="ticket_opened", without="ticket_solved", last="30d"),
        Covariate(name="device", kind="category", column="device"),
        Covariate(name="answer", kind="satisfaction"),
        Covariate(name="back", kind="detours"),
    ]
    before = built(touches, stays, wanted, 30.0)
    assert before["ended"].sum() == stays["ended"].sum()
    lengths = (before["to_days"] - before["from_days"]).groupby(before["person_id"]).sum()
    assert lengths.to_numpy() == pytest.approx(stays["duration_days"].to_numpy())
    for period in (1, 4):
        of_it = before[before["period"] == period]
        at = pd.to_datetime(of_it["started_us"], unit="us") + pd.to_timedelta(of_it["from_days"], unit="D")
        later = touches["timestamp"] > touches["person_id"].map(at.set_axis(of_it["person_id"]))
        columns = ["event", "touchpoint", "segment_device", "satisfaction", "journey_id"]
        altered = touches.copy()
        altered.loc[later, columns] = touches.loc[later, columns].sample(frac=1, random_state=1).to_numpy()
        after = built(altered.astype(touches.dtypes.to_dict()), stays, wanted, 30.0)
        pd.testing.assert_frame_equal(
            of_it.reset_index(drop=True), after[after["period"] == period].reset_index(drop=True), check_exact=True
        )
        assert not before.equals(after)
    shuffled = built(pl.from_pandas(touches.sample(frac=1, random_state=2)).lazy(), stays, wanted, 30.0)
    pd.testing.assert_frame_equal(before, shuffled, check_exact=True)
    assert np.isfinite(before[["late", "tickets", "back"]].to_numpy(float)).all()
