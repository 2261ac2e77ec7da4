"""What became of what was done: predicted effects beside realised ones, and how good the predictions were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from journeykit.changes.around import Moment, around, first_days
from journeykit.changes.counterfactual import counterfactual
from journeykit.changes.series import daily
from journeykit.config_changes import Action
from journeykit.stats import mean_interval, not_enough, reason_of, wilson

NO_ACTION = "no [[actions]] are declared in journey.toml"
FOLLOWED = (
    *("action", "team", "finding", "on", "metric", "unit", "predicted", "predicted_low", "predicted_high"),
    *("realised", "realised_low", "realised_high", "verdict", "in_range", "days_n", "reason"),
)
CALIBRATION = ("question", "value", "low", "high", "unit", "n")
EARLY, AS, LESS, MORE, OPEN, UNKNOWN = (
    *("too early", "compatible with the prediction", "less than predicted", "more than predicted"),
    *("compatible, but not shown", "cannot be told"),
)
FEWEST_DAYS = 28  # whole days, before which no prediction is judged
JUDGED = (AS, LESS, MORE, OPEN)


def followed(
    touches: Any,
    *,
    actions: Iterable[Action],
    timezone: str = "UTC",
    as_of: pd.Timestamp,
    currency: str = "",
) -> pd.DataFrame:
    """Return the predicted effect of each action beside the one realised so far (quasi-experimental).

    Realised is what `counterfactual` finds from the action's date on, over the days so far (91 at most), in the unit of
    the prediction: a difference for shares, else relative. Before 28 whole days the verdict is *too early*, though the
    figure so far is shown where there is one.

    Verdicts: *compatible with the prediction* the interval excludes 0 and holds the prediction · *less* and *more than
    predicted* the whole interval lies on that side of the prediction, seen in its direction · *compatible, but not
    shown* it holds both 0 and the prediction · *cannot be told* there is no estimate; `reason` says why.

    Returns:
        One row per action by date: action, team, finding, on, metric, unit ("points": a difference of
        shares in percentage points; "share": relative to what was expected), predicted (low, high: where given),
        realised (low, high), verdict, in_range (the realised estimate lies within the predicted range; missing without
        a range or before 28 days), days_n whole days since, reason.
    """
    found = [
        _row(touches, action, timezone, as_of, currency)
        for action in sorted(actions, key=lambda one: (pd.Timestamp(one.on, tz=None).isoformat(), one.name))
    ]
    if not found:
        return not_enough(FOLLOWED, NO_ACTION)
    return pd.DataFrame(found, columns=list(FOLLOWED))


def _row(touches: Any, action: Action, timezone: str, as_of: pd.Timestamp, currency: str) -> dict[str, Any]:
    series = action.metric
    moment = Moment(at=pd.Timestamp(action.on), timezone=timezone)
    days = daily(touches, series, timezone=timezone, until=as_of)
    control = daily(touches, action.control, timezone=timezone, until=as_of) if action.control else None
    table = around(days, series, moment=moment, control=control, control_series=action.control)
    effect = counterfactual(table, series, currency=currency, with_path=False).effect
    start = first_days(moment)[1]
    whole = int(((days["day"] >= start) & days["is_complete"].astype(bool)).sum()) if len(days) else 0
    name = "effect" if series.kind == "share" else "relative_share"
    told = effect.iloc[0] if len(effect) else pd.Series(dtype=float)
    realised = [float(told.get(f"{name}{side}", np.nan)) for side in ("", "_low", "_high")]
    verdict, reason = _verdict(action, realised, whole, reason_of(effect))
    low, high = action.predicted_low, action.predicted_high
    ranged = low is not None and high is not None and verdict in JUDGED
    scale = 100 if series.kind == "share" else 1
    predicted = [scale * (np.nan if value is None else value) for value in (action.predicted, low, high)]
    return {
        "action": action.label,
        "team": action.team,
        "finding": action.finding,
        "on": start,
        "metric": series.label or series.name,
        "unit": "points" if series.kind == "share" else "share",
        **dict(zip(("predicted", "predicted_low", "predicted_high"), predicted, strict=True)),
        **dict(zip(("realised", "realised_low", "realised_high"), [scale * value for value in realised], strict=True)),
        "verdict": verdict,
        "in_range": bool(low <= realised[0] <= high) if ranged else None,  # type: ignore[operator]
        "days_n": whole,
        "reason": reason,
    }


def _verdict(action: Action, realised: list[float], days: int, reason: str) -> tuple[str, str]:
    """The verdict and, where there is none, why."""
    if days < FEWEST_DAYS:
        return EARLY, f"{days} whole days so far, at least {FEWEST_DAYS} are needed"
    if not np.isfinite(realised).all():
        return UNKNOWN, reason or "what was expected is too near 0 for a relative effect"
    sign = -1.0 if action.predicted < 0 else 1.0
    low, high = sorted(sign * bound for bound in realised[1:])
    predicted = sign * action.predicted
    if high < predicted:
        return LESS, ""
    if low > predicted:
        return MORE, ""
    return (OPEN, "") if low <= 0 <= high else (AS, "")


def calibration(table: pd.DataFrame) -> pd.DataFrame:
    """Return how good the predictions of `followed` were so far, over the actions whose time has come.

    *In the predicted range*: the share of actions whose realised estimate lies in it; with honest ranges of 90 times
    out of 100, below nine in ten, because the estimate adds chance of its own. *In the predicted direction*: the share
    whose estimate has the sign of the prediction (one half is guessing). *Realised per predicted*: mean ratio with the
    interval of Student's t, which is wide for few actions and missing for one; below 1, effects are overpromised.
    The choice of what was done is a selection of high hopes, so a ratio below 1 is to be expected (winner's curse).

    Returns:
        One row per question: question, value, low, high, unit, n.
    """
    judged = table.loc[table["verdict"].isin(JUDGED)] if len(table) else table
    if judged.empty:
        waiting = f"; {len(table)} declared" if len(table) else ""
        return not_enough(CALIBRATION, reason_of(table) or f"no action can be judged yet{waiting}")
    found: list[tuple[object, ...]] = []
    ranged = judged["in_range"].dropna().astype(bool)
    if len(ranged):
        within = wilson(int(ranged.sum()), len(ranged))
        found.append(("in the predicted range", float(ranged.mean()), *within, "share", len(ranged)))
    agree = (np.sign(judged["realised"].astype(float)) == np.sign(judged["predicted"].astype(float))).to_numpy()
    found.append(
        ("in the predicted direction", float(agree.mean()), *wilson(int(agree.sum()), len(agree)), "share", len(agree))
    )
    ratios = (
        judged["realised"].astype(float) / judged["predicted"].where(judged["predicted"] != 0).astype(float)
    ).dropna()
    if len(ratios):
        found.append(("realised per predicted", *mean_interval(ratios), "ratio", len(ratios)))
    return pd.DataFrame(found, columns=list(CALIBRATION))
