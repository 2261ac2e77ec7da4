"""Caps: how many values of an identifier one person may have, kept while identifiers are joined in order of trust."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from journeykit.components import components
from journeykit.config import Identity
from journeykit.durations import limit
from journeykit.graph import Graph, Groups, kept, regroup

MICRO = 1_000_000
OVER = "over its cap"
BEYOND = "would join people beyond a cap"


def capped(graph: Graph, plan: Identity, devices: list[int]) -> Groups:
    """Join the identifiers that are no devices in order of trust, so that nobody has more of one than its cap.

    Identifier by identifier: a value that occurred with one person's more trusted identifiers belongs to that person,
    unless the person has enough of its kind by then (counted from the first, period by period); then it is shared. A
    value that would join several people joins them only where the caps of the more trusted identifiers and the splits
    by hand allow it; else it is shared. Where several values would do so together, none of them joins. Values that
    were merged by hand or in the source count as one. Rival: Segment drops the least trusted identifier of the event
    that would break a limit, so that the result depends on the order of arrival.

    Args:
        graph: tokens, pairs and splits.
        plan: `caps` and the order of trust.
        devices: ranks of the devices, which are left to `graph.solve`.
    """
    ranks = [rank for rank in range(len(plan.identifiers)) if rank not in devices]
    units = _units(graph, ranks)
    pairs = _between(graph, units)
    splits = _between_splits(graph, units)
    caps = {plan.identifiers.index(name): limit(text) for name, text in plan.caps.items()}
    own = units.select("rank", "first_us", node=nw.col("unit")).unique()
    own = own.group_by("node", "rank").agg(first_us=nw.col("first_us").min())
    state = kept(own.filter(nw.col("rank") == ranks[0]).select("node", group=nw.col("node")), "caps_state")
    shared = own.filter(nw.col("rank") < 0).select("node", reason=nw.lit(OVER))
    for rank in ranks[1:]:
        met = pairs.filter(nw.col("right_rank") == rank)
        met = met.join(state.rename({"node": "left"}), on="left", how="inner")
        met = met.group_by("right", "group").agg(known_us=nw.col("known_us").min()).rename({"right": "node"})
        met = kept(_allowed(met, state, splits), "caps_met")
        gone = _over(met, caps[rank]) if rank in caps else shared.head(0)
        met = met.join(gone, on="node", how="anti")
        earlier = {place: cap for place, cap in caps.items() if place < rank}
        beyond = _beyond(met, state, own, earlier, splits)
        met = met.join(beyond, on="node", how="anti")
        shared = kept(nw.concat([shared, gone, beyond]), "caps_shared")
        new = own.filter(nw.col("rank") == rank).join(shared, on="node", how="anti")
        both = nw.concat([state, new.select("node", group=nw.col("node"))])
        state = regroup(both, components(met.select(left=nw.col("node"), right=nw.col("group"))))
    of = units.join(state.rename({"node": "unit"}), on="unit", how="inner").select("node", "group")
    cut = units.join(shared.rename({"node": "unit"}), on="unit", how="inner").select("node", "reason")
    return Groups(kept(of, "caps_of"), kept(cut, "caps_cut"))


def _units(graph: Graph, ranks: list[int]) -> nw.LazyFrame[Any]:
    """Each node with its unit: values of one identifier that were merged count as one."""
    ends = [
        graph.pairs.select(node=nw.col(end), rank=nw.col(f"{end}_rank"), first_us=nw.col("known_us"))
        for end in ("left", "right")
    ]
    seen = nw.concat([graph.tokens.select("node", "rank", "first_us"), *ends]).filter(nw.col("rank").is_in(ranks))
    nodes = seen.group_by("node", "rank").agg(first_us=nw.col("first_us").min())
    merged = components(graph.pairs.filter(nw.col("left_rank") == nw.col("right_rank")))
    joined = nodes.join(merged, on="node", how="left")
    return kept(joined.select("node", "rank", "first_us", unit=nw.coalesce("component", "node")), "caps_units")


def _between(graph: Graph, units: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The pairs of two different identifiers, as units."""
    pairs = graph.pairs.filter(nw.col("left_rank") != nw.col("right_rank"))
    unit = units.select("node", "unit")
    for end in ("left", "right"):
        pairs = pairs.join(unit, left_on=end, right_on="node", how="inner").drop(end).rename({"unit": end})
    return kept(pairs.select("left", "right", "right_rank", "known_us"), "caps_pairs")


