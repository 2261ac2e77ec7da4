"""The plain comparison of before and after, shown beside the others because it is so often wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from journeykit.changes.counterfactual import EFFECT
from journeykit.changes.series import label, unit
from journeykit.config_changes import Series
from journeykit.stats import not_enough

METHOD = "before/after"


def before_after(table: pd.DataFrame, series: Series, *, currency: str = "") -> pd.DataFrame:
    """Return the mean after a change minus the mean before it, with the interval that takes days as independent.

    Days are not independent: trends, seasons and drift move whole months, so this interval is far too narrow. In the
    simulation of this template it holds the truth one time in three (nominal: 19 in 20). It is here to be compared.
    A share of at most 1 is compared as two proportions (Newcombe), everything else by Welch's t-test of the days or
    weeks.

    Returns:
        One row with the columns of `counterfactual`'s effect; total is missing. Empty with a reason when `table` is.
    """
    if table.empty:
        return not_enough(EFFECT, str(table.attrs.get("reason", f"{label(series)}: no data")))
    after = table["is_after"].to_numpy(dtype=bool)
    sides = [table.loc[~after], table.loc[after]]
    tops, pers = ([float(side[name].sum()) for side in sides] for name in ("top", "per"))
    if series.kind == "share" and all(0 <= top <= per for top, per in zip(tops, pers, strict=True)):
        old, new = tops[0] / pers[0], tops[1] / pers[1]
        low, high = confint_proportions_2indep(tops[1], pers[1], tops[0], pers[0], method="newcomb")
        moved = 0 < tops[0] + tops[1] < sum(pers)
        counts = (tops[1], pers[1], tops[0], pers[0])
        p_value = float(test_proportions_2indep(*counts, method="agresti-caffo").pvalue) if moved else 1.0
    else:
        values = [side["value"].dropna().to_numpy(dtype=float) for side in sides]
        old, new = (float(value.mean()) for value in values)
        if max(np.ptp(value) for value in values) <= 1e-12 * max(1.0, abs(old)):
            return not_enough(EFFECT, f"{label(series)}: neither side varies")
        tested = _stats.ttest_ind(values[1], values[0], equal_var=False)
        interval = tested.confidence_interval()
        low, high, p_value = float(interval.low), float(interval.high), float(tested.pvalue)
    days = table["days_n"].to_numpy()
    row: dict[str, object] = {"metric": label(series), "method": METHOD, "unit": unit(series, currency)}
    row |= {"observed": new, "expected": old, "p_value": p_value}
    for side, value in (("", new - old), ("_low", float(low)), ("_high", float(high))):
        row |= {f"effect{side}": value, f"relative_share{side}": value / old if old else np.nan, f"total{side}": np.nan}
    row |= {"days_before_n": int(days[~after].sum()), "days_after_n": int(days[after].sum())}
    row["note"] = "It takes days as independent, which they are not."
    return pd.DataFrame([row])[list(EFFECT)]
