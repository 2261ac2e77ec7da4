"""Sentences, findings and figures of cohorts, lifecycle and stages: they say what the tables hold, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import present
from journeykit.churn.cohorts import cohorts
from journeykit.churn.lifecycle import lifecycle, quick_ratio, stickiness
from journeykit.churn.stages import RETENTION_COLUMNS
from journeykit.plots import churn_cohorts as plots
from journeykit.plots import theme
from journeykit.readings import churn_cohorts as readings
from journeykit.stats import not_enough


def drawn(early: float, late: float, people: int = 60) -> pd.DataFrame:
    """Six months of people who come once; in the month after, a share does again, which changes after April."""
    rng = np.random.default_rng(2)
    rows = []
    for month in range(1, 7):
        for k in range(people):
            person, at = 1000 * month + k, pd.Timestamp(2025, month, 1 + k % 28, 12)
            rows.append((person, at))
            if rng.random() < (early if month < 4 else late):
                rows.append((person, pd.Timestamp(2025, month + 1, 1 + int(rng.integers(0, 28)), 12)))
    return pd.DataFrame(rows, columns=["person_id", "timestamp"]).assign(event="order")


def staying(*shares: float, width: float = 0.03, n: int = 500) -> pd.DataFrame:
    rows = [
        (f"Stage {k}", n, round(n * (1 - share)), n, 180.0, share, share - width, share + width)
        for k, share in enumerate(shares)
    ]
    return pd.DataFrame(rows, columns=list(RETENTION_COLUMNS))


def test_cohorts_say_how_many_come_back_and_whether_newer_ones_do_better() -> None:
    table = cohorts(drawn(0.2, 0.6), as_of="2025-08-01")
    mean = table[table["cohort_at"].isna()].set_index("period").loc[1]
    said = readings.cohorts(table)
    assert f"In the 1st month after the start {present.share(mean['retained_share'])}" in said
    assert "The 3 newer cohorts (from Apr 2025 on) have" in said
    assert "points more" in said
    assert "points fewer" in readings.cohorts(cohorts(drawn(0.6, 0.2), as_of="2025-08-01"))
    alike = readings.cohorts(cohorts(drawn(0.4, 0.4), as_of="2025-08-01"))
    assert "do not differ from the older ones by more than chance explains" in alike
    recurring = cohorts(drawn(0.2, 0.6), as_of="2025-08-01", occurrence="recurring")
    assert "newer cohorts" not in readings.cohorts(recurring)  # the same people are in several
    young = cohorts(drawn(0.2, 0.6), as_of="2025-01-31")
    assert readings.cohorts(young) == "No month after the start is over for any cohort yet."


def test_the_lifecycle_speaks_of_the_last_whole_period() -> None:
    table = lifecycle(drawn(0.2, 0.6), as_of="2025-06-15")
    said = readings.lifecycle(table)
    assert said.startswith("In May 2025 ")
    row = quick_ratio(table).set_index("period").loc["May 2025"]
    assert f"For each one lost {present.number(row['quick_ratio'], 2)}" in said
    assert readings.lifecycle(table[~table["complete"]]) == ""


def test_the_lowest_stage_is_named_with_its_doubt() -> None:
    apart, near = staying(0.8, 0.6, 0.79), staying(0.62, 0.6)
    assert "Of customers who entered Stage 1, 60.0 %" in readings.by_stage(apart)
    assert "its interval lies below that of the highest, Stage 0" in readings.by_stage(apart)
    assert "overlaps" in readings.by_stage(near)
    assert "lowest" not in readings.by_stage(staying(0.6))
    (clear,) = readings.findings(not_enough(["n"], ""), not_enough(["n"], ""), apart, owner=lambda name: f"team {name}")
    assert (clear.value, clear.owner, clear.evidence) == (0.6, "team Stage 1", "associated")
    assert clear.action
    (doubtful,) = readings.findings(not_enough(["n"], ""), not_enough(["n"], ""), near)
    assert not doubtful.action
    assert "may be chance" in doubtful.caveat


def test_findings_carry_number_interval_and_n() -> None:
    log = drawn(0.2, 0.6)
    found = readings.findings(cohorts(log, as_of="2025-08-01"), lifecycle(log, as_of="2025-08-01"), staying(0.8, 0.6))
    assert [finding.id for finding in found] == ["churn.cohorts", "churn.quick_ratio", "churn.stage"]
    for finding in found:
        assert finding.n
        assert finding.low is not None
        assert finding.value is not None
        assert finding.high is not None
        assert finding.low <= finding.value <= finding.high
        assert finding.evidence in ("observed", "associated")
        assert "nan" not in finding.statement.lower()


def test_stickiness_says_once_and_often() -> None:
    table = stickiness(drawn(0.3, 0.3), as_of="2025-08-01", period="month", periods=6)
    assert f"Of {present.count(table['n'].iloc[0])} people active in the last 6 whole months" in readings.stickiness(
        table
    )


@pytest.mark.parametrize("say", [readings.cohorts, readings.lifecycle, readings.by_stage, readings.stickiness])
def test_nothing_is_said_of_nothing(say: Callable[[pd.DataFrame], str]) -> None:
    assert say(not_enough(["n"], "not enough data")) == ""
    assert readings.findings(*[not_enough(["n"], "")] * 3) == []


@pytest.mark.parametrize(
    ("draw", "make"),
    [
        (plots.triangle, lambda log: cohorts(log, as_of="2025-06-20")),
        (plots.triangle, lambda log: cohorts(log, as_of="2025-06-20", period="week", min_n=1)),
        (plots.triangle, lambda log: cohorts(log, as_of="2025-01-31")),
        (plots.curves, lambda log: cohorts(log, as_of="2025-06-20")),
        (plots.curves, lambda log: cohorts(log, as_of="2025-01-31")),
        (plots.curves, lambda log: cohorts(log, as_of="2025-06-20", mean="simple", occurrence="recurring")),
        (plots.lifecycle, lambda log: lifecycle(log, as_of="2025-06-20")),
        (plots.lifecycle, lambda log: lifecycle(log, as_of="2025-01-31")),
        (plots.by_stage, lambda log: staying(0.8, 0.6, 0.79)),
        (plots.by_stage, lambda log: staying(1.0, width=0.0)),
    ],
)
def test_figures_are_drawn_and_are_the_same_each_time(draw: Any, make: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = make(drawn(0.3, 0.5))
    before = table.copy()
    drawing = theme.svg(draw(table))
    assert drawing == theme.svg(draw(table))
    assert len(drawing) < 250_000
    assert "nan" not in drawing.lower()
    pd.testing.assert_frame_equal(table, before)


def test_cells_that_are_not_over_are_hatched() -> None:
    table = cohorts(drawn(0.3, 0.5), as_of="2025-06-20")
    boxes = [patch for patch in plots.triangle(table).patches if patch.get_hatch()]
    assert len(boxes) == (~table.loc[table["period"] > 0, "complete"]).sum() > 0
    assert not [patch for patch in plots.triangle(table[table["complete"]]).patches if patch.get_hatch()]
