"""Chains of funnel steps, for all units at once on whole sorted columns: the work given to `engine.in_order`.

A chain takes steps in order, each on a later row than the one before. Of the chains that reach a step on a row, only
the one that started latest matters: it has the most of its time left, and nothing else of the past is asked for.
Running forward with that rule finds how deep each unit comes; running backward from there with its mirror image (the
earliest end) finds which entries lead there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from journeykit import funnel_any, funnel_entries
from journeykit.config_funnels import EXIT
from journeykit.funnel_rows import NEVER, Flags, Integers, Link, Rows, Rules, rows_of
from journeykit.funnel_table import Outcome, table_of

__all__ = ["EXIT", "Link", "Rules", "attempts", "outcome"]


def attempts(table: pa.Table, first: int = 1, *, rules: Rules) -> pa.Table:
    """Find the counted attempt of each unit in sorted rows; see `funnels.reach` for what it returns.

    Args:
        table: whole units, sorted: `unit`, `person_id`, `time_us`, and marks of the steps and of what ends attempts as
            bits of `flags_1` …; the columns of `rules.same` and `rules.by`, and `value` where it is asked for.
        first: not used.
        rules: the funnel.
    """
    rows = rows_of(table, rules)
    return table_of(rows, rules, outcome(rows, rules))


def outcome(rows: Rows, rules: Rules) -> Outcome:
    """Return the counted attempts in sorted rows."""
    if rules.order == "any":
        return funnel_any.outcome(rows, rules)
    if rules.entry == "open":
        return _open(rows, rules)
    return _one_after_another(rows, rules) if rules.attempts else _deepest(rows, rules)


@dataclass(frozen=True)
class _Found:
    """The rows on which a step can be taken, ascending, each with the best way to it (forward) or on (backward)."""

    at: Integers
    low: Integers  # the earliest row on which the step before it may be
    best: Integers  # forward: the latest start; backward: the earliest end
    step: Integers  # forward: the step before it on that way, and its position in the rows of that step
    back: Integers


def _deepest(rows: Rows, rules: Rules) -> Outcome:
    """The attempt of each unit that comes deepest."""
    entries, is_open = funnel_entries.entries(rows, rows_marked(rows, rules, 0), rules)
    chain = _forward(rows, rules.chain, entries)
    depth = np.zeros(rows.units_n, dtype=np.int64)
    for k, found in enumerate(chain):
        depth[rows.unit[found.at]] = k + 1
    if rules.excluded == "unit":
        depth[_barred(rows, rules, chain)] = 0
    first = np.zeros(rows.units_n, dtype=np.int64)
    starts = entries[rows.first_of(entries)]
    first[rows.unit[starts]] = starts
    unit = np.flatnonzero(depth)
    taken = np.full((len(rules.links), rows.units_n), -1, dtype=np.int64)
    if rules.clock == "last":
        _walk_back(rows, chain, depth, taken)
    else:
        goals = [depth[rows.unit[found.at]] == k + 1 for k, found in enumerate(chain)]
        leading = _backward(rows, rules.chain, chain, goals)
        start, end = _in_time(rows, rules, leading[0])
        earliest = rows.first_of(start)
        start, end = start[earliest], end[earliest]
        taken[:, rows.unit[start]] = _walk(rows, rules.chain, leading, start, end)
    return Outcome(unit, np.ones(len(unit), dtype=np.int64), depth[unit], is_open[unit], first[unit], taken[:, unit])


def _one_after_another(rows: Rows, rules: Rules) -> Outcome:
    """All attempts: a new one begins when the last has converted, has run out of time or was excluded."""
    entries = rows_marked(rows, rules, 0)
    chain = _forward(rows, rules, entries)
    last = len(chain) - 1
    depth, end = np.zeros(len(entries), dtype=np.int64), np.full(len(entries), NEVER)
    ways: list[list[_Found]] = []
    for goal in range(last, -1, -1):
        goals = [np.full(len(found.at), k == goal) for k, found in enumerate(chain)]
        ways.append(_backward(rows, rules, chain, goals))
        start, ends = _in_time(rows, rules, ways[-1][0])
        where = np.searchsorted(entries, start)
        new = depth[where] == 0
        depth[where[new]], end[where[new]] = goal + 1, ends[new]
    closed = np.where(depth == last + 1, end + 1, _closing(rows, rules, chain))
    chosen = funnel_entries.in_turn(rows, entries, closed)
    taken = np.full((len(chain), len(chosen)), -1, dtype=np.int64)
    for goal, leading in zip(range(last, -1, -1), ways, strict=True):
        mine = np.flatnonzero(depth[chosen] == goal + 1)
        taken[:, mine] = _walk(rows, rules, leading, entries[chosen[mine]], end[chosen[mine]])
    return funnel_entries.numbered(rows, rules, entries[chosen], depth[chosen], taken)


def _open(rows: Rows, rules: Rules) -> Outcome:
    """The first time of each step that a unit has taken at all, and whether it came from the step before it."""
    steps = [rows_marked(rows, rules, k) for k in range(len(rules.links))]
    taken = np.full((len(steps), rows.units_n), -1, dtype=np.int64)
    came = np.zeros((len(steps), rows.units_n), dtype=bool)
    out = np.zeros(rows.units_n, dtype=bool)
    for k, at in enumerate(steps):
        firsts = at[rows.first_of(at)]
        taken[k, rows.unit[firsts]] = firsts
        if k == len(steps) - 1 or rules.links[k].optional:
            continue
        part = _forward(rows, rules.chain, at, k, rules.nexts(k)[-1])
        for q in rules.nexts(k):
            came[q, rows.unit[part[q].at]] = True
        if rules.excluded == "unit":
            out[_barred(rows, rules, part, k)] = True
    every = np.unique(np.concatenate(steps))
    firsts = every[rows.first_of(every)]
    _, is_open = funnel_entries.entries(rows, firsts, rules)
    first = np.zeros(rows.units_n, dtype=np.int64)
    first[rows.unit[firsts]] = firsts
    depth = ((taken >= 0) * np.arange(1, len(steps) + 1)[:, None]).max(axis=0)
    unit = np.flatnonzero((depth > 0) & ~out)
    ones = np.ones(len(unit), dtype=np.int64)
    return Outcome(unit, ones, depth[unit], is_open[unit], first[unit], taken[:, unit], came[:, unit])


def rows_marked(rows: Rows, rules: Rules, k: int) -> Integers:
    """Return the rows that are step k."""
    return rows.exits if rules.exits and k == len(rules.links) - 1 else rows.marked(k)


def _forward(rows: Rows, rules: Rules, entries: Integers, begin: int = 0, end: int | None = None) -> list[_Found]:
    """Find on which rows each step can be taken, and the latest start that leads there."""
    none = np.empty(0, dtype=np.int64)
    chain = [_Found(none, none, none, none, none)] * begin
    zero = np.zeros(len(entries), dtype=np.int64)
    chain.append(_Found(entries, entries, entries, zero, zero))
    for k in range(begin + 1, (len(rules.links) if end is None else end + 1)):
        at = rows_marked(rows, rules, k)
        low = _low(rows, rules, k, at)
        best, step, back = (np.full(len(at), -1, dtype=np.int64) for _ in range(3))
        for p in rules.befores(k):
            if p < begin or not len(chain[p].at):
                continue
            before = chain[p]
            where = np.searchsorted(before.at, at) - 1
            at_hand = np.maximum(where, 0)
            start = before.best[at_hand]
            fits = (where >= 0) & (before.at[at_hand] >= low) & (start > best)  # of equal ones the nearest step stays
            if rules.links[k].within >= 0:
                fits &= rows.time[at] - rows.time[before.at[at_hand]] <= rules.links[k].within
            if rules.within >= 0:
                fits &= rows.time[at] - rows.time[start] <= rules.within
            best[fits], step[fits], back[fits] = start[fits], p, where[fits]
        kept = best >= 0
        chain.append(_Found(at[kept], low[kept], best[kept], step[kept], back[kept]))
    return chain


def _low(rows: Rows, rules: Rules, k: int, at: Integers) -> Integers:
    """Return the earliest row on which the step before step k may be."""
    link = rules.links[k]
    low = rows.began[at]
    if link.bars:
        bars = np.append(-1, rows.marked(*link.bars))
        low = np.maximum(low, bars[np.searchsorted(bars, at) - 1])
    return np.maximum(low, at - 1) if link.directly else low


def _backward(rows: Rows, rules: Rules, chain: list[_Found], goals: list[Flags]) -> list[_Found]:
    """Find on which rows a step leads to a goal, and the earliest goal that it leads to."""
    leading: list[_Found] = []
    for k in range(len(chain) - 1, -1, -1):
        found = chain[k]
        end = np.where(goals[k], found.at, NEVER)
        for q in (q for q in rules.nexts(k) if q < len(chain)):
            after = leading[len(chain) - 1 - q]
            if len(after.at):
                where, fits = _next(rows, rules, q, after, found.at)
                end = np.minimum(end, np.where(fits, after.best[where], NEVER))
        kept = end < NEVER
        leading.append(_Found(found.at[kept], found.low[kept], end[kept], found.step[kept], found.back[kept]))
    return leading[::-1]


def _next(rows: Rows, rules: Rules, q: int, after: _Found, at: Integers) -> tuple[Integers, Flags]:
    """Return the position of the first taking of step q after each row, and whether that is a step on."""
    where = np.searchsorted(after.at, at, side="right")
    fits = where < len(after.at)
    where = np.minimum(where, max(len(after.at) - 1, 0))
    if not len(after.at):
        return where, fits
    fits &= after.low[where] <= at
    if rules.links[q].within >= 0:
        fits &= rows.time[after.at[where]] - rows.time[at] <= rules.links[q].within
    return where, fits


def _in_time(rows: Rows, rules: Rules, leading: _Found) -> tuple[Integers, Integers]:
    """Return the entries that reach their goal in time, and the goals."""
    if rules.within < 0:
        return leading.at, leading.best
    fits = rows.time[leading.best] - rows.time[leading.at] <= rules.within
    return leading.at[fits], leading.best[fits]


def _walk(rows: Rows, rules: Rules, leading: list[_Found], start: Integers, goal: Integers) -> Integers:
    """Return the row of each step on the way from each start to its goal, -1 for steps that are left out.

    Of the ways to one goal, the one that leaves out the fewest of the first optional steps, and takes each step as
    early as it can.
    """
    taken = np.full((len(leading), len(start)), -1, dtype=np.int64)
    now, step = start.copy(), np.zeros(len(start), dtype=np.int64)
    taken[0] = start
    for k in range(len(leading) - 1):
        left = np.flatnonzero((step == k) & (now != goal))
        for q in rules.nexts(k):
            after = leading[q]
            if not len(left) or not len(after.at):
                continue
            where, fits = _next(rows, rules, q, after, now[left])
            fits &= after.best[where] == goal[left]
            mine = left[fits]
            now[mine], step[mine] = after.at[where[fits]], q
            taken[q, mine] = now[mine]
            left = left[~fits]
    return taken


def _walk_back(rows: Rows, chain: list[_Found], depth: Integers, taken: Integers) -> None:
    """Fill in the rows of the steps from the latest start to each unit's first arrival at its deepest step."""
    step = np.full(len(depth), -1, dtype=np.int64)
    where = np.full(len(depth), -1, dtype=np.int64)
    for k in range(len(chain) - 1, -1, -1):
        found = chain[k]
        ends = np.flatnonzero(depth[rows.unit[found.at]] == k + 1)
        ends = ends[rows.first_of(found.at[ends])]
        units = rows.unit[found.at[ends]]
        step[units], where[units] = k, ends
        here = np.flatnonzero(step == k)
        position = where[here]
        taken[k, here] = found.at[position]
        step[here], where[here] = found.step[position], found.back[position]
        if k == 0:
            return


