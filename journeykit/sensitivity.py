"""How much the answers depend on the stitching policy: every headline figure of the report under each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import (
    agreement,
    attribution,
    engine,
    funnel_times,
    funnels,
    identity,
    journeys,
    labels,
)
from journeykit.churn import choice, curves, spells
from journeykit.errors import JourneyError, nearest
from journeykit.stats import clustered, not_enough, reason_of, wilson
from journeykit.study import OpenStudy

FIGURES = ("figure", "unit", "value", "value_low", "value_high", "n")
B_CUBED = ("b3_precision_share", "b3_recall_share")
PAIRS = ("pairs_precision_share", "pairs_recall_share")
AGREEMENT = (*(f"{name}{end}" for name in B_CUBED for end in ("", "_low", "_high")), *PAIRS)
COLUMNS = ("policy", "used", *FIGURES, "moved_n", "moved_of_n")
SCORES = ("policy", "used", *AGREEMENT, "labelled_events_n", "labelled_people_n")
# What a touch needs for the headline figures; the rest would only make the sort dearer.
NEEDED = ("event_id", "timestamp", "source", "source_row", "event", "channel", "marketing_channel", "touchpoint",
          "stage", "value", "person_id")  # fmt: skip


def figures(study: OpenStudy, policies: Sequence[str] = identity.POLICIES) -> pd.DataFrame:
    """Return the headline figures of the report under each stitching policy, and how many people each one moves.

    The figures are those of the chapters, by the chapters' own functions: people (02), the share that completes the
    first funnel and the median days that it takes (04), the share still there at the horizon (07), the share of
    conversions with a known channel (06). A person of the study's own policy is *moved* by another one that does not
    give it exactly the same events. Rival: an interval for "identity error", which nobody can compute without labels;
    a range over rules is no interval, and the truth may lie outside it.

    Args:
        study: with the tables of 01 and 02 built.
        policies: some of `identity.POLICIES`.

    Returns:
        One row per policy and figure: policy, used (whether it is the study's own), figure, unit, value with its 95 %
        interval (of sampling alone; none for counts), n, moved_n of moved_of_n people. It is kept in derived/, so that
        the same is not computed twice.

    Raises:
        JourneyError: a policy is not known.
    """
    table, _ = _made(study, policies)
    return table if len(table) else not_enough(COLUMNS, "no event was read")


def scores(study: OpenStudy, policies: Sequence[str] = identity.POLICIES) -> pd.DataFrame:
    """Return how well each policy agrees with the labelled sample of `[identity] labels`.

    Measured over the events that carry an identifier of the sample, so that people with many events count more; by B³,
    and over pairs (see `agreement`).

    Returns:
        One row per policy: policy, used, precision and recall by B³ and over pairs, labelled_events_n,
        labelled_people_n. Empty, with its reason, without a sample.

    Raises:
        JourneyError: a policy is not known.
    """
    _, table = _made(study, policies)
    if table.empty:
        return not_enough(SCORES, labels.why_none(study))
    return table


def band(table: pd.DataFrame) -> pd.DataFrame:
    """Return how far each headline figure moves between the policies that join devices to people.

    `none` is left out of the range, because it answers another question: what devices did, not people.

    Args:
        table: of `figures`.

    Returns:
        One row per figure: figure, unit, value under the study's own policy with its 95 % interval (of sampling
        alone), lowest and highest under any policy, and which that is.
    """
    columns = ["figure", "unit", "value", "value_low", "value_high", "lowest", "lowest_by", "highest", "highest_by"]
    rows = []
    for name, under in table.groupby("figure", sort=False):
        under = under.dropna(subset="value")
        under = under.sort_values("used", ascending=False, ignore_index=True)  # of equal ones, the used one first
        used = under[under["used"]]
        joined = under[under["used"] | (under["policy"] != "none")]
        if len(used):
            low, high = joined.loc[joined["value"].idxmin()], joined.loc[joined["value"].idxmax()]
            own = used[["unit", "value", "value_low", "value_high"]].iloc[0]
            ends = (low["value"], low["policy"], high["value"], high["policy"])
            rows.append((name, *own, *ends))
    return pd.DataFrame(rows, columns=columns) if rows else not_enough(columns, "no figure could be computed")


def moved(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many people each policy finds, and the share of the study's people whose events it gives differently.

    Returns:
        One row per policy: policy, used, people_n, moved_n of moved_of_n, moved_share (a count of all: no interval).
    """
    first = table[table["figure"] == "People"]
    out = first[["policy", "used"]].assign(people_n=first["value"].astype("int64"))
    out = out.assign(moved_n=first["moved_n"], moved_of_n=first["moved_of_n"])
    if out.empty:
        return not_enough([*out.columns, "moved_share"], reason_of(table) or "no figure could be computed")
    return out.assign(moved_share=out["moved_n"] / out["moved_of_n"]).reset_index(drop=True)


