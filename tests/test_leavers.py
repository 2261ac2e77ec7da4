"""Why people leave: by hand, against a slow independent version, under the null, and on what was planted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import StratifiedTable, Table, Table2x2
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from journeykit import engine, funnels, leaver_levels, leaver_tests, leavers
from journeykit.errors import JourneyError
from journeykit.leaver_sides import by_exposure, pairs, sides, totals_by
from journeykit.plots import leavers as plots
from journeykit.plots import theme
from journeykit.readings import leavers as readings
from tests import slow_leavers
from tests.conftest import make_log

HOUR = 3_600_000_000
STORE = Path(__file__).resolve().parent.parent / "data" / "laptop_store"
BUY = ["Product page", "Cart", "Shipping cost", "Checkout", "Order"]


def reach(log: pd.DataFrame, *steps: str, **rules: Any) -> funnels.Reached:
    return funnels.reach(log, steps=list(steps), **rules)


def next_of(log: pd.DataFrame, *steps: str, at: str | int = "", top: int = 5, **rules: Any) -> list[list[Any]]:
    table = leavers.next_events(log, reach(log, *steps, **rules), at, top=top)
    return table[["step", "next_step", "n", "went_on_next_n"]].values.tolist()


# What came next


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("u1: a x | u2: a y b", [["a", "x", 1, 0], ["a", "(other)", 0, 1]]),
        ("u1: a | u2: a b x", [["a", "(nothing more)", 1, 0], ["a", "(the next step)", 0, 1]]),
        ("u1: a a x | u2: a b", [["a", "a", 1, 0], ["a", "(the next step)", 0, 1]]),  # the counted, first, attempt
        ("u1: b a | u2: a b", [["a", "(nothing more)", 1, 0], ["a", "(the next step)", 0, 1]]),
        ("u1: a@0h x@0h y@1h | u2: a b", [["a", "x", 1, 0], ["a", "(the next step)", 0, 1]]),  # ties: total order
        ("u1: x@0h a@0h y@1h | u2: a b", [["a", "y", 1, 0], ["a", "(the next step)", 0, 1]]),
        ("u1: a@0h b@50h | u2: a b", [["a", "b", 1, 0], ["a", "(the next step)", 0, 1]]),  # too late is what came next
    ],
)
def test_next_events_by_hand(text: str, expected: list[list[Any]]) -> None:
    assert next_of(make_log(text), "a", "b", within="1d") == expected


def test_next_events_of_each_step_sum_to_those_who_stopped_there() -> None:
    log = make_log("u1: a x | u2: a b | u3: a b y | u4: a b c | u5: a z | u6: a x b z c")
    table = leavers.next_events(log, reach(log, "a", "b", "c"))
    assert table.groupby("step")["n"].sum().to_dict() == {"a": 2, "b": 2}
    assert table.groupby("step")["went_on_next_n"].sum().to_dict() == {"a": 4, "b": 2}
    assert table.groupby("step")["stopped_n"].first().to_dict() == {"a": 2, "b": 2}


def test_an_optional_step_is_a_place_to_stop() -> None:
    log = make_log("u1: a o x | u2: a b | u3: a y")
    found = next_of(log, "a", "o?", "b")
    assert ["o", "x", 1, 0] in found
    assert ["a", "y", 1, 0] in found
    assert sides(reach(log, "a", "o?", "b"), "a").next_step == "b"


def test_what_is_rare_is_not_shown() -> None:
    log = make_log(" | ".join(["u: a x"] * 6 + ["u: a y"] * 2 + ["u: a z"] * 3 + ["u: a x b"] * 2))
    table = leavers.next_events(log, reach(log, "a", "b"), min_n=3)
    assert table["next_step"].tolist() == ["x", "z", "(other)"]
    assert table["n"].tolist() == [6, 3, 2]
    assert table["went_on_next_n"].isna().tolist() == [True, False, False]
    few = leavers.next_events(log, reach(log, "a", "b"), min_n=20)
    assert few.attrs["reason"] == "not enough data (fewer than 20 stopped on the way)"
    assert len(leavers.next_events(log, reach(log, "a", "b"), top=1)) == 2


def test_sessions_attempts_and_open_windows() -> None:
    log = make_log("u1: a x ; a b ; a")
    assert next_of(log, "a", "b", per="session") == [
        ["a", "(nothing more)", 1, 0],
        ["a", "x", 1, 0],
        ["a", "(the next step)", 0, 1],
    ]
    log = make_log("u1: a@0h x@1h a@48h y@49h | u2: a b")
    assert next_of(log, "a", "b", per="attempt", within="1d")[:2] == [["a", "x", 1, 0], ["a", "y", 1, 0]]
    log = make_log("u1: a@0h x@1h | u2: a@30h y@31h | u3: a@0h b@1h")
    until = pd.Timestamp("2025-01-02 08:00")  # the window of u2 is still open
    found = reach(log, "a", "b", within="1d", until=until)
    assert leavers.next_events(log, found)["next_step"].tolist() == ["x", "(the next step)"]


def test_last_seen_by_hand() -> None:
    log = make_log("u1: a@0h x@1h y@20h z@30h | u2: a@0h | u3: a@0h x@24h | u4: a b | u5: a@0h z@25h")
    found = reach(log, "a", "b")
    table = leavers.last_seen(log, found, "a", within="1d")
    assert table[["last_seen", "n", "stopped_n"]].values.tolist() == [
        ["(nothing more)", 2, 4],
        ["x", 1, 4],
        ["y", 1, 4],
    ]
    unlimited = leavers.last_seen(log, found, "a", within="")
    assert unlimited["last_seen"].tolist() == ["z", "(nothing more)", "x"]
    ends = reach(log, "a", "b", within="1h", until=pd.Timestamp("2025-01-01 10:00"))
    assert leavers.last_seen(log, ends, "a", within="1d").attrs["reason"].startswith("not enough data (n = 0")


def test_a_log_without_positions_is_in_the_total_order() -> None:
    log = make_log("u1: a@0h x@0h y@1h | u2: a b | u3: a help b").drop(columns="position")
    found = reach(log, "a", "b")
    assert next_of(log, "a", "b") == [["a", "x", 1, 0], ["a", "(other)", 0, 1], ["a", "(the next step)", 0, 1]]
    assert leavers.last_seen(log, found, "a")["last_seen"].tolist() == ["y"]
    assert presence(log, found, 1, leavers.afterwards)["event"] == {"y": (1, 0), "help": (0, 1)}


def test_an_open_entry_and_any_order() -> None:
    log = make_log("u1: x b y | u2: a b z | u3: a | u4: b@0h c@1h | u5: c@0h b@1h y@2h")
    found = reach(log, "a", "b", "c", entry="open")
    nexts = leavers.next_events(log, found)
    assert nexts.groupby("step")[["stopped_n", "went_on_n"]].first().values.tolist() == [[1, 1], [3, 1]]
    assert nexts[nexts["step"] == "b"]["next_step"].tolist() == ["y", "z", "(the next step)"]
    who = sides(found, "b")
    assert engine.fetch(who.table.select(nw.col("left").sum()))["left"].tolist() == [3]
    again = make_log("u1: c@0h b@1h x@2h c@3h")  # the first c is before b, a later one is reached from it
    found = reach(again, "a", "b", "c", entry="open")
    assert presence(again, found, 2, leavers.afterwards)["event"] == {"x": (0, 1), "c": (0, 1)}
    log = make_log("u1: b a x | u2: a b c | u3: c")
    found = reach(log, "a", "b", "c", order="any")
    nexts = leavers.next_events(log, found)
    assert nexts[["step", "next_step", "n", "went_on_next_n"]].values.tolist() == [
        ["any 1 of 3", "(nothing more)", 1, 0],
        ["any 1 of 3", "(the next step)", 0, 2],
        ["any 2 of 3", "x", 1, 0],
        ["any 2 of 3", "(the next step)", 0, 1],
    ]


def test_mistakes_are_explained() -> None:
    log = make_log("u1: a b c")
    found = reach(log, "a", "b", "c")
    with pytest.raises(JourneyError, match=r"the funnel has no step 'bb'. Did you mean 'b'\?.*Allowed: a, b, or"):
        leavers.next_events(log, found, "bb")
    with pytest.raises(JourneyError, match="nobody stops at the last step, 'c'"):
        leavers.drivers(log, found, "c")
    with pytest.raises(
        JourneyError, match=r"'chanel' at the steps are not known.*Known: none. Give it to funnels.reach"
    ):
        leaver_levels.levels(found, "a", "chanel")
    with pytest.raises(JourneyError, match=r"drivers: column 'tuochpoint' is missing. Did you mean 'touchpoint'"):
        leavers.drivers(log, found, "a", columns=["tuochpoint"])


# Against the plain way

EVENTS = st.tuples(
    st.integers(1, 8),
    st.sampled_from(["a", "b", "o", "c", "x", "y"]),
    st.integers(0, 30),
    st.sampled_from(["web", "app", None]),
)


def random_log(rows: list[tuple[int, str, int, str | None]]) -> pd.DataFrame:
    """A log in which many events share a time, a session ends every ten hours, and values are missing."""
    parts: dict[int, list[tuple[int, str, str | None]]] = {}
    for person, event, hour, channel in rows:
        parts.setdefault(person, []).append((hour, event, channel))
    text = " | ".join(
        "u: " + " ".join(f"{event}@{hour}h/{channel or 'null'}" for hour, event, channel in part)
        for _, part in sorted(parts.items())
    )
    log = make_log(text)
    log["channel"] = log["channel"].where(log["channel"] != "null", None)
    clock = (log["timestamp"] - pd.Timestamp("2025-01-01")) // pd.Timedelta("10h")
    return log.assign(session_id=log["person_id"] * 100 + clock)


@settings(max_examples=8, deadline=None)
@given(
    rows=st.lists(EVENTS, min_size=1, max_size=50),
    steps=st.sampled_from([["a", "b"], ["a", "b", "c"], ["a", "o?", "c"], ["a | x", "b | a"]]),
    per=st.sampled_from(["person", "session"]),
    within=st.sampled_from(["", "12h"]),
    clock=st.sampled_from(["any", "first"]),
)
def test_the_engine_and_the_plain_way_agree(
    rows: list[tuple[int, str, int, str | None]], steps: list[str], per: str, within: str, clock: str
) -> None:
    log, unit = random_log(rows), {"person": "person_id", "session": "session_id"}[per]
    with engine.scratch():
        found = reach(log, *steps, per=per, within=within, clock=clock)
        table = engine.fetch(found.table)
        values = [step.values for step in found.rules.steps]
        numbers = range(1, len(steps))
        nexts = leavers.next_events(log, found, top=99)
        for k in numbers:
            who = slow_leavers.stood(table, k, list(range(k + 1, len(steps) + 1)))
            slow = slow_leavers.next_events(log, who, unit, values, k)
            part = nexts[nexts["step_number"] == k]
            stopped = {r["next_step"]: r["n"] for r in part.to_dict("records") if r["n"]}
            assert stopped == dict(slow[True])
            if len(part):
                assert part["went_on_next_n"].sum() == sum(slow[False].values())
                on = {r["next_step"]: r["went_on_next_n"] for r in part.to_dict("records") if r["n"]}
                assert all(on[value] == slow[False][value] for value in on)
            seen = leavers.last_seen(log, found, k, within="5h", top=99)
            slow_seen = slow_leavers.last_seen(log, who, unit, values[k - 1], 5 * HOUR)
            assert dict(zip(seen["last_seen"], seen["n"], strict=True)) == dict(slow_seen)
        for k, m in pairs(found.rules):
            who = slow_leavers.stood(table, k, [m])
            for since, since_us in (("", -1), ("6h", 6 * HOUR)):
                made = presence(log, found, k, leavers.drivers, since=since)
                for column in ("event", "channel"):
                    slow_made = slow_leavers.before(log, who, unit, column, values, k, since_us)
                    assert made[column] == slow_made
            made = presence(log, found, k, leavers.afterwards, within="5h")
            for column in ("event", "channel"):
                assert made[column] == slow_leavers.after(log, who, unit, column, 5 * HOUR)


def presence(log: pd.DataFrame, found: funnels.Reached, k: int, ask: Any, **window: str) -> dict[str, Any]:
    """The counts that a table is made of, before what is rare is left out."""
    kept: list[pd.DataFrame] = []

    def caught(counts: pd.DataFrame, *_: Any, **__: Any) -> pd.DataFrame:
        kept.append(counts)
        return counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaver_tests, "compared", caught)
        patch.setattr(leaver_tests, "described", caught)
        ask(log, found, k, columns=["event", "channel"], **window)
    rows = kept[0].groupby(["feature", "kind"], as_index=False).sum(numeric_only=True).to_dict("records")
    return {
        column: {r["feature"]: (r["stopped_n"], r["went_on_n"]) for r in rows if r["kind"] == column}
        for column in ("event", "channel")
    }


# What tells them apart


def counts_of(*rows: tuple[str, int, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["feature", "stopped_n", "went_on_n"])
    return table.assign(kind="event", stratum=0, close_n=0, whose=range(len(rows)))


def of(*strata: tuple[int, int]) -> pd.DataFrame:
    """How many stopped and went on in each stratum."""
    return pd.DataFrame(strata, columns=["stopped_n", "went_on_n"]).assign(stratum=range(len(strata)))


def test_numbers_of_a_driver_are_those_of_others() -> None:
    table = leaver_tests.compared(counts_of(("help", 60, 30), ("chat", 8, 30), ("mail", 41, 50)), of((200, 250)))
    row = table.set_index("feature").loc["help"]
    assert row["lost_share"] == 60 / 90
    assert row["lost_without_share"] == 140 / 360
    low, high = confint_proportions_2indep(60, 90, 140, 360, method="newcomb", compare="diff")
    assert row["difference_points"] == pytest.approx(100 * (60 / 90 - 140 / 360))
    assert row[["difference_points_low", "difference_points_high"]].tolist() == pytest.approx([100 * low, 100 * high])
    odds = Table2x2(np.array([[60, 30], [140, 220]]) + 0.5)
    assert row["log_odds"] == pytest.approx(odds.log_oddsratio)
    assert row[["log_odds_low", "log_odds_high"]].tolist() == pytest.approx(odds.log_oddsratio_confint())
    p_value = scipy_stats.chi2_contingency([[60, 30], [140, 220]], correction=False)[1]
    assert row["p_value"] == pytest.approx(p_value)
    assert table["p_adjusted"].tolist() == pytest.approx(multipletests(table["p_value"], method="fdr_bh")[1])
    assert table["direction"].tolist() == ["leave", "stay", "leave"]
    assert table["feature"].tolist() == ["help", "chat", "mail"]


def test_structural_features_are_set_apart_and_not_tested() -> None:
    counts = counts_of(("twin", 4, 240), ("chat", 30, 10), ("all", 200, 250), ("rare", 3, 2), ("only", 0, 40))
    table = leaver_tests.compared(counts, of((200, 250)))
    assert table["feature"].tolist() == ["only", "chat", "twin"]
    assert table["is_structural"].tolist() == [False, False, True]
    assert table["p_value"].isna().tolist() == [False, False, True]
    assert table["p_adjusted"].isna().tolist() == [False, False, True]
    assert table.attrs["left_out_n"] == 1  # "all" says nothing about anybody, "rare" is too rare
    assert np.isfinite(table["log_odds"]).all()
    strong = leaver_tests.compared(counts_of(("strong", 195, 25), ("other", 30, 10)), of((200, 250))).iloc[0]
    assert (strong["feature"], strong["is_structural"]) == ("strong", False)  # one in ten of the others have it too


def test_strata_compare_within_and_their_numbers_are_those_of_others() -> None:
    """Two strata in which leaving differs, and so does the feature: together it seems to go with leaving."""
    counts = pd.DataFrame(
        {"feature": "help", "kind": "event", "stratum": [0, 1], "stopped_n": [18, 160], "went_on_n": [42, 78]}
    )
    totals = of((60, 140), (200, 100))
    row = leaver_tests.compared(counts.assign(whose=1), totals).iloc[0]
    tables = [np.array([[18, 42], [60 - 18, 140 - 42]]), np.array([[160, 78], [40, 22]])]
    oracle = StratifiedTable(tables)
    assert row["test"] == "Cochran–Mantel–Haenszel"
    assert row["p_value"] == pytest.approx(oracle.test_null_odds(correction=False).pvalue)
    assert row["lost_share"] - row["lost_without_share"] > 0.1
    assert abs(row["difference_points"]) < 4
    assert row["difference_points_low"] < 0 < row["difference_points_high"]
    halved = [table + 0.5 * table.sum() / 500 for table in tables]
    pooled = StratifiedTable(halved)
    assert row["log_odds"] == pytest.approx(pooled.logodds_pooled)
    assert row["log_odds_high"] - row["log_odds"] == pytest.approx(1.959964 * pooled.logodds_pooled_se)
    apart = counts.assign(stopped_n=[60, 0], went_on_n=[140, 0], whose=1)
    assert leaver_tests.compared(apart, totals).attrs["reason"].startswith("not enough data (nobody to compare with")


def test_who_looks_around_for_longer_is_compared_with_those_who_do() -> None:
    """Nothing but time decides: the later somebody reaches the step, the more was met, and the less time is left."""
    rng = np.random.default_rng(9)
    texts = []
    for _ in range(1500):
        late = rng.uniform(0.2, 10)
        met = "".join(f" {name}@{rng.uniform(0, late) * 1440:.0f}min" for name in "xyz" if rng.random() < late / 10)
        goes = late + rng.exponential(4) < 10
        texts.append(f"u: a@0min{met} b@{late * 1440:.0f}min" + (f" c@{late * 1440 + 1:.0f}min" if goes else ""))
    log = make_log(" | ".join(texts))
    found = leavers.drivers(log, reach(log, "a", "b", "c"), "b", columns=["event"])
    assert found.attrs["strata_n"] >= 8
    gaps = 100 * (found["lost_share"] - found["lost_without_share"])
    assert (gaps > 12).all()  # all together, each seems a reason
    assert (found["difference_points"].abs() < 6).all()
    assert (found["p_adjusted"] > 0.05).all()


def test_strata_are_of_like_size_and_none_where_people_are_few() -> None:
    texts = [f"u: a@0min b@{2**i}min" for i in range(12) for _ in range(50)]
    log = make_log(" | ".join(texts))
    stood = by_exposure(sides(reach(log, "a", "b", "c"), "b").table)
    sizes = totals_by(stood)
    assert sizes["stopped_n"].sum() == 600
    assert len(sizes) == 6
    assert sizes["stopped_n"].between(50, 150).all()
    few = by_exposure(sides(reach(log[log["person_id"] <= 150], "a", "b", "c"), "b").table)
    assert totals_by(few)["stratum"].tolist() == [0]


def test_what_is_part_of_the_next_step_is_found() -> None:
    quick = [f"u: a@0h page@{h}h b@{h}h" for h in range(1, 26)]
    log = make_log(" | ".join(["u: a@0h help@5h"] * 30 + quick + ["u: a@0h help@1h b@9h"] * 22))
    late = log["event"] == "page"
    log.loc[late, "timestamp"] -= pd.Timedelta("3s")  # a technical event, seconds before the step
    table = leavers.afterwards(log, reach(log, "a", "b"), "a", columns=["event"]).set_index("feature")
    assert table.loc["page", ["stopped_n", "went_on_n", "before_next_share", "is_structural"]].tolist() == [
        0,
        25,
        1,
        True,
    ]
    assert table.loc["help", ["stopped_n", "went_on_n", "before_next_share", "is_structural"]].tolist() == [
        30,
        22,
        0,
        False,
    ]
    fast = make_log(" | ".join(["u: a help@2h"] * 30 + ["u: a page b"] * 25 + ["u: a x b"] * 25))
    fast["timestamp"] = pd.Timestamp("2025-01-01") + (fast["timestamp"] - pd.Timestamp("2025-01-01")) / 20
    found = leavers.afterwards(fast, reach(fast, "a", "b"), "a", columns=["event"]).set_index("feature")
    assert not found.loc["page", "is_structural"]  # everything between two steps that are seconds apart is near


def test_one_feature_under_two_names_is_tested_once() -> None:
    log = make_log(" | ".join(["u: a help/chat b/web"] * 25 + ["u: a x/web b/web c"] * 25 + ["u: a x/web b/web"] * 5))
    found = leavers.drivers(log, reach(log, "a", "b", "c"), "b", columns=["event", "channel"])
    assert found[["feature", "kind", "same_as"]].values.tolist() == [["help", "event", "chat"], ["x", "event", ""]]


def test_columns_count_on_the_step_itself_and_properties_are_columns() -> None:
    texts = ["u: a b/dear"] * 30 + ["u: a b/cheap c"] * 25 + ["u: a b/dear c"] * 5
    log = make_log(" | ".join(texts))
    log["properties"] = [f'{{"plan": "{"pro" if c == "dear" else "free"}"}}' for c in log["channel"]]
    found = leavers.drivers(log, reach(log, "a", "b", "c"), "b", columns=["event", "channel", "properties.plan"])
    assert found["feature"].tolist() == ["cheap", "dear"]
    assert found["same_as"].tolist() == ["", "pro"]
    assert found["lost_share"].tolist() == [0, 30 / 35]
    assert found.attrs["window"] == "from the entry to b"


def test_a_later_attempt_is_not_looked_at() -> None:
    log = make_log(" | ".join(["u: help@0h a@30h b@31h"] * 30 + ["u: a@30h b@31h c"] * 30))
    found = reach(log, "a", "b", "c")
    assert leavers.drivers(log, found, "b", columns=["event"]).empty  # before the entry
    assert leavers.drivers(log, found, "b", columns=["event"], since="2d")["feature"].tolist() == ["help"]
    assert leavers.drivers(log, found, "b", columns=["event"], since="31h")["feature"].tolist() == ["help"]  # the edge
    assert leavers.drivers(log, found, "b", columns=["event"], since="30h").empty


def test_what_is_simultaneous_with_the_step_is_not_before_it() -> None:
    log = make_log(" | ".join(["u: a@0h b@1h x@1h y@2h"] * 30 + ["u: a@0h b@1h c@2h"] * 30))
    found = reach(log, "a", "b", "c")
    assert presence(log, found, 2, leavers.drivers)["event"] == {}
    assert presence(log, found, 2, leavers.afterwards)["event"] == {"y": (30, 0)}


def test_sessions_of_one_person_are_no_more_than_the_person() -> None:
    texts = ["u: " + " ; ".join(["a x b"] * 10)] * 10 + ["u: " + " ; ".join(["a y b c"] * 10)] * 10
    log = make_log(" | ".join(texts))
    found = leavers.drivers(log, reach(log, "a", "b", "c", per="session"), "b", columns=["event"])
    row = found.iloc[0]
    assert (row["n"], row["lost_share"], row["lost_without_share"]) == (100, 1, 0)
    assert found.attrs["design_effect"] == pytest.approx(11.8, abs=0.1)  # t of 19 for 199 degrees, too
    assert row["difference_points_low"] < 75  # 10 people on either side, not 100 sessions
    assert row["lost_share_low"] < 0.8


def test_presence_keeps_its_error_rate_and_counting_clicks_does_not() -> None:
    """Leaving has nothing to do with anything; people differ in how much they click."""
    rng = np.random.default_rng(5)
    features, runs, people = 24, 50, 300
    single, any_found, single_clicks, any_clicks = [], [], [], []
    for _ in range(runs):
        left = rng.random(people) < 0.5
        busy = rng.gamma(0.7, 1 / 0.7, people)[:, None]
        taste = rng.dirichlet(np.full(features, 0.4), people)
        clicks = rng.poisson(12 * busy * taste)
        there = clicks > 0
        counts = pd.DataFrame({"stopped_n": there[left].sum(axis=0), "went_on_n": there[~left].sum(axis=0)})
        counts = counts.assign(
            feature=[f"f{i}" for i in range(features)], kind="event", stratum=0, whose=range(features)
        )
        table = leaver_tests.compared(counts, of((int(left.sum()), int((~left).sum()))))
        single.append((table["p_value"] < 0.05).mean())
        any_found.append((table["p_adjusted"] < 0.05).any())
        sides_ = [Counter({f"f{i}": int(n) for i, n in enumerate(clicks[side].sum(axis=0))}) for side in (left, ~left)]
        z = pd.Series(slow_leavers.counted_clicks([sides_[0]], [sides_[1]]))
        p_clicks = 2 * scipy_stats.norm.sf(z.abs())
        single_clicks.append((p_clicks < 0.05).mean())
        any_clicks.append((multipletests(p_clicks, method="fdr_bh")[1] < 0.05).any())
    assert 0.035 < np.mean(single) < 0.065
    assert np.mean(any_found) < 0.1
    assert np.mean(single_clicks) > 0.2
    assert np.mean(any_clicks) > 0.7


def test_looking_longer_at_those_who_stop_finds_what_is_not_there() -> None:
    """Why there is no test of what came after the step: those who went on were gone after some minutes."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(400):
        chat = f" chat@{int(rng.integers(1, 3000))}min" if rng.random() < 0.5 else ""
        rows.append(f"u: a@0min b@1min{chat}" if rng.random() < 0.5 else f"u: a@0min b@1min c@90min{chat}")
    log = make_log(" | ".join(rows))
    found = reach(log, "a", "b", "c")
    after = leavers.afterwards(log, found, "b", columns=["event"], within="3d").set_index("feature").loc["chat"]
    assert after["stopped_share"] > after["went_on_share"] + 0.3
    assert "p_value" not in after.index


