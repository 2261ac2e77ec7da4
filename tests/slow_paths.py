"""Paths by walking through lists, in plain Python: nothing here is shared with `journeykit.walks` or its patterns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

ORDER = ["timestamp", "source", "source_row", "event_id"]


def sequences(log: pd.DataFrame, unit: str, on: str = "event") -> dict[int, list[str]]:
    """Return the values of each unit in order; events without a value are left out."""
    rows = log.dropna(subset=[on, unit]).sort_values(ORDER)
    return {int(name): part[on].tolist() for name, part in rows.groupby(unit)}


def people(log: pd.DataFrame, unit: str) -> dict[int, int]:
    """Return the person of each unit."""
    return {int(row[unit]): int(row["person_id"]) for row in log.dropna(subset=[unit]).to_dict("records")}


def collapsed(values: Sequence[str]) -> list[str]:
    return [value for k, value in enumerate(values) if k == 0 or values[k - 1] != value]


@dataclass(frozen=True)
class Piece:
    """What one token of a pattern allows."""

    values: tuple[str, ...]
    other: bool = False
    sign: str = ""  # "", "*", "+", "?"

    def allows(self, value: str) -> bool:
        return (value in self.values) != self.other

    def text(self) -> str:
        names = " | ".join(f'"{value}"' if value in ("start", "a|b") else value for value in self.values)
        if self.other and not self.values:
            return "." + self.sign
        return (f"[^{names}]" if self.other else f"[{names}]" if len(self.values) > 1 else names) + self.sign


def text_of(pieces: Sequence[Piece], at_start: bool, at_exit: bool) -> str:
    return " -> ".join(["start"] * at_start + [piece.text() for piece in pieces] + ["exit"] * at_exit)


def is_in(pieces: Sequence[Piece], at_start: bool, at_exit: bool, values: Sequence[str]) -> bool:
    """Return whether the pattern is in the values, by trying every way in which its tokens could take them."""

    def from_here(k: int, at: int) -> bool:
        if k == len(pieces):
            return not at_exit or at == len(values)
        return any(from_here(k + 1, end) for end in ends(pieces[k], at))

    def ends(piece: Piece, at: int) -> Iterator[int]:
        if piece.sign in ("*", "?"):
            yield at
        most = at + 1 if piece.sign in ("", "?") else len(values)
        while at < min(most, len(values)) and piece.allows(values[at]):
            at += 1
            yield at

    return any(from_here(0, at) for at in ([0] if at_start else range(len(values) + 1)))


def rows_around(values: Sequence[str], anchor: set[str], before: int, after: int, occurrence: str) -> list[list[str]]:
    """Return what is at the places around the anchor: a row per unit, or one per occurrence."""
    places = [k for k, value in enumerate(values) if value in anchor]
    if occurrence != "any":
        if not places:
            return [["(without it)"] * (before + after + 1)]
        places = [places[0] if occurrence == "first" else places[-1]]
    rows = []
    for at in places:
        reach = range(at - before, at + after + 1)
        rows.append(["(not begun)" if k < 0 else "(ended)" if k >= len(values) else values[k] for k in reach])
    return rows


def cells(rows: Sequence[Sequence[str]]) -> Counter[tuple[int, str]]:
    return Counter((place, value) for row in rows for place, value in enumerate(row))


def links(rows: Sequence[Sequence[str]]) -> Counter[tuple[int, str, str]]:
    return Counter((k, row[k], row[k + 1]) for row in rows for k in range(len(row) - 1))


def grams(values: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(values[k : k + size]) for k in range(len(values) - size + 1)}
