"""Experiments: who counts, whether the split holds, effects, power and the decision."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import NormalIndPower, TTestIndPower
from statsmodels.stats.proportion import proportion_effectsize

from journeykit import stats
from journeykit.config import Experiment
from journeykit.errors import JourneyError
from journeykit.experiments import decision as decision_
from journeykit.experiments import effects as sizes_
from journeykit.experiments import power as plan_
from journeykit.experiments import results as results_
from journeykit.experiments import trust as trust_
from journeykit.experiments import units as people_
from journeykit.plots import experiments as plots
from journeykit.plots import theme
from journeykit.readings import experiments as readings
from tests.conftest import START, make_log

AS_OF = START + pd.Timedelta("100d")
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
        "before": "28d",
        "metrics": list(metrics) or [{"name": "buys", "event": "buy"}],
    }
    return Experiment.model_validate({**plan, **changes})


def exposed(text: str, name: str = "test") -> pd.DataFrame:
    """A log in which `seen_a` is an exposure to arm a of the experiment; `seen_` records no arm."""
    table = make_log(text)
    seen = table["event"].str.startswith("seen")
    arm = table["event"].str.removeprefix("seen_").where(seen)
    return table.assign(
        segment_experiment=np.where(seen, name, None),
        segment_variant=arm.where(arm != "", None),
        event=table["event"].where(~seen, "seen"),
    )


def people(n: int, seed: int = 0, lift: float = 0.0, **columns: object) -> pd.DataFrame:
    """Units as `units` returns them: arm, one conversion metric and a covariate that explains part of it."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat(["a", "b"], n // 2))
    before = rng.poisson(3, len(arm))
    chance = 0.1 + 0.05 * before + lift * (arm == "b")
    buys = (rng.random(len(arm)) < np.clip(chance, 0, 1)).astype(float)
    return pd.DataFrame({"arm": arm, "touches_before": before, "buys": buys}).assign(**columns)


# Who counts


def test_only_events_strictly_after_the_first_exposure_and_inside_the_window_count() -> None:
    touches = exposed(
        "u1: buy@1h seen_a@2h buy@3h"  # bought before and after: one purchase counts
        "| u2: buy@2h seen_b@2h"  # at the same instant: not after
        "| u3: seen_b@0h buy@7d"  # the end of the window is inclusive
        "| u4: seen_b@0h buy@169h"  # an hour too late
        "| u5: seen_a@0h seen_a@6d buy@8d"  # the first exposure opens the window, not the last
    )
    metrics = ({"name": "buys", "event": "buy"}, {"name": "purchases", "event": "buy", "kind": "count"})
    found = people_.units(touches, experiment=declare(*metrics), as_of=AS_OF).set_index("person_id")
    assert found["buys"].tolist() == [1, 0, 1, 0, 0]
    assert found["purchases"].tolist() == [1, 0, 1, 0, 0]
    assert found["arm"].tolist() == ["a", "b", "b", "b", "a"]
    assert found["touches_before"].tolist() == [1, 0, 0, 0, 0]
    assert found.loc[1, "exposed_at"] == START + pd.Timedelta("2h")


def test_exposure_without_an_arm_does_not_open_the_window() -> None:
    touches = exposed("u1: seen_@1h buy@2h seen_a@3h visit@4h | u2: seen_@1h buy@2h")
    found = people_.units(touches, experiment=declare(), as_of=AS_OF)
    assert found[["person_id", "buys"]].values.tolist() == [[1, 0]]
    counts = people_.exposure_check(touches, experiment=declare(), as_of=AS_OF).set_index("status")["people_n"]
    assert counts["compared"] == 1
    assert counts["no arm recorded"] == 1


