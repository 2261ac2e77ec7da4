"""Funnels: who takes the steps, by which rules, and how many come how far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import config as _config
from journeykit import engine, errors, stats
from journeykit.funnel_reach import UNITS, Reached, reach, unit_column

__all__ = [
    "DEFAULT_BY", "NOTHING_MORE", "NO_FUNNEL", "NO_VALUE", "OTHER", "UNITS", "Reached", "alternatives", "choose",
    "count", "funnel", "reach", "rules", "shares", "unit_column",
]  # fmt: skip

NO_VALUE = "(none)"
NOTHING_MORE = "(nothing more)"
OTHER = "(other)"
DEFAULT_BY = "channel"
NO_FUNNEL = "journey.toml declares no funnel; add a [funnels.<name>] table with its steps"

_START = ["share_of_start", "share_of_start_low", "share_of_start_high"]
_PREVIOUS = ["share_of_previous", "share_of_previous_low", "share_of_previous_high"]
_COLUMNS = ["step_number", "step", "optional", "n", *_START, *_PREVIOUS, "lost_n", "open_n"]
_OPEN_COLUMNS = ["entered_n", "continued_n"]


def choose(study: _config.Study, name: str = "", within: str = "", by: str = "") -> _config.Funnel:
    """Return one of the study's funnels, with its window or segment replaced where a value is given.

    "" stands for the first funnel, its own window and its own segment ("channel" when it names none). A study
    without funnels gets a funnel without steps, for which every function here returns an empty table that says so.

    Raises:
        JourneyError: the study has funnels, but none of this name; or `within` is not a duration.
    """
    if not study.funnels and not name:
        return _config.Funnel.model_construct(steps=[], by=DEFAULT_BY)
    if name and name not in study.funnels:
        raise errors.JourneyError(
            f"funnels: there is no funnel {name!r}.{errors.nearest(name, study.funnels)} "
            f"journey.toml declares: {', '.join(study.funnels) or 'none'}."
        )
    funnel = study.funnels[name] if name else next(iter(study.funnels.values()))
    if within:
        _config.seconds(within)
    return funnel.model_copy(update={"within": within or funnel.within, "by": by or funnel.by or DEFAULT_BY})


def rules(funnel: _config.Funnel) -> dict[str, Any]:
    """Return a configured funnel as the keywords of `reach`: what it sets, without `by`.

    >>> rules(_config.Funnel(steps=["ad", "buy"], within="7d", by="channel"))["within"]
    '7d'
    """
    said = {name: getattr(funnel, name) for name, field in type(funnel).model_fields.items() if name != "by"}
    fields = type(funnel).model_fields
    default = {name: fields[name].get_default(call_default_factory=True) for name in said}
    return {name: value for name, value in said.items() if name == "steps" or value != default[name]}


def alternatives(step: str) -> list[str]:
    """Return the values that a step stands for.

    >>> alternatives("visit | showroom")
    ['visit', 'showroom']
    """
    return [part.strip() for part in step.split("|") if part.strip()]


def count(reached: Reached, *, by: str = "", min_n: int = 1) -> pd.DataFrame:
    """Count the units at each step.

    Shares of the start and of the step before it, with 95 % intervals: Wilson's where people are counted; else those
    of `stats.clustered`, because the sessions of one person are alike. An optional step has its own share, and nobody
    is lost at it: the step after it is compared with the last required one before.

    With entry "open", `n` are the units with the step, whatever was before; the start is all who took any step;
    `continued_n` came from the required step before (`share_of_previous` of those who stood there), `entered_n` not.
    With order "any", row k counts those who took k different steps.

    Args:
        reached: of `reach`.
        by: one of its columns to compare: units have the value at their first entry, which no result can change.
        min_n: a funnel or segment with fewer units at its start is not shown.

    Returns:
        One row per step (and `segment`, largest first): step_number, step, optional, n, share_of_start and
        share_of_previous with their bounds, lost_n since the last required step before, and open_n: units set apart,
        because their time is not over, that have taken it so far. With entry "open", entered_n and continued_n.
        `attrs["left_out_n"]`: units in segments that are too small.

    >>> from tests.conftest import make_log
    >>> count(reach(make_log("u1: ad visit buy | u2: ad buy visit"), steps=["ad", "visit", "buy"]))["n"].tolist()
    [2, 2, 1]
    """
    plan = reached.rules
    columns = [*(["segment"] if by else []), *_COLUMNS, *(_OPEN_COLUMNS if plan.entry == "open" else [])]
    if not plan.steps:
        return stats.not_enough(columns, NO_FUNNEL)
    if by:
        errors.require_columns(reached.columns, [by], "count")
    pairs = _pairs(plan)
    sums = _sums(reached, pairs, f"{by}_0" if by else "")
    sums = pd.concat([sums, sums["units" if plan.entry == "open" else "x_1"].rename("start_n")], axis=1)
    if not by:
        start = int(sums["start_n"].sum())
        if 0 < start < min_n:
            return stats.not_enough(columns, f"not enough data (n = {start}, at least {min_n} are needed)")
        return _table(sums, plan, pairs)[columns]
    sums = sums[sums["start_n"] > 0].sort_values(["start_n", "segment"], ascending=[False, True])
    shown = sums[sums["start_n"] >= min_n]
    if shown.empty:
        largest = int(sums["start_n"].max()) if len(sums) else 0
        return stats.not_enough(columns, f"not enough data (largest group n = {largest}, at least {min_n} are needed)")
    parts = [_table(shown[shown["segment"] == name], plan, pairs).assign(segment=name) for name in shown["segment"]]
    table = pd.concat(parts, ignore_index=True)[columns]
    table.attrs["left_out_n"] = int(sums["start_n"].sum() - shown["start_n"].sum())
    return table


def funnel(
    touches: Any, *, by: str = "", until: pd.Timestamp | None = None, min_n: int = 1, **rules: Any
) -> pd.DataFrame:
    """Count who reaches each step of a funnel: `count` of `reach`, which say what is counted.

    Args:
        touches: as for `reach`.
        by: a column to compare, as it is at the first entry of a unit.
        until: as for `reach`; None: people whose time is not over yet count like all others.
        min_n: as for `count`.
        rules: the keys of `config.Funnel`: steps, within, per and so on.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad visit buy | u2: ad buy visit")
    >>> funnel(log, steps=["ad", "visit", "buy"], order="any")["n"].tolist()
    [2, 2, 2]
    """
    with engine.scratch():
        return count(reach(touches, by=[by] if by else [], until=until, **rules), by=by, min_n=min_n)


@dataclass(frozen=True)
class _Pair:
    """A share of the table: of which sum, in which other one."""

    share: str
    k: int  # the row
    part: str
    whole: str


def _required(plan: _config.Funnel, k: int) -> int:
    """Return the number of the last required step before step k (numbered from 1)."""
    return next(n for n in range(k - 1, 0, -1) if not plan.steps[n - 1].optional)


def _pairs(plan: _config.Funnel) -> list[_Pair]:
    is_open = plan.entry == "open"
    found = []
    for k in range(1, len(plan.steps) + 1):
        found.append(_Pair("share_of_start", k, f"x_{k}", "units" if is_open else "x_1"))
        if k > 1:
            found.append(_Pair("share_of_previous", k, f"c_{k}" if is_open else f"x_{k}", f"x_{_required(plan, k)}"))
    return found


def _sums(reached: Reached, pairs: list[_Pair], by: str) -> pd.DataFrame:
    """Count the units at each step (and segment), and what the intervals need of people with several units."""
    plan, table = reached.rules, reached.table
    steps = range(1, len(plan.steps) + 1)
    took: dict[str, nw.Expr] = {"units": nw.lit(1)}
    for k in steps:
        optional = plan.steps[k - 1].optional
        there = ~nw.col(f"at_{k}").is_null() if optional or plan.entry == "open" else nw.col("depth") >= k
        took[f"x_{k}"] = nw.when(there).then(nw.lit(1)).otherwise(nw.lit(0))
        if plan.entry == "open" and k > 1:
            took[f"c_{k}"] = nw.col(f"came_{k}")
    waiting = nw.col("is_open") == 1
    counted = {name: nw.when(waiting).then(nw.lit(0)).otherwise(value).cast(nw.Int64()) for name, value in took.items()}
    opened = {f"o_{k}": nw.when(waiting).then(took[f"x_{k}"]).otherwise(nw.lit(0)).cast(nw.Int64()) for k in steps}
    table = table.with_columns(segment=nw.col(by).fill_null(NO_VALUE) if by else nw.lit("all"))
    table = table.with_columns(**counted, **opened)
    plain = [nw.col(name).sum() for name in (*counted, *opened)]
    if plan.per == "person":
        found = engine.fetch(table.group_by("segment").agg(*plain))
    else:
        each = table.group_by("segment", "person_id").agg(*plain)
        both = [pair for p in pairs for pair in ((p.part, p.part), (p.part, p.whole), (p.whole, p.whole))]
        products = {f"{a}*{b}": (nw.col(a) * nw.col(b)).sum() for a, b in dict.fromkeys(both)}
        wholes = dict.fromkeys(pair.whole for pair in pairs)
        people = {f"{name}>0": (nw.col(name) > 0).cast(nw.Int64()).sum() for name in wholes}
        found = engine.fetch(each.group_by("segment").agg(*plain, **products, **people))
    if found.empty and not by:
        found = pd.DataFrame([{"segment": "all", **dict.fromkeys((*counted, *opened), 0)}])
    return found


def _table(sums: pd.DataFrame, plan: _config.Funnel, pairs: list[_Pair]) -> pd.DataFrame:
    """Turn the sums of one segment into the funnel table."""
    row, numbers = sums.iloc[0], range(1, len(plan.steps) + 1)
    bounds = {name: np.full(len(plan.steps), np.nan) for name in (*_START, *_PREVIOUS)}
    for pair in pairs:
        found = _bounded(row, pair)
        for name, value in zip((pair.share, f"{pair.share}_low", f"{pair.share}_high"), found, strict=True):
            bounds[name][pair.k - 1] = value
    n = np.array([int(row[f"x_{k}"]) for k in numbers])
    if plan.entry == "closed" and n[0]:
        for name in _START:
            bounds[name][0] = 1.0  # all who start, start: a share without uncertainty
    went_on = np.array([0, *[int(row[f"c_{k}"]) for k in numbers[1:]]]) if plan.entry == "open" else n
    before = np.array([0, *[int(row[f"x_{_required(plan, k)}"]) for k in numbers[1:]]])
    may_lose = np.array([k > 1 and not plan.steps[k - 1].optional for k in numbers])
    any_order = [f"any {k} of {len(plan.steps)}" for k in numbers]
    columns = {
        "step_number": numbers,
        "step": any_order if plan.order == "any" else [step.label for step in plan.steps],
        "optional": [step.optional for step in plan.steps],
        "n": n,
        **bounds,
        "lost_n": np.where(may_lose, before - went_on, 0),
        "open_n": [int(row[f"o_{k}"]) for k in numbers],
        "entered_n": n - went_on,
        "continued_n": went_on,
    }
    return pd.DataFrame(columns)


def _bounded(row: pd.Series[Any], pair: _Pair) -> tuple[float, float, float]:
    """Return a share with its interval: of people, or of several units of a person."""
    part, whole = int(row[pair.part]), int(row[pair.whole])
    if f"{pair.whole}>0" in row:
        both = ((pair.part, pair.part), (pair.part, pair.whole), (pair.whole, pair.whole))
        kk, kn, nn = (int(row[f"{a}*{b}"]) for a, b in both)
        low, high = stats.clustered(part, whole, kk, kn, nn, int(row[f"{pair.whole}>0"]))
    else:
        low, high = stats.wilson(part, whole)
    return part / whole if whole else np.nan, low, high


def shares(name: str, successes: pd.Series, n: pd.Series) -> dict[str, Any]:
    """Return a share and its Wilson interval as columns `<name>`, `<name>_low`, `<name>_high`."""
    bounds = [stats.wilson(k, total) for k, total in zip(successes, n, strict=True)]
    return {
        name: successes / n.where(n > 0),
        f"{name}_low": [low for low, _ in bounds],
        f"{name}_high": [high for _, high in bounds],
    }
