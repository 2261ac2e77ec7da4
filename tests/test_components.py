"""Connected components against networkx, by both methods."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from journeykit import engine
from journeykit.components import LIMIT, components


def found(links: pd.DataFrame, limit: int) -> dict[str, str]:
    table = engine.fetch(components(links, limit=limit))
    assert table["node"].is_unique
    return dict(zip(table["node"], table["component"], strict=True))


def by_networkx(links: pd.DataFrame) -> dict[str, str]:
    graph = nx.Graph((left, right) for left, right in links.itertuples(index=False) if left != right)
    return {node: min(part) for part in nx.connected_components(graph) for node in part}


def random_links(seed: int) -> pd.DataFrame:
    """Some sparse, some dense graphs, with loops, repeats, both directions and text that sorts oddly."""
    rng = np.random.default_rng(seed)
    nodes = [f"{'éA💥 0'[i % 5]}{i}" for i in range(int(rng.integers(2, 120)))]
    ends = rng.choice(nodes, size=(int(rng.integers(1, 150)), 2))
    return pd.DataFrame(ends, columns=["left", "right"])


@pytest.mark.parametrize("limit", [LIMIT, 0], ids=["scipy", "stars"])
def test_random_graphs_equal_networkx(limit: int) -> None:
    for seed in range(12):
        links = random_links(seed)
        assert found(links, limit) == by_networkx(links), seed


@pytest.mark.parametrize("limit", [LIMIT, 0], ids=["scipy", "stars"])
def test_a_long_chain_and_a_hub_are_solved(limit: int) -> None:
    chain = pd.DataFrame({"left": [f"n{i:05d}" for i in range(700)], "right": [f"n{i + 1:05d}" for i in range(700)]})
    shuffled = np.random.default_rng(1).permutation(701)  # names in no order along the chain: the hard case
    names = {f"n{i:05d}": f"m{shuffled[i]:05d}" for i in range(701)}
    hub = pd.DataFrame({"left": "z", "right": [f"h{i}" for i in range(300)]})
    links = pd.concat([chain.replace(names), hub], ignore_index=True)
    assert found(links, limit) == by_networkx(links)


@pytest.mark.parametrize("limit", [LIMIT, 0], ids=["scipy", "stars"])
def test_no_links_are_no_components(limit: int) -> None:
    assert found(pd.DataFrame({"left": ["a"], "right": ["a"]}), limit) == {}
