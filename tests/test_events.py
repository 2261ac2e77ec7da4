"""Ingestion: every raw row ends in exactly one place, and what is kept says what the export said."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from journeykit import check, engine, events, privacy, study
from journeykit.errors import JourneyError

HEAD = """
[study]
title = "Small"
as_of = "2026-01-01T00:00:00Z"
{study}

[identity]
identifiers = ["customer", "email"]

[[stages]]
name = "Visit"
owner = "Web team"
touchpoints = {{ Page = "page_*" }}
"""


def make_study(folder: Path, sources: str, files: dict[str, str], settings: str = "") -> study.OpenStudy:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "journey.toml").write_text(HEAD.format(study=settings) + sources, encoding="utf-8")
    for name, text in files.items():
        (folder / "raw" / name).write_text(text, encoding="utf-8")
    return study.open_study(str(folder))


def read(opened: study.OpenStudy, table: str) -> pd.DataFrame:
    return engine.fetch(opened.table(table))


CSV = """
[[sources]]
name = "shop"
path = "raw/*.csv"
time = { column = "at" }
event = "event"
value = "value"
comment = "note"
identifiers = { customer = "who" }
"""


def test_every_bad_row_is_quarantined_with_its_reason(tmp_path: Path) -> None:
    rows = [
        "at,event,who,value,note",
        "2025-03-01 10:00:00,page_home,c1,5,hello",
        "2025-03-01 10:00:00,page_home,c1,5,hello",  # a duplicate
        ",page_home,c2,1,x",
        "yesterday,page_home,c3,1,x",
        "1999-03-01,page_home,c4,1,x",
        "2030-01-01,page_home,c5,1,x",
        "2025-03-02,,c6,1,x",
        "2025-03-02,page_home,,1,x",
        "2025-03-02,page_home,anonymous,1,x",
        "2025-03-02,page_home,0000,1,x",
        "2025-03-02,page_home,c7,many,x",
        "2025-03-02,page_home,c8,-1,x",
        "2025-03-02,page_home,c9,1,x,too,many,columns",
    ]
    opened = make_study(tmp_path, CSV, {"a.csv": "\n".join(rows) + "\n"})
    assert events.ingest(opened)
    files = read(opened, "files").iloc[0]
    assert (files["read_n"], files["kept_n"], files["duplicate_n"], files["quarantined_n"]) == (13, 1, 1, 11)
    reasons = read(opened, "quarantine").set_index("line")["reason"].tolist()
    assert sorted(reasons) == sorted(
        [
            "no time",
            "time cannot be read",
            "time is not plausible",
            "time lies in the future",
            "no event",
            "no identifier",
            "identifier is blocked",
            "identifier is blocked",
            "value is not a number",
            "value is negative",
            "row is broken: too many columns",
        ]
    )
    blocked = read(opened, "blocked")
    assert blocked["value"].tolist() == ["0000", "anonymous"]


def test_nothing_of_an_identifier_is_left(tmp_path: Path) -> None:
    rows = [
        "at,event,who,value,note",
        "2025-03-01 10:00:00,page_home,ada.lovelace@example.com,5,write to ada.lovelace@example.com or +49 170 1234567",
        "broken,page_home,ada.lovelace@example.com,5,x",
        "2025-03-02,page_home,ada.lovelace@example.com,5,x,too,many",
    ]
    opened = make_study(tmp_path, CSV, {"a.csv": "\n".join(rows) + "\n"})
    events.ingest(opened)
    for path in sorted(opened.derived.glob("*.parquet")):
        assert b"lovelace" not in path.read_bytes()
        text = engine.fetch(engine.read_parquet(path)).to_csv()
        assert "lovelace" not in text
        assert "1234567" not in text
    kept = read(opened, "events").iloc[0]
    assert kept["comment"] == "write to <e-mail> or <number>"
    secret = privacy.key(study.ROOT)
    assert kept["id_customer"] == privacy.token("customer", "ada.lovelace@example.com", secret)


@pytest.mark.parametrize(
    ("time", "text", "expected"),
    [
        ('{ column = "at", unit = "s" }', "1741000000", "2025-03-03 11:06:40"),
        ('{ column = "at", unit = "ms" }', "1741000000500", "2025-03-03 11:06:40.500"),
        ('{ column = "at", unit = "us" }', "1741000000000007", "2025-03-03 11:06:40.000007"),
        ('{ column = "at" }', "2025-03-03T11:06:40.250Z", "2025-03-03 11:06:40.250"),
        ('{ column = "at" }', "2025-03-03 12:06:40 +0100", "2025-03-03 11:06:40"),
        ('{ column = "at", zone = "Europe/Berlin" }', "2025-03-03 12:06:40", "2025-03-03 11:06:40"),
        ('{ column = "at", zone = "America/New_York" }', "2025-03-03", "2025-03-03 05:00:00"),
        ('{ column = "at", format = "%d.%m.%Y %H:%M" }', "03.03.2025 11:06", "2025-03-03 11:06:00"),
        # the hour that occurs twice: the first of the two; the hour that never occurs: moved on
        ('{ column = "at", zone = "Europe/Berlin" }', "2025-10-26 02:30:00", "2025-10-26 00:30:00"),
        ('{ column = "at", zone = "Europe/Berlin" }', "2025-03-30 02:30:00", "2025-03-30 01:30:00"),
    ],
)
def test_times_of_every_unit_and_zone(tmp_path: Path, time: str, text: str, expected: str) -> None:
    sources = CSV.replace('{ column = "at" }', time)
    opened = make_study(tmp_path, sources, {"a.csv": f"at,event,who,value,note\n{text},page,c1,,\n"})
    events.ingest(opened)
    assert read(opened, "events")["timestamp"].tolist() == [pd.Timestamp(expected)]


def test_changes_of_the_clock_are_counted(tmp_path: Path) -> None:
    sources = CSV.replace('{ column = "at" }', '{ column = "at", zone = "Europe/Berlin" }')
    times = ["2025-10-26 02:30:00", "2025-10-26 02:59:59", "2025-10-26 03:00:00", "2025-03-30 02:30:00", "2025-06-01"]
    rows = [f"{at},page,c{i},," for i, at in enumerate(times)]
    opened = make_study(tmp_path, sources, {"a.csv": "at,event,who,value,note\n" + "\n".join(rows) + "\n"})
    events.ingest(opened)
    files = read(opened, "files").iloc[0]
    assert (files["ambiguous_n"], files["skipped_n"]) == (2, 1)


def test_json_lines_with_nested_fields_and_broken_lines(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "web"
path = "raw/*.jsonl"
format = "jsonl"
time = { column = "ts", unit = "us" }
received = { column = "got", unit = "us" }
event = "name"
identifiers = { customer = "user.id" }
segments = { device = "device.category" }
properties = ["params[page]"]
"""
    day = 86_400_000_000
    good = {
        "ts": 1741000000000000,
        "got": 1741000000000000 + 3 * day,
        "name": "page_view",
        "user": {"id": "c1"},
        "device": {"category": "mobile"},
        "params": [{"key": "page", "value": {"string_value": "/a"}}, {"key": "n", "value": {"int_value": 3}}],
    }
    lines = [
        json.dumps(good),
        "{not json",
        json.dumps([1]),
        "",
        json.dumps({**good, "ts": good["ts"] + 1, "got": None}),
    ]
    opened = make_study(tmp_path, sources, {"a.jsonl": "\n".join(lines) + "\n"})
    events.ingest(opened)
    files = read(opened, "files").iloc[0]
    assert files["read_n"] == files["kept_n"] + files["quarantined_n"] == 4
    assert files["late_n"] == 1
    first = read(opened, "events").iloc[0]
    assert (first["segment_device"], first["touchpoint"], first["stage"], first["team"]) == (
        "mobile",
        "Page",
        "Visit",
        "Web team",
    )
    assert json.loads(first["properties"]) == {"params[page]": "/a"}
    assert sorted(read(opened, "quarantine")["line"]) == [2, 3]


