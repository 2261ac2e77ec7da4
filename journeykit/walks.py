"""The ways of persons, sessions or journeys: their values in order, as numbers, from one sort of the events.

What is asked of ways afterwards is computed on whole columns of these numbers, some people at a time, and only sums
leave: for each answer, how often it came, in how many people, and what an interval needs that takes people, not
events, as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import engine, stats
from journeykit.errors import JourneyError
from journeykit.sequences import Flags, Integers, in_units

PIECE = 500_000  # values that are worked on at once, but never less than one person
WIDTH = 4  # bytes of a value's number
SUMS = ("n", "people_n", "kk", "kn")


@dataclass(frozen=True)
class Walks:
    """The ways of all units. Functions on paths take it in place of touches, which saves them the sort."""

    table: nw.LazyFrame[Any]  # a row per unit: person_id, unit, length, events_n before collapsing, codes in bytes
    values: list[str]  # in alphabetical order; a code is a place in it
    on: str
    within: str
    collapse: bool


def walks(touches: Any, *, on: str = "event", within: str = "session", collapse: bool = False) -> Walks:
    """Put the events of each person, session or journey in order, once for everything that is asked of them.

    Events without a value of `on` are left out first. With `collapse`, a value that follows itself counts once, at its
    first time; how many events that took is kept (`events_n` − `length`).

    Args:
        touches: a table of any engine with `person_id`, the unit's column, `on`, and `position` or the columns of the
            total order. Or `Walks`, which are returned as they are.
        on: event, touchpoint or stage.
        within: person, session or journey.
        collapse: count a value that follows itself once.

    Raises:
        JourneyError: a column is missing, `within` is no unit, or given `Walks` were made otherwise.

    >>> from tests.conftest import make_log
    >>> found = walks(make_log("u1: ad ad buy | u2: buy"), collapse=True)
    >>> found.values, engine.fetch(found.table.select("length", "events_n")).values.tolist()
    (['ad', 'buy'], [[2, 3], [1, 1]])
    """
    if isinstance(touches, Walks):
        asked, given = (on, within, collapse), (touches.on, touches.within, touches.collapse)
        if asked != given:
            raise JourneyError(f"walks: made with (on, within, collapse) = {given}, but asked for {asked}.")
        return touches
    rows, values, order = coded(touches, on, within, "walks")
    work = partial(_pack, collapse=collapse)
    return Walks(engine.in_order(rows, by="person_id", order=["unit", *order], work=work), values, on, within, collapse)


def coded(
    touches: Any, on: str, within: str, where: str, extra: Sequence[str] = ()
) -> tuple[nw.LazyFrame[Any], list[str], list[str]]:
    """Return the events that have a value of `on` with its number as `code`, the values, and the order's columns."""
    rows, order = in_units(touches, on, within, where, extra)
    values = sorted(engine.fetch(rows.select("value").unique())["value"])
    numbers = {"value": pa.array(values, pa.string()), "code": pa.array(range(len(values)), pa.int32())}
    # Numbers sort faster than texts.
    return rows.join(engine.beside(pa.table(numbers), rows), on="value", how="inner").drop("value"), values, order


def runs(table: pa.Table) -> tuple[Flags, Flags]:
    """Return which rows of an ordered table are the first of their unit, and which the first of a run of one value."""
    person, unit, code = (table[name].to_numpy() for name in ("person_id", "unit", "code"))
    new, turns = np.ones(len(unit), dtype=bool), np.ones(len(unit), dtype=bool)
    new[1:] = (unit[1:] != unit[:-1]) | (person[1:] != person[:-1])
    turns[1:] = new[1:] | (code[1:] != code[:-1])
    return new, turns


