"""Funnels whose steps may come in any order, for all units at once on whole sorted columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from journeykit.funnel_entries import entries, in_turn, numbered
from journeykit.funnel_rows import NEVER, Integers, Rows, Rules
from journeykit.funnel_table import Outcome


def outcome(rows: Rows, rules: Rules) -> Outcome:
    """The attempt of each unit (or all attempts) with the most different steps, whatever their order."""
    steps = range(len(rules.links))
    every = rows.marked(*steps)
    if rules.attempts:
        start, is_open = every, np.zeros(rows.units_n, dtype=bool)
    else:
        start, is_open = entries(rows, every, rules)
    over = _over(rows, rules, start)
    bars = np.append(rows.marked(*rules.links[-1].bars), NEVER)
    bar = bars[np.searchsorted(bars, start, side="right")]
    limit = over if rules.excluded == "unit" else np.minimum(over - 1, bar) + 1  # a step may lie on it
    when = _different(rows, rules, start, limit)
    depth = (when < NEVER).sum(axis=0)
    end = when[depth - 1, np.arange(len(start))] if len(start) else start
    if rules.attempts:
        chosen = in_turn(rows, start, np.where(depth == len(when), end + 1, np.minimum(limit, bar)))
        taken = np.where(when < NEVER, when, -1)[:, chosen]
        return numbered(rows, rules, start[chosen], depth[chosen], taken)
    deepest = np.zeros(rows.units_n, dtype=np.int64)
    np.maximum.at(deepest, rows.unit[start], depth)
    best = np.flatnonzero(depth == deepest[rows.unit[start]])
    if rules.clock == "last":  # the latest of those that get there first
        order = np.lexsort((-rows.rank[start[best]], rows.rank[end[best]], rows.unit[start[best]]))
        best = best[order]
        unit = rows.unit[start[best]]
        best = best[np.append(True, unit[1:] != unit[:-1])[: len(best)]]
    else:
        best = best[rows.first_of(start[best])]
    first = np.zeros(rows.units_n, dtype=np.int64)
    firsts = start[rows.first_of(start)]
    first[rows.unit[firsts]] = firsts
    if rules.excluded == "unit":
        done = np.where(depth == len(when), end, NEVER)
        out = np.zeros(rows.units_n, dtype=bool)
        out[rows.unit[start[bar < np.minimum(over, done)]]] = True
        best = best[~out[rows.unit[start[best]]]]
    unit = rows.unit[start[best]]
    taken = np.where(when < NEVER, when, -1)[:, best]
    ones = np.ones(len(unit), dtype=np.int64)
    return Outcome(unit, ones, depth[best], is_open[unit], first[unit], taken)


def _over(rows: Rows, rules: Rules, start: Integers) -> Integers:
    """Return the first row that is too late for a step of what begins on each row."""
    if not len(start):
        return start
    return rows.later(start, rows.time[start] + rules.within) if rules.within >= 0 else rows.ended[start]


def _different(rows: Rows, rules: Rules, start: Integers, limit: Integers) -> Integers:
    """Return a line for each number of steps: the row on which so many different ones are taken, or NEVER."""
    when = np.full((len(rules.links), len(start)), NEVER)
    steps = [rows.marked(k) for k in range(len(rules.links))]
    for k, at in enumerate(steps):
        found = np.append(at, NEVER)[np.searchsorted(at, start)]
        when[k] = np.where(found < limit, found, NEVER)
    when.sort(axis=0)
    several = np.zeros(len(rows.time), dtype=np.int64)
    for at in steps:
        several[at] += 1
    units = np.zeros(rows.units_n, dtype=bool)
    units[rows.unit[several > 1]] = True
    for n in np.flatnonzero(units[rows.unit[start]]) if units.any() else ():
        when[:, n] = NEVER
        for depth, row in enumerate(_matched(steps, int(start[n]), int(limit[n]))):
            when[depth, n] = row
    return when


def _matched(steps: list[Integers], start: int, limit: int) -> Iterator[int]:
    """Yield the rows that add a step, where a row may be one of several steps but is only one (augmenting paths)."""
    inside = [at[np.searchsorted(at, start) : np.searchsorted(at, limit)] for at in steps]
    of: dict[int, list[int]] = {}
    for k, at in enumerate(inside):
        for row in at[: len(steps)].tolist():  # of more rows than there are steps, the first ones do
            of.setdefault(row, []).append(k)
    holder: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for k in of[row]:
            if k not in seen:
                seen.add(k)
                if k not in holder or place(holder[k], seen):
                    holder[k] = row
                    return True
        return False

    for row in sorted(of):
        if len(holder) < len(steps) and place(row, set()):
            yield row