def test_a_wide_row_becomes_several_events_and_is_one_row(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "orders"
path = "raw/*.csv"
time = { column = "ordered" }
once_per = "order"
where = { test = "no" }
identifiers = { customer = "who" }
value = "total"
emits = [
    { event = "ordered", time = "ordered" },
    { event = "late", time = "delivered", when = { status = "late" } },
    { event = "delivered", time = "delivered", when = { status = ["on time", "early"] } },
]
"""
    rows = [
        "order,ordered,delivered,status,who,total,test",
        "1,2025-01-01,2025-01-05,late,c1,10,no",
        "1,,,,,,no",  # a second line item of the same order
        "2,2025-01-02,2025-01-04,On time,c2,20,no",
        "3,2025-01-03,,,c3,30,no",
        "4,2025-01-03,,,c4,40,yes",
        "5,2025-01-03,never,late,c5,50,no",
        "6,,,,c6,,no",
    ]
    opened = make_study(tmp_path, sources, {"a.csv": "\n".join(rows) + "\n"})
    events.ingest(opened)
    found = read(opened, "events")
    assert found["event"].tolist() == ["ordered", "ordered", "ordered", "delivered", "late"]
    files = read(opened, "files").iloc[0]
    parts = files[["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]].tolist()
    assert sum(parts) == files["read_n"] == 7
    assert files["left_out_n"] == 1
    assert "time cannot be read" in read(opened, "quarantine")["reason"].tolist()


def test_several_header_rows_and_a_scale(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "survey"
path = "raw/*.csv"
header_rows = 3
time = { column = "at" }
event = { constant = "survey" }
satisfaction = { column = "nps", low = 0, high = 10 }
identifiers = { email = "email" }
"""
    text = (
        'at,nps,email\n"When,\nexactly?",How likely?,E-mail\n"{""ImportId"":""x""}",b,c\n2025-01-01,8,a@example.com\n'
    )
    text += "2025-01-02,11,b@example.com\n2025-01-03,good,c@example.com\n"
    opened = make_study(tmp_path, sources, {"a.csv": text})
    events.ingest(opened)
    assert read(opened, "events")["satisfaction"].tolist() == [0.8]
    assert read(opened, "quarantine")["reason"].tolist() == ["answer is outside its scale", "answer is not a number"]


def test_a_row_of_several_events_has_one_value_and_one_answer(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "tickets"
path = "raw/*.csv"
time = { column = "opened" }
identifiers = { customer = "who" }
value = "cost"
satisfaction = { column = "rated", low = 1, high = 5 }
emits = [{ event = "opened", time = "opened" }, { event = "solved", time = "solved", measures = true }]
"""
    rows = ["opened,solved,who,cost,rated", "2025-01-01,2025-01-02,c1,10,5", "2025-01-03,,c2,20,1"]
    opened = make_study(tmp_path, sources, {"a.csv": "\n".join(rows) + "\n"})
    events.ingest(opened)
    found = read(opened, "events").set_index(["id_customer", "event"]).sort_index()
    assert found["value"].sum() == 30
    assert sorted(found["satisfaction"].dropna()) == [0.0, 1.0]
    assert found.xs("solved", level="event")["value"].tolist() == [10]


def test_repeated_spend_counts_once(tmp_path: Path) -> None:
    sources = """
[[sources]]
name = "ads"
kind = "spend"
path = "raw/*.csv"
time = { column = "day" }
marketing_channel = "channel"
spend = "cost"
"""
    head = "day,channel,cost\n"
    files = {
        "a.csv": head + "2025-01-01,search,10\n2025-01-01,search,10\n2025-01-01,social,5\n",
        "b.csv": head + "2025-01-01,search,10\n",
    }
    opened = make_study(tmp_path, sources, files)
    events.ingest(opened)
    assert read(opened, "spend")["spend"].tolist() == [10, 5]
    assert read(opened, "files")["duplicate_n"].sum() == 2  # which of equal rows is the first, their content decides


def test_a_source_of_which_no_row_can_be_used_is_an_error(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {"a.csv": "at,event,who,value,note\n31.12.2025,page,c1,1,\n"})
    with pytest.raises(JourneyError, match=r"sources\.shop: none of its 1 rows can be used; most often: time cannot"):
        events.ingest(opened)
    found = check.problems(opened.config, opened.folder)
    assert "none of the first 1 rows of raw/a.csv could be used" in found[0]
    assert "'31.12.2025'" in found[0]


def test_a_check_reads_the_first_rows_and_names_the_delimiter(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {"a.csv": "at;event;who;value;note\n2025-01-01;page;c1;1;\n"})
    assert "set delimiter = ';'" in check.problems(opened.config, opened.folder)[0]
    good = make_study(
        tmp_path / "good", CSV, {"a.csv": "at,event,who,value,note\n2025-01-01,page,c1,1,\n", "b.csv": ""}
    )
    assert check.problems(good.config, good.folder) == []


def test_a_second_run_reads_nothing_and_a_changed_file_is_read(tmp_path: Path) -> None:
    header = "at,event,who,value,note\n"
    opened = make_study(tmp_path, CSV, {"a.csv": header + "2025-01-01,page,c1,1,\n"})
    assert events.ingest(opened)
    assert not events.ingest(opened)
    (tmp_path / "raw" / "b.csv").write_text(header + "2025-01-02,page,c2,1,\n")
    assert events.ingest(opened)
    assert len(read(opened, "events")) == 2


def test_names_of_files_do_not_matter_and_neither_do_empty_files(tmp_path: Path) -> None:
    header = "at,event,who,value,note\n"
    files = {
        "a.csv": header + "2025-01-01,page,c1,1,\n2025-01-01,page,c2,1,\n",
        "b.csv": header + "2025-01-01,buy,c3,1,\n",
    }
    one = make_study(tmp_path / "one", CSV, files)
    swapped = {"z.csv": files["a.csv"], "b.csv": files["b.csv"], "empty.csv": "", "header.csv": header}
    two = make_study(tmp_path / "two", CSV, swapped)
    events.ingest(one)
    events.ingest(two)
    pd.testing.assert_frame_equal(read(one, "events"), read(two, "events"))
    assert read(two, "files")["read_n"].tolist() == [1, 0, 0, 2]


def test_problems_name_the_place_and_the_remedy(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {"a.txt": ""})
    with pytest.raises(JourneyError, match=r"sources\.shop\.path.*matches no file"):
        events.ingest(opened)
    (tmp_path / "raw" / "a.csv").write_text("at,event,whom,value,note\n")
    with pytest.raises(JourneyError, match=r"column 'who' is not in the file\. Did you mean 'whom'\?"):
        events.ingest(opened)
    with pytest.raises(JourneyError, match="Run 01_ingest first"):
        opened.table("events")


def test_token_in_the_engine_is_the_standard_hmac() -> None:
    for secret in (b"k", b"x" * 64, b"y" * 100):
        sql = privacy.token_sql("email", "v", secret)
        values = [" Ada@Example.com ", "c-1", "ünïcode", "it's"]
        listed = ", ".join("('" + value.replace("'", "''") + "')" for value in values)
        got = [row[0] for row in engine.rows(f"SELECT {sql} FROM (VALUES {listed}) t(v)")]
        assert got == [privacy.token("email", value, secret) for value in values]
