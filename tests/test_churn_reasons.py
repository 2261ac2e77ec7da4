"""Competing reasons of leaving, and segments compared when their people are made alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import AalenJohansenFitter

from journeykit import config, stats
from journeykit.churn import adjust, compare, curves, reasons
from journeykit.plots import churn as plots
from journeykit.readings import churn as readings
from journeykit.readings import churn_findings


def competing(n: int = 3000, seed: int = 0) -> pd.DataFrame:
    """Two reasons with constant rates of 1/100 and 1/150 a day; seen for 50 to 300 days."""
    rng = np.random.default_rng(seed)
    first, second, seen = rng.exponential(100, n), rng.exponential(150, n), rng.uniform(50, 300, n)
    over = np.minimum(np.minimum(first, second), seen)
    reason = np.where(over == seen, "", np.where(first < second, "price", "moved"))
    return pd.DataFrame({"duration_days": over, "ended": (reason != "").astype(int), "reason": reason})


def theory(day: float, rate: float = 1 / 100, other: float = 1 / 150) -> float:
    return float(rate / (rate + other) * (1 - np.exp(-day * (rate + other))))


def test_incidence_by_hand() -> None:
    table = pd.DataFrame(
        {
            "duration_days": [1.0, 1.0, 2.0, 2.0, 3.0] * 10,
            "ended": [1, 1, 1, 0, 1] * 10,
            "reason": ["a", "b", "a", "", "b"] * 10,
        }
    )
    found = reasons.incidence(table, min_n=1).set_index(["reason", "day"])["left_share"]
    assert found["a"].tolist() == pytest.approx([0, 0.2, 0.2 + 0.6 / 3, 0.4])
    assert found["b"].tolist() == pytest.approx([0, 0.2, 0.2, 0.2 + 0.4])
    line = reasons.by_reason(table, 2, min_n=1).set_index("reason")
    assert line.loc["a", "left_share"] == pytest.approx(0.4)
    assert line.loc["a", "alone_share"] == pytest.approx(1 - 0.8 * 2 / 3)
    assert line.loc["a", "overstated_points"] == pytest.approx(100 * (1 - 0.8 * 2 / 3 - 0.4))
    assert line["ended_n"].to_dict() == {"a": 20, "b": 10}


def test_one_minus_kaplan_meier_overstates_every_reason() -> None:
    found = reasons.by_reason(competing(20_000), 120).set_index("reason")
    line = found.loc["price"]
    assert line["left_share_low"] < theory(120) < line["left_share_high"]  # 0.519
    assert line["alone_share"] == pytest.approx(1 - np.exp(-1.2), abs=0.02)  # 0.699
    assert line["overstated_points"] > 15
    moved = found.loc["moved"]
    assert moved["left_share_low"] < theory(120, 1 / 150, 1 / 100) < moved["left_share_high"]
    gone = 1 - curves.survival_curve(competing(20_000), times=[120])["survival_share"].iloc[0]
    assert found["left_share"].sum() == pytest.approx(gone, abs=1e-12)
    assert found["alone_share"].sum() > 1.2


def test_incidence_agrees_with_lifelines() -> None:
    table = competing(600)
    code = table["reason"].map({"": 0, "price": 1, "moved": 2})
    fit = AalenJohansenFitter(calculate_variance=True, seed=0).fit(table["duration_days"], code, event_of_interest=1)
    found = reasons.incidence(table, horizon=120)
    found = found[found["reason"] == "price"]
    for row in found[found["day"] > 5].iloc[::6].to_dict("records"):
        place = fit.cumulative_density_.index.searchsorted(row["day"], side="right") - 1
        assert row["left_share"] == pytest.approx(fit.cumulative_density_.iloc[place, 0], abs=1e-9)
        bounds = fit.confidence_interval_.iloc[place].tolist()
        assert [row["left_share_low"], row["left_share_high"]] == pytest.approx(bounds, abs=1e-9)


def test_the_interval_of_a_reason_covers() -> None:
    hits = 0
    for seed in range(200):
        line = reasons.by_reason(competing(200, seed), 60).set_index("reason").loc["price"]
        hits += line["left_share_low"] <= theory(60) <= line["left_share_high"]
    assert 182 <= hits <= 198


def test_reasons_with_late_entry() -> None:
    rng = np.random.default_rng(1)
    table = competing(8000, 5)
    entered = np.where(rng.random(len(table)) < 0.6, rng.uniform(0, 120, len(table)), 0.0)
    known = table.assign(entered_days=entered)[table["duration_days"] > entered]
    right = reasons.by_reason(known, 100).set_index("reason").loc["price"]
    wrong = reasons.by_reason(known.drop(columns="entered_days"), 100).set_index("reason").loc["price"]
    assert right["left_share_low"] < theory(100) < right["left_share_high"]
    assert wrong["left_share_high"] < theory(100)


def test_rare_reasons_are_put_together() -> None:
    table = competing(400)
    gone = table.index[table["ended"] == 1]
    table.loc[gone[:3], "reason"] = "fraud"
    table.loc[gone[3:8], "reason"] = "died"
    found = reasons.by_reason(table, 60)
    assert found["reason"].tolist()[-1] == "other"
    assert set(found["reason"]) == {"price", "moved", "other"}
    assert "2 reasons of fewer than 10 people put to “other”." in found.attrs["note"]


@pytest.mark.filterwarnings("error")
def test_no_reasons_end_with_a_sentence() -> None:
    table = competing(60)
    for few in (table.head(0), table.head(1), table.head(10), table.assign(ended=0, reason="")):
        for found in (reasons.incidence(few), reasons.by_reason(few, 90)):
            assert found.empty
            assert found.attrs["reason"]
    for none in (table.assign(reason=np.where(table["ended"] == 1, "left", "")), table.drop(columns="reason")):
        assert "no reasons of leaving are declared" in reasons.incidence(none).attrs["reason"]
    alone = table.assign(reason=np.where(table["ended"] == 1, "price", ""))  # the only reason, and everybody leaves
    found = reasons.by_reason(alone.assign(ended=1, reason="price"), 400)
    assert found["left_share"].tolist() == pytest.approx([1.0])
    assert found["overstated_points"].tolist() == pytest.approx([0.0])
    assert plots.reasons(reasons.incidence(alone)).get_figure()
    assert plots.reasons(stats.not_enough([], "none")).get_figure()
    assert reasons.by_reason(table.assign(duration_days=table["duration_days"] + 500), 90).attrs["reason"]


def test_what_is_said_of_reasons() -> None:
    found = reasons.by_reason(competing(), 120)
    said = readings.reasons(found)
    assert said.startswith("Within 120 days, of 3,000 people have left: ")
    assert "for “price”" in said
    assert "who left for one reason can no longer leave for another" in said
    chosen = config.Churn(start="join", end="left")
    listed = churn_findings.findings(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), found, chosen, lambda event: event)
    assert [(finding.id, finding.owner) for finding in listed] == [("churn.reason", "left")]
    many = pd.concat([found.assign(reason=f"{name} {k}") for k in range(4) for name in ("a", "b")], ignore_index=True)
    assert "for other reasons" in readings.reasons(many)


# segments with their people made alike


def confounded(n: int = 1500, seed: int = 0, effect: float = 0.0) -> pd.DataFrame:
    """Segment b holds more of those who leave late, c of those who leave early; b itself moves the rate by `effect`."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), (rng.random(n) < 0.3).astype(float)
    odds = np.exp(np.column_stack([np.zeros(n), -0.5 + 0.9 * x - 0.6 * z, -1 + 0.2 * x + 0.8 * z]))
    chance = odds / odds.sum(axis=1, keepdims=True)
    which = (chance.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    life = rng.exponential(100 * np.exp(0.5 * x - 0.4 * z - effect * (which == 1)))
    seen = rng.uniform(40, 250, n)
    columns = {"duration_days": np.minimum(life, seen), "ended": (life <= seen).astype(int)}
    return pd.DataFrame({**columns, "segment": np.array(["a", "b", "c"])[which], "x": x, "z": z})


def test_adjusting_takes_away_what_the_covariates_explain() -> None:
    table = confounded(6000)
    plain = compare.compare_segments(table, 100).set_index("segment")
    found = adjust.adjusted_segments(table, ["x", "z"], 100).set_index("segment")
    assert plain.loc["b", "difference_days_low"] > 5
    assert found.loc["b", "unadjusted_days"] == pytest.approx(plain.loc["b", "difference_days"])
    assert found.loc["b", "difference_days_low"] < 0 < found.loc["b", "difference_days_high"]
    assert (found["effective_n"] < found["n"]).all()
    real = adjust.adjusted_segments(confounded(6000, 1, 0.5), ["x", "z"], 100).set_index("segment")
    assert real.loc["b", "difference_days_high"] < 0  # hidden by the covariates, which favour b
    assert real.loc["b", "p_value"] < 0.001
    said = readings.adjusted(real.reset_index(), ["x", "z"])
    assert "those of “b” stay" in said
    assert "less within 100 days" in said
    assert "no segment differs clearly" in readings.adjusted(found.reset_index(), ["x"])


def test_without_need_to_adjust_the_weighted_mean_is_the_plain_one() -> None:
    rng = np.random.default_rng(6)
    table = confounded(4000, 2).assign(x=rng.normal(size=4000))
    found = adjust.adjusted_segments(table, ["x"], 100)
    assert (found["difference_days"] - found["unadjusted_days"]).abs().max() < 1
    mean, influence = adjust._weighted(table, np.ones(len(table)), 100)
    plain, error = curves.area(table, 100)
    assert mean == pytest.approx(plain)
    assert np.sqrt((influence**2).sum()) == pytest.approx(error, rel=0.01)


def test_the_adjusted_interval_covers() -> None:
    hits, n = 0, 0
    for seed in range(20):
        found = adjust.adjusted_segments(confounded(800, seed), ["x", "z"], 100)
        hits += int(((found["difference_days_low"] <= 0) & (found["difference_days_high"] >= 0)).sum())
        n += len(found)
    assert n == 40
    assert hits >= 34  # 38 expected; fewer have a chance of 1 %


def test_the_adjusted_comparison_respects_late_entry() -> None:
    table = confounded(9000, 3)
    rng = np.random.default_rng(3)
    entered = np.where(table["segment"] == "b", rng.uniform(0, 80, len(table)), 0.0)
    known = table.assign(entered_days=entered)[table["duration_days"] > entered]
    right = adjust.adjusted_segments(known, ["x", "z"], 100).set_index("segment").loc["b"]
    wrong = adjust.adjusted_segments(known.drop(columns="entered_days"), ["x", "z"], 100).set_index("segment").loc["b"]
    assert wrong["difference_days_low"] > 10
    assert abs(right["difference_days"]) < wrong["difference_days"] / 2


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_adjusted_ends_with_a_sentence() -> None:
    table = confounded(300)
    alike = table.assign(x=1.0)
    told = table.assign(x=(table["segment"] == "b").astype(float))
    empty = table.assign(x=np.nan)
    many = table.assign(**{f"c{k}": table["x"] for k in range(20)})
    for found in (
        adjust.adjusted_segments(table.head(0), ["x"], 100),
        adjust.adjusted_segments(table.head(1), ["x"], 100),
        adjust.adjusted_segments(table.head(10), ["x"], 100),
        adjust.adjusted_segments(table.assign(ended=0), ["x"], 100),
        adjust.adjusted_segments(table.assign(segment="all"), ["x"], 100),
        adjust.adjusted_segments(table, [], 100),
        adjust.adjusted_segments(alike, ["x"], 100),
        adjust.adjusted_segments(told, ["x"], 100),
        adjust.adjusted_segments(empty, ["x"], 100),
        adjust.adjusted_segments(many, list(many.columns[-20:]), 9),
    ):
        assert found.empty
        assert found.attrs["reason"]
    assert "too few people are alike" in adjust.adjusted_segments(told, ["x"], 100).attrs["reason"]
    assert len(adjust.adjusted_segments(table.assign(ended=1), ["x"], 100)) == 2
    twice = adjust.adjusted_segments(table.assign(again=table["x"]), ["x", "again"], 100)  # repeats do no harm
    assert twice["difference_days"].tolist() == pytest.approx(
        adjust.adjusted_segments(table, ["x"], 100)["difference_days"].tolist(), abs=1e-3
    )
