"""Who is who: identifiers that belong together become a person, honestly where a device is shared.

Definition chosen (`graph_strict`): identifiers seen on one event belong to one person, devices last. A device seen
with more people than allowed is *shared*: it joins nobody, and each visit on it belongs to whoever signed in nearest
in time within that visit. Rivals: `graph` (connected components, which merges people who share a device) and `none`
(each device its own person).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from journeykit import engine
from journeykit.config import Identity, seconds


@dataclass(frozen=True)
class Stitched:
    """Events with their person, and who each identifier belongs to when."""

    events: nw.LazyFrame[Any]  # the columns of `events` and person_id
    people: pd.DataFrame  # one row per identifier token and validity interval


def edges(events: Any, names: list[str]) -> pd.DataFrame:
    """Return the pairs of identifiers that occur on one event.

    Args:
        events: needs `id_<name>` for each name.
        names: identifiers, in order of trust.

    Returns:
        One row per pair: left_name, left, right_name, right, events_n.
    """
    table = engine.lazy(events)
    found = [pd.DataFrame(columns=["left_name", "left", "right_name", "right", "events_n"])]
    for left, right in combinations(names, 2):
        pair = (
            table.select(left=nw.col(f"id_{left}"), right=nw.col(f"id_{right}"), one=nw.lit(1))
            .filter(~nw.col("left").is_null(), ~nw.col("right").is_null())
            .group_by("left", "right")
            .agg(events_n=nw.col("one").sum())
        )
        found.append(engine.fetch(pair).assign(left_name=left, right_name=right))
    return pd.concat([part for part in found if len(part)] or found, ignore_index=True)[list(found[0].columns)]


def components(nodes: pd.Series, left: pd.Series, right: pd.Series) -> pd.Series:
    """Return a component number for each node of an undirected graph (connected components, scipy).

    >>> components(pd.Series(["a", "b", "c"]), pd.Series(["a"]), pd.Series(["b"])).tolist()
    [0, 0, 1]
    """
    place = pd.Series(np.arange(len(nodes)), index=nodes.to_numpy())
    matrix = coo_matrix(
        (np.ones(len(left)), (place[left.to_numpy()].to_numpy(), place[right.to_numpy()].to_numpy())),
        shape=(len(nodes), len(nodes)),
    )
    return pd.Series(connected_components(matrix, directed=False)[1], index=nodes.to_numpy())


def shared_devices(nodes: pd.DataFrame, links: pd.DataFrame, plan: Identity) -> pd.DataFrame:
    """Return the devices that were seen with more people than `max_people_per_device`.

    A person is here a component of identifiers that are no devices: someone who signs in by customer number and by
    e-mail is one person, not two.

    Returns:
        One row per shared device: id_name, id_token, people_n.
    """
    personal = nodes[~nodes["id_name"].isin(plan.devices)]
    inner = links[~links["left_name"].isin(plan.devices) & ~links["right_name"].isin(plan.devices)]
    component = components(personal["node"], inner["left_node"], inner["right_node"])
    sides = []
    for device, person in (("right", "left"), ("left", "right")):  # trust may name a device before a person
        seen = links[links[f"{device}_name"].isin(plan.devices) & ~links[f"{person}_name"].isin(plan.devices)]
        owner = component.reindex(seen[f"{person}_node"]).to_numpy()
        sides.append(pd.DataFrame({"id_name": seen[f"{device}_name"], "id_token": seen[device], "component": owner}))
    people = pd.concat(sides).groupby(["id_name", "id_token"])["component"].nunique().rename("people_n").reset_index()
    return people[people["people_n"] > plan.max_people_per_device].reset_index(drop=True)


def _without_bridges(own: pd.DataFrame, links: pd.DataFrame, plan: Identity) -> pd.DataFrame:
    """Drop links between two devices where they would join people: a device alone never merges anybody.

    Two devices seen on one event stay linked as long as only one person, or nobody, signed in on either.
    """
    personal = own[~own["id_name"].isin(plan.devices)]
    inner = links[~links["left_name"].isin(plan.devices) & ~links["right_name"].isin(plan.devices)]
    people = components(personal["node"], inner["left_node"], inner["right_node"])
    group = components(own["node"], links["left_node"], links["right_node"])
    owners = people.groupby(group.reindex(people.index).to_numpy()).nunique()
    crowded = owners[owners > plan.max_people_per_device].index
    both = links["left_name"].isin(plan.devices) & links["right_name"].isin(plan.devices)
    return links[~(both & group.reindex(links["left_node"]).isin(crowded).to_numpy())]


def stitch(events: Any, plan: Identity) -> Stitched:
    """Give every event its person.

    Args:
        events: needs event_id, timestamp, source, source_row and `id_<name>` for each identifier.
        plan: identifiers in order of trust, devices among them, and the policy.

    Returns:
        `events` with person_id (integer, 1 is the person seen first), and `people`. Numbers do not depend on the
        order of the rows or on the key of the tokens.
    """
    table = engine.lazy(events)
    names = plan.identifiers
    nodes = _nodes(table, names)
    links = edges(table, names)
    for side in ("left", "right"):
        links[f"{side}_node"] = links[f"{side}_name"].astype(str) + ":" + links[side].astype(str)
    shared = (
        shared_devices(nodes, links, plan) if plan.policy == "graph_strict" else nodes.head(0)[["id_name", "id_token"]]
    )
    cut = set(shared["id_name"].astype(str) + ":" + shared["id_token"].astype(str))
    if plan.policy == "none":
        links = links.head(0)
    open_links = links[~links["left_node"].isin(cut) & ~links["right_node"].isin(cut)]
    own = nodes[~nodes["node"].isin(cut)]
    if plan.policy == "graph_strict":
        open_links = _without_bridges(own, open_links, plan)
    group = components(own["node"], open_links["left_node"], open_links["right_node"])
    own = own.assign(group=group.reindex(own["node"]).to_numpy())
    grouped = _group_of_event(table, own, plan)
    if cut:
        grouped = _resolve_shared(grouped, shared, plan, first_free=int(own["group"].max() + 1) if len(own) else 0)
    return _number(grouped, own, shared, plan)


def _nodes(table: nw.LazyFrame[Any], names: list[str]) -> pd.DataFrame:
    """One row per identifier token: id_name, id_token, node, first and last time seen, events."""
    parts = []
    for name in names:
        part = (
            table.select(id_token=nw.col(f"id_{name}"), time_us=nw.col("time_us"), one=nw.lit(1))
            .filter(~nw.col("id_token").is_null())
            .group_by("id_token")
            .agg(first_us=nw.col("time_us").min(), last_us=nw.col("time_us").max(), events_n=nw.col("one").sum())
        )
        parts.append(engine.fetch(part).assign(id_name=name))
    nodes = pd.concat(parts, ignore_index=True).sort_values(["id_name", "id_token"], ignore_index=True)
    return nodes.assign(node=nodes["id_name"].astype(str) + ":" + nodes["id_token"].astype(str))


def _group_of_event(table: nw.LazyFrame[Any], own: pd.DataFrame, plan: Identity) -> nw.LazyFrame[Any]:
    """Join the group of each event's most trusted identifier; a policy without links trusts the device first."""
    names = (
        plan.devices + [n for n in plan.identifiers if n not in plan.devices]
        if plan.policy == "none"
        else plan.identifiers
    )
    for name in names:
        tokens = own.loc[own["id_name"] == name, ["id_token", "group"]]
        small = engine.lazy(tokens.rename(columns={"id_token": f"id_{name}", "group": f"group_{name}"}))
        table = table.join(small, on=f"id_{name}", how="left")
    return table.with_columns(group=nw.coalesce(*[nw.col(f"group_{name}") for name in names])).drop(
        *[f"group_{name}" for name in names]
    )


