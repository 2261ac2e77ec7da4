"""Profiles without a common identifier: found by how alike they are, measured on people whose identity is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journeykit import check, engine, events, linking, study
from journeykit.agreement import b_cubed, pairwise
from journeykit.config_sources import Similar
from journeykit.errors import JourneyError
from tests.test_profiles import DATA, LINK, groups, read, token

pytest.importorskip("splink")

real = pytest.mark.skipif(not DATA.exists(), reason=f"the public data set is not there ({DATA.name}/)")
PLAN = """
[study]
title = "People"

[identity]
identifiers = ["record", "email"]

[[sources]]
name = "crm"
kind = "profiles"
path = "raw/*.csv"
identifiers = { record = "unique_id" }
"""
SIMILAR = """
[sources.similar]
compare = { first_name = "name", surname = "name", dob = "date", city = "text", email = "email" }
block_on = [["first_name", "surname"], "email", ["dob"], ["first_name", "city"], ["surname", "city"]]
"""


def make(folder: Path, files: Sequence[pd.DataFrame], plan: str = PLAN + SIMILAR) -> study.OpenStudy:
    (folder / "raw").mkdir(parents=True)
    (folder / "journey.toml").write_text(plan)
    for number, table in enumerate(files):
        table.to_csv(folder / "raw" / f"{number}.csv", index=False)
    return study.open_study(str(folder))


def people(n: int) -> pd.DataFrame:
    """Two records of each of n made-up people; in the second a letter of the surname is another."""
    rng = np.random.default_rng(1)
    letters = np.array(list("abcdefghiklmnoprstuvw"))
    words = ["".join(rng.choice(letters, 7)) for _ in range(2 * n)]
    born = [f"19{rng.integers(40, 99)}-{rng.integers(1, 12):02d}-{rng.integers(1, 28):02d}" for _ in range(n)]
    one = pd.DataFrame({"first_name": words[:n], "surname": words[n:], "dob": born})
    other = one.assign(surname=[f"{word[:3]}x{word[4:]}" for word in one["surname"]])
    both = pd.concat([one, other], ignore_index=True).assign(city="Bath", email="")
    return both.assign(unique_id=[f"r{number}" for number in range(2 * n)], person=[*range(n), *range(n)])


@pytest.fixture(scope="module")
def fake() -> pd.DataFrame:
    return pd.read_csv(DATA / "fake_1000.csv.gz", dtype=str)


@pytest.fixture(scope="module")
def linked(fake: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> study.OpenStudy:
    opened = make(tmp_path_factory.mktemp("linked") / "study", [fake.drop(columns="cluster")])
    events.ingest(opened)
    return opened


@real
def test_similar_records_are_the_true_people(linked: study.OpenStudy, fake: pd.DataFrame) -> None:
    links = read(linked, "links")
    assert list(links.columns) == LINK
    assert set(links["rule"]) == {"similar profile"}
    assert links["confidence"].between(0.95, 1).all()
    person = groups(fake["unique_id"], "record", links)
    pairs, cubed = pairwise(person, fake["cluster"]), b_cubed(person, fake["cluster"])
    # By equal e-mail addresses the recall of pairs is 0.336.
    assert pairs.precision >= 0.99
    assert 0.75 <= pairs.recall <= 0.85
    assert cubed.precision >= 0.99
    assert 0.79 <= cubed.recall <= 0.88


@real
def test_no_attribute_is_written(linked: study.OpenStudy, fake: pd.DataFrame) -> None:
    words = {
        word.encode() for name in ("first_name", "surname", "city") for word in fake[name].dropna() if len(word) > 5
    }
    mails = {word.encode() for word in fake["email"].dropna()}
    assert len(words) > 200
    for path in linked.derived.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [word for word in words | mails if word in content], path.name
    assert not read(linked, "tokens").empty


@real
def test_the_order_of_rows_and_files_changes_no_link(
    linked: study.OpenStudy, fake: pd.DataFrame, tmp_path: Path
) -> None:
    mixed = fake.sample(frac=1, random_state=5)
    # A day later the same records are exported once more.
    opened = make(tmp_path / "mixed", [mixed.iloc[700:], mixed.iloc[:700], fake.assign(exported="2025-01-02")])
    events.ingest(opened)
    columns = [*LINK[:7]]
    pd.testing.assert_frame_equal(read(linked, "links")[columns], read(opened, "links")[columns])


@real
def test_a_lower_threshold_joins_more_and_errs_more(linked: study.OpenStudy, fake: pd.DataFrame) -> None:
    assert linked.config.sources[0].similar
    found = {}
    for threshold in (0.5, 0.95, 0.99):
        plan = linked.config.sources[0].similar.model_copy(update={"threshold": threshold})
        pairs = linking.match(fake, plan)
        assert (pairs["left"] < pairs["right"]).all()
        true = fake["cluster"].to_numpy()[pairs["left"]] == fake["cluster"].to_numpy()[pairs["right"]]
        found[threshold] = (len(pairs), true.mean(), (1 - pairs["probability"]).mean(), (~true).mean())
    assert found[0.5][0] > found[0.95][0] > found[0.99][0]
    assert found[0.5][1] <= found[0.95][1] <= found[0.99][1]


def test_misspelt_people_are_found_from_when_both_records_were_known(tmp_path: Path) -> None:
    table = people(150).assign(since=["2025-01-01"] * 150 + ["2025-02-01"] * 149 + [""])
    plan = PLAN + 'time = { column = "since" }\n' + SIMILAR
    opened = make(tmp_path, [table], plan)
    events.ingest(opened)
    links = read(opened, "links")
    person = groups(table["unique_id"], "record", links)
    assert pairwise(person, table["person"]).precision == 1
    assert pairwise(person, table["person"]).recall > 0.95
    last = token("record", "r299")
    of_last = links["left_token"].eq(last) | links["right_token"].eq(last)
    assert links.loc[of_last, "known_at"].eq(pd.Timestamp("2025-01-01")).all()
    assert links.loc[~of_last, "known_at"].eq(pd.Timestamp("2025-02-01")).all()


def test_columns_may_lie_deep_in_json(tmp_path: Path) -> None:
    table = people(80)
    plan = PLAN.replace("*.csv", "*.jsonl") + SIMILAR.replace("first_name =", '"who.first" =')
    (tmp_path / "raw").mkdir()
    (tmp_path / "journey.toml").write_text(plan.replace('"first_name"', '"who.first"'))
    rows = [json.dumps({**row, "who": {"first": row.pop("first_name")}}) for row in table.to_dict("records")]
    (tmp_path / "raw" / "a.jsonl").write_text("\n".join(["", *rows[:40], "{broken", *rows[40:]]))
    opened = study.open_study(str(tmp_path))
    events.ingest(opened)
    person = groups(table["unique_id"], "record", read(opened, "links"))
    assert pairwise(person, table["person"]).precision == 1
    assert pairwise(person, table["person"]).recall > 0.9


def test_a_change_of_similar_reads_no_raw_row_anew_into_parts(tmp_path: Path) -> None:
    opened = make(tmp_path, [people(20)])
    events.ingest(opened)
    before = {path: path.stat().st_mtime_ns for path in (opened.derived / "parts").rglob("*.parquet")}
    text = (tmp_path / "journey.toml").read_text()
    (tmp_path / "journey.toml").write_text(text + "threshold = 0.9\n")
    assert events.ingest(study.open_study(str(tmp_path)))
    assert {path: path.stat().st_mtime_ns for path in (opened.derived / "parts").rglob("*.parquet")} == before


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_records_give_no_link_and_no_error(tmp_path: Path, n: int) -> None:
    opened = make(tmp_path, [people(5).head(n)])
    events.ingest(opened)
    assert read(opened, "links").empty


def test_columns_without_anything_are_no_error() -> None:
    plan = Similar(compare={"a": "name", "b": "text"}, block_on=[["a"], ["b"]])
    assert linking.match(pd.DataFrame({"a": [None] * 4, "b": [None] * 4}), plan).empty
    assert len(linking.match(pd.DataFrame({"a": [None] * 4, "b": ["x", "y", "x", "z"]}), plan)) <= 1


def test_erased_and_blocked_records_are_not_compared(tmp_path: Path) -> None:
    table = people(60)
    opened = make(tmp_path, [table.assign(unique_id=["null", *table["unique_id"][1:]])])
    (tmp_path / "erase.csv").write_text("identifier,value\nrecord,r61\n")
    events.ingest(opened)
    links = read(opened, "links")
    assert len(links) > 40
    used = set(links["left_token"]) | set(links["right_token"])
    assert not used & {token("record", name) for name in ("null", "r60", "r61", "r1")}


def test_without_splink_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make(tmp_path, [people(5)])
    monkeypatch.setitem(sys.modules, "splink", None)
    with pytest.raises(JourneyError, match=r"sources\.crm\.similar: needs Splink.*Install the extra"):
        events.ingest(opened)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    opened = make(tmp_path, [people(5).drop(columns="city")])
    assert "column 'city' is not in raw/0.csv" in check.problems(opened.config, tmp_path)[0]
    with pytest.raises(JourneyError, match="column 'city' is not in the file"):
        events.ingest(opened)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('"date"', '"birthday"'), "found 'birthday'. Allowed: 'name', 'date'"),
        (('["dob"], ', '["dob"]]\n#'), ""),
        (("block_on = [", 'block_on = [["dob", "city"], ["dob"]]\n# ['), "every rule of block_on holds 'dob'"),
        (('kind = "profiles"', 'event = "x"\ntime = { column = "y" }'), "similar is for a source of profiles"),
    ],
)
def test_what_cannot_be_worked_out_is_refused(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    text = (PLAN + SIMILAR).replace(*change)
    if not problem:
        assert make(tmp_path, [people(2)], text).config.sources[0].similar
        return
    with pytest.raises(JourneyError) as error:
        make(tmp_path, [people(2)], text)
    assert problem in str(error.value)


def test_nothing_imports_splink_without_similar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make(tmp_path, [people(5)], PLAN)
    monkeypatch.setitem(sys.modules, "splink", None)
    assert events.ingest(opened)
    assert engine.fetch(opened.table("links")).empty
