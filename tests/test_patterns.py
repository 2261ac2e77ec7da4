"""Patterns: what they mean, by hand and against a slow matcher; what cannot be read; filters and funnels from them."""

from __future__ import annotations

import random
import time

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine, funnels, paths, patterns, stats
from journeykit.errors import JourneyError
from journeykit.pattern_text import read
from journeykit.walks import walks
from tests import slow_paths
from tests.conftest import make_log
from tests.slow_paths import Piece


def found(pattern: str, *texts: str, **options: object) -> list[int]:
    """Return for each text of events whether the pattern is in it."""
    log = make_log(" | ".join(f"u: {text}" for text in texts))
    return (
        engine.fetch(patterns.matches(log, pattern, within="person", **options)).sort_values("unit")["matched"].tolist()
    )


@pytest.mark.parametrize(
    ("pattern", "texts", "expected"),
    [
        ("cart -> buy", ["cart buy", "cart x buy", "buy cart"], [1, 0, 0]),  # adjacent
        ("cart -> .* -> buy", ["cart buy", "cart x y buy", "buy cart"], [1, 1, 0]),
        ("cart -> . -> buy", ["cart buy", "cart x buy", "cart x y buy"], [0, 1, 0]),
        ("cart -> .+ -> buy", ["cart buy", "cart x buy", "cart x y buy"], [0, 1, 1]),
        ("cart -> [^buy]* -> exit", ["cart x", "cart buy", "cart", "x", "cart buy cart"], [1, 0, 1, 0, 1]),
        ("[a | b] -> c", ["a c", "b c", "c c", "a b"], [1, 1, 0, 0]),
        ("a | b -> c", ["a c", "b c", "c c"], [1, 1, 0]),
        ("[^a | b] -> c", ["a c", "d c", "c c", "c"], [0, 1, 1, 0]),
        ("start -> a", ["a b", "b a"], [1, 0]),
        ("a -> exit", ["a b", "b a"], [0, 1]),
        ("start -> a -> exit", ["a", "a a"], [1, 0]),
        ("start -> a+ -> exit", ["a", "a a", "a b"], [1, 1, 0]),
        ("start -> [^buy]* -> exit", ["a b", "a buy"], [1, 0]),
        ("start -> [^a]* -> b", ["c b", "a b", "b a"], [1, 0, 1]),
        ("a -> b? -> c", ["a c", "a b c", "a b b c"], [1, 1, 0]),
        ("a -> b* -> c", ["a c", "a b c", "a b b c", "a d c"], [1, 1, 1, 0]),
        ("a -> b+ -> c", ["a c", "a b c", "a b b c"], [0, 1, 1]),
        (".* -> a -> .*", ["b", "b a c"], [0, 1]),
        ("start -> .* -> exit", ["a", "b b"], [1, 1]),
        ("a -> a", ["a", "a a", "a b a"], [0, 1, 0]),
        ("start -> [^]* -> b -> exit", ["a b", "b", "b a"], [1, 1, 0]),  # [^] excludes nothing
    ],
)
def test_meaning(pattern: str, texts: list[str], expected: list[int]) -> None:
    assert found(pattern, *texts) == expected


def test_values_may_hold_anything_when_quoted() -> None:
    odd = ["start", "exit", "a|b", "C++", "x -> y", 'say "hi"', "what?", ".", "[z]", "back\\slash", "Ω 🙂", "\n"]
    log = make_log("u1: " + " ".join(f"v{k}" for k in range(len(odd))))
    log["event"] = odd
    for value in odd:
        quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        assert patterns.share(log, quoted)["matched_n"].tolist() == [1], value
        assert patterns.share(log, f"start -> [^{quoted}]* -> exit")["matched_n"].tolist() == [0], value
    assert patterns.share(log, 'start -> "start" -> "exit" -> "a|b"')["matched_n"].tolist() == [1]
    spaced = make_log("u1: a b c").assign(touchpoint=["Product page", "Shipping cost", "Set-up"])
    text = "start -> Product page -> Shipping cost -> Set-up -> exit"
    assert patterns.share(spaced, text, on="touchpoint")["matched_n"].tolist() == [1]


