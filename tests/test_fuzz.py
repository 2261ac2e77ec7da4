"""Bad input: a mutated file is read with its accounting balanced, or refused with what is wrong and what to do.

`JOURNEYKIT_FUZZ=2000` tries that many mutations of each kind of file, at random, instead of the few of every run.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import signal
import tempfile
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from journeykit import events, privacy, redaction, study
from journeykit.errors import JourneyError
from journeykit.raw_files import LocalFile
from tests.test_events import make_study, read

EXAMPLES = int(os.environ.get("JOURNEYKIT_FUZZ", "0"))
PATIENCE = 20  # seconds, after which a file counts as hanging
Table = list[list[str]]
Row = dict[str, str]

COLUMNS = ["at", "event", "who", "value", "note"]
TABLE: Table = [
    COLUMNS,
    ["2025-03-01 10:00:00", "page_home", "c1", "5", "hello"],
    ["2025-03-01 10:00:00", "page_home", "c1", "5", "hello"],
    ["2025-03-01 10:05:00", "page_cart", "c1", "", 'she said "no", twice'],
    ["2025-03-02 09:00:00", "page_home", "c2", "12.50", "two\nlines"],
    ["2025-03-02 09:30:00", "buy", "c2", "99", "Straße, 10 €"],
    ["never", "buy", "c3", "1", "no time"],
    ["2025-03-03 00:00:00", "buy", "", "1", "nobody"],
    ["2025-03-04 23:59:59", "page_home", "c4", "-1", "less than nothing"],
    ["2025-03-05 12:00:00", "page_help", "c5", "0.5", ""],
    ["2025-03-06 12:00:00", "call", "c6", "7", "日本語 text"],
    ["2025-03-07 12:00:00", "call", "c7", "8", "last"],
]
MAPPING = """
time = { column = "at" }
event = "event"
value = "value"
comment = "note"
identifiers = { customer = "who" }
"""


# Files of each kind, how to write a table as one, and how to read it slowly


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name, its keys in journey.toml, its writer, and a reader that owes nothing to the package."""

    name: str
    write: Callable[[Table], bytes]
    read: Callable[[bytes], list[Row] | None]  # every row that the file may hold; None: nothing is known of it
    keys: str = MAPPING
    text: bool = True  # its bytes are text
    unpack: Callable[[bytes], dict[str, bytes]] | None = None  # its members
    pack: Callable[[dict[str, bytes]], bytes] | None = None


def write_csv(table: Table) -> bytes:
    out = io.StringIO()
    rows = [*table[:1], [f"the {name}" for name in table[0]], *table[1:]] if table else []
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def decodings(content: bytes) -> list[str]:
    """The texts that bytes may stand for, the likely one first."""
    found = [content.decode("utf-8", "replace").removeprefix("\ufeff")]
    if b"\0" in content or content[:1] in (b"\xff", b"\xfe"):
        for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
            try:
                found.append(content.decode(encoding, "replace").removeprefix("\ufeff"))
            except UnicodeError:
                continue
    return found


def unique(names: list[str]) -> list[str]:
    """Names as the package makes them unique: the first of a name keeps it."""
    made: list[str] = []
    for place, name in enumerate(names, start=1):
        bare = name.strip() or f"column_{place}"
        number, one = 1, bare
        while one.lower() in {other.lower() for other in made}:
            number += 1
            one = f"{bare}_{number}"
        made.append(one)
    return made


def read_csv(content: bytes) -> list[Row]:
    """Rows from the start, and the row that begins at each line, because a stray quote costs its own line only."""
    found: list[Row] = []
    for text in decodings(content):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if not rows:
            continue
        names = unique(rows[0])
        lines = io.StringIO(text, newline=None).read().split("\n")
        if len(lines) < 300:
            for number in range(len(lines)):
                rows += [row for row in [next(csv.reader(io.StringIO("\n".join(lines[number:]))), [])] if row]
                rows += [row for row in csv.reader([lines[number]]) if row]
        found += [dict(zip(names, row, strict=False)) for row in rows]
    return found


def to_json(table: Table) -> list[dict[str, Any]]:
    return [
        {key: {"id": cell} if key == "who" else cell or None for key, cell in zip(table[0], row, strict=False)}
        for row in table[1:]
    ]


def from_json(found: Any) -> Row:
    if not isinstance(found, dict):
        return {}
    who = found.get("who")
    flat = {**found, "who": who.get("id") if isinstance(who, dict) else None}
    return {key: as_text(value) for key, value in flat.items() if value is not None}


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Exact):
        return value.text
    return json.dumps(value, default=lambda exact: exact.text)


@dataclass(frozen=True)
class Exact:
    """A number as it is written."""

    text: str


def parse_json(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Exact, parse_int=Exact, strict=False, object_pairs_hook=first_of_each)
    except (ValueError, RecursionError):
        return None


def write_jsonl(table: Table) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in to_json(table) or []).encode(
        "utf-8", "surrogatepass"
    )


def read_jsonl(content: bytes) -> list[Row]:
    lines = [line for text in decodings(content) for line in re.split("\r\n|\r|\n", text)]
    return [from_json(parse_json(line.strip())) for line in lines]


