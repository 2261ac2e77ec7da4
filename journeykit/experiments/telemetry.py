"""Whether events get lost in one arm more than in the other after the exposure."""

from __future__ import annotations

import math
from typing import Any

import narwhals as nw
import pandas as pd
from scipy import stats as _stats

from journeykit import engine
from journeykit.config import Experiment, seconds
from journeykit.experiments.trust import BROKEN, WARNING, alike
from journeykit.experiments.units import ready
from journeykit.stats import add_share, not_enough

TELEMETRY = (
    *("experiment", "segment", "value", "arm", "n", "silent_n", "silent_share", "silent_share_low"),
    *("silent_share_high", "events_per_person", "events_per_person_low", "events_per_person_high"),
    *("silent_p_value", "events_p_value", "p_adjusted", "verdict"),
)
ALL = "all"
Z = float(_stats.norm.ppf(0.975))


def telemetry(touches: Any, units: pd.DataFrame, *, experiment: Experiment, min_n: int = 30) -> pd.DataFrame:
    """Return how much is heard of each arm after the exposure: people without any event, and neutral events per person.

    A crash or a blocked script in one arm loses its events, and a metric that counts events then falls although nobody
    did anything else. Neutral are the events that no metric names and that are neither exposure nor assignment. They
    are no proof: a change may truly make people do more or less. All of a person's events after the exposure and
    within the window count. For all people, and for each value of the columns of `by`.

    Args:
        touches: person_id, time_us or timestamp (UTC), event.
        units: person_id, arm, exposed_at, the columns of `by`; people whose window is open are left out.
        experiment: the declared experiment.
        min_n: people that each arm of a value needs.

    Returns:
        One row per value × arm, "all" first: experiment, segment ("all" or the column), value, arm, n, silent_n and
        silent_share (people without any later event) with its Wilson interval, events_per_person (neutral events) with
        its 95 % interval, silent_p_value (chi-square over the arms), events_p_value (Welch against control; empty
        for it), p_adjusted (the smaller one, times all comparisons of the experiment: Bonferroni), verdict ("alike",
        "warning" below 0.01, "differs" below 0.001).
    """
    if experiment.cluster:
        return not_enough(TELEMETRY, f"{experiment.name}: not computed for arms that are drawn by cluster")
    people = ready(units)
    if people.empty:
        return not_enough(TELEMETRY, f"{experiment.name}: not enough data (n = 0 people whose window is closed)")
    counted = _counted(touches, people, experiment)
    parts = []
    for column in ("", *experiment.by):
        for value, group in counted.groupby(column) if column else [(ALL, counted)]:
            rows = group.groupby("arm")[["n", "silent_n", "events", "squares"]].sum().reindex(list(experiment.arms))
            if rows["n"].fillna(0).min() >= min_n:
                parts.append(_compared(rows, experiment).assign(segment=column or ALL, value=str(value)))
    if not parts:
        return not_enough(TELEMETRY, f"{experiment.name}: not enough data: each arm needs {min_n} people")
    table = pd.concat(parts, ignore_index=True)
    tests = len(parts) * len(experiment.arms)  # one of silence, and one of events for each treatment
    smallest = table[["silent_p_value", "events_p_value"]].min(axis=1)
    table["p_adjusted"] = (smallest * tests).clip(upper=1.0)
    table["verdict"] = ["differs" if p < BROKEN else "warning" if p < WARNING else "alike" for p in table["p_adjusted"]]
    return table.assign(experiment=experiment.label)[list(TELEMETRY)]


def named_events(experiment: Experiment) -> list[str]:
    """Return the events that an experiment names: they are not neutral."""
    found = [experiment.exposure, *experiment.assignment]
    for metric in experiment.metrics:
        found += [*metric.event, *metric.per, *(name for step in metric.steps for name in step.values)]
    return list(dict.fromkeys(found))


def _counted(touches: Any, people: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """People, those who stay silent, neutral events and their squares, by arm and all columns of `by`."""
    table = engine.lazy(touches)
    small = people[["person_id", "arm"]].assign(
        exposed_us=(people["exposed_at"] - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us"),
        **{f"by_{i}": people[name].astype(str) for i, name in enumerate(experiment.by)},
    )
    keys = ["arm", *(f"by_{i}" for i in range(len(experiment.by)))]
    offset = nw.col("time_us") - nw.col("exposed_us")
    after = (offset > 0) & (offset <= seconds(experiment.within) * 1_000_000)
    neutral = after & ~nw.col("event").is_in(named_events(experiment))
    heard = (
        table.select("person_id", "time_us", "event")
        .join(engine.beside(small, table), on="person_id", how="inner")
        .with_columns(heard=_one(after), neutral=_one(neutral))
        .group_by("person_id", *keys)
        .agg(heard=nw.col("heard").max(), events=nw.col("neutral").sum())
        .with_columns(silent=1 - nw.col("heard"), squares=nw.col("events") * nw.col("events"), one=nw.lit(1))
        .group_by(*keys)
        .agg(
            n=nw.col("one").sum(),
            silent_n=nw.col("silent").sum(),
            events=nw.col("events").sum(),
            squares=nw.col("squares").sum(),
        )
    )
    found = engine.fetch(heard).sort_values(keys, ignore_index=True)
    numbers = ["n", "silent_n", "events", "squares"]
    found[numbers] = found[numbers].astype("int64")
    return found.rename(columns={f"by_{i}": name for i, name in enumerate(experiment.by)})


def _compared(rows: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    n = rows["n"].astype(float)
    mean = rows["events"] / n
    variance = (rows["squares"] - n * mean**2).clip(lower=0) / (n - 1)
    half = Z * (variance / n) ** 0.5
    table = rows.reset_index().astype({"n": "int64", "silent_n": "int64"})
    table = add_share(table, "silent", "silent_n", "n")
    table["events_per_person"] = mean.to_numpy()
    table["events_per_person_low"] = (mean - half).clip(lower=0).to_numpy()
    table["events_per_person_high"] = (mean + half).to_numpy()
    table["silent_p_value"] = alike(table["silent_n"], table["n"])
    control = experiment.control
    table["events_p_value"] = [
        math.nan
        if arm == control
        else _welch(mean[arm], variance[arm], n[arm], mean[control], variance[control], n[control])
        for arm in rows.index
    ]
    return table


def _welch(mean: float, variance: float, n: float, base: float, base_variance: float, base_n: float) -> float:
    if variance + base_variance <= 0:
        return 1.0 if mean == base else 0.0
    found: Any = _stats.ttest_ind_from_stats(
        mean, math.sqrt(variance), n, base, math.sqrt(base_variance), base_n, equal_var=False
    )
    return float(found.pvalue)


def _one(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0))
