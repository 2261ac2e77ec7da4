"""Paths: what follows what, which ways people take, and how many keep to the planned one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config as _config
from journeykit import engine, errors, stats
from journeykit.funnels import OTHER, alternatives, shares, unit_column

ENDED = "(ended)"
REST = "(all other paths)"
NO_PLAN = "journey.toml declares no plan; add a [plans.<name>] table with its steps"
ARROW = " → "

_TRANSITION_COLUMNS = ["from", "to", "n", "people_n", "share", "share_low", "share_high", "median_seconds"]
_MATRIX_COLUMNS = ["position", "value", "n", "share"]
_VARIANT_COLUMNS = ["variant", "paths_n", "n", "share", "share_low", "share_high", "cumulative_share"]
_CONVERTED = ["finished_n", "converted_n", "converted_share", "converted_share_low", "converted_share_high"]
_ON_PLAN = ["on_plan_n", "on_plan_share", "on_plan_share_low", "on_plan_share_high"]
_PLAN_COLUMNS = ["group", "n", *_ON_PLAN, "stopped_early_n", "skipped_n", "out_of_order_n", "no_step_n"]
_KINDS = ["on_plan", "stopped_early", "skipped", "out_of_order", "no_step"]


def choose(study: _config.Study, name: str = "") -> _config.Plan:
    """Return one of the study's plans; "" stands for the first.

    A study without plans gets a plan without steps, for which `plan_share` returns an empty table that says so.

    Raises:
        JourneyError: there is no plan of this name.
    """
    if not study.plans and not name:
        return _config.Plan.model_construct(steps=[], on="stage")
    if name and name not in study.plans:
        raise errors.JourneyError(
            f"plans: there is no plan {name!r}.{errors.nearest(name, study.plans)} "
            f"journey.toml declares: {', '.join(study.plans) or 'none'}."
        )
    return study.plans[name] if name else next(iter(study.plans.values()))


def transitions(touches: Any, *, on: str = "event", within: str = "session", min_n: int = 1) -> pd.DataFrame:
    """Count which value directly follows which, in the same person, session or journey.

    Consecutive pairs in the total order; a value that follows itself counts. Events without a value of `on` are left
    out first, so the pair closes over them. `share` is of all pairs that leave `from`. Its 95 % Wilson interval takes
    pairs as independent; pairs of one person are not, so it is too narrow where few people make many pairs.

    Requires `time_us` or `timestamp` (UTC), `source`, `source_row`, `event_id`, `person_id`, the unit of `within`
    (person, session or journey) and `on`. One row per pair, most frequent first: n pairs, `people_n` different
    people, share of leaving `from`, median seconds between the two. Pairs of fewer than `min_n` people are left out
    (their pairs stay in the denominators; their number is `attrs["left_out_n"]`).

    >>> from tests.conftest import make_log
    >>> transitions(make_log("u1: ad visit visit"))[["from", "to", "n"]].values.tolist()
    [['ad', 'visit', 1], ['visit', 'visit', 1]]
    """
    rows, unit = _rows(touches, on, within, "transitions")
    order = list(engine.ORDER)
    rows = rows.with_columns(
        before=nw.col("value").shift(1).over(unit, order_by=order),
        before_us=nw.col("time_us").shift(1).over(unit, order_by=order),
    ).filter(~nw.col("before").is_null())
    rows = rows.with_columns(seconds=(nw.col("time_us") - nw.col("before_us")) / 1_000_000)
    pairs = rows.group_by("before", "value").agg(
        n=nw.len(), people_n=nw.col("person_id").n_unique(), median_seconds=nw.col("seconds").median()
    )
    found = engine.fetch(pairs).rename(columns={"before": "from", "value": "to"})
    if found.empty:
        return stats.not_enough(_TRANSITION_COLUMNS, "no two events follow each other (n = 0)")
    leaving = found.groupby("from")["n"].transform("sum")
    found = found.assign(**shares("share", found["n"], leaving))
    found = found.sort_values(["n", "from", "to"], ascending=[False, True, True])
    table = found.loc[found["people_n"] >= min_n, _TRANSITION_COLUMNS].reset_index(drop=True)
    if table.empty:
        return stats.not_enough(_TRANSITION_COLUMNS, f"not enough data (no pair has at least {min_n} people)")
    table.attrs["left_out_n"] = int(found["n"].sum() - table["n"].sum())
    return table


def step_matrix(
    touches: Any,
    *,
    on: str = "event",
    within: str = "session",
    steps: int = 8,
    top: int = 10,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count what people do first, second, third…, out of all units, with those who have ended.

    Requires the columns of `transitions`. One row per position and value: the `top` values that are most frequent in
    the first `steps` positions, then "(other)", then "(ended)" (no further event); the shares of a position sum to 1.
    Cells of fewer than `min_n` units are counted in "(other)".
    """
    rows, unit = _rows(touches, on, within, "step_matrix")
    rows = _numbered(rows, unit).filter(nw.col("position") <= steps)
    found = engine.fetch(rows.group_by("position", "value").agg(n=nw.len()))
    if found.empty:
        return stats.not_enough(_MATRIX_COLUMNS, "not enough data (n = 0)")
    units_n = int(found.loc[found["position"] == 1, "n"].sum())
    total = found.groupby("value")["n"].sum().sort_index().sort_values(ascending=False, kind="stable")
    kept = list(total.index[:top])
    shown = found["value"].where(found["value"].isin(kept) & (found["n"] >= min_n), OTHER)
    grid = found.assign(value=shown).pivot_table(index="position", columns="value", values="n", aggfunc="sum")
    grid = grid.reindex(index=range(1, steps + 1), columns=[*[v for v in kept if v != OTHER], OTHER]).fillna(0)
    grid = grid.assign(**{ENDED: units_n - grid.sum(axis=1)}).astype("int64")
    table = grid.rename_axis(index="position", columns="value").reset_index().melt(id_vars="position", value_name="n")
    table = table.sort_values("position", kind="stable", ignore_index=True)
    return table.assign(share=table["n"] / units_n)[_MATRIX_COLUMNS]