def _barred(rows: Rows, rules: Rules, chain: list[_Found], begin: int = 0) -> Integers:
    """Return the units with an excluded event between a step and the next one, or where the next one could still come.

    What comes after an entry has come to the last step of the chain does not count.
    """
    goals = [np.full(len(found.at), k == len(chain) - 1) for k, found in enumerate(chain)]
    start, end = _in_time(rows, rules, _backward(rows, rules.chain, chain, goals)[begin])
    done = np.full(len(rows.time) + 1, NEVER)
    done[start] = end
    out = []
    for k in range(begin, len(chain) - 1):
        found = chain[k]
        for q in (q for q in rules.nexts(k) if q < len(chain)):
            bars = rows.marked(*rules.links[q].bars)
            if not len(bars) or not len(found.at):
                continue
            where = np.searchsorted(bars, found.at, side="right")
            bar = bars[np.minimum(where, len(bars) - 1)]
            barred = (where < len(bars)) & (bar < np.minimum(rows.ended[found.at], done[found.best]))
            where, goes_on = _next(rows, rules.chain, q, chain[q], found.at)
            there = chain[q].at[where] if len(chain[q].at) else np.full(len(where), NEVER)
            if rules.within >= 0 and len(chain[q].at):
                goes_on &= rows.time[there] - rows.time[found.best] <= rules.within
            waiting = np.full(len(bar), not rules.links[q].optional)
            for limit, since in ((rules.within, found.best), (rules.links[q].within, found.at)):
                if limit >= 0:
                    waiting &= rows.time[bar] - rows.time[since] <= limit
            out.append(rows.unit[found.at[barred & np.where(goes_on, bar < there, waiting)]])
    return np.unique(np.concatenate(out)) if out else np.empty(0, dtype=np.int64)


