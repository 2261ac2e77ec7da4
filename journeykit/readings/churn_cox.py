"""What the tables about who leaves sooner say, in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from journeykit import present
from journeykit.churn import cox, immortal, proportional
from journeykit.churn.design import NO_ANSWER, TENTH
from journeykit.config import Churn
from journeykit.findings import Finding
from journeykit.readings.funnel_words import SURE, chance

CHAPTER = "07_churn"
MOST = 3  # sentences of one kind
_ASSOCIATED = "Associated, not caused: people with and without it may differ in what was not measured."


def ratios(table: pd.DataFrame, choice: Churn) -> str:
    """Say what goes with leaving sooner, the strongest covariate first; at most three sentences."""
    return _ratios(table, choice, f" by day {choice.landmark_days:.0f}")


def over_time(table: pd.DataFrame, choice: Churn) -> str:
    """Say what goes with leaving sooner after it happened, the strongest covariate first; at most three sentences."""
    return _ratios(table, choice, " so far")


def assumption(table: pd.DataFrame) -> str:
    """Say whether the ratios may be read as constant over tenure."""
    if table.empty:
        return ""
    broken = cox.changing(table)
    lowest = float(table["proportionality_p_value"].min())
    if broken.empty:
        return (
            f"Nothing speaks against ratios that stay the same over tenure (smallest of the checks: {chance(lowest)})."
        )
    which = " and ".join(f"“{name}”" for name in broken["label"])
    return (
        f"The ratio of {which} changes with tenure ({chance(lowest)}): read it as an average over the time observed, "
        "and look at it early and late below."
    )


def changes(table: pd.DataFrame) -> str:
    """Say how the ratios that change with tenure differ early and late."""
    said = []
    for name in dict.fromkeys(table["label"]):
        early, late = (table[(table["label"] == name) & (table["part"] == part)].iloc[0] for part in ("early", "late"))
        differ = float(early["change_p_value"]) < SURE
        verdict = "the two differ by more than chance explains" if differ else "the two may differ by chance"
        said.append(
            f"Up to day {early['to_day']:.0f} after the landmark, the hazard ratio of “{name}” is {_numbers(early)}, "
            f"and {_numbers(late)} afterwards (n = {present.count(early['n'])}, {present.count(late['n'])} of them "
            f"still there then): {verdict} ({chance(float(early['change_p_value']))})."
        )
    return " ".join(said[:MOST])


def stratified(table: pd.DataFrame, before: pd.DataFrame) -> str:
    """Say whether the other ratios hold where some covariates have curves of their own (`before`: table of `cox`)."""
    if table.empty:
        return ""
    both = table.merge(before, on=["covariate", "level"], suffixes=("", "_before"))
    inside = both["hazard_ratio"].between(both["hazard_ratio_low_before"], both["hazard_ratio_high_before"])
    which = proportional.of_strata(table)
    if inside.all():
        return f"With a curve of its own for each value of {which}, all other ratios stay within their intervals above."
    moved = " and ".join(f"“{name}”" for name in both.loc[~inside, "label"])
    return f"With a curve of its own for each value of {which}, the ratio of {moved} leaves its interval above."


def three_ways(table: pd.DataFrame) -> str:
    """Say how far the ratio of "ever had it" is from those that count time rightly."""
    lines = {line["way"]: line for _, line in table.iterrows()}
    wrong, right = lines.get(immortal.EVER), lines.get(immortal.SO_FAR)
    if wrong is None or right is None:
        return ""
    text = (
        f"Counted as “ever, over the whole time”, “{wrong['label']}” has a hazard ratio of {_numbers(wrong)}; counted "
        f"from the day it happened, {_numbers(right)}"
    )
    mark = lines.get(immortal.LANDMARK)
    text += f", and by the landmark {_numbers(mark)}" if mark is not None else ""
    share = present.share(float(wrong["immortal_share"]), 0)
    people = f"n = {present.count(wrong['n'])}, {present.count(wrong['people_with_n'])} ever had it"
    text += f" ({people}). Of the days that the first counts as with it, {share} came before it happened. "
    if right["hazard_ratio_low"] <= wrong["hazard_ratio"] <= right["hazard_ratio_high"]:
        return text + "Here it happens so early, or so evenly, that the mistake is small; it need not be elsewhere."
    word = "flatters" if wrong["hazard_ratio"] < right["hazard_ratio"] else "slanders"
    return text + f"The first {word} it: whoever stays longer has more time to get there. Do not use it."


def days_kept(table: pd.DataFrame) -> str:
    """Say the difference in days stayed of the covariate where it is largest."""
    if table.empty:
        return ""
    line = table.iloc[int(np.argmax(np.abs(table["difference_days"].to_numpy(float))))]
    gap = float(line["difference_days"])
    bounds = present.interval(line["difference_days_low"], line["difference_days_high"]).replace("–", " to ")
    return (
        f"Within {present.days(line['horizon_days'], 0)} after the landmark, people with “{line['label']}” stay "
        f"{present.days(abs(gap))} {'longer' if gap >= 0 else 'less'} than people without (difference {bounds} days; "
        f"n = {present.count(line['people_with_n'])} with, {present.count(line['people_without_n'])} without)."
    )


def shown(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that a page has room for; the file has all of them."""
    columns = ["label", "part", "words", "per", "from_day", "to_day", "horizon_days", "hazard_ratio", "difference_days"]
    columns += ["people_with_n", "people_without_n", "events_n", "immortal_share", "p_value"]
    columns += ["proportionality_p_value", "change_p_value"]
    if "words" in table:  # its two rows differ in people, so that one p-value says little beside another
        columns.remove("p_value")
    same = {name for name in ("events_n", "horizon_days", "label") if name in table and len(set(table[name])) == 1}
    return [name for name in columns if name in table and not (name in same and len(table) > 1)]


