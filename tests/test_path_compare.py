"""Two groups of paths: by hand, against a slow version, and that chance alone finds nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats as scipy_stats

from journeykit import engine, path_compare, stats
from journeykit.errors import JourneyError
from journeykit.path_compare import Groups, by_column, by_date, by_outcome, compare
from tests import slow_paths
from tests.conftest import make_log


def groups_of(a: list[int], b: list[int]) -> Groups:
    table = pd.DataFrame({"person_id": a + b, "group": ["x"] * len(a) + ["y"] * len(b)})
    return Groups(table, "x", "y")


def row(table: pd.DataFrame, kind: str, what: str) -> pd.Series:
    found = table[(table["kind"] == kind) & (table["what"] == what)]
    assert len(found) == 1, (kind, what)
    return found.iloc[0]


def test_presence_counts_people_not_events() -> None:
    log = make_log("u1: a a a a b | u2: c | u3: a b | u4: c")
    table = compare(log, groups_of([1, 2], [3, 4]), min_n=1)
    found = row(table, "value", "a")
    assert found[["a_n", "a_of_n", "b_n", "b_of_n", "n"]].tolist() == [1, 2, 1, 2, 4]
    assert found[["a_share", "a_share_low", "a_share_high"]].tolist() == [0.5, *stats.wilson(1, 2)]
    assert found["difference_points"] == 0
    assert row(table, "transition", "a → b")[["a_n", "b_n"]].tolist() == [1, 1]
    assert row(table, "three in a row", "a → a → a")[["a_n", "b_n"]].tolist() == [1, 0]
    assert table.attrs == {"a": "x", "b": "y", "steps": 5, "short_n": 0}


def test_places_are_compared_with_those_who_ended() -> None:
    log = make_log("u1: a b | u2: a | u3: a b | u4: a b")
    table = compare(log, groups_of([1, 2], [3, 4]), kinds=["place"], steps=2, min_n=1)
    assert table[["position", "what", "a_n", "b_n"]].values.tolist() == [[2, "(ended)", 1, 0], [2, "b", 1, 2]]


def test_newcombe_fisher_and_the_chi_square_test() -> None:
    people = ["a"] * 56 + ["b"] * 14 + ["a"] * 48 + ["b"] * 32
    log = make_log(" | ".join(f"u: {event}" for event in people))
    found = row(compare(log, groups_of([*range(1, 71)], [*range(71, 151)]), kinds=["value"]), "value", "a")
    # Newcombe (1998), table II, 56/70 against 48/80, method 10.
    assert found[["difference_points", "difference_points_low", "difference_points_high"]].tolist() == pytest.approx(
        [20, 5.24, 33.39], abs=0.005
    )
    assert found["test"] == "chi-square"
    chi2 = scipy_stats.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert found["p_value"] == pytest.approx(chi2.pvalue)
    few = make_log(" | ".join(f"u: {event}" for event in ["a", "a", "a", "b", "b", "b", "b"]))
    small = row(compare(few, groups_of([1, 2, 3], [4, 5, 6, 7]), kinds=["value"], min_n=1), "value", "a")
    assert (small["test"], small["p_value"]) == ("Fisher", pytest.approx(1 / 35))


def test_p_values_are_adjusted_over_all_rows() -> None:
    log = make_log(" | ".join(f"u: {event}" for event in ["a b"] * 20 + ["a c"] * 20))
    table = compare(log, groups_of([*range(1, 21)], [*range(21, 41)]), min_n=1)
    assert table["p_adjusted"].to_numpy() == pytest.approx(scipy_stats.false_discovery_control(table["p_value"]))
    assert "a" not in table.loc[table["kind"] == "value", "what"].tolist()  # all have it: it tells nothing


def test_the_goal_and_what_follows_is_cut_off() -> None:
    log = make_log("u1: a b buy c d | u2: a b c d e | u3: a buy x | u4: a c")
    groups = Groups(pd.DataFrame({"person_id": [1, 2, 3, 4], "group": ["x", "y", "x", "y"]}), "x", "y")
    table = compare(log, groups, steps=2, goal="buy", kinds=["value"], min_n=1)
    # u3 had one step before its goal, so that it is no match for those who had two.
    assert table[["what", "a_n", "a_of_n", "b_n", "b_of_n"]].values.tolist() == [["b", 1, 1, 1, 2], ["c", 0, 1, 1, 2]]
    assert table.attrs["short_n"] == 1
    without = compare(log, groups, steps=3, kinds=["value"], min_n=1)
    assert "buy" in without["what"].tolist()


def test_each_person_counts_once_in_the_first_unit_that_is_in_a_group() -> None:
    log = make_log("u1: a ; b | u2: c ; d ; e | u3: a | u4: b")
    journeys = pd.DataFrame(
        {
            "journey_id": [1, 2, 3, 4, 5, 6, 7],
            "outcome": ["abandoned", "converted", "open", "converted", "abandoned", "abandoned", "converted"],
        }
    )
    groups = by_outcome(journeys)
    assert sorted(engine.fetch(groups.table)["journey_id"]) == [1, 2, 4, 5, 6, 7]
    table = compare(log, groups, within="journey", kinds=["value"], steps=1, min_n=1)
    assert row(table, "value", "a")[["a_n", "a_of_n", "b_n", "b_of_n"]].tolist() == [0, 2, 2, 2]
    assert row(table, "value", "d")[["a_n", "b_n"]].tolist() == [1, 0]  # the second journey of u2: the first is open
    assert "c" not in table["what"].tolist()


def test_before_and_after_is_decided_by_the_first_event() -> None:
    log = make_log("u1: a@1d a@9d | u2: b@6d | u3: c@2d | u4: a@20d")
    groups = by_date(log, "2025-01-07", until="2025-01-15")
    assert engine.fetch(groups.table).sort_values("person_id").values.tolist() == [
        [1, "before"],
        [2, "after"],
        [3, "before"],
    ]
    assert (groups.a, groups.b) == ("after", "before")


def test_a_column_is_taken_at_its_first_value() -> None:
    log = make_log("u1: a/web b/app | u2: a b | u3: a/store | u4: a/app b/web")
    log.loc[log["person_id"] == 2, "channel"] = [None, "app"]
    groups = by_column(log.sample(frac=1, random_state=1), "channel", "web", "app")
    assert engine.fetch(groups.table).sort_values("person_id").values.tolist() == [[1, "web"], [2, "app"], [4, "app"]]
    with pytest.raises(JourneyError, match="Did you mean 'channel'"):
        by_column(log, "chanel", "a", "b")


def test_groups_may_be_named_in_words() -> None:
    log = make_log("u1: a/web | u2: a@9d/app")
    assert path_compare.choose("channel: app | web", log, None).a == "app"
    assert engine.fetch(path_compare.choose("2025-01-05", log, None).table).sort_values("person_id")[
        "group"
    ].tolist() == ["before", "after"]
    journeys = pd.DataFrame({"journey_id": [1], "outcome": ["converted"]})
    assert path_compare.choose("outcome", log, journeys).b == "not converted"
    for wrong in ("", "outcomes", "channel: app", "channel: |"):
        with pytest.raises(JourneyError, match="names no groups"):
            path_compare.choose(wrong, log, journeys)


def test_the_goal_is_what_the_conversion_is_called() -> None:
    log = make_log("u1: ad buy order").assign(touchpoint=["Ad", "Order", "Shop"])
    assert path_compare.goal(log, ["order", "buy"], "touchpoint") == "Order | Shop"
    assert path_compare.goal(log, ["order"], "event") == "order"
    assert path_compare.goal(log, [], "event") == ""


@pytest.mark.parametrize("seed", range(4))
def test_against_a_slow_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(list("abcz"), rng.integers(1, 8))) for _ in range(50)]
    log = make_log(" | ".join(f"u: {text}" for text in texts))
    member = {person: "xy"[int(rng.random() < 0.4)] for person in range(1, 51) if rng.random() < 0.9}
    table = pd.DataFrame({"person_id": list(member), "group": list(member.values())})
    for goal, steps in (("z", 3), ("", 4), ("", 1), ("z", 2)):
        known = slow_paths.sequences(log, "person_id")
        cut = {p: v[: v.index("z")] if goal and "z" in v else v for p, v in known.items() if p in member}
        cut = {p: v[:steps] for p, v in cut.items() if not goal or len(v) >= steps}
        found = compare(log, Groups(table, "x", "y"), goal=goal, steps=steps, within="person", min_n=1)
        sizes = [sum(member[p] == side for p in cut) for side in "xy"]
        assert found[["a_of_n", "b_of_n"]].drop_duplicates().values.tolist() == [sizes]
        expected = {}
        for kind, size in (("value", 1), ("transition", 2), ("three in a row", 3)):
            for gram in set().union(*(slow_paths.grams(v, size) for v in cut.values())):
                who = [p for p, v in cut.items() if gram in slow_paths.grams(v, size)]
                expected[kind, " → ".join(gram)] = [sum(member[p] == side for p in who) for side in "xy"]
        for place in range(steps):
            at = {p: v[place] if len(v) > place else "(ended)" for p, v in cut.items()}
            for value in set(at.values()):
                counts = [sum(at[p] == value and member[p] == side for p in cut) for side in "xy"]
                expected[f"place {place + 1}", value] = counts
        expected = {key: counts for key, counts in expected.items() if sum(counts) < sum(sizes)}
        names = [
            f"place {line['position']}" if line["kind"] == "place" else line["kind"]
            for line in found.to_dict("records")
        ]
        assert {
            (name, what): [a, b]
            for name, what, a, b in zip(names, found["what"], found["a_n"], found["b_n"], strict=True)
        } == expected


def random_halves(seed: int) -> tuple[pd.DataFrame, Groups]:
    """People who differ in what they like and how often they come, in two groups by lot."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(240):
        likes = rng.dirichlet([0.4] * 6)
        steps = 1 + rng.negative_binomial(1, 0.15)
        for k, event in enumerate(rng.choice(list("abcdef"), steps, p=likes)):
            rows.append((person, k, event))
    log = pd.DataFrame(rows, columns=["person_id", "position", "event"])
    log = log.assign(session_id=log["person_id"], time_us=log["position"])
    lot = rng.permutation(240)
    table = pd.DataFrame({"person_id": lot, "group": ["x"] * 120 + ["y"] * 120})
    return log, Groups(table, "x", "y")


