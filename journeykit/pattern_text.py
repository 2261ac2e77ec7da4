"""The language of patterns: what comes directly after what, written as text, such as `cart -> [^purchase]* -> exit`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from journeykit.errors import JourneyError

START, EXIT = "start", "exit"
MOST = 200  # different values that one pattern may name: each is a byte
_NAMED, _ANY_OTHER = 0x20, 0x01  # the byte of the first named value, and of all that are not named
_TIMES = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_QUANTIFIED = {times: sign for sign, times in _TIMES.items()}
_ALLOWED = (
    "Allowed between the arrows: a value; [a | b] one of them; [^a | b] one other; . any one; each of these with * "
    "(any number), + (one or more) or ? (none or one) after it; start first and exit last, which stand "
    'for those of the unit. What holds one of -> [ ] | * + ? ", or is called start or exit, must be quoted: "C++".'
)


@dataclass(frozen=True)
class Token:
    """One or several events in a row: one of the values, or (`other`) none of them."""

    values: tuple[str, ...]
    other: bool = False
    least: int = 1
    most: int | None = 1

    @property
    def is_gap(self) -> bool:
        """Whether it is any number of events of which only some values are excluded."""
        return self.other and (self.least, self.most) == (0, None)

    def __str__(self) -> str:
        names = " | ".join(quoted(value) for value in self.values)
        text = names if len(self.values) == 1 and not self.other else f"[{'^' * self.other}{names}]"
        return ("." if self.other and not self.values else text) + _QUANTIFIED.get((self.least, self.most), "")


@dataclass(frozen=True)
class Pattern:
    """A pattern as it was read."""

    text: str
    tokens: tuple[Token, ...]
    at_start: bool  # nothing may come before it
    at_exit: bool  # nothing may come after it

    @property
    def values(self) -> list[str]:
        """The values that it names, in alphabetical order."""
        return sorted({value for token in self.tokens for value in token.values})

    def bytes_of(self, values: Sequence[str]) -> bytes:
        """Return the byte that stands for each value in what `regex` is matched with."""
        number = {value: _NAMED + k for k, value in enumerate(self.values)}
        return bytes(number.get(value, _ANY_OTHER) for value in values)

    @property
    def regex(self) -> str:
        """The regular expression of bytes that says the same; no backtracking is needed to match it."""
        parts = []
        for token in self.tokens:
            chosen = "".join(rf"\x{byte:02x}" for byte in self.bytes_of(token.values))
            one = f"[{'^' * token.other}{chosen}]" if chosen else "."
            parts.append(one + _QUANTIFIED.get((token.least, token.most), ""))
        return "(?s)" + r"\A" * self.at_start + "".join(parts) + r"\z" * self.at_exit


def read(text: str) -> Pattern:
    r"""Read a pattern.

    Tokens are joined by `->`: the next one comes directly after. A token is a value (with spaces, if it has some);
    `[a | b]` or `a | b` one of them; `[^a | b]` one event that is neither; `.` any one event. After a token, `*` is any
    number of such events, also none, `+` one or more, `?` none or one; so `.*` is any gap and `[^a]*` a gap without a.
    A bare `start` is the beginning of the unit and `exit` its end; `"start"` in quotes is a value. In quotes, `\"` is a
    quote. Nothing at an open end is said by what may be nothing, so that `[^a]* -> b` is refused: begin with `start`.

    Raises:
        JourneyError: it is no pattern; the message says where, and what is allowed.

    >>> read('ad -> [^buy | "C++"]* -> exit').tokens[1]
    Token(values=('buy', 'C++'), other=True, least=0, most=None)
    """
    return _Reader(text).pattern()


class _Reader:
    """A text and how far it was read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def pattern(self) -> Pattern:
        tokens: list[Token | str] = []
        where = []
        while True:
            self.skip()
            where.append(self.at)
            tokens.append(self.token())
            self.skip()
            if self.at == len(self.text):
                break
            if not self.take("->"):
                raise self.error(f"found {self.text[self.at]!r} where -> or the end is expected")
        at_start, at_exit = tokens[0] == START, tokens[-1] == EXIT
        inner = tokens[at_start : len(tokens) - at_exit]
        for token, place in zip(inner, where[at_start:], strict=False):
            if isinstance(token, str):
                side = "first" if token == START else "last"
                raise self.error(f'{token} can only come {side}; if it is a value, write "{token}"', place)
        found = Pattern(self.text, tuple(token for token in inner if isinstance(token, Token)), at_start, at_exit)
        self.check(found, where[at_start:])
        return found

    def check(self, found: Pattern, where: list[int]) -> None:
        ends = [(0, found.at_start, "begin with start ->"), (-1, found.at_exit, "end with -> exit")]
        for end, closed, remedy in ends:
            token = found.tokens[end] if found.tokens else None
            if token and not closed and not token.least and token.values:
                place = where[end % len(found.tokens)]
                raise self.error(f"{token} at the open end may be nothing, and so says nothing; {remedy}", place)
        if not any(token.least for token in found.tokens) and not (found.tokens and found.at_start and found.at_exit):
            raise self.error("it asks for no event", 0)
        if len(found.values) > MOST:
            raise self.error(f"it names {len(found.values)} values, and {MOST} are allowed; exclude with [^a | b]", 0)

    def token(self) -> Token | str:
        if self.take("["):
            other = self.take("^")
            self.skip()
            values = [] if other and self.peek("]") else self.values("]")
            if not self.take("]"):
                raise self.error("a ] is missing")
            return self.times(tuple(values), other)
        dot = re.compile(r"\.\s*(?=[*+?]|->|$)").match(self.text, self.at)
        if dot:
            self.at = dot.end()
            return self.times((), True)
        begun = self.at
        values = self.values("->", alone=True)
        if values in ([START], [EXIT]) and self.text[begun] != '"':
            return values[0]
        return self.times(tuple(values), False)

    def times(self, values: tuple[str, ...], other: bool) -> Token:
        self.skip()
        sign = self.text[self.at : self.at + 1]
        if sign not in _TIMES or not sign:
            return Token(values, other)
        self.at += 1
        return Token(values, other, *_TIMES[sign])

    def values(self, until: str, alone: bool = False) -> list[str]:
        """Read alternatives; `alone`: a bare start or exit may stand here if nothing else does."""
        places = [self.at]
        found = [self.value(until)]
        while self.take("|"):
            self.skip()
            places.append(self.at)
            found.append(self.value(until))
        for value, place in zip(found, places, strict=True):
            if value in (START, EXIT) and self.text[place] != '"' and not (alone and len(found) == 1):
                raise self.error(f'{value} cannot be one of several; if it is a value, write "{value}"', place)
        return list(dict.fromkeys(found))

    def value(self, until: str) -> str:
        self.skip()
        if self.peek('"'):
            found = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(self.text, self.at)
            if not found:
                raise self.error("a quote is not closed")
            self.at = found.end()
            self.skip()
            return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)
        bare = re.compile(r'(?:(?!->)[^\[\]|*+?"])*').match(self.text, self.at)
        value = bare[0].strip() if bare else ""
        if not value:
            what = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            raise self.error(f"found {what} where a value is expected, up to {until}")
        self.at += len(bare[0]) if bare else 0
        return value

    def take(self, word: str) -> bool:
        self.skip()
        there = self.text.startswith(word, self.at)
        self.at += len(word) * there
        return there

    def peek(self, word: str) -> bool:
        self.skip()
        return self.text.startswith(word, self.at)

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def error(self, what: str, at: int | None = None) -> JourneyError:
        place = (self.at if at is None else at) + 1
        return JourneyError(f"pattern {self.text!r}, position {place}: {what}. {_ALLOWED}")


def quoted(value: str) -> str:
    """Return a value as it stands in a pattern, in quotes where it must.

    >>> quoted("Product page"), quoted("C++")
    ('Product page', '"C++"')
    """
    odd = re.search(r'[\[\]|*+?"]|->', value) or value in (START, EXIT, ".", "") or value != value.strip()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if odd else value