def _resolve_shared(
    table: nw.LazyFrame[Any], shared: pd.DataFrame, plan: Identity, first_free: int
) -> nw.LazyFrame[Any]:
    """Give the anonymous events of shared devices to the sign-in nearest in time within the visit.

    Nearest is: the last sign-in before the event, else the first one after it. A visit without a sign-in is a person
    of its own, because nothing says whose it was.
    """
    order = list(engine.ORDER)
    for name in plan.devices:
        marked = shared.loc[shared["id_name"] == name, ["id_token"]].assign(is_shared=1)
        if marked.empty:
            continue
        token = f"id_{name}"
        table = table.join(engine.lazy(marked.rename(columns={"id_token": token})), on=token, how="left")
        on_shared = ~nw.col("is_shared").is_null()
        gap = seconds(plan.shared_gap) * 1_000_000
        table = (
            table.with_columns(previous_us=nw.col("time_us").shift(1).over(token, order_by=order))
            .with_columns(
                starts=nw.when(nw.col("previous_us").is_null() | (nw.col("time_us") - nw.col("previous_us") > gap))
                .then(1)
                .otherwise(0)
            )
            .with_columns(visit=nw.col("starts").cum_sum().over(token, order_by=order))
            .with_columns(before=nw.col("group").fill_null(strategy="forward").over(token, "visit", order_by=order))
            .with_columns(after=nw.col("group").fill_null(strategy="backward").over(token, "visit", order_by=order))
        )
        table = table.with_columns(
            group=nw.when(on_shared).then(nw.coalesce("group", "before", "after")).otherwise(nw.col("group"))
        )
        lost = engine.fetch(
            table.filter(on_shared, nw.col("group").is_null()).select(token, "visit").unique().sort(token, "visit")
        )
        numbered = lost.assign(visit_group=np.arange(first_free, first_free + len(lost), dtype="int64"))
        first_free += len(lost)
        if len(numbered):
            table = (
                table.join(engine.lazy(numbered), on=[token, "visit"], how="left")
                .with_columns(group=nw.coalesce("group", "visit_group"))
                .drop("visit_group")
            )
        table = table.drop("previous_us", "starts", "before", "after", "is_shared", "visit")
    return table


