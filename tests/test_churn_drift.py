"""Drift: inputs that moved and that did not, leavers against expected, and which earlier run is compared with."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from journeykit import config
from journeykit.churn import calibration, drift
from journeykit.plots import churn_predict as plots
from journeykit.plots import theme
from journeykit.readings import churn_predict as readings

LATE = config.Covariate(name="late", events="x", label="Late")
TICKETS = config.Covariate(name="tickets", kind="count", events="x")
MOOD = config.Covariate(name="mood", kind="satisfaction")
DEVICE = config.Covariate(name="device", kind="category", column="d")
ALL = [LATE, TICKETS, MOOD, DEVICE]
NOW = pd.Timestamp("2026-01-01")


def there(n: int, seed: int = 0, late: float = 0.3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "tenure_days": rng.uniform(0, 300, n),
            "late": (rng.random(n) < late).astype(float),
            "tickets": rng.poisson(1.0, n).astype(float),
            "mood": np.where(rng.random(n) < 0.5, np.nan, rng.integers(0, 11, n) / 10),
            "device": rng.choice(["phone", "web", "watch", None], n, p=[0.5, 0.44, 0.01, 0.05]),
        }
    )


def compared(before: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    was = drift.inputs(before, ALL)
    return drift.changes(was, drift.inputs(now, ALL, like=was))


def test_bins_count_everybody_and_hide_small_groups() -> None:
    people = there(600)
    table = drift.inputs(people, ALL)
    assert tuple(table.columns) == drift.INPUT_COLUMNS
    assert (table["n"] >= 20).all()
    assert (table.groupby("covariate")["n"].sum() == table.groupby("covariate")["of_n"].first()).all()
    late = table[table["covariate"] == "late"].set_index("bin")["n"]
    assert late.to_dict() == people["late"].map({0.0: "no", 1.0: "yes"}).value_counts().to_dict()
    tickets = table[table["covariate"] == "tickets"].set_index("bin")["n"]
    assert tickets["0"] == (people["tickets"] == 0).sum()
    assert tickets.index[-1].endswith("and more")
    assert len(table[table["covariate"] == "tenure_days"]) == 10
    assert set(table[table["covariate"] == "device"]["bin"]) == {"phone", "web", "other values"}  # few watches
    mood = table[table["covariate"] == "mood"].set_index("bin")["n"]
    assert mood["no answer"] == people["mood"].isna().sum()


def test_only_what_moved_is_said_to_have_moved() -> None:
    table = compared(there(800, seed=1, late=0.2), there(800, seed=2, late=0.5))
    first = table.iloc[0]
    assert (first["covariate"], first["moved"]) == ("late", "yes")
    assert set(table["moved"].iloc[1:]) == {""}
    assert first["before_share_low"] < first["before_share"] < first["before_share_high"]
    assert abs(first["now_share"] - first["before_share"]) == pytest.approx(0.3, abs=0.05)
    assert "differ from those before in “Late”" in readings.drifted(table, pd.DataFrame())
    assert "<svg" in theme.svg(plots.drift(table))
    same = compared(there(800, seed=3), there(800, seed=3))
    assert same["stability_index"].max() == pytest.approx(0)
    assert "look like those before" in readings.drifted(same, pd.DataFrame())


def test_the_index_by_hand_and_the_test_of_scipy() -> None:
    before = pd.DataFrame({"tenure_days": 1.0, "late": np.repeat([0.0, 1.0], [80, 20])})
    now = pd.DataFrame({"tenure_days": 1.0, "late": np.repeat([0.0, 1.0], [50, 50])})
    was = drift.inputs(before, [LATE])
    line = drift.changes(was, drift.inputs(now, [LATE], like=was)).iloc[0]
    p, q = np.array([80.5, 20.5]) / 101, np.array([50.5, 50.5]) / 101
    assert line["stability_index"] == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert line["p_value"] == pytest.approx(stats.chi2_contingency([[80, 20], [50, 50]])[1])


def test_no_drift_is_found_by_chance_alone() -> None:
    wrong = sum(
        (compared(there(400, seed=2 * k), there(400, seed=2 * k + 1))["moved"] == "yes").any() for k in range(25)
    )
    assert wrong <= 2


def test_leavers_against_expected() -> None:
    rng = np.random.default_rng(0)
    share = rng.uniform(0.05, 0.5, 900)
    life = rng.exponential(-90 / np.log1p(-share))
    scored = pd.DataFrame({"leaves_share": share, "after_days": life, "ended": 1})
    for elapsed in (30.0, 90.0, 200.0):  # less time than the scores look ahead, as much, and more
        seen = scored.assign(after_days=np.minimum(life, elapsed), ended=(life <= elapsed).astype(int))
        table = drift.since(seen, since_at=NOW, ahead_days=90, elapsed_days=elapsed).set_index("group")
        row = table.loc["everybody"]
        assert row["elapsed_days"] == min(elapsed, 90)
        assert row["observed_left_n"] == (life <= min(elapsed, 90)).sum()
        assert row["observed_to_expected_low"] < 1 < row["observed_to_expected_high"]
        assert table["n"].iloc[1:].sum() == 900
    twice = scored.assign(after_days=life / 2.5)
    table = drift.since(twice, since_at=NOW, ahead_days=90, elapsed_days=90)
    assert table.iloc[0]["observed_to_expected_low"] > 1
    assert "learn the model again" in readings.drifted(pd.DataFrame(), table)
    assert [round(x, 2) for x in calibration.poisson_ratio(0, 10.0)] == [0, 0, 0.37]


def save(home: Path, run: str, as_of: str, status: str = "passed", tables: bool = True) -> None:
    (home / run / "tables").mkdir(parents=True)
    said = {"run": run, "as_of": as_of, "status": status, "started_at": f"{run}T00:00:00Z"}
    (home / run / "run.json").write_text(json.dumps(said))
    scores = pd.DataFrame({"id_name": ["c"], "id_token": ["0012"], "leaves_share": [0.2], "scored_at": ["2025-10-01"]})
    for name, table in (("inputs", drift.inputs(there(300), ALL)), ("scores", scores)):
        if tables:
            table.to_csv(home / run / "tables" / f"07_churn__{name}.csv", index=False)


def test_before_is_the_last_passed_run_of_an_earlier_day(tmp_path: Path) -> None:
    assert drift.before(tmp_path / "none", NOW) is None
    save(tmp_path, "2026-01-05", "2026-01-01T00:00:00Z")  # of the same day: the same people
    assert drift.before(tmp_path, NOW) is None
    save(tmp_path, "2025-11-02", "2025-11-01T00:00:00Z")
    save(tmp_path, "2025-12-02", "2025-12-01T00:00:00Z")
    save(tmp_path, "2025-12-20", "2025-12-19T00:00:00Z", status="failed")
    save(tmp_path, "2025-12-21", "2025-12-20T00:00:00Z", tables=False)
    save(tmp_path, ".2025-12-22.part", "2025-12-21T00:00:00Z")
    (tmp_path / "latest").symlink_to("2025-12-02")
    (tmp_path / "2025-12-23").mkdir()
    (tmp_path / "2025-12-23" / "run.json").write_text("{")
    found = drift.before(tmp_path, NOW)
    assert found is not None
    assert (found.run, found.as_of) == ("2025-12-02", pd.Timestamp("2025-12-01"))
    assert found.scores["id_token"].tolist() == ["0012"]
    # What was read from a file counts as what was never written: the same bins, the same index.
    now = there(500, seed=9, late=0.6)
    kept, read = drift.inputs(there(300), ALL), found.inputs
    changes = [drift.changes(was, drift.inputs(now, ALL, like=was)) for was in (kept, read)]
    pd.testing.assert_frame_equal(*changes, check_dtype=False)


def test_hostile_drift_ends_with_a_sentence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "n = 10" in drift.inputs(there(10), ALL).attrs["reason"]
        assert drift.changes(drift.inputs(there(10), ALL), drift.inputs(there(100), ALL)).attrs["reason"]
        same = pd.DataFrame({"tenure_days": np.ones(50), "late": np.ones(50)})
        was = drift.inputs(same, [LATE])
        assert "no covariate has two bins" in drift.changes(was, drift.inputs(same, [LATE], like=was)).attrs["reason"]
        empty = pd.DataFrame({"leaves_share": [], "after_days": [], "ended": []})
        assert drift.since(empty, since_at=NOW, ahead_days=90, elapsed_days=30).attrs["reason"]
        assert "no time" in drift.since(empty, since_at=NOW, ahead_days=90, elapsed_days=0).attrs["reason"]
        new = there(100).assign(device="tv", mood=np.nan)
        table = compared(there(100), new)
        assert table["stability_index"].notna().all()
        assert table.set_index("covariate").loc["device", "moved"] == "yes"
