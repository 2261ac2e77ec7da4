"""Excel workbooks (.xlsx) as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl

from journeykit.adapters import packed
from journeykit.errors import JourneyError, nearest

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how .xls files and workbooks with a password begin
# A cell with a formula and no stored result: a program wrote it, and no spreadsheet has calculated it yet.
UNCALCULATED = re.compile(
    rb"""<(?:\w+:)?c\s(?![^>]*\bt=["']str["'])[^>]*><(?:\w+:)?f(?:\s[^>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)"""
    rb"""\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"""
)


def write_csv(path: Path, target: Path, sheet: str, where: str) -> None:
    """Write a sheet of a workbook as CSV, row by row; rows without any content are left out.

    Formulas give their stored result. Times are ISO 8601, a day without a time is a date, whole numbers have no
    decimal point.

    Raises:
        JourneyError: it is no .xlsx workbook, has no such sheet, or holds formulas that were never calculated.
    """
    _refuse_what_is_no_workbook(path, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which do not matter here
            book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
            try:
                page = _sheet(book, sheet, where)
                _refuse_uncalculated(path, page, where)
                with target.open("w", encoding="utf-8", errors="replace", newline="") as out:
                    csv.writer(out, lineterminator="\n").writerows(_rows(page))
            finally:
                book.close()
    except JourneyError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError):  # whose messages hold bytes of the file
        raise JourneyError(f"{where}: the workbook is damaged or cut off. Export it again.") from None
    except Exception as error:  # the library raises whatever the XML or zip reader does
        said = str(getattr(error, "strerror", None) or error or type(error).__name__).replace(str(path), "the file")
        raise JourneyError(
            f"{where}: cannot be read as an Excel workbook: {' '.join(said.split())[:200]}. "
            "Open it in a spreadsheet and save it as .xlsx."
        ) from None


def _refuse_what_is_no_workbook(path: Path, where: str) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    if start == OLE:
        raise JourneyError(
            f"{where}: is an .xls workbook, or one with a password. Save it as .xlsx without a password, or as CSV."
        )
    if not start.startswith(b"PK"):
        raise JourneyError(f"{where}: is not an .xlsx workbook, whatever its ending. Set format to what it is.")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise JourneyError(f"{where}: the workbook is damaged or cut off. Export it again.") from None
    packed.refuse(unpacked, path.stat().st_size, where)


def _sheet(book: Any, name: str, where: str) -> Any:
    """Return the sheet of a name, or the first one."""
    sheets = {page.title: page for page in book.worksheets}
    if name and name not in sheets:
        raise JourneyError(
            f"{where}: there is no sheet {name!r}.{nearest(name, sheets)} It has: {', '.join(sheets) or 'none'}. "
            "Set sheet to one of them."
        )
    if not sheets:
        raise JourneyError(f"{where}: the workbook has no sheet with cells.")
    return sheets[name] if name else next(iter(sheets.values()))


def _refuse_uncalculated(path: Path, page: Any, where: str) -> None:
    """Raise JourneyError when a formula has no stored result, which would be read as an empty cell."""
    rest = b""
    with zipfile.ZipFile(path) as archive, archive.open(page._worksheet_path) as file:
        while piece := file.read(packed.CHUNK):
            text = rest + piece
            if UNCALCULATED.search(text):
                raise JourneyError(
                    f"{where}: sheet {page.title!r} holds formulas without a result, because no spreadsheet has "
                    "calculated them. Open it in one and save it, or export values."
                )
            rest = text[-8192:]


def _rows(page: Any) -> Iterator[list[str]]:
    """Yield the rows of a sheet as text, without the empty cells at their end beyond the width of the first."""
    page.reset_dimensions()  # what the file says about its size is often wrong
    width = 0
    for cells in page.iter_rows():
        row = [_text(cell) for cell in cells]
        while row and (len(row) > width or not width) and not row[-1]:
            row.pop()
        if any(row):
            width = width or len(row)
            yield row + [""] * (width - len(row))


def _text(cell: Any) -> str:
    """Return a cell's value as text."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, dt.datetime):
        dated = value.time() == dt.time() and not re.search(r"[hHsS]", str(cell.number_format))
        return value.date().isoformat() if dated else value.isoformat(sep=" ")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return str(value)
