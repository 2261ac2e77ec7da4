"""Deviations from the plan by kind and step: how many journeys have them, and what became of those journeys."""

from __future__ import annotations

import math

import narwhals as nw
import pandas as pd
from statsmodels.stats.multitest import multipletests

from journeykit import engine, landmarks, stats
from journeykit.alignment import EXTRA, SKIPPED
from journeykit.plan_landmarks import Walked, broken_rules, names
from journeykit.plans import FINISHED, KINDS, LATE, Judged

_COUNTS = ["kind", "step", "step_number", "journeys_n", "people_n", "n", "share", "share_low", "share_high"]
_WITH = ["with_n", "converted_with_share", "converted_with_share_low", "converted_with_share_high"]
_WITHOUT = ["without_n", *(name.replace("with", "without") for name in _WITH[1:])]
_COMPARED = [*_WITH, *_WITHOUT, *landmarks.GAP, "p_adjusted"]
_MONEY = [*landmarks.VALUES, "at_stake_value", "at_stake_value_low", "at_stake_value_high"]


def count(judged: Judged, *, min_n: int = 1) -> pd.DataFrame:
    """Count finished journeys with each deviation, and compare how many convert with those that had come as far.

    Kinds are those of `alignment.judge`: **skipped** (a required step is missing, and a later one is there), **out of
    order**, **repeated**, **extra** (a value outside the plan), **late** (a time rule broken; `plan_times.rules`). A
    journey counts once in each row that it belongs to. Stopping early is no deviation and is not here.

    **The comparison is made before the conversion**, because a plan that holds the conversion cannot be kept by those
    who did not convert. Plan and journey are cut there; a deviation is taken at the moment when it is first known (a
    skipped step when a later one comes), without looking ahead, and the journeys with it are compared with those that
    had come to the same step without it (`landmarks.compare`). So a deviation that changes nothing has no gap, although
    those who convert have been through more. What is known only at the conversion, or comes after it, has no gap
    (`note` says so). **A gap is an association**: people who deviate differ in more than that. `p_adjusted` is by
    Benjamini & Hochberg over all rows compared.

    **At stake**: journeys with the deviation (`with_n`) × the gap × the mean value of a converted journey, as what
    would be won if the gap closed; only if the deviation is its cause. Its interval is that of the gap alone, and
    amounts of several rows overlap. It is told of skipped and late steps only: had the step been taken, in time, is
    a thing that can be wished for. Whoever repeats a step or does something else might have left instead, and then the
    deviation was no loss but a rescue. Rivals: all with against all without (see `landmarks`); counting only those who
    converted, which cannot show what is lost.

    One row per kind and step, most frequent first: kind, step, step_number (0: outside the plan), journeys_n, people_n,
    n (finished journeys with an event that counts), share (95 % Wilson interval). With outcomes:
    with_n and without_n journeys compared, the share of each that converted, gap_points (percentage points, negative:
    fewer convert with it), p_value, p_adjusted. With values: the value of a journey with and without, their difference,
    at_stake_value (negative: nothing to win). Intervals 95 %. Where fewer than 20 journeys could be compared on a side,
    these are empty and `note` says so. Rows of fewer than `min_n` people are left out (`attrs["left_out_n"]` rows).

    >>> from tests.conftest import make_log
    >>> from journeykit.plans import judge
    >>> log = make_log("u1: ad visit visit buy | u2: ad buy | u3: ad visit")
    >>> count(judge(log, steps=["ad", "visit", "buy"]))[["kind", "step", "journeys_n", "n"]].values.tolist()
    [['skipped', 'visit', 1, 3], ['repeated', 'visit', 1, 3]]
    """
    columns = _columns(judged)
    if judged.reason:
        return stats.not_enough(columns, judged.reason)
    counts = (judged.groups["code"] != "") | (judged.groups["outside_n"] > 0)
    over = judged.groups[judged.groups["outcome"].isin([*FINISHED, "all"]) & counts]
    total = int(over["n"].sum())
    if not total:
        return stats.not_enough(columns, "no finished journey has an event that counts (n = 0)")
    found = _counted(judged, over)
    if found.empty:
        return stats.not_enough(columns, f"no journey that is over deviates from the plan (n = {total})")
    shown = found[found["people_n"] >= min_n].reset_index(drop=True)
    if shown.empty:
        return stats.not_enough(columns, f"no deviation is found with at least {min_n} people (n = {total})")
    shown = shown.assign(n=total)
    shown = stats.add_share(shown, "all", "journeys_n", "n")
    shown = shown.rename(columns={f"all_share{end}": f"share{end}" for end in ("", "_low", "_high")})
    if judged.has_outcome:
        shown = _with_gaps(judged, over, shown)
    order = {kind: place for place, kind in enumerate(KINDS)}
    shown = shown.assign(_kind=shown["kind"].map(order))
    shown = shown.sort_values(["journeys_n", "step_number", "_kind", "step"], ascending=[False, True, True, True])
    table = shown[columns].reset_index(drop=True)
    table.attrs["left_out_n"] = len(found) - len(shown)
    return table


