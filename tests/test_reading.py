"""Files as they come: line ends, broken quotes, odd names and odd times; every line of a file is in some row."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from journeykit import engine, events, study
from journeykit.errors import JourneyError
from tests.test_events import CSV, make_study, read

HEADER = "at,event,who,value,note"


def written(folder: Path, data: bytes, sources: str = CSV, name: str = "a.csv") -> pd.Series:
    opened = make_study(folder, sources, {})
    (folder / "raw" / name).write_bytes(data)
    events.ingest(opened)
    files = read(opened, "files").iloc[0]
    parts = files[["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]]
    assert parts.sum() == files["read_n"]
    return files


ROWS = [HEADER, "2025-01-01,page,c1,1,a", '2025-01-02,page,c2,2,"two', 'lines"', "2025-01-03,page,c3,3,c"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end(tmp_path: Path, end: str) -> None:
    assert written(tmp_path, (end.join(ROWS) + end).encode())["kept_n"] == 3


def test_mixed_line_ends_a_mark_of_order_and_no_last_line_end(tmp_path: Path) -> None:
    text = "\ufeff" + ROWS[0] + "\r\n" + ROWS[1] + "\n\n" + "\r\n".join(ROWS[2:])
    assert written(tmp_path, text.encode())["kept_n"] == 3


def test_a_quote_that_is_never_closed_takes_one_line_with_it(tmp_path: Path) -> None:
    rows = [f"2025-01-01,page,c{i},{i},x" for i in range(200)]
    rows[50] = '2025-01-01,page,c50,50,"never closed'
    files = written(tmp_path, "\n".join([HEADER, *rows]).encode() + b"\n")
    assert (files["read_n"], files["kept_n"], files["quarantined_n"]) == (200, 199, 1)


def test_a_short_header_row_does_not_cost_a_row(tmp_path: Path) -> None:
    sources = CSV.replace('path = "raw/*.csv"', 'path = "raw/*.csv"\nheader_rows = 3')
    text = f"{HEADER}\nonly one cell\n,,,,\n2025-01-01,page,c1,1,a\n2025-01-02,page,c2,2,b\n"
    assert written(tmp_path, text.encode(), sources)["kept_n"] == 2


def test_names_of_files_hold_no_wildcards(tmp_path: Path) -> None:
    files = {"q[b].csv": f"{HEADER}\n2025-01-01,page_a,c1,1,\n", "qb.csv": f"{HEADER}\n2025-01-01,page_b,c1,1,\n"}
    opened = make_study(tmp_path, CSV, files)
    events.ingest(opened)
    assert sorted(read(opened, "events")["event"]) == ["page_a", "page_b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-03 12:06:40+01", "2025-03-03 11:06:40"),
        ("2025-03-03 17:36:40 +0530", "2025-03-03 12:06:40"),
        ("2025-03-03 11:06:40 UTC", "2025-03-03 11:06:40"),
        ("2025-03-03 1:00 pm", None),
        ("2025-03-03 10:00:00 PST", None),
        ("infinity", None),
    ],
)
def test_a_zone_is_read_or_the_row_is_set_aside(tmp_path: Path, text: str, expected: str | None) -> None:
    opened = make_study(tmp_path, CSV, {"a.csv": f"{HEADER}\n2025-01-01,page,c0,,\n{text},page,c1,,\n"})
    events.ingest(opened)
    found = read(opened, "events")["timestamp"].iloc[1:].tolist()
    assert found == ([pd.Timestamp(expected)] if expected else [])


def test_times_of_a_parquet_file_with_a_zone(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV.replace("*.csv", "*.parquet") + 'format = "parquet"\n', {})
    at = pd.to_datetime(["2025-03-03 12:06:40"]).tz_localize("Europe/Berlin")
    pd.DataFrame({"at": at, "event": "page", "who": "c1", "value": 1.0, "note": None}).to_parquet(
        tmp_path / "raw" / "a.parquet"
    )
    events.ingest(opened)
    assert read(opened, "events")["timestamp"].tolist() == [pd.Timestamp("2025-03-03 11:06:40")]


def test_an_epoch_beyond_all_time_is_set_aside(tmp_path: Path) -> None:
    sources = CSV.replace('{ column = "at" }', '{ column = "at", unit = "s" }')
    files = written(tmp_path, f"{HEADER}\n1741000000,page,c1,,\n9999999999999,page,c1,,\n".encode(), sources)
    assert (files["kept_n"], files["quarantined_n"]) == (1, 1)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    rows = [f"2025-01-0{i},page,c{i},{value}," for i, value in enumerate(["1", "NaN", "inf", "1e400"], start=1)]
    files = written(tmp_path, "\n".join([HEADER, *rows, ""]).encode())
    assert (files["kept_n"], files["quarantined_n"]) == (1, 3)


def test_an_empty_event_id_does_not_make_rows_the_same(tmp_path: Path) -> None:
    sources = CSV.replace('event = "event"', 'event = "event"\nevent_id = "note"')
    rows = ["2025-01-01,page,c1,1,", "2025-01-02,page,c2,2,", "2025-01-03,page,c3,3,x", "2025-01-03,buy,c3,3,x"]
    opened = make_study(tmp_path, sources, {"a.csv": "\n".join([HEADER, *rows]) + "\n"})
    events.ingest(opened)
    found = read(opened, "events")
    assert len(found) == 4
    assert found["event_id"].is_unique


def test_events_of_one_row_keep_the_order_in_which_they_are_listed(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "tickets"
path = "raw/*.csv"
time = { column = "opened" }
identifiers = { customer = "who" }
emits = [{ event = "opened", time = "opened" }, { event = "solved", time = "solved" }]
"""
    rows = [f"2025-01-01,2025-01-01,c{i}" for i in range(50)]
    opened = make_study(tmp_path, sources, {"a.csv": "\n".join(["opened,solved,who", *rows]) + "\n"})
    events.ingest(opened)
    found = engine.fetch(opened.table("events").sort(*engine.ORDER))
    assert (found.groupby("id_customer")["event"].apply(list) == pd.Series([["opened", "solved"]] * 50).values).all()


