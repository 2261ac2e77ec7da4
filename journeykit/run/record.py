"""What a run leaves: its folder under a unique name, its facts, counts and findings, and `latest`."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from journeykit import __version__, engine
from journeykit.run import notebooks
from journeykit.run.notebooks import ROOT
from journeykit.run.plan import NOT_ASKED, Plan

ALERTS = "__alerts.csv"


def make_folder(home: Path) -> tuple[str, Path]:
    """Make the run's unfinished folder and return its unique name."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    run_id, number = stamp, 1
    while (home / run_id).exists():
        number += 1
        run_id = f"{stamp}-{number}"
    part = home / f".{run_id}.part"
    part.mkdir(parents=True)
    return run_id, part


def facts(planned: Plan, run_id: str, started: datetime, commit: str, on: str = "duckdb") -> dict[str, Any]:
    """Return what run.json says about a run, but for its chapters."""
    study, asked = planned.study, planned.study.config.study
    ended = datetime.now(UTC)
    try:
        as_of = study.as_of().isoformat() + "Z"
    except Exception:  # the events could not be built, which their chapter says
        as_of = asked.as_of
    return {
        "study": study.name,
        "title": asked.title,
        "question": asked.question,
        "scope": asked.scope,
        "run": run_id,
        "started_at": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "finished_at": ended.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round((ended - started).total_seconds(), 1),
        "version": __version__,
        "commit": commit,
        "python": platform.python_version(),
        "engine": engine.describe(on),
        "config_hash": study.config_hash,
        "as_of": as_of,
        "currency": asked.currency,
        "timezone": asked.timezone,
        "overrides": planned.overrides,
        "asked": {
            "study": _given(study.folder),
            "flags": [*_flags(planned), *(["--engine", on] if engine.master(on) else [])],
        },
    }


def _given(folder: Path) -> str:
    """How to name a study on the command line: nothing of where the template or the study lies on this machine.

    >>> _given(ROOT / "data" / "laptop_store"), _given(Path("/home/somebody/mystudy"))
    ('laptop_store', '…/mystudy')
    """
    if folder == ROOT / "data" / folder.name:
        return folder.name
    if folder.is_relative_to(ROOT):
        return f"./{folder.relative_to(ROOT).as_posix()}"
    return f"…/{folder.name}"


def _flags(planned: Plan) -> list[str]:
    """The options that make a run do the same again; what journey.toml sets already is not among them."""
    names = [chapter.name for chapter in planned.chapters]
    asked = [name for name in names if planned.reasons.get(name, ("", ""))[1] != NOT_ASKED]
    flags: list[str] = []
    if len(asked) > 1 and asked == names[-len(asked) :] != names:
        flags += ["--from", asked[0]]
    elif asked != names:
        flags += [flag for name in asked for flag in ("--only", name)]
    standing = notebooks.check_overrides(planned.chapters, ("", planned.study.config.chapters))
    for name, values in sorted(planned.overrides.items()):
        for key, value in sorted(values.items()):
            if standing.get(name, {}).get(key) != value:
                flags += ["--set", f"{name}.{key}={value}"]
    return flags


def commit() -> str:
    """Return the short hash of the commit that the template is at, or "" outside of git.

    A tracked file that differs from the commit adds " + changes", since the commit alone does not repeat the run.
    """
    found = _git("rev-parse", "--short", "HEAD")
    return f"{found} + changes" if found and _git("status", "--porcelain", "--untracked-files=no") else found


def _git(*arguments: str) -> str:
    """What git prints about the template, or "" when it cannot say."""
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    try:
        answer = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def accounting(path: Path) -> list[dict[str, Any]]:
    """Read the counts of rows that 01_ingest left, with whole numbers where a column ends in `_n`."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: int(float(value or 0)) if key.endswith("_n") else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def alerts(folder: Path) -> dict[str, Any]:
    """Gather what chapters left in tables called `<chapter>__alerts.csv`, for alerts.json.

    `watched` says whether any chapter looked: no alert because nobody looked is not the same as none.

    Returns:
        `watched`, and `alerts`: one object per row, with the chapter and the columns of the table. Numbers are numbers,
        what is empty is null.
    """
    found: list[dict[str, Any]] = []
    tables = sorted(folder.glob(f"[0-9][0-9]_*{ALERTS}"))
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            chapter = path.name.removesuffix(ALERTS)
            found += [
                {"chapter": chapter} | {name: _typed(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    return {"watched": bool(tables), "alerts": found}


def _typed(value: str | None) -> float | str | None:
    """A cell as JSON has it.

    >>> _typed("0.25"), _typed("orders"), _typed(""), _typed("inf")
    (0.25, 'orders', None, None)
    """
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else None


def findings(folder: Path) -> list[dict[str, Any]]:
    """Gather the findings of all chapters, in the order that 09_summary gave them."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("[0-9][0-9]_*.json")):
        found += json.loads(path.read_text(encoding="utf-8"))["findings"]
    ranking = folder / "ranking.json"
    order = json.loads(ranking.read_text(encoding="utf-8"))["order"] if ranking.exists() else []
    place = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda row: place.get(row["id"], len(place)))


def write_json(path: Path, content: Any) -> None:
    """Write JSON beside its name first, and move it into place when it is whole."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    os.replace(part, path)


def move_latest(home: Path, run_id: str) -> None:
    """Point `latest` at a run, in one step; where links are not possible it is a page that leads there."""
    latest, new = home / "latest", home / ".latest.new"
    new.unlink(missing_ok=True)
    try:
        if latest.is_dir() and not latest.is_symlink():
            shutil.rmtree(latest)  # the page of a system without links
        os.symlink(run_id, new, target_is_directory=True)
        os.replace(new, latest)
    except OSError:
        latest.mkdir(exist_ok=True)
        page = (
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=../{run_id}/index.html">'
        )
        part = latest / "index.html.part"
        part.write_text(f'{page}<a href="../{run_id}/index.html">The latest report</a>\n', encoding="utf-8")
        os.replace(part, latest / "index.html")
