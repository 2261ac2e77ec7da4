"""Which columns say what happened, where, what brought it, what it was worth, and what people said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from journeykit.discover import words
from journeykit.discover.columns import EMAIL, MONEY, Column
from journeykit.discover.guesses import Guess, percent

MOST_EVENTS = 200  # different names of events in a sample
MOST_GROUPS = 12  # different values of a column that groups are compared by


def free(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Column]:
    """Return the columns that nothing has taken yet."""
    busy = set(taken)
    return [column for column in columns.values() if column.name not in busy]


def event(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the column that names the event: few different texts, named like one."""
    best: tuple[float, Column] | None = None
    for column in free(columns, taken):
        few = column.distinct <= max(20, min(MOST_EVENTS, 0.25 * len(column.values)))
        if column.numeric or column.moment or not few or column.length > 60 or column.filled < 0.5:
            continue
        if column.share(EMAIL) > 0 or "case" in column.words or column.has(words.ID - {"code"}):
            continue
        strong = words.place(column.words, words.listed("event", "strong"))
        medium = words.place(column.words, words.listed("event", "medium"))
        score = 3 - strong / 100 if strong >= 0 else 2 - medium / 100 if medium >= 0 else 0
        if score and len(column.words) > 3:
            score -= 1  # such as "user first touch event"
        if score and (not best or score > best[0]):
            best = (score, column)
    if not best:
        return None
    score, column = best
    why = f"named like an event; {column.distinct} different names in {len(column.values):,} rows"
    return Guess("event", column.name, why, "sure" if score > 2.5 and column.distinct > 1 else "likely")