# Levels, trend, adjusted


def levels_of(t: list[float], lost: list[int], n: list[int], **attrs: Any) -> pd.DataFrame:
    table = pd.DataFrame({"by": "price", "level": [f"{x:g}" for x in t], "level_mean": t, "n": n, "lost_n": lost})
    table.attrs.update(attrs)
    return table


def test_trend_is_that_of_cochran_and_armitage() -> None:
    t, lost, n = [10.0, 20, 30, 50], [20, 35, 38, 30], [100, 120, 90, 60]
    row = leaver_levels.trend(levels_of(t, lost, n)).iloc[0]
    table = Table(np.array([lost, np.array(n) - lost]).T, shift_zeros=False)
    oracle = table.test_ordinal_association(row_scores=np.array(t), col_scores=np.array([1, 0]))
    total = sum(n)
    assert abs(row["z"]) == pytest.approx(abs(oracle.zscore) * np.sqrt(total / (total - 1)), rel=1e-9)
    x, y = np.repeat(t, n), np.concatenate([[1] * a + [0] * (b - a) for a, b in zip(lost, n, strict=True)])
    line = sm.OLS(y, sm.add_constant(x)).fit()
    assert row["per"] == 10
    assert row["change_points"] == pytest.approx(1000 * line.params[1])
    # Robust to the shape, with the variance within levels.
    error = (row["change_points_high"] - row["change_points"]) / 1.959964
    assert error == pytest.approx(1000 * line.get_robustcov_results("HC0").bse[1], rel=0.03)


