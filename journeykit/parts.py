"""The parts of `derived/`: each raw file, read once and kept as one Parquet file until it or its mapping changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from journeykit import engine
from journeykit.adapters import Readable, readable
from journeykit.config import Source, Study
from journeykit.errors import JourneyError
from journeykit.fields import lookup_marks, prepare_lookups
from journeykit.mapping import columns_of, part_sql
from journeykit.raw_files import QueryResult, RawFile, find_files
from journeykit.sources import Broken, Loaded, Rows, load, open_rows, zone_in_header
from journeykit.sql import path_literal

# Keys that do not change a part.
MERGED_LATER = {"path", "drafts", "duplicates", "late_after", "stops", "database", "similar"}
# Keys that do: how a value becomes a token, or marks nobody.
TOKENS = {"identifiers", "blocked", "blocked_patterns", "phones", "phone_region", "merge_email_dots"}


@dataclass(frozen=True)
class Part:
    """One raw file as it was read."""

    source: Source
    file: RawFile
    key: str  # of what it was made from: the file's bytes, the mapping, the secret
    path: Path
    content: str = ""  # hash of the file's bytes
    columns: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()
    headers: int = 0  # lines above the data
    lines: tuple[tuple[int, int], ...] = ()  # row and line, where they differ by more than that
    note: str = ""


@dataclass(frozen=True)
class Inputs:
    """What all parts of a study are made from, beside the files."""

    plan: Study
    folder: Path
    secret: bytes
    erased: Mapping[str, Sequence[str]]
    scratch: Path  # a folder for as long as the parts are made
    results: dict[str, Readable] = field(default_factory=dict)  # of queries, by source
    prepared: set[str] = field(default_factory=set)  # sources whose lookups are at hand


def current(inputs: Inputs, home: Path) -> list[Part]:
    """Return the parts of a study as they must be now; nothing is read yet but the bytes of the files."""
    found = []
    for source in inputs.plan.sources:
        common = _common(source, inputs)
        for file in find_files(source, inputs.folder):
            content = "" if file.superseded_by else _content(source, file, inputs)
            key = hashlib.sha256(f"{common}|{content}|{bool(file.superseded_by)}".encode()).hexdigest()[:20]
            found.append(Part(source, file, key, home / source.name / f"{key}.parquet", content))
    return found


def _content(source: Source, file: RawFile, inputs: Inputs) -> str:
    """A hash of a file's bytes; a query is run once, and what it gave then is what is read."""
    if not isinstance(file, QueryResult):
        return file.fingerprint()
    made = inputs.results[source.name] = readable(source, file, inputs.scratch)
    return made.fingerprint


