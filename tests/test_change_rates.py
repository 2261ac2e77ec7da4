"""Error rates by simulation: how often intervals of changes hold the truth, how often rules of a watch fire in vain.

`CHANGE_RUNS` sets the number of runs; with `CHANGE_TABLE` the tables are written there as Markdown.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from journeykit.changes import differences
from journeykit.changes.before_after import before_after
from journeykit.changes.counterfactual import counterfactual
from journeykit.config_changes import Series
from journeykit.watch import judge
from tests.test_changes import days

pytestmark = pytest.mark.slow
RUNS = int(os.environ.get("CHANGE_RUNS", "400"))
COUNT = Series(name="x")


def note(title: str, table: pd.DataFrame) -> None:
    where = os.environ.get("CHANGE_TABLE", "")
    if where:
        rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
        text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        with Path(where).open("a", encoding="utf-8") as file:
            file.write(f"## {title}\n\n{text}\n\n")


def shared_walk(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A series and its imperfect control: common random walk, weekly cycle, AR(1) noise, a little drift of its own."""
    common = np.cumsum(rng.normal(0, 1, n))
    week = np.resize([0.0, 2, 3, 2, 1, -4, -4], n)
    own = np.zeros(n)
    for day in range(1, n):
        own[day] = 0.4 * own[day - 1] + rng.normal(0, 3)
    control = 100 + common + 0.5 * week + rng.normal(0, 1.5, n)
    return 100 + common + week + own + np.cumsum(rng.normal(0, 0.15, n)), control


def table_of(y: np.ndarray, x: np.ndarray, split: int, width: int) -> pd.DataFrame:
    after = np.arange(len(y)) >= split
    table = pd.DataFrame({"at": pd.date_range("2025-01-06", periods=len(y), freq=f"{width}D"), "value": y})
    table = table.assign(top=y * width, per=np.nan, weight=1.0, control=x, is_after=after, days_n=width)
    table.attrs["width"] = width
    return table


def coverage(method: str, width: int, before: int, after: int, lift: float = 0.0) -> tuple[float, float]:
    """Share of intervals that hold the effect, and that exclude 0."""
    held = shown = 0
    for run in range(RUNS):
        y, x = shared_walk(np.random.default_rng(50_000 + run), (before + after) * width)
        y[before * width :] += lift
        y, x = (part.reshape(-1, width).mean(axis=1) for part in (y, x))
        table = table_of(y, x, before, width)
        if method == "before/after":
            row = before_after(table, COUNT).iloc[0]
        else:
            row = counterfactual(table, COUNT, repetitions=400, seed=run, with_path=False).effect.iloc[0]
        held += row["effect_low"] <= lift <= row["effect_high"]
        shown += not row["effect_low"] <= 0 <= row["effect_high"]
    return held / RUNS, shown / RUNS


def test_the_counterfactual_covers_and_before_after_does_not() -> None:
    rows = []
    cases = [
        ("before/after", 1, 90, 30),
        ("counterfactual", 1, 90, 30),
        ("counterfactual", 1, 56, 30),
        ("counterfactual", 7, 16, 8),
        ("counterfactual", 7, 36, 13),
    ]
    for method, width, before, after in cases:
        held, wrong = coverage(method, width, before, after)
        rows.append((method, f"{before} {'days' if width == 1 else 'weeks'}", round(held, 3), round(wrong, 3)))
    _, power = coverage("counterfactual", 1, 90, 30, lift=10)
    rows.append(("counterfactual, effect of 10 %", "90 days", "", round(power, 3)))
    note(
        f"Coverage of the 95 % interval, {RUNS} runs",
        pd.DataFrame(rows, columns=["method", "before", "holds the truth", "claims an effect"]),
    )
    error = 3 * np.sqrt(0.95 * 0.05 / RUNS)
    assert rows[0][2] < 0.5
    for row in rows[1:5]:
        assert row[2] >= 0.93 - error, row


