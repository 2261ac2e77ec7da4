"""Words that names of columns, events and files are made of, and what they suggest (`words.toml`)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_GIVEN: dict[str, Any] = tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))


def listed(part: str, name: str) -> tuple[str, ...]:
    """Return a list of words, in its order.

    >>> listed("measure", "cents")
    ('cent', 'cents', 'minor', 'pence')
    """
    return tuple(_GIVEN[part][name].split())


def families(part: str, name: str = "") -> dict[str, frozenset[str]]:
    """Return the lists of words of a table, by what they suggest."""
    table = _GIVEN[part][name] if name else _GIVEN[part]
    return {key: frozenset(text.split()) for key, text in table.items() if isinstance(text, str)}


TIME = frozenset(listed("time", "any"))
MAIN_TIME = listed("time", "main")
RECEIVED = frozenset(listed("time", "received"))
UPDATED = frozenset(listed("time", "updated"))
PLANNED = frozenset(listed("time", "planned"))
BIRTH = frozenset(listed("time", "birth"))
ENDINGS = frozenset(listed("time", "endings"))
BARE = frozenset(listed("time", "bare"))
ID = frozenset(listed("identifier", "id"))
ROW = frozenset(listed("identifier", "row"))
NOT_PEOPLE = frozenset(listed("identifier", "not_people"))
EMAIL = frozenset(listed("identifier", "email"))
PHONE = frozenset(listed("identifier", "phone"))
TRUST = listed("identifier", "trust")
KINDS = families("identifier", "kinds")
ANSWERS: dict[str, tuple[int, int]] = {word: (low, high) for word, (low, high) in _GIVEN["measure"]["answers"].items()}


def split(name: str) -> tuple[str, ...]:
    """Return the words of a name in lower case.

    >>> split("customerID"), split("case:concept:name"), split("Created at")
    (('customer', 'id'), ('case', 'concept', 'name'), ('created', 'at'))
    """
    spaced = re.sub(r"([a-zäöüß0-9])([A-ZÄÖÜ])", r"\1 \2", name)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    return tuple(word for word in re.split(r"[^0-9a-zäöüßéèáàñç]+", spaced.lower()) if word)


def slug(text: str) -> str:
    """Return a name that journey.toml allows: lower case letters, digits and underscores, a letter first.

    >>> slug("Web-Shop 2025"), slug("2025"), slug("Größe")
    ('web_shop_2025', 'x2025', 'groesse')
    """
    text = text.lower()
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(letter, plain)
    made = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
    return made if made[:1].isalpha() else f"x{made}"


def place(words: Iterable[str], names: Iterable[str]) -> int:
    """Return where a name stands in a list of names: all its words joined by _, or the last of them; -1 for nowhere.

    >>> place(("server", "created", "at"), ("date", "created_at"))
    1
    """
    joined = "_".join(words)
    for number, name in enumerate(names):
        if joined == name or joined.endswith(f"_{name}"):
            return number
    return -1