def write_json(table: Table) -> bytes:
    return json.dumps({"shop": {"orders": to_json(table)}, "n": len(table)}, ensure_ascii=False, indent=1).encode(
        "utf-8", "surrogatepass"
    )


def read_json(content: bytes) -> list[Row]:
    found: list[Row] = []
    for decoded in decodings(content):
        text = (
            decoded.lstrip("\ufeff").replace("\v", " ").replace("\f", " ")
        )  # the package's parser takes them for blanks
        decoder = json.JSONDecoder(parse_float=Exact, parse_int=Exact, strict=False, object_pairs_hook=first_of_each)
        at = 0
        while at < len(text):
            at = re.compile(r"\s*").match(text, at).end()  # type: ignore[union-attr]
            try:
                document, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            found += list(lists_of_rows(document))
    return found


def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs)) if len({key for key, _ in pairs}) < len(pairs) else dict(pairs)


def lists_of_rows(found: Any) -> Iterator[Row]:
    if isinstance(found, list):
        for item in found:
            yield from_json(item)
            yield from lists_of_rows(item)
    elif isinstance(found, dict):
        for item in found.values():
            yield from lists_of_rows(item)


def write_parquet(table: Table) -> bytes:
    out = io.BytesIO()
    columns = (
        [[row[at] if at < len(row) else None for row in table[1:]] for at in range(len(table[0]))] if table else []
    )
    arrays = [pa.array(column, type=pa.string()) for column in columns]
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, names=table[0] if table else []), out)
    return out.getvalue()


def read_parquet(content: bytes) -> list[Row] | None:
    try:
        found = pyarrow.parquet.read_table(io.BytesIO(content))
        columns = found.to_pydict().values()
    except Exception:  # what stops this reader (a broken note about Arrow's types) need not stop the other
        return None
    names = unique(found.column_names)
    return [
        {name: str(cell) for name, cell in zip(names, cells, strict=True) if cell is not None}
        for cells in zip(*columns, strict=True)
    ]


def write_xes(table: Table) -> bytes:
    log = ElementTree.Element("log")
    for row in table[1:]:
        said = dict(zip(table[0], row, strict=False))
        trace = ElementTree.SubElement(log, "trace")
        ElementTree.SubElement(trace, "string", key="who", value=said.pop("who", ""))
        one = ElementTree.SubElement(trace, "event")
        for key, value in said.items():
            if value:
                ElementTree.SubElement(one, "float" if key == "value" else "string", key=key, value=value)
    return b"<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(
        log, encoding="utf-8", xml_declaration=False
    )


def attributes(element: ElementTree.Element) -> Row:
    known = [child for child in element if child.tag in ("string", "date", "int", "float", "boolean", "id")]
    return {child.get("key", ""): child.get("value", "") for child in reversed(known)}


def read_xes(content: bytes) -> list[Row]:
    try:
        log = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError):
        return []
    found = []
    for trace in log:
        of_trace = {f"case:{key}": value for key, value in attributes(trace).items()}
        found += [{**of_trace, **attributes(one)} for one in trace.iter("event")]
    return [{**row, "who": row.get("case:who", "")} for row in found]


