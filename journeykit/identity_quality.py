"""How identifiers became people, for a reader who looks for what is wrong: rules, large clusters, shared devices."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.config import Identity
from journeykit.quality import over_people
from journeykit.stats import add_clustered_share, not_enough

KIOSK = 5  # a device that at least so many people signed in on is a kiosk, a counter or a classroom
ONLY_SHARED = "only shared ones"  # people without an identifier of their own


def rules(people: Any, min_n: int = 1) -> pd.DataFrame:
    """Return how identifiers came to their people.

    Args:
        people: the table of 02_stitch.
        min_n: rows of fewer people are left out; `attrs["left_out_n"]` counts them.

    Returns:
        One row per identifier and rule: id_name, rule, identifiers_n, people_n, confidence, and `resolved`: how events
        on what joins nobody found their person (empty for the others).
    """
    found = engine.fetch(
        engine.lazy(people)
        .group_by("id_name", "rule", "confidence")
        .agg(identifiers_n=nw.col("id_token").n_unique(), people_n=nw.col("person_id").n_unique())
    )
    columns = ["id_name", "rule", "identifiers_n", "people_n", "confidence", "resolved"]
    shown = found[found["people_n"] >= min_n]
    if shown.empty:
        reason = f"every rule has fewer than {min_n} people" if len(found) else "there are no people"
        return not_enough(columns, reason)
    made = _rule_in_two(shown).sort_values(["id_name", "rule"], ignore_index=True)[columns]
    made.attrs["left_out_n"] = len(found) - len(shown)
    return made


def sizes(people: Any) -> pd.DataFrame:
    """Return how many identifiers people have of their own, which says how much was merged; shared ones merge nobody.

    Returns:
        One row per size ("1", "2", "3–4", "5–9", "10 and more", "only shared ones"): identifiers, people_n of n, and
        people_share.
    """
    own = nw.when(_is_shared()).then(0).otherwise(1)
    counted = engine.lazy(people).with_columns(_own=own).group_by("person_id").agg(size=nw.col("_own").sum())
    found = engine.fetch(counted.group_by("size").agg(people_n=nw.len()))
    if found.empty:
        return not_enough(["identifiers", "people_n"], "there are no people")
    names = ["1", "2", "3–4", "5–9", "10 and more"]
    size = found["size"].astype("int64")
    groups = pd.Categorical(pd.cut(size, [0, 1, 2, 4, 9, np.inf], labels=names), [*names, ONLY_SHARED])
    groups[(size == 0).to_numpy()] = ONLY_SHARED
    table = (
        found.groupby(pd.Series(groups, index=found.index), observed=False)["people_n"]
        .sum()
        .rename_axis("identifiers")
        .reset_index()
    )
    table["identifiers"] = table["identifiers"].astype(str)
    n = int(table["people_n"].sum())
    return table.assign(n=n, people_share=table["people_n"] / n)


def largest_people(people: Any, top: int = 5) -> pd.DataFrame:
    """Return the people with the most identifiers, who are the first place to look for wrong merges, and why so many.

    Identifiers that join nobody are no part of anybody; a person with a single one was merged with nothing.

    Returns:
        One row per person, without any identifier: rank, identifiers_n, the number of each kind, and reason: which
        identifier is linked to the most others, as the place where a wrong merge would lie.
    """
    table = engine.lazy(people).filter(~_is_shared())
    per_kind = table.group_by("person_id", "id_name").agg(n=nw.len())
    total = per_kind.group_by("person_id").agg(identifiers_n=nw.col("n").sum()).filter(nw.col("identifiers_n") > 1)
    first = engine.fetch(total.sort("identifiers_n", "person_id", descending=[True, False]).head(top))
    if first.empty:
        return not_enough(["rank", "identifiers_n"], "nobody has several identifiers")
    chosen = nw.col("person_id").is_in(first["person_id"].tolist())
    kinds = engine.fetch(per_kind.filter(chosen)).astype({"n": "int64"})
    wide = kinds.pivot_table(index="person_id", columns="id_name", values="n", fill_value=0).astype("int64")
    wide.columns = pd.Index([f"{name}_n" for name in wide.columns])
    wide.insert(0, "identifiers_n", wide.sum(axis=1))
    hubs = engine.fetch(table.filter(chosen).select("person_id", "id_name", "links_n", "id_token"))
    hubs = hubs.sort_values(["links_n", "id_name", "id_token"], ascending=[False, True, True])
    hubs = hubs.drop_duplicates("person_id").set_index("person_id")
    wide["reason"] = [_reason(hubs.loc[person]) for person in wide.index]
    wide = wide.reset_index().sort_values(["identifiers_n", "person_id"], ascending=[False, True])
    wide.insert(0, "rank", np.arange(1, len(wide) + 1))
    return wide.drop(columns="person_id").reset_index(drop=True)


def _reason(hub: pd.Series[Any]) -> str:
    if not hub["links_n"]:
        return "nothing joins anything"
    others = "another one" if hub["links_n"] == 1 else f"{int(hub['links_n'])} others"
    return f"one {hub['id_name']} is linked to {others}"


def shared(people: Any, touches: Any, plan: Identity) -> pd.DataFrame:
    """Return what joins nobody: devices of several people, values beyond a cap, and what became of their events.

    Args:
        people: the table of 02_stitch.
        touches: needs person_id and `id_<name>` for each identifier.
        plan: identifiers and devices.

    Returns:
        One row per kind and reason: id_name, rule, resolved (how events on it found their person), is_device,
        identifiers_n, kiosks_n (devices of at least five known people), events_n on them, kiosk_events_n of these on
        kiosks, anonymous_n without an identifier of a person that is not shared itself, given_n of the anonymous that
        were given to a known person, and given_share with its interval, which takes people as independent.
    """
    table, events = engine.lazy(people), engine.lazy(touches)
    per_token = engine.materialise(_shared_tokens(table, plan), "identity_quality_shared")
    found = engine.fetch(
        per_token.group_by("id_name", "rule").agg(identifiers_n=nw.len(), kiosks_n=nw.col("kiosk").sum())
    )
    if found.empty:
        return not_enough(["id_name", "rule", "identifiers_n"], "no identifier is shared")
    known = known_people(table, plan).with_columns(_of_known=nw.lit(1))
    names = sorted(found["id_name"].unique())
    parts = [_events_on(events, per_token, known, name, names, plan).assign(id_name=name) for name in names]
    joined = found.merge(pd.concat(parts), on=["id_name", "rule"], how="left").fillna(0)
    joined = joined.rename(columns={"_k": "given_n", "_n": "anonymous_n"})
    counts = [column for column in joined.columns if column.endswith("_n")]
    joined = joined.astype(dict.fromkeys(counts, "int64"))
    joined = add_clustered_share(joined, "given", "given_n", "anonymous_n").sort_values(["id_name", "rule"])
    made = _rule_in_two(joined).assign(is_device=joined["id_name"].isin(plan.devices))
    columns = ["id_name", "rule", "resolved", "is_device", "identifiers_n", "kiosks_n", "events_n", "kiosk_events_n"]
    columns += ["anonymous_n", "given_n", "given_share", "given_share_low", "given_share_high"]
    return made[columns].reset_index(drop=True)


def _events_on(
    events: nw.LazyFrame[Any],
    tokens: nw.LazyFrame[Any],
    known: nw.LazyFrame[Any],
    name: str,
    names: list[str],
    plan: Identity,
) -> pd.DataFrame:
    """What became of the events on one kind of shared identifier: one row per rule, with the sums over people."""

    def mine(kind: str) -> nw.LazyFrame[Any]:
        return tokens.filter(nw.col("id_name") == kind)

    here = mine(name).select("rule", "kiosk", _token=nw.col("id_token"))
    on_it = events.join(here, left_on=f"id_{name}", right_on="_token", how="inner")
    personal = []
    for other in (other for other in plan.identifiers if other not in plan.devices):
        own = nw.col(f"id_{other}")
        if other in names:  # what is shared itself says nothing about who it was
            also = mine(other).select(_token=nw.col("id_token"), **{f"_shared_{other}": nw.lit(1)})
            on_it = on_it.join(also, left_on=f"id_{other}", right_on="_token", how="left")
            own = nw.when(nw.col(f"_shared_{other}").is_null()).then(own)
        personal.append(own)
    nobody = nw.coalesce(*personal).is_null() if personal else ~nw.col("person_id").is_null()
    on_it = on_it.join(known, on="person_id", how="left").with_columns(_nobody=nw.when(nobody).then(1).otherwise(0))
    given = nw.when(~nw.col("_of_known").is_null()).then(nw.col("_nobody")).otherwise(0)
    each = on_it.with_columns(_given=given).group_by("rule", "person_id")
    each_n = {"events_n": nw.len(), "kiosk_events_n": nw.col("kiosk").sum()}
    each_n |= {"_k": nw.col("_given").sum(), "_n": nw.col("_nobody").sum()}
    rows = each.agg(**{column: value.cast(nw.Int64) for column, value in each_n.items()})
    rows = engine.materialise(rows, "identity_quality_events")
    events_n = engine.fetch(rows.group_by("rule").agg(nw.col("events_n").sum(), nw.col("kiosk_events_n").sum()))
    return events_n.merge(engine.fetch(over_people(rows, "rule")), on="rule")


def busiest_shared(people: Any, plan: Identity, top: int = 8) -> pd.DataFrame:
    """Return the shared identifiers of the most known people, without the identifier itself.

    Returns:
        One row per identifier: rank, id_name, kind ("kiosk": a device of five people or more; else "shared"), people_n
        (known ones),
        turns_n (unbroken spells of one person), and the days (UTC) of its first and last event, first_at and last_at:
        exact times could be recognised.
    """
    found = engine.fetch(
        _shared_tokens(engine.lazy(people), plan)
        .filter(nw.col("people_n") > 0)
        .sort("people_n", "turns_n", "first_at", "last_at", "id_name", descending=[True, True, False, False, False])
        .head(top)
    )
    if found.empty:
        return not_enough(["rank", "id_name", "kind", "people_n"], "no identifier is shared")
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    found.insert(2, "kind", np.where(found["kiosk"] == 1, "kiosk", "shared"))
    for moment in ("first_at", "last_at"):
        found[moment] = pd.to_datetime(found[moment]).dt.normalize()
    return found[["rank", "id_name", "kind", "people_n", "turns_n", "first_at", "last_at"]]


def known_people(people: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """Return the people who have an identifier of their own that is no device: one row each, person_id."""
    return people.filter(~nw.col("id_name").is_in(plan.devices), ~_is_shared()).select("person_id").unique()


def _is_shared() -> nw.Expr:
    """Whether a row of `people` is of an identifier that joins nobody: its rule also says how it was resolved."""
    return nw.col("rule").str.contains(", ", literal=True)


def _rule_in_two(table: pd.DataFrame) -> pd.DataFrame:
    """Split the rule of what joins nobody into why it is shared (`rule`) and how it was resolved (`resolved`)."""
    parts = table["rule"].astype(str).str.partition(", ")
    return table.assign(rule=parts[0], resolved=parts[2].where(parts[2] != ""))


def _shared_tokens(people: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """One row per shared identifier; its rule says why it is shared and, after a comma, how it was resolved."""
    known = known_people(people, plan).with_columns(_of_known=nw.col("person_id"))
    joined = people.filter(_is_shared()).join(known, on="person_id", how="left")
    tokens = joined.group_by("id_name", "id_token", "rule").agg(
        people_n=nw.col("_of_known").n_unique() - nw.col("_of_known").is_null().any().cast(nw.Int64),
        turns_n=nw.len(),
        first_at=nw.col("valid_from").min(),
        last_at=nw.col("valid_to").max(),
    )
    kiosk = (nw.col("people_n") >= KIOSK) & nw.col("id_name").is_in(plan.devices)
    return tokens.with_columns(kiosk=nw.when(kiosk).then(1).otherwise(0))
