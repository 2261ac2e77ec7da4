"""Which identifiers belong together: what occurred on one event or was declared elsewhere, solved by a policy.

A node is an identifier's value: its place in the order of trust and its token, such as `"0:3f2a…"`. A *shared* node is
one that joins nobody, because several people use it (a tablet at a counter) or because it would join more than a cap
allows (an e-mail address of the call centre).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, count
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine
from journeykit.components import components
from journeykit.config import Identity

# How two identifiers came together, the surest first; `people` names the surest of each identifier.
TOGETHER = ("merged by hand", "merged in the source", "profile", "declared together", "similar profile")
BY_HAND = TOGETHER.index("merged by hand")
SAID_SO = TOGETHER.index("merged in the source")  # up to here somebody said that the two are one
SPLIT = "split by hand"

_turn = count()


@dataclass(frozen=True)
class Graph:
    """Identifiers and what joins them."""

    tokens: nw.LazyFrame[Any]  # node, rank, id_token, first_us, first_at, last_at, events_n
    pairs: nw.LazyFrame[Any]  # left, right, left_rank, right_rank (left_rank <= right_rank), known_us, together
    splits: nw.LazyFrame[Any]  # left, right: never one person


@dataclass(frozen=True)
class Groups:
    """Who each node belongs to."""

    of: nw.LazyFrame[Any]  # node, group: the nodes that belong to one person at all times
    shared: nw.LazyFrame[Any]  # node, reason: the others
    apart: nw.LazyFrame[Any]  # node, group: split by hand


def node(rank: int, token: nw.Expr) -> nw.Expr:
    """Return the node of a token of the identifier at a place in the order of trust."""
    return nw.concat_str(nw.lit(f"{rank}:"), token)


def kept(frame: nw.LazyFrame[Any], name: str) -> nw.LazyFrame[Any]:
    """Compute a table once, under a name of its own, so that two graphs can live side by side."""
    return engine.materialise(frame, f"{name}_{next(_turn)}")


def moved(frame: nw.LazyFrame[Any], table: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Return a table on the engine of another, by way of memory where that is a different one."""
    if frame.implementation == table.implementation:
        return frame
    return engine.beside(frame.collect("pyarrow"), table)


def build(seen: nw.LazyFrame[Any], names: list[str], declared: Any = None, as_of_us: int | None = None) -> Graph:
    """Return the graph of a study.

    Args:
        seen: one row per combination of tokens that occurred on one event: `id_<name>` for each name, first_us
            (microseconds), first_at, last_at, events_n.
        names: identifiers, in order of trust.
        declared: the table `links`, or None.
        as_of_us: only what was known by then joins (microseconds since 1970).
    """
    parts = [
        seen.filter(~nw.col(f"id_{name}").is_null())
        .group_by(nw.col(f"id_{name}").alias("id_token"))
        .agg(
            first_us=nw.col("first_us").min(),
            first_at=nw.col("first_at").min(),
            last_at=nw.col("last_at").max(),
            events_n=nw.col("events_n").sum(),
        )
        .select(
            "id_token", "first_us", "first_at", "last_at", "events_n",
            node=node(rank, nw.col("id_token")), rank=nw.lit(rank),
        )
        for rank, name in enumerate(names)
    ]  # fmt: skip
    tokens = kept(nw.concat(parts), "identity_tokens")
    met = [
        seen.filter(~nw.col(f"id_{left}").is_null(), ~nw.col(f"id_{right}").is_null()).select(
            left=node(i, nw.col(f"id_{left}")),
            right=node(j, nw.col(f"id_{right}")),
            left_rank=nw.lit(i),
            right_rank=nw.lit(j),
            known_us=nw.col("first_us"),
            together=nw.lit(TOGETHER.index("declared together")),
        )
        for (i, left), (j, right) in combinations(enumerate(names), 2)
    ]
    said, splits = _declared(declared, names, tokens)
    pairs = nw.concat([*met, said]) if met else said
    if as_of_us is not None:
        pairs = pairs.filter(nw.col("known_us") <= as_of_us)
    pairs = pairs.group_by("left", "right", "left_rank", "right_rank").agg(
        known_us=nw.col("known_us").min(), together=nw.col("together").min()
    )
    return Graph(tokens, kept(pairs, "identity_pairs"), splits)