def write_excel(table: Table) -> bytes:
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    for row in table:
        page.append([re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|[\ud800-\udfff]", "", cell)[:32000] for cell in row])
    for cells in page.iter_rows():
        for cell in cells:
            cell.data_type = "n" if cell.value is None else "s"  # a formula is text here, as it is in an export
    out = io.BytesIO()
    book.save(out)
    members = unzip(out.getvalue())
    del members["docProps/core.xml"]  # which tells the time
    return rezip(members)


SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_excel(content: bytes) -> list[Row]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            page = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        rows = []
        for row in page.iter(f"{SHEET}row"):
            cells: dict[int, str] = {}
            for number, cell in enumerate(row.iter(f"{SHEET}c")):
                letters = re.match("[A-Za-z]*", cell.get("r", ""))[0].upper()  # type: ignore[index]
                place = sum((ord(letter) - 64) * 26**at for at, letter in enumerate(reversed(letters))) - 1
                inline = "".join(part.text or "" for part in cell.iter(f"{SHEET}t"))
                cells[place if letters else number] = inline or cell.findtext(f"{SHEET}v") or ""
            rows.append(cells)
    except (ElementTree.ParseError, zipfile.BadZipFile, KeyError, ValueError, LookupError, OSError):
        return []
    rows = [row for row in rows if any(row.values())]
    if not rows:
        return []
    names = unique([rows[0].get(at, "") for at in range(min(200, max(rows[0]) + 1))])
    return [{name: row.get(at, "") for at, name in enumerate(names)} for row in rows]


def unzip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def gunzip(content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError):
        return b""
    except Exception:  # zlib's own
        return b""


NESTED = MAPPING.replace('"who"', '"who.id"')
KINDS = {
    kind.name: kind
    for kind in (
        Kind("a.csv", write_csv, read_csv, MAPPING + "header_rows = 2\n"),
        Kind(
            "a.csv.gz",
            lambda table: gzip.compress(write_csv(table), mtime=0),
            lambda content: read_csv(gunzip(content)) + read_csv(content),
            MAPPING + "header_rows = 2\n",
            text=False,
            unpack=lambda content: {"": gzip.decompress(content)},
            pack=lambda members: gzip.compress(members[""], mtime=0),
        ),
        Kind("a.jsonl", write_jsonl, read_jsonl, NESTED),
        Kind("a.json", write_json, read_json, NESTED + 'records = "shop.orders"\n'),
        Kind("a.parquet", write_parquet, read_parquet, text=False),
        Kind("a.xes", write_xes, read_xes, MAPPING.replace('"who"', '"case:who"')),
        Kind("a.xlsx", write_excel, read_excel, text=False, unpack=unzip, pack=rezip),
    )
}
OPTIONS = [
    "",
    'duplicates = "keep"\n',
    'natural_key = ["at", "event"]\n',
    'event_id = "note"\n',
    'once_per = "note"\n',
    'optional = ["value", "note"]\n',
    'where_not = { event = ["page_c*"] }\n',
    'properties = ["note", "value"]\n',
]


# Mutations

FORMULA = "=cmd|' /C calc'!A0"
NASTY = [
    "",
    " ",
    '"',
    '""',
    "'",
    ",",
    ";",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\0",
    "\x1a",
    "\x1f",
    "\ufeff",
    "\u2028",
    "\x85",
    "\\",
    "\\N",
    "null",
    "NaN",
    "-inf",
    "1e400",
    "9" * 400,
    "1_000",
    "0x10",
    "-0",
    "true",
    "[]",
    "{}",
    '{"a": 1}',
    "<x>",
    "&amp;",
    "]]>",
    FORMULA,
    "+1+1",
    "@SUM(A1)",
    "'; DROP TABLE events; --",
    "%s%n",
    "../../etc/passwd",
    "\u202e",
    "e\u0301" * 9,
    "\U0001f600",
    "0001-01-01",
    "294247-01-10 04:00:54",
    "2025-02-30 00:00:00",
    "2025-03-01T10:00:00Z",
    "infinity",
    "a@b.example",
    "https://x.example/?q=1",
    "who",
    "at",
]


@dataclass
class Mutated:
    """A file, and what is known of it."""

    content: bytes
    clean: bool = True  # only the table was changed, so that every sound row must be found
    table: Table = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(f"{' + '.join(self.done)}: {self.content[:2000]!r}")


def change_table(draw: Any, table: Table) -> str:
    """Change a table in place; return what was done."""
    width = len(table[0]) if table else 0
    first = 0 if draw(st.integers(0, 4)) == 4 else 1  # what breaks the header alone is found soon
    row = draw(st.integers(min(first, max(0, len(table) - 1)), max(0, len(table) - 1)))
    column = draw(st.integers(0, max(0, width - 1)))
    done: str = draw(
        st.sampled_from(
            [
                "cell",
                "cell",
                "drop column",
                "reorder",
                "rename",
                "twice",
                "cut",
                "header twice",
                "long",
                "ragged",
                "many",
                "header only",
                "nothing",
                "formulas",
                "deep",
                "shuffle",
                "column of quotes",
            ]
        )
    )
    match done:
        case "cell" if table and table[row]:
            table[row][min(column, len(table[row]) - 1)] = draw(st.sampled_from(NASTY))
        case "drop column":
            for cells in table:
                del cells[column : column + 1]
        case "reorder" if table:
            order = draw(st.permutations(range(width)))
            table[:] = [[cells[at] if at < len(cells) else "" for at in order] for cells in table]
        case "rename" if table and width:
            table[0][column] = draw(st.sampled_from([table[0][column].upper(), f" {table[0][column]} ", *NASTY]))
        case "twice" if table and width:
            table[0][column] = draw(st.sampled_from(table[0]))
        case "cut":
            del table[row:]
        case "header twice" if table:
            table.insert(row, list(table[0]))
        case "long" if 0 < len(table) < 100 and table[row]:
            cell = draw(st.sampled_from(["x", "9", '"', "é", "a b@c "]))
            table[row][min(column, len(table[row]) - 1)] = cell * draw(st.sampled_from([70_000, 400_000]))
        case "ragged" if table:
            table[row] = table[row][:column] if draw(st.booleans()) else [*table[row], "more", ""]
        case "many" if sum(len(cell) for cells in table for cell in cells) < 10_000:
            table[:] = table[:1] + table[1:] * (1 + 2500 // max(1, len(table)))
        case "header only":
            del table[1:]
        case "nothing":
            table.clear()
        case "formulas":
            table[1:] = [[FORMULA if at == column else cell for at, cell in enumerate(cells)] for cells in table[1:]]
        case "deep" if table and table[row]:
            table[row][min(column, len(table[row]) - 1)] = '{"a":' * 1000 + "1" + "}" * 1000
        case "shuffle":
            table[1:] = draw(st.permutations(table[1:])) if len(table) < 100 else table[1:]
        case "column of quotes":
            table[1:] = [['"' if at == column else cell for at, cell in enumerate(cells)] for cells in table[1:]]
    return done


DEEP = b'{"a":' * 1000 + b"1" + b"}" * 1000
BYTES = [
    b"\0",
    b"\0" * 9,
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b'"""',
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n\n",
    b",",
    b"\x1a",
    b"\x1f",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"<",
    b">",
    b"&",
    b"<!DOCTYPE x>",
    b"]]>",
    b"\xc3",
    b"\xe2\x82",
    b"1e999",
    b"-",
    b"null",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"PAR1",
    b"[" * 1000,
    DEEP,
    b"9" * 5000,
]


def change_bytes(draw: Any, content: bytes, text: bool) -> tuple[bytes, str]:
    """Return other bytes, and what was done."""
    ways = ["bit", "byte", "insert", "delete", "cut", "repeat", "swap", "quotes everywhere"]
    ways += ["line ends", "encoding", "half in another encoding", "mark", "long"] if text else []
    done: str = draw(st.sampled_from(ways))
    first = content.find(b"\n") + 1 if text and draw(st.integers(0, 4)) < 4 else 0
    at = draw(st.integers(min(first, max(0, len(content) - 1)), max(0, len(content) - 1)))
    changed = bytearray(content)
    match done:
        case "bit" if content:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        case "byte" if content:
            changed[at] = draw(st.integers(0, 255))
        case "insert":
            changed[at:at] = draw(st.one_of(st.sampled_from(BYTES), st.binary(min_size=1, max_size=8)))
        case "delete":
            del changed[at : at + draw(st.one_of(st.integers(1, 8), st.integers(1, 2000)))]
        case "cut":
            del changed[at:]
        case "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(1, 200))]
        case "swap":
            other = draw(st.integers(0, max(0, len(content) - 1)))
            changed[at : at + 20], changed[other : other + 20] = changed[other : other + 20], changed[at : at + 20]
        case "quotes everywhere":
            step = draw(st.integers(1, 40))
            changed = bytearray(b'"'.join(content[start : start + step] for start in range(0, len(content), step)))
        case "line ends":
            ends = draw(st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1, max_size=3))
            lines = content.split(b"\n")
            changed = bytearray(b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines)))
        case "encoding":
            other_name = draw(
                st.sampled_from(["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037"])
            )
            changed = bytearray(content.decode("utf-8", "replace").encode(other_name, "replace"))
        case "half in another encoding":
            other_name = draw(st.sampled_from(["latin-1", "utf-16", "utf-16-be"]))
            changed[at:] = bytes(changed[at:]).decode("utf-8", "replace").encode(other_name, "replace")
        case "mark":
            changed[:0] = draw(
                st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf" * 2, b"\xff\xfe\0\0"])
            )
        case "long":
            changed[at:at] = draw(st.sampled_from([b"x", b'"', b"\0", b"[", b"\xc3\xa9", b" "])) * 1_200_000
    return bytes(changed), done


