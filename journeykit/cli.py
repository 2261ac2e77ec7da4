"""The command line: `run`, `new`, `check`, `simulate`, `refresh`.

Exit codes: 0 done, 1 a chapter failed, 2 configuration or input is wrong, 3 all passed but there are alerts (only with
`--fail-on-alert`), 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from journeykit import __version__
from journeykit.errors import JourneyError


def _says_what_is_wrong(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors that the user can mend into a message on stderr and exit code 2, without a traceback."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except JourneyError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="journeykit")
def main() -> None:
    """Customer journey analytics: raw exports in, a report out.

    A STUDY is the name of a folder in data/, or a path to a folder that holds journey.toml.
    """


@main.command()
@click.argument("study")
@click.option(
    "--only", multiple=True, metavar="CHAPTER", help="Run only this chapter (04_funnel or funnel); repeatable."
)
@click.option("--from", "start", default="", metavar="CHAPTER", help="Start from this chapter, on what is in derived/.")
@click.option("--set", "settings", multiple=True, metavar="CHAPTER.KEY=VALUE", help="Set a parameter; repeatable.")
@click.option("--jobs", type=click.IntRange(1), help="Chapters at a time; without it up to 4, and on a cluster 1.")
@click.option("--timeout", type=click.IntRange(1), default=600, show_default=True, help="Seconds for one cell.")
@click.option("--reports", type=click.Path(file_okay=False, path_type=Path), help="Folder of all reports.")
@click.option("--wait", is_flag=True, help="Wait while another run uses the study, instead of refusing.")
@click.option("--fail-on-alert", is_flag=True, help="End with exit code 3 when something watched is unusual.")
@click.option(
    "--engine",
    "on",
    envvar="JOURNEYKIT_ENGINE",
    default="duckdb",
    show_default=True,
    metavar="ENGINE",
    help="duckdb, spark (this machine), or the master of a Spark cluster, such as spark://host:7077.",
)
@_says_what_is_wrong
def run(
    study: str,
    only: tuple[str, ...],
    start: str,
    settings: tuple[str, ...],
    jobs: int | None,
    timeout: int,
    reports: Path | None,
    wait: bool,
    fail_on_alert: bool,
    on: str,
) -> None:
    """Run the chapters of STUDY and build its report."""
    from journeykit import engine
    from journeykit.run import Stopped, progress
    from journeykit.run import run as run_study
    from journeykit.run.notebooks import ROOT, parse_settings

    overrides = parse_settings(settings)
    folder = _folder(study)
    engine.require(on)
    try:
        with progress.Bar() if sys.stdout.isatty() else progress.Lines() as shown:
            result = run_study(
                folder,
                only=only,
                start=start,
                overrides=overrides,
                jobs=jobs or _together(on),
                timeout=timeout,
                reports=reports or ROOT / "reports",
                progress=shown,
                wait=wait,
                on=on,
            )
    except Stopped as stopped:
        click.echo("stopped; the last good report is unchanged", err=True)
        sys.exit(128 + stopped.number)
    click.echo(f"\nreport: {_shown(result.index)}")
    if result.latest:
        click.echo(f"latest was not moved: {result.latest}")
    for chapter in result.chapters:
        if chapter["status"] == "failed" or (chapter["status"] != "passed" and "not asked" not in chapter["reason"]):
            click.echo(f"  {progress.line({**chapter, 'seconds': 0})}")
    for line in _alert_lines(result.alerts, fail_on_alert):
        click.echo(line)
    if result.status == "failed":
        sys.exit(_exit_code(result.chapters))
    sys.exit(3 if fail_on_alert and result.alerts.get("alerts") else 0)


def _alert_lines(found: dict[str, Any], asked: bool) -> list[str]:
    """Say what is unusual, an alert a line; where nobody looked, only to somebody who asked."""
    if not found.get("watched"):
        return ["nothing was watched in this run: no chapter left a table of alerts"] if asked else []
    told = [
        " ".join(str(part) for part in (alert.get("kpi"), f"({alert.get('rule')}):", alert.get("reason") or "unusual"))
        for alert in found["alerts"]
    ]
    return [f"alerts: {len(told)}, see alerts.json", *(f"  {line}" for line in told)] if told else []


def _together(on: str) -> int:
    """Return how many chapters to run at a time: on a cluster each would wait for the machines that another one has."""
    from journeykit.engine import master

    return 1 if master(on) and not master(on).startswith("local") else min(4, os.cpu_count() or 1)


def _exit_code(chapters: list[dict[str, Any]]) -> int:
    """Return 2 when all that failed is something the reader can mend in journey.toml or the input, else 1."""
    errors = [chapter["error"] for chapter in chapters if chapter["status"] == "failed"]
    return 2 if errors and all("JourneyError" in error for error in errors) else 1


@main.command()
@click.argument("study")
@click.option("--set", "settings", multiple=True, metavar="CHAPTER.KEY=VALUE", help="Check a parameter as well.")
@_says_what_is_wrong
def check(study: str, settings: tuple[str, ...]) -> None:
    """Check STUDY without running it: its configuration, its files, what each chapter will do."""
    from journeykit.check import hints
    from journeykit.run.notebooks import parse_settings
    from journeykit.run.plan import plan

    overrides = parse_settings(settings)
    found = plan(_folder(study), overrides=overrides)
    click.echo(f"{found.study.name}: {found.study.config.study.title}")
    click.echo("sources")
    for source, files in found.files.items():
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        click.echo(f"  {source}: {len(files)} file{'s' if len(files) > 1 else ''} ({', '.join(files[:3])}{more})")
    click.echo("chapters")
    for chapter in found.chapters:
        _, reason = found.reasons.get(chapter.name, ("", ""))
        values = ", ".join(f"{key} = {value!r}" for key, value in found.overrides.get(chapter.name, {}).items())
        will = f"will be skipped: {reason}" if reason else f"will run{f' with {values}' if values else ''}"
        click.echo(f"  {chapter.name} {will}")
    looks = hints(found.study.config, found.study.folder)
    if looks:
        click.echo("please look at")
        for line in looks:
            click.echo(f"  {line}")


@main.command()
@click.argument("name")
@click.argument("more", nargs=-1, metavar="[FILES]...")
@click.option(
    "--from", "files", multiple=True, metavar="FILES", help="Files, folders or wildcards; several may follow."
)
@click.option("--zone", default="", help='Zone of times that carry none, such as "Europe/Berlin".')
@click.option("--refer", is_flag=True, help="Leave the files where they are, instead of copying small ones.")
@_says_what_is_wrong
def new(name: str, more: tuple[str, ...], files: tuple[str, ...], zone: str, refer: bool) -> None:
    """Make the study NAME out of exports: guess what their columns mean and write a journey.toml that says why.

    Without --from, the files in data/NAME/raw/ are taken. Samples are looked at, so large files take no longer.
    """
    from rich.console import Console

    from journeykit.discover.new import make
    from journeykit.discover.screen import show
    from journeykit.study import ROOT

    if more and not files:
        raise JourneyError(f"found {more[0]!r} after the name. Files come after --from: new {name} --from {more[0]}")
    folder = Path(name) if "/" in name or os.sep in name else ROOT / "data" / name
    made = make(folder, [*files, *more], zone=zone, refer=refer)
    show(made, Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False), name)
    sys.exit(2 if made.problems else 0)


@main.command()
@click.option("--people", type=click.IntRange(1), required=True, help="How many people; 1_000_000 may be written so.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the new study.")
@click.option("--seed", type=int, help="Seed of all that is random.")
@_says_what_is_wrong
def simulate(people: int, out: Path, seed: int | None) -> None:
    """Make a study like the bundled one, of any size, with what was planted in truth/."""
    from journeykit import simulate as simulator

    simulator.simulate(out, people=people, **({} if seed is None else {"seed": seed}))
    shown = _shown(out) if os.sep in _shown(out) else f".{os.sep}{_shown(out)}"
    click.echo(f"made {shown}; run it with: python -m journeykit run {shown}")


@main.command()
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK]...")
@_says_what_is_wrong
def refresh(notebooks: tuple[str, ...]) -> None:
    """Execute the committed notebooks on the bundled study and store them in their fixed form."""
    from journeykit.run.refresh import ChapterFailed
    from journeykit.run.refresh import refresh as refresh_notebooks

    try:
        refresh_notebooks(notebooks, tell=click.echo)
    except ChapterFailed as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _folder(study: str) -> Path:
    """Return the folder of a study given as the name of a folder in data/ or as a path."""
    from journeykit.study import open_study

    return Path(open_study(study).folder)


def _shown(path: Path) -> str:
    """Return a path as one would type it here."""
    path = Path(os.path.abspath(path))  # not resolved: `latest` is a link
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
