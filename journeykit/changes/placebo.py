"""The same estimate at dates at which nothing was changed: how large an effect comes out of nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from journeykit.changes.around import LEAST_BEFORE
from journeykit.changes.before_after import before_after
from journeykit.changes.counterfactual import counterfactual
from journeykit.changes.series import label
from journeykit.config_changes import Series
from journeykit.stats import not_enough

COLUMNS = (
    *("metric", "at", "is_real", "unit", "effect", "effect_low", "effect_high", "is_outside"),
    *("plain_effect", "plain_low", "plain_high", "plain_is_outside", "days_after_n"),
)
FEWEST, MOST = 8, 26  # placebo dates
AFTER = 28  # days after each date, at most
REPETITIONS = 300


def placebo(table: pd.DataFrame, series: Series, *, currency: str = "", seed: int = 0) -> pd.DataFrame:
    """Return the effects that the counterfactual and the plain comparison find at dates before the change.

    Each placebo date is a week later than the one before it, has at least the fewest periods before it that a
    counterfactual needs, and only days before the real change after it. As long stretches after would leave few dates,
    effects are those of the first 28 days (fewer where the real change has fewer), also the one of the real change,
    so that like is compared with like. Stretches of neighbouring dates overlap: 20 dates are not 20 independent trials.

    Returns:
        One row per date, the real one last: metric, at, is_real, unit, effect (low, high), is_outside (the interval
        excludes 0), plain_effect, plain_low, plain_high, plain_is_outside (the same of `before_after`), days_after_n.
        `attrs`: placebo_share (placebo dates with an effect at least as large, the real one counted among them),
        wolf_share and plain_wolf_share (placebo dates at which either method claims an effect), dates_n.
        Empty with a reason when fewer than 8 dates fit.
    """
    if table.empty:
        return not_enough(COLUMNS, str(table.attrs.get("reason", f"{label(series)}: no data")))
    width = int(table.attrs.get("width", 1))
    split = int((~table["is_after"]).sum())
    length = min(AFTER // width, len(table) - split)
    step = 7 // width
    first = LEAST_BEFORE[width]
    starts = list(range(split - length, first - 1, -step))[:MOST][::-1]  # the latest ones, on the change's weekday
    if len(starts) < FEWEST:
        needed = (first + length + (FEWEST - 1) * step) * width
        return not_enough(
            COLUMNS,
            f"{label(series)}: {len(starts)} placebo dates fit into the time before the change, at least {FEWEST} are "
            f"needed ({needed} days before it)",
        )
    found = []
    for number, start in enumerate([*starts, split]):
        part = table.iloc[: start + length].copy()
        part["is_after"] = np.arange(len(part)) >= start
        part.attrs.update(table.attrs)
        row = _row(part, series, currency, seed + number, start)
        if row:
            found.append(row | {"is_real": start == split})
    result = pd.DataFrame(found, columns=list(COLUMNS))
    fakes, real = result.loc[~result["is_real"].astype(bool)], result.loc[result["is_real"].astype(bool)]
    if len(fakes) < FEWEST or real.empty:
        return not_enough(COLUMNS, f"{label(series)}: the model could be fitted at fewer than {FEWEST} placebo dates")
    as_large = int((fakes["effect"].abs() >= abs(float(real["effect"].iloc[0]))).sum())
    result.attrs.update(
        placebo_share=(1 + as_large) / (1 + len(fakes)),
        wolf_share=float(fakes["is_outside"].mean()),
        plain_wolf_share=float(fakes["plain_is_outside"].mean()),
        dates_n=len(fakes),
    )
    return result


def _row(part: pd.DataFrame, series: Series, currency: str, seed: int, start: int) -> dict[str, object]:
    effect = counterfactual(part, series, currency=currency, repetitions=REPETITIONS, seed=seed, with_path=False).effect
    plain = before_after(part, series, currency=currency)
    if effect.empty or plain.empty:
        return {}
    told, simple = effect.iloc[0], plain.iloc[0]
    return {
        **{name: told[name] for name in ("metric", "unit", "effect", "effect_low", "effect_high", "days_after_n")},
        "at": part["at"].iloc[start],
        "is_outside": not told["effect_low"] <= 0 <= told["effect_high"],
        "plain_effect": simple["effect"],
        "plain_low": simple["effect_low"],
        "plain_high": simple["effect_high"],
        "plain_is_outside": not simple["effect_low"] <= 0 <= simple["effect_high"],
    }
