"""For whom a funnel works: steps by segment, differences with intervals and adjusted tests, where a segment falls back.

A unit is in one segment. Which, is a choice (`credit`): its value at the *first* entry is known before anything that
the funnel measures, and is the only fair one for comparing; at the *last* step reached, at *all* steps or at one *step*
it depends on how far the unit came. Products that count a unit in several segments show more than there are.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from journeykit import engine, errors, funnels, stats
from journeykit.differences import design_effect, difference, joint_p_value, stratified, two_shares
from journeykit.funnel_spells import labels, segment_at
from journeykit.funnels import NO_FUNNEL, NO_VALUE, Reached
from journeykit.quality import over_people

Credit = Literal["first", "last", "all", "step"]
CREDITS = ("first", "last", "all", "step")
MIXED, NOT_REACHED = "(mixed)", "(not reached)"
SURE = 0.05  # an adjusted p-value below it is called a difference
COMPARE_COLUMNS = (
    *("segment", "n", "converted_n", "share", "share_low", "share_high", "others_n", "others_share"),
    *("difference_points", "difference_points_low", "difference_points_high", "p_value", "p_adjusted", "test"),
)
ADJUSTED_COLUMNS = (
    *("adjusted_points", "adjusted_points_low", "adjusted_points_high", "p_of_adjusted", "strata_n", "compared_share"),
)
STEP_COLUMNS = (
    *("segment", "step_number", "step", "n", "share", "share_low", "share_high", "others_n", "others_share"),
    *("difference_points", "difference_points_low", "difference_points_high", "p_value", "p_adjusted", "gap_share"),
)


def by_segment(
    reached: Reached, column: str, *, credit: Credit = "first", at: str = "", min_n: int = 1
) -> pd.DataFrame:
    """Count the steps of a funnel for each value of a column.

    Args:
        reached: who reached what, by `funnels.reach`, with the column among its `by`.
        column: the column.
        credit: "first": its value at the unit's first entry; "last": at the deepest step reached; "all": the value that
            every step taken has, or "(mixed)"; "step": at the step `at`, or "(not reached)".
        at: label of a step, for "step".
        min_n: units of a segment; smaller ones are left out and their units counted in `attrs["left_out_n"]`.

    Returns:
        One row per segment (largest first) and step, with the columns of `funnels.count` after `segment`. The segments
        add up to the funnel of all, except for what is left out. With "step", the shares up to that step are 1 by
        construction, and "(not reached)", which comes last, has numbers but no shares.

    Raises:
        JourneyError: `reached` does not hold the column, or there is no such credit or step.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad/app buy/web | u2: ad/app buy/app | u3: ad/web")
    >>> reached = funnels.reach(log, steps=["ad", "buy"], by=["channel"])
    >>> by_segment(reached, "channel", credit="last")[["segment", "step", "n"]].values.tolist()
    [['web', 'ad', 2], ['web', 'buy', 1], ['app', 'ad', 1], ['app', 'buy', 1]]
    """
    if not reached.rules.steps:
        return funnels.count(reached, by=column)
    value = {f"{column}_0": credited(reached, column, credit, at)}
    table = funnels.count(
        dataclasses.replace(reached, table=reached.table.with_columns(**value)), by=column, min_n=min_n
    )
    nowhere = table["segment"] == NOT_REACHED if len(table) else pd.Series(dtype=bool)
    if not nowhere.any():
        return table
    table.loc[nowhere, [name for name in table.columns if name.startswith("share_")]] = math.nan
    ordered = pd.concat([table[~nowhere], table[nowhere]], ignore_index=True)
    ordered.attrs.update(table.attrs)
    return ordered


def compare(
    reached: Reached, column: str, *, credit: Credit = "first", at: str = "", adjust: str = "", min_n: int = 30
) -> pd.DataFrame:
    """Compare the conversion of each segment with that of all others together.

    The difference has Newcombe's interval, which is built of two Wilson intervals: it holds in small samples, and never
    leaves −100 to 100. Rival: Wald's, which is too narrow there. The p-value is the chi-square test's (without Yates's
    correction, with which it finds too little), or Fisher's exact one where fewer than five units are expected in a
    cell. One test of all segments comes first (`attrs["joint_p_value"]`; chi-square, or 9,999 random tables with the
    same margins where many cells are small): single segments are compared only after it, so `p_adjusted` is Holm's
    over the segments, and never smaller than the joint p-value. Intervals are those of single comparisons.

    Sessions, journeys and attempts of one person are alike: all numbers are first divided by the design effect of their
    segment (Rao & Scott 1992; see `stats.clustered`). Units whose time is not over are not in it, nor those of
    "(mixed)" and "(not reached)".

    Args:
        reached: who reached what, by `funnels.reach`, with the columns among its `by`.
        column: the column to compare.
        credit: as in `by_segment`. Only "first" is settled before the outcome. The others depend on how far a unit
            came, so that a difference may be made by the credit alone.
        at: as in `by_segment`; with "step", conversion is counted from that step on.
        adjust: a second column, as it is at the first entry. Segments are then compared within its values, and the
            differences put together by Mantel and Haenszel, to see how much is only a different mix.
        min_n: units of a segment, and of all others; smaller ones are part of "all others", but have no row.

    Returns:
        One row per segment, largest first: n, converted_n, share with its Wilson interval, others_n, others_share,
        difference_points in percentage points (segment less others), p_value, p_adjusted, test. With `adjust` also
        adjusted_points with its interval (Sato 1989), p_of_adjusted (Cochran–Mantel–Haenszel), strata_n that hold
        both, and compared_share of the segment's units that are in them.

    Raises:
        JourneyError: `reached` does not hold a column, or there is no such credit or step.
    """
    columns = [*COMPARE_COLUMNS, *(ADJUSTED_COLUMNS if adjust else ())]
    if not reached.rules.steps:
        return stats.not_enough(columns, NO_FUNNEL)
    base, last = _base(reached, credit, at), len(reached.rules.steps)
    rows = _rows(reached, credited(reached, column, credit, at), base, ~nw.col(f"at_{last}").is_null(), adjust)
    sums = _sums(rows, reached.rules.per)
    whole = sums.sum()
    kept = sums[(sums["n"] >= max(min_n, 1)) & (whole["n"] - sums["n"] >= max(min_n, 1))]
    if len(sums) == 1:
        return stats.not_enough(columns, _alone(str(sums.index[0]), credit))
    if kept.empty:
        largest = int(sums["n"].max()) if len(sums) else 0
        why = (
            f"largest of {len(sums)} segments n = {largest} of {whole['n']:.0f}; at least {min_n} in and out are needed"
        )
        return stats.not_enough(columns, f"not enough data ({why})")
    strata = _sums(rows, reached.rules.per, "_stratum") if adjust else pd.DataFrame()
    found = []
    for name in kept.index:
        mine, rest = kept.loc[name], whole - kept.loc[name]
        row = [name, *_compared(mine, rest)]
        found.append([*row, *(_adjusted(strata, name, design_effect(mine), design_effect(rest)) if adjust else ())])
    table = pd.DataFrame(found, columns=[name for name in columns if name != "p_adjusted"])
    rest = whole - kept.sum()
    joint = joint_p_value(pd.concat([kept, rest.to_frame().T]) if rest["n"] else kept)
    table.insert(columns.index("p_adjusted"), "p_adjusted", np.maximum(_holm(table["p_value"]), joint))
    table.attrs.update(joint_p_value=joint, left_out_n=int(rest["n"]))
    return table


def compare_steps(
    reached: Reached, column: str, *, segment: str = "", credit: Credit = "first", at: str = "", min_n: int = 30
) -> pd.DataFrame:
    """Compare a segment with all others step by step, to see where it falls behind.

    Of those who stood at the last required step before, the share that went on. A chain of shares multiplies, so the
    part of the gap that arises at a step is the logarithm of the ratio of its two shares, over that of the whole.

    Args:
        reached: as in `compare`.
        column: as in `compare`.
        segment: the segment; "" is the one that falls behind most among those that differ (p_adjusted < 0.05), or the
            one that falls behind most if none does.
        credit: as in `compare`.
        at: as in `compare`.
        min_n: units that must stand at a step on either side.

    Returns:
        One row per required step after the first: segment, step_number, step, n that stood before it, share that went
        on, others_n, others_share, difference_points with Newcombe's interval, p_value, p_adjusted (Holm's over the
        steps), gap_share (they add up to 1; empty where a share is 0; below 0 where the segment is ahead).
    """
    if not reached.rules.steps:
        return stats.not_enough(STEP_COLUMNS, NO_FUNNEL)
    if not segment:
        every = compare(reached, column, credit=credit, at=at, min_n=min_n)
        if every.empty:
            return stats.not_enough(STEP_COLUMNS, stats.reason_of(every))
        behind = every[(every["p_adjusted"] < SURE) & (every["difference_points"] < 0)]
        behind = (behind if len(behind) else every).sort_values(["difference_points", "segment"])
        segment = str(behind["segment"].iloc[0])
    value, before, found = credited(reached, column, credit, at), max(1, _base(reached, credit, at)), []
    for k, step in enumerate(reached.rules.steps, start=1):
        if k <= before or step.optional:
            continue
        done = nw.col(f"came_{k}") == 1 if reached.rules.entry == "open" else ~nw.col(f"at_{k}").is_null()
        sums = _sums(_rows(reached, value, before, done), reached.rules.per)
        before = k
        mine = sums.reindex([segment], fill_value=0).iloc[0]
        rest = sums.sum() - mine
        if min(mine["n"], rest["n"]) >= max(min_n, 1):
            n, _, *compared, _ = _compared(mine, rest)
            found.append([segment, k, labels(reached.rules)[k - 1], n, *compared])
    if not found:
        return stats.not_enough(STEP_COLUMNS, f"not enough data (fewer than {min_n} of {segment!r} or of the others)")
    table = pd.DataFrame(found, columns=list(STEP_COLUMNS[:-2]))
    table["p_adjusted"] = _holm(table["p_value"])
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = np.log(table["share"] / table["others_share"])
    whole = float(gap.sum())
    table["gap_share"] = gap / whole if math.isfinite(whole) and abs(whole) > 1e-12 else math.nan
    return table


def credited(reached: Reached, column: str, credit: Credit, at: str = "") -> nw.Expr:
    """Return the segment of a unit as an expression on `Reached.table`; see `by_segment`."""
    if credit not in CREDITS:
        known = f"{errors.nearest(str(credit), CREDITS)} Allowed: {', '.join(CREDITS)}."
        raise errors.JourneyError(f"funnel segments: credit {credit!r} is not known.{known}")
    steps = range(1, len(reached.rules.steps) + 1)
    value = {k: segment_at(reached, column, k, "funnel segments") for k in (0, *steps)}
    taken = {k: ~nw.col(f"at_{k}").is_null() for k in steps}
    if credit == "first":
        return value[0]
    if credit == "step":
        k = _number(reached, at)
        return nw.when(taken[k]).then(value[k]).otherwise(nw.lit(NOT_REACHED))
    found: Any = nw.lit(NOT_REACHED)
    for k in steps if credit == "last" else reversed(steps):
        found = nw.when(taken[k]).then(value[k]).otherwise(found)
    if credit == "last":
        return found
    mixed: Any = found
    for k in steps:
        mixed = nw.when(taken[k] & (value[k] != found)).then(nw.lit(MIXED)).otherwise(mixed)
    return mixed


def _rows(reached: Reached, segment: nw.Expr, base: int, done: nw.Expr, adjust: str = "") -> nw.LazyFrame[Any]:
    """Return settled units at a step (0: all): _segment, _stratum, person_id, _n = 1, and _k = 1 where they went on."""
    rows = reached.table.filter(nw.col("is_open") == 0)
    rows = rows.filter(~nw.col(f"at_{base}").is_null()) if base else rows
    stratum = segment_at(reached, adjust, 0, "funnel segments") if adjust else nw.lit("")
    went_on = nw.when(done).then(nw.lit(1)).otherwise(nw.lit(0)).cast(nw.Int64())
    rows = rows.with_columns(_segment=segment, _stratum=stratum, _k=went_on, _n=nw.lit(1).cast(nw.Int64()))
    return rows.filter(~nw.col("_segment").is_in([MIXED, NOT_REACHED]))


def _sums(rows: nw.LazyFrame[Any], per: str, *strata: str) -> pd.DataFrame:
    """Return n, k, and what `_design` needs of people with several units, by segment (and stratum), largest first."""
    keys = ["_segment", *strata]
    if per == "person":
        found = engine.fetch(rows.group_by(*keys).agg(nw.col("_n").sum(), nw.col("_k").sum()))
        found = found.assign(_kk=found["_k"], _kn=found["_k"], _nn=found["_n"], _clusters=found["_n"])
    else:
        each = rows.group_by(*keys, "person_id").agg(nw.col("_n").sum(), nw.col("_k").sum())
        found = engine.fetch(over_people(each, *keys))
    names = ["n", "k", "kk", "kn", "nn", "clusters"]
    found = found.rename(columns={f"_{name}": name for name in names})
    found = found.sort_values(["n", *keys], ascending=[False, *[True] * len(keys)])
    return found.set_index(keys)[names].astype("int64")


def _compared(mine: pd.Series, rest: pd.Series) -> list[Any]:
    """Return n, converted, share and bounds, the others' n and share, the difference in points, p-value and test."""
    (k, n), (others_k, others_n) = ((int(side["k"]), int(side["n"])) for side in (mine, rest))
    effective = [
        k / design_effect(mine),
        n / design_effect(mine),
        others_k / design_effect(rest),
        others_n / design_effect(rest),
    ]
    gap = [100 * x for x in difference(*effective)]
    shares = [k / n, *stats.wilson(*effective[:2]), others_n, others_k / others_n]
    return [n, k, *shares, *gap, *two_shares(*effective)]


