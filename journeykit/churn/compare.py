"""Whether segments differ in how long people stay: log-rank tests and differences of restricted means."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.multitest import multipletests

from journeykit.churn.curves import (
    MIN_ENDS,
    Z95,
    area,
    ends_by,
    entries,
    few_ends,
    from_day,
    groups_of,
    reach,
    result_of,
)
from journeykit.churn.spells import UNKNOWN
from journeykit.stats import not_enough

COMPARE_COLUMNS = (
    *("segment", "reference", "n", "reference_people_n", "horizon_days"),
    *("difference_days", "difference_days_low", "difference_days_high", "p_value"),
)


def compare_segments(spells: pd.DataFrame, horizon: float, *, min_n: int = 20) -> pd.DataFrame:
    """Return how many days more or fewer each segment stays than the largest one, and the log-rank test.

    The difference is one of restricted means up to `horizon` (see `restricted_mean`). `p_value` is the log-rank
    test's, by Holm's method over the comparisons. `.attrs` holds the test of all segments at once ("logrank_chi2",
    "logrank_p_value"). Segments may differ in other ways too (`adjust.adjusted_segments`). People of unknown segment,
    and segments with fewer than 10 ends within the horizon, are not compared, but noted. Late entry is respected by
    both: nobody is at risk before coming under observation.

    One row per segment other than the reference, sorted by segment: segment, reference, n, reference_people_n,
    horizon_days, difference_days (low, high), p_value.
    """
    kept, horizon, note = comparable(spells, horizon, min_n)
    if len(kept) < 2:
        return not_enough(COMPARE_COLUMNS, note)
    reference, base = max(kept, key=lambda item: len(item[1]))
    base_mean, base_error = area(base, horizon)
    rows, p_values = [], []
    for name, group in kept:
        if name == reference:
            continue
        mean, error = area(group, horizon)
        gap, half = mean - base_mean, Z95 * math.hypot(error, base_error)
        p_values.append(log_rank([group, base])[1])
        bounds = np.clip([gap - half, gap + half], -horizon, horizon)
        rows.append([name, reference, len(group), len(base), horizon, gap, *bounds])
    adjusted = multipletests(p_values, method="holm")[1]
    lines = [(*row, p) for row, p in zip(rows, adjusted, strict=True)]
    result = result_of(lines, COMPARE_COLUMNS, note, from_day(kept))
    result.attrs["logrank_chi2"], result.attrs["logrank_p_value"] = log_rank([group for _, group in kept])
    return result


def comparable(spells: pd.DataFrame, horizon: float, min_n: int) -> tuple[list[tuple[str, pd.DataFrame]], float, str]:
    """Return the segments that can be compared, the horizon that all of them reach, and who is left out.

    With fewer than two segments, the last says why nothing can be compared.
    """
    groups, note = groups_of(spells, True, min_n)
    unknown = sum(len(group) for name, group in groups if name == UNKNOWN)
    groups = [(name, group) for name, group in groups if name != UNKNOWN]
    if len(groups) < 2:
        return [], horizon, note or f"not enough data (n = {len(groups)}, at least 2 are needed)"
    note = f"{note} {unknown:,} people of unknown segment are not compared.".strip() if unknown else note
    horizon = min([float(horizon), *[reach(group) for _, group in groups]])
    kept = [(name, group) for name, group in groups if ends_by(group, horizon) >= MIN_ENDS]
    if left_out := len(groups) - len(kept):
        note = f"{note} {left_out} segment{'s' * (left_out > 1)} left out: {few_ends(horizon)}.".strip()
    if len(kept) < 2:
        return [], horizon, f"not enough data ({note.rstrip('.')})"
    return kept, horizon, note


def log_rank(groups: list[pd.DataFrame]) -> tuple[float, float]:
    """The log-rank test of groups, chi-squared and p-value, with late entry."""
    table = pd.concat([group.assign(_group=k, _entry=entries(group)) for k, group in enumerate(groups)])
    late = table["_entry"].to_numpy(float)
    late = np.where(late <= late.min(), -1.0, late)  # seen from the start on: at risk at every time, day 0 too
    entry = late if (late >= 0).any() else None
    columns = (table[name].to_numpy() for name in ("duration_days", "ended", "_group"))
    chi2 = float(survdiff(*columns, entry=entry)[0])
    return chi2, float(_stats.chi2.sf(chi2, len(groups) - 1))
