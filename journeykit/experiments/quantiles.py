"""Quantiles of two arms compared by bootstrap, without drawing the samples."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from journeykit.config import Metric
from journeykit.experiments.arms import Array
from journeykit.experiments.estimates import Estimate
from journeykit.experiments.units import CLUSTER

DRAWS = 20_000
CLUSTER_DRAWS = 1_000  # here samples of clusters are drawn, which takes longer
SEED = 20_140_601


def compare(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric) -> Estimate:
    """Return the difference of a quantile between two arms, with the percentile interval of the bootstrap.

    The quantile is the smallest value that at least this share of the units do not exceed: one that somebody has. Its
    bootstrap distribution is known without resampling: the k-th smallest of n draws with replacement is the
    ⌈n·B⌉-th smallest of the sample, B ~ Beta(k, n − k + 1) (Schultzberg & Ankargren 2022). So millions of units take
    no longer than hundreds. With a `cluster`, whole clusters are drawn with replacement instead. The percentile
    interval covers better than the "basic" one, which is tea-tasting's default (METHODS: .947 against .922 at p90).
    Draws are seeded.

    Args:
        control: units of the control arm, with the metric and optionally cluster.
        treatment: those of the other arm.
        metric: with a `quantile`.
    """
    q = float(metric.quantile or 0.5)
    rng = np.random.default_rng(SEED)
    draw = _of_clusters if CLUSTER in control.columns else _of_units
    (first, base), (second, other) = (draw(side, metric.name, q, rng) for side in (control, treatment))
    differences = other - base
    low, high = (float(x) for x in np.quantile(differences, [0.025, 0.975], method="inverted_cdf"))
    relative = (math.nan, math.nan, math.nan)
    if first > 0 and float(np.quantile(base, 0.001)) > 0:
        changes = np.quantile(other / base - 1, [0.025, 0.975], method="inverted_cdf")
        relative = (second / first - 1, float(changes[0]), float(changes[1]))
    # A quantile of counts has few values, so ties with 0 speak for both sides.
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    clusters_n = sum(side[CLUSTER].nunique() for side in (control, treatment)) if CLUSTER in control.columns else 0
    return Estimate(
        n=(len(control), len(treatment)),
        means=(first, second),
        interval=(low, high),
        p_value=min(1.0, 2 * (beyond + 1) / (len(differences) + 1)),
        method=f"bootstrap of the {100 * q:g} % quantile" + (f" over {clusters_n} clusters" if clusters_n else ""),
        relative=relative,
        clusters_n=clusters_n,
    )


def problem(control: pd.DataFrame, treatment: pd.DataFrame, metric: Metric) -> str:
    """Say why two arms cannot be compared, or return "": a quantile that never moves has no interval.

    >>> units = pd.DataFrame({"n": [0.0] * 90 + [1.0] * 10})
    >>> metric = Metric(name="n", event="buy", kind="count", quantile=0.5)
    >>> problem(units, units, metric)
    'the 50 % quantile is the same in nearly every sample of an arm, so it has no interval; choose another or the mean'
    >>> problem(units, units, metric.model_copy(update={"quantile": 0.9}))
    ''
    """
    found = compare(control, treatment, metric)
    if found.interval[0] < found.interval[1]:
        return ""
    quantile = f"the {100 * (metric.quantile or 0.5):g} % quantile"
    return f"{quantile} is the same in nearly every sample of an arm, so it has no interval; choose another or the mean"


def _of_units(rows: pd.DataFrame, name: str, q: float, rng: np.random.Generator) -> tuple[float, Array]:
    values = np.sort(rows[name].to_numpy(float))
    n = len(values)
    k = _rank(q, n)
    at = np.ceil(n * rng.beta(k, n - k + 1, DRAWS)).astype(int)
    return float(values[k - 1]), values[np.clip(at, 1, n) - 1]


def _of_clusters(rows: pd.DataFrame, name: str, q: float, rng: np.random.Generator) -> tuple[float, Array]:
    """Weights of the sorted units from how often their cluster is drawn; the quantile is where they reach q."""
    order = np.argsort(rows[name].to_numpy(float), kind="stable")
    values = rows[name].to_numpy(float)[order]
    codes, names = pd.factorize(rows[CLUSTER], sort=True)
    codes, clusters = codes[order], len(names)
    drawn = np.empty(CLUSTER_DRAWS)
    for number in range(CLUSTER_DRAWS):
        times = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
        weight = np.cumsum(times[codes])
        drawn[number] = values[np.searchsorted(weight, math.ceil(q * weight[-1] - 1e-9))]
    return float(values[_rank(q, len(values)) - 1]), drawn


def _rank(q: float, n: int) -> int:
    return min(max(math.ceil(q * n - 1e-9), 1), n)
