"""Two groups and their paths: what the one has more often than the other, in how many people, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from statsmodels.stats.multitest import multipletests

from journeykit import engine, stats
from journeykit.differences import difference, two_shares
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.path_grid import ENDED
from journeykit.paths import ARROW
from journeykit.sequences import Integers
from journeykit.walks import Piece, added, by_people, tally, walks

KINDS = ("value", "transition", "three in a row", "place")
SURE = 0.05  # an adjusted p-value below it is called a difference

_KEYS = ["kind", "first", "second", "third", "group"]
_ALL = len(KINDS)  # the kind of the row of all people, and of those left out
_SHORT = _ALL + 1
_A = ["a_n", "a_of_n", "a_share", "a_share_low", "a_share_high"]
_B = ["b_n", "b_of_n", "b_share", "b_share_low", "b_share_high"]
_DIFFERENCE = ["difference_points", "difference_points_low", "difference_points_high", "p_value", "p_adjusted", "test"]
_COLUMNS = ["kind", "position", "what", "n", *_A, *_B, *_DIFFERENCE]


@dataclass(frozen=True)
class Groups:
    """Two groups of people, or of their sessions or journeys."""

    table: Any  # a table of any engine: person_id, session_id or journey_id, and group; one row each
    a: str
    b: str


def choose(asked: str, touches: Any, journeys: Any) -> Groups:
    """Return the groups that a text names: "outcome", a day ("2025-07-01"), or "segment_device: mobile | desktop".

    Raises:
        JourneyError: it is none of them.

    >>> choose("2025-07-01", pd.DataFrame({"person_id": [1], "time_us": [0]}), None).a
    'after'
    """
    column, colon, values = asked.partition(":")
    sides = [part.strip() for part in values.split("|")]
    if asked.strip() == "outcome":
        return by_outcome(journeys)
    if colon and len(sides) == 2 and all(sides):
        return by_column(touches, column.strip(), *sides)
    day = pd.to_datetime(asked, errors="coerce")
    if not pd.isna(day):
        return by_date(touches, day)
    raise JourneyError(
        f'compare: {asked!r} names no groups. Allowed: "outcome"; a day, such as "2025-07-01"; or a column and two of '
        'its values, such as "segment_device: mobile | desktop".'
    )


def goal(touches: Any, conversion: Sequence[str], on: str) -> str:
    """Return the values of `on` that the conversion's events have, as `compare` takes a goal.

    >>> from tests.conftest import make_log
    >>> goal(make_log("u1: ad buy").assign(touchpoint=["Ad", "Order"]), ["buy"], "touchpoint")
    'Order'
    """
    rows = engine.lazy(touches).filter(nw.col("event").cast(nw.String()).is_in(list(conversion)))
    found = engine.fetch(rows.select(value=nw.col(on).cast(nw.String())).unique())["value"].dropna()
    return " | ".join(sorted(found))


def by_outcome(journeys: Any) -> Groups:
    """Return journeys that converted and journeys that are over without; open ones are in neither.

    Requires `journey_id`, `outcome`.
    """
    table = engine.lazy(journeys).select("journey_id", outcome=nw.col("outcome").cast(nw.String()))
    over = table.filter(nw.col("outcome").is_in(["converted", "abandoned"]))
    group = nw.when(nw.col("outcome") == "converted").then(nw.lit("converted")).otherwise(nw.lit("not converted"))
    return Groups(over.select("journey_id", group=group), "converted", "not converted")


def by_date(touches: Any, at: str | pd.Timestamp, until: str | pd.Timestamp | None = None) -> Groups:
    """Return people whose first event is at or after a time (UTC), and those whose is before.

    So those who came after a change are compared with those who came before it, when both were new; nobody is both.
    Those who come from `until` on are in neither: give them the time that a path takes, or "(ended)" will be told of
    paths that have only not gone on yet.

    Requires `person_id`, and `time_us` or `timestamp`.
    """
    people = engine.lazy(touches).group_by("person_id").agg(first_us=nw.col("time_us").min())
    if until is not None:
        people = people.filter(nw.col("first_us") < _microseconds(until))
    group = nw.when(nw.col("first_us") >= _microseconds(at)).then(nw.lit("after")).otherwise(nw.lit("before"))
    return Groups(people.select("person_id", group=group), "after", "before")


def _microseconds(at: str | pd.Timestamp) -> int:
    return int((pd.Timestamp(at) - pd.Timestamp(0)) // pd.Timedelta("1us"))


def by_column(touches: Any, column: str, a: str, b: str) -> Groups:
    """Return people whose first value of a column is `a`, and those whose is `b`; others are in neither.

    The first value is known before most of what is compared. Their last one, or their most frequent one, would depend
    on the path.

    Requires `person_id`, the column, and `position` or the columns of the total order.
    """
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    require_columns(have, ["person_id", column], "by_column")
    order = engine.order_of(have)
    rows = table.select("person_id", *order, group=nw.col(column).cast(nw.String())).filter(~nw.col("group").is_null())
    one = rows.with_columns(one=nw.lit(1)).with_columns(
        number=nw.col("one").cum_sum().over("person_id", order_by=order)
    )
    first = one.filter(nw.col("number") == 1, nw.col("group").is_in([a, b]))
    return Groups(first.select("person_id", "group"), a, b)


def compare(
    touches: Any,
    groups: Groups,
    *,
    on: str = "event",
    within: str = "session",
    steps: int = 5,
    goal: str = "",
    kinds: Sequence[str] = KINDS,
    collapse: bool = False,
    min_n: int = 30,
) -> pd.DataFrame:
    """Compare what the paths of two groups hold: values, transitions, three in a row, and what is at each place.

    Counted is **presence per person**: a person has a transition or has it not, however often. Rival: counts of events,
    which take 50 clicks of one person for 50 people; between two random halves of the same people they find
    differences far more often than the test's level (tests/test_path_compare.py).

    Each person counts once, in one unit: the first one that is in a group. So nobody is in both, and those with many
    units have no more occasions. **Equal exposure**: only the first `steps` steps are looked at. With `goal` (values of
    `on`, "a | b"), the goal and all that follows is cut off first, since what brings a conversion about, and what
    follows from it, differs by definition; then only units with `steps` steps left are compared, as a unit that was
    shorter had less time to do anything. Give a goal when the groups are converted and not converted.

    The difference of shares (a less b) has Newcombe's interval; the p-value is that of the chi-square test, or of
    Fisher's where few are expected; `p_adjusted` is Benjamini and Hochberg's over all rows that are tested: of those
    below 0.05, at most one in twenty is expected to be chance. Intervals are those of single comparisons. It is no
    effect: whoever means to buy takes other paths than whoever looks around.

    Args:
        touches: the columns of `paths.transitions` (no time), or `walks.Walks`.
        groups: from `by_outcome`, `by_date`, `by_column`, or a table of one's own.
        on: event, touchpoint or stage.
        within: person, session or journey.
        steps: how many steps of a path are looked at.
        goal: values that end what is looked at.
        kinds: what to compare, of value, transition, three in a row, place.
        collapse: count a value that follows itself once.
        min_n: people of both groups together who must have something for it to be compared.

    Returns:
        One row per thing compared: first those with `p_adjusted` below 0.05, by the size of the difference. `kind`,
        `position` (of a place), `what`, `n` people of both groups; `a_n` of `a_of_n` who have it and their share, and
        so for b; `difference_points` in percentage points with its interval, `p_value`, `p_adjusted`, `test`.
        `attrs`: `a`, `b`, `steps`, `short_n` units left out because they were shorter.

    Raises:
        JourneyError: there is no such kind, or the groups' table has no column of a unit.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad visit | u2: ad call | u3: ad call")
    >>> groups = Groups(pd.DataFrame({"person_id": [1, 2, 3], "group": ["x", "y", "y"]}), "x", "y")
    >>> table = compare(log, groups, steps=2, kinds=["value"], min_n=1).set_index("what")
    >>> [int(x) for x in table.loc["call", ["a_n", "b_n", "difference_points"]]]
    [0, 2, -100]
    """
    for kind in kinds:
        if kind not in KINDS:
            raise JourneyError(f"compare: kind {kind!r}.{nearest(kind, KINDS)} Allowed: {', '.join(KINDS)}.")
    with engine.scratch():
        ways = walks(touches, on=on, within=within, collapse=collapse)
        ends = {part.strip() for part in goal.split("|")}
        work = partial(
            _count,
            steps=steps,
            goal=tuple(k for k, value in enumerate(ways.values) if value in ends) if goal else None,
            kinds=tuple(KINDS.index(kind) for kind in kinds),
            ended=len(ways.values),
        )
        found = engine.fetch(added(by_people(_one_each(ways.table, groups, within), work), _KEYS)).astype("int64")
    size = found[found["kind"] == _ALL].set_index("group")["people_n"].reindex([0, 1], fill_value=0)
    if size.min() < max(min_n, 1):
        few = ", ".join(f"{name}: {n}" for name, n in zip((groups.a, groups.b), size, strict=True))
        return stats.not_enough(_COLUMNS, f"not enough data ({few}; at least {min_n} people of each are needed)")
    short = int(found.loc[found["kind"] == _SHORT, "people_n"].sum())
    table = found[found["kind"] < _ALL].pivot_table(index=_KEYS[:4], columns="group", values="people_n", fill_value=0)
    table = table.reindex(columns=[0, 1], fill_value=0).set_axis(["a_n", "b_n"], axis=1).astype("int64").reset_index()
    together = table["a_n"] + table["b_n"]
    table = table[(together >= min_n) & (together < size.sum())].reset_index(drop=True)  # what all have tells nothing
    if table.empty:
        return stats.not_enough(_COLUMNS, f"nothing is in the paths of {min_n} people that not all have")
    table = _named(table, [*ways.values, ENDED]).assign(a_of_n=size[0], b_of_n=size[1], n=size.sum())
    table = stats.add_share(stats.add_share(table, "a", "a_n", "a_of_n"), "b", "b_n", "b_of_n")
    table = _tested(table)
    table.attrs |= {"a": groups.a, "b": groups.b, "steps": steps, "short_n": short}
    return table


def _one_each(table: nw.LazyFrame[Any], groups: Groups, within: str) -> nw.LazyFrame[Any]:
    """Return each person's first unit that is in a group, with `group` 0 (a) or 1 (b)."""
    chosen = engine.beside(groups.table, table)
    have = chosen.collect_schema().names()
    key = next((name for name in ("person_id", "session_id", "journey_id") if name in have), "")
    if "group" not in have or key not in ("person_id", f"{within}_id"):
        raise JourneyError(
            f"compare: the groups' table has the columns {', '.join(have)}; within {within}, it needs group and "
            f"person_id{f' or {within}_id' if within != 'person' else ''}."
        )
    number = nw.when(nw.col("group").cast(nw.String()) == groups.a).then(nw.lit(0)).otherwise(nw.lit(1))
    known = chosen.filter(nw.col("group").cast(nw.String()).is_in([groups.a, groups.b])).select(key, group=number)
    rows = table.join(known, left_on="person_id" if key == "person_id" else "unit", right_on=key, how="inner")
    rows = rows.with_columns(first=nw.col("unit").min().over("person_id")).filter(nw.col("unit") == nw.col("first"))
    return rows.select("person_id", "unit", "length", "codes", "group")


