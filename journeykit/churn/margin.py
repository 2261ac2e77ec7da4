"""What a customer with a contract is worth: discounted expected margin, never beyond what was observed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from journeykit.churn.areas import Area, Span, resamples
from journeykit.churn.curves import groups_of
from journeykit.config_churn import Value
from journeykit.durations import seconds
from journeykit.errors import JourneyError
from journeykit.stats import not_enough

YEAR, DAY_SECONDS, STEP = 365.25, 86_400, 7.0  # days; seconds; days between the points of a curve of value
REPETITIONS = 200
VALUE_COLUMNS = (
    *("segment", "n", "ended_n", "horizon_days", "new_value", "new_value_low", "new_value_high"),
    *("there_n", "ahead_days", "remaining_value", "remaining_value_low", "remaining_value_high"),
    *("total_value", "total_value_low", "total_value_high"),
)
GROWTH_COLUMNS = ("segment", "day", "n", "value", "value_low", "value_high")
POINT_COLUMNS = (
    *("segment", "n", "horizon_days", "still_there_share", "still_there_share_low", "still_there_share_high"),
    *("new_value", "new_value_low", "new_value_high"),
    *("there_n", "total_value", "total_value_low", "total_value_high"),
)


def per_day(value: Value) -> float:
    """Return the contribution of a person who is there, for each day: `margin` over the days of `per`.

    >>> per_day(Value(margin=12.0, per="30d"))
    0.4
    """
    return value.margin / (seconds(value.per) / DAY_SECONDS)


def horizon_days(value: Value) -> float:
    """Return how far ahead value is counted, in days.

    >>> horizon_days(Value(horizon="26w"))
    182.0
    """
    return seconds(value.horizon) / DAY_SECONDS


def rate(discount: float) -> float:
    """Return the continuous rate for each day of a yearly discount: money t days later counts exp(−rate · t)."""
    return math.log1p(discount) / YEAR


def present_value(still_there: Any, days: Any, *, per_day: float, discount: float) -> np.ndarray:
    """Return what each person is expected to contribute over a grid of days, in today's money.

    Definition: ∫ per_day · S(t) · (1 + discount)^(−t / 365.25) dt by the trapezoid rule: the contribution runs on every
    day. Rival: whole payments at the start of each period, which counts the first one in full and is larger by about
    half a period's margin.

    Args:
        still_there: probabilities to be still there, one row a person, one column a day of the grid.
        days: the grid, increasing, beginning at 0.
        per_day: contribution for each day that a person is there.
        discount: what money a year later is worth less, as a share.

    Returns:
        One value for each row.

    Raises:
        JourneyError: the grid does not increase from 0, or does not fit the probabilities.

    >>> present_value([[1.0, 0.5]], [0, 30], per_day=1.0, discount=0.0).tolist()
    [22.5]
    """
    grid, share = np.asarray(days, dtype=float), np.atleast_2d(np.asarray(still_there, dtype=float))
    if not len(grid) or grid[0] != 0 or (np.diff(grid) <= 0).any() or share.shape[1] != len(grid):
        raise JourneyError(
            f"present_value: {len(grid)} days for {share.shape[1]} columns. Give one column for each day of a grid "
            "that begins at 0 and increases."
        )
    return np.asarray(np.trapezoid(per_day * share * np.exp(-rate(discount) * grid), grid, axis=1))


def customer_value(
    spells: pd.DataFrame,
    value: Value,
    *,
    by: bool = False,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what a new customer and those there now are expected to contribute over the horizon, in today's money.

    Definition: `per_day` times the discounted area under the Kaplan–Meier curve up to the horizon; for a person who has
    been there u days, under S(u + t) / S(u). Nothing is claimed beyond what was observed: a curve counts only while
    at least `min_n` people are at risk, and a horizon that reaches further is cut back to it (`horizon_days`); for
    those there now to what their tenure leaves of it (`ahead_days`, the mean), so that theirs is a value of *at least*
    so much. `.attrs["note"]` says so. Rivals: an unlimited lifetime value, margin / leaving rate, which assumes
    that the chance of leaving never changes and is mostly made of years that nobody has seen; 1 / average tenure of
    those who left, which forgets all who stayed.

    Intervals are percentiles of a bootstrap over people: they say how well the curve is known. They are intervals of
    the expected value; the sum that comes in also depends on luck. The people there now and the margin are taken as
    known.

    Args:
        spells: `duration_days`, `ended`, with `by` also `segment`; `entered_days` for late entry.
        value: `[churn.value]` of journey.toml.
        by: one row for each segment, each with its own curve.
        min_n: segments of fewer people are not shown.
        repetitions: of the bootstrap.
        seed: of its random numbers.

    Returns:
        One row per segment: segment, n, ended_n, horizon_days, new_value (for one new customer), there_n (people there
        now whose curve is known), ahead_days, remaining_value (for one of them), total_value (for all of them); money
        with its 95 % interval. Empty, with a reason, when no margin is declared.

    >>> people = pd.DataFrame({"duration_days": [10.0] * 50 + [30.0] * 50, "ended": [1] * 50 + [0] * 50})
    >>> table = customer_value(people, Value(margin=30.0, per="30d", discount=0.0, horizon="30d"))
    >>> table[["new_value", "there_n"]].values.tolist()  # 10 days of all, 20 of the half that stays
    [[20.0, 50.0]]
    """
    if reason := _nothing(value):
        return not_enough(VALUE_COLUMNS, reason)
    groups, note = groups_of(spells, by, min_n)
    seen = [_Seen(name, group, value, min_n) for name, group in groups]
    limit, notes = _common(seen, value, note, min_n)
    rows = []
    for one in seen:
        new, there = one.new(limit), one.there(limit)
        drawn = []
        for survival in one.curves(repetitions, seed):
            left = one.money * there.days(survival)
            drawn.append((one.money * new.days(survival)[0], left.mean() if len(left) else math.nan))
        first, remaining = np.array(drawn).T
        row = {"segment": one.name, "n": one.area.n, "ended_n": one.ended_n, "horizon_days": limit}
        row |= _spread("new_value", first if limit > 0 else first * math.nan)
        row |= {"there_n": len(one.tenure), "ahead_days": one.ahead_days(limit)}
        row |= _spread("remaining_value", remaining) | _spread("total_value", remaining * len(one.tenure))
        rows.append(row)
    return _table(rows, VALUE_COLUMNS, notes)


