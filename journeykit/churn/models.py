"""Four models of who leaves when, behind one call: learned on person-periods, asked about people who are there now.

In order of simplicity:

- Kaplan–Meier: one curve for everybody, read off from a person's tenure on. It is the null that others must beat.
- Cox: the same curve, made steeper or flatter by covariates as they were at the start of each period.
- Discrete-time hazard: a logistic regression of leaving in a period, one level a period of tenure (Allison 1982).
- Gradient boosting: trees in place of the sum, which may find what depends on what else.

All of them hold a person's covariates as they are now, and none knows of tenures that nobody was seen at: what comes
after is taken to go on as the last months seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from lifelines.exceptions import ConvergenceError
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from journeykit import config
from journeykit.churn import design
from journeykit.churn.baseline import MIN_AT_RISK, Cumulative, curve, last_day
from journeykit.errors import require_columns

NULL, COX, HAZARD, BOOSTING = NAMES = ("Kaplan–Meier", "Cox", "Discrete-time hazard", "Gradient boosting")
MIN_ENDS = 10  # leavers for each number that is estimated (Peduzzi et al. 1995), and for a level of tenure
BOOSTING_ENDS = 100  # trees need more
MOST = 100_000  # people that trees learn from: of more, so many are drawn
UNSETTLED = "the model did not settle on one answer (too few people, or covariates that nearly repeat each other)"
SHORTEST = 1e-5  # days, about a second: the shortest time at risk
LARGE = 5.0  # an effect of so many log-odds a standard deviation is no estimate but a sign of perfect separation


class Model(Protocol):
    """What every model answers."""

    def survival(self, people: pd.DataFrame, days: Sequence[float]) -> np.ndarray:
        """Return the probability to be still there `days` from now, given being there now.

        Args:
            people: needs `tenure_days` and the covariates (as `covariates.known` gives them), as they are now.
            days: from now, ascending.

        Returns:
            A row a person, a column a day.
        """
        ...


@dataclass(frozen=True)
class Training:
    """Person-periods made ready, so that a bootstrap need not do it again."""

    rows: pd.DataFrame  # from_days, to_days, ended, period, person (0, 1, …), in a fixed order
    x: pd.DataFrame  # one column a number of the design
    learned: Any  # design.Design
    names: tuple[str, ...]  # columns of the design that leavers say something about
    levels: np.ndarray  # the level of tenure of each period; later periods have the last one
    last_days: float  # the tenure that the curve is read up to
    width_days: float
    people_n: int
    ends_n: int
    notes: tuple[str, ...]


def training(
    rows: pd.DataFrame, covariates: Sequence[config.Covariate], *, width_days: float = 30.0, min_n: int = 5
) -> Training:
    """Make person-period rows ready to learn from.

    Neighbouring periods become one level of tenure until each level has 10 leavers; later periods have the last level.
    Columns that all leavers have, or none, have no finite effect: they are left out, and `notes` says so.

    Args:
        rows: of `periods.person_periods`, fetched: needs person_id, period, from_days, to_days, ended and a column a
            covariate.
        covariates: as declared.
        width_days: of a period, as the rows were made.
        min_n: a value of a category of fewer people is no column of its own.
    """
    names = [covariate.name for covariate in covariates]
    require_columns(rows.columns, ["person_id", "period", "from_days", "to_days", "ended", *names], "churn models")
    rows = rows.sort_values(["person_id", "period"], ignore_index=True)
    learned = design.learn(rows, covariates, min_n=min_n)
    x = learned.apply(rows)
    known, notes = _with_both(x, rows["ended"].to_numpy(int), learned)
    base = pd.DataFrame(
        {
            "from_days": rows["from_days"].to_numpy(float),
            "to_days": np.maximum(rows["to_days"].to_numpy(float), rows["from_days"].to_numpy(float) + SHORTEST),
            "ended": rows["ended"].to_numpy(int),
            "period": rows["period"].to_numpy(int),
            "person": pd.factorize(rows["person_id"])[0],
        }
    )
    return Training(
        base, x, learned, tuple(known), _levels(base), last_day(base), float(width_days),
        int(base["person"].max() + 1) if len(base) else 0, int(base["ended"].sum()), (*learned.notes, *notes),
    )  # fmt: skip


def fit(name: str, seen: Training, *, seed: int = 0) -> tuple[Model | None, str]:
    """Learn one of `NAMES`; return it and "", or None and a sentence that says why it cannot be learned.

    Args:
        name: of the model.
        seen: of `training`.
        seed: of what is random in it.
    """
    reason = why_not(name, seen)
    return (None, reason) if reason else _made(name, seen, np.ones(len(seen.rows)), seed)


def again(name: str, model: Model, seen: Training, weights: np.ndarray, *, seed: int) -> Model | None:
    """Learn a model again from a resample, for the spread of what it says; None where that does not settle.

    Cox is not fitted again, which takes a hundred times as long: its effects are drawn from their normal distribution,
    and its curve is that of the resample.

    Args:
        name: of the model.
        model: as `fit` made it.
        seen: of `training`.
        weights: how often each person counts.
        seed: of what is drawn.
    """
    each = weights[seen.rows["person"].to_numpy()]
    if isinstance(model, Proportional):
        effects = np.random.default_rng(seed).multivariate_normal(model.effects, model.errors)
        return _proportional(seen, each, effects, model.errors)
    return _made(name, seen, each, seed)[0]


def _made(name: str, seen: Training, each: np.ndarray, seed: int) -> tuple[Model | None, str]:
    makers: dict[str, Callable[[Training, np.ndarray, int], Model]] = {
        NULL: lambda s, w, _: Curve(curve(s.rows, w, s.last_days)),
        COX: _cox,
        HAZARD: _logistic,
        BOOSTING: _boosting,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return makers[name](seen, each, seed), ""
        except (ConvergenceError, np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return None, UNSETTLED


def why_not(name: str, seen: Training) -> str:
    """Return why a model cannot be learned from so little, or ""."""
    if seen.people_n < MIN_AT_RISK or seen.last_days <= 0:
        return f"not enough data (n = {seen.people_n} people to learn from, at least {MIN_AT_RISK} are needed)"
    people = "person" if seen.ends_n == 1 else "people"
    if seen.ends_n < MIN_ENDS:
        return f"not enough data ({seen.ends_n} {people} left, at least {MIN_ENDS} are needed)"
    if name == NULL:
        return ""
    if not seen.names:
        return " ".join(["no covariate can be used.", *seen.notes]).strip()
    needed = BOOSTING_ENDS if name == BOOSTING else MIN_ENDS * len(seen.names)
    if seen.ends_n < needed:
        what = "trees" if name == BOOSTING else f"{len(seen.names)} columns of covariates"
        return f"not enough data ({seen.ends_n} {people} left, at least {needed} are needed for {what})"
    return ""


@dataclass(frozen=True)
class Curve:
    """Kaplan–Meier: S(tenure + t) / S(tenure)."""

    cumulative: Cumulative

    def survival(self, people: pd.DataFrame, days: Sequence[float]) -> np.ndarray:
        tenure = people["tenure_days"].to_numpy(float)[:, None]
        return np.exp(self.cumulative(tenure) - self.cumulative(tenure + np.asarray(days, dtype=float)))


@dataclass(frozen=True)
class Proportional:
    """Cox: the curve's hazard times each person's ratio."""

    cumulative: Cumulative
    effects: np.ndarray
    errors: np.ndarray  # covariances of the effects
    centre: np.ndarray
    names: tuple[str, ...]
    learned: Any

    def survival(self, people: pd.DataFrame, days: Sequence[float]) -> np.ndarray:
        x = self.learned.apply(people)[list(self.names)].to_numpy(float)
        ratio = np.exp((x - self.centre) @ self.effects)[:, None]
        tenure = people["tenure_days"].to_numpy(float)[:, None]
        return np.exp(ratio * (self.cumulative(tenure) - self.cumulative(tenure + np.asarray(days, dtype=float))))


@dataclass(frozen=True)
class Hazard:
    """A chance of leaving in each period, which is spread evenly over the period."""

    chance: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of a matrix of the design and levels of tenure
    levels: np.ndarray
    width_days: float
    names: tuple[str, ...]
    learned: Any

    def survival(self, people: pd.DataFrame, days: Sequence[float]) -> np.ndarray:
        wanted = np.asarray(days, dtype=float)
        tenure = people["tenure_days"].to_numpy(float)
        if not len(tenure):
            return np.ones((0, len(wanted)))
        x = self.learned.apply(people)[list(self.names)].to_numpy(float)
        first = np.floor(tenure / self.width_days).astype(int)
        total = np.zeros((len(tenure), len(wanted)))
        for step in range(int(np.ceil(wanted.max(initial=0.0) / self.width_days)) + 1):
            level = self.levels[np.minimum(first + step, len(self.levels) - 1)]
            rate = -np.log1p(-np.clip(self.chance(x, level), 1e-12, 1 - 1e-9)) / self.width_days
            begins = np.maximum((first + step) * self.width_days - tenure, 0.0)[:, None]
            ends = ((first + step + 1) * self.width_days - tenure)[:, None]
            total += rate[:, None] * np.clip(np.minimum(ends, wanted) - begins, 0.0, None)
        return np.exp(-total)


def _cox(seen: Training, each: np.ndarray, _seed: int) -> Model:
    names = list(seen.names)
    # Whole days: among a hundred thousand moments of their own, each of which counts who was there, this takes minutes.
    begins, ends = np.floor(seen.rows["from_days"]), np.ceil(seen.rows["to_days"])
    data = seen.x[names].assign(_from=begins, _to=ends, _ended=seen.rows["ended"])
    model = CoxPHFitter().fit(data, "_to", "_ended", entry_col="_from")
    effects, errors = model.params_.reindex(names).to_numpy(float), model.variance_matrix_.to_numpy(float)
    _check(effects, seen.x[names])
    return _proportional(seen, each, effects, errors)


def _proportional(seen: Training, each: np.ndarray, effects: np.ndarray, errors: np.ndarray) -> Proportional:
    x = seen.x[list(seen.names)].to_numpy(float)
    centre = x.mean(axis=0)
    # Of lifelines, the curve takes all rows for there from the start, whenever they entered.
    cumulative = curve(seen.rows, each, seen.last_days, np.exp((x - centre) @ effects))
    return Proportional(cumulative, effects, errors, centre, seen.names, seen.learned)


def _logistic(seen: Training, each: np.ndarray, _seed: int) -> Model:
    x, level = seen.x[list(seen.names)].to_numpy(float), _level(seen)
    many = int(seen.levels.max()) + 1
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", max_iter=200, fit_intercept=False)
    kept, ended = each > 0, seen.rows["ended"].to_numpy(int)
    model.fit(np.hstack([np.eye(many)[level], x])[kept], ended[kept], (each * _exposure(seen))[kept])
    base, effects = model.coef_[0][:many], model.coef_[0][many:]
    _check(effects, seen.x[list(seen.names)])

    def chance(columns: np.ndarray, levels: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-np.clip(base[levels] + columns @ effects, -30, 30))))

    return Hazard(chance, seen.levels, seen.width_days, seen.names, seen.learned)


def _boosting(seen: Training, each: np.ndarray, seed: int) -> Model:
    x, level = seen.x[list(seen.names)].to_numpy(float), _level(seen)
    if seen.people_n > MOST:
        drawn = np.random.default_rng(seed).permutation(seen.people_n) < MOST
        each = each * drawn[seen.rows["person"].to_numpy()]
    kept, ended = each > 0, seen.rows["ended"].to_numpy(int)
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=100, max_leaf_nodes=8, min_samples_leaf=50, l2_regularization=1.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    with threadpool_limits(limits=1, user_api="openmp"):  # the same sums on every machine
        model.fit(np.column_stack([level, x])[kept], ended[kept], (each * _exposure(seen))[kept])

    def chance(columns: np.ndarray, levels: np.ndarray) -> np.ndarray:
        asked, place = np.unique(np.column_stack([levels, columns]), axis=0, return_inverse=True)
        with threadpool_limits(limits=1, user_api="openmp"):
            return np.asarray(model.predict_proba(asked)[:, 1])[place.ravel()]

    return Hazard(chance, seen.levels, seen.width_days, seen.names, seen.learned)


def _level(seen: Training) -> np.ndarray:
    return np.asarray(seen.levels[seen.rows["period"].to_numpy()])


def _exposure(seen: Training) -> np.ndarray:
    """How much of its period a row was at risk for; who left counts whole, as in an actuarial life table."""
    part = (seen.rows["to_days"] - seen.rows["from_days"]).to_numpy(float) / seen.width_days
    return np.where(seen.rows["ended"].to_numpy() == 1, 1.0, np.clip(part, SHORTEST, 1.0))


def _check(effects: np.ndarray, x: pd.DataFrame) -> None:
    if not np.isfinite(effects).all() or (np.abs(effects) * x.std(ddof=0).to_numpy(float)).max() > LARGE:
        raise np.linalg.LinAlgError(UNSETTLED)


def _with_both(x: pd.DataFrame, ended: np.ndarray, learned: Any) -> tuple[list[str], list[str]]:
    """The columns that have a finite effect, and a sentence for each that has none."""
    labels = {column.name: column.label for column in learned.columns}
    kept, notes = [], []
    for name in x.columns:
        values, of_leavers = np.unique(x[name]), np.unique(x.loc[ended == 1, name])
        if len(values) < 2:
            notes.append(f"“{labels.get(name, name)}” is left out: it is the same for everyone.")
        elif len(values) == 2 and len(of_leavers) == 1:
            who = "everybody" if of_leavers[0] == values.max() else "nobody"
            notes.append(f"“{labels.get(name, name)}” is left out: {who} who left had it, so that it has no estimate.")
        else:
            kept.append(name)
    return kept, notes


def _levels(rows: pd.DataFrame) -> np.ndarray:
    """Give each period its level of tenure: neighbours share one until it has enough leavers."""
    if rows.empty:
        return np.zeros(1, dtype=int)
    ends = np.bincount(rows["period"].to_numpy(), weights=rows["ended"].to_numpy(float))
    levels, level, seen, left = np.zeros(len(ends), dtype=int), 0, 0.0, float(ends.sum())
    for period, count in enumerate(ends):
        if seen >= MIN_ENDS and left >= MIN_ENDS:
            level, seen = level + 1, 0.0
        levels[period] = level
        seen, left = seen + count, left - count
    return levels
