"""Hand-offs: from which team to which, how long people wait between, and what becomes of them and of their mood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import engine, errors, stats, sums
from journeykit.config import seconds
from journeykit.detours import DAY, median, quantile
from journeykit.friction import clustered_parts, clustered_shares
from journeykit.sequences import codes, in_units, starts, texts, with_ends

PAIR = ["from_team", "to_team"]
NEVER, BEFORE, AFTER = 0, 1, 2  # when a unit converted: before the hand-off (or with it), or after
NO_TEAMS = "no event has a team; name owners of [[stages]], or team of [[sources]], in journey.toml"
SURVEYS = ("Survey",)

_BOUNDS = ("", "_low", "_high")
COLUMNS = ["from_team", "to_team", "n", "people_n", *(f"share{end}" for end in _BOUNDS)]
WAITS = [*(f"median_wait_days{end}" for end in _BOUNDS), "p90_wait_days"]
COLUMNS += WAITS
COLUMNS += ["sent_back_n", *(f"sent_back_share{end}" for end in _BOUNDS)]
COLUMNS += ["last_n", *(f"last_share{end}" for end in _BOUNDS), "open_n"]
MOOD = ["answered_both_n", *(f"satisfaction_difference{end}" for end in _BOUNDS)]
WON = ["finished_n", "converted_n", *(f"converted_share{end}" for end in _BOUNDS)]
COLUMNS += [*MOOD, *WON]


def handoffs(
    touches: Any,
    *,
    within: str = "journey",
    journeys: Any = None,
    conversion: Sequence[str] = (),
    answers_within: str = "30d",
    survey_touchpoints: Sequence[str] = SURVEYS,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count what passes from one team to another within a journey, with the wait and what came after.

    A hand-off is two touches of different teams, one after the other, in the same unit; touches without a team and
    surveys lie between without counting. It happens at the first touch of the receiving team. Rival: only tickets that
    change their assignee; that is one team's view, and the person meets all of them.

    Requires `person_id`, the unit of `within` (person, session or journey), `team`, `touchpoint`, `event`,
    `satisfaction` (0–1), `time_us` or `timestamp` (UTC), and `position` or the columns of the total order. One row per
    pair of teams with at least `min_n` people, most frequent first:

    - `n` hand-offs, `people_n`, `share` of all hand-offs that leave `from_team`;
    - `median_wait_days` (order-statistic interval) and `p90_wait_days` between the last touch of the one and the
      first of the other;
    - `sent_back_n` and share: the next team after the receiving one was the first again;
    - `last_n` and share: the receiving team's first touch was the last of the unit, apart from `open_n` of units that
      may still go on (`journeys`, see `sequences.running`);
    - `satisfaction_difference`: of people with an answer both in `answers_within` before the hand-off and after it,
      the mean of their answers after less before, each person once (`answered_both_n`), with Student's t interval.
      Whoever did not answer on both sides is missing, not neutral; empty below `min_n` people, or two;
    - with `journeys` and `conversion` (events): of the journeys with this hand-off that are over and had not converted
      by then (`finished_n`), the share that converted afterwards.

    Intervals of shares draw people (`stats.clustered`). None of it says that the hand-off was the cause: who is handed
    over differs from who is not.

    Raises:
        JourneyError: a column is missing, or `within` or `answers_within` is not known.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: call@0h bill@12h call@18h").assign(team=["Support", "Finance", "Support"])
    >>> handoffs(log)[["from_team", "to_team", "n", "median_wait_days", "sent_back_n"]].values.tolist()
    [['Finance', 'Support', 1, 0.25, 0], ['Support', 'Finance', 1, 0.5, 1]]
    """
    window = seconds(answers_within) * 1_000_000
    lazy = engine.lazy(touches)
    errors.require_columns(lazy.collect_schema().names(), ["team", "touchpoint", "event", "satisfaction"], "handoffs")
    touchpoint = nw.col("touchpoint").cast(nw.String()).fill_null("")
    met = lazy.filter(~touchpoint.is_in(list(survey_touchpoints))).with_columns(
        _team=nw.col("team").cast(nw.String()).fill_null(""),
        _won=nw.when(nw.col("event").is_in(list(conversion))).then(nw.lit(1)).otherwise(nw.lit(0)),
    )
    rows, order = in_units(met, "_team", within, "handoffs", ["time_us", "_won"])
    with engine.scratch():
        made = with_ends(
            engine.in_order(rows, by="unit", order=order, work=_handed), journeys if within == "journey" else None
        )
        made = made.with_columns(n=nw.lit(1), open=nw.col("ends") * nw.col("running"))
        made = made.with_columns(over=1 - nw.col("open"), last=nw.col("ends") - nw.col("open"))
        made = engine.keep(made, "handoffs")
        over = made.filter((nw.col("nth") == 1) & (nw.col("running") == 0) & (nw.col("won") != BEFORE))
        over = over.with_columns(
            converted=nw.when((nw.col("won") == AFTER) & (nw.col("outcome") == "converted")).then(1).otherwise(0)
        )
        if journeys is None or within != "journey" or not conversion:
            over = over.head(0)
        parts = [
            clustered_shares(made, PAIR, "n", ["sent_back"]).drop(columns=["n", "people_n"]),
            clustered_shares(made, PAIR, "over", ["last"], ["open"]).drop(columns=["n", "people_n"]),
            _waits(made),
            _moods(made, lazy, window, max(min_n, 2)),
            clustered_shares(over, PAIR, "n", ["converted"]).drop(columns="people_n"),
        ]
        parts[-1] = parts[-1].rename(columns={"n": "finished_n"})
        table = clustered_parts(made, made, PAIR, ["from_team"])
        for part in parts:
            table = table.merge(part, on=PAIR, how="left")
    if table.empty:
        return stats.not_enough(COLUMNS, NO_TEAMS if _teamless(rows) else "not enough data (n = 0 hand-offs)")
    table = table[table["people_n"] >= max(min_n, 1)]
    if table.empty:
        return stats.not_enough(COLUMNS, f"not enough data (no hand-off of at least {min_n} people)")
    whole = ["answered_both_n", "finished_n", "converted_n"]
    table = table.assign(**{name: table[name].astype(float).fillna(0).astype("int64") for name in whole})
    told = [f"converted_share{end}" for end in _BOUNDS]
    table[told] = table[told].astype(float).where(table["finished_n"] >= max(min_n, 1))
    return table.sort_values(["n", *PAIR], ascending=[False, True, True], ignore_index=True)[COLUMNS]


