"""How identifiers became people, for a reader who wants to find what is wrong: rules, large clusters, shared devices."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine
from journeykit.config import Identity
from journeykit.stats import add_share, not_enough

KIOSK = 5  # a device that at least so many people signed in on is a kiosk, a counter or a classroom


def rules(people: Any) -> pd.DataFrame:
    """Return how identifiers came to their people.

    Returns:
        One row per identifier and rule: id_name, rule, confidence, identifiers_n, people_n.
    """
    found = engine.fetch(
        engine.lazy(people)
        .group_by("id_name", "rule", "confidence")
        .agg(identifiers_n=nw.col("id_token").n_unique(), people_n=nw.col("person_id").n_unique())
    )
    return found.sort_values(["id_name", "rule"], ignore_index=True)


def sizes(people: Any) -> pd.DataFrame:
    """Return how many identifiers people have, which says how much was merged.

    Returns:
        One row per size ("1", "2", "3–4", "5–9", "10 and more"): identifiers, people_n of n, and people_share.
    """
    counted = engine.lazy(people).group_by("person_id").agg(size=nw.col("id_token").n_unique())
    found = engine.fetch(counted.group_by("size").agg(people_n=nw.len()))
    if found.empty:
        return not_enough(["identifiers", "people_n"], "there are no people")
    names = ["1", "2", "3–4", "5–9", "10 and more"]
    groups = pd.cut(found["size"].astype("int64"), [0, 1, 2, 4, 9, np.inf], labels=names)
    table = found.groupby(groups, observed=False)["people_n"].sum().rename_axis("identifiers").reset_index()
    table["identifiers"] = table["identifiers"].astype(str)
    n = int(table["people_n"].sum())
    return table.assign(n=n, people_share=table["people_n"] / n)


def largest_people(people: Any, top: int = 5) -> pd.DataFrame:
    """Return the people with the most identifiers, who are the first place to look for wrong merges, and why so many.

    Returns:
        One row per person, without any identifier: rank, identifiers_n, the number of each kind, and reason: which
        identifier joins the most others, as the place where a wrong merge would lie.
    """
    table = engine.lazy(people)
    per_kind = table.group_by("person_id", "id_name").agg(n=nw.col("id_token").n_unique())
    total = per_kind.group_by("person_id").agg(identifiers_n=nw.col("n").sum())
    first = engine.fetch(total.sort("identifiers_n", "person_id", descending=[True, False]).head(top))
    if first.empty:
        return not_enough(["rank", "identifiers_n"], "there are no people")
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
    return f"one {hub['id_name']} occurred with {others}"


def shared(people: Any, touches: Any, plan: Identity) -> pd.DataFrame:
    """Return what joins nobody: devices of several people, values beyond a cap, and what became of their events.

    Args:
        people: the table of 02_stitch.
        touches: needs person_id and `id_<name>` for each identifier.
        plan: identifiers and devices.

    Returns:
        One row per kind and reason: id_name, rule, identifiers_n, kiosks_n (of at least five known people), events_n on
        them, anonymous_n of these without an identifier of a person, given_n of the anonymous that were given to a
        known person, and given_share with its interval.
    """
    table, events = engine.lazy(people), engine.lazy(touches)
    per_token = _shared_tokens(table, plan)
    found = engine.fetch(
        per_token.with_columns(_kiosk=nw.when(nw.col("people_n") >= KIOSK).then(1).otherwise(0))
        .group_by("id_name", "rule")
        .agg(identifiers_n=nw.len(), kiosks_n=nw.col("_kiosk").sum())
    )
    if found.empty:
        return not_enough(["id_name", "rule", "identifiers_n"], "no identifier is shared")
    known = _known(table, plan).with_columns(_of_known=nw.lit(1))
    personal = [nw.col(f"id_{name}") for name in plan.identifiers if name not in plan.devices]
    parts = []
    for name in found["id_name"].unique():
        tokens = per_token.filter(nw.col("id_name") == name).select("rule", _token=nw.col("id_token"))
        on_it = events.join(tokens, left_on=f"id_{name}", right_on="_token", how="inner")
        on_it = on_it.join(known, on="person_id", how="left")
        nobody = nw.coalesce(*personal).is_null() if personal else nw.col("person_id").is_null()
        on_it = on_it.with_columns(_anonymous=nw.when(nobody).then(1).otherwise(0))
        given = nw.when(nobody & ~nw.col("_of_known").is_null()).then(1).otherwise(0)
        by_rule = on_it.with_columns(_given=given).group_by("rule")
        counted = by_rule.agg(events_n=nw.len(), anonymous_n=nw.col("_anonymous").sum(), given_n=nw.col("_given").sum())
        parts.append(engine.fetch(counted).assign(id_name=name))
    joined = found.merge(pd.concat(parts), on=["id_name", "rule"], how="left").fillna(0)
    counts = [column for column in joined.columns if column.endswith("_n")]
    joined = joined.astype(dict.fromkeys(counts, "int64")).sort_values(["id_name", "rule"], ignore_index=True)
    return add_share(joined, "given", "given_n", "anonymous_n")


def busiest_shared(people: Any, plan: Identity, top: int = 8) -> pd.DataFrame:
    """Return the shared identifiers of the most known people, without the identifier itself.

    Returns:
        One row per identifier: rank, id_name, kind ("kiosk" from five people on, else "shared"), people_n (known ones),
        turns_n (unbroken spells of one person), first_at, last_at.
    """
    found = engine.fetch(
        _shared_tokens(engine.lazy(people), plan)
        .filter(nw.col("people_n") > 0)
        .sort("people_n", "turns_n", "id_name", "id_token", descending=[True, True, False, False])
        .head(top)
    )
    if found.empty:
        return not_enough(["rank", "id_name", "kind", "people_n"], "no identifier is shared")
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    found.insert(2, "kind", np.where(found["people_n"] >= KIOSK, "kiosk", "shared"))
    return found[["rank", "id_name", "kind", "people_n", "turns_n", "first_at", "last_at"]]


def _known(people: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """The people who have an identifier that is no device."""
    return people.filter(~nw.col("id_name").is_in(plan.devices)).select("person_id").unique()


def _shared_tokens(people: nw.LazyFrame[Any], plan: Identity) -> nw.LazyFrame[Any]:
    """One row per shared identifier; its rule says why it is shared and, after a comma, how it was resolved."""
    spells = people.filter(nw.col("rule").str.contains(", ", literal=True))
    known = _known(people, plan).with_columns(_of_known=nw.col("person_id"))
    joined = spells.join(known, on="person_id", how="left")
    return joined.group_by("id_name", "id_token", "rule").agg(
        people_n=nw.col("_of_known").n_unique() - nw.col("_of_known").is_null().any().cast(nw.Int64),
        turns_n=nw.len(),
        first_at=nw.col("valid_from").min(),
        last_at=nw.col("valid_to").max(),
    )
