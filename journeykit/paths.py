"""Paths: what follows what, what comes first, second, third, and which ways are taken how often."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from journeykit import engine, errors, stats
from journeykit.funnels import OTHER
from journeykit.path_grid import ENDED, Window, names, positions
from journeykit.sequences import Integers
from journeykit.walks import SUMS, WIDTH, Piece, added, by_people, coded, runs, shares, tally, walks, whole

__all__ = ["ENDED", "OTHER", "REST", "coverage", "step_matrix", "strongest", "transitions", "variants"]

REST = "(all other paths)"
ARROW = " → "

_GAPS = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9}
_TRANSITIONS = ["from", "to", "n", "people_n", "share", "share_low", "share_high", *(f"{q}_seconds" for q in _GAPS)]
_MATRIX = ["position", "value", "n", "people_n", "share", "share_low", "share_high"]
_VARIANTS = ["variant", "paths_n", "n", "people_n", "share", "share_low", "share_high", "cumulative_share"]
_CONVERTED = ["finished_n", "converted_n", "converted_share", "converted_share_low", "converted_share_high"]
_COVERAGE = ["paths_n", "paths_share", "n", "covered_n", "covered_share"]
_RANKS = [k * 10**power for power in range(8) for k in (1, 2, 5)]  # tops that coverage is told for: 1, 2, 5, 10 …
_PERCENT = (0.01, 0.05, 0.1, 0.5, 1)  # of the different paths
_DENSE = 2_000_000  # people times values, up to which each pair of them has a place of its own
_COVERED = (0.5, 0.8, 0.95)  # of all: how many paths that takes


def transitions(
    touches: Any, *, on: str = "event", within: str = "session", collapse: bool = False, min_n: int = 1
) -> pd.DataFrame:
    """Count which value directly follows which, in the same person, session or journey, and after how long.

    Consecutive pairs in the total order. Events without a value of `on` are left out first, so the pair closes over
    them. A value that follows itself counts, unless `collapse` makes one of such a run, at its first event. `share` is
    of all pairs that leave `from`; its 95 % interval takes people, not pairs, as independent (`stats.clustered`).
    Rivals: an interval over pairs, far too narrow where few people make many; pairs of values that follow at any
    distance. The times are of these pairs only: how long those waited who never went on is not in them.

    Requires `person_id`, the unit of `within` (person, session or journey), `on`, `time_us` or `timestamp` (UTC), and
    `position` or the columns of the total order. One row per pair, most frequent first: n pairs, `people_n` different
    people, share of leaving `from`, quartiles and 90th percentile of the seconds between the two. Pairs of fewer than
    `min_n` people are left out; they stay in the denominators. `attrs`: `pairs_n` and `edges_n`, all pairs and how
    many different ones, `left_out_n` pairs left out, `again_n` pairs of a value with itself.

    >>> from tests.conftest import make_log
    >>> transitions(make_log("u1: ad visit visit"))[["from", "to", "n"]].values.tolist()
    [['ad', 'visit', 1], ['visit', 'visit', 1]]
    """
    with engine.scratch():
        rows, values, order = coded(touches, on, within, "transitions", ["time_us"])
        work = partial(_follow, collapse=collapse)
        pairs = engine.in_order(rows, by="person_id", order=["unit", *order], work=work)
        found = engine.fetch(added(pairs.filter(nw.col("gap_us").is_null()).drop("gap_us"), ["before", "after"]))
        quantiles = {f"{name}_seconds": nw.col("gap_us").quantile(q, "linear") for name, q in _GAPS.items()}
        times = pairs.filter(~nw.col("gap_us").is_null()).group_by("before", "after").agg(**quantiles)
        found = found.astype("int64").merge(engine.fetch(times), on=["before", "after"], how="left")
    leaving = found[found["after"] < 0].set_index("before")[["n", "people_n", "kk"]]
    found = found[found["after"] >= 0]
    if found.empty:
        return stats.not_enough(_TRANSITIONS, "no two events follow each other (n = 0)")
    found = found.sort_values(["n", "before", "after"], ascending=[False, True, True])
    facts = {"pairs_n": int(found["n"].sum()), "edges_n": len(found)}
    facts["again_n"] = int(found.loc[found["before"] == found["after"], "n"].sum())
    table = found[found["people_n"] >= min_n].reset_index(drop=True)
    if table.empty:
        return stats.not_enough(_TRANSITIONS, f"not enough data (no pair has at least {min_n} people)")
    text = np.array(values, dtype=object)
    ends = {"from": text[table["before"]], "to": text[table["after"]]}
    of = leaving.loc[table["before"]]
    seconds = {f"{name}_seconds": table[f"{name}_seconds"].astype(float) / 1e6 for name in _GAPS}
    table = table.assign(**ends, **shares("share", table, of), **seconds)[_TRANSITIONS]
    table.attrs |= facts | {"left_out_n": facts["pairs_n"] - int(table["n"].sum())}
    return table


def _follow(table: pa.Table, first: int, *, collapse: bool) -> pa.Table:
    """Return a row for each pair with its time, and rows of counts: of each pair, and of leaving each value."""
    new, turns = runs(table)
    kept = np.flatnonzero(turns) if collapse else np.arange(len(new))
    code, time, who = (table[name].to_numpy()[kept].astype(np.int64) for name in ("code", "time_us", "person_id"))
    same = ~new[kept][1:]
    before, after, gap = code[:-1][same], code[1:][same], (time[1:] - time[:-1])[same]
    # A person's pairs that leave one value are alike: they are what is drawn.
    person = np.cumsum(np.append(False, who[1:] != who[:-1])[: len(who)]).astype(np.int64)[1:][same]
    values_n = int(code.max(initial=0)) + 1
    drawn = person * values_n + before
    if (person.max(initial=0) + 1) * values_n > _DENSE:
        known, drawn = np.unique(drawn, return_inverse=True)
        sizes, left = np.bincount(drawn), known % values_n
    else:
        sizes = np.bincount(drawn)
        left = np.arange(len(sizes)) % values_n
    leaving = {name: np.zeros(values_n, dtype=np.int64) for name in SUMS}
    for name, summed in (("n", sizes), ("people_n", (sizes > 0).astype(np.int64)), ("kk", sizes * sizes)):
        np.add.at(leaving[name], left, summed)
    none = np.full(values_n, -1, dtype=np.int64)
    counts = [tally({"before": before, "after": after}, drawn, sizes)]
    counts.append(pa.table({"before": np.arange(values_n), "after": none, **leaving}))
    sums = pa.concat_tables(counts)
    times = pa.table({"before": before, "after": after, "gap_us": gap})
    return pa.concat_tables([times, sums], promote_options="default")


def strongest(table: pd.DataFrame, *, top: int = 3) -> pd.DataFrame:
    """Keep the `top` most frequent transitions that leave each value, and say how much they cover.

    Requires the table of `transitions`. The same rows and columns, fewer of them; `attrs` adds `shown_edges_n` and
    `shown_share`, the share of all pairs (also of those that few people make) that the rows shown are.

    >>> from tests.conftest import make_log
    >>> kept = strongest(transitions(make_log("u1: a b a b a c"), within="person"), top=1)
    >>> kept[["from", "to"]].values.tolist(), kept.attrs["shown_share"]
    ([['a', 'b'], ['b', 'a']], 0.8)
    """
    kept = table[table.groupby("from").cumcount() < top].reset_index(drop=True)
    kept.attrs = dict(table.attrs)
    if len(kept):
        kept.attrs |= {"shown_edges_n": len(kept), "shown_share": float(kept["n"].sum() / table.attrs["pairs_n"])}
    return kept


def step_matrix(
    touches: Any,
    *,
    on: str = "event",
    within: str = "session",
    steps: int = 8,
    top: int = 10,
    collapse: bool = False,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count what people do first, second, third…, out of all units, with those who have ended.

    Requires the columns of `transitions` (no time), or `walks.Walks`. One row per position and value: the `top` values
    that are most frequent in the first `steps` positions, then "(other)", then "(ended)" (no further event); n units
    and their shares sum to all at each position. `people_n` different people; the interval (95 %) takes people as
    independent. Cells of fewer than `min_n` people are counted in "(other)".
    """
    with engine.scratch():
        ways = walks(touches, on=on, within=within, collapse=collapse)
        table, _ = positions(ways, Window(after=steps), top=top, min_n=min_n)
    return table if len(table) else stats.not_enough(_MATRIX, "not enough data (n = 0)")


