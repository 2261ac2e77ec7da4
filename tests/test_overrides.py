"""Merges and splits by hand: the list is read or refused as a whole, no value of it is written, and it is never old."""

from __future__ import annotations

from pathlib import Path

import pytest

from journeykit import check, config, events, overrides, privacy, study
from journeykit.errors import JourneyError
from tests.test_profiles import EVENTS, LINK, PLAN, SHOP, make, read, token

SECRET = b"a key of the tests"
HEAD = "action,identifier,value,other_identifier,other_value\n"


def plan_of(settings: str = "") -> config.Study:
    import tomllib

    return config.parse(tomllib.loads(PLAN + settings + EVENTS))


def of(name: str, value: str) -> str:
    return privacy.token(name, value, SECRET, "phone:DE" if name == "phone" else "")


def test_rows_are_links_of_tokens_with_the_more_trusted_on_the_left(tmp_path: Path) -> None:
    listed = (
        "\ufeffAction, Identifier,value,other_identifier,other_value,why\r\n"
        "merge,email, Ada@Example.com ,customer,c1,she said so\r\n\r\n"
        "Split,customer,c3,customer,c2,twins\r\n"
        "split,customer,c2,customer,c3,again\r\n"
        "merge,phone,0170 1234567,email,ada@example.com,\r\n"
    )
    (tmp_path / "identity.csv").write_text(listed)
    found = overrides.read(plan_of(), tmp_path, SECRET)
    two, three = sorted((of("customer", "c2"), of("customer", "c3")))
    assert {tuple(row) for row in found.to_numpy().tolist()} == {
        ("customer", of("customer", "c1"), "email", of("email", "ada@example.com"), "merged by hand"),
        ("customer", two, "customer", three, "split by hand"),
        ("email", of("email", "ada@example.com"), "phone", of("phone", "+491701234567"), "merged by hand"),
    }
    assert len(found) == 3


def test_without_a_list_nothing_is_overridden(tmp_path: Path) -> None:
    assert overrides.read(plan_of(), tmp_path, SECRET).empty
    assert overrides.mark(plan_of(), tmp_path, SECRET) == ""
    (tmp_path / "identity.csv").write_text(HEAD)
    assert overrides.read(plan_of(), tmp_path, SECRET).empty


def test_a_list_with_another_name_must_be_there(tmp_path: Path) -> None:
    plan = plan_of('overrides = "by_hand.csv"\n')
    with pytest.raises(JourneyError, match=r"identity.overrides: 'by_hand.csv' is not in"):
        overrides.read(plan, tmp_path, SECRET)
    (tmp_path / "by_hand.csv").write_text(HEAD + "merge,customer,c1,customer,c2\n")
    assert len(overrides.read(plan, tmp_path, SECRET)) == 1


def test_all_problems_are_told_at_once_and_no_value(tmp_path: Path) -> None:
    rows = [
        "join,customer,secret-1,customer,secret-2",
        "merge,custmer,secret-1,email,anonymous",
        "merge,customer,,customer,secret-2",
        "merge,email,Secret@b.co,email,secret@B.co",
        "merge,customer,secret-1,customer,secret-2,x",
        "merge,customer,secret-1,customer,secret-2",
    ]
    (tmp_path / "identity.csv").write_text(HEAD + "\n".join(rows))
    with pytest.raises(JourneyError) as error:
        overrides.read(plan_of(), tmp_path, SECRET)
    said = str(error.value)
    assert said.startswith("identity.csv: 5 problems.")
    for part in (
        "line 2: action is neither merge nor split",
        "line 3: 'custmer' is not an identifier. Did you mean 'customer'? There are: customer, email, phone; the value "
        "of 'email' is in identity.blocked",
        "line 4: no value of 'customer' is given",
        "line 5: both are the same value",
        "line 6: 6 cells, the header has 5",
    ):
        assert part in said
    assert "secret" not in said.lower()


def test_a_split_of_what_merges_join_is_refused(tmp_path: Path) -> None:
    rows = ["split,customer,c1,customer,c3", "merge,customer,c1,email,a@b.co", "merge,email,A@b.co,customer,c3"]
    (tmp_path / "identity.csv").write_text(HEAD + "\n".join([*rows, "split,customer,c1,customer,c9"]))
    with pytest.raises(JourneyError) as error:
        overrides.read(plan_of(), tmp_path, SECRET)
    assert str(error.value).startswith("identity.csv: 1 problem.")
    assert "line 2: a split of two that lines of merge join" in str(error.value)


