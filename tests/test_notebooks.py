"""What the committed notebooks promise and nbval does not see, and that each of these checks can fail."""

from __future__ import annotations

import ast
import configparser
import copy
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from journeykit.run import notebooks, worker

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
MAX_LINES = 12
MAX_BYTES = 1_000_000
PICTURES = ("image/png", "image/svg+xml", "image/jpeg")
MACHINE = re.compile(r"(?<![\w/.:-])(?:/(?:home|root|tmp|Users|runner|builds|work|mnt|var)/|[A-Z]:\\)[\w.-]+")
FILE = re.compile(r"^\.{0,2}/\w|\.(csv|parquet|jsonl?|toml|xlsx)$")
BANNED = {"open", "Path", "read_csv", "read_parquet", "read_json", "to_csv", "merge", "join", "group_by", "groupby"}
ALWAYS_SHOWN = ("show", "close")  # methods of a chapter that leave an output whatever the data
TYPED_VALUE = re.compile(r"(?<![\w.])(?!(?:95|100) ?%)\d[\d,.]* ?(?:%|percent|EUR|USD)")


def problems(notebook: Any, size: int = 0) -> list[str]:
    """Return what is wrong with a chapter, one line each."""
    found = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found.append(f"not valid: {error.message}")
    if size > MAX_BYTES:
        found.append(f"has {size:,} bytes, more than {MAX_BYTES:,}")
    if "papermill" in notebook.metadata or any("papermill" in cell.metadata for cell in notebook.cells):
        found.append("carries papermill's metadata; refresh it")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"execution counts are {counts}; refresh it")
    first = notebook.cells[0]
    if first.cell_type != "markdown" or not re.match(r"# .+\?(\n|$)", first.source):
        found.append("does not begin with its question as a heading of level 1")
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found += [f"does not say: {word}" for word in ("Answers:", "Needs:", "Does not say:") if f"**{word}**" not in text]
    if "does not do yet" not in text:
        found.append("does not end with its limits")
    found += [f"a value typed into text: {value!r}" for value in TYPED_VALUE.findall(text)]
    found += _parameter_problems(code)
    for number, cell in enumerate(code, start=1):
        found += [f"code cell {number}: {line}" for line in _code_problems(cell.source) + _output_problems(cell)]
    return found


def _parameter_problems(code: list[Any]) -> list[str]:
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [f"{len(tagged)} cells are tagged parameters, not one"]
    try:
        declared = notebooks.declared(tagged[0].source)
    except notebooks.JourneyError as error:
        return [str(error)]
    found = [f"parameter {name} is missing" for name in notebooks.GIVEN if name not in declared]
    found += [
        f"parameter {line.split(':')[0]} has no help"
        for line in tagged[0].source.splitlines()
        if not re.search(r"  # \w", line)
    ]
    read = {
        node.id
        for cell in code
        if cell is not tagged[0]
        for node in _walk(cell.source)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return found + [f"parameter {name} is never read" for name in declared if name not in read]


def _walk(source: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []


def _code_problems(source: str) -> list[str]:
    try:
        ast.parse(source)
    except SyntaxError:
        return ["is not plain Python"]
    found = []
    if len(source.splitlines()) > MAX_LINES:
        found.append(f"has {len(source.splitlines())} lines, more than {MAX_LINES}")
    for node in _walk(source):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            found.append("defines a function or class; move it to journeykit")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE.search(node.value):
            found.append(f"names a file: {node.value!r}")
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            on_text = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Constant)
            if name in BANNED and not on_text:
                found.append(f"calls {name}(); move it to journeykit")
    return found


def _output_problems(cell: Any) -> list[str]:
    found = []
    for output in cell.outputs:
        if output.output_type == "error" or output.get("name") == "stderr":
            found.append("has an error or a warning as output")
        for kind in PICTURES:
            if kind in output.get("data", {}) and not output.metadata.get(kind, {}).get("alt", "").strip():
                found.append("shows a picture without alt text")
        if MACHINE.search(_text(output)):
            found.append(f"shows a path of a machine: {MACHINE.search(_text(output))[0]}")  # type: ignore[index]
    if MACHINE.search(cell.source):
        found.append("holds a path of a machine")
    shows = any(
        isinstance(node, ast.Attribute) and node.attr in ALWAYS_SHOWN and getattr(node.value, "id", "") == "chapter"
        for node in _walk(cell.source)
    )
    return found + (["has no output; refresh the notebook"] if shows and not cell.outputs else [])


def _text(output: Any) -> str:
    """All text of an output; base64 is left out, because it may hold what looks like a path."""
    parts = [value for kind, value in output.get("data", {}).items() if kind not in ("image/png", "image/jpeg")]
    return "\n".join(str(part) for part in [*parts, output.get("text", ""), *output.get("traceback", [])])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_keeps_its_promises(path: Path) -> None:
    assert problems(nbformat.read(path, as_version=4), path.stat().st_size) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_parameters_are_what_papermill_sees(path: Path) -> None:
    import papermill

    seen = papermill.inspect_notebook(str(path))
    declared = notebooks.read(path).parameters
    assert {name: item["inferred_type_name"] for name, item in seen.items()} == {n: p.type for n, p in declared.items()}
    assert {name: ast.literal_eval(item["default"]) for name, item in seen.items()} == {
        name: parameter.default for name, parameter in declared.items()
    }


def test_all_nine_chapters_are_there() -> None:
    names = "01_ingest 02_stitch 03_map 04_funnel 05_paths 06_attribution 07_churn 08_experiment 09_summary"
    assert [path.stem for path in CHAPTERS] == names.split()


def good() -> Any:
    """A chapter with nothing wrong with it."""
    figure = nbformat.v4.new_output(
        "display_data", {"image/svg+xml": "<svg/>"}, metadata={"image/svg+xml": {"alt": "Bars."}}
    )
    parameters = 'study: str = "laptop_store"  # folder\nrun_dir: str = ""  # where\nwithin: str = "7d"  # time allowed'
    code = nbformat.v4.new_code_cell
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": dict(worker.KERNELSPEC)})
    notebook.cells = [
        nbformat.v4.new_markdown_cell(
            "# Where do they leave?\n\n**Answers:** a. **Needs:** b. **Does not say:** c. 95 %."
        ),
        code(parameters, metadata={"tags": ["parameters"]}, execution_count=1),
        code("chapter = open_chapter('04_funnel', study, run_dir)", execution_count=2),
        code("chapter.show(funnel(chapter.touches, within), 'funnel')", execution_count=3, outputs=[figure]),
        nbformat.v4.new_markdown_cell("## What this chapter does not do yet"),
    ]
    return notebook


def test_guard_accepts_a_good_notebook() -> None:
    assert problems(good(), 999_999) == []


SPOILS: list[tuple[str, str, Any]] = [
    ("execution counts", "3.execution_count", 7),
    ("execution counts", "3.execution_count", None),
    ("has no output", "3.outputs", []),
    ("without alt", "3.outputs.0.metadata", {}),
    ("an error or a warning", "3.outputs", [nbformat.v4.new_output("stream", name="stderr", text="careful")]),
    ("an error or a warning", "3.outputs", [nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])]),
    (
        "path of a machine: /home/ada",
        "3.outputs",
        [nbformat.v4.new_output("stream", name="stdout", text="in /home/ada/x")],
    ),
    ("question as a heading", "0.source", "# Funnel\n\n**Answers:** **Needs:** **Does not say:**"),
    ("does not say: Needs:", "0.source", "# What?\n\n**Answers:** **Does not say:**"),
    ("limits", "4.source", "## The end"),
    ("typed into text: '10.3 %'", "4.source", "does not do yet. The rate is 10.3 %."),
    ("0 cells are tagged", "1.metadata", {}),
    ("carries papermill", "1.metadata", {"tags": ["parameters"], "papermill": {}}),
    ("never read", "3.source", "chapter.show(funnel(chapter.touches), 'funnel')"),
    ("has no help", "1.source", 'study: str = ""  # x\nrun_dir: str = ""  # y\nwithin: str = "7d"'),
    ("run_dir is missing", "1.source", 'study: str = ""  # x\nwithin: str = "7d"  # y'),
    ("not allowed", "1.source", "study = ''"),
    ("more than 12", "2.source", "study, run_dir\n" * 13),
    ("defines a function", "2.source", "def f():\n    return study, run_dir"),
    ("defines a function", "2.source", "class A:\n    a = study, run_dir"),
    ("names a file", "2.source", "f(study, run_dir, '../data/raw')"),
    ("names a file", "2.source", "f(study, run_dir, 'touches.parquet')"),
    ("calls read_csv", "2.source", "pd.read_csv(study, run_dir)"),
    ("calls groupby", "2.source", "table.groupby(study, run_dir)"),
    ("not plain Python", "2.source", "%matplotlib inline"),
    ("not valid", "2.source", 3),
]


