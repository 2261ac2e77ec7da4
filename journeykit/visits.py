"""Shared identifiers resolved in time: whose was the event on the tablet at the counter?"""

from __future__ import annotations

from typing import Any

import narwhals as nw

from journeykit import engine
from journeykit.config import Identity
from journeykit.durations import seconds
from journeykit.graph import node
from journeykit.groups import Groups

ORDER = list(engine.ORDER)


def in_time(
    events: nw.LazyFrame[Any], groups: Groups, plan: Identity, as_of_us: int | None = None
) -> nw.LazyFrame[Any]:
    """Return whose each event on a shared identifier was.

    A *visit* is a run of events on the identifier without a silence longer than `shared_gap`. An event that carries no
    identifier of its own belongs to the sign-in nearest in time within its visit, of two equally near to the earlier
    one; a visit without a sign-in is a person of its own, because nothing says whose it was. By `last_login`, visits do
    not count: the last sign-in before the event, else the first one after it.

    Args:
        events: needs event_id, the total order and `id_<name>` for each identifier.
        groups: who each identifier belongs to, and which are shared.
        plan: identifiers, `shared_gap` and `policy`.
        as_of_us: later sign-ins are not known yet (microseconds since 1970).

    Returns:
        One row per event and shared identifier on it: node, event_id, the total order, timestamp, `group` (null where
        another shared identifier of the event decides), `decides` (1: this is the event's most trusted identifier).
    """
    found = _on_shared(events, groups, plan)
    parted = engine.beside(groups.apart, found).select("node", known=nw.col("group"), _parted=nw.lit(1))
    found = found.join(parted, on=["node", "known"], how="left")
    # A sign-in of somebody who is split from it says nothing about the events around.
    signed: Any = nw.when(nw.col("_parted").is_null()).then(nw.col("known"))
    if as_of_us is not None:
        signed = nw.when(nw.col("time_us") <= as_of_us, nw.col("_parted").is_null()).then(nw.col("known"))
    found = found.with_columns(_signed=signed)
    found = found.with_columns(_at=nw.when(~nw.col("_signed").is_null()).then(nw.col("time_us")))
    within = ["node"]
    if plan.policy == "last_login":
        found = found.with_columns(_visit=nw.lit(0))
    else:
        since = nw.col("time_us") - nw.col("time_us").shift(1).over("node", order_by=ORDER)
        found = found.with_columns(_since=since)
        quiet = nw.col("_since").is_null() | (nw.col("_since") > seconds(plan.shared_gap) * 1_000_000)
        found = found.with_columns(_quiet=nw.when(quiet).then(1).otherwise(0))
        found = found.with_columns(_visit=nw.col("_quiet").cum_sum().over("node", order_by=ORDER))
        within = ["node", "_visit"]
    signed, at = nw.col("_signed"), nw.col("_at")
    found = found.with_columns(
        _before=signed.fill_null(strategy="forward").over(*within, order_by=ORDER),
        _before_at=at.fill_null(strategy="forward").over(*within, order_by=ORDER),
        _after=signed.fill_null(strategy="backward").over(*within, order_by=ORDER),
        _after_at=at.fill_null(strategy="backward").over(*within, order_by=ORDER),
    )
    nearer = (nw.col("_after_at") - nw.col("time_us")) < (nw.col("time_us") - nw.col("_before_at"))
    nearest = nw.coalesce("_before", "_after")
    if plan.policy != "last_login":
        nearest = nw.when(nearer).then(nw.col("_after")).otherwise(nearest)
    nobody = nw.concat_str(nw.col("node"), nw.lit("#"), nw.col("_visit").cast(nw.String))
    decided = nw.when(nw.col("decides") == 1).then(nw.coalesce(nearest, nobody))
    made = found.with_columns(group=nw.coalesce(nw.col("known"), decided))
    return engine.keep(made.select("node", "event_id", *ORDER[:3], "timestamp", "group", "decides"), "visits")


def _on_shared(events: nw.LazyFrame[Any], groups: Groups, plan: Identity) -> nw.LazyFrame[Any]:
    """The events that carry a shared identifier, once for each, with the group that their other identifiers say."""
    columns = ["node", "decides", "event_id", *ORDER[:3], "timestamp", *(f"id_{name}" for name in plan.identifiers)]
    parts = [events.head(0).with_columns(node=nw.col("event_id"), decides=nw.lit(1)).select(*columns)]
    for rank, name in enumerate(plan.identifiers):
        own = groups.shared.filter(nw.col("node").str.starts_with(f"{rank}:"))
        if engine.is_empty(own):
            continue
        own = own.select("node", _token=nw.col("node").str.slice(len(f"{rank}:")))
        at = events.join(engine.beside(own, events), left_on=f"id_{name}", right_on="_token", how="inner")
        # Its most trusted identifier decides, also when a less trusted one of the event is shared as well.
        better = [nw.col(f"id_{other}") for other in plan.identifiers[:rank]]
        decides = nw.when(nw.coalesce(*better).is_null()).then(1).otherwise(0) if better else nw.lit(1)
        parts.append(at.with_columns(decides=decides).select(*columns))
    found = engine.keep(nw.concat(parts), "visits_seen")
    of = engine.beside(groups.of, events)
    for rank, name in enumerate(plan.identifiers):
        owner = of.select(_node=nw.col("node"), _group=nw.col("group"))
        found = found.with_columns(_node=node(rank, nw.col(f"id_{name}"))).join(owner, on="_node", how="left")
        found = found.drop("_node").rename({"_group": f"_group_{name}"})
    known = nw.coalesce(*[nw.col(f"_group_{name}") for name in plan.identifiers])
    return engine.keep(found.select(*columns[:7], known=known), "visits_known")
