"""Types of journey: finished journeys grouped by what is in them and in which order, where there is such structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats as _stats
from statsmodels.stats.multitest import multipletests

from journeykit import clusters, engine, errors, stats
from journeykit.differences import difference
from journeykit.friction import clustered_parts, clustered_shares
from journeykit.sequences import in_units, starts, with_ends

MIN_JOURNEYS = 200
ARROW = " → "
SEPARATOR = "\x1f"  # between the values of a path; no name holds it
SURVEYS = ("Survey",)
SHOWN = 12  # values of a typical path

_BOUNDS = ("", "_low", "_high")
TYPES = ["type", "n", "people_n", *(f"share{end}" for end in _BOUNDS), "median_values_n", "median_days"]
TYPES += ["converted_n", *(f"converted_share{end}" for end in _BOUNDS), "typical_path"]
APART = ["type", "value", "n", "with_n", "inside_share", "inside_share_low", "inside_share_high"]
APART += ["outside_share", "outside_share_low", "outside_share_high"]
APART += ["difference", "difference_low", "difference_high", "unit", "p_value"]


@dataclass(frozen=True)
class Types:
    """Finished journeys, the types that they were found to be of, and how sure that is."""

    journeys: nw.LazyFrame[Any]  # person_id, unit, path, values_n, days, outcome, number (of the type; 0 is none)
    paths: pd.DataFrame  # different paths: path, n, and where there are types: number (from 1), near
    names: list[str]  # of the types, in order of their number
    choices: pd.DataFrame  # numbers of types that were tried: how clear they are, how alike they come out again
    silhouettes: dict[str, float]  # of these paths, of shuffled ones, of one common process
    note: str  # what was left out
    reason: str  # why there are no types, or ""


def find(
    touches: Any,
    *,
    journeys: Any,
    on: str = "touchpoint",
    conversion: Sequence[str] = (),
    survey_touchpoints: Sequence[str] = SURVEYS,
    length: int = 50,
    sample: int = 50_000,
    most: int = 8,
    min_n: int = 1,
) -> Types:
    """Find types of journey: groups of paths that are alike, stable, and clearer than chance (see `clusters.find`).

    The path of a journey is its values of `on` in order, a value that follows itself once, up to the first event of
    `conversion`: that and what follows it are left out, and the outcome is not used, so that a type cannot be "those
    who bought". Answers to surveys are no step. Journeys that are not over are left out, because their paths are not,
    and those that have nothing before the conversion. At most `length` values of a path are compared. Equal paths
    count once, with their number. Where there are more than `sample` different ones, about so many journeys are drawn,
    the same on every run, and `note` says so.

    Rivals: types by rules (first channel, number of visits), which are easier to act on where somebody knows them; the
    edit distance of paths, slow and less able to find planted types; density clusters, which leave many unassigned.

    Requires `person_id`, `journey_id`, `on`, `event`, `touchpoint`, `time_us` or `timestamp` (UTC), and `position` or
    the columns of the total order; `journeys` with `journey_id` and `outcome`. Types of fewer than one in fifty
    journeys, or of `min_n`, are not made.
    """
    lazy = engine.lazy(touches)
    errors.require_columns(lazy.collect_schema().names(), ["event", "touchpoint", on], "journey_types")
    touchpoint = nw.col("touchpoint").cast(nw.String()).fill_null("")
    met = lazy.filter(~touchpoint.is_in(list(survey_touchpoints))).with_columns(
        _value=nw.col(on).cast(nw.String()).fill_null(""),
        _won=nw.when(nw.col("event").is_in(list(conversion))).then(nw.lit(1)).otherwise(nw.lit(0)),
    )
    rows, order = in_units(met, "_value", "journey", "journey_types", ["time_us", "_won"])
    made = with_ends(engine.in_order(rows, by="unit", order=order, work=partial(_paths, length=length)), journeys)
    made = made.filter(nw.col("outcome").is_in(["converted", "abandoned"]))
    empty = int(engine.fetch(made.select(n=(nw.col("values_n") == 0).cast(nw.Int64()).sum())).fillna(0)["n"].iloc[0])
    made = made.filter(nw.col("values_n") > 0)
    made, counted, note = _sampled(made, sample)
    if empty:
        note = f"{empty:,} journeys with nothing before the conversion are left out. {note}".strip()
    n = int(counted["n"].sum())
    if n < MIN_JOURNEYS:
        reason = f"not enough data (n = {n} finished journeys, at least {MIN_JOURNEYS} are needed)"
        return Types(_numbered(made, counted), counted, [], clusters.none().choices, {}, note, reason)
    texts = [path.split(SEPARATOR) for path in counted["path"]]
    values = {value: k for k, value in enumerate(sorted({value for path in texts for value in path}))}
    smallest = max(min_n, -(-n // 50))
    found = clusters.find(
        [tuple(values[value] for value in path) for path in texts],
        counted["n"].to_numpy(),
        most=most,
        smallest=smallest,
    )
    if found.labels is None:
        reason = f"not enough structure for types of journey: {found.reason}"
        return Types(_numbered(made, counted), counted, [], found.choices, found.silhouettes, note, reason)
    counted = counted.assign(number=found.labels + 1, near=found.near)
    names = _names(_presence(counted))
    return Types(_numbered(made, counted), counted, names, found.choices, found.silhouettes, note, "")


def table(types: Types, *, min_n: int = 1) -> pd.DataFrame:
    """Describe each type: how large, how long, how many converted, and its most typical path.

    One row per type, the largest first: `n` journeys, `people_n`, `share` of all, median number of values and of days
    up to the conversion or the end, `converted_n` and share, and the path nearest to the middle of the type (only as
    far as at least `min_n` journeys took it, then "…"). Intervals draw people (`stats.clustered`). That types convert
    differently says nothing about causes: a longer path has more in it, and had more time to convert.
    """
    if types.reason:
        return stats.not_enough(TYPES, types.reason)
    rows = types.journeys.with_columns(
        n=nw.lit(1), converted=nw.when(nw.col("outcome") == "converted").then(nw.lit(1)).otherwise(nw.lit(0))
    )
    sized = clustered_parts(rows, rows, ["number"]).drop(columns="of_n")
    won = clustered_shares(rows, ["number"], "n", ["converted"]).drop(columns=["n", "people_n"])
    middle = rows.group_by("number").agg(
        median_values_n=nw.col("values_n").cast(nw.Float64()).median(), median_days=nw.col("days").median()
    )
    found = sized.merge(won, on="number").merge(engine.fetch(middle), on="number").sort_values("number")
    typical = [_typical(types.paths, number, min_n) for number in found["number"]]
    named = [types.names[number - 1] for number in found["number"]]
    return found.assign(type=named, typical_path=typical)[TYPES].reset_index(drop=True)


def apart(types: Types, *, min_n: int = 1) -> pd.DataFrame:
    """Say what sets each type apart: which values its journeys have more often, or less often, than all others.

    One row per type and value, the largest difference first: `n` journeys of the type, `with_n` of them with the value,
    their share, the share of all other journeys, and the difference in percentage points with its 95 % interval
    (Newcombe 1998). `p_value` is that of equal shares, adjusted by Benjamini and Hochberg over all rows. It only says
    which differences are too large for so few journeys to make by chance: the types were made to differ, so it is no
    test of whether there are types. Values with fewer than `min_n` journeys are left out.
    """
    if types.reason:
        return stats.not_enough(APART, "without types there is nothing that sets them apart")
    found = _presence(types.paths)
    found = found[found["with_n"] + found["other_n"] >= max(min_n, 1)].reset_index(drop=True)
    bounds = [difference(*row)[1:] for row in found[["with_n", "n", "other_n", "rest_n"]].to_numpy()]
    pooled = (found["with_n"] + found["other_n"]) / (found["n"] + found["rest_n"])
    error = np.sqrt(pooled * (1 - pooled) * (1 / found["n"] + 1 / found["rest_n"]))
    z = found["difference"] / error.where(error > 0, np.inf)
    inside = [stats.wilson(k, n) for k, n in zip(found["with_n"], found["n"], strict=True)]
    outside = [stats.wilson(k, n) for k, n in zip(found["other_n"], found["rest_n"], strict=True)]
    found = found.assign(
        type=[types.names[number - 1] for number in found["number"]],
        inside_share_low=[low for low, _ in inside],
        inside_share_high=[high for _, high in inside],
        outside_share_low=[low for low, _ in outside],
        outside_share_high=[high for _, high in outside],
        difference_low=[low for low, _ in bounds],
        difference_high=[high for _, high in bounds],
        unit="share",
        p_value=multipletests(2 * _stats.norm.sf(np.abs(z)), method="fdr_bh")[1],
        _size=found["difference"].abs(),
    )
    found = found.sort_values(["number", "_size", "value"], ascending=[True, False, True], ignore_index=True)
    return found[APART]


def _paths(table: pa.Table, _first: int, *, length: int) -> pa.Table:
    """Return each journey's path up to its conversion as text, with the number of its values and the days it took."""
    new, time = starts(table), table["time_us"].to_numpy()
    unit, row, began = np.cumsum(new) - 1, np.arange(len(new)), np.flatnonzero(new)
    units = len(began)
    won = np.flatnonzero(table["_won"].to_numpy() == 1)
    cut = np.append(began[1:], len(new)) if units else began
    cut = cut.copy()
    np.minimum.at(cut, unit[won], won)
    text = table["value"].cast(pa.string())
    text = text.combine_chunks() if text.num_chunks else pa.array([], pa.string())
    has = row[(row < cut[unit]) & pc.not_equal(text, "").to_numpy(zero_copy_only=False)]
    value, of = text.take(pa.array(has)), unit[has]
    fresh = np.ones(len(has), dtype=bool)  # a value that follows itself counts once
    fresh[1:] = (of[1:] != of[:-1]) | pc.not_equal(value[1:], value[:-1]).to_numpy(zero_copy_only=False)
    kept = np.flatnonzero(fresh)
    count = np.bincount(of[kept], minlength=units)
    place = np.arange(len(kept)) - (np.cumsum(count) - count)[of[kept]]
    kept = kept[place < length]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of[kept], minlength=units))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), value.take(pa.array(kept)))
    last = time.copy()[began] if units else time
    np.maximum.at(last, of, time[has])
    first = np.full(units, np.iinfo(np.int64).max)
    np.minimum.at(first, of, time[has])
    days = np.where(count > 0, (last - np.where(count > 0, first, last)) / 86_400_000_000, 0.0)
    return pa.table(
        {
            "person_id": table["person_id"].to_numpy()[began],
            "unit": table["unit"].to_numpy()[began],
            "path": pc.binary_join(lists, SEPARATOR),
            "values_n": count,
            "days": days,
        }
    )


