"""Who is who: identifiers that belong together become a person, honestly where a device is shared.

Definition chosen (`graph_strict`): identifiers seen on one event, or declared by a profile, belong to one person,
within caps and devices last. A device seen with more people than allowed is *shared*: it joins nobody, and each visit
on it belongs to whoever signed in nearest in time within that visit. The policies differ in what may join:

- `none`: each device is its own person, whatever is known of it.
- `last_login`: a device belongs to the last sign-in before the event, else to the first one after it (GA4, Snowplow,
  Adobe's device-based stitching); everything else as it was declared.
- `device_split`: as `last_login`, but the sign-in nearest in time, within the visit where a device has several.
- `graph`: connected components of everything (Segment without limits, RudderStack): merges people who share a device.
- `graph_strict`: connected components within caps, devices of one person included, shared ones resolved in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, graph
from journeykit.config import Identity
from journeykit.graph import TOGETHER, node
from journeykit.groups import Groups, solve
from journeykit.visits import in_time

POLICIES = ("none", "last_login", "device_split", "graph", "graph_strict")
# Combinations of identifiers that are brought from another engine into this process to be solved; more stay there.
NEAR = 20_000_000
ALONE = "seen alone"
OWN_DEVICE = "device of one person"
PEOPLE = ("id_name", "id_token", "valid_from", "valid_to", "person_id", "rule", "confidence", "links_n")


@dataclass(frozen=True)
class Stitched:
    """Events with their person, and who each identifier belongs to when."""

    events: nw.LazyFrame[Any]  # the columns of `events` and person_id
    people: nw.LazyFrame[Any]  # one row per identifier token and validity interval; see PEOPLE
    shared: nw.LazyFrame[Any]  # identifiers that join nobody: node, reason


def stitch(events: Any, plan: Identity, declared: Any = None, as_of: pd.Timestamp | None = None) -> Stitched:
    """Give every event its person.

    Args:
        events: needs event_id, timestamp, source, source_row and `id_<name>` for each identifier; each event has one.
        plan: identifiers in order of trust, devices among them, caps and the policy.
        declared: the table `links`: what something other than an event says about identifiers; or None.
        as_of: only what was known by then joins (UTC), so that a model of that day does not learn from the future;
            events after it still get a person.

    Returns:
        `events` with person_id (integer, 1 is the person seen first), and `people`. Numbers do not depend on the
        order of the rows or on the key of the tokens.
    """
    ids = [nw.col(f"id_{name}").cast(nw.String) for name in plan.identifiers]  # a column without any value has no type
    table = engine.lazy(events).with_columns(*ids)
    until = None if as_of is None else int(pd.Timestamp(as_of).value // 1000)
    seen = _near(_combinations(table, plan.identifiers))
    found = graph.build(seen, plan.identifiers, declared, until)
    groups = solve(found, plan)
    own = _first_identifier(seen, plan).join(groups.of, on="node", how="inner")
    resolved = in_time(table, groups, plan, until)
    late = resolved.filter(nw.col("decides") == 1)
    firsts = [
        own.select("group", "first_us", "first_id"),
        engine.beside(late.select("group", first_us=nw.col("time_us"), first_id=nw.col("event_id")), seen),
    ]
    numbers = _numbered(nw.concat(firsts))
    first = own.select("node", "group").unique().join(numbers, on="group", how="inner")
    stitched = _with_person(table, plan, first, late, numbers)
    intervals = [_own(found, groups, numbers, plan), _spells(resolved, groups, numbers, plan)]
    people = nw.concat([engine.beside(part, table) for part in intervals]).select(*PEOPLE)
    order = ["person_id", "id_name", "id_token", "valid_from"]
    return Stitched(stitched, people.sort(*order), groups.shared)


def _combinations(table: nw.LazyFrame[Any], names: list[str]) -> nw.LazyFrame[Any]:
    """One row per combination of tokens that occurs on an event: when, how often, and its smallest event_id."""
    return table.group_by(*[f"id_{name}" for name in names]).agg(
        first_us=nw.col("time_us").min(),
        first_at=nw.col("timestamp").min(),
        last_at=nw.col("timestamp").max(),
        first_id=nw.col("event_id").min(),
        events_n=nw.len(),
    )


def _near(seen: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Bring the combinations into this process unless they are too many; graphs are solved fastest there."""
    seen = engine.keep(seen, "identity_seen")
    if seen.implementation.is_duckdb() or len(engine.fetch(seen.select(n=nw.len()).filter(nw.col("n") > NEAR))):
        return seen
    return engine.keep(engine.lazy(seen.collect("pyarrow")), "identity_near")


