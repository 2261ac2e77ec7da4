"""How long units of a funnel took, or have been seen not to go on, and Kaplan–Meier estimates of it.

Times are grouped in the engine, and curves fitted to numbers of units: exact for up to 200,000 units; for more, times
are cut to four digits, so that few different ones leave the engine, however many people there are.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import narwhals as nw
import numpy as np
import pandas as pd
from lifelines import KaplanMeierFitter
from lifelines.utils import median_survival_times
from scipy import stats as _stats

from journeykit import config as _config
from journeykit import engine, errors, stats
from journeykit.funnels import NO_FUNNEL, NO_VALUE, Reached

WHOLE = "whole funnel"
EXACT = 200_000  # units up to which times are exact
FETCHED = 20_000_000  # rows: four digits, of ten powers of ten, of two outcomes, of a hundred segments
DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Part:
    """From one step of a funnel to a later one."""

    name: str
    start: int
    end: int
    clock: str  # the column of `Reached.table` at which time begins


def parts(rules: _config.Funnel) -> list[Part]:
    """Return the parts of a funnel: from the last required step before each later step to it, and the whole.

    >>> [(p.name, p.start, p.end) for p in parts(_config.Funnel(steps=["ad", "call?", "buy"]))]
    [('step 2', 1, 2), ('step 3', 1, 3), ('whole funnel', 1, 3)]
    """
    found, before = [], 1
    for k, step in enumerate(rules.steps[1:], start=2):
        found.append(Part(f"step {k}", before, k, f"at_{before}"))
        before = before if step.optional else k
    return [*found, Part(WHOLE, 1, len(rules.steps), "at_1")]


def part_of(rules: _config.Funnel, step: str) -> Part:
    """Return the part that ends at a step, or the whole funnel with the clock of the first entry ever."""
    *single, whole = parts(rules)
    if not step:
        return Part(WHOLE, whole.start, whole.end, "first_us")
    named = labels(rules)[1:]
    if step not in named:
        raise errors.JourneyError(
            f"funnel times: no step after the first is named {step!r}.{errors.nearest(step, named)} "
            f"Allowed: {', '.join(named)}."
        )
    return single[named.index(step)]


def labels(rules: _config.Funnel) -> list[str]:
    """Return the names of a funnel's steps, as `funnels.count` has them."""
    n = len(rules.steps)
    return [f"any {k} of {n}" if rules.order == "any" else step.label for k, step in enumerate(rules.steps, start=1)]


def segment_at(reached: Reached, column: str, step: int, where: str) -> nw.Expr:
    """Return the value of a column at a step of the counted attempt, or (0) at the first entry; "(none)" if empty.

    Raises:
        JourneyError: `funnels.reach` was not asked for the column.
    """
    if column not in reached.columns:
        raise errors.JourneyError(
            f"{where}: the funnel does not hold {column!r}.{errors.nearest(column, reached.columns)} It holds: "
            f"{', '.join(reached.columns) or 'no column'}. Name it in `by` of funnels.reach."
        )
    return nw.col(f"{column}_{step}").cast(nw.String()).fill_null(NO_VALUE)


def why_no_times(rules: _config.Funnel) -> str:
    """Say why a funnel has no times, or return ""."""
    if not rules.steps:
        return NO_FUNNEL
    if rules.entry == "open":
        return 'an open funnel has no chain of steps to take the time of; count it with entry = "closed" for times'
    return ""


def spells_of(reached: Reached, part: Part, by: str = "") -> pd.DataFrame:
    """Return how long units took, or have been seen not to go on, as numbers of units: days, done, is_open, segment, n.

    A unit whose window has closed stays until its end of observation, which is known for all: censored when its window
    closed, it would be taken for somebody who might still go on (Fine & Gray 1999, section 3.1).
    """
    columns = ["first_us", *[f"at_{k}" for k in range(1, len(reached.rules.steps) + 1)]]
    ends = reached.table.select(nw.len().alias("units"), *[nw.col(name).max() for name in columns])
    found = engine.fetch(ends)
    known = found[columns].iloc[0].dropna()
    until = reached.until if reached.until is not None else int(known.max()) if len(known) else 0
    clock, end = nw.col(part.clock), nw.col(f"at_{part.end}")
    done = ~end.is_null() & (end <= until)
    segment = segment_at(reached, by, 0, "funnel times") if by else nw.lit("")
    rows = reached.table.filter(~clock.is_null(), clock <= until).with_columns(
        _segment=segment,
        _done=nw.when(done).then(nw.lit(1)).otherwise(nw.lit(0)),
        _us=nw.when(done).then(end - clock).otherwise(nw.lit(until) - clock),
    )
    if int(found["units"].iloc[0]) > EXACT:
        rows = rows.with_columns(_us=_four_digits(nw.col("_us")))
    grouped = rows.group_by("_segment", "is_open", "_done", "_us").agg(n=nw.len())
    spells = engine.fetch(grouped, limit=FETCHED).rename(columns=lambda name: name.removeprefix("_"))
    spells = spells.astype({"us": "int64", "done": "int64", "is_open": "int64", "n": "int64"})
    spells = spells.assign(days=spells["us"] / DAY_US)
    return spells.sort_values(["segment", "us", "done", "is_open"], ignore_index=True)


