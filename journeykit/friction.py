"""Friction: what people do again, between which two steps they go to and fro, and how many ways lead on from a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats as _stats

from journeykit import engine, stats
from journeykit.sequences import codes, counted, in_units, starts, texts

ALL = "(all)"
ARROW = " ⇄ "
MIN_PAIRS = 100  # of fewer next steps the entropy is too uncertain to be told

_AGAIN = ("rework", "loop", "ping_pong", "return")
_KINDS = {"loop": 1, "ping_pong": 2, "return": 3}  # 0 is the first time
_BOUNDS = ("", "_low", "_high")
REWORK = ["value", "n", "people_n"]
REWORK += [column for kind in _AGAIN for column in (f"{kind}_n", *(f"{kind}_share{end}" for end in _BOUNDS))]
REWORK += ["units_n", "units_again_n", *(f"units_again_share{end}" for end in _BOUNDS)]
PING_PONG = ["pair", "n", "people_n", "units_n", "events_n", *(f"share{end}" for end in _BOUNDS)]
NEXT = [
    "value",
    "n",
    "people_n",
    "different_n",
    *(f"effective_next{end}" for end in _BOUNDS),
    "entropy_bits",
    "top_next",
]
_FINE = 1_000  # of a bit: surprises are added up as whole numbers, so that no engine rounds otherwise than another


def rework(touches: Any, *, on: str = "touchpoint", within: str = "journey", min_n: int = 1) -> pd.DataFrame:
    """Count the events that only repeat what the same journey has had before, split by what lay between.

    Rework is (events − different values) ÷ events: every event whose value the unit had before. Each is one of three:
    a **loop** (the value came directly before), **ping-pong** (only one other value lay between, however often: A B A,
    A B B A), or a longer **return** (two or more others). So the three add up to rework exactly. Rivals: only A B A of
    three events in a row (the fourth of A B B A is then a return); the mean over journeys of each one's share, in which
    a journey of two events weighs as much as one of fifty. The share says nothing about what is needless: looking at
    ten products is ten views of one touchpoint.

    Requires `person_id`, the unit of `within` (person, session or journey), `on`, and `position` or the columns of the
    total order. Events without a value of `on` are left out first. One row for all values ("(all)"), then one per
    value, most rework first: `n` events, `people_n`, and for rework and its three parts number and share of `n`;
    `units_n` units with the value and the share of them that had it again (in the row of all: any value). Intervals
    (95 %) draw people, each with all of their events (`stats.clustered`). Values of fewer than `min_n` people are left
    out; they count in "(all)".

    >>> from tests.conftest import make_log
    >>> table = rework(make_log("u1: a a b a c d a"))  # loop, ping-pong, return
    >>> table[["value", "n", "rework_n", "loop_n", "ping_pong_n", "return_n"]].values.tolist()[0]
    ['(all)', 7, 3, 1, 1, 1]
    """
    rows, order = in_units(touches, on, within, "rework")
    with engine.scratch():
        made = engine.in_order(rows, by="unit", order=order, work=_repeats)
        kinds = {kind: nw.when(nw.col("kind") == k).then(nw.col("n")).otherwise(0) for kind, k in _KINDS.items()}
        made = made.with_columns(rework=nw.when(nw.col("kind") > 0).then(nw.col("n")).otherwise(0), **kinds)
        again = nw.when(nw.col("kind") > 0).then(1).otherwise(0).max()
        by_value = made.group_by("person_id", "unit", "value").agg(again=again).with_columns(one=nw.lit(1))
        by_unit = made.group_by("person_id", "unit").agg(again=again).with_columns(one=nw.lit(1))
        values = clustered_shares(made, ["value"], "n", _AGAIN)
        values = values.merge(_again(clustered_shares(by_value, ["value"], "one", ["again"])), on="value")
        whole = clustered_shares(made, [], "n", _AGAIN).join(_again(clustered_shares(by_unit, [], "one", ["again"])))
    if whole["people_n"].iloc[0] < max(min_n, 1):
        return stats.not_enough(REWORK, f"not enough data (n = {whole['people_n'].iloc[0]} people)")
    values = values[values["people_n"] >= min_n].sort_values(["rework_n", "value"], ascending=[False, True])
    return pd.concat([whole.assign(value=ALL), values], ignore_index=True)[REWORK]


def ping_pong(touches: Any, *, on: str = "touchpoint", within: str = "journey", min_n: int = 1) -> pd.DataFrame:
    """Count between which two values people go to and fro.

    An event of ping-pong comes back to a value with only one other between (see `rework`): A B A B has two, both of the
    pair A ⇄ B. Requires the columns of `rework`. One row per pair, most frequent first: `n` such events, `people_n` and
    `units_n` who did it, and its share of all `events_n` events, with an interval that draws people.

    >>> from tests.conftest import make_log
    >>> ping_pong(make_log("u1: a b a b c"))[["pair", "n", "events_n"]].values.tolist()
    [['a ⇄ b', 2, 5]]
    """
    rows, order = in_units(touches, on, within, "ping_pong")
    with engine.scratch():
        made = engine.in_order(rows, by="unit", order=order, work=_repeats)
        there = made.filter(nw.col("kind") == _KINDS["ping_pong"])
        swapped = nw.col("value") > nw.col("other")
        there = there.with_columns(
            first=nw.when(swapped).then(nw.col("other")).otherwise(nw.col("value")),
            second=nw.when(swapped).then(nw.col("value")).otherwise(nw.col("other")),
        )
        units = engine.fetch(
            there.select("first", "second", "unit").unique().group_by("first", "second").agg(units_n=nw.len())
        )
        table = clustered_parts(there, made, ["first", "second"]).merge(units, on=["first", "second"])
    table = table[table["people_n"] >= max(min_n, 1)].rename(columns={"of_n": "events_n"})
    if table.empty:
        return stats.not_enough(PING_PONG, f"fewer than {max(min_n, 1)} people go to and fro between two values")
    table = table.assign(pair=table["first"] + ARROW + table["second"])
    return table.sort_values(["n", "pair"], ascending=[False, True], ignore_index=True)[PING_PONG]


def next_steps(
    touches: Any, *, on: str = "touchpoint", within: str = "journey", min_pairs: int = MIN_PAIRS, min_n: int = 1
) -> pd.DataFrame:
    """Say how many ways really lead on from each value: the effective number of next steps.

    It is 2^H, where H = −Σ p log₂ p is the entropy of what directly follows (itself included; an end is no step). Ten
    next steps of which one takes nearly all are about one; ten equal ones are ten. The plain estimate is too low in
    small samples, so Miller and Madow's (K − 1) / (2 n ln 2) bits are added, K being the different next values seen.
    Rivals: the number of different next values, which grows with the data; Chao and Shen's estimator, for many values
    not seen yet. Below `min_pairs` pairs nothing is told.

    The 95 % interval is by the delta method over people, each with all of their pairs (pairs of one person are alike),
    with the second term of the variance (K − 1) / 2n² (Harris 1975), without which it would be empty where all next
    values are equally frequent.

    Requires the columns of `rework`. One row per value, most ways first: `n` pairs, `people_n`, `different_n` next
    values, `effective_next` with its interval, `entropy_bits` (corrected), and the most frequent next value.

    >>> from tests.conftest import make_log
    >>> next_steps(make_log("u1: a b a c a b a c a"), min_pairs=2)[["value", "n", "different_n"]].values.tolist()
    [['a', 4, 2], ['b', 2, 1], ['c', 2, 1]]
    """
    rows, order = in_units(touches, on, within, "next_steps")
    with engine.scratch():
        made = engine.in_order(rows, by="unit", order=order, work=_pairs)
        each = engine.keep(made.group_by("person_id", "value", "next").agg(nw.col("n").sum()), "next_steps")
        pairs = engine.fetch(each.group_by("value", "next").agg(nw.col("n").sum()))
        pairs = pairs.sort_values(["value", "n", "next"], ascending=[True, False, True], ignore_index=True)
        table, scores = _entropies(pairs)
        scored = each.join(engine.beside(scores, each), on=["value", "next"], how="inner")
        people = scored.group_by("person_id", "value").agg(s=(nw.col("n") * nw.col("score")).sum())
        people = people.with_columns(ss=nw.col("s").cast(nw.Float64()) * nw.col("s").cast(nw.Float64()))
        spread = engine.fetch(people.group_by("value").agg(nw.col("ss").sum(), people_n=nw.len()))
    table = table.merge(spread, on="value", how="left")
    kept = (table["n"] >= max(min_pairs, 1)) & (table["people_n"] >= max(min_n, 1))
    if not kept.any():
        most = int(table["n"].max()) if len(table) else 0
        return stats.not_enough(NEXT, f"not enough data (n = {most} next steps, at least {min_pairs} are needed)")
    table = _with_bounds(table[kept].reset_index(drop=True))
    return table.sort_values(["effective_next", "value"], ascending=[False, True], ignore_index=True)[NEXT]


def _entropies(pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the entropy of what follows each value, and what each pair's surprise is above it, in whole `_FINE`."""
    pairs = pairs.astype({"n": "int64"})
    n = pairs.groupby("value")["n"].transform("sum")
    surprise = -np.log2(pairs["n"] / n)
    pairs = pairs.assign(total=n, surprise=surprise, part=pairs["n"] / n * surprise)
    by = pairs.groupby("value", as_index=False)
    table = by.agg(n=("n", "sum"), different_n=("next", "size"), plain=("part", "sum"), top_next=("next", "first"))
    squares = (pairs["n"] / n * surprise**2).groupby(pairs["value"]).sum()
    table["independent"] = (squares.reindex(table["value"]).to_numpy() - table["plain"] ** 2).clip(lower=0)
    above = pairs["surprise"] - pairs["value"].map(table.set_index("value")["plain"])
    return table, pairs[["value", "next"]].assign(score=(above * _FINE).round().astype("int64"))