@pytest.mark.parametrize(
    ("pattern", "position", "what"),
    [
        ("", 1, "value is expected"),
        ("a ->", 5, "found the end where a value is expected"),
        ("a -> -> b", 6, "found '-'"),
        ("a b]", 4, "found ']'"),
        ("[a | b", 7, "a ] is missing"),
        ("a -> [^a", 9, "a ] is missing"),
        ("a -> []", 7, "value is expected"),
        ('a -> "b', 6, "a quote is not closed"),
        ("a -> C++", 8, "found '+'"),
        ("a -> start", 6, "start can only come first"),
        ("exit -> a", 1, "exit can only come last"),
        ("start -> exit", 1, "no event"),
        (".*", 1, "no event"),
        ("[^a]* -> b", 1, "begin with start ->"),
        ("b -> a*", 6, "end with -> exit"),
        ("b -> a?", 6, "end with -> exit"),
        ("a -> [b | exit]", 11, "exit cannot be one of several"),
        ("a** -> b", 3, "found '*'"),
    ],
)
def test_what_cannot_be_read(pattern: str, position: int, what: str) -> None:
    with pytest.raises(JourneyError) as error:
        patterns.matches(make_log("u1: a"), pattern)
    text = str(error.value)
    assert f"position {position}:" in text, text
    assert what in text, text
    assert "Allowed between the arrows" in text


def test_at_most_200_values_are_named() -> None:
    names = [f"v{k}" for k in range(201)]
    log = make_log("u1: v0 v199 | u2: v200")
    assert patterns.share(log, " | ".join(names[:200]), within="person")["matched_n"].tolist() == [1]
    with pytest.raises(JourneyError, match="201 values, and 200 are allowed"):
        patterns.share(log, " | ".join(names))


VALUES = ["a", "b", "c", "start", "a|b"]


@st.composite
def a_pattern(draw: st.DrawFn) -> tuple[list[Piece], bool, bool]:
    ends = draw(st.booleans()), draw(st.booleans())
    pieces = []
    for _ in range(draw(st.integers(1, 5))):
        values = tuple(dict.fromkeys(draw(st.lists(st.sampled_from([*VALUES[:4], "nowhere"]), min_size=0, max_size=2))))
        other = draw(st.booleans()) or not values
        pieces.append(Piece(values, other, draw(st.sampled_from(["", "", "", "*", "+", "?"]))))
    return pieces, *ends


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(VALUES), min_size=1, max_size=8), min_size=1, max_size=12),
    st.lists(a_pattern(), min_size=4, max_size=8),
    st.booleans(),
)
def test_against_a_slow_matcher(
    units: list[list[str]], asked: list[tuple[list[Piece], bool, bool]], once: bool
) -> None:
    log = make_log(" | ".join("u: " + " ".join("x" for _ in unit) for unit in units))
    log["event"] = [value for unit in units for value in unit]
    ways = walks(log.sample(frac=1, random_state=len(log)), within="person", collapse=once)
    for pieces, at_start, at_exit in asked:
        text = slow_paths.text_of(pieces, at_start, at_exit)
        ends = [pieces[0]] * (not at_start) + [pieces[-1]] * (not at_exit)
        says_nothing = any(piece.sign in ("*", "?") and piece.values for piece in ends)
        asks_nothing = not (at_start and at_exit) and all(piece.sign in ("*", "?") for piece in pieces)
        if says_nothing or asks_nothing:
            with pytest.raises(JourneyError, match=r"may be nothing|no event"):
                read(text)
            continue
        table = engine.fetch(patterns.matches(ways, text, within="person", collapse=once)).sort_values("unit")
        known = [slow_paths.collapsed(unit) if once else unit for unit in units]
        assert table["matched"].tolist() == [slow_paths.is_in(pieces, at_start, at_exit, unit) for unit in known], text


def test_a_pattern_is_written_as_it_was_read() -> None:
    for text in ("a", "[^a | b]*", ".", ".*", '"C++"+', "[a | b]?", '"start"', "Product page"):
        token = read(f"start -> x -> {text} -> exit").tokens[1]
        assert str(token) == text


def test_time_grows_with_the_events_only() -> None:
    # What makes a backtracking matcher take for ever: (a* a* … b) on a long run of a.
    pattern = "start -> " + " -> ".join(["a*"] * 20) + " -> b"
    log = make_log("u1: " + " ".join(["a"] * 3000))
    before = time.process_time()
    assert patterns.share(log, pattern)["matched_n"].tolist() == [0]
    assert time.process_time() - before < 20


def test_share_takes_people_as_independent() -> None:
    log = make_log("u1: a b ; a b ; a b | u2: a ; a | u3: b")
    table = patterns.share(log, ["a -> b", "b", "zz"])
    assert table[["n", "matched_n", "people_n"]].values.tolist() == [[6, 3, 1], [6, 4, 2], [6, 0, 0]]
    assert table["share"].tolist() == [0.5, 4 / 6, 0]
    # u1 has 3 of 3, u2 0 of 2, u3 0 of 1
    low, high = stats.clustered(3, 6, 9, 9, 9 + 4 + 1, 3)
    assert table.loc[0, ["share_low", "share_high"]].tolist() == [low, high]
    wide = stats.wilson(3, 6)
    assert low < wide[0]
    assert high > wide[1]
    assert table.attrs["unknown"] == {"zz": ""}
    person = patterns.share(log, "a -> b", within="person")
    assert person.loc[0, ["share", "share_low", "share_high"]].tolist() == [1 / 3, *stats.wilson(1, 3)]


