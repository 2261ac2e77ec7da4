"""Cohorts, lifecycle and stickiness: hand-checked logs, a slow version in plain Python, and the published CDNOW log."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import stats
from journeykit.churn import cohorts as cohort_table
from journeykit.churn import lifecycle as life
from journeykit.churn.cohorts import cohorts
from journeykit.churn.lifecycle import lifecycle, quick_ratio, stickiness
from journeykit.errors import JourneyError

CDNOW = Path(__file__).resolve().parents[2] / "shared" / "data" / "cdnow_purchases"
DAYS = {"day": 1, "week": 7, "month": 30}
Log = Callable[..., pd.DataFrame]


# ── Slow versions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def local(at: pd.Timestamp, zone: str) -> pd.Timestamp:
    return at.tz_localize("UTC").tz_convert(zone)


def begin_of(at: pd.Timestamp, period: str) -> pd.Timestamp:
    """The start of the calendar period of a local time."""
    day = at.tz_localize(None).normalize()
    if period == "week":
        day -= pd.Timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def ahead(begin: pd.Timestamp, period: str, k: int) -> pd.Timestamp:
    return begin + (pd.DateOffset(months=k) if period == "month" else pd.Timedelta(days=k * DAYS[period]))


def slow_cohorts(
    log: pd.DataFrame, start: str, back: str, as_of: str, zone: str, period: str, periods: int, switches: dict[str, str]
) -> dict[tuple[pd.Timestamp, int], tuple[int, int, bool]]:
    """(cohort, period) -> (n, returned, complete), one person after the other."""
    until = pd.Timestamp(as_of)
    log = log[log["timestamp"] <= until]
    rolling = switches["windows"] == "rolling"
    units: dict[pd.Timestamp, list[tuple[pd.Timestamp, set[int]]]] = defaultdict(list)
    for _, part in log.groupby("person_id"):
        starts = sorted(part.loc[part["event"] == start, "timestamp"])
        first: dict[pd.Timestamp, pd.Timestamp] = {}
        for at in starts:
            first.setdefault(begin_of(local(at, zone), period), at)
        if switches["occurrence"] == "first-time":
            first = dict(itertools.islice(first.items(), 1))
        for cohort, at in first.items():
            seen = set()
            for later in part.loc[part["event"] == back, "timestamp"]:
                if rolling:
                    k = math.floor((later - at) / pd.Timedelta(days=DAYS[period]))
                else:
                    own = begin_of(local(later, zone), period)
                    months = 12 * (own.year - cohort.year) + own.month - cohort.month
                    k = months if period == "month" else (own - cohort).days // DAYS[period]
                if k >= 1:
                    seen.add(k)
            if switches["counted"] == "on or after":
                seen = {k for k in range(1, periods + 1) if any(more >= k for more in seen)}
            units[cohort].append((at, seen))
    found = {}
    for cohort, people in units.items():
        for k in range(periods + 1):
            if rolling:
                length = pd.Timedelta(days=DAYS[period])
                begin = min(at for at, _ in people) + k * length
                close = max(at for at, _ in people) + (k + 1) * length
            else:
                begin, close = (
                    ahead(cohort, period, more).tz_localize(zone).tz_convert("UTC").tz_localize(None)
                    for more in (k, k + 1)
                )
            if k and begin + (close - begin) / 10 > until:
                break
            base = [seen for _, seen in people if switches["relative_to"] == "start" or k < 2 or k - 1 in seen]
            if base:
                hits = len(base) if k == 0 else sum(k in seen for seen in base)
                found[cohort, k] = (len(base), hits, close <= until + pd.Timedelta(microseconds=1))
    return found


def slow_states(log: pd.DataFrame, as_of: str, zone: str, period: str) -> dict[pd.Timestamp, dict[str, set[int]]]:
    until = pd.Timestamp(as_of)
    active: dict[pd.Timestamp, set[int]] = defaultdict(set)
    for person, at in log.loc[log["timestamp"] <= until, ["person_id", "timestamp"]].itertuples(index=False):
        active[begin_of(local(at, zone), period)].add(person)
    found: dict[pd.Timestamp, dict[str, set[int]]] = {}
    now, seen, before = min(active), set(), set()
    while now <= begin_of(local(until, zone), period):
        here = active.get(now, set())
        found[now] = {
            "new": here - seen,
            "returning": here & before,
            "resurrected": (here & seen) - before,
            "dormant": before - here,
        }
        seen, before, now = seen | here, here, ahead(now, period, 1)
    return found


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    """Sixty people over four months, some often, some once; whole hours, so that edges are hit."""
    rng = np.random.default_rng(5)
    rows = []
    for person in range(1, 61):
        begin = rng.integers(0, 24 * 100)
        for _ in range(rng.integers(1, 14)):
            at = pd.Timestamp("2025-01-20") + pd.Timedelta(hours=int(begin + rng.exponential(24 * 25)))
            rows.append((person, at, rng.choice(["visit", "order"])))
    table = pd.DataFrame(rows, columns=["person_id", "timestamp", "event"])
    return table.sample(frac=1, random_state=1, ignore_index=True)


# ── Cohorts ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL = """
    a: order@0d order@40d order@75d | b: order@5d visit@33d | c: order@20d order@95d |
    d: order@35d order@36d order@65d | e: visit@1d order@50d
