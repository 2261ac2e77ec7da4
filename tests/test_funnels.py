"""Funnels: by hand, against a slow independent version, and against published figures of a real log."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter

from journeykit import config, engine, funnels, stats
from journeykit.errors import JourneyError
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "ecom_clickstream"
SHOP = ["product_view", "add_to_cart", "cart", "shipping_details", "payment_details", "purchase"]


def counts(log: pd.DataFrame, steps: list[str], **options: str) -> list[int]:
    return funnels.funnel(log, steps=steps, **options)["n"].tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u1: ad visit buy", [1, 1, 1]),
        ("u1: ad x visit x buy", [1, 1, 1]),  # anything may happen between
        ("u1: visit ad buy", [1, 0, 0]),  # order counts
        ("u1: ad buy visit buy", [1, 1, 1]),
        ("u1: ad visit | u2: ad | u3: buy", [2, 1, 0]),
        ("u1: ad@0h visit@20h buy@25h", [1, 1, 0]),  # the whole chain, not each gap
        ("u1: ad@0h visit@1h buy@24h", [1, 1, 1]),  # the edge of the window belongs to it
        ("u1: ad@0h ad@10h visit@20h buy@30h", [1, 1, 1]),  # a later entry may start
        ("u1: ad@0h visit@1h ad@23h buy@30h", [1, 1, 0]),  # but not without its own visit
    ],
)
def test_funnel_by_hand(text: str, expected: list[int]) -> None:
    assert counts(make_log(text), ["ad", "visit", "buy"], within="1d") == expected


def test_events_of_the_same_time_follow_the_total_order() -> None:
    log = make_log("u1: ad@0h visit@0h")
    assert counts(log, ["ad", "visit"]) == [1, 1]
    assert counts(log, ["visit", "ad"]) == [1, 0]


def test_one_event_cannot_be_two_steps() -> None:
    assert counts(make_log("u1: ad | u2: ad ad"), ["ad", "ad"]) == [2, 1]
    assert counts(make_log("u1: ad b | u2: b ad"), ["ad | b", "b | c"]) == [2, 1]


def test_alternatives_and_other_columns() -> None:
    log = make_log("u1: ad buy | u2: mail buy | u3: x buy").assign(touchpoint=["A", "B", "M", "B", None, "B"])
    assert counts(log, ["ad | mail", "buy"]) == [2, 2]
    assert counts(log, ["A", "B"], on="touchpoint") == [1, 1]


def test_units() -> None:
    log = make_log("u1: ad ; buy | u2: ad buy ; ad")
    assert counts(log, ["ad", "buy"], per="person") == [2, 2]
    assert counts(log, ["ad", "buy"], per="session") == [3, 1]
    assert counts(log, ["ad", "buy"], per="journey") == [3, 1]


def test_shares_and_intervals() -> None:
    table = funnels.funnel(make_log("u1: a b c | u2: a b | u3: a b | u4: a"), steps=["a", "b", "c"])
    assert table["share_of_start"].tolist() == [1, 0.75, 0.25]
    assert table["share_of_previous"].tolist()[1:] == pytest.approx([0.75, 1 / 3])
    assert table["lost_n"].tolist() == [0, 1, 2]
    assert table.loc[1, ["share_of_start_low", "share_of_start_high"]].tolist() == pytest.approx(
        [0.3006, 0.9544], abs=1e-4
    )
    assert table.loc[0, ["share_of_start_low", "share_of_start_high"]].tolist() == [1, 1]
    assert np.isnan(table.loc[0, "share_of_previous"])


def test_the_segment_is_the_one_at_the_first_entry() -> None:
    log = make_log("u1: x/web ad/app buy/web | u2: ad/app ad/web buy/app | u3: ad/app | u4: buy/tv | u5: ad/web ad/app")
    table = funnels.funnel(log, steps=["ad", "buy"], by="channel")
    assert table[["segment", "n"]].values.tolist() == [["app", 3], ["app", 2], ["web", 1], ["web", 0]]
    few = funnels.funnel(log, steps=["ad", "buy"], by="channel", min_n=2)
    assert few["segment"].unique().tolist() == ["app"]
    assert few.attrs["left_out_n"] == 1
    none = funnels.funnel(log.assign(channel=None), steps=["ad", "buy"], by="channel")
    assert none["segment"].unique().tolist() == [funnels.NO_VALUE]


def test_unknown_steps_count_nobody() -> None:
    table = funnels.funnel(make_log("u1: ad"), steps=["q", "z"])
    assert table["n"].tolist() == [0, 0]
    assert table["share_of_start"].isna().all()


def test_degenerate_input() -> None:
    empty = make_log("u1: ad").head(0)
    assert funnels.funnel(empty, steps=["a", "b"])["n"].tolist() == [0, 0]
    assert "n = 0" in funnels.funnel(empty, steps=["a", "b"], by="channel").attrs["reason"]
    for function in (funnels.time_to_convert, funnels.conversion_curve, funnels.drop_offs):
        assert "n = 0" in function(empty, steps=["a", "b"]).attrs["reason"]
        assert "no funnel" in function(empty, steps=[]).attrs["reason"]
    nulls = make_log("u1: ad buy").assign(touchpoint=None)
    assert counts(nulls, ["ad", "buy"], on="touchpoint") == [0, 0]
    log = make_log("u1: ad buy")
    assert "at least 5" in funnels.funnel(log, steps=["ad", "buy"], min_n=5).attrs["reason"]
    with pytest.raises(JourneyError, match="'person'"):
        funnels.funnel(log, steps=["ad", "buy"], per="persons")
    with pytest.raises(JourneyError, match="chanel"):
        funnels.funnel(log, steps=["ad", "buy"], by="chanel")


def test_the_input_is_left_alone() -> None:
    log = make_log("u1: ad buy")
    before = log.copy()
    funnels.funnel(log, steps=["ad", "buy"], by="channel")
    pd.testing.assert_frame_equal(log, before)


def slow_depth(events: list[tuple[int, str]], steps: list[list[str]], within: int | None) -> int:
    """From each entry take every step as early as possible; the best entry decides."""
    best = 0
    for first, (start, name) in enumerate(events):
        if name not in steps[0]:
            continue
        depth = 1
        for time, value in events[first + 1 :]:
            in_time = within is None or time - start <= within
            if depth < len(steps) and value in steps[depth] and in_time:
                depth += 1
        best = max(best, depth)
    return best


@settings(max_examples=40, deadline=None)
@given(
    people=st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcd")), min_size=1, max_size=9), min_size=1, max_size=5
    ),
    steps=st.lists(st.sampled_from(["a", "b", "c", "a | b", "c | d"]), min_size=2, max_size=4),
    within=st.sampled_from([None, 0, 1, 3]),
)
def test_funnel_equals_a_slow_version(
    people: list[list[tuple[int, str]]], steps: list[str], within: int | None
) -> None:
    people = [sorted(events, key=lambda event: event[0]) for events in people]
    text = " | ".join(
        f"u{i}: " + " ".join(f"{name}@{time}h" for time, name in events) for i, events in enumerate(people)
    )
    plan = [step.split(" | ") for step in steps]
    depths = [slow_depth(events, plan, within) for events in people]
    shuffled = make_log(text).sample(frac=1, random_state=1)
    table = funnels.funnel(shuffled, steps=steps, within="" if within is None else f"{within}h")
    assert table["n"].tolist() == [sum(depth >= k for depth in depths) for k in range(1, len(steps) + 1)]


def test_engines_agree() -> None:
    log = make_log("u1: ad/web x ad visit@2h buy@1d | u2: visit ad/app; visit@3d buy | u3: ad ad/web y; buy")
    log = log.drop(columns=["marketing_channel", "team"])
    options = {"steps": ["ad", "visit", "buy"], "within": "2d"}
    inputs = [pl.from_pandas(log), pl.from_pandas(log).lazy(), duckdb.from_df(log), engine.lazy(log)]
    inputs[2] = engine.connection().from_df(log)
    for function, more in (
        (funnels.funnel, {"by": "channel"}),
        (funnels.drop_offs, {}),
        (funnels.time_to_convert, {"min_n": 1}),
        (funnels.conversion_curve, {"min_n": 1}),
    ):
        expected = function(log, **options, **more)
        assert len(expected)
        for frame in inputs:
            pd.testing.assert_frame_equal(function(frame, **options, **more), expected, check_dtype=False)


def test_time_counts_from_the_earliest_entry_inside_the_window() -> None:
    log = make_log("u1: ad@0d ad@5d ad@6d buy@7d buy@8d | u2: ad buy@90d")
    table = funnels.time_to_convert(log, steps=["ad", "buy"], within="3d", min_n=1)
    assert table["n"].tolist() == [1]
    assert table["median_days"].tolist() == [2]
    table = funnels.time_to_convert(log, steps=["ad", "buy"], min_n=1)
    assert table["n"].tolist() == [2]
    assert table["p25_days"].tolist() == pytest.approx([7 + (90 - 7) / 4], abs=0.01)


def test_the_interval_of_the_median_is_that_of_order_statistics() -> None:
    text = " | ".join(f"u{k}: ad@0d buy@{k}d" for k in range(1, 11))
    row = funnels.time_to_convert(make_log(text), steps=["ad", "buy"]).iloc[0]
    # ranks 2 and 9 of ten values hold the median with 97.9 %, the narrowest symmetric pair above 95 %
    assert row[["n", "median_days", "median_days_low", "median_days_high"]].tolist() == [10, 5.5, 2, 9]
    assert "at least 6" in funnels.time_to_convert(make_log("u1: ad buy"), steps=["ad", "buy"]).attrs["reason"]


def test_the_interval_of_the_median_covers() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(60):
        hours = np.round(rng.exponential(100, 15)).astype(int)
        text = " | ".join(f"u{k}: ad@0h buy@{hour}h" for k, hour in enumerate(hours))
        row = funnels.time_to_convert(make_log(text), steps=["ad", "buy"]).iloc[0]
        hits += row["median_days_low"] <= 100 * np.log(2) / 24 <= row["median_days_high"]
    assert hits >= 53  # 96.5 % of 60; fewer than 53 has a probability below 1 %


def test_conversion_curve_is_kaplan_meier() -> None:
    rng = np.random.default_rng(3)
    days = rng.integers(1, 40, 80)
    done = (rng.random(80) < 0.5).tolist()
    until = pd.Timestamp("2025-02-20")
    text = " | ".join("u: ad@0d" + f" buy@{day}d" * ok for day, ok in zip(days, done, strict=True))
    table = funnels.conversion_curve(make_log(text), steps=["ad", "buy"], until=until, horizon="30d", points=30)
    waited = (until - pd.Timestamp("2025-01-01")).days
    fitter = KaplanMeierFitter().fit(np.where(done, days, waited), done)
    expected = 1 - fitter.survival_function_at_times(range(31)).to_numpy()
    assert table["after_days"].tolist() == pytest.approx(list(range(31)))
    assert table["converted_share"].to_numpy() == pytest.approx(expected)
    assert (table["converted_share_low"] <= table["converted_share"]).all()
    assert (table["converted_share"] <= table["converted_share_high"]).all()
    assert (table["n"] == 80).all()


def test_the_curve_keeps_an_interval_where_nobody_or_everybody_converted() -> None:
    options: dict = {"steps": ["ad", "buy"], "until": pd.Timestamp("2025-02-20"), "horizon": "10d", "points": 10}
    nobody = funnels.conversion_curve(make_log(" | ".join(["u: ad@0d"] * 40)), **options).iloc[1:]
    assert (nobody[["converted_share", "converted_share_low"]] == 0).all().all()
    assert nobody["converted_share_high"].tolist() == pytest.approx([stats.wilson(0, 40)[1]] * 10)
    everybody = funnels.conversion_curve(make_log(" | ".join(["u: ad@0d buy@5d"] * 40)), **options)
    last = everybody.iloc[-1]
    assert (last["converted_share"], last["converted_share_high"]) == (1, 1)
    assert last["converted_share_low"] == pytest.approx(stats.wilson(40, 40)[0])


def test_the_interval_of_a_rare_conversion_covers() -> None:
    rng, hits, until = np.random.default_rng(6), 0, pd.Timestamp("2025-02-20")
    for _ in range(60):
        text = " | ".join("u: ad@0d" + " buy@5d" * bool(rng.random() < 0.025) for _ in range(60))
        options: dict = {"until": until, "horizon": "10d", "points": 2}
        row = funnels.conversion_curve(make_log(text), steps=["ad", "buy"], **options).iloc[-1]
        hits += row["converted_share_low"] <= 0.025 <= row["converted_share_high"]
    assert hits >= 55


def test_the_curve_censors_at_until() -> None:
    log = make_log("u1: ad@0d buy@9d | u2: ad@0d buy@2d | u3: ad@8d")
    table = funnels.conversion_curve(log, steps=["ad", "buy"], until=pd.Timestamp("2025-01-06"), min_n=1, points=5)
    assert table["n"].tolist() == [2] * 6
    assert table["converted_share"].iloc[-1] == 0.5


def test_drop_offs_by_hand() -> None:
    log = make_log("u1: a b x c | u2: a y a z | u3: a b | u4: a b c d | u5: d")
    table = funnels.drop_offs(log, steps=["a", "b", "c", "d"])
    assert table[["step", "next_step", "n", "stopped_n"]].values.tolist() == [
        ["a", "z", 1, 1],
        ["b", funnels.NOTHING_MORE, 1, 1],
        ["c", funnels.NOTHING_MORE, 1, 1],
    ]
    log = make_log("u1: a x | u2: a x | u3: a y | u4: a z")
    table = funnels.drop_offs(log, steps=["a", "b"], top=1)
    assert table[["next_step", "n", "share"]].values.tolist() == [["x", 2, 0.5], [funnels.OTHER, 2, 0.5]]
    log = make_log("u1: a b | u2: a b | u3: a y")
    assert funnels.drop_offs(log, steps=["a", "b", "c"], at="b")["n"].tolist() == [2]
    assert "fewer than 3" in funnels.drop_offs(log, steps=["a", "b", "c"], at="b", min_n=3).attrs["reason"]


def test_choose() -> None:
    first = config.Funnel(steps=["ad", "buy"], within="7d")
    study = config.Study.model_construct(funnels={"buy": first, "care": config.Funnel(steps=["x", "y"])})
    assert funnels.choose(study) == first.model_copy(update={"by": "channel"})
    chosen = funnels.choose(study, within="2d", by="channel")
    assert (chosen.within, chosen.by, first.within) == ("2d", "channel", "7d")
    assert funnels.choose(study, "care").steps == ["x", "y"]
    with pytest.raises(JourneyError, match="Did you mean 'care'"):
        funnels.choose(study, "cares")
    with pytest.raises(JourneyError, match="duration"):
        funnels.choose(study, within="2 days")
    assert funnels.choose(config.Study.model_construct(funnels={})).steps == []


@pytest.fixture(scope="module")
def shop() -> pd.DataFrame:
    raw = pd.read_csv(REAL / "ecom.csv.gz", parse_dates=["timestamp"])
    rows = np.arange(len(raw))
    return raw.assign(
        event_id=[f"{row:06d}" for row in rows],
        source="ecom",
        source_row=rows,
        person_id=pd.factorize(raw["user_id"])[0],
        session_id=pd.factorize(raw["session_id"])[0],
    )


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, int]]:
    figures = json.loads((REAL / "expected.json").read_text())["figures"]
    return {name: figure["value"] for name, figure in figures.items()}


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
class TestRealLog:
    def test_ordered_funnels(self, shop: pd.DataFrame, expected: dict[str, dict[str, int]]) -> None:
        assert counts(shop, SHOP, per="session") == [expected["funnel_ordered_sessions"][step] for step in SHOP]
        assert counts(shop, SHOP, per="person") == [expected["funnel_ordered_users"][step] for step in SHOP]

    def test_by_platform(self, shop: pd.DataFrame, expected: dict[str, dict[str, int]]) -> None:
        table = funnels.funnel(shop, steps=SHOP, per="session", by="platform")
        for platform in ("desktop", "mobile", "tablet"):
            found = table.loc[table["segment"] == platform, "n"].tolist()
            assert found == [expected[f"funnel_ordered_sessions_platform_{platform}"][step] for step in SHOP]

    def test_days_to_first_purchase(self, shop: pd.DataFrame, expected: dict[str, dict[str, int]]) -> None:
        anything = " | ".join(sorted(set(shop["event"]) - {"purchase"}))
        table = funnels.conversion_curve(shop, steps=[anything, "purchase"], horizon="90d", points=90)
        survival = 1 - table.set_index(table["after_days"].round().astype(int))["converted_share"]
        published = expected["km_first_purchase"]["survival_at_days"]
        assert {day: survival[int(day)] for day in published} == pytest.approx(published)
