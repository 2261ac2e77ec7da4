"""What files say about each other: identifiers that are the same, and tables that only look something up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from journeykit.config_fields import Field
from journeykit.discover import who, words
from journeykit.discover.guesses import Guess, SourceGuess
from journeykit.discover.recognise import preset_sources

SHARED = 0.05  # share of the smaller side's values that two columns must have in common
FEWEST = 5  # values
Place = tuple[int, str]  # number of the source, name of the identifier


def unify(guesses: Sequence[SourceGuess]) -> None:
    """Give columns that hold the same values one identifier, and say where one name may mean two things."""
    found = _columns(guesses)
    for (one, first), (other, second) in combinations(found, 2):
        if one == other or first == second:
            continue
        alike, share = _overlap(found[one, first], found[other, second])
        if not alike:
            continue
        # The name of the preset stays, else the more trusted one.
        fixed = [first in _given(guesses[one]), second in _given(guesses[other])]
        if fixed == [True, True]:
            continue
        keep = first if fixed[0] or (not fixed[1] and who.trust(first) <= who.trust(second)) else second
        place, old = (other, second) if keep == first else (one, first)
        if f"identifiers.{keep}" in {guess.key for guess in guesses[place].guesses} or keep in _given(guesses[place]):
            continue
        column = guesses[place].starting("identifiers.").get(old)
        if column is None:
            continue
        guesses[place].drop(f"identifiers.{old}")
        partner = guesses[one if place == other else other].name
        why = f"{share:.0%} of its values are also identifiers in {partner}"
        guesses[place].put(Guess(f"identifiers.{keep}", column, why, "sure"))
        found[place, keep] = found[place, old]
    _doubt(guesses, found)


def _given(guess: SourceGuess) -> set[str]:
    """The identifiers that a source has from its preset."""
    return set(preset_sources()[guess.preset].identifiers) if guess.preset else set()


def _columns(guesses: Sequence[SourceGuess]) -> dict[Place, frozenset[str]]:
    found: dict[Place, frozenset[str]] = {}
    for number, guess in enumerate(guesses):
        named: dict[str, Iterable[str]] = {
            name: [column] for name, column in guess.starting("identifiers.").items() if isinstance(column, str)
        }
        if guess.preset:
            fields = preset_sources()[guess.preset].identifiers
            named |= {name: one.columns() for name, one in fields.items() if name not in named and _plain(one)}
        for name, columns in named.items():
            values = frozenset(
                value for sample in guess.samples for column in columns for value in sample.values(column)
            )
            if values:
                found[number, name] = values
    return found


def _plain(field: Field) -> bool:
    """Whether the values of a field stand in the file: a column, or the first that is filled of several."""
    return bool(field.column) or bool(re.fullmatch(r"coalesce\([^()]*\)", field.expression))


def _overlap(one: frozenset[str], other: frozenset[str]) -> tuple[bool, float]:
    common = len(one & other)
    smaller = min(len(one), len(other))
    return common >= FEWEST and common >= SHARED * smaller, common / smaller


def _doubt(guesses: Sequence[SourceGuess], found: dict[Place, frozenset[str]]) -> None:
    """Where two sources have an identifier of one name whose values are written differently, ask to look at it."""
    for (one, first), (other, second) in combinations(found, 2):
        if one == other or first != second or first in ("email", "phone"):
            continue
        if _overlap(found[one, first], found[other, second])[0]:
            continue
        if _shape(found[one, first]) == _shape(found[other, second]):
            continue
        for place, partner in ((other, one), (one, other)):
            mine = next((guess for guess in guesses[place].guesses if guess.key == f"identifiers.{first}"), None)
            if mine and mine.confidence != "check":
                doubt = f"written otherwise than {first} in {guesses[partner].name}: rename one if they differ"
                guesses[place].put(Guess(mine.key, mine.value, f"{mine.why}; {doubt}", "check"))
                break


def _shape(values: frozenset[str]) -> tuple[bool, int]:
    """How values are written: digits alone or not, and roughly how long."""
    some = sorted(values)[:200]
    lengths = sorted(map(len, some))
    return sum(value.isdigit() for value in some) > len(some) / 2, lengths[len(lengths) // 2] // 6


def tables_aside(guesses: Sequence[SourceGuess]) -> tuple[list[SourceGuess], list[SourceGuess]]:
    """Split sources into those that can give events and tables that cannot, for they hold no time."""
    aside = [guess for guess in guesses if any(line.startswith("time:") for line in guess.missing)]
    return [guess for guess in guesses if guess not in aside], aside


def look_up(sources: Sequence[SourceGuess], aside: Sequence[SourceGuess]) -> list[SourceGuess]:
    """Let tables without times translate identifiers: an id of one order becomes that of the person behind it.

    Returns those tables that are of no use so.
    """
    useless = []
    for table in aside:
        if not any(_translates(source, table) for source in sources):
            useless.append(table)
    return useless


def _translates(source: SourceGuess, table: SourceGuess) -> bool:
    if source.preset:
        return False
    sample = table.sample
    for name, column in source.starting("identifiers.").items():
        if not isinstance(column, str) or column not in sample.columns or name not in ("customer", "account", "order"):
            continue
        keys = sample.values(column)
        if len(set(keys)) < 0.98 * len(sample.rows):
            continue  # several rows a key: nothing can be looked up
        for other in sample.columns:
            split = words.split(other)
            people = any(word in words.KINDS["customer"] for word in split) and any(one in words.ID for one in split)
            values = sample.values(other)
            if other == column or not people or len(values) < 0.9 * len(sample.rows):
                continue
            value: dict[str, Any] = {
                "column": column,
                "lookup": {"path": table.path, "key": column, "value": other},
            }
            why = f"{table.name} says which {other} stands behind each {column}"
            source.put(Guess(f"identifiers.{name}", value, why, "likely"))
            return True
    return False