def test_dates_and_numbers_are_no_telephone_numbers_in_a_name(tmp_path: Path) -> None:
    sources = CSV + 'segments = { campaign = "note" }\n'
    opened = make_study(tmp_path, sources, {"a.csv": f"{HEADER}\n2025-01-01,page,c1,1,2025-01-06\n"})
    events.ingest(opened)
    assert read(opened, "events")["segment_campaign"].tolist() == ["2025-01-06"]


def test_rows_of_one_record_and_rows_of_none(tmp_path: Path) -> None:
    sources = CSV.replace('event = "event"', 'event = "event"\nonce_per = "note"')
    rows = ["2025-01-01,page,c1,1,o1", "2025-01-01,page,,,o1", "2025-01-02,page,c2,2,", "2025-01-03,page,c3,3,"]
    files = written(tmp_path, "\n".join([HEADER, *rows, ""]).encode(), sources)
    assert files["kept_n"] == 4
    assert files["quarantined_n"] == 0


def test_spend_that_is_no_amount_is_set_aside_and_days_are_local(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "ads"
kind = "spend"
path = "raw/*.csv"
time = { column = "day", zone = "Europe/Berlin" }
marketing_channel = "channel"
spend = "cost"
"""
    rows = ["2025-01-01,search,10", "2025-01-02,search,abc", "2025-01-03,search,-5", "2025-01-04,search,NaN"]
    opened = make_study(tmp_path, sources, {"a.csv": "\n".join(["day,channel,cost", *rows]) + "\n"})
    events.ingest(opened)
    spend = read(opened, "spend")
    assert spend["spend"].tolist() == [10]
    assert pd.to_datetime(spend["date"]).tolist() == [pd.Timestamp("2025-01-01")]
    assert read(opened, "files")["quarantined_n"].tolist() == [3]


def test_quarantine_holds_no_identifier_of_any_kind(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "web"
path = "raw/*.jsonl"
format = "jsonl"
time = { column = "at" }
event = "name"
identifiers = { customer = "who" }
"""
    good = {"at": "2025-01-01", "name": "page", "who": "C1234", "street": "12 High Street"}
    lines = [json.dumps(good), json.dumps({**good, "at": "never"}), '{"who": "alice.smith", ']
    opened = make_study(tmp_path, sources, {"a.jsonl": "\n".join(lines) + "\n"})
    events.ingest(opened)
    kept = " ".join(read(opened, "quarantine")["record"])
    assert "C1234" not in kept
    assert "alice" not in kept
    assert "Street" not in kept
    assert "never" in kept


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV.replace("*.csv", "*.parquet") + 'format = "parquet"\n', {"a.parquet": "no"})
    with pytest.raises(JourneyError, match=r"sources\.shop: raw/a\.parquet: is not a whole Parquet file"):
        events.ingest(opened)