def test_a_trend_needs_three_numbers_and_is_level_under_the_null() -> None:
    assert (
        leaver_levels.trend(levels_of([1, 2], [5, 5], [10, 10])).attrs["reason"]
        == "a trend needs three levels that are numbers"
    )
    rng = np.random.default_rng(2)
    n = [150, 120, 80, 30]
    rows = [
        leaver_levels.trend(levels_of([9.9, 19.9, 29.9, 49.9], rng.binomial(n, 0.4), n)).iloc[0] for _ in range(600)
    ]
    assert 0.03 < np.mean([row["p_value"] < 0.05 for row in rows]) < 0.07
    covered = [row["change_points_low"] <= 0 <= row["change_points_high"] for row in rows]
    assert 0.93 < np.mean(covered) < 0.97


def test_levels_carry_a_value_on_and_group_many_numbers() -> None:
    log = make_log("u1: a/5 b/null c/7 | u2: a/9 b/null | u3: a/5 b/6 | u4: a/null b/null")
    log["channel"] = log["channel"].where(log["channel"] != "null", None)
    found = reach(log, "a", "b", "c", by=["channel"])
    table = leaver_levels.levels(found, "b", "channel")
    assert table[["level", "n", "lost_n"]].values.tolist() == [["5", 1, 0], ["6", 1, 1], ["9", 1, 1]]
    many = make_log(" | ".join(f"u: a/{i} b" if i < 40 else f"u: a/{i}" for i in range(100)))
    grouped = leaver_levels.levels(reach(many, "a", "b", by=["channel"]), "a", "channel")
    assert grouped["n"].tolist() == [20] * 5
    assert grouped["level"].tolist()[0] == "0 to 19"
    assert grouped["lost_n"].tolist() == [0, 0, 20, 20, 20]
    assert grouped["level_mean"].tolist() == [9.5, 29.5, 49.5, 69.5, 89.5]
    same = make_log("u1: a/9.9 b | u2: a/9.90 | u3: a/8 | u4: a/7")
    assert leaver_levels.levels(reach(same, "a", "b", by=["channel"]), "a", "channel")["n"].tolist() == [1, 1, 2]


