"""Rework, ping-pong, next steps and detours: by hand, against a slow version, on planted truth and real logs."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from journeykit import config, detours, engine, friction, sequences, stats
from journeykit.errors import JourneyError
from journeykit.plots import friction as plots
from journeykit.plots import theme
from journeykit.readings import friction as readings
from tests import slow_friction
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data"


def figures(name: str) -> dict[str, Any]:
    found = json.loads((REAL / name / "expected.json").read_text(encoding="utf-8"))["figures"]
    return {key: figure["value"] for key, figure in found.items()}


# ── Rework ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rework_by_hand() -> None:
    log = make_log("u1: a a b a c d a ; a b b a | u2: a b c | u3: d")
    table = friction.rework(log, on="event").set_index("value")
    counts = ["n", "people_n", "rework_n", "loop_n", "ping_pong_n", "return_n", "units_n", "units_again_n"]
    assert table.loc["(all)", counts].tolist() == [15, 3, 5, 2, 2, 1, 4, 2]
    assert table.loc["a", counts].tolist() == [7, 2, 4, 1, 2, 1, 3, 2]
    assert table.loc["b", counts].tolist() == [4, 2, 1, 1, 0, 0, 3, 1]
    assert table.loc["d", counts].tolist() == [2, 2, 0, 0, 0, 0, 2, 0]
    assert table.loc["(all)", "rework_share"] == pytest.approx(5 / 15)
    assert table.loc["(all)", "units_again_share"] == pytest.approx(2 / 4)
    assert list(table.index) == ["(all)", "a", "b", "c", "d"]
    few = friction.rework(log, on="event", min_n=2)
    assert few["value"].tolist() == ["(all)", "a", "b", "c", "d"]
    assert few["n"].iloc[0] == 15
    assert friction.rework(log, on="event", min_n=3)["value"].tolist() == ["(all)"]
    whole = friction.rework(log, on="event", within="person").set_index("value")
    assert whole.loc["(all)", counts].tolist() == [15, 3, 7, 3, 2, 2, 3, 1]  # the second journey goes on with a


def test_the_interval_takes_people_as_independent() -> None:
    one = friction.rework(make_log("u1: " + "a " * 50 + "| u2: " + " ".join(f"b{k}" for k in range(50))), on="event")
    row = one.iloc[0]
    assert row["rework_share"] == pytest.approx(0.49)
    assert row["rework_share_low"] < 0.1  # 100 events, but two people: nearly nothing is known
    assert row["rework_share_high"] > 0.9
    alone = friction.rework(make_log(" | ".join(f"u{k}: a a" for k in range(50))), on="event").iloc[0]
    assert alone["rework_share"] == 0.5


def test_ping_pong_by_hand() -> None:
    log = make_log("u1: a b a b c | u2: b a a b | u3: c d c | u4: a a")
    table = friction.ping_pong(log, on="event")
    assert table[["pair", "n", "people_n", "units_n", "events_n"]].values.tolist() == [
        ["a ⇄ b", 3, 2, 2, 14],
        ["c ⇄ d", 1, 1, 1, 14],
    ]
    assert table["share"].tolist() == pytest.approx([3 / 14, 1 / 14])
    assert (table["share_low"] < table["share"]).all()
    assert (table["share"] < table["share_high"]).all()
    assert friction.ping_pong(log, on="event", min_n=2)["pair"].tolist() == ["a ⇄ b"]


@settings(max_examples=12, deadline=None)
@given(slow_friction.logs())
def test_rework_of_random_logs(log: pd.DataFrame) -> None:
    for within in ("journey", "person"):
        known = slow_friction.repeats(log, "value_of", f"{within}_id")
        table = friction.rework(log, on="value_of", within=within)
        if not known:
            assert "n = 0" in stats.reason_of(table)
            continue
        for row in table.to_dict("records"):
            mine = {key: n for key, n in known.items() if row["value"] in (friction.ALL, key[1])}
            n = Counter[int]()
            parts = {kind: Counter[int]() for kind in ("first", "loop", "ping_pong", "return")}
            for (who, _, kind, _), count in mine.items():
                n[who] += count
                parts[kind][who] += count
            parts["rework"] = parts["loop"] + parts["ping_pong"] + parts["return"]
            assert (row["n"], row["people_n"]) == (n.total(), len(n))
            assert row["n"] - row["rework_n"] == parts["first"].total()
            for kind in ("rework", "loop", "ping_pong", "return"):
                assert row[f"{kind}_n"] == parts[kind].total()
                k, all_, kk, kn, nn, clusters = slow_friction.clustered(parts[kind], n)
                bounds = stats.clustered(k, all_, kk, kn, nn, clusters)
                assert [row[f"{kind}_share_low"], row[f"{kind}_share_high"]] == pytest.approx(bounds)
        pairs: Counter[str] = Counter()
        for (_, value, kind, other), count in known.items():
            if kind == "ping_pong":
                pairs[friction.ARROW.join(sorted([value, other]))] += count
        found = friction.ping_pong(log, on="value_of", within=within)
        assert dict(zip(found["pair"], found["n"], strict=True)) == dict(pairs)


# ── Next steps ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_next_steps_by_hand() -> None:
    log = make_log(" | ".join([f"u{k}: a b{k % 4}" for k in range(8)] + ["v: c d", "w: c d"]))
    table = friction.next_steps(log, on="event", min_pairs=2).set_index("value")
    assert table.loc["a", ["n", "people_n", "different_n"]].tolist() == [8, 8, 4]
    corrected = 2 + 3 / (2 * 8 * np.log(2))
    assert table.loc["a", "entropy_bits"] == pytest.approx(corrected)
    assert table.loc["a", "effective_next"] == pytest.approx(2**corrected)
    assert table.loc["a", "effective_next_low"] < 4 < table.loc["a", "effective_next_high"]
    assert table.loc["c", ["effective_next", "effective_next_low"]].tolist() == [1, 1]
    assert table.loc["c", "effective_next_high"] > 1  # two people say little about what else there may be
    assert table.loc["c", "top_next"] == "d"
    assert "at least 100" in stats.reason_of(friction.next_steps(log, on="event"))
    assert "a" in friction.next_steps(log, on="event", min_pairs=8)["value"].tolist()


ZIPF = np.arange(1, 10) ** -1.8051
TRUE = ZIPF / ZIPF.sum()  # its effective number is 3.84


def test_the_planted_effective_number() -> None:
    assert 2 ** -(TRUE * np.log2(TRUE)).sum() == pytest.approx(3.84, abs=0.002)


def test_the_correction_takes_away_most_of_the_bias() -> None:
    rng, runs = np.random.default_rng(3), 800
    counts = rng.multinomial(30, TRUE, runs)
    run, step = np.nonzero(counts)
    pairs = pd.DataFrame({"value": run, "next": step.astype(str), "n": counts[run, step]})
    table, _ = friction._entropies(pairs)
    corrected = friction._with_bounds(table.assign(ss=0.0, people_n=30))["effective_next"]
    assert np.mean(2 ** table["plain"]) == pytest.approx(3.40, abs=0.06)
    assert np.mean(corrected) == pytest.approx(3.69, abs=0.07)


@pytest.mark.parametrize(("people", "each", "alike"), [(200, 1, 0.0), (80, 4, 0.8)])
def test_the_interval_of_next_steps_covers(people: int, each: int, alike: float) -> None:
    """In 100 runs (the values): `alike` is the chance that a step of a person is the same as the person's first."""
    rng, runs = np.random.default_rng(11), 100
    drawn = rng.choice(len(TRUE), (runs, people, each), p=TRUE)
    drawn = np.where(rng.random(drawn.shape) < alike, drawn[:, :, :1], drawn)
    n = drawn.size
    start = np.repeat([f"run {k}" for k in range(runs)], people * each)
    log = pd.DataFrame(
        {
            "person_id": np.repeat(np.tile(np.repeat(np.arange(people), each), runs), 2),
            "journey_id": np.repeat(np.arange(n), 2),
            "position": np.tile([1, 2], n),
            "touchpoint": np.column_stack([start, drawn.ravel().astype(str)]).ravel(),
        }
    )
    table = friction.next_steps(log)
    assert len(table) == runs
    assert ((table["effective_next_low"] <= 3.84) & (table["effective_next_high"] >= 3.84)).sum() >= 88
    if alike:  # taking pairs as independent would not do
        narrow = np.log2(table["effective_next_high"] / table["effective_next_low"]).mean()
        assert narrow > 1.5 * 2 * 1.96 * np.sqrt((TRUE * np.log2(TRUE) ** 2).sum() - np.log2(3.84) ** 2) / np.sqrt(320)


