"""Purchases of each customer and the BG/NBD model, against published figures, integrals and planted parameters."""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate
from scipy.special import beta as beta_function
from scipy.special import gamma as gamma_function
from scipy.special import hyp2f1

from journeykit.churn import bgnbd, purchases
from journeykit.churn.bgnbd import Model
from journeykit.errors import JourneyError
from tests.conftest import make_log

DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CDNOW = DATA / "cdnow_purchases"
PUBLISHED = Model(r=0.243, alpha=4.414, a=0.793, b=2.426)  # Fader, Hardie & Lee (2005), table 2
cdnow_there = pytest.mark.skipif(not CDNOW.exists(), reason="the public data set is not there")


def simulate(
    n: int, *, r: float = 0.8, alpha: float = 6.0, a: float = 0.8, b: float = 2.4, weeks: float = 52.0, seed: int = 0
) -> pd.DataFrame:
    """Customers of a BG/NBD world: repeat purchases by the hour, staggered first ones."""
    rng = np.random.default_rng(seed)
    pace, leaving = rng.gamma(r, 1 / alpha, n), rng.beta(a, b, n)
    age = rng.uniform(weeks / 2, weeks, n)
    x, recency = np.zeros(n, int), np.zeros(n)
    active, clock = np.ones(n, bool), np.zeros(n)
    while active.any():
        clock = clock + rng.exponential(1 / np.maximum(pace, 1e-12))
        active &= clock <= age
        x, recency = x + active, np.where(active, clock, recency)
        active &= rng.random(n) >= leaving
    return pd.DataFrame({"person_id": np.arange(n), "repeat_n": x, "recency_days": 7 * recency, "age_days": 7 * age})


def cdnow_log() -> pd.DataFrame:
    columns = ["person_id", "date", "cds", "value"]
    log = pd.read_csv(
        CDNOW / "CDNOW_master.txt.gz", sep=r"\s+", skiprows=1, names=columns, dtype={"date": str, "person_id": int}
    )
    return log.assign(timestamp=pd.to_datetime(log["date"]), event="buy")


@pytest.fixture(scope="module")
def cdnow() -> pd.DataFrame:
    return cdnow_log()


# purchases


def test_purchases_by_hand() -> None:
    log = make_log(
        "u1: buy@2h buy@20h buy@3d buy@10d | u2: other@0d buy@4d other@9d | u3: other@1d | u4: buy@9d buy@12d"
    )
    log["value"] = [10.0, 20.0, 30.0, None, 9.0, 5.0, 9.0, 9.0, 7.0, 8.0]
    before = log.copy()
    table = purchases.customers(log, orders=["buy"], as_of="2025-01-12")
    pd.testing.assert_frame_equal(log, before)
    assert table["person_id"].tolist() == [1, 2, 4]
    assert table["started_at"].tolist() == [pd.Timestamp(f"2025-01-{day}") for day in ("01 02:00", "05", "10")]
    assert table["repeat_n"].tolist() == [2, 0, 0]  # two on the first day are one; day 12 is not yet seen
    assert table["recency_days"].tolist() == [10.0, 0.0, 0.0]
    assert table["age_days"].tolist() == [11.0, 7.0, 2.0]
    assert table["mean_spend"].tolist()[0] == 15.0  # 30 and nothing, over two days
    assert table["mean_spend"].isna().tolist() == [False, True, True]


def test_a_split_tells_what_was_known_and_what_came_later() -> None:
    log = make_log("u1: buy@0d buy@3d buy@9d buy@10d | u2: buy@8d buy@9d | u3: buy@2d").assign(value=4.0)
    table = purchases.customers(log, orders=["buy"], as_of="2025-01-15", split="2025-01-05")
    assert table["person_id"].tolist() == [1, 3]  # u2 came after the split
    assert table["repeat_n"].tolist() == [1, 0]
    assert table["age_days"].tolist() == [4.0, 2.0]
    assert table["later_n"].tolist() == [2, 0]
    assert table["later_spend"].tolist() == [8.0, 0.0]
    assert set(table["later_days"]) == {10.0}
    moved = log.assign(timestamp=log["timestamp"].where(log["timestamp"] < "2025-01-06", pd.Timestamp("2025-01-14")))
    known = [*purchases.CUSTOMER_COLUMNS]
    again = purchases.customers(moved, orders=["buy"], as_of="2025-01-15", split="2025-01-05")
    pd.testing.assert_frame_equal(again[known], table[known])  # nothing after the split changes what was known