@st.composite
def mutated_files(draw: Any, kind: Kind) -> Mutated:
    """A valid file of a kind, changed once or a few times: in its table, in its bytes, or in the bytes of a member."""
    table = [list(row) for row in TABLE]
    done = [change_table(draw, table) for _ in range(draw(st.integers(0, 2)))]
    try:
        content = kind.write(table)
    except (ValueError, pa.ArrowInvalid):  # what the writer itself refuses
        assume(False)
    made = Mutated(content, table=table, done=done)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3] if done else [1, 1, 2, 3]))):
        made.clean = False
        if kind.unpack and kind.pack and draw(st.booleans()):
            try:
                members = kind.unpack(made.content)
            except Exception:
                continue
            name = draw(st.sampled_from(sorted(members)))
            members[name], how = change_bytes(draw, members[name], text=True)
            made.content = kind.pack(members)
            done.append(f"{how} in {name or 'it'}")
        else:
            made.content, how = change_bytes(draw, made.content, kind.text)
            done.append(how)
    return made


# What must hold


@contextmanager
def patience() -> Iterator[None]:
    """Fail when the block takes too long, also when it never ends."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {PATIENCE} s")

    begun = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begun < PATIENCE


def listing(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything in a folder but what may be written: when it was changed, how large it is, and its hash."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not name.startswith("study/derived") and name != "study":
            whole = path.is_file() and not path.is_symlink()
            status = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
            found[name] = (status.st_mtime_ns if whole else 0, status.st_size if whole else 0, content)
    return found


ENGINE_SAYS = re.compile(
    r"Traceback|INTERNAL|stack trace|Binder Error|Parser Error|Catalog Error|reject_errors|read_csv\(|SELECT "
    r"|auto_detect|ignore_errors|null_padding|\bNone\b|object at"
)


TO_DO = re.compile(
    r"(^|[.;,] |\n|, or )(Mend|Export|Set|Look|Open|Leave|Name|Remove|Unpack|Save|Check|Put|Give) ", re.IGNORECASE
)


def check_message(error: JourneyError, folder: Path, name: str) -> None:
    """An error names the source and the file, says what to do, and shows neither the machine's paths nor the engine."""
    said = str(error)
    assert said.startswith("sources.shop"), said
    assert name in said or "none of its" in said, said
    assert str(folder) not in said, said
    assert tempfile.gettempdir() not in said, said
    assert not ENGINE_SAYS.search(said), said
    assert len(said) < 1500, said
    assert said.isprintable() or "\n" in said, said
    assert TO_DO.search(said), f"does not say what to do: {said}"


