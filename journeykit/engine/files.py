"""Tables on disk: one Parquet file, or a folder of part files in order with a file of notes, as Spark writes them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOTES = "_notes.json"  # Parquet readers pass over names that start so


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside a path to write a file or a folder to; move it into place when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    remove(part)
    try:
        yield part
    except BaseException:
        remove(part)
        raise
    if path.is_dir() or part.is_dir():  # no folder is replaced in one step
        old = path.with_name(f"{path.name}.{os.getpid()}.old.part")
        remove(old)
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
        remove(old)
    else:
        os.replace(part, path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def parts(path: Path) -> list[Path]:
    """Return the files of a table in order: itself, or the parts of the folder."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def pattern(path: Path) -> str:
    """Return what DuckDB, which knows wildcards, is told to read: the file, or the parts of the folder."""
    plain = "".join(f"[{mark}]" if mark in "[*?" else mark for mark in str(path))
    return f"{plain}/*.parquet" if path.is_dir() else plain


def notes(folder: Path) -> dict[str, str]:
    """Return what was noted beside the parts of a folder; {} when there is nothing."""
    try:
        found = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(folder: Path, metadata: dict[str, str]) -> None:
    """Note something beside the parts of a folder."""
    (folder / NOTES).write_text(json.dumps(metadata, ensure_ascii=False, indent=1), encoding="utf-8")


def quoted(path: Path) -> str:
    """Return a path as it stands between the quotes of a query."""
    return str(path).replace("'", "''")