def _sampled(made: nw.LazyFrame[Any], sample: int) -> tuple[nw.LazyFrame[Any], pd.DataFrame, str]:
    """Return the journeys, their different paths with their numbers, and a note where only some were drawn."""
    made = engine.keep(made, "journey_types")
    paths = made.group_by("path").agg(n=nw.len())
    sizes = engine.fetch(paths.select(n=nw.col("n").sum(), different=nw.len())).fillna(0).astype("int64")
    n, note = int(sizes["n"].iloc[0]), ""
    if int(sizes["different"].iloc[0]) > sample:
        turn = (nw.col("unit") * 2_654_435_761) % 2**32  # spread evenly, and the same on every engine
        made = engine.keep(made.filter(turn < 2**32 * sample // n), "journey_types")
        paths = made.group_by("path").agg(n=nw.len())
    counted = engine.fetch(paths).sort_values("path", ignore_index=True)
    if int(counted["n"].sum()) < n:
        note = f"{int(counted['n'].sum()):,} of {n:,} journeys were drawn."
    return made, counted, note


def _numbered(made: nw.LazyFrame[Any], counted: pd.DataFrame) -> nw.LazyFrame[Any]:
    if "number" not in counted:
        return made.with_columns(number=nw.lit(0))
    return engine.keep(
        made.join(engine.beside(counted[["path", "number"]], made), on="path", how="inner"), "journey_types"
    )


def _presence(paths: pd.DataFrame) -> pd.DataFrame:
    """Count the journeys with each value in each type, and in all others."""
    values = pd.Series([sorted(set(path.split(SEPARATOR))) for path in paths["path"]], index=paths.index)
    rows = paths.assign(value=values).explode("value")
    grid = rows.pivot_table(index="value", columns="number", values="n", aggfunc="sum").fillna(0).astype("int64")
    size = paths.groupby("number")["n"].sum()
    parts = []
    for number in grid.columns:
        rest = int(size.sum() - size[number])
        part = pd.DataFrame({"number": number, "value": grid.index, "n": int(size[number]), "rest_n": rest})
        part = part.assign(with_n=grid[number].to_numpy(), other_n=(grid.sum(axis=1) - grid[number]).to_numpy())
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    found = found.assign(inside_share=found["with_n"] / found["n"], outside_share=found["other_n"] / found["rest_n"])
    return found.assign(difference=found["inside_share"] - found["outside_share"])


def _names(presence: pd.DataFrame) -> list[str]:
    """Name each type by the two values that set it apart most: those that it has more often, else less often."""
    names: list[str] = []
    for _, part in presence.groupby("number"):
        part = part.sort_values(["difference", "value"], ascending=[False, True])
        more = part[part["difference"] >= 0.1]["value"].head(2).tolist()
        less = part[part["difference"] <= -0.1].iloc[::-1]["value"].head(2).tolist()
        name = " + ".join(more) if more else "without " + " and ".join(less) if less else "like all"
        if name in names and more and less:
            name += f", without {less[0]}"
        names.append(name if name not in names else f"{name} ({len(names) + 1})")
    return names


def _typical(paths: pd.DataFrame, number: int, min_n: int) -> str:
    """Return the path nearest to the middle of a type, as far as enough journeys took it."""
    own = paths[paths["number"] == number].sort_values(["near", "n", "path"], ascending=[False, False, True])
    values = str(own["path"].iloc[0]).split(SEPARATOR)
    for size in range(min(len(values), SHOWN), 0, -1):
        start = SEPARATOR.join(values[:size])
        whole = size == len(values)
        same = paths["path"] == start if whole else (paths["path"] + SEPARATOR).str.startswith(start + SEPARATOR)
        if paths.loc[same, "n"].sum() >= min_n:
            return ARROW.join(values[:size] + ([] if whole else ["…"]))
    return "…"