def _declared(links: Any, names: list[str], beside: nw.LazyFrame[Any]) -> tuple[nw.LazyFrame[Any], nw.LazyFrame[Any]]:
    """The rows of `links` as pairs and as splits, each from the more trusted identifier to the other."""
    columns = ["left_name", "left_token", "right_name", "right_token", "known_at", "rule"]
    table = pd.DataFrame(columns=columns) if links is None else engine.fetch(engine.lazy(links).select(*columns))
    rank = {name: place for place, name in enumerate(names)}
    rows = []
    for left_name, left, right_name, right, known_at, rule in table.to_numpy(dtype=object).tolist():
        ends = sorted([(rank[left_name], left), (rank[right_name], right)])
        known = 0 if pd.isna(known_at) else int(pd.Timestamp(known_at).value // 1000)
        rows.append((*(f"{place}:{token}" for place, token in ends), ends[0][0], ends[1][0], known, rule))
    made = pd.DataFrame(rows, columns=["left", "right", "left_rank", "right_rank", "known_us", "rule"])
    made = made.astype({"left_rank": "int32", "right_rank": "int32", "known_us": "int64"})
    made = made.astype(dict.fromkeys(("left", "right", "rule"), "string[pyarrow]"))
    is_split = made["rule"] == SPLIT
    pairs = made[~is_split]
    pairs = pairs.assign(together=pairs["rule"].map({rule: i for i, rule in enumerate(TOGETHER)}).astype("int32"))
    return (
        engine.beside(pairs.drop(columns="rule"), beside),
        engine.beside(made.loc[is_split, ["left", "right"]], beside),
    )


def solve(graph: Graph, plan: Identity) -> Groups:
    """Return who each node belongs to under the plan's policy.

    `none`: each node by itself. `graph`: connected components of everything, which knows no split. Otherwise the
    identifiers that are no devices are solved first (by `graph_strict` within the caps), and a device belongs to the
    one person who signed in on it; with more people it is shared. Only `graph_strict` also follows two devices on one
    event. What was merged by hand holds in any case.
    """
    from journeykit.caps import capped  # it needs this module

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
    if caps or not _is_empty(graph.splits):
        of, cut = capped(graph, plan.model_copy(update={"caps": caps}), devices)
    else:
        of, cut = regroup(personal, components(inner)), nobody
    return _with_devices(graph, of, cut, plan, devices)


def regroup(nodes: nw.LazyFrame[Any], found: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Replace each node's group by the component that the group is in, if it is in one."""
    joined = nodes.join(found.rename({"node": "group"}), on="group", how="left")
    return kept(joined.select("node", group=nw.coalesce("component", "group")), "identity_groups")


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
    seen = kept(seen.group_by("node", "group").agg(together=nw.col("together").min()), "identity_seen")
    given = seen.filter(nw.col("together") == BY_HAND)  # whose it is was said by hand: others only borrow it
    seen = kept(nw.concat([given, seen.join(given, on="node", how="anti")]).select("node", "group"), "identity_seen")
    owners = seen.group_by("node").agg(owners_n=nw.len())
    splits = nw.concat([graph.splits, graph.splits.select(left=nw.col("right"), right=nw.col("left"))])
    own = graph.tokens.filter(nw.col("rank").is_in(devices)).select("node")
    split = splits.select(node=nw.col("left")).unique().join(own, on="node", how="semi")
    split = split.select("node", reason=nw.lit(SPLIT))
    shared = owners.filter(nw.col("owners_n") > 1).select("node", reason=nw.lit("shared device"))
    shared = kept(nw.concat([split, shared.join(split, on="node", how="anti")]), "identity_shared")
    own = own.join(shared, on="node", how="anti").select("node", group=nw.col("node"))
    seen = seen.join(shared, on="node", how="anti")
    followed = len(TOGETHER) if plan.policy == "graph_strict" else SAID_SO
    chained = graph.pairs.filter(left, right, nw.col("together") <= followed).select("left", "right")
    for end in ("left", "right"):
        chained = chained.join(shared, left_on=end, right_on="node", how="anti")
    if not _is_empty(chained):
        chained = _without_bridges(kept(chained, "identity_chained"), seen)
        found = components(nw.concat([seen.select(left=nw.col("node"), right=nw.col("group")), chained]))
        everyone = regroup(nw.concat([personal, own]), found)
    else:  # each device has one owner or none
        owned = own.join(seen.rename({"group": "owner"}), on="node", how="left")
        everyone = nw.concat([personal, owned.select("node", group=nw.coalesce("owner", "group"))])
    everyone = kept(everyone, "identity_everyone")
    apart = splits.join(everyone, left_on="right", right_on="node", how="inner").select("group", node=nw.col("left"))
    return Groups(everyone, kept(nw.concat([cut, shared]), "identity_shared"), apart.select("node", "group").unique())


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


def _is_empty(table: nw.LazyFrame[Any]) -> bool:
    return engine.fetch(table.head(1)).empty