def _columns(judged: Judged) -> list[str]:
    compared = [*_COMPARED, *(_MONEY if judged.has_value else []), "note"] if judged.has_outcome else []
    return [*_COUNTS, *compared]


def _counted(judged: Judged, over: pd.DataFrame) -> pd.DataFrame:
    """Journeys and people with each deviation."""
    known = judged.alignments()
    rows = [(code, *key) for code in over["code"].unique() for key in sorted(names(judged, known[code]))]
    named = ["kind", "step_number", "step"]
    members = pd.DataFrame(rows, columns=["code", *named])
    table = judged.counting.filter(nw.col("outcome").is_in([*FINISHED, "all"]))
    told = {"journeys_n": nw.len(), "people_n": nw.col("person_id").n_unique()}
    parts = []
    if len(members):
        joined = table.select("code", "person_id").join(engine.beside(members, table), on="code", how="inner")
        parts.append(engine.fetch(joined.group_by(*named).agg(**told)))
    for (kind, number, step), column in broken_rules(judged):
        late = table.filter(nw.col(column).is_in([2, 4])).select("person_id", kind=nw.lit(kind))
        part = engine.fetch(late.group_by("kind").agg(**told))
        parts.append(part.assign(step_number=number, step=step))
    joined = judged.outside.join(table.select("journey_id", "person_id"), on="journey_id", how="inner")
    part = engine.fetch(joined.group_by("value").agg(**told)).rename(columns={"value": "step"})
    parts.append(part.assign(kind=EXTRA, step_number=0))
    found = pd.concat([part for part in parts if len(part)] or [parts[-1]], ignore_index=True)
    return found[[*named, "journeys_n", "people_n"]].astype({"journeys_n": "int64", "people_n": "int64"})


def _with_gaps(judged: Judged, over: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """Add what became of the journeys with each deviation and of those that had come as far without it."""
    walked = Walked(judged, over, list(shown.loc[shown["kind"] == EXTRA, "step"]))
    rows = [walked.compare(key) for key in zip(shown["kind"], shown["step_number"], shown["step"], strict=True)]
    columns = ["with_n", "without_n", *landmarks.SHARES, *landmarks.GAP, *landmarks.VALUES, "note"]
    compared = pd.DataFrame(rows, columns=columns)
    compared = compared.rename(columns={name: f"converted_{name}" for name in landmarks.SHARES})
    has_p = compared["p_value"].notna()
    compared["p_adjusted"] = math.nan
    if has_p.any():
        compared.loc[has_p, "p_adjusted"] = multipletests(compared.loc[has_p, "p_value"], method="fdr_bh")[1]
    if judged.has_value:
        bought = over[over["outcome"] == "converted"]
        worth = bought["value"].sum() / bought["n"].sum() if len(bought) else math.nan
        wished = shown["kind"].isin([SKIPPED, LATE])
        for name, bound in (("", ""), ("_low", "_high"), ("_high", "_low")):
            lost = -compared["with_n"] * compared[f"gap_points{bound}"] / 100 * worth
            compared[f"at_stake_value{name}"] = lost.where(wished)
    return pd.concat([shown, compared], axis=1)
