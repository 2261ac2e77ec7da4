"""What was delivered: accounts, times, columns, freshness and ties, each checked by hand."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from journeykit import deliveries
from journeykit.readings import deliveries as readings
from journeykit.stats import wilson

COUNTS = ["read_n", "kept_n", "duplicate_n", "quarantined_n", "left_out_n", "erased_n"]
ODD = ["late_n", "early_n", "ambiguous_n", "skipped_n"]


def file_table(*rows: dict[str, object]) -> pd.DataFrame:
    """Build the table `files`; what a row does not say is 0, or missing."""
    empty = {"source": "web", "file": "raw/a.csv", **dict.fromkeys([*COUNTS, *ODD], 0), "lag_median_seconds": None}
    empty |= {"first_at": pd.NaT, "last_at": pd.NaT, "columns": None, "note": None}
    table = pd.DataFrame([{**empty, **row} for row in rows], columns=list(empty))
    times = {name: pd.to_datetime(table[name], format="ISO8601") for name in ("first_at", "last_at")}
    return table.assign(**times, lag_median_seconds=table["lag_median_seconds"].astype(float))


def no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=["source", "file", "line", "reason", "record"]).astype(str)


def quarantine(*rows: tuple[str, str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["source", "file", "line", "reason"]).assign(record="{}")


def account(quarantined: int) -> pd.DataFrame:
    row = {"read_n": 10, "kept_n": 10 - quarantined, "quarantined_n": quarantined}
    return deliveries.accounting(file_table(row))


def test_the_account_explains_events_that_are_not_rows() -> None:
    files = account(1)
    assert "events" not in readings.accounting(files, 9)
    assert "The 9 kept rows are 12 events because a wide row" in readings.accounting(files, 12)
    assert "2 rows of daily spend are money and no events" in readings.accounting(files, 12, 2)
    assert "erasure" not in readings.accounting(files, 9)
    assert deliveries.rows(files) == 1


def test_an_account_adds_up_by_source_and_names_what_was_erased() -> None:
    files = file_table(
        {"read_n": 10, "kept_n": 6, "duplicate_n": 1, "quarantined_n": 1, "left_out_n": 2, "erased_n": 2},
        {"file": "raw/b.csv", "read_n": 5, "kept_n": 4},
    )
    assert deliveries.accounting(files)["balances"].tolist() == [True, False]
    row = deliveries.accounting(files, by="source").iloc[0]
    assert (row["files_n"], row["read_n"], row["kept_n"], row["erased_n"], row["balances"]) == (2, 15, 10, 2, False)
    text = readings.accounting(deliveries.accounting(files))
    assert "does not balance" in text
    assert "Of those left out, 2 are of people on the erasure list." in text


def test_a_clean_read_is_no_finding() -> None:
    nothing = pd.DataFrame()
    assert readings.findings(account(0), nothing, nothing, nothing) == []
    (finding,) = readings.findings(account(1), nothing, nothing, nothing)
    assert (finding.value, finding.owner) == (0.1, "")
    assert (finding.low, finding.high) == pytest.approx(wilson(1, 10))


def test_drafts_that_were_not_read_are_named() -> None:
    files = file_table({"read_n": 3}, {"file": "raw/draft.csv", "note": "not read: raw/a.csv is its final form"})
    table = deliveries.notes(files)
    assert table[["file", "read_n"]].to_numpy().tolist() == [["raw/draft.csv", 0]]
    assert readings.notes(table) == "There is 1 file with a note; 1 of them was not read."
    none = deliveries.notes(files.head(1))
    assert none.attrs["reason"] == "no file was left unread or needs a remark"
    assert readings.notes(none) == ""


def test_odd_times_are_counted_by_source() -> None:
    files = file_table(
        {"kept_n": 10, "late_n": 2, "early_n": 1, "lag_median_seconds": 5.0},
        {"file": "raw/b.csv", "kept_n": 90, "ambiguous_n": 4, "lag_median_seconds": 60.0},
        {"source": "shop", "kept_n": 7},
        {"source": "calls", "kept_n": 3, "skipped_n": 1},
    )
    bad = quarantine(
        ("shop", "raw/a.csv", 2, "time lies in the future"),
        ("shop", "raw/a.csv", 3, "time lies in the future"),
        ("web", "raw/a.csv", 4, "no time"),
    )
    table = deliveries.clocks(files, bad).set_index("source")
    assert table.index.tolist() == ["calls", "shop", "web"]
    assert table.loc["web", ["kept_n", "late_n", "early_n", "ambiguous_n", "skipped_n"]].tolist() == [100, 2, 1, 4, 0]
    assert table["future_n"].tolist() == [0, 2, 0]
    assert table.loc["web", "lag_median_seconds"] == 60.0  # 90 of 100 rows are in the file of that median
    assert pd.isna(table.loc["shop", "lag_median_seconds"])
    text = readings.clocks(table.reset_index())
    assert "1 row arrived before they happened, most of them of web (1)" not in text
    assert "1 row arrived before it happened, of web: a clock there is wrong." in text
    assert "2 rows were set aside because their time lies in the future." in text
    assert "4 rows carry a local time that occurred twice" in text


def test_times_without_any_oddity_say_so() -> None:
    table = deliveries.clocks(file_table({"kept_n": 5}), no_rows())
    assert table.empty
    assert "no row arrived late" in table.attrs["reason"]
    assert readings.clocks(table) == ""


def test_reasons_are_counted_with_the_first_line_to_look_at() -> None:
    bad = quarantine(("web", "a", 9, "no time"), ("web", "b", 4, "no time"), ("shop", "c", 2, "value is negative"))
    table = deliveries.reasons(bad)
    assert table.iloc[0][["source", "reason", "rows_n", "files_n", "first_line"]].tolist() == [
        "web",
        "no time",
        2,
        2,
        4,
    ]
    assert readings.reasons(table).startswith("The most frequent reason is “no time” in web (2 of 3")
    assert deliveries.reasons(no_rows()).attrs["reason"] == "no row was quarantined"


def test_the_source_that_ends_first_comes_first() -> None:
    files = file_table(
        {"first_at": "2025-01-01", "last_at": "2025-03-01"},
        {"file": "raw/b.csv", "first_at": "2024-12-01", "last_at": "2025-02-01"},
        {"source": "shop", "first_at": "2025-01-01", "last_at": "2025-02-20 12:00"},
        {"source": "void"},
    )
    silences = pd.DataFrame({"source": ["web"], "longest_silence_seconds": [60.0], "silence_from_at": ["2025-01-01"]})
    silences["silence_from_at"] = pd.to_datetime(silences["silence_from_at"])
    table = deliveries.freshness(files, silences, pd.Timestamp("2025-03-02 12:00"))
    assert table["source"].tolist() == ["void", "shop", "web"]
    assert table["age_days"].tolist()[1:] == [10.0, 1.5]
    assert table["first_at"].iloc[2] == pd.Timestamp("2024-12-01")
    text = readings.freshness(table, pd.Timestamp("2025-03-02 12:00"))
    assert "shop ends first, on 2025-02-20, 10.0 days before the end of observation (2025-03-02 12:00 UTC)" in text
    assert "The longest silence of all is that of web: 60 s from 2025-01-01 00:00 UTC on." in text
    assert "No row was kept of void." in text
    bare = deliveries.freshness(files, pd.DataFrame(), pd.Timestamp("2025-03-02 12:00"))
    assert "silence" not in readings.freshness(bare, pd.Timestamp("2025-03-02 12:00"))


def columns(*names: str) -> str:
    return json.dumps(names)


def test_a_change_of_columns_is_found_in_the_order_of_time() -> None:
    files = file_table(
        {"file": "raw/2.csv", "first_at": "2025-02-01", "columns": columns("c", "a", "d")},
        {"file": "raw/10.csv", "first_at": "2025-03-01", "columns": columns("a", "c", "d")},  # another order only
        {"file": "raw/1.csv", "first_at": "2025-01-01", "columns": columns("a", "b", "c")},
        {"file": "raw/empty.csv", "columns": columns()},
        {"source": "shop", "columns": columns("x")},
    )
    table = deliveries.column_changes(files)
    assert table.to_numpy().tolist() == [["web", "raw/2.csv", "raw/1.csv", 3, "d", "b"]]
    assert readings.column_changes(table).startswith("1 file has other columns")
    assert "1 of them lack a column that was there before" in readings.column_changes(table)


def test_many_new_columns_are_counted_rather_than_listed() -> None:
    names = [f"c{number:04d}" for number in range(1000)]
    files = file_table({"columns": columns("c0000")}, {"file": "raw/b.csv", "columns": columns(*names)})
    table = deliveries.column_changes(files)
    assert table["new_columns"].iloc[0].endswith("c0008 and 991 more")
    assert "none of them lacks a column" in readings.column_changes(table)


def test_unchanged_columns_say_why_there_is_nothing() -> None:
    same = file_table({"columns": columns("a")}, {"file": "raw/b.csv", "columns": columns("a")})
    assert "have the same columns" in deliveries.column_changes(same).attrs["reason"]
    assert "no source has two files with columns" in deliveries.column_changes(same.head(1)).attrs["reason"]
    assert readings.column_changes(deliveries.column_changes(same)) == ""


def tied_events() -> pd.DataFrame:
    rows = [
        ("web", 1, "10:00", None, "d1"),
        ("web", 2, "10:00", None, "d1"),  # tied within its source
        ("web", 3, "10:00", None, "d2"),  # another device
        ("app", 1, "11:00", "c1", "d1"),
        ("web", 4, "11:00", "c1", "d2"),  # tied with the app's
        ("web", 5, "11:00", None, "c1"),  # the same token, but of another kind
        ("web", 6, "12:00", "c1", None),
    ]
    table = pd.DataFrame(rows, columns=["source", "source_row", "at", "id_customer", "id_device"])
    return table.assign(timestamp=pd.to_datetime("2025-03-01 " + table["at"]), event_id=[f"e{n}" for n in range(7)])


def test_ties_are_counted_by_identifier_and_source() -> None:
    table = deliveries.ties(tied_events(), ["customer", "device"])
    assert table[["source", "n", "tied_n", "across_n"]].to_numpy().tolist() == [["web", 6, 2, 1]]
    assert (table["tied_share_low"].iloc[0], table["tied_share_high"].iloc[0]) == pytest.approx(wilson(2, 6))
    text = readings.ties(table)
    assert text.startswith("2 events have the time of the event before them, 1 of them with an event of another source")
    shuffled = tied_events().sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(table, deliveries.ties(shuffled, ["customer", "device"]))


def test_no_ties_and_no_events_say_so() -> None:
    events = tied_events()
    assert "no event has the same time" in deliveries.ties(events.head(1), ["customer", "device"]).attrs["reason"]
    assert deliveries.ties(events.head(0), ["customer", "device"]).attrs["reason"] == "no event was read"
    assert readings.ties(deliveries.ties(events.head(0), ["customer"])) == ""
