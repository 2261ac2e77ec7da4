"""Find the files that were named, and put those of one shape together as one source."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from journeykit.discover.describe import source_name
from journeykit.discover.recognise import given, recognise
from journeykit.discover.samples import Sample, look
from journeykit.errors import JourneyError, nearest

LOOKED_AT = 5  # files of a group of which a sample is taken
MOST_FILES = 10_000
ALIKE = 0.5  # share of columns that two files of one kind of name have in common
VARYING = re.compile(r"\d+|(?<![a-z])[0-9a-f]{8,}(?![a-z])", re.IGNORECASE)
TAKEN = re.compile(
    r"\.(csv|tsv|txt|jsonl|ndjson|json|parquet|pq|xes|xlsx|xlsm|xls)(\.(gz|bz2|xz|zst|zip))?$|\.(gz|zip)$",
    re.IGNORECASE,
)


@dataclass
class Group:
    """Files of one shape, all below `base`, with samples of some of them."""

    name: str
    base: Path
    files: list[Path]
    samples: list[Sample]

    @property
    def pattern(self) -> str:
        """The path of the files below `base`, with * where their names differ."""
        return wildcard([path.relative_to(self.base).as_posix() for path in self.files])


def find(given_paths: Sequence[str]) -> list[tuple[Path, Path]]:
    """Return the files that paths, folders and wildcards name: each with the folder below which its place matters.

    Raises:
        JourneyError: one of them matches nothing, or there are too many.
    """
    found: dict[Path, Path] = {}
    for text in given_paths:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = [one for one in sorted(path.rglob("*")) if one.is_file() and _wanted(one, path)]
            if not inside:
                raise JourneyError(
                    f"--from: {text} holds no file that can be read. Give CSV, JSON, Parquet, XES or xlsx."
                )
            found |= {one.resolve(): path.resolve() for one in inside}
        elif path.is_file():
            found[path.resolve()] = path.resolve().parent
        else:
            matches = [Path(one) for one in sorted(glob.glob(str(path), recursive=True)) if Path(one).is_file()]
            if not matches:
                there = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
                raise JourneyError(
                    f"--from: {text} matches no file.{nearest(path.name, there)} Give files, folders or wildcards."
                )
            found |= {one.resolve(): one.resolve().parent for one in matches}
    if len(found) > MOST_FILES:
        raise JourneyError(f"--from: {len(found):,} files; at most {MOST_FILES:,} are looked at. Name fewer of them.")
    return list(found.items())


def _wanted(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder).parts
    return bool(TAKEN.search(path.name)) and not any(part.startswith((".", "_")) for part in inner)


def group(files: Sequence[tuple[Path, Path]]) -> tuple[list[Group], list[str]]:
    """Put files of one shape together: names that differ in numbers only, and columns in common.

    Returns the groups, and why files were left out.
    """
    named: dict[str, list[tuple[Path, Path]]] = {}
    for path, base in files:
        relative = path.relative_to(base)
        key = VARYING.sub("*", relative.as_posix())
        named.setdefault(f"{base}/{key}", []).append((path, base))
    groups: list[Group] = []
    skipped: list[str] = []
    for members in named.values():
        groups += _same_shape(members, skipped)
    groups = _without_drafts(groups)
    _give_names(groups)
    return groups, skipped


def _same_shape(members: Sequence[tuple[Path, Path]], skipped: list[str]) -> Iterator[Group]:
    places = sorted({round(place * (len(members) - 1) / (LOOKED_AT - 1)) for place in range(LOOKED_AT)})
    samples: list[tuple[Path, Sample]] = []
    for place in places:
        path, _ = members[place]
        try:
            samples.append((path, look(path)))
        except JourneyError as error:
            if len(members) == 1 or "holds no rows" not in str(error):
                skipped.append(str(error))
    if not samples:
        return
    base = members[0][1]
    first = samples[0][1]
    odd = {path for path, sample in samples if not _alike(first, sample)}
    if odd:  # files of one name and several shapes: every one is looked at
        shapes: list[list[tuple[Path, Sample]]] = []
        for path, _ in members:
            try:
                sample = look(path)
            except JourneyError as error:
                skipped.append(str(error))
                continue
            home = next((shape for shape in shapes if _alike(shape[0][1], sample)), None)
            if home is None:
                shapes.append([(path, sample)])
            else:
                home.append((path, sample))
        for shape in shapes:
            yield Group("", base, [path for path, _ in shape], [sample for _, sample in shape[:LOOKED_AT]])
        return
    broken = {path for path, _ in (members[place] for place in places)} - {path for path, _ in samples}
    yield Group("", base, [path for path, _ in members if path not in broken], [sample for _, sample in samples])


def _alike(one: Sample, other: Sample) -> bool:
    first, second = set(one.columns), set(other.columns)
    if one.format != other.format:
        return False
    return len(first & second) >= ALIKE * min(len(first), len(second))


def _without_drafts(groups: list[Group]) -> list[Group]:
    """Put drafts (such as GA4's intraday tables) to the files that replace them, where the preset knows both."""
    kept: list[Group] = []
    for one in groups:
        match = recognise(one.samples[0])
        drafts = given(match.preset).get("drafts", {}) if match else {}
        pattern = VARYING.sub("*", one.pattern)
        for part, final in drafts.items():
            partner = VARYING.sub("*", pattern.replace(part, final))
            home = next((k for k in groups if k is not one and VARYING.sub("*", k.pattern) == partner), None)
            if part in pattern and home is not None and home.base == one.base:
                home.files = sorted([*home.files, *one.files])
                break
        else:
            kept.append(one)
    return kept


def _give_names(groups: Sequence[Group]) -> None:
    taken: set[str] = set()
    for one in groups:
        name = source_name(one.files[0])
        if name in taken and one.files[0].parent != one.base:
            name = source_name(Path(one.files[0].parent.name) / f"{one.files[0].parent.name}_{name}.csv")
        number = 2
        wanted = name
        while name in taken:
            name = f"{wanted}_{number}"
            number += 1
        taken.add(name)
        one.name = name


def wildcard(names: Sequence[str]) -> str:
    """Return the pattern of names: what they share, and * where they differ.

    >>> wildcard(["events_20250101.csv", "events_20250102.csv"])
    'events_*.csv'
    >>> wildcard(["2025/01/a.jsonl", "2025/02/a.jsonl"])
    '2025/*/a.jsonl'
    """
    if len(names) == 1:
        return names[0]
    parts = [PurePosixPath(name).parts for name in names]
    if len({len(one) for one in parts}) > 1:
        return f"**/{_differing([one[-1] for one in parts])}"
    return "/".join(_differing(list(level)) for level in zip(*parts, strict=True))


def _differing(names: list[str]) -> str:
    if len(set(names)) == 1:
        return names[0]
    shortest = min(map(len, names))
    start = next((at for at in range(shortest) if len({name[at] for name in names}) > 1), shortest)
    rest = shortest - start
    end = next((at for at in range(rest) if len({name[-1 - at] for name in names}) > 1), rest)
    # Whole numbers: what is shared of a date is not shared by the next file.
    head = names[0][:start].rstrip("0123456789")
    tail = names[0][len(names[0]) - end :].lstrip("0123456789") if end else ""
    return f"{head}*{tail}"
