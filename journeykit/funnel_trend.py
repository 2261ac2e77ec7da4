"""How a funnel's conversion moves: by the week or month in which people came in."""

from __future__ import annotations

import math
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from scipy import stats as _stats

from journeykit import config as _config
from journeykit import engine, errors, stats
from journeykit.differences import design_effect
from journeykit.funnel_spells import DAY_US
from journeykit.funnels import NO_FUNNEL, Reached
from journeykit.quality import over_people
from journeykit.volume import offsets

PERIODS = {"day": "D", "week": "W-SUN", "month": "M", "quarter": "Q", "year": "Y"}  # a week begins on Monday
MOST = 26  # points of time, which a reader still tells apart
COLUMNS = (
    *("period_at", "period", "n", "converted_n", "converted_share", "converted_share_low", "converted_share_high"),
    *("open_n", "is_mature"),
)


def trend(
    reached: Reached,
    *,
    timezone: str = "UTC",
    period: str = "",
    dated: Literal["first", "counted"] = "first",
    min_n: int = 1,
) -> pd.DataFrame:
    """Return conversion by the period in which units came in, everybody judged by the same time.

    A period's units are those whose first entry ever lies in it; one has converted when it took the last step within
    the funnel's window (without one: within the time by which nine in ten of all successes came) after that entry,
    from whichever entry. So every period is given the same time. Rival, `dated="counted"`: by the entry that the funnel
    counted, within its own window. Its periods add up to the funnel, but where people come back it shows a rise
    although nothing changes: who fails stays in the period of the first entry, who succeeds moves to a later one.

    Where one person has several units, numbers are divided by their design effect, for intervals and tests (Rao & Scott
    1992; see `stats.clustered`).

    Args:
        reached: who reached what, by `funnels.reach`.
        timezone: where days begin, such as "Europe/Berlin".
        period: "day", "week", "month", "quarter" or "year"; "" is the finest that gives at most 26 points.
        dated: see above.
        min_n: units of a period; smaller ones at the start and the end are left out, others are empty.

    Returns:
        One row per period, in order: period_at (its first day), period, n units that came in, converted_n so far and
        its share with the Wilson interval, open_n whose time is not over at the end of observation, and is_mature:
        whether that is none. The share of a period that is not mature can only rise. `attrs` hold `days` (the time
        each is given; empty where each has its own), `later_n` (units of the funnel that converted after that time),
        `change_p_value` (is there a steady rise or fall over the mature periods? Cochran–Armitage) and `differ_p_value`
        (do they differ at all? chi-square).

    Raises:
        JourneyError: the time zone or the period is not known.
    """
    rules = reached.rules
    if not rules.steps:
        return stats.not_enough(COLUMNS, NO_FUNNEL)
    if period and period not in PERIODS:
        raise errors.JourneyError(
            f"funnel trend: period {period!r} is not known.{errors.nearest(period, PERIODS)} "
            f"Allowed: {', '.join(PERIODS)}."
        )
    first = dated == "first" or rules.entry == "open"  # an open funnel has no entry that counts
    clock, last = "first_us" if first else "at_1", f"at_{len(rules.steps)}"
    rows = reached.table.filter(~nw.col(clock).is_null()).with_columns(
        _at=nw.col(clock), _took=nw.col(last) - nw.col(clock), _done=_flag(~nw.col(last).is_null())
    )
    span = engine.fetch(
        rows.select(nw.len().alias("n"), a=nw.col("_at").min(), b=nw.col("_at").max(), end=nw.col(last).max())
    ).iloc[0]
    if span["n"] < max(min_n, 1):
        return stats.not_enough(COLUMNS, f"not enough data (n = {span['n']:.0f}, at least {min_n} are needed)")
    begin, end = int(span["a"]), int(span["b"])
    until = reached.until if reached.until is not None else max(end, int(span["end"]) if pd.notna(span["end"]) else end)
    allowed = _allowed(rows, rules) if first else math.nan
    if first:
        wait = round(allowed * DAY_US)
        done, is_open = (nw.col("_done") == 1) & (nw.col("_took") <= wait), nw.col("_at") + wait > until
    else:
        done, is_open = nw.col("_done") == 1, nw.col("is_open") == 1
    days = _by_day(rows, done, is_open, offsets(_zone(timezone), begin, end))
    chosen = period or _period(days)
    design = 1.0 if rules.per == "person" else _design(rows, done)
    table = _by_period(days, chosen, min_n, design)
    if table.empty:
        return stats.not_enough(COLUMNS, f"not enough data (no {chosen} with {min_n} or more)")
    table.attrs.update(days=allowed, later_n=int(days["all_done_n"].sum() - days["converted_n"].sum()), period=chosen)
    table.attrs.update(_tests(table[table["is_mature"]], design))
    return table