def test_refunds_are_taken_off_and_are_no_purchase() -> None:
    log = make_log("u1: buy@0d buy@3d back@5d | u2: buy@0d back@1d | u3: back@1d").assign(
        value=[50.0, 40.0, -40.0, 30.0, -30.0, -5.0]
    )
    table = purchases.customers(log, orders=["buy", "back"], as_of="2025-01-15")
    assert table["person_id"].tolist() == [1, 2]
    assert table["repeat_n"].tolist() == [1, 0]
    assert table["recency_days"].tolist() == [3.0, 0.0]
    assert table["mean_spend"].tolist()[0] == 0.0


def test_purchases_say_what_is_wrong() -> None:
    log = make_log("u1: buy@0d").assign(value=1.0)
    assert "n = 0 people with order" in purchases.customers(log, orders=["order"], as_of="2025-02-01").attrs["reason"]
    assert "no purchases are declared" in purchases.customers(log, orders=[], as_of="2025-02-01").attrs["reason"]
    with pytest.raises(JourneyError, match="not before the end"):
        purchases.customers(log, orders=["buy"], as_of="2025-02-01", split="2025-02-01")
    with pytest.raises(JourneyError, match="'value' is missing"):
        purchases.customers(log.drop(columns="value"), orders=["buy"], as_of="2025-02-01")
    table = purchases.customers(log, orders=["buy"], as_of="2025-01-31")
    assert purchases.split_of(table, "2025-01-31") == pd.Timestamp("2025-01-21")
    assert purchases.split_of(table, "2025-01-02") is None
    assert purchases.split_of(table.head(0), "2025-01-31") is None


@cdnow_there
def test_cdnow_meets_its_reference_figures(cdnow: pd.DataFrame) -> None:
    expected = json.loads((CDNOW / "expected.json").read_text())["figures"]
    table = purchases.customers(cdnow, orders=["buy"], as_of="1998-06-30")
    summary = expected["rfm_summary"]["value"]
    assert len(table) == expected["customers"]["value"]
    assert table["repeat_n"].mean() == pytest.approx(summary["mean_frequency"], abs=1e-9)
    assert table["recency_days"].mean() == pytest.approx(summary["mean_recency_days"], abs=1e-6)
    assert table["age_days"].mean() == pytest.approx(summary["mean_T_days"], abs=1e-6)
    assert (table["repeat_n"] > 0).sum() == summary["repeat_customers"]
    silent = table["age_days"] - table["recency_days"] > 180
    assert silent.sum() == expected["inactive_over_180_days"]["value"]
    assert (table["repeat_n"] + 1).sum() == expected["customer_days"]["value"]


# the model


def test_published_predictions() -> None:
    assert PUBLISHED.alive(2, 7 * 30.43, 7 * 38.86) == pytest.approx(0.7266, abs=5e-5)
    assert PUBLISHED.purchases(2, 7 * 30.43, 7 * 38.86, 7 * 39) == pytest.approx(1.226, abs=5e-4)
    assert PUBLISHED.alive(0, 0, 7 * 38.86) == 1.0


@cdnow_there
def test_the_published_customer_and_fit(cdnow: pd.DataFrame) -> None:
    """The sample of the paper is every tenth customer; the full log gives ten such samples, of the same size."""
    table = purchases.customers(cdnow, orders=["buy"], as_of="1998-06-30", split="1997-09-30")
    one = table[table["person_id"] == 4].iloc[0]  # the first customer of the paper
    assert one["repeat_n"] == 2
    assert one["recency_days"] / 7 == pytest.approx(30.43, abs=5e-3)
    assert one["age_days"] / 7 == pytest.approx(38.86, abs=5e-3)
    assert one["mean_spend"] == pytest.approx(22.35, abs=6e-3)
    fits = [bgnbd.fit(table[table["person_id"] % 10 == digit]) for digit in range(10)]
    assert [fit.n for fit in fits] == [2357] * 10
    for name, published in (("r", 0.243), ("alpha", 4.414), ("a", 0.793), ("b", 2.426), ("log_likelihood", -9582.4)):
        found = [getattr(fit, name) for fit in fits]
        assert min(found) < published < max(found)
    held = 0
    for fit in fits:
        assert not fit.reason
        assert fit.covariance is not None
        gaps = np.log([getattr(fit, name) / getattr(PUBLISHED, name) for name in bgnbd.NAMES])
        # Two samples differ by √2 of the error of one.
        held += bool((np.abs(gaps) < 1.96 * np.sqrt(2 * np.diag(fit.covariance))).all())
    assert held >= 8


