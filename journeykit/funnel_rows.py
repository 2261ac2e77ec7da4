"""Sorted events of a funnel as arrays: whose they are, which steps, and what may not lie between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BITS = 62  # marks in one column of flags
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Link:
    """What a step asks of the way from the step before it."""

    optional: bool = False
    within: int = -1  # microseconds since the step before it; -1: any time
    directly: bool = False
    bars: tuple[int, ...] = ()  # marks of events that must not lie between


@dataclass(frozen=True)
class Rules:
    """A funnel as its kernel sees it (see `config.Funnel`); it is sent to other processes on Spark."""

    links: tuple[Link, ...]  # one a step; the first says nothing
    order: str = "sequential"
    entry: str = "closed"
    clock: str = "any"
    within: int = -1  # microseconds from the first step to the last; -1: any time
    excluded: str = "attempt"
    attempts: bool = False
    until: int | None = None
    exits: bool = False  # the last step is the end of the unit
    same: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    value: bool = False

    def nexts(self, k: int) -> range:
        """The steps that may follow step k: the next one, and those behind optional ones."""
        last = k + 1
        while last < len(self.links) and self.links[last].optional:
            last += 1
        return range(k + 1, min(last, len(self.links) - 1) + 1)

    def befores(self, k: int) -> range:
        """The steps that step k may follow, the nearest first."""
        first = k - 1
        while first > 0 and self.links[first].optional:
            first -= 1
        return range(k - 1, first - 1, -1)

    @property
    def chain(self) -> Rules:
        """The rules as chains see them: where units are left out altogether, nothing ends an attempt."""
        if self.excluded == "attempt":
            return self
        free = tuple(Link(link.optional, link.within, link.directly) for link in self.links)
        return Rules(**{**self.__dict__, "links": free})


@dataclass(frozen=True)
class Rows:
    """The rows of whole units in order; with `Rules.same`, of each value of it in turn, as if it were a unit."""

    table: pa.Table
    origin: Integers  # the row of `table`; -1 for the end of a unit, which is no event
    rank: Integers  # ascending in the order of the unit
    time: Integers
    unit: Integers  # 0, 1, 2 …
    began: Integers  # the first row of the unit (and value)
    parts: bool  # whether units are cut by values, so that a later row may have a lower rank
    exits: Integers
    flags: tuple[npt.NDArray[np.integer], ...]

    def marked(self, *marks: int) -> Integers:
        """Return the rows with any of these marks."""
        found: Flags | None = None
        for n, column in enumerate(self.flags):
            bits = sum(1 << (mark % BITS) for mark in set(marks) if mark // BITS == n)
            if bits:
                here = (column & column.dtype.type(bits)) != 0
                found = here if found is None else found | here
        return np.flatnonzero(found) if found is not None else np.empty(0, np.int64)

    @cached_property
    def ended(self) -> Integers:
        """The row after the last one of each row's unit (and value)."""
        if not len(self.began):
            return self.began
        last = np.flatnonzero(np.append(self.began[1:] != self.began[:-1], True))
        return np.repeat(last + 1, np.diff(np.append(-1, last)))

    @cached_property
    def units_n(self) -> int:
        return int(self.unit.max(initial=-1)) + 1

    def first_of(self, at: Integers) -> Integers:
        """Return the positions in `at` (ascending rows) of the earliest row of each unit, ascending in units."""
        unit = self.unit[at]
        if not self.parts:
            return np.flatnonzero(np.append(True, unit[1:] != unit[:-1])[: len(at)])
        order = np.lexsort((self.rank[at], unit))
        return order[np.append(True, unit[order][1:] != unit[order][:-1])[: len(at)]]

    def later(self, at: Integers, time: Integers) -> Integers:
        """Return the first row after each row, in its unit (and value), that is later than a time; the end if none."""
        low, high = at + 1, self.ended[at] if len(at) else at
        while (low < high).any():
            middle = (low + high) // 2
            behind = (low < high) & (self.time[np.minimum(middle, len(self.time) - 1)] <= time)
            high = np.where((low < high) & ~behind, middle, high)
            low = np.where(behind, middle + 1, low)
        return low


def rows_of(table: pa.Table, rules: Rules) -> Rows:
    """Read sorted rows: `unit`, `time_us`, `flags_1` …, and the columns of `same`."""
    n = len(table)
    new = np.ones(n, dtype=bool)
    ids = table["unit"].combine_chunks() if table["unit"].num_chunks else pa.array([], table["unit"].type)
    new[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False) if n > 1 else new[1:]
    unit = np.cumsum(new) - 1
    time = table["time_us"].to_numpy().astype(np.int64, copy=False)
    names = [name for name in table.column_names if name.startswith("flags_")]
    flags = [table[name].to_numpy() for name in names]
    origin = np.arange(n, dtype=np.int64)
    if rules.same:
        value = _values(table, rules.same)
        order = np.lexsort((value, unit))
        origin = order[value[order] >= 0]
        unit, time, flags, value = unit[origin], time[origin], [column[origin] for column in flags], value[origin]
        new = np.ones(len(origin), dtype=bool)
        new[1:] = (unit[1:] != unit[:-1]) | (value[1:] != value[:-1])
    rank, exits = 2 * origin, np.empty(0, np.int64)
    if rules.exits and len(origin):
        last = np.append(np.flatnonzero(new)[1:], len(origin)) - 1
        exits = last + 1 + np.arange(len(last))
        rank, new = np.insert(rank, last + 1, rank[last] + 1), np.insert(new, last + 1, False)
        unit, time = np.insert(unit, last + 1, unit[last]), np.insert(time, last + 1, time[last])
        origin, flags = np.insert(origin, last + 1, -1), [np.insert(column, last + 1, 0) for column in flags]
    row = np.arange(len(origin), dtype=np.int64)
    began = np.maximum.accumulate(np.where(new, row, 0))
    return Rows(table, origin, rank, time, unit, began, bool(rules.same), exits, tuple(flags))


def _values(table: pa.Table, names: tuple[str, ...]) -> Integers:
    """Return a number for each different value of some columns together; -1 where one is null."""
    together = np.zeros(len(table), dtype=np.int64)
    null = np.zeros(len(table), dtype=bool)
    for name in names:
        column = table[name].cast(pa.string())
        column = column.combine_chunks() if column.num_chunks else pa.array([], pa.string())
        codes = pc.fill_null(column.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        null |= codes < 0
        together = np.unique(together * (codes.max(initial=0) + 2) + codes, return_inverse=True)[1].astype(np.int64)
    return np.where(null, -1, together)
