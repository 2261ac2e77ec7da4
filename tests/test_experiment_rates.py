"""How often the methods of 08_experiment are wrong: 2,000 simulated experiments each. Slow.

`python tests/test_experiment_rates.py` prints the table of the docs.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from journeykit.config import Experiment, Metric
from journeykit.experiments import corrections, sequential
from journeykit.experiments.estimates import compare

RUNS = 2000
LIMIT = 3 * math.sqrt(0.05 * 0.95 / RUNS)  # three standard errors of a simulated rate: 1.5 points
LOOKS = 100


class World(NamedTuple):
    """Units of an arm, drawn with an effect (0 for none), and the true difference that it makes."""

    metric: dict[str, object]
    draw: Callable[[np.random.Generator, float], pd.DataFrame]
    truth: Callable[[float], float]
    cuped: bool = False
    lift: float = 0.1
    said: str = ""


def share(p: float, n: int) -> Callable[[np.random.Generator, float], pd.DataFrame]:
    return lambda rng, lift: pd.DataFrame({"m": (rng.random(n) < p * (1 + lift)).astype(float)})


def revenue(rng: np.random.Generator, lift: float) -> pd.DataFrame:
    """Skewed amounts of those two in five who buy, which the past explains in part."""
    habit = rng.normal(0, 1, 1000)
    now, before = (np.exp(2 + 0.6 * habit + 0.8 * rng.normal(0, 1, 1000)) * (rng.random(1000) < 0.4) for _ in range(2))
    return pd.DataFrame({"m": now * (1 + lift), "m__before": before})


def orders(rng: np.random.Generator, lift: float) -> pd.DataFrame:
    """Visits and orders: some people come often, and some of those order at many of their visits."""
    habit, taste = rng.gamma(1.5, 1.0, 1000), rng.beta(1.5, 5, 1000)
    found = {}
    for end, gain in (("", 1 + lift), ("_before", 1.0)):
        visits = rng.poisson(2 * habit) + 1
        found[f"m__per{end}"] = visits.astype(float)
        found["m__before" if end else "m"] = rng.poisson(visits * taste * gain).astype(float)
    return pd.DataFrame(found)


def shops(n: int) -> Callable[[np.random.Generator, float], pd.DataFrame]:
    def draw(rng: np.random.Generator, lift: float) -> pd.DataFrame:
        sizes = rng.integers(5, 40, n)
        shop = np.repeat(np.arange(n), sizes)
        level = rng.normal(0, 1, n)[shop]
        now = 10 * (1 + lift) + 2 * level + rng.normal(0, 2, len(shop))
        before = 10 + 2 * level + rng.normal(0, 2, len(shop))
        return pd.DataFrame({"cluster": shop, "m": now, "m__before": before})

    return draw


def waits(rng: np.random.Generator, lift: float) -> pd.DataFrame:
    """Days until an event that comes at a tenth a day, over 14 days, some observed for less."""
    until, seen = rng.exponential(10 / (1 + lift), 500), np.minimum(rng.uniform(4, 30, 500), 14)
    return pd.DataFrame({"m": np.minimum(until, seen), "m__event": (until <= seen).astype(float)})


def restricted(lift: float) -> float:
    def mean(rate: float) -> float:
        return (1 - math.exp(-14 * rate)) / rate

    return mean(0.1 * (1 + lift)) - mean(0.1)


def fixed(metric: str, **keys: object) -> dict[str, object]:
    return {"name": "m", "event": "x", "kind": metric, **keys}


MEAN = 0.4 * math.exp(2 + (0.36 + 0.64) / 2)
PER_VISIT = 1.5 / 6.5
TOP = math.exp(3 + scipy_stats.norm.ppf(0.9))
VALUE, RATIO = fixed("value"), fixed("ratio", per="session")
WORLDS = {
    "share": World(fixed("conversion"), share(0.1, 1000), lambda x: 0.1 * x, said="10 % of 1,000 an arm, Welch"),
    "rare share": World(
        fixed("conversion"), share(0.02, 200), lambda x: 0.02 * x, lift=1.0, said="2 % of 200, Newcombe"
    ),
    "mean": World(VALUE, revenue, lambda x: MEAN * x, cuped=True, said="skewed revenue, 1,000 an arm"),
    "ratio": World(RATIO, orders, lambda x: PER_VISIT * x, cuped=True, said="orders per visit, 1,000 people an arm"),
    "quantile": World(
        fixed("value", quantile=0.9),
        lambda rng, x: pd.DataFrame({"m": rng.lognormal(3, 1, 500) * (1 + x)}),
        lambda x: TOP * x,
        said="90 % quantile of skewed amounts, 500 an arm",
    ),
    "time": World(fixed("time"), waits, restricted, said="restricted mean of 14 days, 500 an arm, a third censored"),
    "clusters": World(VALUE, shops(30), lambda x: 10 * x, cuped=True, said="30 shops of 5 to 39 an arm"),
    "few clusters": World(VALUE, shops(10), lambda x: 10 * x, said="10 shops an arm, the fewest that are allowed"),
}


def rates(name: str, runs: int = RUNS) -> dict[str, tuple[float, float]]:
    """Return how often an effect is found where there is none, and how often the interval holds the true effect.

    By name of the method: that of the world, and the same with CUPED.
    """
    world, rng = WORLDS[name], np.random.default_rng(zlib.crc32(name.encode()))
    metric, methods = Metric.model_validate(world.metric), [name, f"{name}, CUPED"][: 1 + world.cuped]
    false, held = np.zeros((2, len(methods)))
    for lift in (0.0, world.lift):
        for _ in range(runs):
            found = compare(world.draw(rng, 0.0), world.draw(rng, lift), metric)
            intervals = np.array([found.interval, found.cuped[1:]])[: len(methods)]
            covers = (intervals[:, 0] <= world.truth(lift)) & (world.truth(lift) <= intervals[:, 1])
            held += covers if lift else 0
            false += 0 if lift else ~covers
    return {method: (false[i] / runs, held[i] / runs) for i, method in enumerate(methods)}


def paths(name: str, looks: int, per_look: int, runs: int = RUNS) -> np.ndarray:
    """z of the difference of two arms without an effect at each of evenly spaced looks: runs × looks."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    parts = []
    for _ in range(runs // 100):
        size = (2, 100, looks * per_look // 2)
        values = rng.normal(0, 1, size) if name == "normal" else rng.lognormal(2, 1, size) * (rng.random(size) < 0.4)
        at = np.arange(1, looks + 1) * (per_look // 2)
        mean, square = (np.cumsum(x, axis=2)[:, :, at - 1] / at for x in (values, values**2))
        error = np.sqrt(((square - mean**2) * at / (at - 1) / at).sum(axis=0))
        parts.append((mean[1] - mean[0]) / error)
    return np.concatenate(parts)


def crossed(name: str, stopping: str) -> float:
    """Return how often an effect is found at any look where there is none."""
    if stopping in ("pocock", "obrien_fleming"):
        limits = np.array(sequential.group_bounds(5, stopping))
        return float((np.abs(paths(name, 5, 400)) > limits).any(axis=1).mean())
    z, n = (
        paths(name, LOOKS, 200 if name == "skewed" else 100),
        np.arange(1, LOOKS + 1) * (200 if name == "skewed" else 100),
    )
    late = n >= sequential.FIRST_LOOK
    limits = np.array([sequential.limit(k, planned=n[-1]) if stopping == "always_valid" else sequential.Z95 for k in n])
    return float((np.abs(z) > limits)[:, late].any(axis=1).mean())


def family(correction: str, runs: int = RUNS) -> float:
    """Return how often anything is found among one primary and four secondary metrics, all without an effect."""
    roles = pd.Series(["primary", *["secondary"] * 4])
    metrics = [{"name": f"m{i}", "event": "x", "role": role} for i, role in enumerate(roles)]
    plan = Experiment.model_validate(
        {
            "name": "t", "hypothesis": "h", "exposure": "x", "arms": {"a": 1.0}, "control": "a",
            "metrics": metrics, "correction": "holm" if correction == "none" else correction,
        }
    )  # fmt: skip
    rng = np.random.default_rng(zlib.crc32(correction.encode()))
    shared = rng.normal(0, 1, (runs, 1))
    p = 2 * scipy_stats.norm.sf(np.abs(0.5 * shared + math.sqrt(0.75) * rng.normal(0, 1, (runs, 5))))
    if correction == "none":
        return float((p < 0.05).any(axis=1).mean())
    return float(np.mean([(corrections.adjusted(pd.Series(row), roles, plan) < 0.05).any() for row in p]))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(WORLDS))
def test_error_rate_and_coverage_are_nominal_or_conservative(name: str) -> None:
    for method, (false, held) in rates(name).items():
        assert false <= 0.05 + LIMIT, method
        assert held >= 0.95 - LIMIT, method


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "skewed"])
def test_a_hundred_looks_keep_the_error_rate_only_when_they_are_allowed_for(name: str) -> None:
    assert crossed(name, "always_valid") <= 0.05 + LIMIT
    assert crossed(name, "fixed") > 0.25


