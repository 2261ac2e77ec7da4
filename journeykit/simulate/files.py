"""Write raw files as vendors do, with duplicates and broken rows among the good ones, and keep account of each."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from journeykit.simulate.plan import ZONE, Ints

Lines = npt.NDArray[np.object_]
GOOD, DUPLICATE = "", "duplicate"


@dataclass(frozen=True)
class Batch:
    """The lines of one file, what each is (GOOD, DUPLICATE or a reason), and which good row each stems from."""

    lines: Lines
    kinds: Lines
    base: Ints


@dataclass
class Export:
    """What one vendor's file says: its lines, the true events in it and the identifiers that it shows.

    events: row (of people), at (µs UTC), event, value, satisfaction. identifiers: identifier, value, row.
    counts: further numbers for the truth, such as late rows. left_out: rows that the study does not mean.
    """

    file: str
    header: str
    batch: Batch
    events: pd.DataFrame
    identifiers: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)


class Raw:
    """The folder of raw files; it appends chunk after chunk and counts what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accounts: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, pq.ParquetWriter] = {}

    def write(self, export: Export) -> None:
        """Append a file's lines; the header is written once."""
        path = self.folder / export.file
        fresh = export.file not in self.accounts
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(export.batch.lines.tolist()) + "\n" if len(export.batch.lines) else ""
        data = ((export.header if fresh else "") + text).encode()
        with path.open("wb" if fresh else "ab") as file:
            if path.suffix == ".gz":
                # Neither the time nor the name goes into the archive, so that equal content gives equal bytes.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    packed.write(data)
            else:
                file.write(data)
        self.count(export.file, export.batch.kinds, export.counts)

    def write_table(self, file: str, table: pa.Table, kinds: Lines, counts: Mapping[str, int]) -> None:
        """Append rows to a Parquet file."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if file not in self.tables:
            self.tables[file] = pq.ParquetWriter(path, table.schema, compression="zstd")
        self.tables[file].write_table(table)
        self.count(file, kinds, counts)

    def count(self, file: str, kinds: Lines, counts: Mapping[str, int]) -> None:
        """Add rows to a file's account; rows = kept + continued + left_out + duplicates + malformed."""
        account = self.accounts.setdefault(
            file, {"rows": 0, "kept": 0, "continued": 0, "left_out": 0, "duplicates": 0, "malformed": {}}
        )
        names, numbers = np.unique(kinds.astype(str), return_counts=True)
        found = dict(zip(names.tolist(), numbers.tolist(), strict=True))
        account["rows"] += len(kinds)
        account["duplicates"] += found.pop(DUPLICATE, 0)
        apart = counts.get("continued", 0) + counts.get("left_out", 0)
        account["kept"] += found.pop(GOOD, 0) - apart
        for reason, n in found.items():
            account["malformed"][reason] = account["malformed"].get(reason, 0) + n
        for name, n in counts.items():
            account[name] = account.get(name, 0) + n

    def close(self) -> None:
        """Finish the Parquet files."""
        for writer in self.tables.values():
            writer.close()


def mix(rng: np.random.Generator, lines: Lines, duplicates: int, broken: Mapping[str, tuple[Ints, Lines]]) -> Batch:
    """Put exact copies and broken rows among the good ones, each after the row that it stems from.

    >>> mix(np.random.default_rng(1), np.array(["a", "b"], dtype=object), 1, {}).lines.tolist()
    ['a', 'a', 'b']
    """
    copied = np.sort(rng.choice(len(lines), min(duplicates, len(lines)), replace=False))
    base = [np.arange(len(lines)), copied]
    text, kinds = [lines, lines[copied]], [np.full(len(lines), GOOD, object), np.full(len(copied), DUPLICATE, object)]
    for reason, (rows, bad) in broken.items():
        base.append(rows)
        text.append(bad)
        kinds.append(np.full(len(rows), reason, dtype=object))
    stem = np.concatenate(base)
    order = np.argsort(stem, kind="stable")
    return Batch(np.concatenate(text)[order], np.concatenate(kinds)[order], stem[order])


def some(rng: np.random.Generator, candidates: Any, people: int, usual: int) -> Ints:
    """Pick rows to spoil: `usual` of them for 6,000 people, in proportion for more or fewer, at least one."""
    rows = np.flatnonzero(np.asarray(candidates))
    wanted = max(1, round(usual * people / 6000))
    result: Ints = np.sort(rng.choice(rows, min(wanted, len(rows)), replace=False))
    return result


def csv_lines(frame: pd.DataFrame) -> Lines:
    """Return a table as CSV lines without a header."""
    if frame.empty:
        return np.empty(0, dtype=object)
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False, lineterminator="\n")
    return np.array(buffer.getvalue()[:-1].split("\n"), dtype=object)


def csv_header(frame: pd.DataFrame) -> str:
    """Return the header line of a table."""
    return ",".join(frame.columns) + "\n"


def iso(times: Ints, unit: str = "s") -> Lines:
    """Return times as ISO 8601 with Z; empty where the time is not in this era.

    >>> iso(np.array([0])).tolist()
    ['1970-01-01T00:00:00Z']
    """
    real = np.asarray(times) < 4e15
    moments = np.where(real, times, 0).astype("datetime64[us]")
    written = np.datetime_as_string(moments, unit=unit).astype(object) + "Z"  # type: ignore[call-overload]
    return np.where(real, written, "")


def local(times: Ints, pattern: str) -> Lines:
    """Return times as text on the clock of the study's zone."""
    if len(times) == 0:
        return np.empty(0, dtype=object)
    clock = pd.DatetimeIndex(np.asarray(times).astype("datetime64[us]")).tz_localize("UTC").tz_convert(ZONE)
    if "%H" in pattern:
        return np.asarray(clock.strftime(pattern), dtype=object)
    # Dates repeat: each day is written once.
    days, which = np.unique(clock.tz_localize(None).to_numpy().astype("datetime64[D]"), return_inverse=True)
    return np.asarray(pd.DatetimeIndex(days).strftime(pattern), dtype=object)[which]


def happened(row: Any, at: Any, event: Any) -> pd.DataFrame:
    """Return true events: row (of people), at, event."""
    return pd.DataFrame({"row": np.asarray(row), "at": np.asarray(at), "event": event})


def shown(row: Any, **values: Any) -> pd.DataFrame:
    """Return the identifiers that rows show; empty values are left out."""
    parts = [
        pd.DataFrame({"identifier": name, "value": np.asarray(value), "row": np.asarray(row)})
        for name, value in values.items()
    ]
    found = pd.concat(parts, ignore_index=True)
    return found[found["value"] != ""].drop_duplicates(ignore_index=True)