def test_next_steps_of_a_real_log_have_the_entropy_of_its_transitions() -> None:
    if not (REAL / "ecom_clickstream").exists():
        pytest.skip("the shared data is not here")
    log = helpdesk()
    counts: Counter[tuple[str, str]] = Counter()
    for _, part in log.groupby("journey_id", sort=False):
        counts.update(pairwise(part["touchpoint"]))
    leaving = Counter({name: sum(n for (one, _), n in counts.items() if one == name) for name in log["touchpoint"]})
    table = friction.next_steps(log, min_pairs=1).set_index("value")
    for name, n in leaving.items():
        p = np.array([count / n for (one, _), count in counts.items() if one == name and n])
        if n:
            expected = -(p * np.log2(p)).sum() + (len(p) - 1) / (2 * n * np.log(2))
            assert table.loc[name, "entropy_bits"] == pytest.approx(expected)


# ── Detours ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_detour_by_hand() -> None:
    log = make_log(
        "u1: x cart x x buy buy | u2: cart buy | u3: cart x | u4: buy cart | u5: cart x | u6: cart cart buy | u7: x"
    )
    journeys = pd.DataFrame({"journey_id": range(1, 8), "outcome": ["converted"] * 4 + ["open"] * 2 + ["abandoned"]})
    row = detours.detour(log, start="cart", end="buy", on="event", journeys=journeys).iloc[0]
    counts = ["planned_n", "n", "people_n", "arrived_n", "never_arrived_n", "open_n", "twice_n", "direct_n"]
    assert row[counts].tolist() == [1, 5, 6, 3, 2, 1, 2, 1]  # u5 may still come, u6 has arrived already
    assert row["never_arrived_share"] == pytest.approx(2 / 5)
    assert row["median_ratio"] == 2
    assert row["extra_steps_n"] == 2 + 1
    assert np.isnan(row["extra_days"])  # one who took the minimum is no measure
    closed = detours.detour(log, start="cart", end="buy", on="event").iloc[0]
    assert closed[["n", "never_arrived_n", "open_n"]].tolist() == [6, 3, 0]
    person = detours.detour(log, start="cart", end="buy", on="event", within="person", journeys=journeys).iloc[0]
    assert person["open_n"] == 0


