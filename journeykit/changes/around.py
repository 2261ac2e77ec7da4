"""The days or weeks around a change: what was before, what is after, and a control series beside it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from journeykit.changes.series import RATIOS, blocks, label
from journeykit.config_base import Part
from journeykit.config_changes import Series
from journeykit.durations import seconds
from journeykit.stats import not_enough

COLUMNS = ("at", "value", "top", "per", "weight", "control", "is_after", "days_n")
LEAST_BEFORE = {1: 56, 7: 16}  # days or weeks; with fewer the intervals of the counterfactual cover too seldom
LEAST_AFTER = {1: 7, 7: 3}
MOST_BEFORE = 364  # days; what is older says little about now
MOST_AFTER = 91  # days; later on too much else has changed
EVENTS_A_DAY, EVENTS_A_WEEK = 10, 10  # events that a usual day or week must hold to be taken as one number
PER_A_DAY, PER_A_WEEK = 30, 15  # the same of what a share or a mean is of


class Moment(Part):
    """When something took effect, and what is left out after it."""

    at: pd.Timestamp
    settle: str = ""
    timezone: str = "UTC"

    model_config = Part.model_config | {"arbitrary_types_allowed": True}


def first_days(moment: Moment) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the first local day that is not before the change, and the first day that counts as after it.

    The day of the change is whole only when the change came at midnight; else it is left out of both sides.

    >>> [str(day)[:10] for day in first_days(Moment(at=pd.Timestamp("2025-09-14T22:00"), timezone="Europe/Berlin"))]
    ['2025-09-15', '2025-09-15']
    >>> [str(day)[:10] for day in first_days(Moment(at=pd.Timestamp("2025-09-14T12:00"), settle="36h"))]
    ['2025-09-14', '2025-09-16']
    """
    at = pd.Timestamp(moment.at)
    at = at.tz_localize("UTC") if at.tz is None else at.tz_convert("UTC")
    local = at.tz_convert(moment.timezone).tz_localize(None)
    later = local + pd.Timedelta(seconds=seconds(moment.settle) if moment.settle else 0)
    return local.floor("D"), later.ceil("D")


def around(
    days: pd.DataFrame,
    series: Series,
    *,
    moment: Moment,
    control: pd.DataFrame | None = None,
    control_series: Series | None = None,
    width: int = 0,
) -> pd.DataFrame:
    """Return a series around a change, day by day where a usual day before it holds enough, else in weeks.

    "Enough" are 10 events (30 of a share's denominator): below, single days are mostly chance and far from normal.
    Weeks are counted from the change on, in both directions, so that none lies on both sides. At most 364 days before
    and 91 days after are taken.

    Args:
        days: the series, from `series.daily`.
        series: what it is.
        moment: when the change took effect.
        control: a series that the change cannot touch, from `series.daily`.
        control_series: what it is.
        width: 1 for days, 7 for weeks; 0 chooses.

    Returns:
        One row per day or week in order: at, value, top, per, weight (of the row in an average: the denominator, or 1),
        control (missing without one), is_after, days_n. `attrs`: width, note (why a control is left out, or "").
        Empty with a reason when there is too little before or after, or the series never varied before.
    """
    if days.empty:
        return not_enough(COLUMNS, str(days.attrs.get("reason", f"{label(series)}: no event of it")))
    end, start = first_days(moment)
    width = width or _width(days.loc[days["day"] < end], series)
    before, after = _sides(days, series, end, start, width)
    reason = _reason(before, after, series, width, days, start)
    if reason:
        return not_enough(COLUMNS, reason)
    table = pd.concat([before.assign(is_after=False), after.assign(is_after=True)], ignore_index=True)
    table["weight"] = table["per"].fillna(0.0) if series.kind in RATIOS else 1.0
    beside, note = _control(table, control, control_series, end, start, width)
    table["control"] = beside
    table = table[list(COLUMNS)]
    table.attrs.update(width=width, note=note)
    return table


def _sides(
    days: pd.DataFrame, series: Series, end: pd.Timestamp, start: pd.Timestamp, width: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    before = blocks(days.loc[days["day"] < end], series, origin=end, width=width)
    after = blocks(days.loc[days["day"] >= start], series, origin=start, width=width)
    return before.tail(MOST_BEFORE // width), after.head(MOST_AFTER // width)


def _width(before: pd.DataFrame, series: Series) -> int:
    whole = before.loc[before["is_complete"]]
    least = PER_A_DAY if series.kind in RATIOS else EVENTS_A_DAY
    return 1 if len(whole) and float(whole["n"].median()) >= least else 7


def _reason(
    before: pd.DataFrame,
    after: pd.DataFrame,
    series: Series,
    width: int,
    days: pd.DataFrame,
    start: pd.Timestamp,
) -> str:
    """Why the table cannot be used, or ""."""
    name, unit = label(series), {1: "days", 7: "weeks"}[width]
    if len(before) < LEAST_BEFORE[width]:
        return (
            f"{name}: too little before the change ({len(before)} complete {unit}, at least {LEAST_BEFORE[width]} are "
            f"needed to tell the change from the ups and downs of before)"
        )
    if len(after) < LEAST_AFTER[width]:
        whole = int(((days["day"] >= start) & days["is_complete"]).sum())
        return (
            f"{name}: too early ({whole} complete days since the change, at least {LEAST_AFTER[width] * width} are "
            "needed)"
        )
    least = PER_A_WEEK if series.kind in RATIOS else EVENTS_A_WEEK
    usual = float(before["n"].median())
    if usual < least:
        of = {"share": "of its denominator", "satisfaction": "with an answer"}.get(series.kind, "")
        return f"{name}: too few events {of} a week ({usual:.0f} in a usual week, at least {least} are needed)".replace(
            "  ", " "
        )
    known = before["value"].dropna()
    if len(known) < LEAST_BEFORE[width]:
        return f"{name}: it has a value in only {len(known)} {unit} before the change; {LEAST_BEFORE[width]} are needed"
    if math.isclose(float(known.max()), float(known.min()), rel_tol=1e-9, abs_tol=1e-12):
        return f"{name}: it never varied before the change, so nothing tells what chance does to it"
    if after["value"].notna().sum() < LEAST_AFTER[width]:
        return f"{name}: it has a value in fewer than {LEAST_AFTER[width]} {unit} after the change"
    return ""


def _control(
    table: pd.DataFrame,
    control: pd.DataFrame | None,
    series: Series | None,
    end: pd.Timestamp,
    start: pd.Timestamp,
    width: int,
) -> tuple[np.ndarray, str]:
    """The control series at the rows of the table, or missing values and why it is left out."""
    none = np.full(len(table), np.nan)
    if control is None or series is None:
        return none, ""
    if control.empty:
        return none, f"The control series {label(series)} is left out: it has no event."
    sides = [side for side in _sides(control, series, end, start, width) if len(side)]
    if not sides:
        return (
            none,
            f"The control series {label(series)} is left out: it has no complete {'day' if width == 1 else 'week'}.",
        )
    found = pd.concat([side[["at", "value"]] for side in sides]).set_index("at")["value"]
    values = found.reindex(table["at"]).to_numpy(dtype=float)
    known = ~np.isnan(values)
    if known.mean() < 0.9:
        return none, f"The control series {label(series)} is left out: it has no value on many days."
    filled = pd.Series(values).interpolate(limit_direction="both").to_numpy()
    before = filled[~table["is_after"].to_numpy(dtype=bool)]
    if np.ptp(before) <= 1e-9 * max(1.0, float(np.abs(before).max())):
        return none, f"The control series {label(series)} is left out: it never varied before the change."
    return filled, ""