def test_swapped_files_are_read_again(tmp_path: Path) -> None:
    one, two = f"{HEADER}\n2025-01-01,page,c1,1,\n", f"{HEADER}\n2025-01-01,page,c2,2,\n"
    sources = CSV.replace("*.csv", "a.csv") + CSV.replace("*.csv", "b.csv").replace('"shop"', '"other"')
    opened = make_study(tmp_path, sources, {"a.csv": one, "b.csv": two})
    assert events.ingest(opened)
    make_study(tmp_path, sources, {"a.csv": two, "b.csv": one})
    assert events.ingest(opened)


def test_raw_files_that_changed_make_the_tables_stale(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {"a.csv": f"{HEADER}\n2025-01-01,page,c1,1,\n"})
    events.ingest(opened)
    read(opened, "events")
    (tmp_path / "raw" / "b.csv").write_text(f"{HEADER}\n2025-01-01,page,c1,1,\n")
    with pytest.raises(JourneyError, match=r"the raw files have changed .* Run 01_ingest again"):
        opened.table("events")


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("Australia/Lord_Howe", "2025-04-06 01:45:00", "2025-04-05 14:45:00"),  # clocks go back by half an hour
        ("Australia/Lord_Howe", "2025-04-06 03:00:00", "2025-04-05 16:30:00"),
        ("America/New_York", "2025-11-02 01:30:00", "2025-11-02 05:30:00"),
    ],
)
def test_the_first_of_two_instants_in_every_zone(tmp_path: Path, zone: str, local: str, utc: str) -> None:
    sources = CSV.replace('{ column = "at" }', f'{{ column = "at", zone = "{zone}" }}')
    opened = make_study(tmp_path, sources, {"a.csv": f"{HEADER}\n{local},page,c1,1,\n"})
    events.ingest(opened)
    assert read(opened, "events")["timestamp"].tolist() == [pd.Timestamp(utc)]


def test_a_value_that_fits_a_blocked_pattern_is_not_shown(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {})
    text = (tmp_path / "journey.toml").read_text()
    patterns = 'identifiers = ["customer", "email"]\nblocked_patterns = ["^[0-]+$", "^[+]49", "@corp"]'
    (tmp_path / "journey.toml").write_text(text.replace('identifiers = ["customer", "email"]', patterns))
    names = ["+491701234567", "mary@corp.com", "0000", "null", "c1"]
    rows = [f"2025-01-01,page,{name},1,x" for name in names]
    (tmp_path / "raw" / "a.csv").write_text("\n".join([HEADER, *rows, ""]))
    opened = study.open_study(str(tmp_path))
    events.ingest(opened)
    assert sorted(set(read(opened, "blocked")["value"])) == ["(fits a pattern)", "0000", "null"]
