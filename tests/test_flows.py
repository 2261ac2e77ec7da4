"""Anchored paths and flows: by hand, against a slow version, and that every place sums to all."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journeykit import engine, flows, path_anchors, paths, stats
from journeykit.errors import JourneyError
from journeykit.path_grid import NOT_BEGUN, WITHOUT
from journeykit.walks import walks
from tests import slow_paths
from tests.conftest import make_log

LOG = "u1: ad cart buy ship | u2: cart | u3: ad ad | u4: cart help cart buy"


def at(table: pd.DataFrame, position: int) -> dict[str, int]:
    rows = table[(table["position"] == position) & (table["n"] > 0)]
    return dict(zip(rows["value"], rows["n"], strict=True))


def test_forward_by_hand() -> None:
    table = path_anchors.around(make_log(LOG), "cart", after=2, within="person", top=9)
    assert at(table, 0) == {"cart": 3, WITHOUT: 1}
    assert at(table, 1) == {"buy": 1, "help": 1, paths.ENDED: 1, WITHOUT: 1}
    assert at(table, 2) == {"cart": 1, "ship": 1, paths.ENDED: 1, WITHOUT: 1}
    assert NOT_BEGUN not in set(table["value"])
    share = table[(table["position"] == 1) & (table["value"] == "buy")].iloc[0]
    assert share[["share", "share_low", "share_high"]].tolist() == [0.25, *stats.wilson(1, 4)]
    assert table.attrs == {"anchor": "cart", "units_n": 4}


def test_backward_and_through_by_hand() -> None:
    back = path_anchors.around(make_log(LOG), "buy", before=2, after=0, within="person", top=9)
    assert at(back, -1) == {"cart": 2, WITHOUT: 2}
    assert at(back, -2) == {"ad": 1, "help": 1, WITHOUT: 2}
    assert paths.ENDED not in set(back["value"])
    through = path_anchors.around(make_log(LOG), "cart", before=1, after=1, within="person", occurrence="last", top=9)
    assert at(through, -1) == {"ad": 1, "help": 1, NOT_BEGUN: 1, WITHOUT: 1}
    assert at(through, 1) == {"buy": 2, paths.ENDED: 1, WITHOUT: 1}


def test_any_occurrence_counts_each_time() -> None:
    table = path_anchors.around(make_log(LOG), "cart", after=1, within="person", occurrence="any", top=9)
    assert at(table, 0) == {"cart": 4}
    assert at(table, 1) == {"buy": 2, "help": 1, paths.ENDED: 1}
    row = table[(table["position"] == 0) & (table["value"] == "cart")].iloc[0]
    assert (row["people_n"], row["share"], table.attrs["units_n"]) == (3, 1, 4)


def test_an_anchor_may_be_one_of_several() -> None:
    table = path_anchors.around(make_log(LOG), "help | buy", before=1, after=0, within="person", top=9)
    assert at(table, 0) == {"buy": 1, "help": 1, WITHOUT: 2}
    assert at(table, -1) == {"cart": 2, WITHOUT: 2}


def test_the_rest_is_always_shown() -> None:
    table = path_anchors.around(make_log(LOG), "cart", before=1, after=2, within="person", top=1)
    assert table.groupby("position")["n"].sum().tolist() == [4] * 4
    assert at(table, 1) == {paths.OTHER: 2, paths.ENDED: 1, WITHOUT: 1}
    few = path_anchors.around(make_log(LOG), "cart", after=1, within="person", min_n=2)
    assert at(few, 1) == {paths.OTHER: 2, paths.ENDED: 1, WITHOUT: 1}
    assert few.loc[few["value"] == paths.OTHER, "people_n"].tolist() == [0, 2]


def test_ways_by_hand() -> None:
    table = path_anchors.ways(make_log(LOG), "cart", before=1, after=2, within="person", top=2)
    assert table[["way", "ways_n", "n"]].values.tolist() == [
        ["(not begun) → [cart] → help → cart", 1, 1],
        ["ad → [cart] → buy → ship", 1, 1],
        [paths.REST, 1, 1],
        [WITHOUT, 0, 1],
    ]
    assert table["share"].tolist() == [0.25] * 4
    assert table["share_low"].isna().tolist() == [False, False, True, False]
    forward = path_anchors.ways(make_log(LOG), "ad", after=1, within="person", collapse=False)
    assert forward["way"].tolist() == ["[ad] → ad", "[ad] → cart", WITHOUT]
    assert path_anchors.ways(make_log(LOG), "ad", after=1, within="person")["way"].tolist()[0] == "[ad] → (ended)"
    every = path_anchors.ways(make_log(LOG), "cart", after=1, within="person", occurrence="any")
    assert every[["way", "n"]].values.tolist() == [["[cart] → buy", 2], ["[cart] → (ended)", 1], ["[cart] → help", 1]]
    assert "no way" in path_anchors.ways(make_log(LOG), "cart", after=1, within="person", min_n=2).attrs["reason"]


def test_flow_by_hand() -> None:
    table = flows.flow(make_log("u1: a b | u2: a c | u3: a b | u4: b"), steps=3, top=1)
    assert table[["position", "source", "target", "n"]].values.tolist() == [
        [1, "a", "b", 2],
        [1, "(other)", "(ended)", 1],
        [1, "a", "(other)", 1],
        [2, "b", "(ended)", 2],
        [2, "(ended)", "(ended)", 1],
        [2, "(other)", "(ended)", 1],
    ]
    assert table.loc[0, ["people_n", "share", "share_low", "share_high"]].tolist() == [2, 0.5, *stats.wilson(2, 4)]
    assert table.attrs == {"values": ["a", "b", "(ended)", "(other)"], "units_n": 4, "within": "session", "anchor": ""}
    assert flows.nodes(table).values.tolist() == [
        [1, "a", 3, 0.75],
        [1, "(other)", 1, 0.25],
        [2, "b", 2, 0.5],
        [2, "(ended)", 1, 0.25],
        [2, "(other)", 1, 0.25],
        [3, "(ended)", 4, 1],
    ]


def test_links_of_few_people_are_one_row_a_place() -> None:
    table = flows.flow(make_log("u1: a b | u2: a b | u3: a c | u4: a d ; a d"), steps=2, min_n=2)
    assert table[["source", "target", "n"]].values.tolist() == [["a", "(other)", 3], ["a", "b", 2]]
    mixed = flows.flow(make_log("u1: a b | u2: a b | u3: c b | u4: c d | u5: a d"), steps=2, min_n=2)
    assert mixed[["source", "target", "n"]].values.tolist() == [["a", "b", 2], [flows.FEW, flows.FEW, 3]]
    assert mixed["share"].sum() == pytest.approx(1)
    assert mixed["people_n"].isna().tolist() == [False, True]
    assert "no link" in flows.flow(make_log("u1: a b"), steps=2, min_n=2).attrs["reason"]


def test_anchored_flow_by_hand() -> None:
    table = flows.flow(make_log(LOG), anchor="cart", before=1, after=1, within="person")
    assert table[["position", "source", "target", "n"]].values.tolist() == [
        [-1, NOT_BEGUN, "cart", 2],
        [-1, WITHOUT, WITHOUT, 1],
        [-1, "ad", "cart", 1],
        [0, WITHOUT, WITHOUT, 1],
        [0, "cart", paths.ENDED, 1],
        [0, "cart", "buy", 1],
        [0, "cart", "help", 1],
    ]


sequence = st.lists(st.sampled_from("abc"), min_size=1, max_size=6)


@settings(max_examples=7, deadline=None)
@given(
    st.lists(st.lists(sequence, min_size=1, max_size=2), min_size=1, max_size=7),
    st.sampled_from(["a", "a | b"]),
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_against_a_slow_version(people: list[list[list[str]]], anchor: str, before: int, after: int, top: int) -> None:
    log = make_log(" | ".join("u: " + " ; ".join(" ".join(visit) for visit in visits) for visits in people))
    known, whose = slow_paths.sequences(log, "session_id"), slow_paths.people(log, "session_id")
    ways = walks(log.sample(frac=1, random_state=len(log)))
    wanted = {part.strip() for part in anchor.split("|")}
    for occurrence in ("first", "last", "any"):
        options = {"before": before, "after": after, "occurrence": occurrence}
        rows, persons = [], []
        for unit, values in known.items():
            found = slow_paths.rows_around(values, wanted, before, after, occurrence)
            rows, persons = rows + found, persons + [whose[unit]] * len(found)
        if not any(wanted & set(values) for values in known.values()):
            assert "nobody" in path_anchors.around(ways, anchor, **options).attrs["reason"]
            continue
        cells = slow_paths.cells(rows)
        table = path_anchors.around(ways, anchor, **options, top=top)
        assert table.groupby("position")["n"].sum().tolist() == [len(rows)] * (before + after + 1)
        for row in table[table["value"] != paths.OTHER].to_dict("records"):
            assert row["n"] == cells[row["position"] + before, row["value"]]
            who = {p for cell, p in zip(rows, persons, strict=True) if cell[row["position"] + before] == row["value"]}
            assert row["people_n"] == len(who)
        linked = flows.flow(ways, anchor=anchor, **options, top=99)
        found_links = {
            (row["position"] + before, row["source"], row["target"]): row["n"] for row in linked.to_dict("records")
        }
        assert found_links == slow_paths.links(rows)
        shown = flows.nodes(flows.flow(ways, anchor=anchor, **options, top=top))
        assert shown.groupby("position")["n"].sum().tolist() == [len(rows)] * (before + after + 1)
        paths_found = path_anchors.ways(ways, anchor, **options, collapse=False, top=999)
        assert paths_found["n"].sum() == len(rows)
        assert sorted(paths_found["n"]) == sorted(Counter(map(tuple, rows)).values())


def test_what_flows_in_flows_out() -> None:
    log = make_log(" | ".join("u: " + " ".join("abcd"[(k * j) % 4] for j in range(1, 2 + k % 6)) for k in range(40)))
    table = flows.flow(log, steps=5, top=2, within="person")
    for position in range(2, 5):
        flows_in = table[table["position"] == position - 1].groupby("target")["n"].sum()
        flows_out = table[table["position"] == position].groupby("source")["n"].sum()
        assert flows_in.to_dict() == flows_out.to_dict()


def test_no_event_is_named() -> None:
    assert "set the parameter anchor" in path_anchors.around(make_log(LOG), "").attrs["reason"]
    assert "set the parameter anchor" in path_anchors.ways(make_log(LOG), " ").attrs["reason"]


def test_hostile_input() -> None:
    empty, one = make_log("u1: a").head(0), make_log("u1: a")
    assert "n = 0" in flows.flow(empty).attrs["reason"]
    assert "n = 0" in flows.nodes(flows.flow(empty)).attrs["reason"]
    for function in (path_anchors.around, path_anchors.ways):
        assert "nobody has a" in function(empty, "a").attrs["reason"]
        assert "nobody has zz" in function(one, "zz").attrs["reason"]
        with pytest.raises(JourneyError, match="Did you mean 'first'"):
            function(one, "a", occurrence="frist")
        with pytest.raises(JourneyError, match="one place at least"):
            function(one, "a", before=0, after=0)
    assert "fewer than 2 people" in path_anchors.around(one, "a", min_n=2).attrs["reason"]
    assert "nobody has zz" in flows.flow(one, anchor="zz").attrs["reason"]
    assert flows.flow(one, steps=2)[["source", "target", "n"]].values.tolist() == [["a", paths.ENDED, 1]]


def test_engines_agree() -> None:
    log = make_log("u1: a b a ; a c | u2: b a | u3: c a b c").drop(columns=["marketing_channel", "team"])
    for function, options in (
        (flows.flow, {"top": 2}),
        (flows.flow, {"anchor": "b", "before": 1}),
        (path_anchors.around, {"anchor": "b", "before": 1}),
        (path_anchors.ways, {"anchor": "b", "before": 1}),
    ):
        expected = function(log, **options)
        assert len(expected)
        for frame in (pl.from_pandas(log), engine.connection().from_df(log), log.drop(columns="position")):
            pd.testing.assert_frame_equal(function(frame, **options), expected, check_dtype=False)
