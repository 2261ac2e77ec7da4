"""Worker processes: start them for some chapters at a time, wait for their outcomes, and leave none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from journeykit.run.notebooks import ROOT, Notebook
from journeykit.run.worker import Outcome, Task, store

SCRATCH = ".work"  # folder inside the run for what is not kept
GRACE_SECONDS = 8  # for a worker to end its kernel before it is killed


@dataclass(frozen=True)
class Work:
    """A chapter to execute: the run's folder and all parameters."""

    chapter: Notebook
    run_dir: Path
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Result:
    name: str
    outcome: Outcome
    seconds: float


@dataclass
class _Running:
    work: Work
    task: Task
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float


def execute(
    work: Sequence[Work],
    *,
    jobs: int,
    timeout: int,
    hide: list[tuple[str, str]],
    started: Callable[[str], None],
    on: str = "",
) -> Generator[Result]:
    """Execute chapters, up to `jobs` at a time, and yield each result as it comes.

    Whatever ends the loop (also an exception or a signal) ends the workers and their kernels. `on` names the engine.
    """
    waiting, running = list(work), list[_Running]()
    together = max(1, min(jobs, len(waiting)))
    try:
        while waiting or running:
            while waiting and len(running) < together:
                chapter = waiting.pop(0)
                started(chapter.chapter.name)
                running.append(_start(chapter, timeout, hide, environment(together, on=on)))
            ended = [one for one in running if one.process.poll() is not None]
            for one in ended:
                running.remove(one)
                yield _collect(one)
            if not ended:
                time.sleep(0.05)
    finally:
        _end(running)


def _start(work: Work, timeout: int, hide: list[tuple[str, str]], env: dict[str, str]) -> _Running:
    scratch = work.run_dir / SCRATCH / work.chapter.name
    scratch.mkdir(parents=True)
    task = Task(
        notebook=str(work.chapter.path),
        output=str(work.run_dir / "notebooks" / work.chapter.path.name),
        parameters=work.parameters,
        timeout=timeout,
        result=str(scratch / "outcome.json"),
        hide=hide,
    )
    order = scratch / "task.json"
    order.write_text(json.dumps(asdict(task), ensure_ascii=False), encoding="utf-8")
    log = (scratch / "log.txt").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "journeykit.run.worker", str(order)],
        stdin=subprocess.PIPE,  # never written to: its end tells the worker that the runner is gone
        stdout=log,
        stderr=subprocess.STDOUT,
        env={"JOURNEYKIT_SPILL": str(scratch / "spill")} | env,
        start_new_session=True,  # a Ctrl-C in the terminal reaches only the runner, which then ends all
    )
    return _Running(work, task, process, log, time.monotonic())


def environment(together: int = 1, on: str = "") -> dict[str, str]:
    """Return the environment of kernels: this package importable, hashes fixed, cores and memory shared out."""
    env = dict(os.environ) | ({"JOURNEYKIT_ENGINE": on} if on else {})
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT)] + [path for path in [env.get("PYTHONPATH", "")] if path])
    env["PYTHONHASHSEED"] = "0"
    env["JUPYTER_PREFER_ENV_PATH"] = "1"  # a kernel called python3 in the user's home must not win
    env.setdefault("JOURNEYKIT_THREADS", str(max(1, (os.cpu_count() or 1) // together)))
    if together > 1 and hasattr(os, "sysconf"):  # each process would take 80 % of the memory by itself
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        env.setdefault("JOURNEYKIT_MEMORY_LIMIT", f"{int(memory * 0.7 / together / 1e6)}MB")
    return env


def _collect(one: _Running) -> Result:
    """Read a worker's outcome; a worker that ended without one says so, with the last lines that it wrote."""
    _close(one)
    seconds = time.monotonic() - one.began
    result = Path(one.task.result)
    if result.exists():
        outcome = Outcome(**json.loads(result.read_text(encoding="utf-8")))
    else:
        said = Path(one.log.name).read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(said.splitlines()[-30:])
        reason = f"its process ended with exit code {one.process.returncode}"
        known = Outcome(reason, reason, tail)
        outcome = store(Path(one.task.notebook), Path(one.task.output), known, one.task.hide)
    return Result(one.work.chapter.name, outcome, seconds)


def _end(running: list[_Running]) -> None:
    """Ask the workers to end, then kill those that do not; a killed worker's kernel ends itself within a second."""
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
    limit = time.monotonic() + GRACE_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()
        _close(one)


def _close(one: _Running) -> None:
    one.log.close()
    if one.process.stdin:
        one.process.stdin.close()
