"""Who is in an experiment, and what they did before and after they met it."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, sums
from journeykit.config import Experiment, Metric, seconds
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.stats import not_enough

COVARIATE = "touches_before"
RESERVED = ("person_id", "arm", "exposed_at", "mature", COVARIATE)
STATUSES = ("compared", "window still open", "seen in several arms", "arm not declared", "no arm recorded")


def units(touches: Any, *, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what each exposed person did after the first exposure, for the metrics of one experiment.

    A person is exposed at the first `exposure` event that records an arm. Only events strictly after that moment and
    at most `within` later count (the end of the window is inclusive): what happened before the exposure, or at the
    same instant, cannot be its effect. The rival, counting from assignment, dilutes the effect with people who never
    saw the change. People seen in several arms are left out, as are arms that journey.toml does not declare;
    `exposure_check` counts both. A person whose window ends after `as_of` has `mature` False and null metrics.

    Metrics by kind: conversion 1 or 0 · count of events · value summed over the events (study currency; null when one
    of them has no value, because missing is not 0) · satisfaction, the mean answer 0–1 (null for no answer).

    Args:
        touches: person_id, time_us or timestamp (UTC), event, the experiment's identifier and arm columns; value and
            satisfaction where a metric needs them.
        experiment: the declared experiment.
        as_of: end of observation (UTC).

    Returns:
        One row per exposed person: person_id, arm, exposed_at, mature, touches_before (events of the person in the
        period `before` the exposure: the covariate of CUPED for every metric), and one column per metric.

    Raises:
        JourneyError: a column is missing, or a metric has the name of another column.
    """
    names = [metric.name for metric in experiment.metrics]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise JourneyError(
                f"experiments.{experiment.name}.metrics: the name {name!r} is taken. Give each metric a name of its "
                f"own, and none of: {', '.join(RESERVED)}."
            )
    table = _checked(touches, experiment, [metric.kind for metric in experiment.metrics])
    exposed = (
        _first_exposures(table, experiment)
        .filter((nw.col("arm") == nw.col("last_arm")) & nw.col("arm").is_in(list(experiment.arms)))
        .select("person_id", "arm", "exposed_us")
    )
    keep = ["person_id", "time_us", "event", *(name for name in ("value", "satisfaction") if name in _columns(table))]
    after = (nw.col("offset") > 0) & (nw.col("offset") <= seconds(experiment.within) * 1_000_000)
    before = (nw.col("offset") < 0) & (nw.col("offset") >= -seconds(experiment.before) * 1_000_000)
    parts = {COVARIATE: _one(before)}
    for number, metric in enumerate(experiment.metrics):
        parts.update(_parts(f"m{number}", metric, after))
    counted = (
        table.select(keep)
        .join(exposed, on="person_id", how="inner")
        .with_columns(offset=nw.col("time_us") - nw.col("exposed_us"))
        .with_columns(**parts)
        .group_by("person_id", "arm", "exposed_us")
        .agg(*[nw.col(name).sum() for name in parts])
    )
    found = engine.fetch(counted).sort_values("person_id", ignore_index=True)
    result = pd.DataFrame(
        {
            "person_id": found["person_id"],
            "arm": found["arm"].astype(object),
            "exposed_at": pd.to_datetime(found["exposed_us"].astype("int64"), unit="us"),
            "mature": found["exposed_us"].astype("int64") + seconds(experiment.within) * 1_000_000 <= _micros(as_of),
            COVARIATE: found[COVARIATE].astype("int64"),
        }
    )
    measured = {m.name: _measure(found, f"m{i}", m).where(result["mature"]) for i, m in enumerate(experiment.metrics)}
    return result.assign(**measured)


