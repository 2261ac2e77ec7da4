"""Models of leaving and their contest: planted effects, calibration, lifelines, noise against signal, hostile data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter

from journeykit import config
from journeykit.churn import contest, models
from journeykit.churn.origin import WIDTH_DAYS, Known
from journeykit.plots import churn_predict as plots
from journeykit.plots import theme
from journeykit.readings import churn_predict as readings

ORIGIN = pd.Timestamp("2025-10-01")
LATE, NOISE = (config.Covariate(name=name, events="none", label=name) for name in ("late", "noise"))
BOTH = [LATE, NOISE]


def rows_of(started: np.ndarray, life: np.ndarray, until: float, **columns: np.ndarray) -> pd.DataFrame:
    """Person-periods of lives that begin at day `started` and are observed to day `until`."""
    seen = until - started
    days, ended = np.minimum(life, seen), (life <= seen).astype(int)
    periods = np.floor(days / WIDTH_DAYS).astype(int) + 1
    who = np.repeat(np.arange(len(life)), periods)
    period = np.concatenate([np.arange(n) for n in periods]) if len(life) else np.array([], dtype=int)
    to = np.minimum((period + 1) * WIDTH_DAYS, days[who])
    table = pd.DataFrame({"person_id": who, "period": period, "from_days": period * WIDTH_DAYS, "to_days": to})
    table["ended"] = np.where(to == days[who], ended[who], 0)
    return table.assign(**{name: values[who] for name, values in columns.items()})


def world(n: int, ratio: float = 1.0, seed: int = 0, daily: float = 0.004) -> tuple[Known, pd.DataFrame]:
    """What was known at an origin of people with one covariate of a known hazard ratio, and what came after."""
    rng = np.random.default_rng(seed)
    late, noise = (rng.random(n) < 0.4).astype(float), rng.integers(0, 2, n).astype(float)
    started, life = rng.uniform(0, 240, n), rng.exponential(1 / (daily * np.where(late == 1, ratio, 1.0)))
    rows = rows_of(started, life, 240.0, late=late, noise=noise)
    there = life > 240 - started
    people = pd.DataFrame({"person_id": np.arange(n), "tenure_days": 240 - started, "late": late, "noise": noise})
    after = life - (240 - started)
    people = people.assign(started_at=ORIGIN, after_days=np.minimum(after, 90.0), ended=(after <= 90).astype(int))
    people = people[there].reset_index(drop=True)
    starts = pd.DataFrame({"person_id": people["person_id"], "event_id": people["person_id"].astype(str)})
    return Known(ORIGIN, rows, people[["person_id", "started_at", "tenure_days", "late", "noise"]], starts), people


def played(n: int, ratio: float = 1.0, seed: int = 0, of: Sequence[config.Covariate] = BOTH) -> list[contest.Round]:
    known, people = world(n, ratio, seed)
    return [contest.play(known, people, of, ahead_days=90)]


def all_models(rows: pd.DataFrame) -> dict[str, models.Model]:
    seen = models.training(rows, BOTH)
    made = {name: models.fit(name, seen) for name in models.NAMES}
    assert all(reason == "" for _, reason in made.values())
    return {name: model for name, (model, _) in made.items() if model is not None}


# models


def test_all_models_are_calibrated_where_their_assumptions_hold() -> None:
    known, _ = world(12_000, ratio=2.5)
    asked = pd.DataFrame({"tenure_days": [0.0, 45.0, 100.0, 150.0], "late": [0.0, 1.0, 0.0, 1.0], "noise": 0.0})
    for name, model in all_models(known.rows).items():
        still = model.survival(asked, [30, 90, 200])  # 200 reaches beyond the tenures seen
        assert still.shape == (4, 3)
        assert (np.diff(still, axis=1) < 0).all()
        truth = np.exp(-0.004 * np.outer(np.where(asked["late"] == 1, 2.5, 1.0), [30, 90, 200]))
        if name != models.NULL:
            assert np.abs(still - truth).max() < 0.06, name
        else:
            assert len(set(still[0])) == 3
            assert (still.min(axis=0) >= truth.min(axis=0)).all()


def test_hazard_that_changes_with_tenure_is_followed() -> None:
    rng = np.random.default_rng(1)
    n = 8000
    started, first = rng.uniform(0, 240, n), rng.exponential(1 / 0.01, n)
    life = np.where(first <= 30, first, 30 + rng.exponential(1 / 0.002, n))  # five times as likely in the first month
    rows = rows_of(started, life, 240.0, late=rng.integers(0, 2, n), noise=rng.integers(0, 2, n))
    asked = pd.DataFrame({"tenure_days": [0.0, 15.0, 30.0, 100.0], "late": 0.0, "noise": 0.0})
    truth = np.exp(-np.array([0.3 + 0.12, 0.15 + 0.15, 0.18, 0.18]))
    for name, model in all_models(rows).items():
        assert model.survival(asked, [90])[:, 0] == pytest.approx(truth, abs=0.035), name


def test_kaplan_meier_is_lifelines_with_late_entry() -> None:
    rng = np.random.default_rng(2)
    entry, life = rng.uniform(0, 60, 400), rng.exponential(100, 400)
    kept = life > entry
    entry, life = entry[kept], life[kept]
    seen = np.minimum(life, 150)
    rows = pd.DataFrame({"person_id": np.arange(len(life)), "period": 0, "from_days": entry, "to_days": seen})
    seen_rows = models.training(rows.assign(ended=(life <= 150).astype(int)), [])
    model, reason = models.fit(models.NULL, seen_rows)
    assert not reason
    fit = KaplanMeierFitter().fit(seen, life <= 150, entry=entry)
    tenure = np.array([10.0, 40.0])
    found = model.survival(pd.DataFrame({"tenure_days": tenure}), [20, 60])
    expected = [[float(fit.predict(t + d) / fit.predict(t)) for d in (20, 60)] for t in tenure]
    assert found.tolist() == [pytest.approx(row, abs=1e-9) for row in expected]


def test_cox_is_lifelines_on_start_stop_rows_and_its_curve_knows_of_entries() -> None:
    known, _ = world(1500, ratio=2.0)
    rows = known.rows.assign(to_days=np.ceil(known.rows["to_days"]))  # whole days, as the model takes them
    model = all_models(rows)[models.COX]
    assert isinstance(model, models.Proportional)
    data = rows[["from_days", "to_days", "ended", "late", "noise"]]
    fit = CoxPHFitter().fit(data, "to_days", "ended", entry_col="from_days")
    assert model.effects == pytest.approx(fit.params_[["late", "noise"]].to_numpy(), abs=1e-6)
    # Of one row a person, without entries, the curve too is that of lifelines.
    whole = rows.groupby("person_id").agg(to_days=("to_days", "max"), ended=("ended", "max"), late=("late", "first"),
                                          noise=("noise", "first"))  # fmt: skip
    plain = CoxPHFitter().fit(whole, "to_days", "ended")
    asked = pd.DataFrame({"tenure_days": 0.0, "late": [0.0, 1.0], "noise": 1.0})
    expected = plain.predict_survival_function(asked, times=[30, 90, 150]).to_numpy().T
    assert model.survival(asked, [30, 90, 150]) == pytest.approx(expected, abs=1e-6)


def test_the_discrete_hazard_recovers_the_planted_ratio() -> None:
    inside = 0
    for seed in range(30):
        known, _ = world(1500, ratio=2.0, seed=seed)
        model, _ = models.fit(models.HAZARD, models.training(known.rows, BOTH))
        still = model.survival(pd.DataFrame({"tenure_days": 60.0, "late": [0.0, 1.0], "noise": 0.0}), [30])[:, 0]
        inside += abs(np.log(np.log(still[1]) / np.log(still[0])) - np.log(2)) < 2 * 0.1
    assert inside >= 25


def test_partly_observed_periods_do_not_bend_the_hazard() -> None:
    """Half of the last rows are cut short by the end of observation: counted whole, hazards would be far too low."""
    rng = np.random.default_rng(3)
    started, life = rng.uniform(200, 240, 20_000), rng.exponential(1 / 0.01, 20_000)
    rows = rows_of(started, life, 240.0, late=rng.integers(0, 2, 20_000), noise=rng.integers(0, 2, 20_000))
    still = all_models(rows)[models.HAZARD].survival(
        pd.DataFrame({"tenure_days": [0.0], "late": 0.0, "noise": 0.0}), [30]
    )
    assert still[0, 0] == pytest.approx(np.exp(-0.3), abs=0.015)


def test_order_of_rows_and_people_changes_nothing() -> None:
    known, _ = world(600, ratio=2.0)
    asked = known.there.head(50)
    for name, model in all_models(known.rows).items():
        again = all_models(known.rows.sample(frac=1, random_state=1))[name]
        assert again.survival(asked, [30, 90]) == pytest.approx(model.survival(asked, [30, 90]), abs=1e-9)


def test_hostile_rows_give_sentences() -> None:
    known, _ = world(400, ratio=2.0)
    rows = known.rows
    left = rows.groupby("person_id")["ended"].transform("max").astype(float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hostile = {
            "0 people left": rows.assign(ended=0),
            "n = 0 people": rows.head(0),
            "n = 10 people": rows[rows["person_id"] < 10],
            "the same for everyone": rows.assign(late=1.0, noise=0.0),
        }
        for words, table in hostile.items():
            seen = models.training(table, BOTH)
            assert words in models.fit(models.COX, seen)[1], words
            for name in models.NAMES:
                model, reason = models.fit(name, seen)
                assert (model is None) == bool(reason)
        for table in (rows.assign(late=left), rows.assign(late=1 - left)):  # everybody, nobody who left had it
            seen = models.training(table, BOTH)
            assert any("who left had it" in note for note in seen.notes)
            model, reason = models.fit(models.HAZARD, seen)
            assert not reason
            assert np.isfinite(model.survival(known.there.assign(late=1.0), [90])).all()
        apart = rows.assign(late=np.where(left == 1, 5.0, rows["person_id"] % 3))
        for name in (models.COX, models.HAZARD):
            assert models.fit(name, models.training(apart, BOTH))[1] == models.UNSETTLED
        all_left = world(400, ratio=2.0, daily=0.2)[0].rows
        for name in models.NAMES:
            model, reason = models.fit(name, models.training(all_left, BOTH))
            assert reason or np.isfinite(model.survival(known.there, [90])).all()


# contest


def test_without_signal_the_null_is_chosen() -> None:
    chosen = [contest.chosen(contest.compare(played(600, seed=seed), repeats=200)) for seed in range(10)]
    assert chosen.count(models.NULL) >= 9


def test_with_strong_signal_the_null_is_not_chosen() -> None:
    for seed in range(3):
        table = contest.compare(played(1500, ratio=4.0, seed=seed), repeats=200).set_index("model")
        assert contest.chosen(table.reset_index()) in (models.COX, models.HAZARD)
        row = table.loc[models.COX]
        assert 0 < row["skill_share_low"] < row["skill_share"] < row["skill_share_high"]
        assert row["uno_c_low"] > 0.55
        assert row["expected_to_observed_low"] < 1.05
        assert table.loc[models.NULL, "behind_best_share_low"] > 0
        assert table.loc[models.NULL, "skill_share"] == 0


def test_the_simplest_within_noise_is_chosen_not_the_best() -> None:
    for seed in range(4):
        table = contest.compare(played(800, ratio=4.0, seed=seed), repeats=200)
        chosen = table[table["chosen"] == "yes"].iloc[0]
        simpler = table.loc[: chosen.name - 1]
        assert (simpler["behind_best_share_low"] > 0).all()
        assert chosen["behind_best_share_low"] <= 0 or chosen["behind_best_share"] == 0
        assert (table["behind_best_share"] >= 0).all()


def test_tables_of_the_contest_add_up() -> None:
    rounds = played(1200, ratio=4.0)
    table = contest.compare(rounds, repeats=80)
    again = contest.compare(played(1200, ratio=4.0), repeats=80)
    pd.testing.assert_frame_equal(table, again)
    people = rounds[0].people
    assert table["n"].eq(len(people)).all()
    assert table["left_n"].eq(people["ended"].sum()).all()
    bands = contest.bands(rounds, models.COX)
    assert bands["left_n"].sum() == people["ended"].sum()
    called = contest.gain(rounds, models.COX, repeats=80)
    assert called["reached_share"].is_monotonic_increasing
    tenth = called.set_index("called_share")["reached_share"].iloc[1]
    leaves = 1 - rounds[0].still_there[models.COX][:, -1]
    top = leaves >= np.quantile(leaves, 0.9)
    assert tenth == pytest.approx(people.loc[top, "ended"].sum() / people["ended"].sum(), abs=0.03)
    assert called["reached_share_low"].iloc[1] > 0.1  # better than calling at random
    # Two origins: their people are one test, and a person of both is drawn with both.
    both = contest.compare([rounds[0], rounds[0]], repeats=80).set_index("model")
    assert both.loc[models.COX, "n"] == 2 * len(people)
    wide = [row["skill_share_high"] - row["skill_share_low"] for row in (both.loc[models.COX], table.iloc[1])]
    assert wide[0] == pytest.approx(wide[1], rel=1e-6)


def test_a_contest_of_too_few_ends_with_a_sentence() -> None:
    known, people = world(400, ratio=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows, tested, words in (
            (known.rows, people.head(0), "no model can be tested"),
            (known.rows, people.assign(ended=0, after_days=90.0), "0 people left after 2025-10-01"),
            (known.rows.assign(ended=0), people, "0 people left"),
            (known.rows[known.rows["person_id"] < 10], people.head(10), "n = "),
            (known.rows, people.head(10).assign(ended=1), "n = 10, at least 20"),
        ):
            few = Known(ORIGIN, rows, known.there, known.starts)
            rounds = [contest.play(few, tested, BOTH, ahead_days=90)]
            table = contest.compare(rounds, repeats=50)
            assert words in table.attrs["reason"]
            assert contest.chosen(table) == ""
            for empty in (contest.bands(rounds, models.NULL), contest.gain(rounds, models.NULL)):
                assert len(empty) or empty.attrs["reason"]
            assert readings.comparison(table) == readings.modest(table) == readings.calibrated(table) == ""
        alone = contest.compare([contest.play(known, people, [], ahead_days=90)], repeats=50)
        assert contest.chosen(alone) == models.NULL
        assert "no covariate can be used" in alone["remark"].iloc[1]
        everybody = [contest.play(known, people.assign(ended=1, after_days=5.0), BOTH, ahead_days=90)]
        assert contest.chosen(contest.compare(everybody, repeats=50)) in models.NAMES


# sentences and pictures


def test_readings_say_what_the_tables_say() -> None:
    rounds = played(2500, ratio=4.0)
    table, called = contest.compare(rounds, repeats=200), contest.gain(rounds, models.COX, repeats=200)
    name = contest.chosen(table)
    said = readings.comparison(table)
    assert f"{name} is chosen" in said
    assert f"{len(rounds[0].people):,} people there then" in said
    assert "2025-10-01" in said
    assert "calling the 10 % with the highest risk" in readings.gain(called)
    assert f"{name}: expected over observed leavers is" in readings.calibrated(table)
    found = readings.findings(table, called, pd.DataFrame(), pd.DataFrame())
    assert [finding.id for finding in found] == ["churn.skill", "churn.gain"]
    assert all(f.low <= f.value <= f.high and f.n for f in found)
    assert found[1].headline
    for ax in (plots.models(table), plots.calibration(contest.bands(rounds, name)), plots.gain(called)):
        assert "<svg" in theme.svg(ax)


def test_a_null_that_wins_is_told_honestly() -> None:
    table = contest.compare(played(600, seed=3), repeats=200)
    assert contest.chosen(table) == models.NULL
    assert "do not score single people with it" in readings.comparison(table)
    assert readings.modest(table) == ""
    (finding,) = readings.findings(table, pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    assert "Do not score single people" in finding.action
