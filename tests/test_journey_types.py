"""Types of journey: planted types are found, structureless logs have none, and what is said of a type is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from journeykit import clusters, engine, journey_types, stats
from journeykit.errors import JourneyError
from journeykit.plots import journey_types as plots
from journeykit.plots import theme
from journeykit.readings import journey_types as readings
from tests.conftest import make_log

Path = tuple[int, ...]


def collapsed(path: Any) -> Path:
    return tuple(int(value) for k, value in enumerate(path) if k == 0 or value != path[k - 1])


def found(paths: list[Path], **options: Any) -> tuple[clusters.Clusters, list[int]]:
    """Find clusters of paths that are counted first; the label of each path, or an empty list."""
    counts = Counter(paths)
    different = sorted(counts)
    made = clusters.find(different, np.array([counts[path] for path in different]), **options)
    if made.labels is None:
        return made, []
    of = dict(zip(different, made.labels.tolist(), strict=True))
    return made, [of[path] for path in paths]


def planted(seed: int, n: int, noise: float) -> tuple[list[Path], list[int]]:
    """Four ways of seven of 14 values; each step is left out, replaced or followed by another with `noise` / 6."""
    rng = np.random.default_rng(seed)
    ways = [rng.permutation(14)[:7] for _ in range(4)]
    truth, paths = rng.integers(0, 4, n).tolist(), []
    for kind in truth:
        path: list[int] = []
        for value in ways[kind]:
            chance = rng.random()
            if chance >= noise / 6:
                path.append(int(rng.integers(14)) if chance < noise / 3 else int(value))
            if noise / 3 <= chance < noise / 2:
                path.append(int(rng.integers(14)))
        paths.append(collapsed(path or ways[kind][:1]))
    return paths, truth


@pytest.mark.parametrize(("noise", "least"), [(0.2, 0.98), (0.5, 0.93), (0.8, 0.82)])
def test_planted_types_are_found(noise: float, least: float) -> None:
    """METHODS.md has .999, .959 and .868 for its four types."""
    paths, truth = planted(0, 900, noise)
    made, labels = found(paths)
    assert made.reason == ""
    assert adjusted_rand_score(truth, labels) > least
    assert made.choices.loc[made.choices["chosen"], "types_n"].tolist() == [4]
    assert made.choices.loc[made.choices["chosen"], "agreement"].iloc[0] >= 0.95
    assert made.silhouettes["real"] > made.silhouettes["one process"] > made.silhouettes["shuffled"]
    sizes = [labels.count(label) for label in range(4)]
    assert sizes == sorted(sizes, reverse=True)


def test_types_without_a_common_value_are_types_though_one_process_tells_them_apart_too() -> None:
    rng = np.random.default_rng(2)
    paths = [collapsed(4 * kind + rng.integers(0, 4, 8)) for kind in rng.integers(0, 3, 900)]
    made, labels = found(paths)
    assert made.reason == ""
    assert adjusted_rand_score([path[0] // 4 for path in paths], labels) == 1


def chance(rng: np.random.Generator, n: int) -> list[Path]:
    values = int(rng.integers(3, 9))
    share = rng.dirichlet(np.ones(values))
    return [collapsed(rng.choice(values, rng.integers(1, 12), p=share)) for _ in range(n)]


def habit(rng: np.random.Generator, n: int) -> list[Path]:
    """One process for all: each step depends on the one before."""
    steps = rng.dirichlet(np.ones(9) * 0.6, 8)  # the ninth is the end
    paths = []
    for _ in range(n):
        path = [int(rng.integers(3))]
        while len(path) < 25 and (value := int(rng.choice(9, p=steps[path[-1]]))) < 8:
            path.append(value)
        paths.append(collapsed(path))
    return paths


@pytest.mark.parametrize("make", [chance, habit])
def test_no_types_are_made_of_logs_without_any(make: Any) -> None:
    for seed in range(4):
        made, _ = found(make(np.random.default_rng(seed), 600))
        assert made.labels is None, f"seed {seed}: {made.choices}"
        assert "nearly as clear" in made.reason or "alike" in made.reason or "different" in made.reason


def test_what_one_process_makes_are_no_types_however_stable() -> None:
    made, _ = found(habit(np.random.default_rng(8), 900), most=3)
    assert made.choices["stable"].any()
    assert made.silhouettes["real"] > made.silhouettes["shuffled"] + clusters.MARGIN  # it is more than chance
    assert made.between > clusters.BETWEEN
    assert "one common process" in made.reason


def test_stable_and_clear_is_not_enough() -> None:
    """Few values, short paths: the clusters are always the same and very clear, and chance makes them as well."""
    rng = np.random.default_rng(0)
    paths = [collapsed(rng.choice(3, rng.integers(1, 4), p=[0.5, 0.3, 0.2])) for _ in range(1500)]
    made, _ = found(paths)
    assert made.choices["stable"].any()
    assert made.silhouettes["real"] > 0.7
    assert "shuffled" in made.reason


def test_the_same_paths_give_the_same_types() -> None:
    paths, _ = planted(1, 500, 0.5)
    one, labels = found(paths, most=5)
    other, again = found(paths[::-1], most=5)
    assert labels == again[::-1]
    pd.testing.assert_frame_equal(one.choices, other.choices)
    assert one.silhouettes == other.silhouettes
    many, tripled = found(paths * 3, most=5)
    assert adjusted_rand_score(labels, tripled[: len(labels)]) > 0.97  # a count is as good as repeating
    assert many.choices["types_n"].tolist() == [2, 3, 4, 5]


def test_a_type_has_a_least_size() -> None:
    paths = [(0, 1, 2, 3)] * 400 + [(4, 5, 6, 7)] * 390 + [(8, 9, 10)] * 10
    rng = np.random.default_rng(0)
    paths = [collapsed([*path, int(rng.integers(0, 3)) + path[0]]) for path in paths]
    three, _ = found(paths, most=4)
    assert three.choices["smallest_n"].min() < 200
    made, labels = found(paths, smallest=200, most=4)
    assert not made.choices.loc[made.choices["smallest_n"] < 200, "stable"].any()
    assert min(Counter(labels).values()) >= 200


def test_agreement_is_the_adjusted_rand_index() -> None:
    rng = np.random.default_rng(5)
    one, other, weights = rng.integers(0, 3, 60), rng.integers(0, 4, 60), rng.integers(1, 5, 60)
    expected = adjusted_rand_score(np.repeat(one, weights), np.repeat(other, weights))
    assert clusters.agreement(one, other, weights) == pytest.approx(expected)


# ── From touches ─────────────────────────────────────────────────────────────────────────────────────────────────────


def shop(people: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half come by search and compare, half by mail and go to the shop; a third of the first buy."""
    rng, parts, outcome = np.random.default_rng(7), [], []
    for person in range(people):
        kind = person % 2
        ways = [["search", "compare", "page", "video"], ["mail", "showroom", "call", "map"]][kind]
        steps = list(rng.choice(ways, rng.integers(3, 8))) + ["cart"] * int(rng.random() < 0.5)
        bought = kind == 0 and person % 3 == 0
        parts.append(f"u{person}: " + " ".join(steps + ["buy", "parcel"] * bought))
        outcome.append("converted" if bought else "abandoned")
    journeys = pd.DataFrame({"journey_id": range(1, people + 1), "outcome": outcome})
    return make_log(" | ".join(parts)), journeys