def test_the_planned_steps_are_those_that_are_not_optional() -> None:
    log = make_log("u1: ad visit cart help buy | u2: ad buy")
    plan = ["ad", "visit | call", "help?", "cart", "buy"]
    row = detours.detour(log, start="ad", end="buy", plan=plan, on="event").iloc[0]
    assert row["planned_n"] == 3
    assert row["median_ratio"] == pytest.approx((4 / 3 + 1 / 3) / 2)
    assert (row["direct_n"], row["extra_steps_n"]) == (1, 1)
    assert detours.detour(log, start="call", end="cart", plan=plan, on="event")["planned_n"].iloc[0] == 1
    table = detours.detours(log, plan=plan, on="event")
    assert len(table) == 10
    assert set(zip(table["from"], table["to"], strict=True)) >= {("ad", "visit | call"), ("help", "buy")}
    with pytest.raises(JourneyError, match=r"no step 'carts'.*Did you mean 'cart'"):
        detours.detour(log, start="ad", end="carts", plan=plan, on="event")
    with pytest.raises(JourneyError, match="'ad' before 'buy'"):
        detours.detour(log, start="buy", end="ad", plan=plan, on="event")
    assert "plan" in stats.reason_of(detours.detours(log, plan=[], on="event"))


def test_extra_time_is_against_those_who_took_the_minimum() -> None:
    direct = [f"u{k}: a@0h b@{k + 1}h" for k in range(9)]  # 1 … 9 hours, median 5
    slow = [f"v{k}: a@0h x@1h b@{20 + k}h" for k in range(9)]  # 20 … 28 hours, median 24
    row = detours.detour(make_log(" | ".join(direct + slow)), start="a", end="b", on="event").iloc[0]
    assert row["extra_days"] == pytest.approx(19 / 24)
    assert row["extra_p90_days"] == pytest.approx((27.2 - 5) / 24)
    assert row["extra_days_low"] == pytest.approx((19 - np.hypot(3, 3)) / 24)  # 95 %: second to eighth of nine
    assert row["extra_days_high"] == pytest.approx((19 + np.hypot(3, 3)) / 24)
    assert row["twice_share"] == 0.5


