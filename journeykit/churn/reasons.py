"""Why people leave: each reason as a competing way to leave, by the share that has left for it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from journeykit.churn.curves import (
    MIN_ENDS,
    Z95,
    from_day,
    groups_of,
    reach,
    result_of,
    steps,
    under_observation,
    whole,
)
from journeykit.churn.spells import LEFT, OTHER
from journeykit.errors import require_columns
from journeykit.stats import not_enough, wilson

SHARES = ("left_share", "left_share_low", "left_share_high")
INCIDENCE_COLUMNS = ("reason", "day", "at_risk_n", *SHARES)
REASON_COLUMNS = ("reason", "n", "ended_n", "horizon_days", *SHARES, "alone_share", "overstated_points")
POINTS = 60


def incidence(spells: pd.DataFrame, *, horizon: float = math.inf, min_n: int = 20) -> pd.DataFrame:
    """Return the share that has left for each reason by each day (cumulative incidence, Aalen–Johansen).

    Reasons compete: who left because a card failed can no longer leave because of the price. CIF_j(t) is the sum of
    Ŝ(u−)·d_j(u)/n(u) over the days u up to t, Ŝ the share still there for whatever reason; the reasons' shares add up
    to the share that has left. Rival: one minus the Kaplan–Meier curve of one reason with the others as censored, which
    answers what would happen if nobody left for another reason, is larger for every reason, and adds up to more than
    everybody. Variance by the delta method (Aalen 1978; Marubini & Valsecchi 1995), interval on the scale log(−log);
    late entry as in `curves.survival_curve`. Tied days are taken as they are, not jittered.

    Needs duration_days, ended, reason, and entered_days if there is late entry. Reasons of fewer than 10 people become
    part of "other".

    One row per reason and day (at most about 60), the most frequent reason first: reason, day, at_risk_n, left_share
    (low, high). Only days on which at least `min_n` people are at risk.
    """
    group, names, note = _by_reason(spells, min_n)
    if group is None:
        return not_enough(INCIDENCE_COLUMNS, note)
    fit, first = steps(group), float(group.attrs.get("from_day", 0.0))
    last = min(horizon, float(group["duration_days"].max()))
    days = np.arange(math.ceil(first), math.floor(last) + 1, max(1, math.ceil(last / POINTS)), dtype=float)
    days = np.unique([*days, last])
    days = days[under_observation(group, days) >= max(min_n, 1)]
    there = under_observation(group, days)
    parts = []
    for name in names:
        share, error = _incidence(fit.at_risk, fit.ended, _ends(group, name, fit.day), fit.share)
        place = np.searchsorted(fit.day, days, side="right")
        share, error = (np.concatenate([[0.0], values])[place] for values in (share, error))
        low, high = _bounds(share, error, there)
        columns = {"reason": name, "day": whole(days), "at_risk_n": there, "left_share": share}
        parts.append(pd.DataFrame({**columns, "left_share_low": low, "left_share_high": high}))
    result = pd.concat(parts, ignore_index=True)
    result.attrs |= {"note": note, "from_day": first, "n": len(group)}
    return result


def by_reason(spells: pd.DataFrame, horizon: float, *, min_n: int = 20) -> pd.DataFrame:
    """Return the share that has left for each reason by the horizon, beside what one minus Kaplan–Meier would say.

    See `incidence`. `alone_share` is 1 − KM of that reason with all others as censored, and `overstated_points` by how
    many percentage points it is too large as a share of those who left for it.

    One row per reason, the most frequent first: reason, n, ended_n (by the horizon), horizon_days (cut back to what was
    observed), left_share (low, high), alone_share, overstated_points.
    """
    group, names, note = _by_reason(spells, min_n)
    if group is None:
        return not_enough(REASON_COLUMNS, note)
    horizon = min(float(horizon), reach(group), float(group["duration_days"].max()))
    fit = steps(group, horizon)
    if not len(fit.day):
        return not_enough(REASON_COLUMNS, f"not enough data (nobody left within {horizon:g} days)")
    rows = []
    for name in names:
        ends = _ends(group, name, fit.day)
        share, error = (float(values[-1]) for values in _incidence(fit.at_risk, fit.ended, ends, fit.share))
        low, high = _bounds(np.array([share]), np.array([error]), np.array([len(group)]))
        alone = 1 - float(np.prod(1 - ends / fit.at_risk))
        interval = (float(low[0]), float(high[0]))
        rows.append((name, len(group), int(ends.sum()), horizon, share, *interval, alone, 100 * (alone - share)))
    return result_of(rows, REASON_COLUMNS, note, from_day([("all", group)]))


def _by_reason(spells: pd.DataFrame, min_n: int) -> tuple[pd.DataFrame | None, list[str], str]:
    """Return the spells with rare reasons put together, and the reasons, the most frequent first; or why not."""
    require_columns(spells.columns, ["duration_days", "ended"], "reasons")
    groups, note = groups_of(spells, False, min_n)
    if not groups:
        return None, [], note
    group = groups[0][1]
    left = group["ended"] == 1
    reason = group["reason"] if "reason" in group else pd.Series(LEFT, index=group.index)
    counts = reason[left].value_counts()
    if set(counts.index) <= {LEFT}:
        return None, [], "no reasons of leaving are declared; add [churn.reasons] to journey.toml to tell them apart"
    if counts.sum() < MIN_ENDS:
        return None, [], f"not enough data ({counts.sum()} people left, at least {MIN_ENDS} are needed)"
    rare = [name for name, n in counts.items() if n < MIN_ENDS and name != OTHER]
    if rare:
        note = f"{note} {len(rare)} reason{'s' * (len(rare) > 1)} of fewer than {MIN_ENDS} people put to “{OTHER}”."
    merged = reason.where(~reason.isin(rare), OTHER)
    kept = group.assign(reason=merged.where(left, ""))
    kept.attrs = dict(group.attrs)
    sizes = merged[left].value_counts()
    return kept, sorted(sizes.index, key=lambda name: (name == OTHER, -sizes[name], name)), note.strip()


def _ends(group: pd.DataFrame, name: str, day: np.ndarray) -> np.ndarray:
    """How many left for a reason on each of the days."""
    gone = group.loc[(group["ended"] == 1) & (group["reason"] == name), "duration_days"].to_numpy(float)
    gone = np.sort(gone)
    return np.searchsorted(gone, day, side="right") - np.searchsorted(gone, day, side="left")


def _incidence(
    at_risk: np.ndarray, ended: np.ndarray, ends: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cumulative incidence of a reason after each day of ends, and its standard error.

    Var = Σ (F(t)−F(u))² d/(n(n−d)) + Σ Ŝ(u−)² d_j(n−d_j)/n³ − 2 Σ (F(t)−F(u)) Ŝ(u−) d_j/n², written in sums up to t.
    """
    before = np.concatenate([[1.0], share[:-1]])
    found = np.cumsum(before * ends / at_risk)
    left = at_risk - ended
    # Where the last one at risk leaves, nothing is left to vary: that term is 0, not 0/0.
    a = np.divide(ended, at_risk * left, out=np.zeros(len(left)), where=left > 0)
    b = before * ends / at_risk**2
    c = before**2 * ends * (at_risk - ends) / at_risk**3
    sums = [np.cumsum(values) for values in (a, a * found, a * found**2, b, b * found, c)]
    variance = found**2 * sums[0] - 2 * found * sums[1] + sums[2] + sums[5] - 2 * (found * sums[3] - sums[4])
    return found, np.sqrt(np.maximum(variance, 0))


def _bounds(share: np.ndarray, error: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval on the scale log(−log); before the first end the upper bound is Wilson's for none of n."""
    inside = (share > 0) & (share < 1)
    logs = np.log(np.where(inside, share, 0.5))
    spread = Z95 * np.where(inside, error, 0.0) / (np.where(inside, share, 0.5) * -logs)
    low, high = (np.where(inside, np.exp(logs * np.exp(side * spread)), share) for side in (1, -1))
    none = np.array([wilson(0, float(k))[1] if k > 0 else math.nan for k in n])
    return low, np.where(share <= 0, none, high)