def test_a_slip_of_the_pen_is_told() -> None:
    table = patterns.share(make_log("u1: cart purchase"), "cart -> [^purchse]* -> exit")
    assert table.attrs["unknown"] == {"purchse": " Did you mean 'purchase'?"}


def test_few_people_are_not_shown() -> None:
    log = make_log("u1: a b | u2: a | u3: a")
    assert patterns.share(log, ["a -> b", "a", "c"], min_n=2)["pattern"].tolist() == ["a", "c"]
    assert "at least 2" in patterns.share(log, "a -> b", min_n=2).attrs["reason"]


def test_keep_is_a_filter_for_everything() -> None:
    log = make_log("u1: cart x buy | u2: cart x | u3: x").assign(touchpoint=None)
    left = patterns.keep(log, "cart -> [^buy]* -> exit", within="person")
    assert sorted(engine.fetch(left)["event_id"]) == ["e0003", "e0004"]
    assert paths.variants(left, on="event", within="person")["variant"].tolist() == ["cart → x"]
    assert set(engine.fetch(left).columns) >= set(log.columns)
    assert engine.is_empty(patterns.keep(log, "nowhere"))


def test_hostile_input() -> None:
    empty = make_log("u1: a").head(0)
    assert "n = 0" in patterns.share(empty, "a").attrs["reason"]
    assert engine.is_empty(patterns.matches(empty, "a"))
    nulls = make_log("u1: a").assign(touchpoint=None)
    assert "n = 0" in patterns.share(nulls, "a", on="touchpoint").attrs["reason"]
    with pytest.raises(JourneyError, match="'session'"):
        patterns.share(nulls, "a", within="sessions")
    with pytest.raises(JourneyError, match="made with"):
        patterns.share(walks(nulls), "a", within="person")


def test_engines_agree() -> None:
    log = make_log("u1: a b a ; a b | u2: b a | u3: c a b c").drop(columns=["marketing_channel", "team"])
    asked = ["a -> b", "start -> [^c]* -> exit", "a -> .* -> a"]
    expected = patterns.share(log, asked)
    assert expected["matched_n"].tolist() == [3, 3, 1]
    for frame in (pl.from_pandas(log), pl.from_pandas(log).lazy(), engine.connection().from_df(log), walks(log)):
        pd.testing.assert_frame_equal(patterns.share(frame, asked), expected, check_dtype=False)


def test_nothing_asked() -> None:
    assert "no pattern is named" in patterns.share(make_log("u1: a"), []).attrs["reason"]


# ── Funnels ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FUNNELS = [
    "a -> b",
    "a -> .* -> b",
    "a -> [^c]* -> b",
    "a -> b -> .* -> c",
    "a -> .* -> b -> [^a | b]* -> c",
    "[a | b] -> c",
    "a -> b? -> c",
    "a -> [^b]* -> b? -> [^b]* -> c",
    "a+ -> b",
    "a -> [^b]* -> exit",
    "a -> exit",
    "a -> .* -> b -> exit",
    ".* -> a -> b -> .*",
]


@pytest.mark.parametrize("pattern", FUNNELS)
@pytest.mark.parametrize("seed", range(2))
def test_a_funnel_of_the_same_steps_finds_the_same_people(pattern: str, seed: int) -> None:
    lot = random.Random(seed)
    texts = [" ".join(lot.choices("abcd", k=lot.randint(1, 7))) for _ in range(80)]
    log = make_log(" | ".join(f"u: {text}" for text in texts))
    steps = patterns.steps(pattern)
    reached = funnels.reach(log, steps=steps, per="person")
    units = engine.fetch(reached.table)
    by_funnel = set(units.loc[units["depth"] == len(steps), "person_id"])
    table = engine.fetch(patterns.matches(log, pattern, within="person"))
    assert set(table.loc[table["matched"] == 1, "person_id"]) == by_funnel
    assert 0 < len(by_funnel) < 80


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("start -> a -> b", "nothing came before"),
        ("a -> . -> b", "a step is one event of named values"),
        ("a -> .+ -> b", "a step is one event"),
        ("a -> b+ -> c", r"b\+ cannot be said"),
        ("a -> [^b] -> c", "a step is one event"),
        ("a -> [^b]* -> .* -> c", "one gap between two steps"),
        ("a -> b? -> .* -> c", "gaps before and after"),
        ("a", "two steps"),
        ('a -> "b|c"', "cannot hold"),
    ],
)
def test_what_no_funnel_can_ask(pattern: str, what: str) -> None:
    with pytest.raises(JourneyError, match=what):
        patterns.steps(pattern)
