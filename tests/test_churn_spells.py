"""Churn: stays, late entry, curves, restricted means, segments, leaving over tenure, and what is said of them."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_lung, load_waltons
from scipy.stats import norm

from journeykit import config, stats
from journeykit.churn import choice, compare, curves, hazard, spells
from journeykit.errors import JourneyError
from journeykit.plots import churn as plots
from journeykit.readings import churn as readings
from journeykit.readings import churn_findings
from tests.conftest import START, make_log

DATA = Path(__file__).parents[2] / "shared" / "data"
LATE = config.Covariate(name="late", events="delivery_late")


def lung() -> pd.DataFrame:
    table = load_lung()
    return table.assign(
        duration_days=table["time"].astype(float),
        ended=table["status"].astype(int),
        segment=np.where(table["sex"] == 2, "women", "men"),
    )


def people(n: int, ratio: float = 2.0, seed: int = 0, share: float = 0.5) -> pd.DataFrame:
    """Exponential stays after a landmark, staggered starts, one covariate with a known hazard ratio."""
    rng = np.random.default_rng(seed)
    having = (rng.random(n) < share).astype(float)
    noise = rng.integers(0, 2, n).astype(float)
    started = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.uniform(0, 300, n), unit="D")
    landmark = started + pd.Timedelta("30D")
    life = rng.exponential(200 / np.where(having == 1, ratio, 1.0))
    seen = (pd.Timestamp("2026-01-01") - landmark).total_seconds().to_numpy() / 86400
    return pd.DataFrame(
        {
            "person_id": np.arange(n),
            "started_at": started,
            "landmark_at": landmark,
            "segment": np.where(rng.random(n) < 0.5, "a", "b"),
            "duration_days": np.minimum(life, seen),
            "ended": (life <= seen).astype(int),
            "late": having,
            "noise": noise,
        }
    )


# stays


def test_spells_by_hand() -> None:
    log = make_log(
        "u1: left@1h join@1d left@4d join@5d left@9d | u2: join@2d visit@3d | u3: visit@1d | u4: join@12d "
        "| u5: left@0d join@0d"
    )
    table = spells.spells(log, start=["join"], end=["left"], as_of="2025-01-11T00:00:00Z")
    assert table["person_id"].tolist() == [1, 2, 5]  # u3 never started, u4 started after observation ended
    assert table["duration_days"].tolist() == [3.0, 8.0, 10.0]  # an end before the start, at the same time, is ignored
    assert table["ended"].tolist() == [1, 0, 0]
    assert table["started_at"].tolist() == [START + pd.Timedelta(days=d) for d in (1, 2, 0)]
    assert set(table["segment"]) == {"all"}


def test_spells_segment_is_that_of_the_start() -> None:
    log = make_log("u1: join@1d left@2d | u2: join@1d | u3: join@1d").assign(segment_plan=["basic", "pro", None, "pro"])
    table = spells.spells(log, start=["join"], end=["left"], as_of="2025-02-01", by="plan")
    assert table["segment"].tolist() == ["basic", "unknown", "pro"]
    with pytest.raises(JourneyError, match="Did you mean 'segment_plan'"):
        spells.spells(log, start=["join"], end=["left"], as_of="2025-02-01", by="segment_plam")


def test_spells_from_the_first_event() -> None:
    log = make_log("u1: visit@1d buy@2d buy@3d | u2: buy@1d | u3: visit@1d")
    table = spells.spells(log, start=[], end=["buy"], as_of="2025-01-05")
    assert table["duration_days"].tolist() == [1.0, 0.0, 3.0]
    assert table["ended"].tolist() == [1, 1, 0]


def test_spells_do_not_depend_on_row_order_and_match_a_slow_version() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        log = make_log(
            "|".join(
                f"u{p}: " + " ".join(f"{rng.choice(['join', 'left', 'x'])}@{h}h" for h in sorted(rng.integers(0, 9, 6)))
                for p in range(8)
            )
        )
        as_of = START + pd.Timedelta("7h")
        shuffled = log.sample(frac=1, random_state=3)
        found = spells.spells(shuffled, start=["join"], end=["left"], as_of=as_of)
        expected = []
        for person, rows in log.sort_values(["timestamp", "source_row"]).groupby("person_id"):
            rows = rows[rows["timestamp"] <= as_of]
            starts = [i for i, event in enumerate(rows["event"]) if event == "join"]
            if starts:
                after = rows.iloc[starts[0] :]
                end = after[after["event"] == "left"]["timestamp"].min()
                over = as_of if pd.isna(end) else end
                expected.append(
                    (person, (over - after["timestamp"].iloc[0]).total_seconds() / 86400, int(pd.notna(end)))
                )
        rows = found[["person_id", "duration_days", "ended"]].itertuples(index=False)
        assert [tuple(row) for row in rows] == expected


def test_spells_refuse_what_makes_no_sense() -> None:
    log = make_log("u1: a b")
    with pytest.raises(JourneyError, match="both starts and ends"):
        spells.spells(log, start=["a"], end=["a"], as_of="2025-02-01")
    with pytest.raises(JourneyError, match="no end event"):
        spells.spells(log, start=["a"], end=[], as_of="2025-02-01")
    assert "n = 0" in spells.spells(log, start=["zzz"], end=["b"], as_of="2025-02-01").attrs["reason"]


@pytest.mark.skipif(not (DATA / "ecom_clickstream").exists(), reason="real data sets are not beside the repository")
def test_time_to_first_purchase_of_a_real_shop() -> None:
    with gzip.open(DATA / "ecom_clickstream" / "ecom.csv.gz", "rt") as file:
        log = pd.read_csv(file)
    log = log.assign(timestamp=pd.to_datetime(log["timestamp"]), person_id=log["user_id"], source="shop")
    log = log.assign(source_row=np.arange(len(log)), event_id=[f"e{i:06d}" for i in range(len(log))])
    table = spells.spells(log, start=[], end=["purchase"], as_of=log["timestamp"].max())
    expected = json.loads((DATA / "ecom_clickstream" / "expected.json").read_text())["figures"]["km_first_purchase"][
        "value"
    ]
    assert (len(table), table["ended"].sum()) == (expected["users"], expected["events"])
    days = {float(day): share for day, share in expected["survival_at_days"].items()}
    curve = curves.survival_curve(table, times=list(days))
    assert curve["survival_share"].tolist() == pytest.approx(list(days.values()), abs=1e-9)
    assert curves.median_table(table)["median_days"].iloc[0] == pytest.approx(expected["median_days"], abs=1e-4)


# curves, medians, restricted means


def test_curve_by_hand() -> None:
    table = pd.DataFrame({"duration_days": [1.0, 2.0, 2.0, 3.0, 4.0], "ended": [1, 1, 0, 1, 0]})
    curve = curves.survival_curve(table, min_n=1)
    assert curve["day"].tolist() == [0, 1, 2, 3, 4]
    assert curve["at_risk_n"].tolist() == [5, 5, 4, 2, 1]
    assert curve["survival_share"].tolist() == pytest.approx([1, 0.8, 0.6, 0.3, 0.3])
    assert (curve["survival_share_low"] <= curve["survival_share"]).all()
    assert (curve["survival_share"] <= curve["survival_share_high"]).all()


def test_curve_is_cut_where_few_are_left_and_small_segments_are_left_out() -> None:
    table = lung()
    assert curves.survival_curve(table, min_n=20)["at_risk_n"].min() >= 20
    few = table.assign(segment=np.where(np.arange(len(table)) < 5, "tiny", table["segment"]))
    curve = curves.survival_curve(few, by=True)
    assert sorted(curve["segment"].unique()) == ["men", "women"]
    assert curve.attrs["note"] == "1 segment of fewer than 20 people left out."


def test_no_end_yet_does_not_pretend_certainty() -> None:
    table = pd.DataFrame({"duration_days": np.full(30, 9.0), "ended": 0})
    last = curves.survival_curve(table).iloc[-1]
    assert last["survival_share"] == 1
    assert last["survival_share_low"] == pytest.approx(0.8865, abs=1e-3)  # Wilson, 30 of 30


def test_published_medians_log_rank_and_restricted_means() -> None:
    assert curves.median_table(lung())["median_days"].tolist() == [310]
    assert curves.median_table(lung(), by=True)["median_days"].tolist() == [270, 426]
    means = curves.restricted_mean(lung(), 965, by=True)
    assert means["restricted_mean_days"].tolist() == pytest.approx([324.048, 455.904], abs=1e-3)
    assert means["standard_error_days"].tolist() == pytest.approx([22.298, 32.917], abs=1e-3)
    gap = compare.compare_segments(lung(), 965)
    assert gap.attrs["logrank_chi2"] == pytest.approx(10.327, abs=1e-3)
    assert gap["p_value"].tolist() == pytest.approx([0.00131], abs=1e-5)
    line = gap.iloc[0]
    assert (line["segment"], line["reference"]) == ("women", "men")
    assert line["difference_days"] == pytest.approx(131.856, abs=1e-3)
    assert (line["difference_days_high"] - line["difference_days_low"]) / 2 / curves.Z95 == pytest.approx(
        39.759, abs=1e-3
    )


def test_a_horizon_beyond_observation_is_cut_back() -> None:
    table = pd.DataFrame({"duration_days": np.linspace(1, 50, 40), "ended": np.tile([1, 0], 20)})
    assert curves.restricted_mean(table, 400)["horizon_days"].tolist() == [50.0]


def test_restricted_mean_interval_covers() -> None:
    rng = np.random.default_rng(2)
    truth, hits = 100 * (1 - np.exp(-0.9)), 0
    for _ in range(200):
        life, censor = rng.exponential(100, 120), rng.uniform(60, 300, 120)
        table = pd.DataFrame({"duration_days": np.minimum(life, censor), "ended": (life <= censor).astype(int)})
        line = curves.restricted_mean(table, 90).iloc[0]
        hits += line["restricted_mean_days_low"] <= truth <= line["restricted_mean_days_high"]
    assert 0.90 <= hits / 200 <= 0.99


def test_restricted_means_of_few_leavers_have_no_interval() -> None:
    table = pd.DataFrame({"duration_days": np.full(40, 60.0), "ended": 0})
    bounds = ["restricted_mean_days_low", "restricted_mean_days_high", "standard_error_days"]
    for leavers in (0, 1, 9):
        table.loc[: leavers - 1, ["duration_days", "ended"]] = (29.0, 1)
        found = curves.restricted_mean(table, 30)
        assert found["restricted_mean_days"].tolist() == pytest.approx([30 - leavers / 40])
        assert found[bounds].isna().all().all()
        assert found.attrs["note"] == "No interval where fewer than 10 people had an end event within 30 days."
    table.loc[:9, ["duration_days", "ended"]] = (29.9, 1)
    enough = curves.restricted_mean(table, 30)
    assert enough.attrs["note"] == ""
    assert enough["restricted_mean_days_low"].iloc[0] < enough["restricted_mean_days_high"].iloc[0] <= 30


def test_segments_of_few_leavers_are_not_compared() -> None:
    table = pd.concat(
        pd.DataFrame({"duration_days": [*np.linspace(1, 29, ends), *np.full(60 - ends, 50.0)], "segment": name})
        for name, ends in (("a", 20), ("b", 12), ("c", 9))
    )
    table["ended"] = (table["duration_days"] < 50).astype(int)
    found = compare.compare_segments(table, 30)
    assert found["segment"].tolist() == ["b"]
    assert "1 segment left out: fewer than 10 people had an end event within 30 days." in found.attrs["note"]
    assert found["difference_days_high"].max() <= 30
    alone = compare.compare_segments(table[table["segment"] != "b"], 30)
    assert alone.empty
    assert "fewer than 10 people had an end event within 30 days" in alone.attrs["reason"]


def test_leaving_at_once_leaves_nothing_to_show() -> None:
    found = hazard.leaving_by_tenure(pd.DataFrame({"duration_days": np.zeros(40), "ended": 1}))
    assert found.empty
    assert "not enough data" in found.attrs["reason"]
    assert plots.leaving(found).get_figure()


def test_leaving_by_tenure() -> None:
    table = pd.DataFrame({"duration_days": [10.0, 30.0, 60.0, 60.0], "ended": [1, 1, 0, 1]})
    found = hazard.leaving_by_tenure(table, min_n=1)
    assert found["at_risk_n"].tolist() == [4, 2]
    assert found["ended_n"].tolist() == [2, 1]
    assert found["leaving_share"].tolist() == pytest.approx([1 - np.exp(-2 / 100 * 30), 1 - np.exp(-1 / 60 * 30)])
    rng = np.random.default_rng(0)
    many = pd.DataFrame({"duration_days": np.minimum(rng.exponential(100, 20_000), 200)})
    many["ended"] = (many["duration_days"] < 200).astype(int)
    shares = hazard.leaving_by_tenure(many, horizon=180)
    assert ((shares["leaving_share_low"] < 0.2592) & (shares["leaving_share_high"] > 0.2592)).sum() >= 5


# nothing, everything, nobody


def _no_spells() -> pd.DataFrame:
    return spells.spells(make_log("u1: a"), start=["none"], end=["b"], as_of="2025-02-01")


@pytest.mark.parametrize("ended", [0, 1])
def test_curves_survive_all_or_nothing(ended: int) -> None:
    table = people(60).assign(ended=ended)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = curves.survival_curve(table, by=True, min_n=1)
        assert curve[["survival_share", "survival_share_low"]].notna().all().all()
        assert curves.median_table(table)["median_days"].isna().all() == (ended == 0)
        assert len(curves.restricted_mean(table, 90, by=True)) == 2
        assert len(hazard.leaving_by_tenure(table))
        assert len(compare.compare_segments(table, 90)) == ended
        for empty in (table.head(0), table.head(1), _no_spells()):
            for found in (
                curves.survival_curve(empty),
                curves.median_table(empty),
                curves.restricted_mean(empty, 9),
                compare.compare_segments(empty, 9),
                hazard.leaving_by_tenure(empty),
            ):
                assert found.empty
                assert "not enough data" in found.attrs["reason"]


def test_choice_prefers_the_notebooks_parameters() -> None:
    plan = config.Churn(start="join", end="left", by="plan", covariates=[LATE])
    assert choice.choose(plan).horizon_days == 180
    assert choice.choose(plan).times == [0, 30, 60, 90, 120, 150, 180]
    assert choice.choose(plan, horizon="10d").times == list(range(11))
    assert choice.choose(plan, horizon="4h").times[-1] == pytest.approx(1 / 6)
    chosen = choice.choose(plan, horizon="12w", landmark="2w", by="device")
    assert (chosen.horizon_days, chosen.landmark, chosen.landmark_days, chosen.by) == (84, "2w", 14, "device")
    with pytest.raises(JourneyError, match="not a duration"):
        choice.choose(plan, horizon="soon")
    with pytest.raises(JourneyError, match="missing"):
        choice.choose(None)


# sentences, findings and charts


@pytest.mark.filterwarnings("error")
def test_readings_of_nothing_say_nothing() -> None:
    chosen = choice.choose(config.Churn(start="a", end="b"))
    none = stats.not_enough([], "none")
    assert readings.people(none, chosen) == readings.survival(none, chosen) == readings.median(none) == ""
    assert readings.losses(none, chosen) == readings.segments(none) == readings.adjusted(none, ["x"]) == ""
    assert readings.reasons(none) == readings.note(none) == ""
    assert churn_findings.findings(none, none, none, none, chosen) == []
    first = choice.choose(config.Churn(start=[], end="purchase"))
    said = readings.survival(curves.survival_curve(people(300)), first)
    assert "have not yet reached “purchase”" in said


def test_the_segment_is_the_last_value_known_at_the_start() -> None:
    touches = make_log("u1: visit start end@40d | u2: start visit@1d | u3: visit visit start")
    touches["segment_device"] = ["mobile", None, "desktop", None, "tablet", "mobile", "desktop", None]
    found = spells.spells(touches, start=["start"], end=["end"], as_of="2025-03-01", by="device")
    assert found["segment"].tolist() == ["mobile", "unknown", "desktop"]


def test_unknown_is_no_segment_to_compare() -> None:
    stays = people(300).assign(segment=["a", "b", "unknown"] * 100)
    table = compare.compare_segments(stays, 180)
    assert set(table["segment"]) | set(table["reference"]) == {"a", "b"}
    assert "100 people of unknown segment are not compared." in readings.note(table)
    alone = compare.compare_segments(stays.assign(segment=["a", "a", "unknown"] * 100), 180)
    assert "at least 2 are needed" in alone.attrs["reason"]


def test_segments_that_do_not_differ_are_not_ranked() -> None:
    row = {"segment": "b", "reference": "a", "n": 40, "reference_people_n": 60, "horizon_days": 180.0}
    table = pd.DataFrame([{**row, "difference_days": -4.5, "difference_days_low": -9.0, "difference_days_high": 0.5}])
    table.attrs["logrank_p_value"] = 0.4
    text = readings.segments(table)
    assert "do not differ by more than chance explains" in text
    assert "“a” (n = 60)" in text
    assert "4.5" not in text
    table.attrs["logrank_p_value"] = 0.01
    assert "stay 4.5 days less on average" in readings.segments(table)


# what leaving is: reasons, late entry, the table of both kinds


REASONS = {"Payment": {"properties.why": ["card"]}, "Moved": {"properties.why": ["moved", "card"], "channel": ["app"]}}


def test_the_reason_is_the_first_that_fits_the_end_event() -> None:
    log = make_log(
        "u1: join@0d left@4d left@5d | u2: join@0d left@4d/app | u3: join@0d left@1d/app | u4: join@0d left@2d "
        "| u5: join@0d"
    )
    log["properties"] = None
    ends = log.index[log["event"] == "left"]
    for place, text in zip(ends, ["card", "moved", "moved", "card", "moved"], strict=True):
        log.loc[place, "properties"] = json.dumps({"why": text})
    plan = config.Churn(start="join", end="left", reasons=REASONS)
    found = spells.of(log, plan, as_of="2025-01-11")
    assert tuple(found.columns) == spells.SPELL_COLUMNS
    # u1's second end does not count; u4 moved, but not by app, so that no reason holds.
    assert found["reason"].tolist() == ["Payment", "Moved", "Payment", "other", ""]
    assert spells.of(log, plan.model_copy(update={"reasons": {}}), as_of="2025-01-11")["reason"].tolist() == [
        *["left"] * 4,
        "",
    ]
    with pytest.raises(JourneyError, match="chanel"):
        spells.of(log, plan.model_copy(update={"reasons": {"x": {"chanel": ["app"]}}}), as_of="2025-01-11")


def test_late_entry_by_hand() -> None:
    log = make_log(
        "u1: join@0d left@2d | u2: join@0d left@8d | u3: join@1d | u4: join@6d left@7d | u5: join@0d left@5d "
        "| u6: join@5d"
    )
    plan = config.Churn(start="join", end="left", observed_from="2025-01-06")
    found = spells.of(log, plan, as_of="2025-01-11")
    # u1 had left before, u5 on the very moment: nobody could have seen them there later. u6 starts with the record.
    assert found["person_id"].tolist() == [2, 3, 4, 6]
    assert found["entered_days"].tolist() == [5.0, 4.0, 0.0, 0.0]
    assert found["duration_days"].tolist() == [8.0, 9.0, 1.0, 5.0]
    assert found["ended"].tolist() == [1, 0, 1, 0]
    assert found.attrs["until"] == pd.Timestamp("2025-01-11")
    assert "Left out: 2 people who had left before 2025-01-06," in found.attrs["note"]
    assert "Counted from 2025-01-06 on only: 2 people who started before it." in found.attrs["note"]
    nobody = spells.of(log, plan.model_copy(update={"observed_from": "2026-01-01"}), as_of="2025-01-11")
    assert nobody.empty
    assert "n = 0 people" in nobody.attrs["reason"]
    with pytest.raises(JourneyError, match=r"churn\.observed_from: 'soon' is not a date"):
        spells.of(log, plan.model_copy(update={"observed_from": "soon"}), as_of="2025-01-11")


def truncated(n: int = 6000, seed: int = 3) -> pd.DataFrame:
    """Stays of which half came under observation late: only those still there by then are known. S(60) = exp(−0.5)."""
    rng = np.random.default_rng(seed)
    life, entered = rng.exponential(120, n), np.where(rng.random(n) < 0.5, rng.uniform(0, 200, n), 0.0)
    table = pd.DataFrame({"entered_days": entered, "duration_days": np.minimum(life, 300.0), "ended": (life < 300) * 1})
    return table[life > entered].reset_index(drop=True)


def test_late_entry_ignored_makes_people_look_loyal() -> None:
    table, truth = truncated(), np.exp(-0.5)
    curve = curves.survival_curve(table, times=[60]).iloc[0]
    ignored = curves.survival_curve(table.drop(columns="entered_days"), times=[60]).iloc[0]
    assert curve["survival_share_low"] < truth < curve["survival_share_high"]
    assert ignored["survival_share_low"] > truth + 0.05
    assert curve["at_risk_n"] == ((table["entered_days"] < 60) & (table["duration_days"] >= 60)).sum()
    assert ignored["at_risk_n"] > curve["at_risk_n"]
    truth = 120 * (1 - np.exp(-100 / 120))
    mean = curves.restricted_mean(table, 100).iloc[0]
    assert mean["restricted_mean_days_low"] < truth < mean["restricted_mean_days_high"]
    assert curves.restricted_mean(table.drop(columns="entered_days"), 100)["restricted_mean_days_low"].iloc[0] > truth
    middle = curves.median_table(table).iloc[0]
    assert middle["median_days_low"] < 120 * np.log(2) < middle["median_days_high"]
    shares = hazard.leaving_by_tenure(table, horizon=180)
    truth = 1 - np.exp(-30 / 120)
    assert ((shares["leaving_share_low"] < truth) & (truth < shares["leaving_share_high"])).all()


def test_late_entry_agrees_with_lifelines() -> None:
    table = truncated(500)
    fit = KaplanMeierFitter().fit(table["duration_days"], table["ended"], entry=table["entered_days"])
    days = [10, 60, 150, 250]
    found = curves.survival_curve(table, times=days, min_n=5)
    assert found["survival_share"].tolist() == pytest.approx(fit.survival_function_at_times(days).tolist(), abs=1e-12)
    bounds = fit.confidence_interval_survival_function_
    for day, low, high in zip(days, found["survival_share_low"], found["survival_share_high"], strict=True):
        expected = bounds.iloc[bounds.index.searchsorted(day, side="right") - 1].tolist()
        assert [low, high] == pytest.approx(expected, abs=1e-12)


def test_a_few_early_people_do_not_drag_the_curve_to_zero() -> None:
    late = pd.DataFrame(
        {"entered_days": np.linspace(40, 50, 80), "duration_days": np.linspace(60, 200, 80), "ended": 1}
    )
    early = pd.DataFrame({"entered_days": 0.0, "duration_days": [5.0, 9.0], "ended": 1})  # alone at risk: S(9) = 0
    table = pd.concat([early, late], ignore_index=True)
    curve = curves.survival_curve(table)
    assert curve.attrs["from_day"] == curve["day"].iloc[0] == 43  # the 20th of them entered on day 42.4
    assert curve["survival_share"].iloc[0] == 1
    assert curve["survival_share"].min() > 0
    assert (
        "Too few people were seen from their start: the figures are of those still there on day 43."
        in curve.attrs["note"]
    )
    chosen = choice.choose(config.Churn(start="join", end="left"))
    assert "The curve begins on day 43" in readings.survival(curve, chosen)
    assert hazard.leaving_by_tenure(table)["from_day"].iloc[0] == 30
    assert curves.survival_curve(table, times=[5, 9]).attrs["reason"].startswith("not enough data")


def test_the_log_rank_test_respects_late_entry() -> None:
    rejected, ignored = 0, 0
    for seed in range(60):
        table = truncated(300, seed)
        groups = [table[table["entered_days"] > 0], table[table["entered_days"] == 0]]  # nothing else sets them apart
        rejected += compare.log_rank(groups)[1] < 0.05
        ignored += compare.log_rank([group.drop(columns="entered_days") for group in groups])[1] < 0.05
    assert rejected <= 8  # 3 expected; more than 8 in 60 has a chance of 0.5 %
    assert ignored >= 50


# inactivity


SHOP = config.Churn(kind="inactivity", activity="buy", quiet="10d")


def test_silence_by_hand() -> None:
    log = make_log(
        "u1: buy@0d buy@5d | u2: buy@1d buy@29d | u3: buy@25d | u4: buy@0d buy@10d buy@20d | u5: visit@1d "
        "| u6: buy@20d | u7: buy@9d buy@19d"
    )
    found = spells.of(log, SHOP, as_of="2025-01-31T00:00:00Z")  # day 30; labels end on day 20
    assert found["person_id"].tolist() == [1, 2, 4, 6, 7]  # u3 started too late, u5 never bought
    assert found["duration_days"].tolist() == [5.0, 0.0, 20.0, 0.0, 10.0]
    # A silence of exactly 10 days is not longer than 10 days: u4 is there, and u6, whose silence is not over.
    assert found["ended"].tolist() == [1, 1, 0, 0, 1]
    assert found["reason"].tolist() == ["left", "left", "", "", "left"]
    assert found.attrs["until"] == pd.Timestamp("2025-01-21")
    assert found.attrs["quiet_days"] == 10
    assert found.attrs["came_back_n"] == 1  # u2
    assert "Left out: 1 person who started in the last 10 days;" in found.attrs["note"]


def test_without_ending_labels_recent_customers_look_immortal() -> None:
    """Of people who buy once and never again, some just did: observed to the end, they would be called loyal."""
    log = make_log(" | ".join(f"u{k}: buy@{k}d" for k in range(60)))
    found = spells.of(log, SHOP, as_of="2025-03-02")  # day 60
    assert len(found) == 51
    assert found["ended"].sum() == 50
    assert found.loc[found["ended"] == 0, "duration_days"].tolist() == [0.0]  # nobody is loyal for a single day


def test_a_start_event_counts_as_a_sign_of_life() -> None:
    log = make_log("u1: buy@0d join@1d buy@8d | u2: join@2d | u3: buy@1d | u4: join@3d buy@20d buy@25d")
    found = spells.of(log, SHOP.model_copy(update={"start": ["join"]}), as_of="2025-02-10")
    assert found["person_id"].tolist() == [1, 2, 4]
    assert found["duration_days"].tolist() == [7.0, 0.0, 0.0]
    assert found["ended"].tolist() == [1, 1, 1]
    assert found.attrs["came_back_n"] == 1


def test_silence_with_late_entry() -> None:
    log = make_log(
        "u1: buy@0d buy@14d | u2: buy@0d buy@28d | u3: buy@1d | u4: buy@12d | u5: buy@3d buy@15d buy@24d buy@33d"
    )
    plan = SHOP.model_copy(update={"observed_from": "2025-01-11"})  # day 10
    found = spells.of(log, plan, as_of="2025-02-10")  # day 40; labels end on day 30
    # u2 and u3 showed nothing in the first 10 days of the record: gone before it. What lies before does not count.
    assert found["person_id"].tolist() == [1, 4, 5]
    assert found["entered_days"].tolist() == [10.0, 0.0, 7.0]
    assert found["duration_days"].tolist() == [14.0, 0.0, 27.0]
    assert found["ended"].tolist() == [1, 1, 0]
    assert "Left out: 2 people who had left before 2025-01-11," in found.attrs["note"]


def test_silence_matches_a_slow_version_in_any_order_and_with_ties() -> None:
    rng = np.random.default_rng(8)
    for _ in range(4):
        log = make_log(
            "|".join(
                f"u{p}: " + " ".join(f"{rng.choice(['buy', 'buy', 'x'])}@{h}h" for h in sorted(rng.integers(0, 60, 7)))
                for p in range(12)
            )
        )
        as_of, quiet = START + pd.Timedelta("80h"), pd.Timedelta("12h")
        plan = config.Churn(kind="inactivity", activity="buy", quiet="12h")
        found = spells.of(log.sample(frac=1, random_state=2), plan, as_of=as_of)
        expected = []
        for person, times in log[log["event"] == "buy"].groupby("person_id")["timestamp"]:
            times = sorted(times)
            if times[0] > as_of - quiet:
                continue
            over, ended = as_of - quiet, 0
            for this, after in zip(times, [*times[1:], as_of], strict=True):
                if after - this > quiet:
                    over, ended = this, 1
                    break
            expected.append((person, (over - times[0]).total_seconds() / 86400, ended))
        rows = found[["person_id", "duration_days", "ended"]].itertuples(index=False)
        assert [tuple(row) for row in rows] == expected


def test_a_silence_that_cannot_be_chosen_is_a_sentence() -> None:
    log = make_log("u1: buy@0d buy@5d | u2: buy@1d")
    found = spells.of(log, SHOP.model_copy(update={"quiet": ""}), as_of="2025-01-31")
    assert found.empty
    assert "name the silence as quiet of [churn]" in found.attrs["reason"]
    empty = spells.of(make_log("u1: visit"), SHOP, as_of="2025-01-31")
    assert "n = 0 people with an event buy" in empty.attrs["reason"]


# leaving over tenure


def test_published_restricted_mean_of_waltons() -> None:
    table = load_waltons().rename(columns={"T": "duration_days", "E": "ended", "group": "segment"})
    means = curves.restricted_mean(table, 10, by=True).set_index("segment")
    assert means.loc["miR-137", "restricted_mean_days"] == pytest.approx(9.7941, abs=1e-4)
    # survRM2 prints .1232; with fewer than ten ends by day 10 no interval is shown here, so the error is asked for.
    assert curves.area(table[table["segment"] == "miR-137"], 10)[1] == pytest.approx(0.1232, abs=1e-4)
    (one, first), (two, second) = (curves.area(table[table["segment"] == name], 10) for name in ("miR-137", "control"))
    assert 2 * norm.sf(abs(one - two) / np.hypot(first, second)) == pytest.approx(0.145, abs=1e-3)


def changing(n: int, seed: int, early: float, later: float) -> pd.DataFrame:
    """Stays with one rate before day 30 and another after it, seen for 50 to 400 days."""
    rng = np.random.default_rng(seed)
    target = rng.exponential(1, n)
    life = np.where(target < 30 * early, target / early, 30 + (target - 30 * early) / later)
    seen = rng.uniform(50, 400, n)
    return pd.DataFrame({"duration_days": np.minimum(life, seen), "ended": (life <= seen).astype(int)})


def test_the_day_by_which_half_have_left_and_the_worst_period() -> None:
    found = hazard.losses(changing(4000, 1, 0.0007, 0.0026), 180).iloc[0]
    gone = 1 - np.exp(-(30 * 0.0007 + 150 * 0.0026))
    truth = 30 + (-np.log(1 - gone / 2) - 30 * 0.0007) / 0.0026
    assert found["half_days_low"] < truth < found["half_days_high"]
    assert found["from_day"] >= 30
    assert found["p_value"] < 1e-6
    steady = hazard.losses(changing(4000, 2, 0.002, 0.002), 180).iloc[0]
    assert steady["p_value"] > 0.05
    assert steady["average_share"] == pytest.approx(1 - np.exp(-0.06), rel=0.05)


def test_the_test_of_a_constant_rate_keeps_its_level_and_the_interval_of_the_half_covers() -> None:
    rejected, hits, n = 0, 0, 400
    truth = -np.log(1 - (1 - np.exp(-0.36)) / 2) / 0.002
    for seed in range(n):
        line = hazard.losses(changing(400, 5000 + seed, 0.002, 0.002), 180).iloc[0]
        rejected += line["p_value"] < 0.05
        hits += line["half_days_low"] <= truth <= line["half_days_high"]
    assert rejected / n < 0.08
    assert 0.92 <= hits / n <= 0.975


def test_the_smooth_line_meets_the_planted_rate() -> None:
    found = hazard.smoothed(changing(20_000, 4, 0.002, 0.002), horizon=300)
    truth = 1 - np.exp(-0.06)
    inside = (found["leaving_share_low"] <= truth) & (truth <= found["leaving_share_high"])
    assert inside.mean() > 0.8
    # Without the local line it would sink to half of the rate at day 0.
    assert found["leaving_share"].iloc[0] == pytest.approx(truth, rel=0.2)
    assert hazard.smoothed(changing(30, 4, 0.0001, 0.0001)).attrs["reason"].startswith("not enough data")
    assert plots.smoothed(found).get_figure()
    assert plots.smoothed(stats.not_enough([], "none")).get_figure()


@pytest.mark.filterwarnings("error")
def test_hostile_stays_end_with_a_sentence() -> None:
    one = pd.DataFrame({"duration_days": [3.0], "ended": [1]})
    ten = pd.DataFrame({"duration_days": np.arange(10.0), "ended": 1})
    still = pd.DataFrame({"duration_days": np.full(50, 9.0), "ended": 0})
    nulls = pd.DataFrame({"duration_days": np.full(50, np.nan), "ended": 0, "entered_days": np.nan})
    for table in (one.head(0), one, ten, still, nulls):
        for found in (hazard.losses(table, 90), hazard.smoothed(table)):
            assert found.empty
            assert "not enough data" in found.attrs["reason"]
    gone = pd.DataFrame({"duration_days": np.full(50, 9.0), "ended": 1})  # all on one day
    line = hazard.losses(gone, 90).iloc[0]
    assert (line["half_days"], line["half_days_low"], line["half_days_high"]) == (9, 9, 9)
    at_once = hazard.losses(gone.assign(duration_days=0.0), 90)
    assert at_once.empty
    assert "not enough data" in at_once.attrs["reason"]


# what is said


def test_the_definition_comes_first() -> None:
    plan = config.Churn(start="join", end="left", reasons={"Moved": {"channel": ["app"]}})
    log = make_log(" | ".join(f"u{k}: join@{k}h left@{k + 30}h" for k in range(30)) + " | v: join@0d")
    found = spells.of(log, plan, as_of="2025-02-01")
    assert readings.definition(plan, found) == (
        "Leaving is the first “left” after “join”; whoever has none is still there. "
        "The reasons told apart are “Moved”; all others are “other”."
    )
    said = readings.people(found, plan)
    assert said.startswith("31 people are followed from “join” to 2025-02-01; 30 of them (96.8 %) reached “left”")
    shop = SHOP.model_copy(update={"quiet": "3d"})
    bought = spells.of(
        make_log(" | ".join(f"u{k}: buy@{k}h buy@{200 + k}h" for k in range(30))), shop, as_of="2025-02-01"
    )
    said = readings.definition(shop, bought)
    assert "whoever shows no “buy” for more than 3 days (as journey.toml says)" in said
    assert "leaving is known to 2025-01-29" in said
    assert "30 of them (100.0 %) fell silent while observed" in readings.people(bought, shop)
    assert "30 were active again later" in readings.people(bought, shop)
    assert "read off" not in readings.definition(shop, stats.not_enough([], "none"))


def test_when_people_leave_is_said_with_its_test() -> None:
    chosen = choice.choose(config.Churn(start="join", end="left"))
    found = hazard.losses(changing(4000, 1, 0.0007, 0.0026), 180)
    said = readings.losses(found, chosen)
    assert "Of those who leave within 180 days, half have done so by day" in said
    assert "The chance of leaving changes over tenure (p < 0.001): it is highest in days" in said
    assert "no day stands out" in readings.losses(hazard.losses(changing(4000, 2, 0.002, 0.002), 180), chosen)
    listed = churn_findings.findings(
        curves.survival_curve(changing(4000, 1, 0.0007, 0.0026)), found, pd.DataFrame(), pd.DataFrame(), chosen
    )
    assert [finding.id for finding in listed] == ["churn.survival", "churn.when"]
    assert listed[0].n == 4000
    assert all(finding.low <= finding.value <= finding.high for finding in listed)
