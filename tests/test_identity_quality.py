"""Rules, large clusters and shared devices, on a log that can be checked by eye."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from journeykit import engine, identity, identity_quality
from journeykit.caps import BEYOND
from journeykit.readings import stitching as readings
from journeykit.stats import clustered
from tests.test_identity import PLAN, log_of

CAPPED = PLAN.model_copy(update={"caps": {"customer": "1"}})
# The call centre's own e-mail address: on five customers' events, on six visits by itself, one of them within one.
CALLS = log_of(
    [
        *[(f"{24 * i}h", f"c{i}", "centre@x", f"d{i}") for i in range(5)],
        ("5m", None, "centre@x", None),
        *[(f"{24 * i + 12}h", None, "centre@x", None) for i in range(5)],
        *[(f"{24 * i + 13}h", None, "centre@x", None) for i in range(5)],
        ("200h", "c9", "own@x", None),
    ]
)

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
        ("device", "shared device"): 1,
        ("email", "declared together"): 2,
    }
    assert identity_quality.rules(made.people).set_index("rule").loc["shared device", "resolved"] == (
        "nearest sign-in of the visit"
    )
    sizes = identity_quality.sizes(made.people)
    assert sizes.set_index("identifiers")["people_n"].to_dict() == {
        "1": 6,
        "2": 0,
        "3–4": 1,
        "5–9": 0,
        "10 and more": 0,
        "only shared ones": 1,  # a visit of nobody to the tablet
    }
    assert readings.sizes(sizes).startswith("1 of 8 people (12.5 %)")


def test_the_largest_person_has_its_reason(made: identity.Stitched) -> None:
    found = identity_quality.largest_people(made.people)
    assert found[["customer_n", "device_n", "email_n", "identifiers_n"]].to_numpy().tolist() == [[1, 1, 2, 4]]
    assert found["reason"].tolist() == ["one customer is linked to 3 others"]
    alone = identity.stitch(KIOSK.head(6), PLAN)
    assert "nobody has several identifiers" in identity_quality.largest_people(alone.people).attrs["reason"]


def test_a_kiosk_is_found_and_its_events_are_counted(made: identity.Stitched) -> None:
    row: Any = identity_quality.shared(made.people, made.events, PLAN).iloc[0]
    assert row[["identifiers_n", "kiosks_n", "events_n", "anonymous_n", "given_n"]].tolist() == [1, 1, 8, 2, 1]
    assert row["given_share"] == 0.5
    busiest = identity_quality.busiest_shared(made.people, PLAN).iloc[0]
    assert (busiest["kind"], busiest["people_n"], busiest["turns_n"]) == ("kiosk", 6, 7)
    assert busiest[["first_at", "last_at"]].tolist() == [pd.Timestamp("2025-01-01"), pd.Timestamp("2025-01-06")]
    table = identity_quality.shared(made.people, made.events, PLAN)
    said = readings.shared(table)
    assert said.startswith("1 device joins nobody, because several people use it; 1 of them had 5 people")
    (finding,) = readings.findings(pd.DataFrame(), pd.DataFrame(), table)
    assert (finding.value, finding.statement[:29]) == (8, "1 device had 5 people or more")
    # Clustered by person: of two people who came without signing in, all events of one were given.
    assert (row["given_share_low"], row["given_share_high"]) == pytest.approx(clustered(1, 2, 1, 1, 2, 2))


def test_a_shared_address_is_no_device_and_makes_nobody_known() -> None:
    made = identity.stitch(CALLS, CAPPED)
    table = identity_quality.shared(made.people, made.events, CAPPED)
    row: Any = table.iloc[0]
    assert row[["id_name", "rule", "resolved"]].tolist() == ["email", BEYOND, "nearest sign-in of the visit"]
    counts = ["identifiers_n", "kiosks_n", "kiosk_events_n", "events_n", "anonymous_n", "given_n"]
    assert (len(table), row[counts].tolist()) == (1, [1, 0, 0, 16, 11, 1])
    busiest = identity_quality.busiest_shared(made.people, CAPPED).iloc[0]
    assert (busiest["kind"], busiest["people_n"]) == ("shared", 5)
    said = readings.shared(table)
    assert said.startswith("1 personal identifier joins nobody, because more would be joined than a cap or a split")
    assert "device" not in said
    assert "several people use" not in said
    assert "Of 11 events there that do not say whose they were, 1 (9.1 %)" in said
    assert readings.findings(pd.DataFrame(), pd.DataFrame(), table) == []
    sizes = identity_quality.sizes(made.people).set_index("identifiers")["people_n"]
    assert (sizes["1"], sizes["2"], sizes["only shared ones"]) == (0, 6, 10)
    assert "6 of 16 people (37.5 %)" in readings.sizes(identity_quality.sizes(made.people))


def test_devices_and_addresses_have_a_sentence_each() -> None:
    mixed = pd.concat([CALLS, KIOSK], ignore_index=True)
    mixed = mixed.assign(event_id=[f"e{i:03d}" for i in mixed.index], source_row=mixed.index + 1)
    mixed.loc[mixed.index[-5:-3], "id_email"] = "centre@x"  # the tablet's events that said nobody
    made = identity.stitch(mixed, CAPPED)
    table = identity_quality.shared(made.people, made.events, CAPPED).set_index("id_name")
    counted = table[["events_n", "anonymous_n", "kiosk_events_n"]].to_dict("index")
    assert counted["device"] == {"events_n": 8, "anonymous_n": 2, "kiosk_events_n": 8}
    said = readings.shared(table.reset_index())
    assert said.index("1 device joins nobody, because several") < said.index("1 personal identifier joins nobody")
    (finding,) = readings.findings(pd.DataFrame(), pd.DataFrame(), table.reset_index())
    assert finding.value == 8


def test_rules_of_few_people_are_not_shown(made: identity.Stitched) -> None:
    table = identity_quality.rules(made.people, min_n=5)
    assert table[["id_name", "rule"]].to_numpy().tolist() == [["customer", "seen alone"], ["device", "shared device"]]
    assert readings.rules(table, 5) == "4 more combinations of identifier and rule have fewer than 5 people each."
    assert readings.rules(identity_quality.rules(made.people), 1) == ""
    none = identity_quality.rules(made.people, min_n=50)
    assert none.empty
    assert "fewer than 50 people" in none.attrs["reason"]


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


def test_the_order_of_shared_devices_does_not_depend_on_the_key_of_the_tokens() -> None:
    turns = [(f"{60 * i + 600 * (i // 2)}m", f"c{i}", None, "zyxw"[i // 2]) for i in range(8)]
    rows = log_of(turns)
    other = rows.assign(id_device=rows["id_device"].map(dict(zip("zyxw", "abcd", strict=True))))
    first, second = (
        identity_quality.busiest_shared(identity.stitch(table, PLAN).people, PLAN) for table in (rows, other)
    )
    assert len(first) == 4
    pd.testing.assert_frame_equal(first, second)
    backwards = rows.assign(id_device=rows["id_device"].map(dict(zip("zyxw", "dcba", strict=True))))
    pd.testing.assert_frame_equal(identity_quality.busiest_shared(identity.stitch(backwards, PLAN).people, PLAN), first)
