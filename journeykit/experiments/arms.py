"""What is averaged in an arm: its units, or the sums of its clusters, with what they were before the exposure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tea_tasting.aggr import Aggregates

from journeykit.config import Metric
from journeykit.experiments.measures import PER, PER_BEFORE
from journeykit.experiments.units import CLUSTER, COVARIATE

Array = np.ndarray[Any, np.dtype[np.float64]]


class Arm(NamedTuple):
    """An arm's units, or its clusters: numerators `y`, denominators `x`, and the same from before the exposure."""

    y: Array
    x: Array | None = None
    y0: Array | None = None
    x0: Array | None = None

    @property
    def ratio(self) -> float:
        return float(self.y.mean() if self.x is None else self.y.sum() / self.x.sum())

    def linear(self) -> Array:
        """One value per unit, whose mean is the ratio and whose variance is the delta method's."""
        return _linear(self.y, self.x)

    def beside(self, other: Arm) -> Arm:
        """Both arms as one."""
        sides: Any = zip(self, other, strict=True)
        columns: list[Any] = [None if one is None else np.concatenate([one, two]) for one, two in sides]
        return Arm(*columns)

    def linear_before(self) -> Array:
        return self.y * 0 if self.y0 is None else _linear(self.y0, self.x0)


def arms_of(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric, covariate: str = "") -> tuple[Arm, Arm]:
    """Return what is averaged in both arms: their units, or the sums of their clusters where units have a `cluster`.

    Args:
        control: units of the control arm.
        treatment: those of the other arm.
        metric: a metric that is a mean or a ratio.
        covariate: `<metric>__before` or `touches_before`, "" for none. Where it is null (no answer before), it counts
            as the mean of both arms, which says nothing about the arm and leaves the effect as it is.
    """
    sides = [control, treatment]
    if covariate and any(side[covariate].hasnans for side in sides):
        mean = pd.concat([side[covariate] for side in sides]).mean()
        sides = [side.assign(**{covariate: side[covariate].fillna(mean)}) for side in sides]
    return _arm_of(sides[0], metric, covariate), _arm_of(sides[1], metric, covariate)


def _arm_of(rows: pd.DataFrame, metric: Metric, covariate: str) -> Arm:
    columns = {"y": rows[metric.name].to_numpy(float)}
    if metric.kind == "ratio":
        columns["x"] = rows[metric.name + PER].to_numpy(float)
    if covariate:
        columns["y0"] = rows[covariate].to_numpy(float)
        if metric.kind == "ratio" and covariate != COVARIATE:
            columns["x0"] = rows[metric.name + PER_BEFORE].to_numpy(float)
    if CLUSTER in rows.columns:
        ones = np.ones(len(rows))
        columns.setdefault("x", ones)
        if covariate:
            columns.setdefault("x0", ones)
        columns = {name: _sums(rows[CLUSTER], values) for name, values in columns.items()}
    return Arm(columns["y"], columns.get("x"), columns.get("y0"), columns.get("x0"))


def aggregates(arm: Arm) -> Aggregates:
    """Return the count, means, variances and covariances of an arm, which is all that tea-tasting works from."""
    columns = {name: values for name, values in arm._asdict().items() if values is not None}
    names = sorted(columns)
    spread = np.atleast_2d(np.cov(np.vstack([columns[name] for name in names])))
    place = {name: number for number, name in enumerate(names)}
    return Aggregates(
        count_=len(arm.y),
        mean_={name: float(columns[name].mean()) for name in names},
        var_={name: float(spread[place[name], place[name]]) for name in names},
        cov_={(a, b): float(spread[place[a], place[b]]) for a in names for b in names if a < b},
    )


def _linear(y: Array, x: Array | None) -> Array:
    if x is None:
        return y
    ratio = float(y.sum() / x.sum())
    return ratio + (y - ratio * x) / float(x.mean())


def _sums(clusters: pd.Series, values: Array) -> Array:
    codes, _ = pd.factorize(clusters, sort=True)
    return np.bincount(codes, weights=values).astype(float)
