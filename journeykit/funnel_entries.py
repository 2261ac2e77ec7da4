"""Entries of funnels and the attempts that begin with them, for all units at once on whole sorted columns."""

from __future__ import annotations

import numpy as np

from journeykit.funnel_rows import Flags, Integers, Rows, Rules
from journeykit.funnel_table import Outcome


def entries(rows: Rows, at: Integers, rules: Rules) -> tuple[Integers, Flags]:
    """Return the rows that count as entries, and of each unit whether the time of all its entries is not over yet."""
    is_open = np.zeros(rows.units_n, dtype=bool)
    if rules.until is not None and rules.within >= 0:
        over = rows.time[at] <= rules.until - rules.within
        has = np.zeros(rows.units_n, dtype=bool)
        has[rows.unit[at[over]]] = True
        is_open = ~has
        at = at[over | is_open[rows.unit[at]]]
    if rules.clock == "first":
        at = at[rows.first_of(at)]
        at = np.sort(at) if rows.parts else at
    return at, is_open


def in_turn(rows: Rows, at: Integers, closed: Integers) -> Integers:
    """Return the positions in `at` of the entries that begin an attempt: the first one, and the first one after each.

    Args:
        rows: the rows.
        at: the entries, ascending rows.
        closed: the first row on which another attempt may begin after that of each entry.
    """
    if not len(at):
        return np.empty(0, dtype=np.int64)
    following = np.searchsorted(at, np.minimum(closed, rows.ended[at]))
    at_hand = np.minimum(following, len(at) - 1)
    following = np.where((following < len(at)) & (rows.began[at[at_hand]] == rows.began[at]), at_hand, -1)
    now = np.flatnonzero(np.append(True, rows.began[at[1:]] != rows.began[at[:-1]]))
    chosen = []
    while len(now):
        chosen.append(now)
        now = following[now]
        now = now[now >= 0]
    return np.sort(np.concatenate(chosen))


def numbered(rows: Rows, rules: Rules, start: Integers, depth: Integers, taken: Integers) -> Outcome:
    """Return attempts, numbered in each unit by when they start."""
    order = np.lexsort((rows.rank[start], rows.unit[start]))
    start, unit = start[order], rows.unit[start[order]]
    row = np.arange(len(unit))
    new = np.append(True, unit[1:] != unit[:-1])[: len(unit)]
    number = row - np.maximum.accumulate(np.where(new, row, 0)) + 1
    is_open = np.zeros(len(unit), dtype=bool)
    if rules.until is not None and rules.within >= 0:
        is_open = rows.time[start] > rules.until - rules.within
    return Outcome(unit, number, depth[order], is_open, start, taken[:, order])
