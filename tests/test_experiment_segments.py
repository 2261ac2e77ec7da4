"""Effects by segment, effects that fade, and what it takes to see them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats as scipy_stats

from journeykit import stats
from journeykit.experiments import cells, novelty, segments
from journeykit.experiments import effects as effects_
from journeykit.experiments import power as plan_
from journeykit.experiments import units as people_
from journeykit.plots import experiment_trust as plots
from journeykit.plots import theme
from journeykit.readings import experiment_effects as readings
from tests.conftest import START
from tests.test_experiments import AS_OF, declare, people

SPEND = {"name": "spend", "event": "buy", "kind": "value"}


def spenders(n: int = 2400, lift: tuple[float, ...] = (0.0, 0.0, 0.0), seed: int = 0) -> pd.DataFrame:
    """Units with skewed spending and a country each; `lift` is the effect of b in each country."""
    rng = np.random.default_rng(seed)
    arm, country = rng.permutation(np.repeat(["a", "b"], n // 2)), rng.integers(0, 3, n)
    spend = rng.lognormal(2, 0.8, n) + np.array(lift)[country] * (arm == "b")
    return pd.DataFrame({"arm": arm, "spend": spend, "country": np.array(["DE", "FR", "PL"])[country]})


# Segments


def test_the_joint_test_is_the_interaction_of_a_regression_with_its_own_variances() -> None:
    units = spenders(lift=(0, 1.0, 2.0))
    found = segments.joint(units, experiment=declare(SPEND, by=["country"])).iloc[0]
    fit = smf.ols("spend ~ C(arm) * C(country)", units).fit(cov_type="HC2")
    names = [name for name in fit.params.index if ":" in name]
    wald = fit.wald_test(np.eye(len(fit.params))[[list(fit.params.index).index(n) for n in names]], scalar=True)
    # Welch's F corrects for small groups; with hundreds of people in each it is that of the regression.
    assert found["p_value"] == pytest.approx(float(wald.pvalue), rel=0.02)
    assert (found["segments_n"], found["n"], found["left_out_n"]) == (3, 2400, 0)


def test_segments_are_shown_only_after_the_joint_test() -> None:
    plan = declare(SPEND, by=["country"])
    calm = spenders(lift=(1.0, 1.0, 1.0))  # an effect, but the same one everywhere
    joint = segments.joint(calm, experiment=plan)
    assert joint["verdict"].tolist() == ["no difference shown"]
    none = segments.by_segment(calm, joint, experiment=plan)
    assert "no joint test shows" in stats.reason_of(none)
    assert "read the overall effect, not that of a segment" in readings.segments(joint, none)
    wild = spenders(lift=(-2.0, 0.0, 3.0))
    joint = segments.joint(wild, experiment=plan)
    found = segments.by_segment(wild, joint, experiment=plan, currency="EUR").set_index("value")
    assert found.index.tolist() == ["DE", "FR", "PL"]
    assert found.loc["DE", "effect_high"] < 0 < found.loc["PL", "effect_low"]
    text = readings.segments(joint, found.reset_index())
    assert text.startswith("test: the effect on spend differs by country (p < 0.001): DE −EUR")
    assert "<svg" in theme.svg(plots.segments(found.reset_index()))


def test_intervals_of_segments_are_welch_at_a_third_of_the_error() -> None:
    units = spenders(lift=(0, 0, 6.0))
    plan = declare(SPEND, by=["country"])
    found = segments.by_segment(units, segments.joint(units, experiment=plan), experiment=plan).iloc[0]
    mine = units.loc[units["country"] == "DE"]
    a, b = (mine.loc[mine["arm"] == arm, "spend"] for arm in "ab")
    reference = scipy_stats.ttest_ind(b, a, equal_var=False)
    interval = reference.confidence_interval(1 - 0.05 / 3)
    assert [found["effect_low"], found["effect_high"]] == pytest.approx([interval.low, interval.high])
    assert found["p_value"] == pytest.approx(reference.pvalue)


def test_joint_tests_of_an_experiment_are_adjusted_together() -> None:
    units = spenders().assign(device=lambda t: np.where(np.arange(len(t)) % 2, "mobile", "desktop"))
    found = segments.joint(units, experiment=declare(SPEND, by=["country", "device"]))
    low, high = sorted(found["p_value"])
    assert sorted(found["p_adjusted"]) == pytest.approx([min(2 * low, 1), max(min(2 * low, 1), high)])


def test_small_constant_and_single_segments_are_left_out_with_a_reason() -> None:
    plan = declare(SPEND, by=["country"])
    units = spenders()
    few = units["country"].where((units["country"] != "PL") | (np.arange(len(units)) < 60), "DE")
    found = segments.joint(units.assign(country=few), experiment=plan).iloc[0]
    assert found["segments_n"] == 2
    assert 0 < found["left_out_n"] < 60
    flat = units.assign(spend=np.where(units["country"] == "PL", 1.0, units["spend"]))
    assert segments.joint(flat, experiment=plan).iloc[0]["segments_n"] == 2
    alone = segments.joint(units.assign(country="DE"), experiment=plan)
    assert "no two segments have 30 people in each arm" in stats.reason_of(alone)
    assert "no segment is declared" in stats.reason_of(segments.joint(units, experiment=declare(SPEND)))
    clustered = segments.joint(units, experiment=declare(SPEND, by=["country"], cluster="shop"))
    assert "drawn by cluster" in stats.reason_of(clustered)


def test_the_cell_of_a_ratio_is_linearised() -> None:
    rng = np.random.default_rng(2)
    per = rng.integers(1, 9, 500).astype(float)
    group = pd.DataFrame({"rate": rng.binomial(per.astype(int), 0.3).astype(float), "rate__per": per})
    metric = declare({"name": "rate", "event": "buy", "kind": "ratio", "per": "visit"}).metrics[0]
    cell = cells.of(group, metric, 30)
    assert cell is not None
    draws = [group.sample(frac=1, replace=True, random_state=i) for i in range(400)]
    spread = np.var([d["rate"].sum() / d["rate__per"].sum() for d in draws])
    assert cell.mean == pytest.approx(group["rate"].sum() / per.sum())
    assert cell.variance == pytest.approx(spread, rel=0.2)


# Novelty


def buyers(daily: list[list[int]], arms: str) -> pd.DataFrame:
    """Touches of people exposed at the start; `daily` has the purchases of each person on each day."""
    rows = [(person, 0.0, "seen", arm) for person, arm in enumerate(arms)]
    for person, days in enumerate(daily):
        rows += [(person, 24.0 * day + 1 + i, "buy", "") for day, n in enumerate(days) for i in range(n)]
    table = pd.DataFrame(rows, columns=["person_id", "hour", "event", "segment_variant"])
    table["timestamp"] = START + pd.to_timedelta(table["hour"], unit="h")
    table["segment_variant"] = table["segment_variant"].where(table["event"] == "seen", None)
    return table.assign(segment_experiment=table["segment_variant"].notna().map({True: "test", False: None}))


def random_buyers(extra: np.ndarray, n: int = 600, level: float = 0.15) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    arms = "ab" * (n // 2)
    rate = level * rng.gamma(2, 0.5, n)[:, None] * (1 + (np.array(list(arms)) == "b")[:, None] * extra)
    return buyers(rng.poisson(rate).tolist(), arms)


PURCHASES = declare({"name": "purchases", "event": "buy", "kind": "count"}, within="8d")


def test_effects_by_day_agree_with_a_slow_version() -> None:
    touches = random_buyers(np.exp(-0.5 * np.arange(7)))
    units = people_.units(touches, experiment=PURCHASES, as_of=AS_OF)
    found = novelty.by_day(touches, units, experiment=PURCHASES)
    bought = touches.loc[touches["event"] == "buy"].assign(day=lambda t: (t["hour"] // 24).astype(int))
    grid = bought.pivot_table(index="person_id", columns="day", values="hour", aggfunc="count")
    grid = grid.reindex(index=units["person_id"], columns=range(8)).fillna(0.0)
    arm = units.set_index("person_id")["arm"]
    gap = grid[arm == "b"].mean() - grid[arm == "a"].mean()
    assert found["effect"].tolist() == pytest.approx(gap.tolist())
    days = np.arange(8) - 3.5
    slopes = (grid * days).sum(axis=1) / (days**2).sum()
    row = novelty.trends(found).iloc[0]
    assert row["trend"] == pytest.approx(slopes[arm == "b"].mean() - slopes[arm == "a"].mean())
    when = [(grid[arm == a] * np.arange(8)).to_numpy().sum() / grid[arm == a].to_numpy().sum() for a in "ab"]
    assert row["later_days"] == pytest.approx(when[1] - when[0])


def test_an_effect_that_fades_is_told_from_one_that_lasts() -> None:
    for extra, verdict in ((3 * np.exp(-0.7 * np.arange(8)), "fades"), (np.full(8, 1.0), "no trend shown")):
        touches = random_buyers(extra, n=1200)
        units = people_.units(touches, experiment=PURCHASES, as_of=AS_OF)
        found = novelty.by_day(touches, units, experiment=PURCHASES)
        trends = novelty.trends(found)
        assert trends["verdict"].tolist() == [verdict]
        text = readings.novelty(trends)
        assert ("the daily effect on purchases fades, from" in text) == (verdict == "fades")
        assert ("low power" in text) == (verdict != "fades")
    assert "<svg" in theme.svg(plots.novelty(found))


def test_a_metric_that_falls_by_itself_is_no_novelty() -> None:
    rng = np.random.default_rng(6)
    arms = "ab" * 1000
    rate = 0.5 * np.exp(-0.5 * np.arange(8)) * np.where(np.array(list(arms)) == "b", 1.5, 1.0)[:, None]
    touches = buyers(rng.poisson(rate).tolist(), arms)  # half as many again on every day, while buying dies down
    units = people_.units(touches, experiment=PURCHASES, as_of=AS_OF)
    row = novelty.trends(novelty.by_day(touches, units, experiment=PURCHASES)).iloc[0]
    assert row["trend_high"] < 0  # the absolute effect does fall
    assert row["verdict"] == "no trend shown"


def test_nobody_buying_and_short_windows_are_told() -> None:
    touches = buyers([[0] * 8] * 80, "ab" * 40)
    units = people_.units(touches, experiment=PURCHASES, as_of=AS_OF)
    found = novelty.by_day(touches, units, experiment=PURCHASES)
    assert found["effect"].tolist() == [0.0] * 8
    assert novelty.trends(found)["verdict"].tolist() == ["no trend shown"]
    assert "nan" not in readings.novelty(novelty.trends(found))
    short = declare({"name": "purchases", "event": "buy", "kind": "count"}, within="2d")
    assert "a window of 3 days or more" in stats.reason_of(novelty.by_day(touches, units, experiment=short))
    few = novelty.by_day(touches, units.head(10), experiment=PURCHASES)
    assert "n = 5" in stats.reason_of(few)
    assert novelty.trends(few).empty


# Power of every kind of metric


def test_a_ratio_over_one_each_needs_what_a_mean_needs() -> None:
    units = people(1000).assign(n=lambda t: np.random.default_rng(0).poisson(2, len(t)).astype(float), n__per=1.0)
    counted = declare({"name": "n", "event": "buy", "kind": "count"}, minimum_effect=0.1)
    per = declare({"name": "n", "event": "buy", "kind": "ratio", "per": "visit"}, minimum_effect=0.1)
    one, other = (plan_.power(units, experiment=plan).iloc[0] for plan in (counted, per))
    assert one["needed_control_n"] == other["needed_control_n"]
    assert one["detectable"] == pytest.approx(other["detectable"])
    assert other["basis"] == "delta method"


def test_a_time_needs_schoenfelds_events() -> None:
    rng = np.random.default_rng(1)
    came = (rng.random(1000) < 0.4).astype(float)
    units = people(1000).assign(wait=rng.exponential(5, 1000), wait__event=came)
    plan = declare({"name": "wait", "event": "buy", "kind": "time", "better": "down"}, minimum_effect=0.2)
    row = plan_.power(units, experiment=plan).iloc[0]
    events = 4 * plan_.DETECTED**2 / math.log(1.2) ** 2
    assert row["needed_control_n"] + row["needed_treatment_n"] == pytest.approx(events / came.mean(), abs=2)
    assert math.log1p(row["detectable_share"]) == pytest.approx(2 * plan_.DETECTED / math.sqrt(came.sum()))
    assert "in the rate of wait or more is seen four times out of five" in readings.power(
        plan_.power(units, experiment=plan)
    )


def test_days_left_follow_the_pace_and_cuped_shortens_them() -> None:
    rng = np.random.default_rng(3)
    at = START + pd.to_timedelta(np.linspace(0, 20, 2000), unit="D")
    before = rng.normal(10, 3, 2000)
    units = pd.DataFrame({"arm": ["a", "b"] * 1000, "exposed_at": at, "mature": True, "spend__before": before})
    units["spend"] = before + rng.normal(0, 1.5, 2000)
    plan = declare(SPEND, minimum_effect=0.02)
    found = effects_.effects(units, experiment=plan)
    row = plan_.power(units, experiment=plan, effects=found, as_of=START + pd.Timedelta("20d")).iloc[0]
    assert row["days_left"] == math.ceil((row["needed_control_n"] - 1000) / 50 + 7)
    cut = found["cuped_variance_cut_share"].iloc[0]
    assert cut == pytest.approx(0.8, abs=0.03)
    total = row["needed_control_n"] + row["needed_treatment_n"]
    assert row["cuped_needed_n"] == pytest.approx(total * (1 - cut), abs=2)
    assert row["cuped_days_left"] == 0
    text = readings.power(plan_.power(units, experiment=plan, effects=found, as_of=AS_OF))
    assert "more at the pace so far (0 with CUPED)" in text


def test_a_quantile_takes_the_interval_that_was_found() -> None:
    units = spenders().assign(mature=True)
    plan = declare({**SPEND, "quantile": 0.9}, minimum_effect=0.1)
    found = effects_.effects(units, experiment=plan)
    assert plan_.power(units, experiment=plan).empty  # nothing to go by
    row = plan_.power(units, experiment=plan, effects=found).iloc[0]
    error = (found["effect_high"] - found["effect_low"]).iloc[0] / (2 * 1.959964)
    assert row["detectable"] == pytest.approx(plan_.DETECTED * error)
    assert row["basis"] == "interval found"
