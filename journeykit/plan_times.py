"""Time rules of a plan: which steps come in time after the step before, and how many keep to that."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times

from journeykit import engine, stats, steps
from journeykit.config_steps import Step
from journeykit.durations import seconds
from journeykit.errors import JourneyError, require_columns
from journeykit.journey_map import microseconds

WHOLE_PLAN = "(whole plan)"
NO_RULE = "no step of the plan has a time rule; add within to a step, or to the plan"
COLUMNS = (
    *("step", "after", "within", "n", "done_n", "open_n"),
    *("kept_share", "kept_share_low", "kept_share_high"),
    *("median_days", "median_days_low", "median_days_high"),
)
PARTS = 1000  # of a limit: times are counted in them, so that no table has a row per journey
LIMITS = 20  # times the limit, after which a step is not waited for any more
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Rule:
    """A time rule: the step, the step that starts its clock, the time allowed, and the names of both."""

    step: int
    start: int
    seconds: int
    within: str
    label: str
    after: str


def rules(written: Sequence[Step], within: str = "") -> list[Rule]:
    """Return the time rules of a plan.

    The clock of a step starts at the first event of the step before it in the plan, and stops at the first event of the
    step after that. The limit itself is in time. Where the step before is optional, only journeys that took it are
    judged. Rivals: a clock that starts at the last event of the step before, which calls no one late who keeps coming
    back to it; a fixed multiple of the usual time.

    Args:
        written: the steps of the plan.
        within: time allowed from the first required step to the last, or "".

    Raises:
        JourneyError: the first step has a time rule, or a duration is none.

    >>> [(rule.label, rule.after, rule.seconds) for rule in rules([Step(match="ad"), Step(match="buy", within="2d")])]
    [('buy', 'ad', 172800)]
    """
    required = [k for k, step in enumerate(written, start=1) if not step.optional]
    found = []
    for k, step in enumerate(written, start=1):
        if not step.within:
            continue
        if k == 1:
            raise JourneyError(
                f"plan: its first step, {step.label!r}, has within, but no step before it. "
                "Leave it out, or set within of the plan."
            )
        found.append(Rule(k, k - 1, seconds(step.within), step.within, step.label, written[k - 2].label))
    if within and len(required) > 1:
        first, last = required[0], required[-1]
        after = f"{written[first - 1].label} to {written[last - 1].label}"
        found.append(Rule(last, first, seconds(within), within, WHOLE_PLAN, after))
    return found


def arrivals(
    touches: Any, *, steps: Sequence[Step], on: str, within: str = "", conversion: Sequence[str] = ()
) -> nw.LazyFrame[Any]:
    """Return when each journey started and stopped the clock of each time rule, as a lazy table.

    One row per journey: journey_id, `start_<i>` and `done_<i>` of the i-th rule (from 1; µs UTC, null where it did not
    happen), and `before_<i>`: 1 where the step was done before the first conversion, else 0.
    """
    found = rules(steps, within)
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    order = engine.order_of(have)
    needs = ["journey_id", "time_us", on, *order, *(["event"] if conversion else [])]
    require_columns(have, needs, "plan_times")
    rows = _marked(table.filter(~nw.col("journey_id").is_null()), steps, on)
    columns = {"_converts": nw.col("time_us") * 0}
    if conversion:
        converts = nw.when(nw.col("event").is_in(list(conversion))).then(1).otherwise(0)
        columns["_converts"] = converts.cum_sum().over("journey_id", order_by=order)
    sums = {}
    for i, rule in enumerate(found, start=1):
        starts = nw.col(f"_is_{rule.start}")
        done = (nw.col(f"_is_{rule.step}") == 1) & (nw.col(f"_seen_{i}") > 0)
        columns[f"_seen_{i}"] = starts.cum_sum().over("journey_id", order_by=order) - starts
        sums[f"start_{i}"] = _first(starts == 1)
        sums[f"done_{i}"] = _first(done)
        sums[f"before_{i}"] = nw.when(done & (nw.col("_converts") == 0)).then(1).otherwise(0).max()
    return rows.with_columns(**columns).group_by("journey_id").agg(**sums)


def _marked(rows: nw.LazyFrame[Any], found: Sequence[Step], on: str) -> nw.LazyFrame[Any]:
    return steps.marked(rows, found, on, "_is_", "plan_times")


def _first(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.col("time_us")).min()


def timing(found: nw.LazyFrame[Any], of: Sequence[Rule]) -> nw.LazyFrame[Any]:
    """Return what `arrivals` says of each rule as a number: journey_id and `late_<i>`.

    0: not judged (the clock did not start, or the step did not come); 1 in time, 2 late, both before the conversion;
    3 in time, 4 late, at the conversion or after it.
    """
    columns = {}
    for i, rule in enumerate(of, start=1):
        took = nw.col(f"done_{i}") - nw.col(f"start_{i}")
        is_late = nw.when(took > rule.seconds * 1_000_000).then(nw.lit(2)).otherwise(nw.lit(1))
        at = nw.when(nw.col(f"before_{i}") == 1).then(is_late).otherwise(is_late + 2)
        columns[f"late_{i}"] = nw.when(took.is_null()).then(nw.lit(0)).otherwise(at)
    return found.select("journey_id", **columns)


def kept(
    touches: Any,
    *,
    steps: Sequence[str | Step],
    on: str = "stage",
    within: str = "",
    until: Any,
    min_n: int = 1,
    **_: Any,
) -> pd.DataFrame:
    """Return the share of journeys that took a step within its limit, of those that took the step before.

    By Kaplan–Meier: a journey that has not taken the step by `until` was waited for so long and no longer, which keeps
    those that are still on their way from counting as late, or as never. A journey that ended without the step counts
    as not kept, since it is waited for in vain (an optional one too). Rivals: in time among those that took the step,
    which leaves out whoever never did, or did not yet; in time among all, which holds their youth against the open
    ones.

    Times are rounded up to thousandths of the limit, which moves nobody over it, and a step is waited for up to 20
    times the limit: a longer median is not told. Intervals are log-log (Kalbfleisch & Prentice 1980), Wilson's where
    they have no width; journeys count as independent. Requires the columns of `plan_sequences.sequences`.

    Args:
        touches: events with `journey_id`.
        steps: of the plan, texts or `config.Step`, some with `within`.
        on: what they are.
        within: time allowed from the first required step to the last.
        until: end of observation (UTC).
        min_n: journeys that a row is told of.

    Returns:
        One row per time rule, in the order of the plan: step, after (the step that starts the clock), within (the
        limit), n journeys that took that step, done_n that took the step later, open_n waited for until the end for
        less than the limit, kept_share with its interval, median_days with its interval (missing where half never did).

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad@0d buy@1d | u2: ad@0d buy@5d | u3: ad@0d | u4: ad@9d")
    >>> plan = ["ad", Step(match="buy", within="2d")]
    >>> table = kept(log, steps=plan, on="event", until=pd.Timestamp("2025-01-11"))
    >>> table[["n", "done_n", "open_n"]].values.tolist(), table["kept_share"].round(3).tolist()
    ([[4, 2, 1]], [0.25])
    """
    found = _parsed(steps)
    of = rules(found, within)
    if not of:
        return stats.not_enough(COLUMNS, NO_RULE)
    end = microseconds(until)
    seen = arrivals(engine.lazy(touches).filter(nw.col("time_us") <= end), steps=found, on=on, within=within)
    rows = []
    for i, rule in enumerate(of, start=1):
        counts = engine.fetch(_waits(seen, i, rule, end))
        if counts["n"].sum() >= max(min_n, 1):
            rows.append(_row(rule, counts.sort_values(["part", "done"], ignore_index=True)))
    if not rows:
        n = max(min_n, 1)
        reason = f"not enough data (fewer than {n} journeys came to the step before one with a time rule)"
        return stats.not_enough(COLUMNS, reason)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _parsed(written: Sequence[str | Step]) -> list[Step]:
    return steps.parse(written, "plan")


def _waits(seen: nw.LazyFrame[Any], i: int, rule: Rule, end: int) -> nw.LazyFrame[Any]:
    """How many journeys waited for a step for how many parts of its limit, and whether it came."""
    unit = rule.seconds * 1_000_000 // PARTS
    most = LIMITS * PARTS
    done = ~nw.col(f"done_{i}").is_null()
    waited = nw.when(done).then(nw.col(f"done_{i}")).otherwise(nw.lit(end, nw.Int64)) - nw.col(f"start_{i}")
    rows = seen.filter(~nw.col(f"start_{i}").is_null()).select(waited=waited, came=nw.when(done).then(1).otherwise(0))
    rows = rows.with_columns(whole=nw.col("waited") // unit)
    # What came is rounded up, what is still waited for down: it was not seen for the rest of its part.
    up = nw.when((nw.col("came") == 1) & (nw.col("whole") * unit < nw.col("waited"))).then(1).otherwise(0)
    rows = rows.with_columns(part=nw.col("whole") + up)
    is_over = nw.col("part") > most
    rows = rows.with_columns(
        done=nw.when(is_over).then(0).otherwise(nw.col("came")),
        part=nw.when(is_over).then(most).otherwise(nw.col("part")),
    )
    return rows.group_by("part", "done", "came").agg(n=nw.len())


def _row(rule: Rule, counts: pd.DataFrame) -> tuple[Any, ...]:
    part, done, n = (counts[name].to_numpy() for name in ("part", "done", "n"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are no whole numbers would not be allowed
        fit = KaplanMeierFitter().fit(part.astype(float), done.astype(int), weights=n.astype(float))
        low_median, high_median = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy())
    curve, bounds = fit.survival_function_, fit.confidence_interval_survival_function_
    place = np.searchsorted(curve.index.to_numpy(float), PARTS, side="right") - 1
    still = float(curve.iloc[place, 0])
    at_risk = int(n[part >= PARTS].sum())
    numbers = (PARTS, still, bounds.iloc[place, 0], bounds.iloc[place, 1])
    day, share, bottom, top = (np.array([number], float) for number in numbers)
    ended = int(n[(done == 1) & (part <= PARTS)].sum())
    low, high = stats.flat_ends(day, share, bottom, top, np.array([at_risk]), ended)
    median_days = [
        float(x) * rule.seconds / PARTS / 86_400 for x in (fit.median_survival_time_, low_median, high_median)
    ]
    days = [x if np.isfinite(x) else float("nan") for x in median_days]
    came = int(n[counts["came"] == 1].sum())
    waiting = int(n[(counts["came"] == 0) & (part < PARTS)].sum())
    is_known = bool((part >= PARTS).any() or still == 0)  # somebody was waited for as long as the limit
    shares = (1 - still, 1 - float(high[0]), 1 - float(low[0])) if is_known else (float("nan"),) * 3
    return (rule.label, rule.after, rule.within, int(n.sum()), came, waiting, *shares, *days)
