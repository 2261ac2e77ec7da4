"""Small lists that people keep by hand beside journey.toml: a CSV with a header, all its problems told at once."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from journeykit.config import Identity, Study
from journeykit.config_base import fits
from journeykit.errors import JourneyError, nearest


@dataclass(frozen=True)
class Listed:
    """A row of a list: its line, and its cells by column."""

    line: int
    cells: Mapping[str, str]


def path_of(folder: Path, name: str, default: str, key: str) -> Path | None:
    """Return the path of a list, None where there is none under the name that it has by default.

    Raises:
        JourneyError: journey.toml gives it another name, and there is no such file.
    """
    path = folder / name
    if name and path.is_file():
        return path
    if name and name != default:
        raise JourneyError(f"{key}: {name!r} is not in {folder.name}/. Put the list there, or mend the name.")
    return None


def read(path: Path, columns: Sequence[str], one: str, problem: Callable[[Listed], str]) -> list[Listed]:
    """Return the rows of a list; columns beside those named are left aside, and so are rows without anything.

    Args:
        path: the file.
        columns: the columns that it must have.
        one: what stands on a line, such as "person", for messages.
        problem: says what is wrong with a row, or ""; it must not show a value.

    Raises:
        JourneyError: the file is not a CSV with these columns, or rows have problems; all are in the one error.
    """
    found, problems = [], []
    for line, row, width in _rows(path, columns, one):
        if row is None:
            problems.append(f"line {line}: {width}")
            continue
        listed = Listed(line, row)
        said = problem(listed)
        found.append(listed)
        problems += [f"line {line}: {said}"] if said else []
    refuse(path, problems)
    return found


def is_empty(path: Path, columns: Sequence[str]) -> bool:
    """Say whether a list holds nothing below its header; one that cannot be read is not empty."""
    try:
        return not any(True for _ in _rows(path, columns, "line"))
    except JourneyError:
        return False


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise JourneyError with all problems of a list, where there are any."""
    if problems:
        lines = "\n".join(f"  · {line}" for line in problems)
        raise JourneyError(f"{path.name}: {len(problems)} problem{'s' if len(problems) > 1 else ''}.\n{lines}")


def _rows(path: Path, columns: Sequence[str], one: str) -> Iterator[tuple[int, dict[str, str] | None, str]]:
    """Yield line and cells; None instead of them, and why, for a row that is not as wide as the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            first = next(reader, [])
            header = [name.strip().lower() for name in first]
            if not set(columns) <= set(header):
                mark = _separator(first, columns)
                if mark:
                    raise JourneyError(
                        f"{path.name}: the columns are separated by {mark}, and they are to be separated by commas. "
                        f"Save it with commas; the first line is '{','.join(columns)}' then."
                    )
                raise JourneyError(
                    f"{path.name}: the first line is not a header with the columns {', '.join(columns[:-1])} and "
                    f"{columns[-1]}. Write '{','.join(columns)}' there and one {one} a line below."
                )
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    yield reader.line_num, None, f"{len(row)} cells, the header has {len(header)}"
                    continue
                yield reader.line_num, {name: row[header.index(name)].strip() for name in columns}, ""
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise JourneyError(f"{path.name}: cannot be read as CSV in UTF-8: {error}. Save it as such.") from None


def _separator(header: Sequence[str], columns: Sequence[str]) -> str:
    """Return the name of what separates the columns of a header instead of commas, "" where nothing does."""
    line = ",".join(header).lower().replace('"', "")
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars (|)")):
        if set(columns) <= {cell.strip() for cell in line.split(mark)}:
            return name
    return ""


def identifier_problem(name: str, value: str, plan: Study) -> str:
    """Return what is wrong with an identifier's name or value in a list, or ""."""
    identity: Identity = plan.identity
    if name not in identity.identifiers:
        hint = nearest(name, identity.identifiers)
        return f"{name!r} is not an identifier.{hint} There are: {', '.join(identity.identifiers)}"
    if not value:
        return f"no value of {name!r} is given"
    if value.lower() in (blocked.lower() for blocked in identity.blocked):
        return f"the value of {name!r} is in identity.blocked, so it marks nobody"
    if any(fits([value], pattern)[0] for pattern in identity.blocked_patterns):
        return f"the value of {name!r} fits identity.blocked_patterns, so it marks nobody"
    return ""