def findings(
    table: pd.DataFrame,
    choice: Churn,
    owner: Callable[[str], str] = lambda event: "",
    over_time: pd.DataFrame | None = None,
) -> list[Finding]:
    """Return a finding for each covariate that goes clearly with leaving sooner or later.

    Those of the landmark come first; of the table of `varying.over_time`, only covariates that have none there.
    `owner` gives the team that owns an event; a finding goes to the owner of the covariate's first event.
    """
    found = []
    when = f" by day {choice.landmark_days:.0f}"
    for place, (_, line) in enumerate(_clear(table).iterrows()):
        found.append(_finding(line, choice, owner, when, ("ratio", "hazard_ratios"), headline=place == 0))
    had = {(line["covariate"], line["level"]) for _, line in _clear(table).iterrows()}
    for _, line in _clear(over_time).iterrows() if over_time is not None else ():
        if (line["covariate"], line["level"]) not in had:
            found.append(_finding(line, choice, owner, " so far", ("over_time", "over_time"), headline=False))
    return found


def _finding(
    line: pd.Series, choice: Churn, owner: Callable[[str], str], when: str, kind: tuple[str, str], *, headline: bool
) -> Finding:
    events = {covariate.name: covariate.events[0] for covariate in choice.covariates if covariate.events}
    harmful = float(line["hazard_ratio"]) > 1 and line["level"] != NO_ANSWER
    soon = f"in their first {choice.landmark_days:.0f} days" if kind[0] == "ratio" else "soon after it happens"
    action = f"Reach people with “{line['label']}” {soon}, and test in an experiment whether that keeps them."
    caveat = _ASSOCIATED
    if float(line["proportionality_p_value"]) < SURE:
        caveat += " The ratio may change with tenure; it is an average."
    name = line["covariate"] + (f".{line['level']}" if line["level"] else "")
    return Finding(
        id=f"churn.{kind[0]}.{name}",
        chapter=CHAPTER,
        statement=_sentence(line, choice, when),
        value=line["hazard_ratio"],
        low=line["hazard_ratio_low"],
        high=line["hazard_ratio_high"],
        n=line["n"],
        unit="ratio",
        better="down" if _leaves(choice) else "up",
        evidence="associated",
        caveat=caveat,
        action=action if harmful and _leaves(choice) else "",
        owner=owner(events.get(line["covariate"], "")),
        table=f"{CHAPTER}__{kind[1]}",
        headline=headline,
        label=f"Speed of {'leaving' if _leaves(choice) else _words(choice.end)}: {line['label']}",
    )


