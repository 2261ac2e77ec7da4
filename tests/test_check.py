"""`check`: every problem of every source at once, in seconds, each with what was found and what to do."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest

from journeykit import check
from tests.test_events import CSV, make_study

HEADER = "at,event,who,value,note\n"
ROW = "2025-03-01 10:00:00,page_home,c1,5,hello\n"


def found(folder: Path, sources: str, files: dict[str, str], settings: str = "") -> check.Found:
    opened = make_study(folder, sources, files, settings)
    return check.examine(opened.config, opened.folder)


def rows(*lines: str) -> dict[str, str]:
    return {"a.csv": HEADER + "".join(f"{line}\n" for line in lines)}


def test_a_sound_study_has_no_problems(tmp_path: Path) -> None:
    result = found(tmp_path, CSV, {"a.csv": HEADER + ROW})
    assert (result.problems, result.hints) == ([], [])
    assert result.events == {"page_home": 1}


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    found(tmp_path, CSV, {"a.csv": HEADER + ROW})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "journey.toml", "raw"]


def test_all_missing_columns_are_named_with_the_nearest(tmp_path: Path) -> None:
    result = found(tmp_path, CSV, {"a.csv": "At,event,whom,value,note\n" + ROW})
    assert len(result.problems) >= 2
    assert "column 'at' is not in raw/a.csv. Did you mean 'At'?" in result.problems[0]
    assert "column 'who' is not in raw/a.csv. Did you mean 'whom'?" in "\n".join(result.problems)


def test_problems_of_all_sources_are_told_at_once(tmp_path: Path) -> None:
    other = CSV.replace('"shop"', '"second"').replace("raw/*.csv", "raw/none_*.csv")
    third = CSV.replace('"shop"', '"third"').replace('event = "event"', 'event = "evnt"')
    result = found(tmp_path, CSV.replace('"who"', '"wo"') + other + third, {"a.csv": HEADER + ROW})
    assert [line.split(":")[0] for line in result.problems] == ["sources.second.path", "sources.shop", "sources.third"]


@pytest.mark.parametrize(
    ("setting", "text", "advice"),
    [
        ('{ column = "at", unit = "s" }', "1741000000123", 'These look like milliseconds: set unit = "ms".'),
        ('{ column = "at", unit = "ms" }', "1741000000123456", 'These look like microseconds: set unit = "us".'),
        ('{ column = "at", unit = "us" }', "1741000000", 'These look like seconds: set unit = "s".'),
        ('{ column = "at" }', "1741000000", 'These look like seconds: set unit = "s".'),
        ('{ column = "at", unit = "s" }', "2025-03-01 10:00:00", 'These look like text: set unit = "text".'),
        ('{ column = "at" }', "31.12.2024 14:05", 'set format = "%d.%m.%Y %H:%M".'),
        ('{ column = "at", format = "%d/%m/%Y" }', "12/31/2024", 'set format = "%m/%d/%Y".'),
        ('{ column = "at", format = "%d/%m/%Y" }', "2024-12-31", 'They are ISO 8601: set format = "".'),
        ('{ column = "at" }', "1997-03-01", 'set study.earliest = "1997-01-01".'),
        ('{ column = "at" }', "soon", "It is no time that is known"),
        ('{ column = "note" }', "2025-03-01", "Mend time: its column is empty"),
    ],
)
def test_times_that_cannot_be_used_say_how_they_are_written(
    tmp_path: Path, setting: str, text: str, advice: str
) -> None:
    sources = CSV.replace('{ column = "at" }', setting)
    result = found(tmp_path, sources, rows(f"{text},page_home,c1,5,", f"{text},page_home,c2,5,"))
    assert len(result.problems) == 1
    assert advice in result.problems[0]


def test_a_delimiter_and_a_format_that_are_wrong_are_named(tmp_path: Path) -> None:
    result = found(tmp_path, CSV, {"a.csv": "at;event;who;value;note\n2025-01-01;page;c1;1;\n"})
    assert len(result.problems) == 1
    assert "set delimiter = ';'" in result.problems[0]
    lines = json.dumps({"at": "2025-01-01", "event": "page", "who": "c1"}) + "\n"
    result = found(tmp_path / "json", CSV, {"a.csv": lines})
    assert len(result.problems) == 1
    assert 'begins like jsonl, and it is to be read as csv. Set format = "jsonl".' in result.problems[0]


def test_rules_that_leave_nothing_say_what_the_column_holds(tmp_path: Path) -> None:
    result = found(tmp_path, CSV + 'where = { event = "purchase" }\n', {"a.csv": HEADER + ROW})
    assert len(result.problems) == 1
    assert result.problems[0] == (
        "sources.shop: no row of raw/a.csv is left (1 tried), because of where (event = ['purchase']; it holds "
        "'page_home'). Mend the values there, or drop the rule."
    )
    both = 'where = { event = "page_home", who = "c2" }\n'
    result = found(tmp_path / "both", CSV + both, {"a.csv": HEADER + ROW})
    assert "because of where (who = ['c2']; it holds none of them). Mend" in result.problems[0]
    result = found(tmp_path / "not", CSV + 'where_not = { event = "page_*" }\n', {"a.csv": HEADER + ROW})
    assert "because of where_not (event = ['page_*']). Mend" in result.problems[0]


def test_values_and_answers_that_do_not_fit_show_an_example(tmp_path: Path) -> None:
    lines = [f'2025-03-01,page_home,c{number},"1.234,50",x' for number in range(10)]
    result = found(tmp_path, CSV, rows(*lines))
    assert "value is not a number" in result.problems[0]
    assert "number(replace(replace(col('value'), '.', ''), ',', '.'))" in result.problems[0]
    scale = 'satisfaction = { column = "value", low = 1, high = 5 }\n'
    sources = CSV.replace('value = "value"\n', scale)
    mixed = [f"2025-03-01,page_home,c{number},{number % 11},x" for number in range(44)]
    result = found(tmp_path / "scale", sources, rows(*mixed))
    assert "answer is outside its scale. Found: 0, 6, 7, 8, 9. The scale is 1 to 5" in "\n".join(
        result.problems + result.hints
    )


def test_a_few_bad_rows_are_no_problem_and_half_of_them_are(tmp_path: Path) -> None:
    good = [f"2025-03-01,page_home,c{number},1,x" for number in range(97)]
    assert found(tmp_path, CSV, rows(*good, "never,page_home,c1,1,x")).problems == []
    bad = [f"2025-03-01,page_home,c{number},many,x" for number in range(20)]
    result = found(tmp_path / "some", CSV, rows(*good, *bad))
    assert result.problems == []
    assert "20 of 117 rows that were tried would be quarantined: value is not a number" in result.hints[0]
    result = found(tmp_path / "most", CSV, rows(*good[:10], *bad))
    assert "20 of 30 rows" in result.problems[0]


def test_identifiers_that_are_empty_or_blocked_are_told_without_a_value(tmp_path: Path) -> None:
    sources = CSV.replace('{ customer = "who" }', '{ customer = "who", email = "note" }')
    lines = [f"2025-03-01,page_home,c{number},1," for number in range(50)]
    result = found(tmp_path, sources, rows(*lines))
    assert "sources.shop.identifiers.email: note is filled in 0 of 50 rows" in result.hints[0]
    lines = [f"2025-03-01,page_home,c{number},1,anonymous" for number in range(50)]
    result = found(tmp_path / "blocked", sources, rows(*lines))
    assert "50 of 50 values in note are blocked" in result.hints[0]
    assert "c4" not in "\n".join(result.hints + result.problems)


def test_no_value_of_an_identifier_is_shown(tmp_path: Path) -> None:
    sources = CSV.replace('time = { column = "at" }', 'time = { column = "who" }')
    lines = [f"2025-03-01,page_home,ada.lovelace{number}@example.com,1,x" for number in range(9)]
    result = found(tmp_path, sources, rows(*lines))
    assert result.problems
    assert "lovelace" not in "\n".join(result.problems + result.hints)


def test_events_without_a_touchpoint_and_names_that_never_occur(tmp_path: Path) -> None:
    lines = [f"2025-03-01,page_home,c{n},1,x" for n in range(30)] + [f"2025-03-01,basket,c{n},1,x" for n in range(10)]
    opened = make_study(tmp_path, CSV + '[journeys]\nconversion = "baskets"\n', rows(*lines))
    hints = check.hints(opened.config, opened.folder)
    assert "stages: 25 % of the events that were tried are on no touchpoint ('basket')" in hints[0]
    assert "journeys.conversion: no event 'baskets' in the samples. Did you mean 'basket'?" in hints[1]


def test_few_events_without_a_touchpoint_are_counted_and_none_are_not_told(tmp_path: Path) -> None:
    lines = [f"2025-03-01,page_home,c{n},1,x" for n in range(299)]
    opened = make_study(tmp_path, CSV, rows(*lines, "2025-03-01,basket,c1,1,x"))
    (line,) = check.hints(opened.config, opened.folder)
    assert line.startswith("stages: 1 of 300 events that were tried are on no touchpoint ('basket')")
    opened = make_study(tmp_path / "none", CSV, rows(*lines))
    assert check.hints(opened.config, opened.folder) == []


def test_columns_that_only_some_files_lack_are_told(tmp_path: Path) -> None:
    files = {"a.csv": HEADER + ROW, "b.csv": "at,event,who,note\n2025-03-01,page_home,c1,x\n"}
    result = found(tmp_path, CSV, files)
    assert len(result.problems) == 1
    assert "column 'value' is not in raw/b.csv." in result.problems[0]
    assert "add it to optional" in result.problems[0]
    assert found(tmp_path / "optional", CSV + 'optional = ["value"]\n', files).problems == []


def test_large_files_take_no_longer(tmp_path: Path) -> None:
    """A file of 150 MB is tried by its samples; the limit leaves room for a busy machine."""
    block = "".join(
        f"2025-03-{day:02d} 10:00:00,page_home,c{day}{number},5,hello\n"
        for day in range(1, 29)
        for number in range(999)
    )
    opened = make_study(tmp_path, CSV, {})
    with (tmp_path / "raw" / "a.csv").open("w") as out:
        out.write(HEADER)
        for _ in range(120):
            out.write(block)
    assert (tmp_path / "raw" / "a.csv").stat().st_size > 120e6
    began = time.monotonic()
    assert check.problems(opened.config, opened.folder) == []
    assert time.monotonic() - began < 6


def test_parquet_json_documents_and_gzip_are_tried(tmp_path: Path) -> None:
    records = [
        {"at": "2025-03-01", "event": "page_a", "who": f"c{n}", "value": 1, "note": "x" * 400} for n in range(9000)
    ]
    opened = make_study(tmp_path, CSV.replace("*.csv", "*.json") + 'records = "orders"\n', {})
    (tmp_path / "raw" / "a.json").write_text(json.dumps({"count": 9000, "orders": records}))
    result = check.examine(opened.config, opened.folder)
    assert result.problems == []
    assert 900 <= result.events["page_a"] <= 1100, "a sample of it"
    opened = make_study(tmp_path / "wrong", CSV.replace("*.csv", "*.json") + 'records = "items"\n', {})
    (tmp_path / "wrong" / "raw" / "a.json").write_text(json.dumps({"count": 9000, "orders": records}))
    assert "Set records = 'orders'." in check.problems(opened.config, opened.folder)[0]
    opened = make_study(tmp_path / "parquet", CSV.replace("*.csv", "*.parquet"), {})
    pd.DataFrame(records).to_parquet(tmp_path / "parquet" / "raw" / "a.parquet")
    assert check.examine(opened.config, opened.folder).events == {"page_a": 1000}


def test_a_query_is_tried_on_its_first_rows(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE log (at TEXT, event TEXT, who TEXT, value REAL, note TEXT)")
        rows_given = [(f"2025-03-{n % 28 + 1:02d}", "page_a", f"c{n}", 1.0, "x") for n in range(5000)]
        database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", rows_given)
    database.close()
    asked = f'database = "sqlite:///{tmp_path}/shop.db"\nquery = "SELECT * FROM log;"'
    result = found(tmp_path, CSV.replace('path = "raw/*.csv"', asked), {})
    assert result.problems == []
    assert result.events == {"page_a": 1000}
    result = found(tmp_path, CSV.replace('path = "raw/*.csv"', asked.replace("log;", "lgo")), {})
    assert len(result.problems) == 1
    assert "lgo" in result.problems[0]
