"""The labelled sample of a study: who is known to be who, as tokens and numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from journeykit import labels, privacy, study
from journeykit.errors import JourneyError
from tests.test_profiles import EVENTS, PLAN, token

ROOT = Path(__file__).resolve().parent.parent


def make(folder: Path, listed: str | None, name: str = "truth/labels.csv") -> study.OpenStudy:
    settings = f'labels = "{name}"\n' if name else ""
    (folder / "journey.toml").write_text(PLAN + settings + EVENTS)
    if listed is not None:
        (folder / "truth").mkdir(exist_ok=True)
        (folder / "truth" / "labels.csv").write_text(listed)
    return study.open_study(str(folder))


def test_a_sample_is_tokens_and_numbers(tmp_path: Path) -> None:
    listed = "identifier,value,person\nemail, Ada@B.co ,ada\ncustomer,c1,ada\nphone,0170 1234567,bob\ncustomer,c1,ada\n"
    found = labels.read(make(tmp_path, listed))
    assert found.to_numpy().tolist() == [
        ["email", token("email", "ada@b.co"), 1],
        ["customer", token("customer", "c1"), 1],
        ["phone", token("phone", "+491701234567"), 2],
    ]
    assert list(found.columns) == ["id_name", "id_token", "label"]
    assert found["label"].dtype == "int64"


def test_without_a_sample_it_is_empty_and_one_that_is_named_must_be_there(tmp_path: Path) -> None:
    found = labels.read(make(tmp_path, None, name=""))
    assert (len(found), list(found.columns)) == (0, ["id_name", "id_token", "label"])
    with pytest.raises(JourneyError, match=r"identity.labels: 'truth/labels.csv' is not in"):
        labels.read(make(tmp_path, None))
    assert labels.read(make(tmp_path, "identifier,value,person\n")).empty


def test_all_problems_are_told_at_once_and_no_value(tmp_path: Path) -> None:
    rows = ["emial,secret,ada", "email,secret@b.co,", "email,Secret@b.co,ada", "email,secret@b.co ,bob", "email,,bob"]
    opened = make(tmp_path, "identifier,value,person\n" + "\n".join(rows))
    with pytest.raises(JourneyError) as error:
        labels.read(opened)
    said = str(error.value)
    assert said.startswith("labels.csv: 4 problems.")
    for part in (
        "line 2: 'emial' is not an identifier",
        "line 3: no person is given",
        "line 5: line 4 gives this identifier to another person",
        "line 6: no value of 'email' is given",
    ):
        assert part in said
    assert "secret" not in said.lower()


def test_whoever_is_to_be_forgotten_is_no_sample(tmp_path: Path) -> None:
    opened = make(tmp_path, "identifier,value,person\ncustomer,c1,ada\ncustomer,c2,bob\n")
    (tmp_path / "erase.csv").write_text("identifier,value\ncustomer,c1\n")
    assert labels.read(opened)["id_token"].tolist() == [token("customer", "c2")]


def test_the_mark_changes_with_the_sample(tmp_path: Path) -> None:
    opened = make(tmp_path, "identifier,value,person\ncustomer,c1,ada\n")
    first = labels.mark(opened.config, tmp_path, b"k")
    make(tmp_path, "identifier,value,person\ncustomer,c1,bob\n")
    assert len({"", first, labels.mark(opened.config, tmp_path, b"k")}) == 3


def test_the_sample_of_the_bundled_study_is_of_the_true_people() -> None:
    opened = study.open_study("laptop_store")
    found = labels.read(opened)
    assert found["label"].nunique() == 500
    truth = pd.read_csv(opened.folder / "truth" / "identities.csv", dtype=str)
    rules = {name: privacy.rule(opened.config.identity, name) for name in truth["identifier"].unique()}
    secret = privacy.key(study.ROOT)
    sample = pd.read_csv(opened.folder / "truth" / "labels.csv", dtype=str)
    assert set(sample["person"]) <= set(truth["person"])
    every = truth[truth["person"].isin(sample["person"])]
    alone = truth.groupby(["identifier", "value"])["person"].transform("nunique").loc[every.index] == 1
    assert len(sample) == alone.sum()
    person = {privacy.token(i, v, secret, rules[i]): p for i, v, p in every[alone].itertuples(index=False)}
    assert len({(label, person[one]) for label, one in zip(found["label"], found["id_token"], strict=True)}) == 500
