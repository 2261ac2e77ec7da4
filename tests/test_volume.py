"""Volume by day: days are those of the study's zone, what is missing is found, and a steady source is left in peace."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from journeykit import volume
from journeykit.plots import deliveries as plots
from journeykit.plots import theme
from journeykit.readings import deliveries as readings

WEEKDAYS = np.array([1.0, 1.0, 1.0, 1.1, 1.3, 0.5, 0.4])


def events(*rows: tuple[str, str]) -> pd.DataFrame:
    """Build events from (source, time)."""
    table = pd.DataFrame(rows, columns=["source", "timestamp"])
    return table.assign(timestamp=pd.to_datetime(table["timestamp"], format="ISO8601").astype("datetime64[us]"))


def series(mean: float, days: int = 365, noise: float = 0.0, seed: int = 1, growth: float = 0.0) -> pd.DataFrame:
    """Simulate a source with a weekly pattern: Poisson, with `noise` (a coefficient of variation) from day to day."""
    random = np.random.default_rng(seed)
    number = np.arange(days)
    expected = mean * WEEKDAYS[number % 7] * np.exp(growth * number / 7)
    if noise:
        expected = expected * random.gamma(1 / noise**2, noise**2, days)
    day = pd.date_range("2024-01-01", periods=days)
    return pd.DataFrame({"source": "web", "day": day, "events_n": random.poisson(expected)})


def alarms(table: pd.DataFrame) -> int:
    return len(volume.episodes(volume.judge(table)))


def test_days_are_those_of_the_zone_also_when_the_clocks_change() -> None:
    table = events(
        ("web", "2025-03-28 23:30"),  # 29 March in Berlin, in winter
        ("web", "2025-03-30 21:59"),  # 30 March, in summer since 01:00 UTC
        ("web", "2025-03-30 22:00"),  # 31 March
        ("shop", "2025-03-29 00:00"),
    )
    days = volume.daily(table, "Europe/Berlin")
    web = days[days["source"] == "web"]
    assert web["day"].astype(str).tolist() == ["2025-03-29", "2025-03-30", "2025-03-31"]
    assert web["events_n"].tolist() == [1, 1, 1]
    assert days[days["source"] == "shop"]["events_n"].tolist() == [1]
    assert volume.daily(table)["day"].iloc[1] == pd.Timestamp("2025-03-28")


def test_days_without_an_event_are_zero_inside_a_source_only() -> None:
    days = volume.daily(events(("web", "2025-03-01"), ("web", "2025-03-04"), ("shop", "2025-03-10")))
    assert days["events_n"].tolist() == [1, 1, 0, 0, 1]
    assert days["source"].tolist() == ["shop", *["web"] * 4]
    none = volume.daily(events(("web", "2025-03-01")).head(0))
    assert none.attrs["reason"] == "no event was read"
    assert volume.judge(none).attrs["reason"] == volume.episodes(none).attrs["reason"] == "no event was read"


@pytest.mark.parametrize(
    ("mean", "noise"), [(0.3, 0.0), (2, 0.0), (10, 0.0), (300, 0.0), (10, 0.3), (300, 0.15), (5000, 0.5)]
)
def test_a_steady_source_raises_an_alarm_in_two_years_at_most(mean: float, noise: float) -> None:
    years = 40
    assert alarms(series(mean, 365 * years, noise)) <= years / 2


def test_visits_of_several_events_are_no_alarm() -> None:
    random = np.random.default_rng(5)
    visits = random.poisson(5, 365 * 20)
    pages = [random.geometric(1 / 7, n).sum() for n in visits]
    table = pd.DataFrame({"source": "app", "day": pd.date_range("2000-01-01", periods=len(pages)), "events_n": pages})
    assert (table["events_n"] == 0).sum() > 10
    assert alarms(table) <= 5


@pytest.mark.parametrize("growth", [0.03, -0.03])
def test_growth_and_decline_are_no_alarm(growth: float) -> None:
    assert alarms(series(2000, 365, 0.05, growth=growth)) <= 1


def test_a_silence_a_loss_and_a_doubling_are_found_and_nothing_else() -> None:
    table = series(1000, noise=0.05)
    table.loc[200:205, "events_n"] = 0
    table.loc[260, "events_n"] //= 3
    table.loc[300, "events_n"] *= 2
    judged = volume.judge(table)
    found = volume.episodes(judged)
    assert found["unusual"].tolist() == ["silent", "low", "high"]
    assert found["first_day"].tolist() == table["day"].iloc[[200, 260, 300]].tolist()
    assert found["days_n"].tolist() == [6, 1, 1]
    assert found["expected_n"].iloc[0] == pytest.approx(6 * 900, rel=0.25)
    text = readings.unusual_days(judged, found)
    assert "Unusual: 6 silent days, 1 low day and 1 high day." in text
    assert "The longest silence is that of web, 2024-07-19 to 2024-07-24; about" in text
    nothing = pd.DataFrame()
    (finding,) = readings.findings(nothing, nothing, judged, found)
    assert (finding.id, finding.value, finding.unit) == ("days-missing", 7, "days")
    assert finding.n == judged["expected_n"].notna().sum()


def test_one_empty_day_of_a_small_source_is_nothing_and_three_weeks_are() -> None:
    table = series(1.2, seed=4)
    assert (table["events_n"] == 0).sum() > 50
    assert alarms(table) == 0
    table.loc[200:220, "events_n"] = 0
    found = volume.episodes(volume.judge(table))
    assert found["unusual"].tolist() == ["silent"]
    assert found["days_n"].iloc[0] >= 21


def test_a_weekly_mailing_may_be_silent_between_and_not_on_its_day() -> None:
    days = pd.date_range("2024-01-01", periods=365)
    random = np.random.default_rng(2)
    sent = np.where(days.weekday == 1, random.normal(1000, 60, 365), 0).astype(int)
    table = pd.DataFrame({"source": "mail", "day": days, "events_n": sent})
    assert alarms(table) == 0
    missed = table["day"] == "2024-10-01"  # a Tuesday
    table.loc[missed, "events_n"] = 0
    found = volume.episodes(volume.judge(table))
    assert found[["unusual", "days_n"]].to_numpy().tolist() == [["silent", 1]]
    assert found["first_day"].iloc[0] == pd.Timestamp("2024-10-01")


def test_the_loss_of_most_of_a_day_is_found_in_a_noisy_source() -> None:
    found = 0
    for seed in range(40):
        table = series(300, 200, 0.15, seed)
        table.loc[150, "events_n"] = round(0.3 * float(table["events_n"].iloc[150]))
        found += int(volume.judge(table)["unusual"].iloc[150] == "low")
    assert found >= 36


def test_what_follows_a_long_silence_is_not_measured_by_it() -> None:
    table = series(1000, noise=0.05)
    table.loc[200:245, "events_n"] = 0
    found = volume.episodes(volume.judge(table))
    assert found[["unusual", "days_n"]].to_numpy().tolist() == [["silent", 46]]
    assert found["expected_n"].iloc[0] == pytest.approx(46 * 900, rel=0.2)


def test_a_source_of_three_weeks_cannot_be_judged() -> None:
    judged = volume.judge(series(100, 21))
    assert judged["expected_n"].isna().all()
    found = volume.episodes(judged)
    assert "4 or more weeks" in found.attrs["reason"]
    assert readings.unusual_days(judged, found) == ""
    steady = volume.judge(series(100, 200))
    quiet = volume.episodes(steady)
    assert "no day of any source is unusual" in quiet.attrs["reason"]
    assert readings.unusual_days(steady, quiet).endswith("None of them is unusual against the weeks before it.")
    assert readings.findings(pd.DataFrame(), pd.DataFrame(), steady, quiet) == []


def test_the_longest_silence_is_exact_and_the_first_of_equals() -> None:
    table = events(
        ("web", "2025-03-01 10:00:00.5"),
        ("web", "2025-03-01 10:00:20"),
        ("web", "2025-03-03 10:00:20.25"),
        ("web", "2025-03-05 10:00:20.5"),
        ("web", "2025-03-05 10:00:21"),
        ("shop", "2025-03-05"),
    )
    found = volume.silences(table).set_index("source")
    assert found.loc["web", "longest_silence_seconds"] == 172800.25
    assert found.loc["web", "silence_from_at"] == pd.Timestamp("2025-03-01 10:00:20")
    assert found.loc["web", "silence_to_at"] == pd.Timestamp("2025-03-03 10:00:20.25")
    assert found.loc["shop", "longest_silence_seconds"] == 0
    assert pd.isna(found.loc["shop", "silence_from_at"])
    assert volume.silences(table.head(0)).attrs["reason"] == "no event was read"
    fine = volume.silences(table.head(2), finest_seconds=1)
    assert fine["longest_silence_seconds"].tolist() == [19.5]


def test_the_chart_shows_twelve_sources_at_most_and_stays_small() -> None:
    parts = [series(50, 1500, seed=n).assign(source=f"s{n:02d}") for n in range(14)]
    parts[13].loc[700:720, "events_n"] = 0
    judged = volume.judge(pd.concat(parts, ignore_index=True))
    axes = plots.daily_volume(judged)
    titles = [part.get_title(loc="left") for part in axes.get_figure().axes]  # type: ignore[union-attr]
    assert len(titles) == 12
    assert titles[-1].startswith("s13 · at most")  # the one with a silence is among them
    picture = theme.svg(axes)
    assert len(picture) < 400_000
    assert picture == theme.svg(plots.daily_volume(judged))
    assert plots.daily_volume(judged[judged["source"] == "s00"])
