"""Profiles: rows that say which identifiers are one person, and are no events."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from journeykit import check, deliveries, engine, events, privacy, stops, study, volume
from journeykit.agreement import pairwise
from journeykit.errors import JourneyError
from journeykit.readings import deliveries as readings

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("JOURNEYKIT_SHARED_DATA", ROOT.parent / "shared" / "data")) / "identity_fake_1000"
PLAN = """
[study]
title = "Small"
as_of = "2026-01-01T00:00:00Z"

[identity]
identifiers = ["customer", "email", "phone"]
phones = ["phone"]
phone_region = "DE"
"""
EVENTS = """
[[sources]]
name = "shop"
path = "raw/shop*.csv"
time = { column = "at" }
event = "event"
identifiers = { customer = "who", email = "mail" }
"""
CRM = """
[[sources]]
name = "crm"
kind = "profiles"
path = "raw/crm*.csv"
identifiers = { phone = "tel", customer = "id", email = "mail" }
"""
MERGES = """
[[sources]]
name = "merges"
kind = "profiles"
path = "raw/merges*.csv"
time = { column = "merged" }
identifiers = { customer = "new_id" }
same_as = { customer = "merged_from_id" }
"""
SHOP = "at,event,who,mail\n2025-01-01,visit,c1,\n2025-01-02,order,c2,ada@example.com\n"
LINK = ["left_name", "left_token", "right_name", "right_token", "known_at", "rule", "confidence", "rows_n"]


def make(folder: Path, sources: str, **files: str) -> study.OpenStudy:
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    (folder / "journey.toml").write_text(PLAN + sources, encoding="utf-8")
    for name, text in files.items():
        (folder / "raw" / f"{name}.csv").write_text(text, encoding="utf-8")
    return study.open_study(str(folder))


def read(opened: study.OpenStudy, table: str) -> pd.DataFrame:
    return engine.fetch(opened.table(table))


def token(name: str, value: str) -> str:
    return privacy.token(name, value, privacy.key(study.ROOT), "phone:DE" if name == "phone" else "")


def said(links: pd.DataFrame, values: dict[str, str]) -> list[tuple[Any, ...]]:
    """The links with raw values instead of tokens: left, right, rule, rows_n."""
    raw = {token(name, value): value for value, name in values.items()}
    rows = links[["left_token", "right_token", "rule", "rows_n"]].itertuples(index=False)
    return sorted((raw[left], raw[right], rule, n) for left, right, rule, n in rows)


def account(opened: study.OpenStudy, source: str) -> dict[str, int]:
    files = read(opened, "files").set_index("source").loc[[source]]
    parts = ["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]
    assert (files[parts].sum(axis=1) == files["read_n"]).all()
    return {name: int(files[name].sum()) for name in ("read_n", *parts)}


def test_a_row_of_profiles_joins_its_most_trusted_identifier_with_each_other(tmp_path: Path) -> None:
    rows = [
        "id,mail,tel",
        "c1, Ada@Example.com ,0151 23456789",  # a star: not the mail with the number
        "c1,ada@example.com,",  # the same pair again
        "c1,ada@example.com,",  # a duplicate
        ",bob@example.com,+49 151 23456780",
        "c3,null,0000",  # one usable identifier
        "c4,,",
        ",,",  # a blank row of columns: nothing usable, but kept
    ]
    opened = make(tmp_path, EVENTS + CRM, shop=SHOP, crm="\n".join(rows) + "\n")
    events.ingest(opened)
    links = read(opened, "links")
    assert list(links.columns) == LINK
    names = {"c1": "customer", "ada@example.com": "email", "bob@example.com": "email"}
    names |= {"+4915123456789": "phone", "+4915123456780": "phone"}
    assert said(links, names) == [
        ("bob@example.com", "+4915123456780", "profile", 1),
        ("c1", "+4915123456789", "profile", 1),
        ("c1", "ada@example.com", "profile", 2),
    ]
    assert links["known_at"].isna().all()
    assert (links["confidence"] == 1).all()
    assert links.sort_values(LINK[:4], ignore_index=True).equals(links)
    assert account(opened, "crm") == {"read_n": 7, "kept_n": 6, "duplicate_n": 1, "quarantined_n": 0, "left_out_n": 0}
    assert read(opened, "events")["source"].unique().tolist() == ["shop"]
    assert len(read(opened, "events")) == 2
    blocked = read(opened, "blocked").set_index(["id_name", "value"])["rows_n"].to_dict()
    assert blocked == {("email", "null"): 1, ("phone", "0000"): 1}
    known = set(read(opened, "tokens")["id_token"])
    assert {token("phone", "0151 23456780"), token("customer", "c4")} <= known


def test_merges_of_the_source_join_two_values_from_when_they_were_known(tmp_path: Path) -> None:
    rows = [
        "new_id,merged_from_id,merged",
        "c1,c2,2025-03-01",
        "c2,c1,2025-02-01T12:00:00Z",  # the same pair, known before
        "c1,c1,2025-02-01",  # nothing new
        "c5,c6,",  # always known
        "c5,c6,2025-02-01",
        "c7,c8,yesterday",
        "c7,c8,2027-01-01",
        "c9,unknown,2025-01-01",
        ",c9,2025-01-01",
    ]
    opened = make(tmp_path, EVENTS + MERGES, shop=SHOP, merges="\n".join(rows) + "\n")
    events.ingest(opened)
    links = read(opened, "links")
    values = dict.fromkeys(["c1", "c2", "c5", "c6"], "customer")
    got = {tuple(sorted((a, b))): n for a, b, _, n in said(links, values)}
    assert got == {("c1", "c2"): 2, ("c5", "c6"): 2}
    assert set(links["rule"]) == {"merged in the source"}
    assert (links["left_token"] < links["right_token"]).all()
    of = links.set_index(links["left_token"].isin([token("customer", "c1"), token("customer", "c2")]))["known_at"]
    assert of[True] == pd.Timestamp("2025-02-01 12:00")
    assert pd.isna(of[False])
    reasons = read(opened, "quarantine")["reason"].tolist()
    assert sorted(reasons) == ["time cannot be read", "time lies in the future"]
    assert account(opened, "merges")["kept_n"] == 7
    assert {token("customer", f"c{n}") for n in (1, 2, 5, 6, 9)} <= set(read(opened, "tokens")["id_token"])


def test_the_second_value_stands_for_the_first_where_that_is_empty(tmp_path: Path) -> None:
    merges = MERGES.replace('{ customer = "new_id" }', '{ customer = "new_id", email = "mail" }')
    rows = "new_id,merged_from_id,mail,merged\n,c2,a@b.co,\nc3,c4,c@d.co,\n"
    opened = make(tmp_path, EVENTS + merges, shop=SHOP, merges=rows)
    events.ingest(opened)
    names = dict.fromkeys(["c2", "c3", "c4"], "customer") | dict.fromkeys(["a@b.co", "c@d.co"], "email")
    found = {(frozenset((a, b)), rule) for a, b, rule, _ in said(read(opened, "links"), names)}
    assert found == {
        (frozenset(("c2", "a@b.co")), "profile"),
        (frozenset(("c3", "c@d.co")), "profile"),
        (frozenset(("c3", "c4")), "merged in the source"),
    }


def test_whoever_is_to_be_forgotten_gives_no_link_and_no_trace(tmp_path: Path) -> None:
    opened = make(
        tmp_path,
        EVENTS + CRM + MERGES,
        shop=SHOP,
        crm="id,mail,tel\nc1,a@b.co,\nc2,b@b.co,\n",
        merges="new_id,merged_from_id,merged\nc3,c1,\nc4,c2,\n",
    )
    (tmp_path / "erase.csv").write_text("identifier,value\ncustomer,c1\n")
    events.ingest(opened)
    links = read(opened, "links")
    assert len(links) == 2
    gone = {token("customer", "c1"), token("email", "a@b.co"), token("customer", "c3")}
    for name in events.TABLES:
        text = read(opened, name).to_csv()
        assert not [one for one in gone if one in text]
    files = read(opened, "files").set_index("source")
    assert files["erased_n"].to_dict() == {"crm": 1, "merges": 1, "shop": 1}


def test_parts_of_profiles_hold_tokens_only(tmp_path: Path) -> None:
    merges = "new_id,merged_from_id,merged\ncustomer-1,customer-2,yesterday\ncustomer-1,customer-3,\n"
    opened = make(tmp_path, EVENTS + CRM + MERGES, shop=SHOP, crm="id,mail,tel\ncustomer-1,ada@b.co,\n", merges=merges)
    events.ingest(opened)
    for path in opened.derived.rglob("*"):
        assert not path.is_file() or not any(raw in path.read_bytes() for raw in (b"customer-", b"ada@"))
    record = json.loads(read(opened, "quarantine")["record"].iloc[0])
    assert record["merged_from_id"] == token("customer", "customer-2")


def test_links_do_not_depend_on_the_order_of_rows_or_files(tmp_path: Path) -> None:
    rows = [f"c{n % 7},m{n % 5}@b.co,0151 234567{n % 9}0" for n in range(60)]
    head = "id,mail,tel"
    one = make(tmp_path / "a", EVENTS + CRM, shop=SHOP, crm="\n".join([head, *rows]))
    two = make(
        tmp_path / "b",
        EVENTS + CRM,
        shop=SHOP,
        crm_9="\n".join([head, *rows[:20][::-1]]),
        crm_1="\n".join([head, *rows[20:]]),
    )
    events.ingest(one)
    events.ingest(two)
    pd.testing.assert_frame_equal(read(one, "links"), read(two, "links"))
    assert events.ingest(one) is False


def test_without_profiles_there_are_no_links(tmp_path: Path) -> None:
    opened = make(tmp_path, EVENTS, shop=SHOP)
    events.ingest(opened)
    links = read(opened, "links")
    assert links.empty
    assert list(links.columns) == LINK


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('kind = "profiles"\n', ""), "no event is named"),
        (('{ customer = "new_id" }', "{}"), "same_as.customer: identifiers has no 'customer'"),
        (('customer = "merged_from_id"', 'email = "mail"'), "same_as.email: identifiers has no 'email'"),
        (('same_as = { customer = "merged_from_id" }', 'emits = [{ event = "a", time = "b" }]'), "has no events"),
        (('identifiers = { customer = "new_id" }\nsame_as = { customer = "merged_from_id" }', ""), "needs identifiers"),
        (('kind = "profiles"\n', 'event = "x"\n'), 'same_as is for a source of profiles. Set kind = "profiles"'),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    with pytest.raises(JourneyError) as error:
        make(tmp_path, EVENTS + MERGES.replace(*change), shop=SHOP, merges="a\n")
    assert problem in str(error.value)


def test_profiles_are_neither_late_nor_silent_and_stop_no_run(tmp_path: Path) -> None:
    limits = '\n[stops]\nmax_age = "400d"\nmax_gap = "3d"\nmax_unmapped_share = 1.0\nmin_rows = 1\n'
    merges = MERGES + 'received = { column = "sent" }\n'
    rows = "new_id,merged_from_id,merged,sent\nc1,c2,2010-01-01,2025-01-01\nc3,c4,,2025-01-01\n"
    opened = make(tmp_path, limits + EVENTS + CRM + merges, shop=SHOP, crm="id,mail,tel\nc1,a@b.co,\n", merges=rows)
    events.ingest(opened)
    files, found = opened.table("files"), opened.table("events")
    checked = stops.check(opened.config, files, found)
    assert checked["held"].all()
    assert set(checked.loc[checked["source"] != "shop", "rule"]) == {"min_rows"}
    table = read(opened, "files")
    assert table.loc[table["source"] != "shop", ["first_at", "last_at"]].isna().all(axis=None)
    assert table["late_n"].sum() == 0
    fresh = deliveries.freshness(files, volume.silences(found), pd.Timestamp("2026-01-01"))
    assert fresh["source"].tolist() == ["shop"]
    assert set(volume.daily(found)["source"]) == {"shop"}
    assert deliveries.profiles(files, opened.config) == 3
    text = readings.accounting(deliveries.accounting(files), 2, 0, 3)
    assert "3 rows of profiles say who is who and are no events" in text
    assert deliveries.accounting(files)["balances"].all()


def test_a_limit_that_means_nothing_for_profiles_is_named(tmp_path: Path) -> None:
    crm = CRM + 'stops = { max_age = "7d", max_gap = "7d" }\n'
    opened = make(tmp_path, EVENTS + crm, shop=SHOP, crm="id,mail,tel\nc1,a@b.co,\n")
    events.ingest(opened)
    checked = stops.check(opened.config, opened.table("files"), opened.table("events"))
    assert checked["found"].tolist() == [
        "a source of profiles reaches to no time; remove the key",
        "a source of profiles has no events; remove the key",
    ]


def test_check_tries_profiles(tmp_path: Path) -> None:
    opened = make(tmp_path, EVENTS + CRM, shop=SHOP, crm="id,mail,tel\nc1,a@b.co,015123456789\n,,\n")
    assert check.problems(opened.config, tmp_path) == []
    (tmp_path / "raw" / "crm.csv").write_text("id,e_mail,tel\nc1,a@b.co,1\n")
    assert "column 'mail' is not in raw/crm.csv" in check.problems(opened.config, tmp_path)[0]
    (tmp_path / "raw" / "crm.csv").write_text("id,mail,tel\nc1,,\nc2,,\n")
    assert [line for line in check.hints(opened.config, tmp_path) if "sources.crm.identifiers.email" in line]


def groups(nodes: pd.Series, name: str, links: pd.DataFrame) -> np.ndarray[Any, Any]:
    """The component of each value of an identifier, by scipy."""
    ends = [(f"{side}_name", f"{side}_token") for side in ("left", "right")]
    keys = [links[a].astype(str) + ":" + links[b].astype(str) for a, b in ends]
    known = pd.Series([f"{name}:{token(name, value)}" for value in nodes])
    codes, every = pd.factorize(pd.concat([known, *keys], ignore_index=True))
    n, m = len(nodes), len(links)
    edges = (np.ones(m), (codes[n : n + m], codes[n + m :]))
    component: np.ndarray[Any, Any] = connected_components(coo_matrix(edges, shape=(len(every),) * 2), directed=False)[
        1
    ]
    return component[codes[:n]]


@pytest.mark.skipif(not DATA.exists(), reason=f"the public data set is not there ({DATA.name}/)")
@pytest.mark.parametrize("rule", ["rule_email", "rule_name_dob", "rule_email_or_name_dob"])
def test_people_of_the_public_data_are_those_of_its_reference(tmp_path: Path, rule: str) -> None:
    fields = {"email": '"email"', "name_dob": '{ template = "{first_name}|{surname}|{dob}" }'}
    used = [name for name in fields if name in rule]
    assert used
    mapping = ", ".join(f"{name} = {fields[name]}" for name in used)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "fake.csv.gz").symlink_to(DATA / "fake_1000.csv.gz")
    (tmp_path / "journey.toml").write_text(
        '[study]\ntitle = "People"\n[identity]\nblocked_patterns = []\n'
        f'identifiers = ["record", {", ".join(json.dumps(name) for name in used)}]\n'
        '[[sources]]\nname = "people"\nkind = "profiles"\npath = "raw/fake.csv.gz"\n'
        f'identifiers = {{ record = "unique_id", {mapping} }}\n'
    )
    opened = study.open_study(str(tmp_path))
    events.ingest(opened)
    records = pd.read_csv(DATA / "fake_1000.csv.gz", dtype={"unique_id": str})
    found = groups(records["unique_id"], "record", read(opened, "links"))
    reference = json.loads((DATA / "expected.json").read_text())["figures"][rule]["value"]
    precision, recall = pairwise(found, records["cluster"])
    assert (precision, recall) == (pytest.approx(reference["precision"]), pytest.approx(reference["recall"]))
    assert 2 * precision * recall / (precision + recall) == pytest.approx(reference["f1"])
    assert len(set(found)) == reference["predicted_clusters"]
    assert records["cluster"].nunique() == reference["true_clusters"]
