"""What was known on a day: who was there, what was known of them, and time as a customer until then, to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import config, engine
from journeykit.churn import covariates, periods, spells
from journeykit.stats import not_enough

WIDTH_DAYS = 30.0  # a period of tenure
MOST_ROWS = 100_000_000  # person-periods that may leave the engine
DAY_US = 86_400_000_000
THERE_COLUMNS = ("person_id", "started_at", "tenure_days")
OUTCOME_COLUMNS = ("person_id", "tenure_days", "after_days", "ended")


@dataclass(frozen=True)
class Known:
    """What was known on a day."""

    at: pd.Timestamp  # until when leaving was known: the day itself, or with inactivity that day less the silence
    rows: pd.DataFrame  # of `periods.person_periods`, until then
    there: pd.DataFrame  # who was there then: THERE_COLUMNS and one column a covariate
    starts: pd.DataFrame  # person_id and event_id of the event that each of them started with
    quiet_days: float | None = None  # the silence that counted as leaving
    note: str = ""  # who is left out of the spells, and why


def known_at(
    touches: Any, plan: config.Churn, *, as_of: pd.Timestamp, covariates_: Sequence[config.Covariate] | None = None
) -> Known:
    """Return what was known on a day; nothing after it is looked at.

    The touches must be stitched as of that day too, or a later sign-in tells who an earlier event belongs to.

    Args:
        touches: needs what `spells.of` and `covariates.known` need, and event_id.
        plan: `[churn]`.
        as_of: the day (UTC).
        covariates_: other ones than those of the plan.
    """
    of = list(plan.covariates if covariates_ is None else covariates_)
    t = engine.lazy(touches)
    t = t.filter(nw.col("time_us") <= int(pd.Timestamp(as_of).value // 1000))
    found = spells.of(t, plan, as_of=as_of)
    at = pd.Timestamp(found.attrs.get("until", as_of))
    quiet, note = found.attrs.get("quiet_days"), str(found.attrs.get("note", ""))
    found.attrs = {}  # else each table made of it carries them, and an engine refuses moments among them
    rows = periods.person_periods(t, found, covariates=of, width_days=WIDTH_DAYS)
    fetched = engine.fetch(rows, limit=MOST_ROWS).sort_values(["person_id", "period"], ignore_index=True)
    there = found[found["ended"] == 0].astype({"person_id": "int64"}).sort_values("person_id", ignore_index=True)
    marks = pd.DataFrame({"person_id": there["person_id"], "until_us": int(at.value // 1000)}).astype("int64")
    there = there.rename(columns={"duration_days": "tenure_days"})[list(THERE_COLUMNS)]
    there = there.merge(covariates.known(t, marks, of), on="person_id", how="left", validate="one_to_one")
    return Known(at, fetched, there, _starts(t, there, plan), quiet, note)


def outcome(then: Known, touches: Any, plan: config.Churn, *, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what became of those who were there, as is known now.

    A person of then is the person of now to whom the event belongs that they started with. With inactivity, the silence
    that counts is the one of then.

    Args:
        then: of `known_at`.
        touches: as they are now.
        plan: `[churn]`.
        as_of: now (UTC).

    Returns:
        One row per person who was there and can be followed: person_id (of then), now_id, tenure_days (then),
        after_days (days from then to leaving or to the end of observation), ended and one column a covariate; sorted by
        person_id. `.attrs`: "at_most_days" (from then to the end of observation), "note" and the counts "merged_n" (two
        of then are one now: the first stays), "gone_n" (as is known now, had left by then), "lost_n" (not found).
    """
    names = [name for name in then.there.columns if name not in THERE_COLUMNS]
    columns = ["person_id", "now_id", *OUTCOME_COLUMNS[1:], *names]
    if then.there.empty:
        return not_enough(columns, "not enough data (n = 0 people were there)")
    now = spells.of(touches, plan, as_of=as_of, quiet_days=then.quiet_days)
    until = pd.Timestamp(now.attrs.get("until", as_of))
    now.attrs = {}
    t = engine.lazy(touches)
    owners = t.select("event_id", now_id=nw.col("person_id"))
    pairs = engine.fetch(engine.beside(then.starts, t).join(owners, on="event_id", how="inner"), limit=20_000_000)
    ends = now.assign(now_id=now["person_id"], _began=pd.to_datetime(now["started_at"]))
    found = then.there.merge(pairs[["person_id", "now_id"]], on="person_id", how="left")
    found = found.merge(ends[["now_id", "_began", "duration_days", "ended"]], on="now_id", how="left")
    most = (until - then.at) / pd.Timedelta(days=1)
    after = (found["_began"] - then.at) / pd.Timedelta(days=1) + found["duration_days"]
    # Those still there were all seen to one moment; adding durations up would scatter them around it.
    found["after_days"] = np.where(found["ended"] == 0, most, after)
    lost = found["_began"].isna()
    gone = ~lost & (found["ended"] == 1) & (after <= 0)
    kept = found[~lost & ~gone].sort_values(["now_id", "started_at", "person_id"])
    once = kept.drop_duplicates("now_id")
    counts = {"lost_n": int(lost.sum()), "gone_n": int(gone.sum()), "merged_n": len(kept) - len(once)}
    result = once.astype({"now_id": "int64", "ended": "int64"})[columns].sort_values("person_id", ignore_index=True)
    if result.empty:
        result = not_enough(columns, "not enough data (nobody who was there can be followed)")
    result.attrs.update(counts, at_most_days=float(most), note=_said(counts))
    return result


def _starts(t: nw.LazyFrame[Any], there: pd.DataFrame, plan: config.Churn) -> pd.DataFrame:
    """The event that each person started with; of several at one moment the first of the order."""
    began = (pd.to_datetime(there["started_at"]) - pd.Timestamp("1970-01-01")) // pd.Timedelta("1us")
    marks = pd.DataFrame({"person_id": there["person_id"], "time_us": began}).astype("int64")
    start = list(plan.start or (plan.activity if plan.kind == "inactivity" else []))
    if start:
        t = t.filter(nw.col("event").is_in(start))
    order = engine.order_of(t.collect_schema().names())
    found = t.join(engine.beside(marks, t), on=["person_id", "time_us"], how="inner")
    table = engine.fetch(found.select("person_id", "event_id", *[n for n in order if n != "event_id"]), 20_000_000)
    table = table.sort_values(["person_id", *order]).drop_duplicates("person_id")
    return table[["person_id", "event_id"]].reset_index(drop=True)


def _said(counts: dict[str, int]) -> str:
    words = {
        "lost_n": "cannot be found again",
        "gone_n": "had left already, as is known now",
        "merged_n": "turned out to be the same people as others",
    }
    said = [f"{counts[name]:,} {text}" for name, text in words.items() if counts[name]]
    return f"Of those there then, {', '.join(said)}; they are not tested on." if said else ""
