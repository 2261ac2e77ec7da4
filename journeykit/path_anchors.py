"""Paths anchored at an event: what comes after it, what came before, and the ways that lead through it."""

from __future__ import annotations

from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import engine, stats
from journeykit.path_grid import ENDED, NOT_BEGUN, WITHOUT, Window, grid, names, positions, row_keys, row_of, window
from journeykit.paths import ARROW, REST
from journeykit.walks import Piece, Walks, added, by_people, shares, tally, walks, whole

_AROUND = ["position", "value", "n", "people_n", "share", "share_low", "share_high"]
_WAYS = ["way", "ways_n", "n", "people_n", "share", "share_low", "share_high"]


def around(
    touches: Any,
    anchor: str,
    *,
    before: int = 0,
    after: int = 5,
    occurrence: str = "first",
    on: str = "event",
    within: str = "session",
    collapse: bool = False,
    top: int = 8,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count what comes in the places after an event, before it, or both, out of ALL units.

    Forward from the event: `after` places; backward from it: `before` places and `after` = 0; through it: both. Place 0
    is the event itself, −1 the one directly before. Units without the event are in the row "(without it)" of every
    place, those that ended before a place in "(ended)", those that had not begun in "(not begun)", and values beyond
    the `top` ones in "(other)", so that every place sums to all units. Rivals: shares of those who came to the event
    only (divide by one minus the share without it); shares of the rows shown, which hide how many are not.

    With `occurrence` "any" every time that the event comes is counted, so that a unit may count several times: n is of
    all those times, and there is no row for units without it.

    Args:
        touches: the columns of `paths.transitions` (no time), or `walks.Walks`.
        anchor: a value of `on`, or several ("cart | quick_buy").
        before: places before it.
        after: places after it.
        occurrence: first, last or any.
        on: event, touchpoint or stage.
        within: person, session or journey.
        collapse: count a value that follows itself once.
        top: how many values are shown by themselves.
        min_n: cells of fewer people are counted in "(other)".

    Returns:
        One row per place and value: `position`, `value`, `n` units, `people_n` different people, and the share of all
        with its interval (95 %), which takes people as independent. Empty when nobody has the event.

    >>> from tests.conftest import make_log
    >>> table = around(make_log("u1: ad cart buy | u2: cart | u3: ad"), "cart", after=1, top=2)
    >>> table.loc[table["position"] == 1, ["value", "n"]].values.tolist()
    [['cart', 0], ['buy', 1], ['(other)', 0], ['(ended)', 1], ['(without it)', 1]]
    """
    with engine.scratch():
        ways = walks(touches, on=on, within=within, collapse=collapse)
        at = window(ways, anchor, before=before, after=after, occurrence=occurrence, where="around")
        if not at.anchor:
            return stats.not_enough(_AROUND, _nobody(anchor))
        always = [ENDED] * (after > 0) + [NOT_BEGUN] * (before > 0) + [WITHOUT] * (occurrence != "any")
        table, everything = positions(ways, at, top=top, min_n=min_n, always=always)
    there = table.loc[(table["position"] == 0) & (table["value"] != WITHOUT), "people_n"].max()
    if there < min_n:
        return stats.not_enough(_AROUND, f"not enough data (fewer than {min_n} people have {anchor})")
    table.attrs |= {"anchor": anchor, "units_n": int(everything["n"].iloc[0])}
    return table


def ways(
    touches: Any,
    anchor: str,
    *,
    before: int = 0,
    after: int = 3,
    occurrence: str = "first",
    on: str = "event",
    within: str = "session",
    collapse: bool = True,
    top: int = 15,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count the ways that lead on from an event, to it, or through it, out of ALL units.

    Arguments as for `around`. One row per way, most frequent first, such as "ad → [cart] → buy → (ended)" (a way that
    goes on longer ends without "(ended)"); then "(all other paths)", with `ways_n` different ones; then "(without it)",
    the units without the event (but for `occurrence` "any"). `n` units sum to all, shares to 1. Ways of fewer than
    `min_n` people are among the others, which have no number of people and no interval: they are what remains.

    >>> from tests.conftest import make_log
    >>> ways(make_log("u1: ad cart buy | u2: cart | u3: ad"), "cart", before=1, after=1)[["way", "n"]].values.tolist()
    [['(not begun) → [cart] → (ended)', 1], ['ad → [cart] → buy', 1], ['(without it)', 1]]
    """
    with engine.scratch():
        walked = walks(touches, on=on, within=within, collapse=collapse)
        at = window(walked, anchor, before=before, after=after, occurrence=occurrence, where="ways")
        if not at.anchor:
            return stats.not_enough(_WAYS, _nobody(anchor))
        work = partial(_count_rows, at=at, values_n=len(walked.values))
        counts = engine.keep(added(by_people(walked.table, work), ["kind", "way"]), "ways")
        best = engine.fetch(counts.filter(nw.col("kind") == 0).sort("n", "way", descending=[True, False]).head(top))
        apart = engine.fetch(counts.filter(nw.col("kind") > 0)).set_index("kind").drop(columns="way").astype("int64")
        different = int(engine.fetch(counts.filter(nw.col("kind") == 0).select(n=nw.len()))["n"].iloc[0])
    everything, without = apart.loc[[1]], apart[apart.index == 2]
    n = int(everything["n"].iloc[0])
    best = best.assign(way=[_way(row_of(key), at, walked) for key in best["way"]])
    sums = ["n", "people_n", "kk", "kn"]
    best[sums] = best[sums].astype("int64")
    table = best[best["people_n"] >= min_n].sort_values(["n", "way"], ascending=[False, True], ignore_index=True)
    if table.empty:
        return stats.not_enough(_WAYS, f"no way is taken by at least {min_n} people (n = {n})")
    rest = n - int(table["n"].sum()) - int(without["n"].sum())
    table = table.assign(ways_n=1, **shares("share", table, everything))
    others: list[dict[Any, Any]] = []
    if rest:
        others.append({"way": REST, "ways_n": different - len(table), "n": rest, "share": rest / n})
    if len(without):
        given = without.assign(way=WITHOUT, ways_n=0, **shares("share", without, everything))
        others += given.to_dict("records")
    table = pd.concat([table, pd.DataFrame(others)], ignore_index=True) if others else table
    table = table[_WAYS]
    table.attrs |= {"anchor": anchor, "units_n": n}
    return table


def _nobody(anchor: str) -> str:
    return f"nobody has {anchor} (n = 0)" if anchor.strip() else "no event is named; set the parameter anchor"


def _count_rows(piece: Piece, *, at: Window, values_n: int) -> pa.Table:
    """Count ways (kind 0), all (kind 1), and those without the anchor (kind 2)."""
    rows, units = grid(piece, at, values_n)
    person = piece.person[units]
    all_of_person = np.bincount(person, minlength=int(piece.person.max(initial=-1)) + 1)
    missing = rows[:, 0] == values_n + 2
    known = row_keys(rows).dictionary_encode()
    way = known.indices.to_numpy().astype(np.int64)
    counts = tally({"kind": np.where(missing, 2, 0), "way": way}, person, all_of_person)
    everything = whole({"kind": 1, "way": 0}, all_of_person)
    parts = ((counts, known.dictionary), (everything, pa.array([b""])))
    return pa.concat_tables([table.set_column(1, "way", texts.take(table["way"])) for table, texts in parts])


def _way(row: list[int], at: Window, walked: Walks) -> str:
    text = names(walked)
    parts: list[str] = []
    for place, code in zip(at.places, row, strict=True):
        said = f"[{text[code]}]" if place == 0 else text[code]
        if not (parts and said == parts[-1] and said in (ENDED, NOT_BEGUN)):  # once is enough
            parts.append(said)
    return ARROW.join(parts)
