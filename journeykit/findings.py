"""Findings: what a chapter concludes, as rows that the summary ranks and the report shows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, field_validator

EVIDENCE = ("experimental", "quasi-experimental", "associated", "observed")


class Finding(BaseModel):
    """One conclusion, with its number, its interval, what it rests on and what to do about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    chapter: str
    statement: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""  # share, days, people, points, ratio, or a currency
    better: Literal["up", "down", ""] = ""
    evidence: Literal["observed", "associated", "quasi-experimental", "experimental"] = "observed"
    caveat: str = ""
    action: str = ""
    owner: str = ""
    table: str = ""  # the CSV in tables/ that holds the numbers
    headline: bool = False
    label: str = ""  # short name for a headline card

    @field_validator("value", "low", "high", mode="before")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        return None if value is None or not math.isfinite(value) else float(value)

    @field_validator("n", mode="before")
    @classmethod
    def _whole(cls, value: float | None) -> int | None:
        return None if value is None or not math.isfinite(value) else int(value)


def rank(findings: Iterable[Finding]) -> list[Finding]:
    """Order findings by what a reader should act on first.

    First those that name an action; among them by strength of evidence (experimental, quasi-experimental,
    associated, observed), then headline figures, then chapter and id, so that the order never depends on chance.
    Money would be the better key; it needs an effect in money for each finding, which not every chapter has yet.
    """
    return sorted(findings, key=lambda f: (not f.action, EVIDENCE.index(f.evidence), not f.headline, f.chapter, f.id))


def save(findings: Iterable[Finding], path: Path) -> None:
    """Write findings as JSON, beside the name first and moved into place when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    rows = [finding.model_dump() for finding in findings]
    part.write_text(json.dumps({"findings": rows}, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    os.replace(part, path)


def read(folder: Path) -> list[Finding]:
    """Read all findings of a folder, chapter by chapter."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.json")):
        found += [Finding.model_validate(row) for row in json.loads(path.read_text(encoding="utf-8"))["findings"]]
    return found


def table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Return findings as a table: one row per finding, every column of the model."""
    return pd.DataFrame([finding.model_dump() for finding in findings], columns=list(Finding.model_fields))
