"""Cost by first channel and payback: by hand, against closed forms, and where there is nothing to pay back."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from journeykit.churn import acquisition, payback
from journeykit.config_churn import Value
from journeykit.errors import JourneyError
from journeykit.plots import churn_value as plots
from journeykit.readings import churn_value as readings
from tests.conftest import make_log

START = pd.Timestamp("2025-01-01")
VALUE = Value(margin=30.0, per="30d", discount=0.0, horizon="365d", orders="buy", margin_share=0.5)


def spent(**amounts: float) -> pd.DataFrame:
    """Spend by channel, half on the first and half on the last day of the year."""
    days = ("2025-01-01", "2025-12-31")
    rows = [(day, channel, amount / 2) for channel, amount in amounts.items() for day in days]
    return pd.DataFrame(rows, columns=["date", "marketing_channel", "spend"])


def customers(n: int, *, mean: float = 200.0, channel: str = "paid", first: int = 0, seed: int = 0) -> pd.DataFrame:
    """Exponential stays with staggered starts over the year, all by one channel."""
    rng = np.random.default_rng(seed)
    life, began = rng.exponential(mean, n), rng.uniform(0, 360, n)
    seen = 365 - began
    return pd.DataFrame(
        {
            "person_id": first + np.arange(n),
            "started_at": START + pd.to_timedelta(began, unit="D"),
            "duration_days": np.minimum(life, seen),
            "ended": (life <= seen).astype(int),
            "channel": channel,
        }
    )


def contract(people: pd.DataFrame, spend: pd.DataFrame, value: Value = VALUE, **more: int) -> payback.Payback:
    return payback.of_contract(people, people[["person_id", "channel"]], spend, value, **more)


def test_the_first_known_channel_up_to_the_start() -> None:
    log = make_log("u1: a b join@1d c | u2: a join@1d c@2d | u3: join@0d | u4: a@0d")
    log["marketing_channel"] = [None, "search", "social", "email", None, None, "late", None, "search"]
    starts = pd.DataFrame({"person_id": [3, 1, 2], "started_at": [START, *[START + pd.Timedelta("1D")] * 2]})
    table = acquisition.first_channels(log, starts)
    assert table["person_id"].tolist() == [1, 2, 3]
    assert table["channel"].tolist() == ["search", "unknown", "unknown"]
    same = make_log("u1: join").assign(marketing_channel="paid")  # the channel of the start itself counts
    start = starts.iloc[1:2].assign(started_at=START + pd.Timedelta("1min"))
    assert acquisition.first_channels(same, start)["channel"].tolist() == ["paid"]
    assert acquisition.first_channels(log, starts.head(0)).empty
    with pytest.raises(JourneyError, match="'marketing_channel' is missing"):
        acquisition.first_channels(log.drop(columns="marketing_channel"), starts)


def test_ties_are_broken_by_the_total_order() -> None:
    log = make_log("u1: a@0d b@0d").assign(marketing_channel=["first", "second"])
    starts = pd.DataFrame({"person_id": [1], "started_at": [START]})
    for order in (log, log.iloc[::-1]):
        assert acquisition.first_channels(order, starts)["channel"].tolist() == ["first"]


def test_contract_by_hand() -> None:
    # A hundred who all stay and are all seen for 365 days bring 1 a day: a cost of 50 is earned on day 50.
    people = customers(100).assign(started_at=START, duration_days=365.0, ended=0)
    table, curves = contract(people, spent(paid=5000.0))
    row = table.iloc[1]
    assert table["channel"].tolist() == ["all channels", "paid"]
    assert (row["cost"], row["payback_days"], row["earned_value"]) == (50.0, 50.0, 365.0)
    assert row["cost_low"] == pytest.approx(5000 / (chi2.ppf(0.975, 202) / 2))
    assert row["cost_high"] == pytest.approx(5000 / (chi2.ppf(0.025, 200) / 2))
    assert row["payback_days_low"] < 50 < row["payback_days_high"]
    assert (row["paid_back_share"], row["verdict"]) == (1.0, "paid back")
    assert curves[curves["channel"] == "paid"]["earned_value"].iloc[-1] == 365.0
    assert set(curves["cost"]) == {50.0}


def test_leaving_makes_payback_later_and_meets_its_closed_form() -> None:
    people = customers(20_000, mean=200, seed=1)
    row = contract(people, spent(paid=20_000 * 100.0), repetitions=30).table.iloc[1]
    assert row["payback_days"] == pytest.approx(-200 * math.log(1 - 100 / 200), rel=0.02)  # 139 days, not 100
    later = contract(people, spent(paid=20_000 * 100.0), VALUE.model_copy(update={"discount": 0.5}), repetitions=30)
    assert later.table.iloc[1]["payback_days"] > row["payback_days"]


def test_not_paid_back_is_said() -> None:
    people = pd.concat([customers(300, seed=2), customers(300, channel="dear", first=1000, seed=3)])
    table, curves = contract(people, spent(paid=300 * 20.0, dear=300 * 400.0))
    row = table.set_index("channel").loc["dear"]
    assert math.isnan(row["payback_days"])
    assert row["paid_back_share"] == 0.0
    assert row["verdict"] == f"not paid back within {row['horizon_days']:.0f} days"
    assert "not paid back within" in readings.payback(table, "EUR")
    found = readings.findings(paybacks={"the plan": table}, currency="EUR")
    assert [finding.id for finding in found] == ["churn.payback.the_plan"]
    assert "Do not raise spend on dear" in found[0].action
    assert found[0].unit == "EUR"
    assert table["channel"].tolist() == ["all channels", "dear", "paid"]  # the largest spend first
    ax = plots.payback(curves, currency="EUR")
    assert {text.get_text() for text in ax.texts} >= {"paid", "dear"}


def test_perhaps_paid_back_has_no_upper_bound() -> None:
    people = customers(60, mean=150, seed=4)
    reach = contract(people, spent(paid=1.0)).table.iloc[1]
    row = contract(people, spent(paid=60 * 0.98 * reach["earned_value"])).table.iloc[1]
    assert row["payback_days_low"] < row["payback_days"]
    assert math.isnan(row["payback_days_high"])
    assert 0 < row["paid_back_share"] < 1
    assert "perhaps not within" in row["verdict"]
    assert "or more" in readings.payback(pd.DataFrame([row]), "EUR") or "to more than" in readings.payback(
        pd.DataFrame([row]), "EUR"
    )


def test_channels_without_spend_have_no_cost() -> None:
    people = pd.concat([customers(100, seed=5), customers(100, channel="direct", first=1000, seed=6)])
    people = pd.concat([people, customers(5, channel="rare", first=5000, seed=7)])
    table = contract(people, spent(paid=1000.0, radio=500.0)).table
    row = table.set_index("channel").loc["direct"]
    assert math.isnan(row["cost"])
    assert row["verdict"] == "no spend is recorded, so there is no cost"
    assert table.iloc[0]["spend"] == 1500.0
    assert table.iloc[0]["n"] == 205
    assert "fewer than 20 new customers: rare" in table.attrs["note"]
    assert "Spend without a new customer: radio" in table.attrs["note"]
    assert "No spend is recorded for direct" in readings.payback(table, "EUR")
    none = contract(people, spent().astype({"spend": float})).table
    assert set(none["verdict"]) == {"this study has no spend table"}
    assert none["cost"].isna().all()
    assert "no spend table" in readings.payback(none)
    zero = contract(people, spent(paid=0.0)).table
    assert zero["cost"].isna().all()
    assert len(plots.payback(contract(people, spent(paid=0.0)).curves).lines) > 0


def test_only_new_customers_within_the_dates_of_spend_share_its_cost() -> None:
    people = customers(200, seed=8)
    early = people["started_at"] < "2025-07-01"
    spend = pd.DataFrame({"date": ["2025-01-01", "2025-06-30"], "marketing_channel": "paid", "spend": [50.0, 50.0]})
    row = contract(people, spend).table.iloc[1]
    assert row["new_n"] == early.sum()
    assert row["n"] == 200
    assert row["cost"] == pytest.approx(100 / early.sum())


def test_orders_by_hand() -> None:
    # Thirty buy for 10 and again for 20 after ten days; thirty more came five days ago and bought for 10.
    old = "|".join(f"u{i}: buy@0d buy@10d" for i in range(30))
    log = make_log(old + "|" + "|".join(f"v{i}: buy@15d" for i in range(30)))
    log["value"] = np.where(log["timestamp"] == START + pd.Timedelta("10D"), 20.0, 10.0)
    people = pd.DataFrame({"person_id": range(1, 61), "channel": "paid"})
    table, curves = payback.of_orders(log, people, spent(paid=60 * 12.0), VALUE, as_of="2025-01-21", min_n=5)
    row = table.iloc[1]
    # Half of 10 at once; after ten days half of 20 of the thirty observed for so long.
    assert row["earned_value"] == 15.0
    assert row["cost"] == 12.0
    assert 9 < row["payback_days"] < 10
    assert curves["earned_value"].tolist()[0] == 5.0
    # The plain mean so far would say 10 and never pay back.
    assert 0.5 * log["value"].sum() / 60 < row["cost"]
    cheap = payback.of_orders(log, people, spent(paid=60 * 4.0), VALUE, as_of="2025-01-21", min_n=5).table.iloc[1]
    assert (cheap["payback_days"], cheap["verdict"]) == (0.0, "paid back at the start")
    assert "which the first day pays back" in readings.payback(pd.DataFrame([cheap]), "EUR")


def test_refunds_lower_what_was_earned() -> None:
    log = make_log("|".join(f"u{i}: buy@0d back@3d" for i in range(30)))
    log["value"] = np.where(log["event"] == "buy", 10.0, -10.0)
    people = pd.DataFrame({"person_id": range(1, 31), "channel": "paid"})
    value = VALUE.model_copy(update={"orders": ["buy", "back"]})
    table, curves = payback.of_orders(log, people, spent(paid=30 * 4.0), value, as_of="2025-01-21", min_n=5)
    assert table.iloc[1]["earned_value"] == 0.0
    assert curves["earned_value"].max() == 5.0
    assert len(plots.payback(curves).lines) > 0


def test_row_order_and_input_do_not_matter() -> None:
    people = pd.concat([customers(100, seed=9), customers(100, channel="other", first=1000, seed=10)])
    before = people.copy()
    first = contract(people, spent(paid=900.0, other=400.0))
    second = contract(people.sample(frac=1, random_state=3), spent(other=400.0, paid=900.0))
    pd.testing.assert_frame_equal(people, before)
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.curves, second.curves)


def test_hostile_input_ends_with_a_sentence() -> None:
    people, spend = customers(100, seed=11), spent(paid=100.0)
    for few in (people.head(0), people.head(1), people.head(10)):
        table, curves = contract(few, spend)
        assert table.empty
        assert curves.empty
        assert "at least 20 are needed" in table.attrs["reason"]
        assert readings.payback(table) == ""
    assert "no margin is declared" in contract(people, spend, Value()).table.attrs["reason"]
    log = make_log("u1: buy").assign(value=1.0)
    channels = pd.DataFrame({"person_id": [1], "channel": ["paid"]})
    none = payback.of_orders(log, channels, spend, Value(), as_of="2025-02-01")
    assert "no purchases are declared" in none.table.attrs["reason"]
    one = payback.of_orders(log, channels, spend, VALUE, as_of="2025-02-01")
    assert "n = 1 new customers" in one.table.attrs["reason"]
    nobody = payback.of_orders(log, channels, spend, VALUE.model_copy(update={"orders": ["x"]}), as_of="2025-02-01")
    assert "n = 0 new customers" in nobody.table.attrs["reason"]
    gone = contract(people.assign(duration_days=0.0, ended=1), spend).table
    assert gone.iloc[1]["earned_value"] == 0.0
    assert "not paid back" in gone.iloc[1]["verdict"]
    with pytest.raises(JourneyError, match="'spend' is missing"):
        contract(people, spend.drop(columns="spend"))


def test_intervals_cover_the_cost_and_the_day() -> None:
    # Customers come as a Poisson stream of 250; each brings 1 a day while there.
    truth_cost, truth_day = 25_000 / 250, -200 * math.log(1 - 100 / 200)
    hits = np.zeros(2)
    for seed in range(60):
        n = int(np.random.default_rng(1000 + seed).poisson(250))
        row = contract(customers(n, seed=seed), spent(paid=25_000.0), repetitions=100).table.iloc[1]
        hits[0] += row["cost_low"] <= truth_cost <= row["cost_high"]
        high = math.inf if math.isnan(row["payback_days_high"]) else row["payback_days_high"]
        hits[1] += row["payback_days_low"] <= truth_day <= high
    assert (hits >= 51).all()