@pytest.mark.parametrize(("message", "where", "value"), SPOILS, ids=[f"{row[0]} {n}" for n, row in enumerate(SPOILS)])
def test_guard_sees_each_defect(message: str, where: str, value: Any) -> None:
    if message == "not valid":
        spoilt = good()
        spoilt.cells[2]["surplus"] = value
    else:
        spoilt = good()
        node: Any = spoilt.cells
        *steps, last = where.split(".")
        for step in steps:
            node = node[int(step)] if step.isdigit() else node[step]
        node[last] = copy.deepcopy(value)
    assert any(message in line for line in problems(spoilt)), problems(spoilt)


def test_guard_sees_a_foreign_kernel_and_a_large_file() -> None:
    spoilt = good()
    spoilt.metadata.kernelspec.name = "my-kernel"
    assert problems(spoilt, 1_000_001) == ["has 1,000,001 bytes, more than 1,000,000", "its kernel is not python3"]


def sanitise(text: str) -> str:
    """Apply the rules of nbval_sanitize.cfg as nbval does: one after the other, in the order of the file."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "nbval_sanitize.cfg", encoding="utf-8")
    for section in rules.sections():
        text = re.sub(rules.get(section, "regex"), rules.get(section, "replace"), text)
    return text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<Axes at 0x7f3a2b1c9d50>", "<Axes at 0xADDRESS>"),
        ("/home/ada/shop/notebooks/x.py", "ROOT/notebooks/x.py"),
        ("'/home/ada/kit/data/laptop_store'", "'ROOT/data/laptop_store'"),
        ("in /tmp/build-1/shop: failed", "in ROOT: failed"),
        ('<style id="T_a1b2c">', '<style id="T_ID">'),
        ("took 3.2 s", "took DURATION"),
    ],
)
def test_sanitiser_removes_what_machines_differ_in(before: str, after: str) -> None:
    assert sanitise(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "10.3 % (9.1–11.6 %), n = 1,234",
        "2025-03-30T02:15:00Z",
        "3.2 days",
        "web/home/page and https://shop.example/home/x",
        "T_shirt 0x12",
    ],
)
def test_sanitiser_leaves_results_alone(text: str) -> None:
    assert sanitise(text) == text


def test_sanitiser_is_quick_on_a_large_figure() -> None:
    figure = "<path d='" + "M 10.25 20.5 L 30.75 40.125 /home/ " * 30_000 + "'/>"
    began = time.monotonic()
    sanitise(figure)
    assert time.monotonic() - began < 2
