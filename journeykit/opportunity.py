"""What it would be worth to keep people in a funnel: money lost at each step, and what closing gaps could bring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_effectsize

from journeykit import config as _config
from journeykit import shrinkage, stats
from journeykit.errors import JourneyError
from journeykit.experiments.power import DETECTED
from journeykit.funnels import NO_FUNNEL, Reached
from journeykit.opportunity_cells import Cells, Group, cells_of

DRAWS = 1_000
SEED = 20_250_101
BETTER = 0.75  # the target: the rate that three quarters of the people stay below
QUARTER, HALF, ALL = 0.25, 0.5, 1.0  # of those who are kept at a step, the share that goes on like others do today
TOP = 3
COARSE = 0.01  # of the logarithm of the strength, which moves no draw by a person
ENOUGH = 30  # people of a segment at a step; smaller ones are taken together
ASSUMPTION = (
    "If the gap to the better segments could be closed altogether, and were caused by what separates the segments; of "
    "those who are kept, the stated share goes on through the later steps like others do today. Gains at steps that "
    "follow one another, and of different columns, do not add up."
)
_MONEY = [f"{name}{end}" for name in ("value", "value_if_quarter", "value_if_all") for end in ("", "_low", "_high")]
LEAKS = (
    *("step_number", "step", "next_step", "n", "lost_n", "lost_share", "lost_share_low", "lost_share_high"),
    *("later_share", "later_share_low", "later_share_high", "orders_n", "orders_n_low", "orders_n_high"),
    *("value", "value_low", "value_high"),
)
SIZES = (
    *("step_number", "step", "next_step", "by", "n", "segments_n", "went_on_share"),
    *("target_share", "target_share_low", "target_share_high", "behind_n", "extra_n", "extra_n_low", "extra_n_high"),
    *_MONEY,
    *("top_three_share", "test_on", "test_n", "test_days"),
)
SEGMENTS = (
    *(
        "step_number",
        "step",
        "next_step",
        "by",
        "segment",
        "n",
        "went_on_share",
        "went_on_share_low",
        "went_on_share_high",
    ),
    *("shrunk_share", "target_share", "extra_n", "value"),
)


def leaks(reached: Reached, *, margin: float = 1.0, draws: int = DRAWS, seed: int = SEED) -> pd.DataFrame:
    """Put money on every leak: what those who were lost at a step would have brought, had they gone on.

    Definition: the number lost, times the share of those at the next step who go on to the end today, times the mean
    value of a conversion. An upper bound: those who left were less interested than those who stayed, and nobody keeps
    all. Each leak is counted as if the others stayed as they are, so the rows do not add up.

    Args:
        reached: of `funnels.reach`; without a `value` in touches there is no money.
        margin: share of the value that is earned; 1 counts revenue.
        draws: of the bootstrap over people.
        seed: of its random numbers.

    Returns:
        One row per required step but the last: step_number, step, next_step, n that stood there, lost_n, lost_share,
        later_share (of those at the next step, to the end), orders_n that were lost at most, and their value, each with
        its 95 % interval. `attrs`: mean_value (with _low, _high, _n; before the margin), margin, days observed.

    >>> from journeykit import funnels
    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad cart buy | u2: ad cart | u3: ad | u4: ad cart buy").assign(value=10.0)
    >>> leaks(funnels.reach(log, steps=["ad", "cart", "buy"]))[["step", "lost_n", "orders_n", "value"]].round(2)
       step  lost_n  orders_n  value
    0    ad       1      0.67   6.67
    1  cart       1      1.00  10.00
    """
    if not reached.rules.steps:
        return stats.not_enough(LEAKS, NO_FUNNEL)
    _check(margin, draws)
    cells = cells_of(reached, [])
    if not cells.counts.sum():
        return stats.not_enough(LEAKS, "not enough data (n = 0)")
    rng = np.random.default_rng(seed)
    (stood, went), (stood_b, went_b) = cells.sums([])[0], cells.drawn(rng, draws, [])[0]
    worth = cells.worth(rng, draws, margin)
    later, later_b = _later(stood, went)[0], _later(stood_b, went_b)
    rows = []
    for i, (k, _) in enumerate(cells.pairs):
        n, lost = int(stood[0, i]), int(stood[0, i] - went[0, i])
        orders, orders_b = lost * later[i], (stood_b[:, i] - went_b[:, i]) * later_b[:, i]
        low, high = stats.wilson(lost / cells.design, n / cells.design)
        rows.append(
            {
                "step_number": k,
                **cells.names(i),
                "n": n,
                "lost_n": lost,
                "lost_share": lost / n if n else math.nan,
                "lost_share_low": low,
                "lost_share_high": high,
                "later_share": later[i],
                **_bounds("later_share", later_b[:, i]),
                "orders_n": orders,
                **_bounds("orders_n", orders_b),
                "value": orders * worth[0],
                **_bounds("value", orders_b * worth[1]),
            }
        )
    table = pd.DataFrame(rows, columns=list(LEAKS))
    table.attrs.update(cells.said(margin))
    return table


def size(
    reached: Reached,
    *,
    by: Sequence[str] = (),
    kept: float = HALF,
    margin: float = 1.0,
    min_n: int = ENOUGH,
    draws: int = DRAWS,
    seed: int = SEED,
) -> pd.DataFrame:
    """Size what it would bring if the segments that fall behind at a step came up to the better ones.

    Definition: Σ n·max(0, target − rate) over the segments, times the shares of all who go on at the later steps, times
    `kept`. Rates are drawn towards each other by as much as chance explains (`shrinkage`), and the target is the rate
    that three quarters of the people stay below. Rival: the gap to the best raw rate, which is always there, because
    one of several equal segments is the best by chance.

    Intervals: people are drawn with replacement, all that they did with them, and everything is computed again: the
    shrinkage, the target, the later shares. (The mean value is drawn by its standard error.) On planted segments they
    held the true gain in 90 to 100 of 100 cases, and began above it in at most 5 (tests/test_opportunity.py).

    A segment is the value at the step, or at the last step before it that has one; units without any are left out, and
    so are columns that are empty for more than one in five. Segments differ by who is in them: `leaver_levels.adjusted`
    says what is left of a gap when other columns are held equal.

    Args:
        reached: of `funnels.reach`, with the columns among its `by`.
        by: columns; () is all that `reached` was asked for.
        kept: of those who are kept at a step, the share that goes on like others do today. Unknown before a test.
        margin: share of the value that is earned; 1 counts revenue.
        min_n: segments with fewer units at a step are taken together.
        draws: of the bootstrap.
        seed: of its random numbers.

    Returns:
        One row per required step (but the last) and column, ordered by the lower bound of what it would bring:
        step_number, step, next_step, by, n at the step, segments_n, went_on_share, target_share, behind_n in segments
        below the target, extra_n conversions in the time observed and their value, the value if a quarter or all of the
        kept go on (each with its 95 % interval), top_three_share (of the draws in which it was among the three largest;
        empty for three rows or fewer), and the A/B test that would prove it: test_on (of the segments behind, those
        where it is over soonest), test_n people in each arm, with the last step as the metric (two-sided 5 %, power
        80 %), and test_days at the pace observed. `attrs`: assumption, kept, and those of `leaks`.

    Raises:
        JourneyError: `reached` was not asked for a column; kept or margin is not above 0 and at most 1.
    """
    return _sized(reached, by, kept, margin, min_n, draws, seed)[0]


def segments(
    reached: Reached, *, by: Sequence[str] = (), kept: float = HALF, margin: float = 1.0, min_n: int = ENOUGH
) -> pd.DataFrame:
    """Return the segments behind `size`: how each fares at each step, and what it would add.

    Args:
        reached: as in `size`, like the others.

    Returns:
        One row per step, column and segment, in the order of the funnel and the best first: n, went_on_share with its
        interval, shrunk_share, target_share, extra_n and value (which add up to those of `size`; no interval of their
        own). Smaller segments are in "(other)"; if these are fewer than `min_n` together, they are not shown.
    """
    return _sized(reached, by, kept, margin, min_n, 0, SEED)[1]


def _sized(
    reached: Reached, by: Sequence[str], kept: float, margin: float, min_n: int, draws: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not reached.rules.steps:
        return stats.not_enough(SIZES, NO_FUNNEL), stats.not_enough(SEGMENTS, NO_FUNNEL)
    _check(margin, draws or 1)
    _check(kept, 1, "kept")
    cells = cells_of(reached, list(by or reached.columns))
    groups = cells.groups(max(min_n, 2))
    if not groups:
        reason = f"not enough data (no column has two segments of at least {max(min_n, 2)} at a step)"
        return stats.not_enough(SIZES, reason), stats.not_enough(SEGMENTS, reason)
    rng = np.random.default_rng(seed)
    (whole, *counts), (whole_b, *drawn) = cells.sums(groups), cells.drawn(rng, draws, groups)
    worth = cells.worth(rng, draws, margin)
    later, later_b = _later(*whole)[0], _later(*whole_b)
    rows, parts, extras = [], [], []
    for group, once, many in zip(groups, counts, drawn, strict=True):
        found, found_b = _closed(cells, *once, 1e-6), _closed(cells, *many, COARSE)
        extra_b = kept * found_b["gained"].sum(axis=-1) * later_b[:, group.pair]
        extras.append(extra_b)
        rows.append(_row(cells, group, found, found_b, extra_b, kept, later[group.pair], worth, margin))
        parts.append(_segments(cells, group, found, kept * later[group.pair], worth[0], min_n))
    table = pd.DataFrame(rows).assign(top_three_share=_top(np.column_stack(extras)))
    first = "value_low" if table["value_low"].notna().any() else "extra_n_low"
    order = [first, "extra_n_low", "extra_n", "step_number", "by"]
    table = table.sort_values(order, ascending=[False, False, False, True, True], ignore_index=True)[list(SIZES)]
    table = table.astype({"test_n": "Int64", "test_days": "Int64"})
    behind = pd.concat(parts, ignore_index=True)
    for made in (table, behind):
        made.attrs.update(cells.said(margin), kept=kept, assumption=ASSUMPTION)
    return table, behind


def _closed(cells: Cells, stood: np.ndarray, went: np.ndarray, tolerance: float) -> dict[str, Any]:
    """The rates of segments, the target, and how many more would go on to the next step: one row a draw."""
    prior = shrinkage.fit(went / cells.design, stood / cells.design, tolerance)
    rates = shrinkage.shrunk(went / cells.design, stood / cells.design, prior)
    target = shrinkage.percentile(rates, stood, BETTER)
    gap = np.maximum(0, target[:, None] - rates)
    # Where groups are alike, rates differ by roundings only.
    gap = np.where(gap > 1e-9, gap, 0.0)
    return {"stood": stood, "went": went, "rates": rates, "target": target, "gained": stood * gap}


def _row(
    cells: Cells, group: Group, found: dict[str, Any], found_b: dict[str, Any], extra_b: np.ndarray, kept: float,
    later: float, worth: tuple[float, np.ndarray], margin: float,
) -> dict[str, Any]:  # fmt: skip
    stood, went, rates, gained = (found[name][0] for name in ("stood", "went", "rates", "gained"))
    extra = kept * float(gained.sum()) * later
    behind = gained > 0
    behind_n = float(stood[behind].sum())
    row: dict[str, Any] = {
        "step_number": cells.pairs[group.pair][0],
        **cells.names(group.pair),
        "by": group.by,
        "n": int(stood.sum()),
        "segments_n": len(group.segments),
        "went_on_share": float(went.sum() / stood.sum()),
        "target_share": float(found["target"][0]),
        **_bounds("target_share", found_b["target"]),
        "behind_n": int(behind_n),
        "extra_n": extra,
        **_bounds("extra_n", extra_b),
    }
    for name, share in (("value", kept), ("value_if_quarter", QUARTER), ("value_if_all", ALL)):
        row |= {name: extra * worth[0] * share / kept, **_bounds(name, extra_b * worth[1] * share / kept)}
    return row | _test(cells, group, stood, rates, kept * gained, later)


def _test(
    cells: Cells, group: Group, stood: np.ndarray, rates: np.ndarray, gained: np.ndarray, later: float
) -> dict[str, Any]:
    """The A/B test that shows the gain of the segments furthest behind four times out of five, and is over soonest.

    More segments bring more people a day and a smaller gain each, so each number of segments is tried.
    """
    gap = gained / np.maximum(stood, 1)
    behind = [i for i in np.lexsort((group.segments, -gap)) if gained[i] > 0]
    found: tuple[float, int, list[str]] = (math.inf, 0, [])
    for last in range(1, len(behind) + 1):
        these = behind[:last]
        people = stood[these].sum()
        base = float((stood * rates)[these].sum() / people) * later
        better = base + float(gained[these].sum() / people) * later
        if 0 < base < better < 1:
            n = math.ceil(cells.design * 2 * DETECTED**2 / float(proportion_effectsize(better, base)) ** 2)
            found = min(found, (2 * n / people, n, [group.segments[i] for i in these]))
    if not found[1]:
        return {"test_on": "", "test_n": None, "test_days": None}
    window = cells.reached.rules.within
    wait = _config.seconds(window) / 86_400 if window else 0.0
    days = math.ceil(found[0] * cells.days + wait) if cells.days else None
    return {"test_on": ", ".join(found[2]), "test_n": found[1], "test_days": days}


def _segments(
    cells: Cells, group: Group, found: dict[str, Any], later: float, worth: float, min_n: int
) -> pd.DataFrame:
    stood, went = found["stood"][0], found["went"][0]
    table = pd.DataFrame({"segment": group.segments, "n": stood.astype("int64")})
    bounds = [stats.wilson(k / cells.design, n / cells.design) for k, n in zip(went, stood, strict=True)]
    names = cells.names(group.pair)
    table = table.assign(
        step_number=cells.pairs[group.pair][0],
        step=names["step"],
        next_step=names["next_step"],
        by=group.by,
        went_on_share=went / np.maximum(stood, 1),
        went_on_share_low=[low for low, _ in bounds],
        went_on_share_high=[high for _, high in bounds],
        shrunk_share=found["rates"][0],
        target_share=found["target"][0],
        extra_n=found["gained"][0] * later,
        value=found["gained"][0] * later * worth,
    )
    table = table[table["n"] >= min_n]
    return table.sort_values(["shrunk_share", "segment"], ascending=[False, True])[list(SEGMENTS)]


def _later(stood: np.ndarray, went: np.ndarray) -> np.ndarray:
    """The share of those at the step after each leak that goes on to the end: the product of the later shares."""
    rates = np.divide(went, stood, out=np.zeros(stood.shape), where=stood > 0)
    reversed_products = np.cumprod(rates[:, ::-1], axis=1)[:, ::-1]
    return np.column_stack([reversed_products[:, 1:], np.ones(len(stood))])


def _top(extras: np.ndarray) -> np.ndarray:
    """In what share of the draws each row is among the three largest; a gain of nothing is in no rank."""
    draws, rows = extras.shape
    if rows <= TOP or not draws:
        return np.full(rows, np.nan)
    third = np.sort(extras, axis=1)[:, -TOP]
    return ((extras >= third[:, None]) & (extras > 0)).mean(axis=0)


def _bounds(name: str, drawn: np.ndarray) -> dict[str, float]:
    known = len(drawn) and np.isfinite(drawn).all()
    low, high = np.quantile(drawn, [0.025, 0.975]) if known else (math.nan, math.nan)
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def _check(share: float, draws: int, name: str = "margin") -> None:
    if not 0 < share <= 1:
        raise JourneyError(f"opportunity: {name} is {share}. Give a share above 0 and at most 1, such as 0.25.")
    if draws < 1:
        raise JourneyError(f"opportunity: draws is {draws}. Give a number of at least 1, such as 1000.")
