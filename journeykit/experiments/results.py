"""Every table of every declared experiment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from journeykit.config import Experiment
from journeykit.errors import JourneyError, nearest
from journeykit.experiments.decision import VERDICT, verdict
from journeykit.experiments.effects import EFFECTS, MINIMUM, effects
from journeykit.experiments.power import POWER, power
from journeykit.experiments.trust import response_check, split_check
from journeykit.experiments.units import exposure_check, units
from journeykit.stats import not_enough, reason_of


class Results(NamedTuple):
    """The tables of all experiments, one under the other; see the function of the same name for the columns."""

    exposure: pd.DataFrame
    split: pd.DataFrame
    response: pd.DataFrame
    effects: pd.DataFrame
    power: pd.DataFrame
    verdict: pd.DataFrame
    left_out: pd.DataFrame  # one row per comparison that could not be made: experiment, reason


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

    Raises:
        JourneyError: no experiment is called `only`; and whatever `units` and `effects` raise.
    """
    declared = list(experiments)
    names = [experiment.name for experiment in declared]
    if only and only not in names:
        raise JourneyError(
            f"experiment: {only!r} is not declared in journey.toml.{nearest(only, names)} "
            f'Declared: {", ".join(names) or "none"}. Choose one of them, or "" for all.'
        )
    chosen = [experiment for experiment in declared if only in ("", experiment.name)]
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in Results._fields}
    for experiment in chosen:
        people = units(touches, experiment=experiment, as_of=as_of)
        split = split_check(people, planned=experiment.arms)
        found = effects(people, experiment=experiment, currency=currency, min_n=min_n)
        parts["exposure"].append(exposure_check(touches, experiment=experiment, as_of=as_of))
        parts["split"].append(_named(split, experiment.label))
        parts["response"].append(response_check(people, experiment=experiment))
        parts["effects"].append(found)
        parts["power"].append(power(people, experiment=experiment, currency=currency, min_n=min_n))
        parts["verdict"].append(verdict(split, found, experiment))
        reasons = [reason_of(found).removeprefix(f"{experiment.name}: ")] if found.empty else found.attrs["left_out"]
        noted = pd.DataFrame({"experiment": experiment.label, "reason": reasons})
        nothing = not_enough(list(noted.columns), "every declared metric was compared, so nothing is left out")
        parts["left_out"].append(noted if reasons else nothing)
    columns = {"effects": EFFECTS, "power": POWER, "verdict": VERDICT}
    return Results(**{name: _stacked(tables, columns.get(name, ("experiment",))) for name, tables in parts.items()})


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    if table.empty:
        return not_enough(["experiment", *table.columns], f"{name}: {reason_of(table)}")
    named = table.copy()
    named.insert(0, "experiment", name)
    return named


def _stacked(tables: list[pd.DataFrame], columns: Iterable[str]) -> pd.DataFrame:
    """Put tables under each other; when all are empty, the reasons are kept."""
    full = [table for table in tables if len(table)]
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
