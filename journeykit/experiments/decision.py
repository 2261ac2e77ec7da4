"""What to do about an experiment, by rules that were fixed before its result was known."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from journeykit import present
from journeykit.config import Experiment
from journeykit.experiments import sentences
from journeykit.experiments.effects import ANSWERS_DIFFER
from journeykit.experiments.guardrails import GREEN, RED, colour_of, good_side
from journeykit.experiments.money import interval_that_decides
from journeykit.experiments.words import difference, interval
from journeykit.stats import reason_of

NO_VERDICT, SHIP, STOP, UNCLEAR = "no verdict", "ship", "do not ship", "no difference shown"
WAIT = "let it run"
BEST_FIRST = (SHIP, UNCLEAR, WAIT, STOP, NO_VERDICT)
BETTER, WORSE, OPEN = "better", "worse", "unclear"
HARMED, HELD = "harmed", "held"
DEFAULT_RULES = "default rules"
VERDICT = (
    *("experiment", "decision", "sentence", "owner", "reason", "arm", "metric", "role", "better", "unit", "n"),
    *("effect", "effect_low", "effect_high", "p_value", "primary", "guardrails", "rule", "early"),
    *("yearly_money", "yearly_money_low", "yearly_money_high"),
)


class Reading(NamedTuple):
    """What the metrics say about one treatment arm."""

    arm: str
    primary: str
    guardrails: str
    row: dict[Any, Any]  # the metric that decides
    others: str  # what the guardrails leave open


def verdict(
    split: pd.DataFrame,
    effects: pd.DataFrame,
    experiment: Experiment,
    *,
    assignment: pd.DataFrame | None = None,
    timing: pd.DataFrame | None = None,
    money: pd.DataFrame | None = None,
    currency: str = "",
) -> pd.DataFrame:
    """Return the decision on one experiment, by rules that were fixed before its result was known.

    No verdict is given when the split is broken, assignments failed (more than 60 % seen in several arms), or a primary
    metric cannot be compared. Otherwise the primary metrics are "better" (one is, none worse), "worse" (one is) or
    "unclear", and the guardrails "harmed" (one lies beyond its margin as a whole), "held" (all are shown to hold) or
    "unclear"; the first row of the declared decision table that fits says what to do. Without a table, or where no row
    fits: a guardrail harmed or a primary metric worse → "do not ship" · a primary metric better → "ship" · else "no
    difference shown", with the largest gain and loss that the interval leaves possible.

    The interval that decides is that of the stopping rule and the correction (`decides_low` and `decides_high` of
    `effects`; the plain ones in a table without them). With several primary comparisons the corrected p-value must be
    below 0.05 too. A test that is read before it is over is an early look. With a fixed stopping rule only harm beyond
    doubt, by the anytime-valid interval, is decided then; with the others what their intervals show; all else is "let
    it run", and so is a sequential test before its first look. Of several arms the one nearest to shipping is reported.
    A satisfaction metric whose arms answer at different rates counts as not compared. The unadjusted effect decides
    even where CUPED is sharper: one rule, chosen before.

    Args:
        split: the table of `split_check`.
        effects: the table of `effects`.
        experiment: the declared experiment.
        assignment: the table of `assignment_check`.
        timing: the table of `timing`; without it the test is taken as over.
        money: the table of `money`.
        currency: of the money.

    Returns:
        One row: experiment, decision, sentence, arm, and the metric that decided with role, better, unit, n (people in
        the two arms), effect with the interval that decided, p_value; reason ("split", "assignment", "data",
        "guardrail", "primary", "early" or ""), primary and guardrails (states), rule ("row 2", "default rules"), early,
        yearly_money with its interval, owner.
    """
    early = timing is not None and bool(timing["early"].any())
    why, sentence = _why_no_verdict(split, effects, assignment, experiment)
    if why:
        return _row(experiment, NO_VERDICT, sentence, why, early=early)
    note = sentences.early_look(timing) if early and timing is not None else ""
    fixed = experiment.stopping == "fixed"
    counted = _counted(effects, experiment, early)
    arms = [arm for arm in experiment.arms if arm != experiment.control]
    rows = []
    for arm in arms:
        mine = counted.loc[counted["arm"] == arm]
        found = _read(mine, arm, experiment)
        if isinstance(found, str):
            rows.append(_row(experiment, NO_VERDICT, f"No verdict on {arm}: {found}.", "data", early=early))
        elif early and fixed:
            rows.append(_early(found, experiment, note, "sequential_low" in effects.columns))
        else:
            rows.append(_decide(found, experiment, note, money, currency))
    # The first of the best decision; among arms to ship, the one with the largest gain.
    rows.sort(key=lambda row: (_rank(row.iloc[0]), -_gain(row.iloc[0])))
    return rows[0]


def _why_no_verdict(
    split: pd.DataFrame, effects: pd.DataFrame, assignment: pd.DataFrame | None, experiment: Experiment
) -> tuple[str, str]:
    if not split.empty and (split["verdict"] == "broken").any():
        return "split", sentences.broken(split)
    fault = sentences.fault(assignment)
    if fault:
        return "assignment", f"No verdict: {fault}."
    if split.empty or effects.empty:
        reason = (reason_of(split) or reason_of(effects)).removeprefix(f"{experiment.name}: ").rstrip(".")
        return "data", f"No verdict: {reason}."
    return "", ""


def _read(rows: pd.DataFrame, arm: str, experiment: Experiment) -> Reading | str:
    """What the primary metrics and guardrails say about one arm, or why that cannot be said."""
    found = {row["metric"]: row for row in rows.to_dict("records") if ANSWERS_DIFFER not in str(row["caution"])}
    guards = [metric for metric in experiment.metrics if metric.role == "guardrail"]
    primary = [metric for metric in experiment.metrics if metric.role == "primary"]
    colours = {m.name: colour_of(found[m.name], m.margin) for m in guards if m.name in found}
    harmed = [name for name, colour in colours.items() if colour == RED]
    state = HARMED if harmed else HELD if all(colours.get(m.name) == GREEN for m in guards) else OPEN
    missing = [m.name for m in primary if m.name not in found]
    if (missing or not primary) and not harmed:
        return f"the primary metric {missing[0]} cannot be compared" if missing else "no metric is declared as primary"
    several = len(primary) * (len(experiment.arms) - 1) > 1
    clear = [found[m.name] for m in primary if m.name in found and (not several or _is_clear(found[m.name]))]
    worse = [row for row in clear if good_side(row)[1] < 0]
    better = [row for row in clear if good_side(row)[0] > 0]
    said = WORSE if worse else BETTER if better else OPEN
    main = worse or better or [found[m.name] for m in primary if m.name in found]
    row = found[harmed[0]] if harmed else main[0]
    return Reading(arm, said, state, row, sentences.left_open(guards, found))


def _decide(
    found: Reading, experiment: Experiment, note: str, money: pd.DataFrame | None, currency: str
) -> pd.DataFrame:
    """The decision on one arm by the declared table, or by the default rules."""
    soon = _too_soon(found.row)
    if soon or (note and found.primary == OPEN and found.guardrails != HARMED):
        told = (
            f"Let it run: {soon or note} So far {found.row['metric']} in {found.arm}: {sentences.decided(found.row)}."
        )
        return _row(experiment, WAIT, told, "early", row=found.row, found=found, early=bool(note))
    decision, rule = _rule(found, experiment)
    row, worth = found.row, _money_of(money, found.row)
    told, reason = _sentence(decision, found, experiment)
    if worth and currency:
        told += f" {sentences.yearly(worth, currency)}"
    if rule != DEFAULT_RULES:
        states = f"primary {found.primary}, guardrails {found.guardrails}"
        told += f" By {rule} of the declared decision table ({states})."
    elif experiment.decisions:
        told += " No row of the declared decision table fits, so the default rules decide."
    told += note and f" {note} The intervals given hold at every look."
    return _row(experiment, decision, told, reason, row=row, found=found, rule=rule, worth=worth, early=bool(note))


def _rule(found: Reading, experiment: Experiment) -> tuple[str, str]:
    for number, line in enumerate(experiment.decisions, start=1):
        if line.primary in ("any", found.primary) and line.guardrails in ("any", found.guardrails):
            return line.then, f"row {number}"
    if found.guardrails == HARMED or found.primary == WORSE:
        return STOP, DEFAULT_RULES
    return (SHIP if found.primary == BETTER else UNCLEAR), DEFAULT_RULES


def _sentence(decision: str, found: Reading, experiment: Experiment) -> tuple[str, str]:
    """The decision in one sentence with the number that it rests on, and which kind of metric that is."""
    row, arm, start = found.row, found.arm, _opening(decision, found.arm)
    if found.guardrails == HARMED:
        beyond = f", beyond the margin of {sentences.margin(row)}" if row["margin"] and row["margin"] > 0 else ""
        return f"{start}it harms the guardrail {row['metric']}, {sentences.decided(row)}{beyond}.", "guardrail"
    if found.primary == WORSE:
        return f"{start}it worsens {row['metric']}, {sentences.decided(row)}.{found.others}", "primary"
    if found.primary == BETTER:
        return f"{start}it improves {row['metric']}, {sentences.decided(row)}.{found.others}", "primary"
    loss, gain = good_side(row)
    several = len(experiment.arms) > 2 or sum(metric.role == "primary" for metric in experiment.metrics) > 1
    corrected = " after correction for the number of comparisons" if several else ""
    opening = "No difference shown" if decision == UNCLEAR else f"{start}no difference is shown"
    return (
        f"{opening} in {row['metric']} between {arm} and {experiment.control}{corrected}: {sentences.decided(row)}. "
        f"The 95 % interval rules out a gain above {difference(max(gain, 0.0), row['unit'], sign=False)} "
        f"and a loss above {difference(max(-loss, 0.0), row['unit'], sign=False)}.{found.others}"
    ), ""


def _opening(decision: str, arm: str) -> str:
    known = {SHIP: f"Ship {arm}: ", STOP: f"Do not ship {arm}: ", UNCLEAR: ""}
    return known.get(decision, f"{decision[:1].upper()}{decision[1:]} ({arm}): ")


def _early(found: Reading, experiment: Experiment, note: str, anytime: bool) -> pd.DataFrame:
    """What an early look at a test with a fixed stopping rule allows: to stop for harm, and nothing else."""
    row = found.row
    if anytime and (found.guardrails == HARMED or found.primary == WORSE):
        told, reason = _sentence(STOP, found, experiment)
        told += f" {note} The anytime-valid interval counts, and it shows harm already."
        return _row(experiment, STOP, told, reason, row=row, found=found, rule=DEFAULT_RULES, early=True)
    so_far = f"So far {row['metric']} in {found.arm}: {difference(row['effect'], row['unit'])}"
    if anytime:
        so_far += f" (anytime-valid {interval(row, 'decides_low', 'decides_high')}, the one that counts until then)."
    else:
        so_far += "; no anytime-valid interval is known, and the fixed one does not hold before the end."
    told = f"Let it run: {note} Nothing is decided before the test is over. {so_far}"
    return _row(experiment, WAIT, told, "early", row=row, found=found, early=True)


def _counted(effects: pd.DataFrame, experiment: Experiment, early: bool) -> pd.DataFrame:
    """The effects with the interval that decides, and in `p_value` the one that goes with it, before correction."""
    if "sequential_low" not in effects.columns:
        return effects
    if early and experiment.stopping == "fixed":
        sides = {"decides_low": effects["sequential_low"], "decides_high": effects["sequential_high"]}
        return effects.assign(**sides, p_value=effects["sequential_p_value"])
    matching = {"always_valid": "sequential_p_value", "group_sequential": "decides_p_value"}
    return effects.assign(p_value=effects[matching.get(experiment.stopping, "p_value")])


def _too_soon(row: dict[Any, Any]) -> str:
    """Why a sequential test cannot be read yet, or ""."""
    if present.missing(good_side(row)[0]):
        return "No planned look has been reached yet."
    return "It is too early to read an always-valid interval." if "too early" in str(row["caution"]) else ""


def _is_clear(row: dict[Any, Any]) -> bool:
    """Whether a comparison, one of several, stands after the correction."""
    return float(row.get("decides_p_value", row["p_adjusted"])) < 0.05


def _money_of(money: pd.DataFrame | None, row: dict[Any, Any]) -> dict[Any, Any]:
    if money is None or money.empty:
        return {}
    mine = money.loc[(money["metric"] == row["metric"]) & (money["arm"] == row["arm"])]
    return mine.iloc[0].to_dict() if len(mine) else {}


def _rank(row: Any) -> int:
    if row["decision"] in BEST_FIRST:
        return BEST_FIRST.index(row["decision"])
    if row["guardrails"] == HARMED or row["primary"] == WORSE:
        return BEST_FIRST.index(STOP)
    return BEST_FIRST.index(SHIP if row["primary"] == BETTER else UNCLEAR)


def _gain(row: Any) -> float:
    effect = float(row["effect"])
    if math.isnan(effect):
        return 0.0
    return effect if row["better"] == "up" else -effect


def _row(
    experiment: Experiment,
    decision: str,
    sentence: str,
    reason: str,
    *,
    row: dict[Any, Any] | None = None,
    found: Reading | None = None,
    rule: str = "",
    worth: dict[Any, Any] | None = None,
    early: bool = False,
) -> pd.DataFrame:
    text = {name: (row[name] if row else "") for name in ("arm", "metric", "role", "better", "unit")}
    low, high = interval_that_decides(row) if row else (np.nan, np.nan)
    numbers = {"effect": row["effect"] if row else np.nan, "effect_low": low, "effect_high": high}
    money = {name: (worth or {}).get(name, np.nan) for name in VERDICT if name.startswith("yearly_money")}
    values = {
        "experiment": experiment.label,
        "decision": decision,
        "sentence": sentence,
        **text,
        "n": int(row["n_control"] + row["n_treatment"]) if row else np.nan,
        **numbers,
        "p_value": row["p_value"] if row else np.nan,
        "reason": reason,
        "owner": experiment.owner,
        "primary": found.primary if found else "",
        "guardrails": found.guardrails if found else "",
        "rule": rule,
        "early": early,
        **money,
    }
    return pd.DataFrame([values])[list(VERDICT)]
