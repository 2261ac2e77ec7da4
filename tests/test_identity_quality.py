"""Rules, large clusters and shared devices, on a log that can be checked by eye."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from journeykit import engine, identity, identity_quality
from journeykit.readings import stitching as readings
from tests.test_identity import PLAN, log_of

# A counter's tablet: six customers sign in a day apart, one visit is half anonymous, another one nobody's.
KIOSK = log_of(
    [
        *[(f"{24 * i}h", f"c{i}", None, "tablet") for i in range(6)],
        ("5m", None, None, "tablet"),
        ("12h", None, None, "tablet"),
        ("1h", "c0", "a@x", "phone"),
        ("2h", "c0", "b@x", None),
        ("3h", None, None, "laptop"),
    ]
)


@pytest.fixture
def made() -> identity.Stitched:
    return identity.stitch(KIOSK, PLAN)


def test_rules_and_sizes(made: identity.Stitched) -> None:
    rules = identity_quality.rules(made.people).set_index(["id_name", "rule"])["identifiers_n"].to_dict()
    assert rules == {
        ("customer", "declared together"): 1,
        ("customer", "seen alone"): 5,
        ("device", "device of one person"): 1,
        ("device", "seen alone"): 1,
        ("device", "shared device, nearest sign-in of the visit"): 1,
        ("email", "declared together"): 2,
    }
    sizes = identity_quality.sizes(made.people)
    assert sizes.set_index("identifiers")["people_n"].to_dict() == {
        "1": 2,
        "2": 5,
        "3–4": 0,
        "5–9": 1,
        "10 and more": 0,
    }
    assert readings.sizes(sizes).startswith("6 of 8 people (75.0 %)")


def test_the_largest_person_has_its_reason(made: identity.Stitched) -> None:
    first = identity_quality.largest_people(made.people).iloc[0]
    assert first[["customer_n", "device_n", "email_n", "identifiers_n"]].tolist() == [1, 2, 2, 5]
    assert first["reason"] == "one customer occurred with 4 others"


def test_a_kiosk_is_found_and_its_events_are_counted(made: identity.Stitched) -> None:
    row: Any = identity_quality.shared(made.people, made.events, PLAN).iloc[0]
    assert row[["identifiers_n", "kiosks_n", "events_n", "anonymous_n", "given_n"]].tolist() == [1, 1, 8, 2, 1]
    assert row["given_share"] == 0.5
    busiest = identity_quality.busiest_shared(made.people, PLAN).iloc[0]
    assert (busiest["kind"], busiest["people_n"], busiest["turns_n"]) == ("kiosk", 6, 7)
    said = readings.shared(identity_quality.shared(made.people, made.events, PLAN))
    assert said.startswith("1 identifier joins nobody, because several people use it; 1 of them had five people")


def test_without_shared_devices_it_says_so() -> None:
    made = identity.stitch(KIOSK.tail(3), PLAN)
    assert identity_quality.shared(made.people, made.events, PLAN).empty
    assert identity_quality.busiest_shared(made.people, PLAN).empty
    assert readings.shared(identity_quality.shared(made.people, made.events, PLAN)).startswith(
        "No identifier is shared"
    )


def test_no_token_is_shown(made: identity.Stitched) -> None:
    shown = [
        identity_quality.largest_people(made.people),
        identity_quality.busiest_shared(made.people, PLAN),
        identity_quality.shared(made.people, made.events, PLAN),
    ]
    text = pd.concat([table.astype(str) for table in shown]).to_csv()
    for name in PLAN.identifiers:
        for token in engine.fetch(made.events)[f"id_{name}"].dropna().unique():
            assert token not in text
