"""Conversion by period: by hand, sums, time zones, and the rise that people who come back make."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, norm
from statsmodels.stats.contingency_tables import Table

from journeykit import engine, funnel_trend, funnels, stats
from journeykit.errors import JourneyError
from tests.conftest import make_log

START = pd.Timestamp("2025-01-01")
DAY = 86_400_000_000


def reach(text: str, until: str = "", **rules: object) -> funnels.Reached:
    end = START + pd.Timedelta(until) if until else None
    return funnels.reach(make_log(text), until=end, **{"steps": ["ad", "buy"], **rules})


def entered(days: np.ndarray, took: np.ndarray, until: float, within: int) -> funnels.Reached:
    """People who came in on days since 1970, and would convert after so many; with entries of their own each."""
    done = (days + took <= until) & (took <= within)
    rows = pd.DataFrame({"unit": range(len(days)), "attempt": 1, "person_id": range(len(days)), "depth": 1 + done})
    first = pd.Series((days * DAY).astype("int64"))
    rows = rows.assign(is_open=(days + within > until).astype(int), first_us=first, at_1=first)
    rows["at_2"] = (first + pd.Series((took * DAY).astype("int64"))).astype("Int64").where(pd.Series(done))
    rules = funnels.reach(make_log("u1: ad"), steps=["ad", "buy"], within=f"{within}d").rules
    return funnels.Reached(engine.lazy(rows), rules, (), int(until * DAY))


def test_months_by_hand() -> None:
    text = "u1: ad@3d buy@4d | u2: ad@5d | u3: ad@33d buy@80d | u4: ad@40d buy@41d | u5: ad@64d buy@65d | u6: ad@95d"
    table = funnel_trend.trend(reach(text, until="100d", within="30d"), period="month")
    assert table[["period", "n", "converted_n", "open_n", "is_mature"]].values.tolist() == [
        ["Jan 2025", 2, 1, 0, True],
        ["Feb 2025", 2, 1, 0, True],
        ["Mar 2025", 1, 1, 0, True],
        ["Apr 2025", 1, 0, 1, False],
    ]
    assert table["period_at"].tolist() == [pd.Timestamp(2025, month, 1) for month in (1, 2, 3, 4)]
    assert table["converted_share"].tolist() == [0.5, 0.5, 1, 0]
    assert table.loc[0, ["converted_share_low", "converted_share_high"]].tolist() == pytest.approx(stats.wilson(1, 2))
    assert table.attrs["days"] == 30


def test_the_edge_of_the_window_belongs_to_it() -> None:
    text = "u1: ad@0d buy@30d | u2: ad@0d buy@31d"
    assert funnel_trend.trend(reach(text, until="30d", within="30d"))["converted_n"].tolist() == [1]
    mature = funnel_trend.trend(reach(text, until="30d", within="30d"))
    assert mature["is_mature"].tolist() == [True]


@pytest.mark.parametrize(
    ("span", "period", "names"),
    [
        (20, "day", ["1 Jan 2025", "21 Jan 2025"]),
        (100, "week", ["week of 30 Dec 2024", "week of 7 Apr 2025"]),
        (400, "month", ["Jan 2025", "Feb 2026"]),
        (2000, "quarter", ["Q1 2025", "Q2 2030"]),
        (9000, "year", ["2025", "2049"]),
    ],
)
def test_the_period_fits_the_span(span: int, period: str, names: list[str]) -> None:
    table = funnel_trend.trend(reach(f"u1: ad@0d | u2: ad@{span}d"))
    assert table.attrs["period"] == period
    assert table["period"].iloc[[0, -1]].tolist() == names
    assert len(table) <= funnel_trend.MOST
    assert table["n"].sum() == 2  # periods without anybody are there, and empty
    assert table.loc[table["n"] == 0, "converted_share"].isna().all()


def test_weeks_begin_on_monday() -> None:
    table = funnel_trend.trend(reach("u1: ad@4d | u2: ad@5d"), period="week")  # Sunday, Monday
    assert table["period"].tolist() == ["week of 30 Dec 2024", "week of 6 Jan 2025"]


def test_days_are_those_of_the_study() -> None:
    text = "u1: ad@23h | u2: ad@30h"  # 00:00 of 2 January in Berlin, and 07:00
    assert funnel_trend.trend(reach(text), period="day")["n"].tolist() == [1, 1]
    berlin = funnel_trend.trend(reach(text), period="day", timezone="Europe/Berlin")
    assert berlin[["period", "n"]].values.tolist() == [["2 Jan 2025", 2]]
    summer = "u1: ad@180d | u2: ad@4342h | u3: ad@260459min"  # in June two hours ahead: 2:00, 0:00 and 23:59
    table = funnel_trend.trend(reach(summer), period="day", timezone="Europe/Berlin")
    assert table[["period", "n"]].values.tolist() == [["30 Jun 2025", 2], ["1 Jul 2025", 1]]


def test_a_success_of_a_later_entry_counts_for_the_first_one_only_in_its_time() -> None:
    text = "u1: ad@0d ad@20d buy@25d | u2: ad@0d ad@60d buy@61d"
    table = funnel_trend.trend(reach(text, until="100d", within="30d"), period="month")
    assert table[["n", "converted_n"]].values.tolist() == [[2, 1]]
    assert table.attrs["later_n"] == 1
    counted = funnel_trend.trend(reach(text, until="100d", within="30d"), period="month", dated="counted")
    assert counted[["period", "n", "converted_n"]].values.tolist() == [
        ["Jan 2025", 1, 1],
        ["Feb 2025", 0, 0],
        ["Mar 2025", 1, 1],
    ]


@pytest.mark.parametrize("dated", ["first", "counted"])
def test_periods_add_up_to_the_funnel(dated: str) -> None:
    rng, people = np.random.default_rng(1), []
    for _ in range(150):
        at, text = 0.0, "u:"
        for _ in range(rng.integers(1, 6)):
            at += rng.exponential(25)
            text += f" {rng.choice(['ad', 'ad', 'buy'])}@{at:.2f}d"
        people.append(text)
    found = reach(" | ".join(people), until="90d", within="10d")
    count, table = funnels.count(found), funnel_trend.trend(found, dated=dated)
    assert table["n"].sum() - count["open_n"].iloc[0] == count["n"].iloc[0]
    assert table["open_n"].sum() == count["open_n"].iloc[0]
    converted = table["converted_n"].sum() + table.attrs["later_n"]
    assert converted == count["n"].iloc[1] + count["open_n"].iloc[1]
    if dated == "counted":
        assert table.attrs["later_n"] == 0


def test_people_who_come_back_make_no_rise() -> None:
    """Nothing changes in this world; dated by the entry that counted, conversion seems to rise by a quarter."""
    rng, rows = np.random.default_rng(2), []
    for person in range(12_000):
        first = at = rng.uniform(0, 364)
        entry, done = first, np.nan
        while at < 357:
            if rng.random() < 0.15:
                entry, done = at, at + 1
                break
            if rng.random() > 0.7:
                break
            at += rng.exponential(20)
        rows.append((person, first, entry, done))
    made = pd.DataFrame(rows, columns=["unit", "first", "entry", "done"])
    made = made.assign(attempt=1, person_id=made["unit"], depth=1 + made["done"].notna(), is_open=made["first"] > 357)
    made = made.assign(first_us=(made["first"] * DAY).astype("int64"), at_1=(made["entry"] * DAY).astype("int64"))
    made["at_2"] = (made["done"] * DAY).round().astype("Int64")
    made["is_open"] = made["is_open"].astype(int)
    rules = funnels.reach(make_log("u1: ad"), steps=["ad", "buy"], within="7d").rules
    found = funnels.Reached(engine.lazy(made), rules, (), 364 * DAY)
    fair = funnel_trend.trend(found, period="month")
    assert fair.attrs["change_p_value"] > 0.01
    counted = funnel_trend.trend(found, period="month", dated="counted")
    mature = counted[counted["is_mature"]]["converted_share"]
    assert mature.iloc[-1] > 1.2 * mature.iloc[0]
    assert counted.attrs["change_p_value"] < 0.01


def test_a_real_change_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(3)
    days = rng.uniform(0, 300, 6000)
    steady = funnel_trend.trend(entered(days, np.where(rng.random(6000) < 0.3, 2.0, 99.0), 400, 10), period="month")
    assert steady.attrs["change_p_value"] > 0.01
    rising = rng.random(6000) < 0.2 + 0.2 * days / 300
    table = funnel_trend.trend(entered(days, np.where(rising, 2.0, 99.0), 400, 10), period="month")
    assert table.attrs["change_p_value"] < 1e-6
    crossed = np.column_stack([table["converted_n"], table["n"] - table["converted_n"]])
    n = crossed.sum()
    # statsmodels' variance has n − 1 where Cochran's and Armitage's has n
    z = Table(crossed, shift_zeros=False).test_ordinal_association().zscore * math.sqrt(n / (n - 1))
    assert table.attrs["change_p_value"] == pytest.approx(2 * norm.sf(abs(z)), rel=1e-3)
    assert table.attrs["differ_p_value"] == pytest.approx(chi2_contingency(crossed, correction=False)[1])


def test_without_a_window_everybody_is_given_the_time_of_most() -> None:
    text = " | ".join(f"u: ad@{k}d buy@{k + 1 + k % 10}d" for k in range(100))
    table = funnel_trend.trend(reach(text, until="200d"))
    assert table.attrs["days"] == 9  # nine in ten come within nine days, one after ten
    assert table["converted_n"].sum() == 90
    assert table.attrs["later_n"] == 10
    nobody = funnel_trend.trend(reach("u1: ad@0d | u2: ad@9d", until="20d"))
    assert nobody.attrs["days"] == 1


def test_sessions_attempts_and_open_funnels_have_a_trend() -> None:
    text = "u1: ad@0d buy@1d ad@40d buy@41d ; ad@80d"
    for per, n in (("session", 2), ("attempt", 3)):
        table = funnel_trend.trend(reach(text, until="200d", within="30d", per=per), period="month")
        assert table["n"].sum() == n
    opened = funnel_trend.trend(reach("u1: buy@0d | u2: ad@40d", until="99d", entry="open"), period="month")
    assert opened[["n", "converted_n"]].values.tolist() == [[1, 1], [1, 0]]


def test_sessions_of_one_person_count_as_one_where_they_are_alike() -> None:
    text = " | ".join(["u: ad@1d buy ; ad@3d buy ; ad@5d buy", "u: ad@2d ; ad@4d ; ad@6d"] * 20)
    each = funnel_trend.trend(reach(text, until="99d", within="1d", per="session"), period="month").iloc[0]
    people = funnel_trend.trend(reach(text, until="99d", within="1d"), period="month").iloc[0]
    assert (each["n"], people["n"]) == (120, 40)
    assert each["converted_share_low"] == pytest.approx(people["converted_share_low"], abs=0.01)


def test_small_periods_are_not_shown() -> None:
    text = " | ".join(["u: ad@0d"] + ["u: ad@35d"] * 9 + ["u: ad@70d"] * 2 + ["u: ad@100d"] * 9)
    table = funnel_trend.trend(reach(text, until="200d"), period="month", min_n=5)
    assert table["period"].tolist() == ["Feb 2025", "Mar 2025", "Apr 2025"]
    assert table["converted_share"].isna().tolist() == [False, True, False]


def test_degenerate_input() -> None:
    nothing = funnels.reach(make_log("u1: ad").head(0), steps=["ad", "buy"])
    assert "n = 0" in funnel_trend.trend(nothing).attrs["reason"]
    assert "no funnel" in funnel_trend.trend(funnels.reach(make_log("u1: ad"), steps=[])).attrs["reason"]
    assert "n = 1, at least 30" in funnel_trend.trend(reach("u1: ad"), min_n=30).attrs["reason"]
    one = funnel_trend.trend(reach("u1: ad", until="9d"))
    assert one[["n", "converted_n"]].values.tolist() == [[1, 0]]
    assert math.isnan(one.attrs["change_p_value"])
    with pytest.raises(JourneyError, match=r"period 'weak' is not known.*Did you mean 'week'"):
        funnel_trend.trend(reach("u1: ad"), period="weak")
    with pytest.raises(JourneyError, match="'Mars/Base' is not a time zone"):
        funnel_trend.trend(reach("u1: ad"), timezone="Mars/Base")