def _pack(table: pa.Table, _: int, *, collapse: bool) -> pa.Table:
    new, turns = runs(table)
    first = np.flatnonzero(new)
    ends = np.append(first, len(new))
    kept = np.flatnonzero(turns) if collapse else np.arange(len(new))
    offsets = np.searchsorted(kept, ends).astype(np.int64)
    code = table["code"].to_numpy()[kept].astype(">u4")
    chosen = table.select(["person_id", "unit"]).take(pa.array(first, pa.int64()))
    return (
        chosen.append_column("length", pa.array(np.diff(offsets), pa.int64()))
        .append_column("events_n", pa.array(np.diff(ends), pa.int64()))
        .append_column("codes", packed(code.tobytes(), offsets * WIDTH))
    )


def packed(data: bytes, offsets: Integers) -> pa.Array:
    """Return bytes, cut at offsets, as a column."""
    cuts = pa.py_buffer(offsets.astype(np.int32).tobytes())
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, [None, cuts, pa.py_buffer(data)])


@dataclass(frozen=True)
class Piece:
    """The ways of some whole people, as columns."""

    table: pa.Table  # a row per unit: the columns of `Walks.table`, and those that were added to it

    @cached_property
    def code(self) -> Integers:
        """The numbers of all values, unit after unit."""
        column = pa.concat_arrays(self.table["codes"].cast(pa.binary()).chunks or [pa.array([], pa.binary())])
        if not len(column):
            return np.empty(0, dtype=np.int32)
        cuts = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
        return np.frombuffer(column.buffers()[2], dtype=np.uint8)[cuts[0] : cuts[-1]].view(">u4").astype(np.int32)

    @cached_property
    def length(self) -> Integers:
        return self.table["length"].to_numpy().astype(np.int64)

    @cached_property
    def start(self) -> Integers:
        """Where the values of each unit begin in `code`."""
        return np.cumsum(self.length) - self.length

    @cached_property
    def unit(self) -> Integers:
        """The number of the unit of each value: 0, 1, 2 … in the piece."""
        return np.repeat(np.arange(len(self.length)), self.length)

    @cached_property
    def person(self) -> Integers:
        """The number of the person of each unit: 0, 1, 2 … in the piece."""
        who = self.table["person_id"].to_numpy()
        return np.cumsum(np.append(False, who[1:] != who[:-1])[: len(who)]).astype(np.int64)


Work = Callable[[Piece], pa.Table]


def by_people(table: nw.LazyFrame[Any], work: Work) -> nw.LazyFrame[Any]:
    """Hand the ways of whole people to `work`, and return what it returns as a lazy table.

    Args:
        table: `Walks.table`, perhaps with more columns or fewer rows.
        work: called with a `Piece`; must be picklable and tell the columns of its result from an empty one.
    """
    return engine.in_order(table, by="person_id", order=["unit"], work=partial(_in_pieces, work=work))


def _in_pieces(table: pa.Table, _: int, *, work: Work) -> pa.Table:
    return pa.concat_tables([work(piece) for piece in _pieces(table)] or [work(Piece(table))])


def _pieces(table: pa.Table) -> Iterator[Piece]:
    if not len(table):
        return
    who, length = table["person_id"].to_numpy(), table["length"].to_numpy()
    people = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
    before = (np.cumsum(length) - length)[people] // PIECE
    cuts = people[np.append(True, before[1:] != before[:-1])]
    for start, end in zip(cuts, np.append(cuts[1:], len(table)), strict=True):
        yield Piece(table.slice(start, end - start))