def test_people_in_several_arms_in_undeclared_arms_and_with_open_windows_are_counted_apart() -> None:
    touches = exposed(
        "u1: seen_a@1d seen_b@2d buy@3d | u2: seen_c@1d | u3: seen_a@95d buy@96d | u4: seen_b@93d buy@94d | u5: visit"
    )
    found = people_.units(touches, experiment=declare(), as_of=AS_OF).set_index("person_id")
    assert found["mature"].to_dict() == {3: False, 4: True}  # 93 d + 7 d is exactly the end of observation
    assert math.isnan(found.loc[3, "buys"])
    assert found.loc[4, "buys"] == 1
    counts = people_.exposure_check(touches, experiment=declare(), as_of=AS_OF)
    assert counts["people_n"].tolist() == [1, 1, 1, 1]
    assert counts["people_share"].sum() == pytest.approx(1)


def test_the_period_before_is_closed_at_its_start_and_open_at_the_exposure() -> None:
    touches = exposed("u1: visit@0d visit@1d visit@2d seen_a@29d")
    assert people_.units(touches, experiment=declare(), as_of=AS_OF)["touches_before"].tolist() == [2]


def test_other_experiments_are_not_mixed_in() -> None:
    touches = pd.concat([exposed("u1: seen_a@1d buy@2d"), exposed("u1: seen_b@1d buy@2d", name="other")])
    touches["event_id"] = [f"e{n}" for n in range(len(touches))]
    found = people_.units(touches, experiment=declare(), as_of=AS_OF)
    assert found["arm"].tolist() == ["a"]


def test_value_sums_and_satisfaction_averages_inside_the_window() -> None:
    touches = exposed("u1: seen_a@1h buy@2h buy@3h rate@4h rate@5h buy@9d | u2: seen_b@1h visit@2h")
    touches.loc[touches["event"] == "buy", "value"] = [10.0, 5.5, 100.0]
    touches.loc[touches["event"] == "rate", "satisfaction"] = [0.5, 1.0]
    metrics = (
        {"name": "revenue", "event": "buy", "kind": "value"},
        {"name": "csat", "event": "rate", "kind": "satisfaction", "role": "guardrail"},
    )
    found = people_.units(touches, experiment=declare(*metrics), as_of=AS_OF)
    assert found["revenue"].tolist() == [15.5, 0.0]
    assert found["csat"].iloc[0] == 0.75
    assert math.isnan(found["csat"].iloc[1])


def test_a_missing_value_is_not_zero() -> None:
    touches = exposed("u1: seen_a@1h buy@2h buy@3h")
    touches.loc[touches.index[1], "value"] = 10.0
    plan = declare({"name": "revenue", "event": "buy", "kind": "value"})
    found = people_.units(touches, experiment=plan, as_of=AS_OF)
    assert math.isnan(found["revenue"].iloc[0])
    crowd = pd.DataFrame({"arm": ["a"] * 40 + ["b"] * 40, "revenue": [math.nan] + [1.0] * 79})
    with pytest.raises(JourneyError, match="revenue: 1 of 80 people have no value"):
        sizes_.effects(crowd, experiment=plan)


def test_units_agree_with_a_slow_version_on_random_logs() -> None:
    rng = np.random.default_rng(7)
    plan = declare({"name": "buys", "event": "buy"}, {"name": "n_buys", "event": ["buy", "rebuy"], "kind": "count"})
    for _ in range(5):
        rows = []
        for person in range(25):
            for _ in range(rng.integers(1, 12)):
                event = rng.choice(["seen", "buy", "rebuy", "visit"])
                arm = rng.choice(["a", "b"], p=[0.8, 0.2]) if event == "seen" else None
                rows.append((person, START + pd.Timedelta(hours=int(rng.integers(0, 100 * 24))), event, arm))
        touches = pd.DataFrame(rows, columns=["person_id", "timestamp", "event", "segment_variant"])
        touches = touches.assign(segment_experiment=touches["segment_variant"].notna().map({True: "test", False: None}))
        touches = touches.assign(
            source="s", source_row=range(len(touches)), event_id=[f"e{i}" for i in range(len(rows))]
        )
        expected = {}
        for person, mine in touches.groupby("person_id"):
            seen = mine.loc[mine["event"] == "seen"]
            if len(set(seen["segment_variant"])) == 1:
                at = seen["timestamp"].min()
                inside = mine.loc[(mine["timestamp"] > at) & (mine["timestamp"] <= at + pd.Timedelta("7d")), "event"]
                earlier = ((mine["timestamp"] < at) & (mine["timestamp"] >= at - pd.Timedelta("28d"))).sum()
                if at + pd.Timedelta("7d") <= AS_OF:
                    n = (inside == "buy").sum()
                    expected[person] = (float(n > 0), float(n + (inside == "rebuy").sum()), int(earlier))
        found = people_.units(touches.sample(frac=1, random_state=1), experiment=plan, as_of=AS_OF)
        found = found.loc[found["mature"]].set_index("person_id")[["buys", "n_buys", "touches_before"]]
        assert {person: tuple(row) for person, row in found.iterrows()} == expected


