"""Which identifiers belong together: what occurred on one event or was declared elsewhere, as a graph.

A node is an identifier's value: its place in the order of trust and its token, such as `"0:3f2a…"`. A *shared* node is
one that joins nobody, because several people use it (a tablet at a counter) or because it would join more than a cap
allows (an e-mail address of the call centre).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine

# How two identifiers came together, the surest first; `people` names the surest of each identifier.
TOGETHER = ("merged by hand", "merged in the source", "profile", "declared together", "similar profile")
BY_HAND = TOGETHER.index("merged by hand")
SAID_SO = TOGETHER.index("merged in the source")  # up to here somebody said that the two are one
SPLIT = "split by hand"


@dataclass(frozen=True)
class Graph:
    """Identifiers and what joins them."""

    tokens: nw.LazyFrame[Any]  # node, rank, id_token, first_us, first_at, last_at, events_n
    pairs: nw.LazyFrame[Any]  # left, right, left_rank, right_rank (left_rank <= right_rank), known_us, together
    splits: nw.LazyFrame[Any]  # left, right: never one person


def node(rank: int, token: nw.Expr) -> nw.Expr:
    """Return the node of a token of the identifier at a place in the order of trust."""
    return nw.concat_str(nw.lit(f"{rank}:"), token)


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
    tokens = engine.keep(nw.concat(parts), "identity_tokens")
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
    return Graph(tokens, engine.keep(pairs, "identity_pairs"), splits)


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


def regroup(nodes: nw.LazyFrame[Any], found: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Replace each node's group by the component that the group is in, if it is in one."""
    joined = nodes.join(found.rename({"node": "group"}), on="group", how="left")
    return engine.keep(joined.select("node", group=nw.coalesce("component", "group")), "identity_groups")
