"""Covariates as columns of a model: levels, references, missing answers, and what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit.churn import design
from journeykit.config import Covariate
from journeykit.errors import JourneyError

DEVICE = Covariate(name="device", kind="category", column="segment_device", label="Device")
ANSWER = Covariate(name="answer", kind="satisfaction", label="Answer")
LATE = Covariate(name="late", events="x")
TIMES = Covariate(name="times", kind="count", events="x")


def devices(*counts: tuple[str | None, int]) -> pd.DataFrame:
    return pd.DataFrame({"device": pd.Series([value for value, n in counts for _ in range(n)], dtype=object)})


def test_levels_are_against_the_most_frequent_and_rare_ones_are_pooled() -> None:
    table = devices(("phone", 20), ("tablet", 10), (None, 9), ("watch", 3), ("tv", 3))
    made = design.learn(table, [DEVICE], min_n=5)
    assert made.names == ["device=tablet", "device=unknown", "device=other"]
    assert {column.reference for column in made.columns} == {"phone"}
    assert [column.label for column in made.columns] == ["Device: tablet", "Device: unknown", "Device: other"]
    assert made.apply(table).sum().tolist() == [10, 9, 6]
    assert made.notes == ()


def test_levels_of_later_rows_do_not_change_the_columns() -> None:
    made = design.learn(devices(("phone", 20), ("tablet", 10)), [DEVICE])
    assert made.apply(devices(("tablet", 1), ("fridge", 1), (None, 1)))["device=tablet"].tolist() == [1, 0, 0]
    pooled = design.learn(devices(("phone", 20), ("tv", 3), ("watch", 3)), [DEVICE])
    assert pooled.apply(devices(("fridge", 1), ("phone", 1)))["device=other"].tolist() == [1, 0]


def test_a_value_that_is_called_other_joins_those_pooled() -> None:
    made = design.learn(devices(("phone", 20), ("other", 9), ("tv", 3)), [DEVICE])
    assert made.names == ["device=other"]
    assert made.apply(devices(("other", 1), ("tv", 1), ("phone", 1)))["device=other"].tolist() == [1, 1, 0]


def test_satisfaction_is_centred_and_missing_is_a_column() -> None:
    table = pd.DataFrame({"answer": [0.2] * 5 + [0.6] * 5 + [np.nan] * 10})
    made = design.learn(table, [ANSWER])
    assert made.names == ["answer", "answer=no answer"]
    numbers = made.apply(table)
    assert numbers["answer"].tolist() == pytest.approx([-0.2] * 5 + [0.2] * 5 + [0.0] * 10)
    assert numbers["answer=no answer"].tolist() == [0] * 10 + [1] * 10
    later = made.apply(pd.DataFrame({"answer": [1.0, np.nan]}))  # the centre is that of learning
    assert later["answer"].tolist() == pytest.approx([0.6, 0])
    assert design.learn(table.assign(answer=np.nan), [ANSWER]).names == []
    assert design.learn(table.assign(answer=0.5), [ANSWER]).names == []


def test_what_cannot_be_used_is_left_out_with_a_sentence() -> None:
    n = np.arange(40)
    table = pd.DataFrame({"late": (n % 2).astype(float), "times": 2.0 * (n % 2) + 1, "device": "phone"})
    made = design.learn(table, [LATE, TIMES, DEVICE])
    assert made.names == ["late"]
    assert made.notes == (
        "“Device” is left out: it is the same for everyone.",
        "“times” is left out: it repeats the covariates before it.",
    )
    few = design.learn(table.assign(late=(n < 3).astype(float)), [LATE])
    assert few.notes == ("“late” is left out: fewer than 5 people have it, or do not have it.",)
    assert "same for everyone" in design.learn(table.assign(late=1.0), [LATE]).notes[0]
    # Ten rows of one person are one person.
    once = table.assign(late=(n < 10).astype(float), person_id=np.where(n < 10, 0, n))
    assert "fewer than 5 people" in design.learn(once, [LATE]).notes[0]
    with pytest.raises(JourneyError, match="device"):
        design.learn(table.drop(columns="device"), [DEVICE])
    with pytest.raises(JourneyError, match="late"):
        made.apply(table.drop(columns="late"))


def test_empty_tables_have_no_columns() -> None:
    table = pd.DataFrame({"late": pd.Series(dtype=float), "answer": pd.Series(dtype=float), "device": []})
    made = design.learn(table, [LATE, ANSWER, DEVICE])
    assert made.names == []
    assert made.apply(table).shape == (0, 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0.0, 0.5, None])), max_size=60))
def test_columns_are_finite_and_independent(rows: list[tuple[str | None, float | None]]) -> None:
    table = pd.DataFrame(rows, columns=["device", "answer"]).astype({"answer": float, "device": object})
    made = design.learn(table, [DEVICE, ANSWER], min_n=3)
    numbers = made.apply(table).to_numpy()
    assert np.isfinite(numbers).all()
    assert not numbers.size or (numbers.std(axis=0) > 0).all()
    centred = numbers - numbers.mean(axis=0) if len(numbers) else numbers
    assert not numbers.size or np.linalg.matrix_rank(centred, tol=1e-6) == numbers.shape[1]
    pd.testing.assert_frame_equal(made.apply(table.iloc[::-1]).iloc[::-1], made.apply(table))
