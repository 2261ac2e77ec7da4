"""Order once: a person's events become touches, with their session, their journey and their neighbours."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, identity, ordering, sums
from journeykit.config import Journeys, Study, seconds
from journeykit.study import OpenStudy

MICRO = 1_000_000
LARGE = 1e9  # larger values are summed without what follows the point: millionths of many would not fit an integer


def build(study: OpenStudy) -> bool:
    """Write `people`, `touches` and `journeys`; do nothing when they are up to date.

    Returns:
        True when the tables were built, False when they were there for the same events and settings.
    """
    mark = study.fingerprint("events") + study.parts_hash("02_stitch")
    if all(study.fingerprint(name) == mark for name in ("people", "touches", "journeys")):
        return False
    plan = study.config
    stitched = identity.stitch(study.table("events"), plan.identity, study.table("links"))
    note = {"fingerprint": mark, "parts": study.parts_hash("02_stitch"), "events": study.fingerprint("events")}
    path = study.path("touches")
    write_touches(stitched.events, plan, path, note)
    engine.write_parquet(engine.lazy(stitched.people), study.path("people"), note)
    made = journeys(engine.read_parquet(path), plan=plan.journeys, as_of=study.as_of())
    engine.write_parquet(made.sort("journey_id"), study.path("journeys"), note)
    return True


def write_touches(events: Any, plan: Study, path: Path, note: dict[str, str] | None = None) -> None:
    """Write stitched events as touches: sorted by person and the total order, see `ordering.order_touches`."""
    work = partial(ordering.order_touches, sessions=plan.sessions, journeys=plan.journeys, timezone=plan.study.timezone)
    engine.write_in_order(events, path, note, by="person_id", order=engine.ORDER, work=work)


def journeys(touches: Any, *, plan: Journeys, as_of: pd.Timestamp) -> nw.LazyFrame[Any]:
    """Sum touches up to journeys.

    `converted`: a conversion within `window` of the start (the first start event, or the first touch where none is
    declared); `open`: none yet, not quiet for `gap` at `as_of` and its `window` not over, so that it may still convert;
    `abandoned`: the rest. Rival: counting an open journey as not converted, which holds its youth against it.

    Args:
        touches: needs journey_id, person_id, position, timestamp, event_id, event, channel, marketing_channel, value;
            those without a journey_id are in no journey.
        plan: start and conversion events, gap and window.
        as_of: end of observation (UTC).

    Returns:
        One row per journey: journey_id, person_id, started_at, ended_at, outcome, touches_n, channels_n,
        entry_channel (what brought the first touch, else where it took place), duration_days (from the first touch to
        the last), value (to the millionth, and the same whatever the order of the touches).

    >>> from tests.conftest import make_log
    >>> plan, log = Journeys(conversion="buy"), make_log("u1: ad buy | u2: ad")
    >>> engine.fetch(journeys(log, plan=plan, as_of=pd.Timestamp("2026-01-01")).sort("journey_id"))["outcome"].tolist()
    ['converted', 'abandoned']
    """
    table = engine.lazy(touches).filter(~nw.col("journey_id").is_null())
    value = nw.col("value").cast(nw.Float64)
    table = table.with_columns(
        _one=_flag(~nw.col("event_id").is_null()),
        _conversion_us=nw.when(nw.col("event").is_in(plan.conversion)).then(nw.col("time_us")),
        _start_us=nw.when(nw.col("event").is_in(plan.start)).then(nw.col("time_us"))
        if plan.start
        else nw.col("time_us"),
        _without=_flag(nw.col("channel").is_null()),
        _millionths=sums.whole(value, sums.MONEY),
        _large=nw.when(value.abs() >= sums.LARGE).then(value.round(0)).otherwise(0.0),
    )
    made = table.group_by("journey_id", "person_id").agg(
        started_at=nw.col("timestamp").min(),
        ended_at=nw.col("timestamp").max(),
        touches_n=nw.col("_one").sum(),
        channels_n=nw.col("channel").n_unique(),
        _without=nw.col("_without").max(),
        _position=nw.col("position").min(),
        _millionths=nw.col("_millionths").sum(),
        _large=nw.col("_large").sum(),
        _first_us=nw.col("time_us").min(),
        _last_us=nw.col("time_us").max(),
        _start_us=nw.col("_start_us").min(),
        _conversion_us=nw.col("_conversion_us").min(),
    )
    entries = table.select(
        _journey=nw.col("journey_id"),
        _place=nw.col("position"),
        entry_channel=nw.coalesce(nw.col("marketing_channel"), nw.col("channel"), nw.lit("unknown")),
    )
    made = made.join(entries, left_on=["journey_id", "_position"], right_on=["_journey", "_place"], how="left")
    made = made.with_columns(
        outcome=_outcome(plan, int(as_of.value // 1000)),
        duration_days=(nw.col("_last_us") - nw.col("_first_us")) / (86400 * MICRO),
        touches_n=nw.col("touches_n").cast(nw.Int64),
        channels_n=(nw.col("channels_n") - nw.col("_without")).cast(nw.Int64),  # null is no channel
        value=nw.col("_millionths").cast(nw.Float64) / sums.MONEY + nw.col("_large"),
    )
    order = ["journey_id", "person_id", "started_at", "ended_at", "outcome", "touches_n", "channels_n"]
    return made.select(*order, "entry_channel", "duration_days", "value")


def _outcome(plan: Journeys, end_us: int) -> nw.Expr:
    converted = ~nw.col("_conversion_us").is_null()
    still_open = end_us - nw.col("_last_us") <= seconds(plan.gap) * MICRO
    if plan.window:
        window = seconds(plan.window) * MICRO
        converted = converted & (nw.col("_conversion_us") - nw.col("_start_us") <= window)
        still_open = still_open & (end_us - nw.col("_start_us") <= window)
    unfinished = nw.when(still_open).then(nw.lit("open")).otherwise(nw.lit("abandoned"))
    return nw.when(converted).then(nw.lit("converted")).otherwise(unfinished)


def _flag(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(1).otherwise(0)
