"""What ways have at each place, counted from their start or from an event in them, as a grid of numbers.

Position tables, the links of a flow and the most frequent ways are all counted on this grid, so that they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import engine
from journeykit.errors import JourneyError, nearest
from journeykit.funnels import OTHER
from journeykit.sequences import Integers
from journeykit.walks import WIDTH, Piece, Walks, added, by_people, packed, shares, tally, whole

ENDED = "(ended)"
NOT_BEGUN = "(not begun)"  # places before the first event
WITHOUT = "(without it)"  # units in which the event is not
SPECIAL = (ENDED, NOT_BEGUN, WITHOUT, OTHER)  # their numbers follow those of the values, in this order
OCCURRENCES = ("first", "last", "any")
ALL = -1  # the key of the row of all


@dataclass(frozen=True)
class Window:
    """Places 1 … `after` from the start; or, with an anchor, −`before` … `after` around it, 0 being the anchor."""

    after: int
    before: int = 0
    anchor: tuple[int, ...] | None = None  # the numbers of its values
    occurrence: str = "first"

    @property
    def places(self) -> list[int]:
        return list(range(1, self.after + 1) if self.anchor is None else range(-self.before, self.after + 1))


def window(
    ways: Walks, anchor: str, *, before: int, after: int, occurrence: str = "first", where: str = "paths"
) -> Window:
    """Return the places around an event of the ways, where `anchor` may hold alternatives ("a | b").

    Raises:
        JourneyError: no place is asked for, or `occurrence` is not known.
    """
    if occurrence not in OCCURRENCES:
        hint = nearest(occurrence, OCCURRENCES)
        raise JourneyError(f"{where}: occurrence {occurrence!r}.{hint} Allowed: {', '.join(OCCURRENCES)}.")
    if before < 0 or after < 0 or not before + after:
        raise JourneyError(f"{where}: before = {before}, after = {after}. Ask for one place at least.")
    wanted = {part.strip() for part in anchor.split("|") if part.strip()}
    return Window(after, before, tuple(k for k, value in enumerate(ways.values) if value in wanted), occurrence)


def names(ways: Walks) -> list[str]:
    """Return the text of each number: values, then what stands for none; a value that is called like that is quoted."""
    return [f"“{value}”" if value in SPECIAL else value for value in ways.values] + list(SPECIAL)


def grid(piece: Piece, at: Window, values_n: int) -> tuple[Integers, Integers]:
    """Return a row of numbers for each unit (for each occurrence of an anchor), and the unit of each row.

    >>> table = pa.table({"person_id": [1], "unit": [1], "length": [2], "codes": [b"\\0\\0\\0\\1\\0\\0\\0\\0"]})
    >>> grid(Piece(table), Window(after=3), 2)[0].tolist()  # values 1 and 0, then (ended)
    [[1, 0, 2]]
    """
    code, start, end = piece.code, piece.start, piece.start + piece.length
    units = np.arange(len(start))
    base = start - 1  # places from the start are counted from 1
    if at.anchor is not None:
        found = np.flatnonzero(np.isin(code, at.anchor))
        if at.occurrence == "any":
            base, units = found, piece.unit[found]
        else:
            base = np.full(len(start), -1, dtype=np.int64)  # of units without the anchor
            order = found[::-1] if at.occurrence == "first" else found
            base[piece.unit[order]] = order  # the last assignment stays
    places = base[:, None] + np.array(at.places, dtype=np.int64)
    inside = np.append(code, 0)[np.clip(places, 0, len(code))]
    rows = np.where(places >= end[units][:, None], values_n, inside)
    if at.anchor is not None:
        rows = np.where(places < start[units][:, None], values_n + 1, rows)
        rows[base < 0] = values_n + 2
    return rows.astype(np.int64), units


def cells(ways: Walks, at: Window, label: Integers | None = None) -> pd.DataFrame:
    """Count what is at each place: `place` (number in the window), `code`, `n` and sums; the whole has place −1.

    With `label` (what stands for each number at each place), only the cells that became "(other)" are counted.
    """
    return _sums(ways, partial(_cells, at=at, values_n=len(ways.values), label=label), ["place", "code"])


def links(ways: Walks, at: Window, label: Integers | None = None) -> pd.DataFrame:
    """Count what follows at the next place: `place`, `code`, `next`, `n` and sums; the whole has place −1."""
    return _sums(ways, partial(_links, at=at, values_n=len(ways.values), label=label), ["place", "code", "next"])


def _sums(ways: Walks, work: Any, keys: list[str]) -> pd.DataFrame:
    found = engine.fetch(added(by_people(ways.table, work), keys)).astype("int64")
    return found.sort_values(keys, ignore_index=True)


def _labelled(piece: Piece, at: Window, values_n: int, label: Integers | None) -> tuple[Integers, Integers, Integers]:
    """Return the grid with what stands for a number at each place, the person of each row, and rows per person."""
    rows, units = grid(piece, at, values_n)
    if label is not None:
        rows = label[np.arange(rows.shape[1]), rows]
    person = piece.person[units]
    return rows, person, np.bincount(person, minlength=int(piece.person.max(initial=-1)) + 1)


def _cells(piece: Piece, *, at: Window, values_n: int, label: Integers | None) -> pa.Table:
    place, code, person, units, ended = (_from_start if at.anchor is None else _on_grid)(piece, at, values_n)
    if label is not None:
        code = label[place, code]
        other = code == values_n + SPECIAL.index(OTHER)
        place, code, person, ended = place[other], code[other], person[other], None
    parts = [tally({"place": place, "code": code}, person, units), whole({"place": ALL, "code": ALL}, units)]
    return pa.concat_tables(parts if ended is None else [*parts, ended])


def _on_grid(piece: Piece, at: Window, values_n: int) -> tuple[Integers, Integers, Integers, Integers, None]:
    rows, person, all_of_person = _labelled(piece, at, values_n, None)
    places = np.tile(np.arange(rows.shape[1]), len(rows))
    return places, rows.ravel(), np.repeat(person, rows.shape[1]), all_of_person, None


def _from_start(piece: Piece, at: Window, values_n: int) -> tuple[Integers, Integers, Integers, Integers, pa.Table]:
    """As `_on_grid`, without the places after the end, which are most: they are counted already."""
    person, people_n, places_n = piece.person, int(piece.person.max(initial=-1)) + 1, at.after
    units = np.bincount(person, minlength=people_n)
    # How many units of each person have ended before each place.
    ends = person * (places_n + 1) + np.minimum(piece.length, places_n)
    counts = np.bincount(ends, minlength=people_n * (places_n + 1)).reshape(people_n, places_n + 1)
    k = counts.cumsum(axis=1)[:, :places_n]
    ended = {"place": np.arange(places_n), "code": np.full(places_n, values_n), "n": k.sum(axis=0)}
    ended |= {"people_n": (k > 0).sum(axis=0), "kk": (k * k).sum(axis=0), "kn": (k * units[:, None]).sum(axis=0)}
    place = np.arange(len(piece.code)) - np.repeat(piece.start, piece.length)
    there = np.flatnonzero(place < places_n)
    who = np.repeat(person, piece.length)[there]
    return place[there], piece.code[there].astype(np.int64), who, units, pa.table(ended)


def _links(piece: Piece, *, at: Window, values_n: int, label: Integers | None) -> pa.Table:
    rows, person, all_of_person = _labelled(piece, at, values_n, label)
    steps = rows.shape[1] - 1
    keys = {"place": np.tile(np.arange(steps), len(rows)), "code": rows[:, :-1].ravel(), "next": rows[:, 1:].ravel()}
    found = tally(keys, np.repeat(person, steps), all_of_person)
    return pa.concat_tables([found, whole(dict.fromkeys(keys, ALL), all_of_person)])


def row_keys(rows: Integers) -> pa.Array:
    """Return each row of a grid as bytes, which sort as the rows do."""
    width = WIDTH * rows.shape[1]
    return packed(rows.astype(">u4").tobytes(), np.arange(len(rows) + 1) * width)


def row_of(key: bytes) -> list[int]:
    """Return the numbers of a row that `row_keys` made bytes of."""
    return np.frombuffer(key, dtype=">u4").astype(int).tolist()


def labels(found: pd.DataFrame, at: Window, values_n: int, *, top: int, min_n: int, by_place: bool) -> Integers:
    """Return for each place and number what stands for it: itself, or "(other)".

    The `top` values stay, of each place or of all places together; at each place, those of `min_n` people.

    Args:
        found: the table of `cells`.
        at: the window.
        values_n: number of values.
        top: how many values stay.
        min_n: people that a value must have at a place.
        by_place: choose the top values for each place by itself.
    """
    other = values_n + SPECIAL.index(OTHER)
    label = np.full((len(at.places), values_n + len(SPECIAL)), other, dtype=np.int64)
    label[:, values_n:] = np.arange(values_n, values_n + len(SPECIAL))
    for place, code in kept(found, values_n, top=top, min_n=min_n, by_place=by_place):
        label[place, code] = code
    return label


def kept(found: pd.DataFrame, values_n: int, *, top: int, min_n: int, by_place: bool) -> list[tuple[int, int]]:
    """Return the places and numbers that stay when the others become "(other)", most frequent first."""
    known = found[(found["place"] >= 0) & (found["code"] < values_n)]
    totals = known.groupby(["place", "code"] if by_place else "code")["n"].sum()
    ranked = totals.sort_index().sort_values(ascending=False, kind="stable")
    ranked = ranked.groupby(level=0).head(top) if by_place else ranked.head(top)
    order = {key: rank for rank, key in enumerate(ranked.index)}
    enough = known[known["people_n"] >= min_n]
    pairs = zip(enough["place"].tolist(), enough["code"].tolist(), strict=True)
    stay = [pair for pair in pairs if (pair if by_place else pair[1]) in order]
    return sorted(stay, key=lambda pair: (order[pair if by_place else pair[1]], pair))


def positions(
    ways: Walks, at: Window, *, top: int, min_n: int, always: Sequence[str] = (ENDED,)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the `top` values at each place, the rest as "(other)"; every place sums to all.

    Returns the table (position, value, n, people_n, share, share_low, share_high; a row for each place and value, the
    most frequent first, then "(other)", then `always`), and the row of all. Empty when there is no unit.
    """
    found = cells(ways, at)
    if not found.loc[found["place"] == ALL, "n"].sum():
        return pd.DataFrame(), pd.DataFrame()
    values_n = len(ways.values)
    label = labels(found, at, values_n, top=top, min_n=min_n, by_place=False)
    order = list(dict.fromkeys(code for _, code in kept(found, values_n, top=top, min_n=1, by_place=False)))
    shown = found[found["place"] >= 0]
    alone = label[shown["place"], shown["code"]] == shown["code"]
    if not alone.all():
        others = cells(ways, at, label)
        found = pd.concat([found[found["place"] == ALL], shown[alone], others[others["place"] >= 0]])
    text = names(ways)
    codes = [*order, *[text.index(name, values_n) for name in (OTHER, *always)]]
    every = pd.MultiIndex.from_product([range(len(at.places)), codes], names=["place", "code"])
    table = found[found["place"] >= 0].set_index(["place", "code"]).reindex(every, fill_value=0).reset_index()
    everything = found[found["place"] == ALL]
    table = table.assign(
        position=np.array(at.places)[table["place"]],
        value=np.array(text, dtype=object)[table["code"]],
        **shares("share", table, everything),
    )
    columns = ["position", "value", "n", "people_n", "share", "share_low", "share_high"]
    return table[columns], everything
