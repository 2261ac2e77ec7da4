"""Retention from each stage, and the Journey Score that multiplies by it: by hand, by lifelines, on planted data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from journeykit import journey_score, stats
from journeykit.churn import spells as spell_table
from journeykit.churn.stages import RETENTION_COLUMNS, retention_by_stage, stays

Log = Callable[..., pd.DataFrame]
STAGE_OF = {"ad": "Ad", "join": "Join", "ask": "Help", "leave": "Bye", "survey": "Help", "more": "Join"}
STAGES = ["Ad", "Join", "Help", "Bye"]
BY_HAND = """
    a: ad@0d join@10d ask@20d leave@60d | b: join@0d ask@40d ask@50d | c: ad@5d join@6d leave@20d ask@30d |
    d: ad@1d ask@2d join@30d | e: ad@3d ask@4d | f: join@50d survey@55d leave@70d ad@80d
"""  # c asks after leaving; d asked before joining; e never joins; f's survey is no stage, and f's ad comes too late


def staged(log: Log, text: str, answers: dict[str, float] | None = None) -> pd.DataFrame:
    table = log(text)
    table = table.assign(stage=table["event"].map(STAGE_OF))
    table["touchpoint"] = table["event"].map(lambda event: "Survey" if event == "survey" else event)
    table["satisfaction"] = table["event"].map(answers or {}).astype(float)
    return table


def customers(touches: pd.DataFrame, as_of: str = "2025-04-11", **options: Any) -> pd.DataFrame:
    return spell_table.spells(touches, start=["join"], end=["leave"], as_of=as_of, **options)


def drawn(log: Log, people: int, seed: int) -> pd.DataFrame:
    """Who asks leaves faster from then on: .02 a day before, .05 after; half ask, after 20 days on average."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(people):
        begin, ask = rng.uniform(0, 60), rng.exponential(20) if rng.random() < 0.5 else np.inf
        gone = rng.exponential(50)
        if gone > ask:
            gone = ask + rng.exponential(20)
        rows = [f"ad@{begin - rng.uniform(0, 5):.4f}d", f"join@{begin:.4f}d"]
        rows += [f"ask@{begin + ask:.4f}d"] if ask < gone else []
        rows += [f"leave@{begin + gone:.4f}d"]
        parts.append(f"u{k}: {' '.join(rows)}")
    table = staged(log, "|".join(parts))
    return table[table["timestamp"] <= "2025-04-11"]


def test_stays_by_hand(log: Log) -> None:
    touches = staged(log, BY_HAND)
    found = stays(touches, customers(touches), stages=STAGES, end=["leave"])
    rows = {(row.person_id, row.stage): (row.duration_days, row.ended) for row in found.itertuples()}
    assert rows == {
        (1, "Ad"): (50, 1), (1, "Join"): (50, 1), (1, "Help"): (40, 1),  # the ad was before joining
        (2, "Join"): (100, 0), (2, "Help"): (60, 0),  # the first of two
        (3, "Ad"): (14, 1), (3, "Join"): (14, 1),
        (4, "Ad"): (70, 0), (4, "Join"): (70, 0), (4, "Help"): (70, 0),  # asked before joining: counts from joining
        (6, "Join"): (20, 1),
    }  # fmt: skip
    assert found["followed_days"].tolist() == [90, 90, 80, 100, 60, 94, 94, 70, 70, 70, 50]
    # Without `end` the event of leaving would be a stage that nobody survives.
    assert (stays(touches, customers(touches), stages=["Bye"])["duration_days"] == 0).all()


def test_retention_by_hand(log: Log) -> None:
    touches = staged(log, BY_HAND)
    found = retention_by_stage(
        touches, customers(touches), stages=STAGES, horizon="45d", end=["leave"], min_n=1
    ).set_index("stage")
    assert found["n"].to_dict() == {"Ad": 3, "Join": 5, "Help": 3}
    assert found["ended_n"].to_dict() == {"Ad": 1, "Join": 2, "Help": 1}
    assert found.loc["Join", "retained_share"] == pytest.approx(3 / 5)
    assert found.loc["Help", "retained_share"] == pytest.approx(2 / 3)
    assert found.loc["Help", "followed_n"] == 3
    assert (
        "Bye (n = 0)"
        in retention_by_stage(touches, customers(touches), stages=STAGES, horizon="45d", end=["leave"], min_n=1).attrs[
            "note"
        ]
    )


