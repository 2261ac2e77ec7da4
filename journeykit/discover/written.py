"""Write guesses as a journey.toml that reads like one written by hand, each guess with its reason."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from journeykit.discover import who
from journeykit.discover.guesses import Guess, SourceGuess
from journeykit.discover.recognise import preset_sources
from journeykit.discover.story import Story, label

COLUMN = 48  # where comments begin
WIDE = 118
TABLES = ("identifiers", "segments", "where", "where_not")
ORDER = (
    "preset", "kind", "format", "encoding", "delimiter", "quote", "header_rows", "columns", "records", "optional",
    "event", "event_id", "duplicates", "sequence", "channel", "marketing_channel", "value", "value_scale",
    "satisfaction", "comment", "spend", "time", "received", *TABLES, "emits",
)  # fmt: skip


def journey_toml(
    title: str,
    guesses: Sequence[SourceGuess],
    aside: Sequence[SourceGuess],
    story: Story,
    study: Sequence[Guess] = (),
) -> str:
    """Return the text of a journey.toml: the study, its sources, who is who, the journey, its stages and questions.

    `aside` are tables that give no events; they stand as comments. `study` are guesses about `[study]`.
    """
    lines = [
        '# Guessed from samples of the files. A comment says what a guess rests on; "please check": on little.',
        "# data/README.md lists all keys, and data/laptop_store/journey.toml shows most of them at work.",
        "",
        "[study]",
        _line("title", title, "heading of the report"),
        *(_line(guess.key, guess.value, _why(guess)) for guess in study),
        '# question = "What is the report to answer?"',
        "",
        _rule(
            "Sources: each row of a file becomes an event, a duplicate, a quarantined row or a row left out by a rule"
        ),
    ]
    for guess in guesses:
        lines += ["", *_source(guess)]
    for guess in aside:
        lines += ["", _comment(f"{guess.sample.path.name} is not used and was not copied. {' '.join(guess.missing)}")]
    lines += ["", _rule("Who is who"), "", *_identity(guesses), ""]
    lines += [*_sessions(guesses), *_journeys(story)]
    if story.stages:
        lines += [_rule("The map: stages in order and their touchpoints; name the team that owns each"), ""]
        lines += [_comment(f"guessed: {story.why['stages']}; please check"), *_stages(story)]
    questions = list(_questions(story))
    if questions:
        lines += [_rule("Questions"), "", *questions]
    return "\n".join(lines).rstrip() + "\n"


def _rule(text: str) -> str:
    return f"# ── {text} " + "─" * max(3, 114 - len(text))


def _why(guess: Guess) -> str:
    return f"guessed: {guess.why}" + ("; please check" if guess.confidence == "check" else "")


def _line(key: str, value: Any, comment: str = "") -> str:
    text = f"{_key(key)} = {toml(value)}"
    if not comment:
        return text
    if len(text) < COLUMN and COLUMN + len(comment) < WIDE:
        return f"{text:<{COLUMN}}# {plain(comment)}"
    return f"{_comment(comment)}\n{text}"


def plain(text: str) -> str:
    """Return text on one line without control characters, for names of columns and files may hold any."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def _comment(text: str) -> str:
    return textwrap.fill(plain(text), WIDE, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def toml(value: Any) -> str:
    """Return a value as TOML.

    >>> toml({"column": "a b", "low": 0}), toml(["x", True]), toml("tab\\t")
    ('{ column = "a b", low = 0 }', '["x", true]', '"tab\\\\t"')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {toml(one)}" for name, one in value.items()) + " }"
    return "[" + ", ".join(toml(one) for one in value) + "]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def _source(guess: SourceGuess) -> Iterator[str]:
    yield "[[sources]]"
    yield _line("name", guess.name)
    yield _line("path", guess.path)
    known = sorted(guess.guesses, key=lambda one: _place(one.key))
    for note in guess.notes:
        yield _comment(note)
    plain = [one for one in known if one.key.split(".")[0] not in (*TABLES, "emits")]
    for one in plain:
        yield _line(one.key, one.value, _why(one))
    for table in TABLES:
        inside = [one for one in known if one.key.startswith(f"{table}.")]
        if inside:
            yield f"[sources.{table}]"
            for one in inside:
                yield _line(one.key.split(".", 1)[1], one.value, _why(one))
    emits = next((one for one in known if one.key == "emits"), None)
    for number, emit in enumerate(emits.value if emits else []):
        if emits and not number:
            yield _comment(_why(emits))
        yield "[[sources.emits]]"
        for key, value in emit.items():
            yield _line(key, value)


def _place(key: str) -> int:
    table = key.split(".")[0]
    return ORDER.index(table) if table in ORDER else len(ORDER)


def identifiers(guesses: Sequence[SourceGuess]) -> list[str]:
    """Return the identifiers of all sources, in order of trust."""
    names: dict[str, None] = {}
    for guess in guesses:
        if guess.preset:
            names |= dict.fromkeys(preset_sources()[guess.preset].identifiers)
        names |= dict.fromkeys(guess.starting("identifiers."))
    return sorted(names, key=lambda name: (who.trust(name), list(names).index(name)))


def _identity(guesses: Sequence[SourceGuess]) -> Iterator[str]:
    names = identifiers(guesses) or ["customer"]
    yield "[identity]"
    yield _line("identifiers", names, "in order of trust: where two disagree, the earlier wins")
    devices = [name for name in names if name == "device" or name.endswith("_device")]
    if devices:
        yield _line("devices", devices, "may be shared: one that is shared joins nobody")
    if "phone" in names:
        yield _line("phones", ["phone"], 'compared as E.164; set phone_region = "DE" where numbers lack +')


def _sessions(guesses: Sequence[SourceGuess]) -> Iterator[str]:
    events = [guess for guess in guesses if guess.get("kind") != "spend"]
    if events and all("session" in _named(guess) for guess in events):
        yield "[sessions]"
        yield _line("identifier", "session", "guessed: every source carries its own visits")
        yield ""


def _named(guess: SourceGuess) -> set[str]:
    preset = set(preset_sources()[guess.preset].identifiers) if guess.preset else set()
    return preset | set(guess.starting("identifiers."))


def _journeys(story: Story) -> Iterator[str]:
    yield "[journeys]"
    if story.conversion:
        why = f"what a journey is for; guessed: {story.why['conversion']}"
        yield _line("conversion", story.conversion, why + ("" if story.conversion_sure else "; please check"))
    else:
        yield '# conversion = "…"                             # what a journey is for: name an event'
    yield _line("gap", "60d", "a longer silence ends a journey as abandoned")
    yield ""


def _stages(story: Story) -> Iterator[str]:
    taken: set[str] = set()
    for stage, patterns in story.stages.items():
        yield "[[stages]]"
        yield _line("name", stage)
        yield '# owner = "…"'
        yield "[stages.touchpoints]"
        for pattern in patterns:
            name = wanted = label(pattern)
            number = 1
            while name in taken:
                number += 1
                name = f"{wanted} {number}"
            taken.add(name)
            yield _line(name, pattern)
        yield ""


def _questions(story: Story) -> Iterator[str]:
    if story.funnel:
        yield "[funnels.main]"
        yield _line("steps", story.funnel, f"guessed: {story.why['funnel']}; please check")
        yield _line("within", "30d", "time allowed from the first step to the last")
        yield ""
    if story.marketing and story.conversion:
        yield "[attribution]"
        yield _line("lookback", "30d", "visits longer than this before the conversion get no credit")
        yield ""
    if story.start:
        yield "[churn]"
        yield _line("start", story.start, "guessed by name: from here on a person is there; please check")
        yield _line("end", story.end, "guessed by name: these mean leaving; please check")
        yield ""