def _adjusted(strata: pd.DataFrame, segment: str, design: float, others: float) -> list[float]:
    """Return one segment's stratified difference from all others, in points, with what it rests on."""
    every = strata.groupby("_stratum")[["n", "k"]].sum()
    mine = strata.loc[segment][["n", "k"]].reindex(every.index, fill_value=0)
    rest = every - mine
    both = (mine["n"] > 0) & (rest["n"] > 0)
    *gap, p_value = stratified(mine["k"] / design, mine["n"] / design, rest["k"] / others, rest["n"] / others)
    return [*[100 * x for x in gap], p_value, int(both.sum()), float(mine.loc[both, "n"].sum() / mine["n"].sum())]


def _alone(segment: str, credit: str) -> str:
    empty = segment == NO_VALUE and credit == "first"
    hint = '; the column is empty at the first entry: name a step where it is known (credit "step")' if empty else ""
    return f"all are in one segment, {segment!r}, so there is nothing to compare{hint}"


def _holm(p_values: pd.Series) -> np.ndarray:
    return np.asarray(multipletests(p_values, method="holm")[1])


def _base(reached: Reached, credit: Credit, at: str) -> int:
    """Return the step that conversion is counted from; 0: all units, of an open funnel."""
    return _number(reached, at) if credit == "step" else int(reached.rules.entry != "open")


def _number(reached: Reached, step: str) -> int:
    named = labels(reached.rules)
    if step not in named:
        raise errors.JourneyError(
            f'funnel segments: there is no step {step!r} for credit "step".{errors.nearest(step, named)} '
            f"Allowed as `at`: {', '.join(named)}."
        )
    return named.index(step) + 1
