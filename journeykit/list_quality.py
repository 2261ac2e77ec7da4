"""Whether the lists that people keep by hand can be used, and whether what they name occurs in the data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, erasure, labels, lists, overrides, privacy
from journeykit.config import Study
from journeykit.errors import JourneyError
from journeykit.stats import not_enough
from journeykit.study import ROOT, OpenStudy

COLUMNS = ["list", "lines_n", "matched_n"]
NODE = ["id_name", "id_token"]


def problems(plan: Study, folder: Path, secret: bytes) -> list[str]:
    """Return what is wrong with the lists of a study (people to forget, overrides, labels), each list once."""
    found = []
    for read in (erasure.tokens, overrides.read, labels.sample):
        try:
            read(plan, folder, secret)
        except JourneyError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))  # who is labelled asks who is to be forgotten


def empty(plan: Study, folder: Path) -> Iterator[str]:
    """Say which lists of a study hold nothing below their header, and what follows from it."""
    by_hand = (
        ("privacy.erase", plan.privacy.erase, erasure.COLUMNS, "nobody is forgotten"),
        ("identity.overrides", plan.identity.overrides, overrides.COLUMNS, "nothing is merged or split by hand"),
        ("identity.labels", plan.identity.labels, labels.COLUMNS, "no policy can be measured against it"),
    )
    for key, name, columns, so in by_hand:
        if name and (folder / name).is_file() and lists.is_empty(folder / name, columns):
            yield f"{key}: {name} holds no line below its header, so {so}. Fill it, or remove it."


def matched(study: OpenStudy) -> pd.DataFrame:
    """Return how many lines of the merges and splits by hand, and of the labelled sample, name somebody who occurs.

    An identifier occurs when an event carries it, or a profile joins it with another one; those of the list itself do
    not count (the table `tokens` holds these too). A pair counts when both of it occur. Rival: to count values, which
    hides that half a merge does nothing.

    Args:
        study: the study; needs its tables `events` (`id_<name>` for each identifier) and `links`.

    Returns:
        One row per list that there is: list (its file), lines_n (different ones, without people to forget), matched_n
        and matched_share (a count of all: no interval; null for a list without lines). Empty, with its reason, without
        any list.

    Raises:
        JourneyError: a list is wrong, or a table is not there or old.
    """
    secret, plan = privacy.key(ROOT), study.config
    found, sides = {}, ("left", "right")
    if plan.identity.overrides and (study.folder / plan.identity.overrides).is_file():
        erased = erasure.tokens(plan, study.folder, secret)
        pairs = overrides.read(plan, study.folder, secret, erased)
        found[plan.identity.overrides] = [
            pairs[[f"{side}_name", f"{side}_token"]].set_axis(NODE, axis=1) for side in sides
        ]
    if plan.identity.labels:
        found[plan.identity.labels] = [labels.read(study)[NODE]]
    if not found:
        return not_enough(COLUMNS, "there are no merges or splits by hand and no labelled sample")
    wanted = pd.concat([side for ends in found.values() for side in ends]).drop_duplicates()
    known = _known(study, wanted)
    rows = []
    for name, ends in found.items():
        both = [pd.MultiIndex.from_frame(side).isin(known) for side in ends]
        rows.append((name, len(ends[0]), int(pd.DataFrame(both).all().sum())))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(matched_share=table["matched_n"] / table["lines_n"].where(table["lines_n"] > 0))


def _known(study: OpenStudy, wanted: pd.DataFrame) -> pd.MultiIndex:
    """Return those of the identifiers that an event carries or a profile joins."""
    events, links = study.table("events"), study.table("links")
    links = links.filter(~nw.col("rule").is_in(list(overrides.ACTIONS.values())))
    found = []
    for name, tokens in wanted.groupby("id_name")["id_token"]:
        small = pd.DataFrame({"id_token": tokens.to_list()})
        carried = [events.select(id_token=nw.col(f"id_{name}").cast(nw.String))]
        carried += [
            links.filter(nw.col(f"{side}_name") == name).select(id_token=nw.col(f"{side}_token"))
            for side in ("left", "right")
        ]
        found += [(name, token) for token in _of(carried, small)]
    return pd.MultiIndex.from_tuples(found, names=NODE) if found else pd.MultiIndex.from_arrays([[], []], names=NODE)


def _of(carried: list[Any], small: pd.DataFrame) -> set[str]:
    """Return the tokens of a small table that occur in one of the tables."""
    there = [
        engine.fetch(table.join(engine.beside(small, table), on="id_token", how="inner").unique()) for table in carried
    ]
    return {token for one in there for token in one["id_token"]}
