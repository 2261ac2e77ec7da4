"""Patterns of events: which persons, sessions or journeys they are found in, and what else that is good for.

How a pattern is written stands in `pattern_text.read`: `cart -> [^purchase]* -> exit` is a cart after which no purchase
comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from journeykit import engine, stats
from journeykit.config_steps import Step
from journeykit.errors import JourneyError, nearest
from journeykit.funnels import unit_column
from journeykit.pattern_text import Pattern, Token, read
from journeykit.walks import Piece, Walks, added, by_people, packed, shares, tally, walks, whole

LEAVES = "(exit)"  # the step that a funnel understands as the end of the unit
_SHARE = ["pattern", "n", "matched_n", "people_n", "share", "share_low", "share_high"]


def matches(
    touches: Any, pattern: str, *, on: str = "event", within: str = "session", collapse: bool = False
) -> nw.LazyFrame[Any]:
    """Tell of each person, session or journey whether the pattern is found in it, at any place.

    Events without a value of `on` are left out first; with `collapse`, a value that follows itself counts once. Time
    grows with the number of events only, whatever the pattern.

    Requires the columns of `paths.transitions` (no time), or `walks.Walks`. A lazy table, one row per unit that has an
    event: `unit` (its id), `person_id`, `matched` (1 or 0).

    Raises:
        JourneyError: the pattern cannot be read.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad cart buy | u2: cart ad | u3: ad")
    >>> engine.fetch(matches(log, "cart -> [^buy]* -> exit"))["matched"].tolist()
    [0, 1, 0]
    """
    read_one = read(pattern)
    ways = walks(touches, on=on, within=within, collapse=collapse)
    return by_people(ways.table, partial(_match, patterns=[_compiled(read_one, ways)]))


def share(
    touches: Any,
    patterns: str | Sequence[str],
    *,
    on: str = "event",
    within: str = "session",
    collapse: bool = False,
    min_n: int = 1,
) -> pd.DataFrame:
    """Count the persons, sessions or journeys in which patterns are found.

    Requires what `matches` does. One row per pattern, in the order given: `n` all units that have an event,
    `matched_n` those with the pattern, `people_n` different people who have it, and the share, whose interval (95 %)
    takes people as independent. Patterns of fewer than `min_n` people are left out, but for those of nobody.
    `attrs["unknown"]` names the values that are nowhere in the touches, each with the nearest one that is: in a pattern
    such as `[^purchase]*` a slip of the pen excludes nothing, and nothing else would tell.

    Raises:
        JourneyError: a pattern cannot be read.

    >>> from tests.conftest import make_log
    >>> share(make_log("u1: ad cart | u2: ad | u3: cart"), ["ad -> cart", "start -> ad"])["matched_n"].tolist()
    [1, 2]
    """
    asked = [patterns] if isinstance(patterns, str) else list(patterns)
    parsed = [read(text) for text in asked]
    if not asked:
        return stats.not_enough(_SHARE, "no pattern is named; set the parameter pattern, or a funnel in journey.toml")
    with engine.scratch():
        ways = walks(touches, on=on, within=within, collapse=collapse)
        work = partial(_count, patterns=[_compiled(pattern, ways) for pattern in parsed])
        found = engine.fetch(added(by_people(ways.table, work), ["pattern"])).astype("int64").set_index("pattern")
    everything = found.reindex([-1], fill_value=0)
    if not everything["n"].iloc[0]:
        return stats.not_enough(_SHARE, "not enough data (n = 0)")
    found = found.reindex(range(len(asked)), fill_value=0)
    table = pd.DataFrame({"pattern": asked, "n": int(everything["n"].iloc[0]), "matched_n": found["n"]})
    table = table.assign(people_n=found["people_n"], **shares("share", found, everything))
    shown = table[(table["people_n"] >= min_n) | (table["matched_n"] == 0)].reset_index(drop=True)
    if shown.empty:
        return stats.not_enough(_SHARE, f"not enough data (no pattern has at least {min_n} people)")
    shown.attrs["unknown"] = {
        value: nearest(value, ways.values) for pattern in parsed for value in pattern.values if value not in ways.values
    }
    return shown[_SHARE]


def keep(
    touches: Any, pattern: str, *, on: str = "event", within: str = "session", collapse: bool = False
) -> nw.LazyFrame[Any]:
    """Return the touches of the persons, sessions or journeys in which the pattern is found, to ask anything of them.

    All touches of such a unit stay, also those without a value of `on`. Requires what `matches` does.

    >>> from tests.conftest import make_log
    >>> left = keep(make_log("u1: ad cart | u2: ad"), "ad -> cart")
    >>> sorted(engine.fetch(left)["event"])
    ['ad', 'cart']
    """
    found = matches(touches, pattern, on=on, within=within, collapse=collapse).filter(nw.col("matched") == 1)
    unit = unit_column(within, "patterns")
    return engine.lazy(touches).join(found.select(nw.col("unit").alias(unit)), on=unit, how="semi")


def steps(pattern: str) -> list[Step]:
    """Return the steps of the funnel that asks for the same: who reaches the last one has the pattern.

    `a -> b` becomes a step that comes directly after, `.*` between two tokens nothing, `[^x]*` events that must not lie
    between, `X?` an optional step, a final `exit` the end of the unit.

    Raises:
        JourneyError: the pattern cannot be read, or asks what no funnel can: the message says which token.

    >>> [(step.label, step.directly, step.without) for step in steps("cart -> [^purchase]* -> exit")]
    [('cart', False, []), ('(exit)', False, ['purchase'])]
    """
    parsed = read(pattern)
    if parsed.at_start:
        raise _unsaid(parsed, "start", "a funnel cannot ask that nothing came before its first step")
    made: list[Step] = []
    gap: Token | None = None
    tokens = list(parsed.tokens)
    for end in (0, -1):  # open ends: nothing, or one more of the same, changes no match
        if tokens and (end == 0 or not parsed.at_exit):
            if tokens[end].is_gap:
                tokens.pop(end)
            elif tokens[end].least == 1 and not tokens[end].other:
                tokens[end] = Token(tokens[end].values)
    for token in tokens:
        if token.is_gap:
            if gap:
                raise _unsaid(parsed, token, "a funnel knows one gap between two steps")
            gap = token
            continue
        if token.other or token.most is None:
            raise _unsaid(parsed, token, "a step is one event of named values; use .* or [^x]* for what lies between")
        made.append(_step(parsed, token.values, gap, first=not made, optional=not token.least))
        gap = None
    if parsed.at_exit:
        made.append(_step(parsed, (LEAVES,), gap, first=not made))
    for before, after in pairwise(made):
        if before.optional and (before.directly, before.without) != (after.directly, after.without):
            raise _unsaid(parsed, before.label + "?", "the gaps before and after an optional step must be the same")
    if len(made) < 2 or made[0].optional or made[-1].optional:
        raise _unsaid(parsed, pattern, "a funnel has two steps at least, and the first and the last are required")
    return made


def _step(parsed: Pattern, values: Sequence[str], gap: Token | None, *, first: bool, optional: bool = False) -> Step:
    for value in [*values, *(gap.values if gap else ())]:
        if "|" in value or value != value.strip() or not value:
            raise _unsaid(parsed, value, "the value of a step cannot hold | or begin or end with a space")
    without = list(gap.values) if gap else []
    return Step(match=list(values), directly=not first and gap is None, without=without, optional=optional)


def _unsaid(parsed: Pattern, token: Token | str, why: str) -> JourneyError:
    return JourneyError(
        f"pattern {parsed.text!r}: {token} cannot be said as a funnel: {why}. Use the pattern as a filter instead "
        "(patterns.keep), or change it."
    )


Compiled = tuple[str, bytes]  # the regular expression, and the byte of each value's number


def _compiled(pattern: Pattern, ways: Walks) -> Compiled:
    return pattern.regex, pattern.bytes_of(ways.values)


def _found(piece: Piece, pattern: Compiled) -> pa.Array:
    """Return for each unit whether the pattern is in it."""
    regex, byte_of = pattern
    data = np.frombuffer(byte_of or b"\0", dtype=np.uint8)[piece.code].tobytes()
    return pc.match_substring_regex(packed(data, np.append(piece.start, piece.length.sum())), pattern=regex)


def _match(piece: Piece, *, patterns: Sequence[Compiled]) -> pa.Table:
    table = piece.table.select(["unit", "person_id"])
    return table.append_column("matched", pc.cast(_found(piece, patterns[0]), pa.int64()))


def _count(piece: Piece, *, patterns: Sequence[Compiled]) -> pa.Table:
    units = np.bincount(piece.person, minlength=int(piece.person.max(initial=-1)) + 1)
    parts = [whole({"pattern": -1}, units)]
    for number, pattern in enumerate(patterns):
        person = piece.person[_found(piece, pattern).to_numpy(zero_copy_only=False)]
        parts.append(tally({"pattern": np.full(len(person), number)}, person, units))
    return pa.concat_tables(parts)
