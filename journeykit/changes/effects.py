"""Every method for every change that is declared, one under the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from journeykit.changes.around import Moment, around
from journeykit.changes.before_after import METHOD as PLAIN
from journeykit.changes.before_after import before_after
from journeykit.changes.counterfactual import EFFECT, METHOD, PATH, counterfactual
from journeykit.changes.differences import METHOD as SIDES
from journeykit.changes.differences import TRENDS, differences
from journeykit.changes.placebo import COLUMNS as PLACEBO
from journeykit.changes.placebo import placebo
from journeykit.changes.series import daily
from journeykit.config_changes import Change
from journeykit.stats import not_enough, reason_of

NO_CHANGE = "no [[changes]] are declared in journey.toml"
PLACEBO_DATES = "placebo dates"
SHARES = ("placebo_share", "wolf_share", "plain_wolf_share", "dates_n")
EFFECTS = ("change", *EFFECT[:-3], "placebo_share", *EFFECT[-3:], "better", "owner")
COLUMNS = {
    "effects": EFFECTS,
    "paths": ("change", *PATH, "unit"),
    "placebo": ("change", *PLACEBO),
    "trends": ("change", *TRENDS),
    "left_out": ("change", "method", "reason"),
}


class Results(NamedTuple):
    """The tables of all changes, one under the other; each has a column `change` before those of its function."""

    effects: pd.DataFrame
    paths: pd.DataFrame
    placebo: pd.DataFrame
    trends: pd.DataFrame
    left_out: pd.DataFrame  # change, method, reason


def effects(
    touches: Any,
    *,
    changes: Iterable[Change],
    timezone: str = "UTC",
    as_of: pd.Timestamp,
    currency: str = "",
) -> Results:
    """Return what each change brought, by each method that its declaration allows.

    The first method of a change is the one to read: the counterfactual. Difference in differences stands beside it
    where groups are declared. Before/after is last, to show how far off the plain comparison is.

    Returns:
        effects: one row per change and method: change, the columns of `counterfactual`'s effect, placebo_share (of the
        counterfactual: in how many of all dates an effect as large came out of nothing), better, owner.
        paths, placebo, trends: see `counterfactual`, `placebo`, `differences`. `placebo.attrs["shares"]`: change →
        placebo_share, wolf_share, plain_wolf_share, dates_n.
        left_out: one row per change and method that gave nothing, with the reason.
    """
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in Results._fields}
    shares: dict[str, dict[str, float]] = {}
    for change in changes:
        table = _around(touches, change, timezone, as_of)
        told = counterfactual(table, change.metric, currency=currency)
        fakes = placebo(table, change.metric, currency=currency)
        found = {METHOD: told.effect, PLACEBO_DATES: fakes}
        if len(told.effect):
            share = fakes.attrs.get("placebo_share", float("nan"))
            found[METHOD] = told.effect.assign(placebo_share=share)
            parts["paths"].append(_named(told.path.assign(unit=told.effect["unit"].iloc[0]), change))
        if len(fakes):
            shares[change.label] = {name: float(fakes.attrs[name]) for name in SHARES}
            parts["placebo"].append(_named(fakes, change))
        if change.groups:
            beside = differences(touches, change, timezone=timezone, until=as_of, currency=currency)
            found[SIDES] = beside.effect
            parts["trends"] += [_named(beside.trends, change)] if len(beside.trends) else []
        found[PLAIN] = before_after(table, change.metric, currency=currency)
        for method, one in found.items():
            if one.empty:
                left = {"change": [change.label], "method": [method], "reason": [reason_of(one)]}
                parts["left_out"].append(pd.DataFrame(left))
            elif method != PLACEBO_DATES:
                full = one if "placebo_share" in one else one.assign(placebo_share=float("nan"))
                parts["effects"].append(_named(full.assign(better=change.metric.better, owner=change.owner), change))
    result = Results(**{name: _stacked(name, tables, parts["left_out"]) for name, tables in parts.items()})
    result.placebo.attrs["shares"] = shares
    return result


def _around(touches: Any, change: Change, timezone: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """The metric of a change around it, with its control series beside it."""
    days = daily(touches, change.metric, timezone=timezone, until=as_of)
    control = daily(touches, change.control, timezone=timezone, until=as_of) if change.control else None
    moment = Moment(at=pd.Timestamp(change.at), settle=change.settle, timezone=timezone)
    return around(days, change.metric, moment=moment, control=control, control_series=change.control)


def _named(table: pd.DataFrame, change: Change) -> pd.DataFrame:
    named = table.copy()
    named.insert(0, "change", change.label)
    return named


def _stacked(name: str, tables: list[pd.DataFrame], left_out: list[pd.DataFrame]) -> pd.DataFrame:
    columns = COLUMNS[name]
    if tables:
        known = [table.dropna(axis="columns", how="all") for table in tables]  # empty columns have no type to agree on
        return pd.concat(known, ignore_index=True).reindex(columns=columns)
    if name == "left_out":
        return not_enough(columns, "every method gave a result, so nothing is left out")
    if name == "trends":
        return not_enough(columns, "no change declares groups, so there is nobody to compare with")
    reasons = dict.fromkeys(reason for table in left_out for reason in table["reason"])
    return not_enough(columns, "; ".join(reasons) or NO_CHANGE)
