"""What was known about people at each of many moments, all of them read off in one ordered pass over their events."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from journeykit import config, engine
from journeykit.errors import JourneyError, require_columns
from journeykit.sequences import codes, texts

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FINE = 1_000_000_000  # answers are added up as whole numbers, so that no other person's rows change a rounding
MICRO = 1_000_000


def at_moments(touches: Any, moments: Any, covariates: Sequence[config.Covariate]) -> nw.LazyFrame[Any]:
    """Return each moment with what was known about its person then: events at or before it, of all history.

    The definitions are those of `covariates.known`. The touches of the people are sorted once, whatever the number of
    moments and covariates, and worked on some hundred thousand at a time; the result is kept on disk until the end of
    `engine.scratch`. Rivals: a join of every event with every later moment, which grows with their product; a window
    function for each covariate, which sorts each time.

    Requires in touches `person_id`, `time_us` or `timestamp`, the columns of the total order (or `position`) and what
    the covariates count: `event`, `satisfaction`, `touchpoint` and `journey_id`, or the column of a category; in
    moments `person_id`, `until_us` (microseconds since 1970 UTC), and whole numbers only.

    One row per row of moments (of `beside`, on the touches' engine): its columns, and one column a covariate.
    """
    t = engine.lazy(touches)
    schema = t.collect_schema()
    names = {f"_value{n}": _column(covariate, schema.names()) for n, covariate in enumerate(covariates)}
    order = [name for name in engine.order_of(schema.names()) if name != "time_us"]
    m = engine.beside(moments, t)
    carried = [name for name in m.collect_schema().names() if name not in ("person_id", "until_us")]
    needed = _needed(covariates)
    require_columns(schema.names(), ["person_id", "time_us", *order, *needed], "churn covariates")

    latest = m.group_by("person_id").agg(_latest_us=nw.col("until_us").max())
    extra = {"_touchpoint": nw.col("touchpoint").cast(nw.String), "_journey": nw.col("journey_id").cast(nw.Int64)}
    extra = extra if "journey_id" in needed else {}
    of_touches = {name: _of_touch(c, column) for c, (name, column) in zip(covariates, names.items(), strict=True)}
    rows = t.join(latest, on="person_id").filter(nw.col("time_us") <= nw.col("_latest_us"))
    unmarked = [nw.lit(None, nw.Int64).alias(name) for name in carried]
    rows = rows.with_columns(nw.lit(0, nw.Int64).alias("_mark"), *unmarked, **of_touches, **extra)
    says = [~nw.col(name).is_null() for name in [*names, *extra] if name != "_journey"]
    rows = rows.filter(nw.any_horizontal(*says, ignore_nulls=True)) if says else rows.head(0)

    kinds = {name: _type(covariate) for name, covariate in zip(names, covariates, strict=True)}
    kinds |= {"_touchpoint": nw.String(), "_journey": nw.Int64()} if extra else {}
    nothing = [nw.lit(None, kind).alias(name) for name, kind in kinds.items()]
    unordered = [nw.lit(None, schema[name]).alias(name) for name in order]
    columns = ["person_id", "time_us", "_mark", *order, *kinds, *carried]
    marks = m.with_columns(nw.col("until_us").alias("time_us"), nw.lit(1, nw.Int64).alias("_mark"))
    marks = marks.with_columns(*unordered, *nothing).select(*columns)
    work = partial(_known, covariates=tuple(covariates), carried=carried)
    return engine.in_order(
        nw.concat([rows.select(*columns), marks]), by="person_id", order=["_mark", "time_us", *order], work=work
    )


def _column(covariate: config.Covariate, columns: Sequence[str]) -> str:
    """Return the column that a category stands in ("" for other kinds); the prefix `segment_` may be left out."""
    name = covariate.column
    name = f"segment_{name}" if name and name not in columns and f"segment_{name}" in columns else name
    if name:
        require_columns(columns, [name], f"churn.covariates.{covariate.name}")
    return name


def _needed(covariates: Sequence[config.Covariate]) -> list[str]:
    """Return the columns that covariates count."""
    kinds = {covariate.kind for covariate in covariates}
    needed = ["event"] if any(covariate.events for covariate in covariates) else []
    needed += ["satisfaction"] if kinds & {"satisfaction", "poor"} else []
    return needed + (["touchpoint", "journey_id"] if "detours" in kinds else [])


def _type(covariate: config.Covariate) -> Any:
    return {"category": nw.String(), "satisfaction": nw.Float64()}.get(covariate.kind, nw.Int64())


def _of_touch(covariate: config.Covariate, column: str) -> Any:
    """Return what one touch says about a covariate, null where it says nothing."""
    if covariate.kind == "category":
        return nw.col(column).cast(nw.String)
    if covariate.kind == "detours":
        return nw.lit(None, nw.Int64)  # it takes the touches before it, and is found in order
    named = nw.col("event").is_in(covariate.events)
    if covariate.kind == "satisfaction":
        answer = nw.col("satisfaction").cast(nw.Float64)
        return nw.when(named).then(answer) if covariate.events else answer
    one = nw.lit(1, nw.Int64)
    if covariate.kind == "poor":
        poor = nw.col("satisfaction") < covariate.poor_below
        return nw.when(poor | named if covariate.events else poor).then(one)
    taken = nw.col("event").is_in(covariate.without)
    return nw.when(named).then(one).when(taken).then(-one) if covariate.without else nw.when(named).then(one)


def _known(table: pa.Table, _first: int, *, covariates: Sequence[config.Covariate], carried: list[str]) -> pa.Table:
    """Return the rows of marks with their covariates; each person's touches come first, then their marks."""
    is_mark = table["_mark"].to_numpy() == 1
    person, time = (table[name].to_numpy().astype(np.int64, copy=False) for name in ("person_id", "time_us"))
    new = np.ones(len(person), dtype=bool)
    new[1:] = person[1:] != person[:-1]
    number = np.cumsum(new)
    touches = table.filter(pa.array(~is_mark))
    who, when = number[~is_mark], time[~is_mark]
    mark_who, mark_when = number[is_mark], time[is_mark]
    began = np.searchsorted(who, mark_who, side="left")
    until = _touches_until(who, when, mark_who, mark_when)
    made: dict[str, Any] = {"person_id": pa.array(person[is_mark]), "until_us": pa.array(mark_when)}
    marks = table.select(carried).filter(pa.array(is_mark))
    made |= {name: marks[name].cast(pa.int64()) for name in carried}
    for n, covariate in enumerate(covariates):
        since = began
        if covariate.last:
            window = int(config.seconds(covariate.last) * MICRO)
            since = np.maximum(_touches_until(who, when, mark_who, mark_when - window), began)
        made[covariate.name] = _value(touches, f"_value{n}", covariate, since, until, who)
    return pa.table(made)


def _touches_until(who: Integers, when: Integers, person: Integers, until: Integers) -> Integers:
    """Return how many rows, of those sorted by person and time, come before or at each person and time.

    >>> _touches_until(np.array([1, 1, 2]), np.array([5, 8, 3]), np.array([1, 1, 2]), np.array([5, 9, 1])).tolist()
    [1, 2, 2]
    """
    moments = np.unique(when)  # numbered, because a person and a time do not fit into one integer
    many = len(moments) + 1
    keys = who * many + np.searchsorted(moments, when, side="left") + 1
    return np.searchsorted(keys, person * many + np.searchsorted(moments, until, side="right"), side="right")


def _value(
    touches: pa.Table, name: str, covariate: config.Covariate, since: Integers, until: Integers, who: Integers
) -> pa.Array:
    """Return a covariate at each mark, of the touches after number `since` up to number `until`."""
    if covariate.kind == "category":
        found, names = codes(touches, name)
        latest = np.maximum.accumulate(np.where(found >= 0, np.arange(1, len(found) + 1), 0))
        latest = np.append(0, latest)[until]
        return texts(np.where(latest > since, np.append(found, -1)[latest - 1], -1), names)
    if covariate.kind == "detours":
        return pa.array(_between(_comes_back(touches, who), since, until).astype(float))
    column = touches[name].to_numpy()
    if covariate.kind == "satisfaction":
        answered = ~np.isnan(column)
        asked = _between(answered.astype(np.int64), since, until)
        whole = _between(np.rint(np.where(answered, column, 0) * FINE).astype(np.int64), since, until)
        return pa.array(np.where(asked > 0, whole / np.maximum(asked, 1) / FINE, np.nan))
    left = np.maximum(_between(np.nan_to_num(column).astype(np.int64), since, until), 0)
    return pa.array((left > 0).astype(float) if covariate.kind == "any" else left.astype(float))


def _between(values: Integers, since: Integers, until: Integers) -> Integers:
    total = np.append(0, np.cumsum(values))
    return np.asarray(total[until] - total[since])


def _comes_back(touches: pa.Table, who: Integers) -> Integers:
    """Return 1 for each touch at a touchpoint that its journey had before, with another touchpoint in between.

    A journey is told by its person, too, so that rows of others cannot change one, whatever number they have.
    """
    place, journey = codes(touches, "_touchpoint")[0], touches["_journey"].to_numpy()
    counts = np.flatnonzero((place >= 0) & ~np.isnan(journey))
    found = np.zeros(len(place), dtype=np.int64)
    if not len(counts):
        return found
    numbers, unit = np.unique(journey[counts], return_inverse=True)
    unit = who[counts] * len(numbers) + unit
    in_journeys = np.argsort(unit, kind="stable")
    rows, unit = counts[in_journeys], unit[in_journeys]
    key = unit * (int(place.max()) + 1) + place[rows]
    again = np.ones(len(rows), dtype=bool)
    again[np.unique(key, return_index=True)[1]] = False
    moved = np.ones(len(rows), dtype=bool)
    moved[1:] = place[rows][1:] != place[rows][:-1]
    found[rows] = again & moved
    return found


def free_names(covariates: Sequence[config.Covariate], taken: Sequence[str]) -> list[str]:
    """Return the names of covariates.

    Raises:
        JourneyError: a covariate has the name of a column of the table, or of another one.
    """
    names = [covariate.name for covariate in covariates]
    clash = [name for name in names if name in taken or names.count(name) > 1]
    if clash:
        raise JourneyError(f"churn.covariates: {clash[0]!r} is a column of the table or named twice. Rename it.")
    return names
