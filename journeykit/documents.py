"""Fields inside nested data: `a.b`, `a[key]` and `a[path=value].rest` in a JSON text, each text parsed once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from journeykit.errors import JourneyError
from journeykit.sql import identifier, literal

SEGMENT = re.compile(r"([^.\[\]]+)(?:\[([^\[\]=]+)(?:=([^\[\]]*))?\])?(?:\.|$)")
KINDS = ("string_value", "int_value", "double_value", "float_value")  # of a value in GA4's lists of key and value
LEAF = "VARCHAR"


@dataclass(frozen=True)
class Step:
    """One step of a path: a member, and where it is a list, which of its items (`key`, or `by` = `value`)."""

    name: str
    by: tuple[str, ...] = ()
    value: str = ""


def steps(path: str) -> list[Step]:
    """Split a path into its steps.

    `a[k]` is the value of key `k` in a list of `{key, value: {string_value, …}}`, as GA4 writes parameters;
    `a[b.c=v].d` is member d of the first item of list a whose b.c is v.

    >>> [step.name for step in steps("answers[field.ref=nps].number")]
    ['answers', 'number']

    Raises:
        JourneyError: brackets are not balanced.
    """
    found, at = [], 0
    while at < len(path):
        match = SEGMENT.match(path, at)
        if not match or match.end() == at:
            raise JourneyError(f"column {path!r} is not a path. Write a.b, a[key] or a[b=value].c")
        name, by, value = match.groups()
        if by is None:
            found.append(Step(name))
        elif value is None:
            found.append(Step(name, ("key",), by))
            if match.end() == len(path):
                found.append(Step("value", ("",)))
        else:
            found.append(Step(name, tuple(by.split(".")), value))
        at = match.end()
    return found


@dataclass
class Document:
    """A JSON text and the paths that are wanted of it; becomes one parsed column for each structure."""

    text: str  # SQL of the JSON text
    name: str  # of the parsed columns
    structures: list[dict[str, Any]] = field(default_factory=list)

    def take(self, path: str) -> str:
        """Ask for a path; return the SQL of its value as text, on the parsed columns."""
        wanted = steps(path)
        for number, structure in enumerate(self.structures):
            if _add(structure, wanted, dry=True):
                _add(structure, wanted)
                return _say(f"{self.name}_{number}", wanted)
        self.structures.append({})
        _add(self.structures[-1], wanted)
        return _say(f"{self.name}_{len(self.structures) - 1}", wanted)

    def parsed(self) -> str:
        """Return the SQL that parses the text, null where it is no JSON."""
        made = [
            f"TRY(json_transform({self.text}, {literal(json.dumps(structure))})) AS {self.name}_{number}"
            for number, structure in enumerate(self.structures)
        ]
        return ", ".join(made)


def _add(structure: dict[str, Any], wanted: list[Step], dry: bool = False) -> bool:
    """Add a path to a structure; return False where it does not fit (a text here, an object there)."""
    at: Any = structure
    for place, step in enumerate(wanted):
        last = place == len(wanted) - 1
        fresh: Any = LEAF if last else {}
        if step.by == ("",):  # GA4's value: one member for each type
            fresh = dict.fromkeys(KINDS, LEAF)
            last = True
        elif step.by:
            fresh = [{}]
        there = at.get(step.name)
        if there is None:
            if dry:
                return True
            at[step.name] = fresh
        elif type(there) is not type(fresh) or (last and there != fresh):
            return False
        at = at.get(step.name)
        if isinstance(at, list):
            at = at[0]
            inner = at
            for name in step.by[:-1]:
                if not isinstance(inner.setdefault(name, {}), dict):
                    return False
                inner = inner[name]
            if inner.setdefault(step.by[-1], LEAF) != LEAF:
                return False
            if last:
                return False
    return True


def _say(column: str, wanted: list[Step]) -> str:
    sql = column
    for step in wanted:
        if step.by == ("",):
            break
        sql = f"{sql}.{identifier(step.name)}"
        if step.by:
            test = ".".join(identifier(name) for name in step.by)
            sql = f"list_filter({sql}, lambda item: item.{test} = {literal(step.value)})[1]"
    if wanted[-1].by == ("",):  # looked for once, then whichever type it has
        kinds = ", ".join(f"item.value.{kind}" for kind in KINDS)
        return f"list_transform([{sql}], lambda item: coalesce({kinds}))[1]"
    return sql
