"""Which columns identify somebody or something: addresses, numbers, devices, customers, orders, and the row itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from journeykit.discover import words
from journeykit.discover.columns import EMAIL, LOCAL_PHONE, OPAQUE, PHONE, UUID, Column
from journeykit.discover.guesses import Guess, percent

FITS = 0.8  # share of values that must look alike
PLACEHOLDER = re.compile(r"(?i)|null|none|undefined|anonymous|unknown|test|-1|\(not set\)|[0-]+")


def row_id(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the column that is the id of the row: never twice, and named like one."""
    busy = set(taken)
    found = []
    for column in columns.values():
        if column.name in busy or column.filled < 0.95 or column.unique < 0.9 or len(column.values) < 2:
            continue
        row = words.ROW | words.KINDS["session"]  # a visit that is never there twice is a row
        named = column.has(row) and (column.has(words.ID) or "uuid" in column.words)
        if (named or column.words in (("id",), ("uuid",), ("guid",))) and not _is_contact(column):
            found.append((not named, -column.unique, column))
    if not found:
        return None
    _, _, best = min(found, key=lambda one: one[:2])
    why = f"named as the id of a row; {percent(best.unique)} of its values are different"
    return Guess("event_id", best.name, why, "sure" if best.unique == 1 else "likely")


def identifiers(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Guess]:
    """Return the identifiers of a table: at most one of a kind, the best of it, and others by their own name."""
    busy = set(taken)
    found: dict[str, list[tuple[float, Column, str]]] = {}
    for column in columns.values():
        if column.name in busy or (column.moment and not column.has(words.ID, words.PHONE)):
            continue
        kind, score, why = _kind(column)
        if kind:
            found.setdefault(kind, []).append((score, column, why))
    guesses = []
    for kind, columns_of_kind in found.items():
        columns_of_kind.sort(key=lambda one: (-one[0], -one[1].filled))
        for place, (score, column, why) in enumerate(columns_of_kind[:2]):
            if place and (kind in ("email", "phone", "session", "ticket") or score < columns_of_kind[0][0] - 0.5):
                continue
            name = kind if not place else words.slug(column.name).removesuffix("_id")
            usable = sum(not PLACEHOLDER.fullmatch(value) for value in column.values) / max(1, column.rows_n)
            why = f"{why}; filled in {percent(usable)} of the rows, {column.distinct:,} different in the sample"
            confidence = "sure" if score >= 2 else "likely" if score >= 1 else "check"
            guesses.append(Guess(f"identifiers.{name}", column.name, why, confidence))  # type: ignore[arg-type]
    return sorted(guesses, key=lambda guess: trust(guess.key.removeprefix("identifiers.")))


def trust(kind: str) -> int:
    """Return the place of an identifier in the order of trust."""
    return words.TRUST.index(kind) if kind in words.TRUST else 4


def fallback(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Guess]:
    """Return the column most like an identifier where none is named like one: opaque values, many different ones."""
    busy = set(taken)
    found = [
        column
        for column in columns.values()
        if column.name not in busy
        and not column.moment
        and column.filled > 0.5
        and column.distinct > 20
        and not column.has(words.NOT_PEOPLE)
        and (column.share(OPAQUE) > FITS or column.share(UUID) > FITS)
        and not (column.numeric and not column.whole)
    ]
    if not found:
        return []
    best = max(found, key=lambda column: (column.share(UUID), column.has(words.ID), column.unique))
    why = f"no column is named like an identifier; this one holds {best.distinct:,} different values without blanks"
    return [Guess(f"identifiers.{words.slug(best.name).removesuffix('_id')}", best.name, why, "check")]


def _is_contact(column: Column) -> bool:
    return column.share(EMAIL) > FITS or column.share(PHONE) > FITS


def _kind(column: Column) -> tuple[str, float, str]:
    """Return the kind of identifier that a column holds ("" for none), how good it is, and why."""
    staff = column.has(words.NOT_PEOPLE)
    if "client" in column.words and _is_browser(column):
        return "device", 2, "Google's ids of browsers"
    share = column.share(EMAIL)
    if share > FITS:
        return "email", 1 if staff else 3 if column.has(words.EMAIL) else 2, f"{percent(share)} look like addresses"
    share = column.share(PHONE)
    if share > FITS or (column.has(words.PHONE) and column.share(LOCAL_PHONE) > FITS):
        return "phone", 0.5 if staff else 2.5, f"{percent(column.share(LOCAL_PHONE))} look like telephone numbers"
    if staff or column.has(words.TIME - {"on", "at", "data"}) or (column.numeric and not column.whole):
        return "", 0, ""
    joined = "_".join(column.words)
    named = column.has(words.ID) or joined in ("userid", "customerid", "domain_userid")
    for kind, names in words.KINDS.items():
        if any(word in names for word in column.words) or joined in names:
            if (kind == "device" and not (named or column.share(UUID) > FITS)) or column.length > 80:
                return "", 0, ""
            many = column.distinct > 20 or column.unique > 0.5
            if not many and not named:
                return "", 0, ""
            if not named and (column.share(OPAQUE) < FITS or not many):
                return "", 0, ""
            if kind == "session" and column.unique > 0.9:
                return "", 0, ""
            if kind == "device":
                return "device", 2, "named like a device, whose values are opaque"
            exact = column.words in ((kind,), (kind, "id"), (kind, "name")) or joined in ("user_id", "userid")
            return (
                kind,
                2 + (0.2 if exact else 0) if many else 0.5,
                f"named like the id of {'an' if kind[0] in 'aeiou' else 'a'} {kind}",
            )
    return "", 0, ""


def _is_browser(column: Column) -> bool:
    """GA's client ids: two numbers with a dot."""
    return column.share(re.compile(r"(GA\d\.\d\.)?\d{5,12}\.\d{8,12}")) > FITS
