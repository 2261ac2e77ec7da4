"""Who reaches what in a funnel: its rules turned into marks of events, and one pass over them in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import pandas as pd
from pydantic import ValidationError

from journeykit import engine, errors, steps
from journeykit.config import Funnel, Step, seconds
from journeykit.funnel_chains import EXIT, Link, Rules, attempts
from journeykit.funnel_rows import BITS
from journeykit.problems import say

UNITS = {"person": "person_id", "session": "session_id", "journey": "journey_id"}


@dataclass(frozen=True)
class Reached:
    """Who reached what: a lazy table with a row per unit (or attempt), and the rules it was made by; see `reach`."""

    table: nw.LazyFrame[Any]
    rules: Funnel
    columns: tuple[str, ...] = ()
    until: int | None = None  # microseconds since 1970, UTC


def unit_column(unit: str, where: str) -> str:
    """Return the column of touches that marks a person, session or journey."""
    if unit not in UNITS:
        raise errors.JourneyError(
            f"{where}: {unit!r} is not a unit.{errors.nearest(unit, UNITS)} Allowed: {', '.join(UNITS)}."
        )
    return UNITS[unit]


def reach(touches: Any, *, by: Sequence[str] = (), until: pd.Timestamp | None = None, **rules: Any) -> Reached:
    """Find how deep each person (session, journey, attempt) comes in a funnel, and when it took each step.

    **Chain**: steps on later and later rows of one unit, in the total order of events; one event is never two steps of
    a chain. Whatever happens between, unless `order`, `exclude` or a step forbids it. The whole chain lasts no longer
    than `within`, a step comes no later than its own `within` after the step before it; both edges belong to it.

    **Counted attempt** (`clock`): "any" tries each entry (taking of the first step); the deepest result counts, of the
    earliest entry that leads there, and takes its steps so that it gets there as early as it can, leaving out as few
    optional steps as that allows. "last" is the same result, from the latest entry that leads to its first arrival.
    "first" has one entry, the first. Rivals give other numbers for the same log: `funnel_modes.compare` shows them.
    With order "any", every taking of a step is an entry, and `at_k` is when the k-th different step was taken. With
    entry "open" there is no chain: `at_k` is the first time of step k, and `came_k` says whether some taking of it was
    reached from the last required step before it. With per "attempt", attempts of a person follow one another: the
    next begins with the first entry after the one before has converted, has run out of time or was excluded.

    **Not over yet**: with `until` and `within`, an entry whose time is not over at `until` is no entry, so that all
    have had the same time. A unit with such entries only is marked `is_open`. Events after `until` are left out.

    **Same**: with `same`, each value of these columns is looked at as if it were a unit of its own (what lies between,
    too); of a unit, the deepest result counts, and with clock "first" its first entry.

    Args:
        touches: needs `person_id`, the unit of `per`, `time_us` or `timestamp` (UTC), `position` or the columns of
            the total order, and the columns of the steps, of `same` and `by`.
        by: columns whose values at each step are wanted.
        until: end of observation (naive UTC).
        rules: the keys of `config.Funnel`: steps, within, per and so on.

    Returns:
        `Reached.table`: one row per unit with an entry: unit, attempt (1, 2, 3 … with per "attempt", else 1),
        person_id, depth (number of the deepest step), is_open (1: set apart), first_us (first entry, µs since 1970
        UTC; with entry "open" the first step of any kind), at_1 … at_K (µs, null: not taken), with entry "open"
        came_2 … came_K, with a column `value` value_K (at the last step), and for each column c of `by` c_1 … c_K at
        the steps and c_0 at the first entry, as text.

    Raises:
        JourneyError: a rule is not known or contradicts another, or a column is missing.

    >>> from tests.conftest import make_log
    >>> found = reach(make_log("u1: ad visit buy | u2: ad buy visit"), steps=["ad", "visit", "buy"])
    >>> engine.fetch(found.table)[["unit", "depth"]].values.tolist()
    [[1, 3], [2, 2]]
    """
    if {"at", "came", "value"} & set(by):
        raise errors.JourneyError(f"by: {', '.join(by)} cannot be compared; name other columns of touches.")
    if not rules.get("steps"):
        nothing = pd.DataFrame({name: pd.Series(dtype="int64") for name in ("unit", "attempt", "person_id", "depth")})
        return Reached(engine.lazy(nothing), Funnel.model_construct(steps=[]), tuple(by))
    plan, end = parsed(rules), microseconds(until)
    rows, order = rows_for(touches, plan, by=by, until=end)
    rules_of = kernel_rules(plan, until=end, by=by, value="value" in rows.collect_schema().names())
    table = engine.in_order(rows, by="unit", order=order, work=partial(attempts, rules=rules_of))
    return Reached(table, plan, tuple(by), end)


def rows_for(
    touches: Any, plan: Funnel, *, by: Sequence[str] = (), until: int | None = None, whole: bool = False
) -> tuple[nw.LazyFrame[Any], list[str]]:
    """Return the rows that the kernel needs, as narrow as can be, and the columns that order them within `unit`.

    Args:
        touches: as for `reach`.
        plan: the funnel, with its mode written out.
        by: as for `reach`.
        until: microseconds since 1970 (UTC).
        whole: whether events that are no step are needed too, whatever the funnel says.
    """
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    unit, order = UNITS["person" if plan.per == "attempt" else plan.per], engine.order_of(have)
    members = [name for name in plan.same if name.startswith(steps.MEMBER) and name not in have]
    held = ["properties" if name in members else name for name in plan.same]
    needed = [unit, "person_id", "time_us", *order, *held, *by, *steps.columns(plan.steps, plan.on)]
    errors.require_columns(have, list(dict.fromkeys(needed)), "funnel")
    links, barred = _links(plan)
    table = steps.marked(table, [*plan.steps, *barred], plan.on, "_is_", "funnel")
    for name in members:
        table = engine.with_member(table, "properties", name.removeprefix(steps.MEMBER), name)
    flags = _flags(len(plan.steps) + len(barred))
    table = table.filter(~nw.col(unit).is_null()).with_columns(**flags)
    table = table if until is None else table.filter(nw.col("time_us") <= until)
    matters = nw.any_horizontal(*[nw.col(name) != 0 for name in flags], ignore_nulls=True)
    if whole or plan.steps[-1].values == [EXIT] or any(link.directly for link in links):
        matters = matters | ~nw.col(plan.on).is_null()
    chosen = {"unit": nw.col(unit), **{name: nw.col(name) for name in ("person_id", "time_us", *order, *flags)}}
    chosen |= {f"same_{n}": nw.col(name).cast(nw.String()) for n, name in enumerate(plan.same)}
    chosen |= {f"by_{n}": nw.col(name).cast(nw.String()) for n, name in enumerate(by)}
    chosen |= {"value": nw.col("value").cast(nw.Float64())} if "value" in have else {}
    return table.filter(matters).select(**chosen), order


def kernel_rules(plan: Funnel, *, until: int | None = None, by: Sequence[str] = (), value: bool = False) -> Rules:
    """Return a funnel, with its mode written out, as the kernel sees it; see `rows_for`."""
    return Rules(
        links=tuple(_links(plan)[0]),
        order=plan.order,
        entry=plan.entry,
        clock=plan.clock,
        within=_microseconds(plan.within),
        excluded=plan.excluded,
        attempts=plan.per == "attempt",
        until=until,
        exits=plan.steps[-1].values == [EXIT],
        same=tuple(f"same_{n}" for n in range(len(plan.same))),
        by=tuple(by),
        value=value,
    )


def parsed(rules: dict[str, Any]) -> Funnel:
    """Return rules as a funnel with its mode written out, or say what is wrong with them.

    Raises:
        JourneyError: a rule is not known, or contradicts another.
    """
    try:
        return Funnel(**rules).resolved()
    except ValidationError as error:
        lines = [line for item in error.errors() for line in say(item, rules, Funnel)]
        raise errors.JourneyError("funnel: " + " ".join(lines)) from None


def microseconds(moment: pd.Timestamp | None) -> int | None:
    """Return a naive UTC time as microseconds since 1970; None as it is."""
    return None if moment is None else (pd.Timestamp(moment) - pd.Timestamp(0)) // pd.Timedelta("1us")


def _links(plan: Funnel) -> tuple[list[Link], list[Step]]:
    """Return what each step asks of the way to it, and the events that may not lie there, marked after the steps."""
    barred: dict[tuple[str, ...], int] = {}
    links = []
    for step in plan.steps:
        bars = [tuple(name for name in names if name.strip()) for names in (plan.exclude, step.without)]
        marks = tuple(barred.setdefault(names, len(plan.steps) + len(barred)) for names in bars if names)
        directly = step.directly or plan.order == "strict"
        links.append(Link(step.optional, _microseconds(step.within), directly, marks))
    return links, [Step(match=list(names)) for names in barred]


def _flags(n: int) -> dict[str, nw.Expr]:
    """Return the marks of n kinds of event as bits of as few and as narrow integers as hold them."""
    found = {}
    for begin in range(0, n, BITS):
        bits = range(begin, min(begin + BITS, n))
        parts = [nw.when(nw.col(f"_is_{k + 1}") == 1).then(nw.lit(1 << (k - begin))).otherwise(nw.lit(0)) for k in bits]
        kind = nw.Int16() if len(bits) < 15 else nw.Int64()
        found[f"flags_{begin // BITS + 1}"] = nw.sum_horizontal(*[part.cast(nw.Int64()) for part in parts]).cast(kind)
    return found


def _microseconds(duration: str) -> int:
    return seconds(duration) * 1_000_000 if duration else -1
