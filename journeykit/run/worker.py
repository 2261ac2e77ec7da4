"""One chapter in a process of its own: execute it through papermill, find out what really happened, store it tidy.

papermill changes the working directory of its process, so chapters that run at the same time need processes.
Its own status is not asked: after a time-out or a dead kernel it calls every cell completed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
KEPT = ("alt", "jupyter", "tags")  # of a cell's metadata
MARKER = "papermill-error-cell-tag"  # tag of the banner that papermill adds to a failed notebook
INJECTED = "injected-parameters"
START_SECONDS = 120  # for a kernel to answer on a busy machine


@dataclass(frozen=True)
class Task:
    """What the worker is asked to do; paths are absolute."""

    notebook: str
    output: str
    parameters: dict[str, Any]
    timeout: int
    result: str  # JSON file to write the outcome to
    hide: list[tuple[str, str]]  # paths of this machine and what stands for them in what is kept


@dataclass(frozen=True)
class Outcome:
    """How a chapter ended: `reason` is "" when it passed, else a sentence; `error` is "Name: message"."""

    reason: str = ""
    error: str = ""
    traceback: str = ""


def kernel_config() -> Any:
    """Return the kernel manager's configuration: encrypted TCP, which also keeps ipykernel from warning about it."""
    from traitlets.config import Config

    return Config({"KernelManager": {"transport_encryption": "auto"}})


def part_of(output: Path) -> Path:
    """Return the name under which a notebook is written until it is whole."""
    return output.with_name(f"{output.stem}.part.ipynb")


def execute(task: Task) -> Outcome:
    """Execute a notebook, store it under its name when it is whole, and say how it ended."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    output = Path(task.output)
    part = part_of(output)
    known = Outcome()
    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                task.notebook,
                str(part),
                parameters=task.parameters,
                kernel_name="python3",
                cwd=str(Path(task.notebook).parent),
                progress_bar=False,
                log_output=False,
                start_timeout=START_SECONDS,
                execution_timeout=task.timeout,
                autosave_cell_every=10,
                shutdown_kernel="immediate",
                config=kernel_config(),
            )
        except papermill.PapermillExecutionError as error:
            known = Outcome("stopped", f"{error.ename}: {error.evalue}", "\n".join(error.traceback))
        except CellTimeoutError:
            known = Outcome(f"ran longer than {task.timeout} s", "CellTimeoutError")
        except DeadKernelError:
            known = Outcome("the kernel died (out of memory, or it was killed)", "DeadKernelError")
        except RuntimeError as error:
            if attempt == 1 and str(error).startswith("Kernel d"):  # died or did not respond at start: a port was taken
                continue
            known = Outcome("could not be executed", f"{type(error).__name__}: {error}", traceback.format_exc())
        except Exception as error:  # whatever it is, the chapter failed of it
            known = Outcome("could not be executed", f"{type(error).__name__}: {error}", traceback.format_exc())
        break
    return store(Path(task.notebook), output, known, task.hide)


def store(source: Path, output: Path, known: Outcome, hide: Iterable[tuple[str, str]]) -> Outcome:
    """Move what was executed into place, tidied, and complete what is known about its end from its cells.

    A half-written or missing file is replaced by the notebook as it was before.
    """
    import nbformat

    hide = list(hide)
    part = part_of(output)
    try:
        notebook = nbformat.read(part, as_version=4)
    except Exception:  # killed while papermill was writing, or before
        notebook = nbformat.read(source, as_version=4)
        known = known if known.reason else Outcome("was not executed")
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
    outcome = judge(notebook, known)
    tidy(notebook)
    conceal(notebook, hide)
    nbformat.write(notebook, part)
    os.replace(part, output)
    return Outcome(*(shorten(plain(text), hide) for text in (outcome.reason, outcome.error, outcome.traceback)))


def judge(notebook: Any, known: Outcome) -> Outcome:
    """Say how an executed notebook ended, from what is known and from its cells.

    It failed on any exception, on an error output, and when a code cell that is not empty was not executed.
    """
    code = [
        cell for cell in notebook.cells if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])
    ]
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                error = f"{output.ename}: {output.evalue}".rstrip(": ")
                what = "left the notebook with sys.exit()" if output.ename == "SystemExit" else error
                return Outcome(f"code cell {number}: {what}", error, "\n".join(output.traceback))
    if known.reason:
        started = [n for n, cell in enumerate(code, start=1) if cell.metadata.get("papermill", {}).get("start_time")]
        where = f"code cell {started[-1]}: " if started else ""
        detail = f": {known.error}" if known.reason in ("stopped", "could not be executed") else ""
        return Outcome(f"{where}{known.reason}{detail}", known.error, known.traceback)
    for number, cell in enumerate(code, start=1):
        if cell.source.strip() and cell.execution_count is None:
            return Outcome(f"stopped before code cell {number}", "not all cells were executed")
    return Outcome()


def tidy(notebook: Any) -> None:
    """Remove from a notebook what differs between machines and runs: papermill's notes, timings, versions."""
    notebook.cells = [cell for cell in notebook.cells if MARKER not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in sorted(cell.metadata.items()) if key in KEPT and value}
    notebook.metadata = {"kernelspec": dict(KERNELSPEC), "language_info": dict(LANGUAGE)}


