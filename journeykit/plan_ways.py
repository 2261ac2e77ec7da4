"""Ways off the plan: the most frequent journeys that differ from it, each beside the plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import alignment, engine, stats
from journeykit.plans import FINISHED, Judged

REST = "(all other ways off the plan)"
MOST_WAYS = 200_000  # different journeys that are looked at event by event; rarer ones are in the last row

_COLUMNS = [
    *("way", "n", "people_n", "share", "share_low", "share_high", "finished_n"),
    *("converted_n", "converted_share", "converted_share_low", "converted_share_high"),
]


def off_plan(judged: Judged, *, top: int = 10, min_n: int = 1) -> pd.DataFrame:
    """Count the most frequent ways off the plan, each as its steps with marks.

    ✓ done, ○ skipped, + extra, ↺ repeated, ⇄ out of order (where it came), and where the journey stops before the
    plan's end. The same in a row is said once, so ways that differ in the number of repetitions are one. Journeys whose
    only deviation is a broken time rule are not here.

    One row per way, most frequent first, and a last row for all others: n journeys, people_n, share of all journeys
    with an event that counts (95 % Wilson interval), and of those that are over (`finished_n`) the number and share
    that converted. A way that shows the conversion converts by definition. Ways of fewer than `min_n` people are in the
    last row; the conversion of fewer than `min_n` finished journeys is not told.

    >>> from tests.conftest import make_log
    >>> from journeykit.plans import judge
    >>> found = judge(make_log("u1: ad visit buy | u2: ad buy"), steps=["ad", "visit", "buy"])
    >>> off_plan(found)["way"].tolist()
    ['✓ ad → ○ visit → ✓ buy']
    """
    columns = _COLUMNS if judged.has_outcome else _COLUMNS[:6]
    if judged.reason:
        return stats.not_enough(columns, judged.reason)
    table = judged.counting
    table = table.with_columns(
        trace=nw.when(nw.col("shown") != "").then(nw.col("shown")).otherwise(nw.col("code")),
        converted=nw.when(nw.col("outcome") == "converted").then(1).otherwise(0),
        finished=nw.when(nw.col("outcome").is_in(list(FINISHED))).then(1).otherwise(0),
    )
    counted = {"n": nw.len(), "finished_n": nw.col("finished").sum(), "converted_n": nw.col("converted").sum()}
    ways = table.group_by("trace").agg(**counted).sort("n", "trace", descending=[True, False]).head(MOST_WAYS)
    seen = engine.fetch(ways).sort_values("trace", ignore_index=True)
    counts = (judged.groups["code"] != "") | (judged.groups["outside_n"] > 0)
    total = int(judged.groups.loc[counts, "n"].sum())
    seen["way"] = _marks(judged, seen["trace"])
    off = seen[seen["way"] != ""]
    if off.empty:
        return stats.not_enough(columns, f"no journey deviates from the plan (n = {total})")
    found = off.groupby("way", as_index=False)[["n", "finished_n", "converted_n"]].sum()
    found = found.sort_values(["n", "way"], ascending=[False, True]).head(top)
    people = _people(table, off, list(found["way"]))
    found["people_n"] = found["way"].map(people).astype("int64")
    found = found[found["people_n"] >= min_n]
    rest = off.loc[~off["way"].isin(found["way"]), ["n", "finished_n", "converted_n"]].sum()
    rest["n"] += total - seen["n"].sum()
    if rest["n"] > 0:
        found = pd.concat([found, pd.DataFrame([{"way": REST, **rest, "people_n": np.nan}])], ignore_index=True)
    found = stats.add_share(found.assign(total=total), "all", "n", "total")
    found = found.rename(columns={f"all_share{end}": f"share{end}" for end in ("", "_low", "_high")})
    found = stats.add_share(found, "converted", "converted_n", "finished_n")
    told = [name for name in columns if name.startswith("converted")]
    found[told] = found[told].where(found["finished_n"] >= max(min_n, 1))
    return found[columns].reset_index(drop=True)


def _marks(judged: Judged, traces: Iterable[str]) -> list[str]:
    """Each trace as its steps with marks, "" where it has no deviation."""
    known, names = dict(judged.alignments()), list(traces)
    new = [trace for trace in names if trace not in known]  # those with events outside the plan
    known.update(zip(new, alignment.judge(new, judged.letters.plan), strict=True))
    extras = judged.letters.extras
    return [
        alignment.marked(trace, known[trace], judged.labels, extras) if known[trace].odd or known[trace].skipped else ""
        for trace in names
    ]


def _people(table: nw.LazyFrame[Any], off: pd.DataFrame, ways: list[str]) -> dict[str, int]:
    """How many people took each way."""
    known = off.loc[off["way"].isin(ways), ["trace", "way"]]
    joined = table.select("trace", "person_id").join(engine.beside(known, table), on="trace", how="inner")
    found = engine.fetch(joined.group_by("way").agg(people_n=nw.col("person_id").n_unique()))
    return dict(zip(found["way"], found["people_n"], strict=True))
