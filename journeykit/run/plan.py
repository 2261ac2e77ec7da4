"""What a run is going to do, checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeykit.errors import JourneyError
from journeykit.run import notebooks
from journeykit.run.notebooks import Notebook

NOT_ASKED = "not asked for"


@dataclass(frozen=True)
class Plan:
    """What each chapter will do: run with these overrides, be skipped, or not run because it was not asked for."""

    study: Any  # study.OpenStudy
    chapters: list[Notebook]
    overrides: dict[str, dict[str, object]]
    reasons: dict[str, tuple[str, str]]  # chapter = (status, reason) of those that do not run
    files: dict[str, list[str]]  # source = raw files

    @property
    def partial(self) -> bool:
        return any(reason == NOT_ASKED for _, reason in self.reasons.values())


def plan(
    study_folder: Path,
    *,
    only: Sequence[str] = (),
    start: str = "",
    overrides: Mapping[str, Mapping[str, object]] | None = None,
) -> Plan:
    """Check everything that can be known before a run.

    Raises:
        JourneyError: journey.toml has problems, the first rows of a source cannot be used, a chapter or parameter is
            unknown.
    """
    from journeykit import check
    from journeykit.needs import skip_reason
    from journeykit.raw_files import find_files
    from journeykit.study import open_study

    study = open_study(f"{study_folder.resolve()}")
    chapters = notebooks.discover()
    settings = (("chapters in journey.toml:", study.config.chapters), ("--set", overrides or {}))
    checked = notebooks.check_overrides(chapters, *settings)
    chosen = {notebooks.find(chapters, name, "--only").name for name in only}
    first = notebooks.find(chapters, start, "--from").name if start else ""
    reasons: dict[str, tuple[str, str]] = {}
    for chapter in chapters:
        skipped = skip_reason(study.config, chapter.name)
        if (chosen and chapter.name not in chosen) or chapter.name < first:
            reasons[chapter.name] = ("not run", NOT_ASKED)
        elif skipped:
            reasons[chapter.name] = ("skipped", skipped)
    if len(reasons) == len(chapters) and all(reason == NOT_ASKED for _, reason in reasons.values()):
        raise JourneyError(f"--only and --from leave no chapter to run. --from is {start}, --only {', '.join(only)}.")
    problems = check.problems(study.config, study.folder)
    if problems:
        raise JourneyError("\n".join(problems))
    files = {source.name: [file.name for file in find_files(source, study.folder)] for source in study.config.sources}
    return Plan(study, chapters, checked, reasons, files)
