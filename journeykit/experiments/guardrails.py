"""Whether an experiment's guardrails held: shown to hold, not excluded, or harmed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from journeykit.config import Experiment
from journeykit.experiments.effects import ANSWERS_DIFFER
from journeykit.experiments.money import interval_that_decides
from journeykit.stats import not_enough

GUARDRAILS = (
    *("experiment", "metric", "arm", "better", "unit", "margin", "n_control", "n_treatment"),
    *("effect", "effect_low", "effect_high", "colour", "verdict"),
)
GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "grey"
WORDS = {
    GREEN: "held: harm beyond the margin is excluded",
    YELLOW: "harm beyond the margin is not excluded",
    RED: "harmed beyond the margin",
    GREY: "not compared",
}


def guardrails(effects: pd.DataFrame, *, experiment: Experiment) -> pd.DataFrame:
    """Return whether each guardrail held, by the interval that decides (non-inferiority).

    Green: the whole interval is better than the margin of harm that is tolerated. Yellow: it reaches beyond the margin.
    Red: it lies beyond the margin as a whole. With a margin of 0, green takes an improvement that is shown. "No
    significant harm" is not green, because a small test never finds harm.

    Args:
        effects: the table of `effects`.
        experiment: the declared experiment.

    Returns:
        One row per guardrail × treatment arm: experiment, metric, arm, better, unit, margin, n_control, n_treatment,
        effect with the interval that decides, colour ("green", "yellow", "red"; "grey" for a satisfaction of which the
        arms answered at different rates), verdict (in words).
    """
    rows: list[dict[str, Any]] = []
    margins = {metric.name: metric.margin for metric in experiment.metrics if metric.role == "guardrail"}
    for row in effects.loc[effects["metric"].isin(list(margins))].to_dict("records") if len(effects) else []:
        low, high = interval_that_decides(row)
        colour = colour_of(row, margins[row["metric"]])
        kept = ("metric", "arm", "better", "unit", "n_control", "n_treatment", "effect")
        bounds = {"effect_low": low, "effect_high": high, "margin": margins[row["metric"]]}
        said = {"experiment": experiment.label, "colour": colour, "verdict": WORDS[colour]}
        rows.append({**{name: row[name] for name in kept}, **bounds, **said})
    if not rows:
        what = "no guardrail could be compared" if margins else "no guardrail is declared"
        return not_enough(GUARDRAILS, f"{experiment.name}: {what}")
    return pd.DataFrame(rows)[list(GUARDRAILS)]


def colour_of(row: dict[Any, Any], margin: float) -> str:
    """Return the colour of a guardrail from its row of `effects`.

    >>> row = {"better": "down", "effect_low": 0.03, "effect_high": 0.05, "caution": ""}
    >>> colour_of(row, 0.02), colour_of(row, 0.04), colour_of(row, 0.06)
    ('red', 'yellow', 'green')
    """
    if ANSWERS_DIFFER in str(row["caution"]):
        return GREY
    low, high = good_side(row)
    return RED if high < -margin else GREEN if low > -margin else YELLOW


def good_side(row: dict[Any, Any]) -> tuple[float, float]:
    """Return the interval of the improvement: the effect's own when up is better, mirrored when down is."""
    low, high = interval_that_decides(row)
    return (low, high) if row["better"] == "up" else (-high, -low)
