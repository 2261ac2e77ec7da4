"""Covariates as columns of numbers that a model can take, learned on some rows and the same for all later ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from journeykit import config, present
from journeykit.churn.covariates import label
from journeykit.churn.spells import UNKNOWN
from journeykit.errors import require_columns

Numbers = npt.NDArray[np.float64]

OTHER = "other"
NO_ANSWER = "no answer"
TENTH = 0.1  # of the whole scale of satisfaction: the step that its ratio is told for
_SAME = 1e-8  # share of a column's variance that those before it leave unexplained, below which it repeats them


@dataclass(frozen=True)
class Column:
    """One column of a design.

    Attributes:
        name: of the column.
        covariate: name of the covariate that it is made of.
        label: how it is called in text.
        level: the value of a category that it stands for, "no answer" of satisfaction, or "".
        reference: the value of the category that it is compared with, or "".
        step: the difference that a ratio is told for, in the column's units.
    """

    name: str
    covariate: str
    label: str
    level: str = ""
    reference: str = ""
    step: float = 1.0


@dataclass(frozen=True)
class Design:
    """Columns of numbers for covariates, and what was left out of them.

    Attributes:
        columns: of the table that `apply` makes.
        notes: a sentence for each covariate or value that has no column.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    _covariates: tuple[config.Covariate, ...] = ()
    _levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _centres: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the columns for some rows, as floats, with the index of the table.

        A value of a category that was not met in learning counts as "other", or as the reference where nothing is
        pooled. A number that is missing stays missing, but not satisfaction, which has a column for that.

        Raises:
            JourneyError: the table lacks a covariate.
        """
        require_columns(table.columns, [covariate.name for covariate in self._covariates], "churn design")
        made: dict[str, Any] = {}
        for covariate in self._covariates:
            made |= _columns(table[covariate.name], covariate, self._levels, self._centres)
        return pd.DataFrame({name: made[name] for name in self.names}, index=table.index, dtype=float)


def learn(table: pd.DataFrame, covariates: Sequence[config.Covariate], *, min_n: int = 5) -> Design:
    """Return the design of covariates as a table has them.

    A `category` becomes one 0/1 column for each value but the most frequent one, which is the reference (the first of
    the alphabet among equals); None is the value "unknown"; values of fewer than `min_n` people are pooled into
    "other". `satisfaction` becomes two columns: the answer less the mean answer, 0 where it is missing, and whether it
    is missing, so that nobody's answer is invented and nobody is dropped. Everything else stays one number.

    Left out, each with a sentence in `notes`: columns that are the same for everyone, from which fewer than `min_n`
    people differ, or that repeat the columns before them.

    Requires one column a covariate. People are counted by `person_id` where the table has it, else by row.

    >>> people = pd.DataFrame({"device": ["phone"] * 6 + ["tablet"] * 5 + ["watch"]})
    >>> made = learn(people, [config.Covariate(name="device", kind="category", column="device")], min_n=2)
    >>> [(column.name, column.reference) for column in made.columns], made.notes
    ([('device=tablet', 'phone')], ('“device: other” is left out: fewer than 2 people have it, or do not have it.',))
    """
    require_columns(table.columns, [covariate.name for covariate in covariates], "churn design")
    people = table["person_id"].to_numpy() if "person_id" in table else np.arange(len(table))
    levels: dict[str, tuple[str, ...]] = {}
    centres: dict[str, float] = {}
    tried: dict[str, Numbers] = {}
    columns: list[Column] = []
    single: list[str] = []
    for covariate in covariates:
        values = table[covariate.name]
        if covariate.kind == "category":
            levels[covariate.name] = _levels_of(_texts(values), people, min_n)
            if len(levels[covariate.name]) == 1:
                single.append(f"“{label(covariate)}” is left out: it is the same for everyone.")
        elif covariate.kind == "satisfaction":
            mean = float(values.astype(float).mean()) if values.notna().any() else 0.0
            centres[covariate.name] = mean
        tried |= _columns(values, covariate, levels, centres)
        columns += _named(covariate, levels)
    kept, notes = _useful(tried, columns, people, min_n)
    return Design(tuple(kept), (*single, *notes), tuple(covariates), levels, centres)


def encoded(table: pd.DataFrame, covariates: Sequence[config.Covariate]) -> tuple[pd.DataFrame, list[str]]:
    """Return a table with its covariates as numbers beside its other columns, and the names of these columns.

    >>> late = config.Covariate(name="late", events="delivery_late")
    >>> people = pd.DataFrame({"ended": [1, 0] * 10, "late": [1.0, 0.0] * 10})
    >>> encoded(people, [late])[1]
    ['x_late']
    """
    numbers = learn(table, covariates).apply(table).add_prefix("x_")
    return table.join(numbers), list(numbers.columns)


def _levels_of(values: pd.Series[Any], people: npt.NDArray[Any], min_n: int) -> tuple[str, ...]:
    """Return the reference and the other values with columns, the most frequent first; "other" last, if any."""
    rows = values.value_counts()
    each = pd.Series(people).groupby(values.to_numpy()).nunique()
    ordered = sorted(rows.index, key=lambda value: (-rows[value], value))
    frequent = [value for n, value in enumerate(ordered) if n == 0 or each[value] >= min_n]
    rare = len(frequent) < len(ordered)
    named = [value for value in frequent if value != OTHER or not rare]
    return (*named, *([OTHER] if rare else [])) or (UNKNOWN,)


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.astype(object).where(values.notna(), UNKNOWN).astype(str)


def _columns(
    values: pd.Series[Any], covariate: config.Covariate, levels: dict[str, tuple[str, ...]], centres: dict[str, float]
) -> dict[str, Numbers]:
    """Return all columns of a covariate."""
    name = covariate.name
    if covariate.kind == "category":
        text = _texts(values)
        text = text.where(text.isin(levels[name]), OTHER if OTHER in levels[name] else levels[name][0])
        return {f"{name}={level}": (text == level).to_numpy().astype(np.float64) for level in levels[name][1:]}
    number = values.to_numpy(float)
    if covariate.kind == "satisfaction":
        missing = np.isnan(number)
        return {name: np.where(missing, 0.0, number - centres[name]), f"{name}={NO_ANSWER}": missing.astype(float)}
    return {name: number}


def _named(covariate: config.Covariate, levels: dict[str, tuple[str, ...]]) -> list[Column]:
    """Return the columns of a covariate, in the order of `_columns`."""
    name, words = covariate.name, label(covariate)
    if covariate.kind == "category":
        reference, *others = levels[name]
        return [Column(f"{name}={level}", name, f"{words}: {level}", level, reference) for level in others]
    if covariate.kind == "satisfaction":
        missing = Column(f"{name}={NO_ANSWER}", name, f"{words}: {NO_ANSWER}", NO_ANSWER, "the mean answer")
        return [Column(name, name, words, step=TENTH), missing]
    return [Column(name, name, words)]


def _useful(
    tried: dict[str, Numbers], columns: Sequence[Column], people: npt.NDArray[Any], min_n: int
) -> tuple[list[Column], list[str]]:
    """Return the columns that a model can take, and a sentence for each of the others."""
    kept: list[Column] = []
    notes: list[str] = []
    basis: list[Numbers] = []
    for column in columns:
        values = tried[column.name]
        known = ~np.isnan(values)
        found, which, counts = np.unique(values[known], return_inverse=True, return_counts=True)
        if len(found) < 2:
            notes.append(f"“{column.label}” is left out: it is the same for everyone.")
            continue
        usual = which == int(np.argmax(counts))
        who = people[known]
        apart = min(len(np.unique(who[~usual])), len(np.unique(who[usual])) if len(found) == 2 else len(who))
        if apart < min_n:
            notes.append(f"“{column.label}” is left out: fewer than {min_n} people have it, or do not have it.")
            continue
        direction = _new_direction(values, basis)
        if direction is None:
            notes.append(f"“{column.label}” is left out: it repeats the covariates before it.")
            continue
        basis.append(direction)
        kept.append(column)
    return kept, notes


def _new_direction(values: Numbers, basis: Sequence[Numbers]) -> Numbers | None:
    """Return the part of a column that the columns before it do not explain, of length 1; None when there is none."""
    left = np.nan_to_num(values - np.nanmean(values))
    left = left / max(float(np.linalg.norm(left)), 1e-300)
    for _ in range(2):  # twice, because rounding would leave a part of the others (Giraud et al. 2005)
        for other in basis:
            left = left - other * float(left @ other)
    size = float(np.linalg.norm(left))
    return None if size**2 < _SAME else left / size


def per(column: Column, covariate: config.Covariate) -> str:
    """Return what a column's ratio compares, in words.

    >>> late = config.Covariate(name="late", kind="count", events="late", label="Late delivery")
    >>> per(Column("late", "late", "Late delivery"), late)
    'each further one'
    """
    if column.level == NO_ANSWER:
        return "no answer against the mean answer"
    if column.level:
        return f"against {column.reference}"
    if covariate.kind == "satisfaction":
        return f"each {present.share(column.step, 0)} of the scale more"
    return "with against without" if covariate.kind == "any" else "each further one"
