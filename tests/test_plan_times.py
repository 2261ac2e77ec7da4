"""Time rules of a plan: by hand, at their edges, and against Kaplan–Meier of single journeys."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from lifelines import KaplanMeierFitter

from journeykit import config, engine, plan_times
from journeykit.errors import JourneyError
from journeykit.steps import parse
from tests.conftest import START, make_log

AD = ["ad", config.Step(match=["buy"], within="2d")]


def at(days: float) -> pd.Timestamp:
    return START + pd.Timedelta(days, unit="D")


def timing(log: object, steps: list[object], within: str = "", conversion: tuple[str, ...] = ()) -> list[list[int]]:
    plan = parse(steps, "plan")  # type: ignore[arg-type]
    seen = plan_times.arrivals(log, steps=plan, on="event", within=within, conversion=conversion)
    told = engine.fetch(plan_times.timing(seen, plan_times.rules(plan, within))).sort_values("journey_id")
    return told.drop(columns="journey_id").values.tolist()


@pytest.mark.parametrize(
    ("text", "late"),
    [
        ("u1: ad@0d buy@2d", 1),  # the limit is in time
        ("u1: ad@0d buy@2881m", 2),
        ("u1: ad@0d ad@3d buy@4d", 2),  # the clock does not start anew
        ("u1: ad@0d buy@1d buy@9d", 1),  # it stops at the first
        ("u1: buy@0d ad@1d buy@2d", 1),  # not at one before it started
        ("u1: buy@0d ad@9d", 0),
        ("u1: ad@0d", 0),
        ("u1: x@0d buy@9d", 0),
    ],
)
def test_when_a_step_is_late(text: str, late: int) -> None:
    assert timing(make_log(text), AD) == [[late]]


def test_where_the_step_before_is_optional_only_those_who_took_it_are_judged() -> None:
    steps = ["ad", "help?", config.Step(match=["buy"], within="2d")]
    log = make_log("u1: ad@0d help@2d buy@3d | u2: ad@0d buy@1d | u3: help@0d buy@3d")
    assert timing(log, steps) == [[1], [0], [2]]
    assert plan_times.rules(parse(steps, "plan"))[0].after == "help"


def test_a_value_in_two_steps_stops_the_clock_that_it_started() -> None:
    steps = ["mail", config.Step(match=["mail"], within="1d")]
    assert timing(make_log("u1: mail@0d mail@1d | u2: mail@0d mail@2d | u3: mail"), steps) == [[1], [2], [0]]


def test_the_whole_plan_has_its_time() -> None:
    steps = ["help?", "ad", "visit", "buy", "use?"]
    log = make_log("u1: help@0d ad@1d visit@2d buy@3d use@9d | u2: ad@0d buy@3d | u3: ad@0d visit@1d")
    assert timing(log, steps, within="2d") == [[1], [2], [0]]
    assert plan_times.rules(parse(steps, "plan"), "2d")[0].after == "ad to buy"
    assert plan_times.rules(parse(["a", "b?"], "plan"), "2d") == []


def test_before_the_conversion_goes_by_order_where_times_are_the_same() -> None:
    log = make_log("u1: ad@0d visit@1d buy@1d | u2: ad@0d buy@1d visit@1d | u3: ad@0d buy@1d visit@9d | u4: ad visit")
    assert timing(log, ["ad", config.Step(match=["visit"], within="2d")], conversion=("buy",)) == [[1], [3], [4], [1]]


def test_shares_by_hand() -> None:
    log = make_log("u1: ad@0d buy@1d | u2: ad@0d buy@5d | u3: ad@0d | u4: ad@9d | u5: x@0d | u6: ad@20d")
    table = plan_times.kept(log, steps=AD, on="event", until=at(10))
    row = table.iloc[0]
    assert row[["step", "after", "within", "n", "done_n", "open_n"]].tolist() == ["buy", "ad", "2d", 4, 2, 1]
    assert row["kept_share"] == pytest.approx(1 / 4)
    assert row["median_days"] == pytest.approx(5)  # of three left after a day, one at 5 days: 3/4 · 1/2
    alone = plan_times.kept(make_log("u1: ad@0d buy@1d"), steps=AD, on="event", until=at(10)).iloc[0]
    assert (alone["kept_share"], alone["kept_share_high"], alone["median_days"]) == (1, 1, 1)
    assert 0 < alone["kept_share_low"] < 1
    never = plan_times.kept(make_log("u1: ad@0d | u2: ad@0d"), steps=AD, on="event", until=at(10)).iloc[0]
    assert (never["kept_share"], never["kept_share_low"]) == (0, 0)
    assert 0 < never["kept_share_high"] < 1
    assert np.isnan(never["median_days"])


def test_what_nobody_was_watched_for_is_not_told() -> None:
    row = plan_times.kept(make_log("u1: ad@0d | u2: ad@0d buy@1h"), steps=AD, on="event", until=at(1)).iloc[0]
    assert np.isnan(row[["kept_share", "kept_share_low", "kept_share_high"]].astype(float)).all()
    assert row["open_n"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_as_kaplan_meier_of_single_journeys(seed: int) -> None:
    random, n, limit = np.random.default_rng(seed), 120, 3.0
    began, took = random.integers(0, 20 * 1440, n), random.exponential(4 * 1440, n).astype(int) + 1
    parts = [
        f"u: ad@{start}m " + (f"buy@{start + wait}m" if start + wait <= 25 * 1440 else "x")
        for start, wait in zip(began, took, strict=True)
    ]
    row = plan_times.kept(
        make_log(" | ".join(parts)), steps=["ad", config.Step(match=["buy"], within="3d")], on="event", until=at(25)
    ).iloc[0]
    waited = np.minimum(took, 25 * 1440 - began) / 1440
    fit = KaplanMeierFitter().fit(waited, took + began <= 25 * 1440)
    low, high = fit.confidence_interval_survival_function_[: limit + 1e-9].iloc[-1]
    assert row["kept_share"] == pytest.approx(1 - fit.predict(limit), abs=0.002)  # ties within a thousandth
    assert row[["kept_share_low", "kept_share_high"]].tolist() == pytest.approx([1 - high, 1 - low], abs=0.003)
    assert row["median_days"] == pytest.approx(fit.median_survival_time_, abs=0.01)
    assert row["median_days_low"] <= row["median_days"] <= row["median_days_high"]


def test_engines_agree() -> None:
    log = make_log("u1: ad@0d buy@1d | u2: ad@0d buy@5d | u3: ad@0d | u4: ad@9d").drop(
        columns=["marketing_channel", "team"]
    )
    options = {"steps": AD, "on": "event", "within": "6d", "until": at(10)}
    expected = plan_times.kept(log, **options)
    assert expected["step"].tolist() == ["buy", plan_times.WHOLE_PLAN]
    for frame in (
        pl.from_pandas(log),
        pl.from_pandas(log).lazy(),
        engine.lazy(log),
        log.sample(frac=1, random_state=1),
    ):
        pd.testing.assert_frame_equal(plan_times.kept(frame, **options), expected, check_dtype=False)


def test_degenerate_input() -> None:
    log = make_log("u1: x")
    assert (
        "no step of the plan has a time rule"
        in plan_times.kept(log, steps=["a", "b"], on="event", until=at(1)).attrs["reason"]
    )
    assert "fewer than 1 journeys" in plan_times.kept(log, steps=AD, on="event", until=at(1)).attrs["reason"]
    assert (
        "fewer than 5"
        in plan_times.kept(make_log("u1: ad"), steps=AD, on="event", until=at(1), min_n=5).attrs["reason"]
    )
    assert plan_times.kept(log.head(0), steps=AD, on="event", until=at(1)).empty
    assert plan_times.kept(log, steps=[], on="event", until=at(1)).empty
    with pytest.raises(JourneyError, match="column 'journey_id' is missing"):
        plan_times.kept(log.drop(columns="journey_id"), steps=AD, on="event", until=at(1))
    with pytest.raises(JourneyError, match="is not a duration"):
        plan_times.rules(parse(["a", "b"], "plan"), "soon")