def _four_digits(us: nw.Expr) -> nw.Expr:
    """Cut integers to their first four digits: at most 9,000 values for each power of ten, none wrong by 0.1 %."""
    cut = us
    for power in range(4, 17):
        tick = 10 ** (power - 3)
        cut = nw.when(us >= 10**power).then(us // tick * tick).otherwise(cut)
    return cut


def summary(spells: pd.DataFrame, observed: float) -> tuple[list[float], list[float]]:
    """Return the share gone on by a time with its interval, and when half have, with its interval."""
    fit = fitted(spells)
    share, low, high, _ = share_by(spells, fit, np.array([observed]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bounds = np.ravel(median_survival_times(fit.confidence_interval_survival_function_).to_numpy(float))
    half = [float(x) if x <= observed else math.nan for x in (fit.median_survival_time_, *bounds)]
    if math.isnan(half[0]):
        half[1:] = [math.nan, math.nan]
    return [float(share[0]), float(low[0]), float(high[0])] if observed > 0 else [math.nan] * 3, half


def share_by(
    spells: pd.DataFrame, fit: KaplanMeierFitter, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the share gone on by each time, its bounds, and how many are at risk then."""
    bounds = fit.confidence_interval_survival_function_
    at = np.searchsorted(bounds.index.to_numpy(float), grid, side="right") - 1
    there = fit.survival_function_.iloc[at, 0].to_numpy(float)
    low, high = (bounds.iloc[at, side].to_numpy(float) for side in (0, 1))
    ordered = spells.sort_values("days")
    gone = np.concatenate([[0], ordered["n"].cumsum().to_numpy()])
    at_risk = gone[-1] - gone[np.searchsorted(ordered["days"].to_numpy(float), grid, side="left")]
    low, high = stats.flat_ends(grid, there, low, high, at_risk, int(spells.loc[spells["done"] == 1, "n"].sum()))
    return 1 - there, np.nan_to_num(1 - high), np.nan_to_num(1 - low), at_risk


def fitted(spells: pd.DataFrame) -> KaplanMeierFitter:
    """Return the Kaplan–Meier estimate of grouped times, with its pointwise 95 % interval (log-log)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KaplanMeierFitter().fit(spells["days"], spells["done"], weights=spells["n"])


def log_rank(spells: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """Return the p-value of all segments being equally fast, and of each against all others (log-rank test).

    One table of segments and times gives all of them, where lifelines would go through the rows once for each.
    """
    where, names = pd.factorize(spells["segment"], sort=True)
    days, when = np.unique(spells["days"], return_inverse=True)
    n, done = (np.zeros((len(names), len(days))) for _ in range(2))
    np.add.at(n, (where, when), spells["n"].to_numpy(float))
    np.add.at(done, (where, when), (spells["n"] * spells["done"]).to_numpy(float))
    at_risk = n[:, ::-1].cumsum(axis=1)[:, ::-1]
    moments = done.sum(axis=0) > 0
    done, at_risk = done[:, moments], at_risk[:, moments]
    hits, every = done.sum(axis=0), at_risk.sum(axis=0)
    part = at_risk / every
    gap = (done - part * hits).sum(axis=1)
    spread = hits * (every - hits) / np.maximum(every - 1, 1)
    variance = np.diag((part * spread).sum(axis=1)) - (part * spread) @ part.T
    own = np.diag(variance)
    single = np.where(own > 0, _stats.chi2.sf(gap**2 / np.where(own > 0, own, 1), 1), 1.0)
    rank = len(names) - 1
    joint = float(_stats.chi2.sf(gap[:rank] @ np.linalg.pinv(variance[:rank, :rank]) @ gap[:rank], rank))
    return joint, dict(zip([str(name) for name in names], single.tolist(), strict=True))


def observed_days(spells: pd.DataFrame) -> float:
    """The longest time that enough units are observed: ten that have not gone on yet, and one in twenty of all.

    At risk are those who are observed so long and have not gone on; divided by the share that has not, all observed.
    As long as nobody is censored, the curve is a plain share, and any number is enough.
    """
    totals = spells.assign(done_n=spells["n"] * spells["done"]).groupby("days")[["n", "done_n"]].sum().sort_index()
    n, done = totals["n"].to_numpy(float), totals["done_n"].to_numpy(float)
    at_risk = n[::-1].cumsum()[::-1]
    there = np.concatenate([[1.0], np.cumprod(1 - done / at_risk)[:-1]])
    whole = np.concatenate([[0.0], (n - done).cumsum()[:-1]]) == 0
    enough = whole | (at_risk >= np.maximum(min(10, n.sum()), n.sum() / 20 * there * (1 - 1e-9)))
    return float(totals.index[enough][-1])


def limit_days(rules: _config.Funnel, part: Part) -> float:
    """The days after which no step counts any more."""
    own = [rules.steps[part.end - 1].within] if part.end - part.start == 1 else []
    windows = [_config.seconds(text) / 86_400 for text in (rules.within, *own) if text]
    return min(windows, default=math.inf)
