"""Who is in an experiment, and what they did before and after they met it."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.config import Experiment, Metric, seconds
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.experiments import measures
from journeykit.experiments.measures import BEFORE, EVENT, MATURE, MICROS, PER, PER_BEFORE, Sum, one
from journeykit.stats import not_enough

COVARIATE, CLUSTER, UNKNOWN = "touches_before", "cluster", "unknown"
RESERVED = ("person_id", "arm", "exposed_at", "mature", COVARIATE, CLUSTER)
STATUSES = ("compared", "window still open", "seen in several arms", "arm not declared", "no arm recorded")
ROWS = 100_000_000  # units are one row per person, so the engine's limit on what may be fetched does not apply


def units(touches: Any, *, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what each exposed person did after the first exposure, for the metrics of one experiment.

    A person is exposed at the first `exposure` event that records an arm. Only events strictly after that moment and
    at most `within` later count (the end of the window is inclusive): what happened before the exposure, or at the
    same instant, cannot be its effect. The rival, counting from assignment, dilutes the effect with people who never
    saw the change. People seen in several arms are left out, or with `several_arms = "first"` belong to the arm of
    their first exposure (who met two arms in the same instant has no first one and is left out). Arms that
    journey.toml does not declare are left out; `exposure_check` counts all of them. What lies after `as_of` is not
    looked at. A person whose window ends after `as_of` has `mature` False and null metrics; a metric with a `within`
    of its own has null until that is over.

    Metrics by kind: conversion 1 or 0 · count of events, at most `cap` · value summed over the events (study currency,
    at most `cap`; null when one of them has no value, because missing is not 0) · satisfaction, the mean answer 0–1
    (null for no answer) · funnel 1 or 0: all steps in order, each after the exposure and inside the window · ratio:
    numerator events, and `<metric>__per` its denominator (events, or visits with an event after the exposure: the
    visit of the exposure itself counts when it goes on) · time: days until the event or the end of observation (the
    window or `as_of`), and `<metric>__event` 1 where it was the event; it uses everybody exposed.

    Args:
        touches: person_id, time_us or timestamp (UTC), event, the experiment's identifier and arm columns; value,
            satisfaction, session_id, the columns of steps, of `by` and of `cluster` where they are named; the columns
            of the order of events (position) for a funnel.
        experiment: the declared experiment.
        as_of: end of observation (UTC).

    Returns:
        One row per exposed person: person_id, arm, exposed_at, mature, touches_before (events of the person in the
        period `before` the exposure), cluster (text or null, where declared), each column of `by` as text at the
        exposure ("unknown" where it is empty), several_arms (with "first": whether the person met several), and per
        metric m: m, m__before (the same quantity in the period `before`, known amounts only; not for time), m__per and
        m__per_before (ratio), m__event (time), m__mature (where m has a window of its own).

    Raises:
        JourneyError: a column is missing, or a metric has the name of another column.

    >>> from tests.conftest import make_log
    >>> plan = Experiment(name="t", hypothesis="h", exposure="seen", arms={"a": 0.5, "b": 0.5}, control="a",
    ...     identifier_column="", within="7d", metrics=[{"name": "orders", "event": "buy", "kind": "count"}])
    >>> log = make_log("u1: buy seen@1d buy@2d buy@3d buy@9d | u2: seen@1d visit@2d")
    >>> log["segment_variant"] = log["person_id"].map({1: "a", 2: "b"})
    >>> found = units(log, experiment=plan, as_of=pd.Timestamp("2025-02-01"))
    >>> found[["arm", "touches_before", "orders", "orders__before"]].values.tolist()
    [['a', 1, 2.0, 1.0], ['b', 0, 0.0, 0.0]]
    """
    measures.check_names(experiment, (*RESERVED, *(["several_arms"] if experiment.several_arms == "first" else [])))
    table = _checked(touches, experiment, as_of)
    with engine.scratch():
        rows = _around_exposure(table, experiment)
        found = engine.fetch(_counted(rows, experiment), limit=ROWS).sort_values("person_id", ignore_index=True)
        through = _funnels(rows, experiment)
    exposed, end = found["exposed_us"].astype("int64"), _micros(as_of)
    result: dict[str, Any] = {
        "person_id": found["person_id"],
        "arm": np.array(list(experiment.arms), dtype=object)[found["arm"].to_numpy(dtype="int64")],
        "exposed_at": pd.to_datetime(exposed, unit="us"),
        "mature": exposed + seconds(experiment.within) * MICROS <= end,
        COVARIATE: found[COVARIATE].astype("int64"),
    }
    if experiment.several_arms == "first":
        result["several_arms"] = found["several"] > 0
    if experiment.cluster:
        result[CLUSTER] = found[CLUSTER].astype(object)
    result |= {name: found[f"by_{i}"].astype(object).fillna(UNKNOWN) for i, name in enumerate(experiment.by)}
    for number, metric in enumerate(experiment.metrics):
        window = measures.window_us(metric, experiment)
        over = exposed + window <= end
        if metric.kind == "time":
            until = pd.Series(np.minimum(window, end - exposed), index=found.index)
            result[metric.name], result[metric.name + EVENT] = measures.days_until(found, f"m{number}", until)
            continue
        if metric.kind == "funnel":
            after, before = (found["person_id"].isin(done).astype(float) for done in through[metric.name])
        else:
            after, before = (measures.measured(found, f"{side}{number}", metric) for side in "mb")
        result[metric.name] = after.where(over)
        if metric.kind == "ratio":
            result[metric.name + PER] = measures.denominators(found, f"m{number}", metric).where(over)
            result[metric.name + PER_BEFORE] = measures.denominators(found, f"b{number}", metric)
        result[metric.name + BEFORE] = before
        if measures.own_window(metric, experiment):
            result[metric.name + MATURE] = over
        found = found.drop(columns=[name for name in found if str(name).split("_")[0] in (f"m{number}", f"b{number}")])
    return pd.DataFrame(result)


