"""Whether an effect fades or grows with the days since the exposure."""

from __future__ import annotations

import math
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import engine, sums
from journeykit.config import Experiment, Metric, seconds
from journeykit.experiments.effects import unit_of, why_not
from journeykit.experiments.units import ready
from journeykit.stats import not_enough

BY_DAY = (
    *("experiment", "metric", "arm", "better", "unit", "day", "n_control", "n_treatment", "control", "treatment"),
    *("effect", "effect_low", "effect_high"),
)
TRENDS = (
    *("experiment", "metric", "arm", "unit", "days", "n", "early_effect", "late_effect", "trend", "trend_low"),
    *("trend_high", "later_days", "later_days_low", "later_days_high", "p_value", "p_adjusted", "verdict"),
)
DAY_US = 86_400_000_000
FEWEST = 3  # days that a trend needs
LIMIT = 0.05
NONE_SHOWN = "no trend shown"
KINDS = ("conversion", "count", "value")


def by_day(
    touches: Any, units: pd.DataFrame, *, experiment: Experiment, currency: str = "", min_n: int = 30
) -> pd.DataFrame:
    """Return the effect on each primary metric by whole days since the exposure (day 0: the first 24 hours).

    Everybody compared counts on every day; open windows are left out, so that all days rest on the same people. For a
    conversion it is the share of people with the event on that day, otherwise the daily sum. Intervals are one day's
    own: with two weeks of them one is expected to miss. Caps are not applied. Only metrics of kind conversion, count
    and value, by person, over windows of three days and more.

    Args:
        touches: person_id, time_us or timestamp (UTC), event; value where a metric needs it.
        units: person_id, arm, exposed_at, mature; see `units.units`.
        experiment: the declared experiment.
        currency: unit of value metrics.
        min_n: people that each arm needs.

    Returns:
        One row per primary metric × treatment arm × day: experiment, metric, arm, better, unit, day, n_control,
        n_treatment, control, treatment (means of the day), effect with its 95 % interval (Welch).
        `attrs["trends"]` is the table of `trends`, which comes from the same pass.
    """
    reason = _reason(units, experiment, min_n)
    if reason:
        return not_enough(BY_DAY, reason)
    people = ready(units)
    sizes = people["arm"].value_counts()
    daily_rows: list[dict[str, Any]] = []
    slope_rows: list[dict[str, Any]] = []
    for metric in _metrics(experiment):
        days = _days(metric, experiment)
        daily = _daily(touches, people, metric, days)
        for arm in (arm for arm in experiment.arms if arm != experiment.control):
            named = {"experiment": experiment.label, "metric": metric.name, "arm": arm}
            named["unit"] = unit_of(metric, currency)
            pair = (experiment.control, arm)
            found = [_day(daily, pair, sizes, day) for day in range(days)]
            daily_rows += [{**named, "better": metric.better, "day": day, **row} for day, row in enumerate(found)]
            slope_rows.append({**named, "days": days, **trend(daily, pair, sizes, days)})
    table = pd.DataFrame(daily_rows)[list(BY_DAY)]
    table.attrs["trends"] = _judged(slope_rows)
    return table


def trends(by_day: pd.DataFrame) -> pd.DataFrame:
    """Return whether the effect fades or grows, from the table of `by_day`.

    Two questions, and only if both say so the effect is said to fade or to grow. First, the change of the effect per
    day: the slope of each person's outcome on the day since the exposure, compared between the arms by Welch. Where the
    metric itself falls with the days (most buy soon or never), a lasting relative effect falls with it; so, second,
    whether the events of the treated come sooner or later than those of control: the mean day of an event, a ratio
    over people (delta method). The p-value is the larger of the two, adjusted by Holm over the metrics and arms of the
    experiment. The rival, a regression over the daily effects, takes days for people. All of this has low power: with
    1,000 people an arm who buy about once, an effect that starts at +30 % and loses a quarter each day is found in less
    than half of such tests, so that "no trend shown" says little.

    Returns:
        One row per primary metric × treatment arm: experiment, metric, arm, unit, days, n, early_effect and late_effect
        (mean daily effect of the first and of the second half of the days), trend (change of the daily effect per day)
        with its 95 % interval, later_days (how much later the events of the treated come) with its interval, p_value,
        p_adjusted, verdict ("fades", "grows" or "no trend shown").
    """
    found = by_day.attrs.get("trends")
    return found if isinstance(found, pd.DataFrame) else not_enough(TRENDS, str(by_day.attrs.get("reason", "")))


