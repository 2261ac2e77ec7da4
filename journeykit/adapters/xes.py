"""Event logs in XES (IEEE 1849) as JSON Lines: one line per event, the attributes of its trace as `case:<key>`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from json.encoder import encode_basestring
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from journeykit.errors import JourneyError

NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
VALUES = {"string", "date", "int", "float", "boolean", "id"}
NESTED = {"list", "container"}
MAX_DEPTH = 100  # levels of lists within lists
MAX_TOKEN = 64 << 20  # bytes of one attribute
MAX_HELD = 10_000  # events of a trace that are held until its last attribute is known


class _Number(str):
    """A number as the file writes it, which stands in JSON without quotes."""


def write_lines(pieces: Iterable[bytes], target: Path, where: str) -> None:
    """Write the events of a log to `target`, in bounded memory; definitions of entities are refused.

    Values that a `<global>` declares stand in for attributes that an event or trace lacks. A list is an array of
    `{key: value}`, a container an object, and what is nested below a simple attribute `a` stands as `a:<key>`.

    Raises:
        JourneyError: it is not XES, or is broken or cut off.
    """
    with target.open("w", encoding="utf-8", errors="replace", newline="\n") as out:
        log = _Log(out, where)
        taken = 0
        try:
            for piece in pieces:
                taken += len(piece)
                log.parser.Parse(piece, False)
                if taken - log.parser.CurrentByteIndex > MAX_TOKEN:
                    raise JourneyError(f"{where}: near byte {taken:,} one value is longer than {MAX_TOKEN >> 20} MB.")
            log.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise JourneyError(
                f"{where}: broken at line {error.lineno:,}, after event {log.events:,}: "
                f"{expat.errors.messages[error.code]}. Export the log again; .xes must be whole XML."
            ) from None
    if not log.is_log:
        raise JourneyError(f"{where}: is XML but not XES: its first element is not <log>. Set format to what it is.")


class _Log:
    """The state of reading a log: the element that is open, and what its trace said so far."""

    def __init__(self, out: IO[str], where: str) -> None:
        self.out = out
        self.where = where
        self.events = 0
        self.is_log = False
        self.defaults: dict[str, dict[str, Any]] = {"event": {}, "trace": {}}
        self.trace: dict[str, Any] = {}
        self.held: list[dict[str, Any]] = []
        self.flushed = False
        self.open: list[tuple[str, str, Any]] = []  # element, key, what its children are added to
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise JourneyError(
            f"{self.where}: line {self.parser.CurrentLineNumber:,} has a document type declaration (<!DOCTYPE>), which "
            "XES does not use and which can hide an attack. Remove it if you trust the file."
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        parent, _, into = self.open[-1] if self.open else ("", "", None)
        if len(self.open) > MAX_DEPTH:
            raise JourneyError(
                f"{self.where}: line {self.parser.CurrentLineNumber:,}: nested more than {MAX_DEPTH} levels deep."
            )
        key = attributes.get("key", "")
        below: Any = None
        if not self.open:
            self.is_log = tag == "log"
        elif tag == "trace" and parent == "log":
            self.trace, self.held, self.flushed = {}, [], False
            below = self.trace
        elif tag == "event" and parent in ("trace", "log"):
            below = {}
        elif tag == "global" and parent == "log":
            below = self.defaults.setdefault(attributes.get("scope", "event"), {})
        elif tag in VALUES and into is not None:
            self._late(parent)
            below = _Beside(_add(into, key, _value(tag, attributes.get("value", ""))), key)
        elif tag in NESTED and into is not None:
            self._late(parent)
            below = [] if tag == "list" else {}
            _add(into, key, below)
        elif tag == "values":  # the standard puts the items of a list into it, older files do not
            below = into
        self.open.append((tag, key, below))

    def _late(self, parent: str) -> None:
        if parent == "trace" and self.flushed:
            raise JourneyError(
                f"{self.where}: line {self.parser.CurrentLineNumber:,}: an attribute of a trace comes after more than "
                f"{MAX_HELD:,} of its events. The standard puts it before them; mend the export."
            )

    def _end(self, tag: str) -> None:
        tag, _, below = self.open.pop()
        parent = self.open[-1][0] if self.open else ""
        if tag == "event" and below is not None:
            self.held.append(below)
            if parent == "log":  # outside of any trace: it has no case
                self._write({})
            elif len(self.held) >= MAX_HELD:
                self._write(self._case())
                self.flushed = True
        elif tag == "trace" and below is not None:
            self._write(self._case())

    def _case(self) -> dict[str, Any]:
        return {f"case:{key}": value for key, value in {**self.defaults["trace"], **self.trace}.items()}

    def _write(self, case: dict[str, Any]) -> None:
        for event in self.held:
            self.out.write(_json({**case, **self.defaults["event"], **event}) + "\n")
            self.events += 1
        self.held = []


class _Beside:
    """Where the attributes of an attribute go: beside it, under `<its key>:<their key>`."""

    def __init__(self, into: Any, key: str) -> None:
        self.into = into
        self.key = key

    def setdefault(self, key: str, value: Any) -> Any:
        return self.into.setdefault(f"{self.key}:{key}", value)


def _add(into: Any, key: str, value: Any) -> Any:
    """Add an attribute to an event, a trace, a container or a list; return what holds it. The first of a key stays."""
    if isinstance(into, list):
        into.append({})
        into = into[-1]
    into.setdefault(key, value)
    return into


def _value(tag: str, text: str) -> Any:
    """Return an attribute's value: a truth value, a number as it is written, or text."""
    if tag == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return _Number(text) if tag in ("int", "float") and NUMBER.fullmatch(text) else text


def _json(value: Any) -> str:
    """Write a value as JSON, numbers as they are in the file.

    >>> _json({"a": [_Number("1.10"), "x", True]})
    '{"a":[1.10,"x",true]}'
    """
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_basestring(key)}:{_json(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return "true" if value else "false"