def test_the_likelihood_is_that_of_the_story() -> None:
    """Integrated over pace and chance of leaving by brute force, for customers with and without repeat purchases."""
    r, alpha, a, b = 0.9, 5.0, 1.3, 2.2

    def density(pace: float, leaving: float, x: int, recency: float, age: float) -> float:
        prior = alpha**r * pace ** (r - 1) * math.exp(-alpha * pace) / gamma_function(r)
        prior *= leaving ** (a - 1) * (1 - leaving) ** (b - 1) / beta_function(a, b)
        stays = (1 - leaving) ** x * pace**x * math.exp(-pace * age)
        leaves = leaving * (1 - leaving) ** (x - 1) * pace**x * math.exp(-pace * recency) if x else 0.0
        return float(prior * (stays + leaves))

    for x, recency, age in ((0, 0.0, 10.0), (1, 4.0, 10.0), (4, 9.0, 12.0)):
        expected, _ = integrate.dblquad(lambda p, lam: density(lam, p, x, recency, age), 0, 12, 0, 1)  # noqa: B023
        table = pd.DataFrame({"repeat_n": [x], "recency_days": [recency], "age_days": [age]})
        rows = bgnbd.Rows(table, 1.0)
        value, _ = rows.likelihood(np.log([r, alpha, a, b]), rows.weights())
        assert value == pytest.approx(math.log(expected), abs=1e-4)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rows = bgnbd.Rows(simulate(300), 7.0)
    at = np.log([0.7, 5.0, 1.2, 2.0])
    _, slope = rows.likelihood(at, rows.weights())
    for k in range(4):
        step = 1e-6 * np.eye(4)[k]
        up, down = (rows.likelihood(at + sign * step, rows.weights())[0] for sign in (1, -1))
        assert slope[k] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-4)


def test_the_stable_form_is_the_published_one_and_stays_finite() -> None:
    m = PUBLISHED
    for x, age, ahead in ((0, 20.0, 39.0), (2, 38.86, 39.0), (9, 30.0, 10.0)):
        last = m.a + m.b + x - 1
        ratio = ((m.alpha + age) / (m.alpha + age + ahead)) ** (m.r + x)
        original = last / (m.a - 1) * (1 - ratio * hyp2f1(m.r + x, m.b + x, last, ahead / (m.alpha + age + ahead)))
        assert m.if_alive(x, 7 * age, 7 * ahead) == pytest.approx(original, rel=1e-9)
    assert m.if_alive(3, 100, 0) == pytest.approx(0, abs=1e-12)
    many = m.purchases(np.array([500, 5000]), [365.0, 365.0], [365.0, 365.0], 365.0)
    assert np.isfinite(many).all()
    assert (many > 100).all()
    near, at = (Model(r=0.5, alpha=4, a=a, b=2.0).if_alive(2, 100, 100) for a in (1.0001, 1.0))
    assert near == pytest.approx(at, rel=1e-3)


def test_predictions_meet_a_simulation() -> None:
    world = {"r": 0.8, "alpha": 6.0, "a": 0.8, "b": 2.4}
    rng = np.random.default_rng(1)
    n = 400_000
    pace, leaving = rng.gamma(world["r"], 1 / world["alpha"], n), rng.beta(world["a"], world["b"], n)
    clock, active, counted = np.zeros(n), np.ones(n, bool), np.zeros(n)
    while active.any():
        clock = clock + rng.exponential(1 / np.maximum(pace, 1e-12))
        active &= clock <= 30
        counted += active
        active &= rng.random(n) >= leaving
    assert Model(**world).if_alive(0, 0, 7 * 30.0) == pytest.approx(counted.mean(), rel=0.01)


