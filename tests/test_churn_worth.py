"""Value of customers without a contract: planted worlds, refusal, the back-test, and what is shown without a fit."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journeykit.churn import bgnbd, purchases, spend, worth
from journeykit.churn.margin import rate
from journeykit.config_churn import Value
from journeykit.errors import JourneyError
from journeykit.plots import churn_value as plots
from journeykit.readings import churn_value as readings
from tests.conftest import make_log

DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CDNOW = DATA / "cdnow_purchases"
VALUE = Value(orders="buy", margin_share=0.3, discount=0.1, horizon="182d")
TRUTH = {"r": 0.8, "alpha": 6.0, "a": 0.8, "b": 2.4}


def world(n: int, *, seed: int = 0, strength: float = 0.0, ahead: float = 26.0) -> pd.DataFrame:
    """Customers of a BG/NBD and Gamma–Gamma world, with what they did in the weeks after; times in days."""
    rng = np.random.default_rng(seed)
    pace, leaving = rng.gamma(TRUTH["r"], 1 / TRUTH["alpha"], n), rng.beta(TRUTH["a"], TRUTH["b"], n)
    age, x, recency = rng.integers(26 * 7, 52 * 7, n) / 7.0, np.zeros(n, int), np.zeros(n)
    later, clock, active, money = np.zeros(n, int), np.zeros(n), np.ones(n, bool), np.zeros(n)
    rates = rng.gamma(3.74, 1 / 15.44, n) / (pace / pace.mean()) ** strength
    while active.any():
        clock = clock + rng.exponential(1 / np.maximum(pace, 1e-12))
        active &= clock <= age + ahead
        known = active & (clock <= age)
        x, recency, later = x + known, np.where(known, clock, recency), later + (active & ~known)
        paid = rng.gamma(6.25, 1 / rates)
        money += np.where(active & ~known, paid * np.exp(-rate(0.1) * 7 * np.maximum(clock - age, 0)), 0.0)
        active &= rng.random(n) >= leaving
    mean = rng.gamma(6.25 * np.maximum(x, 1), 1 / (rates * np.maximum(x, 1)))
    columns = {"person_id": np.arange(n), "repeat_n": x, "recency_days": 7 * recency, "age_days": 7 * age}
    columns |= {"mean_spend": np.where(x > 0, mean, math.nan), "later_n": later, "later_days": 7 * ahead}
    return pd.DataFrame(columns | {"later_money": money})


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    return world(8000, seed=1)


def test_the_value_is_what_comes_in(people: pd.DataFrame) -> None:
    table = worth.total(people, VALUE, repetitions=40)
    row = table.iloc[0]
    assert table["group"].tolist() == ["all", "1 purchase", "2 purchases", "3 purchases", "4–6 purchases", "7 or more"]
    assert table["n"].iloc[1:].sum() == row["n"] == 8000
    assert table["total_value"].iloc[1:].sum() == pytest.approx(row["total_value"])
    assert row["purchases_n"] == pytest.approx(people["later_n"].sum(), rel=0.04)
    assert row["total_value"] == pytest.approx(0.3 * people["later_money"].sum(), rel=0.06)
    assert row["total_value_low"] < row["total_value"] < row["total_value_high"]
    assert row["value"] == pytest.approx(row["total_value"] / 8000)
    assert table.attrs == {"refused": "", "note": ""}
    assert table["alive_share"].iloc[1] == 1.0  # who bought once cannot have left in this model
    whole = worth.total(people, VALUE.model_copy(update={"margin_share": 1.0}), repetitions=0).iloc[0]
    assert whole["total_value"] == pytest.approx(row["total_value"] / 0.3)
    assert math.isnan(whole["total_value_low"])
    more = worth.total(people, VALUE.model_copy(update={"discount": 0.0}), repetitions=0).iloc[0]
    assert row["total_value"] < more["total_value"] < row["total_value"] * 1.1


def test_each_customer_adds_up_to_the_total(people: pd.DataFrame) -> None:
    each = worth.people(people.sample(frac=1, random_state=0), VALUE)
    row = worth.total(people, VALUE, repetitions=0).iloc[0]
    assert each["person_id"].tolist() == list(range(8000))
    assert each["value"].sum() == pytest.approx(row["total_value"])
    assert each["purchases_n"].sum() == pytest.approx(row["purchases_n"])
    model = bgnbd.fit(people)
    one = people.iloc[7]
    expected = model.purchases(one["repeat_n"], one["recency_days"], one["age_days"], 182.0)
    assert each["purchases_n"].iloc[7] == pytest.approx(float(expected))
    spread = worth.alive(each)
    assert spread["n"].sum() == (people["repeat_n"] > 0).sum()
    assert spread["customers_share"].sum() == pytest.approx(1.0)
    assert spread.attrs["once_n"] == (people["repeat_n"] == 0).sum()


def test_the_horizon_is_cut_back_to_what_was_observed(people: pd.DataFrame) -> None:
    table = worth.total(people, VALUE.model_copy(update={"horizon": "3650d"}), repetitions=0)
    assert table["horizon_days"].iloc[0] == people["age_days"].max()
    assert "cut back to the 363 that a customer was observed for" in table.attrs["note"]


def test_spend_that_goes_with_frequency_is_refused() -> None:
    table = worth.total(world(6000, seed=2, strength=1.0), VALUE, repetitions=25)
    refused = table.attrs["refused"]
    assert refused.startswith("Value in money is refused: customers who buy more often spend more on a purchase")
    assert "Expected purchases and the probability to be active do not rest on spend" in refused
    assert table[["mean_spend", "value", "total_value", "total_value_low"]].isna().all().all()
    assert table[["purchases_n", "purchases_n_low", "alive_share"]].notna().all().all()
    each = worth.people(world(6000, seed=2, strength=1.0), VALUE)
    assert each["value"].isna().all()
    assert each.attrs["refused"] == refused
    text = readings.orders(table, "EUR")
    assert "refused" in text
    assert "EUR" not in text
    ax = plots.worth(table, currency="EUR")
    assert "purchases expected" in ax.get_xlabel()
    found = readings.findings(ordered=table, currency="EUR")
    assert found[0].unit == ""
    assert found[0].value == pytest.approx(table["purchases_n"].iloc[0])


def test_a_weak_dependence_is_said_and_not_refused() -> None:
    table = worth.total(world(20_000, seed=3, strength=0.15), VALUE, repetitions=0)
    assert table.attrs["refused"] == ""
    assert "the value of those who bought once is too high" in table.attrs["note"]


def test_without_spend_the_purchases_remain(people: pd.DataFrame) -> None:
    for spends in (0.0, 9.99):
        table = worth.total(people.assign(mean_spend=spends), VALUE, repetitions=0)
        assert "There is no value in money" in table.attrs["refused"]
        assert table["purchases_n"].iloc[0] > 0
        assert table["value"].isna().all()


def test_the_backtest_foretells_a_world_of_the_model(people: pd.DataFrame) -> None:
    table = worth.backtest(people, repetitions=60)
    row = table.iloc[0]
    assert row["actual_n"] == people["later_n"].sum()
    assert row["error_share_low"] < 0 < row["error_share_high"]
    assert abs(row["error_share"]) < 0.05
    assert row["same_pace_n"] > 1.3 * row["actual_n"]
    assert row["error_share"] == pytest.approx(row["predicted_n"] / row["actual_n"] - 1)
    text = readings.backtest(table)
    assert "no more than chance explains" in text
    wrong = worth.backtest(people.assign(later_n=2 * people["later_n"]), repetitions=60)
    assert wrong.iloc[0]["error_share_high"] < 0
    assert "too few" in readings.backtest(wrong)
    assert "Correct totals" in readings.findings(tested=wrong)[0].action
    assert readings.findings(tested=table)[0].action == ""


def test_nothing_later_changes_what_is_foretold(people: pd.DataFrame) -> None:
    shuffled = people.assign(later_n=people["later_n"].sample(frac=1, random_state=1).to_numpy())
    first, second = (worth.backtest(table, repetitions=0) for table in (people, shuffled))
    pd.testing.assert_series_equal(first["predicted_n"], second["predicted_n"])


@pytest.mark.skipif(not CDNOW.exists(), reason="the public data set is not there")
def test_cdnow_held_out() -> None:
    columns = ["person_id", "date", "cds", "value"]
    log = pd.read_csv(CDNOW / "CDNOW_master.txt.gz", sep=r"\s+", skiprows=1, names=columns, dtype={"date": str})
    log = log.assign(timestamp=pd.to_datetime(log["date"]), event="buy")
    table = purchases.customers(log, orders=["buy"], as_of="1998-06-30", split="1997-09-30")
    assert (len(table), table["later_days"].iloc[0]) == (23570, 273.0)
    result = worth.backtest(table, repetitions=25)
    row = result.iloc[0]
    days = log.assign(day=log["timestamp"])[log["timestamp"] > "1997-09-30"].drop_duplicates(["person_id", "day"])
    assert row["actual_n"] == len(days)
    assert -0.2 < row["error_share"] < 0  # the model is somewhat too low, and counting on the pace is far too high
    assert row["same_pace_n"] / row["actual_n"] > 1.4
    value = worth.total(purchases.customers(log, orders=["buy"], as_of="1998-06-30"), VALUE, repetitions=25)
    assert value.attrs["refused"] == ""
    assert value["mean_spend"].iloc[0] == pytest.approx(36, abs=1.5)


def test_hostile_customers_end_with_a_sentence(people: pd.DataFrame) -> None:
    once = people.assign(repeat_n=0, recency_days=0.0, mean_spend=math.nan)
    for few in (people.head(0), people.head(1), people.head(10), once):
        for table in (worth.total(few, VALUE), worth.people(few, VALUE), worth.backtest(few)):
            assert table.empty
            assert "at least 30 are needed" in table.attrs["reason"]
        assert worth.alive(worth.people(few, VALUE)).attrs["reason"]
    nobody = purchases.customers(
        pd.DataFrame({"person_id": [1], "event": ["x"], "value": [1.0], "timestamp": pd.to_datetime(["2025-01-01"])}),
        orders=["buy"],
        as_of="2025-02-01",
    )
    assert "n = 0 people with buy" in worth.total(nobody, VALUE).attrs["reason"]
    for sentence in (readings.orders, readings.backtest, readings.alive):
        assert sentence(worth.total(nobody, VALUE)) == ""
    back = worth.backtest(people.assign(later_n=0), repetitions=5)
    assert back["error_share"].isna().all()
    assert "0 came" in readings.backtest(back)
    with pytest.raises(JourneyError, match="'later_n' is missing"):
        worth.backtest(people.drop(columns="later_n"))
    refunded = people.assign(mean_spend=-people["mean_spend"])
    assert "no value in money" in worth.total(refunded, VALUE, repetitions=0).attrs["refused"]


def test_what_was_bought_is_counted_without_a_model(people: pd.DataFrame) -> None:
    table = purchases.counts(people)
    assert table["customers_n"].sum() == 8000
    assert table["group"].tolist()[0] == "1 purchase"
    assert table["customers_share"].sum() == pytest.approx(1.0)
    assert math.isnan(table["mean_spend"].iloc[0])
    text = readings.bought(table, "EUR")
    assert text.startswith("Of 8,000 customers, ")
    assert "EUR" in text
    once = purchases.counts(people.assign(repeat_n=0, mean_spend=math.nan))
    assert "Of 8,000 customers, 0 (0.0 %, 0.0–0.0 %) bought again so far." in readings.bought(once, "EUR")
    assert "n = 0" in purchases.counts(people.head(0)).attrs["reason"]
    assert readings.bought(purchases.counts(people.head(0))) == ""


def test_small_groups_are_not_shown(people: pd.DataFrame) -> None:
    table = worth.total(people, VALUE, min_n=1500, repetitions=0)
    assert table["n"].min() >= 1500
    assert table["group"].iloc[0] == "all"
    spread = worth.alive(worth.people(people, VALUE), min_n=400)
    assert ((spread["n"] >= 400) | (spread["n"] == 0)).all()


def test_pictures_say_what_they_show(people: pd.DataFrame) -> None:
    table = worth.total(people, VALUE, repetitions=25)
    ax = plots.worth(table, currency="EUR")
    assert "expected margin (EUR) in the next 182 days" in ax.get_xlabel()
    assert len(ax.patches) == 5
    assert plots.alive(worth.alive(worth.people(people, VALUE))).get_xlabel() == "probability to be still active"
    back = plots.backtest(worth.backtest(people, repetitions=25))
    assert [text.get_text() for text in back.get_legend().get_texts()] == ["if the pace stayed", "came", "foretold"]  # type: ignore[union-attr]
    text = readings.orders(table, "EUR")
    assert "of margin in today's money" in text
    assert "nan" not in text


@pytest.mark.slow
def test_intervals_cover_what_the_planted_parameters_expect() -> None:
    model, spent = bgnbd.Model(**TRUTH), spend.Model(p=6.25, q=3.74, gamma=15.44)  # type: ignore[arg-type]
    hits = np.zeros(2)
    for seed in range(100):
        table = world(2500, seed=seed)
        columns = [table[name].to_numpy(float) for name in ("repeat_n", "recency_days", "age_days")]
        expected = model.purchases(*columns, np.full(len(table), 182.0))
        row = worth.total(table, VALUE.model_copy(update={"discount": 0.0}), repetitions=100).iloc[0]
        money = 0.3 * float((expected * spent.expected(columns[0], table["mean_spend"])).sum())
        hits[0] += row["purchases_n_low"] <= expected.sum() <= row["purchases_n_high"]
        hits[1] += row["total_value_low"] <= money <= row["total_value_high"]
    assert (hits >= 88).all()
    assert (hits <= 100).all()


def test_a_third_of_the_time_is_held_out_or_a_sentence_says_why_not() -> None:
    log = make_log("u1: buy@0d buy@3d | u2: buy@2d").assign(value=1.0)
    bought = purchases.customers(log, orders=["buy"], as_of="2025-03-01")
    found = worth.held_out(log, bought, orders=["buy"], as_of="2025-03-01")
    assert found.empty
    assert "not enough data" in found.attrs["reason"]
    none = purchases.customers(log, orders=[], as_of="2025-03-01")
    assert "no purchases are declared" in worth.held_out(log, none, orders=[], as_of="2025-03-01").attrs["reason"]
    assert worth.total(none, Value()).attrs["reason"]
    assert worth.alive(worth.people(none, Value())).attrs["reason"]
