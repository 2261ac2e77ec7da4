"""Order once: a person's events become touches, with their session, their journey and their neighbours."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, identity
from journeykit.config import Journeys, seconds
from journeykit.study import OpenStudy

MICRO = 1_000_000
ORDER = list(engine.ORDER)


def build(study: OpenStudy) -> bool:
    """Write `people`, `touches` and `journeys`; do nothing when they are up to date.

    Returns:
        True when the tables were built, False when they were there for the same events and settings.
    """
    mark = study.fingerprint("events") + study.parts_hash("02_stitch")
    if all(study.fingerprint(name) == mark for name in ("people", "touches", "journeys")):
        return False
    plan = study.config
    stitched = identity.stitch(study.table("events"), plan.identity)
    note = {"fingerprint": mark, "parts": study.parts_hash("02_stitch"), "events": study.fingerprint("events")}
    path = study.path("touches")
    by = f"id_{plan.sessions.identifier}" if plan.sessions.identifier else ""
    events = engine.materialise(stitched.events, "stitched_events")
    sessions = engine.materialise(add_sessions(events, gap=plan.sessions.gap, identifier=by), "sessioned_events")
    touched = add_order(add_journeys(sessions, plan=plan.journeys))
    engine.write_parquet(touched.sort("person_id", *ORDER).drop("time_us"), path, note)
    engine.write_parquet(engine.lazy(stitched.people), study.path("people"), note)
    made = journeys(engine.read_parquet(path), plan=plan.journeys, as_of=study.as_of())
    engine.write_parquet(made.sort("journey_id"), study.path("journeys"), note)
    return True


def add_sessions(events: Any, *, gap: str = "30m", identifier: str = "") -> nw.LazyFrame[Any]:
    """Add `session_id`: a new one when more than `gap` passed since the person's previous event.

    Rivals: a cut at midnight or at a new campaign (GA4 before 2023), a gap of at least `gap`. With `identifier` a
    session is what the source says it is: one value of that column for one person.

    Args:
        events: needs person_id and the total order; `identifier` where it is given.
        gap: a duration such as "30m".
        identifier: a column that holds the source's own session identifier.

    Returns:
        The events with session_id, an integer that is unique over people.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad@0h visit@10m buy@2h").drop(columns="session_id")
    >>> engine.fetch(add_sessions(log).sort("time_us"))["session_id"].tolist()
    [1, 1, 2]
    """
    table = engine.lazy(events)
    if identifier:
        return _sessions_of_source(table, identifier, gap)
    return _numbered(_gap_number(table, gap, ["person_id"]), "session_id")


def _gap_number(table: nw.LazyFrame[Any], gap: str, within: list[str]) -> nw.LazyFrame[Any]:
    """Add `_number`, which counts up where more than `gap` has passed since the event before."""
    table = table.with_columns(_since=nw.col("time_us") - nw.col("time_us").shift(1).over(*within, order_by=ORDER))
    table = table.with_columns(_start=nw.when(nw.col("_since") <= seconds(gap) * MICRO).then(0).otherwise(1))
    table = table.with_columns(_number=nw.col("_start").cum_sum().over(*within, order_by=ORDER))
    return table.drop("_since", "_start")


def _sessions_of_source(table: nw.LazyFrame[Any], identifier: str, gap: str) -> nw.LazyFrame[Any]:
    # Events without the source's session follow the gap, among themselves.
    lacks = table.with_columns(_lacks=nw.when(nw.col(identifier).is_null()).then(1).otherwise(0))
    lacks = _gap_number(lacks, gap, ["person_id", "_lacks"])
    keyed = lacks.with_columns(
        _key=nw.coalesce(nw.col(identifier), nw.concat_str(nw.lit("gap "), nw.col("_number").cast(nw.String)))
    ).drop("_lacks", "_number")
    first = engine.fetch(
        keyed.group_by("person_id", "_key").agg(_us=nw.col("time_us").min(), _id=nw.col("event_id").min())
    ).sort_values(["person_id", "_us", "_id"], ignore_index=True)
    numbers = first[["person_id", "_key"]].assign(session_id=np.arange(1, len(first) + 1, dtype="int64"))
    return keyed.join(engine.lazy(numbers), on=["person_id", "_key"], how="left").drop("_key")


def _numbered(table: nw.LazyFrame[Any], name: str) -> nw.LazyFrame[Any]:
    """Turn a number within the person (`_number`, from 1) into one that is unique over people."""
    counts = engine.fetch(table.group_by("person_id").agg(_n=nw.col("_number").max())).sort_values("person_id")
    before = counts[["person_id"]].assign(_before=(counts["_n"].cumsum() - counts["_n"]).astype("int64"))
    joined = table.join(engine.lazy(before), on="person_id", how="left")
    return joined.with_columns((nw.col("_number") + nw.col("_before")).cast(nw.Int64).alias(name)).drop(
        "_number", "_before"
    )


def add_journeys(touches: Any, *, plan: Journeys) -> nw.LazyFrame[Any]:
    """Add `journey_id`: what a person does from a first touch until a conversion has run its course or all is quiet.

    A journey starts with the person's first event; after more than `gap` of silence; and, after a conversion, with
    the first event of one of `restart_stages` (without them, with the next event). What follows a conversion until
    then (delivery, support, surveys) belongs to the journey that converted.

    Args:
        touches: needs person_id, event, stage and the total order.
        plan: conversion events, gap and restart stages.

    Returns:
        The touches with journey_id, an integer that is unique over people.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad buy survey@5d ad@9d visit@200d").drop(columns="journey_id")
    >>> plan = Journeys(conversion="buy", restart_stages=["ad"])
    >>> engine.fetch(add_journeys(log, plan=plan).sort("time_us"))["journey_id"].tolist()
    [1, 1, 1, 2, 3]
    """
    person = {"order_by": ORDER}
    restarts = nw.col("stage").is_in(plan.restart_stages) if plan.restart_stages else ~nw.col("event").is_null()
    table = engine.lazy(touches).with_columns(
        _since=nw.col("time_us") - nw.col("time_us").shift(1).over("person_id", **person),
        _converts=_flag(nw.col("event").is_in(plan.conversion)),
        _restarts=_flag(restarts),
    )
    # Conversions before this event: the running count without the event itself.
    table = table.with_columns(_done=nw.col("_converts").cum_sum().over("person_id", **person))
    table = table.with_columns(_done=nw.col("_done") - nw.col("_converts"))
    quiet = nw.col("_since").is_null() | (nw.col("_since") > seconds(plan.gap) * MICRO)
    table = table.with_columns(_quiet=_flag(quiet))
    may_start = _flag((nw.col("_quiet") == 1) | ((nw.col("_restarts") == 1) & (nw.col("_done") > 0)))
    table = table.with_columns(_may=may_start)
    # Only the first possible start after each conversion opens a journey; silence always does.
    table = table.with_columns(_earlier=nw.col("_may").cum_sum().over("person_id", "_done", **person) - nw.col("_may"))
    starts = (nw.col("_quiet") == 1) | ((nw.col("_may") == 1) & (nw.col("_earlier") == 0))
    table = table.with_columns(_start=_flag(starts))
    table = table.with_columns(_number=nw.col("_start").cum_sum().over("person_id", **person))
    drop = ["_since", "_converts", "_restarts", "_done", "_quiet", "_may", "_earlier", "_start"]
    return _numbered(table, "journey_id").drop(*drop)


def _flag(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(1).otherwise(0)


def add_order(touches: Any) -> nw.LazyFrame[Any]:
    """Add what depends on order: position, previous_event, next_event, seconds_since_previous (within the person)."""
    table = engine.lazy(touches).with_columns(_one=nw.when(~nw.col("event_id").is_null()).then(1).otherwise(0))
    table = table.with_columns(
        position=nw.col("_one").cum_sum().over("person_id", order_by=ORDER),
        previous_event=nw.col("event").shift(1).over("person_id", order_by=ORDER),
        next_event=nw.col("event").shift(-1).over("person_id", order_by=ORDER),
        seconds_since_previous=(nw.col("time_us") - nw.col("time_us").shift(1).over("person_id", order_by=ORDER))
        / MICRO,
    )
    return table.with_columns(nw.col("position").cast(nw.Int64)).drop("_one")


def journeys(touches: Any, *, plan: Journeys, as_of: pd.Timestamp) -> nw.LazyFrame[Any]:
    """Sum touches up to journeys.

    `converted`: a conversion within `window` of the start; `open`: none yet, not quiet for `gap` at `as_of` and its
    `window` not over, so that it may still convert; `abandoned`: the rest.

    Args:
        touches: needs journey_id, person_id, session order, event, channel, marketing_channel and value.
        plan: conversion events, gap and window.
        as_of: end of observation (UTC).

    Returns:
        One row per journey: journey_id, person_id, started_at, ended_at, outcome, touches_n, channels_n,
        entry_channel (what brought the first touch, else where it took place), duration_days, value.
    """
    table = engine.lazy(touches)
    table = table.with_columns(
        _one=nw.when(~nw.col("event_id").is_null()).then(1).otherwise(0),
        _conversion_us=nw.when(nw.col("event").is_in(plan.conversion)).then(nw.col("time_us")),
        _without=nw.when(nw.col("channel").is_null()).then(1).otherwise(0),
        _from=nw.coalesce(nw.col("marketing_channel"), nw.col("channel"), nw.lit("unknown")),
    ).with_columns(_place=nw.col("_one").cum_sum().over("journey_id", order_by=ORDER))
    made = (
        table.with_columns(_entry=nw.when(nw.col("_place") == 1).then(nw.col("_from")))
        .group_by("journey_id", "person_id")
        .agg(
            started_at=nw.col("timestamp").min(),
            ended_at=nw.col("timestamp").max(),
            touches_n=nw.col("_one").sum(),
            channels_n=nw.col("channel").n_unique(),
            _without=nw.col("_without").max(),
            entry_channel=nw.col("_entry").max(),
            value=nw.col("value").sum(),
            _first_us=nw.col("time_us").min(),
            _last_us=nw.col("time_us").max(),
            _conversion_us=nw.col("_conversion_us").min(),
        )
    )
    end_us = int(as_of.value // 1000)
    converted = ~nw.col("_conversion_us").is_null()
    if plan.window:
        converted = converted & (nw.col("_conversion_us") - nw.col("_first_us") <= seconds(plan.window) * MICRO)
    still_open = end_us - nw.col("_last_us") <= seconds(plan.gap) * MICRO
    if plan.window:
        still_open = still_open & (end_us - nw.col("_first_us") <= seconds(plan.window) * MICRO)
    made = made.with_columns(
        outcome=nw.when(converted)
        .then(nw.lit("converted"))
        .otherwise(nw.when(still_open).then(nw.lit("open")).otherwise(nw.lit("abandoned"))),
        duration_days=(nw.col("_last_us") - nw.col("_first_us")) / (86400 * MICRO),
        touches_n=nw.col("touches_n").cast(nw.Int64),
        channels_n=(nw.col("channels_n") - nw.col("_without")).cast(nw.Int64),  # null is no channel
    )
    order = ["journey_id", "person_id", "started_at", "ended_at", "outcome", "touches_n", "channels_n"]
    return made.select(*order, "entry_channel", "duration_days", "value")
