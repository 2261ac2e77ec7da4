"""Journeys as short texts, one letter for each event that a plan knows, written in one pass of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa

from journeykit import alignment, engine, steps
from journeykit.config_steps import Step
from journeykit.errors import JourneyError, require_columns

# Of so many of the same in a row, and of so many events of a journey, later ones are left out. The next caps are taken
# where more than `MOST` different sequences are left.
CAPS = ((8, 100), (3, 40), (2, 20), (1, 10))
MOST = 500_000
FIRST = 33  # of the letters: "!", which one byte holds
MOST_LETTERS = 94  # up to "~"
MOST_STEPS = 60  # one bit of a whole number each
NAMED = 40  # values outside the plan that have a letter of their own; the others share one
REST = "(other)"


@dataclass(frozen=True)
class Letters:
    """What the letters stand for.

    Attributes:
        plan: the plan in letters.
        keys: of each letter of the plan, in order: 2 × the bits of its steps, and 1 more where it is free.
        outside: the names of the values outside the plan, in the order of their letters, which follow.
        conversion: the first step that a conversion is, or 0.
    """

    plan: alignment.Plan
    keys: tuple[int, ...]
    outside: tuple[str, ...]
    conversion: int

    @property
    def calm(self) -> tuple[bool, ...]:
        """Of each letter of the plan, whether any number of it in a row is as good as one."""
        plan = self.plan
        return tuple(
            letter in plan.free or all(plan.repeat[k - 1] for k in can) for letter, can in plan.letters.items()
        )

    @property
    def extras(self) -> dict[str, str]:
        """The name of each letter that is no step's."""
        return {chr(FIRST + len(self.keys) + k): name for k, name in enumerate(self.outside)}


def sequences(
    touches: Any,
    *,
    steps: Sequence[Step],
    on: str,
    others: str = "ignore",
    allowed: Sequence[str] = (),
    conversion: Sequence[str] = (),
) -> tuple[nw.LazyFrame[Any], Letters]:
    """Write the events of each journey as a text of letters, in the engine.

    Requires `journey_id`, `person_id`, the order columns, `on`, the columns that the steps look at, and `event` where
    conversions are named. Journeys without an event that counts are not in the table.

    Returns:
        A lazy table and its letters. One row per journey: journey_id, person_id, `code` (a letter per event of a
        planned value), `cut` (how many of them come before the first conversion; −1 without one), `capped` (1 where
        events were left out that may matter, see `CAPS`), `outside_n` (events outside the plan that count as extra),
        `shown` (the code with letters for them, each once in a row; "" where none counts), and null as `value`.
        Besides, where others count as extra, one row per journey and value outside the plan with that `value`: `cut`
        is then the number of letters before its first event, −1 where that follows the conversion.
    """
    rows = _rows(touches, steps, on, others, allowed, conversion)
    letters = _letters(rows, steps)
    order = engine.order_of(rows.collect_schema().names())
    for caps in CAPS:
        work = partial(code, keys=letters.keys, outside=letters.outside, calm=letters.calm, caps=caps)
        made = engine.in_order(rows, by="journey_id", order=order, work=work)
        different = made.filter(nw.col("value").is_null()).select("code").unique()
        if engine.fetch(different.select(n=nw.len()))["n"].iloc[0] <= MOST:
            return made, letters
    raise JourneyError(
        f"plan: more than {MOST:,} different sequences of its steps. Give it fewer steps, or allow values anywhere."
    )


