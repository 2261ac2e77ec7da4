"""After which silence a customer without a contract counts as gone: who comes back, and what the choice changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.churn import curves, silence, spells
from journeykit.churn.silence import HOURS, gaps, threshold
from journeykit.config import Churn, seconds
from journeykit.journey_map import microseconds
from journeykit.stats import not_enough, wilson

__all__ = ["gaps", "reactivation_curve", "sensitivity", "threshold"]
BY_EVENT = "leaving is an event here, so no silence has to be judged"
CURVE_COLUMNS = (
    *("quiet_days", "silences_n", "people_n", "within_days"),
    *("return_share", "return_share_low", "return_share_high", "chosen"),
)
SENSITIVITY_COLUMNS = (
    *("quiet_days", "chosen", "n", "ended_n", "horizon_days"),
    *("survival_share", "survival_share_low", "survival_share_high"),
    *("median_days", "median_days_low", "median_days_high"),
    *("came_back_n", "came_back_share", "came_back_share_low", "came_back_share_high"),
)
POINTS = 40  # silences that the curve is computed for
SAMPLED = 50_000  # people whose spread says that of all: the error of that is below 2 %
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)


def reactivation_curve(touches: Any, plan: Churn, *, as_of: Any, min_n: int = 20) -> pd.DataFrame:
    """Return the share that comes back within `returns_within` (H), given silence for so many days (τ).

    Definition: 1 − Ŝ(τ+H)/Ŝ(τ), Ŝ the Kaplan–Meier curve of all silences, those still open at `as_of` censored there
    (see `silence.gaps`). A point is shown while at least `min_n` silences were followed to τ+H. The interval takes the
    silences of one person as alike: the variance of log Ŝ(τ+H)/Ŝ(τ) is the sum over people of their squared influence
    (Ying & Wei 1994), on the scale log(−log). Rivals: Greenwood's formula over silences, which takes 50 silences of one
    person for 50 people; a bootstrap over people, which needs every silence in memory. Of more than 50,000 people, that
    sum is taken over every k-th and scaled up; the shares are of all.

    Needs `person_id`, `event`, `timestamp` and the columns of the total order. Counted in the engine.

    One row per τ (40 at most, and the chosen one): quiet_days, silences_n (that lasted so long), people_n (who had
    one), within_days (H), return_share with low and high, chosen (whether it is the silence of `[churn]`). `.attrs`:
    "quiet_days" (chosen; nan where none is found), "read_days" (what the curve says, also where `quiet` is written),
    "quantile_days" (the 95 % quantile of completed silences, a rival that leaves out those who never came back),
    "quantile_return_share" (who still comes back after it), "people_n".

    Raises:
        JourneyError: a column is missing.
    """
    if plan.kind == "contract":
        return not_enough(CURVE_COLUMNS, BY_EVENT)
    with engine.scratch():
        rows = engine.keep(silence.in_hours(touches, plan, microseconds(as_of)), "silences")
        return _curve(rows, plan, min_n)


def _curve(silences: nw.LazyFrame[Any], plan: Churn, min_n: int) -> pd.DataFrame:
    within = seconds(plan.returns_within) / 86_400
    table = silence.counted(silences)
    if table.empty:
        return not_enough(CURVE_COLUMNS, table.attrs["reason"])
    quantile = _quantile(table)
    read = silence.quiet_days(table, plan, min_n)
    chosen = seconds(plan.quiet) / 86_400 if plan.quiet else read
    tried = _tried(table, plan, within, min_n)
    if not len(tried):
        return not_enough(
            CURVE_COLUMNS,
            f"not enough data (fewer than {min_n} silences were followed for {within:g} days, in which coming back "
            "counts)",
        )
    days = np.unique([*tried, *([chosen] if chosen <= tried[-1] else [])])
    before, lasted = silence.still_quiet(table, days)
    after, _ = silence.still_quiet(table, days + within)
    total, *people = _people(silences, np.array([0.0, *days])).tolist()
    variance = _variance(silences, table, days, within, total)
    rows = []
    for k, day in enumerate(days):
        ratio = float(after[k] / before[k]) if before[k] > 0 else 0.0
        low, high = _bounds(ratio, float(variance[k]), people[k])
        rows.append((day, int(lasted[k]), people[k], within, 1 - ratio, low, high, bool(day == chosen)))
    result = pd.DataFrame(rows, columns=list(CURVE_COLUMNS))
    result["quiet_days"] = curves.whole(result["quiet_days"])
    result = result[result["people_n"] >= max(min_n, 1)].reset_index(drop=True)
    if result.empty:
        return not_enough(CURVE_COLUMNS, f"not enough data (fewer than {min_n} people were quiet for so long)")
    ratios = [silence.still_quiet(table, np.array([day]))[0][0] for day in (quantile, quantile + within)]
    back = 1 - ratios[1] / ratios[0] if ratios[0] > 0 and quantile <= tried[-1] else math.nan
    result.attrs = {
        "quiet_days": chosen,
        "read_days": read,
        "quantile_days": quantile,
        "quantile_return_share": float(back),
        "people_n": total,
    }
    return result


def sensitivity(
    touches: Any,
    plan: Churn,
    *,
    as_of: Any,
    quiet_days: float | None = None,
    factors: Sequence[float] = FACTORS,
    min_n: int = 20,
) -> pd.DataFrame:
    """Return what the chapter's figures would be if a shorter or a longer silence counted as leaving.

    One row per silence (`quiet_days`, or what `[churn]` says, times each of `factors`): quiet_days, chosen, n (people
    whose leaving can be known), ended_n, horizon_days, survival_share (still there at `horizon`, Kaplan–Meier, low,
    high), median_days (low, high; empty where half never left), came_back_n (of ended_n, active again by `as_of`) and
    came_back_share (low, high: Wilson). Who left late in the data has had less time to come back, so that the share is
    a lower bound. Silences for which fewer than `min_n` people remain are left out.
    """
    if plan.kind == "contract":
        return not_enough(SENSITIVITY_COLUMNS, BY_EVENT)
    chosen = threshold(touches, plan, as_of=as_of, min_n=min_n) if quiet_days is None else float(quiet_days)
    rows = []
    for factor in factors if math.isfinite(chosen) else ():
        found = spells.of(touches, plan, as_of=as_of, quiet_days=chosen * factor)
        curve = curves.survival_curve(found, times=[plan.horizon_days], min_n=min_n) if len(found) >= min_n else found
        if len(found) < min_n:
            continue
        blank = (math.nan,) * 3
        middle = curves.median_table(found, min_n=min_n)
        ended, back = int(found["ended"].sum()), int(found.attrs["came_back_n"])
        share = curve[["survival_share", "survival_share_low", "survival_share_high"]].iloc[-1] if len(curve) else blank
        median = middle[["median_days", "median_days_low", "median_days_high"]].iloc[0] if len(middle) else blank
        again = (back / ended, *wilson(back, ended)) if ended else blank
        rows.append((chosen * factor, factor == 1, len(found), ended, plan.horizon_days, *share, *median, back, *again))
    if not rows:
        return not_enough(SENSITIVITY_COLUMNS, f"not enough data (fewer than {min_n} people for any silence)")
    return pd.DataFrame(rows, columns=list(SENSITIVITY_COLUMNS))


def _quantile(table: pd.DataFrame) -> float:
    """The silence that 95 % of the completed ones do not exceed."""
    done = table["returned_n"].cumsum().to_numpy(float)
    if done[-1] == 0:
        return math.nan
    return float(table["gap_days"].iloc[int(np.searchsorted(done, 0.95 * done[-1], side="left"))])


def _tried(table: pd.DataFrame, plan: Churn, within: float, min_n: int) -> np.ndarray:
    """The silences to compute the curve for: evenly, as far as enough of them were followed."""
    step = silence.step_days(plan)
    grid = np.arange(1, math.floor(table["gap_days"].iloc[-1] / step) + 1) * step
    _, followed = silence.still_quiet(table, grid + within)
    grid = grid[followed >= max(min_n, 1)]
    every = max(1, math.ceil(len(grid) / POINTS))
    return grid[every - 1 :: every] if len(grid) >= every else grid


def _people(silences: nw.LazyFrame[Any], days: np.ndarray) -> np.ndarray:
    """How many people were silent for at least so many days, each once."""
    longest = silences.group_by("person_id").agg(nw.col("_hours").max())
    counts = engine.fetch(longest.group_by("_hours").agg(n=nw.len())).sort_values("_hours")
    reaching = np.append(np.cumsum(counts["n"].to_numpy()[::-1])[::-1], 0)
    return np.asarray(reaching[np.searchsorted(counts["_hours"].to_numpy(), np.rint(days * HOURS), side="left")])


def _variance(
    silences: nw.LazyFrame[Any], table: pd.DataFrame, days: np.ndarray, within: float, people: int
) -> np.ndarray:
    """Return the variance of log Ŝ(τ+H)/Ŝ(τ) for each τ, clustered by person.

    A silence of length x moves log Ŝ(τ+H)/Ŝ(τ) by −[1(τ < x ≤ τ+H, ended)/Y(x) − ∫ dΛ/Y from τ to min(x, τ+H)], Y
    those silent for at least x. That depends on the length and on whether it ended only: a small table, which the
    engine joins and adds up by person.
    """
    length = table["gap_days"].to_numpy(float)
    reaching = np.cumsum((table["returned_n"] + table["open_n"]).to_numpy(float)[::-1])[::-1]
    spent = np.concatenate([[0.0], np.cumsum(table["returned_n"].to_numpy(float) / reaching**2)])
    edge = 1 / 2880

    def until(moment: np.ndarray | float) -> np.ndarray:
        return spent[np.searchsorted(length, np.asarray(moment) + edge, side="right")]

    parts = []
    for returned in (0, 1):
        part: dict[str, Any] = {"_hours": np.rint(length * HOURS).astype("int64"), "_returned": returned}
        for k, day in enumerate(days):
            inside = (length > day + edge) & (length <= day + within + edge)
            ends = returned * inside / reaching
            part[f"_u{k}"] = ends - (until(np.clip(length, day, day + within)) - until(day))
        parts.append(pd.DataFrame(part))
    influence = pd.concat(parts, ignore_index=True)
    every = max(1, math.ceil(people / SAMPLED))
    rows = silences.filter(nw.col("person_id") % every == 0) if every > 1 else silences
    names = [f"_u{k}" for k in range(len(days))]
    joined = rows.join(engine.beside(influence, rows), on=["_hours", "_returned"], how="inner")
    each = joined.group_by("person_id").agg(*[nw.col(name).sum() for name in names])
    squares = each.select("person_id", *[(nw.col(name) * nw.col(name)).alias(name) for name in names])
    sums = [nw.col(name).sum() for name in names]
    found = engine.fetch(squares.select(nw.col("person_id").count().alias("n"), *sums)).iloc[0]
    scale = people / max(int(found["n"]), 1) if every > 1 else 1.0
    # The engine adds in any order: what is left of that is rounded away.
    return np.array([float(f"{scale * float(found[name]):.10g}") for name in names])


def _bounds(ratio: float, variance: float, people: int) -> tuple[float, float]:
    """The interval of the share that comes back, 1 − ratio, on the scale log(−log ratio)."""
    if not 0 < ratio < 1:
        return wilson((1 - ratio) * people, people)
    reach = curves.Z95 * math.sqrt(variance) / -math.log(ratio)
    return 1 - ratio ** math.exp(-reach), 1 - ratio ** math.exp(reach)
