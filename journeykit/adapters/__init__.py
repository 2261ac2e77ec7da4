"""Make what vendors export readable for the engine: each kind of file becomes UTF-8 CSV, JSON Lines or Parquet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from journeykit.adapters import database, documents, excel, packed, remote, text, xes
from journeykit.config_sources import Source
from journeykit.errors import JourneyError
from journeykit.raw_files import LocalFile, QueryResult, RawFile, RemoteFile

Format = Literal["csv", "jsonl", "json", "parquet", "xes", "excel"]

FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xes": "xes",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xls": "excel",
}
HEAD = 1 << 18  # bytes by which encoding and layout are told


@dataclass(frozen=True)
class Readable:
    """A file that the engine reads: UTF-8 CSV or JSON Lines, perhaps gzipped, or Parquet."""

    path: Path
    format: Literal["csv", "jsonl", "parquet"]
    delimiter: str
    quote: str
    header_rows: int
    replaced: int = 0  # characters that could not be decoded and stand as U+FFFD in their rows
    broken: tuple[tuple[int, str], ...] = ()  # number of the row in the file, and why; an empty line stands for it
    fingerprint: str = ""  # of what was really read, where that is no file of this machine
    name: str = field(default="", compare=False)  # how messages call it
    file: RawFile | None = field(default=None, compare=False)  # what it was made from


def format_of(source: Source, name: str) -> Format:
    """Return how a file is written: as the source says, or by the ending of its name without that of its packing."""
    return source.format or FORMATS.get(PurePosixPath(name.lower()).suffix, "csv")


def readable(source: Source, file: RawFile, scratch: Path) -> Readable:
    """Return a file as the engine reads it: the file itself where it is plain, else a converted copy in `scratch`.

    Files are converted as streams, in bounded memory.

    Raises:
        JourneyError: the file is not what the source says, is damaged, unpacks far beyond its size, or is out of reach.
    """
    where = f"sources.{source.name}: {file.name}"
    target = scratch / hashlib.sha256(f"{source.name}|{file.name}".encode()).hexdigest()[:16]
    plain = Readable(Path(), "csv", source.delimiter, source.quote, source.header_rows, name=file.name, file=file)
    try:
        match file:
            case QueryResult():
                path = target.with_suffix(".parquet")
                return replace(plain, path=path, format="parquet", fingerprint=database.extract(file, path))
            case RemoteFile():
                copy, fingerprint = remote.fetch(file, target, where)
                made = _convert(source, copy, file.name.split("::")[0], target, where, plain)
                if made.path != copy:
                    copy.unlink()
                return replace(made, fingerprint=fingerprint)
            case LocalFile():
                return _convert(source, file.path, file.name, target, where, plain)
            case _:
                raise TypeError(f"no way to read {type(file).__name__}")
    except OSError as error:
        raise JourneyError(
            f"{where}: cannot be read: {error.strerror or error}. Check the file and the disk."
        ) from None


def _convert(source: Source, path: Path, name: str, target: Path, where: str, plain: Readable) -> Readable:
    """Return a local file as the engine reads it."""
    kind = packed.packing(path, name, where)
    inner = packed.inner_name(path, name, kind, where)
    form = format_of(source, inner)
    if form in ("parquet", "excel"):
        whole = packed.unpack(path, kind, target.with_suffix(".whole"), where) if kind else path
        if form == "parquet":
            _require_parquet(whole, where)
            return replace(plain, path=whole, format="parquet")
        table = target.with_suffix(".csv")
        excel.write_csv(whole, table, source.sheet, where)
        if kind:
            whole.unlink()
        return replace(plain, path=table, delimiter=",", quote='"')
    content = packed.chunks(path, kind, where)
    if form == "xes":
        lines = target.with_suffix(".jsonl")
        xes.write_lines(content, lines, where)
        return replace(plain, path=lines, format="jsonl")
    head = next(packed.chunks(path, kind, where, HEAD), b"")
    _refuse_binary(head, form, where)
    encoding = text.encoding_of(head, source.encoding, where)
    decoded = text.Decoded(content, encoding, where)
    start = "".join(text.Decoded([head], encoding, where)) if form == "json" else ""
    if form == "json" and (source.records or not documents.is_lines(start)):
        lines = target.with_suffix(".jsonl")
        broken = documents.write_lines(decoded.encoded(), lines, source.records, where)
        found = "" if source.records else documents.missing_records(lines, source.time.column.column)
        if found:
            raise JourneyError(f"{where}: is one object with its rows inside a list. Set records = {found!r}.")
        return replace(plain, path=lines, format="jsonl", broken=tuple(broken), replaced=decoded.replaced)
    if form == "csv" and source.delimiter == "blanks":
        table = target.with_suffix(".csv")
        text.write_blanks(decoded, table, where)
        return replace(plain, path=table, delimiter=",", quote='"', replaced=decoded.replaced)
    made = replace(plain, format="csv" if form == "csv" else "jsonl")
    copy = target.with_suffix(f".{made.format}")
    if encoding not in (text.UTF8, "utf-8-sig"):
        text.write(decoded.encoded(), copy)
        return replace(made, path=copy, replaced=decoded.replaced)
    if kind == "gz" and path.suffix == ".gz":
        packed.refuse_bomb(path, where)
        return replace(made, path=path)
    if kind or path.suffix.lower() in packed.ENDINGS:
        # Bytes that are no UTF-8 stay as they are: the engine sets their rows aside.
        text.write(content, copy)
        return replace(made, path=copy)
    return replace(made, path=path)


def _require_parquet(path: Path, where: str) -> None:
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if (start, file.read(4)) != (b"PAR1", b"PAR1"):
            raise JourneyError(f"{where}: is not a whole Parquet file. Export it again, or set format to what it is.")


def _refuse_binary(head: bytes, form: str, where: str) -> None:
    """Raise JourneyError for a file that is no text, whatever its ending says."""
    known = {b"PAR1": "parquet", b"PK\x03\x04": "excel", excel.OLE: "excel"}
    found = next((name for mark, name in known.items() if head.startswith(mark)), "")
    if found:
        raise JourneyError(f'{where}: is read as {form}, but its content is {found}. Set format = "{found}".')
