"""What was known about people at some moment, and nothing that came later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeykit import config, engine
from journeykit.churn.moments import at_moments, free_names
from journeykit.errors import require_columns
from journeykit.stats import not_enough

COVARIATE_COLUMNS = ("person_id", "started_at", "landmark_at", "segment", "entered_days", "duration_days", "ended")
PEOPLE = 20_000_000  # rows of one per person that may leave the engine
MARK_COLUMNS = ("person_id", "until_us")
_SPELLS = ("person_id", "started_at", "duration_days", "ended", "segment")
_EPOCH = pd.Timestamp("1970-01-01")


def known(touches: Any, marks: Any, covariates: Sequence[config.Covariate]) -> pd.DataFrame:
    """Return what was known about people by a moment of each: from events at or before it, of all history.

    - `any`, `count`: whether there was one of `events`, or how many. Each event of `without` takes one away, never
      below 0: two tickets and one solution leave one ticket unresolved.
    - `poor`: how many moments were poor: answers below `poor_below`, and any of `events` (a late delivery is poor
      without being asked about).
    - `detours`: how often the person came back: an event whose touchpoint occurred before in the same journey, with
      another touchpoint in between. Product, basket, product, basket has two; product, product has none; events
      without touchpoint or journey do not count. It is `friction.rework` without its loops. Rivals: every repeated
      event, in which reading ten pages of help is nine detours; steps beyond those planned (`detours.detour`), which
      are known only after the arrival; different touchpoints left twice, which hides going round in circles.
    - `satisfaction`: the mean of the answers so far (of `events`, or of all), missing where there is none. Rivals: the
      last answer, which is noisier; the mean of those asked for everybody else, which invents an answer.
    - `category`: the last value of `column` that is not null, by the total order (the prefix `segment_` may be left
      out); None when there was none.

    With `last`, only events after moment − `last` count, up to the moment. What comes after the moment changes nothing.

    Requires in touches `person_id`, `timestamp`, the columns of the total order (or `position`) and what is counted:
    `event`, `satisfaction`, `touchpoint` and `journey_id`, or the column of the category. Marks: `person_id` and
    `until_us` (microseconds since 1970 UTC), one row per person.

    One row per mark, sorted by person_id: person_id and one column a covariate, numbers (NaN only for `satisfaction`)
    or text.

    Raises:
        JourneyError: a column is missing, or two covariates have one name.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: help a b a@1d help@2d")
    >>> marks = pd.DataFrame({"person_id": [1], "until_us": [pd.Timestamp("2025-01-02").value // 1000]})
    >>> asked = config.Covariate(name="helped", kind="count", events="help")
    >>> known(log, marks, [asked, config.Covariate(name="back", kind="detours")]).values.tolist()
    [[1.0, 1.0, 1.0]]
    """
    names = free_names(covariates, MARK_COLUMNS)
    if not names:
        wanted = engine.fetch(engine.lazy(marks).select("person_id"), limit=PEOPLE)
        return wanted.sort_values("person_id", ignore_index=True)
    with engine.scratch():
        made = at_moments(touches, engine.lazy(marks).select(*MARK_COLUMNS), covariates)
        table = engine.fetch(made.select("person_id", *names), limit=PEOPLE)
    return table.sort_values("person_id", ignore_index=True)


def at_landmark(
    touches: Any, spells: pd.DataFrame, *, covariates: Sequence[config.Covariate], landmark: str = "30d"
) -> pd.DataFrame:
    """Return what was known about each person at the landmark, and what happened to them after it.

    Only people still there at start + `landmark` have a row; `duration_days` and `ended` count from the landmark.
    Who came under observation only later (`entered_days` of spells) is counted from then on: `entered_days` is what
    lies between the landmark and that, 0 for all others. Covariates are `known` at the landmark: nothing after it can
    change one.

    Needs the columns of `known` in touches, and the table of `spells.of`.

    One row per person: person_id, started_at, landmark_at, segment, entered_days, duration_days, ended and one column a
    covariate; sorted by person_id.

    Raises:
        JourneyError: a covariate has the name of a column of the table.
    """
    names = free_names(covariates, COVARIATE_COLUMNS)
    require_columns(spells.columns, _SPELLS, "churn")
    days = config.seconds(landmark) / 86400
    entered = spells["entered_days"] if "entered_days" in spells else pd.Series(0.0, index=spells.index)
    there = spells.assign(entered_days=(entered - days).clip(lower=0.0), duration_days=spells["duration_days"] - days)
    there = there[there["duration_days"] > there["entered_days"]]
    if there.empty:
        reason = str(spells.attrs.get("reason", "")) or f"not enough data (n = 0 people still there after {landmark})"
        return not_enough([*COVARIATE_COLUMNS, *names], reason)
    base = there.assign(landmark_at=there["started_at"] + pd.Timedelta(days=days))[list(COVARIATE_COLUMNS)]
    if not names:
        return base.sort_values("person_id", ignore_index=True)
    marks = pd.DataFrame({"person_id": base["person_id"], "until_us": in_microseconds(base["landmark_at"])})
    found = base.merge(known(touches, marks, covariates), on="person_id", how="left", validate="one_to_one")
    return found[[*COVARIATE_COLUMNS, *names]].sort_values("person_id", ignore_index=True)


def in_microseconds(times: pd.Series[Any]) -> pd.Series[Any]:
    """Return times as whole microseconds since 1970.

    >>> in_microseconds(pd.Series(pd.to_datetime(["1970-01-01 00:00:01"]))).tolist()
    [1000000]
    """
    return ((times - _EPOCH) // pd.Timedelta("1us")).astype(np.int64)


def label(covariate: config.Covariate) -> str:
    """Return how a covariate is called in text: its label, or its name in words.

    >>> label(config.Covariate(name="late_delivery", events="delivery_late"))
    'late delivery'
    """
    return covariate.label or covariate.name.replace("_", " ")