@pytest.mark.slow
@pytest.mark.parametrize("spending", ["pocock", "obrien_fleming"])
def test_planned_looks_use_the_error_rate_up(spending: str) -> None:
    assert crossed("normal", spending) == pytest.approx(0.05, abs=LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("correction", ["holm", "fdr", "preferential"])
def test_corrections_keep_the_error_rate_of_the_family(correction: str) -> None:
    assert family(correction) <= 0.05 + LIMIT
    assert family("none") > 0.12


def table() -> str:
    """The rates of all methods, in Markdown."""
    lines = ["| method | data | false positives | coverage |", "|---|---|---:|---:|"]
    for name, world in WORLDS.items():
        for method, (false, held) in rates(name).items():
            lines.append(f"| {method} | {world.said} | {false:.3f} | {held:.3f} |")
    for name in ("normal", "skewed"):
        for stopping in ("fixed", "always_valid"):
            rate = crossed(name, stopping)
            lines.append(f"| {stopping.replace('_', ' ')}, {LOOKS} looks | {name} | {rate:.3f} | {1 - rate:.3f} |")
    for spending, said in (("pocock", "Pocock"), ("obrien_fleming", "O'Brien–Fleming")):
        rate = crossed("normal", spending)
        lines.append(f"| {said}, 5 looks | normal | {rate:.3f} | {1 - rate:.3f} |")
    for correction in ("none", "holm", "fdr", "preferential"):
        rate = family(correction)
        lines.append(f"| correction: {correction} | five correlated metrics, any found | {rate:.3f} | |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201
