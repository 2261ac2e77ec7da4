"""What becomes of a raw row: whether it is meant, and what is wrong with it, said in SQL on its fields.

The fields have names of their own there: "t …" a text, "at …" a time that was read, "i …" an identifier's value, and
"usable …" that value unless it is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from journeykit.config import Source, Study
from journeykit.config_fields import Field
from journeykit.sql import NULL, identifier, literal

USABLE = "usable "  # before an identifier's name: its value, unless that is blocked
SAME = "same "  # before an identifier's name: its second value in a row of profiles


def one_of(text: str, allowed: Sequence[str]) -> str:
    """Return the SQL condition that a text is one of a list, whatever its case; `*` stands for any text."""
    if not allowed:
        return "false"
    plain = [literal(value.lower()) for value in allowed if "*" not in value]
    parts = [f"lower({text}) IN ({', '.join(plain)})"] if plain else []
    for value in allowed:
        if "*" in value:
            escaped = value.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
            parts.append(f"lower({text}) LIKE {literal(escaped)} ESCAPE '\\'")
    return f"({' OR '.join(parts)})"


def is_blocked(text: str, plan: Study) -> str:
    """Return the SQL condition that an identifier's value is a placeholder and marks nobody."""
    patterns = [f"regexp_matches({text}, {literal(pattern)})" for pattern in plan.identity.blocked_patterns]
    return f"({' OR '.join([_is_listed(text, plan), *patterns])})"


def placeholder(text: str, plan: Study) -> str:
    """Return the SQL of a blocked value: as it is where journey.toml lists it, else only that a pattern fits it."""
    filler = f"regexp_full_match({text}, '[0-]+')"  # any other match of a pattern may be somebody's number
    return f"CASE WHEN {_is_listed(text, plan)} OR {filler} THEN {text} ELSE '(fits a pattern)' END"


def _is_listed(text: str, plan: Study) -> str:
    blocked = ", ".join(literal(value.lower()) for value in plan.identity.blocked or [""])
    return f"lower({text}) IN ({blocked})"


def fate(source: Source, plan: Study, erased: Mapping[str, Sequence[str]]) -> str:
    """Return the SQL of what is done with a row whatever is wrong with it; see `mapping.part_sql`."""
    gone = [
        f"coalesce({identifier('id ' + key)} IN ({', '.join(literal(token) for token in erased[name])}), false)"
        for key, (name, _) in values(source, plan).items()
        if erased.get(name)
    ]
    cases = ["WHEN is_blank THEN 'blank'", "WHEN is_broken THEN NULL"]
    cases += [f"WHEN {' OR '.join(gone)} THEN 'erased'"] if gone else []
    cases += ["WHEN NOT is_meant THEN 'left_out'"]
    if source.emits:
        cases.append(f"WHEN coalesce({', '.join(map(identifier, times(source).values()))}) IS NULL THEN 'silent'")
    return f"CASE {' '.join(cases)} END"


def reason(source: Source, plan: Study) -> str:
    """Return the SQL that says what is wrong with a row, the first reason that applies, or null."""
    earliest = f"TIMESTAMP {literal(plan.study.earliest)}"

    def any_time(test: Callable[[str, str], str]) -> str:
        return " OR ".join(test(identifier(at), identifier(text)) for at, text in times(source).items())

    cases = ["WHEN is_broken THEN 'row is not a JSON object'"]
    if source.emits:
        cases.append(
            f"WHEN {any_time(lambda at, text: f'({text} IS NOT NULL AND {at} IS NULL)')} THEN 'time cannot be read'"
        )
    elif source.kind == "profiles":  # what has no time was always known
        cases.append(f"WHEN {identifier('t time')} IS NOT NULL AND \"at\" IS NULL THEN 'time cannot be read'")
    else:
        cases.append(
            f"WHEN {identifier('t time')} IS NULL THEN 'no time' WHEN \"at\" IS NULL THEN 'time cannot be read'"
        )
    cases.append(
        f"WHEN {any_time(lambda at, text: f'NOT isfinite({at}) OR {at} < {earliest}')} THEN 'time is not plausible'"
    )
    if not source.emits:
        cases.append(f"WHEN {identifier('t event')} IS NULL THEN 'no event'")
    if source.kind == "events":
        given = [identifier(f"i {name}") for name in identifiers(source, plan)]
        usable = [identifier(USABLE + name) for name in identifiers(source, plan)]
        cases.append(f"WHEN coalesce({', '.join(given or [NULL])}) IS NULL THEN 'no identifier'")
        cases.append(f"WHEN coalesce({', '.join(usable or [NULL])}) IS NULL THEN 'identifier is blocked'")
    cases.append(
        f"WHEN {identifier('t value')} IS NOT NULL AND (number IS NULL OR NOT isfinite(number)) "
        "THEN 'value is not a number' WHEN number < 0 THEN 'value is negative'"
    )
    if source.sequence:
        text = identifier(f"c {source.sequence}")
        cases.append(f"WHEN NOT regexp_full_match({text}, '-?[0-9]{{1,18}}') THEN 'sequence is not a whole number'")
    if source.satisfaction:
        low, high = sorted((source.satisfaction.low, source.satisfaction.high))
        cases.append(
            f"WHEN {identifier('t answer')} IS NOT NULL AND answer IS NULL THEN 'answer is not a number' "
            f"WHEN answer NOT BETWEEN {low} AND {high} THEN 'answer is outside its scale'"
        )
    return f"CASE {' '.join(cases)} END"


def latest(plan: Study) -> str:
    """Return the SQL of the time after which no event can lie: the end of observation, or tomorrow."""
    moment = f"TIMESTAMPTZ {literal(plan.study.as_of)}" if plan.study.as_of else "(now() + INTERVAL 1 DAY)"
    return f"timezone('UTC', {moment})"


def identifiers(source: Source, plan: Study) -> list[str]:
    """Return the identifiers that a source gives, in the study's order of trust."""
    return [name for name in plan.identity.identifiers if name in source.identifiers]


def values(source: Source, plan: Study) -> dict[str, tuple[str, Field]]:
    """Return each value of an identifier that a row gives: what it is called here, its identifier and its field."""
    found = {name: (name, source.identifiers[name]) for name in identifiers(source, plan)}
    return found | {SAME + name: (name, source.same_as[name]) for name in found if name in source.same_as}


def times(source: Source) -> dict[str, str]:
    """Each time of a row: the name of its parsed column, and that of its text."""
    if not source.emits:
        return {"at": "t time"}
    return {f"at {number}": f"t time {number}" for number in range(len(source.emits))}