def _with_bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Add the corrected entropy and the effective number with its interval."""
    n, more = table["n"].astype(float), table["different_n"] - 1
    bits = table["plain"] + more / (2 * n * np.log(2))
    clustered = table["ss"] / _FINE**2 / n**2
    independent = table["independent"] / n
    # What n pairs of people who are alike are worth; where all are equally frequent only the people tell.
    worth = np.where(
        independent > 1e-12, n * np.minimum(1, independent / clustered.clip(lower=1e-300)), table["people_n"]
    )
    error = np.sqrt(clustered + more / (2 * np.maximum(worth, 1) ** 2 * np.log(2) ** 2))
    half = _stats.t.ppf(0.975, np.maximum(table["people_n"] - 1, 1)) * error
    low, high = 2 ** (bits - half), 2 ** (bits + half)
    # One next value and no other: Wilson's bound of what may follow besides, as a second way.
    rest = np.array([stats.wilson(0, people)[1] for people in table["people_n"]])
    second = 2 ** -(rest * np.log2(rest) + (1 - rest) * np.log2(np.maximum(1 - rest, 1e-12)))
    single = more == 0
    return table.assign(
        entropy_bits=bits,
        effective_next=2**bits,
        effective_next_low=np.where(single, 1.0, np.maximum(low, 1.0)),
        effective_next_high=np.where(single, np.where(rest >= 0.5, 2.0, second), high),
    )


def clustered_shares(
    frame: Any, keys: Sequence[str], n: str, counts: Sequence[str], apart: Sequence[str] = ()
) -> pd.DataFrame:
    """Add up numbers over people, and return each one's share of `n` with an interval that draws people.

    `frame` has `person_id`, the keys, `n`, the counts (parts of `n`) and what is counted apart from it. One row per
    value of the keys (without keys: one row): the keys, n, people_n, for each count `<count>_n` and `<count>_share`
    with its bounds (`stats.clustered`), and `<apart>_n`.
    """
    added = [nw.col(name).sum() for name in (*counts, *apart)]
    people = frame.group_by("person_id", *keys).agg(nw.col(n).sum().alias("n"), *added)
    products = {"_nn": nw.col("n") * nw.col("n")}
    for k in counts:
        products |= {f"{k}_kk": nw.col(k) * nw.col(k), f"{k}_kn": nw.col(k) * nw.col("n")}
    people = people.with_columns(**products)
    sums = [nw.col(name).sum() for name in ("n", *counts, *apart, *products)]
    found = people.group_by(*keys).agg(*sums, people_n=nw.len()) if keys else people.select(*sums, people_n=nw.len())
    table = engine.fetch(found).fillna(0)
    for k in counts:
        parts = {"_kk": table[f"{k}_kk"], "_kn": table[f"{k}_kn"], "_clusters": table["people_n"]}
        table = table.assign(**{f"{k}_n": table[k]}, **parts, _nn=table["_nn"])
        table = stats.add_clustered_share(table, k, f"{k}_n", "n").assign(_nn=table["_nn"])
    table = table.rename(columns={name: f"{name}_n" for name in apart})
    shown = ["n", "people_n", *[f"{k}_n" for k in (*counts, *apart)]]
    table[shown] = table[shown].astype("int64")
    return table[[*keys, *shown, *[f"{k}_share{end}" for k in counts for end in _BOUNDS]]]


def clustered_parts(part: Any, whole: Any, keys: Sequence[str], of: Sequence[str] = ()) -> pd.DataFrame:
    """Return which share of a whole each part is, with an interval that draws people.

    `part` has `person_id`, the keys and `n`; `whole` has `person_id`, `of` (some of the keys, or none) and `n`. One row
    per value of the keys: the keys, n, people_n, `of_n` (of the whole) and `share` with its bounds.
    """
    people = whole.group_by("person_id", *of).agg(m=nw.col("n").sum())
    people = people.with_columns(_nn=nw.col("m") * nw.col("m"))
    sums = [nw.col("m").sum().alias("of_n"), nw.col("_nn").sum(), nw.len().alias("_clusters")]
    totals = engine.fetch(people.group_by(*of).agg(*sums) if of else people.select(*sums))
    each = part.group_by("person_id", *keys).agg(k=nw.col("n").sum())
    each = each.join(people.select("person_id", *of, "m"), on=["person_id", *of], how="inner")
    each = each.with_columns(_kk=nw.col("k") * nw.col("k"), _kn=nw.col("k") * nw.col("m"))
    found = each.group_by(*keys).agg(
        n=nw.col("k").sum(), people_n=nw.len(), _kk=nw.col("_kk").sum(), _kn=nw.col("_kn").sum()
    )
    table = engine.fetch(found)
    table = table.merge(totals, on=list(of)) if of else table.merge(totals, how="cross")
    shown = {f"part_share{end}": f"share{end}" for end in _BOUNDS}
    return stats.add_clustered_share(table, "part", "n", "of_n").rename(columns=shown)


def _again(units: pd.DataFrame) -> pd.DataFrame:
    """Call the figures of units by their names in the table of events."""
    units = units.drop(columns="people_n")
    return units.rename(columns=lambda name: "units_n" if name == "n" else name.replace("again", "units_again"))


def _repeats(table: pa.Table, _first: int) -> pa.Table:
    """Count a unit's events by value and by what lay between them and the value's last time before."""
    value, names = codes(table)
    new = starts(table)
    row, unit = np.arange(len(value)), np.cumsum(new) - 1
    changed = new.copy()
    changed[1:] |= value[1:] != value[:-1]
    run = np.cumsum(changed)  # a value that follows itself is one run
    key = unit * len(names) + value
    sorted_rows = np.argsort(key, kind="stable")
    before = np.full(len(value), -1)
    same = key[sorted_rows][1:] == key[sorted_rows][:-1]
    before[sorted_rows[1:][same]] = sorted_rows[:-1][same]
    apart = run - run[before]
    kind = np.where(apart == 0, _KINDS["loop"], np.where(apart == 2, _KINDS["ping_pong"], _KINDS["return"]))
    kind = np.where(before < 0, 0, kind)
    other = np.where(kind == _KINDS["ping_pong"], value[row - 1], -1)
    found, n = counted({"unit": unit, "value": value, "other": other, "kind": kind})
    return _table(table, new, found, n, {"value": names, "other": names})


def _pairs(table: pa.Table, _first: int) -> pa.Table:
    """Count which value directly follows which in a unit."""
    value, names = codes(table)
    new = starts(table)
    later = np.flatnonzero(~new)
    unit = np.cumsum(new) - 1
    found, n = counted({"unit": unit[later], "value": value[later - 1], "next": value[later]})
    return _table(table, new, found, n, {"value": names, "next": names})


def _table(table: pa.Table, new: Any, found: dict[str, Any], n: Any, named: dict[str, list[str]]) -> pa.Table:
    """Return counted rows with the person and the unit that their numbers stand for, and texts for numbers of texts."""
    first = np.flatnonzero(new)[found["unit"]]
    columns = {"person_id": table["person_id"].to_numpy()[first], "unit": table["unit"].to_numpy()[first]}
    rest = {name: texts(found[name], named[name]) if name in named else found[name] for name in found if name != "unit"}
    return pa.table(columns | rest | {"n": n})
