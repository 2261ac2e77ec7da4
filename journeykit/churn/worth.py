"""What customers without a contract are worth: purchases to come × spend × margin, and how well that was foretold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeykit.churn import bgnbd, purchases, spend
from journeykit.churn.areas import resamples
from journeykit.churn.margin import horizon_days, rate
from journeykit.config_churn import Value
from journeykit.errors import require_columns
from journeykit.stats import not_enough, reason_of

STEP = 30.0  # days; within them purchases are discounted as in their middle
REPETITIONS = 100
BINS = 10
REMAINS = "Expected purchases and the probability to be active do not rest on spend and are shown."
WORTH_COLUMNS = (
    *("group", "n", "horizon_days", "alive_share", "alive_share_low", "alive_share_high"),
    *("purchases_n", "purchases_n_low", "purchases_n_high", "mean_spend", "mean_spend_low", "mean_spend_high"),
    *("value", "value_low", "value_high", "total_value", "total_value_low", "total_value_high"),
)
BACKTEST_COLUMNS = (
    *("group", "n", "days", "predicted_n", "predicted_n_low", "predicted_n_high", "actual_n"),
    *("error_share", "error_share_low", "error_share_high", "same_pace_n"),
)
PEOPLE_COLUMNS = ("person_id", "repeat_n", "alive_share", "purchases_n", "mean_spend", "value")
ALIVE_COLUMNS = ("from_share", "to_share", "n", "customers_share")


def total(
    customers: pd.DataFrame,
    value: Value,
    *,
    min_n: int = 20,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what customers are expected to bring over the horizon, in today's money, by their purchases so far.

    Definition: purchases expected of the customer (BG/NBD, which includes that the customer may have left) × expected
    spend on a purchase (Gamma–Gamma) × `margin_share`, discounted in steps of 30 days. The horizon is cut back to the
    longest time that a customer was observed (`horizon_days`). Where spend goes with frequency (`spend.assumption`), or
    its model does not settle, value is **refused**: its columns are empty, `.attrs["refused"]` says why, and what does
    not rest on spend is still shown. Rivals: spend so far × a factor, which values those who left long ago; an
    unlimited horizon, which is mostly made of years that nobody has seen.

    Intervals: customers are drawn with replacement and both models fitted again; they are of the expected value of
    the customers there are. What comes in also depends on luck. Resamples in which a fit does not settle are left out
    and counted in `.attrs["note"]`.

    Args:
        customers: of `purchases.customers`.
        value: `[churn.value]` of journey.toml.
        min_n: groups of fewer customers are not shown.
        repetitions: of the bootstrap (50 to 200 are enough for an interval).
        seed: of its random numbers.

    Returns:
        One row for all customers and one for each number of purchases so far: group, n, horizon_days, alive_share
        (mean probability to be active), purchases_n (expected of all in the group), mean_spend (expected, on one
        purchase), value (of one customer), total_value (of the group), each with its 95 % interval.
    """
    model, spent, refused, warning = _models(customers)
    if model.reason:
        return not_enough(WORTH_COLUMNS, model.reason)
    limit = min(horizon_days(value), float(customers["age_days"].max()))
    groups = _groups(customers, min_n)
    estimate = _Estimate(customers, limit, value)
    drawn = [_sums(estimate, model, spent, groups, refused)]
    failed = 0
    for weights in resamples(len(customers), repetitions, np.random.default_rng(seed)):
        again = bgnbd.refit(estimate.rows, estimate.rows.weights(weights), model)
        money = spent if refused else spend.refit(estimate.spends, weights[estimate.spends.used], spent)
        if again.reason or (money.reason and not refused):
            failed += 1
            continue
        found = _sums(estimate, again, money, groups, refused)
        if not np.isfinite(found[:, :2]).all():  # a resample may lie at the edge of the model
            failed += 1
            continue
        drawn.append(found)
    sums = np.array(drawn)
    rows = []
    for place, (name, members) in enumerate(groups):
        n = int(members.sum())
        alive, bought, spent_on, worth = sums[:, place].T
        row: dict[str, Any] = {"group": name, "n": n, "horizon_days": limit}
        row |= _spread("alive_share", alive / n) | _spread("purchases_n", bought)
        row |= _spread("mean_spend", spent_on / n) | _spread("value", worth / n) | _spread("total_value", worth)
        rows.append(row)
    table = pd.DataFrame(rows)[list(WORTH_COLUMNS)]
    notes = [_cut(value, limit), warning, _failed(failed, repetitions)]
    table.attrs.update(refused=refused, note=" ".join(note for note in notes if note))
    return table