def _teamless(rows: nw.LazyFrame[Any]) -> bool:
    return engine.is_empty(rows.filter(nw.col("value") != ""))


def _handed(table: pa.Table, _first: int) -> pa.Table:
    """Return the hand-offs of units: who, from whom to whom, when, after how long, and what came after."""
    names, (team, teams) = ["person_id", "unit"], codes(table)
    new, time = starts(table), table["time_us"].to_numpy()
    unit, row = np.cumsum(new) - 1, np.arange(len(new))
    has = row[team != (teams.index("") if "" in teams else -1)]  # touches with a team
    changes = (unit[has][1:] == unit[has][:-1]) & (team[has][1:] != team[has][:-1])
    source, target = has[:-1][changes], has[1:][changes]
    begun, given = team[source], team[target]
    # The next hand-off of the same unit goes back to where this one came from.
    back = np.zeros(len(target), dtype=np.int64)
    back[:-1] = (unit[target][1:] == unit[target][:-1]) & (given[1:] == begun[:-1])
    ends = np.append(new[1:], True)[target] if len(target) else np.zeros(0, dtype=bool)
    won_rows = np.flatnonzero(table["_won"].to_numpy() == 1)
    won = np.full(int(new.sum()), -1, dtype=np.int64)
    won[unit[won_rows][::-1]] = won_rows[::-1]  # the last assignment stays, which is that of the earliest row
    first_won = won[unit[target]]
    key = (unit[target] * len(teams) + begun) * len(teams) + given
    nth = np.zeros(len(target), dtype=np.int64)
    nth[np.unique(key, return_index=True)[1]] = 1
    columns: dict[str, Any] = {name: table[name].to_numpy()[target] for name in names}
    columns |= {"from_team": texts(begun, teams), "to_team": texts(given, teams), "to_us": time[target]}
    columns |= {"wait": (time[target] - time[source]) // 1_000_000, "sent_back": back, "nth": nth}
    columns |= {"ends": ends.astype(np.int64)}
    columns |= {"won": np.where(first_won < 0, NEVER, np.where(first_won > target, AFTER, BEFORE))}
    return pa.table(columns)


def _waits(made: nw.LazyFrame[Any]) -> pd.DataFrame:
    found = engine.fetch(made.group_by(*PAIR, "wait").agg(count=nw.len()), limit=20_000_000)
    rows = []
    for pair, part in found.sort_values([*PAIR, "wait"]).groupby(PAIR, sort=True):
        days = part["wait"] / DAY
        rows.append([pair[0], pair[1], *median(days, part["count"]), quantile(days, part["count"], 0.9)])
    return pd.DataFrame(rows, columns=[*PAIR, *WAITS])


def _moods(made: nw.LazyFrame[Any], touches: nw.LazyFrame[Any], window: int, min_n: int) -> pd.DataFrame:
    """Compare the answers of a person before and after a hand-off: mean difference over people who gave both."""
    answers = touches.filter(~nw.col("satisfaction").is_null(), ~nw.col("person_id").is_null())
    answers = answers.select("person_id", at="time_us", answer=sums.whole(nw.col("satisfaction"), sums.SHARE))
    near = made.select("person_id", *PAIR, "to_us").join(engine.beside(answers, made), on="person_id", how="inner")
    since = nw.col("at") - nw.col("to_us")
    near = near.filter(since >= -window, since <= window).with_columns(after=nw.when(since >= 0).then(1).otherwise(0))
    after, before = nw.col("after"), 1 - nw.col("after")
    each = near.group_by("person_id", *PAIR, "to_us").agg(
        after_n=after.sum(), before_n=before.sum(), after_sum=(after * nw.col("answer")).sum(),
        before_sum=(before * nw.col("answer")).sum(),
    )  # fmt: skip
    found = engine.fetch(each.filter(nw.col("after_n") > 0, nw.col("before_n") > 0), limit=20_000_000)
    found = found.sort_values([*PAIR, "person_id", "to_us"])
    change = found["after_sum"] / found["after_n"] - found["before_sum"] / found["before_n"]
    found = found.assign(change=change.astype(float) / sums.SHARE)
    people = found.groupby([*PAIR, "person_id"], as_index=False)["change"].mean()
    rows = []
    for pair, part in people.groupby(PAIR):
        told = stats.mean_interval(part["change"]) if len(part) >= min_n else (float("nan"),) * 3
        rows.append([pair[0], pair[1], len(part), *told])
    return pd.DataFrame(rows, columns=[*PAIR, *MOOD])