# Can the split be trusted?


def test_split_check_meets_the_published_figure() -> None:
    arms = pd.DataFrame({"arm": np.repeat(["a", "b"], [821_588, 815_482])})
    found = trust_.split_check(arms, planned={"a": 0.5, "b": 0.5})
    assert found["p_value"].iloc[0] == pytest.approx(1.8e-6, rel=0.02)  # Kohavi, Tang & Xu 2020
    assert found["verdict"].tolist() == ["broken", "broken"]


def test_split_check_is_exact_in_small_samples_and_follows_the_plan() -> None:
    arms = pd.DataFrame({"arm": ["a"] * 9 + ["b"]})
    assert trust_.split_check(arms, planned={"a": 0.5, "b": 0.5})["p_value"].iloc[0] == pytest.approx(22 / 1024)
    planned = trust_.split_check(arms, planned={"a": 0.9, "b": 0.1})
    assert planned["p_value"].iloc[0] == pytest.approx(1)
    assert planned["share"].tolist() == [0.9, 0.1]


def test_split_check_of_three_arms_and_of_an_arm_that_should_be_empty() -> None:
    arms = pd.DataFrame({"arm": np.repeat(["a", "b", "c"], [500, 500, 300])})
    third = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    expected = scipy_stats.chisquare([500, 500, 300]).pvalue
    assert trust_.split_check(arms, planned=third)["p_value"].iloc[0] == pytest.approx(expected)
    assert set(trust_.split_check(arms, planned={"a": 0.5, "b": 0.5, "c": 0.0})["verdict"]) == {"broken"}


def test_an_unplanned_arm_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(JourneyError, match="Did you mean 'control'"):
        trust_.split_check(pd.DataFrame({"arm": ["contrl"]}), planned={"control": 0.5, "b": 0.5})


def test_no_effect_is_shown_when_the_split_is_broken() -> None:
    units = pd.DataFrame({"arm": ["a"] * 600 + ["b"] * 400, "buys": [0.0, 1.0] * 500})
    found = sizes_.effects(units, experiment=declare())
    assert found.empty
    assert "split is broken" in stats.reason_of(found)
    assert plan_.power(units, experiment=declare()).empty
    decision = decision_.verdict(trust_.split_check(units, planned={"a": 0.5, "b": 0.5}), found, declare()).iloc[0]
    assert decision["decision"] == "no verdict"
    assert "60.0 % of 1,000 people are in a instead of 50.0 %" in decision["sentence"]


# What was the effect?


def test_effect_agrees_with_welch_and_relative_change_is_beside_it() -> None:
    units = people(2000, lift=0.1)
    row = sizes_.effects(units, experiment=declare()).iloc[0]
    a, b = (units.loc[units["arm"] == arm, "buys"] for arm in "ab")
    reference = scipy_stats.ttest_ind(b, a, equal_var=False)
    interval = reference.confidence_interval()
    assert [row["effect_low"], row["effect_high"]] == pytest.approx([interval.low, interval.high])
    assert row["p_value"] == pytest.approx(reference.pvalue)
    assert row["relative_share"] == pytest.approx(b.mean() / a.mean() - 1)
    assert row["relative_share_low"] < row["relative_share"] < row["relative_share_high"]