def variants(
    touches: Any,
    *,
    on: str = "touchpoint",
    within: str = "journey",
    journeys: Any = None,
    top: int = 15,
    length: int = 12,
    collapse: bool = True,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count the paths that units take, as text such as "Ad → Browse → Cart".

    With `collapse`, a value that follows itself counts once. Only the first `length` values are compared; a longer
    path ends with "…". Requires the columns of `transitions` (no time), or `walks.Walks`. One row per path, most
    frequent first, and a last row for all others (`paths_n` says how many different ones), so that n sums to the number
    of units and shares to 1. The intervals (95 %) take people as independent. Paths of fewer than `min_n` people are
    in the last row, which has no number of people and no interval: it is what remains.

    With `journeys` (columns `journey_id`, `outcome`; not used unless `within` is "journey", the unit that has an
    outcome): of the journeys that are over (`finished_n`: converted or abandoned) the number and share that converted;
    empty where fewer than `min_n` are over. Open journeys are left out of that share. A path that shows the converting
    touchpoint itself converts by definition: choose a `length` before it.

    >>> from tests.conftest import make_log
    >>> variants(make_log("u1: ad visit visit buy | u2: ad visit buy"))["variant"].tolist()
    ['ad → visit → buy']
    """
    journeys = journeys if within == "journey" else None
    columns = _VARIANTS if journeys is None else [*_VARIANTS, *_CONVERTED]
    with engine.scratch():
        counts, text = _paths(touches, on, within, length, collapse, journeys)
        best = counts.filter(nw.col("whole") == 0).sort("n", "path", descending=[True, False]).head(top)
        found, everything = engine.fetch(best), engine.fetch(counts.filter(nw.col("whole") == 1))
        different = int(engine.fetch(counts.select(n=nw.len()))["n"].iloc[0]) - 1
    if found.empty:
        return stats.not_enough(columns, "not enough data (n = 0)")
    sums = [name for name in found.columns if name not in ("whole", "path")]
    found[sums], everything[sums] = found[sums].astype("int64"), everything[sums].astype("int64")
    n = int(everything["n"].iloc[0])
    found = found.assign(variant=[_text(path, text) for path in found["path"]], paths_n=1)
    table = found[found["people_n"] >= min_n].sort_values(["n", "variant"], ascending=[False, True], ignore_index=True)
    if table.empty:
        reason = f"no path is taken by at least {min_n} people (n = {n}, {different} different paths)"
        return stats.not_enough(columns, reason)
    table = table.assign(**shares("share", table, everything))
    if journeys is not None:
        part, of = (table[[f"{kind}_{name}" for name in SUMS]].set_axis(SUMS, axis=1) for kind in ("won", "over"))
        table = table.assign(finished_n=of["n"], converted_n=part["n"], **shares("converted_share", part, of))
    rest: dict[str, Any] = {"variant": REST, "paths_n": different - len(table), "n": n - int(table["n"].sum())}
    rest["share"] = rest["n"] / n
    if journeys is not None:
        over, won = (int(everything[f"{kind}_n"].iloc[0]) for kind in ("over", "won"))
        rest |= {"finished_n": over - table["finished_n"].sum(), "converted_n": won - table["converted_n"].sum()}
        rest["converted_share"] = rest["converted_n"] / rest["finished_n"] if rest["finished_n"] else np.nan
    if rest["n"]:
        table = pd.concat([table, pd.DataFrame([rest])], ignore_index=True)
    table = table.assign(cumulative_share=table["n"].cumsum() / n)
    if journeys is not None:
        told = [name for name in _CONVERTED if name != "finished_n"]
        table[told] = table[told].where(table["finished_n"] >= min_n)
    return table[columns]


def coverage(
    touches: Any, *, on: str = "touchpoint", within: str = "journey", length: int = 12, collapse: bool = True
) -> pd.DataFrame:
    """Tell how much of all units the most frequent paths cover: the top 1, 2, 5, 10 … and the tops that cover half.

    Paths as in `variants`, but no path is named, so none is left out. One row per top: `paths_n` paths,
    `paths_share` of all different ones, `n` all units, `covered_n` and `covered_share` of them on those paths. Among
    the rows are 1, 5, 10, 50 and 100 % of the paths, and the fewest paths that cover 50, 80 and 95 %. There is no
    interval: the tops are chosen on the units that they cover, so that other units would be covered less.

    >>> from tests.conftest import make_log
    >>> coverage(make_log("u1: a b | u2: a b | u3: a"))[["paths_n", "covered_n"]].values.tolist()
    [[1, 2], [2, 3]]
    """
    with engine.scratch():
        counts, _ = _paths(touches, on, within, length, collapse, None)
        found = counts.filter(nw.col("whole") == 0).group_by("n").agg(paths_n=nw.len())
        sizes = engine.fetch(found).astype("int64").sort_values("n", ascending=False, ignore_index=True)
    if sizes.empty:
        return stats.not_enough(_COVERAGE, "not enough data (n = 0)")
    paths, units = sizes["paths_n"].cumsum(), (sizes["n"] * sizes["paths_n"]).cumsum()
    different, n = int(paths.iloc[-1]), int(units.iloc[-1])

    def covered(rank: int) -> int:
        at = int(np.searchsorted(paths, rank))
        return int(units[at] - (paths[at] - rank) * sizes.loc[at, "n"])

    tops = {rank for rank in _RANKS if rank <= different} | {math.ceil(share * different) for share in _PERCENT}
    for share in _COVERED:
        at = int(np.searchsorted(units, share * n))
        tops.add(int(paths[at] - (units[at] - math.ceil(share * n)) // sizes.loc[at, "n"]))
    table = pd.DataFrame({"paths_n": sorted(tops)})
    table = table.assign(paths_share=table["paths_n"] / different, n=n, covered_n=[covered(k) for k in sorted(tops)])
    return table.assign(covered_share=table["covered_n"] / n)[_COVERAGE]


def _paths(
    touches: Any, on: str, within: str, length: int, collapse: bool, journeys: Any
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Count the different paths (`path` in bytes, `whole` 0) and all (`whole` 1); also the texts of their numbers."""
    if length < 1:
        raise errors.JourneyError(f"variants: length = {length}. Compare one value at least.")
    ways = walks(touches, on=on, within=within, collapse=collapse)
    table = ways.table
    if journeys is not None:
        outcomes = _outcomes(journeys, table).rename({"journey_id": "unit"})
        table = table.join(outcomes, on="unit", how="left")
    work = partial(_count_paths, length=length, outcome=journeys is not None)
    return engine.keep(added(by_people(table, work), ["whole", "path"]), "paths"), names(ways)


def _count_paths(piece: Piece, *, length: int, outcome: bool) -> pa.Table:
    codes = piece.table["codes"].cast(pa.binary())
    longer = pc.greater(piece.table["length"], length)
    more = pc.if_else(longer, pa.scalar(b"\1"), pa.scalar(b""))
    path = pc.binary_join_element_wise(pc.binary_slice(codes, 0, length * WIDTH), more, pa.scalar(b"", pa.binary()))
    known = pa.concat_arrays(path.chunks or [pa.array([], pa.binary())]).dictionary_encode()
    path, person = known.indices.to_numpy().astype(np.int64), piece.person
    units = np.bincount(person, minlength=int(person.max(initial=-1)) + 1)
    kinds = {"": (np.ones(len(path), dtype=bool), person, units)}
    if outcome:
        over, won = (_is_in(piece.table["outcome"], names) for names in (["converted", "abandoned"], ["converted"]))
        # What is drawn are a person's finished units on one path.
        _, cluster = np.unique(person * (path.max(initial=0) + 1) + path, return_inverse=True)
        finished = np.bincount(cluster, weights=over).astype(np.int64)
        kinds |= {"over_": (over, cluster, finished), "won_": (won, cluster, finished)}
    parts = []
    for kind, (chosen, cluster, sizes) in kinds.items():
        counts = tally(
            {"whole": np.zeros(int(chosen.sum()), dtype=np.int64), "path": path[chosen]}, cluster[chosen], sizes
        )
        every = units if kind == "" else np.array([chosen.sum()])
        for table, texts in ((counts, known.dictionary), (whole({"whole": 1, "path": 0}, every), pa.array([b""]))):
            parts.append(_wide(table.set_column(1, "path", texts.take(table["path"])), kind, kinds))
    return pa.concat_tables(parts)


def _is_in(column: pa.ChunkedArray, wanted: list[str]) -> Any:
    return pc.is_in(column, value_set=pa.array(wanted, pa.string())).to_numpy().astype(bool)


def _wide(table: pa.Table, kind: str, kinds: Iterable[str]) -> pa.Table:
    """Name sums by their kind, and give those of the other kinds as 0, so that one addition serves all."""
    none = pa.array(np.zeros(len(table), dtype=np.int64))
    sums = {f"{name}{column}": table[column] if name == kind else none for name in kinds for column in SUMS}
    return pa.table({"whole": table["whole"], "path": table["path"], **sums})


def _text(path: bytes, text: Sequence[str]) -> str:
    codes: Integers = np.frombuffer(path[: len(path) // WIDTH * WIDTH], dtype=">u4").astype(int)
    return ARROW.join([text[code] for code in codes] + ["…"] * (len(path) % WIDTH))


def _outcomes(journeys: Any, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Return each journey's outcome as text, whatever type an empty column came with."""
    return engine.beside(journeys, rows).select("journey_id", nw.col("outcome").cast(nw.String()))
