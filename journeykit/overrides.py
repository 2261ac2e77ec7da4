"""Merges and splits by hand: the list of a study in which somebody who knows says who is one person, and who never."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from journeykit import lists, privacy
from journeykit.config import Identity, Study

COLUMNS = ("action", "identifier", "value", "other_identifier", "other_value")
ACTIONS = {"merge": "merged by hand", "split": "split by hand"}
LINK = ["left_name", "left_token", "right_name", "right_token", "rule"]
Node = tuple[str, str]  # an identifier's name and token


def read(plan: Study, folder: Path, secret: bytes, erased: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """Return the links of `[identity] overrides`: pairs that are merged, and pairs that are never one person.

    A value becomes a token at once and is written nowhere. A row of somebody who is to be forgotten gives none. A pair
    that is listed twice counts once.

    Args:
        plan: the study.
        folder: the study's folder.
        secret: the key of the tokens.
        erased: identifier → tokens of the people to forget.

    Returns:
        One row per pair: left_name, left_token, right_name, right_token (the more trusted on the left), rule ("merged
        by hand" or "split by hand"). Empty where there is no list.

    Raises:
        JourneyError: the file is not a CSV with the columns of the list, a row names nobody or one and the same twice,
            or a split contradicts the merges; all problems are in the one error, none with its value.
    """
    path = lists.path_of(folder, plan.identity.overrides, Identity(identifiers=["any"]).overrides, "identity.overrides")
    if path is None:
        return pd.DataFrame(columns=LINK)
    names = plan.identity.identifiers

    def pair(row: lists.Listed) -> tuple[Node, Node]:
        ends = [
            (name, privacy.token(name, row.cells[f"{side}value"], secret, privacy.rule(plan.identity, name)))
            for side in ("", "other_")
            for name in [row.cells[f"{side}identifier"]]
        ]
        left, right = sorted(ends, key=lambda end: (names.index(end[0]), end[1]))
        return left, right

    def problem(row: lists.Listed) -> str:
        said = [] if row.cells["action"].lower() in ACTIONS else ["action is neither merge nor split"]
        for side in ("", "other_"):
            said.append(lists.identifier_problem(row.cells[f"{side}identifier"], row.cells[f"{side}value"], plan))
        wrong = "; ".join(dict.fromkeys(filter(None, said)))
        if not wrong and len(set(pair(row))) == 1:
            return "both are the same value; name two that are one person, or two that are not"
        return wrong

    rows = lists.read(path, COLUMNS, "pair", problem)
    said = [(row.line, row.cells["action"].lower(), *pair(row)) for row in rows]
    lists.refuse(path, _contradictions(said))
    gone = {(name, token) for name, tokens in (erased or {}).items() for token in tokens}
    found = dict.fromkeys(
        (*left, *right, ACTIONS[action]) for _, action, left, right in said if not {left, right} & gone
    )
    return pd.DataFrame(list(found), columns=LINK).sort_values(LINK, ignore_index=True)


def _contradictions(said: Sequence[tuple[int, str, Node, Node]]) -> list[str]:
    """Say which splits part what the merges join, be it by way of others."""
    above: dict[Node, Node] = {}

    def root(node: Node) -> Node:
        while node in above:
            node = above[node]
        return node

    for _, action, left, right in said:
        if action == "merge" and root(left) != root(right):
            above[root(left)] = root(right)
    return [
        f"line {line}: a split of two that lines of merge join; remove the one or the other"
        for line, action, left, right in said
        if action == "split" and root(left) == root(right)
    ]


def mark(plan: Study, folder: Path, secret: bytes) -> str:
    """Return a keyed hash of the list's bytes, "" where there is none: it changes when the list does."""
    path = folder / plan.identity.overrides
    if not (plan.identity.overrides and path.is_file()):
        return ""
    return hmac.new(secret, path.read_bytes(), hashlib.sha256).hexdigest()[:16]