@pytest.fixture(scope="module")
def types() -> journey_types.Types:
    log, journeys = shop()
    return journey_types.find(log, journeys=journeys, conversion=["buy"], min_n=5)


def test_the_types_of_a_log(types: journey_types.Types) -> None:
    log, _ = shop()
    assert types.reason == ""
    table = journey_types.table(types, min_n=5)
    assert table["n"].tolist() == [150, 150]
    assert table["people_n"].tolist() == [150, 150]
    assert table["share"].tolist() == [0.5, 0.5]
    bought = table.set_index("type")["converted_n"].sort_values()
    assert bought.tolist() == [0, 50]
    first = table[table["converted_n"] == 50].iloc[0]
    assert set(first["type"].split(" + ")) <= {"search", "compare", "page", "video"}
    assert first["converted_share_low"] < 1 / 3 < first["converted_share_high"]
    assert first["median_values_n"] == pytest.approx(np.median([len(set_of) for set_of in before_buying(log, 0)]))
    assert set(types.paths["path"].str.split(journey_types.SEPARATOR).explode()).isdisjoint({"buy", "parcel"})
    assert not table["typical_path"].str.contains("buy").any()


def before_buying(log: pd.DataFrame, kind: int) -> list[Path]:
    found = []
    for journey, part in log.groupby("journey_id"):
        steps = part["event"].tolist()
        steps = steps[: steps.index("buy")] if "buy" in steps else steps
        if journey % 2 == 1 - kind:
            found.append(tuple(v for k, v in enumerate(steps) if k == 0 or v != steps[k - 1]))
    return found


