"""Contract value: discounted areas under the curve against closed forms, lifelines, planted truth and hostile logs."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from journeykit.churn import curves, margin
from journeykit.churn.areas import Area
from journeykit.config_churn import Value
from journeykit.errors import JourneyError
from journeykit.plots import churn_value as plots
from journeykit.readings import churn_value as readings

MONTHLY = Value(margin=30.0, per="30d", discount=0.1, horizon="365d")
PLAIN = MONTHLY.model_copy(update={"discount": 0.0})


def stays(n: int, *, mean: float = 200.0, seen: float = 365.0, seed: int = 0) -> pd.DataFrame:
    """Exponential stays, censored where observation ends after staggered starts."""
    rng = np.random.default_rng(seed)
    life, known = rng.exponential(mean, n), rng.uniform(0, seen, n)
    return pd.DataFrame(
        {
            "person_id": np.arange(n),
            "duration_days": np.minimum(life, known),
            "ended": (life <= known).astype(int),
            "segment": np.where(rng.random(n) < 0.5, "a", "b"),
        }
    )


def exponential_value(days: float, mean: float, discount: float) -> float:
    pace = math.log1p(discount) / 365.25 + 1 / mean
    return (1 - math.exp(-pace * days)) / pace


def test_present_value_meets_its_closed_form() -> None:
    days = np.arange(0, 366.0)
    got = margin.present_value(np.exp(-days / 200)[None, :], days, per_day=1.0, discount=0.1)
    assert got[0] == pytest.approx(exponential_value(365, 200, 0.1), rel=1e-5)
    two = margin.present_value(np.ones((2, 2)), [0, 365.25], per_day=2.0, discount=0.0)
    assert two.tolist() == [730.5, 730.5]
    assert margin.present_value(np.ones((0, 3)), [0, 1, 2], per_day=1.0, discount=0.1).tolist() == []


@pytest.mark.parametrize("days", [[1, 2], [0, 0], [0, 1, 2], []])
def test_a_grid_that_does_not_fit_is_an_error(days: list[float]) -> None:
    with pytest.raises(JourneyError, match="begins at 0 and increases"):
        margin.present_value([[1.0, 0.5]], days, per_day=1.0, discount=0.1)


def test_by_hand() -> None:
    # Ten people: five leave on day 10, five are seen to day 30. Without discount a new one is there
    # 10 + 20 · 0.5 days; one who is there on day 30 was never seen further.
    people = pd.DataFrame({"duration_days": [10.0] * 5 + [30.0] * 5, "ended": [1] * 5 + [0] * 5})
    row = margin.customer_value(people, PLAIN, min_n=1).iloc[0]
    assert (row["new_value"], row["horizon_days"]) == (20.0, 30.0)
    assert (row["there_n"], row["ahead_days"], row["total_value"]) == (5, 0.0, 0.0)
    note = margin.customer_value(people, PLAIN, min_n=1).attrs["note"]
    assert "cut back to the 30 that were observed" in note
    # One who has been there 5 days: 5 days for sure, then half of 20.
    area = Area(people, min_n=1)
    span = area.span(np.array([5.0]), np.array([30.0]), 0.0)
    assert span.days(area.survival()).tolist() == [15.0]


def test_without_discount_it_is_the_restricted_mean() -> None:
    people = stays(400, seed=3)
    row = margin.customer_value(people, PLAIN).iloc[0]
    mean, _ = curves.area(people, row["horizon_days"])
    assert row["new_value"] == pytest.approx(mean)


def test_late_entry_agrees_with_lifelines() -> None:
    rng = np.random.default_rng(5)
    people = stays(600, seed=4)
    people["entered_days"] = np.where(rng.random(600) < 0.5, 0.0, people["duration_days"] * rng.random(600))
    fit = KaplanMeierFitter().fit(people["duration_days"], people["ended"], entry=people["entered_days"])
    area = Area(people, min_n=20)
    days = np.array([30.0, 90.0, 200.0])
    expected = fit.survival_function_at_times(days).to_numpy()
    assert area.at(area.survival(), days) == pytest.approx(expected, abs=1e-9)
    assert margin.customer_value(people, MONTHLY).iloc[0]["new_value"] > 0


def test_weights_are_people_counted_more_than_once() -> None:
    people = stays(60, seed=6).sort_values("duration_days", ignore_index=True)
    weights = np.random.default_rng(1).integers(0, 3, 60).astype(float)
    repeated = people.loc[people.index.repeat(weights.astype(int))]
    area, other = Area(people, min_n=1), Area(repeated, min_n=1)
    days = np.linspace(0, 300, 50)
    assert area.at(area.survival(weights), days) == pytest.approx(other.at(other.survival(), days))


def test_nobody_seen_from_the_start_gives_no_value_of_a_new_one() -> None:
    people = stays(300, seed=7)
    people["entered_days"] = people["duration_days"] / 2
    table = margin.customer_value(people, MONTHLY)
    assert math.isnan(table.iloc[0]["new_value"])
    assert math.isnan(table.iloc[0]["new_value_low"])
    assert table.iloc[0]["total_value"] > 0
    assert "seen from their first day" in table.attrs["note"]
    assert "A new customer" not in readings.contract(table)
    assert margin.growth(people, MONTHLY).attrs["reason"]
    assert "cannot be said" in margin.retention_point(people, MONTHLY).attrs["reason"]


def test_nothing_is_claimed_beyond_what_was_observed() -> None:
    people = stays(2000, seen=100, seed=8)
    row = margin.customer_value(people, MONTHLY).iloc[0]
    assert row["horizon_days"] < 100
    assert row["ahead_days"] < 100
    longer = margin.customer_value(people, MONTHLY.model_copy(update={"horizon": "3650d"})).iloc[0]
    assert longer["new_value"] == row["new_value"]
    # Without anybody lost from sight a curve that comes down to 0 is known for ever.
    everybody = people.assign(ended=1)
    assert margin.customer_value(everybody, MONTHLY).iloc[0]["horizon_days"] == 365.0
    assert margin.customer_value(everybody, MONTHLY).iloc[0]["there_n"] == 0


def test_segments_have_one_horizon_and_their_own_curves() -> None:
    people = stays(900, seed=9)
    people = pd.concat([people, people.head(60).assign(segment="c", duration_days=lambda x: x["duration_days"] / 4)])
    table = margin.customer_value(people, MONTHLY, by=True)
    assert table["segment"].tolist() == ["a", "b", "c"]
    assert len(set(table["horizon_days"])) == 1
    alone = margin.customer_value(people[people["segment"] == "b"], MONTHLY.model_copy(update={"horizon": "60d"}))
    same = margin.customer_value(people, MONTHLY.model_copy(update={"horizon": "60d"}), by=True)
    if same["horizon_days"].iloc[0] == 60:
        assert same.iloc[1]["new_value"] == pytest.approx(alone.iloc[0]["new_value"])
    assert "in “c”" in table.attrs["note"]


def test_a_point_of_retention_meets_its_closed_form() -> None:
    people = stays(40_000, mean=200, seen=730, seed=10)
    row = margin.retention_point(people, MONTHLY, repetitions=20).iloc[0]
    share = math.exp(-365 / 200)
    assert row["still_there_share"] == pytest.approx(share, abs=0.006)
    slower = 200 * math.log(share) / math.log(share + 0.01)
    gain = exponential_value(365, slower, 0.1) - exponential_value(365, 200, 0.1)
    assert row["new_value"] == pytest.approx(gain, rel=0.03)
    # Of an exponential curve those there now are as new ones, for as long as they can be seen.
    assert 0 < row["total_value"] / row["there_n"] <= row["new_value"] * 1.01
    two = margin.retention_point(people, MONTHLY, points=2, repetitions=0).iloc[0]
    assert two["new_value"] == pytest.approx(2 * row["new_value"], rel=0.06)
    assert math.isnan(two["new_value_low"])


def test_nobody_left_gives_no_point() -> None:
    table = margin.retention_point(stays(100).assign(ended=0), MONTHLY)
    assert "100 % are still there" in table.attrs["reason"]
    with pytest.raises(JourneyError, match="points = 0"):
        margin.retention_point(stays(100), MONTHLY, points=0)


def test_growth_ends_at_the_value_of_a_new_customer() -> None:
    people = stays(500, seed=11)
    curve, row = margin.growth(people, MONTHLY), margin.customer_value(people, MONTHLY).iloc[0]
    assert curve["value"].iloc[-1] == pytest.approx(row["new_value"])
    assert curve["value_high"].iloc[-1] == pytest.approx(row["new_value_high"])
    assert curve["value"].iloc[0] == 0
    assert curve["value"].is_monotonic_increasing


def test_row_order_and_input_do_not_matter() -> None:
    people = stays(200, seed=12)
    before = people.copy()
    table = margin.customer_value(people, MONTHLY, by=True)
    pd.testing.assert_frame_equal(people, before)
    pd.testing.assert_frame_equal(
        table, margin.customer_value(people.sample(frac=1, random_state=2), MONTHLY, by=True), rtol=1e-9
    )


@pytest.mark.parametrize("function", [margin.customer_value, margin.growth, margin.retention_point])
def test_hostile_tables_end_with_a_sentence(function: Callable[..., pd.DataFrame]) -> None:
    people = stays(300)

    assert "no margin is declared" in function(people, Value()).attrs["reason"]
    for few in (people.head(0), people.head(1), people.head(10)):
        table = function(few, MONTHLY)
        assert table.empty
        assert "not enough data" in table.attrs["reason"]
    gone = people.assign(duration_days=0.0, ended=1)
    table = function(gone, MONTHLY)
    assert not table.isin([np.inf]).any().any()
    assert table.attrs.get("reason") or not table.filter(like="value").isna().all().all()


def test_sentences_and_pictures() -> None:
    people = stays(800, seed=13)
    table = margin.customer_value(people, MONTHLY, by=True)
    text = readings.contract(table, "EUR")
    assert "EUR" in text
    assert "nan" not in text
    assert "One point more would be worth EUR" in readings.point(margin.retention_point(people, MONTHLY), "EUR")
    assert "In “a”, " in readings.point(margin.retention_point(people, MONTHLY, by=True), "EUR")
    ax = plots.growth(margin.growth(people, MONTHLY, by=True), currency="EUR")
    assert [text.get_text() for text in ax.texts].count("a") == 1
    assert "(EUR)" in ax.get_ylabel()
    found = readings.findings(value=table, kept=margin.retention_point(people, MONTHLY), currency="EUR")
    assert [finding.id for finding in found] == ["churn.value.contract", "churn.value.point"]
    assert [finding.unit for finding in found] == ["EUR", "EUR"]
    assert found[0].value == pytest.approx(table.iloc[0]["total_value"])


def test_intervals_cover_the_true_value() -> None:
    truth = exponential_value(300, 200, 0.1)
    value = MONTHLY.model_copy(update={"horizon": "300d"})
    hits = 0
    for seed in range(60):
        row = margin.customer_value(stays(300, seen=700, seed=seed), value, repetitions=100).iloc[0]
        assert row["horizon_days"] == 300
        hits += row["new_value_low"] <= truth <= row["new_value_high"]
    assert 51 <= hits <= 60


@pytest.mark.slow
def test_intervals_cover_the_true_value_over_many_seeds() -> None:
    value = MONTHLY.model_copy(update={"horizon": "300d"})
    share = math.exp(-300 / 200)
    slower = 200 * math.log(share) / math.log(share + 0.01)
    truths = (exponential_value(300, 200, 0.1), exponential_value(300, slower, 0.1) - exponential_value(300, 200, 0.1))
    hits = np.zeros(2)
    for seed in range(400):
        people = stays(500, seen=500, seed=seed)
        tables = (margin.customer_value(people, value), margin.retention_point(people, value))
        for place, (table, truth) in enumerate(zip(tables, truths, strict=True)):
            row = table.iloc[0]
            hits[place] += row["new_value_low"] <= truth <= row["new_value_high"]
    assert (hits / 400 > 0.92).all()
    assert (hits / 400 < 0.98).all()
