"""What is unusual now, and what would have been called so in the past: the rules over all series of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import config, engine
from journeykit.changes.series import Clock, by_clock, daily, label, rows
from journeykit.config_changes import Series, Watch
from journeykit.durations import seconds
from journeykit.stats import not_enough
from journeykit.watch import freshness as _freshness
from journeykit.watch.backtest import decided, firings, replayed
from journeykit.watch.judge import COLUMNS as JUDGED
from journeykit.watch.judge import DAY, WEEK, judged

CHECKED = (
    *("kpi", "rule", "period_at", "unit", "observed", "expected", "low", "high", "change_share", "p_value", "adjusted"),
    *("verdict", "direction", "reason"),
)
ALERT, QUIET, OPEN = "alert", "quiet", "not judged"
FRESHNESS, VOLUME = "freshness", "volume"
RULES = (FRESHNESS, VOLUME, DAY, WEEK)


class Watched(NamedTuple):
    """The tables of a watch; see `watch`."""

    alerts: pd.DataFrame
    checked: pd.DataFrame
    freshness: pd.DataFrame
    replay: pd.DataFrame
    firings: pd.DataFrame


def watch(
    touches: Any,
    events: Any,
    files: Any = None,
    *,
    series: Iterable[Series],
    plan: Watch,
    as_of: pd.Timestamp,
    timezone: str = "UTC",
    currency: str = "",
) -> Watched:
    """Return what is unusual at the end of observation, and how often the same rules would have fired before.

    Sources are checked first: those that are stale (`freshness`) or gave unusually many or few events on the last
    complete day (`volumes`). Series that rest on a stale source are judged up to its last event only, so that a file
    that did not come raises one alert and not ten. Then every series is judged by `judged` on its last complete day and
    week. An alert needs all three: outside of the limits of its rule, at least `minimum_change` away from what was
    expected, and still among the clear ones after Benjamini–Hochberg over all that was judged in this run.

    Args:
        touches: as for `series.daily`, and source.
        events: source, timestamp or time_us.
        files: see `freshness`.
        series: what is watched; see `declared`.
        plan: `[watch]`.
        as_of: end of observation (UTC).
        timezone: where days begin.
        currency: for the unit of values.

    Returns:
        alerts: the rows of `checked` that are alerts, sources first, then by p-value.
        checked: one row per source and rule, and per series and rule: kpi, rule ("freshness", "volume", "day",
        "week"), period_at, unit, observed, expected, low, high, change_share, p_value, adjusted (Benjamini–Hochberg),
        verdict ("alert", "quiet", "not judged"), direction ("better", "worse", or "" for sources), reason.
        freshness: see there.
        replay: one row per series, rule and past day or week of the last `back`: the columns of `judged`, adjusted,
        fires.
        firings: one row per series and rule of `replay`: kpi, rule, unit, judged_n, fired_n, fired_share, a_year (how
        many firings a year that is), better_n, worse_n, first_at, last_at.
    """
    chosen = list(series)
    fresh = _freshness.freshness(events, files, as_of=as_of, stale_after=plan.stale_after)
    volumes = _freshness.volumes(events, as_of=as_of, timezone=timezone)
    stale: dict[str, Any] = dict(
        fresh.loc[fresh["verdict"] == _freshness.STALE, ["source", "last_at"]].itertuples(index=False)
    )
    back = max(1, seconds(plan.back or "180d") // 86_400)
    past = []
    clock = Clock.of(touches, timezone, as_of)
    for one in chosen:
        if clock is None:
            break
        until = _until(touches, one, clock, stale)
        days = by_clock(touches, one, clock) if until is None else daily(touches, one, timezone=timezone, until=until)
        found = judged(days, one, currency=currency, last=back)
        if found.empty:
            found = pd.DataFrame([{"kpi": label(one), "rule": DAY, "reason": str(found.attrs.get("reason", ""))}])
        past.append(found.dropna(axis="columns", how="all"))
    everything = pd.concat(past, ignore_index=True).reindex(columns=list(JUDGED)) if past else None
    replay = replayed(everything, plan)
    now = _now(everything, plan)
    checked = _stacked([_of_sources(fresh, volumes, stale, plan), now])
    alerts = checked.loc[checked["verdict"] == ALERT].copy()
    keys = alerts.assign(_rule=alerts["rule"].map(RULES.index), p_value=alerts["p_value"].astype(float))
    alerts = alerts.loc[keys.sort_values(["_rule", "p_value", "kpi"]).index].reset_index(drop=True)
    if alerts.empty:
        judged_n = int((checked["verdict"] == QUIET).sum())
        alerts = not_enough(
            CHECKED, f"nothing is unusual: {judged_n} checks of {len(fresh)} sources and {len(chosen)} series are quiet"
        )
    return Watched(alerts, checked, fresh, replay, firings(replay))


def declared(study: config.Study) -> list[Series]:
    """Return what is watched: the series of `[watch]`, or the events of each source and the conversions.

    >>> study = config.parse({"study": {"title": "x"}, "identity": {"identifiers": ["u"]}, "sources": [
    ...     {"name": "s", "path": "p", "time": {"column": "t"}, "event": "e"}]})
    >>> [(one.name, one.where) for one in declared(study)]
    [('events_s', {'source': ['s']})]
    """
    if study.watch.series:
        return list(study.watch.series)
    found = [
        Series(
            name=f"events_{re.sub('[^a-z0-9_]', '_', one.name.lower())}",
            where={"source": [one.name]},
            label=f"Events of {one.name}",
        )
        for one in study.sources
        if one.kind == "events"
    ]
    conversion = study.journeys.conversion
    return [*found, Series(name="conversions", event=conversion, label="Conversions")] if conversion else found


def _until(touches: Any, series: Series, clock: Clock, stale: dict[str, Any]) -> pd.Timestamp | None:
    """Up to when a series can be judged: to the last event of the stalest source that it rests on; None for all."""
    known = {source: moment for source, moment in stale.items() if not pd.isna(moment)}
    if not known:
        return None
    found = engine.fetch(rows(touches, series, clock).select(nw.col("source")).unique())
    return min((known[source] for source in found["source"] if source in known), default=None)


def _now(everything: pd.DataFrame | None, plan: Watch) -> pd.DataFrame:
    """The last complete day and week of each series, decided together."""
    if everything is None:
        return pd.DataFrame(columns=list(CHECKED))
    last = everything.groupby(["kpi", "rule"], sort=False).tail(1)
    table = decided(last, plan)
    table["verdict"] = np.select([table["reason"] != "", table["fires"]], [OPEN, ALERT], QUIET)
    reasons = [_reason(row, plan) for row in table.to_dict("records")]
    table["direction"] = [_direction(row) for row in table.to_dict("records")]
    return table.assign(reason=reasons).reindex(columns=list(CHECKED))


def _direction(row: dict[Any, Any]) -> str:
    if row["verdict"] != ALERT:
        return ""
    return "better" if (row["observed"] > row["expected"]) == (row["better"] == "up") else "worse"


def _reason(row: dict[Any, Any], plan: Watch) -> str:
    if row["verdict"] == OPEN:
        return str(row["reason"])
    side = "above" if row["observed"] > row["expected"] else "below"
    if row["fires"]:
        past = "days" if row["rule"] == DAY else "weeks"
        return f"{abs(row['change_share']):.0%} {side} what the {past} before it led to expect"
    if row["low"] <= row["observed"] <= row["high"]:
        return "within its limits"
    if abs(row["change_share"]) < plan.minimum_change:
        return f"outside of its limits, but by less than the {plan.minimum_change:.0%} that matter"
    return "outside of its limits, but among so many checks that may be chance"


def _of_sources(fresh: pd.DataFrame, volumes: pd.DataFrame, stale: dict[str, Any], plan: Watch) -> pd.DataFrame:
    """Freshness and volume as rows of `checked`; the volume of a stale source says nothing new."""
    found: list[dict[str, object]] = []
    for row in fresh.to_dict("records"):
        is_stale = row["verdict"] == _freshness.STALE
        found.append(
            {
                "kpi": row["source"],
                "rule": FRESHNESS,
                "period_at": row["last_at"],
                "unit": "days",
                "observed": row["silent_seconds"] / 86_400,
                "high": row["longest_silence_seconds"] / 86_400,
                "verdict": ALERT if is_stale else QUIET,
                "reason": row["reason"],
            }
        )
    for row in volumes.to_dict("records"):
        if row["source"] in stale:
            continue
        expected, seen = row["expected_n"], float(row["events_n"])
        far = row["unusual"] and not (expected > 0 and abs(seen / expected - 1) < plan.minimum_change)
        reason = {
            "silent": "no event, which is unusual",
            "low": "unusually few events",
            "high": "unusually many events",
        }
        is_open = pd.isna(expected)
        found.append(
            {
                "kpi": row["source"],
                "rule": VOLUME,
                "period_at": row["day"],
                "unit": "events",
                "observed": seen,
                "expected": expected,
                "low": row["expected_n_low"],
                "high": row["expected_n_high"],
                "change_share": seen / expected - 1 if expected and expected > 0 else np.nan,
                "verdict": ALERT if far else OPEN if is_open else QUIET,
                "reason": reason.get(row["unusual"], "too short to be judged" if is_open else "within its limits"),
            }
        )
    return pd.DataFrame(found).reindex(columns=list(CHECKED)).fillna({"direction": "", "reason": ""})


def _stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    full = [table.dropna(axis="columns", how="all") for table in tables if len(table)]
    if not full:
        return not_enough(CHECKED, "no source and no series is watched")
    return pd.concat(full, ignore_index=True).reindex(columns=list(CHECKED)).fillna({"direction": "", "reason": ""})