def test_retention_is_kaplan_meier_with_its_interval(log: Log) -> None:
    touches = drawn(log, 300, 2)
    known = customers(touches)
    found = retention_by_stage(touches, known, stages=["Ad", "Join", "Help"], horizon="30d", end=["leave"])
    table = stays(touches, known, stages=["Ad", "Join", "Help"], end=["leave"])
    for row in found.itertuples():
        part = table[table["stage"] == row.stage]
        assert 0 < part["ended"].sum() < len(part)
        fit = KaplanMeierFitter().fit(part["duration_days"], part["ended"])
        assert row.retained_share == pytest.approx(fit.predict(30))
        bounds = fit.confidence_interval_.loc[:30].iloc[-1].tolist()
        assert [row.retained_share_low, row.retained_share_high] == pytest.approx(bounds)


def test_intervals_hold_the_planted_retention(log: Log) -> None:
    planted, held = float(np.exp(-20 / 20)), 0
    for seed in range(12):
        touches = drawn(log, 150, 100 + seed)
        row = retention_by_stage(touches, customers(touches), stages=["Help"], horizon="20d", end=["leave"]).iloc[0]
        held += row["retained_share_low"] <= planted <= row["retained_share_high"]
    assert held >= 10  # fewer than 10 of 12 happens in 2 % of such tests


def test_late_entry_starts_the_clock(log: Log) -> None:
    touches = staged(log, "a: ad@0d join@0d | b: join@0d ask@30d")
    known = customers(touches).assign(entered_days=[25.0, 10.0])
    found = stays(touches, known, stages=STAGES).set_index(["person_id", "stage"])["duration_days"]
    assert found.to_dict() == {(1, "Ad"): 75, (1, "Join"): 75, (2, "Join"): 90, (2, "Help"): 70}


def test_a_single_purchase_is_a_stay_of_no_time(log: Log) -> None:
    touches = staged(log, "a: join@0d | b: join@0d more@30d")
    known = pd.DataFrame({"person_id": [1, 2], "started_at": pd.Timestamp("2025-01-01"), "ended": [1, 0]})
    known = known.assign(duration_days=[0.0, 90.0])
    found = retention_by_stage(touches, known, stages=["Join"], horizon="60d", min_n=1)
    assert found[["n", "ended_n", "retained_share"]].values.tolist() == [[2, 1, 0.5]]


def test_no_number_without_people_or_time(log: Log) -> None:
    touches = staged(log, BY_HAND)
    known = customers(touches)
    few = retention_by_stage(touches, known, stages=STAGES, horizon="45d")
    assert few.empty
    assert "fewer than 20 customers entered it 45d or more" in few.attrs["reason"]
    assert list(few.columns) == list(RETENTION_COLUMNS)
    assert "95d or more" in retention_by_stage(touches, known, stages=["Help"], horizon="95d", min_n=1).attrs["reason"]
    assert "no stages" in retention_by_stage(touches, known, stages=[]).attrs["reason"]
    nobody = retention_by_stage(touches, customers(touches, as_of="2024-01-01"), stages=STAGES)
    assert nobody.attrs["reason"].startswith("not enough data (n = 0")
    assert "n = 0 customers" in retention_by_stage(touches, known, stages=["Elsewhere"]).attrs["reason"]
    assert retention_by_stage(touches, known.iloc[:0], stages=["Join"]).attrs["reason"].startswith("not enough data")


