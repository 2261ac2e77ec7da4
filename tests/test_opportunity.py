"""What it would be worth to keep people: by hand, against known figures, with intervals that hold, and as planted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import betaln
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_effectsize

from journeykit import config, engine, funnels, opportunity, opportunity_cells, shrinkage
from journeykit.errors import JourneyError
from journeykit.plots import opportunity as plots
from journeykit.plots import theme
from journeykit.readings import opportunity as readings
from tests.conftest import make_log

DAY = 86_400_000_000
STORE = Path(__file__).resolve().parent.parent / "data" / "laptop_store"
BUY = ["Product page", "Cart", "Shipping cost", "Checkout", "Order"]


def made(groups: dict[str, tuple[int, int, int]], value: float | None = 50.0, days: int = 100) -> funnels.Reached:
    """Who reached what in a funnel a, b, c: of each segment, those who took a, b and c; they come evenly."""
    rows = [
        (segment, depth)
        for segment, (a, b, c) in groups.items()
        for depth, n in ((1, a - b), (2, b - c), (3, c))
        for _ in range(n)
    ]
    table = pd.DataFrame(rows, columns=["seg_0", "depth"])
    first = np.linspace(0, days * DAY, len(table)).astype("int64") if len(table) else []
    table = table.assign(unit=range(1, len(table) + 1), attempt=1, is_open=0, first_us=first)
    table["person_id"] = table["unit"]
    for k in (1, 2, 3):
        table[f"at_{k}"] = (table["first_us"] + k).where(table["depth"] >= k).astype("Int64")
        table[f"seg_{k}"] = table["seg_0"].where(table["depth"] >= k, None)
    table["value_3"] = np.where(table["depth"] == 3, value if value is not None else np.nan, np.nan)
    return funnels.Reached(engine.lazy(table), config.Funnel(steps=["a", "b", "c"]), ("seg",))


def slow_fit(k: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """The spread of rates, by a general optimiser from many starts: mean and strength."""

    def lost(at: np.ndarray) -> float:
        mean, strength = 1 / (1 + np.exp(-at[0])), np.exp(at[1])
        a, b = mean * strength, (1 - mean) * strength
        return -float((betaln(k + a, n - k + b) - betaln(a, b)).sum())

    start = np.log((k.sum() + 1) / (n.sum() - k.sum() + 1))
    bounds = [(-15, 15), (0, np.log(1e3 * n.max()))]
    tried = [minimize(lost, [start, m], method="L-BFGS-B", bounds=bounds) for m in (0, 2, 4, 6, 8, 10)]
    best = min(tried, key=lambda found: found.fun)
    return float(1 / (1 + np.exp(-best.x[0]))), float(np.exp(best.x[1]))


# Shrinkage


def test_the_fit_is_the_maximum_that_an_optimiser_finds() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        size = int(rng.integers(2, 12))
        n, strength, mean = rng.integers(5, 3000, size), np.exp(rng.uniform(0.5, 7)), rng.uniform(0.05, 0.95)
        k = rng.binomial(n, rng.beta(mean * strength, (1 - mean) * strength, size))
        found, (slow_mean, slow_strength) = shrinkage.fit(k, n), slow_fit(k, n)
        if np.isinf(found.strength):
            assert slow_strength > 50 * n.max() or not 0 < k.sum() < n.sum()
        else:
            assert float(found.mean) == pytest.approx(slow_mean, rel=1e-3)
            assert float(found.strength) == pytest.approx(slow_strength, rel=0.01)


def test_many_fits_at_once_are_those_of_each() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(50, 500, (20, 5))
    k = rng.binomial(n, rng.beta(8, 8, (20, 5)))
    every = shrinkage.fit(k, n)
    for i in range(20):
        one = shrinkage.fit(k[i], n[i])
        assert float(every.mean[i]) == pytest.approx(float(one.mean), rel=1e-5)
        if np.isfinite(one.strength):
            assert float(every.strength[i]) == pytest.approx(float(one.strength), rel=1e-4)
        else:
            assert np.isinf(every.strength[i])
    assert shrinkage.shrunk(k, n, every)[3].tolist() == pytest.approx(
        shrinkage.shrunk(k[3], n[3], shrinkage.fit(k[3], n[3])).tolist(), rel=1e-4
    )


@pytest.mark.parametrize(
    ("k", "n", "rates"),
    [
        ([0, 0, 0], [10, 20, 30], [0, 0, 0]),
        ([10, 20], [10, 20], [1, 1]),
        ([5], [10], [0.5]),
        ([5, 0], [10, 0], [0.5, 0.5]),  # nobody says nothing
        ([50, 51, 49], [100, 100, 100], [0.5, 0.5, 0.5]),  # no more than chance
    ],
)
def test_edges_of_shrinkage(k: list[int], n: list[int], rates: list[float]) -> None:
    prior = shrinkage.fit(k, n)
    assert shrinkage.shrunk(k, n, prior).tolist() == pytest.approx(rates)


def test_rates_are_drawn_to_the_mean_more_where_people_are_fewer() -> None:
    k, n = np.array([300, 30, 3, 700]), np.array([1000, 100, 10, 1000])
    rates = shrinkage.shrunk(k, n, shrinkage.fit(k, n))
    assert 0.3 < rates[0] < rates[1] < rates[2] < 0.5
    assert 0.69 < rates[3] < 0.7


def test_the_target_counts_people() -> None:
    assert float(shrinkage.percentile([0.2, 0.4, 0.6], [100, 100, 100], 0.75)) == pytest.approx(0.55)
    few = [0.2, 0.4, *[0.9] * 6]
    assert float(shrinkage.percentile(few, [500, 500, *[2] * 6], 0.75)) < 0.42  # twelve people in six groups
    assert np.quantile(few, 0.75) == 0.9
    assert float(shrinkage.percentile([0.9, 0.2], [1, 999], 0.75)) < 0.6  # not the one person at the top
    assert float(shrinkage.percentile([0.5], [10], 0.75)) == 0.5
    many = shrinkage.percentile([[0.2, 0.6], [0.6, 0.2]], [[100, 100], [100, 100]], 0.75)
    assert many.tolist() == pytest.approx([0.6, 0.6])


SIZES = np.array([1400, 1200, 1000, 900, 800, 600, 500, 300])  # 6,700 people in eight segments


def gains(k: np.ndarray, n: np.ndarray) -> tuple[float, float, float]:
    """More that go on: to the best raw rate, to the best shrunk rate, to the 75th percentile of the shrunk rates."""
    raw, rates = k / n, shrinkage.shrunk(k, n, shrinkage.fit(k, n, 0.01))
    target = shrinkage.percentile(rates, n, 0.75)
    goals = ((raw, raw.max(axis=-1)), (rates, rates.max(axis=-1)), (rates, target))
    return tuple(float((n * np.maximum(0, goal[:, None] - rate)).sum(axis=-1).mean()) for rate, goal in goals)  # type: ignore[return-value]


def test_identical_segments_invent_conversions_unless_they_are_shrunk() -> None:
    """METHODS: eight alike segments of 6,700 people: the raw best invents 189, shrunk 19, their 75th percentile 10."""
    assert SIZES.sum() == 6_700
    k = np.random.default_rng(3).binomial(SIZES, 0.5, (800, 8))
    raw, best, target = gains(k, np.broadcast_to(SIZES, k.shape))
    assert 170 < raw < 205
    assert 13 < best < 24
    assert 7 < target < 14


def test_a_real_spread_is_kept() -> None:
    """METHODS: of a true gain of 834, the raw best says 860 and the shrunk one 808."""
    rng = np.random.default_rng(4)
    shape = np.array([0.3, -0.5, 0.8, -1.0, 1.2, -0.2, 0.5, 0.0])
    rates = 0.45 + shape * 834 / float((SIZES * (shape.max() - shape)).sum())
    assert float((SIZES * (rates.max() - rates)).sum()) == pytest.approx(834)
    k = rng.binomial(SIZES, rates, (800, 8))
    raw, best, _ = gains(k, np.broadcast_to(SIZES, k.shape))
    assert 834 < raw < 880
    assert 780 < best < 834


# The money on leaks


def test_leaks_by_hand() -> None:
    table = opportunity.leaks(made({"x": (100, 60, 30), "y": (100, 40, 20)}, value=50.0))
    assert table[["step", "next_step", "n", "lost_n"]].values.tolist() == [["a", "b", 200, 100], ["b", "c", 100, 50]]
    assert table["later_share"].tolist() == [0.5, 1]
    assert table["orders_n"].tolist() == [50, 50]
    assert table["value"].tolist() == [2500, 2500]
    assert (table["value_low"] < table["value"]).all()
    assert (table["value"] < table["value_high"]).all()
    assert table.attrs["mean_value"] == 50
    assert table.attrs["days"] == pytest.approx(100)
    half = opportunity.leaks(made({"x": (100, 60, 30), "y": (100, 40, 20)}, value=50.0), margin=0.5)
    assert half["value"].tolist() == [1250, 1250]


def test_leaks_skip_optional_steps_and_follow_open_entries() -> None:
    log = make_log("u1: a o b c | u2: a b c | u3: a o | u4: a b").assign(value=8.0)
    found = funnels.reach(log, steps=["a", "o?", "b", "c"])
    table = opportunity.leaks(found)
    assert table[["step", "next_step", "n", "lost_n"]].values.tolist() == [["a", "b", 4, 1], ["b", "c", 3, 1]]
    assert table["orders_n"].tolist() == pytest.approx([2 / 3, 1])
    log = make_log("u1: a b c | u2: b c | u3: b | u4: a | u5: c b").assign(value=8.0)
    table = opportunity.leaks(funnels.reach(log, steps=["a", "b", "c"], entry="open"))
    assert table[["step", "n", "lost_n"]].values.tolist() == [["a", 2, 1], ["b", 4, 2]]
    assert table["later_share"].tolist() == [0.5, 1]


def test_the_interval_of_a_leak_is_that_of_its_share() -> None:
    """The number lost of 4,000 has the standard error of a binomial; the value of each is the same."""
    table = opportunity.leaks(made({"x": (4000, 3000, 3000)}, value=10.0), draws=4000)
    row = table.iloc[0]
    spread = math.sqrt(4000 * 0.25 * 0.75)
    assert row["orders_n"] == 1000
    assert row["orders_n_low"] == pytest.approx(1000 - 1.96 * spread, abs=5)
    assert row["orders_n_high"] == pytest.approx(1000 + 1.96 * spread, abs=5)
    assert row["value_high"] == pytest.approx(10 * row["orders_n_high"])


def test_open_windows_are_set_apart_and_no_value_is_no_money() -> None:
    found = made({"x": (100, 60, 30), "y": (100, 40, 20)}, value=None)
    table = opportunity.leaks(found)
    assert table["orders_n"].tolist() == [50, 50]
    assert table["value"].isna().all()
    waiting = engine.fetch(found.table).assign(is_open=lambda t: (t["seg_0"] == "y").astype(int))
    apart = opportunity.leaks(funnels.Reached(engine.lazy(waiting), found.rules, found.columns))
    assert apart["n"].tolist() == [100, 60]


# What closing gaps would bring


def test_size_by_hand() -> None:
    found = made({"x": (400, 300, 150), "y": (400, 100, 50)}, value=50.0)
    table = opportunity.size(found, kept=0.5)
    row = table.set_index("step").loc["a"]
    k, n = np.array([300, 100]), np.array([400, 400])
    mean, strength = slow_fit(k, n)
    rates = (k + mean * strength) / (n + strength)
    extra = 0.5 * 400 * (rates[0] - rates[1]) * 0.5  # target: the better half; half kept; half of these go on to c
    assert row["target_share"] == pytest.approx(rates[0], rel=1e-3)
    assert row["extra_n"] == pytest.approx(extra, rel=1e-3)
    assert row["value"] == pytest.approx(50 * extra, rel=1e-3)
    assert row["value_if_quarter"] == pytest.approx(25 * extra, rel=1e-3)
    assert row["value_if_all"] == pytest.approx(100 * extra, rel=1e-3)
    assert row[["n", "segments_n", "went_on_share", "behind_n"]].tolist() == [800, 2, 0.5, 400]
    assert row["extra_n_low"] < extra < row["extra_n_high"]
    assert row["test_on"] == "y"
    parts = opportunity.segments(found)
    sums = parts.groupby("step")[["extra_n", "value"]].sum()
    for step in ("a", "b"):
        assert sums.loc[step, "extra_n"] == pytest.approx(table.set_index("step").loc[step, "extra_n"])
        assert sums.loc[step, "value"] == pytest.approx(table.set_index("step").loc[step, "value"])
    assert parts[parts["step"] == "a"]["segment"].tolist() == ["x", "y"]
    assert parts[parts["step"] == "a"]["shrunk_share"].tolist() == pytest.approx(rates.tolist(), rel=1e-3)
    assert table.attrs["kept"] == 0.5
    assert "if the gap" in table.attrs["assumption"].lower()


def test_the_target_is_the_rate_that_three_quarters_stay_below() -> None:
    groups = {"p": (4000, 800, 400), "q": (3000, 1200, 600), "r": (2000, 1200, 600), "s": (1000, 800, 400)}
    row = opportunity.size(made(groups), draws=50).set_index("step").loc["a"]
    # Of 10,000 people, the middles of the segments lie at 20, 55, 80 and 95 %.
    expected = np.interp(0.75, [0.2, 0.55, 0.8, 0.95], [0.2, 0.4, 0.6, 0.8])
    assert row["target_share"] == pytest.approx(expected, abs=0.002)
    assert row["behind_n"] == 7000


def test_no_spread_is_no_opportunity() -> None:
    table = opportunity.size(made(dict.fromkeys("uvwxyz", (200, 100, 50))))
    assert table["extra_n"].tolist() == [0, 0]
    assert table["value"].tolist() == [0, 0]
    assert table["behind_n"].tolist() == [0, 0]
    assert table["test_n"].isna().all()
    assert readings.findings(table) == []
    assert readings.size(table).startswith("No column shows a gap")
    assert (opportunity.segments(made(dict.fromkeys("uvwxyz", (200, 100, 50))))["extra_n"] == 0).all()


def test_the_test_is_the_one_that_power_asks_for_and_that_is_over_first() -> None:
    found = made({"good": (2000, 1400, 700), "bad": (1000, 300, 150), "poor": (1000, 650, 325)}, days=200)
    row = opportunity.size(found).set_index("step").loc["a"]
    parts = opportunity.segments(found)
    parts = parts[parts["step"] == "a"].set_index("segment")
    bad = parts.loc["bad"]
    base = bad["shrunk_share"] * 0.5
    better = base + bad["extra_n"] / bad["n"]
    effect = proportion_effectsize(better, base)
    needed = NormalIndPower().solve_power(effect_size=effect, alpha=0.05, power=0.8, ratio=1)
    assert row["test_on"] == "bad"
    assert row["test_n"] == pytest.approx(needed, abs=1)
    assert row["test_days"] == math.ceil(2 * row["test_n"] / (1000 / 200))
    timed = found.rules.model_copy(update={"within": "30d"})
    waits = opportunity.size(funnels.Reached(found.table, timed, found.columns)).set_index("step").loc["a"]
    assert waits["test_days"] == row["test_days"] + 30


def test_small_segments_are_taken_together() -> None:
    groups = {"x": (400, 300, 150), "y": (400, 100, 50), **{f"s{i}": (5, 2, 1) for i in range(10)}, "none": (3, 1, 1)}
    parts = opportunity.segments(made(groups))
    assert set(parts[parts["step"] == "a"]["segment"]) == {"x", "y", "(other)"}
    assert parts.set_index(["step", "segment"]).loc[("a", "(other)"), "n"] == 53
    assert "(other)" not in set(parts[parts["step"] == "b"]["segment"])  # 21 people, fewer than 30
    assert opportunity.size(made(groups)).set_index("step").loc["a", "segments_n"] == 3


def test_who_has_no_value_is_no_segment() -> None:
    groups = {"x": (400, 300, 150), "y": (400, 100, 50), funnels.NO_VALUE: (100, 90, 80)}
    parts = opportunity.segments(made(groups))
    assert set(parts["segment"]) == {"x", "y"}
    assert opportunity.size(made(groups)).set_index("step").loc["a", "n"] == 800
    rare = {"x": (400, 300, 150), "y": (40, 10, 5), funnels.NO_VALUE: (150, 100, 50)}
    assert opportunity.size(made(rare)).empty  # a column that is empty for one in four compares nobody


def test_draws_are_seeded_and_come_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made({"x": (400, 300, 150), "y": (400, 100, 50), "z": (100, 60, 40)})
    once = opportunity.size(found, draws=50)
    pd.testing.assert_frame_equal(once, opportunity.size(found, draws=50))
    other = opportunity.size(found, draws=50, seed=1)
    assert once["extra_n"].tolist() == other["extra_n"].tolist()
    assert once["extra_n_low"].tolist() != other["extra_n_low"].tolist()
    monkeypatch.setattr(opportunity_cells, "AT_ONCE", 1)
    pd.testing.assert_frame_equal(once, opportunity.size(found, draws=50))


def many(rng: np.random.Generator, n: np.ndarray, rates: np.ndarray) -> opportunity_cells.Cells:
    """Cells of a funnel of two steps, as `cells_of` finds them."""
    k = rng.binomial(n, rates)
    names = np.array([f"s{i}" for i in range(len(n))], dtype=object)
    went = np.repeat([1.0, 0.0], len(n))[:, None]
    return opportunity_cells.Cells(
        reached=funnels.Reached(engine.lazy(pd.DataFrame({"a": [1]})), config.Funnel(steps=["a", "b"]), ("seg",)),
        pairs=[(1, 2)],
        counts=np.concatenate([k, n - k]).astype(float),
        stood=np.ones((2 * len(n), 1)),
        went=went,
        values={("seg", 0): np.concatenate([names, names])},
        value_mean=1.0,
        value_deviation=0.0,
        value_n=10,
        days=10.0,
        design=1.0,
    )


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("n", [np.array([1500, 1000, 600, 300, 200, 100]), np.array([3000, 2000])])
def test_the_interval_holds_the_planted_gain(monkeypatch: pytest.MonkeyPatch, spread: float, n: np.ndarray) -> None:
    rng = np.random.default_rng([int(100 * spread), len(n)])
    runs, covered, above = 60, 0, 0
    for _ in range(runs):
        rates = np.clip(0.45 + spread * rng.standard_normal(len(n)), 0.02, 0.98)
        target = shrinkage.percentile(rates, n, 0.75)
        true = float((n * np.maximum(0, target - rates)).sum())
        cells = many(rng, n, rates)
        monkeypatch.setattr(opportunity, "cells_of", lambda *_, cells=cells: cells)
        row = opportunity.size(cells.reached, kept=1.0, draws=200).iloc[0]
        covered += row["extra_n_low"] - 1e-9 <= true <= row["extra_n_high"] + 1e-9
        above += row["extra_n_low"] > true + 1e-9
    assert covered >= 0.88 * runs
    assert above <= 0.06 * runs


def test_the_largest_is_among_the_top_three_and_the_sure_come_first() -> None:
    rng = np.random.default_rng(8)
    people = 3000
    best = {"p": 0.85, "q": 0.35}
    columns = {f"seg_{name}": rng.choice(["p", "q"], people) for name in "abcde"}
    lost = rng.random(people) > np.array([best[value] for value in columns["seg_c"]])
    log = make_log(" | ".join("u: a" if x else "u: a b" for x in lost)).assign(value=3.0)
    log = log.assign(**{name: log["person_id"].map(dict(enumerate(values, 1))) for name, values in columns.items()})
    table = opportunity.size(funnels.reach(log, steps=["a", "b"], by=list(columns)), draws=200)
    assert table["by"].iloc[0] == "seg_c"
    assert table["top_three_share"].iloc[0] == 1
    assert (table["extra_n_low"].iloc[1:] == 0).all()
    assert table["top_three_share"].iloc[1:].max() < 0.95
    assert table["top_three_share"].sum() <= 3 + 1e-9
    two = opportunity.size(funnels.reach(log, steps=["a", "b"], by=["seg_a", "seg_c"]), draws=50)
    assert two["top_three_share"].isna().all()


def test_sessions_of_one_person_make_the_interval_wider() -> None:
    texts = ["u: " + " ; ".join(["a/web b"] * 8)] * 30 + ["u: " + " ; ".join(["a/web"] * 8)] * 20
    texts += ["u: " + " ; ".join(["a/app b"] * 8)] * 12 + ["u: " + " ; ".join(["a/app"] * 8)] * 38
    log = make_log(" | ".join(texts))
    found = funnels.reach(log, steps=["a", "b"], per="session", by=["channel"])
    alike = opportunity.size(found, draws=300).iloc[0]
    alone = funnels.Reached(found.table.with_columns(person_id=nw.col("unit")), found.rules, found.columns)
    apart = opportunity.size(alone, draws=300).iloc[0]
    assert alike["n"] == apart["n"] == 800
    width, narrow = (row["extra_n_high"] - row["extra_n_low"] for row in (alike, apart))
    assert 1.8 < width / narrow < 4.5  # the square root of 8 is 2.8
    assert alike["test_n"] > 4 * apart["test_n"]


# Hostile input


def test_hostile_input_is_explained() -> None:
    found = made({"x": (400, 300, 150), "y": (400, 100, 50)})
    with pytest.raises(JourneyError, match=r"opportunity: the values of 'sge' at the steps are not known"):
        opportunity.size(found, by=["sge"])
    with pytest.raises(JourneyError, match=r"kept is 0. Give a share above 0 and at most 1"):
        opportunity.size(found, kept=0)
    with pytest.raises(JourneyError, match=r"margin is 1.5"):
        opportunity.leaks(found, margin=1.5)
    with pytest.raises(JourneyError, match="draws is 0"):
        opportunity.leaks(found, draws=0)


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"x": (1, 0, 0)},
        {"x": (50, 0, 0)},
        {"x": (50, 50, 50)},
        {"x": (400, 300, 150)},
        {"x": (9, 5, 2), "y": (9, 5, 1)},
    ],
    ids=["nobody", "one", "no conversion", "all convert", "one segment", "too few"],
)
def test_small_inputs_have_no_opportunity(groups: dict[str, tuple[int, int, int]]) -> None:
    found = made(groups)
    for table in (opportunity.size(found), opportunity.segments(found)):
        assert table.empty
        assert table.attrs["reason"].startswith("not enough data")
    leaks = opportunity.leaks(found)
    assert leaks.empty == (not groups)
    assert readings.size(opportunity.size(found)) == ""
    assert isinstance(readings.leaks(leaks), str)
    if len(leaks):
        assert np.isfinite(leaks["orders_n"]).all()
        assert "<svg" in theme.svg(plots.leaks(leaks))


def test_extreme_segments_and_no_funnel() -> None:
    table = opportunity.size(made({"none": (50, 0, 0), "all": (50, 50, 50)}), draws=100)
    row = table.set_index("step").loc["a"]
    assert 0 < row["extra_n"] <= 0.5 * 50
    assert np.isfinite(row[["extra_n_low", "extra_n_high", "value_low", "value_high"]].astype(float)).all()
    nothing = funnels.reach(make_log("u1: a"))
    for table in (opportunity.leaks(nothing), opportunity.size(nothing), opportunity.segments(nothing)):
        assert table.attrs["reason"] == funnels.NO_FUNNEL
    nobody = opportunity.size(made({"x": (50, 20, 0), "y": (50, 40, 0)}), draws=100).set_index("step").loc["a"]
    assert nobody["extra_n"] == 0  # who goes on, but not to the end, brings nothing
    assert math.isnan(nobody["value"])


def test_a_value_that_one_step_shows_is_known_from_there_on() -> None:
    texts = ["u: a/null b/dear"] * 40 + ["u: a/null b/dear c/null"] * 20 + ["u: a/null b/cheap c/null"] * 60
    log = make_log(" | ".join(texts))
    log["channel"] = log["channel"].where(log["channel"] != "null", None)
    found = funnels.reach(log, steps=["a", "b", "c", "d"], by=["channel"])
    table = opportunity.segments(found, min_n=15)
    assert table[["step", "segment", "n"]].values.tolist() == [  # nobody has a value at a
        ["b", "cheap", 60], ["b", "dear", 60], ["c", "cheap", 60], ["c", "dear", 20],
    ]  # fmt: skip


# Sentences and pictures


def test_sentences_and_findings() -> None:
    groups = {"phone": (3000, 900, 450), "desk": (3000, 1800, 900), "tablet": (300, 170, 80)}
    table = opportunity.size(made(groups, value=80.0))
    row = table.iloc[0]
    text = readings.size(table, "EUR")
    assert text.startswith("The surest opportunity is the gap by seg at a: ")
    assert f"EUR {row['value']:,.0f} ({row['value_low']:,.0f}–{row['value_high']:,.0f}) in 100 days" in text
    assert f"If a quarter of those kept go on, it is EUR {row['value_if_quarter']:,.0f}" in text
    assert "Prove it by an A/B test on people at a with seg phone: " in text
    assert text.endswith("do not add up.")
    (finding,) = readings.findings(table, "EUR", owner="Web team")
    assert (finding.id, finding.unit, finding.evidence, finding.owner) == (
        "funnel_opportunity",
        "EUR",
        "associated",
        "Web team",
    )
    assert finding.value == row["value"]
    assert finding.low < finding.value < finding.high
    assert "in each arm" in finding.action
    assert "if a quarter" in finding.caveat.lower()
    bare = opportunity.size(made(groups, value=None))
    (finding,) = readings.findings(bare, "EUR")
    assert finding.unit == "conversions"
    assert "EUR" not in finding.statement + finding.caveat
    leaks = opportunity.leaks(made(groups, value=80.0))
    text = readings.leaks(leaks, "EUR")
    assert text.startswith("The leak that costs most is at a: 3,430 people did not go on to b.")
    assert "not a forecast" in text
    assert "is earned" in readings.leaks(opportunity.leaks(made(groups, value=80.0), margin=0.3), "EUR")


def test_a_test_that_takes_years_is_called_too_long() -> None:
    table = opportunity.size(made({"x": (3000, 1500, 150), "y": (3000, 1650, 165)}, days=365))
    row = table.iloc[0]
    assert row["test_days"] > 365
    table = table.assign(extra_n_low=1.0)
    assert "which is too long: look for a bolder change" in readings.size(table)


def test_pictures_are_drawn_from_their_tables() -> None:
    groups = {"phone": (3000, 900, 450), "desk": (3000, 1800, 900), "tablet": (300, 170, 80)}
    for value, unit in ((80.0, "EUR"), (None, "conversions")):
        table, leaks = opportunity.size(made(groups, value=value)), opportunity.leaks(made(groups, value=value))
        ax = plots.size(table, currency="EUR")
        name = "value" if value else "extra_n"
        widths = [patch.get_width() for patch in ax.patches]
        assert widths == pytest.approx([*(table[name] / 0.5), *table[name]])
        assert f"({unit}; line: 95 % interval)" in ax.get_xlabel()
        bars = [patch.get_width() for patch in plots.leaks(leaks, currency="EUR").patches]
        assert bars == pytest.approx(leaks["value" if value else "orders_n"].tolist())
        assert "<svg" in theme.svg(ax)


# The bundled study: what was planted


@pytest.fixture(scope="module")
def buyers(request: pytest.FixtureRequest) -> funnels.Reached:
    path = STORE / "derived" / "touches.parquet"
    if not path.exists():
        request.getfixturevalue("laptop_store")
    rules = {"within": "30d", "on": "touchpoint", "by": ["segment_shipping_price", "segment_device", "channel"]}
    return funnels.reach(engine.read_parquet(path), steps=BUY, until=pd.Timestamp("2026-01-01"), **rules)


def test_the_leak_at_the_shipping_cost_is_sized(buyers: funnels.Reached) -> None:
    truth = json.loads((STORE / "truth" / "truth.json").read_text())
    people = list(truth["funnel_buy"].values())
    table = opportunity.leaks(buyers).set_index("step")
    assert table["value"].idxmax() == "Shipping cost"
    row = table.loc["Shipping cost"]
    assert row["lost_share_low"] <= 1 - people[3] / people[2] <= row["lost_share_high"]
    assert row["later_share_low"] <= people[4] / people[3] <= row["later_share_high"]
    orders = (people[2] - people[3]) * people[4] / people[3]
    assert orders == pytest.approx(row["orders_n"], rel=0.15)  # of all people, not only those with a closed window
    assert 900 < table["value"].sum() / table["orders_n"].sum() < 1300  # EUR for a laptop


def test_the_price_and_the_device_are_the_opportunities_and_nothing_else_is(buyers: funnels.Reached) -> None:
    table = opportunity.size(buyers, draws=300)
    assert table[["step", "by"]].values.tolist()[:2] == [
        ["Shipping cost", "segment_shipping_price"],
        ["Shipping cost", "segment_device"],
    ]
    assert (table["value_low"].iloc[:2] > 0).all()
    assert (table["top_three_share"].iloc[:2] > 0.95).all()
    # At the cart, the reveal and the order no segment was planted to differ.
    rest = table[table["step"] != "Shipping cost"]
    assert len(rest) >= 6
    assert (rest["extra_n_low"] == 0).all()
    assert table["test_on"].iloc[0] == "49.90"
    assert table["test_n"].iloc[0] < 300
    parts = opportunity.segments(buyers, by=["segment_shipping_price"])
    at = parts[parts["step"] == "Shipping cost"]
    assert at["segment"].tolist() == ["9.90", "19.90", "29.90", "49.90"]
    assert at["extra_n"].iloc[0] == 0
    expected = opportunity.HALF * at["n"].iloc[3] * (at["target_share"] - at["shrunk_share"]).iloc[3]
    assert at["extra_n"].iloc[3] == pytest.approx(expected * opportunity.leaks(buyers)["later_share"].iloc[2])
