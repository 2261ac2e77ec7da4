"""Every table of every declared experiment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from journeykit.config import Experiment
from journeykit.errors import JourneyError, nearest
from journeykit.experiments import concurrent, novelty, segments
from journeykit.experiments.assignment import ASSIGNMENT, assignment_check
from journeykit.experiments.balance import BALANCE, balance
from journeykit.experiments.bayes import BAYES, posterior
from journeykit.experiments.decision import VERDICT, verdict
from journeykit.experiments.declared import DECLARED, TIMING, declared, timing
from journeykit.experiments.effects import EFFECTS, MINIMUM, effects
from journeykit.experiments.guardrails import GUARDRAILS, guardrails
from journeykit.experiments.looks import LOOKS, looks
from journeykit.experiments.money import MONEY, money
from journeykit.experiments.power import POWER, power
from journeykit.experiments.split_days import DAYS, split_by_day
from journeykit.experiments.telemetry import TELEMETRY, telemetry
from journeykit.experiments.trust import SEGMENTS, response_check, split_by_segment, split_check
from journeykit.experiments.units import exposure_check, units
from journeykit.stats import not_enough, reason_of


class Results(NamedTuple):
    """The tables of all experiments, one under the other, in the order in which they are read.

    Each column is described at the function that makes the table.
    """

    declared: pd.DataFrame  # declared.declared
    timing: pd.DataFrame  # declared.timing
    exposure: pd.DataFrame  # units.exposure_check
    split: pd.DataFrame  # trust.split_check
    split_days: pd.DataFrame  # split_days.split_by_day
    split_segments: pd.DataFrame  # trust.split_by_segment
    assignment: pd.DataFrame  # assignment.assignment_check
    balance: pd.DataFrame  # balance.balance
    telemetry: pd.DataFrame  # telemetry.telemetry
    response: pd.DataFrame  # trust.response_check
    overlap: pd.DataFrame  # concurrent.overlap
    interactions: pd.DataFrame  # concurrent.interactions
    effects: pd.DataFrame  # effects.effects
    looks: pd.DataFrame  # looks.looks
    bayes: pd.DataFrame  # bayes.posterior, where an experiment asks for it
    guardrails: pd.DataFrame  # guardrails.guardrails
    segments_joint: pd.DataFrame  # segments.joint
    segments: pd.DataFrame  # segments.by_segment
    novelty: pd.DataFrame  # novelty.by_day
    trends: pd.DataFrame  # novelty.trends
    power: pd.DataFrame  # power.power
    money: pd.DataFrame  # money.money
    verdict: pd.DataFrame  # decision.verdict
    left_out: pd.DataFrame  # one row per comparison that could not be made: experiment, reason


COLUMNS = {
    "declared": DECLARED,
    "timing": TIMING,
    "split_days": DAYS,
    "split_segments": SEGMENTS,
    "assignment": ASSIGNMENT,
    "balance": BALANCE,
    "telemetry": TELEMETRY,
    "effects": EFFECTS,
    "guardrails": GUARDRAILS,
    "segments_joint": segments.JOINT,
    "segments": segments.SEGMENTS,
    "novelty": novelty.BY_DAY,
    "trends": novelty.TRENDS,
    "power": POWER,
    "money": MONEY,
    "verdict": VERDICT,
    "looks": LOOKS,
    "bayes": BAYES,
    "overlap": concurrent.OVERLAP,
    "interactions": concurrent.INTERACTIONS,
}


def all_experiments(
    touches: Any,
    *,
    experiments: Iterable[Experiment],
    as_of: pd.Timestamp,
    only: str = "",
    currency: str = "",
    min_n: int = MINIMUM,
) -> Results:
    """Return every table of every declared experiment, or of the one called `only`.

    Experiments that meet others are looked for among all declared ones, also when one is chosen.

    Args:
        touches: see `units.units`.
        experiments: the declared experiments.
        as_of: end of observation (UTC).
        only: name of one experiment; "" is all.
        currency: unit of money.
        min_n: people that each arm needs.

    Returns:
        The tables, see `Results`; one without rows says why in `attrs["reason"]`.

    Raises:
        JourneyError: no experiment is called `only`; and whatever `units` and `effects` raise.
    """
    plans = list(experiments)
    names = [experiment.name for experiment in plans]
    if only and only not in names:
        raise JourneyError(
            f"experiment: {only!r} is not declared in journey.toml.{nearest(only, names)} "
            f'Declared: {", ".join(names) or "none"}. Choose one of them, or "" for all.'
        )
    people = {plan.name: units(touches, experiment=plan, as_of=as_of) for plan in plans}
    chosen = [plan for plan in plans if only in ("", plan.name)]
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in Results._fields}
    for plan in chosen:
        for name, table in one(touches, people[plan.name], plan, as_of, currency, min_n).items():
            parts[name].append(table)
    if chosen:
        labels = {plan.label for plan in chosen}
        parts["overlap"] = [_of(concurrent.overlap(people, plans, min_n=min_n), labels)]
        met = concurrent.interactions(people, plans, currency=currency, min_n=min_n)
        parts["interactions"] = [_of(met, labels)]
    return Results(**{name: _stacked(tables, COLUMNS.get(name, ("experiment",))) for name, tables in parts.items()})


def one(
    touches: Any, people: pd.DataFrame, plan: Experiment, as_of: pd.Timestamp, currency: str, min_n: int
) -> dict[str, pd.DataFrame]:
    """Return the tables of one experiment by their names, from its units; those that compare experiments apart."""
    split = split_check(people, planned=plan.arms)
    exposure = exposure_check(touches, experiment=plan, as_of=as_of)
    assigned = assignment_check(touches, people, exposure, experiment=plan, as_of=as_of)
    found = effects(people, experiment=plan, currency=currency, min_n=min_n)
    known = found if len(found) else None
    looked = timing(people, experiment=plan, as_of=as_of)
    worth = money(found, people, experiment=plan)
    joint = segments.joint(people, experiment=plan, min_n=min_n)
    by_day = novelty.by_day(touches, people, experiment=plan, currency=currency, min_n=min_n)
    started = people["exposed_at"].min() if len(people) else None
    decided = verdict(split, found, plan, assignment=assigned, timing=looked, money=worth, currency=currency)
    return {
        "declared": declared(plan, started_at=started, currency=currency),
        "timing": looked,
        "exposure": exposure,
        "split": _named(split, plan.label),
        "split_days": split_by_day(people, experiment=plan),
        "split_segments": split_by_segment(people, experiment=plan, min_n=min_n),
        "assignment": assigned,
        "balance": balance(people, experiment=plan, min_n=min_n),
        "telemetry": telemetry(touches, people, experiment=plan, min_n=min_n),
        "response": response_check(people, experiment=plan),
        "effects": found,
        "looks": looks(people, experiment=plan, currency=currency, min_n=min_n),
        "bayes": _posterior(people, plan, min_n),
        "guardrails": guardrails(found, experiment=plan),
        "segments_joint": joint,
        "segments": segments.by_segment(people, joint, experiment=plan, currency=currency, min_n=min_n),
        "novelty": by_day,
        "trends": novelty.trends(by_day),
        "power": power(people, experiment=plan, currency=currency, min_n=min_n, effects=known, as_of=as_of),
        "money": worth,
        "verdict": decided,
        "left_out": _left_out(found, plan),
    }


def _posterior(people: pd.DataFrame, plan: Experiment, min_n: int) -> pd.DataFrame:
    if plan.bayesian:
        return posterior(people, experiment=plan, min_n=min_n)
    return not_enough(BAYES, f"{plan.name}: a Bayesian reading is not declared (bayesian = true)")


def _left_out(found: pd.DataFrame, plan: Experiment) -> pd.DataFrame:
    reasons = [reason_of(found).removeprefix(f"{plan.name}: ")] if found.empty else found.attrs["left_out"]
    if not reasons:
        return not_enough(["experiment", "reason"], "every declared metric was compared, so nothing is left out")
    return pd.DataFrame({"experiment": plan.label, "reason": reasons})


def _of(table: pd.DataFrame, labels: set[str]) -> pd.DataFrame:
    """The rows of a table of pairs that one of the chosen experiments is part of."""
    if table.empty:
        return table
    rows = table.loc[table["experiment"].isin(labels) | table["other"].isin(labels)].reset_index(drop=True)
    return rows if len(rows) else not_enough(list(table.columns), "it shares too few people with another test")


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    if table.empty:
        return not_enough(["experiment", *table.columns], f"{name}: {reason_of(table)}")
    named = table.copy()
    named.insert(0, "experiment", name)
    return named


def _stacked(tables: list[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Put tables under each other; when all are empty, the reasons are kept."""
    full = [table.copy() for table in tables if len(table)]
    for table in full:
        table.attrs = {}  # tables in attrs cannot be compared, which pandas tries when it joins
    if full:
        return pd.concat(full, ignore_index=True)
    reasons = "; ".join(dict.fromkeys(reason_of(table) for table in tables if "reason" in table.attrs))
    return not_enough(
        list(tables[0].columns) if tables else list(columns), reasons or "no experiment is declared in journey.toml"
    )


def comparison(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the plain comparison out of the table of `effects`: the same rows, without the columns of CUPED."""
    return _without(effects, [name for name in effects.columns if name.startswith("cuped") or name == "method"])


def cuped(effects: pd.DataFrame) -> pd.DataFrame:
    """Return the plain effect beside CUPED's out of the table of `effects`; one row per comparison that has both."""
    keep = ["experiment", "metric", "arm", "unit", "effect", "effect_low", "effect_high"]
    keep += [name for name in effects.columns if name.startswith("cuped")]
    table = _without(effects, [name for name in effects.columns if name not in keep])
    found = table.loc[table["cuped_effect"].notna()].reset_index(drop=True)
    if len(effects) and found.empty:
        return not_enough(keep, "not enough data: too few conversions, or nothing is known from before the exposure")
    return found if len(found) else table


def _without(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    rest = table.drop(columns=columns)
    rest.attrs = dict(table.attrs)
    return rest