def test_what_sets_a_type_apart_is_counted(types: journey_types.Types) -> None:
    log, _ = shop()
    table = journey_types.apart(types)
    assert set(table["type"]) == set(types.names)
    sizes = journey_types.table(types).set_index("type")
    of_search = sizes.index[sizes["converted_n"] == 50][0]
    row = table[(table["type"] == of_search) & (table["value"] == "compare")].iloc[0]
    with_it = sum("compare" in path for path in before_buying(log, 0))
    assert row[["n", "with_n", "outside_share"]].tolist() == [150, with_it, 0]
    assert row["difference"] == pytest.approx(with_it / 150)
    low, high = stats.wilson(with_it, 150)
    other = stats.wilson(0, 150)[1]
    assert row["difference_low"] == pytest.approx(with_it / 150 - np.hypot(with_it / 150 - low, other))
    assert row["difference_high"] == pytest.approx(high)
    assert row["p_value"] < 1e-6
    both = table[table["value"] == "cart"]["difference"].tolist()
    assert both[0] == pytest.approx(-both[1])  # with two types one is the other's mirror
    assert (table["p_value"].between(0, 1)).all()
    first = table.drop_duplicates("type").iloc[0]
    assert abs(first["difference"]) == table.loc[table["type"] == first["type"], "difference"].abs().max()
    assert "parcel" not in set(table["value"])


def test_a_typical_path_is_shown_as_far_as_enough_took_it() -> None:
    separator = journey_types.SEPARATOR
    paths = pd.DataFrame(
        {
            "path": [separator.join(path) for path in ("abcd", "abce", "ab", "x")],
            "n": [1, 2, 3, 9],
            "number": [1, 1, 1, 2],
            "near": [0.9, 0.8, 0.7, 1.0],
        }
    )
    assert journey_types._typical(paths, 1, 1) == "a → b → c → d"
    assert journey_types._typical(paths, 1, 3) == "a → b → c → …"
    assert journey_types._typical(paths, 1, 6) == "a → b → …"
    assert journey_types._typical(paths, 1, 7) == "…"
    assert journey_types._typical(paths, 2, 9) == "x"


def test_journeys_that_say_nothing_are_left_out() -> None:
    log, journeys = shop()
    journeys.loc[journeys["journey_id"] <= 40, "outcome"] = "open"
    early = log.assign(event=log["event"].where(log["person_id"] > 60, "buy"))
    made = journey_types.find(early, journeys=journeys, conversion=["buy"])
    assert made.paths["n"].sum() == 300 - 60
    assert made.note == "20 journeys with nothing before the conversion are left out."
    few = journeys.assign(outcome="open")
    assert "n = 0" in journey_types.find(log, journeys=few).reason
    assert "at least 200" in journey_types.find(log, journeys=journeys.head(100)).reason
    made = journey_types.find(log, journeys=journeys.head(100))
    assert "at least 200" in stats.reason_of(journey_types.table(made))
    assert journey_types.apart(made).empty
    assert readings.types(made, journey_types.table(made), journey_types.apart(made)) == ""


