"""From a run folder to its report: `index.html` and one page a chapter, each whole in one file."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from nbconvert.filters import strip_ansi

from journeykit import figures, present
from journeykit.findings import Finding
from journeykit.report import advice, markup, model
from journeykit.report.notebook import TEMPLATES, Body, body

EVIDENCE = {
    "experimental": "people were assigned by chance, so the difference was caused",
    "quasi-experimental": "a change at a known moment or boundary, compared with what would have been expected",
    "associated": "goes together with the outcome after the stated adjustments; the cause may be something else",
    "observed": "a plain count or share of what happened; it says nothing about causes",
}
FIRST_FINDINGS = 8  # shown at once on the index; the rest unfold


def build(run_folder: Path, *, nonce_seed: int | None = None) -> Path:
    """Build the report of a run and return the path of its index.

    Reads `run.json`, `findings.json`, the executed notebooks and the names of `tables/*.csv`; writes `index.html` and
    `<chapter>.html` beside them. Every page is self-contained: styles and scripts inside, figures as data, no request
    to anywhere. Where a page has an interactive figure, the library that draws it is written to `assets/`, once for all
    pages; a page that is sent on without it shows the drawing that stands beside the figure's data. The status of a
    chapter comes from `run.json` alone: a notebook whose kernel died looks complete.

    Args:
        run_folder: folder of one run.
        nonce_seed: makes the nonces of the content-security policy, and so the pages, the same on every build
            (for tests); by default each page gets a random one.

    Raises:
        JourneyError: run.json is missing or is not what a run writes.
    """
    run_folder = Path(run_folder)
    run, findings = model.read(run_folder)
    environment = _environment()
    pages = {f"{chapter.name}.ipynb": chapter.page for chapter in run.chapters}
    shared = {
        "run": run,
        "facts": _facts(run),
        "styles": _asset("report.css"),
        "script": _asset("report.js"),
        "early": _asset("early.js"),
        "interactive_styles": _asset("interactive.css"),
        "interactive_script": _asset("interactive.js"),
    }
    for position, chapter in enumerate(run.chapters):
        content = _body(run_folder, chapter, pages)
        if content.interactive_n:
            _put_library(run_folder / "assets")
        _write(
            run_folder / chapter.page,
            environment.get_template("chapter.html.j2").render(
                **shared,
                nonce=_nonce(chapter.page, nonce_seed),
                chapter=chapter,
                current=chapter.name,
                page_title=chapter.title or content.title or chapter.name,
                body=Markup(content.html),  # cleaned by report.markup
                contents=content.contents,
                content=content,
                interactive=content.interactive_n > 0,
                traceback=strip_ansi(chapter.traceback).strip(),
                error=strip_ansi(chapter.error).strip(),
                snippet=advice.snippet(chapter.name),
                tables=_tables(run_folder, chapter.name),
                before=run.chapters[position - 1] if position else None,
                after=run.chapters[position + 1] if position + 1 < len(run.chapters) else None,
            ),
        )
    first = _first(findings)
    index = run_folder / "index.html"
    _write(
        index,
        environment.get_template("index.html.j2").render(
            **shared,
            nonce=_nonce("index.html", nonce_seed),
            current="index",
            page_title=run.name,
            contents=[],
            interactive=False,
            headlines=[finding for finding in findings if finding.headline],
            first=first,
            rest=[finding for finding in findings if finding not in first],
            chapters={chapter.name: chapter for chapter in run.chapters},
            evidence=EVIDENCE,
            command=_command(run),
            totals={
                name: sum(getattr(row, name) for row in run.accounting)
                for name in ("read_n", "kept_n", "duplicate_n", "quarantined_n", "left_out_n", "late_n")
            },
            unbalanced=[row for row in run.accounting if not row.balances],
            has_table={finding.table for finding in findings if _has_table(run_folder, finding)},
            broken=[chapter for chapter in run.chapters if chapter.status == "failed"],
        ),
    )
    return index


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        moment=model.moment,
        count=present.count,
        seconds=present.seconds,
        amount=_amount,
        interval=_interval,
        keep_units=_keep_units,
    )
    environment.globals["marks"] = model.MARKS
    return environment


def _first(findings: list[Finding]) -> list[Finding]:
    """The findings to show at once: headlines with an action, then other actions, at first one of each chapter.

    Each group keeps the findings' own order. What is left fills up to the number shown: actions before the rest.
    """
    headlines = [finding for finding in findings if finding.headline and finding.action]
    others = [finding for finding in findings if finding.action and not finding.headline]
    one_each = {finding.chapter: finding for finding in reversed(others)}
    spread = [finding for finding in others if finding is one_each[finding.chapter]]
    actions_first = sorted(findings, key=lambda finding: not finding.action)
    rest = [finding for finding in actions_first if finding not in headlines and finding not in spread]
    return [*headlines, *spread, *rest][:FIRST_FINDINGS]


def _amount(finding: Finding) -> str:
    return "" if finding.value is None else present.amount(finding.value, finding.unit)


def _interval(finding: Finding) -> str:
    if finding.low is None or finding.high is None:
        return ""
    return present.amount_interval(finding.low, finding.high, finding.unit)


def _keep_units(text: str) -> Markup:
    """Keep "52.7 %" and "EUR 12" on one line."""
    return Markup(markup.UNITS.sub(r'<span class="nb">\g<0></span>', str(escape(text))))


def _asset(name: str) -> Markup:
    """A stylesheet or script of the template, without its indentation and comments, for inclusion in a page."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    lines = [line.strip() for line in text.split("\n") if line.strip() and not line.strip().startswith("//")]
    if name.endswith(".css"):
        return Markup(re.sub(r";?\s*([{}>])\s*|([:;,])\s+", r"\1\2", " ".join(lines)))
    return Markup("\n".join(lines))


