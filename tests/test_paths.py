"""Paths: by hand, against a slow independent version, and against published figures of a real log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from journeykit import engine, paths, stats, strips
from journeykit.errors import JourneyError
from journeykit.walks import Walks, walks
from tests import slow_paths
from tests.conftest import make_log

REAL = Path(__file__).parents[2] / "shared" / "data" / "ecom_clickstream"


def outcomes(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"journey_id": range(1, len(names) + 1), "outcome": list(names)})


def random_log(seed: int, people: int = 12) -> pd.DataFrame:
    """A log with ties, and with one or two sessions a person."""
    rng = np.random.default_rng(seed)
    parts = []
    for person in range(people):
        visits = []
        for visit in range(rng.integers(1, 3)):
            hours = visit * 10 + np.sort(rng.integers(0, 5, rng.integers(1, 9)))
            visits.append(" ".join(f"{rng.choice(list('abcd'))}@{hour}h" for hour in hours))
        parts.append(f"u{person}: " + " ; ".join(visits))
    return make_log(" | ".join(parts))


def share_of(counts: dict[int, int], sizes: dict[int, int]) -> tuple[float, float, float]:
    """Return a share and its interval over people from their counts and sizes, added up one by one."""
    k, n, m = sum(counts.values()), sum(sizes.values()), len(sizes)
    kk = sum(count**2 for count in counts.values())
    kn = sum(count * sizes[person] for person, count in counts.items())
    return k / n, *stats.clustered(k, n, kk, kn, sum(size**2 for size in sizes.values()), m)


def test_transitions_by_hand() -> None:
    log = make_log("u1: a@0h b@1h b@3h ; a@5h | u2: a@0h b@2h | u3: a")
    table = paths.transitions(log)
    assert table[["from", "to", "n", "people_n", "median_seconds"]].values.tolist() == [
        ["a", "b", 2, 2, 5400],
        ["b", "b", 1, 1, 7200],
    ]
    assert table.loc[0, ["p25_seconds", "p75_seconds", "p90_seconds"]].tolist() == [4500, 6300, 6840]
    assert table["share"].tolist() == [1, 1]
    person = paths.transitions(log, within="person")
    assert person[["from", "to", "n", "share"]].values.tolist() == [
        ["a", "b", 2, 1.0],
        ["b", "a", 1, 0.5],
        ["b", "b", 1, 0.5],
    ]
    assert person.attrs == {"pairs_n": 4, "edges_n": 3, "again_n": 1, "left_out_n": 0}
    few = paths.transitions(log, within="person", min_n=2)
    assert few[["from", "to"]].values.tolist() == [["a", "b"]]
    assert few.attrs == {"pairs_n": 4, "edges_n": 3, "again_n": 1, "left_out_n": 2}


def test_collapsed_transitions_go_from_run_to_run() -> None:
    log = make_log("u1: a@0h a@1h b@3h b@4h b@5h a@9h | u2: a@0h a@1h")
    table = paths.transitions(log, within="person", collapse=True)
    assert table[["from", "to", "n", "median_seconds"]].values.tolist() == [["a", "b", 1, 10800], ["b", "a", 1, 21600]]
    assert table.attrs["again_n"] == 0
    assert "no two events" in paths.transitions(make_log("u1: a a a"), collapse=True).attrs["reason"]


def test_one_busy_person_is_no_evidence() -> None:
    # One person goes to and fro 200 times; three others leave a once each, to c.
    log = make_log("u1: " + "a b " * 200 + "| u2: a c | u3: a c | u4: a c")
    table = paths.transitions(log, within="person").set_index(["from", "to"])
    low, high = table.loc[("a", "b"), ["share_low", "share_high"]]
    wide_low, wide_high = stats.wilson(200, 203)
    assert table.loc[("a", "b"), "share"] == 200 / 203
    assert (low, high) == pytest.approx(share_of({1: 200}, {1: 200, 2: 1, 3: 1, 4: 1})[1:])
    assert low < 0.8 < 0.95 < wide_low
    assert wide_high <= high


def test_strongest_edges_say_what_they_cover() -> None:
    table = paths.transitions(make_log("u1: a b a c a b d b"), within="person")
    kept = paths.strongest(table, top=1)
    assert kept[["from", "to", "n"]].values.tolist() == [["a", "b", 2], ["b", "a", 1], ["c", "a", 1], ["d", "b", 1]]
    assert (kept.attrs["shown_edges_n"], kept.attrs["edges_n"], kept.attrs["shown_share"]) == (4, 6, 5 / 7)
    assert "shown_share" not in table.attrs
    everything = paths.strongest(table, top=9)
    assert everything.attrs["shown_share"] == 1


def test_events_without_a_value_are_left_out_first() -> None:
    log = make_log("u1: a x b").assign(touchpoint=["A", None, "B"])
    assert paths.transitions(log, on="touchpoint")[["from", "to"]].values.tolist() == [["A", "B"]]
    assert paths.variants(log)["variant"].tolist() == ["A → B"]


def test_collapsing_keeps_how_many_events_it_took() -> None:
    log = make_log("u1: a a b b b a | u2: b")
    found = engine.fetch(walks(log, within="person", collapse=True).table)
    assert found[["length", "events_n"]].values.tolist() == [[3, 6], [1, 1]]
    assert [len(codes) for codes in found["codes"]] == [12, 4]


def test_interleaved_sessions_are_apart() -> None:
    # Sessions of one person that were open at the same time, as those with an identifier may be.
    log = make_log("u1: a x b y").assign(session_id=[1, 2, 1, 2])
    assert paths.transitions(log)[["from", "to"]].values.tolist() == [["a", "b"], ["x", "y"]]
    assert paths.variants(log, within="session")["variant"].tolist() == ["a → b", "x → y"]


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
    # Few people, not few sessions, are what is not shown.
    sessions = paths.step_matrix(make_log("u1: a ; a ; a | u2: b | u3: b"), steps=1, min_n=2).set_index("value")
    assert sessions["n"].to_dict() == {"a": 0, "b": 2, paths.OTHER: 3, paths.ENDED: 0}
    assert sessions["people_n"].to_dict() == {"a": 0, "b": 2, paths.OTHER: 1, paths.ENDED: 0}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("unit", ["session", "person"])
def test_against_slow_versions(seed: int, unit: str) -> None:
    log = random_log(seed)
    known = slow_paths.sequences(log, f"{unit}_id")
    whose = slow_paths.people(log, f"{unit}_id")
    units_of = Counter(whose[key] for key in known)
    shuffled = log.sample(frac=1, random_state=seed)

    table = paths.transitions(shuffled, within=unit)
    by_person: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
    leaving: dict[str, Counter[int]] = defaultdict(Counter)
    for key, path in known.items():
        for before, after in pairwise(path):
            by_person[before, after][whose[key]] += 1
            leaving[before][whose[key]] += 1
    assert len(table) == len(by_person)
    for row in table.to_dict("records"):
        counts = by_person[row["from"], row["to"]]
        assert (row["n"], row["people_n"]) == (counts.total(), len(counts))
        expected = share_of(counts, leaving[row["from"]])
        assert [row[name] for name in ("share", "share_low", "share_high")] == pytest.approx(list(expected))
    assert table.groupby("from")["share"].sum().to_numpy() == pytest.approx(1)
    seconds = log.sort_values(slow_paths.ORDER).assign(
        before=lambda t: t.groupby(f"{unit}_id")["event"].shift(),
        gap=lambda t: t.groupby(f"{unit}_id")["timestamp"].diff().dt.total_seconds(),
    )
    gaps = {pair: part["gap"].to_numpy() for pair, part in seconds.groupby(["before", "event"])}
    for row in table.to_dict("records"):
        found = [row[f"{name}_seconds"] for name in ("p25", "median", "p75", "p90")]
        assert found == pytest.approx(np.quantile(gaps[row["from"], row["to"]], [0.25, 0.5, 0.75, 0.9]).tolist())

    matrix = paths.step_matrix(shuffled, within=unit, steps=6, top=3)
    assert matrix.groupby("position")["share"].sum().to_numpy() == pytest.approx(1)
    for position, cells in matrix.groupby("position"):
        at = {key: path[position - 1] if len(path) >= position else paths.ENDED for key, path in known.items()}
        shown = set(cells["value"])
        for row in cells.to_dict("records"):
            wanted = {row["value"]} if row["value"] != paths.OTHER else set(at.values()) - shown
            counts = Counter(whose[key] for key, value in at.items() if value in wanted)
            assert (row["n"], row["people_n"]) == (counts.total(), len(counts))
            expected = share_of(counts, units_of)
            assert [row[name] for name in ("share", "share_low", "share_high")] == pytest.approx(list(expected))

    ways = paths.variants(shuffled, on="event", within=unit, length=3, top=100)
    once = {key: slow_paths.collapsed(path) for key, path in known.items()}
    texts = {key: " → ".join(path[:3] + (["…"] if len(path) > 3 else [])) for key, path in once.items()}
    assert dict(zip(ways["variant"], ways["n"], strict=True)) == Counter(texts.values())
    for row in ways.to_dict("records"):
        expected = share_of(Counter(whose[key] for key, text in texts.items() if text == row["variant"]), units_of)
        assert [row[name] for name in ("share", "share_low", "share_high")] == pytest.approx(list(expected))

    covered = paths.coverage(shuffled, on="event", within=unit, length=3)
    sizes = sorted(Counter(texts.values()).values(), reverse=True)
    assert covered["covered_n"].tolist() == [sum(sizes[:k]) for k in covered["paths_n"]]
    assert covered["paths_n"].iloc[-1] == len(sizes)
    for share in (0.5, 0.8, 0.95):
        fewest = next(k for k in range(1, len(sizes) + 1) if sum(sizes[:k]) >= share * len(known))
        assert fewest in covered["paths_n"].tolist()


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
    assert table.loc[0, ["converted_share_low", "converted_share_high"]].tolist() == [*stats.wilson(1, 2)]
    few = paths.variants(log, on="event", journeys=journeys, min_n=3)
    assert few["converted_share"].isna().all()  # of two that are over, nothing is told
    kept = paths.variants(log, on="event", collapse=False, length=2)
    assert kept[["variant", "n"]].values.tolist()[0] == ["ad → buy", 2]
    assert "ad → ad → …" in kept["variant"].tolist()
    hidden = paths.variants(log, on="event", min_n=2)
    assert hidden["variant"].tolist() == ["ad → buy", paths.REST]
    assert "no path" in paths.variants(log, on="event", min_n=9).attrs["reason"]
    assert "converted_n" not in paths.variants(log, within="session", journeys=journeys)
    with pytest.raises(JourneyError, match="length = 0"):
        paths.variants(log, length=0)


def test_converted_share_of_a_path_takes_people_as_independent() -> None:
    # One person on the path five times, always converting; five others once each, never.
    text = "u1: " + " ; ".join(["ad buy"] * 5) + " | " + " | ".join(f"u{k}: ad buy" for k in range(5))
    journeys = outcomes(*["converted"] * 5, *["abandoned"] * 4, "open")
    row = paths.variants(make_log(text), on="event", journeys=journeys).iloc[0]
    assert (row["n"], row["people_n"], row["finished_n"], row["converted_n"]) == (10, 6, 9, 5)
    expected = share_of({1: 5}, {1: 5, 2: 1, 3: 1, 4: 1, 5: 1})
    assert [row[f"converted_share{end}"] for end in ("", "_low", "_high")] == pytest.approx(list(expected))


def test_coverage_by_hand() -> None:
    log = make_log("u1: a | u2: a | u3: a | u4: b | u5: c")
    table = paths.coverage(log, on="event")
    assert table.values.tolist() == [[1, 1 / 3, 5, 3, 0.6], [2, 2 / 3, 5, 4, 0.8], [3, 1, 5, 5, 1]]
    same = paths.coverage(make_log("u1: a b c | u2: a b d"), on="event", length=2)
    assert same[["paths_n", "covered_share"]].values.tolist() == [[1, 1]]


def test_a_long_way_needs_no_more_room() -> None:
    log = make_log("u1: " + "a b " * 1500 + "| u2: a")
    table = paths.variants(log, on="event", within="person", length=2999)
    assert table["n"].tolist() == [1, 1]
    assert sorted(table["variant"].str.count("→") + 1) == [1, 3000]  # 2,999 values and "…"


def test_degenerate_input() -> None:
    empty = make_log("u1: ad").head(0)
    for function in (paths.transitions, paths.step_matrix, paths.variants, paths.coverage):
        assert "n = 0" in function(empty, within="journey").attrs["reason"]
    assert "n = 0" in paths.variants(empty, journeys=outcomes()).attrs["reason"]
    assert len(paths.strongest(paths.transitions(empty))) == 0
    one = make_log("u1: ad")
    assert "n = 0" in paths.transitions(one).attrs["reason"]
    assert "at least 5" in paths.transitions(make_log("u1: ad b"), min_n=5).attrs["reason"]
    nulls = make_log("u1: ad b").assign(touchpoint=None)
    assert "n = 0" in paths.variants(nulls).attrs["reason"]
    assert "n = 0" in paths.step_matrix(make_log("u1: a").assign(session_id=None)).attrs["reason"]
    special = paths.step_matrix(make_log("u1: a b").assign(event=[paths.ENDED, paths.OTHER]), steps=2)
    assert special["value"].tolist()[:4] == ["“(ended)”", "“(other)”", paths.OTHER, paths.ENDED]
    with pytest.raises(JourneyError, match="'session'"):
        paths.transitions(one, within="sessions")
    with pytest.raises(JourneyError, match="column 'touchpoint' is missing"):
        paths.variants(one.drop(columns="touchpoint"))


def test_engines_agree() -> None:
    log = random_log(9).drop(columns=["marketing_channel", "team"])
    names = ["converted", "abandoned", "open", "abandoned"]
    journeys = outcomes(*(names[k % 4] for k in range(log["journey_id"].max())))
    for function, options in (
        (paths.transitions, {}),
        (paths.step_matrix, {"top": 2}),
        (paths.variants, {"on": "event", "length": 3, "top": 4}),
        (paths.coverage, {"on": "event", "length": 3}),
        (strips.strips, {}),
    ):
        expected = function(log, **options)
        assert len(expected)
        relation = engine.connection().from_df(log)
        frames = [pl.from_pandas(log), relation, engine.lazy(log)]
        # Without `position`, the total order orders.
        for frame in [*frames, log.drop(columns="position").sample(frac=1, random_state=1)]:
            pd.testing.assert_frame_equal(function(frame, **options), expected, check_dtype=False)
    expected = paths.variants(log, on="event", length=3, journeys=journeys)
    found = paths.variants(pl.from_pandas(log), on="event", length=3, journeys=pl.from_pandas(journeys))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_walks_serve_every_question() -> None:
    log = random_log(3)
    made = walks(log, within="journey")
    assert isinstance(made, Walks)
    pd.testing.assert_frame_equal(paths.step_matrix(made, within="journey"), paths.step_matrix(log, within="journey"))
    pd.testing.assert_frame_equal(
        paths.variants(made, on="event", collapse=False), paths.variants(log, on="event", collapse=False)
    )
    with pytest.raises(JourneyError, match="asked for"):
        paths.variants(made, on="event")


@pytest.mark.parametrize("size", [1, 4, 9])
def test_small_pieces_of_people_change_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from journeykit import flows, path_anchors, path_compare, patterns
    from journeykit import walks as module

    log = random_log(5, people=20)
    names = ["converted", "abandoned", "open", "abandoned", "converted"]
    journeys = outcomes(*(names[k % 5] for k in range(log["journey_id"].max())))
    groups = path_compare.by_outcome(journeys)

    def answers() -> list[pd.DataFrame]:
        return [
            paths.step_matrix(log, top=2, steps=4),
            paths.variants(log, on="event", length=2, journeys=journeys),
            paths.coverage(log, on="event", length=2),
            patterns.share(log, ["a -> b", "start -> [^c]* -> exit"]),
            path_anchors.around(log, "a", before=2, after=2, top=2),
            path_anchors.ways(log, "a", before=1, after=2, top=5),
            path_anchors.ways(log, "a | b", after=1, occurrence="any"),
            flows.flow(log, top=2),
            flows.flow(log, anchor="b", before=1, after=1),
            path_compare.compare(log, groups, within="journey", goal="d", steps=2, min_n=1),
        ]

    at_once = answers()
    monkeypatch.setattr(module, "PIECE", size)
    for found, expected in zip(answers(), at_once, strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_many_values_are_counted_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(6, people=20)
    expected = paths.transitions(log)
    monkeypatch.setattr(paths, "_DENSE", 0)
    pd.testing.assert_frame_equal(paths.transitions(log), expected)


def test_large_keys_are_counted_as_small_ones() -> None:
    from journeykit.walks import tally

    rng = np.random.default_rng(1)
    person, key = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    sizes = np.bincount(person)
    small, large = (tally({"a": key * by, "b": key % 2}, person, sizes).to_pandas() for by in (1, 2**61))
    pd.testing.assert_frame_equal(large.assign(a=large["a"] // 2**61), small)


# ── Strips ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_strips_by_hand() -> None:
    log = make_log("u1: a@0h b@25m c@47h | u2: a | u3: a b | u4: a b c d")
    journeys = outcomes("converted", "abandoned", "abandoned", "open")
    table = strips.strips(log, journeys, on="event", longest=3)
    assert table.groupby("strip")[["outcome", "touches_n"]].first().values.tolist() == [
        ["converted", 3],
        ["abandoned", 1],
        ["abandoned", 2],
        ["open", 4],
    ]
    assert table.loc[table["strip"] == 1, ["number", "value"]].values.tolist() == [[1, "a"], [2, "b"], [3, "c"]]
    assert table.loc[table["strip"] == 1, "hours"].tolist() == pytest.approx([0, 25 / 60, 47])
    assert table["number"].max() == 3
    assert table.attrs["values"] == ["a", "b", "c"]
    assert table.attrs["units_n"] == 4
    few = strips.strips(log, journeys, on="event", min_n=2)
    assert few["outcome"].unique().tolist() == ["abandoned"]
    rare = strips.strips(log, within="person", on="event", min_n=3)
    assert set(rare["value"]) == {"a", "b", strips.RARE}
    assert rare.attrs["values"] == ["a", "b", strips.RARE]


def test_strips_are_drawn_from_all_lengths_and_outcomes() -> None:
    text = " | ".join("u: " + " ".join(["a"] * (1 + k % 10)) for k in range(600))
    journeys = outcomes(*(["converted"] * 300 + ["abandoned"] * 250 + ["open"] * 50))
    first = strips.strips(make_log(text), journeys, on="event", strips_n=30)
    sizes = first.groupby("strip")[["outcome", "touches_n"]].first()
    assert sizes["outcome"].value_counts().to_dict() == {"converted": 10, "abandoned": 10, "open": 10}
    assert sizes["touches_n"].tolist() == [*range(1, 11)] * 3  # as often as they are there
    log = make_log(text).assign(event=lambda t: "v" + t["person_id"].astype(str))
    drawn = [tuple(strips.strips(log, journeys, on="event", seed=seed)["value"].unique()) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_strips_tell_no_id_and_no_date() -> None:
    log = make_log("u1: a@5h b@31h | u2: a@7h b@33h").assign(person_id=lambda t: t["person_id"] + 777_000)
    table = strips.strips(log, within="person")
    assert list(table.columns) == ["strip", "outcome", "number", "value", "hours", "touches_n"]
    later = log.assign(timestamp=log["timestamp"] + pd.Timedelta("17d"))
    pd.testing.assert_frame_equal(strips.strips(later, within="person"), table)
    assert "777" not in table.to_csv() + str(table.attrs)
    assert "n = 0" in strips.strips(log.head(0)).attrs["reason"]


# ── A real log ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    # From position to position, and along each link: the same sessions.
    from journeykit import flows

    made = walks(log)
    linked = flows.nodes(flows.flow(made, steps=4, top=99)).set_index(["position", "value"])["n"]
    matrix = paths.step_matrix(made, steps=4, top=99).set_index(["position", "value"])["n"]
    assert linked.sort_index().to_dict() == matrix[matrix > 0].sort_index().to_dict()
    assert linked.groupby("position").sum().tolist() == [figures["sessions"]["value"]] * 4


def test_the_goal_of_strips_is_told_apart_however_rare() -> None:
    log = make_log("u1: ad ad page page page buy | u2: ad page page")
    assert strips.strips(log, within="person").attrs["values"] == ["page", "ad", "buy"]
    assert strips.strips(log, within="person", goal="buy | refund").attrs["values"] == ["buy", "page", "ad"]
