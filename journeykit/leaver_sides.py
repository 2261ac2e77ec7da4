"""Who stood at a step of a funnel: those who stopped there, and those who went on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import config as _config
from journeykit import engine, errors
from journeykit.funnel_times import labels
from journeykit.funnels import NO_FUNNEL, NO_VALUE, Reached
from journeykit.quality import over_people
from journeykit.stats import design_effect

KNOWN = 0.8  # of those at a step, the share whose value of a column must be known to compare by it
STRATA, EACH = 10, 100  # groups of exposure, and people in each
_EDGES = [round(1_000_000 * 1.15**step) for step in range(136)]  # from a second to five years
NO_LEAK = "no step of the funnel loses people"


@dataclass(frozen=True)
class Sides:
    """Those who stood at a step: a lazy table of them, and which steps it is about.

    table: the columns of `Reached.table`, and start_us (the entry), at_us (when the unit stood there), next_us (when it
    took the next step; null when it did not), left (1: it stopped, 0: it went on).
    """

    number: int
    step: str
    next_number: int
    next_step: str
    table: nw.LazyFrame[Any]


def why_not(reached: Reached, at: str | int) -> str:
    """Return why there is nobody to look at, or "": the study has no funnel, or no step is named."""
    return NO_FUNNEL if not reached.rules.steps else NO_LEAK if at == "" else ""


def pairs(rules: _config.Funnel) -> list[tuple[int, int]]:
    """Return the numbers of each required step and of the required step after it.

    >>> pairs(_config.Funnel(steps=["ad", "call?", "cart", "buy"]))
    [(1, 3), (3, 4)]
    """
    required = [k for k, step in enumerate(rules.steps, start=1) if not step.optional]
    return list(pairwise(required))


def step_number(reached: Reached, at: str | int, where: str) -> int:
    """Return the number of a step that people can stop at, given its label or number.

    Raises:
        JourneyError: there is no such step, or it is the last one.
    """
    names = labels(reached.rules)
    number = at if isinstance(at, int) else names.index(at) + 1 if at in names else 0
    if not 1 <= number < len(names):
        last = at in (names[-1], len(names))
        said = f"nobody stops at the last step, {at!r}" if last else f"the funnel has no step {at!r}"
        hint = "" if last else errors.nearest(str(at), names[:-1])
        raise errors.JourneyError(f"{where}: {said}.{hint} Allowed: {', '.join(names[:-1])}, or its number.")
    return number


def sides(reached: Reached, at: str | int, where: str = "leavers") -> Sides:
    """Return who stood at a step, and who of them took the next required step in the counted attempt.

    Units whose window is still open are left out: whether they stop is not known yet.

    Raises:
        JourneyError: there is no such step, or it is the last one.
    """
    k = step_number(reached, at, where)
    m = next(n for n in range(k + 1, len(reached.rules.steps) + 1) if not reached.rules.steps[n - 1].optional)
    names = labels(reached.rules)
    table = _standing(reached, k, went_on(reached, m), nw.col(f"at_{m}"))
    return Sides(k, names[k - 1], m, names[m - 1], table)


def deepest(reached: Reached, k: int) -> nw.LazyFrame[Any]:
    """Return the table of `Sides` for a step at which units stop that took no later one, not even an optional one."""
    if reached.rules.entry == "open":
        return sides(reached, k).table
    later = [nw.col(f"at_{j}") for j in range(k + 1, len(reached.rules.steps) + 1)]
    return _standing(reached, k, nw.col("depth") > k, nw.coalesce(*later))  # they are in order


def went_on(reached: Reached, m: int) -> nw.Expr:
    """Return whether a unit took step m, on the way from the step before it."""
    return nw.col(f"came_{m}") == 1 if reached.rules.entry == "open" else ~nw.col(f"at_{m}").is_null()


def value_at(column: str, k: int) -> nw.Expr:
    """Return a column's value at a step, or at the last step before it that has one, as "(none)" where there is none.

    A price that only one step shows is known from there on. The value at the first entry comes last.
    """
    return nw.coalesce(*[nw.col(f"{column}_{j}") for j in range(k, -1, -1)], nw.lit(NO_VALUE))


def require_by(reached: Reached, by: list[str], where: str) -> None:
    """Raise JourneyError when a column is not among those that `funnels.reach` was asked for."""
    for name in by:
        if name not in reached.columns:
            raise errors.JourneyError(
                f"{where}: the values of {name!r} at the steps are not known.{errors.nearest(name, reached.columns)} "
                f"Known: {', '.join(reached.columns) or 'none'}. Give it to funnels.reach(…, by=[…])."
            )


def words(column: str) -> str:
    """Return the name of a column of touches as words.

    >>> words("segment_shipping_price"), words("properties.plan")
    ('shipping price', 'plan')
    """
    return column.removeprefix("segment_").removeprefix("properties.").replace("_", " ")


def by_exposure(table: nw.LazyFrame[Any], most: int = STRATA) -> nw.LazyFrame[Any]:
    """Add `stratum`: 0, 1, 2 … by the time from the entry to the step, in groups of about the same size.

    Who has looked around for longer has met more, and has less time left to go on. There are at most `most` groups, and
    none where there are fewer than 100 people for each; times of one class of a fine scale are not told apart.
    """
    waited = nw.col("at_us") - nw.col("start_us")
    classes = [nw.when(waited >= edge).then(nw.lit(1)).otherwise(nw.lit(0)) for edge in _EDGES]
    found = engine.fetch(table.with_columns(_class=nw.sum_horizontal(*classes)).group_by("_class").agg(n=nw.len()))
    n = found.set_index("_class")["n"].sort_index()
    groups = max(1, min(most, int(n.sum()) // EACH))
    below = n.cumsum() / n.sum() if len(n) else n
    cuts = sorted({int((below >= j / groups).idxmax()) for j in range(1, groups)}) if len(n) else []
    past = [nw.when(waited >= _EDGES[cut]).then(nw.lit(1)).otherwise(nw.lit(0)) for cut in cuts if cut < len(_EDGES)]
    return table.with_columns(stratum=nw.sum_horizontal(nw.lit(0), *past) if past else nw.lit(0))


def totals_by(table: nw.LazyFrame[Any]) -> pd.DataFrame:
    """Return how many stopped and went on in each stratum: stratum, stopped_n, went_on_n."""
    sums = table.group_by("stratum").agg(n=nw.len(), stopped_n=nw.col("left").sum())
    found = engine.fetch(sums).astype("int64").sort_values("stratum", ignore_index=True)
    return found.assign(went_on_n=found["n"] - found["stopped_n"])[["stratum", "stopped_n", "went_on_n"]]


def totals(table: nw.LazyFrame[Any]) -> tuple[int, int]:
    """Return how many went on and how many stopped."""
    found = engine.fetch(table.group_by("left").agg(n=nw.len())).set_index("left")["n"]
    return int(found.get(0, 0)), int(found.get(1, 0))


def observed(table: nw.LazyFrame[Any], reached: Reached, within: str) -> nw.LazyFrame[Any]:
    """Keep those for whom a time after the step had passed by the end of observation."""
    if reached.until is None or not within:
        return table
    return table.filter(nw.col("at_us") + _config.seconds(within) * 1_000_000 <= reached.until)


def design(table: nw.LazyFrame[Any], reached: Reached) -> float:
    """Return by how much the units are fewer than their number, because those of one person are alike."""
    if reached.rules.per == "person":
        return 1.0
    each = table.group_by("person_id").agg(_k=nw.col("left").sum().cast(nw.Int64), _n=nw.len().cast(nw.Int64))
    found = engine.fetch(over_people(each)).iloc[0]
    return design_effect(*[int(found[name] or 0) for name in ("_k", "_n", "_kk", "_kn", "_nn", "_clusters")])


def _standing(reached: Reached, k: int, on: nw.Expr, next_us: nw.Expr) -> nw.LazyFrame[Any]:
    at = nw.col(f"at_{k}")
    table = reached.table.filter(nw.col("is_open") == 0, ~at.is_null())
    table = table.with_columns(
        start_us=nw.col("at_1") if reached.rules.entry != "open" else nw.col("first_us"),
        at_us=at,
        next_us=next_us,
        left=nw.when(on).then(nw.lit(0)).otherwise(nw.lit(1)).cast(nw.Int64()),
    )
    # With entry "open" the first taking of the next step may be before this one.
    goes = (nw.col("left") == 0) & (nw.col("next_us") >= nw.col("at_us"))
    return table.with_columns(next_us=nw.when(goes).then(nw.col("next_us")))
