"""Hard stops: each rule at its limit and beyond it, which keys win, and one error that names everything at once."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from journeykit import config, stops
from journeykit.errors import JourneyError
from journeykit.readings import deliveries as readings

NOW = pd.Timestamp("2025-03-11")


def plan(general: dict[str, Any], own: dict[str, Any], as_of: str = "", kind: str = "events") -> config.Study:
    """Build a study of two sources; `own` are the stops of the first, web, and `kind` is that of the second."""
    source = {"time": {"column": "at"}, "event": "event", "identifiers": {"user": "who"}}
    spend = {"time": {"column": "at"}, "kind": "spend", "spend": "cost", "marketing_channel": "channel"}
    return config.parse(
        {
            "study": {"title": "Small", "as_of": as_of},
            "identity": {"identifiers": ["user"]},
            "stops": general,
            "sources": [
                {"name": "web", "path": "web*.csv", **source, "stops": own},
                {"name": "shop", "path": "shop.csv", **(source if kind == "events" else spend)},
            ],
        }
    )


def files(**web: object) -> pd.DataFrame:
    """Two files of web and one of shop: 1,000 rows read of each source, 10 quarantined of web."""
    counts = {"duplicate_n": 0, "left_out_n": 0, "erased_n": 0, "late_n": 0}
    rows: list[dict[str, Any]] = [
        {"source": "web", "file": "web1.csv", "read_n": 400, "kept_n": 390, "quarantined_n": 10},
        {"source": "web", "file": "web2.csv", "read_n": 600, "kept_n": 600, "quarantined_n": 0},
        {"source": "shop", "file": "shop.csv", "read_n": 1000, "kept_n": 1000, "quarantined_n": 0},
    ]
    table = pd.DataFrame([{**counts, **row} for row in rows])
    table["first_at"] = pd.to_datetime(["2025-03-01", "2025-03-03", "2025-03-01"])
    table["last_at"] = pd.to_datetime(["2025-03-02", "2025-03-04", "2025-03-10"])
    table["columns"] = [json.dumps(["at", "who"]), json.dumps(["at", "who", "new"]), json.dumps(["at"])]
    for name, value in web.items():
        table.loc[table["source"] == "web", name] = value
    return table


def events() -> pd.DataFrame:
    rows = [
        ("web", "2025-03-01 00:00:00", "Page"),
        ("web", "2025-03-01 12:00:00", "Page"),
        ("web", "2025-03-02 12:00:00", None),
        ("web", "2025-03-02 12:00:30", "Page"),
        ("shop", "2025-03-02 12:00:00", None),
    ]
    table = pd.DataFrame(rows, columns=["source", "timestamp", "touchpoint"])
    return table.assign(timestamp=pd.to_datetime(table["timestamp"]).astype("datetime64[us]"))


def check(own: dict[str, Any], general: dict[str, Any] | None = None, **more: Any) -> pd.DataFrame:
    return stops.check(plan(general or {}, own, **more), files(), events(), now=NOW)


@pytest.mark.parametrize(
    ("rule", "limit", "beyond", "found"),
    [
        ("max_quarantine_share", 0.01, 0.0099, "1.00 % (10 of 1,000 rows)"),
        ("min_rows", 990, 991, "990 rows"),
        ("max_age", "7d", "6d", "7.0 days; the last row is of 2025-03-04 00:00 UTC"),
        ("max_gap", "24h", "86399s", "24.0 h (1 s too long) from 2025-03-01 12:00 UTC"),
        ("max_unmapped_share", 0.25, 0.2499, "25.00 % (1 of 4 events)"),
    ],
)
def test_a_value_at_its_limit_holds_and_one_beyond_does_not(rule: str, limit: Any, beyond: Any, found: str) -> None:
    at_limit = check({rule: limit})
    assert at_limit[["source", "rule", "held", "stated_in"]].to_numpy().tolist() == [
        ["web", rule, True, "sources.web.stops"]
    ]
    stops.enforce(at_limit)
    broken = check({rule: beyond})
    assert broken[["held", "found"]].to_numpy().tolist() == [[False, found]]
    with pytest.raises(JourneyError, match=f"sources.web.stops.{rule}: found"):
        stops.enforce(broken)


def test_other_columns_than_before_stop_the_run_where_that_is_asked() -> None:
    row = check({"same_columns": True}).iloc[0]
    assert (row["found"], row["allowed"], row["held"]) == (
        "web2.csv differs from web1.csv (new: new)",
        "no change",
        False,
    )
    assert stops.check(plan({"same_columns": True}, {}), files(columns='["at"]'), events())["held"].all()


def test_columns_of_json_are_not_compared_and_who_asks_for_it_is_told() -> None:
    json_files = files(columns="[]")
    inherited = stops.check(plan({"same_columns": True}, {}), json_files, events())
    assert inherited["source"].tolist() == ["shop"]
    row = stops.check(plan({}, {"same_columns": True}), json_files, events()).iloc[0]
    assert (row["found"], row["held"]) == ("records of JSON have no columns to compare; remove the key", False)
    only_web = plan({"same_columns": True}, {}).model_copy(update={"sources": plan({}, {}).sources[:1]})
    assert "no limit of [stops] applies" in stops.check(only_web, json_files, events()).attrs["reason"]


def test_a_source_wins_over_the_study_key_by_key() -> None:
    table = check({"min_rows": 2000, "max_age": "", "same_columns": False}, {"min_rows": 5, "max_age": "1d"})
    general = check({}, {"min_rows": 5, "max_age": "1d", "same_columns": True})
    assert table[["source", "rule", "allowed", "stated_in"]].to_numpy().tolist() == [
        ["web", "min_rows", "at least 2,000 rows", "sources.web.stops"],
        ["shop", "min_rows", "at least 5 rows", "stops"],
        ["shop", "max_age", "at most 24.0 h", "stops"],
    ]
    assert set(general["stated_in"]) == {"stops"}
    assert list(zip(general["source"], general["rule"], general["held"], strict=True)) == [
        ("web", "max_age", False),  # broken ones first
        ("web", "same_columns", False),
        ("web", "min_rows", True),
        ("shop", "min_rows", True),
        ("shop", "max_age", True),
        ("shop", "same_columns", True),
    ]


def test_age_counts_from_the_end_of_observation_where_there_is_one() -> None:
    assert check({"max_age": "1d"}, as_of="2025-03-05T02:00:00+02:00")["held"].tolist() == [True]
    assert check({"max_age": "1d"}, as_of="2025-03-05T00:00:01Z")["held"].tolist() == [False]
    long_ago = stops.check(plan({}, {"max_age": "1d"}), files(), events())  # from now, which is years later
    assert long_ago["held"].tolist() == [False]


def test_a_source_without_rows_breaks_what_asks_for_rows_and_nothing_else() -> None:
    every = {"max_quarantine_share": 0.0, "min_rows": 1, "max_age": "1d", "max_gap": "1d", "max_unmapped_share": 0.0}
    nothing = files(read_n=0, kept_n=0, quarantined_n=0, first_at=pd.NaT, last_at=pd.NaT, columns=None)
    found = stops.check(plan({}, every), nothing, events().tail(1), now=NOW).set_index("rule")["held"]
    assert found.to_dict() == dict.fromkeys(every, True) | {"min_rows": False, "max_age": False}


def test_rules_about_events_pass_over_spend_unless_it_states_them_itself() -> None:
    spend = plan({"max_gap": "30d", "min_rows": 1}, {}, kind="spend")
    table = stops.check(spend, files(), events(), now=NOW)
    assert table[["source", "rule"]].to_numpy().tolist() == [
        ["web", "min_rows"],
        ["web", "max_gap"],
        ["shop", "min_rows"],
    ]
    shop = spend.sources[1].model_copy(update={"stops": config.Stops(max_gap="1d")})
    wrong = stops.check(spend.model_copy(update={"sources": [shop]}), files(), events(), now=NOW)
    assert wrong.set_index("rule").loc["max_gap", "found"] == "a source of spend has no events; remove the key"
    assert not wrong.set_index("rule").loc["max_gap", "held"]


def test_one_error_names_every_rule_that_does_not_hold() -> None:
    table = check({"min_rows": 5000, "max_age": "1d"}, {"max_quarantine_share": 0.0})
    with pytest.raises(JourneyError) as raised:
        stops.enforce(table)
    lines = str(raised.value).split("\n")
    assert lines[0] == "the data cannot be trusted: 3 limits do not hold."
    assert lines[1].startswith("  · stops.max_quarantine_share (source web): found 1.0 % (10 of 1,000 rows) · allowed ")
    assert lines[2].startswith("  · sources.web.stops.min_rows: found 990 rows · allowed at least 5,000 rows · check ")
    assert lines[3].startswith("  · sources.web.stops.max_age: found 7.0 days; the last row is of 2025-03-04 00:00 UTC")
    assert len(lines) == 4
    text = readings.stops(table)
    assert text == (
        "3 of 4 limits of journey.toml do not hold, and end the run: max_quarantine_share of web, min_rows of web and "
        "max_age of web."
    )


def test_without_rules_nothing_stops() -> None:
    table = check({})
    assert "no [stops] in journey.toml" in table.attrs["reason"]
    assert readings.stops(table) == ""
    stops.enforce(table)
    assert readings.stops(check({"min_rows": 1})) == "The one limit holds."


def test_every_rule_of_the_configuration_is_read_and_has_advice() -> None:
    assert set(stops.RULES) == set(stops.ADVICE) == set(config.Stops.model_fields)
