"""Alignment: published costs, every word of random plans, and deviations by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from journeykit import alignment
from journeykit.alignment import EXTRA, OUT_OF_ORDER, REPEATED, Plan, align, judge
from journeykit.errors import JourneyError
from tests import slow_alignment as slow

PUBLISHED = ["a", "b", "c", "d?", "e"]


@pytest.mark.parametrize(
    ("trace", "cost", "fitness"),
    [
        ("abce", 0, 1),
        ("abcde", 0, 1),
        ("abe", 1, 0.857),
        ("abbcce", 2, 0.8),
        ("abxyzce", 3, 0.727),
        ("ab", 2, 0.667),
        ("acbe", 2, 0.75),
    ],
)
def test_published_costs(trace: str, cost: int, fitness: float) -> None:
    """As pm4py aligns them; see METHODS §4."""
    found = align(trace, PUBLISHED)
    assert found.cost == cost
    assert round(found.fitness(4), 3) == fitness


def test_what_an_open_journey_has_not_reached_costs_nothing() -> None:
    found = align("ab", PUBLISHED)
    assert (found.open_cost, found.fitness(4, is_open=True), found.odd, found.skipped) == (0, 1, (), ())
    assert found.stopped == (3, 5)
    assert align("axb", PUBLISHED).open_cost == 1


@pytest.mark.parametrize(
    ("trace", "steps", "marks"),
    [
        ("abe", "a b c d? e", "✓ a → ✓ b → ○ c → ✓ e"),
        ("abbcce", "a b c d? e", "✓ a → ✓ b → ↺ b → ✓ c → ↺ c → ✓ e"),
        ("acbe", "a b c d? e", "✓ a → ⇄ c → ✓ b → ✓ e"),
        ("abxxce", "a b c d? e", "✓ a → ✓ b → + x → ✓ c → ✓ e"),
        ("ab", "a b c d? e", "✓ a → ✓ b → stops before c"),
        ("ad", "a b c d e", "✓ a → ○ b → ○ c → ✓ d → stops before e"),  # it got as far as d, it did not stop after a
        ("da", "a b c d e", "⇄ d → ✓ a → stops before b"),
        ("ddabce", "a b c d e", "⇄ d → ↺ d → ✓ a → ✓ b → ✓ c → ✓ e"),  # one of two is the missing step
        ("dabcde", "a b c d e", "↺ d → ✓ a → ✓ b → ✓ c → ✓ d → ✓ e"),
        ("bbc", "a b c", "○ a → ✓ b → ↺ b → ✓ c"),
        ("bxbbc", "a b c", "○ a → ✓ b → + x → ↺ b → ✓ c"),
        ("adbce", "a b c d? e", "✓ a → ⇄ d → ✓ b → ✓ c → ✓ e"),  # optional, but not there
        ("abca", "a b c", "✓ a → ✓ b → ✓ c → ↺ a"),
        ("aaabbc", "a+ b* c", "✓ a → ✓ b → ✓ c"),
        ("ac", "a+ b* c", "✓ a → ✓ c"),
        ("aba", "a+ b c", "✓ a → ✓ b → ↺ a → stops before c"),
        ("aba", "a b a c", "✓ a → ✓ b → ✓ a → stops before c"),  # a value in two steps
        ("a", "a b a c", "✓ a → stops before b"),  # not the second a with two steps skipped
        ("aa", "a+ b a c", "✓ a → stops before b"),  # it can still become the plan
        ("", "a b", "stops before a"),
        ("", "a? b*", ""),
        ("xy", "a", "+ x → + y → stops before a"),
    ],
)
def test_deviations_by_hand(trace: str, steps: str, marks: str) -> None:
    written = steps.split()
    plan = Plan(
        tuple(step[-1] not in "?*" for step in written),
        tuple(step[-1] in "+*" for step in written),
        {letter: tuple(k for k, step in enumerate(written, 1) if step[0] == letter) for letter in "abcde"},
    )
    labels = {k: step[0] for k, step in enumerate(written, start=1)}
    assert alignment.marked(trace, judge([trace], plan)[0], labels, {"x": "x", "y": "y"}) == marks


def test_alternatives_are_one_step() -> None:
    assert align(["ad", "call", "buy"], ["ad", "visit | call", "buy"]).cost == 0
    found = align(["visit", "call", "buy"], ["visit | call", "buy"])
    assert found.odd == ((1, REPEATED, 1),)
    assert align(["a"], ["a"]).odd == ()
    assert align([], []).cost == 0
    assert align(["x"], []).odd == ((0, EXTRA, 0),)


def test_free_values_cost_nothing_where_they_are_no_step() -> None:
    plan = Plan((True, True, True), (False,) * 3, {"a": (1,), "b": (2,), "c": (3,)}, frozenset("a"))
    again, late, kept = judge(["abac", "bac", "bbc"], plan)
    assert (again.cost, again.odd, again.events) == (0, (), 3)
    assert (late.cost, late.odd, late.skipped) == (1, ((1, OUT_OF_ORDER, 1),), ())  # it came, but not where it belongs
    assert (kept.cost, kept.skipped, kept.odd) == (2, (1,), ((1, REPEATED, 2),))


def test_the_plan_before_a_step() -> None:
    plan = Plan((True, False, True), (True, False, False), {"a": (1,), "b": (2, 3), "c": (3,)}, frozenset("c"))
    before = plan.until(3)
    assert (before.required, before.repeat, before.letters) == ((True, False), (True, False), {"a": (1,), "b": (2,)})
    assert plan.until(1).letters == {}
    assert judge(["ab"], plan.until(1))[0].cost == 2


STEP = st.builds(
    slow.SlowStep, st.frozensets(st.sampled_from("abcd"), min_size=1, max_size=2), st.booleans(), st.booleans()
)


def planned(steps: list[slow.SlowStep], free: frozenset[str]) -> Plan:
    letters = {letter: tuple(k for k, s in enumerate(steps, 1) if letter in s.values) for letter in "abcd"}
    letters = {letter: can for letter, can in letters.items() if can or letter in free}
    return Plan(tuple(not s.optional for s in steps), tuple(s.repeat for s in steps), letters, free)


@example([slow.SlowStep(frozenset("a")), slow.SlowStep(frozenset("ad"))], ["d"], frozenset("d"))
@settings(max_examples=150, deadline=None)
@given(
    st.lists(STEP, max_size=4),
    st.lists(st.text("abcdx", max_size=5), max_size=6),
    st.frozensets(st.sampled_from("abcd"), max_size=1),
)
def test_costs_are_the_lowest_of_every_journey_on_plan(
    steps: list[slow.SlowStep], traces: list[str], free: frozenset[str]
) -> None:
    plan = planned(steps, free)
    found = judge(traces, plan)
    assert [each.cost for each in found] == [slow.cost(trace, steps, free) for trace in traces]
    assert [each.open_cost for each in found] == [slow.open_cost(trace, steps, free) for trace in traces]
    for trace, each in zip(traces, found, strict=True):
        check(trace, each, plan)


def check(trace: str, found: alignment.Alignment, plan: Plan) -> None:
    """What is told adds up to the cost, and the steps taken are a journey that the plan knows."""
    taken = [step for step in found.taken if step]
    assert taken == sorted(taken)
    assert all(plan.repeat[step - 1] for step in set(taken) if taken.count(step) > 1)
    assert all(step in plan.letters[letter] for letter, step in zip(trace, found.taken, strict=True) if step)
    charged = sum(not step and letter not in plan.free for letter, step in zip(trace, found.taken, strict=True))
    missing = sum(plan.required[k - 1] and k not in taken for k in range(1, len(plan.required) + 1))
    if found.open_cost:
        assert charged + missing == found.cost
    else:
        assert (found.odd, found.skipped, charged) == ((), (), 0)
        assert len(found.stopped) == missing
    rescued = {step for _, kind, step in found.odd if kind == OUT_OF_ORDER}
    assert not rescued & set(found.skipped + found.stopped)
    assert found.furthest == max([0, *taken, *rescued])


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=4), st.text("abcdx", max_size=6))
def test_a_prefix_of_the_plan_has_no_deviation(steps: list[slow.SlowStep], trace: str) -> None:
    plan = planned(steps, frozenset())
    on_plan = any(
        len(word) == len(trace) and all(value in values for value, values in zip(trace, word, strict=True))
        for whole in slow.words(steps, len(trace) + 1)
        for word in [whole[: len(trace)]]
    )
    found = judge([trace], plan)[0]
    assert (not found.odd and not found.skipped) == on_plan


def test_what_came_in_one_call_does_not_matter() -> None:
    plan = planned([slow.SlowStep(frozenset("ab")), slow.SlowStep(frozenset("b"), True, True)], frozenset())
    traces = ["", "a", "ba", "abb", "xxbab", "a"]
    assert judge(traces, plan) == [judge([trace], plan)[0] for trace in traces]
    assert judge([], plan) == []


def test_many_variants_take_a_second() -> None:
    random = np.random.default_rng(1)
    letters = "abcdefgh"
    plan = Plan((True,) * 8, (True, *(False,) * 7), {letter: (k,) for k, letter in enumerate(letters, start=1)})
    traces = sorted({"".join(random.choice(list(letters), random.integers(5, 16))) for _ in range(5_500)})[:5_000]
    begin = time.process_time()
    judge(traces, plan)
    assert time.process_time() - begin < 5  # a fifth of that on a quiet machine


def test_endless_traces_are_refused() -> None:
    with pytest.raises(JourneyError, match="more than 1,048,576 steps"):
        judge(["a" * (1 << 20)], Plan((True,), (False,), {"a": (1,)}))
