"""The Customer Journey Score: weight × satisfaction × moving on (or staying), summed over the stages.

And what it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeykit import stats
from journeykit.churn.stages import stays
from journeykit.config import Stage, seconds
from journeykit.errors import JourneyError
from journeykit.journey_map import DAY, NO_STAGES, SATISFACTION, microseconds, people_by_stage, spell

SCORE = ["stage", "weight", "weight_used", *SATISFACTION, "n", "moved_on_share", "moved_on_share_low"]
SCORE += ["moved_on_share_high", "points", "points_low", "points_high", "coverage_share", "note"]
MOVED, RETAINED = "moved_on_share", "retained_share"  # the third factor
BOUNDS = ["stage", "n", "answered_people_n", "answered_share", "answered_share_low", "answered_share_high"]
BOUNDS += ["satisfaction", "satisfaction_if_silent_unhappy", "satisfaction_if_silent_happy"]


def stage_weights(stages: Iterable[Stage]) -> list[tuple[str, float]]:
    """Return (name, weight) of the stages of a study, in their order.

    >>> stage_weights([Stage(name="Buy", weight=0.5, touchpoints={"Cart": ["add_to_cart"]})])
    [('Buy', 0.5)]
    """
    return [(stage.name, stage.weight) for stage in stages]


def journey_score(
    touches: Any,
    *,
    stages: pd.DataFrame | Sequence[tuple[str, float]],
    as_of: Any,
    horizon: str = "90d",
    min_answers: int = 30,
    repetitions: int = 500,
    seed: int = 0,
    survey_touchpoints: Sequence[str] = ("Survey",),
    spells: pd.DataFrame | None = None,
    end: Sequence[str] = (),
    min_customers: int = 30,
) -> pd.DataFrame:
    """Compute the Customer Journey Score: 100 · Σ weight × satisfaction × share that moves on, 0–100 points.

    Satisfaction is the mean answer of the stage (see `satisfaction_by_stage`). `moved_on_share` is the
    Kaplan–Meier probability of moving on (see `stage_flow`) within `horizon` of the first touch in the stage, censored
    at `as_of`; the flow's `reached_share` counts what happened so far, whatever time people have had.
    Rival: the very next stage only. A stage with fewer than `min_answers` answers, or which nobody entered a horizon
    ago, gets no number; the other weights are scaled up to 1 and `coverage_share` of the total row says how much of the
    declared weight is in the score.

    With `spells` (customers, by `churn.spells.of`) the third factor is who stays in place of who moves on: the
    Kaplan–Meier probability to be a customer still `horizon` after entering the stage, among customers (see
    `churn.stages.stays`; `end` names the events that end a spell). The columns are `retained_share` then, `n` of a
    stage counts customers, and a stage that fewer than `min_customers` of them entered gets no number.

    Intervals are percentiles of a bootstrap over people: each repetition draws people, among all who entered a stage or
    answered about one (the `n` of the total), once and recomputes all stages.
    `stages` is a table with `stage` and `weight`, or (stage, weight) pairs, in order.
    One row per stage and a last row "Total". `.attrs["definition"]` is the definition in words with its hash;
    scores with different hashes must not be compared.

    Raises:
        JourneyError: a weight is negative, or all are zero.
    """
    pairs = list(zip(stages["stage"], stages["weight"], strict=True)) if isinstance(stages, pd.DataFrame) else stages
    if not len(pairs):
        return stats.not_enough(SCORE, NO_STAGES)
    stage_names, weights = [str(name) for name, _ in pairs], np.array([float(weight) for _, weight in pairs])
    if (weights < 0).any() or weights.sum() <= 0 or not np.isfinite(weights).all():
        raise JourneyError(
            f"stages.weight: found {weights.tolist()}. Weights are 0 or more and not all 0; correct them."
        )
    weights = weights / weights.sum()
    until, limit = microseconds(as_of), seconds(horizon) / 86400
    factor = MOVED if spells is None else RETAINED
    columns = [name.replace(MOVED, factor) for name in SCORE]
    people = people_by_stage(touches, stage_names, survey_touchpoints, until)
    customers = None
    if spells is not None:
        customers = stays(touches, spells, stages=stage_names, end=end, survey_touchpoints=survey_touchpoints)
    rows, parts = [], {}
    for k, stage in enumerate(stage_names):
        if customers is None:
            inside = people[f"entry_{k}"].notna().to_numpy()
            days, left = spell(people, k, until)
            seen = bool(len(days)) and float(until - people[f"entry_{k}"].min()) / DAY >= limit
        else:
            inside, days, left, seen = _stayed(people, customers[customers["stage"] == stage], limit)
        answers = int(people[f"answers_{k}"].sum())
        note = ""
        if answers < min_answers:
            note = f"not enough data (n = {answers} answers, at least {min_answers} are needed)"
        elif customers is not None and len(days) < min_customers:
            note = f"not enough data (n = {len(days)} customers, at least {min_customers} are needed)"
        elif not seen:
            note = f"nobody entered this stage {horizon} or more before the end of the data"
        else:
            parts[k] = _Part(people, k, inside, days, left, limit)
        rows.append({"stage": stage, "weight": weights[k], "answers_n": answers, "n": len(days), "note": note})
    if not parts:
        worst = max(row["answers_n"] for row in rows)
        reason = f"not enough data (n = {worst} answers in the best-answered stage, at least {min_answers} are needed)"
        return stats.not_enough(columns, reason if worst < min_answers else str(rows[0]["note"]))
    coverage = float(weights[list(parts)].sum())
    rng = np.random.default_rng(seed)
    estimates: dict[int, list[tuple[float, float]]] = {k: [] for k in parts}
    for repetition in range(repetitions + 1):
        drawn = _resample(rng, len(people)) if repetition else np.ones(len(people))
        for k, part in parts.items():
            estimates[k].append(part.estimate(drawn))
    total = np.zeros(repetitions + 1)
    for k in parts:
        satisfaction, left_share = np.array(estimates[k]).T
        third = left_share if spells is None else 1 - left_share
        used = weights[k] / coverage
        points = 100 * used * satisfaction * third
        total = total + points
        rows[k].update(weight_used=used, **_spread("satisfaction", satisfaction))
        rows[k].update(**_spread(factor, third), **_spread("points", points))
    definition, key = _definition(stage_names, weights, horizon, min_answers, survey_touchpoints, factor)
    rows.append({"stage": "Total", "weight": 1.0, "weight_used": 1.0, **_spread("points", total)})
    rows[-1].update(coverage_share=coverage, note=f"definition {key}", n=len(people))
    rows[-1].update(answers_n=sum(row["answers_n"] for row in rows[:-1]))
    table = pd.DataFrame(rows).reindex(columns=columns)
    table.attrs["definition"] = definition
    return table


def response_bounds(
    touches: Any, *, stages: Sequence[str], survey_touchpoints: Sequence[str] = ("Survey",), min_n: int = 5
) -> pd.DataFrame:
    """Bound the satisfaction of each stage by what the silent majority could think (Manski bounds).

    `answered_share` is over people who entered the stage, and only their answers count here; the score and the map
    also count answers about the stage from people not seen in it. `satisfaction` is the mean over people of their mean
    answer; the two bounds set everybody who did not answer to 0 and to 1. They hold without any assumption, and are
    wide because little is known; no interval around an average of answers repairs that.

    One row per stage with at least `min_n` people who answered, in order.
    """
    if not stages:
        return stats.not_enough(BOUNDS, NO_STAGES)
    people = people_by_stage(touches, stages, survey_touchpoints, None)
    rows = []
    for k, stage in enumerate(stages):
        inside = people[people[f"entry_{k}"].notna()]
        answers, n = inside[f"answers_{k}"], len(inside)
        means = (inside[f"sum_{k}"] / answers.where(answers > 0)).dropna()
        if len(means) < max(min_n, 1):
            continue
        share, mean = len(means) / n, float(means.mean())
        row = {"stage": stage, "n": n, "answered_people_n": len(means), "satisfaction": mean}
        row |= {
            "satisfaction_if_silent_unhappy": mean * share,
            "satisfaction_if_silent_happy": mean * share + 1 - share,
        }
        rows.append(row)
    if not rows:
        return stats.not_enough(BOUNDS, "not enough data: nobody, or too few people, answered")
    return stats.add_share(pd.DataFrame(rows), "answered", "answered_people_n", "n")[BOUNDS]


class _Part:
    """One stage of the score, laid out so that a resample costs a few array operations."""

    def __init__(
        self, people: pd.DataFrame, k: int, inside: np.ndarray, days: np.ndarray, left: np.ndarray, limit: float
    ) -> None:
        self.sums, self.answers = people[f"sum_{k}"].to_numpy(), people[f"answers_{k}"].to_numpy()
        order = np.argsort(days, kind="stable")
        days, left = days[order], left[order]
        self.rows = np.flatnonzero(inside)[order]
        self.events = np.flatnonzero(left & (days <= limit))
        times, self.group = np.unique(days[self.events], return_inverse=True)
        self.starts = np.searchsorted(days, times, side="left")

    def estimate(self, drawn: np.ndarray) -> tuple[float, float]:
        """Return mean satisfaction and the weighted Kaplan–Meier probability of having left by the horizon.

        Left for a later stage or, with spells, as a customer.
        """
        weight = drawn[self.rows]
        at_risk = weight[::-1].cumsum()[::-1][self.starts]
        left = np.bincount(self.group, weights=weight[self.events], minlength=len(self.starts))
        hazard = np.divide(left, at_risk, out=np.zeros(len(left)), where=at_risk > 0)
        answers = float(drawn @ self.answers)
        satisfaction = float(drawn @ self.sums) / answers if answers else float("nan")
        return satisfaction, float(1 - np.prod(1 - hazard))


def _stayed(people: pd.DataFrame, of: pd.DataFrame, limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Return which people entered the stage as customers, their days from then on, who left, and if any was seen."""
    of = of[of["person_id"].isin(people["person_id"])].sort_values("person_id")
    inside = people["person_id"].isin(of["person_id"]).to_numpy()
    seen = bool((of["followed_days"] >= limit).any())
    return inside, of["duration_days"].to_numpy(float), (of["ended"] == 1).to_numpy(), seen


def _resample(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(float)


def _spread(name: str, draws: np.ndarray) -> dict[str, float]:
    """Return the estimate (the first draw) and the percentile interval of the others."""
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5]) if len(draws) > 1 else (np.nan, np.nan)
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def _definition(
    stages: list[str], weights: np.ndarray, horizon: str, min_answers: int, surveys: Sequence[str], factor: str
) -> tuple[str, str]:
    parts = [stages, [round(float(w), 6) for w in weights], seconds(horizon), min_answers, sorted(surveys), "CJS 1"]
    parts += [] if factor == MOVED else [factor]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    shares = ", ".join(f"{stage} {100 * weight:.3g} %" for stage, weight in zip(stages, weights, strict=True))
    days = f"{seconds(horizon) / 86400:g} days"
    what = f"of moving on within {days} of entering the stage"
    if factor != MOVED:
        what = f"to be a customer still {days} after entering the stage, among customers"
    return (
        f"Definition {key}: 100 × the sum over stages of weight ({shares}) × mean satisfaction (0–1) × probability "
        f"{what}; a stage with fewer than {min_answers} answers is left out."
    ), key