def _by_day(rows: nw.LazyFrame[Any], done: nw.Expr, is_open: nw.Expr, shifts: list[tuple[int, int]]) -> pd.DataFrame:
    """Count units by local day: n, converted_n, open_n, all_done_n (whenever they converted)."""
    shift: Any = nw.lit(0)
    for start, offset in shifts:
        shift = nw.when(nw.col("_at") >= start).then(nw.lit(offset)).otherwise(shift)
    rows = rows.with_columns(_day=(nw.col("_at") + shift) // DAY_US, _converted=_flag(done), _open=_flag(is_open))
    found = engine.fetch(
        rows.group_by("_day").agg(
            n=nw.len(),
            converted_n=nw.col("_converted").sum(),
            open_n=nw.col("_open").sum(),
            all_done_n=nw.col("_done").sum(),
        )
    )
    return found.rename(columns={"_day": "day"}).astype("int64").sort_values("day", ignore_index=True)


def _design(rows: nw.LazyFrame[Any], done: nw.Expr) -> float:
    """The design effect of people with several units; see `differences.design_effect`."""
    rows = rows.with_columns(_n=nw.lit(1).cast(nw.Int64()), _k=_flag(done).cast(nw.Int64()))
    sums = engine.fetch(over_people(rows.group_by("person_id").agg(nw.col("_n").sum(), nw.col("_k").sum())))
    return design_effect(sums.iloc[0].rename(lambda name: name.removeprefix("_")))


def _by_period(days: pd.DataFrame, period: str, min_n: int, design: float) -> pd.DataFrame:
    """Put days together, periods without anybody included, and drop small ones at either end."""
    of = pd.to_datetime(days["day"], unit="D").dt.to_period(PERIODS[period])
    sums = days.groupby(of)[["n", "converted_n", "open_n"]].sum()
    sums = sums.reindex(pd.period_range(of.min(), of.max(), freq=PERIODS[period]), fill_value=0)
    enough = np.flatnonzero(sums["n"] >= max(min_n, 1))
    if not len(enough):
        return pd.DataFrame(columns=list(COLUMNS))
    sums = sums.iloc[enough[0] : enough[-1] + 1]
    small = (sums["n"] < max(min_n, 1)).to_numpy()
    table = stats.add_share(sums.reset_index(drop=True), "converted", "converted_n", "n")
    if design > 1:
        bounds = [stats.wilson(k / design, n / design) for n, k in table[["n", "converted_n"]].to_numpy(float)]
        table[["converted_share_low", "converted_share_high"]] = bounds
    table.loc[small, ["converted_share", "converted_share_low", "converted_share_high"]] = math.nan
    table = table.assign(period_at=pd.PeriodIndex(sums.index).start_time, is_mature=(sums["open_n"] == 0).to_numpy())
    table["period"] = [_name(at, period) for at in table["period_at"]]
    return table[list(COLUMNS)]


def _allowed(rows: nw.LazyFrame[Any], rules: _config.Funnel) -> float:
    """The days that everybody is given: the window, or the time by which nine in ten of all successes came."""
    if rules.within:
        return _config.seconds(rules.within) / 86_400
    done = rows.filter(nw.col("_done") == 1).with_columns(_days=(nw.col("_took") + DAY_US - 1) // DAY_US)
    found = engine.fetch(done.group_by("_days").agg(n=nw.len())).sort_values("_days")
    if found.empty:
        return 1.0
    after = found["n"].cumsum().to_numpy()
    return float(max(1, found["_days"].iloc[int(np.searchsorted(after, 0.9 * after[-1]))]))


def _period(days: pd.DataFrame) -> str:
    """The finest period that gives at most 26 points."""
    first, last = (pd.Timestamp(int(day), unit="D") for day in (days["day"].iloc[0], days["day"].iloc[-1]))
    for name, code in PERIODS.items():
        if len(pd.period_range(first, last, freq=code)) <= MOST:
            return name
    return "year"


def _name(at: pd.Timestamp, period: str) -> str:
    """Return a period as a reader calls it.

    >>> [_name(pd.Timestamp("2025-03-31"), period) for period in PERIODS]
    ['31 Mar 2025', 'week of 31 Mar 2025', 'Mar 2025', 'Q1 2025', '2025']
    """
    day = f"{at.day} {at:%b %Y}"
    return {
        "day": day,
        "week": f"week of {day}",
        "month": f"{at:%b %Y}",
        "quarter": f"Q{at.quarter} {at.year}",
        "year": str(at.year),
    }[period]


def _tests(mature: pd.DataFrame, design: float) -> dict[str, float]:
    """Test mature periods for a steady change, and for any."""
    shown = mature[mature["n"] > 0]
    n, k = shown["n"].to_numpy(float) / design, shown["converted_n"].to_numpy(float) / design
    share = k.sum() / n.sum() if n.sum() else 0.0
    if len(shown) < 3 or not 0 < share < 1:
        return {"change_p_value": math.nan, "differ_p_value": math.nan}
    at = shown.index.to_numpy(float)
    at = at - (n * at).sum() / n.sum()
    z = float((at * k).sum() / math.sqrt(share * (1 - share) * (n * at**2).sum()))
    far = float(((k - n * share) ** 2 / (n * share * (1 - share))).sum())
    return {
        "change_p_value": float(2 * _stats.norm.sf(abs(z))),
        "differ_p_value": float(_stats.chi2.sf(far, len(n) - 1)),
    }


def _zone(name: str) -> str:
    try:
        pd.Timestamp(0, tz=name)
    except Exception as error:  # pandas raises whatever the zone's own library does
        raise errors.JourneyError(f"funnel trend: {name!r} is not a time zone. An example: Europe/Berlin.") from error
    return name


def _flag(condition: nw.Expr) -> nw.Expr:
    return nw.when(condition).then(nw.lit(1)).otherwise(nw.lit(0))