def marketing_channel(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the column that says what brought a visit: its values are words of marketing."""
    known = frozenset(words.listed("channel", "marketing"))
    names = words.listed("channel", "marketing_names")
    best: tuple[float, Column, float] | None = None
    for column in free(columns, taken):
        if column.distinct > 60 or column.numeric:
            continue
        share = _known(column, known)
        place = words.place(column.words, names)
        score = share + (0.6 - place / 100 if place >= 0 else 0)
        if (share >= 0.5 or (place >= 0 and place < len(names) - 1 and share > 0)) and (not best or score > best[0]):
            best = (score, column, share)
    if not best:
        return None
    _, column, share = best
    why = f"{percent(share)} of its values are words of marketing such as {_example(column, known)}"
    return Guess("marketing_channel", column.name, why, "sure" if share > 0.9 else "likely")


def channel(columns: Mapping[str, Column], taken: Iterable[str], path: Path) -> Guess:
    """Return where events take place: a column of such words, else a constant by the name of the file."""
    known = frozenset(words.listed("channel", "values"))
    names = words.listed("channel", "names")
    for column in sorted(free(columns, taken), key=lambda one: -words.place(one.words, names)):
        named = words.place(column.words, names) >= 0
        if named and column.distinct <= MOST_GROUPS and _known(column, known) > 0.7:
            why = f"{percent(_known(column, known))} of its values are places such as {_example(column, known)}"
            return Guess("channel", column.name, why)
    said = [word for part in reversed(path.parts[-3:]) for word in words.split(part)]
    for name, family in words.families("channel", "files").items():
        if any(word in family for word in said):
            return Guess("channel", {"constant": name}, "by the name of the file")
    return Guess("channel", {"constant": "web"}, "no column and no name says where events take place", "check")


def _known(column: Column, known: frozenset[str]) -> float:
    fitting = sum(n for value, n in column.counts.items() if _plain(value) in known)
    return fitting / len(column.values)


def _plain(value: str) -> str:
    return re.sub(r"[\s-]+", "_", value.strip().lower()) if value.lower() not in ("e-mail",) else "email"


def _example(column: Column, known: frozenset[str]) -> str:
    return ", ".join(repr(value) for value, _ in column.counts.most_common(30) if _plain(value) in known)[:60]


def value(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Guess]:
    """Return the amount: numbers under a name of money, the total rather than a part of it."""
    strong = words.listed("measure", "value_strong")
    weak = frozenset(words.listed("measure", "value"))
    found = []
    for column in free(columns, taken):
        if column.moment and column.moment.unit == "text":
            continue
        named = column.has(weak) and not column.has(words.ID, {"type", "method", "currency", "status"})
        money = column.share(MONEY) > 0.9
        if not (named and money) or column.distinct < 2:
            continue
        place = words.place(column.words, strong)
        decimals = any("." in text or "," in text for text in column.values[:200])
        found.append((place if place >= 0 else 99, not decimals, column))
    if not found:
        return []
    place, _, best = min(found, key=lambda one: one[:2])
    return _amount(best, place < 99)


def _amount(column: Column, strong: bool) -> list[Guess]:
    guesses = []
    why = "numbers under a name of money"
    comma = column.share(re.compile(r".*\d,\d{1,2}\D*")) > 0.5
    confidence: Any = "likely" if strong else "check"
    if column.numeric:
        guesses.append(Guess("value", column.name, why, confidence))
    else:
        text = f"col({column.name!r})"
        marks = sorted({mark for value in column.values for mark in value if mark in "€$£%' "})
        for mark in [*marks, *([".", ","] if comma else [","])]:
            text = f"replace({text}, {mark!r}, {'.' if comma and mark == ',' else ''!r})"
        kind = "a decimal comma" if comma else "marks between the digits"
        guesses.append(Guess("value", {"expression": f"number({text})"}, f"{why}, with {kind}", confidence))
    negative = sum(value.startswith("-") for value in column.values)
    if negative:
        share = percent(negative / len(column.values))
        why = f"{why}; {share} are negative and would be quarantined: leave refunds out with where_not"
        guesses[0] = Guess("value", guesses[0].value, why, "check")
    if column.has(words.listed("measure", "cents")):
        guesses.append(Guess("value_scale", 0.01, "its name says cents"))
    return guesses


def satisfaction(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the answer and its scale: whole numbers of a small range under a name of surveys."""
    for column in free(columns, taken):
        hints = [word for word in column.words if word in words.ANSWERS]
        if not hints or not column.whole or column.distinct > 14:
            continue
        numbers = [float(value) for value in column.values]
        inside = [number for number in numbers if 0 <= number <= 10]
        if len(inside) < 0.95 * len(numbers) or len(set(inside)) < 2:
            continue
        low, high = words.ANSWERS[hints[0]]
        if max(inside) > high or min(inside) < low:
            low, high = min(low, int(min(inside))), 10 if max(inside) > 7 else 7 if max(inside) > 5 else high
        shown = percent(len(inside) / len(numbers))
        why = f"{shown} are whole numbers {min(inside):.0f} to {max(inside):.0f} under a name of surveys"
        whole = (min(inside), max(inside)) == (low, high)
        scale = {"column": column.name, "low": low, "high": high}
        return Guess("satisfaction", scale, why, "sure" if whole else "check")
    return None


def comment(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the free text: named like one, several words long, mostly different."""
    found = [
        column
        for column in free(columns, taken)
        if column.has(words.listed("measure", "comment"))
        and not column.has({"title", "type", "status", "id"})
        and column.length > 12
        and sum(" " in text for text in column.values) > 0.5 * len(column.values)
        and (column.distinct > 8 or column.unique > 0.5)
    ]
    if not found:
        return None
    best = max(found, key=lambda column: column.length)
    why = f"text of {best.length:.0f} characters on average; addresses and numbers are removed on reading"
    return Guess("comment", best.name, why)


def segments(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Guess]:
    """Return up to four columns by which groups can be compared: few values, named like one."""
    names = words.listed("measure", "segment")
    found = []
    for column in free(columns, taken):
        place = words.place(column.words, names)
        if place < 0 or not 2 <= column.distinct <= MOST_GROUPS or column.moment or column.length > 40:
            continue
        if column.filled > 0.02 and not (column.numeric and column.distinct > 6):
            found.append((place, column))
    found.sort(key=lambda one: (one[0], one[1].name))
    guesses: dict[str, Guess] = {}
    for _, column in found:
        name = words.slug(column.words[-1] if len(column.words) > 2 else column.name)
        why = f"{column.distinct} different values; groups can be compared by it"
        guesses.setdefault(name, Guess(f"segments.{name}", column.name, why))
    return list(guesses.values())[:4]


def left_out_rows(columns: Mapping[str, Column]) -> list[Guess]:
    """Return the rules for rows that are no customer's: test mode, bots, deleted rows."""
    guesses = []
    for column in columns.values():
        joined = "_".join(column.words)
        if not {value.lower() for value in column.counts} <= {"true", "false", "0", "1", "yes", "no"}:
            continue
        positive = ["true", "1", "yes"]
        for key in ("where", "where_not"):
            if joined in words.listed("rows", key):
                other = "test mode" if key == "where" else "named like a mark of rows that are no customer's"
                guesses.append(Guess(f"{key}.{column.name}", positive, other))
    return guesses


def sequence(columns: Mapping[str, Column], taken: Iterable[str]) -> Guess | None:
    """Return the column that orders events of the same time."""
    for column in free(columns, taken):
        if column.whole and words.place(column.words, words.listed("measure", "sequence")) >= 0:
            return Guess("sequence", column.name, "whole numbers, named like an order")
    return None


def spend(columns: Mapping[str, Column], taken: Iterable[str]) -> list[Guess]:
    """Return the amount and the channel of a table of spend by day; [] where it is none."""
    cost = [one for one in free(columns, taken) if one.has(words.listed("measure", "cost")) and one.share(MONEY) > 0.9]
    if not cost:
        return []
    named = words.place
    names = words.listed("channel", "marketing_names")
    channels = [one for one in free(columns, taken) if named(one.words, names) >= 0 and one.distinct <= 60]
    if not channels:
        return []
    amount = _amount(cost[0], strong=True)[0]
    best = min(channels, key=lambda one: named(one.words, names) if _known_any(one) == 0 else -1)
    return [
        Guess("kind", "spend", "an amount named like spend, by day and channel, and nobody's id"),
        Guess("marketing_channel", best.name, f"{best.distinct} channels"),
        Guess("spend", amount.value, amount.why),
    ]


def _known_any(column: Column) -> float:
    return _known(column, frozenset(words.listed("channel", "marketing")))
