"""The Gamma–Gamma model of spend and the check of what it assumes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate
from scipy.special import gamma as gamma_function

from journeykit.churn import purchases, spend
from journeykit.churn.spend import Model
from journeykit.errors import JourneyError

DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CDNOW = DATA / "cdnow_purchases"


def simulate(n: int, *, p: float = 6.25, q: float = 3.74, gamma: float = 15.44, seed: int = 0) -> pd.DataFrame:
    """Repeat buyers of a Gamma–Gamma world; frequency has nothing to do with spend."""
    rng = np.random.default_rng(seed)
    x = 1 + rng.negative_binomial(0.8, 0.3, n)
    mean = rng.gamma(p * x, 1 / (rng.gamma(q, 1 / gamma, n) * x))
    return pd.DataFrame({"person_id": np.arange(n), "repeat_n": x, "mean_spend": mean})


def dependent(n: int, strength: float, seed: int = 0) -> pd.DataFrame:
    """Repeat buyers whose spend is multiplied by frequency to a power."""
    people = simulate(n, seed=seed)
    return people.assign(mean_spend=people["mean_spend"] * people["repeat_n"] ** strength)


def world(n: int, strength: float, seed: int = 5) -> pd.DataFrame:
    """Customers seen for some weeks and then for half a year more; spend rises with their pace of buying to a power."""
    rng = np.random.default_rng(seed)
    pace, leaving, age = rng.gamma(0.8, 1 / 6, n), rng.beta(0.8, 2.4, n), rng.uniform(26, 52, n)
    x, later, clock, active = np.zeros(n, int), np.zeros(n, int), np.zeros(n), np.ones(n, bool)
    while active.any():
        clock = clock + rng.exponential(1 / np.maximum(pace, 1e-12))
        active &= clock <= age + 26
        x, later = x + (active & (clock <= age)), later + (active & (clock > age))
        active &= rng.random(n) >= leaving
    rate = rng.gamma(3.74, 1 / 15.44, n) / (pace / pace.mean()) ** strength
    mean = rng.gamma(6.25 * np.maximum(x, 1), 1 / (rate * np.maximum(x, 1)))
    columns = {"repeat_n": x, "mean_spend": np.where(x > 0, mean, math.nan), "later_n": later, "scale": 6.25 / rate}
    return pd.DataFrame(columns)


def test_published_expectation() -> None:
    model = Model(p=6.25, q=3.74, gamma=15.44)
    assert model.expected(2, 22.35) == pytest.approx(24.66, abs=5e-3)
    everybody = 6.25 * 15.44 / 2.74
    assert model.expected(0, math.nan) == pytest.approx(everybody)
    assert model.expected(3, 0.0) == pytest.approx(everybody)  # gifts and refunds say nothing about spend
    assert model.expected(10_000, 50.0) == pytest.approx(50.0, rel=1e-3)


def test_the_likelihood_is_that_of_the_story() -> None:
    p, q, gamma = 3.0, 4.0, 10.0
    for x, mean in ((1, 8.0), (3, 15.0)):

        def density(rate: float, x: int = x, mean: float = mean) -> float:
            prior = gamma**q * rate ** (q - 1) * math.exp(-gamma * rate) / gamma_function(q)
            shape, pace = p * x, rate * x
            return float(prior * pace**shape * mean ** (shape - 1) * math.exp(-pace * mean) / gamma_function(shape))

        expected, _ = integrate.quad(density, 0, 10)
        table = pd.DataFrame({"repeat_n": [x], "mean_spend": [mean]})
        rows = spend.Rows(table)
        at = np.log([p, q, gamma / rows.scale])
        value, slope = rows.likelihood(at, np.ones(1))
        assert value - math.log(rows.scale) == pytest.approx(math.log(expected), abs=1e-8)
        for k in range(3):
            step = 1e-6 * np.eye(3)[k]
            up, down = (rows.likelihood(at + sign * step, np.ones(1))[0] for sign in (1, -1))
            assert slope[k] == pytest.approx((up - down) / 2e-6, abs=1e-5)


@pytest.mark.skipif(not CDNOW.exists(), reason="the public data set is not there")
def test_cdnow_spend_is_near_the_published_fit() -> None:
    columns = ["person_id", "date", "cds", "value"]
    log = pd.read_csv(CDNOW / "CDNOW_master.txt.gz", sep=r"\s+", skiprows=1, names=columns, dtype={"date": str})
    log = log.assign(timestamp=pd.to_datetime(log["date"]), event="buy")
    table = purchases.customers(log, orders=["buy"], as_of="1998-06-30", split="1997-09-30")
    fits = [spend.fit(table[table["person_id"] % 10 == digit]) for digit in range(10)]
    assert not any(fit.reason for fit in fits)
    for name, published in (("p", 6.25), ("q", 3.74), ("gamma", 15.44)):
        found = [getattr(fit, name) for fit in fits]
        assert min(found) < published < max(found)
    everybody = [float(fit.expected(0, math.nan)) for fit in fits]
    assert min(everybody) < 6.25 * 15.44 / 2.74 < max(everybody)
    whole = spend.assumption(table).iloc[0]  # the paper reports .11 for its sample
    samples = [spend.assumption(table[table["person_id"] % 10 == k]).iloc[0] for k in range(10)]
    assert sum(row["correlation_low"] < 0.11 < row["correlation_high"] + 0.05 for row in samples) >= 7
    assert whole["correlation_low"] < whole["correlation"] < whole["correlation_high"]
    assert whole["holds"] == 1


def test_planted_parameters_are_recovered_whatever_the_currency() -> None:
    people = simulate(10_000, seed=1)
    model = spend.fit(people)
    assert [model.p, model.q, model.gamma] == pytest.approx([6.25, 3.74, 15.44], rel=0.12)
    yen = spend.fit(people.assign(mean_spend=150 * people["mean_spend"]))
    assert yen.gamma == pytest.approx(150 * model.gamma, rel=1e-3)
    assert yen.expected(2, 3000.0) == pytest.approx(150 * model.expected(2, 20.0), rel=1e-4)
    assert yen.log_likelihood == pytest.approx(model.log_likelihood - 10_000 * math.log(150), rel=1e-6)


def test_intervals_of_parameters_cover() -> None:
    hits = np.zeros(3)
    for seed in range(60):
        table = spend.parameters(spend.fit(simulate(800, seed=seed)))
        truth = np.array([6.25, 3.74, 15.44])
        hits += (table["value_low"] <= truth) & (table["value_high"] >= truth)
    assert (hits >= 51).all()
    assert (hits <= 60).all()


def test_a_refit_from_nearby_is_the_fit() -> None:
    people = simulate(600, seed=2)
    drawn = np.random.default_rng(0).multinomial(600, np.full(600, 1 / 600)).astype(float)
    rows = spend.Rows(people)
    near = spend.refit(rows, drawn, spend.fit(people))
    far = spend.fit(people.loc[people.index.repeat(drawn.astype(int))])
    assert [near.p, near.q, near.gamma] == pytest.approx([far.p, far.q, far.gamma], rel=2e-3)


def test_the_assumption_fails_by_the_declared_rule_only() -> None:
    unrelated = spend.assumption(simulate(2000, seed=3)).iloc[0]
    assert unrelated["holds"] == 1
    assert unrelated["correlation_low"] < 0 < unrelated["correlation_high"]
    weak = spend.assumption(dependent(20_000, 0.1, seed=4)).iloc[0]
    assert 0 < weak["correlation_low"] < weak["limit"]  # there for sure, and not too strong
    assert weak["holds"] == 1
    strong, falling = (spend.assumption(dependent(2000, strength, seed=5)).iloc[0] for strength in (0.8, -0.8))
    assert strong["correlation_low"] > strong["limit"]
    assert falling["correlation_high"] < -falling["limit"]
    assert strong["holds"] == falling["holds"] == 0
    few = spend.assumption(dependent(40, 0.3, seed=6)).iloc[0]
    assert few["correlation_low"] < few["limit"]
    assert few["holds"] == 1
    # One customer who spends a fortune does not decide: the interval is as wide as that customer is alone.
    people = simulate(2000, seed=7)
    people.loc[people["repeat_n"].idxmax(), "mean_spend"] *= 500
    assert spend.assumption(people).iloc[0]["holds"] == 1


def test_the_interval_of_the_correlation_holds_no_dependence_where_there_is_none() -> None:
    held = 0
    for seed in range(60):
        row = spend.assumption(simulate(500, seed=seed)).iloc[0]
        held += row["correlation_low"] <= 0 <= row["correlation_high"]
    assert held >= 50


@pytest.mark.parametrize(
    ("strength", "correlation", "everybody", "once"),
    [(0.0, 0.0, 0.0, 0.0), (0.2, 0.10, 0.03, 0.30), (0.5, 0.21, 0.06, 1.0), (1.0, 0.29, 0.12, 3.5)],
)
def test_what_the_limit_rests_on(strength: float, correlation: float, everybody: float, once: float) -> None:
    """How far values are off when spend goes with the pace of buying: of all, and of those who bought once."""
    people = world(40_000, strength)
    row = spend.assumption(people).iloc[0]
    assert row["correlation"] == pytest.approx(correlation, abs=0.02)
    told = people["later_n"] * spend.fit(people).expected(people["repeat_n"], people["mean_spend"])
    came = people["later_n"] * people["scale"]
    single = people["repeat_n"] == 0
    assert told.sum() / came.sum() - 1 == pytest.approx(everybody, abs=0.015)
    assert told[single].sum() / came[single].sum() - 1 == pytest.approx(once, abs=0.05 + once / 10)


def test_hostile_spends_end_with_a_sentence() -> None:
    people = simulate(300, seed=9)
    for few in (people.head(0), people.head(1), people.head(10), people.assign(mean_spend=0.0)):
        assert "at least 30 are needed" in spend.fit(few).reason
        assert "at least 30 are needed" in spend.assumption(few).attrs["reason"]
    assert "at least 30 are needed" in spend.fit(people.assign(repeat_n=0, mean_spend=math.nan)).reason
    assert "at least 30 are needed" in spend.fit(people.assign(mean_spend=-5.0)).reason
    assert "spends the same" in spend.fit(people.assign(mean_spend=9.99)).reason
    assert "spends the same" in spend.assumption(people.assign(mean_spend=9.99)).attrs["reason"]
    assert "equally often" in spend.assumption(people.assign(repeat_n=1)).attrs["reason"]
    wild = people.assign(mean_spend=np.exp(np.random.default_rng(0).normal(0, 6, 300)))
    model = spend.fit(wild)
    assert model.reason
    assert spend.parameters(model).attrs["reason"] == model.reason
    with pytest.raises(JourneyError, match="there is no model"):
        model.expected(1, 2.0)
    with pytest.raises(JourneyError, match="'mean_spend' is missing"):
        spend.fit(people.drop(columns="mean_spend"))