@settings(max_examples=12, deadline=None)
@given(slow_friction.logs())
def test_detours_of_random_logs(log: pd.DataFrame) -> None:
    steps: dict[str, set[str]] = {"a": {"a"}, "b | c": {"b", "c"}, "b": {"b"}}
    for within in ("journey", "person"):
        table = detours.detours(log, plan=list(steps), on="value_of", within=within)
        if table.empty:
            assert stats.reason_of(table)
            continue
        found = {(row["from"], row["to"]): row for row in table.to_dict("records")}
        for start, end, planned in (("a", "b | c", 1), ("a", "b", 2), ("b | c", "b", 1)):
            known = slow_friction.ways(log, "value_of", f"{within}_id", steps[start], steps[end])
            if not known:
                assert (start, end) not in found
                continue
            row = found[start, end]
            taken = [steps_n for *_, steps_n, _ in known if steps_n is not None]
            assert (row["n"], row["arrived_n"]) == (len(known), len(taken))
            assert row["never_arrived_n"] == len(known) - len(taken)
            assert row["people_n"] == len({who for who, *_ in known})
            assert row["twice_n"] == sum(steps_n >= 2 * planned for steps_n in taken)
            assert row["direct_n"] == sum(steps_n <= planned for steps_n in taken)
            if taken:
                assert row["extra_steps_n"] == sum(max(steps_n - planned, 0) for steps_n in taken)
                assert row["median_ratio"] == pytest.approx(np.median(taken) / planned)


def test_running_journeys() -> None:
    days = pd.to_datetime(["2025-01-01", "2025-03-01", "2025-03-01", "2025-03-01"])
    outcome = ["converted", "converted", "open", "abandoned"]
    made = pd.DataFrame({"journey_id": range(1, 5), "outcome": outcome, "ended_at": days})
    wide = config.Journeys(conversion="buy", gap="30d")
    narrow = wide.model_copy(update={"scope": "narrow"})
    for plan, expected in ((wide, [0, 1, 1, 0]), (narrow, [0, 0, 1, 0])):
        found = engine.fetch(sequences.running(made, plan=plan, until=pd.Timestamp("2025-03-31")))
        assert found["running"].tolist() == expected
    assert engine.fetch(sequences.running(made, plan=wide, until="2025-04-01"))["running"].tolist() == [0, 0, 1, 0]


# ── All of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

CALLS: list[tuple[Any, dict[str, Any]]] = [
    (friction.rework, {}),
    (friction.ping_pong, {}),
    (friction.next_steps, {"min_pairs": 1}),
    (detours.detours, {"plan": ["a", "b", "c"]}),
    (detours.detour, {"start": "a", "end": "c"}),
]


