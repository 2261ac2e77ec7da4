"""The hazard of leaving over tenure, cumulated: as far as enough people were seen, and then as the last months seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

MIN_AT_RISK = 20  # people that a curve must rest on; it is not read further


@dataclass(frozen=True)
class Cumulative:
    """A cumulative hazard over tenure: steps while it was seen, then as steep as the last months seen."""

    days: np.ndarray
    values: np.ndarray
    last_days: float
    rate: float

    def __call__(self, tenure: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.days, np.minimum(tenure, self.last_days), side="right")
        seen = np.append(0.0, self.values)[place]
        return np.asarray(seen + self.rate * np.maximum(tenure - self.last_days, 0.0))


def last_day(rows: pd.DataFrame) -> float:
    """The last day of tenure at which enough people were there and observed."""
    if len(rows) < MIN_AT_RISK:
        return 0.0
    begins, ends = np.sort(rows["from_days"].to_numpy(float)), np.sort(rows["to_days"].to_numpy(float))
    at_risk = np.searchsorted(begins, ends, side="left") - np.searchsorted(ends, ends, side="left")
    enough = ends[at_risk >= MIN_AT_RISK]
    return float(enough.max()) if len(enough) else 0.0


def curve(rows: pd.DataFrame, each: np.ndarray, last: float, ratio: np.ndarray | None = None) -> Cumulative:
    """The cumulative hazard of rows that begin and end at a tenure: −log of Kaplan–Meier, with ratios Breslow's."""
    begins, ends = rows["from_days"].to_numpy(float), rows["to_days"].to_numpy(float)
    left = (rows["ended"].to_numpy() == 1) & (ends <= last)
    days = np.unique(ends[left])
    leavers = np.bincount(np.searchsorted(days, ends[left]), each[left], len(days))
    there = each if ratio is None else each * ratio
    at_risk = _before(begins, there, days) - _before(ends, there, days)
    share = np.divide(leavers, at_risk, out=np.zeros(len(days)), where=leavers > 0)
    steps = share if ratio is not None else -np.log1p(-np.minimum(share, 1 - 1e-9))
    return _cumulative(days, np.cumsum(steps), last)


def _before(moments: np.ndarray, each: np.ndarray, days: np.ndarray) -> np.ndarray:
    """The weight of rows whose moment is before each day."""
    order = np.argsort(moments, kind="stable")
    total = np.append(0.0, np.cumsum(each[order]))
    return np.asarray(total[np.searchsorted(moments[order], days, side="left")])


def _cumulative(days: np.ndarray, values: np.ndarray, last: float) -> Cumulative:
    kept = days <= last
    steps = Cumulative(days[kept], values[kept], last, 0.0)
    window = min(90.0, last)  # a quarter is steadier than a month, and still recent
    ends = steps(np.array([last - window, last]))
    return Cumulative(steps.days, steps.values, last, float((ends[1] - ends[0]) / window))
