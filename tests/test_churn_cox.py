"""Covariates known at a landmark, and the Cox model of them, against published figures and planted truth."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung, load_rossi

from journeykit import config
from journeykit.churn import covariates, cox, curves, spells
from journeykit.errors import JourneyError
from tests.conftest import START, make_log

DATA = Path(__file__).parents[2] / "shared" / "data"
LATE = config.Covariate(name="late", events="delivery_late")
TICKET = config.Covariate(name="unresolved", events="ticket_opened", without="ticket_solved", label="unresolved ticket")


def names(*columns: str) -> list[config.Covariate]:
    return [config.Covariate(name=column, events="none") for column in columns]


def lung() -> pd.DataFrame:
    table = load_lung()
    return table.assign(
        duration_days=table["time"].astype(float),
        ended=table["status"].astype(int),
        segment=np.where(table["sex"] == 2, "women", "men"),
    )


def rossi() -> pd.DataFrame:
    return load_rossi().rename(columns={"week": "duration_days", "arrest": "ended"})


def people(n: int, ratio: float = 2.0, seed: int = 0, share: float = 0.5) -> pd.DataFrame:
    """Exponential stays after a landmark, staggered starts, one covariate with a known hazard ratio."""
    rng = np.random.default_rng(seed)
    having = (rng.random(n) < share).astype(float)
    noise = rng.integers(0, 2, n).astype(float)
    started = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.uniform(0, 300, n), unit="D")
    landmark = started + pd.Timedelta("30D")
    life = rng.exponential(200 / np.where(having == 1, ratio, 1.0))
    seen = (pd.Timestamp("2026-01-01") - landmark).total_seconds().to_numpy() / 86400
    return pd.DataFrame(
        {
            "person_id": np.arange(n),
            "started_at": started,
            "landmark_at": landmark,
            "segment": np.where(rng.random(n) < 0.5, "a", "b"),
            "duration_days": np.minimum(life, seen),
            "ended": (life <= seen).astype(int),
            "late": having,
            "noise": noise,
        }
    )


# stays


def _no_spells() -> pd.DataFrame:
    return spells.spells(make_log("u1: a"), start=["none"], end=["b"], as_of="2025-02-01")


def test_covariates_by_hand() -> None:
    log = make_log(
        "u1: delivery_late@0d join@1d delivery_late@11d left@20d"
        "| u2: join@1d ticket_opened@2d ticket_opened@3d ticket_solved@4d left@30d"
        "| u3: join@1d ticket_opened@2d ticket_solved@12d | u4: join@1d left@9d "
        "| u5: join@1d ticket_opened@2d ticket_solved@3d"
    )
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-02-10")
    table = covariates.at_landmark(log, stays, covariates=[LATE, TICKET], landmark="10d")
    assert table["person_id"].tolist() == [1, 2, 3, 5]  # u4 left before the landmark
    assert table["late"].tolist() == [1, 0, 0, 0]  # u1: before the start and exactly at the landmark both count
    assert table["unresolved"].tolist() == [0, 1, 1, 0]  # u3 was solved only after the landmark
    assert table["duration_days"].tolist() == [9.0, 19.0, 29.0, 29.0]
    assert table["ended"].tolist() == [1, 1, 0, 0]
    counted = config.Covariate(name="late", events="delivery_late", kind="count")
    assert covariates.at_landmark(log, stays, covariates=[counted], landmark="10d")["late"].tolist() == [2, 0, 0, 0]


def test_nothing_after_the_landmark_changes_a_covariate() -> None:
    rng = np.random.default_rng(4)
    events = ["ticket_opened", "ticket_solved", "delivery_late", "x"]
    log = make_log(
        "|".join(
            f"u{p}: join@0h " + " ".join(f"{rng.choice(events)}@{h}h" for h in sorted(rng.integers(1, 999, 12)))
            for p in range(40)
        )
    )
    stays = spells.spells(log, start=["join"], end=["left"], as_of="2025-03-01")
    before = covariates.at_landmark(log, stays, covariates=[LATE, TICKET], landmark="10d")
    late = log["timestamp"] > START + pd.Timedelta("10D")
    future = log.loc[late, "event"].sample(frac=1, random_state=1).to_numpy()
    shuffled = log.assign(event=log["event"].mask(late, pd.Series(future, index=log.index[late])))
    after = covariates.at_landmark(shuffled, stays, covariates=[LATE, TICKET], landmark="10d")
    pd.testing.assert_frame_equal(before, after)
    gone = covariates.at_landmark(log[~late], stays, covariates=[LATE, TICKET], landmark="10d")
    pd.testing.assert_frame_equal(before, gone)
    assert before[["late", "unresolved"]].sum().all()


def test_immortal_time_is_avoided() -> None:
    """A feature without effect: "ever used" looks protective, used before the landmark does not."""
    rng = np.random.default_rng(7)
    n = 1500
    life, use = rng.exponential(100, n), rng.exponential(60, n)
    rows = []
    for person in range(n):
        rows.append((person, 0.0, "join"))
        if use[person] < min(life[person], 300):
            rows.append((person, use[person], "feature"))
        if life[person] < 300:
            rows.append((person, life[person], "left"))
    log = pd.DataFrame(rows, columns=["person_id", "day", "event"])
    log = log.assign(
        timestamp=START + pd.to_timedelta(log["day"], unit="D"), source="s", source_row=np.arange(len(log))
    )
    log["event_id"] = log["source_row"].astype(str)
    stays = spells.spells(log, start=["join"], end=["left"], as_of=START + pd.Timedelta("300D"))
    feature = config.Covariate(name="feature", events="feature")
    table = covariates.at_landmark(log, stays, covariates=[feature], landmark="40d")
    line = cox.cox(table, [feature]).iloc[0]
    assert line["hazard_ratio_low"] < 1 < line["hazard_ratio_high"]
    assert 0.8 < line["hazard_ratio"] < 1.25
    ever = stays.assign(feature=stays["person_id"].isin(log.loc[log["event"] == "feature", "person_id"]).astype(float))
    assert cox.cox(ever, [feature]).iloc[0]["hazard_ratio"] < 0.5


def test_covariate_names_must_be_free() -> None:
    stays = spells.spells(make_log("u1: a"), start=["a"], end=["b"], as_of="2025-02-01")
    with pytest.raises(JourneyError, match="'ended' is a column"):
        covariates.at_landmark(make_log("u1: a"), stays, covariates=names("ended"))


# Cox


def test_published_cox_models() -> None:
    columns = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]
    table = cox.cox(rossi(), names(*columns))
    expected = [-0.3794, -0.0574, 0.3139, -0.1498, -0.4337, -0.0849, 0.0915]
    assert np.log(table["hazard_ratio"]).tolist() == pytest.approx(expected, abs=6e-5)
    assert table.attrs["log_likelihood"] == pytest.approx(-658.748, abs=1e-3)
    errors = np.log(table["hazard_ratio_high"] / table["hazard_ratio_low"]) / 2 / curves.Z95
    assert errors[[0, 1, 6]].tolist() == pytest.approx([0.1914, 0.0220, 0.0286], abs=6e-5)
    ph = table.set_index("covariate")["proportionality_p_value"]
    assert (round(ph["age"], 4), round(ph["wexp"], 3)) == (0.0007, 0.007)
    sex = cox.cox(lung(), names("sex")).iloc[0]
    assert np.log(sex["hazard_ratio"]) == pytest.approx(-0.53102, abs=1e-5)


def test_planted_hazard_ratio_is_recovered_and_intervals_cover() -> None:
    hits = 0
    for seed in range(100):
        line = cox.cox(people(400, ratio=2.0, seed=seed), names("late")).iloc[0]
        hits += line["hazard_ratio_low"] <= 2.0 <= line["hazard_ratio_high"]
    assert 88 <= hits <= 99
    big = cox.cox(people(20_000, ratio=2.0, seed=1), names("late", "noise"))
    assert big["hazard_ratio"].tolist() == pytest.approx([2.0, 1.0], rel=0.06)
    assert (big["n"] == 20_000).all()
    assert big["people_with_n"].iloc[0] == (people(20_000, seed=1)["late"] > 0).sum()


def test_hostile_tables_give_sentences() -> None:
    table = people(300)
    separated = table.assign(late=np.where(table["ended"] == 1, 1.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "0 people left" in cox.cox(table.assign(ended=0), names("late")).attrs["reason"]
        assert len(cox.cox(table.assign(ended=1), names("late"))) == 1
        assert "at least 10" in cox.cox(table.head(10), names("late")).attrs["reason"]
        assert "n = 0" in covariates.at_landmark(make_log("u1: a"), _no_spells(), covariates=[LATE]).attrs["reason"]
        assert "0 people left" in cox.cox(table.head(0), names("late")).attrs["reason"]
        assert "everybody who left had it" in cox.cox(separated, names("late")).attrs["reason"]
        both = cox.cox(table.assign(same=1.0, copy=table["late"]), names("late", "same", "copy"))
        assert both["covariate"].tolist() == ["late"]
        assert "same for everyone" in both.attrs["note"]
        assert "repeats" in both.attrs["note"]
        rare = cox.cox(table.assign(rare=np.arange(300) < 4), names("late", "rare"))
        assert "fewer than 5 people" in rare.attrs["note"]
        score = np.where(table["ended"] == 1, 1000 - table["duration_days"], -1000 - table["duration_days"])
        settled = cox.cox(table.assign(score=score), names("score"))
        assert settled.empty
        assert "did not settle" in settled.attrs["reason"]
        assert "no covariates" in cox.cox(table, []).attrs["reason"]


def test_days_kept_has_the_sign_of_those_with_the_covariate() -> None:
    for share in (0.3, 0.7):  # the larger group is once those with and once those without
        line = cox.days_kept(people(2000, ratio=3.0, share=share), names("late"), 180).iloc[0]
        assert line["difference_days_low"] <= line["difference_days"] <= line["difference_days_high"] < 0
        assert line["people_with_n"] + line["people_without_n"] == 2000
    assert cox.days_kept(people(2000).assign(late=0.0), names("late"), 180).empty


# out of time
