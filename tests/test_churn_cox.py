"""Covariates known at a landmark, and the Cox model of them, against published figures and planted truth."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_lung, load_rossi
from lifelines.statistics import proportional_hazard_test

from journeykit import config, engine
from journeykit.churn import covariates, cox, curves, immortal, partial, proportional, spells
from journeykit.errors import JourneyError
from tests.conftest import START, make_log

TELCO = Path(__file__).parents[2] / "shared" / "data" / "telco_churn"
DERIVED = Path(__file__).parents[1] / "data" / "laptop_store" / "derived" / "touches.parquet"
LATE = config.Covariate(name="late", events="delivery_late")
TICKET = config.Covariate(name="unresolved", events="ticket_opened", without="ticket_solved", label="unresolved ticket")


def names(*columns: str) -> list[config.Covariate]:
    return [config.Covariate(name=column, events="none") for column in columns]


def lung() -> pd.DataFrame:
    table = load_lung()
    return table.assign(
        duration_days=table["time"].astype(float),
        ended=table["status"].astype(int),
        segment=np.where(table["sex"] == 2, "women", "men"),
    )


def rossi() -> pd.DataFrame:
    return load_rossi().rename(columns={"week": "duration_days", "arrest": "ended"})


def people(n: int, ratio: float = 2.0, seed: int = 0, share: float = 0.5) -> pd.DataFrame:
    """Exponential stays after a landmark, staggered starts, one covariate with a known hazard ratio."""
    rng = np.random.default_rng(seed)
    having = (rng.random(n) < share).astype(float)
    noise = rng.integers(0, 2, n).astype(float)
    started = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.uniform(0, 300, n), unit="D")
    landmark = started + pd.Timedelta("30D")
    life = rng.exponential(200 / np.where(having == 1, ratio, 1.0))
    seen = (pd.Timestamp("2026-01-01") - landmark).total_seconds().to_numpy() / 86400
    return pd.DataFrame(
        {
            "person_id": np.arange(n),
            "started_at": started,
            "landmark_at": landmark,
            "segment": np.where(rng.random(n) < 0.5, "a", "b"),
            "duration_days": np.minimum(life, seen),
            "ended": (life <= seen).astype(int),
            "late": having,
            "noise": noise,
        }
    )


# stays


def _no_spells() -> pd.DataFrame:
    return spells.spells(make_log("u1: a"), start=["none"], end=["b"], as_of="2025-02-01")


def test_covariates_by_hand() -> None:
    log = make_log(
        "u1: delivery_late@0d join@1d delivery_late@11d left@20d"
        "| u2: join@1d ticket_opened@2d ticket_opened@3d ticket_solved@4d left@30d"
        "| u3: join@1d ticket_opened@2d ticket_solved@12d | u4: join@1d left@9d "
        "| u5: join@1d ticket_opened@2d ticket_solved@3d"
    )
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-02-10")
    table = covariates.at_landmark(log, stays, covariates=[LATE, TICKET], landmark="10d")
    assert table["person_id"].tolist() == [1, 2, 3, 5]  # u4 left before the landmark
    assert table["late"].tolist() == [1, 0, 0, 0]  # u1: before the start and exactly at the landmark both count
    assert table["unresolved"].tolist() == [0, 1, 1, 0]  # u3 was solved only after the landmark
    assert table["duration_days"].tolist() == [9.0, 19.0, 29.0, 29.0]
    assert table["ended"].tolist() == [1, 1, 0, 0]
    counted = config.Covariate(name="late", events="delivery_late", kind="count")
    assert covariates.at_landmark(log, stays, covariates=[counted], landmark="10d")["late"].tolist() == [2, 0, 0, 0]


def test_nothing_after_the_landmark_changes_a_covariate() -> None:
    rng = np.random.default_rng(4)
    events = ["ticket_opened", "ticket_solved", "delivery_late", "x"]
    log = make_log(
        "|".join(
            f"u{p}: join@0h " + " ".join(f"{rng.choice(events)}@{h}h" for h in sorted(rng.integers(1, 999, 12)))
            for p in range(40)
        )
    )
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-03-01")
    before = covariates.at_landmark(log, stays, covariates=[LATE, TICKET], landmark="10d")
    late = log["timestamp"] > START + pd.Timedelta("10D")
    future = log.loc[late, "event"].sample(frac=1, random_state=1).to_numpy()
    shuffled = log.assign(event=log["event"].mask(late, pd.Series(future, index=log.index[late])))
    after = covariates.at_landmark(shuffled, stays, covariates=[LATE, TICKET], landmark="10d")
    pd.testing.assert_frame_equal(before, after)
    gone = covariates.at_landmark(log[~late], stays, covariates=[LATE, TICKET], landmark="10d")
    pd.testing.assert_frame_equal(before, gone)
    assert before[["late", "unresolved"]].sum().all()


def test_covariate_names_must_be_free() -> None:
    stays = spells.spells(make_log("u1: a"), start=["a"], end=["b"], as_of="2025-02-01")
    with pytest.raises(JourneyError, match="'ended' is a column"):
        covariates.at_landmark(make_log("u1: a"), stays, covariates=names("ended"))


# Cox


def test_published_cox_models() -> None:
    columns = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    table = cox.cox(rossi(), names(*columns))
    expected = [-0.3794, -0.0574, 0.3139, -0.1498, -0.4337, -0.0849, 0.0915]
    assert np.log(table["hazard_ratio"]).tolist() == pytest.approx(expected, abs=6e-5)
    assert table.attrs["log_likelihood"] == pytest.approx(-658.748, abs=1e-3)
    errors = np.log(table["hazard_ratio_high"] / table["hazard_ratio_low"]) / 2 / curves.Z95
    assert errors[[0, 1, 6]].tolist() == pytest.approx([0.1914, 0.0220, 0.0286], abs=6e-5)
    ph = table.set_index("covariate")["proportionality_p_value"]
    # Published: .0007 and .007, with ties ranked in the order of the rows; here they share a rank.
    assert ph["age"] == pytest.approx(0.0007, abs=2e-4)
    assert round(ph["wexp"], 3) == 0.007
    sex = cox.cox(lung(), names("sex")).iloc[0]
    assert np.log(sex["hazard_ratio"]) == pytest.approx(-0.53102, abs=1e-5)
    both = cox.cox(lung(), names("age", "sex"))
    assert np.log(both["hazard_ratio"]).tolist() == pytest.approx([0.01705, -0.51322], abs=1e-5)
    errors = np.log(both["hazard_ratio_high"] / both["hazard_ratio_low"]) / 2 / curves.Z95
    assert errors.tolist() == pytest.approx([0.00922, 0.16746], abs=1e-5)


@pytest.mark.skipif(not TELCO.exists(), reason="the shared data are not there")
def test_contracts_of_telco_customers_as_a_category() -> None:
    rows = pd.read_csv(TELCO / "Telco-Customer-Churn.csv.gz")
    table = pd.DataFrame(
        {
            "duration_days": rows["tenure"].astype(float),
            "ended": (rows["Churn"] == "Yes").astype(int),
            "contract": rows["Contract"].astype(object),
            "monthly_charges": rows["MonthlyCharges"],
            "senior": rows["SeniorCitizen"].astype(float),
            "paperless": (rows["PaperlessBilling"] == "Yes").astype(float),
        }
    )
    contract = config.Covariate(name="contract", kind="category", column="contract")
    others = [*names("monthly_charges", "senior", "paperless")]
    found = cox.cox(table[table["duration_days"] > 0], [contract, *others])
    figures = json.loads((TELCO / "expected.json").read_text())["figures"]["cox"]["value"]
    assert found["level"].tolist() == ["Two year", "One year", "", "", ""]
    assert set(found["reference"][:2]) == {"Month-to-month"}
    order = ["two_year", "one_year", "monthly_charges", "senior", "paperless"]
    errors = np.log(found["hazard_ratio_high"] / found["hazard_ratio_low"]) / 2 / curves.Z95
    assert found["hazard_ratio"].tolist() == pytest.approx([figures[name]["hazard_ratio"] for name in order], rel=1e-3)
    assert errors.tolist() == pytest.approx([figures[name]["se"] for name in order], rel=1e-3)


@pytest.mark.parametrize("late", [False, True])
def test_the_likelihood_is_that_of_lifelines(late: bool) -> None:
    columns = ["fin", "age", "race", "mar", "paro", "prio"]
    rng = np.random.default_rng(1)
    table = rossi()
    table = table.assign(entered_days=np.where(np.arange(len(table)) % 3 == 0, rng.integers(0, 6, len(table)), 0.0))
    table = table[table["duration_days"] > table["entered_days"]]
    entry = "entered_days" if late else None
    table = table if late else table.drop(columns="entered_days")
    for strata in ("", "wexp"):
        mine = partial.fit(table, columns, strata=strata)
        theirs = CoxPHFitter().fit(
            table[[*columns, "wexp", "duration_days", "ended", *([entry] if entry else [])]],
            *("duration_days", "ended"),
            entry_col=entry,
            strata=["wexp"] if strata else None,
            formula=" + ".join(columns),
        )
        assert mine is not None
        assert mine.coefficients == pytest.approx(theirs.params_[columns].to_numpy(), abs=1e-4)
        assert mine.errors == pytest.approx(theirs.standard_errors_[columns].to_numpy(), abs=1e-4)
        assert mine.log_likelihood == pytest.approx(theirs.log_likelihood_, abs=1e-4)
    if not late:  # lifelines has no test with late entry, and ranks ties by the order of rows
        whole = table.assign(duration_days=table["duration_days"] + rng.uniform(0, 0.9, len(table)))
        theirs = CoxPHFitter().fit(whole[[*columns, "duration_days", "ended"]], "duration_days", "ended")
        expected = proportional_hazard_test(theirs, whole[[*columns, "duration_days", "ended"]], time_transform="rank")
        found = partial.fit(whole, columns)
        assert found is not None
        assert found.changing_p_value == pytest.approx(np.ravel(expected.p_value), rel=1e-4)


def test_order_and_scale_of_rows_change_nothing() -> None:
    table = rossi()
    first = cox.cox(table, names("age", "prio"))
    other = cox.cox(table.sample(frac=1, random_state=3), names("age", "prio"))
    pd.testing.assert_frame_equal(first, other)
    scaled = cox.cox(table.assign(age=table["age"] * 1e6 + 1e9), names("age", "prio"))
    assert np.log(scaled["hazard_ratio"]).tolist() == pytest.approx(
        (np.log(first["hazard_ratio"]) / [1e6, 1]).tolist(), rel=1e-4
    )


def test_late_entry_takes_the_bias_away() -> None:
    """Half of those with it were seen only from day 60 on, so that their early leavers are missing."""
    rng = np.random.default_rng(5)
    table = people(8000, ratio=2.0, seed=5)
    entered = np.where((table["late"] == 1) & (rng.random(len(table)) < 0.5), 60.0, 0.0)
    seen = table.assign(entered_days=entered)[table["duration_days"] > entered]
    line = cox.cox(seen, names("late")).iloc[0]
    assert line["hazard_ratio_low"] < 2.0 < line["hazard_ratio_high"]
    assert cox.cox(seen.drop(columns="entered_days"), names("late")).iloc[0]["hazard_ratio_high"] < 1.8


def test_as_many_covariates_as_the_data_carry() -> None:
    table = people(300).assign(more=np.random.default_rng(1).random(300))
    events = int(table["ended"].sum())
    found = cox.cox(table, names("late", "noise", "more"), minimum_events_per_parameter=events // 2)
    assert found["covariate"].tolist() == ["late", "noise"]
    assert "“more” is left out" in found.attrs["note"]
    assert f"{events} people left, which carries 2 figures" in found.attrs["note"]
    device = config.Covariate(name="device", kind="category", column="device")
    wide = table.assign(device=np.array(["a", "b", "c"])[np.arange(300) % 3])
    skipped = cox.cox(wide, [*names("late"), device, *names("noise")], minimum_events_per_parameter=events // 2)
    assert skipped["covariate"].tolist() == ["late", "noise"]  # a category is taken whole or not at all
    assert "“device” is left out" in skipped.attrs["note"]


def test_categories_and_satisfaction_become_lines_of_their_own() -> None:
    rng = np.random.default_rng(2)
    table = people(6000, ratio=1.0, seed=2)
    answer = np.where(rng.random(6000) < 0.4, rng.choice([0.0, 0.5, 1.0], 6000), np.nan)
    risk = np.exp(-1.0 * np.nan_to_num(answer, nan=0.5)) * np.where(table["noise"] == 1, 1.5, 1.0)
    life = rng.exponential(200 / risk)
    table = table.assign(
        satisfaction=answer,
        device=np.where(table["noise"] == 1, "tablet", "desktop"),
        duration_days=np.minimum(life, 200),
        ended=(life <= 200).astype(int),
    )
    wanted = [
        config.Covariate(name="device", kind="category", column="device"),
        config.Covariate(name="satisfaction", kind="satisfaction"),
    ]
    found = cox.cox(table, wanted)
    assert found["level"].tolist() in (["tablet", "", "no answer"], ["desktop", "", "no answer"])
    mine = found["level"].iloc[0] == "tablet"
    assert found["reference"].iloc[0] == ("desktop" if mine else "tablet")
    truth = [1.5 if mine else 1 / 1.5, np.exp(-0.1), 1.0]
    inside = (found["hazard_ratio_low"] < truth) & (truth < found["hazard_ratio_high"])
    assert inside.all()
    assert found["people_with_n"].tolist()[1:] == [np.isfinite(answer).sum(), np.isnan(answer).sum()]
    assert found["n"].tolist() == [6000] * 3
    assert cox.cox(table.assign(satisfaction=np.nan), wanted)["covariate"].tolist() == ["device"]


def test_planted_hazard_ratio_is_recovered_and_intervals_cover() -> None:
    hits = 0
    for seed in range(100):
        line = cox.cox(people(400, ratio=2.0, seed=seed), names("late")).iloc[0]
        hits += line["hazard_ratio_low"] <= 2.0 <= line["hazard_ratio_high"]
    assert 88 <= hits <= 99
    big = cox.cox(people(20_000, ratio=2.0, seed=1), names("late", "noise"))
    assert big["hazard_ratio"].tolist() == pytest.approx([2.0, 1.0], rel=0.06)
    assert (big["n"] == 20_000).all()
    assert big["people_with_n"].iloc[0] == (people(20_000, seed=1)["late"] > 0).sum()


def test_hostile_tables_give_sentences() -> None:
    table = people(300)
    separated = table.assign(late=np.where(table["ended"] == 1, 1.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "0 people left" in cox.cox(table.assign(ended=0), names("late")).attrs["reason"]
        assert len(cox.cox(table.assign(ended=1), names("late"))) == 1
        assert "at least 10" in cox.cox(table.head(10), names("late")).attrs["reason"]
        assert "n = 0" in covariates.at_landmark(make_log("u1: a"), _no_spells(), covariates=[LATE]).attrs["reason"]
        assert "0 people left" in cox.cox(table.head(0), names("late")).attrs["reason"]
        assert "everybody who left had it" in cox.cox(separated, names("late")).attrs["reason"]
        both = cox.cox(table.assign(same=1.0, copy=table["late"]), names("late", "same", "copy"))
        assert both["covariate"].tolist() == ["late"]
        assert "same for everyone" in both.attrs["note"]
        assert "repeats" in both.attrs["note"]
        rare = cox.cox(table.assign(rare=np.arange(300) < 4), names("late", "rare"))
        assert "fewer than 5 people" in rare.attrs["note"]
        score = np.where(table["ended"] == 1, 1000 - table["duration_days"], -1000 - table["duration_days"])
        settled = cox.cox(table.assign(score=score), names("score"))
        assert settled.empty
        assert "did not settle" in settled.attrs["reason"]
        assert "no covariates" in cox.cox(table, []).attrs["reason"]


def test_days_kept_has_the_sign_of_those_with_the_covariate() -> None:
    for share in (0.3, 0.7):  # the larger group is once those with and once those without
        line = cox.days_kept(people(2000, ratio=3.0, share=share), names("late"), 180).iloc[0]
        assert line["difference_days_low"] <= line["difference_days"] <= line["difference_days_high"] < 0
        assert line["people_with_n"] + line["people_without_n"] == 2000
    assert cox.days_kept(people(2000).assign(late=0.0), names("late"), 180).empty
    lines = cox.days_kept(people(2000), [*names("late"), config.Covariate(name="noise", kind="satisfaction")], 180)
    assert lines["covariate"].tolist() == ["late"]  # satisfaction has no "without"


# where a ratio changes with tenure


def turning(n: int = 6000, seed: int = 3) -> pd.DataFrame:
    """Leaving four times as fast with it up to day 40, and as fast as without it afterwards."""
    rng = np.random.default_rng(seed)
    having, noise = (rng.random(n) < 0.5).astype(float), (rng.random(n) < 0.5).astype(float)
    hazard = 0.004 * np.where(noise == 1, 1.5, 1.0)
    early = rng.exponential(1 / (hazard * np.where(having == 1, 4.0, 1.0)))
    life = np.where(early < 40, early, 40 + rng.exponential(1 / hazard))
    return pd.DataFrame(
        {
            "person_id": np.arange(n),
            "late": having,
            "noise": noise,
            "duration_days": np.minimum(life, 400.0),
            "ended": (life <= 400).astype(int),
        }
    )


def test_a_ratio_that_turns_is_found_and_told_early_and_late() -> None:
    table, wanted = turning(), names("late", "noise")
    found = cox.cox(table, wanted)
    assert proportional.changed(found) == ["late"]
    parts = proportional.early_late(table, wanted, ["late"])
    assert parts["part"].tolist() == ["early", "late"]
    early, late = (parts.iloc[n] for n in (0, 1))
    assert early["to_day"] == late["from_day"] == table.loc[table["ended"] == 1, "duration_days"].median()
    assert early["hazard_ratio_low"] > 1.5
    assert late["hazard_ratio_low"] < 1 < late["hazard_ratio_high"] < early["hazard_ratio"]
    assert (parts["change_p_value"] < 1e-6).all()
    assert parts["events_n"].sum() == table["ended"].sum()
    assert parts["n"].tolist() == [6000, (table["duration_days"] > early["to_day"]).sum()]
    others = proportional.stratified(table, wanted, ["late"])
    assert others["covariate"].tolist() == ["noise"]
    assert others.attrs["strata"] == ["late"]
    assert others["hazard_ratio_low"].iloc[0] < 1.5 < others["hazard_ratio_high"].iloc[0]


def test_a_stratified_model_is_that_of_lifelines() -> None:
    table = rossi()
    found = proportional.stratified(table, names("fin", "age", "wexp"), ["wexp"])
    theirs = CoxPHFitter().fit(
        table[["fin", "age", "wexp", "duration_days", "ended"]], "duration_days", "ended", strata=["wexp"]
    )
    assert np.log(found["hazard_ratio"]).tolist() == pytest.approx(theirs.params_[["fin", "age"]].tolist(), abs=1e-4)


def test_nothing_that_turns_and_too_few_are_sentences() -> None:
    table, wanted = turning(300), names("late", "noise")
    assert "no ratio changes" in proportional.early_late(table, wanted, []).attrs["reason"]
    assert "no ratio changes" in proportional.stratified(table, wanted, []).attrs["reason"]
    assert "every covariate" in proportional.stratified(table, wanted, ["late", "noise"]).attrs["reason"]
    assert "0 people left" in proportional.early_late(table.assign(ended=0), wanted, ["late"]).attrs["reason"]
    assert "0 people left" in proportional.stratified(table.assign(ended=0), wanted, ["late"]).attrs["reason"]
    assert proportional.early_late(table.head(10), wanted, ["late"]).empty
    # Nobody with it leaves late, so that a late ratio has no estimate.
    gone = table["ended"].where((table["late"] == 0) | (table["duration_days"] < 20), 0)
    assert "too few" in proportional.early_late(table.assign(ended=gone), wanted, ["late"]).attrs["reason"]


# immortal time


def feature(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Touches and spells of people who use a feature some time or never; it has no effect on leaving."""
    rng = np.random.default_rng(seed)
    life, use = rng.exponential(100, n), rng.exponential(60, n)
    over = np.minimum(life, 300)
    uses = use < over
    person = np.concatenate([np.arange(n), np.flatnonzero(uses)])
    log = pd.DataFrame(
        {
            "person_id": person,
            "timestamp": START + pd.to_timedelta(np.concatenate([np.zeros(n), use[uses]]), unit="D"),
            "event": ["join"] * n + ["feature"] * int(uses.sum()),
            "source": "s",
            "source_row": np.arange(len(person)),
            "event_id": np.arange(len(person)).astype(str),
        }
    )
    stays = pd.DataFrame(
        {"person_id": np.arange(n), "started_at": START, "duration_days": over, "ended": (life < 300).astype(int)}
    )
    return log, stays.assign(segment="all", entered_days=0.0)


