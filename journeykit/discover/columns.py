"""What the values of a column look like: how many are filled, how many differ, what patterns they fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from journeykit.discover import words
from journeykit.discover.moments import Moment, recognise
from journeykit.discover.samples import Sample

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[a-zA-Z]{2,24}")
PHONE = re.compile(r"(\+|00)\d[\d ()/.-]{6,20}")
LOCAL_PHONE = re.compile(r"\+?[\d ()/.-]{7,20}")
UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
OPAQUE = re.compile(r"(?i)(?=.*\d)[0-9a-z_#.:-]{4,80}")
INTEGER = re.compile(r"[+-]?\d{1,18}(\.0+)?")
DECIMAL = re.compile(r"[+-]?\d{1,15}([.]\d+)?")
MONEY = re.compile(r"[+-]?[€$£]?\s?\d{1,3}(([.,' ]\d{3})+|\d*)([.,]\d{1,2})?\s?[€$£%]?")


@dataclass(frozen=True)
class Column:
    """A column of a sample."""

    name: str
    words: tuple[str, ...]
    values: list[str]
    rows_n: int
    today: datetime

    @cached_property
    def moment(self) -> Moment | None:
        """How the column writes times, or None."""
        return recognise(self.values, self.today)

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(self.values)

    @property
    def filled(self) -> float:
        """Share of the rows in which the column is filled."""
        return len(self.values) / self.rows_n if self.rows_n else 0.0

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def unique(self) -> float:
        """Different values per filled value; 1 where none occurs twice."""
        return self.distinct / len(self.values) if self.values else 0.0

    def share(self, pattern: re.Pattern[str]) -> float:
        """Share of the filled values that fit a pattern."""
        return sum(bool(pattern.fullmatch(value)) for value in self.values) / len(self.values) if self.values else 0.0

    @property
    def numeric(self) -> bool:
        return self.share(DECIMAL) > 0.95

    @property
    def whole(self) -> bool:
        return self.share(INTEGER) > 0.95

    @property
    def length(self) -> float:
        """Mean number of characters."""
        return sum(map(len, self.values)) / len(self.values) if self.values else 0.0

    def has(self, *sets: Iterable[str]) -> bool:
        """Whether one of the words of the name is in one of the sets."""
        return any(word in one for one in sets for word in self.words)


def profile(sample: Sample, today: datetime) -> dict[str, Column]:
    """Return the columns of a sample that hold anything, by name."""
    return {column.name: column for column in _columns(sample, today) if column.values}


def _columns(sample: Sample, today: datetime) -> Iterator[Column]:
    for name in sample.columns:
        yield Column(name, words.split(name), sample.values(name), len(sample.rows), today)
