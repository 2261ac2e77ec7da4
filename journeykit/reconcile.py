"""Reconciliation: whether the map, the funnel, the paths and the journeys count the same people, and where not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import detours, engine, errors, friction, funnels, journey_map, paths, stats, steps
from journeykit.config_funnels import EXIT
from journeykit.config_steps import Step
from journeykit.sequences import starts

COLUMNS = ["topic", "what", "counted_by_a", "n_a", "counted_by_b", "n_b", "difference_n", "expected", "holds", "why"]
ANY_TIME: dict[str, Any] = {"within": "", "directly": False, "without": []}
EQUAL, AT_MOST = "equal", "b at most a"
NEEDS = ("person_id", "journey_id", "event_id", "event", "touchpoint", "stage")
OF_JOURNEYS = ("journey_id", "person_id", "outcome", "touches_n")
UNITS = {"person": "people", "session": "sessions", "journey": "journeys"}


@dataclass(frozen=True)
class Pair:
    """One thing that two chapters count, and how the two should stand to each other."""

    topic: str
    what: str
    a: tuple[str, int]
    b: tuple[str, int]
    why: str
    apart: int | None = 0  # what a has more than b; None: anything from 0


def reconcile(
    touches: Any,
    journeys: Any,
    *,
    funnel: Mapping[str, Any] | None = None,
    stages: Sequence[str] = (),
    on: str = "touchpoint",
    within: str = "journey",
    survey_touchpoints: Sequence[str] = ("Survey",),
    min_n: int = 1,
) -> pd.DataFrame:
    """Set side by side what the chapters count, each by its own function, and check that it balances.

    Every row is one thing that two counts should agree on, or differ by a number that is known: the one (`a`) counted
    straight from the touches, the other (`b`) by the function behind a chapter, with no group hidden. Where the two
    should differ, `why` says so, and the row holds when they differ by just that. Rival: one count behind all chapters,
    in which a wrong one would go unseen.

    Args:
        touches: of any engine, with `person_id, journey_id, session_id, event, touchpoint, stage` and what the
            functions of the chapters require.
        journeys: with `journey_id, person_id, outcome, touches_n`.
        funnel: rules of a funnel (`funnels.rules`), whose steps are followed through all chapters; None: no steps.
        stages: of the map; without any, its rows are left out.
        on: what paths are made of.
        within: what they are taken in.
        survey_touchpoints: as in the map.
        min_n: a row that counts fewer, but some, is left out.

    Returns:
        One row per check: topic, what, counted_by_a, n_a, counted_by_b, n_b, difference_n (a − b), expected ("equal",
        "a is N more", "b at most a"), holds, why.

    Raises:
        JourneyError: a column is missing.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad visit buy | u2: ad")
    >>> made = pd.DataFrame({"journey_id": [1, 2], "person_id": [1, 2], "outcome": "open", "touches_n": [3, 1]})
    >>> bool(reconcile(log, made, funnel={"steps": ["ad", "buy"], "on": "touchpoint"})["holds"].all())
    True
    """
    table, ends = engine.lazy(touches), engine.lazy(journeys)
    errors.require_columns(table.collect_schema().names(), NEEDS, "reconcile")
    errors.require_columns(
        ends.collect_schema().names(), ["journey_id", "person_id", "outcome", "touches_n"], "journeys"
    )
    if engine.is_empty(table):
        return stats.not_enough(COLUMNS, "not enough data (n = 0 events)")
    rules = dict(funnel or {})
    followed = [step for step in steps.parse(rules.get("steps") or [], "reconcile") if EXIT not in step.values]
    pairs = [*_of_journeys(table, ends), *_of_paths(table, ends, on, within)]
    if stages:
        pairs += _of_map(table, stages, survey_touchpoints, followed, rules.get("on", "event"))
    if len(followed) > 1:
        pairs += _of_funnel(table, followed, rules)
    if len(followed) > 1 and rules.get("on", "event") == on:
        pairs += _of_steps(table, followed, on, within)
    rows = [_row(pair) for pair in pairs if not 0 < max(pair.a[1], pair.b[1]) < min_n]
    return pd.DataFrame(rows, columns=COLUMNS)


def broken(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that do not hold."""
    return table[~table["holds"].astype(bool)] if len(table) else table


def _row(pair: Pair) -> list[Any]:
    gap = pair.a[1] - pair.b[1]
    expected = AT_MOST if pair.apart is None else EQUAL if pair.apart == 0 else f"a is {pair.apart:,} more"
    holds = gap >= 0 if pair.apart is None else gap == pair.apart
    return [pair.topic, pair.what, *pair.a, *pair.b, gap, expected, bool(holds), pair.why]