def growth(
    spells: pd.DataFrame,
    value: Value,
    *,
    by: bool = False,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what a new customer is expected to have contributed by each day, in today's money (see `customer_value`).

    Returns:
        One row per segment and week up to the horizon (as far as it was observed): segment, day, n (people of the
        segment), value with its pointwise 95 % interval.
    """
    if reason := _nothing(value):
        return not_enough(GROWTH_COLUMNS, reason)
    groups, note = groups_of(spells, by, min_n)
    seen = [_Seen(name, group, value, min_n) for name, group in groups]
    limit, notes = _common(seen, value, note, min_n)
    if limit <= 0:
        return not_enough(GROWTH_COLUMNS, notes or "not enough data (n = 0)")
    days = np.append(np.arange(0.0, limit, STEP), limit)
    parts = []
    for one in seen:
        span = one.area.span(np.zeros(len(days)), days, rate(value.discount))
        drawn = np.array([one.money * span.days(survival) for survival in one.curves(repetitions, seed)])
        low, high = np.quantile(drawn[1:] if repetitions else drawn, [0.025, 0.975], axis=0)
        columns = {"day": days, "n": one.area.n, "value": drawn[0], "value_low": low, "value_high": high}
        parts.append(pd.DataFrame({"segment": one.name, **columns}))
    result = pd.concat(parts, ignore_index=True)
    result.attrs["note"] = notes
    return result


def retention_point(
    spells: pd.DataFrame,
    value: Value,
    *,
    points: float = 1.0,
    by: bool = False,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what it would be worth if one percentage point more were still there at the horizon.

    Definition: the hazard of leaving is lowered by the same factor on every day, so that S(horizon) rises by
    `points` / 100: S(t)^θ with θ = log(S(H) + .01) / log S(H). A new customer gains per_day times the area between the
    two curves; those there now gain from their tenure on, by the same factor. What it costs to keep the point is not
    taken off, and that it can be kept at all is for an experiment to show. Rival: the point is kept on the last
    day only, which brings nothing before it and so much less.

    Args: as `customer_value`; `points` are percentage points.

    Returns:
        One row per segment: segment, n, horizon_days, still_there_share at the horizon, new_value (what the point adds
        for one new customer), there_n, total_value (what it adds over all there now), each with its 95 % interval.
        Empty, with a reason, where nobody left or a point more would be more than all.

    Raises:
        JourneyError: `points` is not above 0 and below 100.
    """
    if not 0 < points < 100:
        raise JourneyError(f"retention_point: points = {points:g}. Give percentage points above 0 and below 100.")
    if reason := _nothing(value):
        return not_enough(POINT_COLUMNS, reason)
    groups, note = groups_of(spells, by, min_n)
    seen = [_Seen(name, group, value, min_n) for name, group in groups]
    limit, notes = _common(seen, value, note, min_n)
    rows = []
    for one in seen:
        new, there = one.new(limit), one.there(limit)
        drawn = []
        for survival in one.curves(repetitions, seed):
            share = float(one.area.at(survival, np.array([limit]))[0])
            slower = survival ** _factor(share, points / 100)
            gains = np.array([(span.days(slower) - span.days(survival)).sum() for span in (new, there)])
            drawn.append((share, *(one.money * gains if 0 < share < 1 - points / 100 else gains * math.nan)))
        share, first, total = np.array(drawn).T
        if limit <= 0 or math.isnan(first[0]):
            who = f" for {one.name}" if by else ""
            why = f": {100 * share[0]:.0f} % are still there after {limit:.0f} days" if limit > 0 else ""
            notes = f"{notes} What a point more is worth cannot be said{who}{why}.".strip()
            continue
        row = {"segment": one.name, "n": one.area.n, "horizon_days": limit, **_spread("still_there_share", share)}
        row |= _spread("new_value", first) | {"there_n": len(one.tenure)} | _spread("total_value", total)
        rows.append(row)
    return _table(rows, POINT_COLUMNS, notes)


class _Seen:
    """A group of people, its curve, and the tenure of those of it who are there now."""

    def __init__(self, name: str, group: pd.DataFrame, value: Value, min_n: int) -> None:
        self.name, self.area = name, Area(group, min_n=min_n)
        self.money, self._rate, self._asked = per_day(value), rate(value.discount), horizon_days(value)
        self.ended_n = int((group["ended"] == 1).sum())
        there = group.loc[group["ended"] == 0, "duration_days"].to_numpy(float)
        self.tenure = there[self.area.known(there)]
        self.unknown_n = len(there) - len(self.tenure)
        self.limit = float(self.area.reach(np.zeros(1))[0])

    def ahead(self, limit: float) -> np.ndarray:
        # Where nothing is known of new customers, those there now may still be known of.
        return np.minimum(limit or self._asked, self.area.reach(self.tenure) - self.tenure)

    def ahead_days(self, limit: float) -> float:
        return float(self.ahead(limit).mean()) if len(self.tenure) else math.nan

    def new(self, limit: float) -> Span:
        return self.area.span(np.zeros(1), np.array([limit]), self._rate)

    def there(self, limit: float) -> Span:
        return self.area.span(self.tenure, self.tenure + self.ahead(limit), self._rate)

    def curves(self, repetitions: int, seed: int) -> Iterator[np.ndarray]:
        """The curve, then those of the resamples."""
        yield self.area.survival()
        for weights in resamples(self.area.n, repetitions, np.random.default_rng(seed)):
            yield self.area.survival(weights)


def _common(seen: list[_Seen], value: Value, note: str, min_n: int) -> tuple[float, str]:
    """The horizon that all groups were observed for, so that they compare, and what is to be said about it."""
    if not seen:
        return 0.0, note
    asked = horizon_days(value)
    limit = min(asked, *[one.limit for one in seen])
    said = [note]
    if limit <= 0:
        said.append(f"Fewer than {min_n} people were seen from their first day, so that a new one has no value here.")
    elif limit < asked:
        which = f" in “{min(seen, key=lambda one: one.limit).name}”" if len(seen) > 1 else ""
        said.append(f"The horizon of {asked:.0f} days is cut back to the {limit:.0f} that were observed{which}.")
    there = sum(len(one.tenure) for one in seen)
    ahead = sum(float(one.ahead(limit).sum()) for one in seen) / max(there, 1)
    if there and ahead < (limit or asked) - 0.5:
        said.append(
            f"Those there now are valued for {ahead:.0f} days ahead on average, because nobody was observed for "
            "longer: they are worth at least so much."
        )
    if unknown := sum(one.unknown_n for one in seen):
        said.append(f"{unknown:,} people there now are left out: too few were seen at their tenure.")
    return limit, " ".join(text for text in said if text)


def _nothing(value: Value) -> str:
    if value.margin > 0:
        return ""
    return "no margin is declared, so that customers have no value: say it as margin of [churn.value] in journey.toml"


def _factor(share: float, point: float) -> float:
    """The factor of the hazard that lifts the share still there by a point; 1 where there is none."""
    return math.log(share + point) / math.log(share) if 0 < share < 1 - point else 1.0


def _spread(name: str, draws: np.ndarray) -> dict[str, float]:
    """The estimate (the first draw) and the percentile interval of the others."""
    known = draws[1:][~np.isnan(draws[1:])]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) and not math.isnan(draws[0]) else (math.nan, math.nan)
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...], note: str) -> pd.DataFrame:
    if not rows:
        return not_enough(columns, note or "not enough data (n = 0)")
    result = pd.DataFrame(rows)[list(columns)]
    result.attrs["note"] = note
    return result
