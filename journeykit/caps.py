"""Caps: how many values of an identifier one person may have, kept while identifiers are joined in order of trust."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from journeykit import engine
from journeykit.components import components
from journeykit.config import Identity
from journeykit.durations import limit
from journeykit.graph import BY_HAND, Graph, regroup

MICRO = 1_000_000
OVER = "over its cap"
BEYOND = "would join people beyond a cap or a split"


def capped(graph: Graph, plan: Identity, devices: list[int]) -> tuple[nw.LazyFrame[Any], nw.LazyFrame[Any]]:
    """Join the identifiers that are no devices in order of trust, so that nobody has more of one than its cap.

    Identifier by identifier: a value that occurred with one person's more trusted identifiers belongs to that person,
    unless the person has enough of its kind by then; then it is shared. A value that would join several people joins
    them only where the caps of the more trusted identifiers and the splits by hand allow it; else it is shared. Where
    several values would do so together, none of them joins. Periods are counted from the first value that a person
    has, one after another. What was merged by hand holds whatever the caps say. Values that were merged count as one.
    Rival: Segment drops the least trusted identifier of the event that would break a limit, so that the result depends
    on the order of arrival.

    Args:
        graph: tokens, pairs and splits.
        plan: `caps` and the order of trust.
        devices: ranks of the devices, which are left to `groups.solve`.

    Returns:
        The nodes with their group, and those that are shared with the reason.
    """
    ranks = [rank for rank in range(len(plan.identifiers)) if rank not in devices]
    units = _units(graph, ranks)
    pairs = _between(graph, units)
    splits = _between_splits(graph, units)
    caps = {plan.identifiers.index(name): limit(text) for name, text in plan.caps.items()}
    own = units.group_by(nw.col("unit").alias("node"), "rank").agg(first_us=nw.col("first_us").min())
    own = engine.keep(own, "caps_own")
    state = engine.keep(own.filter(nw.col("rank") == ranks[0]).select("node", group=nw.col("node")), "caps_state")
    shared = own.head(0).select("node", reason=nw.lit(OVER))
    for rank in ranks[1:]:
        met = pairs.filter(nw.col("right_rank") == rank)
        met = met.join(state.rename({"node": "left"}), on="left", how="inner")
        met = met.group_by("right", "group").agg(nw.col("known_us").min(), nw.col("together").min())
        met = engine.keep(_allowed(met.rename({"right": "node"}), state, splits), "caps_met")
        gone = _over(met, own, caps[rank]) if rank in caps else shared.head(0)
        earlier = {place: cap for place, cap in caps.items() if place < rank}
        beyond = _beyond(met.join(gone, on="node", how="anti"), state, own, earlier, splits)
        refused = engine.keep(nw.concat([gone, beyond]), "caps_refused")
        by_hand = met.filter(nw.col("together") == BY_HAND).join(refused, on="node", how="semi")
        met = nw.concat([met.join(refused, on="node", how="anti"), by_hand])
        shared = engine.keep(nw.concat([shared, refused.join(by_hand, on="node", how="anti")]), "caps_shared")
        new = own.filter(nw.col("rank") == rank).join(shared, on="node", how="anti")
        both = nw.concat([state, new.select("node", group=nw.col("node"))])
        state = regroup(both, components(met.select(left=nw.col("node"), right=nw.col("group"))))
    of = units.join(state.rename({"node": "unit"}), on="unit", how="inner").select("node", "group")
    cut = units.join(shared.rename({"node": "unit"}), on="unit", how="inner").select("node", "reason")
    return engine.keep(of, "caps_of"), engine.keep(cut, "caps_cut")


def _units(graph: Graph, ranks: list[int]) -> nw.LazyFrame[Any]:
    """Each node with its unit: values of one identifier that were merged count as one, unless a split parts them."""
    ends = [
        graph.pairs.select(node=nw.col(end), rank=nw.col(f"{end}_rank"), said_us=nw.col("known_us"))
        for end in ("left", "right")
    ]
    said = nw.concat(ends).filter(nw.col("rank").is_in(ranks)).group_by("node", "rank").agg(nw.col("said_us").min())
    seen = graph.tokens.filter(nw.col("rank").is_in(ranks)).select("node", "rank", "first_us")
    unseen = said.join(seen, on="node", how="anti").select("node", "rank", first_us=nw.col("said_us"))
    same = graph.pairs.filter(nw.col("left_rank") == nw.col("right_rank")).select("left", "right", "together")
    merged = components(same)
    ends_of = graph.splits.join(merged, left_on="left", right_on="node", how="inner")
    ends_of = ends_of.join(merged.select("component", right=nw.col("node")), on=["right", "component"], how="semi")
    parted = merged.join(ends_of.select("component").unique(), on="component", how="semi")
    inside = parted.select(left=nw.col("node"))
    by_hand = same.filter(nw.col("together") == BY_HAND)
    merged = components(
        nw.concat([same.join(inside, on="left", how="anti"), by_hand.join(inside, on="left", how="semi")])
    )
    joined = nw.concat([seen, unseen]).join(merged, on="node", how="left")
    return engine.keep(joined.select("node", "rank", "first_us", unit=nw.coalesce("component", "node")), "caps_units")


def _between(graph: Graph, units: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The pairs of two different identifiers, as units."""
    pairs = graph.pairs.filter(nw.col("left_rank") != nw.col("right_rank"))
    unit = units.select("node", "unit")
    for end in ("left", "right"):
        pairs = pairs.join(unit, left_on=end, right_on="node", how="inner").drop(end).rename({"unit": end})
    return engine.keep(pairs.select("left", "right", "right_rank", "known_us", "together"), "caps_pairs")


