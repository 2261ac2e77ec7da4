"""Whether segments still differ in how long people stay when what else differs between them is made equal."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as _stats
from scipy.linalg import qr
from sklearn.linear_model import LogisticRegression
from statsmodels.stats.multitest import multipletests

from journeykit.churn.compare import comparable
from journeykit.churn.curves import Z95, area, entries, from_day, result_of
from journeykit.errors import require_columns
from journeykit.stats import not_enough

ADJUSTED_COLUMNS = (
    *("segment", "reference", "n", "reference_people_n", "effective_n", "horizon_days", "unadjusted_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)
PER_COVARIATE = 10  # people of the smallest segment a covariate needs
UNLIKE = 0.25  # standard deviations by which a weighted segment may differ from all people in a covariate


def adjusted_segments(table: pd.DataFrame, names: Sequence[str], horizon: float, *, min_n: int = 20) -> pd.DataFrame:
    """Return how many days more or fewer each segment stays than the largest one, if their people were alike.

    Definition: the difference of restricted means up to `horizon` between people weighted by 1/P(segment | covariates),
    so that each segment has the covariates of all people compared; the chances are those of a multinomial logistic
    regression. The standard error is that of the weighted Kaplan–Meier area by its influence function, less what the
    estimated weights explain of it (Lunceford & Davidian 2004; Conner et al. 2019). `effective_n` is (Σw)²/Σw², the
    people that the weighted segment is worth.

    Rivals: the log-rank test stratified by covariates (`survdiff`), which says whether and not how much, and needs few
    strata; the segment's hazard ratio in a Cox model (`cox`), which must be the same at every tenure and changes when a
    covariate is added that has nothing to do with the segment; the mean of predicted curves (g-formula), which needs
    the outcome model right. Days add up, need neither, and stand beside the unadjusted difference. All of them adjust
    for what was measured only.

    Needs duration_days, ended, segment, and a column of numbers without gaps for each of `names`, known when the time
    that duration_days counts begins (`design.learn(…).apply` of a landmark table). Segments that
    `compare.compare_segments` leaves out are left out here, and so are those that weighting makes worth fewer than
    `min_n` people, or does not make alike (a covariate's mean stays a quarter of a standard deviation from that of
    all): nobody like the others is in them.

    One row per segment other than the largest: segment, reference, n, reference_people_n, effective_n, horizon_days,
    unadjusted_days, difference_days (low, high), p_value (Wald, by Holm's method).
    """
    require_columns(table.columns, ["duration_days", "ended", "segment", *names], "adjusted comparison")
    if not names:
        return not_enough(ADJUSTED_COLUMNS, "nothing to adjust for is declared; add [[churn.covariates]]")
    used = table.dropna(subset=list(names)) if len(table) else table
    kept, horizon, note = comparable(used, horizon, min_n)
    if len(kept) < 2:
        return not_enough(ADJUSTED_COLUMNS, str(table.attrs.get("reason", "")) or note)
    smallest = min(len(group) for _, group in kept)
    needed = PER_COVARIATE * len(names)
    if smallest < needed:
        few = f"n = {smallest} in the smallest segment, at least {needed} are needed for {len(names)} covariates"
        return not_enough(ADJUSTED_COLUMNS, f"not enough data ({few})")
    people = pd.concat([group.assign(_k=k) for k, (_, group) in enumerate(kept)])
    x = _standard(people[list(names)].to_numpy(float))
    if not x.shape[1]:
        return not_enough(ADJUSTED_COLUMNS, "the covariates are the same for everybody; there is nothing to adjust for")
    which = people["_k"].to_numpy(int)
    chance = _chances(x, which)
    if chance is None:
        return not_enough(ADJUSTED_COLUMNS, "the covariates tell the segments apart: nobody is alike in two of them")
    return _rows(kept, x, which, chance, horizon, min_n, note)


def _rows(
    kept: list[tuple[str, pd.DataFrame]],
    x: np.ndarray,
    which: np.ndarray,
    chance: np.ndarray,
    horizon: float,
    min_n: int,
    note: str,
) -> pd.DataFrame:
    weight = 1 / chance[np.arange(len(which)), which]
    sizes = [len(group) for _, group in kept]
    base = int(np.argmax(sizes))
    worth, means, moved, unlike = [], [], [], []
    for k, (_, group) in enumerate(kept):
        own = which == k
        worth.append(float(weight[own].sum() ** 2 / (weight[own] ** 2).sum()))
        unlike.append(float(np.abs(np.average(x[own], axis=0, weights=weight[own])).max()))
        mean, influence = _weighted(group, weight[own], horizon)
        means.append(mean)
        full = np.zeros(len(which))
        full[own] = influence
        moved.append(full)
    score = _scores(x, which, chance)
    rows, lost = [], 0
    for k, (name, group) in enumerate(kept):
        if k == base:
            continue
        if min(worth[k], worth[base]) < min_n or max(unlike[k], unlike[base]) > UNLIKE:
            lost += 1
            continue
        error = _error(moved[k] - moved[base], score)
        gap = means[k] - means[base]
        plain = area(group, horizon)[0] - area(kept[base][1], horizon)[0]
        p_value = float(2 * _stats.norm.sf(abs(gap) / error)) if error > 0 else math.nan
        bounds = np.clip([gap - Z95 * error, gap + Z95 * error], -horizon, horizon)
        rows.append([name, kept[base][0], sizes[k], sizes[base], worth[k], horizon, plain, gap, *bounds, p_value])
    if lost:
        too_few = "too few people are alike in them and the others"
        note = f"{note} {lost} segment{'s' * (lost > 1)} left out: {too_few}.".strip()
    if not rows:
        return not_enough(ADJUSTED_COLUMNS, f"not enough data ({note.rstrip('.')})")
    adjusted = multipletests([row[-1] for row in rows], method="holm")[1]
    lines = [(*row[:-1], p) for row, p in zip(rows, adjusted, strict=True)]
    return result_of(lines, ADJUSTED_COLUMNS, note, from_day(kept))


def _standard(values: np.ndarray) -> np.ndarray:
    """Covariates with mean 0 and spread 1, without those that are the same for everybody or follow from others."""
    spread = values.std(axis=0)
    kept = spread > 1e-12
    scaled = (values[:, kept] - values[:, kept].mean(axis=0)) / spread[kept]
    if not scaled.shape[1]:
        return np.asarray(scaled)
    size, order = qr(scaled, mode="r", pivoting=True)
    own = np.abs(np.diag(size)) > 1e-8 * abs(size[0, 0])
    return np.asarray(scaled[:, np.sort(order[: int(own.sum())])])


def _chances(x: np.ndarray, which: np.ndarray) -> np.ndarray | None:
    """Each person's chance of each segment; None where the covariates leave no doubt."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fit = LogisticRegression(C=math.inf, solver="newton-cholesky", max_iter=200).fit(x, which)
            chance = np.asarray(fit.predict_proba(x))
        except (Warning, ValueError, np.linalg.LinAlgError):
            return None
    return None if chance.min() < 1e-8 else chance


def _weighted(group: pd.DataFrame, weight: np.ndarray, horizon: float) -> tuple[float, np.ndarray]:
    """Return the area under the weighted Kaplan–Meier curve, and how much each person moves it."""
    first = float(group.attrs.get("from_day", 0.0))
    duration, ended = group["duration_days"].to_numpy(float), group["ended"].to_numpy(int) == 1
    entered = entries(group)
    entered = np.where(entered <= first, -1.0, entered)
    day, place = np.unique(duration[ended & (duration <= horizon)], return_inverse=True)
    ends = np.bincount(place, weights=weight[ended & (duration <= horizon)], minlength=len(day))
    at_risk = _sum_below(entered, weight, day) - _sum_below(duration, weight, day)
    share = np.concatenate([[1.0], np.cumprod(1 - ends / at_risk)])
    pieces = share * np.diff(np.concatenate([[first], day, [max(horizon, first)]]))
    after = np.cumsum(pieces[::-1])[::-1][1:]
    rate = np.concatenate([[0.0], np.cumsum(after * ends / at_risk**2)])
    # −∫ after(u)/Y(u) (dN − Y dΛ) of each person, weighted.
    through = rate[np.searchsorted(day, np.minimum(duration, horizon), side="right")]
    skipped = rate[np.searchsorted(day, entered, side="right")]
    own = np.zeros(len(group))
    own[ended & (duration <= horizon)] = (after / at_risk)[place]
    return float(pieces.sum()), weight * (through - skipped - own)


def _sum_below(values: np.ndarray, weight: np.ndarray, day: np.ndarray) -> np.ndarray:
    """The weight of people whose value is below each day."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weight[order])])
    return np.asarray(sums[np.searchsorted(values[order], day, side="left")])


def _scores(x: np.ndarray, which: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The score of each person in the regression that the weights come from."""
    with_one = np.column_stack([np.ones(len(x)), x])
    parts = [((which == k) - chance[:, k])[:, None] * with_one for k in range(1, chance.shape[1])]
    return np.hstack(parts)


def _error(influence: np.ndarray, score: np.ndarray) -> float:
    """The standard error of a sum of influences, less what the estimated weights explain of it."""
    explained = score @ np.linalg.lstsq(score.T @ score, score.T @ influence, rcond=None)[0]
    return float(math.sqrt(((influence - explained) ** 2).sum()))