def test_ever_used_lies_and_the_two_right_ways_do_not() -> None:
    log, stays = feature(6000, 7)
    used = config.Covariate(name="feature", events="feature")
    table = immortal.three_ways(log, stays, [used], landmark="40d").set_index("way")
    ever, mark, so_far = (table.loc[way] for way in ("ever", "landmark", "so far"))
    assert 0.2 < ever["hazard_ratio"] < ever["hazard_ratio_high"] < 0.45
    assert 0.2 < ever["immortal_share"] < 0.6
    for right in (mark, so_far):
        assert right["hazard_ratio_low"] < 1 < right["hazard_ratio_high"]
        assert 0.9 < right["hazard_ratio"] < 1.12
        assert right["immortal_share"] == 0
    assert ever["n"] == so_far["n"] == 6000 > mark["n"]
    assert ever["people_with_n"] == so_far["people_with_n"]
    known = covariates.at_landmark(log, stays, covariates=[used], landmark="40d")
    line = cox.cox(known, [used]).iloc[0]
    assert mark["hazard_ratio"] == pytest.approx(line["hazard_ratio"])


def test_the_covariate_with_most_immortal_days_is_shown() -> None:
    log, stays = feature(500, 3)
    wanted = [config.Covariate(name="joined", events="join"), config.Covariate(name="feature", events="feature")]
    assert set(immortal.three_ways(log, stays, wanted)["covariate"]) == {"feature"}
    named = immortal.three_ways(log, stays, wanted, name="joined")
    assert "same for everyone" in named.attrs["reason"]
    with pytest.raises(JourneyError, match="feature"):
        immortal.three_ways(log, stays, wanted, name="featur")
    detours = config.Covariate(name="back", kind="detours")
    assert "no covariate counts events" in immortal.three_ways(log, stays, [detours]).attrs["reason"]
    assert "0 people left" in immortal.three_ways(log, stays.assign(ended=0), wanted).attrs["reason"]
    assert "n = 0" in immortal.three_ways(log, _no_spells(), wanted).attrs["reason"]
    few = immortal.three_ways(log, stays.head(10), wanted, minimum_events=20)
    assert "at least 20" in few.attrs["reason"]