def _made(study: OpenStudy, policies: Sequence[str]) -> list[pd.DataFrame]:
    """The two tables; both are made when what they depend on has changed."""
    for policy in policies:
        if policy not in identity.POLICIES:
            raise JourneyError(
                f"policies: {policy!r} is not a policy.{nearest(policy, identity.POLICIES)} "
                f"Allowed: {', '.join(identity.POLICIES)}."
            )
    own = study.config.identity.policy
    policies = [*policies, *([] if own in policies else [own])]  # without the one in use there is nothing to compare
    sample = labels.read(study)
    said = [study.fingerprint("touches"), study.config_hash, list(policies), sample.to_csv(index=False)]
    return study.remember(["policies", "agreement"], said, lambda: _compared(study, policies, sample))


def _compared(study: OpenStudy, policies: Sequence[str], sample: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    own, events = study.config.identity, study.table("events")
    found, scored = [], []
    if engine.is_empty(events):
        return pd.DataFrame(columns=list(COLUMNS), dtype=str), pd.DataFrame(columns=list(SCORES), dtype=str)
    baseline = engine.materialise(study.table("touches").select("event_id", _own="person_id"), "sensitivity_own")
    for policy in policies:
        said: dict[str, Any] = {"policy": policy, "used": policy == own.policy}
        # Hidden in derived/, which the machines of a cluster share.
        with engine.scratch(), TemporaryDirectory(prefix=".policies-", dir=study.derived) as folder:
            stitched = identity.stitch(events, own.model_copy(update={"policy": policy}), study.table("links")).events
            path = Path(folder) / "touches.parquet"
            journeys.write_touches(stitched.select(*NEEDED, *_sessions_by(study)), study.config, path)
            touches = engine.keep(engine.read_parquet(path), "sensitivity_touches")
            both = touches.select("event_id", "person_id").join(baseline, on="event_id", how="inner")
            found.append(headline(touches, study).assign(**said, **moved_people(both)))
            score = _score(stitched, study, sample)
        scored += [{**said, **score}] if score else []
    types = {"value": float, "value_low": float, "value_high": float}
    return (
        pd.concat(found, ignore_index=True)[list(COLUMNS)].astype(types),
        pd.DataFrame(scored, columns=list(SCORES)),
    )


def _sessions_by(study: OpenStudy) -> list[str]:
    return [f"id_{study.config.sessions.identifier}"] if study.config.sessions.identifier else []


def headline(touches: Any, study: OpenStudy) -> pd.DataFrame:
    """Return the headline figures of a study over some touches.

    Returns:
        One row per figure that the study declares: figure, unit (people, share, days), value, value_low, value_high, n.
    """
    plan, as_of = study.config, study.as_of()
    table = engine.lazy(touches)
    people_n = int(engine.fetch(table.select(n=nw.col("person_id").n_unique()))["n"].iloc[0])
    rows: list[tuple[Any, ...]] = [("People", "people", people_n, None, None, people_n)]
    if plan.funnels:
        reached = funnels.reach(table, until=as_of, **funnels.rules(funnels.choose(plan)))
        steps = funnels.count(reached)
        end = steps.iloc[-1]
        bounds = (end["share_of_start"], end["share_of_start_low"], end["share_of_start_high"])
        rows.append((f"{steps['step'].iloc[0]} → {end['step']}", "share", *bounds, int(steps["n"].iloc[0])))
        time = funnel_times.times(reached)
        time = time[time["part"] == "whole funnel"].dropna(subset="median_days") if len(time) else time
        if len(time):
            first = time.iloc[0]
            bounds = (first["median_days"], first["median_days_low"], first["median_days_high"])
            rows.append(("Median time to convert", "days", *bounds, int(first["converted_n"])))
    if plan.churn:
        chosen = choice.choose(plan.churn)
        # Why somebody left does not matter here, and what says so may not be among the columns.
        stays = spells.of(table, chosen.model_copy(update={"reasons": {}}), as_of=as_of)
        curve = curves.survival_curve(stays, times=[chosen.horizon_days]) if len(stays) else stays
        if len(curve):
            last = curve.iloc[-1]
            bounds = (last["survival_share"], last["survival_share_low"], last["survival_share_high"])
            rows.append((f"Still there after {chosen.horizon_days:g} days", "share", *bounds, len(stays)))
    if plan.attribution:
        setting = attribution.settings(plan)
        chosen_by = {name: setting[name] for name in ("conversion", "lookback", "exclude")}
        paths = attribution.conversion_paths(attribution.person_paths(table, **chosen_by, as_of=as_of))
        if len(paths):
            n, known = int(paths["conversions_n"].sum()), int(paths.loc[paths["path"] != "", "conversions_n"].sum())
            rows.append(("Conversions with a known channel", "share", known / n if n else None, *wilson(known, n), n))
    return pd.DataFrame(rows, columns=list(FIGURES))


def moved_people(both: nw.LazyFrame[Any]) -> dict[str, int]:
    """Count the people of one stitching that another one does not find with exactly the same events.

    Args:
        both: needs `_own` and `person_id`, the person of each event in the one and in the other.

    Returns:
        moved_n of moved_of_n people of the one.
    """
    pairs = engine.materialise(both.select("_own", "person_id").unique(), "sensitivity_pairs")
    split = pairs.group_by("_own").agg(parts_n=nw.len())
    merged = pairs.group_by("person_id").agg(owners_n=nw.len())
    joined = pairs.join(split, on="_own", how="inner").join(merged, on="person_id", how="inner")
    same = joined.filter(nw.col("parts_n") == 1, nw.col("owners_n") == 1)
    of_n = int(engine.fetch(split.select(n=nw.len()))["n"].iloc[0])
    return {"moved_n": of_n - int(engine.fetch(same.select(n=nw.len()))["n"].iloc[0]), "moved_of_n": of_n}


def _score(stitched: nw.LazyFrame[Any], study: OpenStudy, sample: pd.DataFrame) -> dict[str, Any]:
    """Compare with the labelled sample: an event belongs to whom its most trusted labelled identifier belongs to."""
    if sample.empty:
        return {}
    table, names = stitched, [name for name in study.config.identity.identifiers if name in set(sample["id_name"])]
    for name in names:
        mine = sample.loc[sample["id_name"] == name, ["id_token", "label"]]
        mine = mine.rename(columns={"id_token": f"id_{name}", "label": f"_label_{name}"})
        table = table.join(engine.beside(mine, table), on=f"id_{name}", how="left")
    table = table.with_columns(_label=nw.coalesce(*[f"_label_{name}" for name in names]))
    counted = table.filter(~nw.col("_label").is_null()).group_by("person_id", "_label").agg(n=nw.len())
    cells = engine.fetch(counted, limit=20_000_000).sort_values(["person_id", "_label"])
    if cells.empty:
        return {}
    found, truth = (np.repeat(cells[name].to_numpy(), cells["n"].to_numpy()) for name in ("person_id", "_label"))
    return {
        **dict(zip(B_CUBED, agreement.b_cubed(found, truth), strict=True)),
        **_bounds(cells),
        **dict(zip(PAIRS, agreement.pairwise(found, truth), strict=True)),
        "labelled_events_n": len(truth),
        "labelled_people_n": int(cells["_label"].nunique()),
    }


def _bounds(cells: pd.DataFrame) -> dict[str, float]:
    """The intervals of B³: true people are drawn, each with all labelled events."""
    out = {}
    for name, group in zip(B_CUBED, ("person_id", "_label"), strict=True):
        own = cells["n"] ** 2 / cells.groupby(group)["n"].transform("sum")
        people = pd.DataFrame({"k": own, "n": cells["n"]}).groupby(cells["_label"]).sum()
        k, n = people["k"], people["n"]
        bounds = clustered(k.sum(), n.sum(), (k * k).sum(), (k * n).sum(), (n * n).sum(), len(people))
        out[f"{name}_low"], out[f"{name}_high"] = bounds
    return out