def test_by_chance_alone_presence_keeps_the_level_and_counts_of_events_do_not() -> None:
    presence, counts, found, runs = [], [], 0, 40
    for seed in range(runs):
        log, groups = random_halves(seed)
        table = compare(log, groups, steps=8, kinds=["value", "transition"], min_n=30)
        presence += table["p_value"].tolist()
        found += bool((table["p_adjusted"] < path_compare.SURE).any())
        is_x = log["person_id"].map(groups.table.set_index("person_id")["group"]).to_numpy() == "x"
        for event in "abcdef":
            k, is_it = np.array([is_x.sum(), (~is_x).sum()]), (log["event"] == event).to_numpy()
            counted = np.array([(is_it & is_x).sum(), (is_it & ~is_x).sum()])
            counts.append(scipy_stats.chi2_contingency([counted, k - counted], correction=False).pvalue)
    assert len(presence) > 350
    # Nominal .05; the standard error is about .015, as rows of one run are alike.
    assert 0.01 < np.mean(np.array(presence) < 0.05) < 0.09
    assert found <= 6  # of 40, about two are expected
    assert np.mean(np.array(counts) < 0.05) > 0.25  # and yet there is nothing to find


def test_a_planted_difference_is_found() -> None:
    log, groups = random_halves(3)
    x = set(groups.table.loc[groups.table["group"] == "x", "person_id"])
    rng = np.random.default_rng(3)
    first = (log["position"] == 0) & log["person_id"].isin(x) & (rng.random(len(log)) < 0.5)
    table = compare(log.assign(event=log["event"].where(~first, "help")), groups, steps=8)
    assert table.iloc[0][["kind", "what"]].tolist() in (["value", "help"], ["place", "help"])
    assert 35 < table["difference_points"].iloc[0] < 65
    assert table["p_adjusted"].iloc[0] < 1e-6