def random_log(seed: int, people: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(people):
        hours = np.sort(rng.integers(0, 9, rng.integers(2, 12)))
        parts.append(f"u{person}: " + " ".join(f"{rng.choice(list('abcd'))}@{hour}h" for hour in hours))
    return make_log(" | ".join(parts))


@pytest.mark.parametrize(("function", "options"), CALLS)
def test_engines_agree_and_order_of_rows_does_not_matter(function: Any, options: dict[str, Any]) -> None:
    log = random_log(4).drop(columns=["marketing_channel", "team"])
    expected = function(log, on="event", **options)
    assert len(expected)
    before = log.copy()
    shuffled = log.drop(columns="position").sample(frac=1, random_state=1)
    for frame in (pl.from_pandas(log), pl.from_pandas(shuffled).lazy(), engine.lazy(log), shuffled):
        pd.testing.assert_frame_equal(function(frame, on="event", **options), expected, check_dtype=False)
    pd.testing.assert_frame_equal(log, before)


@pytest.mark.parametrize(("function", "options"), CALLS)
def test_hostile_input(function: Any, options: dict[str, Any]) -> None:
    log = make_log("u1: a b a c")
    for hostile in (log.head(0), log.assign(touchpoint=None), log.assign(journey_id=None)):
        found = function(hostile, **options)
        assert found.empty
        assert "not enough" in stats.reason_of(found) or "fewer than" in stats.reason_of(found)
    assert len(function(log, **options)) > 0
    assert function(log, min_n=2, **options).empty
    with pytest.raises(JourneyError, match="'touchpoint'"):
        function(log.rename(columns={"touchpoint": "touch_point"}), **options)
    with pytest.raises(JourneyError, match="'session'"):
        function(log, within="sessions", **options)


def helpdesk() -> pd.DataFrame:
    raw = pd.read_csv(REAL / "helpdesk_tickets" / "helpdesk.csv.gz")
    return pd.DataFrame(
        {
            "event_id": [f"{row:06d}" for row in range(len(raw))],
            "timestamp": pd.to_datetime(raw["time:timestamp"], utc=True, format="ISO8601").dt.tz_localize(None),
            "source": "helpdesk",
            "source_row": range(len(raw)),
            "person_id": pd.factorize(raw["case:concept:name"])[0] + 1,
            "journey_id": pd.factorize(raw["case:concept:name"])[0] + 1,
            "touchpoint": raw["concept:name"],
        }
    )


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_a_real_log_of_tickets() -> None:
    known, log = figures("helpdesk_tickets"), helpdesk()
    table = friction.rework(log).set_index("value")
    assert table.loc["(all)", "n"] == known["events"]
    assert table.loc["(all)", "units_n"] == known["cases"]
    assert table.loc["Resolve ticket", "units_again_n"] == known["cases_resolved_more_than_once"]
    assert table.loc["Wait", "units_n"] == known["cases_with_wait"]
    loops = {name: known["transitions"][f"{name} -> {name}"] for name in ("Assign seriousness", "Wait", "Closed")}
    assert {name: table.loc[name, "loop_n"] for name in loops} == loops
    row = detours.detour(log, start="Assign seriousness", end="Take in charge ticket").iloc[0]
    assert row["arrived_n"] == known["funnel_ordered_cases"]["Take in charge ticket"]
    assert row["n"] == known["funnel_ordered_cases"]["Assign seriousness"]


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_a_real_log_of_a_player() -> None:
    known = figures("sparkify_log")
    files = sorted((REAL / "sparkify_log" / "log_data").rglob("*.json*"))
    raw = pd.concat([pd.read_json(path, lines=True, dtype={"userId": str}) for path in files], ignore_index=True)
    raw = raw.sort_values(["ts", "sessionId", "itemInSession"], ignore_index=True)
    users = raw[raw["userId"] != ""].groupby("sessionId")["userId"].first()
    log = pd.DataFrame({"event_id": raw.index.astype(str), "timestamp": pd.to_datetime(raw["ts"], unit="ms")})
    log = log.assign(source="log", source_row=raw.index, event=raw["page"], session_id=raw["sessionId"])
    log = log.assign(person_id=pd.factorize(raw["sessionId"].map(users).fillna(raw["sessionId"].astype(str)))[0])
    table = friction.rework(log, on="event", within="session").set_index("value")
    assert {page: table.loc[page, "n"] for page in known["events_by_page"]} == known["events_by_page"]
    assert table.loc["(all)", "units_n"] == known["sessions"]
    assert table.loc["NextSong", "loop_n"] == known["page_transitions_in_session_top25"]["NextSong -> NextSong"]
    known_users = log[raw["sessionId"].isin(users.index)]
    ordered = known["funnel_ordered_users_Home_Upgrade_SubmitUpgrade"]
    row = detours.detour(known_users, start="Home", end="Upgrade", on="event", within="person").iloc[0]
    assert (row["n"], row["arrived_n"]) == (ordered["Home"], ordered["Upgrade"])


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_a_real_log_of_clicks() -> None:
    raw = pd.read_csv(REAL / "ecom_clickstream" / "ecom.csv.gz", parse_dates=["timestamp"])
    log = raw.assign(
        event_id=[f"{row:06d}" for row in range(len(raw))],
        source="ecom",
        source_row=range(len(raw)),
        person_id=pd.factorize(raw["user_id"])[0],
        session_id=pd.factorize(raw["session_id"])[0],
    )
    table = friction.rework(log, on="event", within="session").iloc[0]
    assert table["n"] == len(raw)
    different = raw.groupby("session_id")["event"].nunique().sum()
    assert table["rework_n"] == len(raw) - different
    known = figures("ecom_clickstream")["funnel_ordered_sessions"]
    steps = list(known)
    row = detours.detour(log, start=steps[0], end=steps[1], on="event", within="session").iloc[0]
    assert (row["n"], row["arrived_n"]) == (known[steps[0]], known[steps[1]])


# ── Sentences and charts ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def busy() -> pd.DataFrame:
    return make_log(
        " | ".join(["u: ad@0h x@1h x@3h x@5h cart@9h buy@10h", "u: ad x ad cart ad cart", "u: ad@0h cart@1h"] * 40)
    )


def test_sentences_hold_the_numbers_of_the_tables(busy: pd.DataFrame) -> None:
    ways = detours.detours(busy, plan=["ad", "cart", "buy"], on="event")
    text = readings.detours(ways)
    assert "From ad to cart journeys take a median of 3 steps where 1 would do" in text
    assert "Of 120 that arrive, 66.7 % (" in text
    assert "Those who take more than planned need" in text
    assert "0.0 % (0.0–3.1 %) of 120 never arrive" in text
    again = friction.rework(busy, on="event")
    text = readings.rework(again)
    assert "of 560 events repeat what the same journey has had before" in text
    assert "66.7 % (" in text
    assert "Most often repeated is ad: 40.0 % (" in text
    pairs = friction.ping_pong(busy, on="event")
    assert readings.ping_pong(pairs).startswith("Most go to and fro between ad and cart: 80 times by 40 people")
    steps = friction.next_steps(busy, on="event", min_pairs=30)
    assert readings.next_steps(steps).startswith("Of the 3 most frequent values, x leads on in most ways: 2.8 (")
    found = {item.id: item for item in readings.findings(ways, again, pairs, stats.not_enough([], ""))}
    assert set(found) == {"detour", "rework"}
    assert (found["detour"].value, found["detour"].n, found["detour"].unit) == (3, 120, "ratio")
    assert found["rework"].n == 560
    assert found["rework"].low < found["rework"].value < found["rework"].high
    assert all(item.action and item.caveat for item in found.values())


def test_what_is_no_detour_is_no_finding() -> None:
    straight = make_log(" | ".join(["u: ad cart"] * 40))
    ways = detours.detours(straight, plan=["ad", "cart"], on="event")
    again, pairs = friction.rework(straight, on="event"), friction.ping_pong(straight, on="event")
    assert readings.findings(ways, again, pairs, stats.not_enough([], "")) == []
    few = detours.detours(make_log("u1: ad x cart"), plan=["ad", "cart"], on="event")
    assert "Too few" in readings.detours(few)
    empty = stats.not_enough(detours.PAIRS, "none")
    for say in (readings.detours, readings.rework, readings.ping_pong, readings.next_steps):
        assert say(empty) == ""


def test_a_detour_within_a_detour_is_named_once(busy: pd.DataFrame) -> None:
    ways = detours.detours(busy, plan=["ad", "cart", "buy"], on="event").set_index(["from", "to"])
    assert ways.loc[("ad", "cart"), "within_it"] == ""
    assert ways.loc[("ad", "buy"), "within_it"] == "ad → cart"
    drawn = plots.detours(ways.reset_index())
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["ad → cart  (n = 120)", "cart → buy  (n = 40)"]


def test_charts_take_the_tables(busy: pd.DataFrame) -> None:
    for ax in (
        plots.rework(friction.rework(busy, on="event")),
        plots.rework(friction.rework(make_log("u1: a b"), on="event")),
        plots.next_steps(friction.next_steps(busy, on="event", min_pairs=30)),
        plots.detours(detours.detours(busy, plan=["ad", "cart", "buy"], on="event")),
    ):
        assert theme.svg(ax).startswith("<?xml")