def _count(piece: Piece, *, steps: int, goal: tuple[int, ...] | None, kinds: tuple[int, ...], ended: int) -> pa.Table:
    """Count people by what the first steps of their unit hold; numbers of values after the last are −1."""
    units_n = len(piece.length)
    length, group = piece.length, piece.table["group"].to_numpy().astype(np.int64)
    if goal is not None:
        at = np.flatnonzero(np.isin(piece.code, goal))[::-1]
        until = piece.length.copy()
        until[piece.unit[at]] = at - piece.start[piece.unit[at]]  # the last assignment stays, of the first goal
        length = until
    enough = np.ones(units_n, dtype=bool) if goal is None else length >= steps
    places = np.arange(steps)
    inside = places < length[:, None]
    code = np.append(piece.code, 0).astype(np.int64)
    rows = np.where(inside, code[np.where(inside, piece.start[:, None] + places, -1)], ended)[enough]
    unit = np.repeat(np.arange(units_n)[enough], steps).reshape(rows.shape)
    ones = np.ones(units_n, dtype=np.int64)
    parts = []

    def add(kind: int, columns: Sequence[Integers], who: Integers) -> None:
        keys = dict(zip(_KEYS, [np.full(len(who), kind), *columns, group[who]], strict=True))
        parts.append(tally(keys, who, ones))

    none = np.full(units_n * steps, -1, dtype=np.int64)
    for kind in kinds:
        if KINDS[kind] == "place":
            cells = rows.ravel()
            add(kind, [cells, none[: len(cells)], np.tile(places, len(rows))], unit.ravel())
            continue
        if kind >= steps:
            continue
        # What comes directly after each other, as long as the unit goes on.
        grams = [rows[:, k : steps - kind + k].ravel() for k in range(kind + 1)]
        there = grams[-1] != ended
        columns = [gram[there] for gram in grams] + [none[: there.sum()]] * (2 - kind)
        add(kind, columns, unit[:, : steps - kind].ravel()[there])
    for kind, chosen in ((_ALL, enough), (_SHORT, ~enough)):
        who = np.flatnonzero(chosen)
        add(kind, [none[: len(who)]] * 3, who)
    return pa.concat_tables(parts)