def _closing(rows: Rows, rules: Rules, chain: list[_Found]) -> Integers:
    """Return for each entry the first row on which its attempt, if it has not converted, is over."""
    alive: list[Integers] = [np.empty(0, dtype=np.int64)] * len(chain)
    for k in range(len(chain) - 2, -1, -1):
        at = chain[k].at
        over = at + 1
        for q in rules.nexts(k):
            link, after = rules.links[q], chain[q]
            limit = rows.ended[at] if len(at) else at
            if link.within >= 0:
                limit = np.minimum(limit, rows.later(at, rows.time[at] + link.within))
            latest = np.minimum(np.searchsorted(after.low, at, side="right"), np.searchsorted(after.at, limit)) - 1
            if link.bars:
                bars = np.append(rows.marked(*link.bars), NEVER)
                limit = np.minimum(limit, bars[np.searchsorted(bars, at, side="right")])
            if link.directly:
                limit = np.minimum(limit, at + 1)
            over = np.maximum(over, limit)
            if q < len(chain) - 1 and len(after.at):
                goes_on = (latest >= 0) & (after.at[np.maximum(latest, 0)] > at)
                over = np.maximum(over, np.where(goes_on, alive[q][np.maximum(latest, 0)], 0))
        alive[k] = over
    entries = chain[0].at
    if rules.within < 0:
        return alive[0]
    return np.minimum(alive[0], rows.later(entries, rows.time[entries] + rules.within))
