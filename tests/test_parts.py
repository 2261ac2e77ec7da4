"""Reading again only what changed: the tables are the same, byte for byte, as if everything had been read anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from journeykit import engine, events, parts, study
from tests.test_events import CSV, make_study, read

HEADER = "at,event,who,value,note"
TABLES = events.TABLES


def day(number: int, people: range, extra: str = "") -> str:
    rows = [f"2025-01-{number:02d} {p % 24:02d}:00:00,page_{p % 3},c{p},{p},x" for p in people]
    return "\n".join([HEADER, *rows, extra]) + "\n"


FILES = {
    "2025-01-01.csv": day(1, range(200), "never,page,c1,1,x"),
    "2025-01-02.csv": day(2, range(100, 300), "2025-01-02,page,null,1,x"),
    "2025-01-03.csv": day(3, range(50), ",page,c2,1,x"),
}


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the raw files that are really read, as they are read."""
    read_files: list[str] = []
    original = parts._read

    def counting(part: parts.Part, inputs: parts.Inputs, beside: Path) -> None:
        read_files.append(part.file.name)
        original(part, inputs, beside)

    monkeypatch.setattr(parts, "_read", counting)
    return read_files


def put(folder: Path, files: dict[str, str]) -> study.OpenStudy:
    shutil.rmtree(folder / "raw", ignore_errors=True)
    return make_study(folder, CSV, files)


def tables(opened: study.OpenStudy) -> dict[str, bytes]:
    return {name: opened.path(name).read_bytes() for name in TABLES}