def planted(seed: int, people: int = 1500) -> pd.DataFrame:
    """Leaving goes with the price and the device, and dear prices are seen on phones."""
    rng = np.random.default_rng(seed)
    phone = rng.random(people) < 0.5
    price = np.where(rng.random(people) < 0.3 + 0.4 * phone, rng.choice([30, 50], people), rng.choice([10, 20], people))
    lost = rng.random(people) < 1 / (1 + np.exp(-(-1.2 + 0.04 * price + 0.5 * phone)))
    log = make_log(" | ".join("u: a" if x else "u: a b" for x in lost))
    one = {i + 1: (str(p), "phone" if f else "desk") for i, (p, f) in enumerate(zip(price, phone, strict=True))}
    who = log["person_id"].map(one)
    return log.assign(segment_price=who.str[0], segment_device=who.str[1])


def test_adjusted_is_a_logistic_regression_on_people() -> None:
    log = planted(1)
    by = ["segment_price", "segment_device"]
    table = leaver_levels.adjusted(reach(log, "a", "b", by=by), "a", by)
    people = log.groupby("person_id").agg(
        price=("segment_price", "first"), device=("segment_device", "first"), n=("event", "size")
    )
    base = people["device"].mode()[0]
    other = (people["device"] != base).astype(float)
    x = sm.add_constant(np.column_stack([people["price"].astype(float) / 20, other]))
    model = sm.Logit((people["n"] == 1).astype(int), x).fit(disp=0)
    assert table["log_odds"].tolist() == pytest.approx(model.params[1:].tolist(), rel=1e-5)
    bounds = np.asarray(model.conf_int())[1:]
    assert table["log_odds_low"].tolist() == pytest.approx(bounds[:, 0].tolist(), rel=1e-4)
    assert table["log_odds_high"].tolist() == pytest.approx(bounds[:, 1].tolist(), rel=1e-4)
    effect = model.get_margeff(dummy=True).summary_frame().iloc[1]
    assert table["change_points"].iloc[1] == pytest.approx(100 * effect.iloc[0], rel=1e-4)
    assert table["change_points_low"].iloc[1] == pytest.approx(100 * effect.iloc[4], rel=1e-3)
    assert table[["level", "against"]].values.tolist()[0] == ["per 20", ""]


