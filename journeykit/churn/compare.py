"""Whether segments differ in how long people stay: log-rank tests and differences of restricted means."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
from lifelines.statistics import multivariate_logrank_test
from statsmodels.stats.multitest import multipletests

from journeykit.churn.curves import MIN_ENDS, Z95, area, ends_by, few_ends, groups_of, reach, result_of
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
    "logrank_p_value"). Segments may differ in other ways too. People of unknown segment, and segments with fewer than
    10 ends within the horizon, are not compared, but noted.

    One row per segment other than the reference, sorted by segment.
    """
    groups, note = groups_of(spells, True, min_n)
    unknown = sum(len(group) for name, group in groups if name == UNKNOWN)
    groups = [(name, group) for name, group in groups if name != UNKNOWN]
    if len(groups) < 2:
        return not_enough(COMPARE_COLUMNS, note or f"not enough data (n = {len(groups)}, at least 2 are needed)")
    note = f"{note} {unknown:,} people of unknown segment are not compared.".strip() if unknown else note
    horizon = min([float(horizon), *[reach(group) for _, group in groups]])
    kept = [(name, group) for name, group in groups if ends_by(group, horizon) >= MIN_ENDS]
    if left_out := len(groups) - len(kept):
        note = f"{note} {left_out} segment{'s' * (left_out > 1)} left out: {few_ends(horizon)}.".strip()
    if len(kept) < 2:
        return not_enough(COMPARE_COLUMNS, f"not enough data ({note.rstrip('.')})")
    reference, base = max(kept, key=lambda item: len(item[1]))
    base_mean, base_error = area(base, horizon)
    rows, p_values = [], []
    for name, group in kept:
        if name == reference:
            continue
        mean, error = area(group, horizon)
        gap, half = mean - base_mean, Z95 * math.hypot(error, base_error)
        p_values.append(_log_rank(pd.concat([group, base]))[1])
        bounds = np.clip([gap - half, gap + half], -horizon, horizon)
        rows.append([name, reference, len(group), len(base), horizon, gap, *bounds])
    adjusted = multipletests(p_values, method="holm")[1]
    result = result_of([(*row, p) for row, p in zip(rows, adjusted, strict=True)], COMPARE_COLUMNS, note)
    result.attrs["logrank_chi2"], result.attrs["logrank_p_value"] = _log_rank(pd.concat([group for _, group in kept]))
    return result


def _log_rank(table: pd.DataFrame) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = multivariate_logrank_test(table["duration_days"], table["segment"], table["ended"])
    return float(test.test_statistic), float(test.p_value)