def exposure_check(touches: Any, *, experiment: Experiment, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return how many exposed people are compared, and why the others are not.

    Returns:
        One row per status that somebody has ("compared" always), adding up to everyone with an exposure event:
        experiment, status, people_n, people_share.
    """
    table = _checked(touches, experiment, [])
    arm, closed = nw.col("arm"), nw.col("exposed_us") + seconds(experiment.within) * 1_000_000 <= _micros(as_of)
    compared, is_open, several, undeclared, unknown = (nw.lit(status) for status in STATUSES)
    status = (
        nw.when(arm.is_null())
        .then(unknown)
        .otherwise(
            nw.when(arm != nw.col("last_arm"))
            .then(several)
            .otherwise(
                nw.when(~arm.is_in(list(experiment.arms)))
                .then(undeclared)
                .otherwise(nw.when(closed).then(compared).otherwise(is_open))
            )
        )
    )
    people = _first_exposures(table, experiment).with_columns(status=status, one=nw.col("exposed_us") * 0 + 1)
    found = engine.fetch(people.group_by("status").agg(people_n=nw.col("one").sum()))
    counts = dict(zip(found["status"], found["people_n"], strict=True))
    total = int(sum(counts.values()))
    columns = ["experiment", "status", "people_n", "people_share"]
    if total == 0:
        return not_enough(columns, f"{experiment.name}: nobody has an event {experiment.exposure!r} of this experiment")
    shown = [name for name in STATUSES if name in counts or name == STATUSES[0]]
    rows = [(experiment.label, name, int(counts.get(name, 0)), counts.get(name, 0) / total) for name in shown]
    return pd.DataFrame(rows, columns=columns)


def ready(units: pd.DataFrame) -> pd.DataFrame:
    """Return the people whose window is closed; a table without `mature` is taken as all closed."""
    return units.loc[units["mature"].astype(bool)] if "mature" in units.columns else units


def check_arms(units: pd.DataFrame, planned: dict[str, float], where: str) -> None:
    """Raise JourneyError when `units` holds an arm that is not planned, or a person without an arm."""
    found = units["arm"].drop_duplicates().tolist()
    for arm in found:
        if arm not in planned:
            raise JourneyError(
                f"{where}: arm {arm!r} is not planned.{nearest(str(arm), planned)} Planned: {', '.join(planned)}. "
                "Declare it under arms, or leave its people out."
            )


def _checked(touches: Any, experiment: Experiment, kinds: list[str]) -> nw.LazyFrame[Any]:
    """The touches as a lazy table that has every column that the experiment names."""
    table = engine.lazy(touches)
    need = ["person_id", "time_us", "event", experiment.arm_column]
    need += [experiment.identifier_column] if experiment.identifier_column else []
    need += [name for name in ("value", "satisfaction") if name in kinds]
    require_columns(_columns(table), need, f"touches, for experiments.{experiment.name}")
    return table


def _columns(table: nw.LazyFrame[Any]) -> list[str]:
    return table.collect_schema().names()


def _first_exposures(table: nw.LazyFrame[Any], experiment: Experiment) -> nw.LazyFrame[Any]:
    """One row per person: first exposure that records an arm, and the first and last arm in the alphabet.

    Exposures without an arm count only for people who have no other, whose arm is then null.
    """
    shown = table.filter(nw.col("event") == experiment.exposure)
    if experiment.identifier_column:
        # A column that is null throughout may come without a type; text is what it is compared with.
        shown = shown.filter(nw.col(experiment.identifier_column).cast(nw.String) == experiment.name)
    armed = nw.col(experiment.arm_column).cast(nw.String)
    return (
        shown.select("person_id", "time_us", arm_seen=armed)
        .with_columns(armed_us=nw.when(~nw.col("arm_seen").is_null()).then(nw.col("time_us")))
        .group_by("person_id")
        .agg(
            arm=nw.col("arm_seen").min(),
            last_arm=nw.col("arm_seen").max(),
            armed_us=nw.col("armed_us").min(),
            seen_us=nw.col("time_us").min(),
        )
        .with_columns(exposed_us=nw.coalesce("armed_us", "seen_us"))
    )


def _one(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0))


def _parts(key: str, metric: Metric, after: nw.Expr) -> dict[str, nw.Expr]:
    """The sums that a metric needs, one value per event."""
    hit = after & nw.col("event").is_in(metric.event)
    if metric.kind in ("conversion", "count"):
        return {f"{key}_n": _one(hit)}
    amount = nw.col(metric.kind).cast(nw.Float64)
    known = hit & ~amount.is_null()
    return {
        f"{key}_n": _one(known),
        f"{key}_unknown": _one(hit & amount.is_null()),
        **(
            sums.money(key, nw.when(known).then(amount))
            if metric.kind == "value"
            else {f"{key}_sum": sums.whole(nw.when(known).then(amount), sums.SHARE)}
        ),
    }


def _measure(found: pd.DataFrame, key: str, metric: Metric) -> pd.Series:
    n = found[f"{key}_n"].astype(float)
    if metric.kind == "conversion":
        return (n > 0).astype(float)
    if metric.kind == "count":
        return n
    if metric.kind == "value":
        return sums.total(found, key).where(found[f"{key}_unknown"].astype(float) == 0)
    return (found[f"{key}_sum"].astype(float) / sums.SHARE / n.where(n > 0)).round(9)


def _micros(moment: pd.Timestamp) -> int:
    stamp = pd.Timestamp(moment)
    stamp = stamp.tz_convert("UTC").tz_localize(None) if stamp.tz is not None else stamp
    return int((stamp - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us"))
