"""Files of every kind become what the engine reads, with their content exact and in bounded memory."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import fsspec
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine
from journeykit.adapters import Readable, documents, packed, readable, text, xes
from journeykit.errors import JourneyError
from journeykit.raw_files import find_files
from tests.test_raw_files import make_source

Convert = Callable[..., Readable]


@pytest.fixture
def convert(tmp_path: Path) -> Convert:
    """Write bytes to a file of a study and make it readable; the result must not hold this machine's path in errors."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(content: bytes, name: str = "raw/a.csv", **keys: object) -> Readable:
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        source = make_source(name, **keys)
        (file,) = find_files(source, tmp_path / "study")
        try:
            return readable(source, file, scratch)
        except JourneyError as error:
            said = str(error)
            if str(tmp_path) in said or not said.startswith(f"sources.shop: {name}"):
                raise AssertionError(f"the message must name the file and not this machine: {said}") from error
            raise

    return run


def lines(made: Readable) -> list[object]:
    assert made.format == "jsonl"
    return [json.loads(line) for line in made.path.read_text(encoding="utf-8").splitlines()]


PLAIN = "at,event,who\n2025-01-01,größe,“a”\n".encode()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return bytes(out.getvalue())


# What is plain is read where it lies


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("raw/a.csv", PLAIN, "csv"),
        ("raw/a.csv", b"\xef\xbb\xbf" + PLAIN, "csv"),
        ("raw/a.csv", b"", "csv"),
        ("raw/a.csv.gz", gzip.compress(PLAIN, mtime=0), "csv"),
        ("raw/a.jsonl", b'{"a": 1}\n', "jsonl"),
        ("raw/a.ndjson.gz", gzip.compress(b'{"a": 1}\n', mtime=0), "jsonl"),
        ("raw/a.json", b'\n{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("raw/part-00000", PLAIN, "csv"),
    ],
)
def test_a_plain_file_is_not_copied(convert: Convert, tmp_path: Path, name: str, content: bytes, form: str) -> None:
    made = convert(content, name, delimiter=";", quote="'", header_rows=3)
    assert made == Readable(tmp_path / "study" / name, form, ";", "'", 3)  # type: ignore[arg-type]
    assert not list((tmp_path / "scratch").iterdir())


def test_parquet_is_not_copied_and_must_be_whole(convert: Convert, tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), out)
    assert convert(out.getvalue(), "raw/a.parquet").path == tmp_path / "study" / "raw" / "a.parquet"
    assert pq.read_table(convert(gzip.compress(out.getvalue(), mtime=0), "raw/b.parquet.gz").path).num_rows == 2
    with pytest.raises(JourneyError, match="not a whole Parquet file"):
        convert(out.getvalue()[:-1], "raw/c.parquet")
    with pytest.raises(JourneyError, match='format = "parquet"'):
        convert(out.getvalue(), "raw/c.csv")


# Encodings


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("latin-1", "at;é\r\nñ;ü".encode("latin-1")),
        ("cp1252", "at,“€”".encode("cp1252")),
        ("utf-16", "\ufeffat,é😀".encode("utf-16-le")),
        ("utf-16", "at,é😀 and more".encode("utf-16-le")),
        ("utf-16", "at,é😀 and more".encode("utf-16-be")),
        ("utf-8", "at,é😀 and more".encode("utf-16-le")),
        ("utf-8", "at,é😀".encode("utf-16")),
        ("utf-8", "\ufeffat,é😀".encode("utf-16-be")),
        ("latin-1", "at,é😀".encode("utf-32")),
        ("shift_jis", "at,日本".encode("shift_jis")),
    ],
)
def test_every_encoding_becomes_utf_8(convert: Convert, encoding: str, content: bytes) -> None:
    made = convert(content, encoding=encoding)
    found = made.path.read_text(encoding="utf-8")
    assert found in ("at;é\nñ;ü", "at,“€”", "at,é😀", "at,é😀 and more", "at,日本")
    assert made.replaced == 0


def test_line_ends_stay_as_they_are(convert: Convert) -> None:
    assert convert(b"a\r\nb\rc\n", encoding="latin-1").path.read_bytes() == b"a\r\nb\rc\n"


