"""Churn: stays, curves, covariates at a landmark, the Cox model and its test on later customers."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung, load_rossi

from journeykit import config, stats
from journeykit.churn import choice, compare, curves, hazard, spells
from journeykit.errors import JourneyError
from journeykit.plots import churn as plots
from journeykit.readings import churn as readings
from tests.conftest import START, make_log

DATA = Path(__file__).parents[2] / "shared" / "data"
LATE = config.Covariate(name="late", events="delivery_late")
TICKET = config.Covariate(name="unresolved", events="ticket_opened", without="ticket_solved", label="unresolved ticket")


def names(*columns: str) -> list[config.Covariate]:
    return [config.Covariate(name=column, events="none") for column in columns]


def lung() -> pd.DataFrame:
    table = load_lung()
    return table.assign(
        duration_days=table["time"].astype(float),
        ended=table["status"].astype(int),
        segment=np.where(table["sex"] == 2, "women", "men"),
    )


def rossi() -> pd.DataFrame:
    return load_rossi().rename(columns={"week": "duration_days", "arrest": "ended"})


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


# covariates


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
    assert readings.leaving(none, chosen) == readings.segments(none) == readings.ratios(none, chosen) == ""
    assert readings.assumption(none) == readings.days_kept(none) == readings.forecast(none) == readings.note(none) == ""
    assert readings.findings(none, none, none, chosen) == []
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


def test_a_ratio_below_one_is_told_as_slower() -> None:
    chosen = choice.choose(config.Churn(start=["on"], end=["off"]))
    row = {"covariate": "c", "label": "Set-up", "hazard_ratio": 0.6, "hazard_ratio_low": 0.45, "p_value": 0.001}
    row |= {"hazard_ratio_high": 0.8, "n": 200, "people_with_n": 90, "events_n": 50, "proportionality_p_value": 0.5}
    text = readings.ratios(pd.DataFrame([row]), chosen)
    assert "leave 40 % more slowly (hazard ratio 0.60, 0.45–0.80)" in text
    assert "covariate" not in readings.shown(pd.DataFrame([row, row]))
