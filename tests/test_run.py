"""The runner, on toy notebooks whose ends are known: what passes, what fails and why, what is left on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

import journeykit
from journeykit import run
from journeykit.errors import JourneyError
from journeykit.run import notebooks, worker
from journeykit.run.locks import Lock

ROOT = Path(journeykit.__file__).parent.parent
STUDY = """
[study]
title = "Toy"
question = "Does it run?"

[[sources]]
name = "log"
path = "raw/*.csv"
time = {column = "at"}
event = "event"
identifiers = {customer = "id"}

[identity]
identifiers = ["customer"]

[[stages]]
name = "Visit"
touchpoints = {Visit = "visit"}
"""
PARAMETERS = 'study: str = "toy"  # folder\nrun_dir: str = ""  # where\n'
INGEST = """from pathlib import Path
(Path(run_dir) / "tables" / "01_ingest__files.csv").write_text(
    "source,file,read_n,kept_n,duplicate_n,quarantined_n,left_out_n,late_n\\nlog,raw/a.csv,3,2,1,0,0,0\\n")"""
SUMMARY = """import json, os
from pathlib import Path
folder = Path(run_dir) / "findings"
(folder / "03_map.json").write_text(json.dumps({"findings": [{"id": "b"}, {"id": "a"}]}))
(folder / "ranking.json").write_text(json.dumps({"order": ["a", "b"]}))"""


def make_notebook(folder: Path, name: str, *cells: str, parameters: str = "") -> None:
    made = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "a-colleagues-kernel", "display_name": "x", "language": "python"}}
    )
    made.cells = [nbformat.v4.new_markdown_cell(f"# What does {name} say?")]
    made.cells.append(nbformat.v4.new_code_cell(PARAMETERS + parameters, metadata={"tags": ["parameters"]}))
    made.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    folder.mkdir(exist_ok=True)
    nbformat.write(made, folder / f"{name}.ipynb")


class Toy:
    """A study, a folder of notebooks and a folder of reports under a temporary path."""

    def __init__(self, folder: Path) -> None:
        self.notebooks, self.study, self.reports = folder / "notebooks", folder / "toy", folder / "reports"
        (self.study / "raw").mkdir(parents=True)
        (self.study / "raw" / "a.csv").write_text("at,event,id\n2025-01-01,visit,1\n")
        (self.study / "journey.toml").write_text(STUDY)

    def add(self, name: str, *cells: str, parameters: str = "") -> None:
        make_notebook(self.notebooks, name, *cells, parameters=parameters)

    def run(self, **options: Any) -> run.RunResult:
        return run.run(self.study, reports=self.reports, **options)

    def start(self, *arguments: str, command: str = "run") -> subprocess.Popen[str]:
        where = ["--reports", str(self.reports)] if command == "run" else []
        return subprocess.Popen(
            [sys.executable, "-m", "journeykit", command, str(self.study), *where, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JOURNEYKIT_NOTEBOOKS": str(self.notebooks)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str, command: str = "run") -> tuple[int, str, str]:
        process = self.start(*arguments, command=command)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    def runs(self) -> list[Path]:
        return sorted(path for path in (self.reports / "toy").iterdir() if path.name[0] == "2")

    def left(self) -> list[str]:
        return [path.name for path in (self.reports / "toy").iterdir() if path.name.endswith((".part", ".new"))]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy(tmp_path)
    monkeypatch.setenv("JOURNEYKIT_NOTEBOOKS", str(made.notebooks))
    return made


@pytest.fixture(autouse=True)
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has its own tests; here its place is taken by a page that only says that it was built."""
    from journeykit import report

    monkeypatch.setattr(report, "build", lambda folder: (folder / "index.html").write_text("built"), raising=False)


def test_the_engine_is_handed_on_and_noted(toy: Toy) -> None:
    pytest.importorskip("pyspark")
    toy.add("01_ingest", "import os; print('on', os.environ['JOURNEYKIT_ENGINE'])")
    result = toy.run(on="local[1]")
    facts = json.loads((result.folder / "run.json").read_text())
    assert facts["engine"].startswith("spark 4.")
    assert facts["engine"].endswith("(local[1])")
    assert facts["asked"]["flags"] == ["--engine", "local[1]"]
    assert "on local[1]" in (result.folder / "notebooks" / "01_ingest.ipynb").read_text()


