"""How good the events are: what is on no touchpoint, what can be tied to somebody, visits, and how journeys end."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import pandas as pd

from journeykit import engine, funnels
from journeykit.config import Identity, Stage
from journeykit.stats import add_clustered_share, add_share, not_enough, reason_of


def unmapped(events: Any, stages: list[Stage]) -> pd.DataFrame:
    """Return the event names that no touchpoint of journey.toml names: event, source, events_n, share of all events."""
    if not stages:
        return not_enough(["event", "events_n"], "journey.toml names no touchpoints")
    table = engine.lazy(events).with_columns(_one=nw.when(~nw.col("event").is_null()).then(1).otherwise(0))
    total = engine.fetch(table.select(n=nw.len()))["n"].iloc[0]
    found = engine.fetch(
        table.filter(nw.col("stage").is_null()).group_by("event", "source").agg(events_n=nw.col("_one").sum())
    )
    if found.empty:
        return not_enough(["event", "events_n"], "every event belongs to a touchpoint")
    found["events_share"] = found["events_n"] / total
    return found.sort_values(["events_n", "event"], ascending=[False, True], ignore_index=True)


def event_names(events: Any) -> list[str]:
    """Return the names of the events that occur, sorted."""
    found = engine.fetch(engine.lazy(events).select("event").unique())
    return sorted(found["event"].dropna())


def coverage(events: Any, identifiers: list[str]) -> pd.DataFrame:
    """Return the share of events that carry each identifier, and any of them: identifier, events_n, n, share."""
    table = engine.lazy(events)
    flags = {name: nw.when(~nw.col(f"id_{name}").is_null()).then(1).otherwise(0) for name in identifiers}
    found = engine.fetch(
        table.with_columns(**flags).select(nw.len().alias("n"), *[nw.col(name).sum() for name in flags])
    )
    n = int(found["n"].iloc[0])
    if n == 0:
        return not_enough(["identifier", "events_n", "n"], "no event was read")
    rows = [{"identifier": name, "events_n": int(found[name].iloc[0]), "n": n} for name in identifiers]
    return add_share(pd.DataFrame(rows), "with_identifier", "events_n", "n")


def identified(touches: Any, plan: Identity) -> pd.DataFrame:
    """Return how many events have a verified identity before and after stitching.

    Verified: the event carries an identifier that is no device (before), or its person has one on some event (after).

    Returns:
        Two rows, before and after: events_n, n, identified_share with its interval, which takes people as independent
        and not their events (see `stats.clustered`).
    """
    table = engine.lazy(touches).with_columns(_known=nw.when(_carries(plan)).then(1).otherwise(0))
    each = table.group_by("person_id").agg(before=nw.col("_known").sum().cast(nw.Int64), _n=nw.len().cast(nw.Int64))
    each = each.with_columns(after=nw.when(nw.col("before") > 0).then(nw.col("_n")).otherwise(0))
    found = {name: engine.fetch(over_people(each.with_columns(_k=nw.col(name)))) for name in ("before", "after")}
    if not int(found["before"]["_clusters"].iloc[0]):
        return not_enough(["moment", "events_n", "n"], "no event was read")
    rows = [table.assign(moment=f"{name} stitching") for name, table in found.items()]
    made = pd.concat(rows, ignore_index=True).rename(columns={"_k": "events_n", "_n": "n"})
    made = made[["moment", *made.columns.drop("moment")]].astype({"events_n": "int64", "n": "int64"})
    return add_clustered_share(made, "identified", "events_n", "n")


def over_people(each: nw.LazyFrame[Any], *by: str) -> nw.LazyFrame[Any]:
    """Return the sums that `stats.add_clustered_share` needs, from one row per person (and `by`) with `_k` of `_n`.

    Returns:
        One row per `by`: `_k`, `_n`, `_kk`, `_kn`, `_nn` and `_clusters`, the number of people whose `_n` is not 0.
    """
    k, n = nw.col("_k"), nw.col("_n")
    each = each.with_columns(_kk=k * k, _kn=k * n, _nn=n * n, _clusters=nw.when(n > 0).then(1).otherwise(0))
    sums = [nw.col(name).sum() for name in ("_k", "_n", "_kk", "_kn", "_nn", "_clusters")]
    return each.group_by(*by).agg(*sums) if by else each.select(*sums)


def funnel_of_known(
    touches: Any, plan: Identity, *, until: pd.Timestamp | None = None, min_n: int = 1, **rules: Any
) -> pd.DataFrame:
    """Return the funnel of everybody beside that of people with a verified identity (see `identified`).

    A device that nobody ever signed in on counts as a person of its own: a buyer who looks around on a second device
    is counted twice at the first steps and once at the last, which makes the conversion of everybody too small. The
    second funnel leaves such devices out. It is no better estimate for all people: those who never say who they are
    are not in it, and signing in goes with buying.

    Args:
        touches: as for `funnels.reach`, with a column for each identifier of `plan`.
        plan: `[identity]` of journey.toml.
        until: as for `funnels.reach`.
        min_n: as for `funnels.count`.
        rules: the keys of `config.Funnel`: steps, within, per and so on.

    Returns:
        One row per `segment` ("all people", "verified identity") and step, with the columns of `funnels.funnel`.
    """  # fmt: skip
    known = _known(touches, plan).filter(nw.col("_person") == 1)
    rows = {"all people": touches, "verified identity": known}
    found = {name: funnels.funnel(table, until=until, min_n=min_n, **rules) for name, table in rows.items()}
    first = found["all people"]
    if first.empty or not first["n"].iloc[0]:
        nobody = "" if first.empty else f"nobody took the first step, {first['step'].iloc[0]}"
        return not_enough(["segment", *first.columns], reason_of(first) or nobody)
    return pd.concat(
        [table.assign(segment=name)[["segment", *first.columns]] for name, table in found.items()], ignore_index=True
    )


def sessions(touches: Any) -> pd.DataFrame:
    """Return how many visits there are and how long they are, as `[sessions] gap` of journey.toml cut them.

    A visit lasts from its first touch to its last, so one of a single touch lasts 0 s: what follows the last touch is
    not recorded. Needs `person_id`, `session_id` and the columns of the total order.

    Returns:
        One row: sessions_n, people_n, median_sessions_per_person, median_touches_per_session, median_length_seconds,
        and the share of sessions with a single touch, with its interval (which takes people as independent).
    """
    table = engine.lazy(touches).filter(~nw.col("session_id").is_null())
    found = engine.fetch(
        table.group_by("person_id", "session_id").agg(
            touches_n=nw.len(), first=nw.col("time_us").min(), last=nw.col("time_us").max()
        ),
        limit=20_000_000,
    )
    if found.empty:
        return not_enough(["sessions_n", "people_n"], "there are no sessions")
    per_person = found.groupby("person_id").size()
    single = found["touches_n"] == 1
    row = {
        "sessions_n": len(found),
        "people_n": len(per_person),
        "median_sessions_per_person": float(per_person.median()),
        "median_touches_per_session": float(found["touches_n"].median()),
        "median_length_seconds": float((found["last"] - found["first"]).median()) / 1e6,
        "single_touch_n": int(single.sum()),
    }
    sums = _sums(found["person_id"], single)
    made = add_clustered_share(pd.DataFrame([row | sums]), "single_touch", "single_touch_n", "sessions_n")
    return made.drop(columns="_k")


def ties(touches: Any) -> pd.DataFrame:
    """Return how often order had to be decided by more than time: touches of a person at the time of the one before.

    Returns:
        One row: n (touches), tied_n of them, and their share with its interval (which takes people as independent).
    """
    table = engine.lazy(touches).with_columns(_tied=nw.when(nw.col("seconds_since_previous") == 0).then(1).otherwise(0))
    each = table.group_by("person_id").agg(_k=nw.col("_tied").sum().cast(nw.Int64), _n=nw.len().cast(nw.Int64))
    found = engine.fetch(over_people(each))
    if not int(found["_clusters"].iloc[0]):
        return not_enough(["tied_n", "n"], "there are no touches")
    found = found.rename(columns={"_k": "tied_n", "_n": "n"}).astype({"tied_n": "int64", "n": "int64"})
    return add_clustered_share(found[["n", *found.columns.drop("n")]], "tied", "tied_n", "n")


def outcomes(journeys: Any) -> pd.DataFrame:
    """Return how journeys end.

    Args:
        journeys: needs person_id, outcome, touches_n and duration_days.

    Returns:
        One row per outcome: journeys_n of n (all journeys) and their share with its interval, which takes people as
        independent and not their journeys; the same as a share of the journeys that are over (converted or abandoned;
        empty for open ones, whose outcome is not known yet); and median touches and days.
    """
    table = engine.fetch(engine.lazy(journeys).select("person_id", "outcome", "touches_n", "duration_days"))
    if table.empty:
        return not_enough(["outcome", "journeys_n", "n"], "there are no journeys")
    found = table.groupby("outcome", as_index=False).agg(
        journeys_n=("outcome", "size"), median_touches=("touches_n", "median"), median_days=("duration_days", "median")
    )
    found.insert(2, "n", len(table))
    order = pd.Categorical(found["outcome"], ["converted", "abandoned", "open"], ordered=True)
    finished = table[table["outcome"] != "open"]
    found["finished_n"] = len(finished)
    for name, rows, n in (("journeys", table, "n"), ("of_finished", finished, "finished_n")):
        sums = [_sums(rows["person_id"], rows["outcome"] == outcome) for outcome in found["outcome"]]
        found = add_clustered_share(found.assign(**pd.DataFrame(sums)), name, "_k", n)
    of_finished = ["of_finished_share", "of_finished_share_low", "of_finished_share_high"]
    found[of_finished] = found[of_finished].where(found["outcome"] != "open")
    columns = ["outcome", "journeys_n", "n", "journeys_share", "journeys_share_low", "journeys_share_high"]
    columns += ["finished_n", *of_finished]
    return found.assign(_o=order).sort_values("_o", ignore_index=True)[[*columns, "median_touches", "median_days"]]


def blocked(values: Any) -> pd.DataFrame:
    """Return the identifier values that mark nobody and were not used: id_name, value, rows_n."""
    found = engine.fetch(values)
    if found.empty:
        return not_enough(["id_name", "value", "rows_n"], "no identifier holds a placeholder")
    found["rows_n"] = found["rows_n"].astype("int64")
    return found.sort_values(["rows_n", "id_name", "value"], ascending=[False, True, True], ignore_index=True)


def _sums(people: pd.Series[Any], successes: pd.Series[Any]) -> dict[str, int]:
    """The sums of `over_people`, of one row per trial in memory."""
    each = successes.groupby(people).agg(["sum", "size"]).astype("int64")
    k, n = each["sum"], each["size"]
    sums = {"_k": k, "_kk": k * k, "_kn": k * n, "_nn": n * n}
    return {name: int(column.sum()) for name, column in sums.items()} | {"_clusters": len(each)}


def _carries(plan: Identity) -> nw.Expr:
    """Whether an event carries an identifier that is no device."""
    personal = [nw.col(f"id_{name}") for name in plan.identifiers if name not in plan.devices]
    return ~nw.coalesce(*personal).is_null() if personal else nw.col("person_id").is_null()  # nobody is known


def _known(touches: Any, plan: Identity) -> Any:
    """Add `_known` (1: the event carries an identifier that is no device) and `_person` (1: one of its person does)."""
    table = engine.lazy(touches).with_columns(_known=nw.when(_carries(plan)).then(1).otherwise(0))
    return table.with_columns(_person=nw.col("_known").max().over("person_id"))
