"""Look at a bounded part of a file: its format, its columns, and some rows as text, without ever reading it whole."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from journeykit import engine
from journeykit.adapters import FORMATS, readable
from journeykit.config import Source
from journeykit.discover import delimited
from journeykit.discover.nested import flat
from journeykit.errors import JourneyError
from journeykit.raw_files import LocalFile
from journeykit.sql import path_literal

KIND_BYTES = 256 * 1024  # of a file that say what it is
HEAD_ROWS = 1000
LATER_ROWS = 100  # at each of the later places
HEAD_BYTES = 4 * 1024 * 1024
LATER_BYTES = 64 * 1024
PLACES = (1 / 3, 2 / 3, 1.0)  # of the file, where later rows are taken
PACKED_BYTES = 32 * 1024 * 1024  # of a gzipped file that are unpacked to find later rows
CONVERTED_BYTES = 64 * 1024 * 1024  # of the largest workbook or event log that is looked at
MOST_COLUMNS = 1000

ENDINGS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", **FORMATS}
del ENDINGS[".xls"]  # what is called so is as often a CSV
TAKEN = (*ENDINGS, ".gz", ".xls")  # of a folder, files with one of these endings are looked at


@dataclass(frozen=True)
class Sample:
    """Some rows of a file, each a column = text table ("" where it is empty), and how the file is written."""

    path: Path
    format: str
    columns: tuple[str, ...] = ()
    rows: list[dict[str, str]] = field(default_factory=list)
    later_n: int = 0  # of the rows, those from later places of the file
    encoding: str = "utf-8"
    dialect: delimited.Dialect = field(default_factory=delimited.Dialect)
    records: str = ""
    header_zone: str = ""
    notes: tuple[str, ...] = ()

    def values(self, column: str) -> list[str]:
        """Return the filled values of a column, in the order of the rows."""
        return [row[column] for row in self.rows if row.get(column)]


def look(path: Path) -> Sample:
    """Return a sample of a file: about its first 1,000 rows and some from later.

    Raises:
        JourneyError: the file cannot be read as anything that is known, or is empty.
    """
    form = kind(path)
    try:
        if form == "parquet":
            found = _parquet(path)
        elif form in ("xes", "excel"):
            found = _readable(path, form)
        else:
            found = _text(path, form)
    except (OSError, EOFError, engine.EngineError) as error:
        said = " ".join(str(error).split())[:160]
        raise JourneyError(f"{path.name}: cannot be read as {form} ({said}). Mend the file or leave it out.") from None
    found = _opened(found)
    if not found.columns or not found.rows:
        raise JourneyError(f"{path.name}: holds no rows. Leave it out, or give a file with data.")
    if len(found.columns) > MOST_COLUMNS:
        note = f"has {len(found.columns):,} columns; only the first {MOST_COLUMNS:,} were looked at"
        return replace(found, columns=found.columns[:MOST_COLUMNS], notes=(*found.notes, note))
    return found


def kind(path: Path) -> str:
    """Return the format of a file: by what it begins with, and where that says nothing, by its ending."""
    try:
        with _open(path) as file:
            begin = file.read(KIND_BYTES)
    except (OSError, EOFError) as error:
        raise JourneyError(f"{path.name}: cannot be opened ({error}). Mend the file or leave it out.") from None
    name = path.name.removesuffix(".gz")
    ending = ENDINGS.get(Path(name).suffix.lower(), "")
    if begin.startswith(b"PAR1"):
        return "parquet"
    if begin.startswith(b"PK\x03\x04") and ending == "excel":
        return "excel"
    if begin.startswith((b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"7z\xbc\xaf", b"\xd0\xcf\x11\xe0", b"%PDF")):
        raise JourneyError(
            f"{path.name}: is packed or written in a format that is not read. "
            "Unpack it, or export it as CSV, JSON Lines, Parquet, XES or xlsx."
        )
    shown = begin.lstrip(b"\xef\xbb\xbf \t\r\n")
    if shown.startswith(b"<") and (ending == "xes" or b"<log" in begin):
        return "xes"
    if shown.startswith(b"[") and (ending == "json" or shown[1:].lstrip().startswith(b"{")):
        return "json"
    if shown.startswith(b"{"):
        first, _, rest = shown.partition(b"\n")
        if _is_json(first):  # a line of many, or a document on one line
            return "json" if ending == "json" and not rest.strip() else "jsonl"
        if ending != "csv":
            return "jsonl" if ending == "jsonl" else "json"
    return "csv" if ending in ("", "csv", "jsonl", "json") else ending


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _pieces(path: Path) -> tuple[bytes, list[bytes], bool]:
    """Return the beginning of a text file, pieces from later in it (whole lines), and whether that is all of it."""
    with _open(path) as file:
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            return head, [], True
        later = []
        if path.suffix == ".gz":
            last = b""
            for _ in range(PACKED_BYTES // HEAD_BYTES - 1):
                piece = file.read(HEAD_BYTES)
                last = piece[-LATER_BYTES:] or last
                if len(piece) < HEAD_BYTES:
                    break
            later.append(last)
        else:
            size = path.stat().st_size
            for place in PLACES:
                file.seek(max(HEAD_BYTES, int((size - LATER_BYTES) * place)))
                later.append(file.read(LATER_BYTES))
    return head, [whole_lines(piece) for piece in later], False


def whole_lines(piece: bytes) -> bytes:
    """Return a piece of a text without the parts of lines at its ends."""
    return piece[piece.find(b"\n") + 1 : piece.rfind(b"\n") + 1]


def _text(path: Path, form: str) -> Sample:
    head, later, whole = _pieces(path)
    encoding = encoding_of(head)
    if encoding.startswith("utf-16"):
        later = []  # a line end is no single byte there
    text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    parts = [piece.decode(encoding, errors="replace") for piece in later]
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    sample = Sample(path, form, encoding=encoding.removesuffix("-sig"))
    if form == "csv":
        return _csv(sample, text, parts)
    if form == "jsonl":
        return _json_rows(sample, _lines(text), [_lines(part) for part in parts])
    records, documents = documents_in(text)
    found = _json_rows(replace(sample, records=records), documents, [])
    return found if found.rows else _json_rows(sample, _lines(text), [])  # one record on one line


def encoding_of(head: bytes) -> str:
    """Return the encoding of the beginning of a text: UTF-8 or -16 where it is that, else Windows-1252.

    >>> [encoding_of("Maße, Größe".encode(name)) for name in ("utf-8", "cp1252", "utf-16")]
    ['utf-8', 'cp1252', 'utf-16']
    """
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    zeros = head[:4000].count(0)
    if zeros > len(head[:4000]) // 4:
        return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # a letter that was cut at the end is no evidence
            return "cp1252"
    return "utf-8"


def _csv(sample: Sample, text: str, later: list[str]) -> Sample:
    dialect, names, zone, notes = delimited.describe(text)
    found = list(delimited.rows(text, dialect, len(names)))
    bare = replace(dialect, header_rows=0)
    more = spread(found[HEAD_ROWS:])
    more += [cells for piece in later for cells in islice(delimited.rows(piece, bare, len(names)), LATER_ROWS)]
    return replace(
        sample,
        columns=tuple(names),
        rows=[dict(zip(names, cells, strict=True)) for cells in found[:HEAD_ROWS] + more],
        later_n=len(more),
        dialect=dialect,
        header_zone=zone,
        notes=tuple(notes),
    )


def spread(rest: list[Any]) -> list[Any]:
    """Return up to 300 rows, evenly taken out of those beyond the first 1,000.

    >>> len(spread(list(range(5000)))), spread([1, 2])
    (300, [1, 2])
    """
    most = LATER_ROWS * len(PLACES)
    return [rest[number * len(rest) // most] for number in range(most)] if len(rest) > most else rest


def _lines(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                continue


def documents_in(text: str) -> tuple[str, Iterator[Any]]:
    """Return where the list of records stands in a JSON document, and its records as far as the text goes."""
    decoder = json.JSONDecoder()
    start = text.find("[")
    brace = text.find("{")
    if start < 0 or 0 <= brace < start:
        path, start = _first_list(text, decoder)
    else:
        path = ""
    return path, _items(text, start + 1, decoder) if start >= 0 else iter([])


def _first_list(text: str, decoder: json.JSONDecoder) -> tuple[str, int]:
    """Find the first list of objects among the members of a JSON object (and of objects inside it)."""
    at, path = text.find("{") + 1, list[str]()
    while at < len(text):
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            name, at = decoder.raw_decode(text, at)
            at = text.index(":", at) + 1
            while text[at] in " \t\r\n":
                at += 1
            if text[at] == "[" and text[at + 1 :].lstrip()[:1] == "{":
                return ".".join([*path, str(name)]), at
            try:
                _, at = decoder.raw_decode(text, at)
            except ValueError:  # an object that goes on beyond what was read: the list may be in it
                if text[at] != "{":
                    return "", -1
                path.append(str(name))
                at += 1
        except (ValueError, IndexError, RecursionError):
            return "", -1
    return "", -1


def _items(text: str, at: int, decoder: json.JSONDecoder) -> Iterator[Any]:
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            item, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield item


def _json_rows(sample: Sample, head: Iterator[Any], later: list[Iterator[Any]]) -> Sample:
    found = [item for item in head if isinstance(item, dict)]
    more = spread(found[HEAD_ROWS:])
    more += [item for piece in later for item in islice(piece, LATER_ROWS) if isinstance(item, dict)]
    rows = [flat(item) for item in found[:HEAD_ROWS] + more]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    return replace(sample, columns=columns, rows=rows, later_n=len(more))


def _opened(sample: Sample) -> Sample:
    """Add the fields of columns that hold JSON objects as text, by their paths."""
    rows = sample.rows
    added: dict[str, None] = {}
    for column in sample.columns:
        values = sample.values(column)
        if not values or sum(value.startswith("{") for value in values) < 0.9 * len(values):
            continue
        for row in rows:
            inner = next(_lines(row.get(column, "").replace("\n", " ")), None)
            if isinstance(inner, dict):
                fields = {f"json({column}).{name}": value for name, value in flat(inner).items()}
                row |= fields
                added |= dict.fromkeys(fields)
    names = [name for name in added if name not in sample.columns]
    return replace(sample, columns=(*sample.columns, *names)) if names else sample


def _parquet(path: Path) -> Sample:
    table = f"read_parquet({path_literal(path)})"
    columns = [row[0] for row in engine.rows(f"DESCRIBE SELECT * FROM {table}")]
    rows_n = int(engine.rows(f"SELECT sum(num_rows) FROM parquet_file_metadata({path_literal(path)})")[0][0] or 0)
    places = [(0, HEAD_ROWS)]
    if rows_n > 2 * HEAD_ROWS:
        places += [(int((rows_n - LATER_ROWS) * place), LATER_ROWS) for place in PLACES]
    rows: list[dict[str, str]] = []
    for start, most in places:
        numbered = f"read_parquet({path_literal(path)}, file_row_number = true)"
        found = engine.rows(
            "SELECT CAST(to_json(r) AS VARCHAR) FROM (SELECT * EXCLUDE (file_row_number) "
            f"FROM {numbered} WHERE file_row_number >= {start} AND file_row_number < {start + most}) r"
        )
        rows += [flat(json.loads(text)) for (text,) in found]
    seen = dict.fromkeys(name for row in rows for name in row)
    empty = {name: None for name in columns if not any(one == name or one.startswith(f"{name}.") for one in seen)}
    return Sample(path, "parquet", tuple(seen | empty), rows, later_n=max(0, len(rows) - HEAD_ROWS))


def _readable(path: Path, form: str) -> Sample:
    """Look at a file that must be converted first; only files of moderate size are."""
    source = Source.model_validate({"name": "x", "path": "x", "time": {"column": "x"}, "event": "x", "format": form})
    if path.stat().st_size > CONVERTED_BYTES:
        size = CONVERTED_BYTES >> 20
        raise JourneyError(
            f"{path.name}: is larger than {size} MB, too large to be looked at. Write its mapping by hand."
        )
    with tempfile.TemporaryDirectory(prefix="journeykit-") as scratch:
        made = readable(source, LocalFile(name=path.name, path=path), Path(scratch))
        inner = look(made.path)
    return replace(inner, path=path, format=form)