def by_name(result: run.RunResult) -> dict[str, dict[str, Any]]:
    return {chapter["name"]: chapter for chapter in result.chapters}


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_passed_run_leaves_a_whole_folder_and_moves_latest(toy: Toy) -> None:
    toy.add("01_ingest", INGEST)
    toy.add(
        "03_map",
        "print(within, type(limit).__name__, study)\nimport journeykit",
        parameters='within: str = "7d"  # x\nlimit: int = 3  # y\n',
    )
    toy.add("06_attribution", "raise SystemError('never run: the study has no channels')")
    toy.add("09_summary", SUMMARY)
    result = toy.run(overrides={"map": {"limit": "1_000"}})
    assert result.status == "passed"
    assert result.latest == ""
    assert [c["status"] for c in result.chapters] == ["passed", "passed", "skipped", "passed"]
    assert "marketing_channel" in by_name(result)["06_attribution"]["reason"]
    assert result.index == toy.reports / "toy" / "latest" / "index.html"
    assert result.index.read_text() == "built"
    assert os.readlink(toy.reports / "toy" / "latest") == result.folder.name
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "alerts.json",
        "findings",
        "findings.json",
        "index.html",
        "notebooks",
        "run.json",
        "tables",
    ]
    assert toy.left() == []
    assert not list(toy.notebooks.glob("*.part*"))

    facts = json.loads((result.folder / "run.json").read_text())
    expected = (
        "study title question scope run started_at finished_at seconds status version commit python engine config_hash "
        "as_of currency timezone overrides chapters accounting asked"
    )
    assert set(expected.split()) == set(facts)
    assert facts["run"] == result.folder.name
    assert facts["status"] == "passed"
    assert facts["title"] == "Toy"
    assert facts["overrides"] == {"03_map": {"limit": 1000}}
    assert facts["accounting"][0] == {
        "source": "log", "file": "raw/a.csv", "read_n": 3, "kept_n": 2,
        "duplicate_n": 1, "quarantined_n": 0, "left_out_n": 0, "late_n": 0,
    }  # fmt: skip
    chapter = facts["chapters"][1]
    assert set(chapter) == {
        "name",
        "title",
        "status",
        "reason",
        "seconds",
        "notebook",
        "error",
        "traceback",
        "parameters",
    }
    assert chapter["title"] == "What does 03_map say?"
    assert chapter["notebook"] == "notebooks/03_map.ipynb"
    assert chapter["parameters"] == {"within": "7d", "limit": 1000}
    assert chapter["seconds"] > 0
    assert json.loads((result.folder / "findings.json").read_text())["findings"] == [{"id": "a"}, {"id": "b"}]

    stored = (result.folder / "notebooks" / "03_map.ipynb").read_text()
    assert "7d int …/toy" in stored, "the override has its declared type; the study's path is not shown"
    assert str(toy.study.parent) not in stored
    assert str(ROOT) not in stored
    assert "papermill" not in stored
    assert json.loads(stored)["metadata"]["kernelspec"]["name"] == "python3"


FAILURES = {
    "03_exception": ("1 / 0", "code cell 2: ZeroDivisionError: division by zero"),
    "04_exit": ("import sys\nsys.exit(0)", "code cell 2: left the notebook with sys.exit()"),
    "05_killed": (
        "import os\nos.kill(os.getpid(), 9)",
        "code cell 2: the kernel died (out of memory, or it was killed)",
    ),
    "07_slow": ("import time\ntime.sleep(60)", "code cell 2: ran longer than 3 s"),
}


def test_failures_have_their_reasons_and_do_not_stop_the_others(toy: Toy) -> None:
    toy.add("01_ingest", "1")
    for name, (cell, _) in FAILURES.items():
        toy.add(name, cell, "print('after')")
    toy.add("09_summary", "print('the summary still runs')")
    toy.reports.joinpath("toy").mkdir(parents=True)
    os.symlink("the-last-good-run", toy.reports / "toy" / "latest")
    # Churn is left out of a study without [churn], so the slow one needs it to be declared.
    (toy.study / "journey.toml").write_text(STUDY + '[churn]\nstart = "a"\nend = "b"\n')
    result = toy.run(timeout=3)
    chapters = by_name(result)
    assert {name: chapters[name]["reason"] for name in FAILURES} == {
        name: reason for name, (_, reason) in FAILURES.items()
    }
    assert {chapters[name]["status"] for name in FAILURES} == {"failed"}
    assert chapters["09_summary"]["status"] == "passed"
    assert "ZeroDivisionError" in chapters["03_exception"]["traceback"]
    assert "\x1b" not in chapters["03_exception"]["traceback"]
    assert result.status == "failed"
    assert result.latest == "a chapter failed"
    assert os.readlink(toy.reports / "toy" / "latest") == "the-last-good-run"
    assert (result.folder / "index.html").exists(), "a failed run has a report too"
    for name in FAILURES:
        stored = nbformat.read(result.folder / "notebooks" / f"{name}.ipynb", as_version=4)
        assert stored.cells[0].source.startswith("# "), "papermill's banner is gone"
        assert stored.cells[-1].execution_count is None, "what did not run does not look as if it had"