def test_adjusting_takes_out_what_the_price_brings_to_the_phone() -> None:
    covered = []
    for seed in range(12):
        log = planted(seed, 900)
        by = ["segment_price", "segment_device"]
        found = reach(log, "a", "b", by=by)
        table = leaver_levels.adjusted(found, "a", by).set_index("by")
        sign = 1 if table.loc["segment_device", "level"] == "phone" else -1
        row = table.loc["segment_device"]
        bounds = sorted([sign * row["log_odds_low"], sign * row["log_odds_high"]])
        covered.append(bounds[0] <= 0.5 <= bounds[1])
        covered.append(table.loc["segment_price", "log_odds_low"] <= 0.8 <= table.loc["segment_price", "log_odds_high"])
        alone = leaver_levels.adjusted(found, "a", ["segment_device"]).iloc[0]
        assert sign * alone["log_odds"] > sign * row["log_odds"]
    assert sum(covered) >= 21  # of 24; at 95 % fewer come in 1 of 150 runs


def test_adjusted_and_trend_take_visits_of_one_person_as_alike() -> None:
    log = planted(3, 300).assign(segment_size=lambda t: t["segment_price"])
    visits = pd.concat([log.assign(session_id=1000 * i + log["person_id"]) for i in range(5)], ignore_index=True)
    visits["position"] = visits.groupby("person_id").cumcount() + 1
    by = ["segment_price", "segment_device"]
    person, visit = (reach(t, "a", "b", per=per, by=by) for t, per in ((log, "person"), (visits, "session")))
    for ask in (
        lambda found: leaver_levels.adjusted(found, "a", by).iloc[0][["log_odds_low", "log_odds_high"]],
        lambda found: leaver_levels.trend(leaver_levels.levels(found, "a", by[0])).iloc[0][
            ["change_points_low", "change_points_high"]
        ],
        lambda found: leaver_levels.levels(found, "a", by[0]).iloc[0][["lost_share_low", "lost_share_high"]],
    ):
        wide, same = (float(np.diff(ask(found).to_numpy(dtype=float))[0]) for found in (person, visit))
        assert same == pytest.approx(wide, rel=0.03)  # five like visits say no more than one


