"""Execute the committed notebooks again on the bundled study, and store them in one fixed form.

Two refreshes of the same code give the same bytes, so that a difference in git is a difference in results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from journeykit.errors import JourneyError
from journeykit.run import notebooks, worker
from journeykit.run.locks import Lock
from journeykit.run.notebooks import ROOT
from journeykit.run.pool import environment

BUNDLED = "laptop_store"  # the study that the notebooks' defaults name


class ChapterFailed(RuntimeError):
    """A notebook could not be refreshed; it was left as it was."""


def refresh(
    names: Sequence[str] = (), *, study: str = BUNDLED, timeout: int = 600, tell: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Execute notebooks in order with their own defaults and write those whose content changed.

    Args:
        names: notebooks, by name or path; none = all.
        study: folder in data/ that the notebooks read, which is locked meanwhile.
        timeout: seconds that one cell may take.
        tell: told one line for each notebook.

    Returns:
        The notebooks that changed.

    Raises:
        JourneyError: there is no such notebook, or a run is using the study.
        ChapterFailed: a cell failed or wrote to stderr; that notebook and those after it are as they were.
    """
    chapters = notebooks.discover()
    chosen = {notebooks.find(chapters, Path(name).stem, "refresh").name for name in names}
    changed = []
    with Lock(ROOT / "data" / study / "derived" / ".lock", f"study {study!r}"):
        for chapter in chapters:
            if chosen and chapter.name not in chosen:
                continue
            before = chapter.path.read_bytes()
            after = _executed(chapter.path, timeout).encode()
            if after != before:
                part = chapter.path.with_name(chapter.path.name + ".part")
                part.write_bytes(after)
                os.replace(part, chapter.path)
                changed.append(chapter.path)
            tell(f"{chapter.name} {'changed' if after != before else 'unchanged'}")
    return changed


def _executed(path: Path, timeout: int) -> str:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        record_timing=False,
        timeout=timeout,
        startup_timeout=worker.START_SECONDS,
        shutdown_kernel="immediate",
        resources={"metadata": {"path": str(path.parent)}},
        config=worker.kernel_config(),
    )
    try:
        client.execute(env=environment())
    except CellExecutionError as error:
        raise ChapterFailed(f"{path.stem}: {worker.plain(str(error)).strip()}") from None
    except CellTimeoutError:
        raise ChapterFailed(f"{path.stem}: a cell ran longer than {timeout} s.") from None
    except DeadKernelError:
        raise ChapterFailed(f"{path.stem}: the kernel died (out of memory, or it was killed).") from None
    return normalised(notebook, path.stem)


def normalised(notebook: Any, name: str) -> str:
    """Return an executed notebook's text in the one form that is committed.

    Kept of a cell's metadata are `tags`, `alt` and `jupyter`; kernel and language are fixed; execution counts are
    1, 2, … over the cells that are not empty. Output on stderr is refused, because it differs between machines.
    """
    import nbformat

    worker.tidy(notebook)
    count = 0
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                said = output.get("text") or f"{output.get('ename')}: {output.get('evalue')}"
                raise ChapterFailed(f"{name}: cell {number} must not write to stderr or fail. Mend its cause:\n{said}")
            if "execution_count" in output:
                output.execution_count = count
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise JourneyError(
            f"{name}: not a valid notebook ({error.message}). Cells need ids: open and save it in Lab."
        ) from None
    text: str = nbformat.writes(notebook)
    return text.rstrip("\n") + "\n"
