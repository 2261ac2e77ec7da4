"""Hand-offs between teams: by hand, against a slow version, with hostile input and on every engine."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from journeykit import engine, handoffs, stats
from journeykit.errors import JourneyError
from journeykit.plots import friction as plots
from journeykit.plots import theme
from journeykit.readings import friction as readings
from tests import slow_friction
from tests.conftest import make_log

TEAMS = {"call": "Support", "bill": "Finance", "ship": "Logistics", "buy": "Sales"}


def log_of(text: str, **columns: object) -> pd.DataFrame:
    log = make_log(text)
    return log.assign(team=log["event"].map(TEAMS).astype(object), **columns)


def row_of(table: pd.DataFrame, source: str, target: str) -> pd.Series:
    found = table[(table["from_team"] == source) & (table["to_team"] == target)]
    assert len(found) == 1
    return found.iloc[0]


def test_hand_offs_by_hand() -> None:
    log = log_of(
        "u1: call@0h call@1h x@2h bill@4h call@5h ship@9h | u2: call@0h bill@10h ; ship@12h | u3: call@0h x@1h"
    )
    table = handoffs.handoffs(log)
    first = row_of(table, "Support", "Finance")
    assert first[["n", "people_n", "sent_back_n", "last_n", "open_n"]].tolist() == [2, 2, 1, 1, 0]
    assert first["share"] == pytest.approx(2 / 3)  # of three that leave Support
    assert first["median_wait_days"] == pytest.approx(6.5 / 24)  # 3 h and 10 h
    assert first["p90_wait_days"] == pytest.approx(9.3 / 24)
    assert first["sent_back_share"] == 0.5
    assert first["last_share"] == 0.5
    assert row_of(table, "Finance", "Support")[["n", "sent_back_n"]].tolist() == [1, 0]
    assert row_of(table, "Support", "Logistics")[["n", "last_n"]].tolist() == [1, 1]
    assert len(table) == 3  # the second journey of u2 begins anew
    person = handoffs.handoffs(log, within="person")
    assert row_of(person, "Finance", "Logistics")["n"] == 1
    assert handoffs.handoffs(log, min_n=2)[["from_team", "to_team"]].values.tolist() == [["Support", "Finance"]]


def test_surveys_lie_between_without_counting() -> None:
    log = log_of("u1: call@0h bill@1h x@2h")
    log["touchpoint"] = ["A", "Survey", "A"]
    assert "n = 0 hand-offs" in stats.reason_of(handoffs.handoffs(log))
    assert len(handoffs.handoffs(log, survey_touchpoints=["Poll"])) == 1
    log["touchpoint"] = ["A", "A", "Survey"]
    assert handoffs.handoffs(log)["last_n"].tolist() == [1]  # an answer is no way on


def test_open_journeys_are_apart_from_those_that_ended_there() -> None:
    log = log_of("u1: call bill | u2: call bill | u3: call bill x | u4: call bill")
    journeys = pd.DataFrame({"journey_id": [1, 2, 3, 4], "outcome": ["open", "abandoned", "open", "converted"]})
    row = handoffs.handoffs(log, journeys=journeys).iloc[0]
    assert row[["n", "last_n", "open_n"]].tolist() == [4, 2, 1]
    assert row["last_share"] == pytest.approx(2 / 3)
    row = handoffs.handoffs(log, journeys=journeys.assign(running=[1, 0, 1, 1])).iloc[0]
    assert row[["n", "last_n", "open_n"]].tolist() == [4, 1, 2]


def test_conversion_is_that_after_the_hand_off() -> None:
    some = "u1: call bill buy | u2: call bill | u3: buy call bill | u4: call bill"
    log = log_of(f"{some} | u5: call buy | u6: call bill x call bill buy")
    outcome = ["converted", "abandoned", "converted", "open", "converted", "converted"]
    journeys = pd.DataFrame({"journey_id": range(1, 7), "outcome": outcome})
    table = handoffs.handoffs(log, journeys=journeys, conversion=["buy"])
    row = row_of(table, "Support", "Finance")
    assert row[["n", "finished_n", "converted_n"]].tolist() == [6, 3, 2]  # u3 had bought, u4 may still
    assert row["converted_share"] == pytest.approx(2 / 3)
    assert row_of(table, "Support", "Sales")["finished_n"] == 0  # the order is the hand-off itself
    assert np.isnan(row_of(table, "Support", "Sales")["converted_share"])
    late = journeys.assign(outcome=["abandoned", *outcome[1:]])  # bought, but later than the window allows
    assert row_of(handoffs.handoffs(log, journeys=late, conversion=["buy"]), "Support", "Finance")["converted_n"] == 1
    assert handoffs.handoffs(log, journeys=journeys)["finished_n"].sum() == 0


def test_the_change_of_mood_is_paired_by_person() -> None:
    people = [f"u{k}: x@0h call@1h bill@2h y@3h y@4h" for k in range(6)] + ["v: call@1h bill@2h y@3h"]
    log = log_of(" | ".join(people))
    before, after = [0.2, 0.4, 0.6, 0.8, 1.0, 0.5], [0.1, 0.4, 0.3, 0.6, 1.0, 0.0]
    log.loc[log["event"] == "x", "satisfaction"] = before
    log.loc[log["timestamp"].dt.hour == 3, "satisfaction"] = [*after, 0.9]  # the last person gave no answer before
    log.loc[log["timestamp"].dt.hour == 4, "satisfaction"] = after
    row = handoffs.handoffs(log).iloc[0]
    expected = stats.mean_interval(np.subtract(after, before))
    assert row["answered_both_n"] == 6
    assert row[
        ["satisfaction_difference", *(f"satisfaction_difference_{end}" for end in ("low", "high"))]
    ].tolist() == (pytest.approx(expected))
    near = handoffs.handoffs(log, answers_within="1h").iloc[0]
    assert near["answered_both_n"] == 0  # the answer before is two hours old
    assert np.isnan(near["satisfaction_difference"])
    few = handoffs.handoffs(log, min_n=7).iloc[0]
    assert few["answered_both_n"] == 6
    assert np.isnan(few["satisfaction_difference"])


@settings(max_examples=15, deadline=None)
@given(slow_friction.logs())
def test_random_logs(log: pd.DataFrame) -> None:
    journeys = log[["journey_id"]].drop_duplicates().sort_values("journey_id", ignore_index=True)
    journeys["outcome"] = [["converted", "open", "abandoned"][k % 3] for k in range(len(journeys))]
    outcome = dict(zip(journeys["journey_id"], journeys["outcome"], strict=True))
    known = slow_friction.handed(log, "journey_id", {"Survey"})
    table = handoffs.handoffs(log, journeys=journeys, conversion=["buy"], answers_within="1h")
    mood = slow_friction.moods(log, known, pd.Timedelta("1h"))
    assert Counter(
        dict(zip(zip(table["from_team"], table["to_team"], strict=True), table["n"], strict=True))
    ) == Counter(one["pair"] for one in known)
    for row in table.to_dict("records"):
        pair = (row["from_team"], row["to_team"])
        mine = [one for one in known if one["pair"] == pair]
        is_open = [one["ends"] and outcome[one["unit"]] == "open" for one in mine]
        assert row["people_n"] == len({one["person_id"] for one in mine})
        waits = [one["wait"] / 86_400 for one in mine]
        assert row["median_wait_days"] == pytest.approx(np.median(waits))
        assert row["p90_wait_days"] == pytest.approx(np.quantile(waits, 0.9))
        assert row["sent_back_n"] == sum(one["sent_back"] for one in mine)
        assert row["open_n"] == sum(is_open)
        assert row["last_n"] == sum(one["ends"] for one in mine) - sum(is_open)
        over = [one for one in mine if one["first"] and outcome[one["unit"]] != "open" and one["won"] != "before"]
        won = [one for one in over if one["won"] == "after" and outcome[one["unit"]] == "converted"]
        assert (row["finished_n"], row["converted_n"]) == (len(over), len(won))
        changes = mood.get(pair, {})
        assert row["answered_both_n"] == len(changes)
        if len(changes) > 1:
            assert row["satisfaction_difference"] == pytest.approx(np.mean(list(changes.values())))


def test_engines_agree() -> None:
    rng = np.random.default_rng(2)
    parts = [f"u{k}: " + " ".join(f"{rng.choice(list(TEAMS))}@{hour}h" for hour in range(8)) for k in range(40)]
    answers = np.where(rng.random(320) < 0.5, np.nan, rng.integers(0, 5, 320) / 4)
    log = log_of(" | ".join(parts), satisfaction=answers).drop(columns="marketing_channel")
    journeys = pd.DataFrame({"journey_id": range(1, 41), "outcome": ["converted", "open"] * 20})
    options: dict[str, Any] = {"conversion": ["buy"]}
    expected = handoffs.handoffs(log, journeys=journeys, **options)
    assert expected["satisfaction_difference"].notna().any()
    before = log.copy()
    for frame in (
        pl.from_pandas(log),
        pl.from_pandas(log).lazy(),
        engine.lazy(log),
        log.sample(frac=1, random_state=0),
    ):
        found = handoffs.handoffs(frame, journeys=pl.from_pandas(journeys), **options)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    pd.testing.assert_frame_equal(log, before)


def test_hostile_input() -> None:
    log = log_of("u1: call bill")
    for hostile in (log.head(0), log.assign(team=None), log.assign(team="")):
        assert "no event has a team" in stats.reason_of(handoffs.handoffs(hostile))
    assert "n = 0 hand-offs" in stats.reason_of(handoffs.handoffs(log.assign(team="one")))
    assert "at least 2 people" in stats.reason_of(handoffs.handoffs(log, min_n=2))
    assert len(handoffs.handoffs(log, conversion=["buy"])) == 1
    with pytest.raises(JourneyError, match="'team'"):
        handoffs.handoffs(log.drop(columns="team"))
    with pytest.raises(JourneyError, match="not a duration"):
        handoffs.handoffs(log, answers_within="a month")


def unhappy(people: int) -> pd.DataFrame:
    """Everybody is less satisfied after the second hand-off, and hardly anybody after the first."""
    rng = np.random.default_rng(1)
    log = log_of(" | ".join(["u: x@0h call@1h x@2h bill@3h x@4h ship@30h x@31h"] * people))
    answers = {0: 0.8, 2: 0.8, 4: 0.8, 31: 0.3}
    hours = (log["timestamp"] - log["timestamp"].min()).dt.total_seconds() // 3600
    noise = rng.normal(0, 0.05, len(log))
    return log.assign(satisfaction=hours.map(answers) + noise)


def test_sentences_and_a_finding() -> None:
    table = handoffs.handoffs(unhappy(40), answers_within="5h")
    text = readings.handoffs(table)
    assert "The most frequent hand-off is Finance → Logistics (40 times, median 1.1 days between the two)" in text
    assert "Finance → Logistics takes longest" in text
    assert "Satisfaction is not surely lower" in text  # nobody answered within five hours before
    table = handoffs.handoffs(unhappy(40), answers_within="28h")
    assert "Satisfaction is lower after Finance → Logistics: −0.5" in readings.handoffs(table)
    none = stats.not_enough([], "")
    found = readings.findings(none, none, none, table)
    assert [item.id for item in found] == ["handoff"]
    assert found[0].evidence == "associated"
    assert found[0].owner == "Logistics"
    assert (found[0].high or 0) < 0
    few = handoffs.handoffs(unhappy(6))
    assert "10 people with answers" in readings.handoffs(few)
    assert readings.findings(none, none, none, few) == []
    assert readings.handoffs(handoffs.handoffs(make_log("u1: a"))) == ""


def test_the_matrix_draws_what_there_is() -> None:
    for log in (unhappy(4), log_of("u1: call bill")):
        ax = plots.handoffs(handoffs.handoffs(log))
        assert theme.svg(ax).startswith("<?xml")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Support"]
