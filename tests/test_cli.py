"""The command line: what each command says, and its exit code."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from journeykit import cli
from journeykit.run import progress
from journeykit.run.refresh import ChapterFailed, normalised
from tests.test_run import STUDY, Toy, make_notebook

ENDED = {"name": "04_funnel", "status": "failed", "seconds": 3.21, "reason": "code cell 2: [red]x\nmore"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy(tmp_path)
    monkeypatch.setenv("JOURNEYKIT_NOTEBOOKS", str(made.notebooks))
    return made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def test_check_says_what_will_happen(toy: Toy) -> None:
    toy.add("01_ingest", "1")
    toy.add("04_funnel", "1")
    toy.add("05_paths", "1", parameters="limit: int = 3  # x\n")
    result = call("check", str(toy.study), "--set", "paths.limit=9")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "toy: Toy",
        "sources",
        "  log: 1 file (raw/a.csv)",
        "chapters",
        "  01_ingest will run",
        "  04_funnel will be skipped: journey.toml has no [funnels.<name>]. Add one with its steps.",
        "  05_paths will run with limit = 9",
    ]
    assert not (toy.study / "derived").exists(), "a check writes nothing"


def test_check_is_quick(toy: Toy) -> None:
    """It is what one runs after each edit; the limit leaves room for a busy machine."""
    toy.add("01_ingest", "1")
    times = []
    for _ in range(2):
        began = time.monotonic()
        assert toy.call(command="check")[0] == 0
        times.append(time.monotonic() - began)
    assert min(times) < 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "no_such_study"], "no journey.toml in no_such_study/"),
        (["check", "no_such_study"], "Studies in data/:"),
        (["run", "laptop_store", "--engine", "sparc"], "engine 'sparc': not known. Did you mean 'spark'?"),
        (["run", "no_such_study", "--set", "funnel"], "--set: found 'funnel'. Write chapter.parameter=value"),
        (["check", "x", "--set", "within=3"], "Write chapter.parameter=value"),
        (["run", "x", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["simulate", "--people", "many", "--out", "x"], "Invalid value for '--people'"),
        (["simulate", "--people", "10"], "Missing option '--out'"),
        (["refresh", "no_such_notebook"], "refresh: there is no chapter 'no_such_notebook'"),
        (["ruun"], "No such command 'ruun'"),
    ],
)
def test_wrong_input_is_exit_code_2_with_a_message(toy: Toy, arguments: list[str], message: str) -> None:
    toy.add("01_ingest", "1")
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_all_problems_of_a_study_are_said_at_once(toy: Toy) -> None:
    toy.add("01_ingest", "1")
    (toy.study / "journey.toml").write_text(STUDY.replace("title", "titel").replace("currency", "x"))
    result = call("check", str(toy.study))
    assert result.exit_code == 2
    assert "Did you mean 'title'?" in result.output
    assert "study.title: missing" in result.output
    (toy.study / "journey.toml").write_text(STUDY + "[chapters.ingest]\nlimit = 3\n[chapters.fnuel]\nx = 1\n")
    result = call("check", str(toy.study))
    assert result.exit_code == 2
    assert "01_ingest has no parameter 'limit'" in result.output
    assert "there is no chapter 'fnuel'" in result.output


def test_simulate_passes_its_options_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit import simulate

    calls: list[tuple[Path, dict[str, Any]]] = []
    monkeypatch.setattr(simulate, "simulate", lambda out, **options: calls.append((out, options)), raising=False)
    monkeypatch.chdir(tmp_path)
    result = call("simulate", "--people", "1_000_000", "--out", "big")
    assert result.exit_code == 0
    assert "run ./big" in result.output
    call("simulate", "--people", "10", "--out", "data/small", "--seed", "7")
    assert calls == [
        (Path("big"), {"people": 1_000_000}),
        (Path("data/small"), {"people": 10, "seed": 7}),
    ]


def test_help_needs_no_heavy_library() -> None:
    import subprocess

    heavy = ("pandas", "duckdb", "papermill")
    code = f"import sys; from journeykit import cli; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(cli.__file__).parents[1]
    )
    assert found.stdout.strip() == "[]"
    assert all(name in call("--help").output for name in ("run", "check", "simulate", "refresh"))


def test_a_line_is_one_line() -> None:
    assert progress.line(ENDED) == "04_funnel failed 3.2 s: code cell 2: [red]x"
    assert progress.line({**ENDED, "status": "passed", "reason": ""}) == "04_funnel passed 3.2 s"


def test_the_bar_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Bar() as bar:
        bar.begin(["04_funnel"])
        bar.start("04_funnel")
        bar.end(ENDED)
        bar.note("waiting for process 1 [bold]")
    out = capsys.readouterr().out
    assert "04_funnel failed 3.2 s: code cell 2: [red]x" in out
    assert "process 1 [bold]" in out


def test_refresh_is_deterministic_and_writes_only_changes(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from journeykit.run import refresh

    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    toy.add("01_ingest", "", "import os\nprint(os.path.basename(os.getcwd()))", "1 + 1")
    path = toy.notebooks / "01_ingest.ipynb"
    told: list[str] = []
    assert refresh.refresh(tell=told.append) == [path]
    first = path.read_bytes()
    assert refresh.refresh(["notebooks/01_ingest.ipynb"], tell=told.append) == []
    assert path.read_bytes() == first
    assert told == ["01_ingest changed", "01_ingest unchanged"]
    text = first.decode()
    assert '"notebooks\\n"' in text
    assert '"execution_count": 3' in text
    assert text.endswith("}\n")
    assert "a-colleagues-kernel" not in text
    assert "execution" + "-timing" not in text

    make_notebook(toy.notebooks, "02_stitch", "1 / 0")
    before = (toy.notebooks / "02_stitch.ipynb").read_bytes()
    result = call("refresh", "stitch")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.output
    assert "Traceback" not in result.output.splitlines()[0]
    assert (toy.notebooks / "02_stitch.ipynb").read_bytes() == before


def test_refresh_refuses_stderr(tmp_path: Path) -> None:
    import nbformat

    output = nbformat.v4.new_output("stream", name="stderr", text="a warning from /some/place")
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])
    with pytest.raises(ChapterFailed, match="04_funnel: cell 1 must not write to stderr"):
        normalised(made, "04_funnel")