def people(customers: pd.DataFrame, value: Value) -> pd.DataFrame:
    """Return each customer's probability to be active, expected purchases and value over the horizon (see `total`).

    One row per customer, sorted by person_id: person_id, repeat_n, alive_share, purchases_n, mean_spend, value (NaN
    where value is refused; `.attrs["refused"]` says why). Of one person these are no more than expectations: an
    interval belongs to groups.
    """
    require_columns(customers.columns, ["person_id"], "churn value")
    model, spent, refused, warning = _models(customers)
    if model.reason:
        return not_enough(PEOPLE_COLUMNS, model.reason)
    limit = min(horizon_days(value), float(customers["age_days"].max()))
    alive, bought, spent_on, worth = _Estimate(customers, limit, value).of(model, None if refused else spent)
    table = customers[["person_id", "repeat_n"]].assign(
        alive_share=alive, purchases_n=bought, mean_spend=spent_on, value=worth
    )
    table = table.sort_values("person_id", ignore_index=True)
    table.attrs.update(refused=refused, note=f"{_cut(value, limit)} {warning}".strip())
    return table


def alive(people: pd.DataFrame, *, min_n: int = 5) -> pd.DataFrame:
    """Return how many customers have which probability to be active, of those who bought more than once.

    (Who bought once has probability 1 in this model, and is left out: `.attrs["once_n"]`.) One row per tenth of
    probability: from_share, to_share, n, customers_share. Tenths of fewer than `min_n` customers are not shown.
    """
    require_columns(people.columns, ["repeat_n", "alive_share"], "churn value")
    again = people[people["repeat_n"] > 0]
    if len(again) < max(min_n, 1):
        reason = str(people.attrs.get("reason", "")) or f"not enough data (n = {len(again)} customers bought again)"
        return not_enough(ALIVE_COLUMNS, reason)
    place = np.minimum((again["alive_share"].to_numpy(float) * BINS).astype(int), BINS - 1)
    n = np.bincount(place, minlength=BINS)
    edges = np.arange(BINS + 1) / BINS
    table = pd.DataFrame({"from_share": edges[:-1], "to_share": edges[1:], "n": n, "customers_share": n / len(again)})
    table = table[(table["n"] >= min_n) | (table["n"] == 0)].reset_index(drop=True)
    table.attrs["once_n"] = len(people) - len(again)
    return table


