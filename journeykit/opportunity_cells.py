"""Counts of people that are alike in everything an opportunity looks at, and draws of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import sparse

from journeykit import engine
from journeykit.funnel_times import labels
from journeykit.funnels import NO_VALUE, OTHER, Reached
from journeykit.leaver_sides import KNOWN, design, pairs, require_by, sides, value_at, went_on

AT_ONCE = 5_000_000  # numbers of draws that are held at once
_DAY_US = 86_400_000_000
Sums = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Group:
    """The segments of a column at a step: `of` has, for each cell, the number of its segment, or -1."""

    pair: int
    by: str
    segments: list[str]
    of: np.ndarray


@dataclass(frozen=True)
class Cells:
    """People who did the same: one position a cell; `stood` and `went` have a column for each pair of steps."""

    reached: Reached
    pairs: list[tuple[int, int]]
    counts: np.ndarray
    stood: np.ndarray
    went: np.ndarray
    values: dict[tuple[str, int], np.ndarray]  # of a column at the first step of a pair
    value_mean: float
    value_deviation: float
    value_n: int
    days: float  # from the first entry to the last one that counts
    design: float  # by how much the units are fewer than their number

    def names(self, pair: int) -> dict[str, str]:
        """The labels of a pair of steps."""
        named = labels(self.reached.rules)
        k, m = self.pairs[pair]
        return {"step": named[k - 1], "next_step": named[m - 1]}

    def groups(self, min_n: int) -> list[Group]:
        """Return the segments of each column at each step with at least two of `min_n`; smaller ones as "(other)"."""
        found = []
        for (by, pair), values in self.values.items():
            n = pd.Series(self.counts * self.stood[:, pair]).groupby(values).sum()
            known = n.drop(NO_VALUE, errors="ignore")
            if known.sum() < KNOWN * n.sum():
                continue
            n = known
            large = sorted(n.index[n >= min_n], key=lambda name: (-n[name], name))
            if len(large) < 2:
                continue
            names = [*large, OTHER] if (n[n < min_n] > 0).any() else large
            number = {name: i for i, name in enumerate(large)} | {NO_VALUE: -1}
            of = np.array([number.get(value, len(large)) for value in values])
            found.append(Group(pair, by, names, np.where(self.stood[:, pair] > 0, of, -1)))
        return sorted(found, key=lambda group: (group.pair, group.by))

    def sums(self, groups: list[Group]) -> list[Sums]:
        """Return how many stood at each step, or of each segment at its step, and how many went on: all, each group."""
        return self._sums(self.counts[None, :], groups)

    def drawn(self, rng: np.random.Generator, draws: int, groups: list[Group]) -> list[Sums]:
        """Draw people with replacement, and return the `sums` of each draw, in rows.

        Units of one person are alike: as many are drawn as they are worth, and stand for all.
        """
        total = self.counts.sum()
        effective = max(1, round(total / self.design))
        rows = max(1, AT_ONCE // max(len(self.counts), 1))
        blocks = []
        for start in range(0, draws, rows):
            found = rng.multinomial(effective, self.counts / max(total, 1), min(rows, draws - start))
            blocks.append(self._sums(found * (total / effective), groups))
        if not blocks:
            return [(stood[:0], went[:0]) for stood, went in self.sums(groups)]
        parts = zip(*blocks, strict=True)
        return [(np.vstack([x for x, _ in part]), np.vstack([x for _, x in part])) for part in parts]

    def _sums(self, counts: np.ndarray, groups: list[Group]) -> list[Sums]:
        found = [(counts @ self.stood, counts @ self.went)]
        for group in groups:
            cells = np.flatnonzero(group.of >= 0)
            shape, where = (len(self.counts), len(group.segments)), (cells, group.of[cells])
            stood = sparse.csr_array((np.ones(len(cells)), where), shape=shape)
            went = sparse.csr_array((self.went[cells, group.pair], where), shape=shape)
            found.append((np.asarray(counts @ stood), np.asarray(counts @ went)))
        return found

    def worth(self, rng: np.random.Generator, draws: int, margin: float) -> tuple[float, np.ndarray]:
        """Return what a conversion earns, and draws of it: its mean is all but normal, so nobody's value is asked."""
        noise = rng.standard_normal(draws)
        return margin * self.value_mean, margin * (self.value_mean + self._value_error * noise)

    def said(self, margin: float) -> dict[str, Any]:
        """Return what the tables say beside their rows."""
        reach = 1.96 * self._value_error
        value = {"mean_value": self.value_mean, "mean_value_n": self.value_n}
        bounds = {"mean_value_low": self.value_mean - reach, "mean_value_high": self.value_mean + reach}
        return {**value, **bounds, "margin": margin, "days": self.days, "design_effect": self.design}

    @property
    def _value_error(self) -> float:
        """The standard error of the mean value."""
        return self.value_deviation * np.sqrt(self.design / self.value_n) if self.value_n > 1 else float("nan")


