"""What a run can know of the runs before it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from journeykit import earlier

FILE = "07_churn__scores.csv"


def leave(home: Path, run: str, as_of: str, status: str = "passed", content: str | None = "n\n1\n") -> None:
    folder = home / run
    (folder / "tables").mkdir(parents=True)
    told = {"run": run, "started_at": f"{run}T00:00:00Z", "as_of": as_of, "status": status}
    (folder / "run.json").write_text(json.dumps(told))
    if content is not None:
        (folder / "tables" / FILE).write_text(content)


def test_tables_of_passed_runs_of_earlier_data_come_in_order(tmp_path: Path) -> None:
    leave(tmp_path, "2025-03-01", "2025-03-01T00:00:00Z", content="n\n3\n")
    leave(tmp_path, "2025-01-01", "2025-01-01T00:00:00Z")
    leave(tmp_path, "2025-02-01", "2025-02-01T00:00:00Z", content="n\n2\n")
    leave(tmp_path, "2025-02-02", "2025-02-02T00:00:00Z", status="failed")
    leave(tmp_path, "2025-02-03", "2025-02-03T00:00:00Z", content=None)
    found = earlier.tables(tmp_path, FILE, pd.Timestamp("2025-03-01"))
    assert [int(table["n"].iloc[0]) for table in found] == [1, 2]
    assert found[-1].attrs == {"as_of": pd.Timestamp("2025-02-01"), "run": "2025-02-01"}
    assert len(earlier.tables(tmp_path, FILE)) == 3


def test_what_cannot_be_read_is_no_earlier_run(tmp_path: Path) -> None:
    leave(tmp_path, "2025-01-01", "")
    (tmp_path / "2025-01-02").mkdir()
    (tmp_path / "2025-01-02" / "run.json").write_text("{")
    (tmp_path / "2025-01-03").mkdir()
    (tmp_path / "2025-01-03" / "run.json").write_text("[]")
    assert earlier.tables(tmp_path, FILE) == []
    assert earlier.tables(tmp_path / "nowhere", FILE) == []
