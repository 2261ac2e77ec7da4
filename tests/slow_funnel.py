"""A funnel by trying everything: every chain of every entry, in plain Python, for logs of a few events.

It shares nothing with `journeykit.funnel_chains` but the words of `config.Funnel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from journeykit.config import Funnel, seconds

EXIT = "(exit)"
Chain = tuple[tuple[int, int], ...]  # (step, row) from the first step on


@dataclass(frozen=True)
class Event:
    order: float  # place in the unit
    time: int
    value: str | None


def outcomes(log: pd.DataFrame, funnel: Funnel, until: int | None = None) -> list[dict[str, Any]]:
    """Return a line for each counted attempt: unit, attempt, depth, is_open, first, at, and came (of open funnels)."""
    column = {"attempt": "person_id"}.get(funnel.per, f"{funnel.per}_id")
    log = log.assign(us=(log["timestamp"] - pd.Timestamp(0)) // pd.Timedelta("1us"))
    if until is not None:
        log = log[log["us"] <= until]
    found = []
    for unit, rows in log.sort_values(["timestamp", "source", "source_row", "event_id"]).groupby(column, sort=True):
        parts: dict[Any, list[Event]] = {}
        for order, row in enumerate(rows.to_dict("records")):
            held = tuple(row[name] for name in funnel.same)
            value = None if pd.isna(row[funnel.on]) else row[funnel.on]
            if value is not None and not any(pd.isna(one) for one in held):
                parts.setdefault(held, []).append(Event(order, row["us"], value))
        for events in parts.values():
            if funnel.steps[-1].values == [EXIT]:
                events.append(Event(events[-1].order + 0.5, events[-1].time, EXIT))
        logs = [Log(events, funnel) for events in parts.values()]
        found += [{"unit": unit, **line} for line in _unit(logs, funnel, until)]
    return found


class Log:
    """The events of one unit (and value)."""

    def __init__(self, events: list[Event], funnel: Funnel, barred: bool = True) -> None:
        self.events, self.funnel = events, funnel
        self.steps, self.size = funnel.steps, len(funnel.steps)
        self.barred = barred and funnel.excluded == "attempt"
        self.within = seconds(funnel.within) * 1_000_000 if funnel.within else None

    def rows(self, k: int) -> list[int]:
        return [n for n, event in enumerate(self.events) if event.value in self.steps[k].values]

    def nexts(self, k: int) -> list[int]:
        found = []
        for q in range(k + 1, self.size):
            found.append(q)
            if not self.steps[q].optional:
                break
        return found

    def bars(self, q: int) -> set[str]:
        return {*self.funnel.exclude, *self.steps[q].without}

    def in_step(self, q: int, j: int, time: int) -> bool:
        own = self.steps[q].within
        return not own or time - self.events[j].time <= seconds(own) * 1_000_000

    def follows(self, j: int, q: int, i: int) -> bool:
        """Whether row i may be step q directly after a step on row j."""
        if i <= j or self.events[i].value not in self.steps[q].values:
            return False
        if (self.steps[q].directly or self.funnel.order == "strict") and i != j + 1:
            return False
        between = {event.value for event in self.events[j + 1 : i]}
        return self.in_step(q, j, self.events[i].time) and not (self.barred and between & self.bars(q))

    def chains(self, start: int, k: int = 0) -> Iterator[Chain]:
        """Yield every chain from an entry on."""
        open_ones: list[Chain] = [((k, start),)]
        while open_ones:
            chain = open_ones.pop()
            yield chain
            p, j = chain[-1]
            for q in self.nexts(p):
                for i in range(j + 1, len(self.events)):
                    late = self.within is not None and self.events[i].time - self.events[start].time > self.within
                    if not late and self.follows(j, q, i):
                        open_ones.append((*chain, (q, i)))


def _unit(logs: list[Log], funnel: Funnel, until: int | None) -> list[dict[str, Any]]:
    if funnel.order == "any":
        return _attempts(logs, funnel, until) if funnel.per == "attempt" else _any(logs, funnel, until)
    if funnel.entry == "open":
        return _open(logs, funnel, until)
    if funnel.per == "attempt":
        return _attempts(logs, funnel, until)
    entries = [(log, row) for log in logs for row in log.rows(0)]
    entries, is_open = _entries(entries, funnel, until)
    if not entries or (funnel.excluded == "unit" and any(_out(log, row, 0, log.size - 1) for log, row in entries)):
        return []
    chains = [(log, chain) for log, row in entries for chain in log.chains(row)]
    depth = max(chain[-1][0] for _, chain in chains)
    deep = [(log, chain) for log, chain in chains if chain[-1][0] == depth]

    def when(log: Log, row: int) -> float:
        return log.events[row].order

    if funnel.clock == "last":
        end = min(when(log, chain[-1][1]) for log, chain in deep)
        deep = [(log, chain) for log, chain in deep if when(log, chain[-1][1]) == end]
        start = max(chain[0][1] for _, chain in deep)
        log, chosen = max(((log, c) for log, c in deep if c[0][1] == start), key=lambda pair: pair[1][::-1])
    else:
        start = min(when(log, chain[0][1]) for log, chain in deep)
        deep = [(log, chain) for log, chain in deep if when(log, chain[0][1]) == start]
        end = min(chain[-1][1] for _, chain in deep)
        log, chosen = min(((log, c) for log, c in deep if c[-1][1] == end), key=lambda pair: pair[1])
    first = min(((log.events[row].order, log.events[row].time) for log, row in entries))[1]
    return [_line(log, chosen, first, is_open)]


def _entries(entries: list[tuple[Log, int]], funnel: Funnel, until: int | None) -> tuple[list[tuple[Log, int]], bool]:
    entries = sorted(entries, key=lambda pair: pair[0].events[pair[1]].order)
    is_open = False
    if until is not None and funnel.within:
        over = [pair for pair in entries if not _too_late(*pair, until)]
        is_open, entries = not over, over or entries
    return (entries[:1] if funnel.clock == "first" else entries), is_open


def _too_late(log: Log, row: int, until: int | None) -> bool:
    return until is not None and log.within is not None and log.events[row].time + log.within > until


def _line(log: Log, chain: Chain, first: int, is_open: bool, attempt: int = 1) -> dict[str, Any]:
    at = {step: log.events[row].time for step, row in chain}
    return {
        "attempt": attempt,
        "depth": max(at) + 1,
        "is_open": int(is_open),
        "first": first,
        "at": [at.get(k) for k in range(log.size)],
    }


def _open(logs: list[Log], funnel: Funnel, until: int | None) -> list[dict[str, Any]]:
    size = len(funnel.steps)
    rows = [[(log.events[row].order, log.events[row].time) for log in logs for row in log.rows(k)] for k in range(size)]
    if not any(rows):
        return []
    first = min(time for step in rows for time in step)[1]
    came = [0] * size
    for k in range(size - 1):
        if funnel.steps[k].optional:
            continue
        for log in logs:
            required = log.nexts(k)[-1]
            for row in log.rows(k):
                if funnel.excluded == "unit" and _out(log, row, k, required):
                    return []
                for chain in log.chains(row, k):
                    if k < chain[-1][0] <= required:
                        came[chain[-1][0]] = 1
    within = seconds(funnel.within) * 1_000_000 if funnel.within else None
    is_open = until is not None and within is not None and first + within > until
    at = [min(step)[1] if step else None for step in rows]
    depth = max(k for k, time in enumerate(at) if time is not None) + 1
    return [{"attempt": 1, "depth": depth, "is_open": int(is_open), "first": first, "at": at, "came": came[1:]}]


def _out(log: Log, entry: int, k: int, required: int) -> bool:
    """Whether an excluded event lies between a step and the next, or where the next could still come."""
    chains = [chain for chain in log.chains(entry, k) if chain[-1][0] <= required]
    done = min((chain[-1][1] for chain in chains if chain[-1][0] == required), default=len(log.events))
    for chain in chains:
        p, j = chain[-1]
        if p == required:
            continue
        for q in log.nexts(p):
            following = [longer[-1][1] for longer in chains if longer[:-1] == chain and longer[-1][0] == q]
            for x in range(j + 1, done):
                if log.events[x].value not in log.bars(q):
                    continue
                if following:
                    if x < min(following):
                        return True
                elif not log.steps[q].optional:
                    time = log.events[x].time
                    in_all = log.within is None or time - log.events[entry].time <= log.within
                    if in_all and log.in_step(q, j, time):
                        return True
    return False


def _different(log: Log, start: int) -> list[int]:
    """Return the rows on which one more different step is taken, in a window that begins on a row."""
    inside = []
    for row in range(start, len(log.events)):
        event = log.events[row]
        if log.within is not None and event.time - log.events[start].time > log.within:
            break
        inside.append(row)
        if row > start and log.barred and event.value in log.funnel.exclude:
            break
    best = 0
    found = []
    for n in range(len(inside)):
        most = _most(log, inside[: n + 1], frozenset())
        if most > best:
            best = most
            found.append(inside[n])
    return found


def _most(log: Log, rows: list[int], used: frozenset[int]) -> int:
    if not rows:
        return 0
    most = _most(log, rows[1:], used)
    for k in range(log.size):
        if k not in used and log.events[rows[0]].value in log.steps[k].values:
            most = max(most, 1 + _most(log, rows[1:], used | {k}))
    return most


def _any(logs: list[Log], funnel: Funnel, until: int | None) -> list[dict[str, Any]]:
    values = {value for step in funnel.steps for value in step.values}
    entries = [(log, row) for log in logs for row, event in enumerate(log.events) if event.value in values]
    entries, is_open = _entries(entries, funnel, until)
    if not entries:
        return []
    found = [(log, row, _different(log, row)) for log, row in entries]
    if funnel.excluded == "unit":
        for log, row, rows in found:
            done = rows[-1] if len(rows) == log.size else len(log.events)
            for x in range(row + 1, done):
                late = log.within is not None and log.events[x].time - log.events[row].time > log.within
                if log.events[x].value in funnel.exclude and not late:
                    return []
    depth = max(len(rows) for _, _, rows in found)
    deep = [one for one in found if len(one[2]) == depth]
    if funnel.clock == "last":
        log, _, rows = min(deep, key=lambda one: (one[0].events[one[2][-1]].order, -one[0].events[one[1]].order))
    else:
        log, _, rows = min(deep, key=lambda one: one[0].events[one[1]].order)
    first = entries[0][0].events[entries[0][1]].time
    return [_line(log, tuple(enumerate(rows)), first, is_open)]


def _attempts(logs: list[Log], funnel: Funnel, until: int | None) -> list[dict[str, Any]]:
    found = []
    for log in logs:
        values = {value for step in funnel.steps for value in step.values}
        row = 0
        while row < len(log.events):
            value = log.events[row].value
            if value not in (values if funnel.order == "any" else log.steps[0].values):
                row += 1
                continue
            if funnel.order == "any":
                rows = _different(log, row)
                chosen: Chain = tuple(enumerate(rows))
                over = _over_any(log, row)
            else:
                chains = list(log.chains(row))
                depth = max(chain[-1][0] for chain in chains)
                deep = [chain for chain in chains if chain[-1][0] == depth]
                end = min(chain[-1][1] for chain in deep)
                chosen = min(chain for chain in deep if chain[-1][1] == end)
                over = next((r for r in range(row, len(log.events)) if not _alive(log, chains, r)), len(log.events))
            found.append((log.events[row].order, log, chosen, _too_late(log, row, until)))
            row = chosen[-1][1] + 1 if len(chosen) and chosen[-1][0] == log.size - 1 else over
    found.sort(key=lambda one: one[0])
    lines = [(log, chain, log.events[chain[0][1]].time, late) for _, log, chain, late in found]
    return [_line(*line, attempt=n) for n, line in enumerate(lines, start=1)]


def _alive(log: Log, chains: list[Chain], row: int) -> bool:
    """Whether an attempt that has seen a row could still go on with an event at the same time after it."""
    time = log.events[row].time
    for chain in chains:
        (p, j), (_, start) = chain[-1], chain[0]
        if j > row or (log.within is not None and time - log.events[start].time > log.within):
            continue
        for q in log.nexts(p):
            directly = log.steps[q].directly or log.funnel.order == "strict"
            seen = {event.value for event in log.events[j + 1 : row + 1]}
            if log.in_step(q, j, time) and not (directly and row > j) and not seen & log.bars(q):
                return True
    return False


def _over_any(log: Log, start: int) -> int:
    for row in range(start + 1, len(log.events)):
        late = log.within is not None and log.events[row].time - log.events[start].time > log.within
        if late or log.events[row].value in log.funnel.exclude:
            return row
    return len(log.events)


def by_unit(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the lines of each unit together."""
    return [list(group) for _, group in groupby(lines, key=lambda line: line["unit"])]
