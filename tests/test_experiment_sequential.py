"""Experiments that are read more than once: always-valid intervals, planned looks, and what early looks said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from journeykit import stats
from journeykit.config import Experiment
from journeykit.experiments import sequential
from journeykit.experiments.effects import effects
from journeykit.experiments.estimates import widened, widened_change
from journeykit.experiments.looks import LOOKS, MOST, looks
from journeykit.plots import experiments as plots
from journeykit.plots import theme
from tests.conftest import START


def declare(*metrics: dict[str, object], **changes: object) -> Experiment:
    plan: dict[str, object] = {
        "name": "test",
        "hypothesis": "b sells more",
        "exposure": "seen",
        "arms": {"a": 0.5, "b": 0.5},
        "control": "a",
        "within": "7d",
        "metrics": list(metrics) or [{"name": "spend", "event": "buy", "kind": "value"}],
    }
    return Experiment.model_validate({**plan, **changes})


def people(n: int, lift: float = 0.0, seed: int = 0, days: float = 50) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    at = START + pd.to_timedelta(np.sort(rng.uniform(0, days, n)), unit="D")
    arm = np.tile(["a", "b"], n // 2)
    spend = rng.normal(10, 2, n) + lift * (arm == "b")
    return pd.DataFrame({"arm": arm, "exposed_at": at, "mature": True, "spend": spend})


# Always valid


def test_limits_meet_the_published_figures() -> None:
    found = [sequential.limit(n, planned=1000) for n in (1000, 100, 10_000)]
    assert found == pytest.approx([3.0352, 3.8551, 3.2417], abs=5e-5)
    assert min(sequential.limit(n, planned=1000) for n in range(100, 5000, 10)) >= found[0] - 1e-3


@pytest.mark.parametrize("n", [200, 1000, 50_000])
def test_p_value_is_at_its_limit_where_the_interval_touches_zero(n: int) -> None:
    z = sequential.limit(n, planned=5000)
    assert sequential.p_value(z, n, planned=5000) == pytest.approx(0.05)
    assert sequential.p_value(z + 0.1, n, planned=5000) < 0.05 < sequential.p_value(z - 0.1, n, planned=5000)
    assert sequential.p_value(0.0, n, planned=5000) == 1
    assert sequential.p_value(math.inf, n, planned=5000) == 0


def test_always_valid_interval_is_the_limit_times_the_standard_error() -> None:
    units = people(20_000, lift=0.1)
    row = effects(units, experiment=declare(planned_n=20_000)).iloc[0]
    error = math.sqrt(sum(side.var() / len(side) for _, side in units.groupby("arm")["spend"]))
    assert row["sequential_high"] == pytest.approx(row["effect"] + 3.0352 * error, abs=1e-4)
    assert row["sequential_low"] == pytest.approx(row["effect"] - 3.0352 * error, abs=1e-4)
    assert row["sequential_relative_low"] < row["relative_share_low"]
    assert (row["decides_low"], row["decides_p_value"]) == (row["effect_low"], row["p_value"])
    nightly = effects(units, experiment=declare(planned_n=20_000, stopping="always_valid")).iloc[0]
    assert nightly["decides_low"] == pytest.approx(row["sequential_low"])
    assert nightly["decides_p_value"] == row["sequential_p_value"]


def test_always_valid_with_preferential_is_the_limit_of_its_level() -> None:
    metrics = ({"name": "spend", "event": "x", "kind": "value"}, {"name": "s", "event": "x", "role": "secondary"})
    units = people(2000).assign(s=np.tile([1.0, 0.0, 0.0, 1.0], 500))
    plan = declare(*metrics, stopping="always_valid", correction="preferential")
    table = effects(units, experiment=plan).set_index("metric")
    half = (table["decides_high"] - table["decides_low"]) / (table["effect_high"] - table["effect_low"])
    expected = [sequential.limit(2000, planned=5000, alpha=level) / 1.959964 for level in (0.04, 0.01)]
    assert half.tolist() == pytest.approx(expected)


def test_too_few_people_for_always_valid_intervals_are_told() -> None:
    row = effects(people(120), experiment=declare(stopping="always_valid")).iloc[0]
    assert "too early to read" in row["caution"]


def test_widening_keeps_the_effect_and_the_scale() -> None:
    assert widened(1.0, 0.5, 2.0, 1.0) == (0.5, 2.0)
    low, high = widened_change(0.5, 0.2, 0.875, 2.0)
    assert (1 + low, 1 + high) == (pytest.approx(1.5 / 1.25**2), pytest.approx(1.5 * 1.25**2))
    assert all(math.isnan(x) for x in widened_change(math.nan, math.nan, math.nan, 2.0))


# Planned looks


# Jennison & Turnbull (2000), tables 2.1 and 2.3: two-sided, error rate 0.05.
PUBLISHED = [(2, 2.178, 1.977), (3, 2.289, 2.004), (5, 2.413, 2.040), (10, 2.555, 2.087)]


@pytest.mark.parametrize(("looks_n", "pocock", "fleming"), PUBLISHED)
def test_bounds_meet_the_published_figures(looks_n: int, pocock: float, fleming: float) -> None:
    assert sequential.group_bounds(looks_n, "pocock")[0] == pytest.approx(pocock, abs=6e-4)
    found = sequential.group_bounds(looks_n, "obrien_fleming")
    assert found[-1] == pytest.approx(fleming, abs=6e-4)
    assert found[0] == pytest.approx(found[-1] * math.sqrt(looks_n))


def test_chance_of_crossing_is_that_of_a_multivariate_normal() -> None:
    bounds = [3.0, 2.5, 2.2, 2.1]
    k = np.arange(1, 5)
    corr = np.sqrt(np.minimum.outer(k, k) / np.maximum.outer(k, k))
    normal = scipy_stats.multivariate_normal(np.zeros(4), corr, seed=1, abseps=1e-6, releps=1e-6, maxpts=4_000_000)
    inside = normal.cdf(np.array(bounds), lower_limit=-np.array(bounds))
    assert sequential.crossing(bounds) == pytest.approx(1 - float(inside), abs=2e-5)
    assert sequential.crossing(sequential.group_bounds(50, "pocock")) == pytest.approx(0.05, abs=1e-8)


@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
def test_repeated_p_value_agrees_with_the_repeated_interval(spending: str) -> None:
    for look in (1, 3, 5):
        bound = sequential.group_bounds(5, spending)[look - 1]
        p = [sequential.repeated_p_value(z, look, looks=5, spending=spending) for z in (bound - 0.05, bound + 0.05)]
        assert p[0] > 0.05 > p[1]


def test_the_look_we_are_at_is_told_by_information_or_time() -> None:
    units = people(1000)
    plan = declare(stopping="group_sequential", planned_n=1600, looks=4)
    row = effects(units, experiment=plan).iloc[0]
    assert row["look"] == 2  # 62.5 % of the information
    bound = sequential.group_bounds(4, "obrien_fleming")[1]
    half = (row["decides_high"] - row["decides_low"]) / (row["effect_high"] - row["effect_low"])
    assert half == pytest.approx(bound / 1.959964)
    by_time = effects(units, experiment=declare(stopping="group_sequential", horizon="60d", looks=4)).iloc[0]
    assert by_time["look"] == 3  # 50 of 60 days
    table = sequential.looks_planned(plan, n=1000)
    assert table["status"].tolist() == ["passed", "now", "ahead", "ahead"]
    assert table["n"].tolist() == [400, 800, 1200, 1600]
    assert table["bound_z"].is_monotonic_decreasing
    assert sequential.look_of(plan, 5000) == 4


def test_before_the_first_look_nothing_decides() -> None:
    early = effects(people(100), experiment=declare(stopping="group_sequential", planned_n=1000)).iloc[0]
    assert early["look"] == 0
    assert math.isnan(early["decides_low"])
    assert early["decides_p_value"] == 1
    assert "before the first of 5 planned looks" in early["caution"]
    unknown = declare(stopping="group_sequential")
    row = effects(people(100), experiment=unknown).iloc[0]
    assert pd.isna(row["look"])
    assert "declare planned_n or horizon" in row["caution"]
    assert "planned_n or horizon" in stats.reason_of(sequential.looks_planned(unknown, n=100))
    assert "not read at planned looks" in stats.reason_of(sequential.looks_planned(declare(), n=100))


# What early looks said


def test_each_look_is_the_effect_of_those_known_by_then() -> None:
    units = people(2000, lift=0.3)
    table = looks(units.sample(frac=1, random_state=3), experiment=declare(planned_n=2000))
    assert table.columns.tolist() == list(LOOKS)
    assert table["look"].tolist() == list(range(1, len(table) + 1))
    assert table["n_control"].iloc[0] + table["n_treatment"].iloc[0] >= 200
    assert table["n_control"].is_monotonic_increasing
    row = table.iloc[20]
    known = units[units["exposed_at"] < START + pd.Timedelta(days=int(row["day"]) + 1)]
    then = effects(known, experiment=declare(planned_n=2000)).iloc[0]
    same = ["effect", "effect_low", "effect_high", "p_value", "sequential_low", "sequential_p_value", "n_control"]
    assert row[same].tolist() == pytest.approx(then[same].tolist())
    assert row["read_at"] == START + pd.Timedelta(days=int(row["day"]) + 1 + 7)
    last = effects(units, experiment=declare(planned_n=2000)).iloc[0]
    assert table.iloc[-1][same].tolist() == pytest.approx(last[same].tolist())
    assert table["lowest_sequential_p_value"].is_monotonic_decreasing
    assert table["lowest_sequential_p_value"].tolist() == table["sequential_p_value"].cummin().tolist()


def test_looks_name_what_each_interval_says() -> None:
    table = looks(people(4000, lift=0.25, seed=2), experiment=declare(planned_n=4000))
    assert table["fixed_says"].iloc[-1] == "higher"
    assert table["always_valid_says"].iloc[-1] == "higher"
    first = [table.loc[table[f"{name}_says"] == "higher", "look"].min() for name in ("fixed", "always_valid")]
    assert first[0] < first[1]


def test_long_tests_show_evenly_spaced_looks() -> None:
    table = looks(people(6000, days=200), experiment=declare())
    assert len(table) == MOST
    assert table["day"].iloc[-1] == 199


def test_only_primary_metrics_are_looked_at_unless_others_are_named() -> None:
    metrics = ({"name": "spend", "event": "x", "kind": "value"}, {"name": "s", "event": "x", "role": "secondary"})
    units = people(600).assign(s=np.tile([1.0, 0.0, 0.0, 1.0], 150))
    plan = declare(*metrics)
    assert set(looks(units, experiment=plan)["metric"]) == {"spend"}
    assert set(looks(units, experiment=plan, metrics=["s"])["metric"]) == {"s"}


@pytest.mark.parametrize("n", [0, 2, 100, 180])
def test_without_enough_people_there_is_a_sentence(n: int) -> None:
    table = looks(people(n), experiment=declare())
    assert table.empty
    assert "not enough data" in stats.reason_of(table)
    assert "times of exposure" in stats.reason_of(looks(people(400).drop(columns="exposed_at"), experiment=declare()))


def test_looks_draw() -> None:
    table = looks(people(2000, lift=0.3), experiment=declare())
    assert "<svg" in theme.svg(plots.looks(table))
    assert theme.svg(plots.looks(table)) == theme.svg(plots.looks(table))
