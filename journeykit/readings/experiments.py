"""What the tables of chapter 08 say, under one name: trust, effects and decisions."""

from __future__ import annotations

from journeykit.readings.experiment_decision import findings, guardrails, money, shown, verdict
from journeykit.readings.experiment_effects import bayes, cuped, effects, looked_daily, looks, novelty, power, segments
from journeykit.readings.experiment_trust import (
    assignment,
    balance,
    changes,
    declared,
    exposure,
    overlap,
    response,
    split,
    split_days,
    split_segments,
    telemetry,
)

__all__ = [
    "assignment", "balance", "bayes", "changes", "cuped", "declared", "effects", "exposure", "findings",
    "guardrails", "looked_daily", "looks", "money", "novelty", "overlap", "power", "response", "segments",
    "shown", "split", "split_days", "split_segments", "telemetry", "verdict",
]  # fmt: skip