def _rows(
    touches: Any, found: Sequence[Step], on: str, others: str, allowed: Sequence[str], conversion: Sequence[str]
) -> nw.LazyFrame[Any]:
    """The events that count, with the bits of the steps that they are."""
    table = engine.lazy(touches)
    have = table.collect_schema().names()
    order = engine.order_of(have)
    require_columns(have, ["journey_id", "person_id", on, *order, *(["event"] if conversion else [])], "plan")
    if len(found) > MOST_STEPS:
        raise JourneyError(f"plan: {len(found)} steps, at most {MOST_STEPS} are possible. Join some of them as a | b.")
    rows = steps.marked(table.filter(~nw.col("journey_id").is_null()), found, on, "_is_", "plan")
    bits = nw.lit(0, nw.Int64)
    for k in range(len(found)):
        bits = bits + nw.col(f"_is_{k + 1}").cast(nw.Int64) * 2**k
    value = nw.col(on).cast(nw.String())
    free = _flag(value.is_in(list(allowed))) if allowed else nw.lit(0, nw.Int64)
    converts = _flag(nw.col("event").is_in(list(conversion))) if conversion else nw.lit(0, nw.Int64)
    rows = rows.select("journey_id", "person_id", *order, _bits=bits, _free=free, _converts=converts, _value=value)
    is_outside = (nw.col("_bits") == 0) & (nw.col("_free") == 0) & ~nw.col("_value").is_null()
    if others == "extra":
        rows = rows.with_columns(value=nw.when(is_outside).then(nw.col("_value")))
    else:
        rows = rows.with_columns(value=nw.lit(None, nw.String))
    key = nw.when(nw.col("_bits") > 0).then(nw.col("_bits") * 2 + nw.col("_free")).otherwise(-1)
    rows = rows.select("journey_id", "person_id", *order, "value", key=key, converts=nw.col("_converts"))
    return rows.filter((nw.col("key") > 0) | (nw.col("converts") == 1) | ~nw.col("value").is_null())