def backtest(
    customers: pd.DataFrame, *, min_n: int = 20, repetitions: int = REPETITIONS, seed: int = 0
) -> pd.DataFrame:
    """Return how many purchases the model foretold for a time held out, and how many there were.

    The model is fitted on what was known at the split and foretells the days after it. `same_pace_n` is the rival:
    everybody goes on buying at the pace so far. Intervals are a bootstrap over customers: of what is foretold by
    fitting again; of the error by drawing what they foretold and what they did together, so that it holds the
    luck of the customers too. An error whose interval leaves out 0 is more than chance.

    Args:
        customers: of `purchases.customers` with `split`.
        min_n: groups of fewer customers are not shown.
        repetitions: of the bootstrap.
        seed: of its random numbers.

    Returns:
        One row for all and one for each number of purchases by the split: group, n, days held out, predicted_n,
        actual_n, error_share ((predicted − actual) / actual; empty where there was none), same_pace_n.
    """
    require_columns(customers.columns, ["repeat_n", "recency_days", "age_days", "later_n", "later_days"], "back-test")
    known = customers[customers["age_days"] > 0]
    if reason := bgnbd.few(known):
        return not_enough(BACKTEST_COLUMNS, reason)
    model = bgnbd.fit(known)
    if model.reason:
        return not_enough(BACKTEST_COLUMNS, model.reason)
    rows, groups = bgnbd.Rows(known, model.unit_days), _groups(known, min_n)
    ahead, later = float(known["later_days"].iloc[0]), known["later_n"].to_numpy(float)
    columns = [known[name].to_numpy(float) for name in ("repeat_n", "recency_days", "age_days")]
    first = _purchases(model, columns, ahead)
    fixed, errors, failed = [_grouped(first, groups)], [_error(first, later, groups)], 0
    for weights in resamples(len(known), repetitions, np.random.default_rng(seed)):
        again = bgnbd.refit(rows, rows.weights(weights), model)
        found = columns[0] if again.reason else _purchases(again, columns, ahead)
        if again.reason or not np.isfinite(found).all():  # a resample may lie at the edge of the model
            failed += 1
            continue
        fixed.append(_grouped(found, groups))
        errors.append(_error(found * weights, later * weights, groups))
    pace = columns[0] / columns[2] * ahead
    made = []
    for place, (name, members) in enumerate(groups):
        row = {"group": name, "n": int(members.sum()), "days": ahead}
        row |= _spread("predicted_n", np.array(fixed)[:, place]) | {"actual_n": int(later[members].sum())}
        row |= _spread("error_share", np.array(errors)[:, place]) | {"same_pace_n": float(pace[members].sum())}
        made.append(row)
    table = pd.DataFrame(made)[list(BACKTEST_COLUMNS)]
    table.attrs["note"] = _failed(failed, repetitions)
    return table


def held_out(
    touches: Any, customers: pd.DataFrame, *, orders: Sequence[str], as_of: Any, min_n: int = 20
) -> pd.DataFrame:
    """Return `backtest` of the purchases in touches, with the last third of the time held out.

    Args:
        touches: see `purchases.customers`.
        customers: of `purchases.customers`, without a split.
        orders: events that are purchases.
        as_of: end of observation (UTC).
        min_n: groups of fewer customers are not shown.
    """
    split = purchases.split_of(customers, as_of)
    if split is None:
        return not_enough(BACKTEST_COLUMNS, reason_of(customers) or "not enough data: no day parts the time observed")
    held = purchases.customers(touches, orders=orders, as_of=as_of, split=split)
    return backtest(held, min_n=min_n)


class _Estimate:
    """Customers laid out so that another fit is applied to all of them at little cost: equal ones once."""

    def __init__(self, customers: pd.DataFrame, limit: float, value: Value) -> None:
        self.rows, self.spends = bgnbd.Rows(customers, 7.0), spend.Rows(customers)
        self._x, self._mean = customers["repeat_n"].to_numpy(float), customers["mean_spend"].to_numpy(float)
        pairs = np.column_stack([self.rows.x, self.rows.age])
        self._pairs, self._pair = np.unique(pairs, axis=0, return_inverse=True)
        self._pair = self._pair.ravel()
        steps = np.append(np.arange(STEP, limit, STEP), limit)
        self._steps, middle = steps, (steps + np.append(0.0, steps[:-1])) / 2
        self._counts, self._share = np.exp(-rate(value.discount) * middle), value.margin_share

    def of(self, model: bgnbd.Model, spent: spend.Model | None) -> tuple[np.ndarray, ...]:
        """Each customer's probability to be active, purchases, spend on one, and value; the last two nan without it."""
        unit, (x, age) = model.unit_days, self._pairs.T
        reached = model.if_alive(x[:, None], age[:, None] * unit, self._steps[None, :])
        counted = (np.diff(reached, axis=1, prepend=0.0) * self._counts).sum(axis=1)
        active = model.alive(self.rows.x, self.rows.recency * unit, self.rows.age * unit)
        here, group = active[self.rows.group], self._pair[self.rows.group]
        spent_on = np.full(len(here), math.nan) if spent is None else spent.expected(self._x, self._mean)
        return here, here * reached[group, -1], spent_on, here * counted[group] * spent_on * self._share


