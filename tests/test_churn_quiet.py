"""Silence as leaving: gaps with the open ones, who comes back, the silence that is chosen, what the choice moves."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from journeykit import config, stats
from journeykit.churn import quiet, silence, spells
from journeykit.plots import churn as plots
from journeykit.readings import churn_quiet as readings
from tests.conftest import make_log

SHOP = config.Churn(kind="inactivity", activity="buy")
START = pd.Timestamp("2024-01-01")
AS_OF = START + pd.Timedelta("730D")


def log_of(table: pd.DataFrame) -> pd.DataFrame:
    """A log of purchases from person_id and day."""
    moment = START + pd.to_timedelta(table["day"], unit="D")
    return pd.DataFrame(
        {
            "person_id": table["person_id"].to_numpy(),
            "timestamp": moment.astype("datetime64[us]").to_numpy(),
            "event": "buy",
            "source": "shop",
            "source_row": np.arange(len(table)),
            "event_id": [f"e{k:07d}" for k in range(len(table))],
        }
    )


def world(n: int = 3000, seed: int = 1) -> pd.DataFrame:
    """The world of BG/NBD: people buy at rates of their own, and after each purchase some go for good.

    Of everybody, also of what happens after the data end.
    """
    rng = np.random.default_rng(seed)
    day, rate, stop = rng.uniform(0, 365, n), rng.gamma(0.8, 1 / 20, n), rng.beta(0.8, 2.5, n)
    person, parts = np.arange(1, n + 1), []
    while len(person):
        parts.append(pd.DataFrame({"person_id": person, "day": day}))
        stays = (rng.random(len(person)) > stop) & (day < 3000)
        person, rate, stop = person[stays], rate[stays], stop[stays]
        day = day[stays] + rng.exponential(1 / rate)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def lived() -> pd.DataFrame:
    return world()


@pytest.fixture(scope="module")
def seen(lived: pd.DataFrame) -> pd.DataFrame:
    return log_of(lived[lived["day"] <= 730])


@pytest.fixture(scope="module")
def curve(seen: pd.DataFrame) -> pd.DataFrame:
    return quiet.reactivation_curve(seen, SHOP, as_of=AS_OF)


def returning(lived: pd.DataFrame, quiet_days: float, within: float = 180) -> float:
    """The true share of silences of so many days, reached within the data, after which people buy within 180 days."""
    length = lived.sort_values(["person_id", "day"]).groupby("person_id")["day"].shift(-1) - lived["day"]
    silent = length.fillna(np.inf)[lived["day"] + quiet_days < 730]
    silent = silent[silent > quiet_days]
    return float((silent <= quiet_days + within).mean())


def test_gaps_by_hand() -> None:
    log = make_log("u1: buy@0d buy@2d buy@2d visit@3d | u2: buy@1d buy@3d | u3: visit@1d | u4: buy@0d")
    found = quiet.gaps(log.sample(frac=1, random_state=1), SHOP, as_of="2025-01-11")
    assert found["gap_days"].tolist() == [2.0, 7.0, 8.0, 10.0]
    assert found["returned_n"].tolist() == [2, 0, 0, 0]  # two purchases at one moment are no silence
    assert found["open_n"].tolist() == [0, 1, 1, 1]
    # The start counts as a sign of life, later starts do not; nothing before observation counts.
    log = make_log("u1: join@0d buy@2d join@4d buy@5d")
    plan = SHOP.model_copy(update={"start": ["join"]})
    assert quiet.gaps(log, plan, as_of="2025-01-11")["gap_days"].tolist() == [2.0, 3.0, 5.0]
    plan = plan.model_copy(update={"observed_from": "2025-01-02"})
    assert quiet.gaps(log, plan, as_of="2025-01-11")["gap_days"].tolist() == [3.0, 5.0]


def test_the_curve_is_the_ratio_of_kaplan_meier(seen: pd.DataFrame, curve: pd.DataFrame) -> None:
    ordered = seen.sort_values(["person_id", "timestamp"])
    after = ordered.groupby("person_id")["timestamp"].shift(-1)
    length = (after.fillna(AS_OF) - ordered["timestamp"]).dt.total_seconds() / 3600
    hours = np.floor(length + 0.5) / 24
    fit = KaplanMeierFitter().fit(hours[hours > 0], after.notna()[hours > 0])
    for row in curve.iloc[::8].to_dict("records"):
        there, later = fit.survival_function_at_times([row["quiet_days"], row["quiet_days"] + 180])
        assert row["return_share"] == pytest.approx(1 - later / there, abs=1e-9)
        assert row["silences_n"] == (hours >= row["quiet_days"] - 1e-9).sum()
        assert row["people_n"] == ordered["person_id"][hours >= row["quiet_days"] - 1e-9].nunique()


def test_a_quantile_of_completed_silences_calls_people_gone_who_are_not(
    lived: pd.DataFrame, curve: pd.DataFrame
) -> None:
    usual, chosen = curve.attrs["quantile_days"], curve.attrs["quiet_days"]
    assert chosen > 1.5 * usual
    assert returning(lived, usual) > 0.2  # so many of those called gone are not
    assert returning(lived, chosen) == pytest.approx(0.1, abs=0.02)  # as asked for
    assert curve.attrs["quantile_return_share"] == pytest.approx(returning(lived, usual), abs=0.03)
    line = curve[curve["chosen"]].iloc[0]
    assert line["return_share"] <= 0.1
    assert curve[curve["quiet_days"] < chosen]["return_share"].min() > 0.1
    assert (curve["return_share_low"] <= curve["return_share"]).all()
    assert (curve["return_share"] <= curve["return_share_high"]).all()


def test_one_silence_a_person_gives_greenwoods_interval() -> None:
    rng = np.random.default_rng(4)
    n = 800
    back = np.where(rng.random(n) < 0.5, rng.uniform(1, 700, n), 9999.0)
    one = pd.DataFrame({"person_id": np.arange(1, n + 1), "day": 0.0})
    again = one.assign(day=back)[back < 9999]
    # Who came back is there for good afterwards: buys every hour to the end, which is no silence.
    plan = SHOP.model_copy(update={"start": ["join"], "returns_within": "100d"})
    log = pd.concat([log_of(one).assign(event="join"), log_of(again)], ignore_index=True)
    log["source_row"] = np.arange(len(log))
    found = quiet.reactivation_curve(log, plan, as_of=AS_OF)
    line = found[found["quiet_days"] == found["quiet_days"].iloc[3]].iloc[0]
    assert line["return_share_low"] < line["return_share"] < line["return_share_high"]
    table = quiet.gaps(log, plan, as_of=AS_OF)
    inside = table[(table["gap_days"] > line["quiet_days"]) & (table["gap_days"] <= line["quiet_days"] + 100)]
    n_at = [(table["returned_n"] + table["open_n"])[table["gap_days"] >= day].sum() for day in inside["gap_days"]]
    greenwood = sum(d / (m * (m - d)) for d, m in zip(inside["returned_n"], n_at, strict=True))
    ratio = 1 - line["return_share"]
    reach = 1.96 * math.sqrt(greenwood) / -math.log(ratio)
    assert line["return_share_high"] == pytest.approx(1 - ratio ** math.exp(reach), abs=0.004)


def test_silences_of_one_person_are_alike() -> None:
    """The same silences of 40 people with 20 each, or of 800 people: the interval of the first is far wider."""
    rng = np.random.default_rng(2)
    own = rng.choice([3.0, 30.0], 40)
    rows = [(k + 1, day) for k, length in enumerate(own) for day in np.arange(0, 21) * length]
    alike = log_of(pd.DataFrame(rows, columns=["person_id", "day"]))
    apart = log_of(
        pd.DataFrame(
            [(20 * k + j + 1, day) for k, length in enumerate(own) for j in range(20) for day in (0, length)],
            columns=["person_id", "day"],
        )
    )
    plan = SHOP.model_copy(update={"returns_within": "20d"})
    spans = []
    for log in (alike, apart):
        found = quiet.reactivation_curve(log, plan, as_of=AS_OF)
        line = found[found["quiet_days"] <= 18].iloc[0]
        spans.append(line["return_share_high"] - line["return_share_low"])
    assert spans[0] > 2 * spans[1]


def test_the_interval_covers() -> None:
    truth = returning(world(60_000, 99), 100)
    hits = 0
    for seed in range(20):
        lived = world(500, seed)
        log = log_of(lived[lived["day"] <= 730])
        found = quiet.reactivation_curve(log, SHOP.model_copy(update={"quiet": "100d"}), as_of=AS_OF)
        line = found[found["chosen"]].iloc[0]
        hits += line["return_share_low"] - 0.01 <= truth <= line["return_share_high"] + 0.01
    assert hits >= 16  # 19 expected; fewer than 16 have a chance of half a percent


def test_the_spread_of_a_part_of_the_people_says_that_of_all(
    seen: pd.DataFrame, curve: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "SAMPLED", 800)
    part = quiet.reactivation_curve(seen, SHOP, as_of=AS_OF)
    assert part["return_share"].tolist() == curve["return_share"].tolist()
    wide, full = ((table["return_share_high"] - table["return_share_low"])[:20] for table in (part, curve))
    assert (wide / full).between(0.8, 1.25).all()
    assert (wide != full).any()


def test_the_threshold_is_what_the_curve_says(seen: pd.DataFrame, curve: pd.DataFrame) -> None:
    assert quiet.threshold(seen, SHOP, as_of=AS_OF) == curve.attrs["read_days"]
    assert quiet.threshold(seen, SHOP.model_copy(update={"quiet": "12w"}), as_of=AS_OF) == 84
    found = spells.of(seen, SHOP, as_of=AS_OF)
    assert found.attrs["quiet_days"] == curve.attrs["quiet_days"]
    assert found.attrs["until"] == AS_OF - pd.Timedelta(days=curve.attrs["quiet_days"])
    never = SHOP.model_copy(update={"returns": 0.001})
    assert math.isnan(quiet.threshold(seen, never, as_of=AS_OF))
    hours = config.Churn(kind="inactivity", activity="buy", returns_within="12h")
    assert silence.step_days(hours) == 1 / 24


def test_sensitivity(lived: pd.DataFrame, seen: pd.DataFrame, curve: pd.DataFrame) -> None:
    found = quiet.sensitivity(seen, SHOP, as_of=AS_OF)
    chosen = curve.attrs["quiet_days"]
    assert found["quiet_days"].tolist() == [chosen * factor for factor in quiet.FACTORS]
    assert found["chosen"].tolist() == [False, False, True, False, False]
    assert found["survival_share"].is_monotonic_increasing
    assert found["came_back_share"].is_monotonic_decreasing
    line = found[found["chosen"]].iloc[0]
    table = spells.of(seen, SHOP, as_of=AS_OF)
    assert (line["n"], line["ended_n"]) == (len(table), table["ended"].sum())
    ended = table[table["ended"] == 1]
    over = (ended["started_at"] - START).dt.total_seconds() / 86400 + ended["duration_days"]
    last = lived[lived["day"] <= 730].groupby("person_id")["day"].max()
    back = (last.reindex(ended["person_id"]).to_numpy() > over.to_numpy() + 1e-6).sum()
    assert line["came_back_n"] == back == table.attrs["came_back_n"]
    twice = quiet.sensitivity(seen, SHOP, as_of=AS_OF, quiet_days=100, factors=[1])
    assert twice["quiet_days"].tolist() == [100]


@pytest.mark.filterwarnings("error")
def test_nothing_ends_with_a_sentence() -> None:
    nobody, one = make_log("u1: visit"), make_log("u1: buy@0d")
    often = make_log(" | ".join(f"u{k}: buy@0d buy@1h buy@2h" for k in range(30)))
    for log in (nobody, nobody.head(0), one, often):
        for found in (
            quiet.reactivation_curve(log, SHOP, as_of="2025-01-11"),
            quiet.sensitivity(log, SHOP, as_of="2025-01-11"),
        ):
            assert found.empty
            assert found.attrs["reason"].startswith("not enough data")
            assert readings.reactivation(found, SHOP) == readings.sensitivity(found) == ""
        assert math.isnan(quiet.threshold(log, SHOP, as_of="2025-01-11"))
    assert plots.reactivation(stats.not_enough([], "none")).get_figure()
    gone = quiet.reactivation_curve(often, SHOP, as_of="2026-01-01")  # nobody ever comes back
    assert gone["return_share"].max() == 0
    assert (gone["return_share_high"] > 0).all()
    assert gone.attrs["quiet_days"] == 1


def test_what_is_said_of_silences(seen: pd.DataFrame, curve: pd.DataFrame) -> None:
    said = readings.reactivation(curve, SHOP)
    assert said.startswith(f"Whoever has been silent for more than {curve.attrs['quiet_days']:.0f} days counts as gone")
    assert "the shortest silence after which at most 10 % come back" in said
    assert f"would say {curve.attrs['quantile_days']:.0f} days" in said
    own = SHOP.model_copy(update={"quiet": "60d"})
    said = readings.reactivation(quiet.reactivation_curve(seen, own, as_of=AS_OF), own)
    assert "for more than 60 days counts as gone, as journey.toml says" in said
    assert f"The curve says {curve.attrs['quiet_days']:.0f} days" in said
    said = readings.sensitivity(quiet.sensitivity(seen, SHOP, as_of=AS_OF))
    assert "compare only figures that were made with the same silence" in said
    assert "nan" not in said
    ax = plots.reactivation(curve)
    assert any(f"{curve.attrs['quiet_days']:.0f} days" in text.get_text() for text in ax.texts)
