"""The journey map: hand-checked logs, and a slow version in plain Python on random ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from journeykit import engine, journey_map, stats
from journeykit.errors import JourneyError
from journeykit.plots import journey_map as plots
from journeykit.readings import journey_map as readings
from tests.conftest import make_log

STAGES = ["aware", "buy", "use"]
STAGE_OF = {"ad": "aware", "visit": "aware", "cart": "buy", "order": "buy", "ticket": "use", "survey": "use"}
SURVEY = ("survey",)


def staged(text: str, answers: list[float] | None = None) -> pd.DataFrame:
    """A log whose events have stages; `answers` go to the surveys in order."""
    table = make_log(text)
    table = table.assign(stage=table["event"].map(STAGE_OF))
    if answers is not None:
        table.loc[table["event"] == "survey", "satisfaction"] = answers
    return table


def random_log(seed: int, people: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(people):
        days = np.sort(rng.integers(0, 60, rng.integers(1, 9)))
        events = rng.choice([*STAGE_OF, "technical"], len(days))
        parts.append(f"u{person}: " + " ".join(f"{e}@{d}d" for e, d in zip(events, days, strict=True)))
    table = staged("|".join(parts))
    answered = rng.random(len(table)) < 0.6
    rated = table["event"].isin(["survey", "ticket"]) & answered
    return table.assign(satisfaction=np.where(rated, rng.integers(0, 5, len(table)) / 4, np.nan))


def slowly(touches: pd.DataFrame) -> tuple[dict, dict, dict]:
    """Answers by (stage, touchpoint), people who continued, and entry and next time by (person, stage)."""
    answers: dict = {}
    continued: dict = {}
    spells: dict = {}
    for person, events in touches.sort_values(["person_id", "position"]).groupby("person_id"):
        rows = events.to_dict("records")
        about = None
        first: dict = {}
        for k, row in enumerate(rows):
            real = row["stage"] in STAGES and row["touchpoint"] not in SURVEY
            about = (row["stage"], row["touchpoint"]) if real else about
            if about and row["satisfaction"] == row["satisfaction"]:
                answers.setdefault(about, []).append(row["satisfaction"])
            if row["stage"] in STAGES:
                later = [
                    other["timestamp"]
                    for other in rows[k + 1 :]
                    if other["stage"] in STAGES
                    and other["touchpoint"] not in SURVEY
                    and STAGES.index(other["stage"]) > STAGES.index(row["stage"])
                ]
                cell = (row["stage"], row["touchpoint"])
                if cell not in first:
                    first[cell] = True
                    continued.setdefault(cell, []).append(bool(later))
                if real and (person, row["stage"]) not in spells:
                    back = [
                        other["timestamp"]
                        for other in rows
                        if other["stage"] in STAGES
                        and other["touchpoint"] not in SURVEY
                        and other["timestamp"] > row["timestamp"] + pd.Timedelta("1D")
                    ]
                    chosen = back if row["stage"] == STAGES[-1] else later
                    spells[person, row["stage"]] = (row["timestamp"], min(chosen, default=None))
    return answers, continued, spells


def test_counts_reach_and_who_moves_on() -> None:
    touches = staged("u1: ad visit ad cart ticket | u2: cart ad | u3: ad | u4: technical")
    table = journey_map.touchpoint_map(touches, stages=STAGES, min_n=1, survey_touchpoints=SURVEY)
    table = table.set_index("touchpoint")
    assert list(table.index) == ["ad", "visit", "cart", "ticket"]
    assert table.loc["ad", ["touches_n", "people_n", "n", "continued_people_n"]].tolist() == [4, 3, 4, 1]
    assert table.loc["ad", "reach_share"] == 0.75
    assert table.loc["cart", ["people_n", "continued_people_n"]].tolist() == [2, 1]
    assert pd.isna(table.loc["ticket", "continued_share"])


def test_an_answer_speaks_of_the_last_touch_that_is_no_survey() -> None:
    touches = staged("u1: survey ad cart technical survey survey | u2: ad survey cart", [0.9, 0.2, 0.4, 1.0])
    touches.loc[touches["event"] == "cart", "satisfaction"] = [np.nan, 0.0]
    table = journey_map.satisfaction_by_stage(touches, stages=STAGES, survey_touchpoints=SURVEY).set_index("stage")
    assert table["answers_n"].tolist() == [1, 3, 0]
    assert table.loc["aware", "satisfaction"] == 1.0
    assert table.loc["buy", "satisfaction"] == pytest.approx(0.2)
    assert table.loc["buy", "answered_people_n"] == 2


def test_interval_of_satisfaction_is_students_t_when_everybody_answers_once() -> None:
    values = [0.0, 0.25, 0.5, 1.0, 0.75, 0.5]
    touches = staged("|".join(f"u{k}: ad survey" for k in range(6)), values)
    row = journey_map.satisfaction_by_stage(touches, stages=STAGES, survey_touchpoints=SURVEY).iloc[0]
    low, high = scipy_stats.t.interval(0.95, 5, np.mean(values), scipy_stats.sem(values))
    assert [row["satisfaction"], row["satisfaction_low"], row["satisfaction_high"]] == pytest.approx(
        [np.mean(values), low, high]
    )


def test_answers_of_one_person_are_one_cluster_and_equal_answers_keep_an_interval() -> None:
    once = staged("|".join(f"u{k}: ad survey" for k in range(8)), [0.0, 1.0] * 4)
    thrice = list(np.repeat([0.0, 1.0] * 4, 3))
    often = staged("|".join(f"u{k}: ad survey survey survey" for k in range(8)), thrice)
    one, three = (
        journey_map.satisfaction_by_stage(table, stages=STAGES, survey_touchpoints=SURVEY).iloc[0]
        for table in (once, often)
    )
    assert three["answers_n"] == 3 * one["answers_n"]
    assert three["satisfaction_low"] == pytest.approx(one["satisfaction_low"])
    equal = staged("|".join(f"u{k}: ad survey" for k in range(8)), [1.0] * 8)
    row = journey_map.satisfaction_by_stage(equal, stages=STAGES, survey_touchpoints=SURVEY).iloc[0]
    assert row["satisfaction_low"] < 0.8


@pytest.mark.parametrize("seed", range(6))
def test_map_and_people_agree_with_plain_python(seed: int) -> None:
    touches = random_log(seed)
    answers, continued, spells = slowly(touches)
    shuffled = touches.sample(frac=1, random_state=seed)
    table = journey_map.touchpoint_map(shuffled, stages=STAGES, min_n=1, survey_touchpoints=SURVEY)
    assert {(r["stage"], r["touchpoint"]) for _, r in table.iterrows()} == set(continued)
    for _, row in table.iterrows():
        cell = (row["stage"], row["touchpoint"])
        assert row["people_n"] == len(continued[cell])
        assert row["answers_n"] == len(answers.get(cell, []))
        if cell in answers:
            assert row["satisfaction"] == pytest.approx(np.mean(answers[cell]))
        if row["stage"] != STAGES[-1]:
            assert row["continued_people_n"] == sum(continued[cell])
    people = journey_map.people_by_stage(shuffled, STAGES, SURVEY, None)
    found = {}
    for row in people.to_dict("records"):
        for k, stage in enumerate(STAGES):
            if row[f"entry_{k}"] == row[f"entry_{k}"]:
                later = row[f"next_{k}"]
                found[row["person_id"], stage] = (
                    pd.Timestamp(int(row[f"entry_{k}"]), unit="us"),
                    None if later != later else pd.Timestamp(int(later), unit="us"),
                )
    assert found == spells


def test_flow_counts_movers_and_censors_the_others() -> None:
    touches = staged(
        "u1: ad@0d cart@2d | u2: ad@0d cart@4d | u3: ad@0d | u4: ad@9d | u5: ticket@0d ticket@12h | u6: ticket@0d ad@3d"
    )
    table = journey_map.stage_flow(touches, stages=STAGES, until="2025-01-11", min_n=1).set_index("stage")
    assert table.loc["aware", ["people_n", "reached_people_n"]].tolist() == [5, 2]
    assert table.loc["aware", "movers_median_days"] == 3.0
    # u4 and u6 are censored after 1 and 7 days: survival is 3/4 after day 2 and 1/2 after day 4.
    assert table.loc["aware", "median_days"] == 4.0
    assert table.loc["use", "next"] == "a return after a day"
    assert table.loc["use", ["people_n", "reached_people_n"]].tolist() == [2, 1]


def test_small_cells_are_left_out() -> None:
    touches = staged("u1: ad survey | u2: ad | u3: ad cart", [0.5])
    table = journey_map.touchpoint_map(touches, stages=STAGES, min_n=2, survey_touchpoints=SURVEY)
    assert table["touchpoint"].tolist() == ["ad"]
    assert table["satisfaction"].isna().all()
    assert "fewer than 9" in journey_map.touchpoint_map(touches, stages=STAGES, min_n=9).attrs["reason"]


def test_degenerate_input_says_why_it_is_empty() -> None:
    touches = staged("u1: ad")
    nothing = touches.iloc[:0]
    assert journey_map.touchpoint_map(nothing, stages=STAGES).attrs["reason"]
    assert journey_map.stage_flow(nothing, stages=STAGES, until="2025-02-01").attrs["reason"]
    assert journey_map.touchpoint_map(touches, stages=[]).attrs["reason"] == journey_map.NO_STAGES
    assert journey_map.satisfaction_by_stage(nothing, stages=STAGES)["answers_n"].tolist() == [0, 0, 0]
    assert len(journey_map.touchpoint_map(touches, stages=["aware"], min_n=1)) == 1
    unmapped = touches.assign(stage=None, touchpoint=None)
    assert journey_map.touchpoint_map(unmapped, stages=STAGES).attrs["reason"]
    with pytest.raises(JourneyError, match="touchpoint"):
        journey_map.touchpoint_map(touches.drop(columns="touchpoint"), stages=STAGES)


def test_input_is_not_changed_and_engines_agree() -> None:
    touches = random_log(1)
    before = touches.copy()
    one = journey_map.touchpoint_map(touches, stages=STAGES, min_n=1, survey_touchpoints=SURVEY)
    other = journey_map.touchpoint_map(engine.lazy(touches), stages=STAGES, min_n=1, survey_touchpoints=SURVEY)
    pd.testing.assert_frame_equal(touches, before)
    pd.testing.assert_frame_equal(one, other)


def test_readings_and_figures() -> None:
    touches = random_log(2, people=120)
    table = journey_map.touchpoint_map(touches, stages=STAGES, min_n=1, survey_touchpoints=SURVEY)
    flow = journey_map.stage_flow(touches, stages=STAGES, until="2025-04-01", survey_touchpoints=SURVEY)
    assert "Satisfaction is lowest after" in readings.touchpoint_map(table, min_answers=5)
    assert "No touchpoint has 9999 answers" in readings.touchpoint_map(table, min_answers=9999)
    assert "Fewest people move on from" in readings.stage_flow(flow)
    assert readings.touchpoint_map(table.iloc[:0]) == readings.stage_flow(flow.iloc[:0]) == ""
    assert plots.touchpoint_map(table, min_answers=5).get_figure()
    assert plots.stage_flow(flow).get_figure()
    assert readings.findings(table.iloc[:0], table.iloc[:0]) == []


def test_a_survey_that_names_its_stage_speaks_of_that_stage() -> None:
    touches = make_log("u1: visit buy delivery survey | u2: visit survey | u3: visit survey")
    touches["stage"] = touches["event"].map({"visit": "Look", "buy": "Buy", "delivery": "Deliver", "survey": "Deliver"})
    touches["touchpoint"] = touches["event"].replace({"survey": "Survey"})
    touches.loc[touches["event"] == "survey", "satisfaction"] = [0.2, 0.6, 1.0]
    named = touches.assign(segment_about=[None, None, None, "Buy", None, None, None, "unknown stage"])
    stages = ["Look", "Buy", "Deliver"]
    last = journey_map.satisfaction_by_stage(touches, stages=stages).set_index("stage")["satisfaction"]
    asked = journey_map.satisfaction_by_stage(named, stages=stages).set_index("stage")["satisfaction"]
    assert last["Deliver"] == 0.2
    assert asked["Buy"] == 0.2
    assert asked["Look"] == pytest.approx(0.8)  # not named, or not a stage: the last touch


def test_the_next_stage_is_not_just_any_later_one() -> None:
    log = make_log("u1: ad visit buy | u2: ad buy | u3: ad buy visit | u4: buy visit | u5: ad")
    flow = journey_map.stage_flow(log, stages=["ad", "visit", "buy"], until="2025-02-01", min_n=1).set_index("stage")
    assert flow.loc["ad", ["people_n", "reached_people_n", "next_stage_people_n"]].tolist() == [4, 3, 2]
    assert flow.loc["ad", "next_stage_share"] == pytest.approx(0.5)
    assert flow.loc["ad", ["next_stage_share_low", "next_stage_share_high"]].tolist() == pytest.approx(
        stats.wilson(2, 4)
    )
    assert flow.loc["visit", "next_stage_people_n"] == 1
    assert flow.loc["buy", ["next_stage_people_n", "next_stage_share"]].isna().all()


def test_a_single_touchpoint_with_answers_is_not_compared() -> None:
    row = {"stage": "Use", "people_n": 50, "n": 80, "reach_share": 0.6, "reach_share_low": 0.5, "reach_share_high": 0.7}
    row |= {"satisfaction_low": 0.4, "satisfaction_high": 0.6}
    rows = [{**row, "touchpoint": "Box", "satisfaction": 0.5, "answers_n": 40}]
    rows += [{**row, "touchpoint": "Help", "satisfaction": 0.3, "answers_n": 3}]
    (finding,) = readings.findings(pd.DataFrame(), pd.DataFrame(rows))
    assert (
        finding.statement
        == "Satisfaction after Box (Use) is 0.50 on a scale of 0–1; no other touchpoint has 30 answers."
    )
    assert finding.unit == "score"
    assert "Only Box has 30 answers" in readings.touchpoint_map(pd.DataFrame(rows))
    both = pd.DataFrame(rows).assign(answers_n=40)
    assert "though not clearly below the next" in readings.findings(pd.DataFrame(), both)[0].statement
