"""The chapters on other inputs: other parameters, a hostile study, and a notebook run by plain papermill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent

HOSTILE = """
[study]
title = "One visitor"

[[sources]]
name = "web"
path = "raw/*.csv"
time = { column = "at" }
event = "event"
channel = { constant = "web" }
marketing_channel = "from"
identifiers = { user = "who" }
value = "value"
segments = { experiment = "test", variant = "arm" }

[identity]
identifiers = ["user"]

[journeys]
conversion = "buy"

[[stages]]
name = "Visit"
owner = "Web team"
touchpoints = { Page = "page" }

[[stages]]
name = "Buy"
owner = "Shop"
touchpoints = { Order = "buy" }

[funnels.buy]
steps = ["page", "buy"]
within = "7d"

[plans.buy]
steps = ["Visit", "Buy"]

[attribution]

[churn]
start = "page"
end = "leave"
covariates = [{ name = "bought", events = "buy" }]

[[experiments]]
name = "t"
hypothesis = "nothing happens"
exposure = "page"
arms = { control = 0.5, treatment = 0.5 }
control = "control"
metrics = [{ name = "buys", event = "buy" }]
"""

HEADER = "at,event,from,who,value,test,arm\n"
STUDIES = {
    "nothing at all": {
        "header.csv": HEADER,
        "empty.csv": "",
    },
    "one person": {
        "log.csv": HEADER + "2025-01-01,page,ad,u1,,t,control\n2025-01-02,page,ad,u1,,t,control\n",
    },
    "odd text": {
        "log.csv": HEADER
        + '2025-01-01,page,"<img src=x onerror=alert(1)>",u1,,t,"a|b"\n2025-01-02,"🛒 *x*",ad,u1,,,\n',
    },
}


def journeykit(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "journeykit", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
        env={**os.environ, **environment},
    )


def run_of(reports: Path, study: str) -> tuple[Path, dict[str, Any]]:
    folder = max(path for path in (reports / study).iterdir() if path.is_dir() and path.name[0] == "2")
    return folder, json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("name", list(STUDIES))
def test_a_hostile_study_ends_with_sentences_and_not_with_tracebacks(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    (folder / "raw").mkdir(parents=True)
    (folder / "journey.toml").write_text(HOSTILE)
    for file, text in STUDIES[name].items():
        (folder / "raw" / file).write_text(text)
    done = journeykit("run", str(folder), "--reports", str(tmp_path / "reports"))
    assert done.returncode == 0, done.stdout + done.stderr
    made, run = run_of(tmp_path / "reports", "hostile")
    assert {chapter["status"] for chapter in run["chapters"]} == {"passed"}
    pages = {path.stem: path.read_text() for path in made.glob("[0-9]*.html")}
    assert len(pages) == 9
    assert "ot enough data" in pages["07_churn"]
    assert all(">nan<" not in page and "<img src=x" not in page for page in pages.values())


def test_parameters_of_a_run_change_its_numbers(laptop_store: Path, tmp_path: Path) -> None:
    # The window is a minute: far fewer people can take all five steps in it.
    asked = ["--only", "04_funnel", "--set", "funnel.within=1m", "--reports", str(tmp_path)]
    done = journeykit("run", "laptop_store", "--only", "01_ingest", "--only", "02_stitch", *asked, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    made, run = run_of(tmp_path, "laptop_store")
    assert run["overrides"] == {"04_funnel": {"within": "1m"}}
    short = pd.read_csv(made / "tables" / "04_funnel__funnel.csv")
    long = pd.read_csv(laptop_store / "tables" / "04_funnel__funnel.csv")
    assert (short["n"] + short["open_n"]).iloc[0] == (long["n"] + long["open_n"]).iloc[0]
    assert short["n"].iloc[-1] < 0.2 * long["n"].iloc[-1]


def test_an_unknown_parameter_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    done = journeykit("run", "laptop_store", "--set", "funnel.widthin=1m", "--reports", str(tmp_path))
    assert done.returncode == 2
    assert "within" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_notebook_runs_by_plain_papermill(laptop_store: Path, tmp_path: Path) -> None:
    asked = ["-p", "study", "laptop_store", "-p", "run_dir", str(tmp_path), "--no-progress-bar"]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "04_funnel.ipynb", str(tmp_path / "out.ipynb"), *asked],
        capture_output=True,
        text=True,
        cwd=ROOT / "notebooks",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "unknown parameter" not in done.stderr
    assert (tmp_path / "findings" / "04_funnel.json").exists()
