"""How a key of journey.toml must be written, for one that holds a text where a table or a list belongs."""

from __future__ import annotations

import json
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

FORMS = {"model_type", "model_attributes_type", "dict_type", "list_type"}  # pydantic's kinds of such an error
SHOWN = 12  # keys of a table


def form(loc: tuple[int | str, ...], found: Any, root: type[BaseModel]) -> str:
    """Return how the key at a place is written, with what was found in it where that is clear.

    Args:
        loc: the place, as pydantic names it.
        found: what stands there.
        root: the model of the whole file.

    >>> from journeykit.config import Study
    >>> form(("sources", 0, "time"), "t", Study)
    'It is a table: write time = { column = "t" }.'
    >>> form(("privacy",), "x", Study)
    'It is a table: write [privacy] on a line of its own and its keys below it (minimum_cell, erase).'
    """
    keys = [step for step in loc if isinstance(step, str)]
    key, kind = (keys or ["?"])[-1], _kind(loc, root)
    if isinstance(loc[-1], int):
        return f"Each of {key} is a table: write {_below(f'[[{key}]]', kind)}." if len(loc) == 2 else _inline(key, kind)
    if get_origin(kind) is list:
        inner = _bare(get_args(kind)[0])
        if not _is_model(inner):
            return f"It is a list: write {key} = [{_example(found)}]."
        return f"It is a list of tables: write {_below(f'[[{key}]]', inner)}." if len(loc) == 1 else _inline(key, inner)
    if get_origin(kind) is dict:
        if len(loc) == 2:
            inner_of = _kind(loc[:1], root)
            if get_origin(inner_of) is dict:
                return f"It is a table: write [{loc[0]}.{key}] on a line of its own and its keys below it."
        inner = _bare(get_args(kind)[1])
        if len(loc) == 1 and _is_model(inner):
            return f"It is a table of tables: write {_below(f'[{key}.NAME]', inner)}."
        value = _example(found) if _is_field(inner) else "…"
        return f"It is a table: write {key} = {{ NAME = {value} }}. {_described(loc, root)}".rstrip()
    if _is_field(kind):
        return f'It is the name of a column, or a table: write {key} = "…".'
    if not _is_model(kind):
        return "It is a table."
    if len(loc) == 1:
        return f"It is a table: write {_below(f'[{key}]', kind)}."
    if len(loc) == 2 and get_origin(_kind(loc[:1], root)) is dict:
        return f"It is a table: write {_below(f'[{loc[0]}.{key}]', kind)}."
    return f"It is a table: write {key} = {_filled(kind, found)}."


def _kind(loc: tuple[int | str, ...], root: type[BaseModel]) -> Any:
    """Return the type that belongs at a place, None where the models know none."""
    kind: Any = root
    for step in loc:
        if _is_model(kind):
            field = kind.model_fields.get(step)
            kind = _bare(field.annotation) if field else None
        elif get_origin(kind) in (list, dict):
            kind = _bare(get_args(kind)[-1])
        else:
            return None
    return kind


def _bare(kind: Any) -> Any:
    """Return a type without what is said about it, and without None beside it."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return _bare(next(inner for inner in get_args(kind) if inner is not type(None)))
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_field(kind: Any) -> bool:
    return _is_model(kind) and "template" in kind.model_fields


def _below(heading: str, model: Any) -> str:
    keys = list(model.model_fields)
    shown = ", ".join(keys[:SHOWN]) + (" …" if len(keys) > SHOWN else "")
    return f"{heading} on a line of its own and its keys below it ({shown})"


def _inline(key: str, model: Any) -> str:
    return f"It is a list of tables: write {key} = [{_filled(model, None)}]." if _is_model(model) else "It is a table."


def _filled(model: Any, found: Any) -> str:
    """Return a table with the keys that it needs, in the first of them what was found."""
    fields = model.model_fields
    needed = [name for name, field in fields.items() if field.is_required()] or [next(iter(fields))]
    takes = _bare(fields[needed[0]].annotation)
    first = _example(found) if takes is str or _is_field(takes) else "…"
    return "{ " + ", ".join(f"{name} = {first if name == needed[0] else '…'}" for name in needed) + " }"


def _example(found: Any) -> str:
    return json.dumps(found, ensure_ascii=False) if isinstance(found, str) else "…"


def _described(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    above, name = _kind(loc[:-1], root), loc[-1]
    field = above.model_fields.get(name) if _is_model(above) else None
    return " ".join((field.description or "").split()) if field else ""
