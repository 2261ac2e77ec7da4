"""The same funnel by the rules of other tools: each by hand, the reasons, the paired interval, the sentences."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import funnel_modes, funnels
from journeykit.config_funnels import MODES
from journeykit.plots import modes as plots
from journeykit.readings import modes as readings
from tests.conftest import make_log

STEPS = ["ad", "visit", "buy"]
START = pd.Timestamp("2025-01-01")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u: ad@0d visit@1h buy@2h", "ga4 mixpanel amplitude posthog strict"),
        ("u: ad@0d x@1h visit@2h buy@3h", "ga4 mixpanel amplitude posthog"),  # something lies between
        ("u: visit@0d buy@1h", ""),  # all of them begin at the first step
        ("u: ad@0d visit@1h buy@24h", "ga4 mixpanel amplitude posthog strict"),  # the edge of a day
        ("u: ad@0d visit@1h buy@25h", "ga4 mixpanel posthog strict"),
        ("u: ad@0d visit@1h buy@7d", "ga4 mixpanel posthog strict"),
        ("u: ad@0d visit@1h buy@8d", "ga4 posthog strict"),
        ("u: ad@0d visit@1h buy@14d", "ga4 posthog strict"),
        ("u: ad@0d visit@1h buy@300d", "ga4 strict"),
        ("u: ad@0d ad@20d visit@20d buy@21d", "ga4 amplitude posthog strict"),  # Mixpanel does not start again
        ("u: ad@0d stop@1h ad@2h visit@3h buy@4h", "ga4 amplitude strict"),  # PostHog leaves the person out
        ("u: ad@0d visit@2h stop@3h buy@4h", ""),
    ],
)
def test_each_tool_by_hand(text: str, expected: str) -> None:
    log = make_log(text)
    options: dict[str, Any] = {"steps": STEPS, "exclude": "stop"}
    found = [mode for mode in MODES if funnels.funnel(log, **options, mode=mode)["n"].iloc[-1]]
    assert found == expected.split()
    table = funnel_modes.compare(log, **options).set_index("mode") if "visit@0d" not in text else pd.DataFrame()
    assert [mode for mode in MODES if mode in table.index and table.loc[mode, "converted_n"]] == expected.split()


def test_posthog_leaves_the_person_out_of_the_first_step_too() -> None:
    log = make_log("u1: ad stop visit buy | u2: ad visit buy")
    options: dict[str, Any] = {"steps": STEPS, "exclude": "stop"}
    assert funnels.funnel(log, **options, mode="posthog")["n"].tolist() == [1, 1, 1]
    assert funnels.funnel(log, **options, mode="amplitude")["n"].tolist() == [2, 1, 1]


def test_a_window_of_your_own_wins_over_that_of_a_tool() -> None:
    log = make_log("u: ad@0d visit@1d buy@20d")
    assert funnels.funnel(log, steps=STEPS, mode="mixpanel")["n"].tolist() == [1, 1, 0]
    assert funnels.funnel(log, steps=STEPS, mode="mixpanel", within="30d")["n"].tolist() == [1, 1, 1]


def random_log(seed: int, people: int = 80) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    parts = []
    for k in range(people):
        days = np.sort(random.integers(0, 40, 6))
        names = random.choice(["ad", "visit", "buy", "x", "stop"], 6, p=[0.35, 0.25, 0.2, 0.15, 0.05])
        parts.append(f"u{k}: " + " ".join(f"{name}@{day}d" for name, day in zip(names, days, strict=True)))
    return make_log(" | ".join(parts))


@pytest.mark.parametrize("per", ["person", "session", "attempt"])
def test_the_table_counts_as_the_funnel_does(per: str) -> None:
    log = random_log(1)
    log["session_id"] = log["person_id"] * 2 + log["source_row"] % 2
    options: dict[str, Any] = {"steps": STEPS, "exclude": "stop", "per": per}
    table = funnel_modes.compare(log, within="20d", **options).set_index("mode")
    assert list(table.index) == ["yours", *MODES]
    for mode in ("yours", *MODES):
        rules = {**options, "mode": "" if mode == "yours" else mode}
        if mode in ("yours", "strict"):
            rules["within"] = "20d"
        if per == "attempt" and mode == "posthog":
            rules = {**options, "within": "14d"}  # whole people cannot be left out where attempts are counted
        steps = funnels.funnel(log, **rules)
        row = table.loc[mode]
        assert row[["n", "converted_n"]].tolist() == steps["n"].iloc[[0, -1]].tolist(), mode
        bounds = ["share_of_start", "share_of_start_low", "share_of_start_high"]
        found = row[["converted_share", "converted_share_low", "converted_share_high"]].tolist()
        assert found == pytest.approx(steps[bounds].iloc[-1].tolist()), mode
        if mode != "yours":
            share = table.loc["yours", "converted_share"]
            assert row["difference"] == pytest.approx(row["converted_share"] - share)
            assert row["difference_low"] <= row["difference"] <= row["difference_high"]


def test_the_time_is_that_of_the_counted_attempt() -> None:
    log = make_log(" | ".join(f"u{k}: ad@0d ad@{k}d visit@{k}d buy@{k + 2}d" for k in range(1, 12)))
    table = funnel_modes.compare(log, steps=STEPS).set_index("mode")
    assert table.loc["ga4", ["median_days", "median_days_low", "median_days_high"]].tolist() == [8, 4, 12]
    assert math.isnan(table.loc["amplitude", "median_days"])
    latest = funnel_modes.compare(log, steps=STEPS, clock="last").set_index("mode")
    assert latest.loc["yours", "median_days"] == 2
    assert latest.loc["ga4", "median_days"] == 8


def test_the_reasons_add_up() -> None:
    log = random_log(2, 400)
    table = funnel_modes.compare(log, steps=STEPS, within="30d", until=START + pd.Timedelta("39d")).set_index("mode")
    for mode in MODES:
        why, gap = table.loc[mode, ["why", "difference"]]
        parts = re.findall(r"([+−])([\d.]+) points", why.split(" Each alone")[0])
        total = sum((1 if sign == "+" else -1) * float(number) for sign, number in parts)
        assert total == pytest.approx(100 * gap, abs=0.06 * len(parts)), (mode, why)


def test_the_reasons_by_hand() -> None:
    late = "ad@0d visit@1d buy@9d"  # too late for a week
    again = "ad@0d ad@20d visit@20d buy@20d"  # a second entry
    log = make_log(" | ".join([f"u: {late}"] * 2 + [f"u: {again}"] * 3 + ["u: ad@0d visit@1h buy@2h"] * 5))
    why = funnel_modes.compare(log, steps=STEPS, within="14d").set_index("mode")["why"]
    assert why["mixpanel"] == "Only the first entry counts: −30.0 points; 7 days instead of 14 days: −20.0 points."
    assert why["amplitude"] == "1 day instead of 14 days: −20.0 points."
    assert why["posthog"] == "The same rules as yours."
    assert why["ga4"] == "Other rules, the same figure: no time limit instead of 14 days."
    assert why["strict"] == "Other rules, the same figure: nothing else between two steps."
    # a week of the first entry stops those whose week begins again; neither rule alone does
    both = make_log(" | ".join(["u: ad@0d visit@1d ad@9d visit@9d buy@10d"] * 4 + ["u: ad@0d visit@1d buy@2d"] * 6))
    why = funnel_modes.compare(both, steps=STEPS, within="14d").set_index("mode")["why"]
    assert why["mixpanel"] == (
        "Only the first entry counts: −20.0 points; 7 days instead of 14 days: −20.0 points. "
        "Each alone would make ±0.0 and ±0.0 points; the rest is what they do together."
    )


def test_people_whose_time_is_not_over_are_a_reason() -> None:
    until = START + pd.Timedelta("20d")
    log = make_log(" | ".join(["u: ad@0d visit@1d buy@2d"] * 6 + ["u: ad@18d"] * 4))
    table = funnel_modes.compare(log, steps=STEPS, within="7d", until=until).set_index("mode")
    assert table.loc["yours", ["n", "converted_n"]].tolist() == [6, 6]
    assert table.loc["mixpanel", ["n", "converted_n"]].tolist() == [10, 6]
    assert table.loc["mixpanel", "why"].startswith("People whose time is not over count: −40.0 points.")
    assert "set apart" in table.loc["yours", "rules"]
    assert "set apart" in table.loc["strict", "rules"]
    assert table.loc["strict", "n"] == 6


def test_what_cannot_be_compared() -> None:
    log = make_log("u1: ad visit buy")
    assert "no funnel" in funnel_modes.compare(log, steps=[]).attrs["reason"]
    assert "n = 0" in funnel_modes.compare(log.head(0), steps=STEPS).attrs["reason"]
    assert "at least 5" in funnel_modes.compare(log, steps=STEPS, min_n=5).attrs["reason"]
    nobody = funnel_modes.compare(make_log("u1: ad | u2: ad"), steps=STEPS)
    assert nobody["converted_share"].tolist() == [0] * 6
    assert nobody["difference"].iloc[1:].tolist() == [0] * 5


@pytest.mark.parametrize(
    "rules", [{"order": "any"}, {"entry": "open"}, {"clock": "last"}, {"steps": ["ad", "x?", "buy"]}]
)
def test_other_rules_of_your_own(rules: dict[str, Any]) -> None:
    table = funnel_modes.compare(random_log(3), **{"steps": STEPS, "within": "10d", "exclude": "stop", **rules})
    assert table["mode"].tolist() == ["yours", *MODES]
    assert table["why"].iloc[1:].str.len().min() > 10
    ends = funnels.funnel(random_log(3), **{"steps": STEPS, "within": "10d", "exclude": "stop", **rules}).iloc[-1]
    assert table.loc[0, "converted_n"] == ends["n"]
    assert table.loc[0, "converted_share"] == pytest.approx(ends["share_of_start"])


def moments(mine: np.ndarray, theirs: np.ndarray) -> list[dict[str, int]]:
    """The sums of people, each counted on both sides: who converts by the one and by the other rules."""
    n = len(mine)
    sums = []
    for k in (theirs, mine):
        total = int(k.sum())
        both = {"n0": n, "nk0": int(mine.sum()), "kn0": total, "kk0": int((k * mine).sum())}
        sums.append({"n": n, "k": total, "kk": total, "kn": total, "nn": n, "people": n, **both})
    return sums


def test_the_interval_of_a_difference_between_the_same_people_covers() -> None:
    random, hits, widths = np.random.default_rng(8), 0, []
    for _ in range(1000):
        cell = random.choice(4, 300, p=[0.70, 0.03, 0.07, 0.20])  # neither, only mine, only theirs, both
        mine, theirs = np.isin(cell, [1, 3]).astype(int), np.isin(cell, [2, 3]).astype(int)
        their_sums, my_sums = moments(mine, theirs)
        shares = [(s["k"] / s["n"], *funnel_modes.stats.wilson(s["k"], s["n"])) for s in (their_sums, my_sums)]
        gap, low, high = funnel_modes._difference(their_sums, shares[0], my_sums, shares[1])
        hits += low <= 0.04 <= high
        widths.append(high - low)
        assert gap == pytest.approx(theirs.mean() - mine.mean())
    assert 0.935 <= hits / 1000 <= 0.972
    assert np.mean(widths) < 0.085  # of independent groups, it would be 0.14


def test_sentences_and_finding() -> None:
    until = START + pd.Timedelta("39d")
    table = funnel_modes.compare(random_log(2, 400), steps=STEPS, within="30d", until=until)
    said = readings.modes(table)
    rows = table.set_index("mode")
    assert f"{100 * rows.loc['mixpanel', 'converted_share']:.1f} % in Mixpanel" in said
    assert f"By your rules, {100 * rows.loc['yours', 'converted_share']:.1f} %" in said
    tools = rows.loc[["ga4", "mixpanel", "amplitude", "posthog"]]
    furthest = tools["difference"].abs().idxmax()
    assert f"{funnel_modes.NAMES[furthest]} is furthest from yours" in said
    (found,) = readings.findings(table)
    assert found.value == pytest.approx(100 * rows.loc[furthest, "difference"])
    assert found.low < found.value < found.high  # type: ignore[operator]
    assert found.table == "04_funnel__modes"
    same = funnel_modes.compare(make_log("u1: ad visit buy | u2: ad"), steps=STEPS)
    assert "makes no difference" in readings.modes(same)
    assert readings.findings(same) == []
    empty = funnel_modes.compare(make_log("u1: x"), steps=STEPS)
    assert (readings.modes(empty), readings.findings(empty)) == ("", [])


def test_the_chart_shows_each_rule() -> None:
    table = funnel_modes.compare(random_log(2, 400), steps=STEPS, within="30d")
    ax = plots.modes(table)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0].startswith("Your rules")
    assert len(labels) == 6
    shown = " ".join(text.get_text() for text in ax.texts)
    for share in table["converted_share"]:
        assert f"{100 * share:.1f} %" in shown
    plots.modes(funnel_modes.compare(make_log("u1: ad | u2: ad"), steps=STEPS))


def test_small_shares_are_shown_with_more_digits() -> None:
    text = " | ".join(["u: ad@0d visit@1d buy@2d"] + ["u: ad@0d visit@1d buy@20d"] * 2 + ["u: ad@0d"] * 1497)
    table = funnel_modes.compare(make_log(text), steps=STEPS, within="30d")
    assert table.set_index("mode").loc["mixpanel", "why"] == (
        "7 days instead of 30 days: −0.13 points. No difference: only the first entry counts."
    )
    assert "By your rules, 0.20 % (0.07–0.59 %) of 1,500 people go through." in readings.modes(table)
    assert "by −0.20 points (95 % interval −0.59 to 0.09)" in readings.modes(table)
    assert " 0.07 %" in " " + " ".join(text.get_text() for text in plots.modes(table).texts)
