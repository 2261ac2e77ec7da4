"""Shared test material: a text notation for small logs, so that each case can be checked by eye."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
START = pd.Timestamp("2025-01-01")


def make_log(text: str, **columns: object) -> pd.DataFrame:
    """Build a `touches` table from text such as `u1: ad visit@2h buy@1d/web | u2: visit`.

    `event[@time][/channel]`; a time counts from 2025-01-01 00:00 UTC, an event without one follows the previous one
    by a minute. `;` inside a person's part starts a new session and journey. People are numbered in order.
    """
    rows: list[dict[str, object]] = []
    journey = 0
    for person, part in enumerate((p for p in text.split("|") if p.strip()), start=1):
        clock = START
        for visit in part.split(":", 1)[1].split(";"):
            journey += 1
            for token in visit.split():
                match = re.fullmatch(r"([^@/]+)(?:@([^/]+))?(?:/(.+))?", token)
                assert match, f"cannot read {token!r}"
                event, at, channel = match.groups()
                clock = START + pd.Timedelta(at) if at else clock + pd.Timedelta("1min")
                rows.append(
                    {
                        "event_id": f"e{len(rows):04d}",
                        "timestamp": clock,
                        "source": "log",
                        "source_row": len(rows) + 1,
                        "event": event,
                        "channel": channel or "web",
                        "marketing_channel": None,
                        "touchpoint": event,
                        "stage": event,
                        "team": None,
                        "value": None,
                        "satisfaction": None,
                        "person_id": person,
                        "session_id": journey,
                        "journey_id": journey,
                    }
                )
    table = pd.DataFrame(rows)
    for name in ("value", "satisfaction"):
        table[name] = table[name].astype(float)
    by_person = table.sort_values(["person_id", "timestamp", "source", "source_row"]).groupby("person_id")
    table["position"] = by_person.cumcount() + 1
    table["previous_event"] = by_person["event"].shift(1)
    table["next_event"] = by_person["event"].shift(-1)
    table["seconds_since_previous"] = by_person["timestamp"].diff().dt.total_seconds()
    return table.assign(**columns)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name no bytes: packed ones hold the time, and two workers must call a test by one name."""
    return argname if isinstance(val, bytes) else None


# Files whose few tests take minutes: a worker that met one of them last would keep all others waiting.
SLOW = ("test_spark.py", "test_run.py", "test_real_studies.py", "test_new.py", "test_fuzz.py", "test_browser.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow files; `--no-loadscope-reorder` keeps this order for the workers."""
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.fixture
def log() -> Callable[..., pd.DataFrame]:
    return make_log


@pytest.fixture(scope="session")
def laptop_store() -> Path:
    """The folder of the latest whole run of the bundled study; made when there is none."""
    latest = ROOT / "reports" / "laptop_store" / "latest"
    if not (latest / "run.json").exists():
        command = [sys.executable, "-m", "journeykit", "run", "laptop_store", "--wait"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    return latest.resolve()
