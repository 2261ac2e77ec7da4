"""Connected components: which nodes of a graph hang together, by scipy or, where it is large, in the engine."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from journeykit import engine

# Links that scipy solves in memory, about 100 bytes each; more are solved in the engine, which spills. Measured at 10
# million events: 3 % of them are links, scipy takes a second.
LIMIT = 20_000_000


def components(links: Any, *, limit: int = LIMIT) -> nw.LazyFrame[Any]:
    """Return the component of each node that has a link: the smallest node of its connected component.

    Chosen over union-find in Python (slow) and recursive SQL (minutes on long chains). Up to `limit` links scipy's
    csgraph solves them from Arrow; above it, alternating large-star and small-star rounds in the engine (Kiveris et
    al. 2014). Both give the same result.

    Args:
        links: needs `left` and `right`, text; direction and repeats do not matter.
        limit: number of links above which the engine solves.

    Returns:
        One row per node: node, component.

    >>> import pandas as pd
    >>> links = pd.DataFrame({"left": ["b", "c", "x"], "right": ["a", "b", "y"]})
    >>> for most in (10, 0):
    ...     found = engine.fetch(components(links, limit=most).sort("node"))
    ...     print(dict(zip(found["node"], found["component"])))
    {'a': 'a', 'b': 'a', 'c': 'a', 'x': 'x', 'y': 'x'}
    {'a': 'a', 'b': 'a', 'c': 'a', 'x': 'x', 'y': 'x'}
    """
    table = engine.keep(
        engine.lazy(links).select("left", "right").filter(nw.col("left") != nw.col("right")).unique(), "components"
    )
    n = int(engine.fetch(table.select(n=nw.len()))["n"].iloc[0])
    return _in_memory(table) if n <= limit else _in_engine(table)


def _in_memory(links: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    pairs = links.collect("pyarrow").to_arrow()
    ends = pa.chunked_array([*pairs["left"].chunks, *pairs["right"].chunks], pa.string()).combine_chunks()
    coded = ends.dictionary_encode()
    codes, n = coded.indices.to_numpy(), len(coded.dictionary)
    half = len(codes) // 2
    matrix = coo_matrix((np.ones(half, dtype="int8"), (codes[:half], codes[half:])), shape=(n, n))
    label = connected_components(matrix, directed=False)[1] if n else np.zeros(0, dtype="int32")
    known = engine.beside(pa.table({"node": coded.dictionary, "label": pa.array(label, pa.int64())}), links)
    least = known.group_by("label").agg(component=nw.col("node").min())
    return engine.keep(known.join(least, on="label", how="inner").select("node", "component"), "components")


def _in_engine(links: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Alternate the two rounds until every node hangs directly on the smallest of its component."""
    pairs = engine.keep(_downwards(links), "components")
    while not _is_starred(pairs):
        pairs = engine.keep(_small_star(engine.keep(_large_star(pairs), "components")), "components")
    roots = pairs.select(node=nw.col("right"), component=nw.col("right")).unique()
    return engine.keep(nw.concat([pairs.select(node=nw.col("left"), component=nw.col("right")), roots]), "components")


def _downwards(links: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Each link once, from the larger node to the smaller one."""
    swap = nw.col("left") < nw.col("right")
    return links.select(
        left=nw.when(swap).then(nw.col("right")).otherwise(nw.col("left")),
        right=nw.when(swap).then(nw.col("left")).otherwise(nw.col("right")),
    ).unique()


def _large_star(pairs: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Hang every larger neighbour of a node on the smallest of the node and its neighbours."""
    both = nw.concat([pairs, pairs.select(left=nw.col("right"), right=nw.col("left"))])
    least = both.group_by("left").agg(least=nw.col("right").min())
    joined = both.join(least, on="left", how="inner").with_columns(
        least=nw.when(nw.col("least") < nw.col("left")).then(nw.col("least")).otherwise(nw.col("left"))
    )
    return joined.filter(nw.col("right") > nw.col("left")).select(left=nw.col("right"), right=nw.col("least")).unique()


def _small_star(pairs: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Hang a node and its smaller neighbours on the smallest of them."""
    least = pairs.group_by("left").agg(least=nw.col("right").min())
    beside = pairs.join(least, on="left", how="inner").select(left=nw.col("right"), right=nw.col("least"))
    hung = nw.concat([beside, least.select("left", right=nw.col("least"))])
    return hung.filter(nw.col("left") != nw.col("right")).unique()


def _is_starred(pairs: nw.LazyFrame[Any]) -> bool:
    """Whether no node hangs on two, and none that others hang on hangs itself."""
    found = engine.fetch(pairs.select(n=nw.len(), distinct_n=nw.col("left").n_unique()))
    if int(found["n"].iloc[0]) == 0:
        return True
    if int(found["n"].iloc[0]) != int(found["distinct_n"].iloc[0]):
        return False
    hanging = pairs.join(pairs.select(left=nw.col("right")).unique(), on="left", how="semi")
    return int(engine.fetch(hanging.select(n=nw.len()))["n"].iloc[0]) == 0