def test_rare_levels_are_joined_and_unknown_ones_left_out() -> None:
    texts = ["u: a/web"] * 60 + ["u: a/web b"] * 60 + ["u: a/app"] * 40 + ["u: a/app b"] * 30
    texts += ["u: a/tv b"] * 9 + ["u: a/tv"] * 5 + ["u: a/radio"] * 8 + ["u: a/radio b"] * 4 + ["u: a/null"] * 3
    log = make_log(" | ".join(texts))
    log["channel"] = log["channel"].where(log["channel"] != "null", None)
    table = leaver_levels.adjusted(reach(log, "a", "b", by=["channel"]), "a", ["channel"])
    assert table[["level", "against", "n"]].values.tolist() == [["app", "web", 70], ["(other)", "web", 26]]
    assert table.attrs["left_out_n"] == 3
    alone = leaver_levels.adjusted(reach(log, "a", "b", by=["channel"]), "a", [])
    assert alone.attrs["reason"] == "not enough data (no column has two levels to compare)"


# Hostile input


@pytest.mark.parametrize(
    "text",
    ["u1: x", "u1: a", "u1: a b c", " | ".join(["u: a b c"] * 40), " | ".join(["u: a"] * 40)],
    ids=["nobody", "one", "one converted", "all converted", "nobody went on"],
)
def test_small_and_one_sided_logs_say_why_they_are_empty(text: str) -> None:
    log = make_log(text)
    found = reach(log, "a", "b", "c", by=["channel"])
    for table in (
        leavers.drivers(log, found, "b", columns=["event", "channel"]),
        leavers.afterwards(log, found, "b", columns=["event"]),
        leaver_levels.adjusted(found, "b", ["channel"]),
        leaver_levels.trend(leaver_levels.levels(found, "b", "channel")),
    ):
        assert table.empty
        assert table.attrs["reason"]
        assert readings.drivers(table) == ""
        assert readings.findings(table) == []
    assert len(leavers.next_events(log, found)) or leavers.next_events(log, found).attrs["reason"]


def test_no_funnel_and_columns_of_nulls() -> None:
    log = make_log("u1: a b").assign(segment_x=None)
    nothing = funnels.reach(log)
    for table in (
        leavers.next_events(log, nothing, "a"),
        leavers.last_seen(log, nothing, "a"),
        leavers.drivers(log, nothing, "a"),
        leavers.afterwards(log, nothing, "a"),
        leaver_levels.levels(nothing, "a", "x"),
        leaver_levels.adjusted(nothing, "a", ["x"]),
    ):
        assert table.attrs["reason"] == funnels.NO_FUNNEL
        assert readings.levels(table, table) == readings.adjusted(table) == readings.afterwards(table) == ""
        assert readings.next_events(table) == readings.last_seen(table) == readings.drivers(table) == ""
    assert leaver_levels.leading(nothing, "a") == []
    assert leavers.drivers(log, reach(log, "a", "b"), "").attrs["reason"] == "no step of the funnel loses people"
    assert leaver_levels.leading(reach(log, "a", "b", by=["channel"]), "") == []
    assert leavers.columns_worth_comparing(log) == []
    log = make_log(" | ".join(["u: a"] * 40 + ["u: a b"] * 40)).assign(segment_x=None)
    assert leavers.drivers(log, reach(log, "a", "b"), "a", columns=["segment_x"]).empty