def variants(
    touches: Any,
    *,
    on: str = "touchpoint",
    within: str = "journey",
    journeys: Any = None,
    top: int = 15,
    length: int = 12,
    collapse: bool = True,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count the paths that units take, as text such as "Ad → Browse → Cart".

    With `collapse`, a value that follows itself counts once. Only the first `length` values are compared; a longer
    path ends with "…". Requires the columns of `transitions`. One row per path, most frequent first, and a last row
    for all others (`paths_n` says how many different ones), so that n sums to the number of units and shares to 1.
    Paths taken by fewer than `min_n` units are in the last row.

    With `journeys` (columns `journey_id`, `outcome`; not used unless `within` is "journey", the unit that has an
    outcome): of the journeys that are over (`finished_n`: converted or abandoned) the number and share that converted;
    empty where fewer than `min_n` are over. Open journeys are left out of that share. A path that shows the converting
    touchpoint itself converts by definition: choose a `length` before it.

    >>> from tests.conftest import make_log
    >>> variants(make_log("u1: ad visit visit buy | u2: ad visit buy"))["variant"].tolist()
    ['ad → visit → buy']
    """
    if within != "journey":
        journeys = None
    columns = _VARIANT_COLUMNS if journeys is None else [*_VARIANT_COLUMNS, *_CONVERTED]
    rows, unit = _rows(touches, on, within, "variants")
    order = list(engine.ORDER)
    if collapse:
        rows = rows.with_columns(before=nw.col("value").shift(1).over(unit, order_by=order))
        rows = rows.filter(nw.col("before").is_null() | (nw.col("before") != nw.col("value")))
    later = {f"value_{k}": nw.col("value").shift(-k).over(unit, order_by=order) for k in range(1, length + 1)}
    rows = _numbered(rows.with_columns(**later), unit).filter(nw.col("position") == 1)
    more = nw.when(~nw.col(f"value_{length}").is_null()).then(nw.lit("…"))
    parts = [nw.col("value"), *[nw.col(f"value_{k}") for k in range(1, length)], nw.col("more")]
    paths = rows.with_columns(more=more)
    paths = paths.with_columns(variant=nw.concat_str(parts, separator=ARROW, ignore_nulls=True))
    counted = {"n": nw.len()}
    if journeys is not None:
        outcomes = _outcomes(journeys, rows)
        paths = paths.select("journey_id", "variant").join(outcomes, on="journey_id", how="left")
        converted = nw.when(nw.col("outcome") == "converted").then(nw.lit(1)).otherwise(nw.lit(0))
        finished = nw.when(nw.col("outcome").is_in(["converted", "abandoned"])).then(nw.lit(1)).otherwise(nw.lit(0))
        paths = paths.with_columns(converted=converted, finished=finished)
        counted |= {"finished_n": nw.col("finished").sum(), "converted_n": nw.col("converted").sum()}
    counts = paths.group_by("variant").agg(**counted)
    totals = {f"all_{name}": nw.col(name).sum() for name in counted}
    counts = counts.with_columns(paths_n=nw.col("n") * 0 + 1)
    counts = counts.with_columns(**totals, all_paths_n=nw.col("paths_n").sum())
    best = engine.fetch(counts.sort("n", "variant", descending=[True, False]).head(top))
    if best.empty:
        return stats.not_enough(columns, "not enough data (n = 0)")
    total = best.filter(like="all_").iloc[:1].rename(columns=lambda name: name.removeprefix("all_")).astype("int64")
    table = best[best["n"] >= min_n].sort_values(["n", "variant"], ascending=[False, True])
    if table.empty:
        different, n = int(total["paths_n"].iloc[0]), int(total["n"].iloc[0])
        return stats.not_enough(
            columns, f"no path is taken at least {min_n} times (n = {n}, {different} different paths)"
        )
    summed = table[total.columns].sum()
    rest = (total - summed).assign(variant=REST)
    table = pd.concat([table, rest[rest["n"] > 0]], ignore_index=True)
    units_n = pd.Series(int(total["n"].iloc[0]), index=table.index)
    table = table.assign(**shares("share", table["n"], units_n), cumulative_share=table["n"].cumsum() / units_n)
    if journeys is not None:
        table = table.assign(**shares("converted_share", table["converted_n"], table["finished_n"]))
        told = [name for name in _CONVERTED if name != "finished_n"]
        table[told] = table[told].where(table["finished_n"] >= min_n)
    return table[columns]


def plan_share(
    touches: Any,
    *,
    steps: Sequence[str],
    on: str = "stage",
    journeys: Any = None,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count how many journeys keep to the planned order of steps.

    Values outside the plan are ignored, and a step may be repeated until a later one is reached. "a | b" in a step
    are alternatives, and a step that ends in "?" is optional. Each journey counts once, under the first of these that
    applies: `no_step_n` no planned step at all; `out_of_order_n` a step after a later one; `skipped_n` a required step
    before the furthest one reached is missing; `stopped_early_n` in order without a gap, but a required step at the
    end is missing; `on_plan_n` all the rest. Rival: fitness of an alignment, graded but hard to act on.

    Requires the order columns, `journey_id` and `on`; `journeys` with `journey_id` and `outcome` (converted, abandoned,
    open). One row per group: "all finished", "converted", "not converted", with the share on plan and its 95 % Wilson
    interval, then "open", where the unreached end is not held against a journey (on plan so far). Without
    `journeys`: one row "all", every journey judged as finished. Groups of fewer than `min_n` journeys are left out.

    >>> from tests.conftest import make_log
    >>> plan_share(make_log("u1: ad visit buy | u2: ad buy"), steps=["ad", "visit", "buy"])["skipped_n"].tolist()
    [1]
    """
    if not steps:
        return stats.not_enough(_PLAN_COLUMNS, NO_PLAN)
    plan = [alternatives(step.strip().removesuffix("?")) for step in steps]
    required = [k for k, step in enumerate(steps, start=1) if not step.strip().endswith("?")]
    values = [value for step in plan for value in step]
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise errors.JourneyError(f"plan: {twice[0]!r} is in two steps. Give each value one place in the plan.")
    lazy = engine.lazy(touches)
    order = list(engine.ORDER)
    errors.require_columns(lazy.collect_schema().names(), ["journey_id", on, *order], "plan_share")
    rows = lazy.select("journey_id", *order, value=nw.col(on).cast(nw.String())).filter(~nw.col("journey_id").is_null())
    step_of = nw.lit(0)
    for k, allowed in enumerate(plan, start=1):
        step_of = nw.when(nw.col("value").is_in(allowed)).then(nw.lit(k)).otherwise(step_of)
    rows = rows.with_columns(step=step_of)
    rows = rows.with_columns(furthest=nw.col("step").cum_max().over("journey_id", order_by=order))
    back = nw.when((nw.col("step") > 0) & (nw.col("step") < nw.col("furthest"))).then(nw.lit(1)).otherwise(nw.lit(0))
    has = {f"has_{k}": nw.when(nw.col("step") == k).then(nw.lit(1)).otherwise(nw.lit(0)) for k in required}
    rows = rows.with_columns(back=back, **has)
    each = rows.group_by("journey_id").agg(
        nw.col("back").max(), nw.col("furthest").max(), *[nw.col(name).max() for name in has]
    )
    skipped, short = nw.lit(False), nw.lit(False)
    for k in required:
        skipped = skipped | ((nw.col("furthest") > k) & (nw.col(f"has_{k}") == 0))
        short = short | ((nw.col("furthest") < k) & (nw.col(f"has_{k}") == 0))
    kind = nw.when(short).then(nw.lit("stopped_early")).otherwise(nw.lit("on_plan"))
    kind = nw.when(skipped).then(nw.lit("skipped")).otherwise(kind)
    kind = nw.when(nw.col("back") == 1).then(nw.lit("out_of_order")).otherwise(kind)
    kind = nw.when(nw.col("furthest") == 0).then(nw.lit("no_step")).otherwise(kind)
    each = each.select("journey_id", kind=kind)
    if journeys is None:
        each = each.with_columns(outcome=nw.lit("all"))
    else:
        each = each.join(_outcomes(journeys, each), on="journey_id", how="inner")
    found = engine.fetch(each.group_by("outcome", "kind").agg(n=nw.len()))
    if found.empty:
        return stats.not_enough(_PLAN_COLUMNS, "not enough data (n = 0)")
    grid = found.pivot_table(index="outcome", columns="kind", values="n", aggfunc="sum")
    table = _plan_table(grid.reindex(columns=_KINDS).fillna(0).astype("int64"))
    table = table[table["n"] >= max(min_n, 1)].reset_index(drop=True)
    return table if len(table) else stats.not_enough(_PLAN_COLUMNS, f"not enough data (no group of {min_n} journeys)")


def _plan_table(grid: pd.DataFrame) -> pd.DataFrame:
    """Turn numbers of journeys by outcome and kind into the groups of `plan_share`."""
    if "all" in grid.index:
        groups = {"all": grid.loc["all"]}
    else:
        by = grid.reindex(["converted", "abandoned", "open"]).fillna(0).astype("int64")
        groups = {"all finished": by.loc["converted"] + by.loc["abandoned"], "converted": by.loc["converted"]}
        groups["not converted"] = by.loc["abandoned"]
        so_far = by.loc["open"].copy()
        so_far["on_plan"], so_far["stopped_early"] = so_far["on_plan"] + so_far["stopped_early"], 0
        groups["open"] = so_far
    table = pd.DataFrame({f"{kind}_n": [int(row[kind]) for row in groups.values()] for kind in _KINDS})
    table = table.assign(group=list(groups), n=table.sum(axis=1))
    table = table.assign(**shares("on_plan_share", table["on_plan_n"], table["n"]))
    return table[_PLAN_COLUMNS]


def _rows(touches: Any, on: str, within: str, where: str) -> tuple[nw.LazyFrame[Any], str]:
    """Return the events that have a value of `on`, as `value`, and the unit's column."""
    unit = unit_column(within, where)
    lazy = engine.lazy(touches)
    columns = list(dict.fromkeys([unit, "person_id", *engine.ORDER]))
    errors.require_columns(lazy.collect_schema().names(), [*columns, on], where)
    rows = lazy.select(*columns, value=nw.col(on).cast(nw.String()))
    return rows.filter(~nw.col("value").is_null(), ~nw.col(unit).is_null()), unit


def _outcomes(journeys: Any, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Return each journey's outcome as text, whatever type an empty column came with."""
    return engine.beside(journeys, rows).select("journey_id", nw.col("outcome").cast(nw.String()))


def _numbered(rows: nw.LazyFrame[Any], unit: str) -> nw.LazyFrame[Any]:
    """Add `position`, 1 for the first event of the unit."""
    rows = rows.with_columns(one=nw.col("time_us") * 0 + 1)
    return rows.with_columns(position=nw.col("one").cum_sum().over(unit, order_by=list(engine.ORDER)))
