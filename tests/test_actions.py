"""The learning loop: what was predicted beside what came of it, and how good the predictions were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from journeykit.changes import actions
from journeykit.config_changes import Action, Series
from journeykit.plots import changes as plots
from journeykit.plots import theme
from journeykit.readings import changes as readings

ORDERS = Series(name="orders", event="buy")


def log(lift: float, until: str = "2025-07-14", seed: int = 0) -> pd.DataFrame:
    """Some 60 orders a day with a weekly cycle, more by `lift` from 2 June on."""
    rng = np.random.default_rng(seed)
    at = pd.date_range("2025-01-06", until, inclusive="left")
    level = 60 * np.array([1.1, 1.1, 1.1, 1.1, 1, 0.8, 0.8])[np.arange(len(at)) % 7]
    counts = rng.poisson(level * np.where(at >= pd.Timestamp("2025-06-02"), 1 + lift, 1))
    stamps = [day + pd.Timedelta(minutes=int(m)) for day, n in zip(at, counts, strict=True) for m in range(n)]
    return pd.DataFrame({"timestamp": stamps, "event": "buy", "person_id": 1})


def action(predicted: float, low: float | None = None, high: float | None = None, **more: object) -> Action:
    keys = {"name": "reminder", "on": "2025-06-02", "team": "CRM", "metric": ORDERS, **more}
    return Action(predicted=predicted, predicted_low=low, predicted_high=high, **keys)


def one(table: pd.DataFrame, made: Action, until: str = "2025-07-14") -> pd.Series:
    return actions.followed(table, actions=[made], as_of=pd.Timestamp(until)).iloc[0]


@pytest.mark.parametrize(
    ("lift", "predicted", "verdict", "in_range"),
    [
        (0.3, (0.3, 0.1, 0.5), "compatible with the prediction", True),
        (0.3, (0.9, 0.8, 1.0), "less than predicted", False),
        (0.3, (0.02, 0.01, 0.03), "more than predicted", False),
        (0.0, (0.02, -0.1, 0.12), "compatible, but not shown", True),
        (-0.3, (-0.3, -0.5, -0.1), "compatible with the prediction", True),
        (-0.3, (-0.9, -1.0, -0.8), "less than predicted", False),
    ],
)
def test_predicted_and_realised_are_compared_in_the_direction_of_the_prediction(
    lift: float, predicted: tuple[float, float, float], verdict: str, in_range: bool
) -> None:
    row = one(log(lift), action(*predicted))
    assert row["verdict"] == verdict
    assert row["in_range"] is in_range or bool(row["in_range"]) == in_range
    assert row["realised_low"] < lift < row["realised_high"]
    assert (row["days_n"], row["unit"]) == (42, "share")


def test_it_is_too_early_before_four_weeks_and_the_figure_so_far_is_shown() -> None:
    row = one(log(0.3, "2025-06-16"), action(0.3, 0.1, 0.5), "2025-06-16")
    assert (row["verdict"], row["days_n"], row["in_range"]) == ("too early", 14, None)
    assert "14 whole days so far" in row["reason"]
    assert row["realised"] > 0
    future = one(log(0.3), action(0.3, on="2026-01-01"))
    assert (future["verdict"], future["days_n"]) == ("too early", 0)
    assert np.isnan(future["realised"])


def test_what_cannot_be_told_says_why() -> None:
    row = one(log(0), action(0.1, metric=Series(name="x", event="never")))
    assert row["verdict"] == "too early"
    short = one(log(0), action(0.1, on="2025-01-20"))
    assert short["verdict"] == "cannot be told"
    assert "too little before the change" in short["reason"]
    assert "nan" not in readings.actions(pd.DataFrame([row, short]))


def test_shares_are_told_in_points() -> None:
    table = log(0)
    more = table.sample(frac=0.5, random_state=0).assign(event="pay")
    late = more["timestamp"] >= pd.Timestamp("2025-06-02")
    extra = table[table["timestamp"] >= pd.Timestamp("2025-06-02")].sample(frac=0.2, random_state=1).assign(event="pay")
    both = pd.concat([table, more, extra], ignore_index=True)
    assert late.any()
    share = Series(name="paid", kind="share", event="pay", per="buy")
    row = one(both, action(0.2, 0.1, 0.3, metric=share))
    assert (row["unit"], row["predicted"]) == ("points", 20)
    assert row["realised"] == pytest.approx(20, abs=5)
    assert "+20.0 percentage points (+10.0 to +30.0)" in readings.actions(pd.DataFrame([row]))


def judged(ratios: list[float], in_range: list[bool | None]) -> pd.DataFrame:
    rows = [
        {"action": f"a{i}", "verdict": actions.AS, "predicted": 0.1, "realised": 0.1 * ratio, "in_range": inside}
        for i, (ratio, inside) in enumerate(zip(ratios, in_range, strict=True))
    ]
    return pd.DataFrame(rows)


def test_calibration_counts_as_by_hand() -> None:
    found = actions.calibration(judged([1.0, 0.5, -0.2, 0.7], [True, True, None, False])).set_index("question")
    inside = found.loc["in the predicted range"]
    assert (inside["value"], inside["n"]) == (pytest.approx(2 / 3), 3)
    assert found.loc["in the predicted direction", "value"] == 0.75
    ratio = found.loc["realised per predicted"]
    assert ratio["value"] == pytest.approx(0.5)
    assert ratio["low"] < 0 < 1 < ratio["high"], "four say little"
    assert "Few actions" in readings.calibration(found.reset_index())


def test_one_action_has_no_interval_and_none_has_a_reason() -> None:
    found = actions.calibration(judged([0.5], [True]))
    assert found["low"].isna().tolist() == [False, False, True]
    assert "no interval for one" in readings.calibration(found)
    none = actions.followed(log(0), actions=[], as_of=pd.Timestamp("2025-07-14"))
    assert none.attrs["reason"] == actions.NO_ACTION
    assert actions.calibration(none).attrs["reason"] == actions.NO_ACTION
    early = judged([1.0], [None]).assign(verdict=actions.EARLY)
    assert actions.calibration(early).attrs["reason"] == "no action can be judged yet; 1 declared"


def test_actions_come_by_date_with_a_picture_and_a_finding_of_what_fell_short() -> None:
    declared = [action(0.9, 0.8, 1.0, name="second"), action(0.3, name="first", on="2025-05-01")]
    found = actions.followed(log(0.3), actions=declared, as_of=pd.Timestamp("2025-07-14"))
    assert found["action"].tolist() == ["first", "second"]
    assert len(theme.svg(plots.actions(found))) < 60_000
    finding = readings.action_findings(found)[-1]
    assert (finding.evidence, finding.owner, finding.unit) == ("quasi-experimental", "CRM", "%")
    assert finding.value == pytest.approx(100 * found["realised"].iloc[1])