def _number(table: nw.LazyFrame[Any], own: pd.DataFrame, shared: pd.DataFrame, plan: Identity) -> Stitched:
    """Number people by when they were first seen, so that no number depends on row order or on the key."""
    first = engine.fetch(
        table.group_by("group").agg(first_us=nw.col("time_us").min(), first_id=nw.col("event_id").min())
    ).sort_values(["first_us", "first_id"], ignore_index=True)
    numbers = first[["group"]].assign(person_id=np.arange(1, len(first) + 1, dtype="int64"))
    events = table.join(engine.lazy(numbers), on="group", how="left").drop("group")
    known = own.merge(numbers, on="group", how="inner")
    linked = known.groupby("person_id")["id_name"].transform("size") > 1
    is_device = known["id_name"].isin(plan.devices)
    people = known.assign(
        rule=np.where(~linked, "seen alone", np.where(is_device, "device of one person", "declared together")),
        confidence=np.where(is_device & linked, "inferred", "declared"),
    )
    parts = [people[["id_name", "id_token", "first_us", "last_us", "person_id", "rule", "confidence"]]]
    for name in plan.devices:
        parts.append(_shared_intervals(events, shared, name))
    out = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    for column in ("first_us", "last_us"):
        out[column] = pd.to_datetime(out[column], unit="us")
    out = out.rename(columns={"first_us": "valid_from", "last_us": "valid_to"})
    order = ["id_name", "id_token", "valid_from", "valid_to", "person_id", "rule", "confidence"]
    return Stitched(
        events, out[order].sort_values(["person_id", "id_name", "id_token", "valid_from"], ignore_index=True)
    )


def _shared_intervals(events: nw.LazyFrame[Any], shared: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per shared device and unbroken spell of one person on it."""
    tokens = shared.loc[shared["id_name"] == name, ["id_token"]]
    if tokens.empty:
        return pd.DataFrame()
    seen = engine.fetch(
        events.join(engine.lazy(tokens.rename(columns={"id_token": f"id_{name}"})), on=f"id_{name}", how="inner")
        .select("time_us", "source", "source_row", "event_id", "person_id", id_token=nw.col(f"id_{name}"))
        .sort("id_token", *engine.ORDER)
    )
    changed = (seen["id_token"] != seen["id_token"].shift()) | (seen["person_id"] != seen["person_id"].shift())
    spells = (
        seen.assign(spell=changed.cumsum())
        .groupby(["spell", "id_token", "person_id"], as_index=False)
        .agg(first_us=("time_us", "min"), last_us=("time_us", "max"))
        .drop(columns="spell")
    )
    return spells.assign(id_name=name, rule="shared device, nearest sign-in of the visit", confidence="inferred")
