"""A *field* of `[[sources]]`: where a canonical column comes from, be it a column, a constant, a template or more."""

from __future__ import annotations

import string
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from journeykit.config_base import Part
from journeykit.expressions import parse, used_columns


class Lookup(Part):
    """A table in a file of the study that says what a value stands for."""

    path: str
    """The file (CSV, JSON Lines or Parquet), relative to journey.toml; wildcards allowed."""
    key: str
    """Column that is compared with the value; of rows with the same key, the first counts."""
    value: str
    """Column with what the value stands for."""
    delimiter: str = ","
    """Character between the columns of a CSV."""


def _lookup(value: Any) -> Any:
    return Lookup.model_validate(value) if isinstance(value, dict) and "path" in value else value


class Field(Part):
    """Where a value comes from; a text instead of this table is a column. Give one of the first four keys."""

    column: str = ""
    """Column of the file; `"a.b"` is a path in nested data."""
    constant: str = ""
    """The same text in every row."""
    template: str = ""
    """Text with columns in braces, such as `"{first} {last}"`; empty where one of the columns is."""
    expression: str = ""
    """A small formula over columns, such as `"price * quantity"`; see "Expressions" in data/README.md."""
    lookup: Annotated[Lookup | dict[str, str] | None, BeforeValidator(_lookup)] = None
    """What a value stands for: a table `{ "7" = "Returns" }`, or a file with its key and value columns."""
    keep_unknown: bool = False
    """A value that the lookup lacks stays as it is; else it becomes empty."""

    @model_validator(mode="after")
    def _one_origin(self) -> Field:
        given = [name for name in ("column", "constant", "template", "expression") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other. Keep one of them")
        if self.lookup is not None and not given:
            raise ValueError("lookup needs the value to look up. Add column = …")
        if self.expression:
            parse(self.expression)
        if self.template:
            template_parts(self.template)
        return self

    def __bool__(self) -> bool:
        return bool(self.column or self.constant or self.template or self.expression)

    def columns(self) -> tuple[str, ...]:
        """Return the columns of the file that the field reads."""
        if self.column:
            return (self.column,)
        if self.template:
            return tuple(name for _, name in template_parts(self.template) if name)
        return used_columns(self.expression) if self.expression else ()


def template_parts(template: str) -> list[tuple[str, str]]:
    """Split a template into pairs of plain text and the column that follows it ("" after the last text).

    >>> template_parts("{first} {last}!")
    [('', 'first'), (' ', 'last'), ('!', '')]
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"template {template!r} is not balanced ({error}). Write columns in braces: {{column}}"
        ) from None
    for _, name, form, conversion in parts:
        if name == "" or form or conversion:
            raise ValueError(f"template {template!r}: braces hold a column and nothing else, such as {{order_id}}")
    return [(text, name or "") for text, name, _, _ in parts]


def _as_field(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _as_named(value: Any) -> Any:
    return {name: name for name in value} if isinstance(value, list) else value


Mapped = Annotated[Field, BeforeValidator(_as_field)]
"""A field, or a text that names a column."""
NamedFields = Annotated[dict[str, Mapped], BeforeValidator(_as_named)]
"""Name = field, or a list of columns that keep their names."""
