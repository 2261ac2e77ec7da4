"""Time in a state: planted truth under censoring, by hand, against a slow version, and on a real log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import dwell, engine, stats
from journeykit.errors import JourneyError
from journeykit.plots import friction as plots
from journeykit.plots import theme
from journeykit.readings import friction as readings
from tests import slow_friction
from tests.conftest import make_log

HELPDESK = Path(__file__).parents[2] / "shared" / "data" / "helpdesk_tickets" / "helpdesk.csv.gz"
UNTIL = pd.Timestamp("2025-03-01")


def planted(seed: int, people: int) -> pd.DataFrame:
    """People who enter in the last 19 days and stay for 10 days on average: a median of 6.93 days."""
    rng = np.random.default_rng(seed)
    entered = UNTIL - pd.to_timedelta(rng.uniform(0, 19, people), unit="D")
    stayed = pd.to_timedelta(rng.exponential(10, people), unit="D")
    parts = [pd.DataFrame({"timestamp": entered, "stage": "look"})]
    parts += [pd.DataFrame({"timestamp": entered + stayed, "stage": "buy"})]
    log = pd.concat([part.assign(person_id=np.arange(people)) for part in parts], ignore_index=True)
    log = log[log["timestamp"] <= UNTIL].reset_index(drop=True)  # what comes later nobody has seen
    rows = np.arange(len(log))
    return log.assign(source="log", source_row=rows, event_id=rows.astype(str), journey_id=log["person_id"])


def test_the_median_is_right_where_that_of_completed_stays_is_not() -> None:
    row = dwell.time_in_state(planted(1, 4000), until=UNTIL).set_index("value").loc["look"]
    assert row["n"] == 4000
    assert row["left_n"] + row["open_n"] == 4000
    assert row["median_days"] == pytest.approx(6.9, abs=0.4)
    assert row["median_days_low"] < 6.93 < row["median_days_high"]
    assert row["completed_median_days"] == pytest.approx(3.6, abs=0.4)  # half of the truth


def test_the_interval_covers() -> None:
    logs = [planted(seed, 150).assign(run=f"run {seed}") for seed in range(60)]
    log = pd.concat(logs, ignore_index=True)
    log = log.assign(stage=log["stage"].where(log["stage"] == "buy", log["run"]), source_row=np.arange(len(log)))
    log["person_id"] = pd.factorize(log["run"] + " " + log["person_id"].astype(str))[0]
    table = dwell.time_in_state(log.assign(journey_id=log["person_id"]), until=UNTIL)
    table = table[table["value"] != "buy"]
    assert len(table) == 60
    low, high = table["median_days_low"], table["median_days_high"].fillna(np.inf)
    assert ((low <= 6.93) & (high >= 6.93)).sum() >= 52


def test_by_hand() -> None:
    log = make_log("u1: a@0d a@1d b@4d | u2: a@0d x@1d a@2d | u3: a@0d b@1d a@2d | u4: b@10d")
    log.loc[log["event"] == "x", "stage"] = None  # no stage: it ends no stay
    table = dwell.time_in_state(log, until="2025-01-11", order=["b", "a"])
    counts = ["n", "people_n", "left_n", "ended_n", "open_n"]
    assert table["value"].tolist() == ["b", "a"]
    assert table[counts].values.tolist() == [[3, 3, 1, 0, 2], [3, 3, 2, 0, 1]]
    a = table.iloc[1]
    assert a["completed_median_days"] == 2.5  # 4 and 1 days
    assert a["median_days"] == 4  # of 1, 4 and more than 10
    table = dwell.time_in_state(log, until="2025-01-11", gap="5d")
    a = table.set_index("value").loc["a"]
    assert a[counts].tolist() == [3, 3, 2, 1, 0]  # u2 was silent for longer than five days
    assert a["ended_share"] == pytest.approx(1 / 3)
    early = dwell.time_in_state(log, until="2025-01-01 12:00").set_index("value")
    assert early.loc["a", counts].tolist() == [3, 3, 0, 0, 3]
    assert np.isnan(early.loc["a", "median_days"])
    assert "b" not in early.index


def test_a_unit_counts_once_and_surveys_are_no_stay() -> None:
    log = make_log("u1: a@0d b@1d a@2d b@9d | u2: a@0d b@3d")
    table = dwell.time_in_state(log, until="2025-02-01").set_index("value")
    assert table.loc["a", ["n", "left_n", "completed_median_days"]].tolist() == [2, 2, 2.0]
    log["touchpoint"] = ["A", "Survey", "A", "A", "A", "Survey"]
    table = dwell.time_in_state(log, until="2025-02-01").set_index("value")
    assert table.loc["a", ["n", "left_n", "completed_median_days"]].tolist() == [2, 1, 9.0]
    both = dwell.time_in_state(log, until="2025-02-01", survey_touchpoints=()).set_index("value")
    assert both.loc["a", "left_n"] == 2


@settings(max_examples=20, deadline=None)
@given(slow_friction.logs(), st.sampled_from(["", "1h", "3h"]), st.integers(0, 15))
def test_random_logs(log: pd.DataFrame, gap: str, hours: int) -> None:
    until = slow_friction.START + pd.Timedelta(hours=hours)
    for within in ("journey", "person"):
        table = dwell.time_in_state(log, on="value_of", within=within, until=until, gap=gap)
        silence = pd.Timedelta(gap) if gap else None
        known = slow_friction.stays(log, "value_of", f"{within}_id", until, silence)
        assert sorted(table["value"]) == sorted({one["value"] for one in known})
        for row in table.to_dict("records"):
            mine = [one for one in known if one["value"] == row["value"]]
            kinds = [one["kind"] for one in mine]
            assert row["n"] == len(mine)
            assert [row[f"{kind}_n"] for kind in ("left", "open", "ended")] == [
                kinds.count(kind) for kind in ("left", "open", "ended")
            ]
            seconds, left = [one["seconds"] for one in mine], [one["kind"] == "left" for one in mine]
            for column, share in (("median_days", 0.5), ("p75_days", 0.25)):
                expected = slow_friction.kaplan_meier(seconds, left, share)
                assert row[column] == pytest.approx(expected, nan_ok=True)


def test_engines_agree() -> None:
    log = planted(3, 60)
    expected = dwell.time_in_state(log, until=UNTIL, gap="7d")
    assert expected["ended_n"].sum() > 0
    before = log.copy()
    for frame in (
        pl.from_pandas(log),
        pl.from_pandas(log).lazy(),
        engine.lazy(log),
        log.sample(frac=1, random_state=0),
    ):
        found = dwell.time_in_state(frame, until=UNTIL, gap="7d")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    pd.testing.assert_frame_equal(log, before)


def test_hostile_input() -> None:
    log = make_log("u1: a b")
    options: dict[str, Any] = {"until": "2025-02-01"}
    for hostile in (log.head(0), log.assign(stage=None), log.assign(journey_id=None)):
        assert "not enough data" in stats.reason_of(dwell.time_in_state(hostile, **options))
    assert dwell.time_in_state(log, min_n=2, **options).empty
    assert dwell.time_in_state(log, until="2024-01-01").empty
    one = dwell.time_in_state(log.head(1), **options).iloc[0]
    assert (one["n"], one["open_n"]) == (1, 1)
    with pytest.raises(JourneyError, match="'stage'"):
        dwell.time_in_state(log.drop(columns="stage"), **options)


@pytest.mark.skipif(not HELPDESK.exists(), reason="the shared data is not here")
def test_how_long_real_tickets_wait() -> None:
    raw = pd.read_csv(HELPDESK)
    case = pd.factorize(raw["case:concept:name"])[0]
    log = pd.DataFrame(
        {
            "event_id": [f"{row:06d}" for row in range(len(raw))],
            "timestamp": pd.to_datetime(raw["time:timestamp"], utc=True, format="ISO8601").dt.tz_localize(None),
            "source": "helpdesk",
            "source_row": range(len(raw)),
            "person_id": case,
            "journey_id": case,
            "stage": raw["concept:name"],
        }
    )
    until = log["timestamp"].max()
    table = dwell.time_in_state(log, until=until).set_index("value")
    known = slow_friction.stays(log.assign(touchpoint="x"), "stage", "journey_id", until, None)
    waits = [one for one in known if one["value"] == "Wait"]
    assert table.loc["Wait", "n"] == len(waits) == 1236  # cases_with_wait of expected.json
    left = [one["seconds"] / 86_400 for one in waits if one["kind"] == "left"]
    assert table.loc["Wait", "completed_median_days"] == pytest.approx(np.median(left))
    whole = slow_friction.kaplan_meier([one["seconds"] for one in waits], [one["kind"] == "left" for one in waits], 0.5)
    assert table.loc["Wait", "median_days"] == pytest.approx(whole)
    assert table.loc["Closed", "n"] == 4559  # events of km_time_to_closed
    assert table.loc["Closed", "open_n"] <= 4557  # cases_ending_closed


def test_the_sentence_and_the_chart() -> None:
    table = dwell.time_in_state(planted(5, 400), until=UNTIL)
    text = readings.time_in_state(table, "person")
    assert "The longest stay is in look: half of 400 people have moved on after" in text
    assert "Those who have moved on already say" in text
    assert "Fewer than half move on from buy" in text
    assert theme.svg(plots.time_in_state(table)).startswith("<?xml")
    assert [label.get_text() for label in plots.time_in_state(table).get_yticklabels()] == ["look  (n = 400)"]
    assert readings.time_in_state(dwell.time_in_state(make_log("u1: a"), until=UNTIL)) == ""
    assert readings.time_in_state(stats.not_enough(dwell.COLUMNS, "none")) == ""
