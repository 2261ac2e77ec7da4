"""What earlier runs left, so that a run can say what has changed since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def tables(home: Path, file: str, before: pd.Timestamp | None = None, texts: Sequence[str] = ()) -> list[pd.DataFrame]:
    """Return a table of the passed runs of a study that have it, the earliest run first.

    Args:
        home: the folder of the study's runs, `reports/<study>`.
        file: name of the table, such as `"07_churn__scores.csv"`.
        before: only runs whose observation ended before it (UTC): a second run of the same data is no earlier one.
        texts: columns that are texts, whatever they look like.

    Returns:
        The tables as they were written; `.attrs["as_of"]` is the end of observation, `.attrs["run"]` the run's name.
    """
    found: list[tuple[str, pd.DataFrame]] = []
    for path in sorted(home.glob("[0-9]*/run.json")):
        told, table = _facts(path), path.parent / "tables" / file
        end = pd.to_datetime(str(told.get("as_of")), utc=True, errors="coerce")
        if told.get("status") != "passed" or pd.isna(end) or not table.exists():
            continue
        end = end.tz_localize(None)
        if before is not None and end >= before:
            continue
        content = pd.read_csv(table, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
        content.attrs.update(as_of=end, run=told["run"])
        found.append((str(told["started_at"]), content))
    return [content for _, content in sorted(found, key=lambda pair: pair[0])]


def _facts(path: Path) -> dict[str, Any]:
    """What a run noted of itself; nothing where that cannot be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) and {"run", "started_at"} <= set(told) else {}
