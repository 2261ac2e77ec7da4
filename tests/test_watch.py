"""Watching: published and independent values of each rule, planted falls, quiet on what is not over, the past."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from journeykit import engine, study
from journeykit.changes.series import daily
from journeykit.config_changes import Series, Watch
from journeykit.plots import theme
from journeykit.plots import watch as plots
from journeykit.readings import watch as readings
from journeykit.watch import alerts, backtest, freshness, judge, rates, weekday, xmr
from tests.test_changes import COUNT, days, noisy

ROOT = Path(__file__).resolve().parent.parent
SHARE = Series(name="rate", kind="share", event="buy", per="cart", label="Rate")


def test_the_individuals_chart_of_nist() -> None:
    """e-Handbook of Statistical Methods, 6.3.2.2."""
    values = np.array([49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1])
    mean, step, low, high = xmr.limits(values)
    assert (round(mean, 2), round(step, 4), round(low, 4), round(high, 4)) == (50.81, 1.8778, 45.8159, 55.8041)


def test_the_weekday_interval_is_that_of_statsmodels() -> None:
    at = pd.date_range("2025-01-01", periods=57)
    frame = pd.DataFrame({"y": np.log(noisy(57)), "day": at.weekday, "t": np.arange(57)})
    fit = smf.ols("y ~ C(day) + t", frame.iloc[:56]).fit()
    told = fit.get_prediction(frame.iloc[56:]).summary_frame(alpha=0.0027).iloc[0]
    middle, error, freedom = weekday.predictions(frame["y"].to_numpy())
    reach = weekday.reach(freedom) * error
    assert middle[56] == pytest.approx(told["mean"])
    assert middle[56] - reach[56] == pytest.approx(told["obs_ci_lower"])
    assert middle[56] + reach[56] == pytest.approx(told["obs_ci_upper"])
    assert np.isnan(middle[:56]).all()


def test_with_missing_days_it_is_still_that_of_statsmodels() -> None:
    values = np.log(noisy(57))
    values[[3, 20, 21]] = np.nan
    frame = pd.DataFrame({"y": values, "day": np.arange(57) % 7, "t": np.arange(57)})
    told = smf.ols("y ~ C(day) + t", frame.iloc[:56].dropna()).fit().get_prediction(frame.iloc[56:]).summary_frame()
    middle, error, freedom = weekday.predictions(values)
    assert middle[56] == pytest.approx(told["mean"].iloc[0])
    assert middle[56] - stats.t.ppf(0.975, freedom[56]) * error[56] == pytest.approx(told["obs_ci_lower"].iloc[0])
    values[:20] = np.nan
    assert np.isnan(weekday.predictions(values)[0]).all(), "fewer than 42 days"


def test_a_share_has_binomial_limits_unless_it_scatters_more() -> None:
    per = np.full(30, 400.0)
    top = np.random.default_rng(0).binomial(400, 0.3, 30).astype(float)
    middle, error = rates.expected(top, per, 100)
    assert middle == pytest.approx(top.sum() / per.sum())
    assert error == pytest.approx(np.sqrt(middle * (1 - middle) * (1 / 100 + 1 / 12_000)), rel=0.35)
    wild = top * np.tile([0.5, 1.5], 15)
    assert rates.expected(wild, per, 100)[1] > 3 * error
    assert np.isnan(rates.expected(top, per, 10)[1]), "3 expected: too few"
    assert np.isnan(rates.expected(top, 0 * per, 10)).all()
    middle, error = rates.expected(top * 5, per, 100)  # several events per one: variance of counts
    assert (middle > 1, error > np.sqrt(middle / 100)) == (True, True)


def last(table: pd.DataFrame, series: Series = COUNT, rule: str = "day") -> pd.Series:
    found = judge.judged(table, series)
    return found.loc[found["rule"] == rule].iloc[-1]


def test_a_fall_is_found_by_the_day_and_by_the_week_and_a_sunday_is_no_fall() -> None:
    values = noisy(31 * 7)
    row = last(days(values))
    assert row["low"] < row["observed"] < row["high"]
    assert row["expected"] < 95, "the last day is a Sunday, and Sundays are low"
    values[-1] *= 0.7
    fallen = last(days(values))
    assert fallen["observed"] < fallen["low"]
    assert fallen["change_share"] == pytest.approx(-0.3, abs=0.12)
    values[-7:-1] *= 0.7
    week = last(days(values), rule="week")
    assert week["observed"] < week["low"]
    assert week["p_value"] < 0.001


def test_a_share_is_judged_of_its_own_weekday() -> None:
    rng = np.random.default_rng(0)
    n = 31 * 7
    usual = np.where(np.arange(n) % 7 >= 5, 0.4, 0.6)
    per = np.full(n, 300)
    row = last(days(rng.binomial(per, usual), per), SHARE)
    assert row["expected"] == pytest.approx(0.4, abs=0.03)
    assert row["low"] < row["observed"] < row["high"]
    usual[-1] = 0.25
    fallen = last(days(rng.binomial(per, usual), per), SHARE)
    assert fallen["observed"] < fallen["low"]


@pytest.mark.parametrize(
    ("table", "series", "says"),
    [
        (days(noisy(30)), COUNT, "fewer than 42 days with a value in the 56 before it"),
        (days(np.random.default_rng(0).poisson(3, 200)), COUNT, "judged by the week"),
        (days(np.full(200, 50.0)), COUNT, "never varied"),
        (days(noisy(200) - 100), COUNT, "no logarithm"),
        (days(np.zeros(200)), COUNT, "judged by the week"),
        (days(np.ones(200), np.full(200, 3.0)), SHARE, "too few events for a share"),
        (days(np.zeros(200), np.zeros(200)), SHARE, "too few events for a share"),
        (days(noisy(200), np.full(200, 9.0)), Series(name="x", kind="satisfaction"), "judged by the week"),
    ],
)
def test_what_cannot_be_judged_says_why_and_has_no_limits(table: pd.DataFrame, series: Series, says: str) -> None:
    row = last(table, series)
    assert says in row["reason"]
    assert row[["expected", "low", "high", "p_value"]].isna().all()


def test_what_is_not_over_is_not_judged_and_the_past_sees_no_future() -> None:
    table = days(noisy(31 * 7))
    unfinished = table.assign(is_complete=[True] * (len(table) - 2) + [False] * 2)
    found = judge.judged(unfinished, COUNT)
    assert found.loc[found["rule"] == "day", "period_at"].max() == table["day"].iloc[-3]
    assert found.loc[found["rule"] == "week", "period_at"].max() == pd.Timestamp("2025-06-30")
    assert judge.judged(table.assign(is_complete=False), COUNT).attrs["reason"]
    whole = judge.judged(table, COUNT, last=60)
    cut = judge.judged(table.iloc[:-20], COUNT, last=40)
    both = whole.merge(cut, on=["rule", "period_at"])
    assert len(both) > 40
    np.testing.assert_allclose(both["expected_x"], both["expected_y"])


def test_a_gap_is_an_alarm_and_no_measure_for_the_days_after() -> None:
    values = noisy(31 * 7)
    values[-14:-7] = 0
    table = days(values)
    found = judge.judged(table, COUNT, last=14)
    by_day = found.loc[found["rule"] == "day"]
    assert (by_day["observed"] < by_day["low"]).tolist() == [True] * 7 + [False] * 7


def test_an_alert_is_outside_large_enough_and_clear_among_all() -> None:
    rows = pd.DataFrame(
        {
            "observed": [50.0, 98, 70, 130],
            "expected": 100.0,
            "low": [80.0, 99, 80, 80],
            "high": [120.0, 101, 120, 120],
            "change_share": [-0.5, -0.02, -0.3, 0.3],
            "p_value": [1e-6, 1e-6, 0.04, np.nan],
        }
    )
    found = backtest.decided(rows, Watch(minimum_change=0.05, error_rate=0.05))
    assert found["fires"].tolist() == [True, False, True, False]
    assert found["adjusted"].round(6).tolist()[:3] == [1.5e-6 if False else 2e-6, 2e-6, 0.04]
    many = pd.concat([rows, pd.DataFrame({"p_value": np.full(30, 0.9)})], ignore_index=True)
    assert backtest.decided(many, Watch()).fires.tolist()[:3] == [True, False, False]


# ── sources ──


def events(stop: str = "2025-07-13 23:30") -> pd.DataFrame:
    """Two sources, hourly and weekly; the hourly one ends at `stop`."""
    hourly = pd.date_range("2025-03-01", stop, freq="30min")
    weekly = pd.date_range("2025-03-05", "2025-07-09", freq="7D")
    rows = [pd.DataFrame({"timestamp": at, "source": name}) for name, at in (("web", hourly), ("mail", weekly))]
    table = pd.concat(rows, ignore_index=True).assign(event="visit", channel="web")
    return table.assign(person_id=table.index % 7, source_row=table.index, event_id=table.index.astype(str))


UNTIL = pd.Timestamp("2025-07-14")


def test_a_source_is_stale_by_its_own_measure() -> None:
    fresh = freshness.freshness(events(), as_of=UNTIL).set_index("source")
    assert fresh["verdict"].to_dict() == {"mail": "fresh", "web": "fresh"}, "a weekly mail may be silent for days"
    assert fresh.loc["mail", "longest_silence_seconds"] == 7 * 86_400
    stopped = freshness.freshness(events("2025-07-10 12:00"), as_of=UNTIL)
    assert stopped["source"].tolist() == ["web", "mail"], "stale ones first"
    assert stopped["verdict"].tolist() == ["stale", "fresh"]
    assert stopped["silent_seconds"].iloc[0] == 3.5 * 86_400
    assert freshness.freshness(events("2025-07-12 12:00"), as_of=UNTIL)["verdict"].tolist() == ["fresh", "fresh"], (
        "36 h"
    )


def test_sources_without_events_are_known_from_their_files() -> None:
    files = pd.DataFrame(
        {"source": ["web", "ads", "ads", "crm"], "last_at": pd.to_datetime([None, "2025-07-01", "2025-07-13", None])}
    )
    found = freshness.freshness(events(), files, as_of=UNTIL).set_index("source")
    assert found["verdict"].to_dict() == {"crm": "stale", "ads": "fresh", "mail": "fresh", "web": "fresh"}
    assert found.loc["crm", "reason"] == "no row of it was kept"
    assert freshness.freshness(events().iloc[:0], as_of=UNTIL).attrs["reason"] == "no source has an event"


def watched(table: pd.DataFrame, *series: Series, **keys: object) -> alerts.Watched:
    chosen = series or (Series(name="visits", event="visit", where={"source": "web"}, label="Visits"),)
    return alerts.watch(table, table, series=chosen, plan=Watch(back="60d", **keys), as_of=UNTIL)


def test_a_source_that_stopped_is_one_alert_and_not_a_fall_of_what_rests_on_it() -> None:
    table = events("2025-07-10 12:00")
    found = watched(table)
    assert found.alerts[["kpi", "rule"]].values.tolist() == [["web", "freshness"]]
    assert found.alerts["adjusted"].isna().all()
    by_day = found.checked.loc[found.checked["rule"] == "day"].iloc[0]
    assert by_day["period_at"] == pd.Timestamp("2025-07-09"), "the last day before it stopped"


def test_a_fall_is_an_alert_with_its_size_and_a_quiet_study_says_what_was_looked_at() -> None:
    table = events()
    rng = np.random.default_rng(0)
    table = table[rng.random(len(table)) < 0.8]  # else nothing varies
    quiet = watched(table)
    assert quiet.alerts.empty
    assert "nothing is unusual" in quiet.alerts.attrs["reason"]
    assert readings.alerts(quiet.alerts, quiet.checked).startswith("Nothing is unusual: ")
    fallen = table[(table["timestamp"] < "2025-07-13") | (rng.random(len(table)) < 0.3)]
    found = watched(fallen)
    row = found.alerts.loc[found.alerts["rule"] == "day"].iloc[0]
    assert row["kpi"] == "Visits"
    assert row["direction"] == "worse"
    assert row["change_share"] < -0.5
    assert list(found.alerts.columns) == list(alerts.CHECKED)
    text = readings.alerts(found.alerts, found.checked)
    assert "Visits on 2025-07-13" in text
    assert "below what was to be expected" in text
    assert readings.findings(found.alerts)[-1].evidence == "observed"
    small = watched(fallen, minimum_change=0.95)
    assert not (small.alerts["rule"] == "day").any()


def test_the_past_is_replayed_and_counted() -> None:
    table = events()
    rng = np.random.default_rng(0)
    table = table[rng.random(len(table)) < 0.8]
    bad = table["timestamp"].between("2025-06-17", "2025-06-18") & (rng.random(len(table)) < 0.7)
    found = watched(table[~bad])
    fired = found.replay.loc[found.replay["fires"].astype(bool)]
    assert pd.Timestamp("2025-06-17") in set(fired["period_at"])
    line = found.firings.loc[found.firings["rule"] == "day"].iloc[0]
    assert line["judged_n"] == 60
    assert 1 <= line["fired_n"] <= 3
    assert line["worse_n"] >= 1
    assert line["a_year"] == pytest.approx(365.25 * line["fired_n"] / line["judged_n"])
    assert "In the past" in readings.firings(found.firings)


def test_nothing_to_watch_ends_with_reasons() -> None:
    empty = events().iloc[:0]
    found = watched(empty)
    assert all(table.empty and table.attrs["reason"] for table in (found.alerts, found.freshness, found.firings))
    assert readings.alerts(found.alerts, found.checked) == ""
    none = watched(events(), Series(name="x", event="never"))
    assert "no event of it" in none.checked.loc[none.checked["kpi"] == "x", "reason"].iloc[0]


def test_a_series_by_day_is_what_is_judged() -> None:
    table = events()
    assert daily(table, Series(name="x", where={"source": "web"}), until=UNTIL)["top"].tolist()[1:-1] == [48] * 134


def test_the_bundled_study_is_watched() -> None:
    derived = ROOT / "data" / "laptop_store" / "derived"
    if not (derived / "touches.parquet").exists():
        pytest.skip("the bundled study is not built")
    touches, made, files = (engine.read_parquet(derived / f"{name}.parquet") for name in ("touches", "events", "files"))
    config = study.open_study("laptop_store").config
    assert [one.name for one in alerts.declared(config)] == [one.name for one in config.watch.series]
    chosen = alerts.declared(config.model_copy(update={"watch": Watch()}))
    assert [one.name for one in chosen][-1] == "conversions"
    late = Series(
        name="late", kind="share", event="delivery_late", per=["delivery_late", "delivery_on_time"], better="down"
    )
    found = alerts.watch(
        touches, made, files, series=[chosen[0], late], plan=Watch(), as_of=pd.Timestamp("2026-01-01"),
        timezone="Europe/Berlin",
    )  # fmt: skip
    assert (found.freshness["verdict"] == "fresh").all()
    fired = found.replay.loc[found.replay["fires"].astype(bool)]
    assert {"2025-11-24"} <= set(fired.loc[fired["kpi"] == "Events of web", "period_at"].astype(str)), "Black Friday"
    for ax in (plots.weeks(found.replay), plots.days(found.replay), plots.firings(found.replay)):
        assert len(theme.svg(ax)) < 150_000
    assert "nan" not in readings.firings(found.firings) + readings.freshness(found.freshness)
