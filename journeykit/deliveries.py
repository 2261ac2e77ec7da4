"""What was delivered: the raw files, where their rows went, what was odd about their times, columns and age."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.config import Study
from journeykit.stats import add_share, not_enough

PARTS = ["kept_n", "duplicate_n", "quarantined_n", "left_out_n"]
ACCOUNT = ["source", "file", "files_n", "read_n", *PARTS]  # what a page has room for
FUTURE = "time lies in the future"  # reason of quarantine
CLOCKS = ["late_n", "early_n", "ambiguous_n", "skipped_n"]
NAMED = 8  # columns that a table names before it says how many there are more


def accounting(files: Any, by: str = "file") -> pd.DataFrame:
    """Return where every raw row went: read = kept + duplicate + quarantined + left out by a rule.

    Args:
        files: the table `files` of 01_ingest.
        by: "file" or "source".

    Returns:
        One row per file (or source), and with `balances` whether its parts add up to what was read. Of the rows left
        out, erased_n are those of people on the erasure list.
    """
    table = engine.fetch(files)
    if by == "source":
        counts = [name for name in table.columns if name.endswith("_n")]
        sizes = table.groupby("source").size().rename("files_n")
        table = table.groupby("source", as_index=False)[counts].sum().merge(sizes, on="source")
    keys = [name for name in ("source", "file", "files_n") if name in table.columns]
    table["balances"] = table[PARTS].sum(axis=1) == table["read_n"]
    columns = [*keys, "read_n", *PARTS, "erased_n", "late_n", "balances"]
    return table[columns].sort_values(keys, ignore_index=True)


def rows(table: Any) -> int:
    """Return the number of rows of a table of any engine."""
    return int(engine.fetch(engine.lazy(table).select(n=nw.len()))["n"].iloc[0])


def profiles(files: Any, plan: Study) -> int:
    """Return how many of the kept rows say who is who and are no events."""
    sources = [source.name for source in plan.sources if source.kind == "profiles"]
    table = engine.fetch(files)
    return int(table.loc[table["source"].isin(sources), "kept_n"].sum())


def notes(files: Any) -> pd.DataFrame:
    """Return the files that there is something to say about, such as drafts that were not read.

    Returns:
        One row per such file: source, file, read_n, note.
    """
    table = engine.fetch(files)
    table = table[table["note"].fillna("") != ""]
    if table.empty:
        return not_enough(["source", "file", "read_n", "note"], "no file was left unread or needs a remark")
    return table[["source", "file", "read_n", "note"]].sort_values(["source", "file"], ignore_index=True)


def clocks(files: Any, quarantine: Any) -> pd.DataFrame:
    """Return the rows whose time was odd.

    Returns:
        One row per source with any: kept_n and, of the kept rows, lag_median_seconds (from happening to arrival, where
        the source says when a row arrived; of several files the median of their medians, by rows), late_n, early_n
        (arrived before they happened), ambiguous_n and skipped_n (at a change of the clocks); and future_n rows set
        aside because their time lies in the future.
    """
    table = engine.fetch(files)
    found = table.groupby("source", as_index=False)[["kept_n", *CLOCKS]].sum()
    found["future_n"] = found["source"].map(_future(quarantine)).fillna(0).astype("int64")
    medians = {source: _weighted_median(part) for source, part in table.groupby("source")}
    found.insert(2, "lag_median_seconds", found["source"].map(medians).astype(float))
    found = found[found[[*CLOCKS, "future_n"]].sum(axis=1) > 0]
    if found.empty:
        return not_enough(
            ["source", *CLOCKS, "future_n"],
            "no row arrived late or before it happened, lies in the future or fell on a change of the clocks",
        )
    columns = ["source", "kept_n", "lag_median_seconds", "late_n", "early_n", "future_n", "ambiguous_n", "skipped_n"]
    return found[columns].sort_values("source", ignore_index=True)


def _future(quarantine: Any) -> dict[str, int]:
    table = engine.lazy(quarantine).filter(nw.col("reason") == FUTURE)
    found = engine.fetch(table.group_by("source").agg(rows_n=nw.len()))
    return dict(zip(found["source"], found["rows_n"].astype("int64"), strict=True))


def _weighted_median(part: pd.DataFrame) -> float:
    part = part[part["lag_median_seconds"].notna() & (part["kept_n"] > 0)].sort_values("lag_median_seconds")
    if part.empty:
        return float("nan")
    reached = part["kept_n"].cumsum() >= part["kept_n"].sum() / 2
    return float(part["lag_median_seconds"][reached].iloc[0])


def reasons(quarantine: Any) -> pd.DataFrame:
    """Return why rows were set aside: one row per source and reason, with its rows and the first line to look at."""
    found = engine.fetch(
        engine.lazy(quarantine)
        .group_by("source", "reason")
        .agg(rows_n=nw.len(), files_n=nw.col("file").n_unique(), first_line=nw.col("line").min())
    )
    if found.empty:
        return not_enough(["source", "reason", "rows_n"], "no row was quarantined")
    return found.sort_values(["rows_n", "source", "reason"], ascending=[False, True, True], ignore_index=True)


def freshness(files: Any, silences: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return how far each source reaches.

    Args:
        files: the table `files` of 01_ingest.
        silences: see `volume.silences`; a source of spend has none, because it makes no events. A source of profiles is
            left out, because it reaches to no time.
        as_of: the end of observation.

    Returns:
        One row per source: source, first_at, last_at (of its kept rows), age_days (from its last row to the end of
        observation) and the columns of `silences`; the one that ends earliest first.
    """
    table = engine.fetch(files)
    if table.empty:
        return not_enough(["source", "first_at", "last_at", "age_days"], "no file was read")
    found = table.groupby("source", as_index=False).agg(
        first_at=("first_at", "min"), last_at=("last_at", "max"), kept_n=("kept_n", "sum")
    )
    found = found[found.pop("kept_n").eq(0) | found["last_at"].notna()]
    for name in ("first_at", "last_at"):
        found[name] = pd.to_datetime(found[name])
    found["age_days"] = (as_of - found["last_at"]).dt.total_seconds() / 86400
    found = found.merge(silences, on="source", how="left") if len(silences) else found
    return found.sort_values(["last_at", "source"], ignore_index=True, na_position="first")