def attempt(folder: Path, opened: study.OpenStudy, name: str) -> JourneyError | None:
    """Ingest; return the error when the file was refused. Nothing but `derived/` may have changed."""
    scratch = folder / "tmp"
    scratch.mkdir()
    before = listing(folder)
    found = None
    with mock.patch.object(tempfile, "tempdir", str(scratch)), patience():
        try:
            events.ingest(opened)
        except JourneyError as error:
            found = error
            check_message(error, folder, name)
    assert listing(folder) == before
    left = [
        path.name for path in opened.derived.rglob("*") if path.name.endswith((".part", ".tmp")) or ".tmp." in path.name
    ]
    assert not left, left
    return found


def check_accounting(opened: study.OpenStudy) -> dict[str, Any]:
    """Every row of every file is in one place."""
    files = read(opened, "files")
    parts = files[["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]]
    assert (parts.sum(axis=1) == files["read_n"]).all(), files.to_dict("records")
    assert (parts >= 0).all(axis=None)
    assert len(read(opened, "quarantine")) == files["quarantined_n"].sum()
    return {str(key): int(value) for key, value in files.select_dtypes("number").sum().items()}


MOMENT = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


def check_kept(opened: study.OpenStudy, rows: list[Row]) -> None:
    """Every event that was kept stands in a row of the file, with its customer, time, amount and comment."""
    secret = privacy.key(study.ROOT)
    bare = [{key: text.strip(privacy.SPACES) for key, text in row.items()} for row in rows]
    by_token: dict[str, list[Row]] = {}
    for row in bare:
        by_token.setdefault(privacy.token("customer", row.get("who", row.get("who.id", "")), secret), []).append(row)
    seen = set()
    for kept in read(opened, "events").itertuples():
        what = (str(kept.timestamp)[:19], kept.event, kept.value, kept.comment, kept.id_customer)
        if what in seen:
            continue
        seen.add(what)
        same = [row for row in by_token.get(str(kept.id_customer), []) if fits(kept, row)]
        assert same, f"{what} stands nowhere in the file"


def fits(kept: Any, row: Row) -> bool:
    name, at, value, note = (row.get(key, "") for key in ("event", "at", "value", "note"))
    if not re.search(r"[@＠%&#?\\]", name) and kept.event != name:
        return False
    if MOMENT.fullmatch(at) and str(kept.timestamp)[:19] != at:
        return False
    if (kept.value == kept.value and kept.value is not None) != bool(value):
        return False
    if re.fullmatch(r"\d{1,15}(\.\d+)?", value) and kept.value != float(value):
        return False
    return (kept.comment or "") == redaction.redact(note)


def check_found(opened: study.OpenStudy, rows: list[Row]) -> None:
    """Every sound row of a file whose table alone was changed was kept."""
    secret = privacy.key(study.ROOT)
    kept = {
        (str(row.timestamp)[:19], row.event, row.id_customer) for row in read(opened, "events").itertuples(index=False)
    }
    for row in rows:
        sound = (
            len(row) == len(COLUMNS)
            and re.fullmatch(r"c\d+", row.get("who", ""))
            and re.fullmatch("[a-z_]+", row.get("event", ""))
        )
        if not (sound and MOMENT.fullmatch(row.get("at", "")) and re.fullmatch(r"\d{0,6}", row.get("value", ""))):
            continue
        try:
            moment = datetime.fromisoformat(row["at"])
        except ValueError:
            continue
        if 2005 <= moment.year < 2026:
            assert (row["at"], row["event"], privacy.token("customer", row["who"], secret)) in kept, row


def open_mutated(folder: Path, kind: Kind, content: bytes, option: str) -> study.OpenStudy:
    (folder / "neighbour").mkdir()
    (folder / "neighbour" / "own.txt").write_text("mine")
    keys = kind.keys + option
    make_study(folder / "study", f'[[sources]]\nname = "shop"\npath = "raw/{kind.name}"\n{keys}', {})
    (folder / "study" / "raw" / kind.name).write_bytes(content)
    return study.open_study(str(folder / "study"))


def rows_of(kind: Kind, content: bytes) -> int | None:
    """How many rows a file has, where no two readers can disagree about it, or None."""
    content = gunzip(content) if kind.name.endswith(".gz") else content
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    if not kind.name.startswith(("a.csv", "a.jsonl")) or "\0" in text or "\ufeff" in text:
        return None
    lines = re.split("\r\n|\r|\n", text)
    if kind.name == "a.jsonl":
        return sum(bool(line.strip(" \t")) for line in lines)
    if '"' not in text:
        rows = [[line] if line else [] for line in lines]
    else:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except csv.Error:
            return None
    while rows and not rows[0]:
        del rows[0]
    return sum(bool(row) for row in rows[2:])


def check_lines(kind: Kind, content: bytes, opened: study.OpenStudy) -> None:
    """The line that a quarantined row names holds what is known of the row."""
    content = gunzip(content) if kind.name.endswith(".gz") else content
    try:
        lines = re.split("\r\n|\r|\n", content.decode())
    except UnicodeDecodeError:
        return
    mixed = re.search(rb"\r(?!\n)", content) and b"\n" in content  # editors disagree about the number of a line
    if mixed or b"\0" in content or not kind.name.startswith(("a.csv", "a.jsonl")):
        return
    for line, record in read(opened, "quarantine")[["line", "record"]].itertuples(index=False, name=None):
        assert 1 <= line <= len(lines), line
        known = json.loads(record).get("at") if record.startswith("{") else None
        if known and re.fullmatch(r"[\w: -]+", known):
            assert known in lines[line - 1], f"{record} is not in line {line}: {lines[line - 1][:99]}"


def check_all(folder: Path, opened: study.OpenStudy, kind: Kind, made: Mutated, option: str) -> JourneyError | None:
    refused = attempt(folder, opened, f"raw/{kind.name}")
    if refused:
        return refused
    counted = check_accounting(opened)
    expected = rows_of(kind, made.content)
    assert expected is None or counted["read_n"] == expected, f"{counted['read_n']} of {expected} rows"
    if "once_per" not in option:
        assert len(read(opened, "events")) == counted["kept_n"]
    check_lines(kind, made.content, opened)
    rows = kind.read(made.content)
    if rows is not None:
        check_kept(opened, rows)
    if made.clean and not option and made.table:
        names = unique(made.table[0])
        whole = [cells for cells in made.table[1:] if len(cells) == len(names)]
        check_found(opened, [dict(zip(names, cells, strict=True)) for cells in whole])
    return None


def how_many(few: int) -> Any:
    return settings(
        max_examples=EXAMPLES or few,
        deadline=None,
        database=None,
        derandomize=not EXAMPLES,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("name", KINDS)
@how_many(20)
@given(data=st.data())
def test_a_mutated_file_is_accounted_for_or_refused(name: str, data: st.DataObject) -> None:
    kind = KINDS[name]
    made = data.draw(mutated_files(kind))
    option = data.draw(st.sampled_from(OPTIONS)) if data.draw(st.booleans()) else ""
    with tempfile.TemporaryDirectory(dir="/tmp") as name_of_folder:
        folder = Path(name_of_folder).resolve()
        opened = open_mutated(folder, kind, made.content, option)
        check_all(folder, opened, kind, made, option)


# What no mutation reaches


SOURCE = '[[sources]]\nname = "shop"\npath = "raw/*"\n' + MAPPING
HEADER = b"at,event,who,value,note\n"


def row(number: int, note: str = "x") -> bytes:
    return f"2025-01-0{number},page,c{number},1,{note}\n".encode()


def ingested(folder: Path, files: dict[str, bytes], keys: str = "", source: str = SOURCE) -> study.OpenStudy:
    """Ingest files of a study, and check the accounting."""
    opened = make_study(folder, source + keys, {})
    for name, content in files.items():
        (folder / "raw" / name).write_bytes(content)
    with patience():
        events.ingest(opened)
    check_accounting(opened)
    return opened


def kept(opened: study.OpenStudy) -> list[int]:
    files = read(opened, "files")
    return [int(files[name].sum()) for name in ("read_n", "kept_n", "quarantined_n")]


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        (b"\n\r\n\n" + HEADER + row(1) + row(2), "", [2, 2, 0]),
        (HEADER + row(1) + row(2, '"two\n\nlines",more') + row(3), "", [3, 2, 1]),
        (HEADER + row(1) + b'2025-01-02,page,"c2\nx"\n' + row(3), "", [3, 2, 1]),
        (
            HEADER + row(1) + b'2025-01-02,page,"c2,1,x\n' + row(3) + row(4) + b'2025-01-05,page",\n' + row(6),
            "",
            [6, 4, 2],
        ),
        (HEADER + row(1) + row(2, '"not closed') + row(3) + row(4), "", [4, 3, 1]),
        (b"\xef\xbb\xbf" + HEADER + row(1), "", [1, 1, 0]),
        (HEADER + row(1) + b"\n" * 3_000_000 + row(2), "", [2, 2, 0]),
        (HEADER + row(1) + b"x" * (40 << 20) + b"\n" + row(2), "", [3, 2, 1]),
        (HEADER + row(1) + b'"' * (40 << 20), "", [2, 1, 1]),
        (b"", "", [0, 0, 0]),
        (b"\xef\xbb\xbf", "", [0, 0, 0]),
        (HEADER, "header_rows = 3\n", [0, 0, 0]),
    ],
    ids=[
        "blank lines above",
        "too many columns in two lines",
        "missing columns in two lines",
        "a quote closed too late",
        "a quote not closed",
        "mark",
        "blank lines",
        "40 MB line",
        "40 MB of quotes",
        "empty",
        "mark alone",
        "header alone",
    ],
)
def test_no_line_of_a_csv_is_lost(tmp_path: Path, content: bytes, keys: str, expected: list[int]) -> None:
    assert kept(ingested(tmp_path, {"a.csv": content}, keys)) == expected


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_a_quote_that_is_not_closed_costs_its_line_whatever_the_line_end(tmp_path: Path, end: bytes) -> None:
    content = (HEADER + row(1) + row(2, '"not closed') + row(3) + row(4)).replace(b"\n", end)
    assert kept(ingested(tmp_path, {"a.csv": content})) == [4, 3, 1]


def damaged_gzip() -> bytes:
    packed = bytearray(gzip.compress(HEADER + row(1), mtime=0))
    packed[-6] ^= 1  # of the checksum
    return bytes(packed)


@pytest.mark.parametrize(
    ("name", "content", "keys", "said"),
    [
        ("a.csv", HEADER + b'a,b,c,d,"e\n' + row(1), "header_rows = 2\n", r"line 2, which is header, cannot be read"),
        ("a.csv", HEADER + b'a,"b,c,d,e\n' + row(1) + b'x,"', "header_rows = 2\n", r"line 2, which is header"),
        ("a.csv", b"\n" * 9999 + HEADER, "", r"1,000 lines above it are blank"),
        ("a.csv", b"," * 5_000_000, "", r"line 1, which is header, .* is longer than"),
        ("a.csv", HEADER + row(1, '"x') * 60, "", r"line \d+: a quote is opened and not closed, and the same in 48"),
        ("a.csv", b"at,event,who,value," + b"x" * 99_999 + b"\n" + row(1), "", r"column 'note' is not in the file\."),
        ("a.csv.gz", damaged_gzip(), "", r"CRC check failed"),
        ("a.csv.gz", gzip.compress(HEADER + row(1))[:-9], "", r"ended before the end-of-stream"),
        ("a.csv", b'x",y\n', "", r"column 'event' is not in the file"),
        (
            "a.json",
            b'[{"at": "2025-01-01", "who": "ada.lovelace \xff\xfe\n" \xff]',
            "",
            r"broken after row 0, near line",
        ),
        ("a.parquet", b"PAR1" + b"x" * 99 + b"PAR1", "", r"a\.parquet: cannot be read"),
    ],
    ids=range(11),
)
def test_what_is_refused_is_named(tmp_path: Path, name: str, content: bytes, keys: str, said: str) -> None:
    with pytest.raises(JourneyError, match=said) as caught:
        ingested(tmp_path, {name: content}, keys)
    check_message(caught.value, tmp_path, name)
    assert "lovelace" not in str(caught.value)


def test_a_million_columns_are_refused_at_once(tmp_path: Path) -> None:
    names = ",".join(f"column number {number}" for number in range(100_000))
    for content in (HEADER.strip() + b"," + names.encode(), HEADER.strip() + b",c" * 1_000_000):
        with pytest.raises(JourneyError, match=r"raw/a.csv: has 1,?\d+,005 columns; at most 10,000 are read"):
            ingested(tmp_path, {"a.csv": content + b"\n" + row(1)})


def test_thousands_of_columns_are_read(tmp_path: Path) -> None:
    content = HEADER.strip() + b",c" * 3000 + b"\n" + row(1).strip() + b",1" * 3000 + b"\n"
    assert kept(ingested(tmp_path, {"a.csv": content})) == [1, 1, 0]


@pytest.mark.parametrize("depth", [1000, 1_000_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a":', "}")])
def test_nesting_a_thousand_deep(tmp_path: Path, depth: int, opens: str, closes: str) -> None:
    deep = opens * depth + "1" + closes * depth
    source = SOURCE.replace('"note"', '"note.a.a"')
    rows = [f'{{"at":"2025-01-01","event":"page","who":"c{number}","note":{deep}}}' for number in range(2)]
    lines = ingested(tmp_path / "lines", {"a.jsonl": "\n".join(rows).encode()}, source=source)
    assert kept(lines) == [2, 2, 0]
    document = ingested(
        tmp_path / "document",
        {"a.json": f'[{rows[0]},{{"at":"2025-01-02","event":"page","who":"c","note":{{"a":null}}}}]'.encode()},
        source=source,
    )
    assert kept(document) == [2, 1, 1]
    cells = f'2025-01-01,page,c1,1,"{deep.replace(chr(34), chr(34) * 2)}"\n'
    assert kept(ingested(tmp_path / "cells", {"a.csv": HEADER + cells.encode()}, source=source)) == [1, 1, 0]


def bombs() -> dict[str, bytes]:
    piece = gzip.compress(b"2025-01-01,page,c1,1,x\n" * 1_000_000, mtime=0)  # 23 MB, packed into 67 kB
    sheet = {"[Content_Types].xml": b"<x/>", "xl/worksheets/sheet1.xml": b" " * (30 << 20)}
    return {
        "a.csv.gz": gzip.compress(HEADER, mtime=0) + piece * 60,  # 1.4 GB
        "a.zip": rezip({"a.csv": HEADER + b"2025-01-01,page,c1,1,x\n" * 2_000_000}),
        "a.xlsx": rezip(sheet),
    }


@pytest.mark.parametrize("name", ["a.csv.gz", "a.zip", "a.xlsx"])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = bombs()[name]
    assert len(content) < 5_000_000
    if name != "a.csv.gz":
        monkeypatch.setattr("journeykit.adapters.packed.LARGE", 20 << 20)  # else the test itself would take long
    with pytest.raises(JourneyError, match=r"unpack to .* GB or more, over 200 times as much") as caught:
        ingested(tmp_path, {name: content})
    check_message(caught.value, tmp_path, name)


# Odd files and odd names


def test_what_is_no_file_is_passed_over_and_does_not_stop_anything(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "folder.csv").mkdir()
    (raw / "round").symlink_to(raw)
    os.mkfifo(raw / "pipe.csv")
    source = SOURCE.replace('"raw/*"', '"raw/**/*.csv"')
    opened = ingested(tmp_path, {"A.csv": HEADER + row(1), "a.csv": HEADER + row(2)}, source=source)
    assert read(opened, "files")["file"].tolist() == ["raw/A.csv", "raw/a.csv"]
    assert kept(opened) == [2, 2, 0]


@pytest.mark.parametrize(
    "path", ["raw/pipe.csv", "raw/folder.csv", "../**/*.csv", "raw/../../x.csv", "raw/nothing.csv"]
)
def test_a_path_to_no_file_of_the_study_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "study" / "raw" / "folder.csv").mkdir(parents=True)
    os.mkfifo(tmp_path / "study" / "raw" / "pipe.csv")
    (tmp_path / "x.csv").write_bytes(HEADER + row(1))
    with pytest.raises(JourneyError, match=r"sources\.shop\.path: '.*' (matches no file|leaves the study's folder)"):
        ingested(tmp_path / "study", {}, source=SOURCE.replace("raw/*", path))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "b.csv").symlink_to(tmp_path / "raw" / "b.csv")
    with pytest.raises(JourneyError, match=r"sources\.shop\.path: b\.csv is a link that leads nowhere"):
        ingested(tmp_path, {"a.csv": HEADER + row(1)})


