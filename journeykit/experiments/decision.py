"""What to do about an experiment, by rules that were fixed before its result was known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from journeykit import present
from journeykit.config import Experiment, Metric
from journeykit.experiments.effects import ANSWERS_DIFFER
from journeykit.experiments.words import chance, change, difference
from journeykit.stats import reason_of

NO_VERDICT, SHIP, STOP, UNCLEAR = "no verdict", "ship", "do not ship", "no difference shown"
VERDICT = (
    *("experiment", "decision", "sentence", "owner", "reason", "arm", "metric", "role", "better", "unit", "n"),
    *("effect", "effect_low", "effect_high", "p_value"),
)


def verdict(split: pd.DataFrame, effects: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """Return the decision on one experiment, by rules that were fixed before its result was known.

    In this order: the split is broken, or a primary metric cannot be compared → "no verdict" · in the arm at hand a
    guardrail is harmed (its whole interval lies beyond the margin) or a primary metric is worse (its whole interval
    lies on the bad side of 0) → "do not ship" · a primary metric is better → "ship" · else "no difference shown",
    with the largest gain and loss that the interval leaves possible. With one primary comparison its plain 95 %
    interval decides; with several, Holm's adjusted p-value must be below 0.05 too. Of several arms the one nearest to
    shipping is reported. A satisfaction metric whose arms answer at different rates counts as not compared. The
    unadjusted effect decides even where CUPED is sharper: one rule, chosen before.

    Args:
        split: the table of `split_check`.
        effects: the table of `effects`.
        experiment: the declared experiment.

    Returns:
        One row: experiment, decision, sentence, arm, and the metric that decided with role, better, unit, n (people in
        the two arms), effect, p_value; reason ("split", "data", "guardrail", "primary" or ""), owner.
    """
    if split.empty or (split["verdict"] == "broken").any() or effects.empty:
        broken = not split.empty and bool((split["verdict"] == "broken").any())
        sentence = _broken(split) if broken else f"No verdict: {_reason_of(split, effects, experiment)}."
        return _row(experiment, NO_VERDICT, sentence, None, "split" if broken else "data")
    arms = [arm for arm in experiment.arms if arm != experiment.control]
    rows = [_decide(effects.loc[effects["arm"] == arm], arm, experiment) for arm in arms]
    order = [SHIP, UNCLEAR, STOP, NO_VERDICT]
    # The first of the best decision; among arms to ship, the one with the largest gain.
    rows.sort(key=lambda row: (order.index(row["decision"].iloc[0]), -_gain(row)))
    return rows[0]


def _decide(rows: pd.DataFrame, arm: str, experiment: Experiment) -> pd.DataFrame:
    """The decision on one treatment arm."""
    found = {row["metric"]: row for row in rows.to_dict("records") if ANSWERS_DIFFER not in row["caution"]}
    guards = [metric for metric in experiment.metrics if metric.role == "guardrail"]
    primary = [metric for metric in experiment.metrics if metric.role == "primary"]
    harmed = [m for m in guards if m.name in found and _good_side(found[m.name])[1] < -m.margin]
    if harmed:
        row = found[harmed[0].name]
        sentence = f"Do not ship {arm}: it harms the guardrail {row['metric']}, {change(row)}"
        sentence += (
            f", beyond the margin of {difference(row['margin'], row['unit'], sign=False)}." if row["margin"] else "."
        )
        return _row(experiment, STOP, sentence, row, "guardrail")
    missing = [m.name for m in primary if m.name not in found]
    if missing or not primary:
        what = f"the primary metric {missing[0]} cannot be compared" if missing else "no metric is declared as primary"
        return _row(experiment, NO_VERDICT, f"No verdict on {arm}: {what}.", None, "data")
    several = len(primary) * (len(experiment.arms) - 1) > 1
    clear = [found[m.name] for m in primary if not several or found[m.name]["p_adjusted"] < 0.05]
    worse = [row for row in clear if _good_side(row)[1] < 0]
    if worse:
        return _row(
            experiment,
            STOP,
            f"Do not ship {arm}: it worsens {worse[0]['metric']}, {change(worse[0])}.",
            worse[0],
            "primary",
        )
    better = [row for row in clear if _good_side(row)[0] > 0]
    if better:
        sentence = f"Ship {arm}: it improves {better[0]['metric']}, {change(better[0])}.{_watch(guards, found)}"
        return _row(experiment, SHIP, sentence, better[0], "primary")
    row = found[primary[0].name]
    loss, gain = _good_side(row)
    corrected = " after correction for the number of comparisons" if several else ""
    sentence = (
        f"No difference shown in {row['metric']} between {arm} and {experiment.control}{corrected}: {change(row)}. "
        f"The 95 % interval rules out a gain above {difference(max(gain, 0.0), row['unit'], sign=False)} "
        f"and a loss above {difference(max(-loss, 0.0), row['unit'], sign=False)}.{_watch(guards, found)}"
    )
    return _row(experiment, UNCLEAR, sentence, row, "")


def _good_side(row: dict[Any, Any]) -> tuple[float, float]:
    """The interval of the improvement: the effect's own when up is better, mirrored when down is."""
    low, high = row["effect_low"], row["effect_high"]
    return (low, high) if row["better"] == "up" else (-high, -low)


def _watch(guards: list[Metric], found: dict[str, dict[Any, Any]]) -> str:
    """What the guardrails leave open although none is shown to be harmed."""
    unjudged = [metric.name for metric in guards if metric.name not in found]
    text = f" The guardrail {', '.join(unjudged)} could not be compared." if unjudged else ""
    for metric in guards:
        if metric.name not in found:
            continue
        row, (low, high) = found[metric.name], _good_side(found[metric.name])
        # A margin of 0 can never be shown to hold, so an interval that merely reaches the harmful side says nothing.
        if low < -metric.margin and (metric.margin > 0 or high < 0):
            limit = difference(metric.margin, row["unit"], sign=False)
            text += f" Guardrail {metric.name}: {change(row)}; harm beyond the margin of {limit} is not excluded."
    return text


def _broken(split: pd.DataFrame) -> str:
    worst: Any = split.loc[(split["share"] - split["planned_share"]).abs().idxmax()]
    return (
        f"No verdict: the split is broken. {present.share(worst['share'])} of {present.count(split['n'].sum())} people "
        f"are in {worst['arm']} instead of {present.share(worst['planned_share'])} (p {chance(worst['p_value'])}), so "
        "any difference may come from who is missing."
    )


def _reason_of(split: pd.DataFrame, effects: pd.DataFrame, experiment: Experiment) -> str:
    reason = reason_of(split) or reason_of(effects)
    return reason.removeprefix(f"{experiment.name}: ").rstrip(".")


def _gain(row: pd.DataFrame) -> float:
    effect = float(row["effect"].iloc[0])
    if math.isnan(effect):
        return 0.0
    return effect if row["better"].iloc[0] == "up" else -effect


def _row(experiment: Experiment, decision: str, sentence: str, row: dict[Any, Any] | None, reason: str) -> pd.DataFrame:
    text = {name: (row[name] if row else "") for name in ("arm", "metric", "role", "better", "unit")}
    numbers = {name: (row[name] if row else np.nan) for name in ("effect", "effect_low", "effect_high", "p_value")}
    values = {
        "experiment": experiment.label,
        "decision": decision,
        "sentence": sentence,
        **text,
        "n": int(row["n_control"] + row["n_treatment"]) if row else np.nan,
        **numbers,
        "reason": reason,
        "owner": experiment.owner,
    }
    return pd.DataFrame([values])[list(VERDICT)]
