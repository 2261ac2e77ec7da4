"""What was not known at the time: who an event belonged to then, and who it belongs to now."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, identity
from journeykit.config import Identity
from journeykit.identity_quality import known_people
from journeykit.sensitivity import moved_people
from journeykit.stats import not_enough
from journeykit.study import OpenStudy

COLUMNS = ("until_at", "events_n", "known_then_share", "known_now_share", "people_then_n", "moved_n", "moved_share")


def hindsight(study: OpenStudy, moments: int = 3) -> pd.DataFrame:
    """Return how much of what is known of early events was known then, at some moments of the time observed.

    An event is *known* when its person has an identifier that is no device. Later sign-ins reach back: they give a
    person to events before them, and they show that a device is shared. A model that is to foretell something at a
    moment must not use that, so it stitches as of the moment (`identity.stitch(..., as_of=…)`). Rival: marking the
    time of the first sign-in, which misses devices that turn out to be shared.

    Args:
        study: with the tables of 01 and 02 built.
        moments: how many, evenly spread over the time observed.

    Returns:
        One row per moment: until_at, events_n until then, the share of them that belonged to a known person then and
        that does now (counts of all, so without interval), people_then_n, and moved_n (moved_share) of the people of
        then who have not exactly the same of these events now. It is kept in derived/.
    """
    said = [study.fingerprint("touches"), study.parts_hash("02_stitch"), moments]
    (found,) = study.remember(["hindsight"], said, lambda: [_computed(study, moments)])
    return found if len(found) else not_enough(COLUMNS, "no event was read")


def _computed(study: OpenStudy, moments: int) -> pd.DataFrame:
    plan, touches = study.config.identity, study.table("touches")
    ends = engine.fetch(touches.select(first=nw.col("timestamp").min(), last=nw.col("timestamp").max())).iloc[0]
    rows: list[tuple[Any, ...]] = []
    known_now = known_people(study.table("people"), plan)
    if not pd.isna(ends["first"]):
        for moment in pd.date_range(ends["first"], ends["last"], periods=moments + 2)[1:-1].floor("s"):
            with engine.scratch():
                rows.append(_row(study, plan, moment, touches, known_now))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    study: OpenStudy, plan: Identity, moment: pd.Timestamp, touches: nw.LazyFrame[Any], known_now: nw.LazyFrame[Any]
) -> tuple[Any, ...]:
    until = nw.col("time_us") <= int(moment.value // 1000)
    made = identity.stitch(study.table("events").filter(until), plan, study.table("links"), as_of=moment)
    now = touches.filter(until).select("event_id", _own=nw.col("person_id"))
    both = made.events.select("event_id", "person_id").join(now, on="event_id", how="inner")
    for name, person, known in (
        ("_then", "person_id", known_people(made.people, plan)),
        ("_now", "_own", known_now),
    ):
        marked = known.select(_person=nw.col("person_id")).with_columns(nw.lit(1).alias(name))
        both = both.join(marked, left_on=person, right_on="_person", how="left")
    both = engine.materialise(both, "hindsight_both")
    counted = both.select(n=nw.len(), then=nw.col("_then").sum(), now=nw.col("_now").sum())
    n, then, known_n = (int(value) for value in engine.fetch(counted).fillna(0).iloc[0])
    # Seen from then: the people of then are the ones that are moved.
    moved = moved_people(both.select(_own=nw.col("person_id"), person_id=nw.col("_own")))
    of_n = moved["moved_of_n"]
    return moment, n, then / n, known_n / n, of_n, moved["moved_n"], moved["moved_n"] / of_n
