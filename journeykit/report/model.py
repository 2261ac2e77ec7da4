"""What a run folder says about itself: the parts of `run.json` that the report reads."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from journeykit.errors import JourneyError
from journeykit.findings import Finding

MARKS = {"passed": "✓", "failed": "✕", "skipped": "–", "not run": "○"}


class _Part(BaseModel):
    """A part of run.json; keys that the report does not show are ignored, an absent or null one has its default."""

    model_config = ConfigDict(extra="ignore", frozen=True, coerce_numbers_to_str=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].default if value is None else value


class ChapterRun(_Part):
    """One chapter of a run."""

    name: str
    title: str = ""
    status: str = "not run"
    reason: str = ""
    seconds: float = 0.0
    notebook: str = ""
    error: str = ""
    traceback: str = ""
    parameters: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _is_a_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"\w[\w-]*", name) or name == "index":
            raise ValueError(f"{name!r} cannot name a page. Use letters, digits, '_' and '-'")
        return name

    @property
    def page(self) -> str:
        return f"{self.name}.html"

    @property
    def number(self) -> str:
        return self.name.split("_", 1)[0].lstrip("0") if self.name[:1].isdigit() else ""

    @property
    def mark(self) -> str:
        return MARKS.get(self.status, "○")

    @property
    def css(self) -> str:
        return self.status.replace(" ", "-") if self.status in MARKS else "not-run"

    @property
    def why(self) -> str:
        """The reason in one line: of the error its first line."""
        return self.reason or self.error.strip().split("\n", 1)[0]


class RowCount(_Part):
    """The row account of one raw file: read = kept + duplicate + quarantined + left out by rule."""

    source: str = ""
    file: str = ""
    read_n: int = 0
    kept_n: int = 0
    duplicate_n: int = 0
    quarantined_n: int = 0
    left_out_n: int = 0
    late_n: int = 0

    @property
    def balances(self) -> bool:
        return self.read_n == self.kept_n + self.duplicate_n + self.quarantined_n + self.left_out_n


class Asked(_Part):
    """How the run was asked for: the study as a name or path, and the options of the command."""

    study: str = ""
    flags: list[str] = []


class Run(_Part):
    """A run: what was asked, what was run, and what came of it."""

    study: str = ""
    title: str = ""
    question: str = ""
    scope: str = ""
    run: str = ""
    started_at: str = ""
    finished_at: str = ""
    seconds: float = 0.0
    status: str = ""
    version: str = ""
    commit: str = ""
    python: str = ""
    engine: str = ""
    config_hash: str = ""
    as_of: str = ""
    currency: str = ""
    timezone: str = ""
    overrides: dict[str, Any] = {}
    asked: Asked = Asked()
    chapters: list[ChapterRun] = []
    accounting: list[RowCount] = []

    @property
    def name(self) -> str:
        return self.title or self.study or "Journey report"

    @property
    def commit_shown(self) -> str:
        """The commit with a short hash, and whether files differed from it."""
        found, plus, more = self.commit.partition(" + ")
        return found[:10] + plus + more

    @property
    def until(self) -> str:
        """The end of the data as a reader writes it; a study without any event has none, and an epoch for it."""
        return "" if self.as_of.startswith("1970-01-01T00:00:00") else moment(self.as_of)

    @property
    def changed(self) -> list[tuple[str, Any]]:
        """The parameters that differ from the notebooks' own, as `chapter.parameter` and value."""
        found: list[tuple[str, Any]] = []
        for name, values in sorted(self.overrides.items()):
            found += (
                [(f"{name}.{key}", value) for key, value in sorted(values.items())]
                if isinstance(values, dict)
                else [(name, values)]
            )
        return found

    @property
    def command(self) -> list[str]:
        """The command that repeats the run."""
        return ["python", "-m", "journeykit", "run", self.asked.study or self.study, *self.asked.flags]


def read(folder: Path) -> tuple[Run, list[Finding]]:
    """Read `run.json` and `findings.json` of a run folder; without findings the list is empty.

    Raises:
        JourneyError: run.json is missing, or one of the two is not what a run writes.
    """
    run = _load(folder / "run.json")
    if run is None:
        raise JourneyError(
            f"{folder.name}: no run.json. A report is built from a run folder, which `journeykit run` makes."
        )
    found = _load(folder / "findings.json") or {}
    try:
        return Run.model_validate(run), [Finding.model_validate(row) for row in found.get("findings", [])]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise JourneyError(
            f"{folder.name}: {where} of {error.title}: {first['msg']}. The file was changed; run the study again."
        ) from None


def _load(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JourneyError(f"{path.name}: not valid JSON ({error}). Run the study again.") from None
    return content


def moment(text: str) -> str:
    """Return an ISO 8601 time as a reader writes it, in UTC when it carries an offset.

    >>> moment("2026-01-01T06:00:00Z"), moment("2026-01-01"), moment("soon")
    ('1 Jan 2026, 06:00 UTC', '1 Jan 2026', 'soon')
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    offset = time.utcoffset()
    if offset is not None:
        time = (time - offset).replace(tzinfo=None)
    # strftime would follow the locale
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * time.month - 3 : 3 * time.month]
    day = f"{time.day} {month} {time.year}"
    return day if len(text) <= 10 else f"{day}, {time:%H:%M}{' UTC' if offset is not None else ''}"
