"""The labelled sample of a study: identifiers of people whom somebody knows, to measure how well people are found."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pandas as pd

from journeykit import erasure, lists, privacy, study
from journeykit.config import Study
from journeykit.study import OpenStudy

COLUMNS = ("identifier", "value", "person")
LABELS = ["id_name", "id_token", "label"]


def read(opened: OpenStudy) -> pd.DataFrame:
    """Return the labelled sample that `[identity] labels` names: who each of its identifiers truly belongs to.

    Values become tokens and people become numbers at once, so that nothing raw travels. Identifiers of people to forget
    are left out.

    Returns:
        One row per identifier: id_name, id_token, label (1 is the person listed first). Empty where no sample is named.

    Raises:
        JourneyError: the file is not there or not a CSV with the columns identifier, value and person, a row names
            nobody, or one identifier is given to two people; all problems are in the one error, none with its value.
    """
    return sample(opened.config, opened.folder, privacy.key(study.ROOT))


def sample(plan: Study, folder: Path, secret: bytes) -> pd.DataFrame:
    """Return the labelled sample of a plan and its folder, with tokens of a key; see `read`."""
    path = lists.path_of(folder, plan.identity.labels, "", "identity.labels")
    if path is None:
        return pd.DataFrame({"id_name": [], "id_token": [], "label": []}).astype({"label": "int64"})
    forgotten = {(name, token) for name, tokens in erasure.tokens(plan, folder, secret).items() for token in tokens}
    owners: dict[tuple[str, str], tuple[str, int]] = {}  # who has an identifier, and the line that says so

    def problem(row: lists.Listed) -> str:
        name, value, person = (row.cells[column] for column in COLUMNS)
        wrong = lists.identifier_problem(name, value, plan)
        if wrong or not person:
            return wrong or "no person is given"
        node = (name, privacy.token(name, value, secret, privacy.rule(plan.identity, name)))
        owner, line = owners.setdefault(node, (person, row.line))
        return (
            f"line {line} gives this identifier to another person; leave out what several share"
            if owner != person
            else ""
        )

    lists.read(path, COLUMNS, "identifier of a person", problem)
    kept = [(*node, person) for node, (person, _) in owners.items() if node not in forgotten]
    found = pd.DataFrame(kept, columns=LABELS)
    found["label"] = pd.factorize(found["label"])[0].astype("int64") + 1
    return found


def why_none(opened: OpenStudy) -> str:
    """Return why there is nothing to measure policies against: no sample, an empty one, or one of nobody who occurs."""
    name = opened.config.identity.labels
    if not name:
        return "no labelled sample: [identity] labels names no file"
    if lists.is_empty(opened.folder / name, COLUMNS):
        return f"the labelled sample {name} holds no line below its header"
    return f"no event carries an identifier of the labelled sample {name}, people to forget left out"


def mark(plan: Study, folder: Path, secret: bytes) -> str:
    """Return a keyed hash of the sample's bytes, "" where there is none: it changes when the sample does."""
    path = folder / plan.identity.labels
    if not (plan.identity.labels and path.is_file()):
        return ""
    return hmac.new(secret, path.read_bytes(), hashlib.sha256).hexdigest()[:16]
