"""A chapter as its notebook sees it: the study's tables, and a place for figures, sentences and findings."""

from __future__ import annotations

import fnmatch
import html
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes

from journeykit import earlier, figures, findings, present, study
from journeykit.errors import JourneyError
from journeykit.needs import skip_reason
from journeykit.plots import theme
from journeykit.stats import reason_of


def open_chapter(name: str, folder: str, run_dir: str = "") -> Chapter:
    """Open a chapter on a study: `folder` is the name of a folder of data/ or a path; see `Chapter`."""
    opened = study.open_study(folder)
    reason = skip_reason(opened.config, name)
    if reason:
        raise JourneyError(f"{name} has nothing to do here: {reason}")
    return Chapter(name, opened, Path(run_dir) if run_dir else opened.derived / "chapters")


class Chapter:
    """What a notebook calls: tables in, figures, sentences and findings out.

    Tables go to `<run_dir>/tables/<chapter>__<name>.csv`, findings to `<run_dir>/findings/<chapter>.json`.
    """

    def __init__(self, name: str, opened: study.OpenStudy, run_dir: Path) -> None:
        self.name = name
        self.study = opened
        self.config = opened.config
        self.run_dir = run_dir
        self.currency = opened.config.study.currency
        self.minimum_cell = opened.config.privacy.minimum_cell
        self._found: list[findings.Finding] = []
        self._reason = ""

    @cached_property
    def events(self) -> nw.LazyFrame[Any]:
        return self.study.table("events")

    @cached_property
    def people(self) -> nw.LazyFrame[Any]:
        return self.study.table("people")

    @cached_property
    def touches(self) -> nw.LazyFrame[Any]:
        return self.study.table("touches")

    @cached_property
    def journeys(self) -> nw.LazyFrame[Any]:
        return self.study.table("journeys")

    @cached_property
    def spend(self) -> nw.LazyFrame[Any]:
        return self.study.table("spend")

    @cached_property
    def files(self) -> nw.LazyFrame[Any]:
        return self.study.table("files")

    @cached_property
    def quarantine(self) -> nw.LazyFrame[Any]:
        return self.study.table("quarantine")

    @cached_property
    def blocked(self) -> nw.LazyFrame[Any]:
        return self.study.table("blocked")

    @cached_property
    def as_of(self) -> pd.Timestamp:
        return self.study.as_of()

    @property
    def experiment_columns(self) -> list[str]:
        """The columns that say who is in which test and arm: they are drawn by lot and no groups to compare."""
        named = (name for test in self.config.experiments for name in (test.identifier_column, test.arm_column))
        return list(dict.fromkeys(name for name in named if name))

    def owner(self, touchpoint: str) -> str:
        """Return the team that owns a touchpoint, stage or event, or ""."""
        for stage in self.config.stages:
            patterns = [pattern for names in stage.touchpoints.values() for pattern in names]
            if touchpoint == stage.name or touchpoint in stage.touchpoints:
                return stage.owner
            if any(fnmatch.fnmatchcase(touchpoint, pattern) for pattern in patterns):
                return stage.owner
        return ""

    def show(
        self,
        table: pd.DataFrame,
        name: str,
        plot: Callable[[pd.DataFrame], Axes] | None = None,
        alt: str = "",
        limit: int = 15,
        columns: Sequence[str] = (),
        interactive: Callable[[pd.DataFrame], Any] | None = None,
    ) -> None:
        """Save a table, then show its figure (if any) and its first `limit` rows; an empty one shows its reason.

        `columns` narrows what is shown, not what is saved; an interval belongs to its estimate. `interactive` makes a
        plotly Figure of the same table, for readers with a screen; what `plot` draws is its twin for paper and code
        hosts, so that there is always both.
        """
        if interactive is not None and plot is None:
            raise JourneyError(f"show({name!r}): interactive is given without plot. Give plot too: it draws the twin.")
        target = self.run_dir / "tables" / f"{self.name}__{name}.csv"
        target.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(target, index=False, float_format="%.10g")
        reason = reason_of(table)
        if reason:
            if reason != self._reason:  # of several tables that lack the same, the first says so
                self.say(reason[:1].upper() + reason[1:].rstrip(".") + ".")
            self._reason = reason
            return
        self._reason = ""
        if plot is not None:
            svg = theme.svg(plot(table))
            alt = alt or f"Chart of {name.replace('_', ' ')}; its numbers are in the table below."
            shapes: dict[str, Any] = {"image/svg+xml": svg, "text/plain": f"<figure: {alt}>"}
            if interactive is not None:
                shapes[figures.MIME] = figures.bundle(interactive(table))
            display(shapes, metadata={"image/svg+xml": {"alt": alt}}, raw=True)
        left = len(table) - limit
        rest = f"{left:,} {'more ' if limit else ''}row{'s' * (left != 1)} in tables/{target.name}"
        shown = present.table(_narrowed(table, columns), limit, self.currency) if limit else ""
        shown += f'<p class="rest">{rest}</p>' if len(table) > limit else ""
        display({"text/html": shown, "text/plain": f"<table {name}: {len(table)} rows>"}, raw=True)

    def earlier(self, name: str, *, same_data: bool = False) -> list[pd.DataFrame]:
        """Return a table of this chapter as earlier runs left it, the earliest first; see `earlier.tables`.

        Runs of the same data are no earlier ones, unless `same_data` asks for them too.
        """
        before = None if same_data else self.as_of
        return earlier.tables(self.run_dir.parent, f"{self.name}__{name}.csv", before)

    def say(self, text: str) -> None:
        """Show a computed sentence; data in it cannot become markup."""
        if text:
            display({"text/html": f'<p class="reading">{html.escape(text)}</p>', "text/plain": text}, raw=True)

    def find(self, found: Iterable[findings.Finding]) -> None:
        """Collect findings for the summary."""
        self._found += found

    def ranked(self) -> list[findings.Finding]:
        """Return the findings of all chapters of this run in order of rank, and note that order for the report."""
        folder = self.run_dir / "findings"
        found = findings.rank(f for f in findings.read(folder) if f.chapter != self.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ranking.json").write_text(json.dumps({"order": [finding.id for finding in found]}), encoding="utf-8")
        return found

    def close(self) -> None:
        """Write the chapter's findings and show them as a list; a chapter that found nothing says so."""
        self.finish()
        display(HTML(_finding_list(self._found)))

    def finish(self) -> None:
        """Write the chapter's findings without showing them, as the summary does, which has none of its own."""
        findings.save(self._found, self.run_dir / "findings" / f"{self.name}.json")


def _narrowed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns asked for that the table has, with their bounds, and `unit`, which formats them."""
    if not columns:
        return table
    wanted = [column for name in [*columns, "unit"] for column in (name, f"{name}_low", f"{name}_high")]
    if "low" in table.columns and columns[-1] in table.columns:
        wanted += ["low", "high"]
    return table[[column for column in wanted if column in table.columns]]


def _finding_list(found: list[findings.Finding]) -> str:
    if not found:
        return '<p class="findings">This chapter has no finding on this study.</p>'
    items = []
    for finding in found:
        facts = [f"n = {present.count(finding.n)}"] if finding.n is not None else []
        facts += [finding.evidence] + ([f"owner: {finding.owner}"] if finding.owner else [])
        action = f'<br><span class="do">To do: {html.escape(finding.action)}</span>' if finding.action else ""
        caveat = f'<br><span class="caveat">{html.escape(finding.caveat)}</span>' if finding.caveat else ""
        small = f"<small>({html.escape('; '.join(facts))})</small>"
        items.append(f"<li>{html.escape(finding.statement)} {small}{action}{caveat}</li>")
    return f'<ul class="findings">{"".join(items)}</ul>'
