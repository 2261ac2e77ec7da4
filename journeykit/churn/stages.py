"""Who is still a customer some time after each stage: the part of staying that the Journey Score can multiply by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, stats
from journeykit.churn import curves
from journeykit.churn.clock import DAY_US
from journeykit.churn.spells import of as spells_of
from journeykit.config import Churn
from journeykit.durations import seconds
from journeykit.errors import require_columns
from journeykit.journey_map import NO_STAGES

STAY_COLUMNS = ("person_id", "stage", "duration_days", "ended", "followed_days")
RETENTION_COLUMNS = (
    *("stage", "n", "ended_n", "followed_n", "horizon_days"),
    *("retained_share", "retained_share_low", "retained_share_high"),
)


def retention_by_stage(
    touches: Any,
    spells: pd.DataFrame,
    *,
    stages: Sequence[str],
    horizon: str = "180d",
    end: Sequence[str] = (),
    survey_touchpoints: Sequence[str] = ("Survey",),
    min_n: int = 20,
) -> pd.DataFrame:
    """Return the probability to be a customer still, `horizon` after entering each stage (Kaplan–Meier).

    The people of a stage are those who were customers when they entered it (see `stays`); their clock starts then,
    so that stages entered late are not credited with the time that it took to get there. Stages share people: they
    are no groups to be tested against each other, and who reaches a late stage has already stayed for a while, which
    no intervention in the stage brings about. Rivals: tenure as the clock, with entry to the stage as late entry;
    moving on to a later stage (`journey_map.stage_flow`), which says nothing about staying.

    Args:
        touches: `person_id`, `event`, `stage`, `touchpoint` and `timestamp`.
        spells: one row per customer, by `spells.of`.
        stages: the stages, in order.
        horizon: how long after entering the stage.
        end: events that end a spell; they are no way into a stage.
        survey_touchpoints: touches that measure a stage and do not enter it.
        min_n: people of a stage; it needs so many who entered it `horizon` or longer before the end of observation.

    Returns:
        One row per stage that has enough people, in order: stage, n, ended_n (within the horizon), followed_n (entered
        so long ago that the whole horizon was observed), horizon_days, retained_share (+low, high; log-log, as in
        `curves.survival_curve`). `.attrs["note"]` names the stages left out.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: join@0d ask@10d leave@50d | u2: join@0d ask@20d")
    >>> days = pd.to_datetime(["2025-01-01", "2025-01-01"])
    >>> known = pd.DataFrame({"person_id": [1, 2], "started_at": days, "duration_days": [50.0, 90.0], "ended": [1, 0]})
    >>> table = retention_by_stage(log, known, stages=["join", "ask"], horizon="45d", end=["leave"], min_n=1)
    >>> table[["stage", "n", "ended_n", "retained_share"]].values.tolist()
    [['join', 2, 0, 1.0], ['ask', 2, 1, 0.5]]
    """
    if not stages:
        return stats.not_enough(RETENTION_COLUMNS, NO_STAGES)
    table = stays(touches, spells, stages=stages, end=end, survey_touchpoints=survey_touchpoints)
    if table.empty:
        return stats.not_enough(RETENTION_COLUMNS, stats.reason_of(table))
    days = seconds(horizon) / 86_400
    rows, left_out = [], []
    for stage in stages:
        part = table[table["stage"] == stage]
        followed = int((part["followed_days"] >= days).sum())
        if followed < max(min_n, 1):
            left_out.append(f"{stage} (n = {followed})")
        else:
            rows.append((stage, len(part), curves.ends_by(part, days), followed, days, *_share(part, days)))
    said = f"fewer than {min_n} customers entered it {horizon} or more before the end of observation"
    note = f"Left out, since {said}: {', '.join(left_out)}." if left_out else ""
    if not rows:
        return stats.not_enough(RETENTION_COLUMNS, f"not enough data (in every stage, {said}: {', '.join(left_out)})")
    result = pd.DataFrame(rows, columns=list(RETENTION_COLUMNS))
    result.attrs["note"] = note
    return result


def stays(
    touches: Any,
    spells: pd.DataFrame,
    *,
    stages: Sequence[str],
    end: Sequence[str] = (),
    survey_touchpoints: Sequence[str] = ("Survey",),
) -> pd.DataFrame:
    """Return how long customers stayed from entering each stage on.

    A person enters a stage with the first touch in it that is neither a survey nor an event of `end`. Who had touched
    it before becoming a customer (or before coming under observation) enters when that happens: most people see an ad
    before they buy, and it is as customers that they can be kept. Who touches it first after having left does not
    enter it. Rivals: only touches within the spell, which leaves early stages to the few who return to them; the last
    touch.

    One row per person and stage entered, sorted: person_id, stage, duration_days (from entry to leaving or to the end
    of observation), ended (0 or 1), followed_days (from entry to the end of observation, whether or not they left).
    """
    require_columns(spells.columns, ["person_id", "started_at", "duration_days", "ended"], "stages")
    if spells.empty:
        return stats.not_enough(STAY_COLUMNS, str(spells.attrs.get("reason", "not enough data (n = 0 customers)")))
    table = engine.lazy(touches)
    require_columns(table.collect_schema().names(), ["person_id", "event", "stage", "touchpoint", "time_us"], "stages")
    surveys = nw.col("touchpoint").is_in(list(survey_touchpoints)).fill_null(value=False)
    table = table.filter(nw.col("stage").cast(nw.String).is_in(list(stages)), ~surveys)
    if end:
        table = table.filter(~nw.col("event").is_in(list(end)))
    people = _customers(spells)
    entered = table.join(engine.beside(people[["person_id", "over_us"]], table), on="person_id")
    first = entered.filter(nw.col("time_us") <= nw.col("over_us")).group_by("person_id", "stage")
    found = engine.fetch(first.agg(first_us=nw.col("time_us").min()), limit=20_000_000)
    if found.empty:
        return stats.not_enough(STAY_COLUMNS, "not enough data (n = 0 customers entered a stage)")
    rows = found.merge(people, on="person_id", validate="many_to_one")
    begin = np.maximum(rows["first_us"].astype("int64"), rows["seen_us"])
    rows = rows.assign(
        duration_days=(rows["over_us"] - begin) / DAY_US, followed_days=(rows["until_us"] - begin) / DAY_US
    )
    order = {name: k for k, name in enumerate(stages)}
    rows = rows.sort_values(["person_id", "stage"], key=lambda c: c.map(order) if c.name == "stage" else c)
    return rows[list(STAY_COLUMNS)].reset_index(drop=True)


def _customers(spells: pd.DataFrame) -> pd.DataFrame:
    """Return person_id, ended and, in µs, when each came under observation, left, and could last be seen."""
    epoch = pd.Timestamp("1970-01-01")
    began = ((spells["started_at"] - epoch) // pd.Timedelta("1us")).astype("int64")
    entered = spells["entered_days"] if "entered_days" in spells else pd.Series(0.0, index=spells.index)
    over = began + (spells["duration_days"] * DAY_US).round().astype("int64")
    until = spells.attrs.get("until")
    last = int(over.max()) if until is None else int((pd.Timestamp(until) - epoch) // pd.Timedelta("1us"))
    return pd.DataFrame(
        {
            "person_id": spells["person_id"],
            "ended": spells["ended"].astype("int64"),
            "seen_us": began + (entered.fillna(0) * DAY_US).round().astype("int64"),
            "over_us": over,
            "until_us": last,
        }
    )


def _share(part: pd.DataFrame, days: float) -> tuple[float, float, float]:
    """The Kaplan–Meier share at a day, with its interval."""
    fit = curves.steps(part, days)
    share, low, high = (np.concatenate([[1.0], side])[-1:] for side in (fit.share, *fit.bounds()))
    at = np.array([days])
    there = curves.under_observation(part, at)
    low, high = stats.flat_ends(at, share, low, high, there, int(fit.ended.sum()))
    return float(share[0]), float(low[0]), float(high[0])


def for_score(touches: Any, plan: Churn | None, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Return what `journey_score` needs to multiply by who stays, where `[churn]` says `in_score`; else nothing.

    Args:
        touches: of 02_stitch.
        plan: `[churn]`, or None.
        as_of: end of observation (UTC).
    """
    if plan is None or not plan.in_score:
        return {}
    return {"spells": spells_of(touches, plan, as_of=as_of), "end": plan.end}