def _nonce(page: str, seed: int | None) -> str:
    return secrets.token_urlsafe(16) if seed is None else hashlib.sha256(f"{seed} {page}".encode()).hexdigest()[:22]


def _body(run_folder: Path, chapter: model.ChapterRun, pages: dict[str, str]) -> Body:
    if chapter.status in ("skipped", "not run"):
        return Body()
    path = (run_folder / (chapter.notebook or f"notebooks/{chapter.name}.ipynb")).resolve()
    if not path.is_relative_to(run_folder.resolve()) or not path.is_file():
        return Body()
    return body(path, pages, failed=chapter.status == "failed")


def _tables(run_folder: Path, chapter: str) -> list[tuple[str, str]]:
    """Name and size of the CSV files of a chapter."""
    found = sorted((run_folder / "tables").glob(f"{chapter}__*.csv"))
    return [(path.name, f"{max(1, round(path.stat().st_size / 1024)):,} KB") for path in found]


def _has_table(run_folder: Path, finding: Finding) -> bool:
    return bool(finding.table) and (run_folder / "tables" / f"{Path(finding.table).name}.csv").exists()


def _facts(run: model.Run) -> list[tuple[str, str]]:
    overrides = ", ".join(f"{key} = {value}" for key, value in run.changed)
    facts = [
        ("Study", run.study),
        ("Data until", run.until),
        ("Run", model.moment(run.started_at or run.run)),
        ("Took", present.seconds(run.seconds) if run.seconds else ""),
        ("journeykit", run.version),
        ("Commit", run.commit_shown),
        ("Changed for this run", overrides),
    ]
    return [(name, value) for name, value in facts if value]


def _command(run: model.Run) -> str:
    """The command that repeats the run; the path of a study elsewhere starts with "…", which quotes would hide."""
    return " ".join(part if re.fullmatch(r"…/[\w.-]+", part) else shlex.quote(part) for part in run.command)


def _put_library(assets: Path) -> None:
    """Copy the script that draws interactive figures from the installed package, once a run."""
    target, content = assets / figures.LIBRARY, figures.library().read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    assets.mkdir(exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_bytes(content)
    os.replace(part, target)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text.rstrip() + "\n", encoding="utf-8", newline="\n")
    os.replace(part, path)