def _between_splits(graph: Graph, units: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """The splits, as units and in both directions."""
    splits, unit = graph.splits, units.select("node", "unit")
    for end in ("left", "right"):
        splits = splits.join(unit, left_on=end, right_on="node", how="inner").drop(end).rename({"unit": end})
    return engine.keep(nw.concat([splits, splits.select(left=nw.col("right"), right=nw.col("left"))]), "caps_splits")


def _allowed(met: nw.LazyFrame[Any], state: nw.LazyFrame[Any], splits: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Leave out what would bring a value to somebody that it was split from by hand."""
    against = splits.join(state.rename({"node": "right"}), on="right", how="inner")
    against = against.select(node=nw.col("left"), group=nw.col("group")).unique()
    return met.join(against, on=["node", "group"], how="anti")


def _turn(at: str, within: str, period: int | None) -> Any:
    """The period that a time lies in, counted from the first within a key."""
    if period is None:
        return nw.lit(0)
    since = nw.col(at) - nw.col(at).min().over(within)
    return since - since % (period * MICRO)


def _over(met: nw.LazyFrame[Any], own: nw.LazyFrame[Any], cap: tuple[int, int | None]) -> nw.LazyFrame[Any]:
    """The values that somebody had too many of by then: of each period the earliest stay, those by hand first."""
    most, period = cap
    # What was always known counts from when the value was first seen.
    met = met.join(own.select("node", "first_us"), on="node", how="inner")
    met = met.with_columns(at=nw.when(nw.col("known_us") > 0).then(nw.col("known_us")).otherwise(nw.col("first_us")))
    met = met.with_columns(_by_hand=nw.when(nw.col("together") == BY_HAND).then(0).otherwise(1), _one=nw.lit(1))
    met = met.with_columns(_turn=_turn("at", "group", period))
    place = nw.col("_one").cum_sum().over("group", "_turn", order_by=["_by_hand", "at", "node"])
    gone = met.with_columns(_place=place).filter(nw.col("_place") > most).select("node").unique()
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
    met = engine.keep(met.join(joining, on="node", how="semi").select("node", "group"), "caps_joining")
    alone = _broken(met.select("group", key=nw.col("node")), state, own, caps, splits).rename({"key": "node"})
    alone = engine.keep(alone, "caps_alone")
    met = met.join(alone, on="node", how="anti")
    found = components(met.select(left=nw.col("node"), right=nw.col("group")))
    inside = met.join(found, on="node", how="inner").select("node", "group", key=nw.col("component"))
    broken = _broken(inside.select("group", "key").unique(), state, own, caps, splits)
    together = inside.join(broken, on="key", how="semi").select("node").unique()
    return engine.keep(nw.concat([alone, together]).select("node", reason=nw.lit(BEYOND)), "caps_beyond")


def _broken(
    joined: nw.LazyFrame[Any],
    state: nw.LazyFrame[Any],
    own: nw.LazyFrame[Any],
    caps: dict[int, tuple[int, int | None]],
    splits: nw.LazyFrame[Any],
) -> nw.LazyFrame[Any]:
    """The keys whose groups, taken as one person, break a cap or a split."""
    members = engine.keep(joined.join(state, on="group", how="inner").select("key", "node"), "caps_members")
    first = members.join(splits, left_on="node", right_on="left", how="inner").select("key", node=nw.col("right"))
    broken = [first.join(members, on=["key", "node"], how="semi").select("key")]
    for rank, (most, period) in caps.items():
        mine = members.join(own.filter(nw.col("rank") == rank), on="node", how="inner")
        counted = mine.with_columns(_turn=_turn("first_us", "key", period)).group_by("key", "_turn").agg(n=nw.len())
        broken.append(counted.filter(nw.col("n") > most).select("key"))
    return nw.concat(broken).unique()