def cells_of(reached: Reached, by: list[str]) -> Cells:
    """Count the units whose window is over by what they did and what their values were."""
    require_by(reached, by, "opportunity")
    steps = pairs(reached.rules)
    table = reached.table.filter(nw.col("is_open") == 0)
    flags, texts = {}, {}
    for i, (k, m) in enumerate(steps):
        there = ~nw.col(f"at_{k}").is_null()
        flags[f"stood_{i}"] = nw.when(there).then(nw.lit(1)).otherwise(nw.lit(0))
        flags[f"went_{i}"] = nw.when(there & went_on(reached, m)).then(nw.lit(1)).otherwise(nw.lit(0))
        for j, name in enumerate(by):
            texts[f"value_{j}_{i}"] = nw.when(there).then(value_at(name, k)).otherwise(nw.lit(NO_VALUE))
    rows = table.with_columns(_one=nw.col("is_open") * 0 + 1).with_columns(**flags, **texts)
    names = [*flags, *texts]
    found = engine.fetch(rows.group_by(*names).agg(n=nw.col("_one").sum())).sort_values(names, ignore_index=True)
    mean, deviation, value_n = _value(table, len(reached.rules.steps))
    span = engine.fetch(table.select(first=nw.col("first_us").min(), last=nw.col("first_us").max())).iloc[0]
    days = 0.0 if pd.isna(span["first"]) else float(span["last"] - span["first"]) / _DAY_US
    effects = [design(sides(reached, k).table, reached) for k, _ in steps]
    pair_numbers = range(len(steps))
    return Cells(
        reached=reached,
        pairs=steps,
        counts=found["n"].to_numpy(dtype=float),
        stood=found[[f"stood_{i}" for i in pair_numbers]].to_numpy(dtype=float),
        went=found[[f"went_{i}" for i in pair_numbers]].to_numpy(dtype=float),
        values={
            (name, i): found[f"value_{j}_{i}"].to_numpy(dtype=object) for j, name in enumerate(by) for i in pair_numbers
        },
        value_mean=mean,
        value_deviation=deviation,
        value_n=value_n,
        days=days,
        design=max(effects),
    )


def _value(table: nw.LazyFrame[Any], last: int) -> tuple[float, float, int]:
    """The mean value of a conversion, its standard deviation, and of how many that have one."""
    name = f"value_{last}"
    if name not in table.collect_schema().names():
        return float("nan"), float("nan"), 0
    values = table.filter(~nw.col(name).is_null()).with_columns(_one=nw.col("is_open") * 0 + 1)
    first = engine.fetch(values.select(n=nw.col("_one").sum(), mean=nw.col(name).mean())).iloc[0]
    if pd.isna(first["n"]) or not first["n"]:
        return float("nan"), float("nan"), 0
    n, mean = int(first["n"]), float(first["mean"])
    spread = engine.fetch(values.select(squares=((nw.col(name) - mean) * (nw.col(name) - mean)).sum())).iloc[0]
    return mean, float(np.sqrt(spread["squares"] / (n - 1))) if n > 1 else 0.0, n
