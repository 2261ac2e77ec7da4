"""What a new customer costs by the channel that brought the person first, and after how long that is earned back."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import chi2

from journeykit import engine, sums
from journeykit.churn import purchases
from journeykit.churn.acquisition import Spend, amounts
from journeykit.churn.areas import Area
from journeykit.churn.margin import horizon_days, per_day, rate
from journeykit.config_churn import Value
from journeykit.errors import require_columns
from journeykit.journey_map import microseconds
from journeykit.stats import not_enough

ALL = "all channels"
REPETITIONS = 200
STEP = 7  # days between the points of a curve
PAYBACK_COLUMNS = (
    *("channel", "n", "spend", "new_n", "cost", "cost_low", "cost_high", "horizon_days"),
    *("earned_days", "earned_value", "earned_value_low", "earned_value_high"),
    *("payback_days", "payback_days_low", "payback_days_high", "paid_back_share", "verdict"),
)
CURVE_COLUMNS = ("channel", "day", "n", "earned_value", "earned_value_low", "earned_value_high", "cost")
DEFINITION = (
    "The first known marketing channel, up to the start, gets the whole cost and the whole margin of a customer; a "
    "cost is all spend of the channel over all new customers it brought while that spend was recorded."
)


class Payback(NamedTuple):
    """The table of payback, and the curves behind it, of one kind of margin."""

    table: pd.DataFrame
    curves: pd.DataFrame


def of_contract(
    spells: pd.DataFrame,
    channels: pd.DataFrame,
    spend: Any,
    value: Value,
    *,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Payback:
    """Return cost and payback of new customers with a contract, by first channel.

    Definition: payback is the first day since the start at which the expected margin of a new customer so far
    (`per_day` × the discounted area under the Kaplan–Meier curve of the channel's customers) reaches the cost of a new
    customer. Those who left early are in it, and those who may still leave count while they were seen. Rivals: cost /
    margin a month, which forgets that customers leave and is too short; spend and margin of the same month, which
    mixes cohorts.

    Cost: spend of the channel / new customers whose first channel it is and who started within the dates of spend
    (`new_n`). It is an average; the cost of one *more* customer is for an experiment to say. The number of new
    customers is taken as Poisson: its exact interval gives that of the cost. Payback and earned value are a bootstrap
    in which each customer counts a Poisson number of times, so that cost and margin move together.

    Args:
        spells: of `spells.of`.
        channels: of `acquisition.first_channels` for their starts.
        spend: `date`, `marketing_channel`, `spend` in the study's currency, of any engine.
        value: `[churn.value]` of journey.toml.
        min_n: channels of fewer new customers are left out.
        repetitions: of the bootstrap.
        seed: of its random numbers.

    Returns:
        `table`: one row for all channels and one for each, the largest spend first: channel, n new customers, spend,
        new_n (of them within the dates of spend), cost of one, horizon_days (cut back to what was observed),
        earned_value of one within earned_days (the same for all, so that channels compare), payback_days (empty: not
        within the horizon; an empty upper bound: perhaps not), paid_back_share of the resamples that are paid back
        within it, verdict. `curves`: channel, day, n, earned_value, cost. `.attrs["note"]` names channels left out,
        `.attrs["definition"]` is the definition in words.

    Raises:
        JourneyError: a column is missing.
    """
    if value.margin <= 0:
        return _none("no margin is declared: say it as margin of [churn.value] in journey.toml")
    require_columns(spells.columns, ["person_id", "started_at", "duration_days", "ended"], "payback")
    require_columns(channels.columns, ["person_id", "channel"], "payback")
    joined = spells.drop(columns="channel", errors="ignore").merge(
        channels[["person_id", "channel"]], on="person_id", how="inner"
    )
    joined = joined.sort_values(["duration_days", "person_id"], kind="stable", ignore_index=True)
    days, parts = np.arange(0, math.ceil(horizon_days(value)) + 1, dtype=float), []
    for name, group in _groups(joined, min_n):
        area = Area(group, min_n=min_n)
        limit = math.floor(min(days[-1], area.reach(np.zeros(1))[0]))
        grid = days[: limit + 1]
        earned = _Contract(area, grid, per_day(value), rate(value.discount))
        parts.append((name, group["started_at"].to_numpy("datetime64[ns]"), earned))
    return _payback(parts, joined, amounts(spend), min_n, repetitions, seed, horizon_days(value))


def of_orders(
    touches: Any,
    channels: pd.DataFrame,
    spend: Any,
    value: Value,
    *,
    as_of: Any,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Payback:
    """Return cost and payback of new customers who order, by first channel.

    Definition: as `of_contract`, but the margin of a customer so far is observed: spend × `margin_share` by day since
    the first purchase (which counts), refunds taken off, summed as the mean cumulative function, Σ over days of (money
    of that day / customers observed for so long), so that those who came lately count while they were seen (Nelson
    2003). Rival: the mean over customers of what each spent so far, which is too low while new ones come in.

    Args: as `of_contract`; `channels` for the first purchases (those of `purchases.customers`), `as_of` the end of
    observation.
    """
    if not value.orders:
        return _none(purchases.NO_ORDERS)
    table = purchases.days(touches, orders=value.orders, as_of=as_of)
    found = engine.fetch(table, limit=5 * purchases.MOST)
    bought = found[found["bought"] == 1].groupby("person_id")["day"].min().rename("_first")
    rows = found.merge(bought.reset_index(), on="person_id")
    rows = rows[rows["day"] >= rows["_first"]].sort_values(["person_id", "day"], ignore_index=True)
    rows = rows.assign(day=(rows["day"] - rows["_first"]).astype("int64"), value=sums.total(rows, "spend"))
    people = bought.reset_index().merge(channels[["person_id", "channel"]], on="person_id", how="inner")
    people = people.sort_values("person_id", ignore_index=True)
    last, limit = microseconds(as_of) // purchases.DAY_US, math.ceil(horizon_days(value))
    people["age"] = (last - people["_first"]).astype("int64")
    people["started_at"] = pd.to_datetime(people["_first"].astype("int64"), unit="D")
    parts = []
    for name, group in _groups(people, min_n):
        place = pd.Series(np.arange(len(group)), index=group["person_id"].to_numpy())
        mine = rows[rows["person_id"].isin(place.index)]
        who = place.loc[mine["person_id"]].to_numpy(int)
        money = mine["value"].to_numpy(float) * value.margin_share
        earned = _Orders(group["age"].to_numpy(int), who, mine["day"].to_numpy(int), money, value, limit, min_n)
        parts.append((name, group["started_at"].to_numpy("datetime64[ns]"), earned))
    return _payback(parts, people, amounts(spend), min_n, repetitions, seed, horizon_days(value))


class _Contract:
    """The expected margin of a new customer by each day, under any weights of the customers."""

    def __init__(self, area: Area, grid: np.ndarray, money: float, interest: float) -> None:
        self.grid, self._area, self._money = grid, area, money
        self._span = area.span(np.zeros(len(grid)), grid, interest)

    def earned(self, weights: np.ndarray | None) -> np.ndarray:
        return self._money * self._span.days(self._area.survival(weights))


class _Orders:
    """The observed margin of a customer by each day since the first purchase, under any weights of the customers."""

    def __init__(
        self, age: np.ndarray, who: np.ndarray, day: np.ndarray, money: np.ndarray, value: Value, limit: int, min_n: int
    ) -> None:
        observed = len(age) - np.searchsorted(np.sort(age), np.arange(limit + 1), side="left")
        last = max(int((observed >= max(min_n, 1)).sum()) - 1, 0)
        self.grid, self._age = np.arange(last + 1, dtype=float), np.minimum(age, last)
        kept = day <= np.minimum(last, age[who])
        self._who, self._day = who[kept], day[kept]
        self._money = money[kept] * np.exp(-rate(value.discount) * day[kept])

    def earned(self, weights: np.ndarray | None) -> np.ndarray:
        weight, size = np.ones(len(self._age)) if weights is None else weights, len(self.grid)
        observed = np.bincount(self._age, weights=weight, minlength=size)[::-1].cumsum()[::-1]
        money = np.bincount(self._day, weights=weight[self._who] * self._money, minlength=size)
        return np.asarray(np.cumsum(np.divide(money, observed, out=np.zeros(size), where=observed > 0)))


def _groups(people: pd.DataFrame, min_n: int) -> list[tuple[str, pd.DataFrame]]:
    parts = [(str(name), part) for name, part in people.groupby("channel", sort=True)]
    return [part for part in [(ALL, people), *parts] if len(part[1]) >= max(min_n, 1)]


def _payback(
    parts: list[tuple[str, np.ndarray, Any]],
    people: pd.DataFrame,
    money: Spend,
    min_n: int,
    repetitions: int,
    seed: int,
    asked: float,
) -> Payback:
    if not parts:
        return _none(f"not enough data (n = {len(people)} new customers, at least {max(min_n, 1)} are needed)")
    rows, curves = [], []
    common = min(len(margin.grid) for _, _, margin in parts) - 1
    for name, started, margin in parts:
        spent = sum(money.by_channel.values()) if name == ALL else money.by_channel.get(name, math.nan)
        spent = spent if spent > 0 else math.nan
        within = np.ones(len(started), bool)
        if money.first is not None:
            within = (started >= money.first) & (started < money.last)
        new_n = int(within.sum())
        cost = spent / new_n if new_n else math.nan
        rng = np.random.default_rng(seed)
        drawn = [(cost, margin.earned(None))]
        for _ in range(repetitions):
            weights = rng.poisson(1.0, len(started)).astype(float)
            drawn.append((spent / max(weights[within].sum(), 1e-9), margin.earned(weights)))
        costs, earned = np.array([c for c, _ in drawn]), np.array([e for _, e in drawn])
        days = np.array([_day(c, e, margin.grid) for c, e in drawn])
        row: dict[str, Any] = {"channel": name, "n": len(started), "spend": spent, "new_n": new_n}
        row |= {"cost": cost, **_poisson(spent, new_n), "horizon_days": float(margin.grid[-1])}
        row |= {"earned_days": float(common), **_interval("earned_value", earned[:, common])}
        row |= _interval("payback_days", days)
        row |= {"paid_back_share": float(np.isfinite(days[1:]).mean()) if spent > 0 and repetitions else math.nan}
        rows.append(row | {"verdict": _verdict(row, money)})
        curves.append(_curve(name, len(started), margin.grid, earned, float(costs[0])))
    table = pd.DataFrame(rows)[list(PAYBACK_COLUMNS)]
    order = np.where(table["channel"] == ALL, math.inf, table["spend"].fillna(-1.0))
    table = table.iloc[np.lexsort((table["channel"], -order))].reset_index(drop=True)
    lines = pd.concat(curves, ignore_index=True)
    for made in (table, lines):
        made.attrs.update(note=_note(table, people, money, min_n, asked), definition=DEFINITION)
    return Payback(table, lines)


def _day(cost: float, earned: np.ndarray, grid: np.ndarray) -> float:
    """The day at which what was earned reaches the cost, between two days in proportion; infinite where it does not."""
    if math.isnan(cost):
        return math.nan
    reached = np.flatnonzero(earned >= cost)
    if not len(reached):
        return math.inf
    place = int(reached[0])
    if place == 0:
        return 0.0
    before, after = earned[place - 1], earned[place]
    return float(grid[place - 1] + (cost - before) / (after - before) * (grid[place] - grid[place - 1]))


def _poisson(spent: float, n: int) -> dict[str, float]:
    """The exact interval of a Poisson count (Garwood 1936), turned into one of cost; without an end for none."""
    low = chi2.ppf(0.025, 2 * n) / 2 if n else 0.0
    high = chi2.ppf(0.975, 2 * (n + 1)) / 2
    return {"cost_low": spent / high if n else math.nan, "cost_high": spent / low if n else math.nan}


def _interval(name: str, draws: np.ndarray) -> dict[str, float]:
    """The first draw and the percentiles of the others; what is infinite lies beyond the horizon and is left empty."""
    others = np.sort(draws[1:])
    if math.isnan(draws[0]) or not len(others) or np.isnan(others).any():
        bounds = [math.nan, math.nan]
    else:
        last = len(others) - 1
        bounds = [others[math.floor(0.025 * last)], others[math.ceil(0.975 * last)]]
    first, low, high = (float(x) if math.isfinite(x) else math.nan for x in (draws[0], *bounds))
    return {name: first, f"{name}_low": low, f"{name}_high": high}


def _verdict(row: dict[str, Any], money: Spend) -> str:
    if not row["spend"] > 0:
        return "no spend is recorded, so there is no cost" if money.by_channel else "this study has no spend table"
    if not row["new_n"]:
        return "no new customer while spend was recorded"
    if math.isnan(row["payback_days"]):
        return f"not paid back within {row['horizon_days']:.0f} days"
    if math.isnan(row["payback_days_high"]):
        return f"paid back, but perhaps not within {row['horizon_days']:.0f} days"
    return "paid back at the start" if row["payback_days"] == 0 else "paid back"


def _curve(name: str, n: int, grid: np.ndarray, earned: np.ndarray, cost: float) -> pd.DataFrame:
    shown = np.unique(np.append(np.arange(0, len(grid), STEP), len(grid) - 1))
    low, high = np.quantile(earned[1:] if len(earned) > 1 else earned, [0.025, 0.975], axis=0)
    columns = [name, grid[shown], n, earned[0][shown], low[shown], high[shown], cost]
    return pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))


def _note(table: pd.DataFrame, people: pd.DataFrame, money: Spend, min_n: int, asked: float) -> str:
    said, shown = [], set(table["channel"])
    small = sorted({str(name) for name in people["channel"]} - shown)
    if small:
        said.append(f"Left out, with fewer than {min_n} new customers: {', '.join(small)}.")
    nobody = sorted(name for name in money.by_channel if name not in shown and name not in small)
    if nobody:
        said.append(f"Spend without a new customer: {', '.join(nobody)}.")
    if (table["horizon_days"] < math.floor(asked)).any():
        least, most = table["horizon_days"].min(), table["horizon_days"].max()
        reach = f"{most:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
        said.append(f"The horizon of {asked:.0f} days is cut back to the {reach} that were observed.")
    return " ".join(said)


def _none(reason: str) -> Payback:
    return Payback(not_enough(PAYBACK_COLUMNS, reason), not_enough(CURVE_COLUMNS, reason))
