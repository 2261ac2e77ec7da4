"""Readings, findings and charts of funnels and paths: the numbers in the sentences are those of the tables."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes

from journeykit import funnels, paths
from journeykit.plots import funnels as funnel_plots
from journeykit.plots import paths as path_plots
from journeykit.plots import theme
from journeykit.readings import funnels as funnel_readings
from journeykit.readings import paths as path_readings
from tests.conftest import make_log

STEPS = ["ad", "visit | call", "buy"]


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    people = ["ad/app visit/app x", "ad/web x", "ad/web visit/web buy/web", "ad/web call/web y"]
    return make_log(" | ".join(f"u: {text}" for text in people * 20))


def test_the_leak_is_the_largest_share_not_the_largest_number(log: pd.DataFrame) -> None:
    table = funnels.funnel(log, steps=STEPS, within="7d")
    found = funnel_readings.leak(table)
    assert found is not None
    assert (found["start"], found["end"], found["n"]) == ("visit | call", "buy", 60)
    assert found["value"] == pytest.approx(2 / 3)
    assert found["low"] < found["value"] < found["high"]
    assert funnel_readings.leak_value(table) == "visit"
    text = funnel_readings.funnel(table, "person", "7d")
    assert "Of 80 people with ad, 25.0 % (" in text
    assert "from visit | call to buy: 66.7 % (" in text
    assert "of 60 people" in text
    assert "within 7 days" in text


def test_few_are_not_called_a_leak() -> None:
    table = funnels.funnel(make_log("u1: ad"), steps=STEPS)
    assert funnel_readings.leak(table) is None
    assert funnel_readings.leak_step(table) == ""
    assert "Nobody" in funnel_readings.funnel(funnels.funnel(make_log("u1: z"), steps=STEPS))


def test_findings_of_the_funnel(log: pd.DataFrame) -> None:
    table = funnels.funnel(log, steps=STEPS)
    time = funnels.time_to_convert(log, steps=STEPS)
    by = funnels.funnel(log, steps=STEPS, by="channel")
    app, web = (by[by["segment"] == name].iloc[-1] for name in ("app", "web"))
    found = {item.id: item for item in funnel_readings.findings(table, time, by, owner="Checkout team")}
    assert set(found) == {"funnel_leak", "funnel_conversion", "funnel_time"}  # app has too few for a comparison
    leak = found["funnel_leak"]
    assert leak.headline
    assert leak.label
    assert leak.action
    assert leak.owner == "Checkout team"
    assert (leak.value, leak.n) == (pytest.approx(2 / 3), 60)
    many = funnels.funnel(pd.concat([log, doubled(log)]), steps=STEPS, by="channel")
    gap = {item.id: item for item in funnel_readings.findings(table, time, many)}["funnel_segments"]
    assert gap.value == pytest.approx(100 * (web["share_of_start"] - app["share_of_start"]))
    assert 0 < (gap.low or 0) < (gap.value or 0) < (gap.high or 0)
    assert "“web” converts best" in funnel_readings.segments(many)


def doubled(log: pd.DataFrame) -> pd.DataFrame:
    return log.assign(event_id="x" + log["event_id"], person_id=log["person_id"] + 1000)


def test_findings_of_paths(log: pd.DataFrame) -> None:
    outcome = ["abandoned", "abandoned", "converted", "open"] * 20
    journeys = pd.DataFrame({"journey_id": range(1, 81), "outcome": outcome})
    ways = paths.variants(log, journeys=journeys)
    plan = paths.plan_share(log, steps=STEPS, on="event", journeys=journeys)
    found = {item.id: item for item in path_readings.findings(ways, plan)}
    assert (found["plan_share"].value, found["plan_share"].n) == (1, 20)  # of the converted ones
    assert found["plan_share"].headline
    assert "of converted journeys keep to the planned path" in found["plan_share"].statement
    assert "Of all 60 finished ones, 33.3 % (" in found["plan_share"].statement
    assert "The others" not in found["plan_share"].statement  # there are none
    assert "stop before the last required step" in path_readings.plan_share(plan)
    assert found["top_path"].value == pytest.approx(1 / 4)
    assert "33.3 % (" in path_readings.plan_share(plan)
    assert "20 open journeys" in path_readings.plan_share(plan)
    assert "80 journeys" in path_readings.variants(ways)


def test_nothing_to_say_about_empty_tables() -> None:
    empty = make_log("u1: ad").head(0)
    for table, say in (
        (funnels.funnel(empty, steps=[]), funnel_readings.funnel),
        (funnels.funnel(empty, steps=STEPS, by="channel"), funnel_readings.segments),
        (funnels.drop_offs(empty, steps=STEPS), funnel_readings.drop_offs),
        (funnels.time_to_convert(empty, steps=STEPS), funnel_readings.time_to_convert),
        (funnels.conversion_curve(empty, steps=STEPS), funnel_readings.curve),
        (paths.transitions(empty), path_readings.transitions),
        (paths.step_matrix(empty), path_readings.step_matrix),
        (paths.variants(empty), path_readings.variants),
        (paths.plan_share(empty, steps=STEPS), path_readings.plan_share),
    ):
        assert say(table) == ""
    assert funnel_readings.findings(funnels.funnel(empty, steps=STEPS)) == []
    assert path_readings.findings(paths.variants(empty), paths.plan_share(empty, steps=STEPS)) == []


def test_charts_take_the_tables(log: pd.DataFrame) -> None:
    journeys = pd.DataFrame({"journey_id": range(1, 81), "outcome": ["converted", "open"] * 40})
    charts = [
        funnel_plots.funnel(funnels.funnel(log, steps=STEPS)),
        funnel_plots.funnel(funnels.funnel(log, steps=["q", "z"])),
        funnel_plots.segments(funnels.funnel(log, steps=STEPS, by="channel")),
        funnel_plots.drop_offs(funnels.drop_offs(log, steps=STEPS)),
        funnel_plots.conversion_curve(funnels.conversion_curve(log, steps=STEPS)),
        path_plots.transitions(paths.transitions(log)),
        path_plots.step_matrix(paths.step_matrix(log)),
        path_plots.variants(paths.variants(log, journeys=journeys)),
        path_plots.plan_share(paths.plan_share(log, steps=STEPS, on="event", journeys=journeys)),
    ]
    for ax in charts:
        assert isinstance(ax, Axes)
        assert theme.svg(ax).startswith("<?xml")
