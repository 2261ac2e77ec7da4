"""Effects of experiments: every kind of metric against published figures, other libraries and planted truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import tea_tasting as tt
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test
from lifelines.utils import restricted_mean_survival_time
from scipy import stats as scipy_stats

from journeykit import stats
from journeykit.config import Experiment
from journeykit.errors import JourneyError
from journeykit.experiments import arms, bayes, corrections, quantiles, waits
from journeykit.experiments.effects import EFFECTS, effects

COOKIE = Path(__file__).parents[2] / "shared" / "data" / "cookie_cats"


def declare(*metrics: dict[str, object], **changes: object) -> Experiment:
    """An experiment called "test" with arms a (control) and b; buying is its metric unless others are given."""
    plan: dict[str, object] = {
        "name": "test",
        "hypothesis": "b sells more",
        "exposure": "seen",
        "arms": {"a": 0.5, "b": 0.5},
        "control": "a",
        "within": "7d",
        "metrics": list(metrics) or [{"name": "buys", "event": "buy"}],
    }
    return Experiment.model_validate({**plan, **changes})


def halves(people_n: int, /, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"arm": np.tile(["a", "b"], people_n // 2)}).assign(**columns)


RATIO = {"name": "r", "event": "buy", "kind": "ratio", "per": "session"}
COUNT = {"name": "n", "event": "buy", "kind": "count"}
WAIT = {"name": "w", "event": "buy", "kind": "time"}
BUYS = {"name": "buys", "event": "buy"}
TOP = {**COUNT, "quantile": 0.9}
MOOD = {"name": "mood", "event": "rate", "kind": "satisfaction"}


# Ratios


def sessions(n: int, seed: int = 0, lift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    units = halves(n)
    habit = rng.gamma(2, 1, n)
    units["r__per"], units["r__per_before"] = rng.poisson(habit) + 1.0, rng.poisson(habit) + 1.0
    taste = rng.beta(2, 6, n)
    units["r"] = rng.binomial(units["r__per"].astype(int), np.clip(taste + lift * (units["arm"] == "b"), 0, 1))
    units["r__before"] = rng.binomial(units["r__per_before"].astype(int), taste)
    return units.astype({"r": float, "r__before": float})


def test_a_ratio_agrees_with_tea_tasting_on_the_rows_and_with_the_delta_method() -> None:
    units = sessions(2000, lift=0.05)
    row = effects(units, experiment=declare(RATIO)).iloc[0]
    frame = units.assign(variant=(units["arm"] == "b").astype(int))
    metrics = {
        "plain": tt.RatioOfMeans("r", "r__per", use_t=True, equal_var=False),
        "cuped": tt.RatioOfMeans("r", "r__per", "r__before", "r__per_before", use_t=True, equal_var=False),
    }
    result = tt.Experiment(metrics).analyze(frame, control=0)
    plain, cuped = result["plain"], result["cuped"]
    found = row[["effect", "effect_low", "effect_high", "p_value", "relative_share", "relative_share_low"]]
    assert found.astype(float).tolist() == pytest.approx(
        [
            *(plain.effect_size, plain.effect_size_ci_lower, plain.effect_size_ci_upper, plain.pvalue),
            *(plain.rel_effect_size, plain.rel_effect_size_ci_lower),
        ]
    )
    found = row[["cuped_effect", "cuped_effect_low", "cuped_effect_high"]]
    assert found.astype(float).tolist() == pytest.approx(
        [cuped.effect_size, cuped.effect_size_ci_lower, cuped.effect_size_ci_upper]
    )
    assert row["cuped_variance_cut_share"] > 0.1
    assert (row["unit"], row["cuped_covariate"]) == ("per session", "r__before")
    # Deng, Knoblich & Lu (2018): Var = (σ²y − 2Rσxy + R²σ²x) / (n x̄²), summed over arms.
    variance = 0.0
    for _, side in units.groupby("arm"):
        y, x = side["r"], side["r__per"]
        ratio = y.sum() / x.sum()
        spread = y.var() - 2 * ratio * np.cov(x, y)[0, 1] + ratio**2 * x.var()
        variance += spread / len(side) / x.mean() ** 2
    assert (row["effect_high"] - row["effect_low"]) / 2 == pytest.approx(1.96 * math.sqrt(variance), rel=2e-3)


def test_a_ratio_near_zero_has_the_same_interval_without_a_relative_change() -> None:
    units = sessions(2000)
    rare = units.assign(r=np.where(np.arange(2000) % 400 < 2, 1.0, 0.0))
    row = effects(rare, experiment=declare(RATIO)).iloc[0]
    assert math.isnan(row["relative_share"])
    ratios = [side["r"].sum() / side["r__per"].sum() for _, side in rare.groupby("arm")]
    assert row["effect"] == pytest.approx(ratios[1] - ratios[0])
    settings = tt.RatioOfMeans("y", "x", "y0", "x0", use_t=True, equal_var=False)
    plan = declare(RATIO)
    sides = arms.arms_of(*[rare[rare["arm"] == arm] for arm in "ab"], plan.metrics[0], "r__before")
    reference = settings.analyze_aggregates(*[arms.aggregates(side) for side in sides])
    assert row["cuped_effect_high"] == pytest.approx(reference.effect_size_ci_upper, rel=1e-6)


def test_a_ratio_whose_denominator_is_zero_in_an_arm_is_left_out() -> None:
    units = sessions(200)
    units.loc[units["arm"] == "b", ["r", "r__per"]] = 0.0
    table = effects(units, experiment=declare(RATIO))
    assert "nobody in an arm has a session to divide by" in stats.reason_of(table)


# CUPED


def test_cuped_prefers_the_metrics_own_past_and_cuts_by_the_squared_correlation() -> None:
    rng, n, rho = np.random.default_rng(3), 20_000, 0.7
    x = rng.normal(50, 10, n)
    y = 50 + rho * (x - 50) + 10 * math.sqrt(1 - rho**2) * rng.normal(size=n)
    units = halves(n, n=y, n__before=x, touches_before=rng.poisson(3, n))
    row = effects(units, experiment=declare(COUNT)).iloc[0]
    assert 1 - row["cuped_variance_cut_share"] == pytest.approx(1 - rho**2, abs=0.015)  # Deng et al. 2013
    assert row["cuped_covariate"] == "n__before"
    constant = effects(units.assign(n__before=0.0, touches_before=x), experiment=declare(COUNT)).iloc[0]
    assert constant["cuped_covariate"] == "touches_before"
    assert constant["cuped_effect"] == pytest.approx(row["cuped_effect"])


def test_people_without_an_answer_before_count_with_the_mean_of_the_others() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(400)
    units = halves(400, mood=np.clip(before + rng.normal(0, 0.1, 400), 0, 1), mood__before=before)
    full = effects(units, experiment=declare(MOOD)).iloc[0]
    units.loc[units.index % 3 == 0, "mood__before"] = math.nan
    some = effects(units, experiment=declare(MOOD)).iloc[0]
    assert 0.3 < some["cuped_variance_cut_share"] < full["cuped_variance_cut_share"]
    assert some["n_control"] == 200


# Quantiles


def test_a_quantile_agrees_with_drawing_the_samples() -> None:
    rng = np.random.default_rng(4)
    units = halves(1000, n=rng.lognormal(3, 1, 1000))
    row = effects(units, experiment=declare({**COUNT, "quantile": 0.9})).iloc[0]
    drawn = tt.Quantile("n", 0.9, n_resamples=4000, method="percentile", rng=1)
    frame = units.assign(variant=(units["arm"] == "b").astype(int))
    reference = tt.Experiment({"q": drawn}).analyze(frame[["variant", "n"]], control=0)["q"]
    width = reference.effect_size_ci_upper - reference.effect_size_ci_lower
    assert row["effect_low"] == pytest.approx(reference.effect_size_ci_lower, abs=0.08 * width)
    assert row["effect_high"] == pytest.approx(reference.effect_size_ci_upper, abs=0.08 * width)
    assert row["control"] == np.quantile(units.loc[units["arm"] == "a", "n"], 0.9, method="inverted_cdf")
    assert row["unit"] == "events at the 90 % quantile"
    assert row["relative_share_low"] < row["relative_share"] < row["relative_share_high"]


def test_a_quantile_that_never_moves_and_one_of_counts() -> None:
    rng = np.random.default_rng(4)
    units = halves(1000, n=(rng.random(1000) < 0.1).astype(float))
    flat = effects(units, experiment=declare({**COUNT, "quantile": 0.5}))
    assert "the 50 % quantile is the same in nearly every sample" in stats.reason_of(flat)
    row = effects(units, experiment=declare({**COUNT, "quantile": 0.9})).iloc[0]
    assert (row["effect_low"], row["effect_high"], row["p_value"]) == (-1, 1, 1)
    assert math.isnan(row["relative_share"])


def test_a_quantile_over_clusters_is_wider_when_those_of_a_cluster_are_alike() -> None:
    rng = np.random.default_rng(2)
    shop = np.repeat(np.arange(40), 25)
    units = pd.DataFrame({"arm": np.where(shop % 2 == 0, "a", "b"), "cluster": shop})
    units["n"] = rng.normal(0, 1, 40)[shop] * 3 + rng.normal(50, 1, 1000)
    plan = declare({**COUNT, "quantile": 0.5}, cluster="shop")
    clustered, alone = (effects(u, experiment=e).iloc[0] for u, e in (
        (units, plan), (units.drop(columns="cluster"), declare({**COUNT, "quantile": 0.5}))
    ))  # fmt: skip
    assert clustered["effect"] == alone["effect"]
    widths = [row["effect_high"] - row["effect_low"] for row in (clustered, alone)]
    assert widths[0] > 2 * widths[1]
    assert clustered["clusters_n"] == 40


# Time


def waiting(n: int, seed: int = 0, rate: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    units = halves(n)
    until, observed = rng.exponential(1 / np.where(units["arm"] == "a", rate, 1.5 * rate)), rng.uniform(2, 20, n)
    observed = np.minimum(observed, 14.0)
    return units.assign(w=np.minimum(until, observed), w__event=(until <= observed).astype(float))


def test_time_agrees_with_lifelines() -> None:
    units = waiting(600)
    row = effects(units, experiment=declare(WAIT, within="14d")).iloc[0]
    fits = [KaplanMeierFitter().fit(side["w"], side["w__event"]) for _, side in units.groupby("arm")]
    means = [restricted_mean_survival_time(fit, t=14.0) for fit in fits]
    assert row["effect"] == pytest.approx(means[1] - means[0])
    assert (row["control"], row["unit"], row["method"]) == (pytest.approx(means[0]), "days", "restricted mean, 14 days")
    a, b = (units[units["arm"] == arm] for arm in "ab")
    assert row["log_rank_p_value"] == pytest.approx(logrank_test(a["w"], b["w"], a["w__event"], b["w__event"]).p_value)
    assert row["effect_high"] < 0
    assert row["p_value"] < 0.05


def test_the_parts_of_a_restricted_mean_are_what_leaving_a_unit_out_changes() -> None:
    side = waiting(120).loc[lambda u: u["arm"] == "a"]
    days, came = side["w"].to_numpy(), side["w__event"].to_numpy()
    whole = waits.restricted_mean(days, came, 12.0)
    n = len(days)
    left_out = np.array([waits.restricted_mean(np.delete(days, i), np.delete(came, i), 12.0).days for i in range(n)])
    jackknife = (n - 1) * (whole.days - left_out) / n
    assert whole.parts == pytest.approx(jackknife, abs=3e-3)
    assert math.sqrt((whole.parts**2).sum()) == pytest.approx(whole.error, rel=0.03)  # Greenwood has n − d for n


def test_time_over_clusters_of_one_person_is_time_over_people() -> None:
    units = waiting(600)
    alone = effects(units, experiment=declare(WAIT)).iloc[0]
    each = effects(units.assign(cluster=np.arange(600)), experiment=declare(WAIT, cluster="shop")).iloc[0]
    assert each["effect"] == alone["effect"]
    assert each["effect_low"] == pytest.approx(alone["effect_low"], rel=0.02)
    pairs = units.assign(cluster=np.arange(600) // 4 * 2 + np.arange(600) % 2)
    pairs = pd.concat([pairs, pairs]).assign(cluster=lambda u: u["cluster"])
    twice = effects(pairs, experiment=declare(WAIT, cluster="shop")).iloc[0]
    naive = effects(pairs.drop(columns="cluster"), experiment=declare(WAIT)).iloc[0]
    assert twice["effect_high"] - twice["effect_low"] > 1.3 * (naive["effect_high"] - naive["effect_low"])


def test_time_with_few_events_is_left_out() -> None:
    units = waiting(200).assign(w__event=0.0)
    reason = stats.reason_of(effects(units, experiment=declare(WAIT)))
    assert "0 people of an arm had the event, at least 10 are needed" in reason
    same = halves(200, w=3.0, w__event=1.0)
    assert "all events come at the same time" in stats.reason_of(effects(same, experiment=declare(WAIT)))


# Clusters


def shops(n_shops: int = 60, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 40, n_shops)
    shop = np.repeat(np.arange(n_shops), sizes)
    units = pd.DataFrame({"cluster": shop.astype(str), "arm": np.where(shop % 2 == 0, "a", "b")})
    level = rng.normal(0, 1, n_shops)[shop]
    units["n"] = 10 + 2 * level + rng.normal(0, 2, len(shop))
    units["n__before"] = 10 + 2 * level + rng.normal(0, 1, len(shop))
    units["buys"] = (rng.random(len(shop)) < 1 / (1 + np.exp(-level))).astype(float)
    return units


@pytest.mark.parametrize("name", ["n", "buys"])
def test_clusters_agree_with_a_regression_with_clustered_errors(name: str) -> None:
    units = shops()
    metric = COUNT if name == "n" else {"name": "buys", "event": "buy"}
    row = effects(units, experiment=declare(metric, cluster="shop")).iloc[0]
    model = sm.OLS(units[name], sm.add_constant((units["arm"] == "b").astype(float)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": units["cluster"].astype(int)})
    assert row["effect"] == pytest.approx(fit.params.iloc[1])
    half = (row["effect_high"] - row["effect_low"]) / 2
    # The regression takes G/(G−1) of all clusters, tea-tasting that of each arm; t has an arm's 30 clusters less 1.
    assert half / scipy_stats.t.ppf(0.975, 29) == pytest.approx(fit.bse.iloc[1], rel=0.02)
    assert row["p_value"] == pytest.approx(2 * scipy_stats.t.sf(abs(row["effect"]) / fit.bse.iloc[1], 29), rel=0.2)
    assert row["clusters_n"] == 60
    plain = effects(units.drop(columns="cluster"), experiment=declare(metric)).iloc[0]
    assert half > 1.5 * (plain["effect_high"] - plain["effect_low"]) / 2


def test_cuped_over_clusters_cuts_what_differs_between_them() -> None:
    row = effects(shops(), experiment=declare(COUNT, cluster="shop")).iloc[0]
    assert row["cuped_variance_cut_share"] > 0.8


def test_too_few_clusters_and_people_without_one() -> None:
    units = shops(18)
    few = effects(units, experiment=declare(COUNT, cluster="shop"))
    assert "9 clusters in an arm, at least 10 are needed" in stats.reason_of(few)
    units = shops()
    units.loc[units.index[:7], "cluster"] = None
    units.loc[units.index[-1], "cluster"] = units["cluster"].iloc[20]
    row = effects(units, experiment=declare(COUNT, cluster="shop")).iloc[0]
    assert "7 people without a shop are left out" in row["caution"]
    assert "1 of shop are in several arms" in row["caution"]
    assert row["n_control"] + row["n_treatment"] == len(units) - 7


# Corrections


def several(n: int = 800) -> tuple[pd.DataFrame, list[dict[str, object]]]:
    rng = np.random.default_rng(8)
    names = ["p", "s1", "s2", "g"]
    units = halves(n)
    for name, lift in zip(names, [0.1, 0.08, 0.0, 0.02], strict=True):
        units[name] = (rng.random(n) < 0.3 + lift * (units["arm"] == "b")).astype(float)
    roles = ["primary", "secondary", "secondary", "guardrail"]
    return units, [{"name": name, "event": "x", "role": role} for name, role in zip(names, roles, strict=True)]


@pytest.mark.parametrize("correction", ["holm", "fdr", "preferential"])
def test_corrections_cover_the_family_and_spare_guardrails(correction: str) -> None:
    units, metrics = several()
    table = effects(units, experiment=declare(*metrics, correction=correction)).set_index("metric")
    p = table["p_value"]
    family = p[["p", "s1", "s2"]].sort_values()
    low, middle, high = family
    expected = {
        "holm": [min(1, 3 * low), max(min(1, 3 * low), min(1, 2 * middle))],
        "fdr": [min(3 * low, 1.5 * middle, high), min(1.5 * middle, high)],
        "preferential": [min(1, family.iloc[i] * 0.05 / {"p": 0.04}.get(family.index[i], 0.005)) for i in (0, 1)],
    }[correction]
    assert table.loc[family.index[:2], "p_adjusted"].tolist() == pytest.approx(expected)
    assert math.isnan(table.loc["g", "p_adjusted"])
    assert table.loc["g", "decides_p_value"] == p["g"]
    assert table.loc[family.index, "decides_p_value"].tolist() == table.loc[family.index, "p_adjusted"].tolist()
    assert (
        table.loc["g", ["decides_low", "decides_high"]].tolist()
        == table.loc["g", ["effect_low", "effect_high"]].tolist()
    )


def test_preferential_intervals_agree_with_its_p_values() -> None:
    for seed in range(15):
        rng = np.random.default_rng(seed)
        units, metrics = several(400)
        units["s1"] = (rng.random(400) < 0.3 + 0.14 * (units["arm"] == "b")).astype(float)
        table = effects(units, experiment=declare(*metrics, correction="preferential"))
        family = table[table["role"] != "guardrail"]
        outside = (family["decides_low"] > 0) | (family["decides_high"] < 0)
        assert outside.tolist() == (family["decides_p_value"] < 0.05).tolist()
        assert family["adjusted_low"].tolist() == family["decides_low"].tolist()
        assert (family["adjusted_high"] - family["adjusted_low"] > family["effect_high"] - family["effect_low"]).all()


def test_all_of_the_error_goes_to_the_only_role() -> None:
    role = pd.Series(["secondary", "secondary", "guardrail"])
    metrics = [{"name": f"m{i}", "event": "x", "role": name} for i, name in enumerate(role)]
    assert corrections.levels(role, declare(*metrics)).tolist() == [0.025, 0.025, 0.05]


# Bayes


def test_probability_agrees_with_millers_closed_form() -> None:
    from scipy.special import betaln

    def miller(a1: int, b1: int, a0: int, b0: int) -> float:
        i = np.arange(a1)
        return float(np.exp(betaln(a0 + i, b1 + b0) - np.log(b1 + i) - betaln(1 + i, b1) - betaln(a0, b0)).sum())

    assert bayes.probability_higher(121, 881, 101, 901) == pytest.approx(0.92318, abs=5e-6)  # Evan Miller
    for a1, b1, a0, b0 in [(121, 881, 101, 901), (1, 31, 4, 28), (4, 28, 1, 31), (700, 300, 650, 350)]:
        assert bayes.probability_higher(a1, b1, a0, b0) == pytest.approx(miller(a1, b1, a0, b0), abs=2e-5)


def test_the_better_direction_turns_the_probability_round_and_peeking_is_warned_of() -> None:
    units = halves(2000, buys=np.tile([1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 200))
    up = bayes.posterior(units, experiment=declare())
    down = bayes.posterior(units, experiment=declare({"name": "buys", "event": "buy", "better": "down"}))
    assert up["better_probability_share"].iloc[0] == pytest.approx(1 - down["better_probability_share"].iloc[0])
    assert up["loss_if_kept"].iloc[0] == pytest.approx(down["loss_if_shipped"].iloc[0])
    assert "does not license early looks" in up.attrs["warning"]
    assert bayes.posterior(units.head(20), experiment=declare()).empty
    assert "no metric is a share" in stats.reason_of(bayes.posterior(units.assign(n=1.0), experiment=declare(COUNT)))


# Hostile input


def test_no_number_is_missing_where_an_interval_is_shown() -> None:
    units = sessions(400).assign(n=np.arange(400.0), buys=np.tile([1.0, 0.0, 0.0, 1.0, 0.0], 80), mood=math.nan)
    units = units.assign(q=units["n"], **waiting(400)[["w", "w__event"]])
    metrics = (
        RATIO,
        COUNT,
        WAIT,
        {**MOOD, "role": "guardrail"},
        {"name": "buys", "event": "b"},
        {**COUNT, "name": "q", "quantile": 0.9},
    )
    for stopping in ("fixed", "always_valid", "group_sequential"):
        table = effects(units, experiment=declare(*metrics, stopping=stopping, planned_n=500))
        assert table.columns.tolist() == list(EFFECTS)
        assert len(table) == 5
        told = [name for name in EFFECTS if name.startswith(("effect", "decides", "sequential_p", "p_value", "n_"))]
        assert table[told].notna().all().all()
        assert table.attrs["left_out"] == ["mood (b): not enough data (0 answers in an arm, at least 30 are needed)"]


@pytest.mark.parametrize("metric", [RATIO, COUNT, WAIT, MOOD, BUYS, TOP])
@pytest.mark.parametrize("n", [0, 1, 2, 10])
def test_few_units_of_every_kind_give_a_sentence(metric: dict[str, object], n: int) -> None:
    columns = {name: np.ones(n) for name in ("r", "r__per", "n", "w", "w__event", "mood", "buys")}
    units = pd.DataFrame({"arm": np.array((["a", "b"] * n)[:n], dtype=object), **columns})
    table = effects(units, experiment=declare(metric))
    assert table.empty
    assert "n = " in stats.reason_of(table)


@pytest.mark.parametrize("metric", [RATIO, COUNT, WAIT, MOOD, TOP])
def test_no_variation_of_every_kind_gives_a_sentence(metric: dict[str, object]) -> None:
    columns = {
        name: np.ones(200) for name in ("r", "r__per", "r__before", "r__per_before", "n", "w", "w__event", "mood")
    }
    reason = stats.reason_of(effects(halves(200, **columns), experiment=declare(metric)))
    assert "no metric can be compared" in reason
    assert "nan" not in reason


def test_a_control_mean_of_zero_and_an_arm_without_variation_have_an_interval() -> None:
    rng = np.random.default_rng(0)
    units = halves(400, n=rng.poisson(2, 400))
    units["n"] = units["n"].where(units["arm"] == "b", 0).astype(float)
    row = effects(units, experiment=declare(COUNT)).iloc[0]
    assert row["control"] == 0
    assert math.isnan(row["relative_share"])
    assert row["effect_low"] > 0
    assert "no relative change" in row["method"]


def test_heavy_tails_in_uneven_arms_are_marked_for_ratios_too() -> None:
    rng = np.random.default_rng(2)
    arm = np.repeat(["a", "b"], [360, 40])
    units = pd.DataFrame({"arm": arm, "r": rng.lognormal(1, 1.5, 400) * (rng.random(400) < 0.2), "r__per": 1.0})
    row = effects(units, experiment=declare(RATIO, arms={"a": 0.9, "b": 0.1})).iloc[0]
    assert "skewed with uneven arms: about" in row["caution"]


def test_a_null_is_an_error_that_names_the_metric_but_not_before_its_time() -> None:
    units = halves(200, n=np.arange(200.0), mature=True)
    units.loc[:20, ["n", "mature"]] = [math.nan, False]
    assert effects(units, experiment=declare(COUNT))["n_control"].tolist() == [89]
    units.loc[100, "n"] = math.nan
    with pytest.raises(JourneyError, match=r"metrics\.n: 1 of 179 people have no value"):
        effects(units, experiment=declare(COUNT))


# A real experiment


@pytest.mark.skipif(not COOKIE.exists(), reason="../shared/data/cookie_cats is not there")
def test_cookie_cats_with_rounds_capped() -> None:
    raw = pd.read_csv(COOKIE / "cookie_cats.csv.gz", sep=";")
    expected = json.loads((COOKIE / "expected.json").read_text())["figures"]
    rounds = raw["sum_gamerounds"].astype(float)
    units = pd.DataFrame({"arm": raw["version"], "back": raw["retention_7"].astype(float), "rounds": rounds})
    units = units.assign(capped=np.minimum(rounds, 500), top=rounds)
    metrics = [
        {"name": "back", "event": "x"},
        {"name": "rounds", "event": "x", "kind": "count", "role": "secondary"},
        {"name": "capped", "event": "x", "kind": "count", "role": "secondary", "cap": 500},
        {"name": "top", "event": "x", "kind": "count", "role": "secondary", "quantile": 0.9},
    ]
    plan = declare(
        *metrics, arms={"gate_30": 0.5, "gate_40": 0.5}, control="gate_30", correction="preferential", planned_n=90_000
    )
    table = effects(units, experiment=plan).set_index("metric")
    figure = expected["retention_7_test"]["value"]
    assert table.loc["back", "effect"] == pytest.approx(figure["diff"])
    ends = table.loc["back", ["effect_low", "effect_high"]].tolist()
    assert ends == pytest.approx(figure["ci95_wald_unpooled"], rel=1e-3)
    assert table.loc["back", "decides_high"] < 0  # it stands after the correction, and with the interval that is wider
    assert table.loc["back", "sequential_high"] < 0
    assert table.loc["rounds", "p_value"] == pytest.approx(expected["gamerounds_welch"]["value"]["p"])
    widths = table["effect_high"] - table["effect_low"]
    assert widths["capped"] < 0.5 * widths["rounds"]  # one player with 49,854 rounds makes most of the variance
    assert table.loc["top", "effect_low"] <= 0 <= table.loc["top", "effect_high"]


def test_draws_are_the_same_on_every_call() -> None:
    units = halves(400, n=np.random.default_rng(1).gamma(2, 3, 400))
    plan = declare({**COUNT, "quantile": 0.75})
    pd.testing.assert_frame_equal(effects(units, experiment=plan), effects(units, experiment=plan))
    assert quantiles.SEED
