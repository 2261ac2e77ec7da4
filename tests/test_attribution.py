"""Attribution: published figures, invariants, and a slow version of the paths in plain Python."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from journeykit import attribution, config, credit_rules
from journeykit.errors import JourneyError
from journeykit.plots import attribution as plots
from journeykit.readings import attribution as readings
from tests.conftest import make_log

SHARED = Path(__file__).parent.parent.parent / "shared" / "data" / "channel_paths"
DAY = pd.Timedelta("1D")


def path_table(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["path", "conversions_n", "nulls_n"])
    return table.assign(value=100.0 * table["conversions_n"], open_n=0)


BRYL = path_table([("C1 > C2 > C3", 1, 0), ("C1", 0, 1), ("C2 > C3", 0, 1)])


def marketed(text: str) -> pd.DataFrame:
    """A log whose one-letter events are touches of a channel of that name; `buy` converts for 10."""
    table = make_log(text)
    channel = table["event"].where(table["event"].str.len() == 1)
    return table.assign(marketing_channel=channel, value=np.where(table["event"] == "buy", 10.0, np.nan))


def conversion_paths(touches: pd.DataFrame, **options: Any) -> pd.DataFrame:
    return attribution.conversion_paths(attribution.person_paths(touches, **options))


def random_paths(seed: int, channels: str = "ABCD") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = {" > ".join(rng.choice(list(channels), rng.integers(1, 6))) for _ in range(30)}
    return path_table([(name, int(rng.integers(0, 9)), int(rng.integers(0, 30))) for name in sorted(names)])


def chain_value(paths: pd.DataFrame, without: str = "") -> float:
    """P(conversion) of the first-order chain by repeated steps; visits of `without` lead to no conversion."""
    moves: dict[str, dict[str, float]] = {}
    for row in paths.to_dict("records"):
        steps = ["(start)", *row["path"].split(" > ")]
        n = row["conversions_n"] + row["nulls_n"]
        for before, after in pairwise(steps):
            moves.setdefault(before, {})[after] = moves.setdefault(before, {}).get(after, 0) + n
        for end in ("conversions_n", "nulls_n"):
            moves.setdefault(steps[-1], {})[end] = moves.setdefault(steps[-1], {}).get(end, 0) + row[end]
    here = {"(start)": 1.0}
    won = 0.0
    for _ in range(3000):
        following: dict[str, float] = {}
        for state, mass in here.items():
            total = sum(moves[state].values())
            for to, n in moves[state].items():
                if to == "conversions_n":
                    won += mass * n / total
                elif to not in ("nulls_n", without):
                    following[to] = following.get(to, 0) + mass * n / total
        here = following
    return won


def test_published_chain() -> None:
    table = attribution.attribute(BRYL, min_conversions=1, repetitions=10)
    chain = table[table["model"] == "markov"].set_index("channel").sort_index()
    assert chain["removal_effect"].tolist() == pytest.approx([0.5, 1, 1])
    assert chain["credit_share"].tolist() == pytest.approx([0.2, 0.4, 0.4])
    assert chain_value(BRYL) == pytest.approx(1 / 3)
    effects = credit_rules.markov(credit_rules.Layout(BRYL), np.array([[1.0, 0, 0]]), np.array([[0.0, 1, 1]]))[1]
    assert effects.shape == (1, 3)


def test_heuristics_by_hand() -> None:
    paths = path_table([("A > B > B > C", 4, 0), ("B", 2, 5)])
    table = attribution.attribute(paths, min_conversions=1, repetitions=10)
    credit = table.pivot_table(index="channel", columns="model", values="conversions")
    assert credit["first"].tolist() == [4, 2, 0]
    assert credit["last"].tolist() == [0, 2, 4]
    assert credit["linear"].tolist() == [1, 4, 1]
    value = table.pivot_table(index="channel", columns="model", values="value")
    assert value["linear"].tolist() == [100, 400, 100]


@pytest.mark.parametrize("seed", range(4))
def test_removal_effects_agree_with_walking_the_chain(seed: int) -> None:
    paths = random_paths(seed)
    base = chain_value(paths)
    assert base == pytest.approx(paths["conversions_n"].sum() / (paths["conversions_n"] + paths["nulls_n"]).sum())
    table = attribution.attribute(paths, models=["markov"], min_conversions=1, repetitions=5).set_index("channel")
    for channel, row in table.iterrows():
        assert row["removal_effect"] == pytest.approx(1 - chain_value(paths, str(channel)) / base, abs=1e-9)


def test_removal_effects_agree_with_simulated_walkers() -> None:
    rng, walkers = np.random.default_rng(0), 40_000
    paths = BRYL.assign(conversions_n=[3, 1, 0], nulls_n=[1, 2, 3])
    # From C1: 4 of 7 go to C2, 1 converts, 2 leave; from C2 all go to C3; from C3: 3 of 7 convert. Start: 7 C1, 3 C2.
    starts_in_c1 = rng.random(walkers) < 0.7
    to_c2 = np.where(starts_in_c1, rng.random(walkers) < 4 / 7, True)
    at_once = starts_in_c1 & ~to_c2 & (rng.random(walkers) < 1 / 3)
    converts = at_once | (to_c2 & (rng.random(walkers) < 3 / 7))
    lost = {"C1": converts & starts_in_c1, "C2": converts & to_c2, "C3": converts & to_c2}
    table = attribution.attribute(paths, models=["markov"], min_conversions=1).set_index("channel")
    for channel, gone in lost.items():
        assert table.loc[channel, "removal_effect"] == pytest.approx(gone.sum() / converts.sum(), abs=0.02)


def test_invariants() -> None:
    paths = random_paths(11)
    table = attribution.attribute(paths, min_conversions=1, repetitions=20)
    sums = table.groupby("model")[["conversions", "credit_share", "value"]].sum()
    total = paths["conversions_n"].sum()
    assert sums["conversions"].tolist() == pytest.approx([total] * 4)
    assert sums["credit_share"].tolist() == pytest.approx([1] * 4)
    assert sums["value"].tolist() == pytest.approx([100 * total] * 4)
    assert (table["credit_share_low"] <= table["credit_share_high"]).all()
    stutter = paths.assign(
        path=[" > ".join(step for step in path.split(" > ") for _ in range(2)) for path in paths["path"]]
    )
    removal = [
        attribution.attribute(each, models=["markov"], min_conversions=1, repetitions=5).set_index("channel")[
            "removal_effect"
        ]
        for each in (paths, stutter)
    ]
    # Repeating every touch adds a self-loop with chance 1/2 to every channel and changes no effect.
    pd.testing.assert_series_equal(removal[0].sort_index(), removal[1].sort_index())


def test_bootstrap_is_seeded_and_ignores_the_order_of_paths() -> None:
    paths = random_paths(3)
    first = attribution.attribute(paths, min_conversions=1, repetitions=40, seed=1)
    pd.testing.assert_frame_equal(first, attribution.attribute(paths, min_conversions=1, repetitions=40, seed=1))
    other = attribution.attribute(paths, min_conversions=1, repetitions=40, seed=2)
    assert not first["credit_share_low"].equals(other["credit_share_low"])


def test_bootstrap_covers() -> None:
    # Truth: first touches are A with chance .3; intervals of the share of A over 80 samples should cover ~76 times.
    rng, hits = np.random.default_rng(5), 0
    for _ in range(80):
        a = int(rng.binomial(200, 0.3))
        paths = path_table([("A > B", a, 50), ("B", 200 - a, 50)])
        table = attribution.attribute(paths, models=["first"], repetitions=200).set_index("channel")
        hits += table.loc["A", "credit_share_low"] <= 0.3 <= table.loc["A", "credit_share_high"]
    assert hits >= 70


def test_bootstrap_of_people_covers_when_their_paths_are_alike() -> None:
    # 60 people of 5 conversions each; a person's chance of coming by A is .1 or .9, so that A's share is .5.
    rng, hits, alone = np.random.default_rng(7), 0, 0
    for _ in range(100):
        by_a = rng.binomial(5, rng.choice([0.1, 0.9], 60))
        wins = np.concatenate([by_a, 5 - by_a])
        people = pd.DataFrame({"person_id": np.tile(np.arange(60), 2), "path": np.repeat(["A", "B"], 60)})
        people = people.assign(conversions_n=wins, nulls_n=1, value=0.0, open_n=0)
        people = people[people["conversions_n"] > 0]
        paths = attribution.conversion_paths(people)
        for table in (people, None):
            rows = attribution.attribute(paths, table, models=["first"], repetitions=200).set_index("channel")
            covers = rows.loc["A", "credit_share_low"] <= 0.5 <= rows.loc["A", "credit_share_high"]
            hits, alone = (hits + covers, alone) if table is not None else (hits, alone + covers)
    assert hits >= 88
    assert alone < 75  # what treating the paths of a person as independent costs


def test_bootstrap_of_people_ignores_the_order_of_rows_and_keeps_the_estimate() -> None:
    touches = marketed("|".join(f"u{k}: {'ab'[k % 2]}@0d b@1d {'buy@2d' * (k % 3 > 0)} a@60d" for k in range(60)))
    people = attribution.person_paths(touches, conversion=["buy"], lookback="7d")
    paths = attribution.conversion_paths(people)
    table = attribution.attribute(paths, people, repetitions=40)
    pd.testing.assert_frame_equal(table, attribution.attribute(paths, people.sample(frac=1), repetitions=40))
    estimates = ["model", "channel", "conversions", "credit_share", "value", "removal_effect"]
    pd.testing.assert_frame_equal(table[estimates], attribution.attribute(paths, repetitions=40)[estimates])
    assert (table["credit_share_low"] <= table["credit_share_high"]).all()


def test_people_keep_their_paths() -> None:
    touches = marketed("u1: a@0d buy@1d ; a@2d buy@3d ; a@60d | u2: a@0d buy@1d | u3: buy@1d")
    people = attribution.person_paths(touches, conversion=["buy"])
    rows = people[["person_id", "path", "conversions_n", "nulls_n", "value"]].to_numpy().tolist()
    assert rows == [[1, "a", 2, 1, 20.0], [2, "a", 1, 0, 10.0], [3, "", 1, 0, 10.0]]


def test_paths_by_hand() -> None:
    touches = marketed(
        "u1: a@0d a b ; a@1d buy@2d c@3d ; b@60d | u2: a@0d ; b@40d buy@50d | u3: buy@1d | u4: x1@1d | u5: b@89d"
    )
    paths = conversion_paths(touches, conversion=["buy"], lookback="30d").set_index("path")
    assert paths["conversions_n"].to_dict() == {"": 1, "a > b > a": 1, "b": 1, "a": 0, "c": 0}
    # b after a silence of 57 days is a path of its own; so is u2's a, which is older than the look-back.
    assert paths["nulls_n"].to_dict() == {"": 0, "a > b > a": 0, "b": 2, "a": 1, "c": 1}
    assert paths["value"].sum() == 30
    assert paths.loc["b", "open_n"] == 2
    later = conversion_paths(touches, conversion=["buy"], lookback="30d", as_of="2025-03-20T00:00:00Z")
    assert later["open_n"].sum() == 2
    without = conversion_paths(touches, conversion=["buy"], lookback="30d", exclude=["b"]).set_index("path")
    assert without.loc["a > a", "conversions_n"] == 1
    assert without.loc["", "conversions_n"] == 2


def slow_paths(touches: pd.DataFrame, lookback: pd.Timedelta) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}

    def add(path: list[str], outcome: int) -> None:
        counts.setdefault(" > ".join(path), [0, 0])[outcome] += 1

    for _, events in touches.sort_values(["person_id", "position"]).groupby("person_id"):
        waiting: list[tuple[pd.Timestamp, str]] = []

        def settle(old: list[tuple[pd.Timestamp, str]]) -> None:
            path: list[str] = []
            for k, (at, name) in enumerate(old):
                if k and at - old[k - 1][0] > lookback:
                    add(path, 1)
                    path = []
                path.append(name)
            if path:
                add(path, 1)

        previous = None
        for row in events.to_dict("records"):
            if isinstance(row["marketing_channel"], str):
                if (row["session_id"], row["marketing_channel"]) != previous:
                    waiting.append((row["timestamp"], row["marketing_channel"]))
                previous = (row["session_id"], row["marketing_channel"])
            if row["event"] == "buy":
                settle([touch for touch in waiting if row["timestamp"] - touch[0] > lookback])
                add([name for at, name in waiting if row["timestamp"] - at <= lookback], 0)
                waiting = []
        settle(waiting)
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_paths_agree_with_plain_python(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(60):
        days = np.sort(rng.integers(0, 40, rng.integers(1, 12)))
        events = rng.choice(["a", "b", "c", "buy", "view"], len(days), p=[0.3, 0.2, 0.1, 0.15, 0.25])
        tokens = [f"{e}@{d}d{' ;' if rng.random() < 0.4 else ''}" for e, d in zip(events, days, strict=True)]
        parts.append(f"u{person}: " + " ".join(tokens))
    touches = marketed("|".join(parts))
    monkeypatch.setattr(attribution, "CHUNK", 50)  # several parts must count the same
    paths = conversion_paths(touches.sample(frac=1, random_state=seed), conversion=["buy"], lookback="7d")
    found = {row["path"]: [row["conversions_n"], row["nulls_n"]] for row in paths.to_dict("records")}
    assert found == slow_paths(touches, 7 * DAY)


def test_cost_for_each_credited_conversion() -> None:
    paths = path_table([("A > B", 60, 10), ("B", 40, 90)])
    credit = attribution.attribute(paths)
    spend = pd.DataFrame({"marketing_channel": ["A", "A", "C", None], "spend": [500.0, 100.0, 9.0, 5.0]})
    table = attribution.cost_per_conversion(credit, spend)
    assert set(table["channel"]) == {"A"}
    first = table[table["model"] == "first"].iloc[0]
    assert first["cost_per_conversion"] == pytest.approx(600 / 60)
    assert first["cost_per_conversion_low"] < 10 < first["cost_per_conversion_high"]
    assert first["value_per_spend"] == pytest.approx(10)
    last = table[table["model"] == "last"].iloc[0]
    assert pd.isna(last["cost_per_conversion"])
    assert "no spend" in attribution.cost_per_conversion(credit, spend.iloc[:0]).attrs["reason"]
    assert "no channel with spend" in attribution.cost_per_conversion(credit, spend.iloc[2:3]).attrs["reason"]
    assert "C" not in readings.cost(table, "EUR").split()[-1]


def test_refusals_and_degenerate_input() -> None:
    only_won = path_table([("A > B", 40, 0), ("B", 10, 0)])
    refused = attribution.attribute(only_won, models=["markov"])
    assert "non-converting" in refused.attrs["reason"]
    others = attribution.attribute(only_won)
    assert set(others["model"]) == {"first", "last", "linear"}
    assert "non-converting" in readings.credit(others)
    assert "n = 1 conversions" in attribution.attribute(BRYL).attrs["reason"]
    one = attribution.attribute(path_table([("A", 50, 50)]))
    assert one["credit_share"].tolist() == [1.0] * 4
    touches = marketed("u1: a b")
    never = conversion_paths(touches, conversion=["buy"])
    assert never[["path", "conversions_n", "nulls_n"]].to_numpy().tolist() == [["a > b", 0, 1]]
    assert attribution.attribute(never).attrs["reason"]
    empty = conversion_paths(touches.iloc[:0], conversion=["buy"])
    assert empty.attrs["reason"]
    assert attribution.attribute(empty).attrs["reason"] == empty.attrs["reason"]
    assert attribution.top_paths(empty).attrs["reason"] == empty.attrs["reason"]
    silent = conversion_paths(make_log("u1: view buy").assign(value=None), conversion=["view"])
    assert silent["path"].tolist() == [""]
    assert conversion_paths(make_log("u1: view"), conversion=["buy"]).attrs["reason"]
    assert "no conversion is declared" in conversion_paths(touches, conversion=[]).attrs["reason"]
    with pytest.raises(JourneyError, match="rename"):
        conversion_paths(touches.assign(marketing_channel="a > b"), conversion=["buy"])


def test_settings_fill_in_what_the_study_says() -> None:
    study = SimpleNamespace(
        attribution=config.Attribution(lookback="14d", exclude=["direct"]), journeys=config.Journeys(conversion=["buy"])
    )
    found = attribution.settings(study)
    assert found == {
        "conversion": ["buy"],
        "lookback": "14d",
        "exclude": ("direct",),
        "models": ("first", "last", "linear", "markov"),
    }
    asked = attribution.settings(study, lookback="7d", exclude="email, direct", models="linear")
    assert (asked["lookback"], asked["exclude"], asked["models"]) == ("7d", ("email", "direct"), ("linear",))
    with pytest.raises(JourneyError, match="markov"):
        attribution.settings(study, models="markof")


def test_readings_findings_and_figures() -> None:
    paths = random_paths(4)
    paths = pd.concat([paths, path_table([("", 7, 0)])])
    credit = attribution.attribute(paths, min_conversions=1)
    spend = pd.DataFrame({"marketing_channel": ["A", "B"], "spend": [900.0, 100.0]})
    costs = attribution.cost_per_conversion(credit, spend)
    won = int(paths["conversions_n"].sum())
    assert f"{won - 7} of {won} conversions had a touch" in readings.paths(paths, "30d")
    assert "30 days" in readings.paths(paths, "30d")
    assert "credit, not incrementality" in readings.credit(credit)
    assert "would lose" in readings.removal(credit)
    assert "EUR" in readings.cost(costs, "EUR")
    found = readings.findings(credit, costs, currency="EUR")
    assert [finding.id for finding in found][-1] == "dearest_channel"
    assert all("not incrementality" in finding.caveat for finding in found)
    nothing = credit.iloc[:0]
    assert readings.credit(nothing) == readings.removal(nothing) == readings.cost(nothing, "EUR") == ""
    assert readings.findings(nothing, nothing) == []
    assert plots.credit(credit).get_figure()
    assert plots.cost(costs, currency="EUR").get_figure()
    top = attribution.top_paths(paths, min_n=1)
    assert "" not in set(top["path"])
    assert top["converting_share"].between(0, 1).all()


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data/channel_paths is not there")
def test_figures_of_the_channel_paths_data() -> None:
    expected = {
        key: item["value"] for key, item in json.loads((SHARED / "expected.json").read_text())["figures"].items()
    }
    paths = pd.read_csv(SHARED / "Data.csv.gz", sep=";")
    paths.columns = pd.Index(["path", "conversions_n", "value", "nulls_n"])
    table = attribution.attribute(paths, repetitions=5)
    for model in ("first", "last", "linear"):
        rows = table[table["model"] == model].set_index("channel")
        assert rows["conversions"].to_dict() == pytest.approx(expected[f"{model}_conversions"], rel=1e-6)
        assert rows["value"].to_dict() == pytest.approx(expected[f"{model}_value"], rel=1e-6)
    chain = table[table["model"] == "markov"].set_index("channel")
    for ours, theirs in (
        ("removal_effect", "removal_effect"),
        ("credit_share", "share"),
        ("conversions", "attributed_conversions"),
    ):
        assert chain[ours].to_dict() == pytest.approx(expected["markov_order1"][theirs], rel=1e-6)
    assert paths["conversions_n"].sum() / (paths["conversions_n"] + paths["nulls_n"]).sum() == pytest.approx(
        expected["markov_order1"]["base_conversion_probability"]
    )
