"""How good the events are: touchpoints, visits, outcomes, and the funnel of people who are known."""

from __future__ import annotations

import pandas as pd
import pytest

from journeykit import quality
from journeykit.config import Identity, Sessions
from journeykit.plots import quality as plots
from journeykit.readings import funnels as funnel_readings
from journeykit.readings import quality as readings
from journeykit.stats import clustered, wilson
from tests.conftest import make_log

PLAN = Identity(identifiers=["customer", "device"], devices=["device"])
STEPS = ["ad", "visit", "buy"]


def known(log: pd.DataFrame, people: list[int]) -> pd.DataFrame:
    """Give every event a device, and the last event of some people an identity."""
    last = log["position"] == log.groupby("person_id")["position"].transform("max")
    customer = log["person_id"].map(lambda number: f"c{number}").where(log["person_id"].isin(people) & last)
    return log.assign(id_device="d" + log["person_id"].astype(str), id_customer=customer)


def outcome_table(converted: int, abandoned: int, still: int, journeys_each: int = 1) -> pd.DataFrame:
    outcome = ["converted"] * converted + ["abandoned"] * abandoned + ["open"] * still
    table = pd.DataFrame({"outcome": outcome, "touches_n": 2, "duration_days": 1.0})
    return quality.outcomes(table.assign(person_id=table.index // journeys_each))


def test_sessions_are_counted_by_hand() -> None:
    log = make_log("u1: ad@0h visit@1h; buy@9h | u2: ad@0h").assign(session_id=[1, 1, 2, 3])
    row = quality.sessions(log).iloc[0]
    assert row[["sessions_n", "people_n", "single_touch_n"]].tolist() == [3, 2, 2]
    assert row["median_sessions_per_person"] == 1.5
    assert row["median_touches_per_session"] == 1
    assert row["median_length_seconds"] == 0
    assert row["single_touch_share"] == pytest.approx(2 / 3)
    bounds = (row["single_touch_share_low"], row["single_touch_share_high"])
    assert bounds == pytest.approx(clustered(2, 3, kk=2, kn=3, nn=5, clusters=2))  # 1 of 2 visits, and 1 of 1
    text = readings.sessions(quality.sessions(log), Sessions())
    assert "after 30 min without a touch" in text
    assert "3 visits of 2 people" in text


def test_without_touches_there_are_no_sessions() -> None:
    table = quality.sessions(make_log("u1: ad").head(0))
    assert table.empty
    assert "no sessions" in table.attrs["reason"]
    assert readings.sessions(table, Sessions()) == ""


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Sessions(gap="2h"), "A new visit starts after 2.0 h without a touch. That"),
        (Sessions(cut_at_midnight=True), "A new visit starts after 30 min without a touch, and at midnight. That"),
        (
            Sessions(cut_at_midnight=True, cut_at_campaign=True),
            "A new visit starts after 30 min without a touch, at midnight, and when another marketing channel brings "
            "somebody. That",
        ),
        (
            Sessions(identifier="session", cut_at_campaign=True),
            "A visit is one value of session for one person. Among touches without one, a new visit starts after "
            "30 min without a touch, and when another marketing channel brings somebody. That",
        ),
    ],
)
def test_the_rule_of_visits_is_said(plan: Sessions, says: str) -> None:
    table = quality.sessions(make_log("u1: ad visit"))
    assert readings.sessions(table, plan).startswith(says)


def test_shares_of_events_take_people_as_independent() -> None:
    log = make_log(" | ".join(["u: ad visit buy ad visit"] * 12 + ["u: ad"] * 8))
    table = quality.identified(known(log, [*range(1, 7)]), PLAN)
    assert table[["events_n", "n"]].to_numpy().tolist() == [[6, 68], [30, 68]]
    after = table.iloc[1]
    bounds = (after["identified_share_low"], after["identified_share_high"])
    assert bounds == pytest.approx(clustered(30, 68, kk=6 * 25, kn=6 * 25, nn=12 * 25 + 8, clusters=20))
    assert bounds[1] - bounds[0] > 1.8 * (wilson(30, 68)[1] - wilson(30, 68)[0])
    assert "people, not events, as independent" in readings.stitch_findings(table, pd.DataFrame())[0].caveat
    tied = quality.ties(log.assign(seconds_since_previous=[0.0] * 5 + [1.0] * 63)).iloc[0]
    bounds = (tied["tied_share_low"], tied["tied_share_high"])
    assert bounds == pytest.approx(clustered(5, 68, kk=25, kn=25, nn=308, clusters=20))


def test_shares_of_journeys_take_people_as_independent() -> None:
    table = outcome_table(30, 70, 100, journeys_each=10).set_index("outcome")
    row = table.loc["converted"]
    bounds = (row["of_finished_share_low"], row["of_finished_share_high"])
    assert bounds == pytest.approx(clustered(30, 100, kk=300, kn=300, nn=1000, clusters=10))
    assert bounds[1] - bounds[0] > 2 * (wilson(30, 100)[1] - wilson(30, 100)[0])
    text = readings.outcomes(table.reset_index())
    assert f"({100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %) converted" in text


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
    assert (
        readings.outcomes(
            quality.outcomes(pd.DataFrame(columns=["person_id", "outcome", "touches_n", "duration_days"]))
        )
        == ""
    )


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
    assert "signed in on" in readings.stitch_findings(table, pd.DataFrame())[0].caveat
    whole = quality.identified(known(make_log("u1: ad | u2: ad"), [1, 2]), PLAN)
    assert "signed in on" not in readings.stitch_findings(whole, pd.DataFrame())[0].caveat