def conceal(notebook: Any, hide: Iterable[tuple[str, str]]) -> None:
    """Replace paths of this machine in the injected parameters and in all outputs that are text."""
    hide = list(hide)
    for cell in notebook.cells:
        if INJECTED in cell.metadata.get("tags", []):
            cell.source = shorten(cell.source, hide)
        for output in cell.get("outputs", []):
            for key in ("text", "ename", "evalue", "traceback", "data"):
                if key in output:
                    output[key] = _concealed(output[key], hide)


def _concealed(value: Any, hide: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        return shorten(value, hide)
    if isinstance(value, dict):  # base64 is left alone: it may hold what looks like a path
        return {
            key: item if key in ("image/png", "image/jpeg") else _concealed(item, hide) for key, item in value.items()
        }
    return [_concealed(item, hide) for item in value] if isinstance(value, list) else value


def shorten(text: str, hide: Iterable[tuple[str, str]]) -> str:
    """Replace whole leading paths by what stands for them.

    >>> shorten("in /srv/shop/data, not /network/shop", [("/srv/shop", "…")])
    'in …/data, not /network/shop'
    >>> shorten("\\x1b[32m/srv/shop/data", [("/srv/shop", "…")])
    '\\x1b[32m…/data'
    """
    text = re.sub(r"/tmp/ipykernel_\d+/\d+\.py", "cell", text)
    for path, short in hide:
        before = r"(\x1b\[[0-9;]*m|(?<![\w/.~…]))"  # a colour of the terminal ends in a letter
        text = re.sub(rf"{before}{re.escape(path)}(?![\w-])", lambda found, short=short: found[1] + short, text)  # type: ignore[misc]
    return text


def plain(text: str) -> str:
    """Remove terminal colours.

    >>> plain("\\x1b[31mred\\x1b[0m")
    'red'
    """
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def _stop_with_parent() -> None:
    """End this process, and so its kernel, when the runner is gone: the pipe it holds open is then closed."""

    def watch() -> None:
        while os.read(0, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the task of the JSON file that the one argument names."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that papermill's own clean-up ends the kernel
    _stop_with_parent()
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    task = Task(**{**given, "hide": [(path, short) for path, short in given["hide"]]})
    try:
        outcome = execute(task)
    except KeyboardInterrupt:
        sys.exit(130)
    part = Path(task.result + ".part")
    part.write_text(json.dumps(asdict(outcome), ensure_ascii=False), encoding="utf-8")
    os.replace(part, task.result)


if __name__ == "__main__":
    main()