def weekly_counts(rng: np.random.Generator, n: int, shift: float) -> np.ndarray:
    """Counts with a weekly cycle, a trend and AR(1) noise; the last seven days are moved by `shift`."""
    noise = np.zeros(n)
    for day in range(1, n):
        noise[day] = 0.4 * noise[day - 1] + rng.normal(0, 0.03)
    level = 1500 * np.exp(0.001 * np.arange(n)) * np.resize([1.1, 1.15, 1.1, 1.05, 1.0, 0.8, 0.8], n) * np.exp(noise)
    level[-7:] *= 1 + shift
    return rng.poisson(level)


def fires(found: pd.DataFrame, rule: str) -> np.ndarray:
    part = found.loc[found["rule"] == rule]
    return ((part["observed"] < part["low"]) | (part["observed"] > part["high"])).to_numpy()


def test_rules_of_a_watch_are_quiet_and_catch_what_matters() -> None:
    rows = []
    for shift in (0.0, -0.1, -0.2):
        by_day, by_week = [], []
        for run in range(RUNS):
            values = weekly_counts(np.random.default_rng(run), 31 * 7, shift)
            found = judge.judged(days(values), COUNT, last=7)
            by_day.append(fires(found, "day"))
            by_week.append(fires(found, "week")[-1])
        daily = np.array(by_day)
        caught = daily.mean() if shift == 0 else daily[:, :3].any(axis=1).mean()
        rows.append((f"{shift:.0%}", round(float(caught), 4), round(float(np.mean(by_week)), 4)))
    table = pd.DataFrame(
        rows, columns=["shift", "day (false per day; caught in 3 days)", "week (false; caught at once)"]
    )
    note(f"Rules of a watch, {RUNS} runs", table)
    assert rows[0][1] <= 0.012
    assert rows[0][2] <= 0.012 + 3 * np.sqrt(0.007 / RUNS)
    assert rows[2][1] >= 0.85
    assert rows[1][2] >= 0.8


def test_shares_are_quiet_too_and_wider_where_they_scatter() -> None:
    rows = []
    for name, scatter in (("binomial", 0.0), ("more than binomial", 0.25)):
        fired = []
        for run in range(RUNS):
            rng = np.random.default_rng(run)
            n = 31 * 7
            per = rng.poisson(np.resize([300, 320, 310, 300, 290, 150, 150], n))
            rate = stats.logistic.cdf(np.resize([0.4, 0.4, 0.4, 0.4, 0.4, 0.0, 0.0], n) + rng.normal(0, scatter, n))
            found = judge.judged(days(rng.binomial(per, rate), per), Series(name="s", kind="share", per="y"), last=1)
            fired.append((fires(found, "day")[-1], fires(found, "week")[-1]))
        rows.append((name, *[round(float(share), 4) for share in np.mean(fired, axis=0)]))
    note(f"False alarms of shares, {RUNS} runs", pd.DataFrame(rows, columns=["scatter", "day", "week"]))
    for row in rows:
        assert max(row[1:]) <= 0.02 + 3 * np.sqrt(0.02 / RUNS), row


def test_differences_of_few_groups_cover_though_weeks_are_alike() -> None:
    rows = []
    for alike in (0.0, 0.3, 0.6):
        held = 0
        for run in range(RUNS):
            noise = np.random.default_rng(60_000 + run).normal(size=76)
            for week in range(1, 76):
                noise[week] += alike * noise[week - 1]
            trends = pd.DataFrame({"difference": noise[50:], "is_after": np.arange(26) >= 20})
            _, low, high, _ = differences._by_weeks(trends)
            held += low <= 0 <= high
        rows.append((alike, round(held / RUNS, 3)))
    columns = ["autocorrelation of weeks", "holds the truth"]
    title = f"Difference in differences of few groups, 20 weeks before, 6 after, {RUNS} runs"
    note(title, pd.DataFrame(rows, columns=columns))
    for row in rows:
        least = 0.93 if row[0] < 0.5 else 0.88  # where weeks are much alike it covers less, as its docstring says
        assert row[1] >= least - 3 * np.sqrt(0.95 * 0.05 / RUNS), row
