"""What new customers cost: the channel that brought them first, and the money spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd

from journeykit import engine, sums
from journeykit.churn import purchases
from journeykit.errors import require_columns

UNKNOWN = "unknown"


def first_channels(touches: Any, starts: pd.DataFrame) -> pd.DataFrame:
    """Return the first known marketing channel of each new customer, up to the start; "unknown" where there is none.

    Definition: the earliest touch, in the total order, with a `marketing_channel`, at or before the start: what comes
    later cannot have brought the person. Rivals: the last channel before the start, which takes the credit from
    whatever made the person look; shares over all of them (chapter 06), which answer who helped, not who began.

    Args:
        touches: `person_id`, `marketing_channel` and the columns of the total order.
        starts: `person_id`, `started_at` (UTC).

    Returns:
        One row per row of `starts`, sorted by person_id: person_id, started_at, channel.

    >>> from tests.conftest import make_log
    >>> log = make_log("u1: ad join | u2: join ad").assign(marketing_channel=["paid", None, None, "paid"])
    >>> starts = pd.DataFrame({"person_id": [1, 2], "started_at": pd.to_datetime(["2025-01-02", "2025-01-01"])})
    >>> first_channels(log, starts)["channel"].tolist()
    ['paid', 'unknown']
    """
    require_columns(starts.columns, ["person_id", "started_at"], "payback")
    table = engine.lazy(touches)
    require_columns(table.collect_schema().names(), ["person_id", "marketing_channel", *engine.ORDER], "payback")
    began = starts[["person_id", "started_at"]].sort_values("person_id", ignore_index=True)
    if began.empty:
        return began.assign(channel=pd.Series(dtype=object))
    us = began["started_at"].astype("datetime64[us]").astype("int64")
    beside = engine.beside(pd.DataFrame({"person_id": began["person_id"], "_start_us": us}), table)
    known = table.filter(~nw.col("marketing_channel").is_null()).join(beside, on="person_id", how="inner")
    known = known.filter(nw.col("time_us") <= nw.col("_start_us"))
    known = known.with_columns(_one=nw.lit(1, nw.Int64))
    place = nw.col("_one").cum_sum().over("person_id", order_by=list(engine.ORDER))
    first = known.with_columns(_place=place).filter(nw.col("_place") == 1)
    found = engine.fetch(first.select("person_id", channel=nw.col("marketing_channel")), limit=purchases.MOST)
    joined = began.merge(found, on="person_id", how="left")
    return joined.assign(channel=joined["channel"].astype(object).where(joined["channel"].notna(), UNKNOWN))


@dataclass(frozen=True)
class Spend:
    """Money by channel, and the first and last day of which there is any."""

    by_channel: dict[str, float]
    first: np.datetime64 | None
    last: np.datetime64 | None


def amounts(spend: Any) -> Spend:
    """Return what was spent on each channel, of a table with `date`, `marketing_channel` and `spend`, of any engine."""
    table = engine.lazy(spend)
    require_columns(table.collect_schema().names(), ("date", "marketing_channel", "spend"), "payback")
    named = table.select(
        "date", channel=nw.col("marketing_channel").cast(nw.String), **sums.money("m", nw.col("spend"))
    )
    found = engine.fetch(
        named.group_by("channel").agg(
            nw.col("m_whole", "m_large").sum(), first=nw.col("date").min(), last=nw.col("date").max()
        )
    )
    found = found.assign(spend=sums.total(found, "m")) if len(found) else found.assign(spend=[])
    found = found[found["spend"] > 0].sort_values("channel")
    if found.empty:
        return Spend({}, None, None)
    first, last = pd.to_datetime(found["first"]).min(), pd.to_datetime(found["last"]).max()
    amounts = dict(zip(found["channel"].astype(str), found["spend"].astype(float), strict=True))
    return Spend(amounts, np.datetime64(first), np.datetime64(last + pd.Timedelta(days=1)))
