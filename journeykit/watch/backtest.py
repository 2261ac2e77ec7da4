"""How often the rules would have fired in the past: every morning replayed with what was known by then."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit.config_changes import Watch
from journeykit.stats import not_enough
from journeykit.watch.judge import COLUMNS as JUDGED
from journeykit.watch.judge import DAY, WEEK

FIRINGS = (
    "kpi",
    "rule",
    "unit",
    "judged_n",
    "fired_n",
    "fired_share",
    "a_year",
    "better_n",
    "worse_n",
    "first_at",
    "last_at",
)
WEEK_LONG = pd.Timedelta(days=7)


def decided(judged: pd.DataFrame, plan: Watch) -> pd.DataFrame:
    """Return what was judged in one run with adjusted p-values, and whether each row fires."""
    table = judged.copy()
    p_values = table["p_value"].astype(float)
    known = p_values.notna().to_numpy()
    table["adjusted"] = np.nan
    if known.any():
        table.loc[known, "adjusted"] = _stats.false_discovery_control(p_values[known].clip(0, 1), method="bh")
    observed = table["observed"].astype(float)
    outside = (observed < table["low"].astype(float)) | (observed > table["high"].astype(float))
    far = table["change_share"].astype(float).abs() >= plan.minimum_change
    table["fires"] = outside & far & (table["adjusted"] <= plan.error_rate)
    return table


def replayed(everything: pd.DataFrame | None, plan: Watch) -> pd.DataFrame:
    """Every past day and week decided as a run of the morning after would have: with what was judged that morning."""
    columns = [*JUDGED, "adjusted", "fires"]
    if everything is None or everything["ends_at"].isna().all():
        return not_enough(columns, "no series has a complete day")
    known = everything.loc[everything["ends_at"].notna()]
    weeks = known.loc[known["rule"] == WEEK]
    parts = []
    for moment, rows_ in known.groupby("ends_at", sort=True):
        # The week before was judged on its own morning; today its p-values only count among those of the run.
        earlier = weeks.loc[(weeks["ends_at"] < moment) & (weeks["ends_at"] > pd.Timestamp(str(moment)) - WEEK_LONG)]
        ended = rows_.loc[rows_["rule"] == WEEK, "kpi"]
        together = pd.concat([rows_, earlier.loc[~earlier["kpi"].isin(ended)]])
        parts.append(decided(together, plan).iloc[: len(rows_)])
    return pd.concat(parts, ignore_index=True)[columns]


def firings(replay: pd.DataFrame) -> pd.DataFrame:
    """Return how often each rule would have fired on each series; see `watch`."""
    if replay.empty:
        return not_enough(FIRINGS, str(replay.attrs.get("reason", "no series has a complete day")))
    rows_ = []
    for (kpi, rule), part in replay.groupby(["kpi", "rule"], sort=False):
        known = part.loc[part["reason"] == ""]
        fired = known.loc[known["fires"].astype(bool)]
        up = (fired["observed"] > fired["expected"]) == (fired["better"] == "up")
        share = len(fired) / len(known) if len(known) else np.nan
        times = 365.25 if rule == DAY else 365.25 / 7
        span = (known["period_at"].min(), known["period_at"].max()) if len(known) else (pd.NaT, pd.NaT)
        counts = (len(known), len(fired), share, share * times, int(up.sum()), int((~up).sum()))
        rows_.append((kpi, rule, part["unit"].iloc[0], *counts, *span))
    return pd.DataFrame(rows_, columns=list(FIRINGS))
