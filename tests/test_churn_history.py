"""What a model of an earlier day may know: nothing after it, not even who an earlier event belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from journeykit import config, engine, events, journeys, study
from journeykit.churn import contest, drift, history, models, scores
from journeykit.churn.origin import Known, known_at, outcome
from tests.conftest import make_log

AS_OF, ORIGIN = pd.Timestamp("2026-01-01"), pd.Timestamp("2025-10-03")
TOML = """
[study]
title = "Plans"
as_of = "2026-01-01"
[identity]
identifiers = ["customer", "device"]
devices = ["device"]
[[sources]]
name = "log"
path = "raw/log.csv"
time = { column = "at" }
event = "event"
identifiers = { customer = "who", device = "device" }
[[stages]]
name = "Use"
touchpoints = { Use = ["*"] }
[churn]
start = "joined"
end = "left"
ahead = "90d"
[[churn.covariates]]
name = "ticket"
events = "ticket"
[churn.value]
margin = 10.0
"""


def log_of(n: int, seed: int = 0) -> pd.DataFrame:
    """Customers who join all year; half have a ticket, seen on a device that signs in only much later."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[pd.Timestamp, str, str, str]] = []
    for number in range(n):
        who, device = f"c{number}", f"d{number}"
        joined = pd.Timestamp("2025-01-01") + pd.Timedelta(days=float(rng.uniform(0, 330)))
        has = rng.random() < 0.5
        life = rng.exponential(1 / (0.012 if has else 0.0015))
        rows.append((joined, "joined", who, ""))
        if has:
            rows.append((joined + pd.Timedelta(hours=1), "ticket", "", device))
            # Only this tells whose ticket it was: for some before the origin, for others after it.
            rows.append(
                (joined + pd.Timedelta(days=float(rng.choice([1.0, 150.0], p=[0.8, 0.2]))), "signed_in", who, device)
            )
        rows.append((joined + pd.Timedelta(days=life), "left", who, ""))
    table = pd.DataFrame(rows, columns=["at", "event", "who", "device"])
    table = table[table["at"] < AS_OF].sort_values(["at", "who", "event"], ignore_index=True)
    return table.assign(at=[f"{at:%Y-%m-%d %H:%M:%S}" for at in table["at"]])


def made(folder: Path, table: pd.DataFrame) -> study.OpenStudy:
    (folder / "raw").mkdir(parents=True)
    (folder / "journey.toml").write_text(TOML)
    table.to_csv(folder / "raw" / "log.csv", index=False)
    opened = study.open_study(str(folder))
    events.ingest(opened)
    journeys.build(opened)
    return opened


def plan_of(opened: study.OpenStudy) -> config.Churn:
    assert opened.config.churn is not None
    return opened.config.churn


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> study.OpenStudy:
    return made(tmp_path_factory.mktemp("whole") / "plans", log_of(700))


@pytest.fixture(scope="module")
def known(opened: study.OpenStudy) -> Known:
    return history.as_it_was(opened, plan_of(opened), ORIGIN)


@pytest.fixture(scope="module")
def predicted(opened: study.OpenStudy) -> history.Prediction:
    return history.predict(opened, plan_of(opened), repeats=100)


@pytest.mark.parametrize("what", ["deleted", "shuffled", "altered"])
def test_nothing_after_the_origin_changes_a_feature_or_a_score(what: str, known: Known, tmp_path: Path) -> None:
    table = log_of(700)
    later = pd.to_datetime(table["at"]) > ORIGIN
    assert later.sum() > 100
    if what == "deleted":
        table = table[~later]
    elif what == "shuffled":  # who did it, and on which device: other sign-ins join other people
        mixed = table.loc[later, ["event", "who", "device"]].sample(frac=1, random_state=1)
        table.loc[later, ["event", "who", "device"]] = mixed.to_numpy()
    else:
        table.loc[later, "event"] = "ticket"
        table.loc[later, "device"] = "d1"
    changed = made(tmp_path / "plans", table)
    plan = plan_of(changed)
    again = history.as_it_was(changed, plan, ORIGIN)
    pd.testing.assert_frame_equal(again.rows, known.rows)
    pd.testing.assert_frame_equal(again.there, known.there)
    for name in models.NAMES:
        said = [
            models.fit(name, models.training(each.rows, plan.covariates))[0].survival(each.there, [30, 90])  # type: ignore[union-attr]
            for each in (known, again)
        ]
        np.testing.assert_array_equal(said[0], said[1])


def test_stitching_of_now_would_have_told_the_future(opened: study.OpenStudy, known: Known) -> None:
    """The test above can fail: with the people of now, tickets are known that nobody could know then."""
    leaked = known_at(opened.table("touches"), plan_of(opened), as_of=ORIGIN)
    assert leaked.rows["ticket"].sum() > known.rows["ticket"].sum() + 20
    assert known.rows["ticket"].sum() > 0


def test_who_was_there_and_what_became_of_them(opened: study.OpenStudy, known: Known) -> None:
    people = outcome(known, opened.table("touches"), plan_of(opened), as_of=AS_OF)
    raw = log_of(700)
    at = pd.to_datetime(raw["at"])
    joined = raw[raw["event"] == "joined"].assign(at=at).set_index("who")["at"]
    left = raw[raw["event"] == "left"].assign(at=at).set_index("who")["at"].reindex(joined.index)
    there = (joined <= ORIGIN) & ~(left <= ORIGIN)
    assert len(people) == len(known.there) == there.sum()
    assert people["ended"].sum() == (there & left.notna()).sum()
    assert people["after_days"].max() == people.attrs["at_most_days"] == 90
    expected = ((left[there] - ORIGIN) / pd.Timedelta(days=1)).dropna().sort_values()
    assert sorted(people.loc[people["ended"] == 1, "after_days"]) == pytest.approx(expected.tolist(), abs=1e-6)
    assert (people.attrs["lost_n"], people.attrs["gone_n"], people.attrs["merged_n"]) == (0, 0, 0)


