"""What a run leaves: its folder under a unique name, its facts, counts and findings, and `latest`."""

from __future__ import annotations

import csv
import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from journeykit.run.notebooks import ROOT
from journeykit.run.plan import Plan


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


def facts(planned: Plan, run_id: str, started: datetime, commit: str) -> dict[str, Any]:
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
        "version": _version("journeykit"),
        "commit": commit,
        "python": platform.python_version(),
        "engine": f"duckdb {_version('duckdb')}",
        "config_hash": study.config_hash,
        "as_of": as_of,
        "currency": asked.currency,
        "timezone": asked.timezone,
        "overrides": planned.overrides,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        import journeykit

        return journeykit.__version__ if package == "journeykit" else ""


def commit() -> str:
    """Return the short hash of the commit that the template is at, or "" outside of git."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
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