def _reason(units: pd.DataFrame, experiment: Experiment, min_n: int) -> str:
    if experiment.cluster:
        return f"{experiment.name}: not computed for arms that are drawn by cluster"
    if not _metrics(experiment):
        kinds = ", ".join(KINDS)
        return f"{experiment.name}: no primary metric of kind {kinds} has a window of {FEWEST} days or more"
    reason = why_not(units, experiment, min_n)
    sizes = ready(units)["arm"].value_counts()
    least = min(int(sizes.get(arm, 0)) for arm in experiment.arms)
    if not reason and least < max(min_n, 2):
        reason = f"not enough data (n = {least} people in an arm whose window is over, at least {min_n} are needed)"
    return f"{experiment.name}: {reason}" if reason else ""


def _metrics(experiment: Experiment) -> list[Metric]:
    return [
        metric
        for metric in experiment.metrics
        if metric.role == "primary" and metric.kind in KINDS and _days(metric, experiment) >= FEWEST
    ]


def _days(metric: Metric, experiment: Experiment) -> int:
    """Whole days that everybody whose experiment's window is over has been observed for."""
    within = seconds(experiment.within)
    return int(min(seconds(metric.within), within) if metric.within else within) // 86400


def _daily(touches: Any, people: pd.DataFrame, metric: Metric, days: int) -> pd.DataFrame:
    """One row per person and day with the metric's event: arm, day, amount. It holds no more rows than events."""
    table = engine.lazy(touches)
    small = people[["person_id", "arm"]].assign(
        exposed_us=(people["exposed_at"] - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us")
    )
    offset = nw.col("time_us") - nw.col("exposed_us")
    hits = (
        table.filter(nw.col("event").is_in(metric.event))
        .join(engine.beside(small, table), on="person_id", how="inner")
        .filter((offset > 0) & (offset < days * DAY_US))
        .with_columns(day=offset // DAY_US)
    )
    parts = sums.money("amount", nw.col("value")) if metric.kind == "value" else {"n": nw.lit(1)}
    by_person = hits.with_columns(**parts).group_by("person_id", "arm", "day").agg(*[nw.col(p).sum() for p in parts])
    found = engine.fetch(by_person, limit=20_000_000).sort_values(["person_id", "day"], ignore_index=True)
    amount = sums.total(found, "amount") if metric.kind == "value" else found["n"].astype(float)
    if metric.kind == "conversion":
        amount = (amount > 0).astype(float)
    return found[["person_id", "arm"]].assign(day=found["day"].astype("int64"), amount=amount)


def _day(daily: pd.DataFrame, pair: tuple[str, str], sizes: pd.Series, day: int) -> dict[str, Any]:
    today = daily.loc[daily["day"] == day]
    moments = [_moments(today.loc[today["arm"] == arm, "amount"], int(sizes[arm])) for arm in pair]
    row = _welch(moments[0], moments[1])
    return {
        "n_control": int(sizes[pair[0]]),
        "n_treatment": int(sizes[pair[1]]),
        "control": moments[0][0],
        "treatment": moments[1][0],
        "effect": row["gap"],
        "effect_low": row["low"],
        "effect_high": row["high"],
    }


def trend(daily: pd.DataFrame, pair: tuple[str, str], sizes: pd.Series, length: int) -> dict[str, Any]:
    """Return whether the effect changes with the day, from daily amounts; the numbers of a row of `trends`.

    Args:
        daily: person_id, arm, day (from 0), amount; people and days without a row have 0.
        pair: control and treatment arm.
        sizes: people by arm.
        length: days.
    """
    means = daily.pivot_table(index="day", columns="arm", values="amount", aggfunc="sum", fill_value=0.0)
    means = means.reindex(index=range(length), columns=list(pair), fill_value=0.0)
    effects = (means[pair[1]] / int(sizes[pair[1]]) - means[pair[0]] / int(sizes[pair[0]])).to_numpy()
    days = np.arange(length)
    weights = (days - days.mean()) / ((days - days.mean()) ** 2).sum()
    slopes = (daily["amount"] * weights[daily["day"]]).groupby(daily["person_id"], sort=True).sum()
    arms = daily.drop_duplicates("person_id").set_index("person_id")["arm"].reindex(slopes.index)
    moments = [_moments(slopes[arms == arm], int(sizes[arm])) for arm in pair]
    row = _welch(moments[0], moments[1])
    later = _later(daily, arms, pair, sizes)
    half = len(effects) // 2
    return {
        "n": int(sizes[pair[0]] + sizes[pair[1]]),
        "early_effect": float(effects[:half].mean()),
        "late_effect": float(effects[-half:].mean()),
        "trend": row["gap"],
        "trend_low": row["low"],
        "trend_high": row["high"],
        "later_days": later["gap"],
        "later_days_low": later["low"],
        "later_days_high": later["high"],
        "p_value": max(row["p_value"], later["p_value"]),
        "mean": float(effects.mean()),
    }


def _judged(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table["p_adjusted"] = multipletests(table["p_value"], method="holm")[1]
    agree = (table["p_adjusted"] < LIMIT) & (table["trend"] * table["later_days"] > 0)
    grows = np.sign(table["trend"]) == np.sign(table["mean"])
    said = np.where(agree, np.where(grows, "grows", "fades"), NONE_SHOWN)
    return table.assign(verdict=said)[list(TRENDS)]


def _later(daily: pd.DataFrame, arms: pd.Series, pair: tuple[str, str], sizes: pd.Series) -> dict[str, float]:
    """How many days later an event of the treated comes than one of control, on average (delta method)."""
    amounts = daily["amount"].groupby(daily["person_id"], sort=True).sum()
    days = (daily["amount"] * daily["day"]).groupby(daily["person_id"], sort=True).sum()
    found = []
    for arm in pair:
        mine, n = arms == arm, int(sizes[arm])
        total = float(amounts[mine].sum())
        if total <= 0:
            return {"gap": math.nan, "low": math.nan, "high": math.nan, "p_value": 1.0}
        mean = float(days[mine].sum()) / total
        _, variance, _ = _moments(days[mine] - mean * amounts[mine], n)
        found.append((mean, variance / (total / n) ** 2, n))
    return _welch(found[0], found[1])


def _moments(known: pd.Series, n: int) -> tuple[float, float, int]:
    """Mean, variance of the mean and size of a group whose other people have 0."""
    values = known.to_numpy(dtype=float)
    mean = float(values.sum()) / n
    spread = (float((values**2).sum()) - n * mean**2) / (n - 1)
    return mean, max(spread, 0.0) / n, n


def _welch(base: tuple[float, float, int], other: tuple[float, float, int]) -> dict[str, float]:
    gap, variance = other[0] - base[0], base[1] + other[1]
    if variance <= 0:
        return {"gap": gap, "low": math.nan, "high": math.nan, "p_value": 1.0}
    df = variance**2 / (base[1] ** 2 / (base[2] - 1) + other[1] ** 2 / (other[2] - 1))
    half = float(_stats.t.ppf(0.975, df)) * math.sqrt(variance)
    p_value = float(2 * _stats.t.sf(abs(gap) / math.sqrt(variance), df))
    return {"gap": gap, "low": gap - half, "high": gap + half, "p_value": p_value}
