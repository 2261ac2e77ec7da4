"""`--fail-on-alert` and alerts.json: what a chapter leaves as a table of alerts becomes a file and an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from journeykit import run
from journeykit.run import record
from tests.test_run import Toy

HEADER = "kpi,rule,period_at,observed,p_value,direction,reason"
ONE = "Orders,day,2025-12-31,4,0.0001,worse,51% below"
ALERT = f"""from pathlib import Path
(Path(run_dir) / "tables" / "09_summary__alerts.csv").write_text("{HEADER}\\n{ONE}\\n")"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy(tmp_path)
    monkeypatch.setenv("JOURNEYKIT_NOTEBOOKS", str(made.notebooks))
    return made


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit import report

    monkeypatch.setattr(report, "build", lambda folder: (folder / "index.html").write_text("built"), raising=False)


def call(toy: Toy, *arguments: str) -> Any:
    from click.testing import CliRunner

    from journeykit import cli

    return CliRunner().invoke(cli.main, ["run", str(toy.study), "--reports", str(toy.reports), *arguments])


def written(toy: Toy) -> dict[str, Any]:
    return json.loads((toy.runs()[-1] / "alerts.json").read_text(encoding="utf-8"))


def test_an_alert_is_written_and_ends_the_run_with_3_when_that_is_asked_for(toy: Toy) -> None:
    toy.add("09_summary", ALERT)
    asked = call(toy, "--fail-on-alert")
    assert asked.exit_code == 3, asked.output
    assert "alerts: 1, see alerts.json" in asked.output
    assert "Orders (day): 51% below" in asked.output
    expected = dict(
        zip(HEADER.split(","), ["Orders", "day", "2025-12-31", 4.0, 0.0001, "worse", "51% below"], strict=True)
    )
    assert written(toy) == {"watched": True, "alerts": [{"chapter": "09_summary", **expected}]}
    assert (toy.reports / "toy" / "latest" / "alerts.json").exists(), "a report with alerts is a good report"
    assert not list((toy.reports / "toy" / "latest").glob("*.part"))


@pytest.mark.parametrize(
    ("status", "alerts", "option", "code", "said"),
    [
        ("passed", [{"kpi": "Orders", "rule": "day", "reason": "51% below"}], True, 3, "Orders (day): 51% below"),
        ("passed", [{"kpi": "Orders", "rule": "day", "reason": None}], True, 3, "Orders (day): unusual"),
        ("passed", [{"kpi": "Orders", "rule": "day", "reason": "51% below"}], False, 0, "alerts: 1, see alerts.json"),
        ("passed", [], True, 0, ""),
        ("failed", [{"kpi": "Orders", "rule": "day", "reason": "x"}], True, 1, "alerts: 1"),
        ("passed", None, True, 0, "nothing was watched in this run"),
        ("passed", None, False, 0, ""),
    ],
)
def test_the_exit_code_is_3_only_when_asked_and_nothing_failed(
    toy: Toy,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    alerts: list[dict[str, Any]] | None,
    option: bool,
    code: int,
    said: str,
) -> None:
    chapter = {"name": "09_summary", "status": status, "reason": "", "error": "ZeroDivisionError"}
    found = {"watched": alerts is not None, "alerts": alerts or []}
    ended = run.RunResult(toy.reports / "toy" / "x", status, [chapter], "", found)
    monkeypatch.setattr(run, "run", lambda folder, **options: ended)
    result = call(toy, *(["--fail-on-alert"] if option else []))
    assert result.exit_code == code, result.output
    assert said in result.output
    assert ("alerts:" in result.output) == bool(alerts)


def test_numbers_are_numbers_and_what_is_empty_or_endless_is_null(tmp_path: Path) -> None:
    (tmp_path / "08_experiment__alerts.csv").write_text(f"{HEADER}\nshop,freshness,,2.5,,,\n")
    (tmp_path / "09_summary__alerts.csv").write_text(f'{HEADER}\nOrders,week,2025-12-22,inf,nan,better,"a, b"\n')
    (tmp_path / "09_summary__not_alerts.txt").write_text("x")
    found = record.alerts(tmp_path)["alerts"]
    assert [row["chapter"] for row in found] == ["08_experiment", "09_summary"]
    assert found[0] | {"chapter": ""} == {
        "chapter": "",
        "kpi": "shop",
        "rule": "freshness",
        "period_at": None,
        "observed": 2.5,
        "p_value": None,
        "direction": None,
        "reason": None,
    }
    assert (found[1]["observed"], found[1]["p_value"], found[1]["reason"]) == (None, None, "a, b")
    json.dumps(found, allow_nan=False)