def test_nothing_runs_after_a_failed_ingest_and_a_broken_report_is_a_failure(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from journeykit import report

    toy.add("01_ingest", "raise ValueError('no such column')")
    toy.add("03_map", "1")
    toy.add("09_summary", "1")
    chapters = by_name(toy.run())
    assert {name: (c["status"], c["reason"]) for name, c in chapters.items() if name != "01_ingest"} == {
        "03_map": ("not run", "01_ingest failed"),
        "09_summary": ("not run", "01_ingest failed"),
    }

    def broken(folder: Path) -> None:
        raise OSError("disk full")

    toy.add("01_ingest", "1")
    monkeypatch.setattr(report, "build", broken)
    result = toy.run(only=["01"])
    assert result.status == "failed"
    assert "disk full" in result.latest
    assert json.loads((result.folder / "run.json").read_text())["status"] == "failed"


def test_partial_run_and_one_that_leaves_before_it_begins(toy: Toy) -> None:
    for name in ("01_ingest", "03_map", "04_paths"):
        toy.add(name, "1", parameters='within: str = "7d"  # x\n')
    result = toy.run(only=["map"])
    assert [(c["status"], c["reason"]) for c in result.chapters] == [
        ("not run", "not asked for"),
        ("passed", ""),
        ("not run", "not asked for"),
    ]
    assert result.status == "passed"
    assert result.latest == "not all chapters were asked for"
    assert not (toy.reports / "toy" / "latest").exists()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"only": ["mpa"]}, "there is no chapter 'mpa'. Did you mean 'map'?"),
        ({"start": "10_x"}, "--from: there is no chapter"),
        ({"only": ["01"], "start": "03"}, "leave no chapter"),
        (
            {"overrides": {"map": {"witin": "1d"}}},
            "03_map has no parameter 'witin'. Did you mean 'within'? It has: within.",
        ),
        ({"overrides": {"map": {"study": "x"}}}, "the runner sets 'study'"),
        ({"overrides": {"nap": {"within": "x"}}}, "Did you mean 'map'?"),
    ]
    for options, message in wrong:
        with pytest.raises(JourneyError) as raised:
            toy.run(**options)
        assert message in str(raised.value)
    (toy.study / "journey.toml").write_text(STUDY + "[chapters.map]\nwithin = true\n")
    with pytest.raises(JourneyError, match=r"chapters in journey.toml: map.within: found True. Allowed: text"):
        toy.run()
    (toy.study / "journey.toml").write_text(STUDY.replace("*.csv", "*.txt"))
    with pytest.raises(JourneyError, match="matches no file"):
        toy.run()
    assert len(toy.runs()) == 1, "nothing was begun"


def test_a_second_run_refuses_and_a_killed_one_leaves_nothing_in_the_way(toy: Toy) -> None:
    toy.add(
        "01_ingest",
        f"import os\nopen({str(toy.study / 'pid')!r}, 'w').write(str(os.getpid()))",
        "import time\ntime.sleep(600)",
    )
    first = toy.start()
    pid = toy.study / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    code, _, err = toy.call()
    assert code == 2
    assert f"in use by process {first.pid}" in err
    assert "Traceback" not in err
    first.kill()
    first.wait()
    wait_for(lambda: not alive(int(pid.read_text())), 15)  # the kernel ends although nobody could tell it
    assert toy.left(), "a kill leaves the unfinished folder"
    toy.add("01_ingest", "1")
    code, out, _ = toy.call("--wait")
    assert code == 0
    assert "01_ingest passed" in out
    assert str(toy.reports / "toy" / "latest" / "index.html") in out
    assert toy.left() == [], "the next run removes it"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_kernels_and_leave_latest(toy: Toy, number: signal.Signals, expected: int) -> None:
    toy.add(
        "01_ingest", f"import os\nopen({str(toy.study / 'pid')!r}, 'w').write(str(os.getpid()))", "while True: pass"
    )
    (toy.reports / "toy").mkdir(parents=True)
    os.symlink("the-last-good-run", toy.reports / "toy" / "latest")
    process = toy.start()
    pid = toy.study / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == expected
    assert "Traceback" not in err
    wait_for(lambda: not alive(int(pid.read_text())), 5)
    assert toy.runs() == []
    assert toy.left() == []
    assert os.readlink(toy.reports / "toy" / "latest") == "the-last-good-run"
    with Lock(toy.study / "derived" / ".lock", "study"):
        pass


