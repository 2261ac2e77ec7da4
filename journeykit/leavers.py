"""Why people leave a funnel: what came next, and what tells those who stop at a step from those who go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config as _config
from journeykit import engine, leaver_rows, leaver_tests, stats
from journeykit.funnel_times import labels
from journeykit.funnels import NO_FUNNEL, NOTHING_MORE, OTHER, Reached, shares
from journeykit.leaver_rows import CLOSE, SECOND
from journeykit.leaver_sides import (
    by_exposure,
    deepest,
    design,
    observed,
    sides,
    step_number,
    totals,
    totals_by,
    why_not,
)

AT_ONCE = "(the next step)"
MOST_VALUES = 20  # a column with more is no grouping to compare
NEXT_COLUMNS = (
    *("step_number", "step", "stopped_n", "next_step", "n", "share", "share_low", "share_high"),
    *("went_on_n", "went_on_next_n", "went_on_share", "went_on_share_low", "went_on_share_high"),
)
SEEN_COLUMNS = ("step_number", "step", "stopped_n", "last_seen", "n", "share", "share_low", "share_high")


def next_events(touches: Any, reached: Reached, at: str | int = "", *, top: int = 5, min_n: int = 1) -> pd.DataFrame:
    """Count what came directly after a step, for those who stopped there beside those who went on.

    A unit stops at the deepest step of its counted attempt. What follows is the next value of the funnel's `on` in the
    same unit, whatever it is; "(nothing more)" when there is none. For those who went on it is what lay between the two
    steps, or "(the next step)" when nothing did. Rival: after the last time they stood there, which may be in another
    attempt than the one that counts.

    Args:
        touches: what `reached` was made of.
        reached: of `funnels.reach`.
        at: label or number of a step; "" is all but the last.
        top: so many values are named; the rest is "(other)".
        min_n: values of fewer stopped units are in "(other)", steps with fewer are left out, and numbers of those who
            went on that are smaller (but not 0) are empty.

    Returns:
        One row per step and next value, the most frequent first: step_number, step, stopped_n (all who stopped there),
        next_step, n of them, share with its 95 % Wilson interval; went_on_n (all who went on), went_on_next_n, and
        went_on_share.

    Raises:
        JourneyError: there is no such step, or a column is missing.

    >>> from journeykit import funnels
    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad help | u2: ad | u3: ad visit buy | u4: ad buy")
    >>> next_events(log, funnels.reach(log, steps=["ad", "buy"]))[["next_step", "n", "went_on_next_n"]].values.tolist()
    [['(nothing more)', 1, 0.0], ['help', 1, 0.0], ['(other)', 0, 1.0], ['(the next step)', 0, 1.0]]
    """
    if not reached.rules.steps:
        return stats.not_enough(NEXT_COLUMNS, NO_FUNNEL)
    required = [k for k in range(1, len(reached.rules.steps)) if _may_stop(reached, k)]
    numbers = [step_number(reached, at, "next_events")] if at else required
    rows, parts, most = leaver_rows.rows(touches, reached, (), "next_events"), [], 0
    for k in numbers:
        stood = deepest(reached, k)
        on, stopped = totals(stood)
        most = max(most, stopped)
        if stopped >= max(min_n, 1):
            counts = _directly_after(rows, stood, reached, k)
            part = _beside(counts, stopped, on, top, min_n)
            parts.append(part.assign(step_number=k, step=labels(reached.rules)[k - 1]))
    if not parts:
        where = f" at {at}" if at else " on the way"
        few = f"not enough data (fewer than {min_n} stopped{where})" if most else f"nobody stopped{where} (n = 0)"
        return stats.not_enough(NEXT_COLUMNS, few)
    return pd.concat(parts, ignore_index=True)[list(NEXT_COLUMNS)]


def last_seen(
    touches: Any, reached: Reached, at: str | int, *, within: str = "7d", top: int = 5, min_n: int = 1
) -> pd.DataFrame:
    """Count where those who stopped at a step were seen last, within some time after it.

    Units for which that time had not passed at the end of observation are left out (`attrs["left_out_n"]`).

    Args:
        touches: what `reached` was made of.
        reached: of `funnels.reach`.
        at: label or number of the step.
        within: time after the step, both ends included; "" is any time, which is longer for those who came early.
        top: as in `next_events`.
        min_n: as in `next_events`.

    Returns:
        One row per value of the funnel's `on`, the most frequent first: step_number, step, stopped_n, last_seen
        ("(nothing more)" for those who did nothing after the step), n, share with its 95 % interval.

    Raises:
        JourneyError: there is no such step, a column is missing, or `within` is no duration.
    """
    if why_not(reached, at):
        return stats.not_enough(SEEN_COLUMNS, why_not(reached, at))
    k = step_number(reached, at, "last_seen")
    stood = deepest(reached, k).filter(nw.col("left") == 1)
    every, stood = totals(stood)[1], observed(stood, reached, within)
    n = totals(stood)[1]
    if n < max(min_n, 1):
        return stats.not_enough(SEEN_COLUMNS, f"not enough data (n = {n}, at least {max(min_n, 1)} are needed)")
    rows = leaver_rows.rows(touches, reached, (), "last_seen")
    rows = leaver_rows.after(rows, stood, reached, k).filter(nw.col("_row") > nw.col("_here"))
    if within:
        rows = rows.filter(nw.col("time_us") - nw.col("at_us") <= _config.seconds(within) * SECOND)
    last = nw.col("_row").max().over("unit", "attempt")
    rows = rows.with_columns(_last=last).filter(nw.col("_row") == nw.col("_last"))
    counts = engine.fetch(rows.group_by("left", "_value").agg(n=nw.len()))
    table = _beside(counts, n, 0, top, min_n).rename(columns={"next_step": "last_seen"})
    table = table.assign(step_number=k, step=labels(reached.rules)[k - 1])[list(SEEN_COLUMNS)]
    table.attrs["left_out_n"] = every - n
    return table


def drivers(
    touches: Any,
    reached: Reached,
    at: str | int,
    *,
    columns: Sequence[str] = ("touchpoint",),
    since: str = "",
    min_n: int = 1,
) -> pd.DataFrame:
    """Find what tells those who stop at a step from those who go on to the next, by what was there before.

    Definition: a unit has a feature when a value of a column occurs on any of its events in the window before the step,
    0 or 1 and never how often: one person with 100 clicks is one person. The window ends at the step for everybody, so
    what follows from going on cannot be in it; it runs from the entry of the counted attempt, or a fixed time (`since`)
    before the step. Units are compared with those that took about as long from the entry to the step (up to ten
    groups), because who looks around for longer meets more, and has less of the funnel's window left. The funnel's own
    steps are no features, because they decide who is compared; columns that name no events also count on the step
    itself, such as the price shown there.

    Rivals: counts of events, which find something in most logs where there is nothing; the time after the step, which
    is longer for those who stop (`afterwards` describes it); the difference in presence, which says who they are and
    not what share of them leaves.

    It is an association: who differs in one thing differs in others; `leaver_levels.adjusted` holds some of them equal.
    With clock "any" the counted attempt of those who succeed may be a later one, and a window of fixed length then
    holds earlier attempts; the window from the entry does not.

    Args:
        touches: what `reached` was made of.
        reached: of `funnels.reach`.
        at: label or number of the step.
        columns: columns of touches, or members of its properties ("properties.plan"), whose values are features.
        since: the window before the step, such as "7d"; "" is from the entry.
        min_n: smaller numbers of units (but 0) are not shown.

    Returns:
        One row per feature, the surest first, structural ones last: see `leaver_tests.compared`. `attrs`: step,
        next_step, window (in words), left_out_n (features that are too rare), strata_n, design_effect.

    Raises:
        JourneyError: there is no such step, a column is missing, or `since` is no duration.

    >>> from journeykit import funnels
    >>> from tests.conftest import make_log
    >>> log = make_log(" | ".join(["u: ad help cart"] * 30 + ["u: ad cart buy"] * 30 + ["u: ad help cart buy"] * 10))
    >>> found = drivers(log, funnels.reach(log, steps=["ad", "cart", "buy"]), "cart", columns=["event"])
    >>> found[["feature", "stopped_n", "went_on_n", "lost_share", "lost_without_share"]].values.tolist()
    [['help', 30, 10, 0.75, 0.0]]
    """
    if why_not(reached, at):
        return stats.not_enough(leaver_tests.COLUMNS, why_not(reached, at))
    who = sides(reached, at, "drivers")
    stood = by_exposure(who.table)
    start = nw.col("at_us") - _config.seconds(since) * SECOND if since else nw.col("start_us")
    with engine.scratch():
        rows = leaver_rows.joined(leaver_rows.rows(touches, reached, columns, "drivers"), stood)
        rows = rows.filter(nw.col("time_us") >= start)
        rows = rows.filter((nw.col("time_us") < nw.col("at_us")) | leaver_rows.here(reached, who.number))
        counts = leaver_rows.presence(leaver_rows.narrow(rows, reached, columns), columns, steps_too=False)
    of, effect = totals_by(stood), design(who.table, reached)
    table = leaver_tests.compared(counts, of, min_n=min_n, design=effect)
    window = f"in the {_days(since)} before {who.step}" if since else f"from the entry to {who.step}"
    table.attrs.update(step=who.step, next_step=who.next_step, window=window, design_effect=effect, strata_n=len(of))
    return table


def afterwards(
    touches: Any,
    reached: Reached,
    at: str | int,
    *,
    columns: Sequence[str] = ("touchpoint",),
    within: str = "7d",
    min_n: int = 1,
) -> pd.DataFrame:
    """Describe what those who stopped at a step did in some time after it, beside those who went on.

    For those who went on the window is cut at the next step, so that nothing that follows from it is in it. They are
    therefore looked at for a shorter time, and all is rarer among them: this says what happens, not what tells the two
    apart, and there is no test of it. Only units for which the whole window was observed are in it, on both sides.

    Args:
        touches: what `reached` was made of.
        reached: of `funnels.reach`.
        at: label or number of the step.
        columns: as in `drivers`; the funnel's steps are among the features here.
        within: length of the window after the step.
        min_n: as in `drivers`.

    Returns:
        One row per feature, the most frequent among those who stopped first, those that are part of the next step
        (`is_structural`) last: see `leaver_tests.described`. `attrs`: step, next_step, window.

    Raises:
        JourneyError: as `drivers`.
    """
    if why_not(reached, at):
        return stats.not_enough(leaver_tests.DESCRIBED, why_not(reached, at))
    who = sides(reached, at, "afterwards")
    stood = observed(who.table, reached, within).with_columns(stratum=nw.lit(0))
    with engine.scratch():
        rows = leaver_rows.joined(leaver_rows.rows(touches, reached, columns, "afterwards"), stood)
        rows = rows.filter(nw.col("time_us") > nw.col("at_us"))
        rows = rows.filter(nw.col("time_us") - nw.col("at_us") <= _config.seconds(within) * SECOND)
        rows = rows.filter(nw.col("next_us").is_null() | (nw.col("time_us") < nw.col("next_us")))
        counts = leaver_rows.presence(leaver_rows.narrow(rows, reached, columns), columns, steps_too=True)
    of = totals_by(stood)
    quick = totals(stood.filter(nw.col("next_us") - nw.col("at_us") <= CLOSE))[0]
    if quick > of["went_on_n"].sum() / 2:  # then all that lies between the two steps is near the next one
        counts["close_n"] = 0
    table = leaver_tests.described(counts, of, min_n=min_n)
    table.attrs.update(step=who.step, next_step=who.next_step, window=f"in the {_days(within)} after {who.step}")
    return table


def columns_worth_comparing(touches: Any, skip: Sequence[str] = (), most: int = MOST_VALUES) -> list[str]:
    """Return the columns of touches whose values make groups: segments and channels with 2 to `most` values.

    Args:
        touches: the table.
        skip: columns to leave out, such as the arms of experiments, which say nothing about people.
        most: values.

    >>> from tests.conftest import make_log
    >>> columns_worth_comparing(make_log("u1: ad/web buy/app"))
    ['channel']
    """
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    names = [name for name in have if name.startswith("segment_") or name in ("channel", "marketing_channel")]
    names = [name for name in names if name not in skip]
    if not names:
        return []
    # A column of nulls has no type of its own.
    texts = {name: nw.col(name).cast(nw.String()) for name in names}
    found = {
        name: len(engine.fetch(table.select(**{name: text}).drop_nulls().unique().head(most + 1)))
        for name, text in texts.items()
    }
    return [name for name in names if 2 <= found[name] <= most]


def _may_stop(reached: Reached, k: int) -> bool:
    """Whether a unit can stop at a step; with an open entry, only at a required one."""
    return reached.rules.entry != "open" or not reached.rules.steps[k - 1].optional


def _directly_after(rows: nw.LazyFrame[Any], stood: nw.LazyFrame[Any], reached: Reached, k: int) -> pd.DataFrame:
    """Count the events next after step k, of both sides; the next step itself has a name of its own there."""
    after = leaver_rows.after(rows, stood, reached, k).filter(nw.col("_row") == nw.col("_here") + 1)
    first = 1 if reached.rules.order == "any" else k + 1
    later = [nw.col(f"_is_{j}") == 1 for j in range(first, len(reached.rules.steps) + 1)]
    at_once = nw.any_horizontal(*later, ignore_nulls=True) & (nw.col("time_us") == nw.col("next_us"))
    named = nw.when(at_once & (nw.col("left") == 0)).then(nw.lit(AT_ONCE)).otherwise(nw.col("_value"))
    return engine.fetch(after.with_columns(_value=named).group_by("left", "_value").agg(n=nw.len()))


def _beside(counts: pd.DataFrame, stopped: int, on: int, top: int, min_n: int) -> pd.DataFrame:
    """Lay the values of both sides beside each other: the most frequent, the rest, and the next step at once."""
    n, next_n = (counts[counts["left"] == side].set_index("_value")["n"].astype("int64") for side in (1, 0))
    found = pd.DataFrame({"n": n, "went_on_next_n": next_n}).fillna(0).astype("int64")
    for column, total in (("n", stopped), ("went_on_next_n", on)):
        nothing = total - int(found[column].sum())
        if nothing:
            found.loc[NOTHING_MORE, column] = nothing
    found = found.fillna(0).astype("int64").rename_axis("next_step").reset_index()
    at_once = found[found["next_step"] == AT_ONCE]
    found = found[found["next_step"] != AT_ONCE]
    found = found.sort_values(["n", "went_on_next_n", "next_step"], ascending=[False, False, True], ignore_index=True)
    kept = (found.index < top) & ((found["n"] >= min_n) | (stopped == 0))
    rest = found[~kept][["n", "went_on_next_n"]].sum().to_frame().T.assign(next_step=OTHER)
    table = pd.concat([found[kept], rest[rest[["n", "went_on_next_n"]].sum(axis=1) > 0], at_once], ignore_index=True)
    table = table.assign(stopped_n=stopped, went_on_n=on)
    hidden = (table["went_on_next_n"] > 0) & (table["went_on_next_n"] < min_n)
    table["went_on_next_n"] = table["went_on_next_n"].astype(float).mask(hidden)
    table = table.assign(**shares("share", table["n"], table["stopped_n"]))
    beside = shares("went_on_share", table["went_on_next_n"].fillna(0), table["went_on_n"])
    return table.assign(**{name: pd.Series(value, index=table.index).mask(hidden) for name, value in beside.items()})


def _days(within: str) -> str:
    days = _config.seconds(within) / 86_400
    return f"{days:g} day{'' if days == 1 else 's'}" if days >= 1 else f"{24 * days:g} hours"
