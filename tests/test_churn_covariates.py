"""Covariates of every kind at a moment: by hand, against plain Python, and with the future altered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine
from journeykit.churn import covariates, spells
from journeykit.churn.covariates import in_microseconds
from journeykit.config import Covariate
from journeykit.errors import JourneyError
from tests import slow_churn
from tests.conftest import START, make_log

DERIVED = Path(__file__).parents[1] / "data" / "laptop_store" / "derived" / "touches.parquet"
BACK = Covariate(name="back", kind="detours")


def marks(*days: float) -> pd.DataFrame:
    at = pd.Series([START + pd.Timedelta(days=day) for day in days])
    return pd.DataFrame({"person_id": np.arange(1, len(days) + 1), "until_us": in_microseconds(at)})


def known(log: pd.DataFrame, covariate: Covariate, *days: float) -> list[object]:
    return covariates.known(log, marks(*days), [covariate])[covariate.name].tolist()


@settings(max_examples=8, deadline=None)
@given(slow_churn.logs(), st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.25, 9.0]), min_size=5, max_size=5))
def test_all_kinds_are_those_of_plain_python(log: pd.DataFrame, days: list[float]) -> None:
    found = covariates.known(log, marks(*days), slow_churn.COVARIATES)
    assert found["person_id"].tolist() == [1, 2, 3, 4, 5]  # also who has no event at all
    for person, day in enumerate(days, start=1):
        row = found.iloc[person - 1]
        for covariate in slow_churn.COVARIATES:
            expected = slow_churn.known(log, person, START + pd.Timedelta(days=day), covariate)
            value = row[covariate.name]
            assert value == expected or value == pytest.approx(expected, abs=2e-9, nan_ok=True), covariate.name


@settings(max_examples=8, deadline=None)
@given(slow_churn.logs(), st.randoms(use_true_random=False))
def test_nothing_after_the_moment_matters(log: pd.DataFrame, random: object) -> None:
    at = marks(1, 2, 0, 3, 1)
    before = covariates.known(log, at, slow_churn.COVARIATES)
    moments = pd.to_datetime(log["person_id"].map(at.set_index("person_id")["until_us"]), unit="us")
    later = log["timestamp"] > moments
    rng = np.random.default_rng(random.randrange(2**32))
    columns = ["event", "touchpoint", "segment_plan", "satisfaction", "journey_id"]
    altered = log.copy()
    altered.loc[later, columns] = log.loc[later, columns].sample(frac=1, random_state=rng.integers(2**31)).to_numpy()
    altered = altered.astype(log.dtypes.to_dict())
    pd.testing.assert_frame_equal(before, covariates.known(altered, at, slow_churn.COVARIATES), check_exact=True)
    pd.testing.assert_frame_equal(before, covariates.known(log[~later], at, slow_churn.COVARIATES), check_exact=True)


def test_detours_by_hand() -> None:
    log = make_log("u1: a b a b | u2: a a a | u3: a b ; a | u4: a b b a a c a | u5: b")
    assert known(log, BACK, 1, 1, 1, 1, 1) == [2, 0, 0, 2, 0]
    assert known(log.assign(touchpoint=None), BACK, 1, 1) == [0, 0]
    assert known(log.assign(journey_id=None), BACK, 1, 1) == [0, 0]


def test_answers_poor_moments_and_categories_by_hand() -> None:
    log = make_log("u1: ask@1h ask@1d late@2d ask@3d | u2: late@1d | u3: x")
    log["satisfaction"] = np.where(log["event"] == "ask", [0.2, 0.8, 0.0, 0.49, 0.0, 0.0], np.nan)
    mean = Covariate(name="m", kind="satisfaction")
    assert known(log, mean, 2, 2, 2) == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert known(log, Covariate(name="m", kind="poor"), 3, 3, 3) == [2, 0, 0]
    assert known(log, Covariate(name="m", kind="poor", events="late"), 3, 3, 3) == [3, 1, 0]
    assert known(log, Covariate(name="m", kind="poor", events="late", last="1d"), 3, 3, 3) == [1, 0, 0]
    plan = log.assign(segment_plan=["free", None, "pro", "x", None, None])
    assert known(plan, Covariate(name="m", kind="category", column="plan"), 2, 2, 2) == ["pro", None, None]
    assert known(plan, Covariate(name="m", kind="category", column="plan", last="1h"), 1, 2, 2) == [None] * 3


def test_a_window_leaves_out_its_start_and_has_its_end() -> None:
    log = make_log("u1: t@1d t@2d t@3d")
    for day, expected in ((2, 1), (2.5, 1), (3, 1), (3.9, 1), (4.5, 0)):
        assert known(log, Covariate(name="n", kind="count", events="t", last="1d"), day) == [expected]


def test_any_engine_and_order_of_rows_gives_the_same() -> None:
    log = make_log("|".join(f"u{p}: a@{p}h late@1d b@1d a@1d ticket@2d" for p in range(1, 9)))
    log["segment_plan"], log["satisfaction"] = log["event"], np.where(log["event"] == "late", 0.1, np.nan)
    at = marks(*np.linspace(0, 3, 8))
    expected = covariates.known(log, at, slow_churn.COVARIATES)
    frame = pl.from_pandas(log)
    for other in (log.sample(frac=1, random_state=1), frame, frame.lazy(), engine.lazy(log)):
        pd.testing.assert_frame_equal(expected, covariates.known(other, at, slow_churn.COVARIATES), check_exact=True)
    assert covariates.known(log, at, []).columns.tolist() == ["person_id"]
    assert len(covariates.known(log.head(0), at, slow_churn.COVARIATES)) == 8
    assert covariates.known(log, at.head(0), slow_churn.COVARIATES).empty


def test_late_entry_counts_from_the_landmark() -> None:
    log = make_log("u1: join@0d left@9d | u2: join@0d left@9d | u3: join@0d left@9d | u4: join@0d late@1d")
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-02-01")
    stays = stays.assign(entered_days=[0.0, 2.0, 7.0, 40.0])
    table = covariates.at_landmark(log, stays, covariates=[Covariate(name="late", events="late")], landmark="3d")
    assert table["person_id"].tolist() == [1, 2, 3]  # 4 was over before it was seen
    assert table["entered_days"].tolist() == [0, 0, 4]
    assert table["duration_days"].tolist() == [6, 6, 6]


def test_what_is_missing_is_named() -> None:
    log = make_log("u1: a")
    with pytest.raises(JourneyError, match="segment_no"):
        known(log, Covariate(name="c", kind="category", column="segment_no"), 1)
    with pytest.raises(JourneyError, match="satisfaction"):
        known(log.drop(columns="satisfaction"), Covariate(name="c", kind="satisfaction"), 1)
    with pytest.raises(JourneyError, match="journey_id"):
        known(log.drop(columns="journey_id"), BACK, 1)
    with pytest.raises(JourneyError, match="named twice"):
        covariates.known(log, marks(1), [BACK, BACK])
    with pytest.raises(JourneyError, match="until_us"):
        known(log, BACK.model_copy(update={"name": "until_us"}), 1)


@pytest.mark.skipif(not DERIVED.exists(), reason="the bundled study is not built")
def test_no_covariate_of_the_bundled_study_knows_the_future() -> None:
    touches = engine.fetch(engine.read_parquet(DERIVED))
    stays = spells.spells(touches, start=["care_plan_started"], end=["care_plan_cancelled"], as_of="2026-01-01")
    wanted = [
        Covariate(name="late", events="delivery_late"),
        Covariate(name="tickets", kind="count", events="ticket_opened", without="ticket_solved", last="30d"),
        Covariate(name="device", kind="category", column="device"),
        Covariate(name="answer", kind="satisfaction"),
        Covariate(name="poor", kind="poor"),
        Covariate(name="back", kind="detours"),
    ]
    before = covariates.at_landmark(touches, stays, covariates=wanted)
    at = touches["person_id"].map(before.set_index("person_id")["landmark_at"])
    later = touches["timestamp"] > at
    columns = ["event", "touchpoint", "segment_device", "satisfaction", "journey_id"]
    altered = touches.copy()
    altered.loc[later, columns] = touches.loc[later, columns].sample(frac=1, random_state=1).to_numpy()
    altered = altered.astype(touches.dtypes.to_dict())
    pd.testing.assert_frame_equal(before, covariates.at_landmark(altered, stays, covariates=wanted), check_exact=True)
    assert (before[["late", "tickets", "poor", "back"]].sum() > 10).all()
    assert before["answer"].notna().sum() > 100
    assert before["device"].nunique() == 3