def _named(table: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    text = np.array([*values, ""], dtype=object)
    place = table["kind"] == KINDS.index("place")
    ways = zip(*(text[table[name]] for name in ("first", "second", "third")), strict=True)
    joined = [ARROW.join(part for part in parts if part) for parts in ways]
    what = np.where(place, text[table["first"]], np.array(joined, dtype=object))
    position = (table["third"] + 1).where(place).astype("Int64")
    return table.assign(kind=np.array(KINDS, dtype=object)[table["kind"]], what=what, position=position)


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    pairs = list(zip(table["a_n"], table["a_of_n"], table["b_n"], table["b_of_n"], strict=True))
    gaps = 100 * np.array([difference(*pair) for pair in pairs])
    tests = [two_shares(*pair) for pair in pairs]
    table = table.assign(**dict(zip(_DIFFERENCE[:3], gaps.T, strict=True)))
    table = table.assign(p_value=[p for p, _ in tests], test=[name for _, name in tests])
    table = table.assign(p_adjusted=multipletests(table["p_value"], method="fdr_bh")[1])
    table = table.assign(unsure=table["p_adjusted"] >= SURE, size=-table["difference_points"].abs().round(9))
    return table.sort_values(["unsure", "size", "kind", "position", "what"], ignore_index=True)[_COLUMNS]