NAMES = [
    "a b.csv",
    "it's.csv",
    'say "hi".csv',
    "50%.csv",
    "%s%n{0}.csv",
    "new\nline.csv",
    "tab\t.csv",
    "日本語.csv",
    "-rf.csv",
    "$HOME;.csv",
    "[a].csv",
    "a*?.csv",
    "back\\slash.csv",
    "é.csv",
    "e\u0301.csv",
    "x" * 251 + ".csv",
    "\u202egnp.csv",
    "none",
    "a.CSV",
]


def test_odd_names_are_read_and_shown_as_they_are(tmp_path: Path) -> None:
    opened = ingested(
        tmp_path, {name: HEADER + row(1, f"n{at}") for at, name in enumerate(NAMES)}, 'duplicates = "keep"\n'
    )
    assert kept(opened) == [len(NAMES), len(NAMES), 0]
    assert sorted(read(opened, "files")["file"]) == sorted(f"raw/{name}" for name in NAMES)
    assert not events.ingest(opened)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    opened = make_study(tmp_path, SOURCE, {})
    Path(os.fsdecode(bytes(opened.folder) + b"/raw/caf\xe9.csv")).write_bytes(HEADER + row(1))
    with pytest.raises(JourneyError, match=r"the name of the file raw/caf\\xe9\.csv is not UTF-8\. Rename it"):
        events.ingest(opened)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is allowed to root")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    opened = make_study(tmp_path, SOURCE, {"a.csv": "x"})
    (tmp_path / "raw" / "a.csv").chmod(0)
    with pytest.raises(JourneyError, match=r"raw/a\.csv: cannot be read: Permission denied"):
        events.ingest(opened)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.xlsx", "a.json"])
