"""The list of whom to call: order, value by hand, reasons, similar people, intervals, and that it holds tokens only."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from journeykit import config
from journeykit.churn import contest, margin, models, scores
from journeykit.churn.origin import Known
from journeykit.plots import churn_predict as plots
from journeykit.plots import theme
from journeykit.readings import churn_predict as readings
from tests.test_churn_predict import BOTH, ORIGIN, world

PLAN = config.Churn(start="joined", end="left", ahead="90d", covariates=BOTH)
PAID = PLAN.model_copy(update={"value": PLAN.value.model_copy(update={"margin": 30.0, "discount": 0.0})})


def tokens(known: Known) -> pd.DataFrame:
    who = known.there["person_id"]
    return pd.DataFrame({"person_id": who, "id_name": "customer", "id_token": who.map("t{:05d}".format)})


@pytest.fixture(scope="module")
def known() -> Known:
    return world(1500, ratio=4.0)[0]


@pytest.fixture(scope="module")
def bands(known: Known) -> pd.DataFrame:
    people = world(1500, ratio=4.0)[1]
    return contest.bands([contest.play(known, people, BOTH, ahead_days=90)], models.HAZARD)


@pytest.fixture(scope="module")
def listed(known: Known, bands: pd.DataFrame) -> pd.DataFrame:
    return scores.ranked(known, PAID, models.HAZARD, tokens(known), bands, draws=30)


def test_everybody_there_is_listed_once_most_at_stake_first(listed: pd.DataFrame, known: Known) -> None:
    assert listed["id_token"].is_unique
    assert len(listed) == len(known.there)
    assert "person_id" not in listed
    assert listed["at_stake_value"].round(8).is_monotonic_decreasing
    assert tuple(listed.columns) == scores.SCORE_COLUMNS
    for name in ("leaves_share", "at_stake_value", "remaining_value"):
        assert (listed[f"{name}_low"] <= listed[name]).all()
        assert (listed[name] <= listed[f"{name}_high"]).all()
    assert listed["leaves_share_high"].max() < 1


def test_values_are_those_worked_out_by_hand(listed: pd.DataFrame, known: Known) -> None:
    model, _ = models.fit(models.HAZARD, models.training(known.rows, BOTH))
    row = listed.iloc[0]
    person = known.there[known.there["person_id"] == int(row["id_token"][1:])]
    days = np.arange(0, 366.0)
    still = model.survival(person, days.tolist())[0]
    assert row["leaves_share"] == pytest.approx(1 - still[90])
    remaining = np.trapezoid(still * 1.0, days)  # 30 for 30 days is 1 a day
    assert row["remaining_value"] == pytest.approx(remaining, rel=0.002)
    sure = np.where(days <= 90, 1.0, still / still[90])
    assert row["at_stake_value"] == pytest.approx(np.trapezoid(sure, days) - remaining, rel=0.005)
    assert row["at_stake_value"] < margin.per_day(PAID.value) * 365


def test_intervals_hold_the_true_chance() -> None:
    inside = total = 0
    truth = 1 - np.exp(-0.004 * 90 * np.array([1.0, 2.0]))
    for seed in range(12):
        known = world(800, ratio=2.0, seed=seed)[0]
        found = scores.ranked(known, PLAN, models.COX, tokens(known), pd.DataFrame(), draws=30)
        late = known.there.set_index("person_id")["late"]
        late = found["id_token"].str[1:].astype(int).map(late).to_numpy()
        for value in (0, 1):
            mine = found[late == value]
            inside += ((mine["leaves_share_low"] <= truth[value]) & (truth[value] <= mine["leaves_share_high"])).sum()
            total += len(mine)
    assert 0.85 <= inside / total <= 1


def test_reasons_name_what_moves_the_chance_and_by_how_much(listed: pd.DataFrame, known: Known) -> None:
    late = known.there.set_index("person_id")["late"]
    mine = listed["id_token"].str[1:].astype(int).map(late)
    with_it, without = listed[mine == 1]["reasons"], listed[mine == 0]["reasons"]
    assert with_it.str.match(r"late: yes \(\+\d+ points\)").all()
    assert not without.str.contains("late").any()  # not late is typical
    asked = known.there.head(1).assign(tenure_days=60.0, late=1.0, noise=0.0)
    model, _ = models.fit(models.HAZARD, models.training(known.rows, BOTH))
    change = model.survival(asked.assign(late=0.0), [90])[0, 0] - model.survival(asked, [90])[0, 0]
    among = pd.concat([asked, known.there], ignore_index=True)
    assert f"late: yes (+{100 * change:.0f} points)" in scores.reasons(model, among, BOTH, 90)[0]


def test_reasons_of_every_kind_of_covariate() -> None:
    kinds = [
        config.Covariate(name="tickets", kind="count", events="t"),
        config.Covariate(name="mood", kind="satisfaction"),
        config.Covariate(name="device", kind="category", column="segment_device"),
    ]

    class Sum:
        def survival(self, people: pd.DataFrame, days: list[float]) -> np.ndarray:
            risk = 0.1 * people["tickets"] + 0.2 * (people["device"] == "phone") + 0.3 * people["mood"].isna()
            return np.repeat((1 - risk.to_numpy(float))[:, None], len(days), axis=1)

    people = pd.DataFrame({"tenure_days": 1.0, "tickets": [0.0, 0, 3], "mood": [0.5, 0.7, np.nan], "device": "web"})
    people.loc[1, "device"] = "phone"
    said = scores.reasons(Sum(), people, kinds, 90)
    assert said[0] == "nothing stands out"
    assert said[1] == "device: phone (+20 points)"
    assert said[2] == "tickets: 3 (+30 points); mood: no answer (+30 points)"


def test_similar_people_are_those_of_the_band(listed: pd.DataFrame, bands: pd.DataFrame) -> None:
    top = listed.loc[listed["leaves_share"].idxmax()]
    assert top["similar_n"] == bands["n"].iloc[-1]
    assert top["similar_left_share"] == bands["observed_share"].iloc[-1]
    assert (listed["similar_n"] >= 20).all()


def test_without_a_margin_the_order_is_that_of_the_chance(known: Known, bands: pd.DataFrame) -> None:
    table = scores.ranked(known, PLAN, models.HAZARD, tokens(known), bands, draws=5)
    assert not [name for name in table.columns if "value" in name]
    assert table["leaves_share"].round(8).is_monotonic_decreasing
    assert "in the order of that chance" in readings.whom(table)
    again = scores.ranked(known, PLAN, models.HAZARD, tokens(known), bands, draws=5)
    pd.testing.assert_frame_equal(table, again)


def test_no_list_is_made_by_the_null_or_of_nobody(known: Known, bands: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, words in ((models.NULL, "no model foretells better"), ("", "no model was tested")):
            table = scores.ranked(known, PAID, name, tokens(known), bands)
            assert words in table.attrs["reason"]
            assert readings.whom(table) == ""
        nobody = Known(ORIGIN, known.rows, known.there.head(0), known.starts)
        assert "n = 0" in scores.ranked(nobody, PAID, models.COX, tokens(nobody), bands).attrs["reason"]
        few = Known(ORIGIN, known.rows[known.rows["person_id"] < 10], known.there.head(3), known.starts)
        assert "not enough data" in scores.ranked(few, PAID, models.COX, tokens(few), bands).attrs["reason"]
        alone = scores.ranked(known, PAID, models.HAZARD, tokens(known), bands.head(0), draws=2)
        assert alone["similar_n"].isna().all()


def test_the_list_is_told_and_drawn(listed: pd.DataFrame) -> None:
    said = readings.whom(listed, "EUR")
    assert f"{len(listed):,} people are there on 2025-10-01" in said
    assert "EUR" in said
    assert "<svg" in theme.svg(plots.risks(listed))
    (finding,) = readings.findings(pd.DataFrame(), pd.DataFrame(), listed, pd.DataFrame(), "EUR")
    assert finding.value == pytest.approx(listed["at_stake_value"].sum())