def test_columns_worth_comparing() -> None:
    log = make_log("u1: a/web b/app | u2: a/web").assign(segment_one="x", segment_two=["p", "q", None], other=[1, 2, 3])
    assert leavers.columns_worth_comparing(log) == ["channel", "segment_two"]
    assert leavers.columns_worth_comparing(log, skip=["channel"]) == ["segment_two"]
    wide = pd.concat([log] * 30, ignore_index=True)
    wide["segment_many"] = [f"v{i}" for i in range(len(wide))]
    assert "segment_many" not in leavers.columns_worth_comparing(wide)


# Pictures and sentences


@pytest.fixture(scope="module")
def shop() -> tuple[pd.DataFrame, funnels.Reached]:
    log = planted(4, 800)
    extra = log[log["event"] == "a"].assign(event="help", timestamp=log["timestamp"] - pd.Timedelta("1min"))
    log = pd.concat([log, extra.iloc[::3]]).sort_values(["person_id", "timestamp"], ignore_index=True)
    log["position"] = log.groupby("person_id").cumcount() + 1
    return log, reach(log, "a | help", "a", "b", by=["segment_price", "segment_device"])


def test_sentences_say_what_the_tables_hold(shop: tuple[pd.DataFrame, funnels.Reached]) -> None:
    log, _ = shop
    found = reach(log, "a", "b", by=["segment_price", "segment_device"])
    nexts = leavers.next_events(log, found)
    text = readings.next_events(nexts)
    assert f"Of {nexts['stopped_n'].iloc[0]} who got no further than a" in text
    assert "did so at once, with nothing between" in text
    assert readings.last_seen(leavers.last_seen(log, found, "a")).startswith("100.0 % (")
    told = leavers.drivers(log, found, "a", columns=["segment_price", "segment_device"])
    text = readings.drivers(told)
    assert "things that were there before tell the people who stop at a" in text
    assert "took about as long" not in text  # nobody needed any time from the entry to a
    slow = leaver_tests.compared(counts_of(("x", 50, 50), ("y", 90, 30)), of((200, 200)))
    slow.attrs["strata_n"] = 4
    assert readings.drivers(slow).endswith("The differences are between people who took about as long to get there.")
    assert "price 50" in text.split("These leave more often")[1].split("These leave less often")[0]
    assert leaver_levels.leading(found, "a") == ["segment_price", "segment_device"]
    levels = leaver_levels.levels(found, "a", "segment_price")
    text = readings.levels(levels, leaver_levels.trend(levels))
    assert text.startswith("The share lost at a rises with price: from ")
    words = readings.levels(leaver_levels.levels(found, "a", "segment_device"), leaver_levels.trend(levels.iloc[:0]))
    assert words.startswith("By device, most stop at a with phone")
    equal = leaver_levels.adjusted(found, "a", ["segment_price", "segment_device"])
    assert "with the others held equal: each 20 more of price: +" in readings.adjusted(equal)
    (finding,) = readings.findings(told, equal, owner="Shop team")
    assert (finding.id, finding.unit, finding.evidence, finding.owner) == (
        "leak_driver",
        "points",
        "associated",
        "Shop team",
    )
    assert finding.statement.startswith("Each 20 more of price goes with")
    assert "device held equal" in finding.statement
    assert finding.low < finding.value < finding.high
    (finding,) = readings.findings(told)
    assert finding.statement.startswith("People with price ")
    assert finding.table == "04_funnel__drivers"


def test_sentences_when_nothing_tells_or_much_is_structural() -> None:
    none = leaver_tests.compared(counts_of(("x", 50, 50)), of((200, 200)))
    assert readings.drivers(none) == (
        "None of 1 things that were there before tells the people who stop at the step from those who go on, beyond "
        "chance."
    )
    assert readings.findings(none) == []
    twin = leaver_tests.compared(counts_of(("twin", 2, 199)), of((200, 200)))
    assert readings.drivers(twin).startswith("Set apart, because nearly all of one side have it")
    assert readings.findings(twin) == []
    flat = levels_of([1, 2, 3], [30, 31, 30], [100, 100, 100])
    flat = flat.assign(lost_share=0.3, lost_share_low=0.2, lost_share_high=0.4)
    assert "may be chance" in readings.levels(flat, leaver_levels.trend(flat))


def test_pictures_are_drawn_from_their_tables(shop: tuple[pd.DataFrame, funnels.Reached]) -> None:
    log, _ = shop
    told = leavers.drivers(log, reach(log, "a", "b"), "a", columns=["segment_price", "segment_device"])
    ax = plots.drivers(told)
    assert len(ax.get_yticklabels()) == len(told)
    assert any(label.get_text() == "price: 50" for label in ax.get_yticklabels())
    drawn = sorted(line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1)
    assert drawn == pytest.approx(sorted(told["difference_points"]))
    levels = leaver_levels.levels(reach(log, "a", "b", by=["segment_price"]), "a", "segment_price")
    assert [label.get_text().split("\n")[0] for label in plots.levels(levels).get_xticklabels()] == levels[
        "level"
    ].tolist()
    nexts = plots.next_events(leavers.next_events(log, reach(log, "a", "b")))
    for picture in (ax, plots.levels(levels), nexts):
        assert "<svg" in theme.svg(picture)


# The bundled study: what was planted


@pytest.fixture(scope="module")
def store(request: pytest.FixtureRequest) -> nw.LazyFrame[Any]:
    """The touches of the bundled study, which a run leaves behind."""
    path = STORE / "derived" / "touches.parquet"
    if not path.exists():
        request.getfixturevalue("laptop_store")
    return engine.read_parquet(path)


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((STORE / "truth" / "truth.json").read_text())
    return facts