def _trusted(plan: Identity) -> list[tuple[int, str]]:
    """The identifiers with their ranks, in the order in which an event's own one is looked for."""
    ranked = list(enumerate(plan.identifiers))
    if plan.policy == "none":  # each device is its own person, whoever signs in
        ranked.sort(key=lambda pair: pair[1] not in plan.devices)
    return ranked


def _first_identifier(seen: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """Each combination's most trusted identifier, as `node`."""
    return seen.with_columns(node=nw.coalesce(*[node(rank, nw.col(f"id_{name}")) for rank, name in _trusted(plan)]))


def _numbered(firsts: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Number people by when they were first seen, so that no number depends on row order or on the key."""
    first = firsts.group_by("group").agg(first_us=nw.col("first_us").min(), first_id=nw.col("first_id").min())
    numbered = first.with_columns(_one=nw.lit(1)).select(
        "group", person_id=nw.col("_one").cum_sum().over(order_by=["first_us", "first_id", "group"]).cast(nw.Int64)
    )
    return engine.keep(numbered, "identity_numbers")


def _with_person(
    table: nw.LazyFrame[Any],
    plan: Identity,
    first: nw.LazyFrame[Any],
    late: nw.LazyFrame[Any],
    numbers: nw.LazyFrame[Any],
) -> nw.LazyFrame[Any]:
    """Add person_id: that of the event's most trusted identifier, or what was resolved in time where that is shared."""
    ranked = _trusted(plan)
    rank: Any = nw.lit(ranked[-1][0])
    for place, name in reversed(ranked[:-1]):
        rank = nw.when(~nw.col(f"id_{name}").is_null()).then(nw.lit(place)).otherwise(rank)
    table = table.with_columns(_token=nw.coalesce(*[nw.col(f"id_{name}") for _, name in ranked]), _rank=rank)
    parts = [
        first.filter(nw.col("node").str.starts_with(f"{place}:")).select(
            "person_id", _token=nw.col("node").str.slice(len(f"{place}:")), _rank=nw.lit(place)
        )
        for place, _ in ranked
    ]
    owners = engine.beside(engine.keep(nw.concat(parts), "identity_owners"), table)
    table = table.join(owners, on=["_token", "_rank"], how="left").drop("_token", "_rank")
    people = late.join(engine.beside(numbers, late), on="group", how="inner")
    people = people.select(_event_id=nw.col("event_id"), _late=nw.col("person_id"))
    late_id = nw.when(nw.col("person_id").is_null()).then(nw.col("event_id"))
    table = table.with_columns(_event_id=late_id).join(engine.keep(people, "identity_late"), on="_event_id", how="left")
    return table.with_columns(person_id=nw.coalesce("person_id", "_late")).drop("_event_id", "_late")


def _own(found: graph.Graph, groups: Groups, numbers: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """One row per identifier that belongs to one person at all times."""
    pairs, own = found.pairs, groups.of.select("node")
    for end in ("left", "right"):  # a shared identifier joins nobody
        pairs = pairs.join(own, left_on=end, right_on="node", how="semi")
    ends = [pairs.select("together", node=nw.col(end)) for end in ("left", "right")]
    # One join at a time: several in one query would have to be in memory together.
    links = nw.concat(ends).group_by("node").agg(links_n=nw.len(), together=nw.col("together").min())
    links = engine.keep(links, "identity_links")
    people = engine.keep(
        groups.of.join(numbers, on="group", how="inner").select("node", "person_id"), "identity_people"
    )
    known = found.tokens.filter(nw.col("events_n") > 0).select("node", "rank", "id_token", "first_at", "last_at")
    known = engine.keep(known.join(people, on="node", how="inner"), "identity_known")
    known = engine.keep(known.join(links, on="node", how="left"), "identity_known")
    sizes = known.group_by("person_id").agg(_size=nw.len())
    known = known.join(sizes, on="person_id", how="inner")
    is_device = nw.col("rank").is_in([plan.identifiers.index(name) for name in plan.devices])
    rule: Any = nw.lit(ALONE)
    for place, together in reversed(list(enumerate(TOGETHER))):
        rule = nw.when(nw.col("together") == place).then(nw.lit(together)).otherwise(rule)
    if plan.policy != "graph":  # where a device joins people like anything else
        rule = nw.when(is_device).then(nw.lit(OWN_DEVICE)).otherwise(rule)
    probable = nw.col("together") == TOGETHER.index("similar profile")
    sure = nw.when(is_device).then(nw.lit("inferred")).otherwise(nw.lit("declared"))
    sure = nw.when(probable).then(nw.lit("probable")).otherwise(sure)
    alone = nw.col("_size") == 1
    return known.select(
        "id_token", "person_id",
        id_name=_name(plan),
        valid_from=nw.col("first_at"),
        valid_to=nw.col("last_at"),
        rule=nw.when(alone).then(nw.lit(ALONE)).otherwise(rule),
        confidence=nw.when(alone).then(nw.lit("declared")).otherwise(sure),
        links_n=nw.coalesce(nw.col("links_n"), nw.lit(0)).cast(nw.Int64),
    ).select(*PEOPLE)  # fmt: skip


def _name(plan: Identity) -> Any:
    name: Any = nw.lit(plan.identifiers[-1])
    for rank, known in reversed(list(enumerate(plan.identifiers[:-1]))):
        name = nw.when(nw.col("rank") == rank).then(nw.lit(known)).otherwise(name)
    return name


def _spells(
    resolved: nw.LazyFrame[Any], groups: Groups, numbers: nw.LazyFrame[Any], plan: Identity
) -> nw.LazyFrame[Any]:
    """One row per shared identifier and unbroken spell of one person on it."""
    order = list(engine.ORDER)
    how = "last sign-in" if plan.policy == "last_login" else "nearest sign-in of the visit"
    table = resolved.filter(~nw.col("group").is_null()).join(engine.beside(numbers, resolved), on="group", how="inner")
    table = table.with_columns(_before=nw.col("person_id").shift(1).over("node", order_by=order))
    same = nw.col("_before") == nw.col("person_id")
    table = table.with_columns(_starts=nw.when(same).then(0).otherwise(1))
    table = table.with_columns(_spell=nw.col("_starts").cum_sum().over("node", order_by=order))
    spells = table.group_by("node", "person_id", "_spell").agg(
        valid_from=nw.col("timestamp").min(), valid_to=nw.col("timestamp").max()
    )
    spells = spells.join(engine.beside(groups.shared, resolved), on="node", how="inner")
    parts = [
        spells.filter(nw.col("node").str.starts_with(f"{rank}:")).select(
            "person_id", "valid_from", "valid_to",
            id_name=nw.lit(name),
            id_token=nw.col("node").str.slice(len(f"{rank}:")),
            rule=nw.concat_str(nw.col("reason"), nw.lit(f", {how}")),
            confidence=nw.lit("inferred"),
            links_n=nw.lit(0).cast(nw.Int64),
        )
        for rank, name in enumerate(plan.identifiers)
    ]  # fmt: skip
    return nw.concat([part.select(*PEOPLE) for part in parts])