def _ratios(table: pd.DataFrame, choice: Churn, when: str) -> str:
    if table.empty:
        return ""
    clear = _clear(table)
    if clear.empty:
        n, events = present.count(table["n"].iloc[0]), present.count(table["events_n"].iloc[0])
        return f"No covariate goes clearly with leaving sooner or later (n = {n}, {events} of them left)."
    return " ".join(_sentence(line, choice, when) for _, line in clear.head(MOST).iterrows())


def _clear(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that differ from 1 by more than chance explains, by Holm's method over all of them."""
    if table.empty:
        return table
    sure = multipletests(table["p_value"].to_numpy(float), method="holm")[1] < SURE
    strength = -np.abs(np.log(table["hazard_ratio"].to_numpy(float)))
    ordered = np.argsort(strength, kind="stable")
    return table.iloc[ordered[sure[ordered]]]


def _sentence(line: pd.Series, choice: Churn, when: str) -> str:
    ratio, low, high = (float(line[f"hazard_ratio{side}"]) for side in ("", "_low", "_high"))
    what = "leave" if _leaves(choice) else f"reach “{_words(choice.end)}”"
    kinds = {covariate.name: covariate.kind for covariate in choice.covariates}
    kind = kinds.get(line["covariate"], "any")
    name = f"“{line['label']}”"
    than = ""
    if line["level"] == NO_ANSWER:
        who, than = f"People with {name}{when}", "as those with the mean answer"
    elif line["level"]:
        who, than = f"People with {name}{when}", f"as those with “{line['reference']}”"
    elif kind == "satisfaction":
        who = f"Each {present.share(TENTH, 0)} of the scale more of {name}{when}"
    else:
        who = f"People with {name}{when}" if kind == "any" else f"Each further “{line['label']}”{when}"
    verb = what if who.startswith("People") else f"goes with people who {what}"
    speed = f"{ratio:.1f} times as fast {than}".rstrip() + f" ({low:.1f}–{high:.1f})"
    if min(abs(ratio - 1), abs(low - 1)) < 0.1 and ratio >= 1:
        speed = f"{present.share(ratio - 1, 0)} faster {than.replace('as those', 'than those')}".rstrip()
        speed += f" (hazard ratio {_numbers(line)})"
    if ratio < 1:
        speed = f"{present.share(1 - ratio, 0)} more slowly {than.replace('as those', 'than those')}".rstrip()
        speed += f" (hazard ratio {ratio:.2f}, {low:.2f}–{high:.2f})"
    answered = "who answered" if kind == "satisfaction" and not line["level"] else "with it"
    n = f"n = {present.count(line['n'])}, {present.count(line['people_with_n'])} {answered}"
    return f"{who} {verb} {speed}, other covariates equal ({n})."


def _numbers(line: Any) -> str:
    return f"{line['hazard_ratio']:.2f} ({line['hazard_ratio_low']:.2f}–{line['hazard_ratio_high']:.2f})"


def _leaves(choice: Churn) -> bool:
    """Tell whether the end is leaving, and not something that people are hoped to reach."""
    return bool(choice.start) or choice.kind == "inactivity"


def _words(events: list[str]) -> str:
    return " or ".join(event.replace("_", " ") for event in events)
