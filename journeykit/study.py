"""A study on disk: its folder, its configuration and its derived tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config, engine
from journeykit.errors import JourneyError, nearest

ROOT = Path(__file__).resolve().parent.parent
# What the tables of a notebook depend on in journey.toml: a funnel's window is no reason to read the raw files again.
PARTS = {
    "01_ingest": ("study", "sources", "identity", "stages"),
    "02_stitch": ("study", "sources", "identity", "stages", "sessions", "journeys"),
}
TABLES = {
    "events": "01_ingest",
    "quarantine": "01_ingest",
    "files": "01_ingest",
    "blocked": "01_ingest",
    "spend": "01_ingest",
    "tokens": "01_ingest",
    "links": "01_ingest",
    "people": "02_stitch",
    "touches": "02_stitch",
    "journeys": "02_stitch",
}


def open_study(name: str) -> OpenStudy:
    """Open a study by the name of its folder in data/, or by a path to its folder.

    Raises:
        JourneyError: there is no such study, or its journey.toml has problems.
    """
    folder = Path(name) if "/" in name or "\\" in name or name == "." else ROOT / "data" / name
    if not (folder / "journey.toml").exists():
        known = sorted(path.parent.name for path in (ROOT / "data").glob("*/journey.toml"))
        raise JourneyError(
            f"study {name!r}: no journey.toml in {folder.name}/.{nearest(name, known)} "
            f"Studies in data/: {', '.join(known) or 'none'}. A path to a folder works too."
        )
    return OpenStudy(folder.resolve(), config.load(folder / "journey.toml"))


class OpenStudy:
    """A study's folder, configuration and derived tables."""

    def __init__(self, folder: Path, plan: config.Study) -> None:
        self.folder = folder
        self.config = plan
        self.derived = folder / "derived"

    @property
    def name(self) -> str:
        return self.folder.name

    def path(self, table: str) -> Path:
        return self.derived / f"{table}.parquet"

    @cached_property
    def config_hash(self) -> str:
        """A fingerprint of what journey.toml says, whatever its layout and comments."""
        return fingerprint(self.config.model_dump())

    def parts_hash(self, notebook: str) -> str:
        """A fingerprint of the parts of journey.toml that the tables of a notebook depend on."""
        said = self.config.model_dump()
        return fingerprint({part: said[part] for part in PARTS[notebook]})

    def table(self, name: str) -> nw.LazyFrame[Any]:
        """Open a derived table; refuse one that is missing or was built from other inputs.

        Raises:
            JourneyError: the table is missing or stale; the message says which notebook to run.
        """
        return engine.read_parquet(self.current(name))

    def current(self, name: str) -> Path:
        """Return the path of a derived table that is there and up to date; raise as `table` does."""
        path = self.path(name)
        if not path.exists():
            raise JourneyError(f"{self.name}: the table {name!r} is not built yet. Run {TABLES[name]} first.")
        noted = engine.read_metadata(path)
        if noted.get("parts") != self.parts_hash(TABLES[name]):
            raise JourneyError(
                f"{self.name}: the table {name!r} was built from another journey.toml. Run {TABLES[name]} again."
            )
        if TABLES[name] == "01_ingest" and noted.get("raw") != self.raw_marks():
            raise JourneyError(
                f"{self.name}: {self._changed(noted.get('raw', ''))} changed since {name!r} was built. Run 01_ingest "
                "again, and the chapters after it (--from 01_ingest runs them all)."
            )
        if TABLES[name] == "02_stitch" and noted.get("events") != self.fingerprint("events"):
            raise JourneyError(f"{self.name}: the table {name!r} is older than 'events'. Run 02_stitch again.")
        return path

    def raw_marks(self) -> str:
        """A quick mark of the raw files, their names and sizes, and behind `+` one of the merges and splits by hand.

        01_ingest itself compares every byte.
        """
        from journeykit import overrides, privacy
        from journeykit.raw_files import LocalFile, find_files

        by_hand = self.folder / self.config.identity.overrides
        listed = overrides.mark(self.config, self.folder, privacy.key(ROOT)) if by_hand.is_file() else ""
        marks: list[tuple[str, str]] = []
        for source in self.config.sources:
            if source.database or "://" in source.path:  # to ask elsewhere for every table would be slow
                marks.append((source.database, source.path or source.query))
                continue
            files = find_files(source, self.folder)
            marks += [(file.name, file.mark() if isinstance(file, LocalFile) else "") for file in files]
        return f"{fingerprint(marks)}+{listed}" if listed else fingerprint(marks)

    def _changed(self, noted: str) -> str:
        """Say which of what `raw_marks` marks is not as it was when that was noted."""
        (files, _, listed), (files_then, _, listed_then) = self.raw_marks().partition("+"), noted.partition("+")
        changed = ["the raw files"] if files != files_then else []
        changed += [f"{self.config.identity.overrides} (merges and splits by hand)"] if listed != listed_then else []
        return f"{' and '.join(changed)} {'have' if files != files_then else 'has'}"

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint that a derived table was written with, or "" when it is missing."""
        return engine.read_metadata(self.path(name)).get("fingerprint", "")

    def remember(
        self, names: Sequence[str], said: Any, make: Callable[[], Sequence[pd.DataFrame]]
    ) -> list[pd.DataFrame]:
        """Return small tables that are kept in derived/, and make them when what they depend on (`said`) is new."""
        note = {"fingerprint": fingerprint(said)}
        if any(self.fingerprint(name) != note["fingerprint"] for name in names):
            for name, table in zip(names, make(), strict=True):
                engine.write_parquet(engine.lazy(table), self.path(name), note)
        return [engine.fetch(engine.read_parquet(self.path(name))) for name in names]

    def as_of(self) -> pd.Timestamp:
        """Return the end of observation (UTC): `study.as_of`, or the last event."""
        if self.config.study.as_of:
            moment = pd.Timestamp(self.config.study.as_of)
            return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo else moment
        # Not by `table`: who runs the chapters need not start the engine that they use.
        ((last,),) = engine.rows(f"SELECT max(timestamp) FROM {engine.relation(self.current('events'))}")
        moment = pd.Timestamp(last)
        return pd.Timestamp(0) if pd.isna(moment) else moment  # a study without events was observed for no time


def fingerprint(said: Any) -> str:
    """Return a short hash of what something depends on."""
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:12]
