"""Who belongs together: the graph of identifiers, solved by a policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw

from journeykit import engine
from journeykit.caps import capped
from journeykit.components import components
from journeykit.config import Identity
from journeykit.graph import BY_HAND, SAID_SO, SPLIT, TOGETHER, Graph, regroup


@dataclass(frozen=True)
class Groups:
    """Who each node belongs to."""

    of: nw.LazyFrame[Any]  # node, group: the nodes that belong to one person at all times
    shared: nw.LazyFrame[Any]  # node, reason: the others
    apart: nw.LazyFrame[Any]  # node, group: split by hand


def solve(graph: Graph, plan: Identity) -> Groups:
    """Return who each node belongs to under the plan's policy.

    `none`: each node by itself. `graph`: connected components of everything, which knows no split. Otherwise the
    identifiers that are no devices are solved first (by `graph_strict` within the caps), and a device belongs to the
    one person who signed in on it; with more people it is shared. Only `graph_strict` also follows two devices on one
    event. What was merged by hand holds in any case.
    """
    nodes = graph.tokens.select("node", group=nw.col("node"))
    nobody = graph.splits.head(0).select(node=nw.col("left"), reason=nw.col("right"))
    apart = nobody.rename({"reason": "group"})
    if plan.policy == "none":
        return Groups(nodes, nobody, apart)
    if plan.policy == "graph":
        return Groups(regroup(nodes, components(graph.pairs)), nobody, apart)
    devices = [plan.identifiers.index(name) for name in plan.devices]
    inner = graph.pairs.filter(~nw.col("left_rank").is_in(devices), ~nw.col("right_rank").is_in(devices))
    personal = graph.tokens.filter(~nw.col("rank").is_in(devices)).select("node", group=nw.col("node"))
    caps = plan.caps if plan.policy == "graph_strict" else {}
    if caps or not engine.is_empty(graph.splits):
        of, cut = capped(graph, plan.model_copy(update={"caps": caps}), devices)
    else:
        of, cut = regroup(personal, components(inner)), nobody
    return _with_devices(graph, of, cut, plan, devices)


def _with_devices(
    graph: Graph, personal: nw.LazyFrame[Any], cut: nw.LazyFrame[Any], plan: Identity, devices: list[int]
) -> Groups:
    left, right = nw.col("left_rank").is_in(devices), nw.col("right_rank").is_in(devices)
    met = graph.pairs.filter(left != right)
    met = met.select(
        "together",
        node=nw.when(left).then(nw.col("left")).otherwise(nw.col("right")),
        person=nw.when(left).then(nw.col("right")).otherwise(nw.col("left")),
    )
    seen = met.join(personal.rename({"node": "person"}), on="person", how="inner")
    seen = engine.keep(seen.group_by("node", "group").agg(together=nw.col("together").min()), "identity_seen")
    given = seen.filter(nw.col("together") == BY_HAND)  # whose it is was said by hand: others only borrow it
    seen = engine.keep(
        nw.concat([given, seen.join(given, on="node", how="anti")]).select("node", "group"), "identity_seen"
    )
    owners = seen.group_by("node").agg(owners_n=nw.len())
    splits = nw.concat([graph.splits, graph.splits.select(left=nw.col("right"), right=nw.col("left"))])
    own = graph.tokens.filter(nw.col("rank").is_in(devices)).select("node")
    split = splits.select(node=nw.col("left")).unique().join(own, on="node", how="semi")
    split = split.select("node", reason=nw.lit(SPLIT))
    shared = owners.filter(nw.col("owners_n") > 1).select("node", reason=nw.lit("shared device"))
    shared = engine.keep(nw.concat([split, shared.join(split, on="node", how="anti")]), "identity_shared")
    own = own.join(shared, on="node", how="anti").select("node", group=nw.col("node"))
    seen = seen.join(shared, on="node", how="anti")
    followed = len(TOGETHER) if plan.policy == "graph_strict" else SAID_SO
    chained = graph.pairs.filter(left, right, nw.col("together") <= followed).select("left", "right")
    for end in ("left", "right"):
        chained = chained.join(shared, left_on=end, right_on="node", how="anti")
    if not engine.is_empty(chained):
        chained = _without_bridges(engine.keep(chained, "identity_chained"), seen)
        found = components(nw.concat([seen.select(left=nw.col("node"), right=nw.col("group")), chained]))
        everyone = regroup(nw.concat([personal, own]), found)
    else:  # each device has one owner or none
        owned = own.join(seen.rename({"group": "owner"}), on="node", how="left")
        everyone = nw.concat([personal, owned.select("node", group=nw.coalesce("owner", "group"))])
    everyone = engine.keep(everyone, "identity_everyone")
    apart = splits.join(everyone, left_on="right", right_on="node", how="inner").select("group", node=nw.col("left"))
    return Groups(
        everyone, engine.keep(nw.concat([cut, shared]), "identity_shared"), apart.select("node", "group").unique()
    )


def _without_bridges(chained: nw.LazyFrame[Any], seen: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Drop links between two devices where they would join people: a device alone never merges anybody.

    Two devices seen on one event stay linked as long as no more than one person signed in on either.
    """
    found = components(nw.concat([seen.select(left=nw.col("node"), right=nw.col("group")), chained]))
    people = seen.select(node=nw.col("group")).unique()
    crowded = (
        found.join(people, on="node", how="semi")
        .group_by("component")
        .agg(people_n=nw.len())
        .filter(nw.col("people_n") > 1)
    )
    inside = found.join(crowded, on="component", how="semi").select(left=nw.col("node"))
    return chained.join(inside, on="left", how="anti")