def test_bytes_that_cannot_be_decoded_stay_in_their_row_and_are_counted(convert: Convert) -> None:
    made = convert(b"at,a\n1,x\x81y\n2,\x8d\n3,\x80\n", encoding="cp1252")
    assert made.path.read_text(encoding="utf-8") == "at,a\n1,x\ufffdy\n2,\ufffd\n3,€\n"
    assert made.replaced == 2
    assert convert("at,é".encode("utf-16")[:-1]).replaced == 1  # cut in the middle of a character


def test_characters_that_lie_across_pieces_are_whole(monkeypatch: pytest.MonkeyPatch, convert: Convert) -> None:
    monkeypatch.setattr(packed, "CHUNK", 3)
    monkeypatch.setattr(packed.chunks, "__defaults__", (3,))
    assert convert("at,é😀é😀".encode("utf-16")).path.read_text(encoding="utf-8") == "at,é😀é😀"


@pytest.mark.parametrize("encoding", ["latin1x", "base64", "rot13", "", "utf-8\0"])
def test_an_unknown_encoding_names_the_nearest(convert: Convert, encoding: str) -> None:
    with pytest.raises(JourneyError, match="is not an encoding") as caught:
        convert(PLAIN, encoding=encoding)
    assert encoding != "latin1x" or "Did you mean 'latin1'?" in str(caught.value)


def test_an_encoding_that_fits_nothing_is_an_error(convert: Convert) -> None:
    with pytest.raises(JourneyError, match="Set encoding"):
        convert(b"a,b\n", encoding="undefined")
    with pytest.raises(JourneyError, match="Set encoding"):
        convert(b"[]", "raw/a.json", encoding="undefined")


# Packed files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("raw/a.csv.bz2", bz2.compress(PLAIN)),
        ("raw/a.csv.xz", lzma.compress(PLAIN)),
        ("raw/a.csv.zst", zstd(PLAIN)),
        ("raw/a.csv.zip", zipped({"inner.csv": PLAIN})),
        ("raw/a.zip", zipped({"folder/": b"", "folder/a.csv": PLAIN, "__MACOSX/a.csv": b"x", ".DS_Store": b"x"})),
        ("raw/a.csv", gzip.compress(PLAIN, mtime=0)),  # packed, whatever its ending
        ("raw/a.csv.gz", PLAIN),  # unpacked by the browser that fetched it
        ("raw/a.csv.gz", gzip.compress(PLAIN[:9], mtime=0) + gzip.compress(PLAIN[9:], mtime=0)),  # in two parts
    ],
)
def test_packed_files(convert: Convert, name: str, content: bytes) -> None:
    made = convert(content, name)
    opened = gzip.open if made.path.suffix == ".gz" else open
    with opened(made.path, "rb") as file:
        assert file.read() == PLAIN


def test_the_member_of_a_zip_file_says_its_format(convert: Convert) -> None:
    assert lines(convert(zipped({"a.json": b'[{"a": 1}]'}), "raw/a.zip")) == [{"a": 1}]


def test_packed_and_in_another_encoding(convert: Convert) -> None:
    made = convert(gzip.compress("at,é".encode("latin-1"), mtime=0), "raw/a.csv.gz", encoding="latin-1")
    assert made.path.read_text(encoding="utf-8") == "at,é"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("raw/a.csv.zip", zipped({"a.csv": b"x", "b.csv": b"y"}), r"holds 2 files \(a.csv, b.csv\)"),
        ("raw/a.csv.zip", zipped({}), "holds 0 files"),
        ("raw/a.csv.zip", zipped({"a.csv": PLAIN * 50})[:60], "cannot be unpacked"),
        ("raw/a.csv.zip", zipped({"a.csv.gz": b"x"}), "packed twice"),
        ("raw/a.csv.bz2", bz2.compress(PLAIN)[:-5], "cannot be unpacked"),
        ("raw/a.csv.xz", lzma.compress(PLAIN)[:-5], "cannot be unpacked"),
        ("raw/a.csv.zst", zstd(PLAIN * 99)[:-5], "cannot be unpacked"),
        ("raw/a.json.gz", gzip.compress(b'[{"a": 1}]', mtime=0)[:-9], "cannot be unpacked"),
        ("raw/a.csv.gz", b"\x00" + gzip.compress(PLAIN, mtime=0)[1:], "not packed that way"),
        ("raw/a.csv.bz2", b"X" + bz2.compress(PLAIN)[1:], "not packed that way"),
        ("raw/a.tar.gz", gzip.compress(b"x", mtime=0), "packed twice"),
        ("raw/a.7z", b"x", "archives are not read"),
        ("raw/a.csv", zipped({"[Content_Types].xml": b"x"}), 'format = "excel"'),
    ],
)
def test_what_cannot_be_unpacked_is_a_clear_error(convert: Convert, name: str, content: bytes, said: str) -> None:
    with pytest.raises(JourneyError, match=said):
        convert(content, name)


