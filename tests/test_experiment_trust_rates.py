"""How often the checks of experiments err: 2,000 tests in which nothing is wrong, and a few in which something is.

Run with `-m slow`; `JOURNEYKIT_RATES=<file>` writes the table as Markdown.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from journeykit.experiments import balance, cells, concurrent, decision, novelty, segments, split_days, trust
from journeykit.experiments import effects as effects_
from tests.conftest import START
from tests.test_experiments import declare

pytestmark = pytest.mark.slow
RUNS = 2000
HALF = {"a": 0.5, "b": 0.5}
VALUES = list("stuvwxyz")


class Rates:
    """What was found, as lines of a table."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, float, float, int]] = []

    def note(self, what: str, nominal: str, hits: int | float, n: int = RUNS) -> float:
        rate = hits / n
        self.lines.append((what, nominal, rate, math.sqrt(rate * (1 - rate) / n), n))
        return rate

    def table(self) -> str:
        head = "| check | nominal | found | ± (Monte Carlo) | tests |\n|---|---|---:|---:|---:|\n"
        return head + "".join(f"| {w} | {o} | {r:.4f} | {e:.4f} | {n:,} |\n" for w, o, r, e, n in self.lines)


@pytest.fixture(scope="module", autouse=True)
def without_old_objects() -> Iterator[None]:
    """Keep the collector, which statsmodels calls at each correction, from looking at what is there for good."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def rates() -> Iterator[Rates]:
    found = Rates()
    yield found
    path = os.environ.get("JOURNEYKIT_RATES")
    if path:
        Path(path).write_text(found.table(), encoding="utf-8")


def at_most(nominal: float, n: int = RUNS) -> float:
    """The most that a rate of `nominal` is found to be, three standard errors up."""
    return nominal + 3 * math.sqrt(nominal * (1 - nominal) / n)


def near(nominal: float, n: int = RUNS) -> object:
    return pytest.approx(nominal, abs=3 * math.sqrt(nominal * (1 - nominal) / n))


def test_the_split_of_all_people(rates: Rates) -> None:
    rng = np.random.default_rng(1)
    for label, n, plan in (
        ("two arms, 500 people (exact)", 500, HALF),
        ("two arms, 5,000 people", 5000, HALF),
        ("10/90, 5,000 people", 5000, {"a": 0.1, "b": 0.9}),
        ("three arms, 5,000 people", 5000, {"a": 0.4, "b": 0.3, "c": 0.3}),
    ):
        p_values = []
        for counts in rng.multinomial(n, list(plan.values()), RUNS):
            units = pd.DataFrame({"arm": np.repeat(list(plan), counts)})
            p_values.append(trust.split_check(units, planned=plan)["p_value"].iloc[0])
        five = rates.note(f"split, {label}, p < 0.05", "0.05", sum(p < 0.05 for p in p_values))
        broken = rates.note(f"split, {label}, broken", "0.001", sum(p < 0.001 for p in p_values))
        assert five <= at_most(0.05)
        assert broken <= at_most(0.001)


def test_the_split_day_by_day(rates: Rates) -> None:
    rng, at = np.random.default_rng(2), START + pd.to_timedelta(np.linspace(0, 60, 3000, endpoint=False), unit="D")
    plan, sequential, naive = declare(), 0, 0
    day = (at - START).days
    for _ in range(RUNS):
        arm = np.where(rng.random(3000) < 0.5, "a", "b")
        found = split_days.split_by_day(pd.DataFrame({"arm": arm, "exposed_at": at}), experiment=plan)
        sequential += found["p_value"].min() < 0.05
        so_far = np.cumsum(np.bincount(day, arm == "a"))
        z = (so_far - np.arange(1, 61) * 25) / np.sqrt(np.arange(1, 61) * 12.5)
        naive += bool((2 * scipy_stats.norm.sf(np.abs(z)) < 0.05).any())
    assert rates.note("split, looked at on 60 days, sequential p < 0.05", "≤ 0.05", sequential) <= 0.05
    assert rates.note("the same by a chi-square every day", "0.05", naive) > 0.25


def test_the_split_by_segment(rates: Rates) -> None:
    rng, plan, hits = np.random.default_rng(3), declare(by=["segment"]), 0
    for _ in range(RUNS):
        units = pd.DataFrame({"arm": rng.choice(["a", "b"], 2000), "segment": rng.choice(VALUES, 2000)})
        hits += trust.split_by_segment(units, experiment=plan)["p_adjusted"].min() < 0.05
    assert rates.note("split in any of 8 segments, corrected p < 0.05", "≤ 0.05", hits) <= at_most(0.05)


Draw = Callable[[np.random.Generator, pd.DataFrame], pd.DataFrame]


def revenue(rng: np.random.Generator, units: pd.DataFrame) -> pd.DataFrame:
    spend = rng.lognormal(3, 1, len(units)) * (rng.random(len(units)) < 0.4)
    return units.assign(m=spend + 2.0 * (units["arm"] == "b"))


def conversion(rng: np.random.Generator, units: pd.DataFrame) -> pd.DataFrame:
    level = 0.15 + 0.03 * (units["arm"] == "b") + 0.01 * (units["segment"] == "s")
    return units.assign(m=(rng.random(len(units)) < level).astype(float))


def ratio(rng: np.random.Generator, units: pd.DataFrame) -> pd.DataFrame:
    per = 1.0 + rng.poisson(rng.gamma(2, 1.5, len(units)))
    return units.assign(m__per=per, m=rng.binomial(per.astype(int), 0.2 + 0.04 * (units["arm"] == "b")).astype(float))


@pytest.mark.parametrize(
    ("label", "draw", "metric"),
    [
        ("revenue", revenue, {"kind": "value"}),
        ("conversion", conversion, {"kind": "conversion"}),
        ("ratio", ratio, {"kind": "ratio", "per": "visit"}),
    ],
)
def test_effects_by_segment(rates: Rates, label: str, draw: Draw, metric: dict[str, object]) -> None:
    rng, plan = np.random.default_rng(4), declare({"name": "m", "event": "x", **metric}, by=["segment"])
    joint, raw, together, asked = 0, 0, 0, 0
    for _ in range(RUNS):
        units = draw(rng, pd.DataFrame({"arm": ["a", "b"] * 1000, "segment": rng.choice(VALUES, 2000)}))
        truth = {"revenue": 2.0, "conversion": 0.03, "ratio": 0.04}[label]
        tested = segments.joint(units, experiment=plan)
        if tested.empty:
            continue
        asked += 1
        joint += tested["p_value"].iloc[0] < 0.05
        forced = segments.by_segment(units, tested.assign(verdict=segments.DIFFERS), experiment=plan)
        together += bool(((forced["effect_low"] <= truth) & (truth <= forced["effect_high"])).all())
        half = (forced["effect_high"] - forced["effect_low"]) / 2
        z = (forced["effect"] - truth).abs() / (half / scipy_stats.norm.ppf(1 - 0.025 / len(forced)))
        raw += bool((z > 1.96).any())
    found = rates.note(f"effect on {label} differs by segment (8), joint p < 0.05", "0.05", joint, asked)
    covered = rates.note(f"intervals of {label} in 8 segments all cover", "≥ 0.95", together, asked)
    assert found <= at_most(0.05, asked)
    assert covered >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / asked)
    assert rates.note(f"the same looked at one by one, any p < 0.05 ({label})", "0.05", raw, asked) > 0.2


def daily(rng: np.random.Generator, extra: np.ndarray, n: int = 1000, level: float = 0.08) -> pd.DataFrame:
    """Daily purchases of n people an arm; people differ, and the treated buy `extra` times as often on each day."""
    own = rng.gamma(2, 0.5, 2 * n)
    treated = np.arange(2 * n) >= n
    rate = level * own[:, None] * (1 + treated[:, None] * extra[None, :])
    person, day = np.nonzero(amount := rng.poisson(rate))
    arm = np.where(treated[person], "b", "a")
    return pd.DataFrame({"person_id": person, "arm": arm, "day": day, "amount": amount[person, day].astype(float)})


def test_effects_that_fade(rates: Rates) -> None:
    rng, days, sizes = np.random.default_rng(5), np.arange(14), pd.Series({"a": 1000, "b": 1000})
    hits = dict.fromkeys(["lasting", "none", "fading"], 0)
    for _ in range(RUNS):
        for name, extra in (
            ("lasting", np.full(14, 0.2)),
            ("none", np.zeros(14)),
            ("fading", 0.3 * np.exp(-0.3 * days)),
        ):
            found = novelty.trend(daily(rng, extra), ("a", "b"), sizes, 14)
            hits[name] += found["p_value"] < 0.05
    assert rates.note("effect fades or grows, where there is none", "≤ 0.05", hits["none"]) <= at_most(0.05)
    assert rates.note("effect fades or grows, where it lasts", "≤ 0.05", hits["lasting"]) <= at_most(0.05)
    power = rates.note("effect fades, where it starts at +30 % and loses a quarter a day", "power", hits["fading"])
    assert 0.3 < power < 0.5  # what the page says of it


def test_balance_before_the_exposure(rates: Rates) -> None:
    rng, plan = np.random.default_rng(6), declare({"name": "m", "event": "x"}, {"name": "k", "event": "y"})
    p_values = []
    for _ in range(RUNS):
        events = rng.poisson(rng.gamma(0.7, 6, 2000))
        m = rng.binomial(events, 0.3)
        spend = rng.lognormal(2, 1, 2000) * (rng.random(2000) < 0.2)
        units = pd.DataFrame({"arm": rng.choice(["a", "b"], 2000), "touches_before": events, "m__before": m})
        found = balance.balance(units.assign(k__before=spend), experiment=plan)
        p_values.append(found["joint_p_value"].iloc[0])
    five = rates.note(
        "arms unlike before, three skewed measures together, p < 0.05", "0.05", sum(p < 0.05 for p in p_values)
    )
    one = rates.note("arms unlike before, warning", "0.01", sum(p < 0.01 for p in p_values))
    assert five <= at_most(0.05)
    assert one <= at_most(0.01)


def test_interaction_of_two_tests(rates: Rates) -> None:
    rng, plan, other = np.random.default_rng(7), declare(), declare(name="other")
    hits, covered, dependent, asked = 0, 0, 0, 0
    for _ in range(RUNS):
        one, two = (rng.choice(["a", "b"], 2000) for _ in range(2))
        level = 0.2 + 0.06 * (one == "b") + 0.04 * (two == "b")
        units = pd.DataFrame({"person_id": range(2000), "arm": one, "buys": (rng.random(2000) < level).astype(float)})
        people = {"test": units, "other": units.assign(arm=two, buys=0.0)}
        dependent += concurrent.overlap(people, [plan, other])["p_value"].iloc[0] < 0.05
        found = concurrent.interactions(people, [plan, other])
        if found.empty:
            continue  # one split in a thousand is called broken, and its effects are not looked at
        asked, row = asked + 1, found.iloc[0]
        hits += row["p_value"] < 0.05
        covered += row["difference_low"] <= 0 <= row["difference_high"]
    assert rates.note("arms of two tests go together, p < 0.05", "0.05", dependent) <= at_most(0.05)
    assert rates.note("effects of two tests interact, p < 0.05", "0.05", hits, asked) <= at_most(0.05, asked)
    assert rates.note("interval of the interaction covers", "0.95", covered, asked) == near(0.95, asked)


def test_decisions(rates: Rates) -> None:
    guard = {"name": "calls", "event": "call", "role": "guardrail", "better": "down", "margin": 0.02}
    plan, rng = declare({"name": "buys", "event": "buy"}, guard), np.random.default_rng(8)
    shipped, held, early = 0, 0, 0
    timing = pd.DataFrame([{"early": True, "ends_at": START, "read_at": START, "open_n": 0}])
    for _ in range(RUNS):
        arm = np.array(["a", "b"] * 1000)
        level = 0.1 + 0.02 * (arm == "b")  # harm that is exactly as large as the margin
        units = pd.DataFrame(
            {"arm": arm, "buys": (rng.random(2000) < 0.2) * 1.0, "calls": (rng.random(2000) < level) * 1.0}
        )
        split = trust.split_check(units, planned=HALF)
        found = effects_.effects(units, experiment=plan)
        row = decision.verdict(split, found, plan).iloc[0]
        shipped += row["primary"] == "better"
        held += row["guardrails"] == "held"
        early += decision.verdict(split, found, plan, timing=timing)["decision"].iloc[0] in ("ship", "do not ship")
    assert rates.note("primary metric called better without an effect", "0.025", shipped) <= at_most(0.025)
    assert rates.note("guardrail called held at a harm as large as its margin", "0.025", held) <= at_most(0.025)
    assert rates.note("decided in an early look of a fixed test without an effect", "≤ 0.05", early) <= 0.05


def test_the_joint_test_by_wald(rates: Rates) -> None:
    """The rival: the Wald test of the interaction by chi-square, as if variances were known."""
    rng, plan, wald = np.random.default_rng(9), declare({"name": "m", "event": "x", "kind": "value"}), 0
    for _ in range(RUNS):
        units = revenue(rng, pd.DataFrame({"arm": ["a", "b"] * 1000, "segment": rng.choice(VALUES, 2000)}))
        found = [
            [cells.of(units.loc[(units["segment"] == v) & (units["arm"] == arm)], plan.metrics[0], 2) for arm in "ab"]
            for v in VALUES
        ]
        gaps = np.array([b.mean - a.mean for a, b in found if a and b])
        weights = 1 / np.array([b.variance + a.variance for a, b in found if a and b])
        q = (weights * (gaps - (weights * gaps).sum() / weights.sum()) ** 2).sum()
        wald += scipy_stats.chi2.sf(q, len(gaps) - 1) < 0.05
    assert rates.note("joint test of revenue by HC2 and Wald (chi-square)", "0.05", wald) < 0.09
