"""Paths: by hand, against a slow independent version, and against published figures of a real log."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from journeykit import config, engine, paths
from journeykit.errors import JourneyError
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "ecom_clickstream"


def outcomes(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"journey_id": range(1, len(names) + 1), "outcome": list(names)})


def random_log(seed: int, people: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(people):
        hours = np.sort(rng.integers(0, 5, rng.integers(1, 9)))
        parts.append(f"u{person}: " + " ".join(f"{rng.choice(list('abcd'))}@{hour}h" for hour in hours))
    return make_log(" | ".join(parts))


def sequences(log: pd.DataFrame, unit: str) -> list[list[str]]:
    log = log.sort_values(["timestamp", "source", "source_row", "event_id"])
    return [part["event"].tolist() for _, part in log.groupby(unit)]


def test_transitions_by_hand() -> None:
    log = make_log("u1: a@0h b@1h b@3h ; a@5h | u2: a@0h b@2h | u3: a")
    table = paths.transitions(log)
    assert table[["from", "to", "n", "people_n", "median_seconds"]].values.tolist() == [
        ["a", "b", 2, 2, 5400],
        ["b", "b", 1, 1, 7200],
    ]
    assert table["share"].tolist() == [1, 1]
    person = paths.transitions(log, within="person")
    assert person[["from", "to", "n", "share"]].values.tolist() == [
        ["a", "b", 2, 1.0],
        ["b", "a", 1, 0.5],
        ["b", "b", 1, 0.5],
    ]
    few = paths.transitions(log, within="person", min_n=2)
    assert few[["from", "to"]].values.tolist() == [["a", "b"]]
    assert few.attrs["left_out_n"] == 2


def test_events_without_a_value_are_left_out_first() -> None:
    log = make_log("u1: a x b").assign(touchpoint=["A", None, "B"])
    assert paths.transitions(log, on="touchpoint")[["from", "to"]].values.tolist() == [["A", "B"]]
    assert paths.variants(log)["variant"].tolist() == ["A → B"]


def test_step_matrix_by_hand() -> None:
    table = paths.step_matrix(make_log("u1: a b b | u2: a c | u3: b"), steps=3, top=1)
    assert table[["position", "value", "n"]].values.tolist() == [
        [1, "b", 1],
        [1, paths.OTHER, 2],
        [1, paths.ENDED, 0],
        [2, "b", 1],
        [2, paths.OTHER, 1],
        [2, paths.ENDED, 1],
        [3, "b", 1],
        [3, paths.OTHER, 0],
        [3, paths.ENDED, 2],
    ]
    small = paths.step_matrix(make_log("u1: a b | u2: a c | u3: a c"), steps=2, min_n=2)
    assert small.loc[(small["position"] == 2) & (small["value"] == paths.OTHER), "n"].tolist() == [1]
    assert small.loc[(small["position"] == 2) & (small["value"] == "b"), "n"].tolist() == [0]


@pytest.mark.parametrize("seed", range(4))
def test_against_slow_versions(seed: int) -> None:
    log = random_log(seed)
    known = sequences(log, "journey_id")
    shuffled = log.sample(frac=1, random_state=seed)

    table = paths.transitions(shuffled, within="journey")
    pairs = Counter(pair for path in known for pair in pairwise(path))
    assert {(row["from"], row["to"]): row["n"] for row in table.to_dict("records")} == pairs
    assert table.groupby("from")["share"].sum().to_numpy() == pytest.approx(1)

    matrix = paths.step_matrix(shuffled, within="journey", steps=6, top=3)
    assert matrix.groupby("position")["share"].sum().to_numpy() == pytest.approx(1)
    for row in matrix.to_dict("records"):
        at = [path[row["position"] - 1] if len(path) >= row["position"] else paths.ENDED for path in known]
        if row["value"] != paths.OTHER:
            assert row["n"] == at.count(row["value"])

    ways = paths.variants(shuffled, on="event", length=3, top=50)
    collapsed = [[v for k, v in enumerate(path) if k == 0 or path[k - 1] != v] for path in known]
    texts = Counter(" → ".join(path[:3] + (["…"] if len(path) > 3 else [])) for path in collapsed)
    assert dict(zip(ways["variant"], ways["n"], strict=True)) == texts


def test_variants_by_hand() -> None:
    log = make_log("u1: ad ad buy | u2: ad buy | u3: ad x | u4: ad buy | u5: y")
    journeys = outcomes("converted", "abandoned", "abandoned", "open", "converted")
    table = paths.variants(log, on="event", journeys=journeys, top=1)
    assert table[["variant", "paths_n", "n", "finished_n", "converted_n"]].values.tolist() == [
        ["ad → buy", 1, 3, 2, 1],
        [paths.REST, 2, 2, 2, 1],
    ]
    assert table["share"].tolist() == [0.6, 0.4]
    assert table["cumulative_share"].tolist() == pytest.approx([0.6, 1])
    assert table["converted_share"].tolist() == [0.5, 0.5]
    few = paths.variants(log, on="event", journeys=journeys, min_n=3)
    assert few["converted_share"].isna().all()  # of two that are over, nothing is told
    kept = paths.variants(log, on="event", collapse=False, length=2)
    assert kept[["variant", "n"]].values.tolist()[0] == ["ad → buy", 2]
    assert "ad → ad → …" in kept["variant"].tolist()
    hidden = paths.variants(log, on="event", min_n=2)
    assert hidden["variant"].tolist() == ["ad → buy", paths.REST]
    assert "no path" in paths.variants(log, on="event", min_n=9).attrs["reason"]
    assert "converted_n" not in paths.variants(log, within="session", journeys=journeys)


PLAN = ["ad", "visit | call", "help?", "buy"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("u1: ad visit buy", "on_plan_n"),
        ("u1: ad x call visit buy x", "on_plan_n"),  # repeats and values outside the plan do not matter
        ("u1: ad visit help buy", "on_plan_n"),
        ("u1: ad visit", "stopped_early_n"),
        ("u1: ad visit help", "stopped_early_n"),
        ("u1: ad buy", "skipped_n"),
        ("u1: visit buy", "skipped_n"),
        ("u1: ad visit buy visit", "out_of_order_n"),
        ("u1: ad buy visit", "out_of_order_n"),  # also skipped; counted once
        ("u1: x", "no_step_n"),
    ],
)
def test_plan_share_by_hand(text: str, kind: str) -> None:
    row = paths.plan_share(make_log(text), steps=PLAN, on="event").iloc[0]
    kinds = ["on_plan_n", "stopped_early_n", "skipped_n", "out_of_order_n", "no_step_n"]
    assert {name: row[name] for name in kinds} == {name: int(name == kind) for name in kinds}


def test_open_journeys_are_judged_by_order_alone_and_counted_apart() -> None:
    log = make_log("u1: ad visit buy | u2: ad visit | u3: ad visit | u4: visit ad | u5: ad")
    journeys = outcomes("converted", "abandoned", "open", "open", "open")
    table = paths.plan_share(log, steps=["ad", "visit", "buy"], on="event", journeys=journeys).set_index("group")
    assert table["n"].to_dict() == {"all finished": 2, "converted": 1, "not converted": 1, "open": 3}
    assert table["on_plan_n"].to_dict() == {"all finished": 1, "converted": 1, "not converted": 0, "open": 2}
    assert table.loc["not converted", "stopped_early_n"] == 1
    assert table.loc["open", "out_of_order_n"] == 1
    few = paths.plan_share(log, steps=["ad", "visit", "buy"], on="event", journeys=journeys, min_n=2)
    assert few["group"].tolist() == ["all finished", "open"]


def test_plan_names_a_value_once() -> None:
    with pytest.raises(JourneyError, match="two steps"):
        paths.plan_share(make_log("u1: ad"), steps=["ad", "ad"])


def test_degenerate_input() -> None:
    empty = make_log("u1: ad").head(0)
    assert "n = 0" in paths.transitions(empty).attrs["reason"]
    assert "n = 0" in paths.step_matrix(empty).attrs["reason"]
    assert "n = 0" in paths.variants(empty).attrs["reason"]
    assert "n = 0" in paths.variants(empty, journeys=outcomes()).attrs["reason"]
    assert "n = 0" in paths.plan_share(empty, steps=["a", "b"]).attrs["reason"]
    assert "no plan" in paths.plan_share(empty, steps=[]).attrs["reason"]
    one = make_log("u1: ad")
    assert "n = 0" in paths.transitions(one).attrs["reason"]
    assert "at least 5" in paths.transitions(make_log("u1: ad b"), min_n=5).attrs["reason"]
    nulls = make_log("u1: ad b").assign(touchpoint=None)
    assert "n = 0" in paths.variants(nulls).attrs["reason"]
    with pytest.raises(JourneyError, match="'session'"):
        paths.transitions(one, within="sessions")


def test_engines_agree() -> None:
    log = random_log(9).drop(columns=["marketing_channel", "team"])
    journeys = outcomes(*["converted", "abandoned", "open", "abandoned"] * 3)
    for function, options in (
        (paths.transitions, {}),
        (paths.step_matrix, {}),
        (paths.variants, {"on": "event", "length": 3, "top": 4}),
        (paths.plan_share, {"on": "event", "steps": ["a", "b", "c"]}),
    ):
        expected = function(log, **options)
        assert len(expected)
        relation = engine.connection().from_df(log)
        for frame in (pl.from_pandas(log), relation, engine.lazy(log)):
            pd.testing.assert_frame_equal(function(frame, **options), expected, check_dtype=False)
        if "on" in options:
            expected = function(log, journeys=journeys, **options)
            found = function(pl.from_pandas(log), journeys=pl.from_pandas(journeys), **options)
            pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_choose() -> None:
    plan = config.Plan(steps=["A", "B"])
    study = config.Study.model_construct(plans={"buy": plan})
    assert paths.choose(study) == plan
    assert paths.choose(study, "buy") == plan
    with pytest.raises(JourneyError, match="Did you mean 'buy'"):
        paths.choose(study, "buyy")
    assert paths.choose(config.Study.model_construct(plans={})).steps == []


@pytest.mark.skipif(not REAL.exists(), reason="the shared data is not here")
def test_transitions_of_a_real_log() -> None:
    figures = json.loads((REAL / "expected.json").read_text())["figures"]
    raw = pd.read_csv(REAL / "ecom.csv.gz", parse_dates=["timestamp"])
    rows = np.arange(len(raw))
    log = raw.assign(
        event_id=[f"{row:06d}" for row in rows],
        source="ecom",
        source_row=rows,
        person_id=pd.factorize(raw["user_id"])[0],
        session_id=pd.factorize(raw["session_id"])[0],
    )
    table = paths.transitions(log)
    assert table["n"].sum() == figures["transitions_total"]["value"]
    assert len(table) == figures["transitions_distinct"]["value"]
    top = figures["transitions_in_session_top25"]["value"]
    assert {f"{row['from']} -> {row['to']}": row["n"] for row in table.head(25).to_dict("records")} == top


def test_the_heat_map_has_no_blank_rows() -> None:
    from journeykit.plots import paths as plots

    table = paths.transitions(make_log("u1: ad visit buy | u2: ad buy | u3: ad visit"), within="person")
    labels = [label.get_text() for label in plots.transitions(table).get_yticklabels()]
    assert sorted(labels) == ["ad", "visit"]  # nothing follows buy
