"""Try a study's mapping on the first rows of each source, so that a mistake shows in seconds and not after a run."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from pathlib import Path

from journeykit import engine
from journeykit.config import Emit, Source, Study
from journeykit.errors import JourneyError
from journeykit.mapping import mapped_sql, meant
from journeykit.sources import RawFile, find_files, literal, read_rows

SAMPLE = 200  # lines
SECRET = b"check"  # nothing that is read here is kept


def problems(plan: Study, folder: Path) -> list[str]:
    """Return what is wrong with the sources of a study, judged by the first rows of their first file.

    A mapped column that is not there, and a source of which no sampled row could be used, each with what to look at.
    """
    found = []
    for source in plan.sources:
        try:
            files = find_files(source, folder)
            found += _try(source, files[0], plan)
        except JourneyError as error:
            found.append(str(error))
    return found


def _try(source: Source, file: RawFile, plan: Study) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        rows, _ = read_rows(source, RawFile(_beginning(source, file.path, Path(folder)), file.name))
    if not rows.columns:
        return []
    emits: list[Emit | None] = [*source.emits] or [None]
    parts = [f"SELECT reason FROM ({mapped_sql(source, file, rows, emit, plan, SECRET)})" for emit in emits]
    counted = engine.rows(f"SELECT reason, count(*) FROM ({' UNION ALL '.join(parts)}) GROUP BY ALL ORDER BY 2 DESC, 1")
    sound = sum(n for reason, n in counted if reason is None)
    total = sum(n for _, n in counted)
    if sound or not total:
        return _none_is_meant(source, rows.name, meant(source, rows)) if not total else []
    column = source.emits[0].time if source.emits else source.time.column
    example = engine.rows(f"SELECT {rows.field(column, '')} FROM {rows.name} r LIMIT 1")[0][0]
    shown = f" The time of the first row is {example!r}." if "time" in counted[0][0] else ""
    return [
        f"sources.{source.name}: none of the first {total} rows of {file.name} could be used; most often: "
        f"{counted[0][0]}.{shown} Mend the mapping in journey.toml."
    ]


def _none_is_meant(source: Source, table: str, condition: str) -> list[str]:
    read, kept = engine.rows(f"SELECT count(*), count(*) FILTER ({condition}) FROM {table} r")[0]
    if not read or kept or not source.where:
        return []
    rule = ", ".join(f"{column} = {values}" for column, values in source.where.items())
    return [f"sources.{source.name}: where ({rule}) excludes all of the first {read} rows. Mend the rule or drop it."]


def _beginning(source: Source, path: Path, folder: Path) -> Path:
    """Write the first lines of a file to a folder of its own; a Parquet file's first rows."""
    target = folder / f"sample{'.parquet' if source.format == 'parquet' else '.txt'}"
    if source.format == "parquet":
        query = f"SELECT * FROM read_parquet({literal(str(path))}) LIMIT {SAMPLE}"
        engine.run(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet)")
        return target
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as lines, target.open("wb") as out:
        out.writelines(itertools.islice(lines, SAMPLE))
    return target
