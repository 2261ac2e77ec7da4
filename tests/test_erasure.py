"""Forgetting: the list is read or refused as a whole, and no kept report that knows somebody on it stays."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from journeykit import engine, erasure, privacy, run, study
from journeykit.errors import JourneyError
from tests import test_run
from tests.test_leaks import PLAN
from tests.test_run import Toy, plain_report, toy

__all__ = ["plain_report", "toy"]  # fixtures, which pytest finds by name

SECRET = b"a key of the tests"
MAIL = "ada.lovelace@example.com"


class Notes(run.runner.Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def make_study(folder: Path, listed: str | bytes | None, settings: str = "") -> study.OpenStudy:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journey.toml").write_text(PLAN + settings, encoding="utf-8")
    if listed is not None:
        (folder / "erase.csv").write_bytes(listed if isinstance(listed, bytes) else listed.encode())
    return study.open_study(str(folder))


def add_run(home: Path, name: str, **files: str) -> None:
    for file, text in files.items():
        path = home / name / file.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_the_list_gives_the_tokens_of_the_normal_values(tmp_path: Path) -> None:
    listed = (
        f"\ufeffIdentifier,Value,Asked on\r\nemail, {MAIL.upper()} ,2025-01-06\r\nphone,0170 1234567,\r\n\r\n"
        f'email,{MAIL},2025-02-01\r\ncustomer,"c-1,2",\r\n'
    )
    opened = make_study(tmp_path, listed)
    assert erasure.tokens(opened.config, tmp_path, SECRET) == {
        "customer": [privacy.token("customer", "c-1,2", SECRET)],
        "email": [privacy.token("email", MAIL, SECRET)],
        "phone": [privacy.token("phone", "+491701234567", SECRET)],
    }


def test_without_a_list_nobody_is_forgotten(tmp_path: Path) -> None:
    opened = make_study(tmp_path, None)
    assert erasure.tokens(opened.config, tmp_path, SECRET) == {}
    assert erasure.fingerprint(opened.config, tmp_path) == ""
    assert erasure.purge_reports(opened, tmp_path, SECRET) == []
    make_study(tmp_path, "identifier,value\n")
    assert erasure.tokens(opened.config, tmp_path, SECRET) == {}


def test_the_fingerprint_changes_with_the_list(tmp_path: Path) -> None:
    plan = make_study(tmp_path, "identifier,value\nemail,a@b.co\n").config
    first = erasure.fingerprint(plan, tmp_path)
    make_study(tmp_path, "identifier,value\nemail,a@b.com\n")
    assert len({"", first, erasure.fingerprint(plan, tmp_path)}) == 3


def test_a_list_with_another_name_must_be_there(tmp_path: Path) -> None:
    opened = make_study(tmp_path, None, '\n[privacy]\nerase = "forget.csv"\n')
    with pytest.raises(JourneyError, match=r"privacy.erase: 'forget.csv' is not in"):
        erasure.tokens(opened.config, tmp_path, SECRET)
    (tmp_path / "forget.csv").write_text("identifier,value\nemail,a@b.co\n")
    assert list(erasure.tokens(opened.config, tmp_path, SECRET)) == ["email"]


def test_all_problems_of_the_list_are_told_at_once_and_no_value(tmp_path: Path) -> None:
    listed = f"identifier,value\nemial,{MAIL}\nemail,\nemail,Anonymous\nemail,{MAIL},x\nemail\nemail,{MAIL}\n"
    opened = make_study(tmp_path, listed)
    with pytest.raises(JourneyError) as error:
        erasure.tokens(opened.config, tmp_path, SECRET)
    said = str(error.value)
    assert said.startswith("erase.csv: 5 problems.")
    for part in (
        "line 2: 'emial' is not an identifier. Did you mean 'email'? There are: customer, email",
        "line 3: no value of 'email' is given",
        "line 4: the value of 'email' is in identity.blocked",
        "line 5: 3 cells, the header has 2",
        "line 6: 1 cells, the header has 2",
    ):
        assert part in said
    assert "lovelace" not in said


@pytest.mark.parametrize("listed", [b"", b"email,ada@example.com\n", b"\xff\xfe\0i", b'identifier,value\nemail,"a\n'])
def test_what_is_no_list_is_refused_with_what_to_do(tmp_path: Path, listed: bytes) -> None:
    opened = make_study(tmp_path, listed)
    with pytest.raises(JourneyError, match=r"^erase.csv: .*(Write 'identifier,value'|Save it as such)"):
        erasure.tokens(opened.config, tmp_path, SECRET)


def test_kept_runs_that_know_somebody_go_and_the_others_stay(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\ncustomer,adalovelace\n")
    token = privacy.token("email", MAIL, SECRET)
    home = tmp_path / "reports"
    add_run(home, "r1", index_html=f"<td>{token}</td>")
    add_run(home, "r2", tables__a_csv="who\nADA.lovelace@example.com\n")
    add_run(home, "r3", notebooks__a_ipynb=json.dumps({"text": "x\nada.lovelace&#64;example.com"}))
    add_run(home, "r4", findings_json=json.dumps({"who": "adalovelace"}), index_html="x")
    add_run(home, "r5", readme_md=f"of {token}, and")
    add_run(home, "r6", index_html=f"<td>{token[:-1]}</td> {MAIL}.au adalovelaces", tables__a_csv="n\n1\n")
    add_run(home, "r7", index_html="nobody")
    os.symlink("r1", home / "latest")
    assert erasure.purge_reports(opened, home, SECRET) == ["r1", "r2", "r3", "r4", "r5"]
    assert sorted(path.name for path in home.iterdir()) == [".erasure.json", "r6", "r7"]
    assert not os.path.lexists(home / "latest")
    assert MAIL not in (home / ".erasure.json").read_text()


def test_latest_stays_where_its_run_does(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\n")
    home = tmp_path / "reports"
    add_run(home, "r1", index_html=MAIL)
    add_run(home, "r2", index_html="x")
    os.symlink("r2", home / "latest")
    assert erasure.purge_reports(opened, home, SECRET) == ["r1"]
    assert (home / "latest").resolve() == home / "r2"


def test_a_page_in_place_of_the_link_goes_with_its_run(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\n")
    home = tmp_path / "reports"
    add_run(home, "r1", index_html=MAIL)
    add_run(home, "latest", index_html='<meta http-equiv="refresh" content="0; url=../r1/index.html">')
    assert erasure.purge_reports(opened, home, SECRET) == ["r1"]
    assert not (home / "latest").exists()


def test_nothing_outside_is_touched_and_no_link_followed(tmp_path: Path) -> None:
    opened = make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\n")
    home, other = tmp_path / "reports", tmp_path / "other"
    add_run(other, "run", index_html=MAIL)
    add_run(home, "r1", index_html="x")
    add_run(home, "r2", index_html=MAIL)
    (home / "loose.csv").write_text(MAIL)
    os.symlink(other / "run", home / "r3")
    os.symlink(other / "run", home / "r1" / "folder")
    os.symlink(other / "run" / "index.html", home / "r1" / "file.html")
    os.symlink(other / "run", home / "r2" / "folder")
    assert erasure.purge_reports(opened, home, SECRET) == ["r2"]
    assert (other / "run" / "index.html").read_text() == MAIL
    assert (home / "r3").is_symlink()
    assert (home / "loose.csv").exists()


def test_a_run_is_searched_once_for_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\n")
    home = tmp_path / "reports"
    add_run(home, "r1", index_html="x")
    assert erasure.purge_reports(opened, home, SECRET) == []
    add_run(home, "r1", index_html="adalovelace")  # so that a second look would be noticed
    make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\n")
    add_run(home, "r2", index_html=MAIL)
    assert erasure.purge_reports(opened, home, SECRET) == ["r2"]
    assert (home / "r1").exists()
    make_study(tmp_path / "small", f"identifier,value\nemail,{MAIL}\ncustomer,adalovelace\n")
    assert erasure.purge_reports(opened, home, SECRET) == ["r1"]
    (home / ".erasure.json").write_text("[broken")
    add_run(home, "r3", index_html=MAIL)
    assert erasure.purge_reports(opened, home, SECRET) == ["r3"]


def plant_tokens(made: Toy) -> None:
    opened = study.open_study(str(made.study))
    token = privacy.token("customer", "ada@example.com", privacy.key(study.ROOT))
    engine.write_parquet(pd.DataFrame({"id_name": ["customer"], "id_token": [token]}), opened.path("tokens"))


def add_published(made: Toy, text: str) -> Path:
    home = made.reports / "toy"
    add_run(home, "2025-01-01T00-00-00Z", index_html=text)
    os.symlink("2025-01-01T00-00-00Z", home / "latest")
    return home


LEAK = (
    'from pathlib import Path\n(Path(run_dir) / "tables" / "01_ingest__x.csv").write_text("who\\nada@example.com\\n")'
)


def test_a_run_that_leaks_fails_and_is_not_published(toy: Toy) -> None:
    toy.add("01_ingest", LEAK)
    plant_tokens(toy)
    home = add_published(toy, "the last good report")
    bad = toy.run()
    assert bad.status == "failed"
    assert 'tables/01_ingest__x.csv: customer "a…" (15 characters)' in bad.latest
    facts = json.loads((bad.folder / "run.json").read_text())
    assert (facts["status"], facts["reason"]) == ("failed", bad.latest)
    assert "ada@" not in bad.latest
    assert (home / "latest").resolve().name == "2025-01-01T00-00-00Z"


@pytest.fixture
def no_chapters(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """What a run does besides its chapters."""
    toy.add("01_ingest", test_run.INGEST)
    monkeypatch.setattr(run.runner, "_execute", lambda *arguments: [])
    return toy


def test_a_run_forgets_before_anything_else(no_chapters: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    home = add_published(no_chapters, "ada@example.com")
    (no_chapters.study / "erase.csv").write_text("identifier,value\ncustomer,ada@example.com\n")
    left: list[str] = []
    monkeypatch.setattr(run.runner, "_execute", lambda *_: left.extend(p.name for p in home.iterdir()) or [])
    notes = Notes()
    assert no_chapters.run(progress=notes).latest == ""
    assert not {"2025-01-01T00-00-00Z", "latest"} & set(left)
    assert [note for note in notes.said if "2025-01-01T00-00-00Z" in note]


def test_a_run_with_a_broken_list_does_not_start(no_chapters: Toy) -> None:
    (no_chapters.study / "erase.csv").write_text("identifier,value\nemail,ada@example.com\n")
    with pytest.raises(JourneyError, match=r"erase\.csv: 1 problem"):
        no_chapters.run()
    assert not (no_chapters.reports / "toy").exists()


def test_what_cannot_be_searched_is_not_published(no_chapters: Toy) -> None:
    (no_chapters.study / "derived").mkdir(exist_ok=True)
    (no_chapters.study / "derived" / "tokens.parquet").write_bytes(b"no table")
    result = no_chapters.run()
    assert result.status == "failed"
    assert result.latest.startswith("the outputs could not be searched for raw identifiers")


def test_the_list_may_be_long(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    folder = tmp_path / "small"
    folder.mkdir()
    with (folder / "erase.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["identifier", "value"], *(["email", f"u{n}@example.com"] for n in range(3000))])
    opened = make_study(folder, None)
    add_run(home, "r1", index_html="u2999@example.com")
    add_run(home, "r2", index_html="u3000@example.com")
    assert erasure.purge_reports(opened, home, SECRET) == ["r1"]
