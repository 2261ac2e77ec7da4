"""Who is to be forgotten: the list of a study, and the kept reports that still know one of them.

A row of the list forgets what carries that identifier. What a person did under another one, such as a browser before
the first sign-in, needs a row of its own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from journeykit import lists, privacy, search
from journeykit.config import Privacy, Study
from journeykit.errors import JourneyError
from journeykit.study import OpenStudy

COLUMNS = ("identifier", "value")
CHECKED = ".erasure.json"  # beside the runs: which of them were searched for which list


@dataclass(frozen=True)
class Person:
    """A row of the list: an identifier's name and the value as the customer gave it."""

    identifier: str
    value: str


def people(plan: Study, folder: Path) -> list[Person]:
    """Return the people to forget, as `[privacy] erase` lists them; [] where there is no such file.

    Raises:
        JourneyError: the file is not a CSV with the columns identifier and value, or a row names nobody; all problems
            are in the one error, none with its value.
    """
    path = lists.path_of(folder, plan.privacy.erase, Privacy().erase, "privacy.erase")
    if path is None:
        return []

    def problem(row: lists.Listed) -> str:
        return lists.identifier_problem(row.cells["identifier"], row.cells["value"], plan)

    return list(dict.fromkeys(Person(**row.cells) for row in lists.read(path, COLUMNS, "person", problem)))


def tokens(plan: Study, folder: Path, secret: bytes) -> dict[str, list[str]]:
    """Return identifier → tokens of the people to forget, in the order of their tokens; {} when nobody is listed.

    Raises:
        JourneyError: see `people`.
    """
    found: dict[str, set[str]] = {}
    for person in people(plan, folder):
        rule = privacy.rule(plan.identity, person.identifier)
        found.setdefault(person.identifier, set()).add(privacy.token(person.identifier, person.value, secret, rule))
    return {name: sorted(found[name]) for name in plan.identity.identifiers if name in found}


def fingerprint(plan: Study, folder: Path) -> str:
    """Return a hash of the list's bytes, "" where there is none: it changes when the list does.

    A short list can be guessed from it, so it must only be stored as part of a hash with the key.
    """
    path = folder / plan.privacy.erase
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def purge_reports(study: OpenStudy, home: Path, secret: bytes) -> list[str]:
    """Delete the kept runs that hold a token or a raw value of somebody to forget; return their names.

    A run goes as a whole, and `latest` goes when it led to one that went. Nothing outside of `home` is touched, and no
    link is followed. A run that was searched for this list is not searched again. Raw values are found with the limits
    that `leaks` has.

    Args:
        study: the study, whose list is honoured.
        home: the folder of its runs.
        secret: the key of the tokens.

    Raises:
        JourneyError: the list cannot be read; see `people`.
    """
    forgotten = tokens(study.config, study.folder, secret)
    if not forgotten or not home.is_dir():
        return []
    said = json.dumps([forgotten, study.config.identity.model_dump()], default=str)
    mark = hmac.new(secret, said.encode(), hashlib.sha256).hexdigest()[:16]
    runs = [Path(entry.path) for entry in os.scandir(home) if entry.is_dir(follow_symlinks=False)]
    runs = sorted(run for run in runs if run.name != "latest" and not run.name.startswith("."))
    checked = _checked(home)
    asked = [run for run in runs if checked.get(run.name) != mark]
    files = ((f"{run.name}/{number}", path) for run in asked for number, path in enumerate(search.files_of(run)))
    hits = search.find(files, study.config.identity, secret, search.listed(forgotten), thorough=True)
    gone = sorted({hit.place.partition("/")[0] for hit in hits})
    _unlink_latest(home, gone)
    for name in gone:
        hidden = home / f".{name}.part"  # what a killed run leaves is cleared away, so half of a report never stays
        try:
            shutil.rmtree(hidden, ignore_errors=True)
            os.rename(home / name, hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise JourneyError(
                f"the report {name} holds somebody to forget, and deleting it failed: {error.strerror}. Delete it."
            ) from None
    part = home / f"{CHECKED}.part"
    part.write_text(json.dumps({run.name: mark for run in runs if run.name not in gone}, indent=1), encoding="utf-8")
    os.replace(part, home / CHECKED)
    return gone


def _checked(home: Path) -> dict[str, str]:
    try:
        found = json.loads((home / CHECKED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _unlink_latest(home: Path, gone: list[str]) -> None:
    """Remove `latest` where it leads to one of the runs; on a system without links it is a folder with a page."""
    latest = home / "latest"
    if latest.is_symlink():
        if os.path.basename(os.readlink(latest)) in gone:
            latest.unlink()
    elif (latest / "index.html").is_file():
        page = (latest / "index.html").read_text(encoding="utf-8", errors="replace")
        if any(f"../{name}/" in page for name in gone):
            shutil.rmtree(latest)
