"""Planned against actual: which journeys keep to the plan, which do not, and how they differ from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit import alignment, config, engine, errors, plan_sequences, plan_times, stats, sums
from journeykit.alignment import EXTRA, OUT_OF_ORDER, REPEATED, SKIPPED, Alignment
from journeykit.config_steps import Step
from journeykit.steps import parse

LATE = "late"
KINDS = (SKIPPED, OUT_OF_ORDER, REPEATED, EXTRA, LATE)
FINISHED = ("converted", "abandoned")
OUTCOMES = (*FINISHED, "open", "all")
NO_PLAN = "journey.toml declares no plan; add a [plans.<name>] table with its steps"

_SHARE_COLUMNS = [
    *("group", "n", "on_plan_n", "on_plan_share", "on_plan_share_low", "on_plan_share_high"),
    *("so_far_n", "so_far_share", "so_far_share_low", "so_far_share_high", "stopped_early_n"),
    *(f"{kind.replace(' ', '_')}_n" for kind in KINDS),
    *("no_step_n", "one_deviation_n", "two_deviations_n", "more_deviations_n"),
    *("deviations_mean", "deviations_mean_low", "deviations_mean_high", "fitness_median"),
]


@dataclass(frozen=True)
class Judged:
    """Journeys beside their plan, made by `judge`.

    Attributes:
        table: lazy, one row per journey: journey_id, person_id, outcome, worth (its value), code, cut, capped,
            outside_n, shown (see `plan_sequences.sequences`), and late_<i> of each time rule (see `plan_times.timing`).
        outside: lazy, one row per journey and value outside the plan: journey_id, value, cut.
        groups: journeys that are alike, summed: code, cut, capped, outside_n, late_<i>, outcome, n, and with values
            also value and squares (the sums of them and of their squares).
        letters: what the letters of the codes stand for.
        steps: the steps of the plan.
        rules: its time rules.
        has_outcome: whether it is known which journeys converted.
        reason: why there is nothing, or "".
    """

    table: Any
    outside: Any
    groups: pd.DataFrame
    letters: plan_sequences.Letters
    steps: tuple[Step, ...]
    rules: tuple[plan_times.Rule, ...] = ()
    has_outcome: bool = False
    reason: str = ""
    _known: dict[str, Alignment] = field(default_factory=dict, repr=False)

    @cached_property
    def labels(self) -> dict[int, str]:
        """The name of each step; steps of the same name carry their number."""
        twice = Counter(step.label for step in self.steps)
        return {
            k: step.label if twice[step.label] == 1 else f"{step.label} (step {k})"
            for k, step in enumerate(self.steps, start=1)
        }

    @property
    def late(self) -> list[str]:
        """The columns of the time rules."""
        return [f"late_{i}" for i in range(1, len(self.rules) + 1)]

    @property
    def has_value(self) -> bool:
        """Whether the value of journeys is known."""
        return "value" in self.groups.columns

    @property
    def counting(self) -> nw.LazyFrame[Any]:
        """The journeys with an event that counts: a planned one, or one outside the plan where those are extra."""
        return self.table.filter((nw.col("code") != "") | (nw.col("outside_n") > 0))

    @property
    def capped_n(self) -> int:
        """Journeys of which some events were not looked at."""
        return int(self.groups.loc[self.groups["capped"] == 1, "n"].sum())

    def alignments(self) -> dict[str, Alignment]:
        """The alignment of each code, each aligned once."""
        if not self._known:
            codes = sorted(self.groups["code"].unique())
            self._known.update(zip(codes, alignment.judge(codes, self.letters.plan), strict=True))
        return self._known


def choose(study: config.Study, name: str = "") -> config.Plan:
    """Return one of the study's plans; "" stands for the first.

    A study without plans gets a plan without steps, for which every function here returns an empty table that says so.

    Raises:
        JourneyError: there is no plan of this name.
    """
    if not study.plans and not name:
        return config.Plan.model_construct(steps=[], on="stage")
    if name and name not in study.plans:
        raise errors.JourneyError(
            f"plans: there is no plan {name!r}.{errors.nearest(name, study.plans)} "
            f"journey.toml declares: {', '.join(study.plans) or 'none'}."
        )
    return study.plans[name] if name else next(iter(study.plans.values()))


def rules(plan: config.Plan) -> dict[str, Any]:
    """Return a plan as keywords of `judge` and of `plan_times.kept`.

    >>> sorted(rules(config.Plan(steps=["a", "b"])))
    ['allowed', 'on', 'others', 'steps', 'within']
    """
    return {name: getattr(plan, name) for name in ("steps", "on", "within", "others", "allowed")}


def judge(
    touches: Any,
    *,
    steps: Sequence[str | Step],
    on: str = "stage",
    within: str = "",
    others: str = "ignore",
    allowed: Sequence[str] = (),
    journeys: Any = None,
    conversion: Sequence[str] = (),
) -> Judged:
    """Compare each journey with the plan, for `plan_share`, `deviations.count` and `plan_ways.off_plan`.

    The plan is an automaton of its steps; a journey is aligned with it at the lowest cost (`alignment.judge`), each
    different sequence once. Events with other values than the plan's are not looked at (`others="ignore"`) or count as
    extra (`others="extra"`); `allowed` ones never count. Of more than 8 of the same planned step in a row, and of more
    than 100 planned events of a journey, the later ones are not looked at (`Judged.capped_n` journeys; fewer where more
    than 500,000 different sequences are left, see `plan_sequences.CAPS`). Time rules are
    those of `plan_times.rules`; a step that comes after its limit is late. Rivals: replay of tokens on a Petri net,
    which needs a model that few can draw; rules for pairs of steps (Declare, log skeletons), which say what is broken
    but not where.

    Requires `journey_id`, `person_id`, the order columns, `on`, the columns that the steps look at, and `event` where
    conversions are named; `journeys` with `journey_id`, `outcome` (converted, abandoned, open) and, for money, `value`.

    Args:
        touches: events in journeys.
        steps: texts or `config.Step`.
        on: what the steps are.
        within: time allowed from the first required step to the last.
        others: "ignore" or "extra".
        allowed: values of `on` that may come anywhere.
        journeys: without it, every journey is judged as finished, and there is no outcome.
        conversion: the events that convert, so that deviations can be compared before the conversion.

    Raises:
        JourneyError: a column is missing, or the plan cannot be read.
    """
    parsed = tuple(parse(steps, "plan"))
    if not parsed:
        nothing = plan_sequences.Letters(alignment.Plan((), (), {}), (), (), 0)
        return Judged(None, None, pd.DataFrame(), nothing, (), reason=NO_PLAN)
    if others not in ("ignore", "extra"):
        raise errors.JourneyError(
            f"plan: others = {others!r} is not known.{errors.nearest(others, ['ignore', 'extra'])} "
            'Allowed: "ignore" (look at the values of the plan only), "extra" (each other one is a deviation).'
        )
    timed = tuple(plan_times.rules(parsed, within))
    coded, letters = plan_sequences.sequences(
        touches, steps=parsed, on=on, others=others, allowed=allowed, conversion=conversion
    )
    table = _with_outcome(touches, coded, journeys)
    have = table.collect_schema().names()
    known = coded.filter(nw.col("value").is_null()).drop("value")
    table = table.join(known, on="journey_id", how="left").with_columns(
        nw.col("code").fill_null(""),
        nw.col("shown").fill_null(""),
        nw.col("cut").fill_null(-1),
        *[nw.col(name).fill_null(0) for name in ("capped", "outside_n")],
    )
    late = [f"late_{i}" for i in range(1, len(timed) + 1)]
    if timed:
        seen = plan_times.arrivals(touches, steps=parsed, on=on, within=within, conversion=conversion)
        timing = engine.beside(plan_times.timing(seen, timed), coded)
        table = table.join(timing, on="journey_id", how="left")
        table = table.with_columns(*[nw.col(name).fill_null(0) for name in late])
    table = engine.keep(table, "judged")
    outside = coded.filter(~nw.col("value").is_null()).select("journey_id", "value", "cut")
    summed = groups(table, ["code", "cut", "capped", "outside_n", *late, "outcome"], "worth" in have)
    return Judged(table, outside, summed, letters, parsed, timed, journeys is not None)


def _with_outcome(touches: Any, coded: nw.LazyFrame[Any], journeys: Any) -> nw.LazyFrame[Any]:
    """Every journey with its outcome and value, also those without any planned event."""
    if journeys is None:
        every = engine.lazy(touches).filter(~nw.col("journey_id").is_null()).select("journey_id").unique()
        return engine.beside(every, coded).with_columns(outcome=nw.lit("all"))
    found = engine.beside(journeys, coded)
    have = found.collect_schema().names()
    errors.require_columns(have, ["journey_id", "outcome"], "plan: journeys")
    worth = {"worth": nw.col("value").cast(nw.Float64)} if "value" in have else {}
    found = found.select("journey_id", outcome=nw.col("outcome").cast(nw.String()), **worth)
    return found.filter(nw.col("outcome").is_in(list(OUTCOMES)))


def groups(table: nw.LazyFrame[Any], by: Sequence[str], has_value: bool) -> pd.DataFrame:
    """Sum journeys that are alike in some columns: n, and of the column `worth` value and squares."""
    added: dict[str, nw.Expr] = {}
    if has_value:
        worth = nw.col("worth").fill_null(0.0)
        table = table.with_columns(**sums.money("value", worth), squares=worth * worth)
        added = {name: nw.col(name).sum() for name in ("value_whole", "value_large", "squares")}
    found = engine.fetch(table.group_by(*by).agg(n=nw.len(), **added))
    if has_value:
        found = found.assign(value=sums.total(found, "value")).drop(columns=["value_whole", "value_large"])
    return found.sort_values(list(by), ignore_index=True)


def plan_share(judged: Judged, *, min_n: int = 1) -> pd.DataFrame:
    """Count how many journeys keep to the plan, and how far the others are from it.

    **On plan**: all required steps in order, nothing that the plan does not have, everything in time. **So far**: no
    deviation as far as the journey went, on plan or stopped early; the fair figure for those who left, because a plan
    that holds the conversion cannot be kept by them. **Stopped early**: required steps are missing at the end; that is
    no deviation. `<kind>_n` journeys have at least one deviation of a kind (see `alignment.judge`; `late_n` a time rule
    broken) and may have several, so these numbers overlap. Journeys without any planned step (`no_step_n`) are in n and
    in no other number, unless others count as extra. Fitness is 1 − cost / (events + steps of the shortest journey on
    plan); its median and the mean number of deviations (Student's interval) are of journeys with an event that counts.
    Rival: fitness as the headline, which few can read, and which falls with harmless extras.

    One row per group: "all finished", "converted", "not converted", then "open", where what is not reached yet is not
    held against a journey (on plan so far); without `journeys` one row "all", every journey judged as finished. Shares
    have 95 % Wilson intervals and are of n. Groups of fewer than `min_n` journeys are left out; `attrs["capped_n"]`
    says of how many journeys some events were not looked at.

    >>> from tests.conftest import make_log
    >>> found = judge(make_log("u1: ad visit buy | u2: ad buy"), steps=["ad", "visit", "buy"])
    >>> plan_share(found)[["n", "on_plan_n", "skipped_n"]].values.tolist()
    [[2, 1, 1]]
    """
    if judged.reason:
        return stats.not_enough(_SHARE_COLUMNS, judged.reason)
    each = _told(judged)
    parts = {"all": ["all"]}
    if judged.has_outcome:
        parts = {"all finished": list(FINISHED), "converted": ["converted"], "not converted": ["abandoned"]}
        parts["open"] = ["open"]
    rows = []
    for group, outcomes in parts.items():
        part = each[each["outcome"].isin(outcomes)]
        if part["n"].sum() >= max(min_n, 1):
            rows.append({"group": group, **_summed(part, group == "open")})
    if not rows:
        n = int(each["n"].sum()) if len(each) else 0
        reason = f"not enough data (no group of {min_n} journeys)" if n else "not enough data (n = 0)"
        return stats.not_enough(_SHARE_COLUMNS, reason)
    table = stats.add_share(stats.add_share(pd.DataFrame(rows), "on_plan", "on_plan_n", "n"), "so_far", "so_far_n", "n")
    table = table[_SHARE_COLUMNS]
    table.attrs["capped_n"] = judged.capped_n
    return table


def _told(judged: Judged) -> pd.DataFrame:
    """What is to be told of each group of journeys that are alike."""
    known, shortest = judged.alignments(), judged.letters.plan.shortest
    groups = judged.groups
    late = groups[judged.late].isin([2, 4]).sum(axis=1)
    rows = []
    for code, outside, late_n in zip(groups["code"], groups["outside_n"], late, strict=True):
        found = known[code]
        kinds = Counter(kind for _, kind, _ in found.odd)
        most = found.events + outside + shortest
        closed, opened = (1 - (cost + outside) / most if most else 1.0 for cost in (found.cost, found.open_cost))
        deviations = len(found.odd) + len(found.skipped) + outside + late_n
        other = (kinds[OUT_OF_ORDER], kinds[REPEATED], kinds[EXTRA] + outside, late_n)
        has_step, is_judged = code != "", code != "" or outside > 0
        stopped = has_step and bool(found.stopped)
        rows.append((has_step, is_judged, stopped, len(found.skipped), *other, deviations, closed, opened))
    names = ["has_step", "is_judged", "stopped", *KINDS[:3], EXTRA, LATE, "deviations", "fitness", "open_fitness"]
    return pd.concat([groups, pd.DataFrame(rows, columns=names)], axis=1)


def _summed(part: pd.DataFrame, is_open: bool) -> dict[str, Any]:
    """The numbers of one group of `plan_share`."""
    n, on = part["n"], part[part["is_judged"]]
    none = on["deviations"] == 0
    stopped = on["stopped"] & (not is_open)
    found = {"n": int(n.sum()), "on_plan_n": int(on["n"][none & ~stopped].sum()), "so_far_n": int(on["n"][none].sum())}
    found["stopped_early_n"] = int(on["n"][stopped].sum())
    for kind in KINDS:
        found[f"{kind.replace(' ', '_')}_n"] = int(on["n"][on[kind] > 0].sum())
    found["no_step_n"] = int(n[~part["has_step"]].sum())
    for name, condition in (("one_deviation_n", on["deviations"] == 1), ("two_deviations_n", on["deviations"] == 2)):
        found[name] = int(on["n"][condition].sum())
    found["more_deviations_n"] = int(on["n"][on["deviations"] > 2].sum())
    mean, low, high = _mean(on["deviations"].to_numpy(float), on["n"].to_numpy(float))
    middle = _median(on["open_fitness" if is_open else "fitness"].to_numpy(float), on["n"].to_numpy(float))
    more = {"deviations_mean": mean, "deviations_mean_low": low, "deviations_mean_high": high, "fitness_median": middle}
    return {**found, **more}


def _mean(values: np.ndarray, n: np.ndarray) -> tuple[float, float, float]:
    """The mean of values that occur n times, with Student's interval."""
    total = float(n.sum())
    if not total:
        return (float("nan"),) * 3
    mean = float((values * n).sum()) / total
    if total < 2:
        return (mean, float("nan"), float("nan"))
    error = float(np.sqrt((n * (values - mean) ** 2).sum() / (total - 1) / total))
    half = float(_stats.t.ppf(0.975, total - 1)) * error
    return (mean, max(mean - half, 0.0), mean + half)


def _median(values: np.ndarray, n: np.ndarray) -> float:
    """The median of values that occur n times; between the two in the middle, their mean."""
    if not n.sum():
        return float("nan")
    order = np.argsort(values, kind="stable")
    ends, half = np.cumsum(n[order]), n.sum() / 2
    low = np.searchsorted(ends, half, side="left")
    return float((values[order][low] + values[order][np.searchsorted(ends, half, side="right")]) / 2)
