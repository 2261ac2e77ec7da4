"""Readings, findings and charts of plans: the numbers in the sentences are those of the tables, and none is causal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from journeykit import config, deviations, plan_times, plan_ways, plans, present
from journeykit.plots import plans as plots
from journeykit.plots import theme
from journeykit.readings import plans as readings
from tests.conftest import START, make_log

STEPS = ["ad", config.Step(match=["visit"], within="1d"), "cart", "buy"]
PEOPLE = [
    ("ad@0d visit@1h cart buy", "converted", 60),
    ("ad@0d visit@1h cart", "abandoned", 20),
    ("ad@0d visit@2d cart buy", "converted", 10),
    ("ad@0d visit@2d cart", "abandoned", 40),
    ("ad@0d cart@1h buy", "converted", 8),
    ("ad@0d ad@1h visit x cart buy", "converted", 40),
    ("ad@0d ad@1h", "abandoned", 4),
    ("ad@0d", "abandoned", 30),
    ("ad@0d visit@1h", "open", 12),
]


def judge(people: list[tuple[str, str, int]] = PEOPLE, **options: object) -> plans.Judged:
    each = [(text, outcome) for text, outcome, n in people for _ in range(n)]
    journeys = pd.DataFrame({"journey_id": range(1, len(each) + 1), "outcome": [outcome for _, outcome in each]})
    journeys["value"] = np.where(journeys["outcome"] == "converted", 50.0, 0.0)
    options = {"steps": STEPS, "journeys": journeys, "conversion": ["buy"], **options}
    return plans.judge(make_log(" | ".join(f"u: {text}" for text, _ in each)), on="event", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def share() -> pd.DataFrame:
    return plans.plan_share(judge())


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return deviations.count(judge(others="extra"))


def row_of(table: pd.DataFrame, kind: str, step: str) -> pd.Series:
    return table[(table["kind"] == kind) & (table["step"] == step)].iloc[0]


def test_the_share_on_plan_in_words(share: pd.DataFrame) -> None:
    text = readings.plan_share(share)
    assert text.startswith("28.3 % (")  # 60 of 212
    assert "of 212 finished journeys kept to the plan to its end" in text
    assert "51.9 % (" in text  # and 20 + 30 stopped early
    assert "Of those that converted, 50.8 % (" in text
    assert "The others mostly repeat a step (40)" in text
    assert "12 open journeys are counted apart" in text
    assert "not looked at" not in text
    share.attrs["capped_n"] = 3
    assert "Of 3 very long journeys some events were not looked at" in readings.plan_share(share)
    assert readings.plan_share(share.head(0)) == ""
    assert "No journey is over yet" in readings.plan_share(share.tail(1))


def test_deviations_in_words(found: pd.DataFrame) -> None:
    text = readings.deviations(found, "EUR")
    assert "The most frequent deviation: 23.6 % (" in text
    assert "of 212 finished journeys with a planned step come to visit later than planned (50 people)" in text
    late, again = row_of(found, "late", "visit"), row_of(found, "repeated", "ad")
    assert late["gap_points"] == pytest.approx(100 * (10 / 50 - 100 / 120))
    assert (
        f"20.0 % ({present.interval(late['converted_with_share_low'], late['converted_with_share_high'], 'share')})"
        in text
    )
    assert "63.3 points less (" in text
    assert "That is an association" in text
    assert "a rescue" not in text
    assert "visit (late) has the most at stake: if that were the cause of its gap of 63.3 points, EUR " in text
    assert f"EUR {late['at_stake_value']:,.0f} (" in text
    only = found[found["kind"] == "repeated"]
    assert again["gap_points"] > 0
    assert "points more (" in readings.deviations(only)
    worse = only.assign(gap_points=-20.0, gap_points_low=-30.0, gap_points_high=-10.0)
    assert "they might have left; then their" in readings.deviations(worse)
    assert "20.0 points less (10.0–30.0)" in readings.deviations(worse)
    unsure = found.assign(p_adjusted=0.5)
    assert "With no deviation do clearly fewer or more convert" in readings.deviations(unsure)
    assert "None could be compared" in readings.deviations(found.assign(gap_points=np.nan, p_adjusted=np.nan))
    assert readings.deviations(found.head(0)) == ""
    plain = deviations.count(plans.judge(make_log("u1: ad buy"), steps=["ad", "visit", "buy"], on="event"))
    assert readings.deviations(plain).endswith("of 1 finished journeys with a planned step skip visit (1 people).")


def test_findings(share: pd.DataFrame, found: pd.DataFrame) -> None:
    told = {item.id: item for item in readings.findings(share, found, owner="Web team", currency="EUR")}
    kept, off = told["plan_share"], told["plan_deviation"]
    assert (kept.n, kept.value, kept.headline, kept.evidence) == (118, pytest.approx(60 / 118), True, "observed")
    assert "of converted journeys keep to the planned path" in kept.statement
    late = row_of(found, "late", "visit")
    assert (off.value, off.low, off.high) == tuple(late[f"at_stake_value{end}"] for end in ("", "_low", "_high"))
    assert (off.unit, off.n, off.owner, off.evidence) == ("EUR", 50, "Web team", "associated")
    assert "If that is the cause" in off.statement
    assert "only if the deviation is the cause" in off.caveat
    assert readings.step(found) == "visit"


def test_findings_without_money_or_certainty(share: pd.DataFrame, found: pd.DataFrame) -> None:
    (_, plain) = readings.findings(share, found)
    assert (plain.unit, plain.better) == ("points", "up")
    only = found[found["kind"] == "repeated"]
    (_, good) = readings.findings(share, only, currency="EUR")
    assert "convert more often" in good.statement
    assert "change the plan" in good.action
    bad = only.assign(gap_points=-20.0, gap_points_low=-30.0, gap_points_high=-10.0)
    assert "rescue" in readings.findings(share, bad, currency="EUR")[1].caveat
    (_, unsure) = readings.findings(share, found.assign(p_adjusted=0.5))
    assert (unsure.evidence, unsure.unit, unsure.value) == ("observed", "share", found["share"].iloc[0])
    assert [item.id for item in readings.findings(share)] == ["plan_share"]
    assert readings.findings(share.head(0)) == []
    assert readings.findings(share.tail(1), found.head(0)) == []
    assert readings.step(found.head(0)) == ""


def test_every_kind_has_its_words(found: pd.DataFrame) -> None:
    row = found.iloc[[0]]
    for kind, words in (
        ("skipped", "skip"),
        ("out of order", "out of order"),
        ("repeated", "repeat"),
        ("extra", "outside the plan"),
        ("late", "later than planned"),
    ):
        table = row.assign(kind=kind)
        assert words in readings.deviations(table)
        assert readings.findings(pd.DataFrame(), table)[0].action
    whole = row.assign(kind="late", step=plan_times.WHOLE_PLAN)
    assert "take longer than planned" in readings.deviations(whole)


def test_ways_and_times_in_words() -> None:
    ways = plan_ways.off_plan(judge(), top=2)
    text = readings.off_plan(ways)
    assert text.startswith(
        "The most frequent way off the plan is ✓ ad → ↺ ad → ✓ visit → ✓ cart → ✓ buy, taken by 40 journeys."
    )
    assert "The 2 listed cover 92.3 % of 52 journeys off the plan" in text
    assert readings.off_plan(ways.head(0)) == ""
    log = make_log("u1: ad@0d visit@1h buy@2d | u2: ad@0d visit@2d")
    table = plan_times.kept(log, steps=STEPS, on="event", within="1w", until=START + pd.Timedelta("30d"))
    text = readings.kept(table)
    assert "50.0 % (" in text
    assert "of 2 journeys come to visit within 1 day after ad; half need up to" in text
    assert "come to the whole way from ad to buy within 1 week" in text
    assert "long enough" in readings.kept(table.assign(kept_share=np.nan))
    assert readings.kept(table.head(0)) == ""


def test_charts(share: pd.DataFrame, found: pd.DataFrame) -> None:
    times = plan_times.kept(make_log("u1: ad@0d visit@1h"), steps=STEPS, on="event", until=START + pd.Timedelta("30d"))
    for ax in (plots.plan_share(share), plots.deviations(found), plots.kept(times)):
        assert isinstance(ax, Axes)
        assert theme.svg(ax) == theme.svg(ax)
    panels = plots.deviations(found).figure.axes
    assert len(panels) == 2
    steps = [label.get_text() for label in panels[0].get_yticklabels()]
    assert [label for label in steps if label] == ["ad", "visit", "x"]  # in the order of the plan, others last
    texts = [text.get_text() for text in panels[1].texts]
    assert texts.count("not compared") == found["gap_points"].isna().sum()
    without = found.drop(columns=[name for name in found if name.startswith("gap")])
    assert len(plots.deviations(without).figure.axes) == 1
    assert len(plots.deviations(found.assign(gap_points=np.nan)).figure.axes) == 1