def tally(keys: dict[str, Integers], person: Integers, all_of_person: Integers) -> pa.Table:
    """Count how often each combination of keys came, by whom, and add up what `stats.clustered` needs.

    Args:
        keys: columns with a row for each time that something came.
        person: whose it is, as a number 0, 1, 2 ….
        all_of_person: how many there are of each person, whatever their keys: what a share is of.

    Returns:
        One row per combination, in order: the keys, `n`, `people_n`, and over people `kk` = Σk² and `kn` = Σk·all.

    >>> tally({"key": np.array([7, 7, 8])}, np.array([0, 0, 1]), np.array([3, 1])).to_pylist()
    [{'key': 7, 'n': 2, 'people_n': 1, 'kk': 4, 'kn': 6}, {'key': 8, 'n': 1, 'people_n': 1, 'kk': 1, 'kn': 1}]
    """
    spans = {name: (int(column.min(initial=0)), int(column.max(initial=0))) for name, column in keys.items()}
    people = max(len(all_of_person), 1)
    size = math.prod(high - low + 1 for low, high in spans.values()) * people
    if size >= 2**62:  # too many for one number: ranks take their place
        ranked = {name: np.unique(column, return_inverse=True) for name, column in keys.items()}
        found = tally({name: place for name, (_, place) in ranked.items()}, person, all_of_person)
        texts = {name: pa.array(known[found[name].to_numpy()]) for name, (known, _) in ranked.items()}
        return pa.table(texts | {name: found[name] for name in SUMS})
    joined = np.zeros(len(person), dtype=np.int64)
    for name, (low, high) in spans.items():
        joined = joined * (high - low + 1) + (keys[name] - low)
    # One sort of one number each, the shorter the faster, where a grouping by columns takes ten times as long.
    each = np.sort((joined * people + person).astype(np.int32 if size < 2**31 else np.int64))
    first = np.flatnonzero(_turns(each))
    k = np.diff(np.append(first, len(each)))
    key, who = np.divmod(each[first].astype(np.int64), people)
    start = np.flatnonzero(_turns(key))
    columns, rest = {}, key[start]
    for name, (low, high) in reversed(spans.items()):
        rest, digit = np.divmod(rest, high - low + 1)
        columns[name] = digit + low
    sums = {"n": _summed(k, start), "people_n": np.diff(np.append(start, len(key)))}
    sums |= {"kk": _summed(k * k, start), "kn": _summed(k * all_of_person[who], start)}
    return pa.table({name: columns[name] for name in keys} | sums)


def _turns(column: Integers) -> Flags:
    """Return where a sorted column has another value than before."""
    return np.append(True, column[1:] != column[:-1])[: len(column)]


def _summed(column: Integers, start: Integers) -> Integers:
    return np.add.reduceat(column, start) if len(start) else np.empty(0, dtype=np.int64)


def whole(keys: dict[str, int], all_of_person: Integers) -> pa.Table:
    """Return the row of all that `tally` counts a part of, under keys of its own: Σall, people, Σall²."""
    there = all_of_person[all_of_person > 0]
    sums = {"n": there.sum(), "people_n": len(there), "kk": (there * there).sum(), "kn": 0}
    return pa.table({name: np.array([value], dtype=np.int64) for name, value in (keys | sums).items()})


def added(parts: nw.LazyFrame[Any], keys: Sequence[str]) -> nw.LazyFrame[Any]:
    """Add up the rows of all pieces that have the same keys."""
    names = [name for name in parts.collect_schema().names() if name not in keys]
    return parts.group_by(*keys).agg(*[nw.col(name).sum() for name in names])


def shares(name: str, table: pd.DataFrame, of: pd.DataFrame | pd.Series[Any]) -> dict[str, Any]:
    """Return the share that the rows of `tally` are of their whole, with its interval over people (95 %).

    Args:
        name: of the column.
        table: `n`, `kk`, `kn`.
        of: the row of `whole`, or one for each row of the table: `n`, `people_n`, `kk`.
    """
    parts = table[["n", "kk", "kn"]].to_numpy(dtype=object)
    wholes = of[["n", "people_n", "kk"]].to_numpy(dtype=object)
    wholes = np.broadcast_to(wholes, (len(parts), 3))
    bounds = [
        stats.clustered(int(k), int(n), int(kk), int(kn), int(nn), int(people))
        for (k, kk, kn), (n, people, nn) in zip(parts, wholes, strict=True)
    ]
    share = [k / n if n else np.nan for (k, _, _), (n, _, _) in zip(parts, wholes, strict=True)]
    return {name: share, f"{name}_low": [low for low, _ in bounds], f"{name}_high": [high for _, high in bounds]}