def test_hostile_input() -> None:
    log = make_log("u1: a | u2: b")
    groups = groups_of([1], [2])
    assert "x: 1, y: 1; at least 30" in compare(log, groups).attrs["reason"]
    assert "x: 0, y: 0" in compare(log.head(0), groups, min_n=1).attrs["reason"]
    assert "x: 1, y: 0" in compare(log, groups_of([1], []), min_n=1).attrs["reason"]
    same = make_log("u1: a | u2: a")
    assert "not all have" in compare(same, groups, min_n=1).attrs["reason"]
    assert "x: 0, y: 0" in compare(log, groups, goal="a | b", min_n=1).attrs["reason"]
    with pytest.raises(JourneyError, match="Did you mean 'value'"):
        compare(log, groups, kinds=["values"])
    with pytest.raises(JourneyError, match="within session, it needs group and person_id or session_id"):
        compare(log, Groups(pd.DataFrame({"journey_id": [1], "group": ["x"]}), "x", "y"))
    with pytest.raises(JourneyError, match="needs group and person_id"):
        compare(log, Groups(pd.DataFrame({"person_id": [1]}), "x", "y"))


def test_engines_agree() -> None:
    log, groups = random_halves(1)
    expected = compare(log, groups)
    for frame in (pl.from_pandas(log), engine.connection().from_df(log), log.sample(frac=1, random_state=2)):
        pd.testing.assert_frame_equal(compare(frame, groups), expected, check_dtype=False)
    polars = Groups(pl.from_pandas(groups.table), "x", "y")
    pd.testing.assert_frame_equal(compare(log, polars), expected, check_dtype=False)
