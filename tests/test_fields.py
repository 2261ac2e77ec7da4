"""Fields of journey.toml, from columns to lookups, and paths into nested data, on small files."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from journeykit import events
from journeykit.config_fields import Field, template_parts
from journeykit.documents import Document, steps
from journeykit.errors import JourneyError
from tests.test_events import make_study, read

SOURCE = """
[[sources]]
name = "s"
path = "raw/*"
time = { column = "at" }
event = "event"
identifiers = { customer = "who" }
"""
ROWS = "at,event,who,first,last,n,price,kind\n2025-01-01,buy,c1,Ada,Lovelace,3,1.5,7\n2025-01-02,buy,c2,Alan,,2,2,8\n"


def column(folder: Path, keys: str, name: str, rows: str = ROWS, file: str = "a.csv") -> list[object]:
    opened = make_study(folder, SOURCE + keys, {file: rows})
    events.ingest(opened)
    found = read(opened, "events").sort_values("timestamp")[name]
    return found.astype(object).where(found.notna(), None).tolist()


@pytest.mark.parametrize(
    ("keys", "name", "expected"),
    [
        ('channel = "kind"', "channel", ["7", "8"]),
        ('channel = { constant = "web" }', "channel", ["web", "web"]),
        ('team = { template = "{first} {last}" }', "team", ["Ada Lovelace", None]),
        ('team = { template = "{{{first}}}" }', "team", ["{Ada}", "{Alan}"]),
        ('value = { expression = "n * price" }', "value", [4.5, 4.0]),
        ('team = { column = "kind", lookup = { "7" = "Returns" } }', "team", ["Returns", None]),
        ('team = { column = "kind", lookup = { "7" = "Returns" }, keep_unknown = true }', "team", ["Returns", "8"]),
        ('team = { expression = "number(kind) + 1", lookup = { "9" = "nine" } }', "team", [None, "nine"]),
        ('properties = ["n"]', "properties", ['{"n":"3"}', '{"n":"2"}']),
        ('properties = { units = "n" }', "properties", ['{"units":"3"}', '{"units":"2"}']),
        ('segments = { full = { expression = "last is not None" } }', "segment_full", ["true", "false"]),
    ],
)
def test_fields(tmp_path: Path, keys: str, name: str, expected: list[object]) -> None:
    assert column(tmp_path, keys, name) == expected


def test_a_lookup_in_a_file_takes_the_first_row_of_a_key(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "teams.csv").write_text("id;team\n7;Returns\n7;Other\n;Nobody\n")
    keys = 'team = { column = "kind", lookup = { path = "teams.csv", key = "id", value = "team" } }'
    with pytest.raises(JourneyError, match=r"lookup in teams\.csv: column 'id' is not in the file.*separated by ';'"):
        column(tmp_path, keys, "team")
    (tmp_path / "teams.csv").write_text("id,team\n7,Returns\n7,Other\n,Nobody\n")
    assert column(tmp_path, keys, "team") == ["Returns", None]
    (tmp_path / "teams.csv").write_text("id,team\n8,Sales\n")  # a changed lookup is read again
    assert column(tmp_path, keys, "team") == [None, "Sales"]


RULES = """
rules = [
    { match = "view_*", to = "view" },
    { regex = "^/p/(\\\\d+).*", to = 'product \\1' },
    { match = "*", to = "other" },
]
"""


def test_rules_clean_names_in_order(tmp_path: Path) -> None:
    names = ["view_item", "/p/17?x=1", "a [b]", "view_"]
    rows = "at,event,who\n" + "".join(f"2025-01-0{n},{name},c1\n" for n, name in enumerate(names, start=1))
    assert column(tmp_path, RULES, "event", rows) == ["view", "product 17", "other", "view"]


def test_a_bracket_in_a_wildcard_is_a_bracket(tmp_path: Path) -> None:
    rows = "at,event,who\n2025-01-01,a [b] c,c1\n2025-01-02,a b c,c1\n"
    assert column(tmp_path, 'rules = [{ match = "a [b]*", to = "x" }]', "event", rows) == ["x", "a b c"]


DOCUMENT = {
    "at": "2025-01-01",
    "event": "e",
    "who": "c1",
    "device": {"category": "mobile"},
    "params": [{"key": "page", "value": {"string_value": "/a"}}, {"key": "n", "value": {"int_value": 7}}],
    "answers": [{"field": {"ref": "why"}, "text": "so"}, {"field": {"ref": "nps"}, "number": 9}],
    "packed": json.dumps({"plan": {"name": "pro"}, "$id": 5}),
}
PATHS = [
    ("device.category", "mobile"),
    ("params[page]", "/a"),
    ("params[n]", "7"),
    ("params[none]", None),
    ("answers[field.ref=nps].number", "9"),
    ("answers[field.ref=why].text", "so"),
    ("json(packed).plan.name", "pro"),
    ("json(packed).$id", "5"),
    ("device.none.deeper", None),
]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_paths_into_nested_data_are_the_same_in_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    opened = make_study(tmp_path, "\n" + SOURCE + "segments = {" + segments() + "}\n", {})
    path = tmp_path / "raw" / f"a.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(DOCUMENT) + "\n")
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([DOCUMENT]), path)
    else:
        flat = {name: json.dumps(part) if isinstance(part, dict | list) else part for name, part in DOCUMENT.items()}
        pd.DataFrame([flat]).to_csv(path, index=False)
    events.ingest(opened)
    row = read(opened, "events").iloc[0]
    assert [row[f"segment_p{n}"] for n in range(len(PATHS))] == [expected for _, expected in PATHS]


def segments() -> str:
    return ", ".join(f'p{n} = "{path}"' for n, (path, _) in enumerate(PATHS))


@pytest.mark.parametrize("path", ["a[", "a[b", "a]b", "a..b", "[x]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(JourneyError, match="is not a path"):
        steps(path)


def test_one_text_is_parsed_once_unless_paths_contradict_each_other() -> None:
    document = Document("line", "doc")
    for path in ("a.b", "a.c", "d", "l[k]", "l[m]"):
        document.take(path)
    assert len(document.structures) == 1
    document.take("a")
    assert len(document.structures) == 2


def test_fields_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        Field(column="a", constant="b")
    with pytest.raises(ValueError, match="lookup needs the value"):
        Field(lookup={"a": "b"})
    with pytest.raises(ValueError, match="is not balanced"):
        Field(template="{a")
    with pytest.raises(ValueError, match="braces hold a column"):
        template_parts("{a:>5}")
    with pytest.raises(ValueError, match="braces hold a column"):
        template_parts("{}")


def test_where_and_where_not(tmp_path: Path) -> None:
    rows = "at,event,who,tag\n" + "".join(
        f"2025-01-0{n},e{n},c1,{tag}\n" for n, tag in enumerate(["Test", "vip test x", "", "other"], start=1)
    )
    assert column(tmp_path / "a", 'where = { tag = "test" }', "event", rows) == ["e1"]
    assert column(tmp_path / "b", 'where = { tag = ["*test*", "other"] }', "event", rows) == ["e1", "e2", "e4"]
    assert column(tmp_path / "c", 'where_not = { tag = "*test*" }', "event", rows) == ["e3", "e4"]
    assert column(tmp_path / "d", "where = { tag = [] }\nwhere_not = { tag = [] }", "event", rows) == [
        "e1", "e2", "e3", "e4",
    ]  # fmt: skip


def test_optional_columns_may_be_missing_and_others_not(tmp_path: Path) -> None:
    assert column(tmp_path, 'team = "team"\noptional = ["team"]', "team") == [None, None]
    with pytest.raises(JourneyError, match="column 'team' is not in the file"):
        column(tmp_path, 'team = "team"', "team")


def test_a_draft_is_skipped_where_the_final_file_is_there(tmp_path: Path) -> None:
    head = "at,event,who\n"
    files = {
        "events_intraday_0101.csv": head + "2025-01-01,draft,c1\n",
        "events_0101.csv": head + "2025-01-01,final,c1\n",
        "events_intraday_0102.csv": head + "2025-01-02,draft,c1\n",
    }
    opened = make_study(tmp_path, SOURCE + 'drafts = { "intraday_" = "" }', files)
    events.ingest(opened)
    assert read(opened, "events")["event"].tolist() == ["final", "draft"]
    listed = read(opened, "files").set_index("file")
    assert listed.loc["raw/events_intraday_0101.csv", "read_n"] == 0
    assert "draft of raw/events_0101.csv" in listed.loc["raw/events_intraday_0101.csv", "note"]


def test_somebody_who_is_to_be_forgotten_is_gone_from_every_table(tmp_path: Path) -> None:
    rows = "at,event,who\n2025-01-01,e,c1\nnever,e,c1\n2025-01-02,e,c2\n"
    opened = make_study(tmp_path, SOURCE, {"a.csv": rows})
    events.ingest(opened)
    token = read(opened, "events")["id_customer"].iloc[0]
    (tmp_path / "erase.csv").write_text("identifier,value\ncustomer,c1\n")
    assert events.ingest(opened)
    assert len(read(opened, "events")) == 1
    files = read(opened, "files").iloc[0]
    assert (files["read_n"], files["kept_n"], files["left_out_n"], files["erased_n"]) == (3, 1, 2, 2)
    assert read(opened, "quarantine").empty
    for path in opened.derived.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


ONCE = '\nonce_per = "o"\nvalue = "v"\n'


@pytest.mark.parametrize(
    ("rows", "kept", "quarantined", "left_out", "values"),
    [
        (["never,x,c1,o1,2", "2025-01-05,x,c1,o1,4"], 2, 0, 0, [4]),  # the first that is sound stands for all
        (["2025-01-01,x,c1,o1,-5", "2025-01-02,x,c1,o1,6", "2025-01-02,x,c1,o1,7"], 3, 0, 0, [6]),
        (["2025-01-01,test,c1,o1,5", "2025-01-01,x,c1,o1,6"], 0, 0, 2, []),  # what is left out takes all along
        (["2025-01-01,x,c1,o1,5", "2025-01-01,x,,o1,6", "2025-01-02,x,c2,o2,7"], 3, 0, 0, [5, 7]),
        (["never,x,c1,o1,2", "never,x,c1,o1,4"], 0, 2, 0, []),
    ],
)
def test_of_a_record_of_several_rows_the_first_sound_one_is_used(
    tmp_path: Path, rows: list[str], kept: int, quarantined: int, left_out: int, values: list[float]
) -> None:
    text = "\n".join(["at,event,who,o,v", *rows, "2025-02-01,other,c9,o9,1"]) + "\n"
    opened = make_study(tmp_path, SOURCE + ONCE + 'where_not = { event = "test" }', {"a.csv": text})
    events.ingest(opened)
    files = read(opened, "files").iloc[0]
    found = read(opened, "events").query("event != 'other'")["value"].tolist()
    assert (files["kept_n"] - 1, files["quarantined_n"], files["left_out_n"], found) == (
        kept, quarantined, left_out, values,
    )  # fmt: skip


def test_a_second_mapping_in_one_process_conceals_its_own_columns(tmp_path: Path) -> None:
    rows = "at,event,who,other\nnever,e,c1,AB-88888\n2025-01-01,e,c2,\n"
    opened = make_study(
        tmp_path, SOURCE.replace('"who" }', '"who", email = "note" }') + 'optional = ["note"]', {"a.csv": rows}
    )
    events.ingest(opened)
    opened = make_study(tmp_path, SOURCE.replace('"who" }', '"who", email = "other" }'), {"a.csv": rows})
    events.ingest(opened)
    assert "AB-88888" not in read(opened, "quarantine")["record"].iloc[0]


def test_a_row_whose_columns_have_shifted_shows_nobody(tmp_path: Path) -> None:
    rows = "at,event,who,v\n+49 170 1234567,e,c1,1\n2025-01-01,e,,CUST-00001\n2025-01-02,e,c1,1\n"
    opened = make_study(tmp_path, SOURCE + 'value = "v"', {"a.csv": rows})
    events.ingest(opened)
    kept = " ".join(read(opened, "quarantine")["record"])
    assert "1234567" not in kept
    assert "CUST" not in kept
    assert '"2025-01-01"' in kept


def test_odd_blanks_make_no_identifier(tmp_path: Path) -> None:
    rows = "at,event,who\n" + "".join(
        f"2025-01-01,e{n},{who}\n" for n, who in enumerate(["\u00a0", "\t", "null\u00a0", "c1\u3000"])
    )
    opened = make_study(tmp_path, SOURCE, {"a.csv": rows})
    events.ingest(opened)
    assert read(opened, "events")["event"].tolist() == ["e3"]


def test_damaged_tables_and_parts_are_made_anew(tmp_path: Path) -> None:
    opened = make_study(tmp_path, SOURCE, {"a.csv": ROWS})
    events.ingest(opened)
    for path in [*opened.derived.glob("*.parquet"), *opened.derived.glob("parts/*/*.parquet")]:
        path.write_bytes(path.read_bytes()[:100])
    assert events.ingest(opened)
    assert len(read(opened, "events")) == 2


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("header_rows = 0", "Name the columns"),
        ('delimiter = "tab"', "Give one character"),
        ('quote = "QQ"', "Give one character"),
        ('team = { column = "who", lookup = { path = "x.csv", key = "a", vale = "b" } }', "vale"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(tmp_path: Path, keys: str, said: str) -> None:
    with pytest.raises(JourneyError, match=said):
        make_study(tmp_path, SOURCE + keys, {"a.csv": ROWS})
