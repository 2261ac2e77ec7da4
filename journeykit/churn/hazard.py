"""When leaving is likeliest: the chance of leaving over tenure, for those who are still there."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.churn.curves import (
    MIN_ENDS,
    Z95,
    Steps,
    entries,
    few_ends,
    from_day,
    groups_of,
    result_of,
    steps,
    under_observation,
    whole,
)
from journeykit.stats import not_enough

HAZARD_COLUMNS = (
    *("from_day", "to_day", "at_risk_n", "ended_n"),
    *("leaving_share", "leaving_share_low", "leaving_share_high"),
)
SMOOTH_COLUMNS = ("day", "at_risk_n", "leaving_share", "leaving_share_low", "leaving_share_high")
LOSS_COLUMNS = (
    *("n", "ended_n", "horizon_days", "half_days", "half_days_low", "half_days_high"),
    *("from_day", "to_day", "leaving_share", "leaving_share_low", "leaving_share_high"),
    *("average_share", "periods_n", "p_value"),
)
POINTS = 60  # of a smoothed line
EXPECTED = 10  # ends that each period of the test of a constant rate has to expect


def leaving_by_tenure(
    spells: pd.DataFrame, *, width: float = 30.0, horizon: float = math.inf, min_n: int = 20
) -> pd.DataFrame:
    """Return the chance of leaving in each period of tenure, for those who are there at its start.

    Ends divided by person-days give a constant rate in the period; the chance of leaving over the whole period is
    1 − exp(−rate × width), with an exact Poisson interval (Garwood 1936) carried through. People who came under
    observation late bring only the days from then on. Periods with fewer than `min_n` people at their start are left
    out.

    One row per period: from_day, to_day, at_risk_n, ended_n, leaving_share, leaving_share_low, leaving_share_high.
    """
    groups, note = groups_of(spells, False, min_n)
    if not groups:
        return not_enough(HAZARD_COLUMNS, note)
    group = groups[0][1]
    rows = []
    for begin in np.arange(0.0, min(float(group["duration_days"].max()), horizon), width):
        close = float(begin) + width
        there, ends, exposure = _period(group, float(begin), close, from_day(groups))
        if there < min_n or exposure <= 0:
            continue
        rows.append((float(begin), close, there, ends, *_chance(ends, exposure, width)))
    nothing = "not enough data (nobody was observed for any length of time)"
    result = result_of(rows, HAZARD_COLUMNS, note if rows else nothing, from_day(groups))
    return result.assign(from_day=whole(result["from_day"]), to_day=whole(result["to_day"]))


def smoothed(spells: pd.DataFrame, *, per: float = 30.0, horizon: float = math.inf, min_n: int = 20) -> pd.DataFrame:
    """Return the chance of leaving within the next `per` days at each tenure, as a smooth line with its interval.

    The steps of the Nelson–Aalen curve are averaged with Epanechnikov weights (Ramlau-Hansen 1983) around each day; at
    both ends the weights are those of a local line (Gasser & Müller 1979), without which the line would sink there. The
    window reaches `per` days to either side, or as far as 50 leave in it on average, if that is wider: narrower ones
    show waves that are chance. The
    interval is pointwise, on the log scale. Rivals: periods (`leaving_by_tenure`), exact and plain, but blind to what
    happens inside them; a spline, smoother and harder to check. Leavers of day 0 are not smoothed: no time passed.

    One row per day (about 60): day, at_risk_n, leaving_share (1 − exp(−rate × per)), low, high. Only days on which at
    least `min_n` people are at risk, and whose standard error is below half of the rate. `.attrs["per_days"]`,
    `.attrs["window_days"]`.
    """
    groups, note = groups_of(spells, False, min_n)
    if not groups:
        return not_enough(SMOOTH_COLUMNS, note)
    group, first = groups[0][1], from_day(groups)
    fit = steps(group)
    used = fit.day > first
    day, jump, noise = fit.day[used], (fit.ended / fit.at_risk)[used], (fit.ended / fit.at_risk**2)[used]
    grid = np.linspace(first, min(float(group["duration_days"].max()), horizon), POINTS + 1)
    there = under_observation(group, grid)
    last = float(grid[there >= max(min_n, 1)].max(initial=first))
    ends = int(fit.ended[used & (fit.day <= last)].sum())
    if ends < MIN_ENDS or last <= first:
        return not_enough(SMOOTH_COLUMNS, f"not enough data ({few_ends(last)})")
    half = min(max(per, 25 * (last - first) / ends), (last - first) / 2)
    grid = np.linspace(first, last, POINTS + 1)
    there = under_observation(group, grid)
    inside = day <= last
    rows = []
    for moment, n in zip(grid, there, strict=True):
        weight = _weights(day[inside] - moment, moment - first, last - moment, half)
        rate, variance = float(weight @ jump[inside]), float(weight**2 @ noise[inside])
        if rate <= 0 or math.sqrt(variance) > rate / 2:  # so few leavers around that day that it says nothing
            continue
        reach = math.exp(Z95 * math.sqrt(variance) / rate)
        shares = [1 - math.exp(-value * per) for value in (rate, rate / reach, rate * reach)]
        rows.append((moment, int(n), *shares))
    result = result_of(rows, SMOOTH_COLUMNS, note if rows else f"not enough data ({few_ends(last)})", first)
    result.attrs |= {"per_days": per, "window_days": half}
    return result


def losses(spells: pd.DataFrame, horizon: float, *, width: float = 30.0, min_n: int = 20) -> pd.DataFrame:
    """Return after which day people are lost: when half of the leavers have left, the worst period, and if it is real.

    `half_days` is the day by which half of those who leave within the horizon have left: the first t with
    (1−Ŝ(t))/(1−Ŝ(H)) ≥ ½; its interval holds every t at which that share is not clearly apart from ½ (delta method on
    Greenwood's sums). The worst period is the one of `width` days with the highest chance of leaving. Whether the rate
    changes over tenure at all is a likelihood-ratio test of a rate for each of `periods_n` periods against one rate;
    periods are put together until each expects at least ten ends. Rival: a test for trend, which is blind to a peak.

    One row: n, ended_n (within the horizon), horizon_days, half_days (low, high), from_day, to_day, leaving_share of
    the worst period (low, high), average_share (chance per `width` days at the one rate), periods_n, p_value (nan where
    there are ends for one period only).
    """
    groups, note = groups_of(spells, False, min_n)
    if not groups:
        return not_enough(LOSS_COLUMNS, note)
    group, first = groups[0][1], from_day(groups)
    horizon = min(float(horizon), float(group["duration_days"].max()))
    table = leaving_by_tenure(spells, width=width, horizon=horizon, min_n=min_n)
    fit = steps(group, horizon)
    ends = int(fit.ended.sum())
    if ends < MIN_ENDS or table.empty:
        return not_enough(LOSS_COLUMNS, f"not enough data ({few_ends(horizon)})")
    worst = table.sort_values(["leaving_share", "from_day"], ascending=[False, True], kind="stable").iloc[0]
    pieces, average = _pieces(group, first, horizon, width)
    p_value = math.nan
    if len(pieces) > 1:
        seen, expected = np.array(pieces).T
        terms = np.where(seen > 0, seen * np.log(np.where(seen > 0, seen, 1.0) / expected), 0.0)
        p_value = float(_stats.chi2.sf(2 * terms.sum(), len(pieces) - 1))
    shares = [float(worst[f"leaving_share{side}"]) for side in ("", "_low", "_high")]
    row = (len(group), ends, horizon, *_half(fit, horizon), worst["from_day"], worst["to_day"], *shares)
    return result_of([(*row, 1 - math.exp(-average * width), len(pieces), p_value)], LOSS_COLUMNS, note, first)


def _period(group: pd.DataFrame, begin: float, close: float, first: float = 0.0) -> tuple[int, int, float]:
    """Return how many are there at the start of a period, how many leave in it, and the person-days spent in it.

    A period owns the moments after its start up to its end, so that an end on its last day counts in it. The period in
    which observation begins (`first`) starts then.
    """
    duration, entered = group["duration_days"].to_numpy(float), entries(group)
    in_it = duration > begin if begin > 0 else duration >= 0
    exposure = np.clip(duration, begin, close) - np.clip(entered, begin, close)
    ends = int(((group["ended"].to_numpy() == 1) & in_it & (duration <= close)).sum())
    return int((in_it & (entered <= max(begin, first))).sum()), ends, float(np.maximum(exposure, 0).sum())


def _chance(ends: int, exposure: float, width: float) -> list[float]:
    low = float(_stats.chi2.ppf(0.025, 2 * ends)) / 2 if ends else 0.0
    high = float(_stats.chi2.ppf(0.975, 2 * ends + 2)) / 2
    return [1 - math.exp(-k / exposure * width) for k in (ends, low, high)]


def _pieces(group: pd.DataFrame, first: float, horizon: float, width: float) -> tuple[list[tuple[float, float]], float]:
    """Return seen and expected ends of periods under one rate, each with enough expected, and that rate.

    Periods are put together by what they expect, which does not depend on when people left among those there.
    """
    cuts = [*np.arange(first, horizon, width), horizon]
    found = [_period(group, float(a), float(b))[1:] for a, b in pairwise(cuts)]
    total, spent = sum(ends for ends, _ in found), sum(days for _, days in found)
    rate = total / spent if spent else 0.0
    pieces: list[list[float]] = []
    for ends, days in found:
        if pieces and pieces[-1][1] < EXPECTED:
            pieces[-1][0] += ends
            pieces[-1][1] += rate * days
        else:
            pieces.append([float(ends), rate * days])
    if len(pieces) > 1 and pieces[-1][1] < EXPECTED:
        last = pieces.pop()
        pieces[-1] = [pieces[-1][0] + last[0], pieces[-1][1] + last[1]]
    return [(ends, expected) for ends, expected in pieces], rate


def _half(fit: Steps, horizon: float) -> tuple[float, float, float]:
    """Return the day by which half of those who leave by the horizon have left, with its interval."""
    day, share, spread = fit.day, fit.share, fit.spread
    end = share[-1]
    gone = (1 - share) / (1 - end)
    if not math.isfinite(spread[-1]):  # nobody is left: the share gone by a day is that of all
        variance = np.where(share > 0, share**2 * np.where(np.isfinite(spread), spread, 0.0), 0.0)
    else:
        at = (end - share) / (1 - end) ** 2
        after = (1 - share) * end / (1 - end) ** 2
        variance = at**2 * spread + after**2 * (spread[-1] - spread)
    reach = Z95 * np.sqrt(np.maximum(variance, 0))
    middle = float(day[np.argmax(gone >= 0.5 - 1e-12)])
    low = float(day[np.argmax(gone + reach >= 0.5)])
    above = np.flatnonzero(gone - reach >= 0.5)
    return middle, min(low, middle), float(day[above[0]]) if len(above) else horizon


def _weights(distance: np.ndarray, before: float, after: float, half: float) -> np.ndarray:
    """Epanechnikov weights of a local line; `before` and `after` is how far the record reaches to either side."""
    u = distance / half
    a, b = -min(1.0, before / half), min(1.0, after / half)
    kernel = np.where(np.abs(u) <= 1, 0.75 * (1 - u**2), 0.0)
    s0, s1, s2 = (_moment(k, a, b) for k in (0, 1, 2))
    return np.asarray(kernel * (s2 - s1 * u) / (s0 * s2 - s1**2) / half)


def _moment(k: int, a: float, b: float) -> float:
    """The k-th moment of the Epanechnikov kernel between a and b."""
    return 0.75 * ((b ** (k + 1) - a ** (k + 1)) / (k + 1) - (b ** (k + 3) - a ** (k + 3)) / (k + 3))