@pytest.mark.parametrize("how", ["vanishes", "grows", "is cut"])
def test_a_file_that_changes_after_its_fingerprint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    kind = KINDS[name]
    content = kind.write(TABLE)
    keys = kind.keys + ("header_rows = 1\n" if kind.keys == MAPPING and ".csv" in name else "")
    opened = make_study(tmp_path, f'[[sources]]\nname = "shop"\npath = "raw/*"\n{keys}', {})
    path = tmp_path / "raw" / name
    path.write_bytes(content)
    mark = LocalFile.mark

    def change(file: LocalFile) -> str:  # what is asked for last before files are read
        found = mark(file)
        if how == "vanishes":
            path.unlink()
        else:
            path.write_bytes(content + content if how == "grows" else content[: len(content) // 2])
        return found

    monkeypatch.setattr(LocalFile, "mark", change)
    with (
        patience(),
        pytest.raises(JourneyError, match=rf"raw/{name}.*(changed while|cannot be|damaged|whole|broken)") as caught,
    ):
        events.ingest(opened)
    assert str(tmp_path) not in str(caught.value)
    monkeypatch.undo()
    path.write_bytes(content)
    assert events.ingest(opened)
    check_accounting(opened)


def test_a_file_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    opened = make_study(tmp_path, SOURCE, {})
    (tmp_path / "raw" / "a.csv").write_bytes(HEADER + row(1, '"x') * 60)
    with pytest.raises(JourneyError):
        events.ingest(opened)
    assert [path.name for path in opened.derived.rglob("*") if path.is_file()] == []
