"""Times of funnels: by hand, against lifelines on single rows, on planted truth, and on hostile input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.statistics import logrank_test, multivariate_logrank_test
from lifelines.utils import median_survival_times

from journeykit import engine, funnel_spells, funnel_times, funnels, stats
from journeykit.errors import JourneyError
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "ecom_clickstream"
DAY = 86_400_000_000
START = pd.Timestamp("2025-01-01")


def reach(text: str, *, until: str = "", by: tuple[str, ...] = (), **rules: object) -> funnels.Reached:
    end = START + pd.Timedelta(until) if until else None
    return funnels.reach(make_log(text), until=end, by=by, **rules)


def two_steps(
    entered: np.ndarray, took: np.ndarray, until: float, *, within: str = "", segment: object = "x"
) -> funnels.Reached:
    """People who enter on a day and would go on after `took` days, as seen at `until`."""
    within_days = float(within.removesuffix("d")) if within else np.inf
    second = entered + took
    seen = (second <= until) & (took <= within_days)
    rows = pd.DataFrame({"unit": range(len(entered)), "attempt": 1, "person_id": range(len(entered))})
    first = (entered * DAY).astype("int64")
    later = pd.Series((second * DAY).astype("int64"), dtype="Int64").where(pd.Series(seen))
    rows = rows.assign(depth=1 + seen, is_open=(entered + within_days > until).astype(int) if within else 0)
    rows = rows.assign(first_us=first, at_1=first, at_2=later, seg_0=segment, seg_1=segment, seg_2=segment)
    rules = funnels.reach(make_log("u1: a b"), steps=["ad", "buy"], within=within).rules
    return funnels.Reached(engine.lazy(rows), rules, ("seg",), int(until * DAY))


def whole(table: pd.DataFrame) -> pd.Series:
    return table[table["part"] == funnel_spells.WHOLE].iloc[0]


def test_times_by_hand() -> None:
    found = reach("u1: ad visit@1d buy@3d | u2: ad visit@2d | u3: ad@0d | u4: visit", steps=["ad", "visit", "buy"])
    table = funnel_times.times(found, min_n=1)
    assert table["part"].tolist() == ["step 2", "step 3", "whole funnel"]
    assert table[["from_step", "to_step"]].values.tolist() == [["ad", "visit"], ["visit", "buy"], ["ad", "buy"]]
    assert table["n"].tolist() == [3, 2, 3]
    assert table["converted_n"].tolist() == [2, 1, 1]
    day = 1 - 1 / 1440  # the first ad of a person is a minute after midnight
    assert table["median_days"].tolist() == pytest.approx([day + 0.5, 2, day + 2])


def test_a_step_counts_from_the_last_required_one() -> None:
    found = reach("u1: ad@0d call@1d buy@3d | u2: ad@0d buy@5d | u3: ad@0d call@2d", steps=["ad", "call?", "buy"])
    table = funnel_times.times(found, min_n=1)
    assert table[["from_step", "to_step", "n", "converted_n", "median_days"]].values.tolist() == [
        ["ad", "call", 3, 2, 1.5],
        ["ad", "buy", 3, 2, 4.0],
        ["ad", "buy", 3, 2, 4.0],
    ]


@pytest.mark.parametrize(("clock", "expected"), [("any", 2.0), ("last", 1.0), ("first", np.nan)])
def test_the_clock_is_that_of_the_rules(clock: str, expected: float) -> None:
    text = "u1: ad@0d ad@5d ad@6d buy@7d buy@8d"
    row = whole(funnel_times.times(reach(text, steps=["ad", "buy"], within="3d", clock=clock), min_n=1))
    assert row["median_days"] == pytest.approx(expected, nan_ok=True)


def test_the_interval_of_the_median_is_that_of_order_statistics() -> None:
    text = " | ".join(f"u{k}: ad@0d buy@{k}d" for k in range(1, 11))
    row = whole(funnel_times.times(reach(text, steps=["ad", "buy"])))
    # ranks 2 and 9 of ten values hold the median with 97.9 %, the narrowest symmetric pair above 95 %
    assert row[["converted_n", "median_days", "median_days_low", "median_days_high"]].tolist() == [10, 5.5, 2, 9]
    assert (row["p25_days"], row["p75_days"], row["p90_days"]) == pytest.approx(
        np.quantile(range(1, 11), [0.25, 0.75, 0.9])
    )
    few = funnel_times.times(reach("u1: ad buy", steps=["ad", "buy"]))
    assert "n = 1, at least 6" in few.attrs["reason"]


def test_the_interval_of_the_median_covers() -> None:
    rng, hits = np.random.default_rng(7), 0
    for _ in range(200):
        spells = pd.DataFrame({"days": rng.exponential(10, 15), "n": 1})
        _, low, high, *_ = funnel_times._quantiles(spells)
        hits += low <= 10 * np.log(2) <= high
    assert hits >= 184  # 96.5 % of 200; fewer than 184 has a probability below 1 %


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9)), min_size=2, max_size=40), st.integers(1, 12))
def test_grouped_times_equal_those_of_single_rows(people: list[tuple[int, int]], until: int) -> None:
    people = [person for person in people if person[0] <= until]
    if len(people) < 2:
        return
    entered, took = (np.array(column, dtype=float) for column in zip(*people, strict=True))
    done = entered + took <= until
    seen = np.where(done, took, until - entered)
    spells = funnel_spells.spells_of(two_steps(entered, took, until), funnel_spells.parts(RULES)[-1])
    assert spells["n"].sum() == len(people)
    for weighted, single in [(funnel_spells.fitted(spells), KaplanMeierFitter().fit(seen, done))]:
        np.testing.assert_allclose(weighted.survival_function_, single.survival_function_)
        bounds = (fit.confidence_interval_survival_function_ for fit in (weighted, single))
        np.testing.assert_allclose(*[table.to_numpy(float) for table in bounds])
    row = whole(funnel_times.times(two_steps(entered, took, until), min_n=1))
    if done.any():
        expected = np.quantile(took[done], [0.5, 0.25, 0.75, 0.9])
        assert row[["median_days", "p25_days", "p75_days", "p90_days"]].tolist() == pytest.approx(expected)


RULES = funnels.reach(make_log("u1: ad buy"), steps=["ad", "buy"]).rules


def test_half_of_all_equals_lifelines_on_single_rows() -> None:
    rng = np.random.default_rng(4)
    entered, took = rng.uniform(0, 30, 500), rng.exponential(9, 500)
    row = whole(funnel_times.times(two_steps(entered, took, 30)))
    done = entered + took <= 30
    fit = KaplanMeierFitter().fit(np.where(done, took, 30 - entered), done)
    low, high = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy(float))
    assert row[["half_days", "half_days_low", "half_days_high"]].tolist() == pytest.approx(
        [fit.median_survival_time_, low, high]
    )
    at = fit.confidence_interval_survival_function_.loc[: row["observed_days"]].iloc[-1]
    assert row["gone_on_share"] == pytest.approx(1 - fit.predict(row["observed_days"]))
    assert row[["gone_on_share_low", "gone_on_share_high"]].tolist() == pytest.approx([1 - at.iloc[1], 1 - at.iloc[0]])


def test_many_people_are_cut_to_four_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    found = two_steps(rng.uniform(0, 60, 4000), rng.lognormal(-3, 4, 4000), 90, within="30d")
    exact = funnel_times.times(found)
    monkeypatch.setattr(funnel_spells, "EXACT", 0)
    cut = funnel_times.times(found)
    spells = funnel_spells.spells_of(found, funnel_spells.parts(found.rules)[-1])
    assert len(spells) < 4000
    assert (spells["us"].astype(str).str.rstrip("0").str.len() <= 4).all()
    numbers = exact.columns[exact.columns.str.endswith(("_days", "_share", "_low", "_high", "_n"))]
    np.testing.assert_allclose(cut[numbers].to_numpy(float), exact[numbers].to_numpy(float), rtol=1e-3)


def test_who_has_not_gone_on_yet_does_not_count_as_quick() -> None:
    """METHODS, section 4: true median 6.9, of those who have gone on 3.6, by Kaplan–Meier 6.8."""
    rng = np.random.default_rng(11)
    entered, took = rng.uniform(0, 19, 4000), rng.exponential(10, 4000)
    row = whole(funnel_times.times(two_steps(entered, took, 19)))
    assert row["median_days"] == pytest.approx(3.6, abs=0.3)
    assert row["half_days_low"] < 10 * np.log(2) < row["half_days_high"]
    assert row["half_days"] == pytest.approx(10 * np.log(2), rel=0.06)


def test_without_open_windows_the_estimate_ends_at_the_share_of_the_funnel() -> None:
    rng = np.random.default_rng(6)
    people = []
    for _ in range(80):
        at, text = 0.0, "u: ad@0h"
        for step in ("visit", "call", "buy"):
            at += rng.exponential(10)
            text += f" {step}@{at:.2f}h" * (rng.random() < 0.8)
        people.append(text)
    rules = {"steps": ["ad", "visit", "call?", "buy"], "within": "1d"}
    found = reach(" | ".join(people), until="30d", **rules)
    count, table = funnels.count(found), funnel_times.times(found, min_n=1)
    assert table["open_n"].tolist() == [0] * 4
    assert table["gone_on_share"].iloc[:3].tolist() == pytest.approx(count["share_of_previous"].iloc[1:].tolist())
    assert whole(table)["gone_on_share"] == pytest.approx(count["share_of_start"].iloc[-1])


def test_a_closed_window_is_not_a_chance_that_is_still_there() -> None:
    """u3 takes long to visit: its window closes an hour later, and it must not leave the risk set there."""
    text = "u1: ad@0h visit@1h buy@20h | u2: ad@0h visit@1h buy@21h | u3: ad@0h visit@23h | u4: ad@0h visit@2h"
    table = funnel_times.times(reach(text, until="30d", steps=["ad", "visit", "buy"], within="1d"), min_n=1)
    row = table[table["part"] == "step 3"].iloc[0]
    assert row["gone_on_share"] == pytest.approx(0.5)
    assert row["half_days"] == pytest.approx(20 / 24)


def test_open_windows_are_in_the_estimate_but_not_among_the_quantiles() -> None:
    entered = np.repeat([0.0, 29.0], 50)
    took = np.tile([2.0, 0.5], 50)
    row = whole(funnel_times.times(two_steps(entered, took, 30, within="10d")))
    assert (row["n"], row["open_n"], row["converted_n"]) == (100, 50, 50)
    assert row["median_days"] == pytest.approx(1.25)
    assert row["gone_on_share"] == pytest.approx(1)  # 25 of the late ones are censored after a day
    assert row["half_days"] == pytest.approx(0.5)


def test_half_that_is_never_reached_is_empty() -> None:
    row = whole(
        funnel_times.times(two_steps(np.zeros(100), np.where(np.arange(100) < 30, 2.0, 99.0), 40, within="10d"))
    )
    assert row["gone_on_share"] == pytest.approx(0.3)
    assert row["observed_days"] == 10
    assert row[["half_days", "half_days_low", "half_days_high"]].isna().all()
    assert row["gone_on_share_low"] < 0.3 < row["gone_on_share_high"]


def test_few_converters_have_no_quantiles() -> None:
    row = whole(funnel_times.times(two_steps(np.zeros(20), np.where(np.arange(20) < 4, 2.0, 99.0), 40, within="10d")))
    assert row["converted_n"] == 4
    assert np.isnan(row["median_days"])
    assert row["gone_on_share"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("text", "rules", "reason"),
    [
        ("u1: x", {"steps": ["ad", "buy"]}, "n = 0"),
        ("u1: ad buy", {"steps": []}, "no funnel"),
        ("u1: ad buy", {"steps": ["ad", "buy"], "entry": "open"}, "closed"),
    ],
)
def test_what_has_no_times_says_why(text: str, rules: dict[str, object], reason: str) -> None:
    found = reach(text, by=("channel",), **rules)
    assert reason in funnel_times.times(found).attrs["reason"]
    assert reason in funnel_times.conversion_curve(found).attrs["reason"]
    assert reason in funnel_times.conversion_curve(found, by="channel").attrs["reason"]
    assert reason in funnel_times.compare_curves(found, by="channel").attrs["reason"]


def test_degenerate_input() -> None:
    empty = funnels.reach(make_log("u1: ad").head(0), steps=["ad", "buy"], by=["channel"])
    assert "n = 0" in funnel_times.times(empty).attrs["reason"]
    assert "n = 0" in funnel_times.conversion_curve(empty).attrs["reason"]
    one = reach("u1: ad", steps=["ad", "buy"])
    assert funnel_times.times(one, min_n=1)["gone_on_share"].isna().all()
    assert "length of time" in funnel_times.conversion_curve(one, min_n=1).attrs["reason"]
    nobody = whole(funnel_times.times(reach(" | ".join(["u: ad@0d"] * 40), until="9d", steps=["ad", "buy"])))
    assert (nobody["gone_on_share"], nobody["gone_on_share_low"]) == (0, 0)
    assert nobody["gone_on_share_high"] == pytest.approx(stats.wilson(0, 40)[1])
    with pytest.raises(JourneyError, match=r"no step after the first is named 'buyy'.*Did you mean 'buy'"):
        funnel_times.conversion_curve(one, part="buyy")
    with pytest.raises(JourneyError, match=r"does not hold 'chanel'.*Name it in `by`"):
        funnel_times.conversion_curve(one, by="chanel")


def test_any_order_has_the_time_to_each_further_step() -> None:
    table = funnel_times.times(reach("u1: buy@0d ad@2d call@5d", steps=["ad", "call", "buy"], order="any"), min_n=1)
    assert table[["from_step", "to_step", "median_days"]].values.tolist() == [
        ["any 1 of 3", "any 2 of 3", 2.0],
        ["any 2 of 3", "any 3 of 3", 3.0],
        ["any 1 of 3", "any 3 of 3", 5.0],
    ]


def test_every_attempt_has_its_own_clock() -> None:
    found = reach("u1: ad@0d buy@1d ad@10d buy@13d", steps=["ad", "buy"], per="attempt")
    assert whole(funnel_times.times(found, min_n=1))["median_days"] == 2
    curve = funnel_times.conversion_curve(found, min_n=1, horizon="3d", points=3)
    assert curve["converted_share"].tolist() == [0, 0.5, 0.5, 1]


def test_conversion_curve_is_kaplan_meier() -> None:
    rng = np.random.default_rng(3)
    days, done = rng.integers(1, 40, 80), (rng.random(80) < 0.5).tolist()
    text = " | ".join("u: ad@0d" + f" buy@{day}d" * ok for day, ok in zip(days, done, strict=True))
    found = reach(text, until="50d", steps=["ad", "buy"])
    table = funnel_times.conversion_curve(found, horizon="30d", points=30)
    fitter = KaplanMeierFitter().fit(np.where(done, days, 50), done)
    expected = 1 - fitter.survival_function_at_times(range(31)).to_numpy()
    assert table["after_days"].tolist() == pytest.approx(list(range(31)))
    assert table["converted_share"].to_numpy() == pytest.approx(expected)
    assert (table["converted_share_low"] <= table["converted_share"]).all()
    assert (table["converted_share"] <= table["converted_share_high"]).all()
    assert (table["n"] == 80).all()
    observed = np.where(done, days, 50)
    assert table["at_risk_n"].tolist() == [(observed >= day).sum() for day in range(31)]


def test_the_curve_starts_at_the_first_entry_and_is_not_restarted() -> None:
    found = reach("u1: ad@0d ad@20d buy@22d", steps=["ad", "buy"], within="3d")
    curve = funnel_times.conversion_curve(found, min_n=1, horizon="22d", points=22)
    assert curve["converted_share"].tolist() == [0] * 22 + [1]
    step = funnel_times.conversion_curve(found, part="buy", min_n=1, horizon="2d", points=2)
    assert step["converted_share"].tolist() == [0, 0, 1]
    assert step.attrs["part"] == "buy"


def test_the_curve_keeps_an_interval_where_nobody_or_everybody_converted() -> None:
    options: dict = {"horizon": "10d", "points": 10}
    found = reach(" | ".join(["u: ad@0d"] * 40), until="50d", steps=["ad", "buy"])
    nobody = funnel_times.conversion_curve(found, **options).iloc[1:]
    assert (nobody[["converted_share", "converted_share_low"]] == 0).all().all()
    assert nobody["converted_share_high"].tolist() == pytest.approx([stats.wilson(0, 40)[1]] * 10)
    found = reach(" | ".join(["u: ad@0d buy@5d"] * 40), until="50d", steps=["ad", "buy"])
    assert funnel_times.conversion_curve(found, **options)["after_days"].iloc[-1] == 5
    last = funnel_times.conversion_curve(found, **options).iloc[-1]
    assert (last["converted_share"], last["converted_share_high"]) == (1, 1)
    assert last["converted_share_low"] == pytest.approx(stats.wilson(40, 40)[0])


def test_the_interval_of_a_rare_conversion_covers() -> None:
    rng, hits = np.random.default_rng(6), 0
    for _ in range(100):
        done = int(rng.binomial(60, 0.025))
        spells = pd.DataFrame({"days": [5.0, 50.0], "done": [1, 0], "n": [done, 60 - done]})
        spells = spells[spells["n"] > 0]
        _, low, high, _ = funnel_spells.share_by(spells, funnel_spells.fitted(spells), np.array([10.0]))
        hits += low[0] <= 0.025 <= high[0]
    assert hits >= 91


def test_the_curve_censors_at_until() -> None:
    found = reach("u1: ad@0d buy@9d | u2: ad@0d buy@2d | u3: ad@8d", until="5d", steps=["ad", "buy"])
    table = funnel_times.conversion_curve(found, min_n=1, points=5)
    assert table["n"].tolist() == [2] * 6
    assert table["converted_share"].iloc[-1] == 0.5


def test_a_curve_ends_where_few_are_observed() -> None:
    entered = np.append(np.full(95, 40.0), np.full(5, 0.0))  # five are observed long, the others for ten days
    found = two_steps(entered, np.append(np.full(50, 3.0), np.full(50, 99.0)), 50)
    curve = funnel_times.conversion_curve(found, horizon="50d")
    assert curve["after_days"].iloc[-1] == pytest.approx(50)  # asked for
    assert funnel_times.conversion_curve(found)["after_days"].iloc[-1] == pytest.approx(4.5)
    by = funnel_times.conversion_curve(found, by="seg", horizon="50d")
    assert by["after_days"].iloc[-1] <= 10
    assert whole(funnel_times.times(found))["observed_days"] == pytest.approx(10)


def test_curves_of_segments_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(8)
    entered, took = rng.uniform(0, 20, 300), rng.exponential(5, 300)
    name = np.where(np.arange(300) < 180, "big", np.where(np.arange(300) < 290, "small", "tiny"))
    table = funnel_times.conversion_curve(two_steps(entered, took, 25, segment=name), by="seg", horizon="5d", points=5)
    assert list(dict.fromkeys(table["segment"])) == ["big", "small"]
    assert table.attrs["left_out_n"] == 10
    for segment in ("big", "small"):
        mine = name == segment
        alone = funnel_times.conversion_curve(two_steps(entered[mine], took[mine], 25), horizon="5d", points=5)
        part = table[table["segment"] == segment].drop(columns="segment").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, alone)


def test_segments_are_compared_by_the_log_rank_test() -> None:
    rng = np.random.default_rng(9)
    entered, name = rng.uniform(0, 20, 400), rng.choice(["a", "b", "c"], 400)
    took = rng.exponential(np.where(name == "a", 4, 10))
    table = funnel_times.compare_curves(two_steps(entered, took, 25, segment=name), by="seg")
    done = entered + took <= 25
    seen = np.where(done, took, 25 - entered)
    joint = multivariate_logrank_test(seen, name, done).p_value
    assert table.attrs["joint_p_value"] == pytest.approx(joint)
    for row in table.to_dict("records"):
        mine = name == row["segment"]
        single = logrank_test(seen[mine], seen[~mine], done[mine], done[~mine]).p_value
        assert row["p_value"] == pytest.approx(single, rel=1e-6)
        assert row["p_adjusted"] >= max(row["p_value"], joint)
    assert table.set_index("segment").loc["a", "p_adjusted"] < 0.001
    assert len(set(table["observed_days"])) == 1
    alone = funnel_times.compare_curves(two_steps(entered, took, 25), by="seg")
    assert "one segment only, 'x'" in alone.attrs["reason"]


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_days_to_first_purchase_of_a_real_log() -> None:
    raw = pd.read_csv(REAL / "ecom.csv.gz", parse_dates=["timestamp"])
    rows = np.arange(len(raw))
    shop = raw.assign(
        event_id=[f"{row:06d}" for row in rows],
        source="ecom",
        source_row=rows,
        person_id=pd.factorize(raw["user_id"])[0],
        session_id=pd.factorize(raw["session_id"])[0],
    )
    anything = " | ".join(sorted(set(shop["event"]) - {"purchase"}))
    found = funnels.reach(shop, steps=[anything, "purchase"], until=shop["timestamp"].max())
    table = funnel_times.conversion_curve(found, horizon="90d", points=90)
    survival = 1 - table.set_index(table["after_days"].round().astype(int))["converted_share"]
    published = json.loads((REAL / "expected.json").read_text())["figures"]["km_first_purchase"]["value"]
    published = published["survival_at_days"]
    assert {day: survival[int(day)] for day in published} == pytest.approx(published)