"""  # Jan: a b c; Feb (days 31–58): a again, d, e; Mar (59–89): a again, d again; Apr: c again


def cells(table: pd.DataFrame) -> dict[str, list[tuple[int, int, int]]]:
    return {
        str(name): list(part[["period", "n", "returned_n"]].itertuples(index=False, name=None))
        for name, part in table.groupby("cohort", sort=False)
    }


def test_first_starts_and_exact_returns_by_hand(log: Log) -> None:
    found = cohorts(log(SMALL), start=["order"], returning=["order"], as_of="2025-04-30 23:00", min_n=1)
    assert cells(found) == {
        "Jan 2025": [(0, 3, 3), (1, 3, 1), (2, 3, 1), (3, 3, 1)],
        "Feb 2025": [(0, 2, 2), (1, 2, 1), (2, 2, 0)],
        "Weighted mean": [(0, 5, 5), (1, 5, 2), (2, 3, 1)],
    }
    assert found["complete"].tolist() == [True, True, True, False, True, True, False, True, True, True]
    assert found.loc[found["period"] > 0, "retained_share_low"].iloc[0] == pytest.approx(stats.wilson(1, 3)[0])
    assert found["cohorts_n"].tolist() == [1] * 7 + [2, 2, 1]


def test_each_switch_by_hand(log: Log) -> None:
    touches = log(SMALL)
    options: dict[str, Any] = {"start": ["order"], "returning": ["order"], "as_of": "2025-04-30 23:00", "min_n": 1}
    later = cohorts(touches, **options, counted="on or after")
    assert cells(later)["Jan 2025"] == [(0, 3, 3), (1, 3, 2), (2, 3, 2), (3, 3, 1)]
    previous = cohorts(touches, **options, counted="on or after", relative_to="previous")
    assert cells(previous)["Jan 2025"] == [(0, 3, 3), (1, 3, 2), (2, 2, 2), (3, 2, 1)]
    exact = cohorts(touches, **options, relative_to="previous")
    assert cells(exact)["Jan 2025"] == [(0, 3, 3), (1, 3, 1), (2, 1, 1), (3, 1, 0)]
    recurring = cohorts(touches, **options, occurrence="recurring")
    assert cells(recurring)["Feb 2025"] == [(0, 3, 3), (1, 3, 2), (2, 3, 0)]
    assert cells(recurring)["Mar 2025"] == [(0, 2, 2), (1, 2, 0)]
    rolling = cohorts(touches, **options, windows="rolling")  # a came on days 40 and 75 after it, c on day 75
    assert cells(rolling)["Jan 2025"][:3] == [(0, 3, 3), (1, 3, 1), (2, 3, 2)]
    averaged = cohorts(touches, **options, incomplete="averaged")
    assert cells(averaged)["Weighted mean"] == [(0, 5, 5), (1, 5, 2), (2, 5, 1), (3, 3, 1)]
    assert averaged["complete"].tolist()[-4:] == [True, True, False, False]
    simple = cohorts(touches, **options, mean="simple")
    mean = simple[simple["cohort"] == "Simple mean"].set_index("period")
    assert mean.loc[1, "retained_share"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    expected = np.clip(stats.mean_interval([1 / 3, 1 / 2])[1:], 0, 1)
    assert mean.loc[1, ["retained_share_low", "retained_share_high"]].tolist() == pytest.approx(expected)
    assert math.isnan(mean.loc[2, "retained_share_low"])  # one cohort does not say how cohorts differ


SWITCHES = {
    "occurrence": ("first-time", "recurring"),
    "counted": ("on", "on or after"),
    "relative_to": ("start", "previous"),
    "windows": ("calendar", "rolling"),
}


@pytest.mark.parametrize("chosen", list(itertools.product(*SWITCHES.values())), ids=", ".join)
def test_the_slow_version_counts_the_same(drawn: pd.DataFrame, chosen: tuple[str, ...]) -> None:
    switches: dict[str, Any] = dict(zip(SWITCHES, chosen, strict=True))
    period, zone, as_of = "week", "Europe/Berlin", "2025-05-14 12:00"
    found = cohorts(
        drawn, start=["order"], returning=["visit"], as_of=as_of, timezone=zone, period=period, periods=9, min_n=1,
        **switches,
    )  # fmt: skip
    rows = found[found["cohort_at"].notna()]
    made = {(row.cohort_at, row.period): (row.n, row.returned_n, row.complete) for row in rows.itertuples(index=False)}
    assert made == slow_cohorts(drawn, "order", "visit", as_of, zone, period, 9, switches)
    means = found[found["cohort_at"].isna()].set_index("period")
    whole = rows[rows["complete"]].groupby("period")[["n", "returned_n"]].sum()
    pd.testing.assert_frame_equal(means[["n", "returned_n"]], whole)


@pytest.mark.parametrize(("period", "zone"), [("month", "America/New_York"), ("day", "Asia/Kolkata")])
def test_the_slow_version_counts_the_same_on_other_clocks(drawn: pd.DataFrame, period: str, zone: str) -> None:
    switches = {"occurrence": "first-time", "counted": "on", "relative_to": "start", "windows": "calendar"}
    found = cohorts(
        drawn, start=["order"], returning=["order"], as_of="2025-05-20", timezone=zone, period=period, periods=6,  # type: ignore[arg-type]
        min_n=1,
    )  # fmt: skip
    rows = found[found["cohort_at"].notna()]
    made = {(row.cohort_at, row.period): (row.n, row.returned_n, row.complete) for row in rows.itertuples(index=False)}
    assert made == slow_cohorts(drawn, "order", "order", "2025-05-20", zone, period, 6, switches)


def test_months_begin_on_the_clock_of_the_study() -> None:
    times = pd.to_datetime(["2025-01-31 22:59", "2025-01-31 23:00", "2025-03-31 21:59", "2025-03-31 22:00"])
    log = pd.DataFrame({"person_id": [1, 2, 3, 4], "event": "order", "timestamp": times})
    berlin = cohorts(log, as_of="2025-05-01", timezone="Europe/Berlin", min_n=1)
    assert berlin.loc[berlin["period"] == 0, "cohort"].tolist()[:4] == ["Jan 2025", "Feb 2025", "Mar 2025", "Apr 2025"]
    utc = cohorts(log, as_of="2025-05-01", min_n=1)
    assert utc.loc[utc["period"] == 0, "cohort"].tolist()[:2] == ["Jan 2025", "Mar 2025"]


def test_a_person_in_several_cohorts_is_one_cluster(log: Log) -> None:
    weekly = " ".join(f"order@{7 * k}d" for k in range(8))
    loyal = " ".join(f"order@{7 * k}d visit" for k in range(8))
    touches = log("|".join(f"p{k}: {loyal if k < 5 else weekly}" for k in range(10)))
    options: dict[str, Any] = {"start": ["order"], "returning": ["visit"], "as_of": "2025-05-14", "min_n": 1}
    first, often = (cohorts(touches, **options, period="week", occurrence=kind) for kind in ("first-time", "recurring"))
    for table in (first, often):  # eight weeks of ten people are no eighty people
        row = table[table["cohort_at"].isna() & (table["period"] == 1)].iloc[0]
        sides = row[["retained_share_low", "retained_share_high"]].tolist()
        expected = stats.wilson(10 * row["retained_share"], 10)
        assert sides == pytest.approx(expected, abs=0.02 if table is often else 1e-12)
    assert often.loc[often["cohort_at"].isna(), "n"].max() == 80
    simple = cohorts(touches, **options, period="week", occurrence="recurring", mean="simple")
    row = simple[simple["cohort_at"].isna() & (simple["period"] == 1)].iloc[0]
    assert math.isnan(row["retained_share_low"])
    assert 0 < row["retained_share"] < 1


def test_small_cohorts_are_left_out_and_rows_may_come_in_any_order(drawn: pd.DataFrame) -> None:
    options: dict[str, Any] = {"as_of": "2025-05-14", "period": "week", "min_n": 5}
    found = cohorts(drawn, **options)
    assert found.loc[found["cohort_at"].notna(), "n"].min() >= 5
    assert "left out" in found.attrs["note"]
    assert found[found["cohort_at"].isna() & (found["period"] == 0)]["n"].item() < 60
    pd.testing.assert_frame_equal(found, cohorts(drawn.sample(frac=1, random_state=9), **options))
    assert drawn.columns.tolist() == ["person_id", "timestamp", "event"]


def test_what_cannot_be_answered_ends_with_a_sentence(log: Log) -> None:
    empty = log("a: order").iloc[:0]
    for table in (empty, log("a: order"), log("a: order@10d").assign(person_id=None)):
        found = cohorts(table, as_of="2025-03-01")
        assert found.empty
        assert found.attrs["reason"].startswith("not enough data (n = ")
    assert (
        "with an event order or buy" in cohorts(log("a: visit"), start=["order", "buy"], as_of="2026").attrs["reason"]
    )
    assert cohorts(log("a: order@10d"), as_of="2025-01-05").empty
    one = cohorts(log("a: order"), as_of="2025-03-20", min_n=1)
    assert np.isfinite(one[["retained_share", "retained_share_low", "retained_share_high"]].to_numpy()).all()
    with pytest.raises(JourneyError, match=r"occurrence 'recuring' is not known. Did you mean 'recurring'"):
        cohorts(log("a: order"), as_of="2026", occurrence="recuring")  # type: ignore[arg-type]
    with pytest.raises(JourneyError, match="period 'year' is not known"):
        cohorts(log("a: order"), as_of="2026", period="year")  # type: ignore[arg-type]
    with pytest.raises(JourneyError, match="not a time zone"):
        cohorts(log("a: order"), as_of="2026", timezone="Mars/Olympus")
    with pytest.raises(JourneyError, match="column 'person_id' is missing"):
        cohorts(log("a: order").drop(columns="person_id"), as_of="2026")


def test_the_definition_says_every_choice(log: Log) -> None:
    found = cohorts(
        log(SMALL), start=["order"], returning=["visit"], as_of="2025-04-30", min_n=1, counted="on or after",
        relative_to="previous", occurrence="recurring", windows="rolling",
    )  # fmt: skip
    said = found.attrs["definition"]
    for words in ("“order” in the month", "30 days from each one's start", "has “visit” in it or any later", "before"):
        assert words in said
    assert tuple(found.columns) == cohort_table.COHORT_COLUMNS


@pytest.mark.skipif(not CDNOW.exists(), reason="shared data not here")
def test_cdnow_cohorts_are_the_published_ones() -> None:
    with gzip.open(CDNOW / "CDNOW_master.txt.gz", "rt") as file:
        sales = pd.read_csv(file, sep=r"\s+", skiprows=1, names=["id", "date", "cds", "value"], dtype=str)
    times = pd.to_datetime(sales["date"], format="%Y%m%d") + pd.Timedelta(hours=12)
    log = pd.DataFrame({"person_id": sales["id"].astype(int), "event": "purchase", "timestamp": times})
    found = cohorts(log, start=["purchase"], returning=["purchase"], as_of="1998-07-01", periods=6)
    figures = json.loads((CDNOW / "expected.json").read_text(encoding="utf-8"))["figures"]
    expected = figures["monthly_cohort_active_customers_month0_to_6"]["value"]
    rows = found[found["cohort_at"].notna()]
    made = {f"{at:%Y-%m}": part["returned_n"].tolist() for at, part in rows.groupby("cohort_at")}
    assert made == expected
    assert rows["complete"].all()
    assert found["n"].iloc[-1] == figures["customers"]["value"]


# ── Lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lifecycle_by_hand(log: Log) -> None:
    found = lifecycle(log(SMALL), activity=["order"], as_of="2025-04-20", min_n=1)
    counts = {
        str(name): part.set_index("state")["people_n"].to_dict() for name, part in found.groupby("period", sort=False)
    }
    assert counts == {
        "Jan 2025": {"new": 3, "returning": 0, "resurrected": 0},
        "Feb 2025": {"new": 2, "returning": 1, "resurrected": 0, "dormant": 2},  # b and c
        "Mar 2025": {"new": 0, "returning": 2, "resurrected": 0, "dormant": 1},  # e
        "Apr 2025": {"new": 0, "returning": 0, "resurrected": 1, "dormant": 2},  # c is back; a and d are silent
    }
    assert found.groupby("period", sort=False)["complete"].all().tolist() == [True, True, True, False]
    dormant = found[found["state"] == "dormant"]
    assert dormant["n"].tolist() == [3, 3, 2]
    ratio = quick_ratio(found).set_index("period")
    assert ratio.loc["Feb 2025", ["gained_n", "lost_n", "quick_ratio"]].tolist() == [2, 2, 1]
    assert ratio.loc["Mar 2025", "quick_ratio"] == 0
    low, high = stats.wilson(2, 4)
    assert ratio.loc["Feb 2025", ["quick_ratio_low", "quick_ratio_high"]].tolist() == pytest.approx(
        [low / (1 - low), high / (1 - high)]
    )


@pytest.mark.parametrize(("period", "zone"), [("day", "UTC"), ("week", "Europe/Berlin"), ("month", "Asia/Tokyo")])
def test_lifecycle_is_what_sets_of_people_say(drawn: pd.DataFrame, period: str, zone: str) -> None:
    found = lifecycle(drawn, as_of="2025-05-14 12:00", timezone=zone, period=period, min_n=1)  # type: ignore[arg-type]
    slow = slow_states(drawn, "2025-05-14 12:00", zone, period)
    made = {
        (at, row.state): (row.people_n, row.n) for at, part in found.groupby("period_at") for row in part.itertuples()
    }
    before: set[int] = set()
    for at, states in slow.items():
        active = states["new"] | states["returning"] | states["resurrected"]
        of = {"new": active, "returning": active, "resurrected": active, "dormant": before}
        for state, people in states.items():
            expected = (len(people), len(of[state])) if of[state] else None
            assert made.get((at, state)) == expected, (at, state)
        assert len(active) == sum(made.get((at, state), (0, 0))[0] for state in life.STATES[:3])
        before = active


def test_who_is_lost_is_not_active_any_more(drawn: pd.DataFrame) -> None:
    found = lifecycle(drawn, as_of="2025-05-14", period="week", min_n=1)
    table = found.pivot_table(index="period_at", columns="state", values="people_n").fillna(0)
    active = table[["new", "returning", "resurrected"]].sum(axis=1)
    assert (table["dormant"].iloc[1:] == active.shift(1).iloc[1:] - table["returning"].iloc[1:]).all()
    assert table["new"].sum() == drawn.loc[drawn["timestamp"] <= "2025-05-14", "person_id"].nunique()


def test_periods_hardly_begun_are_left_out(log: Log) -> None:
    touches = log("a: order order@35d | b: order@1d")
    assert lifecycle(touches, as_of="2025-03-02", min_n=1)["period"].iloc[-1] == "Feb 2025"
    assert lifecycle(touches, as_of="2025-03-08", min_n=1)["period"].iloc[-1] == "Mar 2025"


def test_lifecycle_of_next_to_nothing_says_why(log: Log) -> None:
    assert "n = 0 people" in lifecycle(log("a: order").iloc[:0], as_of="2026").attrs["reason"]
    few = lifecycle(log("a: order"), as_of="2025-03-01")
    assert few.attrs["reason"] == "not enough data (n = 1 people in the busiest month, at least 5 are needed)"
    assert quick_ratio(few).attrs["reason"] == few.attrs["reason"]
    one = quick_ratio(lifecycle(log("a: order"), as_of="2025-01-20", min_n=1))
    assert "one period" in one.attrs["reason"]
    none_lost = quick_ratio(lifecycle(log("a: order order@40d"), as_of="2025-02-28", min_n=1))
    assert none_lost["quick_ratio"].isna().all()


# ── Stickiness ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stickiness_counts_exact_numbers_of_periods(log: Log) -> None:
    touches = log("a: visit visit@8d visit@15d visit@16d | b: visit@1d | c: visit@7d visit@14d | d: visit@29d")
    found = stickiness(
        touches, as_of="2025-02-02 12:00", min_n=1
    )  # weeks begin on 30 Dec, 6, 13, 20 Jan; 27 Jan is not over
    assert found[["active_periods_n", "people_n", "n"]].values.tolist() == [
        [1, 1, 3], [2, 1, 3], [3, 1, 3], [4, 0, 3],
    ]  # fmt: skip
    assert stickiness(touches, as_of="2025-02-02", periods=2, min_n=1)["people_n"].tolist() == [2, 0]


def test_stickiness_adds_up(drawn: pd.DataFrame) -> None:
    found = stickiness(drawn, as_of="2025-05-14", timezone="Europe/Berlin", min_n=1)
    assert found["people_n"].sum() == found["n"].iloc[0] <= 60
    assert found["people_share"].sum() == pytest.approx(1)
    assert "n = 0" in stickiness(drawn.iloc[:0], as_of="2025-05-14").attrs["reason"]
    assert "no week is over" in stickiness(drawn, as_of=str(drawn["timestamp"].min()), min_n=1).attrs["reason"]
