"""How well a grouping agrees with the truth: B³ and pairwise precision and recall, from counts, exactly.

Definition chosen: B³ (Bagga & Baldwin 1998) averages over items, so that each item counts once; it is the one to judge
by. Pairwise counts pairs of items, of which a group of n has n (n - 1) / 2, so that a few large groups decide it; it
answers how likely two items that were put together belong together. Rival that was left out: the share of people found
exactly, which calls a person of twenty identifiers wrong for one of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from journeykit.errors import JourneyError


class Agreement(NamedTuple):
    """Precision (do items that were put together belong together?) and recall (were those that do put together?)."""

    precision: float
    recall: float


def b_cubed(found: Any, truth: Any) -> Agreement:
    """Return precision and recall of a grouping by B³, averaged over items.

    The precision of an item is the share of its found group that is truly of its own group, its recall the share of
    its true group that was found with it. The published example: of true groups of 5, 2 and 5 items, the 2 are put
    together with one 5, or the two 5.

    Args:
        found: the group of each item, as it was found; any labels without nulls.
        truth: the group that the item truly belongs to, in the same order.

    Raises:
        JourneyError: the two are not equally long, empty, or hold a null.

    >>> truth = [1] * 5 + [2] * 2 + [3] * 5
    >>> [round(share, 3) for share in b_cubed([1] * 5 + [3] * 7, truth)]
    [0.762, 1.0]
    >>> [round(share, 3) for share in b_cubed([1] * 5 + [2] * 2 + [1] * 5, truth)]
    [0.583, 1.0]
    """
    both, in_found, in_truth, _, _ = _counts(found, truth)
    n = int(both.sum())
    # Each of the b items of a cell has b of its own in its group: their shares add up to b² / size.
    return Agreement(float((both**2 / in_found).sum()) / n, float((both**2 / in_truth).sum()) / n)


def pairwise(found: Any, truth: Any) -> Agreement:
    """Return precision and recall of a grouping over pairs of items.

    Where no pair was put together nothing is wrong: precision is 1. Where no pair belongs together recall is 1.

    Args:
        found: the group of each item, as it was found; any labels without nulls.
        truth: the group that the item truly belongs to, in the same order.

    Raises:
        JourneyError: the two are not equally long, empty, or hold a null.

    >>> pairwise(["a", "a", "b", "b"], [1, 1, 1, 2])
    Agreement(precision=0.5, recall=0.3333333333333333)
    """
    both, _, _, found_sizes, truth_sizes = _counts(found, truth)
    right, together, belonging = (_pairs(sizes) for sizes in (both, found_sizes, truth_sizes))
    return Agreement(right / together if together else 1.0, right / belonging if belonging else 1.0)


def _pairs(sizes: np.ndarray[Any, Any]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _counts(found: Any, truth: Any) -> tuple[np.ndarray[Any, Any], ...]:
    """Count items by cell (a found and a true group): of the cell, of its groups, and of all groups of either kind."""
    if len(found) != len(truth):
        raise JourneyError(
            f"agreement: {len(found):,} found labels and {len(truth):,} true ones. Give one of each per item."
        )
    if not len(found):
        raise JourneyError("agreement: there is no item to compare. Give at least one.")
    codes = []
    for name, labels in (("found", found), ("truth", truth)):
        code, groups = pd.factorize(pd.Series(labels).reset_index(drop=True))
        if (code < 0).any():
            raise JourneyError(
                f"agreement: {name} holds {int((code < 0).sum()):,} nulls. Leave these items out of both."
            )
        codes.append((code.astype(np.int64), len(groups)))
    (left, left_n), (right, right_n) = codes
    cells, both = np.unique(left * right_n + right, return_counts=True)
    found_sizes, truth_sizes = np.bincount(left, minlength=left_n), np.bincount(right, minlength=right_n)
    return both, found_sizes[cells // right_n], truth_sizes[cells % right_n], found_sizes, truth_sizes