def test_exit_codes_and_lines(toy: Toy) -> None:
    toy.add("01_ingest", "1 / n", parameters="n: int = 1  # divisor\n")
    code, out, _ = toy.call("--set", "ingest.n=0")
    assert code == 1
    assert "01_ingest failed" in out
    assert "code cell 2: ZeroDivisionError" in out
    assert "latest was not moved: a chapter failed" in out
    code, _, err = toy.call("--set", "ingest.n=zero")
    assert code == 2
    assert "--set ingest.n: found 'zero'. Allowed: a whole number." in err
    assert "Traceback" not in err


def test_lock_waits_for_its_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"from pathlib import Path; import time; from journeykit.run.locks import Lock\n"
         f"with Lock(Path({str(path)!r}), 'x'): print('held', flush=True); time.sleep(1.5)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(JourneyError, match=rf"x is in use by process {holder.pid}\."):
        Lock(path, "x").__enter__()
    told: list[str] = []
    with Lock(path, "x", wait=True, tell=told.append):
        assert told == [f"waiting for process {holder.pid}, which is using x"]
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.read_text() == ""
    assert holder.wait() == 0


def test_latest_is_a_page_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit.run import record

    def refuse(*_: object, **__: object) -> None:
        raise OSError("privilege not held")

    monkeypatch.setattr(os, "symlink", refuse)
    record.move_latest(tmp_path, "run-1")
    record.move_latest(tmp_path, "run-2")
    assert "url=../run-2/index.html" in (tmp_path / "latest" / "index.html").read_text()
    monkeypatch.undo()
    record.move_latest(tmp_path, "run-3")
    assert os.readlink(tmp_path / "latest") == "run-3"


def test_run_names_are_unique(tmp_path: Path) -> None:
    from journeykit.run import record

    names = []
    for _ in range(3):
        run_id, part = record.make_folder(tmp_path)
        os.rename(part, tmp_path / run_id)
        names.append(run_id)
    assert len(set(names)) == 3
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("7", "int", 7), (7.0, "int", 7), ("0.5", "float", 0.5), (1, "float", 1.0), ("TRUE", "bool", True),
        (False, "bool", False), (14, "str", "14"), ("", "str", ""),
    ],
)  # fmt: skip
def test_coerce(value: object, kind: str, expected: object) -> None:
    found = notebooks.coerce(value, kind, "x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7.5, "int"),
        (True, "int"),
        ("1e3", "int"),
        ("nan", "float"),
        (float("inf"), "int"),
        (True, "float"),
        (1, "bool"),
        ("", "bool"),
        (True, "str"),
    ],
)
def test_coerce_refuses_rather_than_guesses(value: object, kind: str) -> None:
    with pytest.raises(JourneyError, match=r"x: found .* Allowed: "):
        notebooks.coerce(value, kind, "x")


@pytest.mark.parametrize(
    "line", ["x = 1", "x: list[str] = []", "x: int = 1 + n", "x: int", "print(1)", "x: str | None = None", "("]
)
def test_parameters_are_plain_annotated_assignments(line: str) -> None:
    with pytest.raises(JourneyError, match="parameters cell"):
        notebooks.declared(line, "04_funnel")


def test_a_notebook_without_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JourneyError, match="no chapter found"):
        notebooks.discover(tmp_path)
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("n: int = 1", metadata={"tags": ["parameters"]})])
    nbformat.write(made, tmp_path / "04_funnel.ipynb")
    with pytest.raises(JourneyError, match="04_funnel: its parameters cell does not declare study and run_dir"):
        notebooks.discover(tmp_path)
    (tmp_path / "04_funnel.ipynb").write_text("{")
    with pytest.raises(JourneyError, match=r"04_funnel\.ipynb: not a readable notebook"):
        notebooks.discover(tmp_path)


def test_a_half_written_notebook_is_replaced_by_its_source(tmp_path: Path) -> None:
    make_notebook(tmp_path, "04_funnel", "1")
    output = tmp_path / "out" / "04_funnel.ipynb"
    output.parent.mkdir()
    worker.part_of(output).write_text('{"cells": [')
    outcome = worker.store(
        tmp_path / "04_funnel.ipynb", output, worker.Outcome("its process ended with exit code -9"), []
    )
    assert outcome.reason == "its process ended with exit code -9"
    assert nbformat.read(output, as_version=4).cells[2].source == "1"
    assert not worker.part_of(output).exists()


def test_conceal_leaves_pictures_alone() -> None:
    output = nbformat.v4.new_output(
        "display_data", {"image/png": "ab/root/cd", "text/html": "<p>/root/cd and /rooted</p>"}
    )
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    worker.conceal(made, [("/root", "~")])
    assert made.cells[0].outputs[0].data == {"image/png": "ab/root/cd", "text/html": "<p>~/cd and /rooted</p>"}