def test_nobody_left_and_everybody_left_have_intervals(log: Log) -> None:
    stay = staged(log, "|".join(f"u{k}: join@{k}d" for k in range(30)))
    row = retention_by_stage(stay, customers(stay), stages=["Join"], horizon="30d").iloc[0]
    assert row["retained_share"] == row["retained_share_high"] == 1
    assert row["retained_share_low"] == pytest.approx(stats.wilson(30, 30)[0])
    gone = staged(log, "|".join(f"u{k}: join@{k}d leave@{k + 9}d" for k in range(30)))
    row = retention_by_stage(gone, customers(gone), stages=["Join"], horizon="30d").iloc[0]
    assert row["retained_share"] == row["retained_share_low"] == 0
    assert row["retained_share_high"] == pytest.approx(stats.wilson(0, 30)[1])


# ── The Journey Score with it ─────────────────────────────────────────────────────────────────────────────────────────

WEIGHTS = [("Ad", 0.2), ("Join", 0.5), ("Help", 0.3)]


def scored(touches: pd.DataFrame, **options: Any) -> pd.DataFrame:
    given: dict[str, Any] = {"stages": WEIGHTS, "as_of": "2025-04-11", "horizon": "30d", "min_answers": 1}
    return journey_score.journey_score(touches, **{**given, "repetitions": 40, "min_customers": 1, **options})


def test_the_score_multiplies_by_who_stays(log: Log) -> None:
    touches = drawn(log, 200, 7).assign(satisfaction=0.6)
    known = customers(touches)
    table = scored(touches, spells=known, end=["leave"]).set_index("stage")
    retained = retention_by_stage(
        touches, known, stages=[name for name, _ in WEIGHTS], horizon="30d", end=["leave"]
    ).set_index("stage")
    assert table.loc[retained.index, "retained_share"].tolist() == pytest.approx(retained["retained_share"].tolist())
    assert table.loc[retained.index, "n"].tolist() == retained["n"].tolist()
    expected = 100 * 0.6 * sum(weight * retained.loc[name, "retained_share"] for name, weight in WEIGHTS)
    assert table.loc["Total", "points"] == pytest.approx(expected)
    for name in retained.index:
        row = table.loc[name]
        assert row["retained_share_low"] < row["retained_share"] < row["retained_share_high"]
        width = retained.loc[name, "retained_share_high"] - retained.loc[name, "retained_share_low"]
        assert row["retained_share_high"] - row["retained_share_low"] == pytest.approx(width, rel=0.45)
    assert "moved_on_share" not in table


def test_the_definition_says_which_factor_it_is(log: Log) -> None:
    touches = drawn(log, 60, 3).assign(satisfaction=0.5)
    moving, staying = scored(touches), scored(touches, spells=customers(touches), end=["leave"])
    assert "of moving on within 30 days" in moving.attrs["definition"]
    assert "to be a customer still 30 days after entering the stage" in staying.attrs["definition"]
    assert moving["note"].iloc[-1] != staying["note"].iloc[-1]
    assert list(moving.columns) == journey_score.SCORE
    pd.testing.assert_frame_equal(scored(touches, spells=None, end=["leave"], min_customers=10**6), moving)


def test_stages_with_too_few_customers_get_no_number(log: Log) -> None:
    touches = drawn(log, 60, 3).assign(satisfaction=0.5)
    known = customers(touches)
    n = stays(touches, known, stages=["Help"], end=["leave"])["person_id"].nunique()
    table = scored(touches, spells=known, end=["leave"], min_customers=n + 1).set_index("stage")
    assert table.loc["Help", "note"] == f"not enough data (n = {n} customers, at least {n + 1} are needed)"
    assert np.isnan(table.loc["Help", "points"])
    assert table.loc["Total", "coverage_share"] == pytest.approx(0.7)
    nobody = scored(touches, spells=known.iloc[:0], end=["leave"])
    assert nobody.attrs["reason"] == "not enough data (n = 0 customers, at least 1 are needed)"
    mixed = scored(touches.sample(frac=1, random_state=1), spells=known.sample(frac=1, random_state=2), end=["leave"])
    pd.testing.assert_frame_equal(mixed, scored(touches, spells=known, end=["leave"]))