def _models(customers: pd.DataFrame) -> tuple[bgnbd.Model, spend.Model, str, str]:
    """Both models, why there is no value, and what is to be said of it."""
    if reason := str(customers.attrs.get("reason", "")):
        return bgnbd.Model(reason=reason), spend.Model(reason=reason), reason, ""
    model, spent, assumption = bgnbd.fit(customers), spend.fit(customers), spend.assumption(customers)
    refused = refusal(assumption, spent)
    return model, spent, refused, "" if refused else dependence(assumption)


def refusal(assumption: pd.DataFrame, spent: spend.Model) -> str:
    """Return why customers get no value in money, or ""."""
    if len(assumption) and not assumption["holds"].iloc[0]:
        line = assumption.iloc[0]
        more = "more" if line["correlation"] > 0 else "less"
        return (
            f"Value in money is refused: customers who buy more often spend {more} on a purchase ({_size(line)}; "
            f"beyond ±{line['limit']:g} it is too strong), and the model of spend assumes that the two have nothing to "
            f"do with each other. {REMAINS}"
        )
    if spent.reason:
        return f"There is no value in money: {spent.reason}. {REMAINS}"
    return ""


def dependence(assumption: pd.DataFrame) -> str:
    """Return what a dependence of spend on frequency does to values, where it is there for sure and not too strong."""
    if assumption.empty or not assumption["holds"].iloc[0]:
        return ""
    line = assumption.iloc[0]
    if line["correlation_low"] <= 0 <= line["correlation_high"]:
        return ""
    more, wrong = ("more", "high") if line["correlation"] > 0 else ("less", "low")
    return (
        f"Customers who buy more often spend somewhat {more} on a purchase ({_size(line)}): the value of those who "
        f"bought once is too {wrong}."
    )


def _size(line: pd.Series) -> str:
    low, high = line["correlation_low"], line["correlation_high"]
    text = f"correlation {line['correlation']:.2f}, {low:.2f} to {high:.2f}, n = {line['n']:,.0f}"
    return text.replace("-", "−")


def _sums(
    estimate: _Estimate, model: bgnbd.Model, spent: spend.Model, groups: list[tuple[str, np.ndarray]], refused: str
) -> np.ndarray:
    found = estimate.of(model, None if refused else spent)
    return np.array([[column[members].sum() for column in found] for _, members in groups])


def _groups(customers: pd.DataFrame, min_n: int) -> list[tuple[str, np.ndarray]]:
    """All customers, and those of each number of purchases so far, where they are enough."""
    return [("all", np.ones(len(customers), bool)), *purchases.groups(customers, min_n)]


def _purchases(model: bgnbd.Model, columns: list[np.ndarray], ahead: float) -> np.ndarray:
    x, recency, age = columns
    pairs, place = np.unique(np.column_stack([x, age]), axis=0, return_inverse=True)
    reached = model.if_alive(pairs[:, 0], pairs[:, 1], ahead)[place.ravel()]
    return np.asarray(model.alive(x, recency, age) * reached)


def _grouped(values: np.ndarray, groups: list[tuple[str, np.ndarray]]) -> np.ndarray:
    return np.array([values[members].sum() for _, members in groups])


def _error(predicted: np.ndarray, actual: np.ndarray, groups: list[tuple[str, np.ndarray]]) -> np.ndarray:
    there = _grouped(actual, groups)
    return np.where(there > 0, _grouped(predicted, groups) / np.where(there > 0, there, 1) - 1, math.nan)


def _spread(name: str, draws: np.ndarray) -> dict[str, float]:
    """The estimate (the first draw) and the percentile interval of the others; none where they are too few."""
    known = draws[1:][~np.isnan(draws[1:])]
    enough = len(known) >= 20 and not math.isnan(draws[0])
    low, high = np.quantile(known, [0.025, 0.975]) if enough else (math.nan, math.nan)
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def _cut(value: Value, limit: float) -> str:
    asked = horizon_days(value)
    if limit >= asked:
        return ""
    return f"The horizon of {asked:.0f} days is cut back to the {limit:.0f} that a customer was observed for."


def _failed(failed: int, repetitions: int) -> str:
    if not failed:
        return ""
    return f"In {failed} of {repetitions} resamples the model did not settle; the intervals are made of the others."
