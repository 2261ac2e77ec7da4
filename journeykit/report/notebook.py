"""An executed notebook as the body of a page: converted by nbconvert, then cleaned and polished."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from traitlets.config import Config

from journeykit import figures
from journeykit.report import markup

TEMPLATES = Path(__file__).parent / "templates"
PRIORITY = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]
HIDDEN_TAGS = {"parameters", "injected-parameters", "remove-cell", "papermill-error-cell-tag"}


@dataclass(frozen=True)
class Body:
    """A chapter's body: its HTML, its first heading, its contents (anchor, heading), and what was not reached."""

    html: str = ""
    title: str = ""
    contents: list[tuple[str, str]] = field(default_factory=list)
    warnings_n: int = 0
    interactive_n: int = 0
    stopped: bool = False
    missed: list[str] = field(default_factory=list)


def body(path: Path, pages: dict[str, str], failed: bool = False) -> Body:
    """Convert an executed notebook.

    Whether it failed is the caller's knowledge (`run.json`): a notebook whose kernel died carries no error output.
    Of a failed one the cells after the failing cell are left out, and their headings returned as `missed`.

    Args:
        path: the executed notebook.
        pages: file name of each chapter's notebook = its page, to mend links between chapters.
        failed: the run says that this chapter failed.
    """
    notebook: Any = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if not HIDDEN_TAGS & set(cell.metadata.get("tags", []))]
    reached = _reached(cells) if failed else len(cells)
    missed = [line[3:].strip() for cell in cells[reached:] if cell.cell_type == "markdown" for line in _h2(cell.source)]
    notebook.cells = cells[:reached]
    interactive = [figure for cell in notebook.cells for figure in _set_apart(cell)]
    warnings_n = sum(
        len(output.text.strip().split("\n"))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr" and output.text.strip()
    )
    for number, (output, _) in enumerate(interactive):
        output.metadata.setdefault("image/svg+xml", {})["interactive"] = number
    html, _ = _exporter().from_notebook_node(notebook)
    soup = BeautifulSoup(html, "html.parser")
    markup.clean(soup, pages)
    title, contents = markup.headings(soup)
    markup.polish(soup, path.parent.parent)
    interactive_n = markup.embed(soup, [figures.embedded(content) for _, content in interactive])
    return Body(str(soup), title, contents, warnings_n, interactive_n, reached < len(cells), missed)


def _h2(source: str) -> list[str]:
    return [line for line in source.split("\n") if line.startswith("## ")]


def _reached(cells: list[Any]) -> int:
    """Count the cells up to and with the one that failed: the first with an error, or that was never executed."""
    for index, cell in enumerate(cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        errors = any(output.output_type == "error" for output in cell.outputs)
        if cell.execution_count is None or (errors and "raises-exception" not in cell.metadata.get("tags", [])):
            return index + 1
    return len(cells)


def _set_apart(cell: Any) -> list[tuple[Any, dict[str, Any]]]:
    """Take the interactive figures out of a cell's outputs where a drawing is beside them; return both.

    What is left is the drawing, which is shown first, on paper and where scripts do not run.
    """
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if figures.MIME not in data or not {"image/svg+xml", "image/png"} & set(data):
            continue
        content = figures.inert(data.pop(figures.MIME))
        data.pop("text/html", None)  # plotly's own, with its script
        if content is not None and "image/svg+xml" in data:
            found.append((output, content))
    return found


def _exporter() -> HTMLExporter:
    settings = Config()
    settings.HTMLExporter.template_name = "journey"
    settings.HTMLExporter.extra_template_basedirs = [str(TEMPLATES)]
    settings.HTMLExporter.exclude_input_prompt = settings.HTMLExporter.exclude_output_prompt = True
    settings.HTMLExporter.exclude_anchor_links = True
    # The list of types works only through the configuration; plotly last, so that a table or picture beside it wins.
    settings.NbConvertBase.display_data_priority = [*PRIORITY, figures.MIME]
    return HTMLExporter(config=settings)
