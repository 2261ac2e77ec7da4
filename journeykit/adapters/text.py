"""Text files as UTF-8: encodings, marks of byte order, and columns separated by blanks."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterable, Iterator
from encodings.aliases import aliases
from pathlib import Path

from journeykit.errors import JourneyError, nearest

UTF8 = "utf-8"
MARKS = {  # longest first, because one begins like another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LOST = "\ufffd"  # stands where bytes could not be read
MAX_LINE = 32 << 20  # characters
BLANKS = re.compile(r"[ \t]+")
# Characters to quote, and those that str.split takes for blanks.
SPECIAL = re.compile(r"""[,"\x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]""")


def encoding_of(head: bytes, declared: str, where: str) -> str:
    """Return the encoding of a text from its first bytes: a mark of byte order wins over what was declared.

    UTF-16 without a mark is recognised by its zero bytes.

    >>> encoding_of(b"\\xff\\xfea\\x00", "utf-8", "raw/a.csv")
    'utf-16'

    Raises:
        JourneyError: the declared encoding is unknown.
    """
    try:
        known = codecs.lookup(declared)
    except (LookupError, ValueError):
        known = None
    if known is None or not known._is_text_encoding:
        names = sorted({*aliases.values(), *aliases} | {"utf-8", "utf-16", "latin-1", "cp1252"})
        raise JourneyError(
            f"{where}: {declared!r} is not an encoding.{nearest(declared.lower(), names)} "
            "Allowed is any that Python knows, such as utf-8, latin-1, cp1252 or utf-16."
        )
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    sample = head[:4096]
    if len(sample) >= 4 and known.name in (UTF8, "utf-8-sig", "utf-16", "ascii"):
        low, high = sample[0::2].count(0) * 2 / len(sample), sample[1::2].count(0) * 2 / len(sample)
        if max(low, high) > 0.4 and min(low, high) < 0.1:
            return "utf-16-le" if high > low else "utf-16-be"
    return UTF8 if known.name in (UTF8, "utf-8-sig", "ascii") else known.name


class Decoded:
    """The text of a stream of bytes, piece by piece; `replaced` counts the places that could not be read."""

    def __init__(self, pieces: Iterable[bytes], encoding: str, where: str) -> None:
        self.replaced = 0
        self._pieces = pieces
        self._encoding = encoding
        self._where = where

    def __iter__(self) -> Iterator[str]:
        begun = False
        try:
            decoder = codecs.getincrementaldecoder(self._encoding)(errors="replace")
            for piece in itertools.chain(self._pieces, [b""]):
                found = decoder.decode(piece, final=not piece)
                if found:
                    self.replaced += found.count(LOST)
                    # A mark of byte order that an encoding with a stated order leaves in the text.
                    yield found if begun else found.removeprefix("\ufeff")
                    begun = True
        except (UnicodeError, LookupError) as error:
            raise JourneyError(
                f"{self._where}: cannot be read as {self._encoding}: {error.args[-1]}. Set encoding as it was saved."
            ) from None

    def encoded(self) -> Iterator[bytes]:
        """Yield the text as UTF-8."""
        for text in self:
            yield text.encode(UTF8, errors="replace")


def write(pieces: Iterable[bytes], target: Path) -> None:
    """Write pieces to a file, one after the other."""
    with target.open("wb") as out:
        for piece in pieces:
            out.write(piece)


def write_blanks(pieces: Iterable[str], target: Path, where: str) -> None:
    """Write a table whose columns are separated by runs of blanks as CSV; blanks at the ends of a line and empty lines
    mean nothing.

    Raises:
        JourneyError: a line is longer than 32 million characters.
    """
    with target.open("w", encoding=UTF8, errors="replace", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        for block in _blocks(pieces, where):
            if SPECIAL.search(block):
                parts = (BLANKS.split(line.strip(" \t")) for line in block.split("\n"))
                rows.writerows(part for part in parts if part != [""])
            else:  # nothing to quote, and every blank is a blank: several times faster
                parts = (line.split() for line in block.split("\n"))
                out.writelines(",".join(part) + "\n" for part in parts if part)


def _blocks(pieces: Iterable[str], where: str) -> Iterator[str]:
    """Yield text cut between lines; `\\n`, `\\r\\n` and `\\r` all end one, and become `\\n`."""
    rest, number = "", 0
    for piece in pieces:
        text = rest + piece
        # A carriage return at the very end may be half of a line end.
        held = "\r" if text.endswith("\r") else ""
        block, mark, rest = text.removesuffix(held).replace("\r\n", "\n").replace("\r", "\n").rpartition("\n")
        rest += held
        if mark:
            number += block.count("\n") + 1
            yield block
        if len(rest) > MAX_LINE:
            raise JourneyError(
                f"{where}: line {number + 1:,} is longer than {MAX_LINE:,} characters. Is this a text file in lines?"
            )
    yield rest.removesuffix("\r")
