"""Agreement of two groupings, against the published example and a slow version that compares every pair."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from journeykit.agreement import b_cubed, pairwise
from journeykit.errors import JourneyError

labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=30)


def slow_b_cubed(found: list[int], truth: list[int]) -> tuple[float, float]:
    """Item by item, as the definition says it."""
    shares = []
    for one, own in zip(found, truth, strict=True):
        together = [t for f, t in zip(found, truth, strict=True) if f == one]
        belonging = [f for f, t in zip(found, truth, strict=True) if t == own]
        shares.append((together.count(own) / len(together), belonging.count(one) / len(belonging)))
    return sum(p for p, _ in shares) / len(shares), sum(r for _, r in shares) / len(shares)


def slow_pairwise(found: list[int], truth: list[int]) -> tuple[float, float]:
    pairs = list(combinations(range(len(found)), 2))
    together = {(a, b) for a, b in pairs if found[a] == found[b]}
    belonging = {(a, b) for a, b in pairs if truth[a] == truth[b]}
    right = len(together & belonging)
    return right / len(together) if together else 1.0, right / len(belonging) if belonging else 1.0


@given(labels)
def test_counts_give_what_the_definitions_say(items: list[tuple[int, int]]) -> None:
    found, truth = ([item[place] for item in items] for place in (0, 1))
    assert b_cubed(found, truth) == pytest.approx(slow_b_cubed(found, truth))
    assert pairwise(found, truth) == pytest.approx(slow_pairwise(found, truth))
    for measure in (b_cubed, pairwise):
        assert measure(found, truth) == pytest.approx(tuple(reversed(measure(truth, found))))
        assert measure(truth, truth) == (1.0, 1.0)


def test_b_cubed_equals_the_published_example() -> None:
    truth = pd.Series([1] * 5 + [2] * 2 + [3] * 5)
    assert b_cubed(truth.replace({2: 3}), truth) == (pytest.approx(16 / 21), 1.0)
    assert b_cubed(truth.replace({3: 1}), truth) == (pytest.approx(7 / 12), 1.0)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, pd.Categorical])
def test_labels_may_be_of_any_kind(kind: type) -> None:
    found, truth = kind(["a", "a", "b", "b"]), kind(["x", "x", "x", "y"])
    assert pairwise(found, truth) == (0.5, pytest.approx(1 / 3))
    assert b_cubed(found, truth) == pytest.approx(slow_b_cubed([0, 0, 1, 1], [0, 0, 0, 1]))


def test_what_cannot_be_compared_is_refused() -> None:
    for measure in (b_cubed, pairwise):
        with pytest.raises(JourneyError, match="found holds 1 nulls"):
            measure([1, None], [1, 1])
        with pytest.raises(JourneyError, match="truth holds 2 nulls"):
            measure(["a", "b"], pd.Series([None, float("nan")]))
        with pytest.raises(JourneyError, match="2 found labels and 1 true"):
            measure([1, 1], [1])
        with pytest.raises(JourneyError, match="no item"):
            measure([], [])


def test_millions_of_rows_take_seconds() -> None:
    rng = np.random.default_rng(1)
    found, truth = rng.integers(0, 400_000, 2_000_000), rng.integers(0, 300_000, 2_000_000)
    start = time.perf_counter()
    first, second = b_cubed(found, truth), pairwise(found, truth)
    assert time.perf_counter() - start < 20
    assert 0 < first.precision < 1
    assert 0 < second.recall < 1
    # One group of all: pairs of 2 million items are more than 32 bits hold.
    assert pairwise(np.zeros(2_000_000), np.zeros(2_000_000)) == (1.0, 1.0)
