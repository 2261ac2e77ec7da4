"""Run the chapters of a study: in order, in processes of their own, into a folder that appears when it is whole."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from journeykit import erasure, leaks, privacy
from journeykit.run import notebooks, pool, record
from journeykit.run.locks import Lock
from journeykit.run.notebooks import ROOT
from journeykit.run.plan import Plan, plan

FIRST = ("01", "02")  # one after the other, and everything needs them
LAST = ("09",)  # after all others


class Progress(Protocol):
    """What a run tells while it goes."""

    def begin(self, names: Sequence[str]) -> None: ...
    def start(self, name: str) -> None: ...
    def end(self, chapter: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """Tells nothing."""

    def begin(self, names: Sequence[str]) -> None: ...
    def start(self, name: str) -> None: ...
    def end(self, chapter: Mapping[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


class Stopped(BaseException):
    """A signal asked the run to stop; kernels are ended, the lock is free, `latest` is where it was."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(frozen=True)
class RunResult:
    """How a run ended: its folder, "passed" or "failed", its chapters as in run.json, and why `latest` did not move."""

    folder: Path
    status: str
    chapters: list[dict[str, Any]]
    latest: str  # "" when `latest` now is this run, else the reason
    alerts: dict[str, Any] = field(default_factory=dict)  # as in alerts.json

    @property
    def index(self) -> Path:
        return (self.folder if self.latest else self.folder.parent / "latest") / "index.html"


def run(
    study_folder: Path,
    *,
    only: Sequence[str] = (),
    start: str = "",
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    jobs: int = 2,
    timeout: int = 600,
    reports: Path = ROOT / "reports",
    progress: Progress | None = None,
    wait: bool = False,
    on: str = "duckdb",
) -> RunResult:
    """Run the chapters of a study and build its report.

    Args:
        study_folder: folder that holds journey.toml.
        only: chapters to run, by name ("04_funnel" or "funnel"); the others are not run.
        start: chapter to start from; those before it are not run.
        overrides: chapter → parameter → value, on top of `[chapters]` in journey.toml.
        jobs: chapters at a time.
        timeout: seconds that one cell may take.
        reports: folder of all reports.
        progress: told what happens.
        wait: wait while another run uses the study, instead of refusing.
        on: the engine of the chapters: duckdb, spark, or the master URL of a Spark cluster.

    Raises:
        JourneyError: see `plan`; or another run uses the study, or its list of people to forget cannot be read.
        Stopped: SIGTERM or SIGINT came.
    """
    progress = progress or Silent()
    planned = plan(study_folder, only=only, start=start, overrides=overrides)
    name = planned.study.name
    home = reports.resolve() / name
    with ExitStack() as stack:
        stack.enter_context(_signals())
        # The second lock covers two studies of one name in two places, whose reports share a folder.
        stack.enter_context(Lock(planned.study.derived / ".lock", f"study {name!r}", wait, progress.note))
        stack.enter_context(Lock(home / ".lock", f"reports of {name!r}", wait, progress.note))
        for left in home.glob(".*.part"):  # of runs that were killed: nobody else holds the lock
            shutil.rmtree(left, ignore_errors=True)
        for gone in erasure.purge_reports(planned.study, home, privacy.key(ROOT)):
            progress.note(f"deleted the report {gone}: it held somebody whom the list of people to forget names")
        run_id, part = record.make_folder(home)
        stack.callback(shutil.rmtree, part, ignore_errors=True)
        started = datetime.now(UTC)
        commit = record.commit()
        chapters = _execute(planned, part, run_id, jobs, timeout, progress, on)
        status = "failed" if any(chapter["status"] == "failed" for chapter in chapters) else "passed"
        facts = record.facts(planned, run_id, started, commit, on) | {
            "status": status,
            "chapters": chapters,
            "accounting": record.accounting(part / "tables" / "01_ingest__files.csv"),
        }
        record.write_json(part / "findings.json", {"findings": record.findings(part / "findings")})
        alerts = record.alerts(part / "tables")
        record.write_json(part / "alerts.json", alerts)
        record.write_json(part / "run.json", facts)
        broken = _build_report(part) or _leaks(planned, part, run_id)
        if broken:
            status = "failed"
            record.write_json(part / "run.json", facts | {"status": status, "reason": broken})
        folder = home / run_id
        os.rename(part, folder)
        latest = broken or _keep_latest(planned, status)
        if not latest:
            record.move_latest(home, run_id)
    return RunResult(folder, status, chapters, latest, alerts)


