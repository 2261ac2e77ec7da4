"""Scores of predictions: published figures, slow versions written another way, and what censoring must not change."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.datasets import load_rossi
from lifelines.utils import concordance_index

from journeykit.churn import calibration, metrics
from journeykit.stats import wilson


def censored(n: int = 2000, seed: int = 0, last: float = 100.0) -> tuple[np.ndarray, ...]:
    """Lives of two risks, censored at random before `last` or there; with the whole lives beside them."""
    rng = np.random.default_rng(seed)
    rate = np.where(rng.random(n) < 0.4, 0.02, 0.005)
    life, seen = rng.exponential(1 / rate), np.minimum(rng.uniform(0, 2 * last, n), last)
    return np.minimum(life, seen), (life <= seen).astype(int), life, rate


def rossi() -> tuple[np.ndarray, np.ndarray, pd.DataFrame, CoxPHFitter]:
    table = load_rossi()
    fit = CoxPHFitter().fit(table, "week", "arrest")
    return table["week"].to_numpy(float), table["arrest"].to_numpy(), table, fit


def test_published_scores_of_rossi() -> None:
    duration, ended, table, fit = rossi()
    times = np.arange(5.0, 51, 5)
    cox = fit.predict_survival_function(table, times=times).to_numpy().T
    null = np.tile(KaplanMeierFitter().fit(duration, ended).predict(times).to_numpy(), (len(table), 1))
    assert metrics.integrated_terms(duration, ended, cox, times).mean() == pytest.approx(0.100739, abs=5e-7)
    assert metrics.integrated_terms(duration, ended, null, times).mean() == pytest.approx(0.107036, abs=5e-7)
    at_25 = fit.predict_survival_function(table, times=[25]).to_numpy()[0]
    assert metrics.brier_terms(duration, ended, at_25, 25.0).mean() == pytest.approx(0.09884, abs=5e-6)
    risk = fit.predict_partial_hazard(table).to_numpy()
    assert metrics.uno(duration, ended, risk, 50.0)[0] == pytest.approx(0.639922, abs=5e-7)
    assert metrics.concordance(duration, ended, risk)[0] == pytest.approx(0.6403, abs=5e-5)


def test_concordance_is_lifelines_with_ties_and_weights_are_repetition() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        duration, ended = rng.integers(1, 15, 80).astype(float), rng.integers(0, 2, 80)
        risk = rng.integers(0, 5, 80).astype(float)
        weights = rng.multinomial(80, np.full(80, 1 / 80), size=3).astype(float)
        found = metrics.concordance(duration, ended, risk, np.vstack([np.ones(80), weights]))
        assert found[0] == pytest.approx(concordance_index(duration, -risk, ended))
        again = np.repeat(np.arange(80), weights[0].astype(int))
        # A person drawn twice is not comparable with its own copy, in either computation (equal times, both ended).
        assert found[1] == pytest.approx(concordance_index(duration[again], -risk[again], ended[again]))


def test_auc_and_uno_are_their_slow_versions() -> None:
    rng = np.random.default_rng(5)
    duration, ended = rng.integers(1, 12, 60).astype(float), rng.integers(0, 2, 60)
    risk, at = rng.integers(0, 4, 60).astype(float), 8.0
    curve = KaplanMeierFitter().fit(duration, 1 - ended)
    alive = np.array([curve.predict(t - 1e-9) for t in duration])
    weights = np.vstack([np.ones(60), rng.multinomial(60, np.full(60, 1 / 60), size=2)])
    for row, auc, uno in zip(
        weights,
        metrics.auc(duration, ended, risk, at, weights),
        metrics.uno(duration, ended, risk, at, weights),
        strict=True,
    ):
        sums = np.zeros(4)
        for i in range(60):
            for j in range(60):
                right = (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
                if ended[i] and duration[i] <= at and (duration[j] > at or (duration[j] == at and not ended[j])):
                    sums[:2] += row[i] * row[j] / alive[i] * np.array([right, 1])
                later = duration[j] > duration[i] or (duration[j] == duration[i] and not ended[j])
                if ended[i] and duration[i] < at and later:
                    sums[2:] += row[i] * row[j] / alive[i] ** 2 * np.array([right, 1])
        assert auc == pytest.approx(sums[0] / sums[1])
        assert uno == pytest.approx(sums[2] / sums[3])


def test_censoring_does_not_move_what_is_weighted_for_it() -> None:
    duration, ended, life, rate = censored(40_000)
    whole = np.ones(len(life), dtype=int)
    still, at = np.exp(-rate * 60), 60.0
    for name in ("auc", "uno"):
        score = getattr(metrics, name)
        some = np.random.default_rng(1).permutation(len(life))[:3000]  # pairs are many
        with_it = score(duration[some], ended[some], 1 - still[some], at)[0]
        assert with_it == pytest.approx(score(life[some], whole[some], 1 - still[some], at)[0], abs=0.015)
    brier = metrics.brier_terms(duration, ended, still, at).mean()
    assert brier == pytest.approx(metrics.brier_terms(life, whole, still, at).mean(), abs=0.004)
    assert calibration.expected_to_observed(duration, ended, 1 - still, at)[0] == pytest.approx(1, abs=0.02)
    assert calibration.slope(duration, ended, 1 - still, at)[0] == pytest.approx(1, abs=0.05)
    naive = (1 - still).sum() / ((ended == 1) & (duration <= at)).sum()
    assert naive > 1.1  # who was censored early is not seen to leave: the test can fail


def test_observed_to_the_very_end_counts_as_there() -> None:
    duration, ended = np.array([10.0, 90.0, 90.0]), np.array([1, 0, 0])
    assert metrics.brier_terms(duration, ended, np.full(3, 0.5), 90.0).tolist() == [0.25, 0.25, 0.25]
    assert metrics.auc(duration, ended, np.array([3.0, 1.0, 2.0]), 90.0).tolist() == [1.0]


def test_null_scores_the_variance() -> None:
    duration, ended, *_ = censored(5000)
    share = float(KaplanMeierFitter().fit(duration, ended).predict(60))
    loss = metrics.brier_terms(duration, ended, np.full(5000, share), 60.0).mean()
    assert loss == pytest.approx(share * (1 - share), rel=0.01)


def test_slope_is_a_logistic_regression() -> None:
    rng = np.random.default_rng(2)
    leaves = rng.uniform(0.05, 0.6, 800)
    ended = (rng.random(800) < leaves).astype(int)
    duration = np.where(ended == 1, 5.0, 10.0)
    x = np.log(leaves / (1 - leaves))
    expected = sm.GLM(ended, sm.add_constant(x), family=sm.families.Binomial()).fit().params[1]
    weights = np.vstack([np.ones(800), rng.multinomial(800, np.full(800, 1 / 800))])
    found = calibration.slope(duration, ended, leaves, 10.0, weights)
    assert found[0] == pytest.approx(expected, abs=1e-6)
    again = np.repeat(np.arange(800), weights[1].astype(int))
    assert found[1] == pytest.approx(calibration.slope(duration[again], ended[again], leaves[again], 10.0)[0], abs=1e-6)
    too_far = np.clip(1 / (1 + np.exp(-2 * x)), 0, 1)  # predictions twice as far apart
    assert calibration.slope(duration, ended, too_far, 10.0)[0] == pytest.approx(expected / 2, abs=1e-6)


def test_bands_hold_people_of_one_risk_together_and_cover() -> None:
    rng = np.random.default_rng(4)
    leaves = rng.choice([0.1, 0.2, 0.5], 900, p=[0.7, 0.2, 0.1])
    ended = (rng.random(900) < leaves).astype(int)
    duration = np.where(ended == 1, 5.0, 10.0)
    table = calibration.bands(duration, ended, leaves, 10.0)
    assert (table["from_share"] == table["to_share"]).all()
    assert table["n"].sum() == 900
    assert table["expected_share"].tolist() == pytest.approx([0.1, 0.2, 0.5])
    first = table.iloc[0]
    assert first["observed_share"] == pytest.approx(first["left_n"] / first["n"])
    assert first["observed_share_low"] < first["observed_share"] < first["observed_share_high"]
    spread = rng.uniform(0, 1, 905)
    many = calibration.bands(np.full(905, 10.0), np.zeros(905, dtype=int), spread, 10.0)
    assert len(many) == 10
    assert many["n"].between(85, 100).all()
    assert many["observed_share_high"].iloc[0] == pytest.approx(1 - wilson(many["n"].iloc[0], many["n"].iloc[0])[0])
    assert (calibration.bands(np.full(905, 10.0), np.zeros(905, dtype=int), spread, 10.0, min_n=200)["n"] >= 200).all()


def test_intervals_of_the_bands_cover() -> None:
    hits = total = 0
    for seed in range(30):
        duration, ended, _, rate = censored(600, seed=seed)
        for _, row in calibration.bands(duration, ended, 1 - np.exp(-rate * 60), 60.0).iterrows():
            hits += row["observed_share_low"] <= row["expected_share"] <= row["observed_share_high"]
            total += 1
    assert 0.9 <= hits / total <= 0.99


def test_hostile_scores_are_missing_not_wrong() -> None:
    nobody, one = np.array([]), np.array([5.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = np.zeros(1, dtype=int)
        assert np.isnan(metrics.auc(one, none, one, 5.0)).all()
        assert np.isnan(metrics.uno(one, none, one, 5.0)).all()
        assert np.isnan(metrics.concordance(nobody, nobody.astype(int), nobody)).all()
        assert np.isnan(metrics.auc(nobody, nobody.astype(int), nobody, 5.0)).all()
        assert np.isnan(calibration.expected_to_observed(one, none, np.array([0.2]), 5.0)).all()
        assert np.isnan(calibration.slope(one, none, np.array([0.2]), 5.0)).all()
        assert calibration.bands(one, none, np.array([0.2]), 5.0).attrs["reason"].startswith("not enough data (n = 1")
        assert np.isnan(metrics.with_interval(np.array([np.nan, np.nan]))).all()
        all_left = calibration.bands(np.full(50, 3.0), np.ones(50, dtype=int), np.full(50, 0.9), 5.0).iloc[0]
        assert all_left["observed_share"] == all_left["observed_share_high"] == 1
        assert 0.9 < all_left["observed_share_low"] < 1
