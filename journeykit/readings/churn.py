"""What the tables of staying and leaving say, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from journeykit import present
from journeykit.config import Churn
from journeykit.readings.funnel_words import chance, share_of, window

CHAPTER = "07_churn"
SURE = 0.05  # a p-value below it is called a difference
NAMED = 3


def definition(choice: Churn, spells: pd.DataFrame) -> str:
    """Say what counts as leaving, before any number."""
    quiet = float(spells.attrs.get("quiet_days", float("nan")))
    if choice.kind == "contract":
        text = f"Leaving is the first “{words(choice.end)}” after {_start(choice)}; whoever has none is still there."
        if choice.reasons:
            named = ", ".join(f"“{name}”" for name in choice.reasons)
            text += f" The reasons told apart are {named}; all others are “other”."
        return text
    if present.missing(quiet):
        return f"Without a contract, leaving is a silence: no “{words(choice.activity)}” for so long as is said below."
    source = (
        "as journey.toml says"
        if choice.quiet
        else f"the shortest silence after which at most {present.share(choice.returns, 0)} come back"
        f"{window(choice.returns_within)}"
    )
    return (
        f"Without a contract, leaving is a silence: whoever shows no “{words(choice.activity)}” for more than "
        f"{days(quiet)} ({source}) left on the day of the last one. That is known only so much later, so that leaving "
        f"is known to {spells.attrs['until']:%Y-%m-%d}, and nothing later is used."
    )


def people(spells: pd.DataFrame, choice: Churn, min_n: int = 20) -> str:
    """Say how many people the chapter is about, how many left, and who is left out; nothing of fewer than `min_n`."""
    if len(spells) < min_n:
        return ""
    ends = int(spells["ended"].sum())
    until = f" to {spells.attrs['until']:%Y-%m-%d}" if "until" in spells.attrs else ""
    text = (
        f"{present.count(len(spells))} people are followed from {_start(choice)}{until}; {present.count(ends)} of them "
        f"({present.share(ends / len(spells))}) {left(choice)} while observed, the other "
        f"{present.count(len(spells) - ends)} are counted for as long as they were seen."
    )
    back = spells.attrs.get("came_back_n")
    if back:
        text += f" Of those who left, {present.count(back)} were active again later: they left, and came back."
    return f"{text} {note(spells)}".strip()


def survival(curve: pd.DataFrame, choice: Churn) -> str:
    """Say what share is still there at the horizon (or at the last day that enough people were observed for)."""
    point = at_horizon(curve, choice.horizon_days)
    return "" if point is None else f"{survival_sentence(point, choice)} {_since(curve)}".strip()


def median(table: pd.DataFrame) -> str:
    """Say by when half have left."""
    if table.empty:
        return ""
    line = table.iloc[0]
    if present.missing(float(line["median_days"])):
        return "More than half are still there as far as the data reach, so the median cannot be given."
    low, high = float(line["median_days_low"]), float(line["median_days_high"])
    span = f"at least {days(low)}" if present.missing(high) else f"{present.interval(low, high, '', 0)} days"
    return f"Half have left after {days(line['median_days'])} (95 % interval {span})."


def losses(table: pd.DataFrame, choice: Churn) -> str:
    """Say by which day half of the leavers have left, when leaving is likeliest, and whether that may be chance."""
    if table.empty:
        return ""
    line = table.iloc[0]
    span = present.interval(line["half_days_low"], line["half_days_high"], "", 0)
    text = (
        f"Of those who {leave(choice)} within {days(line['horizon_days'])}, half have done so by day "
        f"{line['half_days']:.0f} (95 % interval {span}; n = {present.count(line['ended_n'])})."
    )
    if line["half_days"] < 1 and choice.kind == "inactivity":
        text += " They were never active again after their first day."
    width = float(line["to_day"] - line["from_day"])
    average = f"{present.share(line['average_share'])} in {width:.0f} days on average"
    worst = f"days {line['from_day']:.0f}–{line['to_day']:.0f}, for {share_of(line, 'leaving_share')} of those there"
    p_value = float(line["p_value"])
    if present.missing(p_value):
        return f"{text} There are too few to say when leaving is likeliest."
    if p_value < SURE:
        changes = f"The chance of leaving changes over tenure ({chance(p_value)})"
        return f"{text} {changes}: it is highest in {worst}, against {average}."
    return (
        f"{text} Nothing says that the chance of leaving changes over tenure ({chance(p_value)}): it is {average}, and "
        "no day stands out."
    )


def segments(table: pd.DataFrame) -> str:
    """Say which segment stays longest or shortest compared with the largest, and what the log-rank test says."""
    if table.empty:
        return ""
    line = largest(table, "difference_days")
    p = float(table.attrs.get("logrank_p_value", float("nan")))
    verdict = "differ by more than chance explains" if p < SURE else "do not differ by more than chance explains"
    text = f"The segments' curves {verdict} (log-rank {chance(p)})."
    if not p < SURE:
        n = present.count(line["reference_people_n"])
        return f"{text} Each is compared with the largest, “{line['reference']}” (n = {n})."
    n = f"n = {present.count(line['n'])} and {present.count(line['reference_people_n'])}"
    return (
        f"{text} Within {days(line['horizon_days'])}, people of “{line['segment']}” stay {gap(line)} on average than "
        f"those of “{line['reference']}” (difference {gap_bounds(line)} days; {n})."
    )


def adjusted(table: pd.DataFrame, labels: list[str]) -> str:
    """Say what is left of the difference between segments when their people are made alike in what `labels` name."""
    if table.empty:
        return ""
    named = ", ".join(f"“{name}”" for name in labels)
    clear = table[table["p_value"] < SURE]
    if clear.empty:
        return (
            f"With their people made alike in {named}, no segment differs clearly from “{table['reference'].iloc[0]}” "
            f"in how long they stay ({chance(float(table['p_value'].min()))} at the least)."
        )
    line = largest(clear, "difference_days")
    plain = float(line["unadjusted_days"])
    before = f"{present.number(abs(plain))} days {'more' if plain >= 0 else 'less'} before"
    return (
        f"With their people made alike in {named}, those of “{line['segment']}” stay {gap(line)} within "
        f"{days(line['horizon_days'])} than those of “{line['reference']}” (difference {gap_bounds(line)} days, "
        f"{chance(float(line['p_value']))}; {before}). What was not measured may still differ."
    )


def reasons(table: pd.DataFrame) -> str:
    """Say for which reasons people leave, and how wrong one minus Kaplan–Meier of a reason would be."""
    if table.empty:
        return ""
    named = [f"{share_of(line, 'left_share')} for “{line['reason']}”" for _, line in table.head(NAMED).iterrows()]
    rest = table["left_share"].iloc[NAMED:].sum()
    named += [f"{present.share(rest)} for other reasons"] if len(table) > NAMED else []
    total, alone = float(table["left_share"].sum()), float(table["alone_share"].sum())
    text = (
        f"Within {days(table['horizon_days'].iloc[0])}, of {present.count(table['n'].iloc[0])} people have left: "
        f"{', '.join(named)}; {present.share(total)} in all."
    )
    if alone - total < 0.001 or len(table) < 2:
        return text
    return (
        f"{text} A curve of each reason alone, with the others taken as still there, would add up to "
        f"{present.share(alone)}: who left for one reason can no longer leave for another."
    )


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of the chapter that a page has room for; the file has all of them."""
    columns = ["segment", "reference", "reason", "label", "split_at", "train_people_n", "n", "people_with_n"]
    columns += ["people_without_n", "effective_n", "ended_n", "events_n", "hazard_ratio", "median_days"]
    columns += ["restricted_mean_days", "unadjusted_days", "difference_days", "left_share", "alone_share"]
    columns += ["concordance", "skill_share", "p_value", "proportionality_p_value"]
    constant = [name for name in ("segment", "reference", "n", "events_n") if len(table) > 1 and name in table]
    dropped = [name for name in constant if len(set(table[name])) == 1]
    if "segment" in table and set(table["segment"]) == {"all"}:
        dropped.append("segment")
    return [name for name in columns if name in table and name not in dropped]