def _of_journeys(table: nw.LazyFrame[Any], ends: nw.LazyFrame[Any]) -> Iterator[Pair]:
    """The table of journeys against the touches that it was made of."""
    inside = table.filter(~nw.col("journey_id").is_null())
    there = _numbers(inside, touches=nw.len(), journeys=_different("journey_id"), people=_different("person_id"))
    listed = _numbers(ends, journeys=nw.len(), people=_different("person_id"), touches=nw.col("touches_n").sum())
    everyone = _numbers(table, people=_different("person_id"))["people"]
    never = _without(table, "person_id", "journey_id")
    known = _numbers(ends.filter(nw.col("outcome").is_in(["converted", "abandoned", "open"])), journeys=nw.len())
    by, of = "touches that have a journey", "table of journeys"
    yield Pair(
        "Journeys", "journeys", (by, there["journeys"]), (of, listed["journeys"]), "Each is made of its touches."
    )
    yield Pair(
        "Journeys", "touches", (by, there["touches"]), (f"{of}: sum of touches", listed["touches"]),
        "Each touch is in one journey at most.",
    )  # fmt: skip
    yield Pair("Journeys", "people", (by, there["people"]), (of, listed["people"]), "A journey is of one person.")
    yield Pair(
        "Journeys", "people", ("all touches", everyone), (of, listed["people"]),
        "The table of journeys lacks the people of whom no touch belongs to a journey, such as those without a start "
        "event.", never,
    )  # fmt: skip
    yield Pair(
        "Journeys", "journeys", (of, listed["journeys"]),
        ("converted + abandoned + open", known["journeys"]), "Each journey has one of three outcomes.",
    )  # fmt: skip


def _of_map(
    table: nw.LazyFrame[Any], stages: Sequence[str], surveys: Sequence[str], followed: list[Step], on: str
) -> Iterator[Pair]:
    """The journey map against the touches, for everybody and for the steps of the funnel."""
    found = journey_map.touchpoint_map(table, stages=stages, min_n=1, survey_touchpoints=surveys)
    everyone = _numbers(table, people=_different("person_id"))["people"]
    if len(found):
        whole = int(found["n"].iloc[0])
        yield Pair(
            "Map", "people", ("all touches", everyone), ("map: people with any event", whole),
            "Reach on the map is a share of all people, also of those who meet no stage.",
        )  # fmt: skip
    staged = table.filter(nw.col("stage").is_in(list(stages)))
    if on == "touchpoint":
        names = [step.values[0] for step in followed if _is_plain(step)]
        people = _people(staged, "touchpoint", names)
        cells = found.groupby("touchpoint")["people_n"].sum() if len(found) else pd.Series(dtype="int64")
        twice = _twice(staged, names)
        for name in names:
            yield Pair(
                "Map", f"people at {name}", (f"touches with touchpoint {name}", people[name] + twice[name]),
                (f"map: people at {name}", int(cells.get(name, 0))),
                "The map counts each person once per touchpoint of a stage, whenever it was.",
            )  # fmt: skip
    met = staged.filter(~nw.col("touchpoint").cast(nw.String()).fill_null("").is_in(list(surveys)))
    people = _people(met, "stage", stages)
    end = engine.fetch(table.select(nw.col("time_us").max()))["time_us"].iloc[0]
    flow = journey_map.stage_flow(
        table, stages=stages, until=pd.Timestamp(int(end), unit="us"), min_n=1, survey_touchpoints=surveys
    )
    entered = dict(zip(flow["stage"], flow["people_n"], strict=True))
    for stage in stages:
        yield Pair(
            "Map", f"people in stage {stage}", (f"touches of stage {stage} but surveys", people[stage]),
            ("map: people who entered the stage", int(entered.get(stage, 0))),
            "An answer to a survey does not reach a stage.",
        )  # fmt: skip


