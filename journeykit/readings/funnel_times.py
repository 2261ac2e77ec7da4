"""What the tables of `funnel_times` and `funnel_trend` say, in sentences."""

from __future__ import annotations

import pandas as pd

from journeykit import present
from journeykit.funnel_spells import WHOLE
from journeykit.readings.funnel_words import SURE, UNITS, WHO, alike, bounds, chance, halves, share_of, span


def times(table: pd.DataFrame, per: str = "person", within: str = "") -> str:
    """Say how long those take who go through, by when half of all have, and which step takes longest."""
    if not len(table):
        return ""
    text = ""
    whole = table[table["part"] == WHOLE]
    if len(whole):
        row = whole.iloc[0]
        if not present.missing(row["median_days"]):
            text += (
                f"Half of the {present.count(row['converted_n'])} {WHO[per]} went through took "
                f"{span(row['median_days'])} or less ({bounds(row, 'median_days')}); one in four took more than "
                f"{span(row['p75_days'])}, one in ten more than {span(row['p90_days'])}. "
            )
        every = f"{present.count(row['n'])} {WHO[per]} came in"
        if present.missing(row["half_days"]):
            text += (
                f"Of all {every}, an estimated {share_of(row, 'gone_on_share')} had gone through after "
                f"{span(row['observed_days'])}: half of all is not reached. "
            )
        else:
            text += (
                f"Half of all {every} had gone through after an estimated {span(row['half_days'])} "
                f"({bounds(row, 'half_days')}), with those not through yet. "
            )
        if not within and not present.missing(row["median_days"]):
            text += "There is no window, so the first figure knows only those who were quick enough to be seen. "
    steps = table[(table["part"] != WHOLE) & table["median_days"].notna()]
    if len(steps) > 1:
        slow = steps.sort_values("median_days", ascending=False, kind="stable").iloc[0]
        text += (
            f"The slowest step is from {slow['from_step']} to {slow['to_step']}: half of those who take it need "
            f"{span(slow['median_days'])} or less ({bounds(slow, 'median_days')})."
        )
    return text.strip()


def curve(table: pd.DataFrame, per: str = "person") -> str:
    """Say how many have converted by the end of the curve, and when half of those had; of segments, the extremes."""
    if not len(table):
        return ""
    if "segment" in table and (table["segment"] != table["segment"].iloc[0]).any():
        return _curves(table, per)
    last = table.iloc[-1]
    part = str(table.attrs.get("part", ""))
    what, since = ("gone on to " + part, "the step before it") if part else ("converted", "the first entry")
    if last["converted_share"] <= 0:
        return f"None of {present.count(last['n'])} {UNITS[per]} had {what} {span(last['after_days'])} after {since}."
    half = table[table["converted_share"] >= last["converted_share"] / 2].iloc[0]
    return (
        f"{span(last['after_days'])} after {since}, an estimated {share_of(last, 'converted_share')} "
        f"of {present.count(last['n'])} {UNITS[per]} have {what}; half of these did so in the first "
        f"{span(half['after_days'])}."
    )


def compare_curves(table: pd.DataFrame, per: str = "person") -> str:
    """Say whether segments go on at different speeds, and which stands out most."""
    if not len(table):
        return ""
    joint = float(table.attrs.get("joint_p_value", 1.0))
    if not joint < SURE:
        return (
            f"All tested together, the segments do not differ in speed more than chance makes likely "
            f"({chance(joint)}, log-rank test)."
        )
    sure = table[table["p_adjusted"] < SURE].sort_values(["converted_share", "segment"], ascending=[False, True])
    if not len(sure):
        return f"Together the segments differ in speed ({chance(joint)}, log-rank test), but none stands out for sure."
    said = [
        f"“{row['segment']}” ({share_of(row, 'converted_share')} of {present.count(row['n'])} {UNITS[per]})"
        for row in (sure.iloc[[0, -1]] if len(sure) > 1 else sure).to_dict("records")
    ]
    return (
        f"The segments go on at different speeds ({chance(joint)}, log-rank test of all together). After "
        f"{span(table['observed_days'].iloc[0])} " + " and ".join(said) + " differ most from all others." + alike(per)
    )


def trend(table: pd.DataFrame, per: str = "person") -> str:
    """Say whether conversion moved over the periods whose time is over, and how many are not."""
    if not len(table):
        return ""
    mature = table[table["is_mature"] & (table["n"] > 0)]
    kind, given = str(table.attrs.get("period", "period")), table.attrs.get("days", float("nan"))
    time = "" if present.missing(given) else f" Everybody is given {span(given)} after the first entry."
    waiting = int((~table["is_mature"]).sum())
    late = ""
    if waiting:
        last = f"the last {kind} is" if waiting == 1 else f"{waiting} {kind}s are"
        late = f" The time of some who came in late is not over: {last} drawn hollow and can only rise."
    if len(mature) < 3:
        return f"Too few {kind}s are over to speak of a trend ({len(mature)}).{late}"
    early, later = halves(table)
    change, differ = (float(table.attrs.get(f"{name}_p_value", float("nan"))) for name in ("change", "differ"))
    ordered = mature.sort_values("converted_share", kind="stable")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    if change < SURE:
        text = (
            f"Conversion has {'risen' if later['converted_share'] > early['converted_share'] else 'fallen'} over "
            f"{len(mature)} {kind}s, from {share_of(early, 'converted_share')} of {present.count(early['n'])} "
            f"{UNITS[per]} ({early['period']}) to {share_of(later, 'converted_share')} of "
            f"{present.count(later['n'])} ({later['period']}), more than chance makes likely ({chance(change)})."
        )
    elif differ < SURE:
        text = (
            f"Conversion moved between {share_of(low, 'converted_share')} ({low['period']}) and "
            f"{share_of(high, 'converted_share')} ({high['period']}), more than chance makes likely "
            f"({chance(differ)}), but without a steady rise or fall."
        )
    else:
        text = (
            f"Over {len(mature)} {kind}s conversion stayed between {present.share(low['converted_share'])} and "
            f"{present.share(high['converted_share'])}, which is within chance ({chance(differ)})."
        )
    return text + time + late


def _curves(table: pd.DataFrame, per: str) -> str:
    """Compare segments at the longest time that all of them are observed for."""
    upto = table.groupby("segment")["after_days"].max().min()
    at = table[table["after_days"] <= upto].groupby("segment", sort=False).tail(1)
    at = at.sort_values(["converted_share", "segment"], ascending=[False, True])
    best, worst = at.iloc[0], at.iloc[-1]
    part = str(table.attrs.get("part", ""))
    what, since = (f"gone on to {part}", "the step before it") if part else ("converted", "the first entry")
    return (
        f"{span(upto)} after {since}, an estimated {share_of(best, 'converted_share')} of "
        f"{present.count(best['n'])} {UNITS[per]} of “{best['segment']}” have {what}, and "
        f"{share_of(worst, 'converted_share')} of {present.count(worst['n'])} of “{worst['segment']}”."
    )
