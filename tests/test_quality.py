"""How good the events are: touchpoints, visits, outcomes, and the funnel of people who are known."""

from __future__ import annotations

import pandas as pd
import pytest

from journeykit import quality
from journeykit.config import Identity
from journeykit.plots import quality as plots
from journeykit.readings import funnels as funnel_readings
from journeykit.readings import quality as readings
from journeykit.stats import wilson
from tests.conftest import make_log

PLAN = Identity(identifiers=["customer", "device"], devices=["device"])
STEPS = ["ad", "visit", "buy"]


def known(log: pd.DataFrame, people: list[int]) -> pd.DataFrame:
    """Give every event a device, and the last event of some people an identity."""
    last = log["position"] == log.groupby("person_id")["position"].transform("max")
    customer = log["person_id"].map(lambda number: f"c{number}").where(log["person_id"].isin(people) & last)
    return log.assign(id_device="d" + log["person_id"].astype(str), id_customer=customer)


def outcome_table(converted: int, abandoned: int, still: int) -> pd.DataFrame:
    outcome = ["converted"] * converted + ["abandoned"] * abandoned + ["open"] * still
    return quality.outcomes(pd.DataFrame({"outcome": outcome, "touches_n": 2, "duration_days": 1.0}))


def test_sessions_are_counted_by_hand() -> None:
    log = make_log("u1: ad@0h visit@1h; buy@9h | u2: ad@0h").assign(session_id=[1, 1, 2, 3])
    row = quality.sessions(log).iloc[0]
    assert row[["sessions_n", "people_n", "single_touch_n"]].tolist() == [3, 2, 2]
    assert row["median_sessions_per_person"] == 1.5
    assert row["median_touches_per_session"] == 1
    assert row["median_length_seconds"] == 0
    assert row["single_touch_share"] == pytest.approx(2 / 3)
    assert (row["single_touch_share_low"], row["single_touch_share_high"]) == pytest.approx(wilson(2, 3))
    text = readings.sessions(quality.sessions(log), "30m")
    assert "after 30 min without a touch" in text
    assert "3 visits of 2 people" in text


def test_without_touches_there_are_no_sessions() -> None:
    table = quality.sessions(make_log("u1: ad").head(0))
    assert table.empty
    assert "no sessions" in table.attrs["reason"]
    assert readings.sessions(table, "30m") == ""


def test_open_journeys_are_no_part_of_the_converted_share() -> None:
    table = outcome_table(30, 70, 100)
    shares = table.set_index("outcome")
    assert shares.loc["converted", "of_finished_share"] == pytest.approx(0.3)
    assert shares.loc["converted", "journeys_share"] == pytest.approx(0.15)
    assert pd.isna(shares.loc["open", "of_finished_share"])
    text = readings.outcomes(table)
    assert text.startswith("Of 100 journeys that are over, 30.0 % (")
    assert "100 of 200 journeys are still open" in text
    (finding,) = readings.stitch_findings(pd.DataFrame(), table)
    assert (finding.value, finding.n, finding.headline) == (pytest.approx(0.3), 100, True)
    assert (finding.low, finding.high) == pytest.approx(wilson(30, 100))
    assert "support" in finding.caveat
    assert plots.outcomes(table).get_figure()


def test_only_open_journeys_have_no_converted_share() -> None:
    assert readings.outcomes(outcome_table(0, 0, 4)) == "4 of 4 journeys are still open."
    assert readings.outcomes(quality.outcomes(pd.DataFrame(columns=["outcome", "touches_n", "duration_days"]))) == ""


def test_devices_that_nobody_signed_in_on_lower_the_conversion() -> None:
    log = known(make_log(" | ".join(["u: ad visit buy"] * 30 + ["u: ad visit"] * 30 + ["u: ad"] * 40)), [*range(1, 61)])
    table = quality.funnel_of_known(log, PLAN, steps=STEPS)
    counts = table.pivot_table(index="segment", columns="step", values="n")
    assert counts.loc["all people", STEPS].tolist() == [100, 60, 30]
    assert counts.loc["verified identity", STEPS].tolist() == [60, 60, 30]
    assert table.index.is_unique
    text = funnel_readings.known(table)
    assert "Of 60 people with a verified identity, 50.0 % (" in text
    assert "of all 100, 30.0 % (" in text
    assert "the truth lies between the two" in text
    steps = table[table["segment"] == "all people"].drop(columns="segment")
    found = {item.id: item for item in funnel_readings.findings(steps, by_identity=table)}
    assert "of 60 people with a verified identity it is 50.0 % (" in found["funnel_conversion"].caveat
    assert not found["funnel_conversion"].headline
    assert found["funnel_leak"].headline


def test_a_study_without_devices_has_one_funnel() -> None:
    log = known(make_log(" | ".join(["u: ad visit buy"] * 40)), [*range(1, 41)])
    table = quality.funnel_of_known(log, PLAN, steps=STEPS)
    assert funnel_readings.known(table).startswith("Everybody in this funnel has a verified identity")
    found = {item.id: item for item in funnel_readings.findings(table.head(3), by_identity=table)}
    assert "device" not in found["funnel_conversion"].caveat
    nobody = quality.funnel_of_known(log, Identity(identifiers=["device"], devices=["device"]), steps=STEPS)
    assert funnel_readings.known(nobody) == ""
    assert quality.funnel_of_known(log.head(0), PLAN, steps=STEPS).empty
    assert quality.funnel_of_known(log, PLAN, steps=[]).attrs["reason"]


def test_identity_is_known_before_and_after_stitching() -> None:
    table = quality.identified(known(make_log("u1: ad visit buy | u2: ad"), [1]), PLAN)
    assert table["events_n"].tolist() == [1, 3]
    assert readings.stitch_findings(table, pd.DataFrame())[0].caveat
    whole = quality.identified(known(make_log("u1: ad | u2: ad"), [1, 2]), PLAN)
    assert readings.stitch_findings(whole, pd.DataFrame())[0].caveat == ""
