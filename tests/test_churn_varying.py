"""The model of covariates counted over time, against published figures, planted truth and hostile tables; sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, CoxTimeVaryingFitter
from lifelines.datasets import load_stanford_heart_transplants

from journeykit import config, present
from journeykit.churn import cox, curves, immortal, proportional, varying
from journeykit.plots import churn_cox as plots
from journeykit.plots import theme
from journeykit.readings import churn_cox as readings
from tests.test_churn_cox import feature, names, people, turning

CHOICE = config.Churn(start="joined", end="left", covariates=names("late", "noise"))


def heart() -> pd.DataFrame:
    return load_stanford_heart_transplants().rename(
        columns={"id": "person_id", "start": "from_days", "stop": "to_days", "event": "ended"}
    )


def poor(n: int, ratio: float, seed: int) -> pd.DataFrame:
    """Periods of 30 days with poor moments so far, each of which multiplies leaving."""
    rng = np.random.default_rng(seed)
    rows = []
    so_far, there = np.zeros(n), np.arange(n)
    for period in range(10):
        life = rng.exponential(1 / (0.004 * ratio ** so_far[there]))
        ended = life < 30
        rows.append(
            pd.DataFrame(
                {
                    "person_id": there,
                    "period": period,
                    "from_days": 30.0 * period,
                    "to_days": 30.0 * period + np.minimum(life, 30),
                    "ended": ended.astype(int),
                    "poor": so_far[there],
                }
            )
        )
        there = there[~ended]
        so_far += rng.random(n) < 0.15
    return pd.concat(rows, ignore_index=True)


def test_published_stanford_heart_figures() -> None:
    wanted = names("age", "year", "surgery", "transplant")
    table = varying.over_time(heart(), wanted, minimum_events_per_parameter=10)
    expected = [0.0272, -0.1463, -0.6372, -0.0103]
    assert np.log(table["hazard_ratio"]).tolist() == pytest.approx(expected, abs=6e-5)
    assert table["n"].tolist() == [103] * 4
    assert table["events_n"].tolist() == [75] * 4
    assert table["rows_n"].tolist() == [len(heart())] * 4
    rows = load_stanford_heart_transplants()
    theirs = CoxTimeVaryingFitter().fit(rows, id_col="id", start_col="start", stop_col="stop", event_col="event")
    errors = np.log(table["hazard_ratio_high"] / table["hazard_ratio_low"]) / 2 / curves.Z95
    order = ["age", "year", "surgery", "transplant"]
    assert errors.tolist() == pytest.approx(theirs.standard_errors_[order].tolist(), abs=1e-5)
    entry = CoxPHFitter().fit(rows.drop(columns="id"), "stop", "event", entry_col="start")
    assert np.log(table["hazard_ratio"]).tolist() == pytest.approx(entry.params_[order].tolist(), abs=1e-4)


def test_poor_moments_counted_over_time_are_recovered() -> None:
    wanted = config.Covariate(name="poor", kind="poor", label="Poor moments")
    hits = 0
    for seed in range(40):
        line = varying.over_time(poor(600, 1.3, seed), [wanted]).iloc[0]
        hits += line["hazard_ratio_low"] <= 1.3 <= line["hazard_ratio_high"]
    assert 34 <= hits <= 40
    rows = poor(6000, 1.3, 1)
    line = varying.over_time(rows, [wanted]).iloc[0]
    assert line["hazard_ratio"] == pytest.approx(1.3, rel=0.05)
    assert line["people_with_n"] == rows.loc[rows["poor"] > 0, "person_id"].nunique()
    shuffled = varying.over_time(rows.sample(frac=1, random_state=1), [wanted])
    pd.testing.assert_frame_equal(shuffled, varying.over_time(rows, [wanted]), check_exact=True)


def test_hostile_rows_give_sentences() -> None:
    rows = poor(300, 1.3, 1).assign(answer=np.nan, same=1.0)
    wanted = [config.Covariate(name="poor", kind="poor")]
    answer = config.Covariate(name="answer", kind="satisfaction")
    assert "0 people left" in varying.over_time(rows.assign(ended=0), wanted).attrs["reason"]
    assert "0 people left" in varying.over_time(rows.head(0), wanted).attrs["reason"]
    assert "at least 10" in varying.over_time(rows[rows["person_id"] < 5], wanted).attrs["reason"]
    assert "no covariates" in varying.over_time(rows, []).attrs["reason"]
    assert "same for everyone" in varying.over_time(rows, [answer]).attrs["reason"]
    both = varying.over_time(rows, [*wanted, answer, *names("same")])
    assert both["covariate"].tolist() == ["poor"]
    separated = rows.assign(poor=np.where(rows["ended"] == 1, 1.0, 0.0))
    assert "everybody who left had it" in varying.over_time(separated, wanted).attrs["reason"]
    split = rows.assign(poor=np.where(rows["ended"] == 1, 1000 - rows["to_days"], -1000 - rows["to_days"]))
    assert "did not settle" in varying.over_time(split, wanted).attrs["reason"]


def test_sentences_say_what_is_compared() -> None:
    late = readings.ratios(cox.cox(people(2000), names("late", "noise")), CHOICE)
    assert late.startswith("People with “late” by day 30 leave ")
    assert "times as fast (" in late
    assert "noise" not in late
    wanted = config.Covariate(name="poor", kind="poor", label="Poor moments")
    counted = CHOICE.model_copy(update={"covariates": [wanted]})
    text = readings.over_time(varying.over_time(poor(6000, 1.3, 1), [wanted]), counted)
    assert text.startswith("Each further “Poor moments” so far goes with people who leave 1.3 times as fast")
    nothing = cox.cox(people(300, ratio=1.0), names("noise"))
    assert readings.ratios(nothing, CHOICE).startswith("No covariate goes clearly")
    reached = config.Churn(start=[], end="bought", covariates=names("late"))
    assert "reach “bought”" in readings.ratios(cox.cox(people(2000), names("late")), reached)
    for empty in (cox.cox(people(5), names("late")), varying.over_time(poor(3, 1, 1), [wanted])):
        assert readings.ratios(empty, CHOICE) == readings.assumption(empty) == ""
    assert readings.findings(cox.cox(people(5), names("late")), CHOICE) == []


def test_sentences_of_ratios_that_change() -> None:
    table, wanted = turning(), names("late", "noise")
    found = cox.cox(table, wanted)
    assert "“late” changes with tenure" in readings.assumption(found)
    assert "Nothing speaks against" in readings.assumption(cox.cox(people(2000), wanted))
    parts = proportional.early_late(table, wanted, ["late"])
    assert "differ by more than chance explains" in readings.changes(parts)
    others = proportional.stratified(table, wanted, ["late"])
    assert "all other ratios stay within" in readings.stratified(others, found)
    assert readings.changes(proportional.early_late(table, wanted, [])) == ""
    assert readings.stratified(proportional.stratified(table, wanted, []), found) == ""


def test_sentences_of_three_ways() -> None:
    log, stays = feature(3000, 1)
    used = [config.Covariate(name="feature", events="feature")]
    text = readings.three_ways(immortal.three_ways(log, stays, used, landmark="40d"))
    assert "flatters it" in text
    assert "Do not use it" in text
    early = log.assign(timestamp=log["timestamp"].where(log["event"] == "join", log["timestamp"].min()))
    at_once = immortal.three_ways(early, stays, used)
    assert "the mistake is small" in readings.three_ways(at_once)
    assert readings.three_ways(immortal.three_ways(log, stays.head(3), used)) == ""


def test_findings_are_associations_with_a_thing_to_do() -> None:
    table = cox.cox(people(2000), names("late", "noise"))
    (found,) = readings.findings(table, CHOICE, lambda event: f"owner of {event}")
    assert (found.id, found.evidence, found.better, found.unit) == ("churn.ratio.late", "associated", "down", "ratio")
    assert found.owner == "owner of none"
    assert found.low < found.value < found.high
    assert "experiment" in found.action
    assert "not caused" in found.caveat
    wanted = config.Covariate(name="poor", kind="poor", label="Poor moments")
    counted = varying.over_time(poor(6000, 1.3, 1), [wanted])
    both = readings.findings(table, CHOICE, over_time=counted)
    assert [finding.id for finding in both] == ["churn.ratio.late", "churn.over_time.poor"]
    assert not both[1].headline


@pytest.mark.parametrize("kind", ["forest", "early_late", "three_ways", "days_kept"])
def test_pictures_say_what_the_tables_say(kind: str) -> None:
    log, stays = feature(2000, 1)
    table = {
        "forest": lambda: cox.cox(people(2000), names("late", "noise")),
        "early_late": lambda: proportional.early_late(turning(), names("late", "noise"), ["late"]),
        "three_ways": lambda: immortal.three_ways(log, stays, [config.Covariate(name="f", events="feature")]),
        "days_kept": lambda: cox.days_kept(people(2000), names("late", "noise"), 180),
    }[kind]()
    ax = getattr(plots, kind)(table)
    written = " ".join(text.get_text() for text in ax.texts)
    first = table.iloc[0]
    value = first["difference_days"] if kind == "days_kept" else first["hazard_ratio"]
    digits = 1 if kind == "days_kept" else 2
    assert present.number(value, digits).replace("-", "−") in written
    assert len(ax.get_yticklabels()) == len(table)
    assert len(theme.svg(ax)) < 60_000
    assert list(readings.shown(table))
