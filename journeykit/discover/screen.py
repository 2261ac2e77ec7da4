"""Show what was guessed and why, as tables on the terminal; values of identifiers never appear."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape as mark_off
from rich.table import Table

from journeykit.discover.guesses import SourceGuess
from journeykit.discover.new import Made
from journeykit.discover.written import plain, toml

SURE = {"sure": "[green]sure[/]", "likely": "likely", "check": "[yellow]please check[/]"}


def escape(text: str) -> str:
    """Return text without markup and without what would steer the terminal."""
    return mark_off(plain(text))


def show(made: Made, console: Console, name: str) -> None:
    """Print what was guessed of each source, what was left out, and what to do next."""
    for guess in made.sources:
        console.print(_table(guess, f"{guess.name}: {guess.path}"))
    for guess in made.aside:
        console.print(
            f"[yellow]not used:[/] {escape(guess.name)} ({escape(guess.path)}). {escape(' '.join(guess.missing))}"
        )
    for line in made.skipped:
        console.print(f"[yellow]left out:[/] {escape(line)}")
    story = made.story
    if story.stages:
        stages = ", ".join(f"{stage} ({len(inside)})" for stage, inside in story.stages.items())
        console.print(f"\nstages, with events: {escape(stages)}; {escape(story.why['stages'])}")
    if story.conversion:
        console.print(f"conversion: {escape(story.conversion)}, {escape(story.why['conversion'])}")
    if story.funnel:
        console.print(f"funnel: {escape(' → '.join(story.funnel))}")
    for line in made.hints:
        console.print(f"[yellow]please look at:[/] {escape(line)}")
    console.print()
    if made.problems:
        console.print("[red]not ready yet:[/]")
        for line in made.problems:
            console.print(f"  · {escape(line)}")
        console.print(f"\nmend {escape(name)}/journey.toml, then: python -m journeykit check {escape(name)}")
    else:
        console.print(f"[green]ready:[/] python -m journeykit run {escape(name)}")


def _table(guess: SourceGuess, title: str) -> Table:
    table = Table(title=escape(title), title_justify="left", show_edge=False, pad_edge=False, expand=False)
    for heading, width in (("key", 24), ("guess", 36), ("", 12), ("why", None)):
        table.add_column(heading, max_width=width, overflow="fold")
    for one in guess.guesses:
        table.add_row(escape(one.key), escape(_shown(one.value)), SURE[one.confidence], escape(one.why))
    for line in guess.missing:
        table.add_row(escape(line.split(":")[0]), "", "[red]missing[/]", escape(line.split(":", 1)[1].strip()))
    for line in guess.notes:
        table.add_row("", "", "", escape(line))
    return table


def _shown(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(str(one["event"]) for one in value)
    text = value if isinstance(value, str) else toml(value)
    return text if len(text) < 120 else f"{text[:117]}…"
