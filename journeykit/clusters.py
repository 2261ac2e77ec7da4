"""Clusters of sequences that are stable, and clearer than what chance or one common process would give; or none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from journeykit import stats

STABLE = 0.95  # agreement of clusters over bootstrap samples
BETWEEN = 0.05  # share of sequences between two clusters up to which they are kinds of their own
MARGIN = 0.02  # of silhouettes: nearer is as good as equal
DIMENSIONS, GRAMS = 20, (1, 2, 3)
JUDGED, DRAWN = 4_000, 1_500  # sequences that stability is judged on, and that made-up ones are compared on
SAMPLES, FIRST_SAMPLES, SHUFFLES, PROCESSES = 20, 5, 19, 9
CHOICES = ["types_n", "silhouette", "agreement", "smallest_n", "stable", "chosen"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Paths = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Clusters:
    """Which sequence is of which cluster, or why there are none."""

    labels: Integers | None  # one a sequence, from 0, the largest cluster first
    near: Floats | None  # cosine of each sequence with the centre of its cluster
    choices: pd.DataFrame  # one row per number of clusters that was tried
    silhouettes: dict[str, float]  # of the sequences, and the highest of the shuffled ones and of one process
    between: float = 1.0  # share of sequences that lie between two clusters
    reason: str = ""  # why there are none


def find(paths: Paths, weights: Integers, *, most: int = 8, smallest: int = 1, seed: int = 0) -> Clusters:
    """Group sequences of numbers by what is in them and in which order.

    TF-IDF of runs of one to three values (sublinear) → 20 dimensions (truncated SVD) → length 1 → k-means. The number
    of clusters, 2 to `most`, is the one with the clearest clusters (silhouette) among those that come out alike on
    bootstrap samples (mean adjusted Rand index of at least .95) and hold at least `smallest` sequences each. The
    silhouette alone always names a number; that it can be found again is what makes a cluster more than a cut through
    a cloud (Hennig 2007).

    Two made-up logs say what it is worth. *Shuffled*: as many sequences of the same lengths, of values drawn by their
    frequency alone. *One process*: drawn step by step from the transitions of all sequences together, as if everybody
    followed one habit. Clusters must be clearer by .02 than in any of 19 shuffled logs and any of 9 of one process. The
    latter is let off where no more than one in twenty sequences lies between two clusters (its cosine with the next
    centre is more than half of that with its own): kinds that share hardly any value are kinds, though one process with
    two beginnings tells them apart as well. Else there are none.

    Args:
        paths: different sequences of whole numbers from 0, none of which follows itself.
        weights: how often each occurs.
        most: clusters at most.
        smallest: sequences in a cluster at least.
        seed: of everything drawn.

    Figures are the same on every machine: one thread adds up, and coordinates are rounded before they are grouped.

    >>> find([(0, 1), (0, 2)], np.array([3, 4])).reason
    'not enough different paths (2)'
    """
    rng = np.random.default_rng(seed)
    weights = np.asarray(weights, dtype=np.int64)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bootstrap sample may have fewer points than clusters
        if len(paths) <= most:
            return none(f"not enough different paths ({len(paths)})")
        judged, counts = _drawn(paths, weights, JUDGED, rng)
        places = _places(judged, counts)
        share = smallest * counts.sum() / weights.sum()
        different = len(np.unique(places.round(3), axis=0))
        rows = [_judged(places, counts, k, share, rng) for k in range(2, most + 1) if different > k]
        choices = _choices(rows)
        if not choices["stable"].any():
            best = choices["agreement"].max()
            why = f"no number of types comes out alike again (best agreement {best:.2f}, {STABLE:.2f} needed)"
            small = f"types that come out alike again are too small (fewer than {smallest} of {weights.sum():,})"
            return Clusters(None, None, choices, {}, reason=why if best < STABLE else small)
        stable = choices[choices["stable"]]
        k = int(stable["types_n"].to_numpy()[stable["silhouette"].to_numpy().argmax()])
        choices["chosen"] = choices["types_n"] == k
        places = _places(paths, weights)
        fitted = KMeans(k, n_init=10, random_state=0).fit(places, sample_weight=weights)
        near = places @ normalize(fitted.cluster_centers_).T
        own = near[np.arange(len(near)), fitted.labels_]
        near[np.arange(len(near)), fitted.labels_] = -1
        between = float(np.average(near.max(axis=1) > own / 2, weights=weights))
        silhouettes, reason = _compared(judged, counts, k, between, rng)
        if reason:
            return Clusters(None, None, choices.assign(chosen=False), silhouettes, between, reason)
        return Clusters(_by_size(fitted.labels_, weights, k), own.round(6), choices, silhouettes, between)


def none(reason: str = "") -> Clusters:
    """Return no clusters, before any number of them was tried."""
    return Clusters(None, None, _choices([]), {}, reason=reason)


def _choices(rows: list[list[Any]]) -> pd.DataFrame:
    if not rows:
        return stats.not_enough(CHOICES, "no number of types was tried").astype({"stable": bool, "chosen": bool})
    return pd.DataFrame(rows, columns=CHOICES)


def _drawn(paths: Paths, weights: Integers, n: int, rng: np.random.Generator) -> tuple[list[tuple[int, ...]], Integers]:
    """Draw n of the sequences without putting any back."""
    if weights.sum() <= n:
        return list(paths), weights
    counts = rng.multivariate_hypergeometric(weights, n, method="marginals")
    kept = np.flatnonzero(counts)
    return [paths[int(k)] for k in kept], counts[kept]


def _grams(path: tuple[int, ...]) -> list[str]:
    words = [str(value) for value in path]
    return [" ".join(words[k : k + size]) for size in GRAMS for k in range(len(words) - size + 1)]


def _places(paths: Paths, weights: Integers) -> Floats:
    """Return a place of length 1 for each sequence."""
    counted = CountVectorizer(analyzer=_grams, dtype=np.float64).fit_transform(paths)
    occurs = sparse.csr_matrix(counted, copy=True)
    occurs.data[:] = 1.0
    idf = np.log((1 + weights.sum()) / (1 + occurs.T @ weights.astype(float))) + 1
    counted.data = 1 + np.log(counted.data)
    tfidf = normalize(counted @ sparse.diags(idf))
    size = min(DIMENSIONS, min(tfidf.shape) - 1)
    reduce = TruncatedSVD(max(size, 1), random_state=0).fit(sparse.diags(np.sqrt(weights.astype(float))) @ tfidf)
    return np.asarray(normalize(tfidf @ reduce.components_.T)).round(6)


def _judged(places: Floats, weights: Integers, k: int, smallest: float, rng: np.random.Generator) -> list[Any]:
    """Return how clear k clusters are, and how alike they come out on bootstrap samples."""
    labels = KMeans(k, n_init=10, random_state=0).fit(places, sample_weight=weights).labels_
    n, found = int(weights.sum()), []
    for turn in range(SAMPLES):
        drawn = rng.multinomial(n, weights / n)
        again = KMeans(k, n_init=3, random_state=turn + 1).fit(places, sample_weight=drawn.astype(float))
        found.append(agreement(labels, again.predict(places), weights))
        if turn + 1 == FIRST_SAMPLES and np.mean(found) < STABLE - 0.05:
            break  # the others would not lift it above
    alike = float(np.mean(found))
    least = int(np.bincount(labels, weights=weights, minlength=k).min())
    return [k, _silhouette(places, labels, weights, rng), alike, least, alike >= STABLE and least >= smallest, False]


def agreement(one: Integers, other: Integers, weights: Integers) -> float:
    """Return the adjusted Rand index of two groupings of sequences that occur some times each (Hubert & Arabie 1985).

    >>> agreement(np.array([0, 0, 1]), np.array([1, 1, 0]), np.array([5, 1, 2]))
    1.0
    """
    table = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(table, (one, other), weights)

    def pairs(counts: Any) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / pairs(table.sum())
    most = (rows + columns) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def _silhouette(places: Floats, labels: Integers, weights: Integers, rng: np.random.Generator) -> float:
    n = int(weights.sum())
    counts = weights if n <= DRAWN else rng.multivariate_hypergeometric(weights, DRAWN, method="marginals")
    rows = np.repeat(np.arange(len(weights)), counts)
    different = len(np.unique(labels[rows]))
    if not 1 < different < len(rows):
        return 0.0
    return round(float(silhouette_score(places[rows], labels[rows])), 4)  # what comes after depends on the processor


def _compared(
    paths: Paths, weights: Integers, k: int, between: float, rng: np.random.Generator
) -> tuple[dict[str, float], str]:
    """Compare the silhouette of k clusters with those of made-up logs; say why it is not clearer, or ""."""
    paths, weights = _drawn(paths, weights, DRAWN, rng)
    real = _clarity(paths, weights, k, rng)
    chance = [_clarity(*_shuffled(paths, weights, rng), k, rng) for _ in range(SHUFFLES)]
    process = [_clarity(*_one_process(paths, weights, rng), k, rng) for _ in range(PROCESSES)]
    silhouettes = {"real": real, "shuffled": max(chance), "one process": max(process)}
    if real - max(chance) < MARGIN:
        from_what, other = "shuffled paths", max(chance)
    elif between > BETWEEN and real - max(process) < MARGIN:
        from_what, other = "one common process", max(process)
    else:
        return silhouettes, ""
    return silhouettes, f"types nearly as clear come out of {from_what} (silhouette {real:.2f} against {other:.2f})"


def _clarity(paths: Paths, weights: Integers, k: int, rng: np.random.Generator) -> float:
    places = _places(paths, weights)
    if len(np.unique(places.round(3), axis=0)) <= k:  # each is a cluster of its own, and nothing could be clearer
        return 1.0
    labels = KMeans(k, n_init=3, random_state=0).fit(places, sample_weight=weights).labels_
    return _silhouette(places, labels, weights, rng)


def _shuffled(paths: Paths, weights: Integers, rng: np.random.Generator) -> tuple[list[tuple[int, ...]], Integers]:
    """Return as many sequences of the same lengths, of values drawn by their frequency; none follows itself."""
    lengths = np.repeat([len(path) for path in paths], weights)
    share = np.bincount(np.concatenate(paths), weights=np.repeat(weights, [len(path) for path in paths]))
    share, drawn = share / share.sum(), share / share.sum()
    for _ in range(200):  # what to draw by, so that after leaving out repeats values are as frequent as they are
        drawn = (drawn + share / (1 - drawn).clip(min=1e-6) / (share / (1 - drawn).clip(min=1e-6)).sum()) / 2
    rows = np.tile(drawn, (len(drawn), 1))
    np.fill_diagonal(rows, 0)
    return _walk(drawn, rows, lengths, rng)


def _one_process(paths: Paths, weights: Integers, rng: np.random.Generator) -> tuple[list[tuple[int, ...]], Integers]:
    """Return as many sequences drawn step by step from the transitions of all, with their beginnings and ends."""
    values = max(max(path) for path in paths) + 1
    rows, start = np.zeros((values + 1, values + 1)), np.zeros(values + 1)  # the last one is the end
    for path, weight in zip(paths, weights, strict=True):
        start[path[0]] += weight
        np.add.at(rows, (path, (*path[1:], values)), weight)
    rows[values, values] = 1
    most = max(len(path) for path in paths)
    return _walk(start / start.sum(), rows, np.full(int(weights.sum()), most), rng, end=values)


def _walk(
    start: Floats, rows: Floats, lengths: Integers, rng: np.random.Generator, end: int = -1
) -> tuple[list[tuple[int, ...]], Integers]:
    """Draw sequences step by step, and count the different ones."""
    total = rows.sum(axis=1, keepdims=True)
    upto = np.cumsum(np.where(total > 0, rows / np.where(total > 0, total, 1), start), axis=1)
    steps = np.empty((len(lengths), int(lengths.max())), dtype=np.int64)
    steps[:, 0] = _draw(np.tile(np.cumsum(start), (len(lengths), 1)), rng)
    for place in range(1, steps.shape[1]):
        steps[:, place] = _draw(upto[steps[:, place - 1]], rng)
    steps[np.arange(steps.shape[1]) >= lengths[:, None]] = -1
    if end >= 0:
        steps[steps == end] = -1
    different, counts = np.unique(steps, axis=0, return_counts=True)
    return [tuple(int(value) for value in row[row >= 0]) for row in different], counts


def _draw(upto: Floats, rng: np.random.Generator) -> Integers:
    below = upto[:, -1:] * rng.random((len(upto), 1)) >= upto
    return below.sum(axis=1)


def _by_size(labels: Integers, weights: Integers, k: int) -> Integers:
    """Number clusters by their size, the largest first."""
    size = np.bincount(labels, weights=weights, minlength=k)
    first = np.array([np.flatnonzero(labels == cluster)[0] for cluster in range(k)])
    place = np.empty(k, dtype=np.int64)
    place[np.lexsort((first, -size))] = np.arange(k)
    return place[labels]
