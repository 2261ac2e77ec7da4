"""The rules of credit: channel paths as matrices, and each rule as a function of how often the paths occurred."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import sparse

ARROW = " > "


class Layout:
    """Paths as matrices: one row per path, so that any weighting of the paths is one multiplication."""

    def __init__(self, paths: pd.DataFrame) -> None:
        steps = [str(path).split(ARROW) for path in paths["path"]]
        self.channels = sorted({step for path in steps for step in path})
        place = {channel: k for k, channel in enumerate(self.channels)}
        k, n = len(self.channels), len(steps)
        codes = [np.array([place[step] for step in path]) for path in steps]
        rows = np.repeat(np.arange(n), [len(path) for path in codes])
        touched = np.concatenate(codes)
        lengths = np.array([len(path) for path in codes])
        self.first = matrix(np.arange(n), np.array([path[0] for path in codes]), np.ones(n), (n, k))
        self.last = matrix(np.arange(n), np.array([path[-1] for path in codes]), np.ones(n), (n, k))
        linear = matrix(rows, touched, 1 / lengths[rows], (n, k))
        inner = np.flatnonzero(rows[1:] == rows[:-1])
        pairs = touched[inner] * k + touched[inner + 1]
        self.pairs = matrix(rows[inner], pairs, np.ones(len(inner)), (n, k * k))
        self.credit = {"first": self.first, "last": self.last, "linear": linear}


def matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> sparse.csr_array:
    """Return a sparse matrix; values at the same place are added."""
    return sparse.csr_array((values, (rows, columns)), shape=shape)


def _rule(model: str) -> Callable[[Layout, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    def share(layout: Layout, wins: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        credit = wins @ layout.credit[model]
        return _divide(credit, credit.sum(axis=1, keepdims=True)), None

    return share


def markov(layout: Layout, wins: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return credit shares and removal effects of a first-order absorbing chain, for each row of weights.

    With N = (I − Q)⁻¹, h = N·r and P = start·h, sending every visit of channel c to "no conversion" loses the share
    (start·N)[c] · h[c] / (N[c, c] · P) of conversions.
    """
    k = len(layout.channels)
    both = wins + losses
    start = both @ layout.first
    inner = (both @ layout.pairs).reshape(len(both), k, k)
    won, lost = wins @ layout.last, losses @ layout.last
    leaving = inner.sum(axis=2) + won + lost
    chain = np.linalg.inv(np.eye(k) - _divide(inner, leaving[:, :, None]))
    reach = np.einsum("bi,bij->bj", _divide(start, start.sum(axis=1, keepdims=True)), chain)
    converts = np.einsum("bij,bj->bi", chain, _divide(won, leaving))
    base = (_divide(start, start.sum(axis=1, keepdims=True)) * converts).sum(axis=1, keepdims=True)
    removal = _divide(reach * converts, np.einsum("bii->bi", chain) * base)
    return _divide(removal, removal.sum(axis=1, keepdims=True)), removal


MODELS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray | None]]] = {
    "first": _rule("first"),
    "last": _rule("last"),
    "linear": _rule("linear"),
    "markov": markov,
}


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros_like(above, dtype=float), where=below > 0)
