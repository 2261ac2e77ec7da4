"""Intervals of shares: independent ones, and those of events that come in people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from journeykit.stats import add_clustered_share, clustered, wilson


def sums(k: np.ndarray, n: np.ndarray) -> tuple[int, ...]:
    """What `clustered` takes, from the successes and the size of each cluster."""
    return tuple(int(x) for x in (k.sum(), n.sum(), (k * k).sum(), (k * n).sum(), (n * n).sum(), len(n)))


def people(seed: int, many: int) -> tuple[np.ndarray, np.ndarray]:
    """People with 1 to 40 events each, whose events are alike: most are all known, or all unknown."""
    rng = np.random.default_rng(seed)
    n = rng.geometric(0.1, many).clip(max=40)
    return rng.binomial(n, rng.beta(0.3, 0.5, many)), n


@pytest.mark.parametrize("n", [1, 7, 337, 100_000])
def test_wilson_stays_between_0_and_1(n: int) -> None:
    assert wilson(0, n)[0] == 0
    assert wilson(n, n)[1] == 1
    assert 0 < wilson(0, n)[1] <= 1


def test_one_event_a_person_is_wilson() -> None:
    for k, n in ((15, 100), (0, 9), (9, 9), (1, 2)):
        assert clustered(k, n, k, k, n, n) == pytest.approx(wilson(k, n))


def test_a_clustered_interval_is_that_of_a_bootstrap_over_people() -> None:
    k, n = people(1, 600)
    low, high = clustered(*sums(k, n))
    rng = np.random.default_rng(2)
    rows = rng.integers(0, len(n), (4000, len(n)))
    bootstrap = np.quantile(k[rows].sum(axis=1) / n[rows].sum(axis=1), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(bootstrap), abs=0.006)
    alone = wilson(int(k.sum()), int(n.sum()))
    assert high - low > 3 * (alone[1] - alone[0])  # events of one person are alike


def test_a_clustered_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth = 0.3 / 0.8
    found = [clustered(*sums(*people(seed, 60))) for seed in range(1000)]
    assert 0.93 <= np.mean([low <= truth <= high for low, high in found]) <= 0.98


def test_the_same_people_twice_is_what_more_events_of_each_are_not() -> None:
    k, n = people(3, 200)
    one, more = clustered(*sums(k, n)), clustered(*sums(10 * k, 10 * n))
    assert more == pytest.approx(one, abs=2e-3)
    twice = clustered(*sums(np.tile(k, 2), np.tile(n, 2)))
    assert twice[1] - twice[0] < 0.75 * (one[1] - one[0])


def test_few_or_equal_people_fall_back_to_their_number() -> None:
    assert clustered(500, 1000, 500**2, 500_000, 1000**2, 1) == pytest.approx(wilson(0.5, 1))
    assert clustered(1000, 1000, 40_000, 40_000, 40_000, 25) == pytest.approx(wilson(25, 25))
    assert clustered(25, 50, 25, 50, 100, 25) == pytest.approx(wilson(12.5, 25))  # each has one of two
    assert all(np.isnan(bound) for bound in clustered(0, 0, 0, 0, 0, 0))


def test_sums_of_many_events_lose_no_digit() -> None:
    n = np.full(50, 40_000_000)
    k = n // 2 + np.tile([-1, 1], 25)  # the residuals are a millionth of a millionth of the squares
    low, high = clustered(*sums(k, n))
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(n.sum()), rel=1e-2)  # never narrower than n events


def test_a_table_gets_its_clustered_share() -> None:
    table = pd.DataFrame({"won_n": [15], "n": [100], "_kk": [15], "_kn": [15], "_nn": [100], "_clusters": [100]})
    made = add_clustered_share(table, "won", "won_n", "n")
    assert list(made.columns) == ["won_n", "n", "won_share", "won_share_low", "won_share_high"]
    assert made[["won_share_low", "won_share_high"]].iloc[0].tolist() == pytest.approx(wilson(15, 100))
