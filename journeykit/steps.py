"""Steps of funnels and plans: which events they are, written as texts or tables, as conditions of the engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import and_, or_
from typing import Any

import narwhals as nw
from pydantic import TypeAdapter, ValidationError

from journeykit import engine
from journeykit.config_steps import AnyStep, Step
from journeykit.errors import JourneyError, require_columns

MEMBER = "properties."
KINDS = ("event", "touchpoint", "stage")
_COMPARED = re.compile(r"(>=|<=|!=|>|<)\s*(.+)")
_NUMBER = r"^[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?$"
_ONE: TypeAdapter[Step] = TypeAdapter(AnyStep)


def parse(steps: Iterable[str | Step], where: str) -> list[Step]:
    """Return steps as `config.Step`: a text holds alternatives, and may end in "?" (optional), "+" (repeats) or "*".

    Raises:
        JourneyError: a step is empty.

    >>> [(step.label, step.values, step.optional) for step in parse(["ad", "cart | quick_buy?"], "funnel")]
    [('ad', ['ad'], False), ('cart | quick_buy', ['cart', 'quick_buy'], True)]
    """
    try:
        return [step if isinstance(step, Step) else _ONE.validate_python(step) for step in steps]
    except ValidationError as error:
        raise JourneyError(f"{where}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None


def kind_of(step: Step, on: str) -> str:
    """Return the column that a step's values are of."""
    return next((kind for kind in KINDS if getattr(step, kind)), on)


def columns(steps: Iterable[Step], on: str) -> list[str]:
    """Return the columns of touches that steps look at, each once; a member of `properties` is that column.

    >>> columns(parse(["ad"], "x") + [Step(stage="Buy", where={"channel": "web", "properties.plan": "pro"})], "event")
    ['event', 'stage', 'channel', 'properties']
    """
    found: list[str] = []
    for step in steps:
        found.append(kind_of(step, on))
        found += ["properties" if name.startswith(MEMBER) else name for name in step.where]
    return list(dict.fromkeys(found))


def marked(frame: Any, steps: Sequence[Step], on: str, prefix: str, where: str) -> nw.LazyFrame[Any]:
    """Return a table with a column `<prefix><k>` for the k-th step (from 1): 1 where the event is that step, else 0.

    Values are compared as text. In `where`, a text is a value to equal (several: any of them), or begins with `>=`,
    `<=`, `>`, `<` (numbers) or `!=`. What is empty holds no condition.

    Raises:
        JourneyError: a column is missing, or something that is no number is compared by size.

    >>> from tests.conftest import make_log
    >>> steps = parse(["ad | mail", Step(event="buy", where={"channel": "web"})], "x")
    >>> found = marked(make_log("u1: ad buy buy/app"), steps, "event", "is_", "x")
    >>> engine.fetch(found.select("is_1", "is_2")).values.tolist()
    [[1, 0], [0, 1], [0, 0]]
    """
    table = engine.lazy(frame)
    have = table.collect_schema().names()
    require_columns(have, columns(steps, on), where)
    named = dict.fromkeys(name for step in steps for name in step.where if name.startswith(MEMBER) and name not in have)
    # Without a dot, which Spark takes for the way into a nested column.
    members = {name: f"_member_{k}" for k, name in enumerate(named)}
    for name, column in members.items():
        table = engine.with_member(table, "properties", name.removeprefix(MEMBER), column)
    flags = {f"{prefix}{k}": _flag(step, on, where, members) for k, step in enumerate(steps, start=1)}
    return table.with_columns(**flags).drop(*members.values())


def _flag(step: Step, on: str, where: str, members: Mapping[str, str]) -> nw.Expr:
    conditions = [nw.col(kind_of(step, on)).cast(nw.String()).is_in(step.values)]
    conditions += [_condition(name, members.get(name, name), texts, where) for name, texts in step.where.items()]
    return nw.when(reduce(and_, conditions)).then(nw.lit(1)).otherwise(nw.lit(0))


def _condition(name: str, held_in: str, texts: list[str], where: str) -> nw.Expr:
    """Any of the values, or all of the comparisons, of one column."""
    column, compared = nw.col(held_in), [_COMPARED.fullmatch(text.strip()) for text in texts]
    plain = [text for text, found in zip(texts, compared, strict=True) if not found]
    parts = [column.cast(nw.String()).is_in(plain)] if plain else []
    parts += [_comparison(column, found[1], found[2], f"{where}: where {name}") for found in compared if found]
    return reduce(or_, parts) if plain else reduce(and_, parts)


def _comparison(column: nw.Expr, sign: str, text: str, where: str) -> nw.Expr:
    if sign == "!=":
        return column.cast(nw.String()) != text
    try:
        bound = float(text)
    except ValueError:
        raise JourneyError(f"{where}: {text!r} is not a number. Compare texts by the text itself or !=.") from None
    text_of = column.cast(nw.String())
    number = nw.when(text_of.str.contains(_NUMBER)).then(text_of).cast(nw.Float64())  # other texts are no number
    return {">=": number >= bound, "<=": number <= bound, ">": number > bound, "<": number < bound}[sign]