def _of_funnel(table: nw.LazyFrame[Any], followed: list[Step], rules: Mapping[str, Any]) -> Iterator[Pair]:
    """The funnel against the touches: who has a step at all, and who came there through the steps before."""
    on = rules.get("on", "event")
    plain = [step.model_copy(update=ANY_TIME) for step in followed if not step.optional]
    marked = steps.marked(table, plain, on, "_step_", "reconcile")
    flags = [f"_step_{k}" for k in range(1, len(plain) + 1)]
    people = marked.group_by("person_id").agg(*[nw.col(name).max() for name in flags])
    has = list(_numbers(people, **{name: nw.col(name).sum() for name in flags}).values())
    reached = _reached(marked, flags)
    anywhere = funnels.funnel(table, steps=plain, on=on, entry="open")["n"].tolist()
    in_order = funnels.funnel(table, steps=plain, on=on)["n"].tolist()
    for k, step in enumerate(plain):
        yield Pair(
            "Funnel", f"people with {step.label}", (f"touches with {step.label}", has[k]),
            ("funnel with open entry, any time", int(anywhere[k])), "With open entry a step needs no step before it.",
        )  # fmt: skip
        yield Pair(
            "Funnel", f"people at step {k + 1}, {step.label}", (f"touches with {step.label}", has[k]),
            ("funnel in this order, any time", int(in_order[k])),
            "Everybody with the first step starts the funnel, once." if k == 0 else
            "The map and the paths count whoever was there; the funnel only who took the steps before it first. The "
            "difference is those who did not.", has[k] - reached[k],
        )  # fmt: skip
    usual = {name: value for name, value in rules.items() if name not in ("steps", "on")}
    simple = usual.keys() <= {"within", "per"} and usual.get("per", "person") == "person"
    if simple and usual.get("within") and len(plain) == len(followed):
        own = funnels.funnel(table, **rules)["n"].astype(int)
        yield Pair(
            "Funnel", f"people at the last step, {plain[-1].label}",
            ("funnel in this order, any time", int(in_order[-1])),
            (f"funnel of 04_funnel, within {usual['within']}", int(own.iloc[-1])),
            "The funnel of the chapter allows only so much time.", None,
        )  # fmt: skip


def _reached(marked: nw.LazyFrame[Any], flags: list[str]) -> list[int]:
    """Count the people who take the steps one after the other: the first of each step after that of the one before."""
    order = engine.order_of(marked.collect_schema().names())
    rows = marked.filter(~nw.col("person_id").is_null()).select(*dict.fromkeys(order), *flags, unit="person_id")
    with engine.scratch():
        deep = engine.in_order(rows, by="unit", order=order, work=partial(_depths, flags=flags))
        found = engine.fetch(deep.group_by("depth").agg(n=nw.len()))
    return [int(found.loc[found["depth"] >= k, "n"].sum()) for k in range(1, len(flags) + 1)]


def _depths(table: pa.Table, _first: int, *, flags: Sequence[str]) -> pa.Table:
    new = starts(table)
    unit, at = np.cumsum(new) - 1, np.flatnonzero(new) - 1
    depth = np.zeros(len(at), dtype=np.int64)
    for k, name in enumerate(flags, start=1):
        rows = np.flatnonzero(table[name].to_numpy() == 1)
        rows = rows[(depth[unit[rows]] == k - 1) & (rows > at[unit[rows]])][::-1]
        at[unit[rows]] = rows  # the last assignment stays, which is that of the earliest row
        depth[unit[rows]] = k
    return pa.table({"depth": depth})


def _of_paths(table: nw.LazyFrame[Any], ends: nw.LazyFrame[Any], on: str, within: str) -> Iterator[Pair]:
    """The paths against the touches: events, pairs of events, units."""
    unit, units = funnels.unit_column(within, "reconcile"), UNITS[within]
    rows = table.filter(~nw.col(on).is_null(), ~nw.col(unit).is_null())
    there = _numbers(rows, events=nw.len(), units=_different(unit))
    different = _numbers(rows.select(unit, on).unique(), values=nw.len())["values"]
    limits: dict[str, Any] = {"on": on, "within": within, "min_n": 1}
    follows = int(paths.transitions(table, **limits)["n"].sum())
    matrix = paths.step_matrix(table, **limits, steps=1, top=1)
    first = int(matrix.loc[(matrix["position"] == 1) & (matrix["value"] != paths.ENDED), "n"].sum())
    ways = int(paths.variants(table, **limits, top=1)["n"].sum())
    again = friction.rework(table, **limits)
    whole = again.iloc[0] if len(again) else {"n": 0, "rework_n": 0}
    by = f"touches with a {on}"
    yield Pair(
        "Paths", units, (by, there["units"]), ("step matrix: first position", first), "Each begins once.",
    )  # fmt: skip
    yield Pair(
        "Paths", units, (by, there["units"]), ("most frequent paths and all others", ways), "Each takes one path."
    )
    yield Pair(
        "Paths", "events", (by, there["events"]), ("transitions + first events", follows + first),
        f"Each event but the first of its {within} follows another one.",
    )  # fmt: skip
    yield Pair(
        "Paths",
        "events",
        (by, there["events"]),
        ("rework: all events", int(whole["n"])),
        "Rework is a share of all events.",
    )
    yield Pair(
        "Paths", f"different values, added up over {units}", (by, different),
        ("rework: events − repeated ones", int(whole["n"] - whole["rework_n"])), "Rework is what comes again.",
    )  # fmt: skip
    if within == "journey":
        without = _without(table.filter(~nw.col(unit).is_null()), unit, on)
        yield Pair(
            "Paths", "journeys", ("table of journeys", _numbers(ends, n=nw.len())["n"]),
            ("step matrix: first position", first), f"A journey of which no event has a {on} has no path.", without,
        )  # fmt: skip


