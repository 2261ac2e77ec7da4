"""Discounted areas under a Kaplan–Meier curve, laid out so that a resample of people costs a few array operations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd


def resamples(n: int, repetitions: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each of n people is drawn, with replacement, in each resample; never more than one at a time."""
    for _ in range(repetitions):
        yield np.bincount(rng.integers(0, n, n), minlength=n).astype(float)


class Area:
    """The Kaplan–Meier curve of a group of people under any weights, and what lies under it.

    Needs `duration_days` and `ended`; people enter at `entered_days` (0 without the column) and are at risk from then
    on. Where fewer than `min_n` people are at risk the curve is not known: it counts up to there, and people of such a
    tenure are not valued. It is known for ever when it comes down to 0 without anybody lost from sight.
    """

    def __init__(self, group: pd.DataFrame, *, min_n: int) -> None:
        group = group.sort_values("duration_days", kind="stable")
        duration, ended = group["duration_days"].to_numpy(float), group["ended"].to_numpy(int)
        entered = group["entered_days"].to_numpy(float) if "entered_days" in group else np.zeros(len(group))
        entered = np.where(entered <= 0, -1.0, entered)  # who is there from the start is at risk at day 0 too
        self.n = len(group)
        self._by_entry = np.argsort(entered, kind="stable")
        ends, entries = duration, entered[self._by_entry]
        self._late = bool(len(entries)) and entries[-1] > 0
        self._ended = np.flatnonzero(ended == 1)
        self.times, self._time = np.unique(duration[self._ended], return_inverse=True)
        self._first, self._entry = (np.searchsorted(x, self.times, side="left") for x in (ends, entries))
        # The moments at which too few are at risk, but for a tail in which all who are left were seen to leave.
        grid = np.unique(duration)
        at_risk = self.n - np.searchsorted(ends, grid, side="left")
        at_risk -= self.n - np.searchsorted(entries, grid, side="left")
        thin = at_risk < max(min_n, 1)
        lost = duration[ended == 0].max(initial=-math.inf)
        gone = grid[-1] > lost and self.n >= min_n if len(grid) else False
        if gone:
            thin &= grid <= lost
        self._grid, self._thin, self._whole = grid, grid[thin], bool(gone)
        self._starts = int((entered <= 0).sum()) >= max(min_n, 1)
        self._counted = ~np.isin(self.times, self._thin)
        self._knots = np.concatenate([[0.0], self.times])

    def survival(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the share still there from 0 and from each time of an end on; weights are in order of duration."""
        weight = np.ones(self.n) if weights is None else weights
        at_risk = _from(weight, self._first)
        if self._late:
            at_risk = at_risk - _from(weight[self._by_entry], self._entry)
        left = np.bincount(self._time, weights=weight[self._ended], minlength=len(self.times))
        hazard = np.divide(left, at_risk, out=np.zeros(len(left)), where=self._counted & (at_risk > 0.5))
        return np.concatenate([[1.0], np.cumprod(1 - np.minimum(hazard, 1.0))])

    def reach(self, tenure: np.ndarray) -> np.ndarray:
        """Return the last day that the curve is known for from each tenure on; the tenure itself where it is not."""
        last = np.full(len(tenure), math.inf if self._whole else (self._grid[-1] if len(self._grid) else 0.0))
        place = np.searchsorted(self._thin, tenure, side="right")
        cut = place < len(self._thin)
        thin = self._thin[np.minimum(place, max(len(self._thin) - 1, 0))] if len(self._thin) else last
        before = np.searchsorted(self._grid, thin, side="left") - 1
        last = np.where(cut, np.where(before >= 0, self._grid[np.maximum(before, 0)], 0.0) if self.n else 0.0, last)
        last = np.where((tenure <= 0) & (not self._starts), 0.0, last)
        return np.asarray(np.maximum(last, tenure))

    def known(self, tenure: np.ndarray) -> np.ndarray:
        """Tell at which tenures the curve is known to begin: enough people are, or were, there."""
        return np.asarray(self._starts | (tenure > self._first_known()))

    def at(self, survival: np.ndarray, days: np.ndarray) -> np.ndarray:
        """Return the share still there after each day."""
        return np.asarray(survival[np.searchsorted(self.times, days, side="right")])

    def span(self, start: np.ndarray, stop: np.ndarray, rate: float) -> Span:
        """Return what measures the discounted days from `start` to `stop` of those there at `start`."""
        places = [np.searchsorted(self.times, day, side="right") for day in (start, stop)]
        knots = _discounted(self._knots, rate)
        rests = [_discounted(day, rate) - knots[place] for day, place in zip((start, stop), places, strict=True)]
        return Span(np.diff(knots), places[0], places[1], rests[0], rests[1], np.exp(rate * start))

    def _first_known(self) -> float:
        enough = self._grid[~np.isin(self._grid, self._thin)]
        return float(enough[0]) if len(enough) else math.inf


@dataclass(frozen=True)
class Span:
    """Stretches of time under a curve, so that the places of their ends are looked up only once."""

    pieces: np.ndarray
    first: np.ndarray
    last: np.ndarray
    first_rest: np.ndarray
    last_rest: np.ndarray
    scale: np.ndarray

    def days(self, survival: np.ndarray) -> np.ndarray:
        """Return the discounted days that each is expected to be there, under a curve of the same `Area`."""
        whole = np.concatenate([[0.0], np.cumsum(survival[:-1] * self.pieces)])
        there = survival[self.first]
        before = whole[self.first] + there * self.first_rest
        after = whole[self.last] + survival[self.last] * self.last_rest
        return np.divide(after - before, there, out=np.zeros(len(there)), where=there > 0) * self.scale


def _from(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The sum of the weights from each place on."""
    if not len(weights):
        return np.zeros(len(places))
    return np.append(weights[::-1].cumsum()[::-1], 0.0)[places]


def _discounted(days: np.ndarray, rate: float) -> np.ndarray:
    """What a day after the other, up to each day, is worth today in days."""
    return -np.expm1(-rate * days) / rate if rate > 0 else np.asarray(days, dtype=float)