def _between_splits(graph: Graph, units: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The splits, as units and in both directions."""
    splits, unit = graph.splits, units.select("node", "unit")
    for end in ("left", "right"):
        splits = splits.join(unit, left_on=end, right_on="node", how="inner").drop(end).rename({"unit": end})
    return kept(nw.concat([splits, splits.select(left=nw.col("right"), right=nw.col("left"))]), "caps_splits")


def _allowed(met: nw.LazyFrame[Any], state: nw.LazyFrame[Any], splits: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Leave out what would bring a value to somebody that it was split from by hand."""
    against = splits.join(state.rename({"node": "right"}), on="right", how="inner")
    against = against.select(node=nw.col("left"), group=nw.col("group")).unique()
    return met.join(against, on=["node", "group"], how="anti")


def _over(met: nw.LazyFrame[Any], cap: tuple[int, int | None]) -> nw.LazyFrame[Any]:
    """The values that somebody had too many of by then: of each period, counted from the first, the earliest stay."""
    most, period = cap
    first = met.group_by("group").agg(start_us=nw.col("known_us").min())
    numbered = met.join(first, on="group", how="inner").with_columns(_one=nw.lit(1))
    since = nw.col("known_us") - nw.col("start_us")
    turn = (since - since % (period * MICRO)) if period else nw.lit(0)
    numbered = numbered.with_columns(_turn=turn)
    placed = numbered.with_columns(
        _place=nw.col("_one").cum_sum().over("group", "_turn", order_by=["known_us", "node"])
    )
    gone = placed.filter(nw.col("_place") > most).select("node").unique()
    return gone.select("node", reason=nw.lit(OVER))


def _beyond(
    met: nw.LazyFrame[Any],
    state: nw.LazyFrame[Any],
    own: nw.LazyFrame[Any],
    caps: dict[int, tuple[int, int | None]],
    splits: nw.LazyFrame[Any],
) -> nw.LazyFrame[Any]:
    """The values that would join people who must not be one, each by itself or several together."""
    joining = met.group_by("node").agg(groups_n=nw.len()).filter(nw.col("groups_n") > 1).select("node")
    met = kept(met.join(joining, on="node", how="semi").select("node", "group"), "caps_joining")
    alone = _broken(met.select("group", key=nw.col("node")), state, own, caps, splits).rename({"key": "node"})
    alone = kept(alone, "caps_alone")
    met = met.join(alone, on="node", how="anti")
    found = components(met.select(left=nw.col("node"), right=nw.col("group")))
    inside = met.join(found, on="node", how="inner").select("node", "group", key=nw.col("component"))
    broken = _broken(inside.select("group", "key").unique(), state, own, caps, splits)
    together = inside.join(broken, on="key", how="semi").select("node").unique()
    return kept(nw.concat([alone, together]).select("node", reason=nw.lit(BEYOND)), "caps_beyond")


def _broken(
    joined: nw.LazyFrame[Any],
    state: nw.LazyFrame[Any],
    own: nw.LazyFrame[Any],
    caps: dict[int, tuple[int, int | None]],
    splits: nw.LazyFrame[Any],
) -> nw.LazyFrame[Any]:
    """The keys whose groups, taken as one person, break a cap or a split."""
    members = kept(joined.join(state, on="group", how="inner").select("key", "node"), "caps_members")
    first = members.join(splits, left_on="node", right_on="left", how="inner").select("key", node=nw.col("right"))
    broken = [first.join(members, on=["key", "node"], how="semi").select("key")]
    for rank, (most, period) in caps.items():
        mine = members.join(own.filter(nw.col("rank") == rank), on="node", how="inner")
        if period is None:
            many = mine.group_by("key").agg(n=nw.len()).filter(nw.col("n") > most)
        else:
            later = nw.col("first_us").shift(-most).over("key", order_by=["first_us", "node"])
            many = mine.with_columns(_later=later).filter(nw.col("_later") - nw.col("first_us") < period * MICRO)
        broken.append(many.select("key"))
    return nw.concat(broken).unique()