@pytest.fixture(scope="module")
def buyers(store: nw.LazyFrame[Any]) -> funnels.Reached:
    rules = {"within": "30d", "on": "touchpoint", "by": ["segment_shipping_price", "segment_device"]}
    return funnels.reach(store, steps=BUY, until=pd.Timestamp("2026-01-01"), **rules)


def test_the_shipping_cost_is_found_as_the_reason(store: nw.LazyFrame[Any], buyers: funnels.Reached) -> None:
    skip = ["segment_experiment", "segment_variant"]
    columns = ["touchpoint", *leavers.columns_worth_comparing(store, skip)]
    told = leavers.drivers(store, buyers, "Shipping cost", columns=columns, min_n=5)
    assert told[["kind", "feature"]].values.tolist()[:2] == [
        ["segment_shipping_price", "49.90"],
        ["segment_shipping_price", "9.90"],
    ]
    by = told.set_index(["kind", "feature"])
    assert by.loc[("segment_device", "mobile"), "difference_points_low"] > 0
    assert not told["is_structural"].any()
    # Of what was planted without an effect on leaving, little is called sure.
    assert not (by.loc["marketing_channel", "p_adjusted"].drop("email") < 0.05).any()


def test_the_share_lost_rises_with_the_price(buyers: funnels.Reached, plan: dict[str, Any]) -> None:
    levels = leaver_levels.levels(buyers, "Shipping cost", "segment_shipping_price")
    assert levels["level_mean"].tolist() == plan["planted"]["shipping_prices"]
    assert levels["lost_share"].is_monotonic_increasing
    assert (levels["lost_share_low"].iloc[1:].to_numpy() > levels["lost_share_high"].iloc[:-1].to_numpy()).all()
    row = leaver_levels.trend(levels).iloc[0]
    assert row["per"] == 10
    assert row["change_points_low"] > 8
    assert leaver_levels.leading(buyers, "Shipping cost")[:2] == ["segment_shipping_price", "segment_device"]


def test_planted_effects_are_recovered_by_visit(store: nw.LazyFrame[Any], plan: dict[str, Any]) -> None:
    """The story decides at each visit with a reveal, by price, device and whether the price was shown before.

    So the visit is what compares: per person, a second try on another day and device hides part of it, and is left to
    the next test. The engagement of people, which nothing shows, pulls all log-odds towards 0 by a few percent.
    """
    touches = engine.fetch(
        store.select(
            "person_id", "session_id", "position", "timestamp", "touchpoint", "event", "segment_device",
            "segment_shipping_price", "segment_experiment", "segment_variant",
        )
    )  # fmt: skip
    trial = next(trial for trial in plan["planted"]["trials"] if trial["name"] == "shipping_upfront")
    seen = (
        touches[touches["segment_experiment"] == "shipping_upfront"].drop_duplicates("person_id").set_index("person_id")
    )
    who = touches["person_id"]
    running = (touches["timestamp"] >= who.map(seen["timestamp"])) & (
        touches["timestamp"] < pd.Timestamp(trial["ends"])
    )
    arm = np.where(running & (who.map(seen["segment_variant"]) == "treatment"), "upfront", "not")
    phone = np.where(touches["segment_device"] == "mobile", "phone", "other")
    touches = touches.assign(segment_arm=arm, segment_phone=phone)
    by = ["segment_shipping_price", "segment_phone", "segment_arm"]
    visits = funnels.reach(touches, steps=["Shipping cost", "Checkout"], on="touchpoint", per="session", by=by)
    found = leaver_levels.adjusted(visits, "Shipping cost", by).set_index("by")
    planted_log_odds = {
        "segment_shipping_price": -plan["planted"]["checkout_per_10_eur_shipping"],
        "segment_phone": -plan["planted"]["checkout_mobile"],
        "segment_arm": -plan["planted"]["shipping_upfront_checkout"],
    }
    levels = {"segment_shipping_price": "per 10", "segment_phone": "phone", "segment_arm": "upfront"}
    for name, true in planted_log_odds.items():
        row = found.loc[name]
        sign = 1 if row["level"] == levels[name] else -1
        bounds = sorted([sign * row["log_odds_low"], sign * row["log_odds_high"]])
        assert bounds[0] <= true <= bounds[1], name
        assert bounds[0] > 0 or bounds[1] < 0, name


def test_per_person_a_second_try_hides_part_of_it(buyers: funnels.Reached, plan: dict[str, Any]) -> None:
    found = leaver_levels.adjusted(buyers, "Shipping cost", ["segment_shipping_price", "segment_device"])
    price = found[found["by"] == "segment_shipping_price"].iloc[0]
    assert 0.3 < price["log_odds"] < -plan["planted"]["checkout_per_10_eur_shipping"]
    desktop = found[found["level"] == "desktop"].iloc[0]
    assert plan["planted"]["checkout_mobile"] < desktop["log_odds"] < 0


def test_those_who_stop_do_what_the_story_says(store: nw.LazyFrame[Any], buyers: funnels.Reached) -> None:
    nexts = leavers.next_events(store, buyers, "Shipping cost", min_n=5)
    assert nexts["stopped_n"].iloc[0] == nexts["n"].sum()
    assert nexts["next_step"].iloc[0] == funnels.NOTHING_MORE
    after = leavers.afterwards(store, buyers, "Shipping cost", min_n=5).set_index("feature")
    assert (
        after.loc["Showroom", "stopped_share"] > 10 * after.loc["Showroom", "went_on_share"]
    )  # they buy there instead
    assert after.loc["Order", "went_on_n"] == 0
    assert after["before_next_share"].dropna().max() < 0.95


@pytest.mark.parametrize("order", [("zeta", "alpha"), ("alpha", "zeta")])
def test_of_features_that_the_same_units_have_the_first_by_name_is_told(order: tuple[str, str]) -> None:
    log = make_log(" | ".join([f"u: ad {' '.join(order)}"] * 30 + ["u: ad beta buy"] * 30))
    for _ in range(5):  # the engine returns groups in any order
        found = leavers.afterwards(log, funnels.reach(log, steps=["ad", "buy"]), "ad", columns=["event"], within="1h")
        assert found.loc[found["stopped_n"] == 30, "feature"].tolist() == ["alpha"]