def test_people_of_then_who_are_one_now_or_had_left_are_counted_not_tested() -> None:
    plan = config.Churn(start="joined", end="left")
    log = make_log("u1: joined@0d | u2: joined@1d | u3: joined@2d | u4: joined@3d left@60d")
    then = known_at(log, plan, as_of=pd.Timestamp("2025-01-31"))
    assert then.there["person_id"].tolist() == [1, 2, 3, 4]
    now = log.assign(person_id=log["person_id"].replace({2: 1}))  # two of then turn out to be one
    gone = pd.DataFrame([log.iloc[0].to_dict() | {"event": "left", "event_id": "x", "source_row": 99, "person_id": 3,
                                                  "timestamp": pd.Timestamp("2025-01-10"), "position": 2}])  # fmt: skip
    now = pd.concat([now[now["person_id"] != 9], gone], ignore_index=True)
    people = outcome(then, now, plan, as_of=pd.Timestamp("2025-04-01"))
    assert people["person_id"].tolist() == [1, 4]
    assert (people.attrs["merged_n"], people.attrs["gone_n"]) == (1, 1)
    assert "1 had left already" in people.attrs["note"]
    assert people["after_days"].tolist() == pytest.approx([60.0, 30.0])


def test_inactivity_looks_from_the_day_to_which_leaving_is_known() -> None:
    plan = config.Churn(kind="inactivity", activity="buy", quiet="20d")
    log = make_log("u1: buy@0d buy@15d buy@30d buy@45d buy@60d | u2: buy@0d buy@15d buy@30d | u3: buy@0d")
    then = known_at(log, plan, as_of=pd.Timestamp("2025-02-10"))  # day 40: leaving is known to day 20
    assert then.at == pd.Timestamp("2025-01-21")
    assert then.there["person_id"].tolist() == [1, 2]
    people = outcome(then, log, plan, as_of=pd.Timestamp("2025-03-22"))
    assert people["ended"].tolist() == [0, 1]
    assert people["after_days"].iloc[1] == pytest.approx(10.0)  # the last sign of life, day 30


def test_the_whole_prediction_of_a_study(predicted: history.Prediction, opened: study.OpenStudy) -> None:
    name = contest.chosen(predicted.comparison)
    assert name != models.NULL  # six times the hazard: no noise
    assert predicted.comparison.attrs["origins"] == "2025-07-05 and 2025-10-03"
    people = engine.fetch(opened.table("people"))
    customers = set(people.loc[people["id_name"] == "customer", "id_token"])
    assert predicted.scores["id_name"].eq("customer").all()
    assert set(predicted.scores["id_token"]) <= customers
    assert not predicted.scores.astype(str).apply(lambda column: column.str.fullmatch(r"[cd]\d+")).to_numpy().any()
    assert predicted.scores["at_stake_value"].round(8).is_monotonic_decreasing
    assert predicted.scores.iloc[0]["reasons"].startswith("ticket: yes (+")
    assert predicted.since.iloc[0]["n"] > 100
    for table in (predicted.inputs, predicted.changes, predicted.bands, predicted.gain):
        assert len(table)


def test_it_is_computed_once(
    predicted: history.Prediction, opened: study.OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(history, "as_it_was", refuse)
    again = history.predict(opened, plan_of(opened), repeats=100)
    pd.testing.assert_frame_equal(again.scores, predicted.scores)
    assert again.scores.attrs == predicted.scores.attrs != {}
    with pytest.raises(AssertionError, match="computed again"):
        history.predict(opened, plan_of(opened).model_copy(update={"ahead": "60d"}), repeats=100)


def test_drift_against_an_earlier_run_finds_its_people_by_token(
    predicted: history.Prediction, opened: study.OpenStudy, known: Known
) -> None:
    plan = plan_of(opened)
    names = engine.fetch(opened.table("people"))
    owners = outcome(known, opened.table("touches"), plan, as_of=AS_OF)
    tokens = names[names["id_name"] == "customer"].set_index("person_id")["id_token"]
    then = pd.DataFrame({"id_name": "customer", "id_token": owners["now_id"].map(tokens), "leaves_share": 0.3})
    then = then.assign(scored_at="2025-10-03", ahead_days=90.0)
    before = drift.Before("r", ORIGIN, drift.inputs(known.there, plan.covariates), then)
    changes, since = history.drifted(opened, plan, predicted, before)
    row = since.iloc[0]
    assert row["n"] == len(owners)
    assert row["observed_left_n"] == owners["ended"].sum()
    assert row["expected_left_n"] == pytest.approx(0.3 * len(owners))
    assert set(changes["covariate"]) == {"tenure_days", "ticket"}
    nobody = drift.Before("r", ORIGIN, before.inputs, then.head(0))
    assert "scored nobody" in history.drifted(opened, plan, predicted, nobody)[1].attrs["reason"]


@pytest.mark.parametrize("n", [0, 1, 10])
def test_small_studies_end_with_sentences(n: int, tmp_path: Path) -> None:
    opened = made(tmp_path / "plans", log_of(n))
    found = history.predict(opened, plan_of(opened), repeats=20)
    assert "scored" in found.scores.attrs["reason"] or "no event" in found.scores.attrs["reason"]
    for name in ("comparison", "bands", "gain", "inputs", "changes", "since"):
        table = getattr(found, name)
        assert table.empty
        assert table.attrs["reason"]
    assert tuple(found.scores.columns) == scores.SCORE_COLUMNS
