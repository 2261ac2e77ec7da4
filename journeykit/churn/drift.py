"""Whether a model still fits: do the people look as they did, and do as many leave as it expected?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import config, earlier, present
from journeykit.churn.calibration import poisson_ratio
from journeykit.churn.covariates import label
from journeykit.stats import not_enough, wilson

CHAPTER = "07_churn"
GROUPS = 10  # bins of a number with many values
SURE = 0.05
MOVED = 0.1  # a population stability index below it is usually not worth looking at, however certain it is
TENURE, REST, NO_ANSWER = "tenure_days", "other values", "no answer"
INPUT_COLUMNS = ("covariate", "label", "bin", "from_value", "to_value", "n", "of_n")
CHANGE_COLUMNS = (
    *("covariate", "label", "before_n", "now_n", "stability_index", "bin"),
    *("before_share", "before_share_low", "before_share_high", "now_share", "now_share_low", "now_share_high"),
    *("p_value", "adjusted_p_value", "moved"),
)
TEXTS = ("covariate", "label", "bin", "id_name", "id_token", "reasons")
SINCE_COLUMNS = (
    *("group", "n", "since_at", "elapsed_days", "expected_left_n", "observed_left_n"),
    *("observed_to_expected", "observed_to_expected_low", "observed_to_expected_high"),
)


@dataclass(frozen=True)
class Before:
    """What an earlier run left."""

    run: str
    as_of: pd.Timestamp
    inputs: pd.DataFrame
    scores: pd.DataFrame


def inputs(
    there: pd.DataFrame,
    covariates: Sequence[config.Covariate],
    *,
    like: pd.DataFrame | None = None,
    min_n: int = 20,
) -> pd.DataFrame:
    """Return how the people who are scored are spread over the values of each covariate, and over tenure.

    A number with up to ten values has a bin for each, one with more a bin for each tenth of the people. Bins of fewer
    than `min_n` people are joined with their neighbours (values of a category with "other values"), so that no small
    group is told; this is what a later run compares with.

    Args:
        there: people with `tenure_days` and the covariates, as of `origin.known_at`.
        covariates: as declared.
        like: such a table of an earlier time, whose bins are used; nothing is joined then.
        min_n: smallest bin.

    Returns:
        One row per covariate and bin: covariate, label, bin, from_value (inclusive) and to_value (exclusive; both empty
        for a bin that is no range), n of of_n people.
    """
    if len(there) < max(min_n, 1):
        return not_enough(INPUT_COLUMNS, f"not enough data (n = {len(there)} people, at least {min_n} are needed)")
    named = [(TENURE, "Tenure", "count"), *((c.name, label(c), c.kind) for c in covariates)]
    parts = []
    for name, words, kind in named:
        if name not in there:
            continue
        bins = None if like is None else like[like["covariate"] == name]
        if bins is not None and bins.empty:
            continue
        made = _categories(there[name], bins, min_n) if kind == "category" else _ranges(there[name], kind, bins, min_n)
        parts.append(made.assign(covariate=name, label=words, of_n=int(made["n"].sum())))
    return pd.concat(parts, ignore_index=True)[list(INPUT_COLUMNS)]


def changes(before: pd.DataFrame, now: pd.DataFrame, *, min_n: int = 20) -> pd.DataFrame:
    """Return how far the people of now differ from those before, covariate by covariate.

    The population stability index, Σ (now − before) · log(now / before) over bins (half a person is added to each, so
    that an empty one has a logarithm), and a chi-squared test, by the method of Benjamini & Hochberg over covariates.
    `moved` is "yes" where the test says that it is no chance and the index is at least 0.1: of many people, everything
    differs "significantly". Many are the same people at both times, so that chance is judged too large, if anything.
    Rival: the Kolmogorov–Smirnov test, which has no meaning for categories and needs everybody's values kept.

    Args:
        before: of `inputs`.
        now: of `inputs` with `like=before`.
        min_n: a bin with fewer people before or now is not told.

    Returns:
        One row per covariate, the largest index first: covariate, label, before_n, now_n, stability_index, bin (the one
        that changed most, of those that may be told), before_share and now_share of it (each +low, high), p_value,
        adjusted_p_value, moved.
    """
    if before.empty or now.empty:
        empty = before if before.empty else now
        return not_enough(CHANGE_COLUMNS, str(empty.attrs.get("reason", "not enough data (n = 0)")))
    rows = []
    for name, after in now.groupby("covariate", sort=False):
        was_there = before.loc[before["covariate"] == name, ["bin", "n"]]
        pair = was_there.merge(after[["bin", "n"]], on="bin", how="outer", suffixes=("_was", "_is"), sort=False)
        pair = pair.fillna({"n_was": 0, "n_is": 0})  # a value that was never met before, or no more
        was, new = pair["n_was"].to_numpy(float), pair["n_is"].to_numpy(float)
        if len(pair) < 2 or not was.sum() or not new.sum():
            continue
        p, q = ((n + 0.5) / (n + 0.5).sum() for n in (was, new))
        filled = was + new > 0
        p_value = float(_stats.chi2_contingency(np.vstack([was, new])[:, filled])[1]) if filled.sum() > 1 else 1.0
        facts = (name, after["label"].iloc[0], int(was.sum()), int(new.sum()), float(((q - p) * np.log(q / p)).sum()))
        rows.append((*facts, *_most_changed(pair, min_n), p_value))
    if not rows:
        return not_enough(CHANGE_COLUMNS, f"no covariate has two bins of at least {min_n} people to compare")
    table = pd.DataFrame(rows, columns=list(CHANGE_COLUMNS[:-2]))
    table["adjusted_p_value"] = multipletests(table["p_value"], method="fdr_bh")[1]
    moved = (table["adjusted_p_value"] < SURE) & (table["stability_index"] >= MOVED)
    table["moved"] = np.where(moved, "yes", "")
    return table.sort_values(["stability_index", "covariate"], ascending=[False, True], ignore_index=True)


def since(
    scored: pd.DataFrame, *, since_at: pd.Timestamp, ahead_days: float, elapsed_days: float, min_n: int = 20
) -> pd.DataFrame:
    """Return how many of those scored earlier have left since, against how many were expected to.

    Where less time went by than the scores look ahead, their chance is cut to it at a constant rate. The interval is
    the exact one of Poisson counts (Garwood 1936): somewhat wide, since each person leaves but once.

    Args:
        scored: needs leaves_share (as it was), after_days and ended (what became of each person since).
        since_at: when they were scored.
        ahead_days: how far ahead the scores look.
        elapsed_days: time since then; no more than `ahead_days` is looked at.
        min_n: smallest group.

    Returns:
        One row for everybody and one for each third of predicted risk: group, n, since_at, elapsed_days,
        expected_left_n, observed_left_n, observed_to_expected (+low, high; 1 is right, above 1 more left).
    """
    within = min(float(elapsed_days), float(ahead_days))
    if len(scored) < max(min_n, 1) or within <= 0:
        many = f"{len(scored)} people scored earlier can be followed, at least {min_n} are needed"
        return not_enough(SINCE_COLUMNS, f"not enough data ({many})" if within > 0 else "no time went by since")
    share = np.clip(scored["leaves_share"].to_numpy(float), 0, 1 - 1e-9)
    expected = 1 - (1 - share) ** (within / float(ahead_days))
    left = (scored["ended"].to_numpy() == 1) & (scored["after_days"].to_numpy(float) <= within)
    third = np.searchsorted(np.quantile(share, [1 / 3, 2 / 3]), share, side="left")
    groups = [("everybody", np.ones(len(share), dtype=bool))]
    groups += [(f"{word} third of risk", third == k) for k, word in enumerate(("lowest", "middle", "highest"))]
    rows = []
    for name, mine in groups:
        if mine.sum() >= max(min_n, 1):
            counts = (float(expected[mine].sum()), int(left[mine].sum()))
            rows.append((name, int(mine.sum()), since_at, within, *counts, *poisson_ratio(counts[1], counts[0])))
    return pd.DataFrame(rows, columns=list(SINCE_COLUMNS))


def before(reports_home: Path, as_of: pd.Timestamp) -> Before | None:
    """Return what the latest passed run that looked at an earlier day left, or None when there is none.

    Runs of the same day are passed over: they hold the same people. So what a study shows the first time does not
    depend on how often it was run.

    Args:
        reports_home: the study's folder of reports, with one folder a run.
        as_of: the end of observation of this run (UTC).
    """
    files = {name: f"{CHAPTER}__{name}.csv" for name in ("inputs", "scores")}
    found = {name: earlier.tables(reports_home, file, as_of, texts=TEXTS) for name, file in files.items()}
    scores = {table.attrs["run"]: table for table in found["scores"]}
    usable = [table for table in found["inputs"] if len(table) and set(INPUT_COLUMNS) <= set(table.columns)]
    usable = sorted((table for table in usable if table.attrs["run"] in scores), key=lambda table: table.attrs["as_of"])
    if not usable:
        return None
    last = usable[-1]
    return Before(last.attrs["run"], last.attrs["as_of"], last, scores[last.attrs["run"]])


def _ranges(values: pd.Series[Any], kind: str, like: pd.DataFrame | None, min_n: int) -> pd.DataFrame:
    """Count people in ranges of a number; who has none (of satisfaction) is a bin of its own."""
    number = values.to_numpy(float)
    missing = int(np.isnan(number).sum())
    number = number[~np.isnan(number)]
    if like is None:
        lower = _edges(number, min_n)
        upper = np.append(lower[1:], np.inf)
        names = [_range_name(low, high, number, kind) for low, high in zip(lower, upper, strict=True)]
        keep_missing = missing >= max(min_n, 1)
    else:
        told = like[like["bin"] != NO_ANSWER]
        lower, names = told["from_value"].fillna(-np.inf).to_numpy(float), list(told["bin"])
        upper = told["to_value"].fillna(np.inf).to_numpy(float)
        keep_missing = len(told) < len(like)
    place = np.searchsorted(lower, number, side="right") - 1
    counts = np.bincount(np.maximum(place, 0), minlength=len(lower))[: len(lower)]
    made = pd.DataFrame({"bin": names, "from_value": lower, "to_value": upper, "n": counts})
    if keep_missing:
        nobody = pd.DataFrame({"bin": [NO_ANSWER], "from_value": [np.inf], "to_value": [np.inf], "n": [missing]})
        made = pd.concat([made, nobody], ignore_index=True)
    return made.astype({"n": "int64", "from_value": float, "to_value": float}).replace([-np.inf, np.inf], np.nan)


def _edges(number: np.ndarray, min_n: int) -> np.ndarray:
    """Lower ends of the bins: of each value, or of tenths of the people; each bin has at least `min_n` people."""
    if not len(number):
        return np.array([-np.inf])
    values = np.unique(number)
    wanted = values if len(values) <= GROUPS else np.unique(np.quantile(number, np.arange(GROUPS) / GROUPS))
    ordered, edges = np.sort(number), [-np.inf]
    for edge in wanted[1:]:
        filled = np.searchsorted(ordered, edge) - np.searchsorted(ordered, edges[-1])
        if filled >= min_n and len(ordered) - np.searchsorted(ordered, edge) >= min_n:
            edges.append(float(edge))
    return np.array(edges)


def _range_name(low: float, high: float, number: np.ndarray, kind: str) -> str:
    """How a bin is called: yes and no, a value, or a range."""
    mine = np.unique(number[(number >= low) & (number < high)])
    if kind == "any" and len(mine) == 1:
        return "yes" if mine[0] > 0 else "no"
    if len(mine) == 0:
        return "all"
    if len(mine) == 1 and np.isfinite(high):
        return f"{mine[0]:g}"
    last = present.number(float(mine[-1]), 0 if mine[-1] >= 10 else 1).removesuffix(".0")
    first = present.number(float(mine[0]), 0 if mine[-1] >= 10 else 1).removesuffix(".0")
    return f"{first} and more" if not np.isfinite(high) else f"{first}–{last}"


def _categories(values: pd.Series[Any], like: pd.DataFrame | None, min_n: int) -> pd.DataFrame:
    """Count people by value; rare values together."""
    text = values.astype(object).where(values.notna(), "unknown").astype(str)
    counts = text.value_counts()
    if like is None:
        told = sorted(counts[counts >= min_n].index, key=lambda name: (-counts[name], name))
        while told and 0 < counts.drop(told).sum() < min_n:  # so few are told only together with the next rarest
            told.pop()
    else:
        told = [name for name in like["bin"] if name != REST]
    rest = int(counts[~counts.index.isin(told)].sum())
    rows = [(name, np.nan, np.nan, int(counts.get(name, 0))) for name in told]
    if rest or (like is not None and REST in set(like["bin"])):
        rows.append((REST, np.nan, np.nan, rest))
    return pd.DataFrame(rows, columns=["bin", "from_value", "to_value", "n"]).astype({"n": "int64"})


def _most_changed(pair: pd.DataFrame, min_n: int) -> tuple[Any, ...]:
    """The bin whose share changed most, with both shares and their intervals; nothing where all are too small."""
    told = pair[(pair["n_was"] >= min_n) & (pair["n_is"] >= min_n)]
    if told.empty:
        return ("", *[np.nan] * 6)
    before_n, now_n = pair["n_was"].sum(), pair["n_is"].sum()
    gap = (told["n_is"] / now_n - told["n_was"] / before_n).abs().to_numpy(float)
    row = told.iloc[int(np.argmax(gap))]
    shares = []
    for count, n in ((row["n_was"], before_n), (row["n_is"], now_n)):
        shares += [float(count / n), *wilson(float(count), float(n))]
    return (row["bin"], *shares)
