"""Readings, findings and charts of paths: the numbers in the sentences are those of the tables."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes

from journeykit import flows, path_anchors, path_compare, paths, patterns
from journeykit.path_compare import Groups
from journeykit.plots import paths as plots
from journeykit.plots import theme
from journeykit.readings import paths as readings
from tests.conftest import make_log


@pytest.fixture(scope="module")
def log() -> pd.DataFrame:
    people = ["ad visit x", "ad x", "ad visit visit buy", "ad call y"]
    return make_log(" | ".join(f"u: {text}" for text in people * 20))


@pytest.fixture(scope="module")
def journeys() -> pd.DataFrame:
    outcome = ["abandoned", "abandoned", "converted", "open"] * 20
    return pd.DataFrame({"journey_id": range(1, 81), "outcome": outcome})


def test_transitions(log: pd.DataFrame) -> None:
    text = readings.transitions(paths.strongest(paths.transitions(log), top=1))
    assert "most frequent transition is ad → visit (40 times, by 40 people): 50.0 % (" in text
    assert "half of the times within 60 s" in text
    assert "In 12.5 % of all transitions the same value comes again" in text  # 20 of 160
    assert "Shown are 3 of 7 different transitions; they are 50.0 % of all" in text
    assert "same value" not in readings.transitions(paths.transitions(log, collapse=True))


def test_positions(log: pd.DataFrame) -> None:
    text = readings.step_matrix(paths.step_matrix(log, steps=3), "session")
    assert text.startswith("100.0 % (")
    assert "of 80 sessions begin with ad." in text
    assert text.endswith(" have no event number 3.")
    assert "25.0 % (" in text


def test_variants_and_coverage(log: pd.DataFrame, journeys: pd.DataFrame) -> None:
    table = paths.variants(log, journeys=journeys, top=2)
    text = readings.variants(table)
    assert "The 2 paths listed cover 50.0 %; there are 4 different ones." in text
    assert "80 journeys" in text
    assert "converted" not in text  # of 20 that are over, nothing is told
    covered = readings.coverage(paths.coverage(log))
    assert "2 paths cover 50 % of 80 journeys, and 4 paths cover 100 %; there are 4 different ones." in covered
    assert "look at transitions and patterns" in covered


def test_around_an_event(log: pd.DataFrame) -> None:
    table = path_anchors.around(log, "visit", before=1, after=1, top=9)
    text = readings.around(table)
    assert "40 of 80 sessions have visit." in text
    assert "Directly before it comes most often ad: in 40 of 40, or 50.0 % (" in text
    assert "Directly after it comes most often visit: in 20 of 40, or 25.0 % (" in text
    any_time = readings.around(path_anchors.around(log, "visit", after=1, occurrence="any", top=9))
    assert any_time.startswith("visit comes 60 times. Directly after it comes most often buy: in 20 of 60, or 33.3 %")
    last = readings.around(path_anchors.around(log, "x", after=1, top=9))
    assert "Directly after it nothing more comes: in 40 of 40" in last
    ways = readings.ways(path_anchors.ways(log, "ad", after=1, top=1))
    assert "most frequent way is [ad] → visit: 50.0 % (" in ways
    assert "2 paths that are not listed are taken by 50.0 %." in ways


def test_flow(log: pd.DataFrame) -> None:
    text = readings.flow(flows.flow(log, steps=3))
    assert "widest link goes from ad to visit (place 1 to 2): 50.0 % (" in text
    assert "By the last place shown, 25.0 % have ended." in text


def test_patterns_and_slips_of_the_pen(log: pd.DataFrame) -> None:
    text = readings.patterns(patterns.share(log, ["visit -> exit", "ad -> [^bye]* -> exit"]), "session", "event")
    assert "“visit -> exit” is in 0.0 % (" in text
    assert "“ad -> [^bye]* -> exit” is in 100.0 % (" in text
    assert "No event is called “bye”, so that the pattern may not say what it seems to." in text


def compared() -> pd.DataFrame:
    log = make_log(" | ".join(f"u: {text}" for text in ["ad visit"] * 60 + ["ad x"] * 40 + ["ad x"] * 100))
    table = pd.DataFrame({"person_id": range(1, 201), "group": ["converted"] * 100 + ["not converted"] * 100})
    return path_compare.compare(log, Groups(table, "converted", "not converted"), steps=2)


def test_comparison_and_findings(log: pd.DataFrame, journeys: pd.DataFrame) -> None:
    table = compared()
    text = readings.compare(table)
    assert "100 people (A: converted) with 100 (B: not converted), over the first 2 steps" in text
    assert "More often converted than not converted: visit as event number 2, 60.0 % against 0.0 % (difference" in text
    assert (
        "More often not converted than converted: x as event number 2, 100.0 % against 40.0 % (difference 60"
        not in text
    )
    found = {item.id: item for item in readings.findings(paths.variants(log, journeys=journeys), table)}
    assert set(found) == {"top_path", "path_difference"}
    top, gap = found["top_path"], found["path_difference"]
    assert (top.value, top.n, top.evidence) == (0.25, 80, "observed")
    assert (abs(gap.value or 0), gap.n, gap.unit, gap.evidence) == (pytest.approx(60), 200, "points", "associated")
    assert (gap.low or 0) < (gap.value or 0) < (gap.high or 0)
    assert "likely smaller" in gap.caveat
    none = table.assign(p_adjusted=1.0)
    none.attrs = table.attrs
    assert "none is sure" in readings.compare(none)
    assert [item.id for item in readings.findings(paths.variants(log), none)] == ["top_path"]


def test_nothing_to_say_about_empty_tables() -> None:
    empty = make_log("u1: ad").head(0)
    groups = Groups(pd.DataFrame({"person_id": [1], "group": ["x"]}), "x", "y")
    for table, say in (
        (paths.transitions(empty), readings.transitions),
        (paths.strongest(paths.transitions(empty)), readings.transitions),
        (paths.step_matrix(empty), readings.step_matrix),
        (paths.variants(empty), readings.variants),
        (paths.coverage(empty), readings.coverage),
        (path_anchors.around(empty, "a"), readings.around),
        (path_anchors.ways(empty, "a"), readings.ways),
        (flows.flow(empty), readings.flow),
        (patterns.share(empty, "a"), readings.patterns),
        (path_compare.compare(empty, groups), readings.compare),
    ):
        assert say(table) == ""
    assert readings.findings(paths.variants(empty), path_compare.compare(empty, groups)) == []


def test_charts_take_the_tables(log: pd.DataFrame, journeys: pd.DataFrame) -> None:
    sure = compared()
    unsure = sure.assign(p_adjusted=1.0)
    unsure.attrs = sure.attrs
    charts = [
        plots.transitions(paths.transitions(log)),
        plots.step_matrix(paths.step_matrix(log)),
        plots.variants(paths.variants(log, journeys=journeys)),
        plots.variants(paths.variants(log, within="session", top=2)),
        plots.coverage(paths.coverage(log)),
        plots.coverage(paths.coverage(make_log("u1: a"))),
        plots.around(path_anchors.around(log, "visit", before=2, after=2)),
        plots.around(path_anchors.around(log, "visit", after=2, occurrence="any")),
        plots.ways(path_anchors.ways(log, "visit", after=2, top=1)),
        plots.ways(path_anchors.ways(log, "visit", after=1, occurrence="any")),
        plots.differences(sure),
        plots.differences(unsure),
    ]
    for ax in charts:
        assert isinstance(ax, Axes)
        assert theme.svg(ax).startswith("<?xml")


def test_the_heat_map_has_no_blank_rows() -> None:
    table = paths.transitions(make_log("u1: ad visit buy | u2: ad buy | u3: ad visit"), within="person")
    labels = [label.get_text() for label in plots.transitions(table).get_yticklabels()]
    assert sorted(labels) == ["ad", "visit"]  # nothing follows buy


def test_the_remainder_is_named_in_every_picture(log: pd.DataFrame) -> None:
    ax = plots.around(path_anchors.around(log, "visit", before=1, after=1, top=1))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["visit", paths.OTHER, "(without it)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["−1", "visit", "+1"]
    ax = plots.ways(path_anchors.ways(log, "visit", after=1, top=1))
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == paths.REST
    assert "50.0 % of all never had it" in ax.get_xlabel()