@cache
def _code() -> str:
    """A hash of the package: a part that another version made is made anew."""
    home = Path(__file__).parent
    paths = [path for folder in (home, home / "adapters", home / "engine") for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _common(source: Source, inputs: Inputs) -> str:
    """A hash of what the parts of a source depend on beside its files."""
    plan = inputs.plan
    said = {
        "source": source.model_dump(exclude=MERGED_LATER),
        "identity": plan.identity.model_dump(include=TOKENS),
        "observed": (plan.study.earliest, plan.study.as_of),
        "columns": columns_of(plan).all,
        "erased": {name: sorted(tokens) for name, tokens in inputs.erased.items()},
        "lookups": lookup_marks(source, inputs.folder),
        "made by": (_code(), engine.describe(), hashlib.sha256(inputs.secret).hexdigest()),
    }
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()


def is_made(part: Part) -> bool:
    """Return whether a part is on disk, with what is known of its file."""
    return part.path.exists() and part.path.with_suffix(".json").exists()


def ensure(part: Part, inputs: Inputs) -> Part:
    """Return a part with what is known of its file, reading the file when that was not done before.

    Raises:
        JourneyError: the file cannot be read as journey.toml describes it, or lacks a mapped column.
    """
    beside = part.path.with_suffix(".json")
    if not is_made(part):
        try:
            _read(part, inputs, beside)
        except engine.EngineError as error:
            why = str(error).split("\n")[0]
            raise JourneyError(
                f"sources.{part.source.name}: {part.file.name} cannot be read as journey.toml describes it: {why}. "
                "Look at format, encoding, delimiter, header_rows and time."
            ) from error
    known = json.loads(beside.read_text(encoding="utf-8"))
    broken = tuple(Broken(**row) for row in known["broken"])
    note = f"draft of {part.file.superseded_by}, not read" if part.file.superseded_by else known["note"]
    lines = tuple((int(row), int(line)) for row, line in known["lines"])
    return replace(
        part, columns=tuple(known["columns"]), broken=broken, headers=known["headers"], lines=lines, note=note
    )


def _read(part: Part, inputs: Inputs, beside: Path) -> None:
    part.path.parent.mkdir(parents=True, exist_ok=True)
    target = part.path.with_name(f"{part.path.name}.{os.getpid()}.part")
    where = f"sources.{part.source.name}: {part.file.name}"
    rows, source, broken, note = Rows("(SELECT 1 WHERE false)", ()), part.source, [], ""
    loaded = Loaded([])
    with TemporaryDirectory(prefix="journeykit-") as name, _gone_on_error(target):
        scratch = Path(name)
        if not part.file.superseded_by:
            made = inputs.results.get(source.name) or readable(source, part.file, scratch)
            rows = open_rows(source, made)
            broken = [Broken(line, reason, 0) for line, reason in made.broken]
            note = f"{made.replaced:,} characters could not be decoded" if made.replaced else ""
            if source.time.zone == "header":
                source = _in_zone(source, zone_in_header(source, rows) if rows.columns else "UTC")
        if rows.columns or rows.line:
            if source.name not in inputs.prepared:
                prepare_lookups(source, inputs.folder)
                inputs.prepared.add(source.name)

            def write(rows: Rows) -> int:
                query = part_sql(source, rows, inputs.plan, inputs.secret, inputs.erased)
                return int(engine.rows(_copy(query, target))[0][0])

            def bad() -> list[int]:
                found = engine.rows(
                    f"SELECT file_row_number + 1 FROM read_parquet({path_literal(target)}, file_row_number = true) "
                    "WHERE record IS NOT NULL"
                )
                return [row for (row,) in found]

            loaded = load(made, rows, write, bad, scratch, where)
        else:
            engine.run(_copy("SELECT 1 AS nothing WHERE false", target))
    known = {
        "columns": rows.columns,
        "broken": [asdict(row) for row in [*broken, *loaded.broken]],
        "headers": loaded.headers,
        "lines": list(loaded.lines.items()),
        "note": note,
    }
    noted = beside.with_name(f"{beside.name}.{os.getpid()}.part")
    noted.write_text(json.dumps(known), encoding="utf-8")
    os.replace(noted, beside)
    os.replace(target, part.path)


@contextmanager
def _gone_on_error(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _copy(query: str, target: Path) -> str:
    return f"COPY ({query}) TO {path_literal(target)} (FORMAT parquet, COMPRESSION lz4)"


def _in_zone(source: Source, zone: str) -> Source:
    try:
        time = type(source.time).model_validate({**source.time.model_dump(), "zone": zone})
    except ValueError:
        raise JourneyError(
            f"sources.{source.name}.time.zone: the header names {zone!r}, which is no time zone. Set zone yourself."
        ) from None
    return source.model_copy(update={"time": time})


def forget(home: Path, kept: Sequence[Part]) -> None:
    """Delete parts of files that are gone, were rewritten, or are mapped in another way now."""
    names = {part.path for part in kept} | {part.path.with_suffix(".json") for part in kept}
    for path in home.glob("*/*"):
        if path not in names:
            path.unlink(missing_ok=True)
    for folder in home.glob("*/"):
        if not any(folder.iterdir()):
            folder.rmdir()