# the bundled study


@pytest.mark.skipif(not DERIVED.exists(), reason="the bundled study is not built")
def test_planted_ratios_lie_in_their_intervals_whatever_stands_beside_them() -> None:
    touches = engine.read_parquet(DERIVED)
    stays = spells.spells(touches, start=["care_plan_started"], end=["care_plan_cancelled"], as_of="2026-01-01")
    planted = {"late_delivery": 1.8, "unresolved_ticket": 2.4, "setup_done": 0.7}
    wanted = [
        config.Covariate(name="late_delivery", events="delivery_late"),
        config.Covariate(name="unresolved_ticket", events="ticket_opened", without="ticket_solved"),
        config.Covariate(name="setup_done", events="setup_completed"),
        config.Covariate(name="device", kind="category", column="device"),
        config.Covariate(name="detours", kind="detours", last="90d"),
        config.Covariate(name="poor_moments", kind="poor"),
        config.Covariate(name="satisfaction", kind="satisfaction"),
    ]
    for some in (wanted[:3], wanted):
        known = covariates.at_landmark(touches, stays, covariates=some)
        found = cox.cox(known, some).set_index("covariate")
        for name, ratio in planted.items():
            assert found.loc[name, "hazard_ratio_low"] < ratio < found.loc[name, "hazard_ratio_high"], name
    assert len(found) == 10
    assert proportional.changed(found.reset_index()) == []
