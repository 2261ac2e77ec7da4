"""How much depends on the policy: the chapters' own figures under each, people moved, and the labelled sample."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from journeykit import engine, hindsight, identity, sensitivity, study
from journeykit.errors import JourneyError
from journeykit.plots import stitching as plots
from journeykit.readings import stitching as readings


@pytest.fixture(scope="module")
def opened(laptop_store: Path) -> study.OpenStudy:
    assert laptop_store
    return study.open_study("laptop_store")


@pytest.fixture(scope="module")
def figures(opened: study.OpenStudy) -> pd.DataFrame:
    return sensitivity.figures(opened)


def test_the_figures_of_the_policy_in_use_are_those_of_the_chapters(figures: pd.DataFrame, laptop_store: Path) -> None:
    own = figures[figures["used"]].set_index("figure")
    assert own["policy"].unique().tolist() == ["graph_strict"]

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(laptop_store / "tables" / f"{name}.csv")

    steps = table("04_funnel__funnel").iloc[-1]
    columns = ["value", "value_low", "value_high"]
    shares = ["share_of_start", "share_of_start_low", "share_of_start_high"]
    assert own.loc["Product page → Order", columns].tolist() == pytest.approx(steps[shares].tolist())
    median = table("04_funnel__times").set_index("part").loc["whole funnel"]
    assert own.loc["Median time to convert", "value"] == pytest.approx(median["median_days"])
    there = table("07_churn__survival_by_month").iloc[-1]
    assert own.loc["Still there after 180 days", "value"] == pytest.approx(there["survival_share"])
    touches = study.open_study("laptop_store").table("touches")
    assert own.loc["People", "value"] == engine.fetch(touches.select("person_id"))["person_id"].nunique()


def test_moved_people_are_those_whose_events_differ(figures: pd.DataFrame, opened: study.OpenStudy) -> None:
    own = engine.fetch(opened.table("touches").select("event_id", "person_id")).set_index("event_id")["person_id"]
    plan = opened.config.identity.model_copy(update={"policy": "graph"})
    other = engine.fetch(identity.stitch(opened.table("events"), plan, opened.table("links")).events)
    other = other.set_index("event_id")["person_id"]
    groups = {frozenset(events) for events in other.groupby(other).groups.values()}
    moved = sum(frozenset(events) not in groups for events in own.groupby(own).groups.values())
    found = sensitivity.moved(figures).set_index("policy")
    assert 0 < moved == found.loc["graph", "moved_n"]
    assert found.loc["graph_strict", "moved_n"] == 0
    assert found.loc["none", "moved_share"] > found.loc["graph", "moved_share"]


def test_it_is_computed_once(opened: study.OpenStudy, figures: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(identity, "stitch", refuse)
    pd.testing.assert_frame_equal(sensitivity.figures(opened), figures)
    with pytest.raises(AssertionError, match="computed again"):
        sensitivity.figures(opened, ("none",))


def test_an_unknown_policy_is_refused(opened: study.OpenStudy) -> None:
    with pytest.raises(JourneyError, match=r"'grph' is not a policy\. Did you mean 'graph'"):
        sensitivity.figures(opened, ("grph",))


def test_the_labelled_sample_ranks_the_policies(opened: study.OpenStudy) -> None:
    scores = sensitivity.scores(opened).set_index("policy")
    strict, graph, none = (scores.loc[name] for name in ("graph_strict", "graph", "none"))
    assert strict["b3_precision_share"] >= 0.98
    assert strict["b3_recall_share"] >= 0.90
    assert strict["b3_precision_share"] > graph["b3_precision_share"]
    assert none["b3_recall_share"] < 0.8
    for name in ("b3_precision_share", "b3_recall_share"):
        assert (scores[f"{name}_low"] <= scores[name]).all()
        assert (scores[name] <= scores[f"{name}_high"]).all()
    assert set(scores["labelled_people_n"]) == {500}


def small() -> pd.DataFrame:
    rows = [("none", False, 9.0, 0.0), ("graph", False, 3.0, 0.30), ("graph_strict", True, 4.0, 0.25)]
    made = []
    for policy, used, people, share in rows:
        common = {"policy": policy, "used": used, "moved_n": 0 if used else 2, "moved_of_n": 4}
        made.append({**common, "figure": "People", "unit": "people", "value": people})
        made.append(
            {**common, "figure": "Buy", "unit": "share", "value": share, "value_low": 0.2, "value_high": 0.28, "n": 4}
        )
    return pd.DataFrame(made)


def test_the_band_leaves_out_none_and_names_the_ends() -> None:
    band = sensitivity.band(small()).set_index("figure")
    assert band.loc["People", ["lowest", "lowest_by", "highest", "highest_by"]].tolist() == [
        3.0, "graph", 4.0, "graph_strict",
    ]  # fmt: skip
    assert band.loc["Buy", ["value", "lowest", "highest"]].tolist() == [0.25, 0.25, 0.30]


def test_the_reading_sets_the_rule_beside_chance() -> None:
    said = readings.band(sensitivity.band(small()), sensitivity.moved(small()))
    assert said.startswith("Between the rules that join devices to people, People moves most: 3 people (graph) to 4")
    assert "Buy moves from 25.0 % to 30.0 %; chance alone gives it 20.0–28.0 %." in said
    assert said.endswith("Without any stitching there would be 9 people instead of 4.")


def test_the_reading_of_one_rule_or_of_equal_ones_claims_nothing() -> None:
    table = small()
    alone = table[table["used"]]
    said = readings.band(sensitivity.band(alone), sensitivity.moved(alone))
    assert said == "No other rule that joins devices was asked for."
    equal = pd.concat([alone, alone.assign(policy="graph", used=False)])
    said = readings.band(sensitivity.band(equal), sensitivity.moved(equal))
    assert said == "Every rule that joins devices gives the same figures."
    none = table[table["policy"] == "none"].assign(used=True)
    assert "instead of" not in readings.band(sensitivity.band(none), sensitivity.moved(none))


def test_figures_that_could_not_be_computed_are_left_out() -> None:
    table = small()
    table.loc[table["figure"] == "Buy", ["value", "value_low", "value_high"]] = float("nan")
    assert sensitivity.band(table)["figure"].tolist() == ["People"]
    assert [label.get_text() for label in plots.policies(table).get_yticklabels()] == ["People\n4 people"]
    zero = small().assign(value=0.0)
    assert readings.band(sensitivity.band(zero), sensitivity.moved(small()))
    plots.policies(zero)


def test_hindsight_counts_what_only_later_sign_ins_made_known(opened: study.OpenStudy) -> None:
    table = hindsight.hindsight(opened, 2)
    assert table["events_n"].is_monotonic_increasing
    assert (table["known_then_share"] < table["known_now_share"]).all()
    row = table.iloc[0]
    touches = engine.fetch(opened.table("touches"))
    early = touches[touches["timestamp"] <= row["until_at"]]
    people = engine.fetch(opened.table("people"))
    known = set(people.loc[people["id_name"] != "device", "person_id"])
    assert row["events_n"] == len(early)
    assert row["known_now_share"] == pytest.approx(early["person_id"].isin(known).mean())
    assert readings.hindsight(table).startswith("Of the events until ")
    assert readings.hindsight(table.head(0)) == ""


def test_the_chart_draws_every_joining_policy() -> None:
    ax = plots.policies(small())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["graph", "graph_strict (used)"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Buy\n25.0 %", "People\n4 people"]