def _execute(
    planned: Plan, part: Path, run_id: str, jobs: int, timeout: int, progress: Progress, on: str
) -> list[dict[str, Any]]:
    """Execute the chapters in order and return them as run.json has them."""
    study = planned.study
    given = study.name if study.folder == ROOT / "data" / study.name else str(study.folder)
    hide = _hide(study.folder, part, run_id)
    todo = [chapter for chapter in planned.chapters if chapter.name not in planned.reasons]
    groups = [[chapter] for chapter in todo if chapter.name.startswith(FIRST)]
    groups.append([chapter for chapter in todo if not chapter.name.startswith(FIRST + LAST)])
    groups += [[chapter] for chapter in todo if chapter.name.startswith(LAST)]
    done: dict[str, dict[str, Any]] = {}
    for chapter in planned.chapters:
        status, reason = planned.reasons.get(chapter.name, ("not run", ""))
        done[chapter.name] = {
            "name": chapter.name,
            "title": chapter.title,
            "status": status,
            "reason": reason,
            "seconds": 0.0,
            "notebook": "",
            "error": "",
            "traceback": "",
            "parameters": {
                key: planned.overrides.get(chapter.name, {}).get(key, declared.default)
                for key, declared in chapter.parameters.items()
                if key not in notebooks.GIVEN
            },
        }
    for folder in ("notebooks", "tables", "findings"):
        (part / folder).mkdir()
    progress.begin([chapter.name for chapter in todo])
    for name in planned.reasons:
        if done[name]["status"] == "skipped":
            progress.end(done[name])
    failed = ""
    for group in groups:
        if failed:
            for chapter in group:
                done[chapter.name]["reason"] = f"{failed} failed"
                progress.end(done[chapter.name])
            continue
        work = [
            pool.Work(chapter, part, {"study": given, "run_dir": str(part)} | planned.overrides.get(chapter.name, {}))
            for chapter in group
        ]
        executing = pool.execute(work, jobs=jobs, timeout=timeout, hide=hide, started=progress.start, on=on)
        with closing(executing) as results:  # whatever happens here, no worker is left behind
            for result in results:
                entry = done[result.name]
                entry |= {"status": "failed" if result.outcome.reason else "passed"} | asdict(result.outcome)
                entry |= {"seconds": round(result.seconds, 2), "notebook": f"notebooks/{result.name}.ipynb"}
                progress.end(entry)
                if entry["status"] == "failed" and result.name.startswith(FIRST):
                    failed = result.name
    shutil.rmtree(part / pool.SCRATCH, ignore_errors=True)
    return [done[chapter.name] for chapter in planned.chapters]


def _hide(study: Path, part: Path, run_id: str) -> list[tuple[str, str]]:
    """Paths of this machine and what stands for them in what is kept, the longest first."""
    where = [(part, f"…/{part.parent.parent.name}/{part.parent.name}/{run_id}"), (ROOT, "…"), (Path.home(), "~")]
    where += [(study, f"…/{study.name}"), (notebooks.folder(), "…/notebooks"), (Path(sys.prefix), "…/.venv")]
    if study.is_relative_to(ROOT):
        where.remove((study, f"…/{study.name}"))
    named = {str(path): short for path, short in reversed(where) if len(path.parts) > 1}
    return sorted(named.items(), key=lambda item: -len(item[0]))


def _build_report(folder: Path) -> str:
    """Build the report, also of a failed run; return why that was not possible, or ""."""
    try:
        from journeykit import report

        report.build(folder)
    except Exception as error:  # whatever it is, the run is kept and says so
        return f"the report could not be built: {type(error).__name__}: {error}"
    return ""


def _leaks(planned: Plan, folder: Path, run_id: str) -> str:
    """Return which raw identifiers stand in what a run leaves, or ""; what cannot be searched is not published."""
    try:
        found = leaks.scan(planned.study, folder)
    except Exception as error:
        return f"the outputs could not be searched for raw identifiers: {type(error).__name__}: {error}"
    return leaks.refusal(found, f"reports/{planned.study.name}/{run_id}") if found else ""


def _keep_latest(planned: Plan, status: str) -> str:
    """Return why `latest` stays where it is, or "" when it moves."""
    if status != "passed":
        return "a chapter failed"
    return "not all chapters were asked for" if planned.partial else ""


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `Stopped`, and let nothing interrupt the cleaning up after the first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in numbers}  # an ignored one (nohup, &) stays ignored
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