def _of_steps(table: nw.LazyFrame[Any], followed: list[Step], on: str, within: str) -> Iterator[Pair]:
    """Two steps of the funnel as the paths and the detours see them."""
    one, two = followed[0], followed[1]
    if not (_is_plain(one) and _is_plain(two)) or one.values == two.values:
        return
    one, two = (Step(match=step.values) for step in (one, two))
    start, end = one.values[0], two.values[0]
    follows = paths.transitions(table, on=on, within="person", min_n=1)
    directly = follows.loc[(follows["from"] == start) & (follows["to"] == end), "people_n"].sum()
    strict = funnels.funnel(table, steps=[one, two], on=on, order="strict")["n"]
    yield Pair(
        "Funnel and paths", f"people who go from {start} directly to {end}",
        ("transitions within a person", int(directly)), ("strict funnel of the two", int(strict.iloc[-1])),
        "A strict funnel lets nothing lie between, as a transition does.",
    )  # fmt: skip
    unit = funnels.unit_column(within, "reconcile")
    here = table.filter(nw.col(on).cast(nw.String()) == start, ~nw.col(unit).is_null())
    units = _numbers(here, units=_different(unit))["units"]
    way = detours.detour(table, start=start, end=end, on=on, within=within)
    arrived, n = (int(way[name].sum()) for name in ("arrived_n", "n"))
    counted = funnels.funnel(table, steps=[one, two], on=on, per=within)["n"].astype(int)
    yield Pair(
        "Funnel and paths", f"{UNITS[within]} with {start}", (f"touches with {start}", units),
        ("detours: started", n), "Everything with the first step starts, once.",
    )  # fmt: skip
    yield Pair(
        "Funnel and paths", f"{UNITS[within]} from {start} to {end}",
        (f"funnel of the two per {within}", int(counted.iloc[-1])), ("detours: arrived", arrived),
        "Both take the first start and whatever lies between.",
    )  # fmt: skip


def _is_plain(step: Step) -> bool:
    return len(step.values) == 1 and not step.where and not (step.event or step.touchpoint or step.stage)


def _people(table: nw.LazyFrame[Any], column: str, names: Sequence[str]) -> dict[str, int]:
    """Count the people with each value of a column."""
    rows = table.filter(nw.col(column).cast(nw.String()).is_in(list(names)))
    rows = rows.with_columns(name=nw.col(column).cast(nw.String()))
    found = engine.fetch(rows.group_by("name").agg(n=_different("person_id")))
    return dict.fromkeys(names, 0) | {str(name): int(n) for name, n in zip(found["name"], found["n"], strict=True)}


def _twice(table: nw.LazyFrame[Any], names: Sequence[str]) -> dict[str, int]:
    """Count, for touchpoints that lie in several stages, the people that the map counts once more."""
    rows = table.filter(nw.col("touchpoint").cast(nw.String()).is_in(list(names)))
    each = rows.select("person_id", "touchpoint", "stage").unique().group_by("person_id", "touchpoint").agg(n=nw.len())
    more = engine.fetch(
        each.group_by(nw.col("touchpoint").cast(nw.String()).alias("name")).agg(n=(nw.col("n") - 1).sum())
    )
    return dict.fromkeys(names, 0) | {str(name): int(n) for name, n in zip(more["name"], more["n"], strict=True)}


def _numbers(table: nw.LazyFrame[Any], **wanted: Any) -> dict[str, int]:
    """Return a few whole numbers about a table."""
    found = engine.fetch(table.select(**wanted)).iloc[0]
    return {name: 0 if pd.isna(found[name]) else int(found[name]) for name in wanted}


def _different(column: str) -> Any:
    return nw.col(column).n_unique()


def _without(table: nw.LazyFrame[Any], by: str, column: str) -> int:
    """Count the values of one column that come with no value of another."""
    has = table.with_columns(_has=nw.when(nw.col(column).is_null()).then(nw.lit(0)).otherwise(nw.lit(1)))
    return _numbers(has.group_by(by).agg(nw.col("_has").max()), n=(1 - nw.col("_has")).sum())["n"]
