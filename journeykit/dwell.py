"""Time in a state: how long people stay where they are before they move on, with those who have not moved yet."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times

from journeykit import config, engine, errors, stats
from journeykit.detours import DAY, quantile
from journeykit.friction import clustered_shares
from journeykit.journey_map import microseconds
from journeykit.sequences import codes, in_units, starts, texts

MICRO = 1_000_000
SURVEYS = ("Survey",)
NEVER = 2**60  # microseconds after which a unit is over that never is

_BOUNDS = ("", "_low", "_high")
COLUMNS = ["value", "n", "people_n", "left_n", "ended_n", *(f"ended_share{end}" for end in _BOUNDS), "open_n"]
MEDIANS = [*(f"median_days{end}" for end in _BOUNDS), "completed_median_days", "p75_days"]
COLUMNS += MEDIANS


def gap_of(study: config.Study, within: str) -> str:
    """Return the silence after which a person, session or journey is over; "" where it never is.

    >>> study = config.Study.model_construct(journeys=config.Journeys(gap="60d"), sessions=config.Sessions())
    >>> gap_of(study, "journey"), gap_of(study, "session"), gap_of(study, "person")
    ('60d', '30m', '')
    """
    return {"journey": study.journeys.gap, "session": study.sessions.gap}.get(within, "")


def time_in_state(
    touches: Any,
    *,
    until: Any,
    on: str = "stage",
    within: str = "journey",
    gap: str = "",
    order: Sequence[str] = (),
    survey_touchpoints: Sequence[str] = SURVEYS,
    min_n: int = 1,
) -> pd.DataFrame:
    """Estimate how long units stay in each value before they move on to another (Kaplan–Meier).

    A stay begins with a unit's first event of the value and lasts until its next event of a *different* value; events
    of the same value, or without one, do not end it, and an answer to a survey is no stay. A unit counts once per
    value, by its first stay (rival: every stay, in which those who come and go weigh most). Who has not moved on is
    *censored*: known to have stayed for at least so long. That is at `until`, the end of observation, or `gap` after
    the unit's last event, when it was over (see `gap_of`). So a stay ends with the next value and never by giving up;
    `ended_n` gave up there. The rival that many tools show, the median of the completed stays, is beside it as
    `completed_median_days`: it is too short, because long stays are the ones not completed yet.

    Requires `person_id`, the unit of `within` (person, session or journey), `on`, `time_us` or `timestamp` (UTC), and
    `position` or the columns of the total order; events after `until` are ignored. One row per value (in `order`, else
    most units first) with at least `min_n` people: `n` units that entered, `people_n`, `left_n` who moved on, `ended_n`
    whose unit was over without it and their share of those not open (an interval that draws people), `open_n` still
    there, `median_days` with its interval (Brookmeyer & Crowley 1982), and `p75_days`, by which three quarters had
    moved on. Empty medians: fewer than half are ever seen to move on.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad@0d cart@1d | u2: ad@0d cart@3d | u3: ad@0d cart@9d | u4: ad@0d")
    >>> table = time_in_state(log, on="event", until="2025-01-05")  # the third has not moved by then
    >>> table[["value", "n", "left_n", "open_n", "median_days", "completed_median_days"]].values.tolist()[0]
    ['ad', 4, 2, 2, 3.0, 2.0]
    """
    end = microseconds(until)
    silence = config.seconds(gap) * MICRO if gap else NEVER
    lazy = engine.lazy(touches)
    errors.require_columns(lazy.collect_schema().names(), [on, "time_us"], "time_in_state")
    met = lazy.filter(nw.col("time_us") <= end)
    if "touchpoint" in lazy.collect_schema().names():
        met = met.filter(~nw.col("touchpoint").cast(nw.String()).fill_null("").is_in(list(survey_touchpoints)))
    met = met.with_columns(_state=nw.col(on).cast(nw.String()).fill_null(""))
    rows, ordered = in_units(met, "_state", within, "time_in_state", ["time_us"])
    with engine.scratch():
        made = engine.in_order(rows, by="unit", order=ordered, work=partial(_stays, end=end, silence=silence))
        made = made.with_columns(over=1 - nw.col("open"))
        table = clustered_shares(made, ["value"], "over", ["ended"], ["left", "open"])
        times = engine.fetch(made.group_by("value", "seconds", "left").agg(n=nw.len()), limit=20_000_000)
    table = table.assign(n=table["n"] + table["open_n"])
    table = table[table["people_n"] >= max(min_n, 1)]
    if table.empty:
        return stats.not_enough(COLUMNS, f"not enough data (no {on} was entered by at least {max(min_n, 1)} people)")
    place = {value: k for k, value in enumerate(order)}
    table = table.assign(_place=[place.get(value, len(place)) for value in table["value"]])
    table = table.sort_values(["_place", "n", "value"], ascending=[True, False, True], ignore_index=True)
    fitted = [_fitted(times[times["value"] == value].sort_values(["seconds", "left"])) for value in table["value"]]
    return table.join(pd.DataFrame(fitted, columns=MEDIANS))[COLUMNS]


def _fitted(times: pd.DataFrame) -> list[float]:
    """Return the Kaplan–Meier median with its interval, the median of the completed stays, and the time of 75 %."""
    days = times["seconds"].to_numpy(float) / DAY
    left = times["left"].to_numpy() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of weights that are no whole numbers, which these are
        fit = KaplanMeierFitter().fit(days, left, weights=times["n"].to_numpy(float))
        low, high = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy(float))
    middle = quantile(days[left], times["n"].to_numpy()[left], 0.5)
    there = fit.survival_function_.iloc[:, 0]
    quarter = there.index[there.to_numpy() <= 0.25]
    found = [fit.median_survival_time_, low, high, middle, quarter[0] if len(quarter) else np.nan]
    return [float(x) if np.isfinite(x) else float("nan") for x in found]


def _stays(table: pa.Table, _first: int, *, end: int, silence: int) -> pa.Table:
    """Return the first stay of each unit in each value: how long, and how it ended or has not ended."""
    value, names = codes(table)
    new, time = starts(table), table["time_us"].to_numpy()
    unit = np.cumsum(new) - 1
    last = time[np.append(np.flatnonzero(new)[1:], len(new)) - 1] if len(new) else time  # of each unit
    rows = np.flatnonzero(value != (names.index("") if "" in names else -1))
    begins = np.ones(len(rows), dtype=bool)  # a value that follows itself is one stay
    begins[1:] = (unit[rows][1:] != unit[rows][:-1]) | (value[rows][1:] != value[rows][:-1])
    stays = rows[begins]
    of = unit[stays]
    left = np.zeros(len(stays), dtype=bool)
    left[:-1] = of[1:] == of[:-1]
    over_at = np.minimum(last[of], end - silence) + silence  # the earlier of `end` and `silence` after the last event
    until = np.where(left, time[np.append(stays[1:], 0)] if len(stays) else 0, over_at)
    is_open = ~left & (over_at >= end)
    firsts = np.sort(np.unique(of * (len(names) + 1) + value[stays], return_index=True)[1])
    stays, left, is_open, until = (column[firsts] for column in (stays, left, is_open, until))
    return pa.table(
        {
            "person_id": table["person_id"].to_numpy()[stays],
            "value": texts(value[stays], names),
            "seconds": (until - time[stays]) // MICRO,
            "left": left.astype(np.int64),
            "open": is_open.astype(np.int64),
            "ended": (~left & ~is_open).astype(np.int64),
        }
    )
