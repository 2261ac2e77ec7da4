"""Deviations by kind: by hand, and compared where nothing matters, where something does, and where it is too late."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from journeykit import alignment, config, deviations, plan_sequences, plans
from journeykit.plan_landmarks import AFTER, UNKNOWN, Walked
from journeykit.plans import Judged
from tests.conftest import make_log

STEPS = ["ad", "visit", "cart", "buy"]


def judged(people: list[tuple[str, str, int]], steps: list[object] | None = None, **options: object) -> Judged:
    """Judge so many people a journey of each kind: events, outcome, number. A purchase is worth 100."""
    each = [(text, outcome) for text, outcome, n in people for _ in range(n)]
    log = make_log(" | ".join(f"u: {text}" for text, _ in each))
    outcomes = [outcome for _, outcome in each]
    journeys = pd.DataFrame({"journey_id": range(1, len(each) + 1), "outcome": outcomes})
    journeys["value"] = np.where(journeys["outcome"] == "converted", 100.0, 0.0)
    return plans.judge(
        log, steps=steps or STEPS, on="event", journeys=journeys, conversion=["buy"], **options  # type: ignore[arg-type]
    )  # fmt: skip


def rows(found: Judged, **options: object) -> pd.DataFrame:
    return deviations.count(found, **options).set_index(["kind", "step"])  # type: ignore[arg-type]


def test_counts_by_hand() -> None:
    log = make_log("u1: ad visit visit visit buy ; ad x cart buy | u2: ad cart visit buy | u3: ad visit | u4: x")
    found = plans.judge(log, steps=STEPS, on="event")
    table = deviations.count(found)
    assert table[["kind", "step", "step_number", "journeys_n", "people_n", "n"]].values.tolist() == [
        ["skipped", "visit", 2, 1, 1, 4],
        ["repeated", "visit", 2, 1, 1, 4],
        ["skipped", "cart", 3, 1, 1, 4],
        ["out of order", "cart", 3, 1, 1, 4],
    ]
    assert table["share"].tolist() == [0.25] * 4
    assert "gap_points" not in table
    strict = plans.judge(log, steps=STEPS, on="event", others="extra")
    assert rows(strict).loc[("extra", "x"), ["step_number", "journeys_n", "people_n", "n"]].tolist() == [0, 2, 2, 5]
    assert deviations.count(strict, min_n=2)["step"].tolist() == ["x"]
    assert deviations.count(strict, min_n=2).attrs["left_out_n"] == 4
    assert "no deviation is found with at least 3 people" in deviations.count(strict, min_n=3).attrs["reason"]


def test_those_with_it_are_compared_with_those_who_came_as_far() -> None:
    found = judged(
        [
            ("ad visit cart buy", "converted", 30),
            ("ad visit cart", "abandoned", 10),
            ("ad cart buy", "converted", 12),
            ("ad cart", "abandoned", 18),
            ("ad", "abandoned", 500),  # never came to the cart
            ("ad visit", "abandoned", 100),
            ("buy", "converted", 40),  # at once: skipped all, which is known only then
            ("ad cart", "open", 7),
        ]
    )
    table = rows(found)
    row = table.loc[("skipped", "visit")]
    assert row[["journeys_n", "n", "with_n", "without_n"]].tolist() == [70, 710, 30, 40]
    assert row[["converted_with_share", "converted_without_share"]].tolist() == [0.4, 0.75]
    low, high = confint_proportions_2indep(12, 30, 30, 40, method="newcomb", compare="diff")
    assert row[["gap_points", "gap_points_low", "gap_points_high"]].tolist() == pytest.approx(
        [-35, 100 * low, 100 * high]
    )
    assert row[["with_value", "without_value", "value_gap"]].tolist() == pytest.approx([40, 75, -35])
    stake = row[["at_stake_value", "at_stake_value_low", "at_stake_value_high"]].tolist()
    assert stake == pytest.approx([30 * 0.35 * 100, -30 * high * 100, -30 * low * 100])
    assert row["note"] == ""
    assert table.loc[("skipped", "ad"), "note"] == UNKNOWN
    assert table.loc[("skipped", "cart"), "note"] == UNKNOWN
    assert np.isnan(table.loc[("skipped", "cart"), "gap_points"])


def test_what_comes_with_the_conversion_or_later_is_not_compared() -> None:
    people = [("ad buy pack", "converted", 30), ("ad buy", "converted", 30), ("ad", "abandoned", 30)]
    found = judged([*people, ("ad buy use", "converted", 30)], steps=["ad", "buy", "pack", "use?"])
    assert rows(found).loc[("skipped", "pack"), "note"] == AFTER
    again = judged([("ad buy buy", "converted", 30), ("ad", "abandoned", 30)], steps=["ad", "buy"])
    assert rows(again).loc[("repeated", "buy"), "note"] == AFTER


def test_stopping_early_is_no_deviation() -> None:
    found = judged([("ad", "abandoned", 30), ("ad visit", "abandoned", 30), ("ad visit cart buy", "converted", 30)])
    assert "no journey that is over deviates" in deviations.count(found).attrs["reason"]


def test_few_are_not_compared_and_it_says_so() -> None:
    found = judged([("ad ad visit", "abandoned", 19), ("ad visit cart buy", "converted", 30)])
    row = rows(found).loc[("repeated", "ad")]
    assert row["note"].startswith("too few to compare before the conversion: 19 with and 30 without, at least 20")
    assert np.isnan(row["gap_points"])
    assert (row["with_n"], row["without_n"]) == (19, 30)


def test_repetitions_have_a_gap_but_nothing_at_stake() -> None:
    found = judged(
        [
            ("ad visit visit cart buy", "converted", 10),
            ("ad visit visit", "abandoned", 30),
            ("ad visit cart buy", "converted", 30),
            ("ad visit", "abandoned", 30),
            ("ad ad visit cart buy", "converted", 40),
            ("ad", "abandoned", 30),
        ]
    )
    table = rows(found)
    assert table.loc[("repeated", "visit"), "gap_points"] == pytest.approx(100 * (10 / 40 - 70 / 100))
    assert table.loc[("repeated", "ad"), "gap_points"] == pytest.approx(100 * (1 - 40 / 130))
    assert table["at_stake_value"].isna().all()
    assert table["p_adjusted"].tolist() == multipletests(table["p_value"], method="fdr_bh")[1].tolist()


def test_values_outside_the_plan_are_compared_at_the_step_where_they_came() -> None:
    found = judged(
        [
            ("ad x visit cart buy", "converted", 10),
            ("ad x visit", "abandoned", 15),
            ("ad visit x cart buy", "converted", 20),
            ("ad visit cart buy x", "converted", 30),  # after the conversion: without it until then
            ("ad visit cart", "abandoned", 20),
            ("ad", "abandoned", 25),
            ("x", "abandoned", 50),  # came nowhere
        ],
        others="extra",
    )
    row = rows(found).loc[("extra", "x")]
    assert row[["journeys_n", "n", "with_n", "without_n"]].tolist() == [125, 170, 45, 95]
    # At ad: 25 with, 10 converted; without it there were 20 + 30 + 20 + 25. At visit: 20 with; without 30 + 20.
    without = 25 / 45 * 50 / 95 + 20 / 45 * 30 / 50
    assert row["gap_points"] == pytest.approx(100 * (30 / 45 - without))


def test_late_steps_are_compared_with_those_in_time() -> None:
    steps = ["ad", config.Step(match=["visit"], within="1d"), "cart", config.Step(match=["buy"], within="1d")]
    found = judged(
        [
            ("ad@0d visit@1d cart@1d buy@1d", "converted", 30),
            ("ad@0d visit@1d", "abandoned", 10),
            ("ad@0d visit@2d cart@2d buy@4d", "converted", 10),
            ("ad@0d visit@2d", "abandoned", 10),
            ("ad@0d", "abandoned", 100),
        ],
        steps=steps,
        within="3d",
    )
    table = rows(found)
    row = table.loc[("late", "visit")]
    assert row[["journeys_n", "with_n", "without_n", "n"]].tolist() == [20, 20, 40, 160]
    assert row["gap_points"] == pytest.approx(100 * (10 / 20 - 30 / 40))
    assert row["at_stake_value"] == pytest.approx(20 * 0.25 * 100)
    assert table.loc[("late", "buy"), "note"] == AFTER
    assert table.loc[("late", "(whole plan)"), ["journeys_n", "note"]].tolist() == [10, AFTER]


def test_without_a_conversion_in_the_plan_the_journey_is_cut_at_it() -> None:
    people = [("ad visit visit buy visit", "converted", 25), ("ad visit", "abandoned", 25)]
    found = judged([*people, ("ad buy visit visit", "converted", 30)], steps=["ad", "visit"])
    row = rows(found).loc[("repeated", "visit")]
    assert row[["journeys_n", "with_n", "without_n"]].tolist() == [
        55,
        25,
        25,
    ]  # what follows the purchase is not looked at


def test_without_values_there_is_no_money() -> None:
    log = make_log(" | ".join(["u: ad visit visit cart buy"] * 30 + ["u: ad visit"] * 30))
    journeys = pd.DataFrame({"journey_id": range(1, 61), "outcome": ["converted"] * 30 + ["abandoned"] * 30})
    found = plans.judge(log, steps=STEPS, on="event", journeys=journeys, conversion=["buy"])
    table = deviations.count(found)
    assert table["gap_points"].tolist() == [100.0]
    assert not [name for name in table if "value" in name.removeprefix("p_value")]


def test_no_outcome_differs() -> None:
    found = judged([("ad visit visit", "abandoned", 30), ("ad visit", "abandoned", 30)])
    row = rows(found).loc[("repeated", "visit")]
    assert row["gap_points"] == 0
    assert np.isnan(row["p_value"])
    assert np.isnan(row["p_adjusted"])
    assert np.isnan(row["at_stake_value"])


# ── Planted chances: journeys in which only the furthest step decides what comes next ────────────────────────────────

LETTERS = "abcde"
PLAN = alignment.Plan((True,) * 5, (False,) * 5, {letter: (k,) for k, letter in enumerate(LETTERS, start=1)})
KNOWN = plan_sequences.Letters(PLAN, tuple(2 << k for k in range(5)), (), conversion=5)
KEYS = [
    ("skipped", 2, "b"),
    ("skipped", 3, "c"),
    ("repeated", 1, "a"),
    ("repeated", 2, "b"),
    ("out of order", 2, "b"),
]


def wander(random: np.random.Generator, harm: float) -> tuple[str, bool]:
    """One journey to the conversion e, or not: steps are repeated, skipped and made up for by chance.

    Whoever goes on leaves instead in 15 of 100 cases, from whichever step; where `harm` is not 0, in so many more of
    them once b was skipped.
    """
    at, seen, code, hurt = 0, [], "", 0.0
    while True:
        draw = random.random()
        missing = [step for step in range(1, at) if step not in seen]
        if at and draw < 0.12:
            code += LETTERS[random.choice(seen) - 1]
            continue
        if missing and draw < 0.25:
            seen.append(missing[0])
            code += LETTERS[missing[0] - 1]
            continue
        if at and random.random() < 0.15 + hurt:
            return code, False
        step = at + (2 if draw > 0.85 and at < 3 else 1)
        if step == 5:
            return code + "e", True
        hurt = harm if step == 3 and at == 1 else hurt
        at = step
        seen.append(step)
        code += LETTERS[step - 1]


def studies(n: int, journeys: int, harm: float = 0.0, start: int = 0) -> Iterator[Judged]:
    for seed in range(start, start + n):
        random = np.random.default_rng(seed)
        table = pd.DataFrame([wander(random, harm) for _ in range(journeys)], columns=["code", "bought"])
        table["cut"] = np.where(table["bought"], table["code"].str.len() - 1, -1)
        table["outcome"] = np.where(table["bought"], "converted", "abandoned")
        groups = table.groupby(["code", "cut", "outcome"], as_index=False).size().rename(columns={"size": "n"})
        steps = tuple(config.Step(match=[letter]) for letter in LETTERS)
        yield Judged(None, None, groups.assign(capped=0, outside_n=0), KNOWN, steps, (), True)


def gaps(found: Iterator[Judged]) -> pd.DataFrame:
    told = []
    for study in found:
        walked = Walked(study, study.groups)
        told += [{"key": key, **walked.compare(key)} for key in KEYS]
    return pd.DataFrame(told).dropna(subset=["gap_points"])


def naive(study: Judged, letter: str) -> float:
    """All with a letter twice against all without, in points, as dashboards do it."""
    groups = study.groups
    twice, bought = groups["code"].str.count(letter) > 1, groups["outcome"] == "converted"
    shares = [groups["n"][part & bought].sum() / groups["n"][part].sum() for part in (twice, ~twice)]
    return 100 * float(shares[0] - shares[1])


def test_deviations_that_change_nothing_have_no_gap() -> None:
    """In 600 studies of 1,500 journeys the intervals cover 95 %; here fewer, so that it takes seconds."""
    table = gaps(studies(80, 900))
    for _, part in table.groupby("key"):
        assert abs(part["gap_points"].mean()) < 3 * part["gap_points"].std() / np.sqrt(len(part))
    covered = (table["gap_points_low"] <= 0) & (table["gap_points_high"] >= 0)
    assert len(covered) > 78 * len(KEYS)
    assert 0.93 < covered.mean() < 0.98
    assert 0.02 < (table["p_value"] < 0.05).mean() < 0.08


def test_comparing_all_with_all_finds_what_is_not_there() -> None:
    """Who goes far has more occasions to repeat a: dashboards would call repetition good."""
    found = [naive(study, "a") for study in studies(40, 500)]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) > 5
    assert np.mean(found) > 5 * error


def test_planted_harm_is_found_and_the_rest_stays_clean() -> None:
    table = gaps(studies(40, 500, harm=0.3))
    skipped = table[table["key"] == ("skipped", 2, "b")]
    # Without harm 0.85² of those at c convert (c to d, d to e), with it 0.55².
    truth = 100 * (0.55**2 - 0.85**2)
    assert skipped["gap_points"].mean() == pytest.approx(truth, abs=2)
    assert ((skipped["gap_points_low"] <= truth) & (truth <= skipped["gap_points_high"])).mean() >= 0.9
    assert (skipped["p_value"] < 0.05).mean() > 0.95
