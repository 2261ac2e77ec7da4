"""The Customer Journey Score: weight × satisfaction × moving on, summed over the stages, and what it does not know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from journeykit import stats
from journeykit.config import Stage, seconds
from journeykit.errors import JourneyError
from journeykit.journey_map import DAY, NO_STAGES, SATISFACTION, microseconds, people_by_stage, spell

SCORE = ["stage", "weight", "weight_used", *SATISFACTION, "n", "moved_on_share", "moved_on_share_low"]
SCORE += ["moved_on_share_high", "points", "points_low", "points_high", "coverage_share", "note"]
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
) -> pd.DataFrame:
    """Compute the Customer Journey Score: 100 · Σ weight × satisfaction × share that moves on, 0–100 points.

    Satisfaction is the mean answer of the stage (see `satisfaction_by_stage`). `moved_on_share` is the
    Kaplan–Meier probability of moving on (see `stage_flow`) within `horizon` of the first touch in the stage, censored
    at `as_of`; the flow's `reached_share` counts what happened so far, whatever time people have had.
    Rivals: survival of the customer relation instead of progress; the very next stage only. A stage with fewer than
    `min_answers` answers, or which nobody entered a horizon ago, gets no number; the other weights are scaled up to 1
    and `coverage_share` of the total row says how much of the declared weight is in the score.

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
    end, limit = microseconds(as_of), seconds(horizon) / 86400
    people = people_by_stage(touches, stage_names, survey_touchpoints, end)
    rows, parts = [], {}
    for k, stage in enumerate(stage_names):
        days, moved = spell(people, k, end)
        answers = int(people[f"answers_{k}"].sum())
        seen = bool(len(days)) and float(end - people[f"entry_{k}"].min()) / DAY >= limit
        note = ""
        if answers < min_answers:
            note = f"not enough data (n = {answers} answers, at least {min_answers} are needed)"
        elif not seen:
            note = f"nobody entered this stage {horizon} or more before the end of the data"
        else:
            parts[k] = _Part(people, k, days, moved, limit)
        rows.append({"stage": stage, "weight": weights[k], "answers_n": answers, "n": len(days), "note": note})
    if not parts:
        worst = max(row["answers_n"] for row in rows)
        reason = f"not enough data (n = {worst} answers in the best-answered stage, at least {min_answers} are needed)"
        return stats.not_enough(SCORE, reason if worst < min_answers else str(rows[0]["note"]))
    coverage = float(weights[list(parts)].sum())
    rng = np.random.default_rng(seed)
    estimates: dict[int, list[tuple[float, float]]] = {k: [] for k in parts}
    for repetition in range(repetitions + 1):
        drawn = _resample(rng, len(people)) if repetition else np.ones(len(people))
        for k, part in parts.items():
            estimates[k].append(part.estimate(drawn))
    total = np.zeros(repetitions + 1)
    for k in parts:
        satisfaction, moved_on = np.array(estimates[k]).T
        used = weights[k] / coverage
        points = 100 * used * satisfaction * moved_on
        total = total + points
        rows[k].update(weight_used=used, **_spread("satisfaction", satisfaction))
        rows[k].update(**_spread("moved_on_share", moved_on), **_spread("points", points))
    definition, key = _definition(stage_names, weights, horizon, min_answers, survey_touchpoints)
    rows.append({"stage": "Total", "weight": 1.0, "weight_used": 1.0, **_spread("points", total)})
    rows[-1].update(coverage_share=coverage, note=f"definition {key}", n=len(people))
    rows[-1].update(answers_n=sum(row["answers_n"] for row in rows[:-1]))
    table = pd.DataFrame(rows).reindex(columns=SCORE)
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

    def __init__(self, people: pd.DataFrame, k: int, days: np.ndarray, moved: np.ndarray, limit: float) -> None:
        self.sums, self.answers = people[f"sum_{k}"].to_numpy(), people[f"answers_{k}"].to_numpy()
        order = np.argsort(days, kind="stable")
        days, moved = days[order], moved[order]
        self.rows = np.flatnonzero(people[f"entry_{k}"].notna().to_numpy())[order]
        self.events = np.flatnonzero(moved & (days <= limit))
        times, self.group = np.unique(days[self.events], return_inverse=True)
        self.starts = np.searchsorted(days, times, side="left")

    def estimate(self, drawn: np.ndarray) -> tuple[float, float]:
        """Return mean satisfaction and the weighted Kaplan–Meier probability of having moved on by the horizon."""
        weight = drawn[self.rows]
        at_risk = weight[::-1].cumsum()[::-1][self.starts]
        moved = np.bincount(self.group, weights=weight[self.events], minlength=len(self.starts))
        hazard = np.divide(moved, at_risk, out=np.zeros(len(moved)), where=at_risk > 0)
        answers = float(drawn @ self.answers)
        satisfaction = float(drawn @ self.sums) / answers if answers else float("nan")
        return satisfaction, float(1 - np.prod(1 - hazard))


def _resample(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(float)


def _spread(name: str, draws: np.ndarray) -> dict[str, float]:
    """Return the estimate (the first draw) and the percentile interval of the others."""
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5]) if len(draws) > 1 else (np.nan, np.nan)
    return {name: float(draws[0]), f"{name}_low": float(low), f"{name}_high": float(high)}


def _definition(
    stages: list[str], weights: np.ndarray, horizon: str, min_answers: int, surveys: Sequence[str]
) -> tuple[str, str]:
    parts = [stages, [round(float(w), 6) for w in weights], seconds(horizon), min_answers, sorted(surveys), "CJS 1"]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    shares = ", ".join(f"{stage} {100 * weight:.3g} %" for stage, weight in zip(stages, weights, strict=True))
    days = f"{seconds(horizon) / 86400:g} days"
    return (
        f"Definition {key}: 100 × the sum over stages of weight ({shares}) × mean satisfaction (0–1) × probability "
        f"of moving on within {days} of entering the stage; a stage with fewer than {min_answers} answers is left out."
    ), key
