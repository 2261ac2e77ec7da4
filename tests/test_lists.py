"""Lists kept by hand: what marks nobody is refused, what names nobody who occurs is counted, what is empty is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from journeykit import check, events, labels, list_quality, lists, study
from journeykit.errors import JourneyError
from tests.test_profiles import CRM, EVENTS, PLAN, SHOP, make

PAIRS = "action,identifier,value,other_identifier,other_value\n"
LISTS = {
    "erase.csv": "identifier,value\ncustomer,{}\n",
    "identity.csv": PAIRS + "merge,email,ada@example.com,customer,{}\n",
    "labels.csv": "identifier,value,person\ncustomer,{},ada\n",
}


def made(folder: Path, **files: str) -> study.OpenStudy:
    make(folder, CRM + EVENTS, shop=SHOP, **files)
    (folder / "journey.toml").write_text(PLAN + 'labels = "labels.csv"\n' + EVENTS + CRM)
    (folder / "labels.csv").write_text("identifier,value,person\n")
    return study.open_study(str(folder))


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("value", "why"), [("000", "fits identity.blocked_patterns"), ("(Not set)", "is in identity.blocked")]
)
def test_a_value_that_marks_nobody_is_an_error_of_every_list(tmp_path: Path, name: str, value: str, why: str) -> None:
    opened = made(tmp_path, crm="id,mail,tel\nc1,a@b.co,\n")
    (tmp_path / name).write_text(LISTS[name].format(value))
    assert check.problems(opened.config, tmp_path) == [
        f"{name}: 1 problem.\n  · line 2: the value of 'customer' {why}, so it marks nobody"
    ]


@pytest.mark.parametrize(("mark", "said"), [(";", "semicolons"), ("\t", "tabs")])
def test_columns_that_commas_do_not_separate_are_told(tmp_path: Path, mark: str, said: str) -> None:
    (tmp_path / "erase.csv").write_text(f"Identifier{mark} value\ncustomer{mark}c1\n")
    with pytest.raises(JourneyError, match=f"erase.csv: the columns are separated by {said}, .* by commas"):
        lists.read(tmp_path / "erase.csv", ("identifier", "value"), "person", lambda _: "")


def test_lists_without_a_line_are_told(tmp_path: Path) -> None:
    opened = made(tmp_path, crm="id,mail,tel\nc1,a@b.co,\n")
    (tmp_path / "identity.csv").write_text(PAIRS)
    assert check.problems(opened.config, tmp_path) == []
    said = [line for line in check.hints(opened.config, tmp_path) if "below its header" in line]
    assert [line.split(": ")[0] for line in said] == ["identity.overrides", "identity.labels"]
    (tmp_path / "labels.csv").write_text(LISTS["labels.csv"].format("c1"))
    assert len([line for line in check.hints(opened.config, tmp_path) if "below its header" in line]) == 1


def test_why_nothing_can_be_measured(tmp_path: Path) -> None:
    opened = made(tmp_path)
    assert labels.why_none(opened) == "the labelled sample labels.csv holds no line below its header"
    (tmp_path / "labels.csv").write_text(LISTS["labels.csv"].format("c77"))
    assert labels.why_none(opened).startswith("no event carries an identifier of the labelled sample labels.csv")
    (tmp_path / "journey.toml").write_text(PLAN + EVENTS)
    without = labels.why_none(study.open_study(str(tmp_path)))
    assert without == "no labelled sample: [identity] labels names no file"


def test_lines_that_name_somebody_who_occurs_are_counted(tmp_path: Path) -> None:
    opened = made(tmp_path, crm="id,mail,tel\nc8,grace@example.com,\nc9,,\n")
    pairs = [
        "merge,customer,c1,email,ADA@example.com",  # both on events
        "merge,customer,c1,email,grace@example.com",  # one of them on a profile
        "merge,customer,c1,email,adda@example.com",  # mistyped
        "split,customer,c77,customer,c78",
    ]
    (tmp_path / "identity.csv").write_text(PAIRS + "\n".join([*pairs, pairs[0]]))
    (tmp_path / "labels.csv").write_text("identifier,value,person\ncustomer,c1,a\ncustomer,c77,b\nphone,0170 1,b\n")
    assert events.ingest(opened)
    found = list_quality.matched(opened)
    assert found[["list", "lines_n", "matched_n"]].to_numpy().tolist() == [["identity.csv", 4, 2], ["labels.csv", 3, 1]]
    assert found["matched_share"].tolist() == [0.5, 1 / 3]


def test_lists_that_are_empty_or_not_there_match_nothing(tmp_path: Path) -> None:
    opened = made(tmp_path, crm="id,mail,tel\nc8,grace@example.com,\n")
    assert events.ingest(opened)
    found = list_quality.matched(opened)
    assert found[["list", "lines_n", "matched_n"]].to_numpy().tolist() == [["labels.csv", 0, 0]]
    assert found["matched_share"].isna().all()
    (tmp_path / "journey.toml").write_text(PLAN + EVENTS + CRM)
    found = list_quality.matched(study.open_study(str(tmp_path)))
    assert found.attrs["reason"] == "there are no merges or splits by hand and no labelled sample"
