"""Comparisons at the same place: against known intervals, rows of single journeys, and planted chances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.proportion import confint_proportions_2indep

from journeykit.landmarks import FEW, Groups, compare


def one_place(x1: int, n1: int, x0: int, n0: int) -> dict[str, float]:
    groups = Groups(np.array([n1, n0], float), np.array([x1, x0], float))
    return compare(groups, np.array([0, -1]), np.array([[False], [True]]))


@pytest.mark.parametrize(
    "counts", [(10, 40, 30, 60), (0, 25, 7, 300), (25, 25, 7, 300), (0, 20, 0, 20), (30, 30, 25, 25)]
)
def test_at_one_place_it_is_newcombes_interval(counts: tuple[int, int, int, int]) -> None:
    found = one_place(*counts)
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    assert (found["gap_points_low"], found["gap_points_high"]) == pytest.approx((100 * low, 100 * high), abs=1e-9)
    assert found["gap_points"] == pytest.approx(100 * (counts[0] / counts[1] - counts[2] / counts[3]))


def test_the_test_is_mantel_haenszels() -> None:
    x1, n1, x0, n0 = (np.array(x, float) for x in ([10, 4, 20], [40, 30, 25], [30, 9, 300], [60, 80, 400]))
    case = np.array([0, 1, 2, -1, -1, -1])
    control = np.vstack([np.zeros((3, 3), bool), np.eye(3, dtype=bool)])
    found = compare(Groups(np.r_[n1, n0], np.r_[x1, x0]), case, control)
    tables = [[[a, b - a], [c, d - c]] for a, b, c, d in zip(x1, n1, x0, n0, strict=True)]
    known = StratifiedTable([np.array(table) for table in tables]).test_null_odds(correction=False)
    assert found["p_value"] == pytest.approx(known.pvalue)
    weighted = (n1 / n1.sum() * x0 / n0).sum()
    assert found["without_share"] == pytest.approx(weighted)
    assert found["gap_points"] == pytest.approx(100 * (x1.sum() / n1.sum() - weighted))
    variance = ((n1 / n1.sum()) ** 2 * (x0 / n0) * (1 - x0 / n0) / n0).sum()  # journeys at one place only: the textbook
    effective = weighted * (1 - weighted) / variance
    low, high = confint_proportions_2indep(34, 95, weighted * effective, effective, method="newcomb", compare="diff")
    assert (found["gap_points_low"], found["gap_points_high"]) == pytest.approx((100 * low, 100 * high))


def test_values_have_welchs_interval() -> None:
    random = np.random.default_rng(1)
    with_it, without = random.gamma(2, 50, 40), random.gamma(2, 60, 70)
    n, total, squares = (np.array([f(with_it), f(without)]) for f in (len, np.sum, lambda v: (v**2).sum()))
    groups = Groups(n.astype(float), np.array([9.0, 30.0]), total, squares)
    found = compare(groups, np.array([0, -1]), np.array([[False], [True]]))
    known = stats.ttest_ind(with_it, without, equal_var=False).confidence_interval()
    assert found["value_gap"] == pytest.approx(with_it.mean() - without.mean())
    bounds = found["value_gap_low"], found["value_gap_high"]
    assert bounds == pytest.approx((known.low, known.high))


def test_groups_are_sums_of_single_journeys() -> None:
    """The same from one row per journey as from rows that are alike summed, and the variance by the definition."""
    random = np.random.default_rng(2)
    n, places = 400, 3
    control = random.random((n, places)) < 0.6
    case = np.where(random.random(n) < 0.3, random.integers(0, places, n), -1)
    control &= np.arange(places) < np.where(case >= 0, case, places)[:, None]
    bought = (random.random(n) < 0.4).astype(float)
    value = bought * random.integers(1, 4, n) * 10
    single = compare(Groups(np.ones(n), bought, value, value**2), case, control)
    keys, where = np.unique(np.column_stack([case, control]), axis=0, return_inverse=True)
    summed = [np.bincount(where, weights=x) for x in (np.ones(n), bought, value, value**2)]
    assert compare(Groups(*summed), keys[:, 0], keys[:, 1:].astype(bool)) == pytest.approx(single)
    weights = np.array([(case == k).sum() for k in range(places)]) / (case >= 0).sum()
    means = np.array([value[control[:, k]].mean() for k in range(places)])
    influence = sum(weights[k] * control[:, k] * (value - means[k]) / control[:, k].sum() for k in range(places))
    cases = value[case >= 0]
    half = single["value_gap_high"] - single["value_gap"]
    size = 1 / sum(weights[k] ** 2 / control[:, k].sum() for k in range(places))
    error = math.sqrt(cases.var(ddof=1) / len(cases) + (influence**2).sum() * size / (size - 1))
    assert half / error == pytest.approx(1.97, abs=0.01)  # the quantile of some two hundred degrees of freedom
    assert single["value_gap"] == pytest.approx(cases.mean() - (weights * means).sum())


def test_places_where_nobody_is_without_it_are_left_out() -> None:
    groups = Groups(np.array([30.0, 50.0, 40.0]), np.array([30.0, 10.0, 20.0]))
    found = compare(groups, np.array([1, 0, -1]), np.array([[False, False], [False, False], [True, False]]))
    assert (found["with_n"], found["without_n"]) == (50, 40)
    assert found["gap_points"] == pytest.approx(-30)


def test_few_are_not_compared() -> None:
    assert one_place(1, FEW - 1, 10, 100) == {"with_n": FEW - 1, "without_n": 100}
    assert one_place(1, 100, 10, FEW - 1) == {"with_n": 100, "without_n": FEW - 1}
    nobody = compare(Groups(np.empty(0), np.empty(0)), np.empty(0, np.int64), np.empty((0, 2), bool))
    assert nobody == {"with_n": 0, "without_n": 0}
    assert math.isnan(one_place(0, 20, 0, 20)["p_value"])
    same = Groups(np.array([20.0, 30.0]), np.array([20.0, 30.0]), np.array([200.0, 300.0]), np.array([2e3, 3e3]))
    found = compare(same, np.array([0, -1]), np.array([[False], [True]]))
    assert (found["value_gap"], found["with_value"]) == (0, 10)
    assert math.isnan(found["value_gap_low"])
