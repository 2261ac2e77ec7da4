"""The reference of journey.toml in data/README.md: every key with its type, its default and what follows from it.

It is rendered from the models that read the file, so that neither can say what the other does not.
`python -m journeykit.reference` writes it again.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from journeykit.config import Part, Study
from journeykit.config_base import Duration, Name, Names, Zone, ZoneOrHeader
from journeykit.config_fields import Field, Lookup, Mapped, NamedFields
from journeykit.errors import JourneyError

CODEBOOK = Path(__file__).resolve().parent.parent / "data" / "README.md"
BEGIN = "<!-- keys: written by `python -m journeykit.reference`; edit journeykit/config*.py instead -->"
END = "<!-- end of keys -->"
# By `==` of the annotation: a name in journey.toml is a text that its model checks.
KINDS = (
    (Duration, "duration"),
    (Names, "text or list of texts"),
    (Name, "name"),
    (Zone, "time zone"),
    (ZoneOrHeader, 'time zone or `"header"`'),
    (Mapped, "field"),
    (NamedFields, "list of columns, or table of fields"),
)
PLAIN = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}


def render() -> str:
    """Return the reference in Markdown: one table for each part of journey.toml, in the order of the models.

    >>> "| within | duration |" in render()
    True
    """
    paths: dict[type[Part], list[str]] = {}
    for model, path in _parts(Study, ""):
        paths.setdefault(model, []).append(path)
    return "\n\n".join(_section(model, names) for model, names in paths.items())


def keys(model: type[Part]) -> list[tuple[str, str, str, str]]:
    """Return the keys of a part: name, type, default and what follows from it.

    >>> from journeykit.config import Privacy
    >>> keys(Privacy)[0]
    ('minimum_cell', 'whole number', '`5`', 'Groups of fewer people are not shown.')
    """
    hints = get_type_hints(model, include_extras=True)
    return [
        (name, _type(hints[name]), _default(field), " ".join((field.description or "").split()))
        for name, field in model.model_fields.items()
    ]


def write(path: Path = CODEBOOK) -> bool:
    """Put the reference between its two marks in a file; return whether that changed the file.

    Raises:
        JourneyError: the file lacks one of the marks.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise JourneyError(f"{path.name}: a mark of the reference is missing. It needs both {BEGIN} and {END}.")
    new = f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}"
    if new != text:
        path.write_text(new, encoding="utf-8")
    return new != text


def _parts(model: type[Part], path: str) -> Iterator[tuple[type[Part], str]]:
    """Yield every model below one, with its place in the file as TOML writes it, parents first."""
    yield model, path
    for name, hint in get_type_hints(model).items():
        inner = _part_in(hint)
        if inner and inner is not Field:  # fields are everywhere, and described once
            yield from _parts(inner, _heading(hint, f"{path.strip('[]')}.{name}".lstrip(".")))
    if model is Study:
        yield Field, "a field"
        yield Lookup, "lookup of a field"


def _part_in(hint: Any) -> type[Part] | None:
    if isinstance(hint, type) and issubclass(hint, Part):
        return hint
    return next((found for found in map(_part_in, get_args(hint)) if found), None)


def _heading(hint: Any, path: str) -> str:
    if get_origin(hint) is list:
        return f"[[{path}]]"
    return f"[{path}.<name>]" if get_origin(hint) is dict else f"[{path}]"


def _section(model: type[Part], paths: list[str]) -> str:
    said = re.sub(r"^`[^`]*`: ", "", (model.__doc__ or "").strip())
    heading = ", ".join(f"`{path}`" for path in paths) if paths != [""] else "The parts of the file"
    rows = "\n".join(f"| {' | '.join(_cell(value) for value in row)} |" for row in keys(model))
    table = f"| key | type | default | what follows from it |\n|---|---|---|---|\n{rows}"
    return f"### {heading}\n\n{said[0].upper()}{said[1:]}\n\n{table}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(hint: Any) -> str:
    """Say the type of a key as one writes its value in TOML."""
    for kind, said in KINDS:
        if hint == kind:
            return said
    if hint in PLAIN:
        return PLAIN[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _either([f"`{json.dumps(value)}`" for value in inner])
    if origin in (Union, types.UnionType):
        return _either([_type(one) for one in inner if one is not type(None)])
    if origin is list:
        return "tables" if _part_in(hint) else f"list of {_many(_type(inner[0]))}"
    if origin is dict:
        if _part_in(hint) is Field:
            return "table of fields"
        named = _part_in(hint) or get_origin(inner[1]) is dict
        return "tables by name" if named else f"table of {_many(_type(inner[1]))}"
    if _part_in(hint):
        return "table"
    return _type(inner[0])  # a type that its annotation only narrows


def _many(said: str) -> str:
    def more(one: str) -> str:
        return one if one.endswith("`") else one.replace("list", "lists") if " of " in one else f"{one}s"

    return " or ".join(map(more, said.split(" or ")))


def _either(choices: list[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default()
    if isinstance(value, Field) and not value:
        return '`""`'
    if isinstance(value, Part):
        return "its defaults"
    if value is None or value == {} or (value == [] and _part_in(field.annotation)):
        return "none"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    write()