def exposure_check(touches: Any, *, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return how many exposed people are compared, and why the others are not.

    Returns:
        One row per status that somebody has ("compared" always), adding up to everyone with an exposure event:
        experiment, status, people_n, people_share, several_arms_n (those of the row who were seen in several arms).
    """
    table = _checked(touches, experiment, as_of, metrics=False)
    arm, closed = nw.col("arm"), nw.col("exposed_us") + seconds(experiment.within) * MICROS <= _micros(as_of)
    compared, is_open, several, undeclared, unknown = (nw.lit(status) for status in STATUSES)
    status = (
        nw.when(nw.col("arms") == 0)
        .then(unknown)
        .otherwise(
            nw.when(nw.col("left_out") == 1)
            .then(several)
            .otherwise(
                nw.when(~arm.is_in(list(experiment.arms)))
                .then(undeclared)
                .otherwise(nw.when(closed).then(compared).otherwise(is_open))
            )
        )
    )
    people = _first_exposures(table, experiment).with_columns(status=status, one=nw.col("exposed_us") * 0 + 1)
    counted = people.group_by("status").agg(people_n=nw.col("one").sum(), several_n=nw.col("several").sum())
    found = engine.fetch(counted).set_index("status")
    total = int(found["people_n"].sum())
    columns = ["experiment", "status", "people_n", "people_share", "several_arms_n"]
    if total == 0:
        return not_enough(columns, f"{experiment.name}: nobody has an event {experiment.exposure!r} of this experiment")
    shown = [name for name in STATUSES if name in found.index or name == STATUSES[0]]
    counts = found.reindex(shown, fill_value=0).astype("int64")
    rows = [(experiment.label, name, n, n / total, k) for name, n, k in counts.itertuples()]
    return pd.DataFrame(rows, columns=columns)


def ready(units: pd.DataFrame) -> pd.DataFrame:
    """Return the people whose window is closed; a table without `mature` is taken as all closed."""
    return _those(units, "mature")


def ready_for(units: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    """Return the people that a metric is known of: its own window is over, or (time) everybody, censored."""
    if metric.kind == "time":
        return units
    own = metric.name + MATURE
    return _those(units, own if own in units.columns else "mature")


def _those(units: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that a column says yes to; the table itself, without a copy, where that is all of them."""
    if column not in units.columns:
        return units
    known = units[column].astype(bool)
    return units if known.all() else units.loc[known]


def check_arms(units: pd.DataFrame, planned: dict[str, float], where: str) -> None:
    """Raise JourneyError when units are in an arm that is not planned."""
    found = units["arm"].drop_duplicates().tolist()
    for arm in found:
        if arm not in planned:
            raise JourneyError(
                f"{where}: arm {arm!r} is not planned.{nearest(str(arm), planned)} Planned: {', '.join(planned)}. "
                "Declare it under arms, or leave its people out."
            )


def _checked(touches: Any, experiment: Experiment, as_of: pd.Timestamp, *, metrics: bool = True) -> nw.LazyFrame[Any]:
    """The touches until `as_of` as a lazy table that has every column that the experiment names."""
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    need = ["person_id", "time_us", "event", experiment.arm_column]
    need += [experiment.identifier_column] if experiment.identifier_column else []
    if metrics:
        need += [*experiment.by, *([experiment.cluster] if experiment.cluster else [])]
        need += measures.columns_needed(experiment.metrics)
        need += engine.order_of(have) if any(metric.kind == "funnel" for metric in experiment.metrics) else []
    need = list(dict.fromkeys(need))
    require_columns(have, need, f"touches, for experiments.{experiment.name}")
    return table.select(need).filter(nw.col("time_us") <= _micros(as_of))


def _exposures(table: nw.LazyFrame[Any], experiment: Experiment) -> nw.Expr:
    """Whether an event is an exposure to this experiment, with an arm or without."""
    shown = nw.col("event") == experiment.exposure
    if experiment.identifier_column:
        # A column that is null throughout may come without a type; text is what it is compared with.
        shown = shown & (nw.col(experiment.identifier_column).cast(nw.String) == experiment.name)
    return shown


def _first_exposures(table: nw.LazyFrame[Any], experiment: Experiment) -> nw.LazyFrame[Any]:
    """One row per person: arm, exposed_us, arms (how many), several (1: more than one), left_out (1: because of that).

    Exposures without an arm count only for people who have no other, whose arm is then null.
    """
    shown = table.filter(_exposures(table, experiment))
    by_arm = (
        shown.select("person_id", "time_us", arm=nw.col(experiment.arm_column).cast(nw.String))
        .group_by("person_id", "arm")
        .agg(first_us=nw.col("time_us").min())
        .with_columns(armed_us=nw.when(~nw.col("arm").is_null()).then(nw.col("first_us")))
    )
    people = by_arm.group_by("person_id").agg(
        arms=(nw.col("arm").is_null().cast(nw.Int64) * -1 + 1).sum(),
        armed_us=nw.col("armed_us").min(),
        seen_us=nw.col("first_us").min(),
        alone=nw.col("arm").min(),
    )
    if experiment.several_arms == "first":
        first = (
            by_arm.filter(~nw.col("arm").is_null())
            .join(people.select("person_id", "armed_us"), on=["person_id", "armed_us"], how="inner")
            .group_by("person_id")
            .agg(arm=nw.col("arm").min(), last_arm=nw.col("arm").max())
        )
        people = people.join(first, on="person_id", how="left")
        left_out = one(nw.col("arm") != nw.col("last_arm"))
    else:
        people = people.with_columns(arm=nw.col("alone"))
        left_out = one(nw.col("arms") > 1)
    return people.with_columns(
        exposed_us=nw.coalesce("armed_us", "seen_us"), several=one(nw.col("arms") > 1), left_out=left_out
    ).select("person_id", "arm", "exposed_us", "arms", "several", "left_out")


def _around_exposure(table: nw.LazyFrame[Any], experiment: Experiment) -> nw.LazyFrame[Any]:
    """The events of the compared from `before` the exposure to the end of the last window, with their `offset` (µs)."""
    arms = list(experiment.arms)
    code = nw.lit(0)
    for number, arm in enumerate(arms):
        code = nw.when(nw.col("arm") == arm).then(nw.lit(number)).otherwise(code)
    exposed = (
        _first_exposures(table, experiment)
        .filter((nw.col("left_out") == 0) & nw.col("arm").is_in(arms))
        .select("person_id", "exposed_us", "several", exposed_arm=nw.col("arm"), arm_code=code)
    )
    longest = max(
        [seconds(experiment.within) * MICROS, *(measures.window_us(m, experiment) for m in experiment.metrics)]
    )
    return (
        table.join(exposed, on="person_id", how="inner")
        .with_columns(offset=nw.col("time_us") - nw.col("exposed_us"))
        .filter((nw.col("offset") >= -_before_us(experiment)) & (nw.col("offset") <= longest))
    )


def _counted(rows: nw.LazyFrame[Any], experiment: Experiment) -> nw.LazyFrame[Any]:
    """One row per unit with all sums that the metrics need."""
    before = (nw.col("offset") < 0) & (nw.col("offset") >= -_before_us(experiment))
    parts = {COVARIATE: Sum(one(before), "sum", nw.Int32())}
    for number, metric in enumerate(experiment.metrics):
        after = (nw.col("offset") > 0) & (nw.col("offset") <= measures.window_us(metric, experiment))
        parts |= measures.parts(f"m{number}", metric, after)
        if metric.kind != "time":
            parts |= measures.parts(f"b{number}", metric, before)
    met = (
        _exposures(rows, experiment)
        & (nw.col("offset") == 0)
        & (nw.col(experiment.arm_column).cast(nw.String) == nw.col("exposed_arm"))
    )
    at_exposure = {f"by_{i}": name for i, name in enumerate(experiment.by)}
    at_exposure |= {CLUSTER: experiment.cluster} if experiment.cluster else {}
    for key, name in at_exposure.items():
        parts[key] = Sum(nw.when(met).then(nw.col(name).cast(nw.String)), "min")
    return (
        rows.with_columns(**{name: part.value for name, part in parts.items()})
        .group_by("person_id", "exposed_us")
        .agg(
            arm=nw.col("arm_code").max(),
            several=nw.col("several").max(),
            **{name: Sum(nw.col(name), part.how, part.kind).over() for name, part in parts.items()},
        )
    )


def _funnels(rows: nw.LazyFrame[Any], experiment: Experiment) -> dict[str, tuple[set[Any], set[Any]]]:
    """For each funnel, who goes through it after the exposure, and who did before."""
    found = {}
    for metric in experiment.metrics:
        if metric.kind == "funnel":
            after = measures.went_through(rows, metric, 1, measures.window_us(metric, experiment))
            found[metric.name] = (after, measures.went_through(rows, metric, -_before_us(experiment), -1))
    return found


def _before_us(experiment: Experiment) -> int:
    return seconds(experiment.before) * MICROS


def _micros(moment: pd.Timestamp) -> int:
    stamp = pd.Timestamp(moment)
    stamp = stamp.tz_convert("UTC").tz_localize(None) if stamp.tz is not None else stamp
    return int((stamp - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us"))