@pytest.mark.parametrize(
    "listed", [b"", b"merge,customer,c1,customer,c2\n", b"\xff\xfe\0i", HEAD.encode() + b'merge,"a']
)
def test_what_is_no_list_is_refused_with_what_to_do(tmp_path: Path, listed: bytes) -> None:
    (tmp_path / "identity.csv").write_bytes(listed)
    with pytest.raises(JourneyError, match=r"^identity.csv: .*(Write 'action,identifier|Save it as such)"):
        overrides.read(plan_of(), tmp_path, SECRET)


def test_whoever_is_to_be_forgotten_is_overridden_no_more(tmp_path: Path) -> None:
    (tmp_path / "identity.csv").write_text(HEAD + "merge,customer,c1,customer,c2\nsplit,customer,c1,customer,c9\n")
    found = overrides.read(plan_of(), tmp_path, SECRET, {"customer": [of("customer", "c2")]})
    assert found["rule"].tolist() == ["split by hand"]


def test_the_mark_changes_with_the_list_and_with_the_key(tmp_path: Path) -> None:
    marks = []
    for action in ("merge", "split"):
        (tmp_path / "identity.csv").write_text(f"{HEAD}{action},customer,c1,customer,c2\n")
        marks += [overrides.mark(plan_of(), tmp_path, key) for key in (SECRET, b"another key")]
    assert len(set(marks)) == 4


def test_check_reads_the_lists_too(tmp_path: Path) -> None:
    opened = make(tmp_path, EVENTS, shop=SHOP)
    assert check.problems(opened.config, tmp_path) == []
    (tmp_path / "identity.csv").write_text(HEAD + "join,customer,c1,customer,c2\n")
    (tmp_path / "erase.csv").write_text("identifier,value\ncustmer,c1\n")
    said = check.problems(opened.config, tmp_path)
    assert [line.split(":")[0] for line in said] == ["erase.csv", "identity.csv"]


def test_overrides_are_links_and_a_change_of_them_is_noticed(tmp_path: Path) -> None:
    opened = make(tmp_path, EVENTS, shop=SHOP)
    assert events.ingest(opened)
    (tmp_path / "identity.csv").write_text(HEAD + "merge,customer,c1,email,grace-hopper@example.com\n")
    with pytest.raises(JourneyError, match=r": identity.csv \(merges and splits by hand\) has .* Run 01_ingest again"):
        opened.table("events")
    assert events.ingest(opened)
    links = read(opened, "links")
    assert list(links.columns) == LINK
    row = links.iloc[0]
    assert (row["left_token"], row["right_token"]) == (
        token("customer", "c1"),
        token("email", "grace-hopper@example.com"),
    )
    assert (row["rule"], row["confidence"], row["rows_n"]) == ("merged by hand", 1.0, 1)
    assert row.isna()["known_at"]
    assert not events.ingest(opened)
    for path in opened.derived.rglob("*"):
        assert not path.is_file() or b"grace-hopper" not in path.read_bytes()
    # So that the search for leaks knows who is on the list.
    assert token("email", "grace-hopper@example.com") in set(read(opened, "tokens")["id_token"])
    (tmp_path / "identity.csv").write_text(HEAD + "split,customer,c1,email,grace-hopper@example.com\n")  # as long
    with pytest.raises(JourneyError, match=r": identity.csv \(merges and splits by hand\) has .* Run 01_ingest again"):
        opened.table("events")
    assert events.ingest(study.open_study(str(tmp_path)))
    assert read(opened, "links")["rule"].tolist() == ["split by hand"]
    (tmp_path / "identity.csv").unlink()
    (tmp_path / "raw" / "shop2.csv").write_text(SHOP)
    with pytest.raises(JourneyError, match=r"the raw files and identity.csv .* have changed since .* 01_ingest again"):
        opened.table("events")
    (tmp_path / "raw" / "shop2.csv").unlink()
    assert events.ingest(opened)
    assert read(opened, "links").empty