def _letters(rows: nw.LazyFrame[Any], found: Sequence[Step]) -> Letters:
    """Give a letter to each set of steps that occurs, and to the values outside the plan."""
    seen = engine.fetch(rows.group_by("key", "converts", "value").agg(n=nw.len()))
    keys = tuple(sorted(int(key) for key in seen["key"].unique() if key > 0))
    outside = seen[seen["value"].notna()].groupby("value")["n"].sum().sort_index()
    outside = outside.sort_values(ascending=False, kind="stable")
    if len(keys) + 1 > MOST_LETTERS:
        raise JourneyError(
            f"plan: its steps overlap in {len(keys)} ways, at most {MOST_LETTERS - 1} are possible. "
            "Give steps values that exclude each other."
        )
    room = min(NAMED, MOST_LETTERS - len(keys) - 1)
    named = tuple(str(name) for name in outside.index[:room])
    can = {chr(FIRST + k): _steps_of(key // 2) for k, key in enumerate(keys)}
    plan = alignment.Plan(
        tuple(not step.optional for step in found),
        tuple(step.repeat for step in found),
        can,
        frozenset(letter for letter, key in zip(can, keys, strict=True) if key % 2),
    )
    converting = seen.loc[(seen["converts"] == 1) & (seen["key"] > 0), "key"]
    conversion = min((_steps_of(int(key) // 2)[0] for key in converting), default=0)
    return Letters(plan, keys, (*named, *([REST] if len(outside) > room else [])), conversion)


def _steps_of(bits: int) -> tuple[int, ...]:
    return tuple(k + 1 for k in range(bits.bit_length()) if bits >> k & 1)


def code(
    table: pa.Table,
    _: int = 1,
    *,
    keys: Sequence[int],
    outside: Sequence[str],
    calm: Sequence[bool],
    caps: tuple[int, int] = CAPS[0],
) -> pa.Table:
    """Write sorted events of whole journeys as letters; see `sequences`.

    >>> rows = {"journey_id": [1, 1, 1], "person_id": [5, 5, 5], "value": [None] * 3}
    >>> rows |= {"key": [2, 4, 4], "converts": [0, 0, 1]}
    >>> made = code(pa.table(rows, schema=pa.schema([*[(n, pa.int64()) for n in rows]]).set(
    ...     2, pa.field("value", pa.string()))), keys=[2, 4], outside=[], calm=[False] * 2)
    >>> made.select(["code", "cut"]).to_pylist()
    [{'code': '!""', 'cut': 2}]
    """
    journeys, key = table["journey_id"].to_numpy(), table["key"].to_numpy().astype(np.int64)
    n = len(journeys)
    is_first = np.ones(n, bool)
    is_first[1:] = journeys[1:] != journeys[:-1]
    which, firsts = np.cumsum(is_first) - 1, np.flatnonzero(is_first)
    size = len(firsts)
    planned = key > 0
    letter = np.where(planned, np.searchsorted(np.asarray(keys, np.int64), key), 0)
    kept, lost = _capped(which, letter, planned, np.array([*calm, False]), caps)
    before = _before(kept, which, firsts)

    converts = np.flatnonzero(table["converts"].to_numpy() == 1)
    conversion = np.full(size, n, np.int64)  # the row of the first conversion
    np.minimum.at(conversion, which[converts], converts)
    cut = np.where(conversion < n, before[np.minimum(conversion, n - 1)] if n else 0, -1)

    is_outside = ~np.asarray(table["value"].is_null())
    rows = np.flatnonzero(is_outside)
    number = {name: len(keys) + k for k, name in enumerate(outside)}
    texts = np.asarray(table["value"].take(rows).to_pandas(), dtype=object)
    both = letter.copy()
    both[rows] = [number.get(text, len(keys) + len(outside) - 1) for text in texts]
    seen = is_outside & _first_in_row(which, both, kept | is_outside)
    shown = (kept | (seen & (_before(seen, which, firsts) < caps[1]))) & (len(rows) > 0)

    counts: dict[str, Any] = {"capped": np.minimum(np.bincount(which[lost], minlength=size), 1)}
    counts["outside_n"] = np.bincount(which[rows], minlength=size)
    journeys_made = {
        "code": _texts(which[kept], letter[kept], size),
        "cut": pa.array(cut, pa.int64()),
        **{name: pa.array(values, pa.int64()) for name, values in counts.items()},
        "shown": _texts(which[shown], both[shown], size),
        "value": pa.nulls(size, pa.string()),
    }
    once = np.unique(pd.factorize(texts)[0] * size + which[rows], return_index=True)[1]
    at = rows[np.sort(once)]  # the first event of each value in each journey
    outside_made = {
        "code": pa.nulls(len(at), pa.string()),
        "cut": pa.array(np.where(at < conversion[which[at]], before[at], -1), pa.int64()),
        **{name: pa.array(np.zeros(len(at)), pa.int64()) for name in counts},
        "shown": pa.nulls(len(at), pa.string()),
        "value": table["value"].take(at).cast(pa.string()),
    }
    parts = [
        pa.table({**{name: table[name].take(places) for name in ("journey_id", "person_id")}, **made})
        for places, made in ((firsts, journeys_made), (at, outside_made))
    ]
    return pa.concat_tables(parts)


def _capped(
    which: np.ndarray, letter: np.ndarray, planned: np.ndarray, calm: np.ndarray, caps: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The planned events that are kept, not too many in a row or at all, and those whose loss may change something."""
    rows = np.flatnonzero(planned)
    journey, same = which[rows], letter[rows]
    number = np.arange(len(rows))
    new_journey = np.ones(len(rows), bool)
    new_journey[1:] = journey[1:] != journey[:-1]
    new_row = new_journey.copy()
    new_row[1:] |= same[1:] != same[:-1]
    fine = number - np.maximum.accumulate(np.where(new_row, number, 0)) < caps[0] if len(rows) else new_row
    in_row = fine | calm[same]
    total = np.cumsum(fine)
    start = np.maximum.accumulate(np.where(new_journey, total - fine, 0)) if len(rows) else total
    short = total - start <= caps[1]
    kept, lost = np.zeros(len(which), bool), np.zeros(len(which), bool)
    kept[rows[fine & short]] = True
    lost[rows[~(in_row & short)]] = True
    return kept, lost


def _before(kept: np.ndarray, which: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """How many kept events of the journey come before each row."""
    total = np.cumsum(kept) - kept
    return (total - total[firsts][which]) if len(which) else total


def _first_in_row(which: np.ndarray, letter: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Whether a counted row is not the same as the counted row before it in the journey."""
    rows = np.flatnonzero(counted)
    new = np.ones(len(rows), bool)
    new[1:] = (which[rows][1:] != which[rows][:-1]) | (letter[rows][1:] != letter[rows][:-1])
    found = np.zeros(len(which), bool)
    found[rows] = new
    return found


def _texts(which: np.ndarray, letter: np.ndarray, size: int) -> pa.Array:
    """One text for each journey, of its letters."""
    ends = np.cumsum(np.bincount(which, minlength=size)).astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    data = (FIRST + letter).astype(np.uint8)
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes()))


def _flag(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1, nw.Int64)).otherwise(nw.lit(0, nw.Int64))
