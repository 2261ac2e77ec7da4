"""Attribution: which marketing channels get credit for conversions, under several rules, and what that costs.

All of this is credit, not incrementality: no rule knows what would have happened without a channel. Only an
experiment does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, stats, sums
from journeykit.config import Study, seconds
from journeykit.credit_rules import ARROW, MODELS, Layout, matrix
from journeykit.errors import JourneyError, nearest, require_columns
from journeykit.journey_map import microseconds, names

PATHS = ["path", "conversions_n", "nulls_n", "value", "open_n"]
PEOPLE = ["person_id", *PATHS]
TOP = ["path", "touches_n", "conversions_n", "nulls_n", "n", "converting_share", "converting_share_low"]
TOP += ["converting_share_high", "value"]
CREDIT = ["model", "channel", "conversions", "n", "credit_share", "credit_share_low", "credit_share_high", "value"]
CREDIT += ["removal_effect", "removal_effect_low", "removal_effect_high"]
COST = ["model", "channel", "spend", "conversions", "n", "cost_per_conversion", "cost_per_conversion_low"]
COST += ["cost_per_conversion_high", "value_per_spend"]
CHUNK = 1_000_000  # rows fetched at a time


def settings(plan: Study, lookback: str = "", exclude: str = "", models: str = "") -> dict[str, Any]:
    """Return what the chapter's parameters mean: "" stands for what journey.toml says.

    Returns `conversion` (events), `lookback`, `exclude` (channels) and `models`.

    Raises:
        JourneyError: a model is not known.
    """
    part = plan.attribution
    asked = names(models) or tuple(MODELS)
    for model in asked:
        if model not in MODELS:
            raise JourneyError(f"models: found {model!r}.{nearest(model, MODELS)} Allowed: {', '.join(MODELS)}.")
    return {
        "conversion": (part.conversion if part else []) or plan.journeys.conversion,
        "lookback": lookback or (part.lookback if part else "30d"),
        "exclude": names(exclude) or tuple(part.exclude if part else ()),
        "models": asked,
    }


def person_paths(
    touches: Any, *, conversion: Sequence[str], lookback: str = "30d", exclude: Sequence[str] = (), as_of: Any = None
) -> pd.DataFrame:
    """Count, for each person, the channel paths that end in a conversion, and those that do not.

    A touch is a visit brought by a channel: an event with a `marketing_channel`, where consecutive events of one
    session with the same channel count once; channels in `exclude` are no touches. A conversion takes the touches at
    most `lookback` before it (the conversion's own channel included) and after the person's previous conversion.
    A person's other touches form non-converting paths; a silence longer than `lookback`, or a conversion between,
    starts a new one. Rivals: one path per person however long; leaving out touches that are too old; counting each
    event as a touch. `open_n` of the `nulls_n` paths had a touch less than `lookback` before `as_of` (default: the
    last event) and may still convert; they count as not converted.

    Needs `person_id`, `session_id`, `position`, `event`, `marketing_channel`, `value` and the total order. Touches are
    found in the engine; only they and the conversions are fetched, a million rows at a time, split by person.
    One row per person and distinct path, sorted by both; the path "" holds the conversions without any touch.

    Raises:
        JourneyError: a channel's name contains " > ".
    """
    if not conversion:
        return stats.not_enough(PEOPLE, "no conversion is declared in journey.toml ([attribution] or [journeys])")
    window = seconds(lookback) * 1_000_000
    table = engine.lazy(touches)
    needs = ("person_id", "session_id", "position", "event", "marketing_channel", "value", *engine.ORDER)
    require_columns(table.collect_schema().names(), needs, "person_paths")
    table = table.select(
        *engine.ORDER,
        "person_id",
        "position",
        session=nw.col("session_id").cast(nw.Int64).fill_null(-1),
        marketing=nw.col("marketing_channel").cast(nw.String),
        amount=nw.col("value").cast(nw.Float64).fill_null(0.0),
        converts=nw.col("event").cast(nw.String).is_in(list(conversion)),
    )
    with_channel = table.filter(~nw.col("marketing").is_null() & ~nw.col("marketing").is_in(["", *exclude]))
    order = list(engine.ORDER)
    previous = [nw.col(name).shift(1).over("person_id", order_by=order).alias(f"previous_{name}") for name in _VISIT]
    same = (nw.col("previous_marketing") == nw.col("marketing")) & (nw.col("previous_session") == nw.col("session"))
    visits = with_channel.with_columns(*previous).filter(~same.fill_null(False))
    visits = visits.select("person_id", "position", "time_us", "marketing")
    wins = table.filter(nw.col("converts")).select("person_id", "position", "time_us", "amount")
    size = table.select(events=nw.len(), last=nw.col("time_us").max(), rows=nw.col("converts").cast(nw.Int64).sum())
    facts = engine.fetch(size).iloc[0]
    if not facts["events"]:
        return stats.not_enough(PEOPLE, "not enough data (n = 0 events)")
    end = int(facts["last"]) if as_of is None else microseconds(as_of)
    rows = int(engine.fetch(visits.select(n=nw.len()))["n"].iloc[0]) + int(facts["rows"])
    parts = -(-rows // CHUNK) or 1
    found = []
    for part in range(parts):
        chosen = nw.col("person_id") % parts == part
        found.append(_assemble(engine.fetch(visits.filter(chosen)), engine.fetch(wins.filter(chosen)), window, end))
    people = pd.concat(found)
    if people.empty:
        return stats.not_enough(PEOPLE, "not enough data (n = 0): no conversion, and no event with a marketing channel")
    return people.sort_values(["person_id", "path"], ignore_index=True)


_VISIT = ("marketing", "session")


def conversion_paths(people: pd.DataFrame) -> pd.DataFrame:
    """Count the distinct paths of all people.

    Needs the table of `person_paths`. One row per distinct path, most conversions first.
    """
    if not len(people):
        return stats.not_enough(PATHS, stats.reason_of(people))
    paths = people.groupby("path", as_index=False)[PATHS[1:]].sum()
    paths = paths.sort_values(["conversions_n", "nulls_n", "path"], ascending=[False, False, True])
    return paths[PATHS].reset_index(drop=True)


def top_paths(paths: pd.DataFrame, *, top: int = 15, min_n: int = 5) -> pd.DataFrame:
    """List the most frequent paths with the share of them that converted (Wilson).

    Needs the table of `conversion_paths`. Paths seen fewer than `min_n` times are left out.
    One row per path, most conversions first.
    """
    shown = paths.assign(n=paths["conversions_n"] + paths["nulls_n"]) if len(paths) else paths
    shown = shown[(shown["n"] >= min_n) & (shown["path"] != "")].head(top) if len(shown) else shown
    if not len(shown):
        return stats.not_enough(TOP, stats.reason_of(paths) or f"not enough data: no path was taken {min_n} times")
    shown = shown.assign(touches_n=shown["path"].str.count(ARROW) + 1)
    return stats.add_share(shown, "converting", "conversions_n", "n")[TOP].reset_index(drop=True)


def attribute(
    paths: pd.DataFrame,
    people: pd.DataFrame | None = None,
    *,
    models: Sequence[str] = ("first", "last", "linear", "markov"),
    repetitions: int = 300,
    seed: int = 0,
    min_conversions: int = 30,
) -> pd.DataFrame:
    """Share the credit for conversions among channels, by each model.

    first, last: all credit to the first or last touch. linear: equal credit to each touch of the path. markov: a
    first-order chain over converting *and* non-converting paths; a channel's removal effect is the share of
    conversions that is lost when everyone who comes to it leaves (exact, by one matrix inverse), and credit is in
    proportion to it (Anderl et al. 2016). Rivals: time decay, position-based, Shapley, longer memory.
    Conversions of the path "" (no touch) get no credit; the others are credited fully, so that credits sum to `n`.

    Needs `path`, `conversions_n`, `nulls_n`, `value` (see `conversion_paths`). Intervals: percentiles of a bootstrap
    that draws people with all their paths, from `people` (see `person_paths`). Without it, paths are drawn as if each
    came from another person, which is too narrow where the paths of a person are alike. One row per model × channel:
    `conversions` (credited, fractional), `value` (credited by the same rule), `credit_share`, and for markov
    `removal_effect` (0–1).
    Without non-converting paths the chain always converts and its effects mean nothing: markov is then left out and
    `.attrs["markov"]` says why.
    """
    counted = paths[paths["path"] != ""] if len(paths) else paths
    total = int(counted["conversions_n"].sum()) if len(counted) else 0
    if total < max(min_conversions, 1):
        given = stats.reason_of(paths)
        reason = f"not enough data (n = {total} conversions with a touch, at least {min_conversions} are needed)"
        return stats.not_enough(CREDIT, given or reason)
    refused = ""
    if "markov" in models and not counted["nulls_n"].sum():
        refused = "markov needs non-converting paths and there are none: without them every channel looks necessary"
    asked = [model for model in models if not (refused and model == "markov")]
    if not asked:
        return stats.not_enough(CREDIT, refused)
    layout = Layout(counted)
    wins, losses = _draws(counted, people, repetitions, seed)
    tables = []
    for model in asked:
        share, removal = MODELS[model](layout, wins, losses)
        table = pd.DataFrame({"model": model, "channel": layout.channels, "conversions": share[0] * total, "n": total})
        table = table.assign(**_spread("credit_share", share))
        if removal is None:
            value = counted["value"].to_numpy(dtype=float) @ layout.credit[model]
        else:
            value = float(counted["value"].sum()) * share[0]
            table = table.assign(**_spread("removal_effect", removal))
        tables.append(table.assign(value=value))
    result = pd.concat(tables, ignore_index=True).reindex(columns=CREDIT)
    places = {model: place for place, model in enumerate(asked)}
    result = result.assign(place=result["model"].map(places), mean=_mean_share(result))
    result = result.sort_values(["place", "mean", "channel"], ascending=[True, False, True])[CREDIT]
    result = result.reset_index(drop=True)
    result.attrs["markov"] = refused
    return result


def cost_per_conversion(credit: pd.DataFrame, spend: Any) -> pd.DataFrame:
    """Divide what a channel cost by the conversions credited to it.

    `spend` is any engine's table with `marketing_channel` and `spend` (study currency), over the period of the
    conversions. The interval is that of the credited share; spend is taken as known. `value_per_spend` is credited
    value for each unit of spend. Rival: cost per *additional* conversion, which needs an experiment.

    One row per model × channel with spend, in the order of `credit`; a channel without credit has no cost.
    """
    if not len(credit):
        return stats.not_enough(COST, stats.reason_of(credit))
    table = engine.lazy(spend)
    require_columns(table.collect_schema().names(), ("marketing_channel", "spend"), "cost_per_conversion")
    named = table.select(channel=nw.col("marketing_channel").cast(nw.String), **sums.money("spend", nw.col("spend")))
    added = nw.col("spend_whole", "spend_large").sum()
    amounts = engine.fetch(named.filter(~nw.col("channel").is_null()).group_by("channel").agg(added))
    amounts = amounts.assign(spend=sums.total(amounts, "spend"))[["channel", "spend"]].sort_values("channel")
    if amounts.empty or not (amounts["spend"] > 0).any():
        return stats.not_enough(COST, "this study has no spend table, so there is no cost per conversion")
    joined = credit.merge(amounts[amounts["spend"] > 0], on="channel", how="inner")
    if joined.empty:
        return stats.not_enough(COST, f"no channel with spend has credit; spend names: {', '.join(amounts['channel'])}")
    credited = {name: joined[name].where(joined[name] > 0) for name in ("credit_share", *_BOUNDS)}
    return joined.assign(
        cost_per_conversion=joined["spend"] / (credited["credit_share"] * joined["n"]),
        cost_per_conversion_low=joined["spend"] / (credited["credit_share_high"] * joined["n"]),
        cost_per_conversion_high=joined["spend"] / (credited["credit_share_low"] * joined["n"]),
        value_per_spend=joined["value"] / joined["spend"],
    )[COST]


_BOUNDS = ("credit_share_low", "credit_share_high")


def _assemble(visits: pd.DataFrame, wins: pd.DataFrame, window: int, end: int) -> pd.DataFrame:
    """Join the touches of each person to paths; one row per person and path, of this part of the people."""
    for name in sorted(visits.loc[visits["marketing"].str.contains(ARROW, regex=False), "marketing"].unique()):
        raise JourneyError(f"marketing_channel: found {name!r}. {ARROW!r} separates the channels of a path; rename it.")
    wins = wins.sort_values(["position", "person_id"]).assign(win=range(len(wins)), win_at=lambda t: t["time_us"])
    visits = visits.sort_values(["position", "person_id"])
    joined = pd.merge_asof(
        visits, wins[["person_id", "position", "win", "win_at"]], on="position", by="person_id", direction="forward"
    )
    joined = joined.sort_values(["person_id", "position"]).reset_index(drop=True)
    counts = joined["win"].notna() & (joined["win_at"] - joined["time_us"] <= window)
    new = joined["person_id"].ne(joined["person_id"].shift()) | joined["time_us"].diff().gt(window)
    new |= joined["win"].fillna(-1).ne(joined["win"].fillna(-1).shift()) | counts.ne(counts.shift())
    # A silence inside the look-back of one conversion cannot be longer than the look-back, so `new` never splits it.
    joined = joined.assign(path_id=new.cumsum(), counts=counts)
    grouped = joined.groupby("path_id")
    paths = pd.DataFrame(
        {
            "person_id": grouped["person_id"].first(),
            "path": grouped["marketing"].agg(ARROW.join),
            "conversions_n": grouped["counts"].first().astype(int),
            "win": grouped["win"].first(),
            "last": grouped["time_us"].last(),
        }
    )
    credited = paths[paths["conversions_n"] == 1]
    amounts = wins.set_index("win")["amount"]
    values = credited["win"].map(amounts).reindex(paths.index).fillna(0.0)
    uncredited = wins[~wins["win"].isin(credited["win"])]
    paths = paths.assign(value=values, nulls_n=1 - paths["conversions_n"])
    paths = paths.assign(open_n=paths["nulls_n"] * (end - paths["last"] < window).astype(int))[PEOPLE]
    untouched = uncredited[["person_id", "amount"]].rename(columns={"amount": "value"})
    untouched = untouched.assign(path="", conversions_n=1, nulls_n=0, open_n=0)[PEOPLE]
    paths = pd.concat([part for part in (paths, untouched) if len(part)] or [paths])
    return paths.groupby(["person_id", "path"], as_index=False).sum()


def _draws(
    paths: pd.DataFrame, people: pd.DataFrame | None, repetitions: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each path (column) converted and did not: as counted, then in each repetition (row)."""
    rng, k = np.random.default_rng(seed), len(paths)
    counts = paths[["conversions_n", "nulls_n"]].to_numpy(dtype=float).ravel(order="F")
    if people is None:
        total = counts.sum()
        draws = [counts, *rng.multinomial(int(total), counts / total, size=repetitions).astype(float)]
    else:
        require_columns(people.columns, PEOPLE, "attribute")
        own = people[people["path"].isin(paths["path"])]
        places, persons = own["person_id"].factorize(sort=True)
        columns = pd.Index(paths["path"]).get_indexer(own["path"])
        outcomes = own[["conversions_n", "nulls_n"]].to_numpy(dtype=float).ravel(order="F")
        n = len(persons)
        each = matrix(np.tile(places, 2), np.concatenate([columns, columns + k]), outcomes, (n, 2 * k))
        chance = np.full(n, 1 / n)
        draws = [counts, *[rng.multinomial(n, chance).astype(float) @ each for _ in range(repetitions)]]
    both = np.vstack(draws)
    return both[:, :k], both[:, k:]


def _spread(name: str, draws: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.percentile(draws[1:], [2.5, 97.5], axis=0) if len(draws) > 1 else (np.nan * draws[0],) * 2
    return {name: draws[0], f"{name}_low": low, f"{name}_high": high}


def _mean_share(credit: pd.DataFrame) -> pd.Series[float]:
    return credit.groupby("channel")["credit_share"].transform("mean")
