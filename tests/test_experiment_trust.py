"""Can an experiment be believed: the split by day and segment, assignment, balance, telemetry, concurrent tests."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from scipy.special import gammaln
from statsmodels.multivariate.manova import MANOVA

from journeykit import stats
from journeykit.config import Experiment
from journeykit.experiments import (
    assignment,
    balance,
    concurrent,
    split_days,
    telemetry,
    trust,
)
from journeykit.experiments import units as people_
from journeykit.plots import experiment_trust as plots
from journeykit.plots import theme
from journeykit.readings import experiment_trust as readings
from tests.conftest import START
from tests.test_experiments import AS_OF, declare, exposed

HALF = {"a": 0.5, "b": 0.5}


def crowd(n: int, share: float = 0.5, seed: int = 0, days: int = 40, **columns: object) -> pd.DataFrame:
    """Units of arms a and b, of which `share` are in a, exposed evenly over `days`."""
    rng = np.random.default_rng(seed)
    arm = np.where(rng.random(n) < share, "a", "b")
    at = START + pd.to_timedelta(np.sort(rng.random(n)) * days, unit="D")
    return pd.DataFrame({"person_id": range(n), "arm": arm, "exposed_at": at, "mature": True}).assign(**columns)


# The split


def test_a_split_between_the_limits_is_a_warning_and_not_a_stop() -> None:
    arms = pd.DataFrame({"arm": np.repeat(["a", "b"], [44_700, 45_489])})  # cookie_cats: p = .0086
    found = trust.split_check(arms, planned=HALF)
    assert found["p_value"].iloc[0] == pytest.approx(0.008607987811)
    assert found["verdict"].tolist() == ["warning", "warning"]
    text = readings.split(found.assign(experiment="Gate"))
    assert "compatible with the plan in 0 of 1 test." in text
    assert "Warning for Gate: a has 49.6 % (49.2–49.9 %) of 90,189 people, planned 50.0 % (p = 0.009)" in text


def test_arms_drawn_by_cluster_count_clusters() -> None:
    units = pd.DataFrame(
        {"arm": ["a"] * 900 + ["b"] * 100, "cluster": [f"s{i // 90}" for i in range(900)] + ["t"] * 100}
    )
    assert trust.split_check(units.drop(columns="cluster"), planned=HALF)["verdict"].iloc[0] == "broken"
    by_shop = trust.split_check(units, planned={"a": 0.9, "b": 0.1})
    assert by_shop["n"].tolist() == [10, 1]


def test_the_sequential_p_value_is_one_over_the_bayes_factor_and_never_rises() -> None:
    units = crowd(3000, share=0.55, days=20)
    found = split_days.split_by_day(units, experiment=declare(), concentrations=(10_000.0,))
    n = np.array([found.loc[(found["arm"] == arm), "n"].sum() for arm in "ab"])
    prior = np.array([5000.0, 5000.0])
    factor = gammaln(10_000) - gammaln(10_000 + n.sum()) + (gammaln(prior + n) - gammaln(prior)).sum()
    factor -= n.sum() * math.log(0.5)
    last = found.loc[found["arm"] == "a", "p_value"]
    assert last.iloc[-1] <= math.exp(-factor) + 1e-12
    assert last.is_monotonic_decreasing
    # Slow version: a posterior that is updated person by person.
    seen, log, best = np.zeros(2), 0.0, 0.0
    ends = set(units.groupby(units["exposed_at"].dt.normalize()).tail(1).index)
    for place, arm in enumerate(units["arm"]):
        i = "ab".index(arm)
        log += math.log((5000 + seen[i]) / (10_000 + seen.sum()) / 0.5)
        seen[i] += 1
        best = max(best, log) if place in ends else best
    assert last.iloc[-1] == pytest.approx(math.exp(-best))


def test_the_band_is_where_the_test_of_one_arm_breaks() -> None:
    units = crowd(4000, days=5)
    found = split_days.split_by_day(units, experiment=declare())
    row = found.loc[found["arm"] == "a"].iloc[-1]
    for share, broken in ((row["allowed_low"] - 0.002, True), (row["allowed_low"] + 0.002, False)):
        first = round(share * row["total_n"])
        moved = units.assign(exposed_at=START, arm=np.where(np.arange(4000) < first, "a", "b"))
        p_value = split_days.split_by_day(moved, experiment=declare())["p_value"].iloc[-1]
        assert (p_value < trust.BROKEN) == broken
    assert row["allowed_low"] < 0.5 < row["allowed_high"]


def test_a_small_broken_test_is_found_on_a_day_and_a_sound_one_never() -> None:
    broken = split_days.split_by_day(crowd(1800, share=0.58, seed=2), experiment=declare())
    assert "broken from 2025-" in readings.split_days(broken)
    sound = split_days.split_by_day(crowd(1800), experiment=declare())
    assert set(sound["verdict"]) == {"ok"}
    assert "No split left the band" in readings.split_days(sound)
    stray = declare(arms={"a": 0.5, "b": 0.5, "c": 0.0})
    assert split_days.split_by_day(crowd(50).assign(arm="c"), experiment=stray)["p_value"].iloc[-1] == pytest.approx(0)


def test_people_are_lost_in_one_segment_and_it_is_named() -> None:
    plan = declare(by=["device", "country"])
    units = crowd(4000, seed=3)
    rng = np.random.default_rng(0)
    units = units.assign(device=rng.choice(["mobile", "desktop"], 4000), country=rng.choice(list("xyz"), 4000))
    lost = (units["device"] == "mobile") & (units["arm"] == "b") & (rng.random(4000) < 0.3)
    found = trust.split_by_segment(units.loc[~lost], experiment=plan)
    first = found.iloc[0]
    assert (first["segment"], first["value"], first["verdict"]) == ("device", "mobile", "broken")
    assert first["p_adjusted"] == pytest.approx(min(1.0, 5 * first["p_value"]))  # Bonferroni over five values
    missing = found.loc[(found["value"] == "mobile") & (found["arm"] == "b"), "missing_n"].iloc[0]
    assert missing == pytest.approx(int(lost.sum()), abs=70)
    assert "people are missing from b (p < 0.001 after correction for 5 segments)" in readings.split_segments(found)
    fair = trust.split_by_segment(units, experiment=plan)
    assert set(fair["verdict"]) == {"ok"}


# The assignment


def test_people_in_several_arms_warn_at_a_tenth_and_fail_above_three_fifths() -> None:
    parts = ["seen_a@1d seen_b@2d"] * 3 + ["seen_a@1d"] * 7
    touches = exposed(" | ".join(f"u{i}: {part}" for i, part in enumerate(parts)))
    verdicts = []
    for log in (touches, touches.loc[touches["person_id"] <= 4], touches.loc[touches["person_id"] > 3]):
        exposure = people_.exposure_check(log, experiment=declare(), as_of=AS_OF)
        units = people_.units(log, experiment=declare(), as_of=AS_OF)
        row = assignment.assignment_check(log, units, exposure, experiment=declare(), as_of=AS_OF).iloc[0]
        verdicts.append((round(row["people_share"], 2), row["verdict"]))
    assert verdicts == [(0.3, "warning"), (0.75, "failed"), (0.0, "ok")]


def test_exposures_before_the_assignment_and_before_the_start_are_counted() -> None:
    touches = exposed(
        "u1: given@1d seen_a@2d | u2: given@3d seen_b@2d | u3: given@1d seen_b@2d | u4: seen_a@4d | u5: given@1d visit"
    )
    arms = {1: "a", 2: "b", 3: "a", 5: "b"}  # the third was given a and saw b
    given = touches["event"] == "given"
    touches.loc[given, "segment_experiment"] = "test"
    touches.loc[given, "segment_variant"] = touches.loc[given, "person_id"].map(arms)
    plan = declare(assignment=["given"], starts="2025-01-04")
    units = people_.units(touches, experiment=plan, as_of=AS_OF)
    exposure = people_.exposure_check(touches, experiment=plan, as_of=AS_OF)
    table = assignment.assignment_check(touches, units, exposure, experiment=plan, as_of=AS_OF)
    found = {(row["check"], row["arm"]): (row["people_n"], row["n"]) for row in table.to_dict("records")}
    assert found == {
        ("seen in several arms", ""): (0, 4),
        ("exposed before the start", ""): (3, 4),
        ("exposed without an assignment", ""): (1, 4),
        ("exposed before the assignment", ""): (1, 3),
        ("exposed to another arm than assigned", ""): (1, 3),
        ("assigned, never exposed", "a"): (0, 2),
        ("assigned, never exposed", "b"): (1, 2),
    }
    text = readings.assignment(table)
    assert "of 3 people were exposed before the assignment, too many for a verdict" in text
    assert "of 4 people were exposed before the start." in text


def test_exposure_that_depends_on_the_arm_is_broken() -> None:
    part = "given@1d {} | u{}: "
    log = exposed(
        "u0: "
        + "".join(
            part.format("seen_a@2d" if i % 2 else ("seen_b@2d" if i < 40 else "visit@2d"), i + 1) for i in range(120)
        )
        + "visit"
    )
    given = log["event"] == "given"
    log.loc[given, ["segment_experiment"]] = "test"
    log.loc[given, "segment_variant"] = np.where(log.loc[given, "person_id"] % 2 == 0, "a", "b")
    plan = declare(assignment="given", arms=HALF)
    units = people_.units(log, experiment=plan, as_of=AS_OF)
    exposure = people_.exposure_check(log, experiment=plan, as_of=AS_OF)
    table = assignment.assignment_check(log, units, exposure, experiment=plan, as_of=AS_OF).set_index(["check", "arm"])
    assert table.loc[("assigned, never exposed", "b"), "verdict"] == "broken"
    assert "were never exposed; the arms differ in that (p < 0.001)" in readings.assignment(table.reset_index())


# Before the exposure


def before(n: int = 600, seed: int = 0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    units = crowd(n, seed=seed)
    events = rng.poisson(4, n) + shift * (units["arm"] == "b")
    return units.assign(touches_before=events, buys__before=events * 0.5 + rng.normal(size=n), calls__before=0.0)


def test_balance_agrees_with_hotelling_and_welch() -> None:
    units = before()
    found = balance.balance(units, experiment=declare())
    joined = pd.DataFrame({"arm": units["arm"], "x": units["touches_before"], "y": units["buys__before"]})
    reference = MANOVA.from_formula("x + y ~ arm", joined).mv_test().results["arm"]["stat"]
    assert found["joint_p_value"].iloc[0] == pytest.approx(float(reference.loc["Hotelling-Lawley trace", "Pr > F"]))
    row = found.loc[found["measure"] == "buys"].iloc[0]
    a, b = (units.loc[units["arm"] == arm, "buys__before"] for arm in "ab")
    assert row["p_value"] == pytest.approx(scipy_stats.ttest_ind(b, a, equal_var=False).pvalue)
    assert set(found["verdict"]) == {"alike"}
    assert "the arms were alike in 1 test" in readings.balance(found)


def test_arms_that_differed_before_are_named_with_the_worst_measure_first() -> None:
    units = before(shift=1.0)
    found = balance.balance(units.assign(same__before=units["buys__before"]), experiment=declare())
    assert set(found["verdict"]) == {"unlike"}
    assert found["standard_difference"].abs().is_monotonic_decreasing
    assert "b was not like control before the exposure (all measures together p < 0.001)" in readings.balance(found)
    assert "<svg" in theme.svg(plots.balance(found))


def test_a_measure_that_repeats_another_does_not_break_the_joint_test() -> None:
    metrics = ({"name": "buys", "event": "buy"}, {"name": "again", "event": "buy"})
    units = before()
    once = balance.balance(units, experiment=declare(*metrics))["joint_p_value"].iloc[0]
    twice = balance.balance(units.assign(again__before=units["buys__before"] * 3), experiment=declare(*metrics))
    assert twice["joint_p_value"].iloc[0] == pytest.approx(once)


# After the exposure


def heard(loss: float, n: int = 240) -> tuple[pd.DataFrame, pd.DataFrame, Experiment]:
    """People who visit three times after their exposure; of the visits of mobile b, `loss` do not arrive."""
    rng = np.random.default_rng(1)
    rows = []
    for person in range(n):
        arm, device = "ab"[person % 2], ("mobile", "desktop")[person // 2 % 2]
        rows.append((person, 0.0, "seen", arm, device))
        for hour in range(1, 4):
            if not (arm == "b" and device == "mobile" and rng.random() < loss):
                rows.append((person, hour, "visit", None, device))
        rows.append((person, 5.0, "buy", None, device)) if person % 3 == 0 else None
    touches = pd.DataFrame(rows, columns=["person_id", "hour", "event", "segment_variant", "device"])
    touches["timestamp"] = START + pd.to_timedelta(touches["hour"], unit="h")
    touches["segment_experiment"] = np.where(touches["event"] == "seen", "test", None)
    plan = declare(by=["device"])
    return touches, people_.units(touches, experiment=plan, as_of=AS_OF), plan


def test_lost_events_are_found_in_the_arm_and_on_the_device_that_loses_them() -> None:
    touches, units, plan = heard(0.8)
    found = telemetry.telemetry(touches, units, experiment=plan)
    worst = found.loc[found["verdict"] != "alike"]
    assert set(worst["value"]) >= {"mobile"}
    assert "desktop" not in set(worst["value"])
    row = found.loc[(found["value"] == "mobile") & (found["arm"] == "b")].iloc[0]
    mine = touches.loc[
        touches["person_id"].isin(units.loc[(units["arm"] == "b") & (units["device"] == "mobile"), "person_id"])
    ]
    assert row["events_per_person"] == pytest.approx((mine["event"] == "visit").sum() / row["n"])
    quiet = set(mine["person_id"]) - set(mine.loc[mine["event"] != "seen", "person_id"])
    assert row["silent_n"] == len(quiet)
    assert "Less is heard of one arm" in readings.telemetry(found)


def test_metric_events_are_not_neutral_and_equal_arms_are_alike() -> None:
    touches, units, plan = heard(0.0)
    found = telemetry.telemetry(touches, units, experiment=plan)
    assert set(found["events_per_person"]) == {3.0}  # visits, not purchases and not exposures
    assert set(found["verdict"]) == {"alike"}
    assert "as much is heard of one arm as of the other" in readings.telemetry(found)


# Several tests at once


def two_tests(meet: float = 0.0, together: float = 0.5) -> tuple[dict[str, pd.DataFrame], list[Experiment]]:
    n, rng = 4000, np.random.default_rng(5)
    first, same = crowd(n, seed=1), rng.random(n) < together
    other = np.where(first["arm"] == "a", "b", "a")
    second = crowd(n, seed=2).assign(arm=np.where(same, first["arm"], other))
    chance = 0.2 + 0.1 * (first["arm"] == "b") * (1 - meet * (second["arm"] == "b"))
    first = first.assign(buys=(rng.random(n) < chance).astype(float))
    second = second.assign(buys=(rng.random(n) < 0.2).astype(float))
    plans = [declare(name="one", title="One"), declare(name="two", title="Two")]
    return {"one": first, "two": second}, plans


def test_arms_of_two_tests_are_independent_or_not() -> None:
    people, plans = two_tests()
    row = concurrent.overlap(people, plans).iloc[0]
    assert (row["n"], row["verdict"]) == (4000, "ok")
    table = pd.crosstab(people["one"]["arm"], people["two"]["arm"])
    assert row["p_value"] == pytest.approx(scipy_stats.chi2_contingency(table, correction=False).pvalue)
    people, plans = two_tests(together=0.7)
    found = concurrent.overlap(people, plans)
    assert found["verdict"].tolist() == ["broken"]
    assert "The arms of One and Two go together (p < 0.001)." in readings.overlap(found, pd.DataFrame())


def test_an_effect_that_another_test_takes_away_is_an_interaction() -> None:
    people, plans = two_tests(meet=1.0)
    found = concurrent.interactions(people, plans)
    row = found.loc[found["experiment"] == "One"].iloc[0]
    assert row["verdict"] == "interact"
    one, two = people["one"], people["two"]
    means = one["buys"].groupby([one["arm"], two["arm"]]).mean()
    gap = (means["b", "b"] - means["a", "b"]) - (means["b", "a"] - means["a", "a"])
    assert row["difference"] == pytest.approx(gap)
    assert "The effect of One on buys depends on Two" in readings.overlap(concurrent.overlap(people, plans), found)
    calm, plans = two_tests()
    assert set(concurrent.interactions(calm, plans)["verdict"]) == {"no interaction shown"}
    apart = {"one": calm["one"], "two": calm["two"].assign(person_id=lambda t: t["person_id"] + 10_000)}
    assert "no two tests share 30 people" in stats.reason_of(concurrent.overlap(apart, plans))


# Hostile input


@pytest.mark.parametrize("n", [0, 1, 10])
def test_hardly_anybody_gives_reasons_and_no_number(n: int) -> None:
    plan = declare(by=["device"])
    units = crowd(max(n, 1)).head(n).assign(device="mobile", touches_before=0, buys=0.0)
    for table in (
        trust.split_by_segment(units, experiment=plan),
        balance.balance(units, experiment=plan),
        concurrent.overlap({"test": units, "other": units}, [plan, declare(name="other")]),
        concurrent.interactions({"test": units, "other": units}, [plan, declare(name="other")]),
    ):
        assert table.empty
        assert stats.reason_of(table)
    days = split_days.split_by_day(units, experiment=plan)
    assert days.empty == (n == 0)
    assert not days.drop(columns="experiment").isna().any().any()
    empty = exposed("u1: visit")
    exposure = people_.exposure_check(empty, experiment=declare(), as_of=AS_OF)
    assert "nobody has an event" in stats.reason_of(
        assignment.assignment_check(empty, units, exposure, experiment=declare(), as_of=AS_OF)
    )


def test_one_arm_and_constant_measures_are_told() -> None:
    units = before().assign(touches_before=3, buys__before=1.0)
    assert "each arm needs 30 people who did something before" in stats.reason_of(
        balance.balance(units, experiment=declare())
    )
    alone = balance.balance(before().assign(arm="a"), experiment=declare())
    assert "not enough data" in stats.reason_of(alone)


def test_figures_are_drawn_the_same_twice() -> None:
    days = split_days.split_by_day(crowd(500, days=1), experiment=declare())
    many = split_days.split_by_day(crowd(500, share=0.3), experiment=declare())
    for table in (days, many):
        assert theme.svg(plots.split_days(table)) == theme.svg(plots.split_days(table))