def column_changes(files: Any) -> pd.DataFrame:
    """Return the files whose columns are not those of the file of the source before it.

    Files follow each other by the time of their first row, then by name; a file without columns (an empty one, or one
    of JSON, whose records each have their own) is passed over. The order of columns does not count.

    Returns:
        One row per such file: source, file, before (the file before it), columns_n, new_columns, missing_columns.
    """
    columns = ["source", "file", "before", "columns_n", "new_columns", "missing_columns"]
    table = engine.fetch(files).sort_values(["source", "first_at", "file"], na_position="last")
    table = table.assign(names=table["columns"].map(names))
    table = table[table["names"].map(len) > 0]
    found: list[dict[str, object]] = []
    for source, part in table.groupby("source", sort=True):
        pairs = list(zip(part["file"], part["names"], strict=True))
        for (before, had), (file, has) in pairwise(pairs):
            if set(had) != set(has):
                new, gone = [n for n in has if n not in set(had)], [n for n in had if n not in set(has)]
                row = [source, file, before, len(has), _listed(new), _listed(gone)]
                found.append(dict(zip(columns, row, strict=True)))
    if found:
        return pd.DataFrame(found)
    if not table["source"].duplicated().any():
        return not_enough(columns, "no source has two files with columns to compare; records of JSON have none")
    return not_enough(columns, "all files of a source have the same columns")


def names(text: Any) -> list[str]:
    """Return the columns of a file from their JSON list, [] where there is none.

    >>> names('["at", "who"]'), names(None)
    (['at', 'who'], [])
    """
    return [str(name) for name in json.loads(text)] if isinstance(text, str) and text else []


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + rest


def ties(events: Any, identifiers: list[str]) -> pd.DataFrame:
    """Return how often the order of events had to be decided by more than their time.

    An event is tied when the event before it of the same identifier (the first that it carries, in the order given)
    has the same time. Within a source the place in the file decides then, between sources their names.

    Returns:
        One row per source with any: source, n (all its events), tied_n, their share with its interval, and across_n,
        the tied events whose event before is of another source.
    """
    columns = ["source", "n", "tied_n", "across_n"]
    carried = [nw.col(f"id_{name}") for name in identifiers]
    kinds: Any = nw.lit("")
    for name in reversed(identifiers):  # two identifiers may hold the same token
        kinds = nw.when(~nw.col(f"id_{name}").is_null()).then(nw.lit(name)).otherwise(kinds)
    table = engine.lazy(events).with_columns(_who=nw.coalesce(*carried), _kind=kinds)
    who = ("_who", "_kind")
    before = {
        "_at": nw.col("time_us").shift(1).over(*who, order_by=engine.ORDER),
        "_source": nw.col("source").shift(1).over(*who, order_by=engine.ORDER),
    }
    tied = (~nw.col("_who").is_null()) & (nw.col("_at") == nw.col("time_us"))
    table = table.with_columns(**before).with_columns(
        _tied=nw.when(tied).then(1).otherwise(0),
        _across=nw.when(tied & (nw.col("_source") != nw.col("source"))).then(1).otherwise(0),
    )
    found = engine.fetch(
        table.group_by("source").agg(n=nw.len(), tied_n=nw.col("_tied").sum(), across_n=nw.col("_across").sum())
    )
    if found.empty:
        return not_enough(columns, "no event was read")
    found = found[found["tied_n"] > 0].astype(dict.fromkeys(columns[1:], np.int64))
    if found.empty:
        return not_enough(columns, "no event has the same time as the one before of the same identifier")
    return add_share(found.sort_values("source", ignore_index=True), "tied", "tied_n", "n")