def test_of_too_many_paths_some_are_drawn_and_said() -> None:
    log, journeys = shop(600)
    whole = journey_types.find(log, journeys=journeys, conversion=["buy"])
    assert "drawn" not in whole.note
    some = journey_types.find(log, journeys=journeys, conversion=["buy"], sample=300)
    assert len(whole.paths) > 300
    drawn = int(some.paths["n"].sum())
    assert some.note == f"{drawn} of 600 journeys were drawn."
    assert 280 <= drawn <= 320
    assert engine.fetch(some.journeys)["number"].nunique() == len(some.names)


def test_engines_agree(types: journey_types.Types) -> None:
    log, journeys = shop()
    log = log.drop(columns=["marketing_channel", "team"])
    before = log.copy()
    expected = [journey_types.table(types), journey_types.apart(types), types.choices]
    for frame in (pl.from_pandas(log).lazy(), log.sample(frac=1, random_state=0)):
        made = journey_types.find(frame, journeys=pl.from_pandas(journeys), conversion=["buy"], min_n=5)
        for one, other in zip(
            (journey_types.table(made), journey_types.apart(made), made.choices), expected, strict=True
        ):
            pd.testing.assert_frame_equal(one, other, check_dtype=False)
    pd.testing.assert_frame_equal(log, before)


def test_hostile_input() -> None:
    log, journeys = shop(12)
    for hostile in (log.head(0), log.assign(touchpoint=None), log.assign(journey_id=None)):
        made = journey_types.find(hostile, journeys=journeys)
        assert "n = 0" in made.reason
        assert made.choices.empty
        assert engine.fetch(made.journeys).empty
    same = make_log(" | ".join(f"u{k}: a b" for k in range(250)))
    made = journey_types.find(same, journeys=pd.DataFrame({"journey_id": range(1, 251), "outcome": "abandoned"}))
    assert "not enough structure" in made.reason
    assert "not enough different paths (1)" in made.reason
    with pytest.raises(JourneyError, match="'touchpoint'"):
        journey_types.find(log.drop(columns="touchpoint"), journeys=journeys)
    with pytest.raises(JourneyError, match="'outcome'"):
        journey_types.find(log, journeys=journeys.drop(columns="outcome"))


def test_sentences_a_finding_and_charts(types: journey_types.Types) -> None:
    table, apart = journey_types.table(types, min_n=5), journey_types.apart(types)
    text = readings.types(types, table, apart)
    assert "There are 2 types of journey" in text
    for name in types.names:
        assert f"“{name}”, 50.0 % (" in text
    found = readings.findings(types, table)
    assert [item.id for item in found] == ["journey_types"]
    assert found[0].value == pytest.approx(1 / 3)
    assert found[0].evidence == "associated"
    assert readings.findings(types, table.assign(converted_share_low=0.0)) == []
    for ax in (plots.apart(apart), plots.choices(types.choices)):
        assert theme.svg(ax).startswith("<?xml")


def test_where_there_are_no_types_it_says_so() -> None:
    rng = np.random.default_rng(1)
    log = make_log(" | ".join("u: " + " ".join(rng.choice(list("abcdef"), rng.integers(2, 9))) for _ in range(300)))
    made = journey_types.find(log, journeys=pd.DataFrame({"journey_id": range(1, 301), "outcome": "abandoned"}))
    assert "not enough structure for types of journey" in stats.reason_of(journey_types.table(made))
    assert "nothing that sets them apart" in stats.reason_of(journey_types.apart(made))
    assert "by degrees" in readings.types(made, journey_types.table(made), journey_types.apart(made))
    assert readings.findings(made, journey_types.table(made)) == []
    assert theme.svg(plots.choices(made.choices)).startswith("<?xml")
