"""Funnels by hand, one rule at a time, against SQL of another hand, and against published figures of a real log."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from journeykit import config, engine, funnels, stats
from journeykit.errors import JourneyError
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "ecom_clickstream"
SHOP = ["product_view", "add_to_cart", "cart", "shipping_details", "payment_details", "purchase"]
START = pd.Timestamp("2025-01-01")


def counts(log: Any, steps: list[Any], **options: Any) -> list[int]:
    return funnels.funnel(log, steps=steps, **options)["n"].tolist()


def taken(log: pd.DataFrame, steps: list[Any], **options: Any) -> list[list[str]]:
    """The times of the steps of each unit, as hours since the start, "-" for none."""
    table = engine.fetch(funnels.reach(log, steps=steps, **options).table).sort_values(["unit", "attempt"])
    times = table[[f"at_{k}" for k in range(1, len(steps) + 1)]].to_numpy(dtype=float)
    start = (START - pd.Timestamp(0)) // pd.Timedelta("1us")
    return [["-" if math.isnan(us) else f"{(us - start) / 3.6e9:g}" for us in row] for row in times]


# ── Which chains there are ───────────────────────────────────────────────────────────────────────────────────────────


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
    events = log.drop(columns="position").sample(frac=1, random_state=3)
    assert counts(events, ["visit", "ad"]) == [1, 0]


def test_one_event_cannot_be_two_steps() -> None:
    assert counts(make_log("u1: ad | u2: ad ad"), ["ad", "ad"]) == [2, 1]
    assert counts(make_log("u1: ad b | u2: b ad"), ["ad | b", "b | c"]) == [2, 1]


def test_alternatives_kinds_and_filters() -> None:
    log = make_log("u1: ad buy | u2: mail buy | u3: x buy/app").assign(touchpoint=["A", "B", "M", "B", None, "B"])
    assert counts(log, ["ad | mail", "buy"]) == [2, 2]
    assert counts(log, ["A", "B"], on="touchpoint") == [1, 1]
    assert counts(log, [{"event": ["ad", "mail", "x"]}, {"touchpoint": "B"}]) == [3, 3]
    assert counts(log, ["ad | mail | x", {"match": "buy", "where": {"channel": "web"}}]) == [3, 2]
    log["value"] = [None, 10.0, None, 500.0, None, 700.0]
    assert counts(log, ["ad | mail | x", {"match": "buy", "where": {"value": ">= 500"}}]) == [3, 2]


def test_steps_may_be_a_pattern() -> None:
    log = make_log("u1: ad cart help | u2: ad cart help buy | u3: cart x ad | u4: ad x cart")
    plan = config.Funnel(steps="ad -> cart -> [^buy]* -> exit")
    assert funnels.funnel(log, **funnels.rules(plan))["n"].tolist() == [4, 2, 1]
    with pytest.raises(ValueError, match="steps"):
        config.Funnel(steps="ad -> [")


def test_units() -> None:
    log = make_log("u1: ad ; buy | u2: ad buy ; ad")
    assert counts(log, ["ad", "buy"], per="person") == [2, 2]
    assert counts(log, ["ad", "buy"], per="session") == [3, 1]
    assert counts(log, ["ad", "buy"], per="journey") == [3, 1]
    without = log.assign(journey_id=log["journey_id"].where(log["person_id"] == 1).astype("Int64"))
    assert counts(without, ["ad", "buy"], per="journey") == [1, 0]  # events outside journeys are in none


def test_a_step_has_a_time_of_its_own() -> None:
    log = make_log("u1: ad@0h visit@2h buy@3h | u2: ad@0h visit@1h buy@9h | u3: ad@0h visit@1h visit@8h buy@9h")
    assert counts(log, ["ad", {"match": "visit", "within": "1h"}, "buy"]) == [3, 2, 2]
    steps = ["ad", "visit", {"match": "buy", "within": "1h"}]
    assert counts(log, steps) == [3, 3, 2]
    assert taken(log, steps)[2] == ["0", "8", "9"]  # the earlier visit leads nowhere


def test_a_step_may_have_to_follow_directly() -> None:
    log = make_log("u1: ad visit x buy | u2: ad x visit buy | u3: ad visit buy")
    directly = {"match": "visit", "directly": True}
    assert counts(log, ["ad", directly, "buy"]) == [3, 2, 2]
    assert counts(log, ["ad", "visit", "buy"], order="strict") == [3, 2, 1]
    nothing = log.assign(touchpoint=log["event"].where(log["event"] != "x"))
    assert counts(nothing, ["ad", "visit", "buy"], order="strict", on="touchpoint") == [3, 3, 3]  # it is no touchpoint


def test_a_stricter_order_starts_again() -> None:
    assert counts(make_log("u1: ad x visit ad visit buy"), ["ad", "visit", "buy"], order="strict") == [1, 1, 1]


def test_any_order() -> None:
    log = make_log("u1: buy visit ad | u2: visit buy | u3: buy buy buy | u4: x")
    table = funnels.funnel(log, steps=["ad", "visit", "buy"], order="any")
    assert table["n"].tolist() == [3, 2, 1]
    assert table["step"].tolist() == ["any 1 of 3", "any 2 of 3", "any 3 of 3"]
    assert counts(make_log("u1: c@0h a@2h b@3h"), ["a", "b", "c"], order="any", within="2h") == [1, 1, 0]
    assert counts(make_log("u1: c@0h a@2h b@3h"), ["a", "b", "c"], order="any", within="3h") == [1, 1, 1]
    # one event is one step, whichever helps most: b is the second, so that a can be the first
    assert counts(make_log("u1: b a | u2: b"), ["a | b", "b"], order="any") == [2, 1]
    assert counts(make_log("u1: a x b"), ["a", "b"], order="any", exclude="x") == [1, 0]


def test_optional_steps() -> None:
    log = make_log("u1: ad call mail buy | u2: ad mail buy | u3: ad buy | u4: ad call | u5: ad mail")
    table = funnels.funnel(log, steps=["ad", "call?", "mail?", "buy"])
    assert table["optional"].tolist() == [False, True, True, False]
    assert table["n"].tolist() == [5, 2, 3, 3]
    assert table["lost_n"].tolist() == [0, 0, 0, 2]  # nobody is lost at an optional step
    assert table["share_of_previous"].tolist()[1:] == pytest.approx([0.4, 0.6, 0.6])  # all of those with an ad
    assert [times.index("-") for times in taken(log, ["ad", "call?", "mail?", "buy"])[1:4]] == [1, 1, 2]


def test_an_optional_step_delays_nothing() -> None:
    log = make_log("u1: ad@0h buy@1h call@2h buy@3h | u2: ad@0h call@1h buy@2h")
    assert taken(log, ["ad", "call?", "buy"]) == [["0", "-", "1"], ["0", "1", "2"]]


# ── What ends an attempt ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "attempt", "unit"),
    [
        ("u1: ad visit buy", [1, 1, 1], [1, 1, 1]),
        ("u1: ad visit cancel buy", [1, 1, 0], [0, 0, 0]),
        ("u1: cancel ad visit buy", [1, 1, 1], [1, 1, 1]),  # before the first step it ends nothing
        ("u1: ad visit buy cancel", [1, 1, 1], [1, 1, 1]),  # nor after the last one
        ("u1: ad cancel ad visit buy", [1, 1, 1], [0, 0, 0]),  # a new attempt; but the person had one that was ended
        ("u1: ad visit cancel", [1, 1, 0], [0, 0, 0]),
        ("u1: ad@0h visit@1h cancel@26h", [1, 1, 0], [1, 1, 0]),  # the time was over anyway
    ],
)
def test_excluded_events(text: str, attempt: list[int], unit: list[int]) -> None:
    options: dict[str, Any] = {"steps": ["ad", "visit", "buy"], "exclude": "cancel", "within": "1d"}
    assert funnels.funnel(make_log(text), **options)["n"].tolist() == attempt
    assert funnels.funnel(make_log(text), **options, excluded="unit")["n"].tolist() == unit


def test_events_excluded_before_one_step_only() -> None:
    steps = ["ad", "visit", {"match": "buy", "without": "cancel"}]
    assert counts(make_log("u1: ad cancel visit buy | u2: ad visit cancel buy"), steps) == [2, 2, 1]
    assert counts(make_log("u1: ad cancel visit buy | u2: ad visit cancel buy"), steps, excluded="unit") == [1, 1, 1]


def test_the_end_can_be_a_step() -> None:
    left = ["cart", {"match": "(exit)", "without": "buy"}]
    log = make_log("u1: cart x x | u2: cart buy x | u3: buy cart | u4: x")
    assert counts(log, left) == [3, 2]
    assert taken(make_log("u1: cart@0h x@5h"), left) == [["0", "5"]]
    assert counts(log, ["cart", {"match": "(exit)", "directly": True}]) == [3, 1]


# ── Which attempt counts ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("clock", "n", "times"),
    [
        ("any", [1, 1, 1], ["10", "20", "30"]),  # the earliest entry that leads to the end
        ("last", [1, 1, 1], ["15", "20", "30"]),  # the latest one
        ("first", [1, 1, 0], ["0", "20", "-"]),  # the window of the first one is over at hour 24
    ],
)
def test_which_entry_counts(clock: str, n: list[int], times: list[str]) -> None:
    log = make_log("u1: ad@0h ad@10h ad@15h visit@20h buy@30h buy@32h")
    options: dict[str, Any] = {"steps": ["ad", "visit", "buy"], "within": "1d", "clock": clock}
    assert funnels.funnel(log, **options)["n"].tolist() == n
    assert taken(log, **options) == [times]


def test_open_entry() -> None:
    log = make_log("u1: ad visit buy | u2: visit buy | u3: buy ad | u4: ad@0h visit@40h | u5: x")
    table = funnels.funnel(log, steps=["ad", "visit", "buy"], entry="open", within="1d")
    assert table["n"].tolist() == [3, 3, 3]
    assert table["continued_n"].tolist() == [0, 1, 2]  # u4 came to the visit too late
    assert table["entered_n"].tolist() == [3, 2, 1]
    assert table["share_of_start"].tolist() == [0.75] * 3  # of the four who took any step
    assert table["share_of_previous"].tolist()[1:] == pytest.approx([1 / 3, 2 / 3])
    assert table["lost_n"].tolist() == [0, 2, 1]


def test_attempts() -> None:
    log = make_log("u1: ad@0h ad@1h buy@2h ad@3h buy@9h ad@30h buy@31h | u2: ad@0h")
    options: dict[str, Any] = {"steps": ["ad", "buy"], "within": "4h"}
    assert funnels.funnel(log, **options, per="attempt")["n"].tolist() == [4, 2]
    # the ad at hour 1 belongs to the attempt of hour 0; that of hour 3 runs out of time
    assert taken(log, **options, per="attempt") == [["0", "2"], ["3", "-"], ["30", "31"], ["0", "-"]]
    assert funnels.funnel(log, **options)["n"].tolist() == [2, 1]
    ended = make_log("u1: ad cancel ad buy")
    assert counts(ended, ["ad", "buy"], exclude="cancel", per="attempt") == [2, 1]
    assert counts(ended, ["ad", "buy"], per="attempt") == [1, 1]
    waits = make_log("u1: ad@0h visit@1h ad@2h visit@9h buy@10h")
    steps = ["ad", "visit", {"match": "buy", "within": "1h"}]
    assert taken(waits, steps, per="attempt") == [["0", "9", "10"]]  # a later visit may still come


def test_one_value_through_all_steps() -> None:
    log = make_log("u1: ad visit buy | u2: ad visit buy | u3: ad ad visit").assign(
        order_number=["1", "2", "2", "7", "7", "7", "1", "2", "2"],
        properties=['{"o": 1}', '{"o": 2}', '{"o": 2}', *['{"o": 7}'] * 3, '{"o": 1}', '{"o": 2}', '{"o": 2}'],
    )
    for name in ("order_number", "properties.o"):
        assert counts(log, ["ad", "visit", "buy"], same=name) == [3, 2, 1]
    nulls = log.assign(order_number=[None, "2", "2", None, None, None, "1", None, "1"])
    assert counts(nulls, ["ad", "visit", "buy"], same="order_number") == [1, 1, 0]  # no value is no value in common
    assert counts(log, ["ad", "visit"], same="order_number", clock="first") == [3, 1]  # u1 and u3 began with another
    assert counts(log, ["ad", "visit"], same="order_number", per="attempt") == [4, 2]  # each value has its attempts
    assert counts(log, ["ad", "buy"], same=["order_number", "channel"]) == [3, 1]
    # what lies between in another order does not count
    assert counts(make_log("u1: ad x buy").assign(o=["1", "2", "1"]), ["ad", "buy"], order="strict", same="o") == [1, 1]


def test_people_whose_time_is_not_over_are_set_apart() -> None:
    until = START + pd.Timedelta("10d")
    log = make_log("u1: ad@0d buy@9d | u2: ad@8d buy@9d | u3: ad@0d ad@9d buy@9d | u4: ad@3d | u5: ad@4d buy@11d")
    table = funnels.funnel(log, steps=["ad", "buy"], within="7d", until=until)
    # u2 began on day 8, u5 on day 4: their week is not over; u3's success on day 9 has had less time than others
    assert table["n"].tolist() == [3, 0]
    assert table["open_n"].tolist() == [2, 1]
    assert funnels.funnel(log, steps=["ad", "buy"], until=until)["open_n"].tolist() == [0, 0]  # no window, none open
    edge = funnels.funnel(make_log("u1: ad@3d"), steps=["ad", "buy"], within="7d", until=until)
    assert edge["n"].tolist() == [1, 0]
    nobody = funnels.funnel(make_log("u1: ad@9d buy@9d"), steps=["ad", "buy"], within="7d", until=until)
    assert nobody[["n", "open_n"]].values.tolist() == [[0, 1], [0, 1]]


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_the_sessions_of_a_person_are_alike() -> None:
    alike = " | ".join(f"u{k}: " + "; ".join(["ad buy" if k % 2 else "ad"] * 5) for k in range(20))
    row = funnels.funnel(make_log(alike), steps=["ad", "buy"], per="session").iloc[1]
    assert (row["n"], row["share_of_start"]) == (50, 0.5)
    assert [row["share_of_start_low"], row["share_of_start_high"]] == pytest.approx(
        stats.clustered(50, 100, 250, 250, 500, 20)
    )
    single = " | ".join(f"u{k}: ad buy" if k % 2 else f"u{k}: ad" for k in range(20))
    row = funnels.funnel(make_log(single), steps=["ad", "buy"], per="session").iloc[1]
    assert [row["share_of_start_low"], row["share_of_start_high"]] == pytest.approx(stats.wilson(10, 20))


def test_the_segment_is_the_one_at_the_first_entry() -> None:
    log = make_log("u1: x/web ad/app buy/web | u2: ad/app ad/web buy/app | u3: ad/app | u4: buy/tv | u5: ad/web ad/app")
    table = funnels.funnel(log, steps=["ad", "buy"], by="channel")
    assert table[["segment", "n"]].values.tolist() == [["app", 3], ["app", 2], ["web", 1], ["web", 0]]
    few = funnels.funnel(log, steps=["ad", "buy"], by="channel", min_n=2)
    assert few["segment"].unique().tolist() == ["app"]
    assert few.attrs["left_out_n"] == 1
    none = funnels.funnel(log.assign(channel=None), steps=["ad", "buy"], by="channel")
    assert none["segment"].unique().tolist() == [funnels.NO_VALUE]
    # not the entry that succeeded: to count by that one would hide the failures of the first
    again = make_log("u1: ad@0d/app ad@9d/web buy@10d/web")
    assert funnels.funnel(again, steps=["ad", "buy"], within="2d", by="channel")["segment"].tolist() == ["app"] * 2


def test_what_is_asked_for_at_each_step() -> None:
    log = make_log("u1: ad@0d/app ad@9d/web visit@10d/tv").assign(value=[1.0, 2.0, 3.0])
    table = engine.fetch(funnels.reach(log, steps=["ad", "visit"], within="2d", by=["channel"]).table).iloc[0]
    assert table[["channel_0", "channel_1", "channel_2", "value_2"]].tolist() == ["app", "web", "tv", 3.0]
    assert table[["unit", "attempt", "person_id", "depth", "is_open"]].tolist() == [1, 1, 1, 2, 0]
    assert "value_2" not in funnels.reach(log.drop(columns="value"), steps=["ad", "visit"]).table.columns


def test_more_steps_than_bits() -> None:
    names = [f"s{k}" for k in range(130)]
    log = make_log("u1: " + " ".join(names) + " | u2: " + " ".join(names[:70] + names[71:]))
    assert counts(log, names) == [2] * 70 + [1] * 60
    ended = make_log("u1: " + " ".join([*names[:100], "x", *names[100:]]))
    assert counts(ended, names, exclude="x") == [1] * 100 + [0] * 30
    assert counts(log, names[:12]) == [2] * 12


def test_unknown_steps_count_nobody() -> None:
    table = funnels.funnel(make_log("u1: ad"), steps=["q", "z"])
    assert table["n"].tolist() == [0, 0]
    assert table["share_of_start"].isna().all()


EVERY_KIND: list[dict[str, Any]] = [
    {},
    {"order": "strict"},
    {"order": "any"},
    {"order": "any", "per": "attempt"},
    {"entry": "open"},
    {"clock": "first"},
    {"clock": "last"},
    {"per": "attempt"},
    {"per": "session"},
    {"exclude": "x", "excluded": "unit"},
    {"same": "channel"},
    {"steps": ["ad", "call?", {"match": "buy", "within": "1d", "without": "x"}]},
    {"steps": ["ad", "(exit)"]},
    {"steps": ["ad", "(exit)"], "same": "channel", "per": "attempt"},
]


@pytest.mark.parametrize("rules", EVERY_KIND)
@pytest.mark.parametrize("kind", ["empty", "one event", "no step", "all null", "one instant"])
def test_degenerate_input(rules: dict[str, Any], kind: str) -> None:
    log = {
        "empty": make_log("u1: ad").head(0),
        "one event": make_log("u1: ad"),
        "no step": make_log("u1: y | u2: y"),
        "all null": make_log("u1: ad buy").assign(event=None, touchpoint=None, channel=None, value=None),
        "one instant": make_log("u1: ad@0h call@0h buy@0h | u2: buy@0h ad@0h"),
    }[kind]
    rules = {"steps": ["ad", "buy"], "within": "1d", **rules}
    table = funnels.funnel(log, **rules, until=START + pd.Timedelta("5d"))
    assert len(table) == len(rules["steps"])
    assert table["n"].between(0, 3).all()
    assert table["n"].sum() == 0 or kind in ("one event", "one instant")
    if kind == "empty":
        assert "n = 0" in funnels.funnel(log, **rules, by="channel").attrs["reason"]


def test_no_funnel_and_too_few() -> None:
    log = make_log("u1: ad buy")
    assert "no funnel" in funnels.funnel(log, steps=[]).attrs["reason"]
    assert "no funnel" in funnels.count(funnels.reach(log), by="channel").attrs["reason"]
    assert "n = 0" in funnels.funnel(log.head(0), steps=["a", "b"], by="channel").attrs["reason"]
    assert "at least 5" in funnels.funnel(log, steps=["ad", "buy"], min_n=5).attrs["reason"]
    assert "at least 5" in funnels.funnel(log, steps=["ad", "buy"], min_n=5, by="channel").attrs["reason"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"per": "persons"}, "per: found 'persons'. Allowed: 'person', 'session'"),
        ({"by": "chanel"}, "column 'chanel' is missing. Did you mean 'channel'?"),
        ({"by": "value"}, "cannot be compared"),
        ({"withn": "1d"}, "withn: unknown key. Did you mean 'within'?"),
        ({"within": "2 days"}, "is not a duration"),
        ({"same": "ordr"}, "column 'ordr' is missing"),
        ({"steps": ["ad"]}, "steps"),
        ({"steps": ["ad?", "buy"]}, "the first step, 'ad', may not be left out"),
        ({"steps": ["ad", "buy?"]}, "the last step, 'buy', may not be left out"),
        ({"steps": [{"match": "ad", "within": "1d"}, "buy"]}, "has no step before it"),
        ({"steps": ["ad", {"match": "buy", "directly": True}], "order": "any"}, "says nothing with order"),
        ({"order": "any", "entry": "open"}, "where each step may be the first"),
        ({"per": "attempt", "entry": "open"}, "counts each person once"),
        ({"per": "attempt", "exclude": "x", "excluded": "unit"}, "leaves out whole people"),
        ({"mode": "ga5"}, "mode: found 'ga5'"),
        ({"mode": "ga4", "order": "strict"}, 'mode = "ga4" means order = "sequential"'),
        ({"steps": ["(exit)", "buy"]}, "a last step of its own"),
        ({"steps": ["ad", "(exit)"], "entry": "open"}, "needs the steps before it"),
    ],
)
def test_what_is_wrong_is_said(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(JourneyError) as raised:
        funnels.funnel(make_log("u1: ad buy"), **{"steps": ["ad", "buy"], **rules})
    assert message in str(raised.value)


def test_the_input_is_left_alone() -> None:
    log = make_log("u1: ad buy")
    before = log.copy()
    funnels.funnel(log, steps=["ad", "buy"], by="channel")
    pd.testing.assert_frame_equal(log, before)


def test_choose_and_rules() -> None:
    first = config.Funnel(steps=["ad", "buy"], within="7d")
    study = config.Study.model_construct(funnels={"buy": first, "care": config.Funnel(steps=["x", "y"])})
    assert funnels.choose(study) == first.model_copy(update={"by": "channel"})
    chosen = funnels.choose(study, within="2d", by="channel")
    assert (chosen.within, chosen.by, first.within) == ("2d", "channel", "7d")
    assert [step.label for step in funnels.choose(study, "care").steps] == ["x", "y"]
    with pytest.raises(JourneyError, match="Did you mean 'care'"):
        funnels.choose(study, "cares")
    with pytest.raises(JourneyError, match="duration"):
        funnels.choose(study, within="2 days")
    nothing = funnels.choose(config.Study.model_construct(funnels={}))
    assert "no funnel" in funnels.funnel(make_log("u1: ad"), **funnels.rules(nothing)).attrs["reason"]
    log = make_log("u1: ad@0d buy@8d | u2: ad@0d buy@6d")
    assert counts(log, **funnels.rules(chosen)) == [2, 0]
    assert counts(log, **funnels.rules(first)) == [2, 1]
    tool = config.Funnel(steps=["ad", "buy"], mode="mixpanel")
    assert counts(log, **funnels.rules(tool)) == [2, 1]  # its own week
    assert counts(log, **funnels.rules(tool.resolved())) == [2, 1]


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────────────────


def random_log(seed: int, people: int = 120, events: int = 1500) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    hours = np.sort(random.integers(0, 60, events))  # many at one time
    names = random.choice(["ad", "call", "buy", "x", "y"], events)
    who = random.integers(0, people, events)
    parts: list[list[str]] = [[] for _ in range(people)]
    for k, name, hour in zip(who, names, hours, strict=True):
        parts[k].append(f"{name}@{hour}h")
    return make_log(" | ".join(f"u{k}: " + " ".join(part or ["x"]) for k, part in enumerate(parts)))


def test_a_longer_window_loses_nobody_and_a_looser_order_neither() -> None:
    log, steps = random_log(1), ["ad", "call", "buy"]
    by_window = [counts(log, steps, within=within) for within in ("0h", "3h", "12h", "2d", "")]
    assert (np.diff(by_window, axis=0) >= 0).all()
    assert by_window[1] != by_window[3]
    orders = ("strict", "sequential", "any")
    strict, loose, any_order = (np.array(counts(log, steps, order=order, within="12h")) for order in orders)
    for fewer, more in ((strict, loose), (loose, any_order)):
        assert (fewer <= more).all()
        assert fewer[-1] < more[-1]
    first, best = (np.array(counts(log, steps, clock=clock, within="12h")) for clock in ("first", "any"))
    assert (first <= best).all()
    assert first[-1] < best[-1]
    assert counts(log, steps, clock="last", within="12h") == best.tolist()


def test_attempts_are_at_least_people() -> None:
    log = random_log(2)
    people, attempts = (counts(log, ["ad", "call", "buy"], within="6h", per=per) for per in ("person", "attempt"))
    assert attempts[0] > people[0]
    assert attempts[0] - attempts[-1] >= people[0] - people[-1]  # who has failed at all has failed in an attempt


@pytest.mark.parametrize("rules", EVERY_KIND)
def test_the_order_of_rows_and_the_share_of_strangers_do_not_matter(rules: dict[str, Any]) -> None:
    log = random_log(3)
    steps = ["ad", "call", "buy"] if rules.get("order") == "any" else ["ad", "call?", "buy"]
    rules = {"steps": steps, "within": "9h", **rules}
    events = log.drop(columns="position")
    expected = funnels.funnel(log, **rules)
    pd.testing.assert_frame_equal(funnels.funnel(events.sample(frac=1, random_state=1), **rules), expected)
    if rules.get("order") == "strict" or rules["steps"][-1] == "(exit)":
        return
    strangers = log.assign(event="q", event_id="q" + log["event_id"], source_row=log["source_row"] + 10_000)
    more = pd.concat([events, strangers.drop(columns="position")])
    pd.testing.assert_frame_equal(funnels.funnel(more, **rules), expected)


def test_kinds_of_tables_agree() -> None:
    log = make_log("u1: ad/web x ad visit@2h buy@1d | u2: visit ad/app; visit@3d buy | u3: ad ad/web y; buy")
    log = log.drop(columns=["marketing_channel", "team"])
    inputs = [pl.from_pandas(log), pl.from_pandas(log).lazy(), engine.connection().from_df(log), engine.lazy(log)]
    for rules in ({"by": "channel"}, {"order": "strict", "per": "attempt"}, {"entry": "open", "same": "channel"}):
        options: dict[str, Any] = {"steps": ["ad", "visit", "buy"], "within": "2d", **rules}
        expected = funnels.funnel(log, **options)
        assert len(expected)
        for frame in inputs:
            pd.testing.assert_frame_equal(funnels.funnel(frame, **options), expected, check_dtype=False)


# ── Another hand ─────────────────────────────────────────────────────────────────────────────────────────────────────


def sql_funnel(path: Path, steps: list[str], within_us: int) -> list[int]:
    """The running maximum of the latest start, written as windows of DuckDB."""
    before = "(PARTITION BY person_id ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    query = f"WITH t0 AS (FROM read_parquet('{path}')), t1 AS (SELECT *, IF(event = '{steps[0]}', us, NULL) s1 FROM t0)"
    for k, name in enumerate(steps[1:], start=2):
        latest = f"max(s{k - 1}) OVER {before}"
        query += (
            f", t{k} AS (SELECT *, IF(event = '{name}' AND us - {latest} <= {within_us}, {latest}, NULL) s{k} "
            f"FROM t{k - 1})"
        )
    numbers = range(1, len(steps) + 1)
    reached = ", ".join(f"count(s{k}) > 0 AS r{k}" for k in numbers)
    query += f", p AS (SELECT {reached} FROM t{len(steps)} GROUP BY person_id)"
    (row,) = engine.rows(f"{query} SELECT {', '.join(f'sum(r{k}::INT)::INT' for k in numbers)} FROM p")
    return list(row)


def test_a_large_log_equals_sql(tmp_path: Path) -> None:
    random, n = np.random.default_rng(5), 200_000
    hours = random.integers(0, 60 * 24, n)
    log = pd.DataFrame({"person_id": random.integers(0, 9_000, n), "us": hours * 3_600_000_000})
    log = log.sort_values(["person_id", "us"], kind="stable", ignore_index=True)
    log = log.assign(
        position=log.groupby("person_id").cumcount() + 1,
        event=random.choice(["view", "cart", "ship", "order", "x"], n, p=[0.3, 0.2, 0.1, 0.05, 0.35]),
        timestamp=pd.to_datetime(log["us"], unit="us"),
    )
    path = tmp_path / "log.parquet"
    log.to_parquet(path)
    steps = ["view", "cart", "view", "ship", "order"]
    found = counts(engine.read_parquet(path).drop("us"), steps, within="5d")
    assert found == sql_funnel(path, steps, 5 * 86_400_000_000)
    assert 0 < found[-1] < found[0]


# ── A real log ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
        assert counts(shop, SHOP, same="session_id", per="attempt", clock="first")[0] >= 2868
        # sessions that hold a person's steps: people with at least one such session, no more than the sessions
        assert counts(shop, SHOP, same="session_id")[-1] <= expected["funnel_ordered_sessions"]["purchase"]

    def test_open_funnel(self, shop: pd.DataFrame, expected: dict[str, dict[str, int]]) -> None:
        table = funnels.funnel(shop, steps=SHOP, per="session", entry="open")
        assert table["n"].tolist() == [expected["funnel_open_sessions"][step] for step in SHOP]

    def test_by_platform(self, shop: pd.DataFrame, expected: dict[str, dict[str, int]]) -> None:
        table = funnels.funnel(shop, steps=SHOP, per="session", by="platform")
        for platform in ("desktop", "mobile", "tablet"):
            found = table.loc[table["segment"] == platform, "n"].tolist()
            assert found == [expected[f"funnel_ordered_sessions_platform_{platform}"][step] for step in SHOP]
