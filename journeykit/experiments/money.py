"""What an effect is worth in a year, with its interval."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit.config import Experiment, Metric
from journeykit.experiments.measures import PER
from journeykit.experiments.units import ready_for
from journeykit.stats import not_enough

YEAR_DAYS = 365.25
MONEY = (
    *("experiment", "metric", "role", "arm", "worth", "yearly_units", "units_from", "effect", "unit"),
    *("yearly_money", "yearly_money_low", "yearly_money_high"),
)
DECLARED, PACE = "declared", "pace of the test"


def money(effects: pd.DataFrame, units: pd.DataFrame, *, experiment: Experiment) -> pd.DataFrame:
    """Return what the effect of each metric that has a `worth` is worth in a year.

    Effect per unit × worth of one unit of the metric × units a year; where less is better, worth is what one unit
    costs. Units a year are declared, or the pace at which
    people were exposed, all arms together. The ends of the money's interval are those of the interval that decides, so
    that money is never surer than the effect. It takes for granted that the effect lasts all year and that later people
    are like those of the test. For a ratio the effect is first turned into events per person. Quantiles have no money.

    Args:
        effects: the table of `effects`.
        units: exposed_at, for the pace; and the denominators of ratios.
        experiment: the declared experiment.

    Returns:
        One row per metric with a worth × treatment arm: experiment, metric, role, arm, worth, yearly_units, units_from
        ("declared" or "pace of the test"), effect, unit, yearly_money with its interval (below 0: a loss).
    """
    worth = {metric.name: metric for metric in experiment.metrics if metric.worth and metric.quantile is None}
    if not worth:
        return not_enough(MONEY, f"{experiment.name}: no metric has a worth, so no effect is told in money")
    yearly = float(experiment.yearly_units) or pace(units) * YEAR_DAYS
    found = effects.loc[effects["metric"].isin(list(worth))] if len(effects) else effects
    if not len(found) or not yearly:
        what = "no effect is known" if not len(found) else "nothing says how many people a year there are"
        return not_enough(MONEY, f"{experiment.name}: {what}, so nothing is told in money")
    rows: list[dict[str, Any]] = []
    for row in found.to_dict("records"):
        metric = worth[row["metric"]]
        per = yearly * metric.worth * _per_person(metric, units) * (1 if metric.better == "up" else -1)
        low, high = interval_that_decides(row)
        ends = sorted(per * end for end in (low, high))
        rows.append(
            {
                **{name: row[name] for name in ("experiment", "metric", "role", "arm", "effect", "unit")},
                "worth": metric.worth,
                "yearly_units": round(yearly),
                "units_from": DECLARED if experiment.yearly_units else PACE,
                "yearly_money": per * row["effect"],
                "yearly_money_low": ends[0],
                "yearly_money_high": ends[1],
            }
        )
    return pd.DataFrame(rows)[list(MONEY)]


def pace(units: pd.DataFrame, of: pd.DataFrame | None = None) -> float:
    """Return the people exposed a day, from the first exposure (of all people `of` the test) to the last.

    0 where that is not known.

    >>> pace(pd.DataFrame({"exposed_at": pd.to_datetime(["2025-01-01", "2025-01-02", "2025-01-03"])}))
    1.5
    """
    if "exposed_at" not in units.columns or units.empty:
        return 0.0
    moments = (units if of is None else of)["exposed_at"]
    span = (moments.max() - moments.min()) / pd.Timedelta("1D")
    return len(units) / max(float(span), 1.0)


def interval_that_decides(row: dict[Any, Any]) -> tuple[float, float]:
    """Return the interval by which the experiment is decided: that of the stopping rule and correction, if given.

    Missing values mean that nothing may be decided yet (before the first planned look).

    >>> interval_that_decides({"effect_low": 0.1, "effect_high": 0.2})
    (0.1, 0.2)
    """
    return row.get("decides_low", row["effect_low"]), row.get("decides_high", row["effect_high"])


def _per_person(metric: Metric, units: pd.DataFrame) -> float:
    """Denominators per person of a ratio, which turn its effect into events per person; 1 for other metrics."""
    if metric.kind != "ratio" or metric.name + PER not in units.columns:
        return 1.0
    return float(ready_for(units, metric)[metric.name + PER].mean())