def note(table: pd.DataFrame) -> str:
    """Return what a table says about people or covariates that it left out."""
    return str(table.attrs.get("note", ""))


def survival_sentence(point: pd.Series, choice: Churn) -> str:
    numbers = share_of(point, "survival_share")
    short = point["day"] < choice.horizon_days
    reach = f" (too few people were observed for the {days(choice.horizon_days)} asked for)" if short else ""
    n = f"n = {present.count(point['n'])} people, {present.count(point['at_risk_n'])} observed to that day"
    after = f"After {days(point['day'])}{reach}"
    if not is_leaving(choice):
        return f"{after}, {numbers} have not yet reached “{words(choice.end)}” ({n})."
    still = "they have shown signs of life since" if choice.kind == "inactivity" else f"no “{words(choice.end)}” so far"
    return f"{after}, {numbers} of those followed from {_start(choice)} are still there: {still} ({n})."


def _since(table: pd.DataFrame) -> str:
    first = float(table.attrs.get("from_day", 0.0))
    return f"The curve begins on day {first:g}, the first with enough people under observation." if first > 0 else ""


def is_leaving(choice: Churn) -> bool:
    """Whether the end is leaving; a contract without a start is the way to a first purchase, which is good."""
    return choice.kind == "inactivity" or bool(choice.start)


def _start(choice: Churn) -> str:
    if choice.start:
        return f"“{words(choice.start)}”"
    return f"their first “{words(choice.activity)}”" if choice.kind == "inactivity" else "their first event"


def left(choice: Churn) -> str:
    """What leaving is called, in the past tense."""
    return "fell silent" if choice.kind == "inactivity" else f"reached “{words(choice.end)}”"


def leave(choice: Churn) -> str:
    """What leaving is called."""
    return "leave" if is_leaving(choice) else f"reach “{words(choice.end)}”"


def days(value: float) -> str:
    """Return a number of days without digits that nobody asked for.

    >>> days(180.0), days(0.5)
    ('180 days', '0.5 days')
    """
    return present.days(value, 0 if value >= 10 or float(value).is_integer() else 1)


def words(events: list[str]) -> str:
    """Return events as words.

    >>> words(["care_plan_cancelled", "moved"])
    'care plan cancelled or moved'
    """
    return " or ".join(event.replace("_", " ") for event in events)


def gap(line: pd.Series) -> str:
    gap = float(line["difference_days"])
    return f"{present.days(abs(gap))} {'longer' if gap >= 0 else 'less'}"


def gap_bounds(line: pd.Series) -> str:
    return present.interval(line["difference_days_low"], line["difference_days_high"]).replace("–", " to ")


def largest(table: pd.DataFrame, name: str) -> pd.Series:
    return table.iloc[int(np.argmax(np.abs(table[name].to_numpy(float))))]


def at_horizon(curve: pd.DataFrame, horizon: float) -> pd.Series | None:
    """The curve's last point up to the horizon, with `n`, the people that the curve is of."""
    known = curve[(curve["day"] <= horizon) & (curve["segment"] == curve["segment"].iloc[0])] if len(curve) else curve
    if known.empty:
        return None
    point = known.iloc[-1].copy()
    point["n"] = curve.attrs.get("n", known["at_risk_n"].iloc[0])
    return point