def bomb(megabytes: int) -> bytes:
    out, packer = [], zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(megabytes):
        out.append(packer.compress(bytes(1 << 20)))
    return b"".join([*out, packer.flush()])


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip"])
def test_a_file_that_unpacks_far_beyond_its_size_is_refused(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    monkeypatch.setattr(packed, "LARGE", 8 << 20)
    content = bytes(20 << 20)
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": lambda c: zipped({"a.csv": c})}
    with pytest.raises(JourneyError, match="over 200 times as much"):
        convert(pack[ending](content), f"raw/a.csv{ending}")
    assert sum(path.stat().st_size for path in (tmp_path / "scratch").iterdir()) <= 9 << 20


def test_a_zip_file_that_lies_about_its_size_is_refused(convert: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(zipped({"a.csv": bytes(20 << 20)}))
    place = content.rindex(b"PK\x01\x02") + 24
    content[place : place + 4] = (1000).to_bytes(4, "little")
    monkeypatch.setattr(packed, "LARGE", 8 << 20)
    with pytest.raises(JourneyError, match=r"cannot be unpacked|over 200 times"):
        convert(bytes(content), "raw/a.csv.zip")


def test_an_ordinary_gzip_file_is_not_unpacked_to_be_checked(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packed, "LARGE", 1 << 20)
    chance = random.Random(7)
    rows = "\n".join(f"2025-01-01,page_{chance.random()},{chance.getrandbits(64)}" for _ in range(60_000)).encode()
    content = gzip.compress(rows, 1, mtime=0)
    assert len(content) * packed.DEFLATE > packed.LARGE
    taken: list[int] = []
    chunks = packed.chunks
    monkeypatch.setattr(packed, "chunks", lambda *given: (taken.append(len(c)) or c for c in chunks(*given)))
    made = convert(content, "raw/a.csv.gz")
    assert made.path == tmp_path / "study" / "raw" / "a.csv.gz"
    assert sum(taken) <= 1 << 18
    # A bomb behind ordinary rows is found although the beginning is ordinary.
    with pytest.raises(JourneyError, match="over 200 times as much"):
        convert(gzip.compress(rows[:5000], mtime=0) + bomb(30), "raw/b.csv.gz")


# Columns between blanks


def test_columns_between_blanks(convert: Convert) -> None:
    made = convert(b' 00001 19970101  1\t 11.77 \r\n\n  00002 19970112 12 "77,00"\r', "raw/a.txt", delimiter="blanks")
    assert made.path.read_text(encoding="utf-8") == '00001,19970101,1,11.77\n00002,19970112,12,"""77,00"""\n'
    assert (made.format, made.delimiter, made.quote, made.header_rows) == ("csv", ",", '"', 1)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_across_pieces(tmp_path: Path, end: str, size: int) -> None:
    content = f"a b{end}é\u00a0x d{end}{end}e{end}"
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    text.write_blanks(pieces, tmp_path / "a.csv", "x")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "a,b\né\u00a0x,d\ne\n"


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LINE", 10)
    with pytest.raises(JourneyError, match="line 2 is longer than 10 characters"):
        text.write_blanks(["a\n", "xxxxxx", "xxxxxx"], tmp_path / "a.csv", "x")


# JSON documents

ROWS = [
    {"at": "2025-01-01", "big": 123456789012345678901234567890, "small": 0.1, "none": None, "yes": True, "no": False},
    {"at": 'é😀\n"quoted" \\ \u0000', "list": [1, [], {}, [{"a": {"b": [2]}}]], "empty": ""},
]


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (json.dumps(ROWS), ""),
        (json.dumps(ROWS, indent=2, ensure_ascii=False), ""),
        ("\ufeff \n" + json.dumps(ROWS), ""),
        ("".join(json.dumps(row, indent=1) for row in ROWS), ""),
        ("".join(json.dumps([row], indent=1) for row in ROWS), ""),
        (json.dumps({"page": 1, "lists": [[1], [2]], "orders": ROWS, "next": {"orders": [3]}}), "orders"),
        (json.dumps({"data": {"x": {}, "items": ROWS}}), "data.items"),
        ("\n".join(json.dumps({"orders": [row]}) for row in ROWS), "orders"),
        (json.dumps([{"orders": [row]} for row in ROWS]), "orders"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_json_documents_become_lines(convert: Convert, content: str, records: str, encoding: str) -> None:
    made = convert(content.encode(encoding), "raw/a.json", records=records, encoding=encoding)
    assert lines(made) == ROWS
    assert made.broken == ()


def test_numbers_stay_as_they_are_written(convert: Convert) -> None:
    made = convert(
        b'[{"a": 0.1, "b": 12.10, "c": 1e400, "d": -0.0000001, "e": 9007199254740993, "f": -5}]', "raw/a.json"
    )
    assert made.path.read_text(encoding="utf-8") == (
        '{"a":0.1,"b":12.10,"c":1E+400,"d":-1E-7,"e":9007199254740993,"f":-5}\n'
    )


def test_what_is_no_object_keeps_its_line(convert: Convert) -> None:
    assert lines(convert(b'[1, null, "x", [2], {"a": 3}]', "raw/a.json")) == [1, None, "x", [2], {"a": 3}]
    assert (
        lines(convert(b"", "raw/a.json"))
        == lines(convert(b" \n", "raw/a.json"))
        == lines(convert(b"[]", "raw/a.json"))
        == []
    )
    assert lines(convert(b'{"orders": []}', "raw/a.json", records="orders")) == []


def test_a_row_nested_too_deep_is_set_aside_and_the_others_stay(convert: Convert) -> None:
    deep = "[" * 1000 + "]" * 1000
    made = convert(f'[{{"a": 1}}, {{"b": {deep}}}, {{"c": 3}}]'.encode(), "raw/a.json")
    assert made.path.read_text(encoding="utf-8") == '{"a":1}\n\n{"c":3}\n'
    assert made.broken == ((2, "row is nested more than 200 levels deep"),)


@pytest.mark.parametrize(
    ("content", "records", "said"),
    [
        (b'[{"a": 1},\n{"a": 2},\n{"a": Ann', "", r"broken after row 2, near line 3 \(byte 30\)"),
        (b'[{"a": 1}, {"a": ', "", "broken after row 1"),
        (b'[{"a": NaN}]', "", "broken after row 0"),
        (b'[{"a": 1e99999999999999999999}]', "", "broken after row 0"),
        (b'[{"a": ' + b"9" * 5000 + b"}]", "", "a number too long"),
        (b'{"a":' * 1_000_000, "orders", "nested more than 200 levels"),
        (b'{"order": [{"a": 1}]}', "orders", r"no list at records = 'orders'. Lists in the file: order\."),
        (b'{"orders": {"1": {}}}', "orders", "Lists in the file: none"),
        (b'{"count": 2, "data": {"items": [{"at": 1}, {"at": 2}]}}', "", "Set records = 'data.items'"),
    ],
)
def test_broken_documents_are_clear_errors(convert: Convert, content: bytes, records: str, said: str) -> None:
    with pytest.raises(JourneyError, match=said) as caught:
        convert(content, "raw/a.json", records=records)
    assert "Ann" not in str(caught.value), "the content stays out of the message"


def test_a_row_that_is_too_large_names_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_ROW", 100)
    with pytest.raises(JourneyError, match='records = "orders"'):
        documents.write_lines([json.dumps({"orders": ROWS}).encode()], tmp_path / "a", "", "x")


def test_bytes_in_json_that_are_no_text_stay_in_their_row(convert: Convert) -> None:
    made = convert(b'[{"a": "x\xffy"}, {"a": 2}]', "raw/a.json")
    assert lines(made) == [{"a": "x\ufffdy"}, {"a": 2}]
    assert made.replaced == 1


# XES

LOG = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="2.0" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="trace"><string key="concept:name" value="no case"/></global>
  <global scope="event"><string key="org:resource" value="nobody"/></global>
  <classifier name="Activity" keys="concept:name"/>
  <string key="source" value="desk"/>
  <trace>
    <string key="concept:name" value="Case 1"/>
    <float key="cost" value="12.10"/>
    <event>
      <string key="concept:name" value="open &amp; &quot;read&quot;"/>
      <date key="time:timestamp" value="2025-01-01T10:00:00.000+01:00"/>
      <int key="n" value="123456789012345678901"/>
      <boolean key="urgent" value="true"/>
      <string key="team" value="A"><string key="lead" value="B"/></string>
      <list key="tags"><values><string key="tag" value="x"/><string key="tag" value="y"/></values></list>
      <container key="who"><string key="name" value="z"/><int key="age" value="007"/></container>
    </event>
    <event><string key="concept:name" value="close"/><string key="org:resource" value="Sue"/></event>
    <boolean key="late" value="false"/>
  </trace>
  <trace><event><string key="concept:name" value="open"/></event></trace>
  <trace><string key="concept:name" value="no events"/></trace>
  <event><string key="concept:name" value="alone"/></event>
</log>
"""
EVENTS = [
    {
        "case:concept:name": "Case 1",
        "case:cost": 12.1,
        "case:late": False,
        "org:resource": "nobody",
        "concept:name": 'open & "read"',
        "time:timestamp": "2025-01-01T10:00:00.000+01:00",
        "n": 123456789012345678901,
        "urgent": True,
        "team": "A",
        "team:lead": "B",
        "tags": [{"tag": "x"}, {"tag": "y"}],
        "who": {"name": "z", "age": "007"},
    },
    {
        "case:concept:name": "Case 1",
        "case:cost": 12.1,
        "case:late": False,
        "org:resource": "Sue",
        "concept:name": "close",
    },
    {"case:concept:name": "no case", "org:resource": "nobody", "concept:name": "open"},
    {"org:resource": "nobody", "concept:name": "alone"},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("raw/a.xes", LOG.encode()),
        ("raw/a.xes.gz", gzip.compress(LOG.encode(), mtime=0)),
        ("raw/a.xes", LOG.replace("UTF-8", "UTF-16").encode("utf-16")),
        ("raw/a.xes", LOG.replace("<", "<xes:").replace("<xes:/", "</xes:").replace("<xes:?", "<?").encode()),
    ],
)
def test_events_of_a_log(convert: Convert, name: str, content: bytes) -> None:
    made = convert(content, name)
    assert lines(made) == EVENTS
    assert '"case:cost":12.10' in made.path.read_text(encoding="utf-8")


LAUGHS = '<?xml version="1.0"?><!DOCTYPE log [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><log>&b;</log>'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS, "document type declaration"),
        ('<!DOCTYPE log SYSTEM "file:///etc/passwd"><log/>', "document type declaration"),
        (LOG[:-20], r"broken at line 25, after event 3: "),
        (LOG.replace("</event>", "", 1), "broken at line"),
        ("", "broken at line 1"),
        ("no xml", "broken at line 1"),
        ("<html><log/></html>", "not XES"),
        ("<log>" + '<list key="a">' * 1000 + "</list>" * 1000 + "</log>", "nested more than 100 levels"),
        (
            "<log><trace>" + "<event/>" * 10_001 + '<string key="late" value="x"/></trace></log>',
            "comes after more than 10,000 of its events",
        ),
    ],
)
def test_logs_that_are_broken_or_attack(convert: Convert, content: str, said: str) -> None:
    with pytest.raises(JourneyError, match=said):
        convert(content.encode(), "raw/a.xes")


def test_one_value_as_long_as_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xes, "MAX_TOKEN", 100_000)
    monkeypatch.setattr(documents, "MAX_TOKEN", 100_000)
    endless = [b'<log><string key="a" value="', *[b"x" * 50_000] * 9]
    with pytest.raises(JourneyError, match="one value is longer"):
        xes.write_lines(endless, tmp_path / "a", "x")
    with pytest.raises(JourneyError, match="one value is longer"):
        documents.write_lines([b'[{"a": "', *[b"x" * 50_000] * 9], tmp_path / "a", "", "x")


# Excel


def workbook(sheets: dict[str, list[list[object]]], **formats: str) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        for place, pattern in formats.items():
            sheet[place].number_format = pattern
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_excel_cells_become_text(convert: Convert) -> None:
    rows: list[list[object]] = [
        ["at", "day", "amount", "note", "ok", None],
        [dt.datetime(2025, 3, 1, 10, 0, 5), dt.date(2025, 3, 1), 12.0, 'two\nlines, "quoted"', True],
        [None, None, None, None, None],
        [dt.datetime(2025, 3, 2), dt.datetime(2025, 3, 2), 0.1, " é😀", False],
        ["text", None, 12345678901, "'=1+1", None, None],
        [None, None, None, "only a note", None, "a cell too many"],
        [dt.time(9, 30), None, -3.5, None, None],
        [None] * 9,
    ]
    made = convert(workbook({"Data": rows}, A4="yyyy-mm-dd hh:mm", B4="yyyy-mm-dd"), "raw/a.xlsx")
    assert made.path.read_text(encoding="utf-8") == (
        "at,day,amount,note,ok\n"
        '2025-03-01 10:00:05,2025-03-01,12,"two\nlines, ""quoted""",true\n'
        "2025-03-02 00:00:00,2025-03-02,0.1, é😀,false\n"
        "text,,12345678901,'=1+1,\n"
        ",,,only a note,,a cell too many\n"
        "09:30:00,,-3.5,,\n"
    )
    assert (made.format, made.delimiter, made.quote, made.header_rows) == ("csv", ",", '"', 1)


def edited(content: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """A workbook in which the bytes of one of its parts are replaced."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old in members[part]
    return zipped({**members, part: members[part].replace(old, new)})


def test_a_formula_gives_its_stored_result_and_one_without_is_an_error(convert: Convert) -> None:
    content = workbook({"Data": [["at", "sum"], ["x", "=1+1"]]})
    with pytest.raises(JourneyError, match="formulas without a result"):
        convert(content, "raw/a.xlsx")
    part = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        formula = next(
            f for f in (b"<f>1+1</f><v></v>", b"<f>1+1</f><v />", b"<f>1+1</f><v/>") if f in archive.read(part)
        )
    stored = edited(content, part, formula, b"<f>1+1</f><v>2</v>")
    assert convert(stored, "raw/b.xlsx").path.read_text(encoding="utf-8") == "at,sum\nx,2\n"


def test_a_sheet_by_its_name(convert: Convert) -> None:
    content = workbook({"Notes": [["x"]], "Orders 2025": [["at"], ["1"]]})
    assert convert(content, "raw/a.xlsx").path.read_text() == "x\n"
    assert convert(content, "raw/a.xlsx", sheet="Orders 2025").path.read_text() == "at\n1\n"
    with pytest.raises(JourneyError, match=r"no sheet 'Orders'.*It has: Notes, Orders 2025"):
        convert(content, "raw/a.xlsx", sheet="Orders")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), r"Save it as \.xlsx"),
        (b"at,event\n", r"not an \.xlsx workbook"),
        (workbook({"Data": [["x"]]})[:900], "damaged"),
        (
            edited(workbook({"Data": [["x"]]}), "xl/worksheets/sheet1.xml", b"<row", b"<rw<"),
            "cannot be read as an Excel",
        ),
        (
            edited(
                workbook({"Data": [["x"]]}), "xl/workbook.xml", b"<workbook", b'<!DOCTYPE a [<!ENTITY b "c">]><workbook'
            ),
            "cannot be read as an Excel",
        ),
    ],
)
def test_what_is_no_workbook_says_so(convert: Convert, content: bytes, said: str) -> None:
    with pytest.raises(JourneyError, match=said):
        convert(content, "raw/a.xlsx")


# Remote files


def test_remote_files_are_copied_and_read_like_others(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a.csv.gz", gzip.compress(PLAIN, mtime=0))
    memory.pipe("/bucket/b.json", b'[{"a": 1}]')
    try:
        source = make_source("memory://bucket/*")
        first, second = (readable(source, file, tmp_path) for file in find_files(source, tmp_path))
    finally:
        memory.rm("/bucket", recursive=True)
    assert gzip.decompress(first.path.read_bytes()) == PLAIN
    assert first.path.parent == tmp_path
    assert lines(second) == [{"a": 1}]
    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path]), "nothing else stays behind"
    assert len(first.fingerprint) == 64


def test_a_remote_file_that_is_gone_says_so_without_secrets(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a.csv", PLAIN)
    source = make_source("memory://bucket/a.csv")
    (file,) = find_files(source, tmp_path)
    memory.rm("/bucket", recursive=True)
    for call in (lambda: readable(source, file, tmp_path), file.fingerprint, file.mark):
        with pytest.raises(JourneyError, match="cannot be read"):
            call()


def test_a_member_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_bytes(zipped({"x/a.csv": PLAIN, "../../evil.csv": PLAIN}))
    source = make_source("zip://**/*.csv::export.zip")
    found = find_files(source, tmp_path)
    assert found
    (tmp_path / "scratch").mkdir()
    for file in found:
        assert readable(source, file, tmp_path / "scratch").path.read_bytes() == PLAIN
    assert not (tmp_path.parent / "evil.csv").exists()


# Damage

XLSX = workbook({"Data": [["at", "n"], *[[f"2025-01-{day:02d}", day] for day in range(1, 20)]]})
WHOLE = {
    "a.csv": (PLAIN * 20, {"encoding": "cp1252"}),
    "a.txt": (PLAIN * 20, {"delimiter": "blanks"}),
    "b.csv": (("at,é\n" * 99).encode("utf-16"), {}),
    "a.csv.bz2": (bz2.compress(PLAIN * 20), {}),
    "a.csv.xz": (lzma.compress(PLAIN * 20), {}),
    "a.csv.zst": (zstd(PLAIN * 20), {}),
    "a.csv.zip": (zipped({"a.csv": PLAIN * 20}), {}),
    "a.json": (json.dumps({"orders": ROWS * 5}).encode(), {"records": "orders"}),
    "b.json": (json.dumps(ROWS * 5, indent=1).encode(), {}),
    "a.json.gz": (gzip.compress(json.dumps(ROWS * 5).encode(), mtime=0), {}),
    "a.xes": (LOG.encode(), {}),
    "a.xlsx": (XLSX, {}),
    "a.parquet": (PLAIN, {}),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_a_traceback(name: str, data: st.DataObject) -> None:
    content, keys = WHOLE[name]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1)) if damaged else 0
        match data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"])):
            case "flip" if damaged:
                damaged[place] ^= data.draw(st.integers(1, 255))
            case "cut":
                del damaged[place : place + data.draw(st.integers(1, 2000))]
            case "insert":
                damaged[place:place] = data.draw(st.binary(max_size=8))
            case _:
                damaged[place:place] = damaged[place : place + 100]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scratch").mkdir()
        (Path(folder) / name).write_bytes(damaged)
        source = make_source(name, **keys)
        (file,) = find_files(source, Path(folder))
        try:
            made = readable(source, file, Path(folder) / "scratch")
            assert made.path.is_file()
        except JourneyError as error:
            said = str(error)
            if folder in said or not said.startswith(f"sources.shop: {name}"):
                raise AssertionError(said) from error
        assert sorted(path.name for path in Path(folder).iterdir()) == sorted([name, "scratch"])


# The engine agrees


def test_the_engine_reads_what_was_made(convert: Convert) -> None:
    made = convert("at\té\n1\t“x”\n".encode("utf-16"), delimiter="\t")
    query = f"SELECT * FROM read_csv('{made.path}', delim = '{made.delimiter}', header = true, all_varchar = true)"
    assert engine.rows(query) == [("1", "“x”")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_the_engine_passes_over_a_mark_of_byte_order(convert: Convert, pack: Callable[[bytes], bytes]) -> None:
    made = convert(pack(b"\xef\xbb\xbf" + PLAIN), "raw/a.csv" + (".gz" if pack is gzip.compress else ""))
    columns = "columns = {'a': 'VARCHAR', 'b': 'VARCHAR', 'c': 'VARCHAR'}, header = false, auto_detect = false"
    assert engine.rows(f"SELECT a FROM read_csv('{made.path}', {columns})") == [("at",), ("2025-01-01",)]


MEMORY = """
import sys
from pathlib import Path
from types import SimpleNamespace
from journeykit.adapters import readable
from journeykit.raw_files import LocalFile
source = SimpleNamespace(name="big", format="", encoding="latin-1", delimiter=sys.argv[2], quote='"', header_rows=1,
                         records="", sheet="", time=SimpleNamespace(column="at"))
made = readable(source, LocalFile(name="a.csv", path=Path(sys.argv[1])), Path(sys.argv[1]).parent)
status = Path("/proc/self/status").read_text()
print(made.path, next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(("delimiter", "size"), [(";", 300_000_000), ("blanks", 100_000_000)])
def test_a_large_file_passes_in_little_memory(tmp_path: Path, delimiter: str, size: int) -> None:
    rows = "2025-01-01;page;kunde_größe\n".encode("latin-1") * 40_000
    with (tmp_path / "a.csv").open("wb") as file:
        for _ in range(size // len(rows)):
            file.write(rows)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "a.csv"), delimiter], capture_output=True, text=True, check=True
    )
    path, peak = done.stdout.split()
    assert int(peak) * 1024 < 250_000_000, "peak resident memory in bytes"
    assert Path(path).stat().st_size > size
