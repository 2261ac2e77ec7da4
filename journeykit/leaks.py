"""The last look before a report is published: does any output hold a raw identifier of the input?

What is looked at, and what is not found, stands at the top of `search`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from journeykit import __version__, engine, erasure, privacy, search
from journeykit.study import ROOT, OpenStudy

KNOWN = ("tokens", "events")  # the tables that hold what is looked for: the first that there is
CLEAN = ".searched.json"  # in derived/: the tables that were searched and found clean


@dataclass(frozen=True, order=True)
class Leak:
    """A raw identifier that stands in an output: the file, the identifier's name, and its value's first letter."""

    file: str
    identifier: str
    shown: str

    def __str__(self) -> str:
        return f"{self.file}: {self.identifier} {self.shown}"


def scan(study: OpenStudy, folder: Path) -> list[Leak]:
    """Return the raw identifiers of a study's input that stand in the files of a run or in the study's derived/.

    Args:
        study: the study; its `tokens` are what is looked for (without them, those of `events`), and the erased.
        folder: the folder of the run.
    """
    plan, secret = study.config, privacy.key(ROOT)
    erased = erasure.tokens(plan, study.folder, secret)
    known = " UNION ALL ".join([*_known(study), search.listed(erased)])
    # A table that was clean when it was searched for the same tokens is still clean.
    marks = _marks(study, [erased, plan.identity.model_dump()], secret)
    clean = _read_clean(study)
    skipped = {name for name, mark in marks.items() if clean.get(name) == mark}
    hits = search.find(_outputs(study, folder, skipped), plan.identity, secret, known)
    # What journey.toml says is no secret: a stage or a channel may be called like somebody's user name.
    said = (study.folder / "journey.toml").read_text(encoding="utf-8", errors="replace")
    leaks = sorted({Leak(hit.place, hit.identifier, _shown(hit.word)) for hit in hits if _is_secret(hit.word, said)})
    dirty = {leak.file.partition(" (")[0].removeprefix("derived/") for leak in leaks}
    _write_clean(study, {name: mark for name, mark in marks.items() if name not in dirty})
    return leaks


def refusal(leaks: list[Leak], kept: str) -> str:
    """Return why a run with leaks is not published and what to do, without telling the values.

    Args:
        leaks: what was found.
        kept: how the folder of the run is called.
    """
    shown = "\n".join(f"  · {leak}" for leak in leaks[:10])
    more = f"\n  · and {len(leaks) - 10:,} more" if len(leaks) > 10 else ""
    return (
        f"raw identifiers of the input stand in the output:\n{shown}{more}\n"
        "In journey.toml, map the column that brings them as an identifier or as the comment, or drop it from "
        "properties, segments and names; a value that marks nobody belongs into identity.blocked. Delete "
        f"{kept}, which holds them, and run again."
    )


def _outputs(study: OpenStudy, folder: Path, skipped: set[str]) -> Iterator[tuple[str, Path]]:
    for path in search.files_of(folder):
        yield path.relative_to(folder).as_posix(), path
    for name, path in _derived(study):
        if name not in skipped:
            yield f"derived/{name}", path


def _derived(study: OpenStudy) -> Iterator[tuple[str, Path]]:
    """Yield the files below derived/, but for hidden ones and what a killed run left half-written."""
    for path in search.files_of(study.derived):
        name = path.relative_to(study.derived)  # a table may be a folder of parts
        if not any(piece.startswith(".") or piece.endswith(".part") for piece in name.parts):
            yield name.as_posix(), path


def _marks(study: OpenStudy, sought: list[Any], secret: bytes) -> dict[str, str]:
    """Return what each table in derived/ was last searched as, if it was: itself and what was looked for."""
    tables = {name: path.stat() for name, path in _derived(study) if path.suffix == ".parquet"}
    states = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in tables.items()}
    holders = {name: [state for path, state in states.items() if path.startswith(f"{name}.parquet")] for name in KNOWN}
    tokens = next((state for state in holders.values() if state), None)
    said = json.dumps([sought, tokens, __version__], default=str)
    return {
        name: hmac.new(secret, f"{name} {state} {said}".encode(), hashlib.sha256).hexdigest()[:16]
        for name, state in states.items()
    }


def _read_clean(study: OpenStudy) -> dict[str, str]:
    try:
        found = json.loads((study.derived / CLEAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_clean(study: OpenStudy, clean: dict[str, str]) -> None:
    if clean:
        part = study.derived / f"{CLEAN}.part"
        part.write_text(json.dumps(clean, indent=1), encoding="utf-8")
        os.replace(part, study.derived / CLEAN)


def _known(study: OpenStudy) -> list[str]:
    """Return the queries of the tokens of the input."""
    path, events = study.path("tokens"), study.path("events")
    if path.exists():
        return [f"SELECT id_name, id_token FROM {engine.relation(path)}"]
    if not events.exists():
        return []
    there = {
        row[0] for row in engine.rows(f"SELECT column_name FROM (DESCRIBE SELECT * FROM {engine.relation(events)})")
    }
    names = [name for name in study.config.identity.identifiers if f"id_{name}" in there]
    return [
        f"SELECT DISTINCT '{name}' AS id_name, id_{name} AS id_token FROM {engine.relation(events)}" for name in names
    ]


def _is_secret(word: str, said: str) -> bool:
    return "@" in word or any(letter.isdigit() for letter in word) or word not in said


def _shown(value: str) -> str:
    """A value's first character and length, by which its owner finds it and nobody else.

    >>> _shown("ada@example.com")
    '"a…" (15 characters)'
    """
    return f'"{value[0]}…" ({len(value)} characters)'