CHANGES = {
    "a late file": {**FILES, "2025-01-04.csv": day(4, range(10))},
    "a file that was rewritten": {**FILES, "2025-01-02.csv": day(2, range(90, 310))},
    "a file that was withdrawn": {name: text for name, text in FILES.items() if not name.endswith("02.csv")},
    "a file that repeats another": {**FILES, "2025-01-05.csv": FILES["2025-01-01.csv"]},
    "other names": {f"renamed-{9 - place}.csv": text for place, text in enumerate(FILES.values())},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_read_and_the_tables_are_those_of_a_full_rebuild(
    tmp_path: Path, change: str, files_read: list[str]
) -> None:
    one = put(tmp_path / "study", FILES)
    events.ingest(one)
    assert len(files_read) == 3
    files_read.clear()
    opened = put(tmp_path / "study", CHANGES[change])
    assert events.ingest(opened)
    new = [name for name, text in CHANGES[change].items() if text not in FILES.values()]
    assert files_read == [f"raw/{name}" for name in sorted(new)]
    grown = tables(opened)
    shutil.rmtree(opened.derived)
    assert events.ingest(opened)
    assert tables(opened) == grown


def test_the_names_of_files_change_no_event(tmp_path: Path) -> None:
    rows = "2025-01-01 10:00:00,page,c1,{value},x"
    source = CSV.replace('event = "event"', 'event = "event"\nevent_id = "who"')
    one = make_study(tmp_path / "a", source, {f"{n}.csv": f"{HEADER}\n{rows.format(value=n)}\n" for n in (1, 2)})
    two = make_study(tmp_path / "b", source, {f"{3 - n}.csv": f"{HEADER}\n{rows.format(value=n)}\n" for n in (1, 2)})
    for opened in (one, two):
        events.ingest(opened)
    pd.testing.assert_frame_equal(read(one, "events"), read(two, "events"))
    assert read(one, "files")["duplicate_n"].sum() == 1


def test_parts_of_files_that_are_gone_are_deleted(tmp_path: Path) -> None:
    opened = put(tmp_path, FILES)
    events.ingest(opened)
    assert len(list((opened.derived / "parts").rglob("*.parquet"))) == 3
    opened = put(tmp_path, {"2025-01-01.csv": FILES["2025-01-01.csv"]})
    events.ingest(opened)
    assert len(list((opened.derived / "parts").rglob("*.parquet"))) == 1


def test_a_new_question_reads_nothing_again_but_a_new_mapping_does(tmp_path: Path, files_read: list[str]) -> None:
    opened = put(tmp_path, FILES)
    events.ingest(opened)
    files_read.clear()
    text = (tmp_path / "journey.toml").read_text()
    (tmp_path / "journey.toml").write_text(text.replace('Page = "page_*"', 'Visit = "page_*"'))
    assert events.ingest(study.open_study(str(tmp_path)))
    assert files_read == []
    (tmp_path / "journey.toml").write_text(text.replace('value = "value"\n', ""))
    assert events.ingest(study.open_study(str(tmp_path)))
    assert len(files_read) == 3


def test_no_part_holds_an_identifier(tmp_path: Path) -> None:
    rows = [HEADER, "2025-01-01,page,ada@example.com,1,x", "never,page,ada@example.com,1,call ada@example.com"]
    opened = make_study(tmp_path, CSV, {"a.csv": "\n".join(rows) + "\n"})
    events.ingest(opened)
    for path in (opened.derived / "parts").rglob("*"):
        assert not path.is_file() or b"ada" not in path.read_bytes()


@pytest.mark.parametrize("lookup", ["", "in a file"])
def test_rows_of_a_large_file_keep_their_place(tmp_path: Path, lookup: str) -> None:
    n = 300_000
    source = CSV.replace('value = "value"', 'value = "value"\nsequence = "note"')
    if lookup:
        source = source.replace(
            '{ customer = "who" }',
            '{ customer = { column = "who", lookup = { path = "l.csv", key = "k", value = "v" } } }',
        )
    opened = make_study(tmp_path, source, {})
    (tmp_path / "l.csv").write_text("k,v\n" + "".join(f"c{i},person {i}\n" for i in range(1000)))
    engine.run(
        f"COPY (SELECT '2025-01-01 10:00:00' AS at, 'page' AS event, 'c' || (i * 7919) % 1000 AS who, i AS value, "
        f"i AS note FROM range({n}) r(i)) TO '{tmp_path}/raw/a.csv' (FORMAT csv, HEADER)"
    )
    events.ingest(opened)
    part = next((opened.derived / "parts").rglob("*.parquet"))
    wrong = engine.rows(
        f"SELECT count(*), count(*) FILTER (sequence <> file_row_number) "
        f"FROM read_parquet('{part}', file_row_number = true)"
    )
    assert wrong == [(n, 0)]


def test_a_row_in_the_future_is_taken_in_when_its_time_has_come(tmp_path: Path) -> None:
    opened = make_study(tmp_path, CSV, {})
    toml = (tmp_path / "journey.toml").read_text().replace('as_of = "2026-01-01T00:00:00Z"\n', "")
    (tmp_path / "journey.toml").write_text(toml)
    soon = pd.Timestamp.now("UTC") + pd.Timedelta("30h")
    (tmp_path / "raw" / "a.csv").write_text(
        f"{HEADER}\n2025-01-01,page,c1,1,x\n{soon:%Y-%m-%dT%H:%M:%SZ},page,c2,1,x\n"
    )
    opened = study.open_study(str(tmp_path))
    assert events.ingest(opened)
    assert read(opened, "quarantine")["reason"].tolist() == ["time lies in the future"]
    record = json.loads(read(opened, "quarantine")["record"].iloc[0])
    assert record["event"] == "page"
    assert not events.ingest(opened)


WRAPPED = [
    HEADER,  # 1
    '2025-01-01,page,c1,1,"two',  # 2
    'lines"',  # 3
    "",  # 4
    "never,page,c1,1,x",  # 5
    "2025-01-01,page,c2,1,x,too,many",  # 6
    "2025-01-01,page,,1,x",  # 7
    "",  # 8
    "",  # 9
    "2025-01-01,page,c3,1",  # 10
    "1999-01-01,page,c3,1,y",  # 11
]
PLAIN = [HEADER, "2025-01-01,page,c1,1,x", "never,page,c1,1,x", "a,b", "2025-01-02,page,c1,1,x", "2025-01-02,page,,,"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("lines", "bad"), [(WRAPPED, [5, 6, 7, 10, 11]), (PLAIN, [3, 4, 6])], ids=["wrapped", "plain"])
def test_a_quarantined_row_names_its_line(tmp_path: Path, lines: list[str], bad: list[int], end: str) -> None:
    opened = make_study(tmp_path, CSV, {})
    (tmp_path / "raw" / "a.csv").write_bytes(end.join([*lines, ""]).encode())
    events.ingest(opened)
    assert read(opened, "quarantine")["line"].tolist() == bad


def test_a_broken_line_of_json_names_its_line(tmp_path: Path) -> None:
    source = CSV.replace("*.csv", "*.jsonl")
    good = '{"at": "2025-01-01", "event": "page", "who": "c1"}'
    lines = ["", good, "", "{", "  ", good.replace("c1", "c2"), '["no object"]', good.replace("2025", "25")]
    opened = make_study(tmp_path, source, {"a.jsonl": "\n".join(lines) + "\n"})
    events.ingest(opened)
    assert read(opened, "quarantine")["line"].tolist() == [4, 7, 8]
    files = read(opened, "files").iloc[0]
    assert (files["read_n"], files["kept_n"], files["quarantined_n"]) == (5, 2, 3)


def test_what_makes_rows_the_same_keeps_all_its_bits(tmp_path: Path) -> None:
    """As a fraction, which Parquet would make of a large integer, a hundred million rows would seem to repeat."""
    opened = put(tmp_path / "study", FILES)
    events.ingest(opened)
    part = next(iter((opened.derived / "parts").glob("*/*.parquet")))
    kinds = engine.rows(f"SELECT DISTINCT typeof(row_key), typeof(once_key) FROM read_parquet('{part}')")
    assert kinds == [("UUID", "UUID")]
