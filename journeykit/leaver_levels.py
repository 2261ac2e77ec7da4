"""How the share that leaves at a step changes with a price, a device or a group: by level, as a trend, adjusted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pandas as pd
import statsmodels.api as sm
from scipy import stats as _stats

from journeykit import engine, stats
from journeykit.funnels import NO_VALUE, OTHER, Reached
from journeykit.leaver_sides import KNOWN, design, require_by, sides, value_at, why_not

LEVELS_SHOWN = 12  # numbers with more different values are cut into groups of like size
GROUPS = 5
SURE = 0.05
RUNAWAY = 20.0  # standard error of log-odds, of a fit that does not end
EVENTS = 10  # that a term of a model needs at least, of either outcome
LEVELS = ("by", "level", "level_mean", "n", "lost_n", "lost_share", "lost_share_low", "lost_share_high")
TREND = ("by", "n", "levels_n", "per", "change_points", "change_points_low", "change_points_high", "z", "p_value")
ADJUSTED = (
    *("by", "level", "against", "n", "log_odds", "log_odds_low", "log_odds_high"),
    *("odds_ratio", "odds_ratio_low", "odds_ratio_high"),
    *("change_points", "change_points_low", "change_points_high", "p_value"),
)
_Z = float(_stats.norm.ppf(0.975))
Floats = npt.NDArray[np.float64]


def levels(reached: Reached, at: str | int, by: str, *, min_n: int = 1) -> pd.DataFrame:
    """Count what share is lost at a step, for each value that a column had there.

    The value is the one at the step of the counted attempt, or at the last step before it that has one. Who fails on a
    phone and succeeds weeks later on a laptop may count for the laptop; where people try again, visits (per "session")
    compare more sharply. Numbers with more than 12 different
    values are cut into five groups of about the same size. Units whose window is still open are left out.

    Args:
        reached: of `funnels.reach`, with the column among its `by`.
        at: label or number of the step.
        by: the column; "" (as where `leading` finds none) gives an empty table that says so.
        min_n: levels with fewer units are not shown (`attrs["left_out_n"]` units), nor those without a value.

    Returns:
        One row per level, numbers in ascending order, others by size: by, level, level_mean (the number, or the mean of
        a group; empty for words), n, lost_n, lost_share with its 95 % interval. `attrs`: step, next_step, left_out_n,
        design_effect.

    Raises:
        JourneyError: there is no such step, or `reached` was not asked for the column.

    >>> from journeykit import funnels
    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad/5 buy | u2: ad/5 | u3: ad/9")
    >>> levels(funnels.reach(log, steps=["ad", "buy"], by=["channel"]), "ad", "channel")[["level", "lost_n", "n"]]
      level  lost_n  n
    0     5       1  2
    1     9       1  1
    """
    reason = why_not(reached, at) or ("" if by else "no column tells those who stop from those who go on")
    if reason:
        return stats.not_enough(LEVELS, reason)
    counts = counted(reached, at, [by])
    counts = counts[counts[by] != NO_VALUE]
    who = sides(reached, at)
    effect = design(who.table, reached)
    values = numbers(counts[by])
    if values is None:
        table = counts.assign(level=counts[by], level_mean=math.nan)
        table = table.sort_values(["n", "level"], ascending=[False, True])
    else:
        table = _grouped(counts.assign(level_mean=values), by)
    shown = table["n"] >= max(min_n, 1)
    left_out = int(table.loc[~shown, "n"].sum())
    if not shown.any():
        largest = int(table["n"].max()) if len(table) else 0
        reason = f"not enough data (largest level n = {largest}, at least {max(min_n, 1)} are needed)"
        return stats.not_enough(LEVELS, reason)
    table = table[shown].reset_index(drop=True).assign(by=by)
    bounds = [stats.wilson(k / effect, n / effect) for k, n in zip(table["lost_n"], table["n"], strict=True)]
    table["lost_share"] = table["lost_n"] / table["n"]
    table["lost_share_low"], table["lost_share_high"] = ([bound[side] for bound in bounds] for side in (0, 1))
    table = table[list(LEVELS)]
    table.attrs.update(left_out_n=left_out, step=who.step, next_step=who.next_step, design_effect=effect)
    return table


def leading(reached: Reached, at: str | int, *, most: int = 3) -> list[str]:
    """Return the columns whose values go most surely with leaving at a step, the surest first.

    By the chi-square test of the shares lost at all levels with ten or more of either outcome; sure is a p-value below
    0.05 over the number of columns. Columns that are empty for more than one in five are left out.

    Args:
        reached: of `funnels.reach`; the columns are its `by`.
        at: label or number of the step.
        most: how many at most.
    """
    found = []
    for by in reached.columns if not why_not(reached, at) else ():
        counts = counted(reached, at, [by])
        known = counts[counts[by] != NO_VALUE]
        if known["n"].sum() < KNOWN * counts["n"].sum():
            continue
        values = numbers(known[by])
        table = _grouped(known.assign(level_mean=values), by) if values is not None else known
        cells = np.column_stack([table["lost_n"], table["n"] - table["lost_n"]])
        cells = cells[(cells >= EVENTS).all(axis=1)]
        if len(cells) > 1:
            effect = design(sides(reached, at).table, reached)
            found.append((float(_stats.chi2_contingency(cells / effect, correction=False)[1]), by))
    return [by for p_value, by in sorted(found)[:most] if p_value < SURE / len(found)]


def trend(table: pd.DataFrame) -> pd.DataFrame:
    """Test whether the share lost rises or falls with a number (Cochran–Armitage).

    The change is the slope of the straight line through the shares lost, weighted by n, with an interval that holds
    whatever the shape; `per` is the round number next to the standard deviation, so that the change is one that
    happens. The p-value is that of the test of no trend (Cochran 1954, Armitage 1955). Rival: comparing all levels
    without their order, which needs a larger difference to see it.

    Args:
        table: of `levels`.

    Returns:
        One row: by, n, levels_n, per, change_points of the share lost per `per`, z, p_value. `attrs` of the table.
    """
    rows = table.dropna(subset="level_mean") if len(table) else table
    if len(rows) < 3:
        reason = stats.reason_of(table) or "a trend needs three levels that are numbers"
        return stats.not_enough(TREND, reason)
    effect = float(table.attrs.get("design_effect", 1.0))
    t, n, k = (rows[name].to_numpy(dtype=float) for name in ("level_mean", "n", "lost_n"))
    total = n.sum()
    spread = t - (n * t).sum() / total
    squares = float((n * spread**2).sum())
    overall = float(k.sum() / total)
    slope = float((spread * k).sum() / squares)
    p = k / n
    error = math.sqrt(effect * float((n * spread**2 * p * (1 - p)).sum())) / squares
    even = math.sqrt(effect * overall * (1 - overall) * squares)
    z = float((spread * k).sum()) / even if even > 0 else 0.0
    per = round_number(math.sqrt(squares / total))
    change = [100 * per * x for x in (slope, slope - _Z * error, slope + _Z * error)]
    row = [rows["by"].iloc[0], int(total), len(rows), per, *change, z, float(2 * _stats.norm.sf(abs(z)))]
    found = pd.DataFrame([row], columns=list(TREND))
    found.attrs.update(table.attrs)
    return found


def adjusted(reached: Reached, at: str | int, by: Sequence[str], *, min_n: int = 1) -> pd.DataFrame:
    """Estimate how each of several columns goes with leaving at a step while the others are held equal.

    Logistic regression on counts, of all units whose values are known in every column. Columns of three or more numbers
    are lines on the scale of log-odds, per the round number next to their standard deviation; others compare each level
    with the most frequent one. Levels with fewer than 10 that stopped or went on are joined as "(other)", or left out.
    The change in percentage points is the average over all units, with the interval of the delta method. Rival: shares
    by level, in which a device that is used where prices are high shows the price.

    What is not among the columns is not held equal, so this is still an association.

    Args:
        reached: of `funnels.reach`, with the columns among its `by`.
        at: label or number of the step.
        by: the columns.
        min_n: levels of fewer units are not shown.

    Returns:
        One row per number, and per level of the others: by, level (of numbers "per 10"), against (the level compared
        with, "" of numbers), n (units at the level; of numbers all), log_odds of leaving, odds_ratio, change_points of
        the share lost, p_value. `attrs`: step, next_step, n, left_out_n (units without a value), design_effect.

    Raises:
        JourneyError: there is no such step, or `reached` was not asked for a column.
    """
    if why_not(reached, at):
        return stats.not_enough(ADJUSTED, why_not(reached, at))
    every = counted(reached, at, list(by))
    known = every[(every[list(by)] != NO_VALUE).all(axis=1)] if by else every
    who = sides(reached, at)
    terms, matrix, known = _terms(known, list(by), min_n)
    lost, n = known["lost_n"].to_numpy(dtype=float), known["n"].to_numpy(dtype=float)
    few = min(lost.sum(), (n - lost).sum())
    if not terms or few < EVENTS * (len(terms) + 1):
        reason = f"not enough data ({few:.0f} of the rarer outcome, {len(terms)} terms; ten of it for each are needed)"
        return stats.not_enough(ADJUSTED, reason if terms else "not enough data (no column has two levels to compare)")
    effect = design(who.table, reached)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that is exact, or that runs away, which is seen below
        model = sm.GLM(np.column_stack([lost, n - lost]), matrix, family=sm.families.Binomial()).fit()
    beta, covariance = np.asarray(model.params), np.asarray(model.cov_params()) * effect
    if not (model.converged and np.sqrt(np.diag(covariance)).max() < RUNAWAY):
        return stats.not_enough(
            ADJUSTED, "the columns tell all who stop from all who go on, so no odds can be estimated"
        )
    rows = []
    for j, term in enumerate(terms, start=1):
        error = math.sqrt(covariance[j, j])
        log_odds = [float(beta[j] + x * error) for x in (0, -_Z, _Z)]
        change = _change(matrix, n, beta, covariance, j, terms)
        p_value = float(2 * _stats.norm.sf(abs(beta[j]) / error))
        rows.append([*term[:3], term[3], *log_odds, *np.exp(log_odds), *[100 * x for x in change], p_value])
    table = pd.DataFrame(rows, columns=list(ADJUSTED))
    left_out = int(every["n"].sum() - known["n"].sum())
    table.attrs.update(
        step=who.step, next_step=who.next_step, n=int(n.sum()), left_out_n=left_out, design_effect=effect
    )
    return table


def counted(reached: Reached, at: str | int, by: list[str]) -> pd.DataFrame:
    """Count who stood at a step and who was lost there, for each combination of values: the columns, n, lost_n."""
    require_by(reached, by, "leavers by level")
    who = sides(reached, at)
    keys = [f"_{n}" for n in range(len(by))]
    values = {key: value_at(name, who.number) for key, name in zip(keys, by, strict=True)}
    table = who.table.with_columns(**values, _one=nw.col("left") * 0 + 1)
    sums = table.group_by(*(keys or ["_one"])).agg(n=nw.col("_one").sum(), lost_n=nw.col("left").sum())
    found = engine.fetch(sums).rename(columns=dict(zip(keys, by, strict=True)))
    return found.astype({"n": "int64", "lost_n": "int64"}).sort_values(list(by) or ["n"], ignore_index=True)


def numbers(values: pd.Series) -> pd.Series | None:
    """Return a column of texts as numbers, or None when one is none, or there are fewer than three."""
    found = pd.to_numeric(values, errors="coerce").astype(float)
    fine = len(found) and np.isfinite(found).all() and found.nunique() >= 3
    return found if fine else None


def round_number(value: float) -> float:
    """Return the number 1, 2 or 5 times a power of ten that is nearest to a positive number, by ratio.

    >>> round_number(12.3), round_number(0.4), round_number(2600)
    (10.0, 0.5, 2000.0)
    """
    if value <= 0:
        return 1.0
    power = math.floor(math.log10(value))
    near = [m * 10.0**p for p in (power, power + 1) for m in (1, 2, 5)]
    return min(near, key=lambda x: abs(math.log(x / value)))


def _grouped(counts: pd.DataFrame, by: str) -> pd.DataFrame:
    """Numbers in ascending order: each of them, or of many five groups of like size."""
    counts = counts.sort_values("level_mean")
    if counts["level_mean"].nunique() <= LEVELS_SHOWN:
        # "9.9" and "9.90" are one number.
        columns = {"level": (by, "first"), "n": ("n", "sum"), "lost_n": ("lost_n", "sum")}
        return counts.groupby("level_mean", as_index=False).agg(**columns)
    middle = (counts["n"].cumsum() - counts["n"] / 2) / counts["n"].sum()
    group, mean = (middle * GROUPS).astype(int), counts["level_mean"]
    parts = counts.assign(low=mean, high=mean, total=mean * counts["n"]).groupby(group)
    sums = parts.agg({"low": "min", "high": "max", "n": "sum", "lost_n": "sum", "total": "sum"})
    names = [f"{low:g} to {high:g}" for low, high in zip(sums["low"], sums["high"], strict=True)]
    return sums.assign(level=names, level_mean=sums["total"] / sums["n"]).reset_index(drop=True)


def _terms(
    counts: pd.DataFrame, by: list[str], min_n: int
) -> tuple[list[tuple[str, str, str, int]], Floats, pd.DataFrame]:
    """Return the terms of a model (by, level, against, n), its matrix after an intercept, and the rows it is of."""
    for name in by:
        if numbers(counts[name]) is None:
            counts = _joined(counts, name, min_n)
    terms: list[tuple[str, str, str, int]] = []
    columns = [np.ones(len(counts))]
    n = counts["n"].to_numpy(dtype=float)
    for name in by:
        values = numbers(counts[name])
        if values is not None:
            x = values.to_numpy()
            mean = float((x * n).sum() / n.sum())
            per = round_number(math.sqrt(float((n * (x - mean) ** 2).sum() / n.sum())))
            new = [((name, f"per {per:g}", "", int(n.sum())), (x - mean) / per)]
        else:
            sizes = counts.groupby(name)["n"].sum().sort_index().sort_values(ascending=False, kind="stable")
            first = str(sizes.index[0]) if len(sizes) else ""
            new = [
                ((name, str(level), first, int(sizes[level])), (counts[name] == level).to_numpy(dtype=float))
                for level in sizes.index[1:]
            ]
        for term, column in new:
            # What the terms before it say together is no term of its own.
            if np.linalg.matrix_rank(np.column_stack([*columns, column])) > len(columns):
                terms.append(term)
                columns.append(column)
    return terms, np.column_stack(columns), counts


def _joined(counts: pd.DataFrame, name: str, min_n: int) -> pd.DataFrame:
    """Join the levels of which too few stopped or went on; what is still too few together is left out."""
    for _ in range(2):
        sums = counts.groupby(name)[["n", "lost_n"]].sum()
        rare = (sums["lost_n"] < EVENTS) | (sums["n"] - sums["lost_n"] < EVENTS) | (sums["n"] < min_n)
        if OTHER in rare.index and rare[OTHER]:
            return counts[counts[name] != OTHER]
        counts = counts.assign(**{name: counts[name].where(~counts[name].map(rare), OTHER)})
    return counts


def _change(
    matrix: Floats, n: Floats, beta: Floats, covariance: Floats, j: int, terms: list[tuple[str, str, str, int]]
) -> tuple[float, float, float]:
    """The average change of the share lost that goes with a term, over all units, by the delta method.

    Of a number, by one unit more; of a level, from the level compared with to this one, the others as they are.
    """
    by, _, against, _ = terms[j - 1]
    zero, one = matrix.copy(), matrix.copy()
    if against:
        same = [i for i, term in enumerate(terms, start=1) if term[0] == by]
        zero[:, same], one[:, same] = 0.0, 0.0
        one[:, j] = 1.0
    else:
        zero[:, j], one[:, j] = matrix[:, j] - 0.5, matrix[:, j] + 0.5
    p, q = (1 / (1 + np.exp(-(part @ beta))) for part in (one, zero))
    weights = n / n.sum()
    change = float((weights * (p - q)).sum())
    slope = (weights * p * (1 - p)) @ one - (weights * q * (1 - q)) @ zero
    error = math.sqrt(float(slope @ covariance @ slope))
    return change, change - _Z * error, change + _Z * error
