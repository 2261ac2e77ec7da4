"""The small safe language of `expression = "…"`: Python's syntax, a fixed list of functions, compiled to SQL.

Nothing is executed in Python, no function outside the list can be named, and every text is quoted on its way to SQL.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from journeykit.errors import nearest

LONGEST = 1000  # characters
LARGEST = 20_000  # characters of SQL
Kind = Literal["column", "text", "number", "boolean", "nothing"]


@dataclass(frozen=True)
class Sql:
    """A piece of SQL and what it yields; a column is text that becomes a number where one is needed."""

    text: str
    kind: Kind

    def number(self) -> str:
        return self.text if self.kind == "number" else f"TRY_CAST({self.text} AS DOUBLE)"

    def string(self) -> str:
        """The value as text: whole numbers without a fraction, empty text as null."""
        if self.kind == "number":
            return f"regexp_replace(CAST({self.text} AS VARCHAR), '[.]0$', '')"
        if self.kind == "boolean":
            return f"CASE WHEN {self.text} THEN 'true' WHEN NOT ({self.text}) THEN 'false' END"
        return self.text

    def condition(self) -> str:
        """The value as a condition that is never null: a text is true when it says "true", "1" or "yes"."""
        if self.kind == "boolean":
            return f"coalesce({self.text}, false)"
        if self.kind == "number":
            return f"coalesce({self.text} <> 0, false)"
        return f"coalesce(lower({self.text}) IN ('true', '1', 'yes'), false)"


Arguments = list[Sql]


def _text_of(name: str) -> Callable[[Arguments], Sql]:
    return lambda given: Sql(f"{name}({', '.join(item.string() for item in given)})", "text")


def _number_of(name: str) -> Callable[[Arguments], Sql]:
    return lambda given: Sql(f"{name}({', '.join(item.number() for item in given)})", "number")


def _concat(given: Arguments) -> Sql:
    return Sql("nullif(concat(" + ", ".join(item.string() for item in given) + "), '')", "text")


def _coalesce(given: Arguments) -> Sql:
    if all(item.kind == "number" for item in given):
        return Sql(f"coalesce({', '.join(item.text for item in given)})", "number")
    return Sql("coalesce(" + ", ".join(f"nullif({item.string()}, '')" for item in given) + ")", "column")


def _part(given: Arguments) -> Sql:
    value, mark, position = given
    return Sql(
        f"nullif(split_part({value.string()}, {mark.string()}, CAST({position.number()} AS INTEGER)), '')", "column"
    )


def _round(given: Arguments) -> Sql:
    digits = f"CAST({given[1].number()} AS INTEGER)" if len(given) > 1 else "0"
    return Sql(f"round({given[0].number()}, {digits})", "number")


def _search(name: str) -> Callable[[Arguments], Sql]:
    return lambda given: Sql(f"{name}({given[0].string()}, {given[1].string()})", "boolean")


def _extract(given: Arguments) -> Sql:
    value, pattern = given
    return Sql(f"nullif(regexp_extract({value.string()}, {pattern.string()}, 1), '')", "column")


# name = (fewest and most arguments, how it is said in SQL); all arguments and results may be empty
FUNCTIONS: dict[str, tuple[int, int, Callable[[Arguments], Sql]]] = {
    "lower": (1, 1, _text_of("lower")),
    "upper": (1, 1, _text_of("upper")),
    "trim": (1, 1, _text_of("trim")),
    "replace": (3, 3, _text_of("replace")),
    "concat": (1, 20, _concat),
    "coalesce": (1, 20, _coalesce),
    "part": (3, 3, _part),
    "extract": (2, 2, _extract),
    "length": (1, 1, lambda given: Sql(f"length({given[0].string()})", "number")),
    "contains": (2, 2, _search("contains")),
    "starts_with": (2, 2, _search("starts_with")),
    "ends_with": (2, 2, _search("ends_with")),
    "matches": (2, 2, _search("regexp_matches")),
    "number": (1, 1, lambda given: Sql(given[0].number(), "number")),
    "seconds": (1, 1, lambda given: Sql(f"epoch(TRY_CAST({given[0].string()} AS TIMESTAMPTZ))", "number")),
    "text": (1, 1, lambda given: Sql(given[0].string(), "text")),
    "round": (1, 2, _round),
    "abs": (1, 1, _number_of("abs")),
    "min": (2, 20, _number_of("least")),
    "max": (2, 20, _number_of("greatest")),
}
_MATHS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}
_COMPARED = {ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


def parse(expression: str) -> ast.expr:
    """Return the checked syntax tree of an expression.

    Raises:
        ValueError: it is not in the language; the message names the place, what is allowed, and the nearest name.
    """
    if len(expression) > LONGEST:
        raise ValueError(f"expression of {len(expression)} characters; at most {LONGEST} are allowed")
    try:
        tree = ast.parse(expression.replace("\n", " ").strip(), mode="eval").body  # it may have several lines
        if len(compile_sql(tree, lambda name: "''").string()) > LARGEST:
            raise ValueError(
                "expression is too deep: what is nested is computed several times. Split it into lookups or segments"
            )
    except (SyntaxError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else "it is nested too deep"
        raise ValueError(f"expression {expression!r} cannot be read: {why}. Write it as in price * quantity") from None
    return tree


def used_columns(expression: str) -> tuple[str, ...]:
    """Return the columns that an expression reads, each once.

    >>> used_columns("price * quantity if col('Paid at') else 0")
    ('price', 'quantity', 'Paid at')
    """
    found: dict[str, None] = {}

    def note(name: str) -> str:
        found[name] = None
        return "''"

    compile_sql(parse(expression), note)
    return tuple(found)


def compile_sql(tree: ast.expr, column: Callable[[str], str]) -> Sql:
    """Return an expression as SQL; `column` says a column of the file as SQL text.

    >>> compile_sql(parse("a + 1"), lambda name: f"r.{name}").text
    '(TRY_CAST(r.a AS DOUBLE) + 1)'
    """
    return _Compiler(column).say(tree)


class _Compiler:
    def __init__(self, column: Callable[[str], str]) -> None:
        self.column = column

    def say(self, node: ast.expr) -> Sql:
        match node:
            case ast.Constant():
                return _constant(node)
            case ast.Name() | ast.Attribute():
                return Sql(self.column(_dotted(node)), "column")
            case ast.UnaryOp(op=ast.USub()):
                return Sql(f"(- {self.say(node.operand).number()})", "number")
            case ast.UnaryOp(op=ast.Not()):
                return Sql(f"(NOT {self.say(node.operand).condition()})", "boolean")
            case ast.BinOp():
                return self._maths(node)
            case ast.BoolOp():
                word = " AND " if isinstance(node.op, ast.And) else " OR "
                return Sql(f"({word.join(self.say(value).condition() for value in node.values)})", "boolean")
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                return self._choose(node)
            case ast.Call():
                return self._call(node)
        raise ValueError(f"{_source(node)!r} is not allowed in an expression. See Expressions in data/README.md")

    def _maths(self, node: ast.BinOp) -> Sql:
        sign = _MATHS.get(type(node.op))
        if sign is None:
            raise ValueError(f"{_source(node)!r}: allowed signs are {' '.join(_MATHS.values())}")
        left, right = self.say(node.left), self.say(node.right)
        if sign == "+" and "text" in (left.kind, right.kind):
            return Sql(f"({left.string()} || {right.string()})", "text")
        divisor = f"nullif({right.number()}, 0)" if sign in "/%" else right.number()
        return Sql(f"({left.number()} {sign} {divisor})", "number")

    def _compare(self, node: ast.Compare) -> Sql:
        parts, left = [], node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._one(left, sign, right))
            left = right
        return Sql(f"({' AND '.join(parts)})", "boolean")

    def _one(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> str:
        one = self.say(left)
        if isinstance(sign, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
                raise ValueError(f"{_source(right)!r}: what follows `in` is a list such as ('a', 'b')")
            listed = ", ".join(self.say(item).string() for item in right.elts)
            return f"coalesce({one.string()} {'NOT ' if isinstance(sign, ast.NotIn) else ''}IN ({listed}), false)"
        other = self.say(right)
        if isinstance(sign, ast.Is | ast.IsNot):
            if other.kind != "nothing":
                raise ValueError(f"{_source(right)!r}: `is` takes None only; use == for values")
            return f"({one.text} IS {'NOT ' if isinstance(sign, ast.IsNot) else ''}NULL)"
        if "number" in (one.kind, other.kind):
            return f"({one.number()} {_COMPARED[type(sign)]} {other.number()})"
        return f"({one.string()} {_COMPARED[type(sign)]} {other.string()})"

    def _choose(self, node: ast.IfExp) -> Sql:
        yes, no = self.say(node.body), self.say(node.orelse)
        kinds = {yes.kind, no.kind} - {"nothing"}
        kind: Kind = "number" if kinds == {"number"} else "column"
        said = [item.text if kind == "number" or item.kind == "nothing" else item.string() for item in (yes, no)]
        return Sql(f"CASE WHEN {self.say(node.test).condition()} THEN {said[0]} ELSE {said[1]} END", kind)

    def _call(self, node: ast.Call) -> Sql:
        name = node.func.id if isinstance(node.func, ast.Name) else _source(node.func)
        if node.keywords:
            raise ValueError(f"{name}(): arguments have no names in an expression")
        if name == "col":
            if len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                return Sql(self.column(node.args[0].value), "column")
            raise ValueError('col() takes the name of a column in quotes: col("Created at")')
        if name not in FUNCTIONS:
            raise ValueError(f"{name!r} is not a function.{nearest(name, FUNCTIONS)} There are: {', '.join(FUNCTIONS)}")
        fewest, most, say = FUNCTIONS[name]
        if not fewest <= len(node.args) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"{name}() takes {wanted} argument{'s' if most > 1 else ''}, not {len(node.args)}")
        return say([self.say(argument) for argument in node.args])


def _constant(node: ast.Constant) -> Sql:
    value = node.value
    if value is None:
        return Sql("NULL", "nothing")
    if isinstance(value, bool):
        return Sql("true" if value else "false", "boolean")
    if isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e18:
        return Sql(repr(value), "number")
    if isinstance(value, str) and "\0" not in value:
        return Sql("'" + value.replace("'", "''") + "'", "text")
    raise ValueError(f"{_source(node)!r} is not allowed in an expression: numbers, texts, True, False and None are")


def _dotted(node: ast.expr) -> str:
    return ".".join(_names(node))


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield from _names(node.value)
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    else:
        raise ValueError(f"{_source(node)!r} is not a column. Write a.b, or col('name') for a name with blanks")


def _source(node: ast.AST) -> str:
    return ast.unparse(node)[:60]
