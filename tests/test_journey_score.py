"""The Customer Journey Score: a case worked by hand, lifelines as the judge of retention, and honest refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from journeykit import journey_map, journey_score
from journeykit.errors import JourneyError
from journeykit.plots import journey_map as plots
from journeykit.readings import journey_map as readings
from tests.test_journey_map import STAGES, SURVEY, random_log, staged

WEIGHTS = [("aware", 0.5), ("buy", 0.3), ("use", 0.2)]
LATE = "2025-06-01"


def score(touches: pd.DataFrame, **keywords: object) -> pd.DataFrame:
    options: dict = {
        "as_of": LATE,
        "min_answers": 1,
        "repetitions": 50,
        "survey_touchpoints": SURVEY,
        "stages": WEIGHTS,
    }
    return journey_score.journey_score(touches, **{**options, **keywords})


def test_score_worked_by_hand() -> None:
    # aware: 4 people, answers .5 and 1, 3 of 4 move on in time; buy: 4 people, answer .4, 1 of 4; use: no answer.
    touches = staged(
        "u1: ad@0d survey cart@1d survey ticket@2d | u2: ad@0d cart@3d | u3: ad@0d survey cart@5d"
        " | u4: ad@0d cart@100d",
        [0.5, 0.4, 1.0],
    )
    table = score(touches, horizon="90d").set_index("stage")
    assert table.loc["aware", ["satisfaction", "moved_on_share"]].tolist() == pytest.approx([0.75, 0.75])
    assert table.loc["buy", ["satisfaction", "moved_on_share", "n"]].tolist() == pytest.approx([0.4, 0.25, 4])
    assert table.loc["use", "note"] == "not enough data (n = 0 answers, at least 1 are needed)"
    assert table["weight_used"].tolist()[:2] == pytest.approx([0.625, 0.375])
    assert table.loc["Total", "coverage_share"] == pytest.approx(0.8)
    assert table.loc["Total", "points"] == pytest.approx(100 * (0.625 * 0.75 * 0.75 + 0.375 * 0.4 * 0.25))
    assert table.loc["Total", "points"] == pytest.approx(table["points"].iloc[:2].sum())


def test_retention_is_kaplan_meier() -> None:
    rng = np.random.default_rng(3)
    parts = []
    for k in range(150):
        start = int(rng.integers(0, 60))
        more = f" cart@{start + int(rng.exponential(20)) + 1}d" if rng.random() < 0.7 else ""
        parts.append(f"u{k}: ad@{start}d survey{more}")
    touches = staged("|".join(parts), [0.5] * 150)
    table = score(touches, horizon="30d", as_of="2025-03-12").set_index("stage")
    people = journey_map.people_by_stage(touches, STAGES, SURVEY, journey_map.microseconds("2025-03-12"))
    days, moved = journey_map.spell(people, 0, journey_map.microseconds("2025-03-12"))
    assert 0 < (~moved).sum() < 150
    fitted = KaplanMeierFitter().fit(days, moved)
    assert table.loc["aware", "moved_on_share"] == pytest.approx(1 - fitted.predict(30.0))
    inside = people["entry_0"].notna().to_numpy()
    part = journey_score._Part(people, 0, inside, days, moved, 30.0)
    weights = rng.integers(0, 4, len(people)).astype(float)
    kept = weights[inside] > 0
    weighted = KaplanMeierFitter().fit(days[kept], moved[kept], weights=weights[inside][kept])
    assert part.estimate(weights)[1] == pytest.approx(1 - weighted.predict(30.0))


def test_bootstrap_is_deterministic_whatever_the_order_of_rows() -> None:
    touches = random_log(5, people=80)
    first = score(touches, seed=4)
    again = score(touches.sample(frac=1, random_state=1), seed=4)
    pd.testing.assert_frame_equal(first, again)
    assert score(touches, seed=5)["points_low"].iloc[-1] != first["points_low"].iloc[-1]
    assert first["points_low"].iloc[-1] < first["points"].iloc[-1] < first["points_high"].iloc[-1]


def test_interval_covers() -> None:
    # Truth: satisfaction .6, half move on: 30 points. 95 % intervals of 60 samples of 80 people cover about 57 times.
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        n = 80
        people = pd.DataFrame({"person_id": range(n), "entry_0": 0.0})
        people["next_0"] = np.where(rng.random(n) < 0.5, 1.0 * journey_map.DAY, np.nan)
        people["answers_0"] = (rng.random(n) < 0.7).astype(float)
        people["sum_0"] = people["answers_0"] * (rng.random(n) < 0.6)
        days, moved = journey_map.spell(people, 0, 10 * journey_map.DAY)
        part = journey_score._Part(people, 0, np.full(n, True), days, moved, 5.0)
        draws = [np.prod(part.estimate(journey_score._resample(rng, n))) for _ in range(200)]
        low, high = np.percentile(draws, [2.5, 97.5])
        hits += low <= 0.3 <= high
    assert hits >= 51


def test_definition_code_changes_with_the_definition_only() -> None:
    touches = random_log(5, people=80)
    notes = [
        score(touches, **change)["note"].iloc[-1]
        for change in ({}, {"seed": 9}, {"horizon": "30d"}, {"stages": [("aware", 1), ("buy", 1), ("use", 1)]})
    ]
    assert notes[0] == notes[1]
    assert len(set(notes)) == 3
    frame = pd.DataFrame(WEIGHTS, columns=["stage", "weight"])
    assert score(touches, stages=frame)["note"].iloc[-1] == notes[0]


def test_refusals() -> None:
    touches = staged("u1: ad cart | u2: ad")
    assert "n = 0 answers" in score(touches).attrs["reason"]
    assert "n = 0 answers" in score(touches.iloc[:0]).attrs["reason"]
    assert score(touches, stages=[]).attrs["reason"] == journey_map.NO_STAGES
    answered = staged("u1: ad survey", [0.5])
    assert "nobody entered" in score(answered, stages=[("aware", 1)], as_of="2025-01-05").attrs["reason"]
    one = score(answered, stages=[("aware", 1)])
    assert one["points"].tolist() == [0.0, 0.0]
    with pytest.raises(JourneyError, match="weight"):
        score(touches, stages=[("aware", -1.0), ("buy", 2.0)])
    with pytest.raises(JourneyError, match="weight"):
        score(touches, stages=[("aware", 0.0)])


def test_bounds_hold_whatever_the_silent_think() -> None:
    touches = staged("u1: ad survey | u2: ad survey | u3: ad | u4: ad cart", [0.2, 0.6])
    table = journey_score.response_bounds(touches, stages=STAGES, survey_touchpoints=SURVEY, min_n=1)
    assert table["stage"].tolist() == ["aware"]
    row = table.iloc[0]
    assert [row["n"], row["answered_people_n"], row["answered_share"]] == [4, 2, 0.5]
    assert row[["satisfaction", "satisfaction_if_silent_unhappy", "satisfaction_if_silent_happy"]].tolist() == (
        pytest.approx([0.4, 0.2, 0.7])
    )
    assert journey_score.response_bounds(touches, stages=STAGES, min_n=5).attrs["reason"]
    assert "2 of 4 people answered" in readings.response_bounds(table)
    assert plots.response_bounds(table).get_figure()


def test_answers_of_people_who_were_never_in_the_stage_do_not_count_as_its_share() -> None:
    touches = staged(
        "u1: ad survey | u2: ad | u3: cart survey | u4: cart survey | u5: cart survey", [0.2, 1.0, 1.0, 0.6]
    )
    touches["segment_about"] = np.where(touches["event"] == "survey", "aware", None)
    row = journey_score.response_bounds(touches, stages=STAGES, survey_touchpoints=SURVEY, min_n=1).iloc[0]
    assert [row["n"], row["answered_people_n"], row["answered_share"], row["satisfaction"]] == [2, 1, 0.5, 0.2]


def test_the_score_counts_the_same_answers_as_the_map() -> None:
    touches = staged("u1: ad survey cart | u2: ad | u3: survey | u4: survey | u5: x1", [0.2, 1.0, 0.6])
    touches["segment_about"] = np.where(touches["event"] == "survey", "aware", None)
    table = score(touches).set_index("stage")
    answers = journey_map.satisfaction_by_stage(touches, stages=STAGES, survey_touchpoints=SURVEY).set_index("stage")
    assert table.loc["aware", "answers_n"] == answers.loc["aware", "answers_n"] == 3
    assert table.loc["aware", "satisfaction"] == pytest.approx(answers.loc["aware", "satisfaction"])
    assert table.loc["aware", "n"] == 2
    people = journey_map.people_by_stage(touches, STAGES, SURVEY, None)
    assert people["person_id"].tolist() == [1, 2, 3, 4]  # u5 neither entered a stage nor answered
    assert people["entry_0"].notna().tolist() == [True, True, False, False]


def test_readings_findings_and_figure() -> None:
    touches = random_log(7, people=150)
    table = score(touches)
    touchpoints = journey_map.touchpoint_map(touches, stages=STAGES, survey_touchpoints=SURVEY)
    total = table.iloc[-1]
    assert f"{total['points']:.1f} of 100 points" in readings.journey_score(table)
    found = readings.findings(table, touchpoints, owner=lambda name: f"team {name}", min_answers=5)
    assert [finding.id for finding in found] == ["journey_score", "weakest_stage", "lowest_satisfaction"]
    assert found[0].headline
    assert found[0].label == "Customer Journey Score"
    assert found[0].low < found[0].value < found[0].high
    assert plots.journey_score(table).get_figure()
    partly = score(staged("u1: ad survey cart", [0.5]))
    assert "It covers 50 % of the weight: buy, use" in readings.journey_score(partly)
    assert plots.journey_score(partly).get_figure()


def test_findings_state_their_value_and_a_thin_score_is_no_headline() -> None:
    row = {"satisfaction": 0.5, "moved_on_share": 0.5, "answers_n": 40, "n": 90, "note": ""}
    stage = {**row, "stage": "Buy", "weight_used": 1.0, "points": 25.0, "points_low": 20.0, "points_high": 31.0}
    total = {**stage, "stage": "Total", "coverage_share": 0.55, "note": "definition x"}
    score, weak = readings.findings(pd.DataFrame([stage, total]), pd.DataFrame())
    assert not score.headline
    assert "40 answers" in score.caveat
    assert readings.findings(pd.DataFrame([stage, {**total, "coverage_share": 0.6}]), pd.DataFrame())[0].headline
    assert (weak.value, weak.low, weak.high, weak.better) == (75.0, 69.0, 80.0, "down")
    assert "75.0 of its 100.0" in weak.statement


def test_a_column_of_notes_is_shown_when_a_stage_has_one() -> None:
    table = pd.DataFrame({"stage": ["Buy", "Total"], "note": ["", "definition x"]})
    assert "note" not in readings.shown(table)
    assert "note" in readings.shown(table.assign(note=["not enough data", "definition x"]))
