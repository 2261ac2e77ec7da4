"""When leaving is likeliest: the chance of leaving over tenure, for those who are still there."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.churn.curves import groups_of, result_of, whole
from journeykit.stats import not_enough

HAZARD_COLUMNS = (
    *("from_day", "to_day", "at_risk_n", "ended_n"),
    *("leaving_share", "leaving_share_low", "leaving_share_high"),
)


def leaving_by_tenure(
    spells: pd.DataFrame, *, width: float = 30.0, horizon: float = math.inf, min_n: int = 20
) -> pd.DataFrame:
    """Return the chance of leaving in each period of tenure, for those who are there at its start.

    Ends divided by person-days give a constant rate in the period; the chance of leaving over the whole period is
    1 − exp(−rate × width), with an exact Poisson interval (Garwood 1936) carried through. Periods with fewer than
    `min_n` people at their start are left out.

    One row per period: from_day, to_day, at_risk_n, ended_n, leaving_share, leaving_share_low, leaving_share_high.
    """
    groups, note = groups_of(spells, False, min_n)
    if not groups:
        return not_enough(HAZARD_COLUMNS, note)
    duration = groups[0][1]["duration_days"].to_numpy(float)
    ended = groups[0][1]["ended"].to_numpy() == 1
    rows = []
    for begin in np.arange(0.0, min(float(duration.max()), horizon), width):
        close = float(begin) + width
        # A period owns the moments after its start up to its end, so that an end on its last day counts in it.
        there = duration > begin if begin > 0 else duration >= 0
        exposure = float(np.clip(duration[there] - begin, 0, width).sum())
        ends = int((ended & there & (duration <= close)).sum())
        if there.sum() < min_n or exposure <= 0:
            continue
        low = float(_stats.chi2.ppf(0.025, 2 * ends)) / 2 if ends else 0.0
        high = float(_stats.chi2.ppf(0.975, 2 * ends + 2)) / 2
        shares = [1 - math.exp(-k / exposure * width) for k in (ends, low, high)]
        rows.append((float(begin), close, int(there.sum()), ends, *shares))
    nothing = "not enough data (nobody was observed for any length of time)"
    result = result_of(rows, HAZARD_COLUMNS, note if rows else nothing)
    return result.assign(from_day=whole(result["from_day"]), to_day=whole(result["to_day"]))
