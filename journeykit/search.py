"""Find raw identifiers in files: their words are made into tokens as identifiers are, and compared as tokens.

So no raw value is kept to look for, and a word is found only where it is an identifier's value exactly (after
`privacy.normalise`). What is looked at: the text of files, their names, and text columns of Parquet files; written
plainly or as HTML entities, percent escapes, JSON escapes or quoted-printable. A word is a cell, an e-mail address, a
telephone number, what stands between blanks or quotes, and the parts of that between punctuation.

What is not found: values of fewer than 6 characters; bare numbers of fewer than 9 digits; # with 3, 4, 6 or 8
hexadecimal digits, which is a colour; dates; values of letters alone, such as a user name, which may as well be a word;
longer values inside a sentence when they hold blanks; parts of a value; coordinates and base64; pictures.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pandas as pd

from journeykit import engine, figures, privacy
from journeykit.config import Identity
from journeykit.redaction import AT

PIECE = 8_000_000  # characters of a file that are held at a time
FEW = 100
LONGEST = 200  # characters of a word
COORDINATES = re.compile(r"""(?<=\s)(?:d|points|transform|viewBox)=(\\?["'])[-+\d\s.,()a-zA-Z]*\1""")
BASE64 = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\([nrtbf\"'/\\])|=(40|2B|3D)")
# Words, in the engine's syntax; each starts and ends with a letter or a digit, so that no stop belongs to it.
CELL = r'[^<>"\n\r\t,;]+'
MAIL = r"""[^\s@<>,;:=?&/()\[\]"'|\\]+@(?:[\p{L}\p{N}_-]+\.)+[\p{L}\p{N}_-]{2,}"""
ENDING = r"([.](csv|tsv|txt|jsonl|ndjson|json|parquet|xlsx|xes|gz|zip|bz2|xz|zst|html|md|ipynb|png|svg))+$"
PHONE = r"\+?\(?\d[\d ()/.-]{6,24}\d"
SPACED = r'[\p{L}\p{N}#+_][^\s<>";,()\[\]{}\\]*[\p{L}\p{N}_]'
JOINED = r"[\p{L}\p{N}#+_][\p{L}\p{N}_.@+~-]*[\p{L}\p{N}_]"
HYPHENED = r"[\p{L}\p{N}][\p{L}\p{N}-]{4,}[\p{L}\p{N}]"
PLAIN = r"[\p{L}\p{N}]{6,}"
# Parts of these are no words: the digits behind a point, the digits of a colour.
WHOLE = r"\d+\.\d+|#[0-9A-Fa-f]{3,8}\b"
IGNORED = (
    r"[+-]?\d{1,8}|#(?:[0-9A-Fa-f]{3,4}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})|\d{4}-\d\d-\d\d(?:[T _]\d\d[:-]\d\d.*)?"
    r"|[-+]?\d{1,5}\.\d+(?:[eE][-+]?\d+)?|[-+]?\d+\.\d{1,5}"
)
PACKED = ("properties", "record")  # columns of JSON objects, whose keys journey.toml names
EVENT_ID = r"(\d+-)?[0-9a-f]{16}(-\d+)?"
TOKEN = f"[0-9a-f]{{{privacy.TOKEN_LENGTH}}}"


@dataclass(frozen=True, order=True)
class Hit:
    """A word that is an identifier's value: the place where it stands, the identifier's name, the word."""

    place: str
    identifier: str
    word: str


def find(
    files: Iterable[tuple[str, Path]], identity: Identity, secret: bytes, tokens: str, *, thorough: bool = False
) -> list[Hit]:
    """Return the words in files that are raw values of identifiers, in order.

    Args:
        files: each with the name by which the result calls it.
        identity: the identifiers, and how their values are normalised.
        secret: the key of the tokens.
        tokens: the query of the tokens that are looked for: id_name, id_token.
        thorough: find values of letters alone too, and the tokens themselves.
    """
    texts = _texts(files, thorough)
    letters = "" if thorough else r" AND NOT regexp_full_match(word, '\p{L}+')"
    engine.run(
        "CREATE OR REPLACE TEMP TABLE search_words AS SELECT DISTINCT word FROM "
        f"(SELECT {_words_sql('text')} AS word FROM (SELECT DISTINCT text FROM ({texts}))) "
        f"WHERE len(word) BETWEEN 6 AND {LONGEST} AND NOT regexp_full_match(word, '{IGNORED}'){letters}"
    )
    engine.run(f"CREATE OR REPLACE TEMP TABLE search_tokens AS {tokens}")
    found = []
    for name in identity.identifiers:
        made = privacy.token_sql(name, "word", secret, privacy.rule(identity, name))
        # A number is costly to judge, and what has no eight digits is no telephone number.
        digits = (
            r" WHERE regexp_full_match(word, '[+(\d][\d ()/.-]{7,24}') OR contains(word, '@')"
            if name in identity.phones
            else ""
        )
        found += engine.rows(
            f"SELECT {_literal(name)}, word FROM (SELECT word, {made} AS made FROM search_words{digits}) "
            f"WHERE made IN (SELECT id_token FROM search_tokens WHERE id_name = {_literal(name)})"
        )
    if thorough:
        found += engine.rows(
            "SELECT id_name, id_token FROM search_tokens WHERE id_token IN (SELECT word FROM search_words)"
        )
    if not found:  # as always, but for a mistake: only then are the texts asked which of them it is
        return []
    engine.register(pd.DataFrame(found, columns=["id_name", "word"], dtype=object), "search_hits")
    texts = f"SELECT DISTINCT place, text FROM ({texts})"
    if len(found) <= FEW:  # it is much cheaper to look for a few words than to take all texts apart again
        holds = f"contains({_readable_sql('text')}, word)"
        texts = f"SELECT place, text FROM ({texts}) WHERE EXISTS (SELECT 1 FROM search_hits WHERE {holds})"
    rows = engine.rows(
        f"SELECT DISTINCT place, id_name, h.word FROM (SELECT place, {_words_sql('text')} AS word FROM ({texts})) w "
        "JOIN search_hits h USING (word)"
    )
    return sorted(Hit(*row) for row in rows)


def listed(tokens: dict[str, list[str]]) -> str:
    """Return the query of given tokens, identifier → tokens, as `find` asks for it."""
    rows = ", ".join(f"({_literal(name)}, {_literal(token)})" for name, given in tokens.items() for token in given)
    return f"SELECT * FROM (VALUES {rows or '(NULL, NULL)'}) AS given (id_name, id_token)"


def files_of(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in order; no link is followed, and plotly's script is none of a study's files."""
    for here, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(here) / name
            if path.is_file() and not path.is_symlink() and not figures.is_library(path):
                yield path


def _texts(files: Iterable[tuple[str, Path]], thorough: bool) -> str:
    """Return the query of the texts of files: place and text; lines of text files are in a temporary table."""
    engine.run("CREATE OR REPLACE TEMP TABLE search_lines (place VARCHAR, text VARCHAR)")
    queries = ["SELECT place, text FROM search_lines"]
    batch: list[tuple[str, str]] = []
    size = 0
    for place, path in files:
        batch.append((place, path.name))
        if path.suffix == ".parquet":
            queries += _columns(path, place, thorough)
            continue
        for lines in _lines(path):
            batch += [(place, line) for line in lines]
            size += sum(map(len, lines))
            if size > PIECE:
                _store(batch)
                batch, size = [], 0
    _store(batch)
    return " UNION ALL ".join(queries)


def _store(batch: list[tuple[str, str]]) -> None:
    engine.register(pd.DataFrame(batch, columns=["place", "text"], dtype=object), "search_batch")
    engine.run("INSERT INTO search_lines SELECT place, text FROM search_batch")


def _lines(path: Path) -> Iterator[set[str]]:
    """Yield the lines of a text file, a piece of the file at a time, each line once; nothing of another file."""
    with path.open("rb") as file:
        if b"\0" in file.read(4096):
            return
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        while piece := text.readlines(PIECE):
            yield set(_written("".join(piece)))


def _written(text: str) -> Iterator[str]:
    """Yield the lines of a text as it is, and as it reads when its escapes are resolved, once or several times over."""
    text = BASE64.sub(" ", text)
    for _ in range(4):  # an e-mail address in HTML in JSON is escaped twice
        yield from COORDINATES.sub(" ", text).splitlines()
        before, text = text, ESCAPED.sub(_resolve, unquote(html.unescape(text)))
        if text == before:
            return


def _resolve(found: re.Match[str]) -> str:
    code, letter, quoted = found.groups()
    if code or quoted:
        number = int(code or quoted, 16)
        return " " if 0xD800 <= number < 0xE000 else chr(number)  # half of a pair is no letter
    return " " if letter in "nrtbf" else str(letter)


def _columns(path: Path, place: str, thorough: bool) -> list[str]:
    """Return the query of a table's text columns; tokens and the ids of events are made here and left out."""
    table = f"read_parquet({_literal(str(path))})"
    cells = []
    for column, kind in engine.rows(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {table})"):
        if "VARCHAR" not in kind and "JSON" not in kind:
            continue
        name = '"' + column.replace('"', '""') + '"'
        made = {"event_id": EVENT_ID}.get(column, TOKEN if column.startswith("id_") else "")
        text = f"CAST({name} AS VARCHAR)"
        if made and not thorough:
            text = f"CASE WHEN NOT regexp_full_match({name}, '{made}') THEN {text} END"
        cells.append(f"{{'column_name': {_literal(column)}, 'text': {text}}}")
    if not cells:
        return []
    # One look at the table for all columns: a study may have hundreds of small tables.
    distinct = f"SELECT DISTINCT unnest([{', '.join(cells)}], recursive := true) FROM {table}"
    packed = f"column_name IN {PACKED} AND starts_with(text, '{{') AND json_valid(text)"
    values = f"unnest(CASE WHEN {packed} THEN json_extract_string(text, '$.*') ELSE [text] END)"
    where = f"{_literal(place)} || ' (' || column_name || ')'"
    return [f"SELECT {where} AS place, {values} AS text FROM ({distinct}) WHERE text IS NOT NULL"]


def _words_sql(text: str) -> str:
    """Return the SQL of the words of a text, one a row."""
    readable = _readable_sql(text)
    rest = f"regexp_replace({text}, '{WHOLE}', ' ', 'g')"
    found = [f"regexp_extract_all({readable}, {_literal(pattern)})" for pattern in (CELL, MAIL, PHONE, SPACED, JOINED)]
    # An address in the name of a file seems to go on with its ending.
    bare = f"lambda word: regexp_replace(word, {_literal(ENDING)}, '')"
    found += [f"list_transform(regexp_extract_all({readable}, {_literal(MAIL)}), {bare})"]
    found += [f"regexp_extract_all({rest}, {_literal(pattern)})" for pattern in (HYPHENED, PLAIN)]
    return f"trim(unnest(list_concat([{text}], {', '.join(found)})))"


def _readable_sql(text: str) -> str:
    """Return the SQL of a text in which each way to write an @ is an @: tables hold links and HTML too."""
    return f"CASE WHEN regexp_matches({text}, '{AT}') THEN regexp_replace({text}, '{AT}', '@', 'g') ELSE {text} END"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