def test_planted_parameters_are_recovered_whatever_the_unit() -> None:
    people = simulate(20_000, seed=2)
    weeks, day = bgnbd.fit(people), bgnbd.fit(people, unit_days=1.0)
    assert (weeks.r, weeks.alpha) == (pytest.approx(0.8, rel=0.08), pytest.approx(6.0, rel=0.08))
    assert (weeks.a, weeks.b) == (pytest.approx(0.8, rel=0.15), pytest.approx(2.4, rel=0.15))
    assert day.alpha == pytest.approx(7 * weeks.alpha, rel=1e-4)
    columns = [people[name].head(50) for name in ("repeat_n", "recency_days", "age_days")]
    assert weeks.purchases(*columns, 90) == pytest.approx(day.purchases(*columns, 90), rel=1e-4)


def test_weights_are_customers_counted_more_than_once() -> None:
    people = simulate(800, seed=3)
    drawn = np.random.default_rng(0).multinomial(800, np.full(800, 1 / 800)).astype(float)
    rows = bgnbd.Rows(people, 7.0)
    first = bgnbd.refit(rows, rows.weights())
    near = bgnbd.refit(rows, rows.weights(drawn), first)
    far = bgnbd.fit(people.loc[people.index.repeat(drawn.astype(int))])
    assert [near.r, near.alpha, near.a, near.b] == pytest.approx([far.r, far.alpha, far.a, far.b], rel=1e-3)
    assert near.n == far.n == 800


@pytest.mark.filterwarnings("error")
def test_hostile_customers_end_with_a_sentence() -> None:
    people = simulate(400, seed=4)
    once = people.assign(repeat_n=0, recency_days=0.0)
    for few in (people.head(0), people.head(1), people.head(10), once):
        model = bgnbd.fit(few)
        assert "at least 30 are needed" in model.reason
        assert bgnbd.parameters(model).attrs["reason"] == model.reason
        with pytest.raises(JourneyError, match="no model to predict with"):
            model.purchases(1, 1, 2, 3)
    left = once.assign(repeat_n=1, recency_days=7.0, age_days=200.0)  # all bought again, after a week, and never more
    assert "did not settle" in bgnbd.fit(left).reason
    stayers = simulate(3000, a=0.001, b=30.0, seed=5)
    assert "nobody seems to leave" in bgnbd.fit(stayers).reason
    alike = simulate(3000, r=400.0, alpha=3000.0, seed=6)
    model = bgnbd.fit(alike)
    assert not model.reason or "did not settle" in model.reason
    gone = simulate(3000, a=8000.0, b=2000.0, seed=7)  # after a repeat purchase 80 % of all leave
    assert "same chance, 79 %" in bgnbd.fit(gone).reason
    with pytest.raises(JourneyError, match="after the end of observation"):
        bgnbd.fit(people.assign(age_days=people["recency_days"] - 1))
    with pytest.raises(JourneyError, match="'age_days' is missing"):
        bgnbd.fit(people.drop(columns="age_days"))


def test_a_million_customers_are_grouped() -> None:
    people = simulate(2000, seed=8).round()
    people["recency_days"] = np.minimum(people["recency_days"], people["age_days"])
    many = people.loc[people.index.repeat(50)]
    rows = bgnbd.Rows(many, 7.0)
    assert len(rows.x) <= 2000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small, large = bgnbd.fit(people), bgnbd.fit(many)
    assert large.alpha == pytest.approx(small.alpha, rel=1e-3)
    assert large.log_likelihood == pytest.approx(50 * small.log_likelihood, rel=1e-9)


@pytest.mark.slow
def test_intervals_of_parameters_cover_the_planted_ones() -> None:
    truth = {"r": 0.8, "alpha": 6.0, "a": 0.8, "b": 2.4}
    hits = pd.Series(0, index=list(truth))
    fits = 0
    for seed in range(200):
        model = bgnbd.fit(simulate(3000, seed=seed))
        if model.reason:
            continue
        fits += 1
        table = bgnbd.parameters(model).set_index("parameter")
        hits += [
            table.loc[name, "value_low"] <= value <= table.loc[name, "value_high"] for name, value in truth.items()
        ]
    assert fits >= 195
    assert (hits / fits > 0.91).all()
    assert (hits / fits < 0.99).all()
