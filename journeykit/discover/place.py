"""Bring raw files into a study: as copies, or by saying where they lie."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from journeykit.discover.groups import Group, wildcard
from journeykit.errors import JourneyError

COPIED_BYTES = 256 * 1024 * 1024  # of one source; larger ones stay where they are


@dataclass(frozen=True)
class Placed:
    """Where a source's files will be: the `path` of the source, and what is copied to get there."""

    path: str
    done: str  # in words
    copies: tuple[tuple[Path, str], ...] = ()  # file, and its place in the study
    size: int = 0  # bytes


def place(group: Group, home: Path, refer: bool) -> Placed:
    """Say where the files of a source will be in the study at `home`; nothing is written yet, and nothing ever moved.

    Files that lie in its raw/ already are named where they are; small ones are copied, unless `refer` leaves them.
    """
    base = _common(group)
    names = [path.relative_to(base).as_posix() for path in group.files]
    pattern = wildcard(names)
    if base.is_relative_to(home / "raw"):
        return Placed(f"{base.relative_to(home).as_posix()}/{pattern}", "already there")
    size = sum(path.stat().st_size for path in group.files)
    if refer or size > COPIED_BYTES:
        why = "as asked" if refer else f"{size >> 20:,} MB are not copied"
        return Placed(f"{base.as_posix()}/{pattern}", f"left where it is, {why}")
    target = f"raw/{group.name}"
    copies = tuple((path, f"{target}/{name}") for path, name in zip(group.files, names, strict=True))
    return Placed(f"{target}/{pattern}", "copied", copies, size)


def copy(placed: Placed, study: Path) -> None:
    """Copy the files of a source into a study.

    Raises:
        JourneyError: the disk has no room for the copies.
    """
    if shutil.disk_usage(study).free < 2 * placed.size:
        raise JourneyError(
            f"{placed.path}: no room to copy {placed.size >> 20:,} MB. Free some, or leave the files: --refer."
        )
    for path, name in placed.copies:
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, study / name)


def _common(group: Group) -> Path:
    return Path(os.path.commonpath([path.parent for path in group.files]))


def others(group: Group, path: str) -> list[str]:
    """Return the names of files that the path of a source matches beside its own."""
    if not Path(path).is_absolute():
        return []
    found = Path(path).anchor
    matches = {one for one in Path(found).glob(path[len(found) :]) if one.is_file()}
    return sorted(one.name for one in matches - set(group.files))
