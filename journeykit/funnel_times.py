"""How long a funnel takes: times of those who go on, and the share that has gone on by each time, with censoring.

Two questions, two estimands. *How long did those take who went on?* is answered by the quantiles of `times`, of units
whose window has closed, so that slow ones had their chance. *By when has half of all gone on?* is answered by a
Kaplan–Meier estimate over all units: one that has not gone on by the end of observation is not known yet, one whose
window has closed never counts as gone on, however long it is observed. So the estimate ends at the share that the
funnel shows for settled units, and says "not reached" where fewer than half ever go on. Both take units as
independent; sessions, journeys or attempts of one person are alike, and their intervals come out too narrow.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from journeykit import config as _config
from journeykit import stats
from journeykit.funnel_spells import (
    fitted,
    labels,
    limit_days,
    log_rank,
    observed_days,
    part_of,
    parts,
    share_by,
    spells_of,
    summary,
    why_no_times,
)
from journeykit.funnels import Reached

TIME_COLUMNS = (
    *("part", "from_step", "to_step", "n", "open_n", "converted_n"),
    *("median_days", "median_days_low", "median_days_high", "p25_days", "p75_days", "p90_days"),
    *("observed_days", "gone_on_share", "gone_on_share_low", "gone_on_share_high"),
    *("half_days", "half_days_low", "half_days_high"),
)
CURVE_COLUMNS = ("after_days", "n", "at_risk_n", "converted_share", "converted_share_low", "converted_share_high")
COMPARE_COLUMNS = (
    *("segment", "n", "converted_n", "observed_days", "converted_share", "converted_share_low", "converted_share_high"),
    *("half_days", "half_days_low", "half_days_high", "p_value", "p_adjusted"),
)


def times(reached: Reached, *, min_n: int = 6) -> pd.DataFrame:
    """Summarise how long each step takes after the one before it, and the whole funnel.

    The clock is that of the counted attempt: it starts at the entry that the funnel's `clock` rule chose, and a step
    counts from the last required step before it. Rivals: from the very first entry, which `conversion_curve` takes;
    from the latest entry before the success, which hides the days of looking around.

    Args:
        reached: who reached what, by `funnels.reach`.
        min_n: units that a part must have, and converters that quantiles must have; the interval of a median needs 6.

    Returns:
        One row per step after the first, and one for the whole: part ("step 2"…, "whole funnel"), from_step, to_step;
        n that stood at from_step, with open_n whose window is still open; converted_n settled ones that went on, with
        the median of their time and its 95 % order-statistic interval, quartiles and the 90th percentile, in days;
        gone_on_share of all by observed_days (the window, or as long as ten units and one in twenty are observed) by
        Kaplan–Meier, with its interval (log-log); half_days by which half of *all* have gone on (Brookmeyer & Crowley
        1982), empty where that is not reached.

    >>> from journeykit import funnels
    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad buy@1d | u2: ad buy@2d | u3: ad buy@3d | u4: ad@0d")
    >>> times(funnels.reach(log, steps=["ad", "buy"]), min_n=1)[["part", "median_days", "half_days"]].round(2)
               part  median_days  half_days
    0        step 2          2.0        2.0
    1  whole funnel          2.0        2.0
    """
    rules = reached.rules
    if why := why_no_times(rules):
        return stats.not_enough(TIME_COLUMNS, why)
    named, rows, most = labels(rules), [], 0
    for part in parts(rules):
        spells = spells_of(reached, part)
        n = int(spells["n"].sum())
        most = max(most, n)
        if n < max(min_n, 1):
            continue
        settled = spells[(spells["done"] == 1) & (spells["is_open"] == 0)]
        converted = int(settled["n"].sum())
        quantiles = _quantiles(settled) if converted >= max(min_n, 1) else [math.nan] * 6
        open_n = int(spells.loc[spells["is_open"] == 1, "n"].sum())
        names = (part.name, named[part.start - 1], named[part.end - 1])
        observed = min(limit_days(rules, part), observed_days(spells))
        share, half = summary(spells, observed)
        rows.append((*names, n, open_n, converted, *quantiles, observed, *share, *half))
    if not rows:
        return stats.not_enough(TIME_COLUMNS, f"not enough data (n = {most}, at least {min_n} are needed)")
    return pd.DataFrame(rows, columns=list(TIME_COLUMNS))


def conversion_curve(
    reached: Reached,
    *,
    part: str = "",
    by: str = "",
    horizon: str = "",
    points: int = 90,
    min_n: int = 30,
) -> pd.DataFrame:
    """Estimate the share that has gone on by each time (Kaplan–Meier), of all or of each segment.

    Of the whole funnel (`part` ""), the clock starts at a unit's first entry ever and is not restarted: a success of a
    later entry counts at its own time, so that the curve may pass the funnel's share within its window. Of a step
    (`part` its label), it starts at the last required step before it. Those who have not gone on are censored at the
    end of observation (`reached.until`; None: the last step that anybody took), so people who came yesterday do not
    count as lost; see the head of this module for those whose window has closed. As in the funnel, somebody with an
    entry whose time is over does not count as gone on by a later one whose time is not.

    Args:
        reached: who reached what, by `funnels.reach`.
        part: label of the step that ends the part, or "" for the whole funnel.
        by: a column of `reached.columns` to compare, as it is at the first entry; "" for all together.
        horizon: where the curve ends, such as "14d"; "" is one and a half times the time by which 95 % of the
            conversions came, but no longer than ten units, and one in twenty, are observed.
        points: of time between 0 and the horizon.
        min_n: units that a curve needs; smaller segments are left out and counted in `attrs["left_out_n"]`.

    Returns:
        One row per point of time (and segment, largest first): after_days, n units, at_risk_n (observed so long and
        not gone on before), converted_share with its 95 % interval (log-log; Wilson's before the first and after the
        last success). A segment's curve ends where fewer than ten of it, or one in twenty, are observed.

    Raises:
        JourneyError: there is no such step, or no such column in `reached`.
    """
    columns = ["segment", *CURVE_COLUMNS] if by else list(CURVE_COLUMNS)
    if why := why_no_times(reached.rules):
        return stats.not_enough(columns, why)
    groups, left_out, most = _groups(spells_of(reached, part_of(reached.rules, part), by), min_n)
    if not groups:
        return stats.not_enough(columns, f"not enough data (n = {most}, at least {min_n} are needed)")
    every = pd.concat([group for _, group in groups])
    longest = min(_config.seconds(horizon) / 86_400 if horizon else _horizon(every), float(every["days"].max()))
    if longest <= 0:
        return stats.not_enough(columns, "not enough data (nobody was observed for any length of time)")
    grid = np.linspace(0, longest, points + 1)
    tables = []
    for name, group in groups:
        share, low, high, at_risk = share_by(group, fitted(group), grid)
        curve = pd.DataFrame({"after_days": grid, "n": int(group["n"].sum()), "at_risk_n": at_risk})
        curve = curve.assign(converted_share=share, converted_share_low=low, converted_share_high=high, segment=name)
        tables.append(curve[grid <= observed_days(group)] if by else curve)
    table = pd.concat(tables, ignore_index=True)[columns]
    table.attrs.update(left_out_n=left_out, part=part)
    return table


def compare_curves(reached: Reached, *, by: str, part: str = "", min_n: int = 30) -> pd.DataFrame:
    """Compare how fast each segment goes on with all others together (log-rank test).

    All segments are tested at once first; `p_adjusted` of a segment is Holm's over the segments, and never smaller
    than that joint p-value (`attrs["joint_p_value"]`), so that single segments stand out only if segments differ at
    all. The log-rank test looks at the whole curve, and misses curves that cross. Segments differ in other ways too.

    Args:
        reached: who reached what, by `funnels.reach`.
        by: a column of `reached.columns`, as it is at the first entry.
        part: as in `conversion_curve`.
        min_n: units of a segment; smaller ones are part of "all others", but have no row.

    Returns:
        One row per segment, largest first: n, converted_n (at any time), converted_share by observed_days (as long as
        each of them is observed) and half_days as in `times`, p_value, p_adjusted.
    """
    if why := why_no_times(reached.rules):
        return stats.not_enough(COMPARE_COLUMNS, why)
    chosen = part_of(reached.rules, part)
    spells = spells_of(reached, chosen, by)
    groups, left_out, most = _groups(spells, min_n)
    if not groups:
        return stats.not_enough(COMPARE_COLUMNS, f"not enough data (n = {most}, at least {min_n} are needed)")
    if spells["segment"].nunique() < 2:
        return stats.not_enough(COMPARE_COLUMNS, f"there is one segment only, {groups[0][0]!r}: nothing to compare")
    (joint, single), rows = log_rank(spells), []
    observed = min(limit_days(reached.rules, chosen), *[observed_days(group) for _, group in groups])
    for name, group in groups:
        share, half = summary(group, observed)
        converted = int(group.loc[group["done"] == 1, "n"].sum())
        rows.append((name, int(group["n"].sum()), converted, observed, *share, *half, single[name]))
    table = pd.DataFrame(rows, columns=list(COMPARE_COLUMNS[:-1]))
    table["p_adjusted"] = np.maximum(multipletests(table["p_value"], method="holm")[1], joint)
    table.attrs.update(joint_p_value=joint, left_out_n=left_out)
    return table


def _groups(spells: pd.DataFrame, min_n: int) -> tuple[list[tuple[str, pd.DataFrame]], int, int]:
    """Return the segments that are large enough, largest first, the units in the others, and the largest size."""
    sizes = spells.groupby("segment")["n"].sum().sort_index().sort_values(ascending=False, kind="stable")
    kept = sizes[sizes >= max(min_n, 1)]
    groups = [(str(name), spells[spells["segment"] == name]) for name in kept.index]
    return groups, int(sizes.sum() - kept.sum()), int(sizes.max()) if len(sizes) else 0


def _quantiles(spells: pd.DataFrame) -> list[float]:
    """Return median, its order-statistic interval, quartiles and 90th percentile of grouped times as of single ones."""
    spells = spells.sort_values("days")
    days, after = spells["days"].to_numpy(float), spells["n"].cumsum().to_numpy()
    n = int(after[-1])

    def value(rank: int) -> float:  # counted from 0
        return float(days[np.searchsorted(after, rank, side="right")])

    def quantile(at: float) -> float:
        place = at * (n - 1)
        low, high = value(math.floor(place)), value(math.ceil(place))
        return low + (high - low) * (place - math.floor(place))

    rank = int(binom.ppf(0.025, n, 0.5))
    bounds = (value(rank - 1), value(n - rank)) if rank > 0 else (math.nan, math.nan)
    return [quantile(0.5), *bounds, quantile(0.25), quantile(0.75), quantile(0.9)]


def _horizon(spells: pd.DataFrame) -> float:
    done = spells[spells["done"] == 1].sort_values("days")
    if done.empty:
        return observed_days(spells)
    after = done["n"].cumsum().to_numpy()
    late = float(done["days"].iloc[int(np.searchsorted(after, 0.95 * after[-1]))])
    return min(observed_days(spells), 1.5 * late)  # from then on little happens
