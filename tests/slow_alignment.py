"""Alignment the slow way: every journey that the plan allows is written out and compared with what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class SlowStep:
    values: frozenset[str]
    optional: bool = False
    repeat: bool = False


def words(plan: Sequence[SlowStep], most: int) -> Iterator[list[frozenset[str]]]:
    """Every journey on plan in which no step is repeated more than `most` times."""
    times = [range(0 if step.optional else 1, most + 1 if step.repeat else 2) for step in plan]
    for counts in product(*times):
        yield [step.values for step, n in zip(plan, counts, strict=True) for _ in range(n)]


def edits(trace: Sequence[str], word: Sequence[frozenset[str]], free: frozenset[str]) -> int:
    """The fewest events to take out and steps to put in, one each, that turn a trace into a word (Wagner & Fischer)."""
    row = list(range(len(word) + 1))
    for value in trace:
        new = [row[0] + (value not in free)]
        for k, values in enumerate(word, start=1):
            options = [row[k] + (value not in free), new[k - 1] + 1]
            if value in values:
                options.append(row[k - 1])
            new.append(min(options))
        row = new
    return row[-1]


def cost(trace: Sequence[str], plan: Sequence[SlowStep], free: frozenset[str] = frozenset()) -> int:
    return min(edits(trace, word, free) for word in words(plan, len(trace) + 1))


def open_cost(trace: Sequence[str], plan: Sequence[SlowStep], free: frozenset[str] = frozenset()) -> int:
    """The same, where a journey may stop anywhere on the way."""
    every = words(plan, len(trace) + 1)
    return min(edits(trace, word[:end], free) for word in every for end in range(len(word) + 1))


def fitness(trace: Sequence[str], plan: Sequence[SlowStep]) -> float:
    shortest = min(len(word) for word in words(plan, 1))
    return 1 - cost(trace, plan) / (len(trace) + shortest)
