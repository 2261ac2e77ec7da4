"""From raw files to people and touches: how rows lie in files, and who else is there, changes nothing for anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journeykit import engine, events, journeys, study

TOML = """
[study]
title = "Files"

[[sources]]
name = "web"
path = "raw/*.csv"
time = { column = "at" }
sequence = "n"
event = "event"
event_id = "n"
identifiers = { customer = "customer", email = "email", device = "device" }

[identity]
identifiers = ["customer", "email", "device"]
devices = ["device"]
caps = { customer = "1", email = "2 per 1d" }

[sessions]
gap = "10m"

[journeys]
conversion = "buy"
"""


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 300

    def some(letter: str, share: float) -> list[str | None]:
        return [f"{letter}{rng.integers(25)}" if rng.random() < share else None for _ in range(n)]

    table = pd.DataFrame(
        {
            "n": range(n),
            "at": (pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 400, n), unit="min")).astype(str),
            "event": rng.choice(["ad", "visit", "buy", "💥"], n),
            "customer": some("c", 0.3),
            "email": some("e@", 0.3),
            "device": some("d", 0.7),
        }
    )
    return table[table[["customer", "email", "device"]].notna().any(axis=1)]


def touches(folder: Path, files: dict[str, pd.DataFrame]) -> pd.DataFrame:
    (folder / "raw").mkdir(parents=True)
    (folder / "journey.toml").write_text(TOML)
    for name, table in files.items():
        table.to_csv(folder / "raw" / name, index=False)
    opened = study.open_study(str(folder))
    events.ingest(opened)
    journeys.build(opened)
    return engine.fetch(opened.table("touches"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return touches(tmp_path_factory.mktemp("whole"), {"all.csv": rows()})


SPREADS: dict[str, Callable[[pd.DataFrame], dict[str, pd.DataFrame]]] = {
    "another name": lambda table: {"zz renamed.csv": table},
    "two files": lambda table: {"a.csv": table.head(150), "b.csv": table.tail(len(table) - 150)},
    "two files the other way round": lambda table: {"b.csv": table.head(150), "a.csv": table.tail(len(table) - 150)},
    "shuffled": lambda table: {"all.csv": table.sample(frac=1, random_state=3)},
    "rows twice": lambda table: {"a.csv": table, "b.csv": table.sample(50, random_state=4)},
}


@pytest.mark.parametrize("spread", SPREADS)
def test_how_rows_lie_in_files_changes_nothing(tmp_path: Path, whole: pd.DataFrame, spread: str) -> None:
    pd.testing.assert_frame_equal(touches(tmp_path / "study", SPREADS[spread](rows())), whole)


def test_an_unrelated_person_changes_nothing_for_the_others(tmp_path: Path, whole: pd.DataFrame) -> None:
    stranger = (
        rows().head(4).assign(n=range(1000, 1004), customer="stranger", email=None, device="own", at="2024-12-24")
    )
    found = touches(tmp_path / "study", {"all.csv": rows(), "new.csv": stranger})
    others = found.iloc[4:].reset_index(drop=True)  # the stranger was there first
    shifted = whole.assign(
        person_id=whole["person_id"] + 1, session_id=whole["session_id"] + 4, journey_id=whole["journey_id"] + 4
    )
    pd.testing.assert_frame_equal(others, shifted)


def test_a_merge_by_hand_rebuilds_people_and_nothing_reads_the_files_again(tmp_path: Path) -> None:
    before = touches(tmp_path / "study", {"all.csv": rows()})
    opened = study.open_study(str(tmp_path / "study"))
    apart = before.dropna(subset=["id_customer"]).drop_duplicates("person_id")["person_id"].nunique()
    line = "action,identifier,value,other_identifier,other_value\nmerge,customer,c1,customer,c2\n"
    (tmp_path / "study" / "identity.csv").write_text(line)
    events.ingest(opened)
    assert journeys.build(opened)
    after = engine.fetch(opened.table("touches"))
    assert after["id_customer"].nunique() == before["id_customer"].nunique()
    assert after.dropna(subset=["id_customer"])["person_id"].nunique() == apart - 1
