"""Cut a small file out of a raw file, so that a mapping can be tried in seconds however large the export is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from journeykit import engine
from journeykit.adapters import format_of, packed, text, xes
from journeykit.config import Source
from journeykit.discover.samples import LATER_BYTES, PLACES, documents_in, whole_lines
from journeykit.errors import JourneyError
from journeykit.raw_files import LocalFile, QueryResult, RawFile, RemoteFile
from journeykit.sql import path_literal

WHOLE = 1 << 20  # bytes up to which a file is tried as it is
HEAD = 4 << 20  # bytes of a larger one that are read from its beginning
ROWS = 1000  # of its beginning
WORKBOOK = 64 << 20  # bytes of the largest workbook that is tried


@dataclass(frozen=True)
class Cut:
    """A small file that stands for a raw file, and how it is written where that is another way."""

    source: Source
    file: RawFile
    whole: bool  # it is all of the file


def cut(source: Source, file: RawFile, scratch: Path) -> Cut:
    """Return a small file that begins like a raw file and holds some of its later rows.

    Raises:
        JourneyError: the file cannot be opened, or is too large a workbook to be tried.
    """
    where = f"sources.{source.name}: {file.name}"
    match file:
        case QueryResult():
            query = f"SELECT * FROM ({file.query.rstrip().rstrip(';')}) AS beginning LIMIT {ROWS}"
            return Cut(source, replace(file, query=query), False)
        case RemoteFile():
            return _remote(source, file, scratch, where)
        case LocalFile():
            return _local(source, file, scratch, where)
    raise TypeError(f"no way to cut {type(file).__name__}")


def _remote(source: Source, file: RemoteFile, scratch: Path, where: str) -> Cut:
    """Fetch the beginning of a remote file; what cannot be used in part is fetched whole."""
    form = format_of(source, PurePosixPath(file.name.removesuffix(".gz")).name)
    if form in ("parquet", "excel") or file.name.endswith(tuple(packed.ENDINGS)):
        return Cut(source, file, False)
    try:
        with file.filesystem.open(file.location, "rb") as stream:
            begin = stream.read(HEAD)
    except Exception as error:  # each file system raises errors of its own
        raise JourneyError(f"{where}: cannot be opened ({type(error).__name__}). Check the address.") from None
    path = scratch / PurePosixPath(file.name).name
    path.write_bytes(begin if len(begin) < HEAD else begin[: begin.rfind(b"\n") + 1])
    return _local(source, LocalFile(name=file.name, path=path), scratch / "beginning", where)


def _local(source: Source, file: LocalFile, scratch: Path, where: str) -> Cut:
    scratch.mkdir(parents=True, exist_ok=True)
    kind = packed.packing(file.path, file.name, where)
    inner = packed.inner_name(file.path, file.name, kind, where)
    form = format_of(source, inner)
    if form == "parquet" and not kind:
        return _parquet(source, file, scratch)
    if form == "excel" or form == "parquet":
        if file.path.stat().st_size > WORKBOOK:
            raise JourneyError(f"{where}: too large to be tried as {form}. Export it as CSV, or unpack it.")
        return Cut(source, file, True)
    head = _beginning(packed.chunks(file.path, kind, where))
    if len(head) <= WHOLE:
        return Cut(source, file, True)
    name = PurePosixPath(file.name).parent / PurePosixPath(inner).name
    target = scratch / PurePosixPath(inner).name
    if form == "xes":
        return _xes(source, head, scratch, name.as_posix(), where)
    if form == "json":
        return _json(source, head, scratch, name.as_posix(), where)
    later = [] if kind or (b'"' in head and form == "csv" and not _plain_quotes(head)) else _later(file.path)
    target.write_bytes(_lines(head, ROWS) + b"".join(later))
    return Cut(source, LocalFile(name=name.as_posix(), path=target), False)


def _beginning(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= HEAD:
            break
    return head[:HEAD]


def _lines(head: bytes, most: int) -> bytes:
    """The first lines, and where quotes may hold line ends, not only a part of a row."""
    lines = io.BytesIO(head).readlines()
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    end = most
    quotes = sum(line.count(b'"') for line in lines[:end])
    while quotes % 2 and end < len(lines):
        quotes += lines[end].count(b'"')
        end += 1
    return b"".join(lines[:end]) or head


def _plain_quotes(head: bytes) -> bool:
    """Whether every quote is closed in its own line, so that any line begins a row."""
    return all(line.count(b'"') % 2 == 0 for line in io.BytesIO(_lines(head, ROWS)))


def _later(path: Path) -> list[bytes]:
    size = path.stat().st_size
    pieces = []
    with path.open("rb") as file:
        for place in PLACES:
            file.seek(max(HEAD, int((size - LATER_BYTES) * place)))
            pieces.append(_lines(whole_lines(file.read(LATER_BYTES)), 100))
    return pieces


def _parquet(source: Source, file: LocalFile, scratch: Path) -> Cut:
    table = f"read_parquet({path_literal(file.path)})"
    target = scratch / file.path.name
    try:
        engine.run(f"COPY (SELECT * FROM {table} LIMIT {ROWS}) TO {path_literal(target)} (FORMAT parquet)")
    except engine.EngineError:
        return Cut(source, file, True)  # reading it says what is wrong
    return Cut(source, LocalFile(name=file.name, path=target), False)


def _xes(source: Source, head: bytes, scratch: Path, name: str, where: str) -> Cut:
    target = scratch / "log.jsonl"
    try:
        xes.write_lines([head], target, where)
    except JourneyError:  # the log goes on beyond what was read
        if not target.exists() or not target.stat().st_size:
            raise
    target.write_bytes(_lines(target.read_bytes(), ROWS))
    return Cut(_as(source, "jsonl"), LocalFile(name=name, path=target), False)


def _json(source: Source, head: bytes, scratch: Path, name: str, where: str) -> Cut:
    encoding = text.encoding_of(head, source.encoding, where)
    records, items = documents_in(head.decode(encoding, errors="replace"))
    if records != source.records:
        raise JourneyError(
            f"{where}: the list of records is {records or 'the document itself'!r}, and records says "
            f"{source.records!r}. Set records = {records!r}."
        )
    target = scratch / "records.jsonl"
    with target.open("w", encoding="utf-8") as out:
        for _, item in zip(range(ROWS), items, strict=False):
            out.write(json.dumps(item, ensure_ascii=False) + "\n")
    return Cut(_as(source, "jsonl"), LocalFile(name=name, path=target), False)


def _as(source: Source, form: str) -> Source:
    return source.model_copy(update={"format": form, "records": "", "encoding": "utf-8"})
