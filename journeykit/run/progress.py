"""What a run shows while it goes: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow", "not run": "yellow"}


def line(chapter: Mapping[str, Any]) -> str:
    """Return a chapter's end as one line.

    >>> line({"name": "04_funnel", "status": "passed", "seconds": 3.21, "reason": ""})
    '04_funnel passed 3.2 s'
    """
    seconds = f" {chapter['seconds']:.1f} s" if chapter["seconds"] else ""
    reason = f": {chapter['reason'].splitlines()[0]}" if chapter["reason"] else ""
    return f"{chapter['name']} {chapter['status']}{seconds}{reason}"


class Lines:
    """One line for each chapter that ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, names: Sequence[str]) -> None:
        pass

    def start(self, name: str) -> None:
        pass

    def end(self, chapter: Mapping[str, Any]) -> None:
        click.echo(line(chapter))

    def note(self, text: str) -> None:
        click.echo(text)


class Bar(Lines):
    """A bar with the chapters that are running now, below the lines of those that ended."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            BarColumn(24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bars = Bars(*columns, console=Console(highlight=False), transient=True)
        self._task = self._bars.add_task("", total=None)
        self._running: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, names: Sequence[str]) -> None:
        self._bars.update(self._task, total=len(names), completed=0)

    def start(self, name: str) -> None:
        self._running[name] = time.monotonic()
        self._show()

    def end(self, chapter: Mapping[str, Any]) -> None:
        colour = COLOURS[chapter["status"]]
        self._bars.console.print(f"[{colour}]{escape(line(chapter))}[/]", soft_wrap=True)
        if self._running.pop(chapter["name"], None) is not None:
            self._bars.advance(self._task)
        self._show()

    def note(self, text: str) -> None:
        self._bars.console.print(escape(text), soft_wrap=True)

    def _show(self) -> None:
        self._bars.update(self._task, description=escape(", ".join(self._running)))
