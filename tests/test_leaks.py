"""The last look: a raw identifier of the input is found wherever it stands, and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from journeykit import engine, leaks, privacy, study
from journeykit.run import record

PLAN = """
[study]
title = "Small"

[[sources]]
name = "shop"
path = "raw/*.csv"
time = { column = "at" }
event = "event"
identifiers = { customer = "who" }

[identity]
identifiers = ["customer", "email", "phone", "device", "order"]
phones = ["phone"]
phone_region = "DE"

[[stages]]
name = "self.service"
touchpoints = { Page = "page_*" }
"""
KNOWN = {
    "customer": ["c-100011", "adalovelace", "123456789", "17", "self.service", "Ada King", "auth0|5f7c8ec7"],
    "email": ["ada.lovelace@example.com", "o'brien@example.ie"],
    "phone": ["+49 170 1234567"],
    "device": ["1006633306.1736419048", "f348bbc917336c72"],
    "order": ["#10001", "LS-200417"],
}


def make_study(folder: Path, table: str = "tokens") -> study.OpenStudy:
    (folder / "derived").mkdir(parents=True)
    (folder / "journey.toml").write_text(PLAN, encoding="utf-8")
    opened = study.open_study(str(folder))
    secret, identity = privacy.key(study.ROOT), opened.config.identity
    rows = [
        (name, privacy.token(name, value, secret, privacy.rule(identity, name)))
        for name, values in KNOWN.items()
        for value in values
    ]
    tokens = pd.DataFrame(rows, columns=["id_name", "id_token"])
    if table == "events":
        tokens = pd.DataFrame({f"id_{name}": part["id_token"] for name, part in tokens.groupby("id_name")})
    engine.write_parquet(tokens, opened.path(table))
    return opened


def scan(opened: study.OpenStudy, folder: Path, name: str, text: str) -> list[leaks.Leak]:
    folder.mkdir(exist_ok=True)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return leaks.scan(opened, folder)


MAIL = "ada.lovelace@example.com"
NOTEBOOK = {
    "cells": [
        {"outputs": [{"data": {"text/html": ['<td title="x">Ada</td>\n<td>%s</td>'], "text/plain": "one\n%s\ttwo"}}]},
    ]
}
PLANTED = [
    ("index.html", f"<p>Write to <b>{MAIL}</b>.</p>", "email"),
    ("index.html", "<td>ADA.Lovelace@Example.com</td>", "email"),
    ("index.html", "<td>ada.lovelace&#64;example.com</td>", "email"),
    ("index.html", "<td>ada.lovelace&#x40;example&period;com</td>", "email"),
    ("index.html", "<td>ada&#46;lovelace&commat;example.com</td>", "email"),
    ("index.html", '<a href="mailto:ada.lovelace%40example.com?subject=x">write</a>', "email"),
    ("index.html", '<a href="https://x.example/?mail=ada%2Elovelace%40example%2Ecom&a=b">x</a>', "email"),
    ("index.html", "<p>o&#39;brien@example.ie</p>", "email"),
    ("index.html", '<script>{"a": "one\\nada.lovelace\\u0040example.com\\n"}</script>', "email"),
    ("index.html", "ada.lovelace=40example.com", "email"),
    ("index.html", "&amp;lt;td&amp;gt;ada.lovelace&amp;#64;example.com", "email"),
    ("index.html", "ada&amp;#46;lovelace&amp;#64;example.com", "email"),
    ("index.html", '<text x="1">call 0170/1234567 now</text>', "phone"),
    ("index.html", "<p>call +49 (0)170 123-4567</p>", "phone"),
    ("index.html", "<p>tel:00491701234567</p>", "phone"),
    ("index.html", "<p>order LS-200417, and more</p>", "order"),
    ("index.html", '<p data-order="LS-200417">', "order"),
    ("index.html", "<p>order #10001</p>", "order"),
    ("index.html", '<path d="M 0 0 L 1 1" data-x="1006633306.1736419048"/>', "device"),
    ("tables/a.csv", f"who,n\n{MAIL},1\n", "email"),
    ("tables/a.csv", "who,n\nx,1\nc-100011,2\n", "customer"),
    ("tables/a.csv", 'who,n\n"Ada King",2\n', "customer"),
    ("tables/a.csv", "who,n\nauth0|5f7c8ec7,2\n", "customer"),
    ("tables/a.csv", "phone\n+49 170 1234567\n", "phone"),
    ("tables/a.csv", "n\n123456789\n", "customer"),
    ("findings/a.json", json.dumps({"statement": f"buyer {MAIL}, most"}), "email"),
    ("findings/a.json", json.dumps({"statement": "of customers_123456789_x"}), "customer"),
    ("findings/a.json", '{"statement": "ada.lovelace\\u0040example.com"}', "email"),
    ("findings/a.json", '{"who": 123456789}', "customer"),
    ("notebooks/a.ipynb", json.dumps(NOTEBOOK) % (MAIL, "x"), "email"),
    ("notebooks/a.ipynb", json.dumps(NOTEBOOK) % ("x", MAIL), "email"),
    ("notebooks/a.ipynb", json.dumps(NOTEBOOK) % ("ada.lovelace&#64;example.com", "x"), "email"),
    ("notebooks/a.ipynb", json.dumps(NOTEBOOK) % ("x", "LS-200417"), "order"),
    ("notebooks/a.ipynb", json.dumps(NOTEBOOK) % ("x", "0170 1234567"), "phone"),
    ("picture.svg", "<svg><title>f348bbc917336c72</title></svg>", "device"),
    ("tables/orders_LS-200417.csv", "n\n1\n", "order"),
    ("tables/b.csv", f"file,n\nraw/{MAIL}.csv.gz,1\n", "email"),
    ("tables/customer_c-100011_orders.csv", "n\n1\n", "customer"),
]


def test_a_planted_identifier_is_found_in_its_file(tmp_path: Path) -> None:
    opened, run = make_study(tmp_path / "small"), tmp_path / "run"
    expected = {}
    for number, (name, text, identifier) in enumerate(PLANTED):
        path = run / str(number) / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        expected[f"{number}/{name}"] = identifier
    assert {leak.file: leak.identifier for leak in leaks.scan(opened, run)} == expected


@pytest.mark.parametrize(
    ("column", "value", "identifier"),
    [
        ("comment", f"please answer {MAIL}!", "email"),
        ("properties", '{"page":"/me?mail=ada.lovelace%40example.com"}', "email"),
        ("properties", '["LS-200417"]', "order"),
        ("properties", '{"a": {"b": ["LS-200417"]}}', "order"),
        ("properties", "{no JSON LS-200417", "order"),
        ("event", "paid LS-200417", "order"),
        ("id_customer", "c-100011", "customer"),  # a raw value where a token should be
        ("event_id", "0-LS-200417", None),  # not a value by itself: the value is LS-200417
        ("event_id", "LS-200417", "order"),
    ],
)
def test_tables_are_searched(tmp_path: Path, column: str, value: str, identifier: str | None) -> None:
    opened = make_study(tmp_path / "small")
    engine.write_parquet(pd.DataFrame({"n": [1, 2], column: [None, value]}), opened.path("events"))
    (tmp_path / "run").mkdir()
    found = [(leak.file, leak.identifier) for leak in leaks.scan(opened, tmp_path / "run")]
    assert found == ([(f"derived/events.parquet ({column})", identifier)] if identifier else [])


def test_everything_below_derived_is_searched(tmp_path: Path) -> None:
    opened, run = make_study(tmp_path / "small"), tmp_path / "run"
    run.mkdir()
    engine.write_parquet(pd.DataFrame({"team": ["LS-200417"]}), opened.derived / "parts" / "shop" / "a.parquet")
    (opened.derived / "chapters").mkdir()
    (opened.derived / "chapters" / "a.csv").write_text(f"who\n{MAIL}\n")
    for _ in range(2):
        assert [leak.file for leak in leaks.scan(opened, run)] == [
            "derived/chapters/a.csv",
            "derived/parts/shop/a.parquet (team)",
        ]


def test_a_table_is_searched_again_when_it_or_what_is_sought_has_changed(tmp_path: Path) -> None:
    opened, run = make_study(tmp_path / "small"), tmp_path / "run"
    run.mkdir()

    def found(*comments: str) -> list[str]:
        if comments:
            engine.write_parquet(pd.DataFrame({"comment": list(comments)}), opened.path("touches"))
        return [leak.identifier for leak in leaks.scan(opened, run)]

    assert found("clean, grace@example.com") == []
    assert found() == []
    noted = (opened.derived / leaks.CLEAN).read_text()
    assert "touches.parquet" in noted
    (opened.folder / "erase.csv").write_text("identifier,value\nemail,grace@example.com\n")
    assert found() == ["email"]
    assert found() == ["email"]  # what is not clean is never noted as clean
    (opened.folder / "erase.csv").unlink()
    assert found() == []
    assert found(f"ask {MAIL}") == ["email"]
    (opened.derived / leaks.CLEAN).write_text("[broken")
    assert found() == ["email"]


def test_a_clean_table_is_not_searched_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit import search

    opened, run = make_study(tmp_path / "small"), tmp_path / "run"
    engine.write_parquet(pd.DataFrame({"comment": ["clean"]}), opened.path("touches"))
    run.mkdir()
    asked: list[str] = []
    columns = search._columns
    monkeypatch.setattr(search, "_columns", lambda path, *more: asked.append(path.name) or columns(path, *more))
    leaks.scan(opened, run)
    leaks.scan(opened, run)
    assert asked == ["tokens.parquet", "touches.parquet"]


CLEAN = """
<style>p {color: #100010; background: #f348bb}</style><path d="M 123456789 1 L 17 17"/> 17 people, 10001 orders,
0.123456789 share, 1.123456789 more, 12.1234567891e-5, <img src="data:image/png;base64,BASE64"> 2025-01-06T10:00:00Z
self.service, adalovelaces and ada lovelace, xada.lovelace@example.com, ada.lovelace@example.com.au, ls-200417, C-100011
"""


def test_what_only_looks_alike_is_no_leak(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small")
    text = CLEAN.replace("BASE64", "A1" * 60 + "/c/100011/123456789/" + "B2" * 60)
    assert scan(opened, tmp_path / "run", "index.html", text) == []
    # Also what is made here: the tokens, and the table of them.
    token = privacy.token("customer", "c-100011", privacy.key(study.ROOT))
    assert scan(opened, tmp_path / "run", "tables/a.csv", f"token\n{token}\n") == []


def test_the_limits_are_as_documented(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small")
    assert scan(opened, tmp_path / "run", "a.csv", "who\nadalovelace\n17\n") == []  # letters alone; too short
    assert scan(opened, tmp_path / "run", "a.csv", "said,n\nthen Ada King came,1\n") == []  # blanks, inside a sentence


def test_without_a_table_of_tokens_those_of_the_events_are_looked_for(tmp_path: Path) -> None:
    found = scan(make_study(tmp_path / "small", "events"), tmp_path / "run", "a.csv", f"x\n{MAIL}\n")
    assert [leak.identifier for leak in found] == ["email"]


def test_without_any_tokens_only_the_erased_are_looked_for(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small")
    opened.path("tokens").unlink()
    assert scan(opened, tmp_path / "run", "a.csv", f"x\n{MAIL}\n") == []
    (opened.folder / "erase.csv").write_text(f"identifier,value\nemail,{MAIL}\n")
    assert [leak.identifier for leak in leaks.scan(opened, tmp_path / "run")] == ["email"]


def test_the_message_names_file_and_identifier_and_never_the_value(tmp_path: Path) -> None:
    found = scan(make_study(tmp_path / "small"), tmp_path / "run", "tables/a.csv", f"who\n{MAIL}\n0170 1234567\n")
    said = leaks.refusal(found, "reports/small/2025")
    assert 'tables/a.csv: email "a…" (24 characters)' in said
    assert "Delete reports/small/2025" in said
    assert "lovelace" not in said
    assert "1234567" not in said


def test_binary_files_links_and_broken_text_do_not_stop_the_scan(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small")
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "outside.csv").write_text(MAIL)
    (run / "link.csv").symlink_to(tmp_path / "outside.csv")
    (run / "picture.png").write_bytes(b"\x89PNG\0" + MAIL.encode())
    (run / "latin.csv").write_bytes("Grüße\n".encode("latin-1"))
    (run / "empty.csv").write_bytes(b"")
    assert leaks.scan(opened, run) == []
    (run / "latin.csv").write_bytes(f"Grüße\n{MAIL}\n".encode("latin-1"))
    assert [leak.file for leak in leaks.scan(opened, run)] == ["latin.csv"]


def test_a_file_larger_than_a_piece_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit import search

    monkeypatch.setattr(search, "PIECE", 1000)
    text = "".join(f"<p>line {number}</p>\n" for number in range(1000)) + MAIL
    found = scan(make_study(tmp_path / "small"), tmp_path / "run", "index.html", text)
    assert [leak.file for leak in found] == ["index.html"]


def test_the_report_of_the_bundled_study_is_clean_but_for_an_order_that_is_planted(
    laptop_store: Path, tmp_path: Path
) -> None:
    opened = study.open_study("laptop_store")
    run = tmp_path / "run"
    shutil.copytree(laptop_store, run)
    order = (opened.folder / "raw" / "delivery" / "carrier.csv").read_text().splitlines()[1].split(",")[0]
    record.write_json(run / "findings" / "planted.json", {"findings": [{"statement": f"late: {order}"}]})
    assert [str(leak) for leak in leaks.scan(opened, run)] == [
        f'findings/planted.json: order "{order[0]}…" ({len(order)} characters)'
    ]