def test_cuped_cuts_the_variance_by_the_squared_correlation() -> None:
    rng = np.random.default_rng(3)
    n, rho = 20_000, 0.6
    x = rng.normal(100, 10, n)
    y = 50 + rho * (x - 100) + 10 * math.sqrt(1 - rho**2) * rng.normal(size=n)
    units = pd.DataFrame({"arm": ["a", "b"] * (n // 2), "touches_before": x, "spend": y})
    row = sizes_.effects(units, experiment=declare({"name": "spend", "event": "buy", "kind": "value"})).iloc[0]
    assert 1 - row["cuped_variance_cut_share"] == pytest.approx(1 - rho**2, abs=0.015)  # Deng et al. 2013
    assert row["cuped_effect"] == pytest.approx(row["effect"], abs=0.5)


def test_cuped_near_a_zero_mean_agrees_with_tea_tasting_elsewhere() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(10, 2, 4000)
    units = pd.DataFrame({"arm": ["a", "b"] * 2000, "touches_before": x, "change": x - 10 + rng.normal(size=4000)})
    plan = declare({"name": "change", "event": "buy", "kind": "value"})
    near = sizes_.effects(units, experiment=plan).iloc[0]
    far = sizes_.effects(units.assign(change=units["change"] + 50), experiment=plan).iloc[0]
    assert math.isnan(near["relative_share"])
    assert "no relative change" in near["method"]
    columns = ["effect", "effect_low", "effect_high", "p_value", "cuped_effect", "cuped_effect_low"]
    assert near[columns].astype(float).tolist() == pytest.approx(far[columns].astype(float).tolist())


def test_rare_conversions_use_newcombe_and_fisher() -> None:
    units = pd.DataFrame({"arm": ["a"] * 80 + ["b"] * 80, "buys": [0.0] * 80 + [1.0] * 6 + [0.0] * 74})
    row = sizes_.effects(units, experiment=declare()).iloc[0]
    a_low, a_high = stats.wilson(0, 80)
    b_low, b_high = stats.wilson(6, 80)
    share = 6 / 80  # Newcombe (1998), method 10: the two Wilson intervals, put together
    assert row["effect_low"] == pytest.approx(share - math.hypot(share - b_low, a_high))
    assert row["effect_high"] == pytest.approx(share + math.hypot(b_high - share, 0 - a_low))
    assert row["p_value"] == pytest.approx(scipy_stats.fisher_exact([[6, 74], [0, 80]])[1])
    assert math.isnan(row["relative_share"])


def test_nobody_converts_in_either_arm() -> None:
    units = pd.DataFrame({"arm": ["a", "b"] * 100, "buys": 0.0, "touches_before": 1})
    row = sizes_.effects(units, experiment=declare()).iloc[0]
    assert row["effect"] == 0
    assert row["effect_low"] < 0 < row["effect_high"]
    assert row["p_value"] == 1


def test_metrics_without_variation_are_left_out_with_a_reason() -> None:
    metrics = ({"name": "buys", "event": "buy"}, {"name": "cups", "event": "buy", "kind": "count", "role": "secondary"})
    found = sizes_.effects(people(400, cups=2.0), experiment=declare(*metrics))
    assert found["metric"].tolist() == ["buys"]
    assert "same value" in found.attrs["left_out"][0]
    alone = sizes_.effects(people(400, cups=2.0)[["arm", "cups"]], experiment=declare(metrics[1]))
    assert alone.empty
    assert "no metric can be compared" in stats.reason_of(alone)


def test_a_covariate_that_explains_everything_or_nothing_does_no_harm() -> None:
    units = people(400)
    plan = declare({"name": "n", "event": "buy", "kind": "count"})
    full = sizes_.effects(units.assign(n=units["touches_before"].astype(float)), experiment=plan).iloc[0]
    assert math.isnan(full["cuped_effect"])  # nothing is left to estimate an interval from
    none = sizes_.effects(units.assign(n=units["buys"] + 1, touches_before=1), experiment=plan).iloc[0]
    assert none["cuped_variance_cut_share"] == pytest.approx(0, abs=1e-12)


def test_holm_covers_primary_and_secondary_metrics_and_spares_guardrails() -> None:
    metrics = (
        {"name": "buys", "event": "buy"},
        {"name": "again", "event": "buy", "role": "secondary"},
        {"name": "calls", "event": "call", "role": "guardrail", "better": "down"},
    )
    units = people(800, lift=0.1)
    units = units.assign(again=people(800, seed=2)["buys"], calls=people(800, seed=4)["buys"])
    found = sizes_.effects(units, experiment=declare(*metrics))
    family = found.loc[found["role"] != "guardrail"].sort_values("p_value")
    low, high = family["p_value"]
    assert family["p_adjusted"].tolist() == pytest.approx([min(2 * low, 1), max(2 * low, high)])
    assert found.loc[found["role"] == "guardrail", "p_adjusted"].isna().all()


def test_satisfaction_compares_those_who_answered_and_checks_who_did() -> None:
    metric = {"name": "csat", "event": "rate", "kind": "satisfaction", "role": "guardrail"}
    rng = np.random.default_rng(1)
    units = people(1000).assign(csat=rng.choice([0.25, 0.5, 0.75, 1.0], 1000))
    silent = (units["arm"] == "b") & (rng.random(1000) < 0.5)
    units["csat"] = units["csat"].where(~silent)
    plan = declare({"name": "buys", "event": "buy"}, metric)
    row = sizes_.effects(units, experiment=plan).set_index("metric").loc["csat"]
    assert [row["n_control"], row["n_treatment"]] == [500, int(500 - silent.sum())]
    assert "not compared: answer rates differ" in row["caution"]
    answers = trust_.response_check(units, experiment=plan)
    assert answers["verdict"].tolist() == ["differs", "differs"]
    assert answers["answered_share"].iloc[0] == 1
    assert "different rates" in readings.response(answers)


def test_skewed_metrics_with_uneven_arms_are_marked() -> None:
    rng = np.random.default_rng(2)
    units = pd.DataFrame({"arm": np.repeat(["a", "b"], [360, 40]), "spend": rng.lognormal(1, 1.5, 400)})
    plan = declare({"name": "spend", "event": "buy", "kind": "value"}, arms={"a": 0.9, "b": 0.1})
    assert "skewed" in sizes_.effects(units, experiment=plan)["caution"].iloc[0]


def test_tests_keep_their_error_rate_and_intervals_cover() -> None:
    rng, sims, wrong, missed = np.random.default_rng(11), 400, 0, 0
    plan = declare({"name": "spend", "event": "buy", "kind": "value", "role": "guardrail"})
    for _ in range(sims):
        spend = rng.lognormal(2, 1, 400) * (rng.random(400) < 0.4)
        row = sizes_.effects(pd.DataFrame({"arm": ["a", "b"] * 200, "spend": spend}), experiment=plan).iloc[0]
        wrong += row["p_value"] < 0.05
        missed += not row["effect_low"] <= 0 <= row["effect_high"]
    error = 3 * math.sqrt(0.05 * 0.95 / sims)
    assert abs(wrong / sims - 0.05) < error
    assert wrong == missed


# Was it large enough?


def test_needed_sizes_meet_published_figures() -> None:
    base = np.repeat([1.0, 0.0], [50, 950])
    units = pd.DataFrame({"arm": ["a"] * 1000 + ["b"] * 1000, "buys": np.tile(base, 2)})
    row = plan_.power(units, experiment=declare(), minimum_effect=0.05).iloc[0]
    # 122,107 by statsmodels, which counts the far tail too; 121,600 in the rounded formula of Kohavi et al. 2009.
    exact = NormalIndPower().solve_power(proportion_effectsize(0.0525, 0.05), power=0.8, alpha=0.05)
    assert math.ceil(exact) == 122_107
    assert row["needed_control_n"] == pytest.approx(122_107, abs=1)
    spend = np.tile([3.75 - 30, 3.75 + 30], 500) * 1.0
    spend = 3.75 + (spend - 3.75) * 30 / spend.std(ddof=1)
    plan = declare({"name": "spend", "event": "buy", "kind": "value"}, minimum_effect=0.05)
    row = plan_.power(
        pd.DataFrame({"arm": ["a"] * 1000 + ["b"] * 1000, "spend": np.tile(spend, 2)}), experiment=plan
    ).iloc[0]
    assert row["needed_control_n"] == pytest.approx(401_863, abs=1)
    expected = TTestIndPower().solve_power(nobs1=1000, power=0.8, alpha=0.05) * 30
    assert row["detectable"] == pytest.approx(expected, rel=0.002)


def test_days_follow_the_pace_of_exposure_and_the_window() -> None:
    at = START + pd.to_timedelta(np.linspace(0, 10, 1000), unit="D")
    units = people(1000).assign(exposed_at=at)
    row = plan_.power(units, experiment=declare(minimum_effect=0.2)).iloc[0]
    assert row["needed_days"] == math.ceil(row["needed_control_n"] / 50 + 7)
    assert math.isnan(plan_.power(units, experiment=declare()).iloc[0]["needed_control_n"])


def test_an_effect_beyond_the_possible_is_left_empty() -> None:
    units = pd.DataFrame({"arm": ["a", "b"] * 50, "buys": ([1.0] * 4 + [0.0] * 1) * 20})
    row = plan_.power(units, experiment=declare(minimum_effect=0.9)).iloc[0]
    assert math.isnan(row["needed_control_n"])  # 80 % + 90 % is more than everyone
    assert not math.isnan(row["detectable"])


# What do we decide?


def decide(units: pd.DataFrame, plan: Experiment) -> pd.Series:
    split = trust_.split_check(units, planned=plan.arms)
    return decision_.verdict(split, sizes_.effects(units, experiment=plan), plan).iloc[0]


def test_verdicts_follow_the_rules() -> None:
    guard = {"name": "calls", "event": "call", "role": "guardrail", "better": "down", "margin": 0.02}
    plan = declare({"name": "buys", "event": "buy"}, guard)
    good, calm = people(4000, lift=0.1), people(4000, seed=9)["buys"]
    won = decide(good.assign(calls=(calm * 0)), plan)
    assert (won["decision"], won["metric"]) == ("ship", "buys")
    assert decide(people(4000, lift=-0.1).assign(calls=calm * 0), plan)["decision"] == "do not ship"
    harmed = decide(good.assign(calls=np.where(good["arm"] == "b", calm, 0.0)), plan)
    assert (harmed["decision"], harmed["metric"], harmed["reason"]) == ("do not ship", "calls", "guardrail")
    same = decide(people(400, seed=6).assign(calls=people(400, seed=8)["buys"]), plan)
    assert same["decision"] == "no difference shown"
    assert "The 95 % interval rules out a gain above" in same["sentence"]
    assert "harm beyond the margin of 2.0 percentage points is not excluded" in same["sentence"]


def test_fewer_is_better_mirrors_the_decision() -> None:
    plan = declare({"name": "buys", "event": "buy", "better": "down"})
    assert decide(people(4000, lift=-0.1), plan)["decision"] == "ship"
    assert decide(people(4000, lift=0.1), plan)["decision"] == "do not ship"


def test_of_several_arms_the_winner_is_reported_and_corrected() -> None:
    plan = declare(arms={"a": 0.4, "b": 0.3, "c": 0.3})
    rng = np.random.default_rng(0)
    arm = np.repeat(["a", "b", "c"], [1600, 1200, 1200])
    units = pd.DataFrame({"arm": arm, "buys": (rng.random(4000) < 0.2 + 0.1 * (arm == "c")).astype(float)})
    won = decide(units, plan)
    assert (won["decision"], won["arm"]) == ("ship", "c")


def test_a_primary_metric_that_cannot_be_compared_gives_no_verdict() -> None:
    plan = declare(
        {"name": "csat", "event": "rate", "kind": "satisfaction"}, {"name": "buys", "event": "buy", "role": "secondary"}
    )
    units = people(400, csat=math.nan)
    assert decide(units, plan)["decision"] == "no verdict"


# Hostile input


@pytest.mark.parametrize("text", ["u1: visit", "u1: seen_a buy", "u1: seen_a | u2: seen_a buy | u3: seen_b"])
def test_too_few_people_give_a_sentence_and_no_number(text: str) -> None:
    plan = declare(
        {"name": "buys", "event": "buy"}, {"name": "s", "event": "rate", "kind": "satisfaction", "role": "guardrail"}
    )
    found = results_.all_experiments(exposed(text), experiments=[plan], as_of=AS_OF)
    assert found.effects.empty
    assert "n = " in stats.reason_of(found.effects)
    assert found.verdict["decision"].tolist() == ["no verdict"]
    for name in ("exposure", "split", "response", "effects", "power", "verdict"):
        assert "nan" not in getattr(readings, name)(getattr(found, name)).lower()
    assert len(readings.findings(found.verdict, found.split)) == 1


def test_an_empty_log_and_no_experiment() -> None:
    touches = exposed("u1: seen_a buy").head(0)
    found = results_.all_experiments(touches, experiments=[declare()], as_of=AS_OF)
    assert found.verdict["decision"].tolist() == ["no verdict"]
    nothing = results_.all_experiments(touches, experiments=[], as_of=AS_OF)
    assert all(table.empty and stats.reason_of(table) for table in nothing)
    assert readings.findings(nothing.verdict, nothing.split) == []


def test_an_arm_with_nobody_and_names_that_collide() -> None:
    units = people(400)
    lonely = sizes_.effects(units.loc[units["arm"] == "a"], experiment=declare(arms={"a": 1.0, "b": 0.0}))
    assert "n = 0 in b" in stats.reason_of(lonely)
    with pytest.raises(JourneyError, match="'arm' is taken"):
        people_.units(exposed("u1: seen_a"), experiment=declare({"name": "arm", "event": "buy"}), as_of=AS_OF)
    with pytest.raises(JourneyError, match="segment_variant"):
        people_.units(make_log("u1: seen").assign(segment_experiment="test"), experiment=declare(), as_of=AS_OF)
    with pytest.raises(JourneyError, match="Did you mean 'test'"):
        results_.all_experiments(exposed("u1: seen_a"), experiments=[declare()], as_of=AS_OF, only="tset")


def test_input_is_not_changed_and_figures_draw() -> None:
    units = people(800, lift=0.1)
    before = units.copy(deep=True)
    table = sizes_.effects(units, experiment=declare())
    pd.testing.assert_frame_equal(units, before)
    split = trust_.split_check(units, planned={"a": 0.5, "b": 0.5})
    assert theme.svg(plots.effects(table)) == theme.svg(plots.effects(table))
    assert "<svg" in theme.svg(plots.split(split))
    assert "<svg" in theme.svg(plots.effects(table.assign(relative_share=math.nan)))
    won = decision_.verdict(split, table, declare())
    finding = readings.findings(won, split.assign(experiment="test"))[0]
    assert finding.headline
    assert finding.unit == "points"
    assert finding.low is not None
    assert finding.low > 0
    assert "buys" in readings.effects(table)
    assert "%" in readings.cuped(results_.cuped(table))


# A real experiment


@pytest.mark.skipif(not COOKIE.exists(), reason="../shared/data/cookie_cats is not there")
def test_cookie_cats_meets_its_expected_figures() -> None:
    raw = pd.read_csv(COOKIE / "cookie_cats.csv.gz", sep=";")
    expected = {
        key: figure["value"] for key, figure in json.loads((COOKIE / "expected.json").read_text())["figures"].items()
    }
    units = pd.DataFrame(
        {
            "arm": raw["version"],
            "retention_1": raw["retention_1"].astype(float),
            "retention_7": raw["retention_7"].astype(float),
            "rounds": raw["sum_gamerounds"].astype(float),
        }
    )
    arms = {"gate_30": 0.5, "gate_40": 0.5}
    metrics = [
        {"name": "retention_1", "event": "x", "role": "secondary"},
        {"name": "retention_7", "event": "x"},
        {"name": "rounds", "event": "x", "kind": "count", "role": "secondary"},
    ]
    plan = declare(*metrics, arms=arms, control="gate_30")
    split = trust_.split_check(units, planned=arms)
    assert split["n"].tolist() == list(expected["arm_sizes"].values())
    assert split["p_value"].iloc[0] == pytest.approx(expected["sample_ratio_mismatch"]["p"])
    table = sizes_.effects(units, experiment=plan).set_index("metric")
    for name in ("retention_1", "retention_7"):
        row, figure = table.loc[name], expected[f"{name}_test"]
        assert row["control"] == pytest.approx(figure["rate_control"])
        assert row["effect"] == pytest.approx(figure["diff"])
        assert row["relative_share"] == pytest.approx(figure["relative_diff"])
        # Wald and the pooled z in the reference, Welch here: the same but for Student's t and the n − 1.
        assert [row["effect_low"], row["effect_high"]] == pytest.approx(figure["ci95_wald_unpooled"], rel=1e-3)
        assert row["p_value"] == pytest.approx(figure["p_two_sided"], rel=1e-2)
    assert table.loc["rounds", "p_value"] == pytest.approx(expected["gamerounds_welch"]["p"])
    assert decision_.verdict(split, table.reset_index(), plan)["decision"].tolist() == ["do not ship"]


def test_unlike_answer_rates_keep_a_guardrail_out_of_the_decision() -> None:
    metrics = [
        {"name": "buys", "event": "buy", "role": "primary"},
        {"name": "mood", "event": "survey", "kind": "satisfaction", "role": "guardrail"},
    ]
    declared = {"name": "t", "hypothesis": "b sells", "exposure": "x", "control": "a", "within": "7d"}
    experiment = Experiment.model_validate({**declared, "arms": {"a": 0.5, "b": 0.5}, "metrics": metrics})
    row = {"arm": "b", "better": "up", "n_control": 50, "n_treatment": 50, "p_adjusted": 0.001, "p_value": 0.001}
    buys = {
        **row,
        "metric": "buys",
        "role": "primary",
        "unit": "share",
        "effect": 0.1,
        "caution": "",
        "margin": math.nan,
    }
    mood = {**row, "metric": "mood", "role": "guardrail", "unit": "score", "effect": -0.2, "margin": 0.0}
    rows = [{**buys, "effect_low": 0.05, "effect_high": 0.15, "caution": ""}]
    rows += [{**mood, "effect_low": -0.3, "effect_high": -0.1, "caution": "not compared: answer rates differ"}]
    split = pd.DataFrame({"arm": ["a", "b"], "verdict": "ok"})
    decided = decision_.verdict(split, pd.DataFrame(rows), experiment).iloc[0]
    assert decided["decision"] == "ship"
    assert "guardrail mood could not be compared" in decided["sentence"]
    rows[1]["caution"] = ""
    assert decision_.verdict(split, pd.DataFrame(rows), experiment).iloc[0]["decision"] == "do not ship"


def test_a_broken_split_is_named_where_power_is_read() -> None:
    split = pd.DataFrame({"experiment": ["Chat", "Chat"], "verdict": ["broken", "broken"]})
    assert readings.power(pd.DataFrame(columns=["role"]), split) == (
        "Chat: the split is broken, so neither the power of the test nor the size it needs is given."
    )


def test_the_page_shows_fewer_columns_than_the_file() -> None:
    verdict = pd.DataFrame({"experiment": ["a"], "decision": ["ship"], "metric": ["m"], "effect": [0.1]})
    assert readings.shown(verdict) == ["experiment", "decision", "sentence", "owner"]
    effects = pd.DataFrame({"experiment": ["a", "a"], "arm": ["b", "b"], "relative_share": 0.1, "caution": ""})
    assert {"arm", "caution", "better", "unit"}.isdisjoint(readings.shown(effects))
    assert {"arm", "caution"} <= set(readings.shown(effects.assign(arm=["b", "c"], caution="few")))
